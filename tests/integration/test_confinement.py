"""Each process is confined, and each confinement is tried from inside; the processes live and end together."""
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import MUSTERD

KINDS = ("vault", "control", "gateway", "courier")
TESTED = (*KINDS, "token")  # which is there where a module is configured: test_hsm.py


def self_test(server, kind):
    return subprocess.run([MUSTERD, "self-test-confinement", kind, "--data", server.dir], capture_output=True, text=True, timeout=60)


def gone(pid):
    """Whether the process has ended (a zombie has)."""
    try:
        return "\nState:\tZ" in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, or between that and the reading
        return True


def wait_for(condition, seconds=15):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("kind", TESTED)
def test_what_is_forbidden_is_denied_and_what_is_needed_works(fresh, kind):
    s = fresh(start=False)
    s.start()
    s.stop()
    done = self_test(s, kind)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("ALLOWED")]
    assert len([line for line in lines if line.startswith("denied")]) >= 15
    assert [line for line in lines if line.startswith("works")]
    assert ("works accept on a Unix socket" in lines) == (kind == "gateway")


@pytest.mark.parametrize("kind", TESTED)
def test_the_self_test_can_fail(fresh, kind):
    s = fresh(start=False, config=["sandbox = off"])
    s.start()
    s.stop()
    done = self_test(s, kind)
    assert done.returncode == 1
    assert "ALLOWED" in done.stdout


def test_processes_are_confined_and_undumpable(server):
    for kind in KINDS:
        status = pathlib.Path(f"/proc/{server.child(kind)}/status").read_text(encoding="utf-8")
        assert "\nSeccomp:\t2\n" in status and "\nNoNewPrivs:\t1\n" in status


def test_a_second_serve_is_refused(server):
    done = subprocess.run([MUSTERD, "serve", "--data", server.dir], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "Another musterd is running on" in done.stderr and "(data_locked)" in done.stderr


def test_a_second_init_changes_nothing(server):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in server.dir.rglob("*") if p.suffix in (".pem", ".conf", ".token", ".url")}
    done = subprocess.run([MUSTERD, "init", "--data", server.dir], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in before} == before


def test_a_taken_port_is_refused(server, fresh):
    s = fresh(start=False)
    done = subprocess.run([MUSTERD, "serve", "--data", s.dir, "--listen", f"127.0.0.1:{server.port}", "--admin", "127.0.0.1:0"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert str(server.port) in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_dies_comes_back_alone(fresh, kind):
    s = fresh()
    s.account("again", "test", "both")
    key, fleet = s.key("again"), s.root("again")
    device = fleet.device("stays")
    assert s.gateway(device).ecus().status == 201
    before = {k: s.child(k) for k in KINDS}
    os.kill(before[kind], signal.SIGKILL)
    wait_for(lambda: gone(before[kind]))

    def back():
        try:
            return s.child(kind) != before[kind]
        except LookupError:
            return False

    wait_for(back)
    assert {k: s.child(k) for k in KINDS if k != kind} == {k: v for k, v in before.items() if k != kind}
    wait_for(lambda: s.gateway(key).enrol(f"after-{kind}-{time.monotonic_ns()}").status == 200)
    assert s.gateway(device).get("/x").status == 404
    assert s.muster("device", "show", "stays", "--account", "again")["state"] == "active"


def test_without_the_vault_enrolled_devices_go_on(fresh):
    s = fresh()
    s.account("dark", "test", "both")
    key, device = s.key("dark"), s.root("dark").device("stays")
    assert s.gateway(device).ecus().status == 201
    os.kill(s.child("vault"), signal.SIGSTOP)
    try:
        assert s.gateway(device).get("/x").status == 404
        answer = s.gateway(key, timeout=60).enrol("has-to-wait")
        assert (answer.status, answer.code) == (503, "vault_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    finally:
        os.kill(s.child("vault"), signal.SIGCONT)
    wait_for(lambda: s.gateway(key).enrol("has-to-wait").status == 200)


def test_children_end_with_the_supervisor(fresh):
    s = fresh()
    children = [s.child(k) for k in KINDS]
    s.process.kill()
    s.process.wait(timeout=10)
    wait_for(lambda: all(gone(pid) for pid in children))
    s.process = None
    s.start()
    assert s.gateway().get("/x").code == "certificate_required"

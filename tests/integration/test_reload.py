"""SIGHUP takes settings up: nobody is cut off by it, and bad settings change nothing."""
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from client import Fleet
from conftest import Refused, soon
from test_server_certificate import SERVER, serial
from test_status import UNCONFINED
from upstream import Upstream, answer


def change(s, *lines, drop=()):
    """Edits musterd.conf above its first section and sends SIGHUP."""
    path = s.dir / "musterd.conf"
    old = [l for l in path.read_text(encoding="utf-8").splitlines() if not any(l.startswith(d) for d in drop)]
    path.write_text("\n".join([*(l for l in lines if not l.startswith("[")), *old, ""]) + "\n".join(["", *section(lines)]) + "\n", encoding="utf-8")
    s.process.send_signal(signal.SIGHUP)


def section(lines):
    return [part for l in lines if l.startswith("[") for part in l.split("\n")]


def device(s):
    s.account("reloaded", "test", "device")
    return s.gateway(s.root("reloaded").device("d1"))


def test_a_route_begins_while_everything_goes_on(fresh):
    s, back = fresh(), Upstream(lambda got, c: answer(body=b"from behind"))
    g, answers, stop = device(s), [], threading.Event()

    def work():
        while not stop.is_set():
            answers.append(g.get("/director/x").status)

    def operate():
        while not stop.is_set():
            try:
                answers.append("ok" if s.muster("account", "list") else "none")
            except Refused as e:
                answers.append(str(e))
    assert g.get("/director/x").status == 404
    threads = [threading.Thread(target=f, daemon=True) for f in (work, work, operate)]
    for t in threads:
        t.start()
    change(s, f"[route /director]\nupstream = {back.url}")
    soon(200, lambda: g.get("/director/x").status, 10)
    time.sleep(1)
    stop.set()
    for t in threads:
        t.join()
    assert set(answers) == {404, 200, "ok"}, set(answers)
    assert g.get("/director/x").body == b"from behind"
    change(s, f"[route /repo]\nupstream = {back.url}", drop=("[route", "upstream"))
    soon(200, lambda: g.get("/repo/x").status, 10)
    soon(404, lambda: g.get("/director/x").status, 10)
    back.close()


def test_a_transfer_under_way_is_finished_by_the_gateway_that_began_it(fresh):
    def slow(got, c):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")
        for _ in range(30):
            c.sendall(b"x")
            time.sleep(0.1)
    back = Upstream(slow)
    s = fresh(config=["[route /repo]", f"upstream = {back.url}"])
    g = device(s)
    got = []
    t = threading.Thread(target=lambda: got.append(g.get("/repo/x").body))
    t.start()
    time.sleep(0.5)
    change(s, "log_level = debug")
    t.join()
    assert got == [b"x" * 30]
    assert "gateway_replaced" in s.log_text()
    back.close()


def trickle(seconds):
    """A byte a tenth of a second; from where a range asks."""
    def answer_slowly(got, c):
        span = got.all("Range")
        n = seconds * 10 - (int(span[0].split("=")[1].rstrip("-")) if span else 0)
        c.sendall(f"HTTP/1.1 {206 if span else 200} OK\r\nContent-Length: {n}\r\n\r\n".encode())
        for _ in range(n):
            c.sendall(b"x")
            time.sleep(0.1 if not span else 0)
    return answer_slowly


def test_a_second_reload_waits_for_what_the_first_left_under_way(fresh):
    back = Upstream(trickle(5))
    s = fresh(config=["[route /repo]", f"upstream = {back.url}"])
    g, got = device(s), []
    t = threading.Thread(target=lambda: got.append(g.get("/repo/x").body))
    t.start()
    time.sleep(0.5)
    change(s, "log_level = debug")
    soon(1, lambda: s.log_text().count("gateway_replaced"), 4)
    change(s, f"[route /more]\nupstream = {back.url}")
    time.sleep(1.5)
    assert t.is_alive() and s.log_text().count("gateway_replaced") == 1 and g.get("/more/x").status == 404, "one gateway that finishes at a time"
    t.join()
    assert got == [b"x" * 50]
    soon(2, lambda: s.log_text().count("gateway_replaced"), 5)
    soon(1, lambda: len(gateways(s)), 10)
    assert g.get("/more/x").status == 200
    back.close()


def gateways(s):
    out = subprocess.run(["ps", "--ppid", str(s.process.pid), "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in out.splitlines() if line.strip().endswith("musterd: gateway")]


def test_a_transfer_that_takes_longer_is_cut_and_goes_on_at_the_new_gateway(fresh):
    """The bound of doc/operations.md: 20 seconds."""
    back = Upstream(trickle(60))
    s = fresh(config=["[route /repo]", f"upstream = {back.url}"])
    g, got = device(s), []

    def download():
        with g.connect() as c:
            c.sendall(b"GET /repo/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data = b""
            while part := c.recv(4096):
                data += part
            got.append(data.partition(b"\r\n\r\n")[2])
    t = threading.Thread(target=download)
    t.start()
    time.sleep(0.5)
    began = time.monotonic()
    change(s, "log_level = debug")
    t.join()
    took = time.monotonic() - began
    assert 19 < took < 29 and 150 < len(got[0]) < 600, (took, len(got[0]))
    rest = g.request("GET", "/repo/x", headers={"Range": f"bytes={len(got[0])}-"})
    assert rest.status == 206 and len(got[0]) + len(rest.body) == 600
    soon(1, lambda: len(gateways(s)), 10)
    back.close()


def test_a_successor_that_does_not_serve_is_given_up(fresh):
    s = fresh()
    g = device(s)
    (pid,) = gateways(s)
    change(s, "log_level = debug")
    end = time.monotonic() + 10
    while not (fresh_ones := [p for p in children(s) if p > pid and named(p, "gateway")]):
        assert time.monotonic() < end
    os.kill(fresh_ones[0], signal.SIGSTOP)
    assert "gateway_replaced" not in s.log_text()
    soon(True, lambda: "it did not serve in time" in s.log_text(), 45)
    assert gateways(s) == [pid] and g.get("/x").code == "not_found", "the one from before goes on"
    s.process.send_signal(signal.SIGHUP)
    change(s, "rsa_pool = 3", drop=("rsa_pool",))
    soon(True, lambda: "gateway_replaced" in s.log_text(), 20)


def children(s):
    return [int(p) for p in pathlib.Path(f"/proc/{s.process.pid}/task/{s.process.pid}/children").read_text().split()]


def named(pid, what):
    try:
        return what in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_bad_settings_change_nothing(fresh):
    s = fresh()
    g = device(s)
    pid = s.child("gateway")
    change(s, "no_such_setting = 1")
    soon(True, lambda: "settings_not_loaded" in s.log_text() and "no_such_setting" in s.log_text(), 5)
    assert g.get("/x").code == "not_found" and s.muster("account", "list")
    assert s.child("gateway") == pid
    change(s, "[route /x]\nupstream = nowhere", drop=("no_such",))
    soon(2, lambda: s.log_text().count("settings_not_loaded"), 5)
    assert s.child("gateway") == pid and g.get("/x").code == "not_found"


def test_what_the_supervisor_lives_by_waits_for_a_restart(fresh):
    s = fresh()
    g = device(s)
    change(s, "loops = 3", "rsa_pool = 2", drop=("loops", "rsa_pool"))
    soon(True, lambda: "gateway_replaced" in s.log_text(), 10)
    assert "setting_needs_restart name=loops" in s.log_text()
    assert g.get("/x").code == "not_found"
    before = s.log_text().count("gateway_replaced")
    s.process.send_signal(signal.SIGHUP)
    time.sleep(1.5)
    assert s.log_text().count("gateway_replaced") == before, "nothing has changed"


def test_the_level_of_the_supervisor_s_own_log(fresh):
    s = fresh(config=["log_level = error"])
    change(s, "log_level = info", drop=("log_level",))
    soon(True, lambda: "settings_loaded" in s.log_text() and "gateway_replaced" in s.log_text(), 10)
    change(s, "log_level = error", drop=("log_level",))
    soon(1, lambda: len(gateways(s)), 10)
    said = s.log_text().count("settings_loaded")
    change(s, "log_level = info", drop=("log_level",))
    soon(said + 1, lambda: s.log_text().count("settings_loaded"), 10)


@pytest.mark.skipif(UNCONFINED, reason="everything is in reach")
def test_a_certificate_that_is_renamed_into_a_place_out_of_reach(fresh, tmp_path):
    """A directory with directories in it is not opened to the gateway: a file that is renamed there needs a new one, one that is
    written over does not."""
    ca = Fleet("Operator's server CA")
    place = tmp_path / "etc"
    (place / "deeper").mkdir(parents=True)
    paths = [place / "server.pem", place / "server.key"]

    def renew(rename):
        identity = ca.device("localhost", extensions=SERVER)
        for path, made in zip(paths, (identity.cert_file, identity.key_file)):
            if rename:
                (place / "new").write_bytes(made.read_bytes())
                os.rename(place / "new", path)
            else:
                path.write_bytes(made.read_bytes())
        return identity.cert.serial_number

    def reloaded(rename, replaced):
        before, (pid,) = s.log_text(), gateways(s)
        number = renew(rename)
        s.process.send_signal(signal.SIGHUP)
        soon(number, lambda: serial(s.gateway()), 10)
        soon(1, lambda: len(gateways(s)), 10)
        said = s.log_text()[len(before):]
        assert ("gateway=\"is replaced\"" in said) == replaced == (gateways(s) != [pid]), said
        assert ("gateway=\"reads again\"" in said) != replaced

    first = renew(True)
    s = fresh(start=False, config=[f"server_certificate = {paths[0]}", f"server_key = {paths[1]}"])
    with open(s.dir / "server-ca.pem", "ab") as f:
        f.write(ca.root_pem())
    s.start()
    assert serial(s.gateway()) == first
    reloaded(rename=False, replaced=False)
    reloaded(rename=True, replaced=True)
    reloaded(rename=False, replaced=False)
    reloaded(rename=True, replaced=True)
    assert "server_certificate_kept" not in s.log_text()


def test_another_host_name(fresh):
    s = fresh()
    change(s, "host = localhost gw.example.com", drop=("host",))
    soon(True, lambda: "gateway_replaced" in s.log_text(), 10)
    g = s.gateway(sni="gw.example.com")
    soon(True, lambda: reaches(g), 10)
    s.process.send_signal(signal.SIGHUP)
    change(s, "host = first.example.com localhost", drop=("host",))
    soon(f"https://first.example.com:{s.port}", lambda: (s.dir / "gateway.url").read_text(encoding="utf-8").strip(), 10)


def reaches(g):
    try:
        return g.get("/x").code == "certificate_required"
    except OSError:
        return False

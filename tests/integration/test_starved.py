"""What the server does where something that it needs runs out or breaks: the disk, descriptors, memory, its vault, one process after the other.
Clear errors, nothing half done, and it goes on by itself."""
import errno
import os
import pathlib
import resource
import signal
import ssl
import struct
import subprocess
import threading
import time

import pytest

from client import Device
from conftest import BUILD, MUSTERD, Refused, soon, stays
from enrolment import GAP, Account, ask, enrol, enrolled, spent, used


class Disk:
    """What tests/faults/fail_disk.c reads."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.write_bytes(bytes(32))
        os.chmod(self.path, 0o666)

    @property
    def env(self):
        return {"LD_PRELOAD": str(BUILD / "tests" / "fail_disk.so"), "MUSTER_TEST_DISK": str(self.path)}

    def _set(self, *numbers):
        with open(self.path, "r+b") as f:
            f.write(struct.pack("<3q", *numbers))

    def fail(self, error, good=0, syncs_alone=False):
        """From the next write or sync on, or after so many good ones."""
        self._set(error, good, int(syncs_alone))

    def mend(self):
        self._set(0, 0, 0)

    @property
    def seen(self):
        return struct.unpack("<4q", self.path.read_bytes())[3]


@pytest.fixture
def failing(fresh, tmp_path):
    """A server whose disk fails when it is told to, with an account, a key, and a device that is in."""
    disk = Disk(tmp_path / "disk")
    s = fresh(start=False, config=["limit_device = 0"])
    s.start(env=disk.env)
    account = Account(s)
    key = account.key()
    yield s, disk, account, key, used(s, key, "there")
    disk.mend()


def promises_hold(s, account, got, key):
    """Every certificate that left is in the registry; nobody else is; the budget is exact; the log is whole."""
    devices = {d["device_id"] for d in account.devices()}
    assert devices == {"there"} | {name for name, a in got.items() if isinstance(a, Device)}
    assert spent(s, key) == len(devices)
    for name, device in got.items():
        if isinstance(device, Device):
            shown = account.device("show", name)
            assert f"{device.cert.serial_number:040x}".lstrip("0") in {c["serial"].lower().lstrip("0") for c in shown["certificates"]}, name
    assert s.muster("audit", "verify", "--account", account.name)["ok"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=["full", "broken", "read-only"])
def test_an_enrolment_while_the_disk_fails_at_any_write(failing, error):
    """At its first write, its second, … until it needs no more: refused with 503 and nothing of it there, or answered and durable."""
    s, disk, account, key, device = failing
    processes = [s.child(n) for n in ("vault", "control", "gateway")]
    got, good = {}, 0
    while True:
        name = f"at-{good}"
        disk.fail(error, good)
        got[name] = enrol(s, key, name)
        if good == 0:
            assert got[name] == (503, "storage_failed")
            assert ask(s, device) is None, "who is known goes on"
            with pytest.raises(Refused) as said:
                account.set("--issue-ceiling", "999")
            assert said.value.code == "storage_failed", said.value.text
        disk.mend()
        if isinstance(got[name], Device):
            break
        assert got[name] in ((503, "storage_failed"), (503, "unavailable"), (503, "vault_unavailable")), got[name]
        enrolled(s, key, name + "-after")  # by itself, and at once
        good += 1
        assert good < 100
    assert good >= 2, "an enrolment writes and syncs"
    assert [s.child(n) for n in ("vault", "control", "gateway")] == processes
    s.stop()
    s.start()
    failed = [n for n, a in got.items() if not isinstance(a, Device)]
    there = {d["device_id"] for d in account.devices()}
    assert not there & set(failed) and {n for n in got if n not in failed} <= there
    assert spent(s, key) == len(there)
    assert s.muster("audit", "verify", "--account", account.name)["ok"]
    for name in failed:
        enrolled(s, key, name)


def test_a_sync_that_fails_is_no_promise(failing):
    """Written, but not known to be on the disk: no certificate leaves."""
    s, disk, account, key, device = failing
    got = {}
    for i in range(4):
        disk.fail(errno.EIO, 0, syncs_alone=True)
        got[f"s{i}"] = enrol(s, key, f"s{i}")
        assert got[f"s{i}"] == (503, "storage_failed")
        assert ask(s, device) is None
        disk.mend()
        got[f"t{i}"] = enrolled(s, key, f"t{i}")
    promises_hold(s, account, got, key)
    s.stop()
    s.start()
    promises_hold(s, account, got, key)


def test_a_store_tries_again_by_itself(failing):
    """Who was taken out of a balancer because of /readyz comes back, though nobody asks for anything any more."""
    s, disk, account, key, _ = failing
    ready = lambda: s.api("GET", "/readyz", token=False).status
    for i in range(2):  # the vault has the fourth certificate of the hour on its disk already (vault/count.h), so that the registry's is the first write that fails
        assert isinstance(enrol(s, key, f"before-{i}"), Device)
    disk.fail(errno.ENOSPC)
    assert enrol(s, key, "fails") == (503, "storage_failed")
    stays(503, ready, 2.5)  # longer than the record of that refusal waits to be written: from here on nobody writes but the store itself
    assert "store_writes_again" not in s.log_text()
    disk.mend()
    soon(200, ready, 3)
    assert "store_writes_again" in s.log_text()


def test_operators_while_the_disk_is_full(failing):
    """Each change is done, or refused and not done; what is made in the vault first is not lost for the next try."""
    s, disk, account, key, _ = failing
    changes = {
        "key": lambda i: account.key("--name", f"k{i}"),
        "account": lambda i: s.account(f"while-full-{i}"),
        "token": lambda i: s.muster("token", "create", f"t{i}", "--role", "auditor"),
        "quarantine": lambda i: account.device("quarantine", "there"),
    }
    for what, change in changes.items():
        good = 0
        while True:
            disk.fail(errno.ENOSPC, good)
            try:
                change(good)
                done = True
            except Refused as said:
                done = False
                assert said.code in ("storage_failed", "unavailable", "vault_unavailable"), (what, good, said.text)
            finally:
                disk.mend()
            if done:
                break
            good += 1
            assert good < 200, what
        assert good >= 1, what
    assert s.muster("audit", "verify")["ok"] and s.muster("audit", "verify", "--account", account.name)["ok"]
    s.stop()
    s.start()
    assert enrol(s, key, "afterwards").cert


def mounted(path, *options):
    path.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(path)], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")


def test_a_disk_that_is_really_full(tmp_path):
    """A tmpfs of a few MiB, and a file that takes the rest of it."""
    from conftest import Server
    disk = tmp_path / "small"
    mounted(disk, "-o", "size=24m,mode=0755")
    s = Server(disk / "data")
    try:
        s.start()
        account = Account(s)
        key = account.key()
        device = used(s, key, "before")
        assert "disk_low" in [n["what"] for n in s.muster("status")["attention"]]
        ballast = disk / "ballast"
        with open(ballast, "wb", buffering=0) as f, pytest.raises(OSError) as full:
            while True:
                f.write(b"x" * 65536)
        assert full.value.errno == errno.ENOSPC
        answers = [s.gateway(key).enrol(f"full-{i}") for i in range(40)]
        refused = [a for a in answers if a.status != 200]
        assert refused and all((a.status, a.code) == (503, "storage_failed") for a in refused)
        assert int(refused[0].headers["Retry-After"]) >= 1
        assert ask(s, device) is None
        ready = s.api("GET", "/readyz", token=False)
        assert (ready.status, ready.json["registry"]) == (503, "storage_failed"), "though it was the gateway that could not write"
        assert "store_failing" in [n["what"] for n in s.muster("status")["attention"]]
        shown = s.api("GET", "/metrics").body
        assert b'muster_store_up{database="registry"} 0' in shown and b"muster_devices{" not in shown, "better no number than a wrong one"
        ballast.unlink()
        soon(200, lambda: s.api("GET", "/readyz", token=False).status, 3)
        enrolled(s, key, "after")
        assert len(account.devices()) == 2 + len(answers) - len(refused)
        assert s.stop() == 0
    finally:
        s.stop()
        s.log.close()
        subprocess.run(["umount", str(disk)], check=True)


def test_a_data_directory_that_is_read_only(fresh, tmp_path):
    s = fresh()
    s.stop()
    at = tmp_path / "bound"
    at.mkdir()
    if subprocess.run(["mount", "--bind", str(s.dir), str(at)], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(at)], check=True)
        done = subprocess.run([MUSTERD, "serve", "--data", at], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and str(at) in done.stderr and "ead-only" in done.stderr, done.stderr
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_descriptors_that_run_out(fresh):
    """Whoever comes then is turned away at once; when they are back, everything is."""
    s = fresh(config=["loops = 1"])
    account = Account(s)
    device = used(s, account.key(), "there")
    gateway = s.child("gateway")
    highest = max(int(fd) for fd in os.listdir(f"/proc/{gateway}/fd"))
    before = resource.prlimit(gateway, resource.RLIMIT_NOFILE)
    held = [s.gateway(device).connect()]
    resource.prlimit(gateway, resource.RLIMIT_NOFILE, (highest + 10, before[1]))
    try:
        for _ in range(100):
            held.append(s.gateway(device, timeout=3).connect())
        pytest.fail("a hundred connections with ten descriptors")
    except (ConnectionResetError, ssl.SSLError):
        pass  # at once, not after a time
    try:
        assert s.gateway(device).on(held[0], "GET", "/director/2.root.json").status == 404, "who was in goes on"
    finally:
        for c in held:
            c.close()
    soon(True, lambda: reachable(s, device), 5)
    assert "descriptors_exhausted" in s.log_text()
    resource.prlimit(gateway, resource.RLIMIT_NOFILE, before)
    assert s.child("gateway") == gateway


def reachable(s, device):
    try:
        return ask(s, device) is None
    except (OSError, ssl.SSLError):
        return False


def test_memory_that_runs_out(fresh):
    """A gateway that gets no more memory refuses, or is started again: nobody gets in who should not, and nothing is lost."""
    s = fresh()
    account = Account(s)
    key = account.key()
    device = used(s, key, "there")
    gateway = s.child("gateway")
    size = int(pathlib.Path(f"/proc/{gateway}/statm").read_text().split()[0]) * resource.getpagesize()
    unlimited = resource.prlimit(gateway, resource.RLIMIT_AS)
    resource.prlimit(gateway, resource.RLIMIT_AS, (size + 256 * 1024, unlimited[1]))
    got, held = {}, []

    def flood():
        for i in range(400):
            try:
                held.append(s.gateway(device).connect())
                held[-1].sendall(b"PUT /system_info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + b"x" * 50000)
            except (OSError, ssl.SSLError):
                pass

    flooding = threading.Thread(target=flood)
    flooding.start()
    for i in range(60):
        try:
            got[f"m{i}"] = enrol(s, key, f"m{i}")
        except (OSError, ssl.SSLError):
            got[f"m{i}"] = None
    flooding.join(60)
    for c in held:
        c.close()
    for name in ("vault", "control"):
        assert s.child(name)
    if s.child("gateway") == gateway:
        resource.prlimit(gateway, resource.RLIMIT_AS, unlimited)
    soon(True, lambda: reachable(s, device), 15)
    assert all(a is None or isinstance(a, Device) or (a[0] == 503) for a in got.values()), got
    time.sleep(GAP)
    there = {d["device_id"] for d in account.devices()}
    assert {n for n, a in got.items() if isinstance(a, Device)} <= there
    assert spent(s, key) == len(there)
    enrolled(s, key, "afterwards")


def test_a_vault_that_dies_with_a_request_in_its_hands(fresh):
    s = fresh()
    account = Account(s)
    key = account.key("--max-devices", "2")
    device = used(s, key, "there")
    vault = s.child("vault")
    os.kill(vault, signal.SIGSTOP)
    got = []
    asking = threading.Thread(target=lambda: got.append(s.gateway(key).enrol("cut")))
    asking.start()
    time.sleep(0.3)
    os.kill(vault, signal.SIGKILL)
    asking.join(15)
    assert (got[0].status, got[0].code) == (503, "vault_unavailable")
    assert [d["device_id"] for d in account.devices()] == ["there"] and spent(s, key) == 1
    assert ask(s, device) is None
    soon(True, lambda: isinstance(enrol(s, key, "cut"), Device), 10)


def test_one_process_after_the_other_dies(fresh):
    s = fresh()
    account = Account(s)
    key = account.key()
    device = used(s, key, "there")
    for turn in range(3):
        for name in ("vault", "control", "courier", "gateway"):
            before = s.child(name)
            os.kill(before, signal.SIGKILL)

            def again():
                try:
                    return s.child(name) not in (None, before)
                except LookupError:
                    return False
            soon(True, again, 25)
        soon(True, lambda: reachable(s, device), 10)
        soon(True, lambda: s.api("GET", "/readyz", token=False).status == 200, 10)
        enrolled(s, key, f"turn-{turn}")
    assert s.muster("audit", "verify", "--account", account.name)["ok"]
    assert s.stop() == 0

"""A power cut under the real server: what every process of musterd asked of its disk is recorded, `musterd init` included, and behind chosen
instants the whole data directory is left as a cut may leave it, with the unsynced lost, kept, reordered and torn.  A real `musterd serve` starts on
it and keeps every promise made before.  tests/powercut judges every single operation of the stores; this judges the server and all of DIR.

MUSTER_LONG=yes takes many more instants, and each one of init's."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time

import pytest

from client import Device
from conftest import BUILD, LONG, MUSTERD, Refused, Server
from disk_play import CREATE, CUTS, KEPT, LOST, MIXED, MKDIR, SYNC, TORN, Disk, Recorder, inside
from enrolment import ask

STARTS = 200 if LONG else 12
CEILING = 3


@pytest.fixture(scope="module", name="tmp")
def memory():
    """A folder in memory, where there is one: every sync of every process is a real one."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="muster-cut-", dir=base) as d:
        yield pathlib.Path(d)


def environment(recorder):
    return {"LD_PRELOAD": str(BUILD / "tests" / "record_disk.so"), "MUSTER_TEST_RECORD": str(recorder.path)}


class Revived(Server):
    """A server on a data directory that is there."""

    def __init__(self, directory):  # pylint: disable=super-init-not-called
        self.dir, self.process, self.hosts = directory, None, set()
        self.log = open(directory.parent / (directory.name + ".log"), "w", encoding="utf-8")


class Promises:
    """What was answered, each with the place in the log behind which it holds."""

    def __init__(self, recorder):
        self.recorder, self.made = recorder, []

    def add(self, kind, *what):
        self.made.append((self.recorder.size(), kind, what))

    def before(self, place, kind):
        return [what for at, k, what in self.made if k == kind and at <= place]


class Work:
    """A data directory made by a recorded init, and a recorded server's work in it."""

    def __init__(self, tmp):
        self.recorder = Recorder(tmp / "recorded")
        self.promises = Promises(self.recorder)
        before = {name: os.environ.get(name) for name in environment(self.recorder)}
        os.environ.update(environment(self.recorder))
        try:
            self.server = Server(tmp / "data")
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        self.init_end = self.recorder.size()
        # What the harness wrote by hand is not recorded: the same goes into each directory that a cut left.
        self.config = (self.server.dir / "musterd.conf").read_bytes()
        self.root = os.stat(self.server.dir).st_ino
        self.names = 0

    def start(self):
        self.server.start(env=environment(self.recorder))

    def enrol(self, account, key, use):
        self.names += 1
        name = f"cut-{self.names}"
        answer = self.server.gateway(key).enrol(name)
        assert answer.status == 200, answer
        device = Device(answer.body)
        self.promises.add("enrolled", account, name, f"{device.cert.serial_number:x}", key.shown["id"])
        if use:
            assert self.server.gateway(device).ecus(f"primary-{name}").status == 201
            self.promises.add("used", account, name, device)
        return device

    def account(self, name, *options):
        self.promises.add("begun", name)
        self.server.account(name, "test", "shared", *options)
        self.promises.add("account", name)
        return self.key(name)

    def key(self, account, *options):
        key = self.server.key(account, *options)
        self.promises.add("key", account, key.shown["id"])
        return key

    def head(self, account):
        shown = self.server.muster("audit", "head", *(["--account", account] if account else []))
        self.promises.add("head", account, shown)

    def state(self, account, verb, name, state):
        self.server.muster("device", verb, name, "--account", account)
        self.promises.add("state", account, name, state)

    def do(self):
        self.start()
        any_key = None
        for n in range(2):
            any_key = any_key or self.account("kept")
            few = self.key("kept", "--max-devices", "4")
            for i in range(3):
                self.enrol("kept", any_key, use=i != 1)
            self.enrol("kept", few, use=False)
            self.head("kept")
            self.server.token(f"operator-{n}", "auditor")
            self.promises.add("token", f"operator-{n}")
            gone = self.account(f"gone-{n}")
            self.enrol(f"gone-{n}", gone, use=True)
            self.promises.add("going", f"gone-{n}")
            self.server.muster("account", "delete", f"gone-{n}", "--yes")
            self.promises.add("gone", f"gone-{n}")
            low = self.account(f"low-{n}", "--issue-ceiling", str(CEILING))
            for _ in range(2):
                self.enrol(f"low-{n}", low, use=False)
                self.promises.add("taken", f"low-{n}", low, int(time.time()) // 3600)
            self.state("kept", "quarantine" if n else "revoke", f"cut-{3 if n else 1}", "quarantined" if n else "revoked")
            self.head("kept")
            self.head(None)
            if n == 0:  # SIGTERM leaves a checkpoint
                assert self.server.stop() == 0
                self.start()
        assert self.server.stop() == 0
        self.operations = inside(self.recorder.operations(), self.root)
        return self


def broken(work, place, directory, patience=100):
    """None where a real server starts in the directory and keeps what was promised before `place`; or the reason why not."""
    s = Revived(directory)
    (directory / "musterd.conf").write_bytes(work.config)
    impatient = threading.Timer(patience, lambda: s.process.terminate())  # it tries for longer than a test has to wait for the expected
    impatient.start()
    try:
        s.start()
        return look(s, work.promises, place)
    except (AssertionError, OSError, Refused) as e:
        return f"{e!r}; its log: {s.log_text()[-1500:]}"
    finally:
        impatient.cancel()
        s.stop()
        s.log.close()


def look(s, promises, place):
    ready = s.request("GET", "/readyz")
    assert ready.status == 200, ready
    gone, going = ({name for (name,) in promises.before(place, kind)} for kind in ("gone", "going"))
    there = {a["id"]: a for a in s.muster("account", "list")}
    assert not gone & set(there), f"{gone & set(there)} were deleted"
    kept = [name for (name,) in promises.before(place, "account") if name not in going]
    assert set(kept) <= set(there) <= {name for (name,) in promises.before(place, "begun")}, f"accounts {sorted(there)}, promised {kept}"
    for name in kept:
        look_account(s, promises, place, name)
    tokens = {t["name"] for t in s.muster("token", "list")}
    handed_out = {name for (name,) in promises.before(place, "token")}
    assert handed_out <= tokens, f"the tokens {handed_out - tokens} were handed out and are not there"
    heads = {}
    for account, head in promises.before(place, "head"):
        heads[account] = head
    for account in [None, *kept]:
        body = {"head": heads[account]} if account in heads else {}
        answer = s.api("POST", f"/api/v1/accounts/{account}/audit/verify" if account else "/api/v1/audit/verify", body)
        assert answer.status == 200 and answer.json["ok"] is True, (account, answer)
    errors = [line for line in s.log_text().splitlines() if line.split()[1:2] == ["error"]]
    assert not errors, errors
    return None


def look_account(s, promises, place, name):
    devices = {d["device_id"]: d for d in s.muster("device", "list", "--account", name)}
    enrolled = [p for p in promises.before(place, "enrolled") if p[0] == name]
    for _, device_id, serial, _ in enrolled:
        assert device_id in devices, f"{device_id} was answered and is not there"
        shown = s.muster("device", "show", device_id, "--account", name)
        assert serial in [c["serial"].lstrip("0") for c in shown["certificates"]], f"the certificate answered to {device_id} is not there"
    states = {device_id: state for account, device_id, state in promises.before(place, "state") if account == name}
    for device_id, state in states.items():
        assert devices[device_id]["state"] == state, f"{device_id} is {devices[device_id]['state']}, not {state}"
    late = {p[1] for _, kind, p in promises.made if kind == "state"}  # may be on the way to another state
    for account, device_id, device in promises.before(place, "used"):
        if account == name and device_id not in late:
            assert ask(s, device) is None, f"{device_id} was let in before"
    keys = {k["id"]: k for k in s.muster("key", "list", "--account", name)}
    for account, key in promises.before(place, "key"):
        if account == name:
            assert key in keys, f"the key {key} is not there"
            shown = s.muster("key", "show", key)
            assert shown["spent"] == shown["devices"] >= sum(1 for p in enrolled if p[3] == key), f"budget: {shown}"
    taken = [p for p in promises.before(place, "taken") if p[0] == name]
    hour = int(time.time()) // 3600
    if taken and taken[0][2] == hour:  # in another one the count begins anew
        answers = [s.gateway(taken[0][1]).enrol(f"more-{i}").status for i in range(CEILING + 1)]
        if int(time.time()) // 3600 == hour:
            assert answers.count(200) <= CEILING - len(taken) and set(answers) <= {200, 429}, f"{len(taken)} of {CEILING} were taken, then {answers}"


@pytest.fixture(scope="module")
def work(tmp):
    w = Work(tmp)
    try:
        yield w.do()
    finally:
        w.server.stop()


def index_of(operations, place):
    """How many operations were recorded up to `place`."""
    return sum(1 for op in operations if op.end <= place)


def instants(work):
    """Right behind promises, where most is to be lost, and evenly between."""
    first, n = index_of(work.operations, work.init_end), len(work.operations)
    notes = sorted({index_of(work.operations, at) for at, kind, _ in work.promises.made if kind not in ("begun", "going")})
    half = STARTS // 2
    chosen = [(notes[i * (len(notes) - 1) // (half - 1)], LOST) for i in range(half)]
    rest = STARTS - half
    chosen += [(first + (n - first) * (2 * i + 1) // (2 * rest), CUTS[1 + i % 5]) for i in range(rest)]
    return sorted(chosen)


def test_all_of_the_directory_is_recorded(work, tmp):
    """Played to its end, the log gives what is there."""
    Disk(work.operations).play(len(work.operations)).cut(KEPT, 0, tmp / "again")
    real = {p.relative_to(work.server.dir): p for p in work.server.dir.rglob("*")}
    again = {p.relative_to(tmp / "again"): p for p in (tmp / "again").rglob("*")}
    assert set(real) == set(again)
    for name, path in real.items():
        assert path.stat().st_mode == again[name].stat().st_mode, name
        if path.is_file() and name.name != "musterd.conf" and not name.name.endswith("-shm"):  # shared memory is not written
            assert path.read_bytes() == again[name].read_bytes(), name
    written = {op.name for op in work.operations if op.kind == CREATE}
    assert any(name.startswith("count-low-0.tmp-") for name in written), f"the ceiling's count is durable: {sorted(written)}"


def test_a_real_server_starts_and_keeps_every_promise(work, tmp):
    disk, directory = Disk(work.operations), tmp / "cut"
    for at, kind in instants(work):
        disk.play(at)
        disk.cut(kind, at, directory)
        bad = broken(work, work.operations[at - 1].end, directory)
        assert not bad, f"behind operation {at} of {len(work.operations)}, {kind}: {bad}"


@pytest.mark.parametrize("what, reason", [("registry.db-wal", "accounts [], promised"), ("control.db-wal", "were handed out and are not there"),
                                          ("vault", "vault_older_than_log")])
def test_syncs_that_are_missing_are_found(work, tmp, what, reason):
    """The same, held against a server that would not sync these: the judge finds what is lost."""
    nodes = {op.node for op in work.operations if op.kind in (CREATE, MKDIR) and op.name == what}
    place = next(at for at, kind, account in work.promises.made if kind == "account" and account == ("low-0",))  # before a stop: its checkpoint would sync
    at = index_of(work.operations, place)
    disk = Disk(work.operations).play(index_of(work.operations, work.init_end)).play(at, skip=lambda op: op.node in nodes)
    disk.cut(LOST, 0, tmp / "cut")
    assert reason in (broken(work, place, tmp / "cut", patience=8) or "")


def test_any_prefix_of_init_can_be_completed(work, tmp):
    operations = [op for op in work.operations if op.end <= work.init_end]
    syncs = [i + 1 for i, op in enumerate(operations) if op.kind == SYNC]
    chosen = range(len(operations) + 1) if LONG else sorted({*syncs[::5], *range(0, len(operations), 20), len(operations)})
    disk, done, already = Disk(operations), 0, 0
    for n, at in enumerate(chosen):
        disk.play(at)
        for kind in CUTS if LONG else (LOST, TORN) if n % 2 else (KEPT, MIXED):
            directory = tmp / f"init-{n % 8}"
            disk.cut(kind, at, directory)
            said = subprocess.run([MUSTERD, "init", "--data", directory, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], capture_output=True, text=True, timeout=60, check=False)
            if said.returncode:  # nothing but a finished one is left alone
                assert "is a data directory already" in said.stderr, f"behind {at} of {len(operations)}, {kind}: {said.stderr}"
                already += 1
            done += said.returncode == 0
            assert at < len(operations) or kind == KEPT or said.returncode, "a finished one is made anew"
            left = {p.name for p in directory.iterdir()}
            assert {"musterd.conf", "admin.token", "server-ca.pem", "gateway.url", "admin.url", "registry.db", "control.db", "vault", "tls"} <= left, left
            assert ".init" not in left and (directory / "admin.token").stat().st_mode & 0o777 == 0o600
            if n % (len(chosen) // 6) == 0 or at == len(operations):
                bad = started(directory)
                assert not bad, f"behind {at} of {len(operations)}, {kind}: {bad}"
    assert done and already


def started(directory):
    s = Revived(directory)
    try:
        s.start()
        s.account("a", "test", "shared")
        s.key("a")
        return None if s.request("GET", "/readyz").status == 200 else "not ready"
    except (AssertionError, OSError, Refused) as e:
        return f"{e!r}; its log: {s.log_text()[-1500:]}"
    finally:
        s.stop()
        s.log.close()

"""The fleet CA's directory under power cuts: what the real `muster ca` asked of its disk, cut at any moment and in every way.

Recorded and played as test_powercut does it for a server.  What is promised: a certificate that came out is in the record; no serial stands for
two; and there is a CA, or none yet, that goes on."""
import base64
import hashlib
import json
import os
import pathlib
import subprocess
import tempfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conftest import BUILD, LONG, MUSTER
from disk_play import CUTS, LOST, SYNC, TORN, WRITE, Disk, Recorder, inside

PASSPHRASE = "correct horse battery"
DEVICES = [f"car-{i}-{'x' * (17 * i)}" for i in range(3)]  # lines of the journal lie across the sectors in many ways


@pytest.fixture(scope="module", name="tmp")
def memory():
    """A folder in memory, where there is one."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="muster-ca-cut-", dir=base) as d:
        yield pathlib.Path(d)


def ca(top, *args, env=None, ok=True):
    secret = ["--passphrase-file", "-"] if args[0] in ("init", "issue") else []
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
    done = subprocess.run([MUSTER, "ca", args[0], "--ca", top / "ca", *secret, *args[1:], "--json"], input=PASSPHRASE, capture_output=True, text=True, env={**clean, **(env or {})},
                          timeout=60, check=False)
    assert not ok or done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def work(tmp):
    class Work:
        top, recorder = tmp / "work", Recorder(tmp / "recorded")
    w = Work()
    w.top.mkdir()
    record = {"LD_PRELOAD": str(BUILD / "tests" / "record_disk.so"), "MUSTER_TEST_RECORD": str(w.recorder.path)}
    ca(w.top, "init", "--intermediate", env=record)
    w.init_end, w.out = w.recorder.size(), {}
    for device in DEVICES:
        made = ca(w.top, "issue", device, "-o", w.top / f"out-{device}", env=record)
        w.out[device] = (w.recorder.size(), made["serial"])
    w.operations = inside(w.recorder.operations(), os.stat(w.top).st_ino)
    w.reserved = {json.loads(line)["serial"] for line in (w.top / "ca" / "journal.jsonl").read_text(encoding="utf-8").splitlines()}
    return w


def broken(work, place, top):
    """What of the promises made before `place` does not hold in `top`; then it goes on there."""
    listed = ca(top, "list", ok=False)
    if isinstance(listed, str):
        if place >= work.init_end or "ca_missing" not in listed:
            return listed
        ca(top, "init")
        return None
    issued = {c["serial"]: c["device_id"] for c in listed if c["state"] == "issued"}
    came_out = {d: serial for d, (at, serial) in work.out.items() if at <= place}
    for path in top.glob("out-*/client.pem"):  # it may have come out, although nobody was told yet
        came_out[path.parent.name[4:]] = f"{x509.load_pem_x509_certificate(path.read_bytes()).serial_number:032x}"
        if place >= work.out[path.parent.name[4:]][0]:
            serialization.load_pem_private_key((path.parent / "pkey.pem").read_bytes(), None)
    for device, serial in came_out.items():
        if issued.get(serial) != device:
            return f"{device} came out and is not in the record"
    if came_out and "device_id_issued" not in ca(top, "issue", [*came_out][place % len(came_out)], "-o", top / "again", ok=False):
        return "one that came out is issued again unawares"
    made = ca(top, "issue", "after", "-o", top / "after", ok=False)
    if isinstance(made, str):
        return made
    if made["serial"] in work.reserved:
        return "a serial is used twice"
    if [c for c in ca(top, "list") if c["state"] == "reserved"]:
        return "a reservation stays open"
    return None


def test_all_of_it_is_recorded(work, tmp):
    Disk(work.operations).play(len(work.operations)).cut("kept", 0, tmp / "again")
    real, again = ({p.relative_to(top): p for p in top.rglob("*") if p.is_file()} for top in (work.top, tmp / "again"))
    assert set(real) == set(again)
    for name, path in real.items():
        assert path.read_bytes() == again[name].read_bytes(), name


def cuts(work):
    """(behind which operation, how, seed): each line of the journal while it is written, torn in several ways; and of the rest some, or in the long run all."""
    lines = [i + 1 for i, op in enumerate(work.operations) if op.kind == WRITE and b'"event"' in op.data]
    yield from ((at, TORN, seed) for at in lines for seed in range(12 if LONG else 2))
    for at in range(1, len(work.operations) + 1, 1 if LONG else 6):
        yield from ((at, kind, at) for kind in (CUTS if LONG else [CUTS[at // 6 % len(CUTS)]]))


def test_a_power_cut_at_any_moment(work, tmp):
    for at, kind, seed in sorted(cuts(work)):
        Disk(work.operations).play(at).cut(kind, seed, tmp / "cut")
        bad = broken(work, work.operations[at - 1].end, tmp / "cut")
        assert not bad, f"behind operation {at} of {len(work.operations)}, {kind} {seed}: {bad}"


# --- a batch --------------------------------------------------------------------------------------------------------------------------

BATCH = [f"unit-{i}-{'y' * (4 * i)}" for i in range(12)]


@pytest.fixture(scope="module")
def batch(tmp):
    class Work:
        top, recorder = tmp / "batch", Recorder(tmp / "recorded-batch")
    w = Work()
    w.top.mkdir()
    record = {"LD_PRELOAD": str(BUILD / "tests" / "record_disk.so"), "MUSTER_TEST_RECORD": str(w.recorder.path)}
    ca(w.top, "init", "--intermediate", env=record)
    w.init_end = w.recorder.size()
    (tmp / "batch-list").write_text("\n".join(BATCH), encoding="utf-8")
    w.made = ca(w.top, "issue", "--from", tmp / "batch-list", "-o", w.top / "out", env=record)
    w.operations = inside(w.recorder.operations(), os.stat(w.top).st_ino)
    w.reserved = {c["serial"] for line in (w.top / "ca" / "journal.jsonl").read_text(encoding="utf-8").splitlines() if (e := json.loads(line)) for c in e.get("batch", [e]) if "serial" in c}
    return w


def broken_batch(batch, done, top, tmp):
    """The same command again, in what the cut left: each device has one key and one certificate, and what had been delivered is what it has."""
    before = {p.parent.name: p.read_bytes() for p in top.glob("out/*/client.pem")}
    made = ca(top, "issue", "--from", tmp / "batch-list", "-o", top / "out", ok=False)
    if isinstance(made, str):
        return made
    if [c["device_id"] for c in made] != BATCH:
        return "not every device has a certificate"
    if done and [{**c, "output": None} for c in made] != [{**c, "output": None} for c in batch.made]:
        return "what was told is not there any more"
    listed = ca(top, "list")
    if any(c["state"] == "reserved" for c in listed) or len({c["serial"] for c in listed}) != len(listed):
        return "a reservation stays open, or a serial stands twice"
    issued = {c["device_id"]: c["serial"] for c in listed if c["state"] == "issued"}
    if len([c for c in listed if c["state"] == "issued"]) != len(BATCH):
        return "a device has two certificates, or none"
    for c in made:
        folder = top / "out" / pathlib.Path(c["output"]).name
        certificate = x509.load_pem_x509_certificate((folder / "client.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "pkey.pem").read_bytes(), None)
        if f"{certificate.serial_number:032x}" != issued[c["device_id"]] or certificate.public_key().public_numbers() != key.public_key().public_numbers():
            return f"{c['device_id']} has not what the record says"
        if before.get(folder.name, (folder / "client.pem").read_bytes()) != (folder / "client.pem").read_bytes():
            return f"{c['device_id']} had another certificate"
    return None


def test_a_batch_goes_on_after_a_power_cut(batch, tmp):
    first = next(i for i, op in enumerate(batch.operations) if op.end >= batch.init_end) + 1
    for at in range(first, len(batch.operations) + 1, 1 if LONG else 9):
        for kind in CUTS if LONG else [CUTS[at // 9 % len(CUTS)], TORN]:
            Disk(batch.operations).play(at).cut(kind, at, tmp / "cut")
            bad = broken_batch(batch, False, tmp / "cut", tmp)
            assert not bad, f"behind operation {at} of {len(batch.operations)}, {kind}: {bad}"
    Disk(batch.operations).play(len(batch.operations)).cut(LOST, 0, tmp / "cut")
    assert not broken_batch(batch, True, tmp / "cut", tmp)


def test_a_batch_whose_journal_is_not_synced_is_found(batch, tmp):
    nodes = {op.node for op in batch.operations if op.name == "journal.jsonl"}
    disk = Disk(batch.operations).play(next(i for i, op in enumerate(batch.operations) if op.end >= batch.init_end) + 1)
    disk.play(len(batch.operations), skip=lambda op: op.node in nodes and op.kind == SYNC)
    disk.cut(LOST, 0, tmp / "cut")
    assert broken_batch(batch, True, tmp / "cut", tmp)


# --- a factory line and its manifest -----------------------------------------------------------------------------------------------------

MADE = [f"vin-{i}-{'z' * (5 * i)}" for i in range(8)]


def factory(top, verb, *args, env=None, ok=True):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
    secret = [] if verb == "start" else ["--passphrase-file", top.parent / "line-passphrase"]
    done = subprocess.run([MUSTER, "factory", verb, "--ca", top / "line", *secret, *args, "--json"], capture_output=True, text=True, env={**clean, **(env or {})}, timeout=60, check=False)
    assert not ok or done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def line(tmp):
    """What a line asks of its disk from its request to a manifest of three runs."""
    class Work:
        top, recorder, out = tmp / "factory", Recorder(tmp / "recorded-line"), []
    w = Work()
    w.top.mkdir()
    (tmp / "line-passphrase").touch(0o600)
    (tmp / "line-passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    record = {"LD_PRELOAD": str(BUILD / "tests" / "record_disk.so"), "MUSTER_TEST_RECORD": str(w.recorder.path)}
    (tmp / "customer").mkdir()
    ca(tmp / "customer", "init")
    factory(w.top, "request", "--account", "fleet", "--line", "line-1", "-o", tmp / "line.csr", env=record)
    secret = ["--passphrase-file", tmp / "line-passphrase"]
    subprocess.run([MUSTER, "ca", "sign", tmp / "line.csr", "--line", "fleet/line-1", "--ca", tmp / "customer" / "ca", *secret, "-o", tmp / "line.pem"], check=True, capture_output=True, timeout=60)
    kit = {"format": 1, "id": "01a21f40-f8ea-732f-bebd-d58d77a9027b", "account": "fleet", "line": "line-1", "max_devices": len(MADE), "id_pattern": "vin-*", "begins": "2026-01-01T00:00:00Z", "expires": "2100-01-01T00:00:00Z",
           "certificate": (tmp / "line.pem").read_text(), "root_certificate": (tmp / "customer" / "ca" / "root.pem").read_text()}
    (tmp / "kit.json").write_text(json.dumps(kit))
    factory(w.top, "start", tmp / "kit.json", env=record)
    w.begun = w.recorder.size()
    for some in (MADE[:1], MADE[1:4], MADE[4:]):
        (tmp / "some").write_text("\n".join(some))
        factory(w.top, "issue", "--from", tmp / "some", "-o", w.top / "out", env=record)
        w.out.append((w.recorder.size(), some))
    (tmp / "made").write_text("\n".join(MADE))
    w.operations = inside(w.recorder.operations(), os.stat(w.top).st_ino)
    return w


def manifest_entries(text):
    """Of a manifest that is whole: chained, and signed by its certificate."""
    lines = text.splitlines()
    head, end = json.loads(lines[0]), json.loads(lines[-1])
    for before, after in zip(lines, lines[1:]):
        assert json.loads(after)["previous"] == hashlib.sha256(before.encode()).hexdigest()
    said = f"muster manifest 1\n{head['kit']}\n{end['at']}\n{end['entries']}\n{end['previous']}\n".encode()
    x509.load_pem_x509_certificate(head["certificate"].encode()).public_key().verify(base64.b64decode(end["signature"]), said, ec.ECDSA(hashes.SHA256()))
    return [json.loads(e) for e in lines[1:-1]]


def broken_line(work, place, top, tmp):
    """What was told before `place` is there, the manifest is whole wherever it is, and the line goes on to its whole number, with each device once."""
    told = [d for at, some in work.out if at <= place for d in some]
    path = top / "line" / "manifest.jsonl"
    before = manifest_entries(path.read_text()) if path.exists() else []
    if not set(told) <= {e["device_id"] for e in before}:
        return "what was told is not in the manifest"
    if place < work.begun:
        if not (top / "line" / "intermediate.key").exists():
            return None  # no line yet, or none any more
        started = factory(top, "start", tmp / "kit.json", ok=False)
        if isinstance(started, str):
            return started
    made = factory(top, "issue", "--from", tmp / "made", "-o", top / "out", ok=False)
    if isinstance(made, str):
        return made
    after = manifest_entries(path.read_text())
    if after[:len(before)] != before:
        return "the manifest took something back"
    if sorted(e["device_id"] for e in after) != sorted(MADE) or len({e["serial"] for e in after}) != len(MADE):
        return "a device is not in the manifest, or twice"
    serials = {e["device_id"]: e["serial"] for e in after}
    if any(serials[c["device_id"]] != c["serial"] for c in made):
        return "a device has another certificate than the manifest says"
    return None


def test_a_line_goes_on_after_a_power_cut(line, tmp):
    for at in range(1, len(line.operations) + 1, 1 if LONG else 11):
        for kind in CUTS if LONG else [CUTS[at // 11 % len(CUTS)]]:
            Disk(line.operations).play(at).cut(kind, at, tmp / "cut")
            bad = broken_line(line, line.operations[at - 1].end, tmp / "cut", tmp)
            assert not bad, f"behind operation {at} of {len(line.operations)}, {kind}: {bad}"
    Disk(line.operations).play(len(line.operations)).cut(LOST, 0, tmp / "cut")
    assert not broken_line(line, line.operations[-1].end, tmp / "cut", tmp)


def test_a_manifest_that_is_not_synced_is_found(line, tmp):
    last = max(i for i, op in enumerate(line.operations) if op.name.startswith("manifest.jsonl"))
    node = line.operations[last].node
    nodes = {op.node for op in line.operations if op.name.startswith("manifest.jsonl")} | {node}
    disk = Disk(line.operations).play(len(line.operations), skip=lambda op: op.kind == SYNC and op.node in nodes)
    disk.cut(LOST, 0, tmp / "cut")
    with pytest.raises((AssertionError, IndexError, ValueError)):
        assert not broken_line(line, line.operations[-1].end, tmp / "cut", tmp)


def test_a_sync_that_is_missing_is_found(work, tmp):
    """The same, held against a CA that would not sync its journal."""
    nodes = {op.node for op in work.operations if op.name == "journal.jsonl"}
    disk = Disk(work.operations).play(next(i for i, op in enumerate(work.operations) if op.end >= work.init_end) + 1)
    disk.play(len(work.operations), skip=lambda op: op.node in nodes and op.kind == SYNC)
    disk.cut(LOST, 0, tmp / "cut")
    assert "is not in the record" in broken(work, work.operations[-1].end, tmp / "cut")

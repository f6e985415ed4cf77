"""The agent's directory and its credentials.zip under power cuts: what the real muster-agent asked of its disk while it enrolled and renewed, cut at any moment and
in every way, and played on against a gateway as it was at that moment.

The gateway is a strict one: an ID is one key's for ever, a certificate that was replaced gets nothing at all.  What is promised: DIR/current is a whole identity or
not there yet; the device goes on by itself; it is enrolled once; hooks are told of what they were not told yet; the shared key is gone in the end."""
import base64
import copy
import os
import pathlib
import re
import shutil
import tempfile
import zipfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PublicFormat, pkcs12

from agent import ADMITTED, CLIENT_AUTH, EST, Agent, Authority, Gateway, Holder, certificates, certs_only, refusal
from conftest import BUILD, LONG
from disk_play import CUTS, LOST, SYNC, Disk, Recorder, inside
from hsm import Token


def spki(public):
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class Strict:
    """What a gateway knows of one device."""

    def __init__(self, ca, fleet, provisioning):
        self.ca, self.fleet, self.provisioning = ca, fleet, provisioning
        self.live, self.waiting, self.issued = None, None, 0  # certificates

    def issue(self, csr):
        self.issued += 1
        return self.fleet.sign(csr.subject, Holder(csr.public_key()), (CLIENT_AUTH,), end=300)

    def again(self, csr, *certs):
        return next((c for c in certs if c is not None and spki(c.public_key()) == spki(csr.public_key())), None)

    def enrol(self, csr):
        first = self.live or self.waiting
        same = self.again(csr, first)
        if first and not same:
            return refusal(409, "device_already_registered")
        self.waiting = self.waiting if first else self.issue(csr)
        return certs_only(same or self.waiting)

    def renew(self, by, csr):
        if by != self.live:
            return refusal(403, "certificate_superseded")
        self.waiting = self.again(csr, self.waiting) or self.issue(csr)
        return certs_only(self.waiting)

    def admit(self, by):
        if by is not None and by == self.waiting:
            self.live, self.waiting = self.waiting, None
        return ADMITTED if by is not None and by == self.live else refusal(403, "certificate_superseded")

    def answer(self, method, path, by, body):
        if (method, path) == ("GET", EST + "cacerts"):
            return certs_only(self.ca.cert)
        if (method, path) == ("GET", "/devices"):
            return self.admit(by)
        csr = x509.load_der_x509_csr(base64.b64decode(body))
        if path == EST + "simpleenroll" and by == self.provisioning.cert:
            return self.enrol(csr)
        return self.renew(by, csr) if path == EST + "simplereenroll" else refusal(403, "provisioning_key_unknown")


class World:
    """One device whose disk was recorded."""
    env, more, files = {}, (), ["anchors.pem", "current", "lock", "state.json"]

    def __init__(self, top):
        self.top, self.recorder = top / "work", Recorder(top / "recorded")
        self.ca, self.fleet = Authority(), Authority("Fleet CA", ekus=(CLIENT_AUTH,))
        self.provisioning = self.fleet.device("provisioning key")
        self.model, self.moments = Strict(self.ca, self.fleet, self.provisioning), []
        self.gateway = Gateway(self.ca.server(), {(m, p): self.answer for m, p in (("GET", "/devices"), ("GET", EST + "cacerts"), ("POST", EST + "simpleenroll"), ("POST", EST + "simplereenroll"))},
                               client_ca=self.fleet)
        self.record = {"LD_PRELOAD": str(BUILD / "tests" / "record_disk.so"), "MUSTER_TEST_RECORD": str(self.recorder.path)}
        self.top.mkdir()
        self.device = self.at(self.top, env=self.record)
        self.remember()
        with zipfile.ZipFile(top / "credentials.zip", "w") as z:
            z.writestr("autoprov.url", self.gateway.url)
            z.writestr("autoprov_credentials.p12", pkcs12.serialize_key_and_certificates(b"key", self.provisioning.key, self.provisioning.cert, [self.ca.cert], NoEncryption()))
            z.writestr("server_ca.pem", self.ca.pem())
        self.archive = (top / "credentials.zip").read_bytes()
        (self.top / "credentials.zip").write_bytes(self.archive)
        assert self.device.run("provision", *self.options).returncode == 0
        self.enrolled = self.recorder.size()
        assert self.device.run("run", "--now", *self.options).returncode == 0
        self.operations = inside(self.recorder.operations(), os.stat(self.top).st_ino)
        self.final = copy.copy(self.model)
        self.kept = top / "kept"
        self.top.rename(self.kept)  # what a cut leaves takes its place: the agent remembers paths

    @property
    def options(self):
        return ("--credentials", self.device.top / "credentials.zip", "--device-id", "car-1", *self.more)

    def at(self, top, env=None):
        device = Agent(top, env={**self.env, **(env or {})})
        device.hooks = self.recorder.path.parent / "hooks"
        device.hooks.mkdir(exist_ok=True)
        device.hook(f'echo "$1" >> {self.recorder.path.parent}/told\n')
        return device

    def remember(self):
        self.moments.append((self.recorder.size(), copy.copy(self.model)))

    def answer(self, handler, body):
        der = handler.connection.getpeercert(True)
        answer = self.model.answer(handler.command, handler.path, x509.load_der_x509_certificate(der) if der else None, body)
        self.remember()
        return answer

    def disk(self, until, **how):
        """The disk after so many operations; the archive was on it before."""
        d = Disk(self.operations)
        d.entries[0, "credentials.zip"], d.content[-1], d.modes[-1] = -1, bytearray(self.archive), 0o644
        return d.play(until, **how)

    def before(self, place):
        """The gateway as it was when so much had been recorded."""
        self.model = copy.copy([model for at, model in self.moments if at <= place][-1])

    def whole(self, device):
        return whole(device)

    def identity(self, device):
        """The certificate in use."""
        return device.identity.cert


class HardwareWorld(World):
    """The same with the key in a token, which is no part of the disk: what it held at each moment is known by the module's snapshots."""
    files = ["anchors.pem", "current", "keys", "lock", "state.json"]

    def __init__(self, top):
        self.token = Token(top / "hsm", "device")
        self.tokens, self.snapshots = self.token.dir / "tokens", self.token.dir / "snapshots"
        self.snapshots.mkdir()
        shutil.copytree(self.tokens, self.snapshots / f"{0:020}-{0:019}")
        self.env = self.token.env
        self.more = ("--key", f"pkcs11:token=device?module-path={BUILD}/tests/moody.so&pin-source=file:{self.token.pin_file}")
        super().__init__(top)
        assert len(list(self.snapshots.iterdir())) == 1 + 2 + 2, "two keys were made, and of one both halves destroyed"
        self.snapshots = self.snapshots.rename(self.token.dir / "kept")  # from now on there are no new ones

    def before(self, place):
        super().before(place)
        shutil.rmtree(self.tokens)
        shutil.copytree([p for p in sorted(self.snapshots.iterdir()) if int(p.name.partition("-")[0]) <= place][-1], self.tokens)

    def whole(self, device):
        here = device.dir / "current"
        if not os.path.lexists(here):
            return None
        try:
            uri, mine = (here / "pkey.uri").read_text().strip(), certificates(here / "client.pem")[0]
            if (here / "pkey.pub").read_bytes() != spki(mine.public_key()) or not device.anchors:
                return "the key is not the certificate's"
            if uri not in (device.dir / "keys").read_text().split():
                return "the key's name is lost"
            return None if self.name(here / "pkey.uri") in self.token.keys() else "the token has no such key"
        except (OSError, ValueError, IndexError) as e:
            return f"it cannot be read: {e!r}"

    def name(self, file):
        """The ID in the token of the key that a file names."""
        return re.search(r";id=([%0-9A-F]+)", file.read_text())[1].replace("%", "").lower()

    def identity(self, device):
        return certificates(device.dir / "current" / "client.pem")[0]


def worlds(kind):
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="muster-agent-cut-", dir=base) as d:
        w = kind(pathlib.Path(d))
        w.scratch = pathlib.Path(d)
        yield w
        w.gateway.close()


@pytest.fixture(scope="module")
def world():
    yield from worlds(World)


@pytest.fixture(scope="module")
def hardware():
    yield from worlds(HardwareWorld)


def whole(device):
    """What is wrong with what other programs find, or None."""
    here = device.dir / "current"
    if not os.path.lexists(here):
        return None
    try:
        mine = device.identity
        if spki(mine.cert.public_key()) != spki(mine.key.public_key()):
            return "the key is not the certificate's"
        if not (here / "gateway.url").read_text().startswith("https://") or not device.anchors:
            return "no gateway, or no anchors"
        return None if (here / "pkey.pem").stat().st_mode & 0o077 == 0 else "a key that others can read"
    except (OSError, ValueError, IndexError) as e:
        return f"it cannot be read: {e!r}"


def broken(world, place, top):
    """What of the promises does not hold in `top`."""
    world.before(place)
    device, told = world.at(top), world.scratch / "told"
    world.device = device
    told.unlink(missing_ok=True)
    if bad := world.whole(device):
        return bad
    if place >= world.enrolled and not os.path.lexists(device.dir / "current"):
        return "an identity that was there is gone"
    due = (device.dir / "hooks-due").exists()
    for name in ("a", "b"):
        done = device.run("run", *world.options)
        if done.returncode:
            return f"it does not go on ({name}): {done.stderr}"
    if bad := world.whole(device):
        return bad
    if world.model.admit(world.identity(device)) != ADMITTED:
        return "the gateway does not admit it"
    if due and not told.exists():
        return "hooks were not told"
    with zipfile.ZipFile(top / "credentials.zip") as z:
        if z.namelist() != ["autoprov.url", "server_ca.pem"] or z.testzip():
            return f"the archive has {z.namelist()}"
    rest = sorted(p.name for p in device.dir.iterdir())
    return None if [n for n in rest if not n.startswith("identity-")] == world.files and len(rest) <= len(world.files) + 2 else f"something is left behind: {rest}"


def test_all_of_it_is_recorded(world):
    assert world.final.issued == 2 and len(world.operations) > 40
    world.disk(len(world.operations)).cut("kept", 0, world.scratch / "again")
    def files(top):
        return {p.relative_to(top): os.readlink(p) if p.is_symlink() else p.read_bytes() for p in top.rglob("*") if p.is_symlink() or (p.is_file() and "hooks" not in p.parts)}
    real, again = files(world.kept), files(world.scratch / "again")
    assert set(real) == set(again) and real == again


def test_a_power_cut_at_any_moment(world):
    for at in range(1, len(world.operations) + 1):
        for kind in CUTS if LONG else [CUTS[at % len(CUTS)], LOST]:
            world.disk(at).cut(kind, at, world.top)
            bad = broken(world, world.operations[at - 1].end, world.top)
            assert not bad, f"behind operation {at} of {len(world.operations)}, {kind}: {bad}"
            assert world.model.issued <= 3


def broken_hardware(hardware, at, kind, **how):
    """And no key stays in the token but the identity's, and that of one on its way, which the next renewal takes."""
    hardware.disk(at, **how).cut(kind, at, hardware.top)
    bad = broken(hardware, hardware.operations[at - 1].end, hardware.top)
    named = {hardware.name(p) for p in hardware.device.dir.glob("identity-*/pkey.uri")}
    return bad or (None if set(re.findall(r"ID: +(\w+)", hardware.token.keys())) == named else "a key is left behind, or gone")


def test_a_power_cut_with_the_key_in_a_token(hardware):
    for at in range(1, len(hardware.operations) + 1, 1 if LONG else 3):
        kind = CUTS[at % len(CUTS)] if at % 2 else LOST
        bad = broken_hardware(hardware, at, kind)
        assert not bad, f"behind operation {at} of {len(hardware.operations)}, {kind}: {bad}"


def test_a_name_that_is_not_synced_is_found(hardware):
    """The same, held against an agent that would not sync the names of keys before they are made."""
    nodes = {op.node for op in hardware.operations if op.name.startswith("keys")}
    begins = min(i for i, op in enumerate(hardware.operations, 1) if op.node in nodes)
    assert any(broken_hardware(hardware, at, LOST, skip=lambda op: op.node in nodes and op.kind == SYNC) for at in range(begins, begins + 10))


@pytest.mark.parametrize("which", ["pkey.pem", "client.pem", "current"])
def test_a_sync_that_is_missing_is_found(world, which):
    """The same, held against an agent that would not sync its keys, its certificates, or the directory."""
    nodes = {op.node for op in world.operations if op.name.startswith(which)} | {op.node for op in world.operations if op.data.decode("latin-1") == which}
    if which == "current":
        nodes = {op.directory for op in world.operations if op.name.startswith(which)}
    found = []
    for at in range(1, len(world.operations) + 1):
        world.disk(at, skip=lambda op: op.node in nodes and op.kind == SYNC).cut(LOST, at, world.top)
        found.append(broken(world, world.operations[at - 1].end, world.top))
        if found[-1]:
            break
    assert found[-1], found

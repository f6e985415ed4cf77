"""Factory lines: an operator's kit, a line that issues offline, and what the gateway lets in by it: the bounds are the registry's, whatever a line, or
whoever has copied its key, certifies."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client import Fleet, Identity, new_key
from clock import Clock
from conftest import MUSTER, Refused, Server, refused
from est import csr, post
from test_images import commands

PASSPHRASE = "correct horse battery"
PAGE = pathlib.Path(__file__).parents[2] / "doc" / "factory.md"
naming = threading.Lock()


class Line:
    """The directory of a factory line, through the program."""

    def __init__(self, top, account, name="line-1", key="p256"):
        self.top, self.account, self.name, self.dir = top, account, name, top / f"line-{time.monotonic_ns()}"
        self.passphrase = top / "passphrase"
        self.passphrase.touch(0o600)
        self.passphrase.write_text(PASSPHRASE + "\n", encoding="utf-8")
        self.request = top / f"{self.dir.name}.csr"
        self.run("request", "--account", account, "--line", name, "--key", key, "-o", self.request)

    def run(self, verb, *args, noun="factory", env=()):
        env = {**{k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}, **dict(env)}
        secret = [] if verb in ("start", "list", "show", "revoke") else ["--passphrase-file", self.passphrase]
        done = subprocess.run([str(a) for a in [MUSTER, noun, verb, "--ca", self.dir, *secret, *args, "--json"]], capture_output=True, text=True, env=env, timeout=120)
        if done.returncode:
            raise Refused(done.returncode, done.stderr)
        return json.loads(done.stdout)

    def kit(self, server, *more, max_devices=10, pattern="vin-*", expires="30d", bring=None):
        """The operator's word, and the line begins."""
        path = self.top / f"kit-{time.monotonic_ns()}.json"
        what = ["--certificate", bring] if bring else ["--request", self.request]
        self.shown = server.muster("factory", "kit", "create", "--account", self.account, "--line", self.name, "--max", max_devices, "--id-pattern", pattern, "--expires", expires, *what, "-o", path, *more)
        self.run("start", path)
        return self.shown

    def copy(self, **bounds):
        """Whoever has the directory and the passphrase, and keeps to nothing."""
        other = Line.__new__(Line)
        other.__dict__.update(self.__dict__, dir=self.top / f"copy-{time.monotonic_ns()}")
        shutil.copytree(self.dir, other.dir)
        kit = json.loads((other.dir / "kit.json").read_text())
        (other.dir / "kit.json").write_text(json.dumps({**kit, **bounds}))
        return other

    def issue(self, *ids, out=None):
        out = out or self.top / f"out-{time.monotonic_ns()}"
        path = self.top / f"ids-{time.monotonic_ns()}"
        path.write_text("\n".join(ids) + "\n")
        return [identity(self.top / made["output"]) for made in self.run("issue", "--from", path, "-o", out)]

    def issuer(self):
        """Its CA, for certificates that `muster` does not make."""
        by = Fleet.__new__(Fleet)
        by.key = serialization.load_pem_private_key((self.dir / "intermediate.key").read_bytes(), PASSPHRASE.encode())
        by.cert, by.kind = x509.load_pem_x509_certificate((self.dir / "intermediate.pem").read_bytes()), "ec"
        return by

    def forge(self, cn, account=None, line=None, days=(-1, 365), **more):
        by = self.issuer()
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, account or self.account), x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, line or self.name),
                             x509.NameAttribute(NameOID.COMMON_NAME, cn)])
        with naming:
            return by.issue(subject, days=days, chain=[by.cert], **more)


def identity(folder):
    chain = [x509.load_pem_x509_certificate(p + b"-----END CERTIFICATE-----\n") for p in (folder / "client.pem").read_bytes().split(b"-----END CERTIFICATE-----\n")[:-1]]
    with naming:
        return Identity(chain[0], serialization.load_pem_private_key((folder / "pkey.pem").read_bytes(), None), chain[1:])


def come(server, device, **more):
    return server.gateway(device, **more).get("/director/1.root.json")


def states(server, account):
    return {d["device_id"]: d["state"] for d in server.muster("device", "list", "--account", account)}


def own(server, tmp_path, account, **kit):
    """A line under the account's own fleet root."""
    server.account(account, "production", "shared")
    line = Line(tmp_path, account)
    line.kit(server, **kit)
    return line


def brought(server, tmp_path, account, **kit):
    """A line under a fleet root of the customer's, whose CA is offline too."""
    server.account(account, "production", "device")
    line = Line(tmp_path, account)
    env = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}

    def ca(*args):
        return json.loads(subprocess.run([str(a) for a in [MUSTER, "ca", *args, "--ca", tmp_path / "fleet", "--passphrase-file", line.passphrase, "--json"]], check=True, capture_output=True, text=True,
                                         env=env, timeout=60).stdout)
    ca("init", "--intermediate")
    root = server.muster("root", "upload", tmp_path / "fleet" / "root.pem", "--account", account)
    ca("prove", root["challenge"], "-o", tmp_path / "proof.pem")
    server.muster("root", "prove", root["id"], tmp_path / "proof.pem")
    with pytest.raises(subprocess.CalledProcessError) as said:
        ca("sign", line.request, "--line", f"{account}/line-9", "-o", tmp_path / "line.pem")
    assert f"O={account}, OU=line-9" in said.value.stderr and not (tmp_path / "line.pem").exists()
    ca("sign", line.request, "--line", f"{account}/{line.name}", "-o", tmp_path / "line.pem")
    line.kit(server, bring=tmp_path / "line.pem", **kit)
    return line


BOTH = pytest.mark.parametrize("make", [own, brought])


@BOTH
def test_from_the_kit_to_devices_in_the_registry(server, tmp_path, make):
    account = f"fac-{make.__name__}"
    line = make(server, tmp_path, account)
    shown = line.shown
    assert (shown["state"], shown["devices"], shown["held"], shown["max_devices"]) == ("open", 0, 0, 10)
    ca = x509.load_pem_x509_certificate(shown["certificate"].encode())
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    constraints = ca.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical and [t.value.rfc4514_string() for t in constraints.value.permitted_subtrees] == [f"OU=line-1,O={account}"]
    assert list(ca.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    devices = line.issue(*[f"vin-{i}" for i in range(4)])
    for device in devices:
        assert device.cert.issuer == ca.subject and ca.not_valid_after > device.cert.not_valid_after
        subprocess.run(["openssl", "verify", "-purpose", "sslclient", "-x509_strict", "-auth_level", "2", "-CAfile", line.dir / "root.pem", "-untrusted", line.dir / "intermediate.pem", device.cert_file],
                       check=True, capture_output=True, timeout=60)
        subprocess.run(["certtool", "--verify", "--verify-profile", "medium", "--load-ca-certificate", line.dir / "root.pem", "--infile", device.cert_file], check=True, capture_output=True, timeout=60)
        assert come(server, device).status == 404  # behind the gateway there is nobody; it let the device pass
    assert states(server, account) == {f"vin-{i}": "active" for i in range(4)}
    listed = server.muster("factory", "kit", "devices", "line-1", "--account", account)
    assert [(d["device_id"], d["line"], d["method"], d["root"]) for d in listed] == [(f"vin-{i}", "line-1", "device", shown["root"]) for i in range(4)]
    (again,) = server.muster("factory", "kit", "list", "--account", account)
    assert (again["devices"], again["held"]) == (4, 0)
    # They come again, and nothing is counted twice; another certificate of the same key is the same device.
    assert come(server, devices[0]).status == 404
    assert come(server, line.forge("vin-1", key=devices[1].key)).status == 404
    assert server.muster("factory", "kit", "show", "line-1", "--account", account)["devices"] == 4
    # Under its own root Muster signs the next one (test_line_renewal.py), under the customer's his CA alone can.
    assert post(server.gateway(devices[0]), "simplereenroll", csr(devices[0].key, "vin-0")).code == (None if make is own else "certificate_of_fleet_ca")
    # `explain` says of one what the gateway would.
    said = server.muster("explain", devices[3].cert_file, "--account", account)
    assert (said["verdict"], said["device_id"], said["root"]["id"]) == ("admitted", "vin-3", shown["root"])
    # What operators do to devices holds for these.
    server.muster("device", "quarantine", "vin-2", "--account", account)
    assert come(server, devices[2]).code == "device_quarantined"
    assert server.muster("audit", "verify", "--account", account)["ok"]


def race(server, devices):
    """All of them at once, from eight threads over the gateway's loops."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda d: come(server, d).code, devices))


@BOTH
def test_a_copied_kit_that_issues_twice_as_many(server, tmp_path, make):
    account, n = f"copied-{make.__name__}", 12
    line = make(server, tmp_path, account, max_devices=n)
    thief = line.copy(max_devices=10 * n)
    refused("kit_exceeded", line.issue, *[f"vin-{i}" for i in range(n + 1)])
    devices = line.issue(*[f"vin-{i}" for i in range(n)]) + thief.issue(*[f"vin-t{i}" for i in range(n)])
    refused("kit_exceeded", line.issue, "vin-more")
    codes = race(server, devices)
    assert codes.count("device_pending") == n
    got = states(server, account)
    assert sorted(got.values()) == ["active"] * n + ["pending"] * n
    assert [got[f"vin-{i}" if i < n else f"vin-t{i - n}"] == "pending" for i in range(2 * n)] == [c == "device_pending" for c in codes]
    shown = server.muster("factory", "kit", "show", "line-1", "--account", account)
    assert (shown["devices"], shown["held"]) == (n, n)
    assert race(server, devices) == codes  # and so it stays
    # One that waits says why, and an operator may let it in.
    held = next(d for d, c in zip(devices, codes) if c == "device_pending")
    answer = come(server, held)
    assert "as many devices as it may" in answer.body.decode() and answer.headers["Retry-After"]
    server.muster("device", "approve", held.common_name, "--account", account)
    assert come(server, held).status == 404
    # A wider kit is for those who come then; nobody is let in behind an operator's back.
    server.muster("factory", "kit", "set", "line-1", "--account", account, "--max", n + 1)
    assert come(server, thief.issue("vin-late")[0]).status == 404
    assert come(server, thief.issue("vin-later")[0]).code == "device_pending"
    refused("invalid_request", server.muster, "factory", "kit", "set", "line-1", "--account", account, "--max", n)
    assert server.muster("audit", "verify", "--account", account)["ok"]


@BOTH
def test_each_bound(server, tmp_path, make):
    account = f"bound-{make.__name__}"
    line = make(server, tmp_path, account, pattern="vin-[0-9]*")
    refused("kit_exceeded", line.issue, "other-1")

    def held(device, why):
        answer = come(server, device)
        assert answer.code == "device_pending" and why in answer.body.decode(), answer
        assert server.muster("device", "show", device.common_name, "--account", account)["state"] == "pending"

    held(line.forge("other-1"), "its ID")
    held(line.forge("vin-x"), "its ID")
    held(line.forge("vin-1", days=(-40, 365)), "time")     # from before the line was
    assert come(server, line.forge("vin-2", days=(-1, 365))).status == 404
    server.muster("factory", "kit", "set", "line-1", "--account", account, "--state", "closed")
    held(line.forge("vin-3"), "closed")
    server.muster("factory", "kit", "set", "line-1", "--account", account, "--state", "open", "--expires", "1s")
    device = line.forge("vin-4")
    time.sleep(1.2)
    held(device, "time")
    assert server.muster("factory", "kit", "show", "line-1", "--account", account)["state"] == "expired"
    server.muster("factory", "kit", "set", "line-1", "--account", account, "--expires", "30d")
    held(device, "time")  # it waits for an operator, not for another time
    # The line itself is no matter of the registry: what is not below its name is no chain, and nobody is registered.
    before = states(server, account)
    for wrong in (line.forge("vin-5", line="line-2"), line.forge("vin-5", account="another"), line.forge("vin-5", extensions=[(x509.BasicConstraints(True, 0), True)])):
        answer = come(server, wrong)
        assert answer.status == 403 and answer.code in ("chain_invalid", "certificate_is_ca", "certificate_untrusted"), answer
    below = line.forge("sub", extensions=[(x509.BasicConstraints(True, None), True)])  # a CA below the line's: its path length is 0
    sub = Fleet.__new__(Fleet)
    sub.key, sub.cert, sub.kind = below.key, below.cert, "ec"
    leaf = sub.issue(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, account), x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "line-1"), x509.NameAttribute(NameOID.COMMON_NAME, "vin-6")]),
                     chain=[below.cert, line.issuer().cert])
    assert come(server, leaf).code in ("chain_invalid", "certificate_untrusted")
    assert states(server, account) == before
    # An announcement lets nobody in who is outside.
    server.muster("account", "set", account, "--expected-only", "yes")
    (tmp_path / "announced").write_text("device_id\nother-9\nvin-9\n")
    server.muster("device", "import", tmp_path / "announced", "--account", account)
    held(line.forge("other-9"), "its ID")
    assert come(server, line.forge("vin-9")).status == 404
    assert come(server, line.forge("vin-10")).code == "device_unexpected"
    assert server.muster("audit", "verify", "--account", account)["ok"]


def test_a_line_is_its_accounts_alone(server, tmp_path):
    line = own(server, tmp_path, "mine")
    clock = Clock(tmp_path / "clock")
    clock.set(-int(time.time()) + 120)
    assert "before the CA itself begins" in line.run("manifest", "-o", tmp_path / "early.jsonl", env=clock.env)["warnings"][0]
    assert "warnings" not in line.run("manifest", "-o", tmp_path / "manifest.jsonl")
    server.account("theirs", "production", "shared")
    device = line.issue("vin-1")[0]
    assert come(server, device, sni=server.host("theirs")).code == "certificate_of_other_account"
    assert come(server, device, sni=server.host("mine")).status == 404
    assert states(server, "theirs") == {}
    # A certificate below the account's root that no line and no enrolment stands behind: the registry does not hold it.
    with server_database(server) as db:
        db.execute("UPDATE line SET spki = zeroblob(32) WHERE name = 'line-1'")
        db.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
    assert come(server, line.forge("vin-2")).code == "certificate_unknown"
    assert come(server, device).code == "certificate_unknown"


def server_database(server):
    return sqlite3.connect(server.dir / "registry.db", timeout=30)


FORGED = {
    "a wider number": ("UPDATE line SET max_devices = 99", "is not as the log says"),
    "a longer time": ("UPDATE line SET expires = expires + 1", "is not as the log says"),
    "another pattern": ("UPDATE line SET id_pattern = '*'", "is not as the log says"),
    "open again": ("UPDATE line SET state = 1", "is not as the log says"),
    "another key": ("UPDATE line SET spki = randomblob(32)", "is not as the log says"),
    "not spent": ("UPDATE line SET spent = 0", "has brought in 0 devices"),
    "none held": ("UPDATE line SET held = 0", "and 0 that are held"),
    "gone": ("UPDATE device SET line = 0; DELETE FROM line", "has 0"),
    "one more": ("INSERT INTO line (uuid, account, root, name, state, spki, der, not_after, max_devices, spent, held, id_pattern, begins, expires, created) SELECT randomblob(16), account, root, 'more', state, "
                 "randomblob(32), der, not_after, 9, 0, 0, '*', begins, expires, created FROM line", "was never made"),
    "by no line": ("UPDATE device SET line = 0 WHERE device_id = 'vin-1'", "came by another factory line, or with another key"),
    "by another line": ("UPDATE device SET line = line + 1000 WHERE device_id = 'vin-1'", "came by another factory line, or with another key"),
    "with the key of another one": ("UPDATE device SET line_key = zeroblob(32) WHERE device_id = 'vin-1'", "came by another factory line, or with another key"),
    "with no key": ("UPDATE device SET line_key = NULL WHERE device_id = 'vin-1'", "came by another factory line, or with another key"),
    "in all the same": ("UPDATE device SET state = 1 WHERE device_id = 'other'", "is active, and the log says otherwise"),
}


def test_what_a_captured_gateway_writes_of_lines_is_found(server, tmp_path):
    line = own(server, tmp_path, "forged", max_devices=2)
    for name in ("vin-1", "vin-2", "other"):
        come(server, line.forge(name))
    server.muster("factory", "kit", "set", "line-1", "--account", "forged", "--state", "closed")
    assert server.muster("audit", "verify", "--account", "forged")["ok"]
    with server_database(server) as db:
        (account,) = db.execute("SELECT id FROM account WHERE name = 'forged'").fetchone()
        rows = {t: db.execute(f"SELECT {what} FROM {t} WHERE account = ?", (account,)).fetchall() for t, what in (("line", "*"), ("device", "line, line_key, state, id"))}
    for what, (sql, said) in FORGED.items():
        with server_database(server) as db:
            for one in sql.split("; "):
                db.execute(one.replace("FROM line", f"FROM line WHERE account = {account}") if "FROM line" in one else one + (" AND " if "WHERE" in one else " WHERE ") + f"account = {account}")
        text = refused("storage_corrupt", server.muster, "audit", "verify", "--account", "forged").text
        assert said in text, (what, text)
        with server_database(server) as db:  # and as it was
            db.execute("DELETE FROM line WHERE account = ?", (account,))
            db.executemany(f"INSERT INTO line VALUES ({', '.join('?' * len(rows['line'][0]))})", rows["line"])
            for row in rows["device"]:
                db.execute("UPDATE device SET line = ?, line_key = ?, state = ? WHERE id = ?", row)
        assert server.muster("audit", "verify", "--account", "forged")["ok"], what


def test_what_no_operator_gets(server, tmp_path):
    """The server holds what it is asked for against the account, the key and the certificate."""
    line = own(server, tmp_path, "asked")
    create = lambda *more, name="line-2", request=line.request, account="asked": server.muster(
        "factory", "kit", "create", "--account", account, "--line", name, "--max", 5, "--id-pattern", "*", "--expires", "1d", *(["--request", request] if request else []), *more)
    refused("already_exists", create, name="line-1")
    refused("invalid_request", create)  # line-1's request
    again = tmp_path / "again.csr"  # and line-1's key, which is one line's
    subprocess.run(["openssl", "req", "-new", "-key", next(line.dir.glob("*.key")), "-passin", f"file:{line.passphrase}", "-out", again, "-subj", "/O=asked/OU=line-2"], check=True, capture_output=True, timeout=60)
    refused("already_exists", create, request=again)
    other = Line(tmp_path, "asked", "line-2")
    for name in ("Line", "-a", "a_b", "x" * 64):
        refused("invalid_request", create, name=name, request=other.request)
    refused("invalid_request", create, "--life", "1", request=other.request)
    refused("invalid_request", create, "--life", "40y", request=other.request)
    server.account("device-only", "production", "device")
    refused("method_not_enabled", create, account="device-only", request=Line(tmp_path, "device-only", "line-2").request)
    for wrong, args in {"max": ["--max", 0], "expires": ["--expires", "2020-01-01T00:00:00Z"], "pattern": ["--id-pattern", "[a"]}.items():
        given = {"--max": 5, "--id-pattern": "*", "--expires": "1d", **{args[0]: args[1]}}
        refused("invalid_request", server.muster, "factory", "kit", "create", "--account", "asked", "--line", "line-2", "--request", other.request, *[w for kv in given.items() for w in kv])
    rsa = tmp_path / "rsa.csr"
    subprocess.run(["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "rsa.key", "-out", rsa, "-subj", "/O=asked/OU=line-2"], check=True, capture_output=True, timeout=60)
    refused("certificate_weak_key", create, request=rsa)
    assert create(request=Line(tmp_path, "asked", "line-2", key="p384").request)["state"] == "open"
    # A certificate that is brought has to be a line's, of this account, signed by one of its roots.
    fleet = server.root("device-only", Fleet("Lines"))
    tree = lambda *rdns: x509.DirectoryName(x509.Name([x509.NameAttribute(o, v) for o, v in zip((NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME), rdns)]))
    good = {"bc": (x509.BasicConstraints(True, 0), True), "nc": (x509.NameConstraints([tree("device-only", "line-2")], None), True), "eku": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)}
    path = tmp_path / "brought.pem"

    def bring(by=fleet, **changes):
        made = by.intermediate("line-2", extensions=[e for e in {**good, **changes}.values() if e])
        path.write_bytes(made.root_pem())
        return create("--certificate", path, account="device-only", request=None)

    for changes in ({"nc": None}, {"nc": (good["nc"][0], False)}, {"nc": (x509.NameConstraints([tree("device-only", "line-3")], None), True)}, {"nc": (x509.NameConstraints([tree("device-only")], None), True)},
                    {"nc": (x509.NameConstraints([tree("device-only", "line-2"), tree("asked")], None), True)}, {"bc": (x509.BasicConstraints(True, 1), True)}, {"bc": (x509.BasicConstraints(True, None), True)},
                    {"bc": (x509.BasicConstraints(False, None), True)}, {"eku": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False)}, {"by": Fleet("Stranger")},
                    {"by": server.root("device-only", Fleet("Unproved"), prove=False)}):
        refused("root_unfit", bring, **changes)
    assert bring()["state"] == "open"
    assert server.muster("audit", "verify", "--account", "asked")["ok"] and server.muster("audit", "verify", "--account", "device-only")["ok"]


def child(server, name):
    """One that was killed comes back."""
    end = time.monotonic() + 20
    while True:
        try:
            return server.child(name)
        except LookupError:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_the_count_is_exact_whatever_dies(tmp_path):
    server = Server(tmp_path / "data").start()
    try:
        n = 30
        line = own(server, tmp_path, "dies", max_devices=n)
        devices = line.copy(max_devices=1000).issue(*[f"vin-{i}" for i in range(2 * n)])
        answered, stop = {}, threading.Event()

        def drive(mine):
            for device in mine:
                while not stop.is_set():
                    try:
                        code = come(server, device, timeout=10).code
                    except OSError:
                        time.sleep(0.05)
                        continue
                    if code != "unavailable":
                        answered.setdefault(device.common_name, code)
                        break

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            running = [pool.submit(drive, devices[i::6]) for i in range(6)]
            for _ in range(3):
                time.sleep(0.25)
                os.kill(child(server, "gateway"), signal.SIGKILL)
            time.sleep(0.3)
            children = [child(server, name) for name in ("vault", "control", "gateway")]
            server.stop(signal.SIGKILL)
            for pid in children:
                for _ in range(100):
                    if not os.path.exists(f"/proc/{pid}"):
                        break
                    time.sleep(0.05)
            server.start()
            for r in running:
                r.result(timeout=120)
            stop.set()
        got = states(server, "dies")
        assert len(got) == 2 * n and list(got.values()).count("active") == n
        assert all((got[d] == "pending") == (code == "device_pending") for d, code in answered.items())
        shown = server.muster("factory", "kit", "show", "line-1", "--account", "dies")
        assert (shown["devices"], shown["held"]) == (n, n)
        assert server.muster("audit", "verify", "--account", "dies")["ok"]
    finally:
        server.stop()


# --- at the line -----------------------------------------------------------------------------------------------------------------------


def test_the_line_keeps_to_its_kit(server, tmp_path):
    line = own(server, tmp_path, "keeps", max_devices=3)
    refused("already_exists", line.run, "request", "--account", "keeps", "--line", "line-1")
    assert oct((line.dir / "intermediate.key").stat().st_mode & 0o777) == "0o600" and (line.dir / "intermediate.key").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert not (line.dir / "root.key").exists()
    line.issue("vin-1", "vin-2")
    refused("kit_exceeded", line.issue, "vin-3", "vin-4")
    kit = json.loads((line.dir / "kit.json").read_text())
    for name, changes, code in (("other", {"line": "line-2"}, "kit_foreign"), ("torn", {"format": 2}, "schema_version"), ("bad", {"max_devices": 0}, "kit_invalid"),
                                ("root", {"root_certificate": Fleet().root_pem().decode()}, "kit_invalid"), ("cert", {"certificate": Fleet().root_pem().decode()}, "kit_foreign")):
        (tmp_path / name).write_text(json.dumps({**kit, **changes}))
        refused(code, line.run, "start", tmp_path / name)
    server.muster("factory", "kit", "set", "line-1", "--account", "keeps", "--max", 4)
    server.muster("factory", "kit", "show", "line-1", "--account", "keeps", "-o", tmp_path / "wider.json")
    assert line.run("start", tmp_path / "wider.json")["max_devices"] == 4
    line.issue("vin-3", "vin-4", out=tmp_path / "both")
    refused("kit_exceeded", line.issue, "vin-5")
    # One whose certificate was issued and did not come out is counted already.
    (tmp_path / "both" / "vin-3" / "client.pem").unlink()
    assert [d.common_name for d in line.issue("vin-3", "vin-4", out=tmp_path / "both")] == ["vin-3", "vin-4"]


def manifest_of(line):
    path = line.top / f"manifest-{time.monotonic_ns()}"
    line.run("manifest", "-o", path)
    return path.read_text().splitlines()


def test_the_manifest_grows_and_is_signed(server, tmp_path):
    line = own(server, tmp_path, "lists")
    line.issue("vin-1", "vin-2")
    first = (line.dir / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(e).get("device_id") for e in first[1:-1]] == ["vin-1", "vin-2"]
    line.run("revoke", "vin-1", "--reason", "superseded", noun="ca")
    line.issue("vin-1", "vin-3")
    second = manifest_of(line)
    assert second[:3] == first[:-1]
    assert [(e["n"], e["event"], e["device_id"]) for e in map(json.loads, second[1:-1])] == [(1, "issue", "vin-1"), (2, "issue", "vin-2"), (3, "revoke", "vin-1"), (4, "issue", "vin-1"), (5, "issue", "vin-3")]
    head, end = json.loads(second[0]), json.loads(second[-1])
    assert (head["kit"], head["account"], head["line"], end["entries"]) == (line.shown["id"], "lists", "line-1", 5)
    # As the page says, by hand.
    import base64
    import hashlib
    for before, after in zip(second, second[1:]):
        assert json.loads(after)["previous"] == hashlib.sha256(before.encode()).hexdigest()
    from cryptography.hazmat.primitives.asymmetric import ec
    said = f"muster manifest 1\n{head['kit']}\n{end['at']}\n5\n{end['previous']}\n".encode()
    x509.load_pem_x509_certificate(head["certificate"].encode()).public_key().verify(base64.b64decode(end["signature"]), said, ec.ECDSA(hashes.SHA256()))


# --- reconciliation -------------------------------------------------------------------------------------------------------------------


def reconcile(server, manifest, *more):
    return server.muster("factory", "reconcile", manifest, *more)


def of(said):
    """What is said of each device; one may be said of in two ways."""
    return sorted((d["device_id"], d["status"]) for d in said["devices"])


@BOTH
def test_what_was_built_against_what_has_shown_up(server, tmp_path, make):
    account = f"reconciled-{make.__name__}"
    line = make(server, tmp_path, account, max_devices=20)
    devices = {d.common_name: d for d in line.issue(*[f"vin-{i}" for i in range(6)])}
    thief = line.copy()
    extra = thief.issue("vin-90", "vin-91")
    manifest = tmp_path / "manifest"
    manifest.write_text("\n".join(manifest_of(line)) + "\n")
    for name in ("vin-0", "vin-1", "vin-2"):
        come(server, devices[name])
    come(server, line.forge("vin-3"))  # an ID that was built, and another key
    for device in extra:
        assert come(server, device).status == 404
    said = reconcile(server, manifest)
    assert of(said) == [("vin-0", "seen"), ("vin-1", "seen"), ("vin-2", "seen"), ("vin-3", "other-key"), ("vin-4", "not-seen"), ("vin-5", "not-seen"), ("vin-90", "not-built"), ("vin-91", "not-built")]
    assert {k: said[k] for k in ("account", "line", "built", "seen", "not_seen", "not_built", "other_key", "revoked", "wrong_line", "duplicates")} == {
        "account": account, "line": "line-1", "built": 6, "seen": 3, "not_seen": 2, "not_built": 2, "other_key": 1, "revoked": 0, "wrong_line": 0, "duplicates": 0}
    assert said["id"] == line.shown["id"]
    refused("not_reconciled", reconcile, server, manifest, "--check")
    # For people, and for a spreadsheet: the same.
    plain = lambda *more: subprocess.run([MUSTER, "--data", server.dir, "factory", "reconcile", manifest, *more], capture_output=True, text=True, timeout=60, check=True).stdout
    table = plain()
    assert "vin-90" in table and "other-key" in table and "vin-4" not in table and "not_built: 2" in table
    assert "vin-4" in plain("--all")
    import csv
    rows = list(csv.DictReader(plain("--format", "csv").splitlines()))
    assert sorted((r["device_id"], r["status"]) for r in rows) == of(said)
    plain("--format", "csv", "-o", tmp_path / "out.csv")
    assert list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines())) == rows
    # The unknown are held, or cut off, at once; it is asked first, and stands in the log.
    refused("confirmation_required", reconcile, server, manifest, "--hold")
    assert states(server, account)["vin-90"] == "active"
    assert reconcile(server, manifest, "--hold", "--yes")["acted"] == 3
    assert {n: s for n, s in states(server, account).items() if s == "pending"} == {n: "pending" for n in ("vin-90", "vin-91", "vin-3")}
    answer = come(server, extra[0])
    assert answer.code == "device_pending" and "has not built it" in answer.body.decode()
    assert come(server, devices["vin-0"]).status == 404
    log = [e for e in server.muster("audit", "list", "--account", account) if e["action"] == "device.hold"]
    assert sorted(e["object"] for e in log) == ["vin-3", "vin-90", "vin-91"] and all(e["actor"].startswith("token:") for e in log)
    assert server.muster("audit", "verify", "--account", account)["ok"]
    server.muster("device", "approve", "vin-91", "--account", account)
    assert come(server, extra[1]).status == 404
    assert reconcile(server, manifest, "--quarantine", "--yes")["acted"] == 3
    assert come(server, extra[1]).code == "device_quarantined"
    assert reconcile(server, manifest, "--quarantine", "--yes")["acted"] == 0
    assert server.muster("audit", "verify", "--account", account)["ok"]


@BOTH
def test_a_line_that_is_revoked_brings_nobody_in(server, tmp_path, make):
    """Closed, what comes waits; revoked, it is refused for good, whoever announces or approves. Those that are in stay, wait, or are cut off: as it is said."""
    account = f"revoked-{make.__name__}"
    line = make(server, tmp_path, account, max_devices=20)
    first, late, closed = line.issue("vin-1", "vin-2", "vin-3")
    assert come(server, first).status == 404
    server.muster("factory", "kit", "set", "line-1", "--account", account, "--state", "closed")
    assert come(server, closed).code == "device_pending"
    revoke = lambda *more: server.muster("factory", "kit", "revoke", "line-1", "--account", account, "--reason", "its key was copied", *more)
    refused("confirmation_required", revoke)
    assert server.muster("factory", "kit", "show", "line-1", "--account", account)["state"] == "closed"
    said = revoke("--yes")
    assert (said["state"], said["devices"], said["held"]) == ("revoked", 1, 1)
    # What comes for the first time is refused and written down nowhere, also one that is announced; a known ID gets no other key by it.
    (tmp_path / "announced").write_text("device_id\nvin-2\n")
    server.muster("device", "import", tmp_path / "announced", "--account", account)
    before = states(server, account)
    for device in (late, line.forge("vin-4"), line.forge("vin-1")):
        answer = come(server, device)
        assert (answer.status, answer.code) == (403, "factory_line_revoked") and "line-1" in answer.body.decode()
    assert states(server, account) == before and not server.muster("device", "show", "vin-1", "--account", account).get("offered_keys")
    assert come(server, first).status == 404 and come(server, closed).code == "device_pending", "left as they were"
    server.muster("device", "approve", "vin-3", "--account", account)
    assert come(server, closed).status == 404, "an operator may let one in that waits"
    # For good: neither another state nor other bounds.
    for change in (("--state", "open"), ("--max", 50)):
        refused("wrong_state", server.muster, "factory", "kit", "set", "line-1", "--account", account, *change)
    refused("invalid_request", server.muster, "factory", "kit", "set", "line-1", "--account", account, "--state", "revoked")
    assert revoke("--yes")["state"] == "revoked"
    log = [e for e in server.muster("audit", "list", "--account", account) if e["action"] == "line.revoke"]
    assert [(e["object"], e["detail"]["reason"]) for e in log] == [("line-1", "its key was copied")], "once"
    said = reconcile(server, line.dir / "manifest.jsonl")
    assert said["line_state"] == "revoked" and [d["detail"] for d in said["devices"] if d["device_id"] == "vin-2"] == ["its line was revoked: it is refused when it comes"]
    # And its devices are taken out, held first, and cut off where nobody can tell them from copies.
    assert revoke("--hold", "--yes")["acted"] == 2 and come(server, first).code == "device_pending"
    assert revoke("--quarantine", "--yes")["acted"] == 2 and come(server, first).code == come(server, closed).code == "device_quarantined"
    assert come(server, late).code == "factory_line_revoked"
    assert server.muster("audit", "verify", "--account", account)["ok"]


def test_what_is_built_twice_taken_back_or_comes_by_another_way(server, tmp_path):
    line = own(server, tmp_path, "odd", max_devices=20)
    other = Line(tmp_path, "odd", "line-2")
    other.kit(server)
    first = line.issue("vin-1", "vin-2", "vin-3", "vin-4")
    path = tmp_path / "again"
    path.write_text("vin-2\n")
    line.run("issue", "--from", path, "--again", "-o", tmp_path / "again-out")
    come(server, first[0])
    line.run("revoke", "vin-1", "--reason", "superseded", noun="ca")
    come(server, other.forge("vin-3"))
    assert server.gateway(server.key("odd")).enrol("vin-4").status == 200
    manifest = tmp_path / "manifest"
    manifest.write_text("\n".join(manifest_of(line)) + "\n")
    said = reconcile(server, manifest)
    assert of(said) == [("vin-1", "revoked"), ("vin-2", "duplicate"), ("vin-2", "not-seen"), ("vin-3", "wrong-line"), ("vin-4", "wrong-line")]
    assert {d["device_id"]: d["line"] for d in said["devices"] if d["status"] == "wrong-line"} == {"vin-3": "line-2", "vin-4": None}
    # Only what the line itself says counts, and all of it.
    lines = manifest.read_text().splitlines()
    for bad in (lines[:-1], lines[:2] + lines[3:], [lines[0], lines[1].replace("vin-1", "vin-9"), *lines[2:]], [*lines, lines[-1]], [lines[0], *lines[2:]], lines[:1], ["{}"], ["nothing"],
                [*lines[:-1], json.dumps({**json.loads(lines[-1]), "at": "2030-01-01T00:00:00Z"})]):
        manifest.write_text("\n".join(bad) + "\n")
        refused("manifest_invalid", reconcile, server, manifest)
    stranger = Line(tmp_path, "odd", "line-9")
    kit = json.loads((line.dir / "kit.json").read_text())
    foreign = tmp_path / "foreign"
    shutil.copytree(other.dir, foreign)
    (foreign / "kit.json").write_text(json.dumps({**json.loads((foreign / "kit.json").read_text()), "line": "line-1", "id": kit["id"]}))
    stranger.dir = foreign
    manifest.write_text("\n".join(manifest_of(stranger)) + "\n")
    refused("manifest_invalid", reconcile, server, manifest)


def test_only_the_lines_own_devices_are_taken_out(server, tmp_path):
    line = own(server, tmp_path, "acts")
    for device in line.issue("vin-1", "vin-2"):
        come(server, device)
    assert server.gateway(server.key("acts")).enrol("stranger").status == 200
    act = lambda **body: server.api("POST", "/api/v1/accounts/acts/lines/line-1/devices", body)
    assert act(action="hold", devices=["vin-1", "stranger"]).code == "not_found"
    assert act(action="hold", devices=["vin-1", "nobody"]).code == "not_found"
    assert states(server, "acts")["vin-1"] == "active"  # all of them or none
    for body in ({"action": "revoke", "devices": ["vin-1"]}, {"action": "hold", "devices": []}, {"action": "hold", "devices": ["x"] * 1001}, {"action": "hold", "devices": "vin-1"}, {"action": "hold", "devices": ["vin-1"], "reason": "a\nb"}):
        assert act(**body).code == "invalid_request", body
    assert act(action="hold", devices=["vin-1", 7]).code == "not_found"
    assert act(action="hold", devices=["vin-1"]).json == {"action": "hold", "acted": 1, "passed": 0}
    assert act(action="hold", devices=["vin-1", "vin-2"]).json == {"action": "hold", "acted": 1, "passed": 1}
    assert server.muster("audit", "verify", "--account", "acts")["ok"]


# --- the page ----------------------------------------------------------------------------------------------------------------------------


def test_the_page_as_it_is_printed(fresh, tmp_path):
    server = fresh()
    printed = commands(PAGE)
    assert all(any(f"muster factory {verb}" in line for line in printed) for verb in ("request", "kit create", "start", "issue", "manifest", "kit list", "kit devices", "kit set", "kit revoke"))
    env = {**os.environ, "PATH": f"{MUSTER.parent}:{os.environ['PATH']}", "MUSTER_URL": server.admin_url, "MUSTER_TOKEN_FILE": str(server.dir / "admin.token"), "MUSTER_CA": str(server.dir / "server-ca.pem"), "no_proxy": "*"}
    env.pop("MUSTER_CA_DIR", None)
    close = next(i for i, line in enumerate(printed) if "--state closed" in line)
    run = lambda lines: subprocess.run(["sh", "-eu"], input="\n".join(lines) + "\n", cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    done = run(printed[:close])
    assert done.returncode == 0, done.stderr
    for i in (1, 2):
        assert come(server, identity(tmp_path / "devices" / f"vin-000{i}")).status == 404
    done = run(printed[close:])
    assert done.returncode == 0, done.stderr
    assert come(server, identity(tmp_path / "devices" / "vin-0003")).code == "factory_line_revoked"
    assert states(server, "acme") == {"vin-0001": "active", "vin-0002": "active"}


def test_a_request_of_another_line_and_files_that_are_no_kit(server, tmp_path):
    """Said before the line's key is used up, and of the file that was given."""
    server.account("mixed", "production", "shared")
    line, other = Line(tmp_path, "mixed"), Line(tmp_path, "mixed", "line-2")
    create = lambda name, of, *more: server.muster("factory", "kit", "create", "--account", "mixed", "--line", name, "--max", 5, "--id-pattern", "*", "--expires", "30d", "--request", of.request, *more)
    refused("invalid_request", create, "line-9", line)
    refused("invalid_request", create, "line-2", line)
    openssl = lambda subject: subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "of.key", "-out", tmp_path / "of.csr", "-subj", subject],
                                             check=True, capture_output=True, timeout=60)
    for subject in ("/CN=line-1", "/OU=line-1", "/O=mixed", "/O=fixed/OU=line-1", "/O=mixed/OU=line-1/OU=line-2"):
        openssl(subject)
        said = refused("invalid_request", server.muster, "factory", "kit", "create", "--account", "mixed", "--line", "line-1", "--max", 5, "--id-pattern", "*", "--expires", "30d", "--request", tmp_path / "of.csr").text
        assert "O=mixed, OU=line-1" in said and "muster factory request --account mixed --line line-1" in said
    create("line-1", line, "-o", tmp_path / "kit-1")
    create("line-2", other, "-o", tmp_path / "kit-2")
    said = refused("kit_foreign", other.run, "start", tmp_path / "kit-1").text
    assert "line-1 of the account mixed" in said and "kit show LINE -o" in said and str(tmp_path / "kit-1") in said
    for text in ("nothing", "{}", '{"format":1}', ""):
        (tmp_path / "notes").write_text(text)
        said = refused("kit_invalid", other.run, "start", tmp_path / "notes").text
        assert str(tmp_path / "notes") in said and "kit.json" not in said and "backup" not in said
    other.run("start", tmp_path / "kit-2")


# --- what a line has told before ---------------------------------------------------------------------------------------------------------

# What is changed of what was told, and what `audit verify` says of it.
TOLD = {
    "INSERT INTO line_told (line, entries, digest, at, told, continues) SELECT line, 1, randomblob(32), at, told, 0 FROM line_told WHERE MINE LIMIT 1": "was never told",
    "UPDATE line_told SET digest = randomblob(32) WHERE MINE AND entries = 2": "was never told",
    "UPDATE line_told SET entries = 1 WHERE MINE AND entries = 2": "was never told",
    "DELETE FROM line_told WHERE MINE AND entries = 4": "The log says of 4 manifests",
    "UPDATE line_told SET set_aside = 1 WHERE MINE AND entries = 4": "is set aside, and the log says otherwise",
    "UPDATE line_told SET at = at - 1 WHERE MINE AND entries = 2": "is not as the log says",
    "UPDATE line_told SET told = told - 1000 WHERE MINE AND entries = 2": "is not as the log says",
    "UPDATE line_told SET continues = 0 WHERE MINE AND entries = 3": "is not as the log says",
}


def test_what_a_line_has_told_is_not_taken_back_unnoticed(server, tmp_path):
    """A manifest has to continue those that came before it.  A fork, or an older one, is told whichever comes first, until an operator says which is the line's word."""
    line = own(server, tmp_path, "forked", max_devices=20)
    at = lambda name, of: (tmp_path / name).write_text("\n".join(manifest_of(of)) + "\n") and tmp_path / name
    line.issue("vin-1", "vin-2")
    two = at("two", line)
    thief = line.copy()
    thief.issue("vin-66", "vin-67")
    stolen = at("stolen", thief)
    first = reconcile(server, two, "--check")
    assert (first["manifest_is"], first["manifest_detail"], first["manifest_recorded"], first["entries"], first["told_before"]) == ("continues", None, True, 2, None)
    extra = identity(pathlib.Path(line.issue("vin-3") and next(tmp_path.glob("out-*/vin-3"))))
    three, log = at("three", line), lambda: [e for e in server.muster("audit", "list", "--account", "forked") if e["action"] == "line.manifest"]
    assert reconcile(server, three)["manifest_is"] == "continues" and [e["detail"]["entries"] for e in log()] == [2, 3]
    assert reconcile(server, three)["manifest_is"] == "continues" and len(log()) == 2  # nothing that was not known

    # An older one: no devices are taken out by it, and a monitor is told.
    old = reconcile(server, two)
    assert (old["manifest_is"], old["told_before"]["entries"]) == ("shorter", 3) and "one of 3 was told" in old["manifest_detail"]
    refused("not_reconciled", reconcile, server, two, "--check")
    # The thief's: as long as he likes.  What it does not know of is none the less not taken out by its word.
    come(server, extra)
    fork = reconcile(server, stolen)
    assert (fork["manifest_is"], fork["told_before"]["entries"], fork["told_before"]["set_aside"]) == ("contradicts", 3, False)
    assert "entry 3 differs" in fork["manifest_detail"] and ("vin-3", "not-built") in of(fork)
    refused("manifest_contradicted", reconcile, server, stolen, "--quarantine", "--yes")
    assert states(server, "forked") == {"vin-3": "active"}
    # Whoever comes then contradicts the other, the line's own too: nobody but an operator knows which is which.
    back = reconcile(server, three)
    assert (back["manifest_is"], back["told_before"]["entries"]) == ("shorter", 4)
    line.issue("vin-4", "vin-5")
    five = at("five", line)
    assert "one of the entries 3 to 4 differs" in reconcile(server, five)["manifest_detail"]
    plain = subprocess.run([MUSTER, "--data", server.dir, "factory", "reconcile", five], capture_output=True, text=True, timeout=60, check=True)
    assert "manifest_is: contradicts" in plain.stdout and plain.stderr.startswith("warning: The manifest contradicts what was told on ")
    # Each is in the audit log, and in the list, whatever becomes of it.
    assert [e["detail"]["verdict"] for e in log()] == [*["continues"] * 2, *["shorter"] * 2, *["contradicts"] * 2, "shorter", *["contradicts"] * 2]
    assert log()[4]["detail"]["told"]["entries"] == 3 and all(e["actor"].startswith("token:") for e in log())

    # An operator says which: after what is set aside was shown.
    refused("confirmation_required", reconcile, server, five, "--accept-manifest")
    said = reconcile(server, five, "--accept-manifest", "--yes", "--check")
    assert (said["manifest_is"], said["manifest_accepted"]) == ("contradicts", True)
    assert [(t["entries"], t["set_aside"]) for t in server.muster("factory", "kit", "manifests", "line-1", "--account", "forked")] == [(5, False), (4, True), (3, False), (2, False)]
    assert reconcile(server, five, "--check")["manifest_is"] == "continues"
    assert log()[-1]["detail"]["set_aside"] == 1
    # Told once more, what was set aside is a fork again.
    assert reconcile(server, stolen)["manifest_is"] == "contradicts" and reconcile(server, five)["manifest_is"] == "contradicts"
    assert server.muster("audit", "verify", "--account", "forked")["ok"]
    # Who can write the registry, as a captured gateway, makes no line contradict itself, and hides no fork.
    mine = "line = (SELECT line.id FROM line JOIN account ON account.id = line.account WHERE account.name = 'forked')"
    for forged, said in TOLD.items():
        with contextlib.closing(sqlite3.connect(server.dir / "registry.db", timeout=30, isolation_level=None)) as db:
            before = db.execute(f"SELECT * FROM line_told WHERE {mine}").fetchall()
            assert db.execute(forged.replace("MINE", mine)).rowcount == 1, forged
            verdict = refused("storage_corrupt", server.muster, "audit", "verify", "--account", "forked").text
            db.execute(f"DELETE FROM line_told WHERE {mine}")
            db.executemany(f"INSERT INTO line_told VALUES ({', '.join('?' * len(before[0]))})", before)
        assert "does not verify" in verdict and said in verdict, (forged, verdict)
    assert server.muster("audit", "verify", "--account", "forked")["ok"]


def test_what_was_set_aside_stays_a_contradiction(server, tmp_path):
    """Also where it is just longer than the line's word, and contradicts none of it: a copy that went on from there."""
    line = own(server, tmp_path, "aside", max_devices=20)
    at = lambda name, of: (tmp_path / name).write_text("\n".join(manifest_of(of)) + "\n") and tmp_path / name
    line.issue("vin-1")
    one, thief = at("one", line), line.copy()
    thief.issue("vin-66")
    stolen = at("stolen", thief)
    assert reconcile(server, stolen)["manifest_is"] == "continues"
    assert reconcile(server, one, "--accept-manifest", "--yes")["manifest_is"] == "shorter"
    thief.issue("vin-67")
    more = at("more", thief)
    for manifest in (stolen, more, stolen, more):
        said = reconcile(server, manifest)
        assert said["manifest_is"] == "contradicts" and said["told_before"]["set_aside"] and "was set aside" in said["manifest_detail"]
        refused("manifest_contradicted", reconcile, server, manifest, "--hold", "--yes")
        assert reconcile(server, one, "--check")["manifest_is"] == "continues"
    line.issue("vin-2")
    two = at("two", line)
    assert reconcile(server, two, "--check")["manifest_is"] == "continues"
    assert server.muster("audit", "verify", "--account", "aside")["ok"]
    # It was the other way round after all, and goes on so.
    said = reconcile(server, more, "--accept-manifest", "--yes")
    assert (said["manifest_is"], said["manifest_accepted"]) == ("contradicts", True)
    thief.issue("vin-68")
    for manifest in (more, at("still", thief)):
        assert reconcile(server, manifest, "--check")["manifest_is"] == "continues"
    assert reconcile(server, two)["manifest_is"] == "contradicts" and server.muster("audit", "verify", "--account", "aside")["ok"]


def test_a_fork_that_was_shorter_is_found_when_the_line_goes_on(server, tmp_path):
    """A copy's manifest that is shorter than what was told could be an old one of the line's: the next one shows that it is none."""
    line = own(server, tmp_path, "later", max_devices=20)
    at = lambda name, of: (tmp_path / name).write_text("\n".join(manifest_of(of)) + "\n") and tmp_path / name
    line.issue("vin-1")
    thief = line.copy()
    thief.issue("vin-66")
    line.issue("vin-2", "vin-3")
    assert reconcile(server, at("three", line))["manifest_is"] == "continues"
    assert reconcile(server, at("two", thief))["manifest_is"] == "shorter"
    line.issue("vin-4")
    said = reconcile(server, at("four", line))
    assert (said["manifest_is"], said["told_before"]["entries"]) == ("contradicts", 2) and "one of the entries 1 to 2 differs" in said["manifest_detail"]


def test_what_a_line_tells_is_signed_by_it_and_kept_by_who_may(server, tmp_path):
    line = own(server, tmp_path, "signed", max_devices=20)
    line.issue("vin-1")
    end = json.loads(manifest_of(line)[-1])
    good = {"entries": 1, "at": end["at"], "digest": end["previous"], "signature": end["signature"], "digests": []}
    path = "/api/v1/accounts/signed/lines/line-1/manifests"
    for change in ({"entries": 2}, {"digest": "0" * 64}, {"at": "2030-01-01T00:00:00Z"}, {"signature": good["signature"][::-1]}):
        answer = server.api("POST", path, {**good, **change})
        assert (answer.status, answer.code) in ((400, "manifest_invalid"), (400, "invalid_request")), change
    assert server.muster("factory", "kit", "manifests", "line-1", "--account", "signed") == []
    for bad in ({"digests": [{"entries": 1}]}, {"digests": "none"}, {"digest": "ab"}, {"entries": -1}, {"accept": 1}):
        assert server.api("POST", path, {**good, **bad}).code in ("invalid_request", "invalid_json"), bad
    auditor = server.muster("token", "create", "looks", "--role", "auditor", "--account", "signed")["token"]
    assert server.api("POST", path, good, token=auditor).code == "role_insufficient"
    looked = server.api("POST", path + "/check", good, token=auditor).json
    assert (looked["verdict"], looked["recorded"]) == ("continues", False) and server.muster("factory", "kit", "manifests", "line-1", "--account", "signed") == []
    assert server.api("POST", path, good).json["recorded"] and len(server.muster("factory", "kit", "manifests", "line-1", "--account", "signed")) == 1
    # What was told in the meantime has to be known.
    line.issue("vin-2")
    end = json.loads(manifest_of(line)[-1])
    more = {"entries": 2, "at": end["at"], "digest": end["previous"], "signature": end["signature"], "digests": []}
    assert server.api("POST", path, more).code == "wrong_state"
    assert server.api("POST", path, {**more, "digests": [{"entries": 1, "digest": good["digest"]}]}).json["verdict"] == "continues"

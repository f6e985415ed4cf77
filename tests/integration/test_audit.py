"""The audit log: what is in it, that tampering with it shows, what leaves the vault, and the clock it rests on."""
import hashlib
import json
import os
import sqlite3
import stat
import struct
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from client import Device, Fleet, spki_hash
from conftest import Refused, Server, refused, soon


def verify(s, account=None, *options):
    """The report of `audit verify`, whether the log is good or not."""
    where = ["--account", account] if account else []
    try:
        return s.muster("audit", "verify", *where, *options)
    except Refused as said:
        assert said.code == "storage_corrupt", said.text
        answer = s.api("POST", f"/api/v1/accounts/{account}/audit/verify" if account else "/api/v1/audit/verify", {})
        return answer.json


def head(s, account=None):
    shown = s.muster("audit", "head", *(["--account", account] if account else []))
    path = s.dir.parent / f"head-{time.monotonic_ns()}.json"
    path.write_text(json.dumps(shown), encoding="utf-8")
    return shown, path


@pytest.fixture
def s(fresh):
    """A server with an account and some entries."""
    s = fresh()
    s.account("a", "test", "both")
    for yes in ("yes", "no", "yes", "no"):
        s.muster("account", "set", "a", "--approval", yes)
    return s


# --- what is in it -------------------------------------------------------------------------------------------------------------------------


def test_every_change_is_an_entry(s):
    fleet, key = s.root("a"), s.key("a", "--name", "k")
    made = Device(s.gateway(key).enrol("made").body)
    assert s.gateway(made).ecus().status == 201
    assert s.gateway(fleet.device("own")).ecus().status == 201
    for verb in ("quarantine", "release", "revoke"):
        s.muster("device", verb, "made", "--account", "a")
    s.muster("key", "set", key.shown["id"], "--max-devices", "9")
    s.muster("key", "blacklist", key.shown["id"])
    refused("wrong_state", s.muster, "device", "approve", "made", "--account", "a")  # what was refused is no entry
    entries = s.muster("audit", "list", "--account", "a")
    assert [e["action"] for e in entries][5:] == ["root.upload", "root.prove", "key.create", "device.enrol", "device.first_use", "device.first_contact",
                                                  "device.quarantine", "device.release", "device.revoke", "key.set", "key.blacklist"]
    assert [e["seq"] for e in entries] == list(range(1, len(entries) + 1))
    assert all(e["at"].endswith("Z") and e["actor"] and e["chain"] == "a" and len(e["hash"]) == 64 for e in entries)
    enrolled = [e for e in entries if e["action"] == "device.enrol"][0]
    assert (enrolled["object"], enrolled["actor"]) == ("made", "key:k")
    assert s.muster("audit", "list", "--account", "a", "--from", "6") == entries[5:]
    assert verify(s, "a") | {"head": None, "signed_heads": None} == {"id": "a", "ok": True, "entries": len(entries), "first_bad": None, "reason": None, "head": None, "signed_heads": None, "devices": 2,
                                                                       "certificates": 1}
    # The hashes can be checked by anybody: SHA-256 over the hash before and the fields.
    assert chain_of(s, "a") == [bytes.fromhex(e["hash"]) for e in entries]


def chain_of(s, account):
    """The chain's hashes, computed here."""
    db = sqlite3.connect(f"file:{s.dir}/registry.db?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    rows = db.execute("SELECT audit.* FROM audit JOIN account ON account.id = chain WHERE name = ? ORDER BY seq", (account,)).fetchall()
    db.close()
    return rehash(rows)


def rehash(rows):
    before, out = bytes(32), []
    for r in rows:
        texts = [r[k].encode() for k in ("actor", "action", "object", "detail")]
        before = hashlib.sha256(before + struct.pack(">QQ", r["seq"], r["at"]) + b"".join(struct.pack(">I", len(t)) + t for t in texts)).digest()
        out.append(before)
    return out


def test_the_server_s_chain_anchors_the_accounts(s):
    shown, _ = head(s, "a")
    anchors = [e for e in s.muster("audit", "list") if e["action"] == "audit.anchor"]
    assert anchors and anchors[-1]["detail"]["a"] == {"seq": shown["seq"], "hash": shown["hash"]}
    assert verify(s)["ok"] is True
    server, path = head(s)
    assert server["chain"] == "server"
    assert s.muster("audit", "verify", "--head", path)["ok"] is True


# --- heads ----------------------------------------------------------------------------------------------------------------------------------


def test_a_head_kept_elsewhere(s):
    shown, path = head(s, "a")
    assert (shown["chain"], shown["seq"]) == ("a", 5)
    s.muster("account", "set", "a", "--approval", "yes")
    assert s.muster("audit", "verify", "--account", "a", "--head", path)["ok"] is True
    for change in ({"hash": "0" * 64}, {"seq": 3}, {"signed_at": shown["signed_at"] + 1}, {"chain": "b"}, {"signature": shown["signature"][::-1]}):
        path.write_text(json.dumps(shown | change), encoding="utf-8")
        with pytest.raises(Refused):
            s.muster("audit", "verify", "--account", "a", "--head", path)


def test_the_vault_s_signature_can_be_checked_by_anybody(s):
    shown, _ = head(s, "a")
    second, _ = head(s, "a")
    assert shown["key"] == second["key"] and shown["hash"] == second["hash"]
    s.stop()
    s.start()
    assert head(s, "a")[0]["key"] == shown["key"]


# --- tampering ------------------------------------------------------------------------------------------------------------------------------


def sql(s, statement, *values, db="registry.db"):
    d = s.database(db)
    d.execute(statement, values)
    d.close()


CHANGES = {
    "an entry's detail": ("UPDATE audit SET detail = replace(detail, 'test', 'best') WHERE seq = 3", 3),
    "an entry's actor": ("UPDATE audit SET actor = 'token:nobody' WHERE seq = 2", 2),
    "an entry's time": ("UPDATE audit SET at = at - 1 WHERE seq = 4", 4),
    "an entry's action": ("UPDATE audit SET action = 'account.show' WHERE seq = 4", 4),
    "an entry's object": ("UPDATE audit SET object = 'b' WHERE seq = 1", 1),
    "an entry's hash": ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 2", 2),
    "an entry in the middle is gone": ("DELETE FROM audit WHERE seq = 3", 3),
    "the first entry is gone": ("DELETE FROM audit WHERE seq = 1", 1),
    "the last entry is gone": ("DELETE FROM audit WHERE seq = 5", 5),
    "the end is gone": ("DELETE FROM audit WHERE seq > 2", 3),
    "everything is gone": ("DELETE FROM audit WHERE seq > 0", 1),
    "the head": ("UPDATE audit_head SET hash = zeroblob(32) WHERE seq > 0", 6),
    "the head is behind": ("UPDATE audit_head SET seq = 4 WHERE seq > 0", 6),
}


@pytest.fixture(scope="module")
def tampered(tmp_path_factory):
    """One server, an account a change: all of them made while it was stopped, and one account that was left alone."""
    s = Server(tmp_path_factory.mktemp("tampered") / "data").start()
    s.names = {what: f"change-{i}" for i, what in enumerate(CHANGES)}
    for account in (*s.names.values(), "untouched"):
        s.account(account, "test", "device")
        for yes in (True, False, True, False):
            s.api("PATCH", f"/api/v1/accounts/{account}", {"approval": yes})
        assert verify(s, account)["entries"] == 5
    assert s.stop() == 0
    for what, (statement, _) in CHANGES.items():
        sql(s, f"{statement} AND chain = (SELECT id FROM account WHERE name = ?)", s.names[what])
    yield s.start()
    s.stop()


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_to_the_database_is_found(tampered, what):
    account, first = tampered.names[what], CHANGES[what][1]
    said = verify(tampered, account)
    assert (said["ok"], said["first_bad"]) == (False, first) and said["reason"]
    assert said["reason"] in refused("storage_corrupt", tampered.muster, "audit", "verify", "--account", account).text


def test_a_log_beside_them_is_still_good(tampered):
    assert verify(tampered, "untouched")["ok"] is True


def rewrite(s, account="a", cut=None, edit=None):
    """What somebody does who knows the chain: every hash after the change is made anew, and the head with them."""
    db = s.database()
    db.row_factory = sqlite3.Row
    number = db.execute("SELECT id FROM account WHERE name = ?", (account,)).fetchone()["id"]
    if cut is not None:
        db.execute("DELETE FROM audit WHERE chain = ? AND seq > ?", (number, cut))
    if edit:
        db.execute("UPDATE audit SET actor = 'token:mallory' WHERE chain = ? AND seq = ?", (number, edit))
    rows = db.execute("SELECT * FROM audit WHERE chain = ? ORDER BY seq", (number,)).fetchall()
    hashes = rehash(rows)
    for r, h in zip(rows, hashes):
        db.execute("UPDATE audit SET hash = ? WHERE chain = ? AND seq = ?", (h, number, r["seq"]))
    db.execute("UPDATE audit_head SET seq = ?, hash = ? WHERE chain = ?", (rows[-1]["seq"], hashes[-1], number))
    db.close()


@pytest.mark.parametrize("change", [{"cut": 3}, {"edit": 2}, {"edit": 5}])
def test_a_chain_made_anew_does_not_fit_the_signed_heads(s, change):
    head(s, "a")
    assert s.stop() == 0
    rewrite(s, **change)
    s.start()
    assert verify(s, "a")["ok"] is False
    s.muster("account", "set", "a", "--approval", "yes")  # going on does not heal it
    assert verify(s, "a")["ok"] is False


@pytest.mark.parametrize("change", [{"cut": 3}, {"edit": 2}])
def test_the_server_s_chain_shows_it_where_the_signed_heads_are_gone_too(s, change):
    head(s, "a")
    assert s.stop() == 0
    rewrite(s, **change)
    sql(s, "DELETE FROM audit_signed WHERE chain = 'a'", db="control.db")
    s.start()
    said = verify(s)
    assert said["ok"] is False and "a" in said["reason"]


def test_a_head_kept_elsewhere_shows_what_nothing_on_the_server_can(s):
    _, path = head(s, "a")
    assert s.stop() == 0
    rewrite(s, edit=2)
    for statement in ("DELETE FROM audit_signed", "DELETE FROM audit", "DELETE FROM audit_head"):
        sql(s, statement, db="control.db")
    s.start()
    with pytest.raises(Refused) as said:
        s.muster("audit", "verify", "--account", "a", "--head", path)
    assert said.value.code == "storage_corrupt"


def test_an_old_copy_of_the_registry_is_found(s):
    assert s.stop() == 0
    old = {p.name: p.read_bytes() for p in s.dir.glob("registry.db*")}
    s.start()
    key = s.key("a")
    assert s.gateway(Device(s.gateway(key).enrol("lost").body)).ecus().status == 201
    _, kept = head(s, "a")
    assert s.stop() == 0
    for path in s.dir.glob("registry.db-*"):
        path.unlink()
    for name, data in old.items():
        (s.dir / name).write_bytes(data)
    owner = os.stat(s.dir / "control.db")
    for path in s.dir.glob("registry.db*"):
        os.chown(path, owner.st_uid, owner.st_gid)
    s.start()
    said = verify(s, "a")
    assert said["ok"] is False and said["reason"]
    assert refused("storage_corrupt", s.muster, "audit", "verify", "--account", "a", "--head", kept)


def test_the_server_s_own_chain_is_checked_as_well(s):
    s.token("x", "auditor")
    assert verify(s)["ok"] is True
    assert s.stop() == 0
    sql(s, "UPDATE audit SET actor = 'token:nobody' WHERE seq = 2", db="control.db")
    s.start()
    assert verify(s)["first_bad"] == 2


def test_a_forged_signature_is_found(s):
    head(s, "a")
    assert s.stop() == 0
    sql(s, "UPDATE audit_signed SET signature = zeroblob(64) WHERE chain = 'a'", db="control.db")
    s.start()
    said = verify(s, "a")
    assert said["ok"] is False and "signature" in said["reason"]


# --- what leaves the vault --------------------------------------------------------------------------------------------------------------------


def test_vault_export(s):
    out, passphrase = s.dir.parent / "root.pem", s.dir.parent / "passphrase"
    passphrase.write_text("correct horse battery\nnot this line\n", encoding="utf-8")
    passphrase.chmod(0o600)
    done = s.musterd("vault", "export", "--account", "a", "--passphrase-file", passphrase, "-o", out)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    pem = out.read_bytes()
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in pem and b"BEGIN PRIVATE KEY" not in pem
    blocks = [b"-----BEGIN" + part for part in pem.split(b"-----BEGIN")[1:]]
    key = load_pem_private_key([b for b in blocks if b"PRIVATE" in b][0], b"correct horse battery")
    cert = x509.load_pem_x509_certificate([b for b in blocks if b"PRIVATE" not in b][0])
    root = [r for r in s.muster("root", "list", "--account", "a") if r["origin"] == "muster"][0]
    assert spki_hash(key) == root["spki"]
    assert key.public_key().public_numbers() == cert.public_key().public_numbers()
    # Whoever has it can sign what the registry does not hold: that gets nobody in.
    fleet = Fleet()
    fleet.key, fleet.cert = key, cert
    assert s.gateway(fleet.device("forged")).get("/director/2.root.json").code == "certificate_unknown"
    refused("not_found", s.muster, "device", "show", "forged", "--account", "a")
    # With openssl alone.
    opened = subprocess.run(["openssl", "pkey", "-in", out, "-passin", "pass:correct horse battery", "-noout", "-text"], capture_output=True, text=True, check=False)
    assert opened.returncode == 0 and "NIST CURVE: P-256" in opened.stdout
    assert subprocess.run(["openssl", "pkey", "-in", out, "-passin", "pass:wrong horse", "-noout"], capture_output=True, check=False).returncode != 0
    # Recorded in both logs, without the passphrase anywhere.
    for entries in (s.muster("audit", "list", "--account", "a"), s.muster("audit", "list")):
        recorded = [e for e in entries if e["action"] == "root.export_key"]
        assert [e["object"] for e in recorded] == ["a"] and recorded[0]["detail"]["uid"] == os.getuid()
        assert "correct horse" not in json.dumps(entries)
    assert "correct horse" not in s.log_text() and "PRIVATE" not in s.log_text()
    # Nothing is written over, and what was refused is not recorded.
    count = len(s.muster("audit", "list", "--account", "a"))
    short = s.dir.parent / "short"
    short.write_text("short\n", encoding="utf-8")
    short.chmod(0o600)
    again = s.dir.parent / "again.pem"
    for options in (["--account", "a", "--passphrase-file", passphrase, "-o", out], ["--account", "a", "--passphrase-file", short, "-o", again],
                    ["--account", "none", "--passphrase-file", passphrase, "-o", again]):
        assert s.musterd("vault", "export", *options).returncode == 1
        assert not again.exists()
    assert len(s.muster("audit", "list", "--account", "a")) == count


def test_an_account_without_a_root_of_muster_s_has_nothing_to_export(s):
    s.account("dev", "test", "device")
    passphrase = s.dir.parent / "passphrase"
    passphrase.write_text("correct horse battery\n", encoding="utf-8")
    passphrase.chmod(0o600)
    done = s.musterd("vault", "export", "--account", "dev", "--passphrase-file", passphrase, "-o", s.dir.parent / "none.pem")
    assert done.returncode == 1
    passphrase.chmod(0o644)
    assert s.musterd("vault", "export", "--account", "a", "--passphrase-file", passphrase, "-o", s.dir.parent / "none.pem").returncode == 1
    assert not (s.dir.parent / "none.pem").exists()


# --- the clock --------------------------------------------------------------------------------------------------------------------------------


def run_ahead(s, seconds):
    """As if the log had been written with a clock that ran ahead."""
    assert s.stop() == 0
    newest = int(time.time()) + seconds
    for db in ("registry.db", "control.db"):
        sql(s, "UPDATE meta SET value = ? WHERE name = 'newest'", newest, db=db)
    s.start()


def test_nothing_is_issued_while_the_clock_is_behind_the_log(s):
    key, fleet = s.key("a"), s.root("a")
    device = Device(s.gateway(key).enrol("before").body)
    assert s.gateway(device).ecus().status == 201
    run_ahead(s, 290)  # within the five minutes
    assert s.gateway(key).enrol("within").status == 200
    run_ahead(s, 3600)
    for _ in range(2):
        answer = s.gateway(key).enrol("behind")
        assert (answer.status, answer.code) == (503, "clock_behind"), answer
        assert int(answer.headers["Retry-After"]) > 0 and "clock is behind" in answer.json["description"]
    assert "seconds behind the newest entry" in refused("clock_behind", s.key, "a").text
    assert s.api("POST", "/api/v1/accounts/a/keys", {}).status == 503
    # Devices that are enrolled are not affected, nor is reading.
    assert s.gateway(device).get("/director/2.root.json").status == 404
    assert s.gateway(fleet.device("own")).get("/director/2.root.json").status == 404
    assert s.muster("device", "list", "--account", "a")
    refused("not_found", s.muster, "device", "show", "behind", "--account", "a")
    # An operator says that the clock is right.
    done = s.musterd("clock", "accept")
    assert done.returncode == 0, done.stderr
    soon(200, lambda: s.gateway(key).enrol("after").status)
    assert s.key("a").shown["state"] == "active"
    entry = [e for e in s.muster("audit", "list") if e["action"] == "clock.accept"]
    assert len(entry) == 1 and entry[0]["actor"] == "console" and entry[0]["detail"]["log_was_at"]
    assert verify(s)["ok"] is True and verify(s, "a")["ok"] is True


def test_it_goes_on_by_itself_once_the_clock_has_caught_up(s):
    key = s.key("a")
    run_ahead(s, 300 + 3)
    assert s.gateway(key).enrol("d").code == "clock_behind"
    soon(200, lambda: s.gateway(key).enrol("d").status, 5)
    assert "clock.accept" not in [e["action"] for e in s.muster("audit", "list")]


def served(s, name="localhost"):
    return s.gateway(sni=name).connect().getpeercert(True)


def test_nothing_is_renewed_while_the_clock_is_behind_but_what_the_gateway_cannot_be_without(s):
    """Certificates that are only due wait; one that is missing does not."""
    s.account("behind", "test", "shared")
    s.host("behind")
    run_ahead(s, 3600)
    before = served(s)
    assert s.stop() == 0
    # Due: the host's list of names has grown.
    with open(s.dir / "musterd.conf", "a", encoding="utf-8") as f:
        f.write("host = localhost other.example\n")
    (s.dir / "tls" / "behind.account.pem").unlink()
    s.start()
    assert served(s) == before
    assert "certificates_wait" in s.log_text()
    s.hosts.clear()
    s.host("behind")  # was missing, and is there again
    assert refused("clock_behind", s.muster, "account", "create", "new", "--kind", "test", "--method", "shared")
    assert s.musterd("clock", "accept").returncode == 0
    assert s.stop() == 0
    s.start()
    assert served(s) != before

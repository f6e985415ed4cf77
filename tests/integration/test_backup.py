"""A server that is lost comes back from its backup: it knows its devices, forgets nothing that it promised, and issues nothing until an
operator says so; and whatever is wrong with the file or the place, nothing is written."""
import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from client import Device, Fleet, new_key
from clock import Clock, ahead
from conftest import LONG, MUSTERD, Server, refused, soon
from enrolment import ask, retry_after
from est import Device as Renewed
from est import basic, certificates, csr, post
from test_factory import manifest_of, of, own, reconcile

SECRET = "a passphrase that is long enough"
PIECE = 65536 + 17


@pytest.fixture
def at(tmp_path):
    """Paths of the test's own, and what opens its backups."""
    (tmp_path / "secret").write_text(SECRET + "\n", encoding="utf-8")
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


def backup(server, at, name="backup", *options, ok=True):
    file = at / name
    done = server.musterd("backup", "-o", file, "--passphrase-file", at / "secret", "--json", *options)
    assert not ok or done.returncode == 0, done.stderr
    return (file, json.loads(done.stdout)) if ok else done


def restore(file, directory, at, *options, secret="secret", **more):
    return subprocess.run([MUSTERD, "restore", file, "--data", directory, "--passphrase-file", at / secret, "--json", *options],
                          capture_output=True, text=True, timeout=120, check=False, **more)


class Restored(Server):
    """A server on a restored directory, with the ports of the one that was lost."""

    def __init__(self, file, directory, at, lost):
        done = restore(file, directory, at)
        assert done.returncode == 0, done.stderr
        self.said = json.loads(done.stdout)
        self.dir, self.process, self.hosts, self.ports = directory, None, set(), lost.ports
        self.log = open(self.dir.parent / (self.dir.name + ".log"), "a", encoding="utf-8")


@pytest.fixture
def back(at):
    made = []

    def make(file, lost, name="restored", start=True):
        s = Restored(file, at / name, at, lost)
        made.append(s)
        return s.start() if start else s

    yield make
    for s in made:
        s.stop()


def enrolled(server, key, device_id):
    device = Device(server.gateway(key).enrol(device_id).body)
    assert ask(server, device) is None
    return device


def problem(answer): return (answer.status, answer.code)


def actions(server, *of): return [e["action"] for e in server.muster("audit", "list", *of) if e["action"] != "audit.anchor"]


RECOVERY = (503, "recovery")


def test_a_restored_server_knows_its_devices_and_issues_nothing_until_it_is_told(fresh, at, back):
    s = fresh()
    s.account("acme", "test", "both")
    key = s.key("acme")
    fleet = s.root("acme")
    known, own = enrolled(s, key, "known"), fleet.device("own")
    assert ask(s, own) is None
    code = s.muster("device", "invite", "awaited", "--account", "acme")["code"]
    file, said = backup(s, at)
    assert oct(file.stat().st_mode & 0o777) == "0o600" and said["bytes"] == file.stat().st_size and said["master_key"] is True and said["to"] == "passphrase"
    assert actions(s)[-1] == "server.backup" and not list(at.glob("*.part"))
    lost = enrolled(s, key, "later")
    s.stop()

    r = back(file, s)
    assert r.said["id"] == said["id"] and r.said["made"] == said["made"] and r.said["recovery"] is True
    status = r.muster("status")
    assert status["recovery"] == {"state": "recovery", "since": status["recovery"]["since"], "backup_made": said["made"]}
    (item,) = [a for a in status["attention"] if a["what"] == "recovery"]
    assert item["level"] == "critical" and item["command"] == "muster recovery show" and not status["ok"]
    assert r.muster("recovery", "show")["state"] == "recovery"
    # Who is known goes on.
    assert ask(r, known) is None and ask(r, own) is None
    # Nothing is issued, and nobody comes in who is not known.
    gateway = r.gateway(key)
    answer = gateway.enrol("new")
    assert problem(answer) == RECOVERY and retry_after(answer) == 300
    assert problem(post(gateway, "simpleenroll", csr(new_key()), "acme")) == RECOVERY
    assert problem(post(r.gateway(), "simpleenroll", csr(new_key()), "acme", **basic("awaited", code))) == RECOVERY
    assert problem(post(r.gateway(known), "simplereenroll", csr(new_key(), "known"), "acme")) == RECOVERY
    assert ask(r, fleet.device("stranger")) == "recovery"
    assert ask(r, lost) == "recovery_pending"
    explained = r.api("POST", "/api/v1/accounts/acme/explain", {"chain": key.cert_file.read_text(encoding="utf-8")}).json
    assert (explained["verdict"], explained["code"]) == ("refused", "recovery")
    assert {d["device_id"] for d in r.muster("device", "list", "--account", "acme")} == {"known", "own"}
    # The record tells of both, and holds.
    assert actions(r)[-3:] == ["server.backup", "server.restore", "token.reset"]
    (entry,) = [e for e in r.muster("audit", "list", "--account", "acme") if e["action"] == "server.restore"]
    assert entry["detail"] == {"backup": said["id"], "made": said["made"]} and entry["actor"] == "console"
    assert r.muster("audit", "verify")["ok"] is True
    # A restart changes nothing.
    r.stop()
    r.start()
    assert problem(r.gateway(key).enrol("new")) == RECOVERY

    assert "enrol again: 1. Invitations that open again, spent or withdrawn since the backup or not: 1. " in refused("confirmation_required", r.muster, "recovery", "finish").text
    assert r.api("POST", "/api/v1/recovery/finish", {"confirm": 2}).code == "confirmation_required"  # and the one that is held
    count = r.api("POST", "/api/v1/recovery/finish", {}).json["count"]
    assert r.api("POST", "/api/v1/recovery/finish", {"confirm": count}).json["state"] == "none"
    assert r.gateway(key).enrol("first").status == 200, "from the moment of the answer"
    assert ask(r, lost) == "certificate_unknown"
    assert r.muster("status")["recovery"]["state"] == "none" and r.muster("status")["ok"]
    assert enrolled(r, key, "new") and ask(r, fleet.device("stranger")) is None
    assert post(r.gateway(), "simpleenroll", csr(new_key(), "awaited"), "acme", **basic("awaited", code)).status == 200
    refused("wrong_state", r.muster, "recovery", "finish")
    assert "recovery.finish" in actions(r)
    assert r.muster("audit", "verify")["ok"] is True
    # Whenever the gateway looked last.
    for turn in range(4):
        with contextlib.closing(sqlite3.connect(r.dir / "registry.db", timeout=30)) as db, db:
            db.execute("UPDATE meta SET value = 1 WHERE name = 'recovery'")
            db.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
        soon(503, lambda: r.gateway(key).enrol(f"until-{time.monotonic_ns()}").status)
        count = r.api("POST", "/api/v1/recovery/finish", {}).json["count"]
        assert r.api("POST", "/api/v1/recovery/finish", {"confirm": count}).status == 200
        assert r.gateway(key).enrol(f"turn-{turn}").status == 200, turn


def test_recovery_is_ended_by_owners_alone(fresh, at, back):
    s = fresh()
    s.account("acme", "test", "shared")
    file, _ = backup(s, at)
    s.stop()
    r = back(file, s)
    token = kept(at, r.token("not enough", "operator"))
    refused("role_insufficient", r.muster, "recovery", "finish", token_file=token)
    assert r.muster("recovery", "show", token_file=token)["state"] == "recovery"


def kept(at, token):
    file = at / token["id"]
    file.write_text(token["token"] + "\n", encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("keep", [False, True])
def test_no_token_of_the_backup_opens_the_restored_server(fresh, at, back, keep):
    """Which of them were revoked since nobody knows: the owners' are gone, the others wait for the end and for an owner's word."""
    s = fresh()
    owner, operator = kept(at, s.token("stolen laptop", "owner")), kept(at, s.token("desk", "operator"))
    shutil.copy(s.dir / "admin.token", at / "first")
    file, _ = backup(s, at)
    s.stop()
    r = back(file, s)
    assert oct((r.dir / "admin.token").stat().st_mode & 0o777) == "0o600" and (r.dir / "admin.token").read_text() != (at / "first").read_text()
    for token in (owner, operator, at / "first"):
        refused("token_invalid", r.muster, "whoami", token_file=token)
        refused("token_invalid", r.muster, "recovery", "finish", "--yes", token_file=token)
    new = kept(at, r.token("new", "operator"))
    r.muster("recovery", "finish", "--yes", *(["--keep-tokens"] if keep else []))
    for token in (owner, at / "first"):
        refused("token_invalid", r.muster, "whoami", token_file=token)
    if keep:
        assert r.muster("whoami", token_file=operator)["role"] == "operator"
    else:
        refused("token_invalid", r.muster, "whoami", token_file=operator)
    assert r.muster("whoami", token_file=new)["role"] == "operator"
    (entry,) = [e for e in r.muster("audit", "list") if e["action"] == "recovery.finish"]
    assert entry["detail"] == {"tokens_revoked": 0 if keep else 1}
    assert r.muster("audit", "verify")["ok"] is True


# --- no identity changes --------------------------------------------------------------------------------------------------------------------------


def device_of(server, device_id): return server.muster("device", "show", device_id, "--account", "acme")


def test_a_certificate_that_was_void_since_takes_no_device_over(fresh, at, back):
    """What was issued and not used at the backup may be void by now, as the lost server knew."""
    s = fresh()
    s.account("acme", "test", "shared")
    key = s.key("acme")
    stolen = Device(s.gateway(key).enrol("car").body)
    used = enrolled(s, key, "renewing")
    own = new_key()
    (cert,) = certificates(post(s.gateway(used), "simplereenroll", csr(own, "renewing")))
    in_hand = Renewed(own, cert)
    file, _ = backup(s, at)
    time.sleep(0.6)  # between two answers that nobody used
    real = enrolled(s, key, "car")
    assert ask(s, stolen) == "certificate_void"
    s.stop()
    r = back(file, s)
    before, renewing = device_of(r, "car"), device_of(r, "renewing")
    answer = r.gateway(stolen).get("/x")
    assert problem(answer) == RECOVERY and retry_after(answer) == 300
    assert device_of(r, "car") == before
    # The renewal that a known device has in hand lets it in, and changes nothing either.
    assert ask(r, in_hand) is None and ask(r, used) is None
    assert device_of(r, "renewing")["certificate"] == renewing["certificate"]
    assert ask(r, real) == "recovery_pending"
    assert r.muster("recovery", "admit", "--yes")["admitted"] == 1
    soon(None, lambda: ask(r, real))
    assert ask(r, stolen) == "certificate_void"
    r.muster("recovery", "finish", "--yes")
    assert ask(r, in_hand) is None and r.muster("audit", "verify")["ok"] is True


def test_a_key_that_was_accepted_or_announced_before_changes_no_device(fresh, at, back):
    """An acceptance or an announcement may be withdrawn by now."""
    s = fresh()
    s.account("acme", "test", "device", "--expected-only", "yes")
    fleet = s.root("acme")
    asking = s.root("acme", None, "--key-rule", "ask")
    waits, old, new = fleet.device("waits"), asking.device("asks"), asking.device("asks")
    assert ask(s, waits) == "device_unexpected" and ask(s, old) == "device_unexpected"
    s.muster("device", "approve", "asks", "--account", "acme")
    soon(None, lambda: ask(s, old))
    assert ask(s, new) == "device_key_mismatch"
    s.muster("device", "accept-key", "asks", "--account", "acme", "--fingerprint", new.spki)
    (at / "list").write_text(json.dumps({"device_id": "waits"}) + "\n", encoding="utf-8")
    s.muster("device", "import", at / "list", "--account", "acme")
    file, _ = backup(s, at)
    s.stop()
    r = back(file, s)
    for who in (waits, new):
        answer = r.gateway(who).get("/x")
        assert problem(answer) == RECOVERY and retry_after(answer) == 300
    assert device_of(r, "waits")["state"] == "pending" and ask(r, old) is None
    r.muster("recovery", "finish", "--yes")
    soon(None, lambda: ask(r, waits))
    assert ask(r, new) is None and ask(r, old) == "device_key_barred"


# --- certificates that are younger than the backup -----------------------------------------------------------------------------------------------


def renewed(server, device):
    """The device with the certificate that it renews to, which it has used."""
    own = new_key()
    (cert,) = certificates(post(server.gateway(device), "simplereenroll", csr(own, device.common_name)))
    again = Renewed(own, cert)
    assert ask(server, again) is None
    return again


def held(server): return {h["device_id"]: (h["state"], h["code"]) for h in server.muster("recovery", "held")}
def state_of(server, device_id): return server.muster("device", "show", device_id, "--account", "acme")["state"]


@pytest.fixture
def gap(fresh, at, back):
    """A restored server, and devices that got their certificates after its backup."""
    s = fresh()
    s.account("acme", "test", "shared")
    s.account("other", "test", "shared")
    key = s.key("acme")
    known, gone, quiet = enrolled(s, key, "known"), enrolled(s, key, "gone"), enrolled(s, key, "quiet")
    file, _ = backup(s, at)
    new = {"first": enrolled(s, key, "first"), "second": enrolled(s, key, "x" * 100), "known": renewed(s, known), "gone": renewed(s, gone), "quiet": renewed(s, quiet)}
    other = s.host("other")
    s.stop()
    r = back(file, s)
    r.new, r.old, r.prov, r.other, r.file = new, {"known": known, "gone": gone, "quiet": quiet}, key, other, file
    return r


def test_what_is_younger_than_the_backup_is_held_and_admitted_as_a_set(gap):
    """By an operator who needs a while: what was issued is dated by when it was issued."""
    r, later = gap, ahead(gap, hours=30)
    r.stop()
    r.start(env=later)
    r.muster("device", "quarantine", "quiet", "--account", "acme")
    for name in ("first", "second", "known", "gone", "quiet"):
        for _ in range(2):
            answer = r.gateway(r.new[name]).get("/x")
            assert problem(answer) == (403, "recovery_pending") and retry_after(answer) == 300, name
    assert ask(r, r.old["known"]) is None and ask(r, r.old["quiet"]) == "device_quarantined"
    assert held(r) == {name: ("waiting", None) for name in ("first", "x" * 100, "known", "gone", "quiet")}
    assert r.muster("recovery", "show")["waiting"] == 5
    # Not under another account's name, nor after the device was cut off.
    assert r.gateway(r.new["first"], sni=r.other).get("/x").code == "certificate_of_other_account"
    r.muster("device", "revoke", "gone", "--account", "acme")
    assert ask(r, r.new["gone"]) == "device_revoked"
    # The reach is shown first, and only that number is admitted.
    assert "5 certificates" in refused("confirmation_required", r.muster, "recovery", "admit").text
    assert r.api("POST", "/api/v1/recovery/admit", {"confirm": 4}).code == "confirmation_required"
    assert ask(r, r.new["first"]) == "recovery_pending"
    assert r.muster("recovery", "admit", "--yes") == {"id": "recovery", "admitted": 4, "left_out": 1}
    assert held(r) == {"gone": ("left-out", "device_revoked")}
    for name in ("first", "second", "known"):
        soon(None, lambda name=name: ask(r, r.new[name]))
    assert ask(r, r.old["known"]) == "certificate_superseded" and ask(r, r.new["gone"]) == "device_revoked"
    assert ask(r, r.new["quiet"]) == "device_quarantined" and state_of(r, "quiet") == "quarantined" and state_of(r, "x" * 100) == "active"
    r.muster("device", "release", "quiet", "--account", "acme")
    soon(None, lambda: ask(r, r.new["quiet"]))
    # The record has each of them, sealed, and the rows are what it says.
    assert [e["object"] for e in r.muster("audit", "list", "--account", "acme") if e["action"] == "device.recover"] == ["first", "x" * 100, "known", "quiet"]
    assert r.muster("audit", "verify", "--account", "acme")["ok"] is True
    # Once more is nothing more.
    assert r.muster("recovery", "admit", "--yes") == {"id": "recovery", "admitted": 0, "left_out": 0}
    assert "for good: 1 (0 of" in refused("confirmation_required", r.muster, "recovery", "finish").text
    r.stop()
    r.start(env=later)
    assert ask(r, r.new["first"]) is None and r.muster("recovery", "show")["left_out"] == 1
    assert r.muster("recovery", "finish", "--yes")["left_out"] == 0
    assert ask(r, r.new["known"]) is None and ask(r, r.new["gone"]) == "certificate_unknown"
    soon(200, lambda: r.gateway(r.prov).enrol("after").status)
    assert renewed(r, r.new["first"]) and r.muster("audit", "verify")["ok"] is True
    r.stop()
    with r.database() as db:
        assert db.execute("SELECT count(*) FROM held").fetchone() == (0,)


def test_a_factory_line_s_devices_come_back_and_the_line_brings_in_no_more(fresh, at, back):
    """Who renewed behind the backup is out with what the factory made, and comes by what Muster made; the line counts whom it has brought in the meantime."""
    s = fresh()
    line = own(s, at, "acme", max_devices=4)
    made = {d.common_name: d for d in line.issue("vin-1", "vin-2", "vin-3", "vin-4")}
    beyond = line.copy(max_devices=9).issue("vin-5", "vin-6")
    assert ask(s, made["vin-1"]) is None and ask(s, made["vin-2"]) is None
    earlier = renewed(s, made["vin-2"])
    file, _ = backup(s, at)
    new = {"vin-1": renewed(s, made["vin-1"]), "vin-2": renewed(s, earlier)}
    assert ask(s, made["vin-3"]) is None and ask(s, made["vin-4"]) is None
    new["vin-3"] = renewed(s, made["vin-3"])
    s.stop()
    r = back(file, s)
    for device in new.values():
        assert ask(r, device) == "recovery_pending"
    assert r.muster("recovery", "admit", "--yes") == {"id": "recovery", "admitted": 3, "left_out": 0}
    for device in new.values():
        soon(None, lambda device=device: ask(r, device))
    assert ask(r, made["vin-1"]) == "certificate_superseded"
    r.muster("recovery", "finish", "--yes")
    soon(None, lambda: ask(r, made["vin-4"]))
    kit = r.muster("factory", "kit", "show", "line-1", "--account", "acme")
    assert (kit["devices"], kit["held"]) == (4, 0)
    assert [ask(r, device) for device in beyond] == ["device_pending", "device_pending"]
    shown = {name: device_of(r, name) for name in new}
    assert {name: (d["line"], d["method"], d["state"]) for name, d in shown.items()} == {name: ("line-1", "shared", "active") for name in new}
    assert shown["vin-1"]["line_key"] == made["vin-1"].spki and shown["vin-3"]["line_key"] is None
    (at / "manifest").write_text("\n".join(manifest_of(line)) + "\n")
    assert of(reconcile(r, at / "manifest")) == [*((name, "seen") for name in sorted(made)), ("vin-5", "not-built"), ("vin-6", "not-built")]
    assert all(d["renews"] for d in r.muster("root", "show", line.shown["root"])["newest"] if d["device_id"] in new), "who renews is taken for one that does"
    assert ask(r, renewed(r, new["vin-1"])) is None and ask(r, renewed(r, new["vin-3"])) is None
    assert r.muster("audit", "verify", "--account", "acme")["ok"] is True


def test_only_what_was_issued_between_backup_and_restore_is_held(gap):
    r = gap
    now = int(time.time())
    for since, made in ((now + 7200, now + 3600), (now - 3600, now - 7200)):
        r.stop()
        with r.database() as db:
            db.execute("UPDATE meta SET value = ? WHERE name = 'recovery'", (since,))
            db.execute("UPDATE meta SET value = ? WHERE name = 'recovery_of'", (made,))
        r.start()
        assert ask(r, r.new["first"]) == "recovery" and ask(r, r.new["known"]) == "recovery"  # not held, and not sent away for good
    assert r.muster("recovery", "held") == []
    for name, since, made in (("first", now, now + 40 * 86400), ("known", 1000000, now - 7200)):  # by a clock that ran ahead, and on a new machine whose clock was behind: nobody knows when
        r.stop()
        with r.database() as db:
            db.execute("UPDATE meta SET value = ? WHERE name = 'recovery'", (since,))
            db.execute("UPDATE meta SET value = ? WHERE name = 'recovery_of'", (made,))
        r.start()
        assert ask(r, r.new[name]) == "recovery_pending" and name in held(r)
    r.muster("recovery", "finish", "--yes")
    assert ask(r, r.new["second"]) == "certificate_unknown" and r.muster("recovery", "held") == []


def test_what_a_clock_made_that_ran_ahead_comes_back(fresh, at, back):
    """What is held is younger than the backup, whatever the dates say: those of a day to come, and of one that the device has renewed since."""
    s, clock = fresh(start=False), Clock(at / "clock")
    s.start(env=clock.env)
    s.account("acme", "test", "shared")
    key = s.key("acme", "--expires", "2y")

    def right():
        clock.set(0)
        assert s.musterd("clock", "accept").returncode == 0
        soon(200, lambda: s.gateway(key).enrol("other").status)

    clock.set(40 * 86400)
    before = enrolled(s, key, "before")
    right()
    file, _ = backup(s, at)
    new = {"before": renewed(s, before), "both": None}
    clock.set(40 * 86400)
    new["later"], both = enrolled(s, key, "later"), enrolled(s, key, "both")
    right()
    new["both"] = renewed(s, both)
    s.stop()
    r = back(file, s)
    for device in (*new.values(), both):
        assert ask(r, device) == "recovery_pending"
    assert r.muster("recovery", "admit", "--yes") == {"id": "recovery", "admitted": 4, "left_out": 0}
    for device in new.values():
        soon(None, lambda device=device: ask(r, device))
    assert ask(r, before) == ask(r, both) == "certificate_superseded"
    r.muster("recovery", "finish", "--yes")
    assert ask(r, new["later"]) is None and r.muster("audit", "verify")["ok"] is True


def test_who_writes_the_table_of_what_is_held_brings_nobody_in(gap):
    """Rows that a captured gateway could write: a certificate of somebody else's CA, another account's, what can be read by nobody."""
    r = gap
    assert ask(r, r.new["first"]) == "recovery_pending"
    stranger = Fleet("Muster Fleet Root").device("stranger")
    der = lambda i: i.cert.public_bytes(Encoding.DER)  # noqa: E731
    with sqlite3.connect(r.dir / "registry.db", timeout=30) as db:
        add = "INSERT INTO held (serial, fingerprint, account, device_id, der, not_before, not_after, state, code, first_seen, address) VALUES (?, randomblob(32), ?, ?, ?, 1, 9999999999, 1, '', 1, '')"
        account = dict(db.execute("SELECT name, id FROM account"))
        db.execute(add, (b"a", account["acme"], "stranger", der(stranger)))
        db.execute(add, (b"b", account["other"], "second", der(r.new["second"])))
        db.execute(add, (b"c", account["acme"], "junk", b"0"))
    assert r.muster("recovery", "admit", "--yes") == {"id": "recovery", "admitted": 1, "left_out": 3}
    assert {h["id"]: h["code"] for h in r.muster("recovery", "held")} == {"61": "certificate_untrusted", "62": "certificate_unknown", "63": "certificate_malformed"}
    soon(None, lambda: ask(r, r.new["first"]))
    assert ask(r, stranger) == "certificate_untrusted"
    assert r.muster("device", "list", "--account", "other") == []
    assert r.muster("audit", "verify")["ok"] is True


def test_a_key_that_is_another_device_s_is_left_out(gap):
    r = gap
    assert ask(r, r.new["known"]) == "recovery_pending" and ask(r, r.new["first"]) == "recovery_pending"
    r.stop()
    with r.database() as db:  # as if the key had been the device's whose tombstone was lifted, and another's
        account = db.execute("SELECT id FROM account WHERE name = 'acme'").fetchone()[0]
        db.execute("INSERT INTO device_key (account, spki, device, held, barred, created) VALUES (?, ?, NULL, 0, 1, 1)", (account, bytes.fromhex(r.new["known"].spki)))
        device = db.execute("SELECT id FROM device WHERE device_id = 'gone'").fetchone()[0]
        db.execute("INSERT INTO device_key (account, spki, device, held, barred, created) VALUES (?, ?, ?, 1, 0, 1)", (account, bytes.fromhex(r.new["first"].spki), device))
    r.start()
    assert r.muster("recovery", "admit", "--yes") == {"id": "recovery", "admitted": 0, "left_out": 2}
    assert held(r) == {"known": ("left-out", "device_key_barred"), "first": ("left-out", "device_key_elsewhere")}
    assert ask(r, r.new["first"]) == "device_key_elsewhere" and ask(r, r.old["known"]) is None


def test_under_a_root_that_an_operator_has_shut_nobody_comes_back(gap):
    """The set is what the roots of now let in, and not what those of the backup did."""
    r = gap
    assert ask(r, r.new["first"]) == "recovery_pending"
    (root,) = [one["id"] for one in r.muster("root", "list", "--account", "acme")]
    r.muster("root", "disable", root, "--yes")
    assert r.muster("recovery", "admit", "--yes") == {"id": "recovery", "admitted": 0, "left_out": 1}
    assert held(r) == {"first": ("left-out", "root_disabled")}
    refused("not_found", r.muster, "device", "show", "first", "--account", "acme")


def lists(server, at, account="acme"):
    """The account's revocation lists, once they are as new as the last revocation."""
    file = at / f"{account}-{time.monotonic_ns()}.pem"
    time.sleep(1.2)
    file.write_bytes(server.api("GET", f"/api/v1/accounts/{account}/crl-file").body)
    return file


def test_what_was_revoked_since_the_backup_is_revoked_by_the_last_lists(fresh, at, back):
    s = fresh()
    s.account("acme", "test", "shared")
    s.account("other", "test", "shared")
    key = s.key("acme")
    devices = {name: enrolled(s, key, name) for name in ("stays", "before", "single", "whole", "held")}
    s.muster("device", "revoke", "before", "--account", "acme")
    file, _ = backup(s, at)
    devices |= {name: enrolled(s, key, name) for name in ("new", "new-revoked", "new-held")}
    serial = s.muster("device", "show", "single", "--account", "acme")["certificates"][0]["serial"]
    s.muster("cert", "revoke", serial, "--account", "acme", "--reason", "key-compromise", "--yes")
    for verb, name in (("revoke", "whole"), ("quarantine", "held"), ("revoke", "new-revoked"), ("quarantine", "new-held")):
        s.muster("device", verb, name, "--account", "acme")
    # A root that was rotated since: its CAs have lists too, in the same file, and the backup knows neither.
    s.muster("root", "rotate", s.muster("root", "list", "--account", "acme")[0]["id"])
    soon(4, lambda: len(s.muster("crl", "list", "--account", "acme")))
    last, others = lists(s, at), lists(s, at, "other")
    assert len(crls(last)) == 4
    refused("wrong_state", s.muster, "recovery", "crl", last, "--account", "acme")
    s.stop()

    r = back(file, s)
    assert ask(r, devices["whole"]) is None and ask(r, devices["new-held"]) == "recovery_pending"
    # Lists of somebody else's CA, and what is none.
    assert "no issuing CA of the account" in refused("invalid_request", r.muster, "recovery", "crl", others, "--account", "acme").text
    forged = at / "forged.pem"
    ca = Fleet("acme")
    now = datetime.datetime.now(datetime.timezone.utc)
    b = x509.CertificateRevocationListBuilder().issuer_name(crls(last)[-1].issuer)
    forged.write_bytes(b.last_update(now).next_update(now + datetime.timedelta(days=1)).add_revoked_certificate(
        x509.RevokedCertificateBuilder().serial_number(devices["stays"].cert.serial_number).revocation_date(now).build()).sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    refused("invalid_request", r.muster, "recovery", "crl", forged, "--account", "acme")
    both = at / "both.pem"
    both.write_bytes(last.read_bytes() + forged.read_bytes())
    refused("invalid_request", r.muster, "recovery", "crl", both, "--account", "acme")
    refused("invalid_request", r.muster, "recovery", "crl", r.dir / "server-ca.pem", "--account", "acme")
    assert ask(r, devices["whole"]) is None and ask(r, devices["stays"]) is None

    said = r.muster("recovery", "crl", last, "--account", "acme")
    assert said == {"id": "acme", "entries": 6, "revoked": 2, "quarantined": 1, "known": 1, "noted": 2, "unknown": 2}
    soon("certificate_revoked", lambda: ask(r, devices["whole"]))
    assert ask(r, devices["single"]) == "certificate_revoked" and ask(r, devices["held"]) == "device_quarantined"
    (one,) = [c for c in r.muster("device", "show", "single", "--account", "acme")["certificates"] if c["serial"] == serial]
    assert one["reason"] == "key-compromise"
    # Neither held nor admitted: shown before the list or after it.
    assert ask(r, devices["new-held"]) == "device_quarantined" and ask(r, devices["new-revoked"]) == "certificate_revoked"
    assert ask(r, devices["new"]) == "recovery_pending" and ask(r, devices["stays"]) is None
    assert held(r) == {"new-held": ("left-out", "device_quarantined"), "new": ("waiting", None)}
    assert r.muster("recovery", "crl", last, "--account", "acme")["known"] == 4  # once more does nothing
    assert r.muster("recovery", "admit", "--yes") == {"id": "recovery", "admitted": 1, "left_out": 0}
    soon(None, lambda: ask(r, devices["new"]))
    entries = [e for e in r.muster("audit", "list", "--account", "acme") if e["action"] == "recovery.crl"]
    assert [e["detail"]["revoked"] for e in entries] == [2, 0]
    assert r.muster("audit", "verify")["ok"] is True
    r.muster("recovery", "finish", "--yes")
    soon("certificate_unknown", lambda: ask(r, devices["new-revoked"]))
    # Numbers of lists do not go back (RFC 5280, 5.2.3).
    number = lambda f: min(c.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for c in crls(f))  # noqa: E731
    assert number(lists(r, at)) > max(c.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for c in crls(last))


def crls(file):
    """Every list of a PEM file."""
    end = b"-----END X509 CRL-----\n"
    return [x509.load_pem_x509_crl(part + end) for part in file.read_bytes().split(end) if part.strip()]


def test_a_held_certificate_is_explained(gap):
    r = gap
    said = r.api("POST", "/api/v1/accounts/acme/explain", {"chain": r.new["first"].cert_file.read_text(encoding="utf-8")}).json
    assert (said["verdict"], said["code"]) == ("refused", "recovery_pending")
    assert r.muster("recovery", "held") == []  # nothing of an explanation stays


# --- consistent, under load -------------------------------------------------------------------------------------------------------------------


class Load(threading.Thread):
    """Devices enrol and are used, accounts, keys and tokens are made and changed."""

    def __init__(self, server, number):
        super().__init__(daemon=True)
        self.server, self.number, self.stop, self.done, self.wrong = server, number, threading.Event(), [], []

    def run(self):
        s, n = self.server, self.number
        try:
            for i in range(1000):
                if self.stop.is_set():
                    return
                account = f"a{n}-{i}"
                assert s.api("POST", "/api/v1/accounts", {"id": account, "kind": "test", "method": "shared"}).status == 201
                key = s.key(account)
                for d in range(3):
                    device_id = f"d{n}-{i}-{d}"
                    enrolled(s, key, device_id)
                    self.done.append((account, device_id))
                assert s.api("PATCH", f"/api/v1/accounts/{account}", {"issue_ceiling": 100 + i}).status == 200
                s.token(f"t{n}-{i}", "auditor", account)
        except Exception as e:  # pylint: disable=broad-except
            self.wrong.append(e)


def test_a_backup_under_load_is_of_one_moment_and_holds_all_that_was_answered(fresh, at, back):
    s = fresh()
    loads = [Load(s, n) for n in range(3)]
    for load in loads:
        load.start()
    made = []
    for i in range(6 if LONG else 3):
        time.sleep(0.7)
        answered = [pair for load in loads for pair in list(load.done)]
        made.append((backup(s, at, f"backup{i}")[0], answered))
    for load in loads:
        load.stop.set()
    for load in loads:
        load.join(60)
        assert not load.wrong, load.wrong
    assert len(made[-1][1]) > 3
    s.stop()
    for i, (file, answered) in enumerate(made):
        r = back(file, s, f"restored{i}")
        verified = r.muster("audit", "verify")
        assert verified["ok"] is True, verified
        there = {(a["id"], d["device_id"]) for a in r.muster("account", "list") for d in r.muster("device", "list", "--account", a["id"])}
        assert set(answered) <= there
        assert "not_mended" not in r.log_text() and "vault_not_greeted" not in r.log_text(), r.log_text()
        r.muster("recovery", "finish", "--yes")
        account = r.muster("account", "list")[-1]["id"]
        key = r.key(account)
        soon((200, None), lambda: problem(r.gateway(key).enrol("after")))
        r.stop()


def test_enrolments_do_not_wait_for_a_backup(fresh, at):
    s = fresh()
    s.account("acme", "test", "shared")
    key = s.key("acme")
    gateway, took = s.gateway(key), []
    running = threading.Event()
    done = []

    def many():
        running.wait()
        while not done:
            begun = time.monotonic()
            assert gateway.enrol(f"d{len(took)}").status == 200
            took.append(time.monotonic() - begun)

    thread = threading.Thread(target=many, daemon=True)
    thread.start()
    running.set()
    made = 0
    while made < 4 or (len(took) <= 10 and thread.is_alive()):
        backup(s, at, f"b{made}")
        made += 1
    done.append(True)
    thread.join(30)
    assert len(took) > 10 and max(took) < 2.5, max(took)


# --- what must not be taken ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A backup, and the server that it is of (stopped)."""
    where = tmp_path_factory.mktemp("whole")
    (where / "secret").write_text(SECRET + "\n", encoding="utf-8")
    (where / "secret").chmod(0o600)
    s = Server(where / "data").start()
    s.account("acme", "test", "shared")
    file, _ = backup(s, where)
    s.stop()
    return file


def fails(done, code, *words):
    assert done.returncode == 1 and done.stderr.rstrip().endswith(f"({code})"), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert not done.stdout
    return done


def test_a_wrong_passphrase_writes_nothing(whole, at):
    (at / "wrong").write_text(SECRET + "!\n", encoding="utf-8")
    (at / "wrong").chmod(0o600)
    (at / "short").write_text("short\n", encoding="utf-8")
    (at / "short").chmod(0o600)
    fails(restore(whole, at / "x", at, secret="wrong"), "invalid_request", "The passphrase is not this backup's")
    fails(restore(whole, at / "x", at, secret="short"), "invalid_request")
    (at / "secret").chmod(0o644)
    fails(restore(whole, at / "x", at), "invalid_request", "0644")
    assert not (at / "x").exists()


def test_a_file_that_is_cut_or_changed_anywhere_writes_nothing(whole, at):
    content = whole.read_bytes()
    bad = at / "bad"
    head = 16 + 1 + 28 + 24 + 40
    pick = random.Random(7)
    cuts = [0, 1, 10, 16, 17, head - 1, head, head + 1, head + PIECE - 1, head + PIECE, head + PIECE + 1, len(content) - PIECE, len(content) - 18, len(content) - 1,
            *[pick.randrange(len(content)) for _ in range(20 if LONG else 4)]]
    for n in cuts:
        bad.write_bytes(content[:n])
        done = restore(bad, at / "x", at)
        assert done.returncode == 1 and not (at / "x").exists(), (n, done.stderr)
        assert any(word in done.stderr for word in ("cut off", "no backup of Muster's")), (n, done.stderr)
    for n in [0, 15, 16, 17, 40, head - 1, head, head + PIECE, len(content) - 1, *[pick.randrange(len(content)) for _ in range(40 if LONG else 8)]]:
        bad.write_bytes(content[:n] + bytes([content[n] ^ 1]) + content[n + 1:])
        done = restore(bad, at / "x", at)
        assert done.returncode == 1 and not (at / "x").exists(), (n, done.stderr)
        assert any(word in done.stderr for word in ("changed", "no backup", "does not know", "impossible costs", "not this backup's", "to a recipient")), (n, done.stderr)
    bad.write_bytes(content + b"x")
    fails(restore(bad, at / "x", at), "storage_corrupt")
    fails(restore(at / "nowhere", at / "x", at), "not_found")
    fails(restore(at / "secret", at / "x", at), "invalid_request", "no backup of Muster's")
    assert not (at / "x").exists()


def test_only_an_empty_directory_becomes_a_server(whole, at):
    assert restore(whole, at / "x", at).returncode == 0
    before = {p: p.read_bytes() for p in (at / "x").rglob("*") if p.is_file()}
    fails(restore(whole, at / "x", at), "already_exists", "a data directory already")
    assert before == {p: p.read_bytes() for p in (at / "x").rglob("*") if p.is_file()}
    (at / "y").mkdir()
    (at / "y" / "notes").write_text("mine", encoding="utf-8")
    fails(restore(whole, at / "y", at), "already_exists", "not empty")
    assert [p.name for p in (at / "y").iterdir()] == ["notes"]
    (at / "z").mkdir(mode=0o755)
    assert restore(whole, at / "z", at).returncode == 0 and oct((at / "z").stat().st_mode & 0o777) == "0o700"
    (at / "v" / "lost+found").mkdir(parents=True)  # a file system's own
    assert restore(whole, at / "v", at).returncode == 0 and (at / "v" / "lost+found").is_dir()
    # An init that was cut off is not a restore's to clear.
    (at / "w").mkdir()
    (at / "w" / ".init").touch()
    fails(restore(whole, at / "w", at), "already_exists")


def test_a_backup_is_to_one_recipient(fresh, at):
    def key(name):
        subprocess.run(["openssl", "genpkey", "-algorithm", "X25519", "-out", at / name], check=True, capture_output=True)
        (at / name).chmod(0o600)
        subprocess.run(["openssl", "pkey", "-in", at / name, "-pubout", "-out", at / f"{name}.pub"], check=True, capture_output=True)

    key("ours")
    key("theirs")
    s = fresh()
    file = at / "sealed"
    done = s.musterd("backup", "-o", file, "--recipient", at / "ours.pub", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["to"] == "recipient"
    run = lambda *options: subprocess.run([MUSTERD, "restore", file, "--data", at / "x", *options], capture_output=True, text=True, timeout=60, check=False)  # noqa: E731
    fails(run("--recipient-key", at / "theirs"), "invalid_request", "another recipient")
    fails(run("--passphrase-file", at / "secret"), "invalid_request", "--recipient-key")
    fails(run("--recipient-key", at / "ours.pub"), "invalid_request")
    (at / "ours").chmod(0o644)
    fails(run("--recipient-key", at / "ours"), "invalid_request", "0644")
    assert not (at / "x").exists()
    (at / "ours").chmod(0o600)
    assert run("--recipient-key", at / "ours").returncode == 0
    assert s.musterd("backup", "-o", at / "no", "--recipient", at / "ours").returncode == 1
    assert s.musterd("backup", "-o", at / "no", "--recipient", at / "ours.pub", "--passphrase-file", at / "secret").returncode == 2
    assert not (at / "no").exists()


def test_a_backup_overwrites_nothing_and_needs_a_good_passphrase(fresh, at):
    s = fresh()
    before = len(actions(s))
    (at / "there").write_text("mine", encoding="utf-8")
    fails(backup(s, at, "there", ok=False), "already_exists")
    assert (at / "there").read_text(encoding="utf-8") == "mine"
    fails(s.musterd("backup", "-o", at / "b", input="short\n"), "invalid_request")
    fails(s.musterd("backup", "-o", at / "no" / "b", input=SECRET + "\n"), "storage_failed")
    assert s.musterd("backup").returncode == 2
    assert len(actions(s)) == before  # nothing was begun
    assert s.musterd("backup", "-o", at / "b", input=SECRET + "\n").returncode == 0
    assert restore(at / "b", at / "x", at).returncode == 0


def test_without_the_master_key_the_vault_opens_when_it_is_put_back(fresh, at, back):
    s = fresh()
    s.account("acme", "test", "shared")
    file, said = backup(s, at, "backup", "--without-master-key")
    assert said["master_key"] is False
    s.stop()
    r = back(file, s, start=False)
    assert not (r.dir / "vault" / "master.key").exists()
    done = r.musterd("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert done.returncode == 1 and "master.key" in r.log_text() + done.stderr
    shutil.copy(s.dir / "vault" / "master.key", r.dir / "vault" / "master.key")
    r.start()
    assert r.muster("audit", "verify")["ok"] is True


def test_half_of_a_newer_backup_is_refused(fresh, at, back):
    """The vault of an older copy under newer databases: what the log says of it is not there."""
    s = fresh()
    s.account("first", "test", "shared")
    old, _ = backup(s, at, "old")
    s.account("second", "test", "shared")
    key = s.key("second")
    new, _ = backup(s, at, "new")
    s.stop()
    older, newer = back(old, s, "older", start=False), back(new, s, "newer", start=False)
    shutil.rmtree(newer.dir / "vault")
    shutil.copytree(older.dir / "vault", newer.dir / "vault")
    with newer.database() as db:
        db.execute("UPDATE meta SET value = 0 WHERE name = 'recovery'")
    newer.process = subprocess.Popen([MUSTERD, "serve", "--data", newer.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=newer.log, text=True)
    end = time.monotonic() + 20
    while "older than the audit log" not in newer.log_text() and time.monotonic() < end:
        time.sleep(0.1)
    assert "older than the audit log" in newer.log_text()
    assert key


def test_what_stands_in_the_way_of_a_backup_is_left_alone(fresh, at):
    s = fresh()
    (at / "mine").write_text("precious", encoding="utf-8")
    os.link(at / "mine", at / "b.part")
    fails(backup(s, at, "b", ok=False), "already_exists", "second name")
    assert (at / "mine").read_text(encoding="utf-8") == "precious" and (at / "b.part").exists()
    os.mkfifo(at / "d.part")
    fails(backup(s, at, "d", ok=False), "already_exists")
    if os.geteuid() == 0:
        (at / "c.part").touch()
        os.chown(at / "c.part", 65534, 65534)
        (at / "c.part").chmod(0o666)
        fails(backup(s, at, "c", ok=False), "already_exists", "another user's")
        assert (at / "c.part").read_bytes() == b"" and (at / "c.part").stat().st_uid == 65534
    (at / "e.part").write_text("of a backup that was cut off", encoding="utf-8")
    backup(s, at, "e")
    assert not {at / name for name in "bcd"} & set(at.iterdir())


# --- kill -9 ----------------------------------------------------------------------------------------------------------------------------------------


def test_a_restore_that_was_killed_is_no_server_and_is_done_again(whole, at):
    x = at / "x"
    begun = time.monotonic()
    assert restore(whole, x, at).returncode == 0
    whole_time = time.monotonic() - begun
    pick, kills, half = random.Random(11), 0, 0
    while kills < (60 if LONG else 6) or half < 3:  # on a busy machine few of them hit it in its work
        kills += 1
        assert kills < 400
        shutil.rmtree(x, ignore_errors=True)
        p = subprocess.Popen([MUSTERD, "restore", whole, "--data", x, "--passphrase-file", at / "secret"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole_time * (0.3 + 0.75 * pick.random()))
        p.send_signal(signal.SIGKILL)
        p.wait()
        if x.exists() and (x / ".restore").exists():
            half += 1
            done = subprocess.run([MUSTERD, "serve", "--data", x], capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 1 and "was not restored to the end" in done.stderr
            done = subprocess.run([MUSTERD, "backup", "--data", x, "-o", at / "no", "--passphrase-file", at / "secret"], capture_output=True, text=True, timeout=30, check=False)
            fails(done, "wrong_state")
            done = subprocess.run([MUSTERD, "init", "--data", x], capture_output=True, text=True, timeout=30, check=False)
            fails(done, "already_exists")
        if not (x / "musterd.conf").exists() or (x / ".restore").exists():
            done = restore(whole, x, at)
            assert done.returncode == 0, done.stderr
        for name in ("registry.db", "control.db"):
            with sqlite3.connect(x / name) as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with sqlite3.connect(x / "registry.db") as db:
            assert db.execute("SELECT count(*) FROM meta WHERE name = 'recovery' AND value > 0").fetchone() == (1,)


def test_a_backup_that_was_killed_leaves_no_file_under_its_name(fresh, at):
    s = fresh()
    s.account("acme", "test", "shared")
    begun = time.monotonic()
    backup(s, at, "whole")
    whole_time = time.monotonic() - begun
    pick = random.Random(13)
    for i in range(60 if LONG else 8):
        file = at / f"b{i}"
        p = subprocess.Popen([MUSTERD, "backup", "--data", s.dir, "-o", file, "--passphrase-file", at / "secret"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole_time * 1.1 * pick.random())
        p.send_signal(signal.SIGKILL)
        p.wait()
        if file.exists():
            assert restore(file, at / f"x{i}", at).returncode == 0
        else:
            backup(s, at, file.name)  # over what was left
            assert not (at / f"{file.name}.part").exists()
    (s.dir / ".copy-killed").touch(0o600)  # between the moment in which a copy's file is made and that in which its name goes
    left = lambda: [p for p in s.dir.iterdir() if p.name.startswith(".copy")]
    for p in left():
        assert p.stat().st_size <= 4096, "nothing of the data"
        os.utime(p, (1, 1))
    backup(s, at, "last")
    assert not left()
    assert os.listdir(s.dir / "tls")
    assert s.gateway(s.key("acme")).enrol("after").status == 200

"""Devices of a factory line renew: under Muster's own root by the account's issuing CA, from then on like any other device; under the customer's by the queue
for his CA.  Who waits, is cut off, or was never let in does not, whatever the line has certified."""
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, serialization

from client import Fleet, Identity, new_key
from conftest import MUSTER, Server, refused, soon
from enrolment import DAY, ask
from est import basic, csr, enrolled, post
from test_clock import Clock
from test_csr_queue import asks
from test_est import renew
from test_factory import brought, manifest_of, of, own, reconcile, server_database, states

SHARED = "/api/v1/accounts/"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One server, whose clock goes on only forwards."""
    s = Server(tmp_path_factory.mktemp("line") / "data")
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    yield s
    s.stop()


def whole(server, account): return server.muster("audit", "verify", "--account", account)["ok"] is True
def shown(server, account, device): return server.muster("device", "show", device, "--account", account)
def entries(server, account, action): return [e for e in server.muster("audit", "list", "--account", account) if e["action"] == action]


def test_a_line_s_device_renews_like_any_other(world, tmp_path):
    line = own(world, tmp_path, "renews")
    first = line.issue("vin-1")[0]
    assert ask(world, first) is None
    before = shown(world, "renews", "vin-1")
    assert (before["method"], before["line"], before["line_key"]) == ("device", "line-1", first.spki)
    second = renew(world, first)
    assert second.cert.issuer != first.cert.issuer and second.spki != first.spki
    subject = {a.rfc4514_attribute_name: a.value for a in second.cert.subject}
    assert subject["CN"] == "vin-1" and subject["O"] == "renews" and subject.get("OU") != "line-1"
    # Make before break: what the factory made is good until the first request with the new one, and over then.
    assert ask(world, first) is None and ask(world, first) is None
    assert ask(world, second) is None and ask(world, first) == "certificate_superseded"
    after = shown(world, "renews", "vin-1")
    assert (after["id"], after["created"], after["line"], after["line_key"], after["spki"], after["method"], after["state"]) == (
        before["id"], before["created"], "line-1", first.spki, second.spki, "shared", "active")
    (entry,) = entries(world, "renews", "device.renew")
    assert entry["detail"]["root"] == line.shown["root"] and "superseded" not in entry["detail"]
    # The next one, and one for its own key.
    third = renew(world, second)
    assert ask(world, third) is None and ask(world, second) == "certificate_superseded"
    fourth = renew(world, third, third.key)
    assert fourth.spki == third.spki and ask(world, fourth) is None
    assert world.muster("factory", "kit", "show", "line-1", "--account", "renews")["devices"] == 1, "nothing is spent again"
    assert [d["device_id"] for d in world.muster("factory", "kit", "devices", "line-1", "--account", "renews")] == ["vin-1"]
    assert whole(world, "renews")


def test_for_its_own_key_and_an_answer_that_was_lost(world, tmp_path):
    line = own(world, tmp_path, "same-key")
    first = line.issue("vin-1")[0]
    assert ask(world, first) is None
    second = renew(world, first, first.key)
    assert renew(world, first, first.key).cert == second.cert, "the same request, the same certificate"
    # Another certificate of the line for the registered key is the device's as well.
    assert renew(world, line.forge("vin-1", key=first.key), first.key).cert == second.cert
    assert ask(world, second) is None
    assert ask(world, first) == "certificate_superseded" and ask(world, line.forge("vin-1", key=first.key)) == "certificate_superseded"
    assert whole(world, "same-key")


def test_the_first_request_may_be_the_renewal(world, tmp_path):
    """It registers the device, within the line's bounds, and is then one like any other."""
    line = own(world, tmp_path, "at-once", max_devices=1)
    a, b = line.issue("vin-1")[0], line.copy(max_devices=9).issue("vin-2")[0]
    new = renew(world, a)
    assert ask(world, new) is None and states(world, "at-once") == {"vin-1": "active"}
    assert renew(world, b) == (403, "device_pending") and states(world, "at-once")["vin-2"] == "pending"
    assert whole(world, "at-once")


def test_what_a_line_has_certified_for_later(world, tmp_path):
    """Whoever dates a certificate from tomorrow may have meant it."""
    line = own(world, tmp_path, "later")
    later = line.forge("vin-1", days=(2, 30))
    assert ask(world, later) == "certificate_not_yet_valid" and renew(world, later) == (403, "certificate_not_yet_valid")
    known = line.issue("vin-1")[0]
    assert ask(world, known) is None
    again = line.forge("vin-1", key=known.key, days=(2, 30))
    assert renew(world, again) == (403, "certificate_not_yet_valid")


def test_a_request_for_somebody_else_or_with_somebody_s_key(world, tmp_path):
    line = own(world, tmp_path, "others")
    a, b = line.issue("vin-1", "vin-2")
    assert ask(world, a) is None and ask(world, b) is None
    assert renew(world, a, device_id="vin-2") == (400, "csr_invalid")
    assert renew(world, a, b.key) == (403, "device_key_elsewhere")
    assert renew(world, a, line.issuer().key) == (403, "device_key_elsewhere"), "the key of the line's own CA, which whoever has would be the device"
    # A line's key alone, without the device's: an ID that is in cannot be taken, nor renewed.
    thief = line.forge("vin-1")
    assert renew(world, thief) == (403, "device_key_mismatch")
    assert ask(world, renew(world, a)) is None and renew(world, thief) == (403, "device_key_mismatch")
    assert whole(world, "others")


def test_who_waits_is_cut_off_or_outside_does_not_renew(world, tmp_path):
    line = own(world, tmp_path, "never", max_devices=6, pattern="vin-*")
    devices = {d.common_name: d for d in line.issue(*[f"vin-{i}" for i in range(6)])}
    for device in devices.values():
        assert ask(world, device) is None
    say = lambda *verb: world.muster("device", *verb, "--account", "never", "--yes")
    # Outside its line's bounds.
    for outside in (line.forge("other-1"), line.forge("vin-9"), line.forge("vin-8", days=(-40, 300))):
        assert renew(world, outside) == (403, "device_pending") and renew(world, outside) == (403, "device_pending")
    # Held again by an operator, cut off, and gone.
    for name, code, verb in (("vin-0", "device_quarantined", "quarantine"), ("vin-1", "device_revoked", "revoke"), ("vin-2", "device_deleted", "delete")):
        say(verb, name)
        assert renew(world, devices[name]) == (403, code)
    world.api("POST", SHARED + "never/lines/line-1/devices", {"action": "hold", "devices": ["vin-3"]})
    assert renew(world, devices["vin-3"]) == (403, "device_pending")
    # What was asked for before is worth nothing afterwards.
    ready = renew(world, devices["vin-4"])
    say("quarantine", "vin-4")
    assert ask(world, ready) == "device_quarantined" and renew(world, ready) == (403, "device_quarantined") and renew(world, devices["vin-4"]) == (403, "device_quarantined")
    # A line that is closed brings nobody in, and loses nobody: who is in goes on.
    world.muster("factory", "kit", "set", "line-1", "--account", "never", "--state", "closed")
    assert renew(world, line.forge("vin-7")) == (403, "device_pending")
    assert ask(world, renew(world, devices["vin-5"])) is None
    # Other accounts, other roots.
    world.account("never-too", "production", "shared")
    assert renew(world, devices["vin-5"], account="never-too") == (403, "certificate_of_other_account")
    assert renew(world, Fleet().device("vin-5")) == (403, "certificate_untrusted")
    assert whole(world, "never") and world.muster("device", "list", "--account", "never-too") == []


def test_a_root_that_is_shut_renews_nobody(world, tmp_path):
    line = own(world, tmp_path, "shut")
    device = line.issue("vin-1")[0]
    assert ask(world, device) is None
    ready = renew(world, device)
    world.muster("root", "disable", line.shown["root"], "--yes")
    assert renew(world, device) == (403, "root_disabled") and ask(world, ready) == "root_disabled"
    world.muster("root", "enable", line.shown["root"])
    assert ask(world, ready) is None
    assert whole(world, "shut")


def test_what_was_built_before_a_rotation_comes_after_it(world, tmp_path):
    """Under a former root of Muster's own a line goes on within its bounds, until the root is retired; which counts what has not come."""
    line = own(world, tmp_path, "turned", max_devices=4)
    first, second, third, over = line.issue("vin-1", "vin-2", "vin-3", "vin-4")
    assert ask(world, first) is None
    old = line.shown["root"]
    assert world.muster("root", "show", old)["to_come"] == 3
    world.muster("root", "rotate", old)
    assert ask(world, second) is None
    moved = renew(world, third)
    assert ask(world, moved) is None, "its first request is the renewal"
    assert ask(world, line.forge("other-1")) == "device_pending" and states(world, "turned")["vin-2"] == "active"
    assert world.muster("root", "show", old)["to_come"] == 1
    said = refused("root_in_use", world.muster, "root", "retire", old)
    assert "vin-1" in said.text and "vin-3" not in said.text
    for device in (first, second):
        assert ask(world, renew(world, device)) is None
    world.muster("device", "revoke", "other-1", "--account", "turned")
    said = refused("confirmation_required", world.muster, "root", "retire", old)
    assert "as many as 1 device that its open factory lines may have made" in said.text
    assert world.muster("root", "retire", old, "--yes")["state"] == "retired"
    assert ask(world, over) == "root_retired" and ask(world, moved) is None
    assert whole(world, "turned")


def test_a_line_of_another_account_is_none(world, tmp_path):
    line = own(world, tmp_path, "unlisted")
    device = line.issue("vin-1")[0]
    assert ask(world, device) is None
    with server_database(world) as db:
        db.execute("UPDATE line SET spki = zeroblob(32) WHERE account = (SELECT id FROM account WHERE name = 'unlisted')")
        db.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
    soon("certificate_unknown", lambda: ask(world, device))
    assert renew(world, device) == (403, "certificate_unknown")


def test_a_leaked_key_is_not_renewed_by_what_the_factory_made(world, tmp_path):
    line = own(world, tmp_path, "leaked")
    first = line.issue("vin-1")[0]
    assert ask(world, first) is None
    second = renew(world, first, first.key)
    assert ask(world, second) is None
    world.muster("cert", "revoke", f"{second.cert.serial_number:032x}", "--reason", "key-compromise", "--account", "leaked", "--yes")
    assert renew(world, first) == (403, "device_key_barred") and renew(world, second) == (403, "certificate_revoked")
    assert whole(world, "leaked")


def test_behind_a_revoked_certificate_the_factory_s_brings_nothing_back(world, tmp_path):
    """For the key that the factory made or another one; it is no foreign key that is offered, and an invitation is the way back."""
    line = own(world, tmp_path, "revoked")
    first = line.issue("vin-1")[0]
    assert ask(world, first) is None
    second = renew(world, first, first.key)
    assert ask(world, second) is None
    world.muster("cert", "revoke", f"{second.cert.serial_number:032x}", "--account", "revoked", "--yes")
    answer = world.gateway(first).get("/director/1.root.json")
    assert (answer.status, answer.code) == (403, "certificate_revoked") and "muster device invite" in answer.json["description"]
    assert renew(world, first) == renew(world, second) == (403, "certificate_revoked")
    device = shown(world, "revoked", "vin-1")
    assert device["state"] == "active" and not device["offered_keys"] and not entries(world, "revoked", "device.key_offered")
    world.muster("device", "release", "vin-1", "--account", "revoked", "--for-reprovision", "--yes")
    code = world.muster("device", "invite", "vin-1", "--account", "revoked")["code"]
    back = enrolled(world.gateway(), "vin-1", new_key(), account="revoked", **basic("vin-1", code))
    assert ask(world, back) is None and shown(world, "revoked", "vin-1")["line"] == "line-1" and whole(world, "revoked")


def taken_back(world, account, name, *options):
    return world.muster("cert", "revoke", name, "--account", account, "--yes", *options)


def test_what_the_factory_made_is_taken_back_by_itself(world, tmp_path):
    """By the fingerprint or the serial number of what the device has shown; Muster holds none of it, and refuses it from then on."""
    line = own(world, tmp_path, "back")
    first, other, moved, held = line.issue("vin-1", "vin-2", "vin-3", "vin-4")
    for device in (first, other, moved, held):
        assert ask(world, device) is None
    fingerprint = first.cert.fingerprint(hashes.SHA256()).hex()
    before = shown(world, "back", "vin-1")
    assert (before["line_certificate"], before["line_serial"], before["line_revoked"]) == (fingerprint, f"{first.cert.serial_number:032x}", None)
    # Nobody else's, nothing that nobody has shown, and not without a question.
    refused("not_found", taken_back, world, "back", line.forge("vin-9").cert.fingerprint(hashes.SHA256()).hex())
    world.account("back-too", "production", "shared")
    refused("not_found", taken_back, world, "back-too", fingerprint)
    auditor = world.muster("token", "create", "looks", "--role", "auditor", "--account", "back")["token"]
    stranger = world.muster("token", "create", "stranger", "--role", "owner", "--account", "back-too")["token"]
    for token, code in ((auditor, "role_insufficient"), (stranger, "not_found")):
        for where in ("back", "-"):
            assert world.api("POST", f"/api/v1/accounts/{where}/certificates/{fingerprint}/revoke", {"confirm": 1}, token=token).code == code
    said = refused("confirmation_required", world.muster, "cert", "revoke", fingerprint)
    assert "factory line line-1" in said.text and "no revocation list" in said.text and "let in no more" in said.text
    assert "vin-1" in refused("not_found", world.muster, "cert", "show", fingerprint).text
    assert ask(world, first) is None
    # The live one: also on a connection that is open, and for whatever else the line has signed for the device.
    open_ = world.gateway(first)
    assert open_.get("/director/1.root.json").code != "certificate_revoked"
    gone = taken_back(world, "back", fingerprint, "--reason", "privilege-withdrawn")
    assert (gone["id"], gone["fingerprint"], gone["line"], gone["state"], gone["reason"], gone["device_id"], gone["usable"]) == (
        f"{first.cert.serial_number:032x}", fingerprint, "line-1", "revoked", "privilege-withdrawn", "vin-1", 0)
    assert "device invite" in gone["warnings"][1]
    assert ask(world, first) == "certificate_revoked" and renew(world, first) == renew(world, line.forge("vin-1", key=first.key)) == (403, "certificate_revoked")
    answer = world.gateway(first).get("/director/1.root.json")
    assert "privilege-withdrawn" in answer.json["description"] and "muster device invite" in answer.json["description"]
    after = shown(world, "back", "vin-1")
    assert after["line_revoked"] and after["state"] == "active" and not after["offered_keys"] and not entries(world, "back", "device.key_offered")
    refused("wrong_state", taken_back, world, "back", fingerprint)
    assert ask(world, other) is None
    # By serial number, of one that has renewed since: it goes on with what it has, and the factory's renews no more.
    newer = renew(world, moved)
    assert ask(world, newer) is None
    ready = renew(world, moved)
    assert ready.cert != newer.cert
    gone = taken_back(world, "back", f"{moved.cert.serial_number:032x}")
    assert gone["usable"] == 2 and renew(world, moved) == (403, "certificate_revoked") and ask(world, newer) is None
    # Who is cut off himself hears that.
    world.muster("device", "quarantine", "vin-4", "--account", "back")
    taken_back(world, "back", f"{held.cert.serial_number:032x}")
    assert ask(world, held) == "device_quarantined"
    world.muster("device", "release", "vin-4", "--account", "back")
    assert ask(world, held) == "certificate_revoked" and whole(world, "back")
    # The way back; and what was taken back stays so behind a tombstone that was lifted with the same key.
    world.muster("device", "release", "vin-1", "--account", "back", "--for-reprovision", "--yes")
    code = world.muster("device", "invite", "vin-1", "--account", "back")["code"]
    again = enrolled(world.gateway(), "vin-1", new_key(), account="back", **basic("vin-1", code))
    assert ask(world, again) is None and ask(world, first) == "certificate_revoked" and shown(world, "back", "vin-1")["line"] == "line-1"
    world.muster("device", "delete", "vin-1", "--account", "back", "--yes")
    world.muster("device", "release", "vin-1", "--account", "back", "--yes")
    assert ask(world, first) in ("certificate_revoked", "device_key_barred") and renew(world, first)[0] == 403
    assert whole(world, "back") and [e["detail"]["line"] for e in entries(world, "back", "device.line_certificate_revoke")] == ["line-1"] * 3
    with server_database(world) as db:
        row = db.execute("SELECT * FROM line_revoked WHERE device_id = 'vin-3'").fetchone()
        db.execute("DELETE FROM line_revoked WHERE device_id = 'vin-3'")
    assert "factory lines that are revoked" in refused("storage_corrupt", world.muster, "audit", "verify", "--account", "back").text
    with server_database(world) as db:
        db.execute(f"INSERT INTO line_revoked VALUES ({', '.join('?' * len(row))})", row)
    assert whole(world, "back")


def test_a_compromised_key_takes_along_what_is_of_it(world, tmp_path):
    line = own(world, tmp_path, "stolen")
    first = line.issue("vin-1")[0]
    assert ask(world, first) is None
    second = renew(world, first, first.key)
    assert ask(world, second) is None
    said = refused("confirmation_required", world.muster, "cert", "revoke", f"{first.cert.serial_number:032x}", "--account", "stolen", "--reason", "key-compromise")
    assert "1 other of the same key" in said.text and "let in no more" in said.text
    gone = taken_back(world, "stolen", f"{first.cert.serial_number:032x}", "--reason", "key-compromise")
    assert gone["also"] == [f"{second.cert.serial_number:032x}"]
    for one in (first, second, line.forge("vin-1", key=first.key)):
        assert renew(world, one) == (403, "certificate_revoked")
    assert shown(world, "stolen", "vin-1")["state"] == "active" and whole(world, "stolen")


def test_under_the_customer_s_root_it_is_taken_back_too(world, tmp_path):
    """And a newer one of the line's for the same key is what the device has from then on."""
    line = brought(world, tmp_path, "theirs-back")
    first = line.issue("vin-1")[0]
    assert ask(world, first) is None
    newer = line.forge("vin-1", key=first.key, days=(-1, 9000))
    assert ask(world, newer) is None and shown(world, "theirs-back", "vin-1")["line_certificate"] == newer.cert.fingerprint(hashes.SHA256()).hex()
    assert taken_back(world, "theirs-back", f"{newer.cert.serial_number:032x}")["line"] == "line-1"
    assert ask(world, newer) == "certificate_revoked" and whole(world, "theirs-back")


# --- the customer's root ---------------------------------------------------------------------------------------------------------------------


def test_under_the_customer_s_root_it_goes_the_account_s_way(world, tmp_path):
    line = brought(world, tmp_path, "own-way")
    devices = line.issue("vin-1", "vin-2")
    for device in devices:
        assert ask(world, device) is None
    assert asks(world, devices[0], new_key(), "vin-1") == (403, "certificate_of_fleet_ca")
    world.muster("account", "set", "own-way", "--csr-queue", "yes")
    assert asks(world, devices[0], devices[0].key, "vin-1") is None and asks(world, devices[1], new_key(), "vin-2") is None
    assert sorted((c["device_id"], c["key"]) for c in world.muster("csr", "list", "--account", "own-way")) == [("vin-1", "same"), ("vin-2", "new")]
    new_certificate = line.forge("vin-1", key=devices[0].key, days=(-1, 700)).cert
    path = tmp_path / "signed.pem"
    path.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (new_certificate, line.issuer().cert)))
    assert world.muster("csr", "import", path, "--account", "own-way")["imported"] == 1
    collected = asks(world, devices[0], devices[0].key, "vin-1")
    assert collected.cert == new_certificate and ask(world, Identity(collected.cert, collected.key, [line.issuer().cert])) is None
    # Who waits has no place in the queue, nor has one whose line's CA is on its root's list.
    assert asks(world, line.forge("other-1"), new_key(), "other-1") == (403, "device_pending")
    offline = lambda *args: subprocess.run([str(a) for a in [MUSTER, "ca", *args, "--ca", tmp_path / "fleet"]], check=True, capture_output=True, timeout=60)
    offline("revoke", f"{line.issuer().cert.serial_number:032x}", "--yes")
    offline("crl", "--of-root", "-o", tmp_path / "root.crl", "--passphrase-file", line.passphrase)
    world.muster("crl", "import", line.shown["root"], tmp_path / "root.crl", "--account", "own-way")
    for device in devices:
        assert asks(world, device, device.key, device.common_name) == (403, "certificate_listed")
    assert whole(world, "own-way")


# --- what the factory says of them -----------------------------------------------------------------------------------------------------------


def test_reconciliation_knows_who_has_renewed(world, tmp_path):
    """By the key that the device came with: whoever has another one since has it by that."""
    line = own(world, tmp_path, "told", max_devices=20)
    devices = {d.common_name: d for d in line.issue("vin-1", "vin-2", "vin-3")}
    extra = line.copy().issue("vin-90")[0]
    for device in (*devices.values(), extra):
        assert ask(world, device) is None
    forged = line.forge("vin-4")
    assert ask(world, forged) is None
    for device in (devices["vin-1"], extra):
        assert ask(world, renew(world, device)) is None
    path = tmp_path / "more"
    path.write_text("vin-4\n")
    line.run("issue", "--from", path, "-o", tmp_path / "more-out")
    manifest = tmp_path / "manifest"
    manifest.write_text("\n".join(manifest_of(line)) + "\n")
    assert of(reconcile(world, manifest)) == [("vin-1", "seen"), ("vin-2", "seen"), ("vin-3", "seen"), ("vin-4", "other-key"), ("vin-90", "not-built")]
    assert ask(world, renew(world, forged)) is None
    assert reconcile(world, manifest, "--quarantine", "--yes")["acted"] == 2
    assert states(world, "told") == {"vin-1": "active", "vin-2": "active", "vin-3": "active", "vin-4": "quarantined", "vin-90": "quarantined"}
    assert whole(world, "told")


# --- who is said to renew ---------------------------------------------------------------------------------------------------------------------


def late(s, account, device):
    """What is said of devices whose certificates have ended: of all by status and the forecast, and of the one."""
    (told,) = [a for a in s.muster("status")["accounts"]["items"] if a["id"] == account]
    return told["renewable"], s.muster("forecast", "--account", account)["renewable"], bool(shown(s, account, device)["renewable_until"])


def test_all_say_the_same_of_who_renews(fresh, tmp_path):
    s = fresh(start=False)
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    line, theirs = own(s, tmp_path, "ours"), brought(s, tmp_path, "theirs")
    ends, other, waits = line.forge("vin-1", days=(-1, 3)), theirs.forge("vin-2", days=(-1, 3)), line.forge("out-1", days=(-1, 3))
    assert ask(s, ends) is None and ask(s, other) is None and ask(s, waits) == "device_pending"
    forecast = s.muster("forecast", "--account", "ours")
    assert (forecast["stops"], forecast["renews"]) == (0, 1)
    forecast = s.muster("forecast", "--account", "theirs")
    assert (forecast["stops"], forecast["renews"]) == (1, 0)
    s.muster("server-ca", "rotate")

    def renews(what, of): return {d["device_id"]: d["renews"] for d in s.muster(what, "show", of)["newest"]}
    assert renews("server-ca", 1) == {"vin-1": True, "vin-2": False} and s.muster("server-ca", "show", 1)["cannot_renew"] == 1
    assert renews("root", line.shown["root"])["vin-1"] is True and renews("root", theirs.shown["root"]) == {"vin-2": False}
    said = refused("server_ca_in_use", s.muster, "server-ca", "retire", 1)
    assert "vin-1" in said.text and "vin-2" not in said.text
    s.muster("account", "set", "theirs", "--csr-queue", "yes")
    assert renews("server-ca", 1)["vin-2"] is True and s.muster("server-ca", "show", 1)["cannot_renew"] == 0
    s.muster("account", "set", "theirs", "--csr-queue", "no")
    # Behind the end: who may renew, and nobody else.
    s.clock.set(5 * DAY)
    assert ask(s, ends) == ask(s, other) == "certificate_expired"
    assert late(s, "ours", "vin-1") == (1, 1, True) and late(s, "theirs", "vin-2") == (0, 0, False)
    assert shown(s, "ours", "out-1")["renewable_until"] is None
    s.muster("account", "set", "theirs", "--csr-queue", "yes")
    assert late(s, "theirs", "vin-2") == (1, 1, True)
    s.muster("device", "quarantine", "vin-2", "--account", "theirs")
    assert late(s, "theirs", "vin-2") == (0, 0, False)
    s.muster("root", "disable", line.shown["root"], "--yes")
    assert late(s, "ours", "vin-1") == (0, 0, False)
    s.muster("root", "enable", line.shown["root"])
    assert ask(s, renew(s, ends)) is None


# --- early, late, replaced ------------------------------------------------------------------------------------------------------------------


def test_early_late_and_replaced_as_the_account_says(world, tmp_path):
    """The last one here: the clock goes on."""
    line = own(world, tmp_path, "times", expires="400d")
    world.muster("account", "set", "times", "--renewal-window", DAY, "--late-renewal", 10 * DAY, "--superseded-renewal", 5 * DAY)
    soon_over, later = line.forge("vin-1", days=(-1, 2)), line.forge("vin-2", days=(-1, 300))
    assert ask(world, soon_over) is None and ask(world, later) is None
    assert renew(world, soon_over) == (403, "renewal_early")
    world.muster("account", "set", "times", "--renewal-window", "0")
    newer = renew(world, later)
    assert ask(world, newer) is None
    # It has lost its newest certificate, or somebody has a copy: for five days, and told.
    again = renew(world, later)
    (entry,) = [e for e in entries(world, "times", "device.renew") if e["detail"].get("superseded")]
    assert entry["object"] == "vin-2"
    assert ask(world, again) is None and ask(world, newer) == "certificate_superseded"
    world.clock.set(6 * DAY)
    assert renew(world, later) == (403, "certificate_superseded")
    world.muster("device", "release", "vin-2", "--account", "times", "--for-reprovision", "--yes")
    once = renew(world, later)
    assert ask(world, once) is None and renew(world, later) == (403, "certificate_superseded"), "once"
    # Four days behind its end: this, and nothing else.
    assert ask(world, soon_over) == "certificate_expired"
    assert renew(world, line.forge("vin-3", days=(-9, -1))) == (403, "certificate_expired"), "nobody comes in by one that has ended"
    assert post(world.gateway(soon_over), "simpleenroll", csr(new_key(), "vin-1")).code == "certificate_expired"
    world.muster("device", "quarantine", "vin-1", "--account", "times")
    assert renew(world, soon_over) == (403, "device_quarantined")
    world.muster("device", "release", "vin-1", "--account", "times")
    late = renew(world, soon_over)
    assert ask(world, soon_over) == "certificate_expired" and ask(world, late) is None
    assert shown(world, "times", "vin-1")["method"] == "shared"
    world.clock.set(13 * DAY)
    assert renew(world, soon_over) == (403, "certificate_expired"), "eleven days behind"
    assert whole(world, "times")

"""What a captured gateway writes into the registry, from inside its confinement: `audit verify` finds it, and control passes none of it on to the
vault."""
import contextlib
import datetime
import hashlib
import json
import re
import socket
import sqlite3
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import hashes, serialization

import conftest
import est
from client import Device, Fleet, new_key
from conftest import Server, refused, soon, stays
from est import basic
from test_compromised import CEILING, COMPROMISED, YEAR, Attack, within_the_profile

ACCOUNT = "(SELECT id FROM account WHERE name = '{a}')"
DEVICE = f"(SELECT id FROM device WHERE account = {ACCOUNT} AND device_id = '{{d}}')"


def device(d):
    return DEVICE.replace("{d}", d)


def blob(b):
    return f"x'{b.hex()}'"


def der(cert):
    return cert.public_bytes(serialization.Encoding.DER)


def spki(cert):
    return hashlib.sha256(cert.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).digest()


STRANGER = Fleet("Stranger")
FORGED = STRANGER.device("made").cert


def insert_like(table, where, **changes):
    """A copy of a row with other values: SQL expressions."""
    columns = COLUMNS[table]
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(changes.get(c, c) for c in columns)} FROM {table} WHERE {where} LIMIT 1"


COLUMNS = {
    "device": ["uuid", "account", "device_id", "state", "state_before", "method", "prov_key", "root", "created", "last_seen", "last_address", "again", "refused", "expected", "reason",
               "certificate", "certificate_not_after", "spki", "issue_first", "issue_last_ms", "issue_count", "ecus"],
    "root": ["uuid", "account", "origin", "state", "state_before", "fingerprint", "spki", "subject", "der", "not_after", "id_rule", "key_rule", "challenge", "challenge_expires", "created"],
    "prov_key": ["uuid", "account", "name", "state", "created", "expires", "certificate_not_after", "max_devices", "spent", "per_hour", "id_pattern", "sources", "build", "spki", "fingerprint",
                 "last_used"],
    "cert": ["serial", "fingerprint", "account", "device", "prov_key", "spki", "state", "der", "not_before", "not_after", "created", "used", "enrolled", "issuer"],
    "ca": ["account", "kind", "spki", "der", "not_after", "created", "key_id"],
}
SERIAL = FORGED.serial_number.to_bytes((FORGED.serial_number.bit_length() + 7) // 8, "big")
ROOT = {"uuid": "randomblob(16)", "origin": "1", "state": "2", "fingerprint": blob(STRANGER.cert.fingerprint(hashes.SHA256())), "spki": blob(spki(STRANGER.cert)), "der": blob(der(STRANGER.cert)),
        "not_after": str(int(STRANGER.cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()))}

REPLACED = [*COLUMNS, "account", "device_key", "expected", "offer", "invitation"]  # the tables that ROWS write

# Rows: what is changed, and what the verdict says of it.
ROWS = {
    "a device that nobody enrolled": (insert_like("device", f"id = {device('made')}", uuid="randomblob(16)", device_id="'nobody'", certificate="NULL", spki="NULL"), "no entry of the log brought it in"),
    "a revoked device is active": (f"UPDATE device SET state = 1 WHERE id = {device('out')}", "is active, and the log says otherwise"),
    "a quarantined device is active": (f"UPDATE device SET state = 1 WHERE id = {device('held')}", "is active, and the log says otherwise"),
    "a tombstone is gone": (f"UPDATE cert SET device = NULL, state = 5 WHERE device = {device('out')}; DELETE FROM device_key WHERE device = {device('out')}; DELETE FROM device WHERE id = {device('out')}",
                            "is not there"),
    "a device that waits is active": (f"UPDATE device SET state = 1 WHERE id = {device('waits')}", "is active, and the log says otherwise"),
    "a device may come again": (f"UPDATE device SET again = 2 WHERE id = {device('made')}", "no operator said so"),
    "another certificate is the device's": (f"UPDATE device SET certificate = {blob(FORGED.fingerprint(hashes.SHA256()))} WHERE id = {device('own')}", "has another certificate or key"),
    "another key is the device's": (f"UPDATE device SET spki = {blob(spki(FORGED))} WHERE id = {device('own')}", "has another certificate or key"),
    "a certificate that the vault did not issue": (insert_like("cert", f"device = {device('made')}", serial=blob(SERIAL), fingerprint=blob(FORGED.fingerprint(hashes.SHA256())), spki=blob(spki(FORGED)), der=blob(der(FORGED)),
                                                               not_before=str(int(FORGED.not_valid_before.replace(tzinfo=datetime.timezone.utc).timestamp())),
                                                               not_after=str(int(FORGED.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()))), "was not issued by the vault"),
    "a certificate's bytes": (f"UPDATE cert SET der = {blob(der(FORGED))} WHERE device = {device('made')}", "is not the certificate that it says"),
    "a certificate's serial": (f"UPDATE cert SET serial = randomblob(16) WHERE device = {device('made')}", "is not the certificate that it says"),
    "a certificate is on no issuing CA's list": (f"UPDATE cert SET issuer = NULL WHERE device = {device('out')}", "names another issuing CA"),
    "a certificate is on another CA's list": (f"UPDATE cert SET issuer = (SELECT id FROM ca WHERE account = {ACCOUNT} AND kind = 2) WHERE device = {device('out')}", "names another issuing CA"),
    "a CA has another key's list": (f"UPDATE ca SET key_id = randomblob(20) WHERE account = {ACCOUNT} AND kind = 1", "is not the vault's"),
    "a certificate moves to another device": (f"UPDATE cert SET device = {device('waits')} WHERE device = {device('made')}", "belongs to another one"),
    "a revoked certificate is current": (f"UPDATE cert SET state = 2 WHERE device = {device('out')}", "is current, and the log says otherwise"),
    "a void certificate waits again": (f"UPDATE cert SET state = 1 WHERE device = {device('made')} AND state = 3", "other certificates that wait"),
    "a certificate is gone": (f"DELETE FROM cert WHERE device = {device('made')} AND state = 3", "other certificates than the log has issued"),
    "a revoked certificate alone is current": (f"UPDATE cert SET state = 2, revoked = 0, reason = 0 WHERE device = {device('cut')}", "is current, and the log says otherwise"),
    "a revoked certificate is the device's again": (f"UPDATE cert SET state = 2, revoked = 0, reason = 0 WHERE device = {device('cut')}; UPDATE device SET certificate = (SELECT fingerprint FROM cert WHERE device = device.id), "
                                                    f"spki = (SELECT spki FROM cert WHERE device = device.id), certificate_not_after = (SELECT not_after FROM cert WHERE device = device.id) WHERE id = {device('cut')}",
                                                    "has another certificate or key"),
    "a revoked certificate is superseded": (f"UPDATE cert SET state = 4, revoked = 0, reason = 0 WHERE device = {device('cut')}", "other certificates that were revoked"),
    "a revoked certificate was not revoked": (f"UPDATE cert SET revoked = 0 WHERE device = {device('cut')}", "is revoked, and the log says otherwise"),
    "a revoked certificate was not the last": (f"UPDATE cert SET state = 4 WHERE device = {device('cut')}", "other certificates that were revoked"),
    "a certificate was revoked for another reason": (f"UPDATE cert SET reason = 1 WHERE device = {device('cut')}", "for other reasons"),
    "a certificate of a revoked device is superseded": (f"UPDATE cert SET state = 4, revoked = 0 WHERE device = {device('out')}", "other certificates that were revoked"),
    "a certificate that nobody revoked": (f"UPDATE cert SET revoked = 1700000000 WHERE device = {device('made')} AND state = 3", "other certificates that were revoked"),
    "the live certificate was revoked": (f"UPDATE cert SET revoked = 1700000000 WHERE device = {device('made')} AND state = 2", "other certificates that were revoked"),
    "a certificate of a released device was not revoked": (f"UPDATE cert SET revoked = 0 WHERE account = {ACCOUNT} AND device IS NULL", "is not revoked"),
    "a certificate of a released device is another's": (f"UPDATE cert SET was = 'made' WHERE account = {ACCOUNT} AND device IS NULL", "is said to be another one's"),
    "a root of a stranger is proved": (insert_like("root", f"account = {ACCOUNT} AND origin = 1 AND state = 2", **ROOT), "was never uploaded"),
    "a root that was not proved is active": (f"UPDATE root SET state = 2 WHERE account = {ACCOUNT} AND state = 1", "is active, and the log says otherwise"),
    "a root is another certificate": (f"UPDATE root SET fingerprint = {ROOT['fingerprint']}, spki = {ROOT['spki']}, der = {ROOT['der']}, not_after = {ROOT['not_after']} WHERE account = {ACCOUNT} AND origin = 1 AND state = 2",
                                      "is another certificate than the log says"),
    "a root is said to be Muster's": (insert_like("root", f"account = {ACCOUNT} AND origin = 1 AND state = 2", **ROOT | {"origin": "2"}), "the vault has another one"),
    "a root's rules": (f"UPDATE root SET key_rule = 2 WHERE account = {ACCOUNT} AND origin = 1 AND state = 2", "rules of the fleet root"),
    "a root is gone": (f"UPDATE device SET root = NULL WHERE account = {ACCOUNT}; DELETE FROM root WHERE account = {ACCOUNT} AND origin = 1 AND state = 2", "fleet roots that were proved"),
    "a CA of a stranger": (insert_like("ca", f"account = {ACCOUNT} AND kind = 1", spki=ROOT["spki"], der=ROOT["der"]), "is not the vault's"),
    "a blacklisted key is good": (f"UPDATE prov_key SET state = 1 WHERE account = {ACCOUNT} AND name = 'black'", "is active, and the log says otherwise"),
    "a key has spent less": (f"UPDATE prov_key SET spent = 0 WHERE account = {ACCOUNT} AND name = 'good'", "has spent 0 enrolments"),
    "a key may enrol more": (f"UPDATE prov_key SET max_devices = 0 WHERE account = {ACCOUNT} AND name = 'good'", "is not as the log says"),
    "a key lives longer": (f"UPDATE prov_key SET expires = expires + 1 WHERE account = {ACCOUNT} AND name = 'good'", "is not as the log says"),
    "a key's pattern": (f"UPDATE prov_key SET id_pattern = '*' WHERE account = {ACCOUNT} AND name = 'good'", "is not as the log says"),
    "a key that nobody made": (insert_like("prov_key", f"account = {ACCOUNT} AND name = 'good'", uuid="randomblob(16)", name="'mine'", spki="randomblob(32)", spent="0"), "was never made"),
    "a key's certificate": (f"UPDATE prov_key SET fingerprint = randomblob(32) WHERE account = {ACCOUNT} AND name = 'good'", "is not as the log says"),
    "a key answers to another's public key": (f"UPDATE prov_key SET spki = randomblob(32) WHERE account = {ACCOUNT} AND name = 'black'", "is not as the log says"),
    "a key's certificate ends later": (f"UPDATE prov_key SET certificate_not_after = certificate_not_after + 1 WHERE account = {ACCOUNT} AND name = 'good'", "is not as the log says"),
    "a certificate is not the leaked key's": (f"UPDATE cert SET prov_key = (SELECT id FROM prov_key WHERE account = {ACCOUNT} AND name = 'black') WHERE device = {device('waits')}", "other certificates than the log has issued"),
    "a certificate is no key's": (f"UPDATE cert SET prov_key = NULL WHERE device = {device('waits')}", "other certificates than the log has issued"),
    "a certificate is of another account's key": (f"UPDATE cert SET prov_key = (SELECT id FROM prov_key WHERE account <> {ACCOUNT} LIMIT 1) WHERE device = {device('waits')}", "no provisioning key of the account"),
    "an invited device's certificate is a key's": (f"UPDATE cert SET prov_key = (SELECT id FROM prov_key WHERE account = {ACCOUNT} AND name = 'black') WHERE device = {device('guest')}", "is current, and the log says otherwise"),
    "a certificate is older than the leak": (f"UPDATE cert SET created = created - 7200 WHERE device = {device('waits')}", "is not the certificate that it says"),
    "a certificate's device came in before the leak": (f"UPDATE cert SET enrolled = enrolled - 7200 WHERE device = {device('waits')}", "other certificates than the log has issued"),
    "a device under another root": (f"UPDATE device SET root = (SELECT id FROM root WHERE account = {ACCOUNT} AND origin = 2) WHERE id = {device('own')}", "has another certificate or key"),
    "a device counts under a root of Muster's": (f"UPDATE device SET anchor = (SELECT id FROM root WHERE account = {ACCOUNT} AND origin = 2) WHERE id = {device('own')}", "stands under another fleet root"),
    "a device counts under no root": (f"UPDATE device SET anchor = 0 WHERE id = {device('own')}", "stands under another fleet root"),
    "a device of Muster's counts under a customer's root": (f"UPDATE device SET anchor = (SELECT id FROM root WHERE account = {ACCOUNT} AND origin = 1 AND state = 2) WHERE id = {device('made')}", "stands under another fleet root"),
    "a device of Muster's counts under another account's root": (f"UPDATE device SET anchor = (SELECT id FROM root WHERE account <> {ACCOUNT} AND origin = 2 LIMIT 1) WHERE id = {device('made')}", "stands under another fleet root"),
    "a device by another method": (f"UPDATE device SET method = 1 WHERE id = {device('own')}", "came by another method"),
    "a device by another key": (f"UPDATE device SET prov_key = (SELECT id FROM prov_key WHERE account = {ACCOUNT} AND name = 'black') WHERE id = {device('made')}", "is current, and the log says otherwise"),
    "a device's certificate ends later": (f"UPDATE device SET certificate_not_after = certificate_not_after + 1 WHERE id = {device('made')}", "is current, and the log says otherwise"),
    "a CA ends later": (f"UPDATE ca SET not_after = not_after + 1 WHERE account = {ACCOUNT} AND kind = 1", "is not the vault's"),
    "Muster's root is gone": (f"UPDATE device SET root = NULL WHERE account = {ACCOUNT} AND root = (SELECT id FROM root WHERE account = {ACCOUNT} AND origin = 2); DELETE FROM root WHERE account = {ACCOUNT} AND origin = 2",
                              "does not have the fleet root that Muster made"),
    "the rules of Muster's root": (f"UPDATE root SET key_rule = 2 WHERE account = {ACCOUNT} AND origin = 2", "are not those of Muster's own"),
    "what a disabled root was": (f"UPDATE root SET state_before = 3 WHERE account = {ACCOUNT} AND state = 4", "was known-only before"),
    "the account waits": (f"UPDATE account SET state = 1 WHERE id = {ACCOUNT}", "settings of the account"),
    "the account is deleted": (f"UPDATE account SET state = 3 WHERE id = {ACCOUNT}", None),
    "a certificate is on the list of a deleted account's copy of its CA": ("UPDATE account SET state = 3 WHERE name = 'untouched'; " + insert_like("ca", f"account = {ACCOUNT} AND kind = 1", account="(SELECT id FROM account WHERE state = 3 LIMIT 1)") +
                                                                           f"; UPDATE cert SET issuer = (SELECT MAX(id) FROM ca) WHERE device = {device('out')}", "names another issuing CA"),
    "nobody approves": (f"UPDATE account SET approval = 1 - approval WHERE id = {ACCOUNT}", "settings of the account"),
    "the account's ceiling": (f"UPDATE account SET issue_ceiling = 10000000 WHERE id = {ACCOUNT}", "settings of the account"),
    "an announced device more": (f"INSERT INTO expected (account, device_id, spki, created) VALUES ({ACCOUNT}, 'more', NULL, 1)", "announced devices"),
    "an announced device less": (f"DELETE FROM expected WHERE account = {ACCOUNT} AND device_id = 'two'", "announced devices"),
    "an announced device with another key": (f"UPDATE expected SET spki = randomblob(32) WHERE account = {ACCOUNT} AND device_id = 'one'", "announced devices"),
    "an invitation that nobody made": (f"INSERT INTO invitation (uuid, account, device_id, code, created, expires, spent, spki) VALUES (randomblob(16), {ACCOUNT}, 'mine', randomblob(32), 1, 9999999999, 0, NULL)",
                                       "no operator invited it"),
    "an invitation with another code": (f"UPDATE invitation SET code = randomblob(32) WHERE account = {ACCOUNT} AND device_id = 'invited'", "is not the one that the log says"),
    "an invitation lives longer": (f"UPDATE invitation SET expires = expires + 1 WHERE account = {ACCOUNT} AND device_id = 'invited'", "is not the one that the log says"),
    "an invitation is another one": (f"UPDATE invitation SET uuid = randomblob(16) WHERE account = {ACCOUNT} AND device_id = 'invited'", "is not the one that the log says"),
    "an invitation of another device": (f"UPDATE invitation SET device_id = 'mine' WHERE account = {ACCOUNT} AND device_id = 'invited'", "no operator invited it"),
    "an invitation that was withdrawn": (f"INSERT INTO invitation (uuid, account, device_id, code, created, expires, spent, spki) VALUES (randomblob(16), {ACCOUNT}, 'withdrawn', randomblob(32), 1, 9999999999, 0, NULL)",
                                         "no operator invited it"),
    "an invitation is gone": (f"DELETE FROM invitation WHERE account = {ACCOUNT} AND device_id = 'invited'", "invitation of the entry is not there"),
    "a spent invitation is good again": (f"UPDATE invitation SET spent = 0, spki = NULL WHERE account = {ACCOUNT} AND device_id = 'guest'", "is not spent, and the log says otherwise"),
    "a spent invitation is another key's": (f"UPDATE invitation SET spki = randomblob(32) WHERE account = {ACCOUNT} AND device_id = 'guest'", "is spent, and the log says otherwise"),
    "a spent invitation may come again": (f"UPDATE invitation SET spki = NULL WHERE account = {ACCOUNT} AND device_id = 'guest'", "is spent, and the log says otherwise"),
    "keys elsewhere": (f"UPDATE account SET backend = 2 WHERE id = {ACCOUNT}", "settings of the account"),
    "requests are kept": (f"UPDATE account SET csr_queue = 1 WHERE id = {ACCOUNT}", "settings of the account"),
    "the server makes keys": (f"UPDATE account SET server_keygen = 1 WHERE id = {ACCOUNT}", "settings of the account"),
    "an invitation is spent": (f"UPDATE invitation SET spent = 1, spki = randomblob(32) WHERE account = {ACCOUNT} AND device_id = 'invited'", "is spent, and the log says otherwise"),
    "a key is accepted": (f"INSERT INTO offer (device, spki, root, accepted, first_seen, last_seen, address) SELECT id, randomblob(32), root, 1, 1, 1, '' FROM device WHERE id = {device('own')}", "no operator accepted it"),
}


def appended(db, account, *entries, rows="", seal=None):
    """SQL that continues the account's log as Muster does, hash by hash: (actor, action, object, detail), …"""
    chain, seq, before = db.execute("SELECT chain, audit_head.seq, audit_head.hash FROM audit_head JOIN account ON account.id = chain WHERE name = ?", (account,)).fetchone()
    out = []
    for actor, action, of, detail in entries:
        seq, at, text = seq + 1, int(time.time()), json.dumps(detail, sort_keys=True, separators=(",", ":"))
        fields = [x.encode() for x in (actor, action, of, text)]
        before = hashlib.sha256(before + struct.pack(">QQ", seq, at) + b"".join(struct.pack(">I", len(f)) + f for f in fields)).digest()
        out.append(f"INSERT INTO audit (chain, seq, at, actor, action, object, detail, hash, seal) VALUES ({chain}, {seq}, {at}, '{actor}', '{action}', '{of}', '{text}', {blob(before)}, {seal or 'NULL'})")
    out.append(f"UPDATE audit_head SET seq = {seq}, hash = {blob(before)} WHERE chain = {chain}")
    return "; ".join([*filter(None, [rows]), *out])


def uuid_of(db, table, where):
    raw = db.execute(f"SELECT uuid FROM {table} WHERE {where}").fetchone()[0].hex()
    return "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))


def fingerprint(n):
    return f"{n:064x}"


# Entries: with or without the rows that they would go with.
def operator_s_entry(db, a):
    return appended(db, a, ("token:admin", "device.release", "held", {"id": "x"}), rows=f"UPDATE device SET state = 1 WHERE id = {device('held')}".replace("{a}", a))


def stolen_seal(db, a):
    sealed = db.execute("SELECT seal FROM audit JOIN account ON account.id = chain WHERE name = ? AND seal IS NOT NULL", (a,)).fetchone()[0]
    return appended(db, a, ("token:admin", "device.release", "held", {"id": "x"}), seal=blob(sealed))


def root_with_entries(db, a):
    new = "12345678-1234-7234-8234-123456789abc"
    row = insert_like("root", f"account = {ACCOUNT} AND origin = 1 AND state = 2", **ROOT | {"uuid": blob(bytes.fromhex(new.replace("-", "")))}).replace("{a}", a)
    said = {"subject": "x", "fingerprint": STRANGER.cert.fingerprint(hashes.SHA256()).hex()}
    return appended(db, a, ("token:admin", "root.upload", new, said), ("token:admin", "root.prove", new, said), rows=row)


def enrolment(key, how, of, **more):
    return lambda db, a: appended(db, a, (f"key:{key}", "device.enrol", of, {"id": "x", "how": how, "key": key, "fingerprint": fingerprint(7), **more}))


def invitation_of(db, a, of):
    return uuid_of(db, "invitation", f"account = (SELECT id FROM account WHERE name = '{a}') AND device_id = '{of}'")


def invited_enrolment(how, of, invitation_s, **more):
    """By the invitation of a device; None: one that there is not."""
    def sql(db, a):
        invitation = invitation_of(db, a, invitation_s) if invitation_s else "12345678-1234-7234-8234-123456789abc"
        return appended(db, a, (f"invitation:{invitation}", "device.enrol", of, {"id": "x", "how": how, "invitation": invitation, "spki": fingerprint(9), "fingerprint": fingerprint(7), **more}))
    return sql


def renewal(of):
    return lambda db, a: appended(db, a, (f"device:{of}", "device.renew", of, {"id": "x", "key": "good", "fingerprint": fingerprint(7), "replaces": fingerprint(8)}))


def first_contact(where, state):
    return lambda db, a: appended(db, a, ("device:late", "device.first_contact", "late", {"root": uuid_of(db, "root", f"account = (SELECT id FROM account WHERE name = '{a}') AND origin = 1 AND {where}"), "state": state,
                                                                                       "spki": fingerprint(1), "fingerprint": fingerprint(2)}))


def taken_back(db, a):
    """The last entry and what it did."""
    chain, seq = db.execute("SELECT chain, seq FROM audit_head JOIN account ON account.id = chain WHERE name = ?", (a,)).fetchone()
    before = db.execute("SELECT hash FROM audit WHERE chain = ? AND seq = ?", (chain, seq - 1)).fetchone()[0]
    return (f"DELETE FROM audit WHERE chain = {chain} AND seq = {seq}; UPDATE audit_head SET seq = {seq - 1}, hash = {blob(before)} WHERE chain = {chain}; "
            f"UPDATE device SET state = 1 WHERE id = {device('last')}; UPDATE cert SET state = 2 WHERE device = {device('last')}").replace("{a}", a)


ENTRIES = {
    "an operator's entry": (operator_s_entry, "control did not write it"),
    "an operator's entry under a seal from elsewhere": (stolen_seal, "control did not write it"),
    "a root of a stranger with its entries": (root_with_entries, "control did not write it"),
    "a revocation that no operator wanted": (lambda db, a: appended(db, a, ("token:admin", "device.certificate_revoke", "made", {"id": "x", "fingerprint": fingerprint(2), "state": "void", "reason": "unspecified"})),
                                             "control did not write it"),
    "an action that there is not": (lambda db, a: appended(db, a, ("muster", "whatever", "x", {})), "control did not write it"),
    "an enrolment without its rows": (enrolment("good", "new", "thin-air", state="pending"), None),
    "an enrolment with a blacklisted key": (enrolment("black", "new", "late", state="pending"), "had been blacklisted"),
    "an enrolment with a key that there is not": (enrolment("ghost", "new", "late", state="pending"), "No provisioning key of that name"),
    "an enrolment of a device that was cut off": (enrolment("good", "re-provisioned", "out"), "was cut off"),
    "an enrolment of a device that is there": (enrolment("good", "new", "made", state="pending"), "was there already"),
    "an enrolment past the operators": (enrolment("good", "new", "late", state="active"), "could not be in that state"),
    "a first contact past the operators": (first_contact("state = 2", "active"), "could not be in that state"),
    "a first contact under a root that was not proved": (first_contact("state = 1", "pending"), "was not in use"),
    "a first contact under no root": (lambda db, a: appended(db, a, ("device:late", "device.first_contact", "late", {"state": "pending", "spki": fingerprint(1), "fingerprint": fingerprint(2)})),
                                      "does not have the fleet root"),
    "a key changed under no root": (lambda db, a: appended(db, a, ("device:own", "device.key_changed", "own", {"spki": fingerprint(1), "fingerprint": fingerprint(2)})), "does not have the fleet root"),
    "an enrolment outside the key's pattern": (enrolment("good", "new", "LATE", state="pending"), "does not match the pattern"),
    "an enrolment of who was not invited": (invited_enrolment("new", "late", None, state="pending"), "was not invited"),
    "an enrolment by another device's invitation": (invited_enrolment("new", "late", "invited", state="pending"), "was not invited"),
    "an enrolment by a spent invitation": (invited_enrolment("re-provisioned", "guest", "guest"), "had been spent"),
    "an enrolment by a spent invitation again": (lambda db, a: appended(db, a, (f"invitation:{invitation_of(db, a, 'guest')}", "device.enrol", "guest",
                                                                               {"id": "x", "how": "answer lost", "invitation": invitation_of(db, a, "guest"), "fingerprint": fingerprint(7)})), "had not been spent for that key"),
    "an enrolment by nothing": (lambda db, a: appended(db, a, ("device:late", "device.enrol", "late", {"id": "x", "how": "new", "fingerprint": fingerprint(7), "state": "pending"})), "No provisioning key of that name"),
    "an invitation that no operator made, with its entry": (lambda db, a: appended(db, a, ("token:admin", "device.invite", "mine", {"id": "12345678-1234-7234-8234-123456789abc", "expires": "2099-01-01T00:00:00Z", "sum": "0" * 64})),
                                                            "control did not write it"),
    "an enrolment by an invitation without its rows": (invited_enrolment("new", "invited", "invited", state="pending"), None),
    "a renewal of a device that was cut off": (renewal("out"), "could not renew"),
    "a renewal of another certificate": (renewal("made"), "renewed another certificate than its own"),
    "a first use of a device that was cut off": (lambda db, a: appended(db, a, ("device:out", "device.first_use", "out", {"fingerprint": fingerprint(2)})), "was cut off"),
    "a recovery of a certificate that no operator admitted": (lambda db, a: appended(db, a, ("token:admin", "device.recover", "mine", {"known": False, "fingerprint": fingerprint(2), "state": "active"})),
                                                              "control did not write it"),
    "a key that nobody accepted": (lambda db, a: appended(db, a, ("device:own", "device.key_changed", "own",
                                                                   {"root": uuid_of(db, "root", f"account = (SELECT id FROM account WHERE name = '{a}') AND origin = 1 AND state = 2"), "spki": fingerprint(1), "fingerprint": fingerprint(2)})),
                                   "Nobody had accepted"),
    "an announcement that was not waited for": (lambda db, a: appended(db, a, ("device:waits", "device.announced", "waits", {})), "did not wait for being announced"),
    "the last entry is taken back": (taken_back, "missing at the end"),
    "the head alone goes on": (lambda db, a: f"UPDATE audit_head SET seq = seq + 1 WHERE chain = (SELECT id FROM account WHERE name = '{a}')", "entries are missing"),
}


def furnish(s, a):
    def api(method, path, body=None):
        answer = s.api(method, f"/api/v1/accounts/{a}{path}", body)
        assert answer.status in (200, 201), answer
        return answer

    s.account(a, "test", "both")
    good = s.key(a, "--name", "good", "--max-devices", "9", "--id-pattern", "[a-z]*")
    s.key(a, "--name", "black")
    api("POST", "/keys/black/blacklist")
    fleet = s.root(a, Fleet(f"Root of {a}"))
    s.root(a, Fleet(f"Other root of {a}"), prove=False)
    api("POST", f"/roots/{s.root(a, Fleet(f'Disabled root of {a}')).root['id']}/disable", {})
    assert s.gateway(fleet.device("own")).ecus().status == 201
    first = Device(s.gateway(good).enrol("made").body)
    for name in ("out", "held", "last", "cut", "gone"):
        assert s.gateway(Device(s.gateway(good).enrol(name).body)).ecus().status == 201
    api("POST", "/devices/out/revoke", {})
    api("POST", "/devices/held/quarantine", {})
    api("POST", f"/certificates/{api('GET', '/devices/cut').json['certificates'][0]['serial']}/revoke", {"reason": "superseded", "confirm": 1})
    api("POST", "/devices/gone/revoke", {})
    api("POST", "/devices/gone/release", {})
    for name in ("invited", "withdrawn"):
        api("POST", "/invitations", {"device_id": name})
    api("DELETE", "/invitations/withdrawn")
    code = api("POST", "/invitations", {"device_id": "guest"}).json["code"]
    own = new_key()
    assert s.gateway(est.enrolled(s.gateway(), "guest", own, account=a, **basic("guest", code))).ecus().status == 201
    api("POST", "/expected", {"items": [{"device_id": "one", "fingerprint": "ab" * 32}, {"device_id": "two"}]})
    time.sleep(0.5)
    assert s.gateway(good).enrol("made").status == 200  # its answer was lost: a second certificate
    assert s.gateway(first).ecus().status == 201
    api("PATCH", "", {"approval": True})
    assert s.gateway(good).enrol("waits").status == 200
    api("POST", "/devices/last/revoke", {})
    assert said_of(s, a)["ok"] is True, said_of(s, a)


def said_of(s, account):
    return s.api("POST", f"/api/v1/accounts/{account}/audit/verify", {}).json


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    """A server whose captured gateway has written each of ENTRIES into an account of its own; and one account, `rows`, for all of ROWS, one after the other."""
    s = Server(tmp_path_factory.mktemp("forged") / "data").start()
    s.names = {what: f"forged-{i}" for i, what in enumerate(ENTRIES)}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda a: furnish(s, a), (*s.names.values(), "rows", "untouched")))
    time.sleep(2.5)  # control has had signed what it did
    assert s.stop() == 0
    with contextlib.closing(s.database()) as db:
        statements = [ENTRIES[what][0](db, a) for what, a in s.names.items()]
    patch = pytest.MonkeyPatch()
    patch.setattr(conftest, "MUSTERD", COMPROMISED)
    s.start(env={"MUSTER_ATTACK": "rows", "MUSTER_ATTACK_SQL": "BEGIN; PRAGMA defer_foreign_keys = ON; " + "; ".join(statements) + "; COMMIT"})
    patch.undo()
    socket.create_connection(("127.0.0.1", s.port)).close()  # the server has begun: the attack may
    soon(True, lambda: "attack: over\n" in s.log_text(), 30)
    assert "attack: rows: written\n" in s.log_text(), [line for line in s.log_text().splitlines() if "rows:" in line]
    s.as_it_was = s.dir.parent / "registry.as-it-was"
    with contextlib.closing(sqlite3.connect(s.dir / "registry.db", timeout=20, isolation_level=None)) as db:
        db.execute("VACUUM INTO ?", (str(s.as_it_was),))
    yield s
    s.stop()


def is_found(s, account, reason):
    said = said_of(s, account)
    assert said["ok"] is False and (reason is None or reason in said["reason"]), said
    assert said["reason"] in refused("storage_corrupt", s.muster, "audit", "verify", "--account", account).text


@pytest.mark.parametrize("what", ENTRIES)
def test_what_was_forged_with_its_entry_is_found(forged, what):
    is_found(forged, forged.names[what], ENTRIES[what][1])


@pytest.fixture
def rows(forged):
    """Writes into the registry of the running server, as its gateway can, and puts back what was there.  The log is not touched, so that heads which are
    signed meanwhile say nothing new."""
    with contextlib.closing(sqlite3.connect(forged.dir / "registry.db", timeout=20, isolation_level=None)) as db:
        db.execute("ATTACH ? AS as_it_was", (str(forged.as_it_was),))
        yield lambda sql: db.executescript("BEGIN IMMEDIATE; PRAGMA defer_foreign_keys = ON; " + sql.replace("{a}", "rows") + "; COMMIT")
        db.executescript("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE; " + "".join(put_back(db, table) for table in REPLACED) + "COMMIT")


def put_back(db, table):
    key = "(" + ", ".join(name for _, name, _, _, _, primary in db.execute(f"PRAGMA main.table_info({table})") if primary) + ")"
    return (f"DELETE FROM main.{table} WHERE {key} IN (SELECT {key[1:-1]} FROM main.{table} EXCEPT SELECT {key[1:-1]} FROM as_it_was.{table}); "
            f"INSERT OR REPLACE INTO main.{table} SELECT * FROM as_it_was.{table} EXCEPT SELECT * FROM main.{table}; ")


@pytest.mark.parametrize("what", ROWS)
def test_what_was_forged_is_found(forged, rows, what):
    assert said_of(forged, "rows")["ok"] is True  # what the test before wrote is gone
    rows(ROWS[what][0])
    is_found(forged, "rows", ROWS[what][1])


def test_what_was_let_be_is_whole(forged):
    said = said_of(forged, "untouched")
    assert said["ok"] is True and (said["devices"], said["certificates"]) == (8, 9), said


def test_the_server_goes_on(forged):
    key = forged.key("untouched")
    assert forged.gateway(key).enrol("still").status == 200
    assert said_of(forged, "untouched")["ok"] is True


# --- what control makes of it ---------------------------------------------------------------------------------------------------------------


WIDER = ("UPDATE account SET issue_ceiling = 10000000, device_life = device_life * 4, device_key = 2, approval = 0, profile = 'keys=p256,p384,p521,ed25519,rsa2048' || char(10) WHERE name = 'narrow'; UPDATE account SET method = 3 WHERE name = 'own'; "
         "INSERT INTO account (name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) SELECT 'mallory', kind, method, state, "
         "created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling FROM account WHERE name = 'wide'; UPDATE account SET state = 3 WHERE name = 'doomed'")


def test_control_tells_the_vault_nothing_that_no_operator_said(fresh, monkeypatch):
    """Ceilings, lives, keys and methods of an account, new accounts and the end of one: the registry's rows alone do not count.  The vault is
    ended in between, so that control greets it and looks at every account anew."""
    a = Attack(fresh(), monkeypatch)
    s = a.s
    s.account("doomed", "test", "shared")
    token = s.token("of-doomed", "operator", "doomed")["token"]
    hour = time.time() // 3600
    a.run("rows", "ceiling", "vault", MUSTER_ATTACK_SQL=WIDER, MUSTER_ATTACK_ACCOUNTS="narrow own mallory doomed")
    hours = 1 + int(time.time() // 3600 - hour)
    assert "rows: written" in a.said
    said = dict(line.rsplit(": ", 1) for line in a.lines("vault"))
    assert said["as_ever own"] == "method_not_enabled" and said["as_ever mallory"] == "not_found" and said["as_ever doomed"] == "issued"
    issued = [c for account, c in a.certificates() if account == "narrow"]
    before, after = map(int, re.search(r"narrow: (\d+) before, ended, and back, (\d+) after", "\n".join(a.lines("ceiling"))).groups())
    assert len(issued) + before + after <= CEILING * hours
    for account, cert in a.certificates():
        within_the_profile(s, account, cert, YEAR if account == "narrow" else 20 * YEAR + 5 * 86400)
    assert list((s.dir / "vault").glob("account-doomed.*")) and not list((s.dir / "vault").glob("account-mallory.*"))
    assert not (s.dir / "tls" / "mallory.account.pem").exists()
    assert s.api("GET", "/api/v1/whoami", token=token).status == 200
    for account in ("narrow", "own", "mallory", "doomed"):
        assert f"account_not_control_s account={account} " in s.log_text()
    # An operator's change does not carry the rest of it along.
    assert "are not those that an operator gave it" in refused("storage_corrupt", s.muster, "account", "set", "narrow", "--approval", "yes").text
    assert said_of(s, "mallory")["reason"] == "The vault does not know the account." and said_of(s, "narrow")["ok"] is False
    stays(True, lambda: bool(list((s.dir / "vault").glob("account-doomed.*"))))
    s.muster("account", "set", "wide", "--approval", "yes")
    assert said_of(s, "wide")["ok"] is True


def test_an_account_whose_row_is_not_control_s_keeps_its_host_name(fresh):
    """Its devices are not stranded by what became of its settings."""
    s = fresh()
    s.account("a")
    s.host("a")
    assert s.stop() == 0
    db = s.database()
    db.execute("UPDATE account SET issue_ceiling = issue_ceiling + 1")
    db.execute("INSERT INTO account (name, kind, method, state, created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling) SELECT 'mallory', kind, method, state, "
               "created, reprovision, approval, expected_only, device_key, device_life, lost_answer_window, issue_ceiling FROM account")
    db.close()
    (s.dir / "tls" / "a.account.pem").unlink()
    s.start()
    assert "account_not_control_s account=a " in s.log_text()
    soon(True, lambda: (s.dir / "tls" / "a.account.pem").exists(), 5)
    s.hosts.clear()
    s.host("a")
    assert not (s.dir / "tls" / "mallory.account.pem").exists()


def test_what_an_operator_did_a_moment_ago_is_not_taken_back(fresh, monkeypatch):
    """The log is cut right behind a revocation, well before the minute in which heads are signed by themselves."""
    s = fresh()
    furnish(s, "a")
    assert s.stop() == 0
    s.start()
    s.muster("device", "revoke", "held", "--account", "a")
    time.sleep(3)
    assert s.stop() == 0
    db = s.database()
    chain, seq = db.execute("SELECT chain, seq FROM audit_head JOIN account ON account.id = chain WHERE name = 'a'").fetchone()
    hash_before = db.execute("SELECT hash FROM audit WHERE chain = ? AND seq = ?", (chain, seq - 1)).fetchone()[0]
    db.execute("DELETE FROM audit WHERE chain = ? AND seq = ?", (chain, seq))
    db.execute("UPDATE audit_head SET seq = ?, hash = ? WHERE chain = ?", (seq - 1, hash_before, chain))
    db.execute("UPDATE device SET state = 3 WHERE device_id = 'held'")
    db.execute("UPDATE cert SET state = 2 WHERE device = (SELECT id FROM device WHERE device_id = 'held')")
    db.close()
    s.start()
    assert "missing at the end" in said_of(s, "a")["reason"]


def test_a_log_that_was_made_anew_is_found_however_many_heads_were_signed_since(fresh):
    """Every signed head counts, not the newest thousand."""
    s = fresh()
    furnish(s, "a")
    time.sleep(2.5)
    assert s.stop() == 0
    control = s.database("control.db")
    first = control.execute("SELECT min(seq) FROM audit_signed WHERE chain = 'a'").fetchone()[0]
    control.execute("UPDATE audit_signed SET hash = zeroblob(32) WHERE chain = 'a' AND seq = ?", (first,))
    control.executemany("INSERT INTO audit_signed (chain, seq, hash, at, signature) VALUES ('a', ?, zeroblob(32), 1, zeroblob(64))", [(100000 + i,) for i in range(1500)])
    control.close()
    s.start()
    said = said_of(s, "a")
    assert said["ok"] is False and said["first_bad"] == first

"""`audit verify` without an account: everything, one after the other; how far it is; and what stands in the registry besides rows."""
import os
import pty
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import conftest
from client import Device
from conftest import Refused, refused, soon


@pytest.fixture
def s(fresh):
    s = fresh()
    for a in ("a", "b", "gone"):
        s.account(a)
        key = s.key(a)
        for device in ("d1", "d2"):
            assert s.gateway(Device(s.gateway(key).enrol(device).body)).ecus().status == 201
    s.muster("account", "delete", "gone", "--yes")
    return s


def sql(s, text):
    assert s.stop() == 0
    db = s.database()
    db.executescript(text)
    db.close()
    s.start()


def test_one_command_verifies_everything(s):
    said = s.muster("audit", "verify")
    assert said["ok"] and said["id"] == "server"
    assert [(a["id"], a["ok"], a["devices"]) for a in said["accounts"]] == [("a", True, 2), ("b", True, 2), ("gone", True, 0)]
    assert s.muster("audit", "verify", "--server-only")["accounts"] is None
    with pytest.raises(Refused) as said:
        s.muster("audit", "verify", "--account", "a", "--server-only")
    assert said.value.status == 2


def test_one_account_that_was_forged_is_named(s):
    sql(s, "UPDATE device SET again = 2 WHERE account = (SELECT id FROM account WHERE name = 'b') AND device_id = 'd2'")
    assert "The account b: The device d2 may come again" in refused("storage_corrupt", s.muster, "audit", "verify").text
    said = s.api("POST", "/api/v1/audit/verify", {"accounts": True}).json
    assert said["ok"] is False and [a["ok"] for a in said["accounts"]] == [True, False, True]
    assert s.muster("audit", "verify", "--server-only")["ok"] and s.muster("audit", "verify", "--account", "a")["ok"]


@pytest.mark.parametrize("name,undone", [("b", 3), ("gone", 2)])
def test_an_account_that_is_said_to_be_deleted_or_not_is_looked_at(s, name, undone):
    """What no operator did: neither the end of an account nor its return."""
    sql(s, f"UPDATE account SET state = {undone} WHERE name = '{name}'")
    assert f"The account {name}: " in refused("storage_corrupt", s.muster, "audit", "verify").text


def test_an_account_that_was_taken_out_whole_is_missed(s):
    soon(True, lambda: "b" in str(s.muster("audit", "list")), 5)
    time.sleep(2.5)
    b = "(SELECT id FROM account WHERE name = 'b')"
    sql(s, "PRAGMA foreign_keys = off; " + "; ".join(f"DELETE FROM {t} WHERE account = {b}" for t in ("cert", "device_key", "device", "prov_key", "root", "ca"))
        + f"; DELETE FROM audit WHERE chain = {b}; DELETE FROM audit_head WHERE chain = {b}; DELETE FROM account WHERE name = 'b'")
    assert "The log of the account b is not the one that was anchored" in refused("storage_corrupt", s.muster, "audit", "verify").text


@pytest.mark.parametrize("made", ["CREATE TRIGGER mine AFTER UPDATE OF state ON device BEGIN UPDATE device SET state = 1 WHERE device_id = 'd1'; END",
                                  "DROP TRIGGER device_uncounted; CREATE TRIGGER device_uncounted AFTER DELETE ON device BEGIN SELECT 1; END",
                                  "CREATE VIEW mine AS SELECT * FROM device", "CREATE INDEX mine ON device (id) WHERE state = 9"])
def test_what_would_act_in_others_is_found(s, made):
    sql(s, made)
    name = made.rsplit("CREATE ", 1)[1].split()[:2]
    for options in ([], ["--server-only"], ["--account", "a"]):
        assert f"a {' '.join(name).lower()} that is none of Muster's" in refused("storage_corrupt", s.muster, "audit", "verify", *options).text


@pytest.mark.parametrize("gone", ["crl_cert", "crl_device"])
def test_what_no_longer_acts_is_found(s, gone):
    sql(s, f"DROP TRIGGER {gone}")
    for options in ([], ["--server-only"], ["--account", "a"]):
        assert "lacks a trigger of Muster's" in refused("storage_corrupt", s.muster, "audit", "verify", *options).text


# --- how far it is --------------------------------------------------------------------------------------------------------------------------


IDLE = {"running": False, "account": None, "accounts": 0, "entries": 0, "entries_all": None, "devices": 0, "devices_all": None, "certificates": 0, "certificates_all": None}


def test_how_far_it_is(s):
    assert s.api("GET", "/api/v1/audit/verify").json == {"id": "server", **IDLE}
    assert s.api("GET", "/api/v1/accounts/a/audit/verify").json == {"id": "a", **IDLE}
    os.kill(s.child("vault"), signal.SIGSTOP)  # which it has to ask first
    try:
        with ThreadPoolExecutor(20) as pool:
            one = pool.submit(s.api, "POST", "/api/v1/accounts/a/audit/verify", {})
            soon(True, lambda: s.api("GET", "/api/v1/accounts/a/audit/verify").json["running"], 5)
            assert s.api("GET", "/api/v1/audit/verify").json["running"] is False
            others = [pool.submit(s.api, "POST", "/api/v1/accounts/b/audit/verify", {}) for _ in range(12)]
            soon(True, lambda: sum(o.done() for o in others) == 5, 5)  # eight at once are enough
            assert all(o.result().code == "busy" for o in others if o.done())
            os.kill(s.child("vault"), signal.SIGCONT)
            assert one.result().json["ok"]
    finally:
        os.kill(s.child("vault"), signal.SIGCONT)
    assert s.api("GET", "/api/v1/accounts/a/audit/verify").json["running"] is False


def pieces(terminal):
    """What was written to it, until nobody can write any more: a terminal gives it away bit by bit."""
    while True:
        try:
            yield os.read(terminal, 65536)
        except OSError:
            return


def test_on_a_terminal_it_is_shown(s):
    os.kill(s.child("vault"), signal.SIGSTOP)
    ours, theirs = pty.openpty()
    try:
        p = subprocess.Popen([conftest.MUSTER, "--data", s.dir, "audit", "verify", "--json"], stdout=subprocess.PIPE, stderr=theirs)
        time.sleep(2.5)
        os.kill(s.child("vault"), signal.SIGCONT)
        out = p.communicate(timeout=60)[0]
    finally:
        os.kill(s.child("vault"), signal.SIGCONT)
        os.close(theirs)
    shown = b"".join(pieces(ours)).decode()
    os.close(ours)
    assert "Verifying, 1 s so far" in shown and "Verifying, 2 s so far" in shown and shown.endswith("\033[K"), shown
    assert p.returncode == 0 and b'"accounts"' in out

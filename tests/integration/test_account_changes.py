"""Changes of accounts: one after the other, whole or mended at the next start, and never without a count of whom they cut off."""
import concurrent.futures
import os
import signal

from client import Device, Fleet
from conftest import refused, soon


def together(*calls):
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [f.result() for f in [pool.submit(call) for call in calls]]


def test_two_of_one_name_at_once_make_one_account(server):
    for i in range(5):
        name = f"twice-{i}"
        answers = together(lambda: server.api("POST", "/api/v1/accounts", {"id": name, "kind": "test", "method": "shared"}),
                           lambda: server.api("POST", "/api/v1/accounts", {"id": name, "kind": "production", "method": "device"}))
        assert sorted(a.status for a in answers) == [201, 409]
        shown = server.muster("account", "show", name)
        assert (shown["kind"], shown["method"]) in (("test", "shared"), ("production", "device"))
        if shown["method"] == "shared":
            assert server.gateway(server.key(name)).enrol("one").status == 200


def test_two_settings_at_once_are_both_kept(server):
    server.account("kept", "test", "shared")
    for i in range(5):
        server.muster("account", "set", "kept", "--approval", "no", "--reprovision", "never")
        answers = together(lambda: server.api("PATCH", "/api/v1/accounts/kept", {"approval": True}), lambda: server.api("PATCH", "/api/v1/accounts/kept", {"reprovision": "ask"}))
        assert [a.status for a in answers] == [200, 200]
        settings = server.muster("account", "show", "kept")["settings"]
        assert (settings["approval"], settings["reprovision"]) == (True, "ask")


def test_a_method_with_devices_goes_only_once_they_were_counted(server):
    server.account("loses", "test", "both")
    device = server.root("loses").device("by-its-own")
    assert server.gateway(device).ecus().status == 201
    answer = server.api("PATCH", "/api/v1/accounts/loses", {"method": "shared"})
    assert (answer.status, answer.code, answer.json["count"]) == (409, "confirmation_required", 1)
    assert server.muster("account", "show", "loses")["method"] == "both"
    assert server.gateway(device).get("/x").status == 404
    assert server.api("PATCH", "/api/v1/accounts/loses", {"method": "shared", "confirm": 1}).status == 200
    soon("method_not_enabled", lambda: server.gateway(device).get("/x").code)
    assert server.api("PATCH", "/api/v1/accounts/loses", {"method": "both"}).status == 200
    soon(404, lambda: server.gateway(device).get("/x").status)


def test_what_a_crash_left_between_vault_and_registry_is_mended_at_the_start(fresh):
    """The vault was told of a change, and the registry never was: the registry counts."""
    s = fresh()
    s.account("torn", "test", "both")
    key = s.key("torn")
    s.stop()
    db = s.database()
    db.execute("UPDATE account SET method = 2 WHERE name = 'torn'")  # device credentials alone
    db.close()
    told = s.database("control.db")  # where both stand while the change is under way
    told.execute("UPDATE account_told SET before = replace(settings, 'method=3', 'method=2') WHERE name = 'torn'")
    told.close()
    s.start()
    assert s.gateway(key).enrol("no-more").code == "method_not_enabled"
    s.muster("account", "set", "torn", "--method", "both")
    assert s.gateway(key).enrol("again").status == 200


def test_one_account_that_cannot_be_mended_stops_nobody_else(fresh):
    s = fresh()
    s.account("broken", "test", "shared")
    s.account("whole", "test", "shared")
    s.stop()
    for record in (s.dir / "vault").glob("account-broken.*"):
        record.write_bytes(b"damaged")
    s.start()
    assert s.gateway(s.key("whole")).enrol("fine").status == 200


def test_deleting_without_the_vault_is_finished_when_it_is_back(fresh):
    s = fresh()
    s.account("doomed", "test", "shared")
    token = s.token("of-doomed", "owner", "doomed")["token"]
    assert list((s.dir / "vault").glob("account-doomed.*"))
    os.kill(s.child("vault"), signal.SIGKILL)
    answer = s.api("DELETE", "/api/v1/accounts/doomed?confirm=0")
    assert answer.status == 200 and answer.json["state"] == "deleted"
    soon(0, lambda: len(list((s.dir / "vault").glob("account-doomed.*"))), 20)
    assert s.api("GET", "/api/v1/whoami", token=token).status == 401


def test_namesakes_in_another_account_hide_nobody(server):
    server.account("honest", "test", "device")
    server.account("crowd", "test", "device")
    fleet = server.root("honest")
    line = fleet.intermediate("Fleet Line 9")
    known = line.device("known", chain=[line.cert])
    assert server.gateway(known).ecus().status == 201
    for _ in range(4):
        server.root("crowd", Fleet("Fleet Line 9"))
    refused("invalid_request", server.root, "crowd", Fleet("Fleet Line 9"))
    assert server.gateway(known).get("/x").status == 404
    assert server.gateway(line.device("new-one", chain=[line.cert])).ecus().status == 201

"""What operators do to a device acts within a second; tombstones keep out what was deleted or revoked until an audited release."""
import json
import ssl
import time

import pytest

from client import Device
from conftest import refused, soon, stays

PATH = "/director/2.root.json"


def ask(server, identity, **options):
    answer = server.gateway(identity, **options).get(PATH)
    assert answer.status in (404, 403, 409), answer
    return None if answer.status == 404 else answer.code


@pytest.fixture(scope="module")
def world(server):
    """An account with both methods, its root and a key."""
    server.account("states", "test", "both")
    server.fleet, server.prov = server.root("states"), server.key("states")
    return server


def make(world, method, device_id):
    if method == "device":
        identity = world.fleet.device(device_id)
    else:
        answer = world.gateway(world.prov).enrol(device_id)
        assert answer.status == 200, answer
        identity = Device(answer.body)
    assert ask(world, identity) is None
    return identity


def device(world, verb, device_id, *options):
    return world.muster("device", verb, device_id, "--account", "states", *options)


METHODS = ["device", "shared"]


# --- within a second -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_quarantine_and_release(world, method):
    d = f"quarantine-{method}"
    identity = make(world, method, d)
    shown = device(world, "quarantine", d, "--reason", "smells of smoke")
    assert (shown["state"], shown["reason"]) == ("quarantined", "smells of smoke")
    soon("device_quarantined", lambda: ask(world, identity))
    refused("wrong_state", device, world, "quarantine", d)
    assert device(world, "release", d)["state"] == "active"
    soon(None, lambda: ask(world, identity))
    refused("wrong_state", device, world, "release", d)
    assert device(world, "show", d)["reason"] is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("verb, state, code", [("revoke", "revoked", "device_revoked"), ("delete", "deleted", "device_deleted")])
def test_revoke_and_delete_leave_a_tombstone(world, method, verb, state, code):
    d = f"{verb}-{method}"
    identity = make(world, method, d)
    assert device(world, verb, d)["state"] == state
    soon(code, lambda: ask(world, identity))
    shown = device(world, "show", d)  # the tombstone
    assert (shown["state"], shown["spki"]) == (state, identity.spki)
    refused("wrong_state", device, world, verb, d)
    refused("wrong_state", device, world, "quarantine", d)
    refused("wrong_state", device, world, "approve", d)
    # It wins over every other way in under its ID.
    assert ask(world, world.fleet.device(d)) == code
    assert world.gateway(world.prov).enrol(d).code == code
    assert world.gateway(world.prov).enrol(d).status == 403
    # A newer certificate with the old key is no way around.
    if method == "device":
        assert ask(world, world.fleet.device(d, key=identity.key, days=(-1, 999))) == code
        assert ask(world, world.fleet.device(d + "-alias", key=identity.key)) == code


def test_a_revoked_device_can_be_deleted_and_stays_out(world):
    identity = make(world, "device", "twice")
    device(world, "revoke", "twice")
    assert device(world, "delete", "twice")["state"] == "deleted"
    soon("device_deleted", lambda: ask(world, identity))


def test_a_device_may_be_named_by_its_id_alone(world):
    identity = make(world, "device", "by-uuid")
    shown = device(world, "show", "by-uuid")
    assert world.muster("device", "quarantine", shown["id"])["state"] == "quarantined"  # without --account
    soon("device_quarantined", lambda: ask(world, identity))


# --- coming back ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_a_released_id_comes_again_with_a_new_key_only(world, verb):
    d = f"release-{verb}"
    identity = make(world, "device", d)
    first = device(world, "show", d)["id"]
    device(world, verb, d)
    released = device(world, "release", d)
    assert released["released"] is True and released["device_id"] == d
    refused("not_found", device, world, "show", d)
    stays("device_key_barred", lambda: ask(world, identity))
    assert ask(world, world.fleet.device(d + "-2", key=identity.key)) == "device_key_barred"
    assert ask(world, world.fleet.device(d)) is None
    assert device(world, "show", d)["id"] != first
    assert ask(world, identity) == "device_key_barred"


@pytest.mark.parametrize("verb", ["revoke", "delete"])
def test_same_key_lets_the_key_of_an_uploaded_root_come_back(world, verb):
    d = f"same-key-{verb}"
    identity = make(world, "device", d)
    device(world, verb, d)
    device(world, "release", d, "--same-key")
    soon(None, lambda: ask(world, identity))
    assert device(world, "show", d)["spki"] == identity.spki


@pytest.mark.parametrize("verb", ["revoke", "delete"])
@pytest.mark.parametrize("how", [[], ["--same-key"]])
def test_a_certificate_that_muster_issued_and_revoked_never_comes_back(world, verb, how):
    d = f"issued-{verb}-{len(how)}"
    identity = make(world, "shared", d)
    device(world, verb, d)
    device(world, "release", d, *how)
    stays("certificate_revoked", lambda: ask(world, identity))
    again = make(world, "shared", d)
    assert again.spki != identity.spki
    assert ask(world, identity) == "certificate_revoked"
    assert ask(world, again) is None


def test_a_certificate_that_was_never_used_is_revoked_with_its_device(world):
    first = Device(world.gateway(world.prov).enrol("unused").body)
    time.sleep(0.6)
    second = Device(world.gateway(world.prov).enrol("unused").body)
    device(world, "revoke", "unused")
    soon("device_revoked", lambda: ask(world, first))
    device(world, "release", "unused")
    for identity in (first, second):
        stays("certificate_revoked", lambda identity=identity: ask(world, identity), 0.3)


def test_release_is_in_the_audit_log(world):
    make(world, "device", "recorded")
    for verb, options in (("quarantine", ["--reason", "look"]), ("release", []), ("revoke", ["--reason", "stolen"]), ("release", ["--same-key"])):
        device(world, verb, "recorded", *options)
    entries = [e for e in world.muster("audit", "list", "--account", "states") if e["object"] == "recorded"]
    assert [e["action"] for e in entries] == ["device.first_contact", "device.quarantine", "device.release", "device.revoke", "device.release"]
    assert entries[1]["detail"]["reason"] == "look" and entries[3]["detail"]["reason"] == "stolen"
    assert entries[4]["detail"]["same_key"] is True and entries[4]["detail"]["state"] == "revoked"
    assert all(e["actor"] for e in entries)


# --- connections that are open ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("verb", ["quarantine", "revoke", "delete"])
def test_an_open_connection_gets_the_new_answer(world, method, verb):
    d = f"open-{verb}-{method}"
    g = world.gateway(make(world, method, d))
    with g.connect() as c:
        assert g.on(c, "GET", PATH).status == 404
        device(world, verb, d)

        def again():
            try:
                return g.on(c, "GET", PATH).status
            except (OSError, ValueError):  # cut instead
                return 403

        soon(403, again)


@pytest.mark.parametrize("method", METHODS)
def test_a_transfer_under_way_is_cut(world, method):
    """A request whose body is still coming, admitted before, does not go on for a device that is out."""
    d = f"transfer-{method}"
    g = world.gateway(make(world, method, d))
    with g.connect() as c:
        c.sendall(f"POST /director/ecus HTTP/1.1\r\nHost: localhost:{world.port}\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n".encode())
        c.sendall(b"{" + b" " * 20000)
        time.sleep(0.3)
        device(world, "revoke", d)
        began = time.monotonic()
        c.settimeout(5)
        try:
            said = c.recv(65536)
        except (ssl.SSLError, ConnectionError):
            said = b""
        assert said == b"" or b"device_revoked" in said
        assert time.monotonic() - began < 1.5
    assert device(world, "show", d)["ecus"] is None


def test_an_idle_connection_of_another_device_is_left_alone(world):
    g = world.gateway(make(world, "device", "bystander"))
    make(world, "device", "culprit")
    with g.connect() as c:
        assert g.on(c, "GET", PATH).status == 404
        device(world, "revoke", "culprit")
        time.sleep(0.4)
        assert g.on(c, "GET", PATH).status == 404


# --- what an operator is told ----------------------------------------------------------------------------------------------------------------


def test_revoke_says_whether_a_live_key_could_bring_the_holder_back(fresh):
    s = fresh()
    s.account("told", "test", "both")
    keys = [s.key("told"), s.key("told")]
    for i in range(3):
        assert ask(s, Device(s.gateway(keys[0]).enrol(f"told-{i}").body)) is None
    shown = s.muster("device", "revoke", "told-0", "--account", "told")
    assert shown["live_keys"] == 2 and set(shown["live_key_names"]) == {k.shown["name"] for k in keys} and "another ID" in shown["warnings"][0]
    s.muster("key", "blacklist", keys[0].shown["id"])
    assert s.muster("device", "revoke", "told-1", "--account", "told")["live_keys"] == 1
    s.muster("key", "blacklist", keys[1].shown["id"])
    shown = s.muster("device", "revoke", "told-2", "--account", "told")
    assert shown["live_keys"] == 0 and not shown.get("warnings")


def test_the_devices_of_a_key_in_one_go(fresh):
    s = fresh()
    s.account("many", "test", "shared")
    one, other = s.key("many"), s.key("many")
    mine = [Device(s.gateway(one).enrol(f"mine-{i}").body) for i in range(3)]
    theirs = Device(s.gateway(other).enrol("theirs").body)
    key = one.shown["id"]
    assert "3 devices" in refused("confirmation_required", s.muster, "device", "quarantine", "--key", key).text
    stays(None, lambda: ask(s, mine[0]), 0.3)
    s.muster("device", "quarantine", "--key", key, "--yes")
    for identity in mine:
        soon("device_quarantined", lambda identity=identity: ask(s, identity))
    assert ask(s, theirs) is None
    for i in range(3):
        s.muster("device", "release", f"mine-{i}", "--account", "many")
    time.sleep(1.1)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    late = Device(s.gateway(one).enrol("late").body)
    s.muster("device", "revoke", "--key", key, "--since", since, "--yes")
    soon("device_revoked", lambda: ask(s, late))
    assert ask(s, mine[0]) is None
    # A count that has changed since it was shown is shown again, and nothing is done.
    answer = s.api("POST", f"/api/v1/accounts/many/keys/{key}/devices", {"action": "revoke", "confirm": 1})
    assert answer.status == 409 and answer.code == "confirmation_required" and answer.json["count"] == 3


def test_states_survive_a_restart(fresh):
    s = fresh()
    s.account("kept", "test", "both")
    s.fleet, s.prov = s.root("kept"), s.key("kept")
    identities = {}
    for state in ("active", "quarantine", "revoke", "delete"):
        identities[state] = s.fleet.device(state)
        assert ask(s, identities[state]) is None
        if state != "active":
            s.muster("device", state, state, "--account", "kept")
    assert s.stop() == 0
    s.start()
    assert {state: ask(s, identity) for state, identity in identities.items()} == {
        "active": None, "quarantine": "device_quarantined", "revoke": "device_revoked", "delete": "device_deleted"}
    assert json.dumps(s.muster("account", "show", "kept")["devices"], sort_keys=True) == json.dumps(
        {"active": 1, "deleted": 1, "pending": 0, "quarantined": 1, "revoked": 1}, sort_keys=True)

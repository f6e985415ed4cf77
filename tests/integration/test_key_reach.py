"""Which devices are a provisioning key's: those that hold a certificate of its making, whoever enrolled them first.  And what an operator
is told of the keys that could bring cut-off devices back."""
import time

import pytest

from conftest import refused, soon
from enrolment import Account, ask, enrolled, key_shown, used


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def devices(server, key, *options):
    return [d["device_id"] for d in server.muster("key", "devices", key.shown["id"], *options)]


def act(server, verb, key, *options):
    return server.muster("device", verb, "--key", key.shown["id"], *options)


def now():
    """A time that nothing from before has, and everything from now on."""
    time.sleep(1.1)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_since_counts_from_the_certificate_under_replace(account, server):
    a = account("--reprovision", "replace")
    key = a.key()
    used(server, key, "taken"), used(server, key, "left-alone")
    since = now()
    assert devices(server, key, "--since", since) == []
    thief = used(server, key, "taken")
    assert devices(server, key, "--since", since) == ["taken"]
    assert "revoke 1 device " in refused("confirmation_required", act, server, "revoke", key, "--since", since).text
    act(server, "revoke", key, "--since", since, "--yes")
    soon("device_revoked", lambda: ask(server, thief))
    assert a.device("show", "left-alone")["state"] == "active"
    assert devices(server, key, "--since", since) == ["taken"]  # its tombstone


def test_since_counts_from_the_certificate_after_a_release_for_reprovision(account, server):
    a = account()
    first, leaked = a.key(), a.key()
    used(server, first, "moved")
    since = now()
    a.device("release", "moved", "--for-reprovision")
    used(server, leaked, "moved")
    assert devices(server, leaked, "--since", since) == ["moved"] and devices(server, first) == []
    act(server, "quarantine", leaked, "--since", since, "--yes")
    assert a.device("show", "moved")["state"] == "quarantined"


def test_a_fleet_device_that_a_key_took_over_is_the_key_s(account, server):
    a = account(method="both")
    key, fleet = a.key(), server.root(a.name)
    old = fleet.device("taken-over")
    assert ask(server, old) is None
    since = now()
    a.device("release", "taken-over", "--for-reprovision")
    used(server, key, "taken-over")
    assert devices(server, key, "--since", since) == ["taken-over"]
    act(server, "revoke", key, "--yes")
    assert a.device("show", "taken-over")["state"] == "revoked"


def test_a_device_stays_its_key_s_until_its_certificate_is_over(account, server):
    a = account()
    one, other = a.key(), a.key()
    device = used(server, one, "dd")
    a.device("release", "dd", "--for-reprovision")
    new = enrolled(server, other, "dd")
    for key in (one, other):  # the one's certificate works, the other's may at any moment
        assert devices(server, key) == ["dd"] and key_shown(server, key)["devices"] == 1
        assert [d["device_id"] for d in key_shown(server, key)["enrolled"]] == ["dd"]
        assert "quarantine 1 device " in refused("confirmation_required", act, server, "quarantine", key).text
    act(server, "quarantine", one, "--yes")
    soon("device_quarantined", lambda: ask(server, device))
    a.device("release", "dd")
    assert ask(server, new) is None
    assert devices(server, one) == [] and key_shown(server, one)["devices"] == 0
    assert "quarantine 0 devices" in refused("confirmation_required", act, server, "quarantine", one).text
    a.device("revoke", "dd")
    assert devices(server, one) == [] and devices(server, other) == ["dd"]


def test_pages_of_a_key_s_devices(account, server):
    a = account("--reprovision", "replace")
    one, other = a.key(), a.key()
    for i in range(7):
        used(server, other if i % 3 == 2 else one, f"page-{i}")
    for i in (0, 3):
        used(server, one, f"page-{i}")  # two certificates, one device
    names, path = [], f"/api/v1/accounts/{a.name}/keys/{one.shown['id']}/devices?limit=2"
    cursor = ""
    while cursor is not None:
        page = server.api("GET", path + (f"&cursor={cursor}" if cursor else "")).json
        assert len(page["items"]) <= 2
        names += [d["device_id"] for d in page["items"]]
        cursor = page["next"]
    assert names == ["page-0", "page-1", "page-3", "page-4", "page-6"]
    assert [d["device_id"] for d in server.api("GET", f"/api/v1/accounts/{a.name}/devices?key={one.shown['id']}").json["items"]] == names
    assert key_shown(server, one)["devices"] == 5


# --- who could come back ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["revoke", "quarantine"])
def test_cutting_off_a_key_s_devices_names_the_keys_that_are_live(account, server, verb):
    a = account()
    leaked, spare = a.key("--name", "leaked"), a.key("--name", "spare")
    a.key("--name", "spent", "--max-devices", "1")
    enrolled(server, leaked, "one")
    said = server.muster("device", verb, "--key", "leaked", "--account", a.name, "--yes")
    assert (said["id"], said["name"], said["devices"], said["live_keys"]) == (leaked.shown["id"], "leaked", 1, 3)
    assert said["live_key_names"] == ["leaked", "spare", "spent"]
    assert len(said["warnings"]) == 1 and '"leaked", "spare", "spent"' in said["warnings"][0] and "another ID" in said["warnings"][0]
    for key in ("leaked", "spare", "spent"):
        server.muster("key", "blacklist", key, "--account", a.name)
    said = server.muster("device", verb, "--key", spare.shown["id"], "--yes")
    assert (said["devices"], said["live_keys"], said["live_key_names"], said["warnings"]) == (0, 0, [], [])


def test_revoking_a_device_names_the_keys_that_are_live(account, server):
    a = account()
    keys = [a.key("--name", f"k{i:02}") for i in range(22)]
    used(server, keys[0], "gone")
    said = a.device("revoke", "gone")
    assert said["live_keys"] == 22 and said["live_key_names"] == [f"k{i:02}" for i in range(20)]
    assert '"k19" and 2 more' in said["warnings"][0]


def test_a_key_that_cannot_enrol_is_no_live_one(account, server):
    a = account(method="both")
    spent, ended = a.key("--name", "spent", "--max-devices", "1"), a.key("--name", "ended", "--expires", "1s")
    used(server, spent, "only")
    soon("expired", lambda: key_shown(server, ended)["state"], 3)
    assert a.device("revoke", "only")["live_key_names"] == []
    a.key("--name", "live")
    fleet = server.root(a.name)
    assert ask(server, fleet.device("other")) is None
    a.set("--method", "device")
    assert a.device("revoke", "other")["live_key_names"] == []  # the account takes no shared credentials

"""One device, one live identity: whatever becomes it ends what was before, by either method and in each direction, on open connections too."""
import http.client
import time

import pytest

from client import Device
from conftest import refused, soon, stays
from enrolment import GAP, PATH, Account, ask, enrol, enrolled, key_shown, used


@pytest.fixture
def account(server):
    return lambda *options: Account(server, *options, method="both")


class Kept:
    """A connection that stays open; `ask` on it as enrolment.ask, or "cut"."""

    def __init__(self, server, identity):
        self.gateway = server.gateway(identity)
        self.connection = self.gateway.connect()

    def ask(self):
        try:
            answer = self.gateway.on(self.connection, "GET", PATH)
        except (OSError, http.client.HTTPException):
            return "cut"
        return None if answer.status == 404 else answer.code


def accept(a, device_id, identity):
    return a.device("accept-key", device_id, "--fingerprint", identity.spki)


def live(a, device_id):
    """What the registry says that the device proves itself with."""
    shown = a.device("show", device_id)
    return {k: shown[k] for k in ("method", "key", "root", "spki")}


# --- from a fleet's own certificate to a provisioning key -------------------------------------------------------------------------------------


def test_a_fleet_certificate_ends_with_the_first_use_of_an_enrolled_one(account, server):
    a = account()
    key, fleet = a.key(), server.root(a.name)
    old = fleet.device("g1")
    assert ask(server, old) is None
    kept = Kept(server, old)
    assert kept.ask() is None
    a.device("release", "g1", "--for-reprovision")
    new = enrolled(server, key, "g1")
    # Until then the device is what it was.
    assert ask(server, old) is None and kept.ask() is None
    assert live(a, "g1") == {"method": "device", "key": None, "root": fleet.root["id"], "spki": old.spki}
    assert ask(server, new) is None
    soon("device_key_barred", kept.ask)
    stays("device_key_barred", lambda: ask(server, old), 0.3)
    # Nor does a newer certificate of the old key bring it back.
    assert ask(server, fleet.device("g1", key=old.key, days=(-1, 900))) == "device_key_barred"
    assert ask(server, new) is None
    assert live(a, "g1") == {"method": "shared", "key": key.shown["id"], "root": None, "spki": new.spki}
    assert a.audit("g1") == ["device.first_contact", "device.release", "device.enrol", "device.first_use"]


def test_an_enrolment_that_is_never_used_leaves_the_fleet_certificate_alone(account, server):
    a = account()
    key, fleet = a.key(), server.root(a.name)
    old = fleet.device("g2")
    assert ask(server, old) is None
    a.device("release", "g2", "--for-reprovision")
    enrolled(server, key, "g2")
    newer = fleet.device("g2", key=old.key, days=(-1, 900))
    assert ask(server, newer) is None and ask(server, old) is None
    assert live(a, "g2")["method"] == "device"
    time.sleep(GAP)
    last = enrolled(server, key, "g2")  # the answer was lost
    assert ask(server, last) is None
    assert ask(server, newer) == "device_key_barred"


# --- and back -----------------------------------------------------------------------------------------------------------------------------------


def test_an_enrolled_certificate_ends_with_the_accepted_key(account, server):
    a = account()
    key, fleet = a.key(), server.root(a.name, None, "--key-rule", "ask")
    old = used(server, key, "s1")
    new = fleet.device("s1")
    assert ask(server, new) == "device_key_mismatch"
    accept(a, "s1", new)
    kept = Kept(server, old)
    time.sleep(0.3)  # whatever the acceptance itself made the server look at again
    assert kept.ask() is None
    assert ask(server, new) is None
    soon("certificate_superseded", kept.ask)
    stays("certificate_superseded", lambda: ask(server, old), 0.3)
    assert ask(server, new) is None
    assert live(a, "s1") == {"method": "device", "key": None, "root": fleet.root["id"], "spki": new.spki}
    assert enrol(server, key, "s1") == (409, "device_already_registered")
    assert [c["state"] for c in a.device("show", "s1")["certificates"]] == ["superseded"]


def test_an_enrolment_under_way_ends_with_the_accepted_key(account, server):
    a = account()
    key, fleet = a.key(), server.root(a.name, None, "--key-rule", "ask")
    never_used = enrolled(server, key, "v1")
    new = fleet.device("v1")
    assert ask(server, new) == "device_key_mismatch"
    accept(a, "v1", new)
    assert ask(server, new) is None
    time.sleep(GAP)
    assert enrol(server, key, "v1") == (409, "device_already_registered")  # no lost answer's window any more
    assert ask(server, never_used) == "certificate_void"
    assert ask(server, new) is None
    assert live(a, "v1")["method"] == "device"


def test_a_key_that_muster_made_needs_acceptance_under_a_root_that_it_did_not(account, server):
    a = account()
    key, fleet = a.key(), server.root(a.name, None, "--key-rule", "ask")
    own = used(server, key, "k1")
    same_key = fleet.device("k1", key=own.key)
    assert ask(server, same_key) == "device_key_mismatch" and ask(server, own) is None
    assert live(a, "k1")["method"] == "shared"
    accept(a, "k1", same_key)
    assert ask(server, same_key) is None
    assert ask(server, own) == "certificate_superseded"
    assert live(a, "k1") == {"method": "device", "key": None, "root": fleet.root["id"], "spki": own.spki}
    assert ask(server, fleet.device("k2", key=own.key)) == "device_key_elsewhere"


# --- within one method ----------------------------------------------------------------------------------------------------------------------------


def test_a_replaced_certificate_ends_on_its_open_connection(account, server):
    a = account("--reprovision", "replace")
    key = a.key()
    old = used(server, key, "r1")
    kept = Kept(server, old)
    assert kept.ask() is None
    new = enrolled(server, key, "r1")
    assert kept.ask() is None
    assert ask(server, new) is None
    soon("certificate_superseded", kept.ask)


def test_an_old_key_ends_on_its_open_connection(account, server):
    a = account()
    fleet = server.root(a.name, None, "--key-rule", "ask")
    old, new = fleet.device("o1"), fleet.device("o1")
    assert ask(server, old) is None and ask(server, new) == "device_key_mismatch"
    accept(a, "o1", new)
    kept = Kept(server, old)
    time.sleep(0.3)
    assert kept.ask() is None
    assert ask(server, new) is None
    soon("device_key_barred", kept.ask)


def test_what_waits_is_not_used_by_a_method_that_the_account_has_lost(account, server):
    a = account()
    key, fleet = a.key(), server.root(a.name)
    old = fleet.device("m1")
    assert ask(server, old) is None
    a.device("release", "m1", "--for-reprovision")
    waits = enrolled(server, key, "m1")
    a.set("--method", "device")
    soon("method_not_enabled", lambda: ask(server, waits))
    assert ask(server, old) is None and live(a, "m1")["method"] == "device"


# --- accept-key does something, or says why not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["never", "announced"])
def test_no_key_is_accepted_where_the_rule_is_not_to_ask(account, server, rule):
    a = account()
    fleet = server.root(a.name, None, "--key-rule", rule)
    old, new = fleet.device("n1"), fleet.device("n1")
    assert ask(server, old) is None
    answer = server.gateway(new).get(PATH)
    assert answer.code == "device_key_mismatch" and "--key-rule ask" in answer.json["fix"]
    assert rule in refused("wrong_state", accept, a, "n1", new).text
    server.muster("root", "set", fleet.root["id"], "--key-rule", "ask")
    stays("device_key_mismatch", lambda: ask(server, new), 0.3)  # what was refused was not kept
    accept(a, "n1", new)
    assert ask(server, new) is None


@pytest.mark.parametrize("verb", ["quarantine", "revoke", "delete"])
def test_no_key_is_accepted_for_a_device_that_is_out(account, server, verb):
    a = account()
    fleet = server.root(a.name, None, "--key-rule", "ask")
    old, new = fleet.device("o2"), fleet.device("o2")
    assert ask(server, old) is None and ask(server, new) == "device_key_mismatch"
    a.device(verb, "o2")
    refused("wrong_state", accept, a, "o2", new)


# --- tombstones -----------------------------------------------------------------------------------------------------------------------------------


def test_same_key_frees_the_last_key_alone(account, server):
    a = account()
    fleet = server.root(a.name, None, "--key-rule", "ask")
    first, second = fleet.device("t1"), fleet.device("t1")
    assert ask(server, first) is None and ask(server, second) == "device_key_mismatch"
    accept(a, "t1", second)
    assert ask(server, second) is None
    a.device("revoke", "t1")
    a.device("release", "t1", "--same-key")
    assert ask(server, first) == "device_key_barred"  # it was replaced: perhaps because somebody else had it
    assert ask(server, second) is None
    assert ask(server, first) == "device_key_barred"


# --- announced with a key -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("only", ["yes", "no"])
def test_an_id_that_is_announced_with_a_key_is_no_provisioning_key_s(account, server, only):
    a = account("--expected-only", only)
    key, fleet = a.key(), server.root(a.name)
    true = fleet.device("pinned")
    announced = server.dir.parent / f"announced-{a.name}.jsonl"
    announced.write_text(f'{{"device_id": "pinned", "fingerprint": "{true.spki}"}}\n{{"device_id": "open"}}\n', encoding="utf-8")
    server.muster("device", "import", announced, "--account", a.name)
    assert enrol(server, key, "pinned") == (403, "device_key_mismatch")
    assert a.devices() == [] and key_shown(server, key)["spent"] == 0
    assert ask(server, enrolled(server, key, "open")) is None
    assert ask(server, true) is None

"""Renewal that strands nobody: early, late, and with a certificate that was replaced; and what none of that opens."""
import base64
import datetime
import http.client
import os
import signal
import threading
import time

import pytest
from cryptography.hazmat.primitives import hashes

from client import Device, Fleet, new_key, spki_hash
from conftest import Refused, soon
from enrolment import DAY, PATH, Account, ask, retry_after
from est import PKCS10, csr, enrolled, post
from test_certificates import revoke, serial
from test_clock import HOUR, Clock
from test_est import account, renew  # noqa: F401  a fixture
from test_explain import explain
from test_forecast import seconds
from test_webhooks import LOCAL, hook, receiver  # noqa: F401  a fixture

REVOKED = (403, "certificate_revoked")
LIFE = 3600  # of the certificates here: what an account may set least


@pytest.fixture
def world(fresh):
    s = fresh(start=False)
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    return s


def fleet(server, *options, life=LIFE, method="shared"):
    a = Account(server, "--device-life", life, *options, method=method)
    a.prov = a.key()
    return a


def used(server, a, device_id):
    """One whose certificate was used."""
    device = enrolled(server.gateway(a.prov), device_id, new_key())
    assert ask(server, device) is None
    return device


def verifies(server, a): return server.muster("audit", "verify", "--account", a.name)["ok"] is True
def states(a, device_id): return [c["state"] for c in a.device("show", device_id)["certificates"]]


def renewals(server, result):
    return next(int(float(line.split()[-1])) for line in server.api("GET", "/metrics").body.decode().splitlines() if line.startswith(f'muster_renewals_total{{result="{result}"}}'))


# --- late ---------------------------------------------------------------------------------------------------------------------------------


def test_an_expired_certificate_renews_and_does_nothing_else(world):
    a = fleet(world)
    device = used(world, a, "asleep")
    world.clock.set(60 * DAY)
    assert ask(world, device) == "certificate_expired"
    gateway = world.gateway(device)
    assert gateway.enrol("asleep").code == "certificate_expired"
    assert post(gateway, "simpleenroll", csr(new_key(), "asleep")).code == "certificate_expired"
    assert gateway.request("PUT", "/system_info", b"{}", {"Content-Type": "application/json"}).code == "certificate_expired"
    assert renew(world, device, device_id="other") == (400, "csr_invalid")
    new = renew(world, device)
    assert ask(world, device) == "certificate_expired", "what it renewed does not make it good"
    assert ask(world, new) is None
    assert states(a, "asleep") == ["current", "superseded"]
    assert a.audit("asleep") == ["device.enrol", "device.first_use", "device.renew", "device.first_use"]
    assert renewals(world, "renewed") == 1 and verifies(world, a)


def test_on_one_connection_too(world):
    """That it may renew opens nothing else on the same connection, nor does it in a resumed session."""
    a = fleet(world)
    device = used(world, a, "kept")
    gateway = world.gateway(device)
    session = gateway.session()
    world.clock.set(2 * HOUR)
    with gateway.connect() as c:
        body = base64.b64encode(csr(new_key(), "kept"))
        assert gateway.on(c, "GET", PATH).code == "certificate_expired"
        assert gateway.on(c, "POST", "/.well-known/est/simplereenroll", body, {"Content-Type": PKCS10}).status == 200
        assert gateway.on(c, "GET", PATH).code == "certificate_expired"
    assert gateway.resume(session).code == "certificate_expired"


def test_one_that_was_never_used_renews_late_too(world):
    a = fleet(world)
    device = enrolled(world.gateway(a.prov), "shelf", new_key())
    world.clock.set(30 * DAY)
    assert ask(world, device) == "certificate_expired"
    assert states(a, "shelf") == ["issued"], "a request that is refused for its time is no use"
    new = renew(world, device)
    assert ask(world, new) is None and states(a, "shelf") == ["current", "superseded"]
    assert verifies(world, a)


def test_how_late_is_the_account_s_to_say(world):
    a, never = fleet(world, "--late-renewal", 10 * DAY), fleet(world, "--late-renewal", 0)
    assert a.shown["settings"]["late_renewal"] == 10 * DAY
    device, unused, other = used(world, a, "late"), enrolled(world.gateway(a.prov), "unused", new_key()), used(world, never, "late")
    world.clock.set(10 * DAY + LIFE - 3600)  # from when the first was made; machines are slow
    assert not isinstance(renew(world, device), tuple)
    world.clock.set(10 * DAY + LIFE + 60)
    assert renew(world, device) == (403, "certificate_expired")
    answer = post(world.gateway(device), "simplereenroll", csr(new_key(), "late"))
    assert "expired 10 days ago" in answer.json["description"] and "10 days behind" in answer.json["description"] and "late_renewal" in answer.json["fix"]
    assert renew(world, unused) == (403, "certificate_expired") and states(a, "unused") == ["issued"], "nor is it used by being too late"
    answer = post(world.gateway(other), "simplereenroll", csr(new_key(), "late"))
    assert (answer.status, answer.code) == (403, "certificate_expired") and "renews none" in answer.json["description"]
    a.set("--late-renewal", 20 * DAY)
    assert not isinstance(renew(world, device), tuple)
    assert verifies(world, a) and verifies(world, never)


def test_until_when_it_may_renew_is_said(world):
    """By explain, device show, status and forecast: the day that matters is the one on which it is lost; and it is that day."""
    a, other = fleet(world, "--late-renewal", 10 * DAY), Account(world)
    device, shelf = used(world, a, "late"), enrolled(world.gateway(a.prov), "shelf", new_key())
    stock = Device(world.gateway(a.prov).enrol("stock", ttl="0").body)
    assert ask(world, stock) is None
    end = int(device.cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp())

    def until(what):
        return seconds(what["renewable_until"]) if what["renewable_until"] else None

    def needs():
        return [i for i in world.muster("status")["attention"] if i["what"] == "devices_ended"]
    assert until(a.device("show", "late")) == end + 10 * DAY and until(explain(world, device, a.name)) is None, "it is let in"
    assert world.muster("forecast")["renewable"] == 0 and not needs()
    world.clock.set(DAY)
    said = explain(world, device, a.name)
    assert (said["code"], until(said), until(a.device("show", "late"))) == ("certificate_expired", end + 10 * DAY, end + 10 * DAY)
    assert until(explain(world, device, other.name)) is None, "another account's business"
    assert abs(until(explain(world, shelf, a.name)) - end - 10 * DAY) < 60 and abs(until(a.device("show", "shelf")) - end - 10 * DAY) < 60
    shown = world.muster("forecast")
    assert (shown["renewable"], until(shown)) == (1, end + 10 * DAY), "a stock device does not ask, and what was never used is refused by nobody yet"
    (item,) = needs()
    assert "certificates of 2 devices have ended" in item["text"] and "1 of them may renew still, the first until" in item["text"] and item["command"] == "muster forecast"
    (one,) = [x for x in world.muster("status")["accounts"]["items"] if x["id"] == a.name]
    assert (one["certificates_ended"], one["renewable"], until(one)) == (2, 1, end + 10 * DAY)
    world.clock.set(10 * DAY + LIFE // 2)
    new = renew(world, device)
    assert ask(world, new) is None and world.muster("forecast")["renewable"] == 0
    said = explain(world, device, a.name)
    assert (said["code"], until(said)) == ("certificate_expired", end + 10 * DAY), "one that was replaced, as long"
    world.clock.set(10 * DAY + LIFE + 60)
    assert until(explain(world, device, a.name)) is None and until(explain(world, shelf, a.name)) is None
    assert renew(world, device) == (403, "certificate_expired")
    (item,) = needs()
    assert "none of them renews" in item["text"]
    a.device("revoke", "late")
    assert until(a.device("show", "late")) is None and until(explain(world, new, a.name)) is None


def test_whoever_is_cut_off_does_not_renew_late(world):
    a, b = fleet(world, method="both"), fleet(world)
    device = used(world, a, "cut-off")
    root = world.root(a.name)
    uploaded = root.device("of-fleet-ca", days=(-1, 1))
    assert ask(world, uploaded) is None
    world.clock.set(3 * DAY)
    assert renew(world, device, account=b.name) == (403, "certificate_of_other_account")
    assert renew(world, uploaded) == (403, "certificate_expired"), "of a fleet CA that is not Muster's"
    assert renew(world, Fleet().device("cut-off", days=(-1, 1))) == (403, "certificate_untrusted")
    for verb, code in (("quarantine", "device_quarantined"), ("revoke", "device_revoked"), ("delete", "device_deleted")):
        a.device(verb, "cut-off", "--yes")
        assert renew(world, device) == (403, code)
    a.device("release", "cut-off", "--yes")
    assert renew(world, device) == (403, "certificate_revoked")
    assert verifies(world, a)


# --- replaced -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["new", "its own"])
def test_a_device_that_lost_its_newest_certificate_renews_the_one_before(world, key):
    """A disk that went back to an older state; a copy of the device would look the same, and is told of."""
    a = fleet(world, life=365 * DAY)
    first = used(world, a, "rolled-back")
    lost = renew(world, first)
    assert ask(world, lost) is None and ask(world, first) == "certificate_superseded"
    world.clock.set(29 * DAY)
    assert world.gateway(first).enrol("rolled-back").code == "certificate_superseded"
    assert post(world.gateway(first), "simpleenroll", csr(new_key(), "rolled-back")).code == "certificate_superseded"
    own = new_key() if key == "new" else first.key
    third = renew(world, first, own)
    assert third.spki == spki_hash(own) and renew(world, first, own).cert == third.cert, "an answer that was lost"
    assert ask(world, lost) is None and ask(world, first) == "certificate_superseded", "until the third is used"
    assert states(a, "rolled-back") == ["issued", "current", "superseded"]
    entry = [e for e in world.muster("audit", "list", "--account", a.name) if e["action"] == "device.renew"][-1]
    assert entry["detail"]["superseded"] is True and "released" not in entry["detail"]
    assert (renewals(world, "renewed"), renewals(world, "superseded"), renewals(world, "again")) == (1, 1, 1)
    assert ask(world, third) is None and ask(world, lost) == "certificate_superseded"
    assert states(a, "rolled-back") == ["current", "superseded", "superseded"]
    assert verifies(world, a)


def test_webhooks_are_told_of_a_possible_clone(fresh, receiver):
    s, r = fresh(config=LOCAL), receiver()
    a = fleet(s)
    hook(s, r.url(), a.name, "device.renewed", "device.possible_clone")
    first = used(s, a, "twice")
    second = renew(s, first)
    assert ask(s, second) is None
    third = renew(s, first)
    r.wait(2)
    told = {e["type"]: e for e in r.events()}
    assert told["device.renewed"]["spki"] == second.spki and "replaces" not in told["device.renewed"]
    clone = told["device.possible_clone"]
    assert (clone["device"]["device_id"], clone["spki"], clone["replaces"], clone["address"]) == ("twice", third.spki, first.cert.fingerprint(hashes.SHA256()).hex(), "127.0.0.1")


def test_how_long_is_the_account_s_to_say(world):
    a, never = fleet(world, "--superseded-renewal", 5 * DAY, life=365 * DAY), fleet(world, "--superseded-renewal", 0, life=365 * DAY)
    first, other = used(world, a, "old"), used(world, never, "old")
    revoke(world, renew(world, first))  # never used, it replaced nothing
    assert ask(world, renew(world, first)) is None and ask(world, renew(world, other)) is None
    assert renew(world, other) == (403, "certificate_superseded")
    world.clock.set(5 * DAY - 60)
    assert not isinstance(renew(world, first), tuple)
    world.clock.set(5 * DAY + 60)
    assert renew(world, first) == (403, "certificate_superseded")
    assert verifies(world, a) and verifies(world, never)


def test_an_operator_lets_one_come_once_more(world):
    a = fleet(world, life=365 * DAY)
    first = used(world, a, "once")
    second = renew(world, first)
    assert ask(world, second) is None
    world.clock.set(40 * DAY)
    assert renew(world, first) == (403, "certificate_superseded")
    a.device("release", "once", "--for-reprovision", "--yes")
    third = renew(world, first)
    entry = [e for e in world.muster("audit", "list", "--account", a.name) if e["action"] == "device.renew"][-1]
    assert entry["detail"]["released"] is True and a.device("show", "once")["reprovision"] == "no"
    assert renew(world, first) == (403, "certificate_superseded"), "once"
    assert ask(world, second) is None and ask(world, third) is None and ask(world, second) == "certificate_superseded"
    assert verifies(world, a)


def test_what_never_renews(world):
    a = fleet(world, life=365 * DAY)
    first = used(world, a, "never")
    voided = renew(world, first)
    second = renew(world, first)
    assert ask(world, second) is None and ask(world, voided) == "certificate_void"
    for _ in range(2):
        assert renew(world, voided) == (403, "certificate_void")
        a.device("release", "never", "--for-reprovision", "--yes")
    a.device("revoke", "never", "--yes")
    assert {renew(world, d) for d in (first, voided, second)} == {(403, "device_revoked")}
    a.device("release", "never", "--yes")
    assert {renew(world, d) for d in (first, voided, second)} == {(403, "certificate_revoked")}
    assert verifies(world, a)


def test_keys_that_a_replaced_certificate_does_not_bring_back(world):
    a = fleet(world, life=365 * DAY)
    first = used(world, a, "keys")
    second = renew(world, first)
    assert ask(world, second) is None
    third = renew(world, second)
    assert ask(world, third) is None
    assert renew(world, first, second.key) == (403, "device_key_barred"), "that of another one that was replaced"
    assert renew(world, third, first.key) == (403, "device_key_barred")
    fourth = renew(world, first, third.key)
    assert ask(world, fourth) is None and verifies(world, a)


# --- made by a clock that ran ahead ------------------------------------------------------------------------------------------------------------------


def test_one_that_begins_later_is_good_at_once(world):
    """By the registry's word: a device that cannot renew must not wait for that day either."""
    a = fleet(world, "--late-renewal", 0, "--renewal-window", HOUR, life=30 * DAY)
    world.clock.set(20 * DAY)
    device, shelf, cut, stolen = used(world, a, "ahead"), enrolled(world.gateway(a.prov), "shelf", new_key()), used(world, a, "cut"), used(world, a, "stolen")
    world.clock.set(0)
    assert renew(world, device) == (503, "clock_behind")
    assert world.musterd("clock", "accept").returncode == 0
    a.device("quarantine", "cut", "--reason", "test", "--yes")
    revoke(world, stolen)
    soon(False, lambda: renew(world, cut) == (503, "clock_behind"), 10)
    assert renew(world, cut) == (403, "device_quarantined") and renew(world, stolen) == REVOKED
    assert (ask(world, cut), ask(world, stolen)) == ("device_quarantined", "certificate_revoked")
    for identity in (device, shelf):
        gateway = world.gateway(identity)
        assert ask(world, identity) is None and ask(world, identity) is None, "judged, and known"
        assert gateway.enrol(identity.common_name).code == post(gateway, "simpleenroll", csr(new_key(), identity.common_name)).code == "enrol_with_device_certificate"
        assert renew(world, identity, device_id="other") == (400, "csr_invalid")
        new = renew(world, identity)
        assert ask(world, new) is None and ask(world, identity) == "certificate_superseded"
        assert renew(world, new) == (403, "renewal_early"), "the new one waits for its time"
    world.clock.set(20 * DAY)
    assert ask(world, device) == "certificate_superseded"
    assert verifies(world, a)


# --- revoked by itself: none of these ways leads back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before its end", "behind its end"])
def test_a_revoked_certificate_does_not_renew_late(world, when):
    a = fleet(world)
    live, unused, beside, good = used(world, a, "live"), enrolled(world.gateway(a.prov), "unused", new_key()), used(world, a, "beside"), used(world, a, "good")
    waits = renew(world, beside)
    world.clock.set(0 if when == "before its end" else 2 * HOUR)
    for identity in (live, unused, waits):
        revoke(world, identity)
    world.clock.set(30 * DAY)
    for identity in (live, unused, waits):
        assert renew(world, identity) == renew(world, identity, identity.key) == REVOKED
        a.device("release", identity.common_name, "--for-reprovision", "--yes")
        assert renew(world, identity) == REVOKED
    assert (states(a, "live"), states(a, "unused"), states(a, "beside")) == (["revoked"], ["revoked"], ["revoked", "current"])
    assert not isinstance(renew(world, beside), tuple) and not isinstance(renew(world, good), tuple)
    world.clock.set(365 * DAY)
    assert renew(world, live) == REVOKED, "and not that it is too late"
    assert verifies(world, a)


def test_a_revoked_certificate_that_was_replaced_does_not_renew(world):
    a = fleet(world, life=365 * DAY)
    first = used(world, a, "copied")
    second = renew(world, first)
    assert ask(world, second) is None
    gateway = world.gateway(first)
    with gateway.connect() as c:  # an open connection, on which it did
        body = base64.b64encode(csr(new_key(), "copied"))
        assert gateway.on(c, "POST", "/.well-known/est/simplereenroll", body, {"Content-Type": PKCS10}).status == 200
        revoke(world, first)
        assert gateway.on(c, "POST", "/.well-known/est/simplereenroll", body, {"Content-Type": PKCS10}).code == REVOKED[1]
    assert renew(world, first) == renew(world, first, first.key) == REVOKED
    a.device("release", "copied", "--for-reprovision", "--yes")
    assert renew(world, first) == renew(world, first, first.key) == REVOKED
    assert a.device("show", "copied")["reprovision"] == "granted", "whose word it does not spend"
    world.clock.set(400 * DAY)
    assert renew(world, first) == REVOKED
    assert not isinstance(renew(world, second), tuple) and verifies(world, a)


def test_the_revoked_one_stays_out_when_the_device_has_another(world):
    """Which makes it one that was replaced, as far as the device goes."""
    a = fleet(world, life=365 * DAY)
    first = used(world, a, "again")
    second = renew(world, first)
    assert ask(world, second) is None
    revoke(world, second)
    for _ in range(2):  # nothing stands in the first one's place now, and an operator's word is for the provisioning key
        assert (renew(world, first), renew(world, second)) == ((403, "certificate_superseded"), REVOKED)
        a.device("release", "again", "--for-reprovision", "--yes")
    third = used(world, a, "again")
    assert renew(world, second) == REVOKED and ask(world, third) is None
    a.device("release", "again", "--for-reprovision", "--yes")
    assert renew(world, second) == renew(world, second, second.key) == REVOKED
    assert [states(a, "again")[i] for i in (0, 1)] == ["current", "revoked"] and verifies(world, a)


def test_a_renewal_under_way_of_one_that_was_replaced_does_not_get_through(world):
    """It was admitted before it was revoked, and is judged again where its certificate is stored: with the vault stopped in between.  Its connection is cut,
    behind the answer or before."""
    a = fleet(world, life=365 * DAY)
    first = used(world, a, "in-between")
    assert ask(world, renew(world, first)) is None
    vault, said = world.child("vault"), []

    def late():
        try:
            said.append(renew(world, first))
        except http.client.RemoteDisconnected:
            said.append(REVOKED)

    os.kill(vault, signal.SIGSTOP)
    try:
        t = threading.Thread(target=late)
        t.start()
        time.sleep(1)
        revoke(world, first)
    finally:
        os.kill(vault, signal.SIGCONT)
    t.join(30)
    assert said == [REVOKED] and states(a, "in-between") == ["current", "revoked"]


def test_a_compromised_key_does_not_come_back(world):
    """Not even by a certificate of it that was not revoked, because there were more than are revoked at once."""
    a, own = fleet(world, life=365 * DAY), new_key()
    first = enrolled(world.gateway(a.prov), "leaked", own)
    assert ask(world, first) is None
    second = renew(world, first, own)
    assert ask(world, second) is None
    third = renew(world, second)
    assert ask(world, third) is None and revoke(world, second, "--reason", "key-compromise")["also"] == [serial(first)]
    assert renew(world, first) == renew(world, first, own) == renew(world, second, own) == REVOKED
    assert renew(world, third, own) == (403, "device_key_barred")
    assert world.stop() == 0
    with world.database() as db:
        db.execute("UPDATE cert SET revoked = 0, reason = 0 WHERE serial = ?", (bytes.fromhex(serial(first)),))
    world.start(env=world.clock.env)
    a.device("release", "leaked", "--for-reprovision", "--yes")
    assert renew(world, first) == renew(world, first, own) == (403, "certificate_superseded")
    assert ask(world, third) is None


# --- early --------------------------------------------------------------------------------------------------------------------------------


def test_not_before_the_window(world):
    a = fleet(world, "--renewal-window", 10 * DAY, life=100 * DAY)
    device, own = used(world, a, "eager"), new_key()
    answer = post(world.gateway(device), "simplereenroll", csr(own, "eager"))
    assert (answer.status, answer.code) == (403, "renewal_early") and 0 <= 90 * DAY - retry_after(answer) < 60 and "renewal_window" in answer.json["fix"]
    world.clock.set(90 * DAY - 60)
    assert renew(world, device) == (403, "renewal_early")
    world.clock.set(90 * DAY + 60)
    new = renew(world, device, own)
    a.set("--renewal-window", 0)
    assert renew(world, device, own).cert == new.cert
    assert ask(world, new) is None
    assert not isinstance(renew(world, new), tuple), "at any time"
    assert verifies(world, a)


def test_settings_out_of_bounds(server, account):
    a = account()
    for option, value in (("--renewal-window", 101 * 365 * DAY), ("--superseded-renewal", 366 * DAY), ("--late-renewal", 101 * 365 * DAY)):
        with pytest.raises(Refused, match=option[2:].replace("-", "_")):
            a.set(option, value)
    shown = server.api("PATCH", f"/api/v1/accounts/{a.name}", {"late_renewal": "30d", "superseded_renewal": "12h"}).json["settings"]
    assert (shown["late_renewal"], shown["superseded_renewal"], shown["renewal_window"]) == (30 * DAY, DAY // 2, 0)

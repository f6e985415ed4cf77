"""Each event is said exactly when doc/webhooks.md says so: by enrolment with a provisioning key and under a fleet root, by budget and by time."""
import threading
import time

import pytest
from cryptography.hazmat.primitives import hashes

import est
from client import Device, Fleet, new_key
from clock import ahead
from conftest import soon
from test_factory import Line
from test_webhooks import LOCAL, account, children_gone, eventually, hook, receiver, server, shown  # noqa: F401  fixtures


def settled(r, seconds=0.8):
    """The types so far, once nothing more comes."""
    n = -1
    while n != len(r.got):
        n = len(r.got)
        time.sleep(seconds)
    return [e["type"] for e in r.events()]


def told_refused(r, *wanted):
    """Refusals come a little later than the rest: until each (device, code) is there."""
    eventually(lambda: {(e["device"]["device_id"], e["code"]) for e in r.events("device.refused") if e["device"]} >= set(wanted))


def test_a_key_runs_low_by_its_budget(server, account, receiver):
    """At a tenth and at the end, once each; a device that asks again costs nothing and says nothing."""
    r = receiver()
    hook(server, r.url(), account, "key.nearly_exhausted", "key.exhausted")
    key = server.key(account, "--max-devices", "20")
    for i in range(17):
        assert server.gateway(key).enrol(f"low-{i}").status == 200
    assert settled(r) == []
    assert server.gateway(key).enrol("low-17").status == 200
    said = r.wait(1)[0]
    assert (said["type"], said["key"]["spent"], said["key"]["max_devices"], said["key"]["name"]) == ("key.nearly_exhausted", 18, 20, key.shown["name"])
    time.sleep(0.6)  # a device that lost its answer
    server.gateway(key).enrol("low-17")
    server.gateway(key).enrol("low-18")
    assert settled(r) == ["key.nearly_exhausted"]
    server.gateway(key).enrol("low-19")
    assert r.wait(2)[1]["key"]["spent"] == 20
    assert server.gateway(key).enrol("low-20").status != 200
    assert settled(r) == ["key.nearly_exhausted", "key.exhausted"]
    # An operator raises it, which says nothing, and lowers it to where it is near its end, or at it.
    server.muster("key", "set", key.shown["id"], "--max-devices", "100")
    assert len(settled(r)) == 2
    server.muster("key", "set", key.shown["id"], "--max-devices", "22")
    server.muster("key", "set", key.shown["id"], "--per-hour", "1000")
    server.muster("key", "set", key.shown["id"], "--max-devices", "21")
    assert settled(r)[2:] == ["key.nearly_exhausted"]
    server.muster("key", "set", key.shown["id"], "--max-devices", "20")
    assert settled(r)[3:] == ["key.exhausted"]


def test_a_renewal_is_said_once_and_its_use_too(server, account, receiver):
    """By EST: the certificate that was asked for, not each time that its answer was lost."""
    r = receiver()
    hook(server, r.url(), account, "device.registered", "device.renewed", "device.first_used")
    own, key = new_key(), server.key(account)
    old = est.enrolled(server.gateway(key), "renews", new_key())
    assert server.gateway(old).get("/director/1.root.json").status == 404
    for _ in range(3):
        new = est.enrolled(server.gateway(old), "renews", own, "simplereenroll")
    assert server.gateway(new).get("/director/1.root.json").status == 404
    assert settled(r) == ["device.registered", "device.first_used", "device.renewed", "device.first_used"]
    said = r.events("device.renewed")[0]
    assert (said["device"]["device_id"], said["spki"], said["address"]) == ("renews", new.spki, "127.0.0.1")
    assert said["fingerprint"] == new.cert.fingerprint(hashes.SHA256()).hex() == r.events("device.first_used")[1]["fingerprint"] and said["not_after"]


def test_a_key_for_a_few_devices_says_its_end_alone(server, account, receiver):
    r = receiver()
    hook(server, r.url(), account, "key.nearly_exhausted", "key.exhausted")
    few, any_number = server.key(account, "--max-devices", "2"), server.key(account)
    for i in range(2):
        server.gateway(few).enrol(f"few-{i}")
        server.gateway(any_number).enrol(f"any-{i}")
    r.wait(1)
    assert settled(r) == ["key.exhausted"]


def test_a_key_s_end_is_said_once_across_restarts(fresh, receiver):
    """Whether the server is stopped or killed, before the key is at its end, before that is delivered, and after."""
    s = fresh(config=[*LOCAL, "webhook_retry_first = 1s", "webhook_retry_most = 1s"])
    s.account("restarted")
    good = threading.Event()
    r, slow = receiver(), receiver(lambda number, got: 200 if good.is_set() else 500)
    hook(s, r.url(), "restarted", "key.nearly_exhausted", "key.exhausted")
    late = hook(s, slow.url(), "restarted", "key.exhausted")
    key, waits = s.key("restarted", "--max-devices", "10"), s.key("restarted", "--max-devices", "1", "--name", "waits")

    def again(kill):
        if kill:
            s.process.kill()
            s.process.wait(timeout=10)
            children_gone(s)
            s.process = None
        else:
            s.stop()
        s.start()

    for i in range(8):
        assert s.gateway(key).enrol(f"again-{i}").status == 200
    again(kill=True)
    assert s.gateway(key).enrol("again-8").status == 200
    r.wait(1)
    again(kill=False)
    assert s.gateway(key).enrol("again-9").status == 200
    again(kill=True)  # delivered or not
    r.wait(2)
    for kill in (False, True):
        assert s.gateway(key).enrol("one-too-many").code == "provisioning_key_exhausted"
        again(kill)
    settled(r)
    said = list({e["id"]: e for e in r.events()}.values())
    assert [(e["type"], e["key"]["id"], e["key"]["spent"]) for e in said] == [("key.nearly_exhausted", key.shown["id"], 9), ("key.exhausted", key.shown["id"], 10)]
    # One that the receiver does not take until the server was there for the third time.
    assert s.gateway(waits).enrol("waits-0").status == 200
    slow.wait(3)
    again(kill=True)
    again(kill=False)
    good.set()
    eventually(lambda: shown(s, late["id"])["delivered"] == 2 and shown(s, late["id"])["waiting"] == 0)
    settled(slow)
    assert sorted(e["key"]["name"] for e in {e["id"]: e for e in slow.events()}.values()) == sorted([key.shown["name"], "waits"]) and shown(s, late["id"])["delivered"] == 2


def test_a_key_runs_out_by_time(fresh, receiver):
    """At 7 days and at 1, each once; not one that is blacklisted or exhausted."""
    s = fresh(config=LOCAL)
    s.account("timed")
    r = receiver()
    hook(s, r.url(), "timed", "key.expiring")
    keys = {name: s.key("timed", "--expires", "20d", "--name", name, *more) for name, more in (("goes", ()), ("barred", ()), ("used-up", ("--max-devices", "1")))}
    s.muster("key", "blacklist", keys["barred"].shown["id"])
    assert s.gateway(keys["used-up"]).enrol("last").status == 200
    assert settled(r) == []
    for hours, days in ((12 * 24, None), (14 * 24, 7), (16 * 24, None), (458, 1), (461, None)):
        before = len(r.got)
        s.stop()
        s.start(env=ahead(s, hours=hours))
        if days:
            said = r.wait(before + 1)[-1]
            assert (said["type"], said["days"], said["key"]["name"]) == ("key.expiring", days, "goes")
        settled(r)
        assert len(r.got) == before + bool(days), hours


def test_a_device_that_was_invited(server, account, receiver):
    r = receiver()
    hook(server, r.url(), account)
    made = server.muster("device", "invite", "guest", "--account", account)
    est.enrolled(server.gateway(), "guest", new_key(), account=account, **est.basic("guest", made["code"]))
    (said,) = r.wait(1, "device.registered")
    assert (said["method"], said["key"], said["invitation"], said["device"]["device_id"]) == ("shared", None, made["id"], "guest")
    assert made["code"] not in str(r.events())


def test_a_device_that_waits_with_a_shared_key(server, account, receiver):
    r = receiver()
    hook(server, r.url(), account)
    server.muster("account", "set", account, "--approval", "yes")
    key = server.key(account)
    yes, no = Device(server.gateway(key).enrol("waits-yes").body), Device(server.gateway(key).enrol("waits-no").body)
    said = r.wait(2, "device.pending")
    assert [(e["method"], e["key"], e["device"]["state"]) for e in said] == [("shared", key.shown["name"], "pending")] * 2 and all(e["address"] for e in said)
    server.muster("device", "approve", "waits-yes", "--account", account)
    server.muster("device", "refuse", "waits-no", "--account", account)
    for _ in range(3):
        soon("not_found", lambda: server.gateway(yes).get("/x").code)
        soon("device_refused", lambda: server.gateway(no).get("/x").code)
    told_refused(r, ("waits-no", "device_refused"))
    settled(r)
    of = {name: [e for e in r.events() if e.get("device") and e["device"]["device_id"] == name] for name in ("waits-yes", "waits-no")}
    assert [e["type"] for e in of["waits-yes"] if e["type"] != "device.refused"] == ["device.pending", "device.approved", "device.first_used"]
    assert of["waits-yes"][1]["announced"] is False and of["waits-yes"][1]["device"]["state"] == "active"
    assert [e["type"] for e in of["waits-no"] if e.get("code") != "device_pending"] == ["device.pending", "device.revoked", "device.refused"]
    revoked = next(e for e in of["waits-no"] if e["type"] == "device.revoked")
    assert (revoked["refused"], revoked["device"]["state"]) == (True, "revoked")
    assert next(e for e in of["waits-no"] if e.get("code") == "device_refused")["address"]


def test_a_device_that_waits_under_a_fleet_root(server, account, receiver):
    r = receiver()
    hook(server, r.url(), account)
    fleet, sni = Fleet(), server.host(account)
    server.root(account, fleet)
    server.muster("account", "set", account, "--approval", "yes")
    yes, no = fleet.device("root-yes"), fleet.device("root-no")
    for device in (yes, no):
        assert server.gateway(device, sni=sni).get("/").code == "device_pending"
    said = r.wait(2, "device.pending")
    assert [(e["method"], e["key"], e["device"]["state"]) for e in said] == [("device", None, "pending")] * 2 and all(e["address"] for e in said)
    server.muster("device", "approve", "root-yes", "--account", account)
    server.muster("device", "refuse", "root-no", "--account", account)
    for _ in range(3):
        soon("not_found", lambda: server.gateway(yes, sni=sni).get("/x").code)
        soon("device_refused", lambda: server.gateway(no, sni=sni).get("/x").code)
    server.muster("device", "revoke", "root-yes", "--account", account, "--reason", "scrapped")
    soon("device_revoked", lambda: server.gateway(yes, sni=sni).get("/x").code)
    r.wait(2, "device.revoked")
    told_refused(r, ("root-no", "device_refused"), ("root-yes", "device_revoked"))
    settled(r)
    of = {name: [e for e in r.events() if e.get("device") and e["device"]["device_id"] == name and e.get("code") != "device_pending"] for name in ("root-yes", "root-no")}
    # No device.first_used: what Muster did not issue was used when it was first seen.
    assert [e["type"] for e in of["root-yes"]] == ["device.pending", "device.approved", "device.revoked", "device.refused"]
    assert [e["type"] for e in of["root-no"]] == ["device.pending", "device.revoked", "device.refused"]
    assert (of["root-yes"][2]["refused"], of["root-yes"][2]["reason"]) == (False, "scrapped") and of["root-no"][1]["refused"] is True
    registered = fleet.device("root-in")
    server.muster("account", "set", account, "--approval", "no")
    for _ in range(2):
        soon("not_found", lambda: server.gateway(registered, sni=sni).get("/x").code)
    said = r.wait(1, "device.registered")
    settled(r)
    assert [(e["method"], e["key"], e["invitation"], e["device"]["device_id"]) for e in r.events("device.registered")] == [("device", None, None, "root-in")] and said[0]["address"]


def test_first_use_is_said_once(server, account, receiver):
    r = receiver()
    hook(server, r.url(), account, "device.registered", "device.first_used")
    key = server.key(account)
    lost = Device(server.gateway(key).enrol("once").body)
    time.sleep(0.6)
    device = Device(server.gateway(key).enrol("once").body)  # its answer was lost: the same device
    assert settled(r) == ["device.registered"]  # enrolled is not used
    for _ in range(3):
        server.gateway(device).get("/x")
    server.gateway(lost).get("/x")  # void by now
    assert settled(r) == ["device.registered", "device.first_used"]
    assert len(r.events("device.first_used")[0]["fingerprint"]) == 64


def test_devices_of_a_key_that_are_revoked_together(server, account, receiver):
    r = receiver()
    hook(server, r.url(), account, "device.revoked", "device.quarantined")
    key, other = server.key(account), server.key(account)
    for i in range(5):
        server.gateway(key).enrol(f"bad-{i}")
    server.gateway(other).enrol("good")
    server.muster("device", "quarantine", "--key", key.shown["id"], "--account", account, "--yes")
    r.wait(5, "device.quarantined")
    server.muster("device", "revoke", "--key", key.shown["id"], "--account", account, "--yes")
    r.wait(5, "device.revoked")
    settled(r)
    for kind in ("device.quarantined", "device.revoked"):
        assert sorted(e["device"]["device_id"] for e in r.events(kind)) == [f"bad-{i}" for i in range(5)]


def test_a_factory_line_that_is_revoked(server, account, receiver, tmp_path):
    """Once, however often it is said; another account's line is nobody's business here."""
    r = receiver()
    hook(server, r.url(), account, "line.revoked", "device.held")
    server.account("elsewhere-line")
    ids = []
    for of in (account, "elsewhere-line"):
        line = Line(tmp_path, of)
        ids.append(line.kit(server, max_devices=5)["id"])
        if of == account:
            device, = line.issue("vin-1")
            assert server.gateway(device).get("/x").code == "not_found"
    for of in ("elsewhere-line", account, account):
        server.muster("factory", "kit", "revoke", "line-1", "--account", of, "--reason", "its key was copied", "--yes", *(["--hold"] if of == account else []))
    said, = r.wait(1, "line.revoked")
    assert (said["account"], said["line"], said["line_id"], said["devices"], said["held"], said["reason"]) == (account, "line-1", ids[0], 1, 0, "its key was copied")
    assert [e["device"]["device_id"] for e in r.wait(1, "device.held")] == ["vin-1"]
    assert settled(r).count("line.revoked") == 1


@pytest.mark.parametrize("table, what", (("device", "device"), ("ca", "issuing-ca")))
def test_certificates_that_muster_issued_end_soon(fresh, receiver, table, what):
    s = fresh(config=LOCAL)
    s.account("issued")
    device = Device(s.gateway(s.key("issued")).enrol("issued-1").body)
    s.gateway(device).get("/x")
    r = receiver()
    hook(s, r.url(), "issued", "certificate.expiring")
    s.stop()
    end = int(time.time()) + 100 * 86400
    with s.database() as db:
        if table == "device":
            assert db.execute("UPDATE device SET certificate_not_after = ? WHERE device_id = 'issued-1' AND certificate_not_after > ?", (end, time.time())).rowcount == 1
        else:
            assert db.execute("UPDATE ca SET not_after = ? WHERE kind = 1 AND account IS NOT NULL", (end,)).rowcount >= 1
    s.start()
    assert settled(r) == []
    for hours, days in ((69 * 24, None), (71 * 24, 30), (75 * 24, None), (94 * 24, 7), (2388, 1), (2390, None), (101 * 24, None)):
        before = len(r.got)
        s.stop()
        s.start(env=ahead(s, hours=hours))
        if days:
            e = r.wait(before + 1)[-1]
            assert (e["of"], e["days"], e["account"], "device" in e) == (what, days, "issued", what == "device")
            assert e["not_after"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
        settled(r)
        assert len(r.got) == before + bool(days), hours

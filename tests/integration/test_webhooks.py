"""Webhooks: every event that was asked for arrives at least once, signed, in a device's order; what a receiver does wrong harms nobody else."""
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import threading
import time
import uuid

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from client import Device, Fleet
from clock import ahead
from conftest import MUSTERD, Refused, refused, soon
from receiver import Receiver, own_ca, server_identity, verify

DOC = pathlib.Path(__file__).parents[2] / "doc" / "webhooks.md"
EVENTS = pathlib.Path(__file__).parents[2] / "src" / "registry" / "events.def"
LOCAL = ["webhook_networks = 127.0.0.0/8 ::1"]
QUICK = [*LOCAL, "webhook_retry_first = 1s", "webhook_retry_most = 2s", "webhook_retry_for = 4s"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from conftest import Server
    s = Server(tmp_path_factory.mktemp("muster") / "data", config=[*LOCAL, "webhook_retry_first = 1s", "webhook_retry_most = 2s"]).start()
    yield s
    assert s.stop() == 0
    assert "Sanitizer" not in s.log_text()


@pytest.fixture
def receiver():
    made = []

    def make(*args, **more):
        made.append(Receiver(*args, **more))
        return made[-1]

    yield make
    for r in made:
        r.close()


count = 0


@pytest.fixture
def account(server):
    global count
    count += 1
    name = f"hooked-{count}"
    server.account(name)
    return name


def hook(server, url, account=None, *events, **more):
    made = server.api("POST", "/api/v1/webhooks", {"url": url, **({"account": account} if account else {}), **({"events": list(events)} if events else {}), **more})
    assert made.status == 201, made
    return made.json


def shown(server, hook_id):
    return server.muster("webhook", "show", hook_id)


def eventually(ask, seconds=10):
    end = time.monotonic() + seconds
    while not (got := ask()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return got


def test_a_device_s_way_is_told_in_its_order_and_signed(server, account, receiver):
    r = receiver()
    made = hook(server, r.url(), account)
    key = server.key(account, "--max-devices", "1")
    device = Device(server.gateway(key).enrol("way-1").body)
    server.gateway(device).get("/")
    server.muster("device", "quarantine", "way-1", "--account", account, "--reason", "looks odd")
    server.muster("device", "release", "way-1", "--account", account)
    server.muster("device", "revoke", "way-1", "--account", account)
    server.muster("key", "blacklist", key.shown["id"])
    r.wait(8)
    mine = [e for e in r.events() if "device" in e]
    assert [e["type"] for e in mine] == ["device.registered", "device.first_used", "device.quarantined", "device.released", "device.revoked"]
    assert {e["device"]["device_id"] for e in mine} == {"way-1"} and len({e["device"]["id"] for e in mine}) == 1
    assert [e["device"]["state"] for e in mine] == ["active", "active", "quarantined", "active", "revoked"]
    assert (mine[0]["method"], mine[0]["key"]) == ("shared", key.shown["name"]) and mine[2]["reason"] == "looks odd"
    assert [e["type"] for e in r.events() if "key" in e and "device" not in e] == ["key.created", "key.exhausted", "key.blacklisted"]
    for got in r.got:
        assert got.path == "/hook" and got.headers["Content-Type"] == "application/json" and got.headers["User-Agent"].startswith("Muster/")
        assert got.headers["Muster-Event"] == got.json["type"] and got.headers["Muster-Event-Id"] == got.json["id"] and uuid.UUID(got.json["id"])
        assert got.json["account"] == account and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", got.json["at"])
        assert verify(made["secret"], got.headers["Muster-Signature"], got.body)
        assert not verify(made["secret"], got.headers["Muster-Signature"], got.body + b" ")
        assert not verify("whsec_other", got.headers["Muster-Signature"], got.body)
    eventually(lambda: shown(server, made["id"])["delivered"] == len(r.got))
    assert made["secret"].encode() not in b"".join(g.body for g in r.got) and made["secret"] not in server.log_text()


def test_devices_of_their_own_ca(server, account, receiver):
    r = receiver()
    hook(server, r.url(), account, *[e["id"] for e in server.muster("webhook", "events") if e["id"] not in ("device.refused", "webhook.test")])
    fleet = Fleet()
    server.root(account, fleet)
    fleet.root = server.muster("root", "set", fleet.root["id"], "--key-rule", "ask")
    first = fleet.device("own-1")
    server.gateway(first, sni=server.host(account)).get("/")
    other = fleet.device("own-1")
    assert server.gateway(other, sni=server.host(account)).get("/").code == "device_key_mismatch"
    server.muster("device", "accept-key", "own-1", "--account", account, "--fingerprint", other.spki)
    server.gateway(other, sni=server.host(account)).get("/")
    server.muster("account", "set", account, "--approval", "yes")
    assert server.gateway(fleet.device("own-2"), sni=server.host(account)).get("/").code == "device_pending"
    server.muster("device", "approve", "own-2", "--account", account)
    server.muster("device", "delete", "own-2", "--account", account)
    server.muster("root", "revoke", fleet.root["id"], "--yes")
    r.wait(8)
    types = [e["type"] for e in r.events()]
    assert sorted(types) == sorted(["root.state", "device.registered", "device.key_offered", "device.key_changed", "device.pending", "device.approved", "device.deleted", "root.state"])
    assert [e["root"]["state"] for e in r.events("root.state")] == ["active", "revoked"] and r.events("root.state")[0]["before"] == "unproved"
    assert r.events("device.pending")[0]["device"]["state"] == "pending" and r.events("device.key_offered")[0]["spki"] == other.spki


def test_who_is_refused(server, account, receiver):
    """A registered device once, whoever is not known once an hour, however often they come."""
    r = receiver()
    hook(server, r.url(), account, "device.refused")
    fleet = Fleet()
    server.root(account, fleet)
    device, sni = fleet.device("cut-off"), server.host(account)
    server.gateway(device, sni=sni).get("/")
    server.muster("device", "quarantine", "cut-off", "--account", account)
    for _ in range(3):
        soon("device_quarantined", lambda: server.gateway(device, sni=sni).get("/").code)
    server.muster("root", "set", fleet.root["id"], "--state", "known-only")
    for i in range(4):
        soon("root_known_only", lambda i=i: server.gateway(fleet.device(f"unknown-{i}"), sni=sni).get("/").code)
    said = r.wait(2, seconds=20)
    time.sleep(2)
    said = r.events()
    assert sorted((e["code"], e["device_id"].split("-")[0]) for e in said) == [("device_quarantined", "cut"), ("root_known_only", "unknown")]
    assert next(e for e in said if e["code"] == "device_quarantined")["device"]["state"] == "quarantined"
    assert next(e for e in said if e["code"] == "root_known_only")["device"] is None and all(e["reason"] and e["address"] for e in said)


def test_only_what_was_asked_for_and_only_of_the_own_account(server, account, receiver):
    mine, everything, nothing = receiver(), receiver(), receiver()
    hook(server, mine.url(), account, "key.blacklisted")
    whole = hook(server, everything.url(), None, "key.blacklisted", "key.created")
    off = hook(server, nothing.url(), account)
    server.muster("webhook", "set", off["id"], "--state", "disabled")
    other = account + "-x"
    server.account(other)
    for name in (account, other):
        server.muster("key", "blacklist", server.key(name).shown["id"])
    everything.wait(4)
    mine.wait(1)
    time.sleep(0.5)
    assert [(e["type"], e["account"]) for e in mine.events()] == [("key.blacklisted", account)]
    assert {e["account"] for e in everything.events()} == {account, other}
    assert nothing.got == []
    server.muster("webhook", "delete", whole["id"])
    server.key(other)
    time.sleep(0.7)
    assert len(everything.got) == 4


def test_without_webhooks_nothing_is_written(fresh):
    s = fresh()
    s.account("quiet")
    s.gateway(s.key("quiet")).enrol("silent")
    s.stop()
    with s.database() as db:
        assert db.execute("SELECT COUNT(*) FROM event").fetchone() == (0,) and db.execute("SELECT COUNT(*) FROM event_wanted").fetchone() == (0,)


def test_what_fails_is_tried_again_with_the_same_id(server, account, receiver):
    r = receiver(lambda number, got: 500 if number < 3 else 204)
    made = hook(server, r.url(), account)
    server.key(account)
    r.wait(3)
    assert len({g.json["id"] for g in r.got}) == 1 and len({g.body for g in r.got}) == 1
    assert len({g.headers["Muster-Signature"] for g in r.got}) >= 2  # each attempt has its own time
    assert all(verify(made["secret"], g.headers["Muster-Signature"], g.body) for g in r.got)
    assert r.got[2].at - r.got[0].at >= 1  # one second, then about two, counted in whole ones
    state = eventually(lambda: (lambda h: h if h["delivered"] == 1 else None)(shown(server, made["id"])))
    assert state["failures"] == 0 and state["waiting"] == 0 and state["last_success"]


def test_a_receiver_that_says_when_is_obeyed(fresh, receiver):
    s = fresh(config=[*LOCAL, "webhook_retry_first = 1s", "webhook_retry_most = 10s"])
    s.account("later")
    r = receiver(lambda number, got: (429, {"Retry-After": "4"}) if number == 1 else 200)
    made = hook(s, r.url(), "later")
    s.key("later")
    r.wait(1)
    state = eventually(lambda: (lambda h: h if h["failures"] else None)(shown(s, made["id"])))
    assert "429" in state["last_error"] and state["next_attempt"] and state["oldest_waiting"]
    r.wait(2)
    assert 2.9 <= r.got[1].at - r.got[0].at <= 20


def test_when_to_come_again_is_said_by_429_and_503_alone(fresh, receiver):
    s = fresh(config=[*LOCAL, "webhook_retry_first = 1s", "webhook_retry_most = 10s"])
    s.account("failing")
    r = receiver(lambda number, got: (500, {"Retry-After": "9"}) if number == 1 else (503, {"Retry-After": "6"}) if number == 2 else 200)
    hook(s, r.url(), "failing")
    s.key("failing")
    r.wait(3)
    assert r.got[1].at - r.got[0].at < 5 < r.got[2].at - r.got[1].at


def test_one_device_s_events_wait_for_one_another_and_others_do_not(server, account, receiver):
    stuck = {"registered": 0}

    def answer(number, got):
        if got.json["type"] == "device.registered" and got.json["device"]["device_id"] == "slow":
            stuck["registered"] += 1
            return 200 if stuck["registered"] > 2 else 500
        return 200

    r = receiver(answer)
    hook(server, r.url(), account, "device.registered", "device.first_used")
    key = server.key(account)
    devices = {}
    for name in ("slow", "quick"):
        devices[name] = Device(server.gateway(key).enrol(name).body)
        server.gateway(devices[name]).get("/")
    r.wait(6)
    assert [e["type"] for e in r.events() if e["device"]["device_id"] == "slow"] == ["device.registered"] * 3 + ["device.first_used"]
    last_of_quick = max(i for i, e in enumerate(r.events()) if e["device"]["device_id"] == "quick")
    assert last_of_quick < len(r.events()) - 2


def test_what_is_given_up_is_kept_and_tried_again_when_asked(fresh, receiver):
    s = fresh(config=QUICK)
    s.account("late")
    good = threading.Event()
    r = receiver(lambda number, got: 200 if good.is_set() else 503)
    made = hook(s, r.url(), "late", "key.created")
    for _ in range(3):
        s.key("late")
    state = eventually(lambda: (lambda h: h if h["dead"] == 3 else None)(shown(s, made["id"])), seconds=25)
    assert state["waiting"] == 0 and state["delivered"] == 0 and "503" in state["last_error"] and state["failing_since"]
    dead = s.muster("webhook", "dead", made["id"])
    numbers = s.api("GET", "/metrics").body.decode()
    assert "muster_webhook_given_up_total 3\n" in numbers and 'muster_webhook_deliveries_total{result="ok"} 0\n' in numbers
    assert int(re.search(r'muster_webhook_deliveries_total\{result="failed"\} (\d+)', numbers).group(1)) >= 3
    assert {d["type"] for d in dead} == {"key.created"} and all("503" in d["last_error"] or d["attempts"] for d in dead)
    letter = s.muster("webhook", "letter", made["id"], dead[0]["id"])
    assert letter["payload"]["id"] == dead[0]["id"] and letter["payload"]["key"]["name"]
    refused("not_found", s.muster, "webhook", "letter", made["id"], str(uuid.uuid4()))
    good.set()
    before = len(r.got)
    assert s.muster("webhook", "retry", made["id"], dead[0]["id"])["retried"] == 1
    assert r.wait(before + 1)[-1]["id"] == dead[0]["id"]
    refused("confirmation_required", s.muster, "webhook", "drop", made["id"])
    assert s.muster("webhook", "drop", made["id"], dead[1]["id"])["dropped"] == 1
    assert s.muster("webhook", "retry", made["id"])["retried"] == 1
    assert r.wait(before + 2)[-1]["id"] == dead[2]["id"]
    eventually(lambda: shown(s, made["id"])["delivered"] == 2)
    assert shown(s, made["id"])["dead"] == 0
    good.clear()
    s.key("late")
    eventually(lambda: shown(s, made["id"])["dead"] == 1, seconds=20)
    assert s.muster("webhook", "drop", made["id"], "--yes")["dropped"] == 1
    actions = [e["action"] for e in s.muster("audit", "list") if e["action"].startswith("webhook.")]
    assert actions == ["webhook.create", "webhook.retry", "webhook.drop", "webhook.retry", "webhook.drop"]


def test_a_long_stop_gives_nothing_up(fresh, receiver):
    """What waits when the server goes is tried again when it comes, however late, and not given up by the first attempt that fails."""
    s = fresh(config=[*LOCAL, "webhook_retry_first = 1s", "webhook_retry_most = 1s", "webhook_retry_for = 1h"])
    s.account("long-gone")
    good = threading.Event()
    r = receiver(lambda number, got: 200 if good.is_set() else 500)
    made = hook(s, r.url(), "long-gone", "key.created")
    for _ in range(2):
        s.key("long-gone")
    r.wait(7)
    s.stop()
    before = len(r.got)
    s.start(env=ahead(s, days=20))
    r.wait(before + 2)
    state = shown(s, made["id"])
    assert (state["dead"], state["waiting"]) == (0, 2)
    good.set()
    eventually(lambda: shown(s, made["id"])["delivered"] == 2)
    assert shown(s, made["id"])["dead"] == 0 and len({e["id"] for e in r.events()}) == 2


def test_a_slow_receiver_holds_up_nobody_else(server, account, receiver):
    slow, quick = receiver(lambda number, got: time.sleep(2) or 200), receiver()
    for r in (slow, quick):
        hook(server, r.url(), account, "key.created")
    began = time.monotonic()
    for _ in range(12):
        server.key(account)
    quick.wait(12)
    assert time.monotonic() - began < 8
    assert slow.most <= 8
    slow.wait(12, seconds=20)


def test_a_receiver_that_never_answers_is_given_ten_seconds(server, account, receiver):
    r = receiver(lambda number, got: time.sleep(60) or 200)
    made = hook(server, r.url(), account, "key.created")
    began = time.monotonic()
    tried = server.api("POST", f"/api/v1/webhooks/{made['id']}/test")
    assert tried.status == 200 and not tried.json["delivered"] and "time" in tried.json["error"].lower()
    assert 9 <= time.monotonic() - began <= 15


def test_redirects_are_not_followed(server, account, receiver):
    target = receiver()
    r = receiver(lambda number, got: (307, {"Location": target.url()}))
    made = hook(server, r.url(), account, "key.created")
    said = refused("network_failed", server.muster, "webhook", "test", made["id"])
    assert "307" in said.text
    server.key(account)
    assert "redirects are not followed" in eventually(lambda: shown(server, made["id"])["last_error"])
    assert target.got == []


def test_410_ends_it(server, account, receiver):
    r = receiver(lambda number, got: 410)
    made = hook(server, r.url(), account, "key.created")
    server.key(account)
    state = eventually(lambda: (lambda h: h if h["state"] == "disabled" else None)(shown(server, made["id"])))
    assert "410" in state["why"] and state["waiting"] == 1
    db = sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True)
    wanted = "SELECT COUNT(*) FROM event_wanted JOIN account ON account.id = event_wanted.account WHERE account.name = ?"
    eventually(lambda: db.execute(wanted, (account,)).fetchone() == (0,))  # nothing more is written for it
    db.close()
    server.key(account)
    time.sleep(0.7)
    assert len(r.got) == 1 and shown(server, made["id"])["waiting"] == 1
    assert "webhook.disable" in [e["action"] for e in server.muster("audit", "list") if e["object"] == made["id"]]
    r.answer = lambda number, got: 200
    assert server.muster("webhook", "set", made["id"], "--state", "active")["state"] == "active"
    r.wait(2)


def test_a_hostile_receiver_harms_nobody(server, account, receiver):
    """Heads without an end, bodies without an end, nonsense, hanging up: the verdict is a failure, and others go on."""
    kinds = {
        "/body": lambda: (200, {"body": b"x" * (20 << 20)}),
        "/body-without-end": lambda: (200, {"body": b"x" * (1 << 20), "more": 1 << 30}),
        "/head-too-large": lambda: (200, {f"X-{i}": "y" * 12000 for i in range(3)}),
        "/head": lambda: (200, {f"X-{i}": "y" * 60000 for i in range(10)}),
        "/hang-up": lambda: None,
        "/odd": lambda: (500, {"Retry-After": "-99999999999999999999"}),
    }
    r = receiver(lambda number, got: kinds[got.path]())
    good = receiver()
    hook(server, good.url(), account, "key.created")
    results = {}
    for path in kinds:
        made = hook(server, r.url(path), account, "root.state")
        results[path] = server.api("POST", f"/api/v1/webhooks/{made['id']}/test").json
    assert all(results[path]["delivered"] and results[path]["status"] == 200 for path in ("/body", "/body-without-end")), results
    assert not any(results[path]["delivered"] for path in ("/head", "/head-too-large", "/hang-up", "/odd")) and results["/odd"]["status"] == 500
    pid = server.child("courier")
    server.key(account)
    good.wait(1)
    assert server.child("courier") == pid


def test_tls_is_verified(server, account, receiver, tmp_path):
    ca, other = own_ca(), own_ca()
    good = receiver(tls=server_identity(ca))
    wrong_name = receiver(tls=server_identity(ca, host="elsewhere.example"))
    made = {}
    for name, r, by in (("good", good, ca), ("system", good, None), ("other", good, other), ("name", wrong_name, ca)):
        pem = {"ca": by.root_pem().decode()} if by else {}
        made[name] = hook(server, r.url(host="localhost"), account, "root.state", **pem)
        tried = server.api("POST", f"/api/v1/webhooks/{made[name]['id']}/test").json
        assert tried["delivered"] == (name == "good"), (name, tried)
        if name != "good":
            assert "certificate" in tried["error"] or "SSL" in tried["error"], tried
    assert len(good.got) == 1 and wrong_name.got == [] and made["good"]["own_ca"] and not made["system"]["own_ca"]
    # The command line takes the file, and a change is in force at once.
    path = tmp_path / "ca.pem"
    path.write_bytes(ca.root_pem())
    server.muster("webhook", "set", made["system"]["id"], "--ca", path)
    assert server.muster("webhook", "test", made["system"]["id"])["delivered"]
    server.muster("webhook", "set", made["system"]["id"], "--system-ca")
    refused("network_failed", server.muster, "webhook", "test", made["system"]["id"])
    by_hand = server.muster("webhook", "create", good.url("/cli", host="localhost"), "--account", account, "--ca", path, "--event", "root.state")
    assert server.muster("webhook", "test", by_hand["id"])["delivered"] and by_hand["secret"].startswith("whsec_")


def test_a_ca_of_its_own_shuts_out_the_system_s(fresh, receiver, tmp_path, monkeypatch):
    """With system CAs of its own, as a bundle and as a folder by hashes; which takes a mount namespace."""
    import conftest
    if subprocess.run(["unshare", "--mount", "mount", "--bind", tmp_path, "/etc/ssl/certs"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount anything")
    system, other, certs = own_ca("The system's CA"), own_ca(), tmp_path / "certs"  # of two of one name the wrong one might be tried
    certs.mkdir()
    (certs / "ca-certificates.crt").write_bytes(system.root_pem())
    digest = subprocess.run(["openssl", "x509", "-noout", "-subject_hash", "-in", certs / "ca-certificates.crt"], capture_output=True, text=True, check=True).stdout.strip()
    (certs / f"{digest}.0").write_bytes(system.root_pem())
    wrapper = tmp_path / "musterd"
    wrapper.write_text(f"#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {certs} /etc/ssl/certs && exec \"$@\"' sh {MUSTERD} \"$@\"\n")
    wrapper.chmod(0o755)
    s = fresh(start=False, config=LOCAL)
    monkeypatch.setattr(conftest, "MUSTERD", wrapper)
    s.start()
    s.account("a")
    public, private = receiver(tls=server_identity(system)), receiver(tls=server_identity(other))

    def reached(r, **more):
        made = hook(s, r.url(host="localhost"), "a", "root.state", **more)
        return s.api("POST", f"/api/v1/webhooks/{made['id']}/test").json["delivered"]

    mine = {"ca": other.root_pem().decode()}
    assert reached(public), "by the system's"
    assert reached(private, **mine) and not reached(private)
    assert not reached(public, **mine), "by those of its own alone"


def test_where_a_webhook_may_not_go(fresh, server, account, receiver):
    strict = fresh()
    strict.account("strict")
    for url, ok in (("https://example.com/x", True), ("https://10.1.2.3:8443/", True), ("https://[2001:db8::1]/a?b=c", True),
                    ("http://example.com/", False), ("http://127.0.0.1/", False), ("https://127.0.0.1/", False), ("https://localhost/", False), ("https://[::1]/", False),
                    ("https://169.254.169.254/latest", False), ("https://[fe80::1]/", False), ("https://[::ffff:169.254.169.254]/", False), ("https://[fd00:ec2::254]/", False),
                    ("https://0.0.0.0/", False), ("https://2130706433/", False), ("https://0x7f.1/", False), ("https://user:pw@example.com/", False), ("https://example.com/#x", False),
                    ("ftp://example.com/", False), ("https:///", False), ("https://example.com:0/", False), ("https://example.com:99999/", False), ("https://exa mple.com/", False),
                    ("https://" + "a" * 2000 + ".com/", False), ("", False)):
        answer = strict.api("POST", "/api/v1/webhooks", {"url": url, "account": "strict"})
        assert answer.status == (201 if ok else 400), (url, answer)
        if ok:
            strict.muster("webhook", "delete", answer.json["id"])
    # A name is judged by what it resolves to, when the connection is made.
    here = hook(strict, "https://ip6-localhost/", "strict")
    tried = strict.api("POST", f"/api/v1/webhooks/{here['id']}/test").json
    assert not tried["delivered"] and ("may not be reached" in tried["error"] or "resolve" in tried["error"].lower()), tried
    # And so is an address: what was made under another setting goes nowhere, by number or by a name that means it.
    narrowed, there = fresh(config=LOCAL), receiver()
    narrowed.account("narrowed")
    made = [hook(narrowed, there.url(host=host), "narrowed") for host in ("127.0.0.1", "localhost")]
    assert all(narrowed.muster("webhook", "test", m["id"])["delivered"] for m in made) and len(there.got) == 2
    narrowed.stop()
    config = narrowed.dir / "musterd.conf"
    config.write_text(config.read_text(encoding="utf-8").replace(LOCAL[0], "webhook_networks = 10.0.0.0/8 127.0.0.2"), encoding="utf-8")
    narrowed.start()
    for m in made:
        tried = narrowed.api("POST", f"/api/v1/webhooks/{m['id']}/test").json
        assert not tried["delivered"] and "may not be reached" in tried["error"], tried
    assert len(there.got) == 2
    # Link-local stays shut whatever the setting says.
    open_wide = fresh(config=["webhook_networks = 0.0.0.0/0 ::/0"])
    open_wide.account("wide")
    assert open_wide.api("POST", "/api/v1/webhooks", {"url": "https://169.254.169.254/", "account": "wide"}).status == 400
    assert open_wide.api("POST", "/api/v1/webhooks", {"url": "http://127.0.0.1:1/", "account": "wide"}).status == 201
    assert "webhook_networks" in fresh_refuses(fresh, "webhook_networks = everywhere")
    for events in (["device.invented"], [], "device.registered", [1]):
        assert server.api("POST", "/api/v1/webhooks", {"url": "https://example.com/", "account": account, "events": events}).status == 400
    assert server.api("POST", "/api/v1/webhooks", {"url": "https://example.com/", "account": "never-made"}).status == 404
    assert server.api("POST", "/api/v1/webhooks", {"url": "https://example.com/", "account": account, "ca": "no certificate"}).status == 400


def fresh_refuses(fresh, line):
    s = fresh(start=False, config=[line])
    done = s.musterd("serve")
    assert done.returncode == 2
    return done.stderr


def test_a_secret_is_changed_without_losing_a_request(server, account, receiver):
    r = receiver()
    made = hook(server, r.url(), account, "root.state")
    first = made["secret"]
    second = server.muster("webhook", "rotate-secret", made["id"])["secret"]
    assert first != second and shown(server, made["id"])["secret_before_until"]
    server.muster("webhook", "test", made["id"])
    both = r.got[-1]
    assert both.headers["Muster-Signature"].count("v1=") == 2
    assert verify(first, both.headers["Muster-Signature"], both.body) and verify(second, both.headers["Muster-Signature"], both.body)
    third = server.muster("webhook", "rotate-secret", made["id"], "--overlap", "0")["secret"]
    server.muster("webhook", "test", made["id"])
    only = r.got[-1]
    assert verify(third, only.headers["Muster-Signature"], only.body) and not verify(second, only.headers["Muster-Signature"], only.body)
    fourth = server.muster("webhook", "rotate-secret", made["id"], "--overlap", "2s")["secret"]
    server.muster("webhook", "test", made["id"])
    assert r.got[-1].headers["Muster-Signature"].count("v1=") == 2
    time.sleep(2.2)
    server.muster("webhook", "test", made["id"])
    only = r.got[-1]
    assert only.headers["Muster-Signature"].count("v1=") == 1 and verify(fourth, only.headers["Muster-Signature"], only.body)
    for said in (json.dumps(shown(server, made["id"])), json.dumps(server.muster("webhook", "list")), json.dumps(server.muster("audit", "list")), server.log_text()):
        assert not any(secret in said for secret in (first, second, third, fourth))


def test_a_full_queue_gives_up_the_oldest(fresh, receiver):
    s = fresh(config=[*LOCAL, "webhook_queue = 10"])
    s.account("full")
    r = receiver(lambda number, got: 500)
    made = hook(s, r.url(), "full", "device.registered")
    key = s.key("full")
    for i in range(14):
        assert s.gateway(key).enrol(f"full-{i}").status == 200
    state = eventually(lambda: (lambda h: h if h["waiting"] + h["dead"] == 14 else None)(shown(s, made["id"])))
    assert state["waiting"] == 10 and state["dead"] == 4
    refused("confirmation_required", s.muster, "webhook", "delete", made["id"])
    s.muster("webhook", "delete", made["id"], "--yes")
    refused("not_found", s.muster, "webhook", "show", made["id"])


def test_a_deleted_account_takes_its_webhooks_along(server, receiver):
    server.account("goes", "test", "device")
    r = receiver()
    made = hook(server, r.url(), "goes")
    server.muster("account", "delete", "goes", "--yes")
    eventually(lambda: server.api("GET", f"/api/v1/webhooks/{made['id']}").status == 404)


# --- certificates and keys that end --------------------------------------------------------------------------------------------------------


def test_what_ends_soon_is_said_once_for_each_number_of_days(fresh, receiver):
    s = fresh(config=LOCAL)
    s.account("ends")
    fleet = Fleet(days=(-1, 400))
    s.root("ends", fleet)
    ends = {"soon-6h": 0.25, "soon-3d": 3, "soon-20d": 20, "later-90d": 90}
    for name, days in ends.items():
        s.gateway(fleet.device(name, days=(-1, days)), sni=s.host("ends")).get("/")
    s.key("ends", "--expires", "3d", "--name", "short")
    s.key("ends", "--expires", "60d", "--name", "long")
    r = receiver()
    hook(s, r.url(), "ends", "certificate.expiring", "key.expiring")
    r.wait(4)
    time.sleep(0.6)
    said = {(e["device"]["device_id"], e["days"]) for e in r.events("certificate.expiring")}
    assert said == {("soon-6h", 1), ("soon-3d", 7), ("soon-20d", 30)} and {e["of"] for e in r.events("certificate.expiring")} == {"device"}
    assert [(e["key"]["name"], e["days"]) for e in r.events("key.expiring")] == [("short", 7)]
    assert all(re.fullmatch(r"\d{4}-.*Z", e["not_after"]) for e in r.events("certificate.expiring"))
    # A restart says nothing again; a week later the next numbers are due, and the root is untouched until its own.
    s.stop()
    s.start()
    time.sleep(1)
    assert len(r.got) == 4
    s.stop()
    s.start(env=ahead(s, days=15))
    r.wait(5)
    time.sleep(0.6)
    assert [(e["device"]["device_id"], e["days"]) for e in r.events("certificate.expiring")[3:]] == [("soon-20d", 7)]
    s.stop()
    s.start(env=ahead(s, days=380))
    r.wait(6)
    time.sleep(0.6)
    assert [(e["of"], e["days"], "root" in e) for e in r.events("certificate.expiring")[4:]] == [("root", 30, True)]


def test_the_end_of_the_gateway_s_own_certificate_is_said(fresh, receiver):
    """Of the one that clients see: the operator's own, though Muster's stays in the data directory."""
    names = [(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]
    own = Fleet("Operator's server CA").device("localhost", days=(-1, 5), extensions=names)
    s = fresh(config=[*LOCAL, f"server_certificate = {own.cert_file}", f"server_key = {own.key_file}", "server_chain_check = no"])
    s.account("other")
    r, stranger = receiver(), receiver()
    hook(s, r.url(), None, "certificate.expiring")
    hook(s, stranger.url(), "other", "certificate.expiring")
    (said,) = r.wait(1)
    ends = own.cert.not_valid_after.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (said["of"], said["days"], said["not_after"], said["account"]) == ("server", 7, ends, None)
    s.stop()
    s.start()
    time.sleep(2)
    assert len(r.got) == 1 and stranger.got == [], "once, and to the whole server's webhooks alone"
    s.stop()
    s.start(env=ahead(s, hours=108))
    assert [e["days"] for e in r.wait(2)] == [7, 1]


# --- kill -9 -------------------------------------------------------------------------------------------------------------------------------------


def test_nothing_is_lost_by_kill_9(fresh, receiver):
    """Two hundred devices enrol while control, the courier and the whole server are killed: each committed one is told at least once."""
    s = fresh(config=[*LOCAL, "webhook_retry_first = 1s", "webhook_retry_most = 1s"])
    s.account("mortal")
    r = receiver()
    hook(s, r.url(), "mortal", "device.registered")
    key, stop, wrong = s.key("mortal"), threading.Event(), []
    todo = iter([f"mortal-{i}" for i in range(200)])
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                name = next(todo, None)
            if name is None:
                return
            until = time.monotonic() + 60
            while True:
                try:
                    answer = s.gateway(key, timeout=20).enrol(name)
                    if answer.status == 200:
                        break
                    if answer.code == "reissue_limited":
                        break  # it is in; its answers were lost
                except OSError:
                    pass
                if time.monotonic() > until:
                    wrong.append(name)
                    return
                time.sleep(0.55)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for w in workers:
        w.start()
    for round_, victim in enumerate(("control", "courier", "control", "server", "courier", "control", "server")):
        time.sleep(0.4 + 0.17 * round_)
        try:
            if victim == "server":
                s.process.kill()
                s.process.wait(timeout=10)
                children_gone(s)
                s.process = None
                s.start()
            else:
                os.kill(s.child(victim), signal.SIGKILL)
        except LookupError:
            pass  # it is just being started again
    for w in workers:
        w.join(timeout=120)
    assert not wrong and not any(w.is_alive() for w in workers)

    def registered():
        items, cursor = [], ""
        while cursor is not None:
            page = s.api("GET", f"/api/v1/accounts/mortal/devices?limit=1000{cursor and '&cursor=' + cursor}").json
            items += page["items"]
            cursor = page["next"]
        return {d["id"] for d in items}

    devices = eventually(registered)
    assert len(devices) == 200
    eventually(lambda: {e["device"]["id"] for e in r.events()} >= devices, seconds=40)
    by_id = {}
    for e in r.events():
        assert by_id.setdefault(e["id"], e) == e  # the same event is the same, whenever it comes
    told = [e["device"]["id"] for e in by_id.values()]
    assert sorted(told) == sorted(devices)  # and by its id exactly once, and nothing that is not there
    stop.set()


def children_gone(s):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        out = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
        left = [line for line in out.splitlines() if "musterd: " in line and is_of(s, line)]
        if not left:
            return
        time.sleep(0.05)


def is_of(s, line):
    try:
        return any(os.path.realpath(f"/proc/{line.split()[0]}/fd/{fd}").startswith(str(s.dir)) for fd in os.listdir(f"/proc/{line.split()[0]}/fd"))
    except OSError:
        return False


def test_the_courier_s_end_is_nobody_s_end(fresh, receiver):
    s = fresh(config=[*LOCAL, "webhook_retry_first = 1s", "webhook_retry_most = 1s"])
    s.account("goes-on")
    r = receiver()
    made = hook(s, r.url(), "goes-on", "key.created")
    pid = s.child("courier")
    os.kill(pid, signal.SIGSTOP)
    try:
        s.key("goes-on")
        assert s.api("GET", "/api/v1/whoami").status == 200
        assert s.gateway().get("/x").code == "certificate_required"
    finally:
        os.kill(pid, signal.SIGKILL)
    r.wait(1, seconds=20)
    eventually(lambda: shown(s, made["id"])["delivered"] == 1)
    # SIGHUP: another one, that sees the files of the resolver as they are now.
    pid = s.child("courier")
    s.process.send_signal(signal.SIGHUP)

    def another():
        try:
            return s.child("courier") != pid
        except LookupError:
            return False

    eventually(another)
    s.key("goes-on")
    r.wait(2)


# --- the documentation ----------------------------------------------------------------------------------------------------------------------------


def test_every_event_is_documented_and_listed(server):
    rows = re.findall(r'^V\((\w+),\s*(\d+),\s*"([a-z_.]+)"', EVENTS.read_text(encoding="utf-8"), re.M)
    assert len(rows) >= 20 and len({n for _, n, _ in rows}) == len(rows)
    types = [t for _, _, t in rows]
    assert [e["id"] for e in server.muster("webhook", "events")] == types
    assert re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", DOC.read_text(encoding="utf-8"), re.M) == types


def test_the_recipes_verify(server, account, receiver, tmp_path):
    """What doc/webhooks.md says a receiver does, run as printed."""
    r = receiver()
    made = hook(server, r.url(), account, "root.state")
    server.muster("webhook", "test", made["id"])
    got = r.got[-1]
    text = DOC.read_text(encoding="utf-8")
    python, shell = (re.search(rf"```{language}\n(.*?)```", text, re.S).group(1) for language in ("python", "sh"))
    scope = {}
    exec(python, scope)
    assert scope["verify"](made["secret"], got.headers["Muster-Signature"], got.body)
    assert not scope["verify"](made["secret"], got.headers["Muster-Signature"], got.body[:-1])
    assert not scope["verify"](made["secret"], re.sub(r"t=\d+", "t=1", got.headers["Muster-Signature"]), got.body)
    (tmp_path / "body").write_bytes(got.body)
    for body, good in ((got.body, True), (got.body + b"\n", False)):
        (tmp_path / "body").write_bytes(body)
        done = subprocess.run(["sh", "-eu", "-c", shell], env={**os.environ, "SECRET": made["secret"], "SIGNATURE": got.headers["Muster-Signature"], "BODY": str(tmp_path / "body")}, timeout=20)
        assert (done.returncode == 0) == good

"""Provisioning with shared credentials: a key's bounds, the lost answer, re-provisioning, and every refusal with its code."""
import datetime
import re
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from client import Device, Fleet, _path
from conftest import Refused, refused, soon, stays

PATH = "/director/2.root.json"
GAP = 0.52  # more than half a second: the least between two answers for one device
WORKERS = 16


def enrol(server, key, device_id, ttl="36000", **options):
    """What POST /devices says: a Device, or (status, code)."""
    answer = server.gateway(key, **options).enrol(device_id, ttl)
    return Device(answer.body) if answer.status == 200 else (answer.status, answer.code)


def enrolled(server, key, device_id, **options):
    device = enrol(server, key, device_id, **options)
    assert isinstance(device, Device), device
    return device


def ask(server, identity):
    answer = server.gateway(identity).get(PATH)
    return None if answer.status == 404 else answer.code


def retry_after(answer):
    return int(answer.headers["Retry-After"])


@pytest.fixture(scope="module")
def world(server):
    """One account and two keys without bounds for what changes no setting; nobody enrols with the second."""
    server.account("shared", "test", "shared")
    server.any_key, server.unspent_key = server.key("shared"), server.key("shared")
    return server


class Account:
    """An account of its own: some tests change its settings."""

    count = 0

    def __init__(self, server, *options, method="shared"):
        Account.count += 1
        self.server, self.name = server, f"acc-{Account.count}"
        self.shown = server.account(self.name, "test", method, *options)

    def key(self, *options):
        return self.server.key(self.name, *options)

    def set(self, *options):
        return self.server.muster("account", "set", self.name, *options)

    def device(self, verb, device_id, *options):
        return self.server.muster("device", verb, device_id, "--account", self.name, *options)

    def devices(self):
        return self.server.api("GET", f"/api/v1/accounts/{self.name}/devices").json["items"]

    def audit(self, device_id):
        return [e["action"] for e in self.server.muster("audit", "list", "--account", self.name) if e["object"] == device_id]


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def key_shown(server, key):
    return server.api("GET", f"/api/v1/accounts/-/keys/{key.shown['id']}").json


def spent(server, key):
    return key_shown(server, key)["spent"]


# --- bounds of a key ------------------------------------------------------------------------------------------------------------------------


def test_a_key_without_bounds_ends_after_30_days(world):
    key = world.key("shared")
    shown = key.shown
    assert (shown["state"], shown["spent"], shown["devices"]) == ("active", 0, 0)
    assert [shown[b] for b in ("max_devices", "per_hour", "id_pattern", "sources")] == [None] * 4
    days = (datetime.datetime.fromisoformat(shown["expires"].rstrip("Z")) - datetime.datetime.utcnow()).total_seconds() / 86400
    assert 29.9 < days < 30.1
    assert shown["certificate_not_after"] > shown["expires"]


def test_the_most_devices_exactly_under_16_at_once(world):
    key = world.key("shared", "--max-devices", "5")
    with ThreadPoolExecutor(WORKERS) as pool:
        got = list(pool.map(lambda i: enrol(world, key, f"crowd-{i}"), range(WORKERS)))
    lucky = [d for d in got if isinstance(d, Device)]
    assert len(lucky) == 5
    assert set(d for d in got if not isinstance(d, Device)) == {(403, "provisioning_key_exhausted")}
    shown = key_shown(world, key)
    assert (shown["spent"], shown["devices"], shown["state"]) == (5, 5, "exhausted")
    assert {d["device_id"] for d in world.muster("key", "devices", key.shown["id"])} == {d.common_name for d in lucky}
    # Raised, it goes on; it cannot be lowered under what is spent.
    world.muster("key", "set", key.shown["id"], "--max-devices", "6")
    assert isinstance(enrol(world, key, "crowd-late"), Device)
    assert enrol(world, key, "crowd-later") == (403, "provisioning_key_exhausted")
    refused("invalid_request", world.muster, "key", "set", key.shown["id"], "--max-devices", "5")
    world.muster("key", "set", key.shown["id"], "--max-devices", "none")
    assert isinstance(enrol(world, key, "crowd-later"), Device)


def test_one_id_asked_for_by_16_at_once_is_one_device(world):
    key = world.key("shared", "--max-devices", "3")
    with ThreadPoolExecutor(WORKERS) as pool:
        got = list(pool.map(lambda i: enrol(world, key, "the-one"), range(WORKERS)))
    assert any(isinstance(d, Device) for d in got)
    assert {d for d in got if not isinstance(d, Device)} <= {(429, "reissue_limited")}
    shown = key_shown(world, key)
    assert (shown["spent"], shown["devices"]) == (1, 1)


@pytest.mark.parametrize("pattern, good, bad", [
    ("car-[0-9]*", ["car-1", "car-2x", "car-3/y"], ["truck-1", "car-", "xcar-1", "Car-1"]),
    ("unit-??", ["unit-ab"], ["unit-a", "unit-abc"]),
    ("exact", ["exact"], ["exact2", "exac"])])
def test_the_pattern_of_device_ids(world, pattern, good, bad):
    key = world.key("shared", "--id-pattern", pattern)
    for device_id in bad:
        assert enrol(world, key, device_id) == (403, "device_id_not_allowed")
    assert spent(world, key) == 0
    for device_id in good:
        assert isinstance(enrol(world, key, device_id), Device)
    assert spent(world, key) == len(good)


def test_the_networks_of_a_key(world):
    key = world.key("shared", "--source", "192.0.2.0/24", "--source", "127.0.0.8/29")
    assert enrol(world, key, "net-1") == (403, "provisioning_key_source")
    assert enrol(world, key, "net-1", source="127.0.0.7") == (403, "provisioning_key_source")
    assert isinstance(enrol(world, key, "net-1", source="127.0.0.8"), Device)
    assert isinstance(enrol(world, key, "net-2", source="127.0.0.15"), Device)
    assert enrol(world, key, "net-3", source="127.0.0.16") == (403, "provisioning_key_source")
    world.muster("key", "set", key.shown["id"], "--source", "127.0.0.1/32")  # replaces those before
    assert isinstance(enrol(world, key, "net-3"), Device)
    assert enrol(world, key, "net-4", source="127.0.0.8") == (403, "provisioning_key_source")
    assert world.muster("device", "show", "net-2", "--account", "shared")["last_address"] == "127.0.0.15"


def test_enrolments_in_an_hour(world):
    if time.time() % 3600 > 3590:
        time.sleep(11)  # the hour is the clock's
    key = world.key("shared", "--per-hour", "2")
    for i in range(2):
        assert isinstance(enrol(world, key, f"hourly-{i}"), Device)
    answer = world.gateway(key).enrol("hourly-2")
    assert (answer.status, answer.code) == (429, "provisioning_key_rate")
    assert 1 <= retry_after(answer) <= 3600
    assert abs((time.time() + retry_after(answer)) % 3600 - 1800) > 1790
    # An answer that was lost is no enrolment.
    time.sleep(GAP)
    assert isinstance(enrol(world, key, "hourly-0"), Device)
    world.muster("key", "set", key.shown["id"], "--per-hour", "none")
    assert isinstance(enrol(world, key, "hourly-2"), Device)


def test_the_end_of_a_key(world):
    key = world.key("shared", "--expires", "1h")
    assert isinstance(enrol(world, key, "ends-1"), Device)
    world.muster("key", "set", key.shown["id"], "--expires", "1s")
    time.sleep(1.1)
    assert enrol(world, key, "ends-2") == (403, "provisioning_key_expired")
    assert enrol(world, key, "ends-1") == (403, "provisioning_key_expired")  # nor for a lost answer
    assert key_shown(world, key)["state"] == "expired"
    # Up to the end of the key's own certificate.
    refused("invalid_request", world.muster, "key", "set", key.shown["id"], "--expires", "90y")
    end = world.muster("key", "set", key.shown["id"], "--expires", key.shown["certificate_not_after"])
    assert (end["state"], end["expires"]) == ("active", key.shown["certificate_not_after"])
    assert isinstance(enrol(world, key, "ends-2"), Device)


def test_bounds_that_are_none_are_refused(world, tmp_path):
    def make(*options):
        return world.muster("key", "create", "--account", "shared", "-o", tmp_path / "never.zip", *options)

    for options in (["--expires", "yesterday"], ["--expires", "2020-01-01T00:00:00Z"], ["--expires", "0d"], ["--max-devices", "0"], ["--per-hour", "0"],
                    ["--source", "300.0.0.0/8"], ["--source", "10.0.0.0/33"], ["--id-pattern", "[a-z"], ["--id-pattern", "x" * 129], ["--name", "x" * 300]):
        refused("invalid_request", make, *options)
    with pytest.raises(Refused) as said:
        make("--max-devices", "many")
    assert said.value.status == 2
    assert not (tmp_path / "never.zip").exists()
    world.key("shared", "--name", "twice")
    refused("already_exists", make, "--name", "twice")


def test_the_private_half_is_not_kept(world):
    """Neither in a database nor in a log; a second download there is not."""
    key = world.key("shared", "--name", "kept-nowhere")
    secret = key.key.private_numbers().private_value.to_bytes(32, "big")
    for path in world.dir.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert secret not in data and secret.hex().encode() not in data and key.p12 not in data, path
    refused("already_exists", world.muster, "key", "create", "--account", "shared", "-o", key.zip)


# --- ttl ------------------------------------------------------------------------------------------------------------------------------------


def life(device):
    return (device.cert.not_valid_after - datetime.datetime.utcnow()).total_seconds()


DAY, YEAR = 86400, 365 * 86400


@pytest.mark.parametrize("ttl, seconds", [("1", DAY), (1, DAY), ("3650", 3650 * DAY), (30, 30 * DAY), ("36000", 20 * YEAR), (36000, 20 * YEAR), ("4000000000", 20 * YEAR),
                                          (10**15, 20 * YEAR), (None, 20 * YEAR)])
def test_ttl_is_days_as_text_or_number_and_clamped(world, ttl, seconds):
    device = enrolled(world, world.any_key, f"ttl-{ttl}-{type(ttl).__name__}", ttl=ttl)
    assert abs(life(device) - seconds) < max(120, seconds * 0.001), (life(device), seconds)


def test_without_ttl_the_account_s_life_counts(account, server):
    a = account("--device-life", str(10 * DAY))
    key = a.key()
    answer = server.gateway(key).request("POST", "/devices", {"deviceId": "no-ttl"})
    assert answer.status == 200 and abs(life(Device(answer.body)) - 10 * DAY) < 120
    assert abs(life(enrolled(server, key, "long")) - 10 * DAY) < 120
    a.set("--device-life", "3600")
    assert abs(life(enrolled(server, key, "short", ttl="1")) - 3600) < 120


@pytest.mark.parametrize("ttl", ["", "abc", "-1", "0", 0, -1, 1.5, "1.5", True, [], {}, " 1", "1d", "0x10"])
def test_what_is_no_number_of_days_is_refused(world, ttl):
    assert enrol(world, world.any_key, "no-days", ttl=ttl) == (400, "invalid_json")


# --- device IDs -----------------------------------------------------------------------------------------------------------------------------


def post(server, key, body):
    return server.gateway(key).request("POST", "/devices", body)


@pytest.mark.parametrize("device_id, code", [
    ("", "device_id_invalid"), ("x" * 129, "device_id_invalid"), ("ü" * 65, "device_id_invalid"),
    *[(f"a{c}b", "device_id_invalid") for c in "\n\t\r\x01\x1f\x7f\x80\x9f"],
    ("localhost", "device_id_reserved"), ("LocalHost", "device_id_reserved"), ("127.0.0.1", "device_id_reserved"), ("::1", "device_id_reserved"),
    ("shared.localhost", "device_id_reserved"), ("Other.LOCALHOST", "device_id_reserved"), ("muster-challenge-", "device_id_reserved"),
    ("muster-challenge-0123456789abcdef", "device_id_reserved")])
def test_device_ids_that_are_refused(world, device_id, code):
    status = {"device_id_invalid": 400, "device_id_reserved": 409}[code]
    assert enrol(world, world.unspent_key, device_id) == (status, code)
    assert spent(world, world.unspent_key) == 0


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'"x"', b"null", b"deviceId=x", b'{"deviceId":5}', b'{"deviceId":null}', b'{"deviceId":["x"]}', b'{"deviceId":"x"',
                                  b'{"deviceId":"x"}{}', b'{"deviceId":"x","deviceId":"y"}', b'{"deviceId":"\xff"}', b'{"deviceId":"\\ud800"}', b'{"deviceId":"a\\u0000b"}',
                                  b'{"DeviceID":"x"}', b"[" * 100])
def test_bodies_that_are_refused(world, body):
    answer = post(world, world.any_key, body)
    assert (answer.status, answer.code) == (400, "invalid_json")


def test_a_body_beyond_its_bound_is_refused(world):
    answer = post(world, world.any_key, b'{"deviceId":"' + b"x" * 100000 + b'"}')
    assert (answer.status, answer.code) == (413, "body_too_large")


def test_members_that_nobody_knows_are_passed_over(world):
    answer = post(world, world.any_key, {"deviceId": "newer-client", "ttl": "36000", "credentials": "none"})
    assert answer.status == 200


# --- what each certificate is good for --------------------------------------------------------------------------------------------------------


def test_enrolment_needs_a_provisioning_key(account, server):
    a = account(method="both")
    key, fleet = a.key(), server.root(a.name)
    answer = server.gateway().enrol("nobody")
    assert (answer.status, answer.code) == (403, "provisioning_key_required")
    device = enrolled(server, key, "cert-user")
    assert enrol(server, device, "by-device") == (403, "enrol_with_device_certificate")
    assert ask(server, device) is None
    factory = fleet.device("factory-made")
    assert ask(server, factory) is None
    assert enrol(server, factory, "by-fleet") == (403, "enrol_with_device_certificate")
    assert enrol(server, Fleet().device("stranger"), "by-stranger") == (403, "certificate_untrusted")
    assert {d["device_id"] for d in a.devices()} == {"cert-user", "factory-made"}


@pytest.mark.parametrize("method, path", [("GET", PATH), ("POST", "/director/ecus"), ("PUT", "/system_info"), ("GET", "/devices"), ("POST", "/devices/"), ("GET", "/repo/1.root.json"),
                                          ("DELETE", "/devices")])
def test_a_provisioning_key_only_enrols(world, method, path):
    answer = world.gateway(world.unspent_key).request(method, path, b"{}" if method in ("POST", "PUT") else None)
    assert (answer.status, answer.code) == (403, "provisioning_key_only_enrols")
    assert spent(world, world.unspent_key) == 0


def test_an_account_without_the_method_enrols_nobody(account, server, tmp_path):
    refused("method_not_enabled", server.muster, "key", "create", "--account", account(method="device").name, "-o", tmp_path / "no.zip")
    a = account(method="both")
    key = a.key()
    device = enrolled(server, key, "before")
    assert ask(server, device) is None
    a.set("--method", "device")
    assert enrol(server, key, "after") == (403, "method_not_enabled")
    soon("method_not_enabled", lambda: ask(server, device))
    a.set("--method", "both")
    assert isinstance(enrol(server, key, "after"), Device)
    soon(None, lambda: ask(server, device))


def test_a_deleted_account_enrols_nobody(account, server):
    a = account()
    key = a.key()
    device = enrolled(server, key, "orphan")
    assert ask(server, device) is None
    server.muster("account", "delete", a.name, "--yes")
    assert enrol(server, key, "late") == (403, "account_deleted")
    soon("account_deleted", lambda: ask(server, device))
    stays("account_deleted", lambda: ask(server, device))  # and not a stranger's, later
    assert enrol(server, key, "late") == (403, "account_deleted")


def test_the_key_of_another_account_than_the_host_name_s(account, server):
    a, b = account(), account()
    host = f"{a.name}.localhost"

    def served():
        try:
            return server.gateway(sni=host).get(PATH).code
        except ssl.SSLError:  # the certificate of a new account is a moment behind
            return None

    soon("certificate_required", served)
    assert enrol(server, b.key(), "elsewhere", sni=host) == (403, "certificate_of_other_account")
    assert isinstance(enrol(server, a.key(), "here", sni=host), Device)


def test_rsa_keys_come_from_a_pool(account, server):
    a = account("--device-key", "rsa2048")
    key = a.key()

    def try_it(n, end=time.monotonic() + 30):
        while time.monotonic() < end:
            answer = server.gateway(key).enrol(f"rsa-{n}")
            if answer.status == 200:
                return Device(answer.body)
            assert (answer.status, answer.code) == (429, "key_pool_empty") and retry_after(answer) >= 1
            time.sleep(0.2)
        raise AssertionError("the pool never fills")

    device = try_it(1)
    assert isinstance(device.key, rsa.RSAPrivateKey) and device.key.key_size == 2048
    usage = device.cert.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and usage.key_encipherment and len(device.p12) < 65536
    assert server.gateway(device).ecus().status == 201
    assert server.gateway(device, tls="1.2").get(PATH).status == 404
    assert try_it(2).spki != device.spki
    assert spent(server, key) == 2  # an empty pool spends nothing
    a.set("--device-key", "p256")
    assert not isinstance(enrolled(server, key, "ec-again").key, rsa.RSAPrivateKey)


# --- the lost answer --------------------------------------------------------------------------------------------------------------------------


def test_a_second_answer_spends_no_budget(account, server):
    a = account()
    key = a.key("--max-devices", "1")
    first = enrolled(server, key, "lost")
    assert key_shown(server, key)["state"] == "exhausted"
    time.sleep(GAP)
    second = enrolled(server, key, "lost")  # the key is exhausted, and still
    assert first.spki != second.spki and first.common_name == second.common_name == "lost"
    assert (spent(server, key), len(a.devices())) == (1, 1)
    assert enrol(server, key, "other-id") == (403, "provisioning_key_exhausted")
    assert ask(server, second) is None
    shown = a.device("show", "lost")
    assert (shown["spki"], [c["state"] for c in shown["certificates"]].count("current")) == (second.spki, 1)


def test_answers_in_reverse_order(account, server):
    """The one that came first is used, after a later one was given out; and the other way round."""
    a = account()
    key = a.key()
    names = (("old-wins", 0), ("new-wins", 1))
    first = [enrolled(server, key, name) for name, _ in names]
    time.sleep(GAP)
    for (name, winner), one in zip(names, first):
        both = [one, enrolled(server, key, name)]
        assert ask(server, both[winner]) is None
        assert ask(server, both[1 - winner]) == "certificate_void"
        assert ask(server, both[winner]) is None
        assert a.device("show", name)["spki"] == both[winner].spki
        assert len([d for d in a.devices() if d["device_id"] == name]) == 1
    assert spent(server, key) == 2


def test_two_within_half_a_second(account, server):
    key = account().key()
    for n in range(10):  # a busy machine may be too slow to be hasty
        name, began = f"hasty-{n}", time.monotonic()
        first = enrolled(server, key, name)
        answer = server.gateway(key).enrol(name)
        if time.monotonic() - began < 0.5:
            break
    assert (answer.status, answer.code, retry_after(answer)) == (429, "reissue_limited", 1)
    time.sleep(1)  # the stock client's own pause
    second = enrolled(server, key, name)
    assert ask(server, second) is None and ask(server, first) == "certificate_void"


def test_at_most_eight_answers_and_the_first_used_is_the_device_s(account, server):
    a = account()
    key = a.key("--max-devices", "1")
    certificates = []
    for _ in range(8):
        certificates.append(enrolled(server, key, "eight"))
        time.sleep(GAP)
    answer = server.gateway(key).enrol("eight")
    assert (answer.status, answer.code) == (429, "reissue_limited")
    assert 86000 < retry_after(answer) <= 86400  # until the window is over
    assert len({c.spki for c in certificates}) == 8
    assert ask(server, certificates[4]) is None
    assert [ask(server, c) for c in certificates] == ["certificate_void"] * 4 + [None] + ["certificate_void"] * 3
    assert enrol(server, key, "eight") == (409, "device_already_registered")
    assert a.audit("eight") == ["device.enrol"] * 8 + ["device.first_use"] and (spent(server, key), len(a.devices())) == (1, 1)


def test_the_first_requests_of_all_at_once_find_one_device(account, server):
    key = account().key()
    certificates = []
    for _ in range(3):
        certificates.append(enrolled(server, key, "stampede"))
        time.sleep(GAP)
    start = threading.Barrier(12)

    def use(i):
        start.wait()
        return i % 3, ask(server, certificates[i % 3])

    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(use, range(12)))
    winners = {i for i, code in got if code is None}
    assert len(winners) == 1, got
    assert {code for i, code in got if i not in winners} == {"certificate_void"}
    assert all(code is None for i, code in got if i in winners)


def test_first_use_racing_a_further_answer(account, server):
    """Whoever comes first: one certificate is the device's, and it is the one that was used."""
    a = account()
    key = a.key()
    names = [f"race-{n}" for n in range(4)]
    firsts = [enrolled(server, key, name) for name in names]
    time.sleep(GAP)
    for name, first in zip(names, firsts):
        start = threading.Barrier(2)

        def again(name=name, start=start):
            start.wait()
            return enrol(server, key, name)

        with ThreadPoolExecutor(1) as pool:
            more = pool.submit(again)
            start.wait()
            assert ask(server, first) is None
            more = more.result()
        if isinstance(more, Device):
            assert ask(server, more) == "certificate_void"
        else:
            assert more == (409, "device_already_registered")
        assert ask(server, first) is None
        states = [c["state"] for c in a.device("show", name)["certificates"]]
        assert states.count("current") == 1 and states.count("issued") == 0


def test_two_loops_racing(account, server):
    """Two programs on one device ask for its ID and use what they get, each in its loop: one of them has the device in the end."""
    a = account()
    key = a.key("--max-devices", "1")
    got, start = [[], []], threading.Barrier(2)

    def loop(mine):
        start.wait()
        for _ in range(6):
            answer = enrol(server, key, "two-loops")
            if isinstance(answer, Device):
                mine.append((answer, ask(server, answer)))
            time.sleep(0.3)

    threads = [threading.Thread(target=loop, args=(one,)) for one in got]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    every = got[0] + got[1]
    assert [code for _, code in every].count(None) == 1, every
    assert {code for _, code in every} <= {None, "certificate_void"}
    assert (spent(server, key), len(a.devices())) == (1, 1)


def test_a_handshake_alone_is_no_use(account, server):
    key = account().key()
    first = enrolled(server, key, "handshake")
    time.sleep(GAP)
    second = enrolled(server, key, "handshake")
    for tls in ("1.2", "1.3"):
        with server.gateway(first, tls=tls).connect() as c:
            c.settimeout(0.2)
            with pytest.raises(TimeoutError):
                c.recv(1)
    assert ask(server, second) is None
    assert ask(server, first) == "certificate_void"


def test_the_status_of_the_first_answer_does_not_matter(world):
    key = world.any_key
    requests = [("GET", "/nothing/here", None, 404), ("GET", "/repo/targets/x", None, 404), ("POST", "/director/ecus", b"garbage", 400),
                ("POST", "/devices", b'{"deviceId":"x"}', 403), ("DELETE", "/director/ecus", None, 405)]
    first = [enrolled(world, key, f"status-{i}") for i in range(len(requests))]
    time.sleep(GAP)
    second = [enrolled(world, key, f"status-{i}") for i in range(len(requests))]
    for (method, path, body, status), one, other in zip(requests, first, second):
        assert world.gateway(one).request(method, path, body).status == status
        assert (ask(world, other), ask(world, one)) == ("certificate_void", None), (method, path)


def test_a_connection_with_a_voided_certificate_is_told_so(account, server):
    """Also where its handshake was over before the other certificate was used."""
    key = account().key()
    first = enrolled(server, key, "voided")
    time.sleep(GAP)
    second = enrolled(server, key, "voided")
    g = server.gateway(first)
    with g.connect() as c:
        assert ask(server, second) is None
        answer = g.on(c, "GET", PATH)
        assert (answer.status, answer.code) == (403, "certificate_void")


def test_another_key_has_no_lost_answer(account, server):
    a = account()
    one, other = a.key(), a.key()
    device = enrolled(server, one, "owned")
    time.sleep(GAP)
    assert enrol(server, other, "owned") == (409, "device_already_registered")
    assert spent(server, other) == 0
    assert ask(server, device) is None
    assert enrol(server, one, "owned") == (409, "device_already_registered")  # used


def test_a_blacklisted_key_has_no_lost_answer(account, server):
    a = account()
    key = a.key()
    device = enrolled(server, key, "listed")
    server.muster("key", "blacklist", key.shown["id"])
    time.sleep(GAP)
    assert enrol(server, key, "listed") == (403, "provisioning_key_blacklisted")
    assert ask(server, device) is None  # what it got before is good


def test_when_the_window_is_over_the_policy_decides(account, server):
    a = account("--lost-answer-window", "2")
    assert a.shown["settings"]["lost_answer_window"] == 2
    key = a.key()
    first = enrolled(server, key, "late")
    over = time.monotonic() + 2.1  # counted from the first one
    time.sleep(GAP)
    second = enrolled(server, key, "late")
    time.sleep(over - time.monotonic())
    assert enrol(server, key, "late") == (409, "device_already_registered")
    assert ask(server, second) is None and ask(server, first) == "certificate_void"
    a.set("--lost-answer-window", "0")
    enrolled(server, key, "none")
    time.sleep(GAP)
    assert enrol(server, key, "none") == (409, "device_already_registered")
    refused("invalid_request", a.set, "--lost-answer-window", str(31 * DAY))


# --- re-provisioning --------------------------------------------------------------------------------------------------------------------------


def used(server, key, name):
    device = enrolled(server, key, name)
    assert ask(server, device) is None
    return device


def test_never_is_the_default(account, server):
    a = account()
    key = a.key()
    device = used(server, key, "never")
    assert a.shown["settings"]["reprovision"] == "never"
    answer = server.gateway(key).enrol("never")
    assert (answer.status, answer.code) == (409, "device_already_registered")
    assert ask(server, device) is None and spent(server, key) == 1


def test_ask_lets_an_operator_decide(account, server):
    a = account("--reprovision", "ask")
    key = a.key()
    old = used(server, key, "asks")
    refused("wrong_state", a.device, "approve", "asks")
    for _ in range(3):  # a client that polls is written down once
        answer = server.gateway(key).enrol("asks")
        assert (answer.status, answer.code) == (403, "approval_pending") and retry_after(answer) > 0
    assert a.device("show", "asks")["reprovision"] == "asked" and a.audit("asks").count("device.asks_again") == 1
    assert ask(server, old) is None and spent(server, key) == 1
    a.device("approve", "asks")
    new = enrolled(server, key, "asks")
    assert spent(server, key) == 2
    assert ask(server, old) is None  # until the new one is used
    assert ask(server, new) is None
    assert ask(server, old) == "certificate_superseded"
    assert len(a.devices()) == 1
    assert enrol(server, key, "asks") == (403, "approval_pending")  # once


def test_ask_refused(account, server):
    a = account("--reprovision", "ask")
    key = a.key()
    device = used(server, key, "asks")
    assert enrol(server, key, "asks") == (403, "approval_pending")
    a.device("refuse", "asks")
    assert enrol(server, key, "asks") == (403, "device_refused")
    assert enrol(server, key, "asks") == (403, "device_refused")
    assert ask(server, device) is None and spent(server, key) == 1
    a.device("approve", "asks")  # thought better of
    assert isinstance(enrol(server, key, "asks"), Device)


def test_ask_with_another_key_and_a_lost_answer_afterwards(account, server):
    a = account("--reprovision", "ask")
    one, other = a.key("--max-devices", "1"), a.key("--max-devices", "1")
    used(server, one, "moves")
    assert enrol(server, other, "moves") == (403, "approval_pending")
    a.device("approve", "moves")
    first = enrolled(server, other, "moves")
    time.sleep(GAP)
    second = enrolled(server, other, "moves")
    assert ask(server, second) is None and ask(server, first) == "certificate_void"
    assert (spent(server, one), spent(server, other)) == (1, 1)
    assert a.device("show", "moves")["key"] == other.shown["id"]


def test_a_lost_answer_needs_no_approval(account, server):
    key = account("--reprovision", "ask").key()
    enrolled(server, key, "lost")
    time.sleep(GAP)
    assert isinstance(enrol(server, key, "lost"), Device)


def test_replace_takes_the_key_that_enrolled_the_device(account, server):
    a = account("--reprovision", "replace")
    assert any("replace" in w for w in a.shown["warnings"])
    one, other = a.key("--max-devices", "2"), a.key()
    old = used(server, one, "wiped")
    assert enrol(server, other, "wiped") == (409, "device_already_registered")
    new = used(server, one, "wiped")
    assert ask(server, old) == "certificate_superseded" and ask(server, new) is None
    assert (spent(server, one), len(a.devices())) == (2, 1)
    assert enrol(server, one, "wiped") == (403, "provisioning_key_exhausted")


@pytest.mark.parametrize("policy", ["never", "ask"])
def test_release_for_reprovision_once(account, server, policy):
    a = account("--reprovision", policy)
    one, other = a.key(), a.key()
    old = used(server, one, "released")
    a.device("release", "released", "--for-reprovision")
    new = used(server, other, "released")
    assert ask(server, old) == "certificate_superseded" and ask(server, new) is None
    assert enrol(server, other, "released") == ((409, "device_already_registered") if policy == "never" else (403, "approval_pending"))
    assert len(a.devices()) == 1 and "device.release" in a.audit("released")


def test_a_released_device_s_answer_may_be_lost_too(account, server):
    a = account()
    key = a.key()
    used(server, key, "released")
    a.device("release", "released", "--for-reprovision")
    first = enrolled(server, key, "released")
    time.sleep(GAP)
    second = enrolled(server, key, "released")
    assert ask(server, second) is None and ask(server, first) == "certificate_void"
    assert spent(server, key) == 2


def test_a_device_of_the_fleet_s_own_ca_is_no_replacement(account, server):
    """Whatever the policy, a provisioning key takes no ID of a device that came with a certificate of its own."""
    a = account("--reprovision", "replace", method="both")
    key, fleet = a.key(), server.root(a.name)
    device = fleet.device("factory")
    assert ask(server, device) is None
    assert enrol(server, key, "factory") == (409, "device_already_registered")
    assert ask(server, device) is None


STATES = [("quarantine", "device_quarantined"), ("revoke", "device_revoked"), ("delete", "device_deleted")]


@pytest.mark.parametrize("policy", ["never", "ask", "replace"])
def test_the_state_of_a_device_wins_over_every_policy_and_window(account, server, policy):
    a = account("--reprovision", policy)
    key = a.key("--max-devices", "6")
    for verb, _ in STATES:
        used(server, key, f"{verb}-used")
        enrolled(server, key, f"{verb}-unused")  # in the lost answer's window
    time.sleep(GAP)
    for verb, code in STATES:
        for name in (f"{verb}-used", f"{verb}-unused"):
            a.device(verb, name)
            assert enrol(server, key, name) == (403, code)
    assert key_shown(server, key)["state"] == "exhausted"
    a.device("release", "quarantine-used")
    assert enrol(server, key, "quarantine-used")[1] in ("device_already_registered", "approval_pending", "provisioning_key_exhausted")
    a.device("release", "quarantine-unused")
    assert isinstance(enrol(server, key, "quarantine-unused"), Device)


def test_a_grant_does_not_outlive_a_revocation(account, server):
    a = account()
    key = a.key()
    used(server, key, "granted")
    a.device("release", "granted", "--for-reprovision")
    a.device("revoke", "granted")
    assert enrol(server, key, "granted") == (403, "device_revoked")
    refused("wrong_state", a.device, "release", "granted", "--for-reprovision")


def test_a_released_tombstone_s_id_enrols_again(account, server):
    a = account()
    key = a.key()
    old = used(server, key, "phoenix")
    first = a.device("show", "phoenix")["id"]
    a.device("delete", "phoenix")
    a.device("release", "phoenix")
    new = used(server, key, "phoenix")
    assert a.device("show", "phoenix")["id"] != first and spent(server, key) == 2
    stays("certificate_revoked", lambda: ask(server, old), 0.3)
    assert ask(server, new) is None


# --- accounts that want approval --------------------------------------------------------------------------------------------------------------


def test_an_account_may_want_approval(account, server):
    a = account("--approval", "yes")
    key = a.key()
    device = enrolled(server, key, "waits")
    assert ask(server, device) == "device_pending" and a.device("show", "waits")["state"] == "pending"
    a.device("approve", "waits")
    soon(None, lambda: ask(server, device))
    device = enrolled(server, key, "sent-away")
    a.device("refuse", "sent-away")
    soon("device_refused", lambda: ask(server, device))
    time.sleep(GAP)
    assert enrol(server, key, "sent-away") == (403, "device_refused")


# --- what to be warned about ------------------------------------------------------------------------------------------------------------------


def test_shared_credentials_in_production_are_warned_about(server):
    made = server.account("prod-shared", "production", "shared")
    assert any("production" in w for w in made["warnings"])
    assert server.muster("account", "show", "prod-shared")["warnings"] == made["warnings"]


# --- a device's certificate is no server's ------------------------------------------------------------------------------------------------------


class TlsServer:
    """A TLS server on a device's certificate, as somebody who stole one would set it up."""

    def __init__(self, identity):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(str(identity.cert_file), str(identity.key_file))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                raw, _ = self.socket.accept()
            except OSError:
                return
            try:
                raw.settimeout(5)
                with self.context.wrap_socket(raw, server_side=True) as c:
                    c.recv(4096)
                    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            except OSError:
                pass

    def close(self):
        self.socket.close()


@pytest.fixture
def impostor(account, server):
    """A device whose ID is a host name, served from; with the CA certificates above it as files."""
    a = account()
    device = enrolled(server, a.key(), "update.example")
    root = server.muster("root", "list", "--account", a.name)[0]
    with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
        cas = [x509.load_der_x509_certificate(der) for (der,) in db.execute("SELECT der FROM ca")]
    device.issuing = next(c for c in cas if c.subject == device.cert.issuer and c.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest ==
                          device.cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier)
    pem = lambda c: c.public_bytes(serialization.Encoding.PEM)
    device.all_cas, device.own_cas, device.chain_file = _path(), _path(), _path()
    device.all_cas.write_bytes(pem(device.issuing) + server.muster("root", "export", root["id"])["certificate"].encode())
    device.own_cas.write_bytes(b"".join(map(pem, device.cas)))
    device.chain_file.write_bytes(pem(device.cert) + pem(device.issuing))
    s = TlsServer(device)
    device.port = s.port
    yield device
    s.close()


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, timeout=20, stdin=subprocess.DEVNULL)


def test_curl_rejects_a_device_as_a_server(impostor):
    """With what a device trusts, and even where somebody has made the fleet's CAs trusted: it is not for servers."""
    curl = ["curl", "-sS", "--noproxy", "*", "--resolve", f"update.example:{impostor.port}:127.0.0.1", f"https://update.example:{impostor.port}/"]
    assert run(*curl, "-k").stdout == "ok"
    for cas, why in ((impostor.own_cas, "certificate"), (impostor.all_cas, "certificate purpose")):
        done = run(*curl, "--cacert", cas)
        assert done.returncode == 60 and why in done.stderr, done
    # Nothing else is wrong with it: as a client's it verifies.
    assert run("openssl", "verify", "-purpose", "sslclient", "-CAfile", impostor.all_cas, impostor.cert_file).returncode == 0
    assert "certificate purpose" in run("openssl", "verify", "-purpose", "sslserver", "-CAfile", impostor.all_cas, impostor.cert_file).stderr


def test_gnutls_rejects_a_device_as_a_server(impostor):
    for cas in (impostor.own_cas, impostor.all_cas):
        done = run("gnutls-cli", "--x509cafile", cas, "--verify-hostname", "update.example", "--sni-hostname", "update.example", "-p", impostor.port, "127.0.0.1")
        assert done.returncode != 0 and "NOT trusted" in done.stdout + done.stderr, done
    # The purpose is the reason, as its verifier says where everything else is right.
    verify = ["certtool", "--verify", "--load-ca-certificate", impostor.all_cas, "--infile", impostor.chain_file]
    server = run(*verify, "--verify-purpose", "1.3.6.1.5.5.7.3.1")
    assert server.returncode != 0 and "purpose" in server.stdout
    client = run(*verify, "--verify-purpose", "1.3.6.1.5.5.7.3.2")
    assert client.returncode == 0 and re.search(r"Chain verification output: Verified", client.stdout), client


# --- what is written down ---------------------------------------------------------------------------------------------------------------------


def test_the_audit_log_names_the_key_and_the_address(account, server):
    a = account()
    key = a.key("--name", "image-7", "--build", "2026.10")
    enrolled(server, key, "logged")
    entry = [e for e in server.muster("audit", "list", "--account", a.name) if e["action"] == "device.enrol"][0]
    assert (entry["object"], entry["actor"], entry["detail"]["address"], entry["detail"]["how"]) == ("logged", "key:image-7", "127.0.0.1", "new")
    assert server.muster("audit", "verify", "--account", a.name)["ok"] is True
    assert key_shown(server, key)["build"] == "2026.10"
    assert "PRIVATE" not in server.log_text()

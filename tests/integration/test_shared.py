"""Provisioning with shared credentials: a key's bounds, ttl, device IDs, what each certificate is good for; every refusal with its code."""
import datetime
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from client import Device, Fleet
from conftest import Refused, refused, soon, stays
from enrolment import DAY, GAP, PATH, WORKERS, YEAR, Account, ask, enrol, enrolled, key_shown, retry_after, spent


@pytest.fixture(scope="module")
def world(server):
    """One account and two keys without bounds for what changes no setting; nobody enrols with the second."""
    server.account("shared", "test", "shared")
    server.any_key, server.unspent_key = server.key("shared"), server.key("shared")
    return server

@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


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
    key = world.key("shared", "--per-hour", "2")
    for i in range(2):
        assert isinstance(enrol(world, key, f"hourly-{i}"), Device)
    answer = world.gateway(key).enrol("hourly-2")
    assert (answer.status, answer.code) == (429, "provisioning_key_rate")
    assert 3590 <= retry_after(answer) <= 3600  # an hour behind the first of them, whatever hour the clock shows
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


@pytest.mark.parametrize("ttl, seconds", [("1", DAY), (1, DAY), ("0", DAY), (-1, DAY), ("-1", DAY), (1.5, DAY), ("1.5", DAY), ("9" * 20, 20 * YEAR), ("3650", 3650 * DAY), (30, 30 * DAY), ("36000", 20 * YEAR), (36000, 20 * YEAR), ("4000000000", 20 * YEAR),
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


@pytest.mark.parametrize("ttl", ["", "abc", True, [], {}, " 1", "1d", "0x10", "inf", "nan"])
def test_what_is_no_number_of_days_is_refused(world, ttl):
    assert enrol(world, world.any_key, "no-days", ttl=ttl) == (400, "invalid_json")


# --- device IDs -----------------------------------------------------------------------------------------------------------------------------


def post(server, key, body):
    return server.gateway(key).request("POST", "/devices", body)


@pytest.mark.parametrize("device_id, code", [
    ("", "device_id_invalid"), ("x" * 129, "device_id_invalid"), ("ü" * 65, "device_id_invalid"),
    *[(f"a{c}b", "device_id_invalid") for c in "\n\t\r\x01\x1f\x7f\x80\x9f\u202e\u200b\u00ad"],
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
    a.set("--method", "device", "--yes")
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


# --- what to be warned about ------------------------------------------------------------------------------------------------------------------


def test_shared_credentials_in_production_are_warned_about(server):
    made = server.account("prod-shared", "production", "shared")
    assert any("production" in w for w in made["warnings"])
    assert server.muster("account", "show", "prod-shared")["warnings"] == made["warnings"]


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


def test_a_bound_per_hour_that_is_set_later_counts_what_was_before(server):
    a = Account(server)
    key = a.key()
    for i in range(3):
        enrolled(server, key, f"hour-{i}")
    server.muster("key", "set", key.shown["id"], "--per-hour", "2")
    assert enrol(server, key, "hour-3") == (429, "provisioning_key_rate")
    server.muster("key", "set", key.shown["id"], "--per-hour", "4")
    enrolled(server, key, "hour-4")
    assert enrol(server, key, "hour-5") == (429, "provisioning_key_rate")


def test_the_vault_s_ceiling_is_an_answer_of_its_own(server):
    """Whatever a key allows, the account gets no more certificates in an hour than its ceiling."""
    a = Account(server, "--issue-ceiling", "2")
    key = a.key()
    enrolled(server, key, "under-1"), enrolled(server, key, "under-2")
    answer = server.gateway(key).enrol("over")
    assert (answer.status, answer.code) == (429, "issue_ceiling") and 0 < retry_after(answer) <= 3600
    assert spent(server, key) == 2 and [d["device_id"] for d in a.devices()] == ["under-1", "under-2"]


def test_a_provisioning_key_that_the_registry_does_not_hold(fresh):
    s = fresh()
    s.account("held", "test", "shared")
    key = s.key("held")
    assert s.stop() == 0
    db = s.database()
    db.execute("DELETE FROM prov_key")
    db.close()
    s.start()
    answer = s.gateway(key).enrol("nobody")
    assert (answer.status, answer.code) == (403, "provisioning_key_unknown")

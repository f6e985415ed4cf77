"""A leaked provisioning key: it is blacklisted, nobody new gets in with it, and what it enrolled is listed and, if wanted, cut off."""
import http.client
import ssl
import threading
import time

import pytest

from client import Device
from conftest import refused, soon, stays

PATH = "/director/2.root.json"
CUT = "cut"


@pytest.fixture(scope="module")
def world(server):
    server.account("leaks", "test", "both")
    return server


def enrolled(server, key, device_id):
    answer = server.gateway(key).enrol(device_id)
    assert answer.status == 200, answer
    return Device(answer.body)


def ask(server, identity):
    answer = server.gateway(identity).get(PATH)
    return None if answer.status == 404 else answer.code


class Open:
    """A kept connection; `ask` on it gives a code, None for admitted, or CUT."""

    def __init__(self, server, identity, tls=None):
        self.gateway = server.gateway(identity, tls=tls)
        self.connection = self.gateway.connect()

    def on(self, *request):
        try:
            return self.gateway.on(self.connection, *request)
        except (OSError, http.client.HTTPException):
            return None

    def ask(self):
        answer = self.on("GET", PATH)
        return CUT if answer is None else None if answer.status == 404 else answer.code

    def enrol(self, device_id):
        answer = self.on("POST", "/devices", b'{"deviceId":"%s","ttl":"36000"}' % device_id.encode())
        return CUT if answer is None else answer.code or answer.status

    def close(self):
        self.connection.close()


def shown(server, key):
    return server.muster("key", "show", key.shown["id"])


# --- key blacklist ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_no_new_device_from_now_on_open_connections_too(world, tls):
    key, other = world.key("leaks"), world.key("leaks")
    device, kept = enrolled(world, key, f"before-{tls}"), Open(world, key, tls)
    assert kept.enrol(f"open-{tls}") == 200
    assert ask(world, device) is None
    said = world.muster("key", "blacklist", key.shown["id"])
    assert (said["state"], said["devices"], said["spent"]) == ("blacklisted", 2, 2)
    soon("provisioning_key_blacklisted", lambda: kept.enrol(f"after-open-{tls}"))
    kept.close()
    answer = world.gateway(key, tls=tls).enrol(f"after-{tls}")
    assert (answer.status, answer.code) == (403, "provisioning_key_blacklisted")
    # A session from before is no way around.
    assert world.gateway(key).request("POST", "/director/ecus", {}).code == "provisioning_key_only_enrols"
    # Devices that it enrolled keep working, other keys too.
    stays(None, lambda: ask(world, device), 0.3)
    assert isinstance(enrolled(world, other, f"other-{tls}"), Device)


def test_it_is_for_good_and_twice_is_once(world):
    key = world.key("leaks", "--name", "for-good")
    for _ in range(2):
        assert world.muster("key", "blacklist", "for-good", "--account", "leaks")["state"] == "blacklisted"
    world.muster("key", "set", key.shown["id"], "--expires", "90d", "--max-devices", "1000")  # no way back
    assert shown(world, key)["state"] == "blacklisted"
    assert world.gateway(key).enrol("no-way").code == "provisioning_key_blacklisted"
    assert [e["action"] for e in world.muster("audit", "list", "--account", "leaks") if e["object"] == "for-good"] == ["key.create", "key.blacklist", "key.set"]
    refused("not_found", world.muster, "key", "blacklist", "nobody-s", "--account", "leaks")


def test_a_stream_of_enrolments_stops_within_a_second(world):
    """Each on a connection of its own and on kept ones, while the operator acts."""
    key, got, stop = world.key("leaks"), [], threading.Event()

    def stream(n, keep):
        kept = Open(world, key) if keep else None
        for i in range(1000):
            if stop.is_set():
                break
            began = time.monotonic()
            device_id = f"stream-{n}-{i}"
            got.append((began, device_id, kept.enrol(device_id) if keep else world.gateway(key).enrol(device_id).status))
        if keep:
            kept.close()

    threads = [threading.Thread(target=stream, args=(n, n % 2)) for n in range(4)]
    for t in threads:
        t.start()
    time.sleep(0.4)
    world.muster("key", "blacklist", key.shown["id"])
    done = time.monotonic()
    time.sleep(1.2)
    stop.set()
    for t in threads:
        t.join()
    lucky = [(began, device_id) for began, device_id, status in got if status == 200]
    assert lucky and all(began < done + 1 for began, _ in lucky)
    assert len([1 for began, _, status in got if began > done + 1 and status != 200]) > 4
    # Budget and list are exact: who got a certificate is on the list, and nobody else.
    assert {d["device_id"] for d in world.muster("key", "devices", key.shown["id"])} == {device_id for _, device_id in lucky}
    assert shown(world, key)["spent"] == shown(world, key)["devices"] == len(lucky)


def test_it_survives_a_restart(fresh):
    s = fresh()
    s.account("kept", "test", "shared")
    key = s.key("kept")
    device = enrolled(s, key, "one")
    assert ask(s, device) is None
    s.muster("key", "blacklist", key.shown["id"])
    s.stop()
    s.start()
    assert s.gateway(key).enrol("two").code == "provisioning_key_blacklisted"
    assert ask(s, device) is None


# --- what it enrolled ---------------------------------------------------------------------------------------------------------------------


def utc(t):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))


def test_the_devices_of_a_key_are_listed(world):
    key = world.key("leaks", "--name", "listed", "--build", "b-17")
    devices = [enrolled(world, key, f"listed-{i}") for i in range(3)]
    assert ask(world, devices[0]) is None
    world.muster("key", "blacklist", key.shown["id"])
    said = shown(world, key)
    assert (said["state"], said["devices"], said["spent"], said["build"]) == ("blacklisted", 3, 3, "b-17")
    rows = world.muster("key", "devices", "listed", "--account", "leaks")
    assert [r["device_id"] for r in rows] == ["listed-0", "listed-1", "listed-2"]
    assert {(r["state"], r["last_address"]) for r in rows} == {("active", "127.0.0.1")} and all(r["created"] and r["last_seen"] for r in rows)
    assert world.muster("key", "devices", key.shown["id"], "--since", "1h") == rows
    assert world.muster("key", "devices", key.shown["id"], "--since", utc(time.time() + 5)) == []
    refused("invalid_request", world.muster, "key", "devices", key.shown["id"], "--since", "lately")


# --- acting on all of them, or some ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb, state, code", [("quarantine", "quarantined", "device_quarantined"), ("revoke", "revoked", "device_revoked")])
def test_the_count_is_shown_first(world, verb, state, code):
    key, other = world.key("leaks"), world.key("leaks")
    devices = [enrolled(world, key, f"{verb}-{i}") for i in range(3)]
    bystander = enrolled(world, other, f"{verb}-bystander")
    act = lambda *options: world.muster("device", verb, "--key", key.shown["id"], *options)
    said = refused("confirmation_required", act)
    assert said.status == 1 and f"{verb} 3 devices" in said.text and "--yes" in said.text
    answer = world.api("POST", f"/api/v1/accounts/leaks/keys/{key.shown['id']}/devices", {"action": verb})
    assert (answer.status, answer.code, answer.json["count"]) == (409, "confirmation_required", 3)
    stays([None] * 3, lambda: [ask(world, d) for d in devices], 0.2)
    done = act("--yes", "--reason", "the image leaked")
    assert (done["action"], done["devices"]) == (verb, 3)
    soon([code] * 3, lambda: [ask(world, d) for d in devices])
    assert ask(world, bystander) is None
    rows = world.muster("key", "devices", key.shown["id"])
    assert [(r["state"], r["reason"]) for r in rows] == [(state, "the image leaked")] * 3
    assert world.gateway(key).enrol(f"{verb}-0").code == code  # before any lost answer
    entries = world.muster("audit", "list", "--account", "leaks")
    assert [e["detail"]["devices"] for e in entries if e["action"] == f"key.devices.{verb}"] == [3]
    assert len([e for e in entries if e["action"] == f"device.{verb}" and e["object"].startswith(f"{verb}-")]) == 3
    # Nobody is left: the count says so.
    assert f"{verb} 0 devices" in refused("confirmation_required", act).text


def test_only_those_enrolled_since(world):
    key = world.key("leaks")
    early = enrolled(world, key, "early")
    time.sleep(1.1)
    since = utc(time.time())
    late = enrolled(world, key, "late")
    act = lambda *options: world.muster("device", "revoke", "--key", key.shown["id"], "--since", since, *options)
    assert "revoke 1 device " in refused("confirmation_required", act).text
    assert [r["device_id"] for r in world.muster("key", "devices", key.shown["id"], "--since", since)] == ["late"]
    act("--yes")
    soon("device_revoked", lambda: ask(world, late))
    assert ask(world, early) is None
    refused("invalid_request", world.muster, "device", "revoke", "--key", key.shown["id"], "--since", "lately", "--yes")


def test_quarantined_devices_can_be_revoked_and_not_the_other_way(world):
    key = world.key("leaks")
    devices = [enrolled(world, key, f"step-{i}") for i in range(2)]
    assert [ask(world, d) for d in devices] == [None, None]
    for verb, code in (("quarantine", "device_quarantined"), ("revoke", "device_revoked")):
        world.muster("device", verb, "--key", key.shown["id"], "--yes")
        soon([code] * 2, lambda code=code: [ask(world, d) for d in devices])
    assert "quarantine 0 devices" in refused("confirmation_required", world.muster, "device", "quarantine", "--key", key.shown["id"]).text


@pytest.mark.parametrize("verb, code", [("quarantine", "device_quarantined"), ("revoke", "device_revoked")])
def test_their_open_connections_end_within_a_second(world, verb, code):
    key, other = world.key("leaks"), world.key("leaks")
    kept = [Open(world, enrolled(world, key, f"open-{verb}-{i}"), tls) for i, tls in enumerate(("1.2", "1.3"))]
    bystander = Open(world, enrolled(world, other, f"open-{verb}-other"))
    assert [c.ask() for c in [*kept, bystander]] == [None] * 3
    # A transfer under way besides: its body is still coming.
    g = world.gateway(enrolled(world, key, f"open-{verb}-transfer"))
    with g.connect() as c:
        c.sendall(f"POST /director/ecus HTTP/1.1\r\nHost: localhost:{world.port}\r\nContent-Length: 60000\r\n\r\n{{".encode() + b" " * 9000)
        time.sleep(0.2)
        world.muster("device", verb, "--key", key.shown["id"], "--yes")
        began = time.monotonic()
        c.settimeout(5)
        try:
            said = c.recv(65536)
        except (ssl.SSLError, ConnectionError):
            said = b""
        assert time.monotonic() - began < 1 and (said == b"" or code.encode() in said)
    for one in kept:
        soon(True, lambda one=one: one.ask() in (code, CUT))
        one.close()
    assert bystander.ask() is None
    bystander.close()


def test_what_makes_no_sense_is_refused(world):
    key = world.key("leaks")
    for options in (["--since", "1h"], [], ["x", "--key", key.shown["id"]]):
        with pytest.raises(Exception) as said:
            world.muster("device", "revoke", "--account", "leaks", *options)
        assert said.value.status == 2
    answer = world.api("POST", f"/api/v1/accounts/leaks/keys/{key.shown['id']}/devices", {"action": "delete", "confirm": 0})
    assert (answer.status, answer.code) == (400, "invalid_request")

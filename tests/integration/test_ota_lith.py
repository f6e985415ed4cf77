"""The preset for OTA Community Edition's services, against stand-ins that check every header and path of what a stock client sends."""
import json
import pathlib
import re

import pytest

from client import Device
from upstream import Upstream, answer

PRESET = pathlib.Path(__file__).parents[2] / "packaging" / "ota-lith-routes.conf"
SERVICES = {7400: "treehub", 7300: "director", 7100: "reposerver", 7500: "device-registry", 7600: "campaigner"}
# Fields that a service may see besides those of the request itself.
ALLOWED = {"host", "x-ats-namespace", "x-ats-device-uuid", "x-ats-device-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id",
           "user-agent", "accept", "content-type", "content-length", "range", "x-ats-force"}


@pytest.fixture
def fleet(fresh):
    """A server with the preset, its stand-ins, and one device that enrolled."""
    services = {port: Upstream(lambda got, c, name=name: answer(body=name.encode())) for port, name in SERVICES.items()}
    text = re.sub(r"http://ota-lith:(\d+)", lambda m: services[int(m.group(1))].url, PRESET.read_text(encoding="utf-8"))
    assert "//ota-lith" not in text
    s = fresh(config=["identity_headers = ota-ce", *text.splitlines()])
    s.account("default", "test", "shared")
    enrolled = s.gateway(s.key("default")).enrol("kärt 1/2")
    s.device, s.services = Device(enrolled.body), {SERVICES[port]: u for port, u in services.items()}
    yield s
    for u in services.values():
        u.close()


def check(s, got, service, method, target):
    assert (got.method, got.target) == (method, target)
    assert got.one("x-ats-namespace") == "default"
    assert got.one("x-ats-device-uuid") == s.uuid
    assert got.one("x-ats-device-id") == "k%C3%A4rt%201%2F2"
    assert got.one("Host") == f"127.0.0.1:{s.services[service].port}"
    assert got.one("X-Forwarded-For") == "127.0.0.1" and got.one("X-Forwarded-Proto") == "https"
    names = [k.lower() for k, _ in got.fields]
    assert set(names) <= ALLOWED and len(names) == len(set(names)), names


def test_every_request_of_a_first_run(fleet):
    s, g = fleet, fleet.gateway(fleet.device)
    assert g.ecus().body == b"director"
    s.uuid = s.muster("device", "show", "kärt 1/2", "--account", "default")["id"]
    check(s, s.services["director"].last(), "director", "POST", f"/api/v1/device/{s.uuid}/ecus")
    events = [{"id": "6f7fa4c4-5d4e-4a12-8f0a-3e0f6f0d7a11", "deviceTime": "2026-01-01T00:00:00Z", "eventType": {"id": "DevicePaused", "version": 0}, "event": {}}]
    for service, method, path, body, target in [
        ("device-registry", "PUT", "/system_info", {"id": "box"}, "/api/v1/devices/{}/system_info"),
        ("device-registry", "PUT", "/core/installed", [{"name": "a", "version": "1"}], "/api/v1/mydevice/{}/packages"),
        ("device-registry", "PUT", "/system_info/network", {"local_ipv4": "10.0.0.1", "mac": "00:11:22:33:44:55", "hostname": "h"}, "/api/v1/devices/{}/system_info/network"),
        ("device-registry", "POST", "/system_info/config", b"[tls]\nserver = \"https://x\"\n", "/api/v1/devices/{}/system_info/config"),
        ("director", "PUT", "/director/manifest", {"signed": {}, "signatures": []}, "/api/v1/device/{}/manifest"),
        ("director", "GET", "/director/1.root.json", None, "/api/v1/device/{}/1.root.json"),
        ("director", "GET", "/director/targets.json", None, "/api/v1/device/{}/targets.json"),
        ("reposerver", "GET", "/repo/1.root.json", None, "/api/v1/user_repo/1.root.json"),
        ("reposerver", "GET", "/repo/timestamp.json", None, "/api/v1/user_repo/timestamp.json"),
        ("reposerver", "GET", "/repo/delegations/a%20b.json", None, "/api/v1/user_repo/delegations/a%20b.json"),
        ("reposerver", "GET", "/repo/targets/firmware/a-1.0", None, "/api/v1/user_repo/targets/firmware/a-1.0"),
        ("device-registry", "POST", "/events", events, "/api/v1/devices/{}/events"),
        ("treehub", "GET", "/treehub/objects/ab/cdef.filez", None, "/api/v2/objects/ab/cdef.filez"),
        ("treehub", "GET", "/treehub/refs/heads/main?x=1", None, "/api/v2/refs/heads/main?x=1"),
        ("campaigner", "GET", "/campaigner/campaigns", None, "/api/v2/device/campaigns"),
        ("device-registry", "GET", "/core/other", None, "/api/v1/mydevice/{}/other"),
    ]:
        kind = {"Content-Type": "application/toml"} if isinstance(body, bytes) else {}
        a = g.request(method, path, body, {**kind, "x-ats-namespace": "other", "X_ATS_DEVICE_UUID": "other", "Connection": "close"})
        assert (a.status, a.body) == (200, service.encode()), (path, a)
        got = s.services[service].last()
        check(s, got, service, method, target.format(s.uuid))
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        assert got.body == (sent or b"")
    shown = s.muster("device", "show", "kärt 1/2", "--account", "default", "--full")
    assert shown["ecus"] and set(shown["reports"]) >= {"hardware", "installed", "network"} and shown["events"]


def test_what_the_services_do_not_have_stays_here(fleet):
    g = fleet.gateway(fleet.device)
    assert g.get("/nothing").code == "not_found"
    assert g.request("POST", "/devices", {"deviceId": "x"}).code == "enrol_with_device_certificate"

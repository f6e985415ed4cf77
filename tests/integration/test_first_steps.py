"""One device by each method, into the registry and through the gateway."""
from client import Device


def test_shared_credentials(server):
    server.account("steps-shared", "test", "shared")
    key = server.key("steps-shared")
    assert set(key.names) == {"autoprov.url", "autoprov_credentials.p12", "server_ca.pem"}
    answer = server.gateway(key).enrol("first-device-1")
    assert answer.status == 200
    device = Device(answer.body)
    assert device.common_name == "first-device-1"
    assert server.gateway(device).ecus().status in (200, 201)
    assert server.gateway(device).get("/director/2.root.json").status == 404
    shown = server.muster("device", "show", "first-device-1", "--account", "steps-shared")
    assert (shown["state"], shown["method"], shown["key_name"]) == ("active", "shared", key.shown["name"])
    assert shown["ecus"]["primary_ecu_serial"] == "primary-1"
    enrolled = server.muster("key", "show", key.shown["id"])["enrolled"]
    assert [(d["id"], d["device_id"], d["state"]) for d in enrolled] == [(shown["id"], "first-device-1", "active")]


def test_device_credentials(server):
    server.account("steps-device", "test", "device")
    fleet = server.root("steps-device")
    assert fleet.root["state"] == "active"
    device = fleet.device("factory-device-1", C="DE", ST="Berlin", O="Fleet")
    assert server.gateway(device).ecus().status == 201
    assert server.gateway(device).ecus().status == 200
    shown = server.muster("device", "show", "factory-device-1", "--account", "steps-device")
    assert (shown["state"], shown["method"], shown["root"]) == ("active", "device", fleet.root["id"])

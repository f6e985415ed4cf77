"""What the tests of shared credentials have in common."""
from client import Device

PATH = "/director/2.root.json"
GAP = 0.52  # more than half a second: the least between two answers for one device
WORKERS = 16
DAY, YEAR = 86400, 365 * 86400  # seconds


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


def key_shown(server, key):
    return server.api("GET", f"/api/v1/accounts/-/keys/{key.shown['id']}").json


def spent(server, key):
    return key_shown(server, key)["spent"]


def used(server, key, name):
    device = enrolled(server, key, name)
    assert ask(server, device) is None
    return device

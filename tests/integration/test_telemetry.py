"""What a stock device sends after provisioning: hardware, network, packages, configuration, events.  Kept with the device, bounded, shown."""
import json
import sqlite3
import time
import uuid

import pytest

from conftest import soon
from enrolment import Account, enrolled

LSHW = {"id": "board", "class": "system", "product": "Board 4", "vendor": "ACME", "serial": "10000000abcd", "children": [
    {"id": "core", "class": "bus", "children": [
        {"id": "cpu:0", "class": "processor", "product": "Cortex-A72"}, {"id": "cpu:1", "class": "processor"},
        {"id": "memory", "class": "memory", "size": 4 << 30}, {"id": "mmc", "class": "disk", "size": 64_000_000_000}]},
    {"id": "eth0", "class": "network", "serial": "de:ad:be:ef:00:01"}]}
NETWORK = {"local_ipv4": "192.0.2.7", "mac": "de:ad:be:ef:00:01", "hostname": "board-1"}
CONFIG = """[logger]
loglevel = 2

[p11]
module = "/usr/lib/pkcs11.so"
pass = "SECRET-PIN-1"
uptane_key_id = "03"

[tls]
server = "https://gateway.example:8443"
server_url_path = ""
ca_source = "file"

[provision]
mode = "SharedCred"
p12_password = "SECRET-P12-2"
device_id = "unit-1"
primary_ecu_serial = "0001"
expiry_days = 36000

[uptane]
polling_sec = 10
director_server = "https://user:SECRET-URL-3@gateway.example:8443/director"
repo_server = "https://gateway.example:8443/repo?token=SECRET-QUERY-4"
key_type = "RSA2048"
"""


@pytest.fixture(scope="module")
def account(server):
    a = Account(server)
    a.registration = a.key()
    return a


@pytest.fixture
def device(server, account):
    made = enrolled(server, account.registration, f"unit-{time.monotonic_ns()}")
    made.name = made.common_name
    return made


def send(server, device, method, path, body, media="application/json"):
    answer = server.gateway(device).request(method, path, body, {"Content-Type": media})
    return answer.status if answer.status < 400 else (answer.status, answer.code)


def config(server, device, text):
    return send(server, device, "POST", "/system_info/config", text if isinstance(text, bytes) else text.encode(), "application/toml")


def shown(server, account, device, *options):
    return server.muster("device", "show", device.name, "--account", account.name, *options)


def event(kind="EcuDownloadStarted", **more):
    return {"id": str(uuid.uuid4()), "deviceTime": "2026-01-01T00:00:00Z", "eventType": {"id": kind, "version": 0}, "event": {"ecu": "primary", **more}}


def test_hardware_is_summed_up_and_kept_whole(server, account, device):
    assert shown(server, account, device)["hardware"] is None
    assert send(server, device, "PUT", "/system_info", LSHW) == 200
    hardware = shown(server, account, device)["hardware"]
    assert hardware.pop("changed")
    assert hardware == {"vendor": "ACME", "product": "Board 4", "version": None, "serial": "10000000abcd", "cpu": "Cortex-A72", "cpus": 2, "memory": 4 << 30,
                        "disk": 64_000_000_000, "macs": ["de:ad:be:ef:00:01"], "pruned": False}
    assert "reports" not in shown(server, account, device)
    assert shown(server, account, device, "--full")["reports"] == {"hardware": LSHW}
    for no_answer in ("maybe", ""):
        assert server.api("GET", f"/api/v1/accounts/{account.name}/devices/{device.name}?full={no_answer}").code == "invalid_request"


def test_a_large_description_is_pruned_and_a_larger_one_refused(server, account, device):
    large = {**LSHW, "children": LSHW["children"] + [{"id": f"dev{i}", "class": "generic", "children": [{"id": "x" * 300}]} for i in range(1000)]}
    assert 300_000 < len(json.dumps(large)) < 512 * 1024
    assert send(server, device, "PUT", "/system_info", large) == 200
    full = shown(server, account, device, "--full")
    assert full["hardware"]["pruned"] and full["hardware"]["cpus"] == 2  # summed up before it was pruned
    assert len(json.dumps(full["reports"]["hardware"], separators=(",", ":"))) <= 64 * 1024
    assert full["reports"]["hardware"]["product"] == "Board 4"
    assert send(server, device, "PUT", "/system_info", {"x": "y" * (512 * 1024)}) == (413, "body_too_large")
    assert send(server, device, "PUT", "/system_info", {f"k{i}": "y" * 100 for i in range(1000)}) == (413, "body_too_large")  # nothing to prune
    assert shown(server, account, device, "--full") == full
    assert send(server, device, "PUT", "/system_info", [LSHW]) == (400, "invalid_json")


def test_network_and_packages(server, account, device):
    assert send(server, device, "PUT", "/system_info/network", NETWORK) == 204
    assert send(server, device, "PUT", "/core/installed", [{"name": "linux", "version": "6.1"}, {"name": "busybox", "version": "1.35"}]) == 204
    full = shown(server, account, device, "--full")
    assert {k: full["network"][k] for k in NETWORK} == NETWORK
    assert (full["installed"]["packages"], full["installed"]["pruned"]) == (2, False)
    assert full["reports"]["installed"] == [{"name": "linux", "version": "6.1"}, {"name": "busybox", "version": "1.35"}]
    for path, body in (("/system_info/network", {"mac": "m"}), ("/system_info/network", {**NETWORK, "hostname": "a\nb"}), ("/core/installed", {}),
                       ("/core/installed", [{"name": "linux"}]), ("/core/installed", [5])):
        assert send(server, device, "PUT", path, body) == (400, "invalid_json")
    many = [{"name": f"package-{i}", "version": "1.0-1+deb12u1"} for i in range(5000)]
    assert send(server, device, "PUT", "/core/installed", many) == 204
    full = shown(server, account, device, "--full")
    assert (full["installed"]["packages"], full["installed"]["pruned"]) == (5000, True)
    assert full["reports"]["installed"] == many[:len(full["reports"]["installed"])] and len(full["reports"]["installed"]) > 1000
    assert send(server, device, "PUT", "/core/installed", []) == 204
    assert shown(server, account, device)["installed"]["packages"] == 0


def test_of_the_configuration_only_what_is_on_the_list_is_kept(server, account, device):
    assert config(server, device, CONFIG) == 204
    got = shown(server, account, device)["config"]
    assert got.pop("changed")
    assert got == {"logger": {"loglevel": 2}, "tls": {"server": "https://gateway.example:8443", "ca_source": "file"},
                   "provision": {"mode": "SharedCred", "device_id": "unit-1", "primary_ecu_serial": "0001", "expiry_days": 36000},
                   "uptane": {"polling_sec": 10, "key_type": "RSA2048"}}
    nowhere(server)


# The same secret in spellings that a reader could take for something on the list.
ODD = [
    '[p11]\npass = """\n[tls]\nserver = "https://SECRET"\nx = """\n', "[p11]\npass = '''\n[provision]\ndevice_id = \"SECRET\"\nx = '''\n",
    '[p11]\npass = """\n[tls]\nserver = "https://SECRET"\n"""\n', "[p11]\npass = '''\n[provision]\ndevice_id = \"SECRET\"\n'''\n",
    'p11.pass = "SECRET"\ntls.server = "https://SECRET"\n', 'p11 . "pass" = "SECRET"\n', '"tls.server" = "SECRET"\n', "'pass' = 'SECRET'\n",
    'p11 = { pass = "SECRET", device_id = "SECRET" }\n', 'x = [ "SECRET",\n[provision]\ndevice_id = "SECRET"\n]\n', '[p11]\nPASS = "SECRET"\n[P11]\npass = "SECRET"\n',
    '[p11 ]\npass= "SECRET"\n', '[[provision]]\ndevice_id = "SECRET"\n', '[provision.more]\ndevice_id = "SECRET"\n', '[provision]\ndevice_id = "SECRET\n',
    '[provision]\ndevice_id = "a\\"SECRET"\n', '[provision]\ndevice_id = "a" "SECRET"\n', '[tls]\nserver = "https://SECRET@host"\n', '[tls]\nserver = "https://h/#SECRET"\n',
    '[tls]\nca_source = "SECRET /with blanks"\n', '[uptane]\npolling_sec = SECRET\n', '[p11]\r\npass = "SECRET"\r\n', 'pass = "SECRET"', '{"p11": {"pass": "SECRET"}}',
    '[p11]\npass = "x" # SECRET\n', '# [provision]\n# device_id = "SECRET"\n', '[provision]\n\u2028device_id = "SECRET"\n', '[provision]\x0bdevice_id = "SECRET"\n',
    '["provision"]\ndevice_id = "SECRET"\n', '[provision] x\ndevice_id = "SECRET"\n', '[p11]\npass\n= "SECRET"\n', '[provision]\np12_password = "SECRET"\n']


def nowhere(server):
    """No secret is in any file of the server, its log included."""
    with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
        assert not db.execute("SELECT body, summary FROM device_report WHERE body LIKE '%SECRET%' OR summary LIKE '%SECRET%' OR name LIKE '%SECRET%'").fetchall()
    for path in [*server.dir.rglob("*"), server.dir.parent / (server.dir.name + ".log")]:
        if path.is_file():
            assert b"SECRET" not in path.read_bytes(), path


@pytest.mark.parametrize("text", ODD)
def test_a_secret_in_an_odd_spelling_is_never_kept(server, account, device, text):
    assert config(server, device, text) in (204, (400, "invalid_request"))
    got = shown(server, account, device, "--full")
    assert "SECRET" not in json.dumps(got)
    nowhere(server)


def test_a_configuration_that_is_not_read_leaves_the_one_before(server, account, device):
    assert config(server, device, '[uptane]\npolling_sec = 10\n') == 204
    for bad in ('[uptane]\npolling_sec = 10\npolling_sec = 20\n', "[uptane\n", "polling_sec\n", b"[uptane]\nkey_type = \"\xff\"\n", '[uptane]\nx = """'):
        assert config(server, device, bad) == (400, "invalid_request")
    assert config(server, device, "#" * 65537) == (413, "body_too_large")
    assert shown(server, account, device)["config"]["uptane"] == {"polling_sec": 10}


def test_events_once_each_newest_first(server, account, device):
    batch = [event(number=i) for i in range(3)]
    assert send(server, device, "POST", "/events", batch) == 204
    assert send(server, device, "POST", "/events", batch + [event("EcuInstallationCompleted", success=True)]) == 204  # the answer was lost
    events = server.muster("device", "events", device.name, "--account", account.name)
    assert [e["type"] for e in events] == ["EcuInstallationCompleted"] + ["EcuDownloadStarted"] * 3
    assert [e["event"].get("number") for e in events] == [None, 2, 1, 0] and events[-1]["id"] == batch[0]["id"]
    assert events[0]["device_time"] == "2026-01-01T00:00:00Z" and events[0]["received"]
    assert shown(server, account, device)["events"] == events
    twice = event()
    assert send(server, device, "POST", "/events", [twice, twice]) == 204
    assert len(server.muster("device", "events", device.name, "--account", account.name)) == 5


def test_the_newest_200_events_are_kept(server, account, device):
    for start in range(0, 250, 50):
        assert send(server, device, "POST", "/events", [event(number=start + i) for i in range(50)]) == 204
    path = f"/api/v1/accounts/{account.name}/devices/{device.name}/events"
    seen, cursor = [], ""
    while cursor is not None:
        page = server.api("GET", f"{path}?limit=60" + (f"&cursor={cursor}" if cursor else "")).json
        seen += [e["event"]["number"] for e in page["items"]]
        cursor = page["next"]
    assert seen == list(range(249, 49, -1))
    assert len(shown(server, account, device)["events"]) == 10


def test_too_many_events_are_halved_and_one_too_large_is_dropped(server, device):
    """As the stock client does it on 413."""
    def take(batch):
        answer = send(server, device, "POST", "/events", batch)
        if answer == 204:
            return len(batch)
        assert answer == (413, "body_too_large")
        return take(batch[:len(batch) // 2]) + take(batch[len(batch) // 2:]) if len(batch) > 1 else 0

    batch = [event() for _ in range(600)]
    batch[77] = event(text="x" * 5000)
    assert take(batch) == 599
    assert send(server, device, "POST", "/events", [event(text="x" * 300_000)]) == (413, "body_too_large")
    for bad in ({}, [5], [{"id": "x"}], [{**event(), "id": ""}], [{**event(), "id": "x" * 65}]):
        assert send(server, device, "POST", "/events", bad) == (400, "invalid_json")


def test_what_is_unchanged_is_not_written(server, account, device):
    def rows():
        with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
            return db.execute("PRAGMA data_version").fetchone(), db.execute("SELECT id, kind, changed, body FROM device_report ORDER BY id").fetchall()

    batch = [event()]

    def everything():
        send(server, device, "PUT", "/system_info", LSHW)
        send(server, device, "PUT", "/system_info/network", NETWORK)
        send(server, device, "PUT", "/core/installed", [])
        config(server, device, CONFIG)
        send(server, device, "POST", "/events", batch)
        return rows()

    before = everything()
    time.sleep(1.1)  # meanwhile it is noted when the device was seen
    size = (server.dir / "registry.db-wal").stat().st_size
    with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
        version = db.execute("PRAGMA data_version").fetchone()
        assert everything()[1] == before[1]
        assert db.execute("PRAGMA data_version").fetchone() == version  # nobody committed
    assert (server.dir / "registry.db-wal").stat().st_size == size
    send(server, device, "PUT", "/system_info/network", {**NETWORK, "hostname": "other"})
    assert rows()[1] != before[1]


def test_who_may_send(server, account, device):
    assert send(server, account.registration, "PUT", "/system_info", LSHW) == (403, "provisioning_key_only_enrols")
    answer = server.gateway().request("PUT", "/system_info", LSHW)
    assert (answer.status, answer.code) == (403, "certificate_required")
    account.device("quarantine", device.name)
    soon((403, "device_quarantined"), lambda: send(server, device, "POST", "/events", [event()]))
    assert shown(server, account, device)["events"] == []
    assert server.gateway(device).request("GET", "/system_info").status in (403, 405)


def count(server, where="1"):
    with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
        return tuple(db.execute(f"SELECT COUNT(*) FROM {t} WHERE {where}").fetchone()[0] for t in ("device_report", "device_event"))


def fill(server, device):
    assert send(server, device, "PUT", "/system_info", LSHW) == 200
    assert send(server, device, "POST", "/events", [event()]) == 204


def test_deleting_a_device_removes_what_it_said(server, account, device):
    before = count(server)
    fill(server, device)
    assert count(server) == (before[0] + 1, before[1] + 1)
    account.device("delete", device.name)
    assert count(server) == before
    account.device("release", device.name)
    assert count(server) == before


def test_deleting_an_account_removes_what_its_devices_said(server):
    doomed, other = Account(server), Account(server)
    for a in (doomed, other):
        key = a.key()
        for i in range(3):
            fill(server, enrolled(server, key, f"last-{i}"))
    with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
        rows = [db.execute("SELECT id FROM account WHERE name = ?", (a.name,)).fetchone()[0] for a in (doomed, other)]
    assert [count(server, f"account = {row}") for row in rows] == [(3, 3), (3, 3)]
    server.muster("account", "delete", doomed.name, "--yes")
    soon((0, 0), lambda: count(server, f"account = {rows[0]}"))
    assert count(server, f"account = {rows[1]}") == (3, 3)

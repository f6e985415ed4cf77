"""What `muster forecast` says of days to come is what then happens, over real TLS, as time goes on."""
import concurrent.futures
import datetime
import ssl
import subprocess
import time

import pytest

from client import Device, Fleet, Gateway, Registration, new_key
from conftest import MUSTER, Refused, soon
from enrolment import DAY, GAP, PATH, Account, ask, enrolled
from est import enrolled as enrolled_by_est
from test_clock import Clock
from test_est import renew
from test_metrics import Numbers
from test_server_certificate import SERVER, settings
from test_webhooks import LOCAL, hook, receiver  # noqa: F401  a fixture

YEAR = 365 * DAY


@pytest.fixture
def world(fresh):
    s = fresh(start=False, config=LOCAL)
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    s.ahead = 0
    return s


def go(s, to):
    """The server's clock to a time of the calendar."""
    s.ahead = int(to - time.time())
    s.clock.set(s.ahead)


def seconds(text): return int(datetime.datetime.fromisoformat(text).timestamp())
def forecast(s, *options): return s.muster("forecast", *options)
def causes(shown): return [(c["cause"], c["stops"], c["renews"]) for c in shown["causes"]]
def names(cause): return {d["device_id"] for d in cause["devices"]}


def cause(shown, kind):
    (one,) = [c for c in shown["causes"] if c["cause"] == kind]
    assert one["stops"] + one["renews"] == sum(d["stops"] + d["renews"] for d in one["days"])
    return one


def happens(s, one, stops, goes_on=()):
    """They are let in to the last moment, and from then on refused with the code that was said."""
    at = seconds(one["first"])
    go(s, at - 30)
    for device in [*stops, *goes_on]:
        assert ask(s, device) is None
    go(s, at + 3)
    for device in stops:
        assert ask(s, device) == one["code"]
    for device in goes_on:
        assert ask(s, device) is None


# --- devices' own certificates ----------------------------------------------------------------------------------------------------------------


def test_certificates_of_muster_s_own(world):
    """A stock device cannot renew and stops; one that enrolled by EST renews, or stops likewise."""
    a = Account(world, "--device-life", 20 * DAY)
    other = Account(world, "--device-life", 20 * YEAR)
    key = a.key("--expires", "2y")
    stock = enrolled(world, key, "stock")
    est = enrolled_by_est(world.gateway(key), "by-est", new_key())
    enrolled(world, key, "never-used")
    shelf = enrolled_by_est(world.gateway(key), "shelf", new_key())
    assert ask(world, stock) is None and ask(world, est) is None
    quarantined = enrolled(world, key, "quarantined")
    assert ask(world, quarantined) is None
    a.device("quarantine", "quarantined")
    lives = enrolled(world, other.key("--expires", "2y"), "lives")
    assert ask(world, lives) is None
    shown = forecast(world)
    assert causes(shown) == [("device-certificate", 2, 2)] and (shown["stops"], shown["renews"], shown["keys"]) == (2, 2, 0)
    (one,) = shown["causes"]
    assert one["account"] == a.name and one["subject"] is None and one["code"] == "certificate_expired" and "certificate" in one["fix"]
    assert {(d["device_id"], d["renews"]) for d in one["devices"]} == {("stock", False), ("never-used", False), ("by-est", True), ("shelf", True)} and one["left_out"] == 0
    assert sum(d["stops"] for d in one["days"]) == 2
    assert abs(seconds(one["first"]) - time.time() - 20 * DAY) < 60
    assert forecast(world, "--days", 19)["causes"] == [] and forecast(world, "--account", other.name)["causes"] == []
    assert causes(forecast(world, "--account", a.name)) == [("device-certificate", 2, 2)]
    happens(world, one, [stock], [lives])
    assert ask(world, est) == ask(world, shelf) == "certificate_expired"
    renewed = renew(world, est)
    assert ask(world, renewed) is None, "late, as the account allows"
    assert causes(forecast(world, "--days", 30)) == [("device-certificate", 0, 1)], "what has stopped is not said again"


def test_devices_that_have_not_come_yet(world):
    """A warehouse: each counts once, by the newest certificate that waits for it, until it comes."""
    a = Account(world, "--device-life", 20 * DAY)
    key = a.key("--expires", "2y")
    stock = [enrolled(world, key, f"stock-{i}") for i in range(3)]
    est = [enrolled_by_est(world.gateway(key), f"est-{i}", new_key()) for i in range(2)]
    time.sleep(GAP)
    again = enrolled(world, key, "stock-0")
    gone, held = enrolled(world, key, "gone"), enrolled(world, key, "held")
    a.device("revoke", "gone", "--yes")
    a.device("quarantine", "held")
    shown = forecast(world)
    assert causes(shown) == [("device-certificate", 3, 2)] and gone and held
    assert {(d["device_id"], d["renews"]) for d in shown["causes"][0]["devices"]} == {*((f"stock-{i}", False) for i in range(3)), *((f"est-{i}", True) for i in range(2))}
    (root,) = world.muster("root", "list", "--account", a.name)
    newest = {d["device_id"]: d["renews"] for d in world.muster("root", "show", root["id"])["newest"]}
    assert {name: newest[name] for name in ("stock-0", "est-0", "est-1")} == {"stock-0": False, "est-0": True, "est-1": True}
    for device in (again, est[0]):
        assert ask(world, device) is None
    assert causes(forecast(world)) == [("device-certificate", 3, 2)], "once, also with what was issued besides"
    go(world, time.time() + 15 * DAY)
    renewed = renew(world, est[0])
    assert causes(forecast(world)) == [("device-certificate", 3, 2)], "what is not used yet counts for nobody who has a certificate"
    assert ask(world, renewed) is None
    shown = forecast(world, "--days", 10)
    assert causes(shown) == [("device-certificate", 3, 1)]
    happens(world, shown["causes"][0], [again], [renewed])
    assert ask(world, stock[1]) == ask(world, est[1]) == "certificate_expired"
    assert causes(forecast(world, "--days", 5)) == [], "what has stopped is not said again"
    world.muster("root", "disable", root["id"], "--yes")
    assert forecast(world)["causes"] == []


def test_what_the_policy_does_not_renew_stops(world):
    """Renewals that the account does not admit are none."""
    a = Account(world, "--device-life", 20 * DAY, method="both")
    est = enrolled_by_est(world.gateway(a.key("--expires", "2y")), "by-est", new_key())
    assert ask(world, est) is None and causes(forecast(world)) == [("device-certificate", 0, 1)]
    world.muster("account", "set", a.name, "--method", "device", "--yes")
    assert ask(world, est) == "method_not_enabled" and forecast(world)["causes"] == [], "nor does it come in now"
    world.muster("account", "set", a.name, "--method", "both")
    assert causes(forecast(world)) == [("device-certificate", 0, 1)]


# --- uploaded roots -----------------------------------------------------------------------------------------------------------------------------


def test_uploaded_roots_and_intermediates(world):
    world.account("cars")
    root, line = Fleet(days=(-1, 40)), None
    world.root("cars", root)
    line = root.intermediate("Line 1", days=(-1, 15))
    direct, short = root.device("direct"), root.device("short", days=(-1, 5))
    below, also = line.device("below", chain=[line.cert]), line.device("also", chain=[line.cert])
    for device in (direct, short, below, also):
        assert ask(world, device) is None
    shown = forecast(world)
    assert causes(shown) == [("device-certificate", 1, 0), ("intermediate", 2, 0), ("fleet-root", 1, 0)]
    leaf, middle, top = shown["causes"]
    assert names(leaf) == {"short"} and names(middle) == {"below", "also"} and names(top) == {"direct"}
    assert "Line 1" in middle["subject"] and middle["object"] == top["object"] == root.root["id"]
    assert {c["code"] for c in shown["causes"]} == {"certificate_expired"}
    happens(world, leaf, [short], [direct, below, also])
    happens(world, middle, [below, also], [direct])
    happens(world, top, [direct])
    assert forecast(world)["causes"] == []


def test_an_intermediate_that_is_replaced_in_time(world):
    """The same certificate under a newer intermediate: what the device shows now is what counts."""
    world.account("cars")
    root = Fleet(days=(-1, 400))
    world.root("cars", root)
    line = root.intermediate("Line 1", days=(-1, 15))
    device = line.device("device", chain=[line.cert])
    assert ask(world, device) is None and names(cause(forecast(world), "intermediate")) == {"device"}
    again = renewed_line(root, line, 200)
    mended = type(device)(device.cert, device.key, [again.cert])
    assert ask(world, mended) is None
    assert forecast(world)["causes"] == []
    go(world, time.time() + 16 * DAY)
    assert ask(world, mended) is None and ask(world, device) == "certificate_expired"


def renewed_line(root, line, days):
    """The same CA with a certificate of another life."""
    again = Fleet.__new__(Fleet)
    again.key, again.kind = line.key, line.kind
    again.cert = root._sign(line.cert.subject, line.key, [(e.value, e.critical) for e in line.cert.extensions], (-1, days))
    return again


def test_intermediates_that_no_device_shows_any_more_are_forgotten(world):
    """However often the one above a device is replaced: what it shows now is kept, and is what counts."""
    world.account("cars")
    root = Fleet(days=(-1, 4000))
    world.root("cars", root)
    line = root.intermediate("Line 1", days=(-1, 600))
    device, other = line.device("device", chain=[line.cert], days=(-1, 2000)), line.device("other", chain=[line.cert], days=(-1, 2000))
    assert ask(world, device) is None and ask(world, other) is None
    for days in range(601, 861):
        again = renewed_line(root, line, days)
        assert ask(world, type(device)(device.cert, device.key, [again.cert])) is None
    shown = forecast(world, "--days", 1000)
    assert [(c["cause"], names(c)) for c in shown["causes"]] == [("intermediate", {"other"}), ("intermediate", {"device"})]
    assert abs(seconds(shown["causes"][1]["first"]) - time.time() - 860 * DAY) < 600
    moved = line.device("device", key=device.key, days=(-1, 2100), chain=[again.cert])
    assert ask(world, moved) is None and ask(world, type(other)(other.cert, other.key, [again.cert])) is None
    assert [(c["cause"], names(c)) for c in forecast(world, "--days", 1000)["causes"]] == [("intermediate", {"device", "other"})]
    world.stop()
    assert world.database().execute("SELECT COUNT(*) FROM chain").fetchall() == [(1,)]


def test_intermediates_of_devices_that_have_ended_make_room(world):
    """Devices that never came back keep nobody's forecast from being right; while theirs could still come, they are kept."""
    world.account("cars")
    root = Fleet(days=(-1, 4000))
    world.root("cars", root)
    first = root.intermediate("Line 1", days=(-1, 30))
    device = first.device("device", chain=[first.cert], days=(-1, 20))
    assert ask(world, device) is None
    world.stop()
    db = world.database()
    db.execute("INSERT INTO chain (account, root, hash, cas, leaf, leaf_not_after) WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 255) "
               "SELECT account, root, randomblob(32), cas, leaf, leaf_not_after + i FROM chain, c")
    db.close()
    world.start(env=world.clock.env)
    second = root.intermediate("Line 2", days=(-1, 50))
    early, late = second.device("early", chain=[second.cert]), second.device("late", chain=[second.cert])
    assert ask(world, early) is None
    assert names(cause(forecast(world, "--days", 60), "device-certificate")) == {"device"} and len(forecast(world, "--days", 60)["causes"]) == 1, "no room: nothing is known of it but its root"
    world.stop()
    world.start(env=world.clock.env)  # no verdict is kept
    go(world, time.time() + 21 * DAY)
    assert ask(world, late) is None and ask(world, early) is None
    assert names(cause(forecast(world, "--days", 60), "intermediate")) == {"early", "late"}
    world.stop()
    assert world.database().execute("SELECT COUNT(*), COUNT(DISTINCT id), MAX(id) FROM chain").fetchall() == [(256, 256, 257)]


def test_roots_that_let_nobody_in_stop_nobody(world):
    world.account("cars")
    root = Fleet(days=(-1, 40))
    world.root("cars", root)
    device = root.device("device")
    assert ask(world, device) is None
    world.muster("root", "set", root.root["id"], "--state", "known-only")
    assert causes(forecast(world)) == [("fleet-root", 1, 0)]
    world.muster("root", "disable", root.root["id"], "--yes")
    assert forecast(world)["causes"] == []
    world.muster("root", "enable", root.root["id"])
    assert causes(forecast(world)) == [("fleet-root", 1, 0)]


# --- CAs of Muster's own: at the end of their 40 years -------------------------------------------------------------------------------------------


class Anytime(Gateway):
    """A client that does not look at the server's certificate: its own clock stands still."""

    def __init__(self, s, identity):
        super().__init__(s.port, s.dir / "server-ca.pem", identity)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE


def test_fleet_root_and_server_ca(world):
    a = Account(world)
    root = next(r for r in world.muster("root", "list", "--account", a.name) if r["origin"] == "muster")
    end = seconds(root["not_after"])
    go(world, end - 20 * DAY)
    world.admin_ca = ssl._create_unverified_context()

    def shown(account=""):
        answer = world.api("GET", f"/api/v1/forecast?days=60{account}")
        assert answer.status == 200, answer
        return answer.json
    made = world.api("POST", f"/api/v1/accounts/{a.name}/keys", {"expires": "15d"})
    assert made.status == 201, made
    prov = Zip(world, made.body)
    answers = []  # the issuing CA, which has ended, is replaced by itself once the jump of the clock was noticed

    def enrol():
        answers.append(Anytime(world, prov).enrol("device"))
        return answers[-1].status
    soon(200, enrol, 25)
    device = Device(answers[-1].body)
    assert Anytime(world, device).get(PATH).status == 404
    said = shown()
    assert sorted(causes(said)) == [("fleet-root", 1, 0), ("provisioning-key", 0, 0), ("server-ca", 1, 0)]
    key, top = cause(said, "provisioning-key"), cause(said, "fleet-root")
    assert key["object"] == made.headers["X-Muster-Key"] and key["account"] == a.name and key["code"] == "provisioning_key_expired"
    assert top["object"] == root["id"] and seconds(top["first"]) == end and "certificate_expired" == top["code"]
    assert cause(said, "server-ca")["account"] is None and cause(said, "server-ca")["code"] == "tls_client_rejected_server"
    go(world, seconds(key["first"]) - 30)
    assert Anytime(world, prov).enrol("in-time").status == 200
    go(world, seconds(key["first"]) + 3)
    assert Anytime(world, prov).enrol("too-late").code == key["code"]
    assert Anytime(world, device).get(PATH).status == 404
    go(world, end + 3)
    assert Anytime(world, device).get(PATH).code == top["code"]


def test_certificates_that_are_cut_to_the_end_of_their_issuing_ca(world):
    """Longer lives than an issuing CA has: those that ask for them stop together, by a CA that is named; others by themselves."""
    a = Account(world)
    key = a.key("--expires", "2y")
    short = enrolled(world, key, "short")
    world.muster("profile", "set", "--account", a.name, "--life", "50y", "--longest-life", "50y")
    cut = [enrolled(world, key, name) for name in ("cut-1", "cut-2")]
    assert all(ask(world, device) is None for device in (short, *cut))
    ends = {int(device.cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()) for device in cut}
    root = next(r for r in world.muster("root", "list", "--account", a.name) if r["origin"] == "muster")
    assert len(ends) == 1 and ends.pop() < seconds(root["not_after"])
    said = forecast(world, "--days", 36 * 365, "--account", a.name)
    one, own = cause(said, "issuing-ca"), cause(said, "device-certificate")
    assert (one["stops"], names(one), one["code"], one["object"]) == (2, {"cut-1", "cut-2"}, "certificate_expired", None) and "issuing CA" in one["subject"]
    assert seconds(one["first"]) == int(cut[0].cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()) == seconds(one["last"])
    assert (own["stops"], names(own)) == (1, {"short"})
    for at, code in ((seconds(one["first"]) - 30, "not_found"), (seconds(one["first"]) + 3, one["code"])):
        go(world, at)
        assert {Anytime(world, device).get(PATH).code for device in cut} == {code}
    assert Anytime(world, short).get(PATH).code == own["code"]


class Zip:
    def __init__(self, world, body):
        path = world.dir.parent / "key.zip"
        path.write_bytes(body)
        inner = Registration(path)
        self.cert_file, self.key_file = inner.cert_file, inner.key_file


# --- the gateway's certificate --------------------------------------------------------------------------------------------------------------------


def test_the_operator_s_own_server_certificate(fresh):
    """Nobody renews it but the operator: at its end every device refuses the gateway."""
    ca = Fleet("Operator's server CA")
    identity = ca.device("localhost", extensions=SERVER, days=(-1, 12))
    s = fresh(config=settings(identity, "server_chain_check = no"))
    s.account("cars")
    root = Fleet()
    s.root("cars", root)
    anchor = s.dir.parent / "operator-ca.pem"
    anchor.write_bytes(ca.root_pem())
    device = root.device("device")
    assert Gateway(s.port, anchor, device).get(PATH).status == 404
    (one,) = forecast(s)["causes"]
    assert (one["cause"], one["stops"], one["account"], one["code"]) == ("server-certificate", 1, None, "tls_client_rejected_server")

    def curl(ahead):
        """A device whose clock goes that much ahead of the server's: what it would see then."""
        return subprocess.run(["faketime", "-f", f"+{ahead}s", "curl", "-sS", "--cacert", anchor, "--cert", device.cert_file, "--key", device.key_file, "--resolve", f"localhost:{s.port}:127.0.0.1",
                               f"https://localhost:{s.port}{PATH}"], capture_output=True, text=True, check=False, timeout=60)
    left = seconds(one["first"]) - int(time.time())
    assert curl(left - 60).returncode == 0
    late = curl(left + 60)
    assert late.returncode == 60 and "expired" in late.stderr
    soon(True, lambda: any(r["code"] == one["code"] for r in s.muster("refusal", "list")), 5)


# --- where else it is said -------------------------------------------------------------------------------------------------------------------------


def test_metrics_status_and_webhooks_say_the_same(world, receiver):  # noqa: F811
    a = Account(world, "--device-life", 6 * DAY)
    r = receiver()
    hook(world, r.url(), a.name, "forecast.stops")
    key = a.key("--expires", "2y")
    device = enrolled(world, key, "stock")
    assert ask(world, device) is None
    world.muster("root", "list", "--account", a.name)
    # Enrolments raise no epoch: a change of an operator's has it looked at again within seconds.
    a.device("quarantine", "stock")
    a.device("release", "stock")
    soon(1, lambda: Numbers(world)("muster_forecast_account_devices", account=a.name, within="7d"), 20)
    numbers = Numbers(world)
    assert numbers("muster_forecast_devices", cause="device-certificate", within="7d") == 1
    assert numbers("muster_forecast_devices", cause="device-certificate", within="90d") == 1
    assert numbers("muster_forecast_devices", cause="fleet-root", within="90d") == 0
    assert numbers.has("muster_forecast_age_seconds")
    (item,) = [i for i in world.muster("status")["attention"] if i["what"] == "devices_will_stop"]
    assert (item["level"], item["account"], item["command"]) == ("warning", a.name, "muster forecast") and "1 device stops connecting" in item["text"]
    (said,) = r.wait(1)
    assert (said["type"], said["account"], said["cause"], said["stops"], said["renews"], said["days"], said["code"]) == ("forecast.stops", a.name, "device-certificate", 1, 0, 7, "certificate_expired")
    assert said["day"][:10] == cause(forecast(world), "device-certificate")["first"][:10]


# --- who may ask ---------------------------------------------------------------------------------------------------------------------------------


def test_one_at_a_time(world):
    """Whoever asks while one is under way is told when to come again; nobody is left waiting, and the next one is answered."""
    a = Account(world, "--device-life", 6 * DAY)
    assert ask(world, enrolled(world, a.key("--expires", "2y"), "device")) is None
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: world.api("GET", "/api/v1/forecast?days=36500"), range(64)))
    assert {r.status for r in answers} == {200, 429}
    assert all(int(r.headers["Retry-After"]) > 0 and r.code == "too_many_requests" for r in answers if r.status == 429)
    assert world.api("GET", "/api/v1/forecast").json["stops"] == 1


def test_an_account_s_token_sees_its_account_alone(world):
    a, b = Account(world, "--device-life", 6 * DAY), Account(world, "--device-life", 6 * DAY)
    for account in (a, b):
        assert ask(world, enrolled(world, account.key("--expires", "2y"), f"of-{account.name}")) is None
    token = world.token("auditor of a", "auditor", a.name)["token"]
    seen = world.api("GET", "/api/v1/forecast", token=token).json
    assert seen["account"] == a.name and [names(c) for c in seen["causes"]] == [{f"of-{a.name}"}]
    assert world.api("GET", f"/api/v1/forecast?account={a.name}", token=token).json["stops"] == 1
    refused = world.api("GET", f"/api/v1/forecast?account={b.name}", token=token)
    assert (refused.status, refused.code) == (404, "not_found")
    assert world.api("GET", "/api/v1/forecast").json["stops"] == 2
    for bad in ("days=0", "days=36501", "days=x", "account=nobody", "account=../x"):
        assert world.api("GET", f"/api/v1/forecast?{bad}").status in (400, 404), bad
    with pytest.raises(Refused):
        world.muster("forecast", "--account", "nobody")
    text = subprocess.run([MUSTER, "--data", str(world.dir), "forecast"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "device-certificate of " + a.name in text and "1 stop (certificate_expired)" in text and "Until " in text


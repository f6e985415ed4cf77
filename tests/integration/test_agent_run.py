"""What muster-agent does by itself once a device is in: renewing, waiting, taking over anchors, learning the time; and what gateways can do to it."""
import base64
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, pkcs12

from agent import ADMITTED, AGENT, CLIENT_AUTH, EST, NOT_YET, TIME_STAMPING, Agent, Authority, Gateway, certs_only, issues, own, refusal, shared
from client import Identity, name, new_key, spki_hash
from conftest import soon
from est import Holder
from test_agent import admits, shown
from test_clock import DAY, Clock

UTC = datetime.timezone.utc
HOUR = 3600


@pytest.fixture(name="clock")
def moved(tmp_path):
    """The clock of the device, and of nobody else."""
    return Clock(tmp_path / "clock")


@pytest.fixture
def device(tmp_path, clock):
    d = Agent(tmp_path / "device", env=clock.env)
    d.hook()
    return d


@pytest.fixture(scope="module")
def key(server):
    server.account("fleet", "test", "both")
    return server.key("fleet")


def enrolled(device, key, device_id):
    shutil.copy(key.zip, device.top / "credentials.zip")
    device.good("provision", "--credentials", device.top / "credentials.zip", "--device-id", device_id)
    return device


def when(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


# --- renewing ---------------------------------------------------------------------------------------------------------------------------------


def test_it_renews_when_it_is_due_and_not_before(fresh, device, clock, tmp_path):
    server_clock = Clock(tmp_path / "server-clock")
    s = fresh(start=False)
    s.start(env=server_clock.env)
    s.account("fleet", "test", "shared")
    enrolled(device, s.key("fleet"), "due-1")
    status = device.status()
    begin, end, due = when(status["certificate"]["not_before"]), when(status["certificate"]["not_after"]), when(status["renews_at"])
    part = (due - begin) / (end - begin)
    assert 2 / 3 <= part <= 3 / 4
    left, before = int((due - datetime.datetime.now(UTC)).total_seconds()), device.serial
    for ahead, renewed in ((left - HOUR, False), (left + HOUR, True)):
        clock.set(ahead), server_clock.set(ahead)
        soon(None, lambda: device.run("check").returncode or None, 5)
        device.good("run")
        assert (device.serial != before) is renewed
    found = shown(s, "due-1")
    assert found["spki"] == device.identity.spki and [c["state"] for c in found["certificates"]] == ["current", "superseded"]
    assert device.told == ["enrolled", "renewed"] and [p.name for p in device.dir.glob("identity-*")] == ["identity-2"]


def test_a_fleet_does_not_come_back_at_once(server, key, tmp_path):
    due = {when(enrolled(Agent(tmp_path / f"d{i}"), key, f"jitter-{i}").status()["renews_at"]) for i in range(8)}
    assert len(due) == 8 and max(due) - min(due) > datetime.timedelta(days=3)


@pytest.mark.parametrize("battery", [True, False])
def test_a_device_that_was_off_for_too_long(fresh, device, clock, tmp_path, battery):
    """Whether its clock went on meanwhile or begins at 1970: the time that it is told is far ahead of all that it knows then, and what is due does not wait until it is accepted."""
    server_clock = Clock(tmp_path / "server-clock")
    s = fresh(start=False)
    s.start(env=server_clock.env)
    s.account("fleet", "test", "shared", "--late-renewal", "2y")
    enrolled(device, s.key("fleet"), "late-1")
    ahead = 2 * 365 * DAY
    clock.set(ahead), server_clock.set(ahead)
    soon(False, lambda: device.explain()["side"] == "device" and device.explain()["code"] == "gateway_dates", 10)
    assert device.status()["state"] == "ended" and device.explain()["code"] == "certificate_expired"
    if not battery:
        to_1970(clock)
    device.good("run")
    assert device.status()["state"] == "provisioned" and device.explain()["verdict"] == "admitted"


def test_a_disk_that_was_put_back(server, device, key, tmp_path):
    """The certificate on it has been replaced: it is good for getting another one."""
    enrolled(device, key, "back-1")
    shutil.copytree(device.dir, tmp_path / "old", symlinks=True)
    device.good("run", "--now")
    shutil.rmtree(device.dir)
    (tmp_path / "old").rename(device.dir)
    assert device.explain()["code"] == "certificate_superseded"
    device.good("run", "--now")
    assert device.explain()["verdict"] == "admitted"


def test_make_before_break(server, device, key, clock):
    """The gateway has issued, and is not there when the new certificate is to be used: the old one stays, and what was begun is finished."""
    enrolled(device, key, "break-1")
    old, url = device.identity, device.dir / "current" / "gateway.url"
    ca = Authority("Half a gateway")
    server_ca = (server.dir / "server-ca.pem").read_bytes()
    device.good("run", "--now")
    second = device.identity
    assert second.spki != old.spki
    # A gateway that issues and does not admit.
    half = Gateway(ca.server(), {("POST", EST + "simplereenroll"): issues(ca), ("GET", "/devices"): (503, {"Retry-After": "1000"}, b""), ("GET", EST + "cacerts"): certs_only(ca.cert)})
    (device.dir / "current" / "root.crt").write_bytes(server_ca + ca.pem())
    url.write_text(half.url)
    assert device.run("run", "--now").returncode == NOT_YET
    assert device.identity.spki == second.spki and device.status()["next"] and ("POST", EST + "simplereenroll") in half.paths()
    waiting = next(p for p in device.dir.glob("identity-*") if p.name == "identity-3")
    made = (waiting / "pkey.pem").read_bytes()
    asked = half.paths().count(("POST", EST + "simplereenroll"))
    half.answers["GET", "/devices"] = ADMITTED
    clock.set(1030)
    device.good("run")
    assert (device.dir / "current" / "pkey.pem").read_bytes() == made and half.paths().count(("POST", EST + "simplereenroll")) == asked
    half.close()


def test_one_that_is_void_is_asked_for_again(server, device, key):
    enrolled(device, key, "void-1")
    ca = Authority("Half a gateway")
    said = {"admits": refusal(403, "certificate_void")}
    half = Gateway(ca.server(), {("POST", EST + "simplereenroll"): issues(ca), ("GET", "/devices"): lambda *_: said["admits"], ("GET", EST + "cacerts"): certs_only(ca.cert)})
    (device.dir / "current" / "root.crt").write_bytes(ca.pem())
    (device.dir / "current" / "gateway.url").write_text(half.url)
    before = device.serial
    device.fails("run", "--now")
    assert device.serial == before and not device.status()["next"]
    said["admits"] = ADMITTED
    device.good("run", "--now")
    assert device.serial != before
    half.close()


@pytest.mark.parametrize("code, kept", [("device_key_barred", False), ("csr_invalid", False), ("device_quarantined", True), ("reissue_limited", True)])
def test_the_key_of_a_request_that_was_refused(server, device, key, code, kept):
    enrolled(device, key, f"refused-{code.replace('_', '-')}")
    ca = Authority("A gateway")
    gateway = Gateway(ca.server(), {("POST", EST + "simplereenroll"): refusal(403, code), ("GET", EST + "cacerts"): certs_only(ca.cert)})
    (device.dir / "current" / "root.crt").write_bytes(ca.pem())
    (device.dir / "current" / "gateway.url").write_text(gateway.url)
    assert f"({code})" in device.fails("run", "--now")
    assert device.status()["next"] is kept and device.status()["failed"]["code"] == code
    gateway.close()


# --- the gateway's own time -----------------------------------------------------------------------------------------------------------------------


ADVICE = {202: "Let an operator decide", 429: "Try again after the time", 503: "Check the URL"}  # where nothing but the status is said


@pytest.mark.parametrize("status, fields, seconds", [(202, {"Retry-After": "1000"}, 1000), (429, {"Retry-After": "700"}, 700), (503, {"Retry-After": "500"}, 500), (429, {}, 590), (202, {}, 300),
                                                     (503, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, DAY), (429, {"Retry-After": "99999999999999999999"}, DAY), (503, {"Retry-After": "soon"}, 590),
                                                     (429, {"Retry-After": "4000000000"}, DAY)])
def test_a_time_to_wait_is_kept_over_restarts(device, clock, tmp_path, status, fields, seconds):
    ca = Authority()
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): (status, fields, b"")})
    options = ("--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    assert ADVICE[status] in device.fails("run", *options, status=NOT_YET)
    for _ in range(2):
        device.fails("run", *options, status=NOT_YET)
    assert len(gateway.asked) == 1
    clock.set(seconds - 150)  # what is left is more than is waited for within a pass
    device.fails("run", *options, status=NOT_YET)
    assert len(gateway.asked) == 1
    clock.set(seconds + 30)
    device.fails("run", *options, status=NOT_YET)
    assert len(gateway.asked) == 2
    gateway.close()


def test_a_short_time_is_waited_for(device, tmp_path):
    ca, said = Authority(), [(202, {"Retry-After": "1"}, b""), (429, {"Retry-After": "1"}, b"")]
    issue = issues(ca)
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): lambda r, b: said.pop(0) if said else issue(r, b), ("GET", "/devices"): ADMITTED})
    began = time.monotonic()
    device.good("provision", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    assert 2 <= time.monotonic() - began < 10 and len(gateway.asked) == 4
    bodies = {body for method, path, body in gateway.asked if method == "POST"}
    keys = {x509.load_der_x509_csr(base64.b64decode(b)).public_key().public_numbers() for b in bodies}
    assert len(keys) == 1, "the same key each time"
    gateway.close()


# --- no EST ----------------------------------------------------------------------------------------------------------------------------------------


def test_where_there_is_only_post_devices(device, tmp_path):
    """The server makes the key; and it is exchanged as soon as the gateway takes one."""
    ca = Authority()
    made = ca.device("car-1")
    p12 = pkcs12.serialize_key_and_certificates(b"x", made.key, made.cert, [ca.cert], NoEncryption())
    gateway = Gateway(ca.server(), {("POST", "/devices"): (200, {"Content-Type": "application/x-pkcs12"}, p12), ("GET", "/devices"): ADMITTED, ("GET", EST + "cacerts"): (404, {}, b"")})
    at = shared(tmp_path / "shared", gateway.url, ca)
    device.good("provision", "--credentials", at, "--device-id", "car-1")
    (body,) = [json.loads(b) for m, p, b in gateway.asked if (m, p) == ("POST", "/devices")]
    assert body["deviceId"] == "car-1" and int(body["ttl"]) > 0 and isinstance(body["ttl"], str)
    assert device.identity.spki == made.spki and device.status()["key"] == "server" and sorted(p.name for p in at.iterdir()) == ["autoprov.url", "server_ca.pem"]
    device.fails("run", status=NOT_YET)
    asked = gateway.paths().count(("POST", EST + "simplereenroll"))
    device.good("run")
    assert asked == 1 == gateway.paths().count(("POST", EST + "simplereenroll")), "once a day, and not at every pass"
    gateway.answers["POST", EST + "simplereenroll"] = issues(ca)
    device.good("run", "--now")
    assert device.identity.spki != made.spki and device.status()["key"] == "own" and device.told == ["enrolled", "renewed"]
    gateway.close()


def test_another_device_s_key_and_certificate(device, tmp_path):
    ca = Authority()
    made = ca.device("car-2")
    p12 = pkcs12.serialize_key_and_certificates(b"x", made.key, made.cert, [ca.cert], NoEncryption())
    gateway = Gateway(ca.server(), {("POST", "/devices"): (200, {"Content-Type": "application/x-pkcs12"}, p12), ("GET", "/devices"): ADMITTED})
    at = shared(tmp_path / "shared", gateway.url, ca)
    assert "is of the device car-2, and not of car-1" in device.fails("provision", "--credentials", at, "--device-id", "car-1")
    assert device.status()["state"] == "none" and ("GET", "/devices") not in gateway.paths() and (at / "autoprov_credentials.p12").exists()
    mine = ca.device("car-1")
    gateway.answers["POST", "/devices"] = (200, {}, pkcs12.serialize_key_and_certificates(b"x", mine.key, mine.cert, [ca.cert], NoEncryption()))
    device.good("provision", "--credentials", at, "--device-id", "car-1")
    assert device.identity.spki == mine.spki
    gateway.close()


def test_an_account_that_is_unknown_is_no_reason_to_ask_elsewhere(device, tmp_path):
    ca = Authority()
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): refusal(404, "account_unknown")})
    device.fails("provision", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    assert gateway.paths() == [("POST", EST + "simpleenroll")]
    gateway.close()


# --- anchors -----------------------------------------------------------------------------------------------------------------------------------------


class Rollover:
    """A device that is in at a gateway whose CA is `old`."""

    def __init__(self, device, tmp_path):
        self.device, self.old, self.new = device, Authority("Old CA"), Authority("New CA")
        self.gateway = Gateway(self.old.server(), {("GET", "/devices"): ADMITTED, ("POST", EST + "simplereenroll"): issues(self.old)})
        device.good("provision", "--credentials", own(tmp_path / "import", self.old.device(), self.old.pem(), self.gateway.url))

    def offer(self, *certs):
        self.gateway.answers["GET", EST + "cacerts"] = certs_only(*certs)
        self.device.remember(anchors_at=0)
        self.device.good("run")
        return [c.subject.rfc4514_string() for c in self.device.anchors]


@pytest.fixture
def rollover(device, tmp_path):
    r = Rollover(device, tmp_path)
    yield r
    r.gateway.close()


def test_a_new_anchor_that_an_old_one_vouches_for(rollover):
    r = rollover
    assert r.offer(r.old.cert) == ["CN=Old CA"]
    assert r.offer(r.old.cert, r.new.cert, r.old.crosses(r.new)) == ["CN=Old CA", "CN=New CA"]
    assert r.device.told == ["imported", "anchors"]
    assert r.offer(r.old.cert, r.new.cert, r.old.crosses(r.new)) == ["CN=Old CA", "CN=New CA"] and r.device.told == ["imported", "anchors"]
    moved = Gateway(r.new.server(), {("GET", "/devices"): ADMITTED, ("GET", EST + "cacerts"): certs_only(r.new.cert)})
    (r.device.dir / "current" / "gateway.url").write_text(moved.url)
    assert r.device.explain()["verdict"] == "admitted"
    assert r.offer(r.new.cert) == ["CN=Old CA", "CN=New CA"], "what is not offered any more stays"
    moved.close()


def test_a_renewal_keeps_the_anchors(rollover):
    r = rollover
    r.offer(r.old.cert, r.new.cert, r.old.crosses(r.new))
    r.device.good("run", "--now")
    assert [c.subject.rfc4514_string() for c in r.device.anchors] == ["CN=Old CA", "CN=New CA"] and r.device.told[-1] == "renewed"


def test_nobody_becomes_an_anchor_by_tls_alone(rollover):
    """The gateway's certificate is good in each of these, and changes nothing."""
    r = rollover
    foreign, twin = Authority("Foreign CA"), Authority("Old CA")
    clients, plain = Authority("Client CA", ekus=(CLIENT_AUTH,)), Authority("No EKU", ekus=())
    ended, leaf, between = Authority("Ended CA", begin=-20, end=-1), r.old.server(), Authority("Between")
    for offered in ([foreign.cert], [r.old.cert, foreign.cert], [foreign.cert, foreign.crosses(r.new), r.new.cert],  # by a stranger
                    [twin.cert], [r.new.cert, twin.crosses(r.new)],  # by one of the same name
                    [r.new.cert, r.old.crosses(foreign)],  # for another key
                    [r.new.cert, r.new.crosses(r.new)],  # by itself
                    [clients.cert, r.old.crosses(clients)], [clients.cert, r.old.crosses(clients, ekus=(CLIENT_AUTH,))], [plain.cert, r.old.crosses(plain)],
                    [r.new.cert, r.old.crosses(r.new, ekus=())], [r.new.cert, r.old.crosses(r.new, ekus=(CLIENT_AUTH,))],  # the purpose
                    [r.new.cert, r.old.crosses(r.new, ca=False)], [r.new.cert, r.old.crosses(r.new, begin=-20, end=-1)], [ended.cert, r.old.crosses(ended)],
                    [leaf.cert], [r.old.crosses(r.new)],  # no CA of its own
                    [between.cert, r.new.crosses(between)], [r.old.cert, r.new.cert, between.cert, r.new.crosses(between)]):
        assert r.offer(*offered) == ["CN=Old CA"], [c.subject for c in offered]
    assert r.device.told == ["imported"]
    # Two steps at once: what was taken over now vouches for nobody yet; the next time it does.
    two = [r.new.cert, r.old.crosses(r.new), between.cert, r.new.crosses(between)]
    assert r.offer(*two) == ["CN=Old CA", "CN=New CA"]
    assert r.offer(*two) == ["CN=Old CA", "CN=New CA", "CN=Between"]


def test_what_a_gateway_may_send_in_the_place_of_anchors(rollover):
    r = rollover
    good = certs_only(r.old.cert, r.new.cert, r.old.crosses(r.new))
    for status, body in ((200, b""), (200, b"no base64 !"), (200, good[2][:-40]), (200, base64.encodebytes(b"\x30\x82" + b"x" * 500)), (200, base64.b64encode(b"\0" * 70000)), (200, b"x" * 300000),
                         (500, b""), (302, b""), (204, b""), certs_only(*[Authority(f"CA {i}").cert for i in range(17)])[::2], (200, good[2] + b"="), (200, json.dumps({"a": 1}).encode())):
        r.gateway.answers["GET", EST + "cacerts"] = (status, {"Location": "https://localhost:1/"}, body)
        r.device.remember(anchors_at=0)
        r.device.run("run")
        assert [c.subject.rfc4514_string() for c in r.device.anchors] == ["CN=Old CA"], (status, body[:20])
    assert r.device.explain()["verdict"] == "admitted"


def test_a_live_server_s_anchors(server, device, key):
    enrolled(device, key, "anchors-1")
    device.good("run")
    assert device.remembered()["anchors_at"] > 0 and [c.subject.rfc4514_string() for c in device.anchors] == ["CN=Muster server CA"] and "anchors" not in device.told


# --- what time it is -------------------------------------------------------------------------------------------------------------------------------------


def to_1970(clock):
    clock.set(-int(time.time()) + 120)


def test_a_clock_that_says_1970(server, device, clock, key, tmp_path):
    to_1970(clock)
    shutil.copy(key.zip, tmp_path / "k.zip")
    said = device.run("provision", "--credentials", tmp_path / "k.zip", "--device-id", "clock-1")
    assert said.returncode == 0 and "the gateway has signed that it is 20" in said.stderr
    assert device.status()["clock_behind"] and admits(server, device)
    before, now = device.serial, int(time.time())
    device.remember(newest_time=max(device.remembered()["newest_time"], now - HOUR))
    device.good("run")
    assert device.serial == before, "it goes by the right time, and nothing is due"
    assert abs(device.remembered()["newest_time"] - time.time()) < 60, "near what was known it is accepted at once"


class Teller:
    """A gateway that says what time it is."""

    def __init__(self, ca, at=None, signer=None, **wrong):
        self.ca, self.at, self.wrong = ca, at, wrong
        self.signer = signer or ca.device("signer")
        if not signer:
            self.signer.cert = ca.sign(name("time signer"), self.signer.key, (TIME_STAMPING,), end=7, at=wrong.get("made"))

    def __call__(self, request, body):
        nonce = request.path.partition("nonce=")[2].lower()
        said = (self.at or datetime.datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
        signed = f"Muster time 1\n{said}\n{self.wrong.get('nonce', nonce)}\n".encode()
        signature = self.wrong.get("by", self.signer.key).sign(signed, ec.ECDSA(hashes.SHA256()))
        doc = {"time": self.wrong.get("says", said), "nonce": nonce, "signature": base64.b64encode(signature).decode(), "certificate": base64.b64encode(self.signer.cert.public_bytes(Encoding.DER)).decode()}
        return 200, {"Content-Type": "application/json"}, json.dumps(doc).encode()


def test_a_time_that_is_not_believed(device, clock, tmp_path):
    ca, other = Authority(), Authority("Another")
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): issues(ca), ("GET", "/devices"): ADMITTED})
    options = ("--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    to_1970(clock)
    stranger = other.device("signer")
    stranger.cert = other.sign(name("time signer"), stranger.key, (TIME_STAMPING,), end=7)
    tls = ca.server()
    old = datetime.datetime(2020, 1, 1, tzinfo=UTC)
    both = ca.device("signer")
    both.cert = ca.sign(name("time signer"), both.key, (TIME_STAMPING, CLIENT_AUTH), end=7)
    for teller in (Teller(ca, signer=stranger), Teller(ca, signer=tls), Teller(ca, signer=both), Teller(ca, nonce="00" * 32), Teller(ca, by=new_key()), Teller(ca, says="2099-01-01T00:00:00Z"),
                   Teller(ca, at=old, made=old.replace(tzinfo=None)),  # rightly signed, and known to have passed
                   Teller(ca, at=datetime.datetime(2050, 1, 1, tzinfo=UTC)),  # the signer's certificate does not live then
                   (200, {}, b"{}"), (200, {}, b""), (429, {"Retry-After": "1000"}, b""), (404, {}, b"")):
        gateway.answers["GET", "/time"] = teller
        said = device.run("run", *options, "--now")
        assert said.returncode in (1, NOT_YET) and "the gateway did not tell the time" in said.stderr and ("POST", EST + "simpleenroll") not in gateway.paths()
    gateway.answers["GET", "/time"] = Teller(ca)
    device.good("run", *options, "--now")
    gateway.close()


def told(gateway, ca, days, at=None):
    """The gateway's clock is so many days ahead; a second later each time, so that no two answers are the same."""
    at = at or datetime.datetime.now(UTC) + datetime.timedelta(days=days)
    gateway.answers["GET", "/time"] = Teller(ca, at=at, made=at.replace(tzinfo=None))
    return int(at.timestamp())


def test_a_time_is_accepted_once_another_one_agrees(device, clock, tmp_path):
    """The bound of a device without a clock: raised by what was confirmed alone, and never lowered but by hand."""
    ca = Authority(end=20000)
    gateway = Gateway(ca.server(end=20000), {("POST", EST + "simpleenroll"): issues(ca, end=20000), ("POST", EST + "simplereenroll"): issues(ca, end=20000), ("GET", "/devices"): ADMITTED,
                                             ("GET", EST + "cacerts"): certs_only(ca.cert)})

    def bound():
        return device.remembered()["newest_time"]

    def day():
        """One in which the device is on goes by."""
        device.remember(waiting_on=DAY)

    to_1970(clock)
    first = told(gateway, ca, 400)
    device.good("run", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    known, before = bound(), device.serial
    assert known <= time.time() and device.remembered()["waiting_time"] == first, "it is used, and not written down as known to have passed"
    status = device.status()
    assert (int(when(status["accepted_time"]).timestamp()), int(when(status["waiting_time"]).timestamp())) == (known, first) and status["clock_behind"]
    # The day is made of minutes, where a device is on for no more, and nothing else is due that would be remembered.
    device.good("run")
    device.remember(waiting_on=0, waiting_up=device.remembered()["waiting_up"] - 300)
    device.good("run")
    assert 300 <= device.remembered()["waiting_on"] < HOUR
    # A gateway that leaps from year to year, whatever time this device was on for.
    for days in (800, 1200):
        heard = told(gateway, ca, days)
        device.remember(waiting_on=2 * DAY)
        device.good("run", "--now")
        assert bound() == known and device.remembered()["waiting_time"] == heard and device.remembered()["waiting_on"] == 0
    first = told(gateway, ca, 400)
    device.good("run")
    assert bound() == known and device.remembered()["waiting_time"] == first
    assert device.serial != before, "nor does a certificate that is due wait for it"
    # A week by the gateway's word without the day, and the day without the week.
    device.remember(waiting_on=DAY - HOUR)
    told(gateway, ca, 407)
    device.good("run")
    assert bound() == known
    day()
    told(gateway, ca, 406)
    device.good("run")
    assert bound() == known
    # Where it is right again in that time nothing was lost.
    shutil.copytree(device.dir, tmp_path / "kept", symlinks=True)
    device.remember(newest_time=int(time.time()) - HOUR)
    now = told(gateway, ca, 0)
    device.good("run")
    assert bound() == now and device.remembered()["waiting_time"] == 0 and device.explain()["verdict"] == "admitted"
    shutil.rmtree(device.dir)
    (tmp_path / "kept").rename(device.dir)
    # Both.
    last = told(gateway, ca, 407)
    device.good("run")
    later = bound()
    assert 0 <= later - first - DAY < HOUR and device.remembered()["waiting_time"] == last, "the first, and what the device knows to have passed since"
    # From then on nothing goes back, whoever says so, how often, and for how long.
    for days in (0, 1, 2, 30, 300):
        told(gateway, ca, days)
        assert "is known to have passed" in device.fails("run", "--now") and bound() == later
        day()
    assert device.status()["failed"]["code"] == "gateway_time" and "--accept-time" in device.status()["failed"]["reason"] and "--accept-time" in device.fails("check")
    said = device.explain()
    assert (said["verdict"], said["side"], said["code"]) == ("unknown", "device", "gateway_time") and "--accept-time" in said["fix"]
    clock.set(0)  # behind that bound as well
    assert device.status()["clock_behind"] and device.run("run").returncode == 1
    clock.set(408 * DAY)
    assert not device.status()["clock_behind"]
    device.good("run")
    # But by hand.
    to_1970(clock)
    now = told(gateway, ca, 0)
    device.remember(asked_at=100, wait=3600)
    assert "asked not to come again" in device.fails("run", "--accept-time", status=NOT_YET) and bound() == later, "what was not done is not called done"
    device.good("run", "--accept-time", "--now")
    assert bound() == now and device.explain()["verdict"] == "admitted"
    gateway.close()


def test_a_gateway_whose_clock_runs_ahead_for_a_while(device, clock, tmp_path):
    """A device whose own clock is right: with the server's the gateway's certificate jumped, and it asks."""
    ca = Authority(end=20000)
    answers = {("POST", EST + "simpleenroll"): issues(ca, end=20000), ("POST", EST + "simplereenroll"): issues(ca, end=20000, begin=399), ("GET", "/devices"): ADMITTED, ("GET", EST + "cacerts"): certs_only(ca.cert)}
    right = Gateway(ca.server(), {**answers, ("POST", EST + "simplereenroll"): issues(ca)})
    device.good("run", "--credentials", shared(tmp_path / "shared", right.url, ca), "--device-id", "car-1")
    port, bound = int(right.url.rpartition(":")[2]), device.remembered()["newest_time"]
    right.answers["GET", "/devices"] = (503, {}, b"")
    device.fails("run", "--now", status=NOT_YET)  # issued, and not used yet
    right.close()
    ahead = Gateway(ca.server(begin=399), {**answers, ("GET", "/devices"): refusal(403, "certificate_expired")}, port=port)
    heard = told(ahead, ca, 400)
    assert "for this pass alone until one a day later agrees" in device.run("run", "--now").stderr and device.status()["next"], "no certificate is given up for that time"
    ahead.answers["GET", "/devices"] = ADMITTED
    device.remember(anchors_at=0)
    assert "for this pass alone until one a day later agrees" in device.run("run").stderr
    before = device.serial
    assert (device.remembered()["newest_time"], device.remembered()["waiting_time"]) == (bound, heard) and not device.status()["clock_behind"]
    assert "nothing is renewed until one a day later agrees" in device.fails("run", "--now", status=NOT_YET)
    assert device.serial == before and ("POST", EST + "simplereenroll") not in ahead.paths()
    ahead.close()
    right = Gateway(ca.server(), {**answers, ("POST", EST + "simplereenroll"): issues(ca)}, port=port)
    told(right, ca, 0)
    device.good("run", "--now")
    assert device.serial != before and device.explain()["verdict"] == "admitted" and not device.status()["clock_behind"]
    assert device.remembered()["waiting_time"] == 0, "the next time that the server is ahead is the first one"
    right.close()
    # Ahead for weeks: gone by in the end, and never accepted by a device whose clock may be right: as soon as it is told the right time again it is where it was.
    ahead = Gateway(ca.server(begin=390), answers, port=port)
    for days in (400, 401, 420):
        heard = told(ahead, ca, days)
        device.remember(anchors_at=0)
        said = device.run("run")
        assert said.returncode == 0 and ("for this pass alone" in said.stderr) == (days == 400)
        device.remember(waiting_on=DAY)
    assert bound <= device.remembered()["newest_time"] <= time.time() and abs(device.remembered()["waiting_time"] - (heard - 20 * DAY)) < 60
    ahead.close()
    right = Gateway(ca.server(), {**answers, ("POST", EST + "simplereenroll"): issues(ca)}, port=port)
    told(right, ca, 0)
    device.good("run")  # its certificate is of that time, and another one is asked for
    assert device.explain()["verdict"] == "admitted" and not device.status()["clock_behind"] and device.remembered()["waiting_time"] <= time.time()
    # What is asked for by hand is asked for: the bound that somebody else's word has left goes down although the clock is not behind it, and the gateway's certificate is good.
    device.remember(newest_time=int(time.time()) + 90)
    clock.set(100)
    now = told(right, ca, 0)
    device.good("run", "--accept-time")
    assert device.remembered()["newest_time"] == now
    right.answers["GET", "/time"] = (404, {}, b"")
    assert "did not tell the time" in device.fails("run", "--accept-time")
    right.close()


def test_a_gateway_whose_clock_ran_ahead_and_this_device_s_with_it(device, clock, tmp_path):
    """By --set-clock: it was known to be wrong, so it is set at once; and back, as soon as the gateway is right again."""
    ca = Authority(end=20000)
    clock.is_settable()
    if os.geteuid() == 0:  # whatever else goes wrong: nobody sets this machine's clock
        device.program = ["setpriv", "--inh-caps=-sys_time", "--bounding-set=-sys_time", AGENT]
    answers = {("POST", EST + "simpleenroll"): issues(ca, end=20000), ("GET", "/devices"): ADMITTED, ("GET", EST + "cacerts"): certs_only(ca.cert)}
    ahead = Gateway(ca.server(begin=399), answers)
    told(ahead, ca, 400)
    to_1970(clock)
    device.good("run", "--set-clock", "--credentials", shared(tmp_path / "shared", ahead.url, ca), "--device-id", "car-1")
    assert abs(clock.ahead - 400 * DAY) < HOUR and not device.status()["clock_behind"] and device.remembered()["newest_time"] <= time.time()
    port = int(ahead.url.rpartition(":")[2])
    ahead.close()
    right = Gateway(ca.server(end=100), {**answers, ("POST", EST + "simplereenroll"): issues(ca)}, port=port)
    told(right, ca, 0)
    device.good("run", "--now", "--set-clock")
    assert abs(clock.ahead) < HOUR and device.explain()["verdict"] == "admitted"
    right.close()


def test_a_server_whose_clock_runs_ahead_for_a_while(fresh, device, clock, tmp_path):
    """Nobody is stranded by it: neither who asked what time it is, nor who enrolled, nor a device without a clock that believed it and renewed."""
    server_clock = Clock(tmp_path / "server-clock")
    s = fresh(start=False)
    s.start(env=server_clock.env)
    s.account("fleet", "test", "shared")
    key = s.key("fleet")
    enrolled(device, key, "right-1")
    other = enrolled(Agent(tmp_path / "other", env=Clock(tmp_path / "1970").env), key, "none-1")
    Clock(tmp_path / "1970").set(-int(time.time()) + 120)
    control = s.child("control")  # it looks after the gateway's certificate every ten seconds
    s.admin_ca.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME

    def passes(agent):
        s.request("GET", "/readyz")  # a timer is looked at when something else happens
        return agent.run("run", "--now").returncode

    server_clock.set(400 * DAY, 11, control)
    soon(0, lambda: passes(other), 60)
    assert other.remembered()["newest_time"] <= time.time() and other.remembered()["waiting_time"] > time.time() + 399 * DAY and other.status()["certificate"]["not_before"] > device.status()["certificate"]["not_after"]
    device.run("run", "--now")
    server_clock.set(0, 22, control)
    assert s.musterd("clock", "accept").returncode == 0
    soon(0, lambda: passes(device), 60)
    assert device.explain()["verdict"] == "admitted"
    soon(0, lambda: passes(other), 60)
    assert other.explain()["verdict"] == "admitted" and other.remembered()["newest_time"] <= time.time()
    assert s.muster("audit", "verify")["ok"]


def test_no_anchor_gives_way_to_a_time_that_waits(rollover, clock):
    """There is room for sixteen, and one of them ends in a month: by a time that was not accepted it may be what the device needs tomorrow."""
    r = rollover
    others = [Authority(f"CA {i}", end=30 if i == 7 else 3650) for i in range(15)]
    (r.device.dir / "current" / "root.crt").write_bytes(b"".join(a.pem() for a in [r.old, *others]))
    to_1970(clock)
    told(r.gateway, r.old, 100)
    r.gateway.answers["GET", EST + "cacerts"] = certs_only(r.old.cert, r.new.cert, r.old.crosses(r.new))
    assert "There is no room for another anchor" in r.device.fails("run", "--now") and [a.cert for a in [r.old, *others]] == r.device.anchors
    r.device.remember(newest_time=int(time.time()) + 31 * DAY, anchors_at=0)
    r.device.good("run")
    others[7] = r.new
    assert [a.cert for a in [r.old, *others]] == r.device.anchors


def test_a_clock_that_the_gateway_s_certificate_contradicts(server, device, clock, key):
    """Ahead by more than it lives: TLS fails by the dates, and the signed time mends it."""
    enrolled(device, key, "ahead-1")
    clock.set(10 * 365 * DAY)
    said = device.explain()
    assert (said["verdict"], said["side"], said["code"]) == ("unknown", "device", "gateway_dates")
    assert "has not renewed its certificate" in said["fix"] and "ran ahead" in said["fix"], "it may have ended, or not begun"
    before = device.serial
    said = device.run("run", "--now")
    assert said.returncode == 0 and "this device's clock is not right" in said.stderr and device.serial != before


# --- hostile gateways, and disks ---------------------------------------------------------------------------------------------------------------------------


def test_a_gateway_of_another_ca_gets_nothing(server, device, key, tmp_path):
    foreign = Authority("Foreign CA")
    gateway = Gateway(foreign.server(), {("POST", EST + "simpleenroll"): issues(foreign), ("GET", "/devices"): ADMITTED})
    at = tmp_path / "shared"
    shared(at, gateway.url, Authority("Right CA"))
    said = device.fails("provision", "--credentials", at, "--device-id", "car-1")
    assert "is not accepted" in said and gateway.asked == [] and not (device.dir / "current").exists()
    # The system's certificates are no anchors either, whatever the environment says.
    (tmp_path / "system.pem").write_bytes(foreign.pem())
    env = {"SSL_CERT_FILE": str(tmp_path / "system.pem"), "CURL_CA_BUNDLE": str(tmp_path / "system.pem"), "SSL_CERT_DIR": str(tmp_path)}
    device.fails("provision", "--credentials", at, env=env)
    assert gateway.asked == []
    gateway.close()


def test_another_name_in_the_gateway_s_certificate(device, tmp_path):
    ca = Authority()
    key = new_key()
    gateway = Gateway(Identity(ca.sign(name("elsewhere"), key, (x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,), sans=(x509.DNSName("elsewhere.example"),)), key), {("POST", EST + "simpleenroll"): issues(ca)})
    device.fails("provision", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    assert gateway.asked == []
    gateway.close()


def test_certificates_that_are_not_what_was_asked_for(device, tmp_path):
    ca = Authority()
    gateway = Gateway(ca.server(), {("GET", "/devices"): ADMITTED})
    options = ("--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    right = issues(ca)
    for answer in (certs_only(ca.device().cert),  # another key's
                   issues(ca, end=-1), lambda r, b: (200, {}, right(r, b)[2][:-50]), (200, {}, b""), (200, {}, b"\0" * 60000), (200, {}, b"x" * (1 << 20)), (200, {"X": "y" * 90000}, b""),
                   lambda r, b: None, (200, {"Content-Length": "5000"}, b"x"), (302, {"Location": "/devices"}, b""), (200, {"Content-Encoding": "gzip"}, b"x")):
        gateway.answers["POST", EST + "simpleenroll"] = answer
        said = device.run("provision", *options)
        assert said.returncode in (1, NOT_YET) and not (device.dir / "current").exists() and said.stderr
        assert (tmp_path / "shared" / "autoprov_credentials.p12").exists()
    gateway.answers["POST", EST + "simpleenroll"] = right
    device.good("provision", *options)
    gateway.close()


def test_what_a_gateway_says_reaches_the_terminal_clean(device, tmp_path):
    ca = Authority()
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): refusal(403, "odd\x1b[31m", "Evil \x1b]0;x\x07 text\n\n\u202e")})
    said = device.fails("provision", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    out = device.good("status") + device.run("explain").stdout + said
    assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out and "Evil" in out
    gateway.close()


def test_a_disk_that_is_full(server, device, key, tmp_path):
    """Nothing is asked for that could not be kept; and nothing that is there is lost."""
    if os.geteuid():
        pytest.skip("a small disk needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", small], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        device.dir = small / "agent"
        ca = Authority()
        gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): issues(ca), ("GET", "/devices"): ADMITTED, ("POST", EST + "simplereenroll"): issues(ca), ("GET", EST + "cacerts"): certs_only(ca.cert)})
        device.dir.mkdir(mode=0o755)
        (small / "fill").write_bytes(b"")

        def fill():
            with open(small / "fill", "ab", buffering=0) as f:
                try:
                    while True:
                        f.write(b"x" * 512)
                except OSError:
                    pass

        fill()
        options = ("--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
        assert "(storage_failed)" in device.fails("provision", *options)
        assert gateway.asked == []
        (small / "fill").write_bytes(b"")
        device.good("provision", *options)
        fill()
        before, asked = device.serial, len(gateway.asked)
        device.fails("run", "--now")
        assert device.serial == before and ("POST", EST + "simplereenroll") not in gateway.paths()[asked:]
        (small / "fill").write_bytes(b"")
        device.good("run", "--now")
        assert device.serial != before
        gateway.close()
    finally:
        subprocess.run(["umount", small], check=True)


def test_killed_at_any_moment(server, device, key):
    """SIGKILL after a random time, again and again: at each moment other programs find a whole identity that is admitted or renews, and in the end all is well."""
    chance = random.Random(7)
    enrolled(device, key, "killed-1")
    for _ in range(20):
        p = subprocess.Popen([str(w) for w in device.command("run", "--now")], env=device.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.005, 0.09))
        p.send_signal(signal.SIGKILL)
        p.wait()
        mine = device.identity
        assert spki_hash(Holder(mine.cert)) == mine.spki
    time.sleep(1)  # a certificate a moment is what the server gives
    done = device.run("run", "--now")
    assert done.returncode in (0, NOT_YET), done.stderr
    device.good("run")
    assert device.explain()["verdict"] == "admitted" and not list(device.dir.glob("*.tmp-*"))

"""What must not end a device: gateways that fail in one thing, answers that are wrong, files that are not good, clocks; each beside an identity that has to be renewed."""
import base64
import datetime
import json
import os
import resource
import signal
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from agent import ADMITTED, CLIENT_AUTH, EST, NOT_YET, SERVER_AUTH, TIME_STAMPING, Agent, Authority, Gateway, Holder, certs_only, issues, own, refusal, shared
from client import Identity, key_pem, name, new_key
from conftest import soon
from test_agent_run import Teller, device, moved, to_1970  # noqa: F401 (two are fixtures)
from test_clock import DAY

CACERTS, RENEW, ENROL, USE = ("GET", EST + "cacerts"), ("POST", EST + "simplereenroll"), ("POST", EST + "simpleenroll"), ("GET", "/devices")
HOUR = 3600


class World:
    """A gateway, and a device that is in there by a certificate of the factory; `left` and `life` of it in days."""

    def __init__(self, device, top):
        self.device, self.top, self.ca = device, top, Authority()
        self.gateway = Gateway(self.ca.server(), {USE: ADMITTED, RENEW: issues(self.ca), CACERTS: certs_only(self.ca.cert)})

    def put(self, end=5, begin=-300, **more):
        made = self.ca.device(begin=begin, end=end, **more)
        own(self.top / "import", made, self.ca.pem(), self.gateway.url)
        return made

    def imported(self, **more):
        made = self.put(**more)
        self.device.good("provision", "--credentials", self.top / "import")
        return made

    def asked(self, *what):
        return self.gateway.paths().count(what[0] if len(what) == 1 else what)


@pytest.fixture
def world(device, tmp_path):
    w = World(device, tmp_path)
    yield w
    w.gateway.close()


# --- renewal depends on nothing else ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(500, {}, b""), (403, {}, b""), (302, {"Location": "/"}, b""), (200, {}, b"no PKCS#7"), (429, {"Retry-After": "86400"}, b""), None,
                                    certs_only(*[Authority(f"CA {i}").cert for i in range(17)])], ids=["500", "403", "302", "odd", "429", "cut", "17"])
def test_anchors_that_cannot_be_looked_at_end_no_renewal(world, answer):
    made = world.imported()
    world.gateway.answers[CACERTS] = (lambda *_: None) if answer is None else answer
    world.device.run("run")
    assert world.device.identity.cert != made.cert and world.device.told == ["imported", "renewed"]


def test_a_file_that_is_refused_ends_no_renewal(world, clock):
    made = world.imported()
    worse = world.put(end=4000)

    def admits(request, body):
        return ADMITTED if world.asked(USE) != 2 else refusal(403, "certificate_untrusted")

    world.gateway.answers[USE] = admits
    assert "(certificate_untrusted)" in world.device.fails("run")
    assert world.device.identity.cert not in (made.cert, worse.cert) and world.device.told == ["imported", "renewed"]
    asked = world.asked(USE)
    world.device.good("run")
    assert world.asked(USE) == asked, "it is not shown at every pass"
    clock.set(DAY + HOUR)
    world.device.good("run")
    assert world.asked(USE) == asked + 1 and world.device.identity.cert == worse.cert, "an operator may have seen to it"


@pytest.mark.parametrize("admits", [True, False])
def test_files_of_another_device_change_nothing(world, admits):
    """Somebody has mixed them up: this device stays who it is, says so, and renews."""
    made = world.imported()
    world.put(end=4000, cn="car-2")
    world.gateway.answers[USE] = ADMITTED if admits else refusal(403, "certificate_untrusted")
    assert "are of the device car-2, and this one is car-1" in world.device.run("run").stderr
    world.gateway.answers[USE] = ADMITTED
    world.device.run("run")
    assert world.device.identity.cert != made.cert and world.device.status()["device_id"] == "car-1"
    assert world.device.identity.cert.subject == made.cert.subject and world.device.told == ["imported", "renewed"]


def test_a_file_of_a_gateway_that_is_not_there_ends_no_renewal(world):
    made = world.imported()
    later = world.put(end=4000)
    (world.top / "import" / "gateway.url").write_text("https://localhost:1\n")
    world.device.fails("run", status=NOT_YET)
    assert world.device.identity.cert != made.cert and world.device.told == ["imported", "renewed"]
    (world.top / "import" / "gateway.url").write_text(world.gateway.url + "\n")
    world.device.good("run")
    assert world.device.identity.cert == later.cert


def test_the_factory_s_file_does_not_come_back(world):
    """Its certificate lives longer than the one that followed it, and is over."""
    made = world.imported(end=400, begin=-2000)
    world.device.good("run", "--now")
    renewed = world.device.identity.cert
    assert renewed != made.cert and renewed.not_valid_after < made.cert.not_valid_after
    shown = world.asked(USE)
    for _ in range(2):
        world.device.good("run")
    assert world.device.identity.cert == renewed and world.asked(USE) == shown and world.device.told == ["imported", "renewed"]


def test_the_factory_s_file_does_not_come_back_where_a_cut_left_it_unsaid(world):
    world.imported(end=400, begin=-2000)
    world.device.remember(**{"import": ""})
    world.device.good("run")
    world.device.good("run", "--now")
    renewed = world.device.identity.cert
    world.device.good("run")
    assert world.device.identity.cert == renewed


# --- first credentials that were wrong -------------------------------------------------------------------------------------------------------------------


def test_wrong_credentials_are_mended_by_right_ones(world):
    world.put(end=300)
    (world.top / "import" / "gateway.url").write_text("https://localhost:1\n")
    world.device.fails("provision", "--credentials", world.top / "import", status=NOT_YET)
    (world.top / "import" / "gateway.url").write_text(world.gateway.url + "\n")
    world.device.good("provision", "--credentials", world.top / "import")
    assert (world.device.dir / "current" / "gateway.url").read_text() == world.gateway.url + "\n"


def test_refused_credentials_are_mended_by_others(world):
    world.put(end=300)
    world.gateway.answers[USE] = refusal(403, "certificate_untrusted")
    world.device.fails("provision", "--credentials", world.top / "import")
    world.gateway.answers[USE] = ADMITTED
    right = world.put(end=300)
    world.device.good("provision", "--credentials", world.top / "import")
    assert world.device.identity.cert == right.cert


def test_an_id_beside_a_certificate_that_names_another(world):
    world.put(end=300)
    said = world.device.fails("provision", "--credentials", world.top / "import", "--device-id", "another")
    assert "is of the device car-1, and --device-id says another" in said and world.gateway.asked == []
    world.device.good("provision", "--credentials", world.top / "import", "--device-id", "car-1")


# --- certificates that are of no use -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="enrolling")
def at_a_gateway(device, tmp_path):
    w = World(device, tmp_path)
    w.options = ("--credentials", shared(tmp_path / "shared", w.gateway.url, w.ca), "--device-id", "car-1")
    w.gateway.answers[ENROL] = issues(w.ca)
    yield w
    w.gateway.close()


def test_a_certificate_that_ended_before_its_first_use(enrolling, clock):
    w = enrolling
    w.gateway.answers[ENROL] = issues(w.ca, end=3)
    w.gateway.answers[USE] = (503, {}, b"")
    w.device.fails("run", *w.options, status=NOT_YET)
    assert w.asked(ENROL) == 1
    clock.set(4 * DAY)
    w.gateway.answers.update({USE: lambda *_: refusal(403, "certificate_expired") if w.asked(ENROL) == 1 else ADMITTED, ENROL: issues(w.ca, end=30)})
    w.device.run("run", *w.options)
    w.device.good("run", *w.options)
    assert w.asked(ENROL) == 2 and w.device.status()["state"] == "provisioned"


def test_a_renewed_certificate_that_ended_before_its_first_use(world, clock):
    world.imported()
    world.gateway.answers.update({RENEW: issues(world.ca, end=3), USE: (503, {}, b"")})
    assert "ends soon" in world.device.fails("run")
    clock.set(4 * DAY)
    world.gateway.answers.update({RENEW: issues(world.ca, end=30), USE: lambda *_: refusal(403, "certificate_expired") if world.asked(RENEW) == 1 else ADMITTED})
    world.device.good("run")
    assert world.asked(RENEW) == 2 and world.device.told == ["imported", "renewed"]


def test_a_certificate_of_the_future_is_not_taken(enrolling):
    """And leaves no trace: the same gateway with the right time serves the device at once."""
    w = enrolling
    w.gateway.answers[ENROL] = issues(w.ca, begin=9000, end=9300)
    said = w.device.run("run", *w.options)
    assert said.returncode == 1 and "begins more than a day from now" in said.stderr and not (w.device.dir / "current").exists()
    w.gateway.answers[ENROL] = issues(w.ca)
    w.device.good("run", *w.options)
    assert not w.device.status()["clock_behind"]
    w.device.good("run", "--now")


def test_a_certificate_that_begins_after_the_clock_is_a_reason_to_ask_and_no_bound(world):
    world.imported(begin=2, end=300)
    world.gateway.answers["GET", "/time"] = Teller(world.ca)
    assert not world.device.status()["clock_behind"]
    world.device.good("run")
    assert world.asked("GET", "/time") == 1
    world.gateway.answers["GET", "/time"] = (404, {}, b"")
    assert world.device.told == ["imported", "renewed"], "by the signed time it has not begun: another one is asked for at once"
    world.device.good("run", "--now")
    assert world.device.told == ["imported", "renewed", "renewed"]


# --- the gateway's own time ----------------------------------------------------------------------------------------------------------------------------------


def test_a_time_to_wait_counts_for_every_request(world, clock):
    world.imported(begin=-1, end=300)
    world.gateway.answers[CACERTS] = (429, {"Retry-After": "80000"}, b"")
    world.device.fails("run", status=NOT_YET)
    asked = len(world.gateway.asked)
    for _ in range(3):
        world.device.good("run")
    assert len(world.gateway.asked) == asked
    clock.set(80030)
    world.device.fails("run", status=NOT_YET)
    assert len(world.gateway.asked) == asked + 1


def test_a_time_to_wait_counts_for_the_first_use(enrolling, clock):
    w = enrolling
    w.gateway.answers[USE] = (429, {"Retry-After": "5000"}, b"")
    for _ in range(3):
        w.device.fails("run", *w.options, status=NOT_YET)
    assert w.asked(USE) == 1 and w.device.status()["state"] == "waiting"
    clock.set(5030)
    w.gateway.answers[USE] = ADMITTED
    w.device.good("run", *w.options)
    assert w.asked(ENROL) == 1


def test_a_time_to_wait_counts_for_the_time(enrolling, clock):
    w = enrolling
    to_1970(clock)
    w.gateway.answers["GET", "/time"] = refusal(429, "busy", "Too many clocks.", **{"Retry-After": "5000"})
    for _ in range(3):
        assert "Too many clocks." in w.device.fails("run", *w.options, status=NOT_YET)
    assert w.gateway.paths() == [("GET", "/time")]
    failed = w.device.status()["failed"]
    assert failed["code"] == "busy" and "did not tell the time" in failed["reason"]


def test_a_refused_time_is_told_as_what_it_is(world, clock):
    world.imported(begin=-1, end=300)
    to_1970(clock)
    world.gateway.answers["GET", "/time"] = refusal(429, "busy", "Too many clocks.", **{"Retry-After": "5000"})
    said = world.device.explain()
    assert (said["verdict"], said["side"], said["code"]) == ("unknown", "gateway", "busy") and "Too many clocks." in said["reason"]


def test_a_wait_survives_a_clock_of_1970(enrolling, clock):
    """The right time is known within one pass alone: the time to wait goes by the device's clock."""
    w = enrolling
    to_1970(clock)
    w.gateway.answers.update({("GET", "/time"): Teller(w.ca), ENROL: (429, {"Retry-After": "5000"}, b"")})
    for _ in range(3):
        w.device.fails("run", *w.options, status=NOT_YET)
    assert w.asked(ENROL) == 1 and w.asked("GET", "/time") == 1


@pytest.mark.parametrize("seconds", ["31622400", "99999999999999999999999", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_no_gateway_s_wait_outlasts_the_certificate(world, clock, seconds):
    world.imported(begin=-300, end=4)
    world.gateway.answers[RENEW] = (503, {"Retry-After": seconds}, b"")
    assert "ends soon" in world.device.fails("run")
    assert world.device.remembered()["wait"] <= DAY
    world.gateway.answers[RENEW] = issues(world.ca)
    assert "ends soon" in world.device.fails("run"), "it waits, and that is not well"
    assert world.device.told == ["imported"]
    clock.set(DAY + 60)
    world.device.good("run")
    assert world.device.told == ["imported", "renewed"]


def test_waiting_with_a_certificate_that_has_ended_is_no_success(world, clock):
    world.imported(begin=-300, end=1)
    world.gateway.answers[RENEW] = (503, {"Retry-After": "1000"}, b"")
    assert "ends soon" in world.device.fails("run")
    clock.set(2 * DAY)
    for _ in range(2):
        assert "certificate has ended" in world.device.fails("run")
    assert world.asked(RENEW) == 2


def test_a_date_to_wait_for(world, clock):
    world.imported(begin=-300, end=40)
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
    world.gateway.answers[RENEW] = (503, {"Retry-After": at.strftime("%a, %d %b %Y %H:%M:%S GMT")}, b"")
    world.device.fails("run", status=NOT_YET)
    assert 7000 < world.device.remembered()["wait"] <= 7200


# --- keys --------------------------------------------------------------------------------------------------------------------------------------------------


def test_a_key_of_the_server_without_its_certificate_is_nobody_s(enrolling):
    """The power went between the two files that POST /devices gave: what is left is no key of the device's own."""
    w, made = enrolling, new_key()
    w.gateway.answers[ENROL] = (503, {}, b"")
    w.device.fails("run", *w.options, status=NOT_YET)
    (w.device.dir / "identity-1" / "pkey.pem").write_bytes(key_pem(made))
    w.device.remember(key="server")
    w.gateway.answers[ENROL] = issues(w.ca)
    w.device.good("run", *w.options, "--now")
    assert w.device.identity.key.private_numbers() != made.private_numbers() and w.device.status()["key"] == "own"


# --- anchors, and whoever is no gateway ---------------------------------------------------------------------------------------------------------------------


def offer(world, *certs):
    world.gateway.answers[CACERTS] = certs_only(*certs)
    world.device.remember(anchors_at=0)
    world.device.good("run")
    return [c.subject.rfc4514_string() for c in world.device.anchors]


def test_an_intermediate_ca_makes_itself_no_anchor(world):
    """Its own certificate bounds it, in time, in names, in paths; one that it signs for itself would not."""
    world.imported(begin=-1, end=300)
    partner = Authority("Partner CA")
    for cross in (world.ca.crosses(partner, end=10), world.ca.crosses(partner, path=0), world.ca.crosses(partner, permitted="partner.example"), world.ca.crosses(partner, end=3649, path=0, permitted="a.b")):
        assert offer(world, partner.cert, cross) == ["CN=Server CA"]
    assert offer(world, partner.cert, world.ca.crosses(partner)) == ["CN=Server CA", "CN=Partner CA"], "who may do the same already, for as long"


def test_the_next_key_of_the_same_ca_is_vouched_for_until_the_old_one_ends(world):
    """NewWithOld as RFC 4210 has it: the same name, and no longer than the old certificate."""
    world.imported(begin=-1, end=300)
    following = Authority(end=9000)
    assert offer(world, following.cert, world.ca.crosses(following, path=0)) == ["CN=Server CA"]
    assert offer(world, following.cert, world.ca.crosses(following, end=10)) == ["CN=Server CA"] * 2


def test_what_bounds_an_anchor_bounds_what_it_vouches_for(device, tmp_path):
    world = World(device, tmp_path)
    world.ca = Authority(path=0, permitted="localhost")
    world.gateway.close()
    world.gateway = Gateway(named_server(world.ca), {USE: ADMITTED, RENEW: issues(world.ca)})
    world.imported(begin=-1, end=300)
    for wide in (Authority(), Authority(path=0), Authority(permitted="localhost"), Authority(path=0, permitted="example"), Authority("Another", path=0, permitted="localhost")):
        assert offer(world, wide.cert, world.ca.crosses(wide)) == ["CN=Server CA"]
    same = Authority(path=0, permitted="localhost")
    assert offer(world, same.cert, world.ca.crosses(same, path=0, permitted="localhost")) == ["CN=Server CA"] * 2
    world.gateway.close()


def test_a_server_s_next_ca_is_taken_over(fresh, device):
    """Muster's own rotation: the same name, certified by the former one until that ends; and the server knows who has it."""
    s = fresh()
    s.account("fleet", "test", "shared")
    device.good("provision", "--credentials", s.key("fleet").zip, "--device-id", "rotates-1")
    s.muster("server-ca", "rotate", "--yes")
    device.remember(anchors_at=0)
    device.good("run")
    assert [c.subject.rfc4514_string() for c in device.anchors] == ["CN=Muster server CA"] * 2
    assert device.anchors[0] != device.anchors[1] and device.explain()["verdict"] == "admitted"


def test_an_anchor_of_clients_vouches_for_nobody(world, clock):
    """root.crt may hold more than it should."""
    world.imported(begin=-1, end=300)
    clients, evil = Authority("Client CA", ekus=(CLIENT_AUTH,)), Authority("Evil CA")
    root = world.device.dir / "current" / "root.crt"
    root.write_bytes(root.read_bytes() + clients.pem())
    assert offer(world, evil.cert, clients.crosses(evil)) == ["CN=Server CA", "CN=Client CA"]
    to_1970(clock)
    signer = clients.device("signer")
    signer.cert = clients.sign(name("time signer"), signer.key, (TIME_STAMPING,), end=7)
    world.gateway.answers["GET", "/time"] = Teller(clients, signer=signer)
    assert "an anchor of this device" in world.device.fails("run")


def named_server(ca, ekus=(SERVER_AUTH,), sans=(x509.DNSName("localhost"),), cn="localhost"):
    key = new_key()
    return Identity(ca.sign(name(cn), key, ekus, sans=sans), key)


@pytest.mark.parametrize("wrong", [{"ekus": ()}, {"ekus": (CLIENT_AUTH,)}, {"sans": ()}, {"sans": (x509.UniformResourceIdentifier("urn:x"),)}], ids=["no-eku", "client", "cn-alone", "uri"])
def test_a_device_of_the_fleet_is_no_gateway(device, tmp_path, wrong):
    """A CA without an extended key usage may have signed both."""
    ca = Authority("Fleet CA", ekus=())
    fake = Gateway(named_server(ca, **wrong), {ENROL: issues(ca), USE: ADMITTED})
    said = device.run("run", "--credentials", shared(tmp_path / "shared", fake.url, ca), "--device-id", "car-1")
    assert said.returncode == 1 and "is not accepted" in said.stderr and fake.asked == []
    fake.close()


def test_of_a_pkcs12_only_cas_become_anchors(device, tmp_path):
    ca = Authority()
    leaf = ca.device("somebody")
    gateway = Gateway(ca.server(), {ENROL: issues(ca), USE: ADMITTED})
    at = shared(tmp_path / "shared", gateway.url, ca)
    key = Authority("Provisioning", ekus=(CLIENT_AUTH,)).device("provisioning key")
    (at / "server_ca.pem").unlink()
    (at / "autoprov_credentials.p12").write_bytes(pkcs12.serialize_key_and_certificates(b"key", key.key, key.cert, [leaf.cert, ca.cert], NoEncryption()))
    device.good("run", "--credentials", at, "--device-id", "car-1")
    assert [c.subject.rfc4514_string() for c in device.anchors] == ["CN=Server CA"]
    gateway.close()


def test_the_gateway_learns_who_has_seen_its_anchors(device, tmp_path):
    ca, seen = Authority("Both", ekus=()), []

    def cacerts(request, body):
        seen.append(request.connection.getpeercert())
        return certs_only(ca.cert)

    gateway = Gateway(named_server(ca), {USE: ADMITTED, CACERTS: cacerts}, client_ca=ca)
    device.good("provision", "--credentials", own(tmp_path / "import", ca.device(), ca.pem(), gateway.url))
    device.good("run")
    assert [dict(rdn[0] for rdn in s["subject"]) for s in seen] == [{"commonName": "car-1"}]
    gateway.close()


# --- answers that prove nothing -----------------------------------------------------------------------------------------------------------------------------

NO_ANSWERS = [(200, {}, b"<html>"), (204, {}, b""), (302, {"Location": "https://localhost/login"}, b""), (404, {}, b""), (405, {}, b""), (405, {"Allow": "GET, HEAD, POSTS"}, b""), (407, {}, b""), (408, {}, b""),
              (410, {}, b""), (425, {}, b""), (451, {}, b"")]


def test_only_what_proves_it_is_admission(enrolling):
    w = enrolling
    for answer in NO_ANSWERS:
        w.gateway.answers[USE] = answer
        assert "neither that it admits this device" in w.device.fails("run", *w.options, "--now", status=NOT_YET), answer
        assert not (w.device.dir / "current").exists() and (w.top / "shared" / "autoprov_credentials.p12").exists() and w.asked(ENROL) == 1
    w.gateway.answers[USE] = refusal(404, "account_unknown")
    assert "(account_unknown)" in w.device.fails("run", *w.options, "--now")
    w.gateway.answers[USE] = (405, {"allow": "OPTIONS,POST"}, b"")
    w.device.good("run", *w.options)
    for answer in NO_ANSWERS:
        w.gateway.answers[USE] = answer
        said = w.device.explain()
        assert (said["verdict"], said["side"]) == ("unknown", "gateway"), answer
    w.gateway.answers[USE] = refusal(404, "account_unknown")
    assert w.device.explain()["verdict"] == "refused"


def test_a_certificate_of_another_device(enrolling):
    w = enrolling

    def another(request, body):
        csr = x509.load_der_x509_csr(base64.b64decode(body))
        return certs_only(w.ca.sign(name("somebody-else"), Holder(csr.public_key()), (CLIENT_AUTH,), end=300))

    w.gateway.answers[ENROL] = another
    assert "is of the device somebody-else, and not of car-1" in w.device.fails("run", *w.options)
    assert w.asked(USE) == 0 and not (w.device.dir / "current").exists()
    w.gateway.answers.update({ENROL: issues(w.ca), RENEW: another})
    w.device.good("run", *w.options)
    before = w.device.serial
    w.device.fails("run", "--now")
    assert w.device.serial == before


def test_a_gateway_s_word_is_no_wrong_usage(enrolling):
    w = enrolling
    w.gateway.answers[ENROL] = refusal(400, "config_invalid")
    assert "config_invalid" in w.device.fails("run", *w.options) + w.device.status()["failed"]["code"]


# --- hooks and commands --------------------------------------------------------------------------------------------------------------------------------------


def test_hooks_wait_for_the_renewal_and_miss_no_change(world):
    world.device.hook('[ -e "$MUSTER_AGENT_DIR/../ready" ] || { echo "$1" >> "$MUSTER_AGENT_DIR/../failed"; exit 3; }\n', "20-second")
    world.put()
    world.device.fails("provision", "--credentials", world.top / "import")
    world.device.fails("run")
    tried = (world.device.top / "failed").read_text().split()
    assert tried == ["imported", "imported"] and world.asked(RENEW) == 1 and world.device.told == ["imported", "imported"], "once a pass"
    (world.device.top / "ready").write_text("")
    world.device.good("run")
    assert world.device.told == ["imported"] * 3 + ["renewed"] and not world.device.status()["hooks_due"]


def test_hooks_in_a_directory_of_everybody_are_not_run(world):
    world.put(end=300)
    world.device.hooks.chmod(0o777)
    assert "may write to that directory" in world.device.fails("provision", "--credentials", world.top / "import")
    assert world.device.told == [] and world.device.status()["hooks_due"] and world.device.status()["state"] == "provisioned"
    world.device.hooks.chmod(0o755)
    world.device.good("run")
    assert world.device.told == ["imported"]


def test_what_a_hook_prints_is_no_json(world):
    world.device.hook('echo spoken; cat\n', "20-second")
    world.put(end=300)
    done = world.device.run("provision", "--credentials", world.top / "import", "--json", input="not for a hook")
    assert json.loads(done.stdout)["state"] == "provisioned" and "spoken" in done.stderr and "not for a hook" not in done.stderr


def test_a_hook_that_fails_is_heard_where_children_are_ignored(world):
    world.device.hook("exit 3\n", "20-second")
    world.put(end=300)
    world.device.fails("provision", "--credentials", world.top / "import", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert world.device.status()["hooks_due"]


def test_a_command_has_its_caller_s_mask(world):
    world.imported(end=300)
    assert world.device.good("exec", "--", "sh", "-c", "umask", preexec_fn=lambda: os.umask(0o077)).strip().endswith("077")


# --- many devices, and what is told of one ---------------------------------------------------------------------------------------------------------------------


def test_a_fleet_does_not_look_for_anchors_at_once(tmp_path, clock):
    """All of them have looked at the same moment, as after an outage; the next time they do not."""
    ca = Authority()
    gateway = Gateway(ca.server(), {USE: ADMITTED, CACERTS: certs_only(ca.cert)})
    fleet = [Agent(tmp_path / f"d{i}", env=clock.env) for i in range(6)]
    for i, d in enumerate(fleet):
        d.good("provision", "--credentials", own(tmp_path / f"import{i}", ca.device(f"car-{i}"), ca.pem(), gateway.url))
        d.good("run")
    looked = []
    for hour in (17, 24, 31):
        clock.set(hour * HOUR)
        for d in fleet:
            d.good("run")
        looked.append(gateway.paths().count(CACERTS))
    assert looked[0] == 6 < looked[1] < looked[2] == 12
    gateway.answers[CACERTS] = (500, {}, b"")
    clock.set(80 * HOUR)
    for _ in range(3):
        fleet[0].run("run")
    assert gateway.paths().count(CACERTS) == 13, "nor at every pass where it fails"
    gateway.close()


# --- after an outage -------------------------------------------------------------------------------------------------------------------------------------------


def passes(world, clock, at, *what):
    """One pass just before the time that it gives the gateway, in which nothing is asked, and one just after; how long it waits from then on."""
    before = world.asked(*what)
    left = world.device.remembered()["asking_at"] + world.device.remembered()["asking_wait"] - int(time.time()) - at
    clock.set(at + left - 150)
    assert "is left alone for" in world.device.fails("run", status=NOT_YET) and world.asked(*what) == before
    clock.set(at + left + 5)
    world.device.fails("run", status=NOT_YET)
    assert world.asked(*what) == before + 1
    return at + left + 5, world.device.remembered()["asking_wait"]


@pytest.mark.parametrize("answer", [(503, {"Retry-After": "soon"}, b""), None], ids=["503", "cut"])
def test_an_outage_is_asked_into_less_and_less(world, clock, answer):
    """Whatever goes on beside it: each device in its own time, until it is over."""
    world.imported(begin=-2000, end=300)
    world.gateway.answers[RENEW] = (lambda *_: None) if answer is None else answer
    world.gateway.answers[CACERTS] = (500, {}, b"")
    world.device.fails("run", status=NOT_YET)
    at, waits = 0, [world.device.remembered()["asking_wait"]]
    for _ in range(8):
        at, wait = passes(world, clock, at, *RENEW)
        waits.append(wait)
    means = [min(600 * 2**i, DAY) for i in range(9)]
    assert all(mean / 2 <= wait <= mean * 3 / 2 for mean, wait in zip(means, waits)), waits
    assert len({wait / mean for mean, wait in zip(means, waits)}) > 4, "a device is not always the first of its fleet"
    assert 4 <= world.asked(*CACERTS) <= 7, "which fails beside it, and for itself"
    world.gateway.answers[RENEW] = issues(world.ca)
    clock.set(at + waits[-1] + 30)
    world.device.run("run")
    assert world.device.told == ["imported", "renewed"] and world.device.remembered()["asking_failures"] == 0


def test_no_outage_outlasts_what_the_certificate_allows(world, clock):
    world.imported(begin=-300, end=2)
    world.gateway.answers[RENEW] = (503, {}, b"")
    for _ in range(9):
        world.device.fails("run", "--now")
    assert 4 * HOUR < world.device.remembered()["asking_wait"] * 4 <= 2 * DAY, "a quarter of what is left, at the most"
    clock.set(5 * DAY // 2)
    assert "has ended" in world.device.fails("run")
    assert HOUR / 2 <= world.device.remembered()["asking_wait"] <= HOUR * 3 / 2, "who is out does not wait for long"


def test_who_asks_by_hand_does_not_wait(enrolling):
    w = enrolling
    w.gateway.answers[ENROL] = (500, {}, b"")
    for _ in range(2):
        w.device.fails("run", *w.options, status=NOT_YET)
    assert w.asked(ENROL) == 1 and "asks_again_at" in w.device.status()
    for verb, *how in (("run", "--now"), ("provision",)):
        w.device.fails(verb, *w.options, *how, status=NOT_YET)
    assert w.asked(ENROL) == 3
    w.gateway.answers[ENROL] = issues(w.ca)
    w.device.good("provision", *w.options)
    assert "asks_again_at" not in w.device.status()


def test_another_gateway_is_asked_at_once(enrolling):
    w, there = enrolling, Gateway(enrolling.ca.server(), {ENROL: issues(enrolling.ca), USE: ADMITTED})
    w.gateway.close()
    for _ in range(2):
        assert "(network_failed)" in w.device.fails("run", *w.options, "--now", status=NOT_YET)
    assert "has failed (2 in a row), and is left alone for" in w.device.fails("run", *w.options, status=NOT_YET)
    w.device.good("run", *w.options, "--gateway", there.url)
    there.close()


def test_a_device_without_a_network_burdens_nobody(enrolling):
    """And comes soon after it has one again."""
    w = enrolling
    for _ in range(6):
        w.device.fails("run", *w.options, "--gateway", "https://gateway.invalid", "--now", status=NOT_YET)
    assert 300 <= w.device.remembered()["asking_wait"] <= 900


def test_a_stranger_is_left_alone_and_stays_a_failure(enrolling):
    w, asked = enrolling, []
    stranger = Gateway(Authority("Another").server(), {})
    for _ in range(3):
        asked.append(w.device.fails("run", *w.options, "--gateway", stranger.url))
    assert "is left alone for" not in asked[0] and all("is left alone for" in a and "(tls_client_rejected_server)" in a for a in asked[1:])
    stranger.close()


def test_a_clock_of_1970_in_an_outage(world, clock):
    """Devices without a clock of their own ask for the time before anything else."""
    world.imported(begin=-1, end=300)
    to_1970(clock)
    world.gateway.answers["GET", "/time"] = (502, {}, b"")
    for _ in range(3):
        world.device.fails("run", status=NOT_YET)
    assert world.asked("GET", "/time") == 1
    there = Gateway(world.ca.server(), {("GET", "/time"): Teller(world.ca), USE: ADMITTED, CACERTS: certs_only(world.ca.cert)})
    world.device.good("run", "--gateway", there.url + "/")
    assert world.device.status()["gateway"] == there.url, "and one that has moved may be the only one that tells it"
    there.close()


def test_a_clock_that_is_set_within_the_pass(enrolling, clock):
    """By whatever else sets a device's clock, between the gateway's word on the time and its answer: the step counts once."""
    w, issue = enrolling, issues(enrolling.ca)
    to_1970(clock)

    def stepped(request, body):
        clock.set(0)
        return issue(request, body)

    w.gateway.answers.update({("GET", "/time"): Teller(w.ca), ENROL: stepped})
    w.device.good("run", *w.options)
    assert abs(w.device.remembered()["newest_time"] - time.time()) < 300 and abs(w.device.remembered()["contact_at"] - time.time()) < 300
    assert w.device.status()["state"] == "provisioned" and not w.device.status()["clock_behind"]


def aborted(device, at, *words):
    """Whether that leaves a core, which would have all of its memory, once it is aborted where the gateway is asked."""
    env = {**device.env, "ASAN_OPTIONS": ":".join(filter(None, [device.env.get("ASAN_OPTIONS"), "disable_coredump=0"]))}  # a sanitised build forbids them by itself
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.chdir(device.top)
        os.execve(words[0], [str(w) for w in words], env)
    at.append(pid)
    return os.WCOREDUMP(os.waitpid(pid, 0)[1])


def test_no_core_has_the_key_in_it(enrolling):
    """But what `exec` runs is as its caller wants it."""
    w, pids = enrolling, []

    def abort(request, body):
        soon(True, lambda: bool(pids))
        os.kill(pids[0], signal.SIGABRT)
        return None

    if not aborted(w.device, [], "/bin/sh", "-c", "kill -ABRT $$"):
        pytest.skip("this machine writes no cores")
    w.gateway.answers[ENROL] = abort
    assert not aborted(w.device, pids, *w.device.command("run", *w.options)) and w.asked(ENROL) == 1
    w.gateway.answers[ENROL] = issues(w.ca)
    w.device.good("run", *w.options)
    assert aborted(w.device, [], *w.device.command("exec", "--", "/bin/sh", "-c", "kill -ABRT $$"))


def test_what_a_kill_left_is_removed(world):
    world.imported(end=300)
    for left in (world.device.dir / "current" / "pkey.pem.tmp-0123abcd", world.device.dir / "state.json.tmp-0123abcd"):
        left.write_bytes(b"half a key")
    world.device.good("run")
    assert not list(world.device.dir.glob("**/*.tmp-*")) and len(list((world.device.dir / "current").iterdir())) == 4


def test_whose_certificate_is_refused_in_tls(device, tmp_path):
    ca, other = Authority("Both", ekus=()), Authority("Another", ekus=())
    gateway = Gateway(named_server(ca), {USE: ADMITTED}, client_ca=ca)
    device.good("provision", "--credentials", own(tmp_path / "import", ca.device(), ca.pem(), gateway.url))
    gateway.close()
    strict = Gateway(named_server(ca), {USE: ADMITTED}, client_ca=other)
    (device.dir / "current" / "gateway.url").write_text(strict.url)
    said = device.explain()
    assert (said["verdict"], said["side"], said["code"]) == ("refused", "gateway", "certificate_refused") and "unknown ca" in said["reason"]
    strict.close()
    elsewhere = Gateway(named_server(ca, sans=(x509.DNSName("elsewhere.example"),)), {USE: ADMITTED})
    (device.dir / "current" / "gateway.url").write_text(elsewhere.url)
    said = device.explain()
    assert (said["verdict"], said["side"], said["code"]) == ("refused", "device", "gateway_untrusted")
    elsewhere.close()


def test_credentials_of_old(enrolling):
    """RC2 with 40 bits for the certificates, 3DES for the key: what stock backends hand out."""
    w = enrolling
    key, at = Authority("Provisioning", ekus=(CLIENT_AUTH,)).device("provisioning key"), w.top / "shared"
    subprocess.run(["openssl", "pkcs12", "-export", "-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES", "-passout", "pass:", "-inkey", key.key_file, "-in", key.cert_file,
                    "-out", at / "autoprov_credentials.p12"], check=True, capture_output=True)
    w.device.good("provision", *w.options)
    assert w.device.status()["state"] == "provisioned"

"""muster-sim against a real server: every way in, polling, renewal, a second run with the same devices, misbehaviour; and whom it does not load."""
import csv
import datetime
import email.utils
import json
import os
import signal
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent import ADMITTED, EST, Authority, Gateway, issues, shared
from client import Fleet, spki_hash
from conftest import BUILD, MUSTER, Server

SIM = BUILD / "src" / "muster-sim"
LET_IN = "405 method_not_allowed"  # what polling gets: Muster's own answer to whoever is let in


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One with a short line for enrolments, so that devices are told to come again."""
    s = Server(tmp_path_factory.mktemp("sim") / "data", config=["enrolments = 8"]).start()
    s.account("fleet", "production", "both")
    s.zip = s.dir.parent / "credentials.zip"
    s.muster("key", "create", "--account", "fleet", "--name", "sim", "-o", s.zip)
    yield s
    s.stop()


def call(*args, status=0, program=(SIM,)):
    done = subprocess.run([str(a) for a in [*program, *args]], capture_output=True, text=True, timeout=300, env={**os.environ, "no_proxy": "*"})
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def sim(*args, status=0, program=(SIM,)):
    """The report, each step by its name, or a list of them where one comes twice."""
    said = json.loads(call(*args, "--json", status=status, program=program).stdout)
    said["by"] = {}
    for step in said["steps"] + said["misbehaviour"]:
        said["by"].setdefault(step["name"], step)
        assert sum(step["results"].values()) <= step["requests"] + step.get("failed", 0)
        assert step["latency"]["p50_us"] <= step["latency"]["p99_us"] <= step["latency"]["max_us"]
    return said


def gateway(server): return ["--gateway", f"https://localhost:{server.port}", "--ca", server.dir / "server-ca.pem"]
def states(server): return {d["device_id"]: d for d in server.muster("device", "list", "--account", "fleet")}
def spent(server): return server.muster("key", "show", "sim", "--account", "fleet")["devices"]


@pytest.fixture(scope="module")
def codes(server):
    path = server.dir.parent / "codes.csv"
    path.touch(0o600)
    rows = [(f"code-{i}", server.muster("device", "invite", f"code-{i}", "--account", "fleet")["code"]) for i in range(1, 6)]
    path.write_text("device_id,code\n" + "".join(f"{a},{b}\n" for a, b in rows))
    return path


@pytest.fixture(scope="module")
def issued(server):
    """What `muster ca` made of a list, under a root that the account has."""
    top = server.dir.parent
    (top / "passphrase").touch(0o600)
    (top / "passphrase").write_text("correct horse battery\n")
    (top / "ids").write_text("".join(f"made {i}/x\n" for i in range(1, 21)))
    ca = lambda *args: subprocess.run([str(a) for a in [MUSTER, "ca", *args, "--ca", top / "ca", "--passphrase-file", top / "passphrase"]], check=True, capture_output=True, timeout=120)
    ca("init", "--intermediate")
    root = server.muster("root", "upload", top / "ca" / "root.pem", "--account", "fleet")
    ca("prove", root["challenge"], "-o", top / "proof.pem")
    server.muster("root", "prove", root["id"], top / "proof.pem")
    ca("issue", "--from", top / "ids", "-o", top / "issued")
    return top / "issued"


# --- every way in ------------------------------------------------------------------------------------------------------------------------


def test_by_est_and_on_with_the_same_devices(server, tmp_path):
    state = tmp_path / "state"
    said = sim("enrol", "poll", "renew", "--credentials", server.zip, "--devices", 120, "--prefix", "est", "--over", "1s", "--for", "500ms", "--every", "10s", "--state", state)
    enrol, poll, renew = said["steps"]
    assert (said["devices"], enrol["done"], enrol["failed"], enrol["unfinished"], enrol["results"]["200"]) == (120, 120, 0, 0, 120)
    assert poll["results"] == {LET_IN: poll["requests"]} and 0 < poll["done"] <= 120 and poll["duration_us"] >= 500000
    assert (renew["done"], renew["results"][LET_IN], renew["results"]["200"]) == (120, 120, 120) and renew["busiest_second"] <= renew["requests"]
    have = states(server)
    assert all(have[f"est-{i}"]["state"] == "active" for i in range(1, 121)) and spent(server) == 120
    files = sorted(state.iterdir())
    assert len(files) == 120 and all(f.stat().st_mode & 0o777 == 0o600 for f in files) and state.stat().st_mode & 0o777 == 0o700
    # What the file has is what the registry has, also after the renewal.
    for f in files[:3]:
        cert = x509.load_pem_x509_certificate(f.read_bytes()[f.read_bytes().index(b"-----BEGIN CERT"):])
        key = serialization.load_pem_private_key(f.read_bytes()[:f.read_bytes().index(b"-----BEGIN CERT")], None)
        assert spki_hash(cert) == spki_hash(key) and server.muster("device", "show", f.stem, "--account", "fleet")["certificates"][0]["state"] == "current"
    # A second run enrols nobody, and goes on with the same keys.
    said = sim("enrol", "renew", "--state", state, *gateway(server), "--workers", 4, "--same-key")
    enrol, renew = said["steps"]
    assert (said["devices"], enrol["done"], enrol["requests"], renew["done"], renew["failed"]) == (120, 120, 0, 120, 0)
    assert spent(server) == 120


def test_by_devices_as_a_stock_client(server):
    said = sim("enrol", "poll", "--credentials", server.zip, "--method", "devices", "--devices", 60, "--prefix", "stock", "--workers", 6, "--for", "300ms")
    enrol, poll = said["steps"]
    assert (enrol["done"], enrol["failed"], enrol["results"]["200"]) == (60, 0, 60)
    assert poll["results"] == {LET_IN: poll["requests"]} and poll["requests"] > 10  # closed: as fast as answers come
    assert states(server)["stock-60"]["method"] == "shared"


def test_with_codes_and_with_certificates_of_a_fleet_ca(server, codes, issued):
    said = sim("enrol", "poll", "--codes", codes, "--issued", issued, "--account", "fleet", *gateway(server), "--for", "200ms", "--poisson", "--over", "200ms")
    enrol, poll = said["steps"]
    assert (said["devices"], enrol["done"], enrol["failed"], enrol["results"]) == (25, 25, 0, {"200": 5, LET_IN: 20})
    have = states(server)
    assert have["made 3/x"]["method"] == "device" and have["code-5"]["method"] == "shared"
    # The customer's CA alone renews what it has signed: said so, and the run has failed.
    said = sim("renew", "--issued", issued, *gateway(server), status=1)
    assert (said["by"]["renew"]["failed"], said["by"]["renew"]["results"]) == (20, {"403 certificate_of_fleet_ca": 20})


def test_ids_that_are_no_names_of_files_are_kept_too(server, issued, tmp_path):
    state = tmp_path / "state"
    said = sim("enrol", "--credentials", server.zip, "--devices", 3, "--prefix", "../ a%/ü", "--state", state)
    assert said["by"]["enrol"]["done"] == 3 and len(list(state.iterdir())) == 3 and "../ a%/ü-2" in states(server)
    said = sim("poll", "--state", state, *gateway(server), "--for", "100ms")
    assert (said["devices"], said["by"]["poll"]["failed"]) == (3, 0)


# --- told to wait ---------------------------------------------------------------------------------------------------------------------------


def test_whoever_is_told_to_wait_comes_when_he_was_told_to(server):
    said = sim("enrol", "--credentials", server.zip, "--devices", 80, "--prefix", "patient")
    enrol = said["by"]["enrol"]
    assert (enrol["done"], enrol["failed"], enrol["results"]["200"]) == (80, 0, 80)
    postponed = sum(n for what, n in enrol["results"].items() if what.split()[0] in ("429", "503"))
    assert enrol["postponed"] == postponed > 0 and enrol["requests"] == 80 + postponed
    assert enrol["served"]["max_us"] >= 1000000, "nobody who was told to wait came before the second that it is told at least"


def test_approval_and_giving_up(server):
    server.muster("account", "set", "fleet", "--approval", "yes")
    try:
        patient, hasty = (sim("enrol", "--credentials", server.zip, "--devices", 3, "--prefix", "waits", "--give-up", "2s", *more, status=1)["by"]["enrol"] for more in ([], ["--impatient"]))
    finally:
        server.muster("account", "set", "fleet", "--approval", "no")
    # Five minutes are longer than it has patience for; whoever does not wait asks again and again.
    assert (patient["failed"], patient["requests"], patient["postponed"]) == (3, 3, 0) and all(what.startswith("202 ") for what in patient["results"])
    assert hasty["failed"] == 3 and hasty["requests"] > 3 and hasty["postponed"] == hasty["requests"] - 3


# --- what does a gateway no good ------------------------------------------------------------------------------------------------------------


def test_misbehaviour_gets_its_codes_and_others_go_on(server):
    kinds = ("wrong-id", "clone", "storm", "impatient", "huge-body", "broken-tls", "slow-read")
    said = sim("enrol", "poll", "--credentials", server.zip, "--devices", 30, "--prefix", "mixed", "--for", "2500ms", "--every", "1s", "--over", "1s", *[a for k in kinds for a in ("--misbehave", f"{k}=2")])
    enrol, poll = said["steps"]
    assert (enrol["done"], poll["devices"], poll["failed"]) == (30, 16, 0) and set(poll["results"]) == {LET_IN}
    bad = {m["name"]: m for m in said["misbehaviour"]}
    assert set(bad) == set(kinds) and all(m["devices"] == 2 and "done" not in m for m in bad.values())
    assert set(bad["wrong-id"]["results"]) == {"400 csr_invalid"}
    assert set(bad["clone"]["results"]) == {"403 device_key_elsewhere"}
    assert set(bad["huge-body"]["results"]) == {"413 body_too_large"}
    assert set(bad["broken-tls"]["results"]) <= {"closed"} and bad["broken-tls"]["requests"] >= 1
    assert set(bad["slow-read"]["results"]) <= {"closed", "timed out"} and bad["slow-read"]["requests"] >= 2
    assert bad["storm"]["requests"] >= 2 and set(bad["storm"]["results"]) <= {LET_IN, "429 too_many_requests"}
    assert server.muster("audit", "verify", "--account", "fleet")["ok"]


def test_one_that_is_cut_off_is_counted_as_such(server, tmp_path):
    state = tmp_path / "state"
    sim("enrol", "--credentials", server.zip, "--devices", 2, "--prefix", "barred", "--state", state)
    server.muster("device", "quarantine", "barred-1", "--account", "fleet")
    poll = sim("poll", "--state", state, *gateway(server), "--workers", 2, "--for", "500ms", status=1)["by"]["poll"]
    refused = {what: n for what, n in poll["results"].items() if what.startswith("403 ")}
    assert set(poll["results"]) == {LET_IN, *refused} and len(refused) == 1 and sum(refused.values()) >= 1
    said = sim("poll", "--credentials", server.zip, "--devices", 2, "--prefix", "nobody", "--for", "100ms", status=1)
    assert said["by"]["poll"]["results"] == {"no certificate": 2} and said["by"]["poll"]["requests"] == 0


def test_a_run_that_is_killed_loses_no_device(server, tmp_path):
    """Each is kept as it comes, however long the step goes on; a directory that was there is no business of its."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o1777)
    words = ["enrol", "--credentials", server.zip, "--devices", 6, "--prefix", "killed", "--state", state]
    assert "Others than its owner may write" in call(*words, status=1).stderr
    assert state.stat().st_mode & 0o7777 == 0o1777 and not list(state.iterdir())
    state.chmod(0o755)
    running = subprocess.Popen([str(a) for a in [SIM, *words, "--devices", 1000, "--over", "10m"]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(list(state.glob("*.pem"))) < 2:
        assert time.monotonic() < end and running.poll() is None
        time.sleep(0.05)
    running.kill()
    running.wait(timeout=60)
    assert state.stat().st_mode & 0o7777 == 0o755
    said = sim("renew", "--state", state, *gateway(server))["by"]["renew"]
    assert said["done"] >= 2 and said["failed"] == 0 and all(p.stat().st_mode & 0o777 == 0o600 for p in state.glob("*.pem"))


# --- whom it loads, and what it believes ------------------------------------------------------------------------------------------------------


def test_no_other_machine_without_its_owner_s_word(server):
    ca = server.dir / "server-ca.pem"
    there = ["poll", "--credentials", server.zip, "--gateway", f"https://0.0.0.0:{server.port}", "--for", "100ms"]
    for more in ([], ["--my-gateway", "localhost"]):
        done = call(*there, *more, status=2)
        assert "--my-gateway 0.0.0.0" in done.stderr and not done.stdout
    done = call("poll", "--credentials", server.zip, "--gateway", "https://192.0.2.1:8443", status=2)
    assert "192.0.2.1" in done.stderr and "not on this machine" in done.stderr
    said = sim("enrol", *there[1:], "--my-gateway", "0.0.0.0", "--devices", 1, "--give-up", "1s", status=1)
    assert set(said["by"]["enrol"]["results"]) == {"gateway not trusted"}, "by no other name than its certificate has"
    assert ca.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_of_several_addresses_one_where_somebody_listens(server, tmp_path):
    """As Debian's /etc/hosts names ::1 beside 127.0.0.1, and in front of it for whoever asks."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n", encoding="utf-8")
    here = ["unshare", "-m", "sh", "-c", f'mount --bind "{hosts}" /etc/hosts && exec "$0" "$@"', SIM]
    said = sim("enrol", "--credentials", server.zip, *gateway(server)[:2], "--devices", 2, "--prefix", "six", "--give-up", "5s", program=here)
    assert said["by"]["enrol"]["done"] == 2


def test_a_gateway_that_it_cannot_know_gets_nothing(server, tmp_path):
    foreign = tmp_path / "foreign.pem"
    foreign.write_bytes(Fleet().root_pem())
    said = sim("enrol", "--credentials", server.zip, "--ca", foreign, "--devices", 2, "--prefix", "foreign", "--give-up", "1s", status=1)
    assert said["by"]["enrol"]["failed"] == 2 and set(said["by"]["enrol"]["results"]) == {"gateway not trusted"}
    assert "foreign-1" not in states(server)
    nobody = sim("enrol", "--credentials", server.zip, "--gateway", "https://localhost:1", "--give-up", "1s", status=1)
    assert set(nobody["by"]["enrol"]["results"]) == {"unreachable"}


ANSWERS = {
    "a portal": (302, {"Location": "https://portal.example/"}, b""), "a page that is not there": (404, {}, b"no such page"), "no method, and nobody who says which": (405, {}, b""),
}


@pytest.fixture
def half(tmp_path):
    """A gateway of the test's own, and credentials for it."""
    ca = Authority()
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): issues(ca), ("GET", "/devices"): ADMITTED})
    yield gateway, shared(tmp_path / "shared", gateway.url, ca)
    gateway.close()


def chunked(answer, pieces=3):
    """The same answer, as a proxy frames it that does not know its length beforehand: the end of a chunk that looks like the end of all is none."""
    def said(request, body):
        status, fields, data = answer(request, body) if callable(answer) else answer
        data += b"\r\n0\r\n\r\n" if pieces == 1 else b""
        request.send_response(status)
        for k, v in {**fields, "Transfer-Encoding": "chunked", "Connection": "close"}.items():
            request.send_header(k, v)
        request.end_headers()
        size = -(-len(data) // pieces)
        for at in range(0, len(data), size):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(data[at:at + size]), data[at:at + size]))
            request.wfile.flush()
        request.wfile.write(b"0\r\n\r\n")
    return said


def test_what_stands_in_between_lets_nobody_in(half, tmp_path):
    gateway, credentials = half
    state = tmp_path / "state"
    assert sim("enrol", "poll", "--credentials", credentials, "--devices", 2, "--state", state, "--workers", 1, "--for", "100ms")["by"]["poll"]["failed"] == 0
    for what, answer in ANSWERS.items():
        gateway.answers[("GET", "/devices")] = answer
        poll = sim("poll", "--credentials", credentials, "--state", state, "--workers", 1, "--for", "100ms", status=1)["by"]["poll"]
        assert (poll["done"], poll["failed"]) == (0, poll["requests"]) and poll["requests"] > 0, what
    key = next(state.iterdir())
    key.chmod(0o640)
    assert f"{key.name} in the directory of the state can be read by others" in call("poll", "--credentials", credentials, "--state", state, status=1).stderr


def test_answers_in_chunks_and_such_as_are_no_certificate(half):
    gateway, credentials = half
    good = gateway.answers[("POST", EST + "simpleenroll")]
    gateway.answers[("POST", EST + "simpleenroll")] = chunked(good)
    assert sim("enrol", "--credentials", credentials, "--devices", 2)["by"]["enrol"]["done"] == 2
    gateway.answers[("POST", EST + "simpleenroll")] = chunked((200, {}, b"a page"), 1)
    enrol = sim("enrol", "--credentials", credentials, "--devices", 1, status=1)["by"]["enrol"]
    assert enrol["results"] == {"200 without a certificate of the device's key": 1}


@pytest.mark.parametrize("told", ["99999999999", "date"])
def test_a_wait_of_any_length_is_obeyed(half, told):
    """Longer than anybody has patience for: asked once. A date is a time like any other."""
    gateway, credentials = half
    at = email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2), usegmt=True)
    gateway.answers[("POST", EST + "simpleenroll")] = (503, {"Retry-After": at if told == "date" else told}, b"")
    enrol = sim("enrol", "--credentials", credentials, "--devices", 1, "--give-up", "1h", status=1)["by"]["enrol"]
    assert (enrol["requests"], enrol["results"], enrol["failed"]) == (1, {"503": 1}, 1)


def test_what_never_left_the_machine_is_no_request(server, half):
    """With room for a few connections: the others wait for those; nobody is told a latency of what was not sent, or not answered."""
    said = subprocess.run(["prlimit", "--nofile=30:30", SIM, "enrol", "--credentials", server.zip, "--devices", "40", "--prefix", "narrow", "--json"], capture_output=True, text=True, timeout=300,
                          check=False, env={**os.environ, "no_proxy": "*"})
    enrol = json.loads(said.stdout)["steps"][0]
    assert said.returncode == 0 and (enrol["done"], enrol["failed"], enrol["not_sent"]) == (40, 0, 0), said.stdout
    gateway, credentials = half
    gateway.close()
    gone = sim("enrol", "--credentials", credentials, "--devices", 2, "--give-up", "1s", status=1)["by"]["enrol"]
    assert set(gone["results"]) == {"unreachable"} and gone["latency"]["max_us"] == 0


@pytest.mark.parametrize("args, says", [
    ((), "enrol, poll or renew"), (("enrol",), "There are no devices"), (("walk",), "no step"), (("enrol", "--credentials", "x", "--devices", "0"), "between 1 and"),
    (("enrol", "--credentials", "x", "--every", "soon"), "length of time"), (("enrol", "--credentials", "x", "--misbehave", "storm"), "KIND=N"), (("enrol", "--nothing"), "not an option"),
    (("enrol", "--credentials", "x", "--method", "magic"), "est or devices"), (("enrol", "--codes", "x", "--devices", "3"), "--devices"), (("enrol", "--json=yes"), "takes no value"),
])
def test_wrong_usage_says_what_is_wrong(args, says):
    assert says in call(*args, status=2).stderr


def test_more_that_misbehave_than_there_are(server):
    assert "there are 2 devices" in call("poll", "--credentials", server.zip, "--devices", 2, "--misbehave", "storm=3", status=2).stderr


def test_files_that_are_not_as_they_should_be(server, tmp_path):
    (tmp_path / "open.csv").write_text("a,b\n")
    (tmp_path / "open.csv").chmod(0o644)
    assert "open.csv" in call("enrol", "--codes", tmp_path / "open.csv", *gateway(server), status=1).stderr
    (tmp_path / "open.csv").write_text("only-one-cell\n")
    (tmp_path / "open.csv").chmod(0o600)
    assert "line 1" in call("enrol", "--codes", tmp_path / "open.csv", *gateway(server), status=1).stderr
    (tmp_path / "empty").mkdir()
    assert "muster ca issue" in call("enrol", "--issued", tmp_path / "empty", *gateway(server), status=1).stderr
    assert "no devices" in call("poll", "--state", tmp_path / "empty", *gateway(server), status=1).stderr
    (tmp_path / "empty" / "x.pem").write_text("nothing")
    assert "x.pem" in call("poll", "--state", tmp_path / "empty", *gateway(server), status=1).stderr


def test_a_signal_ends_it_with_what_came_of_it(server, tmp_path):
    running = subprocess.Popen([str(a) for a in [SIM, "enrol", "poll", "--credentials", server.zip, "--devices", 5, "--prefix", "cut", "--state", tmp_path / "state", "--for", "1h", "--every", "100ms", "--json"]],
                               stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("state/*"))) < 5:  # saved behind the first step
        assert time.monotonic() < end and running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said = json.loads(running.communicate(timeout=60)[0])
    assert running.returncode == 1 and said["cut_short"] is True and said["steps"][1]["unfinished"] == 5


def test_for_people(server):
    said = call("enrol", "--credentials", server.zip, "--devices", 2, "--prefix", "people").stdout
    assert said.startswith("enrol       2 devices, ") and "2 done, 0 failed" in said and "  200\n" in said

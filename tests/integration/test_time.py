"""GET /time: a time that a device without a clock can hold against its anchor."""
import base64
import datetime
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from client import Fleet, spki_hash
from conftest import soon
from est import Holder
from test_clock import DAY, HOUR, Clock

UTC = datetime.timezone.utc
NONCE = "00112233445566778899aabbccddeeff"


def ask(gateway, nonce=NONCE):
    return gateway.get(f"/time?nonce={nonce}")


def told(answer):
    return None if answer.status == 200 else (answer.status, answer.code)


class Said:
    """A good answer, judged as a device does that has nothing but the anchor."""

    def __init__(self, answer, server, nonce=NONCE):
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/json" and answer.headers["Cache-Control"] == "no-store", answer
        self.json = answer.json
        assert list(self.json) == ["time", "nonce", "signature", "certificate"] and self.json["nonce"] == nonce.lower()
        self.cert = x509.load_der_x509_certificate(base64.b64decode(self.json["certificate"], validate=True))
        self.at = datetime.datetime.strptime(self.json["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        anchor = x509.load_pem_x509_certificate((server.dir / "server-ca.pem").read_bytes())
        assert self.cert.issuer == anchor.subject
        anchor.public_key().verify(self.cert.signature, self.cert.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
        assert self.cert.not_valid_before.replace(tzinfo=UTC) <= self.at <= self.cert.not_valid_after.replace(tzinfo=UTC)
        self.verify(self.json["time"], nonce.lower())

    def verify(self, at, nonce):
        self.cert.public_key().verify(base64.b64decode(self.json["signature"], validate=True), f"Muster time 1\n{at}\n{nonce}\n".encode(), ec.ECDSA(hashes.SHA256()))

    @property
    def key(self):
        return spki_hash(Holder(self.cert))


# --- what is answered -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_whoever_has_no_certificate_learns_the_time(server, tls):
    said = Said(ask(server.gateway(tls=tls)), server)
    assert abs((said.at - datetime.datetime.now(UTC)).total_seconds()) < 10
    for at, nonce in ((said.json["time"], "ff" * 16), ("2020-01-01T00:00:00Z", NONCE), (said.json["time"], NONCE + "00")):
        with pytest.raises(InvalidSignature):
            said.verify(at, nonce)
    other = Said(ask(server.gateway(tls=tls), "ab" * 64), server, "ab" * 64)
    assert other.key == said.key and other.json["signature"] != said.json["signature"]


def test_the_key_signs_times_and_is_good_for_nothing_else(server, tmp_path):
    said = Said(ask(server.gateway()), server)
    ext = said.cert.extensions
    eku = ext.get_extension_for_class(x509.ExtendedKeyUsage)
    assert eku.critical and list(eku.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    usage = ext.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not (usage.key_cert_sign or usage.crl_sign or usage.key_encipherment or usage.content_commitment)
    assert ext.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert said.cert.not_valid_after - said.cert.not_valid_before == datetime.timedelta(days=8)  # one of them before now
    assert said.key not in {spki_hash(Holder(c)) for c in tls_certificates(server)}
    pem = tmp_path / "signer.pem"
    pem.write_bytes(said.cert.public_bytes(Encoding.PEM))
    anchor = server.dir / "server-ca.pem"
    for purpose, good in (("timestampsign", True), ("sslserver", False), ("sslclient", False)):
        done = subprocess.run(["openssl", "verify", "-CAfile", anchor, "-purpose", purpose, pem], capture_output=True, check=False)
        assert (done.returncode == 0) is good, purpose
    done = subprocess.run(["certtool", "--verify", "--load-ca-certificate", anchor, "--infile", pem, "--verify-purpose", "1.3.6.1.5.5.7.3.8"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def tls_certificates(server):
    """Those that the gateway shows, by the names that it knows."""
    found = []
    for pem in (server.dir / "tls").glob("*.pem"):
        name = "localhost" if pem.name == "default.pem" else pem.name.split(".", maxsplit=1)[0] + ".localhost"
        connection = server.gateway(sni=name).connect()
        found.append(x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)))
        connection.close()
    return found


def test_it_does_not_matter_who_asks(server):
    """Nor what is wrong with his certificate, and the answer opens nothing."""
    server.account("clockless", "test", "both")
    key, fleet = server.key("clockless"), server.root("clockless")
    device, gone = fleet.device("clockless-1"), fleet.device("clockless-2")
    assert server.gateway(gone).get("/x").status == 404
    server.muster("device", "revoke", "clockless-2", "--account", "clockless", "--yes")
    for who in (device, key, gone, Fleet("Nobody").device("x"), fleet.device("late", days=(-9, -1))):
        assert told(ask(server.gateway(who))) is None, who
    assert server.gateway(gone).get("/x").code == "device_revoked"


def test_capitals_are_digits_too(server):
    upper = NONCE.upper()
    assert Said(ask(server.gateway(), upper), server, upper).json["nonce"] == NONCE


# --- what is refused --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?", "?nonce=", "?nonce", "?other=" + NONCE, "?nonce=" + NONCE[:30], "?nonce=" + NONCE + "0", "?nonce=" + "0" * 130, "?nonce=" + "0" * 129, "?nonce=" + "g" * 32,
                                   "?nonce=" + NONCE[:31] + "%20", "?nonce=" + NONCE[:31] + "+", "?nonce=0x" + NONCE[:30], "?nonce=AAECAwQFBgcICQoLDA0ODw", "?NONCE=" + NONCE])
def test_a_nonce_out_of_its_bounds(server, query):
    answer = server.gateway().get("/time" + query)
    assert (answer.status, answer.code) == (400, "invalid_request") and "signature" not in answer.json


def test_the_path_is_musters_own(server):
    """Other methods do not fall to what stands behind the gateway."""
    server.account("asks-time", "test", "device")
    device = server.root("asks-time").device("asks-1")
    for method in ("POST", "PUT", "DELETE"):
        answer = server.gateway(device).request(method, "/time?nonce=" + NONCE, b"")
        assert answer.status == 405 and "GET" in answer.headers["Allow"]
    assert server.gateway().request("POST", "/time?nonce=" + NONCE, b"").code == "certificate_required"


def test_one_source_asks_so_often(fresh):
    s = fresh(config=["limit_time = 10"])
    g = s.gateway()
    answers = [ask(g) for _ in range(14)]
    assert [a.status for a in answers[:10]] == [200] * 10
    for answer in answers[11:]:
        assert (answer.status, answer.code) == (429, "too_many_requests") and 1 <= int(answer.headers["Retry-After"]) <= 60
    s.account("a", "test", "shared")
    assert s.gateway(s.key("a")).enrol("car-1").status == 200, "who asks too often for the time enrols all the same"
    token = (s.dir / "admin.token").read_text(encoding="utf-8").strip()
    assert 'muster_limited_total{by="time"} ' in s.request("GET", "/metrics", fields={"Authorization": f"Bearer {token}"}).body.decode()


def test_eight_wait_for_the_vault_and_no_more(fresh):
    s = fresh(config=["loops = 1"])
    assert told(ask(s.gateway())) is None
    vault, clients = s.child("vault"), [s.gateway() for _ in range(8)]
    os.kill(vault, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(ask, g) for g in clients]
            time.sleep(1)
            answer = ask(s.gateway())
            assert told(answer) == (503, "busy") and int(answer.headers["Retry-After"]) == 1 and not any(w.done() for w in waiting)
            os.kill(vault, signal.SIGCONT)
            assert [told(w.result()) for w in waiting] == [None] * 8
    finally:
        os.kill(vault, signal.SIGCONT)
    assert told(ask(s.gateway())) is None


@pytest.mark.alone
def test_a_flood_holds_nobody_up(fresh):
    """Devices enrol meanwhile."""
    s = fresh(config=["limit_time = 0", "loops = 1"])
    s.account("a", "test", "shared")
    key, until = s.key("a"), time.monotonic() + 6

    def flood(_):
        g, seen = s.gateway(), set()
        while time.monotonic() < until:
            answer = ask(g)
            seen.add((answer.status, None if answer.status == 200 else answer.code))
            assert answer.status == 200 or int(answer.headers["Retry-After"]) >= 1
        return seen

    with ThreadPoolExecutor(16) as pool:
        floods = [pool.submit(flood, i) for i in range(16)]
        took = []
        for i in range(10):
            began = time.monotonic()
            assert s.gateway(key).enrol(f"car-{i}").status == 200
            took.append(time.monotonic() - began)
        seen = set().union(*(f.result() for f in floods))
    assert (200, None) in seen and seen <= {(200, None), (503, "busy")}
    assert sorted(took)[5] < 1.5, took  # one processor may be all that there is


# --- clocks, keys and the vault ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(fresh):
    s = fresh(start=False)
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    s.account("a", "test", "shared")
    return s


def careless(s):
    """A client without a clock: it lets TLS's dates be."""
    g = s.gateway()
    g.context.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
    return g


def test_no_time_is_told_while_the_clock_is_behind_the_log(world):
    world.clock.set(HOUR)
    world.key("a")  # an entry of an hour from now
    assert told(ask(careless(world))) is None
    world.clock.set(0)
    answer = ask(careless(world))
    assert told(answer) == (503, "clock_behind") and int(answer.headers["Retry-After"]) > 0
    world.clock.set(HOUR)
    soon(None, lambda: told(ask(careless(world))))


def test_keys_give_way_to_others_in_time(world):
    first = Said(ask(careless(world)), world)
    world.clock.set(3 * DAY)
    assert Said(ask(careless(world)), world).key == first.key
    world.clock.set(4 * DAY)
    second = Said(ask(careless(world)), world)
    assert second.key != first.key and (second.at - first.at).days >= 3
    assert abs((second.cert.not_valid_after.replace(tzinfo=UTC) - second.at).total_seconds() - 7 * DAY) < 60


def test_the_key_is_nowhere_and_goes_with_the_vault(fresh):
    s = fresh()
    files = {p: p.stat().st_mtime_ns for p in (s.dir / "vault").iterdir()}
    first = Said(ask(s.gateway()), s)
    assert {p: p.stat().st_mtime_ns for p in (s.dir / "vault").iterdir()} == files
    os.kill(s.child("vault"), signal.SIGKILL)
    soon(None, lambda: told(ask(s.gateway())))
    assert Said(ask(s.gateway()), s).key != first.key


def test_without_a_vault_there_is_no_time(fresh):
    s = fresh()
    vault = s.child("vault")
    os.kill(vault, signal.SIGSTOP)
    try:
        answer = ask(s.gateway())
        assert told(answer) == (503, "vault_unavailable") and int(answer.headers["Retry-After"]) > 0
    finally:
        os.kill(vault, signal.SIGCONT)
    soon(None, lambda: told(ask(s.gateway())))

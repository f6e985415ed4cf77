"""EST (RFC 7030, RFC 8951): who may, and what independent clients make of the answers."""
import base64
import ssl
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from client import Fleet
from conftest import soon
from enrolment import PATH, Account, enrolled
from est import CERTS_ONLY, certificates, path, run


@pytest.fixture(scope="module")
def world(server):
    """Two accounts, of which the tests change nothing."""
    server.one, server.other = Account(server, method="both"), Account(server, method="both")
    server.one_key, server.other_key = server.one.key(), server.other.key()
    server.names = {a.name: server.host(a.name) for a in (server.one, server.other)}
    return server


# --- what anybody may read ------------------------------------------------------------------------------------------------------------------


def told(answer):
    return None if answer.status == 200 else (answer.status, answer.code)


READ = ["cacerts", "csrattrs"]


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("what", READ)
def test_the_account_comes_from_label_host_name_or_certificate(world, what, tls):
    """In any of these ways; with none of them, or one that there is not, 404."""
    name, host = world.one.name, world.names[world.one.name]
    device = enrolled(world, world.one_key, f"reads-{what}-{tls}")
    assert told(world.gateway(tls=tls).get(path(what, name))) is None
    assert told(world.gateway(tls=tls, sni=host).get(path(what))) is None
    assert told(world.gateway(tls=tls, sni=host).get(path(what, name))) is None
    assert told(world.gateway(world.one_key, tls=tls).get(path(what))) is None
    assert told(world.gateway(device, tls=tls).get(path(what))) is None
    assert told(world.gateway(device, tls=tls).get(path(what, name))) is None
    for stranger in (None, Fleet("Nobody").device("x")):
        assert told(world.gateway(stranger, tls=tls).get(path(what))) == (404, "account_unknown")
    for label in ("nobody", name.upper(), "x" * 33, "x" * 300, name + "%C3%BC", "-", "%2e%2e%2e"):
        assert told(world.gateway(tls=tls).get(path(what, label))) == (404, "account_unknown"), label
        assert told(world.gateway(world.one_key, tls=tls).get(path(what, label))) == (403, "certificate_of_other_account"), label


@pytest.mark.parametrize("what", READ)
def test_names_that_contradict_each_other_are_refused(world, what):
    one, other = world.one.name, world.other.name
    device = enrolled(world, world.one_key, f"contradicts-{what}")
    host, other_host = world.names[one], world.names[other]
    assert told(world.gateway(device).get(path(what, other))) == (403, "certificate_of_other_account")
    assert told(world.gateway(world.one_key).get(path(what, other))) == (403, "certificate_of_other_account")
    assert told(world.gateway(device, sni=other_host).get(path(what))) == (403, "certificate_of_other_account")
    assert told(world.gateway(world.one_key, sni=other_host).get(path(what))) == (403, "certificate_of_other_account")
    assert told(world.gateway(sni=host).get(path(what, other))) == (421, "misdirected_request")
    assert told(world.gateway(host=host).get(path(what, other))) == (421, "misdirected_request")
    assert told(world.gateway(sni=host, host=other_host).get(path(what))) == (421, "misdirected_request")
    assert told(world.gateway(device).get(path(what, one))) is None


def test_what_is_public_is_read_with_a_bad_certificate_too(world):
    """A client whose certificate is over may still look for new anchors; that opens nothing else."""
    device = enrolled(world, world.one_key, "over")
    assert told(world.gateway(device).get(path("cacerts"))) is None
    world.one.device("revoke", "over", "--yes")
    soon("device_revoked", lambda: world.gateway(device).get(PATH).code)
    for who in (device, Fleet("Unknown").device("x", days=(-3, -1))):
        assert told(world.gateway(who).get(path("cacerts", world.one.name))) is None
        assert world.gateway(who).get(PATH).status == 403
    assert world.gateway().get(PATH).code == "certificate_required"


def test_an_account_is_known_the_moment_it_was_made(world):
    for _ in range(5):
        assert told(world.gateway().get(path("cacerts", Account(world).name))) is None


def test_a_deleted_account_is_unknown(world):
    a = Account(world)
    assert told(world.gateway().get(path("cacerts", a.name))) is None
    world.muster("account", "delete", a.name, "--yes")
    soon((404, "account_unknown"), lambda: told(world.gateway().get(path("cacerts", a.name))))


def test_cacerts_are_the_gateway_s_anchors_and_nothing_else(world, tmp_path):
    """No fleet root, no issuing CA, made or uploaded."""
    fleet = world.root(world.one.name, Fleet("Uploaded Root"))
    device = enrolled(world, world.one_key, "holds")
    server_ca = (world.dir / "server-ca.pem").read_bytes()
    for who in (None, world.one_key, device, fleet.device("of-a-fleet-ca")):
        answer = world.gateway(who).get(path("cacerts", world.one.name))
        found = certificates(answer)
        assert [c.public_bytes(Encoding.PEM) for c in found] == [server_ca]
        assert answer.headers["Content-Transfer-Encoding"] == "base64"
    # With openssl and GnuTLS: the same, and it is what the gateway's own certificate verifies under.
    der = tmp_path / "cacerts.der"
    der.write_bytes(base64.b64decode(answer.body))
    pem = run("openssl", "pkcs7", "-inform", "DER", "-in", der, "-print_certs", "-noout")
    assert pem.count(b"subject=") == 1 and b"Muster server CA" in pem
    said = run("certtool", "--p7-info", "--inder", "--infile", der)
    assert b"Number of certificates: 1" in said
    ca = tmp_path / "ca.pem"
    ca.write_bytes(run("openssl", "pkcs7", "-inform", "DER", "-in", der, "-print_certs"))
    assert subprocess.run(["curl", "-sS", "--noproxy", "*", "--cacert", ca, "-o", tmp_path / "out", f"https://localhost:{world.port}{path('cacerts', world.one.name)}"]).returncode == 0
    assert base64.b64decode((tmp_path / "out").read_bytes()) == der.read_bytes()


def test_csrattrs_ask_for_a_p256_key(world, tmp_path):
    answer = world.gateway().get(path("csrattrs", world.one.name))
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/csrattrs")
    der = tmp_path / "attrs.der"
    der.write_bytes(base64.b64decode(answer.body))
    said = run("openssl", "asn1parse", "-inform", "DER", "-in", der).decode()
    assert [line.rsplit(":", 1)[1] for line in said.splitlines() if "OBJECT" in line] == ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"]


@pytest.mark.parametrize("account", [False, True])
def test_full_cmc_is_not_offered(world, account):
    where = path("fullcmc", world.one.name if account else None)
    for who in (None, world.one_key):
        answer = world.gateway(who).request("POST", where, b"x" * 100000, {"Content-Type": "application/pkcs7-mime"})
        assert (answer.status, answer.code) == (501, "not_implemented")


@pytest.mark.parametrize("method, what, allow", [("POST", "cacerts", "GET, HEAD"), ("PUT", "csrattrs", "GET, HEAD"), ("GET", "fullcmc", "POST")])
def test_other_methods(world, method, what, allow):
    answer = world.gateway(enrolled(world, world.one_key, f"method-{what}")).request(method, path(what, world.one.name), b"" if method != "GET" else None)
    assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "method_not_allowed", allow)


def test_head_is_answered_without_a_body(world):
    answer = world.gateway().request("HEAD", path("cacerts", world.one.name))
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"", CERTS_ONLY)


def test_without_anchors_a_client_bootstraps(world):
    """It reads /cacerts unverified, and verifies everything that follows by them (RFC 7030, 4.1.1)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    gateway = world.gateway()
    gateway.context = context
    pem = "".join(c.public_bytes(Encoding.PEM).decode() for c in certificates(gateway.get(path("cacerts", world.one.name))))
    trusted = world.gateway()
    trusted.context = ssl.create_default_context(cadata=pem)
    assert told(trusted.get(path("csrattrs", world.one.name))) is None

"""EST (RFC 7030, RFC 8951): who may, and what independent clients make of the answers."""
import base64
import datetime
import http.client
import ipaddress
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7
from cryptography.x509.name import _ASN1Type

from client import Fleet, key_pem, name, new_key, spki_hash
from conftest import soon
from enrolment import GAP, PATH, YEAR, Account, ask, enrolled, spent
from est import CERTS_ONLY, PKCS10, Device, certificates, csr, in_lines, path, post, run


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
        assert told(world.gateway(world.one_key, tls=tls).get(path(what, label))) == (404, "account_unknown"), label


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


# --- simpleenroll: the certificate of a device's own key ------------------------------------------------------------------------------------


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def enrol(server, key, device_id, own=None, account=None, **options):
    """What simpleenroll says: a Device, or (status, code)."""
    own = own or new_key()
    answer = post(server.gateway(key, **options), "simpleenroll", csr(own, device_id), account)
    return took(answer, own)


def took(answer, own):
    if answer.status != 200:
        return answer.status, answer.code
    (cert,) = certificates(answer)
    return Device(own, cert)


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("encode", [base64.b64encode, in_lines, lambda der: b"\r\n \t".join(in_lines(der).split(b"\n"))])
def test_a_device_gets_a_certificate_for_its_own_key(account, server, tls, encode):
    a, own = account(), new_key()
    key = a.key("--max-devices", "1")
    answer = post(server.gateway(key, tls=tls), "simpleenroll", encode(csr(own, "own-key")), a.name)
    device = took(answer, own)
    cert = device.cert
    assert spki_hash(own) == took(answer, own).cert_spki and answer.headers["Content-Transfer-Encoding"] == "base64"
    assert cert.subject.rfc4514_string() == f"CN=own-key,OU=Devices,O={a.name}"
    assert list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert abs((cert.not_valid_after - datetime.datetime.utcnow()).total_seconds() - YEAR) < 120
    assert ask(server, device) is None  # the gateway knows its issuing CA
    shown = a.device("show", "own-key")
    assert (shown["spki"], shown["state"], shown["method"]) == (device.spki, "active", "shared")
    assert spent(server, key) == 1
    entry = [e for e in server.muster("audit", "list", "--account", a.name) if e["action"] == "device.enrol"][0]
    assert (entry["object"], entry["detail"]["how"]) == ("own-key", "new")
    assert server.muster("audit", "verify", "--account", a.name)["ok"] is True


def test_an_account_s_shorter_life_counts(account, server):
    a = account("--device-life", "3600")
    device = enrol(server, a.key(), "short")
    assert abs((device.cert.not_valid_after - datetime.datetime.utcnow()).total_seconds() - 3600) < 120


@pytest.mark.parametrize("kind", ["ec", "p384", "p521", "ed25519"])
def test_kinds_of_keys(world, kind):
    device = enrol(world, world.one_key, f"kind-{kind}", new_key(kind))
    assert ask(world, device) is None
    usage = device.cert.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign


def test_rsa_keys_are_an_account_s_choice(account, server):
    a = account()
    key = a.key()
    assert enrol(server, key, "rsa", new_key("rsa2048")) == (400, "csr_invalid")
    a.set("--device-key", "rsa2048")
    for size in (2048, 3072):
        assert ask(server, enrol(server, key, f"rsa-{size}", new_key(f"rsa{size}"))) is None
    assert enrol(server, key, "rsa-weak", new_key("rsa1024")) == (400, "csr_invalid")
    assert ask(server, enrol(server, key, "ec-too")) is None
    assert spent(server, key) == 3


def refuses(server, key, body, *words, status=400, code="csr_invalid", **headers):
    answer = post(server.gateway(key), "simpleenroll", body, **headers)
    assert (answer.status, answer.code) == (status, code), answer
    for word in words:
        assert word in answer.json["description"], answer.json["description"]


def test_bodies_that_are_no_request(world):
    own = new_key()
    der = csr(own, "never")
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + in_lines(der) + b"-----END CERTIFICATE REQUEST-----\n"
    key = world.unspent = world.one.key()
    refuses(world, key, pem, "PEM", "first and last line")
    refuses(world, key, base64.b64encode(pem))
    refuses(world, key, key_pem(own), "private key")
    refuses(world, key, key_pem(own) + pem, "private key")
    refuses(world, key, b"", "empty")
    refuses(world, key, b" \t \r\n")
    for garbage in (b"!", b"=", b"AAAA", b"x" * 1000, b"\xff" * 100, base64.b64encode(der)[:-3], base64.b64encode(der)[:-4], base64.urlsafe_b64encode(b"\xff" * 99) + b"-_",
                    base64.b64encode(der[:-1]), base64.b64encode(der + b"\0"), base64.b64encode(b"\x30\x80" + der), base64.b64encode(der) + b"\0"):
        refuses(world, key, garbage)
    answer = world.gateway(key).request("POST", path("simpleenroll"), der, {"Content-Type": PKCS10})
    assert (answer.status, answer.code) == (400, "csr_invalid") and "is DER as it is" in answer.json["description"]
    for kind in ("application/json", "text/plain", "application/pkcs7-mime", "application/pkcs10x", None):
        refuses(world, key, base64.b64encode(der), status=415, code="unsupported_media_type", **{"Content-Type": kind})
    refuses(world, key, b"A" * 32769, status=413, code="body_too_large")
    refuses(world, key, base64.b64encode(csr(own, "never", attributes=[(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"x" * 16500)])))
    assert spent(world, key) == 0
    for kind in ("application/pkcs10; charset=utf-8", "APPLICATION/PKCS10"):
        assert post(world.gateway(key), "simpleenroll", csr(new_key(), f"media-{len(kind)}"), **{"Content-Type": kind}).status == 200


def test_requests_that_prove_nothing(world):
    """Signed by another key, by a weak hash, changed, or of a weak key."""
    own, key = new_key(), world.one.key()
    der = csr(own, "never")
    at = der.rindex(b"never")
    refuses(world, key, der[:at] + b"nevex" + der[at + 5:], "signature")
    refuses(world, key, der[:-1] + bytes([der[-1] ^ 1]), "signature")
    refuses(world, key, csr(new_key("rsa1024"), "never"), "1024")
    refuses(world, key, sha1_csr("never"), "SHA-256")
    stolen = csr(new_key(), "never").replace(raw_point(own), raw_point(own))
    assert post(world.gateway(key), "simpleenroll", stolen).status == 200  # unchanged
    other = new_key()
    refuses(world, key, csr(other, "never-2").replace(raw_point(other), raw_point(own)), "signature")
    assert spent(world, key) == 1


def raw_point(key):
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def sha1_csr(cn):
    done = subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-sha1", "-subj", f"/CN={cn}", "-outform", "DER"],
                          capture_output=True, check=True)
    return done.stdout


def san(*names):
    return {"sans": names}


@pytest.mark.parametrize("cn, options, word", [
    (None, {}, "names no device"), (["a", "b"], {}, "more than one"), ("a\nb", {}, "control character"), ("x", san(x509.DNSName("gw.example.com")), "DNS name gw.example.com"),
    ("x", san(x509.DNSName("x"), x509.DNSName("y")), "DNS name y"), ("x", san(x509.IPAddress(ipaddress.ip_address("127.0.0.1"))), "IP address"),
    ("x", san(x509.RFC822Name("a@example.com")), "e-mail"), ("x", san(x509.UniformResourceIdentifier("urn:other:x")), "URI urn:other:x"),
    ("x", san(x509.DirectoryName(name("x"))), "directory name"), ("x", san(x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))), "registered ID"),
    ("x", san(x509.UniformResourceIdentifier("urn:muster:device:y")), "different devices"), (None, san(x509.DNSName("x")), "names no device"),
    (None, san(x509.UniformResourceIdentifier("urn:muster:device:")), "URI"), (None, san(x509.UniformResourceIdentifier("urn:muster:device:a%0")), "URI"),
    (None, san(x509.UniformResourceIdentifier("urn:muster:device:a%00b")), "URI"), (None, san(x509.UniformResourceIdentifier("urn:muster:device:" + "x" * 129)), "URI"),
    (None, san(x509.UniformResourceIdentifier("urn:muster:device:a"), x509.UniformResourceIdentifier("urn:muster:device:b")), "several"),
    ("x", san(*[x509.DNSName("x")] * 17), "too many"),
    (None, {"subject": x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Gerät", _type=_ASN1Type.T61String)])}, "TeletexString")])
def test_names_that_are_refused(world, cn, options, word):
    key = world.one.key()
    refuses(world, key, csr(new_key(), cn, **options), word)
    assert spent(world, key) == 0


@pytest.mark.parametrize("device_id, code", [("localhost", 409), ("127.0.0.1", 409), ("muster-challenge-1", 409)])
def test_reserved_names(world, device_id, code):
    assert enrol(world, world.one_key, device_id) == (code, "device_id_reserved")


@pytest.mark.parametrize("device_id", ["Gerät 1", "x" * 65, "y" * 128, "ü b%c/" * 16, "a,b=c+d"])
def test_names_of_any_kind(account, server, device_id):
    """Up to 64 characters in the CN, longer ones in the URI, as Muster's own certificates have them."""
    a, own = account(), new_key()
    uri = x509.UniformResourceIdentifier("urn:muster:device:" + urllib.parse.quote(device_id, safe=""))
    requests = [csr(own, None, sans=[uri])]
    if len(device_id) <= 64:
        requests += [csr(own, device_id), csr(own, device_id, sans=[uri])]
    found = {took(post(server.gateway(key), "simpleenroll", one), own).cert.serial_number for key in [a.key()] for one in requests}
    assert len(found) == 1
    assert [d["device_id"] for d in a.devices()] == [device_id]
    assert server.muster("audit", "verify", "--account", a.name)["ok"] is True


def test_what_else_is_asked_for_is_passed_over(world):
    """The profile decides: no CA, no server, no other subject."""
    own = new_key()
    wants = csr(own, sans=[x509.DNSName("wants-much")], subject=name("wants-much", C="DE", O="Somebody Else", serial="7"), extensions=[
        (x509.BasicConstraints(True, 3), True), (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)], attributes=[(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"secret")])
    cert = took(post(world.gateway(world.one_key), "simpleenroll", wants), own).cert
    assert cert.subject.rfc4514_string() == f"CN=wants-much,OU=Devices,O={world.one.name}"
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not any(isinstance(e.value, x509.SubjectAlternativeName) for e in cert.extensions)


def test_a_key_that_is_somebody_else_s(account, server):
    a, b, own = account(), account(), new_key()
    key = a.key()
    first = enrol(server, key, "first", own)
    assert enrol(server, key, "second", own) == (403, "device_key_elsewhere")
    assert enrol(server, b.key(), "first", own) == (403, "device_key_elsewhere")  # of another account
    assert ask(server, first) is None
    # A provisioning key's: every image has it.
    for stolen in (key, a.key(), b.key()):
        assert enrol(server, key, "third", stolen.key) == (403, "device_key_elsewhere")
    # One under a fleet root.
    both = account(method="both")
    made = server.root(both.name).device("of-fleet-ca")
    assert ask(server, made) is None
    assert enrol(server, both.key(), "fourth", made.key) == (403, "device_key_elsewhere")
    assert spent(server, key) == 1


def in_form(key, cn, form, tmp_path):
    """openssl's request for the key with its point in another form (SEC 1, 2.3.3): other bytes, the same key."""
    (tmp_path / "plain.pem").write_bytes(key_pem(key))
    run("openssl", "ec", "-in", tmp_path / "plain.pem", "-conv_form", form, "-out", tmp_path / "form.pem")
    run("openssl", "req", "-new", "-key", tmp_path / "form.pem", "-subj", f"/CN={cn}", "-outform", "DER", "-out", tmp_path / "request.der")
    return (tmp_path / "request.der").read_bytes()


@pytest.mark.parametrize("form", ["compressed", "hybrid"])
def test_a_key_in_another_form_is_the_same_key(account, server, tmp_path, form):
    a, b = account(), account()
    key, own, late = a.key(), new_key(), new_key()
    first, gone = enrol(server, key, "first", own), enrol(server, key, "gone", late)
    assert ask(server, first) is None and ask(server, gone) is None

    def refuses_form(of, cn, code, by=key):
        request = in_form(of, cn, form, tmp_path)
        assert raw_point(of) not in request
        answer = post(server.gateway(by), "simpleenroll", request)
        assert (answer.status, answer.code) == (403, code)

    refuses_form(own, "second", "device_key_elsewhere")
    refuses_form(own, "first", "device_key_elsewhere", b.key())
    refuses_form(key.key, "third", "device_key_elsewhere")  # every image has it
    server.muster("cert", "revoke", f"{gone.cert.serial_number:x}", "--account", a.name, "--reason", "key-compromise", "--yes")
    refuses_form(late, "gone", "device_key_barred")
    # A device may have it so, and is the same one in each.
    free = new_key()
    answer = post(server.gateway(key), "simpleenroll", in_form(free, "own-form", form, tmp_path))
    assert answer.status == 200
    assert ask(server, Device(free, certificates(answer)[0])) is None
    assert [d["device_id"] for d in server.muster("device", "list", "--account", a.name, "--spki", spki_hash(free))] == ["own-form"]
    assert enrol(server, key, "fourth", free) == (403, "device_key_elsewhere")


def test_a_key_that_was_barred(account, server):
    a, own = account(), new_key()
    key = a.key()
    assert ask(server, enrol(server, key, "gone", own)) is None
    a.device("revoke", "gone", "--yes")
    assert enrol(server, key, "gone", own) == (403, "device_revoked")
    a.device("release", "gone")
    assert enrol(server, key, "gone", own) == (403, "device_key_barred")
    assert enrol(server, key, "elsewhere", own) == (403, "device_key_barred")
    assert isinstance(enrol(server, key, "gone"), Device)


# --- the same request again -----------------------------------------------------------------------------------------------------------------


def test_the_same_request_gets_the_same_certificate(account, server):
    """Unused, used, and with a key that is exhausted; never one more."""
    a, own = account(), new_key()
    key = a.key("--max-devices", "1")
    device = enrol(server, key, "same", own)
    for _ in range(12):  # at once, and more often than certificates are made again
        assert enrol(server, key, "same", own).cert == device.cert
    assert ask(server, device) is None
    assert enrol(server, key, "same", own).cert == device.cert
    shown = a.device("show", "same")
    assert (len(shown["certificates"]), spent(server, key), a.audit("same")) == (1, 1, ["device.enrol", "device.first_use"])
    assert enrol(server, key, "same") == (409, "device_already_registered")  # another key is another request
    assert enrol(server, a.key(), "same", own) == (409, "device_already_registered")  # and another credential too


def test_another_key_is_an_answer_that_was_lost(account, server):
    a = account()
    key = a.key("--max-devices", "1")
    first = enrol(server, key, "lost")
    second = enrol(server, key, "lost")
    if second == (429, "reissue_limited"):
        time.sleep(GAP)
        second = enrol(server, key, "lost")
    assert second.spki != first.spki and spent(server, key) == 1
    assert enrol(server, key, "lost", first.key).cert == first.cert  # both still wait
    assert ask(server, second) is None
    assert ask(server, first) == "certificate_void"
    assert enrol(server, key, "lost", first.key) == (403, "device_key_barred")
    assert enrol(server, key, "lost", second.key).cert == second.cert


def test_many_at_once_get_one_certificate(account, server):
    a, own = account(), new_key()
    key = a.key("--max-devices", "1")
    body = csr(own, "at-once")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: post(server.gateway(key), "simpleenroll", body), range(24)))
    found = {took(x, own).cert.serial_number if x.status == 200 else (x.status, x.code) for x in answers}
    assert len([f for f in found if isinstance(f, int)]) == 1 and found - {(503, "busy")} == {f for f in found if isinstance(f, int)}
    assert (spent(server, key), len(a.device("show", "at-once")["certificates"])) == (1, 1)


def test_after_kill_9_nothing_is_lost_or_doubled(fresh):
    """Whatever was under way: each device asks again and has one certificate, and the budget is exact."""
    s = fresh()
    a = Account(s)
    key, n = a.key("--max-devices", "60"), 0
    owns = {f"dev-{i}": new_key() for i in range(60)}
    certs = {}

    def one(device_id):
        try:
            got = enrol(s, key, device_id, owns[device_id])
        except (OSError, http.client.HTTPException):
            return
        if isinstance(got, Device):
            certs.setdefault(device_id, set()).add(got.cert.serial_number)

    for part in range(3):
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(one, d) for d in list(owns)[part * 20:part * 20 + 20]]
            while not any(w.done() for w in work):
                time.sleep(0.001)
            s.stop(signal.SIGKILL)
        s.start()
        n = len(certs)
    for device_id in owns:
        one(device_id)
    assert n < 60 and set(certs) == set(owns) and all(len(c) == 1 for c in certs.values())
    assert spent(s, key) == 60 and all(len(a.device("show", d)["certificates"]) == 1 for d in list(owns)[::7])
    assert s.muster("audit", "verify", "--account", a.name)["ok"] is True


# --- bounds, states and policies: those of POST /devices --------------------------------------------------------------------------------------


def test_the_bounds_of_a_key(account, server):
    a, b = account(), account()
    assert enrol(server, a.key("--id-pattern", "car-*"), "truck-1") == (403, "device_id_not_allowed")
    assert enrol(server, a.key("--source", "192.0.2.0/24"), "car-1") == (403, "provisioning_key_source")
    ends = a.key("--expires", "1s")
    time.sleep(1.1)
    assert enrol(server, ends, "car-1") == (403, "provisioning_key_expired")
    one = a.key("--max-devices", "1")
    assert isinstance(enrol(server, one, "car-1"), Device)
    assert enrol(server, one, "car-2") == (403, "provisioning_key_exhausted")
    hourly = a.key("--per-hour", "1")
    assert isinstance(enrol(server, hourly, "car-3"), Device)
    assert enrol(server, hourly, "car-4") == (429, "provisioning_key_rate")
    own = new_key()
    assert isinstance(enrol(server, a.key("--name", "leaks"), "car-5", own), Device)
    leaked = server.key(a.name)
    assert isinstance(enrol(server, leaked, "car-6", own_6 := new_key()), Device)
    server.muster("key", "blacklist", leaked.shown["id"], "--yes")
    assert enrol(server, leaked, "car-6", own_6) == (403, "provisioning_key_blacklisted")  # not even the same again
    assert enrol(server, b.key(), "car-7", account=a.name) == (403, "certificate_of_other_account")
    assert enrol(server, b.key(), "car-7", account="nobody") == (404, "account_unknown")
    assert enrol(server, b.key(), "car-7", sni=server.host(a.name)) == (403, "certificate_of_other_account")
    assert isinstance(enrol(server, b.key(), "car-7", sni=server.host(b.name), account=b.name), Device)
    a.set("--method", "device", "--yes")
    assert enrol(server, one, "car-8") == (403, "method_not_enabled")


def test_the_state_of_a_device_wins(account, server):
    a = account()
    key, own = a.key(), new_key()
    assert isinstance(enrol(server, key, "state", own), Device)
    for verb, code in (("quarantine", "device_quarantined"), ("release", None), ("revoke", "device_revoked")):
        a.device(verb, "state", *(["--yes"] if verb != "release" else []))
        got = enrol(server, key, "state", own)
        assert got == (403, code) if code else isinstance(got, Device)


def refusals(server, account):
    return {r["code"] for r in server.muster("refusal", "list", "--account", account.name)}


def waiting(answer):
    assert (answer.status, int(answer.headers["Retry-After"])) == (202, 300), answer
    return answer.code


def test_202_until_an_operator_has_approved(account, server):
    a, own = account("--approval", "yes"), new_key()
    key = a.key("--max-devices", "2")
    body = csr(own, "waits")
    for _ in range(3):
        assert waiting(post(server.gateway(key), "simpleenroll", body)) == "device_pending"
    assert [(d["device_id"], d["state"]) for d in a.devices()] == [("waits", "pending")]
    a.device("approve", "waits")
    device = took(post(server.gateway(key), "simpleenroll", body), own)
    assert ask(server, device) is None and spent(server, key) == 1 and len(a.device("show", "waits")["certificates"]) == 1
    assert waiting(post(server.gateway(key), "simpleenroll", refused_body := csr(other := new_key(), "unwanted"))) == "device_pending"
    a.device("refuse", "unwanted", "--yes")
    assert took(post(server.gateway(key), "simpleenroll", refused_body), other) == (403, "device_refused")
    # Whoever waits was not refused.
    soon({"device_refused"}, lambda: refusals(server, a), seconds=5)


def test_202_until_it_is_announced(account, server, tmp_path):
    a, own = account("--expected-only", "yes"), new_key()
    key, listed = a.key(), tmp_path / "expected.csv"

    def announce(device_id, public):
        listed.write_text(f"device_id,fingerprint\n{device_id},{public}\n")
        server.muster("device", "import", listed, "--account", a.name)

    assert waiting(post(server.gateway(key), "simpleenroll", csr(own, "unknown"))) == "device_unexpected"
    announce("unknown", "")
    assert ask(server, enrol(server, key, "unknown", own)) is None
    # Announced with its public key: that one and no other.
    announce("known-key", spki_hash(own_2 := new_key()))
    assert enrol(server, key, "known-key") == (403, "device_key_mismatch")
    assert server.gateway(key).enrol("known-key").code == "device_key_mismatch"
    assert ask(server, enrol(server, key, "known-key", own_2)) is None


def test_202_while_an_operator_decides_about_a_wiped_device(account, server):
    a, own = account("--reprovision", "ask"), new_key()
    key = a.key()
    device = enrol(server, key, "wiped")
    assert ask(server, device) is None
    assert waiting(post(server.gateway(key), "simpleenroll", csr(own, "wiped"))) == "approval_pending"
    assert a.device("show", "wiped")["reprovision"] == "asked" and ask(server, device) is None
    a.device("approve", "wiped")
    again = enrol(server, key, "wiped", own)
    assert ask(server, device) is None  # until the new one is used
    assert ask(server, again) is None
    assert ask(server, device) == "certificate_superseded"


def test_who_may_not_enrol(account, server):
    a = account(method="both")
    key, fleet = a.key(), server.root(a.name)
    device, factory = enrol(server, key, "has-one"), fleet.device("of-fleet-ca")
    for what, label in (("simpleenroll", None), ("simpleenroll", "nobody"), ("serverkeygen", None), ("serverkeygen", "nobody"), ("simplereenroll", None), ("simplereenroll", "nobody")):
        answer = post(server.gateway(), what, csr(new_key(), "x"), label)
        assert (answer.status, answer.code) == (404, "account_unknown"), (what, label)
    assert post(server.gateway(), "simplereenroll", csr(new_key(), "x"), a.name).code == "certificate_required"
    for who in (device, factory, enrolled(server, key, "by-devices")):
        answer = post(server.gateway(who), "simpleenroll", csr(new_key(), "x"))
        assert (answer.status, answer.code) == (403, "enrol_with_device_certificate") and "simplereenroll" in answer.json["description"]
    assert enrol(server, Fleet().device("stranger"), "x") == (403, "certificate_untrusted")
    assert {d["device_id"] for d in a.devices()} == {"has-one", "of-fleet-ca", "by-devices"}
    soon(True, lambda: "enrol_with_device_certificate" in refusals(server, a), seconds=5)
    for verb, what in (("GET", "simpleenroll"), ("PUT", "simpleenroll")):
        assert server.gateway(key).request(verb, path(what), None).status in (403, 405)


def explained(server, account, error_id):
    answer = server.api("POST", f"/api/v1/accounts/{account.name}/explain", {"refusal": error_id})
    return answer.json.get("code") or answer.json.get("verdict")


def test_a_stranger_is_shown_to_the_account_that_its_path_names(account, server):
    a = account()
    assert enrol(server, None, "x", account=a.name) == (401, "credential_required")
    assert enrol(server, Fleet().device("stranger"), "x", account=a.name) == (403, "certificate_untrusted")
    soon({"credential_required", "certificate_untrusted"}, lambda: refusals(server, a), seconds=5)


def test_a_refused_request_is_found_by_its_device(account, server):
    a = account()
    key = a.key("--id-pattern", "car-*")
    assert enrol(server, key, "truck-9") == (403, "device_id_not_allowed")
    answer = post(server.gateway(key), "simpleenroll", csr(new_key(), "truck-10"), a.name)
    soon("device_id_not_allowed", lambda: explained(server, a, answer.json["errorId"]), seconds=5)  # as an enrolment, with the ID that it asked for
    server.muster("key", "set", key.shown["id"], "--id-pattern", "*")
    assert explained(server, a, answer.json["errorId"]) == "admitted"
    soon(["truck-10", "truck-9"], lambda: sorted(r["device_id"] for r in server.muster("refusal", "list", "--account", a.name, "--code", "device_id_not_allowed")), seconds=5)


# --- simplereenroll: the certificate that follows ---------------------------------------------------------------------------------------------


def renew(server, device, own=None, device_id=None, account=None, **options):
    """What simplereenroll says: a Device, or (status, code)."""
    own = own or new_key()
    answer = post(server.gateway(device, **options), "simplereenroll", csr(own, device_id or device.common_name), account)
    return took(answer, own)


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("rekey", [True, False])
def test_make_before_break(account, server, tls, rekey):
    """The old certificate works until the new one is first used, and never again after."""
    a = account()
    key = a.key("--max-devices", "1")
    old = enrol(server, key, "renews")
    assert ask(server, old) is None
    new = renew(server, old, new_key() if rekey else old.key, account=a.name if rekey else None, tls=tls)
    assert new.cert_spki == spki_hash(new.key) and (new.spki != old.spki) == rekey and new.cert.serial_number != old.cert.serial_number
    assert new.cert.subject == old.cert.subject and abs((new.cert.not_valid_after - datetime.datetime.utcnow()).total_seconds() - YEAR) < 120
    for _ in range(3):
        assert ask(server, old) is None
    assert [c["state"] for c in a.device("show", "renews")["certificates"]] == ["issued", "current"]
    assert ask(server, new) is None
    assert ask(server, old) == "certificate_superseded"
    assert ask(server, new) is None
    shown = a.device("show", "renews")
    assert (shown["spki"], shown["state"], [c["state"] for c in shown["certificates"]]) == (new.spki, "active", ["current", "superseded"])
    assert a.audit("renews") == ["device.enrol", "device.first_use", "device.renew", "device.first_use"]
    assert spent(server, key) == 1 and server.muster("audit", "verify", "--account", a.name)["ok"] is True


def test_the_first_request_of_a_new_certificate_may_be_a_renewal(account, server):
    a = account()
    device = enrol(server, a.key(), "at-once")
    for _ in range(3):
        device = renew(server, device)
    assert ask(server, device) is None
    assert [c["state"] for c in a.device("show", "at-once")["certificates"]] == ["current"] + ["superseded"] * 3
    assert server.muster("audit", "verify", "--account", a.name)["ok"] is True


def test_a_device_of_post_devices_renews_too(account, server):
    a = account()
    device = enrolled(server, a.key(), "stock")
    own = new_key()
    new = took(post(server.gateway(device), "simplereenroll", csr(own, "stock")), own)
    assert ask(server, new) is None and ask(server, device) == "certificate_superseded"


def test_the_same_renewal_gets_the_same_certificate(account, server):
    a, own = account(), new_key()
    old = enrol(server, a.key(), "again")
    assert ask(server, old) is None
    first = renew(server, old, own)
    for _ in range(5):
        assert renew(server, old, own).cert == first.cert
    with ThreadPoolExecutor(8) as pool:
        assert {took(x, own).cert.serial_number for x in pool.map(lambda _: post(server.gateway(old), "simplereenroll", csr(own, "again")), range(16))} == {first.cert.serial_number}
    second = renew(server, old)  # another key is another request; whichever is used first
    assert len(a.device("show", "again")["certificates"]) == 3
    assert ask(server, second) is None
    assert ask(server, first) == "certificate_void"
    assert renew(server, second, own) == (403, "device_key_barred")
    assert renew(server, second, second.key).cert.serial_number != second.cert.serial_number


def test_the_name_is_the_registered_one(account, server):
    a = account()
    key = a.key()
    device, other = enrol(server, key, "mine"), enrol(server, key, "theirs")
    for cn in ("theirs", "Mine", "mine ", "nobody"):
        answer = post(server.gateway(device), "simplereenroll", csr(new_key(), cn))
        assert (answer.status, answer.code) == (400, "csr_invalid") and "another device" in answer.json["description"]
    for options in ({"sans": [x509.DNSName("theirs")]}, {"sans": [x509.UniformResourceIdentifier("urn:muster:device:theirs")]}, {"sans": [x509.IPAddress(ipaddress.ip_address("10.0.0.1"))]}):
        answer = post(server.gateway(device), "simplereenroll", csr(new_key(), "mine", **options))
        assert (answer.status, answer.code) == (400, "csr_invalid")
    own = new_key()
    whole = csr(own, subject=device.cert.subject)  # as RFC 7030 wants it
    assert ask(server, took(post(server.gateway(device), "simplereenroll", whole), own)) is None
    own = new_key()
    bare = csr(own, subject=name(None, O="Acme"), sans=[x509.UniformResourceIdentifier("urn:muster:device:theirs")])
    assert ask(server, took(post(server.gateway(other), "simplereenroll", bare), own)) is None
    assert len(a.devices()) == 2


def test_a_long_name_renews_as_its_certificate_has_it(account, server):
    a, own, device_id = account(), new_key(), "ü" * 60 + "/x" * 4
    uri = x509.UniformResourceIdentifier("urn:muster:device:" + urllib.parse.quote(device_id, safe=""))
    device = took(post(server.gateway(a.key()), "simpleenroll", csr(own, None, sans=[uri])), own)
    uuid = device.cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    assert uuid == a.devices()[0]["id"]
    for options in ({"subject": device.cert.subject, "sans": [uri]}, {"cn": None, "sans": [uri]}, {"cn": uuid}):
        own = new_key()
        device = took(post(server.gateway(device), "simplereenroll", csr(own, **options)), own)
        assert ask(server, device) is None
    answer = post(server.gateway(device), "simplereenroll", csr(new_key(), "11111111-2222-7333-8444-555555555555", sans=[uri]))
    assert (answer.status, answer.code) == (400, "csr_invalid")
    assert server.muster("audit", "verify", "--account", a.name)["ok"] is True


def test_keys_that_may_not_be_renewed_to(account, server):
    a = account(method="both")
    key = a.key()
    device, other = enrol(server, key, "mine"), enrol(server, key, "theirs")
    first = device.key
    assert renew(server, device, other.key) == (403, "device_key_elsewhere")
    assert renew(server, device, key.key) == (403, "device_key_elsewhere")
    fleet = server.root(a.name).device("of-fleet-ca")
    assert ask(server, fleet) is None
    assert renew(server, device, fleet.key) == (403, "device_key_elsewhere")
    assert renew(server, device, new_key("rsa2048")) == (400, "csr_invalid")
    assert renew(server, device, new_key("rsa1024")) == (400, "csr_invalid")
    answer = post(server.gateway(device), "simplereenroll", csr(new_key(), "mine").replace(b"mine", b"nime"))
    assert (answer.status, answer.code) == (400, "csr_invalid")
    device = renew(server, device)
    assert ask(server, device) is None
    assert renew(server, device, first) == (403, "device_key_barred")
    assert renew(server, other, first) == (403, "device_key_elsewhere")


def test_who_may_not_renew(account, server):
    a, b = account(method="both"), account()
    key, fleet = a.key(), server.root(a.name)
    device = enrol(server, key, "renews")
    assert ask(server, device) is None
    factory = fleet.device("of-fleet-ca")
    assert renew(server, factory) == (403, "certificate_of_fleet_ca")
    answer = post(server.gateway(key), "simplereenroll", csr(new_key(), "renews"))
    assert (answer.status, answer.code) == (403, "provisioning_key_only_enrols") and "simpleenroll" in answer.json["description"]
    answer = post(server.gateway(key), "simplereenroll", csr(new_key(), "renews"), "nobody")
    assert (answer.status, answer.code) == (404, "account_unknown")
    assert post(server.gateway(key), "simplereenroll", csr(new_key(), "renews"), b.name).code == "provisioning_key_only_enrols"
    answer = post(server.gateway(), "simplereenroll", csr(new_key(), "renews"), a.name)
    assert (answer.status, answer.code) == (403, "certificate_required")
    assert renew(server, Fleet().device("renews")) == (403, "certificate_untrusted")
    assert renew(server, device, account=b.name) == (403, "certificate_of_other_account")
    assert renew(server, device, account="nobody") == (404, "account_unknown")
    assert renew(server, device, sni=server.host(b.name)) == (403, "certificate_of_other_account")
    assert renew(server, device, sni=server.host(a.name), account=b.name) == (421, "misdirected_request")
    for verb, code in (("quarantine", "device_quarantined"), ("revoke", "device_revoked"), ("delete", "device_deleted")):
        a.device(verb, "renews", "--yes")
        assert renew(server, device) == (403, code)
    assert len(a.device("show", "renews")["certificates"]) == 1


def test_an_account_without_the_method_renews_nobody(account, server):
    a = account(method="both")
    device = enrol(server, a.key(), "method")
    assert ask(server, device) is None
    a.set("--method", "device", "--yes")
    soon((403, "method_not_enabled"), lambda: renew(server, device))


def test_a_blacklisted_key_s_devices_renew_and_stay_its_own(account, server):
    """What a leaked key has brought in is found by it, however often its devices renew; and by when it did."""
    a = account()
    key = a.key()
    old, late = enrol(server, key, "old"), None
    assert ask(server, old) is None
    time.sleep(1.1)
    since = datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ")
    late = enrol(server, key, "late")
    assert ask(server, late) is None
    server.muster("key", "blacklist", key.shown["id"], "--yes")
    old = renew(server, old)
    assert ask(server, old) is None
    late = renew(server, late)
    assert ask(server, late) is None
    assert sorted(d["device_id"] for d in server.muster("key", "devices", key.shown["id"])) == ["late", "old"]
    done = server.muster("device", "quarantine", "--key", key.shown["id"], "--since", since, "--yes")
    assert done
    soon("device_quarantined", lambda: ask(server, late))
    assert ask(server, old) is None
    assert server.muster("audit", "verify", "--account", a.name)["ok"] is True


def test_a_device_that_keeps_nothing_is_stopped(fresh):
    """A disk that is full, and a loop: a bounded number of certificates in a day, and the device goes on with the one that it has."""
    s = fresh(config=["limit_device = 100000"])
    a = Account(s)
    device = enrol(s, a.key(), "full-disk")
    assert ask(s, device) is None
    got = [renew(s, device) for _ in range(30)]
    assert all(isinstance(g, Device) for g in got[:23]) and set(got[23:]) == {(429, "reissue_limited")}
    answer = post(s.gateway(device), "simplereenroll", csr(new_key(), "full-disk"))
    assert 86000 < int(answer.headers["Retry-After"]) <= 86400
    assert ask(s, device) is None
    assert renew(s, device, got[5].key).cert == got[5].cert  # what it has got already it gets again


def test_renewals_go_before_new_enrolments(fresh):
    """While the line is full of enrolments, a renewal still gets in."""
    s = fresh(config=["enrolments = 4"])
    a = Account(s)
    key = a.key()
    device = enrol(s, key, "known")
    assert ask(s, device) is None
    vault = s.child("vault")
    os.kill(vault, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as pool:
            new = [pool.submit(enrol, s, key, f"new-{i}") for i in range(4)]
            time.sleep(0.5)
            assert enrol(s, key, "one-too-many") == (429, "enrolment_line_full")
            known = pool.submit(renew, s, device)
            time.sleep(0.3)
            assert not known.done()  # it waits for the vault, not for a place
            assert renew(s, device) == (429, "enrolment_line_full")  # its room has a bound as well
            os.kill(vault, signal.SIGCONT)
            assert isinstance(known.result(), Device) and all(isinstance(n.result(), Device) for n in new)
    finally:
        os.kill(vault, signal.SIGCONT)


def test_renewals_survive_kill_9(fresh):
    """The device has one certificate that works at every moment, whichever answer was lost."""
    s = fresh()
    a = Account(s)
    key = a.key()
    devices = {}
    for i in range(12):
        devices[f"d{i}"] = enrol(s, key, f"d{i}")
        assert ask(s, devices[f"d{i}"]) is None
    owns = {d: new_key() for d in devices}
    certs = {}

    def one(d):
        try:
            got = renew(s, devices[d], owns[d])
        except (OSError, http.client.HTTPException):
            return
        if isinstance(got, Device):
            certs.setdefault(d, []).append(got)

    with ThreadPoolExecutor(6) as pool:
        work = [pool.submit(one, d) for d in devices]
        while not any(w.done() for w in work):
            time.sleep(0.001)
        s.stop(signal.SIGKILL)
    s.start()
    for d in devices:
        assert ask(s, devices[d]) is None
        one(d)
        assert len({c.cert.serial_number for c in certs[d]}) == 1
        assert ask(s, certs[d][0]) is None and ask(s, devices[d]) == "certificate_superseded"
    s.stop(signal.SIGKILL)
    s.start()
    for d in devices:
        assert ask(s, certs[d][0]) is None and ask(s, devices[d]) == "certificate_superseded"
    assert s.muster("audit", "verify", "--account", a.name)["ok"] is True


# --- clients of other makers ------------------------------------------------------------------------------------------------------------------


CURL = """
set -eu
umask 077
# request OUT PATH CERT [curl's options]
request() {
    out=$1 path=$2 name=$3; shift 3
    curl -sS --noproxy '*' $TLS --cacert ca.pem ${name:+--cert $name.pem --key $name.key} -o "$out" -w '%{http_code} %{content_type}' "$@" "https://localhost:$PORT$path"
}
expect() { test "$1" = "$2" || { echo "expected $2, got $1" >&2; exit 1; }; }
P7="200 application/pkcs7-mime; smime-type=certs-only"
post() { expect "$(request "$1.p7" "/.well-known/est/$ACCOUNT/$2" "$3" -H 'Content-Type: application/pkcs10' --data-binary "@$1.b64")" "$P7"; }
expect "$(request cacerts.p7 "/.well-known/est/$ACCOUNT/cacerts" "")" "$P7"
openssl base64 -d -in cacerts.p7 | openssl pkcs7 -inform DER -print_certs | openssl x509 > anchors.pem
cmp anchors.pem ca.pem
make first own-1 "$ID"
post first simpleenroll prov
take first
openssl x509 -in first.pem -noout -subject -nameopt RFC2253 | grep -q "^subject=CN=$ID,OU=Devices,O=$ACCOUNT$"
expect "$(request out /director/1.root.json first)" "404 application/json"
make second own-2 "$ID"
post second simplereenroll first
take second
expect "$(request out /director/1.root.json first)" "404 application/json"
expect "$(request out /director/1.root.json second)" "404 application/json"
expect "$(request out /director/1.root.json first)" "403 application/json"
grep -q certificate_superseded out
"""

OPENSSL = """
make() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key && openssl req -new -key $1.key -subj "/C=DE/O=Somebody/CN=$3" -outform DER | openssl base64 > $1.b64; }
take() { openssl base64 -d -in $1.p7 | openssl pkcs7 -inform DER -print_certs -out all.pem; expect "$(grep -c BEGIN all.pem)" 1; openssl x509 -in all.pem > $1.pem; }
"""
ED25519 = OPENSSL.replace("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "-algorithm ed25519").replace("openssl base64 > $1.b64", "openssl base64 -A > $1.b64")
GNUTLS = """
make() {
    certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile $1.key 2> /dev/null
    printf 'cn = "%s"\\norganization = "Somebody"\\n' "$3" > template
    certtool --generate-request --load-privkey $1.key --template template --outder --outfile $1.der 2> /dev/null
    base64 $1.der > $1.b64
}
take() { base64 -d $1.p7 > $1.p7der; certtool --p7-info --inder --infile $1.p7der | sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' > $1.pem; expect "$(grep -c BEGIN $1.pem)" 1
         certtool --certificate-info --infile $1.pem | grep -q 'TLS WWW Client'; }
"""


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("tools", ["openssl", "ed25519", "gnutls"])
def test_clients_of_curl_with_openssl_and_gnutls(world, tmp_path, tools, tls):
    shutil.copy(world.dir / "server-ca.pem", tmp_path / "ca.pem")
    shutil.copy(world.one_key.cert_file, tmp_path / "prov.pem")
    shutil.copy(world.one_key.key_file, tmp_path / "prov.key")
    env = {**os.environ, "PORT": str(world.port), "ACCOUNT": world.one.name, "ID": f"{tools}-{tls}", "TLS": f"--tlsv{tls} --tls-max {tls}"}
    script = {"openssl": OPENSSL, "ed25519": ED25519, "gnutls": GNUTLS}[tools] + CURL
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.stderr, done.stdout)


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_client_of_gnutls_alone(world, tmp_path, tls):
    """TLS, key and request by GnuTLS."""
    key, template, der = tmp_path / "key.pem", tmp_path / "template", tmp_path / "csr.der"
    template.write_text(f'cn = "gnutls-alone-{tls}"\n')
    run("certtool", "--generate-privkey", "--key-type", "ecdsa", "--curve", "secp256r1", "--outfile", key)
    run("certtool", "--generate-request", "--load-privkey", key, "--template", template, "--outder", "--outfile", der)
    body = in_lines(der.read_bytes())
    head = f"POST {path('simpleenroll', world.one.name)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {PKCS10}\r\nContent-Length: {len(body)}\r\n\r\n"
    said = run("gnutls-cli", "--x509cafile", world.dir / "server-ca.pem", "--x509certfile", world.one_key.cert_file, "--x509keyfile", world.one_key.key_file, "--priority",
               f"NORMAL:-VERS-ALL:+VERS-TLS{tls}", "--verify-hostname", "localhost", "--sni-hostname", "localhost", "-p", world.port, "127.0.0.1", stdin=head.encode() + body)
    assert f"(TLS{tls}".encode() in said
    answer = said[said.index(b"HTTP/1.1 200"):]
    (cert,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.partition(b"\r\n\r\n")[2].partition(b"- Peer")[0]))
    assert cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == f"gnutls-alone-{tls}"

"""EST's serverkeygen (RFC 7030, 4.4): the server makes a device's key and sends it with the certificate, where the account lets it."""
import base64
import email
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, NoEncryption, load_der_private_key, pkcs7

from client import Fleet, key_pem, new_key, spki_hash
from conftest import soon
from enrolment import GAP, Account, ask, enrolled, retry_after, spent
from est import CERTS_ONLY, PKCS10, Device, basic, csr, path, post, run
from test_est import refusals

P8, TYPE = "application/pkcs8", "multipart/mixed; boundary=muster-est"


def parts(answer):
    """The key in DER and the certificates of a good answer, whose form is looked at."""
    assert answer.status == 200 and answer.headers["Content-Type"] == TYPE, answer
    message = email.message_from_bytes(b"Content-Type: " + TYPE.encode() + b"\r\n\r\n" + answer.body)
    assert not message.defects and message.is_multipart()
    key, certs = message.get_payload()
    assert (key["Content-Type"], key["Content-Transfer-Encoding"]) == (P8, "base64") and (certs["Content-Type"], certs["Content-Transfer-Encoding"]) == (CERTS_ONLY, "base64")
    assert answer.body.endswith(b"--muster-est--\r\n") and answer.body.replace(b"\r\n", b"").count(b"\n") == 0
    return key.get_payload(decode=True), pkcs7.load_der_pkcs7_certificates(certs.get_payload(decode=True))


def got(answer):
    """A Device, or (status, code)."""
    if answer.status != 200:
        return answer.status, answer.code
    der, certs = parts(answer)
    key, (cert,) = load_der_private_key(der, None), certs
    device = Device(key, cert)
    assert device.spki == device.cert_spki
    return device


def ask_for(server, key, device_id, account=None, body=None, **options):
    headers = options.pop("headers", {})
    return post(server.gateway(key, **options), "serverkeygen", body or csr(new_key(), device_id), account, **headers)


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, "--server-keygen", "yes", *options, **more)


def whole(a):
    return a.server.muster("audit", "verify", "--account", a.name)["ok"] is True


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_the_key_comes_with_its_certificate(account, server, tls):
    a = account()
    key = a.key("--max-devices", "1")
    asked = new_key()
    device = got(ask_for(server, key, "car-1", a.name, csr(asked, "car-1"), tls=tls))
    assert isinstance(device.key, ec.EllipticCurvePrivateKey) and device.key.curve.name == "secp256r1"
    assert device.spki != spki_hash(asked), "the request's key is not looked at"
    assert device.cert.subject.rfc4514_string() == f"CN=car-1,OU=Devices,O={a.name}"
    assert ask(server, device) is None and spent(server, key) == 1
    assert a.audit("car-1") == ["device.enrol", "device.first_use"] and whole(a)
    renewed = post(server.gateway(device), "simplereenroll", csr(new_key(), "car-1"))
    assert renewed.status == 200, "it goes on with keys of its own"


def test_with_curl_and_openssl(account, server, tmp_path):
    a = account()
    key, mine = a.key(), tmp_path / "key.pem"
    mine.write_bytes(key_pem(new_key()))
    request = tmp_path / "request"
    request.write_bytes(base64.encodebytes(run("openssl", "req", "-new", "-key", mine, "-subj", "/CN=car-1", "-outform", "DER")))
    answer = run("curl", "-sS", "--noproxy", "*", "--fail-with-body", "--cert", key.cert_file, "--key", key.key_file, "--cacert", server.dir / "server-ca.pem", "-H", f"Content-Type: {PKCS10}",
                 "--data-binary", f"@{request}", f"https://localhost:{server.port}{path('serverkeygen', a.name)}")
    blocks = [part.split(b"\r\n\r\n", 1)[1] for part in answer.split(b"--muster-est\r\n")[1:]]
    p8, p7 = (base64.b64decode(b.split(b"\r\n--")[0]) for b in blocks)
    (tmp_path / "p8").write_bytes(p8)
    public = run("openssl", "pkey", "-inform", "DER", "-in", tmp_path / "p8", "-pubout")
    assert b"PRIVATE KEY" in run("openssl", "pkcs8", "-inform", "DER", "-nocrypt", "-in", tmp_path / "p8")
    pem = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=p7)
    assert run("openssl", "x509", "-noout", "-pubkey", stdin=pem) == public


def test_an_account_of_rsa_keys(account, server):
    a = account("--device-key", "rsa2048")
    answer = ask_for(server, a.key(), "car-1")
    for _ in range(20):
        if answer.status != 429:
            break
        time.sleep(retry_after(answer))
        answer = ask_for(server, a.key(), "car-1")
    device = got(answer)
    assert isinstance(device.key, rsa.RSAPrivateKey) and device.key.key_size == 2048 and ask(server, device) is None


def test_off_unless_the_account_has_it_on(server):
    a = Account(server)
    key = a.key()
    assert a.shown["settings"]["server_keygen"] is False
    answer = ask_for(server, key, "car-1", a.name)
    assert (answer.status, answer.code) == (403, "server_keygen_off") and "simpleenroll" in answer.json["fix"]
    code = a.device("invite", "car-1")["code"]
    assert got(ask_for(server, None, "car-1", a.name, headers=basic("car-1", code))) == (403, "server_keygen_off")
    assert a.devices() == [] and spent(server, key) == 0
    assert a.set("--server-keygen", "yes")["settings"]["server_keygen"] is True
    device = got(ask_for(server, key, "car-2"))
    a.set("--server-keygen", "no")
    assert got(ask_for(server, key, "car-2")) == (403, "server_keygen_off"), "not even again"
    assert ask(server, device) is None and whole(a)
    soon(True, lambda: "server_keygen_off" in refusals(server, a), seconds=5)


def test_who_may(account, server):
    a, off = account(method="both"), Account(server)
    key, factory = a.key("--id-pattern", "car-*", "--max-devices", "1"), server.root(a.name).device("of-fleet-ca")
    assert got(ask_for(server, key, "truck-1")) == (403, "device_id_not_allowed")
    assert got(ask_for(server, off.key(), "car-1", a.name)) == (403, "certificate_of_other_account")
    assert got(ask_for(server, None, "car-1", a.name)) == (401, "credential_required")
    assert got(ask_for(server, None, "car-1")) == (404, "account_unknown")
    assert got(ask_for(server, Fleet().device("x"), "car-1", a.name)) == (403, "certificate_untrusted")
    device = enrolled(server, key, "car-1")
    for who in (device, factory):
        assert got(ask_for(server, who, "car-1")) == (403, "enrol_with_device_certificate")
    assert got(ask_for(server, key, "car-2")) == (403, "provisioning_key_exhausted")
    assert {d["device_id"] for d in a.devices()} == {"car-1", "of-fleet-ca"}
    a.device("revoke", "car-1", "--yes")
    assert got(ask_for(server, key, "car-1")) == (403, "device_revoked")


@pytest.mark.parametrize("change", ["signature", "key", "hash"])
def test_key_and_signature_of_the_request_are_not_looked_at(account, server, change):
    """RFC 7030, 4.4.1: they are there so that clients may use what they have."""
    key, der = account().key(), csr(new_key(), "car-1")
    if change == "signature":
        der = der[:-1] + bytes([der[-1] ^ 1])
    elif change == "key":
        der = csr(new_key("rsa1024"), "car-1")
    else:
        der = subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-sha1", "-subj", "/CN=car-1", "-outform", "DER"],
                             capture_output=True, check=True).stdout
    assert isinstance(got(ask_for(server, key, "car-1", body=der)), Device)


@pytest.mark.parametrize("oid", ["1.2.840.113549.1.9.16.2.37", "1.2.840.113549.1.9.16.2.54"])
def test_a_key_that_is_encrypted_beyond_tls_is_not_offered(account, server, oid):
    key = account().key()
    answer = ask_for(server, key, "car-1", body=csr(new_key(), "car-1", attributes=[(x509.ObjectIdentifier(oid), b"key-7")]))
    assert (answer.status, answer.code) == (400, "csr_invalid") and "encrypted" in answer.json["description"]
    assert spent(server, key) == 0


def test_names_are_those_of_simpleenroll(account, server):
    a = account()
    key = a.key()
    for body in (csr(new_key(), None), csr(new_key(), ["a", "b"]), csr(new_key(), "x", sans=[x509.DNSName("y")]), b"-----BEGIN CERTIFICATE REQUEST-----", b"AAAA", csr(new_key(), "car-1")[:-3] + b"\0"):
        assert got(ask_for(server, key, "x", body=body)) == (400, "csr_invalid")
    assert got(ask_for(server, key, "localhost")) == (409, "device_id_reserved")
    assert a.devices() == []


def test_an_answer_that_was_lost(account, server):
    """As with POST /devices: a further key and certificate, and the first that is used is the device's."""
    a = account()
    key = a.key("--max-devices", "1")
    first = got(ask_for(server, key, "car-1"))
    time.sleep(GAP)
    second = got(ask_for(server, key, "car-1"))
    assert first.spki != second.spki and ask(server, second) is None and ask(server, first) == "certificate_void"
    assert got(ask_for(server, key, "car-1")) == (409, "device_already_registered") and spent(server, key) == 1 and whole(a)


def test_an_announced_key_is_the_device_s_own(account, server, tmp_path):
    a, listed = account(), tmp_path / "expected.csv"
    listed.write_text(f"device_id,fingerprint\ncar-1,{'ab' * 32}\n")
    server.muster("device", "import", listed, "--account", a.name)
    assert got(ask_for(server, a.key(), "car-1")) == (403, "device_key_mismatch")


def test_a_device_that_waits_has_its_key_and_is_let_in_later(account, server):
    """The key is kept nowhere, so it cannot be given later: as with POST /devices."""
    a = account("--approval", "yes")
    device = got(ask_for(server, a.key(), "car-1"))
    assert ask(server, device) == "device_pending"
    a.device("approve", "car-1")
    soon(None, lambda: ask(server, device))


def test_who_was_invited(account, server):
    a = account()
    code = a.device("invite", "car-1")["code"]
    first = got(ask_for(server, None, "car-1", a.name, headers=basic("car-1", code)))
    assert got(ask_for(server, None, "car-2", a.name, headers=basic("car-1", code))) == (400, "csr_invalid")
    time.sleep(GAP)
    second = got(ask_for(server, None, "car-1", a.name, headers=basic("car-1", code)))  # the answer was lost, and its key with it
    assert whole(a)
    own = post(server.gateway(), "simpleenroll", csr(new_key(), "car-1"), a.name, **basic("car-1", code))
    assert (own.status, own.code) == (403, "invitation_spent")
    assert ask(server, second) is None and ask(server, first) == "certificate_void"
    assert got(ask_for(server, None, "car-1", a.name, headers=basic("car-1", code))) == (403, "invitation_spent")
    assert len(a.device("show", "car-1")["certificates"]) == 2 and whole(a)


def test_an_own_key_is_not_replaced_by_the_server_s(account, server):
    a = account()
    code = a.device("invite", "car-1")["code"]
    own = new_key()
    assert post(server.gateway(), "simpleenroll", csr(own, "car-1"), a.name, **basic("car-1", code)).status == 200
    answer = got(ask_for(server, None, "car-1", a.name, headers=basic("car-1", code)))
    assert answer == (403, "invitation_spent"), "the certificate waits for its first use, and its key is on the device"


def test_the_key_is_kept_nowhere(fresh):
    s = fresh(config=["log_requests = all", "log_level = debug"])
    a = Account(s, "--server-keygen", "yes")
    device = got(ask_for(s, a.key(), "car-1"))
    assert ask(s, device) is None
    assert s.stop() == 0
    der = device.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    scalar = device.key.private_numbers().private_value.to_bytes(32, "big")
    texts = [s.log_text().encode()] + [f.read_bytes() for f in s.dir.rglob("*") if f.is_file()]
    assert not [t[:60] for t in texts for secret in (scalar, scalar.hex().encode(), base64.b64encode(der)[:60]) if secret in t]

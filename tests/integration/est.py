"""EST clients of the tests, none of them Muster's own: Python's ssl with python-cryptography, and curl with openssl and GnuTLS's certtool."""
import base64
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import pkcs7

from client import Identity, name, spki_hash

BASE = "/.well-known/est"
PKCS10 = "application/pkcs10"
CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"


def certificates(answer):
    """Those of a certs-only answer, whose form is looked at first."""
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == CERTS_ONLY
    lines = answer.body.decode("ascii").splitlines()
    assert all(len(line) <= 64 for line in lines) and len(lines) > 1
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode("".join(lines), validate=True))


def csr(key, cn="device", sans=(), attributes=(), digest=None, subject=None, extensions=()):
    """A request in DER."""
    b = x509.CertificateSigningRequestBuilder().subject_name(name(cn) if subject is None else subject)
    if sans:
        b = b.add_extension(x509.SubjectAlternativeName(list(sans)), False)
    for value, critical in extensions:
        b = b.add_extension(value, critical)
    for oid, value in attributes:
        b = b.add_attribute(oid, value)
    made = b.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def in_lines(der):
    return base64.encodebytes(der)


def path(what, account=None):
    return f"{BASE}/{account}/{what}" if account else f"{BASE}/{what}"


def post(gateway, what, body, account=None, **headers):
    """POST of base64; a DER is encoded on one line."""
    body = base64.b64encode(body) if body[:2] in (b"\x30\x81", b"\x30\x82") else body
    return gateway.request("POST", path(what, account), body, {"Content-Type": PKCS10, **headers})


class Device(Identity):
    """A device with a key of its own and the certificate that EST gave it."""

    def __init__(self, key, cert):
        super().__init__(cert, key)
        self.cert_spki = spki_hash(Holder(cert))


class Holder:
    """What spki_hash takes for the key of a certificate."""

    def __init__(self, cert):
        self.public_key = cert.public_key


def enrolled(gateway, device_id, own, what="simpleenroll", account=None, **headers):
    """The device that it gives a certificate to."""
    (cert,) = certificates(post(gateway, what, csr(own, device_id), account, **headers))
    return Device(own, cert)


def basic(device_id, code):
    """The header field that brings an invitation's code."""
    return {"Authorization": "Basic " + base64.b64encode(f"{device_id}:{code}".encode()).decode()}


def run(*command, stdin=None):
    done = subprocess.run([str(c) for c in command], input=stdin, capture_output=True, timeout=60)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout

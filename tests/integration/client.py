"""Clients that are not Muster's own: a fleet CA on python-cryptography, TLS by Python's ssl, a stock device's requests byte for byte."""
import datetime
import http.client
import itertools
import json
import os
import pathlib
import socket
import ssl
import tempfile
import zipfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AGENT = "Aktualizr/2025.10"
_files = tempfile.TemporaryDirectory(prefix="muster-clients-")
_count = itertools.count(1)  # its next() is one step: clients are made by several threads at once


def _path():
    return pathlib.Path(_files.name) / f"{next(_count)}.pem"


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def spki_hash(key):
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()


class Identity:
    """A certificate, its key, and further certificates, as files that ssl and curl take."""

    def __init__(self, cert, key, chain=()):
        self.cert, self.key, self.chain = cert, key, list(chain)
        self.cert_file, self.key_file = _path(), _path()
        self.cert_file.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in [cert, *self.chain]))
        self.key_file.write_bytes(key_pem(key))
        self.key_file.chmod(0o600)

    @property
    def spki(self):
        return spki_hash(self.key)

    @property
    def common_name(self):
        return self.cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


class Registration(Identity):
    """What is in a credentials.zip."""

    def __init__(self, path, shown=None):
        self.zip, self.shown = pathlib.Path(path), shown
        with zipfile.ZipFile(path) as z:
            self.names = z.namelist()
            self.url = z.read("autoprov.url").decode().strip()
            self.p12 = z.read("autoprov_credentials.p12")
            self.server_ca = z.read("server_ca.pem")
        key, cert, more = pkcs12.load_key_and_certificates(self.p12, b"")
        super().__init__(cert, key)
        self.cas = more


class Device(Identity):
    """A device as its PKCS#12 made it."""

    def __init__(self, p12):
        key, cert, more = pkcs12.load_key_and_certificates(p12, b"")
        super().__init__(cert, key)
        self.p12, self.cas = p12, more


def new_key(kind="ec"):
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key({"ec": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind])


def name(cn, **more):
    """A subject; cn None: none.  more: C, ST, O in that order before CN, as the stock tools have it."""
    parts = [(NameOID.COUNTRY_NAME, more.get("C")), (NameOID.STATE_OR_PROVINCE_NAME, more.get("ST")), (NameOID.ORGANIZATION_NAME, more.get("O")),
             (NameOID.SERIAL_NUMBER, more.get("serial"))]
    parts += [(NameOID.COMMON_NAME, one) for one in (cn if isinstance(cn, (list, tuple)) else [cn])]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value is not None])


class Fleet:
    """A customer's fleet CA."""

    def __init__(self, cn="Fleet Root", kind="ec", extensions=None, days=(-1, 3650), issuer=None):
        self.key, self.kind = new_key(kind), kind
        if extensions is None:
            extensions = [(x509.BasicConstraints(True, None), True)]
        self.cert = self._sign(name(cn), self.key, extensions, days, issuer=issuer)
        self.root = None

    def _sign(self, subject, key, extensions, days, issuer=None, digest=None):
        by = issuer or self
        by_name = by.cert.subject if hasattr(by, "cert") else subject
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        b = x509.CertificateBuilder().subject_name(subject).issuer_name(by_name).public_key(key.public_key())
        b = b.serial_number(x509.random_serial_number())
        b = b.not_valid_before(now + datetime.timedelta(days=days[0])).not_valid_after(now + datetime.timedelta(days=days[1]))
        for value, critical in extensions:
            b = b.add_extension(value, critical)
        if isinstance(by.key, ed25519.Ed25519PrivateKey):
            digest = None
        else:
            digest = digest or hashes.SHA256()
        return b.sign(by.key, digest)

    def root_pem(self):
        return self.cert.public_bytes(serialization.Encoding.PEM)

    def device(self, cn, kind="ec", key=None, extensions=(), days=(-1, 365), chain=(), digest=None, **subject):
        """A device certificate; no extension at all unless asked for, as the stock tool makes it."""
        key = key or new_key(kind)
        return Identity(self._sign(name(cn, **subject), key, extensions, days, digest=digest), key, chain)

    def issue(self, subject, kind="ec", key=None, extensions=(), days=(-1, 365), chain=(), digest=None):
        """A certificate for any subject, an x509.Name."""
        key = key or new_key(kind)
        return Identity(self._sign(subject, key, extensions, days, digest=digest), key, chain)

    def proof_pem(self, challenge, chain=()):
        cert = self._sign(name(challenge), new_key(), (), (-1, 1))
        return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in [cert, *chain])

    def intermediate(self, cn="Fleet Line 1", **options):
        return Fleet(cn, issuer=self, **options)


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The stable code of a refusal; None for none."""
        try:
            return self.json.get("code")
        except (ValueError, AttributeError):
            return None

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Gateway:
    """A TLS client of the gateway.  Each request is a new connection, as a stock device has it, unless `keep` is used."""

    def __init__(self, port, ca_file, identity=None, sni="localhost", host=None, tls=None, address="127.0.0.1", timeout=30, weak=False, source=None):
        self.port, self.sni, self.host, self.address, self.timeout = port, sni, host, address, timeout
        self.source = (source, 0) if source else None  # the address that the client connects from
        self.context = ssl.create_default_context(cafile=str(ca_file))
        if sni is None:
            self.context.check_hostname = False
        if weak:  # shows certificates that OpenSSL would not even load
            self.context.set_ciphers("DEFAULT@SECLEVEL=0")
        if identity:
            self.context.load_cert_chain(str(identity.cert_file), str(identity.key_file))
        if tls:
            version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[tls]
            self.context.minimum_version = self.context.maximum_version = version
        self.context.set_alpn_protocols(["h2", "http/1.1"])

    def connect(self, session=None):
        """A TLS connection, for requests by hand."""
        raw = socket.create_connection((self.address, self.port), timeout=self.timeout, source_address=self.source)
        return self.context.wrap_socket(raw, server_hostname=self.sni, session=session)

    def on(self, connection, method, path, body=None, headers=None):
        """One request on an open connection."""
        fields = {"Host": f"{self.host or self.sni or 'localhost'}:{self.port}", "User-Agent": AGENT, "Accept": "*/*"}
        if body is not None:
            fields["Content-Type"] = "application/json"
            fields["Content-Length"] = str(len(body))
        fields.update(headers or {})
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items() if v is not None) + "\r\n"
        connection.sendall(head.encode() + (body or b""))
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        return Answer(response)

    def request(self, method, path, body=None, headers=None):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        with self.connect() as c:
            return self.on(c, method, path, body, headers)

    def session(self):
        """A TLS session that the server may be asked to resume, after one request over it."""
        with self.connect() as c:
            self.on(c, "GET", "/director/2.root.json")
            return c.session

    def resume(self, session, method="GET", path="/director/2.root.json"):
        """One request over the resumed session."""
        with self.connect(session=session) as c:
            answer = self.on(c, method, path)
            answer.resumed = c.session_reused
            return answer

    def get(self, path):
        return self.request("GET", path)

    def enrol(self, device_id, ttl="36000"):
        """POST /devices exactly as the stock client sends it."""
        return self.request("POST", "/devices", {"deviceId": device_id, "ttl": ttl})

    def ecus(self, serial="primary-1"):
        """POST /director/ecus, a stock device's first request."""
        public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
        return self.request("POST", "/director/ecus", {"primary_ecu_serial": serial, "ecus": [
            {"ecu_serial": serial, "hardware_identifier": "debian", "clientKey": {"keytype": "RSA", "keyval": {"public": public}}}]})

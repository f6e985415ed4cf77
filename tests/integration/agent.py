"""muster-agent as its tests start it, and gateways that are not Muster's: hostile, half, or with another CA."""
import base64
import datetime
import http.server
import ipaddress
import json
import os
import pathlib
import socket
import ssl
import subprocess
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from client import Identity, key_pem, name, new_key
from conftest import BUILD

AGENT = BUILD / "src" / "muster-agent"
NOT_YET = 75
PEM = serialization.Encoding.PEM


def certificates(path):
    """Those of a PEM file, in their order."""
    end = b"-----END CERTIFICATE-----\n"
    return [x509.load_pem_x509_certificate(part + end) for part in pathlib.Path(path).read_bytes().split(end)[:-1]]


class Agent:
    """One device: its directory, and the agent that works in it."""

    def __init__(self, top, *options, env=None, program=AGENT):
        self.top, self.dir = pathlib.Path(top), pathlib.Path(top) / "agent"
        self.top.mkdir(exist_ok=True)
        self.hooks = self.top / "hooks"
        self.hooks.mkdir(exist_ok=True)
        self.options, self.program = list(options), program
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
        self.env = {**clean, **(env or {})}

    def command(self, verb, *options):
        hooks = ["--hooks", self.hooks] if verb in ("provision", "run") else []
        more = self.options if verb in ("provision", "run") else []
        return [*(self.program if isinstance(self.program, list) else [self.program]), verb, "--dir", self.dir, *hooks, *more, *options]

    def run(self, verb, *options, env=None, **more):
        return subprocess.run([str(w) for w in self.command(verb, *options)], capture_output=True, text=True, env={**self.env, **(env or {})}, timeout=120, check=False, **more)

    def good(self, verb, *options, **more):
        done = self.run(verb, *options, **more)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def fails(self, verb, *options, status=1, **more):
        done = self.run(verb, *options, **more)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stderr

    def status(self):
        return json.loads(self.good("status", "--json"))

    def explain(self, **more):
        done = self.run("explain", "--json", **more)
        said = json.loads(done.stdout)
        assert (done.returncode == 0) == (said["verdict"] == "admitted")
        return said

    def remembered(self):
        return json.loads((self.dir / "state.json").read_text(encoding="utf-8"))

    def remember(self, **fields):
        (self.dir / "state.json").write_text(json.dumps({**self.remembered(), **fields}), encoding="utf-8")

    def hook(self, text="echo \"$1\" >> \"$MUSTER_AGENT_DIR/../told\"\n", file="10-tell", mode=0o755):
        (self.hooks / file).write_text("#!/bin/sh\n" + text, encoding="utf-8")
        (self.hooks / file).chmod(mode)

    @property
    def told(self):
        return (self.top / "told").read_text(encoding="utf-8").split() if (self.top / "told").exists() else []

    @property
    def identity(self):
        """What other programs find."""
        here = self.dir / "current"
        certs = certificates(here / "client.pem")
        key = serialization.load_pem_private_key((here / "pkey.pem").read_bytes(), None)
        return Identity(certs[0], key, certs[1:])

    @property
    def serial(self):
        return self.identity.cert.serial_number

    @property
    def anchors(self):
        return certificates(self.dir / "current" / "root.crt")


SERVER_AUTH, CLIENT_AUTH, TIME_STAMPING = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.TIME_STAMPING
UTC = datetime.timezone.utc


def now():
    return datetime.datetime.now(UTC).replace(tzinfo=None, microsecond=0)


class Authority:
    """A CA of gateways, made by python-cryptography."""

    def __init__(self, cn="Server CA", ekus=(SERVER_AUTH,), ca=True, begin=-1, end=3650, **more):
        self.key, self.cn = new_key(), cn
        self.cert = self.sign(name(cn), self.key, ekus, ca=ca, begin=begin, end=end, issuer=name(cn), **more)

    def sign(self, subject, key, ekus, ca=False, begin=-1, end=3650, issuer=None, sans=(), at=None, path=None, permitted=None):
        base = at or now()
        b = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or self.cert.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        b = b.not_valid_before(base + datetime.timedelta(days=begin)).not_valid_after(base + datetime.timedelta(days=end))
        b = b.add_extension(x509.BasicConstraints(ca, path), True)
        if permitted:
            b = b.add_extension(x509.NameConstraints([x509.DNSName(permitted)], None), True)
        b = b.add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), True)
        if ekus:
            b = b.add_extension(x509.ExtendedKeyUsage(list(ekus)), False)
        if sans:
            b = b.add_extension(x509.SubjectAlternativeName(list(sans)), False)
        return b.sign(self.key, hashes.SHA256())

    def crosses(self, other, ekus=(SERVER_AUTH,), ca=True, **more):
        """NewWithOld: the other CA's key, certified by this one."""
        return self.sign(other.cert.subject, other.key, ekus, ca=ca, **more)

    def server(self, **more):
        key = new_key()
        return Identity(self.sign(name("localhost"), key, (SERVER_AUTH,), sans=(x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))), **more), key)

    def pem(self):
        return self.cert.public_bytes(PEM)

    def device(self, cn="car-1", key=None, end=300, begin=-1, at=None):
        key = key or new_key()
        return Identity(self.sign(name(cn), key, (CLIENT_AUTH,), begin=begin, end=end, at=at), key)


def shake_hands(tls):
    """Where that fails the client is heard to the end: closing before would reset the connection, and might take the alert away that it is to see."""
    try:
        tls.do_handshake()
    except OSError:
        with socket.socket(fileno=os.dup(tls.fileno())) as raw:
            raw.settimeout(10)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                pass
        raise


class Gateway:
    """A gateway of a test's own: answers[(method, path)] is (status, fields, body), or a function of the request that gives it.  `asked` has what came."""

    def __init__(self, identity, answers=None, client_ca=None, port=0):
        self.asked, self.answers = [], answers or {}
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                gateway.asked.append((self.command, self.path, body))
                answer = gateway.answers.get((self.command, path), (404, {}, b""))
                if callable(answer):
                    answer = answer(self, body)
                if answer is None:
                    self.close_connection = True
                    return
                status, fields, said = answer
                self.send_response(status)
                for k, v in {"Content-Length": str(len(said)), "Connection": "close", **fields}.items():
                    self.send_header(k, v)
                self.end_headers()
                self.wfile.write(said)
                self.close_connection = True

            do_GET = do_POST = handle_one

            def log_message(self, *args):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(identity.cert_file), str(identity.key_file))
        if client_ca:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=client_ca.pem().decode())

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                raw, address = self.socket.accept()
                raw.settimeout(10)
                return raw, address

            def finish_request(self, request, client_address):
                try:
                    with context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as tls:
                        shake_hands(tls)
                        self.RequestHandlerClass(tls, client_address, self)
                except OSError:
                    pass

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def paths(self):
        return [(method, path.partition("?")[0]) for method, path, _ in self.asked]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


EST = "/.well-known/est/"
ADMITTED = (405, {"Allow": "POST"}, b"")


def certs_only(*certs):
    der = pkcs7.serialize_certificates(list(certs), serialization.Encoding.DER)
    return 200, {"Content-Type": "application/pkcs7-mime; smime-type=certs-only"}, base64.encodebytes(der)


def refusal(status, code, description="No.", **fields):
    return status, {"Content-Type": "application/json", **fields}, json.dumps({"code": code, "description": description, "cause": None}).encode()


def issues(authority, end=300, **more):
    """An answer to simpleenroll and simplereenroll: whatever key the request is for."""
    def answer(request, body):
        csr = x509.load_der_x509_csr(base64.b64decode(body))
        cert = authority.sign(csr.subject, Holder(csr.public_key()), (CLIENT_AUTH,), end=end, **more)
        return certs_only(cert)
    return answer


class Holder:
    def __init__(self, public):
        self.public = public

    def public_key(self):
        return self.public


def shared(directory, gateway_url, ca, provisioning=None):
    """Shared credentials as a directory."""
    d = pathlib.Path(directory)
    d.mkdir(parents=True)
    by = Authority("Provisioning", ekus=(CLIENT_AUTH,))
    key = provisioning or by.device("provisioning key")
    (d / "autoprov.url").write_text(gateway_url + "\n", encoding="utf-8")
    (d / "autoprov_credentials.p12").write_bytes(pkcs12.serialize_key_and_certificates(b"key", key.key, key.cert, [ca.cert], serialization.NoEncryption()))
    (d / "server_ca.pem").write_bytes(ca.pem())
    return d


def own(directory, identity, ca, url, mode=0o600):
    """Device credentials as a factory puts them there."""
    d = pathlib.Path(directory)
    d.mkdir(parents=True, exist_ok=True)
    (d / "client.pem").write_bytes(b"".join(c.public_bytes(PEM) for c in [identity.cert, *identity.chain]))
    (d / "pkey.pem").write_bytes(key_pem(identity.key))
    (d / "pkey.pem").chmod(mode)
    (d / "root.crt").write_bytes(ca)
    (d / "gateway.url").write_text(url + "\n", encoding="utf-8")
    return d

"""A device's certificate is no server's: curl and GnuTLS reject it as one."""
import re
import socket
import sqlite3
import ssl
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from client import _path
from enrolment import Account, enrolled


class TlsServer:
    """A TLS server on a device's certificate, as somebody who stole one would set it up."""

    def __init__(self, identity):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(str(identity.cert_file), str(identity.key_file))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                raw, _ = self.socket.accept()
            except OSError:
                return
            try:
                raw.settimeout(5)
                with self.context.wrap_socket(raw, server_side=True) as c:
                    c.recv(4096)
                    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            except OSError:
                pass

    def close(self):
        self.socket.close()


@pytest.fixture
def impostor(server):
    """A device whose ID is a host name, served from; with the CA certificates above it as files."""
    a = Account(server)
    device = enrolled(server, a.key(), "update.example")
    root = server.muster("root", "list", "--account", a.name)[0]
    with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
        cas = [x509.load_der_x509_certificate(der) for (der,) in db.execute("SELECT der FROM ca")]
    device.issuing = next(c for c in cas if c.subject == device.cert.issuer and c.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest ==
                          device.cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier)
    pem = lambda c: c.public_bytes(serialization.Encoding.PEM)
    device.all_cas, device.own_cas, device.chain_file = _path(), _path(), _path()
    device.all_cas.write_bytes(pem(device.issuing) + server.muster("root", "export", root["id"])["certificate"].encode())
    device.own_cas.write_bytes(b"".join(map(pem, device.cas)))
    device.chain_file.write_bytes(pem(device.cert) + pem(device.issuing))
    s = TlsServer(device)
    device.port = s.port
    yield device
    s.close()


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, timeout=20, stdin=subprocess.DEVNULL)


def test_curl_rejects_a_device_as_a_server(impostor):
    """With what a device trusts, and even where somebody has made the fleet's CAs trusted: it is not for servers."""
    curl = ["curl", "-sS", "--noproxy", "*", "--resolve", f"update.example:{impostor.port}:127.0.0.1", f"https://update.example:{impostor.port}/"]
    assert run(*curl, "-k").stdout == "ok"
    for cas, why in ((impostor.own_cas, "certificate"), (impostor.all_cas, "certificate purpose")):
        done = run(*curl, "--cacert", cas)
        assert done.returncode == 60 and why in done.stderr, done
    # Nothing else is wrong with it: as a client's it verifies.
    assert run("openssl", "verify", "-purpose", "sslclient", "-CAfile", impostor.all_cas, impostor.cert_file).returncode == 0
    assert "certificate purpose" in run("openssl", "verify", "-purpose", "sslserver", "-CAfile", impostor.all_cas, impostor.cert_file).stderr


def test_gnutls_rejects_a_device_as_a_server(impostor):
    for cas in (impostor.own_cas, impostor.all_cas):
        done = run("gnutls-cli", "--x509cafile", cas, "--verify-hostname", "update.example", "--sni-hostname", "update.example", "-p", impostor.port, "127.0.0.1")
        assert done.returncode != 0 and "NOT trusted" in done.stdout + done.stderr, done
    # The purpose is the reason, as its verifier says where everything else is right.
    verify = ["certtool", "--verify", "--load-ca-certificate", impostor.all_cas, "--infile", impostor.chain_file]
    server = run(*verify, "--verify-purpose", "1.3.6.1.5.5.7.3.1")
    assert server.returncode != 0 and "purpose" in server.stdout
    client = run(*verify, "--verify-purpose", "1.3.6.1.5.5.7.3.2")
    assert client.returncode == 0 and re.search(r"Chain verification output: Verified", client.stdout), client

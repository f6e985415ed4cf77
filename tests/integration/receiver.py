"""What webhooks are sent to: a receiver on loopback, plain or over TLS, that keeps what it got and answers as it is told."""
import collections
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time

from cryptography import x509
import datetime
import ipaddress

from client import Fleet, Identity, name, new_key
from cryptography.hazmat.primitives import hashes

Got = collections.namedtuple("Got", "path headers body json at")


def verify(secret, header, body, tolerance=300):
    """The recipe of doc/webhooks.md, which a test holds against it."""
    fields = [part.split("=", 1) for part in header.split(",")]
    at = int(next(value for key, value in fields if key == "t"))
    wanted = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return abs(time.time() - at) <= tolerance and any(key == "v1" and hmac.compare_digest(value, wanted) for key, value in fields)


def server_identity(ca, host="localhost"):
    """A certificate for a server, under a Fleet."""
    key = new_key()
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if host == "localhost" else [x509.DNSName(host)]
    cert = (x509.CertificateBuilder().subject_name(name(host)).issuer_name(ca.cert.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName(names), False).sign(ca.key, hashes.SHA256()))
    return Identity(cert, key)


class Receiver:
    """answer(number, got) -> status, (status, headers) or None to hang up; number counts requests from 1."""

    def __init__(self, answer=lambda number, got: 200, tls=None):
        self.got, self.lock, self.answer, self.busy, self.most = [], threading.Lock(), answer, 0, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    doc = json.loads(body)
                except ValueError:
                    doc = None
                got = Got(self.path, self.headers, body, doc, time.monotonic())
                with outer.lock:
                    outer.got.append(got)
                    number = len(outer.got)
                    outer.busy += 1
                    outer.most = max(outer.most, outer.busy)
                try:
                    said = outer.answer(number, got)
                finally:
                    with outer.lock:
                        outer.busy -= 1
                if said is None:
                    self.close_connection = True
                    return
                status, headers = said if isinstance(said, tuple) else (said, {})
                text = headers.pop("body", b"")
                more = headers.pop("more", 0)  # bytes that are promised and never come
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(text) + more))
                self.end_headers()
                self.wfile.write(text)
                if more:
                    self.wfile.flush()
                    time.sleep(20)
                    self.close_connection = True

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(str(tls.cert_file), str(tls.key_file))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def url(self, path="/hook", host="127.0.0.1"):
        return f"{self.scheme}://{host}:{self.port}{path}"

    def events(self, kind=None):
        with self.lock:
            return [g.json for g in self.got if kind is None or g.json["type"] == kind]

    def wait(self, n, kind=None, seconds=15):
        """The first n events, once they are there."""
        end = time.monotonic() + seconds
        while len(self.events(kind)) < n:
            assert time.monotonic() < end, f"{len(self.events(kind))} of {n}: {[e['type'] for e in self.events()][-20:]}"
            time.sleep(0.02)
        return self.events(kind)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def own_ca(name="Receivers' CA"):
    return Fleet(name)

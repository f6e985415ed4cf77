"""Proxies in front of other services, as they ask Muster at /auth: by hand over the Unix socket, and a real nginx."""
import base64
import http.client
import http.server
import pathlib
import pwd
import os
import socket
import subprocess
import threading
import time
import urllib.parse

from cryptography.hazmat.primitives import hashes, serialization

from client import Answer
from ports import free_port

CONF = pathlib.Path(__file__).parents[2] / "packaging" / "nginx-auth.conf"


def me():
    return pwd.getpwuid(os.getuid()).pw_name


def pem(*certs):
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in certs)


def der(*certs):
    return base64.b64encode(b"".join(c.public_bytes(serialization.Encoding.DER) for c in certs)).decode()


def escaped(*certs):
    """As nginx's $ssl_client_escaped_cert: everything but unreserved characters."""
    return urllib.parse.quote(pem(*certs), safe="")


def nginx_fields(identity):
    return {"X-Muster-Client-Cert": escaped(identity.cert)}


def envoy_element(identity, cert=True, chain=True, more=('Subject="CN=a\\"b;c,d"', "URI=")):
    """One element of Envoy's header, its characters replaced as Envoy replaces them (source/common/ssl: SSL info's urlEncodedPem…)."""
    def encoded(*certs):
        text = pem(*certs)
        for raw in "\n +/=":
            text = text.replace(raw, f"%{ord(raw):02X}")
        return text
    parts = [f"Hash={identity.cert.fingerprint(hashes.SHA256()).hex()}"]
    parts += [f'Cert="{encoded(identity.cert)}"'] if cert else []
    parts += [f'Chain="{encoded(identity.cert, *identity.chain)}"'] if chain else []
    return ";".join([*parts, *more])


def envoy_fields(identity, **how):
    return {"X-Forwarded-Client-Cert": envoy_element(identity, **how)}


def haproxy_fields(identity):
    fields = {"X-Muster-Client-Der": der(identity.cert)}
    return {**fields, "X-Muster-Client-Chain-Der": der(*identity.chain)} if identity.chain else fields


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Proxy:
    """A proxy that asks by hand.  Each question is a connection of its own, unless `keep` is given one."""

    def __init__(self, path):
        self.path = path

    def connect(self):
        return UnixConnection(self.path)

    def ask(self, fields, method="GET", path="/auth", host="localhost", keep=None, body=None):
        c = keep or self.connect()
        try:
            c.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in [("Host", host), *(fields.items() if isinstance(fields, dict) else fields)]:
                c.putheader(name, value)
            if body is not None:
                c.putheader("Content-Length", str(len(body)))
            c.endheaders(body)
            return Answer(c.getresponse())
        finally:
            if not keep:
                c.close()


class Backend:
    """A service that says what it was sent."""

    def __init__(self):
        seen = self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                length = int(self.headers.get("Content-Length") or 0)
                seen.append((self.command, self.path, self.headers.items(), self.rfile.read(length)))
                status = 403 if self.path == "/says-403" else 200
                body = b"the backend's"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_POST = do_PUT = do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fields(self):
        """Of the last request, by lower-case name."""
        out = {}
        for name, value in self.seen[-1][2]:
            out.setdefault(name.lower(), []).append(value)
        return out

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Nginx:
    """The nginx of packaging/nginx-auth.conf, with names, ports and paths of the test put in."""

    def __init__(self, directory, auth_socket, backend, cert, key, change=lambda text: text):
        self.dir, self.port = pathlib.Path(directory), free_port()
        self.dir.mkdir()
        text = CONF.read_text(encoding="utf-8")
        for old, new in [("unix:/run/muster/auth.sock", f"unix:{auth_socket}"), ("127.0.0.1:8080", f"127.0.0.1:{backend.port}"),
                         ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"), ("server_name gw.example.com *.gw.example.com", "server_name localhost *.localhost"),
                         ("/etc/nginx/tls/gateway.pem", str(cert)), ("/etc/nginx/tls/gateway.key", str(key))]:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        temporary = "".join(f"{kind}_temp_path {self.dir}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = f"user {me()};\n" if os.getuid() == 0 else ""
        (self.dir / "nginx.conf").write_text(f"{user}daemon off;\nworker_processes 1;\npid {self.dir}/pid;\nerror_log {self.dir}/error.log;\nevents {{ }}\n"
                                             f"http {{\naccess_log off;\n{temporary}{change(text)}\n}}\n", encoding="utf-8")
        self.process = subprocess.Popen(["/usr/sbin/nginx", "-p", str(self.dir), "-e", str(self.dir / "error.log"), "-c", str(self.dir / "nginx.conf")],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, self.errors()
            time.sleep(0.05)
        raise AssertionError("nginx does not listen")

    def errors(self):
        return (self.dir / "error.log").read_text(encoding="utf-8")

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)

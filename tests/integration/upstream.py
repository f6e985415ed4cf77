"""A server behind the gateway, for tests: it records what reaches it, byte for byte, and answers what the test wants."""
import http.client
import io
import socket
import ssl
import threading
import time


class Got:
    """One request as it arrived."""

    def __init__(self, line, fields, body):
        self.method, self.target, self.version = line.split(" ")
        self.fields, self.body = fields, body

    def all(self, name):
        return [v for k, v in self.fields if k.lower() == name.lower()]

    def one(self, name):
        values = self.all(name)
        assert len(values) == 1, (name, values)
        return values[0]


def answer(status=200, body=b"hello from behind", fields=(), length=True):
    head = f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields)
    if length:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Upstream:
    """Listens on loopback; `behave(got, connection)` answers each request: bytes, or None where it has spoken itself."""

    def __init__(self, behave=None, tls=None, address="127.0.0.1"):
        self.behave = behave or (lambda got, connection: answer())
        self.tls, self.got, self.connections = tls, [], 0
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]
        self.scheme = "https" if tls else "http"
        self.open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def close(self):
        self.listener.close()
        for c in list(self.open):
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        try:
            c = self.tls.wrap_socket(raw, server_side=True) if self.tls else raw
        except (OSError, ssl.SSLError):
            raw.close()
            return
        self.open.add(c)
        try:
            with c, c.makefile("rb") as f:
                while self._one(c, f):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            self.open.discard(c)

    def _one(self, c, f):
        line = f.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            return False
        fields = []
        while (field := f.readline().decode("latin-1").rstrip("\r\n")):
            name, value = field.split(":", 1)
            fields.append((name, value.strip()))
        self.partial = (line, fields)
        got = Got(line, fields, b"")
        early = getattr(self.behave, "early", None)
        if early and early(got, c, f):
            self.got.append(got)
            return False
        if got.all("Content-Length"):
            length = int(got.one("Content-Length"))
            got.body = f.read(length)
            if len(got.body) < length:
                return False  # cut off: never a request
        elif got.all("Transfer-Encoding") == ["chunked"]:
            got.body = self._chunked(f)
        self.got.append(got)
        said = self.behave(got, c)
        if said is not None:
            c.sendall(said)
        return said is not None and b"Connection: close" not in said

    @staticmethod
    def _chunked(f):
        body = io.BytesIO()
        while (n := int(f.readline(), 16)):
            body.write(f.read(n))
            assert f.readline() == b"\r\n"
        assert f.readline() == b"\r\n"
        return body.getvalue()

    def last(self, seconds=5):
        """The newest request, waiting for one."""
        end = time.monotonic() + seconds
        while not self.got and time.monotonic() < end:
            time.sleep(0.01)
        return self.got[-1]


def read_head(connection, method="GET"):
    """An answer's head, leaving its body on the connection."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return response

"""The recipes of doc/revocation.md, as they are printed: a real nginx and a real mosquitto let Muster's devices in, and not those that are on its
lists."""
import http.client
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import enrolment
from client import Fleet, key_pem, name
from conftest import MUSTER, Server, soon
from ports import free_port

PAGE = (pathlib.Path(__file__).parents[2] / "doc" / "revocation.md").read_text(encoding="utf-8")
NGINX, MOSQUITTO = shutil.which("nginx", path="/usr/sbin:/usr/bin"), shutil.which("mosquitto", path="/usr/sbin:/usr/bin")


def block(first):
    """The indented block of the page that begins so."""
    at = PAGE.index("\n    " + first) + 1
    lines = []
    for line in PAGE[at:].splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line[4:])
    return "\n".join(lines).rstrip() + "\n"


class World:
    """A server with an account, and a directory of another machine: a token that may read the account, the script, a certificate of its own."""

    def __init__(self, top):
        self.plain = free_port()
        self.server = Server(top / "data", config=[f"crl_listen = 127.0.0.1:{self.plain}"]).start()
        self.account = enrolment.Account(self.server)
        self.key = self.account.key()
        self.dir = top / "elsewhere"
        self.dir.mkdir()
        ca = Fleet("Elsewhere CA")
        own = ca.issue(name("localhost"), extensions=[(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)])
        (self.dir / "ca.pem").write_bytes(ca.root_pem())
        (self.dir / "server.pem").write_bytes(own.cert.public_bytes(serialization.Encoding.PEM))
        (self.dir / "server.key").write_bytes(key_pem(own.key))
        token = self.dir / "token"
        token.write_text(self.server.token("crl-reader", "auditor", self.account.name)["token"])
        token.chmod(0o600)
        self.bin = self.dir / "bin"
        self.bin.mkdir()
        (self.bin / "muster").symlink_to(MUSTER)
        (self.bin / "muster-crl").write_text(block("#!/bin/sh"))
        (self.bin / "muster-crl").chmod(0o755)
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}, "MUSTER_URL": self.server.admin_url, "MUSTER_TOKEN_FILE": str(token),
                    "MUSTER_CA": str(self.server.dir / "server-ca.pem"), "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/bin"}

    def used(self, device_id):
        return enrolment.used(self.server, self.key, device_id)

    def command(self, text):
        """A program of the recipe's that is not this test's: what it would do here."""
        word, path = text.split("\n", 1)[0], self.bin / text.split("\n", 1)[0]
        path.write_text("#!/bin/sh\n" + text.split("\n", 1)[1])
        path.chmod(0o755)
        return word

    def take_files(self):
        soon(2, lambda: len(self.server.muster("crl", "list", "--account", self.account.name)), 5)
        for noun, file in ((("root", "bundle"), "cas.pem"), (("crl", "export"), "crls.pem")):
            subprocess.run([self.bin / "muster", *noun, "--account", self.account.name, "-o", self.dir / file], env=self.env, check=True, timeout=60)

    def fetch(self):
        done = subprocess.run([self.bin / "muster-crl", self.account.name], cwd=self.dir, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def entries(self):
        return sum(c["entries"] for c in self.server.muster("crl", "list", "--account", self.account.name))

    def tls(self, device):
        context = ssl.create_default_context(cafile=self.dir / "ca.pem")
        context.load_cert_chain(device.cert_file, device.key_file)
        return context


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("recipes"))
    yield w
    assert w.server.stop() == 0


# --- nginx --------------------------------------------------------------------------------------------------------------------------------------


def serve_nginx(world, name, listen, *changes):
    """The recipe of that name by a real nginx."""
    port = free_port()
    conf = world.dir / f"nginx-{name}.conf"
    recipe = block(f"# {name}.conf").replace(f"listen {listen} ssl;", f"listen 127.0.0.1:{port} ssl;")
    assert str(port) in recipe
    for before, after in changes:
        assert before in recipe
        recipe = recipe.replace(before, after)
    (world.dir / f"{name}.conf").write_text(recipe)
    log = world.dir / f"{name}.log"
    temp = " ".join(f"{kind}_temp_path {world.dir}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf.write_text(f"daemon off; pid {world.dir}/{name}.pid; error_log {log}; events {{}}\nhttp {{ access_log off; {temp}\ninclude {world.dir}/{name}.conf;\n}}\n")
    world.command(f"nginx\nexec {NGINX} -p {world.dir} -e {log} -c {conf} \"$@\"\n")
    world.take_files()  # the first time there is nothing to reload yet
    process = subprocess.Popen([NGINX, "-p", world.dir, "-e", log, "-c", conf])

    def ask(device):
        """What nginx says: the device's name, or why not."""
        c = http.client.HTTPSConnection("localhost", port, context=world.tls(device), timeout=20)
        try:
            c.request("GET", "/")
            answer = c.getresponse()
            body = answer.read().decode()
            return body.strip() if answer.status == 200 else answer.status
        finally:
            c.close()

    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    yield ask
    process.send_signal(signal.SIGQUIT)
    assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def nginx(world):
    yield from serve_nginx(world, "muster-nginx", 8444)


def test_nginx_lets_devices_in_and_not_those_on_the_lists(world, nginx):
    good, bad, held = world.used("ngx-good"), world.used("ngx-bad"), world.used("ngx-held")
    stranger = Fleet().device("ngx-good")
    for d in (good, bad, held):
        assert f"CN={d.common_name}" in nginx(d)
    assert nginx(stranger) == 400
    world.account.device("revoke", "ngx-bad")
    world.account.device("quarantine", "ngx-held")
    soon(2, world.entries, 2)
    world.fetch()
    for device in (bad, held):  # nginx's old worker may answer until it has heard that there is a new one
        soon(400, lambda d=device: nginx(d), 5)
    assert f"CN={good.common_name}" in nginx(good)
    world.account.device("release", "ngx-held")
    soon(1, world.entries, 2)
    world.fetch()
    soon(True, lambda: f"CN={held.common_name}" in str(nginx(held)), 5)
    assert nginx(bad) == 400


def test_the_script_reloads_nothing_where_nothing_has_changed(world, nginx):
    world.fetch()
    before = (world.dir / "crls.pem").stat().st_ino
    world.fetch()
    assert (world.dir / "crls.pem").stat().st_ino == before


def test_nginx_needs_the_list_of_the_root_too(world, nginx):
    """Which is why there is one: with the issuing CA's alone nobody gets in."""
    good = world.used("ngx-chain")
    assert f"CN={good.common_name}" in nginx(good)
    whole = (world.dir / "crls.pem").read_text()
    lists = [x509.load_pem_x509_crl(("-----BEGIN" + p).encode()) for p in whole.split("-----BEGIN")[1:]]
    only = [c for c in lists if c.issuer == good.cert.issuer]
    (world.dir / "crls.pem").write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in only))
    subprocess.run([world.bin / "nginx", "-s", "reload"], check=True, env=world.env, timeout=20)
    soon(400, lambda: nginx(good), 5)
    (world.dir / "crls.pem").write_text(whole)
    subprocess.run([world.bin / "nginx", "-s", "reload"], check=True, env=world.env, timeout=20)
    soon(True, lambda: f"CN={good.common_name}" in str(nginx(good)), 5)


# --- nginx with OCSP ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asking(world):
    responder = f"http://127.0.0.1:{world.plain}/ocsp/{world.account.name}"
    yield from serve_nginx(world, "muster-ocsp", 8445, ("http://127.0.0.1:8080/ocsp/ACCOUNT", responder))


def test_nginx_asks_about_each_device_and_lets_in_who_is_good(world, asking):
    good, bad, held = world.used("ocsp-good"), world.used("ocsp-bad"), world.used("ocsp-held")
    world.account.device("revoke", "ocsp-bad")
    world.account.device("quarantine", "ocsp-held")
    assert f"CN={good.common_name}" in asking(good)
    assert asking(bad) == 400 and asking(held) == 400
    assert f"CN={good.common_name}" in asking(good)
    assert asking(Fleet().device("ocsp-good")) == 400
    late = world.used("ocsp-late")  # nobody has asked about it yet
    world.account.device("revoke", "ocsp-late")
    assert asking(late) == 400
    counted = world.server.api("GET", "/metrics").body.decode()
    assert 'muster_ocsp_answers_total{answer="malformed"} 0' in counted and 'muster_ocsp_answers_total{answer="unauthorized"} 0' in counted


# --- mosquitto ----------------------------------------------------------------------------------------------------------------------------------


class Mosquitto:
    def __init__(self, world):
        self.world, self.port, self.process = world, free_port(), None
        text = block("# muster-mosquitto.conf").replace("listener 8883", f"listener {self.port} 127.0.0.1")
        assert str(self.port) in text
        for file in ("cas.pem", "crls.pem", "server.pem", "server.key"):
            text = text.replace(f"file {file}", f"file {world.dir}/{file}")
        if os.getuid() == 0:  # it would become another user, who may not read this directory
            text += "user root\n"
        self.conf = world.dir / "mosquitto.conf"
        self.conf.write_text(text)

    def start(self):
        with open(self.world.dir / "mosquitto.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", self.conf], stdout=log, stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.world.dir / "mosquitto.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=20)
        self.process = None

    def connack(self, device):
        """The return code of MQTT 3.1.1's CONNACK; None: the connection was ended."""
        connect = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05probe"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain, self.world.tls(device).wrap_socket(plain, server_hostname="localhost") as s:
                s.sendall(connect)
                said = s.recv(4)
                return said[3] if len(said) == 4 and said[0] == 0x20 else None
        except (ssl.SSLError, ConnectionError):  # TLS 1.3 says so only after the handshake
            return None


@pytest.fixture(scope="module")
def mosquitto(world):
    m = Mosquitto(world)
    yield m
    m.stop()


def test_mosquitto_lets_devices_in_and_not_those_on_the_lists(world, mosquitto):
    good, bad = world.used("mqtt-good"), world.used("mqtt-bad")
    world.take_files()
    mosquitto.start()
    assert mosquitto.connack(good) == 0 and mosquitto.connack(bad) == 0
    assert mosquitto.connack(Fleet().device("mqtt-good")) is None
    before = world.entries()
    world.account.device("revoke", "mqtt-bad")
    soon(before + 1, world.entries, 2)
    world.take_files()
    assert mosquitto.connack(bad) == 0  # nobody has told it
    mosquitto.process.send_signal(signal.SIGHUP)
    soon(None, lambda: mosquitto.connack(bad), 5)
    assert mosquitto.connack(good) == 0
    mosquitto.stop()
    mosquitto.start()
    assert mosquitto.connack(bad) is None and mosquitto.connack(good) == 0

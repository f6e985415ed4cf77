"""A gateway behind balancers that speak PROXY protocol v2: the client's address is whatever they say, and only they may say it."""
import socket
import ssl
import struct
import subprocess
import time

import pytest

from client import Device, Gateway
from conftest import MUSTERD, soon
from ports import free_port

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BALANCER = "127.0.0.2"


def header(source, command=0x21, values=b""):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    address = socket.inet_pton(family, source) + socket.inet_pton(family, "::1" if ":" in source else "127.0.0.1") + struct.pack(">HH", 40000, 8443)
    kind = 0x21 if ":" in source else 0x11
    return SIGNATURE + struct.pack(">BBH", command, kind, len(address + values)) + address + values


class Behind(Gateway):
    """A client whose connection is preceded by `front`, and that connects from `by`."""

    def __init__(self, server, identity=None, front=b"", by=BALANCER, **options):
        super().__init__(server.port, server.dir / "server-ca.pem", identity, source=by, **options)
        self.front = front

    def connect(self, session=None):
        raw = socket.create_connection((self.address, self.port), timeout=self.timeout, source_address=self.source)
        raw.sendall(self.front)
        return self.context.wrap_socket(raw, server_hostname=self.sni, session=session)


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    from conftest import Server
    s = Server(tmp_path_factory.mktemp("balancer") / "data", config=[f"proxy_from = {BALANCER} 127.0.0.64/28 2001:db8::/32"]).start()
    s.account("shop")
    yield s
    assert s.stop() == 0


def test_the_clients_address_is_judged_and_kept(behind):
    key = behind.key("shop", "--source", "198.51.100.0/24", "--source", "2001:db8:7::/48")
    assert Behind(behind, key, header("203.0.113.1")).enrol("outside").code == "provisioning_key_source"
    answer = Behind(behind, key, header("198.51.100.7")).enrol("inside")
    assert answer.status == 200
    device = Device(answer.body)
    assert Behind(behind, key, header("2001:db8:7::5"), by="127.0.0.70").enrol("inside-6").status == 200
    assert Behind(behind, device, header("192.0.2.99")).ecus().status == 201
    shown = behind.muster("device", "show", "inside", "--account", "shop")
    assert shown["last_address"] == "192.0.2.99"
    # And the balancer's own address counts where it speaks for itself.
    assert Behind(behind, key, header("198.51.100.7", command=0x20)).enrol("local").code == "provisioning_key_source"


@pytest.mark.parametrize("front", [b"", b"PROXY TCP4 198.51.100.7 127.0.0.1 40000 8443\r\n", header("198.51.100.7", values=b"\x04\xff\xff"), SIGNATURE + b"\x21\x11\xff\xff",
                                   SIGNATURE + b"\x21\x00\x00\x00", SIGNATURE + b"\x21\x11\x00\x04\xc6\x33\x64\x07"], ids=["none", "v1", "values", "long", "no-family", "short"])
def test_a_balancer_without_a_good_header_is_closed(behind, front):
    before = behind.log_text().count("proxy_header_refused")

    def is_said():  # five times a second
        with pytest.raises((ssl.SSLError, ConnectionError, TimeoutError)):
            Behind(behind, front=front, timeout=3).get("/x")
        return behind.log_text().count("proxy_header_refused") > before

    assert soon(True, is_said, 5)
    assert Behind(behind, front=header("198.51.100.7")).get("/x").code == "certificate_required"


def test_a_client_that_only_fails_is_turned_away_behind_the_balancer_too(fresh):
    """He, not the balancer, nor another client behind it."""
    s = fresh(config=[f"proxy_from = {BALANCER}", "limit_source = 5"])
    for _ in range(5):
        assert Behind(s, front=header("198.51.100.9")).get("/x").code == "certificate_required"
    with pytest.raises((ssl.SSLError, OSError)):
        Behind(s, front=header("198.51.100.9")).get("/x")
    assert Behind(s, front=header("198.51.100.10")).get("/x").code == "certificate_required"


@pytest.mark.parametrize("by", ["127.0.0.1", "127.0.0.3", "127.0.0.80"])
def test_nobody_else_may_name_an_address(behind, by):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Behind(behind, front=header("198.51.100.7"), by=by).get("/x")
    key = behind.key("shop", "--source", by)
    assert Behind(behind, key, by=by).enrol(f"direct-{by}").status == 200


@pytest.fixture
def haproxy(behind, tmp_path):
    """A real haproxy that passes TCP through, from the balancer's address."""
    port = free_port()
    (tmp_path / "haproxy.cfg").write_text(f"""defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen gateway
  bind 127.0.0.1:{port}
  server muster 127.0.0.1:{behind.port} source {BALANCER} send-proxy-v2 check inter 100ms
""", encoding="utf-8")
    process = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None
        time.sleep(0.05)
    yield port
    process.terminate()
    process.wait(timeout=20)


def test_a_real_balancer(behind, haproxy):
    key = behind.key("shop", "--source", "127.0.0.9")
    through = lambda source: Gateway(haproxy, behind.dir / "server-ca.pem", key, source=source)
    assert through("127.0.0.8").enrol("through-8").code == "provisioning_key_source"
    assert through("127.0.0.9").enrol("through-9").status == 200
    time.sleep(0.5)  # some health checks: it still thinks that the gateway is there
    assert through("127.0.0.9").enrol("through-9b").status == 200


def test_without_the_setting_nobody_may(server):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Behind(server, front=header("198.51.100.7")).get("/x")


@pytest.mark.parametrize("value", ["127.0.0.1/8", "balancer.example", "::ffff:127.0.0.1"])
def test_a_setting_that_means_nothing_is_refused(fresh, value):
    s = fresh(start=False, config=[f"proxy_from = {value}"])
    done = subprocess.run([MUSTERD, "serve", "--data", s.dir], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and "proxy_from" in done.stderr and "(config_invalid)" in done.stderr

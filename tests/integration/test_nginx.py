"""The recipe of doc/behind-your-proxy.md: a real nginx with packaging/nginx-auth.conf, the real server, a service behind."""
import os
import signal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from client import Device, Fleet, Gateway, key_pem, name
from conftest import Server, soon
from proxies import Backend, Nginx, me


class World:
    def __init__(self, directory):
        self.dir, self.socket = directory, directory / "auth.sock"
        self.server = Server(directory / "data", config=[f"auth_socket = {self.socket}", f"auth_users = {me()}"]).start()
        self.server.account("shop", "test", "both")
        self.server.account("other", "test", "both")
        self.fleet, self.key = self.server.root("shop"), self.server.key("shop")
        self.backend = Backend()
        ca = Fleet("Server CA")
        cert = ca.issue(name("localhost"), extensions=[(x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName("*.localhost"),
                                                                                     x509.DNSName("shop.localhost"), x509.DNSName("other.localhost")]), False)])
        (directory / "ca.pem").write_bytes(ca.root_pem())
        (directory / "tls.pem").write_bytes(cert.cert.public_bytes(serialization.Encoding.PEM))
        (directory / "tls.key").write_bytes(key_pem(cert.key))
        self.nginx = self.start_nginx("nginx")

    def start_nginx(self, what, **more):
        return Nginx(self.dir / what, self.socket, self.backend, self.dir / "tls.pem", self.dir / "tls.key", **more)

    def client(self, identity=None, nginx=None, **options):
        return Gateway((nginx or self.nginx).port, self.dir / "ca.pem", identity, **options)

    def ask(self, identity, path="/x", **options):
        """200, or the code of the refusal."""
        answer = self.client(identity, **options).get(path)
        if answer.status == 200:
            return 200
        assert answer.status == 403, answer
        return answer.code


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("nginx"))
    yield w
    w.nginx.stop()
    w.backend.stop()
    assert w.server.stop() == 0


def test_first_contact_through_nginx(world):
    answer = world.client(world.fleet.device("VIN 1")).get("/director/targets.json?x=1")
    shown = world.server.muster("device", "show", "VIN 1", "--account", "shop")
    assert (answer.status, answer.body) == (200, b"the backend's")
    assert (shown["state"], shown["last_address"]) == ("active", "127.0.0.1")
    assert world.backend.seen[-1][1] == "/director/targets.json?x=1"
    fields = world.backend.fields()
    assert [fields[f"x-muster-{n}"] for n in ("account", "device-uuid", "device-id")] == [["shop"], [shown["id"]], ["VIN%201"]]


def test_a_device_enrolled_at_the_gateway(world):
    device = Device(world.server.gateway(world.key).enrol("enrolled").body)
    assert world.client(device).request("PUT", "/system_info", b'{"a":1}').status == 200
    assert world.backend.seen[-1][0] == "PUT" and world.backend.seen[-1][3] == b'{"a":1}'
    assert world.backend.fields()["x-muster-device-id"] == ["enrolled"]


def test_what_the_client_says_of_itself_does_not_come_through(world):
    device, other = world.fleet.device("honest"), world.fleet.device("victim")
    assert world.ask(other) == 200
    spoofed = {n: "victim" for n in ("X-Muster-Account", "X-Muster-Device-Uuid", "x-muster-device-id", "X_Muster_Device_Id", "X_Muster_Account")}
    answer = world.client(device).request("GET", "/x", headers={**spoofed, "X-Muster-SNI": "other.localhost", "X-Original-URI": "/repo/targets/x",
                                                                "X-Muster-Client-Address": "192.0.2.1", "X-Muster-Code": "none"})
    assert answer.status == 200
    assert not [value for values in world.backend.fields().values() for value in values if value == "victim"]
    assert world.backend.fields()["x-muster-device-id"] == ["honest"]
    assert world.server.muster("device", "show", "honest", "--account", "shop")["last_address"] == "127.0.0.1"


def test_a_certificate_in_a_header_is_no_certificate(world):
    from proxies import envoy_fields, haproxy_fields, nginx_fields
    device, seen = world.fleet.device("stolen-certificate"), len(world.backend.seen)
    assert world.ask(device) == 200
    for fields in (nginx_fields(device), envoy_fields(device), haproxy_fields(device)):
        answer = world.client().request("GET", "/x", headers=fields)
        assert (answer.status, answer.code) == (403, "certificate_required")
        answer = world.client(Fleet().device("stolen-certificate")).request("GET", "/x", headers=fields)
        assert (answer.status, answer.code) == (403, "certificate_untrusted")
    assert len(world.backend.seen) == seen + 1


def test_who_is_refused(world):
    seen = len(world.backend.seen)
    assert world.ask(None) == "certificate_required"
    assert world.ask(Fleet("Fleet Root").device("stranger")) == "certificate_untrusted"
    assert world.ask(world.key) == "provisioning_key_only_enrols"
    assert world.ask(world.fleet.device("theirs"), sni="other.localhost") == "certificate_of_other_account"
    mixed = world.client(world.fleet.device("mixed"), sni="shop.localhost", host="other.localhost").get("/x")
    assert (mixed.status, mixed.code) == (403, "misdirected_request")
    assert len(world.backend.seen) == seen


def test_a_refusal_under_targets_has_no_body(world):
    for path in ("/repo/targets/a.bin", "/repo/targets/a.bin?b=c", "/repo/targets"):
        answer = world.client(Fleet().device("stranger")).get(path)
        assert (answer.status, answer.body, answer.headers["X-Muster-Code"]) == (403, b"", "certificate_untrusted")
    assert world.client(Fleet().device("stranger")).get("/repo/targetsx").code == "certificate_untrusted"


def test_the_backends_own_refusal_stays_its_own(world):
    answer = world.client(world.fleet.device("refused-behind")).get("/says-403")
    assert (answer.status, answer.body) == (403, b"the backend's")


@pytest.mark.parametrize("change, back, code", [("quarantine", "release", "device_quarantined"), ("revoke", None, "device_revoked")])
def test_cut_off_within_a_second(world, change, back, code):
    device = world.fleet.device(f"cut-{change}")
    client = world.client(device)
    with client.connect() as c:  # nginx knows this connection already
        assert client.on(c, "GET", "/x").status == 200
        world.server.muster("device", change, f"cut-{change}", "--account", "shop", "--reason", "test", *(["--yes"] if change == "revoke" else []))
        soon(code, lambda: client.on(c, "GET", "/x").code)
    assert world.ask(device) == code
    if back:
        world.server.muster("device", back, f"cut-{change}", "--account", "shop")
        soon(200, lambda: world.ask(device))


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_resumed_session_is_judged_again(world, tls):
    device = world.fleet.device(f"resumed-{tls}")
    client = world.client(device, tls=tls)
    session = client.session()
    world.server.muster("device", "quarantine", f"resumed-{tls}", "--account", "shop", "--reason", "test")
    soon(("device_quarantined", True), lambda: (lambda a: (a.code, a.resumed))(client.resume(session)))


def test_without_muster_nobody_passes(world, tmp_path):
    """What is not there cannot have said yes."""
    device = world.fleet.device("in-the-dark")
    assert world.ask(device) == 200
    seen = len(world.backend.seen)
    os.kill(world.server.child("gateway"), signal.SIGKILL)
    answer = world.client(device).get("/x")
    assert answer.status in (200, 503), answer
    nobody = world.start_nginx("nobody", change=lambda text: text.replace(f"unix:{world.socket}", f"unix:{tmp_path}/nobody.sock"))
    try:
        answer = world.client(device, nobody).get("/x")
        assert (answer.status, answer.code) == (503, "unavailable")
        answer = world.client(device, nobody).get("/repo/targets/x")
        assert (answer.status, answer.body) == (503, b"")
    finally:
        nobody.stop()
    soon(200, lambda: world.client(device).get("/x").status, 15)
    assert len(world.backend.seen) <= seen + 2


@pytest.mark.parametrize("remove", ["auth_request /muster-auth;", "ssl_verify_client optional_no_ca;", "proxy_pass_request_headers off;"])
def test_the_lines_that_matter(world, remove):
    """Without any of them a rule above does not hold, which this test would see."""
    device = world.fleet.device("line-" + remove.split()[0])
    assert world.ask(device) == 200

    def without(text):
        assert text.count(remove) == 1
        return text.replace(remove, "")

    other = world.start_nginx("without-" + remove.split()[0], change=without)
    try:
        if remove.startswith("auth_request"):
            assert world.client(None, other).get("/x").status == 200
        elif remove.startswith("ssl_verify"):
            assert world.client(device, other).get("/x").code == "certificate_required"
        else:
            answer = world.client(device, other).request("GET", "/x", headers={"X-Forwarded-Client-Cert": "Hash=00"})
            assert (answer.status, answer.code) == (403, "invalid_request")
    finally:
        other.stop()

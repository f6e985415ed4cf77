"""/auth: what a proxy of the operator's own is told about a certificate that it hands over, on a Unix socket.

The requests of Envoy's ext_authz over HTTP are made as Envoy makes them: the original method, path_prefix before the original path, Host of
the client, Content-Length 0 (envoyproxy/envoy, source/extensions/filters/common/ext_authz/ext_authz_http_impl.cc), and the certificate in
x-forwarded-client-cert (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert)."""
import http.client
import os
import pathlib
import socket
import sqlite3
import stat
import subprocess
import time
import uuid

import pytest

from client import Answer, Device, Fleet
from conftest import MUSTERD, Server, soon, stays
from proxies import Proxy, der, envoy_element, envoy_fields, escaped, haproxy_fields, me, nginx_fields, pem

FORMS = {"nginx": nginx_fields, "envoy": envoy_fields, "envoy-cert": lambda i: envoy_fields(i, chain=False), "envoy-chain": lambda i: envoy_fields(i, cert=False),
         "haproxy": haproxy_fields}


class World:
    def __init__(self, directory, **more):
        self.socket = directory / "auth.sock"
        self.server = Server(directory / "data", config=[f"auth_socket = {self.socket}", f"auth_users = {me()}"]).start()
        self.proxy = Proxy(self.socket)
        self.server.account("shop", "test", "both")
        self.server.account("other", "test", "both")
        self.key, self.fleet = self.server.key("shop"), self.server.root("shop")

    def device(self, name, **more):
        return self.fleet.device(name, **more)

    def show(self, name, account="shop"):
        return self.server.muster("device", "show", name, "--account", account)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("auth"))
    yield w
    assert w.server.stop() == 0
    assert not w.socket.exists()
    assert "Sanitizer" not in w.server.log_text()


def refused(answer):
    """The code of a refusal that every proxy understands."""
    assert answer.status == 403, answer
    assert answer.code == answer.headers["X-Muster-Code"]
    assert not [n for n in answer.headers if n.lower().startswith("x-muster-") and n.lower() != "x-muster-code"]
    return answer.code


def identity(answer):
    assert answer.status == 200 and answer.body == b"", answer
    assert "X-Muster-Code" not in answer.headers
    return tuple(answer.headers[n] for n in ("x-muster-account", "x-muster-device-uuid", "x-muster-device-id"))


@pytest.mark.parametrize("form", FORMS)
def test_first_contact_registers_and_names_the_device(world, form):
    device = world.device(f"first {form}/ä")
    answer = world.proxy.ask({**FORMS[form](device), "X-Muster-Client-Address": "192.0.2.33"})
    account, its_uuid, its_id = identity(answer)
    shown = world.show(f"first {form}/ä")
    assert (account, its_uuid) == ("shop", shown["id"]) and uuid.UUID(its_uuid)
    assert its_id == f"first%20{form}%2F%C3%A4"
    assert (shown["state"], shown["last_address"]) == ("active", "192.0.2.33")


def test_a_device_enrolled_by_muster_and_its_first_use(world):
    from client import Device
    issued = Device(world.server.gateway(world.key).enrol("enrolled").body)
    assert identity(world.proxy.ask(nginx_fields(issued)))[2] == "enrolled"
    # That was its first use: durable before the answer, as at the gateway.
    again = world.server.gateway(world.key).enrol("enrolled")
    assert (again.status, again.code) == (409, "device_already_registered")


@pytest.mark.parametrize("form", ["envoy", "envoy-chain", "haproxy"])
def test_intermediates_come_along(world, form):
    line = world.fleet.intermediate(f"Line {form}")
    device = line.device(f"of-line-{form}", chain=[line.cert])
    assert refused(world.proxy.ask(nginx_fields(device))) == "certificate_untrusted"  # nginx sends the leaf alone
    assert identity(world.proxy.ask(FORMS[form](device)))[2] == f"of-line-{form}"


def test_a_proved_intermediate_needs_no_chain(world):
    line = world.fleet.intermediate("Proved Line")
    world.server.root("shop", line)
    assert identity(world.proxy.ask(nginx_fields(line.device("of-proved-line"))))[2] == "of-proved-line"


# --- who is refused ----------------------------------------------------------------------------------------------------------------------------

def test_no_certificate(world):
    for fields in ({}, {"X-Muster-Client-Cert": ""}, {"X-Muster-Client-Der": "", "X-Muster-Client-Chain-Der": ""}):
        assert refused(world.proxy.ask(fields)) == "certificate_required"


@pytest.mark.parametrize("form", FORMS)
def test_strangers(world, form):
    assert refused(world.proxy.ask(FORMS[form](Fleet("Fleet Root").device("stranger")))) == "certificate_untrusted"
    assert refused(world.proxy.ask(FORMS[form](world.device("late", days=(-10, -1))))) == "certificate_expired"


def test_a_provisioning_key_only_enrols(world):
    assert refused(world.proxy.ask(nginx_fields(world.key))) == "provisioning_key_only_enrols"
    assert refused(world.proxy.ask(nginx_fields(world.key), method="POST", path="/auth/devices")) == "provisioning_key_only_enrols"


@pytest.mark.parametrize("change, back, code", [("quarantine", "release", "device_quarantined"), ("revoke", None, "device_revoked"), ("delete", None, "device_deleted")])
def test_cut_off_within_a_second(world, change, back, code):
    device, keep = world.device(f"cut-{change}"), world.proxy.connect()
    ask = lambda: (lambda a: 200 if a.status == 200 else refused(a))(world.proxy.ask(nginx_fields(device), keep=keep))
    assert ask() == 200
    world.server.muster("device", change, f"cut-{change}", "--account", "shop", *(["--yes"] if change in ("revoke", "delete") else []), *(["--reason", "test"] if change != "delete" else []))
    soon(code, ask)
    if back:
        world.server.muster("device", back, f"cut-{change}", "--account", "shop")
        soon(200, ask)
    keep.close()


def test_a_root_that_is_disabled(world):
    fleet = world.server.root("shop", Fleet("Short Lived Root"))
    device = fleet.device("of-short-lived")
    ask = lambda: (lambda a: 200 if a.status == 200 else refused(a))(world.proxy.ask(nginx_fields(device)))
    assert ask() == 200
    world.server.muster("root", "disable", fleet.root["id"], "--yes")
    soon(True, lambda: ask() != 200)


# --- accounts -----------------------------------------------------------------------------------------------------------------------------------

def test_the_names_choose_the_account_and_never_another(world):
    both = Fleet("Shared Root")
    world.server.root("shop", both)
    world.server.root("other", both)
    device = both.device("in-two")
    ask = lambda host="localhost", **fields: world.proxy.ask({**nginx_fields(device), **fields}, host=host)
    assert refused(ask()) == "account_ambiguous"
    assert identity(world.proxy.ask(nginx_fields(both.device("by-host")), host="other.localhost"))[0] == "other"  # Host alone
    assert identity(ask("shop.localhost:443", **{"X-Muster-SNI": "shop.localhost"}))[0] == "shop"
    assert identity(ask("localhost", **{"X-Muster-SNI": "shop.localhost"}))[0] == "shop"
    assert refused(ask("other.localhost", **{"X-Muster-SNI": "shop.localhost"})) == "misdirected_request"
    assert refused(ask("nobody.localhost")) == "certificate_of_other_account"
    mine = world.device("only-shop")
    assert identity(world.proxy.ask(nginx_fields(mine), host="shop.localhost"))[0] == "shop"
    for host, sni in (("other.localhost", None), ("localhost", "other.localhost"), ("shop.localhost", "other.localhost"), ("other.localhost", "localhost")):
        fields = {**nginx_fields(mine), **({"X-Muster-SNI": sni} if sni else {})}
        assert refused(world.proxy.ask(fields, host=host)) in ("certificate_of_other_account", "misdirected_request")


# --- what a proxy may send ------------------------------------------------------------------------------------------------------------------------

def test_any_method_and_any_path_below(world):
    device = world.device("any-method")
    keep = world.proxy.connect()
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        for path in ("/auth", "/auth/", "/auth/director/ecus", "/auth/treehub/objects/a%20b?x=1&y=%2f"):
            assert identity(world.proxy.ask(envoy_fields(device), method, path, keep=keep, body=b""))[2] == "any-method"
    keep.close()
    for path in ("/", "/authx", "/aut", "/Auth", "/api/v1/accounts", "/devices"):
        answer = world.proxy.ask(envoy_fields(device), path=path)
        assert (answer.status, answer.code) == (404, "not_found")
    for path in ("/auth/../devices", "/auth//x", "/auth/%2e%2e/x", "/auth/a%2fb", "/auth/%00"):
        assert world.proxy.ask(envoy_fields(device), path=path).status == 400


def envoy_asks(connection, device, method, path, host="shop.localhost"):
    """As its HTTP/1 codec writes what ext_authz asks with the settings of the page: names in small letters, no body whatever the request had, what its router adds."""
    connection.sendall(f"{method} /auth{path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nx-forwarded-client-cert: {envoy_element(device, more=())}\r\n"
                       "x-envoy-internal: true\r\nx-forwarded-for: 10.0.0.7\r\nx-envoy-expected-rq-timeout-ms: 5000\r\n\r\n".encode())
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return Answer(response)


def test_envoy(world):
    """What comes out of its settings in behind-your-proxy.md; on one connection, for devices of all sorts."""
    page = (pathlib.Path(__file__).parents[2] / "doc" / "behind-your-proxy.md").read_text(encoding="utf-8")
    for line in ("forward_client_cert_details: SANITIZE_SET", "set_current_client_cert_details: { cert: true, chain: true }", "path_prefix: /auth", "{ exact: x-forwarded-client-cert }",
                 "{ prefix: x-muster- }"):
        assert line in page
    good, stranger = world.device("by-envoy"), Fleet("Nobody's").device("stranger")
    with socket.socket(socket.AF_UNIX) as c:
        c.settimeout(10)
        c.connect(str(world.socket))
        for method, path in (("POST", "/director/ecus"), ("GET", "/repo/targets/a%20b.bin?x=1&y=%2F"), ("HEAD", "/repo/targets/a"), ("OPTIONS", "/"), ("PUT", "/system_info")):
            answer = envoy_asks(c, good, method, path)
            passed_on = {n.lower(): v for n, v in answer.headers.items() if n.lower().startswith("x-muster-")}
            assert answer.status == 200 and not answer.body
            assert passed_on == {"x-muster-account": "shop", "x-muster-device-uuid": world.show("by-envoy")["id"], "x-muster-device-id": "by-envoy"}
            refusal = envoy_asks(c, stranger, method, path)  # Envoy hands this to the client, body and all
            assert refusal.status == 403 and refusal.headers["X-Muster-Code"] == "certificate_untrusted"
            assert bool(refusal.body) == ("/repo/targets/" not in path and method != "HEAD")


def test_more_peers_than_are_remembered(world):
    """The one that was forgotten is judged again, and a judgement is nobody else's."""
    first, keep = world.device("remembered-0"), world.proxy.connect()
    assert identity(world.proxy.ask(nginx_fields(first), keep=keep))[2] == "remembered-0"
    for i in range(2100):  # each address is a peer of its own
        fields = {**haproxy_fields(first), "X-Muster-Client-Address": f"192.0.{2 + i // 250}.{i % 250 + 1}"}
        assert world.proxy.ask(fields, keep=keep).status == 200
    assert identity(world.proxy.ask(nginx_fields(first), keep=keep))[2] == "remembered-0"
    world.server.muster("device", "quarantine", "remembered-0", "--account", "shop")
    soon("device_quarantined", lambda: refused(world.proxy.ask({**haproxy_fields(first), "X-Muster-Client-Address": "192.0.2.1"}, keep=keep)))
    assert refused(world.proxy.ask({**haproxy_fields(first), "X-Muster-Client-Address": "192.0.9.9"}, keep=keep)) == "device_quarantined"
    keep.close()


def test_a_body_is_not_taken(world):
    answer = world.proxy.ask(envoy_fields(world.device("with-body")), "POST", "/auth/x", body=b"x" * 100)
    assert identity(answer) and answer.headers["Connection"] == "close"


def test_under_targets_a_refusal_has_no_body(world):
    stranger = nginx_fields(Fleet().device("stranger"))
    for path, original in (("/auth/repo/targets/a.bin", None), ("/auth", "/repo/targets/a.bin?x"), ("/auth", "/repo/targets")):
        answer = world.proxy.ask({**stranger, **({"X-Original-URI": original} if original else {})}, path=path)
        assert (answer.status, answer.body, answer.headers["X-Muster-Code"]) == (403, b"", "certificate_untrusted")
    for path in ("/auth/repo/targets//a", "/auth/repo/targets/%2e%2e/a", "/auth/repo/targets/a%2fb?x"):  # no request is understood
        answer = world.proxy.ask(stranger, path=path)
        assert (answer.status, answer.body, answer.headers["X-Muster-Code"]) == (400, b"", "malformed_http")
        assert world.proxy.ask(stranger, path=path.replace("targets", "target")).code == "malformed_http"
    for path, original in (("/auth/repo/targetsx", None), ("/auth/repo/targets/a", "/elsewhere")):
        answer = world.proxy.ask({**stranger, **({"X-Original-URI": original} if original else {})}, path=path)
        assert answer.code == "certificate_untrusted"


def test_exactly_one_certificate(world):
    device, other = world.device("one"), world.device("two")
    both = {**nginx_fields(device), **envoy_fields(other)}
    for fields in (both, {**envoy_fields(device), **haproxy_fields(device)}, [*nginx_fields(device).items(), *nginx_fields(other).items()],
                   [*envoy_fields(device).items(), *envoy_fields(other).items()], {**nginx_fields(device), "X-Muster-Client-Chain-Der": der(other.cert)}):
        assert refused(world.proxy.ask(fields)) == "invalid_request"
    for value in (f"{envoy_element(device)},{envoy_element(other)}", f"{envoy_element(device)}, {envoy_element(other)}"):
        assert refused(world.proxy.ask({"X-Forwarded-Client-Cert": value})) == "certificate_malformed"
    mixed = f'Cert="{escaped(device.cert)}";Chain="{escaped(other.cert)}"'
    assert refused(world.proxy.ask({"X-Forwarded-Client-Cert": mixed})) == "certificate_malformed"
    # A field of nearly that name is none.
    assert refused(world.proxy.ask({"X_Muster_Client_Cert": escaped(device.cert)})) == "certificate_required"


@pytest.mark.parametrize("make", [
    lambda d: {"X-Muster-Client-Cert": "x"}, lambda d: {"X-Muster-Client-Cert": pem(d.cert).replace("\n", " ")}, lambda d: {"X-Muster-Client-Cert": escaped(d.cert)[:-30]},
    lambda d: {"X-Muster-Client-Cert": escaped(d.cert) + "%"}, lambda d: {"X-Muster-Client-Cert": escaped(d.cert) + "%0"}, lambda d: {"X-Muster-Client-Cert": escaped(d.cert) + "%00"},
    lambda d: {"X-Muster-Client-Cert": escaped(d.cert) + escaped(d.cert).replace("CERTIFICATE", "PRIVATE%20KEY")},
    lambda d: {"X-Forwarded-Client-Cert": "Hash=00"}, lambda d: {"X-Forwarded-Client-Cert": 'Cert="' + escaped(d.cert)}, lambda d: {"X-Forwarded-Client-Cert": "Cert"},
    lambda d: {"X-Forwarded-Client-Cert": f'{envoy_element(d)};Cert="{escaped(d.cert)}"'}, lambda d: {"X-Forwarded-Client-Cert": envoy_element(d) + ";"},
    lambda d: {"X-Muster-Client-Der": "!"}, lambda d: {"X-Muster-Client-Der": der(d.cert)[:-8]}, lambda d: {"X-Muster-Client-Der": der(d.cert, d.cert)[:-4]},
    lambda d: {"X-Muster-Client-Chain-Der": der(d.cert)}, lambda d: {"X-Muster-Client-Der": "MAA="}, lambda d: {"X-Muster-Client-Der": "MIA="},
])
def test_what_cannot_be_read(world, make):
    assert refused(world.proxy.ask(make(world.device("unreadable")))) == "certificate_malformed"


def test_chains_have_bounds(world):
    device = world.device("many", chain=[Fleet(f"CA {i}").cert for i in range(8)])
    for form in ("envoy", "haproxy"):
        assert refused(world.proxy.ask(FORMS[form](device))) == "chain_too_long"
    answer = world.proxy.ask({"X-Muster-Client-Cert": "a" * 70000})
    assert answer.status == 431


@pytest.mark.parametrize("address, kept", [("2001:DB8::1", "2001:db8::1"), ("::ffff:192.0.2.4", "192.0.2.4"), ("", None)])
def test_the_address_that_the_proxy_names(world, address, kept):
    device = world.device(f"address-{kept}")
    assert identity(world.proxy.ask({**nginx_fields(device), "X-Muster-Client-Address": address}))
    assert world.show(f"address-{kept}")["last_address"] == kept


def test_a_proxy_that_names_no_address_leaves_the_last_one(world):
    device = world.device("address-stays")
    for said, kept in (("192.0.2.5", "192.0.2.5"), (None, "192.0.2.5"), ("", "192.0.2.5"), ("192.0.2.6", "192.0.2.6")):
        with sqlite3.connect(world.server.dir / "registry.db", timeout=20) as db:  # so that its next request is noted, and
            db.execute("UPDATE device SET last_seen = 1 WHERE device_id = 'address-stays'")
        world.server.account(f"raises-{uuid.uuid4()}"[:20])  # the registry is asked again
        assert identity(world.proxy.ask({**nginx_fields(device), **({} if said is None else {"X-Muster-Client-Address": said})}))
        soon(True, lambda: world.show("address-stays")["last_seen"] > "2000")
        assert world.show("address-stays")["last_address"] == kept


def test_the_first_use_of_a_certificate_leaves_it_too(world):
    """It was noted when the certificate was asked for."""
    device = Device(world.server.gateway(world.key).enrol("address-of-enrolment").body)
    before = world.show("address-of-enrolment")["last_address"]
    assert before == "127.0.0.1" and identity(world.proxy.ask(nginx_fields(device)))
    stays(before, lambda: world.show("address-of-enrolment")["last_address"])


@pytest.mark.parametrize("address", ["x", "192.0.2.1:80", "192.0.2.1, 192.0.2.2", "[::1]", "localhost", "1" * 100])
def test_an_address_that_is_none(world, address):
    assert refused(world.proxy.ask({**nginx_fields(world.device("no-address")), "X-Muster-Client-Address": address})) == "invalid_request"


# --- the socket -----------------------------------------------------------------------------------------------------------------------------------

def test_the_socket_is_its_owners(world):
    mode = stat.S_IMODE(world.socket.stat().st_mode)
    assert mode == 0o600
    with socket.socket(socket.AF_UNIX) as s:  # it speaks HTTP, not TLS
        s.settimeout(10)
        s.connect(str(world.socket))
        s.sendall(b"GET /auth HTTP/1.0\r\n\r\n")
        assert b" 505 " in s.recv(100)


@pytest.mark.alone
def test_a_keep_alive_proxy_of_many_devices(world):
    """One connection, many peers: no answer is another device's, and a judgement that is known is not made again."""
    devices = [world.device(f"many-{i}") for i in range(20)]
    keep = world.proxy.connect()
    for _ in range(3):
        for i, d in enumerate(devices):
            assert identity(world.proxy.ask(nginx_fields(d), keep=keep))[2] == f"many-{i}"
    begin = time.monotonic()
    for _ in range(500):
        assert world.proxy.ask(nginx_fields(devices[0]), keep=keep).status == 200
    assert (time.monotonic() - begin) / 500 < 0.02
    keep.close()


@pytest.mark.skipif(os.getuid() != 0, reason="acts as other users")
def test_only_named_users_are_answered(fresh, tmp_path):
    os.chmod(tmp_path, 0o755)
    for parent in list(tmp_path.parents)[:3]:
        if parent.stat().st_uid == os.getuid() and parent != pathlib.Path("/tmp"):
            os.chmod(parent, 0o755)
    path = tmp_path / "auth.sock"
    s = fresh(config=[f"auth_socket = {path}", "auth_socket_group = nogroup", "auth_users = daemon 65533"])
    s.account("shop")
    device = s.root("shop").device("asked-for")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    os.chmod(path, 0o666)  # so that the mode alone keeps nobody out
    script = ("import socket,sys,os\nos.setgroups([]);os.setgid(int(sys.argv[2]));os.setuid(int(sys.argv[2]))\ns=socket.socket(socket.AF_UNIX);s.settimeout(10);s.connect(sys.argv[1])\n"
              "try:\n s.sendall(sys.stdin.buffer.read());print(s.recv(20))\nexcept ConnectionError:\n print(b'')")
    request = f"GET /auth HTTP/1.1\r\nHost: localhost\r\nX-Muster-Client-Cert: {escaped(device.cert)}\r\n\r\n".encode()
    said = lambda uid: subprocess.run(["/usr/bin/python3", "-c", script, str(path), str(uid)], input=request, capture_output=True, check=True, timeout=30).stdout
    assert b"200" in said(1) and b"200" in said(65533) and b"200" in said(0)
    for uid in (2, 65534, 65532):
        assert said(uid).strip() == b"b''"
    assert "auth_user_refused uid=65534" in s.log_text()


def test_a_restarted_gateway_takes_the_socket_up_again(fresh, tmp_path):
    path = tmp_path / "auth.sock"
    s = fresh(config=[f"auth_socket = {path}", f"auth_users = {me()}"])
    s.account("shop")
    device = s.root("shop").device("again")
    assert identity(Proxy(path).ask(nginx_fields(device)))
    os.kill(s.child("gateway"), 9)
    soon(200, lambda: Proxy(path).ask(nginx_fields(device)).status, 15)
    s.process.kill()  # leaves the file behind
    s.process.wait()
    s.process = None
    assert path.exists()
    s.start()
    assert identity(Proxy(path).ask(nginx_fields(device)))


@pytest.mark.parametrize("lines, word", [(["auth_socket = auth.sock"], "absolute"), (["auth_socket = /nonexistent/auth.sock"], "cannot be made"), (["auth_socket = /etc/passwd"], "no socket"),
                                         (["auth_users = nobody-of-that-name"], "no user"), (["auth_socket_group = no-such-group"], "no group"), (["identity_headers = x"], "preset"),
                                         (["auth_socket = /" + "x" * 120], "107")])
def test_settings_that_mean_nothing(fresh, lines, word):
    s = fresh(start=False, config=lines)
    done = subprocess.run([MUSTERD, "serve", "--data", s.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (1, 2) and word in done.stderr, done.stderr


def test_a_socket_in_use_is_not_taken(world, fresh):
    s = fresh(start=False, config=[f"auth_socket = {world.socket}"])
    done = subprocess.run([MUSTERD, "serve", "--data", s.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "somebody listens" in done.stderr
    assert world.proxy.ask({}).code == "certificate_required"


@pytest.mark.parametrize("setting, names", [("ota-ce", ("x-ats-namespace", "x-ats-device-uuid", "x-ats-device-id")), ("account=X-Tenant device-id=X-Thing", ("x-tenant", None, "x-thing"))])
def test_the_names_of_the_fields(fresh, tmp_path, setting, names):
    path = tmp_path / "auth.sock"
    s = fresh(config=[f"auth_socket = {path}", f"auth_users = {me()}", f"identity_headers = {setting}"])
    s.account("shop")
    answer = Proxy(path).ask(nginx_fields(s.root("shop").device("named so")))
    shown = s.muster("device", "show", "named so", "--account", "shop")
    assert answer.status == 200
    assert [answer.headers[n] for n in names if n] == [v for n, v in zip(names, ("shop", shown["id"], "named%20so")) if n]
    assert not [n for n in answer.headers if n.lower().startswith("x-muster")]


def test_a_refusal_is_kept_for_the_operators(world):
    line = Fleet("Unknown Line")
    answer = world.proxy.ask({**nginx_fields(line.device("asks-by-proxy")), "X-Original-URI": "/director/x?y", "X-Muster-Client-Address": "192.0.2.77"}, host="shop.localhost")
    assert refused(answer) == "certificate_untrusted"
    find = lambda: [r for r in world.server.muster("refusal", "list", "--account", "shop", "--code", "certificate_untrusted") if r["address"] == "192.0.2.77"]
    soon(1, lambda: len(find()), 5)
    shown = world.server.muster("refusal", "show", find()[0]["id"], "--account", "shop")
    text = str(shown)
    assert "/director/x" in text and "asks-by-proxy" in text and "Unknown Line" in text and "BEGIN CERTIFICATE" in text

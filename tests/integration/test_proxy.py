"""What stands behind the gateway: routes, identity, streaming both ways, and an end within a second for a device that is cut off."""
import hashlib
import os
import re
import signal
import socket
import sqlite3
import ssl
import threading
import time

import pytest

from client import Fleet
from conftest import LONG, MUSTERD, soon
from upstream import Upstream, answer, read_head

MIB = 1024 * 1024
BIG = 4096 * MIB if LONG else 192 * MIB
DEVICE = "dev ice/ü"  # has to be percent-encoded
ENCODED = "dev%20ice%2F%C3%BC"


def routes(*sections):
    return [line for prefix, keys in sections for line in (f"[route {prefix}]", *(f"{k} = {v}" for k, v in keys.items()))]


@pytest.fixture(scope="module")
def other():
    u = Upstream(lambda got, c: answer(body=b"the other one"))
    yield u
    u.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, back, other):
    from conftest import Server
    dead = socket.create_server(("127.0.0.1", 0))
    closed = dead.getsockname()[1]
    dead.close()
    s = Server(tmp_path_factory.mktemp("proxy") / "data", config=["loops = 2", *routes(
        ("/director", {"upstream": back.url, "path": "/api/v1/device/{uuid}{rest}"}),
        ("/director/special", {"upstream": other.url}),
        ("/repo", {"upstream": back.url, "path": "/api/v1/user_repo{rest}", "response_timeout": "1s"}),
        ("/system_info", {"upstream": back.url, "path": "/api/v1/devices/{uuid}/system_info{rest}"}),
        ("/core/installed", {"upstream": back.url, "path": "/api/v1/mydevice/{uuid}/packages"}),
        ("/named", {"upstream": f"http://localhost:{back.port}", "path": "/{account}/{device_id}{rest}", "keep_host": "yes"}),
        ("/bare", {"upstream": back.url, "path": "{rest}"}),
        ("/one", {"upstream": back.url, "accounts": "proxied"}),
        ("/two", {"upstream": other.url}),
        ("/two/x", {"upstream": back.url, "accounts": "proxied elsewhere"}),
        ("/slow", {"upstream": back.url, "response_timeout": "1s", "idle_timeout": "1s"}),
        ("/dead", {"upstream": f"http://127.0.0.1:{closed}"}),
        ("/few", {"upstream": back.url, "connections": "1"}))])
    s.start()
    for name in ("proxied", "others"):
        s.account(name, "test", "both")
    s.fleet, s.second = s.root("proxied"), s.root("others", Fleet("Other Root"))
    s.device, s.stranger = s.fleet.device(DEVICE), s.second.device("o1")
    yield s
    s.stop()


@pytest.fixture
def behave(back):
    """Sets what the server behind does, for one test."""
    before = back.behave
    back.got.clear()

    def set_to(f, early=None):
        def g(got, c):
            return f(got, c)
        if early:
            g.early = early
        back.behave = g
    yield set_to
    back.behave = before


def uuid_of(world, device_id=DEVICE, account="proxied"):
    return next(d["id"] for d in world.muster("device", "list", "--account", account) if d["device_id"] == device_id)


def reach(world, device, path, method="GET", body=None, headers=None, **options):
    return world.gateway(device, **options).request(method, path, body, headers)


# --- where to ------------------------------------------------------------------------------------------------------------------------


def test_a_path_is_another_one_behind(world, back):
    a = reach(world, world.device, "/director/manifest?x=1&y=%2F")
    assert (a.status, a.body) == (200, b"hello from behind")
    got = back.last()
    assert (got.method, got.target) == ("GET", f"/api/v1/device/{uuid_of(world)}/manifest?x=1&y=%2F")
    assert got.one("Host") == f"127.0.0.1:{back.port}"
    reach(world, world.device, "/director")
    assert back.last().target == f"/api/v1/device/{uuid_of(world)}"
    named = world.fleet.device("dev ïce 1")
    reach(world, named, "/named/a%20b;c")
    assert back.last().target == "/proxied/dev%20%C3%AFce%201/a%20b;c"
    assert back.last().one("Host") == f"localhost:{world.port}"
    reach(world, world.device, "/bare")
    assert back.last().target == "/"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../others", "a\\b", "/", DEVICE])
def test_a_device_s_id_leads_nowhere_else(world, back, name):
    """Devices may choose their IDs; servers decode %2F and resolve dots."""
    device = world.device if name == DEVICE else world.fleet.device(name)
    assert reach(world, device, "/director/x").status == 200
    back.got.clear()
    a = reach(world, device, "/named/x")
    assert (a.status, a.code) == (400, "malformed_http")
    assert not back.got


def test_a_device_has_no_choice_among_the_servers_behind(world, back):
    device = world.fleet.device("host-1")
    reach(world, device, "/named/x", headers={"Host": "admin.internal"})
    assert back.last().one("Host") == "localhost"
    reach(world, device, "/named/x", headers={"Host": "proxied.localhost:1"})
    assert back.last().one("Host") == "proxied.localhost:1"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "Trace"])
def test_methods_for_servers_alone(world, back, method):
    back.got.clear()
    assert reach(world, world.device, "/director/x", method).code == "not_implemented"
    assert reach(world, world.device, "/directory", method).code == "not_found"
    assert not back.got


def test_prefixes_match_whole_segments_and_the_longest_counts(world, back):
    assert reach(world, world.device, "/director/special/x").body == b"the other one"
    assert reach(world, world.device, "/director/specialist").body == b"hello from behind"
    assert reach(world, world.device, "/directory").code == "not_found"
    assert reach(world, world.device, "/").code == "not_found"


def test_a_route_may_be_for_certain_accounts(world):
    assert reach(world, world.device, "/one/x").status == 200
    assert reach(world, world.stranger, "/one/x").code == "not_found"
    assert reach(world, world.device, "/two/x").body == b"hello from behind"
    assert reach(world, world.stranger, "/two/x").body == b"the other one"


def test_what_is_muster_s_own_never_leaves(fresh, back):
    """Not even below a route for all paths."""
    s = fresh(config=routes(("/", {"upstream": back.url})))
    s.account("all", "test", "device")
    device = s.root("all").device("d1")
    back.got.clear()
    assert reach(s, device, "/anything/at/all").status == 200
    assert back.last().target == "/anything/at/all"
    assert reach(s, device, "/.well-known/est/cacerts").headers["Content-Type"].startswith("application/pkcs7-mime")
    for path in ("/devices/x", "/.well-known/est/fullcmc/x", "/.well-known/est", "/.well-known/est/all/cacerts/x", "/time/x"):
        assert reach(s, device, path).code == "not_found"
    assert reach(s, device, "/.well-known/est/serverkeygen").code == "method_not_allowed"
    assert reach(s, device, "/time?nonce=0").code == "invalid_request"
    assert reach(s, device, "/devices").code == "method_not_allowed"
    assert reach(s, device, "/devices", "POST", {"deviceId": "x"}).code == "enrol_with_device_certificate"
    assert len(back.got) == 1


@pytest.mark.parametrize("path", ["/director/../repo/x", "/director/%2e%2e/x", "/director/a%2fb", "/director/a%5Cb", "/director//x", "/director/./x", "/director/%00",
                                  "/director/a\\b", "/director/%zz", "/director/..;/x", "/director/..;a=1/x", "/director/%2e.;/x", "/director/.;x", "/director/%c0%ae%c0%ae/x"])
def test_ambiguous_paths_are_refused(world, back, path):
    back.got.clear()
    assert reach(world, world.device, path).code == "malformed_http"
    assert not back.got


def test_a_path_has_one_spelling(world, back):
    reach(world, world.device, "/d%69rector/%6danifest%c3%bc")
    assert back.last().target == f"/api/v1/device/{uuid_of(world)}/manifest%C3%BC"
    assert reach(world, world.device, "/%64evices", "POST", {"deviceId": "x"}).code == "enrol_with_device_certificate"


# --- who ---------------------------------------------------------------------------------------------------------------------------------


def test_the_identity_is_the_proven_one(world, back):
    reach(world, world.device, "/director/x", headers={
        "X-Muster-Account": "others", "x_muster_account": "others", "X-MUSTER-Device_Id": "other", "x-ats-namespace": "default", "X_ATS_Device-UUID": "1",
        "X-Muster-Anything": "1", "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4", "X_Forwarded_For": "1.2.3.4", "X-Real-IP": "1.2.3.4",
        "X-Forwarded-Client-Cert": "x", "X-Other": "kept"})
    got = back.last()
    names = [k.lower().replace("_", "-") for k, _ in got.fields]
    assert got.one("x-muster-account") == "proxied"
    assert got.one("x-muster-device-uuid") == uuid_of(world)
    assert got.one("x-muster-device-id") == ENCODED
    for name in ("x-muster-account", "x-muster-device-id", "x-muster-device-uuid", "x-forwarded-for"):
        assert names.count(name) == 1, names
    assert not {"x-ats-namespace", "x-ats-device-uuid", "x-muster-anything", "forwarded", "x-real-ip", "x-forwarded-client-cert"} & set(names)
    assert got.one("X-Forwarded-For") == "127.0.0.1"
    assert got.one("X-Forwarded-Proto") == "https"
    assert got.one("X-Other") == "kept"


def test_a_client_cannot_take_its_identity_away(world, back):
    reach(world, world.device, "/director/x", headers={"Connection": "x-muster-account, X-Muster-Device-UUID, x-muster-device-id, host, x-forwarded-for, x-request-id"})
    got = back.last()
    assert (got.one("x-muster-account"), got.one("x-muster-device-uuid"), got.one("x-muster-device-id")) == ("proxied", uuid_of(world), ENCODED)
    assert got.one("X-Forwarded-For") == "127.0.0.1" and got.one("Host") and got.one("X-Request-Id")


@pytest.mark.parametrize("name", ["X.Muster.Account", "x!muster~account", "x-muster`device|id", "X_MUSTER^UUID", "x.ats.namespace", "X+Ats-Device*Uuid", "x-muster-",
                                  "X-Original-URL", "X_Rewrite.Url", "X-Forwarded-Prefix", "X-Forwarded-Port", "Client-Cert", "Client-Cert-Chain", "X-SSL-Client-S-DN", "SSL_CLIENT_VERIFY",
                                  "True-Client-IP", "X-Client-Cert", "content.length", "transfer_encoding", "X-Forwarded"])
def test_nothing_that_passes_for_what_the_gateway_says(world, back, name):
    """As lighttpd, PHP and CGI see names: all signs are one."""
    reach(world, world.device, "/director/x", headers={name: "1", "X-Musterx": "kept"})
    assert not back.last().all(name)
    assert back.last().one("X-Musterx") == "kept"


def test_fields_of_the_connection_end_here(world, back):
    reach(world, world.device, "/director/x", headers={"Connection": "X-Hop, keep-alive, close", "X-Hop": "1", "Keep-Alive": "5", "TE": "trailers", "Upgrade": "h2c",
                                                       "Proxy-Authorization": "Basic x", "Trailer": "X", "Early-Data": "1", "X-End": "1"})
    names = {k.lower() for k, _ in back.last().fields}
    assert "x-end" in names
    assert not {"connection", "x-hop", "keep-alive", "te", "upgrade", "proxy-authorization", "trailer", "early-data"} & names


def test_fields_that_any_connection_names_end_here(world, back, behave):
    """Connection may stand there several times, in both directions."""
    behave(lambda got, c: answer(200, b"", [("Connection", "keep-alive"), ("connection", "X-Hop, X-Other-Hop"), ("X-Hop", "1"), ("X-Other-Hop", "1"), ("X-End", "1")]))
    with world.gateway(world.device).connect() as c:
        c.sendall(b"GET /director/x HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\nX-Hop: 1\r\nconnection: x-hop,,x-other-hop\r\nX-Other-Hop: 1\r\nX-End: 1\r\n\r\n")
        r = read_head(c)
        assert r.status == 200 and r.headers["X-End"] and not r.headers["X-Hop"] and not r.headers["X-Other-Hop"]
    got = back.last()
    assert got.one("X-End") and not got.all("X-Hop") and not got.all("X-Other-Hop")


def test_trailers_do_not_pass(world, back):
    back.got.clear()
    with world.gateway(world.device).connect() as c:
        c.sendall(b"POST /director/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Muster-Account: others\r\n\r\n")
        assert read_head(c).status == 400
    assert not [g for g in back.got if g.all("x-muster-account") != ["proxied"]]


def test_who_is_not_admitted_does_not_get_through(world, back):
    back.got.clear()
    assert reach(world, None, "/director/x").code == "certificate_required"
    assert reach(world, Fleet("Nobody").device("d"), "/director/x").code == "certificate_untrusted"
    assert reach(world, world.key("proxied"), "/director/x").code == "provisioning_key_only_enrols"
    assert not back.got


def test_the_request_id_is_the_answer_s(world, back):
    a = reach(world, world.device, "/director/x", headers={"X-Request-Id": "mine"})
    assert back.last().one("X-Request-Id") == a.headers["X-Request-Id"] != "mine"


# --- answers ----------------------------------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_upstream_s(world, behave):
    behave(lambda got, c: answer(201, b"made", [("Content-Type", "x/y"), ("ETag", '"1"'), ("Server", "behind"), ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
                                                ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "1"), ("X-Request-Id", "its own"), ("Alt-Svc", "h3")]))
    a = reach(world, world.device, "/director/x")
    assert (a.status, a.body) == (201, b"made")
    assert len(a.headers.get_all("X-Request-Id")) == 1 and not a.headers["Alt-Svc"]
    assert a.headers["Content-Type"] == "x/y" and a.headers["ETag"] == '"1"' and a.headers["Server"] == "behind"
    assert a.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert a.headers.get_all("Date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]
    assert not a.headers["X-Hop"] and not a.headers["Keep-Alive"] and not a.headers["Cache-Control"]


@pytest.mark.parametrize("said, status, body", [
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 200, b"hello!"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"hello"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 204, b""),
    (b"HTTP/1.1 304 Not Modified\r\nETag: 1\r\nContent-Length: 99\r\n\r\n", 304, b""),
    (b"HTTP/1.1 404 \r\nContent-Length: 3\r\n\r\nno!", 404, b"no!"),
    (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 200, b""),
    (b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n", 302, b""),
])
def test_every_shape_of_answer(world, behave, said, status, body):
    def speak(got, c):
        c.sendall(said)
    behave(speak)
    a = reach(world, world.device, "/director/x")
    assert (a.status, a.body) == (status, body)


@pytest.mark.parametrize("said", [
    b"", b"rubbish\r\n\r\n", b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 99 OK\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab", b"HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
], ids=lambda b: repr(b[:40]))
def test_an_answer_that_is_none(world, behave, said):
    def speak(got, c):
        c.sendall(said)
    behave(speak)
    a = reach(world, world.device, "/director/x")
    assert (a.status, a.code) == (502, "upstream_failed"), a


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nrubbish"])
def test_an_answer_that_breaks_off_is_seen_to(world, behave, said):
    def speak(got, c):
        c.sendall(said)
    behave(speak)
    with pytest.raises((ssl.SSLError, OSError, Exception)) as e:
        reach(world, world.device, "/director/x")
    assert "IncompleteRead" in repr(e.value) or isinstance(e.value, OSError), repr(e.value)


def test_head_and_ranges_pass(world, behave, back):
    behave(lambda got, c: answer(206, b"", [("Content-Range", "bytes 5-9/10"), ("Content-Length", "5")], length=False) + (b"" if got.method == "HEAD" else b"56789"))
    a = reach(world, world.device, "/repo/targets/x", headers={"Range": "bytes=5-", "If-Range": '"1"'})
    assert (a.status, a.body, a.headers["Content-Range"]) == (206, b"56789", "bytes 5-9/10")
    assert (back.last().one("Range"), back.last().one("If-Range")) == ("bytes=5-", '"1"')
    a = reach(world, world.device, "/repo/targets/x", "HEAD")
    assert (a.status, a.body, a.headers["Content-Length"]) == (206, b"", "5")
    assert back.last().method == "HEAD"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
def test_any_method(world, back, method):
    body = b"{}" if method in ("PUT", "POST", "PATCH") else None
    assert reach(world, world.device, "/director/any", method, body).status == 200
    assert (back.last().method, back.last().body) == (method, body or b"")


def test_errors_where_a_file_is_expected_are_empty(world, behave, fresh):
    """The stock client writes a body into the target file before it looks at the status."""
    behave(lambda got, c: answer(404, b'{"code":"no_such_target"}', [("Content-Type", "application/json"), ("Retry-After", "7")]))
    a = reach(world, world.device, "/repo/targets/firmware")
    assert (a.status, a.body, a.headers["Retry-After"]) == (404, b"", "7")
    assert reach(world, world.device, "/repo/root.json").body == b'{"code":"no_such_target"}'
    behave(lambda got, c: answer(416, b"no such range", [("Content-Range", "bytes */10")]))
    a = reach(world, world.device, "/repo/targets/firmware", headers={"Range": "bytes=99-"})
    assert (a.status, a.body, a.headers["Content-Range"]) == (416, b"", "bytes */10")
    behave(lambda got, c: b"rubbish\r\n\r\n")
    a = reach(world, world.device, "/repo/targets/firmware")
    assert (a.status, a.body) == (502, b"")
    behave(lambda got, c: time.sleep(3))
    a = reach(world, world.device, "/repo/targets/firmware")
    assert (a.status, a.body) == (504, b"")
    a = reach(world, Fleet("Nobody").device("d"), "/repo/targets/firmware")
    assert (a.status, a.body) == (403, b"")


TARGET = "/repo/targets/a"


@pytest.mark.parametrize("status, request_head", [
    (400, "GET /repo/targets//x HTTP/1.1|Host: localhost"), (400, "GET //repo/targets/x HTTP/1.1|Host: localhost"), (400, "GET /repo/.//targets/x HTTP/1.1|Host: localhost"),
    (400, "GET /repo/targets/../x HTTP/1.1|Host: localhost"), (400, "GET /repo/%74argets/a%2fb?x HTTP/1.1|Host: localhost"),
    (400, "GET /repo/targets/a%zz HTTP/1.1|Host: localhost"), (400, "GET /repo/targets/a b HTTP/1.1|Host: localhost"), (400, f"GET {TARGET} HTTP/1.1"),
    (400, f"GET {TARGET} HTTP/1.1|Host: localhost|Range: bytes=1-|Range: bytes=2-"), (400, f"GET {TARGET} HTTP/1.1|Host: localhost| folded"),
    (400, f"GET {TARGET} HTTP/1.1|Host: localhost|X: \x01"), (400, f"PUT {TARGET} HTTP/1.1|Host: localhost|Content-Length: 1|Transfer-Encoding: chunked"),
    (414, f"GET {TARGET}{'a' * 5000} HTTP/1.1|Host: localhost"), (414, f"GET {TARGET}{'a' * 20000} HTTP/1.1|Host: localhost"), (417, f"PUT {TARGET} HTTP/1.1|Host: localhost|Expect: x"),
    (421, f"GET {TARGET} HTTP/1.1|Host: others.localhost"), (431, f"GET {TARGET} HTTP/1.1|Host: localhost|X: {'a' * 20000}"),
    (431, f"GET {TARGET} HTTP/1.1|Host: localhost|" + "|".join(f"X-{i}: 1" for i in range(80))), (501, f"PUT {TARGET} HTTP/1.1|Host: localhost|Transfer-Encoding: gzip"),
    (501, f"TRACE {TARGET} HTTP/1.1|Host: localhost"), (505, f"GET {TARGET} HTTP/1.0|Host: localhost"), (400, f"GET {TARGET} HTTP/1.1|Host: localhost|X-A: " + "\x7f"),
], ids=range(22))
def test_errors_where_a_file_is_expected_are_empty_even_where_no_request_is_understood(world, back, status, request_head):
    back.got.clear()
    for target in (request_head, request_head.replace("/repo/targets/", "/repo/target/").replace("/repo/%74argets/", "/repo/%74arget/")):
        with world.gateway(world.device, sni="proxied.localhost" if status == 421 else "localhost").connect() as c:
            c.sendall("\r\n".join([*target.split("|"), "", ""]).encode("latin-1"))
            r = read_head(c)
            body = r.read()
        assert (r.status, body == b"") == (status, target == request_head), body
        assert r.headers["X-Request-Id"]
    assert not back.got


def test_a_server_that_is_not_there(world):
    a = reach(world, world.device, "/dead/x")
    assert (a.status, a.code) == (502, "upstream_failed")
    assert world.log_text().count("upstream_failed") > 0


def test_a_server_that_does_not_answer(world, behave):
    behave(lambda got, c: time.sleep(3))
    began = time.monotonic()
    a = reach(world, world.device, "/slow/x")
    assert (a.status, a.code) == (504, "upstream_timeout")
    assert 0.9 < time.monotonic() - began < 2.5


def test_a_server_that_stops_in_the_middle(world, behave):
    def speak(got, c):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
        time.sleep(4)
    behave(speak)
    began = time.monotonic()
    with pytest.raises(Exception):
        reach(world, world.device, "/slow/x")
    assert time.monotonic() - began < 3.5


def test_connections_are_used_again_and_one_that_has_gone_is_replaced(world, back, behave):
    behave(lambda got, c: answer())
    before = back.connections
    with world.gateway(world.device).connect() as c:
        for _ in range(20):
            assert world.gateway(world.device).on(c, "GET", "/director/x").status == 200
        assert back.connections - before <= 1
        for o in list(back.open):  # the server behind closes what is idle
            o.shutdown(socket.SHUT_RDWR)
        assert world.gateway(world.device).on(c, "GET", "/director/x").status == 200
    # a request that may not be repeated has a connection of its own
    before = back.connections
    for _ in range(3):
        assert reach(world, world.device, "/director/x", "POST", b"{}").status == 200
    assert back.connections - before == 3


def test_a_request_is_never_sent_twice_unless_that_is_safe(world, back, behave):
    """The connection ends without an answer."""
    def hang_up(got, c):
        c.shutdown(socket.SHUT_RDWR)
    behave(hang_up)
    for method, body in (("POST", b"{}"), ("PUT", b"{}"), ("DELETE", None)):
        back.got.clear()
        assert reach(world, world.device, "/director/x", method, body).code == "upstream_failed"
        assert len(back.got) == 1


def test_more_than_the_connections_of_a_route(world, behave):
    gate = threading.Event()
    behave(lambda got, c: (gate.wait(10), answer())[1])
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(reach(world, world.device, "/few/x"))) for _ in range(8)]
    for t in threads:
        t.start()
    time.sleep(1)
    gate.set()
    for t in threads:
        t.join()
    busy = [a for a in answers if a.status == 503]
    assert busy and all(a.code == "busy" and a.headers["Retry-After"] for a in busy)
    assert [a for a in answers if a.status == 200]


# --- streaming ---------------------------------------------------------------------------------------------------------------------------------


def busy(pid):
    """Seconds of processor time."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) // 1024


def pattern(n):
    return (b"0123456789abcdef" * (n // 16 + 1))[:n]


PIECE = pattern(MIB)


def test_a_download_larger_than_memory_is_allowed_to_take(world, behave):
    def speak(got, c):
        c.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n".encode())
        for _ in range(BIG // MIB):
            c.sendall(PIECE)
    behave(speak)
    pid, most, got = world.child("gateway"), 0, 0
    before, digest = resident(pid), hashlib.sha256()
    with world.gateway(world.device).connect() as c:
        c.sendall(b"GET /repo/targets/big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        r = read_head(c)
        assert int(r.headers["Content-Length"]) == BIG
        while (part := r.read(MIB)):
            got += len(part)
            digest.update(part)
            if got % (32 * MIB) == 0:
                most = max(most, resident(pid))
    whole = hashlib.sha256()
    for _ in range(BIG // MIB):
        whole.update(PIECE)
    assert got == BIG and digest.digest() == whole.digest()
    assert most - before < 8, (before, most)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_larger_than_memory_is_allowed_to_take(world, behave, chunked):
    size = BIG // 4
    seen = hashlib.sha256()

    def take(got, c, f):
        left = size
        while not chunked and left:
            part = f.read(min(left, MIB))
            seen.update(part)
            left -= len(part)
        while chunked and (n := int(f.readline(), 16)):
            seen.update(f.read(n))
            f.readline()
        c.sendall(answer(200, b"took it"))
        return True
    behave(None, early=take)
    pid, most = world.child("gateway"), 0
    before, whole = resident(pid), hashlib.sha256()
    with world.gateway(world.device).connect() as c:
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        c.sendall(f"PUT /director/big HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode())
        for i in range(size // MIB):
            whole.update(PIECE)
            c.sendall(b"%x\r\n%s\r\n" % (MIB, PIECE) if chunked else PIECE)
            if i % 16 == 0:
                most = max(most, resident(pid))
        c.sendall(b"0\r\n\r\n" if chunked else b"")
        assert read_head(c).read() == b"took it"
    assert seen.digest() == whole.digest()
    assert most - before < 8, (before, most)


def test_a_client_that_does_not_read_stops_the_source(world, behave):
    sent = []

    def speak(got, c):
        c.settimeout(3)
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sum(sent) < 512 * MIB:
                c.sendall(b"%x\r\n%s\r\n" % (MIB, PIECE))
                sent.append(MIB)
        except OSError:
            pass
    behave(speak)
    pid = world.child("gateway")
    before = resident(pid)
    with world.gateway(world.device).connect() as c:
        c.sendall(b"GET /repo/targets/endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(2)
        assert sum(sent) < 32 * MIB  # what kernels hold between the three
        assert resident(pid) - before < 8
        spent = busy(pid)
        time.sleep(1)
        assert busy(pid) - spent < 0.2


def test_a_slow_client_gets_all_of_an_answer_whose_server_has_gone(world, behave):
    size = 24 * MIB

    def speak(got, c):
        c.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // MIB):
            c.sendall(PIECE)
    behave(speak)
    got = 0
    with world.gateway(world.device).connect() as c:
        c.sendall(b"GET /repo/targets/slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        r = read_head(c)
        time.sleep(0.5)
        while (part := r.read(4 * MIB)):
            got += len(part)
            time.sleep(0.2)
    assert got == size


@pytest.mark.parametrize("waits", ["answer", "body", "upload"])
def test_waiting_costs_nothing(world, behave, waits):
    gate = threading.Event()
    if waits == "upload":
        behave(None, early=lambda got, c, f: gate.wait(10))
    else:
        def speak(got, c):
            if waits == "body":
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            gate.wait(10)
        behave(speak)
    pid = world.child("gateway")
    connections = [world.gateway(world.device).connect() for _ in range(20)]
    for c in connections:
        c.sendall(b"PUT /director/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nsome" if waits == "upload" else
                  b"GET /director/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.5)
    before, files = busy(pid), len(os.listdir(f"/proc/{pid}/fd"))
    time.sleep(1)
    spent = busy(pid) - before
    for c in connections:
        c.close()
    gate.set()
    assert spent < 0.2
    soon(True, lambda: len(os.listdir(f"/proc/{pid}/fd")) <= files - 40)  # both ends of each


def test_a_server_that_does_not_read_stops_the_client(world, behave):
    def take(got, c, f):
        time.sleep(2.5)
        return False
    behave(None, early=take)
    sent = 0
    with world.gateway(world.device).connect() as c:
        c.sendall(f"PUT /director/big HTTP/1.1\r\nHost: localhost\r\nContent-Length: {512 * MIB}\r\n\r\n".encode())
        c.settimeout(1)
        with pytest.raises(OSError):
            while sent < 512 * MIB:
                c.sendall(PIECE)
                sent += MIB
    assert sent < 32 * MIB


def test_an_answer_before_the_request_is_complete(world, behave):
    def take(got, c, f):
        c.sendall(answer(413, b"too much", [("Connection", "close")]))
        time.sleep(0.5)
        return True
    behave(None, early=take)
    with world.gateway(world.device).connect() as c:
        c.sendall(b"PUT /director/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc")
        r = read_head(c)
        assert (r.status, r.read()) == (413, b"too much")
        assert r.headers["Connection"] == "close"


def test_a_refusal_by_a_server_that_hangs_up_is_passed_on(world, behave):
    def take(got, c, f):
        time.sleep(0.5)  # more comes than anybody reads
        c.sendall(answer(413, b"too much", [("Connection", "close")]))
        c.close()
        return True
    behave(None, early=take)
    with world.gateway(world.device).connect() as c:
        c.sendall(b"PUT /director/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 500000)
        r = read_head(c)
        assert (r.status, r.read()) == (413, b"too much")


def test_a_client_that_expects_100_continue(world, back):
    with world.gateway(world.device).connect() as c:
        c.sendall(b"PUT /director/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert c.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        c.sendall(b"hello")
        assert read_head(c).status == 200
    assert back.last().body == b"hello" and not back.last().all("Expect")


def test_the_connection_goes_on_after_an_answer_that_was_streamed(world, back):
    g = world.gateway(world.device)
    with g.connect() as c:
        assert g.on(c, "PUT", "/director/a", b"one").status == 200
        assert g.on(c, "GET", "/directory").code == "not_found"
        assert g.on(c, "GET", "/director/b").status == 200
        c.sendall(b"GET /director/1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /director/2 HTTP/1.1\r\nHost: localhost\r\n\r\n")  # pipelined
        assert read_head(c).read() == b"hello from behind"
        assert read_head(c).read() == b"hello from behind"
    assert back.got[-1].target.endswith("/2")


def test_a_malformed_chunk_from_the_client_is_refused(world, back):
    with world.gateway(world.device).connect() as c:
        c.sendall(b"PUT /director/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nrubbish\r\n")
        assert read_head(c).status == 400


# --- the end -------------------------------------------------------------------------------------------------------------------------------------


def ended(back, connections):
    """Whether the server behind has seen its connections end."""
    return not [c for c in connections if c in back.open]


def cut(world, back, behave, path, method, early, speak):
    """Quarantines the device while its request is under way; the time until client and upstream see the end."""
    name = f"cut-{method}-{path.strip('/').replace('/', '-')}"
    device = world.fleet.device(name)
    assert reach(world, device, "/director/x").status == 200
    there = []

    def seen_early(got, c, f):
        there.append(c)
        return early(got, c, f)

    def seen(got, c):
        there.append(c)
        return speak(got, c)
    behave(seen, early=seen_early if early else None)
    with world.gateway(device).connect() as c:
        length = "Content-Length: 100000000\r\n" if method == "PUT" else ""
        c.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode())
        c.settimeout(5)
        end = time.monotonic() + 5
        while not there and time.monotonic() < end:
            time.sleep(0.01)
        assert there
        time.sleep(0.3)
        world.muster("device", "quarantine", name, "--account", "proxied")
        began = time.monotonic()
        with pytest.raises((OSError, EOFError)):
            while True:
                if method == "PUT":
                    c.sendall(b"a" * 1000)
                    time.sleep(0.02)
                elif not c.recv(65536):
                    raise EOFError
        took = time.monotonic() - began
    soon(True, lambda: ended(back, there))
    assert took < 1.2, took


def endless(got, c):
    try:
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            c.sendall(b"400\r\n" + b"a" * 1024 + b"\r\n")
            time.sleep(0.01)
    except OSError:
        pass


def silent(got, c):
    try:
        c.settimeout(8)
        c.recv(1)
    except OSError:
        pass


def swallow(got, c, f):
    while f.read1(65536):
        pass
    return True


def test_a_device_that_is_cut_off_gets_no_more_of_a_download(world, back, behave):
    cut(world, back, behave, "/repo/targets/file", "GET", None, endless)


def test_a_device_that_is_cut_off_sends_no_more_of_an_upload(world, back, behave):
    cut(world, back, behave, "/director/manifest", "PUT", swallow, None)


def test_a_device_that_is_cut_off_waits_for_no_answer(world, back, behave):
    cut(world, back, behave, "/director/wait", "GET", None, silent)


def test_a_device_that_is_cut_off_while_it_reads_nothing(world, back, behave):
    """The whole way is full, and nobody on it moves."""
    device, sent, end = world.fleet.device("cut-full-download"), [0], []

    def speak(got, c):
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                c.sendall(b"%x\r\n%s\r\n" % (MIB, PIECE))
                sent[0] += 1
        except OSError:
            end.append(time.monotonic())
    behave(speak)
    with world.gateway(device).connect() as c:
        c.sendall(b"GET /repo/targets/endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stands_still(lambda: sent[0])
        world.muster("device", "quarantine", "cut-full-download", "--account", "proxied")
        began = time.monotonic()
        soon(1, lambda: len(end))
        assert end[0] - began < 1.2
        with pytest.raises((OSError, EOFError)):  # what was under way, and no more
            while True:
                if not c.recv(MIB):
                    raise EOFError
        assert time.monotonic() - began < 5


def test_a_device_that_is_cut_off_while_nothing_is_read_of_it(world, back, behave):
    device, sent, go, rest = world.fleet.device("cut-full-upload"), [0], threading.Event(), []

    def take(got, c, f):
        go.wait(20)
        try:
            while f.read1(MIB):
                pass
            rest.append("end")
        except OSError:
            rest.append("reset")
        return True
    behave(None, early=take)
    ended_at = []

    def send(c):
        try:
            while True:
                c.sendall(PIECE)
                sent[0] += 1
        except OSError:
            ended_at.append(time.monotonic())
    with world.gateway(device).connect() as c:
        c.settimeout(30)
        c.sendall(b"PUT /director/manifest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000\r\n\r\n")
        sender = threading.Thread(target=send, args=(c,))
        sender.start()
        stands_still(lambda: sent[0])
        world.muster("device", "quarantine", "cut-full-upload", "--account", "proxied")
        began = time.monotonic()
        sender.join(10)
        assert ended_at and ended_at[0] - began < 1.2
    go.set()
    soon(1, lambda: len(rest))  # the connection behind has ended too


def stands_still(count, seconds=0.7):
    """Waits until it moves no more; it has moved."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < seconds or not last:
        time.sleep(0.05)
        if count() != last:
            last, since = count(), time.monotonic()


def test_a_gateway_that_ends_lets_transfers_end(fresh):
    """SIGTERM drains."""
    import signal

    def speak(got, c):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 20480\r\n\r\n")
        for _ in range(20):
            c.sendall(b"a" * 1024)
            time.sleep(0.1)
    u = Upstream(speak)
    s = fresh(config=routes(("/x", {"upstream": u.url})))
    s.account("a", "test", "device")
    device = s.root("a").device("d1")
    assert reach(s, device, "/none").code == "not_found"
    with s.gateway(device).connect() as c:
        c.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        r = read_head(c)
        os.kill(s.process.pid, signal.SIGTERM)
        began = time.monotonic()
        assert len(r.read()) == 20480
        assert time.monotonic() - began > 1
    s.process.wait(20)
    u.close()


def test_a_client_that_goes_ends_the_request_behind(world, back, behave):
    there = []

    def wait(got, c):
        there.append(c)
        silent(got, c)
    behave(wait)
    with world.gateway(world.device).connect() as c:
        c.sendall(b"GET /director/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        soon(True, lambda: bool(there))
    soon(True, lambda: ended(back, there))


# --- what Muster keeps as well ----------------------------------------------------------------------------------------------------------------------


def test_what_a_device_says_of_itself_is_kept_and_passed_on(world, back, behave):
    behave(lambda got, c: answer(299, b"noted", [("X-From", "behind")]))
    a = reach(world, world.device, "/system_info", "PUT", {"id": "box", "class": "system"})
    assert (a.status, a.body, a.headers["X-From"]) == (299, b"noted", "behind")
    assert back.last().target == f"/api/v1/devices/{uuid_of(world)}/system_info"
    assert back.last().body == b'{"id": "box", "class": "system"}'
    a = reach(world, world.device, "/core/installed", "PUT", [{"name": "p", "version": "1"}])
    assert (a.status, back.last().target) == (299, f"/api/v1/mydevice/{uuid_of(world)}/packages")
    ecus = world.gateway(world.device).ecus("primary-9")
    assert (ecus.status, back.last().target) == (299, f"/api/v1/device/{uuid_of(world)}/ecus")
    shown = world.muster("device", "show", DEVICE, "--account", "proxied", "--full")
    assert shown["ecus"]["primary_ecu_serial"] == "primary-9"
    assert shown["reports"] == {"hardware": {"id": "box", "class": "system"}, "installed": [{"name": "p", "version": "1"}]}


def test_what_muster_cannot_keep_is_passed_on_all_the_same(world, back, behave):
    behave(lambda got, c: answer(200, b"fine"))
    a = reach(world, world.device, "/core/installed", "PUT", b"not json")
    assert (a.status, a.body, back.last().body) == (200, b"fine", b"not json")


class Locked:
    """Nobody writes the registry meanwhile."""

    def __init__(self, world):
        self.db = sqlite3.connect(world.dir / "registry.db", isolation_level=None, timeout=20)

    def __enter__(self):
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_):
        self.db.execute("ROLLBACK")
        self.db.close()


REPORT = b"PUT /system_info HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n"


def test_what_is_kept_of_a_device_that_is_cut_off_meanwhile_is_not_passed_on(world, back):
    """Its report waits for the registry; before that is free the device is quarantined, and cut off."""
    device, pid = world.fleet.device("cut-meanwhile"), world.child("gateway")
    assert reach(world, device, "/director/x").status == 200
    back.got.clear()
    with world.gateway(device).connect() as c:
        with Locked(world):
            c.sendall(REPORT + b'{"id":"c1"}')
            time.sleep(0.5)
            os.kill(pid, signal.SIGSTOP)
        try:
            world.muster("device", "quarantine", "cut-meanwhile", "--account", "proxied")
            with Locked(world):
                os.kill(pid, signal.SIGCONT)
                began = time.monotonic()
                with pytest.raises((OSError, EOFError)):
                    if not c.recv(1):
                        raise EOFError
                assert time.monotonic() - began < 1.2
        finally:
            os.kill(pid, signal.SIGCONT)
    soon({"id": "c1"}, lambda: world.muster("device", "show", "cut-meanwhile", "--account", "proxied", "--full").get("reports", {}).get("hardware"))
    assert reach(world, world.device, "/director/after").status == 200
    assert [g.target.rsplit("/", 1)[1] for g in back.got] == ["after"]
    assert world.child("gateway") == pid


def test_what_cannot_be_stored_is_not_passed_on(world, back):
    """The device asks again; of what is of no use to Muster (above) nothing had to be stored."""
    device = world.fleet.device("not-stored")
    assert reach(world, device, "/director/x").status == 200
    back.got.clear()
    with Locked(world):  # for longer than the store waits
        a = reach(world, device, "/system_info", "PUT", {"id": "n1"}, timeout=40)
        assert a.status == 503 and a.headers["Retry-After"], a
        assert not back.got
    assert reach(world, device, "/system_info", "PUT", {"id": "n2"}).status == 200
    assert back.last().body == b'{"id": "n2"}'


def test_other_methods_of_such_a_path_are_the_upstream_s(world, back, behave):
    behave(lambda got, c: answer(200, b"fine"))
    assert reach(world, world.device, "/system_info").body == b"fine"
    assert reach(world, world.device, "/events").code == "method_not_allowed"  # no route


# --- TLS to the upstream ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A CA, a server certificate for upstream.example and 127.0.0.1, a client certificate."""
    from cryptography import x509
    import ipaddress
    directory = tmp_path_factory.mktemp("tls")
    ca, foreign = Fleet("Upstream CA"), Fleet("Foreign CA")
    names = x509.SubjectAlternativeName([x509.DNSName("upstream.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server, client = ca.device("upstream", extensions=[(names, False)]), ca.device("the gateway")
    for name, of in (("ca.pem", ca), ("foreign.pem", foreign)):
        (directory / name).write_bytes(of.root_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(server.cert_file), str(server.key_file))
    context.load_verify_locations(str(directory / "ca.pem"))
    context.verify_mode = ssl.CERT_OPTIONAL
    u = Upstream(lambda got, c: answer(body=str((c.getpeercert() or {}).get("subject")).encode()), tls=context)
    u.dir, u.client = directory, client
    yield u
    u.close()


def test_an_upstream_with_tls(fresh, tls):
    own = {"tls_certificate": tls.client.cert_file, "tls_key": tls.client.key_file}
    s = fresh(config=routes(
        ("/good", {"upstream": tls.url, "tls_ca": tls.dir / "ca.pem"}),
        ("/name", {"upstream": tls.url, "tls_ca": tls.dir / "ca.pem", "tls_name": "upstream.example"}),
        ("/own", {"upstream": tls.url, "tls_ca": tls.dir / "ca.pem", **own}),
        ("/foreign", {"upstream": tls.url, "tls_ca": tls.dir / "foreign.pem"}),
        ("/system", {"upstream": tls.url}),
        ("/wrong", {"upstream": tls.url, "tls_ca": tls.dir / "ca.pem", "tls_name": "other.example"}),
        ("/plain", {"upstream": tls.url.replace("https", "http")})))
    s.account("a", "test", "device")
    device = s.root("a").device("d1")
    assert reach(s, device, "/good").body == b"None"
    assert reach(s, device, "/name").status == 200
    assert b"the gateway" in reach(s, device, "/own").body
    for path in ("/foreign", "/system", "/wrong", "/plain"):
        a = reach(s, device, path)
        assert (a.status, a.code) == (502, "upstream_failed"), (path, a)
    assert "certificate verify failed" in s.log_text()


def test_bodies_stream_over_tls_as_well(fresh, tls):
    """Both ways, with a side that is slow."""
    size, seen = 24 * MIB, []

    def speak(got, c):
        c.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // MIB):
            c.sendall(PIECE)

    def take(got, c, f):
        if got.method != "PUT":
            return False
        left, whole = size, hashlib.sha256()
        while left:
            part = f.read(min(left, 2 * MIB))
            left -= len(part)
            whole.update(part)
            time.sleep(0.05)
        seen.append(whole.hexdigest())
        c.sendall(answer(200, b"took it"))
        return True
    s = fresh(config=routes(("/x", {"upstream": tls.url, "tls_ca": tls.dir / "ca.pem"})))
    s.account("a", "test", "device")
    device = s.root("a").device("d1")
    before, whole = tls.behave, hashlib.sha256(PIECE * (size // MIB)).hexdigest()

    def behave(got, c):
        return speak(got, c)
    behave.early = take
    tls.behave = behave
    try:
        with s.gateway(device).connect() as c:
            c.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            r, got = read_head(c), hashlib.sha256()
            spent = busy(s.child("gateway"))
            time.sleep(1)
            assert busy(s.child("gateway")) - spent < 0.5  # what fits is moved, and then there is a rest
            while (part := r.read(4 * MIB)):
                got.update(part)
                time.sleep(0.1)
            assert got.hexdigest() == whole
        with s.gateway(device).connect() as c:
            c.sendall(f"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
            for _ in range(size // MIB):
                c.sendall(PIECE)
            assert read_head(c).read() == b"took it"
        assert seen == [whole]
    finally:
        tls.behave = before


# --- names ---------------------------------------------------------------------------------------------------------------------------------


class NameServer:
    """Answers A queries for the names that it has; NXDOMAIN for others."""

    def __init__(self, names):
        self.names, self.asked = names, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                query, client = self.socket.recvfrom(512)
            except OSError:
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
                at += 1 + query[at]
            question, kind = query[12:at + 5], int.from_bytes(query[at + 1:at + 3], "big")
            name = ".".join(labels)
            self.asked.append(name)
            address = self.names.get(name)
            found = address and kind == 1
            flags = b"\x81\x80" if address else b"\x81\x83"
            said = b"\xc0\x0c\0\x01\0\x01\0\0\0\x0a\0\x04" + socket.inet_aton(address) if found else b""
            self.socket.sendto(query[:2] + flags + b"\0\x01" + (b"\0\x01" if found else b"\0\0") + b"\0\0\0\0" + question + said, client)


def test_names_are_resolved_from_inside_the_confinement(fresh, back, tmp_path, monkeypatch):
    """With a resolv.conf and a hosts file of its own, which takes a mount namespace."""
    import conftest
    import subprocess
    if subprocess.run(["unshare", "--mount", "sh", "-c", "mount --bind /etc/resolv.conf /etc/resolv.conf && mount --bind /etc/hosts /etc/hosts"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount anything")
    names = NameServer({"director.internal": "127.0.0.1"})
    (tmp_path / "resolv.conf").write_text(f"nameserver 127.0.0.1:{names.port}\noptions attempts:1\n")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost repo.internal\n")
    wrapper = tmp_path / "musterd"
    wrapper.write_text(f"#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && mount --bind {tmp_path}/hosts /etc/hosts && "
                       f"exec \"$@\"' sh {MUSTERD} \"$@\"\n")
    wrapper.chmod(0o755)
    s = fresh(start=False, config=routes(*((f"/{n}", {"upstream": f"http://{n}.internal:{back.port}"}) for n in ("director", "repo", "nobody"))))
    monkeypatch.setattr(conftest, "MUSTERD", wrapper)
    s.start()
    s.account("a", "test", "device")
    device = s.root("a").device("d1")
    for name in ("director", "repo"):
        assert reach(s, device, f"/{name}/x").status == 200
        assert back.last().one("Host") == f"{name}.internal:{back.port}"
    assert "director.internal" in names.asked and "repo.internal" not in names.asked
    a = reach(s, device, "/nobody/x")
    assert (a.status, a.code) == (502, "upstream_failed")
    assert "cannot be resolved" in s.log_text()
    names.socket.close()


# --- configuration ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section, says", [
    (("/x", {}), "upstream is http"),
    (("/x", {"upstream": "ftp://a"}), "upstream is http"),
    (("/x", {"upstream": "http://a/b"}), "upstream is http"),
    (("/x", {"upstream": "http://a:0"}), "upstream is http"),
    (("/x", {"upstream": "http://user@a"}), "upstream is http"),
    (("/x", {"upstream": "http://a", "path": "/{serial}"}), "{serial}"),
    (("/x", {"upstream": "http://a", "path": "x{rest}"}), "path does not make a path"),
    (("/x", {"upstream": "http://a", "path": "/../{rest}"}), "path does not make a path"),
    (("/x", {"upstream": "http://a", "tls_ca": "/x.pem"}), "tls_… is for"),
    (("/x", {"upstream": "https://a", "tls_ca": "/nowhere.pem"}), "nowhere.pem"),
    (("/x", {"upstream": "https://a", "tls_key": "/x.pem"}), "belong together"),
    (("/devices", {"upstream": "http://a"}), "Muster's own"),
    (("/devices/x", {"upstream": "http://a"}), "Muster's own"),
    (("/time", {"upstream": "http://a"}), "Muster's own"),
    (("/x/", {"upstream": "http://a"}), "prefix of a route"),
])
def test_a_route_that_makes_no_sense_is_refused_at_the_start(fresh, section, says):
    import subprocess
    s = fresh(start=False, config=routes(section))
    done = subprocess.run([MUSTERD, "serve", "--data", s.dir], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and says in done.stderr, done.stderr


def test_two_routes_for_the_same_are_refused(fresh):
    import subprocess
    s = fresh(start=False, config=routes(("/x", {"upstream": "http://a"}), ("/x", {"upstream": "http://b"})))
    done = subprocess.run([MUSTERD, "serve", "--data", s.dir], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and "two routes [route /x]" in done.stderr


def test_a_gateway_with_routes_is_confined_but_for_connections(fresh, back):
    import subprocess
    s = fresh(start=False, config=routes(("/x", {"upstream": back.url})))
    done = subprocess.run([MUSTERD, "self-test-confinement", "gateway", "--data", s.dir], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "works socket AF_INET" in done.stdout and "denied socket AF_UNIX" in done.stdout and "denied execve" in done.stdout

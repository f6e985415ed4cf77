"""Attacks on the gateway, by their outcome: each client that does harm is refused or closed in time, the others go on, and what it took comes back.
How much the others feel of it, and under floods, bench/attack measures."""
import contextlib
import http.client
import json
import os
import re
import resource
import socket
import ssl
import subprocess
import threading
import time

import pytest

from client import Fleet
from conftest import BUILD, Server, refused, soon
from enrolment import PATH, Account, ask, used
from upstream import answer


def pss(pid):
    """Bytes of memory, shared pages divided among those that share them."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def one(fresh):
    """A server with one loop, and a device that has been there."""
    s = fresh(config=["loops = 1"])
    s.device = used(s, Account(s).key(), "good")
    s.gateway_pid = s.child("gateway")
    return s


def client_hello(server):
    """The first bytes of a handshake."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        server.gateway().context.wrap_bio(into, out, server_hostname="localhost").do_handshake()
    return out.read()


def raw(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def test_connections_that_say_nothing_cost_next_to_nothing(one):
    before, open_before = pss(one.gateway_pid), descriptors(one.gateway_pid)
    silent = [raw(one) for _ in range(1500)]
    soon(True, lambda: descriptors(one.gateway_pid) >= open_before + 1500, 5)
    assert pss(one.gateway_pid) - before < 1500 * 4096, "TLS has 40 KB each"
    assert ask(one, one.device) is None
    for c in silent:
        c.close()
    soon(True, lambda: descriptors(one.gateway_pid) <= open_before + 1, 5)


def test_the_memory_of_handshakes_that_stop_half_way_comes_back(one):
    hello = client_hello(one)
    before, open_before = pss(one.gateway_pid), descriptors(one.gateway_pid)
    half = [raw(one) for _ in range(800)]
    for c in half:
        c.sendall(hello)
    for c in half:
        assert c.recv(5), "the server's part has come"
    assert pss(one.gateway_pid) - before > 800 * 16384, "or there is nothing to give back"
    assert ask(one, one.device) is None
    for c in half:
        c.close()
    soon(True, lambda: pss(one.gateway_pid) < before + 4 * 1024 * 1024, 10)
    assert descriptors(one.gateway_pid) <= open_before + 1


def test_as_many_descriptors_as_the_system_allows(fresh):
    """Where a shell gives fewer than a loop may hold connections, those that say nothing could not make room."""
    s = fresh(start=False)
    mine = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, mine[1]))
    try:
        s.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, mine)
    assert resource.prlimit(s.child("gateway"), resource.RLIMIT_NOFILE) == (mine[1], mine[1])


# --- who takes places --------------------------------------------------------------------------------------------------------------------


BODY = b"PUT /system_info HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{"


def test_clients_that_drip_make_room(fresh):
    """A device that holds all places with requests that it never ends keeps nobody out."""
    s = fresh(config=["connections = 16", "loops = 1"])
    key = Account(s).key()
    device, bad = used(s, key, "good"), used(s, key, "bad")
    dripping = []
    try:
        for _ in range(16):
            dripping.append(s.gateway(bad).connect())
            dripping[-1].sendall(BODY)
        time.sleep(1.2)
        with s.gateway(device).connect() as kept:
            for _ in range(10):
                assert ask(s, device) is None
                assert s.gateway(device).on(kept, "GET", PATH).status == 404
    finally:
        for c in dripping:
            c.close()


def test_room_is_found_behind_many_that_are_new(fresh):
    """Those that have only just come are not slow yet; the slow ones stand behind them in turn."""
    s = fresh(config=["connections = 200", "loops = 1", "limit_device = 0"])
    key = Account(s).key()
    device, bad = used(s, key, "good"), used(s, key, "bad")
    dripping = []
    try:
        for many, pause in ((110, 1.2), (90, 0)):
            for _ in range(many):
                dripping.append(s.gateway(bad).connect())
                dripping[-1].sendall(BODY)
            time.sleep(pause)
        kept = []
        for _ in range(8):  # each of them needs room
            kept.append(s.gateway(device).connect())
            dripping.append(kept[-1])
            for c in kept:
                assert s.gateway(device).on(c, "GET", PATH).status == 404
    finally:
        for c in dripping:
            c.close()


def test_who_asks_now_and_then_keeps_his_connection_among_those_that_drip(fresh):
    """One that was idle for less than a second is no better a place to be had than one that drips."""
    s = fresh(config=["connections = 16", "loops = 1"])
    key = Account(s).key()
    device, bad = used(s, key, "good"), used(s, key, "bad")
    dripping = []
    try:
        for _ in range(15):
            dripping.append(s.gateway(bad).connect())
            dripping[-1].sendall(BODY)
        time.sleep(1.2)
        with s.gateway(device).connect() as kept:
            for _ in range(10):
                assert s.gateway(device).on(kept, "GET", PATH).status == 404
                dripping.append(s.gateway(bad).connect())
                dripping[-1].sendall(BODY)
            assert s.gateway(device).on(kept, "GET", PATH).status == 404
    finally:
        for c in dripping:
            c.close()


def test_a_transfer_at_a_good_pace_is_not_cut_for_connections_that_ask_now_and_then(fresh):
    """They make room before it, though each was idle for a moment only."""
    s = fresh(config=["connections = 16", "loops = 1"])
    key = Account(s).key()
    device, busy = used(s, key, "uploads"), used(s, key, "busy")
    body = b'{"class": "system", "product": "' + b"x" * 60000 + b'"}'
    kept = []
    try:
        with s.gateway(device).connect() as upload:
            upload.sendall(put("Content-Type: application/json", f"Content-Length: {len(body)}", path="/system_info"))
            for at in range(0, len(body), 4000):  # about 20 KB a second
                upload.sendall(body[at:at + 4000])
                kept = kept[-14:] + [s.gateway(busy).connect()]
                for c in kept:
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        s.gateway(busy).on(c, "GET", PATH)
                assert ask(s, device) is None
                time.sleep(0.15)
            answer = http.client.HTTPResponse(upload)
            answer.begin()
            assert answer.status == 200
    finally:
        for c in kept:
            c.close()


@contextlib.contextmanager
def attacked(server, identity, kind, requests, *options):
    """While bench_attack does this with them; what became of it is in the list that it yields."""
    path, result = server.dir.parent / f"{kind}.request", []
    path.write_bytes(requests)
    attack = subprocess.Popen([BUILD / "bench/bench_attack", "--port", str(server.port), "--as", kind, "--send", path, "--identity", f"{identity.cert_file},{identity.key_file}", *options],
                              stdout=subprocess.PIPE, text=True)
    assert attack.stdout.readline() == "ready\n"
    yield result
    result.append(json.loads(attack.stdout.readline()))
    assert attack.wait(10) == 0


@pytest.mark.alone
def test_who_pipelines_without_end_does_not_have_the_loop_to_himself(one):
    """Faster than he is answered."""
    slowest = 0
    with attacked(one, one.device, "pipeline", b"GET /director/2.root.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000, "--connections", "4", "--every", "1", "--seconds", "4") as said:
        time.sleep(1)
        for _ in range(10):
            began = time.monotonic()
            assert ask(one, one.device) is None
            slowest = max(slowest, time.monotonic() - began)
    assert (said[0]["handshakes"], said[0]["closed"]) == (4, 0), said
    assert slowest < 1


# --- what a request is ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory, back):
    """A server with routes to another one, which records what arrives."""
    s = Server(tmp_path_factory.mktemp("attacks") / "data", config=["loops = 1", "[route /director]", f"upstream = {back.url}", "connections = 8", "[route /repo]", f"upstream = {back.url}"]).start()
    s.account_of_both = account = Account(s)
    s.device, s.other = used(s, account.key(), "good"), used(s, account.key(), "other")
    yield s
    assert s.stop() == 0


def speak(server, identity, said, half=False):
    """Sends the bytes and a request behind them; the statuses of all answers until the server ends the connection, or has answered that request."""
    last = b"GET /system_info/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    got = b""
    with server.gateway(identity, timeout=10).connect() as c:
        try:
            c.sendall(said)
            if half:
                c.unwrap()  # says that it sends no more
            else:
                c.sendall(last)
            while part := c.recv(65536):
                got += part
        except (ConnectionError, ssl.SSLError):
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


HIDDEN = b"GET /director/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"


def put(*fields, body=b"", path="/director/x"):
    return f"PUT {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + b"".join(f.encode("latin-1") + b"\r\n" for f in fields) + b"\r\n" + body


CHUNKED = "Transfer-Encoding: chunked"
REFUSED = {
    "length and chunked": (put("Content-Length: 4", CHUNKED, body=b"0\r\n\r\n" + HIDDEN), 400),
    "chunked and length": (put(CHUNKED, f"Content-Length: {len(HIDDEN) + 5}", body=b"0\r\n\r\n" + HIDDEN), 400),
    "two lengths": (put("Content-Length: 0", f"Content-Length: {len(HIDDEN)}", body=HIDDEN), 400),
    "the same length twice": (put("Content-Length: 0", "Content-Length: 0", body=HIDDEN), 400),
    "a list of lengths": (put(f"Content-Length: 0, {len(HIDDEN)}", body=HIDDEN), 400),
    "a length with a sign": (put("Content-Length: +0", body=HIDDEN), 400),
    "a negative length": (put("Content-Length: -1", body=HIDDEN), 400),
    "a length in hexadecimal": (put("Content-Length: 0x0", body=HIDDEN), 400),
    "a length of 65 bits": (put("Content-Length: 18446744073709551616", body=HIDDEN), 400),
    "a length with a NUL": (put("Content-Length: 0\0", body=HIDDEN), 400),
    "xchunked": (put("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN), 501),
    "chunked, then identity": (put("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + HIDDEN), 501),
    "identity, then chunked": (put("Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n" + HIDDEN), 501),
    "two codings": (put(CHUNKED, "Transfer-Encoding: identity", body=b"0\r\n\r\n" + HIDDEN), 400),
    "a blank before the colon": (put("Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN), 400),
    "a vertical tab": (put("Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n" + HIDDEN), 400),
    "a folded coding": (put("X: y", " Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN), 400),
    "a coding folded behind its name": (put("Transfer-Encoding:", " chunked", body=b"0\r\n\r\n" + HIDDEN), 400),
    "a coding behind a bare LF": (put("X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN), 400),
    "a coding behind a bare CR": (put("X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN), 400),
    "a head of bare LFs": (put().replace(b"\r\n", b"\n") + HIDDEN, 400),
    "a length under the name of another": (put("Content_Length: 3", "Content-Length\t: 0", body=HIDDEN), 400),
    "an empty line first": (b"\r\n" + put("Content-Length: 0") + HIDDEN, 400),
    "two hosts": (put("Host: other", "Content-Length: 0") + HIDDEN, 400),
    "an absolute target": (b"GET http://other/director/x HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN, 400),
    "HTTP/1.0 with a coding": (put(CHUNKED, body=b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0") + HIDDEN, 505),
    "a method with a space": (b"GET GET /director/x HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN, 400),
    # What is at fault shows only in the body: the request is refused, and what was passed on of it is no request either.
    "a chunk's extension": (put(CHUNKED, body=b"0;x=\r\n\r\n" + HIDDEN), 400),
    "a quoted extension with a line's end": (put(CHUNKED, body=b'1;a="\r\nX\r\n0\r\n\r\n' + HIDDEN), 400),
    "chunks that end in LF": (put(CHUNKED, body=b"0\n\n" + HIDDEN), 400),
    "a chunk without its end": (put(CHUNKED, body=b"5\r\nhello0\r\n\r\n" + HIDDEN), 400),
    "a negative chunk": (put(CHUNKED, body=b"-1\r\n" + HIDDEN), 400),
    "a chunk of more than 64 bits": (put(CHUNKED, body=b"10000000000000000\r\n" + HIDDEN), 400),
    "a chunk of 0x5": (put(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n" + HIDDEN), 400),
    "a blank behind the size": (put(CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n" + HIDDEN), 400),
    "a request as trailer": (put(CHUNKED, body=b"0\r\n" + HIDDEN), 400),
    "a chunk that is none": (put(CHUNKED, body=HIDDEN), 400),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(world, back, what):
    """Once, and nothing behind it is read: not by the gateway, and not by the server behind."""
    said, status = REFUSED[what]
    back.got.clear()
    assert speak(world, world.device, said) == [status]
    assert not back.got
    assert ask_behind(world, back) == "/director/after", "and the next request on the gateway's connection is the next one"


def ask_behind(server, back):
    assert server.gateway(server.other).get("/director/after").status == 200
    return back.got[-1].target


ACCEPTED = {
    "hidden in a body": (put(f"Content-Length: {len(HIDDEN)}", body=HIDDEN), HIDDEN),
    "hidden in a chunk": (put(CHUNKED, body=f"{len(HIDDEN):x}\r\n".encode() + HIDDEN + b"\r\n0\r\n\r\n"), HIDDEN),
    "a chunk that looks like the last one": (put(CHUNKED, body=b"000007\r\n0\r\n\r\nGE\r\n0\r\n\r\n"), b"0\r\n\r\nGE"),
    "a body that looks like chunks": (put("Content-Length: 5", body=b"0\r\n\r\n"), b"0\r\n\r\n"),
    "fields that only look like it": (put("X-Content-Length: 9", "Transfer_Encoding: chunked", "Content-Length: 3", body=b"abc"), b"abc"),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_has_one_reading_arrives_as_that(world, back, what):
    said, body = ACCEPTED[what]
    back.got.clear()
    assert speak(world, world.device, said) == [200, 404]
    assert [(got.method, got.target, got.body) for got in back.got] == [("PUT", "/director/x", body)]
    assert not back.got[0].all("Transfer_Encoding"), "a server that makes variables of names would take it for the other"


def test_a_body_that_is_shorter_than_it_says(world, back):
    """Half a request is none: nobody gets an answer to it, it is not kept, and the server behind sees its end."""
    back.got.clear()
    report = json.dumps({"id": "half"}).encode()
    for said in (put("Content-Length: 10", body=b"short"), put(CHUNKED, body=b"5\r\nhello\r\n"), put("Content-Type: application/json", f"Content-Length: {len(report) + 1}", body=report, path="/system_info")):
        assert speak(world, world.device, said, half=True) == []
    assert not back.got
    kept = world.api("GET", f"/api/v1/accounts/{world.account_of_both.name}/devices/good?full=yes")
    assert kept.status == 200 and b"half" not in kept.body
    assert ask_behind(world, back) == "/director/after"


def test_a_body_that_is_longer_than_it_says(world, back):
    """What is too much of it is the next request, and none."""
    back.got.clear()
    assert speak(world, world.device, put("Content-Length: 3", body=b'abc"}\r\n')) == [200, 400]
    assert [got.body for got in back.got] == [b"abc"]


def test_a_body_that_is_said_to_be_huge(world, back):
    """Where it is kept it is refused at once; where it is passed on nothing is held for it."""
    assert speak(world, world.device, put("Content-Type: application/json", "Content-Length: 999999999999999999", path="/system_info")) == [413]
    before, behave, done = pss(world.child("gateway")), back.behave, threading.Event()

    def wait(got, connection):
        return behave(got, connection)
    wait.early = lambda got, connection, f: got.method == "PUT" and done.wait(10)
    back.behave = wait
    try:
        with world.gateway(world.device).connect() as c:
            c.sendall(put("Content-Length: 999999999999999999", body=b"x" * 1000))
            assert ask_behind(world, back) == "/director/after"
            assert pss(world.child("gateway")) - before < 2**20
    finally:
        done.set()
        back.behave = behave


# --- TLS ---------------------------------------------------------------------------------------------------------------------------------------


def test_a_client_cannot_renegotiate(world):
    """Each handshake on a connection would be the server's work alone."""
    with attacked(world, world.device, "renegotiate", b"-", "--tls12", "--connections", "4", "--rate", "20", "--every", "1", "--seconds", "2") as said:
        assert ask(world, world.device) is None
    assert said[0]["handshakes"] >= 4 and said[0]["closed"] >= said[0]["handshakes"] - 4, "each connection has ended with its first attempt"


def test_a_chain_without_end(world):
    """More than a handshake takes ends it; nothing of it is kept in memory, and it is told to the operators."""
    strangers = Fleet("A Stranger")
    chain = [strangers.device(f"filler {i}").cert for i in range(300)]  # 100 KB
    g = world.gateway(strangers.device("huge", chain=chain), sni="localhost")
    before = pss(world.child("gateway"))
    for _ in range(20):
        with pytest.raises((ConnectionError, ssl.SSLError)):
            g.get(PATH)
    assert ask(world, world.device) is None
    assert pss(world.child("gateway")) - before < 2**21
    soon(True, lambda: any("larger than the handshake takes" in r["reason"] for r in world.muster("refusal", "list", "--code", "chain_too_long")), 4)


def test_uploads_of_many_certificates(world, tmp_path):
    """A root is one certificate, and a command's file has a bound."""
    for n, code in ((2, "invalid_request"), (2000, "body_too_large")):
        path = tmp_path / f"{n}.pem"
        path.write_bytes(Fleet("Upload").root_pem() * n)
        refused(code, world.muster, "root", "upload", path, "--account", world.account_of_both.name)
    assert not world.muster("root", "list", "--account", world.account_of_both.name)[1:]


# --- slowly, in every phase -------------------------------------------------------------------------------------------------------------------------


def drip(connection, said, every=0.25):
    """Byte by byte until the other side is at its end; (seconds that it took, what it said)."""
    began, got, at = time.monotonic(), b"", 0
    connection.settimeout(every)
    while True:
        try:
            if at < len(said):
                connection.sendall(said[at:at + 1])
                at += 1
            if not (part := connection.recv(65536)):
                break
            got += part
        except (TimeoutError, ssl.SSLWantReadError):
            continue
        except (ConnectionError, ssl.SSLError):
            break
    return time.monotonic() - began, got


def test_a_slow_client_is_done_with_in_time_in_every_phase(world, back):
    """No byte restarts a deadline: 10 seconds for a handshake, 10 for a head, 30 for a body at least at its least rate; and the others notice nothing."""
    device, hello = world.other, client_hello(world)
    tls = lambda: world.gateway(device).connect()
    half = raw(world)
    half.sendall(hello)
    cases = {
        "nothing": (raw(world), b"", 10, b""),
        "hello": (raw(world), hello, 10, b""),
        "half": (half, b"", 10, None),
        "mute": (tls(), b"", 10, b""),
        "head": (tls(), b"GET /director/x HTTP/1.1\r\nX: " + b"a" * 10000, 10, b"HTTP/1.1 408"),
        "body": (tls(), put("Content-Type: application/json", "Content-Length: 60000", path="/system_info") + b"{" * 60000, 30, b"HTTP/1.1 408"),
    }
    cases["body"][0].sendall(cases["body"][1][:150])
    took = {}
    threads = [threading.Thread(target=lambda name=name, c=c: took.update({name: drip(c[0], c[1][150:] if name == "body" else c[1])})) for name, c in cases.items()]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        began = time.monotonic()
        assert ask(world, world.device) is None
        assert time.monotonic() - began < 2
        time.sleep(0.2)
    for name, (connection, _, seconds, said) in cases.items():
        connection.close()
        assert seconds - 1 <= took[name][0] <= seconds + 3, (name, took[name])
        assert said is None or took[name][1][:len(said)] == said and (said or not took[name][1]), (name, took[name])


def waiting(server):
    """Bytes that the kernel holds of what the gateway has written and no client has taken."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return sum(int(r[4].split(":")[0], 16) for r in rows if int(r[1].split(":")[1], 16) == server.port)


def test_an_answer_that_is_not_read_is_not_held(world, back):
    """Neither by the gateway nor by the kernel: the server behind waits."""
    before, behave = pss(world.child("gateway")), back.behave
    back.behave = lambda got, c: answer(body=b"x" * (64 * 2**20)) if got.target.endswith("big") else answer()
    deaf = []
    try:
        for _ in range(20):
            c = world.gateway(world.device).connect()
            c.sendall(b"GET /repo/big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            deaf.append(c)
        time.sleep(2)
        assert ask(world, world.other) is None and ask_behind(world, back) == "/director/after"
        assert pss(world.child("gateway")) - before < 20 * 512 * 1024
        assert 20 * 1024 < waiting(world) < 20 * 512 * 1024
    finally:
        back.behave = behave
        for c in deaf:
            c.close()
    soon(True, lambda: pss(world.child("gateway")) - before < 2 * 2**20, 10)


def test_a_device_cannot_have_all_connections_of_a_route(world, back):
    """Eight there are; one that holds what it may is told to come again, and the others go on."""
    behave, done, answers = back.behave, threading.Event(), []
    back.behave = lambda got, c: (got.target.endswith("held") and done.wait(20), answer())[1]
    threads = [threading.Thread(target=lambda: answers.append(world.gateway(world.device).get("/director/held"))) for _ in range(12)]
    try:
        for t in threads:
            t.start()
        soon(8, lambda: len(answers), 10)
        assert all((a.status, a.code) == (503, "busy") and a.headers["Retry-After"] for a in answers)
        for _ in range(5):
            assert world.gateway(world.other).get("/director/after").status == 200
    finally:
        done.set()
        for t in threads:
            t.join()
        back.behave = behave
    assert sorted(a.status for a in answers) == [200] * 4 + [503] * 8
    assert world.gateway(world.device).get("/director/after").status == 200

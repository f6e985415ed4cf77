"""Attacks on the gateway, by their outcome: each client that does harm is refused or closed in time, the others go on, and what it took comes back.
How much the others feel of it, and under floods, bench/attack measures."""
import os
import socket
import ssl
import time

import pytest

from client import Fleet
from conftest import soon
from enrolment import PATH, Account, ask, used


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

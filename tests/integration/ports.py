"""Ports for servers that keep theirs over a restart, or that have to be told one.

They lie below the range from which the kernel takes the clients' own ports: while nobody listens on one of that range, any client of the machine may be
given it as its own, even to connect with itself, and the server does not get it back."""
import random
import socket

GIVEN = set()  # nobody else of this process has it


def _below_the_clients():
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        first = int(f.read().split()[0])
    return range(max(1024, first - 12000), first)


def free_port():
    """A port of 127.0.0.1 on which nobody listens now."""
    choice = random.SystemRandom()  # lanes and tests that set a seed do not meet
    while True:
        port = choice.choice(_below_the_clients())
        if port in GIVEN:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: connections that wait for their end are no hindrance
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        GIVEN.add(port)
        return port


def free_address():
    return f"127.0.0.1:{free_port()}"

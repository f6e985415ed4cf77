"""The gateway's own certificate: Muster's, the operator's, renewed and reloaded."""
import pathlib
import signal
import ssl
import time

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from client import Fleet, Gateway
from clock import Clock
from conftest import soon

SERVER = [(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]


def serial(gateway):
    with gateway.connect() as c:
        return x509.load_der_x509_certificate(c.getpeercert(True)).serial_number


def own(ca=None):
    ca = ca or Fleet("Operator's server CA")
    return ca, ca.device("localhost", extensions=SERVER)


def settings(identity, *more):
    return [f"server_certificate = {identity.cert_file}", f"server_key = {identity.key_file}", *more]


def test_musters_own_names_every_host(server):
    with server.gateway().connect() as c:
        cert = x509.load_der_x509_certificate(c.getpeercert(True))
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    assert list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_operators_own_under_an_unknown_anchor_is_refused_at_start(fresh):
    _, identity = own()
    s = fresh(start=False, config=settings(identity))
    with pytest.raises(AssertionError):
        s.start()
    s.process.wait(timeout=30)
    assert s.process.returncode == 1
    assert "does not chain to an anchor that enrolled devices were given" in s.log_text()


def test_operators_own_when_told_otherwise(fresh):
    ca, identity = own()
    s = fresh(config=settings(identity, "server_chain_check = no"))
    with pytest.raises(ssl.SSLCertVerificationError):
        s.gateway().connect()
    path = s.dir.parent / "own.pem"
    path.write_bytes(ca.root_pem())
    assert serial(Gateway(s.port, path)) == identity.cert.serial_number


def test_operators_own_under_an_anchor_that_devices_get(fresh):
    ca, identity = own()
    s = fresh(start=False, config=settings(identity))
    with open(s.dir / "server-ca.pem", "ab") as f:
        f.write(ca.root_pem())
    s.start()
    assert serial(s.gateway()) == identity.cert.serial_number
    s.account("own", "test", "shared")
    key = s.key("own")
    assert len(key.cas) == 2, "devices are given both anchors"
    assert s.gateway(key).enrol("device-under-two-anchors").status == 200


def test_reloaded_without_dropping_connections(fresh):
    ca, first = own()
    s = fresh(start=False, config=settings(first))
    with open(s.dir / "server-ca.pem", "ab") as f:
        f.write(ca.root_pem())
    s.start()
    s.account("reload", "test", "device")
    fleet = s.root("reload")
    g = s.gateway(fleet.device("reload-device"))
    with g.connect() as kept:
        assert g.on(kept, "GET", "/x").status == 404
        _, second = own(ca)
        pathlib.Path(first.cert_file).write_bytes(second.cert_file.read_bytes())
        pathlib.Path(first.key_file).write_bytes(second.key_file.read_bytes())
        s.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 10
        while serial(s.gateway()) != second.cert.serial_number:
            assert time.monotonic() < until, "the new certificate was not loaded"
            time.sleep(0.05)
        assert g.on(kept, "GET", "/x").status == 404, "the connection from before goes on"


def test_renewed_when_it_is_not_what_it_should_be(fresh):
    s = fresh()
    before = serial(s.gateway())
    s.stop()
    s.start()
    assert serial(s.gateway()) == before, "a certificate in the first two thirds of its life stays"
    s.stop()
    _, foreign = own()
    (s.dir / "tls" / "default.pem").write_bytes(foreign.cert_file.read_bytes() + foreign.key_file.read_bytes())
    s.start()
    assert serial(s.gateway()) not in (before, foreign.cert.serial_number)


def test_renewed_at_two_thirds_of_its_life(fresh):
    s = fresh()
    before = serial(s.gateway())
    s.stop()
    clock = Clock(s.dir.parent / "clock")
    clock.set(250 * 86400)
    s.start(env=clock.env)
    later = s.gateway()
    later.context.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME: it is still today here
    assert serial(later) != before


def test_renewed_while_it_runs(fresh):
    """By the hourly look, in a server that nobody restarts, and without a connection dropped."""
    s = fresh(start=False)
    clock = Clock(s.dir.parent / "clock")

    def seen():
        g = s.gateway()
        g.context.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME: it is still today here
        return serial(g)

    def awake():  # a timer is looked at when something else happens: the loop sleeps by the kernel's clock
        assert s.request("GET", "/readyz").status == 200
        return seen()

    s.admin_ca = ssl.create_default_context(cafile=str(s.dir / "server-ca.pem"))  # the same certificate
    s.admin_ca.verify_flags |= 0x200000
    s.start(env=clock.env)
    processes = [s.child(name) for name in ("vault", "control", "gateway")]
    before = seen()
    g = s.gateway()
    with g.connect() as kept:
        assert g.on(kept, "GET", "/x").code == "certificate_required"
        minute, day = 60, 86400

        def passes(seconds): clock.set(seconds, seconds, processes[1])

        due = 365 * day * 2 // 3 - day // 3  # it began a day before it was made
        passes(due - 30 * minute)  # looked at
        for _ in range(10):
            assert awake() == before, "before two thirds of its life"
            time.sleep(0.1)
        passes(due + 20 * minute)
        for _ in range(10):
            assert awake() == before, "due, and not looked at yet"
            time.sleep(0.1)
        passes(due + 40 * minute)
        soon(True, lambda: awake() != before, 10)
        after = seen()
        assert g.on(kept, "GET", "/x").code == "certificate_required", "the connection from before goes on"
        assert seen() == after, "renewed once"
    assert [s.child(name) for name in ("vault", "control", "gateway")] == processes
    assert s.log_text().count("certificates_renewed") == 2, "at the start, and now"
    assert "clock_was_set" not in s.log_text()


def test_a_bad_one_on_disk_keeps_the_one_in_use_and_nobody_else_waits(fresh):
    ca, first = own()
    s = fresh(start=False, config=settings(first))
    with open(s.dir / "server-ca.pem", "ab") as f:
        f.write(ca.root_pem())
    s.start()
    _, stranger = own()
    for n, bad in enumerate((b"", b"no certificate", stranger.cert_file.read_bytes(), ca.device("localhost", extensions=SERVER).cert_file.read_bytes())):
        pathlib.Path(first.cert_file).write_bytes(bad)  # unreadable, under an anchor that nobody has, of another key
        s.account(f"made-{n}", "test", "shared")
        s.host(f"made-{n}")  # has its certificate
        assert serial(s.gateway()) == first.cert.serial_number
    assert s.log_text().count("server_certificate_kept") >= 4
    _, second = own(ca)
    pathlib.Path(first.cert_file).write_bytes(second.cert_file.read_bytes())
    pathlib.Path(first.key_file).write_bytes(second.key_file.read_bytes())
    s.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 10
    while serial(s.gateway()) != second.cert.serial_number:
        assert time.monotonic() < until, "mended, and not loaded"
        time.sleep(0.05)

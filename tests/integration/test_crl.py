"""Certificate revocation lists of Muster's own CAs: what stands on them, when, under which number, and how others get them.  They are read by
python3-cryptography, verified by its keys and by openssl."""
import datetime
import http.client
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

import enrolment
from clock import Clock
from conftest import MUSTER, Server, refused, soon, stays
from enrolment import GAP, Account
from ports import free_address

def listen():
    """A port that is free, for a listener that keeps it."""
    return f"crl_listen = {free_address()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("crl") / "data", config=[listen()]).start()
    yield s
    assert s.stop() == 0
    assert "Sanitizer" not in s.log_text()


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def name_of(a):
    return a.name if hasattr(a, "name") else a


def lists(server, a):
    return {c["kind"]: c for c in server.muster("crl", "list", "--account", name_of(a))}


def der(server, a, kind="issuing-ca"):
    one = soon(True, lambda: kind in lists(server, a), 5) and lists(server, a)[kind]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
    return subprocess.run([MUSTER, "--data", server.dir, "crl", "export", one["id"], "--account", name_of(a)], capture_output=True, check=True, env=env, timeout=60).stdout


def crl(server, a, kind="issuing-ca"):
    return x509.load_der_x509_crl(der(server, a, kind))


def number(c):
    return c.extensions.get_extension_for_oid(ExtensionOID.CRL_NUMBER).value.crl_number


def entries(server, a, kind="issuing-ca"):
    """{serial number: reason, or None} of the list as it is now."""
    found = {}
    for e in crl(server, a, kind):
        reason = [x.value.reason.value for x in e.extensions if isinstance(x.value, x509.CRLReason)]
        found[e.serial_number] = reason[0] if reason else None
    return found


def cas(server, a):
    """The account's fleet root and issuing CA, from the vault by way of the registry."""
    with_root = server.muster("root", "list", "--account", name_of(a))
    root = next(r for r in with_root if r["origin"] == "muster")
    return x509.load_pem_x509_certificate(server.muster("root", "export", root["id"])["certificate"].encode()), root


def fetch(url, method="GET", **fields):
    host, path = url.removeprefix("http://").split("/", 1)
    c = http.client.HTTPConnection("127.0.0.1", int(host.rsplit(":", 1)[1]), timeout=20)
    try:
        c.request(method, "/" + path, headers=fields)
        answer = c.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        c.close()


def serial(identity):
    return identity.cert.serial_number


def key_of(a):
    if getattr(a, "provisioning", None) is None:
        a.provisioning = a.key()
    return a.provisioning


def enrolled(a, device_id):
    return enrolment.enrolled(a.server, key_of(a), device_id)


def used(a, device_id):
    return enrolment.used(a.server, key_of(a), device_id)


# --- what stands on them --------------------------------------------------------------------------------------------------------------------


def test_each_ca_of_an_account_has_a_list_from_the_beginning(server, account):
    a = account()
    soon({"fleet-root", "issuing-ca"}, lambda: set(lists(server, a)), 3)
    root, _ = cas(server, a)
    for kind in ("fleet-root", "issuing-ca"):
        c, shown = crl(server, a, kind), lists(server, a)[kind]
        assert not list(c) and c.next_update - c.last_update == datetime.timedelta(days=7, minutes=5)
        assert abs((datetime.datetime.utcnow() - datetime.timedelta(minutes=5) - c.last_update).total_seconds()) < 60
        assert isinstance(c.signature_hash_algorithm, hashes.SHA256)
        assert number(c) == shown["number"] and shown["entries"] == 0 and shown["bytes"] == len(der(server, a, kind)) and shown["state"] == "current"
        key = c.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value.key_identifier
        assert key.hex() == shown["id"]
        assert not any(e.critical for e in c.extensions) and {e.oid for e in c.extensions} == {ExtensionOID.CRL_NUMBER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER}
    assert crl(server, a, "fleet-root").is_signature_valid(root.public_key())
    assert crl(server, a, "fleet-root").issuer == root.subject
    assert server.muster("root", "crl", "--account", a.name) == server.muster("crl", "list", "--account", a.name)


def test_a_revoked_device_is_on_it_within_a_second(server, account):
    a = account()
    d = used(a, "revoked-1")
    before = crl(server, a)
    assert serial(d) not in entries(server, a)
    server.muster("device", "revoke", "revoked-1", "--account", a.name)
    soon({serial(d): None}, lambda: entries(server, a))
    c = crl(server, a)
    assert number(c) > number(before) and c.issuer == d.cert.issuer
    assert c[0].revocation_date == c.last_update  # to some verifiers a revocation that lies ahead is none
    key = d.cert.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value.key_identifier
    assert key.hex() == lists(server, a)["issuing-ca"]["id"]


def test_a_revoked_certificate_has_its_reason(server, account):
    a = account()
    reasons = {"key-compromise": "keyCompromise", "affiliation-changed": "affiliationChanged", "superseded": "superseded", "cessation-of-operation": "cessationOfOperation",
               "privilege-withdrawn": "privilegeWithdrawn", "unspecified": None}
    wanted = {}
    for i, (reason, shown) in enumerate(reasons.items()):
        d = used(a, f"reason-{i}")
        server.muster("cert", "revoke", f"{serial(d):x}", "--account", a.name, "--reason", reason, "--yes")
        wanted[serial(d)] = shown
    soon(wanted, lambda: entries(server, a), 2)


def test_a_replaced_certificate_is_not_on_it_until_its_device_is_revoked(server, account):
    """Nobody revoked it; but a revoked device takes all that it has with it."""
    a = account("--reprovision", "replace")
    first = used(a, "twice")
    second = used(a, "twice")
    assert serial(first) != serial(second)
    stays({}, lambda: entries(server, a), 1)
    server.muster("device", "revoke", "twice", "--account", a.name)
    soon({serial(first), serial(second)}, lambda: set(entries(server, a)))
    server.muster("device", "release", "twice", "--account", a.name)  # its tombstone: the ID may come again, these never
    stays({serial(first), serial(second)}, lambda: set(entries(server, a)), 1)


def test_a_quarantined_device_is_on_hold_and_leaves_the_list_again(server, account):
    a = account()
    d = used(a, "held")
    server.muster("device", "quarantine", "held", "--account", a.name)
    soon({serial(d): "certificateHold"}, lambda: entries(server, a))
    server.muster("device", "release", "held", "--account", a.name)
    soon({}, lambda: entries(server, a))
    server.muster("device", "quarantine", "held", "--account", a.name)
    server.muster("device", "revoke", "held", "--account", a.name)
    soon({serial(d): None}, lambda: entries(server, a))


def test_who_waits_for_an_operator_is_on_hold(server, account):
    a = account("--approval", "yes")
    d = enrolled(a, "waits")
    soon({serial(d): "certificateHold"}, lambda: entries(server, a))
    time.sleep(GAP)
    again = enrolled(a, "waits")  # its answer was lost
    soon({serial(d): "certificateHold", serial(again): "certificateHold"}, lambda: entries(server, a))
    server.muster("device", "approve", "waits", "--account", a.name)
    soon({}, lambda: entries(server, a))


def test_a_root_that_is_disabled_or_revoked_has_its_issuing_ca_on_its_list(server, account):
    a = account()
    d = used(a, "below")
    _, root = cas(server, a)
    assert entries(server, a, "fleet-root") == {}
    server.muster("root", "disable", root["id"], "--yes")
    held = soon(["certificateHold"], lambda: list(entries(server, a, "fleet-root").values())) and entries(server, a, "fleet-root")
    server.muster("root", "enable", root["id"])
    soon({}, lambda: entries(server, a, "fleet-root"))
    server.muster("root", "revoke", root["id"], "--yes")
    soon(dict.fromkeys(held), lambda: entries(server, a, "fleet-root"))
    assert serial(d) not in entries(server, a, "fleet-root")


def test_accounts_do_not_meet(server, account):
    a, b = account(), account()
    d = used(a, "here")
    server.muster("device", "revoke", "here", "--account", a.name)
    soon({serial(d)}, lambda: set(entries(server, a)))
    assert entries(server, b) == {}
    refused("not_found", server.muster, "crl", "show", lists(server, a)["issuing-ca"]["id"], "--account", b.name)
    refused("not_found", server.muster, "crl", "show", "00" * 20, "--account", a.name)
    refused("not_found", server.muster, "crl", "show", "../../control.db", "--account", a.name)


def test_an_account_without_cas_of_its_own_has_none(server):
    server.account("crl-device-only", method="device")
    assert server.muster("crl", "list", "--account", "crl-device-only") == []
    for verb in (("crl", "export"), ("root", "bundle")):
        refused("not_found", server.muster, *verb, "--account", "crl-device-only", "-o", server.dir.parent / "none.pem")


def test_an_export_waits_for_lists_that_are_about_to_be_made(server, tmp_path):
    """Right behind `account create` and `root rotate` the file has all of them; who asks the API is told when to come again, and never given a part."""
    for n in range(3):
        name = f"crl-at-once-{n}"
        server.account(name, "test", "shared")
        for lists_ in (2, 4):
            answer = server.api("GET", f"/api/v1/accounts/{name}/crl-file")
            assert answer.status == 200 and answer.body.count(b"BEGIN X509 CRL") == lists_ or (answer.status, answer.code, int(answer.headers["Retry-After"])) == (503, "unavailable", 1), answer
            server.muster("crl", "export", "--account", name, "-o", tmp_path / "crls.pem")
            assert (tmp_path / "crls.pem").read_text().count("BEGIN X509 CRL") == lists_
            if lists_ == 2:
                (root,) = server.muster("root", "list", "--account", name)
                server.muster("root", "rotate", root["id"])


def test_an_export_has_what_was_revoked_a_moment_before(server, account, tmp_path):
    """A script that revokes and then hands the lists out; who asks the API is told when to come again."""
    a = account()
    devices = [used(a, f"just-now-{i}") for i in range(4)]
    for i, d in enumerate(devices):
        server.muster("device", "revoke", f"just-now-{i}", "--account", a.name)
        if i % 2:
            answer = server.api("GET", f"/api/v1/accounts/{a.name}/" + ("crl-file" if i > 1 else f"crls/{issuing}/file"))
            assert answer.status == 200 or (answer.status, answer.code, int(answer.headers["Retry-After"])) == (503, "unavailable", 1), answer
        if i < 2: # one list by itself
            (issuing,) = [c["id"] for c in server.muster("crl", "list", "--account", a.name) if c["kind"] == "issuing-ca"]
            server.muster("crl", "export", issuing, "--account", a.name, "-o", tmp_path / "one.crl")
            assert x509.load_der_x509_crl((tmp_path / "one.crl").read_bytes()).get_revoked_certificate_by_serial_number(d.cert.serial_number)
        server.muster("crl", "export", "--account", a.name, "-o", tmp_path / "crls.pem")
        parts = re.findall(r"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n", (tmp_path / "crls.pem").read_text(), re.S)
        assert any(x509.load_pem_x509_crl(p.encode()).get_revoked_certificate_by_serial_number(d.cert.serial_number) for p in parts)


def test_an_export_comes_while_the_account_changes_all_the_time(server, account, tmp_path):
    """It has what was revoked before it was asked for; what is revoked meanwhile keeps nobody waiting."""
    a = account()
    devices = [used(a, f"busy-{i}") for i in range(4)]
    stop, changes = threading.Event(), []

    def change():
        while not stop.is_set():
            server.muster("device", ("quarantine", "release")[len(changes) % 2], "busy-0", "--account", a.name)
            changes.append(time.monotonic())

    changing = threading.Thread(target=change, daemon=True)
    changing.start()
    try:
        for i in range(1, 4):
            before = len(changes)
            soon(True, lambda: len(changes) > before, 20)  # pylint: disable=cell-var-from-loop
            server.muster("device", "revoke", f"busy-{i}", "--account", a.name)
            server.muster("crl", "export", "--account", a.name, "-o", tmp_path / "crls.pem")
            parts = re.findall(r"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n", (tmp_path / "crls.pem").read_text(), re.S)
            assert any(x509.load_pem_x509_crl(p.encode()).get_revoked_certificate_by_serial_number(devices[i].cert.serial_number) for p in parts)
    finally:
        stop.set()
        changing.join(60)
    assert server.muster("audit", "verify", "--account", a.name)["ok"]


def test_bulk_revocations_make_few_lists(server, account):
    a = account()
    ids = [f"bulk-{i}" for i in range(30)]
    devices = [used(a, i) for i in ids]
    before, made = number(crl(server, a)), server.log_text().count("crl_made account=" + a.name)
    threads = [threading.Thread(target=server.muster, args=("device", "revoke", i, "--account", a.name)) for i in ids]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    soon({serial(d) for d in devices}, lambda: set(entries(server, a)), 2)
    assert number(crl(server, a)) > before
    assert server.log_text().count("crl_made account=" + a.name) - made <= 12  # two CAs; about two a second while it lasted


def openssl(*args):
    return subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, timeout=60, check=False)


def files(server, a, directory):
    """The account's own CAs, and their lists, as other programs take them."""
    server.muster("root", "bundle", "--account", a.name, "-o", directory / "cas.pem")
    server.muster("crl", "export", "--account", a.name, "-o", directory / "crls.pem")
    return directory / "cas.pem", directory / "crls.pem"


def test_openssl_checks_the_whole_chain_by_them(server, account, tmp_path):
    a = account()
    good, bad = used(a, "good"), used(a, "bad")
    server.muster("device", "revoke", "bad", "--account", a.name)
    soon({serial(bad)}, lambda: set(entries(server, a)))
    bundle, crls = files(server, a, tmp_path)
    assert crls.read_text().count("BEGIN X509 CRL") == 2 and bundle.read_text().count("BEGIN CERTIFICATE") == 2
    for d, said in ((good, "OK"), (bad, "certificate revoked")):
        done = openssl("verify", "-x509_strict", "-crl_check_all", "-CRLfile", crls, "-CAfile", bundle, d.cert_file)
        assert said in done.stdout + done.stderr, done.stdout + done.stderr


def kill_vault(s):
    """And wait until the next one is greeted."""
    killed = s.child("vault")
    os.kill(killed, signal.SIGKILL)
    soon(True, lambda: enrolment.enrol(s, s.probe, f"probe-{time.monotonic_ns()}").__class__.__name__ == "Device" and s.child("vault") != killed, 15)


# --- numbers --------------------------------------------------------------------------------------------------------------------------------


def test_numbers_never_go_back(fresh, tmp_path):
    """Not by kill -9 of vault or server, not by a clock that goes back, and not by a file of an older state."""
    s = fresh(config=[listen()])
    a = Account(s)
    s.probe = key_of(a)
    seen = [number(crl(s, a))]

    def again(i):
        d = used(a, f"number-{i}")
        s.muster("device", "revoke", f"number-{i}", "--account", a.name)
        soon(True, lambda: serial(d) in entries(s, a), 5)
        seen.append(number(crl(s, a)))

    again(0)
    kill_vault(s)
    again(1)
    older = (s.dir / "vault" / f"crls-{a.name}").read_bytes()
    again(2)
    s.stop(signal.SIGKILL)
    time.sleep(0.2)
    s.start()
    again(3)
    s.stop()
    (s.dir / "vault" / f"crls-{a.name}").write_bytes(older)
    s.start()
    again(4)
    s.stop()
    (s.dir / "vault" / f"crls-{a.name}").write_bytes(b"damaged")
    s.start()
    again(5)
    assert "vault_crl_numbers_damaged" in s.log_text()
    assert seen == sorted(set(seen)) and len(seen) == 7


def test_a_vault_that_dies_in_the_middle_costs_no_list(fresh):
    s = fresh()
    a = Account(s)
    last = number(crl(s, a))
    for i in range(4):
        d = used(a, f"killed-{i}")
        killer = threading.Timer(0.02 * i, lambda: os.kill(s.child("vault"), signal.SIGKILL))
        killer.start()
        s.muster("device", "revoke", f"killed-{i}", "--account", a.name)
        killer.join()
        soon(True, lambda: serial(d) in entries(s, a), 20)
        assert number(crl(s, a)) > last
        last = number(crl(s, a))
        soon(200, lambda: s.request("GET", "/readyz").status, 10)


def test_a_list_is_made_anew_in_time_and_one_that_is_over_is_said(fresh):
    s = fresh(config=["crl_interval = 1s", "crl_life = 4s"])
    a = Account(s)
    first = number(crl(s, a))
    soon(True, lambda: number(crl(s, a)) > first, 5)
    vault = s.child("vault")
    os.kill(vault, signal.SIGSTOP)
    try:
        over = soon(["crl_overdue"], lambda: [x["what"] for x in s.muster("status")["attention"] if x["what"].startswith("crl")], 8)
        assert over and lists(s, a)["issuing-ca"]["state"] == "overdue"
        item = next(x for x in s.muster("status")["attention"] if x["what"] == "crl_overdue")
        assert item["level"] == "critical" and item["account"] == a.name and item["command"] == "muster crl list"
        due = re.search(rf'muster_crl_next_update_seconds{{account="{a.name}"}} (\S+)', s.api("GET", "/metrics").body.decode())
        assert float(due[1]) <= time.time()
    finally:
        os.kill(vault, signal.SIGCONT)
    soon([], lambda: [x for x in s.muster("status")["attention"] if x["what"].startswith("crl")], 15)


def test_the_server_refuses_an_interval_that_leaves_a_gap(fresh):
    s = fresh(start=False, config=["crl_interval = 8d"])
    done = s.musterd("serve")
    assert done.returncode and "crl_interval" in done.stderr


def test_lists_go_with_their_account(fresh):
    s = fresh(config=[listen()])
    a = Account(s)
    soon({"fleet-root", "issuing-ca"}, lambda: set(lists(s, a)), 3)
    url = lists(s, a)["issuing-ca"]["url"]
    assert fetch(url)[0] == 200
    s.muster("account", "delete", a.name, "--yes")
    soon(404, lambda: fetch(url)[0], 3)
    assert list((s.dir / "crl").iterdir()) == []


def at(s, db, text):
    """What the gateway's process, or damage, could write."""
    with sqlite3.connect(s.dir / db, isolation_level=None) as c:
        c.execute("PRAGMA foreign_keys = off")
        c.executescript(text)
    c.close()


def test_a_clock_that_was_ahead_takes_nobody_off(fresh):
    s = fresh()
    a = Account(s)
    d = used(a, "out")
    s.muster("device", "revoke", "out", "--account", a.name)
    soon({serial(d)}, lambda: set(entries(s, a)), 5)
    before = number(crl(s, a))
    s.stop()
    at(s, "control.db", "UPDATE crl SET this_update = this_update + 36000 * 86400, next_update = next_update + 36000 * 86400")
    s.start()
    soon(True, lambda: number(crl(s, a)) > before, 10)
    assert set(entries(s, a)) == {serial(d)}


def test_dates_and_damage_in_rows_take_nobody_off(fresh):
    s = fresh()
    a = Account(s)
    d, e = used(a, "ahead"), used(a, "later")
    s.muster("device", "revoke", "ahead", "--account", a.name)
    soon({serial(d)}, lambda: set(entries(s, a)), 5)
    at(s, "registry.db", "UPDATE cert SET revoked = 9000000000, reason = 7 WHERE state = 5; INSERT INTO cert (serial, fingerprint, account, spki, state, der, not_before, not_after, created, used, "
       "revoked, issuer) SELECT x'01', fingerprint, account, spki, 5, der, not_before, not_after, created, used, 5, issuer FROM cert LIMIT 1")
    s.muster("device", "revoke", "later", "--account", a.name)
    soon({serial(d), serial(e)}, lambda: set(entries(s, a)), 10)
    assert {x.revocation_date for x in crl(s, a)} == {crl(s, a).last_update}
    assert "crl_rows_damaged" in s.log_text() and said(s) == {("crl_incomplete", a.name)}


def said(s):
    return {(x["what"], x["account"]) for x in s.muster("status")["attention"] if x["what"].startswith("crl")}


def test_what_is_damaged_in_one_account_keeps_no_other_back(fresh):
    s = fresh()
    a, b = Account(s), Account(s)
    d, e = used(b, "out"), used(b, "then")
    for x in (a, b):
        crl(s, x), crl(s, x, "fleet-root")
    assert said(s) == set()
    at(s, "registry.db", f"UPDATE ca SET der = x'30' WHERE kind = 1 AND account = (SELECT id FROM account WHERE name = '{a.name}'); UPDATE crl_revision SET n = n + 1")
    s.muster("device", "revoke", "out", "--account", b.name)
    soon({serial(d)}, lambda: set(entries(s, b)), 5)
    soon({("crl_behind", a.name)}, lambda: said(s), 5)
    assert f'muster_crl_behind{{account="{a.name}"}} 1' in s.api("GET", "/metrics").body.decode() and f'muster_crl_behind{{account="{b.name}"}} 0' in s.api("GET", "/metrics").body.decode()
    s.muster("device", "revoke", "then", "--account", b.name)
    soon({serial(d), serial(e)}, lambda: set(entries(s, b)), 10)
    assert set(lists(s, a)) == {"fleet-root", "issuing-ca"}
    assert said(s) == {("crl_behind", a.name)}


def test_a_list_that_does_not_come_is_said_after_a_minute(fresh):
    s = fresh(start=False)
    clock = Clock(s.dir.parent / "clock")
    s.start(env=clock.env)
    a = Account(s)
    d = used(a, "waits")
    crl(s, a)
    vault, control = s.child("vault"), s.child("control")
    os.kill(vault, signal.SIGSTOP)
    try:
        s.muster("device", "revoke", "waits", "--account", a.name)
        stays(set(), lambda: said(s), 5)
        clock.set(0, 45, control)
        stays(set(), lambda: said(s), 3)
        clock.set(0, 62, control)
        soon({("crl_behind", a.name)}, lambda: said(s), 5)
    finally:
        os.kill(vault, signal.SIGCONT)
    soon({serial(d)}, lambda: set(entries(s, a)), 20)
    soon(set(), lambda: said(s), 5)


def test_what_is_revoked_goes_before_lists_that_have_only_grown_old(fresh):
    """As behind a night in which the server was off: every list is due."""
    s = fresh(start=False)
    clock = Clock(s.dir.parent / "clock")
    s.start(env=clock.env)
    for i in range(20):
        assert s.api("POST", "/api/v1/accounts", {"id": f"old-{i}", "kind": "test", "method": "shared"}).status == 201
    a = Account(s)
    d = used(a, "out")
    crl(s, a)
    made = lambda: re.findall(r"crl_made account=(\S+) .*?entries=(\d+)", s.log_text())
    soon(True, lambda: len(made()) >= 42, 60)
    time.sleep(1)  # from one list of a CA to the next: 0.4 s at least (admin/crl_making.c)
    before = len(made())
    clock.set(2 * 86400)
    s.muster("device", "revoke", "out", "--account", a.name)
    answered = len(made())
    soon({serial(d)}, lambda: set(entries(s, a)), 20)
    assert made()[answered:].index((a.name, "1")) < 15
    soon(True, lambda: {name for name, _ in made()[before:]} >= {f"old-{i}" for i in range(20)}, 60)


def test_an_export_right_behind_a_start_has_what_was_revoked(fresh, tmp_path):
    """Control has not looked at the account yet."""
    s = fresh()
    a = Account(s)
    devices = [used(a, f"killed-{i}") for i in range(4)]
    for i, d in enumerate(devices):
        pid = s.child("control")
        s.muster("device", "revoke", f"killed-{i}", "--account", a.name)
        os.kill(pid, signal.SIGKILL)
        s.muster("crl", "export", "--account", a.name, "-o", tmp_path / "crls.pem")
        parts = re.findall(r"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n", (tmp_path / "crls.pem").read_text(), re.S)
        assert any(x509.load_pem_x509_crl(p.encode()).get_revoked_certificate_by_serial_number(d.cert.serial_number) for p in parts)


def test_rows_that_say_that_there_is_nothing_to_list_take_no_list_away(fresh):
    s = fresh()
    a = Account(s)
    d, e = used(a, "out"), used(a, "later")
    s.muster("device", "revoke", "out", "--account", a.name)
    soon({serial(d)}, lambda: set(entries(s, a)), 5)
    at(s, "registry.db", "DELETE FROM crl_revision")
    s.muster("device", "revoke", "later", "--account", a.name)
    soon({serial(d), serial(e)}, lambda: set(entries(s, a)), 5)
    at(s, "registry.db", "DELETE FROM crl_revision; UPDATE account SET state = 3")
    s.stop()
    s.start()
    soon(True, lambda: "crl_account_not_deleted" in s.log_text(), 5)
    stays(2, lambda: len([f for f in (s.dir / "crl").iterdir() if f.name.endswith(".crl")]), 2)
    at(s, "registry.db", "UPDATE account SET state = 2")
    soon({serial(d), serial(e)}, lambda: set(entries(s, a)), 5)


def test_an_interval_of_minutes_makes_no_list_after_the_other(fresh):
    s = fresh(config=["crl_interval = 4m"])
    a = Account(s)
    crl(s, a), crl(s, a, "fleet-root")
    made = s.log_text().count("crl_made")
    stays(made, lambda: s.log_text().count("crl_made"), 3)


def test_a_list_whose_file_is_gone_is_made_again(fresh):
    s = fresh()
    a = Account(s)
    d = used(a, "kept")
    s.muster("device", "revoke", "kept", "--account", a.name)
    soon({serial(d)}, lambda: set(entries(s, a)), 3)
    before = number(crl(s, a))
    s.stop()
    for file in (s.dir / "crl").iterdir():
        file.unlink()
    s.start()
    soon(True, lambda: len(list((s.dir / "crl").iterdir())) == 2 and number(crl(s, a)) > before, 5)
    assert set(entries(s, a)) == {serial(d)}


# --- the plain listener ---------------------------------------------------------------------------------------------------------------------


def test_it_is_off_unless_it_is_asked_for(fresh):
    s = fresh()
    a = Account(s)
    soon({"fleet-root", "issuing-ca"}, lambda: set(lists(s, a)), 3)
    assert all(c["url"] is None for c in lists(s, a).values())
    out = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True, check=True).stdout
    gateway = s.child("gateway")
    assert {line.split()[3].rsplit(":", 1)[1] for line in out.splitlines() if f"pid={gateway}," in line} <= {str(s.port)}


def test_lists_are_served_as_files(server, account):
    a = account()
    d = used(a, "served")
    soon({"fleet-root", "issuing-ca"}, lambda: set(lists(server, a)), 3)
    url = lists(server, a)["issuing-ca"]["url"]
    assert re.fullmatch(rf"http://localhost:\d+/crl/{a.name}/[0-9a-f]{{40}}\.crl", url)
    status, fields, body = fetch(url)
    assert status == 200 and fields["Content-Type"] == "application/pkix-crl" and body == der(server, a)
    assert fields["Content-Length"] == str(len(body))
    made, due = crl(server, a).last_update, crl(server, a).next_update
    assert fields["Last-Modified"] == made.strftime("%a, %d %b %Y %H:%M:%S GMT") and fields["Expires"] == due.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert re.fullmatch(r"public, max-age=3600, must-revalidate", fields["Cache-Control"])
    status, head, nothing = fetch(url, "HEAD")
    assert (status, nothing) == (200, b"") and {k: head[k] for k in ("ETag", "Content-Length", "Content-Type")} == {k: fields[k] for k in ("ETag", "Content-Length", "Content-Type")}
    status, not_modified, nothing = fetch(url, **{"If-None-Match": fields["ETag"]})
    assert (status, nothing) == (304, b"") and not_modified["ETag"] == fields["ETag"] and not_modified["Cache-Control"] == fields["Cache-Control"]
    assert fetch(url, **{"If-None-Match": '"other", ' + fields["ETag"]})[0] == 304
    assert fetch(url, **{"If-None-Match": '"other"', "If-Modified-Since": fields["Last-Modified"]})[0] == 200
    assert fetch(url, **{"If-Modified-Since": fields["Last-Modified"]})[0] == 304
    assert fetch(url, **{"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"})[0] == 200
    server.muster("device", "revoke", "served", "--account", a.name)
    soon({serial(d)}, lambda: {e.serial_number for e in x509.load_der_x509_crl(fetch(url)[2])})
    status, changed, _ = fetch(url, **{"If-None-Match": fields["ETag"]})
    assert status == 200 and changed["ETag"] != fields["ETag"]


def test_nothing_else_is_there(server, account):
    a = account()
    soon({"fleet-root", "issuing-ca"}, lambda: set(lists(server, a)), 3)
    url = lists(server, a)["issuing-ca"]["url"]
    key = lists(server, a)["issuing-ca"]["id"]
    base = url.split("/crl/", 1)[0]
    for path in ("/", "/crl", f"/crl/{a.name}", f"/crl/{a.name}/", f"/crl/{a.name}/{key}", f"/crl/{a.name}/{key}.crl/", f"/crl/{a.name}/{key.upper()}.crl", f"/crl/nobody/{key}.crl",
                 f"/crl/{a.name}/{'0' * 40}.crl", "/devices", "/.well-known/est/cacerts", "/healthz", "/api/v1/status", f"/crl/{a.name}.{key}.crl", f"/crl/x/{a.name}.{key}.crl",
                 f"/crl/%2e%2e/{key}.crl", "/crl/..%2fvault/index", f"/crl/{a.name}/..{key[2:]}.crl", f"/crl/{a.name}/%2e%2e%2fcontrol.db"):
        status, _, body = fetch(base + path)
        assert status in (400, 404) and b"CRL" not in body, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert fetch(url, method)[0] == 405, method
    assert fetch(url)[0] == 200


def test_a_download_goes_on_with_the_list_that_it_began_with(server, account):
    """And one that is never read costs nobody anything."""
    a = account()
    d = used(a, "slow")
    soon({"fleet-root", "issuing-ca"}, lambda: set(lists(server, a)), 3)
    url = lists(server, a)["issuing-ca"]["url"]
    before = fetch(url)[2]
    host, path = url.removeprefix("http://").split("/", 1)
    idle = [socket.create_connection(("127.0.0.1", int(host.rsplit(":", 1)[1]))) for _ in range(50)]
    for s in idle:
        s.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    server.muster("device", "revoke", "slow", "--account", a.name)
    soon({serial(d)}, lambda: {e.serial_number for e in x509.load_der_x509_crl(fetch(url)[2])})
    for s in idle:
        said = b""
        while len(said) < len(before) and (more := s.recv(65536)):
            said += more
        assert said.split(b"\r\n\r\n", 1)[1] in (before, fetch(url)[2])
        s.close()


def test_a_server_without_descriptors_does_not_say_that_there_is_no_list(fresh):
    s = fresh(config=[listen()])
    a = Account(s)
    soon({"fleet-root", "issuing-ca"}, lambda: set(lists(s, a)), 3)
    host, path = lists(s, a)["issuing-ca"]["url"].removeprefix("http://").split("/", 1)
    gateway = s.child("gateway")
    before = resource.prlimit(gateway, resource.RLIMIT_NOFILE)
    c = http.client.HTTPConnection("127.0.0.1", int(host.rsplit(":", 1)[1]), timeout=20)

    def status():
        c.request("GET", "/" + path)
        answer = c.getresponse()
        answer.read()
        return answer.status

    assert status() == 200
    resource.prlimit(gateway, resource.RLIMIT_NOFILE, (3, before[1]))
    assert status() == 503
    resource.prlimit(gateway, resource.RLIMIT_NOFILE, before)
    assert status() == 200
    c.close()


def test_a_bundle_has_the_issuing_cas_that_signed(server, account, tmp_path):
    a = account()
    d = used(a, "bundled")
    bundle, _ = (soon(True, lambda: len(lists(server, a)) == 2, 3), files(server, a, tmp_path))[1]
    found = [x509.load_pem_x509_certificate(b"-----BEGIN" + p) for p in bundle.read_bytes().split(b"-----BEGIN")[1:]]
    assert [c.issuer for c in found] == [found[0].subject] * 2 and d.cert.issuer == found[1].subject
    found[1].public_key().verify(d.cert.signature, d.cert.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))


def test_the_api_is_for_who_may_read_the_account(server, account):
    a, b = account(), account()
    soon({"fleet-root", "issuing-ca"}, lambda: set(lists(server, a)), 3)
    key = lists(server, a)["issuing-ca"]["id"]
    paths = [f"/api/v1/accounts/{a.name}/crls", f"/api/v1/accounts/{a.name}/crls/{key}", f"/api/v1/accounts/{a.name}/crls/{key}/file", f"/api/v1/accounts/{a.name}/crl-file", f"/api/v1/accounts/{a.name}/ca-file"]
    auditor = server.token("crl-auditor", "auditor", a.name)["token"]
    other = server.token("crl-other", "owner", b.name)["token"]
    factory = server.token("crl-factory", "factory", a.name)["token"]
    for path in paths:
        assert server.api("GET", path, token=auditor).status == 200
        assert server.api("GET", path, token=other).status == 404
        assert server.api("GET", path, token=factory).status == 403
        assert server.api("GET", path, token=False).status == 401
    page = server.api("GET", paths[0] + "?limit=1").json
    assert len(page["items"]) == 1 and page["next"]
    rest = server.api("GET", f"{paths[0]}?limit=1&cursor={page['next']}").json
    assert [c["id"] for c in page["items"] + rest["items"]] == [c["id"] for c in server.muster("crl", "list", "--account", a.name)] and rest["next"] is None


def test_the_list_of_a_ca_that_has_ended_lacks_nothing(fresh):
    s = fresh()
    a = Account(s)
    used(a, "old")
    soon(2, lambda: len(s.muster("crl", "list", "--account", a.name)), 10)
    s.stop()
    clock = Clock(s.dir.parent / "clock")
    s.start(env=clock.env)
    clock.set(50 * 365 * 86400)
    s.muster("device", "revoke", "old", "--account", a.name)
    assert [(one["state"], one["behind"], one["failing"]) for one in s.muster("crl", "list", "--account", a.name)] == [("ended", False, None)] * 2

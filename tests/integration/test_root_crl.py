"""Revocation lists of customers' fleet CAs are imported, and honoured: who stands on one is refused, at once and on open connections; and what is no newer,
whole list of that very CA is not taken."""
import datetime
import http.client
import sqlite3
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from client import Fleet
from conftest import refused, soon
from test_device_credentials import PATH, ask

CA = (x509.BasicConstraints(True, None), True)
DAY = datetime.timedelta(days=1)


def now():
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None, microsecond=0)


@pytest.fixture(scope="module")
def made(server):
    """Accounts of the tests' own, each with a proved root."""
    count = iter(range(1, 1000))

    def make(fleet=None, prove=True):
        name = f"rootcrl-{next(count)}"
        server.account(name, "test", "device")
        return name, server.root(name, fleet, prove=prove)

    return make


def crl(fleet, *listed, number=1, made_at=None, next_update=DAY, reasons=None, extensions=(), entry=(), digest=None):
    """A list by that fleet CA: of certificates, by their serial numbers."""
    at = made_at or now() - datetime.timedelta(minutes=5)
    b = x509.CertificateRevocationListBuilder().issuer_name(fleet.cert.subject).last_update(at).next_update(at + next_update)
    if number is not None:
        b = b.add_extension(x509.CRLNumber(number), False)
    for value, critical in extensions:
        b = b.add_extension(value, critical)
    for i, cert in enumerate(listed):
        r = x509.RevokedCertificateBuilder().serial_number(cert if isinstance(cert, int) else cert.serial_number).revocation_date(at)
        if reasons:
            r = r.add_extension(x509.CRLReason(reasons[i]), False)
        for value, critical in entry:
            r = r.add_extension(value, critical)
        b = b.add_revoked_certificate(r.build())
    return b.sign(fleet.key, digest or hashes.SHA256())


def pem(*lists):
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in lists)


def bring(server, account, root, content, *ca):
    """`muster crl import`."""
    path = server.dir.parent / f"crl-{time.monotonic_ns()}.pem"
    path.write_bytes(content if isinstance(content, bytes) else pem(content))
    options = []
    if ca:
        signers = path.with_suffix(".ca")
        signers.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in ca))
        options = ["--ca", signers]
    return server.muster("crl", "import", root["id"], path, "--account", account, *options)


def imported(server, account):
    return server.muster("crl", "imported", "--account", account)


# --- who is refused -------------------------------------------------------------------------------------------------------------------------


def test_who_stands_on_a_list_is_refused_at_once_and_comes_back_by_a_newer_one(server, made):
    account, fleet = made()
    good, bad = fleet.device("good"), fleet.device("bad")
    assert ask(server, good) is None and ask(server, bad) is None
    shown = bring(server, account, fleet.root, crl(fleet, bad.cert, reasons=[x509.ReasonFlags.key_compromise]))
    assert shown["entries"] == 1 and shown["number"] == "01" and shown["state"] == "current" and shown["root"] == fleet.root["id"] and shown["issuer"] == "CN=Fleet Root"
    assert ask(server, bad) == "certificate_listed" and ask(server, good) is None  # the moment that the command has answered
    assert "key compromise" in server.gateway(bad).get(PATH).json["description"]
    assert imported(server, account) == [shown]
    bring(server, account, fleet.root, crl(fleet, number=2))
    assert ask(server, bad) is None
    (now_counts,) = imported(server, account)
    assert now_counts["number"] == "02" and now_counts["entries"] == 0 and now_counts["id"] != shown["id"]
    entry = [e for e in server.muster("audit", "list", "--account", account) if e["action"] == "root.crl"]
    assert [(e["detail"]["number"], e["detail"]["entries"]) for e in entry] == [("01", 1), ("02", 0)] and entry[0]["object"] == fleet.root["id"]
    assert server.muster("audit", "verify", "--account", account)["ok"] is True


def test_a_device_that_was_never_seen_is_refused_and_not_registered(server, made):
    account, fleet = made()
    bad = fleet.device("never-seen")
    bring(server, account, fleet.root, crl(fleet, bad.cert))
    assert ask(server, bad) == "certificate_listed"
    assert server.muster("device", "list", "--account", account) == []
    soon(["certificate_listed"], lambda: [r["code"] for r in server.muster("refusal", "list", "--account", account)], 3)
    chain = server.dir.parent / "listed.pem"
    chain.write_bytes(bad.cert_file.read_bytes())
    explained = server.api("POST", f"/api/v1/accounts/{account}/explain", {"chain": chain.read_text()}).json
    assert (explained["verdict"], explained["code"]) == ("refused", "certificate_listed")


def test_an_open_connection_ends_with_the_import(server, made):
    account, fleet = made()
    bad = fleet.device("open")
    gateway = server.gateway(bad)
    with gateway.connect() as c:
        assert gateway.on(c, "GET", PATH).status == 404
        bring(server, account, fleet.root, crl(fleet, bad.cert))
        try:
            assert gateway.on(c, "GET", PATH).code == "certificate_listed"
        except (http.client.HTTPException, ssl.SSLError, OSError):
            pass  # it is closed already
    assert ask(server, bad) == "certificate_listed"


def test_whose_intermediate_is_listed_is_refused(server, made):
    account, fleet = made()
    line, other = fleet.intermediate("Line 1"), fleet.intermediate("Line 2")
    bad, good = line.device("below-1", chain=[line.cert]), other.device("below-2", chain=[other.cert])
    assert ask(server, bad) is None and ask(server, good) is None
    bring(server, account, fleet.root, crl(fleet, line.cert))
    assert ask(server, bad) == "certificate_listed" and ask(server, good) is None
    assert "above" in server.gateway(bad).get(PATH).json["description"]
    bring(server, account, fleet.root, crl(fleet, number=2))
    assert ask(server, bad) is None


def test_a_ca_below_the_root_has_a_list_of_its_own(server, made):
    account, fleet = made()
    line = fleet.intermediate("Line 1")
    deep = line.intermediate("Cell 1")
    bad, good = line.device("line-bad", chain=[line.cert]), line.device("line-good", chain=[line.cert])
    cell = deep.device("cell-bad", chain=[deep.cert, line.cert])
    assert [ask(server, d) for d in (bad, good, cell)] == [None, None, None]
    assert bring(server, account, fleet.root, crl(line, bad.cert), line.cert)["issuer"] == "CN=Line 1"
    bring(server, account, fleet.root, crl(deep, cell.cert), deep.cert, line.cert)
    assert [ask(server, d) for d in (bad, good, cell)] == ["certificate_listed", None, "certificate_listed"]
    assert len(imported(server, account)) == 2
    stranger = Fleet("Somebody")
    refused("crl_signature", bring, server, account, fleet.root, crl(stranger, bad.cert), stranger.cert)  # not under the root
    refused("crl_signature", bring, server, account, fleet.root, crl(deep, number=9), deep.cert)  # what stands between is missing
    refused("crl_signature", bring, server, account, fleet.root, crl(line, number=9))  # of another CA than the root
    leaf = fleet.device("no-ca")
    refused("crl_signature", bring, server, account, fleet.root, crl(leaf_ca(leaf), bad.cert), leaf.cert)


def leaf_ca(identity):
    """Somebody who signs lists with a device's key."""
    f = Fleet.__new__(Fleet)
    f.key, f.cert = identity.key, identity.cert
    return f


def test_the_same_serial_number_of_another_ca_is_not_meant(server, made):
    """Two CAs of one name, or none: only who signed the certificate can take it back."""
    account, fleet = made()
    twin = server.root(account, Fleet())  # of the same name, with another key
    bad, namesake = fleet.device("of-the-first"), twin.device("of-the-second")
    bring(server, account, twin.root, crl(twin, bad.cert))
    assert ask(server, bad) is None
    bring(server, account, fleet.root, crl(fleet, namesake.cert, bad.cert))
    assert ask(server, namesake) is None and ask(server, bad) == "certificate_listed"


def test_accounts_do_not_meet(server, made):
    fleet = Fleet("Shared Root")
    (one, _), (two, other) = made(fleet), made(Fleet("Other"))
    device = fleet.device("meets")
    assert ask(server, device) is None
    refused("not_found", bring, server, two, server.muster("root", "list", "--account", one)[0], crl(fleet, device.cert))
    refused("crl_signature", bring, server, two, other.root, crl(fleet, device.cert))
    assert ask(server, device) is None and imported(server, two) == []


def test_a_listed_root_that_is_an_intermediate_lets_nobody_in(server, made):
    """Both the root and a CA below it were uploaded: what the root takes back counts for the other's devices, though they do not show it."""
    account, fleet = made()
    line = fleet.intermediate("Line As Root")
    server.root(account, line)
    device = line.device("under-line")
    assert ask(server, device) is None
    bring(server, account, fleet.root, crl(fleet, line.cert))
    assert ask(server, device) == "certificate_listed"


# --- what is not taken ------------------------------------------------------------------------------------------------------------------------


def test_an_older_list_is_refused(server, made):
    account, fleet = made()
    bad = fleet.device("older")
    newest = crl(fleet, bad.cert, number=300)
    first = bring(server, account, fleet.root, newest)
    for older in (crl(fleet, number=299), crl(fleet, number=2), crl(fleet, number=300), crl(fleet, number=None), crl(fleet, number=255, made_at=now())):
        refused("crl_older", bring, server, account, fleet.root, older)
        assert ask(server, bad) == "certificate_listed"
    assert bring(server, account, fleet.root, newest)["id"] == first["id"]  # the same again is none that is older
    assert imported(server, account) == [first]
    bring(server, account, fleet.root, crl(fleet, number=2 ** 80))
    assert ask(server, bad) is None


def test_lists_without_numbers_go_by_their_dates(server, made):
    account, fleet = made()
    bad = fleet.device("dated")
    at = now() - datetime.timedelta(hours=2)
    assert bring(server, account, fleet.root, crl(fleet, bad.cert, number=None, made_at=at))["number"] is None
    refused("crl_older", bring, server, account, fleet.root, crl(fleet, number=None, made_at=at - datetime.timedelta(seconds=1)))
    bring(server, account, fleet.root, crl(fleet, number=None, made_at=at + datetime.timedelta(seconds=1)))
    assert ask(server, bad) is None


def test_what_is_no_whole_list_of_that_ca_is_refused(server, made):
    account, fleet = made()
    bad = fleet.device("not-taken")
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    indirect = x509.IssuingDistributionPoint(None, None, False, False, None, True, False)
    cases = [
        ("invalid_request", crl(fleet, bad.cert, extensions=[(x509.DeltaCRLIndicator(1), True)])),
        ("invalid_request", crl(fleet, bad.cert, extensions=[(indirect, True)])),
        ("invalid_request", crl(fleet, bad.cert, extensions=[(unknown, True)])),
        ("invalid_request", crl(fleet, bad.cert, entry=[(unknown, True)])),
        ("invalid_request", crl(fleet, bad.cert, made_at=now() + 2 * DAY)),
        ("certificate_weak_signature", crl(fleet, bad.cert, digest=hashes.SHA1())),
        ("crl_signature", crl(Fleet(), bad.cert)),  # of the same name
        ("invalid_request", pem(crl(fleet, bad.cert), crl(fleet, number=2))),
        ("invalid_request", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
        ("invalid_request", b"hello"),
    ]
    damaged = bytearray(crl(fleet, bad.cert).public_bytes(serialization.Encoding.DER))
    damaged[-5] ^= 1
    cases.append(("crl_signature", pem(x509.load_der_x509_crl(bytes(damaged)))))
    for code, content in cases:
        refused(code, bring, server, account, fleet.root, content)
    assert imported(server, account) == [] and ask(server, bad) is None
    bring(server, account, fleet.root, crl(fleet, bad.cert, extensions=[(unknown, False)]))
    assert ask(server, bad) == "certificate_listed"


def test_a_ca_without_the_right_to_sign_lists_signs_none(server, made):
    usage = x509.KeyUsage(digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=False,
                          encipher_only=False, decipher_only=False)
    account, fleet = made(Fleet("No CRLs", extensions=[CA, (usage, True)]))
    said = refused("crl_signature", bring, server, account, fleet.root, crl(fleet))
    assert "cRLSign" in said.text


def test_a_root_that_is_not_proved_or_musters_own_has_none(server, made):
    account, fleet = made(prove=False)
    refused("wrong_state", bring, server, account, fleet.root, crl(fleet))
    server.account("rootcrl-own", "test", "shared")
    (own,) = server.muster("root", "list", "--account", "rootcrl-own")
    refused("wrong_state", bring, server, "rootcrl-own", own, crl(fleet))


def test_who_may(server, made):
    account, fleet = made()
    path = server.dir.parent / "who.pem"
    path.write_bytes(pem(crl(fleet)))
    body = {"crl": path.read_text()}
    url = f"/api/v1/accounts/{account}/roots/{fleet.root['id']}/crl"
    for role, code in (("auditor", "role_insufficient"), ("factory", "role_insufficient")):
        assert server.api("POST", url, body, token=server.token(f"crl {role}", role, account)["token"]).code == code
    assert server.api("POST", url, body, token=server.token("crl operator", "operator", account)["token"]).status == 200
    assert server.api("POST", url, {"crl": body["crl"], "more": 1}).code == "invalid_json"


# --- what becomes of it -------------------------------------------------------------------------------------------------------------------------


def test_one_that_is_overdue_keeps_its_entries_and_is_said(server, made):
    account, fleet = made()
    bad = fleet.device("overdue")
    at = now() - datetime.timedelta(hours=1)
    assert bring(server, account, fleet.root, crl(fleet, bad.cert, made_at=at, next_update=datetime.timedelta(minutes=30)))["state"] == "overdue"
    assert ask(server, bad) == "certificate_listed"
    (item,) = [a for a in server.muster("status")["attention"] if a["what"] == "root_crl_overdue" and a["account"] == account]
    assert item["level"] == "warning" and item["object"] == fleet.root["id"]
    due = int((at + datetime.timedelta(minutes=30)).replace(tzinfo=datetime.timezone.utc).timestamp())
    text = server.api("GET", "/metrics").body.decode()
    (line,) = [x for x in text.splitlines() if x.startswith(f'muster_root_crl_next_update_seconds{{account="{account}"}}')]
    assert float(line.split()[-1]) == due
    bring(server, account, fleet.root, crl(fleet, bad.cert, number=2))
    assert not [a for a in server.muster("status")["attention"] if a["what"] == "root_crl_overdue" and a["account"] == account]


def test_a_long_list_comes_whole_and_goes_whole(server, made):
    account, fleet = made()
    bad = fleet.device("long")
    others = [x509.random_serial_number() for _ in range(9000)]
    shown = bring(server, account, fleet.root, crl(fleet, *others[:4500], bad.cert, *others[4500:], bad.cert))
    assert shown["entries"] == 9001 and ask(server, bad) == "certificate_listed"
    bring(server, account, fleet.root, crl(fleet, number=2))
    assert ask(server, bad) is None

    def left():
        db = sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True)
        try:
            return db.execute("SELECT COUNT(*) FROM root_crl_entry JOIN root_crl ON root_crl.id = list JOIN account ON account.id = root_crl.account WHERE account.name = ?", (account,)).fetchone()[0]
        finally:
            db.close()

    soon(0, left, 10)
    assert server.muster("audit", "verify", "--account", account)["ok"] is True


def test_lists_go_with_their_account(server, made):
    account, fleet = made()
    bring(server, account, fleet.root, crl(fleet, *range(1, 3000)))
    server.muster("account", "delete", account, "--yes")

    def left():
        db = sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True)
        try:
            return db.execute("SELECT COUNT(*) FROM root_crl JOIN account ON account.id = root_crl.account WHERE account.name = ?", (account,)).fetchone()[0]
        finally:
            db.close()

    soon(0, left, 10)


def test_an_entry_that_somebody_took_off_is_found(fresh):
    s = fresh()
    s.account("acme", "test", "device")
    fleet = s.root("acme")
    bad = fleet.device("taken-off")
    bring(s, "acme", fleet.root, crl(fleet, bad.cert, 4711))
    assert s.muster("audit", "verify", "--account", "acme")["ok"] is True
    s.stop()
    db = sqlite3.connect(s.dir / "registry.db")
    with db:
        db.execute("DELETE FROM root_crl_entry WHERE length(serial) > 3")
    db.close()
    s.start()
    assert "revocation lists of fleet CAs" in refused("storage_corrupt", s.muster, "audit", "verify", "--account", "acme").text


def test_another_ca_in_the_place_of_the_list_s_is_found(fresh):
    """By its signature alone a certificate counts as listed."""
    s = fresh()
    s.account("acme", "test", "device")
    fleet = s.root("acme")
    bring(s, "acme", fleet.root, crl(fleet, 4711))
    s.stop()
    db = sqlite3.connect(s.dir / "registry.db")
    with db:
        db.execute("UPDATE root_crl SET signer = ?", (Fleet().cert.public_bytes(serialization.Encoding.DER),))
    db.close()
    s.start()
    assert "is not the one that signed it" in refused("storage_corrupt", s.muster, "audit", "verify", "--account", "acme").text

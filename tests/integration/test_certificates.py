"""Every certificate that was ever issued to a device: found, shown, exported, and one of them revoked without its device: what was revoked never
comes in again, by any way, and the device goes on with whatever else it has."""
import csv
import datetime
import http.client
import itertools
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import est
from client import key_pem, new_key, spki_hash
from conftest import LONG, MUSTER, Refused, Server, refused, soon, stays
from enrolment import GAP, Account, ask, enrolled, key_shown, used
from old_schema import take_back
from proxies import Proxy, me, nginx_fields
from receiver import Receiver
from test_lists import filled
from test_webhooks import LOCAL, hook

REVOKED = "certificate_revoked"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """With a socket for proxies, and a receiver of its own allowed."""
    top = tmp_path_factory.mktemp("certificates")
    s = Server(top / "data", config=[f"auth_socket = {top / 'auth.sock'}", f"auth_users = {me()}", *LOCAL]).start()
    s.proxy = Proxy(top / "auth.sock")
    yield s
    assert s.stop() == 0
    assert "Sanitizer" not in s.log_text()


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def serial(identity):
    """As Muster writes it."""
    text = f"{identity.cert.serial_number:x}"
    return "0" * (len(text) % 2) + text


def fingerprint(identity):
    return identity.cert.fingerprint(hashes.SHA256()).hex()


def listed(server, a, *options):
    return server.muster("cert", "list", "--account", a.name, *options)


def ids(server, a, *options):
    return [c["id"] for c in listed(server, a, *options)]


def cert(server, verb, identity, *options):
    return server.muster("cert", verb, identity if isinstance(identity, str) else serial(identity), *options)


def revoke(server, identity, *options):
    return cert(server, "revoke", identity, "--yes", *options)


def renewed(server, device, own=None, device_id=None):
    """What simplereenroll gives: a Device, or (status, code)."""
    own = own or new_key()
    answer = est.post(server.gateway(device), "simplereenroll", est.csr(own, device_id or device.common_name))
    return est.Device(own, est.certificates(answer)[0]) if answer.status == 200 else (answer.status, answer.code)


def state(server, identity):
    return cert(server, "show", identity)["state"]


def whole(server, a):
    said = server.muster("audit", "verify", "--account", a.name)
    assert said["ok"] is True, said
    return said


# --- found and shown ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def life(server):
    """A device with a certificate in each state."""
    a = Account(server)
    key = a.key("--name", "brings")
    void = enrolled(server, key, "lives")
    time.sleep(GAP)
    first = used(server, key, "lives")
    second = renewed(server, first)
    assert ask(server, second) is None
    waits = renewed(server, second)
    out = used(server, key, "out")
    a.device("revoke", "out")
    return a, key, {"void": void, "superseded": first, "current": second, "issued": waits, "revoked": out}


def test_every_state_is_shown_and_found(server, life):
    a, key, has = life
    everything = listed(server, a)
    assert {c["id"]: c["state"] for c in everything} == {serial(i): s for s, i in has.items()}
    for word, identity in has.items():
        assert ids(server, a, "--state", word) == [serial(identity)]
        (one,) = listed(server, a, "--serial", serial(identity))
        shown = cert(server, "show", identity)
        assert one == {k: v for k, v in shown.items() if k in one} and one in everything
        c = identity.cert
        assert shown["serial"] == shown["id"] == serial(identity) and shown["fingerprint"] == fingerprint(identity) and shown["spki"] == identity.spki
        assert x509.load_pem_x509_certificate(shown["certificate"].encode()) == c
        assert [shown[k] for k in ("not_before", "not_after")] == [f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in (c.not_valid_before, c.not_valid_after)]
        assert (shown["account"], shown["key"], shown["key_name"], shown["expired"]) == (a.name, key.shown["id"], "brings", False)
        assert shown["device_id"] == ("out" if word == "revoked" else "lives") and shown["device"] == a.device("show", shown["device_id"])["id"]
        assert shown["subject"].startswith(f"CN={shown['device_id']},") and shown["issuer"].startswith("CN=")
        assert (shown["first_used"] is None) == (word in ("void", "issued"))
        assert (shown["revoked"], shown["reason"]) == (None, None) if word != "revoked" else (shown["revoked"] >= shown["created"] and shown["reason"] == "unspecified")
    assert sorted(ids(server, a, "--state", "active")) == sorted(serial(has[w]) for w in ("issued", "current"))
    assert ids(server, a, "--state", "expired") == []
    assert ids(server, a, "--device", "lives") == [serial(has[w]) for w in ("void", "superseded", "current", "issued")]
    assert ids(server, a, "--device", "lives", "--state", "void", "--key", "brings") == [serial(has["void"])]


def test_who_signed_it_is_told(server, life, tmp_path):
    """By the key, not by the name: the CA in the registry whose fingerprint is told verifies it."""
    a, _, has = life
    told = {cert(server, "show", i)["issuer_fingerprint"] for i in has.values()}
    with sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True) as db:
        cas = [x509.load_der_x509_certificate(der) for (der,) in db.execute("SELECT der FROM ca JOIN account ON account.id = ca.account WHERE account.name = ? AND ca.kind = 1", (a.name,))]
    (ca,) = [c for c in cas if c.fingerprint(hashes.SHA256()).hex() in told]
    assert len(told) == 1
    for i in has.values():
        ca.public_key().verify(i.cert.signature, i.cert.tbs_certificate_bytes, ec.ECDSA(i.cert.signature_hash_algorithm))


@pytest.mark.parametrize("write", [lambda i: serial(i).upper(), lambda i: ":".join(re.findall("..", serial(i))), lambda i: f"{i.cert.serial_number:x}", fingerprint,
                                   lambda i: ":".join(re.findall("..", fingerprint(i))).upper()])
def test_a_certificate_is_named_as_other_tools_print_it(server, life, write):
    a, _, has = life
    for identity in has.values():
        assert cert(server, "show", write(identity))["id"] == serial(identity)
        assert server.muster("cert", "show", write(identity), "--account", a.name)["id"] == serial(identity)


def test_names_and_filters_that_are_none(server, life):
    a, _, has = life
    path, name = f"/api/v1/accounts/{a.name}/certificates", serial(has["current"])
    for bad in ("x", "0x12", "12%2034", ":", "12g4", "ab" * 21, "ab" * 31, "ab" * 33, "ab" * 200):
        for where in (a.name, "-"):
            answer = server.api("GET", f"/api/v1/accounts/{where}/certificates/{bad}")
            assert (answer.status, answer.code) == (400, "invalid_request"), bad
    for unknown in ("ab" * 16, "ab" * 32, name[:-2] + ("00" if name[-2:] != "00" else "11"), name[2:], "1"):
        for where in (a.name, "-"):
            answer = server.api("GET", f"/api/v1/accounts/{where}/certificates/{unknown}")
            assert (answer.status, answer.code) == (404, "not_found"), unknown
    for query in ("state=odd", "state=unspecified", "serial=x", f"serial={fingerprint(has['current'])}", f"fingerprint={name}", "fingerprint=" + "g" * 64, "expires_after=soon", "spki=xyz", "spki=", f"spki={'0' * 63}", "expires_before=",
                  "cursor=e:1", "cursor=x", "cursor=12", "cursor=e::", "device=lives&cursor=e:1:2", "order=created", "limit=0"):
        answer = server.api("GET", f"{path}?{query}")
        assert (answer.status, answer.code) == (400, "invalid_request"), query
    for query in ("device=nobody", "key=nothing", "key=nothing&device=lives"):
        answer = server.api("GET", f"{path}?{query}")
        assert (answer.status, answer.code) == (404, "not_found"), query


def test_another_account_s_certificates_are_not_found(server, account, life):
    a, key, has = life
    other = account()
    mine = used(server, other.key("--name", "its-own"), "lives")
    for identity in has.values():
        for name in (serial(identity), fingerprint(identity)):
            refused("not_found", server.muster, "cert", "show", name, "--account", other.name)
            refused("not_found", server.muster, "cert", "revoke", name, "--account", other.name, "--yes")
        assert listed(server, other, "--serial", serial(identity)) == listed(server, other, "--fingerprint", fingerprint(identity)) == []
    refused("not_found", listed, server, other, "--key", key.shown["id"])
    refused("not_found", listed, server, other, "--device", cert(server, "show", has["current"])["device"])
    assert ids(server, other) == ids(server, other, "--device", "lives") == [serial(mine)]
    assert ask(server, has["current"]) is None


@pytest.fixture(scope="module")
def neighbour(server, life):
    """Another account, with a device and a provisioning key of the same names."""
    other = Account(server)
    return other, used(server, other.key("--name", "brings"), "lives"), used(server, other.key("--name", "else"), "elsewhere")


def over_all(server, query="", limit=1000, token=None):
    """Every page of the list over all accounts; none is longer than was asked for."""
    found, cursor = [], ""
    while True:
        answer = server.api("GET", f"/api/v1/certificates?limit={limit}{query}{cursor}", token=token)
        assert answer.status == 200 and len(answer.json["items"]) <= limit, answer
        found += answer.json["items"]
        if not answer.json["next"]:
            return found
        before, cursor = cursor, f"&cursor={answer.json['next']}"
        assert cursor != before


def test_a_leaked_certificate_is_found_wherever_it_is(server, life, neighbour):
    a, _, has = life
    other, mine, _ = neighbour
    for identity, of in ((has["current"], a), (has["revoked"], a), (mine, other)):
        for option in (["--serial", serial(identity)], ["--fingerprint", fingerprint(identity)]):
            (one,) = server.muster("cert", "list", *option)
            assert (one["id"], one["account"]) == (serial(identity), of.name) and one in listed(server, of)
    assert server.muster("cert", "list", "--serial", "ab" * 16) == []
    said = subprocess.run([MUSTER, "--data", server.dir, "cert", "list", "--serial", serial(mine)], capture_output=True, text=True, check=True).stdout
    assert "ACCOUNT" in said.upper().splitlines()[0] and other.name in said.splitlines()[1]


def test_all_of_one_public_key_are_found(server, account, tmp_path):
    """The day that weak keys are published: by the digest, or by whatever file has the key; renewals with the key, and what a device had that is gone."""
    a, other, own, later = account(method="both"), account(), new_key(), new_key()
    key = a.key()

    def found(name, *options, of=("--account", a.name)):
        return [c["id"] for c in server.muster("cert", "list", "--spki", name, *of, *options)]

    def whose(name, *options):
        return [(d["device_id"], d["state"]) for d in server.muster("device", "list", "--spki", name, "--account", a.name, *options)]

    device = est.enrolled(server.gateway(key), "weak", own)
    assert ask(server, device) is None
    same = renewed(server, device, own)
    assert ask(server, same) is None
    newer = renewed(server, same, later)
    assert ask(server, newer) is None
    used(server, key, "not-asked-for")
    of_own = [serial(device), serial(same)]
    for name in (device.spki, device.spki.upper(), ":".join(device.spki[i:i + 2] for i in range(0, 64, 2))):
        assert found(name) == found(name, of=()) == of_own and whose(name) == [("weak", "active")], name
    files = {"cert.pem": device.cert.public_bytes(Encoding.PEM), "cert.der": device.cert.public_bytes(Encoding.DER), "request.der": est.csr(own, "anything"),
             "key.pem": own.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "key.der": own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)}
    files["broken-request.der"] = files["request.der"][:-1] + bytes([files["request.der"][-1] ^ 1])
    files["chain.pem"] = files["cert.pem"] + newer.cert.public_bytes(Encoding.PEM)
    files["with-its-key.pem"] = key_pem(own) + files["cert.pem"]
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
        assert found(tmp_path / file) == of_own and whose(tmp_path / file) == [("weak", "active")], file
    (tmp_path / "nothing").write_bytes(b"nothing")
    for name in (tmp_path / "nothing", tmp_path / "missing", device.spki[:-1], device.spki + "ab"):
        for noun in ("cert", "device"):
            with pytest.raises(Refused):
                server.muster(noun, "list", "--spki", name, "--account", a.name)
    assert found(newer.spki) == [serial(newer)] and whose(newer.spki) == [("weak", "active")]
    assert found(device.spki, "--state", "current") == [] and found(device.spki, "--device", "not-asked-for") == [] and whose(device.spki, "--state", "revoked") == []
    assert listed(server, other, "--spki", device.spki) == server.muster("device", "list", "--spki", device.spki, "--account", other.name) == []
    first = server.api("GET", f"/api/v1/certificates?spki={device.spki}&limit=1").json
    assert [c["id"] for c in first["items"] + server.api("GET", f"/api/v1/certificates?spki={device.spki}&limit=1&cursor={first['next']}").json["items"]] == of_own
    server.muster("cert", "export", "--spki", device.spki, "--account", a.name, "-o", tmp_path / "certs.csv")
    server.muster("device", "export", "--spki", device.spki, "--account", a.name, "-o", tmp_path / "devices.csv")
    assert [r["id"] for r in csv.DictReader((tmp_path / "certs.csv").open())] == of_own and [r["device_id"] for r in csv.DictReader((tmp_path / "devices.csv").open())] == ["weak"]
    a.device("revoke", "weak", "--yes")
    assert whose(device.spki) == [("weak", "revoked")] and found(device.spki) == of_own and found(newer.spki, "--state", "revoked") == [serial(newer)]
    a.device("release", "weak")
    assert whose(device.spki) == [] and found(device.spki) == of_own and found(newer.spki) == [serial(newer)], "of a device that is gone"
    # One under a fleet root, whose certificates are the customer's, and one that asks for a certificate for another key.
    fleet, asked = server.root(a.name, None, "--key-rule", "ask"), new_key()
    theirs = fleet.device("theirs")
    a.set("--csr-queue", "yes")
    assert ask(server, theirs) is None and est.post(server.gateway(theirs), "simplereenroll", est.csr(asked, "theirs")).status == 202
    assert whose(spki_hash(theirs.key)) == whose(spki_hash(asked)) == [("theirs", "active")] and found(spki_hash(theirs.key)) == []
    assert whole(server, a)


def test_a_list_over_all_accounts_is_theirs_one_behind_the_other(server, life, neighbour, tmp_path):
    a, key, has = life
    other, mine, elsewhere = neighbour
    accounts = [account["id"] for account in server.muster("account", "list")]
    assert accounts.index(a.name) < accounts.index(other.name)
    everything = [c for name in accounts for c in server.muster("cert", "list", "--account", name)]
    for limit in (1000, 3, 1):
        assert over_all(server, limit=limit) == everything
    assert server.muster("cert", "list") == everything
    by_id = sorted((c for c in everything if c["device_id"] == "lives"), key=lambda c: (accounts.index(c["account"]), c["created"]))
    lives = over_all(server, "&device=lives", 2)
    assert sorted(c["id"] for c in lives) == sorted(c["id"] for c in by_id) and [c["account"] for c in lives] == [c["account"] for c in by_id] and {a.name, other.name} <= {c["account"] for c in lives}
    assert sorted(c["id"] for c in over_all(server, "&key=brings", 1)) == sorted(c["id"] for c in everything if c["key_name"] == "brings")
    assert [c["id"] for c in over_all(server, "&device=elsewhere&key=else")] == [serial(elsewhere)] and over_all(server, "&device=nobody") == over_all(server, f"&key={key.shown['id']}&device=elsewhere") == []
    assert [c["id"] for c in over_all(server, "&state=revoked&device=out", 1)] == [serial(has["revoked"])]
    file = tmp_path / "all.csv"
    assert server.muster("cert", "export", "-o", file)["exported"] == len(everything)
    assert [(row["account"], row["id"]) for row in csv.DictReader(file.open(newline=""))] == [(c["account"], c["id"]) for c in everything]
    for cursor in ("1", "/", "x/", "1/x", "1/e:1", "-1/", "e:1:2", "1/e:1:2/3"):
        answer = server.api("GET", f"/api/v1/certificates?cursor={cursor}")
        assert (answer.status, answer.code) == (400, "invalid_request"), cursor


def test_what_a_deleted_account_had_is_found(server, tmp_path):
    """For good, as revoked: with the account all of it was over.  Nothing is done with it any more."""
    a = Account(server)
    key = a.key()
    device, waits = enrolled(server, key, "used"), enrolled(server, key, "waits")
    assert ask(server, device) is None
    server.muster("account", "delete", a.name, "--yes")
    has = {serial(device), serial(waits)}
    for options in (["--account", a.name], ["--account", a.name, "--state", "revoked"], ["--account", a.name, "--expires-after", "1d"]):
        assert {(c["id"], c["state"], c["reason"], c["revoked"]) for c in server.muster("cert", "list", *options)} == {(s, "revoked", "unspecified", None) for s in has}
    for state in ("active", "current", "issued", "expired"):
        assert server.muster("cert", "list", "--account", a.name, "--state", state) == []
    for more in (["--serial", serial(device)], ["--fingerprint", fingerprint(device)], ["--device", "used"]):
        assert serial(device) in {c["id"] for c in server.muster("cert", "list", *more)}
    assert has <= {c["id"] for c in server.muster("cert", "list", "--state", "revoked")}
    assert server.muster("cert", "export", "-o", tmp_path / "of.csv", "--account", a.name)["exported"] == 2
    for where in (["--account", a.name], []):
        shown = server.muster("cert", "show", serial(device), *where)
        assert (shown["account"], shown["device_id"], shown["state"]) == (a.name, "used", "revoked")
        refused("account_deleted", server.muster, "cert", "revoke", serial(device), *where, "--yes")
    refused("not_found", server.muster, "cert", "show", serial(device), "--account", "nobody-s")


def test_an_operator_of_one_account_sees_its_certificates_and_no_others(server, life, neighbour):
    a, _, has = life
    other, mine, _ = neighbour
    for role in ("owner", "operator", "auditor"):
        token = server.muster("token", "create", f"{role}-of-{other.name}", "--role", role, "--account", other.name)["token"]
        assert over_all(server, token=token) == listed(server, other)
        assert over_all(server, f"&serial={serial(mine)}", token=token) == [c for c in listed(server, other) if c["id"] == serial(mine)]
        for query in (f"&serial={serial(has['current'])}", f"&fingerprint={fingerprint(has['current'])}", "&device=out", "&state=revoked"):
            answer = server.api("GET", f"/api/v1/certificates?limit=10{query}", token=token)
            assert answer.json == {"items": [], "next": None}, (query, answer)
        for cursor in ("1/", "2/e:0:0", "e:0:0"):  # a cursor of others' leads nowhere else
            answer = server.api("GET", f"/api/v1/certificates?cursor={cursor}", token=token)
            assert answer.status == 400 or all(c["account"] == other.name for c in answer.json["items"]), answer
    factory = server.muster("token", "create", f"factory-of-{other.name}", "--role", "factory", "--account", other.name)["token"]
    answer = server.api("GET", "/api/v1/certificates", token=factory)
    assert (answer.status, answer.code) == (403, "role_insufficient")


def test_what_is_shown_for_people_can_be_read_by_openssl(server, life):
    shown = subprocess.run([MUSTER, "--data", server.dir, "cert", "show", serial(life[2]["current"])], capture_output=True, check=True).stdout
    said = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, check=True).stdout.decode()
    assert said.strip().split("=")[1].lower() == serial(life[2]["current"])


# --- revoked: what was the device's ---------------------------------------------------------------------------------------------------------------


def test_the_live_one_is_out_at_once_and_the_device_is_not_revoked(server, account):
    a = account()
    key = a.key()
    device, neighbour = used(server, key, "loses-it"), used(server, key, "neighbour")
    with server.gateway(device).connect() as c:  # an open connection, judged and good
        g = server.gateway(device)
        assert g.on(c, "GET", "/director/2.root.json").status == 404
        said = revoke(server, device, "--reason", "superseded")
        assert g.on(c, "GET", "/director/2.root.json").code == REVOKED
    assert (said["id"], said["state"], said["reason"], said["also"], said["usable"]) == (serial(device), "revoked", "superseded", [], 0)
    assert said["revoked"] and "--for-reprovision" in said["warnings"][0]
    assert ask(server, device) == REVOKED
    stays(REVOKED, lambda: ask(server, device))
    shown = a.device("show", "loses-it")
    assert (shown["state"], shown["certificate"], shown["spki"], shown["certificate_not_after"]) == ("active", None, None, None)
    assert [(c["state"], c["reason"]) for c in shown["certificates"]] == [("revoked", "superseded")]
    assert ask(server, neighbour) is None
    assert a.audit("loses-it")[-1] == "device.certificate_revoke"
    assert whole(server, a)["certificates"] == 2


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_no_resumed_session_brings_it_back(server, account, tls):
    a = account()
    device = used(server, a.key(), f"resumes-{tls}")
    g = server.gateway(device, tls=tls)
    session = g.session()
    assert g.resume(session).status == 404
    session = g.session()
    revoke(server, device)
    answer = g.resume(session)
    assert (answer.status, answer.code) == (403, REVOKED)


def test_no_kept_verdict_brings_it_back(server, account):
    a = account()
    device = used(server, a.key(), "is-known")
    stays(None, lambda: ask(server, device), 0.3)
    for _ in range(3):
        assert ask(server, device) is None
    revoke(server, device)
    for _ in range(3):
        assert ask(server, device) == REVOKED


def test_a_proxy_is_told_at_once(server, account):
    a = account()
    device = used(server, a.key(), "proxied")
    for _ in range(2):
        assert server.proxy.ask(nginx_fields(device)).status == 200
    revoke(server, device)
    answer = server.proxy.ask(nginx_fields(device))
    assert (answer.status, answer.code) == (403, REVOKED)


def test_it_neither_renews_nor_enrols(server, account):
    """Neither itself, nor, without an operator, the device once more with the provisioning key."""
    a = account()
    key = a.key()
    device = used(server, key, "wants-more")
    revoke(server, device)
    assert renewed(server, device) == (403, REVOKED)
    assert est.post(server.gateway(device), "simpleenroll", est.csr(new_key(), "wants-more")).code == REVOKED
    assert server.gateway(device).enrol("wants-more").code == REVOKED
    assert (server.gateway(key).enrol("wants-more").status, server.gateway(key).enrol("wants-more").code) == (409, "device_already_registered")
    assert est.post(server.gateway(key), "simpleenroll", est.csr(device.key, "wants-more")).code == "device_already_registered"
    a.device("release", "wants-more", "--for-reprovision")
    again = used(server, key, "wants-more")
    assert ask(server, again) is None and ask(server, device) == REVOKED and renewed(server, device) == (403, REVOKED)
    assert [c["state"] for c in a.device("show", "wants-more")["certificates"]] == ["current", "revoked"]
    assert whole(server, a)


def test_a_renewal_under_way_does_not_get_through(server, account):
    """What was admitted before is judged again where its certificate is stored: with the vault stopped in between.  Its connection is cut, behind the answer or
    before."""
    a = account()
    device = used(server, a.key(), "in-between")
    vault, said = server.child("vault"), []

    def renew():
        try:
            said.append(renewed(server, device))
        except http.client.RemoteDisconnected:
            said.append((403, REVOKED))

    os.kill(vault, signal.SIGSTOP)
    try:
        t = threading.Thread(target=renew)
        t.start()
        time.sleep(0.5)
        revoke(server, device)
    finally:
        os.kill(vault, signal.SIGCONT)
    t.join(20)
    assert said == [(403, REVOKED)]
    assert [c["state"] for c in a.device("show", "in-between")["certificates"]] == ["revoked"]


def test_under_replace_the_device_gets_another_by_itself(server, account):
    a = account("--reprovision", "replace")
    key = a.key()
    device = used(server, key, "by-itself")
    assert "reprovision (replace)" in revoke(server, device)["warnings"][0]
    other = used(server, key, "by-itself")
    assert ask(server, device) == REVOKED and ask(server, other) is None
    assert whole(server, a)


# --- revoked: another one of its ------------------------------------------------------------------------------------------------------------------


def test_one_that_waits_is_never_used_and_the_device_goes_on(server, account):
    a = account()
    device = used(server, a.key(), "goes-on")
    waits = renewed(server, device)
    said = revoke(server, waits)
    assert said["usable"] == 1 and "1 other certificate with which" in said["warnings"][0]
    assert ask(server, waits) == REVOKED and ask(server, device) is None
    assert cert(server, "show", waits)["first_used"] is None
    again = renewed(server, device)
    assert ask(server, again) is None and ask(server, device) == "certificate_superseded" and ask(server, waits) == REVOKED
    assert whole(server, a)


def test_the_one_that_waits_takes_over_where_the_live_one_is_revoked(server, account):
    """The other certificate is not blocked."""
    a = account()
    device = used(server, a.key(), "takes-over")
    waits = renewed(server, device)
    assert revoke(server, device)["usable"] == 1
    assert ask(server, device) == REVOKED
    assert ask(server, waits) is None
    assert [c["state"] for c in a.device("show", "takes-over")["certificates"]] == ["current", "revoked"]
    assert whole(server, a)


def test_one_that_was_replaced_is_revoked_besides(server, account):
    """It was out already; to whoever checks by CRL it is not until now."""
    a = account()
    key = a.key()
    void = enrolled(server, key, "replaced")
    time.sleep(GAP)
    first = used(server, key, "replaced")
    second = renewed(server, first)
    assert ask(server, second) is None
    assert (ask(server, void), ask(server, first)) == ("certificate_void", "certificate_superseded")
    for identity in (void, first):
        assert revoke(server, identity, "--reason", "privilege-withdrawn")["state"] == "revoked"
        assert ask(server, identity) == REVOKED
        refused("wrong_state", revoke, server, identity)
    assert ask(server, second) is None
    assert sorted(ids(server, a, "--state", "revoked")) == sorted(map(serial, (void, first)))
    assert whole(server, a)
    a.device("revoke", "replaced")
    assert [c["reason"] for c in a.device("show", "replaced")["certificates"]] == ["unspecified", "privilege-withdrawn", "privilege-withdrawn"]
    assert whole(server, a)


def test_an_announced_device_does_not_come_in_by_a_revoked_certificate(server, account):
    """Nor does its coming count as that of the device."""
    a = account("--expected-only", "yes")
    device = enrolled(server, a.key(), "awaited")
    assert ask(server, device) == "device_unexpected"
    revoke(server, device)
    server.api("POST", f"/api/v1/accounts/{a.name}/expected", {"items": [{"device_id": "awaited"}]})
    assert ask(server, device) == REVOKED
    assert a.device("show", "awaited")["state"] == "pending"
    assert whole(server, a)


def test_a_device_that_is_cut_off_is_told_so(server, account):
    """By its own state, whatever became of its certificate before."""
    a = account()
    device, other = used(server, a.key(), "cut-off"), used(server, a.key(), "quarantined")
    revoke(server, device), revoke(server, other)
    a.device("revoke", "cut-off"), a.device("quarantine", "quarantined")
    assert (ask(server, device), ask(server, other)) == ("device_revoked", "device_quarantined")
    a.device("release", "quarantined")
    assert ask(server, other) == REVOKED
    assert whole(server, a)


# --- a key that is compromised ----------------------------------------------------------------------------------------------------------------------


def test_with_key_compromise_every_certificate_of_the_key_is_out_for_good(server, account):
    a = account()
    key, own = a.key(), new_key()
    first = est.enrolled(server.gateway(key), "leaks", own)
    assert ask(server, first) is None
    same = renewed(server, first, own)
    assert ask(server, same) is None
    waits, fresh = renewed(server, same, own), renewed(server, same)
    reach = refused("confirmation_required", cert, server, "revoke", same, "--reason", "key-compromise").text
    assert "the certificate in use of the device leaks, and with it 2 others of the same key" in reach and "let in no more" in reach
    assert "let in no more" in refused("confirmation_required", cert, server, "revoke", waits, "--reason", "key-compromise").text
    said = revoke(server, same, "--reason", "key-compromise")
    assert sorted(said["also"]) == sorted(map(serial, (first, waits))) and said["usable"] == 1
    for identity in (first, same, waits):
        assert ask(server, identity) == REVOKED and cert(server, "show", identity)["reason"] == "key-compromise"
    a.device("release", "leaks", "--for-reprovision")
    answer = est.post(server.gateway(key), "simpleenroll", est.csr(own, "leaks"))
    assert (answer.status, answer.code) == (403, "device_key_barred")
    assert ask(server, fresh) is None  # of another key
    assert renewed(server, fresh, own) == (403, "device_key_barred")
    assert est.post(server.gateway(key), "simpleenroll", est.csr(own, "another-id")).code == "device_key_elsewhere"
    assert whole(server, a)


def test_for_another_reason_the_key_may_have_another_certificate(server, account):
    a = account()
    key, own = a.key(), new_key()
    first = est.enrolled(server.gateway(key), "keeps-its-key", own)
    assert ask(server, first) is None
    other = renewed(server, first, own)
    assert revoke(server, first, "--reason", "cessation-of-operation")["also"] == []
    assert ask(server, first) == REVOKED and ask(server, other) is None
    revoke(server, other)
    a.device("release", "keeps-its-key", "--for-reprovision")
    again = est.enrolled(server.gateway(key), "keeps-its-key", own)
    assert ask(server, again) is None and {ask(server, i) for i in (first, other)} == {REVOKED}
    assert whole(server, a)


# --- who is asked, and told -----------------------------------------------------------------------------------------------------------------------


def test_nothing_happens_unconfirmed(server, account):
    a = account()
    device = used(server, a.key(), "unconfirmed")
    reach = refused("confirmation_required", cert, server, "revoke", device).text
    assert "revoke the certificate in use of the device unconfirmed. The device is let in no more" in reach
    path = f"/api/v1/accounts/{a.name}/certificates/{serial(device)}/revoke"
    for body in ({}, {"confirm": 0}, {"confirm": 2}, {"confirm": -1}, {"reason": "key-compromise"}):
        answer = server.api("POST", path, body)
        assert (answer.status, answer.code, answer.json["count"]) == (409, "confirmation_required", 1), body
    for body in ({"confirm": 1, "reason": "certificate-hold"}, {"confirm": 1, "reason": "keyCompromise"}, {"confirm": 1, "reason": ""}, {"confirm": 1, "reason": "remove-from-crl"}, {"confirm": "1"},
                 {"confirm": 1, "reason": 1}, {"confirm": 1, "why": "x"}, []):
        answer = server.api("POST", path, body)
        assert answer.status == 400 and answer.code in ("invalid_request", "invalid_json"), body
    refused("invalid_request", cert, server, "revoke", device, "--reason", "on-hold", "--yes")
    assert ask(server, device) is None and state(server, device) == "current" and a.audit("unconfirmed")[-1] == "device.first_use"
    assert server.api("POST", path, {"confirm": 1}).json["state"] == "revoked"
    refused("wrong_state", revoke, server, device)


def test_the_log_and_a_webhook_say_it(server, account):
    a, r = account(), Receiver()
    try:
        hook(server, r.url(), a.name, "certificate.revoked", "device.revoked")
        device = used(server, a.key(), "said")
        revoke(server, device, "--reason", "affiliation-changed")
        said = r.wait(1)[0]
        assert (said["type"], said["device"]["device_id"], said["device"]["state"], said["serial"], said["fingerprint"], said["before"], said["reason"]) == \
            ("certificate.revoked", "said", "active", serial(device), fingerprint(device), "current", "affiliation-changed")
        a.device("revoke", "said")
        assert [e["type"] for e in r.wait(2)] == ["certificate.revoked", "device.revoked"]  # and none of its certificates besides
    finally:
        r.close()
    entry = [e for e in server.muster("audit", "list", "--account", a.name) if e["action"] == "device.certificate_revoke"]
    assert [(e["actor"], e["object"], e["detail"]["serial"], e["detail"]["fingerprint"], e["detail"]["state"], e["detail"]["reason"]) for e in entry] == \
        [("token:admin", "said", serial(device), fingerprint(device), "current", "affiliation-changed")]


# --- what it means for the device's history --------------------------------------------------------------------------------------------------------


def test_what_a_released_device_had_is_found_by_its_id(server, account):
    a = account()
    key = a.key()
    void = enrolled(server, key, "comes-again")
    time.sleep(GAP)
    old = used(server, key, "comes-again")
    revoke(server, old, "--reason", "superseded")
    a.device("delete", "comes-again")
    uuid = a.device("show", "comes-again")["id"]
    a.device("release", "comes-again")
    for identity, reason in ((void, "unspecified"), (old, "superseded")):
        shown = cert(server, "show", identity)
        assert (shown["device"], shown["device_id"], shown["state"], shown["reason"]) == (None, "comes-again", "revoked", reason) and shown["revoked"]
        assert ask(server, identity) == REVOKED
        refused("wrong_state", revoke, server, identity)
    assert ids(server, a, "--device", "comes-again") == [serial(void), serial(old)]
    new = used(server, key, "comes-again")
    for limit in (1, 2, 3):  # the old ones first, in one walk
        assert walk(server, a.name, ["device=comes-again"], limit)[0] == [serial(i) for i in (void, old, new)]
    assert ids(server, a, "--device", "comes-again", "--state", "revoked") == [serial(void), serial(old)]
    refused("not_found", listed, server, a, "--device", uuid)
    assert whole(server, a)


def test_a_key_s_devices_are_what_they_were(server, account):
    """A certificate that was revoked beside a live one of another key does not make the device that key's; the last one that it had does."""
    a = account()
    one, leaked = a.key("--name", "one"), a.key("--name", "leaked")
    device = used(server, one, "moved")

    def of(key):
        return [d["device_id"] for d in server.muster("key", "devices", key.shown["id"])], key_shown(server, key)["devices"]

    a.device("release", "moved", "--for-reprovision")
    stolen = enrolled(server, leaked, "moved")
    assert of(one) == of(leaked) == (["moved"], 1)
    revoke(server, stolen)
    assert of(one) == (["moved"], 1) and of(leaked) == ([], 0)
    assert "revoke 0 devices" in refused("confirmation_required", server.muster, "device", "revoke", "--key", leaked.shown["id"]).text
    revoke(server, device)
    assert of(one) == (["moved"], 1)  # whose it was
    a.device("release", "moved", "--for-reprovision")
    used(server, leaked, "moved")
    assert of(one) == ([], 0) and of(leaked) == (["moved"], 1)
    assert ids(server, a, "--key", "one") == [serial(device)] and len(ids(server, a, "--key", "leaked")) == 2
    assert whole(server, a)


# --- lists of many ---------------------------------------------------------------------------------------------------------------------------------

DEVICES = 7_000  # of which four fifths have a certificate: more than twice what one page looks at
STATES = [None, "issued", "current", "void", "superseded", "revoked"]
NOW = 1_790_000_000  # bench_fill's


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A server with certificates in all states and with all ends, and the rows as Python sees them."""
    s = filled(tmp_path_factory.mktemp("certs"), DEVICES)
    with s.database() as db:
        db.execute("UPDATE cert SET state = 1 + id % 5, revoked = CASE WHEN id % 5 = 4 THEN 1 ELSE 0 END")  # revoked: some of them nobody knows when
        db.execute(f"UPDATE cert SET revoked = {NOW}, reason = 4 WHERE id % 17 = 0")
        db.execute(f"UPDATE cert SET not_after = {NOW} + 86400 * (id % 400) WHERE id % 3 <> 0")  # a third ends at one and the same second
        db.execute("UPDATE cert SET not_after = 1700000000 WHERE id % 11 = 0")
        db.row_factory = sqlite3.Row
        s.rows = [dict(r) for r in db.execute("SELECT c.id, lower(hex(c.serial)) AS serial, c.state, c.revoked, c.not_after, k.name AS key, d.device_id AS device FROM cert c "
                                              "LEFT JOIN prov_key k ON k.id = c.prov_key LEFT JOIN device d ON d.id = c.device ORDER BY c.id")]
    s.start()
    yield s
    assert s.stop() == 0


def walk(server, account, query, limit=1000):
    """The ids of a whole list, and how many pages there were."""
    items, cursor, pages = [], None, 0
    while True:
        answer = server.api("GET", f"/api/v1/accounts/{account}/certificates?" + "&".join([f"limit={limit}", *query, *([f"cursor={cursor}"] if cursor else [])]))
        assert answer.status == 200, answer
        items += [c["id"] for c in answer.json["items"]]
        pages += 1
        assert pages < 200
        cursor = answer.json["next"]
        if cursor is None:
            return items, pages


def is_in(r, word, now):
    live = not r["revoked"] and r["state"] <= 2
    return {None: True, "active": live and r["not_after"] > now, "expired": live and r["not_after"] <= now, "revoked": r["revoked"] > 0}.get(word, not r["revoked"] and STATES[r["state"]] == word)


def at(seconds):
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def test_every_combination_of_filters_gives_exactly_what_fits(many):
    now = time.time()
    combinations = list(itertools.product([None, "active", "expired", *STATES[1:]], [None, "key-0", "key-2"], [None, many.rows[70]["device"]], [None, NOW + 86400 * 100],
                                          [None, NOW + 86400 * 200, NOW + 365 * 86400 + 1]))
    for word, key, device, after, before in combinations if LONG else combinations[::5]:
        query = [f"{k}={v}" for k, v in (("state", word), ("key", key), ("device", device), ("expires_after", after and at(after)), ("expires_before", before and at(before))) if v]
        expected = {r["serial"] for r in many.rows if is_in(r, word, now) and (not key or r["key"] == key) and (not device or r["device"] == device) and (not after or r["not_after"] >= after) and
                    (not before or r["not_after"] < before)}
        got, _ = walk(many, "many", query)
        assert len(got) == len(set(got)) and set(got) == expected, query


@pytest.mark.parametrize("query, order", [([], "end"), (["state=revoked"], "row"), (["key=key-0"], "row"), (["state=active"], "end")])
def test_pages_of_any_size_come_in_one_order(many, query, order):
    full, _ = walk(many, "many", query)
    rows = {r["serial"]: r for r in many.rows}
    assert full == sorted(full, key=lambda s: (rows[s]["not_after"] if order == "end" else 0, rows[s]["id"]))
    for limit in (97, len(full) // 2, len(full)):
        assert walk(many, "many", query, min(limit, 1000))[0] == full


def test_a_page_looks_at_a_bounded_number(many):
    items, pages = walk(many, "many", ["state=void", f"expires_after={at(1)}"])
    assert pages >= 3 and len(items) < len(many.rows) / 4


def test_a_length_of_time_counts_from_now(many):
    soon_, _ = walk(many, "many", ["expires_before=1d"])
    assert set(soon_) == {r["serial"] for r in many.rows if r["not_after"] < time.time() + 86400}


def test_export(many, tmp_path):
    def export(path, *options):
        return many.muster("cert", "export", "--account", "many", "-o", path, *options)

    assert export(tmp_path / "all.csv") == {"id": "many", "exported": len(many.rows), "file": str(tmp_path / "all.csv")}
    assert stat.S_IMODE((tmp_path / "all.csv").stat().st_mode) == 0o600
    with open(tmp_path / "all.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [r["id"] for r in rows] == walk(many, "many", [])[0]
    by_serial = {r["serial"]: r for r in many.rows}
    now = time.time()
    for r in rows:
        row = by_serial[r["id"]]
        assert (r["state"] == "revoked") == (row["revoked"] > 0) and (r["device_id"], r["key_name"], r["not_after"]) == (row["device"], row["key"], at(row["not_after"]))
        assert r["expired"] == ("yes" if row["not_after"] <= now else "no") and r["revoked"] == (at(NOW) if row["revoked"] > 1 else "") and (r["reason"] != "") == (row["revoked"] > 0)
    export(tmp_path / "some.jsonl", "--format", "jsonl", "--state", "revoked", "--key", "key-1")
    lines = [json.loads(line) for line in open(tmp_path / "some.jsonl", encoding="utf-8")]
    assert [line["id"] for line in lines] == [r["serial"] for r in many.rows if r["revoked"] and r["key"] == "key-1"] and lines
    done = subprocess.run([MUSTER, "--data", many.dir, "cert", "export", "--account", "many", "--serial", many.rows[0]["serial"], "-o", "-"], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 2 and many.rows[0]["serial"] in done.stdout
    refused("not_found", export, tmp_path / "none.csv", "--key", "no-such-key")
    assert not (tmp_path / "none.csv").exists()


# --- registries of before ----------------------------------------------------------------------------------------------------------------------------


def test_what_was_revoked_before_is_still(fresh):
    """By a version that did not write down when."""
    s = fresh()
    a = Account(s)
    key = a.key()
    out, gone, live = (used(s, key, name) for name in ("out", "gone", "live"))
    a.device("revoke", "out"), a.device("revoke", "gone"), a.device("release", "gone")
    assert s.stop() == 0
    take_back(s.dir / "registry.db", 10)
    s.start()
    assert {c["id"]: (c["state"], c["revoked"], c["reason"]) for c in listed(s, a)} == {
        serial(out): ("revoked", None, "unspecified"), serial(gone): ("revoked", None, "unspecified"), serial(live): ("current", None, None)}
    shown = cert(s, "show", gone)
    assert (shown["device"], shown["device_id"]) == (None, "gone")  # out of the certificate
    assert ask(s, gone) == REVOKED and ask(s, out) == "device_revoked" and ask(s, live) is None
    revoke(s, live)
    assert whole(s, a)["certificates"] == 3

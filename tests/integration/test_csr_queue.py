"""Requests of devices for certificates of the customer's own CA: the queue, the offline CA, and what is brought back."""
import base64
import datetime
import sqlite3

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from client import Fleet, Identity, new_key, spki_hash
from conftest import Refused, refused, soon
from enrolment import Account, ask, spent
from est import Device, basic, certificates, csr, post
from est import enrolled as est_enrolled
from test_ca import Offline
from test_ca import certificates as pem_certificates
from test_clock import Clock
from test_explain import explain
from test_forecast import seconds
from test_root_crl import bring as bring_list, crl

MORE = 3700  # seconds: more than the least between two requests of one device
DAY = 86400
DAY_DELTA = datetime.timedelta(days=1)


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, "--csr-queue", "yes", *options, method=more.get("method", "device"))


def asks(server, device, key, device_id, **options):
    """A Device, None where the request waits, or (status, code)."""
    answer = post(server.gateway(device, **options), "simplereenroll", csr(key, device_id))
    if answer.status == 202:
        assert answer.json["code"] == "csr_waiting" and int(answer.headers["Retry-After"]) == 3600
        return None
    if answer.status != 200:
        return answer.status, answer.code
    (cert,) = certificates(answer)
    return Device(key, cert)


def queue(server, a, *options):
    return server.muster("csr", "list", "--account", a.name, *options)


def signed(fleet, key, device_id, **options):
    """PEM of a certificate for that key, by the customer's CA."""
    return fleet.device(device_id, key=key, **options).cert.public_bytes(Encoding.PEM)


def bring(server, a, tmp_path, *pems):
    path = tmp_path / f"brought-{len(list(tmp_path.iterdir()))}.pem"
    path.write_bytes(b"".join(pems))
    return server.muster("csr", "import", path, "--account", a.name)


def whole(a):
    return a.server.muster("audit", "verify", "--account", a.name)["ok"] is True


# --- the whole way ------------------------------------------------------------------------------------------------------------------------------


def test_from_the_device_to_the_offline_ca_and_back(account, server, tmp_path):
    """With `muster ca` as the CA, which has never seen the server."""
    a, offline = account(), Offline(tmp_path, "--intermediate")
    shown = server.muster("root", "upload", offline.dir / "root.pem", "--account", a.name, "--key-rule", "ask")
    proof = tmp_path / "proof.pem"
    offline.run("prove", shown["challenge"], "-o", proof)
    server.muster("root", "prove", shown["id"], proof)
    devices, keys = {}, {}
    for i in range(3):
        devices[i], keys[i] = from_folder(offline.issue(f"car-{i}")[1]), new_key()
        assert ask(server, devices[i]) is None
        assert asks(server, devices[i], keys[i], f"car-{i}") is None
        assert asks(server, devices[i], keys[i], f"car-{i}") is None, "it waits"
    assert [(c["device_id"], c["state"], c["key"], c["spki"]) for c in queue(server, a)] == [(f"car-{i}", "waiting", "new", spki_hash(keys[i])) for i in range(3)]
    batch, brought = tmp_path / "batch.pem", tmp_path / "signed.pem"
    assert server.muster("csr", "export", "--account", a.name, "-o", batch)["exported"] == 3
    assert batch.read_text().count("BEGIN CERTIFICATE REQUEST") == 3
    assert offline.run("sign", batch, "--again", "-o", brought)["issued"] == 3
    done = server.muster("csr", "import", brought, "--account", a.name)
    assert (done["imported"], done["refused"]) == (3, 0)
    assert server.muster("csr", "import", brought, "--account", a.name)["imported"] == 3, "the same again changes nothing"
    assert {c["state"] for c in queue(server, a)} == {"signed"} and queue(server, a, "--state", "waiting") == []
    assert server.muster("csr", "export", "--account", a.name, "-o", tmp_path / "none")["exported"] == 0
    for i in range(3):
        new = asks(server, devices[i], keys[i], f"car-{i}")
        assert new.spki == new.cert_spki == spki_hash(keys[i]) and new.cert.subject.rfc4514_string().find(f"car-{i}") >= 0
        again = asks(server, devices[i], keys[i], f"car-{i}")
        assert again.cert == new.cert, "an answer that was lost"
        assert ask(server, devices[i]) is None, "the old one works until the new one is used"
        new = Identity(new.cert, keys[i], devices[i].chain)
        soon(None, lambda n=new: ask(server, n))
        assert ask(server, devices[i]) == "device_key_barred"
    assert a.audit("car-0") == ["device.first_contact", "device.csr", "device.accept_key", "device.csr_import", "device.key_changed"]
    assert whole(a)


def from_folder(folder):
    files = {p.name: p for p in folder.rglob("*.pem")}
    key = next(load_pem_private_key(p.read_bytes(), None) for p in files.values() if b"PRIVATE KEY" in p.read_bytes())
    chain = next(pem_certificates(p.read_bytes()) for p in files.values() if b"BEGIN CERTIFICATE" in p.read_bytes())
    return Identity(chain[0], key, chain[1:])


def test_the_same_key_needs_nobody_s_word(account, server, tmp_path):
    """A certificate that is newer, for the key that the device has; whatever the key rule."""
    a = account()
    fleet = server.root(a.name)
    device = fleet.device("car-1")
    assert ask(server, device) is None and asks(server, device, device.key, "car-1") is None
    assert [c["key"] for c in queue(server, a)] == ["same"]
    assert bring(server, a, tmp_path, signed(fleet, device.key, "car-1", days=(-1, 700)))["imported"] == 1
    new = asks(server, device, device.key, "car-1")
    assert new.cert.not_valid_after > device.cert.not_valid_after and ask(server, new) is None
    assert "device.accept_key" not in a.audit("car-1") and whole(a)


# --- who may ask, and for what ----------------------------------------------------------------------------------------------------------------------


def test_off_unless_the_account_has_it_on(server):
    a = Account(server, method="device")
    device = server.root(a.name).device("car-1")
    assert ask(server, device) is None and a.shown["settings"]["csr_queue"] is False
    assert asks(server, device, new_key(), "car-1") == (403, "certificate_of_fleet_ca") and queue(server, a) == []
    a.set("--csr-queue", "yes")
    assert asks(server, device, new_key(), "car-1") is None
    a.set("--csr-queue", "no")
    assert asks(server, device, new_key(), "car-1") == (403, "certificate_of_fleet_ca")


def test_who_may_ask(account, server):
    a, b = account(), account()
    fleet = server.root(a.name)
    device, other, out = (fleet.device(f"car-{i}") for i in range(3))
    for one in (device, other, out):
        assert ask(server, one) is None
    mine = new_key()
    assert asks(server, device, mine, "car-1") == (400, "csr_invalid"), "another device's name"
    assert asks(server, device, other.key, "car-0") == (403, "device_key_elsewhere")
    assert asks(server, device, new_key("rsa1024"), "car-0") == (400, "csr_invalid")
    answer = post(server.gateway(device), "simplereenroll", csr(mine, "car-0")[:-1] + b"\0")
    assert (answer.status, answer.code) == (400, "csr_invalid")
    assert asks(server, None, mine, "car-0") == (404, "account_unknown")
    assert asks(server, Fleet().device("car-0"), mine, "car-0") == (403, "certificate_untrusted")
    assert asks(server, device, mine, "car-0", sni=server.host(b.name)) == (403, "certificate_of_other_account")
    late = fleet.device("car-9", days=(-9, -1))
    assert asks(server, late, new_key(), "car-9") == (403, "certificate_expired")
    answer = post(server.gateway(device), "simplereenroll", csr(mine, "car-0", attributes=[(x509.ObjectIdentifier("1.2.840.113549.1.9.7"), b"x" * 5000)]))
    assert (answer.status, answer.code) == (400, "csr_invalid") and "4096" in answer.json["description"]
    assert queue(server, a) == [] and queue(server, b) == []
    assert asks(server, device, mine, "car-0") is None
    assert asks(server, other, mine, "car-1") == (403, "device_key_elsewhere"), "the key of another's request"
    a.device("revoke", "car-2", "--yes")
    assert asks(server, out, new_key(), "car-2") == (403, "device_revoked")
    a.device("quarantine", "car-0")
    assert queue(server, a) == [], "of nobody who is out"
    a.device("release", "car-0")
    assert [c["device_id"] for c in queue(server, a)] == ["car-0"] and whole(a)


def why(server, a, device_id, code):
    """What operators see of the newest refusal of that code."""
    found = []

    def look():
        found[:] = [r["reason"] for r in server.muster("refusal", "list", "--account", a.name, "--code", code) if r["device_id"] == device_id]
        return bool(found)

    soon(True, look)
    return found[0]


def test_a_key_that_waits_is_nobody_else_s(account, server, tmp_path):
    """Two devices with one key: whoever asked first has it; the other one is refused wherever it asks, and operators are told whose request it is."""
    a = account(method="both")
    fleet, key, waits = server.root(a.name, None, "--key-rule", "ask"), a.key(), new_key()
    device, other = fleet.device("car-1"), fleet.device("car-2")
    assert ask(server, device) is None and ask(server, other) is None
    mine = est_enrolled(server.gateway(key), "own-1", new_key())
    assert ask(server, mine) is None
    assert asks(server, device, waits, "car-1") is None
    assert asks(server, other, waits, "car-2") == (403, "device_key_elsewhere"), "by its own request"
    answer = post(server.gateway(key), "simpleenroll", csr(waits, "own-2"))
    assert (answer.status, answer.code) == (403, "device_key_elsewhere"), "by a provisioning key"
    assert spki_hash(waits) in answer.json["description"] and "car-1" not in answer.body.decode(), "strangers are told of no device"
    assert asks(server, mine, waits, "own-1") == (403, "device_key_elsewhere"), "by renewing"
    code = a.device("invite", "own-3")["code"]
    answer = post(server.gateway(), "simpleenroll", csr(waits, "own-3"), a.name, **basic("own-3", code))
    assert (answer.status, answer.code) == (403, "device_key_elsewhere"), "by an invitation"
    for refused_one in ("car-2", "own-1"):
        assert spki_hash(waits) in why(server, a, refused_one, "device_key_elsewhere")
    assert [c["device_id"] for c in queue(server, a) if c["spki"] == spki_hash(waits)] == ["car-1"]
    assert bring(server, a, tmp_path, signed(fleet, waits, "car-1"))["imported"] == 1
    answer = post(server.gateway(key), "simpleenroll", csr(waits, "own-2"))
    assert (answer.status, answer.code) == (403, "device_key_elsewhere"), "nor while it waits for being collected"
    new = asks(server, device, waits, "car-1")
    soon(None, lambda: ask(server, Identity(new.cert, waits, device.chain)))
    assert spent(server, key) == 1 and whole(a)


def test_a_key_that_waits_is_nobody_else_s_in_other_accounts_either(account, server, tmp_path):
    a, b = account(method="both"), account(method="both")
    fleet, waits = server.root(a.name, None, "--key-rule", "ask"), new_key()
    device = fleet.device("car-1")
    assert ask(server, device) is None and asks(server, device, waits, "car-1") is None

    def refused_elsewhere(where, key=waits):
        answer = post(server.gateway(where.key()), "simpleenroll", csr(key, "own-1"))
        assert (answer.status, answer.code) == (403, "device_key_elsewhere") and "car-1" not in answer.body.decode()
        return answer.json["description"]

    assert spki_hash(waits) not in refused_elsewhere(b), "another account's operators find nobody by it"
    assert bring(server, a, tmp_path, signed(fleet, waits, "car-1"))["imported"] == 1
    refused_elsewhere(b)
    new = asks(server, device, waits, "car-1")
    server.muster("csr", "remove", "car-1", "--account", a.name)
    assert spki_hash(waits) in refused_elsewhere(a), "accepted by the import"
    refused_elsewhere(b)
    soon(None, lambda: ask(server, Identity(new.cert, waits, device.chain)))
    # One that a certificate has offered and nobody has accepted yet.
    offered = new_key()
    assert ask(server, fleet.device("car-1", key=offered)) == "device_key_mismatch"
    for where in (a, b):
        refused_elsewhere(where, offered)
    assert [d["device_id"] for d in server.muster("device", "list", "--account", a.name, "--spki", spki_hash(offered))] == ["car-1"]
    assert server.muster("device", "list", "--account", b.name, "--spki", spki_hash(offered)) == []
    assert whole(a) and whole(b)
    # It is not lost for good by a certificate with a wrong ID.
    wrong = new_key()
    assert ask(server, fleet.device("car-1", key=wrong)) == "device_key_mismatch"
    with sqlite3.connect(server.dir / "registry.db") as db:
        for days, accepted, free in ((6, 0, False), (8, 1, False), (8, 0, True)):
            db.execute("UPDATE offer SET last_seen = unixepoch() - ? * 86400, accepted = ? WHERE spki = ?", (days, accepted, bytes.fromhex(spki_hash(wrong))))
            db.commit()
            if free:
                assert post(server.gateway(b.key()), "simpleenroll", csr(wrong, "own-3")).status == 200
            else:
                refused_elsewhere(b, wrong)
    db.close()
    server.muster("account", "delete", a.name, "--yes")
    assert post(server.gateway(b.key()), "simpleenroll", csr(offered, "own-2")).status == 200, "of an account that is deleted nothing waits"
    assert whole(b)


def test_a_certificate_that_its_ca_takes_back_is_not_imported_and_not_handed_out(account, server, tmp_path):
    a = account()
    fleet = server.root(a.name, None, "--key-rule", "ask")
    device, waits = fleet.device("car-1"), new_key()
    assert ask(server, device) is None and asks(server, device, waits, "car-1") is None
    first, second = (fleet.device("car-1", key=waits) for _ in range(2))
    bring_list(server, a.name, fleet.root, crl(fleet, first.cert))
    refused("certificate_listed", lambda: bring(server, a, tmp_path, first.cert.public_bytes(Encoding.PEM)))
    assert bring(server, a, tmp_path, second.cert.public_bytes(Encoding.PEM))["imported"] == 1
    assert asks(server, device, waits, "car-1").cert == second.cert  # and it is lost
    bring_list(server, a.name, fleet.root, crl(fleet, first.cert, second.cert, number=2))
    assert asks(server, device, waits, "car-1") is None, "it waits for another one, at once"
    third = fleet.device("car-1", key=waits)
    assert bring(server, a, tmp_path, third.cert.public_bytes(Encoding.PEM))["imported"] == 1
    assert asks(server, device, waits, "car-1").cert == third.cert
    soon(None, lambda: ask(server, third))
    assert whole(a)


def test_a_certificate_whose_root_is_out_is_not_handed_out(account, server, tmp_path):
    a = account()
    fleet, other = server.root(a.name, None, "--key-rule", "ask"), server.root(a.name, Fleet("Second Root"), "--key-rule", "ask")
    device, waits = fleet.device("car-1"), new_key()
    assert ask(server, device) is None and asks(server, device, waits, "car-1") is None
    assert bring(server, a, tmp_path, signed(other, waits, "car-1"))["imported"] == 1
    server.muster("root", "revoke", other.root["id"], "--yes")
    assert asks(server, device, waits, "car-1") is None
    assert bring(server, a, tmp_path, signed(fleet, waits, "car-1"))["imported"] == 1
    new = asks(server, device, waits, "car-1")
    soon(None, lambda: ask(server, Identity(new.cert, waits, device.chain)))
    assert whole(a)


def test_a_key_of_a_request_that_is_dropped_is_free(account, server):
    a = account(method="both")
    fleet, key, waits = server.root(a.name, None, "--key-rule", "ask"), a.key(), new_key()
    device = fleet.device("car-1")
    assert ask(server, device) is None and asks(server, device, waits, "car-1") is None
    server.muster("csr", "remove", "car-1", "--account", a.name)
    assert ask(server, est_enrolled(server.gateway(key), "own-1", waits)) is None and whole(a)


def test_a_tombstone_is_lifted_over_a_request(account, server):
    """The request goes with its device."""
    a = account()
    fleet, waits = server.root(a.name, None, "--key-rule", "ask"), new_key()
    device = fleet.device("car-1")
    assert ask(server, device) is None and asks(server, device, waits, "car-1") is None
    a.device("delete", "car-1", "--yes")
    a.device("release", "car-1")
    assert server.muster("device", "list", "--account", a.name) == [] and queue(server, a) == []
    anew = fleet.device("car-1")
    assert ask(server, anew) is None and asks(server, anew, waits, "car-1") is None and whole(a)


# --- what is brought back ----------------------------------------------------------------------------------------------------------------------------


def test_what_is_brought_is_held_against_request_and_roots(account, server, tmp_path):
    a, b = account(), account()
    fleet, foreign = server.root(a.name, None, "--key-rule", "ask"), server.root(b.name, None, "--key-rule", "ask")
    unproved = server.root(a.name, Fleet("Unproved"), "--key-rule", "ask", prove=False)
    device, keys = fleet.device("car-1"), [new_key() for _ in range(3)]
    assert ask(server, device) is None and asks(server, device, keys[0], "car-1") is None
    elsewhere = foreign.device("car-1")
    assert ask(server, elsewhere) is None
    for pem, code in ((signed(fleet, keys[1], "car-1"), "not_found"),            # for a key that nobody asked for
                      (signed(foreign, keys[0], "car-1"), "certificate_untrusted"),  # another account's root
                      (signed(unproved, keys[0], "car-1"), "certificate_untrusted"),
                      (signed(Fleet(), keys[0], "car-1"), "certificate_untrusted"),
                      (signed(fleet, keys[0], "car-2"), "invalid_request"),     # names another device
                      (signed(fleet, keys[0], "car-1", days=(-9, -1)), "certificate_expired"),
                      (signed(fleet, keys[0], "car-1", extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]), "certificate_purpose")):
        with pytest.raises(Refused) as said:
            bring(server, a, tmp_path, pem)
        assert said.value.code == code, (code, said.value.text)
    assert [c["state"] for c in queue(server, a)] == ["waiting"]
    refused("not_found", lambda: bring(server, b, tmp_path, signed(fleet, keys[0], "car-1")))
    assert asks(server, device, keys[0], "car-1") is None
    good = bring(server, a, tmp_path, fleet.root_pem(), signed(fleet, keys[0], "car-1"))
    assert (good["imported"], good["refused"]) == (1, 0)
    assert isinstance(asks(server, device, keys[0], "car-1"), Device) and whole(a)


def test_one_bad_certificate_holds_up_no_other(account, server, tmp_path):
    a = account()
    fleet = server.root(a.name, None, "--key-rule", "ask")
    keys = {}
    for i in range(40):
        device = fleet.device(f"car-{i}")
        keys[i] = new_key()
        assert ask(server, device) is None and asks(server, device, keys[i], f"car-{i}") is None
    pems = [signed(fleet, keys[i], "nobody" if i == 7 else f"car-{i}") for i in range(40)]
    with pytest.raises(Refused) as said:
        bring(server, a, tmp_path, *pems)
    assert said.value.code == "invalid_request" and "1 of 40" in said.value.text and "car-7" in said.value.text
    assert sorted(c["device_id"] for c in queue(server, a, "--state", "waiting")) == ["car-7"] and len(queue(server, a, "--state", "signed")) == 39


def test_a_root_that_takes_no_other_keys(account, server, tmp_path):
    a = account()
    fleet, key = server.root(a.name), new_key()
    device = fleet.device("car-1")
    assert ask(server, device) is None and asks(server, device, key, "car-1") is None
    server.muster("root", "set", fleet.root["id"], "--key-rule", "never")
    with pytest.raises(Refused) as said:
        bring(server, a, tmp_path, signed(fleet, key, "car-1"))
    assert said.value.code == "wrong_state" and "--key-rule ask" in said.value.text
    server.muster("root", "set", fleet.root["id"], "--key-rule", "ask")
    assert bring(server, a, tmp_path, signed(fleet, key, "car-1"))["imported"] == 1


def test_an_intermediate_of_the_customer_s(account, server, tmp_path):
    a = account()
    fleet, key = server.root(a.name, None, "--key-rule", "ask"), new_key()
    line = fleet.intermediate()
    device = fleet.device("car-1")
    assert ask(server, device) is None and asks(server, device, key, "car-1") is None
    leaf = signed(line, key, "car-1")
    refused("certificate_untrusted", lambda: bring(server, a, tmp_path, leaf))
    assert bring(server, a, tmp_path, leaf, line.root_pem())["imported"] == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_chains_as_other_tools_write_them(account, server, tmp_path, end):
    """Behind each certificate its CA's, with text between as `openssl pkcs7 -print_certs` has it: one intermediate counts once, however often it stands there and however it is written."""
    a = account()
    fleet = server.root(a.name, None, "--key-rule", "ask")
    line, brought = fleet.intermediate(), ""
    for i in range(9):
        device, key = fleet.device(f"car-{i}"), new_key()
        assert ask(server, device) is None and asks(server, device, key, f"car-{i}") is None
        for what, pem in ((f"car-{i}", signed(line, key, f"car-{i}")), ("Fleet Line 1", line.root_pem())):
            brought += f"subject=CN = {what}\n\n{pem.decode()}\n"
    brought = brought.replace("\n", end)
    answer = server.api("POST", f"/api/v1/accounts/{a.name}/csrs", {"certificates": brought})
    assert (answer.status, answer.json["imported"]) == (200, 9), answer
    assert bring(server, a, tmp_path, brought.encode())["imported"] == 9


def test_nonsense(account, server, tmp_path):
    a = account()
    for pem in (b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(Refused):
            bring(server, a, tmp_path, pem)
    root = Fleet().root_pem().decode()
    answer = server.api("POST", f"/api/v1/accounts/{a.name}/csrs", {"certificates": root * 41})
    assert answer.status == 400
    assert server.api("GET", f"/api/v1/accounts/{a.name}/csrs?state=other").status == 400


# --- another key, later -----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def later(fresh):
    s = fresh(start=False)
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    return s, Account(s, "--csr-queue", "yes", method="device")


def test_a_device_that_lost_its_key_asks_for_another_one(later, tmp_path):
    s, a = later
    fleet, first, second = s.root(a.name, None, "--key-rule", "ask"), new_key(), new_key()
    device = fleet.device("car-1")
    assert ask(s, device) is None and asks(s, device, first, "car-1") is None
    before = queue(s, a)[0]["id"]
    assert asks(s, device, second, "car-1") == (429, "reissue_limited"), "not in a loop"
    s.clock.set(MORE)
    assert asks(s, device, second, "car-1") is None
    (request,) = queue(s, a)
    assert request["id"] != before and request["spki"] == spki_hash(second)
    refused("not_found", lambda: bring(s, a, tmp_path, signed(fleet, first, "car-1")))
    assert bring(s, a, tmp_path, signed(fleet, second, "car-1", days=(-1, 400)))["imported"] == 1
    new = asks(s, device, second, "car-1")
    soon(None, lambda: ask(s, new))
    assert asks(s, new, second, "car-1").cert == new.cert, "soon after, it is the same answer"
    s.clock.set(3 * MORE)
    assert asks(s, new, second, "car-1") is None, "later it is the next request"
    assert [(c["state"], c["key"]) for c in queue(s, a)] == [("waiting", "same")] and whole(a)


# --- too late for all but that -----------------------------------------------------------------------------------------------------------------------------


def test_a_certificate_that_ends_while_its_request_waits_is_good_for_collecting(later, tmp_path):
    """Days go by until a person has carried the request to the CA: the device asks on, gets what was signed, and nothing else meanwhile."""
    s, a = later
    fleet, key = s.root(a.name, None, "--key-rule", "ask"), new_key()
    device = fleet.device("car-1", days=(-1, 2))
    assert ask(s, device) is None and asks(s, device, key, "car-1") is None
    s.clock.set(5 * DAY)
    assert ask(s, device) == "certificate_expired"
    assert asks(s, device, key, "car-1") is None, "it waits"
    with s.gateway(device).connect() as c:
        body, kind = base64.b64encode(csr(key, "car-1")), {"Content-Type": "application/pkcs10"}
        for _ in range(2):
            assert s.gateway(device).on(c, "POST", "/.well-known/est/simplereenroll", body, kind).status == 202
            assert s.gateway(device).on(c, "GET", "/director/1.root.json").code == "certificate_expired"
        assert s.gateway(device).on(c, "POST", "/.well-known/est/simpleenroll", body, kind).code == "certificate_expired"
    assert s.gateway(device).request("PUT", "/system_info", b"{}", {"Content-Type": "application/json"}).code == s.gateway(device).enrol("car-1").code == "certificate_expired"
    assert bring(s, a, tmp_path, signed(fleet, key, "car-1"))["imported"] == 1
    new = asks(s, device, key, "car-1")
    assert new.spki == spki_hash(key) and asks(s, device, key, "car-1").cert == new.cert, "an answer that was lost"
    assert ask(s, device) == "certificate_expired", "what it collected does not make it good"
    soon(None, lambda: ask(s, new))
    assert asks(s, device, key, "car-1") == (403, "device_key_barred"), "another key has taken its place"
    assert a.audit("car-1") == ["device.first_contact", "device.csr", "device.accept_key", "device.csr_import", "device.key_changed"] and whole(a)


def test_one_that_expired_before_it_asked(later, tmp_path):
    """And is seen meanwhile; with the key that it has all along, too."""
    s, a = later
    fleet = s.root(a.name)
    device = fleet.device("car-1", days=(-1, 2))
    assert ask(s, device) is None
    s.clock.set(5 * DAY)
    before = a.device("show", "car-1")["last_seen"]
    assert asks(s, device, device.key, "car-1") is None
    soon(True, lambda: a.device("show", "car-1")["last_seen"] > before)
    assert bring(s, a, tmp_path, signed(fleet, device.key, "car-1"))["imported"] == 1
    new = asks(s, device, device.key, "car-1")
    assert ask(s, new) is None and ask(s, device) == "certificate_expired"
    assert asks(s, device, new_key(), "car-1") == (403, "certificate_superseded"), "it has a newer one"
    assert asks(s, new, device.key, "car-1").cert == new.cert and whole(a)


def test_a_newer_certificate_that_ended_on_the_shelf(later):
    s, a = later
    fleet = s.root(a.name)
    device = fleet.device("car-1", days=(-1, 2))
    shelf = fleet.device("car-1", key=device.key, days=(-1, 3))
    assert ask(s, device) is None
    s.clock.set(5 * DAY)
    assert asks(s, shelf, new_key(), "car-1") is None
    assert a.audit("car-1") == ["device.first_contact", "device.csr"], "it is not taken for the device's by that"


@pytest.mark.parametrize("rule", ["refuse", "known"])
def test_the_ca_above_has_expired(later, rule):
    """Under either rule of the root; where known devices go on, lateness counts from the end of their own certificates."""
    s, a = later
    a.set("--late-renewal", 20 * DAY)
    fleet = s.root(a.name, None, "--key-rule", "ask")
    s.muster("root", "set", fleet.root["id"], "--expired", rule)
    line = fleet.intermediate(days=(-1, 10))
    device, stranger = (line.device(name, chain=[line.cert], days=(-1, 40)) for name in ("car-1", "stranger"))
    assert ask(s, device) is None
    end = {c["not_after"] for c in explain(s, device, a.name)["chain"]}
    until = (max if rule == "known" else min)(map(seconds, end)) + 20 * DAY
    assert seconds(a.device("show", "car-1")["renewable_until"]) == until and explain(s, device, a.name)["renewable_until"] is None
    s.clock.set(11 * DAY)
    assert ask(s, device) == (None if rule == "known" else "certificate_expired")
    said = explain(s, device, a.name)["renewable_until"]
    assert said is None if rule == "known" else seconds(said) == until
    assert asks(s, device, new_key(), "car-1") is None
    assert asks(s, stranger, new_key(), "stranger") == (403, "root_known_only" if rule == "known" else "certificate_expired")
    for day, late in ((31, rule == "refuse"), (41, rule == "refuse"), (59, rule == "refuse"), (61, True)):
        s.clock.set(day * DAY)
        said = asks(s, device, new_key(), "car-1")
        assert said == ((403, "certificate_expired") if late else None), (day, said)
    assert [c["device_id"] for c in queue(s, a)] == ["car-1"] and whole(a)


def test_how_late_is_the_account_s_to_say(later):
    s, a = later
    a.set("--late-renewal", 10 * DAY)
    fleet, key = s.root(a.name, None, "--key-rule", "ask"), new_key()
    device = fleet.device("car-1", days=(-1, 2))
    assert ask(s, device) is None
    s.clock.set(12 * DAY - 60)
    assert asks(s, device, key, "car-1") is None
    s.clock.set(12 * DAY + 60)
    answer = post(s.gateway(device), "simplereenroll", csr(key, "car-1"))
    assert (answer.status, answer.code) == (403, "certificate_expired")
    assert "expired 10 days ago" in answer.json["description"] and "10 days behind" in answer.json["description"]
    a.set("--late-renewal", 0)
    answer = post(s.gateway(device), "simplereenroll", csr(key, "car-1"))
    assert (answer.status, answer.code) == (403, "certificate_expired") and "renews none" in answer.json["description"]
    a.set("--late-renewal", 20 * DAY)
    assert asks(s, device, key, "car-1") is None
    a.set("--csr-queue", "no")
    assert asks(s, device, key, "car-1") == (403, "certificate_expired"), "where nothing is renewed, nothing is late"


def test_whoever_is_out_does_not_come_in_late(later):
    """Each condition by itself, beside one device that lacks none of them."""
    s, a = later
    b = Account(s, "--csr-queue", "yes", method="device")
    fleet = s.root(a.name, None, "--key-rule", "ask")
    weak = fleet.device("weak", kind="rsa1024", days=(-1, 2))
    ids = ("good", "quarantined", "revoked", "deleted", "listed", "replaced", "older")
    devices = {i: fleet.device(i, days=(-1, 2)) for i in ids}
    for one in devices.values():
        assert ask(s, one) is None
    assert s.gateway(weak, weak=True).get("/director/1.root.json").code == "certificate_weak_key"
    unknown, named = fleet.device("unknown", days=(-1, 2)), fleet.device("another", key=devices["good"].key, days=(-1, 2))
    other_key = fleet.device("good", days=(-1, 2))
    a.set("--approval", "yes")
    pending = fleet.device("pending", days=(-1, 2))
    assert ask(s, pending) == "device_pending"
    # Another key, and another certificate of the same key, have taken the place of these.
    key = new_key()
    assert asks(s, devices["replaced"], key, "replaced") is None
    s.muster("csr", "remove", "replaced", "--account", a.name)
    successor = fleet.device("replaced", key=key, days=(-1, 2))
    assert ask(s, successor) == "device_key_mismatch"
    a.device("accept-key", "replaced", "--fingerprint", spki_hash(key))
    soon(None, lambda: ask(s, successor))
    assert ask(s, fleet.device("older", key=devices["older"].key, days=(-1, 3))) is None
    for verb, name in (("quarantine", "quarantined"), ("revoke", "revoked"), ("delete", "deleted")):
        a.device(verb, name, "--yes")
    bring_list(s, a.name, fleet.root, crl(fleet, devices["listed"].cert, next_update=400 * DAY_DELTA))
    s.clock.set(5 * DAY)

    def late(device, name="good", **options):
        return asks(s, device, new_key(options.pop("kind", "ec")), name, **options)

    assert late(unknown, "unknown") == (403, "certificate_expired")
    assert late(pending, "pending") == (403, "device_pending")
    assert late(weak, "weak", weak=True) == (403, "certificate_weak_key")
    assert late(other_key) == (403, "certificate_expired") and a.device("show", "good")["offered_keys"] == []
    assert late(named, "another") == (403, "device_key_elsewhere")
    assert late(Fleet().device("good", days=(-1, 2))) == (403, "certificate_untrusted")
    for name, code in (("quarantined", "device_quarantined"), ("revoked", "device_revoked"), ("deleted", "device_deleted"), ("listed", "certificate_listed"),
                       ("replaced", "device_key_barred"), ("older", "certificate_superseded")):
        assert late(devices[name], name) == (403, code), name
    good = devices["good"]
    assert late(good, "another") == (400, "csr_invalid"), "another device's name"
    assert late(good, kind="rsa1024") == (400, "csr_invalid")
    assert late(good, sni=s.host(b.name)) == (403, "certificate_of_other_account")
    for verb, code in (("disable", "root_disabled"), ("enable", None)):
        s.muster("root", verb, fleet.root["id"], "--yes")
        soon((403, code) if code else None, lambda: late(good))
    a.set("--method", "shared", "--yes")
    assert late(good) == (403, "method_not_enabled")
    assert [c["device_id"] for c in queue(s, a)] == ["good"] and whole(a) and whole(b)


def test_an_operator_drops_a_request(account, server, tmp_path):
    a = account()
    fleet, key = server.root(a.name, None, "--key-rule", "ask"), new_key()
    device = fleet.device("car-1")
    assert ask(server, device) is None and asks(server, device, key, "car-1") is None
    assert server.muster("csr", "remove", "car-1", "--account", a.name)["device_id"] == "car-1"
    assert queue(server, a) == []
    refused("not_found", lambda: server.muster("csr", "remove", "car-1", "--account", a.name))
    refused("not_found", lambda: bring(server, a, tmp_path, signed(fleet, key, "car-1")))
    assert asks(server, device, key, "car-1") is None, "the device may send it again"
    server.muster("account", "delete", a.name, "--yes")
    with sqlite3.connect(server.dir / "registry.db") as db:
        assert db.execute("SELECT count(*) FROM csr JOIN account ON account.id = csr.account WHERE account.name = ?", (a.name,)).fetchone() == (0,)

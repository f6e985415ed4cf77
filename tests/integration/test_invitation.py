"""Invitations: an operator's one-time code for one device ID, with which the device enrols by EST and HTTP Basic, without any certificate."""
import base64
import http.client
import signal
import subprocess
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509

from client import Fleet, key_pem, new_key, spki_hash
from conftest import MUSTER, refused, soon
from enrolment import DAY, Account, ask, enrolled, retry_after, spent
from est import PKCS10, Device, basic, certificates, csr, path, post, run
from test_est import renew
from test_limits import counted
from test_renewal import LIFE, world  # noqa: F401  a fixture

OFFERED = 'Basic realm="muster", charset="UTF-8"'


def come(server, account, device_id, code, own=None, identity=None, asks_for=None, what="simpleenroll", **options):
    """The answer to whoever brings that code; account None: the path names none."""
    body = csr(own or new_key(), asks_for or device_id) if len(asks_for or device_id) <= 64 else long_csr(own or new_key(), device_id)
    return post(server.gateway(identity, **options), what, body, account and account.name, **basic(device_id, code))


def long_csr(own, device_id):
    return csr(own, None, sans=[x509.UniformResourceIdentifier("urn:muster:device:" + urllib.parse.quote(device_id, safe=""))])


def took(answer, own):
    """A Device, or (status, code)."""
    return Device(own, *certificates(answer)) if answer.status == 200 else (answer.status, answer.code)


def said(answer):
    return answer.status, answer.code


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def invite(a, device_id, *options):
    return a.device("invite", device_id, *options)["code"]


def invitations(a):
    return {i["device_id"]: i["state"] for i in a.server.muster("invitation", "list", "--account", a.name)}


def whole(a):
    return a.server.muster("audit", "verify", "--account", a.name)["ok"] is True


# --- the code gets the device its certificate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("by", ["label", "host name"])
def test_an_invited_device_gets_a_certificate(account, server, tls, by):
    a, own = account(), new_key()
    made = a.device("invite", "car-1")
    assert made["state"] == "open" and made["device_id"] == "car-1" and made["spent"] is None
    assert len(made["code"]) == 26 and made["code"].startswith("msi_")
    options = {} if by == "label" else {"sni": server.host(a.name)}
    device = took(come(server, a if by == "label" else None, "car-1", made["code"], own, tls=tls, **options), own)
    assert device.cert.subject.rfc4514_string() == f"CN=car-1,OU=Devices,O={a.name}"
    assert ask(server, device) is None
    shown = a.device("show", "car-1")
    assert (shown["spki"], shown["state"], shown["method"], shown["key"]) == (device.spki, "active", "shared", None)
    (listed,) = server.muster("invitation", "list", "--account", a.name)
    assert listed["state"] == "spent" and listed["spent"] and "code" not in listed
    assert a.audit("car-1") == ["device.invite", "device.enrol", "device.first_use"]
    entry = [e for e in server.muster("audit", "list", "--account", a.name) if e["action"] == "device.enrol"][0]
    assert entry["actor"] == f"invitation:{made['id']}" and entry["detail"]["invitation"] == made["id"] and "key" not in entry["detail"]
    assert whole(a)


def test_it_renews_and_stays_in_the_record(account, server):
    a, own, next_own = account(), new_key(), new_key()
    device = took(come(server, a, "car-1", invite(a, "car-1"), own), own)
    new = took(post(server.gateway(device), "simplereenroll", csr(next_own, "car-1")), next_own)
    assert ask(server, new) is None and ask(server, device) == "certificate_superseded"
    assert whole(a) and a.device("show", "car-1")["key"] is None


def test_with_curl_and_openssl(account, server, tmp_path):
    a = account()
    code = invite(a, "car-1")
    key, request = tmp_path / "key.pem", tmp_path / "request"
    key.write_bytes(key_pem(new_key()))
    request.write_bytes(base64.encodebytes(run("openssl", "req", "-new", "-key", key, "-subj", "/CN=car-1", "-outform", "DER")))
    config = tmp_path / "curl"
    config.write_text(f'user = "car-1:{code}"\n')
    for challenged in ([], ["--anyauth"]):  # curl's own answer to the challenge as well
        answer = run("curl", "-sS", "--noproxy", "*", "--fail-with-body", "-K", config, *challenged, "--cacert", server.dir / "server-ca.pem", "-H", f"Content-Type: {PKCS10}", "--data-binary", f"@{request}",
                     f"https://localhost:{server.port}{path('simpleenroll', a.name)}")
        pem = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=base64.b64decode(answer))
        assert b"CN = car-1" in pem and pem.count(b"BEGIN CERTIFICATE") == 1


@pytest.mark.parametrize("device_id", ["urn:dev:mac:00:1b", "Gerät 1", "y" * 128, "a:"])
def test_device_ids_of_any_kind(account, server, device_id):
    a, own = account(), new_key()
    device = took(come(server, a, device_id, invite(a, device_id), own), own)
    assert ask(server, device) is None and [d["device_id"] for d in a.devices()] == [device_id] and whole(a)


def test_the_same_request_gets_the_same_certificate(account, server):
    """Also after the code is spent; with another key it is refused, and says so."""
    a, own = account(), new_key()
    code = invite(a, "car-1")
    first = took(come(server, a, "car-1", code, own), own)
    for _ in range(3):
        assert took(come(server, a, "car-1", code, own), own).cert == first.cert
    assert ask(server, first) is None
    assert took(come(server, a, "car-1", code, own), own).cert == first.cert
    other = come(server, a, "car-1", code)
    assert said(other) == (403, "invitation_spent") and "another key" in other.json["description"]
    assert len(a.device("show", "car-1")["certificates"]) == 1 and whole(a)


@pytest.mark.parametrize("keys", [1, 24])
def test_many_at_once_get_one_certificate(account, server, keys):
    """Whoever comes first: the code is spent in the transaction that stores the certificate."""
    a, owns = account(), [new_key() for _ in range(keys)]
    code = invite(a, "car-1")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: took(come(server, a, "car-1", code, owns[i % keys]), owns[i % keys]), range(24)))
    got = {d.cert.serial_number for d in answers if isinstance(d, Device)}
    assert len(got) == 1 and {d for d in answers if not isinstance(d, Device)} <= {(403, "invitation_spent"), (503, "busy")}
    assert len(a.device("show", "car-1")["certificates"]) == 1 and whole(a)


def test_after_kill_9_each_code_got_one_certificate(fresh):
    s = fresh()
    a = Account(s)
    owns = {f"car-{i}": new_key() for i in range(30)}
    codes, certs = {d: invite(a, d) for d in owns}, {}

    def one(device_id):
        try:
            got = took(come(s, a, device_id, codes[device_id], owns[device_id]), owns[device_id])
        except (OSError, http.client.HTTPException):
            return
        if isinstance(got, Device):
            certs.setdefault(device_id, set()).add(got.cert.serial_number)

    for part in range(2):
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(one, d) for d in list(owns)[part * 15:part * 15 + 15]]
            while not any(w.done() for w in work):
                time.sleep(0.001)
            s.stop(signal.SIGKILL)
        s.start()
    for device_id in owns:
        one(device_id)
    assert set(certs) == set(owns) and all(len(c) == 1 for c in certs.values())
    assert set(invitations(a).values()) == {"spent"} and whole(a)


# --- who gets nothing -----------------------------------------------------------------------------------------------------------------------------


def test_wrong_codes_and_unknown_devices_are_one_answer(account, server):
    a, b = account(), account()
    code, others, elsewhere = invite(a, "car-1"), invite(a, "car-2"), invite(b, "car-1")
    old = invite(a, "car-3")
    invite(a, "car-3")
    withdrawn = invite(a, "car-4")
    server.muster("invitation", "remove", "car-4", "--account", a.name)
    tried = [("car-1", c) for c in (others, elsewhere, "x", code[:-1], code + "A", code.upper(), code[:-1] + ("B" if code[-1] != "B" else "C"), "msi_" + "A" * 22)]
    tried += [("nobody", code), ("Car-1", code), ("car-3", old), ("car-4", withdrawn), ("car-1 ", code)]
    answers = {(device_id, c): come(server, a, device_id, c, asks_for="car-1") for device_id, c in tried}
    for what, answer in answers.items():
        assert said(answer) == (401, "invitation_invalid") and answer.headers["WWW-Authenticate"] == OFFERED, (what, answer)
    assert len({(x.json["description"], x.json["fix"]) for x in answers.values()}) == 1, "which of the two is wrong is not said"
    assert said(come(server, b, "car-1", code)) == (401, "invitation_invalid")
    assert invitations(a) == {"car-1": "open", "car-2": "open", "car-3": "open"} and a.devices() == [] and whole(a)


@pytest.mark.parametrize("field", ["Basic", "Basic ", "Basic !", "Basic Y2FyLTE=", "Basic Og==", "Basic OmNvZGU=", "Basic Y2FyLTE6", "Basic AGE6Yg==", "Basic /zpi", "Basic " + "A" * 4000,
                                   "Basic " + base64.b64encode(b"x" * 129 + b":code").decode()])
def test_what_is_no_code_is_a_wrong_one(server, account, field):
    a = account()
    answer = post(server.gateway(), "simpleenroll", csr(new_key(), "car-1"), a.name, Authorization=field)
    assert said(answer) == (401, "invitation_invalid") and answer.headers["WWW-Authenticate"] == OFFERED


def test_a_challenge_comes_where_a_code_could_help(account, server):
    """To one without a certificate who enrols in an account that is named; nowhere else."""
    a = account(method="both")
    key, stranger, factory = a.key(), Fleet().device("x"), server.root(a.name).device("of-fleet-ca")
    body = csr(new_key(), "x")
    for answer in (post(server.gateway(), "simpleenroll", body, a.name), post(server.gateway(sni=server.host(a.name)), "simpleenroll", body),
                   post(server.gateway(), "simpleenroll", body, a.name, Authorization="Bearer abc"), post(server.gateway(), "simpleenroll", body, a.name, Authorization="Basically")):
        assert said(answer) == (401, "credential_required") and answer.headers.get_all("WWW-Authenticate") == [OFFERED]
    gateway = server.gateway
    for answer, expected in ((post(gateway(), "simpleenroll", body), (404, "account_unknown")), (post(gateway(), "simpleenroll", body, "nobody"), (404, "account_unknown")),
                             (post(gateway(stranger), "simpleenroll", body, a.name), (403, "certificate_untrusted")), (gateway().enrol("x"), (403, "provisioning_key_required")),
                             (post(gateway(), "simplereenroll", body, a.name), (403, "certificate_required")), (post(gateway(factory), "simpleenroll", body, a.name), (403, "enrol_with_device_certificate")),
                             (post(gateway(key), "simplereenroll", body, a.name), (403, "provisioning_key_only_enrols")), (gateway().get("/director/1.root.json"), (403, "certificate_required"))):
        assert said(answer) == expected and "WWW-Authenticate" not in answer.headers, answer


def test_a_code_opens_nothing_else(account, server):
    a = account(method="both")
    code = invite(a, "car-1")
    field = basic("car-1", code)
    gateway, body = server.gateway(), base64.b64encode(csr(new_key(), "car-1"))
    pkcs10 = {"Content-Type": PKCS10, **field}
    assert gateway.request("POST", "/devices", {"deviceId": "car-1"}, field).code == "provisioning_key_required"
    assert gateway.request("POST", path("simplereenroll", a.name), body, pkcs10).code == "certificate_required"
    for method, where in (("GET", "/director/1.root.json"), ("GET", "/"), ("PUT", "/system_info"), ("POST", "/director/ecus"), ("GET", path("simpleenroll", a.name))):
        assert gateway.request(method, where, b"{}" if method != "GET" else None, field).status == 403, where
    assert said(come(server, None, "car-1", code)) == (404, "account_unknown"), "the account has to be named"
    assert said(come(server, a, "car-1", code, sni=server.host(account().name))) == (421, "misdirected_request")
    assert invitations(a) == {"car-1": "open"} and a.devices() == []


def test_besides_a_certificate_a_code_counts_for_nothing(account, server):
    a = account(method="both")
    key, code = a.key("--id-pattern", "truck-*"), invite(a, "car-1")
    device = enrolled(server, key, "truck-1")
    assert ask(server, device) is None
    factory, revoked = server.root(a.name).device("of-fleet-ca"), enrolled(server, key, "truck-2")
    assert ask(server, revoked) is None
    a.device("revoke", "truck-2", "--yes")
    for who, code_ in ((device, "enrol_with_device_certificate"), (factory, "enrol_with_device_certificate"), (Fleet().device("x"), "certificate_untrusted"), (revoked, "device_revoked"),
                       (key, "device_id_not_allowed"), (account().key(), "certificate_of_other_account")):
        answer = come(server, a, "car-1", code, identity=who)
        assert (answer.status, answer.code) == (403, code_) and "WWW-Authenticate" not in answer.headers
    own = new_key()
    assert isinstance(took(come(server, a, "car-1", code, own, identity=a.key("--name", "any")), own), Device)  # by the key
    assert invitations(a) == {"car-1": "open"} and spent(server, key) == 2 and whole(a)


def test_the_request_has_to_be_the_invited_device_s(account, server):
    a = account()
    code = invite(a, "car-1")
    answer = come(server, a, "car-1", code, asks_for="car-2")
    assert said(answer) == (400, "csr_invalid") and "invited" in answer.json["description"]
    taken = took(come(server, a, "car-9", invite(a, "car-9"), own := new_key()), own)
    for key, expected in ((new_key("rsa1024"), (400, "csr_invalid")), (taken.key, (403, "device_key_elsewhere")), (a.key().key, (403, "device_key_elsewhere"))):
        assert said(come(server, a, "car-1", code, key)) == expected
    assert said(post(server.gateway(), "simpleenroll", b"-----BEGIN CERTIFICATE REQUEST-----", a.name, **basic("car-1", code))) == (400, "csr_invalid")
    assert said(post(server.gateway(), "simpleenroll", csr(new_key(), "car-1"), a.name, **basic("car-1", code), **{"Content-Type": "text/plain"})) == (415, "unsupported_media_type")
    assert invitations(a)["car-1"] == "open", "none of that spends the code"
    assert isinstance(took(come(server, a, "car-1", code, own := new_key()), own), Device)


def test_the_body_is_not_read_before_the_code_is_good(server, account):
    a = account()
    with server.gateway().connect() as c:
        head = f"POST {path('simpleenroll', a.name)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {PKCS10}\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n"
        c.sendall((head + f"Authorization: {basic('car-1', 'msi_' + 'A' * 22)['Authorization']}\r\n\r\n").encode())
        assert c.recv(12) == b"HTTP/1.1 401"


# --- its end -----------------------------------------------------------------------------------------------------------------------------------


def test_it_expires(account, server):
    a, own = account(), new_key()
    code = a.device("invite", "car-1", "--expires", "2s")["code"]
    used = a.device("invite", "car-2", "--expires", "2s")["code"]
    assert isinstance(took(come(server, a, "car-2", used, own), own), Device)
    time.sleep(2.1)
    assert invitations(a) == {"car-1": "expired", "car-2": "spent"}
    assert said(come(server, a, "car-1", code)) == (403, "invitation_expired")
    assert said(come(server, a, "car-2", used, own)) == (403, "invitation_expired"), "not even the same again, as with a provisioning key"
    assert said(come(server, a, "car-1", "msi_" + "A" * 22)) == (401, "invitation_invalid"), "who does not have the code is not told"
    assert isinstance(took(come(server, a, "car-1", invite(a, "car-1"), own := new_key()), own), Device) and whole(a)


def test_a_new_one_takes_the_place_of_the_old(account, server):
    a, own, other = account("--reprovision", "replace"), new_key(), new_key()
    first = invite(a, "car-1")
    second = invite(a, "car-1")
    assert first != second and said(come(server, a, "car-1", first)) == (401, "invitation_invalid")
    device = took(come(server, a, "car-1", second, own), own)
    assert ask(server, device) is None
    third = invite(a, "car-1")  # it lost its key; what a wiped device may, the account's policy says
    assert said(come(server, a, "car-1", second, own)) == (401, "invitation_invalid")
    assert took(come(server, a, "car-1", third, own), own).cert == device.cert and invitations(a) == {"car-1": "open"}, "nothing was issued, so nothing is spent"
    again = took(come(server, a, "car-1", third, other), other)
    assert ask(server, again) is None and ask(server, device) == "certificate_superseded"
    assert invitations(a) == {"car-1": "spent"} and whole(a)
    assert a.audit("car-1") == ["device.invite", "device.invite", "device.enrol", "device.first_use", "device.invite", "device.enrol", "device.first_use"]


@pytest.mark.parametrize("by", ["device_id", "id"])
def test_it_is_taken_back(account, server, by):
    a, own = account(), new_key()
    made, spent_ = a.device("invite", "car-1"), a.device("invite", "car-2")
    device = took(come(server, a, "car-2", spent_["code"], own), own)
    for one in (made, spent_):
        removed = server.muster("invitation", "remove", one[by], "--account", a.name)
        assert removed["id"] == one["id"] and "code" not in removed
        assert said(come(server, a, one["device_id"], one["code"], own if one is spent_ else None)) == (401, "invitation_invalid")
        refused("not_found", server.muster, "invitation", "remove", one[by], "--account", a.name)
    assert invitations(a) == {} and ask(server, device) is None, "a device that it brought in stays"
    other = account()
    theirs = other.device("invite", "car-1")
    refused("not_found", server.muster, "invitation", "remove", theirs["id"], "--account", a.name)
    assert a.audit("car-1") == ["device.invite", "device.uninvite"] and whole(a) and whole(other)


# --- rules of devices and accounts -----------------------------------------------------------------------------------------------------------------


def test_a_device_that_is_out_stays_out(account, server):
    a = account("--reprovision", "replace")
    key = a.key()
    for device_id, verb, code in (("car-1", "quarantine", "device_quarantined"), ("car-2", "revoke", "device_revoked"), ("car-3", "delete", "device_deleted")):
        before = invite(a, device_id)
        assert ask(server, enrolled(server, key, device_id)) is None
        a.device(verb, device_id, "--yes")
        assert said(come(server, a, device_id, before)) == (403, code), "invited before"
        refused("wrong_state", a.device, "invite", device_id)
    a.device("release", "car-2")  # its tombstone
    assert isinstance(took(come(server, a, "car-2", invite(a, "car-2"), own := new_key()), own), Device) and whole(a)


def test_a_device_that_is_there_is_replaced_as_the_account_says(account, server):
    a = account()
    key = a.key()
    before = invite(a, "car-1")
    device = enrolled(server, key, "car-1")
    assert ask(server, device) is None
    assert said(come(server, a, "car-1", before)) == (409, "device_already_registered")
    refused("wrong_state", a.device, "invite", "car-1")
    a.device("release", "car-1", "--for-reprovision")
    again = took(come(server, a, "car-1", before, own := new_key()), own)
    assert ask(server, again) is None and ask(server, device) == "certificate_superseded"
    asks = account("--reprovision", "ask")
    assert ask(server, enrolled(server, asks.key(), "car-1")) is None
    code, own = invite(asks, "car-1"), new_key()
    assert said(come(server, asks, "car-1", code, own)) == (202, "approval_pending") and asks.device("show", "car-1")["reprovision"] == "asked"
    asks.device("approve", "car-1")
    assert isinstance(took(come(server, asks, "car-1", code, own), own), Device) and whole(a) and whole(asks)


def test_approval_and_announcements_hold_for_who_was_invited(account, server, tmp_path):
    a, own = account("--approval", "yes"), new_key()
    code = invite(a, "car-1")
    for _ in range(2):
        answer = come(server, a, "car-1", code, own)
        assert said(answer) == (202, "device_pending") and retry_after(answer) == 300
    a.device("approve", "car-1")
    assert ask(server, took(come(server, a, "car-1", code, own), own)) is None
    b, listed = account("--expected-only", "yes"), tmp_path / "expected.csv"
    listed.write_text(f"device_id,fingerprint\ncar-1,\ncar-2,{spki_hash(pinned := new_key())}\n")
    server.muster("device", "import", listed, "--account", b.name)
    assert isinstance(took(come(server, b, "car-1", invite(b, "car-1"), own := new_key()), own), Device)
    code = invite(b, "car-2")
    assert said(come(server, b, "car-2", code)) == (403, "device_key_mismatch")
    assert isinstance(took(come(server, b, "car-2", code, pinned), pinned), Device)
    assert said(come(server, b, "car-3", invite(b, "car-3"))) == (202, "device_unexpected")
    assert whole(a) and whole(b)


def test_the_account_s_method_and_end(account, server):
    a = account(method="both")
    code = invite(a, "car-1")
    a.set("--method", "device", "--yes")
    assert said(come(server, a, "car-1", code)) == (403, "method_not_enabled")
    refused("method_not_enabled", a.device, "invite", "car-2")
    server.muster("account", "delete", a.name, "--yes")
    soon((404, "account_unknown"), lambda: said(come(server, a, "car-1", code)))


@pytest.mark.parametrize("options, code", [(["--expires", "yesterday"], "invalid_request"), (["--expires", "0s"], "invalid_request"), (["--expires", "2020-01-01T00:00:00Z"], "invalid_request"),
                                           (["--expires", "367d"], "invalid_request")])
def test_ends_that_are_none(account, options, code):
    refused(code, account().device, "invite", "car-1", *options)


@pytest.mark.parametrize("device_id, code", [("", "device_id_invalid"), ("x" * 129, "device_id_invalid"), ("a\tb", "device_id_invalid"), ("a\u200bb", "device_id_invalid"), ("muster-challenge-1", "device_id_reserved")])
def test_ids_that_cannot_be_invited(account, server, device_id, code):
    a = account()
    answer = server.api("POST", f"/api/v1/accounts/{a.name}/invitations", {"device_id": device_id})
    assert answer.code == code and invitations(a) == {}


# --- guesses --------------------------------------------------------------------------------------------------------------------------------------


def guess(server, a, device_id, **options):
    return come(server, a, device_id, "msi_" + "A" * 22, **options)


def test_guesses_of_one_source_are_limited(fresh):
    s = fresh(config=["limit_guesses = 20"])
    a, own = Account(s), new_key()
    code = invite(a, "car-1")
    device = took(come(s, a, "car-1", code, own), own)
    for _ in range(30):
        assert took(come(s, a, "car-1", code, own), own).cert == device.cert, "a right one is no guess"
    answers = [guess(s, a, f"other-{i}") for i in range(25)]
    assert [x.status for x in answers[:20]] == [401] * 20
    late = [x for x in answers[20:] if x.status == 429]
    assert len(late) >= 4 and all(x.code == "too_many_requests" and 1 <= retry_after(x) <= 3 and "WWW-Authenticate" not in x.headers for x in late)
    assert said(come(s, a, "car-1", code, own)) == (429, "too_many_requests"), "from there not even the right one"
    assert took(come(s, a, "car-1", code, own, source="127.0.0.9"), own).cert == device.cert
    assert counted(s, "muster_limited_total", by="guess") >= 5
    time.sleep(retry_after(late[-1]))
    assert took(come(s, a, "car-1", code, own), own).cert == device.cert


def test_guesses_at_a_device_do_not_keep_it_out(fresh):
    s = fresh(config=["limit_guesses = 20"])
    a, own = Account(s), new_key()
    code = invite(a, "car-1")
    assert {guess(s, a, "car-1", source=f"127.0.1.{i + 1}").status for i in range(60)} == {401}
    assert {guess(s, a, "car-1", source="127.0.1.1").status for i in range(40)} == {401, 429}
    assert isinstance(took(come(s, a, "car-1", code, own, source="127.0.2.1"), own), Device)


# --- where a code must not be -----------------------------------------------------------------------------------------------------------------------


def test_a_code_is_nowhere_but_in_its_answer(fresh):
    s = fresh(config=["log_format = json", "log_requests = all", "log_level = debug"])
    a, own = Account(s), new_key()
    good, wrong = invite(a, "car-1"), invite(a, "car-2")
    took(come(s, a, "car-1", good, own), own)
    heard = [come(s, a, "car-1", good), come(s, a, "nobody", wrong), come(s, a, "car-2", wrong, asks_for="x"), s.gateway().request("GET", "/director/1.root.json", None, basic("car-2", wrong)),
             s.gateway(a.key()).request("POST", path("simpleenroll", a.name), b"x", {"Content-Type": PKCS10, **basic("car-2", wrong)})]
    assert all(x.status in (400, 401, 403) for x in heard)
    soon(True, lambda: len(s.muster("refusal", "list", "--account", a.name)) >= 3, seconds=5)
    texts = [x.body for x in heard] + [str(x.headers).encode() for x in heard]
    texts += [str(s.muster(*what, "--account", a.name)).encode() for what in (("audit", "list"), ("refusal", "list"), ("invitation", "list"), ("device", "show", "car-1"))]
    assert s.stop() == 0
    texts += [s.log_text().encode()] + [f.read_bytes() for f in s.dir.rglob("*") if f.is_file()]
    secrets = [good[4:], wrong[4:], *(basic(d, c)["Authorization"][6:] for d, c in (("car-1", good), ("nobody", wrong), ("car-2", wrong)))]
    assert not [(secret, text[:80]) for secret in secrets for text in texts if secret.encode() in text]


def muster(server, *words):
    return subprocess.run([MUSTER, "--data", server.dir, *words], capture_output=True, text=True, timeout=60)


def test_the_command_line(account, server):
    a = account()
    made = muster(server, "device", "invite", "car-1", "--account", a.name, "--expires", "1d")
    assert made.returncode == 0 and made.stderr == ""
    code = [line.split(": ", 1)[1] for line in made.stdout.splitlines() if line.startswith("code: ")][0]
    assert isinstance(took(come(server, a, "car-1", code, own := new_key()), own), Device)
    listed = muster(server, "invitation", "list", "--account", a.name)
    assert listed.returncode == 0 and "car-1" in listed.stdout and "spent" in listed.stdout and code not in listed.stdout
    for wrong in (["device", "invite", "--account", a.name], ["device", "invite", "car-1"], ["invitation", "remove", "--account", a.name], ["device", "invite", "car-1", "--account", a.name, "--expire", "1d"]):
        assert muster(server, *wrong).returncode == 2, wrong


# --- its certificate lives as any other -------------------------------------------------------------------------------------------------------------


def test_it_renews_late(world):
    a, own = Account(world, "--device-life", LIFE), new_key()
    device = took(come(world, a, "asleep", invite(a, "asleep"), own), own)
    assert ask(world, device) is None
    world.clock.set(60 * DAY)
    assert ask(world, device) == "certificate_expired"
    new = renew(world, device)
    assert ask(world, new) is None and whole(a)
    assert [c["state"] for c in a.device("show", "asleep")["certificates"]] == ["current", "superseded"]


def test_it_renews_after_it_was_replaced(world):
    a, own = Account(world), new_key()
    first = took(come(world, a, "back", invite(a, "back"), own), own)
    assert ask(world, first) is None
    second = renew(world, first)
    assert ask(world, second) is None and ask(world, first) == "certificate_superseded"
    third = renew(world, first)
    assert ask(world, third) is None and ask(world, second) == "certificate_superseded"
    world.clock.set(40 * DAY)
    assert renew(world, second) == (403, "certificate_superseded")
    a.device("release", "back", "--for-reprovision", "--yes")
    fourth = renew(world, second)
    assert ask(world, fourth) is None and ask(world, third) == "certificate_superseded"
    assert a.device("show", "back")["key"] is None and whole(a)


def test_it_is_listed_and_revoked(account, server):
    a, own, other = account(), new_key(), new_key()
    code = invite(a, "car-1")
    device = took(come(server, a, "car-1", code, own), own)
    (listed,) = server.muster("cert", "list", "--account", a.name)
    assert (listed["device_id"], listed["state"], listed["key"], listed["key_name"]) == ("car-1", "issued", None, None)
    assert server.muster("cert", "list", "--account", a.name, "--device", "car-1") == [listed]
    assert ask(server, device) is None
    new = renew(server, device, other)
    assert server.muster("cert", "show", listed["serial"])["state"] == "current"
    server.muster("cert", "revoke", listed["serial"], "--reason", "superseded", "--yes")
    assert ask(server, device) == "certificate_revoked" and renew(server, device) == (403, "certificate_revoked")
    assert said(come(server, a, "car-1", code, own)) == (403, "invitation_spent"), "nor does the code bring it back"
    assert ask(server, new) is None and whole(a)


@pytest.mark.parametrize("when", ["waits", "used"])
def test_one_that_is_revoked_stays_so_for_the_code_and_the_next_one(account, server, when):
    a, own = account(), new_key()
    code = invite(a, "car-1")
    device = took(come(server, a, "car-1", code, own), own)
    assert when == "waits" or ask(server, device) is None
    (listed,) = server.muster("cert", "list", "--account", a.name)
    server.muster("cert", "revoke", listed["serial"], "--reason", "key-compromise", "--yes")
    assert ask(server, device) == "certificate_revoked"
    assert said(come(server, a, "car-1", code, own))[0] == 403
    a.device("release", "car-1", "--for-reprovision", "--yes")
    code = invite(a, "car-1")
    assert said(come(server, a, "car-1", code, own)) == (403, "device_key_barred"), "not for the key that leaked"
    new = took(come(server, a, "car-1", code, other := new_key()), other)
    assert ask(server, new) is None and ask(server, device) == "certificate_revoked" and whole(a)


def test_no_key_s_reach_has_it(account, server):
    a, own = account(), new_key()
    key = a.key("--name", "brings")
    assert ask(server, enrolled(server, key, "by-key")) is None
    device = took(come(server, a, "by-code", invite(a, "by-code"), own), own)
    assert ask(server, device) is None and ask(server, renew(server, device)) is None
    assert [d["device_id"] for d in server.muster("device", "list", "--account", a.name, "--key", "brings")] == ["by-key"]
    assert {c["device_id"] for c in server.muster("cert", "list", "--account", a.name, "--key", "brings")} == {"by-key"}
    assert whole(a)

"""What the gateway refuses is kept: by whom, why, and what to do; TLS that fails before there is a request as well.  Bounded, without secrets, and
each account for itself."""
import concurrent.futures
import socket
import ssl
import subprocess
import time

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from client import Fleet, Gateway
from conftest import refused, soon
from enrolment import PATH

WAIT = 4  # seconds: records are written once a second


def kept(server, account=None, **filters):
    options = [word for key, value in filters.items() for word in (f"--{key}", value)]
    return server.muster("refusal", "list", *(["--account", account] if account else []), *options)


def one(server, account=None, **filters):
    """The one record that these filters find, as soon as it is written."""
    soon(1, lambda: len(kept(server, account, **filters)), WAIT)
    return kept(server, account, **filters)[0]


def show(server, ident, account=None):
    return server.muster("refusal", "show", ident, *(["--account", account] if account else []))


def latest(server, code, account=None):
    """The newest record of a code, as soon as there is one that was seen in this test."""
    since = time.time() - 2
    found = []

    def look():
        found[:] = [r for r in kept(server, account, code=code) if stamp(r["last_seen"]) >= since]
        return bool(found)

    soon(True, look, WAIT)
    return found[0]


def stamp(text):
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone


@pytest.fixture(scope="module")
def fleet(server):
    server.account("acme", "test", "both")
    return server.root("acme", Fleet("Acme Root"))


# --- what a record holds ------------------------------------------------------------------------------------------------------------------


def test_a_refusal_is_found_by_the_error_id_of_its_answer(server, fleet):
    device = fleet.device("late-1", days=(-30, -3))
    answers = [server.gateway(device).request("GET", PATH + "?token=hush", headers={"User-Agent": "agent/1\u202e"}) for _ in range(3)]
    assert {a.code for a in answers} == {"certificate_expired"} and len({a.json["errorId"] for a in answers}) == 3
    r = one(server, "acme", device="late-1")
    soon(3, lambda: show(server, r["id"])["count"], WAIT)
    for answer in answers:
        shown = show(server, answer.json["errorId"], "acme")
        assert shown["id"] == r["id"]
    assert (shown["code"], shown["fix"], shown["account"]) == ("certificate_expired", answers[0].json["fix"], "acme")
    assert "expired 3 days ago" in shown["reason"] and (shown["method"], shown["path"]) == ("GET", PATH)
    assert (shown["address"], shown["host"], shown["tls"], shown["user_agent"], shown["device"]) == ("127.0.0.1", "localhost", "TLSv1.3", "agent/1???", None)
    c = shown["certificate"]
    assert (c["subject"], c["issuer"], c["spki"]) == ("CN=late-1", "CN=Acme Root", device.spki)
    assert int(c["serial"], 16) == device.cert.serial_number
    assert shown["chain"].encode() == device.cert_file.read_bytes()
    assert "hush" not in repr(shown)


def sequence(*parts):
    body = b"".join(parts)
    return (b"\x30" + bytes([len(body)]) if len(body) < 128 else b"\x30\x82" + len(body).to_bytes(2, "big")) + body


def malformed(fleet, cn):
    """A certificate, signed by the fleet's CA, whose first day is in the 99th month: TLS takes it, and nobody can say since when it is valid."""
    good = fleet.device(cn)
    when = good.cert.not_valid_before.strftime("%y%m%d%H%M%SZ").encode()
    tbs = good.cert.tbs_certificate_bytes.replace(when, when[:2] + b"99" + when[4:], 1)
    signature = fleet.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    der = sequence(tbs, bytes.fromhex("300a06082a8648ce3d040302"), b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature)
    assert tbs != good.cert.tbs_certificate_bytes and len(tbs) == len(good.cert.tbs_certificate_bytes)
    good.cert_file.write_text(ssl.DER_cert_to_PEM_cert(der), encoding="ascii")
    return good


def test_a_certificate_that_cannot_be_read(server, fleet):
    device = malformed(fleet, "unreadable")
    for tls in ("1.2", "1.3"):
        answer = server.gateway(device, tls=tls).get(PATH)
        assert (answer.status, answer.code) == (403, "certificate_malformed"), answer
    assert "validity" in latest(server, "certificate_malformed")["reason"]
    assert "unreadable" not in [d["device_id"] for d in server.muster("device", "list", "--account", "acme")]


def test_filters(server, fleet):
    device = fleet.device("filtered", days=(-30, -3))
    server.gateway(device).get(PATH)
    r = one(server, "acme", device="filtered")
    for found in (kept(server, "acme", serial=r["certificate"]["serial"]), kept(server, "acme", fingerprint=r["certificate"]["fingerprint"])):
        assert [x["id"] for x in found] == [r["id"]]
    serial = r["certificate"]["serial"].upper()  # as openssl prints it, and as others do
    for spelled in (serial, "00" + serial, serial.lstrip("0"), ":".join(serial[i:i + 2] for i in range(0, len(serial), 2))):
        assert [x["id"] for x in kept(server, "acme", serial=spelled)] == [r["id"]], spelled
    assert kept(server, "acme", serial="00") == [] and kept(server, "acme", serial="-" + serial) == []
    assert r["id"] in [x["id"] for x in kept(server, "acme", code="certificate_expired", since="1h")]
    assert r["id"] in [x["id"] for x in kept(server, "acme", address="127.0.0.1")]
    assert kept(server, "acme", since="2999-01-01T00:00:00Z") == [] and kept(server, "acme", address="192.0.2.1") == []
    # What finds nothing because it was misspelt, or because a script's variable was empty, is no empty list and no list of all.
    for wrong in ({"code": "x", "device": "y"}, {"since": "soon"}, {"fingerprint": "abc"}, {"code": "certificate_expried"}, {"code": "c" * 100}, {"serial": "12xy"}, {"serial": ":"},
                  {"serial": "-"}, {"device": ""}, {"code": ""}, {"address": ""}, {"serial": ""}, {"fingerprint": ""}):
        refused("invalid_request", lambda: kept(server, "acme", **wrong))
    refused("not_found", show, server, "00000000-0000-8000-8000-000000000000")
    refused("not_found", show, server, "nonsense")


def test_the_newest_comes_first_and_pages_have_each_once(server, fleet):
    devices = [f"paged-{i}" for i in range(5)]
    for d in devices:
        server.gateway(fleet.device(d, days=(-30, -3))).get(PATH)
        time.sleep(0.05)
    soon(5, lambda: len([r for r in kept(server, "acme") if (r["device_id"] or "").startswith("paged-")]), WAIT)
    seen, cursor = [], ""
    while cursor is not None:
        page = server.api("GET", f"/api/v1/accounts/acme/refusals?limit=2{cursor and '&cursor=' + cursor}").json
        seen += page["items"]
        cursor = page["next"]
    assert len({r["id"] for r in seen}) == len(seen) == len(kept(server, "acme"))
    times = [stamp(r["last_seen"]) for r in seen]
    assert all(a >= b - 2 for a, b in zip(times, times[1:])), times  # each loop writes once a second


# --- whom it concerns ---------------------------------------------------------------------------------------------------------------------


def test_a_known_device_is_named(server, fleet):
    device = fleet.device("known-1")
    server.gateway(device).get(PATH)
    server.muster("device", "quarantine", "known-1", "--account", "acme")
    soon("device_quarantined", lambda: server.gateway(device).get(PATH).code)
    r = one(server, "acme", device="known-1")
    row = server.muster("device", "show", "known-1", "--account", "acme")
    assert (r["code"], r["device"], r["device_id"]) == ("device_quarantined", row["id"], "known-1")
    assert kept(server, "acme", device=row["id"]) == [r]


def test_the_key_of_a_known_device_names_it_whatever_its_certificate(server, fleet):
    device = fleet.device("renews")
    server.gateway(device).get(PATH)
    server.gateway(Fleet("Acme Root").device("renews", key=device.key)).get(PATH)
    r = one(server, "acme", device="renews")
    assert r["code"] == "certificate_untrusted" and r["device"]
    assert [n["why"] for n in show(server, r["id"], "acme")["nearest"]] == ["It has this name, but another key than the one that signed the device's chain."]


def test_a_refused_download_is_kept_though_its_answer_is_empty(server, fleet):
    answer = server.gateway(fleet.device("download", days=(-30, -3))).get("/repo/targets/x")
    assert answer.body == b""
    assert one(server, "acme", device="download")["path"] == "/repo/targets/x"
    assert show(server, answer.headers["X-Request-Id"])["device_id"] == "download"


def test_enrolments_are_kept_with_the_id_that_they_asked_for(server, fleet):
    key = server.key("acme", "--id-pattern", "unit-*")
    for device in ("gate-1", "gate-2"):
        assert server.gateway(key).enrol(device).code == "device_id_not_allowed"
    for device in ("gate-1", "gate-2"):
        r = one(server, "acme", device=device)
        assert (r["code"], r["path"], r["device"]) == ("device_id_not_allowed", "/devices", None)


def test_what_an_admitted_device_does_not_find_is_no_refusal(server, fleet):
    device = fleet.device("finds-nothing")
    assert server.gateway(device).get("/nowhere").status == 404
    server.gateway(fleet.device("after-it", days=(-30, -3))).get(PATH)
    one(server, "acme", device="after-it")
    assert kept(server, "acme", device="finds-nothing") == []


def test_strangers_belong_to_nobody_and_whoever_names_an_account_to_it(server, fleet):
    stranger = Fleet("Unheard Of").device("stranger-1")
    server.gateway(stranger).get(PATH)
    assert one(server, device="stranger-1")["account"] is None and kept(server, "acme", device="stranger-1") == []
    server.gateway(stranger, sni=server.host("acme")).get(PATH)
    assert one(server, "acme", device="stranger-1")["account"] == "acme"
    # A host name that is no account's.
    nobody = Gateway(server.port, server.dir / "server-ca.pem", Fleet("Unheard Of").device("stranger-2"), sni="never-made.localhost")
    nobody.context.check_hostname = False
    nobody.get(PATH)
    assert one(server, device="stranger-2")["host"] == "never-made.localhost"


def test_nearest_roots(server, fleet):
    lost = server.root("acme", Fleet("Lost Root"), prove=False)
    namesake = Fleet("Lost Root").device("namesake")
    line = Fleet("Lost Root").intermediate("Lost Line")
    server.gateway(namesake).get(PATH)
    server.gateway(line.device("below", chain=[line.cert])).get(PATH)
    for device in ("namesake", "below"):
        nearest = show(server, one(server, device=device)["id"])["nearest"]
        assert [(n["root"], n["account"], n["state"]) for n in nearest] == [(lost.root["id"], "acme", "unproved")]
        assert "not proved" in nearest[0]["why"]


# --- each for itself ----------------------------------------------------------------------------------------------------------------------


def test_an_account_sees_its_own_and_no_strangers(server, fleet, tmp_path):
    server.account("other", "test", "device")
    server.gateway(fleet.device("mine", days=(-30, -3))).get(PATH)
    server.gateway(Fleet("Unheard Of").device("foreign")).get(PATH)
    mine, foreign = one(server, "acme", device="mine"), one(server, device="foreign")
    token = server.token("other auditor", "auditor", "other")["token"]
    own = server.token("own auditor", "auditor", "acme")["token"]
    assert server.api("GET", "/api/v1/accounts/other/refusals", token=token).json["items"] == []
    for ident in (mine["id"], foreign["id"]):
        assert server.api("GET", f"/api/v1/accounts/other/refusals/{ident}", token=token).status == 404
        assert server.api("GET", f"/api/v1/refusals/{ident}", token=token).status == 403
    assert server.api("GET", f"/api/v1/accounts/acme/refusals/{mine['id']}", token=token).status == 404
    assert server.api("GET", f"/api/v1/accounts/acme/refusals/{mine['id']}", token=own).status == 200
    assert server.api("GET", f"/api/v1/accounts/acme/refusals/{foreign['id']}", token=own).status == 404
    assert server.api("GET", "/api/v1/refusals", token=own).status == 403


# --- TLS ----------------------------------------------------------------------------------------------------------------------------------


def openssl(server, *options, sni=None):
    return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", *(["-servername", sni] if sni else ["-noservername"]), *options],
                          input=b"", capture_output=True, check=False, timeout=30)


def raw(server, data, wait=0.2):
    with socket.create_connection(("127.0.0.1", server.port)) as c:
        if data:
            c.sendall(data)
        time.sleep(wait)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_device_that_does_not_trust_the_gateway(server, fleet, version):
    device = fleet.device("distrusts" + version)
    openssl(server, version, "-verify_return_error", "-no-CAfile", "-no-CApath", "-no-CAstore", "-cert", device.cert_file, "-key", device.key_file, sni="acme.localhost")
    r = latest(server, "tls_client_rejected_server", "acme")
    assert "does not know the CA" in r["reason"] and "server CA" in r["fix"] and r["method"] is None and r["host"] == "acme.localhost"


def test_a_device_that_connects_by_a_name_that_the_gateway_does_not_have(server):
    context = ssl.create_default_context(cafile=str(server.dir / "server-ca.pem"))
    with pytest.raises(ssl.SSLCertVerificationError), socket.create_connection(("127.0.0.1", server.port)) as c:
        context.wrap_socket(c, server_hostname="elsewhere.example")
    assert latest(server, "tls_client_rejected_server")["host"] == "elsewhere.example"


def test_tls_that_is_too_old(server):
    openssl(server, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert "TLS 1.2" in latest(server, "tls_protocol_unsupported")["fix"]


def test_tls_without_anything_in_common(server):
    openssl(server, "-tls1_2", "-cipher", "AES128-SHA")
    assert "cipher" in latest(server, "tls_no_common_algorithm")["reason"]
    openssl(server, "-alpn", "h2")
    soon(True, lambda: "ALPN" in latest(server, "tls_no_common_algorithm")["reason"], WAIT)


def test_what_is_no_tls(server):
    raw(server, b"GET /director/root.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert latest(server, "tls_not_tls")["reason"] == "The client sent a plain HTTP request to the TLS port."
    raw(server, b"SSH-2.0-OpenSSH_9.2\r\n")
    soon("What arrived is not TLS.", lambda: latest(server, "tls_not_tls")["reason"], WAIT)


def test_a_client_that_goes_in_the_middle(server):
    # A ClientHello that the server answers, and nothing after it.
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="gone.localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    raw(server, outgoing.read())
    gone = latest(server, "tls_handshake_aborted")
    assert gone["host"] == "gone.localhost"
    # Who only looks whether somebody listens is not refused.
    raw(server, b"", wait=0)
    openssl(server, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    latest(server, "tls_protocol_unsupported")
    assert [r["count"] for r in kept(server, code="tls_handshake_aborted")] == [gone["count"]]


def test_a_handshake_that_does_not_end(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as c:
        c.sendall(b"\x16\x03\x01")
        assert c.recv(1) == b""  # after 10 s
    assert latest(server, "tls_handshake_timeout")["code"] == "tls_handshake_timeout"


# --- floods -------------------------------------------------------------------------------------------------------------------------------


def test_a_flood_is_bounded_and_pushes_nobody_out(fresh):
    """Strangers with a new certificate each time: so many rows a second at most, and a share for one source; the devices' records stay."""
    s = fresh()
    s.account("acme", "test", "device")
    fleet = s.root("acme", Fleet("Acme Root"))
    device = fleet.device("known-1")
    s.gateway(device).get(PATH)
    s.muster("device", "revoke", "known-1", "--account", "acme")
    soon("device_revoked", lambda: s.gateway(device).get(PATH).code)
    one(s, "acme", device="known-1")
    host, began, sent = s.host("acme"), time.monotonic(), 0
    flooder = Fleet("Flood Root")
    key = flooder.device("flood").key
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        while time.monotonic() - began < 7 or sent < 100:
            burst = [flooder.device(f"flood-{sent + i}", key=key) for i in range(24)]
            list(pool.map(lambda d: s.gateway(d, sni=host).get(PATH), burst))
            sent += len(burst)
    time.sleep(2.5)
    rows = [r for r in kept(s, "acme") if (r["device_id"] or "").startswith("flood-")]
    assert len(rows) <= 64 < sent, (len(rows), sent)  # REFUSALS_SOURCE
    assert [r["code"] for r in kept(s, "acme", device="known-1")] == ["device_revoked"]
    assert s.stop() == 0
    assert "refusals_not_kept" in s.log_text()
    db = s.database()
    assert db.execute("SELECT COUNT(*) FROM refusal").fetchone()[0] <= 70
    assert db.execute("SELECT COUNT(*) FROM refusal_chain").fetchone()[0] <= 70
    db.close()


def test_every_query_of_refusals_uses_an_index(fresh):
    s = fresh(start=False)
    db = s.database()
    here = __file__.rsplit("/tests/", 1)[0]
    text = open(here + "/src/registry/statements.def", encoding="utf-8").read()
    seen = 0
    for block in text.split("\nS(")[1:]:
        name = block.split(",", 1)[0].strip()
        if not name.startswith("REFUSAL_") or name in ("REFUSAL_ADD", "REFUSAL_CHAIN_ADD"):
            continue
        sql = "".join(block.split('"')[1::2]).replace("SELECT  FROM refusal", "SELECT * FROM refusal").split("S(")[0]
        plan = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + sql.replace("SELECT  FROM", "SELECT * FROM"), [1] * max(int(w.split(" ")[0].rstrip("),")) for w in sql.split("?")[1:]))]
        for step in plan:
            assert not step.startswith("SCAN refusal") or "LIMIT" in sql and name == "REFUSAL_AGE_OUT", (name, plan)
            assert "TEMP B-TREE" not in step, (name, plan)
        seen += 1
    assert seen >= 11
    db.close()

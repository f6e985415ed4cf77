"""`muster explain`: what it says of a chain is what the gateway says, for every kind of verdict, and it leaves nothing behind."""
import json
import sqlite3
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from client import Device, Fleet, new_key
from conftest import MUSTER, refused, soon
from enrolment import PATH

CA = (x509.BasicConstraints(True, None), True)


def explain(server, identity, account, *options, status=None):
    """The document, whose verdict has to be that of the exit status."""
    given = [identity.cert_file] if identity else []
    done = subprocess.run([MUSTER, "--data", server.dir, "explain", *given, "--account", account, *options, "--json"], capture_output=True, text=True, timeout=60, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["verdict"] == "admitted" else 1) and said["id"], done
    assert (said["code"] is None) == (said["fix"] is None) == (said["rule"] is None) == (said["verdict"] == "admitted"), said
    assert said["code"] is None or said["code"] in done.stderr
    return said


def gateway(server, identity, enrols=None, **options):
    """The gateway's code; None: admitted."""
    client = server.gateway(identity, **options)
    answer = client.enrol(enrols) if enrols else client.get(PATH)
    return None if answer.status in (200, 404) else answer.code


def dump(server):
    """Everything that the registry holds, but what the gateway writes by itself."""
    db = sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True)
    tables = [t for (t,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name") if not t.startswith("refusal")]
    rows = {t: db.execute(f"SELECT * FROM {t}").fetchall() for t in tables}
    db.close()
    return rows


class World:
    def __init__(self, server):
        self.server = server
        for account in ("acme", "other"):
            server.account(account, "test", "both")
        self.fleet, self.foreign = server.root("acme", Fleet("Acme Root")), server.root("other", Fleet("Other Root"))
        self.host = server.host("acme")
        server.host("other")

    def both(self, identity, enrols=None, explained=None, **options):
        """Explain, then the gateway: the order in which nothing may have changed between them."""
        before = dump(self.server)
        words = ["--device", enrols] if enrols else []
        said = explain(self.server, explained or identity, "acme", *words)
        assert dump(self.server) == before, "explaining has left something"
        code = gateway(self.server, identity, enrols, sni=self.host, **options)
        assert said["code"] == code, (said, code)
        return said


@pytest.fixture(scope="module")
def w(server):
    return World(server)


# --- the same verdict ----------------------------------------------------------------------------------------------------------------------


def chains(w):
    """name → (identity, the code that both have to give)"""
    fleet = w.fleet
    line = fleet.intermediate("Line 1")
    old_line = fleet.intermediate("Old Line", days=(-30, -2))
    sha1 = fleet.device("sha1", digest=hashes.SHA1())
    return {
        "new": (fleet.device("new"), None),
        "under an intermediate": (line.device("under-line", chain=[line.cert]), None),
        "without the intermediate": (line.device("no-line"), "certificate_untrusted"),
        "unknown CA": (Fleet("Nobody").device("nobody"), "certificate_untrusted"),
        "same name, other key": (Fleet("Acme Root").device("namesake"), "certificate_untrusted"),
        "self-signed": (Fleet("self", extensions=[]).device("self"), "certificate_untrusted"),
        "expired": (fleet.device("late", days=(-30, -3)), "certificate_expired"),
        "early": (fleet.device("early", days=(3, 30)), "certificate_not_yet_valid"),
        "expired intermediate": (old_line.device("old-line", chain=[old_line.cert]), "certificate_expired"),
        "a CA": (fleet.device("ca", extensions=[CA]), "certificate_is_ca"),
        "for servers": (fleet.device("server", extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]), "certificate_purpose"),
        "weak key": (fleet.device("weak", kind="rsa1024"), "certificate_weak_key"),
        "weak hash": (sha1, "certificate_weak_signature"),
        "chain too long": (fleet.device("long", chain=[Fleet(f"extra {i}").cert for i in range(8)]), "chain_too_long"),
        "no name": (fleet.device(None), "device_id_missing"),
        "two names": (fleet.device(["a", "b"]), "device_id_ambiguous"),
        "a reserved name": (fleet.device("localhost"), "device_id_reserved"),
        "another account's": (w.foreign.device("theirs"), "certificate_of_other_account"),
    }


@pytest.mark.parametrize("name", ["new", "under an intermediate", "without the intermediate", "unknown CA", "same name, other key", "self-signed", "expired", "early",
                                  "expired intermediate", "a CA", "for servers", "weak key", "weak hash", "chain too long", "no name", "two names", "a reserved name",
                                  "another account's"])
def test_chains(w, name):
    identity, expected = chains(w)[name]
    said = w.both(identity, weak=True)
    assert said["code"] == expected
    assert [c["subject"] for c in said["chain"]][0] == identity.cert.subject.rfc4514_string().replace("\\ ", " ") or name in ("no name", "two names")


def test_first_contact_is_announced_and_does_not_happen(w):
    device = w.fleet.device("first-contact")
    said = explain(w.server, device, "acme")
    assert (said["verdict"], said["would_register"], said["device"], said["device_id"]) == ("admitted", True, None, "first-contact")
    assert said["root"]["id"] == w.fleet.root["id"] and said["kind"] == "device"
    refused("not_found", w.server.muster, "device", "show", "first-contact", "--account", "acme")
    assert [e for e in w.server.muster("audit", "list", "--account", "acme") if e["object"] == "first-contact"] == []
    assert gateway(w.server, device) is None
    said = explain(w.server, device, "acme")
    shown = w.server.muster("device", "show", "first-contact", "--account", "acme")
    assert (said["verdict"], said["would_register"], said["device"]) == ("admitted", False, shown["id"])


@pytest.mark.parametrize("verb,code", [("quarantine", "device_quarantined"), ("revoke", "device_revoked"), ("delete", "device_deleted")])
def test_states_of_devices(w, verb, code):
    device = w.fleet.device("state-" + verb)
    assert gateway(w.server, device) is None
    w.server.muster("device", verb, "state-" + verb, "--account", "acme")
    soon(code, lambda: gateway(w.server, device))
    said = w.both(device)
    assert said["code"] == code and said["device_id"] == "state-" + verb and said["device"]


def test_another_key_is_not_recorded_as_an_offer(w):
    assert gateway(w.server, w.fleet.device("keyed")) is None
    other = w.fleet.device("keyed")
    assert explain(w.server, other, "acme")["code"] == "device_key_mismatch"
    assert w.server.muster("device", "show", "keyed", "--account", "acme")["offered_keys"] == []
    assert w.both(other)["code"] == "device_key_mismatch"
    assert len(w.server.muster("device", "show", "keyed", "--account", "acme")["offered_keys"]) == 1


def test_a_key_of_another_device(w):
    key = new_key()
    assert gateway(w.server, w.fleet.device("holder", key=key)) is None
    assert w.both(w.fleet.device("taker", key=key))["code"] == "device_key_elsewhere"


def test_states_of_roots(w):
    fleet = w.server.root("acme", Fleet("State Root"), prove=False)
    device = fleet.device("root-state")
    assert w.both(device)["code"] == "root_unproved"
    path = w.server.dir.parent / "state-root.pem"
    path.write_bytes(fleet.proof_pem(fleet.root["challenge"]))
    w.server.muster("root", "prove", fleet.root["id"], path)
    w.server.muster("root", "set", fleet.root["id"], "--state", "known-only")
    soon("root_known_only", lambda: gateway(w.server, device))
    assert w.both(device)["code"] == "root_known_only"
    w.server.muster("root", "disable", fleet.root["id"], "--yes")
    soon("root_disabled", lambda: gateway(w.server, device))
    said = w.both(device)
    assert (said["code"], said["root"]["state"]) == ("root_disabled", "disabled")
    w.server.muster("root", "revoke", fleet.root["id"], "--yes")
    soon("root_revoked", lambda: gateway(w.server, device))
    assert w.both(device)["code"] == "root_revoked"


def test_approval_and_announcement(w):
    s = w.server
    s.account("wait", "test", "device", "--approval", "yes")
    s.account("list", "test", "device", "--expected-only", "yes")
    for account, code in (("wait", "device_pending"), ("list", "device_unexpected")):
        fleet = s.root(account, Fleet(account + " root"))
        device = fleet.device("comes")
        before = dump(s)
        said = explain(s, device, account)
        assert dump(s) == before
        assert said["code"] == code == gateway(s, device) == explain(s, device, account)["code"]


def test_a_certificate_of_muster_s_own(w):
    key = w.server.key("acme")
    device = Device(w.server.gateway(key).enrol("own-1").body)
    before = dump(w.server)
    said = explain(w.server, device, "acme")
    assert (said["verdict"], said["would_register"], said["device_id"]) == ("admitted", False, "own-1")
    assert dump(w.server) == before
    assert w.server.muster("device", "show", "own-1", "--account", "acme")["certificates"][0]["first_used"] is None
    assert w.both(device)["verdict"] == "admitted"
    w.server.muster("device", "revoke", "own-1", "--account", "acme")
    soon("device_revoked", lambda: gateway(w.server, device))
    assert w.both(device)["code"] == "device_revoked"


# --- provisioning keys -----------------------------------------------------------------------------------------------------------------------


def test_what_a_provisioning_key_may_do(w):
    s = w.server
    key = s.key("acme", "--max-devices", "1", "--id-pattern", "unit-*", "--source", "127.0.0.0/8")
    said = explain(s, key, "acme")
    assert (said["verdict"], said["kind"], said["key"]["id"], said["key"]["max_devices"]) == ("admitted", "provisioning-key", key.shown["id"], 1)
    assert explain(s, key, "acme", "--address", "192.0.2.1")["code"] == "provisioning_key_source"
    assert w.both(key, enrols="gate-1")["code"] == "device_id_not_allowed"
    assert w.both(key, enrols="unit-1")["verdict"] == "admitted"
    assert w.both(key, enrols="unit-2")["code"] == "provisioning_key_exhausted"
    assert explain(s, key, "acme")["code"] == "provisioning_key_exhausted"
    s.muster("key", "blacklist", key.shown["id"])
    assert w.both(key, enrols="unit-3")["code"] == "provisioning_key_blacklisted"
    assert w.both(s.key("acme"), enrols="own-1")["code"] in ("device_revoked", None)
    later = explain(s, s.key("acme", "--expires", "10d"), "acme", "--at", "20d")
    assert later["code"] == "provisioning_key_expired"


def test_a_provisioning_key_of_another_account(w):
    said = explain(w.server, w.server.key("other"), "acme")
    assert said["code"] == "certificate_of_other_account" and said["key"] is None and said["kind"] is None


# --- time and host -----------------------------------------------------------------------------------------------------------------------------


def test_at_another_time(w):
    device = w.fleet.device("timely", days=(-1, 30))
    assert explain(w.server, device, "acme")["code"] is None
    assert explain(w.server, device, "acme", "--at", "60d")["code"] == "certificate_expired"
    assert explain(w.server, device, "acme", "--at", "2001-01-01T00:00:00Z")["code"] == "certificate_not_yet_valid"
    late = w.fleet.device("was-good", days=(-30, -3))
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 10 * 86400))
    assert explain(w.server, late, "acme")["code"] == "certificate_expired" and explain(w.server, late, "acme", "--at", then)["at"] == then


def test_hosts(w):
    shared = Fleet("Shared Root")
    for account in ("acme", "other"):
        w.server.root(account, shared)
    device = shared.device("which")
    assert explain(w.server, device, "acme", "--host", "localhost")["code"] == "account_ambiguous" == gateway(w.server, device)
    assert explain(w.server, device, "acme", "--host", "other.localhost")["code"] == "certificate_of_other_account"
    assert explain(w.server, device, "acme")["code"] is None


def test_nothing_of_another_account_is_told(w):
    """Whatever host name is asked for."""
    device = w.foreign.device("quokka-secret")
    assert gateway(w.server, device, sni="other.localhost") is None
    w.server.muster("device", "quarantine", "quokka-secret", "--account", "other")
    theirs = w.server.muster("device", "show", "quokka-secret", "--account", "other")["id"]
    token = w.server.token("acme owner", "owner", "acme")["token"]
    pem = device.cert_file.read_text()
    for host in (None, "localhost", "other.localhost", "acme.localhost", "nowhere.example"):
        answer = w.server.api("POST", "/api/v1/accounts/acme/explain", {"chain": pem, **({"host": host} if host else {})}, token=token)
        assert answer.status == 200 and answer.code == "certificate_of_other_account", answer
        assert theirs not in answer.body.decode() and w.foreign.root["id"] not in answer.body.decode() and b"quarantine" not in answer.body
        assert answer.json["device_id"] is None and answer.json["root"] is None
    assert w.server.api("POST", "/api/v1/accounts/other/explain", {"chain": pem}, token=token).status == 404
    new = {"chain": w.foreign.device("numbat-secret").cert_file.read_text(), "host": "other.localhost"}
    said = w.server.api("POST", "/api/v1/accounts/acme/explain", new, token=token).json
    assert (said["code"], said["would_register"], said["kind"]) == ("certificate_of_other_account", False, None), "it would be registered there"
    assert w.server.api("POST", "/api/v1/accounts/other/explain", new).json["would_register"]


# --- over a kept refusal -----------------------------------------------------------------------------------------------------------------------


def test_a_kept_refusal_is_explained_again(w):
    """Before and after it was mended."""
    lost = Fleet("Found Later")
    device = lost.device("found-later")
    answer = w.server.gateway(device, sni=w.host).get(PATH)
    assert answer.code == "certificate_untrusted"
    ident = answer.json["errorId"]
    soon(True, lambda: bool(w.server.muster("refusal", "list", "--account", "acme", "--device", "found-later")), 4)
    said = explain(w.server, None, "acme", "--refusal", ident)
    assert (said["code"], said["host"]) == ("certificate_untrusted", w.host)
    w.server.root("acme", lost)
    said = explain(w.server, None, "acme", "--refusal", ident)
    assert (said["verdict"], said["would_register"], said["device_id"]) == ("admitted", True, "found-later")
    token = w.server.token("other again", "auditor", "other")["token"]
    assert w.server.api("POST", "/api/v1/accounts/other/explain", {"refusal": ident}, token=token).status == 404


def test_a_kept_enrolment_is_explained_as_one(w):
    key = w.server.key("acme", "--id-pattern", "good-*")
    answers = [w.server.gateway(key, sni=w.host).enrol("bad-1"), w.server.gateway(key, sni=w.host).get(PATH)]
    soon(True, lambda: len([r for r in w.server.muster("refusal", "list", "--account", "acme", "--fingerprint", fingerprint(key))]) == 2, 4)
    for answer, code in zip(answers, ("device_id_not_allowed", "provisioning_key_only_enrols")):
        assert explain(w.server, None, "acme", "--refusal", answer.json["errorId"])["code"] == code == answer.code


def test_a_kept_request_is_explained_as_what_it_was(w):
    """Another POST than an enrolment; from where it came, and to which host, unless another is asked about."""
    key = w.server.key("acme", "--source", "10.0.0.0/8")
    event, far = w.server.gateway(key, sni=w.host).request("POST", "/events", body=b"[]"), w.server.gateway(key, sni=w.host).enrol("far-1")
    assert (event.code, far.code) == ("provisioning_key_only_enrols", "provisioning_key_source")
    soon(2, lambda: len(w.server.muster("refusal", "list", "--account", "acme", "--fingerprint", fingerprint(key))), 4)
    for answer in (event, far):
        said = explain(w.server, None, "acme", "--refusal", answer.json["errorId"])
        assert (said["code"], said["host"]) == (answer.code, w.host)
    assert explain(w.server, None, "acme", "--refusal", far.json["errorId"], "--address", "10.9.8.7")["verdict"] == "admitted"
    said = explain(w.server, None, "acme", "--refusal", far.json["errorId"], "--host", w.server.host("other"))
    assert (said["code"], said["host"]) == ("certificate_of_other_account", w.server.host("other"))
    both = {"chain": key.cert_file.read_text(), "refusal": far.json["errorId"]}
    assert w.server.api("POST", "/api/v1/accounts/acme/explain", both).status == 400, "one of them"


def test_a_kept_request_is_explained_at_the_host_that_it_asked(w):
    """Not at the account's own name, under which the answer would be another."""
    twice = Fleet("Twice Root")
    for account in ("acme", "other"):
        w.server.root(account, twice)
    answer = w.server.gateway(twice.device("which-account")).get(PATH)
    assert answer.code == "account_ambiguous"
    ident = answer.json["errorId"]
    path = "/api/v1/accounts/acme/explain"
    soon(200, lambda: w.server.api("POST", path, {"refusal": ident}).status, 4)
    said = w.server.api("POST", path, {"refusal": ident}).json
    assert (said["code"], said["host"]) == ("account_ambiguous", "localhost")
    assert w.server.api("POST", path, {"refusal": ident, "host": w.host}).json["verdict"] == "admitted"


def test_another_account_s_key_is_not_told_with_a_refusal_of_one_s_own(w):
    """It was shown at this account's name, so that the record is this account's; the key is not."""
    key = w.server.key("other", "--name", "bilby-secret")
    answer = w.server.gateway(key, sni=w.host).get(PATH)
    assert answer.code == "provisioning_key_only_enrols"
    token = w.server.token("acme reader", "auditor", "acme")["token"]
    ident, path = {"refusal": answer.json["errorId"]}, "/api/v1/accounts/acme/explain"
    soon(200, lambda: w.server.api("POST", path, ident, token=token).status, 4)
    said = w.server.api("POST", path, ident, token=token)
    assert said.code == "provisioning_key_only_enrols" and said.json["key"] is None
    assert b"bilby" not in said.body


def fingerprint(identity):
    return identity.cert.fingerprint(hashes.SHA256()).hex()


# --- the request ---------------------------------------------------------------------------------------------------------------------------------


def test_what_is_no_chain(w, tmp_path):
    key = w.fleet.device("with-key")
    path = tmp_path / "mixed.pem"
    path.write_bytes(key.cert_file.read_bytes() + key.key_file.read_bytes())
    for content in (path.read_bytes(), b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key.cert_file.read_bytes() * 40):
        path.write_bytes(content)
        refused_codes = ("invalid_request", "certificate_malformed", "invalid_json")
        done = subprocess.run([MUSTER, "--data", w.server.dir, "explain", path, "--account", "acme"], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1 and any(code in done.stderr for code in refused_codes), (content[:40], done)
        assert "PRIVATE" not in done.stderr
    for words in ([], [path, "--refusal", "x"]):
        assert subprocess.run([MUSTER, "--data", w.server.dir, "explain", *words, "--account", "acme"], capture_output=True, check=False, timeout=60).returncode == 2
    for body in ({}, {"chain": "x", "refusal": "y"}, {"chain": key.cert_file.read_text(), "at": "soon"}, {"chain": key.cert_file.read_text(), "host": "a b"}):
        assert w.server.api("POST", "/api/v1/accounts/acme/explain", body).status == 400, body
    assert w.server.api("POST", "/api/v1/accounts/acme/explain", {"refusal": "00000000-0000-8000-8000-000000000000"}).status == 404

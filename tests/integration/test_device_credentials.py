"""Provisioning with device credentials: a fleet root of one's own is uploaded and proved; devices arrive with certificates under it."""
import json
import sqlite3
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client import Fleet, key_pem, name, new_key
from conftest import Refused, refused, soon, stays

PATH = "/director/2.root.json"
CA = (x509.BasicConstraints(True, None), True)


def ask(server, identity, **options):
    answer = server.gateway(identity, **options).get(PATH)
    assert answer.status in (404, 403, 409, 421), answer
    if answer.status == 404:
        return None
    assert answer.headers["Content-Type"] == "application/json"
    assert {"code", "description", "fix", "errorId"} <= set(answer.json) and answer.json["fix"]
    return answer.code


def prove(server, shown, pem):
    path = server.dir.parent / f"proof-{time.monotonic_ns()}.pem"
    path.write_bytes(pem)
    return server.muster("root", "prove", shown["id"], path)


_accounts = 0


@pytest.fixture
def account(server):
    """An account of the test's own."""
    global _accounts
    _accounts += 1
    made = f"cred-{_accounts}"
    server.account(made, "test", "device")
    return made


@pytest.fixture(scope="module")
def shared(server):
    """(account, fleet) for tests that only bring devices."""
    server.account("fleet", "test", "device")
    return "fleet", server.root("fleet")


def show(server, account, device_id):
    return server.muster("device", "show", device_id, "--account", account)


# --- upload and proof -------------------------------------------------------------------------------------------------------------------


def test_upload_challenge_proof(server, account):
    fleet = server.root(account, Fleet("Proved Root"), prove=False)
    shown = fleet.root
    assert (shown["state"], shown["origin"], shown["id_rule"], shown["key_rule"]) == ("unproved", "uploaded", "cn", "never")
    assert shown["subject"] == "CN=Proved Root" and shown["devices"] == 0
    prefix, _, random = shown["challenge"].rpartition("-")
    assert len(random) == 32 and int(random, 16) >= 0 and prefix  # 128 bits behind the reserved prefix
    device = fleet.device("proved-1")
    assert ask(server, device) == "root_unproved"
    proved = prove(server, shown, fleet.proof_pem(shown["challenge"]))
    assert (proved["state"], proved["challenge"], proved["id"]) == ("active", None, shown["id"])
    soon(None, lambda: ask(server, device))
    assert server.muster("root", "show", shown["id"])["devices"] == 1
    # Used once.
    refused("wrong_state", prove, server, shown, fleet.proof_pem(shown["challenge"]))
    actions = [e["action"] for e in server.muster("audit", "list", "--account", account)]
    assert actions == ["account.create", "root.upload", "root.prove", "device.first_contact"]


def test_a_second_upload_gives_a_new_challenge_and_ends_the_first(server, account):
    fleet = server.root(account, prove=False)
    first = fleet.root
    second = server.root(account, fleet, prove=False).root
    assert second["challenge"] != first["challenge"]
    refused("not_found", server.muster, "root", "show", first["id"])
    refused("proof_invalid", prove, server, second, fleet.proof_pem(first["challenge"]))
    assert prove(server, second, fleet.proof_pem(second["challenge"]))["state"] == "active"


def test_a_proof_has_the_challenge_and_the_key(server, account):
    fleet = server.root(account, Fleet("Same Name"), prove=False)
    challenge = fleet.root["challenge"]
    for wrong in (Fleet("Same Name").proof_pem(challenge),                     # another key
                  fleet.proof_pem(challenge[:-1] + "x"), fleet.proof_pem(challenge.upper()), fleet.proof_pem("other"),
                  fleet.proof_pem([challenge, challenge]), fleet.proof_pem(None),
                  fleet.root_pem()):
        refused("proof_invalid", prove, server, fleet.root, wrong)
    for no_certificate in (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"nothing at all", b"", key_pem(fleet.key)):
        with pytest.raises(Refused) as said:
            prove(server, fleet.root, no_certificate)
        assert said.value.code in ("proof_invalid", "invalid_request")
    # A challenge is one account's.
    server.account(account + "-b", "test", "device")
    other = server.root(account + "-b", fleet, prove=False).root
    assert other["challenge"] != challenge
    refused("proof_invalid", prove, server, other, fleet.proof_pem(challenge))
    assert server.muster("root", "show", fleet.root["id"])["state"] == "unproved"


def test_a_proof_by_an_intermediate_activates_the_intermediate_alone(server, account):
    fleet = server.root(account, Fleet("Root Above"), prove=False)
    line, other = fleet.intermediate("Line 1"), fleet.intermediate("Line 2")
    # A proof under an intermediate needs that intermediate in the file.
    refused("proof_invalid", prove, server, fleet.root, line.proof_pem(fleet.root["challenge"]))
    refused("proof_invalid", prove, server, fleet.root, line.proof_pem(fleet.root["challenge"], [other.cert]))
    proved = prove(server, fleet.root, line.proof_pem(fleet.root["challenge"], [line.cert]))
    assert (proved["state"], proved["subject"]) == ("active", "CN=Line 1")
    soon(None, lambda: ask(server, line.device("under-line-1", chain=[line.cert])))
    assert ask(server, line.device("without-chain")) is None
    assert ask(server, fleet.device("under-root")) == "certificate_untrusted"
    assert ask(server, other.device("under-line-2", chain=[other.cert, fleet.cert])) == "certificate_untrusted"


def test_a_root_that_cannot_be_one(server, account):
    ca = [CA]
    for pem in (Fleet("Leaf", extensions=[]).root_pem(),
                Fleet("No CA", extensions=[(x509.BasicConstraints(False, None), True)]).root_pem(),
                Fleet("Expired", days=(-10, -1)).root_pem(), Fleet("Early", days=(1, 10)).root_pem(), Fleet("Weak", kind="rsa1024").root_pem(),
                Fleet("No signing", extensions=ca + [(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)]).root_pem(),
                key_pem(new_key()), b"no certificate", b""):
        path = server.dir.parent / "unfit.pem"
        path.write_bytes(pem)
        with pytest.raises(Refused) as said:
            server.muster("root", "upload", path, "--account", account)
        assert said.value.code in ("root_unfit", "invalid_request"), said.value.text
    sha1 = Fleet("SHA-1")
    sha1.cert = sha1._sign(name("SHA-1"), sha1.key, ca, (-1, 10), digest=hashes.SHA1())
    refused("root_unfit", server.root, account, sha1)
    assert server.muster("root", "list", "--account", account) == []


@pytest.mark.parametrize("kind", ["rsa2048", "p384", "p521", "ed25519"])
def test_roots_of_every_kind_of_key(server, account, kind):
    fleet = server.root(account, Fleet(f"Root {kind}", kind=kind))
    assert fleet.root["state"] == "active"
    soon(None, lambda: ask(server, fleet.device(f"under-{kind}")))


def test_a_root_made_by_muster_cannot_be_uploaded_elsewhere(server, account):
    server.account(account + "-m", "test", "shared")
    own = server.muster("root", "list", "--account", account + "-m")[0]
    assert own["origin"] == "muster"
    path = server.dir.parent / "muster-root.pem"
    path.write_bytes(server.api("GET", f"/api/v1/accounts/{account}-m/roots/{own['id']}/certificate").body)
    refused("root_is_musters", server.muster, "root", "upload", path, "--account", account)
    # Nor the CAs below and beside it, nor a certificate made up around their keys.
    db = sqlite3.connect(f"file:{server.dir}/registry.db?mode=ro", uri=True)
    cas = db.execute("SELECT der FROM ca").fetchall()
    db.close()
    assert cas
    for (der,) in cas:
        path.write_bytes(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM))
        refused("root_is_musters", server.muster, "root", "upload", path, "--account", account)
    forged = Fleet("Forged")
    public = x509.load_pem_x509_certificate(server.api("GET", f"/api/v1/accounts/{account}-m/roots/{own['id']}/certificate").body).public_key()

    class Borrowed:
        public_key = staticmethod(lambda: public)

    forged.cert = forged._sign(name("Forged"), Borrowed, [CA], (-1, 100))
    refused("root_is_musters", server.root, account, forged, prove=False)
    refused("wrong_state", server.muster, "root", "set", own["id"], "--id-rule", "san-dns")


def test_the_server_ca_cannot_be_uploaded(server, account):
    path = server.dir / "server-ca.pem"
    refused("root_is_musters", server.muster, "root", "upload", path, "--account", account)
    assert server.muster("root", "list", "--account", account) == []


def test_first_contact_in_an_account_without_the_method_says_so(server, account):
    server.account(account + "-off", "test", "both")
    fleet = server.root(account + "-off")
    server.muster("account", "set", account + "-off", "--method", "shared")
    soon("method_not_enabled", lambda: ask(server, fleet.device("new-one")))
    # A root that was uploaded there and never proved says nothing.
    server.account(account + "-b", "test", "both")
    other = server.root(account + "-b", Fleet("Unproved"), prove=False)
    server.muster("account", "set", account + "-b", "--method", "shared")
    soon("certificate_untrusted", lambda: ask(server, other.device("new-two")))
    # And where another account has the method and the root, that one counts.
    server.root(account, fleet)
    soon(None, lambda: ask(server, fleet.device("new-three")))


def test_a_challenge_ends_after_a_day(fresh):
    s = fresh()
    s.account("day", "test", "device")
    fleet = s.root("day", prove=False)
    assert s.stop() == 0
    db = s.database()
    left = db.execute("SELECT challenge_expires FROM root").fetchone()[0] - time.time()
    assert 23.9 * 3600 < left <= 24 * 3600
    db.execute("UPDATE root SET challenge_expires = ?", (int(time.time()) - 2,))
    db.close()
    s.start()
    refused("challenge_expired", prove, s, fleet.root, fleet.proof_pem(fleet.root["challenge"]))
    again = s.root("day", fleet)
    assert again.root["state"] == "active"


def test_the_challenge_is_no_device_s_name(server, account):
    fleet = server.root(account)
    challenge = server.root(account, Fleet("Second"), prove=False).root["challenge"]
    prefix = challenge.rpartition("-")[0] + "-"
    for reserved in (challenge, prefix, prefix + "x"):
        assert ask(server, fleet.device(reserved)) == "device_id_reserved", reserved
    assert server.muster("device", "list", "--account", account) == []


# --- states of a root -------------------------------------------------------------------------------------------------------------------


def test_known_only_disable_enable_revoke(server, account):
    fleet = server.root(account)
    rid = fleet.root["id"]
    known = fleet.device("known")
    assert ask(server, known) is None
    assert server.muster("root", "set", rid, "--state", "known-only")["state"] == "known-only"
    soon("root_known_only", lambda: ask(server, fleet.device("stranger")))
    assert ask(server, known) is None
    assert ask(server, fleet.device("known", key=known.key, days=(-1, 900))) is None  # a newer certificate is no new device
    # Off needs to say how many that cuts off.
    assert "1 device" in refused("confirmation_required", server.muster, "root", "disable", rid).text
    asked = server.api("POST", f"/api/v1/accounts/{account}/roots/{rid}/disable", {})
    assert (asked.status, asked.json["count"]) == (409, 1)
    assert server.api("POST", f"/api/v1/accounts/{account}/roots/{rid}/disable", {"confirm": 2}).status == 409
    stays(None, lambda: ask(server, known), 0.3)
    assert server.muster("root", "disable", rid, "--yes")["state"] == "disabled"
    soon("root_disabled", lambda: ask(server, known))
    assert ask(server, fleet.device("stranger")) == "root_disabled"
    refused("wrong_state", server.muster, "root", "set", rid, "--state", "active")
    refused("wrong_state", server.muster, "root", "disable", rid, "--yes")
    assert server.muster("root", "enable", rid)["state"] == "known-only"  # as it was
    soon(None, lambda: ask(server, known))
    assert ask(server, fleet.device("stranger")) == "root_known_only"
    server.muster("root", "set", rid, "--state", "active")
    soon(None, lambda: ask(server, fleet.device("stranger")))
    assert "2 devices" in refused("confirmation_required", server.muster, "root", "revoke", rid).text
    assert server.muster("root", "revoke", rid, "--yes")["state"] == "revoked"
    soon("root_revoked", lambda: ask(server, known))
    for verb, options in (("enable", []), ("revoke", ["--yes"]), ("disable", ["--yes"]), ("set", ["--state", "active"])):
        refused("wrong_state", server.muster, "root", verb, rid, *options)
    refused("already_exists", server.root, account, fleet)  # for good
    actions = [e["action"] for e in server.muster("audit", "list", "--account", account) if e["action"].startswith("root.")]
    assert actions == ["root.upload", "root.prove", "root.set", "root.disable", "root.enable", "root.set", "root.revoke"]


def test_several_anchors_in_one_account(server, account):
    one, two = server.root(account, Fleet("One")), server.root(account, Fleet("Two"))
    a, b = one.device("under-one"), two.device("under-two")
    assert ask(server, a) is None and ask(server, b) is None
    server.muster("root", "revoke", one.root["id"], "--yes")
    soon("root_revoked", lambda: ask(server, a))
    assert ask(server, b) is None
    # Two roots of one name and different keys are told apart by the signature.
    three, four = server.root(account, Fleet("Twin")), server.root(account, Fleet("Twin"))
    assert ask(server, three.device("twin-3")) is None and ask(server, four.device("twin-4")) is None
    assert show(server, account, "twin-4")["root"] == four.root["id"]


def test_what_an_operator_has_shut_stays_shut(server, account):
    """Of two anchors of the account on one chain the stricter one counts, in either order."""
    above = server.root(account, Fleet("Above"))
    line = server.root(account, above.intermediate("Line"))
    known = line.device("two-anchors", chain=[line.cert])
    assert ask(server, known) is None
    for shut, other in ((above, line), (line, above)):
        server.muster("root", "set", shut.root["id"], "--state", "known-only")
        soon("root_known_only", lambda: ask(server, line.device("newcomer", chain=[line.cert])))
        assert ask(server, known) is None
        server.muster("root", "set", shut.root["id"], "--state", "active")
        server.muster("root", "disable", shut.root["id"], "--yes")
        soon("root_disabled", lambda: ask(server, known))
        assert server.muster("root", "show", other.root["id"])["state"] == "active"
        server.muster("root", "enable", shut.root["id"])
        soon(None, lambda: ask(server, known))


def test_a_root_s_certificate_can_be_fetched(server, account):
    fleet = server.root(account)
    path = server.dir.parent / "fetched.pem"
    server.muster("root", "export", fleet.root["id"], "-o", path)
    assert x509.load_pem_x509_certificate(path.read_bytes()) == fleet.cert


# --- where the device ID stands --------------------------------------------------------------------------------------------------------------


def san(*names):
    return [(x509.SubjectAlternativeName(list(names)), False)]


URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
RULES = {
    "cn": lambda fleet, ids: fleet.issue(name(ids)),
    "san-uri": lambda fleet, ids: fleet.issue(name("not this"), extensions=san(DNS("nor.this"), *[URI(i) for i in ids])),
    "san-dns": lambda fleet, ids: fleet.issue(name("not this"), extensions=san(URI("urn:nor:this"), *[DNS(i) for i in ids])),
    "serial-number": lambda fleet, ids: fleet.issue(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "not this"), *[x509.NameAttribute(NameOID.SERIAL_NUMBER, i) for i in ids]])),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_says_where_the_device_id_stands(server, account, rule):
    fleet = server.root(account, None, "--id-rule", rule)
    assert fleet.root["id_rule"] == rule
    issue = RULES[rule]
    one = "urn:device:one" if rule == "san-uri" else "device-one"
    assert ask(server, issue(fleet, [one])) is None
    assert show(server, account, one)["state"] == "active"
    assert ask(server, issue(fleet, [])) == "device_id_missing"
    assert ask(server, issue(fleet, ["two-a", "two-b"])) == "device_id_ambiguous"
    assert ask(server, issue(fleet, ["same", "same"])) == "device_id_ambiguous"
    assert ask(server, issue(fleet, ["a\nb"])) == "device_id_undecodable"
    assert ask(server, issue(fleet, ["a\x7fb"])) == "device_id_undecodable"
    assert ask(server, issue(fleet, ["a\0b"])) == "device_id_undecodable"
    # Compared byte for byte: neither case nor space is folded.
    for other in (one.upper(), one + " "):
        assert ask(server, issue(fleet, [other])) is None
        assert show(server, account, other)["device_id"] == other
    assert len(server.muster("device", "list", "--account", account)) == 3


def test_the_key_s_fingerprint_as_device_id(server, account):
    fleet = server.root(account, None, "--id-rule", "key-fingerprint")
    device = fleet.issue(x509.Name([]), extensions=[(x509.SubjectAlternativeName([DNS("x")]), True)])
    assert ask(server, device) is None
    assert show(server, account, device.spki)["spki"] == device.spki


def test_the_rule_can_be_changed(server, account):
    fleet = server.root(account)
    device = fleet.device("cn-name", serial="serial-name")
    server.muster("root", "set", fleet.root["id"], "--id-rule", "serial-number")
    soon("serial-name", lambda: (ask(server, device), server.muster("device", "list", "--account", account))[1][0]["device_id"])
    refused("invalid_request", server.muster, "root", "set", fleet.root["id"], "--id-rule", "telepathy")


def cn(value, encoding):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value, _type=encoding)])


def test_ids_are_decoded_to_utf8(server, shared):
    account, fleet = shared
    # One ID, however it is encoded.
    key = new_key()
    for encoding in (_ASN1Type.UTF8String, _ASN1Type.BMPString):
        assert ask(server, fleet.issue(cn("Gerät-Ω", encoding), key=key)) is None
    assert show(server, account, "Gerät-Ω")["state"] == "active"
    assert ask(server, fleet.issue(cn("Gerät-Ω", _ASN1Type.UTF8String))) == "device_key_mismatch"
    assert ask(server, fleet.issue(cn("Gera\u0308t-Ω", _ASN1Type.UTF8String))) is None  # another spelling is another ID
    assert ask(server, fleet.issue(cn("printable-1", _ASN1Type.PrintableString))) is None
    # Bytes whose meaning nobody agrees on, or that the type does not have.
    for encoding in (_ASN1Type.T61String, _ASN1Type.PrintableString, _ASN1Type.IA5String):
        assert ask(server, fleet.issue(cn("Gerät", encoding))) == "device_id_undecodable"
    why = lambda value, encoding: server.gateway(fleet.issue(cn(value, encoding))).get("/").json["description"]
    assert "TeletexString" in why("Gerät", _ASN1Type.T61String) and "U+200B" in why("zero\u200bwidth", _ASN1Type.BMPString)


def test_how_long_an_id_may_be(server, account):
    fleet = server.root(account, None, "--id-rule", "san-uri")
    for n, expected in ((128, None), (129, "device_id_undecodable"), (4000, "device_id_undecodable")):
        assert ask(server, RULES["san-uri"](fleet, ["u:" + "x" * (n - 2)])) == expected


# --- certificates that are accepted -------------------------------------------------------------------------------------------------------------


def test_roots_of_ota_connect_s_recipe(server, account):
    """EKU serverAuth, critical, in the root: a plain purpose check would refuse every device below."""
    eku = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True)
    usage = (x509.KeyUsage(True, False, False, False, False, True, True, False, False), True)
    fleet = server.root(account, Fleet("OTA Connect Root", kind="rsa2048", extensions=[CA, usage, eku]))
    assert ask(server, fleet.device("recipe-1", kind="rsa2048", C="DE", ST="Berlin", O="Fleet")) is None
    assert ask(server, fleet.device("recipe-2", extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True)])) is None


LEAVES = {
    "no extension at all": {},
    "P-384": {"kind": "p384"}, "P-521": {"kind": "p521"}, "Ed25519": {"kind": "ed25519"}, "RSA-2048": {"kind": "rsa2048"},
    "clientAuth": {"extensions": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)]},
    "clientAuth and serverAuth": {"extensions": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), True)]},
    "any purpose": {"extensions": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)]},
    "CA:FALSE": {"extensions": [(x509.BasicConstraints(False, None), True)]},
    "SHA-512": {"digest": hashes.SHA512()},
    "no end": {"days": (-1, 365 * 60)},
}


@pytest.mark.parametrize("what", LEAVES)
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_certificates_that_are_accepted(server, shared, what, tls):
    account, fleet = shared
    device = fleet.device(f"{what} over {tls}", **LEAVES[what])
    assert ask(server, device, tls=tls) is None
    assert show(server, account, f"{what} over {tls}")["spki"] == device.spki


@pytest.mark.parametrize("order", [("CN", "O", "C"), ("O", "CN", "OU"), ("C", "O", "CN"), ("O", "O", "CN")])
def test_any_order_of_the_dn(server, shared, order):
    account, fleet = shared
    oids = {"CN": NameOID.COMMON_NAME, "O": NameOID.ORGANIZATION_NAME, "C": NameOID.COUNTRY_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME}
    d = "order-" + "-".join(order)
    assert ask(server, fleet.issue(x509.Name([x509.NameAttribute(oids[o], d if o == "CN" else "DE") for o in order]))) is None
    assert show(server, account, d)["device_id"] == d
    several = fleet.issue(x509.Name([x509.RelativeDistinguishedName([x509.NameAttribute(oids["O"], "x"), x509.NameAttribute(oids["CN"], d + "-rdn")])]))
    assert ask(server, several) is None


def test_intermediates_and_unrelated_certificates(server, shared):
    account, fleet = shared
    line = fleet.intermediate("Deep 1")
    deep = line.intermediate("Deep 2").intermediate("Deep 3")
    assert ask(server, deep.device("no-chain")) == "certificate_untrusted"
    two = line.intermediate("Deep 2b")
    three = two.intermediate("Deep 3b")
    stranger = Fleet("Stranger").cert
    for i, chain in enumerate(([three.cert, two.cert, line.cert], [line.cert, three.cert, two.cert], [stranger, line.cert, two.cert, stranger, three.cert],
                               [three.cert, two.cert, line.cert, fleet.cert], [three.cert, two.cert, line.cert, fleet.cert, stranger, Fleet("Deep 2b").cert, Fleet("Deep 1").cert])):
        assert len(chain) <= 7
        assert ask(server, three.device(f"deep-{i}", chain=chain)) is None
    assert show(server, account, "deep-0")["root"] == fleet.root["id"]


# --- certificates that are refused --------------------------------------------------------------------------------------------------------------


REFUSED = {
    "expired": ({"days": (-10, -1)}, "certificate_expired"),
    "not yet valid": ({"days": (1, 10)}, "certificate_not_yet_valid"),
    "a CA": ({"extensions": [CA]}, "certificate_is_ca"),
    "serverAuth only": ({"extensions": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]}, "certificate_purpose"),
    "no signing": ({"extensions": [(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)]}, "certificate_purpose"),
    "RSA-1024": ({"kind": "rsa1024"}, "certificate_weak_key"),
    "SHA-1": ({"digest": hashes.SHA1()}, "certificate_weak_signature"),
    "unknown critical extension": ({"extensions": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)]}, "chain_invalid"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_certificates_that_are_refused(server, shared, what, tls):
    account, fleet = shared
    options, code = REFUSED[what]
    device = fleet.device(f"refused {what} {tls}", **options)
    answer = server.gateway(device, tls=tls, weak=True).get(PATH)
    assert (answer.status, answer.code) == (403, code), answer
    refused("not_found", show, server, account, f"refused {what} {tls}")


@pytest.mark.parametrize("what, options, code", [
    ("expired", {"days": (-10, -1)}, "certificate_expired"), ("not yet valid", {"days": (1, 10)}, "certificate_not_yet_valid"),
    ("RSA-1024", {"kind": "rsa1024"}, "certificate_weak_key"), ("no CA", {"extensions": [(x509.BasicConstraints(False, None), True)]}, "certificate_untrusted"),
    ("no extension", {"extensions": []}, "certificate_untrusted"), ("pathlen", {"extensions": [(x509.BasicConstraints(True, 0), True)]}, "chain_invalid")])
def test_intermediates_that_are_refused(server, shared, what, options, code):
    account, fleet = shared
    bad = fleet.intermediate(f"Bad {what}", **options)
    if what == "pathlen":
        below = bad.intermediate("Below pathlen")
        device = below.device("under bad", chain=[below.cert, bad.cert])
    else:
        device = bad.device("under bad", chain=[bad.cert])
    assert ask(server, device, weak=True) == code


def test_an_ended_root_lets_nobody_in(server, account):
    fleet = server.root(account, Fleet("Short", days=(-1, 2 / 86400)))
    device = fleet.device("outlives-its-root")
    assert ask(server, device) is None
    with server.gateway(device).connect() as c:
        g = server.gateway(device)
        assert g.on(c, "GET", PATH).status == 404
        time.sleep(3.2)
        assert g.on(c, "GET", PATH).code == "certificate_expired"  # on a connection that was let in as well
    assert ask(server, device) == "certificate_expired"


def test_more_than_eight_certificates_or_sixteen_kib(server, shared):
    account, fleet = shared
    strangers = [Fleet(f"Stranger {i}").cert for i in range(8)]
    assert ask(server, fleet.device("eight", chain=strangers[:7])) is None
    assert ask(server, fleet.device("nine", chain=strangers)) == "chain_too_long"
    big = Fleet("Big", extensions=[CA, (x509.SubjectAlternativeName([DNS("x" * 60 + f".{i:03}") for i in range(300)]), False)]).cert
    assert ask(server, fleet.device("large", chain=[big])) == "chain_too_long"
    huge = fleet.device("huge", extensions=san(*[DNS("x" * 60 + f".{i:03}") for i in range(300)]))
    assert ask(server, huge) == "chain_too_long"


def test_no_certificate_and_an_unknown_ca(server, shared):
    for tls in ("1.2", "1.3"):
        assert ask(server, None, tls=tls) == "certificate_required"
        assert ask(server, Fleet("Fleet Root").device("stranger"), tls=tls) == "certificate_untrusted"  # the name is right, the key is not
    alone = Fleet("self-signed", extensions=[])
    assert ask(server, alone.issue(name("self-signed"), key=alone.key)) == "certificate_untrusted"


# --- approval and expected devices --------------------------------------------------------------------------------------------------------------


def test_approval(server, account):
    server.muster("account", "set", account, "--approval", "yes")
    fleet = server.root(account)
    good, bad = fleet.device("good"), fleet.device("bad")
    for identity in (good, bad):
        answer = server.gateway(identity).ecus()
        assert (answer.status, answer.code) == (403, "device_pending")
        assert int(answer.headers["Retry-After"]) > 0
    assert [d["device_id"] for d in server.muster("device", "list", "--account", account, "--state", "pending")] == ["good", "bad"]
    assert show(server, account, "good")["ecus"] is None
    assert server.muster("device", "approve", "good", "--account", account)["state"] == "active"
    soon(None, lambda: ask(server, good))
    server.muster("device", "refuse", "bad", "--account", account)
    soon("device_refused", lambda: ask(server, bad))
    refused("wrong_state", server.muster, "device", "approve", "good", "--account", account)
    refused("wrong_state", server.muster, "device", "refuse", "bad", "--account", account)
    assert ask(server, fleet.device("bad")) == "device_refused"
    # What was refused may be released like a revoked one.
    server.muster("device", "release", "bad", "--account", account, "--same-key")
    soon("device_pending", lambda: ask(server, bad))


def announce(server, account, *items):
    path = server.dir.parent / f"expected-{time.monotonic_ns()}.jsonl"
    path.write_text("".join(json.dumps(i) + "\n" for i in items), encoding="utf-8")
    return server.muster("device", "import", path, "--account", account)


def test_expected_devices(server, account):
    server.muster("account", "set", account, "--expected-only", "yes")
    fleet = server.root(account)
    late, pinned, wrong = fleet.device("late"), fleet.device("pinned"), fleet.device("pinned")
    answer = server.gateway(late).get(PATH)
    assert (answer.status, answer.code) == (403, "device_unexpected")
    assert show(server, account, "late")["state"] == "pending"
    assert announce(server, account, {"device_id": "early"}, {"device_id": "late"}, {"device_id": "pinned", "fingerprint": pinned.spki})["imported"] == 3
    assert ask(server, fleet.device("early")) is None
    soon(None, lambda: ask(server, late))  # announced afterwards
    assert show(server, account, "late")["state"] == "active"
    assert ask(server, wrong) == "device_key_mismatch"
    assert ask(server, pinned) is None
    assert ask(server, fleet.device("nobody")) == "device_unexpected"
    server.muster("device", "approve", "nobody", "--account", account)
    # A file is taken as a whole.
    with pytest.raises(Refused):
        announce(server, account, {"device_id": "fine"}, {"device_id": "bad\u0007"})
    assert ask(server, fleet.device("fine")) == "device_unexpected"
    with pytest.raises(Refused):
        announce(server, account, {"device_id": "x", "fingerprint": "short"})


# --- another key, another certificate -----------------------------------------------------------------------------------------------------------


def test_a_known_id_with_another_key_is_refused_and_recorded(server, account):
    fleet = server.root(account)
    known = fleet.device("known")
    assert server.gateway(known).ecus("first-ecu").status == 201
    before = show(server, account, "known")
    others = [fleet.device("known") for _ in range(2)]
    for other in others:
        for _ in range(2):
            answer = server.gateway(other).ecus("stolen-ecu")
            assert (answer.status, answer.code) == (403, "device_key_mismatch")
    after = show(server, account, "known")
    assert {o["fingerprint"] for o in after.pop("offered_keys")} == {o.spki for o in others}
    before.pop("offered_keys")
    assert after == before  # the device itself untouched
    assert ask(server, known) is None
    # Recorded is not accepted, under the rule `never`.
    assert [e["action"] for e in server.muster("audit", "list", "--account", account)].count("device.key_offered") == 2


def test_offered_keys_do_not_fill_the_disk(server, account):
    fleet = server.root(account)
    assert ask(server, fleet.device("popular")) is None
    for _ in range(40):
        assert ask(server, fleet.device("popular")) == "device_key_mismatch"
    assert len(show(server, account, "popular")["offered_keys"]) < 40


def test_ask_and_accept_key(server, account):
    fleet = server.root(account, None, "--key-rule", "ask")
    old, new, thief = (fleet.device("asks") for _ in range(3))
    assert ask(server, old) is None
    assert ask(server, new) == "device_key_mismatch" and ask(server, thief) == "device_key_mismatch"
    refused("not_found", server.muster, "device", "accept-key", "asks", "--account", account, "--fingerprint", "0" * 64)
    server.muster("device", "accept-key", "asks", "--account", account, "--fingerprint", new.spki)
    stays(None, lambda: ask(server, old), 0.3)  # until the new key comes
    soon(None, lambda: ask(server, new))
    assert ask(server, thief) == "device_key_mismatch"
    assert ask(server, old) == "device_key_barred"
    shown = show(server, account, "asks")
    assert shown["spki"] == new.spki and {o["fingerprint"] for o in shown["offered_keys"]} == {thief.spki}
    actions = [e["action"] for e in server.muster("audit", "list", "--account", account)]
    assert "device.accept_key" in actions and "device.key_changed" in actions


def test_a_new_key_that_was_announced(server, account):
    fleet = server.root(account, None, "--key-rule", "announced")
    old, new = fleet.device("announced"), fleet.device("announced")
    assert ask(server, old) is None
    assert ask(server, new) == "device_key_mismatch"
    announce(server, account, {"device_id": "announced"})  # an ID without a key lets no key in
    assert ask(server, new) == "device_key_mismatch"
    announce(server, account, {"device_id": "announced", "fingerprint": new.spki})
    soon(None, lambda: ask(server, new))
    assert ask(server, old) == "device_key_barred"
    assert ask(server, fleet.device("announced")) == "device_key_mismatch"


def test_the_same_key_with_another_certificate_is_the_same_device(server, account):
    fleet = server.root(account)
    first = fleet.device("renewed", days=(-1, 30))
    assert ask(server, first) is None
    before = show(server, account, "renewed")
    newer = fleet.device("renewed", key=first.key, days=(-1, 300))
    assert ask(server, newer) is None
    after = show(server, account, "renewed")
    assert after["id"] == before["id"] and after["certificate"] != before["certificate"]
    assert after["certificate_not_after"] > before["certificate_not_after"]
    assert ask(server, first) is None  # still valid; what is kept is the newest
    assert show(server, account, "renewed")["certificate"] == after["certificate"]
    # Under another root of the account as well.
    second = server.root(account, Fleet("Second Root"))
    assert ask(server, second.device("renewed", key=first.key, days=(-1, 600))) is None
    assert show(server, account, "renewed")["root"] == second.root["id"]
    assert len(server.muster("device", "list", "--account", account)) == 1


# --- what an admitted device is answered ------------------------------------------------------------------------------------------------------------


def test_first_requests_of_a_stock_client(server, account):
    fleet = server.root(account)
    g = server.gateway(fleet.device("stock"))
    answers = [g.ecus("ecu-1") for _ in range(3)]
    assert [a.status for a in answers] == [201, 200, 200]
    assert show(server, account, "stock")["ecus"]["primary_ecu_serial"] == "ecu-1"
    assert g.ecus("ecu-2").status == 201
    assert show(server, account, "stock")["ecus"]["primary_ecu_serial"] == "ecu-2"
    wrong = g.request("POST", "/director/ecus", {"primary_ecu_serial": "absent", "ecus": [
        {"ecu_serial": "x", "hardware_identifier": "h", "clientKey": {"keytype": "RSA", "keyval": {"public": "p"}}}]})
    assert (wrong.status, wrong.code) == (400, "primary_is_not_listed_for_device")
    assert g.request("POST", "/director/ecus", b"not json").code == "invalid_json"
    assert show(server, account, "stock")["ecus"]["primary_ecu_serial"] == "ecu-2"


def test_other_paths_answer_404(server, account):
    fleet = server.root(account)
    g = server.gateway(fleet.device("other-paths"))
    for method, path in (("GET", "/director/2.root.json"), ("GET", "/"), ("PUT", "/director/manifest"), ("GET", "/campaigner/campaigns"), ("PUT", "/core/x"),
                         ("GET", "/repo/2.root.json"), ("GET", "/nothing/here?x=1"), ("POST", "/events/x")):
        answer = g.request(method, path, b"{}" if method != "GET" else None)
        assert answer.status == 404 and answer.headers["Content-Type"] == "application/json" and answer.code, (path, answer)
    for path in ("/repo/targets/firmware.bin", "/repo/targets/"):
        answer = g.get(path)
        assert (answer.status, answer.body) == (404, b""), answer
    assert g.enrol("other-paths-2").code == "enrol_with_device_certificate"


def test_nobody_learns_of_paths_before_being_let_in(server, shared):
    for path in ("/director/ecus", "/devices", "/nothing", "/api/v1/accounts"):
        answer = server.gateway(Fleet().device("outsider")).get(path)
        assert (answer.status, answer.code) == (403, "certificate_untrusted")
    answer = server.gateway(Fleet().device("outsider")).get("/repo/targets/firmware.bin")
    assert (answer.status, answer.body) == (403, b"")  # a client would store it as the image

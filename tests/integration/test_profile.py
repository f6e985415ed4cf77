"""Issuing profiles: what certificates of an account's devices may be, and what its provisioning keys allow of that."""
import base64
import datetime
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from conftest import Refused, soon
from enrolment import DAY, YEAR, Account, ask, enrol, enrolled
from est import Device, certificates, csr, post
from est import enrolled as est_enrolled

DEFAULT = {"life": 20 * YEAR, "longest_life": 20 * YEAR, "est_life": YEAR, "key_types": ["p256", "p384", "p521", "ed25519"], "key_usages": ["digital-signature", "key-encipherment"],
           "subject": "O={account},OU=Devices,CN={device_id}", "san": []}
KEYS = {"p256": lambda: ec.generate_private_key(ec.SECP256R1()), "p384": lambda: ec.generate_private_key(ec.SECP384R1()), "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate, "rsa2048": lambda: rsa.generate_private_key(65537, 2048), "rsa3072": lambda: rsa.generate_private_key(65537, 3072)}


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def profile(a, *options):
    return a.server.muster("profile", "set" if options else "show", "--account", a.name, *options)


def patch(a, **body):
    return a.server.api("PATCH", f"/api/v1/accounts/{a.name}/profile", body)


def whole(a):
    """What `audit verify` says."""
    try:
        return a.server.muster("audit", "verify", "--account", a.name)["ok"] is True
    except Refused as e:
        assert "settings of the account" in e.text or "provisioning key" in e.text, e.text
        return False


def lives(identity, seconds):
    return abs((identity.cert.not_valid_after - datetime.datetime.utcnow()).total_seconds() - seconds) < 600


def told(answer):
    return answer.status, answer.code


def test_what_there_was_before_profiles_is_the_default(account):
    a = account()
    assert profile(a) == {"id": a.name, **DEFAULT, "shadow": None}
    b = account("--device-key", "rsa2048", "--device-life", "1y")
    assert profile(b) == {"id": b.name, **DEFAULT, "key_types": DEFAULT["key_types"] + ["rsa2048", "rsa3072", "rsa4096"], "life": YEAR, "longest_life": YEAR, "shadow": None}


def test_lives(account, server):
    """What a device asks for is clamped, never refused; one that asks for nothing, and every EST client, gets the usual one."""
    a = account()
    shown = profile(a, "--life", "30d", "--longest-life", "1y")
    assert (shown["life"], shown["longest_life"]) == (30 * DAY, YEAR)
    assert server.muster("account", "show", a.name)["settings"]["device_life"] == 30 * DAY
    key = a.key()
    assert lives(enrolled(server, key, "asks", ttl="10"), 10 * DAY)
    assert lives(enrolled(server, key, "asks-for-more", ttl="36000"), YEAR)
    assert lives(enrolled(server, key, "asks-for-nothing", ttl=None), 30 * DAY)
    est = est_enrolled(server.gateway(key), "est", KEYS["p256"]())
    assert lives(est, 30 * DAY)
    profile(a, "--longest-life", "5d")  # pulls the usual one down with it
    assert profile(a)["life"] == 5 * DAY
    assert lives(enrolled(server, key, "late", ttl="10"), 5 * DAY)
    for wrong in ({"life": "59m"}, {"life": "101y"}, {"life": 0}, {"life": "30d"}, {"longest_life": "x"}, {"life": True}, {"life": "6d", "longest_life": "5d"}):
        assert told(patch(a, **wrong)) == (400, "invalid_request"), wrong
    assert told(server.api("PATCH", f"/api/v1/accounts/{a.name}", {"device_life": "6d"})) == (400, "invalid_request")
    assert patch(a, life=None, longest_life=None).json["life"] == 20 * YEAR
    assert whole(a)


def test_a_certificate_without_a_well_defined_end(account, server):
    a = account("--device-life", "none")
    assert profile(a)["life"] == profile(a)["longest_life"] == "none"
    assert server.muster("account", "show", a.name)["settings"]["device_life"] == "none"
    device = enrolled(server, a.key(), "for-ever", ttl=None)
    assert device.cert.not_valid_after == datetime.datetime(9999, 12, 31, 23, 59, 59)
    assert ask(server, device) is None
    assert lives(est_enrolled(server.gateway(a.key()), "renews", KEYS["p256"]()), YEAR)
    assert profile(a, "--est-life", "none")["est_life"] == "none"
    assert est_enrolled(server.gateway(a.key()), "never-renews", KEYS["p256"]()).cert.not_valid_after == device.cert.not_valid_after
    assert whole(a)


def test_how_long_certificates_by_est_live(account, server):
    """By enrolment and renewal; never longer than others of the account, or than its provisioning key says."""
    a = account("--device-life", "10y")
    key = a.key()
    old = est_enrolled(server.gateway(key), "est", KEYS["p256"]())
    assert lives(old, YEAR)
    assert profile(a, "--est-life", "3y")["est_life"] == 3 * YEAR
    own = KEYS["p256"]()
    (renewed,) = certificates(post(server.gateway(old), "simplereenroll", csr(own, subject=old.cert.subject)))
    assert lives(Device(own, renewed), 3 * YEAR)
    assert lives(enrolled(server, key, "other", ttl=None), 10 * YEAR)
    assert lives(est_enrolled(server.gateway(a.key("--name", "narrow", "--life", "5d")), "narrow", KEYS["p256"]()), 5 * DAY)
    profile(a, "--life", "2y")
    assert lives(est_enrolled(server.gateway(key), "shorter", KEYS["p256"]()), 2 * YEAR)
    shown = profile(a, "--shadow", "try", "--est-life", "7d")
    assert (shown["est_life"], shown["shadow"]["est_life"]) == (3 * YEAR, 7 * DAY)
    profile(a, "--shadow", "enforce")
    assert lives(est_enrolled(server.gateway(key), "enforced", KEYS["p256"]()), 7 * DAY)
    for wrong in ({"est_life": "59m"}, {"est_life": "101y"}, {"est_life": "x"}, {"est_life": True}):
        assert told(patch(a, **wrong)) == (400, "invalid_request"), wrong
    assert told(server.api("PATCH", f"/api/v1/accounts/{a.name}/keys/narrow", {"est_life": "1d"})) == (400, "invalid_request")  # its life counts
    assert patch(a, est_life=None).json["est_life"] == YEAR
    assert whole(a)


ATTRS = {
    "p256": ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"], "p384": ["id-ecPublicKey", "secp384r1", "ecdsa-with-SHA384"],
    "p521": ["id-ecPublicKey", "secp521r1", "ecdsa-with-SHA512"], "ed25519": ["ED25519"],
    "rsa2048": ["rsaEncryption", 2048, "sha256WithRSAEncryption"], "rsa3072": ["rsaEncryption", 3072, "sha256WithRSAEncryption"],
    "rsa4096": ["rsaEncryption", 4096, "sha256WithRSAEncryption"],
}


def asks_for(server, a, where):
    """What a client is told by csrattrs, as openssl reads it."""
    answer = server.gateway().get(f"/.well-known/est/{a.name}/csrattrs")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/csrattrs")
    (where / "attrs.der").write_bytes(base64.b64decode(answer.body))
    said = subprocess.run(["openssl", "asn1parse", "-inform", "DER", "-in", where / "attrs.der"], capture_output=True, text=True, check=True).stdout
    return [int(v, 16) if "INTEGER" in line else v for line, v in ((line, line.rsplit(":", 1)[1]) for line in said.splitlines() if "prim" in line)]


def test_kinds_of_keys(account, server, tmp_path):
    """Those that the profile names, and no others: for what devices bring, and for what the server makes."""
    a = account("--server-keygen", "yes")
    key = a.key()
    for kind, make in KEYS.items():
        patch(a, key_types=None)
        kinds = [k for k in KEYS if k != kind]
        assert profile(a, *sum((["--key-type", k] for k in kinds), []))["key_types"] == [k for k in ("p256", "p384", "p521", "ed25519", "rsa2048", "rsa3072", "rsa4096") if k in kinds]
        refused = post(server.gateway(key), "simpleenroll", csr(make(), f"brings-{kind}"))
        assert told(refused) == (400, "csr_invalid") and kinds[0] in refused.json["description"] or kind.startswith("rsa")
        if kind == "p256":  # that is what the server makes
            assert enrol(server, key, "made") == (403, "key_type_off")
            assert told(post(server.gateway(key), "serverkeygen", csr(make(), "made"))) == (403, "key_type_off")
        profile(a, "--key-type", kind)
        soon(ATTRS[kind], lambda: asks_for(server, a, tmp_path), 5)
        device = est_enrolled(server.gateway(key), f"brings-{kind}", make())
        assert ask(server, device) is None
    assert told(patch(a, key_types=["dsa"])) == (400, "invalid_request") and told(patch(a, key_types=[])) == (400, "invalid_request")
    assert server.api("GET", f"/api/v1/accounts/{a.name}/devices/made").status == 404
    assert whole(a)


def test_names(account, server):
    """By template; the CN is always the device ID.  A DNS name in which the ID cannot stand is left out."""
    a = account()
    profile(a, "--subject", "C=DE,O=Acme {account},serialNumber={device_id},CN={device_id}", "--san", "dns:{device_id}.cars.example.com", "--san", "uri:urn:acme:{account}:{device_id}")
    key = a.key()
    for device_id, names in (("car-1", ["car-1.cars.example.com", f"urn:acme:{a.name}:car-1"]), ("car.2/x", [f"urn:acme:{a.name}:car.2%2Fx"])):
        device = enrolled(server, key, device_id)
        cert = device.cert
        assert [(n.oid, n.value) for n in cert.subject] == [(NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, f"Acme {a.name}"), (NameOID.SERIAL_NUMBER, device_id), (NameOID.COMMON_NAME, device_id)]
        assert [n.value for n in cert.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value] == names
        assert list(cert.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert ask(server, device) is None
        assert server.api("GET", f"/api/v1/accounts/{a.name}/devices?prefix={device_id}").json["items"][0]["device_id"] == device_id
    for wrong in ({"subject": "O=x"}, {"subject": "CN={uuid}"}, {"subject": "CN=x"}, {"san": ["dns:{device_id}"]}, {"san": ["uri:urn:muster:device:{device_id}"]}, {"san": ["ip:{device_id}"]}, {"san": "x"},
                  {"san": ["uri:a:{uuid}"] * 5}, {"subject": 1}, {"extended_key_usage": ["serverAuth"]}, {"id": "x"}, {"subject": "CN={device_id},O=" + "x" * 65}):
        assert told(patch(a, **wrong)) == (400, "invalid_request"), wrong
    assert profile(a, "--reset", "san", "--reset", "subject", "--reset", "key-type", "--reset", "key_usages")["san"] == []
    assert whole(a)


def test_a_changed_template_does_not_block_a_renewal(account, server):
    """The registered identity counts; the new certificate has the names of now."""
    a = account()
    profile(a, "--subject", "O=Before,CN={device_id}")
    own = KEYS["p256"]()
    device = est_enrolled(server.gateway(a.key()), "car-1", own)
    assert ask(server, device) is None
    profile(a, "--subject", "O=After,serialNumber={device_id},CN={device_id}", "--san", "uri:urn:after:{device_id}")
    (cert,) = certificates(post(server.gateway(device), "simplereenroll", csr(own, subject=device.cert.subject)))
    assert cert.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "After"
    after = Device(own, cert)
    assert ask(server, after) is None
    assert whole(a)


def test_a_renewal_may_repeat_the_names_of_its_certificate(account, server):
    """RFC 7030, 4.2.2: subject and subjectAltName are those of the certificate.  Nobody else's names, and none at the first enrolment."""
    a = account()
    profile(a, "--san", "dns:{device_id}.cars.example.com", "--san", "uri:urn:acme:{device_id}")
    own, key = KEYS["p256"](), a.key()
    device = est_enrolled(server.gateway(key), "car-1", own)
    assert ask(server, device) is None
    names = device.cert.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    foreign = [x509.DNSName("car-2.cars.example.com"), x509.UniformResourceIdentifier("urn:acme:car-2"), x509.DNSName("urn:acme:car-1"), x509.UniformResourceIdentifier("car-1.cars.example.com"),
               x509.RFC822Name("car-1@example.com"), x509.DNSName("CAR-1.cars.example.com")]
    for other in foreign:
        assert told(post(server.gateway(device), "simplereenroll", csr(own, subject=device.cert.subject, sans=[*names, other]))) == (400, "csr_invalid"), other
    assert told(post(server.gateway(key), "simpleenroll", csr(KEYS["p256"](), "car-3", sans=[x509.DNSName("car-3.cars.example.com")]))) == (400, "csr_invalid")
    profile(a, "--san", "uri:urn:acme:other:{device_id}")  # another template by now
    (cert,) = certificates(post(server.gateway(device), "simplereenroll", csr(own, subject=device.cert.subject, sans=names)))
    assert [n.value for n in cert.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value] == ["urn:acme:other:car-1"]
    assert ask(server, Device(own, cert)) is None


def test_key_usages(account, server):
    a = account("--device-key", "rsa2048")
    key = a.key()

    def usage(device_id, kind):
        u = est_enrolled(server.gateway(key), device_id, KEYS[kind]()).cert.extensions.get_extension_for_oid(ExtensionOID.KEY_USAGE).value
        return [n for n in ("digital_signature", "content_commitment", "key_encipherment", "key_agreement", "key_cert_sign", "crl_sign") if getattr(u, n)]

    assert usage("usual-rsa", "rsa2048") == ["digital_signature", "key_encipherment"] and usage("usual", "p256") == ["digital_signature"]
    profile(a, "--key-usage", "digital-signature")
    assert usage("sign-rsa", "rsa2048") == ["digital_signature"]
    profile(a, "--key-usage", "digital-signature", "--key-usage", "key-agreement", "--key-usage", "content-commitment")
    assert usage("agree", "p256") == ["digital_signature", "content_commitment", "key_agreement"]
    assert usage("agree-rsa", "rsa2048") == ["digital_signature", "content_commitment"] and usage("agree-ed", "ed25519") == ["digital_signature", "content_commitment"]
    for wrong in (["key-agreement"], ["digital-signature", "key-cert-sign"], ["digital-signature", "server-auth"], []):
        assert told(patch(a, key_usages=wrong)) == (400, "invalid_request")


def test_a_provisioning_key_only_narrows(account, server):
    a = account()
    profile(a, "--life", "1y", "--longest-life", "2y", "--key-type", "p256", "--key-type", "ed25519")
    narrow = a.key("--name", "narrow", "--life", "5d", "--longest-life", "10d", "--key-type", "ed25519", "--key-usage", "digital-signature")
    shown = server.api("GET", f"/api/v1/accounts/-/keys/{narrow.shown['id']}").json
    assert (shown["life"], shown["longest_life"], shown["key_types"], shown["key_usages"]) == (5 * DAY, 10 * DAY, ["ed25519"], ["digital-signature"])
    assert enrol(server, narrow, "made") == (403, "key_type_off")
    # Whose rule it is stands in the answer: the key's, where the account would take it.
    for kind, who in (("p256", "The provisioning key narrow takes keys of the kinds ed25519;"), ("p384", "The account takes keys of the kinds p256, ed25519;"), ("rsa2048", "The account takes")):
        answer = post(server.gateway(narrow), "simpleenroll", csr(KEYS[kind](), kind))
        assert told(answer) == (400, "csr_invalid") and who in answer.json["description"], answer.json
    own = KEYS["ed25519"]()
    device = est_enrolled(server.gateway(narrow), "ed25519", own)
    assert lives(device, 5 * DAY) and ask(server, device) is None
    # Renewals keep to what the key that brought the device allows.
    (cert,) = certificates(post(server.gateway(device), "simplereenroll", csr(own, "ed25519")))
    assert lives(Device(own, cert), 5 * DAY)
    assert told(post(server.gateway(device), "simplereenroll", csr(KEYS["p256"](), "ed25519"))) == (400, "csr_invalid")

    def change(**body):
        return server.api("PATCH", f"/api/v1/accounts/-/keys/{narrow.shown['id']}", body)

    for wider in ({"life": "3y"}, {"longest_life": "3y"}, {"longest_life": "none"}, {"key_types": ["p384"]}, {"key_types": ["ed25519", "rsa2048"]}, {"key_usages": ["digital-signature", "key-agreement"]},
                  {"subject": "CN={device_id},O=x"}, {"san": ["uri:urn:x:{uuid}"]}):
        assert told(change(**wider)) == (400, "invalid_request"), wider
    with_all = server.muster("key", "set", narrow.shown["id"], "--key-type", "p256", "--key-type", "ed25519", "--longest-life", "2y")
    assert with_all["key_types"] == ["p256", "ed25519"]
    # An account that becomes narrower than its keys holds for them as well.
    profile(a, "--key-type", "p256", "--longest-life", "1d")
    assert told(post(server.gateway(narrow), "simpleenroll", csr(KEYS["ed25519"](), "other"))) == (400, "csr_invalid")
    assert lives(enrolled(server, narrow, "made"), DAY)
    assert change(life=None, longest_life=None, key_types=None, key_usages=None).json["key_types"] is None
    assert whole(a)


def test_what_a_provisioning_key_would_narrow_is_tried_first(account, server):
    """It refuses nobody, renewals included, and whom it would have is written down; then it holds, or is dropped.  Other keys' devices have nothing to do with it."""
    a = account()
    key, other = a.key(), a.key()

    def set_key(*options):
        return server.muster("key", "set", key.shown["id"], *options)

    def tried():
        return {x["device_id"] for x in server.muster("profile", "tried", "--account", a.name)}

    def change(**body):
        return server.api("PATCH", f"/api/v1/accounts/-/keys/{key.shown['id']}", body)
    before = est_enrolled(server.gateway(key), "p256-before", KEYS["p256"]())
    assert ask(server, before) is None
    shown = set_key("--shadow", "try", "--key-type", "ed25519", "--life", "9d")
    assert shown["shadow"] == {"life": 9 * DAY, "longest_life": None, "key_types": ["ed25519"], "key_usages": None} and (shown["key_types"], shown["life"]) == (None, None)
    new = est_enrolled(server.gateway(key), "p256-new", KEYS["p256"]())
    assert lives(new, YEAR) and ask(server, new) is None
    est_enrolled(server.gateway(key), "ed25519", KEYS["ed25519"]())
    est_enrolled(server.gateway(other), "p256-other", KEYS["p256"]())
    enrolled(server, key, "made")
    soon({"p256-new", "made"}, tried, 10)
    (renewed,) = certificates(post(server.gateway(before), "simplereenroll", csr(before.key, "p256-before")))
    assert lives(Device(before.key, renewed), YEAR)
    soon({"p256-new", "made", "p256-before"}, tried, 10)
    # Within the account's profile, and of one that is there.
    for wrong in ({"shadow": "try", "key_types": ["rsa2048"]}, {"shadow": "try", "name": "x"}, {"shadow": "enforce", "life": "3d"}, {"shadow": "soon"}, {"shadow": 1}, {"shadow": None}):
        assert told(change(**wrong)) == (400, "invalid_request"), wrong
    assert told(server.api("POST", f"/api/v1/accounts/{a.name}/keys", {"shadow": "try", "life": "3d"})) == (400, "invalid_request")
    assert set_key("--shadow", "try", "--life", "8d")["shadow"]["key_types"] == ["ed25519"], "what is tried goes on from what was"
    held = set_key("--shadow", "enforce")
    assert (held["key_types"], held["life"], held["shadow"]) == (["ed25519"], 8 * DAY, None)
    assert told(post(server.gateway(key), "simpleenroll", csr(KEYS["p256"](), "late"))) == (400, "csr_invalid")
    assert told(change(shadow="enforce")) == (400, "invalid_request")
    assert set_key("--shadow", "try", "--key-usage", "digital-signature")["shadow"]["key_usages"] == ["digital-signature"]
    assert set_key("--shadow", "drop")["shadow"] is None
    # One of the account's beside it: both are tried together.
    server.muster("key", "set", other.shown["id"], "--shadow", "try", "--key-type", "p256", "--key-type", "p384")
    profile(a, "--shadow", "try", "--key-type", "p384", "--key-type", "ed25519")
    est_enrolled(server.gateway(other), "p256-both", KEYS["p256"]())
    est_enrolled(server.gateway(other), "p384-both", KEYS["p384"]())
    soon({"p256-new", "made", "p256-before", "p256-both"}, tried, 10)
    assert whole(a)


def test_a_forged_row_does_not_reach_the_vault(account, server):
    """Control tells the vault nothing that an operator did not say; test_forged_rows has the rest of the settings.  And `audit verify` sees it."""
    import sqlite3
    a = account()
    profile(a, "--key-type", "p256", "--longest-life", "1d")
    key = a.key("--key-type", "p256")
    assert whole(a)
    for forged, mended in (("UPDATE account SET profile = 'keys=p256,rsa4096\n' WHERE name = ?", "UPDATE account SET profile = 'keys=p256\nlife_max=86400\n' WHERE name = ?"),
                           ("UPDATE account SET shadow = 'life=86400\n' WHERE name = ?", "UPDATE account SET shadow = '' WHERE name = ?"),
                           ("UPDATE prov_key SET profile = '' WHERE account = (SELECT id FROM account WHERE name = ?)", "UPDATE prov_key SET profile = 'keys=p256\n' WHERE account = (SELECT id FROM account WHERE name = ?)")):
        for statement, ok in ((forged, False), (mended, True)):
            with sqlite3.connect(server.dir / "registry.db") as db:
                db.execute(statement, (a.name,))
            db.close()
            assert whole(a) is ok, statement
    assert lives(enrolled(server, key, "after"), DAY)


def test_who_may(account, server):
    """Owners change it; operators and auditors read it; nobody of another account does either."""
    a, b = account(), account()
    for role, may_read, may_set in (("owner", 200, 200), ("operator", 200, 403), ("auditor", 200, 403), ("factory", 403, 403)):
        token = server.muster("token", "create", f"{a.name}-{role}", "--role", role, "--account", a.name)["token"]
        assert server.api("GET", f"/api/v1/accounts/{a.name}/profile", token=token).status == may_read
        assert server.api("PATCH", f"/api/v1/accounts/{a.name}/profile", {"longest_life": "20y"}, token=token).status == may_set
        assert server.api("GET", f"/api/v1/accounts/{b.name}/profile", token=token).status in (403, 404)

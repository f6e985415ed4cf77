"""Accounts: host names of their own, what follows from SNI and Host, one fleet root in two accounts, and whom a device's key belongs to."""
import concurrent.futures
import itertools
import ssl
import threading

import pytest
from cryptography import x509

from client import Device, Fleet, name, new_key
from conftest import refused, soon, stays

PATH = "/director/2.root.json"  # 404 for whoever is let in


def host(account):
    return f"{account}.localhost"


def ask(server, identity, account=None, **options):
    """The stable code that a device is refused with, None where it was let in."""
    answer = server.gateway(identity, **({"sni": server.host(account)} if account else {}), **options).get(PATH)
    assert answer.status in (404, 403, 409, 421), answer
    return None if answer.status == 404 else answer.code


def server_names(server, sni):
    context = server.gateway(sni=sni)
    with context.connect() as c:
        cert = x509.load_der_x509_certificate(c.getpeercert(binary_form=True))
    return cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName), cert.public_key().public_numbers()


# --- host names ------------------------------------------------------------------------------------------------------------------------


def test_an_account_has_a_host_name_with_a_certificate_of_its_own(server):
    for account in ("host-a", "host-b"):
        made = server.account(account)
        assert made["gateway_host"] == host(account)
        assert made["gateway_url"] == f"https://localhost:{server.port}"  # on localhost the bare name is the default everywhere
    seen = {}
    for account in ("host-a", "host-b"):
        names, seen[account] = server_names(server, server.host(account))
        assert names == [host(account)]
    bare, key = server_names(server, "localhost")
    assert "localhost" in bare and host("host-a") not in bare
    assert len({k.x for k in [key, *seen.values()]}) == 3


def test_elsewhere_than_on_localhost_devices_are_told_the_account_s_host_name(fresh):
    s = fresh("--host", "gateway.example")
    made = s.account("elsewhere", "test", "shared")
    assert made["gateway_host"] == "elsewhere.gateway.example"
    key = s.key("elsewhere")
    assert made["gateway_url"] == key.url == f"https://elsewhere.gateway.example:{s.port}"
    device = Device(s.gateway(key, sni="elsewhere.gateway.example").enrol("far-away").body)
    for sni in ("elsewhere.gateway.example", "gateway.example"):
        assert s.gateway(device, sni=sni).get(PATH).status == 404
    for reserved in ("gateway.example", "Elsewhere.Gateway.Example"):
        assert s.gateway(key, sni="gateway.example").enrol(reserved).code == "device_id_reserved"


def test_a_host_name_of_no_account_gets_the_bare_name_s_certificate(server):
    with pytest.raises(ssl.SSLCertVerificationError):
        server.gateway(sni="nobody.localhost").connect()


def test_the_bare_name_works_for_every_account(server):
    server.account("bare", "test", "both")
    key, fleet = server.key("bare"), server.root("bare")
    assert key.url == f"https://localhost:{server.port}"
    made = Device(server.gateway(key).enrol("bare-made").body)
    own = fleet.device("bare-own")
    for identity in (made, own):
        assert ask(server, identity) is None
        assert ask(server, identity, "bare") is None
        assert ask(server, identity, "bare", host="BARE.LocalHost") is None  # names are compared without case
        assert ask(server, identity, sni=None) is None


def test_sni_and_host_that_name_different_accounts_get_421(server):
    for account in ("mis-a", "mis-b"):
        server.account(account)
    fleet = server.root("mis-a")
    device = fleet.device("misdirected")
    assert ask(server, device, "mis-a", host=host("mis-b")) == "misdirected_request"
    refusal = server.gateway(device, sni=server.host("mis-a"), host=host("mis-b")).get(PATH)
    assert refusal.status == 421
    # The bare name by SNI, another account's by Host: the device's own account is what Host contradicts.
    assert ask(server, device) is None
    assert ask(server, device, host=host("mis-b")) == "misdirected_request"
    assert ask(server, device, host=host("mis-a")) is None
    # Without any certificate, or with a provisioning key, the answer is the same.
    assert server.gateway(sni=server.host("mis-a"), host=host("mis-b")).get(PATH).status == 421
    assert server.gateway(server.key("mis-a"), sni=server.host("mis-a"), host=host("mis-b")).enrol("misdirected-2").status == 421


def test_a_host_name_is_no_device_id(server):
    server.account("reserved")
    key, fleet = server.key("reserved"), server.root("reserved")
    assert server.gateway(key).enrol("localhost").code == "device_id_reserved"
    assert ask(server, fleet.device("localhost")) == "device_id_reserved"


def test_a_certificate_of_another_account_than_sni_names(server):
    for account in ("other-a", "other-b"):
        server.account(account)
    key, fleet = server.key("other-a"), server.root("other-a")
    known = fleet.device("other-known")
    assert ask(server, known) is None
    made = Device(server.gateway(key).enrol("other-made").body)
    for identity in (known, made, fleet.device("other-new")):
        assert ask(server, identity, "other-b") == "certificate_of_other_account"
    assert server.gateway(key, sni=server.host("other-b")).enrol("other-key").code == "certificate_of_other_account"
    assert server.muster("device", "list", "--account", "other-b") == []
    # An account that was never made is another account too.
    for identity in (known, made):
        assert server.gateway(identity, host=host("other-none")).get(PATH).status == 421


# --- one fleet root, two accounts -----------------------------------------------------------------------------------------------------


def test_one_root_proved_in_two_accounts(server):
    for account in ("two-a", "two-b"):
        server.account(account, "test", "device")
    fleet = server.root("two-a")
    early = fleet.device("early")
    assert ask(server, early) is None
    assert server.root("two-b", fleet).root["shared"] is True
    # First contact has to say which account, with either.
    new = fleet.device("new")
    assert ask(server, new) == "account_ambiguous"
    assert server.gateway(new).get(PATH).headers["Retry-After"] is None
    assert ask(server, new, "two-b") is None
    other = fleet.device("other")
    assert ask(server, other, "two-a") is None
    # From then on each belongs to its account, on the bare name as well.
    for identity, own, foreign in ((early, "two-a", "two-b"), (new, "two-b", "two-a"), (other, "two-a", "two-b")):
        assert ask(server, identity) is None
        assert ask(server, identity, own) is None
        assert ask(server, identity, foreign) == "certificate_of_other_account"
        assert server.muster("device", "show", identity.common_name, "--account", own)["spki"] == identity.spki
        refused("not_found", server.muster, "device", "show", identity.common_name, "--account", foreign)
    # The same ID in both accounts is two devices.
    assert ask(server, fleet.device("early"), "two-b") is None
    # Revoked in one account, it is the other's alone.
    root = server.muster("root", "list", "--account", "two-a")[0]["id"]
    server.muster("root", "revoke", root, "--yes")
    soon(None, lambda: ask(server, fleet.device("after")))
    soon("root_revoked", lambda: ask(server, early))


def test_an_upload_without_proof_reserves_nothing(server):
    for account in ("claim-a", "claim-b"):
        server.account(account, "test", "device")
    fleet = Fleet("Claimed Root")
    server.root("claim-a", fleet, prove=False)
    first = fleet.device("first")
    assert ask(server, first) == "root_unproved"
    assert ask(server, first, "claim-a") == "root_unproved"
    assert ask(server, first, "claim-b") == "certificate_of_other_account"
    server.root("claim-b", fleet)
    soon(None, lambda: ask(server, first))
    assert ask(server, fleet.device("second")) is None  # not ambiguous
    assert len(server.muster("device", "list", "--account", "claim-b")) == 2
    assert server.muster("device", "list", "--account", "claim-a") == []


def test_an_unproved_intermediate_takes_no_devices_away(server):
    """The certificate of an intermediate is public: whoever saw it can upload it, and must not cut its devices off by that."""
    for account in ("path-a", "path-b"):
        server.account(account, "test", "device")
    fleet = server.root("path-a")
    line = fleet.intermediate()
    known = line.device("known", chain=[line.cert])
    assert ask(server, known) is None
    server.root("path-b", line, prove=False)
    stays(None, lambda: ask(server, known))
    assert ask(server, line.device("new", chain=[line.cert])) is None
    assert ask(server, line.device("newer", chain=[line.cert]), "path-a") is None
    # Nor in the same account.
    server.root("path-a", line, prove=False)
    stays(None, lambda: ask(server, known))
    assert ask(server, line.device("newest", chain=[line.cert])) is None


def test_an_intermediate_proved_elsewhere_leaves_the_root_s_account_alone(server):
    for account in ("line-a", "line-b"):
        server.account(account, "test", "device")
    fleet = server.root("line-a")
    line = fleet.intermediate()
    known = line.device("known", chain=[line.cert])
    assert ask(server, known) is None
    server.root("line-b", line)
    stays(None, lambda: ask(server, known))
    assert ask(server, known, "line-a") is None
    assert ask(server, line.device("new-a", chain=[line.cert]), "line-a") is None
    assert ask(server, line.device("new-b", chain=[line.cert]), "line-b") is None


def test_a_certificate_made_up_around_another_s_key_changes_nothing(server):
    """Anybody can write a CA certificate with the public key of somebody's root: unproved, it lends that root neither life nor name."""
    for account in ("forge-a", "forge-b", "forge-c"):
        server.account(account, "test", "device")
    fleet = server.root("forge-a", Fleet("Forged", extensions=[(x509.BasicConstraints(True, 0), True)]))
    line = fleet.intermediate()
    device = line.device("too-deep", chain=[line.cert])
    assert ask(server, device) == "chain_invalid"  # pathlen:0
    forged = Fleet("Forged", issuer=Fleet("Forged"))  # the right names; then the victim's public key, without its path length
    forger = Fleet("Forged")
    forged.cert = forger._sign(name("Forged"), fleet.key, [(x509.BasicConstraints(True, None), True)], (-1, 3650))
    server.root("forge-b", forged, prove=False)
    stays("chain_invalid", lambda: ask(server, device, "forge-a"))
    server.root("forge-c", forged, prove=False)
    stays("chain_invalid", lambda: ask(server, device, "forge-a"))
    for account in (None, "forge-a", "forge-b"):
        assert ask(server, device, account) is not None


def test_an_anchor_s_public_key_is_unique_within_an_account(server):
    server.account("unique", "test", "device")
    fleet = server.root("unique")
    refused("already_exists", server.root, "unique", fleet)
    renewed = Fleet("Fleet Root, renewed")
    renewed.key = fleet.key
    renewed.cert = renewed._sign(name("Fleet Root, renewed"), renewed.key, [(x509.BasicConstraints(True, None), True)], (-1, 3650))
    refused("already_exists", server.root, "unique", renewed)
    # Nor by the way of an intermediate, whose key has become an anchor already.
    line = fleet.intermediate()
    server.root("unique", line)
    above = server.root("unique", Fleet("Above"), prove=False)
    cross = above._sign(line.cert.subject, line.key, [(x509.BasicConstraints(True, None), True)], (-1, 3650))
    path = server.dir.parent / "cross.pem"
    path.write_bytes(line.proof_pem(above.root["challenge"], [cross]))
    refused("already_exists", server.muster, "root", "prove", above.root["id"], path)


# --- whose a device's key is ------------------------------------------------------------------------------------------------------------


def test_who_is_refused_hears_why_while_roots_change(server):
    """A refusal waits for the newest roots; what changes meanwhile, in any account, cuts nobody off who waits for it."""
    for account in ("at-home", "abroad"):
        server.account(account, "test", "device")
    one, two = server.root("at-home"), server.root("abroad")
    key = new_key()
    assert ask(server, one.device("roams", key=key)) is None
    there = two.device("roams", key=key)
    over, changed = threading.Event(), []

    def change():
        for rule in itertools.cycle(("ask", "never")):
            if over.is_set():
                break
            changed.append(server.api("PATCH", f"/api/v1/accounts/abroad/roots/{two.root['id']}", {"key_rule": rule}))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as devices:
            assert set(devices.map(lambda _: ask(server, there), range(240))) == {"certificate_untrusted"}
    finally:
        over.set()
        changing.join()
    assert changed and {answer.status for answer in changed} == {200}


def test_a_device_s_key_belongs_to_the_first_account_until_released(server):
    for account in ("first", "second"):
        server.account(account, "test", "device")
    one, two = server.root("first"), server.root("second")
    key = new_key()
    here, there = one.device("wanderer", key=key), two.device("wanderer", key=key)
    assert ask(server, here, "first") is None
    # Under the other's root it is still the first's, which does not know that root.
    assert ask(server, there, "second") == "certificate_of_other_account"
    assert ask(server, there) == "certificate_untrusted"
    # Nor for another ID in its own account.
    assert ask(server, one.device("double", key=key)) == "device_key_elsewhere"
    # Deleting alone does not give it away; releasing does.
    server.muster("device", "delete", "wanderer", "--account", "first")
    soon("device_deleted", lambda: ask(server, here))
    assert ask(server, there, "second") == "certificate_of_other_account"
    server.muster("device", "release", "wanderer", "--account", "first")
    soon(None, lambda: ask(server, there, "second"))
    assert server.muster("device", "list", "--account", "first") == []
    assert ask(server, here) == "certificate_untrusted"  # the second's now, which does not know the first's root


def test_a_wiped_device_enters_the_production_account_under_its_old_id(server):
    server.account("bench", "test", "shared")
    server.account("street", "production", "device")
    made = Device(server.gateway(server.key("bench")).enrol("vehicle-7").body)
    assert ask(server, made) is None
    fleet = server.root("street")
    production = fleet.device("vehicle-7")
    assert production.spki != made.spki
    assert ask(server, production) is None
    assert ask(server, production, "street") is None
    assert server.muster("device", "show", "vehicle-7", "--account", "street")["method"] == "device"
    # The test account's device is its own, and is not let into production.
    assert ask(server, made, "street") == "certificate_of_other_account"
    assert server.muster("device", "show", "vehicle-7", "--account", "bench")["state"] == "active"


def test_a_device_made_by_muster_cannot_move_with_its_key(server):
    server.account("made-a", "test", "shared")
    server.account("made-b", "test", "device")
    made = Device(server.gateway(server.key("made-a")).enrol("mover").body)
    assert ask(server, made) is None
    fleet = server.root("made-b")
    assert ask(server, fleet.device("mover", key=made.key), "made-b") in ("certificate_of_other_account", "device_key_elsewhere")
    assert server.muster("device", "list", "--account", "made-b") == []


# --- resumed sessions -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_resumed_session_is_judged_for_the_account_now_named(server, tls):
    own, foreign = f"resume-{tls[-1]}a", f"resume-{tls[-1]}b"
    for account in (own, foreign):
        server.account(account, "test", "device")
    fleet = server.root(own)
    g = server.gateway(fleet.device("resumer"), tls=tls, sni=server.host(own))
    session = g.session()
    same = g.resume(session)
    assert same.resumed and same.status == 404
    # The same session under another account's name.
    g.sni = server.host(foreign)
    moved = g.resume(session)
    assert moved.status == 403 and moved.code == "certificate_of_other_account"
    # And for the Host field alone.
    g.sni, g.host = host(own), host(foreign)
    assert g.resume(g.session()).status == 421
    # SNI says one name when the session is made and none when it is resumed: the bare name, where it is at home.
    g.sni, g.host = "localhost", None
    assert g.resume(session).status == 404


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_resumed_session_is_judged_again_after_a_revocation(server, tls):
    account = f"again-{tls[-1]}"
    server.account(account, "test", "both")
    fleet, key = server.root(account), server.key(account)
    made = Device(server.gateway(key).enrol("made").body)
    for device_id, identity in (("own", fleet.device("own")), ("made", made)):
        g = server.gateway(identity, tls=tls)
        session = g.session()
        again = g.resume(session)
        assert again.resumed and again.status == 404
        server.muster("device", "revoke", device_id, "--account", account)
        soon("device_revoked", lambda g=g, session=session: g.resume(session).code)
    # A root that is gone lets nobody back in by an old session either.
    g = server.gateway(fleet.device("late"), tls=tls)
    session = g.session()
    server.muster("root", "revoke", fleet.root["id"], "--yes")
    soon("root_revoked", lambda: g.resume(session).code)
    # Nor a blacklisted key, whose session is not even kept.
    g = server.gateway(key, tls=tls)
    session = g.session()
    server.muster("key", "blacklist", key.shown["id"])
    with g.connect(session=session) as c:
        assert not c.session_reused
        assert g.on(c, "POST", "/devices", b'{"deviceId":"too-late","ttl":36000}').code == "provisioning_key_blacklisted"


# --- kinds, methods, warnings ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, method, warned", [
    ("test", "shared", []), ("test", "device", []), ("production", "device", []), ("test", "both", ["Both provisioning methods"]),
    ("production", "shared", ["production account with shared"]), ("production", "both", ["Both provisioning methods", "production account with shared"])])
def test_what_mixes_testing_and_production_is_warned_about(server, kind, method, warned):
    account = f"warn-{kind[:4]}-{method}"
    for shown in (server.account(account, kind, method), server.muster("account", "show", account)):
        assert len(shown["warnings"]) == len(warned)
        for text, words in zip(shown["warnings"], warned):
            assert words in text
            assert "production" in text


def test_an_account_s_methods_are_kept_apart(server):
    server.account("only-shared", "test", "shared")
    server.account("only-device", "test", "device")
    refused("method_not_enabled", server.root, "only-shared")
    refused("method_not_enabled", server.key, "only-device")
    # Switched off later, what came in by it stays out.
    server.account("switched", "test", "both")
    fleet, key = server.root("switched"), server.key("switched")
    own, made = fleet.device("own"), Device(server.gateway(key).enrol("made").body)
    assert ask(server, own) is None and ask(server, made) is None
    server.muster("account", "set", "switched", "--method", "shared", "--yes")
    soon("method_not_enabled", lambda: ask(server, own))
    assert ask(server, made) is None
    server.muster("account", "set", "switched", "--method", "device", "--yes")
    soon("method_not_enabled", lambda: ask(server, made))
    assert ask(server, own) is None
    assert server.gateway(key).enrol("more").code == "method_not_enabled"


def test_accounts_are_made_once_and_deleted_with_a_confirmation(server):
    server.account("short-lived", "test", "both")
    refused("already_exists", server.account, "short-lived")
    refused("invalid_request", server.account, "Not A Name")
    fleet, key = server.root("short-lived"), server.key("short-lived")
    device = fleet.device("mayfly")
    assert ask(server, device) is None
    token = server.token("mayfly's owner", "owner", "short-lived")["token"]
    assert "1 device" in refused("confirmation_required", server.muster, "account", "delete", "short-lived").text
    assert ask(server, device) is None
    server.muster("account", "delete", "short-lived", "--yes")
    soon("certificate_untrusted", lambda: ask(server, device))
    stays("account_deleted", lambda: server.gateway(key).enrol("too-late").code)
    assert server.api("GET", "/api/v1/whoami", token=token).status == 401
    refused("already_exists", server.account, "short-lived")  # names are not used again
    # The fleet's root and the device may go on elsewhere.
    server.account("next-life", "test", "device")
    server.root("next-life", fleet)
    soon(None, lambda: ask(server, device))


def test_the_account_of_a_root_s_key_is_a_matter_of_proof(server):
    """A certificate for the challenge that another key signed is none, although it has the right names."""
    server.account("proof", "test", "device")
    fleet, thief = Fleet("Proof Root"), Fleet("Proof Root")
    shown = server.root("proof", fleet, prove=False).root
    path = server.dir.parent / "thief.pem"
    path.write_bytes(thief.proof_pem(shown["challenge"]))
    refused("proof_invalid", server.muster, "root", "prove", shown["id"], path)
    assert server.muster("root", "show", shown["id"])["state"] == "unproved"

"""Fleet roots and issuing CAs are replaced while devices go on: both are accepted until the old one is retired, and nobody who depends on it is forgotten."""
import shutil
import sqlite3
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from client import Device, Fleet, Identity, new_key
from conftest import Refused, refused, soon
from enrolment import DAY, GAP, PATH, YEAR, Account, ask, enrolled, spent as spent_by
from est import basic, csr, enrolled as enrolled_by_est, post
from test_clock import Clock
from test_est import renew, took
from test_forecast import Anytime
from test_status import needs

RETIRED, SHUT = "root_retired", "issuing_root_shut"


@pytest.fixture
def world(fresh):
    s = fresh(start=False)
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    return s


def roots(s, a): return {r["state"]: r for r in s.muster("root", "list", "--account", a.name) if r["origin"] == "muster"}
def seen(s, root): return s.muster("root", "show", root["id"])["seen"]
def names(s, root): return {d["device_id"] for d in s.muster("root", "show", root["id"])["newest"]}
def verifies(s, a): return s.muster("audit", "verify", "--account", a.name)["ok"] is True


def used(s, key, name):
    device = enrolled(s, key, name)
    assert ask(s, device) is None
    return device


def issuer_of(s, a, device):
    """Who signed it, as the certificate says."""
    return device.cert.issuer.rfc4514_string()


def pem_of(s, root, *options):
    path = s.dir.parent / f"{root['id']}.pem"
    s.muster("root", "export", root["id"], *options, "-o", path)
    return [x509.load_pem_x509_certificate(b"-----BEGIN" + pem) for pem in path.read_bytes().split(b"-----BEGIN")[1:]]


# --- of Muster's own ---------------------------------------------------------------------------------------------------------------------------


def test_rotated_while_it_is_disabled_or_revoked(world):
    """What comes of it is one active root, whatever became of the other one; and the log says so."""
    a = Account(world)
    key = a.key()
    device = used(world, key, "device")
    old = roots(world, a)["active"]
    world.muster("root", "disable", old["id"], "--yes")
    assert ask(world, device) == "root_disabled"
    new = world.muster("root", "rotate", old["id"])
    assert {s: r["id"] for s, r in roots(world, a).items()} == {"active": new["id"], "disabled": old["id"]} and verifies(world, a)
    assert ask(world, device) == "root_disabled"
    assert world.muster("root", "enable", old["id"])["state"] == "known-only"
    assert {s: r["id"] for s, r in roots(world, a).items()} == {"active": new["id"], "known-only": old["id"]} and verifies(world, a)
    soon(None, lambda: ask(world, device))
    world.muster("root", "revoke", new["id"], "--yes")
    third = world.muster("root", "rotate", new["id"])
    assert {s: r["id"] for s, r in roots(world, a).items()} == {"active": third["id"], "known-only": old["id"], "revoked": new["id"]} and verifies(world, a)
    assert used(world, key, "later")


def test_who_depends_on_a_root_is_listed_by_the_command_that_the_refusal_names(world):
    """A sentence has five of them; the command has all, whether the root is Muster's own or was uploaded, and nobody else."""
    a = Account(world, method="both")
    key, uploaded = a.key("--expires", "2y"), world.root(a.name)
    own = {used(world, key, f"own-{i}") and f"own-{i}" for i in range(6)}
    for i in range(6):
        assert ask(world, uploaded.device(f"theirs-{i}")) is None
    theirs, old = {f"theirs-{i}" for i in range(6)}, roots(world, a)["active"]
    new = world.muster("root", "rotate", old["id"])
    used(world, key, "later")

    def listed(root, *options):
        return {d["device_id"] for d in world.muster("device", "list", "--root", root["id"], "--account", a.name, *options)}

    for root, of in ((old, own), (uploaded.root, theirs)):
        if root is not old:
            world.muster("root", "set", root["id"], "--state", "known-only")
        text = refused("root_in_use", world.muster, "root", "retire", root["id"]).text
        assert f"`muster device list --root {root['id']} --seen-since 90d`" in text and sum(name in text for name in of) == 5, text
        assert listed(root, "--seen-since", "90d") == listed(root) == of and listed(root, "--state", "revoked") == set()
    assert listed(new) == {"later"} and listed(new, "--prefix", "own-") == set()
    world.clock.set(200 * DAY)
    text = refused("confirmation_required", world.muster, "root", "retire", old["id"]).text
    assert f"`muster device list --root {old['id']} --not-seen-since 90d`" in text and "6 devices" in text, text
    assert listed(old, "--not-seen-since", "90d") == own and listed(old, "--seen-since", "90d") == set()


def test_rotate_and_retire(world):
    a = Account(world)
    key = a.key("--expires", "2y")
    stock, est = used(world, key, "stock"), enrolled_by_est(world.gateway(key), "by-est", new_key())
    assert ask(world, est) is None
    waits = enrolled(world, key, "waits")
    old = roots(world, a)["active"]
    assert seen(world, old)["7d"] == 3 and old["devices"] == 3 and names(world, old) == {"stock", "by-est", "waits"}
    new = world.muster("root", "rotate", old["id"])
    assert (new["origin"], new["state"], new["devices"]) == ("muster", "active", 0) and new["id"] != old["id"] and new["spki"] != old["spki"]
    assert {s: r["id"] for s, r in roots(world, a).items()} == {"active": new["id"], "known-only": old["id"]}
    assert ask(world, stock) is None and ask(world, est) is None, "both are accepted"
    assert ask(world, waits) is None, "one that waited for its first use too"
    fresh_one = used(world, key, "fresh")
    assert issuer_of(world, a, fresh_one) != issuer_of(world, a, stock)
    assert names(world, new) == {"fresh"} and seen(world, old)["7d"] == 3
    renewed = renew(world, est)
    assert names(world, new) == {"fresh"}, "not before the new certificate is used"
    assert ask(world, renewed) is None and names(world, new) == {"fresh", "by-est"} and names(world, old) == {"stock", "waits"}
    assert renewed.cert.issuer == fresh_one.cert.issuer
    assert verifies(world, a)

    said = refused("root_in_use", world.muster, "root", "retire", old["id"])
    assert "2 devices" in said.text and "stock" in said.text and "waits" in said.text
    assert ask(world, stock) is None
    answer = world.api("POST", f"/api/v1/accounts/{a.name}/roots/{old['id']}/retire", {"days": 30})
    assert (answer.status, answer.code, answer.json["count"]) == (409, "root_in_use", 2)
    refused("wrong_state", world.muster, "root", "retire", new["id"])
    refused("wrong_state", world.muster, "root", "rotate", old["id"])
    for days in (0, 36501, "x"):
        assert world.api("POST", f"/api/v1/accounts/{a.name}/roots/{old['id']}/retire", {"days": days}).status == 400

    world.clock.set(3 * DAY)
    assert ask(world, renewed) is None
    refused("root_in_use", world.muster, "root", "retire", old["id"], "--days", "10")
    again = world.muster("root", "show", old["id"])
    assert again["seen"] == {"7d": 2, "30d": 2, "90d": 2, "365d": 2, "ever": 2}
    said = refused("confirmation_required", world.muster, "root", "retire", old["id"], "--days", "2")
    assert "cuts off 2 devices for good" in said.text and "stock" in said.text and "waits" in said.text
    for confirm, status in ((None, 409), (1, 409), (3, 409), (2, 200)):
        answer = world.api("POST", f"/api/v1/accounts/{a.name}/roots/{old['id']}/retire", {"days": 2, **({"confirm": confirm} if confirm else {})})
        assert answer.status == status and (status == 200 or (answer.code, answer.json["count"]) == ("confirmation_required", 2)), answer
        assert (ask(world, renewed), answer.json.get("state")) == (None, "retired" if status == 200 else None)
    assert ask(world, stock) == ask(world, waits) == RETIRED
    assert renew(world, stock) == (403, RETIRED)
    assert ask(world, renewed) is None and ask(world, fresh_one) is None
    assert verifies(world, a) and world.muster("audit", "verify")["ok"] is True
    actions = [e["action"] for e in world.muster("audit", "list", "--account", a.name) if e["object"] == old["id"]]
    assert actions == ["root.rotate", "root.retire"]
    for verb in ("retire", "disable", "enable", "rotate"):
        refused("wrong_state", world.muster, "root", verb, old["id"], *(["--yes"] if verb == "disable" else []))
    world.stop()
    world.start(env=world.clock.env)
    assert ask(world, stock) == RETIRED and ask(world, renewed) is None
    third = world.muster("root", "rotate", new["id"])
    assert ask(world, renewed) is None and third["state"] == "active" and verifies(world, a)


@pytest.mark.parametrize("out", ["revoke", "retire"])
def test_an_answer_that_was_lost_is_not_given_again_under_a_root_that_is_out(world, out):
    """The device asks with the same key until it has an answer; what it gets has to be good for something."""
    a = Account(world, "--reprovision", "replace", "--lost-answer-window", "30d")
    key, keys = a.key("--expires", "2y"), {name: new_key() for name in ("lost", "used", "invited", "ended")}
    enrols = lambda name: took(post(world.gateway(key), "simpleenroll", csr(keys[name], name)), keys[name])
    code = a.device("invite", "invited")["code"]
    invited = lambda: took(post(world.gateway(), "simpleenroll", csr(keys["invited"], "invited"), a.name, **basic("invited", code)), keys["invited"])
    lost, first, by_code = enrols("lost"), enrols("used"), invited()
    assert ask(world, first) is None
    assert enrols("lost").cert == lost.cert and enrols("used").cert == first.cert and invited().cert == by_code.cert
    old = roots(world, a)["active"]
    new = world.muster("root", "rotate", old["id"])
    assert enrols("lost").cert == lost.cert, "good still"
    world.clock.set(3 * DAY)
    world.muster("root", out, old["id"], *(["--days", "1"] if out == "retire" else []), "--yes")
    soon(True, lambda: ask(world, first) in (RETIRED, "root_revoked"))
    for again in (enrols("lost"), enrols("used"), invited()):
        assert again.cert.serial_number not in [d.cert.serial_number for d in (lost, first, by_code)] and ask(world, again) is None
    assert spent_by(world, key) == 3, "one of them was replaced; the answer that was lost cost nothing more"
    # One that has ended before it was used.
    before = enrols("ended")
    world.clock.set(400 * DAY)
    again = enrols("ended")
    assert again.cert.serial_number != before.cert.serial_number and ask(world, again) is None
    assert verifies(world, a) and roots(world, a)["active"]["id"] == new["id"]


def test_where_no_other_root_issues_nothing_is_given(world):
    """Another one would be worth as little; behind the rotation the next request gets one that is good, by a newer invitation as well."""
    a, own, invited = Account(world), new_key(), new_key()
    key = a.key()
    enrols = lambda: took(post(world.gateway(key), "simpleenroll", csr(own, "car")), own)
    by = lambda: took(post(world.gateway(), "simpleenroll", csr(invited, "guest"), a.name, **basic("guest", a.device("invite", "guest")["code"])), invited)
    first, guest = enrols(), by()
    old = roots(world, a)["active"]
    world.muster("root", "revoke", old["id"], "--yes")
    soon((503, SHUT), enrols)
    world.muster("root", "rotate", old["id"])
    a.device("release", "guest", "--for-reprovision")
    for again, before in ((enrols(), first), (by(), guest)):
        assert again.cert.serial_number != before.cert.serial_number and ask(world, again) is None
    assert verifies(world, a)


def test_nothing_is_given_that_a_shut_root_would_refuse(world):
    """Whoever would get a certificate under it is told to come again, loses nothing, and gets it once the root is enabled."""
    a, key_of = Account(world, "--server-keygen", "yes"), {n: new_key() for n in ("renews", "before", "lost", "new")}
    key = a.key("--expires", "2y")
    enrols = lambda name: post(world.gateway(key), "simpleenroll", csr(key_of[name], name))
    renews, before = (took(enrols(name), key_of[name]) for name in ("renews", "before"))
    assert ask(world, renews) is None
    world.muster("root", "rotate", roots(world, a)["active"]["id"])
    lost, root, next_key = took(enrols("lost"), key_of["lost"]), roots(world, a)["active"], new_key()
    asks = [
        lambda: enrols("new"),
        lambda: enrols("lost"),
        lambda: post(world.gateway(key), "serverkeygen", csr(new_key(), "keygen")),
        lambda: world.gateway(key).enrol("stock", "36000"),
        lambda: post(world.gateway(renews), "simplereenroll", csr(next_key, "renews")),
    ]
    so_far = spent_by(world, key), sorted(d["device_id"] for d in a.devices())
    assert not needs(world, SHUT)
    world.muster("root", "disable", root["id"], "--yes")
    for one in asks:
        answer = one()
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, SHUT, "300")
    assert took(enrols("before"), key_of["before"]).cert == before.cert, "which is of the root before"
    assert ask(world, before) is None and ask(world, renews) is None
    assert (spent_by(world, key), sorted(d["device_id"] for d in a.devices())) == so_far
    assert needs(world, SHUT, account=a.name, object=root["id"], level="warning", command="muster root enable")
    world.muster("root", "enable", root["id"])
    assert [one().status for one in asks] == [200] * 5 and ask(world, lost) is None and not needs(world, SHUT)
    # Where another root issues, what leads to a shut one and was never used is made anew: nobody waits for that one.
    key_of["late"] = new_key()
    late, waits = took(enrols("late"), key_of["late"]), took(asks[4](), next_key)
    third = world.muster("root", "rotate", root["id"])
    assert took(enrols("late"), key_of["late"]).cert == late.cert and took(asks[4](), next_key).cert == waits.cert
    world.muster("root", "disable", root["id"], "--yes")
    time.sleep(GAP)
    for own, one, before in ((key_of["late"], lambda: enrols("late"), late), (next_key, asks[4], waits)):
        anew = took(one(), own)
        assert anew.cert != before.cert and ask(world, anew) is None
    answer = enrols("lost")
    assert (answer.status, answer.code) == (503, SHUT) and "leads to a fleet root that is disabled" in answer.json["description"], "one in use is an operator's affair"
    world.muster("root", "revoke", third["id"], "--yes")
    soon(SHUT, lambda: enrols("new").code)
    assert needs(world, SHUT, command="muster root rotate") and verifies(world, a)


def test_whose_certificate_was_used_under_a_root_that_is_out_is_an_operator_s_to_let_in(world):
    a, own = Account(world), new_key()
    key = a.key()
    enrols = lambda: took(post(world.gateway(key), "simpleenroll", csr(own, "car")), own)
    first, next_key = enrols(), new_key()
    assert ask(world, first) is None
    assert post(world.gateway(first), "simplereenroll", csr(next_key, "car")).status == 200
    old = roots(world, a)["active"]
    world.muster("root", "rotate", old["id"])
    world.muster("root", "revoke", old["id"], "--yes")
    assert enrols() == (409, "device_already_registered")
    assert took(post(world.gateway(key), "simpleenroll", csr(next_key, "car")), next_key) == (409, "device_already_registered"), "a renewal that was never used is one of a device that was"
    a.device("release", "car", "--for-reprovision")
    again = enrols()  # with the key that it has in its hardware
    assert again.cert.serial_number != first.cert.serial_number and ask(world, again) is None and verifies(world, a)


def test_roots_certify_each_other(world):
    """Whoever knows one of them alone can go on to the other."""
    a = Account(world)
    old = roots(world, a)["active"]
    assert len(pem_of(world, old, "--crosses")) == 1
    new = world.muster("root", "rotate", old["id"])
    assert len(pem_of(world, old)) == len(pem_of(world, new)) == 1
    (old_by_new, first), (new_by_old, second) = pem_of(world, old, "--crosses"), pem_of(world, new, "--crosses")
    for of, by, cross in ((second, first, new_by_old), (first, second, old_by_new)):
        assert cross.subject == of.subject and cross.issuer == by.subject and cross.public_key().public_numbers() == of.public_key().public_numbers()
        assert cross.not_valid_after == min(of.not_valid_after, by.not_valid_after)
        anchor, below = world.dir.parent / "anchor.pem", world.dir.parent / "below.pem"
        for path, cert in ((anchor, by), (below, cross)):
            path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        done = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", anchor, below], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_files_lead_from_one_root_to_the_other(world, tmp_path):
    """As the page has it: a device's chain, by who knows the other root alone."""
    a = Account(world)
    key = a.key("--expires", "2y")
    before = used(world, key, "before")
    old = roots(world, a)["active"]
    new = world.muster("root", "rotate", old["id"])
    behind = used(world, key, "behind")

    def export(root, *options):
        path = tmp_path / "-".join((root["id"], *options))
        world.muster("root", "export", root["id"], *options, "-o", path)
        return path

    for known, other, device in ((old, new, behind), (new, old, before)):
        files = export(known), export(other, "--crosses"), export(other, "--issuing")
        leaf = tmp_path / "device.pem"
        leaf.write_bytes(device.cert.public_bytes(serialization.Encoding.PEM))
        openssl = ["openssl", "verify", "-purpose", "sslclient", "-CAfile", files[0], leaf]
        assert subprocess.run(openssl, capture_output=True, check=False).returncode != 0
        done = subprocess.run([*openssl[:-1], "-untrusted", files[1], "-untrusted", files[2], leaf], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        chain = tmp_path / "chain.pem"
        chain.write_bytes(b"".join(f.read_bytes() for f in (leaf, files[2], files[1])))
        done = subprocess.run(["certtool", "--verify", "--load-ca-certificate", files[0], "--infile", chain], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_registry_that_missed_the_rotation_is_told_again(world):
    """The vault has rotated, and the registry did not hear of it: a crash between the two."""
    a = Account(world)
    key = a.key("--expires", "2y")
    device = used(world, key, "device")
    old = roots(world, a)["active"]
    world.stop()
    kept = world.dir.parent / "kept"
    kept.mkdir()
    for file in world.dir.glob("registry.db*"):  # with its write-ahead log, where the last process to end left one
        shutil.copy(file, kept)
    world.start(env=world.clock.env)
    world.clock.set(5)  # CAs that are made now end later
    world.muster("root", "rotate", old["id"])
    world.stop()
    for name in ("registry.db-wal", "registry.db-shm"):
        (world.dir / name).unlink(missing_ok=True)
    for file in kept.glob("registry.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, world.dir)
    world.start(env=world.clock.env)
    soon({"active", "known-only"}, lambda: set(roots(world, a)), 10)
    assert roots(world, a)["known-only"]["id"] == old["id"] and ask(world, device) is None
    assert names(world, roots(world, a)["active"]) == set()
    used(world, key, "after")
    assert names(world, roots(world, a)["active"]) == {"after"}


def test_a_root_of_muster_s_own_that_is_disabled_lets_nobody_in(world):
    a = Account(world)
    key = a.key("--expires", "2y")
    device, waits = used(world, key, "device"), enrolled(world, key, "waits")
    root = roots(world, a)["active"]
    with pytest.raises(Refused) as said:
        world.muster("root", "disable", root["id"])
    assert said.value.code == "confirmation_required" and "2 devices" in said.value.text
    world.muster("root", "disable", root["id"], "--yes")
    assert ask(world, device) == ask(world, waits) == "root_disabled"
    assert [c["state"] for c in a.device("show", "waits")["certificates"]] == ["issued"], "nor is it a use"
    world.muster("root", "enable", root["id"])
    assert ask(world, device) is None and ask(world, waits) is None
    world.muster("root", "revoke", root["id"], "--yes")
    assert ask(world, device) == "root_revoked" and verifies(world, a)


# --- issuing CAs replace themselves --------------------------------------------------------------------------------------------------------------


def test_issuing_cas_replace_themselves(world):
    """Once what is left is less than the longest leaf.  35 years, and leaves of 20: after 15."""
    a = Account(world)
    key = a.key("--expires", "9y")
    first = used(world, key, "first")
    world.clock.set(8 * YEAR)
    second = Device(Anytime(world, key).enrol("second").body)
    assert Anytime(world, second).get(PATH).status == 404
    assert second.cert.issuer == first.cert.issuer
    world.clock.set(16 * YEAR)
    world.admin_ca = None

    def actions():
        context = Anytime(world, first).context
        world.admin_ca = context
        return [e["action"] for e in world.api("GET", f"/api/v1/accounts/{a.name}/audit?limit=1000").json["items"]].count("account.cas")
    soon(1, actions, 25)
    assert Anytime(world, first).get(PATH).status == Anytime(world, second).get(PATH).status == 404, "what the one before issued goes on"
    made = world.api("POST", f"/api/v1/accounts/{a.name}/keys", {"expires": "30d"})
    from test_forecast import Zip  # pylint: disable=import-outside-toplevel
    later = Device(Anytime(world, Zip(world, made.body)).enrol("later").body)
    assert later.cert.issuer != first.cert.issuer and Anytime(world, later).get(PATH).status == 404
    life = later.cert.not_valid_after - later.cert.not_valid_before
    assert life.days >= 20 * 365, "nothing is cut short"
    assert world.api("POST", f"/api/v1/accounts/{a.name}/audit/verify", {}).json["ok"] is True
    # It was not that late: what would be good in 16 years alone issues nothing, and gives way.
    world.clock.set(0)
    world.admin_ca = None
    assert world.musterd("clock", "accept").returncode == 0
    answers = []

    def enrols():
        answers.append(Anytime(world, key).enrol(f"now-{len(answers)}"))
        return answers[-1].status
    soon(200, enrols, 90)
    now = Device(answers[-1].body)
    assert now.cert.issuer not in (first.cert.issuer, later.cert.issuer) and Anytime(world, now).get(PATH).status == Anytime(world, first).get(PATH).status == 404
    assert {x.code for x in answers[:-1]} <= {"clock_behind", "vault_unavailable"}, "no certificate that is good for nothing"


def test_a_root_that_was_made_while_the_clock_ran_ahead_issues_nothing(world):
    """Nor does a provisioning CA; another rotation, by the right clock, makes both anew."""
    a, b = Account(world), None
    key, own = a.key(), new_key()
    before = enrolled_by_est(world.gateway(key), "before", own)
    assert ask(world, before) is None
    world.clock.set(20 * DAY)
    ahead = world.muster("root", "rotate", roots(world, a)["active"]["id"])
    b = Account(world)
    world.clock.set(0)
    assert world.musterd("clock", "accept").returncode == 0
    says = lambda: (lambda answer: (answer.status, answer.code, "muster root rotate" in answer.json["description"]))(world.gateway(key).enrol("new"))
    soon((503, "vault_unavailable", True), says, 10)
    assert renew(world, before) == (503, "vault_unavailable") and ask(world, before) is None, "it goes on with the one that it has"
    refused("vault_unavailable", b.key)
    later = "issuing_root_begins_later"
    assert needs(world, later, account=a.name, object=ahead["id"], level="warning", command="muster root rotate") and needs(world, later, account=b.name)
    for account in (a, b):
        world.muster("root", "rotate", roots(world, account)["active"]["id"])
    renewed = renew(world, before)
    assert ask(world, renewed) is None and ask(world, enrolled(world, key, "new")) is None and ask(world, enrolled(world, b.key(), "other")) is None
    assert not needs(world, later) and roots(world, a)["active"]["id"] != ahead["id"] and verifies(world, a) and verifies(world, b)


def test_one_that_ends_before_the_one_before_is_written_down(world):
    """What was made for certificates without an end ends in 9999; what comes after it ends earlier, and is the account's all the same."""
    a = Account(world, "--device-life", "none")
    old = roots(world, a)["active"]
    first = used(world, a.key("--expires", "2y"), "first")
    world.muster("profile", "set", "--account", a.name, "--life", "1y", "--longest-life", "50y")
    world.muster("root", "rotate", old["id"], "--yes")
    key = a.key("--expires", "2y")
    second = Device(Anytime(world, key).enrol("second").body)
    world.clock.set(40 * DAY)
    answers = []

    def replaced():
        answers.append(Anytime(world, key).enrol(f"later-{len(answers)}"))
        return answers[-1].status == 200 and Device(answers[-1].body).cert.issuer != second.cert.issuer
    soon(True, replaced, 40)
    for device in (first, second, Device(answers[-1].body)):
        assert Anytime(world, device).get(PATH).status == 404


def test_nothing_leaves_of_an_issuing_ca_that_the_registry_does_not_know_yet(server):
    """Its devices would be strangers until the operators' process has written it down."""
    a = Account(server)
    key = a.key()
    used(server, key, "before")
    registry = sqlite3.connect(server.dir / "registry.db", timeout=20)
    mine = "FROM ca WHERE kind = 1 AND account = (SELECT id FROM account WHERE name = ?)"
    ((row, key_id),) = registry.execute(f"SELECT id, key_id {mine}", (a.name,)).fetchall()

    def known_as(value):
        with registry:
            registry.execute("UPDATE ca SET key_id = ? WHERE id = ?", (value, row))
    known_as(bytes(20))
    try:
        for ask_for in (server.gateway(key).enrol, lambda name: post(server.gateway(key), "simpleenroll", csr(new_key(), name))):
            answer = ask_for("waits")
            assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "unavailable", "1")
        refused("not_found", a.device, "show", "waits")
    finally:
        known_as(key_id)
        registry.close()
    used(server, key, "waits")


def test_retiring_asks_about_those_that_sleep(world):
    """A device that was not seen for long and has a certificate that is good still, for renewing at least, is cut off with an operator's word alone."""
    a = Account(world, "--late-renewal", 10 * DAY)
    key = a.key("--expires", "2y")
    used(world, key, "stock")  # for 20 years
    a.set("--device-life", "40d")
    by_est = {}
    for name in ("by-est", "waits", "ends", "forgets"):
        by_est[name] = enrolled_by_est(world.gateway(key), name, new_key())
    for name in ("by-est", "ends", "forgets"):
        assert ask(world, by_est[name]) is None
    used(world, key, "gone")
    a.device("revoke", "gone")
    old = roots(world, a)["active"]
    world.muster("root", "rotate", old["id"])

    def asleep(days):
        """How many have to be confirmed; 0: nobody, and it is retired."""
        answer = world.api("POST", f"/api/v1/accounts/{a.name}/roots/{old['id']}/retire", {"days": days})
        assert answer.status == 200 or answer.code == "confirmation_required", answer
        return answer.json["count"] if answer.status == 409 else 0

    world.clock.set(15 * DAY)
    renew(world, by_est["forgets"])  # under the new root, and never used
    world.clock.set(35 * DAY)
    assert asleep(5) == 5, "in time, also what waits for its first use"
    world.clock.set(45 * DAY)
    assert asleep(5) == 5, "ended, and good for renewing"
    moved = renew(world, by_est["by-est"])
    assert ask(world, moved) is None and asleep(5) == 4
    world.clock.set(51 * DAY)
    assert asleep(5) == 1, "who is too late does not count: the gateway refuses it already; nor what waits under the new root, which stays good"
    a.device("revoke", "stock")
    assert asleep(5) == 0 and roots(world, a)["retired"]["id"] == old["id"]
    assert ask(world, moved) is None and verifies(world, a)


# --- of the customer's -----------------------------------------------------------------------------------------------------------------------------


def test_uploaded_roots_overlap(world):
    world.account("cars")
    old, new = Fleet("Old Root"), Fleet("New Root")
    world.root("cars", old)
    moves, stays = old.device("moves"), old.device("stays")
    assert ask(world, moves) is None and ask(world, stays) is None
    world.root("cars", new)
    refused("wrong_state", world.muster, "root", "rotate", old.root["id"])
    assert names(world, old.root) == {"moves", "stays"} and names(world, new.root) == set()
    moved = new.device("moves", key=moves.key, days=(-1, 700))
    assert ask(world, moves) is None and ask(world, moved) is None, "both are accepted while both roots are in use"
    assert (names(world, new.root), names(world, old.root)) == ({"moves"}, {"stays"})
    said = refused("root_in_use", world.muster, "root", "retire", old.root["id"])
    assert "stays" in said.text
    world.clock.set(20 * DAY)
    assert ask(world, moved) is None
    refused("root_in_use", world.muster, "root", "retire", old.root["id"])
    assert "stays" in refused("confirmation_required", world.muster, "root", "retire", old.root["id"], "--days", "10").text
    assert world.muster("root", "retire", old.root["id"], "--days", "10", "--yes")["state"] == "retired"
    assert ask(world, stays) == RETIRED and ask(world, moved) is None
    assert ask(world, old.device("nobody-yet")) == RETIRED
    refused("already_exists", world.root, "cars", old)
    assert world.muster("audit", "verify", "--account", "cars")["ok"] is True
    unproved = world.root("cars", Fleet("Third Root"), prove=False)
    refused("wrong_state", world.muster, "root", "retire", unproved.root["id"])


def nested(world, account):
    """A root, an intermediate below it that was brought as a root of its own, and two devices that show both: one from before the intermediate was there."""
    world.account(account, "test", "device")
    root = Fleet()
    world.root(account, root)
    line = root.intermediate("Line 1")
    shown, line.root = line.cert, None
    old, new = line.device("old", chain=[shown]), line.device("new", chain=[shown])
    assert ask(world, old) is None
    world.root(account, line)
    assert ask(world, new) is None and ask(world, old) is None
    return root, line, old, new


def test_an_intermediate_takes_the_place_of_the_root_above_it(world):
    """A chain that reaches two roots of the account: with the upper one retired the lower one lets in as before, and nobody is counted who goes on."""
    root, line, old, new = nested(world, "up")
    assert names(world, root.root) == set() and names(world, line.root) == {"old", "new"}
    # What shuts the root shuts whoever shows a path to it.
    for which in (root, line):
        assert "cuts off 2 devices" in refused("confirmation_required", world.muster, "root", "disable", which.root["id"]).text
    assert world.muster("root", "retire", root.root["id"])["state"] == "retired"
    assert ask(world, old) is None and ask(world, new) is None and ask(world, Identity(old.cert, old.key)) is None
    assert ask(world, line.device("newest", chain=[line.cert])) is None
    beside = root.intermediate("Line 2")
    assert ask(world, beside.device("beside", chain=[beside.cert])) == RETIRED
    # The last that is good is missed.
    assert "3 devices" in refused("root_in_use", world.muster, "root", "retire", line.root["id"]).text
    world.clock.set(100 * DAY)
    assert "cuts off 3 devices for good" in refused("confirmation_required", world.muster, "root", "retire", line.root["id"]).text
    assert world.muster("root", "retire", line.root["id"], "--yes")["state"] == "retired"
    assert ask(world, old) == ask(world, new) == RETIRED
    assert verifies(world, type("A", (), {"name": "up"}))


def test_what_was_proved_a_moment_ago_holds_when_the_other_one_is_retired(world):
    """Also where the gateway has not read the roots again since: it does before it refuses anybody for a retired one."""
    world.account("quick", "test", "device")
    path = "/api/v1/accounts/quick/roots"
    for turn in range(6):
        root = world.root("quick", Fleet(f"Root {turn}"))
        line = root.intermediate(f"Line {turn}")
        shown, line.root = line.cert, None
        device = line.device(f"car-{turn}", chain=[shown])
        assert ask(world, device) is None
        line.root = world.api("POST", path, {"certificate": line.root_pem().decode()}).json
        assert world.api("POST", f"{path}/{line.root['id']}/proof", {"certificate": line.proof_pem(line.root["challenge"]).decode()}).status == 200
        gone = world.api("POST", f"{path}/{root.root['id']}/retire", {})
        assert gone.status == 200, (turn, gone)
        assert ask(world, device) is None, turn


def test_an_intermediate_that_is_retired_takes_its_devices_along(world):
    """Under whichever of the two roots they are registered; they are counted, and who comes by another CA of the root goes on."""
    root, line, old, new = nested(world, "down")
    beside = root.intermediate("Line 2")
    other = beside.device("beside", chain=[beside.cert])
    assert ask(world, other) is None
    assert names(world, line.root) == {"old", "new"} and names(world, root.root) == {"beside"}
    said = refused("root_in_use", world.muster, "root", "retire", line.root["id"])
    assert "2 devices" in said.text and "old" in said.text and "new" in said.text
    world.clock.set(100 * DAY)
    assert ask(world, other) is None
    said = refused("confirmation_required", world.muster, "root", "retire", line.root["id"])
    assert "cuts off 2 devices for good" in said.text and "old" in said.text and "new" in said.text and "beside" not in said.text
    assert world.muster("root", "retire", line.root["id"], "--yes")["state"] == "retired"
    assert ask(world, old) == ask(world, new) == ask(world, Identity(old.cert, old.key)) == RETIRED
    assert ask(world, other) is None


def test_a_certificate_between_roots_brings_nobody_in_or_out(world):
    """Who shows what leads from the new root to the old one goes on when that is retired; who stands under the old one does not, whatever it shows."""
    a = Account(world)
    key = a.key("--expires", "2y")
    moves, stays = (enrolled_by_est(world.gateway(key), name, new_key()) for name in ("moves", "stays"))
    assert ask(world, moves) is None and ask(world, stays) is None
    old = roots(world, a)["active"]
    new = world.muster("root", "rotate", old["id"])
    moved = renew(world, moves)
    assert ask(world, moved) is None
    bundle = world.dir.parent / "bundle.pem"
    world.muster("root", "bundle", "--account", a.name, "-o", bundle)
    cas = [x509.load_pem_x509_certificate(b"-----BEGIN" + pem) for pem in bundle.read_bytes().split(b"-----BEGIN")[1:]]

    def with_cross(device, root):
        return Identity(device.cert, device.key, [next(c for c in cas if c.subject == device.cert.issuer), pem_of(world, root, "--crosses")[1]])
    up, down = with_cross(moved, new), with_cross(stays, old)
    assert ask(world, up) is None and ask(world, down) is None
    assert names(world, old) == {"stays"}
    world.muster("device", "revoke", "stays", "--account", a.name)
    world.muster("device", "release", "stays", "--account", a.name)
    other = enrolled_by_est(world.gateway(key), "other", new_key())
    assert ask(world, other) is None
    assert world.muster("root", "retire", old["id"])["state"] == "retired"
    assert ask(world, moved) is None and ask(world, up) is None
    assert ask(world, down) == RETIRED


def test_an_older_certificate_under_an_expired_root_counts_there(world):
    """A device that came with a newer one under another root, and today with the older one of the same key: it goes on where the root's rule says so, and depends on that root again."""
    world.account("cars")
    old, new = Fleet("Old", days=(-1, 10)), Fleet("New")
    for root in (old, new):
        world.root("cars", root)
    before = old.device("car", days=(-1, 500))
    after = new.device("car", key=before.key, days=(-1, 800))
    assert ask(world, before) is None and ask(world, after) is None
    assert names(world, old.root) == set() and names(world, new.root) == {"car"}
    world.clock.set(11 * DAY)
    assert ask(world, before) == "certificate_expired" and ask(world, after) is None
    world.muster("root", "set", old.root["id"], "--expired", "known")
    soon(None, lambda: ask(world, before))
    assert names(world, old.root) == {"car"} and names(world, new.root) == set(), "by what it shows"
    assert ask(world, old.device("car", key=new_key())) == "root_known_only"
    refused("root_in_use", world.muster, "root", "retire", old.root["id"])
    assert ask(world, after) is None and ask(world, before) is None
    assert [c["cause"] for c in world.muster("forecast", "--days", 900)["causes"]] == ["device-certificate"], "its own end, of the one that it showed last"
    world.muster("root", "set", old.root["id"], "--state", "known-only")
    assert ask(world, after) is None and names(world, old.root) == set()
    world.muster("root", "retire", old.root["id"])
    assert ask(world, before) == RETIRED and ask(world, after) is None
    assert world.muster("audit", "verify", "--account", "cars")["ok"] is True


def test_who_is_too_late_to_renew_holds_no_root(world):
    a = Account(world, "--device-life", "30d", "--late-renewal", 5 * DAY)
    key = a.key("--expires", "2y")
    device = enrolled_by_est(world.gateway(key), "late", new_key())
    assert ask(world, device) is None
    old = roots(world, a)["active"]
    world.muster("root", "rotate", old["id"])
    world.clock.set(34 * DAY)
    assert ask(world, device) == "certificate_expired"
    assert "late" in refused("root_in_use", world.muster, "root", "retire", old["id"]).text, "it may renew still"
    world.clock.set(37 * DAY)
    assert renew(world, device) == (403, "certificate_expired")
    assert world.muster("root", "retire", old["id"])["state"] == "retired"


def test_devices_that_are_cut_off_hold_no_root(world):
    world.account("cars")
    root = Fleet()
    world.root("cars", root)
    assert ask(world, root.device("gone")) is None and ask(world, root.device("held")) is None
    world.muster("device", "revoke", "gone", "--account", "cars")
    world.muster("device", "quarantine", "held", "--account", "cars")
    assert names(world, root.root) == {"held"} and world.muster("root", "show", root.root["id"])["held"] == 1
    said = refused("confirmation_required", world.muster, "root", "retire", root.root["id"])
    assert "1 device for good" in said.text and "1 held apart" in said.text and "not seen" not in said.text, "nobody waits for it; should it come back, it is cut off"
    world.muster("device", "release", "held", "--account", "cars")
    refused("root_in_use", world.muster, "root", "retire", root.root["id"])
    world.muster("account", "set", "cars", "--approval", "yes")
    assert ask(world, root.device("waits")) == "device_pending"
    world.muster("device", "quarantine", "held", "--account", "cars")
    assert "2 held apart" in refused("confirmation_required", world.muster, "root", "retire", root.root["id"]).text
    world.muster("device", "refuse", "waits", "--account", "cars")
    world.muster("device", "revoke", "held", "--account", "cars")
    assert world.muster("root", "retire", root.root["id"])["state"] == "retired"


# --- expired, above devices whose own certificates are good ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["root", "intermediate"])
def test_known_devices_go_on_when_what_is_above_them_has_expired(world, what):
    """Where the root's rule says so, and nobody else does: not new devices, not another key, not a certificate that has ended itself."""
    world.account("cars")
    root = Fleet(days=(-1, 10 if what == "root" else 900))
    line = root.intermediate("Line 1", days=(-1, 10)) if what == "intermediate" else root
    chain = [line.cert] if what == "intermediate" else []
    world.root("cars", root, "--key-rule", "ask")
    assert world.muster("root", "show", root.root["id"])["expired"] == "refuse"
    known, short, later = line.device("known", chain=chain), line.device("short", chain=chain, days=(-1, 20)), line.device("later", chain=chain)
    assert ask(world, known) is None and ask(world, short) is None
    (one,) = [c for c in world.muster("forecast")["causes"] if c["cause"] in ("fleet-root", "intermediate")]
    assert one["stops"] == 2 and one["code"] == "certificate_expired"
    world.clock.set(11 * DAY)
    assert ask(world, known) == ask(world, short) == ask(world, later) == "certificate_expired"
    answer = world.gateway(known).get(PATH)
    assert "expired" in answer.json["description"] and ("root" if what == "root" else "intermediate") in answer.json["description"].lower()

    assert world.muster("root", "set", root.root["id"], "--expired", "known")["expired"] == "known"
    soon(None, lambda: ask(world, known))
    assert ask(world, short) is None
    assert [(c["cause"], c["stops"]) for c in world.muster("forecast")["causes"]] == [("device-certificate", 1)], "what is above takes nobody along any more"
    assert ask(world, later) == "root_known_only", "nobody new"
    assert ask(world, line.device("known", key=new_key(), chain=chain)) == "root_known_only", "no other key, and none is offered"
    assert world.muster("device", "show", "known", "--account", "cars")["offered_keys"] == []
    assert ask(world, Fleet(days=(-1, 10)).device("known")) == "certificate_untrusted"
    same_key = line.device("known", key=known.key, chain=chain, days=(-1, 500))
    assert ask(world, same_key) is None, "a newer certificate of the key that is registered"
    for verb, code in (("quarantine", "device_quarantined"), ("revoke", "device_revoked")):
        world.muster("device", verb, "known", "--account", "cars")
        assert ask(world, known) == code
    explained = world.muster("explain", pem_file(world, short, chain), "--account", "cars")
    assert explained["verdict"] == "admitted"
    world.clock.set(21 * DAY)
    assert ask(world, short) == "certificate_expired", "its own has ended"
    world.clock.set(12 * DAY)
    world.muster("root", "set", root.root["id"], "--expired", "refuse")
    assert ask(world, short) == "certificate_expired"
    world.muster("root", "set", root.root["id"], "--expired", "known")
    world.muster("root", "disable", root.root["id"], "--yes")
    assert ask(world, short) == "root_disabled", "what is shut stays shut"
    assert world.muster("audit", "verify", "--account", "cars")["ok"] is True
    refused("invalid_request", world.muster, "root", "set", root.root["id"], "--expired", "never")


def pem_file(s, device, chain):
    path = s.dir.parent / "chain.pem"
    path.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in [device.cert, *chain]))
    return path


def test_the_rule_is_the_account_s_own(world):
    """One root in two accounts: each says what becomes of its devices."""
    for name in ("cars", "trucks"):
        world.account(name)
    root = Fleet(days=(-1, 10))
    ids = {}
    for name in ("cars", "trucks"):
        world.root(name, root)
        ids[name] = root.root["id"]
    car, truck = root.device("car"), root.device("truck")
    host = {"cars": world.host("cars"), "trucks": world.host("trucks")}
    assert world.gateway(car, sni=host["cars"]).get(PATH).status == world.gateway(truck, sni=host["trucks"]).get(PATH).status == 404
    world.muster("root", "set", ids["cars"], "--expired", "known")
    world.clock.set(11 * DAY)
    assert world.gateway(car, sni=host["cars"]).get(PATH).status == 404
    assert world.gateway(truck, sni=host["trucks"]).get(PATH).code == "certificate_expired"


# --- damaged rows ----------------------------------------------------------------------------------------------------------------------------------


def test_a_damaged_ca_keeps_out_its_own_devices_alone(fresh):
    """The gateway starts all the same, and says what it cannot read."""
    s = fresh()
    hurt, whole = Account(s), Account(s)
    s.account("uploads")
    root = s.root("uploads", Fleet("Damaged Root"))
    devices = [used(s, a.key(), "device") for a in (hurt, whole)]
    theirs = root.device("device")
    assert ask(s, theirs) is None
    assert s.stop() == 0
    registry = sqlite3.connect(s.dir / "registry.db")
    with registry:
        assert registry.execute("UPDATE ca SET der = x'3003020101' WHERE account = (SELECT id FROM account WHERE name = ?)", (hurt.name,)).rowcount == 2
        assert registry.execute("UPDATE root SET der = x'30' WHERE fingerprint = ?", (bytes.fromhex(root.root["fingerprint"]),)).rowcount == 1
    registry.close()
    s.start()
    assert [ask(s, d) for d in devices] == ["certificate_untrusted", None] and ask(s, theirs) == "certificate_untrusted"
    assert " registry_damaged " in s.log_text()

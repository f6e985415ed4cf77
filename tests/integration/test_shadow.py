"""Shadow mode: whatever policy is changed, it is tried first.  It refuses nobody then, says whom it would have refused, and refuses exactly these once it is enforced."""
import sqlite3
import time

import pytest

from client import Fleet, new_key, spki_hash
from conftest import Server, refused, soon, stays
from enrolment import DAY, GAP, Account, ask, enrol, enrolled
from est import csr, post
from est import enrolled as est_enrolled
from test_clock import Clock
from test_csr_queue import asks
from test_est import renew


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("muster") / "data")
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    yield s
    assert s.stop() == 0
    assert "Sanitizer" not in s.log_text()


def tried(a):
    return {x["device_id"] for x in a.server.muster("profile", "tried", "--account", a.name)}


def code(said):
    return said[1] if isinstance(said, tuple) else said if isinstance(said, str) else None


def whole(a):
    return a.server.muster("audit", "verify", "--account", a.name)["ok"] is True


def by_est(a, key, name, own=None):
    answer = post(a.server.gateway(key), "simpleenroll", csr(own or new_key(), name))
    return None if answer.status == 200 else answer.json["code"]


class Policy:
    """One that is tried for an account, a provisioning key or a root: how it is set, and what devices do meanwhile."""

    def __init__(self, change, does, refused, options=(), of="account", method="both", prepare=None, key=()):
        self.change, self.does, self.refused, self.options, self.of, self.method, self.prepare, self.key = change, does, refused, options, of, method, prepare, key


def uploaded(a, *options, **more):
    a.fleet = a.server.root(a.name, Fleet(**more), *options)


def known(a, *names):
    a.known = {n: a.fleet.device(n) for n in names}
    for d in a.known.values():
        assert ask(a.server, d) is None


# What a device does: {device ID: the code that it was told, None where nothing is in its way}.  `tag` makes IDs of each round its own.

def comes(a, tag): return {f"new-{tag}": by_est(a, a.prov, f"new-{tag}")}
def comes_with_a_certificate(a, tag): return {f"new-{tag}": ask(a.server, a.fleet.device(f"new-{tag}"))}
def comes_by_either(a, tag): return {**comes(a, tag), f"cert-{tag}": ask(a.server, a.fleet.device(f"cert-{tag}"))}
def has_its_key_made(a, tag): return {f"made-{tag}": code(enrol(a.server, a.prov, f"made-{tag}")), f"own-{tag}": by_est(a, a.prov, f"own-{tag}")}


def comes_announced(a, tag):
    path = a.server.dir.parent / f"{a.name}-{tag}.csv"
    path.write_text(f"device_id\nannounced-{tag}\n")
    a.server.muster("device", "import", path, "--account", a.name)
    return {**comes(a, tag), f"announced-{tag}": by_est(a, a.prov, f"announced-{tag}")}


def comes_again(a, tag):
    first = enrolled(a.server, a.prov, f"again-{tag}")
    assert ask(a.server, first) is None
    return {f"again-{tag}": code(enrol(a.server, a.prov, f"again-{tag}"))}


def asks_twice(a, tag):
    enrolled(a.server, a.prov, f"lost-{tag}")
    time.sleep(GAP)
    return {f"lost-{tag}": code(enrol(a.server, a.prov, f"lost-{tag}"))}


def renews(a, tag):
    device = est_enrolled(a.server.gateway(a.prov), f"renews-{tag}", new_key())
    assert ask(a.server, device) is None
    return {f"renews-{tag}": code(renew(a.server, device))}


def renews_the_one_before(a, tag):
    device = est_enrolled(a.server.gateway(a.prov), f"before-{tag}", new_key())
    assert ask(a.server, device) is None and ask(a.server, renew(a.server, device)) is None
    return {f"before-{tag}": code(renew(a.server, device))}


def has_the_server_make_it(a, tag):
    answer = post(a.server.gateway(a.prov), "serverkeygen", csr(new_key(), f"server-{tag}"))
    return {f"server-{tag}": None if answer.status == 200 else answer.code}


def asks_its_own_ca(a, tag):
    device = a.fleet.device(f"queue-{tag}")
    assert ask(a.server, device) is None
    return {f"queue-{tag}": code(asks(a.server, device, new_key(), f"queue-{tag}"))}


def has_another_key(a, tag):
    assert ask(a.server, a.fleet.device(f"other-{tag}")) is None
    other = a.fleet.device(f"other-{tag}")
    assert ask(a.server, other) == "device_key_mismatch"
    if a.server.muster("root", "show", a.fleet.root["id"])["key_rule"] == "ask":
        a.device("accept-key", f"other-{tag}", "--fingerprint", spki_hash(other.key))
    return {f"other-{tag}": ask(a.server, other)}


def some_come(a, tag):
    """Two by the network and pattern, and so on, and one that is not; the key's own bounds are spent by the round before."""
    return {name: by_est(a, a.prov, name) for name in (f"unit-{tag}", f"gate-{tag}")}


POLICIES = {
    "approval": Policy(["--approval", "yes"], comes, {"new": "device_pending"}),
    "approval, first contact": Policy(["--approval", "yes"], comes_with_a_certificate, {"new": "device_pending"}, prepare=uploaded),
    "expected_only": Policy(["--expected-only", "yes"], comes_announced, {"new": "device_unexpected"}),
    "expected_only, first contact": Policy(["--expected-only", "yes"], comes_with_a_certificate, {"new": "device_unexpected"}, prepare=uploaded),
    "reprovision": Policy(["--reprovision", "never"], comes_again, {"again": "device_already_registered"}, options=["--reprovision", "replace"]),
    "device_key": Policy(["--device-key", "rsa2048"], has_its_key_made, {"made": "key_type_off"}, prepare=lambda a: a.server.muster("profile", "set", "--account", a.name, "--key-type", "p256")),
    "lost_answer_window": Policy(["--lost-answer-window", "0"], asks_twice, {"lost": "device_already_registered"}),
    "renewal_window": Policy(["--renewal-window", "1d"], renews, {"renews": "renewal_early"}),
    "superseded_renewal": Policy(["--superseded-renewal", "0"], renews_the_one_before, {"before": "certificate_superseded"}),
    "server_keygen": Policy(["--server-keygen", "no"], has_the_server_make_it, {"server": "server_keygen_off"}, options=["--server-keygen", "yes"]),
    "csr_queue": Policy(["--csr-queue", "no"], asks_its_own_ca, {"queue": "certificate_of_fleet_ca"}, options=["--csr-queue", "yes"], prepare=uploaded),
    "method": Policy(["--method", "device"], comes_by_either, {"new": "method_not_enabled"}, prepare=uploaded),
    "source": Policy(["--source", "192.0.2.0/24"], some_come, {"unit": "provisioning_key_source", "gate": "provisioning_key_source"}, of="key"),
    "id_pattern": Policy(["--id-pattern", "unit-*"], some_come, {"gate": "device_id_not_allowed"}, of="key"),
    "expires": Policy(["--expires", "2026-01-01T00:00:00Z"], some_come, {"unit": "provisioning_key_expired", "gate": "provisioning_key_expired"}, of="key"),
    "max_devices": Policy(["--max-devices", "5"], some_come, {"gate": "provisioning_key_exhausted"}, of="key"),
    "per_hour": Policy(["--per-hour", "5"], some_come, {"gate": "provisioning_key_rate"}, of="key"),
    "key_rule": Policy(["--key-rule", "never"], has_another_key, {"other": "device_key_mismatch"}, of="root", prepare=lambda a: uploaded(a, "--key-rule", "ask")),
    "state": Policy(["--state", "known-only"], comes_with_a_certificate, {"new": "root_known_only"}, of="root", prepare=uploaded),
    "id_rule": Policy(["--id-rule", "serial-number"], comes_with_a_certificate, {"new": "device_id_missing"}, of="root", prepare=uploaded),
}
# What the key has enrolled before it is enforced: a bound on how many counts from there, and cannot be lower than what is spent.
COUNTED = ("max_devices", "per_hour")


def set_it(a, policy, *options):
    what = {"account": ["account", "set", a.name], "key": ["key", "set", a.prov.shown["id"]], "root": ["root", "set", a.fleet.root["id"]] if policy.of == "root" else None}
    return a.server.muster(*what[policy.of], *options)


@pytest.mark.parametrize("name", POLICIES)
def test_it_is_tried_and_then_refuses_whom_it_said(world, name):
    policy = POLICIES[name]
    a = Account(world, *policy.options, method=policy.method)
    a.prov = a.key(*policy.key)
    if policy.prepare:
        policy.prepare(a)
    # Nothing is tried, and nobody refused.
    before = policy.does(a, "a")
    assert set(before.values()) == {None} and tried(a) == set()
    shown = set_it(a, policy, "--shadow", "try", *policy.change)
    member = name.split(",")[0]
    member = {"source": "sources"}.get(member, member)
    assert {**shown, **shown.get("settings", {})}[member] != shown["shadow"][member] and set(shown["shadow"]) >= {member}, shown
    if name in COUNTED:  # two are spent by the round before: of the next four the last is one too many
        assert set(policy.does(a, "b").values()) == {None} and tried(a) == set()
    # Tried: nobody is refused, and they are named.
    during = policy.does(a, "t")
    assert set(during.values()) == {None}
    soon({f"{who}-t" for who in policy.refused}, lambda: tried(a), 10)
    told = {x["device_id"]: x for x in world.muster("refusal", "list", "--account", a.name) if x["shadow"]}
    assert all(x["code"] == "shadow_refused" and x["reason"].startswith("By what is tried: ") for x in told.values())
    assert whole(a)
    # Enforced: exactly they are.
    if name == "max_devices":
        assert world.api("PATCH", f"/api/v1/accounts/-/keys/{a.prov.shown['id']}", {"shadow": "enforce"}).status == 400  # six came by it since
        set_it(a, policy, "--shadow", "drop")
        set_it(a, policy, "--max-devices", "7")
    else:
        shown = set_it(a, policy, "--shadow", "enforce", *(["--yes"] if name == "method" else []))
        assert shown["shadow"] is None
    after = policy.does(a, "e")
    said = {who.rsplit("-", 1)[0]: what for who, what in after.items() if what}
    if name in COUNTED:  # those that are in count
        assert set(said.values()) == set(policy.refused.values())
    else:
        assert said == policy.refused
    assert not {x for x in tried(a) if x.endswith("-e")} and whole(a)


def test_a_provisioning_key_is_tried_whole(world):
    """Bounds and certificates together, one change after the other; and dropped."""
    a = Account(world)
    a.prov = a.key("--max-devices", "100")
    other = a.key()

    def set_key(*options):
        return world.muster("key", "set", a.prov.shown["id"], *options)
    assert set_key("--shadow", "try", "--source", "192.0.2.0/24", "--source", "198.51.100.0/24")["shadow"]["sources"] == "192.0.2.0/24 198.51.100.0/24"
    shown = set_key("--shadow", "try", "--max-devices", "50", "--key-type", "p256")
    assert shown["shadow"] == {"sources": "192.0.2.0/24 198.51.100.0/24", "max_devices": 50, "life": None, "longest_life": None, "key_types": ["p256"], "key_usages": None} and shown["max_devices"] == 100 and shown["sources"] is None
    assert by_est(a, a.prov, "one") is None and by_est(a, other, "two") is None
    soon({"one"}, lambda: tried(a), 10)
    set_key("--max-devices", "60")  # what holds is changed beside it
    held = set_key("--shadow", "enforce")
    assert (held["max_devices"], held["sources"], held["key_types"], held["shadow"]) == (50, "192.0.2.0/24 198.51.100.0/24", ["p256"], None)
    set_key("--shadow", "try", "--source", "127.0.0.0/8", "--per-hour", "9")
    dropped = set_key("--shadow", "drop")
    assert (dropped["shadow"], dropped["per_hour"]) == (None, None) and by_est(a, a.prov, "three") == "provisioning_key_source"
    assert whole(a)


def test_many_from_one_address_are_all_named(world):
    """A factory's line comes from one: whoever is let in is known by the device that he is, and not by where he comes from."""
    a = Account(world)
    a.prov = a.key()
    a.set("--shadow", "try", "--approval", "yes")
    names = {f"unit-{i}" for i in range(80)}
    for n in names:
        enrolled(world, a.prov, n)
    soon(names, lambda: tried(a), 20)
    assert all(x["device"] for x in world.muster("refusal", "list", "--account", a.name))


def test_each_connection_is_told(world):
    """Also where the gateway knows the device still and asks nobody."""
    a = Account(world, method="both")
    device = enrolled(world, a.key(), "unit")
    assert ask(world, device) is None
    a.set("--shadow", "try", "--method", "device")
    for _ in range(4):
        assert ask(world, device) is None
    with world.gateway(device).connect() as kept:
        assert {world.gateway(device).on(kept, "GET", "/director/2.root.json").status for _ in range(3)} == {404}, "and not each request"
    soon([5], lambda: [x["count"] for x in world.muster("profile", "tried", "--account", a.name)], 10)
    a.set("--shadow", "drop")
    assert ask(world, device) is None
    stays([5], lambda: [x["count"] for x in world.muster("profile", "tried", "--account", a.name)], 1.5)


def test_what_cannot_be_tried(world):
    a = Account(world, method="both")
    a.prov = a.key()
    uploaded(a)
    paths = {"account": f"/api/v1/accounts/{a.name}", "key": f"/api/v1/accounts/-/keys/{a.prov.shown['id']}", "root": f"/api/v1/accounts/-/roots/{a.fleet.root['id']}"}
    wrong = {"account": ({"issue_ceiling": 5}, {"device_life": "5d"}, {"backend": "sealed"}, {"confirm": 1}, {"hook": "try"}, {"hook": "x"}, {"late_renewal": -1}, {"method": "none"}, {"x": 1}, {}),
             "key": ({"name": "x"}, {"build": "x"}, {"expires": "2999-01-01T00:00:00Z"}, {"sources": "x"}, {"key_types": ["rsa2048"]}, {"x": 1}, {}),
             "root": ({"expired": "never"}, {"state": "disabled"}, {"x": "y"}, {})}
    for what, bodies in wrong.items():
        for body in ({"shadow": "try", **b} for b in bodies):
            assert world.api("PATCH", paths[what], body).status == 400, (what, body)
        for body in ({"shadow": "enforce"}, {"shadow": "soon"}, {"shadow": None}, {"shadow": True}, {"shadow": "drop", "key_rule": "ask", "per_hour": 4, "approval": True}):
            assert world.api("PATCH", paths[what], body).status == 400, (what, body)
        assert world.api("PATCH", paths[what], {"shadow": "drop"}).json["shadow"] is None
    assert world.api("POST", "/api/v1/accounts", {"id": "try-it", "kind": "test", "method": "shared", "shadow": "try"}).status == 400
    for body, status in (({"shadow": "try", "state": "known-only"}, 200), (None, 200), ({"shadow": "enforce"}, 409), (None, 200), ({"shadow": "enforce"}, 200)):  # nothing is taken for enforced while the root is disabled
        if body:
            answer = world.api("PATCH", paths["root"], body)
            assert answer.status == status, (body, answer)
        else:
            world.muster("root", "disable" if world.muster("root", "show", a.fleet.root["id"])["state"] == "active" else "enable", a.fleet.root["id"], "--yes")
    assert (answer.json["state"], answer.json["shadow"]) == ("known-only", None)
    own = [r["id"] for r in world.muster("root", "list", "--account", a.name) if r["origin"] == "muster"]
    assert world.api("PATCH", f"/api/v1/accounts/-/roots/{own[0]}", {"shadow": "try", "expired": "known"}).status == 409
    assert tried(a) == set() and whole(a)


def test_who_may_try(world):
    """Whoever may change it, and nobody else."""
    a = Account(world)
    for role, status in (("owner", 200), ("operator", 403), ("auditor", 403)):
        token = world.muster("token", "create", f"{a.name}-{role}", "--role", role, "--account", a.name)["token"]
        assert world.api("PATCH", f"/api/v1/accounts/{a.name}", {"shadow": "try", "approval": True}, token=token).status == status


def test_what_is_tried_stands_in_the_log(world):
    """A row that says otherwise is found, and refuses nobody."""
    a = Account(world, method="both")
    a.prov = a.key()
    uploaded(a)
    a.set("--shadow", "try", "--approval", "yes")
    world.muster("key", "set", a.prov.shown["id"], "--shadow", "try", "--per-hour", "5")
    world.muster("root", "set", a.fleet.root["id"], "--shadow", "try", "--expired", "refuse")
    assert whole(a)
    for table in ("account WHERE name = ?", "prov_key WHERE account = (SELECT id FROM account WHERE name = ?)", "root WHERE origin = 1 AND account = (SELECT id FROM account WHERE name = ?)"):
        with sqlite3.connect(world.dir / "registry.db") as db:
            (before,) = db.execute(f"SELECT tried FROM {table}", (a.name,)).fetchone()
            for now in ("", before.replace(":", " :"), "{"):
                db.execute(f"UPDATE {table.replace(' WHERE', ' SET tried = ? WHERE', 1)}", (now, a.name))
                db.commit()
                refused("storage_corrupt", world.muster, "audit", "verify", "--account", a.name)
                assert by_est(a, a.prov, f"{table[:4]}-{len(now)}") is None, "what cannot be read refuses nobody"
            db.execute(f"UPDATE {table.replace(' WHERE', ' SET tried = ? WHERE', 1)}", (before, a.name))
        db.close()
        assert whole(a)


# --- as time goes on: last, as the clock is everybody's -------------------------------------------------------------------------------------


def test_how_late_a_device_may_renew_is_tried(world):
    a = Account(world, "--device-life", 3600)
    a.prov = a.key()
    devices = {name: est_enrolled(world.gateway(a.prov), name, new_key()) for name in ("asleep", "late")}
    assert all(ask(world, d) is None for d in devices.values())
    a.set("--shadow", "try", "--late-renewal", "1d")
    assert ask(world, devices["asleep"]) is None and tried(a) == set()
    world.clock.set(2 * DAY)
    assert ask(world, devices["asleep"]) == "certificate_expired"
    renewed = renew(world, devices["asleep"])
    assert code(renewed) is None
    soon({"asleep"}, lambda: tried(a), 10)
    assert ask(world, renewed) is None
    a.set("--shadow", "enforce")
    assert code(renew(world, devices["late"])) == "certificate_expired" and tried(a) == {"asleep"}
    assert ask(world, renewed) is None and whole(a)


def test_what_becomes_of_devices_under_an_expired_root_is_tried(world):
    """Known ones go on, and are named, until the rule that is tried holds."""
    a = Account(world, method="device")
    uploaded(a, days=(-1, 10))
    later = a.server.root(a.name, Fleet("Later Root"))
    known(a, "known")
    other = later.device("other")
    assert ask(world, other) is None
    world.muster("root", "set", a.fleet.root["id"], "--expired", "known")
    world.clock.set(12 * DAY)
    soon(None, lambda: ask(world, a.known["known"]), 5)
    for root in (a.fleet, later):
        assert world.muster("root", "set", root.root["id"], "--shadow", "try", "--expired", "refuse")["shadow"] == {"expired": "refuse"}
    soon({"known"}, lambda: (ask(world, a.known["known"]), ask(world, other), tried(a))[2], 10)
    assert ask(world, a.known["known"]) is None
    for root in (a.fleet, later):
        world.muster("root", "set", root.root["id"], "--shadow", "enforce")
    assert ask(world, a.known["known"]) == "certificate_expired" and ask(world, other) is None
    assert tried(a) == {"known"} and whole(a)

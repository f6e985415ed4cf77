"""A verdict is kept for the next connection that presents the same, and counts only while all that it rests on is as it was: the moment a
command that changes it has answered, no kept verdict lets anybody in."""
import time

import pytest
from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families

from client import Device, Fleet
from conftest import stays

PATH = "/director/2.root.json"
SECONDS = 1 / 86400  # of a day


def ask(server, identity, **options):
    answer = server.gateway(identity, **options).get(PATH)
    assert answer.status in (404, 403, 409, 421), answer
    return None if answer.status == 404 else answer.code


def peers(server):
    text = server.api("GET", "/metrics").body.decode()
    family = next(f for f in text_string_to_metric_families(text) if f.name == "muster_peers")
    return {s.labels["verdict"]: s.value for s in family.samples if s.name == "muster_peers_total"}


class Counted:
    """Whether the connections inside were known or judged."""

    def __init__(self, server, known, judged):
        self.server, self.expected = server, {"known": known, "judged": judged}

    def __enter__(self):
        self.before = peers(self.server)

    def __exit__(self, kind, *rest):
        after = peers(self.server)
        assert kind or {k: after[k] - self.before[k] for k in after} == self.expected


@pytest.fixture(scope="module")
def world(server):
    server.account("known", "test", "both")
    server.account("elsewhere", "test", "both")
    server.fleet, server.prov = server.root("known"), server.key("known")
    server.host("known"), server.host("elsewhere")  # their certificates are there, which changes what is trusted
    return server


def settle(world, identity):
    """Let in, and every part has heard of what that may have changed: a first contact is written behind its answer."""
    assert ask(world, identity) is None
    stays(None, lambda: ask(world, identity), 0.3)


def make(world, method, device_id):
    """A device whose verdict is kept."""
    identity = world.fleet.device(device_id) if method == "device" else Device(world.gateway(world.prov).enrol(device_id).body)
    settle(world, identity)
    with Counted(world, known=2, judged=0):
        assert ask(world, identity) is None
        assert ask(world, identity) is None
    return identity


@pytest.mark.parametrize("method", ["device", "shared"])
@pytest.mark.parametrize("verb,code", [("quarantine", "device_quarantined"), ("revoke", "device_revoked"), ("delete", "device_deleted")])
def test_a_device_that_is_cut_off_is_out_at_once(world, method, verb, code):
    d = f"{verb}-{method}"
    identity = make(world, method, d)
    world.muster("device", verb, d, "--account", "known", "--yes")
    assert ask(world, identity) == code
    stays(code, lambda: ask(world, identity), 0.3)
    with Counted(world, known=2, judged=0):  # that it is out is known as well
        assert ask(world, identity) == code
        assert ask(world, identity) == code
    if verb == "quarantine":
        world.muster("device", "release", d, "--account", "known")
        assert ask(world, identity) is None
        world.muster("device", "quarantine", d, "--account", "known")
        assert ask(world, identity) == code


@pytest.mark.parametrize("verb,code", [("disable", "root_disabled"), ("revoke", "root_revoked")])
def test_a_root_that_is_shut_shuts_its_devices_out_at_once(world, verb, code):
    fleet = world.root("known")
    identity = fleet.device(f"under-{verb}")
    settle(world, identity)
    with Counted(world, known=1, judged=0):
        assert ask(world, identity) is None
    world.muster("root", verb, fleet.root["id"], "--yes")
    assert ask(world, identity) == code


def test_a_method_that_is_taken_away_is_gone_at_once(world):
    world.account("methods", "test", "both")
    fleet = world.root("methods")
    identity = fleet.device("by-its-method")
    settle(world, identity)
    world.muster("account", "set", "methods", "--method", "shared", "--yes")
    assert ask(world, identity) == "method_not_enabled"


def test_a_deleted_account_is_gone_at_once(world):
    world.account("brief", "test", "both")
    fleet = world.root("brief")
    identity = fleet.device("of-brief")
    settle(world, identity)
    world.muster("account", "delete", "brief", "--yes")
    assert ask(world, identity) in ("account_deleted", "certificate_untrusted")


def test_a_key_that_is_blacklisted_enrols_nobody_though_its_chain_is_known(world):
    key = world.key("known")
    assert world.gateway(key).enrol("by-key-1").status == 200
    stays(200, lambda: world.gateway(key).enrol(f"by-key-{time.monotonic_ns()}").status, 0.3)
    with Counted(world, known=1, judged=0):
        assert world.gateway(key).enrol("by-key-2").status == 200
    assert ask(world, key) == "provisioning_key_only_enrols"
    world.muster("key", "blacklist", key.shown["id"], "--yes")
    assert world.gateway(key).enrol("by-key-3").code == "provisioning_key_blacklisted"


def test_the_day_of_the_certificate_ends_its_verdict(world):
    identity = world.fleet.device("short-lived", days=(-1, 6 * SECONDS))
    settle(world, identity)
    with Counted(world, known=1, judged=0):
        assert ask(world, identity) is None
    end = time.monotonic() + 10
    while ask(world, identity) is None:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert ask(world, identity) == "certificate_expired"


def test_the_day_of_an_intermediate_ends_it_too(world):
    line = world.fleet.intermediate("Short line", extensions=[(x509.BasicConstraints(True, None), True)], days=(-1, 6 * SECONDS))
    identity = line.device("under-a-short-line", chain=[line.cert])
    settle(world, identity)
    with Counted(world, known=1, judged=0):
        assert ask(world, identity) is None
    end = time.monotonic() + 10
    while ask(world, identity) is None:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert ask(world, identity) == "certificate_expired"


def test_another_accounts_name_finds_no_verdict(world):
    identity = make(world, "device", "named")
    own, other = world.host("known"), world.host("elsewhere")
    assert ask(world, identity, sni=own) is None
    with Counted(world, known=1, judged=1):
        assert ask(world, identity, sni=own) is None
        assert ask(world, identity, sni=other) == "certificate_of_other_account"
    with Counted(world, known=1, judged=1):  # and what is refused is not kept
        assert ask(world, identity, sni=other) == "certificate_of_other_account"
        assert ask(world, identity, sni=own) is None
    assert ask(world, identity, sni=own, host=other) == "misdirected_request"


def test_what_is_presented_besides_makes_another_verdict(world):
    line = world.fleet.intermediate("Line 9", extensions=[(x509.BasicConstraints(True, None), True)])
    whole = line.device("under-line-9", chain=[line.cert])
    alone = line.device("under-line-9", key=whole.key)  # without what leads to the root
    settle(world, whole)
    with Counted(world, known=1, judged=1):
        assert ask(world, whole) is None
        assert ask(world, alone) == "certificate_untrusted"


def test_the_same_certificate_without_its_chain_is_not_known(world):
    line = world.fleet.intermediate("Line 10", extensions=[(x509.BasicConstraints(True, None), True)])
    whole = line.device("under-line-10", chain=[line.cert])
    settle(world, whole)
    with Counted(world, known=1, judged=0):
        assert ask(world, whole) is None
    whole.cert_file.write_bytes(whole.cert_file.read_bytes().split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n")
    with Counted(world, known=0, judged=1):
        assert ask(world, whole) == "certificate_untrusted"


def test_a_pending_device_that_is_approved_is_in_at_once(world):
    world.account("waits", "test", "both", "--approval", "yes")
    fleet = world.root("waits")
    identity = fleet.device("waiting")
    assert ask(world, identity) == "device_pending"
    stays("device_pending", lambda: ask(world, identity), 0.3)
    with Counted(world, known=0, judged=1):  # an announcement would let it in, which is no change of trust
        assert ask(world, identity) == "device_pending"
    world.muster("device", "approve", "waiting", "--account", "waits", "--yes")
    assert ask(world, identity) is None


def test_a_root_that_was_proved_a_moment_ago_is_no_strangers(world):
    for i in range(5):
        fleet = Fleet(f"New root {i}")
        identity = fleet.device(f"of-new-root-{i}")
        assert ask(world, identity) == "certificate_untrusted"
        world.root("known", fleet)
        assert ask(world, identity) is None


def test_strangers_are_not_kept(world):
    stranger = Fleet("Nobody's").device("stranger")
    with Counted(world, known=0, judged=3):
        for _ in range(3):
            assert ask(world, stranger) == "certificate_untrusted"


def test_a_certificate_that_another_one_took_the_place_of_is_out_at_once(world):
    """The change is the gateway's own: the first use of a newer certificate."""
    world.muster("account", "set", "known", "--reprovision", "replace", "--yes")
    try:
        first = make(world, "shared", "comes-again")
        second = Device(world.gateway(world.prov).enrol("comes-again").body)
        assert ask(world, first) is None  # nobody has used the other yet
        assert ask(world, second) is None
        assert ask(world, first) == "certificate_superseded"
    finally:
        world.muster("account", "set", "known", "--reprovision", "never", "--yes")


def test_a_change_by_a_killed_operators_process_is_seen_by_the_epoch(world):
    """What control wrote without being able to say so, the registry says."""
    import sqlite3
    identity = make(world, "device", "behind-the-back")
    with sqlite3.connect(world.dir / "registry.db") as db:
        db.execute("UPDATE device SET state = 3, state_before = 1 WHERE device_id = 'behind-the-back'")
        db.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
    db.close()
    end = time.monotonic() + 1
    while ask(world, identity) is None:
        assert time.monotonic() < end
    assert ask(world, identity) == "device_quarantined"


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_neither_a_provisioning_key_nor_a_stranger_resumes(world, tls):
    for identity in (world.prov, Fleet("Nobody's").device("stranger")):
        g = world.gateway(identity, tls=tls)
        again = g.resume(g.session())
        assert not again.resumed and again.status == 403
    g = world.gateway(world.fleet.device(f"resumes-{tls}"), tls=tls)
    assert g.resume(g.session()).resumed

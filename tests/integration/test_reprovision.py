"""A device that comes again after being wiped: never, ask, replace, released once; its own state wins over all of them."""
import time

import pytest

from client import Device
from conftest import refused, soon, stays
from enrolment import GAP, Account, ask, enrol, enrolled, key_shown, retry_after, spent, used


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def test_never_is_the_default(account, server):
    a = account()
    key = a.key()
    device = used(server, key, "never")
    assert a.shown["settings"]["reprovision"] == "never"
    answer = server.gateway(key).enrol("never")
    assert (answer.status, answer.code) == (409, "device_already_registered")
    assert ask(server, device) is None and spent(server, key) == 1


def test_ask_lets_an_operator_decide(account, server):
    a = account("--reprovision", "ask")
    key = a.key()
    old = used(server, key, "asks")
    refused("wrong_state", a.device, "approve", "asks")
    for _ in range(3):  # a client that polls is written down once
        answer = server.gateway(key).enrol("asks")
        assert (answer.status, answer.code) == (403, "approval_pending") and retry_after(answer) > 0
    assert a.device("show", "asks")["reprovision"] == "asked" and a.audit("asks").count("device.asks_again") == 1
    assert ask(server, old) is None and spent(server, key) == 1
    a.device("approve", "asks")
    new = enrolled(server, key, "asks")
    assert spent(server, key) == 2
    assert ask(server, old) is None  # until the new one is used
    assert ask(server, new) is None
    assert ask(server, old) == "certificate_superseded"
    assert len(a.devices()) == 1
    assert enrol(server, key, "asks") == (403, "approval_pending")  # once


def test_ask_refused(account, server):
    a = account("--reprovision", "ask")
    key = a.key()
    device = used(server, key, "asks")
    assert enrol(server, key, "asks") == (403, "approval_pending")
    a.device("refuse", "asks")
    assert enrol(server, key, "asks") == (403, "device_refused")
    assert enrol(server, key, "asks") == (403, "device_refused")
    assert ask(server, device) is None and spent(server, key) == 1
    a.device("approve", "asks")  # thought better of
    assert isinstance(enrol(server, key, "asks"), Device)


def test_ask_with_another_key_and_a_lost_answer_afterwards(account, server):
    a = account("--reprovision", "ask")
    one, other = a.key("--max-devices", "1"), a.key("--max-devices", "1")
    used(server, one, "moves")
    assert enrol(server, other, "moves") == (403, "approval_pending")
    a.device("approve", "moves")
    first = enrolled(server, other, "moves")
    time.sleep(GAP)
    second = enrolled(server, other, "moves")
    assert ask(server, second) is None and ask(server, first) == "certificate_void"
    assert (spent(server, one), spent(server, other)) == (1, 1)
    assert a.device("show", "moves")["key"] == other.shown["id"]


def test_a_lost_answer_needs_no_approval(account, server):
    key = account("--reprovision", "ask").key()
    enrolled(server, key, "lost")
    time.sleep(GAP)
    assert isinstance(enrol(server, key, "lost"), Device)


def test_replace_takes_the_key_that_enrolled_the_device(account, server):
    a = account("--reprovision", "replace")
    assert any("replace" in w for w in a.shown["warnings"])
    one, other = a.key("--max-devices", "2"), a.key()
    old = used(server, one, "wiped")
    assert enrol(server, other, "wiped") == (409, "device_already_registered")
    new = used(server, one, "wiped")
    assert ask(server, old) == "certificate_superseded" and ask(server, new) is None
    assert (spent(server, one), len(a.devices())) == (2, 1)
    assert enrol(server, one, "wiped") == (403, "provisioning_key_exhausted")


@pytest.mark.parametrize("policy", ["never", "ask"])
def test_release_for_reprovision_once(account, server, policy):
    a = account("--reprovision", policy)
    one, other = a.key(), a.key()
    old = used(server, one, "released")
    a.device("release", "released", "--for-reprovision")
    new = used(server, other, "released")
    assert ask(server, old) == "certificate_superseded" and ask(server, new) is None
    assert enrol(server, other, "released") == ((409, "device_already_registered") if policy == "never" else (403, "approval_pending"))
    assert len(a.devices()) == 1 and "device.release" in a.audit("released")


def test_a_released_device_s_answer_may_be_lost_too(account, server):
    a = account()
    key = a.key()
    used(server, key, "released")
    a.device("release", "released", "--for-reprovision")
    first = enrolled(server, key, "released")
    time.sleep(GAP)
    second = enrolled(server, key, "released")
    assert ask(server, second) is None and ask(server, first) == "certificate_void"
    assert spent(server, key) == 2


def test_a_device_of_the_fleet_s_own_ca_is_no_replacement(account, server):
    """Whatever the policy, a provisioning key takes no ID of a device that came with a certificate of its own."""
    a = account("--reprovision", "replace", method="both")
    key, fleet = a.key(), server.root(a.name)
    device = fleet.device("factory")
    assert ask(server, device) is None
    assert enrol(server, key, "factory") == (409, "device_already_registered")
    assert ask(server, device) is None


STATES = [("quarantine", "device_quarantined"), ("revoke", "device_revoked"), ("delete", "device_deleted")]


@pytest.mark.parametrize("policy", ["never", "ask", "replace"])
def test_the_state_of_a_device_wins_over_every_policy_and_window(account, server, policy):
    a = account("--reprovision", policy)
    key = a.key("--max-devices", "6")
    for verb, _ in STATES:
        used(server, key, f"{verb}-used")
        enrolled(server, key, f"{verb}-unused")  # in the lost answer's window
    time.sleep(GAP)
    for verb, code in STATES:
        for name in (f"{verb}-used", f"{verb}-unused"):
            a.device(verb, name)
            assert enrol(server, key, name) == (403, code)
    assert key_shown(server, key)["state"] == "exhausted"
    a.device("release", "quarantine-used")
    assert enrol(server, key, "quarantine-used")[1] in ("device_already_registered", "approval_pending", "provisioning_key_exhausted")
    a.device("release", "quarantine-unused")
    assert isinstance(enrol(server, key, "quarantine-unused"), Device)


def test_a_grant_does_not_outlive_a_revocation(account, server):
    a = account()
    key = a.key()
    used(server, key, "granted")
    a.device("release", "granted", "--for-reprovision")
    a.device("revoke", "granted")
    assert enrol(server, key, "granted") == (403, "device_revoked")
    refused("wrong_state", a.device, "release", "granted", "--for-reprovision")


def test_a_released_tombstone_s_id_enrols_again(account, server):
    a = account()
    key = a.key()
    old = used(server, key, "phoenix")
    first = a.device("show", "phoenix")["id"]
    a.device("delete", "phoenix")
    a.device("release", "phoenix")
    new = used(server, key, "phoenix")
    assert a.device("show", "phoenix")["id"] != first and spent(server, key) == 2
    stays("certificate_revoked", lambda: ask(server, old), 0.3)
    assert ask(server, new) is None


# --- accounts that want approval --------------------------------------------------------------------------------------------------------------


def test_an_account_may_want_approval(account, server):
    a = account("--approval", "yes")
    key = a.key()
    device = enrolled(server, key, "waits")
    assert ask(server, device) == "device_pending" and a.device("show", "waits")["state"] == "pending"
    a.device("approve", "waits")
    soon(None, lambda: ask(server, device))
    device = enrolled(server, key, "sent-away")
    a.device("refuse", "sent-away")
    soon("device_refused", lambda: ask(server, device))
    time.sleep(GAP)
    assert enrol(server, key, "sent-away") == (403, "device_refused")

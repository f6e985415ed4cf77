"""What `check` and `explain` say, and of which side: whatever the device's clock says, and whatever the last attempt came to."""
import datetime
import shutil

import pytest

from agent import Authority, Gateway, refusal
from conftest import soon
from test_agent_run import UTC, Teller, device, enrolled, key, moved, to_1970  # noqa: F401 (three are fixtures)
from test_agent_withstands import USE, world  # noqa: F401 (a fixture)

TIME = ("GET", "/time")
OLD = datetime.datetime(2020, 1, 1, tzinfo=UTC)


def judged(said):
    return said["verdict"], said["side"], said["code"]


# --- a clock that is wrong -------------------------------------------------------------------------------------------------------------------------------


def test_a_clock_of_1970_admits_nobody(server, device, clock, key):  # noqa: F811
    """The gateway's word on the time is none on the device."""
    enrolled(device, key, "quar-1970")
    to_1970(clock)
    assert device.good("check") == "quar-1970 is admitted.\n" and device.explain()["verdict"] == "admitted"
    server.muster("device", "quarantine", "quar-1970", "--account", "fleet", "--reason", "smells of smoke")
    soon(("refused", "gateway", "device_quarantined"), lambda: judged(device.explain()))
    assert "quarantine" in device.fails("check")
    server.muster("device", "release", "quar-1970", "--account", "fleet")
    soon("admitted", lambda: device.explain()["verdict"])


@pytest.mark.parametrize("behind", [True, False], ids=["behind", "doubtful"])
def test_the_gateway_is_asked_once_the_time_is_known(world, clock, behind):  # noqa: F811
    world.imported(begin=-1 if behind else 1, end=300)
    world.gateway.answers[TIME] = Teller(world.ca)
    if behind:
        to_1970(clock)
    for answer, said in ((refusal(403, "device_quarantined"), ("refused", "gateway", "device_quarantined")), ((503, {}, b""), ("unknown", "gateway", "network_failed")),
                         (world.gateway.answers[USE], ("admitted", None, None))):
        world.gateway.answers[USE], asked = answer, world.asked(USE)
        assert judged(world.device.explain()) == said
        assert world.asked(USE) == asked + 1
    assert world.asked(TIME) >= 3


def test_what_something_in_between_answers(world):  # noqa: F811
    """A portal or a proxy that sends elsewhere has refused nobody, and whose refusal explains nothing is told from a request that could be corrected."""
    world.imported(begin=-1, end=300)
    for answer, said, fix in (((302, {"Location": "https://portal.example/"}, b"<html>"), ("unknown", "gateway", "network_failed"), "Check the URL"),
                              ((429, {}, b""), ("unknown", "gateway", "too_many_requests"), "after the time"),
                              ((403, {}, b"<html>"), ("refused", "gateway", "invalid_request"), "Correct what the text names")):
        world.gateway.answers[USE] = answer
        told = world.device.explain()
        assert judged(told) == said and fix in told["fix"] and f"status {answer[0]}" in told["reason"]
        assert ("a proxy or a portal" in told["reason"]) == (answer[0] == 403)


def test_a_provision_that_failed_on_the_device_is_explained(device, tmp_path):  # noqa: F811
    """Nobody was asked: what failed is said all the same, and a second time costs the flash nothing."""
    at = tmp_path / "import"
    at.mkdir()
    for name in ("client.pem", "pkey.pem", "root.crt"):
        (at / name).write_text("nothing")
    said = device.fails("provision", "--credentials", at)
    assert "can be read by others" in said and "Correct what the text names" in said
    before = (device.dir / "state.json").stat()
    told = device.explain()
    assert judged(told) == ("refused", "device", "not_provisioned") and "can be read by others" in told["reason"] and "Mend what the reason names" in told["fix"]
    assert device.fails("provision", "--credentials", at) == said and (device.dir / "state.json").stat().st_ino == before.st_ino
    assert "There are no credentials" in device.fails("provision", "--credentials", tmp_path) and "There are no credentials" in device.explain()["reason"]
    assert not device.remembered()["device_id"] and not device.remembered()["source"]


@pytest.mark.parametrize("told", ["nonce", "old", "odd", "unknown"])
def test_a_time_that_is_not_believed_is_no_refusal(world, clock, told):  # noqa: F811
    """Nobody has refused this device: it does not know what time it is, and so not whom it speaks to."""
    world.imported(begin=-1, end=300)
    to_1970(clock)
    world.gateway.answers[TIME] = {"nonce": Teller(world.ca, nonce="00" * 32), "old": Teller(world.ca, at=OLD, made=OLD.replace(tzinfo=None)), "odd": (200, {}, b"{}"), "unknown": (404, {}, b"")}[told]
    said, asked = world.device.explain(), world.asked(USE)
    assert judged(said) == ("unknown", "device", "gateway_time") and "did not tell the time" in said["reason"] and "clock" in said["fix"]
    assert world.asked(USE) == asked


def test_a_wrong_clock_does_not_hide_who_is_there(world, clock):  # noqa: F811
    """Nobody, or a stranger: the same words as with a clock that is right."""
    world.imported(begin=-1, end=300)
    at = world.device.dir / "current" / "gateway.url"
    stranger = Gateway(Authority("Another").server(), {})
    for url, side in (("https://localhost:1", ("unknown", "network", "network_failed")), (stranger.url, ("refused", "device", "gateway_untrusted"))):
        at.write_text(url, encoding="utf-8")
        clock.set(0)
        right = world.device.explain()
        to_1970(clock)
        said = world.device.explain()
        assert judged(said) == judged(right) == side and said["fix"] == right["fix"], said
    stranger.close()


# --- an identity that is lost ----------------------------------------------------------------------------------------------------------------------------


def test_a_key_that_is_lost_for_good(server, device, key):  # noqa: F811
    """The steps of doc/agent.md: the provisioning key has left the device with its first enrolment, and the gateway knows the device."""
    enrolled(device, key, "lost-1")
    before = device.serial
    shutil.rmtree(device.dir)
    options = ("--credentials", device.top / "credentials.zip", "--device-id", "lost-1")
    assert "(not_found)" in device.fails("provision", *options)
    shutil.copy(key.zip, device.top / "credentials.zip")
    assert "(device_already_registered)" in device.fails("provision", *options)
    server.muster("device", "release", "lost-1", "--account", "fleet", "--for-reprovision")
    device.good("provision", *options)
    assert device.serial != before and device.explain()["verdict"] == "admitted"

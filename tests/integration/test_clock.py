"""The clock of a running server jumps, ahead and back: what it means for devices, enrolments and the server's own certificate."""
import os
import signal
import threading
import time

import pytest

from client import Device, new_key
from clock import Clock
from conftest import Refused, stays
from est import csr, enrolled as est_enrolled, post
from receiver import Receiver
from test_server_certificate import serial, soon

HOUR, DAY = 3600, 86400
PATH = "/director/2.root.json"


@pytest.fixture
def world(fresh):
    s = fresh(start=False, config=["webhook_networks = 127.0.0.0/8", "webhook_retry_first = 1s", "webhook_retry_most = 2s"])
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    s.account("a", "test", "both")
    s.prov, s.fleet = s.key("a"), s.root("a")
    return s


def enrol(s, device_id):
    answer = s.gateway(s.prov).enrol(device_id)
    return answer.status if answer.status == 200 else answer.code


def status(s):
    return s.api("GET", "/api/v1/status").json


def answers(s):
    try:
        return s.request("GET", "/healthz").status == 200
    except OSError:
        return False


def told(s):
    return [a for a in status(s)["attention"] if a["what"] == "clock_was_set"]


def ask(s, device):
    answer = s.gateway(device).get(PATH)
    return None if answer.status == 404 else answer.code


def test_ahead_and_back(world):
    own, made = world.fleet.device("own"), Device(world.gateway(world.prov).enrol("made").body)
    assert ask(world, own) is None and ask(world, made) is None

    world.clock.set(HOUR)
    stays(None, lambda: ask(world, own))
    stays(None, lambda: ask(world, made))
    ahead = Device(world.gateway(world.prov).enrol("ahead").body)
    assert ask(world, ahead) is None

    world.clock.set(0)  # the log has an entry of an hour from now
    answer = world.gateway(world.prov).enrol("behind")
    assert (answer.status, answer.code) == (503, "clock_behind") and int(answer.headers["Retry-After"]) > 0
    with pytest.raises(Refused) as refused:
        world.key("a")
    assert refused.value.code == "clock_behind"
    for device in (own, made, ahead):
        stays(None, lambda: ask(world, device))  # pylint: disable=cell-var-from-loop
    assert "clock_behind" in str(world.muster("status")["attention"])

    world.clock.set(HOUR)  # it was right after all
    assert enrol(world, "behind") == 200
    assert world.muster("audit", "verify")["ok"]

    world.clock.set(0)  # it was not, says an operator
    assert enrol(world, "accepted") == "clock_behind"
    assert world.musterd("clock", "accept").returncode == 0
    soon(200, lambda: enrol(world, "accepted"))
    assert world.muster("audit", "verify")["ok"]


def test_nobody_is_limited_by_a_day_that_has_not_come(world):
    world.muster("account", "set", "a", "--csr-queue", "yes")
    key, root = world.key("a", "--per-hour", "1", "--expires", "2y"), world.root("a", None, "--key-rule", "ask")
    device, other, own = root.device("asks"), new_key(), new_key()
    asks = lambda: (lambda answer: (answer.status, answer.code))(post(world.gateway(device), "simplereenroll", csr(new_key(), "asks")))
    enrols = lambda name: (lambda answer: 200 if answer.status == 200 else answer.code)(world.gateway(key).enrol(name))
    offers = lambda: ask(world, root.device("asks", key=other))
    renews = lambda identity, own: est_enrolled(world.gateway(identity), "wanders", own, "simplereenroll")
    wanders, moves = est_enrolled(world.gateway(world.prov), "wanders", own), est_enrolled(world.gateway(world.prov), "moves", new_key())
    assert ask(world, device) is None and ask(world, moves) is None
    world.clock.set(40 * DAY)
    assert ask(world, est_enrolled(world.gateway(moves), "moves", new_key(), "simplereenroll")) is None
    assert (enrols("first"), enrols("second"), asks()) == (200, "provisioning_key_rate", (202, "csr_waiting"))
    assert (offers(), ask(world, wanders)) == ("device_key_mismatch", None)
    made = world.key("a", "--expires", "60d")  # in images by the time that somebody sees the clock
    shown = lambda: world.muster("device", "show", "asks", "--account", "a")
    token = lambda: [t["last_used"] for t in world.muster("token", "list")]
    far = [shown()["last_seen"], shown()["offered_keys"][0]["last_seen"], *token()]
    world.clock.set(0)
    assert world.musterd("clock", "accept").returncode == 0
    soon(200, lambda: enrols("second"))
    assert (enrols("third"), asks(), asks()) == ("provisioning_key_rate", (202, "csr_waiting"), (429, "reissue_limited"))
    assert (offers(), world.gateway(made).enrol("imaged").status) == ("device_key_mismatch", 200)
    soon(True, lambda: all(now < then for now, then in zip([shown()["last_seen"], shown()["offered_keys"][0]["last_seen"], *token()], far)))
    newer = renews(wanders, new_key())  # whose first use is before that of the one that it replaces
    assert ask(world, newer) is None and ask(world, wanders) == "certificate_superseded"
    assert ask(world, renews(wanders, new_key())) is None, "a certificate that was replaced is good for renewing, also where it was first used by that clock"
    late = lambda: (lambda answer: (answer.status, answer.code))(post(world.gateway(moves), "simplereenroll", csr(new_key(), "moves")))
    world.muster("account", "set", "a", "--superseded-renewal", "0")
    soon((403, "certificate_superseded"), late)
    world.muster("account", "set", "a", "--superseded-renewal", "1d")
    soon(200, lambda: late()[0])
    assert world.muster("audit", "verify")["ok"]


def test_what_is_in_the_making_while_the_clock_is_set_is_not_given(world):
    """Certificate and record would name two times, and the record look like a forged one for good."""
    vault, gateway, pause = world.child("vault"), world.child("gateway"), 0.05
    for i in range(1, 9):
        said = []
        t = threading.Thread(target=lambda: said.append(enrol(world, f"made-{i}")))  # pylint: disable=cell-var-from-loop
        os.kill(vault, signal.SIGSTOP)
        t.start()
        time.sleep(pause)  # until the vault is asked, and again until it has answered
        os.kill(gateway, signal.SIGSTOP)
        os.kill(vault, signal.SIGCONT)
        time.sleep(pause)
        world.clock.set(2 * HOUR * i)
        os.kill(gateway, signal.SIGCONT)
        t.join(60)
        if said == ["unavailable"]:
            break
        pause *= 2
    assert said == ["unavailable"] and enrol(world, f"made-{i}") == 200
    assert world.muster("audit", "verify")["ok"]


def test_back_and_on_again_leaves_nothing_behind(world):
    made = Device(world.gateway(world.prov).enrol("made").body)
    assert ask(world, made) is None
    world.clock.set(-2 * DAY)
    assert ask(world, made) is None, "the registry knows it, whatever day it is"
    assert enrol(world, "long ago") == "clock_behind"
    world.clock.set(0)
    assert ask(world, made) is None
    assert enrol(world, "today") == 200
    assert world.muster("audit", "verify")["ok"]


def test_a_verdict_that_is_kept_ends_with_the_clock(world):
    made = Device(world.gateway(world.prov).enrol("made").body)
    for _ in range(3):
        assert ask(world, made) is None
    world.clock.set(40000 * DAY)
    assert ask(world, made) == "certificate_expired"
    assert enrol(world, "much later") in ("certificate_expired", "provisioning_key_expired")
    world.clock.set(0)
    assert ask(world, made) is None


def test_the_servers_certificate_of_a_clock_far_ahead_is_made_again(world):
    """Else no device could connect until that day comes.  And whoever is there is told, by the log, by webhooks, by status and metrics: nobody but an operator knows which time was right."""
    says = [500]
    receiver = Receiver(lambda number, got: says[0])
    made = world.api("POST", "/api/v1/webhooks", {"url": receiver.url(), "events": ["clock.was_set"]})
    assert made.status == 201 and not told(world) and status(world)["clock"]["set_at"] is None
    before = serial(world.gateway())
    control = world.child("control")
    world.admin_ca.verify_flags |= 0x200000
    world.clock.set(300 * DAY, 11, control)  # it looks every second, by timers that only look when something else happens

    def seen():
        world.request("GET", "/readyz")  # a timer is looked at when something else happens
        g = world.gateway()
        g.context.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME: it is still today here
        return serial(g)

    soon(True, lambda: seen() != before, 30)  # due under that clock
    far = seen()
    (ahead,) = told(world)
    receiver.wait(1, seconds=60)
    assert ahead["level"] == "warning" and "was set ahead by" in ahead["text"] and "`musterd clock accept`" in ahead["text"]
    assert abs(status(world)["clock"]["set"] - 300 * DAY) < 30
    world.clock.set(0, 22, control)
    soon(True, lambda: seen() != far, 30)
    assert serial(world.gateway()) == seen(), "valid today"
    assert world.log_text().count("clock_was_set") == 2
    soon(["notice"], lambda: [a["level"] for a in told(world)], 30)
    assert abs(status(world)["clock"]["set"]) < 30
    os.kill(control, signal.SIGKILL)  # what another process has noticed is not forgotten, nor told again
    receiver.wait(2, seconds=60)
    soon(True, lambda: answers(world), 60)
    says[0] = 200  # what was put off by that clock is not left until that day
    soon(0, lambda: world.api("GET", f"/api/v1/webhooks/{made.json['id']}").json["waiting"], 60)
    assert {abs(e["seconds"] + 300 * DAY) < 30 for e in receiver.events()} == {False, True} and {e["account"] for e in receiver.events()} == {None}
    receiver.close()
    assert world.musterd("clock", "accept").returncode == 0
    assert not told(world) and status(world)["clock"]["set_at"] is None
    assert enrol(world, "after") == 200 or enrol(world, "after") == "clock_behind"

"""The lost answer: a device that never got its certificate may ask again, without spending budget; the first one used is the device's."""
import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import Device
from conftest import BUILD, refused, soon
from enrolment import DAY, GAP, PATH, Account, ask, enrol, enrolled, key_shown, retry_after, spent


@pytest.fixture
def account(server):
    return lambda *options, **more: Account(server, *options, **more)


def test_a_second_answer_spends_no_budget(account, server):
    a = account()
    key = a.key("--max-devices", "1")
    first = enrolled(server, key, "lost")
    assert key_shown(server, key)["state"] == "exhausted"
    time.sleep(GAP)
    second = enrolled(server, key, "lost")  # the key is exhausted, and still
    assert first.spki != second.spki and first.common_name == second.common_name == "lost"
    assert (spent(server, key), len(a.devices())) == (1, 1)
    assert enrol(server, key, "other-id") == (403, "provisioning_key_exhausted")
    assert ask(server, second) is None
    shown = a.device("show", "lost")
    assert (shown["spki"], [c["state"] for c in shown["certificates"]].count("current")) == (second.spki, 1)


def test_answers_in_reverse_order(account, server):
    """The one that came first is used, after a later one was given out; and the other way round."""
    a = account()
    key = a.key()
    names = (("old-wins", 0), ("new-wins", 1))
    first = [enrolled(server, key, name) for name, _ in names]
    time.sleep(GAP)
    for (name, winner), one in zip(names, first):
        both = [one, enrolled(server, key, name)]
        assert ask(server, both[winner]) is None
        assert ask(server, both[1 - winner]) == "certificate_void"
        assert ask(server, both[winner]) is None
        assert a.device("show", name)["spki"] == both[winner].spki
        assert len([d for d in a.devices() if d["device_id"] == name]) == 1
    assert spent(server, key) == 2


def test_two_within_half_a_second(account, server):
    key = account().key()
    for n in range(10):  # a busy machine may be too slow to be hasty
        name, began = f"hasty-{n}", time.monotonic()
        first = enrolled(server, key, name)
        answer = server.gateway(key).enrol(name)
        if time.monotonic() - began < 0.5:
            break
    assert (answer.status, answer.code, retry_after(answer)) == (429, "reissue_limited", 1)
    time.sleep(1)  # the stock client's own pause
    second = enrolled(server, key, name)
    assert ask(server, second) is None and ask(server, first) == "certificate_void"


def test_at_most_eight_further_answers_and_the_first_used_is_the_device_s(account, server):
    a = account()
    key = a.key("--max-devices", "1")
    certificates = []
    for _ in range(9):
        certificates.append(enrolled(server, key, "eight"))
        time.sleep(GAP)
    answer = server.gateway(key).enrol("eight")
    assert (answer.status, answer.code) == (429, "reissue_limited")
    assert 86000 < retry_after(answer) <= 86400  # until the window is over
    assert len({c.spki for c in certificates}) == 9
    assert ask(server, certificates[4]) is None
    assert [ask(server, c) for c in certificates] == ["certificate_void"] * 4 + [None] + ["certificate_void"] * 4
    assert enrol(server, key, "eight") == (409, "device_already_registered")
    assert a.audit("eight") == ["device.enrol"] * 9 + ["device.first_use"] and (spent(server, key), len(a.devices())) == (1, 1)


def test_the_first_requests_of_all_at_once_find_one_device(account, server):
    key = account().key()
    certificates = []
    for _ in range(3):
        certificates.append(enrolled(server, key, "stampede"))
        time.sleep(GAP)
    start = threading.Barrier(12)

    def use(i):
        start.wait()
        return i % 3, ask(server, certificates[i % 3])

    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(use, range(12)))
    winners = {i for i, code in got if code is None}
    assert len(winners) == 1, got
    assert {code for i, code in got if i not in winners} == {"certificate_void"}
    assert all(code is None for i, code in got if i in winners)


def test_first_use_racing_a_further_answer(account, server):
    """Whoever comes first: one certificate is the device's, and it is the one that was used."""
    a = account()
    key = a.key()
    names = [f"race-{n}" for n in range(4)]
    firsts = [enrolled(server, key, name) for name in names]
    time.sleep(GAP)
    for name, first in zip(names, firsts):
        start = threading.Barrier(2)

        def again(name=name, start=start):
            start.wait()
            return enrol(server, key, name)

        with ThreadPoolExecutor(1) as pool:
            more = pool.submit(again)
            start.wait()
            assert ask(server, first) is None
            more = more.result()
        if isinstance(more, Device):
            assert ask(server, more) == "certificate_void"
        else:
            assert more == (409, "device_already_registered")
        assert ask(server, first) is None
        states = [c["state"] for c in a.device("show", name)["certificates"]]
        assert states.count("current") == 1 and states.count("issued") == 0


def test_two_loops_racing(account, server):
    """Two programs on one device ask for its ID and use what they get, each in its loop: one of them has the device in the end."""
    a = account()
    key = a.key("--max-devices", "1")
    got, start = [[], []], threading.Barrier(2)

    def loop(mine):
        start.wait()
        for _ in range(6):
            answer = enrol(server, key, "two-loops")
            if isinstance(answer, Device):
                mine.append((answer, ask(server, answer)))
            time.sleep(0.3)

    threads = [threading.Thread(target=loop, args=(one,)) for one in got]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    every = got[0] + got[1]
    assert [code for _, code in every].count(None) == 1, every
    assert {code for _, code in every} <= {None, "certificate_void"}
    assert (spent(server, key), len(a.devices())) == (1, 1)


def test_a_handshake_alone_is_no_use(account, server):
    key = account().key()
    first = enrolled(server, key, "handshake")
    time.sleep(GAP)
    second = enrolled(server, key, "handshake")
    for tls in ("1.2", "1.3"):
        with server.gateway(first, tls=tls).connect() as c:
            c.settimeout(0.2)
            with pytest.raises(TimeoutError):
                c.recv(1)
    assert ask(server, second) is None
    assert ask(server, first) == "certificate_void"


def test_the_status_of_the_first_answer_does_not_matter(account, server):
    key = account().key()
    requests = [("GET", "/nothing/here", None, 404), ("GET", "/repo/targets/x", None, 404), ("POST", "/director/ecus", b"garbage", 400),
                ("POST", "/devices", b'{"deviceId":"x"}', 403), ("DELETE", "/director/ecus", None, 405)]
    first = [enrolled(server, key, f"status-{i}") for i in range(len(requests))]
    time.sleep(GAP)
    second = [enrolled(server, key, f"status-{i}") for i in range(len(requests))]
    for (method, path, body, status), one, other in zip(requests, first, second):
        assert server.gateway(one).request(method, path, body).status == status
        assert (ask(server, other), ask(server, one)) == ("certificate_void", None), (method, path)


@pytest.mark.parametrize("sni, host, refusal", [("other.localhost", None, "certificate_of_other_account"), (None, "other.localhost", "misdirected_request")])
def test_a_request_to_another_account_s_name_is_a_use_too(account, server, sni, host, refusal):
    a = account()
    key = a.key()
    first = enrolled(server, key, f"misled-{refusal}")
    time.sleep(GAP)
    second = enrolled(server, key, f"misled-{refusal}")
    g = server.gateway(first, sni=sni or "localhost", host=host)
    g.context.check_hostname = False
    assert g.get("/x").code == refusal
    assert ask(server, second) == "certificate_void"
    assert ask(server, first) is None


def test_a_connection_with_a_voided_certificate_is_told_so(account, server):
    """Also where its handshake was over before the other certificate was used."""
    key = account().key()
    first = enrolled(server, key, "voided")
    time.sleep(GAP)
    second = enrolled(server, key, "voided")
    g = server.gateway(first)
    with g.connect() as c:
        assert ask(server, second) is None
        answer = g.on(c, "GET", PATH)
        assert (answer.status, answer.code) == (403, "certificate_void")


def test_another_key_has_no_lost_answer(account, server):
    a = account()
    one, other = a.key(), a.key()
    device = enrolled(server, one, "owned")
    time.sleep(GAP)
    assert enrol(server, other, "owned") == (409, "device_already_registered")
    assert spent(server, other) == 0
    assert ask(server, device) is None
    assert enrol(server, one, "owned") == (409, "device_already_registered")  # used


def test_a_blacklisted_key_has_no_lost_answer(account, server):
    a = account()
    key = a.key()
    device = enrolled(server, key, "listed")
    server.muster("key", "blacklist", key.shown["id"])
    time.sleep(GAP)
    assert enrol(server, key, "listed") == (403, "provisioning_key_blacklisted")
    assert ask(server, device) is None  # what it got before is good


def test_when_the_window_is_over_the_policy_decides(account, server):
    a = account("--lost-answer-window", "2")
    assert a.shown["settings"]["lost_answer_window"] == 2
    key = a.key()
    first = enrolled(server, key, "late")
    over = time.monotonic() + 2.1  # counted from the first one
    time.sleep(GAP)
    second = enrolled(server, key, "late")
    time.sleep(over - time.monotonic())
    assert enrol(server, key, "late") == (409, "device_already_registered")
    assert ask(server, second) is None and ask(server, first) == "certificate_void"
    a.set("--lost-answer-window", "0")
    enrolled(server, key, "none")
    time.sleep(GAP)
    assert enrol(server, key, "none") == (409, "device_already_registered")
    refused("invalid_request", a.set, "--lost-answer-window", str(31 * DAY))


def test_a_gateway_that_dies_between_commit_and_answer(fresh):
    """At exactly that instant: the device is registered and paid for, and its answer never left."""
    s = fresh(start=False)
    mark = s.dir.parent / "kill"
    s.start(env={"LD_PRELOAD": str(BUILD / "tests" / "kill_at_answer.so"), "MUSTER_TEST_KILL": str(mark)})
    s.account("lost", "test", "shared")
    key = s.key("lost", "--max-devices", "1")
    gateway = s.child("gateway")
    mark.touch()
    with pytest.raises((OSError, http.client.HTTPException)):
        s.gateway(key).enrol("cut")
    mark.unlink()

    def restarted():
        try:
            return s.child("gateway") != gateway and s.gateway(key).get("/").status == 403
        except (OSError, LookupError):
            return False

    soon(True, restarted, 15)
    shown = s.muster("device", "show", "cut", "--account", "lost")
    assert (shown["state"], [c["state"] for c in shown["certificates"]], spent(s, key)) == ("active", ["issued"], 1)
    time.sleep(GAP)
    device = enrolled(s, key, "cut")
    assert ask(s, device) is None and spent(s, key) == 1
    shown = s.muster("device", "show", "cut", "--account", "lost")
    assert [c["state"] for c in shown["certificates"]] == ["current", "void"]
    entries = [e for e in s.muster("audit", "list", "--account", "lost") if e["action"] == "device.enrol"]
    assert [e["detail"]["how"] for e in entries] == ["new", "answer lost"]
    assert s.muster("audit", "verify", "--account", "lost")["ok"] is True

"""What one source, device, provisioning key or account may have of the gateway, and that the others go on meanwhile."""
import os
import signal
import socket
import ssl
import threading
import time

import pytest

from client import Fleet, Registration
from conftest import soon
from enrolment import PATH, Account, ask, enrol, enrolled, retry_after, spent, used
from proxies import Proxy, me, nginx_fields
from test_stock_client import Aktualizr

OTHER = "127.0.0.2"  # another source


def counted(server, name, **labels):
    """The sum of a metric's series that have these labels."""
    total = 0
    for line in server.api("GET", "/metrics").body.decode().splitlines():
        series, _, value = line.rpartition(" ")
        if series.split("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
            total += float(value)
    return total


def report(server, device):
    return server.gateway(device).request("PUT", "/system_info", {"id": "board"})


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    from conftest import Server
    s = Server(tmp_path_factory.mktemp("limits") / "data", config=["limit_device = 5"]).start()
    yield s
    assert s.stop() == 0


def test_a_device_that_enrols_in_a_loop_is_told_to_wait(strict):
    account = Account(strict)
    key = account.key()
    said = [strict.gateway(key).enrol("loop") for _ in range(20)]
    assert said[0].status == 200
    last = said[-1]
    assert (last.status, last.code) == (429, "too_many_requests")
    assert 1 <= retry_after(last) <= 12, "five a minute: the next is due within twelve seconds"
    assert {"description", "cause", "errorId"} <= last.json.keys()
    assert len([a for a in said if a.code == "too_many_requests"]) >= 14
    shown = account.device("show", "loop")
    assert len(shown["certificates"]) <= 5
    assert spent(strict, key) == 1
    enrolled(strict, key, "another")  # with the same key, from the same address
    assert counted(strict, "muster_limited_total", by="device") >= 14


def test_the_stock_client_takes_a_429_as_it_is_meant(strict):
    """It asks three times within two seconds where it hears a 5xx, and once where it hears this; it keeps its name, and comes again at its next poll."""
    account = Account(strict)
    registration = Registration(account.key().zip)
    device = Aktualizr(strict, "polls", registration)
    for _ in range(6):
        assert device.provision() in (None, "server error")
    assert device.requests == ["POST /devices"] * 6
    assert device.statuses[0] == 200 and device.statuses[-1] == 429 and set(device.statuses) == {200, 429}
    told = strict.gateway(registration).enrol("polls")
    time.sleep(retry_after(told) + 0.2)
    assert device.provision() is None and device.statuses[-1] == 200
    assert len(account.device("show", "polls")["certificates"]) <= 7


def test_a_device_that_reports_in_a_loop_is_told_to_wait(strict):
    account = Account(strict)
    key = account.key()
    device, other = used(strict, key, "talks"), used(strict, key, "quiet")
    said = [report(strict, device) for _ in range(8)]
    assert [a.status for a in said[:5]] == [200] * 5
    assert [(a.status, a.code) for a in said[5:]] == [(429, "too_many_requests")] * 3
    assert retry_after(said[-1]) >= 1
    assert ask(strict, device) is None, "what writes nothing goes on"
    assert report(strict, other).status == 200


def test_a_device_that_is_wiped_over_and_over_gets_no_more_than_a_days_worth(fresh):
    s = fresh(config=["limit_device = 0"])
    account = Account(s, "--reprovision", "replace")
    key = account.key()
    for _ in range(24):
        used(s, key, "wiped")
    answer = s.gateway(key).enrol("wiped")
    assert (answer.status, answer.code) == (429, "reissue_limited")
    assert 86000 <= retry_after(answer) <= 86400
    account.device("release", "wiped", "--for-reprovision")
    used(s, key, "wiped")  # an operator said so


def until_refused(s, key, prefix, most):
    """How many enrolments a key gets at once, and the refusal."""
    for i in range(most):
        answer = s.gateway(key).enrol(f"{prefix}{i}")
        if answer.status != 200:
            return i, answer
    return most, None


def test_keys_and_accounts_have_limits_of_their_own(fresh):
    """The times in between give a few more on a machine that is slow."""
    s = fresh(config=["limit_key = 6", "limit_account = 10"])
    account, other = Account(s), Account(s)
    first, second, third, elsewhere = account.key(), account.key(), account.key(), other.key()
    began = time.monotonic()
    n, answer = until_refused(s, first, "a", 30)
    assert 6 <= n <= 7 + (time.monotonic() - began) / 10
    assert (answer.status, answer.code) == (429, "too_many_requests") and "key" in answer.json["description"]
    waits = [retry_after(s.gateway(first).enrol(f"other-{i}")) for i in range(8) if s.gateway(first).enrol(f"other-{i}").status == 429]
    assert all(1 <= w <= 75 for w in waits) and max(waits) - min(waits) >= 10, "not all at the same time"
    m, answer = until_refused(s, second, "b", 30)
    if "account" not in answer.json["description"]:  # it took so long that the key was its own limit first
        m += until_refused(s, third, "c", 30)[0]
        answer = s.gateway(third).enrol("c-last")
    assert 10 <= n + m <= 12 + (time.monotonic() - began) / 6
    assert (answer.status, answer.code) == (429, "too_many_requests") and "account" in answer.json["description"]
    enrolled(s, elsewhere, "d0")
    assert counted(s, "muster_limited_total", by="key") >= 2 and counted(s, "muster_limited_total", by="account") >= 1


def test_a_source_that_fails_too_often_is_turned_away(fresh):
    """Another source is not, and the first comes back by itself."""
    s = fresh(config=["limit_source = 60"])  # one a second comes free again
    account = Account(s)
    device = used(s, account.key(), "good")
    stranger = Fleet("A Stranger").device("stranger")
    turned = None
    for i in range(120):
        try:
            assert s.gateway(stranger, source=OTHER).get(PATH).status == 403
        except (OSError, ssl.SSLError):
            turned = i
            break
    assert turned is not None and 55 <= turned <= 90
    refused = counted(s, "muster_connections_refused_total", process="gateway")
    with pytest.raises((OSError, ssl.SSLError)):
        s.gateway(device, source=OTHER).get(PATH)
    assert counted(s, "muster_connections_refused_total", process="gateway") == refused + 1
    assert counted(s, "muster_limited_total", by="source") >= 2
    assert ask(s, device) is None, "from 127.0.0.1"
    time.sleep(1.2)
    assert s.gateway(device, source=OTHER).get(PATH).status == 404


def test_what_a_source_is_admitted_to_is_not_held_against_it(fresh):
    """Nor what it was told to come again for."""
    s = fresh(config=["limit_source = 5", "limit_device = 2"])
    account = Account(s)
    key = account.key()
    device = used(s, key, "good")
    for _ in range(20):
        assert s.gateway(device).get("/not/there").status == 404
        assert report(s, device).status in (200, 429)
        assert s.gateway(key).enrol("good").status in (409, 429)
    assert ask(s, device) is None


def test_an_admitted_devices_own_mistakes_are_not_held_against_its_source(fresh):
    s = fresh(config=["limit_source = 5", "limit_device = 0"])
    device = used(s, Account(s).key(), "clumsy")
    for _ in range(20):
        assert s.gateway(device).request("POST", "/director/ecus", b"{").status == 400
    assert ask(s, device) is None


def test_what_a_proxy_asks_about_is_not_held_against_the_address_that_it_names(fresh, tmp_path):
    """It could name anybody's."""
    s = fresh(config=["limit_source = 5", f"auth_socket = {tmp_path / 'auth'}", f"auth_users = {me()}"])
    device = used(s, Account(s).key(), "good")
    stranger = Fleet("A Stranger").device("stranger")
    for _ in range(20):
        assert Proxy(tmp_path / "auth").ask({**nginx_fields(stranger), "X-Muster-Client-Address": "127.0.0.1"}).status == 403
    assert ask(s, device) is None


@pytest.fixture
def stopped_vault(fresh):
    """A server that has a place for two enrolments, whose vault does not answer for a while."""
    s = fresh(config=["enrolments = 2"])
    vault = s.child("vault")
    yield s, lambda: os.kill(vault, signal.SIGSTOP), lambda: os.kill(vault, signal.SIGCONT)
    os.kill(vault, signal.SIGCONT)


def test_who_enrols_beyond_the_line_is_told_when_to_come(stopped_vault):
    """Devices that are enrolled go on meanwhile, and those in the line get their certificates."""
    s, stop, go_on = stopped_vault
    account = Account(s)
    key = account.key()
    device = used(s, key, "known")
    got = {}
    stop()
    threads = [threading.Thread(target=lambda i=i: got.update({i: enrol(s, key, f"in-{i}")})) for i in range(2)]
    for t in threads:
        t.start()
    soon(2, lambda: sum(1 for t in threads if t.is_alive()))
    time.sleep(0.3)
    answers = {i: s.gateway(key).enrol(f"out-{i}") for i in range(6)}
    for a in answers.values():
        assert (a.status, a.code) == (429, "enrolment_line_full")
        assert 1 <= retry_after(a) <= 10
    began = time.monotonic()
    assert ask(s, device) is None and report(s, device).status == 200
    assert time.monotonic() - began < 1
    go_on()
    for t in threads:
        t.join(20)
    assert all(hasattr(got[i], "cert") for i in range(2)), got
    enrolled(s, key, "out-0")
    assert counted(s, "muster_limited_total", by="line") == 6
    assert spent(s, key) == 4


def test_silent_connections_make_room(fresh):
    """A source that opens connections and says nothing takes no place from a device, however many it opens."""
    s = fresh(config=["connections = 16", "loops = 1"])
    account = Account(s)
    device = used(s, account.key(), "good")
    silent = []
    idle = s.gateway(device).connect()
    assert s.gateway(device).on(idle, "GET", PATH).status == 404
    try:
        for _ in range(15):
            silent.append(socket.create_connection(("127.0.0.1", s.port), timeout=5))
        time.sleep(1.2)
        for _ in range(10):
            silent.append(socket.create_connection(("127.0.0.1", s.port), timeout=5))
        soon(True, lambda: counted(s, "muster_connections_refused_total", process="gateway") >= 10)
        assert s.gateway(device).on(idle, "GET", PATH).status == 404, "who has asked something goes after those who have not for a second"
        idle.close()
        for _ in range(100):
            silent.append(socket.create_connection(("127.0.0.1", s.port), timeout=5))
        for _ in range(5):
            assert ask(s, device) is None
        # And one that completed its handshake and says nothing counts no more than one that did not.
        for _ in range(20):
            silent.append(s.gateway(device).connect())
        assert ask(s, device) is None
    finally:
        for c in silent:
            c.close()
    assert counted(s, "muster_connections_refused_total", process="gateway") >= 100

"""Asking somebody outside before a certificate is issued: yes, no, later, and everything that is no answer, which is a no."""
import json
import sqlite3
import time

import pytest

from client import Device as Enrolled
from conftest import Refused, refused, soon
from enrolment import GAP, Account, ask, enrol, retry_after
from est import Device, basic, certificates, csr, post
from receiver import verify
from client import new_key
from test_webhooks import receiver  # noqa: F401  a fixture

CONFIG = ["webhook_networks = 127.0.0.0/8 ::1"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from conftest import Server
    s = Server(tmp_path_factory.mktemp("muster") / "data", config=CONFIG).start()
    yield s
    assert s.stop() == 0
    assert "Sanitizer" not in s.log_text()


def asks(server, account, receiver, rule="new", **more):
    """The account asks that receiver: the webhook."""
    made = server.api("POST", "/api/v1/webhooks", {"url": receiver.url(), "account": account.name, "events": ["certificate.ask"], **more})
    assert made.status == 201, made
    account.set("--hook", rule)
    return made.json


def until(answer_of, first=(202, 503), seconds=20):
    """The answer after those that say to come again, which have a Retry-After; and how many they were."""
    end, waits = time.monotonic() + seconds, 0
    while True:
        answer = answer_of()
        if not (answer.status in first and (answer.code or answer.json.get("code")) == "hook_pending"):
            return answer, waits
        assert time.monotonic() < end
        assert 1 <= retry_after(answer) <= 60
        waits += 1
        time.sleep(0.3)


def whole(a):
    return a.server.muster("audit", "verify", "--account", a.name)["ok"] is True


def rows(server, a):
    with sqlite3.connect(server.dir / "registry.db") as db:
        return db.execute("SELECT device_id, state FROM ask WHERE account = (SELECT id FROM account WHERE name = ?) ORDER BY id", (a.name,)).fetchall()


def test_yes(server, receiver):
    """Asked once, signed as webhooks are; the client comes again and has its certificate; the answer is used up by it."""
    r, a = receiver(), Account(server)
    made = asks(server, a, r)
    key = a.key("--name", "line-1")
    answer, waits = until(lambda: server.gateway(key).enrol("yes"))
    assert answer.status == 200 and waits >= 1
    assert ask(server, Enrolled(answer.body)) is None
    (got,) = r.got
    assert verify(made["secret"], got.headers["Muster-Signature"], got.body) and got.headers["Muster-Event"] == "certificate.ask" and got.headers["Muster-Event-Id"] == got.json["id"]
    assert {k: v for k, v in got.json.items() if k not in ("id", "at")} == {"type": "certificate.ask", "account": a.name, "device_id": "yes", "kind": "enrol", "key": "line-1", "spki": None, "address": "127.0.0.1", "tried": False}
    assert rows(server, a) == []
    entries = [e for e in server.muster("audit", "list", "--account", a.name) if e["object"] == "yes"]
    assert [e["action"] for e in entries if e["action"] in ("device.allow", "device.enrol")] in (["device.allow", "device.enrol"], ["device.enrol", "device.allow"])
    assert not [x for x in server.muster("refusal", "list", "--account", a.name)]
    assert whole(a)


def test_est_gets_202_and_the_answer_is_of_one_key(server, receiver):
    """The allowance is of this device ID and this public key: another key is asked for by itself."""
    r, a = receiver(), Account(server)
    asks(server, a, r)
    key, own, other = a.key(), new_key(), new_key()
    first = post(server.gateway(key), "simpleenroll", csr(own, "est"))
    assert first.status == 202 and json.loads(first.body)["code"] == "hook_pending" and retry_after(first) >= 1
    r.wait(1)
    soon([("est", 2)], lambda: rows(server, a))
    assert post(server.gateway(key), "simpleenroll", csr(other, "est")).status == 202
    answer, _ = until(lambda: post(server.gateway(key), "simpleenroll", csr(own, "est")))
    (cert,) = certificates(answer)
    device = Device(own, cert)
    assert ask(server, device) is None
    assert certificates(post(server.gateway(key), "simpleenroll", csr(own, "est"))) == [cert]  # the same again is not asked for
    assert {e["spki"] for e in r.wait(2)} == {own_spki.hex() if isinstance(own_spki, bytes) else own_spki for own_spki in (device.spki, Device(other, cert).spki)}
    assert all(e["kind"] == "enrol" for e in r.events()) and len(r.events()) == 2
    assert whole(a)


def test_an_invited_device_is_asked_for_too(server, receiver):
    r, a = receiver(), Account(server)
    asks(server, a, r)
    code = server.muster("device", "invite", "guest", "--account", a.name)["code"]
    own = new_key()
    answer, waits = until(lambda: post(server.gateway(), "simpleenroll", csr(own, "guest"), a.name, **basic("guest", code)))
    assert answer.status == 200 and waits and r.events()[0]["key"] == "invitation"
    assert whole(a)


def test_no(server, receiver):
    r, a = receiver(lambda number, got: 403), Account(server)
    asks(server, a, r)
    key = a.key("--max-devices", "1")
    answer, _ = until(lambda: server.gateway(key).enrol("no"))
    assert (answer.status, answer.code) == (403, "hook_denied")
    assert enrol(server, key, "no") == (403, "hook_denied") and len(r.got) == 1  # for a while it is not asked again
    own = new_key()
    answer, waits = until(lambda: post(server.gateway(key), "simpleenroll", csr(own, "other")))
    assert (answer.status, answer.code) == (403, "hook_denied") and waits and len(r.got) == 2
    assert server.api("GET", f"/api/v1/accounts/{a.name}/devices/no").status == 404
    assert server.api("GET", f"/api/v1/accounts/-/keys/{key.shown['id']}").json["spent"] == 0
    soon("hook_denied", lambda: ([x["code"] for x in server.muster("refusal", "list", "--account", a.name, "--device", "no")] or [None])[0])
    assert whole(a)


FAILURES = {"error": lambda number, got: 500, "not_found": lambda number, got: 404, "unavailable": lambda number, got: (503, {"Retry-After": "1"}), "hangs_up": lambda number, got: None,
            "redirects": lambda number, got: (302, {"Location": "http://127.0.0.1:1/"}), "no_head": lambda number, got: (200, {"X": "y" * 40000})}


@pytest.mark.parametrize("how", FAILURES)
def test_what_is_no_answer_is_a_no(server, receiver, how):
    r, a = receiver(FAILURES[how]), Account(server)
    asks(server, a, r)
    key = a.key()
    answer, _ = until(lambda: server.gateway(key).enrol("failed"))
    assert (answer.status, answer.code) == (503, "hook_failed") and retry_after(answer) >= 1
    assert server.api("GET", f"/api/v1/accounts/{a.name}/devices/failed").status == 404


def test_nobody_to_ask_and_a_silent_one_are_a_no(server, receiver):
    a, silent = Account(server), Account(server)
    slow = receiver(lambda number, got: time.sleep(30))
    asks(server, silent, slow)
    silent_key = silent.key()
    began = time.monotonic()
    assert enrol(server, silent_key, "silent")[1] == "hook_pending"
    a.set("--hook", "new")
    key = a.key()
    answer, _ = until(lambda: server.gateway(key).enrol("nobody"))
    assert (answer.status, answer.code) == (503, "hook_failed") and "certificate.ask" in answer.json["description"]
    made = server.api("POST", "/api/v1/webhooks", {"url": slow.url(), "account": a.name})  # of everything, which does not name certificate.ask
    assert made.status == 201
    answer, _ = until(lambda: server.gateway(key).enrol("nobody-still"))
    assert answer.code == "hook_failed"
    assert time.monotonic() - began < 9
    # Meanwhile nobody waits for the silent one: devices that are in go on, and other accounts issue.
    free = Account(server)
    free_key = free.key()
    for i in range(20):
        at = time.monotonic()
        assert enrol(server, free_key, f"free-{i}").spki and time.monotonic() - at < 2
    answer, _ = until(lambda: server.gateway(silent_key).enrol("silent"))
    assert answer.code == "hook_failed" and 8 < time.monotonic() - began < 16


def test_later(server, receiver):
    """202 asks for patience, as long as it says; then it is asked again."""
    r, a = receiver(lambda number, got: (202, {"Retry-After": "3"}) if number == 1 else 204), Account(server)
    asks(server, a, r)
    key = a.key()
    assert enrol(server, key, "later") == (503, "hook_pending")
    soon([("later", 5)], lambda: rows(server, a))
    answer = server.gateway(key).enrol("later")
    assert answer.code == "hook_pending" and 1 <= retry_after(answer) <= 3
    answer, _ = until(lambda: server.gateway(key).enrol("later"))
    assert answer.status == 200 and len(r.got) == 2


def test_renewals_are_asked_for_where_the_account_says_so(server, receiver):
    say = {"status": 200}
    r, a = receiver(lambda number, got: say["status"]), Account(server)
    own, key = new_key(), a.key()
    (cert,) = certificates(post(server.gateway(key), "simpleenroll", csr(own, "renews")))  # before anybody is asked
    device = Device(own, cert)
    assert ask(server, device) is None
    asks(server, a, r)
    (cert,) = certificates(post(server.gateway(device), "simplereenroll", csr(own, "renews")))  # new devices alone
    device = Device(own, cert)
    assert ask(server, device) is None and not r.got
    a.set("--hook", "all")
    answer, waits = until(lambda: post(server.gateway(device), "simplereenroll", csr(own, "renews")))
    (cert,) = certificates(answer)
    assert waits and r.events()[0]["kind"] == "renew" and r.events()[0]["device_id"] == "renews"
    renewed = Device(own, cert)
    assert ask(server, renewed) is None
    say["status"] = 403
    answer, _ = until(lambda: post(server.gateway(renewed), "simplereenroll", csr(own, "renews")))
    assert (answer.status, answer.code) == (403, "hook_denied")
    assert ask(server, renewed) is None  # it goes on as it is
    assert whole(a)


def test_a_lost_answer_is_not_asked_for_again(server, receiver):
    r, a = receiver(), Account(server)
    asks(server, a, r)
    key = a.key()
    assert until(lambda: server.gateway(key).enrol("lost"))[0].status == 200
    time.sleep(0.6)
    assert server.gateway(key).enrol("lost").status == 200 and len(r.got) == 1
    assert whole(a)


@pytest.mark.parametrize("verdict", [200, 403])
def test_another_certificate_for_one_that_is_over_is_asked_for(server, receiver, verdict):
    """The one before was never used, and its root is out: what the device gets is no answer that was lost."""
    r, a, own = receiver(lambda number, got: verdict if number > 1 else 200), Account(server, "--lost-answer-window", "0"), new_key()
    asks(server, a, r)
    key = a.key()
    enrols = lambda: until(lambda: post(server.gateway(key), "simpleenroll", csr(own, "shelf")))[0]
    first = certificates(enrols())
    assert certificates(enrols()) == first and len(r.got) == 1
    (old,) = [x for x in server.muster("root", "list", "--account", a.name) if x["origin"] == "muster"]
    server.muster("root", "rotate", old["id"])
    server.muster("root", "revoke", old["id"], "--yes")
    time.sleep(GAP)
    again = enrols()
    assert (again.status, again.code if verdict == 403 else None) == ((403, "hook_denied") if verdict == 403 else (200, None)) and len(r.got) == 2
    assert verdict == 403 or certificates(again) != first
    assert whole(a)


def test_one_allowance_is_one_certificate(server, receiver):
    """Many ask at once with one credential for one ID: one is let in, the budget is spent once."""
    from concurrent.futures import ThreadPoolExecutor
    r, a = receiver(), Account(server)
    asks(server, a, r)
    key, own = a.key(), [new_key() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda k: until(lambda: post(server.gateway(key), "simpleenroll", csr(k, "raced")))[0], own))
    assert sorted(x.status for x in answers)[0] == 200 and [x.status for x in answers].count(200) == 1, answers
    assert server.api("GET", f"/api/v1/accounts/-/keys/{key.shown['id']}").json["spent"] == 1
    assert whole(a)


def test_forged_allowances_are_found(server, receiver):
    """A captured gateway can write the row that lets it go on; that control wrote no such answer, the log says."""
    r, a = receiver(lambda number, got: 403), Account(server)
    asks(server, a, r)
    key = a.key()
    assert until(lambda: server.gateway(key).enrol("forged"))[0].code == "hook_denied"
    assert whole(a)
    with sqlite3.connect(server.dir / "registry.db") as db:
        db.execute("UPDATE ask SET state = 2, until = until + 600 WHERE device_id = 'forged'")
    db.close()
    assert server.gateway(key).enrol("forged").status == 200
    assert "did not allow it" in refused("storage_corrupt", server.muster, "audit", "verify", "--account", a.name).text


def test_turning_it_off_by_the_row_alone_is_found(server, receiver):
    r, a = receiver(lambda number, got: 403), Account(server)
    asks(server, a, r)
    assert whole(a)
    with sqlite3.connect(server.dir / "registry.db") as db:
        db.execute("UPDATE account SET hook = 1 WHERE name = ?", (a.name,))
    db.close()
    assert "settings of the account" in refused("storage_corrupt", server.muster, "audit", "verify", "--account", a.name).text


def test_trying_it_refuses_nobody(server, receiver):
    """Everything is issued at once; what would have been refused is written down, and marked as that."""
    say = {"status": 200}
    r, a = receiver(lambda number, got: say["status"]), Account(server)
    asks(server, a, r, "try")
    key, own = a.key(), new_key()
    (cert,) = certificates(post(server.gateway(key), "simpleenroll", csr(own, "allowed")))
    device = Device(own, cert)
    assert ask(server, device) is None
    r.wait(1)
    soon([], lambda: rows(server, a))
    before = server.muster("profile", "tried", "--account", a.name)
    assert before == []
    say["status"] = 403
    assert enrol(server, key, "denied").spki
    (cert,) = certificates(post(server.gateway(device), "simplereenroll", csr(own, "allowed")))
    say["status"] = 500
    soon({"denied", "allowed"}, lambda: {x["device_id"] for x in server.muster("profile", "tried", "--account", a.name)})
    assert enrol(server, key, "failed").spki
    soon({"denied", "allowed", "failed"}, lambda: {x["device_id"] for x in server.muster("profile", "tried", "--account", a.name)})
    for x in server.muster("refusal", "list", "--account", a.name):
        assert x["shadow"] is True and x["code"] == "shadow_refused" and x["device"] and "tried" in x["reason"]
    assert {e["kind"] for e in r.events()} == {"enrol", "renew"} and len(r.got) == 4
    assert rows(server, a) == []
    assert whole(a)


def tried(a):
    return {x["device_id"] for x in a.server.muster("profile", "tried", "--account", a.name)}


def renewed(server, device, own, device_id):
    return post(server.gateway(device), "simplereenroll", csr(own, device_id))


def test_asking_new_devices_is_tried(server, receiver):
    """From off: nobody waits, renewals are not asked for, and whom it says no to is refused once it holds."""
    r, a = receiver(lambda number, got: 403 if "no" in got.json["device_id"] else 200), Account(server)
    asks(server, a, r, "off")
    key, own = a.key(), new_key()
    a.set("--shadow", "try", "--hook", "new")
    (cert,) = certificates(post(server.gateway(key), "simpleenroll", csr(own, "no-1")))
    device = Device(own, cert)
    assert ask(server, device) is None and enrol(server, key, "yes-1").spki
    soon({"no-1"}, lambda: tried(a), 10)
    assert renewed(server, device, own, "no-1").status == 200
    events = r.wait(2)
    assert {(e["device_id"], e["kind"], e["tried"], e["type"]) for e in events} == {("no-1", "enrol", True, "certificate.ask"), ("yes-1", "enrol", True, "certificate.ask")}
    a.set("--shadow", "enforce")
    assert server.muster("account", "show", a.name)["settings"]["hook"] == "new"
    assert until(lambda: server.gateway(key).enrol("no-2"))[0].code == "hook_denied" and until(lambda: server.gateway(key).enrol("yes-2"))[0].status == 200
    assert tried(a) == {"no-1"} and rows(server, a) in ([], [("no-2", 3)]) and whole(a)


def test_the_extension_to_renewals_is_tried_beside_the_rule_that_holds(server, receiver):
    """From new to all: new devices are asked for as before, once; renewals go on without waiting, and it is told what they would be."""
    r, a = receiver(lambda number, got: 403 if got.json["kind"] == "renew" and got.json["device_id"] == "no" else 200), Account(server)
    asks(server, a, r)
    a.set("--shadow", "try", "--hook", "all")
    key, own, devices = a.key(), new_key(), {}
    for name in ("no", "yes"):
        its = own if name == "no" else new_key()
        answer, waits = until(lambda: post(server.gateway(key), "simpleenroll", csr(its, name)))  # noqa: B023
        assert waits and answer.status == 200
        devices[name] = certificates(answer)[0]
    device = Device(own, devices["no"])
    assert ask(server, device) is None and len(r.got) == 2 and not any(e["tried"] for e in r.events())
    (cert,) = certificates(renewed(server, device, own, "no"))
    soon({"no"}, lambda: tried(a), 10)
    assert [(e["device_id"], e["kind"], e["tried"]) for e in r.events()[2:]] == [("no", "renew", True)]
    device = Device(own, cert)
    assert ask(server, device) is None
    a.set("--shadow", "enforce")
    answer, waits = until(lambda: renewed(server, device, own, "no"))
    assert (answer.status, answer.code) == (403, "hook_denied") and waits and ask(server, device) is None
    assert whole(a)


def test_another_receiver_is_tried_beside_the_one_that_decides(server, receiver):
    """certificate.try names it.  The one that decides is asked first, and of what it refuses the other one hears nothing."""
    old, new, a = receiver(lambda number, got: 403 if "old" in got.json["device_id"] else 200), receiver(lambda number, got: 403 if "new" in got.json["device_id"] else 200), Account(server)
    asks(server, a, old, "all")
    made = server.api("POST", "/api/v1/webhooks", {"url": new.url(), "account": a.name, "events": ["certificate.try"]}).json
    key = a.key()
    a.set("--shadow", "try", "--hook", "all")

    def comes(name):
        return until(lambda: server.gateway(key).enrol(name))[0].code
    assert comes("no-by-old") == "hook_denied" and comes("no-by-new") is None and comes("fine") is None
    soon({"no-by-new"}, lambda: tried(a), 10)
    assert {(e["device_id"], e["tried"]) for e in new.wait(2)} == {("no-by-new", True), ("fine", True)}
    assert {e["device_id"] for e in old.events()} == {"no-by-old", "no-by-new", "fine"} and not any(e["tried"] for e in old.events())
    assert verify(made["secret"], new.got[0].headers["Muster-Signature"], new.got[0].body)
    # It takes the other one's place.
    server.muster("webhook", "set", made["id"], "--event", "certificate.ask")
    (first,) = [w["id"] for w in server.muster("webhook", "list", "--account", a.name) if w["id"] != made["id"]]
    server.muster("webhook", "delete", first, "--yes")
    a.set("--shadow", "drop")
    assert comes("no-by-new-2") == "hook_denied" and comes("fine-by-old") is None and comes("fine-2") is None
    assert tried(a) == {"no-by-new"} and whole(a)


def test_a_silent_one_on_trial_holds_nobody_up(server, receiver):
    """Neither the devices, nor the questions whose answers decide: while it says nothing to as many as are asked at once, and more wait, everybody comes in."""
    import threading
    answers = threading.Event()
    real, silent, a = receiver(), receiver(lambda number, got: answers.wait(60) and 200), Account(server)
    asks(server, a, real, "new")
    assert server.api("POST", "/api/v1/webhooks", {"url": silent.url(), "account": a.name, "events": ["certificate.try"]}).status == 201
    a.set("--shadow", "try", "--hook", "new")
    key = a.key()
    for i in range(20):
        assert until(lambda: server.gateway(key).enrol(f"unit-{i}"), seconds=60)[0].status == 200  # noqa: B023
    assert len(silent.got) <= 16 and len(real.got) == 20
    answers.set()
    soon([], lambda: rows(server, a), 60)
    assert whole(a)


def test_who_may(server, receiver):
    """Whom an account asks its owners say: an operator neither makes, changes nor gets the secret of that webhook."""
    r, a = receiver(), Account(server)
    made = asks(server, a, r)
    operator = server.muster("token", "create", f"{a.name}-op", "--role", "operator", "--account", a.name)["token"]
    owner = server.muster("token", "create", f"{a.name}-own", "--role", "owner", "--account", a.name)["token"]
    body = {"url": r.url(), "account": a.name, "events": ["certificate.ask"]}
    plain = server.api("POST", "/api/v1/webhooks", {"url": r.url(), "account": a.name, "events": ["key.created"]}, token=operator)
    assert plain.status == 201
    for method, path, what in (("POST", "/api/v1/webhooks", body), ("PATCH", f"/api/v1/webhooks/{made['id']}", {"url": r.url("/other")}), ("PATCH", f"/api/v1/webhooks/{made['id']}", {"events": ["key.created"]}),
                               ("PATCH", f"/api/v1/webhooks/{plain.json['id']}", {"events": ["certificate.ask"]}), ("PATCH", f"/api/v1/webhooks/{plain.json['id']}", {"events": ["certificate.try"]}), ("POST", f"/api/v1/webhooks/{made['id']}/secret", {})):
        assert server.api(method, path, what, token=operator).status == 403, (method, path, what)
        if path != f"/api/v1/webhooks/{plain.json['id']}":
            assert server.api(method, path, what, token=owner).status in (200, 201), (method, path, what)
        if what == {"events": ["key.created"]}:
            server.api(method, path, {"events": ["certificate.ask"]}, token=owner)
    assert server.api("PATCH", f"/api/v1/accounts/{a.name}", {"hook": "off"}, token=operator).status == 403
    for wrong in ("on", "", None, True, 2):
        assert server.api("PATCH", f"/api/v1/accounts/{a.name}", {"hook": wrong}).status == 400


def test_the_server_s_webhook_is_asked_where_the_account_has_none(server, receiver):
    everybodys, own, a = receiver(lambda number, got: 403), receiver(), Account(server)
    made = server.api("POST", "/api/v1/webhooks", {"url": everybodys.url(), "events": ["certificate.ask"]}).json
    a.set("--hook", "new")
    key = a.key()
    assert until(lambda: server.gateway(key).enrol("by-the-server"))[0].code == "hook_denied" and everybodys.events()[0]["account"] == a.name
    asks(server, a, own)
    assert until(lambda: server.gateway(key).enrol("by-its-own"))[0].status == 200 and len(everybodys.got) == 1
    server.muster("webhook", "delete", made["id"], "--yes")

"""`muster status` and GET /api/v1/status: what needs an operator is said first, each part of the server shows what it is in, a screen is a screen,
and a token of one account sees that account alone.  /readyz notices a vault that hangs."""
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time

import pytest

from client import Fleet
from conftest import MUSTER, refused, soon
from enrolment import enrolled

UNCONFINED = "sandbox" in os.environ.get("MUSTER_TEST_CONFIG", "")


def status(server, token=None):
    answer = server.api("GET", "/api/v1/status", token=token)
    assert answer.status == 200, answer
    return answer.json


def refused_for(server, token=None):
    return [(r["code"], r["count"]) for r in status(server, token)["refused"]["items"]]


def needs(server, what, **fields):
    return [a for a in status(server)["attention"] if a["what"] == what and all(a[k] == v for k, v in fields.items())]


def screen(server, *options):
    done = subprocess.run([MUSTER, "--data", server.dir, "status", *options], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_server_that_is_well(server):
    said = status(server)
    assert said["ok"] and said["account"] is None and not [a for a in said["attention"] if a["level"] == "critical"]
    assert said["vault"]["state"] == said["store"]["registry"]["state"] == said["store"]["control"]["state"] == said["clock"]["state"] == "ok"
    assert said["store"]["registry"]["bytes"] > 0 and said["store"]["free_bytes"] > 0
    soon(True, lambda: status(server)["vault"]["answered_us"] is not None, 5)
    assert [p["process"] for p in said["sandbox"]["processes"]] == ["vault", "control", "gateway", "courier"]
    assert said["sandbox"]["on"] == (not UNCONFINED)
    assert {e["kind"] for e in said["expires"]} >= {"server", "server_ca"} and said["expires"] == sorted(said["expires"], key=lambda e: e["at"])
    assert screen(server, "--check")[0] == 0


def test_accounts_and_devices(fresh):
    s = fresh()
    s.account("busy")
    s.account("idle", "production", "device")
    key = s.key("busy")
    for i in range(3):
        enrolled(s, key, f"dev-{i}")
    s.muster("device", "quarantine", "dev-0", "--account", "busy")
    said = status(s)
    assert said["accounts"]["total"] == 2 and said["accounts"]["left_out"] == 0
    busy, idle = said["accounts"]["items"]
    assert (busy["id"], busy["devices"], busy["registered_hour"]) == ("busy", {"active": 2, "pending": 0, "quarantined": 1, "revoked": 0, "deleted": 0}, 3)
    assert (idle["id"], idle["kind"], idle["registered_hour"]) == ("idle", "production", 0)
    assert said["enrolments"]["hour"] == said["enrolments"]["minute"] == 3
    assert said["gateway"]["requests_hour"] >= 3


def test_what_needs_somebody(fresh):
    s = fresh()
    s.account("keys")
    s.account("roots", "production", "device", "--approval", "yes")
    few = s.key("keys", "--name", "few", "--max-devices", "1")
    s.key("keys", "--name", "soon", "--expires", "3d")
    s.key("keys", "--name", "later", "--expires", "20d")
    many = s.key("keys", "--name", "many", "--max-devices", "10")
    assert not needs(s, "key_exhausted") and not needs(s, "key_nearly_exhausted")
    (ends,) = needs(s, "key_ends")
    assert (ends["level"], ends["account"], ends["object"]) == ("warning", "keys", "soon")
    enrolled(s, few, "dev-x")
    assert needs(s, "key_exhausted", account="keys", object="few", level="warning")
    for i in range(9):
        assert bool(needs(s, "key_nearly_exhausted")) == (i == 9)
        enrolled(s, many, f"dev-{i}")
    assert needs(s, "key_nearly_exhausted", object="many")
    unproved = s.root("roots", Fleet("Not proved"), prove=False)
    assert needs(s, "root_unproved", account="roots", object=unproved.root["id"], level="notice")
    ending = s.root("roots", Fleet("Short", days=(-1, 100)))
    assert needs(s, "root_ends", account="roots", object=ending.root["id"], level="warning")
    fleet = s.root("roots", Fleet("Long"))
    s.gateway(fleet.device("waits", days=(-1, 10))).get("/")
    assert needs(s, "devices_pending", account="roots", level="notice") and needs(s, "devices_end", account="roots", level="warning")
    s.muster("device", "approve", "waits", "--account", "roots")
    assert not needs(s, "devices_pending")
    s.muster("root", "disable", fleet.root["id"], "--yes")
    assert needs(s, "root_disabled", account="roots")
    levels = [a["level"] for a in status(s)["attention"]]
    assert levels == sorted(levels, key=["critical", "warning", "notice"].index), "the worst comes first"
    assert status(s)["ok"], "nothing of it is critical"


def test_certificates_that_have_ended(fresh):
    s = fresh()
    s.account("ended", "test", "device")
    fleet = s.root("ended")
    device = fleet.device("short-lived", days=(-1, 8 / 86400))
    assert s.gateway(device).get("/x").status == 404, "it is let in until then"
    s.gateway(fleet.device("long-lived")).get("/x")
    soon("certificate_expired", lambda: s.gateway(device).get("/x").code, 20)
    (ended,) = needs(s, "devices_ended")
    assert (ended["level"], ended["account"]) == ("warning", "ended") and "certificates of 1 device have ended" in ended["text"]
    assert not needs(s, "devices_end"), "what has ended does not end within a month"


def test_a_signed_head_that_is_old_while_the_vault_is_silent(fresh):
    s = fresh()
    s.account("heads")
    s.muster("audit", "head")
    vault = s.child("vault")
    os.kill(vault, signal.SIGSTOP)
    try:
        soon("silent", lambda: status(s)["vault"]["state"], 15)
        assert not needs(s, "audit_head_old"), "it was signed a moment ago"
        db = sqlite3.connect(s.dir / "control.db", timeout=30, isolation_level=None)
        db.execute("UPDATE audit_signed SET at = at - 7200")
        db.close()
        (old,) = needs(s, "audit_head_old")
        assert (old["level"], old["command"]) == ("notice", "muster audit verify") and "120 minutes old" in old["text"]
    finally:
        os.kill(vault, signal.SIGCONT)
    soon("ok", lambda: status(s)["vault"]["state"], 15)
    assert not needs(s, "audit_head_old"), "a log that has not grown is not signed again"


def test_who_is_refused_and_why(fresh):
    s = fresh()
    s.account("refused")
    for _ in range(5):
        assert s.gateway(Fleet("Nobody").device("x")).get("/").code == "certificate_untrusted"
    assert s.gateway().get("/").code == "certificate_required"
    soon([("certificate_untrusted", 5), ("certificate_required", 1)], lambda: refused_for(s), 15)
    said = status(s)
    assert all(r["reason"] and r["fix"] for r in said["refused"]["items"])
    assert [r["records"] for r in said["refused"]["items"]] == [5, 1], "five certificates, each a record"
    assert said["refused"]["count"] == 6 and said["refused"]["complete"] and said["refused"]["items"][0]["device_id"] == "x"
    assert said["gateway"]["refused_hour"] == 6
    assert refused_for(s, s.token("its own", "auditor", "refused")["token"]) == [], "strangers are the server's alone"
    with s.gateway().connect() as c:
        for _ in range(100):
            s.gateway().on(c, "GET", "/")
    assert needs(s, "refused_often", object="certificate_required")


def test_what_an_admitted_device_does_not_find_is_no_refusal(fresh):
    """Nor what the server or its upstream cannot do, nor a connection on which nothing was said."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = nobody.getsockname()[1]
    s = fresh(config=["[route /repo]", f"upstream = http://127.0.0.1:{closed}"])
    s.account("finds")
    cert = enrolled(s, s.key("finds"), "dev-1")
    g = s.gateway(cert)
    before = status(s)["gateway"]
    with g.connect() as c:
        for _ in range(110):
            assert g.on(c, "GET", "/no/such/thing").code == "not_found"
    assert g.request("POST", "/repo/root.json", body=b"x").status == 502
    assert g.request("GET", "/devices").code == "method_not_allowed"
    for _ in range(110):
        socket.create_connection(("127.0.0.1", s.port), timeout=30).close()
    soon(113, lambda: status(s)["gateway"]["requests_hour"] - before["requests_hour"] + 1, 15)
    said = status(s)
    assert said["gateway"]["refused_hour"] == 0 and said["refused"]["count"] == 0 and not [a for a in said["attention"] if a["what"] == "refused_often"]
    text = s.api("GET", "/metrics").body.decode()
    assert 'muster_errors_total{code="not_found"} 110\n' in text and 'muster_errors_total{code="upstream_failed"} 1\n' in text and 'muster_errors_total{code="method_not_allowed"} 1\n' in text
    assert not re.search(r'^muster_refusals_total\{[^}]*process="gateway"', text, re.M)
    s.muster("device", "quarantine", "dev-1", "--account", "finds")
    soon("device_quarantined", lambda: g.get("/no/such/thing").code)
    soon(True, lambda: status(s)["refused"]["count"] == status(s)["gateway"]["refused_hour"] > 0, 15)
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", s.port), timeout=30) as c:
            c.sendall(b"no TLS at all, but said\r\n")
            c.recv(100)
    soon(True, lambda: bool(needs(s, "refused_often", object="tls_not_tls")), 15)


def test_an_account_sees_what_its_own_devices_were_refused_for(fresh):
    s = fresh()
    tokens = {}
    for name, device in (("quokka-one", "dev-q"), ("wombat-two", "dev-w")):
        s.account(name)
        tokens[name] = s.token("of it", "auditor", name)["token"]
        cert = enrolled(s, s.key(name), device)
        s.muster("device", "quarantine", device, "--account", name)
        for _ in range(2 if name == "quokka-one" else 3):
            assert s.gateway(cert).get("/").code == "device_quarantined"
    soon([("device_quarantined", 5)], lambda: refused_for(s), 15)
    for token, device, count in ((tokens["quokka-one"], "dev-q", 2), (tokens["wombat-two"], "dev-w", 3)):
        said = status(s, token)["refused"]
        assert [(r["code"], r["count"], r["records"], r["device_id"]) for r in said["items"]] == [("device_quarantined", count, 1, device)] and said["count"] == count
    path = s.dir.parent / "token"
    path.write_text(tokens["quokka-one"], encoding="utf-8")
    path.chmod(0o600)
    env = {**os.environ, "MUSTER_URL": s.admin_url, "MUSTER_TOKEN_FILE": str(path), "MUSTER_CA": str(s.dir / "server-ca.pem")}
    done = subprocess.run([MUSTER, "status"], capture_output=True, text=True, timeout=60, check=True, env=env)
    assert re.search(r"^refused +2 times in the last day$", done.stdout, re.M) and re.search(r"^ +2 device_quarantined: ", done.stdout, re.M) and "dev-w" not in done.stdout
    s.stop()
    s.start()
    assert refused_for(s, tokens["wombat-two"]) == [("device_quarantined", 3)], "it is kept, not counted in a process"


def test_refusals_that_are_old_or_too_many(fresh):
    s = fresh()
    s.account("full")
    token = s.token("of it", "auditor", "full")["token"]
    s.stop()
    db = s.database()
    (account,) = db.execute("SELECT id FROM account WHERE name = 'full'").fetchone()
    now = int(time.time())
    texts = ["reason", "address", "source", "host", "method", "path", "tls", "agent", "serial", "subject", "issuer", "top_issuer"]
    names = ["id", "uuid", "account", "known", "first", "last", "count", "code", "device", "device_id", "not_before", "not_after", *texts]

    def add(ident, owner, last, code):
        values = [ident, os.urandom(16), owner, 1, last, last, 2, code, 0, f"dev-{ident}", 0, 0, *[""] * len(texts)]
        db.execute(f"INSERT INTO refusal ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values)

    for i in range(1, 11):
        add(i, account, now - 86400 - 600, "certificate_expired")
    for i in range(11, 31):
        add(i, account, now - 86400 + 600, "a_code_of_tomorrow")
    for i in range(31, 6001):
        add(i, account, now - 60, "device_revoked")
    add(6001, 0, now, "certificate_untrusted")
    db.commit()
    db.close()
    s.start()
    said = status(s, token)["refused"]
    assert [(r["code"], r["count"], r["records"], r["device_id"]) for r in said["items"]] == [("device_revoked", 11940, 5970, "dev-6000"), ("a_code_of_tomorrow", 40, 20, "dev-30")]
    assert said["count"] == 11980 and said["complete"] and said["items"][1]["reason"] is None
    everybody = status(s)["refused"]
    assert everybody["count"] == 11982 and everybody["complete"]
    s.stop()
    db = s.database()
    for i in range(6002, 11100):
        add(i, 0, now, "certificate_untrusted")
    db.commit()
    db.close()
    s.start()
    everybody = status(s)["refused"]
    assert everybody["count"] == 2 * 11000 and not everybody["complete"], "the newest 11000, and said so"
    assert "at least" not in screen(s)[1] and status(s, token)["refused"]["complete"]


@pytest.mark.alone
def test_a_vault_that_hangs_is_noticed_within_seconds(fresh):
    s = fresh()
    s.account("hang")
    key = s.key("hang")
    device = enrolled(s, key, "dev-1")
    vault = s.child("vault")
    os.kill(vault, signal.SIGSTOP)
    try:
        began = time.monotonic()
        soon((503, "silent"), lambda: (lambda a: (a.status, a.json["vault"]))(s.api("GET", "/readyz")), 4)
        assert time.monotonic() - began < 4
        began = time.monotonic()
        assert s.api("GET", "/readyz").status == 503 and time.monotonic() - began < 0.5, "nobody waits for it"
        said = status(s)
        assert not said["ok"] and said["vault"]["state"] == "silent" and said["attention"][0]["what"] == "vault_silent"
        assert screen(s)[0] == 0, "it was answered"
        code, out, err = screen(s, "--check")
        assert code == 1 and "NOT WELL" in out and "critical" in out and "not well" in err
        assert b"muster_vault_up 0\n" in s.api("GET", "/metrics").body
        assert s.gateway(device).get("/x").status == 404, "enrolled devices go on"
    finally:
        os.kill(vault, signal.SIGCONT)
    soon(200, lambda: s.api("GET", "/readyz").status, 5)
    assert status(s)["ok"]


def test_enrolments_do_not_all_wait_for_a_vault_that_hangs(fresh):
    s = fresh(config=["loops = 1"])
    s.account("wait")
    key = s.key("wait")
    vault = s.child("vault")
    os.kill(vault, signal.SIGSTOP)
    try:
        began = time.monotonic()
        first = s.gateway(key).enrol("dev-1")
        assert (first.status, first.code) == (503, "vault_unavailable") and 1 < time.monotonic() - began < 15
        for i in range(5):
            began = time.monotonic()
            answer = s.gateway(key).enrol(f"dev-{i + 2}")
            assert (answer.status, answer.code) == (503, "vault_unavailable") and answer.headers["Retry-After"]
            if i:  # one of them finds out whether it is back
                assert time.monotonic() - began < 3
    finally:
        os.kill(vault, signal.SIGCONT)
    soon(200, lambda: s.gateway(key).enrol("dev-9").status, 15)


def test_a_vault_that_dies_and_comes_back(fresh):
    s = fresh()
    vault = s.child("vault")
    os.kill(vault, signal.SIGKILL)
    soon(True, lambda: "vault_lost" in s.log_text(), 5)
    soon(True, lambda: status(s)["ok"], 20)
    assert s.child("vault") != vault


def test_a_sandbox_that_is_off_is_said(fresh):
    s = fresh(config=[] if UNCONFINED else ["sandbox = off"])
    said = status(s)
    assert said["sandbox"] == {"on": False, "processes": [{"process": p, "confined": False, "landlock": 0} for p in ("vault", "control", "gateway", "courier")]}
    assert [a["object"] for a in said["attention"] if a["what"] == "sandbox_off"] == ["vault", "control", "gateway", "courier"]
    assert "\nsandbox    OFF: vault, control, gateway, courier NOT CONFINED\n" in screen(s)[1] and said["ok"]


def test_a_clock_that_is_behind(fresh):
    s = fresh()
    s.account("clock")
    s.stop()
    db = s.database()
    db.execute("UPDATE meta SET value = value + 4000 WHERE name = 'newest'")
    db.close()
    s.start()
    said = status(s)
    assert said["clock"]["state"] == "clock_behind" and 3000 < said["clock"]["behind"] <= 4000 and not said["ok"]
    assert needs(s, "clock_behind", level="critical")
    assert screen(s, "--check")[0] == 1


def test_a_token_of_an_account_sees_that_account_alone(fresh):
    s = fresh()
    for name in ("quokka-one", "wombat-two"):
        s.account(name)
        s.key(name, "--expires", "2d", "--name", f"{name}-key")
    token = s.token("of one", "auditor", "quokka-one")["token"]
    said = status(s, token)
    assert said["account"] == "quokka-one" and [a["id"] for a in said["accounts"]["items"]] == ["quokka-one"] and said["accounts"]["total"] == 1
    assert {a["account"] for a in said["attention"]} == {"quokka-one"} == {e["account"] for e in said["expires"]}
    assert said["refused"]["items"] == [] and said["refused"]["complete"]
    assert not {"enrolments", "gateway", "vault", "store", "clock", "audit_head_age", "sandbox"} & set(said)
    assert "wombat" not in json.dumps(said)
    path = s.dir.parent / "token"
    path.write_text(token, encoding="utf-8")
    path.chmod(0o600)
    assert s.muster("status", token_file=path)["account"] == "quokka-one"
    path.write_text(s.token("factory", "factory")["token"], encoding="utf-8")
    refused("role_insufficient", s.muster, "status", token_file=path)


def test_the_screen_is_a_screen(fresh):
    s = fresh()
    for i in range(9):
        s.account(f"account-{i}")
        s.key(f"account-{i}", "--name", f"a-key-with-quite-a-long-name-{i}", "--expires", "2d")
    enrolled(s, s.key("account-7"), "dev-1")
    for _ in range(3):
        s.gateway(Fleet("Nobody").device("x")).get("/")
        s.gateway().get("/")
    soon(6, lambda: status(s)["refused"]["count"], 4)
    code, out, err = screen(s)
    lines = out.splitlines()
    assert code == 0 and not err and len(lines) <= 24 and max(map(len, lines)) <= 80, out
    assert re.match(r"muster \S+  https://\S+  \d{4}-", lines[0])
    ends = [lines[i] + " " + lines[i + 1].strip() for i, l in enumerate(lines) if "a-key-with-quite-a-long-name" in l and l.startswith("warning")]
    assert ends and all(re.search(r"(\.|\w…) \[muster key set\]$", e) for e in ends), ends  # what to type is never what is left out, and no word is cut
    more = 10 if UNCONFINED else 7  # of nine keys two are shown; of nine and four processes, three
    assert f"and {more} more that need you" in out and "and 5 more accounts" in out and "account-7" in out.split("ends next")[0]
    assert "certificate_untrusted" in out and re.search(r"^vault +ok", out, re.M) and re.search(r"^enrolment +1 devices", out, re.M)
    assert UNCONFINED or re.search(r"^sandbox +on: vault, control, gateway, courier \(Landlock \d\)$", out, re.M)  # the whole of it


@pytest.mark.parametrize("options", [["--watch", "0"], ["--watch", "x"], ["--watch", "2", "--json"], ["--watch", "2", "--check"], ["extra"]])
def test_wrong_usage(server, options):
    assert screen(server, *options)[0] == 2


def test_watching(server):
    p = subprocess.Popen([MUSTER, "--data", server.dir, "status", "--watch", "1"], stdout=subprocess.PIPE, text=True)
    try:
        seen = ""
        end = time.monotonic() + 20
        while seen.count("\x1b[2J") < 3 and time.monotonic() < end:
            seen += p.stdout.readline()
        assert seen.count("\x1b[2J") >= 3 and seen.count("muster ") >= 2
    finally:
        p.kill()
        p.wait()
        p.stdout.close()

"""The server's log: both formats, ids of requests, which requests get a line, and that no client can forge or break one."""
import http.client
import json
import re
import uuid

import pytest

from client import Fleet
from conftest import soon
from enrolment import PATH, enrolled

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
# What a hostile client puts where a name is expected: a line of its own, quotes, escapes, controls, and a character that turns text around.
HOSTILE = 'a" level=error\n{"event":"forged"}\\\x1b[31m\x7f\u202e\u0085\u2028end'


def json_lines(server):
    """Every line that the server has written: each of them has to be an object."""
    lines = [json.loads(line) for line in server.log_text().splitlines()]
    for line in lines:
        assert list(line)[:4] == ["time", "level", "process", "event"] and TIME.match(line["time"]), line
        assert all(isinstance(v, str) for v in line.values()), line
        assert line["level"] in ("debug", "info", "warn", "error") and line["process"] in ("musterd", "vault", "control", "gateway", "courier")
    return lines


def events(server, event, **fields):
    return [line for line in json_lines(server) if line["event"] == event and all(line.get(k) == v for k, v in fields.items())]


@pytest.fixture
def logged(fresh):
    return lambda which: fresh(config=["log_format = json", f"log_requests = {which}"])


def test_every_line_is_an_object_whatever_a_client_sends(logged):
    s = logged("all")
    s.account("json")
    key = s.key("json")
    answer = s.gateway(key).enrol(HOSTILE)
    assert answer.status in (200, 400)
    fleet = s.root("json")
    for host in ("evil\"host", "localhost"):
        s.gateway(fleet.device("dev-1"), host=host).get("/x")
    for text in (b"GET /\xff\"\\ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"G\"T\x01 / HTTP/1.1\r\n\r\n", b"GET /a?b=%0aforged HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"GET /%22%5C%7F HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with s.gateway(fleet.device("dev-1")).connect() as c:
            c.sendall(text)
            http.client.HTTPResponse(c).begin()
    named = s.api("POST", "/api/v1/accounts/json/expected", {"items": [{"device_id": "x"}]})
    assert named.status == 200
    s.token(HOSTILE.replace("\n", " ").encode("ascii", "ignore").decode().replace("\x1b", "").replace("\x7f", ""), "auditor")
    assert s.stop() == 0
    assert json_lines(s)
    assert not events(s, "forged") and '"event":"forged"' not in s.log_text()
    assert "%0aforged" not in s.log_text(), "the query is not written down"


def test_text_lines_cannot_be_forged_either(fresh):
    s = fresh()
    s.account("text")
    s.gateway(s.key("text")).enrol(HOSTILE)
    with s.gateway(s.root("text").device("dev")).connect() as c:
        c.sendall(b"GET /x\"y HTTP/1.1\r\nHost: localhost\r\n\r\n")
        http.client.HTTPResponse(c).begin()
    assert s.stop() == 0
    for line in s.log_text().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warn|error) (musterd|vault|control|gateway|courier) [a-z_]+( |$)", line), line


def test_a_refusal_has_one_id_in_answer_header_and_log(logged):
    s = logged("refused")
    s.account("ids")
    device = enrolled(s, s.key("ids"), "dev-1")
    answer = s.gateway(device).get(PATH)
    assert answer.status == 404
    shown = answer.json["errorId"]
    assert str(uuid.UUID(shown)) == shown == answer.headers["X-Request-Id"]
    (line,) = soon(1, lambda: len(events(s, "refused", request=shown))) and events(s, "refused", request=shown)
    assert {k: line.get(k) for k in ("account", "device", "method", "path", "status", "code", "process", "address")} == {
        "account": "ids", "device": "dev-1", "method": "GET", "path": PATH, "status": "404", "code": "not_found", "process": "gateway", "address": "127.0.0.1"}
    assert int(line["bytes"]) == len(answer.body) and 0 <= int(line["ms"]) < 30000
    # Downloads have an empty body when they are refused: the id stands in the header, and the line is there all the same.
    answer = s.gateway(device).get("/repo/targets/firmware.bin?token=secret")
    assert answer.body == b"" and answer.headers["X-Request-Id"] != shown
    soon(1, lambda: len(events(s, "refused", request=answer.headers["X-Request-Id"], path="/repo/targets/firmware.bin", bytes="0")))
    assert "token=secret" not in s.log_text()


def test_an_id_is_the_server_s_own_and_never_twice(logged):
    s = logged("all")
    s.account("own")
    key = s.key("own")
    seen = set()
    with s.gateway(enrolled(s, key, "dev-1")).connect() as c:
        for _ in range(20):
            answer = s.gateway().on(c, "GET", PATH, headers={"X-Request-Id": "mine"})
            seen.add(answer.headers["X-Request-Id"])
            assert answer.headers.get_all("X-Request-Id") == [answer.json["errorId"]]
    assert len(seen) == 20 and "mine" not in seen
    answer = s.gateway(key).enrol("dev-2")
    assert answer.status == 200
    soon(1, lambda: len(events(s, "device_enrolled", request=answer.headers["X-Request-Id"], device="dev-2", account="own")))
    soon(1, lambda: len(events(s, "request", request=answer.headers["X-Request-Id"], status="200", method="POST", path="/devices")))


def test_operators_requests_have_lines_and_ids_as_well(logged):
    s = logged("all")
    s.account("ops")
    answer = s.api("GET", "/api/v1/accounts/ops/devices?prefix=hidden")
    line = soon(1, lambda: len(events(s, "request", request=answer.headers["X-Request-Id"]))) and events(s, "request", request=answer.headers["X-Request-Id"])[0]
    assert (line["process"], line["account"], line["path"], line["status"]) == ("control", "ops", "/api/v1/accounts/ops/devices", "200")
    assert line["actor"].startswith("token:")
    answer = s.api("GET", "/api/v1/accounts/ops", token="not-a-token")
    soon(1, lambda: len(events(s, "refused", request=answer.headers["X-Request-Id"], code="token_invalid", status="401")))
    token = (s.dir / "admin.token").read_text(encoding="utf-8").strip()
    assert token not in s.log_text() and "not-a-token" not in s.log_text() and "hidden" not in s.log_text()


@pytest.mark.parametrize("which", ["off", "refused"])
def test_which_requests_get_a_line(logged, which):
    s = logged(which)
    s.account("which")
    key = s.key("which")
    device = enrolled(s, key, "dev-1")
    refused = s.gateway(device).get(PATH).headers["X-Request-Id"]
    s.gateway(device).ecus()
    assert s.stop() == 0
    assert not events(s, "request")
    assert len(events(s, "refused", request=refused)) == (which == "refused")
    assert bool(events(s, "refused")) == (which == "refused")
    assert events(s, "device_enrolled"), "what happened is said in any case"


def test_strangers_cannot_fill_the_disk(fresh):
    s = fresh(config=["log_format = json", "loops = 1"])
    stranger = Fleet("Nobody").device("x")
    with s.gateway(stranger).connect() as c:
        for _ in range(300):
            assert s.gateway().on(c, "GET", "/").code == "certificate_untrusted"
    for _ in range(60):
        assert s.api("GET", "/api/v1/accounts", token=False).status == 401
    assert s.stop() == 0
    for process in ("gateway", "control"):
        lines = events(s, "refused", process=process)
        by_second = {}
        for line in lines:
            by_second[line["time"][:19]] = by_second.get(line["time"][:19], 0) + 1
        # The server's seconds and those of the clock overlap.
        assert lines and max(by_second.values()) <= 40, by_second

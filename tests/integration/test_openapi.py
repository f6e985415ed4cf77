"""The operators' API as an OpenAPI document: well-formed, complete, and strict enough that a test of it can fail."""
import copy
import json
import os
import re
import signal
import subprocess
import time

import jsonschema
import pytest

import openapi
import recorder
from client import Fleet
from conftest import MUSTER, RECORDED, Refused, check_recorded, soon
from test_isolation import routes

# What OpenAPI 3.1.0 asks of the objects that occur here (its own meta-schema is no Debian package): exact, so that a slip is seen.
TEXT = {"type": "string", "minLength": 1}
REF = {"type": "object", "properties": {"$ref": {"type": "string", "pattern": "^#/components/"}}, "required": ["$ref"], "additionalProperties": False}
META = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {"type": "object", "required": ["title", "version"], "additionalProperties": False,
                 "properties": {"title": TEXT, "version": TEXT, "description": TEXT, "license": {
                     "type": "object", "required": ["name"], "properties": {"name": TEXT, "identifier": TEXT}, "additionalProperties": False}}},
        "security": {"$ref": "#/$defs/security"},
        "paths": {"type": "object", "patternProperties": {"^/": {
            "type": "object", "propertyNames": {"enum": ["get", "put", "post", "delete", "patch"]}, "additionalProperties": {"$ref": "#/$defs/operation"}}},
            "additionalProperties": False},
        "components": {"type": "object", "additionalProperties": False, "properties": {
            "securitySchemes": {"type": "object", "additionalProperties": {"type": "object", "required": ["type", "scheme"],
                                                                           "properties": {"type": {"const": "http"}, "scheme": {"const": "bearer"}, "description": TEXT},
                                                                           "additionalProperties": False}},
            "schemas": {"type": "object", "propertyNames": {"pattern": "^[A-Za-z0-9._-]+$"}, "additionalProperties": {"type": "object"}},
            "responses": {"type": "object", "additionalProperties": {"$ref": "#/$defs/response"}},
            "parameters": {"type": "object", "additionalProperties": {"$ref": "#/$defs/parameter"}}}},
    },
    "additionalProperties": False,
    "$defs": {
        "security": {"type": "array", "items": {"type": "object", "properties": {"token": {"type": "array", "maxItems": 0}}, "additionalProperties": False}},
        "operation": {"type": "object", "required": ["operationId", "responses", "summary"], "additionalProperties": False,
                      "patternProperties": {"^x-muster-": {}},
                      "properties": {"operationId": TEXT, "summary": TEXT, "tags": {"type": "array", "items": TEXT}, "security": {"$ref": "#/$defs/security"},
                                     "parameters": {"type": "array", "uniqueItems": True, "items": {"oneOf": [REF, {"$ref": "#/$defs/parameter"}]}},
                                     "requestBody": {"type": "object", "required": ["content"], "patternProperties": {"^x-muster-": {}}, "additionalProperties": False,
                                                     "properties": {"description": TEXT, "content": {"$ref": "#/$defs/content"}, "required": {"type": "boolean"}}},
                                     "responses": {"type": "object", "minProperties": 2, "propertyNames": {"pattern": "^[1-5][0-9][0-9]$"},
                                                   "additionalProperties": {"oneOf": [REF, {"$ref": "#/$defs/response"}]}}}},
        "parameter": {"type": "object", "required": ["name", "in", "schema"], "additionalProperties": False,
                      "properties": {"name": TEXT, "in": {"enum": ["path", "query"]}, "required": {"type": "boolean"}, "description": TEXT, "schema": {"type": "object"}},
                      "if": {"properties": {"in": {"const": "path"}}}, "then": {"required": ["required"], "properties": {"required": {"const": True}}}},
        "response": {"type": "object", "required": ["description"], "additionalProperties": False,
                     "properties": {"description": TEXT, "content": {"$ref": "#/$defs/content"},
                                    "headers": {"type": "object", "additionalProperties": {"type": "object", "required": ["schema"], "additionalProperties": False,
                                                                                           "properties": {"description": TEXT, "schema": {"type": "object"}}}}}},
        "content": {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z]+/[a-z0-9.+-]+$"},
                    "additionalProperties": {"type": "object", "properties": {"schema": {"type": "object"}}, "additionalProperties": False}},
    },
}


@pytest.fixture(scope="module")
def doc(server):
    return server.document().doc


def parts(value, at="#"):
    """Every object in the document, with its place."""
    if isinstance(value, dict):
        yield at, value
        for k, v in value.items():
            yield from parts(v, f"{at}/{k}")
    elif isinstance(value, list):
        for i, v in enumerate(value):
            yield from parts(v, f"{at}/{i}")


def test_the_document_is_openapi(doc):
    jsonschema.Draft202012Validator.check_schema(META)
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(META).iter_errors(doc))
    assert error is None, f"{list(error.absolute_path)}: {error.message[:400]}"


def test_every_schema_is_json_schema_and_every_reference_leads_somewhere(server, doc):
    for name, schema in doc["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["description"], name
        if schema["properties"]:
            assert all(row.get("description") for row in schema["properties"].values()), name
    resolver, used = server.document().resolver, set()
    for at, part in parts(doc):
        if "$ref" in part:
            resolver.resolve(part["$ref"])
            used.add(part["$ref"])
    extended = set(re.findall(r"^EXTENDS\((\w+)\)", (openapi.SOURCE / "admin" / "schemas.def").read_text(encoding="utf-8"), re.M))
    for name in doc["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in used or name in extended or name.startswith("Problem"), f"nothing uses {name}"


def test_compiled_or_not_a_schema_means_the_same(doc):
    """The keywords that the draft for which answers' schemas are compiled has as well; and nothing beside a reference, where it would not be looked at."""
    known = {"type", "description", "pattern", "format", "properties", "required", "additionalProperties", "enum", "const", "$ref", "items", "anyOf"}

    def schemas(schema):
        yield schema
        for below in [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *(schema[k] for k in ("items", "additionalProperties") if isinstance(schema.get(k), dict))]:
            yield from schemas(below)

    seen = [s for schema in doc["components"]["schemas"].values() for s in schemas(schema)]
    assert len(seen) > 1000
    for s in seen:
        assert set(s) <= known and ("$ref" not in s or set(s) <= {"$ref", "description"}), s


def test_objects_are_closed(doc):
    """A field that is not documented is an error, everywhere but where anything may stand."""
    open_objects = {at for at, part in parts(doc["components"]["schemas"]) if part.get("type") == "object" and part.get("additionalProperties") is not False and "properties" in part}
    assert not open_objects


def test_every_route_is_in_it_with_its_parameters_and_errors(doc):
    operations = {(method.upper(), path): o for path, item in doc["paths"].items() for method, o in item.items()}
    assert set(operations) == {(r.method, re.sub(r"\{\*", "{", r.path)) for r in routes()}
    assert len({o["operationId"] for o in operations.values()}) == len(operations)
    for (method, path), o in operations.items():
        named = {p["name"]: p for p in o.get("parameters", []) if p.get("in") == "path"}
        assert set(named) == set(re.findall(r"\{(\w+)\}", path))
        for name, p in named.items():
            assert p["description"] != "The name of the object", f"{{{name}}} of {path} has no P row in answers.def"
        needs_token = o.get("security") != []
        assert needs_token == ({"401", "403"} <= set(o["responses"])), path
        assert any(s[0] == "2" for s in o["responses"]), path
    bodies = {r.name.lower(): r.body_max for r in routes()}
    for o in operations.values():
        assert bool(bodies[o["operationId"]]) == ("requestBody" in o), o["operationId"]


def test_it_needs_no_token_and_says_nothing_of_the_server(server, doc):
    answer = server.api("GET", "/api/v1/openapi.json", token=False)
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    assert str(server.dir) not in answer.body.decode() and "127.0.0.1" not in answer.body.decode()
    assert server.api("GET", "/api/v1/openapi.json", token=False).body == answer.body


def test_states_and_codes_come_from_the_program(doc):
    schemas = doc["components"]["schemas"]
    assert schemas["Device"]["properties"]["state"]["enum"] == ["active", "pending", "quarantined", "revoked", "deleted"]
    assert "confirmation_required" in schemas["Problem409"]["properties"]["code"]["enum"]
    assert "confirmation_required" not in schemas["Problem404"]["properties"]["code"]["enum"]
    text = (openapi.SOURCE / "base" / "errors.def").read_text(encoding="utf-8")
    codes = set(re.findall(r'^[EG]\(\w+,\s*\d+,\s*\d,\s*"(\w+)"', text, re.M))
    assert codes == {c for name, s in schemas.items() if name.startswith("Problem") for c in s["properties"]["code"]["enum"]}


def test_answers_that_differ_from_the_document_are_found(server):
    """The check that stands behind every other test can fail: in each of its ways."""
    account = server.account("held-against")
    server.api("GET", "/api/v1/accounts/held-against")
    good = json.loads(server.request("GET", "/api/v1/accounts/held-against", None, {
        "Authorization": "Bearer " + (server.dir / "admin.token").read_text(encoding="utf-8").strip()}).body)
    d = openapi.Document(json.dumps(server.document().doc))
    headers = {"Content-Type": "application/json"}

    def answer(change=None, method="GET", path="/api/v1/accounts/held-against", status=200, headers=headers, sent=None, body=None):
        value = copy.deepcopy(body or good)
        if change:
            change(value)
        d.answer(method, path, status, headers, json.dumps(value).encode(), sent)

    answer()
    for name, change in {"more": lambda v: v.update(more=1), "less": lambda v: v.pop("state"), "type": lambda v: v.update(created=7), "word": lambda v: v.update(kind="toy"),
                         "time": lambda v: v.update(created="yesterday"), "null": lambda v: v.update(method=None), "deep": lambda v: v["devices"].pop("active"),
                         "deep more": lambda v: v["settings"].update(secret="x")}.items():
        with pytest.raises(openapi.Mismatch):
            answer(change)
            pytest.fail(name)
    with pytest.raises(openapi.Mismatch, match="no such status"):
        answer(status=202)
    with pytest.raises(openapi.Mismatch, match="none of"):
        answer(headers={"Content-Type": "text/plain"})
    with pytest.raises(openapi.Mismatch, match="no such route"):
        answer(path="/api/v1/nothing")
    with pytest.raises(openapi.Mismatch, match="no query parameter"):
        answer(path="/api/v1/accounts/held-against?secret=1")
    with pytest.raises(openapi.Mismatch, match="its request"):
        answer(method="PATCH", sent=json.dumps({"approval": True, "unknown": 1}).encode())
    with pytest.raises(openapi.Mismatch, match="header field"):
        d.answer("POST", "/api/v1/accounts/held-against/keys", 201, {"Content-Type": "application/zip"}, b"PK")
    problem = {"status": 404, "title": "t", "detail": "d", "code": "not_found", "fix": "f"}
    as_problem = {"Content-Type": "application/problem+json"}
    answer(status=404, headers=as_problem, body=problem)
    for bad in ({**problem, "code": "wrong_state"}, {**problem, "status": 400}, {**problem, "more": 1}, {k: v for k, v in problem.items() if k != "fix"}):
        with pytest.raises(openapi.Mismatch):
            answer(status=404, headers=as_problem, body=bad)
    d.command(["account", "show", "held-against"], good)
    d.command(["account", "list"], [good])
    for said in ({**good, "more": 1}, [good]):
        with pytest.raises(openapi.Mismatch):
            d.command(["account", "show", "held-against"], said)
    assert account["id"] == "held-against"
    seen = openapi.Document(json.dumps(server.document().doc))
    assert ("GET", "/healthz", 200) in seen.unseen() and ("GET", "/readyz", 503) in seen.unseen()
    seen.answer("GET", "/healthz", 200, headers, b'{"ok":true}')
    assert ("GET", "/healthz", 200) not in seen.unseen()


def test_a_server_without_its_vault_says_so_as_documented(fresh):
    s, end = fresh(), time.monotonic() + 20
    assert s.api("GET", "/readyz", token=False).status == 200
    while (answer := s.api("GET", "/readyz", token=False)).status == 200 and time.monotonic() < end:
        try:
            os.kill(s.child("vault"), signal.SIGKILL)
        except LookupError:
            pass  # between two of them
    assert answer.status == 503 and answer.json["vault"] == "unavailable" and answer.json["ok"] is False


# --- what the command line hears -------------------------------------------------------------------------------------------------------------


def test_what_commands_hear_is_held_against_it(server, tmp_path):
    """Import, export, explanations, refusals, a root's certificate, a webhook's test: each with its answer, and the errors of all."""
    s, base = server, "/api/v1/accounts/heard"
    s.account("heard")
    fleet = s.root("heard")
    device = fleet.device("heard-1")
    assert s.gateway(device).get("/x").status == 404
    assert s.gateway(Fleet("Heard Of").device("heard-2"), sni=s.host("heard")).get("/x").code == "certificate_untrusted"
    (tmp_path / "list.csv").write_text("device_id\nheard-3\nheard-4\n", encoding="utf-8")
    s.muster("device", "import", tmp_path / "list.csv", "--account", "heard")
    subprocess.run([MUSTER, "--data", s.dir, "device", "export", "--account", "heard", "-o", tmp_path / "out.csv"], check=True, timeout=60)
    assert s.muster("explain", device.cert_file, "--account", "heard")["verdict"] == "admitted"
    ident = soon(True, lambda: bool(s.muster("refusal", "list", "--account", "heard")), 4) and s.muster("refusal", "list", "--account", "heard")[0]["id"]
    s.muster("refusal", "show", ident)
    subprocess.run([MUSTER, "--data", s.dir, "root", "export", fleet.root["id"], "-o", tmp_path / "root.pem"], check=True, timeout=60)
    hook = s.muster("webhook", "create", "https://192.0.2.1/", "--account", "heard")["id"]
    with pytest.raises(Refused):
        s.muster("webhook", "test", hook)
    for words in (["account", "show", "nobody"], ["device", "show", "nobody", "--account", "heard"], ["refusal", "show", "no-id"], ["root", "upload", tmp_path / "list.csv", "--account", "heard"],
                  ["account", "create", "heard", "--kind", "test", "--method", "both"], ["account", "delete", "heard"]):
        with pytest.raises(Refused):
            s.muster(*words)
    RECORDED.clear()
    check_recorded()
    heard = {(m, t.replace(fleet.root["id"], "ROOT").replace(ident, "REFUSAL").replace(hook, "HOOK"), status) for m, t, status in RECORDED}
    own = {("GET", "/devices", 200), ("POST", "/expected", 200), ("POST", "/explain", 200), ("GET", "/refusals", 200), ("POST", "/roots", 400), ("GET", "/devices/nobody", 404), ("", "", 409)}
    assert heard >= {(method or "DELETE", base + path, status) for method, path, status in own}
    assert heard >= {("GET", "/api/v1/refusals/REFUSAL", 200), ("GET", "/api/v1/refusals/no-id", 404), ("GET", "/api/v1/accounts/-/roots/ROOT/certificate", 200),
                     ("POST", "/api/v1/webhooks/HOOK/test", 200), ("GET", "/api/v1/accounts/nobody", 404), ("POST", "/api/v1/accounts", 409)}


def test_a_wrong_answer_to_a_command_would_fail(server):
    server.muster("account", "list")
    (seen,) = [e for e in recorder.take() if e.target.startswith("/api/v1/accounts")]
    document = server.document()
    document.answer(seen.method, seen.target, seen.status, seen.headers, seen.body, seen.sent)
    for change in ({"status": 299}, {"body": b'{"items":[{"id":7}],"next":null}'}, {"target": "/api/v1/no-such-thing"}):
        wrong = seen._replace(**change)
        with pytest.raises((openapi.Mismatch, AssertionError)):
            document.answer(wrong.method, wrong.target, wrong.status, wrong.headers, wrong.body, wrong.sent)

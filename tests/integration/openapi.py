"""Holds what the operators' API answers, and what `muster --json` prints of it, against the served OpenAPI document.

Every answer that goes through Server.request() and Server.muster() comes here, and every one that a `muster` of any test got (recorder.py):
a route, a status, a field, a parameter or a member of an accepted body that the document does not have fails the test.  `unseen()` says, at the end of a whole run, what was documented and never happened."""
import json
import pathlib
import re
import urllib.parse

import fastjsonschema
import jsonschema

SOURCE = pathlib.Path(__file__).parents[2] / "src"
PROBLEM = "application/problem+json"
DRAFT = "http://json-schema.org/draft-07/schema#"  # all keywords that the document uses mean the same in it, and it can be compiled; test_openapi.py holds that
UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


class Mismatch(AssertionError):
    """The API is not what the document says."""


class Document:
    def __init__(self, text):
        self.doc = json.loads(text)
        self.resolver = jsonschema.RefResolver("", self.doc)
        self.validators = {}
        rows = sorted(self.doc["paths"].items(), key=lambda row: row[0].count("{"))
        self.paths = [(re.compile(re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(path)) + "$"), path, item) for path, item in rows]
        self.seen = set()  # (method, path, status)

    def find(self, method, path):
        """(the path's template or None, its operation or None)"""
        for pattern, template, item in self.paths:
            if pattern.match(path):
                return template, item.get("get" if method == "HEAD" else method.lower())
        return None, None

    def resolve(self, part):
        return self.resolver.resolve(part["$ref"])[1] if "$ref" in part else part

    def check(self, schema, value, what):
        """By compiled code, because there are thousands of answers; what that refuses is gone through once more, by the library that says best where."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self.validators:
            whole = {"$schema": DRAFT, "allOf": [schema], "components": self.doc["components"]}
            self.validators[key] = fastjsonschema.compile(whole, formats={"uuid": UUID}, use_default=False)
        try:
            self.validators[key](value)
        except fastjsonschema.JsonSchemaException as refused:
            error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema, resolver=self.resolver).iter_errors(value))
            where, why = ("/".join(map(str, error.absolute_path)), error.message) if error else ("", refused.message)
            raise Mismatch(f"{what}: at {where or 'the top'}: {why[:500]}") from None

    def check_problem(self, status, media, body, what):
        if f"Problem{status}" not in self.doc["components"]["schemas"] or media != PROBLEM:
            raise Mismatch(f"{what}: an error of status {status} and type {media} is in no document")
        self.check({"$ref": f"#/components/schemas/Problem{status}"}, json.loads(body), what)

    def answer(self, method, target, status, headers, body, sent=None):
        """An answer of the API; sent: the body of the request."""
        path, _, query = target.partition("?")
        what = f"{method} {path} {status}"
        media = (headers.get("Content-Type") or "").split(";")[0]
        template, operation = self.find(method, path)
        if not operation:  # the router's own answers, and those for what is not even a path
            if status < 400:
                raise Mismatch(f"{what}: no such route in the document")
            self.check_problem(status, media, body, what)
            return
        if str(status) not in operation["responses"]:
            raise Mismatch(f"{what}: {operation['operationId']} has no such status in the document")
        response = self.resolve(operation["responses"][str(status)])
        for field, row in response.get("headers", {}).items():
            if field not in headers:
                raise Mismatch(f"{what}: no header field {field}")
            if row["schema"]["type"] == "string":
                self.check(row["schema"], headers[field], f"{what} {field}")
        if media not in response["content"]:
            raise Mismatch(f"{what}: {media} is none of {list(response['content'])}")
        schema = response["content"][media].get("schema")
        if schema and method != "HEAD":
            self.check(schema, json.loads(body), what)
        if status < 300:
            self.request(operation, query, sent, what)
        self.seen.add((method, template, status))

    def request(self, operation, query, sent, what):
        """What was accepted was documented too."""
        known = {p["name"]: p for p in map(self.resolve, operation.get("parameters", [])) if p["in"] == "query"}
        for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
            if name not in known:
                raise Mismatch(f"{what}: no query parameter {name}")
            if "enum" in known[name]["schema"]:
                self.check(known[name]["schema"], value, f"{what} ?{name}=")
        if sent and (body := operation.get("requestBody")):
            schema = body["content"].get("application/json", {}).get("schema")
            if schema:
                self.check(schema, json.loads(sent), f"{what}, its request")

    def command(self, options, said):
        """What `muster NOUN VERB … --json` printed."""
        noun, verb = [*options[:2], ""][:2]
        if (noun, " ".join(options[1:3])) in COMMANDS:
            verb = " ".join(options[1:3])
        if (noun, verb) not in COMMANDS:
            verb = ""
        method, path, special = COMMANDS.get((noun, verb), (None, None, False))
        if (noun, verb) in PRINTS:
            method, path = PRINTS[noun, verb](options) or (None, None)
        elif special:
            return  # prints something of its own
        if not path:
            return
        path = path.partition("?")[0]
        _, operation = self.find(method, path)
        if not operation:
            raise Mismatch(f"muster {noun} {verb}: {method} {path} is not in the document")
        status = min(operation["responses"])
        schema = operation["responses"][status]["content"]["application/json"]["schema"]
        if "next" in schema.get("properties", {}):
            schema = schema["properties"]["items"]
        self.check(schema, said, f"muster {noun} {verb}")

    def unseen(self):
        """Documented answers, errors apart, that never came."""
        documented = {(method.upper(), path, int(status)) for path, item in self.doc["paths"].items() for method, operation in item.items()
                      for status, response in operation["responses"].items() if PROBLEM not in self.resolve(response)["content"]}
        return sorted(documented - self.seen)


ACCOUNT = "/api/v1/accounts/{account}"
# Commands that are more than the request of their row: what they print, by their options.
PRINTS = {
    ("key", "create"): lambda options: ("GET", f"{ACCOUNT}/keys/{{key}}"),
    ("device", "revoke"): lambda options: ("POST", f"{ACCOUNT}/keys/{{key}}/devices" if "--key" in options else f"{ACCOUNT}/devices/{{device}}/revoke"),
    ("device", "quarantine"): lambda options: ("POST", f"{ACCOUNT}/keys/{{key}}/devices" if "--key" in options else f"{ACCOUNT}/devices/{{device}}/quarantine"),
    ("factory", "kit create"): lambda options: ("POST", f"{ACCOUNT}/lines"),
    ("factory", "kit show"): lambda options: ("GET", f"{ACCOUNT}/lines/{{line}}"),
    ("status", ""): lambda options: ("GET", "/api/v1/status"),
    ("forecast", ""): lambda options: ("GET", "/api/v1/forecast"),
    ("cert", "list"): lambda options: ("GET", f"{ACCOUNT}/certificates" if "--account" in options else "/api/v1/certificates"),
    ("audit", "list"): lambda options: ("GET", f"{ACCOUNT}/audit"),
    ("audit", "head"): lambda options: ("GET", f"{ACCOUNT}/audit/head"),
    ("audit", "verify"): lambda options: ("POST", f"{ACCOUNT}/audit/verify" if "--account" in options else "/api/v1/audit/verify"),
}


def commands():
    """{(noun, verb): (method, path, whether it has a `run` of its own)} of the command line's table."""
    text = (SOURCE / "muster" / "commands.c").read_text(encoding="utf-8")
    found = {}
    for row in re.split(r"\{\.noun = ", text)[1:]:
        noun, verb = re.match(r'"([\w-]+)"(?:,\s*\.verb = "([\w -]*)")?', row).groups(default="")
        method, path = re.search(r'\.method = "(\w+)"', row), re.search(r'\.path = (ACCOUNT )?"([^"]*)"', row)
        found[noun, verb] = (method and method[1], path and (ACCOUNT if path[1] else "") + path[2], ".run = " in row)
        if method and not path:
            path = re.search(r"\.path = ACCOUNT\b", row)
            assert path, (noun, verb)
            found[noun, verb] = (method[1], ACCOUNT, ".run = " in row)
    return found


COMMANDS = commands()
_documents = {}


def document(text):
    """The Document of a served text; one for all servers that serve the same."""
    if text not in _documents:
        _documents[text] = Document(text)
    return _documents[text]


def all_documents():
    return list(_documents.values())

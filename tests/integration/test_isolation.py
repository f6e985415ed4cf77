"""Who may do what: every route of the operators' API, by every kind of token, on its own account, on another and on the server.

The table ROWS has one row for each R(…) of src/admin/routes.def, by its NAME; `tests/isolation_rows` fails the build without one.  A row says
how the path is filled and what the body is, so that the first who is allowed succeeds; what is expected of everybody else follows from the
route's own scope and roles.  Those who are refused come first: had one of them been let through, the act would not succeed any more."""
import base64
import dataclasses
import itertools
import json
import pathlib
import re
import sqlite3
import time
import typing
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from client import Device, Fleet, new_key
from conftest import soon
from est import csr, in_lines, post
from test_root_crl import crl, pem

ROUTES = pathlib.Path(__file__).parents[2] / "src" / "admin" / "routes.def"
ROLES = {"O": "owner", "P": "operator", "A": "auditor", "F": "factory"}
MARK = "quokka"  # in every name of the account that others must learn nothing of
OWN, OTHER = f"{MARK}-own", "wombat-other"


@dataclasses.dataclass
class Route:
    name: str
    method: str
    path: str
    scope: str
    roles: frozenset
    body_max: int


def routes():
    row = re.compile(r'^R\(\s*(\w+)\s*,\s*"(\w+)"\s*,\s*"([^"]+)"\s*,\s*(\w+)\s*,\s*([\w|]+)\s*,\s*(\d+)\s*,\s*"', re.M)
    text = ROUTES.read_text(encoding="utf-8")
    found = [Route(n, m, p, s, frozenset(ROLES[r] for r in roles.split("|") if r in ROLES), int(most)) for n, m, p, s, roles, most in row.findall(text)]
    assert len(found) == len(re.findall(r"^R\(", text, re.M)), "a row of routes.def that this test cannot read"
    return found


class World:
    """Two accounts with one of everything each, and a token of every kind."""

    def __init__(self, server):
        self.server = server
        self.count = itertools.count()
        self.objects = {}
        for account, mark in ((OWN, MARK), (OTHER, "wombat")):
            server.account(account, "test", "both", "--approval", "yes")
            fleet, key = Fleet(f"{mark} Root"), server.key(account, "--name", f"{mark}-key")
            server.root(account, fleet)
            fleet.root = server.muster("root", "set", fleet.root["id"], "--key-rule", "ask")
            made = Device(server.gateway(key).enrol(f"{mark}-enrolled").body)
            server.gateway(made).get("/")
            self.objects[account] = {"fleet": fleet, "registration": key, "key": key.shown["id"], "root": fleet.root["id"],
                                     "device": server.muster("device", "show", f"{mark}-enrolled", "--account", account)["id"]}
        self.tokens = {}
        for role in ROLES.values():
            for scope in (None, OWN, OTHER):  # None: the whole server
                self.tokens[role, scope] = server.token({OWN: MARK, OTHER: "wombat", None: "server"}[scope] + " " + role, role, scope)
        self.objects[OTHER]["token"] = self.tokens["operator", OTHER]["id"]
        expired = server.token("ends soon", "owner", None, expires="1s")
        revoked = server.token("ended", "owner", None)
        server.muster("token", "revoke", revoked["id"])
        time.sleep(1.6)
        good = self.tokens["owner", None]["token"]
        self.bad = {"none": False, "not known": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"), "garbage": "x", "much": "y" * 4000,
                    "expired": expired["token"], "revoked": revoked["token"]}
        # What the other account's answers must not contain.
        self.secrets = {MARK, *(self.objects[OWN][k] for k in ("key", "root", "device")), *(self.tokens[r, OWN]["id"] for r in ROLES.values())}

    def fresh(self, text="new"):
        return f"{MARK}-{text}-{next(self.count)}"

    def root(self, prove=True):
        """A fleet root of its own in the account."""
        return self.server.root(OWN, Fleet(f"{MARK} {next(self.count)}"), prove=prove)

    def pending(self):
        """A device that waits for approval."""
        d = self.fresh("pending")
        assert self.server.gateway(self.objects[OWN]["fleet"].device(d), sni=self.server.host(OWN)).get("/").code == "device_pending"
        return d

    def known(self):
        d = self.pending()
        self.server.muster("device", "approve", d, "--account", OWN)
        return d

    def key(self):
        return self.server.key(OWN, "--name", self.fresh("key")).shown["id"]


# --- one row a route ----------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Row:
    params: typing.Callable = lambda w: {}         # {…} of the path, beside the account
    body: typing.Callable = lambda w, params: None
    again: tuple = ()                               # codes that an allowed one may get who comes after the first
    query: typing.Callable = lambda w: ""
    rule: tuple = ()                                # codes of a rule that refuses whoever may


def key_of(w):
    return {"key": w.objects[OWN]["key"]}


def own_root_of(w):
    """The one that the account issues under."""
    (root,) = [r for r in w.server.muster("root", "list", "--account", OWN) if r["origin"] == "muster" and r["state"] == "active"]
    return {"root": root["id"]}


def oldest_server_ca(w):
    """A former one; devices of both accounts depend on it."""
    if len(w.server.muster("server-ca", "list")) < 2:
        w.server.muster("server-ca", "rotate")
    return {"server_ca": "1"}


def root_of(w):
    return {"root": w.objects[OWN]["root"]}


def crl_of(w):
    lists = soon(True, lambda: bool(w.server.muster("crl", "list", "--account", OWN)), 5) and w.server.muster("crl", "list", "--account", OWN)
    return {"crl": lists[0]["id"]}


def device_of(w):
    return {"device": w.objects[OWN]["device"]}


def refusal_of(w):
    """The refusal of a device of the account's own."""
    d = w.fresh("refused")
    answer = w.server.gateway(w.objects[OWN]["fleet"].device(d), sni=w.server.host(OWN)).get("/")
    assert answer.code == "device_pending"
    listed = soon([d], lambda: [r["device_id"] for r in w.server.muster("refusal", "list", "--account", OWN, "--device", d)], 3)
    assert listed
    w.secrets.add(answer.json["errorId"])
    return {"refusal": answer.json["errorId"]}


def certificate_of(w, device_id=None):
    """The certificate of a device of the account's own, by its id."""
    (newest, *_) = w.server.muster("device", "show", device_id or f"{MARK}-enrolled", "--account", OWN)["certificates"]
    w.secrets.add(newest["serial"])
    return {"certificate": newest["serial"]}


def doomed_certificate(w):
    d = w.fresh("certified")
    assert w.server.gateway(w.objects[OWN]["registration"]).enrol(d).status == 200
    return certificate_of(w, d)


def offer(w):
    """A device for which another key was offered."""
    d = w.known()
    fleet = w.objects[OWN]["fleet"]
    other = fleet.device(d)
    assert w.server.gateway(other, sni=w.server.host(OWN)).get("/").code == "device_key_mismatch"
    w.offered = other.spki
    return {"device": d}


def announced(w):
    d = w.fresh("announced")
    w.server.api("POST", f"/api/v1/accounts/{OWN}/expected", {"items": [{"device_id": d}]})
    return {"device": d}


def invited(w):
    d = w.fresh("invited")
    made = w.server.api("POST", f"/api/v1/accounts/{OWN}/invitations", {"device_id": d})
    w.secrets.add(made.json["id"])
    return {"invitation": made.json["id"] if next(w.count) % 2 else d}


def queued(w):
    """The request of a device for the account's own CA."""
    d, fleet = w.fresh("asks"), w.objects[OWN]["fleet"]
    device = fleet.device(d)
    w.server.muster("account", "set", OWN, "--csr-queue", "yes")
    assert w.server.gateway(device, sni=w.server.host(OWN)).get("/").code == "device_pending"
    w.server.muster("device", "approve", d, "--account", OWN)
    answer = post(w.server.gateway(device, sni=w.server.host(OWN)), "simplereenroll", csr(new_key(), d))
    assert answer.status == 202, answer
    (request,) = [c for c in w.server.muster("csr", "list", "--account", OWN) if c["device_id"] == d]
    w.secrets.add(request["id"])
    return {"csr": request["id"] if next(w.count) % 2 else d}


def root_to_prove(w):
    w.unproved = w.root(prove=False)
    return {"root": w.unproved.root["id"]}


def disabled_root(w):
    root = w.root().root["id"]
    w.server.muster("root", "disable", root)
    return {"root": root}


def quarantined(w):
    d = w.known()
    w.server.muster("device", "quarantine", d, "--account", OWN)
    return {"device": d}


def doomed_account(w):
    doomed = w.fresh("doomed")
    w.server.account(doomed)
    return {"account": doomed}


def hook(w, account=OWN):
    made = w.server.api("POST", "/api/v1/webhooks", {"url": f"https://{w.fresh('hook') if account == OWN else 'wombat'}.invalid/", "account": account, "events": ["webhook.test"]})
    assert made.status == 201, made
    return made.json["id"]


def hook_of(w):
    """One of the account, and one of the other one for whoever lists."""
    if "webhook" not in w.objects[OWN]:
        w.objects[OTHER]["webhook"], w.objects[OWN]["webhook"] = hook(w, OTHER), hook(w)
    return {"webhook": w.objects[OWN]["webhook"]}


def doomed_hook(w):
    return {"webhook": hook(w)}


def dead_letter(w):
    """An event that a webhook gave up, laid into its queue by hand: what a receiver that is not there leaves."""
    hook_of(w)
    event = uuid.uuid4()
    with sqlite3.connect(w.server.dir / "control.db", timeout=30) as db:
        db.execute("INSERT INTO delivery (webhook, event, kind, state, created, attempts, next_at, last_error, payload) "
                   "SELECT id, ?, 62, 2, 1, 1, 1, 'not there', ? FROM webhook WHERE uuid = ?",
                   (event.bytes, json.dumps({"account": OWN}), uuid.UUID(w.objects[OWN]["webhook"]).bytes))
    return {"webhook": w.objects[OWN]["webhook"], "event": str(event)}


def doomed_token(w):
    return {"token": w.server.token(w.fresh("token"), "factory", OWN)["id"]}


def listing_root(w):
    w.lister = w.root()
    return {"root": w.lister.root["id"]}


def line_body(w, key=None):
    line = w.fresh("line")
    subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, OWN), x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, line)])
    request = in_lines(csr(key or new_key(), subject=subject)).decode()
    return {"name": line, "max_devices": 5, "id_pattern": "*", "expires": "30d", "request": f"-----BEGIN CERTIFICATE REQUEST-----\n{request}-----END CERTIFICATE REQUEST-----\n"}


def line_with_device(w):
    """A factory line that has brought a device, which waits."""
    key = new_key()
    made = w.server.api("POST", f"/api/v1/accounts/{OWN}/lines", line_body(w, key)).json
    line = Fleet.__new__(Fleet)
    line.key, line.kind, line.cert = key, "ec", x509.load_pem_x509_certificate(made["certificate"].encode())
    w.of_line = w.fresh("of-line")
    device = line.issue(x509.Name([*line.cert.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees[0].value,
                                   x509.NameAttribute(x509.NameOID.COMMON_NAME, w.of_line)]), chain=[line.cert])
    assert w.server.gateway(device, sni=w.server.host(OWN)).get("/").code == "device_pending"
    w.secrets.add(made["id"])
    return {"line": made["id"]}


def line_that_tells(w):
    """A factory line of the account whose key is known, which signs that it has made nothing yet."""
    w.line_key = new_key()
    made = w.server.api("POST", f"/api/v1/accounts/{OWN}/lines", line_body(w, w.line_key)).json
    w.secrets.add(made["id"])
    return {"line": made["id"]}


def told_by(w, p):
    at, digest = "2026-01-01T00:00:00Z", "ab" * 32
    text = f"muster manifest 1\n{p['line']}\n{at}\n0\n{digest}\n".encode()
    return {"entries": 0, "at": at, "digest": digest, "signature": base64.b64encode(w.line_key.sign(text, ec.ECDSA(hashes.SHA256()))).decode(), "digests": [{"entries": 0, "digest": digest}]}


def line_of(w):
    """A factory line of the account, by its id."""
    made = w.server.api("POST", f"/api/v1/accounts/{OWN}/lines", line_body(w))
    assert made.status == 201, made
    w.secrets.add(made.json["id"])
    return {"line": made.json["id"]}


def in_recovery(w):
    """The server as a restore leaves it."""
    with sqlite3.connect(w.server.dir / "registry.db", timeout=30) as db:
        db.execute("UPDATE meta SET value = 1 WHERE name = 'recovery'")
    return {}


ROWS = {
    "HEALTHZ": Row(),
    "READYZ": Row(),
    "OPENAPI": Row(),
    "METRICS": Row(),
    "STATUS": Row(),
    "FORECAST": Row(),
    "WHOAMI": Row(),
    "RECOVERY_SHOW": Row(),
    "RECOVERY_HELD": Row(),
    "RECOVERY_ADMIT": Row(in_recovery, lambda w, p: {"confirm": 0}),
    "RECOVERY_CRL": Row(in_recovery, lambda w, p: {"crl": w.server.api("GET", f"/api/v1/accounts/{OWN}/crl-file").body.decode()}),
    "RECOVERY_FINISH": Row(in_recovery, lambda w, p: {"confirm": w.server.api("POST", "/api/v1/recovery/finish", {}).json.get("count", 0)}, again=("wrong_state",)),

    "SERVER_CA_LIST": Row(),
    "SERVER_CA_SHOW": Row(params=lambda w: {"server_ca": "1"}),
    "SERVER_CA_EXPORT": Row(),
    "SERVER_CA_ROTATE": Row(body=lambda w, p: {}),
    "SERVER_CA_RETIRE": Row(params=oldest_server_ca, body=lambda w, p: {"days": 1}, rule=("confirmation_required", "server_ca_in_use", "wrong_state")),

    "ACCOUNT_LIST": Row(),
    "ACCOUNT_CREATE": Row(body=lambda w, p: {"id": w.fresh("made"), "kind": "test", "method": "device"}),
    "ACCOUNT_SHOW": Row(),
    "PROFILE_SHOW": Row(),
    "PROFILE_SET": Row(body=lambda w, p: {"longest_life": "20y"}),
    "ACCOUNT_SET": Row(body=lambda w, p: {"device_life": "10y"}),
    "ACCOUNT_DELETE": Row(params=doomed_account, query=lambda w: "?confirm=0"),

    "KEY_LIST": Row(),
    "KEY_CREATE": Row(body=lambda w, p: {"name": w.fresh("made")}),
    "KEY_SHOW": Row(params=key_of),
    "KEY_SET": Row(params=key_of, body=lambda w, p: {"max_devices": 50}),
    "KEY_BLACKLIST": Row(params=lambda w: {"key": w.key()}, again=("wrong_state",)),
    "KEY_DEVICES": Row(params=key_of),
    "KEY_DEVICES_ACT": Row(params=lambda w: {"key": w.key()}, body=lambda w, p: {"action": "quarantine", "confirm": 0}),

    "ROOT_LIST": Row(),
    "ROOT_UPLOAD": Row(body=lambda w, p: {"certificate": Fleet(w.fresh("uploaded")).root_pem().decode()}),
    "ROOT_SHOW": Row(params=root_of),
    "ROOT_PROVE": Row(params=root_to_prove, body=lambda w, p: {"certificate": w.unproved.proof_pem(w.unproved.root["challenge"]).decode()}, again=("wrong_state",)),
    "ROOT_SET": Row(params=root_of, body=lambda w, p: {"id_rule": "cn"}),
    "ROOT_DISABLE": Row(params=lambda w: {"root": w.root().root["id"]}, body=lambda w, p: {}, again=("wrong_state",)),
    "ROOT_ENABLE": Row(params=disabled_root, body=lambda w, p: {}, again=("wrong_state",)),
    "ROOT_REVOKE": Row(params=lambda w: {"root": w.root().root["id"]}, body=lambda w, p: {}, again=("wrong_state",)),
    "ROOT_ROTATE": Row(params=own_root_of, body=lambda w, p: {}, again=("wrong_state",)),
    "ROOT_RETIRE": Row(params=lambda w: {"root": w.root().root["id"]}, body=lambda w, p: {}, again=("wrong_state",)),
    "ROOT_EXPORT": Row(params=root_of),

    "ROOT_CRL_IMPORT": Row(params=listing_root, body=lambda w, p: {"crl": pem(crl(w.lister)).decode()}, again=("crl_older",)),
    "ROOT_CRL_LIST": Row(),
    "CRL_LIST": Row(),
    "CRL_SHOW": Row(params=crl_of),
    "CRL_EXPORT": Row(params=crl_of),
    "CRL_EXPORT_ALL": Row(),
    "CA_EXPORT_ALL": Row(),

    "LINE_LIST": Row(),
    "LINE_CREATE": Row(body=lambda w, p: line_body(w)),
    "LINE_SHOW": Row(params=line_of),
    "LINE_SET": Row(params=line_of, body=lambda w, p: {"max_devices": 7}),
    "LINE_REVOKE": Row(params=line_of, body=lambda w, p: {"reason": "its key was copied"}),
    "LINE_ACT": Row(params=line_with_device, body=lambda w, p: {"action": "hold", "devices": [w.of_line]}),
    "LINE_TOLD": Row(params=line_of),
    "LINE_TELL": Row(params=line_that_tells, body=told_by),
    "LINE_TELL_LOOK": Row(params=line_that_tells, body=told_by),
    "LINE_DEVICES": Row(params=line_of),

    "DEVICE_LIST": Row(),
    "DEVICE_SHOW": Row(params=device_of),
    "DEVICE_EVENTS": Row(params=device_of),
    "EXPECTED_LIST": Row(),
    "EXPECTED_REMOVE": Row(params=announced, again=("not_found",)),
    "INVITATION_CREATE": Row(body=lambda w, p: {"device_id": w.fresh("invited")}),
    "INVITATION_LIST": Row(),
    "INVITATION_REMOVE": Row(params=invited, again=("not_found",)),
    "CSR_LIST": Row(),
    "CSR_IMPORT": Row(body=lambda w, p: {"certificates": Fleet(w.fresh("uploaded")).root_pem().decode()}),
    "CSR_REMOVE": Row(params=queued, again=("not_found",)),
    "DEVICE_IMPORT": Row(body=lambda w, p: {"items": [{"device_id": w.fresh("expected")}]}),
    "CERT_LIST": Row(),
    "CERT_LIST_ALL": Row(),
    "CERT_SHOW": Row(params=certificate_of),
    "CERT_ISSUER": Row(params=certificate_of),
    "CERT_REVOKE": Row(params=doomed_certificate, body=lambda w, p: {"confirm": 1}, again=("wrong_state",)),
    "DEVICE_APPROVE": Row(params=lambda w: {"device": w.pending()}, body=lambda w, p: {}, again=("wrong_state",)),
    "DEVICE_REFUSE": Row(params=lambda w: {"device": w.pending()}, body=lambda w, p: {}, again=("wrong_state",)),
    "DEVICE_ACCEPTKEY": Row(params=offer, body=lambda w, p: {"fingerprint": w.offered}),
    "DEVICE_REVOKE": Row(params=lambda w: {"device": w.known()}, body=lambda w, p: {}, again=("wrong_state",)),
    "DEVICE_QUARANTINE": Row(params=lambda w: {"device": w.known()}, body=lambda w, p: {}, again=("wrong_state",)),
    "DEVICE_RELEASE": Row(params=quarantined, body=lambda w, p: {}, again=("wrong_state",)),
    "DEVICE_DELETE": Row(params=lambda w: {"device": w.known()}, again=("wrong_state",)),

    "EXPLAIN": Row(body=lambda w, p: {"chain": w.objects[OWN]["fleet"].device(f"{MARK}-explained").cert_file.read_text()}),
    "REFUSAL_LIST": Row(),
    "REFUSAL_SHOW": Row(params=refusal_of),
    "REFUSAL_SERVER_LIST": Row(),
    "REFUSAL_SERVER_SHOW": Row(params=refusal_of),

    "TOKEN_LIST": Row(),
    "TOKEN_CREATE": Row(body=lambda w, p: {"name": w.fresh("made"), "role": "factory", "account": OWN}),
    "TOKEN_REVOKE": Row(params=doomed_token, again=("wrong_state", "not_found")),

    "WEBHOOK_EVENTS": Row(),
    "WEBHOOK_LIST": Row(params=lambda w: {k: v for k, v in hook_of(w).items() if not v}),
    "WEBHOOK_CREATE": Row(body=lambda w, p: {"url": f"https://{w.fresh('hook')}.example/", "account": OWN, "events": ["root.state"]}),
    "WEBHOOK_SHOW": Row(params=hook_of),
    "WEBHOOK_SET": Row(params=hook_of, body=lambda w, p: {"state": "disabled"}),
    "WEBHOOK_DELETE": Row(params=doomed_hook, again=("not_found",)),
    "WEBHOOK_ROTATE": Row(params=hook_of, body=lambda w, p: {"overlap": "1h"}),
    "WEBHOOK_TEST": Row(params=hook_of),
    "WEBHOOK_DEAD": Row(params=hook_of),
    "WEBHOOK_DEAD_SHOW": Row(params=dead_letter),
    "WEBHOOK_RETRY": Row(params=hook_of, body=lambda w, p: {}),
    "WEBHOOK_DROP": Row(params=hook_of, body=lambda w, p: {"confirm": 0}),

    "AUDIT_LIST": Row(),
    "AUDIT_VERIFY": Row(body=lambda w, p: {}),
    "AUDIT_PROGRESS": Row(),
    "AUDIT_HEAD": Row(),
    "AUDIT_SERVER_LIST": Row(),
    "AUDIT_SERVER_VERIFY": Row(body=lambda w, p: {}),
    "AUDIT_SERVER_PROGRESS": Row(),
    "AUDIT_SERVER_HEAD": Row(),
}

# Routes of any token whose object is an account's all the same: what a token of another account gets.
FOREIGN = {"TOKEN_CREATE": (403, "role_insufficient"), "TOKEN_REVOKE": (404, "not_found"), "WEBHOOK_CREATE": (403, "role_insufficient"),
           **{f"WEBHOOK_{verb}": (404, "not_found") for verb in ("SHOW", "SET", "DELETE", "ROTATE", "TEST", "DEAD", "DEAD_SHOW", "RETRY", "DROP")}}


@pytest.fixture(scope="module")
def world(server):
    return World(server)


def cells(route):
    """[(the token's role, its account or None, what is expected: None where it is allowed, else status and code)]"""
    for role in ROLES.values():
        for scope in (OTHER, OWN, None):
            if role not in route.roles or (route.scope == "SERVER" and scope):
                yield role, scope, (403, "role_insufficient")
            elif scope == OTHER and route.scope == "ACCOUNT":
                yield role, scope, (404, "not_found")
            elif scope == OTHER and route.name in FOREIGN:
                yield role, scope, FOREIGN[route.name]
            else:
                yield role, scope, None


def fill(route, params, account=OWN):
    return re.sub(r"\{(\w+)\}", lambda m: {"account": account, **params}[m.group(1)], route.path)


def quiet(world, answer, asked=""):
    """Nothing of the account stands in the answer, but what the request said itself."""
    said = answer.body + repr(answer.headers.items()).encode()
    found = [s for s in world.secrets if s.encode() in said and s not in asked]
    assert not found, f"{found} in {answer}"


def test_every_route_has_a_row_and_every_row_a_route():
    assert sorted(ROWS) == sorted(r.name for r in routes())


@pytest.mark.parametrize("route", routes(), ids=lambda r: r.name)
def test_route(world, route):
    row, api = ROWS[route.name], world.server.api
    params = row.params(world)
    path = fill(route, params) + row.query(world)

    def ask(token, path=path):
        return api(route.method, path, row.body(world, params), token=token)

    for kind, token in world.bad.items():
        answer = ask(token)
        if route.scope == "OPEN":
            assert answer.status == 200, (kind, answer)
        else:
            assert (answer.status, answer.code) == (401, "token_required" if kind == "none" else "token_invalid"), (kind, answer)
        quiet(world, answer)
    if route.scope == "OPEN":
        return
    allowed = []
    for role, scope, expected in cells(route):
        if expected is None:
            allowed.append((role, scope))
            continue
        answer = ask(world.tokens[role, scope]["token"])
        assert (answer.status, answer.code) == expected, (role, scope, answer)
        quiet(world, answer)
        # An object by its id alone is no way around.
        if "{account}/" in route.path and params:
            answer = ask(world.tokens[role, scope]["token"], fill(route, params, "-"))
            assert answer.status in ((404, 403) if expected[0] == 403 else (404, 400)), (role, scope, answer)
            assert answer.code in (expected[1], "invalid_request"), (role, scope, answer)
            quiet(world, answer)
    # Objects of an account are not reached by the path of another, whoever asks.
    if route.scope == "ACCOUNT" and params:
        for role in route.roles:
            for scope in (None, OTHER):
                answer = ask(world.tokens[role, scope]["token"], fill(route, params, OTHER))
                assert (answer.status, answer.code) == (404, "not_found"), (role, scope, answer)
    # Those who may.
    first = True
    for role, scope in sorted(allowed, key=lambda cell: (cell[1] == OTHER, cell[1] is None)):
        answer = ask(world.tokens[role, scope]["token"])
        if answer.code in row.rule:
            pass
        elif first or not row.again:
            assert 200 <= answer.status < 300, (role, scope, answer)
        else:
            assert 200 <= answer.status < 300 or answer.code in row.again, (role, scope, answer)
        if scope == OTHER:
            quiet(world, answer)
        elif scope is None and route.scope == "ANY" and route.method == "GET" and route.name not in ("WHOAMI", "WEBHOOK_EVENTS") and not params:
            assert MARK.encode() in answer.body and b"wombat" in answer.body
        elif scope == OWN:
            assert b"wombat" not in answer.body, (role, answer)
        first = False
    assert allowed


def test_an_account_that_a_token_may_not_see_looks_like_one_that_is_not_there(world):
    token = world.tokens["owner", OTHER]["token"]
    for method, tail, body in (("GET", "", None), ("PATCH", "", {"approval": False}), ("GET", "/devices", None), ("GET", "/devices/x", None), ("POST", "/roots", {"certificate": "x"})):
        there, nowhere = (world.server.api(method, f"/api/v1/accounts/{account}{tail}", body, token=token) for account in (OWN, "never-made"))
        assert (there.status, there.body) == (nowhere.status, nowhere.body) and there.status == 404
    for kind in ("devices", "keys", "roots"):
        there = world.server.api("GET", f"/api/v1/accounts/-/{kind}/{world.objects[OWN][kind[:-1]]}", token=token)
        nowhere = world.server.api("GET", f"/api/v1/accounts/-/{kind}/00000000-0000-7000-8000-000000000000", token=token)
        assert (there.status, there.body) == (nowhere.status, nowhere.body) and there.status == 404


def test_a_list_cannot_be_made_to_show_another_account(world):
    """Filters, cursors and names that point elsewhere."""
    token = world.tokens["owner", OTHER]["token"]
    theirs = world.objects[OWN]
    for query in (f"key={theirs['key']}", f"root={theirs['root']}", f"key={MARK}-key", f"prefix={MARK}", "cursor=1", "cursor=0", "cursor=99999999", "limit=1000", "state=active"):
        answer = world.server.api("GET", f"/api/v1/accounts/{OTHER}/devices?{query}", token=token)
        assert answer.status in (200, 400, 404), answer
        quiet(world, answer, query)
    for path in (f"/api/v1/accounts/{OTHER}/devices/{MARK}-enrolled", f"/api/v1/accounts/{OTHER}/keys/{MARK}-key", f"/api/v1/accounts/{OTHER}/../{OWN}/devices",
                 f"/api/v1/accounts/{OTHER}%2f..%2f{OWN}/devices", f"/api/v1/accounts/{OWN.upper()}/devices", f"/api/v1/accounts/{OWN}%00/devices", f"/api/v1/accounts/{OWN}/nonsense",
                 f"/api/v1/accounts/{OTHER}/devices/{MARK}-enrolled/approve", "/api/v1/nonsense"):
        answer = world.server.api("GET", path, token=token)
        assert answer.status in (400, 404, 405), (path, answer)
        quiet(world, answer, path)


def test_an_account_s_audit_log_holds_nothing_of_another(world):
    token = world.tokens["owner", OTHER]["token"]
    for at in range(1, 40, 7):
        answer = world.server.api("GET", f"/api/v1/accounts/{OTHER}/audit?from={at}", token=token)
        assert answer.status == 200
        quiet(world, answer)
    own = world.server.api("GET", f"/api/v1/accounts/{OWN}/audit?limit=1000", token=world.tokens["auditor", OWN]["token"])
    assert own.status == 200 and b"wombat" not in own.body
    # A head of one log says nothing about another.
    head = world.server.api("GET", f"/api/v1/accounts/{OWN}/audit/head").json
    answer = world.server.api("POST", f"/api/v1/accounts/{OTHER}/audit/verify", {"head": head}, token=token)
    assert answer.status == 400, answer


def test_a_token_s_owner_cannot_raise_itself(world):
    """Neither to another account nor to the whole server, and no other role makes tokens at all."""
    token = world.tokens["owner", OTHER]["token"]
    for body in ({"account": OWN}, {"account": ""}, {"account": None}, {"account": "*"}, {"account": MARK}, {"account": "-"}):
        answer = world.server.api("POST", "/api/v1/tokens", {"name": "up", "role": "owner", **body}, token=token)
        assert answer.status in (400, 403), (body, answer)
        quiet(world, answer)
    made = world.server.api("POST", "/api/v1/tokens", {"name": "wombat more", "role": "owner"}, token=token)
    assert made.status == 201 and made.json["account"] == OTHER
    assert world.server.api("GET", f"/api/v1/accounts/{OWN}", token=made.json["token"]).status == 404
    assert world.server.api("GET", "/api/v1/audit", token=made.json["token"]).status == 403


def test_bodies_have_a_limit_of_their_own(world):
    for route in routes():
        if not route.body_max:
            continue
        params = {"key": "k", "root": "r", "device": "d", "token": "t", "webhook": "w", "event": "e", "certificate": "01", "invitation": "i", "csr": "c", "line": "l", "server_ca": "s"}
        answer = world.server.api(route.method, fill(route, params), b'{"x":"' + b"y" * route.body_max + b'"}')
        assert answer.status == 413, (route.name, answer)

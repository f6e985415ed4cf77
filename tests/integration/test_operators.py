"""Operators: tokens that are hashed, end, and are good for an account or the server; roles; the command line as their client."""
import json
import os
import stat
import time

import pytest

from conftest import Refused, refused, soon


@pytest.fixture(scope="module")
def world(server):
    for account in ("ops-a", "ops-b"):
        server.account(account, "test", "both")
    return server


def created(world, *args):
    return world.muster("token", "create", *args)


def token_file(world, token):
    path = world.dir.parent / f"token-{time.monotonic_ns()}"
    path.write_text(token + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def whoami(world, token):
    answer = world.api("GET", "/api/v1/whoami", token=token)
    return answer.json if answer.status == 200 else answer.code


# --- tokens ---------------------------------------------------------------------------------------------------------------------------


def test_create_list_use_revoke(world):
    made = created(world, "--name", "Ada", "--role", "operator", "--account", "ops-a", "--expires", "90d")
    assert (made["name"], made["role"], made["account"], made["revoked"]) == ("Ada", "operator", "ops-a", None)
    days = (time.mktime(time.strptime(made["expires"], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())) / 86400
    assert 89.9 < days < 90.1
    me = whoami(world, made["token"])
    assert (me["id"], me["name"], me["role"], me["account"]) == (made["id"], "Ada", "operator", "ops-a")
    assert "token" not in me
    # Through the command line, by URL, token file and CA file.
    path = token_file(world, made["token"])
    assert world.muster("whoami", token_file=path)["id"] == made["id"]
    assert [a["id"] for a in world.muster("account", "list", token_file=path)] == ["ops-a"]
    refused("role_insufficient", world.muster, "account", "create", "x", "--kind", "test", "--method", "both", token_file=path)
    refused("not_found", world.muster, "account", "show", "ops-b", token_file=path)
    # In the list without its secret.
    listed = [t for t in world.muster("token", "list") if t["id"] == made["id"]][0]
    assert "token" not in listed and made["token"] not in json.dumps(world.muster("token", "list"))
    assert listed["last_used"]
    revoked = world.muster("token", "revoke", made["id"])
    assert revoked["revoked"]
    assert whoami(world, made["token"]) == "token_invalid"  # at once
    refused("token_invalid", world.muster, "whoami", token_file=path)
    assert world.muster("token", "revoke", made["id"])["revoked"] == revoked["revoked"]


def test_a_token_ends(world):
    made = created(world, "--name", "short", "--role", "auditor", "--expires", "2s")
    assert whoami(world, made["token"])["role"] == "auditor"
    soon("token_invalid", lambda: whoami(world, made["token"]), 3)
    assert created(world, "--name", "endless", "--role", "auditor")["expires"] is None
    for wrong in ("-1d", "yesterday", "0", "2001-01-01T00:00:00Z", ""):
        with pytest.raises(Refused):
            created(world, "--name", "x", "--role", "auditor", f"--expires={wrong}")


def test_what_a_token_may_be_called(world):
    for body in ({"name": "", "role": "owner"}, {"name": "a\nb", "role": "owner"}, {"name": "x" * 1000, "role": "owner"}, {"name": "x", "role": "king"}, {"name": "x"}, {"role": "owner"},
                 {"name": "x", "role": "owner", "account": "Not An Account"}, {"name": "x", "role": "owner", "more": 1}, {"name": 7, "role": "owner"}, []):
        answer = world.api("POST", "/api/v1/tokens", body)
        assert answer.status == 400, (body, answer)
    assert world.api("POST", "/api/v1/tokens", {"name": "x", "role": "owner", "account": "never-made"}).status == 404


def test_tokens_are_kept_as_hashes(world):
    made = created(world, "--name", "hashed", "--role", "owner")
    secret = made["token"].encode()
    for path in world.dir.rglob("*"):
        if path.is_file() and path.name != "admin.token":
            assert secret not in path.read_bytes(), path
    assert made["token"] not in world.log_text()
    mode = stat.S_IMODE(os.stat(world.dir / "admin.token").st_mode)
    assert mode == 0o600


def test_how_a_token_is_presented(world):
    good = created(world, "--name", "present", "--role", "auditor")["token"]
    path = "/api/v1/whoami"
    assert world.api("GET", path, token=good).status == 200
    for wrong in (good[:-1], good + "x", good.lower(), good[::-1]):
        assert world.api("GET", path, token=wrong).code == "token_invalid", wrong
    assert world.api("GET", f"{path}?token={good}&access_token={good}", token=False).code == "token_required"
    answer = world.api("GET", path, token=False)
    assert answer.status == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_account_s_owner_keeps_to_the_account(world):
    owner = created(world, "--name", "a's owner", "--role", "owner", "--account", "ops-a")
    foreign = created(world, "--name", "b's owner", "--role", "owner", "--account", "ops-b")
    path = token_file(world, owner["token"])
    made = world.muster("token", "create", "--name", "a's second", "--role", "operator", token_file=path)
    assert made["account"] == "ops-a"
    refused("role_insufficient", world.muster, "token", "create", "--name", "x", "--role", "owner", "--account", "ops-b", token_file=path)
    assert {t["account"] for t in world.muster("token", "list", token_file=path)} == {"ops-a"}
    refused("not_found", world.muster, "token", "revoke", foreign["id"], token_file=path)
    assert whoami(world, foreign["token"])["name"] == "b's owner"
    world.muster("token", "revoke", made["id"], token_file=path)
    assert whoami(world, made["token"]) == "token_invalid"


# --- roles ----------------------------------------------------------------------------------------------------------------------------


def test_what_the_roles_are_for(world):
    tokens = {role: token_file(world, created(world, "--name", f"the {role}", "--role", role, "--account", "ops-a")["token"]) for role in ("owner", "operator", "auditor", "factory")}
    expected = world.dir.parent / "expected.jsonl"
    expected.write_text('{"device_id": "from-the-factory"}\n', encoding="utf-8")

    def may(*args):
        out = set()
        for role, path in tokens.items():
            try:
                world.muster(*args, token_file=path)
                out.add(role)
            except Refused as said:
                assert said.code == "role_insufficient", said.text
        return out

    everybody = {"owner", "operator", "auditor", "factory"}
    assert may("whoami") == everybody
    assert may("device", "list", "--account", "ops-a") == everybody - {"factory"}
    assert may("audit", "list", "--account", "ops-a") == everybody - {"factory"}
    assert may("audit", "verify", "--account", "ops-a") == everybody - {"factory"}
    assert may("device", "import", expected, "--account", "ops-a") == {"owner", "operator", "factory"}
    assert may("account", "set", "ops-a", "--approval", "no") == {"owner"}
    assert may("token", "list") == {"owner", "auditor"}
    assert may("audit", "list") == set()  # the server's


# --- the first owner, and the last resort ---------------------------------------------------------------------------------------------------


def test_token_reset_brings_the_owner_back(fresh):
    s = fresh()
    s.account("kept")
    first = (s.dir / "admin.token").read_text(encoding="utf-8").strip()
    second = s.token("second owner", "owner")["token"]
    scoped = s.token("kept's owner", "owner", "kept")["token"]
    auditor = s.token("auditor", "auditor")["token"]
    done = s.musterd("token", "reset")
    assert done.returncode == 0 and "admin.token" in done.stdout and first not in done.stdout + done.stderr
    new = (s.dir / "admin.token").read_text(encoding="utf-8").strip()
    assert new != first and new not in done.stdout + done.stderr
    assert stat.S_IMODE(os.stat(s.dir / "admin.token").st_mode) == 0o600
    # The running server sees it at once: no owner of the server but the new one.
    assert [whoami(s, t) for t in (first, second)] == ["token_invalid"] * 2
    assert whoami(s, new)["role"] == "owner"
    assert whoami(s, auditor)["role"] == "auditor" and whoami(s, scoped)["account"] == "kept"
    assert "token.reset" in [e["action"] for e in s.muster("audit", "list")]
    assert s.stop() == 0
    assert s.musterd("token", "reset").returncode == 0  # without a server as well
    s.start()
    assert whoami(s, new) == "token_invalid"
    assert s.muster("whoami")["role"] == "owner"


def test_operators_acts_are_recorded_under_their_name(world):
    made = created(world, "--name", "Grace", "--role", "owner", "--account", "ops-b")
    path = token_file(world, made["token"])
    world.muster("account", "set", "ops-b", "--approval", "no", token_file=path)
    last = world.muster("audit", "list", "--account", "ops-b")[-1]
    assert last["action"] == "account.set" and "Grace" in last["actor"]
    last = [e for e in world.muster("audit", "list") if e["object"] == made["id"]]
    assert [e["action"] for e in last] == ["token.create"] and last[0]["detail"]["name"] == "Grace"
    assert made["token"] not in json.dumps(world.muster("audit", "list"))

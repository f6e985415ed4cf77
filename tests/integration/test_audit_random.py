"""No honest history looks like a forgery: whatever operators and devices do, in whatever order, while processes are killed, logs are walked and
the server is put back from a backup, `audit verify` finds the record whole.

Short form three seeds; MUSTER_LONG=yes many more steps.  MUSTER_SEED repeats a run, as far as scheduling lets it."""
import http.client
import os
import random
import shutil
import signal
import threading
import time
import urllib.parse

import pytest

from client import Device, Fleet, Registration, new_key, spki_hash
from conftest import LONG
from est import Device as EstDevice, basic, certificates, csr, post

STEPS = 600 if LONG else 45
EVERY = 15  # steps between two verifications of everything
SEEDS = [int(os.environ["MUSTER_SEED"])] if "MUSTER_SEED" in os.environ else list(range(12 if LONG else 3))
LOST = (OSError, http.client.HTTPException)
IDS = ["d0", "d1", "d2", "d3", "d4", "d5", "Gerät-ü", "vin WDB 123/4:5%20", "x" * 80, "urn:muster:device:y"]
OUTAGES = {"unavailable", "vault_unavailable", "busy", "storage_failed"}


class Traffic(threading.Thread):
    """Devices that come while operators act: enrolments, by keys and by invitations, first uses, first contacts, other keys."""

    def __init__(self, play, seed):
        super().__init__(daemon=True)
        self.play, self.chance, self.go_on, self.wrong = play, random.Random(seed), True, None

    def run(self):
        while self.go_on:
            try:
                self.play.device_comes(self.chance)
            except LOST:
                time.sleep(0.05)
            except Exception as e:  # pylint: disable=broad-except
                self.wrong = e
                return
            time.sleep(0.02)


class Play:
    def __init__(self, server, seed):
        self.s, self.chance, self.said = server, random.Random(seed), []
        self.accounts, self.gone, self.fleets, self.keys, self.made = {}, [], {}, {}, []
        self.device_keys = {}
        self.codes, self.invited_keys = {}, {}
        self.tokens, self.hooks = [], []
        self.n = 0
        for _ in range(2):
            self.account_create(method="both")
        for a in self.accounts:
            self.key_create(a)
            self.root_upload(a)

    # --- devices ------------------------------------------------------------------------------------------------------------------------

    def device_comes(self, chance):
        a = chance.choice(list(self.accounts))
        what = chance.random()
        if what < 0.5 and self.keys.get(a):
            answer = self.s.gateway(chance.choice(self.keys[a])).enrol(chance.choice(IDS))
            if answer.status == 200:
                self.made.append(Device(answer.body))
        elif what < 0.6 and self.codes.get(a):
            device, code = chance.choice(list(self.codes[a].items()))
            own = self.invited_keys.setdefault((a, device), new_key()) if chance.random() < 0.7 else new_key()
            answer = post(self.s.gateway(), "simpleenroll", csr(own, device), a, **basic(device, code))
            if answer.status == 200:
                self.made.append(EstDevice(own, *certificates(answer)))
        elif what < 0.75 and self.made:
            self.s.gateway(chance.choice(self.made[-40:])).ecus()
        elif self.fleets.get(a):
            fleet, device = chance.choice(self.fleets[a]), chance.choice(IDS[:7])
            keys = self.device_keys.setdefault((a, device), [])
            if not keys or (len(keys) < 4 and chance.random() < 0.2):
                keys.append(new_key())
            self.s.gateway(fleet.device(device, key=chance.choice(keys))).ecus()

    # --- operators ----------------------------------------------------------------------------------------------------------------------

    def api(self, method, path, body=None):
        answer = self.s.api(method, "/api/v1" + path, body)
        assert answer.status < 500 or answer.code in OUTAGES, (method, path, body, answer)
        return answer

    def confirmed(self, method, path, body=None):
        answer = self.api(method, path, body)
        if answer.status == 409 and answer.code == "confirmation_required":
            if method == "DELETE":
                return self.api(method, f"{path}?confirm={answer.json['count']}")
            return self.api(method, path, {**(body or {}), "confirm": answer.json["count"]})
        return answer

    def any_account(self):
        return self.chance.choice(list(self.accounts))

    def account_create(self, method=None):
        self.n += 1
        name = f"a{self.n}"
        if len(self.accounts) < 4 and self.api("POST", "/accounts", {"id": name, "kind": self.chance.choice(["test", "production"]),
                                                                     "method": method or self.chance.choice(["both", "shared", "device"])}).status == 201:
            self.accounts[name] = True

    def account_set(self):
        change = self.chance.choice([{"approval": True}, {"approval": False}, {"expected_only": True}, {"expected_only": False}, {"reprovision": "replace"}, {"reprovision": "ask"},
                                     {"reprovision": "never"}, {"device_key": "rsa2048"}, {"device_key": "p256"}, {"device_life": self.chance.choice(["1y", "20y", "30y", "60y"])},
                                     {"lost_answer_window": self.chance.choice([0, 3600])}, {"issue_ceiling": self.chance.randrange(500, 9000)},
                                     {"method": self.chance.choice(["both", "both", "both", "both", "device", "shared"])}])
        self.confirmed("PATCH", f"/accounts/{self.any_account()}", change)

    def account_delete(self):
        if len(self.accounts) > 2 and self.chance.random() < 0.15:
            name = self.any_account()
            if self.confirmed("DELETE", f"/accounts/{name}").status == 200:
                self.gone.append(name)
                del self.accounts[name]

    def key_create(self, a=None):
        a = a or self.any_account()
        body = self.chance.choice([{}, {"max_devices": 4}, {"per_hour": 5}, {"id_pattern": "*"}, {"sources": ["127.0.0.0/8"], "build": "b\n1"}, {"name": f"k{self.n}"}])
        answer = self.api("POST", f"/accounts/{a}/keys", body)
        if answer.status == 201:
            self.n += 1
            path = self.s.dir.parent / f"key-{self.n}.zip"
            path.write_bytes(answer.body)
            key = Registration(path)
            key.id = answer.headers["X-Muster-Key"]
            self.keys.setdefault(a, []).append(key)

    def any_key(self):
        a = self.any_account()
        return a, self.chance.choice(self.keys[a]).id if self.keys.get(a) else "none"

    def key_set(self):
        a, key = self.any_key()
        body = self.chance.choice([{"name": self.chance.choice(["n1", "n2", "n3"])}, {"max_devices": self.chance.choice([0, 30])}, {"per_hour": 0}, {"id_pattern": "[a-zG]*"}, {"id_pattern": ""},
                                   {"expires": self.chance.choice(["10d", "300d"])}, {"build": "x"}, {"sources": []}])
        self.api("PATCH", f"/accounts/{a}/keys/{key}", body)

    def key_blacklist(self):
        if self.chance.random() < 0.4:
            a, key = self.any_key()
            self.api("POST", f"/accounts/{a}/keys/{key}/blacklist")
            self.key_create(a)

    def key_devices(self):
        a, key = self.any_key()
        self.confirmed("POST", f"/accounts/{a}/keys/{key}/devices", {"action": self.chance.choice(["quarantine", "quarantine", "revoke"]), **self.chance.choice([{}, {"since": "1h"}])})

    def root_upload(self, a=None):
        a = a or self.any_account()
        if len(self.fleets.get(a, ())) >= 8:
            return
        fleet, again = Fleet(f"Root {self.n}"), self.chance.random() < 0.3
        proving = fleet.intermediate(f"Line {self.n}") if self.chance.random() < 0.3 else fleet
        self.n += 1
        for _ in range(1 + again):
            answer = self.api("POST", f"/accounts/{a}/roots", {"certificate": fleet.root_pem().decode(), "key_rule": self.chance.choice(["refuse", "ask", "ask", "announced"])})
            if answer.status != 201:
                return
        if self.chance.random() < 0.85:
            chain = [] if proving is fleet else [proving.cert]
            self.api("POST", f"/accounts/{a}/roots/{answer.json['id']}/proof", {"certificate": proving.proof_pem(answer.json["challenge"], chain).decode()})
        self.fleets.setdefault(a, []).append(proving)

    def root_change(self):
        a = self.any_account()
        roots = self.api("GET", f"/accounts/{a}/roots").json["items"]
        if roots:
            path = f"/accounts/{a}/roots/{self.chance.choice(roots)['id']}"
            verb = self.chance.choice(["disable", "enable", "enable", "set", "set", "set", "revoke" if self.chance.random() < 0.2 else "enable"])
            if verb == "set":
                self.api("PATCH", path, self.chance.choice([{"state": "known-only"}, {"state": "active"}, {"key_rule": "ask"}, {"key_rule": "announced"}, {"key_rule": "refuse"}, {"id_rule": "cn"}]))
            else:
                self.confirmed("POST", f"{path}/{verb}", {})

    def device_change(self):
        a, device = self.any_account(), self.chance.choice(IDS)
        devices = self.api("GET", f"/accounts/{a}/devices").json["items"]
        if not devices:
            return
        path = f"/accounts/{a}/devices/{self.chance.choice([d['id'] for d in devices])}"
        verb = self.chance.choice(["approve", "approve", "refuse", "revoke", "quarantine", "release", "release", "release", "release", "delete"])
        if verb == "delete":
            self.api("DELETE", path)
        else:
            self.api("POST", f"{path}/{verb}", self.chance.choice([{}, {"for_reprovision": True}, {"same_key": True}]) if verb == "release" else {})

    def accept_keys(self):
        """Of a device, one, or all that were offered."""
        a = self.any_account()
        for d in self.api("GET", f"/accounts/{a}/devices").json["items"]:
            offered = self.api("GET", f"/accounts/{a}/devices/{d['id']}").json.get("offered_keys") or []
            for offer in offered[:self.chance.choice([1, 9])]:
                self.api("POST", f"/accounts/{a}/devices/{d['id']}/accept-key", {"fingerprint": offer["fingerprint"]})

    def announce(self):
        a = self.any_account()
        keys = [k for (account, _), ks in self.device_keys.items() if account == a for k in ks]
        items = [{"device_id": self.chance.choice(IDS), **({"fingerprint": spki_hash(self.chance.choice(keys))} if keys and self.chance.random() < 0.5 else {})} for _ in range(self.chance.randrange(1, 5))]
        self.api("POST", f"/accounts/{a}/expected", {"items": items})

    def unannounce(self):
        self.api("DELETE", f"/accounts/{self.any_account()}/expected/{urllib.parse.quote(self.chance.choice(IDS), safe='')}")

    def invite(self):
        a, device = self.any_account(), self.chance.choice(IDS[:7])
        answer = self.api("POST", f"/accounts/{a}/invitations", {"device_id": device, **self.chance.choice([{}, {}, {"expires": "1s"}])})
        if answer.status == 201:
            self.codes.setdefault(a, {})[device] = answer.json["code"]

    def uninvite(self):
        self.api("DELETE", f"/accounts/{self.any_account()}/invitations/{urllib.parse.quote(self.chance.choice(IDS[:7]), safe='')}")

    def token(self):
        answer = self.api("POST", "/tokens", {"name": "t", "role": "auditor", **self.chance.choice([{}, {"account": self.any_account()}])})
        if answer.status == 201:
            self.tokens.append(answer.json["id"])
        if self.tokens and self.chance.random() < 0.5:
            self.api("DELETE", f"/tokens/{self.tokens.pop()}")

    def webhook(self):
        answer = self.api("POST", "/webhooks", {"url": "https://127.0.0.1:1/", **self.chance.choice([{}, {"account": self.any_account()}])})
        if answer.status == 201:
            self.hooks.append(answer.json["id"])
        if self.hooks and self.chance.random() < 0.5:
            self.confirmed("DELETE", f"/webhooks/{self.hooks.pop()}")

    def explain(self):
        a = self.any_account()
        if self.fleets.get(a):
            fleet = self.chance.choice(self.fleets[a])
            pem = fleet.device("explained").cert_file.read_text(encoding="utf-8")
            self.api("POST", f"/accounts/{a}/explain", {"chain": pem})

    # --- what happens to the server ------------------------------------------------------------------------------------------------------

    def kill(self):
        which = self.chance.choice(["vault", "control", "gateway", "whole", "whole"])
        if which == "whole":
            self.s.process.send_signal(signal.SIGKILL)
            self.s.process.wait(30)
            time.sleep(0.3)
            self.s.start()
            return
        os.kill(self.s.child(which), signal.SIGKILL)
        self.come_back()

    def come_back(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                if self.s.api("GET", "/readyz").status == 200 and self.s.api("GET", "/api/v1/status").status == 200:
                    return
            except LOST:
                pass
            time.sleep(0.1)
        raise AssertionError("it did not come back")

    def kill_in_the_middle(self):
        """Of a change of an account: between control.db, the vault and the registry."""
        def change():
            try:
                self.chance.choice([self.account_create, self.account_set, self.account_set, self.account_delete])()
            except LOST:
                pass
        t = threading.Thread(target=change)
        t.start()
        time.sleep(self.chance.random() * 0.03)
        which = self.chance.choice(["vault", "control", "whole"])
        if which == "whole":
            self.s.process.send_signal(signal.SIGKILL)
            self.s.process.wait(30)
        else:
            os.kill(self.s.child(which), signal.SIGKILL)
        t.join(30)
        if which == "whole":
            time.sleep(0.3)
            self.s.start()
        self.come_back()
        self.accounts = {a["id"]: True for a in self.api("GET", "/accounts").json["items"]}

    def reload(self):
        self.s.process.send_signal(signal.SIGHUP)

    def restart(self):
        assert self.s.stop() == 0
        self.s.start()

    def restored(self):
        """Put back from a copy that was taken while it was stopped: what happened since has not happened."""
        assert self.s.stop() == 0
        kept = self.s.dir.parent / "kept"
        if kept.exists() and self.chance.random() < 0.5:
            shutil.rmtree(self.s.dir)
            shutil.copytree(kept, self.s.dir)
        else:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(self.s.dir, kept)
        self.s.start()
        self.accounts, self.gone = {a["id"]: True for a in self.api("GET", "/accounts").json["items"]}, []

    def clock_accepted(self):
        assert self.s.musterd("clock", "accept").returncode == 0

    # --- the record ----------------------------------------------------------------------------------------------------------------------

    def is_whole(self):
        for path in ["/audit/verify", *[f"/accounts/{a}/audit/verify" for a in [*self.accounts, *self.gone]]]:
            answer = self.api("POST", path, {})
            if answer.code in OUTAGES:
                self.come_back()
                answer = self.api("POST", path, {})
            assert answer.status == 200 and answer.json["ok"] is True, (path, answer.body, self.said[-60:])

    OFTEN = ["account_set"] * 4 + ["key_create"] * 2 + ["key_set"] * 4 + ["key_devices"] * 2 + ["root_change"] * 5 + ["device_change"] * 16 + ["accept_keys"] * 5 + ["announce"] * 5 + ["unannounce"] * 2 + ["invite"] * 6 + ["uninvite"]
    SELDOM = ["account_create", "account_delete", "key_blacklist", "root_upload", "token", "webhook", "explain", "kill", "kill_in_the_middle", "reload", "restart", "restored", "clock_accepted"]

    def step(self):
        what = self.chance.choice(self.OFTEN + self.SELDOM)
        self.said.append(what)
        try:
            for _ in range(4):
                self.device_comes(self.chance)
            getattr(self, what)()
        except LOST:
            self.come_back()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_honest_history_is_whole(fresh, seed):
    s = fresh(start=False)
    s.start()
    play = Play(s, seed)
    traffic = [Traffic(play, seed * 10 + i) for i in range(2)]
    for t in traffic:
        t.start()
    try:
        for i in range(STEPS):
            play.step()
            if i % EVERY == EVERY - 1:
                play.is_whole()
    finally:
        for t in traffic:
            t.go_on = False
        for t in traffic:
            t.join(60)
    assert not any(t.wrong for t in traffic), [t.wrong for t in traffic]
    play.come_back()
    play.is_whole()


# --- what once looked like a forgery, and what only a long verification meets ------------------------------------------------------------------


def whole(s, a="a"):
    said = s.api("POST", f"/api/v1/accounts/{a}/audit/verify", {}).json
    assert said["ok"] is True, said


def offered(s, fleet, device, *keys):
    for key in keys:
        s.gateway(fleet.device(device, key=key)).ecus()
        s.api("POST", f"/api/v1/accounts/a/devices/{device}/accept-key", {"fingerprint": spki_hash(key)})


def test_several_keys_may_be_accepted(fresh):
    """Whichever comes; and one that stays accepted while an announced key comes."""
    s = fresh()
    s.account("a")
    fleet = s.root("a", None, "--key-rule", "ask")
    first, second, third, announced = (new_key() for _ in range(4))
    for device in ("x", "y"):
        assert s.gateway(fleet.device(device)).ecus().status == 201
    offered(s, fleet, "x", first, second, third, second)
    whole(s)
    for key in (first, third):
        assert s.gateway(fleet.device("x", key=key)).ecus().status == 200  # its ECUs are known
        whole(s)
    y = new_key()
    offered(s, fleet, "y", y)
    s.muster("root", "set", fleet.root["id"], "--key-rule", "announced")
    s.api("POST", "/api/v1/accounts/a/expected", {"items": [{"device_id": "y", "fingerprint": spki_hash(announced)}]})
    assert s.gateway(fleet.device("y", key=announced)).ecus().status == 200
    whole(s)


def test_a_device_that_may_come_again_may_be_refused(fresh):
    s = fresh()
    s.account("a", "test", "shared", "--approval", "yes")
    key = s.key("a")
    assert s.gateway(key).enrol("d").status == 200
    s.muster("device", "release", "d", "--account", "a", "--for-reprovision")
    s.muster("device", "refuse", "d", "--account", "a")
    whole(s)


"""CA keys in a token: made there, used there, never outside; and a token that goes away, is slow or lies stops its own accounts alone."""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest
from cryptography import x509

import test_backup
import test_ocsp
from client import Device
from conftest import BUILD, MUSTER, MUSTERD, refused, soon
from enrolment import ask
from hsm import MODULE, PIN, Token


@pytest.fixture
def token(tmp_path): return Token(tmp_path / "hsm")


@pytest.fixture
def hsm(fresh, token):
    """A server with the token, an account in it, and one whose keys are sealed."""
    s = fresh(start=False, config=token.config())
    s.env = token.env
    s.start(env=token.env)
    s.account("inside", "test", "both", "--backend", "pkcs11")
    s.account("outside", "test", "both")
    s.inside, s.outside = s.key("inside"), s.key("outside")
    return s


def enrol(s, key, device_id): return s.gateway(key).enrol(device_id)


def works(s, key, device_id):
    device = Device(enrol(s, key, device_id).body)
    assert ask(s, device) is None
    return device


def status(s):
    done = s.musterd("vault", "status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_keys_are_made_in_the_token_and_stay_there(hsm, token, tmp_path):
    s = hsm
    works(s, s.inside, "first")
    works(s, s.outside, "first")
    assert s.muster("account", "show", "inside")["settings"]["backend"] == "pkcs11"
    assert s.muster("account", "show", "outside")["settings"]["backend"] == "sealed"
    inside = token.keys()
    assert inside.count("Private Key Object") == 3  # fleet root, issuing CA, provisioning CA
    assert inside.count("never extractable") == 3 and inside.count("sensitive") >= 3
    counted = status(s)
    assert counted["keys"]["in_token"] == 3 and counted["keys"]["fleet_root"] == 2 and counted["token"] == "answers"
    # What the vault has on the disk is a name: no export, and nothing of the token in its records.
    done = s.musterd("vault", "export", "--account", "inside", "-o", tmp_path / "key.pem", input="a passphrase\n")
    assert done.returncode == 1 and "cannot leave it" in done.stderr
    for text in [s.log_text(), *(open(f"/proc/{s.child(p)}/cmdline", encoding="utf-8").read() for p in ("vault", "token", "control", "gateway"))]:
        assert PIN not in text


def test_everything_that_is_signed_is_signed_by_it(hsm):
    """Provisioning keys, devices, a rotation there and back again, and what a restart finds."""
    s = hsm
    device = works(s, s.inside, "revoked")
    s.muster("device", "revoke", "revoked", "--account", "inside", "--yes")
    root = s.muster("root", "list", "--account", "inside")[0]["id"]
    s.muster("account", "set", "inside", "--backend", "sealed")
    s.muster("root", "rotate", root)
    assert status(s)["keys"]["in_token"] == 2, "fleet root and issuing CA; the provisioning CA has moved along"
    works(s, s.inside, "sealed")
    s.muster("account", "set", "inside", "--backend", "pkcs11")
    s.muster("root", "rotate", next(r["id"] for r in s.muster("root", "list", "--account", "inside") if r["state"] == "active"))
    assert status(s)["keys"]["in_token"] == 5
    works(s, s.inside, "back")
    s.muster("account", "set", "outside", "--backend", "pkcs11")
    s.muster("root", "rotate", s.muster("root", "list", "--account", "outside")[0]["id"])
    works(s, s.outside, "moved")
    s.stop()
    s.start(env=s.env)
    works(s, s.inside, "again")
    works(s, s.outside, "again")
    assert s.muster("audit", "verify", "--account", "inside")["ok"] is True
    assert ask(s, device) is not None


def test_revocation_lists_and_ocsp_answers(fresh, token):
    s = test_ocsp.with_listener(lambda config: fresh(start=False, config=config), *token.config())
    s.start(env=token.env)
    f = test_ocsp.Fleet_(s, "--backend", "pkcs11")
    good, bad = f.used("good"), f.used("bad")
    f.device("revoke", "bad")

    def listed():
        lists = {c["kind"]: c for c in s.muster("crl", "list", "--account", f.name)}
        return {kind: (c["entries"], x509.load_der_x509_crl(urllib.request.urlopen(c["url"], timeout=5).read())) for kind, c in lists.items()}

    soon(True, lambda: {kind: n for kind, (n, _) in listed().items()} == {"fleet-root": 0, "issuing-ca": 1}, 15)
    lists = listed()
    assert lists["fleet-root"][1].is_signature_valid(f.root.public_key()) and lists["issuing-ca"][1].is_signature_valid(f.issuing.public_key())
    assert lists["issuing-ca"][1].get_revoked_certificate_by_serial_number(bad.cert.serial_number)
    for device, word in ((good, ": good"), (bad, ": revoked")):
        done = test_ocsp.openssl(f, device.cert)
        assert "Response verify OK" in done.stderr and word in done.stdout, done.stdout + done.stderr


def test_a_list_that_cannot_be_made_anew_is_exported_with_a_word(hsm, token):
    s = hsm
    export = lambda *of: subprocess.run([MUSTER, "--data", s.dir, "crl", "export", *of, "--account", "inside"], capture_output=True, check=True, timeout=60)
    works(s, s.inside, "goes")
    before = export()
    assert before.stdout.startswith(b"-----BEGIN X509 CRL") and not before.stderr
    token.be("away")
    s.muster("device", "revoke", "goes", "--account", "inside", "--yes")
    done = export()
    assert done.stdout == before.stdout and b"warning: the list of CN=" in done.stderr and b"lacks what has changed" in done.stderr and b"security module" in done.stderr, done.stderr
    lists = s.muster("crl", "list", "--account", "inside")
    lacks = [c for c in lists if c["failing"]]
    assert lacks and all(c["behind"] for c in lists)
    assert b"lacks what has changed" in export(lacks[0]["id"]).stderr
    token.no_more("away")
    soon((True, b""), lambda: (lambda done: (done.stdout != before.stdout, done.stderr))(export()), 20)


def test_a_token_that_goes_away_stops_its_accounts_alone(hsm, token):
    s = hsm
    known = works(s, s.inside, "known")
    token.be("away")
    answer = enrol(s, s.inside, "waits")
    assert (answer.status, answer.code) == (503, "token_unavailable") and int(answer.headers["Retry-After"]) > 0
    assert "pkcs11_token" not in answer.json["description"], "that is the operators' to know"
    assert "pkcs11_token" in refused("token_unavailable", s.muster, "account", "create", "another", "--kind", "test", "--method", "both", "--backend", "pkcs11").text
    works(s, s.outside, "goes-on")
    assert ask(s, known) is None
    assert status(s)["token"] == "does not answer"
    token.no_more("away")
    soon(200, lambda: enrol(s, s.inside, "waits").status, 5)
    assert status(s)["token"] == "answers"
    assert s.muster("account", "create", "another", "--kind", "test", "--method", "both", "--backend", "pkcs11")["id"] == "another"
    assert s.muster("audit", "verify", "--account", "inside")["ok"] is True


def told_of(s):
    """What operators and their monitoring see of the token."""
    up = re.search(rb"^muster_token_up (\d)$", s.api("GET", "/metrics").body, re.M)
    return [n["level"] for n in s.muster("status")["attention"] if n["what"] == "token_away"], up and int(up.group(1))


def test_a_token_that_is_away_is_told_before_it_is_needed(hsm, token, fresh):
    """Nobody asks for anything of it meanwhile."""
    s = hsm
    soon(([], 1), lambda: told_of(s), 5)
    time.sleep(6)  # the first revocation lists are made by then, so that nothing but the vault's own look can find out
    token.be("away")
    soon((["critical"], 0), lambda: told_of(s), 25)
    assert s.muster("status")["ok"] is False
    token.no_more("away")
    soon(([], 1), lambda: told_of(s), 25)
    assert told_of(fresh()) == ([], None), "where none is configured nobody is told of one"


def test_a_module_that_may_not_read_its_configuration_is_told_where_to_name_it(fresh, token):
    """The first thing that goes wrong: SOFTHSM2_CONF names a file that pkcs11_files does not."""
    config = [line.replace(f"pkcs11_files = {token.dir}", f"pkcs11_files = {token.dir}/tokens").replace(f"{BUILD}/tests/moody.so", str(MODULE)) for line in token.config()]
    s = fresh(start=False, config=config)
    s.start(env=token.env)
    said = refused("token_unavailable", s.muster, "account", "create", "inside", "--kind", "test", "--method", "both", "--backend", "pkcs11").text
    assert "CKR_GENERAL_ERROR" in said and "pkcs11_files" in said and "pkcs11_files" in s.log_text()
    s.stop()
    with open(s.dir / "musterd.conf", encoding="utf-8") as f:
        text = f.read()
    with open(s.dir / "musterd.conf", "w", encoding="utf-8") as f:
        f.write(text.replace(f"pkcs11_files = {token.dir}/tokens", f"pkcs11_files = {token.dir}/tokens {token.dir}/softhsm2.conf"))
    s.start(env=token.env)
    s.account("inside", "test", "both", "--backend", "pkcs11")
    works(s, s.key("inside"), "first")


def test_taken_away_in_the_middle_nothing_is_lost(hsm, token):
    """Sixteen devices enrol while the token comes and goes: each has its certificate in the end, and the log is whole."""
    s = hsm

    def until_it_is_in(i):
        end = time.monotonic() + 60
        while (answer := enrol(s, s.inside, f"device-{i}")).status != 200 and time.monotonic() < end:
            assert (answer.status, answer.code) in ((503, "token_unavailable"), (503, "busy"), (429, "enrolment_line_full")), (answer.status, answer.code)
            time.sleep(0.2)
        return answer.status

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        token.be("slow", 20)
        fleet = [pool.submit(until_it_is_in, i) for i in range(48)]
        for _ in range(4):
            time.sleep(0.3)
            token.be("away")
            time.sleep(0.3)
            token.no_more("away")
        assert [f.result() for f in fleet] == [200] * 48
    assert len(s.muster("device", "list", "--account", "inside")) == 48
    assert s.muster("audit", "verify", "--account", "inside")["ok"] is True


@pytest.mark.alone
def test_a_slow_token_holds_nobody_else_up(hsm, token):
    s = hsm
    token.be("slow", 4000)
    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        slow = [pool.submit(enrol, s, s.inside, f"slow-{i}") for i in range(70)]
        time.sleep(0.5)
        for i in range(20):
            began = time.monotonic()
            works(s, s.outside, f"quick-{i}")
            assert time.monotonic() - began < 1.5
        assert status(s)["answers"]
        answers = [f.result() for f in slow]
    assert {a.status for a in answers} <= {200, 503, 429} and sum(a.status == 200 for a in answers) >= 1
    assert {a.code for a in answers if a.status == 503} <= {"token_unavailable", "busy"}
    token.no_more("slow")
    soon(200, lambda: enrol(s, s.inside, "behind").status, 20)


def test_a_call_that_does_not_come_back(hsm, token):
    """The vault gives up on it; and the process is another one in the end."""
    s = hsm
    token.be("hangs")
    began = time.monotonic()
    answer = enrol(s, s.inside, "hangs")
    assert (answer.status, answer.code) == (503, "token_unavailable") and time.monotonic() - began < 10
    works(s, s.outside, "goes-on")
    began = time.monotonic()
    assert enrol(s, s.inside, "hangs").code == "token_unavailable" and time.monotonic() - began < 2  # at once now
    first = s.child("token")
    os.kill(first, signal.SIGKILL)
    token.no_more("hangs")
    soon(200, lambda: enrol(s, s.inside, "hangs").status, 20)
    assert s.child("token") != first


def test_a_signature_that_is_none_leaves_nothing(hsm, token):
    s = hsm
    token.be("lies")
    answer = enrol(s, s.inside, "lied-to")
    assert (answer.status, answer.code) == (503, "token_unavailable")
    token.no_more("lies")
    works(s, s.inside, "lied-to")


def test_a_wrong_pin_is_tried_once(hsm, token):
    s = hsm
    token.set_pin("wrong-pin")
    before = token.logins()
    os.kill(s.process.pid, signal.SIGHUP)
    soon(True, lambda: token.logins() == before + 1, 10)
    for i in range(5):
        assert enrol(s, s.inside, f"wrong-{i}").code == "token_unavailable"
        time.sleep(0.4)
    assert token.logins() == before + 1, "a token locks itself after a few"
    works(s, s.outside, "goes-on")
    token.set_pin(PIN)
    os.kill(s.process.pid, signal.SIGHUP)
    soon(200, lambda: enrol(s, s.inside, "right").status, 20)
    assert "wrong-pin" not in s.log_text() and PIN not in s.log_text()


def test_killed_at_any_instant(hsm, token):
    s = hsm
    token.be("slow", 50)
    for i, victim in enumerate(["token", "vault", "token", "control", "vault"]):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            fleet = [pool.submit(lambda j=j: enrol(s, s.inside, f"kill-{i}-{j}").status) for j in range(8)]
            time.sleep(0.12)
            os.kill(s.child(victim), signal.SIGKILL)
            assert {f.result() for f in fleet} <= {200, 503, 429}
        soon(200, lambda: enrol(s, s.inside, f"kill-{i}-0").status, 20)
    soon(True, lambda: s.muster("audit", "verify", "--account", "inside")["ok"], 20)


def test_a_token_by_its_uri_and_settings_that_are_none(fresh, token):
    s = fresh(start=False, config=token.config("pkcs11:token=fleet%20keys"))
    s.start(env=token.env)
    s.account("inside", "test", "both", "--backend", "pkcs11")
    works(s, s.key("inside"), "first")
    s.stop()
    conf = s.dir / "musterd.conf"
    good = conf.read_text(encoding="utf-8")
    for line in ["pkcs11_token = pkcs11:token=x?pin-value=1234", "pkcs11_token = " + "x" * 33, "pkcs11_module = relative.so"]:
        name = line.split(" ", 1)[0]
        conf.write_text("\n".join(line if old.startswith(name + " ") else old for old in good.splitlines()) + "\n", encoding="utf-8")
        done = s.musterd("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        assert done.returncode == 2, line
    # A server whose token is not there serves all the others.
    conf.write_text(good.replace("fleet%20keys", "nowhere"), encoding="utf-8")
    s.start(env=token.env)
    s.account("outside")
    works(s, s.key("outside"), "first")
    assert status(s)["token"] == "does not answer"
    s.stop()
    # And one without the module says what its account lacks.
    conf.write_text("\n".join(line for line in good.splitlines() if not line.startswith("pkcs11_")) + "\n", encoding="utf-8")
    s.start()
    s.muster("account", "set", "inside", "--approval", "no")
    refused("token_unavailable", s.muster, "key", "create", "--account", "inside", "-o", s.dir / "key.zip")
    refused("invalid_request", s.muster, "account", "create", "more", "--kind", "test", "--method", "both", "--backend", "pkcs11")


def test_its_process_is_confined_and_comes_back_alone(hsm):
    s = hsm
    pid = s.child("token")
    fields = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines() if ":\t" in line)
    assert fields["Seccomp"].strip() == "2" and fields["NoNewPrivs"].strip() == "1"
    if os.geteuid():
        with pytest.raises(PermissionError):
            os.listdir(f"/proc/{pid}/fd")
    others = {name: s.child(name) for name in ("vault", "control", "gateway", "courier")}
    shown = {p["process"]: p["confined"] for p in s.muster("status")["sandbox"]["processes"]}
    assert sorted(shown) == sorted([*others, "token"]) and shown["token"]
    os.kill(pid, signal.SIGKILL)
    soon(200, lambda: enrol(s, s.inside, "behind").status, 20)
    assert s.child("token") != pid and {name: s.child(name) for name in others} == others
    assert s.stop() == 0


def test_a_backup_says_what_is_not_in_it_and_a_restored_server_looks(hsm, token, tmp_path):
    s = hsm
    works(s, s.inside, "first")
    (tmp_path / "words").write_text("a passphrase that is long enough\n", encoding="utf-8")
    (tmp_path / "words").chmod(0o600)
    done = s.musterd("backup", "-o", tmp_path / "backup", "--passphrase-file", tmp_path / "words", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["keys_in_token"] == 3 and "3 private keys are in the security module and not in the backup" in done.stderr
    s.stop()
    for name, keep in (("beside-its-token", True), ("beside-another", False)):
        if not keep:
            shutil.rmtree(token.dir / "tokens")
            token.make()
        done = subprocess.run([MUSTERD, "restore", tmp_path / "backup", "--data", tmp_path / name, "--passphrase-file", tmp_path / "words"], capture_output=True, text=True,
                              timeout=120, check=False)
        assert done.returncode == 0 and "3 private keys are in a security module" in done.stderr, done.stderr
        restored = test_backup.Restored.__new__(test_backup.Restored)
        restored.dir, restored.process, restored.hosts, restored.ports = tmp_path / name, None, set(), s.ports
        restored.log = open(tmp_path / f"{name}.log", "a", encoding="utf-8")
        restored.start(env=token.env)
        soon(True, lambda: f"token_keys_looked_for keys=3 missing={0 if keep else 3}" in restored.log_text(), 10)
        assert ("token_key_missing" in restored.log_text()) == (not keep)
        restored.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as other users")
def test_a_module_that_connects_needs_a_user_of_its_own(fresh, token):
    s = fresh(start=False, config=[*token.config(), "pkcs11_network = yes"])
    done = s.musterd("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert done.returncode == 2 and "token_user" in done.stderr
    with open(s.dir / "musterd.conf", "a", encoding="utf-8") as f:
        f.write("vault_user = daemon\ncontrol_user = bin\ngateway_user = games\n")
    done = s.musterd("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert done.returncode == 2 and "token_user other than the vault's" in done.stderr

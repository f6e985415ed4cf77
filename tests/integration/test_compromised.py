"""A gateway whose code is an attacker's (tests/compromised): what it gets out of the vault, the supervisor, control, files, memory, processes
and sockets.  The rest of the server has to live with it."""
import datetime
import hashlib
import os
import re
import socket
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

import conftest
from conftest import BUILD, LONG, soon
from ports import free_port
from test_ocsp import GOOD, REVOKED, UNKNOWN, Fleet_, question

COMPROMISED = BUILD / "tests" / "compromised" / "musterd-compromised"
CEILING = 40
YEAR = 365 * 86400
SYSTEM = ["/", "/etc", "/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/ssl/openssl.cnf", "/etc/ssl/certs", "/proc/1/environ", "/proc/self/mem", "/proc/self/maps",
          "/proc/self/fd", "/sys/kernel", "/dev/mem", "/dev/null", "/tmp", "/run", "/root", "/var/lib"]


STRICT = ["--life", "1d", "--longest-life", "30d", "--key-type", "p384", "--key-type", "p256", "--subject", "O=Acme {account},CN={device_id}", "--san", "uri:urn:acme:{device_id}",
          "--key-usage", "digital-signature", "--key-usage", "key-agreement"]


class Attack:
    """A server that was furnished, stopped, and started again with the attacker's gateway; `said` is what the attacker said."""

    def __init__(self, s, monkeypatch):
        self.s, self.monkeypatch = s, monkeypatch
        s.account("wide", "test", "both")
        s.account("narrow", "test", "shared", "--issue-ceiling", CEILING, "--device-life", 365 * 86400)
        s.account("strict", "test", "shared")
        s.muster("profile", "set", "--account", "strict", *STRICT)
        s.account("own", "test", "device")
        s.account("gone", "test", "shared")
        s.muster("account", "delete", "gone", "--yes")
        self.key = s.key("wide")
        self.fleet = s.root("wide")
        assert s.gateway(self.key).enrol("victim").status == 200

    def run(self, *steps, seconds=120, over=True, **given):
        s = self.s
        s.stop()
        self.monkeypatch.setattr(conftest, "MUSTERD", COMPROMISED)
        paths = [str(p) for p in (s.dir.parent, s.dir, *s.dir.rglob("*"), *s.dir.parent.glob("*.zip"))] + SYSTEM
        s.start(env={"MUSTER_ATTACK": " ".join(steps), "MUSTER_ATTACK_ACCOUNTS": "wide narrow strict own gone none", "MUSTER_ATTACK_NARROW": "narrow", "MUSTER_ATTACK_DIR": str(s.dir),
                     "MUSTER_ATTACK_PATHS": "\n".join(paths), "MUSTER_ATTACK_PORT": s.ports[1].rsplit(":", 1)[1], **given})
        self.monkeypatch.undo()
        socket.create_connection(("127.0.0.1", s.port)).close()  # the server has begun: the attack may
        self.processes = {k: s.child(k) for k in ("control", "courier")}
        if "forbidden" not in steps and "ceiling" not in steps:
            self.processes["vault"] = s.child("vault")
        end = time.monotonic() + seconds
        while over and "attack: over\n" not in s.log_text():
            assert time.monotonic() < end, s.log_text()[-3000:]
            time.sleep(0.05)
        return self

    @property
    def said(self):
        return [line.removeprefix("attack: ") for line in self.s.log_text().splitlines() if line.startswith("attack: ")]

    def lines(self, first):
        return [line.removeprefix(first + " ") for line in self.said if line.startswith(first + " ")]

    def reached(self):
        return sorted(line for line in self.lines("reach"))

    def certificates(self):
        return [(account, x509.load_der_x509_certificate(bytes.fromhex(der))) for account, der in (line.split() for line in self.lines("certificate"))]

    def lives(self):
        """The rest of the server is as it was (but for a vault that was ended), and does its work."""
        assert self.processes == {k: self.s.child(k) for k in self.processes}
        end = time.monotonic() + 30
        while (answer := self.s.gateway(self.key).enrol(f"after-{time.monotonic_ns()}")).status != 200:
            assert time.monotonic() < end, answer
            time.sleep(0.1)
        assert self.s.muster("account", "show", "wide")["id"] == "wide"
        assert self.s.muster("status")
        assert self.s.request("GET", "/readyz").status == 200


@pytest.fixture
def attack(fresh, monkeypatch):
    return Attack(fresh(), monkeypatch)


# --- the vault ---------------------------------------------------------------------------------------------------------------------------------

# What the gateway's channel is for: it may name devices as it likes, within the account's profile.
ISSUED = {"as_ever", "another_device", "a_host_name", "a_ca_by_name", "a_name_in_a_name", "128_bytes", "a_second", "for_ever", "a_century", "compressed", "p384", "p521", "ed25519",
          "narrowed", "narrowed_to_longer"}
REFUSED = {"129_bytes": "device_id_invalid", "no_id": "device_id_invalid", "nul_in_id": "device_id_invalid", "control_in_id": "device_id_invalid", "no_utf8": "device_id_invalid",
           "der_as_id": "device_id_invalid", "a_challenge": "device_id_reserved", "below_zero": "invalid_request", "far_below_zero": "invalid_request", "trailing_byte": "invalid_request",
           "extensions_behind_the_key": "invalid_request", "off_the_curve": "invalid_request", "at_infinity": "invalid_request", "long_form": "invalid_request", "cut_key": "invalid_request",
           "no_key": "invalid_request", "noise": "invalid_request", "rsa": "certificate_weak_key", "narrowed_wider": "certificate_weak_key",
           "narrowed_by_noise": "invalid_request"}
# Of the names that a provisioning key has no say in nothing is refused; nothing of them comes into the certificate either.
ISSUED.add("narrowed_to_names")


def within_the_profile(s, account, cert, life):
    """A device's certificate of that account, and nothing else that a certificate can be."""
    extensions = {e.oid: e for e in cert.extensions}
    assert set(extensions) == {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE, ExtensionOID.SUBJECT_KEY_IDENTIFIER,
                               ExtensionOID.AUTHORITY_KEY_IDENTIFIER} | (set(extensions) & {ExtensionOID.SUBJECT_ALTERNATIVE_NAME})
    assert extensions[ExtensionOID.BASIC_CONSTRAINTS].value.ca is False and extensions[ExtensionOID.BASIC_CONSTRAINTS].critical
    usage = extensions[ExtensionOID.KEY_USAGE].value
    assert usage.digital_signature and not (usage.key_cert_sign or usage.crl_sign or usage.key_encipherment or usage.key_agreement)
    assert list(extensions[ExtensionOID.EXTENDED_KEY_USAGE].value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    name = {oid: [a.value for a in cert.subject.get_attributes_for_oid(oid)] for oid in (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)}
    assert name == {NameOID.ORGANIZATION_NAME: [account], NameOID.ORGANIZATIONAL_UNIT_NAME: ["Devices"]}
    assert account in cert.issuer.rfc4514_string()
    key = cert.public_key()
    assert isinstance(key, ed25519.Ed25519PublicKey) or key.curve.name in ("secp256r1", "secp384r1", "secp521r1")
    assert (cert.not_valid_after - datetime.datetime.utcnow()).total_seconds() <= life + 300
    if ExtensionOID.SUBJECT_ALTERNATIVE_NAME in extensions:
        names = list(extensions[ExtensionOID.SUBJECT_ALTERNATIVE_NAME].value)
        assert len(names) == 1 and isinstance(names[0], x509.UniformResourceIdentifier) and names[0].value.startswith("urn:muster:device:")


def within_the_strict_profile(cert):
    """STRICT, to the letter."""
    usage = cert.extensions.get_extension_for_oid(ExtensionOID.KEY_USAGE).value
    assert usage.digital_signature and usage.key_agreement and not (usage.key_cert_sign or usage.crl_sign or usage.key_encipherment or usage.content_commitment)
    assert cert.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value.ca is False
    assert list(cert.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = [(a.oid, a.value) for a in cert.subject]
    assert subject[0] == (NameOID.ORGANIZATION_NAME, "Acme strict") and subject[1][0] == NameOID.COMMON_NAME and len(subject) == 2
    names = [n.value for n in cert.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value]
    assert [n for n in names if not n.startswith("urn:muster:device:")] == [names[-1]] and names[-1].startswith("urn:acme:")
    assert cert.public_key().curve.name in ("secp256r1", "secp384r1")
    assert (cert.not_valid_after - datetime.datetime.utcnow()).total_seconds() <= 30 * 86400 + 300


def test_the_vault_issues_nothing_outside_profile_and_ceiling(attack):
    hour = time.time() // 3600
    attack.run("vault", "ceiling")
    hours = 1 + int(time.time() // 3600 - hour)
    said = dict(line.rsplit(": ", 1) for line in attack.lines("vault"))
    for what in ISSUED:
        assert said[f"{what} wide"] == "issued", what
    for what, code in REFUSED.items():
        assert said[f"{what} wide"] == code, what
    strict = ISSUED - {"p521", "ed25519"}
    assert {what for what in ISSUED | set(REFUSED) if said[f"{what} strict"] == "issued"} == strict
    assert {said[f"{what} strict"] for what in ("p521", "ed25519", "rsa", "narrowed_wider")} == {"certificate_weak_key"}
    for account, code in (("own", "method_not_enabled"), ("gone", "not_found"), ("none", "not_found")):
        assert {said[f"{what} {account}"] for what in ISSUED | set(REFUSED)} == {code}
    assert said["arbitrary wide"] == "125 issued"
    certificates = attack.certificates()
    assert len(certificates) == 125 + 100 + 2 * len(ISSUED) + len(strict)
    assert len({c.serial_number for _, c in certificates}) == len(certificates)
    lives = {"wide": 20 * YEAR + 5 * 86400, "narrow": YEAR}
    for account, cert in certificates:
        if account == "strict":
            within_the_strict_profile(cert)
        else:
            within_the_profile(attack.s, account, cert, lives[account])
    before, after = map(int, re.search(r"narrow: (\d+) before, ended, and back, (\d+) after", "\n".join(attack.lines("ceiling"))).groups())
    assert before + after + len(ISSUED) <= CEILING * hours and (hours > 1 or before + len(ISSUED) == CEILING)
    attack.lives()


FEW = ["account_create", "key_issue", "line_issue", "export_answer", "crl_begin", "crl_sign", "ocsp_sign", "server_rotate", "oversized"]
ALL = ["hello", "account_create", "account_policy", "account_show", "account_delete", "issuing_renew", "key_issue", "server_issue", "server_ca", "audit_key", "heads_sign",
       "export_answer", "crl_begin", "crl_entries", "crl_sign", "ocsp_sign", "root_rotate", "server_rotate", "server_retire", "line_issue", "trailing", "cut", "id_zero", "noise", "oversized"]


def test_what_the_channel_does_not_carry_ends_the_vault_which_comes_back(attack):
    """Nothing is answered, least of all with a CA's certificate or key."""
    which = ALL if LONG else FEW
    accounts = attack.s.muster("account", "list")
    attack.run("forbidden", seconds=300, MUSTER_ATTACK_FORBIDDEN=" ".join(which))
    assert dict(line.split(": ", 1) for line in attack.lines("forbidden")) == dict.fromkeys(which, "ended, and back")
    assert attack.certificates() == []
    assert attack.s.muster("account", "list") == accounts
    assert attack.s.log_text().count("vault_ended") == len(which)
    attack.lives()


# --- OCSP, which control answers ------------------------------------------------------------------------------------------------------------


def test_no_ocsp_answer_says_what_the_registry_does_not(fresh, monkeypatch):
    """Who runs in the gateway asks what strangers can ask: of a revoked certificate, as whoever, in whatever account, and is told that it is revoked."""
    port = free_port()
    a = Attack(fresh(config=[f"crl_listen = 127.0.0.1:{port}"]), monkeypatch)
    s = a.s
    s.plain = port
    wide, narrow = Fleet_(s), Fleet_(s)
    good, bad, other = wide.used("good"), wide.used("bad"), narrow.used("other")
    wide.device("revoke", "bad")
    wide.device("quarantine", "good")
    wide.device("release", "good")
    never = x509.random_serial_number()

    def der(issuer, number): return question(issuer, number, hashes.SHA256()).hex()
    def of(device): return device.cert.serial_number

    questions = [(wide.name, der(wide.issuing, of(bad))), (wide.name, der(wide.issuing, of(good))), (wide.name, der(wide.issuing, never)), (narrow.name, der(wide.issuing, of(bad))),
                 (narrow.name, der(narrow.issuing, of(bad))), (narrow.name, der(narrow.issuing, of(other))), ("none", der(wide.issuing, of(bad))), ("-", der(wide.issuing, of(bad))),
                 (wide.name, der(wide.issuing, of(bad)) + "00"), (wide.name, "30")]
    a.run("ocsp", MUSTER_ATTACK_OCSP=" ".join(f"{account}:{hexed}" for account, hexed in questions))
    said = dict(line.split(": ", 1) for line in a.lines("ocsp"))

    def status(n):
        if said[str(n)].startswith("status"):
            return said[str(n)]
        return ocsp.load_der_ocsp_response(bytes.fromhex(said[str(n)])).certificate_status

    assert [status(n) for n in range(1, 11)] == [REVOKED, GOOD, UNKNOWN, "status 6", UNKNOWN, GOOD, "status 6", "status 6", "status 1", "status 1"]
    assert said["malformed"] == "ended" and "ocsp_question_malformed" in s.log_text()
    a.lives()


# --- the supervisor, and memory that is shared ------------------------------------------------------------------------------------------------


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_messages_to_the_supervisor_do_no_act(attack):
    attack.run("supervisor")
    sent, of = re.search(r"supervisor: (\d+) of (\d+) messages sent", "\n".join(attack.said)).groups()
    assert sent == of and int(of) > 3000
    attack.lives()
    assert open_files(attack.s.process.pid) < 60  # descriptors that came along are not kept
    assert attack.s.process.poll() is None


def test_a_malformed_message_to_the_supervisor_ends_the_gateway_alone(attack):
    attack.run("malformed", over=False)
    soon(True, lambda: "malformed: sent" in attack.said, 20)
    attack.lives()
    assert "malformed: sent" in attack.said and "malformed: still here" not in attack.said


def test_shared_memory_full_of_nonsense(attack):
    attack.run("shared")
    attack.lives()
    token = (attack.s.dir / "admin.token").read_text(encoding="utf-8").strip()
    answer = attack.s.request("GET", "/metrics", fields={"Authorization": f"Bearer {token}"})
    assert answer.status in (200, 404)
    device = attack.fleet.device("trusted")
    assert attack.s.gateway(device).get("/x").status == 404
    attack.s.muster("device", "revoke", "trusted", "--account", "wide", "--yes")
    assert attack.s.gateway(device).get("/x").code == "device_revoked"


# --- files, processes, sockets, memory ----------------------------------------------------------------------------------------------------------


def test_files(attack):
    """Exactly the registry, and to read the server's certificates and the lists that anybody may read."""
    soon(6, lambda: len(list((attack.s.dir / "crl").iterdir())), 10)  # those of the account that was deleted have gone
    tls = [f"{d}/{p.name}" for d in ("tls", "crl") for p in (attack.s.dir / d).iterdir()]
    attack.run("files")
    may = [f"{verb} {name}" for name in ("registry.db", "registry.db-wal", "registry.db-shm") for verb in ("read", "write", "read-write", "path")]
    may += [f"{verb} {name}" for name in ("server-ca.pem", *tls) for verb in ("read", "path")]
    may += [f"{verb} {d}" for verb in ("read", "list", "path") for d in ("tls", "crl")]
    assert attack.reached() == sorted(f"{verb} {attack.s.dir}/{name}" for verb, name in map(str.split, may))
    tried = int(re.search(r"files: (\d+) tried", "\n".join(attack.said)).group(1))
    assert tried > 300
    attack.lives()


def test_processes(attack):
    attack.run("processes")
    assert attack.reached() == []
    assert int(re.search(r"processes: (\d+) tried, 0 worked", "\n".join(attack.said)).group(1)) > 300
    attack.lives()


def test_sockets(attack):
    """No new one, and none of the old ones goes anywhere else: also not by sending instead of connecting."""
    attack.run("sockets")
    assert attack.reached() == []
    assert {"sockets sendto-connects: Operation not permitted", "sockets sendmsg-connects: Operation not permitted"} <= set(attack.said)
    assert int(re.search(r"sockets: (\d+) tried, 0 worked", "\n".join(attack.said)).group(1)) > 500


def test_what_was_inherited(attack):
    attack.run("descriptors")
    found = [line.split() for line in attack.lines("descriptor")]
    kinds = sorted(kind for fd, kind, _ in found if int(fd) > 2)
    loops = kinds.count("listener")
    assert loops >= 1 and kinds == sorted(["listener", "channel"] * loops + ["channel"])  # for each loop its listener and the vault, and the supervisor
    assert {kind for fd, kind, _ in found if int(fd) < 2} == {"device"}


def exported_scalar(s):
    """The private key of the account's fleet root, as an export gives it."""
    out, passphrase = s.dir.parent / "root.pem", s.dir.parent / "passphrase"
    passphrase.write_text("correct horse battery\n", encoding="utf-8")
    passphrase.chmod(0o600)
    assert s.musterd("vault", "export", "--account", "wide", "--passphrase-file", passphrase, "-o", out).returncode == 0
    pem = re.search(rb"-----BEGIN ENCRYPTED.*?END ENCRYPTED PRIVATE KEY-----\n", out.read_bytes(), re.S).group(0)
    return load_pem_private_key(pem, b"correct horse battery").private_numbers().private_value.to_bytes(32, "big")


def test_memory(attack):
    """No token, no CA's key and no master key, also not in what the process was forked with."""
    s = attack.s
    scalar, token = exported_scalar(s), (s.dir / "admin.token").read_text(encoding="utf-8").strip()
    gateway_key = (s.dir / "tls" / "default.pem").read_bytes()
    s.stop()
    with s.database("control.db") as db:
        seal = db.execute("SELECT value FROM secret WHERE name = 'audit'").fetchone()[0]
    needles = {"token": token.encode(), "seal": seal, "token_hash": hashlib.sha256(token.encode()).digest(), "root": scalar, "root_backwards": scalar[::-1], "master": (s.dir / "vault" / "master.key").read_bytes().strip()[:64],
               "master_bytes": bytes.fromhex((s.dir / "vault" / "master.key").read_text(encoding="utf-8").strip()), "dir": str(s.dir).encode(), "certificate": gateway_key[200:260]}
    attack.run("memory", MUSTER_ATTACK_NEEDLES=" ".join(f"{name}={bytes(b ^ 0x5a for b in what).hex()}" for name, what in needles.items()))
    found = {name: int(n) for name, n in (line.split(": ") for line in attack.lines("memory") if not line.endswith("searched")) if name in needles}
    assert found.pop("dir") > 0  # the search finds what is there
    found.pop("certificate")
    assert found == dict.fromkeys(found, 0) and len(found) == 7


def test_an_owner_s_deeds_stay_the_owner_s(attack):
    """After everything else: no token more, no account more, no export, and the server's own log is whole."""
    tokens = attack.s.muster("token", "list")
    attack.run("supervisor", "files", "processes", "shared", "vault", "sockets")
    assert [t["id"] for t in attack.s.muster("token", "list")] == [t["id"] for t in tokens]
    assert [a["id"] for a in attack.s.muster("account", "list")] == ["wide", "narrow", "strict", "own"]
    actions = {e["action"] for e in attack.s.muster("audit", "list")}
    assert not actions & {"root.export_key", "token.create.again"}
    assert attack.s.muster("audit", "verify")["ok"] is True


def test_the_attack_can_succeed(fresh, monkeypatch):
    """The same attacker in a gateway that is not confined."""
    a = Attack(fresh(config=["sandbox = off"]), monkeypatch)
    a.run("files", "processes", "sockets", MUSTER_ATTACK_DIR="/nonexistent")
    reached = a.reached()
    assert f"read {a.s.dir}/vault/master.key" in reached and f"write {a.s.dir}/control.db" in reached and "read /etc/passwd" in reached
    assert any(line.startswith("signal ") for line in reached) and any(line.startswith("socket ") for line in reached)
    assert any(line.startswith(("sendto-connects", "sendmsg-connects")) for line in reached)

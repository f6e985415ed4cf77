"""Another master key for the vault: while it serves and while it does not, from every kind of source to every other one, and cut off at any
instant: it opens with the old key or the new one, and no device notices."""
import json
import os
import random
import secrets
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from client import Device
from conftest import LONG, MUSTERD, soon
from enrolment import ask

ROUNDS = 60 if LONG else 8
SEED = int(os.environ.get("MUSTER_SEED", time.time_ns() % 1_000_000))
WORDS = "a passphrase of the vault"


def status(s):
    done = s.musterd("vault", "status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rekey(s, *options, words=None, ok=True):
    done = s.musterd("vault", "rekey", "--json", *options, input=words)
    assert not ok or done.returncode == 0, done.stderr
    return json.loads(done.stdout) if ok else done


def secret(path, text):
    path.write_text(text + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def enrol(s, key, device_id):
    device = Device(s.gateway(key).enrol(device_id).body)
    assert ask(s, device) is None
    return device


def server_log(s): return [(e["action"], e["detail"]) for e in s.muster("audit", "list") if e["action"].startswith("vault.rekey")]


def setting(s, name):
    lines = (s.dir / "musterd.conf").read_text(encoding="utf-8").splitlines()
    return [line.split("=", 1)[1].strip() for line in lines if line.split("=", 1)[0].strip() == name]


def key_file(s): return (s.dir / "vault" / "master.key").read_text(encoding="ascii")


class Enrolling(threading.Thread):
    """A fleet that comes in all the while: every answer is a certificate."""

    def __init__(self, s, key):
        super().__init__(daemon=True)
        self.s, self.key, self.over, self.answers = s, key, False, []

    def run(self):
        while not self.over:
            self.answers.append(self.s.gateway(self.key).enrol(f"fleet-{len(self.answers)}").status)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *why):
        self.over = True
        self.join(60)


def test_a_server_that_runs_gets_another_key_and_no_device_notices(server, fresh):
    s = fresh()
    s.account("acme")
    key = s.key("acme")
    known = enrol(s, key, "before")
    before, old = status(s), key_file(s)
    assert before["source"] == "file" and before["rekeyed"] is None and before["answers"] and before["backend"] == "sealed"
    assert before["keys"] == {"server_ca": 1, "audit": 1, "fleet_root": 1, "former_fleet_root": 0, "issuing_ca": 1, "former_issuing_ca": 0, "provisioning_ca": 1, "former_server_ca": 0, "in_token": 0}
    assert before["token"] == "none"
    with Enrolling(s, key) as fleet:
        said = rekey(s)
        soon(True, lambda: len(fleet.answers) > 3, 20)
    assert set(fleet.answers) == {200}
    after = status(s)
    assert said["source"] == said["from"] == "file" and after["rekeys"] == 1 and after["rekeyed"] == said["rekeyed"] and after["id"] == before["id"] == said["id"]
    assert after["keys"] == before["keys"] and after["version"] == before["version"] + 1
    assert key_file(s) != old and not (s.dir / "vault" / "master.key.next").exists()
    assert [a for a, _ in server_log(s)] == ["vault.rekey", "vault.rekeyed"]
    assert server_log(s)[1][1] == {"from": "file", "to": "file", "vault_version": after["version"]}
    os.kill(s.child("vault"), signal.SIGKILL)
    soon(True, lambda: s.gateway(key).enrol("behind").status == 200, 20)
    s.stop()
    (s.dir / "vault" / "master.key").write_text(old, encoding="ascii")
    done = s.musterd("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert done.returncode == 1 and "The master key is not this vault's" in s.log_text() + done.stderr


def test_a_server_that_does_not_run(fresh):
    s = fresh(start=False)
    old = key_file(s)
    assert status(s)["answers"] is False and status(s)["keys"] is None and status(s)["source"] == "file"
    assert rekey(s)["rekeys"] == 1 and key_file(s) != old
    assert rekey(s)["rekeys"] == 2
    s.start()
    assert status(s)["answers"] and status(s)["rekeys"] == 2


@pytest.mark.parametrize("running", [True, False])
def test_from_every_kind_of_source_to_every_other(fresh, tmp_path, running):
    s = fresh()
    s.account("acme")
    key = s.key("acme")
    known = enrol(s, key, "known")
    serving = {}

    def change(*options, words=None, then=None):
        if not running:
            s.stop()
        said = rekey(s, *options, words=words)
        serving["words"] = then
        if not running:
            start()
        return said

    def start():
        """With what musterd.conf says by now."""
        source = (setting(s, "master_key") or ["file"])[0]
        if source != "passphrase":
            s.start()
            return
        # serve reads the passphrase from the first line of stdin
        read, write = os.pipe()
        os.write(write, (serving["words"] + "\n").encode())
        os.close(write)
        stdin = os.dup(0)
        try:
            os.dup2(read, 0)
            s.start()
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)
            os.close(read)

    def old_words(): return "" if running or (setting(s, "master_key") or ["file"])[0] != "passphrase" else serving["words"] + "\n"

    def check(source):
        assert status(s)["source"] == source and status(s)["answers"]
        os.kill(s.child("vault"), signal.SIGKILL)  # the next one opens by what the supervisor knows
        device = f"{source}-{time.monotonic_ns()}"
        soon(200, lambda: s.gateway(key).enrol(device).status, 20)
        s.stop()
        start()
        soon(True, lambda: status(s)["answers"], 10)
        assert ask(s, known) is None
        soon(200, lambda: s.gateway(key).enrol(device + "-again").status, 20)

    said = change("--master-key", "passphrase", words=WORDS + "\n", then=WORDS)
    assert said["source"] == "passphrase" and said["key_file_removed"] is True
    assert setting(s, "master_key") == ["passphrase"]
    check("passphrase")
    change("--passphrase-file", secret(tmp_path / "second", WORDS + " 2"), words=old_words(), then=WORDS + " 2")
    check("passphrase")
    credential = secret(tmp_path / "credential", WORDS + " 3")
    change("--master-key", "credential", "--master-key-file", credential, words=old_words())
    assert setting(s, "master_key") == ["credential"] and setting(s, "master_key_file") == [str(credential)]
    check("credential")
    change("--master-key", "file", "--master-key-file", tmp_path / "a.key")
    assert setting(s, "master_key") == ["file"] and (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    check("file")
    assert change("--master-key-file", tmp_path / "b.key")["key_file_removed"] is False and (tmp_path / "a.key").exists(), "what lies elsewhere is the operator's"
    check("file")
    change()
    check("file")
    assert status(s)["rekeys"] == 6
    for line in s.log_text().splitlines() + [json.dumps(server_log(s))]:
        assert WORDS not in line and (tmp_path / "b.key").read_text(encoding="ascii").strip() not in line


@pytest.mark.parametrize("content", [b"one line and\nanother one\n", b"0123\n" + bytes(range(11, 32)), b"with no newline"])
def test_a_credential_counts_whole_however_it_is_named(fresh, tmp_path, content):
    s = fresh()
    credential = tmp_path / "credential"
    credential.write_bytes(content)
    credential.chmod(0o600)
    rekey(s, "--master-key", "credential", "--passphrase-file", credential, "--master-key-file", credential)
    s.stop()
    s.start()  # by the file itself
    assert status(s)["rekeys"] == 1
    done = rekey(s, "--passphrase-file", credential, ok=False)
    assert done.returncode == 0, done.stderr  # another salt makes another key of it
    s.stop()
    s.start()
    assert status(s)["rekeys"] == 2


def test_what_is_refused_changes_nothing(fresh, tmp_path):
    s = fresh()
    old, conf = key_file(s), (s.dir / "musterd.conf").read_bytes()
    (tmp_path / "open").write_text(WORDS, encoding="utf-8")
    (tmp_path / "open").chmod(0o644)
    for options, words in [(["--master-key", "passphrase"], "short\n"), (["--master-key", "passphrase"], ""), (["--master-key", "credential"], ""),
                           (["--master-key", "passphrase", "--passphrase-file", tmp_path / "open"], None), (["--master-key", "credential", "--master-key-file", tmp_path / "none"], None),
                           (["--master-key-file", tmp_path / "open"], None)]:
        done = rekey(s, *options, words=words, ok=False)
        assert done.returncode == 1, (options, done.stderr)
    assert rekey(s, "--master-key", "tpm", ok=False).returncode == 2
    assert rekey(s, "--master-key-file", "relative", ok=False).returncode == 2
    assert key_file(s) == old and (s.dir / "musterd.conf").read_bytes() == conf and status(s)["rekeys"] == 0 and not server_log(s)
    # from a source that is not the configured one a start says what is wanted
    rekey(s, "--master-key", "passphrase", words=WORDS + "\n")
    s.stop()
    (s.dir / "musterd.conf").write_bytes(conf)
    done = s.musterd("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert done.returncode == 1 and "master_key in musterd.conf has to be passphrase" in s.log_text() + done.stderr


@pytest.mark.parametrize("name", ["a ;b.key", "a.key ", "a.key\t", "a.key\nlisten = 127.0.0.1:1", "k" * 190 + ".key"])
def test_a_path_that_the_configuration_cannot_hold_is_refused(fresh, tmp_path, name):
    """It would be found out by the next start, which has no key then."""
    s = fresh()
    old, conf = key_file(s), (s.dir / "musterd.conf").read_bytes()
    done = rekey(s, "--master-key-file", tmp_path / name, ok=False)
    assert done.returncode == 2 and "--master-key-file" in done.stderr
    assert key_file(s) == old and (s.dir / "musterd.conf").read_bytes() == conf and status(s)["rekeys"] == 0 and not server_log(s)
    assert not list(tmp_path.glob("*.key*"))
    rekey(s, "--master-key-file", tmp_path / "k#x;y z.key")  # this one it can
    s.stop()
    s.start()
    assert status(s)["rekeys"] == 1


@pytest.mark.parametrize("name", ["a ;b.key", "a.key ", "a.key\t", "a.key\nlisten = 127.0.0.1:1"])
def test_init_takes_no_such_path_either(tmp_path, name):
    done = subprocess.run([MUSTERD, "init", "--data", tmp_path / "data", "--master-key-file", tmp_path / name], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--master-key-file" in done.stderr
    assert not (tmp_path / "data").exists() and not list(tmp_path.glob("*.key*"))
    good = tmp_path / "k#x;y z.key"
    subprocess.run([MUSTERD, "init", "--data", tmp_path / "data", "--master-key-file", good], check=True, capture_output=True, timeout=60)
    assert good.exists() and f"master_key_file = {good}" in (tmp_path / "data" / "musterd.conf").read_text(encoding="utf-8")


def test_a_configuration_that_is_a_link_stays_one(fresh, tmp_path):
    s = fresh()
    conf, real = s.dir / "musterd.conf", tmp_path / "elsewhere.conf"
    real.write_bytes(conf.read_bytes())
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12345, 12346)
    owner = (real.stat().st_uid, real.stat().st_gid, real.stat().st_mode)
    conf.unlink()
    conf.symlink_to(real)
    rekey(s, "--master-key-file", tmp_path / "next.key")
    assert conf.is_symlink() and f"master_key_file = {tmp_path}/next.key" in real.read_text(encoding="utf-8")
    assert (real.stat().st_uid, real.stat().st_gid, real.stat().st_mode) == owner
    s.stop()
    s.start()
    assert status(s)["rekeys"] == 1


def test_killed_at_any_instant_it_opens_all_the_same(fresh):
    """The command, the vault or all of it: no start needs anybody's help, and what was issued is there."""
    chance = random.Random(SEED)
    s = fresh()
    for i in range(12):
        s.account(f"a{i}")
    key = s.key("a3")
    known = enrol(s, key, "known")
    seen = set()
    for i in range(ROUNDS):
        running = chance.random() < 0.7
        if not running:
            s.stop()
        command = subprocess.Popen([MUSTERD, "vault", "rekey", "--data", s.dir, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(chance.uniform(0, 0.25))
        victim = chance.choice(["command", "vault", "server"]) if running else "command"
        if victim == "vault":
            os.kill(s.child("vault"), signal.SIGKILL)
        elif victim == "server":
            s.stop(signal.SIGKILL)
        else:
            command.kill()
        command.communicate(timeout=60)
        seen.add((victim, command.returncode == 0))
        if victim == "vault":
            soon(True, lambda: status(s)["answers"], 20)
            soon(200, lambda: s.gateway(key).enrol(f"round-{i}").status, 20)
        if s.process is None:
            s.start()
        soon(200, lambda: s.gateway(key).enrol(f"started-{i}").status, 20)
        s.stop()
        s.start()
        assert ask(s, known) is None, f"MUSTER_SEED={SEED}"
        rekey(s)
        assert not (s.dir / "vault" / "master.key.next").exists()
    assert len(seen) > 1, f"MUSTER_SEED={SEED}"


def leave_request(s):
    """What a rekey beside the key file leaves where it is ended before the vault has read it: the key file, and its request."""
    key = secrets.token_bytes(32)
    beside = secret(s.dir / "vault" / "master.key.next", key.hex())
    asked = struct.pack(">BB16sIQ32s", 2, 1, secrets.token_bytes(16), 3, 64 << 20, key)
    frame = struct.pack(">HH", 0, len(asked)) + asked
    command = socket.socket(socket.AF_UNIX)
    command.connect(str(s.dir / "vault.sock"))
    command.sendall(struct.pack(">I", len(frame)) + frame)
    return beside, command


@pytest.mark.parametrize("gone", [True, False])
def test_a_request_that_waits_still_costs_no_key(fresh, gone):
    """The vault stands still with the request of a command that holds the lock no more: the next command removes no key file before the vault has
    answered, and a request whose command is gone is not carried out."""
    s = fresh()
    s.account("acme")
    key = s.key("acme")
    vault, old = s.child("vault"), key_file(s)
    os.kill(vault, signal.SIGSTOP)
    try:
        beside, command = leave_request(s)
        new = beside.read_text(encoding="ascii")
        if gone:
            command.close()
        second = subprocess.Popen([MUSTERD, "vault", "rekey", "--data", s.dir, "--master-key", "passphrase"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        second.stdin.write("short\n")
        second.stdin.flush()
        time.sleep(1)
        assert second.poll() is None and beside.exists()
    finally:
        os.kill(vault, signal.SIGCONT)
    assert "passphrase" in second.communicate(timeout=60)[1] and second.returncode == 1
    command.close()
    assert status(s)["rekeys"] == (0 if gone else 1) and key_file(s) == (old if gone else new) and not beside.exists()
    s.stop()
    s.start()
    soon(200, lambda: s.gateway(key).enrol("behind").status, 20)


def test_a_change_that_failed_leaves_the_supervisor_the_key_in_force(fresh):
    s = fresh()
    s.account("acme")
    key = s.key("acme")
    rekey(s, "--master-key", "passphrase", words=WORDS + "\n")
    (s.dir / "vault" / "index.next").mkdir()  # the last step fails, when the supervisor has heard of the next key
    for i in range(3):
        assert rekey(s, words=f"{WORDS} {i}\n", ok=False).returncode == 1
    (s.dir / "vault" / "index.next").rmdir()
    assert status(s)["rekeys"] == 1
    os.kill(s.child("vault"), signal.SIGKILL)
    soon(200, lambda: s.gateway(key).enrol("behind").status, 20)
    rekey(s, words=WORDS + " at last\n")
    os.kill(s.child("vault"), signal.SIGKILL)
    soon(200, lambda: s.gateway(key).enrol("at-last").status, 20)


def test_a_backup_from_before_and_behind(fresh, tmp_path):
    s = fresh()
    s.account("acme")
    key = s.key("acme")
    words = secret(tmp_path / "words", WORDS)
    for name in ["before", "behind"]:
        done = s.musterd("backup", "-o", tmp_path / name, "--passphrase-file", words)
        assert done.returncode == 0, done.stderr
        rekey(s)
    ports = s.ports
    s.stop()
    for name in ["before", "behind"]:
        directory = tmp_path / f"restored-{name}"
        done = subprocess.run([MUSTERD, "restore", tmp_path / name, "--data", directory, "--passphrase-file", words], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        restored = type(s).__new__(type(s))
        restored.dir, restored.process, restored.hosts, restored.ports = directory, None, set(), ports
        restored.log = open(tmp_path / f"{name}.log", "a", encoding="utf-8")
        restored.start()
        assert status(restored)["answers"] and status(restored)["rekeys"] == (name == "behind")
        restored.stop()


def of_vault(file, words, directory):
    """What a backup says of its master key when it is put back, and the key file that came out of it."""
    done = subprocess.run([MUSTERD, "restore", file, "--data", directory, "--passphrase-file", words, "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["master_key"], sorted(p.name for p in (directory / "vault").glob("master.key*")), "master key was not in the backup" in done.stderr


@pytest.mark.parametrize("kind", ["passphrase", "credential", "file"])
def test_a_backup_says_whether_the_key_in_force_is_in_it(fresh, tmp_path, kind):
    """And not whether some key file lies in the vault: of another source's the key is elsewhere, and the operator is told to keep it."""
    s = fresh()
    s.account("acme")
    old, words, n = key_file(s), secret(tmp_path / "words", WORDS), iter(range(9))

    def backup(key, stale):
        file = tmp_path / f"backup-{next(n)}"
        done = s.musterd("backup", "-o", file, "--passphrase-file", words, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["master_key"] is key
        assert ("master key is not in the backup" in done.stderr) is not key and ("does not open the vault" in done.stderr) is stale
        assert [e["detail"]["master_key"] for e in s.muster("audit", "list") if e["action"] == "server.backup"][-1] is key
        assert of_vault(file, words, tmp_path / f"{file.name}-restored") == (key, ["master.key"] if key else [], not key)

    backup(True, False)
    options = {"passphrase": ["--passphrase-file", words], "credential": ["--master-key-file", words], "file": ["--master-key-file", tmp_path / "elsewhere.key"]}
    done = s.musterd("vault", "rekey", "--master-key", kind, *options[kind])
    assert done.returncode == 0 and f"{s.dir}/vault/master.key" in done.stdout and "wiped and removed" in done.stdout, done.stderr
    assert not list((s.dir / "vault").glob("master.key*"))
    backup(False, False)
    # Some other key, as a change leaves it that was cut off behind its decisive step; or put back by somebody.
    (s.dir / "vault" / "master.key").write_text(old, encoding="ascii")
    (s.dir / "vault" / "master.key").chmod(0o600)
    backup(False, True)
    assert key_file(s) == old, "nobody but who changes the key removes one"
    (s.dir / "vault" / "master.key").unlink()
    rekey(s, "--master-key", "file", "--master-key-file", s.dir / "vault" / "master.key")
    backup(True, False)


def test_the_key_beside_the_key_file_is_the_one_in_force(fresh, tmp_path):
    """Cut off between the vault's change and that of the file: the backup has the key that opens it."""
    s = fresh()
    s.account("acme")
    words = secret(tmp_path / "words", WORDS)
    old = key_file(s)
    rekey(s)
    os.rename(s.dir / "vault" / "master.key", s.dir / "vault" / "master.key.next")
    secret(s.dir / "vault" / "master.key", old.strip())
    done = s.musterd("backup", "-o", tmp_path / "backup", "--passphrase-file", words, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["master_key"] is True, done.stderr
    assert of_vault(tmp_path / "backup", words, tmp_path / "restored") == (True, ["master.key.next"], False)
    ports = s.ports
    s.stop()
    restored = type(s).__new__(type(s))
    restored.dir, restored.process, restored.hosts, restored.ports = tmp_path / "restored", None, set(), ports
    restored.log = open(tmp_path / "restored.log", "a", encoding="utf-8")
    restored.start()
    assert status(restored)["answers"]
    restored.stop()
    assert [p.name for p in (tmp_path / "restored" / "vault").glob("master.key*")] == ["master.key"]


def test_a_second_name_of_the_key_file_keeps_the_key(fresh, tmp_path):
    s = fresh()
    kept = s.dir.parent / "kept.key"
    os.link(s.dir / "vault" / "master.key", kept)
    old = key_file(s)
    assert rekey(s, "--master-key", "passphrase", words=WORDS + "\n")["key_file_removed"] is True
    assert kept.read_text(encoding="ascii") == old and not (s.dir / "vault" / "master.key").exists()

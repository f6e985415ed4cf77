"""The offline fleet CA and a factory line with their keys in a PKCS#11 token or a TPM: made there, used there by all cores, and never anywhere else; and a token
that is away in the middle of a batch."""
import json
import os
import re
import subprocess
import time

import pytest
from cryptography import x509

from conftest import MUSTER, Refused, refused
from hsm import PIN
from test_agent_hardware import InToken, InTpm
from test_factory import Line, come, identity, states

PASSPHRASE = "correct horse battery"


@pytest.fixture(params=[InToken, InTpm], ids=["token", "tpm"])
def hardware(request, tmp_path):
    made = request.param(tmp_path)
    yield made
    made.close()


@pytest.fixture
def softhsm(tmp_path): return InToken(tmp_path)


class Offline:
    """A fleet CA, by the program; no passphrase unless one is given."""

    def __init__(self, top, hardware, *init, passphrase=False):
        self.top, self.dir = top, top / "ca"
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}, **hardware.env}
        self.secret = []
        if passphrase:
            path = top / "passphrase"
            path.touch(0o600)
            path.write_text(PASSPHRASE + "\n")
            self.secret = ["--passphrase-file", path]
        self.made = self.run("init", *init)

    def run(self, verb, *args, ca=True, noun="ca"):
        secret = self.secret if verb in ("init", "issue", "sign", "prove", "crl") else []
        done = subprocess.run([str(a) for a in [MUSTER, noun, verb, *(["--ca", self.dir] if ca else []), *secret, *args, "--json"]], capture_output=True, text=True, env=self.env, timeout=300,
                              stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Refused(done.returncode, done.stderr)
        return json.loads(done.stdout)

    def verify(self, *folders):
        """By two that are not Muster."""
        between = self.dir / "intermediate.pem"
        for folder in folders:
            chain = ["-untrusted", between] if between.exists() else []
            subprocess.run([str(a) for a in ["openssl", "verify", "-purpose", "sslclient", "-x509_strict", "-auth_level", "2", "-CAfile", self.dir / "root.pem", *chain, folder / "client.pem"]],
                           check=True, capture_output=True, timeout=60)
            subprocess.run([str(a) for a in ["certtool", "--verify", "--verify-profile", "medium", "--load-ca-certificate", self.dir / "root.pem", "--infile", folder / "client.pem"]],
                           check=True, capture_output=True, timeout=60)

    def batch(self, n, out="out", prefix="unit"):
        ids = self.top / "ids"
        ids.write_text("".join(f"{prefix}-{i}\n" for i in range(n)))
        return self.run("issue", "--from", ids, "-o", self.top / out)

    def journal(self):
        return [json.loads(line) for line in (self.dir / "journal.jsonl").read_text().splitlines()]

    def issued(self):
        return self.run("list", "--state", "issued")


def test_the_keys_are_made_there_and_sign_for_all_that_a_fleet_ca_does(hardware, server, tmp_path):
    ca = Offline(tmp_path, hardware, "--intermediate", "--key", hardware.place)
    assert len(hardware.keys()) == 2 and not list(ca.dir.glob("*.key")) and not list(ca.dir.glob("*.new"))
    for name in ("root", "intermediate"):
        assert (ca.dir / f"{name}.uri").read_text().startswith(hardware.kind + ":") and PIN not in (ca.dir / f"{name}.uri").read_text()
    assert ca.made["root_key"].startswith(hardware.kind) and ca.made["intermediate_key"] != ca.made["root_key"]
    batch = ca.batch(40)
    assert len(batch) == 40
    ca.verify(*[tmp_path / "out" / f"unit-{i}" for i in range(0, 40, 13)])
    # One alone; of another kind of key, whose certificate is made in the slower way; for a request.
    ca.run("issue", "alone", "-o", tmp_path / "alone")
    ca.run("issue", "of-rsa", "--key", "rsa2048", "-o", tmp_path / "rsa")
    ca.run("csr", "asked", "-o", tmp_path / "asked", ca=False)
    (tmp_path / "signed").mkdir()
    ca.run("sign", tmp_path / "asked" / "client.csr", "-o", tmp_path / "signed" / "client.pem")
    ca.verify(tmp_path / "alone", tmp_path / "rsa", tmp_path / "signed")
    # Lists, both, and the proof.
    ca.run("revoke", "alone")
    for more, to in ((), "below"), (("--of-root",), "of-root"):
        shown = ca.run("crl", *more, "-o", tmp_path / f"{to}.crl")
        assert shown["issuer"] == ("root" if more else "intermediate")
        signer = ca.dir / ("root.pem" if more else "intermediate.pem")
        subprocess.run(["openssl", "crl", "-in", tmp_path / f"{to}.crl", "-CAfile", signer, "-noout"], check=True, capture_output=True, timeout=60)
    account = f"hardware-{hardware.kind}"
    server.account(account, "production", "device")
    root = server.muster("root", "upload", ca.dir / "root.pem", "--account", account)
    assert ca.run("prove", root["challenge"], "-o", tmp_path / "proof.pem")["signed_by"] == "root"
    assert server.muster("root", "prove", root["id"], tmp_path / "proof.pem")["state"] == "active"
    assert come(server, identity(tmp_path / "out" / "unit-7")).status == 404
    # Nothing of it lies on this machine: no key, no PIN, in no file of the directory.
    for path in ca.dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"PRIVATE KEY" not in content and PIN.encode() not in content, path


def test_the_root_in_a_token_and_what_issues_in_a_file(softhsm, tmp_path):
    ca = Offline(tmp_path, softhsm, "--intermediate", "--root-key", softhsm.place, passphrase=True)
    assert len(softhsm.keys()) == 1 and (ca.dir / "intermediate.key").stat().st_mode & 0o777 == 0o600 and not (ca.dir / "root.key").exists()
    assert (ca.made["intermediate_key"], ca.made["root_key"].split(":")[0]) == ("file", "pkcs11")
    softhsm.token.be("away")  # in a drawer
    ca.batch(5)
    ca.verify(tmp_path / "out" / "unit-4")
    with pytest.raises(Refused) as away:
        ca.run("crl", "--of-root", "-o", tmp_path / "crl")
    assert away.value.code == "key_unavailable" and not (tmp_path / "crl").exists()
    softhsm.token.no_more("away")
    assert ca.run("crl", "--of-root", "-o", tmp_path / "crl")["number"] == 1, "no number was spent on what was not signed"


def test_another_machine_names_the_key_itself(softhsm, tmp_path):
    """Its module, and where its PIN lies, are others there; or the directory says nothing of the root."""
    ca = Offline(tmp_path, softhsm, "--intermediate", "--key", softhsm.place)
    uri = (ca.dir / "root.uri").read_text().strip()
    (ca.dir / "root.uri").unlink()
    refused("not_found", ca.run, "crl", "--of-root", "-o", tmp_path / "no")
    assert ca.run("crl", "--of-root", "--ca-key", uri, "-o", tmp_path / "crl")["issuer"] == "root"
    below = (ca.dir / "intermediate.uri").read_text().strip()
    moved = softhsm.token.dir / "moved"
    softhsm.token.pin_file.rename(moved)
    with pytest.raises(Refused) as nothing:
        ca.run("issue", "one", "-o", tmp_path / "one")
    assert "pin" in nothing.value.text.lower()
    elsewhere = re.sub(r"pin-source=file:[^&]*", f"pin-source=file:{moved}", below)
    ca.run("issue", "one", "--ca-key", elsewhere, "-o", tmp_path / "one")
    ca.verify(tmp_path / "one")
    # A key that is none of this CA's, or not the one that signs here.
    refused("invalid_request", ca.run, "issue", "two", "--ca-key", re.sub(r"pin-source=file:[^&]*", f"pin-source=file:{moved}", uri), "-o", tmp_path / "two")
    (tmp_path / "b").mkdir()
    moved.rename(softhsm.token.pin_file)
    other = Offline(tmp_path / "b", softhsm, "--key", softhsm.place)
    refused("invalid_request", ca.run, "issue", "two", "--ca-key", (other.dir / "root.uri").read_text().strip(), "-o", tmp_path / "two")
    assert [d["device_id"] for d in ca.issued()] == ["one"]


def test_a_token_that_is_away_in_the_middle_of_a_batch(softhsm, tmp_path):
    """What was signed is issued, the reason is told, and the same command goes on: nothing lost, nothing doubled."""
    n = 400
    ca = Offline(tmp_path, softhsm, "--intermediate", "--key", softhsm.place)
    ids = tmp_path / "ids"
    ids.write_text("".join(f"unit-{i}\n" for i in range(n)))
    softhsm.token.be("slow", 5)
    command = [str(a) for a in [MUSTER, "ca", "issue", "--from", ids, "-o", tmp_path / "out", "--ca", ca.dir, "--json"]]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ca.env, stdin=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(list((ca.dir / "issued").iterdir())) < 20 and running.poll() is None:
        assert time.monotonic() < end
    softhsm.token.be("away")
    said = running.communicate(timeout=240)[1]
    softhsm.token.no_more("away")
    softhsm.token.no_more("slow")
    assert running.returncode == 1 and "key_unavailable" in said and "token" in said.lower()
    before = {d["device_id"]: d["serial"] for d in ca.issued()}
    assert len(before) < n
    made = ca.batch(n)
    assert len(made) == n and len(ca.issued()) == n
    after = {d["device_id"]: d["serial"] for d in ca.issued()}
    assert {i: after[i] for i in before} == before, "none of them has a second certificate"
    serials = [x509.load_pem_x509_certificate((tmp_path / "out" / f"unit-{i}" / "client.pem").read_bytes()).serial_number for i in range(n)]
    assert len(set(serials)) == n and {f"{s:032x}" for s in serials} == set(after.values())
    ca.verify(*[tmp_path / "out" / f"unit-{i}" for i in (0, n // 2, n - 1)])


@pytest.mark.parametrize("mood", ["away", "lies"])
def test_a_token_that_is_away_or_lies_makes_no_ca(softhsm, tmp_path, mood):
    softhsm.token.be(mood)
    with pytest.raises(Refused):
        Offline(tmp_path, softhsm, "--intermediate", "--key", softhsm.place)
    softhsm.token.no_more(mood)
    left = [p for p in tmp_path.iterdir() if p.name.startswith("ca")]
    assert softhsm.keys() == [] or left, "a key that stays behind is named"
    ca = Offline(tmp_path, softhsm, "--key", softhsm.place) if not left else None
    assert ca is None or len(softhsm.keys()) == 1


def test_what_is_no_place(softhsm, tmp_path):
    for bad in ("pkcs11:token=device;pin-value=1234", "pkcs11:colour=red", "tpm2:nothing"):
        with pytest.raises(Refused) as why:
            Offline(tmp_path, softhsm, "--key", bad)
        assert "1234" not in why.value.text.replace(bad, "")
        assert not (tmp_path / "ca").exists()


# --- a factory line ------------------------------------------------------------------------------------------------------------------------


def test_a_factory_line_with_its_key_in_hardware(hardware, server, tmp_path, monkeypatch):
    for name, value in hardware.env.items():
        monkeypatch.setenv(name, value)
    account = f"line-{hardware.kind}"
    server.account(account, "production", "shared")
    line = Line.__new__(Line)
    line.top, line.account, line.name, line.dir, line.passphrase, line.request = tmp_path, account, "line-1", tmp_path / "line", tmp_path / "none", tmp_path / "line.csr"

    def run(verb, *args, noun="factory"):
        done = subprocess.run([str(a) for a in [MUSTER, noun, verb, "--ca", line.dir, *args, "--json"]], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Refused(done.returncode, done.stderr)
        return json.loads(done.stdout)

    line.run = run
    run("request", "--account", account, "--line", "line-1", "--key", hardware.place, "-o", line.request)
    assert len(hardware.keys()) == 1 and not list(line.dir.glob("*.key")) and (line.dir / "intermediate.uri").exists() and not list(line.dir.glob("*.new"))
    refused("already_exists", run, "request", "--account", account, "--line", "line-1", "--key", hardware.place)
    assert len(hardware.keys()) == 1
    line.kit(server)
    devices = line.issue("vin-1", "vin-2", "vin-3")
    for device in devices:
        assert come(server, device).status == 404
    manifest = tmp_path / "manifest"
    run("manifest", "-o", manifest)
    said = server.muster("factory", "reconcile", manifest)
    assert (said["built"], said["seen"], said["not_built"]) == (3, 3, 0)
    assert states(server, account) == {f"vin-{i}": "active" for i in (1, 2, 3)}


def test_a_line_s_key_that_a_power_cut_left_is_made_anew(softhsm, tmp_path, monkeypatch):
    """It stands in intermediate.uri.new, and goes when the line asks again."""
    for name, value in softhsm.env.items():
        monkeypatch.setenv(name, value)
    line = tmp_path / "line"
    request = [str(a) for a in [MUSTER, "factory", "request", "--ca", line, "--account", "acme", "--line", "l", "--key", softhsm.place, "-o", tmp_path / "csr"]]
    subprocess.run(request, check=True, capture_output=True, timeout=60)
    (first,) = softhsm.keys()
    (line / "intermediate.uri").rename(line / "intermediate.uri.new")
    (tmp_path / "csr").unlink()
    subprocess.run(request, check=True, capture_output=True, timeout=60)
    (second,) = softhsm.keys()
    assert first != second and (line / "intermediate.uri").exists() and not (line / "intermediate.uri.new").exists()

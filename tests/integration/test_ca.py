"""The fleet CA on a build machine: `muster ca`, without a server, and then its devices at one."""
import fcntl
import json
import os
import pathlib
import pty
import random
import re
import signal
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client import Identity
from clock import Clock
from conftest import LONG, MUSTER, THE_MUSTER, Refused, refused, soon

PASSPHRASE = "correct horse battery"


class Offline:
    """A fleet CA in a directory, through the program."""

    program = MUSTER

    def __init__(self, directory, *options):
        self.top, self.dir = directory, directory / "ca"
        self.passphrase = directory / "passphrase"
        self.passphrase.touch(0o600)
        self.passphrase.write_text(PASSPHRASE + "\n", encoding="utf-8")
        self.made = self.run("init", *options)

    def arguments(self, verb, *args):
        secret = ["--passphrase-file", self.passphrase] if verb in ("init", "issue", "sign", "prove", "install", "crl") else []
        where = [] if verb == "csr" else ["--ca", self.dir]
        return [str(a) for a in [self.program, "ca", verb, *where, *secret, *args, "--json"]]

    def run(self, verb, *args, **options):
        # Neither a server nor its environment is needed.
        env = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
        done = subprocess.run(self.arguments(verb, *args), capture_output=True, text=True, env=env, timeout=120, **options)
        if done.returncode:
            raise Refused(done.returncode, done.stderr)
        return json.loads(done.stdout)

    def start(self, verb, *args):
        return subprocess.Popen(self.arguments(verb, *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def issue(self, device_id, *options, folder=None):
        folder = folder or self.top / f"device-{time.monotonic_ns()}"
        shown = self.run("issue", device_id, "-o", folder, *options)
        return shown, folder

    def journal(self):
        """Its whole lines: what a kill cut off has no end of line, and the next to write takes it away."""
        return [json.loads(line) for line in (self.dir / "journal.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def offline(tmp_path):
    return lambda *options, **more: Offline(more.get("top", tmp_path), *options)


def certificates(pem):
    end = b"-----END CERTIFICATE-----\n"
    return [x509.load_pem_x509_certificate(part + end) for part in pem.split(end)[:-1]]


def load(path):
    return certificates(path.read_bytes())


def public(of):
    """The public key of a key, a certificate or a request."""
    return of.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def identity(folder):
    chain = load(folder / "client.pem")
    return Identity(chain[0], serialization.load_pem_private_key((folder / "pkey.pem").read_bytes(), None), chain[1:])


def openssl(*args, **options):
    return subprocess.run(["openssl", *[str(a) for a in args]], capture_output=True, text=True, check=True, timeout=60, **options).stdout


def test_init_makes_a_directory_that_a_person_can_read(offline):
    ca = offline("--intermediate", "--organisation", "Acme", "--country", "DE", "--name", "Acme fleet root")
    modes = {str(p.relative_to(ca.dir)): p.stat().st_mode & 0o777 for p in ca.dir.iterdir()}
    assert modes == {"ca.json": 0o644, "root.pem": 0o644, "root.key": 0o600, "intermediate.pem": 0o644, "intermediate.key": 0o600,
                     "journal.jsonl": 0o644, "issued": 0o755, "lock": 0o600}
    assert ca.dir.stat().st_mode & 0o777 == 0o700
    assert ca.made["root"]["subject"] == "CN=Acme fleet root,O=Acme,C=DE"
    assert [(e["event"], e.get("kind")) for e in ca.journal()] == [("reserve", "root"), ("issue", None), ("reserve", "intermediate"), ("issue", None)]
    assert {p.stem for p in (ca.dir / "issued").iterdir()} == {ca.made["root"]["serial"], ca.made["intermediate"]["serial"]}
    # The keys are encrypted so that openssl reads them, under PBES2 with AES-256 and scrypt.
    for key, certificate in (("root.key", "root.pem"), ("intermediate.key", "intermediate.pem")):
        assert (ca.dir / key).read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        parsed = openssl("asn1parse", "-in", ca.dir / key)
        assert all(word in parsed for word in ("PBES2", "scrypt", "aes-256-cbc"))
        public = openssl("pkey", "-in", ca.dir / key, "-passin", f"file:{ca.passphrase}", "-pubout")
        assert public == openssl("x509", "-in", ca.dir / certificate, "-noout", "-pubkey")
        with pytest.raises(TypeError):
            serialization.load_pem_private_key((ca.dir / key).read_bytes(), None)
    assert PASSPHRASE not in "".join(p.read_text(errors="replace") for p in ca.dir.rglob("*") if p.is_file())
    refused("already_exists", ca.run, "init")
    assert list(ca.top.glob("ca.new-*")) == []


@pytest.mark.parametrize("options", [("--key", "p256"), ("--key", "p256", "--intermediate"), ("--key", "p384", "--intermediate"), ("--key", "rsa3072")], ids="-".join)
def test_openssl_and_gnutls_accept_what_it_issues(offline, options):
    ca = offline(*options)
    for kind in ("p256", "rsa2048"):
        shown, folder = ca.issue(f"car-{kind}", "--key", kind)
        assert sorted((p.name, p.stat().st_mode & 0o777) for p in folder.iterdir()) == [("client.pem", 0o644), ("pkey.pem", 0o600)]
        assert folder.stat().st_mode & 0o777 == 0o700
        chain = load(folder / "client.pem")
        assert len(chain) == (2 if "--intermediate" in options else 1)
        assert f"{chain[0].serial_number:032x}" == shown["serial"]
        openssl("verify", "-purpose", "sslclient", "-x509_strict", "-auth_level", "2", "-CAfile", ca.dir / "root.pem", "-untrusted", folder / "client.pem", folder / "client.pem")
        with pytest.raises(subprocess.CalledProcessError):
            openssl("verify", "-purpose", "sslserver", "-CAfile", ca.dir / "root.pem", "-untrusted", folder / "client.pem", folder / "client.pem")
        subprocess.run(["certtool", "--verify", "--verify-profile", "medium", "--load-ca-certificate", ca.dir / "root.pem", "--infile", folder / "client.pem"],
                       check=True, capture_output=True, timeout=60)
        assert (folder / "pkey.pem").read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
        assert openssl("pkey", "-in", folder / "pkey.pem", "-pubout") == openssl("x509", "-in", folder / "client.pem", "-noout", "-pubkey")
        extensions = chain[0].extensions
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("options", [(), ("--intermediate",), ("--key", "p384", "--intermediate"), ("--key", "rsa3072")], ids=["root", "intermediate", "p384", "rsa3072"])
def test_from_init_to_a_device_in_the_registry(server, offline, options):
    account = "ca-" + "-".join(o.strip("-") for o in options) if options else "ca-root"
    server.account(account, "production", "device")
    ca = offline(*options)
    root = server.muster("root", "upload", ca.dir / "root.pem", "--account", account)
    proof = ca.top / "proof.pem"
    assert ca.run("prove", root["challenge"], "-o", proof)["signed_by"] == "root"
    assert server.muster("root", "prove", root["id"], proof)["state"] == "active"
    _, folder = ca.issue(f"car {account}", "--server", server.dir)
    assert (folder / "root.crt").read_bytes() == (server.dir / "server-ca.pem").read_bytes()
    assert (folder / "gateway.url").read_text().strip() == (server.dir / "gateway.url").read_text().strip()
    # Python's ssl, then curl with the files as they are.
    assert server.gateway(identity(folder)).ecus().status == 201
    shown = server.muster("device", "show", f"car {account}", "--account", account)
    assert (shown["state"], shown["method"], shown["root"]) == ("active", "device", root["id"])
    answer = subprocess.run(["curl", "-sS", "--noproxy", "*", "--cacert", folder / "root.crt", "--cert", folder / "client.pem", "--key", folder / "pkey.pem", "-w", "%{http_code}",
                             "-o", "/dev/null", f"https://127.0.0.1:{server.port}/director/1.root.json"], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout == "404"
    # Another key for the same ID is another device to the gateway.
    _, second = ca.issue(f"car {account}", "--again")
    assert server.gateway(identity(second)).ecus().code == "device_key_mismatch"


def test_an_intermediate_alone_proves_and_issues(server, offline):
    server.account("ca-away", "production", "device")
    ca = offline("--intermediate")
    (ca.dir / "root.key").rename(ca.top / "root.key")
    root = server.muster("root", "upload", ca.dir / "root.pem", "--account", "ca-away")
    assert ca.run("prove", root["challenge"], "-o", ca.top / "proof.pem")["signed_by"] == "intermediate"
    assert server.muster("root", "prove", root["id"], ca.top / "proof.pem")["state"] == "active"
    _, folder = ca.issue("car-1")
    assert server.gateway(identity(folder)).ecus().status == 201


def test_a_proof_is_for_a_challenge_and_nothing_else(offline):
    ca = offline()
    for no_challenge in ("car-1", "muster-challenge-", "muster-challenge-" + "0" * 31 + "g"):
        refused("invalid_request", ca.run, "prove", no_challenge)
    shown = ca.run("prove", "muster-challenge-" + "0123456789abcdef" * 2)
    [certificate] = certificates(shown["certificate"].encode())
    assert certificate.subject.rfc4514_string() == "CN=muster-challenge-" + "0123456789abcdef" * 2
    assert not list(certificate.extensions)
    [listed] = ca.run("list", "--kind", "proof")
    assert listed["id"] == shown["id"] == f"{certificate.serial_number:032x}"


def test_an_id_is_issued_once(offline):
    ca = offline()
    first, folder = ca.issue("car-1")
    assert refused("device_id_issued", ca.issue, "car-1").status == 1
    assert len(list(ca.top.glob("device-*"))) == 1
    refused("already_exists", ca.run, "issue", "car-2", "-o", folder)  # no key is written over
    assert [c["device_id"] for c in ca.run("list")] == ["car-1"]
    second, _ = ca.issue("car-1", "--again")
    assert first["serial"] != second["serial"]
    assert [(c["id"], c["state"]) for c in ca.run("list", "--prefix", "car")] == [(first["id"], "issued"), (second["id"], "issued")]
    assert ca.run("show", "car-1")["serial"] == second["serial"]
    assert ca.run("show", first["serial"])["certificate"] == (folder / "client.pem").read_text()
    refused("not_found", ca.run, "show", "car-2")
    for bad in ("", "a\nb", "x" * 65, "car-1\u200b"):
        refused("device_id_invalid", ca.issue, bad)
    assert (ca.run("show")["devices"], ca.run("show")["certificates"]) == (1, 3)


def test_the_life_of_what_is_issued(offline):
    ca = offline("--device-life", "2y", "--root-life", "10y")
    for life, years in ((None, 2), ("1y", 1), ("50y", 10)):
        shown, folder = ca.issue(f"car-{years}", *(["--life", life] if life else []))
        [certificate] = load(folder / "client.pem")
        assert abs((certificate.not_valid_after - certificate.not_valid_before).days - years * 365 - 1) <= 1
        assert ("warnings" in shown) == (life == "50y")
    for wrong in ("1", "101y", "-1y", "soon"):
        assert refused("", ca.issue, "car-9", "--life", wrong).status == 2


def test_requests_are_signed_for_their_key_and_name_alone(offline):
    ca = offline("--organisation", "Acme")
    made = ca.run("csr", "car-1", "-o", ca.top / "csr", "--country", "DE", "--state", "Berlin", "--locality", "Mitte", "--organisation", "Elsewhere",
                  "--organisational-unit", "Line 1", "--serial-number", "0815", "--uri", "urn:dev:car-1", "--dns", "car-1.example")
    assert {p.name: p.stat().st_mode & 0o777 for p in (ca.top / "csr").iterdir()} == {"client.csr": 0o644, "pkey.pem": 0o600}
    request = x509.load_pem_x509_csr((ca.top / "csr" / "client.csr").read_bytes())
    assert request.is_signature_valid and made["request"] == (ca.top / "csr" / "client.csr").read_text()
    assert request.subject.rfc4514_string() == "CN=car-1,2.5.4.5=0815,OU=Line 1,O=Elsewhere,L=Mitte,ST=Berlin,C=DE"
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [n.value for n in names] == ["urn:dev:car-1", "car-1.example"]
    refused("already_exists", ca.run, "csr", "car-1", "-o", ca.top / "csr")
    refused("csr_invalid", ca.run, "sign", ca.top / "csr" / "client.csr", "--device", "car-2")
    shown = ca.run("sign", ca.top / "csr" / "client.csr", "--device", "car-1", "-o", ca.top / "csr" / "client.pem")
    [certificate] = load(ca.top / "csr" / "client.pem")
    assert certificate.subject.rfc4514_string() == "CN=car-1,O=Acme" and shown["device_id"] == "car-1"
    assert public(certificate) == public(request)
    refused("device_id_issued", ca.run, "sign", ca.top / "csr" / "client.csr")
    assert ca.run("sign", ca.top / "csr" / "client.csr", "--again")["serial"] != shown["serial"]
    # Whatever else a request asks for.
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", ca.top / "k", "-out", ca.top / "greedy.csr", "-subj", "/CN=greedy",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "extendedKeyUsage=serverAuth", "-addext", "subjectAltName=DNS:gw.example.com",
            "-addext", "keyUsage=keyCertSign")
    ca.run("sign", ca.top / "greedy.csr", "-o", ca.top / "greedy.pem")
    [certificate] = load(ca.top / "greedy.pem")
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_requests_that_are_not_signed(offline):
    ca = offline()

    def request(name, *options, subject="/CN=car-1"):
        path = ca.top / f"{name}.csr"
        openssl("req", "-new", "-nodes", "-keyout", ca.top / f"{name}.key", "-out", path, "-subj", subject, *options)
        return path

    p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    good = request("good", *p256)
    tampered = ca.top / "tampered.csr"
    der = bytearray(x509.load_pem_x509_csr(good.read_bytes()).public_bytes(serialization.Encoding.DER))
    der[der.index(b"car-1")] = ord("b")
    tampered.write_bytes(der)
    refused("csr_invalid", ca.run, "sign", tampered)
    refused("csr_invalid", ca.run, "sign", request("weak", "-newkey", "rsa:1024"))
    refused("csr_invalid", ca.run, "sign", request("sha1", *p256, "-sha1"))
    refused("csr_invalid", ca.run, "sign", request("odd", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"))
    refused("csr_invalid", ca.run, "sign", ca.top / "good.key")
    refused("device_id_missing", ca.run, "sign", request("nameless", *p256, subject="/O=Acme"))
    refused("device_id_ambiguous", ca.run, "sign", request("two", *p256, subject="/CN=a/CN=b"))
    assert ca.run("list") == []
    ca.run("sign", good)
    other = request("other", "-key", ca.top / "good.key", subject="/CN=car-2")
    refused("device_key_issued", ca.run, "sign", other)


def test_what_a_passphrase_costs_who_guesses(tmp_path):
    """The real program's, not that of the other tests."""
    secret = tmp_path / "passphrase"
    secret.touch(0o600)
    secret.write_text(PASSPHRASE, encoding="utf-8")
    subprocess.run([THE_MUSTER, "ca", "init", "--ca", tmp_path / "ca", "--passphrase-file", secret], check=True, capture_output=True, timeout=60)
    parsed = openssl("asn1parse", "-in", tmp_path / "ca" / "root.key")
    assert [int(n, 16) for n in re.findall(r"INTEGER +:([0-9A-F]+)$", parsed[parsed.index("scrypt"):], re.M)] == [16384, 8, 5]


def test_the_passphrase(offline):
    ca = offline()
    arguments = [MUSTER, "ca", "prove", "muster-challenge-" + "0" * 32, "--ca", ca.dir, "--json"]
    # From the first line of standard input, or a file that nobody else reads.
    done = subprocess.run([*arguments, "--passphrase-file", "-"], input=PASSPHRASE + "\nmore\n", capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["signed_by"] == "root"
    for wrong, status in ((["--passphrase-file", "-"], 1), ([], 2)):
        done = subprocess.run([*arguments, *wrong], input="another passphrase\n", capture_output=True, text=True, timeout=60)
        assert done.returncode == status and "another passphrase" not in done.stderr
    ca.passphrase.chmod(0o644)
    assert "0600" in refused("invalid_request", ca.run, "prove", "muster-challenge-" + "0" * 32).text
    # On a terminal it is asked, and not echoed.
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(MUSTER, [str(a) for a in arguments])
    said = b""
    while not said.endswith(b": "):
        said += os.read(fd, 1024)
    os.write(fd, PASSPHRASE.encode() + b"\n")
    while True:
        try:
            if not (more := os.read(fd, 65536)):
                break
        except OSError:
            break
        said += more
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"passphrase of the fleet CA" in said and b'"signed_by"' in said and PASSPHRASE.encode() not in said
    short = ca.top / "short"
    short.touch(0o600)
    short.write_text("short\n")
    done = subprocess.run([MUSTER, "ca", "init", "--ca", ca.top / "other", "--passphrase-file", short], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and not (ca.top / "other").exists()


def test_where_there_is_no_ca(tmp_path):
    run = lambda *args: subprocess.run([MUSTER, "ca", *args], capture_output=True, text=True, cwd=tmp_path, timeout=60, env={"MUSTER_CA_DIR": "elsewhere"})
    done = run("list")
    assert done.returncode == 1 and "elsewhere" in done.stderr and "(ca_missing)" in done.stderr
    assert run("issue", "car-1").returncode == 2  # no -o
    assert run("issue", "-o", "x").returncode == 2
    assert run("init", "--key", "rsa2048").returncode == 2
    assert list(tmp_path.iterdir()) == []


def consistent(ca, outputs):
    """Whatever happened: every certificate that came out is in the record, and no serial stands for two."""
    listed = ca.run("list")
    assert len({c["serial"] for c in listed}) == len(listed)
    reserved = [c["serial"] for e in ca.journal() if e["event"] == "reserve" for c in e.get("batch", [e])]
    assert len(set(reserved)) == len(reserved)
    issued = {c["serial"]: c for c in listed if c["state"] == "issued"}
    seen = {}
    for path in outputs.rglob("client.pem"):
        certificate = load(path)[0]
        serial = f"{certificate.serial_number:032x}"
        assert serial not in seen
        seen[serial] = certificate
        [cn] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert issued[serial]["device_id"] == cn.value
        assert (ca.dir / "issued" / f"{serial}.pem").read_bytes() == certificate.public_bytes(serialization.Encoding.PEM)
        key = serialization.load_pem_private_key((path.parent / "pkey.pem").read_bytes(), None)
        assert public(key) == public(certificate)
    return issued, seen


def test_eight_at_once(offline):
    ca = offline()
    outputs = ca.top / "out"
    outputs.mkdir()
    each, everybody = 6, "everybody's"
    running = []
    for i in range(8):
        ids = [f"car-{i}-{k}" for k in range(each)]
        ids.insert(random.randrange(each), everybody)
        (ca.top / f"ids{i}").write_text("\n".join(ids), encoding="utf-8")
        running.append([ca.start("issue", *ids[:ids.index(everybody)], "-o", outputs / f"{i}a"), ca.start("issue", everybody, "-o", outputs / f"{i}b"),
                        ca.start("issue", "--from", "/dev/null", *ids[ids.index(everybody) + 1:], "-o", outputs / f"{i}c")])
    won = 0
    for before, one, behind in running:
        out, _ = one.communicate(timeout=300)
        won += one.returncode == 0
        for process in (before, behind):
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0 or "needs" in err or "Name a DEVICE-ID" in err, err
    assert won == 1
    issued, seen = consistent(ca, outputs)
    assert set(issued) == set(seen) and len(seen) == 8 * each + 1


def test_killed_at_any_moment(offline):
    """And begun again by the same command, until it is through: nothing is lost, and nobody gets two."""
    ca = offline("--intermediate")
    outputs = ca.top / "out"
    outputs.mkdir()
    rounds, kills = (30 if LONG else 3), 0
    for i in range(rounds):
        ids = ca.top / "ids"
        ids.write_text("".join(f"car-{i}-{k}\n" for k in range(250)), encoding="utf-8")
        for attempt in range(3):
            process = ca.start("issue", "--from", ids, "-o", outputs / str(i))
            end = time.monotonic() + 60
            while attempt == 0 and not list(outputs.glob(f"{i}/*/pkey.pem")) and process.poll() is None and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(random.random() / 5)
            process.kill()
            process.communicate(timeout=60)
            kills += process.returncode == -9
        issued, seen = consistent(ca, outputs)
        assert set(seen) <= set(issued)
        made = ca.run("issue", "--from", ids, "-o", outputs / str(i))
        assert [c["device_id"] for c in made] == [f"car-{i}-{k}" for k in range(250)]
        assert made == ca.run("issue", "--from", ids, "-o", outputs / str(i))
    assert kills >= rounds
    issued, seen = consistent(ca, outputs)
    assert set(issued) == set(seen) and len(seen) == 250 * rounds
    assert all(c["state"] != "reserved" for c in ca.run("list"))
    assert [p for p in outputs.rglob("*.tmp-*")] == []
    for path in list(outputs.rglob("client.pem"))[::97]:
        openssl("verify", "-CAfile", ca.dir / "root.pem", "-untrusted", ca.dir / "intermediate.pem", path)


def test_two_runs_into_one_directory(offline):
    """One of them is told that the other one is at work, and nothing is taken from anybody; what a kill left is tidied up, and nothing else."""
    ca = offline()
    ids, out = ca.top / "ids", ca.top / "out"
    ids.write_text("".join(f"car-{k}\n" for k in range(60)), encoding="utf-8")
    out.mkdir()
    fd = os.open(out, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    refused("output_in_use", ca.run, "issue", "--from", ids, "-o", out)
    assert list(out.iterdir()) == [] and ca.run("list") == []
    os.close(fd)
    for _ in range(3):
        running = [ca.start("issue", "--from", ids, "-o", out) for _ in range(2)]
        said = [(p.communicate(timeout=120)[1], p.returncode) for p in running]
        assert any(code == 0 for _, code in said) and all(code == 0 or "output_in_use" in err for err, code in said), said
    assert len(ca.run("list")) == 60

    # One device alone, and a batch that finds its key and is the first to have it certified.
    with open(ca.dir / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        alone = subprocess.Popen([THE_MUSTER, *ca.arguments("issue", "car-x", "-o", out / "car-x")[1:]], stderr=subprocess.PIPE, text=True)
        soon(True, (out / "car-x" / "pkey.pem").exists)
        alone.send_signal(signal.SIGSTOP)
        soon("T", lambda: pathlib.Path(f"/proc/{alone.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0])  # else it could stop with the lock
    assert len(ca.run("issue", "car-x", "car-y", "-o", out)) == 2
    alone.send_signal(signal.SIGCONT)
    assert "device_id_issued" in alone.communicate(timeout=120)[1]
    identity(out / "car-x")

    # Somebody is asked for the passphrase while another run does it all.
    words = ["-" if w == str(ca.passphrase) else w for w in ca.arguments("issue", "--from", ids, "-o", ca.top / "again", "--again")]
    late = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    soon(True, lambda: any(p.is_dir() and p.resolve() == ca.dir for p in pathlib.Path(f"/proc/{late.pid}/fd").iterdir()))
    made = ca.run("issue", "--from", ids, "-o", ca.top / "again", "--again")
    said = late.communicate(PASSPHRASE + "\n", timeout=120)
    assert late.returncode == 0 and json.loads(said[0]) == made, said

    left = [out / "car-1" / name for name in ("pkey.pem.tmp-0badf00d", "root.crt.tmp-0badf00d", "gateway.url.tmp-0badf00d")]
    foreign = [out / "car-1" / "notes.tmp-0badf00d", out / "car-2" / "my-root.crt.tmp-1"]
    for path in [*left, *foreign, out / "car-2" / "client.pem.tmp-1"]:
        path.touch()
    (out / "car-1" / "client.pem").unlink()
    ca.run("issue", "--from", ids, "-o", out)
    assert sorted(out.rglob("*.tmp-*")) == sorted(foreign)


def test_a_list_says_what_each_device_gets(offline):
    ca = offline()
    path = ca.top / "list.csv"

    def issue(text, *options, out="out"):
        path.write_text(text, encoding="utf-8")
        return ca.run("issue", "--from", path, "-o", ca.top / out, *options)

    made = issue('\ufeffdevice_id,life,key\r\ncar-1,90d,rsa2048\r\n\r\n"car,2",,\r\ncar-3\r\n', "--key", "p384", "--life", "2y")
    assert [c["device_id"] for c in made] == ["car-1", "car,2", "car-3"]
    keys = [load(ca.top / "out" / name / "client.pem")[0] for name in ("car-1", "car%2C2", "car-3")]
    assert [k.public_key().key_size for k in keys] == [2048, 384, 384]
    assert [round((k.not_valid_after - k.not_valid_before).days / 30) for k in keys] == [3, 24, 24]
    assert [c["device_id"] for c in issue("order,serial,colour,more\n17,vin-1,red,\n18,vin-2,blue,\"a,b\"\n", "--column", "serial", out="vin")] == ["vin-1", "vin-2"]
    before = len(ca.journal())
    for wrong, said in (("a\nb\na\n", "line 1 and in line 3"), ("a\n" + "x" * 65 + "\n", "Line 2"), ("a,b\n", "2 cells"), ("device_id,colour\na,b\n", "colour"),
                        ("device_id,key\na,rsa1024\n", "rsa1024"), ("device_id,life\na,soon\n", "soon"), ('a\n"b\n', "Line 2"), ("device_id\n,\n", "Line 2")):
        with pytest.raises(Refused) as refusal:
            issue(wrong, out="wrong")
        assert said in refusal.value.text, refusal.value.text
    # One that has a certificate already, and nobody gets one.
    refused("device_id_issued", issue, "new-1\ncar-3\nnew-2\n", out="wrong")
    refused("invalid_request", issue, "serial\na\n", "--column", "number", out="wrong")
    assert len(ca.journal()) == before and not list((ca.top / "wrong").glob("*"))
    assert refused("", ca.run, "issue", "a", "-o", ca.top / "x", "--column", "serial").status == 2
    assert refused("", issue, "a\n", "--jobs", "0").status == 2
    # A certificate that lies in a device's folder is not written over, whosever it is.
    (ca.top / "other" / "new-1").mkdir(parents=True)
    (ca.top / "other" / "new-1" / "client.pem").write_bytes((ca.top / "out" / "car-1" / "client.pem").read_bytes())
    refused("already_exists", issue, "new-1\nnew-2\n", out="other")
    assert len(ca.journal()) == before


def test_a_directory_of_requests(offline):
    ca = offline("--intermediate")
    requests, answers = ca.top / "requests", ca.top / "answers"
    requests.mkdir()
    for i in range(5):
        ca.run("csr", f"car-{i}", "-o", ca.top / f"csr-{i}")
        (requests / f"unit {i}.csr").write_bytes((ca.top / f"csr-{i}" / "client.csr").read_bytes())
    (requests / "README").write_text("not a request")
    assert refused("", ca.run, "sign", requests).status == 2
    assert refused("", ca.run, "sign", requests, "-o", answers, "--again").status == 2
    made = ca.run("sign", requests, "-o", answers, "--jobs", "3")
    assert [(c["device_id"], c["output"]) for c in made] == [(f"car-{i}", str(answers / f"unit {i}.pem")) for i in range(5)]
    for i in range(5):
        assert public(load(answers / f"unit {i}.pem")[0]) == public(x509.load_pem_x509_csr((requests / f"unit {i}.csr").read_bytes()))
        openssl("verify", "-CAfile", ca.dir / "root.pem", "-untrusted", answers / f"unit {i}.pem", answers / f"unit {i}.pem")
    # Again: nobody is signed for twice, an answer that was lost comes back, and what is new is added.
    (answers / "unit 3.pem").unlink()
    ca.run("csr", "car-5", "-o", ca.top / "csr-5")
    (requests / "unit 5.csr").write_bytes((ca.top / "csr-5" / "client.csr").read_bytes())
    again = ca.run("sign", requests, "-o", answers)
    assert again[:5] == made and len(again) == 6 and len(ca.run("list")) == 6
    # One fault, and none is signed.
    before = ca.journal()
    ca.run("csr", "car-6", "-o", ca.top / "csr-6")
    (requests / "unit 6.csr").write_bytes((ca.top / "csr-6" / "client.csr").read_bytes())
    for name, content, code in (("bad.csr", b"nothing", "csr_invalid"), ("thief.csr", None, "device_id_issued")):
        if content is None:
            ca.run("csr", "car-1", "-o", ca.top / "thief")
            content = (ca.top / "thief" / "client.csr").read_bytes()
        (requests / name).write_bytes(content)
        refused(code, ca.run, "sign", requests, "-o", answers)
        (requests / name).unlink()
    (requests / "unit 6.pem").write_bytes((requests / "unit 6.csr").read_bytes())
    refused("invalid_request", ca.run, "sign", requests, "-o", answers)
    assert ca.journal() == before


@pytest.mark.parametrize("options", [(), ("--intermediate",), ("--key", "p384", "--intermediate"), ("--key", "rsa3072")], ids=["root", "intermediate", "p384", "rsa3072"])
def test_revocation(server, offline, options):
    account = "revoke-" + ("-".join(o.strip("-") for o in options) or "root")
    server.account(account, "production", "device")
    ca = offline(*options)
    root = server.muster("root", "upload", ca.dir / "root.pem", "--account", account)
    ca.run("prove", root["challenge"], "-o", ca.top / "proof.pem")
    server.muster("root", "prove", root["id"], ca.top / "proof.pem")
    stolen, folder = ca.issue(f"stolen {account}")
    good, good_folder = ca.issue(f"good {account}")
    for of in (folder, good_folder):
        assert server.gateway(identity(of)).ecus().status == 201
    verify = ["verify", "-CAfile", ca.dir / "root.pem", "-untrusted", folder / "client.pem", "-crl_check", "-CRLfile", ca.top / "crl.pem"]
    extra = ["--ca", ca.dir / "intermediate.pem"] if "--intermediate" in options else []
    first = ca.run("crl", "-o", ca.top / "crl.pem")
    assert (first["number"], first["entries"]) == (1, 0)
    openssl(*verify, folder / "client.pem")
    shown = ca.run("revoke", stolen["serial"], "--reason", "key-compromise")
    assert shown["revoked"] == 1 and shown["certificates"][0]["reason"] == "key-compromise"
    for name in (stolen["serial"], f"stolen {account}"):
        said = refused("wrong_state", ca.run, "revoke", name, "--reason", "superseded").text
        assert "was revoked already (key-compromise)" in said and "A reason stays as it was given" in said
    refused("not_found", ca.run, "revoke", f"nobody {account}")
    refused("wrong_state", ca.run, "revoke", ca.made["root"]["serial"])
    assert ca.run("crl", "-o", ca.top / "crl.pem")["number"] == 2
    assert ca.run("show", stolen["serial"])["state"] == "revoked" and ca.run("show")["revoked"] == 1
    with pytest.raises(subprocess.CalledProcessError) as failed:
        openssl(*verify, folder / "client.pem")
    assert "certificate revoked" in failed.value.stdout + failed.value.stderr
    openssl(*verify, good_folder / "client.pem")
    for path, status in ((folder, 1), (good_folder, 0)):
        done = subprocess.run(["certtool", "--verify", "--verify-profile", "medium", "--load-ca-certificate", ca.dir / "root.pem", "--load-crl", ca.top / "crl.pem", "--infile", path / "client.pem"],
                              capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == status, done.stdout + done.stderr
    server.muster("crl", "import", root["id"], ca.top / "crl.pem", "--account", account, *extra)
    assert server.gateway(identity(folder)).ecus().code == "certificate_listed"
    assert server.gateway(identity(good_folder)).ecus().code != "certificate_listed"
    # A device may have another, but never with that key.
    request = ca.top / "same.csr"
    openssl("req", "-new", "-key", folder / "pkey.pem", "-out", request, "-subj", f"/CN=stolen {account}")
    refused("device_key_issued", ca.run, "sign", request)
    ca.issue(f"stolen {account}")
    # All of a device's at once, after somebody said so; the intermediate likewise.
    ca.issue(f"good {account}", "--again")
    refused("confirmation_required", ca.run, "revoke", f"good {account}")
    assert ca.run("revoke", f"good {account}", "--yes")["revoked"] == 2
    if extra:
        refused("confirmation_required", ca.run, "revoke", ca.made["intermediate"]["serial"])
        ca.run("revoke", ca.made["intermediate"]["serial"], "--yes")
        of_root = ca.run("crl", "--of-root", "-o", ca.top / "root.crl")
        assert (of_root["issuer"], of_root["number"], of_root["entries"]) == ("root", 1, 1)
        server.muster("crl", "import", root["id"], ca.top / "root.crl", "--account", account)
        assert server.gateway(identity(good_folder)).ecus().code == "certificate_listed"
        (ca.dir / "root.key").rename(ca.top / "root.key")
        refused("not_found", ca.run, "crl", "--of-root")
    numbers = [(e["issuer"], e["number"]) for e in ca.journal() if e["event"] == "crl"]
    assert len(set(numbers)) == len(numbers)


def test_a_clock_before_the_ca_s_begin(offline, tmp_path):
    """Nothing was issued, and nothing says that it was."""
    ca, clock = offline(), Clock(tmp_path / "clock")
    clock.set(-int(time.time()) + 120)
    folder = tmp_path / "early"
    done = subprocess.run(ca.arguments("issue", "early-1", "-o", folder), capture_output=True, text=True, env={**os.environ, **clock.env}, timeout=120, check=False)
    assert done.returncode and "was not handed out" in done.stderr and "was issued" not in done.stderr, done.stderr
    assert not (folder / "pkey.pem").exists() and not (folder / "client.pem").exists()
    done = subprocess.run(ca.arguments("crl", "-o", tmp_path / "early.pem"), capture_output=True, text=True, env={**os.environ, **clock.env}, timeout=120, check=False)
    assert done.returncode and "before the CA itself begins" in done.stderr and "no list was made" in done.stderr and not (tmp_path / "early.pem").exists() and ca.journal()[-1]["event"] != "crl"
    shown, _ = ca.issue("early-1", folder=folder)
    assert "warnings" not in shown and ca.journal()[-3]["event"] == "abandon" and sorted(p.name for p in folder.iterdir()) == ["client.pem", "pkey.pem"]
    # What is taken back is taken back whatever the clock says, and says so.
    done = subprocess.run(ca.arguments("revoke", "early-1"), capture_output=True, text=True, env={**os.environ, **clock.env}, timeout=120, check=True)
    assert "before the CA itself begins" in json.loads(done.stdout)["warnings"][0] and done.stderr.count("before the CA itself begins") == 1


def test_a_clock_that_was_ahead(offline, tmp_path):
    """What it made begins in the future: whoever issues next hears of it, and is not kept from issuing."""
    ca, clock = offline(), Clock(tmp_path / "clock")
    clock.set(100 * 86400)
    subprocess.run(ca.arguments("issue", "ahead-1", "-o", tmp_path / "ahead"), capture_output=True, env={**os.environ, **clock.env}, timeout=120, check=True)
    for ids in (["one-1"], ["many-1", "many-2"]):
        done = subprocess.run(ca.arguments("issue", *ids, "-o", tmp_path / ids[0]), capture_output=True, text=True, timeout=120, check=True)
        said = json.loads(done.stdout)
        for one in said if isinstance(said, list) else [said]:
            assert "one of the two is wrong" in one["warnings"][0]
        assert done.stderr.count("one of the two is wrong") == 1, done.stderr
    for words in (["revoke", "one-1"], ["crl", "-o", tmp_path / "crl.pem"]):
        done = subprocess.run(ca.arguments(*words), capture_output=True, text=True, timeout=120, check=True)
        assert "one of the two is wrong" in json.loads(done.stdout)["warnings"][0] and done.stderr.count("one of the two is wrong") == 1, done.stderr
    clock.set(100 * 86400 + 60)
    done = subprocess.run(ca.arguments("issue", "late-1", "-o", tmp_path / "late"), capture_output=True, text=True, env={**os.environ, **clock.env}, timeout=120, check=True)
    assert "wrong" not in done.stderr and "warnings" not in json.loads(done.stdout)

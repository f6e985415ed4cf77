"""muster-agent with its key in a PKCS#11 token or a TPM 2.0: made there, used there, exchanged there, and never anywhere else."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import textwrap
import threading
import tomllib
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import keyscan
from agent import ADMITTED, CLIENT_AUTH, EST, Agent, Authority, Gateway, Holder as Having, certificates, issues, own, refusal, shared
from client import Identity, name, new_key, spki_hash
from conftest import BUILD, LONG, soon
from est import Holder
from hsm import MODULE, PIN, Token
from test_agent import given, shown
from tpm import Tpm

WRITES = "write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,sendmmsg"


@pytest.fixture(scope="module")
def key(server):
    server.account("fleet", "test", "both")
    return server.key("fleet")


class InToken:
    """SoftHSM's token, behind the moody module."""
    name, kind = "token", "pkcs11"

    def __init__(self, top):
        self.token = Token(top / "hsm", "device")
        self.env = self.token.env

    def uri(self, path="token=device", **query):
        query = {"module-path": f"{BUILD}/tests/moody.so", "pin-source": f"file:{self.token.pin_file}", **query}
        return f"pkcs11:{path}?" + "&".join(f"{k}={v}" for k, v in query.items())

    @property
    def place(self):
        return self.uri()

    def keys(self):
        return re.findall(r"ID: +(\w+)", self.token.keys())

    def store(self):
        """What lies outside of it: SoftHSM's own files are encrypted, so they are part of the disk."""
        return [p for p in self.token.dir.rglob("*") if p.is_file()]

    def forget(self):
        pass

    def close(self):
        pass


class InTpm:
    name, kind = "TPM", "tpm2"

    def __init__(self, top):
        self.tpm, self.env = Tpm(), {}

    def uri(self, handle=""):
        return self.tpm.uri(handle)

    @property
    def place(self):
        return self.uri()

    def keys(self):
        return self.tpm.handles()

    def store(self):
        return []

    def forget(self):
        """What a resource manager does when a program ends."""
        self.tpm.run("tpm2_flushcontext", "-t")

    def close(self):
        self.tpm.close()


@pytest.fixture(params=[InToken, InTpm], ids=["token", "tpm"])
def hardware(request, tmp_path):
    made = request.param(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=[InToken, InTpm, None], ids=["token", "tpm", "software"])
def anywhere(request, tmp_path):
    made = request.param(tmp_path) if request.param else None
    yield made
    if made:
        made.close()


@pytest.fixture
def softhsm(tmp_path):
    return InToken(tmp_path)


@pytest.fixture
def tpm(tmp_path):
    made = InTpm(tmp_path)
    yield made
    made.close()


def device_with(tmp_path, hardware, *options):
    tmp_path.mkdir(exist_ok=True)
    device = Agent(tmp_path / "device", *(["--key", hardware.place] if hardware else []), *options, env=hardware.env if hardware else {})
    device.hook()
    return device


def enrolled(device, key, device_id):
    shutil.copy(key.zip, device.top / "credentials.zip")
    device.good("provision", "--credentials", device.top / "credentials.zip", "--device-id", device_id)
    return device


def cert(device):
    return certificates(device.dir / "current" / "client.pem")[0]


def spki(certified):
    return spki_hash(Holder(certified))


def made_here(device):
    """The URIs in DIR/keys."""
    path = device.dir / "keys"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def whole(device, hardware):
    """One key in the hardware, that of the identity in use, and no other anywhere."""
    here = device.dir / "current"
    uri = (here / "pkey.uri").read_text(encoding="utf-8").strip()
    assert sorted(p.name for p in here.iterdir()) == ["client.pem", "gateway.url", "pkey.pub", "pkey.uri", "root.crt"]
    assert made_here(device) == [uri] and len(hardware.keys()) == 1
    assert (here / "pkey.pub").read_bytes() == cert(device).public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert [p.name for p in device.dir.glob("identity-*")] == [os.readlink(here)]
    return uri


# --- made there, used there -------------------------------------------------------------------------------------------------------------------


class Traced:
    """A device all of whose writes are recorded, whatever to: files, sockets, pipes."""

    def __init__(self, device):
        self.device, self.n, self.program = device, 0, device.program
        self.options = ["strace", "-f", "-qq", "-xx", "-y", "-s", "1000000", "-e", f"trace={WRITES}"]

    def good(self, *words):
        self.n += 1
        self.device.program = [*self.options, "-o", self.device.top / f"trace-{self.n}", self.program]
        try:
            return self.device.good(*words)
        finally:
            self.device.program = self.program

    def written(self):
        """(what it was written to, bytes) of each call."""
        found = []
        for path in sorted(self.device.top.glob("trace-*")):
            for line in path.read_text(encoding="ascii").splitlines():
                call = re.match(r"\d+ +(\w+)\(\d+<((?:\\x\w\w|[^>])*)>, (.*)", line)
                if call:
                    data = b"".join(bytes.fromhex(part.replace("\\x", "")) for part in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', call[3]))
                    found.append((bytes.fromhex(call[2].replace("\\x", "")).decode() if call[2].startswith("\\x") else call[2], data))
        return found


def test_a_scan_of_all_that_was_written_finds_no_key(server, key, tmp_path, anywhere):
    """Each write of the agent, and the device's disk afterwards, held against the public keys that were certified; with a software key the same scan finds it."""
    hardware = anywhere
    device = device_with(tmp_path, hardware)
    traced, device_id = Traced(device), f"scan-{hardware.kind if hardware else 'file'}"
    shutil.copy(key.zip, device.top / "credentials.zip")
    traced.good("provision", "--credentials", device.top / "credentials.zip", "--device-id", device_id)
    first = cert(device)
    left_behind = [p.read_bytes() for p in device.dir.rglob("*") if p.is_file()]
    traced.good("run", "--now")
    traced.good("check")
    second = cert(device)
    assert spki(first) != spki(second) and device.told == ["enrolled", "renewed"]

    written = traced.written()
    into = {target.rpartition("/")[2].partition(".tmp-")[0] for target, _ in written}
    assert {"client.pem", "state.json", "root.crt", "pkey.uri" if hardware else "pkey.pem"} <= into and sum(len(data) for _, data in written) > 10000
    disk = [p.read_bytes() for p in [*device.dir.rglob("*"), *(hardware.store() if hardware else [])] if p.is_file()]
    everything = b"\n".join([*(data for _, data in written), *disk, *left_behind])
    for made in (first, second):
        assert keyscan.holds(everything, made.public_key()) is (hardware is None)
    if hardware is None:
        return
    whole(device, hardware)
    if hardware.kind == "pkcs11":
        assert PIN.encode() not in b"\n".join(data for _, data in written)
    else:  # the scan would have known it: it lies where it should, inside of the chip
        chip = b"".join(p.read_bytes() for p in (hardware.tpm.dir / "chip").iterdir() if p.is_file())
        assert keyscan.holds(chip, second.public_key())


def test_it_cannot_leave_the_token(server, key, tmp_path, softhsm):
    device = enrolled(device_with(tmp_path, softhsm), key, "inside-1")
    assert "muster-agent" in softhsm.token.keys() and re.search(r"Access: +sensitive, always sensitive, never extractable, local", softhsm.token.keys())
    other = device_with(tmp_path / "other", softhsm, "--key", softhsm.uri("token=device;object=my%20car"))
    enrolled(other, key, "inside-2")
    assert "my car" in softhsm.token.keys() and len(softhsm.keys()) == 2
    other.good("run", "--now"), device.good("run", "--now")
    assert len(softhsm.keys()) == 2, "each removes its own"


def test_status_and_the_environment_say_where_it_is(server, key, tmp_path, hardware):
    device = device_with(tmp_path, hardware)
    device.hook('env | grep ^MUSTER_KEY | sort > "$MUSTER_AGENT_DIR/../environment"\n')
    enrolled(device, key, f"says-{hardware.kind}")
    uri, status = whole(device, hardware), device.status()
    assert (status["key"], status["key_in"], status["key_uri"], status["keys_left"], status["state"]) == ("own", hardware.kind, uri, 0, "provisioned")
    assert f"key_uri: {uri}\n" in device.good("status") and "keys_left: 0\n" in device.good("status")
    known = uri if hardware.kind == "pkcs11" else "handle:" + re.match(r"tpm2:(0x\w+);", uri)[1]
    said = dict(line.split("=", 1) for line in (device.top / "environment").read_text().splitlines())
    assert said == {"MUSTER_KEY": known, "MUSTER_KEY_URI": uri, "MUSTER_KEY_IN": hardware.kind}
    assert device.good("exec", "--", "sh", "-c", 'printf "%s|" "$MUSTER_KEY" "$MUSTER_KEY_URI" "$MUSTER_KEY_IN"') == f"{known}|{uri}|{hardware.kind}|"
    explained = device.explain()
    assert (explained["verdict"], explained["key_in"], explained["key_uri"]) == ("admitted", hardware.kind, uri)
    assert f"is admitted; its key is in {'a' if hardware.kind == 'pkcs11' else 'the'} {hardware.name}." in device.good("check")
    assert shown(server, f"says-{hardware.kind}")["spki"] == spki(cert(device))


ASKS = r"""printf 'GET /devices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' | gnutls-cli --provider "$MODULE" --logfile /dev/null \
    --x509cafile "$MUSTER_CA" --x509certfile "$MUSTER_CERT" --x509keyfile "$MUSTER_KEY" -p "${MUSTER_GATEWAY##*:}" localhost"""


def test_a_program_with_gnutls_uses_it(server, key, tmp_path, softhsm):
    device = enrolled(device_with(tmp_path, softhsm), key, "others-1")
    answer = device.run("exec", "--", "sh", "-c", ASKS, env={"GNUTLS_PIN": PIN, "MODULE": str(MODULE)})
    assert "HTTP/1.1 405 " in answer.stdout and "Allow: POST" in answer.stdout, answer


def test_a_program_with_tpm2_openssl_uses_it(server, key, tmp_path, tpm):
    """For a signature; for TLS the provider wants a resource manager, which the simulator has none of."""
    device = enrolled(device_with(tmp_path, tpm), key, "others-2")
    request = device.good("exec", "--", "sh", "-c", 'openssl req -new -provider tpm2 -provider default -key "$MUSTER_KEY" -subj /CN=other', env=tpm.tpm.env)
    csr = x509.load_pem_x509_csr(request.encode())
    assert csr.is_signature_valid and spki(csr) == spki(cert(device))


PROGRAM = r"""
#include <muster-agent.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static SSL_CTX *ctx;
static char host[256];

/* 0: a handshake with the device's certificate was taken. */
static void *ask(void *unused) {
    char answer[4096];
    int n = 0, got;
    SSL *ssl = NULL;
    BIO *bio = BIO_new_ssl_connect(ctx);
    BIO_get_ssl(bio, &ssl);
    BIO_set_conn_hostname(bio, host);
    SSL_set1_host(ssl, "localhost");
    if (BIO_do_handshake(bio) != 1)
        return "handshake";
    BIO_printf(bio, "GET /devices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    while ((got = BIO_read(bio, answer + n, (int)sizeof answer - 1 - n)) > 0)
        n += got;
    answer[n] = 0;
    BIO_free_all(bio);
    return strncmp(answer, "HTTP/1.1 405 ", 13) ? "answer" : NULL;
}

int main(int argc, char **argv) {
    muster_agent *a = muster_agent_new();
    struct muster_agent_identity id;
    pthread_t thread[4];
    void *said;
    int bad = 0, status = 0;
    if (!a || muster_agent_set(a, "dir", argv[1]) || muster_agent_identity(a, &id) || id.key_file || !id.key_uri)
        return 10;
    puts(id.key_uri);
    fflush(stdout);
    snprintf(host, sizeof host, "%s", id.gateway + strlen("https://"));
    ctx = SSL_CTX_new(TLS_client_method());
    if (muster_agent_use(a, ctx))
        return 11;
    muster_agent_free(a); /* the key stays with the SSL_CTX */
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, ask, NULL);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], &said);
        bad += said != NULL;
    }
    pid_t child = fork();
    if (child == 0)
        _exit(ask(NULL) ? 13 : 0);
    waitpid(child, &status, 0);
    if (bad || status || ask(NULL))
        return 20 + bad;
    SSL_CTX_free(ctx);
    return 0;
}
"""


def test_a_program_in_c_uses_it(server, key, tmp_path, hardware):
    """By the library: several threads at once, and a child after fork()."""
    device = enrolled(device_with(tmp_path, hardware), key, f"library-{hardware.kind}")
    source = pathlib.Path(__file__).parents[2] / "src" / "agent"
    (tmp_path / "program.c").write_text(PROGRAM, encoding="utf-8")
    subprocess.run(["cc", "-Wall", "-Werror", "-I", source, "program.c", "-o", "program", "-L", BUILD / "src", "-lmuster-agent", "-lssl", "-lcrypto", "-pthread"], cwd=tmp_path, check=True)
    done = subprocess.run(["./program", device.dir], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
                          env={**device.env, "LD_LIBRARY_PATH": str(BUILD / "src")})
    assert (done.returncode, done.stdout, done.stderr) == (0, whole(device, hardware) + "\n", "")


class Wire:
    """Passes connections on, and remembers how the server's answers begin."""

    def __init__(self, port):
        self.to, self.heads = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            self.heads.append(b"")
            for a, b, at in ((client, server, None), (server, client, len(self.heads) - 1)):
                threading.Thread(target=self.pump, args=(a, b, at), daemon=True).start()

    def pump(self, a, b, at):
        try:
            while data := a.recv(65536):
                if at is not None and len(self.heads[at]) < 4096:
                    self.heads[at] += data
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def versions(self):
        """By the ServerHello: its supported_versions, which TLS 1.3 alone has (RFC 8446, 4.2.1)."""
        found = set()
        for head in filter(None, self.heads):
            assert head[0] == 22 and head[5] == 2
            hello = head[5:9 + int.from_bytes(head[6:9], "big")]
            found.add("TLSv1.3" if b"\x00\x2b\x00\x02\x03\x04" in hello else "TLSv1.2")
        return found

    def close(self):
        self.listener.close()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_it_renews_by_each_version_of_tls(server, key, tmp_path, hardware, version):
    """By EST, against a real server; what is spoken is read off the wire."""
    conf = tmp_path / "openssl.cnf"
    conf.write_text(f"openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nProtocol = -ALL, {version}\n", encoding="ascii")
    wire, device_id = Wire(server.port), f"{hardware.kind}-{version}"
    device = device_with(tmp_path, hardware, "--gateway", f"https://localhost:{wire.port}")
    device.env["OPENSSL_CONF"] = str(conf)
    enrolled(device, key, device_id)
    before = cert(device)
    device.good("run", "--now"), device.good("check")
    assert spki(cert(device)) != spki(before) and wire.versions() == {version}
    whole(device, hardware)
    assert [c["state"] for c in shown(server, device_id)["certificates"]] == ["current", "superseded"]
    wire.close()


# --- keys of a factory ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def factory(server):
    server.account("factory", "test", "both")
    return server.root("factory", None)


def preinstalled(directory, certificate, ca, url):
    """The files of a factory, without the key's."""
    at = own(directory, Identity(certificate, new_key()), ca, url)
    (at / "pkey.pem").unlink()
    return at


def factory_key(hardware):
    """A key that the factory has put there by its own tools: (its URI, its public half)."""
    if hardware.kind == "tpm2":
        return hardware.tpm.uri("0x81000100"), serialization.load_pem_public_key(hardware.tpm.factory_key("0x81000100"))
    tool = ["pkcs11-tool", "--module", str(MODULE), "--token-label", "device", "--login", "--pin", PIN]
    env = {**os.environ, **hardware.env}
    subprocess.run([*tool, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "0b", "--label", "factory"], check=True, capture_output=True, env=env)
    der = subprocess.run([*tool, "--read-object", "--type", "pubkey", "--id", "0b"], check=True, capture_output=True, env=env).stdout
    return hardware.uri("token=device;id=%0b"), serialization.load_der_public_key(der)


@pytest.mark.parametrize("named", ["file", "option"])
def test_a_factorys_key_is_used_where_it_lies(server, factory, tmp_path, hardware, named):
    uri, public = factory_key(hardware)
    at = preinstalled(tmp_path / "import", factory._sign(name(f"made-{hardware.kind}-{named}"), Having(public), (), (-1, 365)), (server.dir / "server-ca.pem").read_bytes(), server.url)
    options = ["--credentials-key", uri] if named == "option" else []
    if named == "file":
        assert "neither" in Agent(tmp_path / "none", env=hardware.env).fails("provision", "--credentials", at)
        (at / "pkey.uri").write_text(uri + "\n", encoding="utf-8")
    device = Agent(tmp_path / "device", *options, env=hardware.env)
    device.hook()
    device.good("provision", "--credentials", at)
    assert device.told == ["imported"] and device.status()["key_uri"] == uri and device.explain()["verdict"] == "admitted"
    assert made_here(device) == [] and len(hardware.keys()) == 1, "it is the factory's, and not copied"
    assert not list(device.dir.rglob("pkey.pem"))
    device.good("run")
    assert device.told == ["imported"] and len(hardware.keys()) == 1


def test_the_key_that_follows_a_factorys_lies_beside_it(tmp_path, hardware):
    """Against a gateway that renews such certificates; the factory's key is not the agent's to remove."""
    uri, public = factory_key(hardware)
    ca = Authority()
    gateway = Gateway(ca.server(), {("POST", EST + "simplereenroll"): issues(ca), ("GET", "/devices"): ADMITTED})
    at = preinstalled(tmp_path / "import", ca.sign(name("car-1"), Having(public), (CLIENT_AUTH,), end=300), ca.pem(), gateway.url)
    (at / "pkey.uri").write_text(uri, encoding="utf-8")
    device = Agent(tmp_path / "device", env=hardware.env)
    device.good("provision", "--credentials", at)
    for _ in range(2):
        device.good("run", "--now")
        status = device.status()
        assert status["key_in"] == hardware.kind and status["key_uri"] != uri and made_here(device) == [status["key_uri"]]
        assert len(hardware.keys()) == 2
    assert ("pin-source" in status["key_uri"]) is (hardware.kind == "pkcs11")
    device.good("run", "--now", "--key", "file")
    assert device.status()["key_in"] == "file" and made_here(device) == [] and len(hardware.keys()) == 1
    gateway.close()


def test_another_key_than_the_certificates_is_found_out(server, factory, tmp_path, hardware):
    uri, _ = factory_key(hardware)
    at = given(server, tmp_path / "import", factory.device(f"another-{hardware.kind}"))
    (at / "pkey.pem").unlink()
    (at / "pkey.uri").write_text(uri, encoding="utf-8")
    device = Agent(tmp_path / "device", env=hardware.env)
    said = device.fails("provision", "--credentials", at)
    assert "another key has its place" in said and "(key_missing)" in said and not (device.dir / "current").exists()
    if hardware.kind == "pkcs11":  # of another kind, which modules say each in its own way
        for number, kind in (("0c", "EC:secp384r1"), ("0d", "RSA:2048")):
            subprocess.run(["pkcs11-tool", "--module", str(MODULE), "--token-label", "device", "--login", "--pin", PIN, "--keypairgen", "--key-type", kind, "--id", number], check=True,
                           capture_output=True, env={**os.environ, **hardware.env})
            said = device.fails("provision", "--now", "--credentials", at, "--credentials-key", hardware.uri(f"token=device;id=%{number}"))
            assert "key and certificate are no pair" in said and "(key_missing)" in said, said


# --- what goes wrong ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mood", ["hangs", "mute"])
def test_a_module_that_hangs_holds_nothing_up(server, key, tmp_path, softhsm, mood):
    """Each command ends, says what hangs, and leaves the directory to the next one; nothing is lost."""
    token, device = softhsm.token, enrolled(device_with(tmp_path, softhsm, "--key-timeout", 1), key, f"hang-{mood}")
    before = device.status()
    token.be(mood)
    said = device.fails("run", "--now")
    assert "not answered within 1 seconds" in said and "(key_timeout)" in said, said
    said = json.loads(device.run("explain", "--json", "--key-timeout", 1).stdout)
    assert (said["code"], said["verdict"], said["side"]) == ("key_timeout", "unknown", "device")
    assert "key_unavailable" not in device.fails("check", "--key-timeout", "1")
    after = device.status()
    assert after["failed"]["code"] == "key_timeout" and after["key_uri"] == before["key_uri"]
    token.no_more(mood)
    device.good("run", "--now")
    assert device.explain()["verdict"] == "admitted"
    whole(device, softhsm)


def test_who_stays_begins_anew_after_a_module_that_hangs(server, key, tmp_path, softhsm):
    """In the place of the process that has it: the time in between is taken away by strace."""
    device = enrolled(device_with(tmp_path, softhsm, "--key-timeout", 1), key, "stays-1")
    softhsm.token.be("mute")
    due(device)
    words = ["strace", "-qq", "-o", tmp_path / "trace", "-e", "trace=execve,clock_nanosleep", "-e", "inject=clock_nanosleep:retval=0", *device.command("run", "--stay")]
    running = subprocess.Popen([str(w) for w in words], env=device.env, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        soon(True, lambda: (tmp_path / "trace").exists() and (tmp_path / "trace").read_text().count("execve(") >= 2, 60)
        assert running.poll() is None and 'execve("/proc/self/exe"' in (tmp_path / "trace").read_text()
    finally:
        os.killpg(running.pid, signal.SIGKILL)  # what strace runs would outlive it
        running.wait()


def test_a_token_that_nobody_may_write_to_signs(server, key, tmp_path, softhsm):
    device = enrolled(device_with(tmp_path, softhsm), key, "readonly-1")
    softhsm.token.be("readonly")
    assert device.explain()["verdict"] == "admitted"
    device.good("run")
    assert "CKR_TOKEN_WRITE_PROTECTED" in device.fails("run", "--now")


def test_a_key_that_wants_its_pin_for_each_signature(server, factory, tmp_path, softhsm):
    """As the signing keys of PIV cards do; and it is tried once where it is refused."""
    tool = ["pkcs11-tool", "--module", str(MODULE), "--token-label", "device", "--login", "--pin", PIN]
    subprocess.run([*tool, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "0c", "--label", "each", "--always-auth"], check=True, capture_output=True, env={**os.environ, **softhsm.env})
    der = subprocess.run([*tool, "--read-object", "--type", "pubkey", "--id", "0c"], check=True, capture_output=True, env={**os.environ, **softhsm.env}).stdout
    signed = factory._sign(name("each-1"), Having(serialization.load_der_public_key(der)), (), (-1, 365))
    at = preinstalled(tmp_path / "import", signed, (server.dir / "server-ca.pem").read_bytes(), server.url)
    (at / "pkey.uri").write_text(softhsm.uri("token=device;id=%0c"), encoding="utf-8")
    device = Agent(tmp_path / "device", env=softhsm.env)
    device.good("provision", "--credentials", at)
    so_far = softhsm.token.logins()
    assert device.explain()["verdict"] == "admitted" and softhsm.token.logins() == so_far + 2


@pytest.mark.parametrize("more, code", [
    (";library-manufacturer=SoftHSM;slot-manufacturer=SoftHSM%20project?x-maker=any", None), (";library-version=99.9", "key_unavailable"), (";slot-description=Nothing", "key_unavailable")])
def test_names_of_libraries_and_slots(tmp_path, softhsm, more, code):
    path, _, query = more.partition("?")
    uri = softhsm.uri("token=device" + path) + ("&" + query if query else "")
    uri = uri.replace("pkcs11:", "PKCS11:", 1)
    ca = Authority()
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): issues(ca), ("GET", "/devices"): ADMITTED})
    device = Agent(tmp_path / "device", "--key", uri, "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1", env=softhsm.env)
    if code:
        assert f"({code})" in device.fails("run")
    else:
        device.good("run")
    assert len(softhsm.keys()) == (0 if code else 1)
    gateway.close()


def test_a_key_that_was_begun_in_another_token_is_none_of_this(tmp_path, softhsm):
    """`key` has named another place since: the key is made there, and the one before does not stay."""
    ca = Authority()
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): refusal(503, "overloaded"), ("GET", "/devices"): ADMITTED})
    device = Agent(tmp_path / "device", "--key", softhsm.place, "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1", env=softhsm.env)
    device.fails("run", status=75)
    assert len(softhsm.keys()) == 1
    softhsm.token.label = "other"
    subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", "other", "--so-pin", "so-pin-1234", "--pin", PIN], check=True, capture_output=True, env={**os.environ, **softhsm.env})
    gateway.answers[("POST", EST + "simpleenroll")] = issues(ca)
    device.options[1] = softhsm.uri("token=other")
    device.good("run", "--now"), device.good("run")
    assert "token=other" in device.status()["key_uri"] and len(softhsm.keys()) == 1
    softhsm.token.label = "device"
    assert softhsm.keys() == [], "the one that was begun there"
    gateway.close()


def test_a_token_that_is_away_full_or_lies(server, key, tmp_path, softhsm):
    token, device = softhsm.token, device_with(tmp_path, softhsm)
    shutil.copy(key.zip, device.top / "credentials.zip")
    options = ("--credentials", device.top / "credentials.zip", "--device-id", "moods-1")
    for mood, code in (("away", "key_unavailable"), ("full", "key_store_full")):
        token.be(mood)
        assert f"({code})" in device.fails("run", *options)
        token.no_more(mood)
        assert device.status()["failed"]["code"] == code and not (device.dir / "current").exists() and softhsm.keys() == []
    device.good("run", *options)
    before, uri = cert(device), whole(device, softhsm)
    for mood, code in (("away", "key_unavailable"), ("full", "key_store_full"), ("lies", "key_missing")):
        token.be(mood)
        said = device.fails("run", "--now", *options)
        assert f"({code})" in said, said
        if mood != "full":
            assert (device.explain()["code"], device.explain()["side"]) == (code, "device")
        assert device.status()["key_uri"] == uri, "nothing of what it has depends on it"
        token.no_more(mood)
        assert device.explain()["verdict"] == "admitted"
    assert cert(device) == before
    device.good("run", "--now", *options)
    assert cert(device) != before
    whole(device, softhsm)


def test_an_old_key_is_removed_when_the_token_is_back(server, key, tmp_path, softhsm):
    """Away just when the old key should go: the renewal counts, and the key goes at a later pass."""
    device = enrolled(device_with(tmp_path, softhsm), key, "later-1")
    old = whole(device, softhsm)
    device.hook(f"touch {softhsm.token.dir}/away\n", "90-away")
    said = device.run("run", "--now")
    assert said.returncode == 0 and "could not be removed yet" in said.stderr and "CKR_" in said.stderr or "is in no slot" in said.stderr
    assert device.status()["keys_left"] == 1 and made_here(device)[0] == old and device.status()["key_uri"] == made_here(device)[1]
    softhsm.token.no_more("away")
    assert len(softhsm.keys()) == 2
    device.good("run")
    whole(device, softhsm)


def test_the_old_key_stays_until_hooks_were_told(server, key, tmp_path, hardware):
    device = enrolled(device_with(tmp_path, hardware), key, f"told-{hardware.kind}")
    device.hook('[ -e "$MUSTER_AGENT_DIR/../ready" ] || exit 1\n', "50-slow")
    device.fails("run", "--now")
    assert len(hardware.keys()) == 2 and device.status()["hooks_due"] and device.status()["keys_left"] == 1
    (device.top / "ready").touch()
    device.good("run")
    whole(device, hardware)


def test_a_hook_that_fails_for_ever(server, key, tmp_path, hardware):
    """It keeps the key that it was told of, and no further one; and where there is no room for that, not even that."""
    device = enrolled(device_with(tmp_path, hardware), key, f"deaf-{hardware.kind}")
    first = whole(device, hardware)
    device.hook("exit 1\n", "50-deaf")
    for _ in range(3):
        assert "50-deaf failed" in device.fails("run", "--now")
        assert made_here(device) == [first, device.status()["key_uri"]] and len(hardware.keys()) == 2
    if hardware.kind == "tpm2":
        taken = 0
        try:
            while taken < 64:
                hardware.tpm.factory_key(f"0x8100{taken:04x}")
                taken += 1
        except subprocess.CalledProcessError:
            hardware.forget()
        said = device.fails("run", "--now")
        assert "there is no room for another key" in said and "50-deaf failed" in said and made_here(device)[0] != first, said
    (device.hooks / "50-deaf").unlink()
    device.good("run")
    assert made_here(device) == [device.status()["key_uri"]] and not (device.dir / "hooks-key").exists()


def due(device):
    """It has something to ask with its key at the next pass."""
    device.remember(anchors_at=0)


def test_a_wrong_pin_is_not_tried_until_the_token_is_locked(server, key, tmp_path, softhsm):
    """One try of each PIN, whoever asks: run, check, explain, by a file that is written anew as often as somebody likes."""
    token, device = softhsm.token, enrolled(device_with(tmp_path, softhsm), key, "pin-1")
    token.set_pin("0000-wrong")
    tried = token.logins()
    done = device.run("check")
    assert done.returncode == 1 and "CKR_PIN_INCORRECT" in done.stderr and "0000-wrong" not in done.stderr and token.logins() == tried + 1
    for _ in range(2):
        due(device)
        token.pin_file.unlink(), token.set_pin("0000-wrong")
        assert "was refused before" in device.fails("run")
        assert (device.explain()["code"], device.explain()["side"]) == ("key_pin_refused", "device")
        assert "was refused before" in device.run("check").stderr
    assert token.logins() == tried + 1
    said = device.fails("run", "--now")
    assert "CKR_PIN_INCORRECT" in said and "(key_pin_refused)" in said and token.logins() == tried + 2, "once, whatever a pass has to do"
    refusals = device.dir / "pins-refused"
    assert refusals.stat().st_mode & 0o777 == 0o600 and "0000" not in refusals.read_text(encoding="ascii")
    token.set_pin("1111-wrong"), due(device)
    device.fails("run"), device.fails("run")
    assert token.logins() == tried + 3
    token.set_pin(PIN), due(device)
    for mood, said in (("last", "locks itself at the next wrong PIN"), ("locked", "too many wrong PINs")):
        token.be(mood), due(device)
        assert said in device.fails("run") and said in device.run("check").stderr and token.logins() == tried + 3
        token.no_more(mood)
        device.good("run"), device.good("check")
        tried = token.logins() - 3
    token.set_pin("0000-wrong"), due(device)
    assert "was refused before" in device.fails("run"), "it is as wrong as it was"
    token.set_pin(PIN)
    device.good("run", "--now")
    whole(device, softhsm)


def test_a_pin_that_becomes_right(server, key, tmp_path, softhsm):
    """The token got the PIN of the file: --now tries it once more, and from then on it is like any other."""
    device = enrolled(device_with(tmp_path, softhsm), key, "pin-2")
    softhsm.token.set_pin("3333-later")
    device.fails("run", "--now"), due(device)
    assert "was refused before" in device.fails("run")
    subprocess.run(["pkcs11-tool", "--module", MODULE, "--token-label", "device", "--login", "--pin", PIN, "--change-pin", "--new-pin", "3333-later"], check=True, capture_output=True,
                   env={**os.environ, **softhsm.env}, timeout=60)
    assert "was refused before" in device.fails("run")
    device.good("run", "--now"), due(device)
    device.good("run"), device.good("check")
    assert not (device.dir / "pins-refused").exists()


LATE = r"""
#include <muster-agent.h>
#include <openssl/ssl.h>
#include <stdio.h>

int main(int argc, char **argv) {
    muster_agent *a = muster_agent_new();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    int taken = 0;
    if (!a || muster_agent_set(a, "dir", argv[1]))
        return 10;
    for (int i = 0; i < 5; i++)
        taken += muster_agent_use(a, ctx) == MUSTER_AGENT_DONE && SSL_CTX_check_private_key(ctx) == 1;
    printf("%d %s", taken, muster_agent_error_code(a));
    SSL_CTX_free(ctx);
    muster_agent_free(a);
    return 0;
}
"""


def test_a_program_in_c_does_not_try_it_either(server, key, tmp_path, softhsm):
    device = enrolled(device_with(tmp_path, softhsm), key, "pin-3")
    source = pathlib.Path(__file__).parents[2] / "src" / "agent"
    (tmp_path / "late.c").write_text(LATE, encoding="utf-8")
    subprocess.run(["cc", "-Wall", "-Werror", "-I", source, "late.c", "-o", "late", "-L", BUILD / "src", "-lmuster-agent", "-lssl", "-lcrypto"], cwd=tmp_path, check=True)
    told = []
    for pin in (PIN, "0000-wrong", PIN):
        softhsm.token.set_pin(pin)
        device.run("check")
        tried = softhsm.token.logins()
        told.append(subprocess.run(["./late", device.dir], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120, env={**device.env, "LD_LIBRARY_PATH": str(BUILD / "src")}).stdout)
        assert softhsm.token.logins() == tried
    assert told == ["5 ", "0 key_pin_refused", "5 "]


def test_a_pin_that_moves(server, key, tmp_path, softhsm):
    """Who writes another place of the PIN into pkey.uri does not lose the key by it."""
    device = enrolled(device_with(tmp_path, softhsm), key, "moves-1")
    uri, elsewhere = device.dir / "current" / "pkey.uri", tmp_path / "elsewhere.pin"
    shutil.copy(softhsm.token.pin_file, elsewhere)
    uri.write_text(uri.read_text(encoding="utf-8").replace(str(softhsm.token.pin_file), str(elsewhere)), encoding="utf-8")
    device.good("run"), device.good("check")
    assert len(softhsm.keys()) == 1 and str(elsewhere) in device.status()["key_uri"] and device.status()["keys_left"] == 0
    device.good("run", "--now")
    whole(device, softhsm)
    name = device.dir / "current" / "pkey.uri"
    name.rename(tmp_path / "taken")
    device.run("run")
    (tmp_path / "taken").rename(name)
    assert device.explain()["verdict"] == "admitted", "nor who has taken it away"


def test_a_key_is_known_by_what_it_is(server, key, tmp_path, softhsm):
    """By its label alone: it is not removed for its other name, and does not keep others from being removed; by a `key` that says where the PIN went it is found again."""
    device = enrolled(device_with(tmp_path, softhsm), key, "label-1")
    uri, old = device.dir / "current" / "pkey.uri", whole(device, softhsm)
    uri.write_text(softhsm.uri("token=device;object=muster-agent"), encoding="utf-8")
    tool = ["pkcs11-tool", "--module", str(MODULE), "--token-label", "device", "--login", "--pin", PIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "0c", "--label", "vain"]
    subprocess.run(tool, check=True, capture_output=True, env={**os.environ, **softhsm.env})
    (device.dir / "keys").write_text(old + "\n" + softhsm.uri("token=device;id=%0c") + "\n", encoding="utf-8")
    device.good("run"), device.good("check")
    assert made_here(device) == [old] and len(softhsm.keys()) == 1
    uri.write_text(old, encoding="utf-8")
    elsewhere = tmp_path / "elsewhere.pin"
    softhsm.token.pin_file.rename(elsewhere)
    assert "pin" in device.fails("run", "--now")
    device.options = ["--key", softhsm.uri(**{"pin-source": f"file:{elsewhere}"})]
    device.good("run"), device.good("check")
    assert str(elsewhere) in device.status()["key_uri"]
    device.good("run", "--now")
    whole(device, softhsm)


def test_a_pin_from_elsewhere(server, key, tmp_path, softhsm):
    """A variable that is not set was not refused; and nobody gets it whom the agent starts."""
    device = device_with(tmp_path, softhsm, "--key", softhsm.uri(**{"pin-source": "env:CAR_PIN"}), "--device-id-command", f'echo "${{CAR_PIN-none}}" >{tmp_path}/id-saw; echo env-1')
    device.hook('echo "${CAR_PIN-none}" >> "$MUSTER_AGENT_DIR/../saw"\n', "60-saw")
    shutil.copy(key.zip, device.top / "credentials.zip")
    options = ("--credentials", device.top / "credentials.zip")
    with_pin = {"CAR_PIN": PIN}
    assert "CAR_PIN" in device.fails("provision", *options)
    device.good("provision", *options, env=with_pin)
    assert whole(device, softhsm).endswith("pin-source=env:CAR_PIN")
    due(device)
    assert "CAR_PIN" in device.fails("run") and (device.explain()["code"], device.explain()["side"]) == ("key_pin_refused", "device")
    device.good("run", env=with_pin), device.good("check", env=with_pin)
    assert (device.top / "saw").read_text().split() == ["none"] and (tmp_path / "id-saw").read_text() == "none\n"
    shows = ("--", "sh", "-c", 'echo "${CAR_PIN-none}"')
    assert device.good("exec", *shows, env=with_pin) == "none\n" and device.good("exec", "--with-pin", *shows, env=with_pin) == PIN + "\n"
    device.options = ["--key", softhsm.uri()]
    softhsm.token.pin_file.chmod(0o644)
    assert "(key_pin_refused)" in device.fails("run", "--now", env=with_pin), "others can read it"


def test_a_tpm_with_authorisation_values(server, key, tmp_path, tpm):
    (tmp_path / "pin").write_text("key-pin\n"), (tmp_path / "owner").write_text("owner-pin\n")
    (tmp_path / "pin").chmod(0o600), (tmp_path / "owner").chmod(0o600)
    tpm.tpm.run("tpm2_changeauth", "-c", "owner", "owner-pin")
    device = device_with(tmp_path, tpm)
    shutil.copy(key.zip, device.top / "credentials.zip")
    options = ("--credentials", device.top / "credentials.zip", "--device-id", "auth-1")
    said = device.fails("provision", *options)
    assert "authorisation value is wrong" in said and "owner-pin-source" in said and tpm.keys() == []
    place = tpm.tpm.uri("0x81400010", pin_source=f"file:{tmp_path}/pin", owner_pin_source=f"file:{tmp_path}/owner")
    device.options = ["--key", place]
    device.good("provision", *options)
    device.good("run", "--now")
    assert whole(device, tpm).startswith("tpm2:0x81400011;spki="), "0x81400010 was the first one's"

    (tmp_path / "owner").write_text("wrong\n")  # who owns the TPM is no matter of the key in use
    assert "owner-pin-source" in device.fails("run", "--now")
    due(device)
    device.good("run"), device.good("check")
    (tmp_path / "owner").rename(tmp_path / "away")
    assert "owner-pin-source" in device.fails("run", "--now")
    due(device)
    device.good("run"), device.good("check")
    (tmp_path / "away").rename(tmp_path / "owner"), (tmp_path / "owner").write_text("owner-pin\n")
    device.good("run", "--now")
    whole(device, tpm)

    (tmp_path / "pin").write_text("wrong\n")
    assert "(key_pin_refused)" in device.fails("run", "--now")
    assert device.explain()["code"] == "key_pin_refused"
    (tmp_path / "pin").write_text("key-pin\n"), due(device)
    device.good("run", "--now")  # what was begun with the wrong one is given up
    whole(device, tpm)
    (tmp_path / "pin").write_text("0123456789" * 4)
    assert "more than 32 bytes" in device.fails("run", "--now", "--key", place.replace("0x81400010", "0x81400020"))


def test_a_tpm_without_power(server, key, tmp_path, tpm):
    """A TPM counts a power cut as a wrong try where a key says so: the agent's do not, and a TPM that is locked for a while is waited for."""
    (tmp_path / "pin").write_text("key-pin\n")
    (tmp_path / "pin").chmod(0o600)
    device = enrolled(device_with(tmp_path, tpm, "--key", tpm.tpm.uri(pin_source=f"file:{tmp_path}/pin")), key, "power-1")
    for _ in range(5):
        tpm.tpm.process.kill(), tpm.tpm.stop(), tpm.tpm.start()
        due(device)
        device.good("run")


def test_a_tpm_that_is_locked_for_a_while(tmp_path, tpm):
    """By a factory's key, whose wrong tries the chip counts: it is waited for, and nothing that was right is known as refused."""
    pin = tmp_path / "pin"
    pin.write_text("key-pin")
    pin.chmod(0o600)
    public = serialization.load_pem_public_key(tpm.tpm.factory_key("0x81000100", pin="key-pin"))
    ca = Authority(ekus=())
    gateway = Gateway(ca.server(), {("GET", "/devices"): ADMITTED}, client_ca=ca)
    at = preinstalled(tmp_path / "import", ca.sign(name("car-1"), Having(public), (CLIENT_AUTH,), end=300), ca.pem(), gateway.url)
    (at / "pkey.uri").write_text(tpm.tpm.uri("0x81000100", pin_source=f"file:{pin}"), encoding="utf-8")
    device = Agent(tmp_path / "device")
    device.good("provision", "--credentials", at)
    for word in ("wrong-1", "wrong-1", "wrong-2", "wrong-3"):
        pin.write_text(word)
        assert device.run("check").returncode == 1
    pin.write_text("key-pin"), due(device)
    assert "locked for a while" in device.fails("run") and (device.explain()["code"], device.explain()["verdict"]) == ("key_unavailable", "unknown")
    tpm.tpm.run("tpm2_dictionarylockout", "-c"), due(device)
    device.good("run"), device.good("check")
    gateway.close()


def test_a_tpm_that_was_away(server, key, tmp_path, tpm):
    device = enrolled(device_with(tmp_path, tpm), key, "gone-1")
    tpm.tpm.stop()
    assert "(key_unavailable)" in device.fails("run", "--now") and device.explain()["code"] == "key_unavailable"
    tpm.tpm.start()
    device.good("run", "--now")
    uri = whole(device, tpm)
    tpm.tpm.run("tpm2_evictcontrol", "-Q", "-C", "o", "-c", re.match(r"tpm2:(0x\w+)", uri)[1])
    assert (device.explain()["code"], device.explain()["verdict"]) == ("key_missing", "refused")
    handle = re.match(r"tpm2:(0x\w+)", uri)[1]
    tpm.tpm.factory_key(handle)  # somebody else's, behind the same handle
    assert "another key has its place" in device.fails("run", "--now") and device.status()["key_uri"] == uri
    assert len(made_here(device)) == 2, "its own, and the next one's, which is begun"
    shutil.rmtree(device.dir / os.readlink(device.dir / "current")), (device.dir / "current").unlink()
    for path in device.dir.glob("identity-*"):
        shutil.rmtree(path)
    device.run("run")
    assert made_here(device) == [] and tpm.keys() == [handle], "a key that is not its own is not removed"


def test_a_tpm_that_hangs_up(tmp_path):
    """A program that uses the agent's library does not end because a simulator has: no SIGPIPE."""
    ca, path = Authority(), tmp_path / "tpm"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path)), listener.listen()

    def hang_up():
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=hang_up, daemon=True).start()
    device = Agent(tmp_path / "device", "--key", f"tpm2:?device={path}")
    device.program = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=connect", "-e", "inject=connect:delay_exit=100000", device.program]
    gateway = Gateway(ca.server())
    said = device.fails("provision", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    assert "gave no answer" in said and "(key_unavailable)" in said
    gateway.close()
    listener.close()


class Between:
    """Before the TPM, where there is no resource manager: it may change what one command is answered."""
    CREATE_PRIMARY, EVICT_CONTROL = 0x131, 0x120

    def __init__(self, tpm, path, command, change):
        self.tpm, self.command, self.change = tpm, command, change
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path)), self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                one = self.listener.accept()[0]
            except OSError:
                return
            with one, socket.socket(socket.AF_UNIX) as chip:
                chip.connect(str(self.tpm.socket))
                while asked := one.recv(4096):
                    change = self.change if int.from_bytes(asked[6:10], "big") == self.command else None
                    if callable(change) or change is None:
                        chip.sendall(asked)
                        answer = chip.recv(4096)
                    one.sendall(answer if change is None else change(answer) if callable(change) else change)


@pytest.mark.parametrize("command, change", [(Between.EVICT_CONTROL, bytes.fromhex("80010000000a0000014b")), (Between.CREATE_PRIMARY, lambda a: a[:18] + b"\0\0" + a[20:])],
                         ids=["no room", "odd"])
def test_what_was_made_in_a_tpm_and_not_kept_is_flushed(tmp_path, tpm, command, change):
    """A TPM has room for three keys to work with: where nobody else removes them, the fourth attempt finds none."""
    ca, path = Authority(), tpm.tpm.dir / "between"
    between = Between(tpm.tpm, path, command, change)
    gateway = Gateway(ca.server(), {("POST", EST + "simpleenroll"): issues(ca), ("GET", "/devices"): ADMITTED})
    device = Agent(tmp_path / "device", "--key", f"tpm2:?device={path}")
    options = ("--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    for _ in range(4):
        assert "no room for another key to work with" not in device.fails("provision", *options)
        assert tpm.tpm.run("tpm2_getcap", "handles-transient") == "" and tpm.keys() == []
    between.change = None
    device.good("provision", *options)
    assert len(tpm.keys()) == 1 and tpm.tpm.run("tpm2_getcap", "handles-transient") == ""
    between.listener.close(), gateway.close()


def test_a_gateway_that_would_make_the_key_is_not_asked_to(tmp_path, hardware):
    ca = Authority()
    gateway = Gateway(ca.server(), {("POST", "/devices"): refusal(500, "never")})
    device = device_with(tmp_path, hardware)
    said = device.fails("provision", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    assert "would not lie in this device's hardware" in said and ("POST", "/devices") not in gateway.paths()
    gateway.close()


def test_a_stock_aktualizr_is_told_of_the_key(server, key, tmp_path, softhsm):
    """The hook of doc/agent.md: what aktualizr makes of it ("id=%" and the ID, its P11Engine) names the key in use."""
    text = (pathlib.Path(__file__).parents[2] / "doc" / "agent.md").read_text(encoding="utf-8")
    hook = textwrap.dedent(re.search(r"    #!/bin/sh\n    # /etc/muster-agent/hooks.d/40-aktualizr-key\n(?:    .*\n)+", text)[0])
    hook = hook.replace("/etc/sota/conf.d", str(tmp_path)).replace("/etc/muster-agent.pin", str(softhsm.token.pin_file))
    device = device_with(tmp_path, softhsm)
    device.hook(hook.partition("\n")[2], "40-aktualizr-key")
    enrolled(device, key, "stock-key-1")
    device.good("run", "--now")
    told = tomllib.loads((tmp_path / "60-key.toml").read_text(encoding="utf-8"))
    assert told["tls"] == {"pkey_source": "pkcs11"} and (told["p11"]["module"], told["p11"]["pass"]) == (str(MODULE), PIN)
    assert bytes(urllib.parse.unquote_to_bytes("%" + told["p11"]["tls_pkey_id"])).hex() == softhsm.keys()[0] and len(softhsm.keys()) == 1
    assert (tmp_path / "60-key.toml").stat().st_mode & 0o777 == 0o600


def test_a_device_moves_with_its_next_key(server, key, tmp_path, hardware):
    device = enrolled(device_with(tmp_path, None), key, f"moves-{hardware.kind}")
    assert device.status()["key_in"] == "file"
    device.env.update(hardware.env)
    device.good("run", "--now", "--key", hardware.place)
    uri = whole(device, hardware)
    assert not list(device.dir.rglob("pkey.pem")) and device.status()["key_uri"] == uri
    device.good("run", "--now", "--key", "file")
    assert device.status()["key_in"] == "file" and hardware.keys() == [] and not (device.dir / "keys").exists()


@pytest.mark.parametrize("option, said", [("key=pkcs11:token=a?pin-value=1", "A PIN does not belong into a URI"), ("key=/etc/key.pem", "neither file, nor tpm2"),
                                          ("key=tpm2:0x40000001", "0x81000000"), ("key=pkcs11:object=x", "names no token"), ("credentials-key=pkcs11:token=a", "names no key")])
def test_names_that_cannot_be_meant(tmp_path, option, said):
    device = Agent(tmp_path / "device")
    assert said in device.fails("provision", "--" + option, status=2)
    (tmp_path / "conf").write_text(option.replace("=", " = ", 1) + "\n")
    told = device.fails("provision", "--config", tmp_path / "conf", status=2)
    assert said in told and "line 1" in told


# --- kill -9 ------------------------------------------------------------------------------------------------------------------------------------------


STEPS = "fsync,rename,renameat,mkdirat,symlinkat,unlinkat,connect,sendto"


def killed(device, at, *words):
    """A run that ends at its at-th step, behind it or before; whether it came so far."""
    program = device.program
    device.program = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={STEPS}", "-e", f"inject={STEPS}:signal=KILL:when={at}", program]
    done = device.run(*words)
    device.program = program
    assert done.returncode in (0, -9, 137), done.stderr
    return done.returncode != 0


def test_killed_at_any_instant(server, key, tmp_path, hardware):
    """Enrolling and renewing, killed at each step that others see: it goes on by itself, with one key in the hardware."""
    at, every = 1, 1 if LONG else 5
    shutil.copy(key.zip, tmp_path / "credentials.zip")
    while True:
        device = device_with(tmp_path / f"device-{at}", hardware)
        shutil.copy(key.zip, device.top / "credentials.zip")
        options = ("--credentials", device.top / "credentials.zip", "--device-id", f"killed-{hardware.kind}-{at}", "--now")
        reached = killed(device, at, "provision", *options)
        hardware.forget()
        device.good("provision", *options)
        first = whole(device, hardware)
        killed(device, at, "run", "--now")
        hardware.forget()
        device.good("run", "--now")
        assert whole(device, hardware) != first
        assert shown(server, f"killed-{hardware.kind}-{at}")["spki"] == spki(cert(device))
        for path in device.dir.glob("identity-*"):
            shutil.rmtree(path)
        (device.dir / "current").unlink()
        device.run("run")  # what it has made goes with it
        assert hardware.keys() == [] and not (device.dir / "keys").exists()
        if not reached:
            break
        at += every
    assert at > 20

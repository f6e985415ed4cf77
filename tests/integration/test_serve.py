"""The server's own command lines from the outside: a reload that renames files, host names, --json, what is said where something is wrong."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from client import Fleet
from conftest import MUSTER, MUSTERD, refused, soon

SERVER = [(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]
UNCONFINED = "sandbox" in os.environ.get("MUSTER_TEST_CONFIG", "")


def run(program, *args):
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=60, check=False)


def serial(gateway):
    with gateway.connect() as c:
        return x509.load_der_x509_certificate(c.getpeercert(True)).serial_number


def renamed(directory, identity):
    """The certificate and key as a renewal leaves them: new files in the place of the old ones."""
    for file, name in ((identity.cert_file, "cert.pem"), (identity.key_file, "key.pem")):
        new = directory / (name + ".new")
        new.write_bytes(pathlib.Path(file).read_bytes())
        new.chmod(0o600)
        new.rename(directory / name)


class Own:
    """A server with the operator's own certificate in `directory`, and a device that is let in."""

    def __init__(self, fresh, directory):
        self.directory, self.ca = directory, Fleet("Operator's server CA")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.first = self.put()
        self.server = fresh(start=False, config=[f"server_certificate = {directory}/cert.pem", f"server_key = {directory}/key.pem"])
        with open(self.server.dir / "server-ca.pem", "ab") as f:
            f.write(self.ca.root_pem())
        self.server.start()
        self.server.account("reload", "test", "device")
        self.gateway = self.server.gateway(self.server.root("reload").device("reload-device"))

    def put(self, ca=None):
        identity = (ca or self.ca).device("localhost", extensions=SERVER)
        renamed(self.directory, identity)
        return identity.cert.serial_number

    def hangup(self):
        self.server.process.send_signal(signal.SIGHUP)

    def wait_log(self, event, count=1):
        soon(True, lambda: self.server.log_text().count(event) >= count, 20)


@pytest.fixture(params=["a directory of its own", "one with directories in it"])
def own(request, fresh, tmp_path):
    where = tmp_path / "own"
    o = Own(fresh, where)
    o.in_place = request.param == "a directory of its own"
    if not o.in_place:  # what the gateway may read is found when it starts
        o.server.stop()
        (where / "more").mkdir()
        o.server.start()
    return o


def test_renamed_files_are_taken_on_sighup_and_nobody_is_refused(own):
    s, g = own.server, own.gateway
    gateway, control = s.child("gateway"), s.child("control")
    with g.connect() as kept:
        assert g.on(kept, "GET", "/x").status == 404
        second = own.put()
        own.hangup()
        end = time.monotonic() + 20
        while (now := serial(g)) != second:  # each of these connections has to succeed
            assert now == own.first and time.monotonic() < end
        if own.in_place or UNCONFINED:
            assert g.on(kept, "GET", "/x").status == 404, "the connection from before goes on"
    assert s.child("control") == control, "control has no use for the files"
    if own.in_place or UNCONFINED:
        assert s.child("gateway") == gateway
    else:
        soon(False, lambda: pathlib.Path(f"/proc/{gateway}").exists(), 40)
        assert s.child("gateway") != gateway
    third = own.put()
    own.hangup()
    soon(third, lambda: serial(g), 20)


def test_a_certificate_that_does_not_chain_leaves_the_old_one_in_use(own):
    s, g = own.server, own.gateway
    gateway = s.child("gateway")
    own.put(Fleet("Nobody's CA"))
    own.hangup()
    own.wait_log("does not chain")
    if not own.in_place and not UNCONFINED:
        own.wait_log("gateway_not_replaced")
    for _ in range(20):
        assert serial(g) == own.first
        time.sleep(0.05)
    assert s.child("gateway") == gateway
    assert s.log_text().count("does not chain") == 1, "it is not tried again by itself"
    assert g.get("/x").status == 404
    third = own.put()
    own.hangup()
    soon(third, lambda: serial(g), 20)


def test_sighups_in_a_row_end_with_the_newest(own):
    for _ in range(5):
        newest = own.put()
        own.hangup()
        time.sleep(0.1)
    soon(newest, lambda: serial(own.gateway), 60)


def test_links_are_followed_as_certbot_makes_them(fresh, tmp_path):
    live, archive = tmp_path / "live", tmp_path / "archive"
    live.mkdir()
    own = Own(fresh, archive)
    s, g = own.server, own.gateway
    s.stop()
    text = (s.dir / "musterd.conf").read_text(encoding="utf-8").replace(str(archive), str(live))
    (s.dir / "musterd.conf").write_text(text, encoding="utf-8")
    for name in ("cert.pem", "key.pem"):
        (live / name).symlink_to(archive / name)
    s.start()
    gateway, old = s.child("gateway"), own.directory
    assert serial(g) == own.first
    second = own.ca.device("localhost", extensions=SERVER)
    for file, name in ((second.cert_file, "cert.pem"), (second.key_file, "key.pem")):
        (old / f"2-{name}").write_bytes(pathlib.Path(file).read_bytes())
        (live / f"{name}.new").symlink_to(old / f"2-{name}")
        (live / f"{name}.new").rename(live / name)
    own.hangup()
    soon(second.cert.serial_number, lambda: serial(g), 20)
    assert s.child("gateway") == gateway


def test_hosts_are_taken_as_certificates_have_them(fresh):
    s = fresh("--host", "GW.Example.com", "--host", "other.Example.", "--host", "localhost")
    assert s.url.startswith("https://gw.example.com:")
    assert serial(s.gateway(sni="gw.example.com")) == serial(s.gateway(sni="other.example"))
    s.stop()
    conf = (s.dir / "musterd.conf").read_text(encoding="utf-8")
    assert "\nhost = gw.example.com other.example localhost\n" in conf
    (s.dir / "musterd.conf").write_text(conf.replace("host = gw.example.com", "host = GW2.Example.com."), encoding="utf-8")
    s.start()
    assert s.url.startswith("https://gw2.example.com:")
    s.gateway(sni="gw2.example.com").connect().close()


def test_as_many_and_as_long_hosts_as_are_taken_can_be_read_back(fresh):
    longest = ".".join(["a" * 62] * 3)
    assert len(longest) == 188
    many = [word for i in range(30) for word in ("--host", f"gateway-{i}.Example.com")]
    s = fresh("--host", "localhost", "--host", longest.upper() + "b.", *many)
    s.gateway().connect().close()
    s.gateway(sni=longest + "b").connect().close()


@pytest.mark.parametrize("host", ["a_b", "-a", "a-", "a..b", ".", "..", "*.example", "a" * 64, ".".join(["a" * 62] * 4), "a:b", "ä.example"])
def test_a_host_that_no_certificate_can_have_is_refused(tmp_path, fresh, host):
    done = run(MUSTERD, "init", "--data", tmp_path / "refused", "--host", host)
    assert done.returncode == 2 and "--host" in done.stderr
    assert not (tmp_path / "refused").exists()
    if host != ".".join(["a" * 62] * 4):  # the reader refuses that line
        s = fresh(start=False)
        conf = (s.dir / "musterd.conf").read_text(encoding="utf-8")
        (s.dir / "musterd.conf").write_text(conf.replace("#host = localhost", f"host = {host}"), encoding="utf-8")
        done = run(MUSTERD, "serve", "--data", s.dir)
        assert done.returncode == 2 and "config_invalid" in done.stderr


def test_init_writes_no_line_that_serve_cannot_read(tmp_path):
    done = run(MUSTERD, "init", "--data", tmp_path / "d", "--master-key-file", "/" + "k" * 190)
    assert done.returncode == 2 and "master_key_file" in done.stderr
    assert not (tmp_path / "d").exists()


def test_every_command_prints_an_object_with_json(server, tmp_path):
    reset = server.musterd("token", "reset", "--json")
    assert reset.returncode == 0, reset.stderr
    said = json.loads(reset.stdout)
    assert pathlib.Path(said["admin_token_file"]) == server.dir / "admin.token"
    accepted = server.musterd("clock", "accept", "--json")
    assert accepted.returncode == 0 and json.loads(accepted.stdout)["accepted"].endswith("Z")
    assert server.musterd("clock", "accept").stdout == ""
    server.account("exported", "test", "shared")
    (tmp_path / "passphrase").write_text("a long passphrase of the export\n", encoding="utf-8")
    (tmp_path / "passphrase").chmod(0o600)
    done = server.musterd("vault", "export", "--account", "exported", "--passphrase-file", tmp_path / "passphrase", "-o", tmp_path / "root.pem", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"id": "exported", "output": str(tmp_path / "root.pem")}
    assert "BEGIN ENCRYPTED PRIVATE KEY" in (tmp_path / "root.pem").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [("serve",), ("token", "reset"), ("clock", "accept")])
def test_a_missing_data_directory_is_called_that(tmp_path, command):
    (tmp_path / "empty").mkdir()
    for where in (tmp_path / "missing", tmp_path / "empty"):
        done = run(MUSTERD, *command, "--data", where)
        assert done.returncode == 1
        assert "(data_missing)" in done.stderr and "musterd init" in done.stderr
        assert "account" not in done.stderr


def test_help_of_what_is_no_command(tmp_path):
    for words in (["foo", "--help"], ["--help", "foo"], ["foo"], ["account", "foo", "--help"]):
        done = run(MUSTER, *words)
        assert done.returncode == 2 and "is not a command" in done.stderr and not done.stdout, words
    whole = run(MUSTER, "--help")
    assert whole.returncode == 0 and "account" in whole.stdout
    for words in (["--json", "--help"], ["--help", "--json"], ["--data", str(tmp_path), "--help"]):
        done = run(MUSTER, *words)
        assert (done.returncode, done.stdout) == (0, whole.stdout), words
    noun = run(MUSTER, "account", "--help", "--json")
    assert noun.returncode == 0 and re.search("account +create ", noun.stdout) and "whoami" not in noun.stdout


@pytest.mark.parametrize("device_id", [".", ".."])
def test_a_device_whose_id_is_dots_is_named_by_it(server, device_id):
    account = "dots" + str(len(device_id))
    server.account(account, "test", "shared")
    server.gateway(server.key(account)).enrol(device_id)
    assert server.muster("device", "show", device_id, "--account", account)["device_id"] == device_id
    server.muster("device", "revoke", device_id, "--account", account)
    assert server.muster("device", "show", device_id, "--account", account)["state"] == "revoked"


def test_account_set_shows_its_reach_and_asks(server):
    server.account("reach", "test", "both")
    key = server.key("reach")
    assert server.gateway(key).enrol("reach-1").status == 200
    assert server.gateway(key).enrol("reach-2").status == 200
    said = refused("confirmation_required", server.muster, "account", "set", "reach", "--method", "device")
    assert "2 device" in said.text and "--yes" in said.text
    assert server.muster("account", "show", "reach")["method"] == "both"
    assert server.muster("account", "set", "reach", "--method", "device", "--yes")["method"] == "device"


def test_a_port_that_is_taken_for_a_moment_is_waited_for(fresh):
    """The processes of a server that was killed are a moment behind it."""
    s = fresh()
    s.stop(signal.SIGKILL)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until = time.monotonic() + 5
        while True:
            try:
                taken.bind(("127.0.0.1", s.port))
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
        taken.listen(1)
        threading.Timer(1, taken.close).start()
        s.start()
    assert s.api("GET", "/healthz", token=False).status == 200


def test_a_port_that_stays_taken_is_named(fresh):
    s = fresh(start=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        done = s.musterd("serve", "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0")
    assert done.returncode == 1 and f"After 3 seconds still: listen: nothing can listen on port {port}: Address already in use" in done.stderr


def test_an_end_that_is_not_clean_is_told(fresh):
    """A process that dies while the server ends: the log says so, and so does the exit status."""
    s = fresh()
    gateway = s.child("gateway")
    with s.gateway().connect() as c:
        c.sendall(b"GET / HTTP/1.1\r\n")  # half a head: the gateway gives it a second
        os.kill(s.process.pid, signal.SIGTERM)
        soon(True, lambda: " ending" in s.log_text())
        os.kill(gateway, signal.SIGKILL)
        assert s.process.wait(20) == 1
    assert "The process gateway did not end well" in s.log_text()

"""muster-agent against a running server: how a device gets its identity, by each method, and how other programs find it."""
import json
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile
import zipfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent import AGENT, NOT_YET, PEM, Agent, Authority, certificates, own
from client import Fleet, Gateway, Registration, key_pem, new_key, spki_hash
from conftest import soon
from est import Holder


@pytest.fixture
def device(tmp_path):
    return Agent(tmp_path / "device")


@pytest.fixture
def key(server):
    if "fleet" not in [a["id"] for a in server.muster("account", "list")]:
        server.account("fleet", "test", "both")
    return server.key("fleet")


def shown(server, device_id, account="fleet"):
    return server.muster("device", "show", device_id, "--account", account)


def admits(server, device):
    return server.gateway(device.identity).get("/director/2.root.json").code == "not_found"


# --- shared credentials ---------------------------------------------------------------------------------------------------------------------


def test_a_device_gets_a_certificate_for_a_key_of_its_own(server, device, key):
    device.hook()
    said = device.run("provision", "--credentials", key.zip, "--device-id", "car-1")
    assert said.returncode == 0 and said.stdout == "" and "car-1: enrolled, until 20" in said.stderr
    here = device.dir / "current"
    assert os.readlink(here) == "identity-1" and sorted(p.name for p in here.iterdir()) == ["client.pem", "gateway.url", "pkey.pem", "root.crt"]
    assert stat.S_IMODE((here / "pkey.pem").stat().st_mode) == 0o600 and stat.S_IMODE((here / "client.pem").stat().st_mode) == 0o644
    assert (here / "gateway.url").read_text() == server.url + "\n" and (here / "root.crt").read_bytes() == (server.dir / "server-ca.pem").read_bytes()
    mine = device.identity
    assert mine.common_name == "car-1" and spki_hash(Holder(mine.cert)) == mine.spki and mine.key.curve.name == "secp256r1"
    found = shown(server, "car-1")
    assert (found["state"], found["spki"], found["key"]) == ("active", mine.spki, key.shown["id"]), "it was used, so that it is the device's"
    assert device.told == ["enrolled"] and admits(server, device)
    assert not (device.dir / "hooks-due").exists() and stat.S_IMODE((device.dir / "state.json").stat().st_mode) == 0o600

    status = device.status()
    assert (status["state"], status["device_id"], status["method"], status["key"], status["shared_key_left"]) == ("provisioned", "car-1", "shared", "own", False)
    assert status["certificate"]["spki"] == mine.spki and status["gateway"] == server.url
    before = device.serial
    device.good("provision"), device.good("run")
    assert device.serial == before and device.told == ["enrolled"], "what is done is not done again"


def test_the_shared_key_goes_from_the_zip_and_the_rest_stays(server, device, key):
    with zipfile.ZipFile(key.zip, "a", zipfile.ZIP_DEFLATED) as z:
        z.writestr("treehub.json", "{}")
        z.writestr("root.json", "[]" * 200)
    key.zip.chmod(0o640)
    device.good("provision", "--credentials", key.zip, "--device-id", "strip-1")
    with zipfile.ZipFile(key.zip) as z:
        assert z.testzip() is None
        assert {n: z.read(n) for n in z.namelist()} == {"autoprov.url": server.url.encode() + b"\n", "server_ca.pem": key.server_ca, "root.json": b"[]" * 200}
    assert stat.S_IMODE(key.zip.stat().st_mode) == 0o640
    assert subprocess.run(["unzip", "-tq", key.zip], capture_output=True, check=False).returncode == 0
    device.good("run")
    other = Agent(device.top / "other")
    assert "no provisioning key" in other.fails("provision", "--credentials", key.zip, "--device-id", "strip-2")


def test_the_shared_key_stays_where_it_should(server, device, key):
    before = key.zip.read_bytes()
    device.good("provision", "--credentials", key.zip, "--device-id", "keep-1", "--keep-credentials")
    device.good("run")
    device.good("run", "--keep-credentials")
    assert key.zip.read_bytes() == before and device.status()["shared_key_left"] is True
    device.good("provision")
    assert key.zip.read_bytes() != before and device.status()["shared_key_left"] is False


def test_credentials_as_files(server, device, key, tmp_path):
    with zipfile.ZipFile(key.zip) as z:
        z.extractall(tmp_path / "files")
    (tmp_path / "files" / "treehub.json").write_text("{}")
    device.good("provision", "--credentials", tmp_path / "files", "--device-id", "files-1")
    assert sorted(p.name for p in (tmp_path / "files").iterdir()) == ["autoprov.url", "server_ca.pem"] and admits(server, device)


def test_credentials_in_the_usual_place(server, device, key, tmp_path):
    place = tmp_path / "root" / "var" / "sota" / "sota_provisioning_credentials.zip"
    place.parent.mkdir(parents=True)
    shutil.copy(key.zip, place)
    (tmp_path / "root" / "etc").mkdir()
    (tmp_path / "root" / "etc" / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    device.good("run", "--sysroot", tmp_path / "root")
    made = device.status()["device_id"]
    assert len(made) == 36 and made[14] == "4" and "0123456789abcdef" not in made.replace("-", "") and shown(server, made)["state"] == "active"
    with zipfile.ZipFile(place) as z:
        assert "autoprov_credentials.p12" not in z.namelist()


def test_a_configuration_instead_of_options(server, device, key, tmp_path):
    conf = tmp_path / "agent.conf"
    conf.write_text(f"# a comment\n\ncredentials = {key.zip}\r\ndevice-id = conf-1\nkeep-credentials = yes\n")
    device.good("run", "--config", conf)
    assert device.status()["device_id"] == "conf-1" and device.status()["shared_key_left"]
    for text, said in (("nothing = 1", "line 1: there is no setting"), ("device-id", "line 1: it is not"), ("\nset-clock = maybe", "line 2: set-clock takes yes or no"),
                       ("gateway = http://x", "does not begin with https://"), ("json = yes", "there is no setting"), ("device-id = ", "is empty")):
        conf.write_text(text)
        assert said in device.fails("run", "--config", conf, status=2)
    assert "cannot be opened" in device.fails("run", "--config", tmp_path / "none")


def test_what_the_server_refuses_comes_with_its_reason(server, device):
    server.account("bounds", "test", "shared")
    key = server.key("bounds", "--id-pattern", "car-*")
    said = device.fails("provision", "--credentials", key.zip, "--device-id", "bus-1")
    assert "(device_id_not_allowed)" in said and "The gateway says" in said
    assert device.status()["failed"]["code"] == "device_id_not_allowed" and not (device.dir / "current").exists() and Registration(key.zip, None).p12
    explained = device.explain()
    assert (explained["verdict"], explained["side"], explained["code"]) == ("refused", "gateway", "device_id_not_allowed") and "car-*" not in explained["fix"]


def test_an_operator_decides(server, device):
    server.account("asked", "test", "shared", "--approval", "yes")
    key = server.key("asked")
    said = device.fails("provision", "--now", "--credentials", key.zip, "--device-id", "wait-1", status=NOT_YET)
    assert "(device_pending)" in said
    assert device.status()["state"] == "waiting" and device.status()["asks_again_at"] and Registration(key.zip).p12, "the key is needed until it is in"
    made = (device.dir / "identity-1" / "pkey.pem").read_bytes()
    devices = server.muster("device", "list", "--account", "asked")
    assert [d["device_id"] for d in devices] == ["wait-1"]
    asked = server.log_text().count("simpleenroll")
    explained = device.explain()
    assert (explained["side"], explained["code"]) == ("gateway", "device_pending")
    server.muster("device", "approve", "wait-1", "--account", "asked")
    device.good("provision", "--now", "--credentials", key.zip)
    assert (device.dir / "current" / "pkey.pem").read_bytes() == made, "the same request, with the same key"
    assert shown(server, "wait-1", "asked")["state"] == "active" and asked == server.log_text().count("simpleenroll")


def test_it_does_not_ask_before_the_time_that_it_was_told(server, device):
    server.account("patient", "test", "shared", "--approval", "yes")
    key = server.key("patient")
    device.fails("provision", "--now", "--credentials", key.zip, "--device-id", "wait-2", status=NOT_YET)
    wait = device.remembered()["wait"]
    assert wait >= 1
    device.remember(wait=100000)
    server.muster("device", "approve", "wait-2", "--account", "patient")
    assert "asked not to come again" in device.fails("run", "--credentials", key.zip, status=NOT_YET)
    device.remember(asked_at=device.remembered()["asked_at"] - 100001)
    device.good("run", "--credentials", key.zip)


def test_a_lost_answer_costs_nothing(fresh, tmp_path):
    """The server has committed, and nobody hears of it: the same request gets the same certificate."""
    device = Agent(tmp_path / "device")
    s = fresh(start=False)
    lose = tmp_path / "lose"
    lose.write_text("")
    s.start()
    s.account("fleet", "test", "shared")
    key = s.key("fleet", "--max-devices", "1")
    device.good("provision", "--credentials", key.zip, "--device-id", "lost-1", "--keep-credentials")
    serial = device.serial
    shutil.copytree(device.dir / "identity-1", tmp_path / "was")
    for what in ("client.pem",):  # as if the answer had never come
        (device.dir / "identity-1" / what).unlink()
    (device.dir / "current").unlink()
    device.good("provision", "--credentials", key.zip, "--keep-credentials")
    assert device.serial == serial


def test_the_account_is_named_where_it_has_to_be(server, device, key):
    assert "(account_unknown)" in device.fails("provision", "--credentials", key.zip, "--device-id", "label-1", "--account", "nobody")
    device.good("provision", "--credentials", key.zip, "--account", "fleet")
    assert shown(server, "label-1")["state"] == "active"


# --- device IDs -------------------------------------------------------------------------------------------------------------------------------


def test_an_id_of_more_than_a_cn_holds(server, device, key):
    long = "Fahrzeug-Nr. " + "ü" * 50
    device.good("provision", "--credentials", key.zip, "--device-id", long)
    assert device.status()["device_id"] == long and shown(server, long)["state"] == "active"
    device.good("run", "--now")
    assert shown(server, long)["state"] == "active" and device.told == []


def fake_machine(top, **files):
    for path, text in files.items():
        at = top / path.replace("__", "/").replace("_dot_", ".")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)
    return top


def wanted_id(device, key, *options):
    """The ID that it would ask for: it is refused, and nothing is spent."""
    said = device.run("provision", "--credentials", key.zip, *options)
    remembered = device.remembered()["device_id"] if (device.dir / "state.json").exists() else ""
    shutil.rmtree(device.dir, ignore_errors=True)
    return remembered, said.stderr


def test_where_the_id_comes_from(server, device, tmp_path):
    if "nobody-in" not in [a["id"] for a in server.muster("account", "list")]:
        server.account("nobody-in", "test", "shared")
    key = server.key("nobody-in", "--id-pattern", "no-such-device")

    def of(*options):
        return wanted_id(device, key, *options)

    (tmp_path / "id").write_text("from-file \r\n")
    assert of("--device-id-file", tmp_path / "id")[0] == "from-file"
    assert of("--device-id-command", "echo from-command")[0] == "from-command"
    assert of("--device-id", "first", "--device-id-file", tmp_path / "id")[0] == "first"
    for command, said in (("exit 3", "exit status 3"), ("true", "names no device"), ("printf 'a\\tb'", "names no device"), ("echo a; echo b", "one line"), ("head -c 200 /dev/zero | tr '\\0' x", "names no device")):
        found = of("--device-id-command", command)
        assert found[0] == "" and said in found[1]
    (tmp_path / "lines").write_text("bad\nline\n")
    for two in (("--device-id", "bad\nline"), ("--device-id", "bad\n\n"), ("--device-id-file", tmp_path / "lines")):
        found = of(*two)
        assert found[0] == "" and "one line" in found[1], two

    sys = fake_machine(tmp_path / "a", sys__class__dmi__id__product_serial="SN-0815 \n")
    assert of("--sysroot", sys, "--device-id-from", "serial")[0] == "SN-0815"
    for filler in ("To Be Filled By O.E.M.\n", "0\n", "00000000\n", "Default string\n", "\n", "None\n"):
        sys = fake_machine(tmp_path / "b", sys__class__dmi__id__product_serial=filler)
        assert "names no serial number" in of("--sysroot", sys, "--device-id-from", "serial")[1], filler
    tree = tmp_path / "c" / "sys" / "firmware" / "devicetree" / "base"
    tree.mkdir(parents=True)
    (tree / "serial-number").write_bytes(b"100000003d1d1c36\0")
    assert of("--sysroot", tmp_path / "c", "--device-id-from", "serial")[0] == "100000003d1d1c36"

    net = tmp_path / "d" / "sys" / "class" / "net"
    for card, mac, hardware in (("aaa0", "02:00:00:00:00:01", True), ("bbb0", "00:11:22:33:44:55", False), ("eth1", "00:11:22:33:44:99", True), ("eth0", "00:11:22:33:44:AA", True), ("lo", "00:00:00:00:00:00", False)):
        (net / card).mkdir(parents=True)
        (net / card / "address").write_text(mac + "\n")
        if hardware:
            (net / card / "device").mkdir()
    assert of("--sysroot", tmp_path / "d", "--device-id-from", "mac")[0] == "0011223344aa"
    for machine_id in ("uninitialized\n", "", "0" * 32 + "\n", "g" * 32):
        sys = fake_machine(tmp_path / "e", etc__machine_hyphen_id="")
        (sys / "etc" / "machine-id").write_text(machine_id)
        assert of("--sysroot", sys)[0] == "", machine_id
    (sys / "etc" / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    first = of("--sysroot", sys)[0]
    assert first == of("--sysroot", sys)[0] and len(first) == 36
    (sys / "etc" / "machine-id").write_text("0123456789abcdef0123456789abcdee\n")
    assert of("--sysroot", sys)[0] != first
    assert "is none of" in of("--device-id-from", "dice")[1]


def test_an_id_once_chosen_stays(server, device, key, tmp_path):
    (tmp_path / "id").write_text("stays-1")
    options = ("--credentials", key.zip, "--device-id-file", tmp_path / "id")
    server.muster("key", "blacklist", key.shown["id"], "--yes")
    device.fails("provision", *options)
    (tmp_path / "id").write_text("another")
    again = server.key("fleet")
    sysroot = fake_machine(tmp_path / "sys", sys__class__dmi__id__product_serial="SN-0815\n")
    for other in (("--device-id-file", tmp_path / "id"), ("--device-id", "another"), ("--device-id-command", "echo another"), ("--sysroot", sysroot, "--device-id-from", "serial")):
        assert "an ID once chosen stays" in device.fails("provision", "--credentials", again.zip, *other), other
    device.good("provision", "--credentials", again.zip)
    for other in (("--device-id-file", tmp_path / "id"), ("--sysroot", sysroot, "--device-id-from", "serial")):
        assert "an ID once chosen stays" in device.fails("provision", *other), other
    device.good("provision", "--device-id", "stays-1")
    # Nor do other credentials count: that is said.
    assert "is not looked at" not in device.run("provision", "--credentials", again.zip).stderr
    assert f"{key.zip} is not looked at: this device is in already, by {again.zip}" in device.run("provision", "--credentials", key.zip).stderr
    assert device.status()["device_id"] == "stays-1"


# --- device credentials --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def factory(server):
    if "factory" not in [a["id"] for a in server.muster("account", "list")]:
        server.account("factory", "production", "device")
        server.fleet = server.root("factory")
    return server.fleet


def given(server, top, identity, **more):
    return own(top, identity, (server.dir / "server-ca.pem").read_bytes(), server.url, **more)


@pytest.mark.parametrize("kind", ["ec", "p384", "rsa2048", "ed25519"])
def test_a_certificate_that_the_factory_made(server, factory, device, tmp_path, kind):
    made = factory.device(f"made-{kind}", kind=kind)
    device.hook()
    device.good("provision", "--credentials", given(server, tmp_path / "import", made))
    assert shown(server, f"made-{kind}", "factory")["state"] == "active" and device.told == ["imported"]
    status = device.status()
    assert (status["method"], status["device_id"], status["state"]) == ("device", f"made-{kind}", "provisioned")
    assert device.identity.cert == made.cert and sorted(p.name for p in (tmp_path / "import").iterdir()) == ["client.pem", "gateway.url", "pkey.pem", "root.crt"]
    assert device.explain()["verdict"] == "admitted"


def test_intermediates_are_shown_to_the_gateway(server, factory, device, tmp_path):
    line = factory.intermediate()
    made = line.device("line-1", chain=[line.cert])
    device.good("provision", "--credentials", given(server, tmp_path / "import", made))
    assert len(certificates(device.dir / "current" / "client.pem")) == 2 and device.good("check")


def test_a_new_certificate_in_the_place_of_the_old_is_taken_over(server, factory, device, tmp_path):
    device.hook()
    key = new_key()
    device.good("provision", "--credentials", given(server, tmp_path / "import", factory.device("twice-1", key=key, days=(-1, 30))))
    device.good("run")
    later = factory.device("twice-1", key=key, days=(-1, 60))
    given(server, tmp_path / "import", factory.device("twice-1", key=key, days=(-1, 20)))
    device.good("run")
    assert device.identity.cert != later.cert and device.told == ["imported"], "one that ends sooner is none that follows"
    given(server, tmp_path / "import", later)
    device.good("run")
    assert device.identity.cert == later.cert and device.told == ["imported", "imported"]


def test_damaged_and_open_credentials_are_refused(server, factory, device, tmp_path):
    made, other = factory.device("odd-1"), factory.device("odd-2")
    assert "chmod 600" in device.fails("provision", "--credentials", given(server, tmp_path / "a", made, mode=0o644))
    at = given(server, tmp_path / "b", made)
    (at / "pkey.pem").write_bytes(key_pem(other.key))
    assert "is not the key of client.pem" in device.fails("provision", "--credentials", at)
    at = given(server, tmp_path / "c", factory.device("odd-3", days=(-20, -1)))
    assert "ended at" in device.fails("provision", "--credentials", at)
    at = given(server, tmp_path / "d", made)
    (at / "gateway.url").unlink()
    assert "Nothing names the gateway" in device.fails("provision", "--credentials", at)
    device.good("provision", "--credentials", at, "--gateway", server.url + "/")
    assert (device.dir / "current" / "gateway.url").read_text() == server.url + "\n"


def test_a_stranger_is_told_what_to_do(server, device, tmp_path):
    said = device.fails("provision", "--credentials", given(server, tmp_path / "import", Fleet("Nobody").device("stray-1")))
    assert "(certificate_untrusted)" in said
    assert device.run("run").returncode != 0
    assert device.status()["state"] == "none" and not (device.dir / "current").exists()


# --- other programs ------------------------------------------------------------------------------------------------------------------------------


def test_exec_and_hooks_find_the_paths(server, device, key):
    device.hook('env | grep ^MUSTER_ | sort > "$MUSTER_AGENT_DIR/../environment"\n')
    device.good("provision", "--credentials", key.zip, "--device-id", "exec-1")
    said = dict(line.split("=", 1) for line in (device.top / "environment").read_text().splitlines())
    assert said == {"MUSTER_AGENT_DIR": str(device.dir), "MUSTER_CERT": f"{device.dir}/current/client.pem", "MUSTER_KEY": f"{device.dir}/current/pkey.pem", "MUSTER_KEY_IN": "file",
                    "MUSTER_CA": f"{device.dir}/current/root.crt", "MUSTER_GATEWAY": server.url, "MUSTER_DEVICE_ID": "exec-1", "MUSTER_EVENT": "enrolled"}
    out = device.good("exec", "--", "sh", "-c", 'curl -sS --cacert "$MUSTER_CA" --cert "$MUSTER_CERT" --key "$MUSTER_KEY" "$MUSTER_GATEWAY/x"; exit 0')
    assert json.loads(out)["code"] == "not_found"
    assert device.run("exec", "--", "sh", "-c", "exit 7").returncode == 7 and device.run("exec", "--", "no-such-program").returncode == 127
    assert device.run("exec").returncode == 2 and device.run("exec", "--").returncode == 2
    assert device.good("exec", "--", "printf", "%s|", "--json", "a b", "") == "--json|a b||"


def test_hooks_that_fail_are_told_again(server, device, key):
    device.hook('[ -e "$MUSTER_AGENT_DIR/../ready" ] || exit 3; echo "$1" >> "$MUSTER_AGENT_DIR/../told"\n', "20-second")
    device.hook('echo "first-$1" >> "$MUSTER_AGENT_DIR/../told"\n', "10-first")
    device.hook("echo not >> ../told\n", "30-open", mode=0o777)
    device.hook("echo not >> ../told\n", "40-plain", mode=0o644)
    said = device.fails("provision", "--credentials", key.zip, "--device-id", "hook-1")
    assert "20-second failed (exit status 3)" in said and "30-open is not run" in said
    assert device.told == ["first-enrolled"] and device.status()["hooks_due"] and device.status()["state"] == "provisioned"
    (device.top / "ready").write_text("")
    device.good("run")
    assert device.told == ["first-enrolled", "first-enrolled", "enrolled"] and not device.status()["hooks_due"]


def test_the_stock_layout_is_what_aktualizr_imports(server, device, key):
    """Names and forms of doc/wire.md: PEM, the key as PKCS#8, the leaf first, one URL."""
    device.good("provision", "--credentials", key.zip, "--device-id", "stock-1")
    here = device.dir / "current"
    assert (here / "pkey.pem").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    gateway = Gateway(server.port, here / "root.crt", device.identity)
    assert gateway.ecus().status == 201
    public = serialization.load_pem_private_key((here / "pkey.pem").read_bytes(), None).public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert x509.load_pem_x509_certificate((here / "client.pem").read_bytes()).public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo) == public


# --- the directory, the command line -----------------------------------------------------------------------------------------------------------------


def test_a_directory_of_somebody_else(server, device, key):
    device.dir.mkdir()
    device.dir.chmod(0o775)
    assert "may write to" in device.fails("provision", "--credentials", key.zip, "--device-id", "dir-1")
    device.dir.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(device.dir, 12345, 12345)
        assert "belongs to another user (12345)" in device.fails("provision", "--credentials", key.zip, "--device-id", "dir-1")
        assert list(device.dir.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is played by root")
def test_another_user_sees_and_cannot_use(server, key):
    """State is no secret; the key is. And root's directory is nobody's to doubt."""
    with tempfile.TemporaryDirectory(prefix="muster-agent-user-", dir="/tmp") as open_to_all:
        top = pathlib.Path(open_to_all)
        top.chmod(0o755)
        shutil.copy(AGENT, top / "muster-agent")
        device = Agent(top / "device")
        device.good("provision", "--credentials", key.zip, "--device-id", "user-1")
        look_as_nobody(device, Agent(top / "device", program=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", top / "muster-agent"]))


def look_as_nobody(device, other):
    status = json.loads(other.good("status", "--json"))
    assert status["state"] == "provisioned" and status["certificate"]["subject"].startswith("CN=user-1")
    assert status["method"] is None and "run it as root" in status["unreadable"] and "unreadable" not in device.status() and device.status()["method"] == "shared"
    assert other.explain()["code"] == "key_unreadable" and "may not read the key" in other.fails("exec", "--", "true")
    other.fails("run", "--now")
    assert device.explain()["verdict"] == "admitted"


def test_two_at_once(server, device, key):
    import fcntl
    device.dir.mkdir(mode=0o755)
    with open(device.dir / "lock", "w", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert "Another muster-agent is at work" in device.fails("run", "--credentials", key.zip, status=NOT_YET)
    device.good("run", "--credentials", key.zip, "--device-id", "two-1")


def test_what_was_remembered_may_be_lost(server, device, key):
    device.good("provision", "--credentials", key.zip, "--device-id", "forget-1")
    for damage in (b"", b"{", b"[]", b'{"device_id": 7, "wait": "x"}', b"\0" * 500):
        (device.dir / "state.json").write_bytes(damage)
        assert device.status()["device_id"] == "forget-1" and device.explain()["verdict"] == "admitted"
        device.good("run")
    (device.dir / "state.json").unlink()
    before = device.serial
    device.good("run", "--now")
    assert device.serial != before and shown(server, "forget-1")["spki"] == device.identity.spki


def test_nothing_there_yet(device):
    for verb in ("status", "check", "explain"):
        assert "There is no directory" in device.fails(verb)
    assert "There is no directory" in device.fails("exec", "--", "true")
    assert "no credentials" in device.fails("provision", "--sysroot", device.top)
    assert "no credentials" in device.fails("run", "--sysroot", device.top, status=NOT_YET)
    assert device.status()["state"] == "none" and device.explain()["code"] == "not_provisioned"


def test_words_that_are_wrong(device):
    for words in (["nothing"], [], ["run", "extra"], ["--none", "run"], ["status", "--now"], ["run", "--json=1"], ["provision", "--device-id"], ["provision", "--stay"], ["completion", "tcsh"]):
        done = subprocess.run([AGENT, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and done.stderr.startswith("muster-agent: "), words


def test_a_gateway_that_is_not_there(device, key):
    device.good("provision", "--credentials", key.zip, "--device-id", "away-1")
    with open(device.dir / "current" / "gateway.url", "w", encoding="utf-8") as f:
        f.write("https://localhost:1\n")
    said = device.explain()
    assert (said["verdict"], said["side"], said["code"]) == ("unknown", "network", "network_failed")
    assert "could not be asked" in device.fails("run", "--now", status=NOT_YET)
    assert device.status()["state"] == "provisioned"


def test_which_side_refuses(server, device, key):
    device.good("provision", "--credentials", key.zip, "--device-id", "sides-1")
    assert device.good("check") == "sides-1 is admitted.\n"
    server.muster("device", "quarantine", "sides-1", "--account", "fleet")
    soon("device_quarantined", lambda: device.explain()["code"])
    said = device.explain()
    assert (said["verdict"], said["side"]) == ("refused", "gateway") and "muster-agent explain" in device.fails("check")
    server.muster("device", "release", "sides-1", "--account", "fleet")
    soon("admitted", lambda: device.explain()["verdict"])
    (device.dir / "current" / "root.crt").write_bytes(Authority("Another").pem())
    said = device.explain()
    assert (said["verdict"], said["side"], said["code"]) == ("refused", "device", "gateway_untrusted")

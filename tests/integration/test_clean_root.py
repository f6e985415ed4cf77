"""The packages in a clean Debian root under a real systemd: installed, started, used, upgraded over an older schema, removed and purged.

A root that debootstrap makes is booted in namespaces of its own (tests/clean_root/boot): systemd is process 1 in there, and puts the unit's
whole hardening on the server.  Takes minutes and a mirror, and needs root: part of ./check --long."""
import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import time

import pytest

import old_schema
from conftest import LONG
from test_debian import SOURCE, UNIT, build, run

pytestmark = [pytest.mark.skipif(not LONG, reason="./check --long"), pytest.mark.skipif(os.geteuid() != 0, reason="a root directory needs root")]

HERE = pathlib.Path(__file__).parent
OLDER = "0.0.1"
DIR = "/var/lib/muster"


class Root:
    def __init__(self, path):
        self.path, self.process, self.pid = path, None, None

    def boot(self):
        self.process = subprocess.Popen([SOURCE / "tests" / "clean_root" / "boot", self.path], stdin=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
            self.pid = int(children[0]) if children else None
            if self.pid and self.do("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                break
            time.sleep(0.2)
        else:
            pytest.fail("systemd did not come up")
        # A network of its own has a loopback that is down.
        self.outside("/usr/bin/python3", "-c", "import fcntl, socket, struct; s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 1))")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def enter(self, words, namespaces, **options):
        return subprocess.run(["nsenter", "-t", str(self.pid), *namespaces, *map(str, words)], capture_output=True, text=True, timeout=300, check=False, **options)

    def do(self, *words, check=True):
        """A command in the root."""
        done = self.enter(words, ("-m", "-p", "-C", "-i", "-u", "-n", "-r", "-w"), env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"})
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr, self.log())
        return done

    def outside(self, *words):
        """A program of the machine, in the root's network."""
        done = self.enter(words, ("-n",), cwd=HERE)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def log(self):
        return self.do("journalctl", "-u", "musterd", "--no-pager", "-n", "50", check=False).stdout[-4000:]

    def muster(self, *words):
        return json.loads(self.do("muster", "--data", DIR, *words, "--json").stdout)

    def serves(self):
        """Waits until the unit is up (it says so itself), and the API answers."""
        end = time.monotonic() + 30
        while self.do("systemctl", "is-active", "musterd", check=False).stdout.strip() != "active":
            assert time.monotonic() < end, self.log()
            time.sleep(0.2)
        assert self.muster("whoami")["role"] == "owner"

    def files(self):
        """Everything in the root but what any installation changes."""
        passing = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/log", "/var/cache", "/var/lib/dpkg", "/var/lib/apt", "/root", "/var/lib/systemd", "/var/tmp")
        found = set()
        for at, folders, names in os.walk(self.path):
            inside = "/" + os.path.relpath(at, self.path) if at != str(self.path) else ""
            folders[:] = [f for f in folders if f"{inside}/{f}" not in passing]
            found |= {f"{inside}/{n}" for n in names + folders}
        return found - {"/etc/ld.so.cache"}


@pytest.fixture(scope="module")
def debs(tmp_path_factory):
    """(the older version's packages, this one's)"""
    older, newer = tmp_path_factory.mktemp("older"), tmp_path_factory.mktemp("newer")
    build(newer)
    for deb in newer.glob("muster*_*.deb"):
        if "dbgsym" not in deb.name:  # the same files under another version: what differs is the schema that it leaves, below
            tree = older / deb.stem
            run("dpkg-deb", "-R", deb, tree)
            control = tree / "DEBIAN" / "control"
            text = control.read_text(encoding="utf-8")
            version = run("dpkg-deb", "-f", deb, "Version").strip()
            control.write_text(text.replace(f"Version: {version}", f"Version: {OLDER}").replace(f"(= {version})", f"(= {OLDER})"), encoding="utf-8")
            run("dpkg-deb", "-b", "--root-owner-group", tree, older / deb.name)
            shutil.rmtree(tree)
    return older, newer


@pytest.fixture(scope="module")
def root(tmp_path_factory, debs):
    path = tmp_path_factory.mktemp("root") / "root"
    mirror = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", "Codename: bookworm").split()[0]
    if ready := os.environ.get("MUSTER_CLEAN_ROOT"):  # one that was made before, to save time while working on this
        run("cp", "-a", ready, path)
    else:
        run("debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv", "bookworm", path, mirror, timeout=1800)
    # What the packages depend on comes from the mirror; nothing else of the machine is shared.
    names = {word.split("(")[0].strip() for deb in debs[1].glob("muster*_*.deb") if "dbgsym" not in deb.name for word in run("dpkg-deb", "-f", deb, "Depends").split(",")}
    shutil.copy("/etc/resolv.conf", path / "etc" / "resolv.conf")
    run("chroot", path, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-q", "-y", "--no-install-recommends", "softhsm2", *sorted(n for n in names if n), timeout=900)
    for name, folder in zip(("older", "newer"), debs):
        (path / "root" / name).mkdir()
        for deb in folder.glob("*.deb"):
            if "dbgsym" not in deb.name:
                shutil.copy(deb, path / "root" / name)
    r = Root(path)
    r.boot()
    yield r
    r.stop()


def install(root, which):
    return root.do("sh", "-c", f"dpkg -i /root/{which}/muster_*.deb /root/{which}/musterd_*.deb").stdout


@pytest.fixture(scope="module")
def clean(root):
    return root.files()


@pytest.fixture(scope="module")
def installed(root, clean):
    install(root, "older")
    root.serves()
    return root


DEVICE = """
import sys
from client import Device, Gateway, Registration
ca, zip, keep = sys.argv[1:]
key = Registration(zip)
answer = Gateway(8443, ca, key).enrol("boots-in-a-clean-root")
assert answer.status == 200, answer
open(keep, "wb").write(answer.body)
assert Gateway(8443, ca, Device(answer.body)).get("/").status == 404
"""
AGAIN = """
import sys
from client import Device, Gateway
ca, kept = sys.argv[1:]
assert Gateway(8443, ca, Device(open(kept, "rb").read())).get("/").status == 404
assert Gateway(8443, ca).get("/").status == 403
"""


def test_the_installation_starts_the_server_for_this_machine_alone(installed):
    shown = installed.do("systemctl", "show", "musterd", "-p", "User,NoNewPrivileges,SystemCallFilter,ProtectSystem,UnitFileState").stdout
    assert "User=muster" in shown and "NoNewPrivileges=yes" in shown and "UnitFileState=enabled" in shown and "ProtectSystem=strict" in shown
    assert installed.do("stat", "-c", "%a %U:%G", DIR, f"{DIR}/admin.token", f"{DIR}/vault/master.key").stdout.split("\n")[:3] == ["700 muster:muster", "600 muster:muster", "600 muster:muster"]
    listening = [line.split()[1] for file in ("tcp", "tcp6") for line in installed.do("cat", f"/proc/net/{file}").stdout.splitlines()[1:] if line.split()[3] == "0A"]
    assert sorted(a.split(":")[1] for a in listening) == [f"{8443:04X}", f"{9443:04X}"] or {a.split(":")[1] for a in listening} == {f"{8443:04X}", f"{9443:04X}"}
    assert {a.split(":")[0] for a in listening} == {"0100007F"}
    log = installed.log()
    assert "sandbox" not in log.replace("sandbox=on", "") and "error" not in log, log
    unit = (installed.path / "lib/systemd/system/musterd.service").read_bytes()
    assert unit == UNIT.read_bytes()


def test_devices_and_operators_are_served_under_the_unit_s_restrictions(installed):
    installed.muster("account", "create", "fleet", "--kind", "test", "--method", "both")
    installed.do("muster", "--data", DIR, "key", "create", "--account", "fleet", "-o", "/root/credentials.zip")
    installed.outside("/usr/bin/python3", "-c", DEVICE, installed.path / DIR[1:] / "server-ca.pem", installed.path / "root/credentials.zip", installed.path / "root/device.p12")
    assert installed.muster("device", "show", "boots-in-a-clean-root", "--account", "fleet")["state"] == "active"
    assert installed.muster("audit", "verify", "--account", "fleet")["ok"]
    # Each process is as confined as elsewhere, inside the unit.
    for kind in ("vault", "control", "gateway", "courier"):
        said = installed.do("runuser", "-u", "muster", "--", "musterd", "self-test-confinement", kind, "--data", DIR, check=False)
        assert said.returncode == 0, (kind, said.stdout, said.stderr)
    installed.do("sh", "-c", f"umask 077; echo 'a long passphrase' > /root/phrase; musterd vault export --data {DIR} --account fleet --passphrase-file /root/phrase -o /root/fleet.key")
    # A process that dies comes back by itself, without the unit's help.
    main = installed.do("systemctl", "show", "musterd", "-p", "MainPID", "--value").stdout.strip()
    children = set(installed.do("cat", f"/proc/{main}/task/{main}/children").stdout.split())
    assert len(children) == 4
    for child in children:
        installed.do("sh", "-c", f"kill -9 {child}")
        time.sleep(2)
        now = set(installed.do("cat", f"/proc/{main}/task/{main}/children").stdout.split())
        assert child not in now and len(now) == 4
        assert installed.do("systemctl", "show", "musterd", "-p", "MainPID", "--value").stdout.strip() == main
        installed.serves()


def test_a_proxy_s_group_gets_the_auth_socket(installed):
    """The recipe of doc/behind-your-proxy.md under the unit, which lets the server write nowhere else and change no owner by itself."""
    config = installed.path / DIR[1:] / "musterd.conf"
    before = config.read_text(encoding="utf-8")
    drop_in = installed.path / "etc/systemd/system/musterd.service.d/auth-socket.conf"
    config.write_text("auth_socket = /run/muster/auth.sock\nauth_socket_group = www-data\nauth_users = www-data\n" + before, encoding="utf-8")
    drop_in.parent.mkdir()
    shutil.copy(SOURCE / "packaging" / "musterd-auth-socket.conf", drop_in)
    installed.do("sh", "-c", "systemctl daemon-reload && systemctl restart musterd")
    installed.serves()
    assert installed.do("stat", "-c", "%a %U:%G", "/run/muster/auth.sock", "/run/muster").stdout.split("\n")[:2] == ["660 muster:www-data", "755 muster:muster"]
    config.write_text(before, encoding="utf-8")
    shutil.rmtree(drop_in.parent)
    installed.do("sh", "-c", "systemctl daemon-reload && systemctl restart musterd")
    installed.serves()


def test_an_upgrade_brings_an_older_schema_up_to_date_and_loses_nothing(installed):
    before = {"devices": installed.muster("device", "list", "--account", "fleet"), "keys": installed.muster("key", "list", "--account", "fleet")}
    installed.do("systemctl", "stop", "musterd")
    registry = installed.path / DIR[1:] / "registry.db"
    owner, mode = registry.stat(), registry.stat().st_mode & 0o777
    newest = old_schema.take_back(registry, 1)
    for file in registry.parent.glob("registry.db*"):
        os.chown(file, owner.st_uid, owner.st_gid)
        file.chmod(mode)
    with sqlite3.connect(registry) as db:
        assert db.execute("SELECT max(number) FROM schema_version").fetchone() == (1,) and newest > 1
    assert installed.do("dpkg-query", "-W", "-f", "${Version}", "musterd").stdout == OLDER
    install(installed, "newer")
    assert installed.do("dpkg-query", "-W", "-f", "${Version}", "musterd").stdout != OLDER
    installed.serves()  # started by the upgrade
    assert {"devices": installed.muster("device", "list", "--account", "fleet"), "keys": installed.muster("key", "list", "--account", "fleet")} == before
    assert installed.muster("audit", "verify", "--account", "fleet")["ok"] and installed.muster("audit", "verify")["ok"]
    installed.outside("/usr/bin/python3", "-c", AGAIN, installed.path / DIR[1:] / "server-ca.pem", installed.path / "root/device.p12")
    installed.do("systemctl", "stop", "musterd")
    with sqlite3.connect(f"file:{registry}?mode=ro", uri=True) as db:
        assert db.execute("SELECT max(number) FROM schema_version").fetchone() == (newest,)
    installed.do("systemctl", "start", "musterd")
    installed.serves()


def test_keys_in_a_token_under_the_unit(installed):
    """doc/hsm.md as printed, with SoftHSM's package: without the drop-in the unit keeps the module from its files, and `status` says so; with it the keys of an account are made there."""
    page = (SOURCE / "doc" / "hsm.md").read_text(encoding="utf-8")
    settings = "".join(line + "\n" for line in re.findall(r"^    (pkcs11_\w+ = .*)$", page, re.M))
    assert settings.count("\n") == 4
    config = installed.path / DIR[1:] / "musterd.conf"
    before = config.read_text(encoding="utf-8")
    installed.do("sh", "-c", "umask 077; mkdir -p /etc/muster; echo 1234 > /etc/muster/token.pin; chown -R muster: /etc/muster")
    (words,) = re.findall(r"sudo -u muster -g softhsm (softhsm2-util [^`]*)`", page)
    installed.do("sh", "-c", f"runuser -u muster -g softhsm -- {words} --pin 1234 --so-pin 5678")
    config.write_text(settings + before, encoding="utf-8")
    installed.do("systemctl", "restart", "musterd")
    installed.serves()
    away = lambda: [i for i in installed.muster("status")["attention"] if i["what"] == "token_away"]
    end = time.monotonic() + 30
    while not away():
        assert time.monotonic() < end, installed.log()
        time.sleep(0.5)
    drop_in = installed.path / "etc/systemd/system/musterd.service.d/hsm.conf"
    drop_in.parent.mkdir(exist_ok=True)
    shutil.copy(SOURCE / "packaging" / "musterd-hsm.conf", drop_in)
    installed.do("sh", "-c", "systemctl daemon-reload && systemctl restart musterd")
    installed.serves()
    installed.muster("account", "create", "in-token", "--kind", "test", "--method", "shared", "--backend", "pkcs11")
    assert not away() and json.loads(installed.do("musterd", "vault", "status", "--data", DIR, "--json").stdout)["keys"]["in_token"] >= 3
    installed.do("muster", "--data", DIR, "key", "create", "--account", "in-token", "-o", "/root/in-token.zip")
    installed.outside("/usr/bin/python3", "-c", DEVICE, installed.path / DIR[1:] / "server-ca.pem", installed.path / "root/in-token.zip", installed.path / "root/in-token.p12")
    assert installed.muster("audit", "verify", "--account", "in-token")["ok"]
    assert "token" in installed.do("sh", "-c", "cat /proc/[0-9]*/comm").stdout
    installed.do("muster", "--data", DIR, "account", "delete", "in-token", "--yes")
    config.write_text(before, encoding="utf-8")
    shutil.rmtree(drop_in.parent)
    installed.do("sh", "-c", "rm -rf /etc/muster /var/lib/softhsm/tokens/*; systemctl daemon-reload && systemctl restart musterd")
    installed.serves()


def test_removing_stops_the_server_and_keeps_its_data(installed):
    installed.do("dpkg", "-r", "musterd", "muster")
    assert installed.do("systemctl", "is-active", "musterd", check=False).stdout.strip() != "active"
    assert (installed.path / DIR[1:] / "vault").is_dir() and not (installed.path / "usr/sbin/musterd").exists()


def test_a_purge_keeps_the_keys_of_a_fleet_and_nothing_else(installed, clean):
    said = installed.do("dpkg", "-P", "musterd", "muster")
    kept = list((installed.path / "var/backups").glob("musterd-purged-*"))
    assert len(kept) == 1 and kept[0].name in said.stderr + said.stdout
    assert kept[0].stat().st_mode & 0o777 == 0o700 and kept[0].stat().st_uid == 0
    assert list(kept[0].glob("vault/account-fleet*")) and (kept[0] / "registry.db").exists() and (kept[0] / "vault/master.key").exists()
    inside = f"/var/backups/{kept[0].name}"
    left = {p for p in installed.files() - clean if not p.startswith(inside)}
    left -= {p for p in left if p.startswith(("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid"))}  # their copies with "-"
    assert left == set()
    assert installed.do("getent", "passwd", "muster", check=False).returncode != 0
    # It can be taken up again, as README.Debian says.
    installed.do("mv", inside, DIR)
    install(installed, "newer")
    installed.do("sh", "-c", f"chown -R muster:muster {DIR} && systemctl restart musterd")
    installed.serves()
    installed.outside("/usr/bin/python3", "-c", AGAIN, installed.path / DIR[1:] / "server-ca.pem", installed.path / "root/device.p12")
    installed.do("dpkg", "-P", "musterd", "muster")
    shutil.rmtree(next((installed.path / "var/backups").glob("musterd-purged-*")))


def test_a_purge_without_a_fleet_leaves_nothing(installed, clean):
    install(installed, "newer")
    installed.serves()
    installed.do("dpkg", "-P", "musterd", "muster")
    left = installed.files() - clean
    left -= {p for p in left if p.startswith(("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid"))}
    assert left == set()

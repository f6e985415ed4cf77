"""A user for each process: who they are, what belongs to whom, and that all works so."""
import grp
import os
import pathlib
import pwd
import shutil
import stat
import subprocess
import tempfile

import pytest

from client import Device
from conftest import MUSTERD, Server
from enrolment import ask

KINDS = ("vault", "control", "gateway", "courier")
WANTED = ("daemon", "bin", "games", "sys")  # on every Debian, and nothing runs as them
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as other users")


def known(name):
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


USERS = dict(zip(KINDS, WANTED))


@pytest.fixture
def apart():
    """A server of four users, in a folder that all of them may pass: pytest's own are the starter's alone."""
    missing = [name for name in WANTED if not known(name)]
    if missing:
        pytest.skip(f"there are no users {missing}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="muster-users-"))
    folder.chmod(0o755)
    s = Server(folder / "data", config=[f"{kind}_user = {name}" for kind, name in USERS.items()])
    yield s
    s.stop()
    shutil.rmtree(folder)


def ids(pid, what):
    """The real, effective, saved and file system IDs; the groups."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(what + ":"):
            return [int(n, 16 if what.startswith("Cap") else 10) for n in line.split()[1:]]
    raise LookupError(what)


def check_processes(s):
    shared = pwd.getpwnam(USERS["gateway"]).pw_gid
    for kind, name in USERS.items():
        pid, user = s.child(kind), pwd.getpwnam(name)
        assert ids(pid, "Uid") == [user.pw_uid] * 4, kind
        assert ids(pid, "Gid") == [user.pw_gid] * 4, kind
        assert ids(pid, "Groups") == ([shared] if kind == "control" else []), kind
        assert ids(pid, "CapEff") == ids(pid, "CapPrm") == ids(pid, "CapInh") == ids(pid, "CapAmb") == [0], kind


def check_files(s):
    vault, control, gateway = (USERS[k] for k in KINDS[:3])
    group = {k: grp.getgrgid(pwd.getpwnam(v).pw_gid).gr_name for k, v in USERS.items()}
    expected = {".": ("root", group["gateway"], 0o750), "vault": (vault, group["vault"], 0o700), "tls": (control, group["gateway"], 0o2750),
                "admin.token": ("root", "root", 0o600), "server-ca.pem": ("root", "root", 0o644), "musterd.conf": ("root", "root", 0o644)}
    for suffix in ("", "-wal", "-shm"):
        expected["registry.db" + suffix] = (control, group["gateway"], 0o660)
        expected["control.db" + suffix] = (control, group["control"], 0o600)
    for name, wanted in expected.items():
        st = os.stat(s.dir / name)
        got = pwd.getpwuid(st.st_uid).pw_name, grp.getgrgid(st.st_gid).gr_name, stat.S_IMODE(st.st_mode)
        assert got == wanted, name
    records = list((s.dir / "vault").iterdir())
    assert len(records) > 3
    for path in records:
        st = path.stat()
        assert (pwd.getpwuid(st.st_uid).pw_name, stat.S_IMODE(st.st_mode) & 0o077) == (vault, 0), path
    keys = list((s.dir / "tls").iterdir())
    assert keys
    for path in keys:  # a key for the gateway to read, and for nobody else
        st = path.stat()
        assert (pwd.getpwuid(st.st_uid).pw_name, grp.getgrgid(st.st_gid).gr_name, stat.S_IMODE(st.st_mode)) == (control, group["gateway"], 0o640), path


def may(user, flag, path):
    """Whether the kernel lets the user do so, without any sandbox."""
    return subprocess.run(["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups", "test", flag, path], check=False).returncode == 0


def test_each_process_is_its_user_and_all_works(apart):
    s = apart.start()
    check_processes(s)
    check_files(s)
    s.account("apart", "test", "both")
    key = s.key("apart")
    device = Device(s.gateway(key).enrol("first").body)
    assert ask(s, device) is None
    assert s.gateway(s.root("apart").device("own")).ecus().status == 201
    s.host("apart")  # its own certificate, made by control and read by the gateway
    # Again: what was made meanwhile belongs to whom it should, and what was promised is kept.
    assert s.stop() == 0
    s.start()
    check_processes(s)
    check_files(s)
    assert ask(s, device) is None
    assert ask(s, Device(s.gateway(key).enrol("second").body)) is None
    assert {d["device_id"] for d in s.muster("device", "list", "--account", "apart")} == {"first", "second", "own"}
    assert s.muster("audit", "verify", "--account", "apart")["ok"] is True
    assert not [line for line in s.log_text().splitlines() if line.split()[1:2] == ["error"]]


def test_the_kernel_keeps_them_apart_without_a_sandbox(apart):
    s = apart.start()
    s.stop()
    vault, control, gateway, courier = USERS.values()
    record = next(iter((s.dir / "vault").iterdir()))
    assert may(control, "-w", s.dir / "control.db") is False, "without the gateway's group not even control may pass"
    for user in (control, gateway, courier):
        assert not may(user, "-r", record), user
    for user in (vault, gateway, courier):
        assert not may(user, "-r", s.dir / "control.db"), user
    for user in (vault, courier):
        assert not may(user, "-r", s.dir / "registry.db"), user
    assert may(gateway, "-w", s.dir / "registry.db")
    assert not [user for user in USERS.values() if may(user, "-r", s.dir / "admin.token")]
    assert not [user for user in USERS.values() if may(user, "-w", s.dir / "musterd.conf")]


@pytest.mark.parametrize("running", [True, False])
def test_another_master_key_belongs_to_the_vault(apart, running):
    s = apart.start()
    s.account("apart")
    key = s.key("apart")
    if not running:
        s.stop()
    done = s.musterd("vault", "rekey")
    assert done.returncode == 0, done.stderr
    if running:
        s.stop()
    for path in (s.dir / "vault").iterdir():
        assert pwd.getpwuid(path.stat().st_uid).pw_name == USERS["vault"], path
    s.start()
    check_files(s)
    assert ask(s, Device(s.gateway(key).enrol("first").body)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_confined_as_its_user(apart, kind):
    s = apart.start()
    s.stop()
    done = subprocess.run([MUSTERD, "self-test-confinement", kind, "--data", s.dir], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("ALLOWED")] and len([line for line in lines if line.startswith("denied")]) >= 15


def test_only_some_of_them_and_unknown_ones_are_refused(apart):
    for line in ("gateway_user =", "gateway_user = no-such-user"):
        text = (apart.dir / "musterd.conf").read_text(encoding="utf-8")
        (apart.dir / "musterd.conf").write_text(text.replace(f"gateway_user = {USERS['gateway']}", line), encoding="utf-8")
        done = subprocess.run([MUSTERD, "serve", "--data", apart.dir], capture_output=True, text=True, timeout=60, check=False)
        (apart.dir / "musterd.conf").write_text(text, encoding="utf-8")
        assert done.returncode == 2 and "gateway_user" in done.stderr, done.stderr

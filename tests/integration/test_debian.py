"""The Debian packages: built, linted, and looked into; and the unit's hardening."""
import functools
import gzip
import io
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import time

import pytest

SOURCE = pathlib.Path(__file__).parents[2]
UNIT = SOURCE / "packaging" / "musterd.service"


def run(*words, **options):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{words[0]}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def build(out):
    """The packages of this tree; or those of the folder MUSTER_DEBS, which ./check builds beside the tests: it is there once they are."""
    if ready := os.environ.get("MUSTER_DEBS"):
        end = time.monotonic() + 1800
        while not os.path.isdir(ready):
            assert time.monotonic() < end, f"{ready} does not come"
            time.sleep(0.5)
        shutil.copytree(ready, out, dirs_exist_ok=True)
    else:
        run(SOURCE / "packaging" / "build-deb", out, timeout=1800)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("deb")
    build(out)
    return out


def package(built, name):
    found = list(built.glob(f"{name}_*.deb"))
    assert len(found) == 1, found
    return found[0]


@functools.lru_cache
def members(deb):
    """{path: (mode, owner, kind)} of what the package installs."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name.removeprefix("."): (m.mode, f"{m.uname}:{m.gname}", "d" if m.isdir() else "f" if m.isfile() else "l") for m in tar}


def test_lintian_finds_nothing(built):
    said = run("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", *built.glob("*.changes"), timeout=300)
    assert not re.search(r"^[EW]:", said, re.M), said


LIBRARIES = "/usr/lib/" + subprocess.run(["dpkg-architecture", "-qDEB_HOST_MULTIARCH"], capture_output=True, text=True, check=True).stdout.strip()
EXPECTED = {
    "musterd": {"/lib/systemd/system/musterd.service", "/usr/sbin/musterd", "/usr/share/bash-completion/completions/musterd", "/usr/share/fish/vendor_completions.d/musterd.fish",
                "/usr/share/zsh/vendor-completions/_musterd", "/usr/share/man/man5/musterd.conf.5.gz", "/usr/share/man/man8/musterd.8.gz"},
    "muster": {"/usr/bin/muster", "/usr/share/bash-completion/completions/muster", "/usr/share/fish/vendor_completions.d/muster.fish",
               "/usr/share/zsh/vendor-completions/_muster", "/usr/share/man/man1/muster.1.gz"},
    "muster-agent": {"/lib/systemd/system/muster-agent.service", "/lib/systemd/system/muster-agent.timer", "/usr/bin/muster-agent", "/usr/share/bash-completion/completions/muster-agent",
                     "/usr/share/fish/vendor_completions.d/muster-agent.fish", "/usr/share/zsh/vendor-completions/_muster-agent", "/usr/share/man/man1/muster-agent.1.gz"},
    "muster-sim": {"/usr/bin/muster-sim", "/usr/share/bash-completion/completions/muster-sim", "/usr/share/fish/vendor_completions.d/muster-sim.fish",
                   "/usr/share/zsh/vendor-completions/_muster-sim", "/usr/share/man/man1/muster-sim.1.gz"},
    "libmuster-agent0": {f"{LIBRARIES}/libmuster-agent.so.0", f"{LIBRARIES}/libmuster-agent.so.0.1.0"},
    "libmuster-agent-dev": {"/usr/include/muster-agent.h", f"{LIBRARIES}/libmuster-agent.so", f"{LIBRARIES}/pkgconfig/muster-agent.pc", "/usr/share/man/man3/libmuster-agent.3.gz"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_package_holds_these_files(built, name):
    found = members(package(built, name))
    files = {path for path, (_, _, kind) in found.items() if kind != "d" and not path.startswith("/usr/share/doc/")}
    assert files == EXPECTED[name]
    for path, (mode, owner, kind) in found.items():
        link = kind == "l" and path.startswith(LIBRARIES) and ".so" in path
        assert owner == "root:root" and (link or kind != "l"), path
        assert link or mode == (0o755 if kind == "d" or path.startswith(("/usr/bin/", "/usr/sbin/")) else 0o644), (path, oct(mode))


def test_the_documentation_that_is_installed_leads_to_what_is_there(built):
    """Each page that a page links, and each file of packaging/ that one names, compressed or not."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package(built, "musterd")], capture_output=True, check=True).stdout
    base = "./usr/share/doc/musterd/"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        texts = {name.removeprefix(base): tar.extractfile(name).read() for name in tar.getnames() if name.startswith(base) and tar.getmember(name).isfile()}
    texts = {name.removesuffix(".gz"): gzip.decompress(text) if name.endswith(".gz") else text for name, text in texts.items()}
    pages = {name: text.decode() for name, text in texts.items() if name.endswith(".md")}
    assert {"operations.md", "routes.md", "metrics.md", "webhooks.md"} <= set(pages)
    for name, text in pages.items():
        for target in re.findall(r"\]\(((?!https?:|\.\./)[^)#]+)", text):
            assert target in texts, f"{name} links {target}"
        for target in re.findall(r"packaging/([a-z0-9-]+\.(?:conf|json|yml))", text):
            assert f"examples/{target}" in texts, f"{name} names packaging/{target}"


def test_what_the_programs_link_is_what_the_packages_depend_on(built):
    """By dpkg-shlibdeps: the server needs its libraries, the command line needs but one of the server's: a factory line matches patterns by SQLite's GLOB, as it does."""
    depends = {name: run("dpkg-deb", "-f", package(built, name), "Depends") for name in EXPECTED}
    for library in ("libssl3", "libsqlite3-0", "libseccomp2", "libsodium23", "libevent-core"):
        assert library in depends["musterd"], library
    assert set(re.findall(r"\blib[\w-]+", depends["muster"])) == {"libc6", "libcurl4", "libjansson4", "libsodium23", "libsqlite3-0", "libssl3", "libzip4"}
    assert "adduser" in depends["musterd"]
    for library in ("libsqlite3", "libevent", "libzip", "libinih", "libp11"):
        assert library not in depends["muster-agent"], library


def test_meson_install_brings_the_same_unit(built):
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package(built, "musterd")], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.extractfile("./lib/systemd/system/musterd.service").read() == UNIT.read_bytes()


# --- the unit -----------------------------------------------------------------------------------------------------------------------------


def test_the_unit_s_exposure_is_under_two():
    """systemd-analyze's measure: 0 is nothing left, 10 no hardening at all."""
    said = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", UNIT)
    level = float(re.search(r"Overall exposure level for musterd.service: ([0-9.]+)", said)[1])
    assert level < 2.0


def test_the_measure_can_fail(tmp_path):
    soft = tmp_path / "musterd.service"
    soft.write_text(re.sub(r"^(SystemCallFilter|CapabilityBoundingSet|ProtectSystem)=.*\n", "", UNIT.read_text(encoding="utf-8"), flags=re.M), encoding="utf-8")
    assert subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", soft], capture_output=True, check=False).returncode != 0


def test_systemd_understands_the_unit(tmp_path):
    """The program's path apart, which is not installed here."""
    copy = tmp_path / "musterd.service"
    copy.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/sbin/musterd", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "musterd.service" not in done.stderr, done.stderr


DROP_IN = SOURCE / "packaging" / "musterd-hsm.conf"


def with_drop_in(tmp_path, text):
    """The unit with that drop-in, as systemd reads it: (what is wrong, exposure)."""
    copy = tmp_path / "musterd.service"
    (tmp_path / "musterd.service.d").mkdir(exist_ok=True)
    (tmp_path / "musterd.service.d" / "hsm.conf").write_text(text, encoding="utf-8")
    copy.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/sbin/musterd", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy], capture_output=True, text=True, check=False)
    return [line for line in done.stderr.splitlines() if "hsm.conf" in line or "musterd.service" in line]


def test_systemd_understands_the_drop_in_for_a_token(tmp_path):
    """As it stands, and with what is for USB; a word that is none is found."""
    text = DROP_IN.read_text(encoding="utf-8")
    usb = re.sub(r"^#(\w+=)", r"\1", text, flags=re.M)
    assert usb.count("=") == text.count("=") and "\nDeviceAllow=char-usb_device rw\n" in usb and "\nPrivateDevices=no\n" in usb
    assert with_drop_in(tmp_path, text) == with_drop_in(tmp_path, usb) == []
    assert with_drop_in(tmp_path, text.replace("ReadWritePaths=", "ReadWritePath=")) and with_drop_in(tmp_path, usb.replace("char-usb_device rw", "char-usb_device no"))


def test_the_drop_in_for_a_token_is_the_one_of_the_page():
    """Its lines are the page's, its path the page's pkcs11_files, and its group whose SoftHSM's files are."""
    lines = [line for line in DROP_IN.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    page = (SOURCE / "doc" / "hsm.md").read_text(encoding="utf-8")
    assert "".join(f"    {line}\n" for line in lines) in page
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    (files,) = re.findall(r"^    pkcs11_files = (.*)$", page, re.M)
    assert said["ReadWritePaths"] == files
    conf = pathlib.Path("/etc/softhsm/softhsm2.conf").read_text(encoding="utf-8")
    assert re.search(r"^directories.tokendir = (.*?)/?$", conf, re.M)[1] == files, "where the package has it"
    assert {pathlib.Path(path).group() for path in ("/etc/softhsm", files)} == {said["SupplementaryGroups"]}
    assert "packaging/musterd-hsm.conf" in (SOURCE / "packaging" / "debian" / "musterd.examples").read_text(encoding="utf-8").split()


@functools.lru_cache
def calls_of(name):
    if not name.startswith("@"):
        return frozenset([name])
    listed = run("systemd-analyze", "syscall-filter", name)
    words = [line.strip() for line in listed.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return frozenset().union(*map(calls_of, words))


def allowed_calls():
    """What the unit's SystemCallFilter lines leave, in their order."""
    allowed = set(calls_of("@default"))
    for value in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(encoding="utf-8"), re.M):
        calls = frozenset().union(*map(calls_of, value.lstrip("~").split()))
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def test_the_unit_allows_what_the_processes_need():
    """Each process has a filter of its own; what that allows must not be forbidden by the unit before.  The supervisor's calls besides: it
    forks, confines, gives up capabilities.  (That the server runs under the whole unit: test_clean_root, with a real systemd.)"""
    text = (SOURCE / "src" / "musterd" / "sandbox_calls.c").read_text(encoding="utf-8")
    table = text[text.index("CALLS[] = {"):text.index("static int add_names")]
    own = {call for names in re.findall(r'^    \{"([a-z0-9_ ]+)", ', table, re.M) for call in names.split()}
    assert {"read", "accept4", "epoll_wait", "mlock", "fsync", "mmap", "clone"} <= own and len(own) > 80
    supervisor = {"clone", "wait4", "kill", "socketpair", "socket", "bind", "listen", "prctl", "seccomp", "capset", "landlock_create_ruleset", "landlock_add_rule",
                  "landlock_restrict_self", "signalfd4", "flock", "fcntl", "prlimit64", "mkdirat", "unlinkat", "mlockall", "execve"}
    missing = (own | supervisor) - allowed_calls()
    # Names of other architectures stand in the table too, and systemd lists none of these.
    assert missing - {"fstatat64"} == set()


def test_the_unit_forbids_what_nobody_needs():
    assert not {"mount", "ptrace", "reboot", "init_module", "bpf", "chroot", "setuid", "chown", "pivot_root", "process_vm_readv", "setns", "unshare", "swapon"} & allowed_calls()

"""muster-agent in the images that Muster's own tools make, by each method: `muster key install`, `muster ca install`; and, in the long run, in a root file system of Debian's own, as its
one program."""
import hashlib
import os
import pathlib
import shutil
import subprocess
import zipfile

import pytest

from agent import AGENT, Agent
from conftest import LONG, MUSTER
from test_agent import admits, shown
from test_agent_small import Build
from test_ca import Offline

PROVISIONING = "autoprov_credentials.p12"


@pytest.fixture(scope="module")
def world(server, tmp_path_factory):
    class World:
        top = tmp_path_factory.mktemp("images")
    World.ca = Offline(World.top, "--intermediate")
    server.account("shared", "test", "shared"), server.account("own", "production", "device")
    root = server.muster("root", "upload", World.ca.dir / "root.pem", "--account", "own")
    World.ca.run("prove", root["challenge"], "-o", World.top / "proof.pem")
    server.muster("root", "prove", root["id"], World.top / "proof.pem")
    return World


def with_shared(server, image):
    key = server.key("shared")
    subprocess.run([MUSTER, "key", "install", key.zip, "--root", image], check=True, capture_output=True)
    return image / "var" / "sota" / "sota_provisioning_credentials.zip"


def image_at(path):
    for folder in ("etc", "var", "usr/lib"):
        (path / folder).mkdir(parents=True)
    return path


def test_a_provisioning_key_in_an_image(server, world, tmp_path):
    image = image_at(tmp_path / "image")
    archive = with_shared(server, image)
    device = Agent(tmp_path / "device", "--sysroot", image, "--device-id", "image-1")
    device.good("run")
    assert admits(server, device) and shown(server, "image-1", "shared")["state"] == "active"
    with zipfile.ZipFile(archive) as z:
        assert PROVISIONING not in z.namelist()
    device.good("run", "--now")
    assert device.explain()["verdict"] == "admitted"


def test_a_certificate_in_an_image(server, world, tmp_path):
    """With the intermediate that signed it: the gateway knows the root alone."""
    image = image_at(tmp_path / "image")
    world.ca.run("install", "--root", image, "--device", "image-2", "--server", server.dir)
    device = Agent(tmp_path / "device", "--sysroot", image)
    device.good("run")
    assert admits(server, device) and shown(server, "image-2", "own")["state"] == "active" and len(device.identity.chain) == 1
    device.good("run")
    assert device.explain()["verdict"] == "admitted" and device.status()["method"] == "device"


def test_the_readme_s_three_commands(server, world, tmp_path):
    """From a list of serial numbers to the registry, as they are printed."""
    readme = pathlib.Path(__file__).parents[2] / "README.md"
    text = readme.read_text(encoding="utf-8")
    at = text.index("From a list of serial numbers")
    printed = [line.strip() for line in text[at:].splitlines() if line.startswith("    ")][:3]
    assert [line.split()[0] for line in printed] == ["muster", "muster-agent", "muster"]
    issue, provision, shows = (line.replace("/var/lib/muster", str(server.dir)).replace("--account production", "--account own") for line in printed)
    (tmp_path / "server").mkdir()
    for name in ("server-ca.pem", "gateway.url"):
        shutil.copy(server.dir / name, tmp_path / "server")
    (tmp_path / "serials").write_text("vin-0001\nvin-0002\n", encoding="ascii")
    env = {**os.environ, "PATH": f"{MUSTER.parent}:{AGENT.parent}:{os.environ['PATH']}"}
    run = lambda line: subprocess.run(["sh", "-c", line], cwd=tmp_path, env=env, check=True, capture_output=True, text=True, timeout=60).stdout
    run(f"{issue} --ca '{world.ca.dir}' --passphrase-file '{world.ca.passphrase}'")
    run(f"{provision} --dir agent")
    listed = [line.split() for line in run(shows).splitlines()]
    assert [row[2] for row in listed if row[1] == "vin-0001"] == ["active"] and not [row for row in listed if row[1] == "vin-0002"]


LIBRARIES = "libcurl4,libssl3,libjansson4,libsodium23,zlib1g"


def of_this_machine(root):
    """debootstrap's smallest, with the libraries that the program names; its program, in chroot: no /proc, no systemd, no name service."""
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={LIBRARIES}", "bookworm", root], check=True, capture_output=True, timeout=1200)
    shutil.copy(AGENT, root / "usr" / "bin" / "muster-agent")
    return ["/usr/sbin/chroot", root, "/usr/bin/muster-agent"]


def of_arm64(root):
    """The same of another processor, whose packages are unpacked, since their scripts do not run here; and its program, the small one, by qemu-user, in chroot."""
    subprocess.run(["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", f"--include={LIBRARIES}", "bookworm", root], check=True, capture_output=True, timeout=1200)
    for deb in sorted((root / "var" / "cache" / "apt" / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    shutil.copy(Build("arm64").binary, root / "usr" / "bin" / "muster-agent")
    shutil.copy("/usr/bin/qemu-aarch64-static", root / "usr" / "bin")
    return ["/usr/sbin/chroot", root, "/usr/bin/qemu-aarch64-static", "/usr/bin/muster-agent"]


@pytest.mark.skipif(not LONG, reason="./check --long")
@pytest.mark.skipif(os.geteuid() != 0, reason="a root directory needs root")
@pytest.mark.parametrize("of", [of_this_machine, of_arm64])
def test_a_root_file_system_of_debian(server, world, tmp_path, of):
    root, device = tmp_path / "root", f"debian-{of.__name__}"
    inside = of(root)

    def run(*words):
        done = subprocess.run([str(w) for w in [*inside, *words]], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}, timeout=120)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    archive = with_shared(server, root)
    (root / "var" / "lib" / "muster-agent").mkdir(mode=0o755, exist_ok=True)
    (root / "etc" / "machine-id").write_text(hashlib.md5(device.encode()).hexdigest() + "\n", encoding="ascii")
    run("run")
    device_id = next(line.split(": ")[1] for line in run("status").splitlines() if line.startswith("device_id: "))
    assert shown(server, device_id, "shared")["state"] == "active"
    with zipfile.ZipFile(archive) as z:
        assert PROVISIONING not in z.namelist()
    before = (root / "var" / "lib" / "muster-agent" / "current" / "client.pem").read_bytes()
    run("run", "--now")
    assert "is admitted" in run("check") and (root / "var" / "lib" / "muster-agent" / "current" / "client.pem").read_bytes() != before

    shutil.rmtree(root / "var" / "lib" / "muster-agent")
    for path in (root / "var" / "sota").iterdir():
        path.unlink()
    world.ca.run("install", "--root", root, "--device", device, "--server", server.dir, "--force")
    (root / "var" / "lib" / "muster-agent").mkdir(mode=0o755)
    run("run"), run("check")
    assert shown(server, device, "own")["state"] == "active"
    size = sum(p.lstat().st_size for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    print(f"{device}: {size >> 20} MiB")

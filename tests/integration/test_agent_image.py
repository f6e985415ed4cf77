"""muster-agent in the images that Muster's own tools make, by each method: `muster key install`, `muster ca install`; and, in the long run, in a root file system of Debian's own, as its
one program."""
import os
import pathlib
import shutil
import subprocess
import zipfile

import pytest

from agent import AGENT, Agent
from conftest import LONG, MUSTER
from test_agent import admits, shown
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


@pytest.mark.skipif(not LONG, reason="./check --long")
@pytest.mark.skipif(os.geteuid() != 0, reason="a root directory needs root")
def test_a_root_file_system_of_debian(server, world, tmp_path):
    """debootstrap's smallest, with the libraries that the program names, in chroot: no /proc, no systemd, no name service."""
    root = tmp_path / "root"
    subprocess.run(["debootstrap", "--variant=minbase", "--include=libcurl4,libssl3,libjansson4,libsodium23,zlib1g", "bookworm", root], check=True, capture_output=True, timeout=1200)
    shutil.copy(AGENT, root / "usr" / "bin" / "muster-agent")
    inside = ["/usr/sbin/chroot", root, "/usr/bin/muster-agent"]

    def run(*words):
        done = subprocess.run([str(w) for w in [*inside, *words]], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    with_shared(server, root)
    (root / "var" / "lib" / "muster-agent").mkdir(mode=0o755)
    (root / "etc" / "machine-id").write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
    run("run")
    device_id = next(line.split(": ")[1] for line in run("status").splitlines() if line.startswith("device_id: "))
    assert shown(server, device_id, "shared")["state"] == "active"
    run("run", "--now"), run("check")
    assert "is admitted" in run("check")

    shutil.rmtree(root / "var" / "lib" / "muster-agent")
    for path in (root / "var" / "sota").iterdir():
        path.unlink()
    world.ca.run("install", "--root", root, "--device", "debian-1", "--server", server.dir, "--force")
    (root / "var" / "lib" / "muster-agent").mkdir(mode=0o755)
    run("run"), run("check")
    assert shown(server, "debian-1", "own")["state"] == "active"

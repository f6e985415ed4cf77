"""Credentials in images: `muster ca install`, `muster key install`, and doc/build-images.md and doc/yocto.md as they are printed."""
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import zipfile

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption, pkcs12

from client import Fleet, Registration
from conftest import MUSTER, THE_MUSTER, Refused, refused
from test_ca import Offline, identity, load

ROOT = os.geteuid() == 0
PAGE = pathlib.Path(__file__).parents[2] / "doc" / "build-images.md"
DEVICE_CONFIG, SHARED_CONFIG = "etc/sota/conf.d/20-sota-device-cred.toml", "etc/sota/conf.d/20-sota-shared-cred.toml"


@pytest.fixture
def place(tmp_path):
    """A fleet CA, what `musterd init` leaves for devices, and a way to make images."""

    class Place(Offline):
        def image(self, *folders):
            self.count = getattr(self, "count", 0) + 1
            image = self.top / f"image{self.count}"
            for folder in ("etc", "var", "usr/lib", *folders):
                (image / folder).mkdir(parents=True)
            return image

        def install(self, image, device_id="car-1", *options, **more):
            if "--from" not in options:
                return self.run("install", "--root", image, "--device", device_id, "--server", self.server, *options, **more)
            return self.run("install", "--root", image, "--device", device_id, *options, **more)

    place = Place(tmp_path, "--intermediate")
    place.server = tmp_path / "server"
    place.server.mkdir()
    (place.server / "server-ca.pem").write_bytes(Fleet("Server CA").root_pem())
    (place.server / "gateway.url").write_text("https://gw.example.com:8443\n")
    return place


def content(image):
    """path: (mode, content), of files, symbolic links and directories below an image."""
    found = {}
    for path in image.rglob("*"):
        mode = path.lstat().st_mode & 0o777
        found[str(path.relative_to(image))] = (mode, os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None)
    return found


def test_what_is_written_and_how(place):
    image = place.image()
    shown = place.install(image)
    found = content(image)
    assert {path: mode for path, (mode, _) in found.items()} == {
        "etc": 0o755, "usr": 0o755, "usr/lib": 0o755, "var": 0o755, "etc/sota": 0o755, "etc/sota/conf.d": 0o755, DEVICE_CONFIG: 0o644,
        "var/sota": 0o700, "var/sota/import": 0o700, "var/sota/import/pkey.pem": 0o600, "var/sota/import/client.pem": 0o644,
        "var/sota/import/root.crt": 0o644, "var/sota/import/gateway.url": 0o644}
    assert {f["path"].lstrip("/"): int(f["mode"], 8) for f in shown["files"]} == {path: mode for path, (mode, data) in found.items() if data is not None}
    chain = load(image / "var/sota/import/client.pem")
    assert len(chain) == 2 and f"{chain[0].serial_number:032x}" == shown["id"]
    identity_in(image)
    assert found["var/sota/import/root.crt"][1] == (place.server / "server-ca.pem").read_bytes()
    assert found["var/sota/import/gateway.url"][1] == b"https://gw.example.com:8443\n"
    # What a stock client is configured by (doc/wire.md).
    assert found[DEVICE_CONFIG][1].decode() == ('[tls]\nserver_url_path = "/var/sota/import/gateway.url"\n\n[import]\nbase_path = "/var/sota/import"\n'
                                                'tls_cacert_path = "root.crt"\ntls_clientcert_path = "client.pem"\ntls_pkey_path = "pkey.pem"\n')
    if ROOT:
        assert all((image / path).lstat().st_uid == (image / path).lstat().st_gid == 0 for path in found) and "warnings" not in shown


def identity_in(image):
    folder = image.parent / f"taken-{time.monotonic_ns()}"
    shutil.copytree(image / "var/sota/import", folder)
    device = identity(folder)
    assert device.cert.public_key().public_numbers() == device.key.public_key().public_numbers()
    return device


@pytest.mark.skipif(not ROOT, reason="gives files away")
def test_owners(place):
    image = place.image()
    place.install(image, "car-1", "--owner", "1234:5678")
    for path in ("etc/sota", DEVICE_CONFIG, "var/sota", "var/sota/import", "var/sota/import/pkey.pem", "var/sota/import/client.pem"):
        assert ((image / path).stat().st_uid, (image / path).stat().st_gid) == (1234, 5678), path
    assert (image / "var").stat().st_uid == 0
    for wrong in ("root:root", "0", "0:", ":0", "-1:0", "4294967295:0"):
        assert refused("", place.install, place.image(), "car-2", "--owner", wrong).status == 2
    # Not as root: the files are the caller's, which is said; giving them away cannot be.
    folder = place.issue("car-3", "--server", place.server)[1]
    mine = place.image()
    for path in (place.top, *place.top.rglob("*")):
        os.chown(path, 65534, 65534)
    for above in place.top.parents[:-2]:
        above.chmod(above.stat().st_mode | 0o011)
    shutil.copy(THE_MUSTER, place.top / "muster")  # the build may be where nobody else comes, like root's home
    place.program = place.top / "muster"
    shown = place.install(mine, "car-3", "--from", folder, user=65534, group=65534)
    assert "belong to whoever runs this" in shown["warnings"][0]
    assert (mine / "var/sota/import/pkey.pem").stat().st_uid == 65534
    assert "fakeroot" in refused("image_unfit", place.install, mine, "car-3", "--from", folder, "--owner", "0:0", user=65534, group=65534).text


def test_links_are_followed_inside_and_never_out(place):
    outside = place.top / "outside"
    outside.mkdir()
    # Absolute, as the device means it; and upwards past the root, which is the root again.
    image = place.image("data/sota", "settings")
    (image / "var/sota").symlink_to("/data/sota")
    (image / "etc/sota").symlink_to("../../../../../../settings")
    place.install(image)
    assert (image / "data/sota/import/pkey.pem").is_file() and (image / "settings/conf.d/20-sota-device-cred.toml").is_file()
    # A link that names a directory of this machine.
    image = place.image()
    (image / "var/sota").symlink_to(outside)
    before = content(image)
    refused("image_unfit", place.install, image, "car-2")
    assert content(image) == before
    (image / str(outside).lstrip("/")).mkdir(parents=True)
    place.install(image, "car-2")
    assert (image / str(outside).lstrip("/") / "import/pkey.pem").is_file()
    # In a circle, and to a file.
    for target in ("sota", "/etc/../var/sota"):
        image = place.image()
        (image / "var/sota").symlink_to(target)
        refused("image_unfit", place.install, image, "car-3")
    image = place.image()
    (image / "var/sota").write_text("a file")
    refused("image_unfit", place.install, image, "car-3")
    # The files themselves: a link in their place is neither followed nor replaced.
    for name in ("pkey.pem", "client.pem", "gateway.url"):
        victim = outside / name
        victim.write_text("untouched")
        image = place.image("var/sota/import")
        (image / "var/sota/import" / name).symlink_to(victim)
        folder = place.issue(f"car-{name}", "--server", place.server)[1]
        refused("image_unfit", place.install, image, f"car-{name}", "--from", folder, "--force")
        assert victim.read_text() == "untouched" and (image / "var/sota/import" / name).is_symlink()
    assert {p.name for p in outside.iterdir()} == {"pkey.pem", "client.pem", "gateway.url"}
    refused("image_unfit", place.install, "/", "car-3")
    refused("image_unfit", place.install, place.top / "none", "car-3")
    # Nothing was signed for an image that could not take it.
    assert [c["device_id"] for c in place.run("list") if c["device_id"].startswith("car-3")] == []


def test_a_key_in_place_stays(place):
    image = place.image()
    place.install(image)
    before = content(image)
    refused("key_in_place", place.install, image, "car-2")
    assert content(image) == before and len(place.run("list")) == 1
    shown, folder = place.issue("car-3", "--server", place.server)
    refused("key_in_place", place.install, image, "car-3", "--from", folder)
    assert content(image) == before
    place.install(image, "car-3", "--from", folder, "--force")
    assert f"{load(image / 'var/sota/import/client.pem')[0].serial_number:032x}" == shown["id"]
    # The same again changes nothing, mends modes, and finishes what was cut short.
    after = content(image)
    (image / "var/sota/import/client.pem").unlink()
    (image / "var/sota/import/pkey.pem").chmod(0o644)
    (image / "var/sota").chmod(0o755)
    place.install(image, "car-3", "--from", folder)
    assert content(image) == after


def test_what_is_not_installed(place):
    folder = place.issue("car-1", "--server", place.server)[1]
    other = place.issue("car-2", "--server", place.server)[1]
    image = place.image()
    refused("invalid_request", place.install, image, "car-2", "--from", folder)
    mixed = place.top / "mixed"
    shutil.copytree(folder, mixed)
    shutil.copy(other / "pkey.pem", mixed / "pkey.pem")
    refused("invalid_request", place.install, image, "car-1", "--from", mixed)
    shutil.copy(place.dir / "root.pem", mixed / "client.pem")
    refused("invalid_request", place.install, image, "car-1", "--from", mixed)
    assert "var/sota" not in content(image)
    # The gateway's root and URL are needed, and judged.
    bare = place.issue("car-3")[1]
    assert refused("", place.install, image, "car-3", "--from", bare).status == 2
    for url in ("https://gw.example.com/", "http://gw.example.com", "gw.example.com"):
        refused("invalid_request", place.install, image, "car-3", "--from", bare, "--server-ca", place.server / "server-ca.pem", "--url", url)
    refused("invalid_request", place.install, image, "car-3", "--from", bare, "--server-ca", bare / "pkey.pem", "--url", "https://gw.example.com")
    refused("invalid_request", place.install, image, "car-3", "--from", bare, "--server-ca", bare / "client.pem", "--url", "https://gw.example.com")
    assert refused("", place.install, image, "car-3", "--from", bare, "--layout", "other").status == 2
    assert "var/sota/import/pkey.pem" not in content(image)
    place.install(image, "car-3", "--from", bare, "--server-ca", place.server / "server-ca.pem", "--url", "https://other.example.com", "--no-config")
    found = content(image)
    assert found["var/sota/import/gateway.url"][1] == b"https://other.example.com\n" and DEVICE_CONFIG not in found


def test_what_an_image_already_holds_is_warned_about(place):
    image = place.image("var/sota", "usr/lib/sota/conf.d")
    (image / "usr/lib/sota/conf.d/20-sota-shared-cred.toml").write_text("")
    (image / "var/sota/sql.db").write_text("")
    warnings = " ".join(place.install(image)["warnings"])
    assert "shared credentials" in warnings and "sql.db" in warnings


# --- shared credentials ----------------------------------------------------------------------------------------------------------------


def key_install(image, zip_file, *options):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
    done = subprocess.run([MUSTER, "key", "install", "--root", image, zip_file, "--json", *options], capture_output=True, text=True, env=env, timeout=60)
    if done.returncode:
        raise Refused(done.returncode, done.stderr)
    return json.loads(done.stdout)


def test_shared_credentials_in_a_base_image(server, place):
    server.account("image-shared", "test", "shared")
    key = server.key("image-shared", "--max-devices", "5")
    image = place.image()
    shown = key_install(image, key.zip)
    found = content(image)
    path = "var/sota/sota_provisioning_credentials.zip"
    assert {p: mode for p, (mode, data) in found.items() if data is not None} == {path: 0o600, SHARED_CONFIG: 0o644}
    assert found["var/sota"][0] == 0o700
    assert found[path][1] == key.zip.read_bytes() and shown["url"] == key.url
    assert found[SHARED_CONFIG][1] == b'[provision]\nprovision_path = "/var/sota/sota_provisioning_credentials.zip"\n'
    # A device that boots it, and strips the zip as the client does.
    device = Registration(image / path)
    assert server.gateway(device).enrol("from-the-image").status == 200
    key_install(image, key.zip)
    other = server.key("image-shared")
    refused("key_in_place", key_install, image, other.zip)
    assert content(image) == found
    key_install(image, other.zip, "--force")
    assert content(image)[path][1] == other.zip.read_bytes()


def test_zips_that_are_not_installed(server, place):
    server.account("image-zips", "test", "shared")
    key = server.key("image-zips")
    image = place.image()
    entries = {n: zipfile.ZipFile(key.zip).read(n) for n in key.names}

    def made(*without, **replaced):
        path = place.top / f"{time.monotonic_ns()}.zip"
        with zipfile.ZipFile(path, "w") as z:
            for name, data in {**entries, **{k.replace("__", "."): v for k, v in replaced.items()}}.items():
                if name not in without:
                    z.writestr(name, data)
        return path

    locked = pkcs12.serialize_key_and_certificates(b"x", key.key, key.cert, key.cas, BestAvailableEncryption(b"secret"))
    text = place.top / "no.zip"
    text.write_text("https://gw.example.com")
    expired = Fleet().device("old", days=(-9, -2))
    plain = lambda k, c, cas: pkcs12.serialize_key_and_certificates(b"x", k, c, cas, NoEncryption())
    for path in (text, made("autoprov.url"), made("autoprov_credentials.p12"), made(autoprov_credentials__p12=b"nothing"), made(autoprov_credentials__p12=locked),
                 made(autoprov_credentials__p12=plain(key.key, key.cert, None)), made(autoprov__url="https://gw.example.com/devices"), made(autoprov__url="x" * 5000)):
        refused("invalid_request", key_install, image, path)
    refused("provisioning_key_expired", key_install, image, made(autoprov_credentials__p12=plain(expired.key, expired.cert, key.cas)))
    assert not [path for path in content(image) if path.endswith((".zip", ".toml"))]
    twice = io.BytesIO(made().read_bytes())
    with zipfile.ZipFile(twice, "a") as z, pytest.warns(UserWarning):
        z.writestr("autoprov.url", "https://evil.example.com")
    (place.top / "twice.zip").write_bytes(twice.getvalue())
    refused("invalid_request", key_install, image, place.top / "twice.zip")
    # What lets whoever has the image publish updates is warned about.
    assert "treehub.json" in key_install(image, made(**{"treehub__json": "{}"}))["warnings"][-1]


# --- the page ----------------------------------------------------------------------------------------------------------------------------


def commands(page):
    """What is printed as a command: indented by four, outside of fences and lists."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


def test_the_page_about_images_as_it_is_printed(fresh, tmp_path):
    server = fresh()
    work = tmp_path / "work"
    (work / "rootfs/etc").mkdir(parents=True)
    (work / "rootfs/var").mkdir()
    (work / "server").mkdir()
    for name in ("server-ca.pem", "gateway.url"):
        shutil.copy(server.dir / name, work / "server" / name)
    printed = commands(PAGE)
    assert len(printed) >= 35
    for verb in ("init", "issue", "csr", "sign", "prove", "install", "list", "show"):
        assert any(f"muster ca {verb}" in line for line in printed), verb
    env = {**os.environ, "PATH": f"{MUSTER.parent}:{os.environ['PATH']}", "MUSTER_URL": server.admin_url, "MUSTER_TOKEN_FILE": str(server.dir / "admin.token"),
           "MUSTER_CA": str(server.dir / "server-ca.pem"), "no_proxy": "*"}
    env.pop("MUSTER_CA_DIR", None)
    done = subprocess.run(["sh", "-eu"], input="\n".join(printed) + "\n", cwd=work, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # What the page promises has come true.
    assert server.muster("device", "show", "car-0001", "--account", "production")["state"] == "active"
    for number in (2, 3, 5):
        device = identity_in(work / f"image-car-000{number}")
        assert device.common_name == f"car-000{number}"
        assert server.gateway(device).ecus().status == 201
    assert [d["device_id"] for d in server.muster("device", "list", "--account", "production")] != []
    assert len(server.muster("device", "list", "--account", "production")) == 4
    enrolled = server.gateway(Registration(work / "image-testing/var/sota/sota_provisioning_credentials.zip")).enrol("testing-1")
    assert enrolled.status == 200
    listed = subprocess.run(["tar", "-tvf", "car-0001.tar"], cwd=work, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^-rw-------.* \./var/sota/import/pkey\.pem$", listed, flags=re.M)
    assert {c["device_id"] for c in json.loads(subprocess.run([MUSTER, "ca", "list", "--ca", work / "ca", "--json"], capture_output=True, check=True).stdout)} == {
        f"car-000{n}" for n in range(1, 10)}


def test_the_page_about_yocto_as_it_is_printed(fresh, tmp_path):
    """Its commands; the image is a directory, and nothing is mounted."""
    server, work, mounted = fresh(), tmp_path / "work", tmp_path / "mnt"
    (work / "bin").mkdir(parents=True)
    for name in ("mount", "umount"):
        (work / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {work}/mounts\n')
        (work / "bin" / name).chmod(0o755)
    for folder in ("ostree/deploy/poky/var", "ostree/deploy/poky/deploy", "ostree/repo"):
        (mounted / folder).mkdir(parents=True)
    server.account("testing", "test", "shared")
    server.account("production", "production", "device")
    root = Offline(work)  # ./ca and ./passphrase, as the page about images has them
    uploaded = server.muster("root", "upload", root.dir / "root.pem", "--account", "production")
    root.run("prove", uploaded["challenge"], "-o", work / "proof.pem")
    server.muster("root", "prove", uploaded["id"], work / "proof.pem")
    (work / "server").mkdir()
    for name in ("server-ca.pem", "gateway.url"):
        shutil.copy(server.dir / name, work / "server" / name)
    printed = commands(PAGE.with_name("yocto.md"))
    assert [line.split()[:2] for line in printed] == [["muster", "key"], ["mount", "-o"], ["muster", "ca"], ["umount", "/mnt"]]
    env = {**os.environ, "PATH": f"{work}/bin:{MUSTER.parent}:{os.environ['PATH']}", "MUSTER_URL": server.admin_url, "MUSTER_TOKEN_FILE": str(server.dir / "admin.token"),
           "MUSTER_CA": str(server.dir / "server-ca.pem"), "BUILD": "build 17", "SERIAL": "car-0017"}
    env.pop("MUSTER_CA_DIR", None)
    done = subprocess.run(["sh", "-eu"], input="\n".join(printed).replace("/mnt", str(mounted)) + "\n", cwd=work, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in (work / "mounts").read_text().splitlines()] == ["mount", "umount"]
    # The key in the zip is the one of that build; what the recipe takes out of it is there.
    [key] = server.muster("key", "list", "--account", "testing")
    assert key["build"] == "build 17" and key["max_devices"] == 20
    registration = Registration(work / "credentials.zip")
    assert {"autoprov.url", "autoprov_credentials.p12"} <= set(registration.names)
    assert server.gateway(registration).enrol("by-yocto").status == 200
    # The device's own is in /var/sota of the deployment and nowhere else, and nothing has been written besides.
    import_ = mounted / "ostree/deploy/poky/var/sota/import"
    assert {p.relative_to(mounted).parts[:5] for p in mounted.rglob("*") if p.is_file()} == {("ostree", "deploy", "poky", "var", "sota")}
    assert {p.name: p.stat().st_mode & 0o777 for p in import_.iterdir()} == {"pkey.pem": 0o600, "client.pem": 0o644, "root.crt": 0o644, "gateway.url": 0o644}
    assert server.gateway(identity_in(mounted / "ostree/deploy/poky")).ecus().status == 201
    assert server.muster("device", "show", "car-0017", "--account", "production")["state"] == "active"
    # "takes the same options"
    other = tmp_path / "other/ostree/deploy/poky"
    (other / "var").mkdir(parents=True)
    subprocess.run([MUSTER, "key", "install", "--root", other, "--no-config", work / "credentials.zip"], check=True, capture_output=True, timeout=60)
    assert [str(p.relative_to(other)) for p in other.rglob("*") if p.is_file()] == ["var/sota/sota_provisioning_credentials.zip"]

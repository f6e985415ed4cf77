"""muster-agent as devices get it: small, for other processors, beyond 2038, and as a library."""
import contextlib
import datetime
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from agent import ADMITTED, EST, Agent, Authority, Gateway, certificates, certs_only, issues, shared
from client import spki_hash
from conftest import BUILD, soon
from est import Holder
from test_agent import given, shown
from test_agent_run import Teller
from tpm import Tpm

SOURCE = pathlib.Path(__file__).parents[2]
NATIVE = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
QEMU = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
TOOLS = {"arm64": "aarch64-linux-gnu-", "armhf": "arm-linux-gnueabihf-", NATIVE: ""}
ARCHITECTURES = [NATIVE, *[a for a in QEMU if a != NATIVE]]
KIB = 1024


class Build:
    def __init__(self, architecture):
        self.architecture, self.out = architecture, BUILD / "agents" / architecture
        done = subprocess.run([SOURCE / "packaging" / "build-agent", self.out, architecture], capture_output=True, text=True, timeout=900, check=False,
                              env={**os.environ, "DESTDIR": ""})
        assert done.returncode == 0, done.stdout + done.stderr
        self.binary = self.out / "usr" / "bin" / "muster-agent"
        self.program = [self.binary] if architecture == NATIVE else [QEMU[architecture], "-L", f"{self.out}.sysroot", self.binary]

    def tool(self, name, *words):
        return subprocess.run([TOOLS[self.architecture] + name, *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", params=ARCHITECTURES)
def build(request):
    return Build(request.param)


@pytest.fixture(scope="module")
def native():
    return Build(NATIVE)


@pytest.fixture(scope="module")
def key(server):
    server.account("fleet", "test", "both")
    return server.key("fleet")


def test_its_pages_are_there(build):
    for page, said in (("man1/muster-agent.1", "provision"), ("man3/libmuster-agent.3", "muster_agent")):
        assert said in (build.out / "usr" / "share" / "man" / page).read_text(encoding="utf-8")


def test_the_binary_is_small(build):
    """With room for what is to come: where pages may have 64 KiB the linker leaves a hole of up to that size, into which the program grows before its file does,
    by 64 KiB at once.  How much is loaded differs by a page between builds of the same source in other folders: the linker's way around an erratum of the Cortex-A53, for which there are 4 KiB."""
    assert build.binary.stat().st_size < 200 * KIB
    loads = re.findall(r"^ +LOAD +0x\w+ 0x\w+ 0x\w+ 0x(\w+)", build.tool("readelf", "-lW", build.binary), re.M)
    assert 100 * KIB < sum(int(n, 16) for n in loads) <= (192 + 4) * KIB
    assert ".symtab" not in build.tool("readelf", "-SW", build.binary), "stripped"
    machine = {"arm64": "AArch64", "armhf": "ARM", "amd64": "X86-64"}[build.architecture]
    assert machine in build.tool("readelf", "-h", build.binary)
    needed = set(re.findall(r"\(NEEDED\).*\[(lib[a-z]+)", build.tool("readelf", "-dW", build.binary)))
    assert needed <= {"libcurl", "libssl", "libcrypto", "libz", "libjansson", "libsodium", "libc"}


def test_its_memory_is_small(server, native, key, tmp_path):
    """What is its own and nobody else's while it sleeps, after it has provisioned and renewed."""
    device = Agent(tmp_path / "device", program=native.program)
    shutil.copy(key.zip, tmp_path / "k.zip")
    device.good("provision", "--credentials", tmp_path / "k.zip", "--device-id", "memory-1")
    before = device.serial
    p = subprocess.Popen([str(w) for w in device.command("run", "--stay", "--now")], env=device.env, stderr=subprocess.DEVNULL)
    try:
        soon(True, lambda: device.serial != before, 10)
        time.sleep(0.5)
        text = pathlib.Path(f"/proc/{p.pid}/smaps_rollup").read_text(encoding="utf-8")
        assert p.poll() is None and int(re.search(r"^Private_Dirty: +(\d+) kB", text, re.M)[1]) < 3 * KIB
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait()


def test_each_processor_by_each_method(server, build, key, tmp_path):
    device = Agent(tmp_path / "device", program=build.program)
    device.hook()
    shutil.copy(key.zip, tmp_path / "k.zip")
    device.good("provision", "--credentials", tmp_path / "k.zip", "--device-id", f"shared-{build.architecture}")
    before = device.serial
    device.good("run", "--now")
    assert device.serial != before and device.told == ["enrolled", "renewed"]
    assert shown(server, f"shared-{build.architecture}")["spki"] == device.identity.spki
    assert device.explain()["verdict"] == "admitted"

    fleet = server.root("fleet", None) if not hasattr(server, "fleet_root") else server.fleet_root
    server.fleet_root = fleet
    other = Agent(tmp_path / "other", program=build.program)
    other.good("provision", "--credentials", given(server, tmp_path / "import", fleet.device(f"own-{build.architecture}")))
    assert other.status()["method"] == "device" and shown(server, f"own-{build.architecture}")["state"] == "active"


def test_each_processor_with_its_key_in_a_tpm(server, build, key, tmp_path):
    with contextlib.closing(Tpm()) as tpm:
        renews_in(tpm, server, build, key, tmp_path)


def renews_in(tpm, server, build, key, tmp_path):
    device = Agent(tmp_path / "device", "--key", tpm.uri(), program=build.program)
    shutil.copy(key.zip, tmp_path / "k.zip")
    device.good("provision", "--credentials", tmp_path / "k.zip", "--device-id", f"tpm-{build.architecture}")
    before = certificates(device.dir / "current" / "client.pem")[0]
    device.good("run", "--now")
    now = certificates(device.dir / "current" / "client.pem")[0]
    assert spki_hash(Holder(now)) == shown(server, f"tpm-{build.architecture}")["spki"] != spki_hash(Holder(before))
    assert len(tpm.handles()) == 1 and device.explain()["key_in"] == "tpm2" and not list(device.dir.rglob("pkey.pem"))


def test_dates_beyond_2038(build, tmp_path):
    """A device of 2055, whose clock says something else: what it reckons with are 64 bits."""
    at = datetime.datetime(2055, 6, 1, tzinfo=datetime.timezone.utc)
    plain = at.replace(tzinfo=None)
    ca = Authority(end=20000)  # 2081
    gateway = Gateway(ca.server(end=20000), {("POST", EST + "simpleenroll"): issues(ca, at=plain, end=1700), ("GET", "/devices"): ADMITTED, ("GET", EST + "cacerts"): certs_only(ca.cert),
                                             ("POST", EST + "simplereenroll"): issues(ca, at=plain, end=1800), ("GET", "/time"): Teller(ca, at=at, made=plain)})
    device = Agent(tmp_path / "device", program=build.program)
    options = ("--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    device.dir.mkdir(mode=0o755)
    (device.dir / "state.json").write_text('{"newest_time": %d}' % int((at - datetime.timedelta(days=1)).timestamp()), encoding="utf-8")
    said = device.run("provision", *options)
    assert said.returncode == 0 and "it is 2055-06-01" in said.stderr and "until 2060-01-26" in said.stderr, said.stderr
    status = device.status()
    assert status["certificate"]["not_after"].startswith("2060-01-26") and not status["certificate"]["ended"] and status["renews_at"].startswith("2058-")
    assert device.remembered()["newest_time"] == int(at.timestamp())
    before = device.serial
    device.good("run", *options)
    assert device.serial == before, "three years before it is due"
    device.good("run", "--now", *options)
    assert device.serial != before and device.status()["certificate"]["not_after"].startswith("2060-05-05")
    gateway.close()


def test_no_library_is_told_a_time_of_32_bits(build):
    """_TIME_BITS=64 is ours alone: what takes a time_t in another library must not be called."""
    called = set(re.findall(r" U (\w+)", build.tool("nm", "-D", build.binary)))
    assert not [f for f in called if re.search(r"(?i)_time_adj|gmtime_adj|cmp_time|cmp_current_time|set_time|TIME_set$|TIME_adj|get_time$|curl_getdate", f)]
    if build.architecture == "armhf":
        assert {"__clock_gettime64", "__stat64_time64", "__fstat64_time64"} <= called and not called & {"clock_gettime", "time", "stat64", "fstat64", "gettimeofday"}


PROGRAM = r"""
#include <muster-agent.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    muster_agent *a = muster_agent_new(), *other = muster_agent_new();
    struct muster_agent_identity id;
    char *json = NULL, host[256];
    if (!a || muster_agent_set(a, "dir", argv[1]) || muster_agent_set(other, "dir", argv[1]))
        return 10;
    if (muster_agent_set(a, "nothing", "x") != MUSTER_AGENT_USAGE || !strstr(muster_agent_error(a), "no setting") || strcmp(muster_agent_error_code(a), "config_invalid"))
        return 11;
    if (muster_agent_set(a, "device-id", "x\ngateway = https://y") != MUSTER_AGENT_USAGE)
        return 12;
    if (muster_agent_identity(a, &id) != MUSTER_AGENT_FAILED || strcmp(muster_agent_error_code(a), "not_found"))
        return 13;
    if (muster_agent_set(a, "credentials", argv[2]) || muster_agent_set(a, "device-id", "library-1") || muster_agent_set(a, "hooks", argv[3]) || muster_agent_provision(a) != MUSTER_AGENT_DONE) {
        fprintf(stderr, "%s\n", muster_agent_error(a));
        return 14;
    }
    if (muster_agent_run(a) || muster_agent_retry_after(a) || muster_agent_identity(other, &id) || strcmp(id.device_id, "library-1") || id.not_after - id.not_before < 300 * 86400LL)
        return 15;
    FILE *f = fopen(id.key_file, "r");
    if (!f || fclose(f) || muster_agent_status(other, &json) || !strstr(json, "\"provisioned\""))
        return 16;
    free(json);
    if (muster_agent_explain(other, &json) || !strstr(json, "\"admitted\""))
        return 17;
    free(json);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (muster_agent_use(a, ctx) || muster_agent_use(a, ctx) || muster_agent_identity(a, &id))
        return 18;
    BIO *bio = BIO_new_ssl_connect(ctx);
    SSL *ssl = NULL;
    BIO_get_ssl(bio, &ssl);
    snprintf(host, sizeof host, "%s", id.gateway + strlen("https://"));
    BIO_set_conn_hostname(bio, host);
    *strchr(host, ':') = 0;
    SSL_set_tlsext_host_name(ssl, host);
    SSL_set1_host(ssl, host);
    if (BIO_do_handshake(bio) != 1)
        return 19;
    BIO_printf(bio, "GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
    char answer[4096];
    int n = 0, got;
    while ((got = BIO_read(bio, answer + n, (int)sizeof answer - 1 - n)) > 0)
        n += got;
    answer[n] = 0;
    BIO_free_all(bio);
    SSL_CTX_free(ctx);
    muster_agent_free(a);
    muster_agent_free(other);
    muster_agent_free(NULL);
    puts(answer);
    return 0;
}
"""


def test_a_program_in_c(server, native, key, tmp_path):
    """By the header and pkg-config, as they are installed."""
    (tmp_path / "program.c").write_text(PROGRAM, encoding="utf-8")
    folder = next(native.out.glob("usr/lib/*/pkgconfig"))
    env = {**os.environ, "PKG_CONFIG_PATH": str(folder), "PKG_CONFIG_SYSROOT_DIR": str(native.out)}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "muster-agent"], env=env, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-std=c11", "-pedantic", "program.c", "-o", "program", *flags, "-lssl", "-lcrypto"], cwd=tmp_path, check=True)
    shutil.copy(key.zip, tmp_path / "k.zip")
    (tmp_path / "hooks").mkdir()
    done = subprocess.run(["./program", tmp_path / "agent", tmp_path / "k.zip", tmp_path / "hooks"], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "LD_LIBRARY_PATH": str(folder.parent)}, timeout=60)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert '"not_found"' in done.stdout and done.stderr == ""
    exported = subprocess.run(["nm", "-D", "--defined-only", folder.parent / "libmuster-agent.so.0"], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r" T (\w+)", exported))
    header = (SOURCE / "src" / "agent" / "muster-agent.h").read_text(encoding="utf-8")
    assert names == set(re.findall(r"\b(muster_agent_\w+)\(", re.sub(r"/\*.*?\*/|^ \*.*$", "", header, flags=re.S | re.M)))
    manual = (SOURCE / "doc" / "man" / "libmuster-agent.3.scd").read_text(encoding="utf-8").replace("\\_", "_")
    assert [n for n in names if n not in manual] == []

"""muster-agent over the years: gateways that move, files that are damaged, intermediates that change, clocks that are set back; and what it says when it cannot go on."""
import base64
import json
import os
import re
import signal
import subprocess
import time

import pytest
from cryptography import x509

from agent import ADMITTED, AGENT, CLIENT_AUTH, EST, NOT_YET, Agent, Authority, Gateway, Holder, certificates, certs_only, issues, own, refusal, shared
from clock import Clock
from conftest import LONG, soon
from test_clock import DAY


@pytest.fixture
def ca():
    return Authority()


def gateway_of(ca, **more):
    return Gateway(ca.server(**more), {("POST", EST + "simpleenroll"): issues(ca), ("POST", EST + "simplereenroll"): issues(ca), ("GET", "/devices"): ADMITTED,
                                       ("GET", EST + "cacerts"): certs_only(ca.cert)})


@pytest.fixture
def gateway(ca):
    made = gateway_of(ca)
    yield made
    made.close()


def enrolled(top, gateway, ca, *options, **more):
    device = Agent(top / "device", *options, **more)
    device.hook()
    device.good("provision", "--credentials", shared(top / "shared", gateway.url, ca), "--device-id", "car-1")
    return device


def test_proxies_of_the_environment_are_none_of_its(tmp_path, gateway, ca):
    nowhere = {"https_proxy": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
    device = enrolled(tmp_path, gateway, ca, env=nowhere)
    device.good("run", "--now"), device.good("check")
    assert "127.0.0.1 port 1" in device.fails("run", "--now", "--proxy", "http://127.0.0.1:1", status=NOT_YET)
    assert "does not begin with http://" in device.fails("run", "--proxy", "https://127.0.0.1:1", status=2)


def test_a_gateway_that_moves(tmp_path, gateway, ca):
    """Once the new one has admitted the device, and not before; whatever it is, what is due is done."""
    device = enrolled(tmp_path, gateway, ca)
    there = gateway_of(ca)
    there.answers[("GET", "/devices")] = refusal(403, "device_revoked")
    before = device.serial
    assert gateway.url in device.fails("run", "--now", "--gateway", there.url)
    assert device.status()["gateway"] == gateway.url and device.serial != before, "the renewal did not wait for it"
    there.answers[("GET", "/devices")] = ADMITTED
    device.good("run", "--gateway", there.url + "/")
    assert device.status()["gateway"] == there.url and device.told == ["enrolled", "renewed", "moved"]
    gateway.close()
    device.good("run", "--now")
    assert ("POST", EST + "simplereenroll") in there.paths()
    stranger = gateway_of(Authority("Another"))
    assert "(tls_client_rejected_server)" in device.fails("run", "--gateway", stranger.url)
    assert device.status()["gateway"] == there.url
    there.close(), stranger.close()


def test_who_provisions_names_another_gateway(tmp_path, gateway, ca):
    """A device that is in follows, or says why not."""
    device, there = enrolled(tmp_path, gateway, ca), gateway_of(ca)
    device.good("provision", "--gateway", gateway.url + "/", "--device-id", "car-1")
    assert "This device is car-1, and the options say car-2" in device.fails("provision", "--device-id", "car-2")
    assert device.told == ["enrolled"]
    there.answers[("GET", "/devices")] = refusal(403, "device_revoked")
    said = device.fails("provision", "--gateway", there.url)
    assert f"{there.url}, does not take the place of {gateway.url}" in said and device.status()["gateway"] == gateway.url
    there.answers[("GET", "/devices")] = ADMITTED
    device.good("provision", "--gateway", there.url)
    assert device.status()["gateway"] == there.url and device.told == ["enrolled", "moved"]
    device.good("run")
    assert device.status()["gateway"] == there.url
    there.close()


@pytest.mark.parametrize("renewed", [False, True])
def test_a_file_that_names_another_gateway(tmp_path, gateway, ca, renewed):
    """The same certificate beside another gateway.url, whether it is in use still or was renewed."""
    device, there, made = Agent(tmp_path / "device"), gateway_of(ca), ca.device()
    device.hook()
    device.good("provision", "--credentials", own(tmp_path / "import", made, ca.pem(), gateway.url))
    if renewed:
        device.good("run", "--now")
    told = device.told
    own(tmp_path / "import", made, ca.pem(), there.url)
    there.answers[("GET", "/devices")] = (502, {}, b"")
    assert f"{there.url}, does not take the place of" in device.fails("run", status=NOT_YET)
    assert "is left alone" in device.fails("run", status=NOT_YET) and device.status()["gateway"] == gateway.url
    there.answers[("GET", "/devices")] = ADMITTED
    device.good("run", "--now")
    assert device.status()["gateway"] == there.url and device.told == [*told, "moved", "renewed"]
    device.good("run", "--gateway", gateway.url)
    device.good("run")
    assert device.status()["gateway"] == gateway.url, "what was followed once is no news"
    own(tmp_path / "import", ca.device("another", end=100), ca.pem(), there.url + "/")
    device.good("run")
    assert device.status()["gateway"] == gateway.url, "nor are the files of another device"
    there.close()


def test_a_move_with_a_certificate_on_its_way(tmp_path, gateway, ca):
    """What was issued by the old gateway, and not used before that was gone, is used at the new one."""
    device, there = enrolled(tmp_path, gateway, ca), gateway_of(ca)
    gateway.answers[("GET", "/devices")] = (503, {}, b"")
    device.fails("run", "--now", status=NOT_YET)
    on_its_way = certificates(device.dir / "identity-2" / "client.pem")[0]
    gateway.close()
    device.fails("run", "--gateway", there.url, status=NOT_YET)
    device.good("run")
    assert device.identity.cert == on_its_way and device.status()["gateway"] == there.url and device.told == ["enrolled", "moved", "renewed"]
    there.close()


@pytest.mark.parametrize("file", ["gateway.url", "root.crt"])
@pytest.mark.parametrize("damage", [b"", b"\0" * 40, None])
def test_a_damaged_file_of_the_identity_is_written_anew(tmp_path, gateway, ca, file, damage):
    device = enrolled(tmp_path, gateway, ca)
    path = device.dir / "current" / file
    was = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    if damage and file == "gateway.url":
        path.write_bytes(b"\n")
    device.good("run", "--now")
    assert (device.dir / "current" / file).read_bytes() == was and device.explain()["verdict"] == "admitted"


def test_what_stands_above_a_certificate_is_its_own(tmp_path, gateway, ca):
    """A factory's intermediate goes with the factory's certificate, and the one that came stays."""
    factory, issuing = Authority("Factory CA", ekus=(CLIENT_AUTH,)), Authority("Issuing CA", ekus=(CLIENT_AUTH,))
    issuing.cert = Authority("Root", ekus=()).crosses(issuing, ekus=(CLIENT_AUTH,))
    identity = factory.device()
    identity.chain = [Authority("Factory root", ekus=()).crosses(factory, ekus=(CLIENT_AUTH,))]
    factory_ca = identity.chain[0]

    def signed(body):
        csr = x509.load_der_x509_csr(base64.b64decode(body))
        return issuing.sign(csr.subject, Holder(csr.public_key()), (CLIENT_AUTH,), end=300)

    gateway.answers[("POST", EST + "simplereenroll")] = lambda request, body: certs_only(signed(body), issuing.cert)
    device = Agent(tmp_path / "device")
    device.good("provision", "--credentials", own(tmp_path / "import", identity, ca.pem(), gateway.url))
    assert device.identity.chain == [factory_ca]
    device.good("run", "--now")
    assert device.identity.chain == [issuing.cert]
    gateway.answers[("POST", EST + "simplereenroll")] = lambda request, body: certs_only(signed(body))
    device.good("run", "--now")
    assert device.identity.chain == [issuing.cert], "of the one before, where it is of this one too"


def test_a_clock_that_is_set_back_behind_what_a_gateway_has_shown(tmp_path, ca):
    """Nine days on the gateway gets a new certificate; its old one, which somebody may have, is no good on a clock that says what it said then.  Once the new one is a week old: one
    clock that has run ahead may be the gateway's and this device's, and nobody would find a way back."""
    clock = Clock(tmp_path / "clock")
    gateway = gateway_of(ca, begin=9, end=30)
    clock.set(10 * DAY)
    device = Agent(tmp_path / "device", env=clock.env)
    device.good("provision", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id", "car-1")
    device.good("run", "--now")
    assert device.remembered()["newest_time"] <= time.time()
    clock.set(17 * DAY)
    device.good("run", "--now")
    assert 0 <= time.time() + 9 * DAY - device.remembered()["newest_time"] < 600
    clock.set(0)
    assert device.status()["clock_behind"] and "clock is not right" in device.fails("run")
    gateway.close()


def test_a_stranger_in_the_gateways_place_is_no_success(tmp_path, gateway, ca):
    """A timer that goes on for ever is what nobody looks at: not yet is one thing, never another."""
    device = enrolled(tmp_path, gateway, ca)
    port, stranger = gateway.url.rpartition(":")[2], Authority("Another")
    gateway.close()
    other = Gateway(stranger.server(), {}, port=int(port))
    said = device.fails("run", "--now")
    assert "is not accepted" in said and "(tls_client_rejected_server)" in said
    assert (device.explain()["code"], device.explain()["side"]) == ("gateway_untrusted", "device")
    other.close()


def test_an_end_that_is_near_is_no_success_either(tmp_path, gateway, ca):
    gateway.answers[("POST", EST + "simpleenroll")] = issues(ca, begin=-100, end=5)
    gateway.answers[("POST", EST + "simplereenroll")] = (503, {"Retry-After": "3600"}, b"")
    device = enrolled(tmp_path, gateway, ca)
    assert "ends soon, and could not be renewed" in device.fails("run")
    assert "ends soon" in device.fails("run"), "while it waits as well"
    gateway.answers[("POST", EST + "simplereenroll")] = issues(ca)
    device.good("run", "--now"), device.good("run")


def test_what_is_remembered_may_be_anything(tmp_path, gateway, ca):
    device = enrolled(tmp_path, gateway, ca)
    device.remember(asked_at=-2**63, wait=2**63 - 1)
    device.good("run", "--now"), device.good("check")
    device.remember(asked_at=1, wait=2**63 - 1)
    device.good("run"), device.good("check")


def test_a_device_that_was_given_nothing_says_so_in_json_too(tmp_path):
    device = Agent(tmp_path / "device")
    for verb, member in (("explain", "verdict"), ("check", "verdict"), ("status", "state")):
        done = device.run(verb, "--json")
        said = json.loads(done.stdout)
        assert done.returncode == 1 and said["code"] == "not_provisioned" and said[member] in ("refused", "none")


def test_who_else_may_write_there(tmp_path, gateway, ca):
    at = shared(tmp_path / "open", gateway.url, ca)
    (at / "autoprov_credentials.p12").chmod(0o666)
    assert "Anybody may write" in Agent(tmp_path / "one").fails("provision", "--credentials", at, "--device-id", "car-1")
    config = tmp_path / "agent.conf"
    config.write_text("device-id-command = echo car-1\n", encoding="utf-8")
    config.chmod(0o666)
    assert "may be written to by others" in Agent(tmp_path / "two").fails("provision", "--config", config, "--credentials", at, status=2)
    device = enrolled(tmp_path, gateway, ca)
    device.good("run", "--config", "/dev/null")
    for i in range(64):
        device.hook("exit 0\n", f"20-{i}")
    assert "more than 64 hooks" in device.fails("run", "--now") and device.told == ["enrolled"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_credentials_that_nobody_can_write_to(tmp_path, gateway, ca):
    """An image that is read-only keeps the key, and that is told once."""
    at = shared(tmp_path / "shared", gateway.url, ca)
    mounted = ["unshare", "-m", "sh", "-c", f'mount --bind "{at}" "{at}" && mount -o remount,ro,bind "{at}" && exec "$0" "$@"', AGENT]
    device = Agent(tmp_path / "device", program=mounted)
    said = device.run("run", "--credentials", at, "--device-id", "car-1")
    assert said.returncode == 0 and "keep-credentials" in said.stderr, said.stderr
    assert (at / "autoprov_credentials.p12").exists() and json.loads(device.good("status", "--json"))["shared_key_left"]
    again = device.run("run", "--credentials", at)
    assert again.returncode == 0 and "keep-credentials" not in again.stderr


def test_who_stays_comes_when_it_is_due(tmp_path, gateway, ca):
    gateway.answers[("POST", EST + "simpleenroll")] = issues(ca, begin=0, end=0.0125)  # 18 minutes: renewed in 12 to 13.5
    device = enrolled(tmp_path, gateway, ca)
    trace = tmp_path / "trace"
    running = subprocess.Popen([str(w) for w in ["strace", "-qq", "-o", trace, "-e", "trace=clock_nanosleep", *device.command("run", "--stay")]], env=device.env, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        slept = lambda: [int(s) for s in re.findall(r"tv_sec=(\d+)", trace.read_text() if trace.exists() else "") if int(s) > 1]
        soon(True, lambda: len(slept()) > 0, 30)
        assert 600 < slept()[0] < 811
    finally:
        os.killpg(running.pid, signal.SIGKILL)  # what strace runs would outlive it
        running.wait()


@pytest.mark.skipif(not LONG, reason="./check --long: it takes the minute that is allowed")
def test_a_command_for_the_id_that_does_not_end(tmp_path, gateway, ca):
    device = Agent(tmp_path / "device")
    said = device.fails("provision", "--credentials", shared(tmp_path / "shared", gateway.url, ca), "--device-id-command", "sleep 600 & wait")
    assert "took more than 60 seconds" in said

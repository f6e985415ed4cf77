"""The server CA is rotated: devices that know the old one alone go on, those that come get both, and the old one is retired when nobody depends on it any more."""
import base64
import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from client import Fleet, Gateway, new_key, spki_hash
from conftest import BUILD, MUSTERD, Refused, Server, refused, soon
from enrolment import DAY, Account, ask, enrolled
from est import Holder, certificates, enrolled as enrolled_by_est, path
from hsm import Token
from test_clock import Clock
from test_est import renew
from test_webhooks import LOCAL, hook, receiver  # noqa: F401 (a fixture)

NEVER = "/director/2.root.json"


def pems(data):
    return [x509.load_pem_x509_certificate(b"-----BEGIN CERTIFICATE" + one) for one in data.split(b"-----BEGIN CERTIFICATE")[1:]]


def anchors(s): return pems((s.dir / "server-ca.pem").read_bytes())
def cas(s): return s.muster("server-ca", "list")
def numbers(s, state): return [c["number"] for c in cas(s) if c["state"] == state]
def dependents(s, number): return {d["device_id"] for d in s.muster("server-ca", "show", number)["newest"]}
def log_actions(s): return [e["action"] for e in s.muster("audit", "list")]
def prints(certs): return {c.fingerprint(hashes.SHA256()).hex() for c in certs}


def aside(s, name):
    """server-ca.pem as it is now, elsewhere."""
    copy = s.dir.parent / f"{name}.pem"
    shutil.copy(s.dir / "server-ca.pem", copy)
    return copy


def only(s, number, name):
    """The anchor of one server CA alone, as a file."""
    shown = s.muster("server-ca", "show", number)
    (cert,) = [c for c in anchors(s) if prints([c]) == {shown["fingerprint"]}]
    file = s.dir.parent / f"{name}.pem"
    file.write_bytes(cert.public_bytes(Encoding.PEM))
    return file


def chain_of(s, anchor, *more):
    """What the gateway sends, as openssl s_client takes it; None where it refuses it."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.port}", "-servername", "localhost", "-CAfile", anchor, "-no-CApath", "-no-CAstore", "-verify_return_error", "-verify_hostname",
                           "localhost", "-purpose", "sslserver", "-showcerts", *more], input=b"", capture_output=True, timeout=60, check=False)
    return pems(done.stdout) if done.returncode == 0 and b"Verify return code: 0" in done.stdout else None


def by_curl(s, anchor):
    done = subprocess.run(["curl", "-sS", "--cacert", anchor, "--capath", "/nonexistent", f"https://localhost:{s.port}{path('csrattrs')}"], capture_output=True, timeout=60, check=False)
    return done.returncode


def by_gnutls(s, anchor):
    done = subprocess.run(["gnutls-cli", "--x509cafile", anchor, "-p", str(s.port), "--sni-hostname", "localhost", "--verify-hostname", "localhost", "127.0.0.1"], input=b"", capture_output=True, timeout=60,
                          check=False)
    return b"The certificate is trusted" in done.stdout


def accepted(s, anchor):
    """By openssl over both versions of TLS, by curl, by GnuTLS: all of them, or none."""
    said = {chain_of(s, anchor, "-tls1_2") is not None, chain_of(s, anchor, "-tls1_3") is not None, by_curl(s, anchor) == 0, by_gnutls(s, anchor)}
    assert len(said) == 1, said
    return said.pop()


def issued(leaf, ca):
    try:
        ca.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
        return True
    except InvalidSignature:
        return False


def under_current(s):
    """The gateway's certificate is signed by the newest server CA, which stands first in server-ca.pem."""
    try:
        with s.gateway().connect() as c:
            return issued(x509.load_der_x509_certificate(c.getpeercert(True)), anchors(s)[0])
    except OSError:
        return False


def rotate(s, *options):
    new = s.muster("server-ca", "rotate", *options)
    soon(True, lambda: under_current(s), 10)
    return new


def cacerts(s, identity=None, account=None):
    return certificates(s.gateway(identity).get(path("cacerts", account)))


def timed(s, anchor):
    """A signed time that a device with that anchor alone takes."""
    answer = s.gateway().get("/time?nonce=" + "ab" * 16)
    assert answer.status == 200, answer
    signer = s.dir.parent / "signer.pem"
    signer.write_bytes(x509.load_der_x509_certificate(base64.b64decode(answer.json["certificate"])).public_bytes(Encoding.PEM))
    done = subprocess.run(["openssl", "verify", "-CAfile", anchor, "-no-CApath", "-no-CAstore", "-purpose", "timestampsign", signer], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


# --- who goes on ---------------------------------------------------------------------------------------------------------------------------------


def test_devices_of_before_and_after(fresh):
    s = fresh()
    a = Account(s, method="both")
    fleet = s.root(a.name)
    key = a.key("--expires", "2y")
    stock = enrolled(s, key, "stock")
    assert ask(s, stock) is None and len(stock.cas) == 1 and len(key.cas) == 1
    old = aside(s, "old")
    assert [c["state"] for c in cas(s)] == ["current"] and accepted(s, old)
    assert len(chain_of(s, old)) == 1, "nothing is sent that nobody needs"
    shown = rotate(s)
    assert shown["state"] == "current" and shown["number"] == 2 and shown["backend"] == "sealed" and numbers(s, "former") == [1]
    new = only(s, 2, "new")
    assert len(anchors(s)) == 2 and prints([anchors(s)[0]]) == {shown["fingerprint"]}, "the current one first"
    assert accepted(s, old) and accepted(s, new) and accepted(s, s.dir / "server-ca.pem")
    sent = chain_of(s, old)
    assert len(sent) == 2 and issued(sent[1], pems(old.read_bytes())[0]) and spki_hash(Holder(sent[1])) == spki_hash(Holder(anchors(s)[0]))
    assert ask(s, stock) is None
    # With the anchor that its PKCS#12 had, as the stock client has it: nothing else.
    mine = s.dir.parent / "stock-ca.pem"
    mine.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in stock.cas))
    assert Gateway(s.port, mine, stock).get(NEVER).status == 404
    # Who comes now gets both, in the PKCS#12, in credentials.zip, and by /cacerts.
    later_key = a.key("--expires", "2y")
    later = enrolled(s, key, "later")
    both = prints(anchors(s))
    assert prints(later.cas) == both and prints(later_key.cas) == both and prints(pems(later_key.server_ca)) == both
    assert ask(s, later) is None
    for name, anchor in (("an operator with the old file", old), ("and with the new one", new)):
        env = {**{k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}, "MUSTER_URL": s.admin_url, "MUSTER_TOKEN_FILE": str(s.dir / "admin.token"), "MUSTER_CA": str(anchor)}
        assert subprocess.run([BUILD / "src" / "muster" / "muster", "status"], env=env, capture_output=True, timeout=60, check=False).returncode in (0, 1), name
        assert subprocess.run([BUILD / "src" / "muster" / "muster", "whoami"], env=env, capture_output=True, timeout=60, check=False).returncode == 0, name
    assert prints(pems(subprocess.run([BUILD / "src" / "muster" / "muster", "--data", s.dir, "server-ca", "export"], capture_output=True, check=True, timeout=60).stdout)) == both
    # The time is signed so that everybody can tell.
    assert timed(s, old) and ask(s, fleet.device("own")) is None
    # An account's own certificate as well.
    soon(2, lambda: len(chain_of(s, old, "-servername", f"{a.name}.localhost", "-verify_hostname", f"{a.name}.localhost") or []), 10)
    assert s.muster("audit", "verify")["ok"] is True and "server_ca.rotate" in log_actions(s)
    assert s.stop() == 0


def test_cacerts_carries_what_proves_the_new_one(fresh):
    s = fresh()
    a = Account(s, method="both")
    fleet = s.root(a.name)
    key = a.key()
    (first,) = cacerts(s, key)
    for n in (2, 3):
        rotate(s)
        got = cacerts(s, key)
        roots, crosses = [c for c in got if issued(c, c)], [c for c in got if not issued(c, c)]
        assert prints(roots) == prints(anchors(s)) and len(roots) == n and len(crosses) == 2 * (n - 1)
        # From the first anchor each one is reached by signatures alone.
        known = [first]
        while True:
            more = [c for c in got if c not in known and any(issued(c, k) for k in known)]
            more += [r for r in roots if r not in known and any(spki_hash(Holder(k)) == spki_hash(Holder(r)) for k in known + more)]
            if not more:
                break
            known += more
        assert prints(roots) <= prints(known)
        # No fleet root, no issuing CA, made or uploaded: by key and by name.
        own = s.dir.parent / "own.pem"
        s.muster("root", "bundle", "--account", a.name, "-o", own)
        others = [*pems(own.read_bytes()), fleet.cert]
        assert not {spki_hash(Holder(c)) for c in got} & {spki_hash(Holder(c)) for c in others}
    # Without the certificate between them the new one is not shown: whoever fetches by the old one could not tell.
    (s.dir / "tls" / "crosses.pem").unlink()
    s.process.send_signal(signal.SIGHUP)
    soon(3 + 4, lambda: len(cacerts(s, key)), 10)  # control has written it anew


def test_a_fleet_root_that_was_added_to_server_ca_pem_is_not_in_cacerts(fresh):
    """Made or uploaded, before or behind the upload: who bootstraps would take each device under it for the gateway."""
    s = fresh()
    a = Account(s, method="both")
    key, theirs, uploaded, later = a.key(), Fleet("Operator's server CA"), Fleet("Company root"), Fleet("Company's next root")
    s.root(a.name, uploaded)
    made = s.dir.parent / "made.pem"
    s.muster("root", "bundle", "--account", a.name, "-o", made)
    own = anchors(s)
    with open(s.dir / "server-ca.pem", "ab") as f:
        f.write(theirs.root_pem() + uploaded.root_pem() + later.root_pem() + made.read_bytes())
    s.stop()
    s.start()
    allowed = prints([*own, theirs.cert])
    assert prints(cacerts(s, key)) == allowed | prints([later.cert])
    assert s.log_text().count("anchor_is_fleet_root") == 1 + len(pems(made.read_bytes()))
    s.root(a.name, later, prove=False)
    assert prints(cacerts(s, key)) == allowed | prints([later.cert]), "anybody can upload anything"
    s.root(a.name, later)
    soon(allowed, lambda: prints(cacerts(s, key)))


def test_anchors_that_nobody_vouches_for_are_not_in_cacerts(fresh):
    """The gateway alone, before control has come to write what the server CAs say of one another."""
    s = fresh()
    a = Account(s)
    key = a.key()
    rotate(s)
    os.kill(s.child("control"), signal.SIGSTOP)
    try:
        (s.dir / "tls" / "crosses.pem").unlink()
        os.kill(s.child("gateway"), signal.SIGKILL)  # the next one finds none
        soon(1, lambda: len(quiet(lambda: cacerts(s, key))), 15)
        assert prints(cacerts(s, key)) == prints([anchors(s)[1]])
        device = enrolled(s, key, "meanwhile")
        assert len(device.cas) == 2
    finally:
        os.kill(s.child("control"), signal.SIGCONT)


def quiet(ask_it):
    try:
        return ask_it()
    except OSError:
        return []


# --- who depends on which, and retiring -------------------------------------------------------------------------------------------------------------


def test_retire_waits_for_those_that_know_the_old_one_alone(fresh):
    s = fresh()
    a = Account(s, method="both")
    fleet = s.root(a.name)
    key = a.key("--expires", "2y")
    stock, by_est = enrolled(s, key, "stock"), enrolled_by_est(s.gateway(key), "by-est", new_key())
    own = fleet.device("own")
    for device in (stock, by_est, own):
        assert ask(s, device) is None
    refused("wrong_state", s.muster, "server-ca", "retire", 1)
    refused("not_found", s.muster, "server-ca", "retire", 7)
    old = aside(s, "old")
    rotate(s)
    assert dependents(s, 1) == {"stock", "by-est", "own"} and s.muster("server-ca", "show", 1)["seen"]["7d"] == 3
    later = enrolled(s, key, "later")
    assert ask(s, later) is None and dependents(s, 1) == {"stock", "by-est", "own"}, "who comes now has both"
    said = refused("server_ca_in_use", s.muster, "server-ca", "retire", 1)
    assert "1 device seen" in said.text and f"{a.name}/by-est" in said.text and s.muster("server-ca", "show", 1)["cannot_renew"] == 2
    answer = s.api("POST", "/api/v1/server-cas/1/retire", {"days": 30, "confirm": 1})
    assert (answer.status, answer.code, answer.json["count"]) == (409, "server_ca_in_use", 1), "whoever can fetch the new one is waited for"
    a.device("quarantine", "by-est")
    said = refused("confirmation_required", s.muster, "server-ca", "retire", 1)
    assert "cuts off 3 devices" in said.text and "1 held apart" in said.text and f"{a.name}/by-est" in said.text, "nobody waits for who is held apart"
    assert [s.muster("server-ca", "show", 1)[n] for n in ("cannot_renew", "held")] == [2, 1]
    a.device("release", "by-est")
    # Renewing alone says nothing of what the device trusts; what it fetches by its own certificate does.
    renewed = renew(s, by_est)
    assert ask(s, renewed) is None and dependents(s, 1) == {"stock", "by-est", "own"}
    cacerts(s, None, a.name)
    cacerts(s, key)
    assert dependents(s, 1) == {"stock", "by-est", "own"}, "without a certificate, or with a provisioning key, nobody can tell whose it is"
    cacerts(s, renewed)
    soon({"stock", "own"}, lambda: dependents(s, 1))
    cacerts(s, own)
    soon({"stock"}, lambda: dependents(s, 1))
    # And it stays so through a further renewal; the stock device stays, however often it comes.
    again = renew(s, renewed)
    assert ask(s, again) is None and ask(s, stock) is None and dependents(s, 1) == {"stock"}
    said = refused("confirmation_required", s.muster, "server-ca", "retire", 1)
    assert "cuts off 1 device for good" in said.text and f"{a.name}/stock" in said.text
    answer = s.api("POST", "/api/v1/server-cas/1/retire", {"confirm": 2})
    assert (answer.status, answer.code, answer.json["count"]) == (409, "confirmation_required", 1)
    # Provisioned again it has both, from the first use of what it got then.
    a.device("release", "stock", "--for-reprovision")
    stock = enrolled(s, key, "stock")
    assert dependents(s, 1) == {"stock"}
    assert ask(s, stock) is None
    assert dependents(s, 1) == set()
    gone = s.muster("server-ca", "retire", 1)
    assert gone["state"] == "retired" and numbers(s, "current") == [2] and numbers(s, "former") == []
    assert "server_ca.retire" in log_actions(s)
    soon(1, lambda: len(chain_of(s, s.dir / "server-ca.pem") or []), 10)
    assert len(anchors(s)) == 1 and not accepted(s, old) and accepted(s, s.dir / "server-ca.pem")
    for device in (stock, again, own, later):
        assert ask(s, device) is None
    soon(1, lambda: len(cacerts(s, key)), 5)
    assert not (s.dir / "tls" / "crosses.pem").exists() and len(enrolled(s, key, "newest").cas) == 1
    refused("wrong_state", s.muster, "server-ca", "retire", 1)
    assert timed(s, s.dir / "server-ca.pem") and not timed(s, old)
    assert s.muster("audit", "verify")["ok"] is True
    assert s.stop() == 0
    s.start()
    assert ask(s, later) is None and numbers(s, "current") == [2]


def test_retiring_asks_for_the_number_of_those_that_it_cuts_off(fresh):
    """Who cannot renew depends on the old one however long it sleeps; who renews, as long as its certificate is good for that."""
    s = fresh(start=False)
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    a = Account(s, "--device-life", "40d", "--late-renewal", 10 * DAY, method="both")
    own = s.root(a.name).device("own", days=(-1, 20))
    key = a.key("--expires", "2y")
    stock, by_est = enrolled(s, key, "stock"), enrolled_by_est(s.gateway(key), "by-est", new_key())
    for device in (stock, by_est, own):
        assert ask(s, device) is None
    enrolled(s, key, "warehouse")
    enrolled_by_est(s.gateway(key), "waits", new_key())
    rotate(s)
    assert s.muster("server-ca", "show", 1)["cannot_renew"] == 3

    def refusal(days):
        answer = s.api("POST", "/api/v1/server-cas/1/retire", {"days": days})
        assert answer.status == 409, answer
        return answer.code, answer.json["count"]

    assert refusal(1) == ("server_ca_in_use", 2)
    s.clock.set(35 * DAY)
    assert refusal(36) == ("server_ca_in_use", 2) and refusal(30) == ("confirmation_required", 5)
    s.clock.set(51 * DAY)
    assert refusal(30) == ("confirmation_required", 3), "too late to renew; the others, whose certificates may have ended, for ever"
    assert {"stock", "own", "warehouse"} <= {w.strip(".,").removeprefix(f"{a.name}/") for w in refused("confirmation_required", s.muster, "server-ca", "retire", 1, "--days", 1).text.split()}
    assert s.muster("server-ca", "retire", 1, "--days", 1, "--yes")["state"] == "retired"


def test_one_that_allows_no_ca_below_it_signs_until_it_is_retired(fresh):
    """A first server CA of a version that made it with path length 0.  By RFC 5280 a certificate of its own name does not count; GnuTLS counts it, so that nothing leads such clients
    to the next one: the gateway's certificates stay under the old one, with what leads there for who knows newer ones alone."""
    class Old(Server):
        """What `musterd init` made then."""

        def __init__(self, directory):
            os.environ["LD_PRELOAD"] = str(BUILD / "tests" / "short_path.so")
            try:
                super().__init__(directory)
            finally:
                del os.environ["LD_PRELOAD"]
    s = fresh(server=Old, start=False)
    s.start()
    a = Account(s)
    key = a.key("--expires", "2y")
    old = aside(s, "old")
    (first,) = anchors(s)
    assert first.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0 and accepted(s, old)
    device = enrolled_by_est(s.gateway(key), "device", new_key())
    assert ask(s, device) is None

    def shown():
        with s.gateway().connect() as c:
            return x509.load_der_x509_certificate(c.getpeercert(True))
    for n in (2, 3):
        s.muster("server-ca", "rotate")
        soon(n, lambda: len(chain_of(s, old) or []), 10)
        assert accepted(s, old) and accepted(s, only(s, n, f"new-{n}")) and accepted(s, s.dir / "server-ca.pem"), "GnuTLS too"
        assert issued(shown(), first) and timed(s, old)
        assert "device" in refused("server_ca_in_use", s.muster, "server-ca", "retire", 1).text
    assert s.stop() == 0
    s.start()
    assert accepted(s, old) and issued(shown(), first)
    cacerts(s, device)
    soon(set(), lambda: dependents(s, 1))
    assert s.muster("server-ca", "retire", 1)["state"] == "retired"
    soon(True, lambda: under_current(s), 10)
    assert not accepted(s, old) and accepted(s, only(s, 2, "second")) and accepted(s, only(s, 3, "third"))
    assert ask(s, device) is None and s.muster("server-ca", "rotate")["number"] == 4
    soon(True, lambda: under_current(s), 10)
    assert accepted(s, only(s, 2, "second-then")), "from these on one leads to the next for everybody"


def test_one_that_was_made_while_the_clock_ran_ahead_signs_when_its_day_has_come(fresh):
    """Else everybody would refuse the gateway until then, operators too, who could not mend it."""
    s = fresh(start=False)
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    a = Account(s)
    key, old = a.key("--expires", "2y"), aside(s, "old")
    device = enrolled(s, key, "before")
    assert ask(s, device) is None
    control = s.child("control")

    def noticed():
        with contextlib.suppress(ssl.SSLError):  # it wakes control, whether or not its certificate is good
            s.request("GET", "/readyz")
        return s.log_text().count("clock_was_set")

    s.clock.set(30 * DAY, 11, control)  # control looks at the clock every ten seconds
    soon(1, noticed, 30)
    before = s.muster("server-ca", "list")
    s.muster("server-ca", "rotate", "--yes")
    s.clock.set(0, 22, control)
    assert s.musterd("clock", "accept").returncode == 0
    soon(2, noticed, 30)
    soon(True, lambda: (noticed(), chain_of(s, old) is not None)[1], 30)
    assert chain_of(s, s.dir / "server-ca.pem") is not None and by_curl(s, old) == 0
    assert len(s.muster("server-ca", "list")) == len(before) + 1 and ask(s, device) is None
    a.device("delete", "before", "--yes")  # nobody depends on the oldest
    retires = lambda: refused("wrong_state", s.muster, "server-ca", "retire", 1, "--yes").text
    assert "The server CA that follows begins at" in retires()
    s.muster("server-ca", "rotate", "--yes")  # by the right clock: nobody comes from the oldest to that one
    assert "The server CA that follows begins at" in retires(), "nor does who knows the first two alone"
    device = enrolled(s, key, "after")
    assert chain_of(s, old) is not None and by_curl(s, old) == 0 and ask(s, device) is None
    assert chain_of(s, aside(s, "new")) is not None and s.muster("audit", "verify")["ok"] is True


def test_the_oldest_goes_first_and_there_is_an_end(fresh):
    s = fresh()
    old = aside(s, "old")
    for n in (2, 3, 4):
        assert rotate(s)["number"] == n
        assert accepted(s, old), "over all that came since"
    refused("invalid_request", s.muster, "server-ca", "rotate")
    refused("invalid_request", s.muster, "server-ca", "retire", 2)
    s.muster("server-ca", "retire", 1)
    assert rotate(s)["number"] == 5 and [c["number"] for c in cas(s)] == [5, 4, 3, 2, 1]


def test_an_operators_root_stays(fresh):
    """What an operator has added to server-ca.pem is an anchor as before, through rotation, retiring and starts; a file that has none of Muster's own is left alone."""
    theirs = Fleet("Operator's server CA")
    s = fresh(start=False)
    with open(s.dir / "server-ca.pem", "ab") as f:
        f.write(theirs.root_pem())
    s.start()
    a = Account(s)
    rotate(s)
    assert prints([theirs.cert]) <= prints(anchors(s)) and len(anchors(s)) == 3
    assert len(enrolled(s, a.key(), "device").cas) == 3
    s.stop()
    (s.dir / "server-ca.pem").write_bytes(theirs.root_pem())
    process = subprocess.Popen([MUSTERD, "serve", "--data", s.dir, "--listen", s.ports[0], "--admin", s.ports[1]], stdout=subprocess.PIPE, stderr=s.log, text=True)
    try:
        assert process.stdout.readline().startswith("ready ")
        assert (s.dir / "server-ca.pem").read_bytes() == theirs.root_pem()
    finally:
        process.terminate()
        process.wait(timeout=60)


# --- crashes, backups, tokens ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["all", "vault", "control", "gateway"])
def test_killed_at_any_step(fresh, victim):
    s = fresh()
    a = Account(s)
    key = a.key()
    device = enrolled(s, key, "device")
    old = aside(s, "old")
    draw = random.Random(victim)
    for _ in range(4):
        if len(cas(s)) - len(numbers(s, "retired")) > 3:
            break
        t = threading.Thread(target=lambda: pytest.raises(Exception, lambda: (s.muster("server-ca", "rotate"), 1 / 0)))
        t.start()
        time.sleep(draw.uniform(0.002, 0.08))
        if victim == "all":
            children = [s.child(name) for name in ("vault", "control", "gateway", "courier")]
            s.process.kill()
            s.process.wait()
            for pid in children:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        else:
            os.kill(s.child(victim), signal.SIGKILL)
        t.join()
        if victim == "all":
            s.process = None
            s.start()
        soon(None, lambda: quiet_code(s, device), 60)
        soon(True, lambda: under_current(s), 60)
        listed = soon_list(s)
        assert len(numbers(s, "current")) == 1 and numbers(s, "current")[0] == max(c["number"] for c in listed)
        soon(len(listed), lambda: len(anchors(s)), 60)
        assert chain_of(s, old) is not None
        soon(True, lambda: s.gateway().get("/time?nonce=" + "ab" * 16).status == 200 and timed(s, old), 60)
    assert s.muster("audit", "verify")["ok"] is True


def test_what_a_killed_process_left_on_the_disk_reaches_the_gateway(fresh):
    """The operators' process dies between a certificate and the word of it to the gateway, which goes on with the one before."""
    s = fresh()
    before, tls = s.dir.parent / "tls-before", s.dir / "tls"
    shutil.copytree(tls, before)
    rotate(s)
    assert soon_some(lambda: under_current(s))
    after = s.dir.parent / "tls-after"
    shutil.copytree(tls, after)

    def lay(which):
        for file in which.iterdir():
            shutil.copy2(file, tls / f"{file.name}.new")
            (tls / f"{file.name}.new").rename(tls / file.name)

    os.kill(s.child("control"), signal.SIGSTOP)
    lay(before)
    s.process.send_signal(signal.SIGHUP)
    soon(False, lambda: under_current(s), 20)
    lay(after)
    os.kill(s.child("control"), signal.SIGKILL)
    assert soon_some(lambda: under_current(s), 30), "by the process that takes its place"


def quiet_code(s, device):
    try:
        return ask(s, device)
    except OSError as error:
        return repr(error)


def soon_list(s):
    end = time.monotonic() + 20
    while True:
        try:
            return cas(s)
        except (Refused, json.JSONDecodeError):
            assert time.monotonic() < end
            time.sleep(0.1)


def test_backup_and_restore_with_two(fresh, tmp_path):
    s = fresh()
    a = Account(s)
    key = a.key()
    device = enrolled(s, key, "device")
    assert ask(s, device) is None
    old = aside(s, "old")
    rotate(s)
    phrase = tmp_path / "passphrase"
    phrase.write_text("correct horse battery staple\n", encoding="utf-8")
    phrase.chmod(0o600)
    done = s.musterd("backup", "--passphrase-file", phrase, "-o", tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    s.stop()
    shutil.rmtree(s.dir)
    done = s.musterd("restore", "--passphrase-file", phrase, tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    s.start()
    assert ask(s, device) is None and accepted(s, old) and len(anchors(s)) == 2 and numbers(s, "former") == [1]
    assert dependents(s, 1) == {"device"}


def test_into_a_token_and_back(fresh, tmp_path):
    token = Token(tmp_path / "token")
    s = fresh(start=False, config=token.config())
    s.start(env=token.env)
    a = Account(s)
    key = a.key()
    device = enrolled(s, key, "device")
    assert ask(s, device) is None
    old = aside(s, "old")
    assert rotate(s, "--backend", "pkcs11")["backend"] == "pkcs11"
    assert "muster server-ca" in token.keys() and accepted(s, old)
    status = json.loads(s.musterd("vault", "status", "--json").stdout)
    assert status["keys"]["in_token"] == 1 and status["keys"]["former_server_ca"] == 1
    # Away: what is there goes on; the next one waits for it.
    token.be("away")
    assert refused("token_unavailable", s.muster, "server-ca", "rotate").status == 1
    assert ask(s, device) is None and timed(s, old) and enrolled(s, key, "meanwhile")
    token.no_more("away")
    soon(True, lambda: back_again(s), 15)
    assert numbers(s, "current") == [3] and s.muster("server-ca", "show", 3)["backend"] == "pkcs11"
    assert rotate(s, "--backend", "sealed")["backend"] == "sealed" and accepted(s, old) and ask(s, device) is None
    assert s.stop() == 0
    s.start(env=token.env)
    assert accepted(s, old) and s.muster("audit", "verify")["ok"] is True


def test_it_starts_while_the_token_is_away(fresh, tmp_path):
    """By the gateway's certificate that is there, also where the next one is due, and cannot be signed; that comes when the token is back."""
    token = Token(tmp_path / "token")
    s = fresh(start=False, config=token.config())
    s.start(env=token.env)
    a = Account(s)
    key = a.key()
    device = enrolled(s, key, "device")
    rotate(s, "--backend", "pkcs11")
    old = aside(s, "old")
    assert s.stop() == 0
    with open(s.dir / "musterd.conf", "a", encoding="utf-8") as f:
        f.write("host = localhost added.localhost\n")
    token.be("away")
    s.start(env=token.env)
    assert ask(s, device) is None and accepted(s, old) and enrolled(s, key, "meanwhile"), "the account's keys are elsewhere"
    assert "server_certificate_failed" in s.log_text() and not goes_by(s, "added.localhost")
    token.no_more("away")
    soon(True, lambda: goes_by(s, "added.localhost"), 20)


def goes_by(s, name):
    """The gateway's certificate has that name."""
    try:
        s.gateway(sni=name).connect().close()
        return True
    except ssl.SSLCertVerificationError:
        return False


def back_again(s):
    try:
        rotate(s)
        return True
    except Refused as error:
        assert error.code == "token_unavailable", error.text
        time.sleep(1)
        return False


def test_no_token_is_said(fresh):
    s = fresh()
    assert "pkcs11_module" in refused("invalid_request", s.muster, "server-ca", "rotate", "--backend", "pkcs11").text
    assert numbers(s, "current") == [1]


def active(s, a): return next(r["id"] for r in s.muster("root", "list", "--account", a.name) if r["state"] == "active")
def backend(s, a): return s.muster("account", "show", a.name)["settings"]["backend"]


def test_one_command_moves_an_account(fresh, tmp_path):
    """Fleet root, issuing CA and provisioning CA, into the token and out of it; the provisioning keys that are in images go on."""
    token = Token(tmp_path / "token")
    s = fresh(start=False, config=token.config())
    s.start(env=token.env)
    a = Account(s)
    keys = [a.key("--name", "before")]
    first = active(s, a)
    # Away: nothing has changed, and nothing is half done.
    token.be("away")
    refused("token_unavailable", s.muster, "root", "rotate", first, "--backend", "pkcs11")
    assert active(s, a) == first and backend(s, a) == "sealed"
    assert s.muster("audit", "verify", "--account", a.name)["ok"] is True
    token.no_more("away")
    time.sleep(1.1)  # it is looked for once a second
    for where in ("pkcs11", "sealed"):
        moved = s.muster("root", "rotate", active(s, a), "--backend", where)
        assert moved["state"] == "active" and backend(s, a) == where
        keys.append(a.key("--name", where))
        status = json.loads(s.musterd("vault", "status", "--json").stdout)["keys"]
        assert status["in_token"] == (3 if where == "pkcs11" else 2), "the key of a provisioning CA that was replaced is nobody's any more"
    assert all(f"muster {what}" in token.keys() for what in ("fleet-root", "issuing-ca", "provisioning-ca"))
    assert len({k.cert.issuer for k in keys}) == 3
    for n, key in enumerate(keys):
        assert ask(s, enrolled(s, key, f"device-{n}")) is None
    # As it is: a rotation that says where it is already, and one that says nothing.
    for options in (("--backend", "sealed"), ()):
        s.muster("root", "rotate", active(s, a), *options)
        assert backend(s, a) == "sealed"
    assert len({a.key("--name", f"more-{n}").cert.issuer for n in range(2)} | {keys[2].cert.issuer}) == 1, "a provisioning CA stays where it is right"
    assert s.muster("audit", "verify", "--account", a.name)["ok"] is True
    refused("invalid_request", s.muster, "root", "rotate", active(s, a), "--backend", "paper")
    s.stop()
    s.start(env=token.env)
    assert ask(s, enrolled(s, keys[0], "after-a-start")) is None and backend(s, a) == "sealed"


def test_without_a_token_nothing_moves(fresh):
    s = fresh()
    a = Account(s)
    first = active(s, a)
    assert "pkcs11_module" in refused("invalid_request", s.muster, "root", "rotate", first, "--backend", "pkcs11").text
    assert active(s, a) == first and backend(s, a) == "sealed"
    assert s.muster("root", "rotate", first)["state"] == "active" and s.muster("audit", "verify", "--account", a.name)["ok"] is True


# --- in time --------------------------------------------------------------------------------------------------------------------------------------------


def test_said_in_time(fresh, receiver):  # noqa: F811
    s, r = fresh(start=False, config=LOCAL), receiver()
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    a = Account(s)
    key = a.key()
    stock = enrolled(s, key, "stock")
    assert ask(s, stock) is None
    end = datetime.datetime.strptime(cas(s)[0]["not_after"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    s.admin_ca = ssl._create_unverified_context()

    def told(what):
        return [i for i in s.api("GET", "/api/v1/status").json["attention"] if i["what"] == what]

    assert not told("server_ca_ends") and not told("former_server_ca_ends")
    s.clock.set(int(end - time.time()) - 300 * DAY)
    (item,) = soon_some(lambda: told("server_ca_ends"))
    assert item["level"] == "warning" and item["command"] == "muster server-ca rotate"
    made = s.api("POST", "/api/v1/server-ca-rotation", {})
    assert made.status == 200, made
    assert not told("server_ca_ends"), "the new one lives long"
    (item,) = told("former_server_ca_ends")
    assert item["level"] == "warning" and item["object"] == "1"
    s.clock.set(int(end - time.time()) - 20 * DAY)
    causes = lambda: [c for c in s.api("GET", "/api/v1/forecast?days=60").json["causes"] if c["cause"] == "server-ca"]
    (cause,) = soon_some(causes)
    assert cause["stops"] == 1 and "server CA 1" in json.dumps(cause)
    # Webhooks of the whole server hear of the end, and of whom it stops.
    events = lambda kind: {(e["of"] if kind == "certificate.expiring" else e["cause"], e["days"], e["account"], e.get("not_after", e.get("day", ""))[:10]) for e in r.events(kind)}
    on = lambda at: datetime.datetime.utcfromtimestamp(at).strftime("%Y-%m-%d")
    hook(s, r.url(), None, "certificate.expiring", "forecast.stops")
    s.stop()
    s.start(env=s.clock.env)
    soon(True, lambda: ("former-server-ca", 30, None, on(end)) in events("certificate.expiring"), 30)
    soon(True, lambda: ("server-ca", 30, None, on(end)) in events("forecast.stops"), 30)
    assert {e[0] for e in events("certificate.expiring")} <= {"former-server-ca", "server", "issuing-ca", "root"}
    text = s.api("GET", "/metrics").body.decode()
    assert 'kind="former_server_ca"' in text
    # Ended, nobody depends on it any more: it is retired without a word, and the rest goes on.
    s.clock.set(int(end - time.time()) + DAY)
    answer = s.api("POST", "/api/v1/server-cas/1/retire", {})
    assert answer.status == 200 and answer.json["state"] == "retired", answer



def soon_some(ask_it, seconds=20):
    end = time.monotonic() + seconds
    while not (got := ask_it()) and time.monotonic() < end:
        time.sleep(0.2)
    return got

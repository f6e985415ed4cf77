"""OCSP (RFC 6960, RFC 5019) for Muster's own devices and issuing CAs, asked by clients that others wrote: openssl, GnuTLS's ocsptool,
python3-cryptography; and by bytes that no client sends."""
import base64
import concurrent.futures
import http.client
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import time
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

import enrolment
from client import Fleet
from conftest import MUSTER, Server, refused, soon, stays
from enrolment import GAP, Account
from ports import free_port
from test_backup import Restored, backup

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
STATUS = ocsp.OCSPResponseStatus
PAGE = (pathlib.Path(__file__).parents[2] / "doc" / "revocation.md").read_text(encoding="utf-8")
NO_CHECK = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.5")


def with_listener(make, *config):
    """A server whose plain listener keeps its port."""
    port = free_port()
    s = make(config=[f"crl_listen = 127.0.0.1:{port}", *config])
    s.plain = port
    return s


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = with_listener(lambda config: Server(tmp_path_factory.mktemp("ocsp") / "data", config=config).start())
    yield s
    assert s.stop() == 0
    assert "Sanitizer" not in s.log_text()


class Fleet_(Account):
    """An account, its CAs and its devices."""

    def __init__(self, server, *options):
        super().__init__(server, *options)
        self.provisioning = self.key()
        bundle = server.dir.parent / f"{self.name}-cas.pem"
        server.muster("root", "bundle", "--account", self.name, "-o", bundle)
        self.bundle = bundle
        cas = [x509.load_pem_x509_certificate(("-----BEGIN" + part).encode()) for part in bundle.read_text().split("-----BEGIN")[1:]]
        self.root = next(c for c in cas if c.issuer == c.subject)
        self.issuing = next(c for c in cas if c.issuer != c.subject)

    def used(self, device_id):
        return enrolment.used(self.server, self.provisioning, device_id)

    def file(self, cert):
        path = self.server.dir.parent / f"{cert.serial_number:x}.pem"
        path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture
def fleet(server):
    return lambda *options: Fleet_(server, *options)


def serial(identity):
    return identity.cert.serial_number


def hash_name(ca, algorithm):
    h = hashes.Hash(algorithm)
    h.update(ca.subject.public_bytes())
    return h.finalize()


def hash_key(ca, algorithm):
    h = hashes.Hash(algorithm)
    h.update(ca.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint))
    return h.finalize()


def tlv(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    return bytes([tag]) + (bytes([n]) if n < 128 else bytes([0x82, n >> 8, n & 255]) if n > 255 else bytes([0x81, n])) + body


OIDS = {hashes.SHA1: "06052b0e03021a0500", hashes.SHA256: "06096086480165030402010500", hashes.SHA384: "06096086480165030402020500"}


def ask_about(asked, algorithm=None, nonce=None):
    """A request about [(CA, serial number), …], byte by byte: this python3-cryptography's own builder takes one certificate that is at hand."""
    algorithm = algorithm or hashes.SHA1()

    def id_of(ca, number):
        names = [tlv(4, of(ca, algorithm)) for of in (hash_name, hash_key)]
        return tlv(0x30, tlv(0x30, tlv(0x30, bytes.fromhex(OIDS[type(algorithm)])), *names, tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))))

    end = tlv(0xa2, tlv(0x30, tlv(0x30, bytes.fromhex("06092b0601050507300102"), tlv(4, tlv(4, nonce))))) if nonce is not None else b""
    return tlv(0x30, tlv(0x30, tlv(0x30, *[id_of(*one) for one in asked]), end))


def question(ca, number, algorithm=None, nonce=None):
    return ask_about([(ca, number)], algorithm, nonce)


def raw(server, method, path, body=None, **fields):
    c = http.client.HTTPConnection("127.0.0.1", server.plain, timeout=20)
    try:
        c.request(method, path, body=body, headers=fields)
        answer = c.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        c.close()


def post(server, account, der):
    status, fields, body = raw(server, "POST", f"/ocsp/{account}", der, **{"Content-Type": "application/ocsp-request"})
    assert status == 200 and fields["Content-Type"] == "application/ocsp-response" and "no-store" in fields["Cache-Control"]
    return ocsp.load_der_ocsp_response(body)


def path_of(account, der):
    return f"/ocsp/{account}/" + urllib.parse.quote(base64.b64encode(der).decode(), safe="")


def get(server, account, der, method="GET", **more):
    status, fields, body = raw(server, method, path_of(account, der), **more)
    return status, fields, ocsp.load_der_ocsp_response(body) if body else None


def verify(answer, ca):
    """By the responder's certificate that comes with it, which the CA itself signed, for this alone."""
    (by,) = answer.certificates
    ca.public_key().verify(by.signature, by.tbs_certificate_bytes, ec.ECDSA(by.signature_hash_algorithm))
    by.public_key().verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(answer.signature_hash_algorithm))
    assert by.issuer == ca.subject and (by.not_valid_after - by.not_valid_before).total_seconds() <= 7 * 86400
    assert list(by.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert by.extensions.get_extension_for_oid(NO_CHECK)
    assert not by.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value.ca
    point = by.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    h = hashes.Hash(hashes.SHA1())
    h.update(point)
    assert answer.responder_key_hash == h.finalize() and answer.responder_name is None
    return answer


def said(f, ca, number, **more):
    """The status, and why."""
    answer = verify(post(f.server, f.name, question(ca, number, **more)), ca)
    assert answer.serial_number == number
    return answer.certificate_status, answer.revocation_reason and answer.revocation_reason.value


# --- what is said ---------------------------------------------------------------------------------------------------------------------------


def test_a_device_is_good_until_it_is_revoked_and_out_within_a_second(server, fleet):
    f = fleet()
    d = f.used("device-1")
    for algorithm in (hashes.SHA1(), hashes.SHA256()):
        answer = verify(post(server, f.name, question(f.issuing, serial(d), algorithm)), f.issuing)
        assert answer.certificate_status == GOOD and answer.response_status == STATUS.SUCCESSFUL
        assert type(answer.hash_algorithm) is type(algorithm)
        assert answer.issuer_key_hash == hash_key(f.issuing, algorithm) and answer.issuer_name_hash == hash_name(f.issuing, algorithm)
        assert (answer.next_update - answer.this_update).total_seconds() == 3600 + 300
        assert abs((answer.produced_at - answer.this_update).total_seconds() - 300) <= 1
    f.device("revoke", "device-1")
    began = time.monotonic()
    soon((REVOKED, None), lambda: said(f, f.issuing, serial(d)))
    assert time.monotonic() - began < 1
    answer = post(server, f.name, question(f.issuing, serial(d)))
    assert answer.revocation_time <= answer.this_update  # to some verifiers a revocation that lies ahead is none


def test_a_revoked_certificate_has_its_reason_and_the_others_go_on(server, fleet):
    f = fleet("--reprovision", "replace")
    first = f.used("twice")
    time.sleep(GAP)
    second = f.used("twice")
    assert said(f, f.issuing, serial(first)) == (GOOD, None)  # replaced: nobody revoked it
    server.muster("cert", "revoke", f"{serial(first):x}", "--account", f.name, "--reason", "superseded", "--yes")
    soon((REVOKED, "superseded"), lambda: said(f, f.issuing, serial(first)))
    assert said(f, f.issuing, serial(second)) == (GOOD, None)
    f.device("revoke", "twice")
    soon((REVOKED, None), lambda: said(f, f.issuing, serial(second)))


def test_who_is_quarantined_or_waits_is_on_hold(server, fleet):
    f = fleet()
    d = f.used("held")
    f.device("quarantine", "held")
    soon((REVOKED, "certificateHold"), lambda: said(f, f.issuing, serial(d)))
    f.device("release", "held")
    soon((GOOD, None), lambda: said(f, f.issuing, serial(d)))
    g = fleet("--approval", "yes")
    waits = enrolment.enrolled(server, g.provisioning, "waits")
    assert said(g, g.issuing, serial(waits)) == (REVOKED, "certificateHold")
    g.device("approve", "waits")
    soon((GOOD, None), lambda: said(g, g.issuing, serial(waits)))


def test_who_is_let_in_by_an_announcement_is_good_at_once(server, fleet):
    """No operator's command changes the device's state, but its own next request."""
    f = fleet("--expected-only", "yes")
    late = enrolment.enrolled(server, f.provisioning, "late")
    assert enrolment.ask(server, late) == "device_unexpected"
    assert said(f, f.issuing, serial(late)) == said(f, f.issuing, serial(late)) == (REVOKED, "certificateHold"), "and it is kept"
    announced = server.dir.parent / "announced.jsonl"
    announced.write_text('{"device_id": "late"}\n')
    server.muster("device", "import", announced, "--account", f.name)
    assert enrolment.ask(server, late) is None
    assert said(f, f.issuing, serial(late)) == (GOOD, None)


def test_a_deleted_device_stays_revoked(server, fleet):
    f = fleet()
    d = f.used("gone")
    f.device("delete", "gone")
    soon((REVOKED, None), lambda: said(f, f.issuing, serial(d)))
    f.device("release", "gone")  # its tombstone: the ID may come again, these never
    stays(REVOKED, lambda: said(f, f.issuing, serial(d))[0])


def test_what_was_never_issued_is_unknown_and_never_good(server, fleet):
    f, other = fleet(), fleet()
    d, theirs = f.used("here"), other.used("there")
    for number in (1, serial(d) + 1, 2 ** 158, serial(theirs), f.issuing.serial_number, f.root.serial_number):
        assert said(f, f.issuing, number) == (UNKNOWN, None)
    assert said(f, f.root, serial(d)) == (UNKNOWN, None)
    assert said(f, f.issuing, serial(d)) == (GOOD, None)


def test_the_issuing_ca_is_known_by_its_root(server, fleet):
    f = fleet()
    root = next(r for r in server.muster("root", "list", "--account", f.name) if r["origin"] == "muster")
    assert said(f, f.root, f.issuing.serial_number) == (GOOD, None)
    server.muster("root", "disable", root["id"], "--yes")
    soon((REVOKED, "certificateHold"), lambda: said(f, f.root, f.issuing.serial_number))
    server.muster("root", "enable", root["id"])
    soon((GOOD, None), lambda: said(f, f.root, f.issuing.serial_number))
    server.muster("root", "revoke", root["id"], "--yes")
    soon((REVOKED, None), lambda: said(f, f.root, f.issuing.serial_number))


def test_a_ca_that_was_rotated_out_answers_still(server, fleet):
    f = fleet()
    d = f.used("before")
    root = next(r for r in server.muster("root", "list", "--account", f.name) if r["origin"] == "muster")
    server.muster("root", "rotate", root["id"], "--yes")
    after = enrolment.used(server, f.provisioning, "after")
    assert after.cert.issuer != d.cert.issuer
    assert said(f, f.issuing, serial(d)) == (GOOD, None) and said(f, f.root, f.issuing.serial_number) == (GOOD, None)
    assert said(f, f.issuing, serial(after)) == (UNKNOWN, None)


# --- what is refused ------------------------------------------------------------------------------------------------------------------------


def test_of_other_cas_nothing_is_said(server, fleet):
    f, other = fleet(), fleet()
    d, theirs = f.used("mine"), other.used("theirs")
    assert post(server, f.name, question(other.issuing, serial(theirs))).response_status == STATUS.UNAUTHORIZED
    assert post(server, "nobody", question(f.issuing, serial(d))).response_status == STATUS.UNAUTHORIZED
    assert post(server, "No%20Name", question(f.issuing, serial(d))).response_status == STATUS.UNAUTHORIZED
    assert post(server, f.name, question(f.issuing, serial(d), hashes.SHA384())).response_status == STATUS.UNAUTHORIZED
    assert post(server, f.name, question(Fleet().cert, serial(d))).response_status == STATUS.UNAUTHORIZED
    of_two = ask_about([(f.issuing, serial(d)), (f.root, f.issuing.serial_number)])  # an answer has one signer
    assert post(server, f.name, of_two).response_status == STATUS.UNAUTHORIZED


def test_a_request_may_ask_about_sixteen(server, fleet):
    f = fleet()
    d = f.used("many")
    numbers = [serial(d), *range(1, 16)]
    answer = post(server, f.name, ask_about([(f.issuing, n) for n in numbers]))
    assert [(r.serial_number, r.certificate_status) for r in answer.responses] == [(serial(d), GOOD), *[(n, UNKNOWN) for n in range(1, 16)]]
    assert post(server, f.name, ask_about([(f.issuing, n) for n in (*numbers, 99)])).response_status == STATUS.MALFORMED_REQUEST


def test_what_is_no_request_is_malformed(server, fleet):
    f = fleet()
    d = f.used("asked")
    der = question(f.issuing, serial(d))
    for bad in (b"", b"\x30\x00", der[:-1], der + b"\0", os.urandom(100), question(f.issuing, serial(d), nonce=b"n" * 33)):
        if bad:
            assert post(server, f.name, bad).response_status == STATUS.MALFORMED_REQUEST
        status, _, answer = get(server, f.name, bad) if bad else (200, None, None)
        assert status == 200 and (answer is None or answer.response_status == STATUS.MALFORMED_REQUEST)
    status, _, body = raw(server, "GET", f"/ocsp/{f.name}/not-base64!")
    assert status == 200 and ocsp.load_der_ocsp_response(body).response_status == STATUS.MALFORMED_REQUEST
    assert raw(server, "POST", f"/ocsp/{f.name}", der, **{"Content-Type": "text/plain"})[0] == 415
    assert raw(server, "POST", f"/ocsp/{f.name}", b"x" * 5000, **{"Content-Type": "application/ocsp-request"})[0] == 413
    assert raw(server, "PUT", f"/ocsp/{f.name}", der)[0] == 405
    for path in ("/ocsp", f"/ocsp/{f.name}", "/", "/devices", "/healthz"):
        assert raw(server, "GET", path)[0] in (404, 405)


def test_a_nonce_comes_back(server, fleet):
    f = fleet()
    d = f.used("nonce")
    for nonce in (b"n", os.urandom(16), os.urandom(32)):
        for again in range(2):
            answer = verify(post(server, f.name, question(f.issuing, serial(d), nonce=nonce)), f.issuing)
            assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce and answer.certificate_status == GOOD
    assert not list(post(server, f.name, question(f.issuing, serial(d))).extensions)


# --- GET, and caches --------------------------------------------------------------------------------------------------------------------------


def test_an_answer_may_be_kept_by_caches(server, fleet):
    f = fleet()
    d = f.used("cached")
    der = question(f.issuing, serial(d))
    status, fields, answer = get(server, f.name, der)
    assert status == 200 and fields["Content-Type"] == "application/ocsp-response" and verify(answer, f.issuing).certificate_status == GOOD
    kept = dict(x.partition("=")[::2] for x in fields["Cache-Control"].split(", "))
    assert 0 < int(kept["max-age"]) <= 300 and {"public", "no-transform", "must-revalidate"} <= set(kept)
    as_date = "%a, %d %b %Y %H:%M:%S GMT"
    assert fields["Last-Modified"] == answer.this_update.strftime(as_date) and fields["Expires"] == answer.next_update.strftime(as_date) and fields["Date"]
    assert re.fullmatch('"[0-9a-f]{64}"', fields["ETag"])
    assert get(server, f.name, der, **{"If-None-Match": fields["ETag"]})[::2] == (304, None)
    assert get(server, f.name, der, **{"If-None-Match": '"00"'})[0] == 200
    status, head, answer = get(server, f.name, der, "HEAD")
    assert status == 200 and answer is None and head["ETag"] == fields["ETag"] and int(head["Content-Length"]) > 100
    assert get(server, f.name, der)[1]["ETag"] == fields["ETag"]  # the same bytes
    f.device("quarantine", "cached")
    soon(REVOKED, lambda: get(server, f.name, der)[2].certificate_status)
    assert get(server, f.name, der, **{"If-None-Match": fields["ETag"]})[0] == 200
    f.device("release", "cached")
    soon(GOOD, lambda: get(server, f.name, der)[2].certificate_status)


def test_slashes_that_nobody_encoded_are_understood(server, fleet):
    f = fleet()
    d = f.used("slashes")
    base = base64.b64encode(question(f.issuing, serial(d))).decode()
    if "//" not in base:
        status, _, body = raw(server, "GET", f"/ocsp/{f.name}/{base}")
        assert status == 200 and ocsp.load_der_ocsp_response(body).certificate_status == GOOD


# --- clients that others wrote ------------------------------------------------------------------------------------------------------------------


def openssl(f, *certs, options=()):
    asked = [x for c in certs for x in ("-cert", f.file(c))]
    return subprocess.run(["openssl", "ocsp", "-CAfile", f.bundle, *options, "-issuer", f.file(f.issuing), *asked, "-url", f"http://127.0.0.1:{f.server.plain}/ocsp/{f.name}"],
                          capture_output=True, text=True, timeout=60, check=False)


def test_python_cryptography_asks(server, fleet):
    f = fleet()
    d = f.used("pyca")
    for algorithm in (hashes.SHA1(), hashes.SHA256()):
        asked = ocsp.OCSPRequestBuilder().add_certificate(d.cert, f.issuing, algorithm).add_extension(x509.OCSPNonce(b"0123456789abcdef"), False).build()
        answer = verify(post(server, f.name, asked.public_bytes(serialization.Encoding.DER)), f.issuing)
        assert answer.certificate_status == GOOD and answer.serial_number == asked.serial_number and answer.issuer_key_hash == asked.issuer_key_hash
        assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"0123456789abcdef"


def test_openssl_asks_and_verifies(server, fleet):
    f = fleet()
    good, bad = f.used("ossl-good"), f.used("ossl-bad")
    f.device("revoke", "ossl-bad")
    soon((REVOKED, None), lambda: said(f, f.issuing, serial(bad)))
    for options in ((), ("-no_nonce",), ("-sha256",)):
        done = openssl(f, good.cert, options=options)
        assert done.returncode == 0 and "Response verify OK" in done.stderr and ": good" in done.stdout, done.stdout + done.stderr
        assert "WARNING" not in done.stderr, done.stderr
        done = openssl(f, bad.cert, options=options)
        assert "Response verify OK" in done.stderr and ": revoked" in done.stdout, done.stdout + done.stderr
    both = openssl(f, good.cert, bad.cert)
    assert "Response verify OK" in both.stderr and ": good" in both.stdout and ": revoked" in both.stdout
    root = subprocess.run(["openssl", "ocsp", "-CAfile", f.bundle, "-issuer", f.file(f.root), "-cert", f.file(f.issuing), "-url", f"http://127.0.0.1:{server.plain}/ocsp/{f.name}"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert "Response verify OK" in root.stderr and ": good" in root.stdout, root.stdout + root.stderr


def test_the_page_s_commands_do_it(server, fleet, tmp_path):
    """As printed in doc/revocation.md, also when the account has several issuing CAs."""
    f = fleet()
    old = next(r for r in server.muster("root", "list", "--account", f.name) if r["origin"] == "muster")
    at = PAGE.index("    muster root bundle --account ACCOUNT -o cas.pem\n    muster cert issuer")
    lines = [line.strip() for line in PAGE[at:PAGE.index("\n\n", at)].splitlines()]
    assert [line.split()[:3] for line in lines] == [["muster", "root", "bundle"], ["muster", "cert", "issuer"], ["openssl", "ocsp", "-issuer"]]
    env = {**os.environ, "PATH": f"{os.path.dirname(MUSTER)}:{os.environ['PATH']}", "MUSTER_URL": server.admin_url, "MUSTER_CA": str(server.dir / "server-ca.pem"),
           "MUSTER_TOKEN_FILE": str(server.dir / "admin.token")}
    devices = [enrolment.used(server, f.provisioning, "page-1")]
    server.muster("profile", "set", "--account", f.name, "--life", "none", "--longest-life", "none")
    server.muster("root", "rotate", old["id"], "--yes")
    devices.append(enrolment.used(server, f.provisioning, "page-2"))
    assert devices[0].cert.issuer != devices[1].cert.issuer
    for device in devices:
        (tmp_path / "device.pem").write_bytes(device.cert.public_bytes(serialization.Encoding.PEM))
        for line in lines:
            line = line.replace("ACCOUNT", f.name).replace("HOST:8080", f"127.0.0.1:{server.plain}")
            done = subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, line + done.stdout + done.stderr
        assert "Response verify OK" in done.stderr and "device.pem: good" in done.stdout, done.stdout + done.stderr
        assert x509.load_pem_x509_certificate((tmp_path / "issuing-ca.pem").read_bytes()).subject == device.cert.issuer
    # Those under one root, the newest first.
    new = next(r for r in server.muster("root", "list", "--account", f.name) if r["state"] == "active")
    for root, device in ((old, devices[0]), (new, devices[1])):
        text = server.muster("root", "export", root["id"], "--issuing")["certificate"]
        issuers = [x509.load_pem_x509_certificate(("-----BEGIN" + part).encode()).subject for part in text.split("-----BEGIN")[1:]]
        assert issuers[0 if root is new else -1] == device.cert.issuer and len(set(issuers)) == len(issuers)
    (tmp_path / "theirs.pem").write_bytes(Fleet().root_pem())
    server.account(f"{f.name}-theirs", "production", "device")
    theirs = server.muster("root", "upload", "--account", f"{f.name}-theirs", tmp_path / "theirs.pem")
    refused("not_found", server.muster, "root", "export", theirs["id"], "--issuing")
    refused("not_found", server.muster, "cert", "issuer", "ab" * 16)
    refused("not_found", server.muster, "cert", "issuer", f"{devices[0].cert.serial_number:x}", "--account", f"{f.name}-theirs")
    answer = server.api("GET", f"/api/v1/accounts/{f.name}/roots/{old['id']}/certificate?issuing=yes&crosses=yes")
    assert (answer.status, answer.code) == (400, "invalid_request")


def test_gnutls_asks_and_verifies(server, fleet):
    f = fleet()
    good, bad = f.used("gnutls-good"), f.used("gnutls-bad")
    f.device("revoke", "gnutls-bad")
    soon((REVOKED, None), lambda: said(f, f.issuing, serial(bad)))
    for device, word in ((good, "good"), (bad, "revoked")):
        done = subprocess.run(["ocsptool", f"--ask=http://127.0.0.1:{server.plain}/ocsp/{f.name}", "--load-issuer", f.file(f.issuing), "--load-cert", f.file(device.cert), "--load-trust", f.bundle],
                              capture_output=True, text=True, timeout=60, check=False)
        assert f"Certificate Status: {word}" in done.stdout and "Verifying OCSP Response: Success" in done.stdout + done.stderr, done.stdout + done.stderr


def test_certificates_name_it_where_a_setting_says_so(fresh):
    """And only those of devices: whoever finds the address there asks, and is answered."""
    port = free_port()
    s = fresh(config=[f"crl_listen = 127.0.0.1:{port}", f"certificate_ocsp = http://127.0.0.1:{port}/ocsp"])
    s.plain = port
    f = Fleet_(s)
    d, long = f.used("named"), f.used("x" * 100)
    for device in (d, long):
        access = device.cert.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_INFORMATION_ACCESS)
        (one,) = access.value
        assert not access.critical and one.access_method == x509.oid.AuthorityInformationAccessOID.OCSP and one.access_location.value == f"http://127.0.0.1:{port}/ocsp/{f.name}"
        done = subprocess.run(["openssl", "x509", "-in", device.cert_file, "-noout", "-ocsp_uri"], capture_output=True, text=True, check=True, timeout=60)
        asked = subprocess.run(["openssl", "ocsp", "-CAfile", f.bundle, "-issuer", f.file(f.issuing), "-cert", device.cert_file, "-url", done.stdout.strip()], capture_output=True, text=True, timeout=60, check=False)
        assert "Response verify OK" in asked.stderr and ": good" in asked.stdout, asked.stdout + asked.stderr
    for other in (f.root, f.issuing):
        assert not [e for e in other.extensions if e.oid == ExtensionOID.AUTHORITY_INFORMATION_ACCESS]
    assert s.muster("audit", "verify", "--account", f.name)["ok"] is True


def test_certificates_name_nothing_by_default(server, fleet):
    assert not [e for e in fleet().used("unnamed").cert.extensions if e.oid == ExtensionOID.AUTHORITY_INFORMATION_ACCESS]


@pytest.mark.parametrize("url", ["https://a/ocsp", "a:8080/ocsp", "http://", "http://a/ocsp/", 'http://a/"', "http://a/ocsp?x"])
def test_an_address_that_is_none_is_refused(fresh, url):
    s = fresh(start=False, config=[f"certificate_ocsp = {url}"])
    done = s.musterd("serve")
    assert done.returncode and "certificate_ocsp" in done.stderr


# --- bounds -----------------------------------------------------------------------------------------------------------------------------------


def test_signatures_have_a_rate_and_what_is_kept_needs_none(fresh):
    s = with_listener(fresh, "limit_ocsp = 5", "loops = 1")
    f = Fleet_(s)
    d = f.used("kept")
    assert get(s, f.name, question(f.issuing, serial(d)))[2].certificate_status == GOOD
    asked = [post(s, f.name, question(f.issuing, n)).response_status for n in range(1, 60)]
    assert STATUS.TRY_LATER in asked and STATUS.SUCCESSFUL in asked
    for _ in range(50):
        assert get(s, f.name, question(f.issuing, serial(d)))[2].certificate_status == GOOD
    f.device("revoke", "kept")  # and a change needs one: it comes with the next second's

    def now():
        answer = get(s, f.name, question(f.issuing, serial(d)))[2]
        return answer.certificate_status if answer.response_status == STATUS.SUCCESSFUL else answer.response_status

    soon(REVOKED, now, 3)


def test_asking_does_not_keep_issuing_waiting(fresh):
    s = with_listener(fresh, "limit_ocsp = 100000")
    f = Fleet_(s)
    stop = time.monotonic() + 4

    def flood(i):
        n = 0
        while time.monotonic() < stop:
            n += post(s, f.name, question(f.issuing, n * 16 + i + 1)).response_status in (STATUS.SUCCESSFUL, STATUS.TRY_LATER)
        return n

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        flooding = [pool.submit(flood, i) for i in range(6)]
        enrolled = 0
        while time.monotonic() < stop:
            assert isinstance(enrolment.enrol(s, f.provisioning, f"meanwhile-{enrolled}"), enrolment.Device)
            enrolled += 1
        assert sum(x.result() for x in flooding) > 50 and enrolled > 5


def test_who_asks_and_goes_does_no_harm(fresh):
    s = with_listener(fresh, "limit_ocsp = 100000")
    f = Fleet_(s)
    d = f.used("gone")
    gateway = s.child("gateway")
    for i in range(150):
        der = question(f.issuing, serial(d), nonce=b"%d" % i)
        with socket.create_connection(("127.0.0.1", s.plain)) as c:
            c.sendall(f"POST /ocsp/{f.name} HTTP/1.1\r\nHost: a\r\nContent-Type: application/ocsp-request\r\nContent-Length: {len(der)}\r\n\r\n".encode() + der)
            if i % 3 == 0:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert said(f, f.issuing, serial(d)) == (GOOD, None) and s.child("gateway") == gateway
    assert "Sanitizer" not in s.log_text()


def test_simple_clients_speak_http_1_0(server, fleet):
    f = fleet()
    d = f.used("simple")
    der = question(f.issuing, serial(d))
    for host in ("", "Host: a\r\n"):
        with socket.create_connection(("127.0.0.1", server.plain), timeout=20) as c:
            c.sendall(f"POST /ocsp/{f.name} HTTP/1.0\r\n{host}Content-Type: application/ocsp-request\r\nContent-Length: {len(der)}\r\n\r\n".encode() + der)
            got = b""
            while piece := c.recv(65536):  # to its end: one request a connection
                got += piece
        assert got.startswith(b"HTTP/1.1 200") and b"Connection: close" in got
        assert ocsp.load_der_ocsp_response(got.partition(b"\r\n\r\n")[2]).certificate_status == GOOD


def test_without_a_vault_it_is_said_to_try_later(fresh):
    s = with_listener(fresh)
    f = Fleet_(s)
    d = f.used("kept")
    assert said(f, f.issuing, serial(d)) == (GOOD, None)
    vault = s.child("vault")
    os.kill(vault, signal.SIGSTOP)
    try:
        assert post(s, f.name, question(f.issuing, serial(d))).certificate_status == GOOD  # from before
        assert post(s, f.name, question(f.issuing, 4711)).response_status == STATUS.TRY_LATER
    finally:
        os.kill(vault, signal.SIGCONT)
    os.kill(vault, signal.SIGKILL)
    soon(True, lambda: post(s, f.name, question(f.issuing, 4711)).response_status == STATUS.SUCCESSFUL, 15)
    assert said(f, f.issuing, serial(d)) == (GOOD, None)


def test_control_looks_and_who_is_started_again_finds_the_others(fresh):
    """The answers come from the operators' process: without it what is kept is given again, and nothing new is said; whichever of the two processes begins anew, they find each other."""
    s = with_listener(fresh)
    f = Fleet_(s)
    d = f.used("kept")
    fresh_number = iter(range(5000, 6000))
    kept = lambda: post(s, f.name, question(f.issuing, serial(d)))
    new = lambda: post(s, f.name, question(f.issuing, next(fresh_number))).response_status
    assert kept().certificate_status == GOOD and new() == STATUS.SUCCESSFUL
    control = s.child("control")
    os.kill(control, signal.SIGSTOP)
    try:
        assert kept().certificate_status == GOOD
        assert new() == STATUS.TRY_LATER
    finally:
        os.kill(control, signal.SIGCONT)
    soon(STATUS.SUCCESSFUL, new, 5)
    for process in ("control", "gateway", "control"):
        os.kill(s.child(process), signal.SIGKILL)
        soon(STATUS.SUCCESSFUL, lambda: listening(new), 20)
        assert kept().certificate_status == GOOD
    # A successor of the gateway, and another control process: what SIGHUP does where a setting has changed.
    gateway = s.child("gateway")
    with open(s.dir / "musterd.conf", "a", encoding="utf-8") as conf:
        conf.write("ocsp_life = 2h\n")
    s.process.send_signal(signal.SIGHUP)
    soon(True, lambda: s.child("gateway") != gateway, 20)
    soon(2, lambda: (lambda a: round((a.next_update - a.produced_at).total_seconds() / 3600))(post(s, f.name, question(f.issuing, next(fresh_number)))), 20)
    f.device("revoke", "kept")
    soon(REVOKED, lambda: kept().certificate_status, 5)


def listening(ask):
    try:
        return ask()
    except OSError:
        return None


def test_nobody_serves_it_where_no_listener_is(fresh):
    s = fresh()
    f = Fleet_(s)
    d = f.used("alone")
    assert s.gateway(d).get(f"/ocsp/{f.name}/MFEw").status == 404


def test_in_recovery_nothing_is_said(fresh, tmp_path):
    """A server that was put back does not know who was revoked since: it says "good" of nobody until an operator has finished."""
    s = with_listener(fresh)
    f = Fleet_(s)
    d = f.used("since")
    (tmp_path / "secret").write_text("correct horse battery staple")
    (tmp_path / "secret").chmod(0o600)
    file, _ = backup(s, tmp_path)
    f.device("revoke", "since")
    soon((REVOKED, None), lambda: said(f, f.issuing, serial(d)))
    assert s.stop() == 0
    r = Restored(file, tmp_path / "restored", tmp_path, s).start()
    try:
        r.plain = s.plain
        for _ in range(3):
            assert post(r, f.name, question(f.issuing, serial(d))).response_status == STATUS.TRY_LATER
            assert get(r, f.name, question(f.issuing, 4711))[2].response_status == STATUS.TRY_LATER
        r.muster("recovery", "finish", "--yes")
        soon(STATUS.SUCCESSFUL, lambda: post(r, f.name, question(f.issuing, serial(d))).response_status, 3)
        assert post(r, f.name, question(f.issuing, serial(d))).certificate_status == GOOD
    finally:
        r.stop()

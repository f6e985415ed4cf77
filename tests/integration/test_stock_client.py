"""The stock clients, aktualizr and aktualizr-cert-provider, played byte for byte: their requests, in their order, each on a connection of
its own, and what they do with the answers."""
import datetime
import json
import re
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client import AGENT, Identity, Registration, _path, new_key
from conftest import soon

PEM, PUBLIC = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
RETRY = 1.0  # seconds between the resends of one request
TRIES = 3
POST_MAX = 64 * 1024  # of an answer that the client takes
TLS = ["1.2", "1.3"]


def canonical(document):
    """JSON as the client writes it: sorted, without blanks, everything outside ASCII as \\u escapes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def public_pem(key):
    return key.public_key().public_bytes(PEM, PUBLIC).decode()


class Said:
    """An answer as it came over the wire."""

    def __init__(self, raw):
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        self.version, status, _ = (lines[0] + "  ").split(" ", 2)
        self.status = int(status)
        self.fields = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        assert "transfer-encoding" not in self.fields or self.fields["transfer-encoding"] == "chunked"
        self.body = rest[: int(self.fields["content-length"])] if "content-length" in self.fields else rest

    @property
    def ok(self):
        return 200 <= self.status < 400

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """What both tools have of libcurl: a handshake for each request, the same header fields in the same order, three tries."""

    agent = AGENT

    def __init__(self, server, tls=None):
        self.port, self.tls = server.port, tls
        self.requests, self.statuses = [], []

    def connect(self, cert_file, key_file, ca_file):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, and checks the host name
        context.load_verify_locations(str(ca_file))
        context.load_verify_locations(capath="/etc/ssl/certs")  # the client looks there too
        if cert_file:
            context.load_cert_chain(str(cert_file), str(key_file))
        if self.tls:
            context.minimum_version = context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[self.tls]
        context.set_alpn_protocols(["h2", "http/1.1"])
        connection = context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=60), server_hostname="localhost")
        assert connection.selected_alpn_protocol() in ("http/1.1", None)
        return connection

    def bytes_of(self, method, path, body=None, content_type="application/json"):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{self.port}\r\nUser-Agent: {self.agent}\r\nAccept: */*\r\n"
        if body is not None:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        return head.encode("ascii") + b"\r\n" + (body or b"")

    def once(self, connection, request):
        """One request, and the answer up to its own end: the connection would be kept."""
        connection.sendall(request)
        raw = b""
        while b"\r\n\r\n" not in raw:
            more = connection.recv(16384)
            if not more:
                raise ConnectionError("the answer has no end")
            raw += more
        head, _, rest = raw.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        while length and len(rest) < int(length[1]):
            more = connection.recv(16384)
            if not more:
                raise ConnectionError("the answer has no end")
            rest += more
        return Said(head + b"\r\n\r\n" + rest)

    def request(self, files, method, path, body=None, **options):
        """Sent again after a failure of the transport or a 5xx, a second apart; never after anything else."""
        said = None
        for attempt in range(TRIES):
            if attempt:
                time.sleep(RETRY)
            try:
                with self.connect(*files) as c:
                    said = self.once(c, self.bytes_of(method, path, body, **options))
            except OSError:
                continue
            self.requests.append(f"{method} {path}")
            self.statuses.append(said.status)
            if said.status < 500:
                break
        assert said is not None, "no answer in three tries"
        return said

TELEMETRY = [200, 204, 204, 204]  # hardware, packages, network, configuration

class Aktualizr(Client):
    """A device in its first run with `--run-mode once`."""

    def __init__(self, server, device_id, registration=None, identity=None, tls=None):
        super().__init__(server, tls)
        self.id, self.registration, self.log = device_id, registration, []
        self.files = None
        self.primary = rsa.generate_private_key(65537, 2048)
        self.serial = self.key_id(self.primary)
        if identity:  # imported: root.crt, client.pem, pkey.pem
            self.files = (identity.cert_file, identity.key_file, server.dir / "server-ca.pem")

    @staticmethod
    def key_id(key):
        digest = hashes.Hash(hashes.SHA256())
        digest.update(json.dumps(public_pem(key).rstrip("\n")).encode())
        return digest.finalize().hex()

    def registration_files(self):
        """autoprov_credentials.p12: the certificate, its key, and its CA certificates as the whole of the CA file."""
        ca = _path()
        ca.write_bytes(b"".join(c.public_bytes(PEM) for c in self.registration.cas))
        return self.registration.cert_file, self.registration.key_file, ca

    def enrolment(self):
        return canonical({"deviceId": self.id, "ttl": "36000"})

    def provision(self):
        """One attempt of the shared method; what went wrong, or None."""
        said = self.request(self.registration_files(), "POST", "/devices", self.enrolment())
        if not said.ok:
            try:
                code = said.json.get("code")
            except (ValueError, AttributeError):
                return "server error"
            return "occupied" if code == "device_already_registered" else "server error"
        return self.store(said.body)

    def store(self, p12):
        if len(p12) >= POST_MAX:
            return "server error"
        try:
            key, cert, more = pkcs12.load_key_and_certificates(p12, b"")
        except ValueError:
            return "malformed device credentials"
        if not more:
            return "unusable"
        identity = Identity(cert, key, more)  # client.pem is the leaf and after it all CA certificates
        ca = _path()
        ca.write_bytes(b"".join(c.public_bytes(PEM) for c in more))
        self.identity, self.files = identity, (identity.cert_file, identity.key_file, ca)
        return None

    def ecus(self, secondaries=()):
        return canonical({"primary_ecu_serial": self.serial, "ecus": [
            {"ecu_serial": self.serial, "hardware_identifier": "raspberrypi4", "clientKey": {"keytype": "RSA", "keyval": {"public": public_pem(self.primary)}}},
            *secondaries]})

    def manifest(self):
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ecu = {"attacks_detected": "", "ecu_serial": self.serial, "installed_image": {"fileinfo": {"hashes": {"sha256": empty}, "length": 0}, "filepath": "unknown"},
               "previous_timeserver_time": "1970-01-01T00:00:00Z", "report_counter": "1", "timeserver_time": "1970-01-01T00:00:00Z"}
        signature = [{"keyid": self.serial, "method": "rsassa-pss", "sig": "AAAA"}]
        return canonical({"signatures": signature, "signed": {"ecu_version_manifests": {self.serial: {"signatures": signature, "signed": ecu}}, "primary_ecu_serial": self.serial}})

    def run(self, secondaries=()):
        """The exit status of `once`."""
        for _ in range(2):  # init, and again with the device's data
            if self.files:
                break
            self.log.append(self.provision())
        if not self.files:
            return 1
        if not self.request(self.files, "POST", "/director/ecus", self.ecus(secondaries)).ok:
            return 1
        rest = [("PUT", "/system_info", canonical({"class": "system", "id": "raspberrypi"})),
                ("PUT", "/core/installed", canonical([{"name": "libc6", "version": "2.36-9"}])),
                ("PUT", "/system_info/network", canonical({"hostname": "raspberrypi", "local_ipv4": "192.0.2.7", "mac": "02:00:00:00:00:01"})),
                ("POST", "/system_info/config", b'[provision]\nprimary_ecu_hardware_id = "raspberrypi4"\n\n[p11]\npass = "1234"\n'),
                ("PUT", "/director/manifest", self.manifest()),
                ("GET", "/director/1.root.json", None),
                ("PUT", "/director/manifest", self.manifest())]  # again, because the metadata failed
        for method, path, body in rest:
            kind = "application/toml" if path == "/system_info/config" else "application/json"
            self.request(self.files, method, path, body, content_type=kind)
        return 0

    FIRST_RUN = ["POST /director/ecus", "PUT /system_info", "PUT /core/installed", "PUT /system_info/network", "POST /system_info/config", "PUT /director/manifest",
                 "GET /director/1.root.json", "PUT /director/manifest"]


class CertProvider(Client):
    """aktualizr-cert-provider in server mode: the same request with ttl as a number."""

    def run(self, registration, device_id):
        ca = _path()
        ca.write_bytes(b"".join(c.public_bytes(PEM) for c in registration.cas))
        said = self.request((registration.cert_file, registration.key_file, ca), "POST", "/devices", canonical({"deviceId": device_id, "ttl": 36000}))
        if said.ok:
            return 0, said.body
        return 1, f"Device ID{device_id}is occupied." if said.json["code"] == "device_already_registered" else said.body.decode()


@pytest.fixture(scope="module")
def world(server):
    server.account("stock", "test", "both")
    server.prov, server.fleet = server.key("stock"), server.root("stock")
    return server


def show(world, device_id):
    return world.muster("device", "show", device_id, "--account", "stock")


# --- credentials.zip --------------------------------------------------------------------------------------------------------------------


def test_the_zip_has_the_entries_that_the_client_reads(world):
    zipped = Registration(world.prov.zip)
    assert sorted(zipped.names) == ["autoprov.url", "autoprov_credentials.p12", "server_ca.pem"]
    assert zipped.url == world.url  # without a slash at its end: the client appends /devices
    assert zipped.server_ca == (world.dir / "server-ca.pem").read_bytes()
    assert [c.public_bytes(PEM) for c in zipped.cas] == [zipped.server_ca]
    assert isinstance(zipped.key, ec.EllipticCurvePrivateKey)
    assert oct(world.prov.zip.stat().st_mode & 0o777) == "0o600"


# --- a first run ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", TLS)
def test_the_first_run_with_a_shared_key(world, tls):
    device = Aktualizr(world, f"new-kartoffelpuffer-{tls[2]}", world.prov, tls=tls)
    assert device.run() == 0 and device.log == [None]
    assert device.requests == ["POST /devices", *Aktualizr.FIRST_RUN]
    assert device.statuses == [200, 201] + TELEMETRY + [404] * 3
    shown = show(world, device.id)
    assert (shown["state"], shown["method"], shown["ecus"]["primary_ecu_serial"]) == ("active", "shared", device.serial)
    assert shown["ecus"]["ecus"][0]["public"] == public_pem(device.primary)


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("kind", ["ec", "rsa2048", "ed25519"])
def test_the_first_run_with_a_certificate_of_the_fleet(world, tls, kind):
    """Registered at POST /director/ecus: there is no other request before."""
    device = Aktualizr(world, f"fleet-{kind}-{tls}", identity=world.fleet.device(f"fleet-{kind}-{tls}", kind, C="DE", ST="Berlin", O="Fleet"), tls=tls)
    assert device.run() == 0
    assert device.requests == Aktualizr.FIRST_RUN and device.statuses == [201] + TELEMETRY + [404] * 3
    shown = show(world, device.id)
    assert (shown["state"], shown["method"], shown["ecus"]["primary_ecu_serial"]) == ("active", "device", device.serial)


def test_a_device_without_a_certificate_is_told_so(world):
    g = world.gateway()
    assert (g.ecus().status, g.ecus().code) == (403, "certificate_required")


# --- POST /devices ----------------------------------------------------------------------------------------------------------------------


def test_the_requests_are_the_stock_client_s_bytes(world):
    """Here once in full, so that nobody has to believe the classes above."""
    request = (b"POST /devices HTTP/1.1\r\nHost: localhost:%d\r\nUser-Agent: Aktualizr/2025.10\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n"
               b'{"deviceId":"in-full","ttl":"36000"}' % world.port)
    device = Aktualizr(world, "in-full", world.prov)
    assert device.bytes_of("POST", "/devices", device.enrolment()) == request
    with device.connect(*device.registration_files()) as c:
        said = device.once(c, request)
    assert (said.version, said.status, said.fields["content-type"]) == ("HTTP/1.1", 200, "application/x-pkcs12")
    assert int(said.fields["content-length"]) == len(said.body)


@pytest.mark.parametrize("tls", TLS)
def test_the_cert_provider_sends_ttl_as_a_number(world, tls):
    device_id = f"provided-{tls}"
    status, p12 = CertProvider(world, tls).run(world.prov, device_id)
    assert status == 0
    device = Aktualizr(world, device_id, tls=tls)
    assert device.store(p12) is None and device.run() == 0
    # An occupied ID is known by its code alone.
    assert CertProvider(world, tls).run(world.prov, device_id) == (1, f"Device ID{device_id}is occupied.")


def test_the_pkcs12_is_what_the_client_can_read(world, tmp_path):
    device = Aktualizr(world, "pkcs12-1", world.prov)
    said = device.request(device.registration_files(), "POST", "/devices", device.enrolment())
    assert 0 < len(said.body) < POST_MAX and said.body[0] == 0x30  # DER, no base64, no JSON
    path = tmp_path / "device.p12"
    path.write_bytes(said.body)
    run = subprocess.run(["openssl", "pkcs12", "-in", path, "-passin", "pass:", "-info", "-nodes"], capture_output=True, text=True, check=True, timeout=20)
    info = run.stderr
    assert re.search(r"^MAC: sha256, Iteration 1$", info, re.M)
    assert set(re.findall(r"Iteration (\d+)", info)) == {"1"}
    assert run.stdout.count("BEGIN PRIVATE KEY") == 1 and run.stdout.count("BEGIN CERTIFICATE") == 2
    for wrong in ("x", " "):
        assert subprocess.run(["openssl", "pkcs12", "-in", path, "-passin", f"pass:{wrong}", "-noout"], capture_output=True, check=False, timeout=20).returncode
    # The client trusts each CA in it as a server: the gateway's anchor, and above all not the CA that issues devices.
    key, cert, more = pkcs12.load_key_and_certificates(said.body, b"")
    assert [c.public_bytes(PEM) for c in more] == [(world.dir / "server-ca.pem").read_bytes()]
    assert cert.issuer != more[0].subject
    assert public_pem(key) == cert.public_key().public_bytes(PEM, PUBLIC).decode() and isinstance(key.curve, ec.SECP256R1)
    assert list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


LONG_UTF8 = "ü" * 64
IDS = ["a", "x" * 64, "gerät-日本-🚗", LONG_UTF8, "with space / and : and \"quotes\" \\", "new-kartoffelpuffer-706"]


@pytest.mark.parametrize("device_id", IDS)
def test_ids_of_up_to_64_characters_are_the_common_name(world, device_id):
    device = Aktualizr(world, device_id, world.prov)
    assert device.enrolment().isascii() and len(device.id.encode()) <= 128
    assert device.run() == 0
    names = device.identity.cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [n.value for n in names] == [device_id]
    assert show(world, device_id)["device_id"] == device_id


@pytest.mark.parametrize("device_id", ["y" * 65, "z" * 128, "ü" * 31 + "-" * 66])
def test_longer_ids_stand_in_a_subject_alternative_name(world, device_id):
    assert len(device_id) > 64 and len(device_id.encode()) <= 128
    device = Aktualizr(world, device_id, world.prov)
    assert device.run() == 0 and device.statuses[:2] == [200, 201]
    shown = show(world, device_id)
    assert (shown["device_id"], shown["state"]) == (device_id, "active")
    assert device.identity.common_name == shown["id"]  # a UUID: the client goes on with the ID that it asked for
    san = device.identity.cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    assert len(uris) == 1 and uris[0].startswith("urn:muster:device:") and uris[0].isascii()


def test_non_ascii_ids_arrive_as_escapes(world):
    device = Aktualizr(world, "Prüfstand-🚗", world.prov)
    assert device.enrolment() == b'{"deviceId":"Pr\\u00fcfstand-\\ud83d\\ude97","ttl":"36000"}'
    assert device.run() == 0 and show(world, "Prüfstand-🚗")["state"] == "active"


# --- lost answers and resends --------------------------------------------------------------------------------------------------------------


def lose_answer(device, spent, expected):
    """The connection is cut after the server has committed and before anything of the answer was read."""
    with device.connect(*device.registration_files()) as c:
        c.sendall(device.bytes_of("POST", "/devices", device.enrolment()))
        soon(expected, spent, 5)


def test_a_request_is_sent_again_after_a_second_until_an_answer_comes(world):
    key = world.key("stock", "--max-devices", "1", "--name", "resends")
    device = Aktualizr(world, "resends", key)
    certificates = lambda: len(show(world, "resends")["certificates"]) if world.muster("key", "show", key.shown["id"])["spent"] else 0
    for n in (1, 2):
        lose_answer(device, certificates, n)
        time.sleep(RETRY)
    assert device.run() == 0 and device.log == [None] and device.requests[:2] == ["POST /devices", "POST /director/ecus"]
    shown = world.muster("key", "show", key.shown["id"])
    assert (shown["spent"], shown["devices"], shown["state"]) == (1, 1, "exhausted")
    assert sorted(c["state"] for c in show(world, "resends")["certificates"]) == ["current", "void", "void"]


def test_a_random_name_is_dropped_only_when_it_is_taken(world):
    """409 device_already_registered alone makes the client forget its ID; everything else has to have another code."""
    first = Aktualizr(world, "taken", world.prov)
    assert first.run() == 0
    second = Aktualizr(world, "taken", world.prov)
    assert second.run() == 1 and second.log == ["occupied", "occupied"]
    world.muster("device", "quarantine", "taken", "--account", "stock")
    third = Aktualizr(world, "taken", world.prov)
    assert third.run() == 1 and third.log == ["server error", "server error"] and third.statuses == [403, 403]


def test_a_refusal_is_an_object_with_a_string_code(world):
    """An array or a bare text would stop the cert provider with an exception."""
    device = Aktualizr(world, "shape", world.prov)
    files = device.registration_files()
    refusals = [device.request(files, "POST", "/devices", b'{"deviceId":"","ttl":"36000"}'), device.request(files, "POST", "/devices", b"garbage"),
                device.request(files, "POST", "/devices", canonical({"deviceId": "taken", "ttl": "36000"})),
                device.request(files, "POST", "/director/ecus", device.ecus()), device.request(files, "GET", "/director/1.root.json"),
                device.request((None, None, files[2]), "POST", "/devices", device.enrolment())]
    for said in refusals:
        assert 400 <= said.status < 500 and said.fields["content-type"] == "application/json"
        assert isinstance(said.json, dict)
        for member in ("code", "description", "errorId"):
            assert isinstance(said.json[member], str) and said.json[member], said.body
    assert len({said.json["errorId"] for said in refusals}) == len(refusals)
    assert [said.json["code"] for said in refusals] == ["device_id_invalid", "invalid_json", "device_quarantined", "provisioning_key_only_enrols",
                                                        "provisioning_key_only_enrols", "provisioning_key_required"]


# --- POST /director/ecus -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["shared", "device"])
def test_the_registration_of_ecus_is_idempotent(world, method):
    device_id = f"ecus-{method}"
    device = Aktualizr(world, device_id, world.prov, identity=world.fleet.device(device_id) if method == "device" else None)
    if method == "shared":
        assert device.provision() is None
    # A lost answer: the server has stored it, the client sends the identical body again.
    with device.connect(*device.files) as c:
        c.sendall(device.bytes_of("POST", "/director/ecus", device.ecus()))
        soon(True, lambda: device_id in [d["device_id"] for d in world.muster("device", "list", "--account", "stock")] and show(world, device_id)["ecus"] is not None, 5)
    assert [device.request(device.files, "POST", "/director/ecus", device.ecus()).status for _ in range(3)] == [200] * 3
    first = show(world, device_id)["ecus"]
    # Secondaries: with a key in upper-case hex, and one that gave none.
    hexed = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex().upper()
    secondaries = [{"ecu_serial": "secondary-1", "hardware_identifier": "engine", "clientKey": {"keytype": "ED25519", "keyval": {"public": hexed}}},
                   {"ecu_serial": "secondary-2", "hardware_identifier": "", "clientKey": {"keytype": "unknown", "keyval": {"public": ""}}}]
    assert [device.request(device.files, "POST", "/director/ecus", device.ecus(secondaries)).status for _ in range(2)] == [201, 200]
    kept = show(world, device_id)["ecus"]
    assert first["ecus"] == kept["ecus"][:1] and [e["ecu_serial"] for e in kept["ecus"]] == [device.serial, "secondary-1", "secondary-2"]
    assert kept["ecus"][1]["public"] == hexed
    # The primary has to be in the list.
    said = device.request(device.files, "POST", "/director/ecus", canonical({"primary_ecu_serial": "elsewhere", "ecus": secondaries}))
    assert (said.status, said.json["code"]) == (400, "primary_is_not_listed_for_device")
    assert show(world, device_id)["ecus"] == kept


# --- everything else -----------------------------------------------------------------------------------------------------------------------


def test_errors_under_repo_targets_have_no_body(world):
    """The client writes the body into the target file before it looks at the status, and resumes behind it."""
    device = Aktualizr(world, "targets", world.prov)
    assert device.provision() is None
    stranger = (None, None, device.files[2])
    for path in ("/repo/targets/firmware.bin", "/repo/targets/a/b%20c.bin", "/repo/targets/firmware.bin?x=1"):
        for files, status in ((device.files, 404), (stranger, 403)):
            said = device.request(files, "GET", path)
            assert (said.status, said.body, said.fields["content-length"]) == (status, b"", "0")
    with device.connect(*device.files) as c:
        c.sendall(device.bytes_of("GET", "/repo/targets/firmware.bin").replace(b"Accept: */*\r\n", b"Range: bytes=100-\r\nAccept: */*\r\n"))
        assert Said(c.recv(16384)).status == 404
    for path in ("/repo/timestamp.json", "/director/targets.json", "/repo/1.root.json", "/repo/targets.json", "/treehub/refs/heads/main", "/campaigner/campaigns"):
        said = device.request(device.files, "GET", path)
        assert (said.status, said.json["code"]) == (404, "not_found")


def test_events_and_large_bodies_get_an_answer(world):
    """Events are taken; a body that is too large is answered, not cut off."""
    device = Aktualizr(world, "events", world.prov)
    assert device.provision() is None
    event = {"deviceTime": "2026-01-01T00:00:00Z", "event": {"ecu": device.serial}, "eventType": {"id": "EcuDownloadStarted", "version": 0}, "id": "2f3ad2b4-6a0b-4a3c-9c1c-0a3d6c9c9a11"}
    assert device.request(device.files, "POST", "/events", canonical([event])).status == 204
    assert device.request(device.files, "PUT", "/system_info", canonical({"children": ["x" * 1000] * 40})).status == 200
    assert device.request(device.files, "PUT", "/system_info", canonical({"children": ["x" * 1000] * 600})).status == 413
    assert device.request(device.files, "GET", "/director/1.root.json").status == 404


# --- aktualizr-cert-provider, fleet mode -----------------------------------------------------------------------------------------------------


def provided(fleet, device_id, serial):
    """A certificate as its fleet mode makes it, offline: RSA 2048, no extension at all, a serial of 20 bits, C ST O CN in that order, key
    in PKCS#1."""
    key, now = new_key("rsa2048"), datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    subject = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"), x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "Berlin"),
                         x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Fleet"), x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    cert = x509.CertificateBuilder().subject_name(subject).issuer_name(fleet.cert.subject).public_key(key.public_key()).serial_number(serial)
    cert = cert.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=365)).sign(fleet.key, hashes.SHA256())
    identity = Identity(cert, key)
    identity.key_file.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
    assert not list(cert.extensions)
    return identity


def test_the_fleet_mode_of_the_cert_provider(world):
    """Random serials of 20 bits come twice; that is the fleet's own business."""
    for device_id in ("fleet-mode-1", "fleet-mode-2"):
        device = Aktualizr(world, device_id, identity=provided(world.fleet, device_id, 0xBEEF5))
        assert device.run() == 0 and device.statuses[0] == 201
        assert show(world, device_id)["device_id"] == device_id


# --- a fleet that wakes up at once ---------------------------------------------------------------------------------------------------------


def test_first_runs_at_once(world):
    """Nine handshakes each: nothing limits them."""
    devices = [Aktualizr(world, f"parallel-{i}", world.prov) for i in range(4)]
    with ThreadPoolExecutor(len(devices)) as pool:
        assert list(pool.map(lambda d: d.run(), devices)) == [0] * len(devices)
    assert all(d.statuses == [200, 201] + TELEMETRY + [404] * 3 for d in devices)

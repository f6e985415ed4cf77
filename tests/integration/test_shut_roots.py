"""What an operator has shut stays shut, whatever a device shows besides its certificate: certificates that spend the bound of the search for roots,
older ones of a CA, ones that have expired."""
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import enrolment
from client import Fleet, Identity, name, new_key
from enrolment import DAY, Account, enrolled
from test_device_credentials import PATH, ask
from test_rollover import pem_of, roots, world  # noqa: F401 (a fixture)
from test_root_crl import bring, crl


def certify(subject, public, by, ski=None):
    """A CA certificate of that name and key, by "X"."""
    at = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    b = x509.CertificateBuilder().subject_name(subject).issuer_name(name("X")).public_key(public).serial_number(x509.random_serial_number())
    b = b.not_valid_before(at - datetime.timedelta(days=1)).not_valid_after(at + datetime.timedelta(days=900)).add_extension(x509.BasicConstraints(True, None), True)
    return (b.add_extension(ski, False) if ski else b).sign(by, hashes.SHA256())


def padding(subject, public, n, ski=None):
    """A twin of that CA, which anybody can make, and n certificates above it: their permutations are more than a search looks at."""
    key = new_key()
    return [certify(subject, public, key, ski)] + [certify(name("X"), key.public_key(), key) for _ in range(n)]


@pytest.mark.parametrize("verb,code", [("revoke", "root_revoked"), ("disable", "root_disabled")])
def test_padding_opens_no_intermediate_that_is_shut(world, verb, code):  # noqa: F811
    """A line of an active root that was brought as a root of its own and shut."""
    world.account("cars", "test", "device")
    root = Fleet()
    world.root("cars", root)
    line, other = root.intermediate("Line 1"), root.intermediate("Line 2")
    line.root, shown = None, line.cert
    world.root("cars", line)
    known = line.device("known", chain=[shown])
    assert ask(world, known) is None
    world.muster("root", verb, line.root["id"], "--yes")
    assert ask(world, known) == code
    for n in range(1, 6):
        chain = [shown, *padding(shown.subject, shown.public_key(), n)]
        assert ask(world, line.device(f"new-{n}", chain=chain)) == code, f"{n} certificates above the twin"
        assert ask(world, Identity(known.cert, known.key, chain)) == code
    chain_file = world.dir.parent / "padded.pem"
    chain_file.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in [known.cert, shown, *padding(shown.subject, shown.public_key(), 4)]))
    assert world.api("POST", "/api/v1/accounts/cars/explain", {"chain": chain_file.read_text()}).json["code"] == code
    assert [d["device_id"] for d in world.muster("device", "list", "--account", "cars")] == ["known"]
    good = other.device("good", chain=[other.cert, *padding(other.cert.subject, other.cert.public_key(), 4)])
    assert ask(world, good) is None, "a search that is cut off is no reason to refuse who is good"


def test_padding_opens_no_former_root_of_muster_s_own(world):  # noqa: F811
    a = Account(world)
    device = enrolled(world, a.key("--expires", "2y"), "stock")
    assert enrolment.ask(world, device) is None
    old = roots(world, a)["active"]
    bundle = world.dir.parent / "bundle.pem"
    world.muster("root", "bundle", "--account", a.name, "-o", bundle)
    cas = [x509.load_pem_x509_certificate(("-----BEGIN" + part).encode()) for part in bundle.read_text().split("-----BEGIN")[1:]]
    issuing = next(c for c in cas if c.subject == device.cert.issuer)
    world.muster("root", "rotate", old["id"])
    cross, own = pem_of(world, old, "--crosses")
    assert enrolment.ask(world, Identity(device.cert, device.key, [issuing, cross])) is None
    world.muster("root", "revoke", old["id"], "--yes")
    ski = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    for n in range(5):
        chain = [issuing, cross, *(padding(own.subject, own.public_key(), n, ski) if n else [])]
        assert enrolment.ask(world, Identity(device.cert, device.key, chain)) == "root_revoked", f"{n} certificates above the twin"


# --- expired ------------------------------------------------------------------------------------------------------------------------------------


def expiring(world):  # noqa: F811
    """A root that lasts, where known devices go on, and a line below it that ends after ten days, with a known device."""
    world.account("cars", "test", "device")
    root = Fleet(days=(-100, 900))
    line, other = root.intermediate("Line 1", days=(-1, 10)), root.intermediate("Line 2", days=(-1, 10))
    world.root("cars", root)
    known, good = line.device("known", chain=[line.cert]), other.device("good", chain=[other.cert])
    assert ask(world, known) is None and ask(world, good) is None
    world.muster("root", "set", root.root["id"], "--expired", "known")
    return root, line, known, good


def test_a_listed_ca_stays_out_when_it_has_expired(world):  # noqa: F811
    root, line, known, good = expiring(world)
    bring(world, "cars", root.root, crl(root, line.cert))
    assert ask(world, known) == "certificate_listed"
    world.clock.set(11 * DAY)
    assert ask(world, known) == "certificate_listed"
    assert ask(world, good) is None


def test_a_shut_ca_stays_out_when_it_has_expired(world):  # noqa: F811
    _, line, known, good = expiring(world)
    line.root = None
    world.root("cars", line)
    world.muster("root", "revoke", line.root["id"], "--yes")
    assert ask(world, known) == "root_revoked"
    world.clock.set(11 * DAY)
    assert ask(world, known) == "root_revoked"
    assert ask(world, Identity(known.cert, known.key, [line.cert, *padding(line.cert.subject, line.cert.public_key(), 4)])) == "root_revoked"
    assert ask(world, good) is None


def test_an_older_certificate_of_a_listed_ca_lets_nobody_in(world):  # noqa: F811
    """Its device has a certificate that lived beside the older one, and shows it at will: nothing that is current has ended."""
    root, line, known, _ = expiring(world)
    older = root._sign(name("Line 1"), line.key, [(x509.BasicConstraints(True, None), True)], (-90, -10))
    then = line.device("known", key=known.key, chain=[older], days=(-80, 300))
    assert ask(world, then) is None
    bring(world, "cars", root.root, crl(root, line.cert, older))
    assert ask(world, known) == "certificate_listed"
    assert ask(world, then) == "certificate_listed"


# --- at once ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["listed", "shut"])
def test_a_connection_of_a_known_verdict_ends_with_the_ca_above(world, how):  # noqa: F811
    """From the first request on: what the device showed was not read where its verdict was known, and has to be for the answer."""
    world.account("cars", "test", "device")
    root = Fleet()
    line = root.intermediate("Line 1")
    shown = line.cert
    world.root("cars", root)
    if how == "shut":
        line.root = None
        world.root("cars", line)
    known = line.device("known", chain=[shown, *padding(shown.subject, shown.public_key(), 4)])
    gateway = world.gateway(known)
    for number in range(1, 9, 2):
        for _ in range(3):
            assert ask(world, known) is None
        with gateway.connect() as c:
            if how == "listed":
                body = {"crl": crl(root, shown, number=number).public_bytes(serialization.Encoding.PEM).decode()}
                assert world.api("POST", f"/api/v1/accounts/cars/roots/{root.root['id']}/crl", body).status == 200
                code = "certificate_listed"
            else:
                answer = world.api("POST", f"/api/v1/accounts/cars/roots/{line.root['id']}/disable", {})
                if answer.status == 409:
                    answer = world.api("POST", f"/api/v1/accounts/cars/roots/{line.root['id']}/disable", {"confirm": answer.json["count"]})
                assert answer.status == 200
                code = "root_disabled"
            assert gateway.on(c, "GET", PATH).code == code
        assert ask(world, known) == code
        if how == "listed":
            bring(world, "cars", root.root, crl(root, number=number + 1))
        else:
            world.muster("root", "enable", line.root["id"])

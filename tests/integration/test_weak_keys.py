"""Keys of a good kind and length that others can sign with: a request with one is refused."""
import base64
import hashlib
import math
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from client import new_key
from enrolment import Account, ask
from est import csr, enrolled, post

SMALL = ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "ff", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
         "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"]


@pytest.mark.parametrize("point", SMALL)
def test_a_point_of_small_order_is_refused(server, point):
    """Before its signature, which anybody can make, is asked."""
    a = Account(server)
    own = ed25519.Ed25519PrivateKey.generate()
    plain = own.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    answer = post(server.gateway(a.key()), "simpleenroll", base64.b64encode(csr(own, "d").replace(plain, bytes.fromhex(point))), a.name)
    assert (answer.status, answer.code) == (400, "csr_invalid") and b"small order" in answer.body


def test_a_request_that_the_point_of_order_one_has_signed_is_refused(server):
    """R the same point and S zero is a signature under it of whatever there is (RFC 8032, 5.1.7): in the form that most requests have, and that is read by itself."""
    a = Account(server)
    own, one = ed25519.Ed25519PrivateKey.generate(), bytes.fromhex(SMALL[1])
    request = csr(own, "d").replace(own.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw), one)[:-64] + one + bytes(32)
    answer = post(server.gateway(a.key()), "simpleenroll", base64.b64encode(request), a.name)
    assert (answer.status, answer.code) == (400, "csr_invalid") and b"small order" in answer.body


def odd_primes(to): return [p for p in range(3, to + 1, 2) if all(p % d for d in range(3, math.isqrt(p) + 1, 2))]


def like_roca():
    """A number that has the mark of CVE-2017-15361: a power of 65537 modulo each of the small primes."""
    product = math.prod(odd_primes(701)) * 2
    power = pow(65537, 1234567, product)
    return power + product * ((1 << 2047) // product + 12345)


MODULI = {  # made once, and the same in each worker
    "small factor": lambda: 751 * ((1 << 2047) // 751 + 2 + (1 << 60)) | 1,
    "small factor, 3": lambda: 3 * ((1 << 2047) // 3 + 4) | 1,
    "even": lambda: (1 << 2047) + 2,
    "a square": lambda: ((1 << 1023) + (1 << 1022) + (1 << 700) + 1) ** 2,
    "CVE-2017-15361": like_roca,
}
WORDS = {"small factor": "small factor", "small factor, 3": "small factor", "even": "small factor", "a square": "small factor", "CVE-2017-15361": "CVE-2017-15361"}


def odd_multiple(n, of):
    while n % 2 == 0 or n % of:
        n += 1
    return n


def refused_as(server, request, words):
    answer = post(server.gateway(Account(server).key()), "simpleenroll", base64.b64encode(request))
    assert (answer.status, answer.code) == (400, "csr_invalid") and words in answer.body.decode(), answer.body


@pytest.mark.parametrize("what", MODULI)
def test_an_rsa_modulus_that_others_can_factor_is_refused(server, what):
    own = new_key("rsa2048")
    modulus = MODULI[what]()
    if what.startswith("small factor"):
        modulus = odd_multiple(modulus, 3 if "3" in what else 751)
    refused_as(server, csr(own, "d").replace(own.public_key().public_numbers().n.to_bytes(256, "big"), modulus.to_bytes(256, "big")), WORDS[what])


def length(n): return bytes([n]) if n < 128 else bytes([0x80 | (n.bit_length() + 7) // 8]) + n.to_bytes((n.bit_length() + 7) // 8, "big")
def der(tag, *parts): return bytes([tag]) + length(len(b"".join(parts))) + b"".join(parts)
def number(n): return der(2, n.to_bytes(n.bit_length() // 8 + 1, "big"))


def signed_by_anybody(cn, n, e, d):
    """A request for the key (n, e), signed with d, which follows from both where the key is none."""
    rsa, sha256_rsa = bytes.fromhex("300d06092a864886f70d0101010500"), bytes.fromhex("300d06092a864886f70d01010b0500")
    subject = der(0x30, der(0x31, der(0x30, bytes.fromhex("0603550403"), der(0x0c, cn.encode()))))
    tbs = der(0x30, number(0), subject, der(0x30, rsa, der(3, b"\0", der(0x30, number(n), number(e)))), der(0xa0))
    size = (n.bit_length() + 7) // 8
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(tbs).digest()
    padded = b"\0\1" + b"\xff" * (size - 3 - len(digest)) + b"\0" + digest
    return der(0x30, tbs, sha256_rsa, der(3, b"\0", pow(int.from_bytes(padded, "big"), d, n).to_bytes(size, "big")))


def test_keys_that_are_signed_with_by_anybody_are_refused(server):
    """Each of these requests is signed rightly, without a private key."""
    own = new_key("rsa2048").private_numbers()
    n = own.public_numbers.n
    refused_as(server, signed_by_anybody("d", n, 1, 1), "exponent")
    three = next(e for e in (3, 5, 17, 257) if math.gcd(e, (own.p - 1) * (own.q - 1)) == 1)
    refused_as(server, signed_by_anybody("d", n, three, pow(three, -1, (own.p - 1) * (own.q - 1))), "exponent below 65537")
    # That a modulus is prime is dear to find out: it is asked of who would get a certificate, or a place in the queue for one, and of nobody else.
    prime = int(subprocess.run(["openssl", "prime", "-generate", "-bits", "2048"], capture_output=True, text=True, check=True).stdout)
    request, a, b = signed_by_anybody("d", prime, 65537, pow(65537, -1, prime - 1)), Account(server), Account(server, "--csr-queue", "yes", method="device")
    refused_as(server, request, "takes keys of the kinds")
    server.muster("profile", "set", "--account", a.name, "--key-type", "rsa2048", "--key-type", "p256")
    key = a.key()
    device = enrolled(server.gateway(key), "e", new_key())
    assert ask(server, device) is None
    of_queue = server.root(b.name).device("e")
    assert ask(server, of_queue) is None
    for identity, what, name in ((key, "simpleenroll", "d"), (device, "simplereenroll", "e"), (of_queue, "simplereenroll", "e")):
        answer = post(server.gateway(identity), what, base64.b64encode(signed_by_anybody(name, prime, 65537, pow(65537, -1, prime - 1))))
        assert (answer.status, answer.code) == (400, "csr_invalid") and b"a prime for its modulus" in answer.body


def test_good_rsa_keys_are_taken(server):
    a = Account(server)
    server.muster("profile", "set", "--account", a.name, "--key-type", "rsa2048")
    key = a.key()
    for i in range(5):
        assert post(server.gateway(key), "simpleenroll", csr(new_key("rsa2048"), f"good-{i}")).status == 200

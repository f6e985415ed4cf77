"""Keys of a good kind and length that others can sign with: a request with one is refused."""
import base64
import math
import secrets

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from client import new_key
from enrolment import Account
from est import csr, post

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


def odd_primes(to): return [p for p in range(3, to + 1, 2) if all(p % d for d in range(3, math.isqrt(p) + 1, 2))]


def like_roca():
    """A number that has the mark of CVE-2017-15361: a power of 65537 modulo each of the small primes."""
    product = math.prod(odd_primes(701)) * 2
    power = pow(65537, 1234567, product)
    return power + product * ((1 << 2047) // product + secrets.randbits(64))


@pytest.mark.parametrize("what,modulus,exponent", [
    ("exponent", None, 0x10000), ("small factor", 751 * ((1 << 2047) // 751 + 2 + secrets.randbits(64) * 2), None), ("small factor", (1 << 2047) + 2, None),
    ("a square", ((1 << 1023) + (1 << 1022) + secrets.randbits(1000) | 1) ** 2, None), ("CVE-2017-15361", like_roca(), None)])
def test_an_rsa_key_that_others_can_sign_with_is_refused(server, what, modulus, exponent):
    a = Account(server)
    own = new_key("rsa2048")
    request = csr(own, "d")
    if modulus:
        request = request.replace(own.public_key().public_numbers().n.to_bytes(256, "big"), modulus.to_bytes(256, "big"))
    if exponent:
        request = request.replace(bytes.fromhex("0203010001"), b"\x02\x03" + exponent.to_bytes(3, "big"))
    answer = post(server.gateway(a.key()), "simpleenroll", base64.b64encode(request), a.name)
    assert (answer.status, answer.code) == (400, "csr_invalid") and what in answer.body.decode(), answer.body

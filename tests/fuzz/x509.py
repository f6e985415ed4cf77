"""Certificates for the fuzz targets, byte for byte the same at each run: a small DER writer, Ed25519 keys made of words, RSA keys made of
seeded primes.  No private key is ever written; those keys are good for nothing but the anchors of fuzz_chain."""
import base64, hashlib, random
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

def tlv(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    head = bytes([n]) if n < 128 else (lambda l: bytes([0x80 | len(l)]) + l)(n.to_bytes((n.bit_length() + 7) // 8, "big"))
    return bytes([tag]) + head + body

def seq(*p): return tlv(0x30, *p)
def integer(v): return tlv(2, v.to_bytes(v.bit_length() // 8 + 1, "big", signed=True))
def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = bytearray()
    for v in [first * 40 + second] + rest:
        group = [v & 127]
        while v := v >> 7:
            group.insert(0, v & 127 | 128)
        out += bytes(group)
    return tlv(6, bytes(out))
def boolean(v): return tlv(1, b"\xff" if v else b"\0")
def bits(b, unused=0): return tlv(3, bytes([unused]), b)
def octets(b): return tlv(4, b)
UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP = 12, 19, 20, 22, 28, 30

CN, SERIAL, ORG = "2.5.4.3", "2.5.4.5", "2.5.4.10"
def name(*attributes):
    """(oid, text or (tag, bytes)) pairs."""
    def value(v): return tlv(UTF8, v.encode()) if isinstance(v, str) else tlv(v[0], v[1])
    return seq(*[tlv(0x31, seq(oid(o), value(v))) for o, v in attributes])
def cn(text): return name((CN, text))

# --- keys ---------------------------------------------------------------------------------------------------------------------------

def _prime(r, n):
    def probably(p):
        d, s = p - 1, 0
        while d % 2 == 0:
            d, s = d // 2, s + 1
        for _ in range(20):
            x = pow(r.randrange(2, p - 1), d, p)
            if x in (1, p - 1):
                continue
            if not any((x := x * x % p) == p - 1 for _ in range(s - 1)):
                return False
        return True
    while True:
        p = r.getrandbits(n) | 3 << n - 2 | 1
        if p % 65537 != 1 and all(p % q for q in (3, 5, 7, 11, 13, 17, 19, 23)) and probably(p):
            return p

class Ed:
    algorithm = seq(oid("1.3.101.112"))
    def __init__(self, word):
        self.key = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"muster fuzz " + word.encode()).digest())
    def sign(self, tbs): return self.algorithm, self.key.sign(tbs)

class Rsa:
    def __init__(self, n, word, hash=hashes.SHA256()):
        r = random.Random("muster fuzz " + word)
        p, q = _prime(r, n // 2), _prime(r, n // 2)
        d = pow(65537, -1, (p - 1) * (q - 1))
        self.key = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(65537, p * q)).private_key()
        self.hash = hash
    def with_hash(self, hash):
        other = object.__new__(Rsa)
        other.key, other.hash = self.key, hash
        return other
    def sign(self, tbs):
        numbers = {"sha256": "1.2.840.113549.1.1.11", "sha1": "1.2.840.113549.1.1.5", "md5": "1.2.840.113549.1.1.4"}
        return seq(oid(numbers[self.hash.name]), tlv(5)), self.key.sign(tbs, padding.PKCS1v15(), self.hash)

class Ec:
    """Signs as P-256 alone, and each time with the same nonce, so that the bytes are the same at each run: what is secret about it anybody can find out."""
    order, nonce = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551, 0x6d7573746572
    def __init__(self, curve, number): self.key, self.number, self.hash = ec.derive_private_key(number, curve), number, hashes.SHA256()
    def with_hash(self, hash):
        other = Ec(self.key.curve, self.number)
        other.hash = hash
        return other
    def sign(self, tbs):
        algorithm = seq(oid({"sha256": "1.2.840.10045.4.3.2", "sha384": "1.2.840.10045.4.3.3"}[self.hash.name]))
        digest = hashes.Hash(self.hash)
        digest.update(tbs)
        z = int.from_bytes(digest.finalize()[:32], "big")
        r = ec.derive_private_key(self.nonce, ec.SECP256R1()).public_key().public_numbers().x % self.order
        s = pow(self.nonce, -1, self.order) * (z + r * self.number) % self.order
        return algorithm, seq(integer(r), integer(s))

def spki(key):
    public = key if isinstance(key, bytes) else None
    return public or key.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

# --- certificates -----------------------------------------------------------------------------------------------------------------------

def ext(number, value, critical=False): return seq(oid(number), *([boolean(True)] if critical else []), octets(value))
def basic(ca, pathlen=None, critical=True):
    return ext("2.5.29.19", seq(*([boolean(True)] if ca else []), *([integer(pathlen)] if pathlen is not None else [])), critical)
def usage(byte, critical=True): return ext("2.5.29.15", bits(bytes([byte])), critical)
CERT_SIGN, DIGITAL, ENCIPHER = 0x06, 0x80, 0xa0
def eku(*numbers, critical=False): return ext("2.5.29.37", seq(*[oid(n) for n in numbers]), critical)
SERVER, CLIENT, ANY = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "2.5.29.37.0"
def san(*names): return ext("2.5.29.17", seq(*names))
def dns(t): return tlv(0x82, t if isinstance(t, bytes) else t.encode())
def uri(t): return tlv(0x86, t if isinstance(t, bytes) else t.encode())
def ip(b): return tlv(0x87, b)
def directory(n): return tlv(0xa4, n)
def ski(key): return ext("2.5.29.14", octets(hashlib.sha1(spki(key)).digest()))
def aki(key): return ext("2.5.29.35", seq(tlv(0x80, hashlib.sha1(spki(key)).digest())))
def constraints(permitted=(), excluded=()):
    def trees(tag, names): return tlv(tag, *[seq(n) for n in names]) if names else b""
    return ext("2.5.29.30", seq(trees(0xa0, permitted), trees(0xa1, excluded)), True)
CA = (basic(True), usage(CERT_SIGN))
LEAF = (basic(False), usage(DIGITAL), eku(CLIENT))

def time(t): return tlv(23 if len(t) == 13 else 24, t.encode())
def cert(subject, key, issuer, by, exts=LEAF, start="200101000000Z", end="400101000000Z", serial=4711, version=2):
    algorithm = by.sign(b"")[0]
    tbs = seq(*([tlv(0xa0, integer(version))] if version else []), integer(serial), algorithm, issuer, seq(time(start), time(end)), subject, spki(key),
              *([tlv(0xa3, seq(*exts))] if exts else []))
    return seq(tbs, algorithm, bits(by.sign(tbs)[1]))

def pem(der, label="CERTIFICATE"):
    text = base64.b64encode(der).decode()
    return f"-----BEGIN {label}-----\n" + "".join(text[i:i + 64] + "\n" for i in range(0, len(text), 64)) + f"-----END {label}-----\n"

"""Whether a private key stands in some bytes: not by knowing it, but by trying: of each 32 bytes in a row, the point on P-256 that they are the private key of, held
against the public key.  As they are, in base64 and in hexadecimal; so it finds keys that have never left a token, if they have."""
import base64
import ctypes
import ctypes.util
import re

C = ctypes.CDLL(ctypes.util.find_library("crypto"))
for function, result, arguments in (("EC_GROUP_new_by_curve_name", "p", "i"), ("EC_POINT_new", "p", "p"), ("BN_new", "p", ""), ("BN_CTX_new", "p", ""),
                                    ("BN_bin2bn", "p", "cip"), ("EC_POINT_mul", "i", "pppppp"), ("EC_POINT_cmp", "i", "pppp"), ("EC_POINT_oct2point", "i", "ppclp")):
    kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int, "c": ctypes.c_char_p, "l": ctypes.c_size_t}
    getattr(C, function).restype, getattr(C, function).argtypes = kinds[result], [kinds[a] for a in arguments]
GROUP, CTX, NUMBER = C.EC_GROUP_new_by_curve_name(415), C.BN_CTX_new(), C.BN_new()  # NID_X9_62_prime256v1


class Point:
    def __init__(self, uncompressed=None):
        self.p = C.EC_POINT_new(GROUP)
        assert uncompressed is None or C.EC_POINT_oct2point(GROUP, self.p, uncompressed, len(uncompressed), CTX) == 1


def windows(data):
    """Each 32 bytes in a row that can be a key: not text, which no random 32 bytes are in four thousand million."""
    high = [i for i, b in enumerate(data) if b >= 0x80]
    last = -1
    for i in high:
        for at in range(max(last + 1, i - 31), min(i, len(data) - 32) + 1):
            yield data[at:at + 32]
        last = max(last, i)


def forms(data):
    """As it is, and decoded wherever it looks like base64 or hexadecimal."""
    yield data
    for text in re.findall(rb"[A-Za-z0-9+/=\r\n]{43,}", data):
        flat = re.sub(rb"[\r\n=]", b"", text)
        for shift in range(4):
            part = flat[shift:]
            yield base64.b64decode(part[:len(part) // 4 * 4] + (part[len(part) // 4 * 4:] + b"==" if len(part) % 4 > 1 else b"")[:4 if len(part) % 4 > 1 else 0])
    for text in re.findall(rb"(?:[0-9A-Fa-f]{2}[: ]?){32,}", data):
        digits = re.sub(rb"[^0-9A-Fa-f]", b"", text)
        for shift in range(2):
            part = digits[shift:]
            yield bytes.fromhex(part[:len(part) // 2 * 2].decode())


def holds(data, public):
    """Whether the private key of `public` (an EllipticCurvePublicKey on P-256) is in the bytes."""
    numbers = public.public_numbers()
    wanted, tried = Point(b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")), Point()
    seen = set()
    for form in forms(data):
        for window in windows(form):
            if window in seen:
                continue
            seen.add(window)
            C.BN_bin2bn(window, 32, NUMBER)
            C.EC_POINT_mul(GROUP, tried.p, NUMBER, None, None, CTX)
            if C.EC_POINT_cmp(GROUP, tried.p, wanted.p, CTX) == 0:
                return True
    return False

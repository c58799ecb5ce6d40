# Verifies an Ed25519 signature (RFC 8032), in plain Python and in many small steps: about two
# seconds of an ESP32, once for a signed update. In memory only then.

from binascii import unhexlify

from board.sha512 import sha512

_PRIME = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _PRIME - 2, _PRIME) % _PRIME
_ROOT = pow(2, (_PRIME - 1) // 4, _PRIME)  # of -1
_BASE_Y = 4 * pow(5, _PRIME - 2, _PRIME) % _PRIME
_BYTES = 32


# Points are x, y, z, t with x = X/z, y = Y/z, t = XY/z.
def _add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % _PRIME
    b = (p[1] + p[0]) * (q[1] + q[0]) % _PRIME
    c = 2 * p[3] * q[3] * _D % _PRIME
    d = 2 * p[2] * q[2] % _PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _PRIME, g * h % _PRIME, f * g % _PRIME, e * h % _PRIME


# The point with this y, or None if there is none.
def _point(y, sign):
    if y >= _PRIME:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, _PRIME - 2, _PRIME) % _PRIME
    x = pow(square, (_PRIME + 3) // 8, _PRIME)
    if (x * x - square) % _PRIME:
        x = x * _ROOT % _PRIME
    if (x * x - square) % _PRIME or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _PRIME - x
    return x, y, 1, x * y % _PRIME


def _decode(raw):
    number = int.from_bytes(raw, "little")
    return _point(number & ((1 << 255) - 1), number >> 255)


# Whether the signature of a file's content is of this public key (64 hex digits). A generator: it
# yields so often that the board can do other things meanwhile.
def verify(public_key, signature, file):
    try:
        key = unhexlify(public_key)
    except (ValueError, TypeError):
        return False
    if len(key) != _BYTES or len(signature) != 2 * _BYTES:
        return False
    point = _decode(key)
    yield
    factor = int.from_bytes(signature[_BYTES:], "little")
    if point is None or factor >= _ORDER:
        return False
    hashed = yield from sha512((signature[:_BYTES], key), file)
    challenge = int.from_bytes(hashed, "little") % _ORDER
    base = _point(_BASE_Y, 0)
    yield
    # factor * base - challenge * point, both at once, has to be the signature's first half.
    minus = _PRIME - point[0], point[1], 1, _PRIME - point[3]
    both = _add(base, minus)
    found = 0, 1, 1, 0
    for bit in range(252, -1, -1):
        found = _add(found, found)
        which = (factor >> bit & 1) + 2 * (challenge >> bit & 1)
        if which:
            found = _add(found, (None, base, minus, both)[which])
        yield
    inverse = pow(found[2], _PRIME - 2, _PRIME)
    x = found[0] * inverse % _PRIME
    y = found[1] * inverse % _PRIME
    return (y | (x & 1) << 255).to_bytes(_BYTES, "little") == signature[:_BYTES]

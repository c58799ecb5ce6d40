# SHA-512 (FIPS 180-4), which MicroPython does not have, in small steps. Its constants are computed:
# the fractions of the roots of primes.

from struct import pack_into, unpack_from

_MASK = 2**64 - 1
_BLOCK = 128


def _primes(count):
    found = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


# The whole root of a number.
def _root(number, power, guess):
    while True:
        better = ((power - 1) * guess + number // guess ** (power - 1)) // power
        if better >= guess:
            return guess
        guess = better


def _turn(word, bits):
    return (word >> bits | word << 64 - bits) & _MASK


# The hash of the pieces and what is left of a file. A generator, which yields after each step.
def sha512(pieces, file):
    primes = _primes(80)
    state = [_root(prime << 128, 2, 1 << 70) & _MASK for prime in primes[:8]]
    constants = bytearray(640)
    for index, prime in enumerate(primes):
        pack_into(">Q", constants, 8 * index, _root(prime << 192, 3, 1 << 68) & _MASK)
        if not index & 7:
            yield
    waiting = b"".join(pieces)
    size = len(waiting)
    while True:
        more = file.read(_BLOCK)
        size += len(more)
        waiting += more
        if not more:
            break
        while len(waiting) >= _BLOCK:
            yield from _compress(state, constants, waiting[:_BLOCK])
            waiting = waiting[_BLOCK:]
    waiting += b"\x80" + bytes((111 - len(waiting)) % _BLOCK + 8) + (8 * size).to_bytes(8, "big")
    while waiting:
        yield from _compress(state, constants, waiting[:_BLOCK])
        waiting = waiting[_BLOCK:]
    digest = bytearray(64)
    for index, word in enumerate(state):
        pack_into(">Q", digest, 8 * index, word)
    return bytes(digest)


def _compress(state, constants, block):
    words = bytearray(16 * 8)
    words[:] = block
    a, b, c, d, e, f, g, h = state
    for step in range(80):
        at = 8 * (step & 15)
        word = unpack_from(">Q", words, at)[0]
        if step > 15:
            old = unpack_from(">Q", words, 8 * (step + 1 & 15))[0]
            new = unpack_from(">Q", words, 8 * (step + 14 & 15))[0]
            word += _turn(old, 1) ^ _turn(old, 8) ^ old >> 7
            word += _turn(new, 19) ^ _turn(new, 61) ^ new >> 6
            word = word + unpack_from(">Q", words, 8 * (step + 9 & 15))[0] & _MASK
            pack_into(">Q", words, at, word)
        one = h + (_turn(e, 14) ^ _turn(e, 18) ^ _turn(e, 41)) + (e & f ^ ~e & g)
        one += unpack_from(">Q", constants, 8 * step)[0] + word
        two = (_turn(a, 28) ^ _turn(a, 34) ^ _turn(a, 39)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = one + two & _MASK, a, b, c, d + one & _MASK, e, f, g
        if step & 15 == 15:
            yield
    for index, word in enumerate((a, b, c, d, e, f, g, h)):
        state[index] = state[index] + word & _MASK

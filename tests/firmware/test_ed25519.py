"""board/ed25519.py against the vectors of RFC 8032."""

from tests.firmware.hosts import Host

# RFC 8032, section 7.1: public key, message, signature; tests 1, 2 and 3.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]

SCRIPT = """
import io
from binascii import unhexlify
from board.ed25519 import verify

def run(*arguments):
    steps = 0
    work = verify(*arguments)
    while True:
        try:
            next(work)
            steps += 1
        except StopIteration as end:
            return end.value, steps

def found(key, message, signature):
    return run(key, signature, io.BytesIO(message))

ORDER = 2**252 + 27742317777372353535851937790883648493
for key, message, signature in VECTORS:
    message, signature = unhexlify(message), unhexlify(signature)
    right, steps = found(key, message, signature)
    bad = [found(key, message + b"x", signature)[0]]
    for at in (0, 31, 32, 60):
        spoilt = bytearray(signature)
        spoilt[at] ^= 1
        bad.append(found(key, message, bytes(spoilt))[0])
    factor = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    bad.append(found(key, message, signature[:32] + factor)[0])
    bad.append(found(key, message, signature[:63])[0])
    other = VECTORS[key == VECTORS[0][0]][0]
    bad.append(found(other, message, signature)[0])
    for wrong in ("", "zz" * 32, key[:62], None, 5, "ff" * 32):
        bad.append(found(wrong, message, signature)[0])
    say([right, any(bad), steps])
"""


def test_the_vectors_of_the_standard_are_right_and_anything_else_is_not(host: Host) -> None:
    ended = host.run(f"VECTORS = {VECTORS!r}\n{SCRIPT}")

    assert ended.code == 0, ended.errors
    assert [(right, bad) for right, bad, _ in ended.said] == [(True, False)] * len(VECTORS)
    assert all(steps > 250 for *_, steps in ended.said), "in small steps"

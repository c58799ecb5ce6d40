# AES-CCM as BTHome uses it (RFC 3610, with a nonce of 13 bytes and a check of 4), made of the one
# mode of AES that every port has.

from struct import pack

from cryptolib import aes

_ECB = 1


def _add(block, other):
    for index, byte in enumerate(other):
        block[index] ^= byte


# Returns (encrypted, check) of a message of at most 65535 bytes.
def encrypt(key, nonce, message):
    cipher = aes(key, _ECB)
    check = bytearray(cipher.encrypt(b"\x09" + nonce + pack(">H", len(message))))
    encrypted = bytearray(message)
    for at in range(0, len(message), 16):
        part = message[at : at + 16]
        _add(check, part)
        check = bytearray(cipher.encrypt(check))
        stream = cipher.encrypt(b"\x01" + nonce + pack(">H", at // 16 + 1))
        encrypted[at : at + 16] = bytes(a ^ b for a, b in zip(part, stream))
    _add(check, cipher.encrypt(b"\x01" + nonce + b"\0\0"))
    return bytes(encrypted), bytes(check[:4])

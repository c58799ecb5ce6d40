"""MicroPython's module `cryptolib`, as far as the firmware uses it: AES in ECB mode."""

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB


class aes:
    def __init__(self, key, mode):
        if mode != 1:
            raise ValueError("mode")
        self._encrypt = Cipher(AES(key), ECB()).encryptor().update

    def encrypt(self, block):
        return self._encrypt(bytes(block))

# The C library's functions, from MicroPython's unix port (ffi) and from CPython (ctypes) alike.

import struct
import sys

if sys.implementation.name == "micropython":
    import ffi
    from uctypes import addressof as pointer

    _libc = ffi.open("libc.so.6")

    def function(name, arguments):
        return _libc.func("i", name, arguments)

    def address(name):
        return _libc.addr(name) & ((1 << 8 * struct.calcsize("P")) - 1)

else:
    import ctypes

    _libc = ctypes.CDLL(None)
    _TYPES = {"i": ctypes.c_int, "p": ctypes.c_void_p}

    # `arguments`: one letter each, i for an int, p for a pointer: a number, None, or a bytearray.
    def function(name, arguments):
        foreign = getattr(_libc, name)
        foreign.argtypes = [_TYPES[letter] for letter in arguments]

        def call(*values):
            return foreign(
                *(pointer(value) if isinstance(value, bytearray) else value for value in values)
            )

        return call

    # Where a bytearray's bytes are; it must not be resized.
    def pointer(buffer):
        return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))

    def address(name):
        return ctypes.cast(getattr(_libc, name), ctypes.c_void_p).value

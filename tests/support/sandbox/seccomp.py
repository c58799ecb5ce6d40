"""System call filters of libseccomp, as systemd sets them; two that both must agree.

Source: seccomp_init(3), seccomp_rule_add(3); systemd.exec(5) says what each setting refuses.
"""

import ctypes
import ctypes.util
import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_NE, _EQ, _GE, _MASKED_EQ = 1, 4, 5, 7
_NO_SUCH: Final = -1

FAMILIES: Final = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
_MAX_FAMILY: Final = 64
_PROT_WRITE, _PROT_EXEC, _SHM_EXEC = 2, 4, 0o100000
_NAMESPACES: Final = (
    *(0x00020000, 0x02000000, 0x04000000, 0x08000000),
    *(0x10000000, 0x20000000, 0x40000000),
)
"""CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID, -NET."""
_SET_ID: Final = (0o4000, 0o2000)


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class Refusals:
    """What is refused besides system calls as such."""

    families: frozenset[str] = frozenset()
    """The only ones of sockets."""
    write_execute: bool = False
    namespaces: bool = False
    set_id: bool = False
    personality: bool = False


def load_filters(allowed: Iterable[str], refusals: Refusals) -> None:
    """Be refused from now on; no_new_privs must be set."""
    library = _library()
    strict = _filter(library, _ERRNO | errno.EPERM)
    for name in sorted(allowed):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != _NO_SUCH:
            library.seccomp_rule_add_array(strict, _ALLOW, number, 0, None)
    further = _filter(library, _ALLOW)
    for name, code, comparison in _rules(refusals):
        number = library.seccomp_syscall_resolve_name(name.encode())
        assert number != _NO_SUCH, name
        compared = [] if comparison is None else [comparison]
        array = (_Comparison * len(compared))(*compared)
        done = library.seccomp_rule_add_array(further, _ERRNO | code, number, len(compared), array)
        assert done == 0, f"{name}: {done}"
    for each in (further, strict):
        assert library.seccomp_load(each) == 0


def _rules(refusals: Refusals) -> Iterable[tuple[str, int, _Comparison | None]]:
    """Return calls, with what they fail with when an argument is so."""
    yield from _rules_of_memory_and_sockets(refusals)
    if refusals.namespaces:
        yield "clone3", errno.ENOSYS, None  # its flags are in memory, where no filter looks
        yield "setns", errno.EPERM, None
        for flag in _NAMESPACES:
            for call in ("clone", "unshare"):
                yield call, errno.EPERM, _Comparison(0, _MASKED_EQ, flag, flag)
    if refusals.set_id:
        for bit in _SET_ID:
            for call, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2)):
                yield call, errno.EPERM, _Comparison(argument, _MASKED_EQ, bit, bit)
    if refusals.personality:
        yield "personality", errno.EPERM, _Comparison(0, _NE, 0, 0)


def _rules_of_memory_and_sockets(
    refusals: Refusals,
) -> Iterable[tuple[str, int, _Comparison | None]]:
    if refusals.families:
        kept = {FAMILIES[name] for name in refusals.families}
        for family in set(range(_MAX_FAMILY)) - kept:
            yield "socket", errno.EAFNOSUPPORT, _Comparison(0, _EQ, family, 0)
        yield "socket", errno.EAFNOSUPPORT, _Comparison(0, _GE, _MAX_FAMILY, 0)
    if refusals.write_execute:
        both = _PROT_WRITE | _PROT_EXEC
        yield "mmap", errno.EPERM, _Comparison(2, _MASKED_EQ, both, both)
        for call in ("mprotect", "pkey_mprotect"):
            yield call, errno.EPERM, _Comparison(2, _MASKED_EQ, _PROT_EXEC, _PROT_EXEC)
        yield "shmat", errno.EPERM, _Comparison(2, _MASKED_EQ, _SHM_EXEC, _SHM_EXEC)


def _filter(library: Any, otherwise: int) -> int:  # noqa: ANN401 - a C library
    made: int = library.seccomp_init(otherwise)
    assert made
    return made


def _library() -> Any:  # noqa: ANN401 - a C library
    library = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
        ctypes.c_void_p,
    ]
    return library

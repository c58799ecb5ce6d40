"""Is somebody of this machine connected to the broker? Reads /proc/net; for a thread."""

import ipaddress
import sys
from collections.abc import Collection
from pathlib import Path

_ESTABLISHED = "01"
_WORD_DIGITS = 8


def is_connected(addresses: Collection[str], port: int, users: Collection[int], proc: Path) -> bool:
    """Tell whether a program of one of `users` (of anybody, if empty) is connected there.

    Source: proc_pid_net(5), /proc/net/tcp: local and remote address, state, ..., user.
    """
    wanted = {_plain(ipaddress.ip_address(each.partition("%")[0])) for each in addresses}
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, remote_port = fields[2].partition(":")
            if (
                fields[3] == _ESTABLISHED
                and int(remote_port, 16) == port
                and _address(address) in wanted
                and (not users or int(fields[7]) in users)
            ):
                return True
    return False


def _address(digits: str) -> str:
    """Return an address of the table: words of 32 bits in the machine's order."""
    words = [digits[at : at + _WORD_DIGITS] for at in range(0, len(digits), _WORD_DIGITS)]
    step = -1 if sys.byteorder == "little" else 1
    return _plain(ipaddress.ip_address(b"".join(bytes.fromhex(word)[::step] for word in words)))


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)

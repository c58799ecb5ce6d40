"""What a process asked of the kernel, in the order in which it did, as strace writes it down."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACED = (
    *("pwrite64", "write", "writev", "fsync", "fdatasync"),
    *("sendto", "sendmsg", "recvfrom", "recvmsg", "read"),
)

_LINE = re.compile(
    r"(?P<pid>\d+) +(?:(?P<call>\w+)\(|<\.\.\. (?P<resumed>\w+) resumed>)(?P<rest>.*)"
)
_PATH = re.compile(r"\d+<((?:\\x[0-9a-f]{2})*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_RESULT = re.compile(r"\) += (-?\d+)[^=]*$")


@dataclass(slots=True)
class Call:
    """One system call."""

    began: int
    """Its place in the order of all beginnings and ends."""
    name: str
    path: str = ""
    """What its descriptor refers to."""
    content: bytes = b""
    """What was written, or read."""
    ended: int = -1
    result: int = -1


def strace_command(strace: Path, trace: Path, command: Sequence[str]) -> list[str]:
    """Return `command` under strace, which writes to `trace`; it keeps its process id."""
    options = ["-f", "-D", "-y", "-xx", "-s", "100000", "-e", f"trace={','.join(TRACED)}"]
    return [str(strace), *options, "-e", "signal=none", "-o", str(trace), *command]


def parse_trace(lines: Iterable[str]) -> list[Call]:
    """Return the calls in the order in which they began; those that never ended are left out."""
    calls: list[Call] = []
    begun: dict[str, Call] = {}
    for place, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        rest = found["rest"]
        if found["call"] is not None:
            call = Call(place, found["call"])
            if path := _PATH.match(rest):
                call.path = _bytes(path[1]).decode(errors="replace")
            calls.append(call)
        else:
            call = begun.pop(found["pid"])
        call.content += b"".join(_bytes(text[1]) for text in _TEXT.finditer(rest))
        if rest.endswith("<unfinished ...>"):
            begun[found["pid"]] = call
        elif result := _RESULT.search(rest):
            call.ended, call.result = place, int(result[1])
    return [call for call in calls if call.ended >= 0]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))

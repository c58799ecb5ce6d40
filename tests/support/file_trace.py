"""What processes did to the files of a folder, in order, as strace writes it down.

What is read is not traced: nobody here reads a file and writes where the reading ended.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

TRACED = (
    *("open", "openat", "creat", "lseek", "write", "pwrite64", "writev", "pwritev"),
    *("truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "sync", "sendfile"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
)

_OF_NAMES = ("rename", "link", "symlink", "unlink", "rmdir", "mkdir")

_LINE = re.compile(
    r"(?P<pid>\d+) +(?:(?P<call>\w+)\(|<\.\.\. (?P<resumed>\w+) resumed>)(?P<rest>.*)"
)
_RESULT = re.compile(r"\) += (-?\d+)[^=\"]*$")
_ARGUMENT = re.compile(
    r'"(?P<text>(?:\\x[0-9a-f]{2})*)"|(?P<number>-?\w+)<(?P<path>(?:\\x[0-9a-f]{2})*)>(?:\(deleted\))?'
    r"|(?P<word>[\w|]+)"
)


_Arguments: TypeAlias = Sequence[Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done, and succeeded."""

    what: str
    """made, wrote, cut, allocated, synced, renamed, linked, pointed, removed, folder or said."""
    path: str
    """Relative to the folder; what was said, for `said`."""
    to: str = ""
    offset: int = 0
    data: bytes = field(default=b"", repr=False)
    began: int = 0
    """Its place among all calls; a sync is for what had ended before it began."""
    ended: int = 0


@dataclass(slots=True)
class _Call:
    name: str
    text: str
    began: int
    ended: int = -1
    result: int = -1


@dataclass(slots=True)
class _Trace:
    """Turns calls into steps."""

    folder: str
    offsets: dict[tuple[str, str], int] = field(default_factory=dict)
    """Where each descriptor stands: a number means the same in all processes that share a path."""
    appending: set[tuple[str, str]] = field(default_factory=set)

    def steps(self, call: _Call) -> Iterator[Step]:
        arguments = [found.groupdict() for found in _ARGUMENT.finditer(call.text)]
        is_of_names = call.name.startswith(_OF_NAMES)
        for step in (self._of_names if is_of_names else self._of_a_file)(call, arguments):
            yield replace(step, began=call.began, ended=call.ended)

    def _of_a_file(  # noqa: PLR0911 - a table
        self, call: _Call, arguments: _Arguments
    ) -> list[Step]:
        texts = [_bytes(each["text"]) for each in arguments if each["text"] is not None]
        words = [each["word"] for each in arguments if each["word"] is not None]
        place = next((each for each in arguments if each["path"] is not None), None)
        at = _text(place["path"]) if place else ""
        key = (place["number"] or "", at) if place else ("", "")
        match call.name:
            case "open" | "openat" | "creat":
                return list(self._opened(call, at, texts[0].decode(), words))
            case "write" | "writev" | "pwrite64" | "pwritev":
                return list(self._wrote(call, key, b"".join(texts), words))
            case "lseek":
                self.offsets[key] = call.result
            case "fsync" | "fdatasync":
                return list(self._within("synced", at))
            case "ftruncate" | "truncate":
                path = at if call.name == "ftruncate" else texts[0].decode()
                return list(self._within("cut", path, offset=int(words[-1])))
            case "fallocate":
                return list(self._within("allocated", at, offset=int(words[-2]) + int(words[-1])))
            case "sync":
                return [Step("synced", "*")]
            case "sendfile":
                return list(self._copied(call, key, arguments))
        return []

    def _copied(self, call: _Call, key: tuple[str, str], arguments: _Arguments) -> Iterator[Step]:
        """What was copied is read now: nobody here copies what changes."""
        source = [_text(each["path"]) for each in arguments if each["path"] is not None][1]
        offset = self.offsets.get(key, 0)
        self.offsets[key] = offset + call.result
        data = Path(source).read_bytes()[offset : offset + call.result]
        yield from self._within("wrote", key[1], offset=offset, data=data)

    def _of_names(self, call: _Call, arguments: _Arguments) -> list[Step]:
        paths = [self._relative(path) for path in _paths(arguments)]
        match call.name.removesuffix("2").removesuffix("at"):
            case "rename" | "link" as name:
                before, after = paths
                if before is None and after is None:
                    return []
                assert before is not None, f"{call.text}: half of it is elsewhere"
                assert after is not None, f"{call.text}: half of it is elsewhere"
                return [Step("renamed" if name == "rename" else "linked", before, after)]
            case "symlink":
                target = next(_text(each["text"]) for each in arguments if each["text"] is not None)
                return [] if paths[1] is None else [Step("pointed", paths[1], target)]
            case "unlink" | "rmdir":
                return [] if paths[0] is None else [Step("removed", paths[0])]
            case "mkdir":
                return [] if paths[0] is None else [Step("folder", paths[0])]
        return []

    def _opened(self, call: _Call, at: str, path: str, words: list[str]) -> Iterator[Step]:
        whole = str(PurePosixPath(at or "/") / path)
        flags = {flag for word in words for flag in word.split("|")}
        key = (str(call.result), os.path.normpath(whole))
        self.offsets[key] = 0
        self.appending.discard(key)
        if "O_APPEND" in flags:
            self.appending.add(key)
        if "O_CREAT" in flags or call.name == "creat":
            yield from self._within("made", whole)
        if "O_TRUNC" in flags or call.name == "creat":
            yield from self._within("cut", whole)

    def _wrote(
        self, call: _Call, key: tuple[str, str], data: bytes, words: list[str]
    ) -> Iterator[Step]:
        number, path = key
        data = data[: call.result]
        if number == "1":
            yield Step("said", data.decode().strip())
        elif call.name.startswith("pwrite"):
            yield from self._within("wrote", path, offset=int(words[-1]), data=data)
        elif key in self.appending:
            yield from self._within("wrote", path, offset=-1, data=data)
        else:
            offset = self.offsets.get(key, 0)
            self.offsets[key] = offset + len(data)
            yield from self._within("wrote", path, offset=offset, data=data)

    def _within(
        self, what: str, path: str, *, offset: int = 0, data: bytes = b""
    ) -> Iterator[Step]:
        relative = self._relative(path)
        if relative is not None:
            yield Step(what, relative, "", offset, data)

    def _relative(self, path: str) -> str | None:
        whole = os.path.normpath(path)
        if whole == self.folder:
            return "."
        return (
            whole.removeprefix(f"{self.folder}/") if whole.startswith(f"{self.folder}/") else None
        )


def traced(
    strace: Path, trace: Path, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> int:
    """Run a command, and all it starts, under strace; return its exit code."""
    options = ["-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={','.join(TRACED)}"]
    done = subprocess.run(
        [str(strace), *options, "-e", "signal=none", "-o", str(trace), *command],
        check=False,
        stdout=subprocess.DEVNULL,
        env=None if environment is None else {**os.environ, **environment},
    )
    return done.returncode


def steps(trace: Path, folder: Path) -> list[Step]:
    """Return what was done within a folder; what was written to standard output is `said`."""
    turner = _Trace(os.path.normpath(folder))
    with trace.open(encoding="ascii", errors="replace") as lines:
        return [step for call in _calls(lines) for step in turner.steps(call)]


def _calls(lines: Iterator[str] | Sequence[str]) -> Iterator[_Call]:
    """Yield calls that succeeded, in the order in which they ended."""
    begun: dict[str, _Call] = {}
    for place, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        rest = found["rest"].rstrip("\n")
        if found["call"] is not None:
            call = _Call(found["call"], rest, place)
        else:
            call = begun.pop(found["pid"])
            call.text += rest
        if rest.endswith("<unfinished ...>"):
            call.text = call.text.removesuffix("<unfinished ...>")
            begun[found["pid"]] = call
        elif result := _RESULT.search(rest):
            call.text = call.text[: call.text.rindex(") ")]
            call.ended, call.result = place, int(result[1])
            if call.result >= 0:
                yield call


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str | None) -> str:
    return _bytes(text or "").decode()


def _paths(arguments: _Arguments) -> Iterator[str]:
    """Yield the paths of a call, each with the folder that is named in front of it."""
    at = "/"
    for each in arguments:
        if each["path"] is not None:
            at = _text(each["path"])
        elif each["text"] is not None:
            yield str(PurePosixPath(at) / _text(each["text"]))

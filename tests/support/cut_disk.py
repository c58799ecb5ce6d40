"""What a folder may be after a power cut: what was not synced is there, or not, or in part.

The model is as harsh as file systems may be, and no harsher:

- of a file, what was written before an `fsync` of it is there; of what was written after that any
  sectors may be, and its size may be any that it had, or a sector's border between
- of a folder, names are changed in their order, and any of the newest changes that no `fsync` of
  the folder followed may be missing; to sync a file does not sync its name
- a rename is there wholly or not at all

Shared memory of SQLite (`-shm`) is none of the disk's; what is left of it is noise.
"""

import os
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from tests.support.file_trace import Step

SECTOR = 512
NOISE = "-shm"


@dataclass(slots=True, eq=False)
class File:
    """Its content in memory, on the disk, and how it came from one to the other."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    """Place in the order of all, offset and data; None cuts, or lengthens, to the offset."""

    def write(self, place: int, offset: int, data: bytes) -> None:
        if offset < 0:
            offset = len(self.content)
        _put(self.content, offset, data)
        self.pending.append((place, offset, data))

    def resize(self, place: int, size: int) -> None:
        _resize(self.content, size)
        self.pending.append((place, size, None))

    def sync(self, before: int) -> None:
        content = bytearray(self.durable)
        for place, offset, data in self.pending:
            if place < before:
                _put(content, offset, data) if data is not None else _resize(content, offset)
        self.durable = bytes(content)
        self.pending = [each for each in self.pending if each[0] >= before]

    def after_cut(self, rng: random.Random) -> bytes:
        """Return what the disk has of it."""
        content = bytearray(self.durable)
        share = rng.choice((0.0, 0.5, 1.0))
        reached = rng.randint(0, len(self.pending))
        sizes = {len(content)}
        for _, offset, data in self.pending[:reached]:
            if data is None:
                _resize(content, offset)
                sizes = {offset}
                continue
            sizes.add(max(len(content), offset + len(data)))
            for start, part in _sectors(offset, data):
                if rng.random() < share:
                    _put(content, start, part)
        size = rng.randint(len(self.durable) if not reached else min(sizes), max(sizes))
        if size not in sizes:
            size = max(min(sizes), size // SECTOR * SECTOR)
        _resize(content, size)
        return bytes(content)


@dataclass(slots=True, eq=False)
class Link:
    """A symbolic one."""

    to: str


@dataclass(slots=True, eq=False)
class Folder:
    """Names in memory, and on the disk."""

    names: dict[str, "Node"] = field(default_factory=dict)
    durable: dict[str, "Node"] = field(default_factory=dict)


Node: TypeAlias = File | Link | Folder
_Change: TypeAlias = tuple[Folder, str, Node | None]


class Disk:
    """A folder, from when nothing of it waited to be written."""

    def __init__(self, folder: Path) -> None:
        self.root = _read(folder)
        self._pending: list[tuple[_Change, ...]] = []
        """Changes of names that are on no disk yet, each done wholly or not at all."""

    def do(self, steps: Iterable[Step]) -> None:
        """Take up what was done."""
        for step in steps:
            self._do(step)

    def _do(self, step: Step) -> None:
        if step.what in {"made", "renamed", "linked", "pointed", "folder", "removed"}:
            self._change_names(step)
        elif step.what == "synced":
            self._sync(step)
        elif step.what != "said":
            self._change_content(step, self._file(step.path))

    def _change_content(self, step: Step, file: File) -> None:
        if step.what == "wrote":
            file.write(step.ended, step.offset, step.data)
        elif step.what == "cut" or len(file.content) < step.offset:
            file.resize(step.ended, step.offset)

    def _change_names(self, step: Step) -> None:
        folder, name = self._place(step.path)
        match step.what:
            case "made":
                if name not in folder.names:
                    self._rename(((folder, name, File()),))
            case "pointed":
                self._rename(((folder, name, Link(step.to)),))
            case "folder":
                self._rename(((folder, name, Folder()),))
            case "removed":
                self._rename(((folder, name, None),))
            case _:
                self._move(step)

    def _move(self, step: Step) -> None:
        folder, name = self._place(step.path)
        to_folder, to_name = self._place(step.to)
        there: _Change = (to_folder, to_name, folder.names[name])
        self._rename((there,) if step.what == "linked" else ((folder, name, None), there))

    def _rename(self, changes: tuple[_Change, ...]) -> None:
        for folder, name, node in changes:
            _set(folder.names, name, node)
        self._pending.append(changes)

    def _sync(self, step: Step) -> None:
        if step.path == "*":
            for folder in list(_folders(self.root)):
                self._sync_names(folder)
                for each in folder.names.values():
                    if isinstance(each, File):
                        each.sync(step.began)
            return
        node = self._node(step.path)
        if isinstance(node, File):
            node.sync(step.began)
        elif isinstance(node, Folder):
            self._sync_names(node)

    def _sync_names(self, folder: Folder) -> None:
        """Write the changes of a folder, and what has to be there before them."""
        wanted, written = {id(folder)}, []
        for changes in reversed(self._pending):
            folders = {id(each) for each, _, _ in changes}
            if folders & wanted:
                wanted |= folders
                written.append(changes)
        for changes in reversed(written):
            for each, name, node in changes:
                _set(each.durable, name, node)
        done = {id(changes) for changes in written}
        self._pending = [each for each in self._pending if id(each) not in done]

    def _place(self, path: str) -> tuple[Folder, str]:
        pure = PurePosixPath(path)
        folder = self._node(str(pure.parent))
        assert isinstance(folder, Folder), path
        return folder, pure.name

    def _file(self, path: str) -> File:
        node = self._node(path)
        return node if isinstance(node, File) else File()  # it was removed while it was open

    def _node(self, path: str) -> Node | None:
        node: Node | None = self.root
        for part in PurePosixPath(path).parts:
            assert not isinstance(node, Link), f"{path}: through a link"
            node = node.names.get(part) if isinstance(node, Folder) else None
        return node

    def after_cut(self, rng: random.Random, into: Path) -> None:
        """Write a folder as it may be once the power is back."""
        durable = {id(folder): dict(folder.durable) for folder in _folders(self.root)}
        share = rng.choice((0.0, 0.5, 0.9, 1.0))
        lost: set[int] = set()
        for changes in self._pending:
            folders = {id(folder) for folder, _, _ in changes}
            if lost & folders or rng.random() >= share:
                lost |= folders
                continue
            for folder, name, node in changes:
                _set(durable.setdefault(id(folder), dict(folder.durable)), name, node)
        _write(self.root, durable, rng, into)

    def in_memory(self, into: Path) -> None:
        """Write the folder as it is while the power is on: as a kill leaves it."""
        names = {id(folder): folder.names for folder in _folders(self.root)}
        _write(self.root, names, None, into)


def made_by(steps: Sequence[Step], before: Path) -> Disk:
    """Return the disk after `steps` were done to a folder that was as `before`."""
    disk = Disk(before)
    disk.do(steps)
    return disk


def _folders(folder: Folder) -> Iterator[Folder]:
    yield folder
    seen = {id(folder)}
    for node in (*folder.names.values(), *folder.durable.values()):
        if isinstance(node, Folder) and id(node) not in seen:
            seen.add(id(node))
            yield from _folders(node)


def _read(path: Path) -> Folder:
    folder = Folder()
    for entry in os.scandir(path) if path.exists() else ():
        node: Node
        if entry.is_symlink():
            node = Link(os.readlink(entry.path))
        elif entry.is_dir():
            node = _read(Path(entry.path))
        elif entry.is_file():
            content = Path(entry.path).read_bytes()
            node = File(bytearray(content), content)
        else:
            continue  # a socket
        folder.names[entry.name] = folder.durable[entry.name] = node
    return folder


def _write(
    folder: Folder, names: dict[int, dict[str, Node]], rng: random.Random | None, into: Path
) -> None:
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for name, node in names.get(id(folder), folder.durable).items():
        path = into / name
        if isinstance(node, Folder):
            _write(node, names, rng, path)
        elif isinstance(node, Link):
            path.symlink_to(node.to)
        elif name.endswith(NOISE):
            if rng is not None and rng.random() < 0.5:
                path.write_bytes(rng.randbytes(32_768))
        else:
            path.write_bytes(bytes(node.content) if rng is None else node.after_cut(rng))
            path.chmod(0o600)


def _set(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _put(content: bytearray, offset: int, data: bytes) -> None:
    _resize(content, max(len(content), offset + len(data)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    start = offset
    while start < offset + len(data):
        end = min((start // SECTOR + 1) * SECTOR, offset + len(data))
        yield start, data[start - offset : end - offset]
        start = end

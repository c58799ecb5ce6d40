"""The ledger: how far each boot of each device has come, in a small file that outlives a kill.

Fixed slots, each written by one `pwrite` without fsync: the kernel keeps what was written when the
process is killed. A power cut may take what was put since the last `sync`, slot by slot.
"""

import errno
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gateway import files
from gateway.store.ledger_slots import (
    FREE_SLOT,
    SLOT_BYTES,
    Entry,
    FileContent,
    decode_file,
    encode_header,
    encode_slot,
    offset_of,
)

__all__ = ["MAX_BOOTS", "MAX_ENTRIES", "Entry", "Ledger"]

MAX_BOOTS = 4
"""Boots of a device that are kept once nothing of them is left to deliver."""

MAX_ENTRIES = 20_000 * MAX_BOOTS
"""Ten megabytes on disk."""

_STEP_SLOTS = 512
"""How many slots the file grows by, their room on the disk taken at once: 64 KiB."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Place:
    entry: Entry
    slot: int


@dataclass(slots=True)
class _Boots:
    """What the ledger holds of one device."""

    count: int = 0
    settled: OrderedDict[int, None] = field(default_factory=OrderedDict)
    """The boots of which nothing is left to deliver, the least recently put first."""


class Ledger:
    """The entries of all devices, in memory and in the file. For one thread."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over an open file; `open` is the way in."""
        self.path = path
        self.damaged = 0
        """Slots that were found damaged and were dropped; the header counts as one."""
        self.displaced = 0
        """Entries that made room in a full ledger while some of their rows waited for delivery."""
        self._descriptor = descriptor
        self._slots = 0
        self._free: list[int] = []
        """Slots that hold nothing; the last is used first."""
        self._generation = 0
        self._places: OrderedDict[tuple[str, int], _Place] = OrderedDict()
        """All entries, the least recently put first."""
        self._settled: OrderedDict[tuple[str, int], None] = OrderedDict()
        """Those of which nothing is left to deliver, in the same order."""
        self._boots: dict[str, _Boots] = {}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the ledger, made if need be; what is damaged in it is dropped and counted.

        A file of another version, or one in which nothing is right, is set aside.

        Raises:
            OSError: the file cannot be read or written, or the disk has no room for a new one.
        """
        files.make_folder(path.parent)
        content = _read_file(path)
        is_foreign = content.is_foreign
        if is_foreign:
            _set_aside(path, content)
            content = decode_file(b"")
        files.make_private(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        ledger = cls(path, descriptor)
        try:
            ledger._take_over(content)
        except BaseException:
            ledger.close()
            raise
        ledger.damaged += is_foreign
        return ledger

    def __len__(self) -> int:
        return len(self._places)

    def entries(self) -> Sequence[Entry]:
        """Return all entries, the least recently put first."""
        return [place.entry for place in self._places.values()]

    def get(self, device: str, boot: int) -> Entry | None:
        """Return an entry, if there is one and it had not to make room."""
        place = self._places.get((device, boot))
        return None if place is None else place.entry

    def put(self, entries: Iterable[Entry]) -> None:
        """Write what has changed; from then on it survives the end of the process.

        A device with more than MAX_BOOTS boots loses settled ones, the least recently put first;
        where the ledger is full, the settled entry that was put least recently makes room.

        Raises:
            OSError: the disk failed, or it is full and the ledger had to grow. The entries before
                that one are written; it and those after it are as they were.
            ValueError: an entry does not fit a slot.
        """
        for entry in entries:
            place = self._places.get((entry.device, entry.boot))
            if place is None:
                self._add(entry)
            elif place.entry != entry:
                self._write(entry, place.slot)
            self._remember(entry)
            self._trim(entry)

    def drop(self, keys: Iterable[tuple[str, int]]) -> None:
        """Forget entries, given device and boot; it is no error if there is none.

        Raises:
            OSError: the disk failed.
        """
        for key in keys:
            place = self._places.get(key)
            if place is not None:
                self._write_slot(FREE_SLOT, place.slot)
                self._forget(key)
                self._free.append(place.slot)

    def sync(self) -> None:
        """Make all that was put survive a power cut.

        Raises:
            OSError: the disk failed; a power cut may take what was put since the last sync.
        """
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let go of the file, without `sync`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _add(self, entry: Entry) -> None:
        # The slot of an entry that makes room is written over at once: a kill finds the one or the
        # other, and a full disk does not matter.
        leaving = self._leaving_for(entry.device)
        if leaving is not None:
            slot = self._places[leaving].slot
            self._write(entry, slot)
            self._forget(leaving)
        else:
            if not self._free:
                self._grow()
            slot = self._free[-1]
            self._write(entry, slot)
            self._free.pop()
        self._hold(entry, slot)

    def _leaving_for(self, device: str) -> tuple[str, int] | None:
        boots = self._boots.get(device)
        if boots is not None and boots.count >= MAX_BOOTS and boots.settled:
            return device, next(iter(boots.settled))
        if len(self._places) < MAX_ENTRIES:
            return None
        if self._settled:
            return next(iter(self._settled))
        if not self.displaced:
            _log.error("%s is full: boots with stored samples are forgotten", self.path)
        self.displaced += 1
        return next(iter(self._places))

    def _hold(self, entry: Entry, slot: int) -> None:
        self._places[entry.device, entry.boot] = _Place(entry, slot)
        self._boots.setdefault(entry.device, _Boots()).count += 1

    def _remember(self, entry: Entry) -> None:
        """Note an entry that is held as the one put last."""
        key = (entry.device, entry.boot)
        self._places[key].entry = entry
        self._places.move_to_end(key)
        settled = self._boots[entry.device].settled
        self._settled.pop(key, None)
        settled.pop(entry.boot, None)
        if entry.is_settled:
            self._settled[key] = settled[entry.boot] = None

    def _forget(self, key: tuple[str, int]) -> None:
        device, boot = key
        del self._places[key]
        self._settled.pop(key, None)
        boots = self._boots[device]
        boots.settled.pop(boot, None)
        boots.count -= 1
        if not boots.count:
            del self._boots[device]

    def _trim(self, newest: Entry) -> None:
        """Drop settled boots that the device had to keep while they were not."""
        boots = self._boots[newest.device]
        while boots.count > MAX_BOOTS and boots.settled:
            boot = next(iter(boots.settled))
            if boot == newest.boot:
                return
            self.drop([(newest.device, boot)])

    def _grow(self) -> None:
        """Take room for more slots on the disk."""
        first = self._slots
        end = min(first + _STEP_SLOTS, MAX_ENTRIES)
        os.posix_fallocate(self._descriptor, offset_of(first), (end - first) * SLOT_BYTES)
        self._slots = end
        self._free.extend(range(end - 1, first - 1, -1))

    def _write(self, entry: Entry, slot: int) -> None:
        self._write_slot(encode_slot(entry, self._generation + 1), slot)
        self._generation += 1

    def _write_slot(self, content: bytes, slot: int) -> None:
        _write_at(self._descriptor, content, offset_of(slot))

    def _take_over(self, content: FileContent) -> None:
        """Hold what a file has, and mend it."""
        self._slots = content.slots
        used: set[int] = set()
        for slot in content.used:
            key = (slot.entry.device, slot.entry.boot)
            if (older := self._places.get(key)) is not None:  # a power cut kept both
                self._write_slot(FREE_SLOT, older.slot)
                used.discard(older.slot)
                self._forget(key)
            self._hold(slot.entry, slot.number)
            self._remember(slot.entry)
            used.add(slot.number)
            self._generation = slot.generation
        for number in content.damaged:
            self._write_slot(FREE_SLOT, number)
        self._free = [number for number in range(self._slots - 1, -1, -1) if number not in used]
        self.damaged = len(content.damaged)
        if content.version is None:
            self.damaged += bool(content.used)
            if not self._slots:
                self._grow()
            _write_at(self._descriptor, encode_header(), 0)
            os.fsync(self._descriptor)
            files.sync_folder(self.path.parent)
        if self.damaged:
            _log.warning("%s: %d damaged slots dropped", self.path, self.damaged)


def _read_file(path: Path) -> FileContent:
    try:
        with path.open("rb") as file:
            return decode_file(file.read(offset_of(MAX_ENTRIES)))
    except FileNotFoundError:
        return decode_file(b"")


def _set_aside(path: Path, content: FileContent) -> None:
    suffix = "damaged" if content.version is None else f"version-{content.version}"
    aside = path.with_name(f"{path.name}.{suffix}")
    files.rename(path, aside)
    _log.error("%s cannot be read (%s): it was renamed, and a new one is made", path, aside.name)


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    if os.pwrite(descriptor, content, offset) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

"""Which commands there were lately, so that none that comes again is done again; pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gateway.commands.letter import Letter
from gateway.protocol.fields import Json
from gateway.requests.command import Transaction

MAX_REMEMBERED = 10_000
"""Commands that have ended and are remembered; then the oldest is forgotten."""

REMEMBERED_S = 86_400.0
"""How long one is remembered: a transaction that comes again later is another command."""


class Moment(NamedTuple):
    """A time, by all of the machine's clocks."""

    monotonic_s: float
    unix_s: float
    boot_id: str
    """The boot of the machine in which `monotonic_s` counts."""
    is_synchronised: bool
    """Whether somebody vouches for `unix_s`."""


@dataclass(slots=True)
class Remembered:
    """A command that came within the last day."""

    number: int
    device: str
    level: str
    transaction: Transaction | None
    packet: str
    """The broker's number of the message, a dot, and what tells its content; empty if there is no
    number, or it means nothing any more."""
    fingerprint: str
    """Tells what was asked for."""
    received: Moment
    is_plain: bool = False
    """Whether it came as a plain `set`: nobody listens for a result but at its response topic."""
    letter: Letter | None = None
    """While it has not ended."""
    answer: dict[str, Json] | None = None
    """Once it has."""


class Past:
    """Finds a command by the transaction its sender gave it, or by the broker's packet."""

    def __init__(self) -> None:
        self._all: dict[int, Remembered] = {}
        self._transactions: dict[tuple[str, Transaction], Remembered] = {}
        self._packets: dict[str, Remembered] = {}

    def __iter__(self) -> Iterator[Remembered]:
        return iter(self._all.values())

    def add(self, entry: Remembered) -> None:
        """Remember a command; later ones have greater numbers."""
        self._all[entry.number] = entry
        if entry.transaction is not None:
            self._transactions[entry.device, entry.transaction] = entry
        if entry.packet:
            self._packets[_id_of(entry.packet)] = entry

    def find(self, device: str, transaction: Transaction | None, packet: str) -> Remembered | None:
        """Return the command of that transaction; without one, the one that came as `packet`."""
        if transaction is not None:
            return self._transactions.get((device, transaction))
        entry = self._packets.get(_id_of(packet))
        return entry if entry is not None and entry.packet == packet else None

    def get(self, number: int) -> Remembered:
        """Return a command that was added and not forgotten."""
        return self._all[number]

    def forget(self, number: int) -> None:
        """Forget one."""
        entry = self._all.pop(number)
        if entry.transaction is not None:
            key = entry.device, entry.transaction
            if self._transactions.get(key) is entry:
                del self._transactions[key]
        if self._packets.get(_id_of(entry.packet)) is entry:
            del self._packets[_id_of(entry.packet)]

    def forget_packet(self, packet_id: str) -> None:
        """Note that the broker uses that id for another message by now."""
        entry = self._packets.pop(packet_id, None)
        if entry is not None:
            entry.packet = ""

    def forget_packets(self) -> bool:
        """Know none by its packet any more; False if there was none."""
        for entry in self._packets.values():
            entry.packet = ""
        had_some = bool(self._packets)
        self._packets.clear()
        return had_some

    def forget_old(self, now: Moment) -> list[int]:
        """Forget what is too old or too much; return their numbers."""
        old: list[int] = []
        surplus = len(self._all) - MAX_REMEMBERED
        for number, entry in self._all.items():
            if entry.letter is None:
                is_old = _age_s(entry.received, now) > REMEMBERED_S
                if not is_old and len(old) >= surplus:
                    break
                old.append(number)
        for number in old:
            self.forget(number)
        return old


def _age_s(then: Moment, now: Moment) -> float:
    """Return how long ago something was, as far as that is known: people set clocks."""
    if then.boot_id == now.boot_id:
        return now.monotonic_s - then.monotonic_s
    return now.unix_s - then.unix_s if then.is_synchronised and now.is_synchronised else 0.0


def _id_of(packet: str) -> str:
    """Return the broker's number of a packet."""
    return packet.partition(".")[0]

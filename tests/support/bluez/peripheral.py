"""What is at the other end of the radio: the GATT server that a device object stands for."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class GattError(Exception):
    """The peripheral, or the way to it, refused; the text is BlueZ's for it."""

    def __init__(self, text: str, error: str = "Failed") -> None:
        super().__init__(text)
        self.error = f"org.bluez.Error.{error}"


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One characteristic; `flags` are those of org.bluez.GattCharacteristic1."""

    handle: int
    uuid: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """One primary service."""

    handle: int
    uuid: str
    characteristics: tuple[Characteristic, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """What a connected peripheral calls when something happens."""

    notified: Callable[[int, bytes], None]
    """A characteristic's handle, and its new value."""
    lost: Callable[[], None]
    """The connection is gone, and nobody here asked for that."""


class Peripheral(Protocol):
    """A GATT server, by hand or over a radio."""

    async def connect(self, ends: Ends) -> Sequence[Service]:
        """Connect and return the services; raises GattError."""

    async def disconnect(self) -> None:
        """End the connection; harmless without one."""

    @property
    def mtu(self) -> int:
        """ATT MTU of the connection."""

    async def pair(self) -> None:
        """Pair, and encrypt the connection; raises GattError."""

    async def subscribe(self, handle: int, *, wanted: bool) -> None:
        """Ask for the notifications of a characteristic, or no longer; raises GattError."""

    async def write(self, handle: int, value: bytes, *, response: bool) -> None:
        """Write a value; with `response` it returns when it arrived. Raises GattError."""


@dataclass
class HandFed:
    """A peripheral that a test plays: it sees what is written, and notifies what it likes."""

    services: tuple[Service, ...]
    mtu: int = 247
    on_write: Callable[[int, bytes], None] = lambda _handle, _value: None
    on_subscribed: Callable[[int], None] = lambda _handle: None
    on_disconnected: Callable[[], None] = lambda: None
    connections: int = 0
    subscribed: set[int] = field(default_factory=set)
    drops_next_write: bool = False
    """The connection breaks while the next write is under way; BlueZ does not tell of a command."""
    wants_pairing: bool = False
    """Who has not paired may not subscribe."""
    is_paired: bool = False
    is_mute: bool = False
    """It stays connected and notifies nothing; until the next connection."""
    _ends: Ends | None = None

    @property
    def is_connected(self) -> bool:
        """Whether somebody is connected."""
        return self._ends is not None

    async def connect(self, ends: Ends) -> Sequence[Service]:
        """Accept."""
        self._ends = ends
        self.is_mute = False
        self.connections += 1
        return self.services

    async def disconnect(self) -> None:
        """Be let go."""
        self._end()

    async def pair(self) -> None:
        """Be bonded: from then on each connection is encrypted."""
        self.is_paired = True

    async def subscribe(self, handle: int, *, wanted: bool) -> None:
        """Note who wants to be notified."""
        if self.wants_pairing and not self.is_paired:
            raise GattError("Not paired", "NotPermitted")
        if not wanted:
            self.subscribed.discard(handle)
            return
        self.subscribed.add(handle)
        self.on_subscribed(handle)

    async def write(self, handle: int, value: bytes, *, response: bool) -> None:
        """Hand the value to the test."""
        if self.drops_next_write and self._ends is not None:
            self.drops_next_write = False
            self.drop()
            if not response:
                return
        if self._ends is None:
            # What BlueZ answers to a request that was pending when the link went: unlikely error.
            raise GattError("Operation failed with ATT error: 0x0e")
        self.on_write(handle, value)

    def notify(self, handle: int, value: bytes) -> None:
        """Send a notification, if somebody subscribed; longer than the MTU allows is a mistake."""
        assert len(value) <= self.mtu - 3
        if self._ends is not None and handle in self.subscribed and not self.is_mute:
            self._ends.notified(handle, value)

    def drop(self) -> None:
        """Break the connection, as a board does that loses its power."""
        ends = self._ends
        self._end()
        if ends is not None:
            asyncio.get_running_loop().call_soon(ends.lost)

    def _end(self) -> None:
        if self._ends is not None:
            self._ends = None
            self.subscribed.clear()
            self.on_disconnected()

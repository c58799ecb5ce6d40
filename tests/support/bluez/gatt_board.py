"""A board with our firmware's session and ring, that speaks over GATT as PROTOCOL.md has it."""

import asyncio
import struct

from gateway.protocol.fragments import Joiner, cut
from gateway.simulate.light_board import STREAM, load_board_code
from tests.support.bluez.adverts import FLAGS, Heard, on_air, structure
from tests.support.bluez.peripheral import Characteristic, HandFed, Service

SERVICE_UUID = "0e9a0001-5c1d-4c0e-9c6b-2f6a7b1d0e01"
NOTIFY, WRITE = 3, 6
SERVICE = Service(
    1,
    SERVICE_UUID,
    (
        Characteristic(NOTIFY, "0e9a0002-5c1d-4c0e-9c6b-2f6a7b1d0e01", ("notify",)),
        Characteristic(
            WRITE, "0e9a0003-5c1d-4c0e-9c6b-2f6a7b1d0e01", ("write", "write-without-response")
        ),
    ),
)
"""PROTOCOL.md, P20."""

_RECORD = struct.Struct("<BBIIh")
"""Length, stream, mono_ms, and the values of STREAM."""

_FRAGMENT_HEADER_BYTES = 4
"""One of ours, three of ATT."""

RING_BYTES = 4096
EPOCH = 7


class GattBoard:
    """Takes samples whose value `number` is their seq, and keeps them until they are safe."""

    def __init__(self, address: str, name: str, interval_s: float) -> None:
        """Prepare, switched off."""
        self.name = name
        self.produced = 0
        self.peripheral = HandFed(
            (SERVICE,),
            on_write=self._on_write,
            on_subscribed=lambda _handle: self._on_listener(),
            on_disconnected=self._on_disconnected,
        )
        self.advert = Heard(
            address,
            -55,
            structure(FLAGS, b"\x06") + structure(0x07, on_air(SERVICE_UUID)),
            "public",
        )
        self._interval_s = interval_s
        self._code = load_board_code()
        self._ring = self._code.make_ring(RING_BYTES)
        self._start_session()

    async def run(self) -> None:
        """Be switched on."""
        loop = asyncio.get_running_loop()
        sample_s = loop.time()
        while True:
            if loop.time() >= sample_s:
                self._take_sample()
                sample_s += self._interval_s
            self._pump()
            due_s = min(self._session.due_ms(_now_ms()) / 1000, sample_s - loop.time())
            self._has_input.clear()
            try:
                async with asyncio.timeout(max(due_s, 0.001)):
                    await self._has_input.wait()
            except TimeoutError:
                continue

    def _start_session(self) -> None:
        """Begin anew, as the firmware does on each connection; the ring stays."""
        hello: dict[str, object] = {
            "id": self.name,
            "name": self.name,
            "fw": "1.0.0",
            "plat": "gatt",
            "rst": "power_on",
            "n": 1,
        }
        self._session = self._code.make_session(hello, self._ring, EPOCH, (STREAM,))
        self._joiner = Joiner()
        self._counter = 0
        self._has_listener = False
        self._has_input = asyncio.Event()

    def _take_sample(self) -> None:
        record = _RECORD.pack(_RECORD.size, 0, _now_ms() & 0xFFFFFFFF, self.produced, 2000)
        self._ring.push(record, len(record))
        self.produced += 1

    def _pump(self) -> None:
        """Send what is due, if somebody listens."""
        while self._has_listener and (line := self._session.next_line(_now_ms())) is not None:
            room = self.peripheral.mtu - _FRAGMENT_HEADER_BYTES
            for fragment in cut(line, room, self._counter):
                self._counter += 1
                self.peripheral.notify(NOTIFY, fragment)

    def _on_write(self, _handle: int, value: bytes) -> None:
        line = self._joiner.feed(value)
        if line is not None:
            self._session.on_line(line.rstrip(), _now_ms())
            self._has_input.set()

    def _on_listener(self) -> None:
        self._has_listener = True
        self._has_input.set()

    def _on_disconnected(self) -> None:
        has_input = self._has_input
        self._start_session()
        has_input.set()


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)

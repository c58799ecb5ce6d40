"""All that the gateway has for BLE, assembled as in production; what arrives is safe at once."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from gateway.ble.service import Ble, BleOptions
from gateway.clock import Clock
from gateway.house import House
from gateway.model import Event, Readings, Sample
from gateway.protocol.delivery import DeliveryBook
from gateway.status import Status

HANG_S = 2400.0
"""For what hangs, on a loop whose time may run 40 times faster."""


@dataclass
class Arrivals:
    """The samples of one device, each with a value `number`."""

    clock: Clock
    numbers: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def accept(self, _link: str, events: list[Event]) -> None:
        """Take what the driver says."""
        for event in events:
            if isinstance(event, Readings):
                samples = [each for each in event.records if isinstance(each, Sample)]
                assert len(samples) == len(event.records), "a gap"
                self.numbers += [float(str(sample.values["number"])) for sample in samples]
                self.at_s += [self.clock.monotonic_s()] * len(samples)
                if event.on_safe is not None:
                    event.on_safe()
                self._came.set()

    async def until(self, count: int) -> None:
        """Return once so many have arrived."""
        async with asyncio.timeout(HANG_S):
            while len(self.numbers) < count:
                self._came.clear()
                await self._came.wait()


def make_ble(arrivals: Arrivals, clock: Clock, folder: Path) -> Ble:
    """Return the gateway's radio, on BlueZ; it is to be `run`."""
    house = House(
        book=DeliveryBook(),
        clock=clock,
        run=1,
        session="s",
        status=Status(),
        accept=arrivals.accept,
        forget_link=lambda _name: None,
        on_change=lambda: None,
    )
    return Ble(BleOptions(folder / "joined.json"), house)

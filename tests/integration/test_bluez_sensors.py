"""Commercial sensors as BlueZ tells of them, which is not quite what is on the air."""

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dbus_fast import Variant

from gateway.ble.service import Ble, BleOptions
from gateway.clock import Clock
from gateway.house import House
from gateway.links.ble_adapter import BluezAdapter
from gateway.links.ble_gatt import SERVICE
from gateway.model import Event, Readings, Sample, Value
from gateway.protocol.delivery import DeliveryBook
from gateway.status import Status
from tests.support.bluez.adverts import FLAGS, MANUFACTURER, NAME, Heard, on_air, structure
from tests.support.bluez.bleak_end import let_go_of_the_bus
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.bus import PrivateBus
from tests.support.bluez.remote import DEVICE
from tests.support.fast_loop import run_at
from tests.support.figures import Figures

SPEED = 40.0

ENOUGH_S = 1200.0
"""For what hangs, also on a loop whose time runs faster."""

HANG_S = 30.0

ADVERT_S = 0.5

REPEAT_S = 40.0
"""What comes again sooner is taken for the same packet."""

WARM_UP = 1_000
STRANGERS = 4_000
PRESENT = 100
"""So many BlueZ knows at a time: it forgets who was not heard for 30 s."""


@dataclass
class Sensors:
    """What the gateway reads of the sensors on the air, and what is on the air."""

    bluetoothd: Bluetoothd
    status: Status = field(default_factory=Status)
    read: list[Mapping[str, Value]] = field(default_factory=list)
    """The values of each sample, by key."""
    mail: set[str] = field(default_factory=set)
    """Devices for which commands wait."""
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def accept(self, _link: str, events: list[Event]) -> None:
        """Take what the driver says."""
        for event in events:
            if isinstance(event, Readings):
                for record in event.records:
                    assert isinstance(record, Sample)
                    self.read.append(record.values)
                self._came.set()

    async def until_read(self, heard: Heard, key: str, value: Value) -> None:
        """Advertise until the gateway has read this."""
        async with asyncio.timeout(ENOUGH_S):
            while not self.read or self.read[-1].get(key) != value:
                self.bluetoothd.hear(heard)
                self._came.clear()
                try:
                    async with asyncio.timeout(ADVERT_S):  # until the next advertisement
                        await self._came.wait()
                except TimeoutError:
                    continue


@asynccontextmanager
async def a_gateway(
    bluetoothd: Bluetoothd, folder: Path, clock: Clock, *, is_passive: bool = False
) -> AsyncIterator[Sensors]:
    """Run all that the gateway has for BLE."""
    sensors = Sensors(bluetoothd)
    house = House(
        book=DeliveryBook(),
        clock=clock,
        run=1,
        session="s",
        status=sensors.status,
        accept=sensors.accept,
        forget_link=lambda _name: None,
        on_change=lambda: None,
        has_mail=lambda device: device in sensors.mail,
    )
    ble = Ble(BleOptions(folder / "joined.json", is_passive=is_passive), house)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(ble.run())
        try:
            yield sensors
        finally:
            running.cancel()


def inkbird(temperature_c: float) -> Heard:
    """Return the advertisement of an IBS-TH: its temperature is where others have their company.

    Source: tests/vectors/adverts.json, family inkbird, with another temperature.
    """
    company = round(temperature_c * 100).to_bytes(2, "little")
    data = structure(FLAGS, b"\x06") + structure(NAME, b"sps")
    data += structure(MANUFACTURER, company + bytes.fromhex("c71200c83d5606"))
    return Heard("AA:BB:CC:DD:EE:FF", -60, data, "public")


@pytest.mark.alone
async def test_random_addresses_leave_nothing_behind(
    bluetoothd: Bluetoothd, tmp_path: Path, figures: Figures
) -> None:
    async with a_gateway(bluetoothd, tmp_path, Clock()) as sensors:
        await sensors.until_read(inkbird(20.44), "temperature", 20.44)
        await pass_by(bluetoothd, range(WARM_UP))
        before_mb = resident_mb()
        await pass_by(bluetoothd, range(WARM_UP, WARM_UP + STRANGERS))
        grown_mb = resident_mb() - before_mb
        await sensors.until_read(inkbird(20.47), "temperature", 20.47)

    radio = sensors.status.radio
    assert radio.adverts + radio.adverts_dropped > WARM_UP + STRANGERS
    figures(f"BlueZ: memory after {STRANGERS:,} random addresses", f"{grown_mb:+.1f} MB", "< 5 MB")
    assert grown_mb < 5


async def pass_by(bluetoothd: Bluetoothd, numbers: range) -> None:
    """Have strangers heard once each; BlueZ forgets them after a while."""
    assert bluetoothd.adapter is not None
    present: deque[str] = deque()
    for number in numbers:
        address = f"5A:00:{number.to_bytes(4, 'big').hex(':')}".upper()
        data = structure(FLAGS, b"\x1a") + structure(
            MANUFACTURER, b"\x4c\x00\x10\x05" + b"\x18" * 5
        )
        bluetoothd.hear(Heard(address, -80, data))
        present.append(address)
        if len(present) > PRESENT:
            await bluetoothd.adapter.forget(present.popleft())
        if number % 50 == 0:
            await bluetoothd.flush()
    while present:
        await bluetoothd.adapter.forget(present.popleft())
        await bluetoothd.flush()


def resident_mb() -> float:
    """Return the memory this process has, stand-in included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


@pytest.mark.parametrize("is_passive", [False, True], ids=["active", "passive"])
def test_a_value_that_comes_back_is_read_again(
    bus: PrivateBus, tmp_path: Path, *, is_passive: bool
) -> None:
    async def main(clock: Clock) -> list[Mapping[str, Value]]:
        bluetoothd = Bluetoothd(bus.address)
        async with bluetoothd.running():
            async with a_gateway(bluetoothd, tmp_path, clock, is_passive=is_passive) as sensors:
                for temperature_c in (20.44, 20.45, 20.44, 20.46):
                    await sensors.until_read(inkbird(temperature_c), "temperature", temperature_c)
                    await asyncio.sleep(REPEAT_S)
            await let_go_of_the_bus()
            return sensors.read

    read = run_at(100.0, main)

    assert [each["temperature"] for each in read] == [20.44, 20.45, 20.44, 20.46]


@pytest.mark.parametrize("what", ["Connected", "Paired"])
async def test_who_is_connected_or_paired_is_not_forgotten(
    what: str, bluetoothd: Bluetoothd, tmp_path: Path
) -> None:
    heard, adapter = inkbird(20.44), BluezAdapter("")
    assert bluetoothd.adapter is not None
    path = f"{bluetoothd.adapter.path}/dev_{heard.address.replace(':', '_')}"

    async with a_gateway(bluetoothd, tmp_path, Clock()) as sensors:
        await sensors.until_read(heard, "temperature", 20.44)
        bluetoothd.objects.change(path, DEVICE, {what: Variant("b", True)})
        await adapter.forget(heard.address)
        assert bluetoothd.calls["RemoveDevice"] == 0
        bluetoothd.objects.change(path, DEVICE, {what: Variant("b", False)})
        await adapter.forget(heard.address)

    assert bluetoothd.calls["RemoveDevice"] == 1


@pytest.mark.parametrize("is_passive", [False, True], ids=["active", "passive"])
async def test_a_board_that_says_the_same_whenever_it_wakes_gets_its_mail(
    bluetoothd: Bluetoothd, tmp_path: Path, *, is_passive: bool
) -> None:
    address = "AA:BB:CC:00:00:02"
    told = structure(FLAGS, b"\x06") + structure(MANUFACTURER, b"\xff\xff\0\3")
    awake = Heard(address, -60, told + structure(0x07, on_air(SERVICE)))
    (tmp_path / "joined.json").write_text(json.dumps({"joined": [], "boards": {address: "gate"}}))

    async with a_gateway(bluetoothd, tmp_path, Clock(), is_passive=is_passive) as sensors:
        async with asyncio.timeout(HANG_S):
            await bluetoothd.until(lambda: bluetoothd.listens)
            bluetoothd.hear(awake)
            if is_passive:
                await bluetoothd.until(lambda: bluetoothd.calls["RemoveDevice"] > 0)
            sensors.mail.add("gate")
            while not bluetoothd.calls["Connect"]:
                bluetoothd.hear(awake)
                await asyncio.sleep(0.02)

    assert bluetoothd.calls["RemoveDevice"] == is_passive

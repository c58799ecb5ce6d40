"""The scan: what it hears, how it fails and comes back, and that nothing it hears grows."""

import asyncio
import gc
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bleak.exc import BleakDBusError, BleakError
from bumble import hci

from gateway.ble.boards import MAX_STRANGERS
from gateway.ble.service import Ble, BleOptions, has_adapter
from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.health import memory_bytes
from gateway.house import House
from gateway.joining import JoinMode
from gateway.links.ble_backend import MAX_SEEN, RadioBackend
from gateway.links.ble_gatt import SERVICE
from gateway.links.ble_recovery import Remedy
from gateway.links.ble_scanner import (
    A_TURN,
    MAX_WAITING,
    TURN_S,
    Adapter,
    BleScanner,
    ScanOptions,
)
from gateway.model import Event, Readings
from gateway.protocol.delivery import DeliveryBook
from gateway.simulate.radio.air import Transmission
from gateway.simulate.radio.bleak_backend import virtual_backend
from gateway.simulate.radio.server import VirtualRadio
from gateway.status import RadioStatus, Status
from tests.support.ble_pump import Pump, advert

PATIENCE_S = 30.0
"""Only for what hangs."""

FAST = ScanOptions(look_s=0.02, first_wait_s=0.02, deaf_s=60.0)
SENSOR = "A4:C1:38:00:00:01"
BTHOME_0_DEGREES = b"\x40\x02\x00\x00"
BTHOME_25_DEGREES = bytes.fromhex("4002c409")
"""Source: https://bthome.io/format/, device information 0x40, temperature 0x02 of 25.00."""


class Heard:
    """A running scan, and what it heard."""

    def __init__(self) -> None:
        self.status = RadioStatus()
        self.adverts: list[Advert] = []
        self.states: list[str] = []
        self._has_changed = asyncio.Event()

    def take(self, heard: Advert, _device: object) -> None:
        self.adverts.append(heard)
        self._has_changed.set()

    def note(self) -> None:
        self.states.append(self.status.state)
        self._has_changed.set()

    async def until(self, claim: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not claim():
                self._has_changed.clear()
                try:
                    async with asyncio.timeout(0.02):
                        await self._has_changed.wait()
                except TimeoutError:
                    continue


@asynccontextmanager
async def scanning(
    backend: RadioBackend,
    options: ScanOptions = FAST,
    *,
    adapter: Adapter | None = None,
    is_in_use: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Heard]:
    heard = Heard()
    scanner = BleScanner(
        options,
        heard.take,
        heard.status,
        Clock(),
        backend=backend,
        adapter=adapter,
        is_in_use=is_in_use,
        on_change=heard.note,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scanner.run(), name="scan")
        try:
            yield heard
        finally:
            running.cancel()


class SickAdapter:
    """An adapter that is lost when told to be."""

    def __init__(self) -> None:
        self.remedies: list[Remedy] = []
        self._loss = asyncio.Event()

    def lose(self) -> None:
        self._loss.set()

    async def lost(self) -> str:
        await self._loss.wait()
        self._loss.clear()
        return "the adapter is gone"

    async def mend(self, remedy: Remedy) -> None:
        self.remedies.append(remedy)

    async def forget(self, address: str) -> None:
        raise AssertionError(address)


async def test_an_advert_is_heard_with_all_that_is_in_it() -> None:
    data = b"\x02\x01\x06" + b"\x07\x16\xd2\xfc" + BTHOME_25_DEGREES
    async with (
        VirtualRadio() as radio,
        scanning(virtual_backend(radio.hci_address)) as heard,
    ):
        await heard.until(lambda: heard.states == ["scanning"])
        radio.air.advertise(Transmission(hci.Address(SENSOR), data, rssi_dbm=-71))
        await heard.until(lambda: heard.adverts)

    (told,) = heard.adverts
    assert (told.address, told.rssi, told.raw) == (SENSOR, -71, data)
    assert told.service_data == {"0000fcd2-0000-1000-8000-00805f9b34fb": BTHOME_25_DEGREES}
    assert heard.status.mode == "passive"


async def test_a_radio_that_appears_later_is_used_and_its_absence_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]

    async with scanning(virtual_backend(f"127.0.0.1:{port}")) as heard:
        await heard.until(lambda: heard.status.state == "no_adapter")
        await asyncio.sleep(0.1)  # some looks more
        async with VirtualRadio(hci_port=port):
            await heard.until(lambda: heard.status.state == "scanning")

    assert heard.states == ["no_adapter", "scanning"]
    assert sum("no adapter" in record.message for record in caplog.records) == 1


async def test_a_deaf_scan_is_started_anew_and_believed_when_it_hears_something(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    pump = Pump()
    async with scanning(pump, ScanOptions(mode="active", deaf_s=0.05, first_wait_s=0.02)) as heard:
        await heard.until(lambda: len(pump.modes) >= 3)
        assert heard.status.state == "recovering"
        await heard.until(lambda: pump.running is not None)
        pump.hear([(SENSOR, advert(service_data=BTHOME_25_DEGREES))])
        await heard.until(lambda: "recovering" not in heard.states[-1:])

    assert heard.states[:3] == ["scanning", "recovering", "scanning"]
    assert heard.status.recoveries >= 1
    assert pump.stops >= len(pump.modes) - 1
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "no advert for 0.05 s" in warnings[0].message


async def test_a_scan_beside_connected_boards_may_hear_nothing() -> None:
    pump = Pump()
    options = ScanOptions(mode="active", deaf_s=0.05, first_wait_s=0.02)
    adapter = SickAdapter()

    async with scanning(pump, options, is_in_use=lambda: True, adapter=adapter) as heard:
        await heard.until(lambda: len(pump.modes) >= 6)

    assert heard.states == ["scanning"]
    assert adapter.remedies == []


async def test_an_adapter_that_cannot_be_passive_scans_actively_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    pump = Pump()
    pump.refuses = lambda mode: BleakError("experimental") if mode == "passive" else None
    adapter = SickAdapter()

    async with scanning(pump, adapter=adapter) as heard:
        await heard.until(lambda: heard.status.mode == "active")
        adapter.lose()
        await heard.until(lambda: heard.states == ["scanning", "recovering", "scanning"])

    assert pump.modes == ["passive", "active", "active"]
    said = [record for record in caplog.records if "no passive scan" in record.message]
    assert len(said) == 1


async def test_an_adapter_that_is_plugged_in_again_is_passive_again() -> None:
    pump = Pump()
    pump.refuses = lambda _mode: BleakError("adapter 'hci1' not found")  # as bleak says it

    async with scanning(pump) as heard:
        await heard.until(lambda: len(pump.modes) > 1)
        assert heard.states == ["no_adapter"]
        pump.refuses = lambda _mode: None
        await heard.until(lambda: heard.status.state == "scanning")

    assert set(pump.modes) == {"passive"}


async def test_the_loop_has_others_do_something_between_adverts_that_cost_much() -> None:
    pump = Pump()
    turns: list[int] = []
    turn, now_s = 0, 100.0

    def take(_advert: Advert, _device: object) -> None:
        nonlocal now_s
        now_s += 0.6 * TURN_S
        turns.append(turn)

    scanner = BleScanner(FAST, take, RadioStatus(), Clock(monotonic_s=lambda: now_s), backend=pump)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scanner.run(), name="scan")
        await pump.has_started.wait()
        pump.hear((SENSOR, advert()) for _ in range(20))
        while len(turns) < 20:
            await asyncio.sleep(0)
            turn += 1
        running.cancel()

    assert max(turns.count(each) for each in turns) == 2  # of 0.6 TURN_S each


async def test_a_scan_that_does_not_start_climbs_the_ladder() -> None:
    pump = Pump()
    pump.refuses = lambda _mode: BleakDBusError("org.bluez.Error.InProgress", [])
    adapter = SickAdapter()

    async with scanning(
        pump, ScanOptions(mode="active", first_wait_s=0.01), adapter=adapter
    ) as heard:
        await heard.until(lambda: len(pump.modes) >= 4)
        assert heard.status.state == "recovering"
        assert "InProgress" in heard.status.reason
        pump.refuses = lambda _mode: None
        await heard.until(lambda: heard.status.state == "scanning")

    assert pump.modes[:4] == ["active", "active", "active", "active"]
    assert pump.modes[4] == "passive"
    assert adapter.remedies[:2] == [Remedy.POWER_CYCLE, Remedy.RESET]


async def test_bluetoothd_that_is_not_there_is_looked_for() -> None:
    pump = Pump()
    pump.refuses = lambda _mode: BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", [])

    async with scanning(pump) as heard:
        await heard.until(lambda: len(pump.modes) >= 3)
        assert (heard.status.state, heard.states) == ("no_adapter", ["no_adapter"])
        assert "bluez" in heard.status.reason
        pump.refuses = lambda _mode: None
        await heard.until(lambda: heard.status.state == "scanning")


async def test_of_a_flood_the_newest_are_read_and_the_others_counted() -> None:
    pump = Pump()
    count = MAX_WAITING + 500

    async with scanning(pump) as heard:
        await heard.until(lambda: pump.running)
        pump.hear((f"{number:012X}", advert(manufacturer_data=b"x")) for number in range(count))
        await heard.until(lambda: len(heard.adverts) == MAX_WAITING)

    assert [told.address for told in heard.adverts] == [f"{n:012X}" for n in range(500, count)]
    assert (heard.status.adverts, heard.status.adverts_dropped) == (MAX_WAITING, 500)


async def test_bleak_remembers_only_those_heard_last() -> None:
    pump = Pump()

    async with scanning(pump) as heard:
        await heard.until(lambda: pump.running)
        for number in range(3 * MAX_SEEN):
            pump.hear([(f"{number:012X}", advert(rssi=-60)), (SENSOR, advert(rssi=-50))])
        assert pump.running is not None
        seen = pump.running.seen_devices

    assert MAX_SEEN // 2 < len(seen) <= MAX_SEEN
    assert SENSOR in seen


async def test_what_is_no_advert_is_no_sign_of_life() -> None:
    """BlueZ tells bleak of each change of a device's properties; those have no signal strength."""
    pump = Pump()

    async with scanning(pump) as heard:
        await heard.until(lambda: pump.running)
        pump.hear([(SENSOR, advert(rssi=-127)), (SENSOR, advert(rssi=-60))])
        await heard.until(lambda: heard.adverts)

    assert [told.rssi for told in heard.adverts] == [-60]


def test_an_adapter_is_there_if_the_kernel_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
    assert not has_adapter("", tmp_path / "none")
    (tmp_path / "hci0:11").mkdir()
    (tmp_path / "hci0").mkdir()

    assert has_adapter("", tmp_path)
    assert has_adapter("hci0", tmp_path)
    assert not has_adapter("hci1", tmp_path)
    assert has_adapter("virtual:127.0.0.1:1", tmp_path / "none")


class Home:
    """The radio as the gateway runs it, with what it would publish."""

    def __init__(self, folder: Path, pump: Pump, join: JoinMode, clock: Clock) -> None:
        self.pump = pump
        self.status = Status()
        self.temperatures: list[object] = []
        self.boots: list[int] = []
        self.told: Callable[[], None] = lambda: None
        """Called with each reading."""
        self.breaks = False
        """Whether taking a reading fails, as nobody foresaw."""
        self.file = folder / "joined"
        self.mail: set[str] = set()
        house = House(
            DeliveryBook(),
            clock,
            1,
            "cafe",
            self.status,
            self._accept,
            lambda _link: None,
            lambda: None,
            lambda device: device in self.mail,
        )
        self.ble = Ble(BleOptions(self.file, join=join), house, pump)

    def _accept(self, _link: str, events: list[Event]) -> None:
        if self.breaks:
            self.breaks = False
            raise RuntimeError("nobody foresaw it")
        self.told()
        for event in events:
            if isinstance(event, Readings):
                self.boots += [record.boot for record in event.records]
                self.temperatures += [
                    record.values.get("temperature")
                    for record in event.records
                    if hasattr(record, "values")
                ]

    async def hear(self, service_data: bytes = BTHOME_25_DEGREES, address: str = SENSOR) -> None:
        """Hear one advert, and wait until it was read."""
        before = self.status.radio.adverts
        self.pump.hear([(address, advert(service_data=service_data))])
        await self.until(lambda: self.status.radio.adverts > before)

    async def until_read(self, count: int) -> None:
        await self.until(lambda: self.status.radio.adverts >= count)

    async def until(self, claim: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not claim():  # noqa: ASYNC110  # counters tell nobody when they change
                await asyncio.sleep(0.001)


@asynccontextmanager
async def at_home(folder: Path, join: JoinMode, clock: Clock | None = None) -> AsyncIterator[Home]:
    pump = Pump()
    home = Home(folder, pump, join, clock or Clock())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(home.ble.run(), name="ble")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await pump.has_started.wait()
            yield home
        finally:
            running.cancel()


async def test_a_stranger_joins_while_a_window_is_open_and_is_remembered(tmp_path: Path) -> None:
    async with at_home(tmp_path, "window") as home:
        await home.hear()
        assert (home.temperatures, home.status.radio.adverts_unknown) == ([], 1)

        assert home.ble.open_window(60.0)
        async with asyncio.timeout(PATIENCE_S):
            while not home.temperatures or not home.file.exists():  # its parser is imported first
                await home.hear()
                await asyncio.sleep(0.01)

    assert json.loads(home.file.read_text())["joined"] == [SENSOR]
    async with at_home(tmp_path, "window") as later, asyncio.timeout(PATIENCE_S):
        while not later.temperatures:
            await later.hear()
    assert later.temperatures == [25.0]


async def test_who_joined_is_not_forgotten_when_the_list_could_not_be_read_at_first(
    tmp_path: Path,
) -> None:
    earlier = "A4:C1:38:00:00:77"
    path = tmp_path / "joined"
    path.symlink_to(path)  # what cannot be read

    async with at_home(tmp_path, "window") as home, asyncio.timeout(PATIENCE_S):
        (tmp_path / "list").write_text(json.dumps({"joined": [earlier]}))
        (tmp_path / "list").replace(path)
        assert home.ble.open_window(60.0)
        await home.hear()
        await home.until(lambda: SENSOR in path.read_text())

    assert json.loads(path.read_text())["joined"] == [earlier, SENSOR]


async def test_a_board_that_joined_in_an_earlier_run_is_known_and_gets_its_mail(
    tmp_path: Path,
) -> None:
    (tmp_path / "joined").write_text(json.dumps({"joined": [], "boards": {SENSOR: "attic"}}))
    asleep = advert(service_uuids=(SERVICE,), company=0xFFFF, manufacturer_data=b"\0\3")

    async with at_home(tmp_path, "open") as home:
        home.pump.hear([(SENSOR, asleep)])
        await home.until_read(1)
        assert not home.status.links.get(SENSOR)
        home.mail.add("attic")
        home.pump.hear([(SENSOR, asleep)])
        await home.until(lambda: home.pump.tried[SENSOR])


async def test_an_error_that_nobody_foresaw_costs_the_radio_a_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_home(tmp_path, "open") as home, asyncio.timeout(PATIENCE_S):
        while not home.temperatures:  # its parser is imported first
            await home.hear(BTHOME_0_DEGREES)
        home.breaks = True
        home.pump.hear([(SENSOR, advert(service_data=BTHOME_25_DEGREES))])
        await home.until(lambda: home.status.radio.state == "recovering")
        assert home.status.radio.reason
        await home.until(lambda: home.status.radio.state == "scanning")
        while len(home.temperatures) < 2:
            await home.hear()

    assert home.temperatures == [0.0, 25.0]
    assert len(set(home.boots)) == 2, "samples are numbered from 0 again"
    assert "nobody foresaw it" in caplog.text


async def test_a_radio_that_is_to_end_ends_whatever_goes_wrong_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with at_home(tmp_path, "open") as home:
            while not home.temperatures:
                await home.hear()
            home.breaks = True  # when it says that the sensor is gone

    assert not home.breaks
    assert "nobody foresaw it" in caplog.text


async def test_sensors_that_waited_for_their_parser_are_read_one_in_a_turn(tmp_path: Path) -> None:
    turns: list[int] = []
    turn = 0
    heard = advert(service_data=BTHOME_25_DEGREES)
    adverts = [(f"A4:C1:38:00:00:{number:02X}", heard) for number in range(A_TURN)]
    clock = Clock(monotonic_s=lambda: 100.0)  # all of them are heard in one turn

    async with at_home(tmp_path, "open", clock) as home, asyncio.timeout(PATIENCE_S):
        home.told = lambda: turns.append(turn)
        home.pump.hear(adverts)
        while len(turns) < len(adverts):
            await asyncio.sleep(0)
            turn += 1
        assert len(set(turns)) == len(adverts)


async def test_whoever_claims_to_be_a_board_takes_bounded_room(tmp_path: Path) -> None:
    boards = [f"{number * 2654435761 % (1 << 48):012X}" for number in range(5000)]
    claim = advert(service_uuids=(SERVICE,))

    async with at_home(tmp_path, "open") as home:
        for at in range(0, len(boards), 500):
            home.pump.hear((address, claim) for address in boards[at : at + 500])
            await home.until_read(at + 500)
        await home.until(lambda: home.pump.connects >= 10)

        assert len(home.status.links) <= MAX_STRANGERS + 1
        assert home.status.counts["boards_refused"] == len(boards) - MAX_STRANGERS
        assert len(asyncio.all_tasks()) <= MAX_STRANGERS + 20


@pytest.mark.alone
async def test_a_million_adverts_of_100000_addresses_take_less_than_5_mb(
    tmp_path: Path, soak: bool
) -> None:
    """One in ten is of a sensor that the gateway can read; the rest are strangers.

    It is a million with SOAK; otherwise each address comes three times.
    """
    adverts = 1_000_000 if soak else 300_000
    strangers = [advert(manufacturer_data=bytes((n, n))) for n in range(16)]
    sensors = [advert(service_data=b"\x40\x02" + bytes((n, 9))) for n in range(16)]

    addresses = [f"{number * 2654435761 % (1 << 48):012X}" for number in range(100_000)]
    heard = [
        (address, (strangers if number % 10 else sensors)[number % 16])
        for number, address in enumerate(addresses)
    ]

    async with at_home(tmp_path, "open") as home:
        status = home.status.radio

        async def pump(first: int, end: int) -> None:
            for number in range(first, end, 500):
                at = number % len(heard)
                home.pump.hear(heard[at : at + 500])
                while status.adverts < number + 500:  # noqa: ASYNC110  # turns of the loop
                    await asyncio.sleep(0)

        await pump(0, 20_000)  # what is allocated once
        gc.collect()
        before_bytes = memory_bytes()
        await pump(20_000, adverts)
        gc.collect()
        grown_bytes = memory_bytes() - before_bytes

    print(f"grown by {grown_bytes / 1e6:.2f} MB")  # noqa: T201  # the figure, with a failure
    assert status.adverts_dropped == 0
    assert status.adverts == adverts
    assert grown_bytes < 5_000_000

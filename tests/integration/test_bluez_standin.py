"""bleak's own BlueZ backend against the stand-in for bluetoothd, over a real message bus."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from bleak import BleakClient, BleakScanner
from bleak.args.bluez import OrPattern
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakBluetoothNotAvailableError, BleakDBusError, BleakError

from tests.support.bluez.adverts import (
    FLAGS,
    MANUFACTURER,
    NAME,
    SERVICE_16,
    Heard,
    on_air,
    structure,
)
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.bus import PrivateBus
from tests.support.bluez.faults import Cure
from tests.support.bluez.peripheral import Characteristic, HandFed, Service

SERVICE_UUID, NOTIFY_UUID, WRITE_UUID = (
    f"0e9a000{number}-5c1d-4c0e-9c6b-2f6a7b1d0e01" for number in (1, 2, 3)
)
NOTIFY, WRITE = 3, 6
SERVICE = Service(
    1,
    SERVICE_UUID,
    (
        Characteristic(NOTIFY, NOTIFY_UUID, ("notify",)),
        Characteristic(WRITE, WRITE_UUID, ("write", "write-without-response")),
    ),
)

ADDRESS = "C4:7C:8D:6A:12:34"
GENERAL_DISCOVERABLE = structure(FLAGS, b"\x06")
BOARD = Heard(ADDRESS, -60, GENERAL_DISCOVERABLE + structure(0x07, on_air(SERVICE_UUID)))
ENOUGH_S = 10.0
"""For what takes milliseconds: only a test that hangs needs it."""


class Ear:
    """Hears what a scanner reports."""

    def __init__(self) -> None:
        self.heard: list[tuple[BLEDevice, AdvertisementData]] = []
        self._came = asyncio.Event()

    def __call__(self, device: BLEDevice, advert: AdvertisementData) -> None:
        self.heard.append((device, advert))
        self._came.set()

    async def next(self) -> tuple[BLEDevice, AdvertisementData]:
        """Return the next report that was not returned yet."""
        async with asyncio.timeout(ENOUGH_S):
            while not self.heard:
                self._came.clear()
                await self._came.wait()
        return self.heard.pop(0)


async def started(scanner: BleakScanner) -> None:
    """Start a scan as soon as the signal of the adapter has come."""
    async with asyncio.timeout(ENOUGH_S):
        while True:
            with contextlib.suppress(BleakBluetoothNotAvailableError):
                return await scanner.start()
            await asyncio.sleep(0.001)  # between two attempts


@asynccontextmanager
async def connected(bluetoothd: Bluetoothd, board: HandFed) -> AsyncIterator[BleakClient]:
    """Hear a board while scanning, and connect to it."""
    bluetoothd.place(ADDRESS, board)
    ear = Ear()
    async with BleakScanner(ear):
        bluetoothd.hear(BOARD)
        device, _ = await ear.next()
        async with BleakClient(device, timeout=ENOUGH_S) as client:
            yield client


async def test_a_scan_reports_what_an_advertisement_says(bluetoothd: Bluetoothd) -> None:
    # A BTHome v2 advertisement: 25.00 °C, 50.55 % (https://bthome.io/format, "Example").
    bthome = bytes.fromhex("40 02 C4 09 03 BF 13")
    data = (
        GENERAL_DISCOVERABLE
        + structure(NAME, "Küche".encode())
        + structure(SERVICE_16, b"\xd2\xfc" + bthome)
        + structure(MANUFACTURER, b"\xff\xff\x05\x00")
    )
    ear = Ear()

    async with BleakScanner(ear):
        bluetoothd.hear(Heard(ADDRESS, -71, data))
        device, advert = await ear.next()

    assert (device.address, device.name) == (ADDRESS, "Küche")
    assert (advert.local_name, advert.rssi) == ("Küche", -71)
    assert advert.service_data == {"0000fcd2-0000-1000-8000-00805f9b34fb": bthome}
    assert advert.manufacturer_data == {0xFFFF: b"\x05\x00"}


async def test_a_repetition_is_reported_if_its_strength_is_quite_another(
    bluetoothd: Bluetoothd,
) -> None:
    ear = Ear()

    async with BleakScanner(ear):
        for rssi in (-60, -60, -67, -68):
            bluetoothd.hear(replace(BOARD, rssi=rssi))
        reports = [await ear.next(), await ear.next()]

    assert [advert.rssi for _, advert in reports] == [-60, -68]
    assert [advert.service_uuids for _, advert in reports] == [[SERVICE_UUID]] * 2
    assert bluetoothd.adapter is not None
    assert not bluetoothd.adapter.sessions


async def test_a_passive_scan_hears_what_fits_its_patterns(bluetoothd: Bluetoothd) -> None:
    ear = Ear()
    patterns = [OrPattern(0, AdvertisementDataType.FLAGS, b"\x06")]

    async with BleakScanner(ear, scanning_mode="passive", bluez={"or_patterns": [*patterns]}):
        async with asyncio.timeout(ENOUGH_S):
            await bluetoothd.until(lambda: bluetoothd.listens)
        bluetoothd.hear(Heard("C4:7C:8D:6A:00:00", -50, structure(FLAGS, b"\x1a")))
        bluetoothd.hear(BOARD)
        device, _ = await ear.next()

    assert device.address == ADDRESS
    assert bluetoothd.calls["StartDiscovery"] == 0
    assert not bluetoothd.listens


@pytest.mark.parametrize("start_notify", [True, False], ids=["signals", "descriptor"])
async def test_a_client_is_notified_and_writes(
    bluetoothd: Bluetoothd, *, start_notify: bool
) -> None:
    written: list[bytes] = []
    board = HandFed((SERVICE,), on_write=lambda _handle, value: written.append(value))
    came: asyncio.Queue[bytes] = asyncio.Queue()

    async with asyncio.timeout(ENOUGH_S), connected(bluetoothd, board) as client:
        await client.start_notify(
            NOTIFY_UUID,
            lambda _, value: came.put_nowait(bytes(value)),
            bluez={"use_start_notify": start_notify},
        )
        board.notify(NOTIFY, b"up")
        notified = await came.get()
        await client.write_gatt_char(WRITE_UUID, b"down", response=True)
        await client.write_gatt_char(WRITE_UUID, b"quick", response=False)
        writer = client.services.get_characteristic(WRITE_UUID)

    assert notified == b"up"
    assert written == [b"down", b"quick"]
    assert writer is not None
    assert writer.max_write_without_response_size == 244
    assert not board.is_connected


async def test_a_lost_connection_is_told(bluetoothd: Bluetoothd) -> None:
    board = HandFed((SERVICE,))
    lost = asyncio.Event()
    bluetoothd.place(ADDRESS, board)
    ear = Ear()

    async with asyncio.timeout(ENOUGH_S), BleakScanner(ear):
        bluetoothd.hear(BOARD)
        device, _ = await ear.next()
        client = BleakClient(device, lambda _: lost.set())
        await client.connect()
        board.drop()
        await lost.wait()
        is_connected = client.is_connected
        await client.disconnect()

    assert not is_connected


async def test_a_write_that_is_under_way_when_the_link_goes_fails(bluetoothd: Bluetoothd) -> None:
    board = HandFed((SERVICE,), drops_next_write=True)

    async with asyncio.timeout(ENOUGH_S), connected(bluetoothd, board) as client:
        with pytest.raises(BleakError, match="Unlikely"):
            await client.write_gatt_char(WRITE_UUID, b"lost", response=True)


async def test_a_device_that_nobody_answers_for_is_tried_until_the_client_gives_up(
    bluetoothd: Bluetoothd,
) -> None:
    ear = Ear()

    async with asyncio.timeout(ENOUGH_S), BleakScanner(ear), asyncio.TaskGroup() as tasks:
        bluetoothd.hear(BOARD)
        device, _ = await ear.next()
        connecting = tasks.create_task(BleakClient(device, timeout=ENOUGH_S).connect())
        await bluetoothd.until(lambda: bluetoothd.calls["Connect"] == 1)
        connecting.cancel()
        await bluetoothd.until(lambda: bluetoothd.calls["Disconnect"] == 1)
        await asyncio.wait([connecting])

    assert connecting.cancelled()


async def test_an_adapter_that_is_busy_or_off_refuses_to_scan(bluetoothd: Bluetoothd) -> None:
    bluetoothd.faults.refuse("StartDiscovery", "InProgress")
    scanner = BleakScanner(bluez={"adapter": "hci77"})

    with pytest.raises(BleakDBusError, match="InProgress"):
        await scanner.start()
    assert bluetoothd.adapter is not None
    await bluetoothd.adapter.power(on=False)
    with pytest.raises(BleakDBusError, match="NotReady"):
        await scanner.start()
    await bluetoothd.adapter.power(on=True)
    await scanner.start()
    await scanner.stop()


async def test_an_adapter_that_is_pulled_out_is_missed_and_found_again(
    bluetoothd: Bluetoothd,
) -> None:
    ear = Ear()
    scanner = BleakScanner(ear)

    await scanner.start()
    await bluetoothd.pull_out()
    with pytest.raises(BleakDBusError, match="UnknownObject"):
        await scanner.stop()
    with pytest.raises(BleakBluetoothNotAvailableError):
        await scanner.start()
    bluetoothd.plug_in()
    await started(scanner)
    bluetoothd.hear(BOARD)
    device, _ = await ear.next()
    await scanner.stop()

    assert device.address == ADDRESS


async def test_a_session_whose_start_was_never_answered_stays_in_the_way(
    bluetoothd: Bluetoothd,
) -> None:
    bluetoothd.faults.swallow("StartDiscovery")
    scanner = BleakScanner()

    async with asyncio.timeout(ENOUGH_S), asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(scanner.start())
        await bluetoothd.until(lambda: bluetoothd.listens)
        starting.cancel()

    with pytest.raises(BleakDBusError, match="InProgress"):
        await scanner.start()


async def test_a_deaf_adapter_says_that_it_discovers_until_it_is_cured(
    bluetoothd: Bluetoothd,
) -> None:
    ear = Ear()
    scanner = BleakScanner(ear)
    bluetoothd.faults.deaf_until = Cure.POWER_CYCLE
    assert bluetoothd.adapter is not None

    async with scanner:
        bluetoothd.hear(BOARD)
        discovers = bluetoothd.listens
    await bluetoothd.adapter.power(on=False)
    await bluetoothd.adapter.power(on=True)
    async with scanner:
        bluetoothd.hear(Heard("C4:7C:8D:6A:00:00", -50, GENERAL_DISCOVERABLE))
        device, _ = await ear.next()

    assert discovers
    assert device.address == "C4:7C:8D:6A:00:00"


async def test_a_bluetoothd_that_was_killed_is_found_when_it_is_there_again(
    bluetoothd: Bluetoothd,
) -> None:
    ear = Ear()
    scanner = BleakScanner(ear)

    await scanner.start()
    await bluetoothd.kill()
    with pytest.raises(BleakDBusError, match="ServiceUnknown"):
        await scanner.stop()
    await bluetoothd.start()
    async with scanner:
        bluetoothd.hear(BOARD)
        device, _ = await ear.next()

    assert device.address == ADDRESS


async def test_a_bus_that_was_ended_ends_the_scan_and_a_new_one_serves(
    bluetoothd: Bluetoothd, bus: PrivateBus
) -> None:
    ear = Ear()
    scanner = BleakScanner(ear)

    await scanner.start()
    await asyncio.to_thread(bus.stop)
    with pytest.raises((OSError, BleakError)):
        await scanner.stop()
    with pytest.raises(FileNotFoundError):
        await scanner.start()
    await asyncio.to_thread(bus.start)
    await bluetoothd.kill()
    await bluetoothd.start()
    async with scanner:
        bluetoothd.hear(BOARD)
        device, _ = await ear.next()

    assert device.address == ADDRESS

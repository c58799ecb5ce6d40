"""What boards with our firmware say to all who listen: real MicroPython, the virtual radio."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bthome_ble import BTHomeBluetoothDeviceData
from habluetooth import BluetoothServiceInfoBleak

from gateway.links.ble_gatt import SERVICE
from gateway.simulate.boards import Ending
from gateway.simulate.firmware import Interpreter
from gateway.simulate.radio.bleak_backend import VirtualBackend, virtual_backend
from gateway.simulate.radio.server import VirtualRadio
from tests.integration.test_firmware_ble import (
    ADDRESS,
    DEVICE,
    assert_each_once_and_in_order,
    make_board,
    switched_on,
)
from tests.support.ble_central import central_on
from tests.support.echo_central import Ear, scanning

BTHOME = "0000fcd2-0000-1000-8000-00805f9b34fb"
COMPANY = 0xFFFF
KEY = "231d39c1d7cc1ab1aee224cd096db932"

TEMPERATURE = {
    "kind": "simulated",
    "name": "air",
    "key": "number",
    "unit": "°C",
    "device_class": "temperature",
    "low": 18,
    "high": 26,
    "interval_ms": 50,
}


@pytest.fixture
async def radio() -> AsyncIterator[VirtualRadio]:
    async with VirtualRadio() as virtual:
        yield virtual


@pytest.fixture
def backend(radio: VirtualRadio) -> VirtualBackend:
    return virtual_backend(radio.hci_address)


@pytest.fixture
def interpreter(micropython_bin: Path) -> Interpreter:
    return Interpreter(str(micropython_bin), "MicroPython", is_micropython=True)


def decode(
    parser: BTHomeBluetoothDeviceData, service_data: bytes, now_s: float
) -> dict[str, float]:
    heard = BluetoothServiceInfoBleak(
        name="shed",
        address=ADDRESS,
        rssi=-60,
        manufacturer_data={},
        service_data={BTHOME: service_data},
        service_uuids=[],
        source="",
        device=None,  # type: ignore[arg-type]  # the parser does not look at it
        advertisement=None,
        connectable=False,
        time=now_s,
        tx_power=None,
    )
    values = parser.update(heard).entity_values.items()
    return {each.key: float(value.native_value) for each, value in values}  # type: ignore[arg-type]


async def readings(ear: Ear) -> tuple[bytes, dict[int, bytes], list[str]]:
    """Return the next advert with readings: them, and what else it says."""
    while True:
        _, told = await ear.next(ADDRESS)
        if BTHOME in told.service_data:
            return told.service_data[BTHOME], told.manufacturer_data, told.service_uuids


async def test_readings_are_told_to_all_while_a_gateway_is_connected(
    radio: VirtualRadio, backend: VirtualBackend, interpreter: Interpreter, tmp_path: Path
) -> None:
    board = make_board(
        tmp_path,
        interpreter,
        radio,
        bthome=True,
        sensors=[TEMPERATURE],
        name="a long name",
    )
    parser = BTHomeBluetoothDeviceData()

    async with switched_on(board):
        async with scanning(backend) as ear:
            services: list[str] = []
            while SERVICE not in services:  # it stands in the scan response
                _, waiting, services = await readings(ear)
                assert waiting[COMPANY][1] == 1, "it can be connected to"
        async with central_on(radio.hci_address) as central, scanning(backend) as ear:
            await central.until_delivered(DEVICE, 20)
            ear.empty()
            while True:
                told, waiting, _ = await readings(ear)
                if waiting[COMPANY][1] == 0:
                    break
            values = decode(parser, told, 0)

    assert 18 <= values["temperature"] <= 26
    assert "packet_id" in values
    assert not parser.sleepy_device


async def test_no_counter_is_used_twice_though_a_board_is_killed_and_loses_its_power(
    radio: VirtualRadio, backend: VirtualBackend, micropython_i386_bin: Path, tmp_path: Path
) -> None:
    interpreter = Interpreter(str(micropython_i386_bin), "MicroPython", is_micropython=True)
    board = make_board(
        tmp_path, interpreter, radio, bthome=True, ble_key=KEY, sensors=[TEMPERATURE]
    )
    parser = BTHomeBluetoothDeviceData(bytes.fromhex(KEY))
    heard: dict[int, bytes] = {}
    order: list[int] = []

    async with switched_on(board), scanning(backend) as ear:
        for end in (board.reset, board.cut_power, board.reset, board.cut_power, board.reset):
            for _ in range(3):
                told, _, _ = await readings(ear)
                counter = int.from_bytes(told[-8:-4], "little")
                assert heard.setdefault(counter, told) == told, "a counter was used twice"
                order.append(counter)
                values = decode(parser, told, len(order) * 10.0)
                assert 18 <= values["temperature"] <= 26
            end()

    assert order == sorted(order)
    assert len(heard) >= 6
    assert board.endings[Ending.KILLED] >= 2
    assert board.endings[Ending.POWER_CUT] >= 1


async def test_a_board_that_sleeps_tells_how_much_waits_and_keeps_it(
    radio: VirtualRadio, backend: VirtualBackend, interpreter: Interpreter, tmp_path: Path
) -> None:
    sleep = {"interval_s": 1, "awake_s": 2}
    board = make_board(tmp_path, interpreter, radio, sleep=sleep, sensors=[TEMPERATURE])
    parser = BTHomeBluetoothDeviceData()
    waiting: list[int] = []

    async with switched_on(board):
        async with scanning(backend) as ear:
            while not waiting or waiting[-1] < 2:
                told, beside, _ = await readings(ear)
                assert beside[COMPANY][1] == 3, "it can be connected to, and sleeps"
                waiting.append(beside[COMPANY][0])
                assert 18 <= decode(parser, told, 0)["temperature"] <= 26
        async with central_on(radio.hci_address) as central:
            await central.until_delivered(DEVICE, 2)

    assert sorted(set(waiting)) == [1, 2]
    assert waiting == sorted(waiting)
    assert parser.sleepy_device
    assert_each_once_and_in_order(central, DEVICE)
    assert board.endings[Ending.DEEP_SLEEP] >= 1

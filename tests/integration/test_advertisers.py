"""Simulated sensors on the virtual radio, as bleak and the library for BTHome hear them."""

import asyncio
import time
from itertools import chain, repeat

import pytest
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bthome_ble.parser import BTHomeBluetoothDeviceData
from habluetooth import BluetoothServiceInfoBleak

from gateway.simulate.radio.advertisers import Advertiser, Bthome, Captured, Quantity, weather
from gateway.simulate.radio.bleak_backend import virtual_backend
from gateway.simulate.radio.server import VirtualRadio
from tests.support.echo_central import scanning
from tests.support.figures import Figures

KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
ADDRESS = "54:48:E6:8F:80:A5"
MANY = 50
SECONDS = 4.0
WANTED_CPU = 0.15
"""Of one core, for 50 sensors each second and for who hears them."""


@pytest.mark.parametrize("key", [b"", KEY], ids=["plain", "encrypted"])
async def test_what_a_bthome_sensor_advertises_is_decoded_packet_by_packet(key: bytes) -> None:
    values = chain([21.5, 21.75, -3.25, 4.0], repeat(99.0))
    sensor = Bthome(ADDRESS, lambda _: {Quantity.TEMPERATURE: next(values)}, key=key, period_s=0.0)
    parser = BTHomeBluetoothDeviceData(bindkey=key or None)
    decoded = []
    async with VirtualRadio() as radio:
        async with scanning(virtual_backend(radio.hci_address), is_active=False) as ear:
            advertiser = radio.advertise(
                Advertiser(ADDRESS, sensor, interval_s=0.05, rssi_dbm=-77, name="attic")
            )
            for _ in range(4):
                device, told = await ear.next()
                assert told.rssi == -77
                update = parser.update(service_info(device, told))
                decoded += [
                    value.native_value
                    for key_, value in update.entity_values.items()
                    if key_.key == "temperature"
                ]
            advertiser.stop()
        assert advertiser.packets_heard == advertiser.heard == advertiser.sent >= 4

    assert decoded == [21.5, 21.75, -3.25, 4.0]


def service_info(device: BLEDevice, told: AdvertisementData) -> BluetoothServiceInfoBleak:
    return BluetoothServiceInfoBleak(
        name=told.local_name or device.address,
        address=device.address,
        rssi=told.rssi,
        manufacturer_data=told.manufacturer_data,
        service_data=told.service_data,
        service_uuids=told.service_uuids,
        source="virtual",
        device=device,
        advertisement=told,
        connectable=False,
        time=0.0,
        tx_power=told.tx_power,
        raw=None,
    )


async def test_nobody_hears_what_nobody_listens_to() -> None:
    async with VirtualRadio() as radio:
        sensor = radio.advertise(Advertiser(ADDRESS, Captured(b"\x02\x01\x06"), interval_s=0.02))
        async with asyncio.timeout(30):
            while sensor.sent < 5:  # noqa: ASYNC110 a counter has no event
                await asyncio.sleep(0.01)

        assert (sensor.heard, sensor.packets_heard) == (0, 0)


async def test_fifty_sensors_cost_little(figures: Figures) -> None:
    async with VirtualRadio() as radio:
        addresses = [f"A4:C1:38:00:00:{number:02X}" for number in range(MANY)]
        sensors = [
            radio.advertise(
                Advertiser(
                    address, Bthome(address, weather(number), key=KEY if number % 2 else b"")
                )
            )
            for number, address in enumerate(addresses)
        ]
        async with scanning(virtual_backend(radio.hci_address)) as ear:
            await ear.next(addresses[-1])
            start_s, start_cpu_s = time.monotonic(), time.process_time()
            await asyncio.sleep(SECONDS)  # the load is the time
            cpu = (time.process_time() - start_cpu_s) / (time.monotonic() - start_s)
        heard = [sensor.heard for sensor in sensors]

    figures(
        "CPU for 50 sensors on the virtual radio, and a scan", f"{cpu:.1%}", f"{WANTED_CPU:.0%}"
    )
    assert min(heard) >= SECONDS / 2
    assert cpu <= WANTED_CPU

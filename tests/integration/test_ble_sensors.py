"""Commercial sensors on the virtual radio, through the daemon, to a subscriber."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from gateway.drivers.advert import Advert
from gateway.simulate.radio.advertisers import (
    FLAGS,
    Advertiser,
    Bthome,
    Captured,
    Packet,
    Quantity,
    manufacturer_data,
    service_data,
    structure,
)
from gateway.simulate.radio.server import VirtualRadio
from tests.support.adverts import AdvertVector, vectors
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.exactly_once import ExactlyOnce
from tests.support.subscriber import Received, Subscriber

NOWHERE = "/nowhere/*"
"""No serial port."""
TIMEOUT_S = 60.0
"""Only for what hangs."""
SENSORS = 50
ROUNDS = 6
INTERVAL_S = 0.1
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")


class Steps:
    """A BTHome sensor that measures when it is told to, and repeats its packet until then."""

    def __init__(self, address: str, key: bytes) -> None:
        self.step = 0
        self._made = -1
        self._packet = Packet(0, b"")
        self._sensor = Bthome(
            address, lambda _: {Quantity.TEMPERATURE: 20.0 + self.step}, key=key, period_s=0.0
        )

    def at(self, now_s: float) -> Packet:
        if self._made != self.step:
            self._made = self.step
            self._packet = self._sensor.at(now_s)
        return self._packet


def without_debug_mode() -> dict[str, str]:
    """The environment of a daemon that shares two cores with radio, broker and other tests.

    asyncio measures its callbacks on the wall; fifty new sensors in one turn need a core.
    """
    return {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}


def radio_section(radio: VirtualRadio, *devices: str) -> str:
    section = f'[ble]\nadapter = "virtual:{radio.hci_address}"\nmode = "active"\n'
    return section + "".join(f"[[ble.device]]\n{device}\n" for device in devices)


class Arrivals:
    """What a subscriber has by now."""

    def __init__(self) -> None:
        self.once = ExactlyOnce()
        self._taken = 0

    def take(self, messages: Sequence[Received]) -> None:
        for message in messages[self._taken :]:
            if message.topic.endswith(("/state", "/history", "/gap")):
                self.once.feed(message.topic, message.payload)
        self._taken = len(messages)


async def test_each_packet_of_fifty_sensors_is_one_sample(broker: Broker, tmp_path: Path) -> None:
    addresses = [f"A4:C1:38:00:{number:02X}:01" for number in range(SENSORS)]
    keys = dict.fromkeys(addresses[::2], KEY)
    known = [f'address = "{address}"\nbind_key = "{KEY.hex()}"' for address in keys]
    arrivals = Arrivals()
    sensors = [Steps(address, keys.get(address, b"")) for address in addresses]

    def arrived(messages: Sequence[Received]) -> bool:
        """Whether all sensors' newest temperature is there."""
        arrivals.take(messages)
        return len(arrivals.once.readings) >= SENSORS * (sensors[0].step + 1)

    async with (
        VirtualRadio() as radio,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        running_daemon(
            tmp_path / "gateway",
            broker.port,
            NOWHERE,
            more=radio_section(radio, *known),
            environment=without_debug_mode(),
        ),
    ):
        advertisers = [
            radio.advertise(Advertiser(address, sensor, interval_s=INTERVAL_S))
            for address, sensor in zip(addresses, sensors, strict=True)
        ]
        for step in range(ROUNDS):
            for sensor in sensors:
                sensor.step = step
            await subscriber.wait_for(arrived, TIMEOUT_S)
        for advertiser in advertisers:
            advertiser.stop()
        arrivals.take(subscriber.messages)

    by_device: dict[str, list[tuple[int, float]]] = {}
    for name, reading in arrivals.once.readings.items():
        device, _, number = name.split("/")
        by_device.setdefault(device, []).append((int(number), reading["temperature"]))
        assert reading["rssi"] == -70
    assert len(by_device) == SENSORS
    expected = [(step, 20.0 + step) for step in range(ROUNDS)]
    assert all(sorted(readings) == expected for readings in by_device.values())
    assert arrivals.once.gaps == {}


def on_the_air(advert: Advert, address: str) -> Advertiser:
    """Return a sensor that advertises what was captured; a name is in its scan response."""
    parts = [service_data(int(uuid[4:8], 16), data) for uuid, data in advert.service_data.items()]
    parts += [manufacturer_data(*item) for item in advert.manufacturer_data.items()]
    for uuid in advert.service_uuids:
        is_short = uuid.endswith("-0000-1000-8000-00805f9b34fb")
        content = bytes.fromhex(uuid.replace("-", ""))[::-1]
        parts.append(structure(0x03, content[12:14]) if is_short else structure(0x07, content))
    captured = b"".join(parts)
    if len(FLAGS + captured) <= 31:
        captured = FLAGS + captured
    return Advertiser(address, Captured(captured), name=advert.name, interval_s=INTERVAL_S)


def chosen() -> list[AdvertVector]:
    """One advert of each family that needs no key and fits on the air."""
    first: dict[str, AdvertVector] = {}
    for vector in vectors():
        if vector.key is None and vector.values:
            first.setdefault(vector.family, vector)
    return list(first.values())


async def test_a_captured_advert_of_each_family_arrives_with_its_values_and_who_it_is(
    broker: Broker, tmp_path: Path
) -> None:
    captured = {
        # Xiaomi's and Qingping's frames hold their address, so each keeps its own.
        vector.advert.address
        if vector.advert.address != "AA:BB:CC:DD:EE:FF"
        else f"AA:BB:CC:DD:{number:02X}:FF": vector
        for number, vector in enumerate(chosen())
    }

    def infos(messages: Sequence[Received]) -> dict[str, dict[str, object]]:
        """Documents by address."""
        found = [m.json() for m in messages if m.topic.endswith("/info")]
        return {each["address"]: each for each in found}

    def arrived(messages: Sequence[Received]) -> bool:
        kinds = ("state", "availability")
        heard = {
            (m.topic.split("/")[2], kind)
            for kind in kinds
            for m in messages
            if m.topic.endswith(kind)
        }
        return len(heard) >= 2 * len(captured) and infos(messages).keys() >= captured.keys()

    async with (
        VirtualRadio() as radio,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        running_daemon(
            tmp_path / "gateway",
            broker.port,
            NOWHERE,
            more=radio_section(radio),
            environment=without_debug_mode(),
        ),
    ):
        for address, vector in captured.items():
            radio.advertise(on_the_air(vector.advert, address))
        await subscriber.wait_for(arrived, TIMEOUT_S)
        messages = list(subscriber.messages)

    for address, vector in captured.items():
        info = infos(messages)[address]
        assert info["driver"] == vector.family
        device = f"{vector.family}_{address[-5:].replace(':', '').lower()}"
        (state, *_) = [m.json() for m in messages if m.topic == f"edge/test/{device}/state"]
        assert {key: state.get(key) for key in vector.values} == vector.values, vector.name
        assert state["rssi"] == -70
        availability = [m for m in messages if m.topic == f"edge/test/{device}/availability"]
        assert [m.payload for m in availability] == [b"online"]


async def test_a_sensor_without_its_key_is_there_with_its_problem_and_no_values(
    broker: Broker, tmp_path: Path
) -> None:
    address = "54:48:E6:8F:80:A5"
    sensor = Bthome(address, lambda _: {Quantity.TEMPERATURE: 21.0}, key=KEY, period_s=0.0)

    async with (
        VirtualRadio() as radio,
        Subscriber(broker.host, broker.port, "edge/test/bthome_80a5/#") as subscriber,
        running_daemon(
            tmp_path / "gateway", broker.port, NOWHERE, more=radio_section(radio)
        ) as daemon,
    ):
        advertiser = radio.advertise(Advertiser(address, sensor, interval_s=INTERVAL_S))
        await subscriber.wait_for(
            lambda messages: {m.topic.split("/")[3] for m in messages} >= {"info", "log"}, TIMEOUT_S
        )
        heard = advertiser.heard
        async with asyncio.timeout(TIMEOUT_S):
            while advertiser.heard < heard + 10:  # noqa: ASYNC110  # a counter has no event
                await asyncio.sleep(INTERVAL_S)
        messages = list(subscriber.messages)
        log = daemon.log()

    (info,) = [m.json() for m in messages if m.topic.endswith("/info")]
    assert info["problem"] == "needs_key"
    assert len([m for m in messages if m.topic.endswith("/log")]) == 1
    assert not [m for m in messages if m.topic.endswith("/state")]
    assert log.count("bthome_80a5: its adverts are encrypted") == 2  # the device's, and the fault's

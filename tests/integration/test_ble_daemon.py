"""The daemon with a radio: a board and a sensor on the air become devices on MQTT."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from bumble import hci

from gateway.simulate.boards import Ending, FirmwareBoard, Flash, Json
from gateway.simulate.firmware import find_interpreter
from gateway.simulate.radio.air import Transmission
from gateway.simulate.radio.server import VirtualRadio
from tests.support.ble_board import RadioBoard, boards_on_air
from tests.support.broker import Broker
from tests.support.commander import Commander
from tests.support.daemon import running_daemon
from tests.support.subscriber import Subscriber

BOARD = "74:05:D7:00:00:01"
SENSOR = "A4:C1:38:00:00:01"
BTHOME_25_DEGREES = b"\x02\x01\x06\x07\x16\xd2\xfc\x40\x02\xc4\x09"
"""Flags; https://bthome.io/format/: device information 0x40, temperature 0x02 of 25.00."""


def last(subscriber: Subscriber, topic: str) -> Any:  # noqa: ANN401 - whatever was published
    found = subscriber.on(f"edge/test/{topic}")
    return found[-1].json() if found else {}


async def advertise(radio: VirtualRadio) -> None:
    """Let the sensor be heard ten times a second, for ever."""
    while True:
        radio.air.advertise(Transmission(hci.Address(SENSOR), BTHOME_25_DEGREES, rssi_dbm=-70))
        await asyncio.sleep(0.1)


async def test_a_board_and_a_sensor_on_the_air_are_devices(broker: Broker, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(60),
        VirtualRadio() as radio,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
    ):
        board = RadioBoard(radio.air, "attic", BOARD)
        sensor = tasks.create_task(advertise(radio), name="sensor")
        more = f"""
[ble]
adapter = "virtual:{radio.hci_address}"
[[ble.device]]
address = "{SENSOR}"
name = "Bath"
"""
        async with (
            boards_on_air(board),
            running_daemon(tmp_path / "d", broker.port, f"{tmp_path}/tty*", more=more) as daemon,
        ):
            board.produce(100)
            await subscriber.wait_for(lambda _: last(subscriber, "attic/state").get("number") == 99)
            await subscriber.wait_for(lambda _: last(subscriber, "bath/state"))
            await subscriber.wait_for(
                lambda _: last(subscriber, "health").get("radio", {}).get("connected") == 1
            )
            assert await daemon.stop() == 0
        sensor.cancel()

    delivered = {
        sample["id"]: sample["number"]  # one that comes twice has the same id
        for message in subscriber.messages
        if message.topic in {"edge/test/attic/state", "edge/test/attic/history"}
        for sample in (message.json() if message.topic.endswith("history") else [message.json()])
    }
    assert sorted(delivered.values()) == list(range(100))
    assert last(subscriber, "bath/state")["temperature"] == 25.0
    assert last(subscriber, "attic/info")["address"] == BOARD
    radio_health = last(subscriber, "health")["radio"]
    assert (radio_health["state"], radio_health["mode"]) == ("scanning", "passive")
    assert board.waiting == 0


async def test_a_sensor_joins_when_a_signal_opened_a_window(broker: Broker, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(60),
        VirtualRadio() as radio,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
    ):
        sensor = tasks.create_task(advertise(radio), name="sensor")
        more = f'[ble]\nadapter = "virtual:{radio.hci_address}"\njoin = "window"\n'
        async with running_daemon(
            tmp_path / "d", broker.port, f"{tmp_path}/tty*", more=more
        ) as daemon:
            await subscriber.wait_for(
                lambda _: last(subscriber, "health").get("radio", {}).get("adverts_unknown", 0) > 0
            )
            assert not subscriber.on("edge/test/+/state")

            os.kill(daemon.pid, signal.SIGUSR1)
            await daemon.wait_for_log("may join")
            await subscriber.wait_for(lambda _: bool(subscriber.on("edge/test/+/state")))
        sensor.cancel()


async def test_a_board_that_advertises_its_readings_is_one_device(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    interpreter = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    air: Json = {
        "kind": "simulated",
        "name": "air",
        "key": "warmth",
        "unit": "°C",
        "device_class": "temperature",
        "low": 18,
        "high": 26,
        "interval_ms": 100,
    }
    config: dict[str, Json] = {
        "name": "attic",
        "links": ["ble"],
        "bthome": True,
        "ble_key": "231d39c1d7cc1ab1aee224cd096db932",
        "sensors": [air],
    }
    async with (
        asyncio.timeout(60),
        VirtualRadio() as radio,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
        asyncio.TaskGroup() as tasks,
    ):
        board = FirmwareBoard(
            *(tmp_path / "attic", tmp_path / "flash", Flash(config), interpreter),
            board_id="c0ffee09",
            radio=radio.board_address,
        )
        running = tasks.create_task(board.run())
        sensor = tasks.create_task(advertise(radio), name="sensor")
        more = f'[ble]\nadapter = "virtual:{radio.hci_address}"\n'
        async with running_daemon(tmp_path / "d", broker.port, f"{tmp_path}/tty*", more=more):
            # From then on adverts in the board's format are read.
            await subscriber.wait_for(lambda _: subscriber.on("edge/test/bthome_0001/state"), 50)
            count = len(subscriber.on("edge/test/linux-c0ffee09/state")) + 20
            await subscriber.wait_for(
                lambda _: len(subscriber.on("edge/test/linux-c0ffee09/state")) >= count, 50
            )
        running.cancel()
        sensor.cancel()

    levels = {message.topic.split("/")[2] for message in subscriber.messages}
    assert levels == {"linux-c0ffee09", "bthome_0001", "status", "health"}


async def test_a_board_that_sleeps_and_has_no_samples_wakes_for_its_mail(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    interpreter = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    config: dict[str, Json] = {
        "name": "gate",
        "links": ["ble"],
        "sensors": [],
        "actuators": [{"kind": "relay", "name": "pump", "pin": 5}],
        "sleep": {"interval_s": 1, "awake_s": 10},
    }
    async with (
        asyncio.timeout(60),
        VirtualRadio() as radio,
        Commander(broker.host, broker.port, "edge/test") as client,
        asyncio.TaskGroup() as tasks,
    ):
        board = FirmwareBoard(
            *(tmp_path / "gate", tmp_path / "flash", Flash(config), interpreter),
            board_id="c0ffee0a",
            radio=radio.board_address,
        )
        running = tasks.create_task(board.run())
        more = f'[ble]\nadapter = "virtual:{radio.hci_address}"\n'
        async with running_daemon(tmp_path / "d", broker.port, f"{tmp_path}/tty*", more=more):
            await client.until_online("linux-c0ffee0a")  # its first wake: nobody knew who it is
            while not board.endings[Ending.DEEP_SLEEP]:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
            order = {"transaction": "a", "set": {"pump": True}, "expires_s": 60}
            await client.say("linux-c0ffee0a/command", order)
            done = await client.result("a")
            said = client.heard.on("edge/test/linux-c0ffee0a/availability")
        running.cancel()

    assert (done["status"], done["result"]) == ("done", {"pump": True})
    assert {each.payload for each in said} == {b"online"}, "a board that sleeps stays online"


async def test_an_advert_that_comes_once_is_read_though_its_library_is_not_there_yet(
    broker: Broker, tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(60),
        VirtualRadio() as radio,
        Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
    ):
        more = f'[ble]\nadapter = "virtual:{radio.hci_address}"\n'
        async with running_daemon(tmp_path / "d", broker.port, f"{tmp_path}/tty*", more=more):
            sent = Transmission(hci.Address(SENSOR), BTHOME_25_DEGREES, rssi_dbm=-70)
            while not radio.air.advertise(sent):  # noqa: ASYNC110 - nobody listens yet
                await asyncio.sleep(0.02)
            await subscriber.wait_for(
                lambda _: bool(subscriber.on("edge/test/+/state")), timeout_s=50
            )

    assert len(subscriber.on("edge/test/+/state")) == 1

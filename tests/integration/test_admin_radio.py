"""The radio, changed while the gateway runs: by a reload, and by a request to let others join."""

import asyncio
from pathlib import Path

from bumble import hci

from gateway.simulate.pty_port import PtyPort
from gateway.simulate.radio.air import Transmission
from gateway.simulate.radio.server import VirtualRadio
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.requester import asking
from tests.support.subscriber import Subscriber

SENSOR = "A4:C1:38:00:00:01"
BTHOME_25_DEGREES = b"\x02\x01\x06\x07\x16\xd2\xfc\x40\x02\xc4\x09"
"""Flags; https://bthome.io/format/: device information 0x40, temperature 0x02 of 25.00."""


async def advertise(radio: VirtualRadio) -> None:
    """Let the sensor be heard ten times a second, for ever."""
    while True:
        radio.air.advertise(Transmission(hci.Address(SENSOR), BTHOME_25_DEGREES, rssi_dbm=-70))
        await asyncio.sleep(0.1)


async def test_a_reload_begins_the_radio_anew_and_a_request_lets_a_sensor_join(
    broker: Broker, tmp_path: Path
) -> None:
    port = PtyPort(tmp_path / "ttyA")
    port.plug()
    try:
        async with (
            asyncio.timeout(100),
            VirtualRadio() as radio,
            Subscriber(broker.host, broker.port, "edge/test/#") as subscriber,
            asyncio.TaskGroup() as tasks,
        ):
            sensor = tasks.create_task(advertise(radio), name="sensor")
            more = f'[ble]\nadapter = "virtual:{radio.hci_address}"\njoin = "listed"\n'
            async with (
                running_daemon(
                    tmp_path / "d", broker.port, f"{tmp_path}/tty*", more=more
                ) as daemon,
                asking(broker.host, broker.port) as requester,
            ):
                await subscriber.wait_for(lambda _: adverts_unknown(subscriber) > 0)
                refused = await requester.ask("permit_join", seconds=60)
                config = tmp_path / "d" / "gateway.toml"
                config.write_text(config.read_text().replace('"listed"', '"window"'))

                reloaded = await requester.ask("reload")
                heard = len(subscriber.on("edge/test/health"))
                await subscriber.wait_for(lambda _: is_scanning(subscriber, heard))
                closed = await requester.ask("permit_join", seconds=0)
                assert not subscriber.on("edge/test/+/state")
                opened = await requester.ask("permit_join", seconds=60)
                await subscriber.wait_for(lambda _: subscriber.on("edge/test/+/state"))
                config.write_text(f"{config.read_text()}\nturn_s = 31.0\n")
                again = await requester.ask("reload")
                await subscriber.wait_for(lambda _: len(subscriber.on("edge/test/+/state")) > 1)

                assert daemon.log().count("ttyA: found") == 1
            sensor.cancel()
    finally:
        port.unplug()

    assert 'ble.join is "listed", not "window"' in refused.error
    assert reloaded.data == {
        "changed": ["ble.join"],
        "applied": ["ble"],
        "needs_restart": [],
        "reopened": ["ble"],
    }
    assert again.data["changed"] == ["ble.turn_s"]
    first, second = (message.json() for message in subscriber.on("edge/test/+/state")[:2])
    assert first["id"] != second["id"], "the sensor's samples are numbered from 0 again"
    assert (closed.data, opened.data) == ({"seconds": 0.0}, {"seconds": 60.0})


def is_scanning(subscriber: Subscriber, after: int) -> bool:
    """Tell whether a health document after so many says so."""
    later = subscriber.on("edge/test/health")[after:]
    return any(message.json()["radio"]["state"] == "scanning" for message in later)


def adverts_unknown(subscriber: Subscriber) -> int:
    """Return of how many adverts the gateway knows no member."""
    found = subscriber.on("edge/test/health")
    return int(found[-1].json()["radio"]["adverts_unknown"]) if found else 0

"""A daemon's devices appear in Home Assistant, and leave nothing behind when they are to go."""

import asyncio
from pathlib import Path
from typing import Any

from gateway.simulate.pty_port import PtyPort
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.homeassistant_entity import Entity
from tests.support.homeassistant_rules import problems_of
from tests.support.retained_set import retained_set
from tests.support.subscriber import Subscriber

OWN = "homeassistant/device/edge_test/config"
MAST = "homeassistant/device/edge_test_ttymast/config"


def announced(subscriber: Subscriber, topic: str) -> dict[str, Any]:
    """Return the newest announcement on a topic; it is one that Home Assistant takes."""
    found = subscriber.on(topic)
    if not found or not found[-1].payload:
        return {"components": {}}
    assert problems_of(topic, found[-1].payload) == []
    return dict(found[-1].json())


async def test_a_port_that_prints_json_appears_and_disappears_in_home_assistant(
    broker: Broker, tmp_path: Path
) -> None:
    port = PtyPort(tmp_path / "ttyMast")
    port.plug()
    async with (
        asyncio.timeout(60),
        Subscriber(broker.host, broker.port, "homeassistant/#", "edge/test/#") as subscriber,
    ):
        async with running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*"):

            def shows_wind(_: object) -> bool:
                port.write(b'{"wind":3.5,"open":true}\n')
                return "sensor_wind" in announced(subscriber, MAST)["components"]

            await subscriber.wait_for(shows_wind)
        port.unplug()
        left = retained_set(broker.host, broker.port)
        wind = Entity(left[MAST], "sensor_wind")
        wind.hear(left["edge/test/ttymast/state"].decode())
        is_open = Entity(left[MAST], "binary_sensor_open")
        is_open.hear(left["edge/test/ttymast/state"].decode())

        off = "\n[homeassistant]\nenabled = false"
        async with running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/tty*", more=off):
            await subscriber.wait_for(
                lambda _: all(not subscriber.on(topic)[-1].payload for topic in (OWN, MAST))
            )

    assert {OWN, MAST} <= set(left)
    assert problems_of(OWN, left[OWN]) == []
    assert (wind.state, is_open.state) == ("3.5", "on")
    assert wind.remarks == is_open.remarks == []
    assert not [topic for topic in retained_set(broker.host, broker.port) if "homeass" in topic]

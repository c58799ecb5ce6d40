"""The gateway, operated over MQTT: a real mosquitto, the daemon, boards on ptys."""

import asyncio
import json
import os
import random
import re
import signal
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.requests.admin import REQUESTS
from gateway.simulate.light import LightBoards, LightSpec
from gateway.simulate.pty_port import PtyPort
from tests.support.broker import Broker
from tests.support.commands import gateway
from tests.support.daemon import Daemon, running_daemon
from tests.support.figures import Figures
from tests.support.requester import Requester, asking, retained
from tests.support.subscriber import Subscriber

SEED = 5
MALFORMED = 500
SOON_S = 1.0


@asynccontextmanager
async def boards(folder: Path, count: int) -> AsyncIterator[LightBoards]:
    made = LightBoards(LightSpec(count, folder, 0.2, epoch=7))
    await made.open()
    try:
        yield made
    finally:
        made.close()


async def wait_for_devices(broker: Broker, count: int) -> None:
    async with Subscriber(broker.host, broker.port, "edge/test/+/availability") as seen:
        await seen.wait_for(
            lambda messages: len({each.topic for each in messages}) >= count, timeout_s=60.0
        )


def malformed() -> Iterator[tuple[str, bytes]]:
    """Yield requests of which no gateway may do any."""
    chance = random.Random(SEED)
    values: list[Any] = [None, True, -1, 1.5, "x", "", [], {}, [1], {"a": 1}, "x" * 300, 10**15]
    keys = ["device", "to", "block", "seconds", "interval_ms", "credentials", "limit", "nonsense"]
    verbs = [*REQUESTS, "renme", "Devices", "a b", "set"]
    for number in range(MALFORMED):
        verb = chance.choice(verbs)
        fields: dict[str, Any] = {"transaction": number, "nonsense": number}
        match number % 6:
            case 0:
                payload = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 40)))
            case 1:
                payload = json.dumps(fields).encode()[: chance.randrange(1, 20)]
            case 2:
                payload = b"[" * chance.randrange(1, 4000)
            case 3:  # right, but of a device that is not there
                verb = chance.choice(
                    ["device", "rename", "remove", "replace", "options", "restart"]
                )
                given: dict[str, Any] = {"device": f"nobody-{number}", "transaction": number}
                payload = json.dumps(
                    given | {"rename": {"to": "x"}, "replace": {"by": "x"}}.get(verb, {})
                ).encode()
            case 4:
                payload = b" " * 4097
            case _:
                fields |= {key: chance.choice(values) for key in chance.sample(keys, 3)}
                payload = json.dumps(fields).encode()
        yield verb, payload


async def facts(requester: Requester, broker: Broker) -> dict[str, Any]:
    """Return what no malformed request may change."""
    there = await retained(broker.host, broker.port, "edge/test/#")
    changing = ("/state", "/health", "/diagnostics")
    listed = (await requester.ask("devices")).data["devices"]
    return {
        "retained": {
            topic: payload for topic, payload in there.items() if not topic.endswith(changing)
        },
        "settings": (await requester.ask("diagnostics")).data["settings"],
        "devices": {each["device"]: (each["level"], each["name"]) for each in listed},
    }


async def test_the_gateway_is_operated_over_mqtt_and_what_is_malformed_changes_nothing(
    broker: Broker, tmp_path: Path, figures: Figures
) -> None:
    state = tmp_path / "state"
    environment = {**os.environ, "STATE_DIRECTORY": str(state)}
    (tmp_path / "ports").mkdir()
    async with (
        asyncio.timeout(100),
        boards(tmp_path / "ports", 2),
        running_daemon(
            tmp_path / "daemon", broker.port, f"{tmp_path}/ports/*", environment=environment
        ),
        asking(broker.host, broker.port) as requester,
    ):
        await wait_for_devices(broker, 2)
        asked = {
            "devices": await requester.ask("devices"),
            "device": await requester.ask("device", device="light-0000"),
            "rename": await requester.ask("rename", device="light-0000", to="Green House"),
            "options": await requester.ask("options", device="green_house"),
            "remove": await requester.ask("remove", device="light-0001"),
            "reload": await requester.ask("reload"),
            "backup": await requester.ask("backup"),  # of an empty outbox
            "diagnostics": await requester.ask("diagnostics"),
            "health_check": await requester.ask("health_check"),
            "update_status": await requester.ask("update_status"),
        }
        compiling = {  # from a source tree; an installed gateway has it compiled
            "update_check": await requester.ask("update_check"),
            "update": await requester.ask("update", device="green_house"),  # it has no slots
        }
        refused = {
            "replace": await requester.ask("replace", device="green_house", by="light-0000"),
            "permit_join": await requester.ask("permit_join", seconds=5),  # there is no radio
            "restart": await requester.ask("restart", device="green_house"),  # it knows no `reset`
            "update_abort": await requester.ask("update_abort"),  # there is none
        }

        assert all(answer.data is not None for answer in asked.values())
        assert "ble.enabled is" in refused["permit_join"].error
        assert "is that device already" in refused["replace"].error
        assert "unknown command" in refused["restart"].error
        assert "flash it once" in compiling["update"].error
        assert compiling["update_check"].data is not None
        assert refused["update_abort"].error
        assert set(asked | refused | compiling) == set(REQUESTS)
        slowest_s = max(answer.seconds for answer in (asked | refused).values())
        figures("slowest answer to a request", f"{slowest_s:.3f} s", f"{SOON_S:g} s")
        assert slowest_s < SOON_S
        with tarfile.open(asked["backup"].data["path"]) as archive:
            names = set(archive.getnames())
        assert {"manifest.json", "gateway.toml", "outbox.db", "gateway.db"} <= names
        await wait_for_devices(broker, 2)  # the removed one speaks on, and is a new one

        before = await facts(requester, broker)
        assert before["devices"]["light-0000"] == ("green_house", "Green House")
        counted = len(requester.answers)
        for verb, payload in malformed():
            await requester.publish(verb, payload)
        await requester.wait_for_answers(counted + MALFORMED)
        after = await facts(requester, broker)

        told = [answer for _, answer in requester.answers[counted : counted + MALFORMED]]
        assert all(answer["status"] == "error" and answer["error"] for answer in told)
        assert after == before


@pytest.mark.parametrize("how", ["request", "SIGHUP"])
async def test_a_reload_touches_only_what_changed(broker: Broker, tmp_path: Path, how: str) -> None:
    folder, ports = tmp_path / "daemon", tmp_path / "ports"
    ports.mkdir()
    more = '[[serial.port]]\nmatch = "light-0001"\nbaudrate = 9600\n'
    mast = PtyPort(tmp_path / "mast")
    mast.plug()
    try:
        async with (
            asyncio.timeout(100),
            boards(ports, 3) as there,
            running_daemon(folder, broker.port, f"{ports}/*", more=more) as daemon,
            asking(broker.host, broker.port) as requester,
        ):
            await wait_for_devices(broker, 3)
            config = folder / "gateway.toml"
            text = config.read_text()

            config.write_text(text.replace("baudrate = 9600", "baudrate = 'fast'"))
            await reload(how, requester, daemon, "expected a whole number")
            assert met(daemon) == {f"light-{number:04d}": 1 for number in range(3)}

            rule = (
                f'[[serial.port]]\nmatch = "mast"\nname = "mast"\n{more.replace("9600", "19200")}'
            )
            text = text.replace(f'["{ports}/*"]', f'["{ports}/*", "{tmp_path}/mast"]')
            text = text.replace(more, rule).replace("[gateway]\n", "[gateway]\n#\n")
            config.write_text(text.replace(f"port = {broker.port}", f"port = {broker.port + 1}"))
            await reload(how, requester, daemon, "mqtt.port")

            async with Subscriber(broker.host, broker.port, "edge/test/mast/state") as seen:
                await seen.wait_for(lambda messages: messages or not mast.write(b'{"wind":1.5}\n'))
            changed = {"light-0000": 1, "light-0001": 2, "light-0002": 1, "mast": 1}
            async with Subscriber(broker.host, broker.port, "edge/test/light-0001/state") as seen:
                await seen.wait_for(lambda messages: len(messages) > 1)  # it has said who it is
            assert met(daemon) == changed
            assert there.stats().joined == 3
    finally:
        mast.unplug()


async def reload(how: str, requester: Requester, daemon: Daemon, told: str) -> None:
    """Have the configuration read again, and wait until it says something of it."""
    if how == "SIGHUP":
        os.kill(daemon.pid, signal.SIGHUP)
        await daemon.wait_for_log(told)
        return
    answer = await requester.ask("reload")
    assert told in json.dumps(answer.fields)
    assert answer.seconds < SOON_S


def met(daemon: Daemon) -> Counter[str]:
    """Return how often each device introduced itself."""
    return Counter(re.findall(r"gateway\.devices\.registry: (\S+): \S+ on \S+ \(", daemon.log()))


async def test_a_person_asks_on_the_command_line(broker: Broker, tmp_path: Path) -> None:
    where = ("--broker", f"{broker.host}:{broker.port}", "--gateway", "test")
    silent = await asyncio.to_thread(gateway, "request", "devices", *where)
    async with (
        asyncio.timeout(100),
        running_daemon(tmp_path / "daemon", broker.port, f"{tmp_path}/none*") as daemon,
    ):
        await daemon.wait_for_log("connected to")
        async with Subscriber(broker.host, broker.port, "edge/test/status") as seen:
            await seen.wait_for(lambda messages: messages)
        config = str(tmp_path / "daemon" / "gateway.toml")
        listed = await asyncio.to_thread(gateway, "request", "devices", "--config", config)

    assert (silent.code, silent.out) == (1, "")
    assert "nobody listens on edge/test/request/devices" in silent.err
    assert (listed.code, json.loads(listed.out)) == (0, {"devices": [], "total": 0, "more": False})

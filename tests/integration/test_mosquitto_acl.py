"""What `edge-gateway certs` and `mosquitto-acl` make, with a real mosquitto: who may do what."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from gateway.cli.commands import main
from gateway.mqtt.connection import Connection
from gateway.mqtt.settings import BrokerSettings
from gateway.mqtt.tls import client_context
from gateway.simulate.pty_port import PtyPort
from tests.support.broker import Broker
from tests.support.commands import gateway
from tests.support.daemon import running_daemon

WAIT_S = 20.0
GATEWAY, READER, OPERATOR, HA = "edge-gateway-test", "reader", "operator", "homeassistant"
TAKEN, NOT_AUTHORISED = 0x00, 0x87
"""Reason codes of a PUBACK; 0x10 is TAKEN, and that nobody listens. MQTT 5, 3.4.2.1."""

OWN = ["edge/test/hut/state", "edge/test/hut/led/state", "edge/test/status", "edge/test/response/x"]
DISCOVERY = "homeassistant/device/edge_test_hut/config"
COMMANDS = ["edge/test/hut/set", "edge/test/hut/led/set", "edge/test/hut/command"]
REQUEST = "edge/test/request/remove"
BIRTH = "homeassistant/status"
OTHERS = ["edge/other/hut/state", "edge/other/hut/set", "tele/meter"]


def printed(*words: str) -> str:
    """Return what a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(words) == 0
    return out.getvalue()


class Site:
    """A mosquitto as its owner set it up with the two commands."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.folder = folder
        certs = folder / "certs"
        clients = [word for name in (GATEWAY, READER, OPERATOR, HA) for word in ("--client", name)]
        printed("certs", "--dir", str(certs), *clients)
        config = folder / "gateway.toml"
        config.write_text('[gateway]\nname = "test"\n')
        users = ["--subscriber", READER, "--commander", OPERATOR, "--homeassistant", HA]
        words = ["mosquitto-acl", str(config), "--folder", str(folder), *users]
        access_list = folder / "edge-gateway.acl"
        access_list.write_text(printed(*words, "--part", "acl"))
        access_list.chmod(0o600)
        lines = [
            line
            for line in printed(*words, "--part", "conf").splitlines()
            # These name a port and folders of a whole machine; the test's own are instead of them.
            if line and not line.startswith(("#", "listener ", "persistence_location ", "log_dest"))
        ]
        self.broker = Broker(program, folder, settings=lines)

    def settings(self, name: str) -> BrokerSettings:
        """Return how a client of this name connects."""
        certs = self.folder / "certs"
        return BrokerSettings(
            "127.0.0.1",
            self.broker.port,
            client_id=name,
            ca_file=certs / "ca.pem",
            cert_file=certs / f"{name}.pem",
            key_file=certs / f"{name}.key",
        )


@pytest.fixture(scope="module")
def site(mosquitto_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(mosquitto_bin, tmp_path_factory.mktemp("site"))
    made.broker.start()
    yield made
    made.broker.stop()


@contextlib.asynccontextmanager
async def connected(
    settings: BrokerSettings, will: str = "edge/test/x/log"
) -> AsyncIterator[Connection]:
    async with asyncio.timeout(WAIT_S):
        connection = await Connection.open(settings, settings.client_id, (will, b"will"))
        try:
            yield connection
            await connection.leave()
        finally:
            connection.close()


async def answers(connection: Connection, *topics: str) -> dict[str, int]:
    """Publish to each topic; return what the broker says of it."""
    codes: dict[int, int] = {}
    changed = asyncio.Event()

    def hear(acks: object) -> None:
        codes.update(acks)  # type: ignore[call-overload]  # pairs of numbers
        changed.set()

    connection.on_acks = hear
    sent = {connection.publish(topic, b"x", retain=False): topic for topic in topics}
    while len(codes) < len(sent):
        changed.clear()
        await changed.wait()
    return {sent[packet_id]: code & ~0x10 for packet_id, code in codes.items()}


@pytest.mark.parametrize(
    ("name", "may", "may_not"),
    [
        (GATEWAY, [*OWN, DISCOVERY], [*OTHERS, BIRTH, "homeassistant/sensor/x/config"]),
        (READER, [], [*OWN, DISCOVERY, *COMMANDS, REQUEST, BIRTH, *OTHERS]),
        (OPERATOR, [*COMMANDS, REQUEST], [*OWN, DISCOVERY, BIRTH, *OTHERS]),
        (HA, [*COMMANDS, REQUEST, BIRTH, DISCOVERY], [*OWN, *OTHERS]),
    ],
)
async def test_each_writes_what_is_theirs_and_nothing_else(
    site: Site, name: str, may: list[str], may_not: list[str]
) -> None:
    async with connected(site.settings(name)) as connection:
        said = await answers(connection, *may, *may_not)

    assert said == dict.fromkeys(may, TAKEN) | dict.fromkeys(may_not, NOT_AUTHORISED)


async def test_a_name_that_is_not_in_the_certificate_helps_nobody(site: Site) -> None:
    rogue = replace(site.settings(READER), username=GATEWAY, password="x")  # noqa: S106 - a guess
    async with connected(rogue) as connection:
        said = await answers(connection, *OWN)

    assert said == dict.fromkeys(OWN, NOT_AUTHORISED)


async def test_nobody_takes_over_the_gateway_s_connection(site: Site) -> None:
    rogue = replace(site.settings(READER), client_id=GATEWAY)
    async with connected(site.settings(GATEWAY)) as owner, connected(rogue):
        said = await answers(owner, *OWN)

        assert said == dict.fromkeys(OWN, TAKEN)
        assert not owner.lost.done()


@pytest.mark.parametrize(
    ("name", "hears"),
    [
        (GATEWAY, {"edge/test/status", *COMMANDS, REQUEST, BIRTH}),
        (READER, {*OWN, *COMMANDS} - {"edge/test/response/x"}),
        (OPERATOR, {*OWN, *COMMANDS, REQUEST}),
        (HA, {*OWN, *COMMANDS, REQUEST, DISCOVERY, BIRTH}),
    ],
)
async def test_each_hears_what_is_for_them_and_nothing_else(
    site: Site, name: str, hears: set[str]
) -> None:
    context = client_context(site.settings(name))
    heard = set()
    async with (
        asyncio.timeout(WAIT_S),
        aiomqtt.Client(
            "127.0.0.1",
            site.broker.port,
            tls_context=context,
            protocol=aiomqtt.ProtocolVersion.V5,
        ) as client,
    ):
        await client.subscribe("#", qos=1)
        # Who writes them all, one after the other: where each may.
        for writer, topics in ((GATEWAY, OWN), (HA, [*COMMANDS, REQUEST, DISCOVERY, BIRTH])):
            if writer != name:
                async with connected(site.settings(writer)) as connection:
                    await answers(connection, *topics)
            else:
                for topic in topics:
                    await client.publish(topic, b"x", qos=1)
        async with connected(site.settings(OPERATOR if name != OPERATOR else HA)) as connection:
            await answers(connection, last := "edge/test/last/set")
        async for message in client.messages:
            if message.topic.value == last:
                break
            heard.add(message.topic.value)

    assert heard == hears


async def test_the_gateway_works_with_them_and_answers_a_commander(
    site: Site, tmp_path: Path
) -> None:
    port = PtyPort(tmp_path / "ttyA")
    certs = site.folder / "certs"
    mqtt = (
        f'ca_file = "{certs}/ca.pem"\ncert_file = "{certs}/{GATEWAY}.pem"\n'
        f'key_file = "{certs}/{GATEWAY}.key"\n'
    )
    port.plug()
    try:
        async with (
            asyncio.timeout(60),
            aiomqtt.Client(
                "127.0.0.1",
                site.broker.port,
                tls_context=client_context(site.settings(READER)),
            ) as reader,
            running_daemon(
                tmp_path / "daemon", site.broker.port, f"{tmp_path}/tty*", mqtt=mqtt
            ) as daemon,
        ):
            await reader.subscribe("edge/test/#", qos=1)
            waits_for = {"edge/test/status", "edge/test/health", "edge/test/ttya/info"}
            waits_for |= {"edge/test/ttya/availability", "edge/test/ttya/state"}
            async for message in reader.messages:
                waits_for.discard(message.topic.value)
                if not waits_for:
                    break
                if message.topic.value == "edge/test/health":  # each second; the port may be open
                    port.write(b'\n{"temperature":21.5}\n{"temperature":21.5}\n')
            asked = await asyncio.to_thread(
                gateway,
                *("request", "devices", "--config", str(tmp_path / "daemon" / "gateway.toml")),
                *("--cert-file", str(certs / f"{OPERATOR}.pem")),
                *("--key-file", str(certs / f"{OPERATOR}.key")),
            )
    finally:
        port.unplug()

    assert (asked.code, asked.err) == (0, "")
    assert "ttya" in asked.out
    complaints = [line for line in daemon.log().splitlines() if " WARNING " in line]
    assert complaints == []

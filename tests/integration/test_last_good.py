"""The last good configuration in force, as the daemon tells it, and until it is mended."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.support.broker import Broker
from tests.support.commands import gateway
from tests.support.daemon import running_daemon
from tests.support.subscriber import Received, Subscriber


async def test_a_configuration_that_a_power_cut_emptied_is_told_and_the_last_good_one_used(
    broker: Broker, tmp_path: Path
) -> None:
    """That it is published below `edge/test` at all is because of the last good one."""
    folder = tmp_path / "daemon"
    config = folder / "gateway.toml"
    written = ""

    def emptied(command: Sequence[str]) -> Sequence[str]:
        nonlocal written
        written = config.read_text()
        config.write_bytes(b"")
        return command

    async with asyncio.timeout(100):
        async with running_daemon(folder, broker.port, f"{tmp_path}/none*") as daemon:
            await daemon.wait_for_log("connected to")
        async with (
            running_daemon(folder, broker.port, f"{tmp_path}/none*", wrap=emptied) as daemon,
            Subscriber(broker.host, broker.port, "edge/test/health") as seen,
        ):
            await seen.wait_for(lambda got: said(got, "last_good"))
            told = seen.messages[-1].json()["configuration"]["error"]
            config.write_text("[gateway]\nname = 7\n")
            os.kill(daemon.pid, signal.SIGHUP)
            await seen.wait_for(lambda got: "expected" in str(got[-1].json()["configuration"]))
            still = seen.messages[-1].json()["configuration"]["state"]
            config.write_text(written)
            os.kill(daemon.pid, signal.SIGHUP)
            await seen.wait_for(lambda got: got[-1].json()["configuration"] == {"state": "ok"})

    assert told.startswith(f"{config}: it is empty, and the one before was not")
    assert still == "last_good"
    assert f"{config} is broken: until it is mended" in daemon.log()


def said(messages: Sequence[Received], state: str) -> bool:
    """Tell whether the newest health document has this of the configuration."""
    return bool(messages) and messages[-1].json()["configuration"]["state"] == state


def test_a_strict_gateway_ends_with_what_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("[gateway]\nname = 7\n")
    kept = Path(os.environ["STATE_DIRECTORY"]) / "gateway.toml.last-good"
    kept.parent.mkdir()
    kept.write_text('[gateway]\nname = "attic"\n')

    done = gateway("run", "--strict", "--config", str(config))

    assert done.code == 2
    assert f"{config}:2: gateway.name: " in done.err

"""`edge-gateway flash` while the gateway runs, which has the port and lends it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import control
from gateway.cli.commands import INTERRUPTED
from gateway.config.models import Settings
from gateway.errors import RequestError
from gateway.protocol.sealed import key_id
from gateway.simulate.pty_port import PtyPort
from tests.support import nursery
from tests.support.bare_board import BareBoard
from tests.support.broker import Broker
from tests.support.commands import gateway
from tests.support.daemon import running_daemon

DEVICE = "linux-a1b2c3d4e5f6"
EARLIER = b"\xb2" * 32
"""A key that an attempt to flash it left, for example."""


async def test_the_gateway_lends_its_port_and_has_the_board_afterwards(
    tmp_path: Path, micropython_bin: Path, broker: Broker
) -> None:
    (tmp_path / "flash").mkdir()
    config = tmp_path / "board.json"
    config.write_text(json.dumps({"name": "greenhouse", "sensors": [{"kind": "heap"}]}))
    port = tmp_path / "ttyA"
    state = tmp_path / "state"
    environment = {**os.environ, "STATE_DIRECTORY": str(state)}
    settings = Settings.model_validate({"gateway": {"control_socket": str(state / "control.sock")}})

    async def ask(verb: str, **fields: object) -> Any:  # noqa: ANN401 - JSON
        return await asyncio.to_thread(control.ask, settings, verb, fields)

    with BareBoard(tmp_path / "flash", PtyPort(port), [str(micropython_bin)]):
        async with (
            asyncio.timeout(100),
            running_daemon(
                *(tmp_path / "daemon", broker.port, str(port)), environment=environment
            ) as daemon,
        ):
            await daemon.wait_for_log("ttyA: found")
            await ask("keep_key", device=DEVICE, key=EARLIER.hex())
            toml = str(tmp_path / "daemon" / "gateway.toml")
            words = ("flash", str(port), "--config", str(config), "--gateway-config", toml)
            done = await asyncio.to_thread(partial(gateway, *words, environment=environment))
            await daemon.wait_for_log("ttyA: given back")
            while not (devices := (await ask("devices"))["devices"]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while len((key := (await ask("keys"))["keys"][0])["keys"]) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

            real = os.path.realpath(port)  # noqa: ASYNC240 - a link of ours
            lent = await ask("lend_port", port=real, seconds=0.1)
            await daemon.wait_for_log("ttyA: lent, and not given back in time")
            with pytest.raises(RequestError, match="ttyA is not lent"):
                await ask("return_port", port="ttyA")
            stranger = await ask("lend_port", port="/dev/ttyNONE", seconds=1)

    assert done.code == 0, done.err
    assert "the running gateway lends ttyA" in done.out
    assert "its key is kept with the running gateway" in done.out
    assert "greenhouse runs firmware" in done.out
    assert [each["device"] for each in devices] == [DEVICE]
    assert (key["device"], key["rotating"]) == (DEVICE, False)
    assert key["keys"] == [key["board"]] != [key_id(EARLIER)], "seen with it, the other one goes"
    assert (state / "keys" / DEVICE).exists()
    assert lent == {"port": "ttyA", "is_lent": True}
    assert stranger == {"port": None, "is_lent": False}


async def test_a_lent_port_that_goes_and_comes_back_is_left_alone(
    tmp_path: Path, broker: Broker
) -> None:
    """Native USB does so when a board is reset. Ports that are seen in the same look tell when."""
    state = tmp_path / "state"
    environment = {**os.environ, "STATE_DIRECTORY": str(state)}
    settings = Settings.model_validate({"gateway": {"control_socket": str(state / "control.sock")}})

    async def ask(verb: str, **fields: object) -> Any:  # noqa: ANN401 - JSON
        return await asyncio.to_thread(control.ask, settings, verb, fields)

    ports = {name: PtyPort(tmp_path / name) for name in ("ttyA", "ttyB", "ttyC")}
    ports["ttyA"].plug()
    async with (
        asyncio.timeout(100),
        running_daemon(
            *(tmp_path / "daemon", broker.port, f"{tmp_path}/tty?"), environment=environment
        ) as daemon,
    ):
        await daemon.wait_for_log("ttyA: found")
        lent = await ask("lend_port", port=str(tmp_path / "ttyA"), seconds=600)
        ports["ttyA"].unplug()
        ports["ttyB"].plug()
        await daemon.wait_for_log("ttyB: found")
        ports["ttyA"].plug()
        ports["ttyC"].plug()
        await daemon.wait_for_log("ttyC: found")
        while_lent = daemon.log().count("ttyA: found")
        await ask("return_port", port="ttyA")
        await daemon.wait_for_log("ttyA: given back")
        await ask("devices")
        afterwards = daemon.log().count("ttyA: found")
    for port in ports.values():
        port.unplug()

    assert lent["is_lent"]
    assert (while_lent, afterwards) == (1, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_whoever_ends_a_flash_has_the_gateway_use_the_port_again(
    tmp_path: Path, broker: Broker, number: signal.Signals
) -> None:
    """A closed terminal does so, too."""
    state = tmp_path / "state"
    environment = {**os.environ, "STATE_DIRECTORY": str(state)}
    (tmp_path / "board.json").write_text("{}")
    port = PtyPort(tmp_path / "ttyA")
    port.plug()
    async with (
        asyncio.timeout(100),
        running_daemon(
            *(tmp_path / "daemon", broker.port, f"{tmp_path}/tty?"), environment=environment
        ) as daemon,
    ):
        await daemon.wait_for_log("ttyA: found")
        toml = str(tmp_path / "daemon" / "gateway.toml")
        process = nursery.Popen(
            [
                *(sys.executable, "-m", "gateway", "flash", str(tmp_path / "ttyA")),
                *("--config", str(tmp_path / "board.json"), "--gateway-config", toml),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        try:
            await daemon.wait_for_log("ttyA: lent")
            process.send_signal(number)  # it listens for 2.5 s whether somebody is there
            code = await asyncio.to_thread(process.wait, 60)
        finally:
            process.kill()
            process.wait()
        await daemon.wait_for_log("ttyA: given back")
    port.unplug()

    assert code == INTERRUPTED

"""Boards and sensors on a virtual radio, as `simulate --radio` offers them."""

import argparse
import asyncio
import json
from pathlib import Path

from gateway.cli.sim_firmware import firmware_boards
from gateway.simulate.faults import FaultPlan

MOST_BOARDS = 100
MOST_SENSORS = 1000

_SENSOR_INTERVAL_S = 1.0
_APPEAR_TIMEOUT_S = 30.0
_APPEAR_LOOK_S = 0.02


async def run_on_air(arguments: argparse.Namespace, folder: Path, plan: FaultPlan) -> None:
    """Run the radio and all that is on it until cancelled.

    Raises:
        ConfigError: a kind of sensor is unknown, or the interpreter cannot be used.
        LinkError: the radio's port is taken; in a group: a board cannot be run.
    """
    # Imported here, so that other commands do not wait for it.
    from gateway.simulate.radio.advertisers import Advertiser, Bthome, weather  # noqa: PLC0415
    from gateway.simulate.radio.server import VirtualRadio  # noqa: PLC0415

    async with (
        VirtualRadio(plan, hci_port=arguments.radio_port) as air,
        asyncio.TaskGroup() as tasks,
    ):
        boards = firmware_boards(arguments, folder, plan, air.board_address)
        adapter = f"virtual:{air.hci_address}"
        print(json.dumps({"adapter": adapter}) if arguments.json else adapter, flush=True)
        for name, board in boards.items():
            tasks.create_task(board.run(), name=name)
        for number in range(arguments.bthome):
            address = f"A4:C1:38:00:{number >> 8:02X}:{number & 0xFF:02X}"
            name = f"{arguments.name}-bthome-{number}"
            sensor = Bthome(address, weather(number), period_s=arguments.interval_ms / 1000)
            air.advertise(Advertiser(address, sensor, interval_s=_SENSOR_INTERVAL_S))
            _announce(name, address, as_json=arguments.json)
        for name, board in boards.items():
            async with asyncio.timeout(_APPEAR_TIMEOUT_S):
                while board.radio_address not in air.addresses:  # noqa: ASYNC110 no event tells
                    await asyncio.sleep(_APPEAR_LOOK_S)
            _announce(name, board.radio_address, as_json=arguments.json)
        await asyncio.get_running_loop().create_future()


def _announce(name: str, address: str, *, as_json: bool) -> None:
    fields = {"name": name, "address": address}
    print(json.dumps(fields) if as_json else address, flush=True)

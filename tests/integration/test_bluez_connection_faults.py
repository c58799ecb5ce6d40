"""What goes wrong with a connection, and how long until samples come again.

All that the gateway has for BLE runs, with bleak's BlueZ backend against the stand-in for
bluetoothd, with a board that has our firmware's session. As in test_bluez_faults.py the loop's time
runs faster, and the table is in production's seconds. At the end of each test every sample of the
board has arrived once, in order.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.clock import Clock
from tests.support.bluez.ble_gateway import Arrivals, make_ble
from tests.support.bluez.bleak_end import let_go_of_the_bus, pass_over_unsent
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.bus import PrivateBus
from tests.support.bluez.gatt_board import GattBoard
from tests.support.fast_loop import run_at
from tests.support.figures import Figures

SPEED = 40.0

ADDRESS = "A4:C1:38:00:00:02"
PAUSE_S = 4.0
"""No sample for so long: it does not work."""

INTERVAL_S = 1.0
"""From sample to sample, and while it is not connected from advertisement to advertisement."""


def recovered_s(at_s: Sequence[float], since_s: float) -> float:
    """Return when the last pause ended that began after a moment, or at it."""
    later_s = [since_s, *(each for each in at_s if each > since_s)]
    ends_s = [later for each, later in pairwise(later_s) if later - each > PAUSE_S]
    return ends_s[-1] if ends_s else later_s[1]


@dataclass
class World:
    """A gateway that is connected to a board."""

    bus: PrivateBus
    bluetoothd: Bluetoothd
    board: GattBoard
    arrivals: Arrivals
    ble: asyncio.Task[None] | None = None
    """All that the gateway has for BLE."""


@asynccontextmanager
async def a_world(bus: PrivateBus, clock: Clock, folder: Path) -> AsyncIterator[World]:
    """Run all of it."""
    asyncio.get_running_loop().set_exception_handler(pass_over_unsent)
    board = GattBoard(ADDRESS, "barn", INTERVAL_S)
    bluetoothd = Bluetoothd(bus.address)
    bluetoothd.place(ADDRESS, board.peripheral)
    world = World(bus, bluetoothd, board, Arrivals(clock))
    ble = make_ble(world.arrivals, clock, folder)
    async with bluetoothd.running(), asyncio.TaskGroup() as tasks:
        world.ble = tasks.create_task(ble.run())
        running = [
            tasks.create_task(board.run()),
            tasks.create_task(_advertise(world)),
            world.ble,
        ]
        try:
            yield world
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            await let_go_of_the_bus()


async def _advertise(world: World) -> None:
    while True:
        if not world.board.peripheral.is_connected:
            world.bluetoothd.hear(world.board.advert)
        await asyncio.sleep(INTERVAL_S)


async def disconnected(world: World) -> None:
    world.board.peripheral.drop()


async def disconnected_during_a_write(world: World) -> None:
    world.board.peripheral.drops_next_write = True


async def silent(world: World) -> None:
    world.board.peripheral.is_mute = True


async def hung(world: World) -> None:
    """Have bluetoothd hang for longer than the gateway waits for anything."""
    world.bluetoothd.hang()
    await asyncio.sleep(60.0)
    world.bluetoothd.go_on()


async def forgotten(world: World) -> None:
    assert world.bluetoothd.adapter is not None
    await world.bluetoothd.adapter.forget(ADDRESS)


async def bluetoothd_restarted(world: World) -> None:
    await world.bluetoothd.kill()
    await world.bluetoothd.start()


async def pulled_out(world: World) -> None:
    await world.bluetoothd.pull_out()
    await asyncio.sleep(10.0)  # the length of the fault
    world.bluetoothd.plug_in()


async def bus_restarted(world: World) -> None:
    await asyncio.to_thread(world.bus.stop)
    await asyncio.to_thread(world.bus.start)
    await bluetoothd_restarted(world)


async def write_not_answered(world: World) -> None:
    world.bluetoothd.faults.swallow("WriteValue")


def then_drop(fault: Callable[[World], None]) -> Callable[[World], Coroutine[None, None, None]]:
    """Have a fault, and a connection to be made in spite of it."""

    async def deal(world: World) -> None:
        fault(world)
        world.board.peripheral.drop()

    return deal


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the table."""

    name: str
    deal: Callable[[World], Coroutine[None, None, None]]
    """Returns when the cause has gone: the time counts from there."""
    limit_s: float


def unresolved(world: World) -> None:
    world.bluetoothd.faults.unresolved = 1


def refused(world: World) -> None:
    world.bluetoothd.faults.refuse("Connect", "Failed", times=3)


def aborted(world: World) -> None:
    """BlueZ's word for a connection that broke while it was made."""
    world.bluetoothd.faults.refuse("Connect", "Failed", "le-connection-abort-by-local")


def not_answered(*members: str) -> Callable[[World], None]:
    def fault(world: World) -> None:
        for member in members:
            world.bluetoothd.faults.swallow(member)

    return fault


RECONNECTS = 30

SAMPLES = 15
"""So many come after the fault, so that one that shows late is seen."""

FAULTS = (
    Fault("the board disconnects", disconnected, 30.0),
    Fault("it disconnects during a write", disconnected_during_a_write, 30.0),
    Fault("a write is not answered", write_not_answered, 30.0),
    Fault("the board is connected and silent", silent, 30.0),
    Fault("services never resolved", then_drop(unresolved), 60.0),
    Fault("Connect fails, three times", then_drop(refused), 30.0),
    Fault("Connect aborted (le-connection-abort-by-local)", then_drop(aborted), 60.0),
    Fault("BlueZ forgets the board", forgotten, 30.0),
    Fault("Connect not answered", then_drop(not_answered("Connect")), 60.0),
    Fault(
        "Connect, Disconnect not answered", then_drop(not_answered("Connect", "Disconnect")), 90.0
    ),
    Fault("StartNotify not answered", then_drop(not_answered("StartNotify")), 30.0),
    Fault("bluetoothd restarted", bluetoothd_restarted, 30.0),
    Fault("bluetoothd hangs for a minute", hung, 90.0),
    Fault("adapter pulled out, put back", pulled_out, 30.0),
    Fault("bus restarted", bus_restarted, 30.0),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_samples_come_again_after(
    fault: Fault, bus: PrivateBus, tmp_path: Path, figures: Figures
) -> None:
    async def measure(clock: Clock) -> tuple[float, list[float], int]:
        async with a_world(bus, clock, tmp_path) as world:
            await world.arrivals.until(5)
            await fault.deal(world)
            dealt_s = clock.monotonic_s()
            await world.arrivals.until(world.board.produced + SAMPLES)
            took_s = recovered_s(world.arrivals.at_s, dealt_s) - dealt_s
            return took_s, world.arrivals.numbers, world.board.peripheral.connections

    took_s, numbers, connections = run_at(SPEED, measure)

    figures(f"BlueZ, GATT: {fault.name}", f"{took_s:.1f} s", f"< {fault.limit_s:g} s")
    assert connections > 1  # the fault was one
    assert numbers == list(range(len(numbers)))
    assert took_s < fault.limit_s


STOP_SPEED = 8.0
STOP_S = 10.0
"""systemd kills the service 15 s after it asked it to stop."""


async def when_connecting(world: World) -> None:
    world.bluetoothd.faults.swallow("Connect")
    world.board.peripheral.drop()
    await world.bluetoothd.until(lambda: world.bluetoothd.calls["Connect"] == 2)


async def when_connected(_world: World) -> None:
    """Do nothing."""


async def when_it_starts_to_listen(world: World) -> None:
    world.bluetoothd.faults.swallow("StartNotify")
    world.board.peripheral.drop()
    await world.bluetoothd.until(lambda: world.bluetoothd.calls["StartNotify"] == 2)


@pytest.mark.parametrize("when", [when_connecting, when_connected, when_it_starts_to_listen])
def test_a_stop_ends_soon_although_bluetoothd_hangs(
    when: Callable[[World], Coroutine[None, None, None]],
    bus: PrivateBus,
    tmp_path: Path,
    figures: Figures,
) -> None:
    async def measure(clock: Clock) -> float:
        async with a_world(bus, clock, tmp_path) as world:
            await world.arrivals.until(2)
            await when(world)
            world.bluetoothd.hang()
            assert world.ble is not None
            since_s = clock.monotonic_s()
            world.ble.cancel()
            await asyncio.wait([world.ble])
            return clock.monotonic_s() - since_s

    took_s = run_at(STOP_SPEED, measure)

    name = when.__name__.replace("_", " ")
    figures(f"BlueZ hangs, stop {name}", f"{took_s:.1f} s", f"< {STOP_S:g} s")
    assert took_s < STOP_S


def test_a_board_that_wants_to_be_paired_is(bus: PrivateBus, tmp_path: Path) -> None:
    async def main(clock: Clock) -> tuple[list[float], int, int]:
        async with a_world(bus, clock, tmp_path) as world:
            world.board.peripheral.wants_pairing = True
            await world.arrivals.until(3)
            world.board.peripheral.drop()
            await world.arrivals.until(world.board.produced + 3)
            calls = world.bluetoothd.calls
            return world.arrivals.numbers, calls["Pair"], calls["Connect"]

    numbers, pairs, connects = run_at(SPEED, main)

    assert numbers == list(range(len(numbers)))
    assert (pairs, connects) == (1, 2)


def test_which_board_joined_is_on_disk_a_while_later(bus: PrivateBus, tmp_path: Path) -> None:
    async def main(clock: Clock) -> str:
        async with a_world(bus, clock, tmp_path) as world:
            await world.arrivals.until(1)
            while not (tmp_path / "joined.json").exists():  # noqa: ASYNC110  # a file tells nobody
                await asyncio.sleep(1.0)
            return (tmp_path / "joined.json").read_text()

    assert json.loads(run_at(SPEED, main)) == {"joined": [], "boards": {ADDRESS: "barn"}}


def test_connections_that_come_and_go_leave_none_to_the_bus(
    bus: PrivateBus, tmp_path: Path
) -> None:
    async def main(clock: Clock) -> tuple[list[int], int]:
        async with a_world(bus, clock, tmp_path) as world:
            counts: list[int] = []
            for _ in range(RECONNECTS):
                await world.arrivals.until(world.board.produced + 1)
                counts.append(len(os.listdir("/proc/self/fd")))
                world.board.peripheral.drop()
            return counts, world.board.peripheral.connections

    counts, connections = run_at(SPEED, main)

    assert connections == RECONNECTS
    assert len(set(counts[1:])) == 1

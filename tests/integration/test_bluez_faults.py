"""What goes wrong with BlueZ, and how long the gateway's radio takes to recover from it.

The gateway's own scanner runs with bleak's BlueZ backend against the stand-in for bluetoothd, on a
real bus. Production's waits stand: the loop's time runs SPEED times faster, and the table that is
printed has the seconds production would have taken. What takes real time, as an answer over the
bus, counts SPEED times, so the figures are a little too high.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise

import pytest

from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.links.ble_recovery import ScanMode
from gateway.links.ble_scanner import BleScanner, ScanOptions
from gateway.status import RadioStatus
from tests.support.bluez.adverts import FLAGS, MANUFACTURER, Heard, structure
from tests.support.bluez.bleak_end import let_go_of_the_bus, pass_over_unsent
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.bus import PrivateBus
from tests.support.bluez.faults import Cure
from tests.support.fast_loop import IS_DEBUGGED, run_at
from tests.support.figures import Figures

SPEED = 40.0
"""Production's 90 s of silence take 2.3 s."""

HANG_S = 2400.0
"""For what hangs: a minute of real time."""

HANGS_S = 60.0

STEADY_S = 2.0
"""A scan that hears for so long has all of its watches."""

BEACON = "A4:C1:38:00:00:01"


@dataclass
class World:
    """A gateway's scan, a bluetoothd, and a sensor that advertises without end."""

    bus: PrivateBus
    bluetoothd: Bluetoothd
    clock: Clock
    beacon_s: float
    """The sensor advertises so often."""
    status: RadioStatus = field(default_factory=RadioStatus)
    heard_s: list[float] = field(default_factory=list)
    """When the gateway heard it."""
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def recovered(self, steady_s: float = 0.0) -> float:
        """Return when the sensor was heard for the first time of so long without a pause."""
        pause_s = 1.0 + 2 * self.beacon_s
        async with asyncio.timeout(HANG_S):
            began_s = last_s = await self._next_heard()
            while last_s - began_s < steady_s:
                heard_s = await self._next_heard()
                if heard_s - last_s > pause_s:
                    began_s = heard_s
                last_s = heard_s
        return began_s

    async def told(self, state: str) -> None:
        """Return once the status of the radio has this state."""
        async with asyncio.timeout(HANG_S):
            while self.status.state != state:
                await self._next_move()

    def hear(self, advert: Advert) -> None:
        """Take what the scan heard."""
        if advert.address == BEACON:
            self.heard_s.append(self.clock.monotonic_s())
            self.move()

    def move(self) -> None:
        """Wake who waits for something."""
        self._moved.set()

    async def advertise(self) -> None:
        """Be a sensor."""
        for number in count():
            content = structure(FLAGS, b"\x06")
            content += structure(MANUFACTURER, b"\xff\xff" + number.to_bytes(4, "big"))
            self.bluetoothd.hear(Heard(BEACON, -60, content))
            await asyncio.sleep(self.beacon_s)

    async def _next_heard(self) -> float:
        before = len(self.heard_s)
        while len(self.heard_s) == before:
            await self._next_move()
        return self.heard_s[-1]

    async def _next_move(self) -> None:
        self._moved.clear()
        await self._moved.wait()


@asynccontextmanager
async def a_world(bus: PrivateBus, clock: Clock, beacon_s: float = 1.0) -> AsyncIterator[World]:
    """Run all but the gateway."""
    asyncio.get_running_loop().set_exception_handler(pass_over_unsent)
    world = World(bus, Bluetoothd(bus.address), clock, beacon_s)
    async with world.bluetoothd.running(), asyncio.TaskGroup() as tasks:
        sensor = tasks.create_task(world.advertise())
        try:
            yield world
        finally:
            sensor.cancel()
            await let_go_of_the_bus()


@asynccontextmanager
async def scanning(
    world: World, mode: ScanMode, *, has_boards: bool = False
) -> AsyncIterator[None]:
    """Run the gateway's scan."""
    scanner = BleScanner(
        ScanOptions(mode=mode),
        lambda advert, _: world.hear(advert),
        world.status,
        world.clock,
        is_in_use=lambda: has_boards,
        on_change=world.move,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scanner.run())
        try:
            yield
        finally:
            running.cancel()


async def busy(world: World) -> None:
    world.bluetoothd.faults.refuse("StartDiscovery", "InProgress", times=3)


async def not_ready(world: World) -> None:
    world.bluetoothd.faults.refuse("StartDiscovery", "NotReady", times=3)


async def start_is_never_answered(world: World) -> None:
    world.bluetoothd.faults.swallow("StartDiscovery")


async def registration_is_never_answered(world: World) -> None:
    world.bluetoothd.faults.swallow("RegisterMonitor")


async def monitors_are_unknown(world: World) -> None:
    await world.bluetoothd.kill()
    world.bluetoothd.faults.has_monitors = False
    await world.bluetoothd.start()


async def busy_without_monitors(world: World) -> None:
    await monitors_are_unknown(world)
    world.bluetoothd.faults.refuse("StartDiscovery", "InProgress", times=5)


async def switched_off(world: World) -> None:
    """Switch the adapter off, and leave it to the gateway to switch it on."""
    assert world.bluetoothd.adapter is not None
    await world.bluetoothd.adapter.power(on=False)


async def begun(world: World) -> None:
    """Return when bluetoothd has said that the scan runs."""
    calls = world.bluetoothd.calls
    await world.bluetoothd.until(lambda: calls["StartDiscovery"] + calls["RegisterMonitor"] > 0)


async def switched_off_at_once(world: World) -> None:
    await begun(world)
    await switched_off(world)


async def restarted_at_once(world: World) -> None:
    await begun(world)
    await restarted(world)


async def pulled_out(world: World) -> None:
    await world.bluetoothd.pull_out()
    await world.told("no_adapter")
    world.bluetoothd.plug_in()


async def restarted(world: World) -> None:
    await world.bluetoothd.kill()
    await world.bluetoothd.start()


async def away(world: World) -> None:
    await world.bluetoothd.kill()
    await world.told("no_adapter")
    await world.bluetoothd.start()


async def no_bus(world: World) -> None:
    await world.bluetoothd.kill()
    await asyncio.to_thread(world.bus.stop)
    await world.told("no_adapter")
    await asyncio.to_thread(world.bus.start)
    await world.bluetoothd.start()


async def hung(world: World) -> None:
    """Have bluetoothd hang, and go on long after the gateway has noticed."""
    world.bluetoothd.hang()
    await world.told("recovering")
    await asyncio.sleep(HANGS_S)
    world.bluetoothd.go_on()


async def deaf_until_a_new_scan(world: World) -> None:
    world.bluetoothd.faults.deaf_until = Cure.NEW_SCAN


async def deaf_until_a_power_cycle(world: World) -> None:
    world.bluetoothd.faults.deaf_until = Cure.POWER_CYCLE


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the table."""

    name: str
    mode: ScanMode
    deal: Callable[[World], Coroutine[None, None, None]]
    """Returns when the cause has gone, or needs a cure: the time counts from there."""
    limit_s: float
    beacon_s: float = 1.0
    steady_s: float = 0.0
    """So long the sensor must be heard afterwards, without a pause."""
    speed: float = SPEED
    has_boards: bool = False
    """Whether boards are connected, so that the adapter is not switched off and on."""


AT_START = (
    Fault("InProgress, three times", "active", busy, 40.0),
    Fault("InProgress, five times, no monitors", "passive", busy_without_monitors, 120.0),
    Fault("NotReady, three times", "active", not_ready, 40.0),
    Fault("no monitors, so no passive scan", "passive", monitors_are_unknown, 30.0),
    Fault("RegisterMonitor not answered", "passive", registration_is_never_answered, 60.0),
    Fault("StartDiscovery not answered", "active", start_is_never_answered, 120.0, 1.0, 30.0),
    Fault("the same, much on the air", "active", start_is_never_answered, 120.0, 0.05, 20.0, 20.0),
    Fault(
        "the same, boards connected",
        "active",
        start_is_never_answered,
        120.0,
        1.0,
        30.0,
        has_boards=True,
    ),
    Fault("adapter switched off at once", "active", switched_off_at_once, 30.0),
    Fault("bluetoothd restarted at once", "active", restarted_at_once, 30.0),
    Fault("bluetoothd restarted at once (passive)", "passive", restarted_at_once, 30.0),
    Fault("no adapter for a while", "active", pulled_out, 30.0),
    Fault("no bus for a while", "active", no_bus, 30.0),
)
"""What is so when the gateway starts."""

IN_A_SCAN = (
    Fault("adapter switched off", "active", switched_off, 30.0),
    Fault("adapter switched off (passive)", "passive", switched_off, 30.0),
    Fault("adapter pulled out, put back", "active", pulled_out, 30.0),
    Fault("adapter pulled out, put back (passive)", "passive", pulled_out, 30.0),
    Fault("bluetoothd restarted", "active", restarted, 30.0),
    Fault("bluetoothd restarted (passive)", "passive", restarted, 30.0),
    Fault("bluetoothd away for a while", "active", away, 30.0),
    Fault("bus away for a while", "active", no_bus, 30.0),
    Fault("bluetoothd hangs, goes on", "active", hung, 120.0, 1.0, 30.0),
    Fault("bluetoothd hangs, goes on (passive)", "passive", hung, 120.0, 1.0, 30.0),
    Fault("silent, a new scan helps", "active", deaf_until_a_new_scan, 120.0),
    Fault("silent, a power cycle helps", "active", deaf_until_a_power_cycle, 240.0, speed=80.0),
)
"""What happens to a gateway that hears the sensor."""


@pytest.mark.parametrize("fault", AT_START, ids=lambda fault: fault.name)
def test_a_scan_begins_in_spite_of(fault: Fault, bus: PrivateBus, figures: Figures) -> None:
    async def measure(clock: Clock) -> float:
        async with a_world(bus, clock, fault.beacon_s) as world, asyncio.TaskGroup() as tasks:
            dealing = tasks.create_task(fault.deal(world))
            await asyncio.sleep(0)  # the first turn of the fault comes before the gateway's
            async with scanning(world, fault.mode, has_boards=fault.has_boards):
                await asyncio.wait([dealing])
                dealt_s = clock.monotonic_s()
                return await world.recovered(fault.steady_s) - dealt_s

    took_s = run_at(fault.speed, measure)

    tell(figures, f"BlueZ, at start: {fault.name}", took_s, fault.limit_s)


@pytest.mark.parametrize("fault", IN_A_SCAN, ids=lambda fault: fault.name)
def test_a_scan_goes_on_after(fault: Fault, bus: PrivateBus, figures: Figures) -> None:
    async def measure(clock: Clock) -> float:
        async with a_world(bus, clock) as world, scanning(world, fault.mode):
            await world.recovered(STEADY_S)
            await fault.deal(world)
            dealt_s = clock.monotonic_s()
            return await world.recovered(fault.steady_s) - dealt_s

    took_s = run_at(fault.speed, measure)

    tell(figures, f"BlueZ, scanning: {fault.name}", took_s, fault.limit_s)


FLOOD_HZ = 1_000.0 if IS_DEBUGGED else 10_000.0
"""dbus-fast reads all there is in one turn of the loop, however long that takes."""
FLOOD = round(FLOOD_HZ)
"""For a second."""
STRANGERS = 100


@pytest.mark.alone
def test_a_flood_of_strangers_is_survived(bus: PrivateBus, figures: Figures) -> None:
    async def measure(clock: Clock) -> tuple[RadioStatus, float, float]:
        async with a_world(bus, clock, beacon_s=0.1) as world, scanning(world, "active"):
            await world.recovered(STEADY_S)
            paths = list(strangers(world.bluetoothd))
            began_s = clock.monotonic_s()
            flooding = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.bluez.flood"),
                *(bus.address, str(FLOOD), str(FLOOD_HZ), *paths),
            )
            assert await flooding.wait() == 0
            ended_s = clock.monotonic_s()
            recovered_s = await world.recovered()
            heard_s = [began_s, *(each for each in world.heard_s if each > began_s)]
            pauses_s = [later - each for each, later in pairwise(heard_s)]
            return world.status, max(pauses_s), recovered_s - ended_s

    status, pause_s, after_s = run_at(1.0, measure)

    name = f"BlueZ, scanning: {FLOOD:,} signals of strangers, {FLOOD_HZ:,.0f}/s"
    tell(figures, name, after_s, 10.0)
    figures(f"{name}: longest pause", f"{pause_s:.1f} s", "")
    figures(f"{name}: taken, dropped", f"{status.adverts:,}, {status.adverts_dropped:,}", "")
    assert status.state == "scanning"


def strangers(bluetoothd: Bluetoothd) -> list[str]:
    """Have BlueZ know some devices; return their paths."""
    for number in range(STRANGERS):
        bluetoothd.hear(Heard(f"5A:00:00:00:{number >> 8:02X}:{number & 255:02X}", -80, b""))
    return [path for path in bluetoothd.objects.objects if "dev_5A_" in path]


def tell(figures: Figures, name: str, took_s: float, limit_s: float) -> None:
    """Put a line into the table, and hold it against its limit."""
    figures(name, f"{took_s:.1f} s", f"< {limit_s:g} s")
    assert took_s < limit_s

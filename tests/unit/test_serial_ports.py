import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.serial_models import SerialSettings
from gateway.drivers.serial_line import LineFormat
from gateway.links.serial_port import SerialOptions
from gateway.links.serial_ports import FoundPort, PortsChanged, PortWatch, find_ports
from gateway.ports import PortRule, PortsOptions, PortUse
from gateway.simulate.pty_port import PtyPort
from tests.support.threads import no_threads


class Machine:
    """A folder like /dev, with ports that are ptys."""

    def __init__(self, folder: Path) -> None:
        self.dev = folder / "dev"
        self.by_id = self.dev / "serial" / "by-id"
        self.by_id.mkdir(parents=True)
        self.ports: list[PtyPort] = []

    def plug(self, *links: str) -> PtyPort:
        """Plug in a port that has these links under /dev."""
        port = PtyPort(self.dev / links[0])
        port.plug()
        self.ports.append(port)
        for link in links[1:]:
            (self.dev / link).symlink_to(port.device)
        return port

    @property
    def patterns(self) -> list[str]:
        return [f"{self.by_id}/*", f"{self.dev}/ttyUSB*"]

    def path(self, name: str) -> str:
        return str(self.dev / name)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for port in machine.ports:
        port.unplug()


NANO = "serial/by-id/usb-Espressif_Nano_v2-if00"
CH340 = "serial/by-id/usb-1a86_USB_Serial-if00-port0"

# What there is


def test_a_port_is_found_by_its_path(machine: Machine) -> None:
    port = machine.plug("ttyUSB0")

    found = find_ports(machine.patterns)

    assert found == [FoundPort(machine.path("ttyUSB0"), "ttyUSB0", port.device, "")]


@pytest.mark.parametrize("turned", [False, True])
def test_a_port_with_several_names_is_found_once(machine: Machine, turned: bool) -> None:
    port = machine.plug(CH340, "ttyUSB0")
    patterns = machine.patterns[::-1] if turned else machine.patterns

    (found,) = find_ports(patterns)

    assert found.device == port.device
    assert found.path == machine.path("ttyUSB0" if turned else CH340)


def test_a_stable_link_is_preferred_to_the_kernels_name_in_any_order(machine: Machine) -> None:
    port = machine.plug(CH340)

    for patterns in ([port.device, machine.path(CH340)], [machine.path(CH340), port.device]):
        assert find_ports(patterns) == [
            FoundPort(
                machine.path(CH340),
                "usb-1a86_USB_Serial-if00-port0",
                port.device,
                "1a86 USB Serial",
            )
        ]


def test_ports_come_in_the_order_of_the_patterns_and_then_of_their_names(machine: Machine) -> None:
    for name in ("ttyUSB1", "ttyUSB0", NANO):
        machine.plug(name)

    names = [port.name for port in find_ports(machine.patterns)]

    assert names == ["usb-Espressif_Nano_v2-if00", "ttyUSB0", "ttyUSB1"]


def test_where_our_udev_rules_are_a_port_without_a_number_is_called_by_its_socket(
    machine: Machine,
) -> None:
    # As the rules and 60-serial.rules make it of two equal adapters: the by-id link is one's only.
    (machine.dev / "edge-gateway").mkdir()
    first = machine.plug("edge-gateway/usb-0:1.2:1.0-port0", "ttyUSB0", CH340)
    second = machine.plug("edge-gateway/usb-0:1.3:1.0-port0", "ttyUSB1")
    numbered = machine.plug(NANO, "ttyACM0")
    patterns = [
        pattern.replace("/dev/", f"{machine.dev}/") for pattern in SerialSettings().patterns
    ]

    found = find_ports([*patterns, first.device, second.device, numbered.device])

    assert [(port.name, port.device) for port in found] == [
        ("usb-0:1.2:1.0-port0", first.device),
        ("usb-0:1.3:1.0-port0", second.device),
        ("usb-Espressif_Nano_v2-if00", numbered.device),
    ]
    assert [port.description for port in found] == ["1a86 USB Serial", "", "Espressif Nano v2"]


@pytest.mark.parametrize(
    "match",
    [
        *("usb-0:1.2:1.0-port0", "*/edge-gateway/*", "usb-1a86_USB_Serial-*", "*/by-id/usb-1a86_*"),
        *("ttyUSB0", "{device}"),
    ],
)
def test_a_rule_may_call_a_port_by_any_of_its_names(machine: Machine, match: str) -> None:
    (machine.dev / "edge-gateway").mkdir()
    port = machine.plug("edge-gateway/usb-0:1.2:1.0-port0", CH340, "ttyUSB0")
    patterns = [f"{machine.dev}/edge-gateway/*", *machine.patterns]
    (found,) = find_ports(patterns)
    slow = PortUse(SerialOptions(baudrate=9600), LineFormat("auto"))
    rule = PortRule(match.format(device=port.device), slow)
    usual = PortUse(SerialOptions(), LineFormat("auto"))

    options = PortsOptions(tuple(patterns), (), 1.0, usual, (rule,))

    assert options.use_of(found) is slow
    assert replace(options, rules=(PortRule("ttyUSB1", slow),)).use_of(found) is usual


def test_what_is_no_port_is_not_found(machine: Machine) -> None:
    (machine.dev / "ttyUSB0").write_bytes(b"")
    (machine.dev / "ttyUSB1").mkdir()
    (machine.dev / "ttyUSB2").symlink_to(machine.dev / "gone")

    assert find_ports(machine.patterns) == []


@pytest.mark.parametrize("pattern", ["*/usb-1a86_*", "usb-1a86_*", "ttyUSB0", "{device}", "*"])
def test_a_port_is_left_out_if_any_of_its_names_is_excluded(machine: Machine, pattern: str) -> None:
    port = machine.plug(CH340, "ttyUSB0")

    assert find_ports(machine.patterns, [pattern.format(device=port.device)]) == []
    assert find_ports(machine.patterns, ["usb-Espressif_*", "ttyUSB1"]) != []


def test_two_ports_with_the_same_last_part_are_told_apart(machine: Machine) -> None:
    for folder in ("a", "b"):
        (machine.dev / folder).mkdir()
        machine.plug(f"{folder}/board")

    names = [port.name for port in find_ports([f"{machine.dev}/*/board"])]

    assert names == [machine.path("a/board"), machine.path("b/board")]


# What changes


class Watcher:
    """Collects what a PortWatch says."""

    def __init__(self) -> None:
        self.changes: list[PortsChanged] = []
        self._changed = asyncio.Event()

    async def watch(self, watch: PortWatch) -> None:
        async for change in watch.changes():
            self.changes.append(change)
            self._changed.set()

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not claim():
                self._changed.clear()
                await self._changed.wait()

    @property
    def story(self) -> list[str]:
        return [
            text
            for change in self.changes
            for text in (
                *(f"-{port.name}" for port in change.vanished),
                *(f"+{port.name}" for port in change.appeared),
            )
        ]


@contextlib.asynccontextmanager
async def watching(watch: PortWatch) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watcher.watch(watch))
        yield watcher
        task.cancel()


async def test_ports_are_told_when_they_come_and_go(machine: Machine) -> None:
    machine.plug(NANO)
    watch = PortWatch(machine.patterns, rescan_s=60)

    async with watching(watch) as watcher:
        await watcher.until(lambda: len(watcher.changes) == 1)
        second = machine.plug(CH340)
        watch.look_now()
        await watcher.until(lambda: len(watcher.changes) == 2)
        second.unplug()
        watch.look_now()
        await watcher.until(lambda: len(watcher.changes) == 3)

    assert watcher.story == [
        "+usb-Espressif_Nano_v2-if00",
        "+usb-1a86_USB_Serial-if00-port0",
        "-usb-1a86_USB_Serial-if00-port0",
    ]


async def test_ports_are_looked_for_at_the_interval_without_being_asked(machine: Machine) -> None:
    async with watching(PortWatch(machine.patterns, rescan_s=0.02)) as watcher:
        machine.plug(NANO)
        await watcher.until(lambda: len(watcher.changes) == 1)

    assert watcher.story == ["+usb-Espressif_Nano_v2-if00"]


async def test_a_port_put_back_between_two_looks_is_left_to_its_link(machine: Machine) -> None:
    port = machine.plug(NANO)
    watch = PortWatch(machine.patterns, rescan_s=60)

    async with watching(watch) as watcher:
        await watcher.until(lambda: len(watcher.changes) == 1)
        port.unplug()
        machine.plug("ttyUSB7")  # takes the number of the pty
        port.plug()
        watch.look_now()
        await watcher.until(lambda: len(watcher.changes) == 2)

    assert watcher.story == ["+usb-Espressif_Nano_v2-if00", "+ttyUSB7"]


async def test_a_port_is_not_told_under_its_kernel_name_before_udev_had_time_to_link_it(
    machine: Machine,
) -> None:
    other = machine.plug(CH340)
    device = other.device
    (machine.dev / CH340).unlink()
    patterns = [f"{machine.by_id}/*", device]
    watch = PortWatch(patterns, rescan_s=60)

    async with watching(watch) as watcher:
        looking = asyncio.get_running_loop().time()
        await asyncio.sleep(0.05)  # udev takes its time
        (machine.dev / CH340).symlink_to(device)
        await watcher.until(lambda: len(watcher.changes) == 1)
        took_s = asyncio.get_running_loop().time() - looking

    assert watcher.story == ["+usb-1a86_USB_Serial-if00-port0"]
    assert took_s < 5


async def test_a_port_that_only_has_a_kernel_name_is_told_at_the_second_look(
    machine: Machine,
) -> None:
    port = machine.plug("ttyUSB0")
    watch = PortWatch([port.device], rescan_s=60)

    async with watching(watch) as watcher:
        await watcher.until(lambda: len(watcher.changes) == 1)

    assert [change.appeared for change in watcher.changes] == [
        (FoundPort(port.device, Path(port.device).name, port.device, ""),)
    ]


async def test_a_watch_goes_on_when_there_is_a_thread_again(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.plug(NANO)
    async with watching(PortWatch(machine.patterns, rescan_s=0.01)) as watcher:
        with no_threads():
            await asyncio.sleep(0.1)  # some looks in vain
            seen_in_vain = watcher.story
        await watcher.until(lambda: len(watcher.story) == 1)

    assert seen_in_vain == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_watch_can_be_cancelled_while_it_looks(machine: Machine) -> None:
    async with watching(PortWatch(machine.patterns, rescan_s=60)) as watcher:
        await asyncio.sleep(0)

    assert watcher.changes == []

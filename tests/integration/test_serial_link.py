import asyncio
import contextlib
import errno
import fcntl
import gc
import grp
import os
import pwd
import random
import resource
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.drivers.base import StreamDriver
from gateway.errors import LinkError
from gateway.links.conversation import MAX_OUTPUT
from gateway.links.port_failures import explain
from gateway.links.posix_serial import PosixSerial
from gateway.links.serial_port import SerialLink, SerialOptions
from gateway.model import Event, Fault, Gone, Readings, Sample
from gateway.simulate.pty_port import PtyPort
from gateway.status import LinkStatus
from gateway.supervise import keep_running
from tests.support.line_driver import NumberDriver
from tests.support.threads import StuckPath, no_threads, thread_ids

FAST = SerialOptions(settle_s=0.0)


class Rig:
    """A link on a pty, run by the reconnect loop, with what it said."""

    def __init__(self, folder: Path, options: SerialOptions = FAST) -> None:
        self.port = PtyPort(folder / "board")
        self.status = LinkStatus("board-port")
        self.events: list[Event] = []
        self.drivers: list[NumberDriver] = []
        self.is_safe_at_once = True
        self.sink_error: Exception | None = None
        self._changed = asyncio.Event()
        self.link = SerialLink(
            str(self.port.link_path), options, self._make, self._take, self.status, Clock()
        )

    def _make(self) -> StreamDriver:
        driver = NumberDriver(ticked=self._changed.set)
        self.drivers.append(driver)
        self._changed.set()
        return driver

    def _take(self, name: str, events: list[Event]) -> None:
        assert name == "board-port"
        if self.sink_error is not None:
            raise self.sink_error
        self.events += events
        for event in events:
            if self.is_safe_at_once and isinstance(event, Readings) and event.on_safe:
                event.on_safe()
        self._changed.set()

    @property
    def numbers(self) -> list[int]:
        return [
            record.seq
            for event in self.events
            if isinstance(event, Readings)
            for record in event.records
            if isinstance(record, Sample)
        ]

    @property
    def faults(self) -> list[str]:
        return [event.kind for event in self.events if isinstance(event, Fault)]

    async def until(self, claim: Callable[[], bool]) -> None:
        """Return once `claim` holds, looked at after every opening, event and tick."""
        async with asyncio.timeout(10):
            while not claim():
                self._changed.clear()
                await self._changed.wait()

    async def run_until_lost(self) -> LinkError:
        """Run the link once; return why it ended."""
        try:
            async with asyncio.timeout(10):
                await self.link.run(lambda: None)
        except LinkError as exc:
            return exc

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the link running, with hardly any backoff."""
        backoff = Backoff(base_s=0.005, cap_s=0.01, rng=random.Random(1))
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(keep_running("board-port", self.link.run, backoff))
            yield
            task.cancel()

    async def opened(self, times: int = 1) -> NumberDriver:
        """Return the driver once the port was opened so many times."""
        await self.until(lambda: len(self.drivers) >= times)
        return self.drivers[-1]

    async def heard(self, wanted: bytes) -> bytes:
        """Return what the board has read, once it holds `wanted`."""
        return await board_reads(self.port, wanted)


async def board_reads(port: PtyPort, wanted: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    heard = bytearray()
    ready = asyncio.Event()
    loop.add_reader(port.fileno(), ready.set)
    try:
        async with asyncio.timeout(10):
            while wanted not in heard:
                await ready.wait()
                ready.clear()
                heard += port.read()
    finally:
        loop.remove_reader(port.fileno())
    return bytes(heard)


async def board_writes(port: PtyPort, text: bytes) -> None:
    """Send all of `text`, as fast as the line takes it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(port.fileno(), ready.set)
    try:
        async with asyncio.timeout(10):
            while text:
                await ready.wait()
                ready.clear()
                text = text[port.write(text) :]
    finally:
        loop.remove_writer(port.fileno())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.port.plug()
    yield rig
    rig.port.unplug()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Delivering


async def test_numbers_come_in_and_acknowledgements_go_out(rig: Rig) -> None:
    async with rig.running():
        rig.port.write(b"1\n2\n3\n")
        await rig.until(lambda: rig.numbers == [1, 2, 3])
        heard = await rig.heard(b"ok 3\n")

    assert heard == b"ok 1\nok 2\nok 3\n"
    assert rig.status.bytes_in == 6
    assert rig.status.bytes_out == len(heard)
    assert rig.status.opens == 1
    assert rig.status.state == "closed"
    assert rig.drivers[0].is_closed
    assert rig.events[-1] == Gone("board", "closed")


async def test_an_acknowledgement_that_comes_later_is_sent_when_it_is_due(rig: Rig) -> None:
    rig.is_safe_at_once = False
    async with rig.running():
        rig.port.write(b"7\n8\n")
        await rig.until(lambda: rig.numbers == [7, 8])
        assert rig.port.read() == b""

        for event in rig.events:
            assert isinstance(event, Readings)
            assert event.on_safe is not None
            event.on_safe()

        assert await rig.heard(b"ok 8\n") == b"ok 7\nok 8\n"


async def test_what_waited_in_the_port_at_opening_is_read(rig: Rig) -> None:
    rig.port.write(b"rn first line\n5\n")

    async with rig.running():
        await rig.until(lambda: rig.numbers == [5])

    assert rig.faults == ["bad_line"]


async def test_progress_is_made_by_readings_and_not_by_faults(rig: Rig) -> None:
    progress: list[int] = []
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rig.link.run(lambda: progress.append(len(rig.events))))
        rig.port.write(b"noise\n")
        await rig.until(lambda: rig.faults == ["bad_line"])
        after_noise = list(progress)
        rig.port.write(b"1\n")
        await rig.until(lambda: rig.numbers == [1])
        task.cancel()

    assert after_noise == []
    assert len(progress) == 1


async def test_nothing_is_sent_before_the_port_has_settled(tmp_path: Path) -> None:
    rig = Rig(tmp_path, SerialOptions(settle_s=0.5))
    rig.port.plug()
    async with rig.running():
        await rig.opened()
        opened_s = time.monotonic()
        rig.port.write(b"1\n")
        await rig.until(lambda: rig.numbers == [1])
        sent_early = rig.port.read()
        heard = await rig.heard(b"ok 1\n")
        answered_s = time.monotonic()
    rig.port.unplug()

    assert sent_early == b""
    assert heard == b"ok 1\n"
    assert answered_s - opened_s > 0.45


async def test_a_hold_reaches_the_driver_now_and_at_later_openings(rig: Rig) -> None:
    async with rig.running():
        await rig.opened()
        rig.link.hold(paused=True)
        assert await rig.heard(b"pause\n") == b"pause\n"

        rig.port.unplug()
        await rig.until(lambda: Gone("board", "closed") in rig.events)
        rig.port.plug()
        assert await rig.heard(b"pause\n") == b"pause\n"
        rig.link.hold(paused=False)
        assert await rig.heard(b"go\n") == b"go\n"

    assert [driver.paused for driver in rig.drivers] == [[True], [True, False]]


# Losing the line


async def test_pulling_the_plug_ends_the_link_at_once(rig: Rig) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rig.run_until_lost())
        await rig.opened()
        rig.port.unplug()
        unplugged_s = time.monotonic()
        await task

    assert "unplugged" in str(task.result())
    assert time.monotonic() - unplugged_s < 1.0
    assert rig.status.state == "lost"
    assert rig.events == [Gone("board", "closed")]


async def test_pulling_the_plug_while_output_waits_logs_nothing_but_ends_the_link(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rig.run_until_lost())
        await rig.opened()
        fill_with_output(rig, MAX_OUTPUT - 1)
        fill_with_output(rig, MAX_OUTPUT - 1)
        rig.port.unplug()
        await task

    assert "unplugged" in str(task.result())
    assert caplog.records == []


async def test_two_hundred_times_in_and_out_leaks_no_descriptor(rig: Rig) -> None:
    gc.collect()
    before = descriptors()
    async with rig.running():
        for cycle in range(200):
            rig.port.write(b"%d\n" % cycle)
            await rig.until(lambda: len(rig.numbers) == cycle + 1)  # noqa: B023  # awaited here
            rig.port.unplug()
            await rig.until(lambda: rig.events.count(Gone("board", "closed")) == cycle + 1)  # noqa: B023  # awaited here
            rig.port.plug()
        await rig.opened(201)

    assert rig.numbers == list(range(200))
    assert descriptors() == before


async def test_a_silent_board_makes_the_link_open_its_port_anew(rig: Rig) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rig.run_until_lost())
        driver = await rig.opened()
        driver.is_silent_at_tick = True
        driver.deadline_s = time.monotonic() + 0.05
        rig.port.write(b"1\n")
        await task

    assert "silent" in str(task.result())
    assert [type(event) for event in rig.events] == [Readings, Gone, Gone]


async def test_a_text_source_without_a_byte_for_too_long_is_opened_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path, SerialOptions(settle_s=0.0, silence_s=1.0))
    rig.port.plug()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rig.run_until_lost())
        await rig.opened()
        for _ in range(15):
            await asyncio.sleep(0.1)  # the pace of a board that does speak
            rig.port.write(b"1\n")
        still_open = not task.done()
        last_s = time.monotonic()
        await task
    rig.port.unplug()

    assert still_open
    assert "no byte for 1 s" in str(task.result())
    assert 0.9 < time.monotonic() - last_s < 10.0


# Deadlines of the driver


async def test_a_deadline_that_moves_away_costs_one_look_and_is_then_kept(rig: Rig) -> None:
    async with rig.running():
        driver = await rig.opened()
        driver.deadline_s = time.monotonic() + 0.1
        rig.port.write(b"1\n")
        await rig.until(lambda: rig.numbers == [1])
        due_s = driver.deadline_s = time.monotonic() + 0.3
        await rig.until(lambda: len(driver.ticks) == 1)

    assert due_s <= driver.ticks[0] < due_s + 2


async def test_a_deadline_that_comes_nearer_is_kept(rig: Rig) -> None:
    async with rig.running():
        driver = await rig.opened()
        driver.deadline_s = time.monotonic() + 60
        rig.port.write(b"1\n")
        await rig.until(lambda: rig.numbers == [1])
        due_s = driver.deadline_s = time.monotonic() + 0.1
        rig.port.write(b"2\n")
        await rig.until(lambda: len(driver.ticks) == 1)

    assert due_s <= driver.ticks[0] < due_s + 2


async def test_a_deadline_left_in_the_past_does_not_spin_the_loop(rig: Rig) -> None:
    async with rig.running():
        driver = await rig.opened()
        driver.deadline_s = driver.next_deadline_s = time.monotonic()
        rig.port.write(b"1\n")
        await asyncio.sleep(0.3)  # the span that is measured
        ticks = len(driver.ticks)

    assert 2 <= ticks <= 31


# Bugs and garbage


async def test_a_driver_that_raises_loses_that_input_and_nothing_else(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig.running():
        for number in (1, 2, 3):
            rig.port.write(b"boom\n")
            await rig.until(lambda: rig.faults == ["driver_error"] * number)  # noqa: B023  # awaited here
            rig.port.write(b"\n%d\n" % number)
            await rig.until(lambda: rig.numbers[-1:] == [number])  # noqa: B023  # awaited here
            rig.events = [event for event in rig.events if "bad_line" not in repr(event)]

    assert rig.status.opens == 1
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


async def test_a_bug_in_the_sink_is_not_swallowed(rig: Rig) -> None:
    rig.sink_error = RuntimeError("a bug in the pipeline")
    rig.port.write(b"1\n")

    with pytest.raises(RuntimeError, match="a bug in the pipeline"):
        async with asyncio.timeout(10):
            await rig.link.run(lambda: None)


async def test_a_flood_of_garbage_is_counted_and_good_lines_behind_it_are_read(rig: Rig) -> None:
    noise = random.Random(5).randbytes(2_000_000).replace(b"\n", b" ")
    async with rig.running():
        await rig.opened()
        await board_writes(rig.port, noise + b"\n7\n")
        await rig.until(lambda: rig.numbers == [7])

    assert rig.faults == ["bad_line"]
    assert rig.status.bytes_in == len(noise) + 3


# A peer that is stuck


def fill_with_output(rig: Rig, size: int) -> None:
    driver = rig.drivers[0]
    driver.to_send += b"x" * size
    assert driver.on_output is not None
    driver.on_output()


async def test_output_for_a_stuck_board_is_bounded_and_what_is_dropped_is_counted(
    rig: Rig,
) -> None:
    async with rig.running():
        await rig.opened()
        for _ in range(10):
            fill_with_output(rig, MAX_OUTPUT // 2)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        dropped = rig.faults
        taken = rig.status.bytes_out
        heard = 0
        while heard < taken:
            heard += len(await rig.heard(b"x"))
        fill_with_output(rig, 10)
        await rig.heard(b"x" * 10)

    assert dropped
    assert set(dropped) == {"output_dropped"}
    assert len(dropped) * (MAX_OUTPUT // 2) + taken == 5 * MAX_OUTPUT


async def test_closing_does_not_wait_for_a_stuck_board(rig: Rig) -> None:
    before = descriptors()
    async with rig.running():
        await rig.opened()
        for _ in range(4):
            fill_with_output(rig, MAX_OUTPUT // 2)
            await asyncio.sleep(0.01)
        stopped_s = time.monotonic()

    assert time.monotonic() - stopped_s < 1.0
    assert descriptors() == before


# Opening


async def test_one_descriptor_is_used(rig: Rig) -> None:
    before = descriptors()

    async with rig.running():
        await rig.opened()
        during = descriptors()

    assert during == before + 1


async def test_a_port_works_above_descriptor_1024(rig: Rig) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1300:
        pytest.skip(f"the hard limit of descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
    ballast = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while ballast[-1] < 1030:
            ballast.append(os.dup(ballast[0]))
        async with rig.running():
            rig.port.write(b"1\n")
            heard = await rig.heard(b"ok 1\n")
            targets = [os.readlink(f"/proc/self/fd/{n}") for n in range(1031, 1100) if is_open(n)]
        device = rig.port.device
    finally:
        for descriptor in ballast:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert heard == b"ok 1\n"
    assert device in targets


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def test_a_second_gateway_is_told_that_the_port_is_busy(rig: Rig) -> None:
    second = SerialLink(
        str(rig.port.link_path),
        FAST,
        NumberDriver,
        lambda _name, _events: None,
        LinkStatus("second"),
        Clock(),
    )
    async with rig.running():
        await rig.opened()
        with pytest.raises(LinkError, match="busy: this program has it open"):
            await second.run(lambda: None)
        rig.port.write(b"1\n")
        await rig.until(lambda: rig.numbers == [1])


async def test_the_program_that_has_the_port_is_named(rig: Rig) -> None:
    script = (
        "import fcntl, os, sys\n"
        "descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)\n"
        "fcntl.flock(descriptor, fcntl.LOCK_EX)\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    thief = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", script, rig.port.device),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert thief.stdout is not None
    assert await thief.stdout.readline() == b"open\n"
    error = await rig.run_until_lost()
    await thief.communicate(b"")

    program = os.path.basename(sys.executable)[:15]
    assert f"({program}, process {thief.pid})" in str(error)


async def test_a_port_is_free_again_once_it_is_closed(rig: Rig) -> None:
    async with rig.running():
        await rig.opened()

    descriptor = os.open(rig.port.link_path, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    exclusive = fcntl.ioctl(descriptor, TIOCGEXCL, bytes(4))
    os.close(descriptor)
    assert exclusive == bytes(4)


TIOCGEXCL = 0x80045440
"""Tells whether a terminal is in exclusive mode; asm-generic/ioctls.h."""


async def test_an_open_port_is_exclusive_raw_and_does_not_hang_up_on_close(rig: Rig) -> None:
    async with rig.running():
        await rig.opened()
        descriptor = os.dup(numbers_of(rig.port.device)[0])
        mode = termios.tcgetattr(descriptor)
        exclusive = fcntl.ioctl(descriptor, TIOCGEXCL, bytes(4))
        os.close(descriptor)

    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = mode
    assert exclusive != bytes(4)
    assert not cflag & termios.HUPCL
    assert cflag & termios.CLOCAL
    assert cflag & termios.CSIZE == termios.CS8
    assert not iflag & (termios.IXON | termios.ICRNL | termios.BRKINT | termios.ISTRIP)
    assert not oflag & termios.OPOST
    assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert (ispeed, ospeed) == (termios.B115200, termios.B115200)
    assert (cc[termios.VMIN], cc[termios.VTIME]) in {(1, 0), (b"\x01", b"\x00")}


def numbers_of(device: str) -> list[int]:
    """Return the descriptors of this process that are `device`."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            if os.readlink(f"/proc/self/fd/{name}") == device:
                found.append(int(name))
    return found


@pytest.mark.parametrize("baudrate", [9600, 250_000, 921_600])
def test_any_baud_rate_is_set(tmp_path: Path, baudrate: int) -> None:
    board = PtyPort(tmp_path / "board")
    board.plug()
    port = PosixSerial(str(board.link_path), baudrate)
    port.open()

    tcgets2 = 0x802C542A
    settings = fcntl.ioctl(port.fileno(), tcgets2, bytes(44))

    assert int.from_bytes(settings[-4:], sys.byteorder) == baudrate
    port.close()
    port.close()
    board.unplug()


@pytest.mark.parametrize("turns", range(12))
async def test_a_link_cancelled_while_it_opens_leaves_nothing_open(rig: Rig, turns: int) -> None:
    threads_before = thread_ids()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rig.link.run(lambda: None))
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns % 2:
            await asyncio.sleep(turns / 10_000)  # an opening takes about as long
        task.cancel()

    assert task.cancelled()
    assert rig.status.state == "closed"
    await all_ended_since(threads_before)
    assert len(numbers_of(rig.port.device)) == 1  # the board's


async def all_ended_since(threads_before: set[str]) -> None:
    """Wait for the threads that open and undo, which belong to nobody who could be asked."""
    async with asyncio.timeout(10):
        for _ in range(2):  # when one has opened, the loop starts the one that undoes it
            while thread_ids() - threads_before:  # noqa: ASYNC110  # the kernel tells nobody
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)


async def test_a_port_whose_opening_hangs_costs_one_thread_however_often_it_is_tried(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, SerialOptions(settle_s=0.0, open_s=0.05))
    rig.port.plug()
    stuck = StuckPath(rig.port.link_path)
    threads_before = thread_ids()
    errors = [str(await rig.run_until_lost()) for _ in range(5)]
    threads = thread_ids() - threads_before
    stuck.release()
    await all_ended_since(threads_before)
    async with rig.running():
        await rig.opened()

    assert errors == [
        f"{rig.port.link_path} does not open within 0.05 s",
        *[f"{rig.port.link_path}: still opening since 0 s"] * 4,
    ]
    assert len(threads) == 1
    assert stuck.attempts == 1
    rig.port.unplug()


async def test_without_a_thread_to_be_had_the_port_is_tried_again(rig: Rig) -> None:
    with no_threads():
        error = await rig.run_until_lost()
    async with rig.running():
        await rig.opened()

    assert "can't start new thread" in str(error)


async def test_a_port_is_closed_though_no_thread_is_to_be_had(rig: Rig) -> None:
    before = descriptors()
    async with rig.running():
        await rig.opened()
        with no_threads():
            rig.port.unplug()
            await rig.until(lambda: Gone("board", "closed") in rig.events)
            after = descriptors()
        rig.port.plug()
        await rig.opened(2)

    assert after == before - 2  # the board's own two


async def test_a_port_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = await Rig(tmp_path).run_until_lost()

    assert str(error) == f"cannot open {tmp_path}/board: there is no such port"


async def test_what_is_no_port_is_refused(tmp_path: Path) -> None:
    (tmp_path / "board").write_bytes(b"")

    error = await Rig(tmp_path).run_until_lost()

    assert "it is no serial port" in str(error)


async def test_a_forbidden_port_comes_with_a_hint(rig: Rig) -> None:
    device = rig.port.device
    os.chmod(device, 0)
    with_link = SerialLink(
        device, FAST, NumberDriver, lambda _name, _events: None, LinkStatus("port"), Clock()
    )

    hint = "permission denied: add the user to group dialout"
    with pytest.raises(LinkError, match=hint), as_nobody():
        await with_link.run(lambda: None)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's right to open everything, where the tests have it."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENODEV, "its device is gone"),
        (errno.EMFILE, "too many open files"),
        (errno.ENOSPC, "No space left"),
    ],
)
def test_other_failures_are_explained_too(number: int, words: str) -> None:
    assert words in explain("/dev/nothing", OSError(number, os.strerror(number)))


def test_a_port_may_be_read_by_the_group_that_owns_it(tmp_path: Path) -> None:
    path = tmp_path / "port"
    path.write_bytes(b"")
    path.chmod(0o660)
    with contextlib.suppress(PermissionError):
        os.chown(path, -1, 5)
    group = grp.getgrgid(path.stat().st_gid).gr_name

    text = explain(str(path), PermissionError(errno.EACCES, "no"))

    group = group if path.stat().st_gid else "dialout"
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert text == (
        f"permission denied: add the user to group {group}: "
        f"sudo usermod -aG {group} {user}, then log in again"
    )

import asyncio
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from gateway.errors import ConfigError, LinkError
from gateway.simulate.boards import Ending, FirmwareBoard, Flash, Json
from gateway.simulate.faults import FaultPlan, parse
from gateway.simulate.firmware import (
    MICROPYTHON_VARIABLE,
    Interpreter,
    find_interpreter,
    firmware_folder,
)
from tests.support.gateway_end import GatewayEnd

CONFIG: Mapping[str, Json] = {
    "name": "greenhouse",
    "links": ["stdio"],
    "sensors": [
        {
            "kind": "bme280",
            "name": "climate",
            "interval_ms": 100,
            "bus": {"i2c": 0, "sda": 21, "scl": 22},
            "address": 0x76,
        },
        {
            "kind": "simulated",
            "name": "demo",
            "interval_ms": 50,
            "waveform": "counter",
            "exponent": 0,
        },
    ],
    "actuators": [{"kind": "relay", "name": "pump", "pin": 12}],
}
FAKES: Mapping[str, Json] = {
    "i2c": {
        "0": {
            "devices": [
                {
                    "kind": "bme280",
                    "address": 0x76,
                    "temperature": 21.5,
                    "humidity": 45.0,
                    "pressure": 1013.25,
                }
            ]
        }
    }
}

PARENT = """
import asyncio, sys
from pathlib import Path
from gateway.simulate.boards import FirmwareBoard, Flash
from gateway.simulate.firmware import find_interpreter

async def main():
    folder = Path(sys.argv[1])
    interpreter = find_interpreter(sys.argv[2])
    board = FirmwareBoard(folder / "port", folder / "flash", Flash({}), interpreter)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(board.run())
        while not board.pid:
            await asyncio.sleep(0.01)
        print(board.pid, flush=True)

asyncio.run(main())
"""


class MakeBoard(Protocol):
    def __call__(
        self, *, config: Mapping[str, Json] = CONFIG, plan: FaultPlan | None = None
    ) -> FirmwareBoard: ...


@pytest.fixture(params=["micropython", "cpython"])
def interpreter(request: pytest.FixtureRequest) -> Interpreter:
    if request.param == "micropython":
        return find_interpreter(str(request.getfixturevalue("micropython_bin")))
    return find_interpreter("cpython")


@pytest.fixture
def make_board(tmp_path: Path, interpreter: Interpreter) -> MakeBoard:
    def make(
        *, config: Mapping[str, Json] = CONFIG, plan: FaultPlan | None = None
    ) -> FirmwareBoard:
        return FirmwareBoard(
            tmp_path / "port", tmp_path / "flash", Flash(config, FAKES), interpreter, plan=plan
        )

    return make


@asynccontextmanager
async def switched_on(board: FirmwareBoard) -> AsyncIterator[GatewayEnd]:
    """Run a board and be the gateway on its port."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(board.run())
        while not exists(board.path):  # noqa: ASYNC110 a file system tells nobody
            await asyncio.sleep(0.01)
        try:
            async with GatewayEnd(board.path) as gateway:
                yield gateway
        finally:
            task.cancel()


def exists(path: Path) -> bool:
    return os.path.lexists(path)


def is_alive(pid: int) -> bool:
    return exists(Path(f"/proc/{pid}"))


def count_of(gateway: GatewayEnd) -> list[object]:
    """The values of the counter, which counts its readings."""
    return [record.values["value"] for record in gateway.arrived if record.stream == "demo"]


async def test_the_firmware_delivers_what_its_sensors_see(make_board: MakeBoard) -> None:
    async with switched_on(make_board()) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 30)

    climate = [record.values for record in gateway.arrived if record.stream == "climate"]
    assert len(climate) >= 5
    for values in climate:
        # the chip's resolution at single oversampling: 0.005 °C, 0.06 %, 2.6 Pa
        assert values["temperature"] == pytest.approx(21.5, abs=0.02)
        assert values["humidity"] == pytest.approx(45.0, abs=0.1)
        assert values["pressure"] == pytest.approx(1013.25, abs=0.1)
    counts = count_of(gateway)
    assert counts == list(range(len(counts)))
    assert [record.seq for record in gateway.arrived] == list(range(len(gateway.arrived)))
    assert gateway.hellos[0].name == "greenhouse"
    assert gateway.actuators["pump"].kind == "switch"


async def test_an_actuator_obeys(make_board: MakeBoard) -> None:
    async with switched_on(make_board()) as gateway:
        await gateway.until(lambda g: "pump" in g.actuators)
        assert gateway.actuators["pump"].state is False

        await gateway.command("set", {"pump": True})

        await gateway.until(lambda g: g.actuators["pump"].state is True)


async def test_a_power_cut_starts_a_new_epoch(make_board: MakeBoard) -> None:
    board = make_board()
    async with switched_on(board) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 10)
        board.cut_power()
        await gateway.until(lambda g: len(g.hellos) >= 2 and len(count_of(g)) >= 1)
        await gateway.until(lambda g: g.arrived[-1].epoch == g.hellos[-1].epoch)

    first, second = gateway.hellos[0], gateway.hellos[-1]
    assert second.epoch == (first.epoch + 1) & 0xFFFF
    assert (first.reset_cause, second.reset_cause) == ("power", "power")
    assert second.id == first.id
    assert board.endings == {Ending.POWER_CUT: 1}
    assert board.restarts == 1


async def test_a_killed_board_is_back_at_once_and_keeps_what_only_a_power_cut_takes(
    make_board: MakeBoard,
) -> None:
    board = make_board(plan=parse("kill_every_s=2,seed=2"))
    async with switched_on(board) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 5)
        powered = board.root / "sleep.json"  # a board that does not sleep leaves it alone
        powered.touch()
        await gateway.until(lambda g: len({hello.nonce for hello in g.hellos}) >= 3)
        is_kept = powered.exists()
        board.cut_power()
        await gateway.until(lambda g: len({hello.nonce for hello in g.hellos}) >= 4)

    assert is_kept
    assert not powered.exists()
    assert board.endings[Ending.KILLED] >= 2
    assert set(board.endings) == {Ending.KILLED, Ending.POWER_CUT}


async def test_a_reset_command_restarts_the_board_at_once(make_board: MakeBoard) -> None:
    board = make_board()
    async with switched_on(board) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 5)
        await gateway.command("reset")
        await gateway.until(lambda g: len({hello.nonce for hello in g.hellos}) == 2)

    assert board.endings == {Ending.RESET: 1}
    assert gateway.hellos[-1].reset_cause in {"soft", "hard"}
    assert gateway.hellos[-1].epoch == gateway.hellos[0].epoch


async def test_a_crash_is_counted_logged_and_survived(
    make_board: MakeBoard, caplog: pytest.LogCaptureFixture
) -> None:
    board = make_board()
    async with switched_on(board) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 5)
        os.kill(board.pid, signal.SIGKILL)
        await gateway.until(lambda g: len({hello.nonce for hello in g.hellos}) == 2)

    assert board.endings == {Ending.CRASH: 1}
    assert any("port crashed: exit code -9" in message for message in caplog.messages)


async def test_an_unplugged_board_measures_on_and_delivers_later(make_board: MakeBoard) -> None:
    board = make_board()
    async with switched_on(board) as gateway:
        await gateway.until(lambda g: len(count_of(g)) >= 5)
        board.wire.unplug()
        await gateway.until(lambda g: not g.is_open)
        assert not exists(board.path)
        board.wire.plug()
        gateway.open()
        await gateway.until_more(20)

    counts = count_of(gateway)
    assert counts == list(range(len(counts)))
    assert board.restarts == 0


async def test_all_arrive_in_order_over_a_bad_wire(make_board: MakeBoard) -> None:
    plan = parse("drop=0.1,corrupt=0.1,delay=0.1,seed=5")
    board = make_board(plan=plan)
    async with switched_on(board) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 100, timeout_s=50)

    counts = count_of(gateway)
    assert counts == list(range(len(counts)))
    assert board.wire.status.from_board.dropped + board.wire.status.from_board.corrupted > 0


async def test_what_the_sensors_see_can_be_changed_while_it_runs(make_board: MakeBoard) -> None:
    board = make_board()
    async with switched_on(board) as gateway:
        await gateway.until(lambda g: len(g.arrived) >= 5)
        board.write_fakes(
            {"i2c": {"0": {"devices": [{"kind": "bme280", "address": 0x76, "temperature": -5}]}}}
        )
        await gateway.until(
            lambda g: any(
                record.values.get("temperature") == pytest.approx(-5, abs=0.02)
                for record in g.arrived
            )
        )


async def test_nothing_is_left_of_a_board_that_is_switched_off(make_board: MakeBoard) -> None:
    board = make_board()
    async with switched_on(board) as gateway:
        await gateway.until(lambda g: g.hellos)
        pid = board.pid

    assert not is_alive(pid)
    assert not exists(board.path)
    assert board.pid == 0


def test_a_board_does_not_outlive_a_parent_that_is_killed(
    tmp_path: Path, interpreter: Interpreter
) -> None:
    named = interpreter.path if interpreter.is_micropython else "cpython"
    command = [sys.executable, "-c", PARENT, str(tmp_path), named]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        ended = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()

            assert select.select([ended], [], [], 10.0)[0], "the board outlived its parent"
        finally:
            os.close(ended)


# The next ones hold what the firmware cannot be made to do from outside: its part is a script that
# keeps to the same contract.


def script(tmp_path: Path, *lines: str) -> Interpreter:
    path = tmp_path / "interpreter"
    path.write_text("\n".join(("#!/bin/sh", 'cd "$2"', *lines)))
    path.chmod(0o755)
    return Interpreter(str(path), "script", is_micropython=False)


def scripted(tmp_path: Path, *lines: str) -> FirmwareBoard:
    return FirmwareBoard(
        tmp_path / "port", tmp_path / "flash", Flash(CONFIG), script(tmp_path, *lines)
    )


@pytest.mark.parametrize(("code", "ending"), [(75, Ending.RESET), (77, Ending.WATCHDOG)])
async def test_a_reset_and_the_watchdog_start_it_again_at_once(
    tmp_path: Path, code: int, ending: Ending
) -> None:
    board = scripted(
        tmp_path, "echo :$3 >> starts", "[ -e again ] && exit 0", "touch again", f"exit {code}"
    )

    async with asyncio.timeout(20):
        await board.run()

    assert board.endings == {ending: 1, Ending.OFF: 1}
    assert (board.root / "starts").read_text() == ":--power-cut\n:\n", "it is switched on once"


async def test_a_board_in_deep_sleep_starts_when_it_said(tmp_path: Path) -> None:
    board = scripted(
        tmp_path,
        "[ -e woken ] && exit 0",
        "touch woken",
        """echo '{"ms": 300}' > sleep.json""",
        "exit 76",
    )
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async with asyncio.timeout(20):
        await board.run()

    assert loop.time() - began_s >= 0.3
    assert board.endings == {Ending.DEEP_SLEEP: 1, Ending.OFF: 1}
    assert board.restarts == 1


async def test_a_power_cut_ends_a_sleep_without_end(tmp_path: Path) -> None:
    board = scripted(
        tmp_path,
        "echo $3 >> starts",
        "[ -e woken ] && exit 0",
        "touch woken",
        """echo '{"ms": null}' > sleep.json""",
        "exit 76",
    )
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(board.run())
        while not board.endings[Ending.DEEP_SLEEP]:  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(0.01)
        board.cut_power()

    assert board.endings == {Ending.DEEP_SLEEP: 1, Ending.POWER_CUT: 1, Ending.OFF: 1}
    assert (board.root / "starts").read_text() == "--power-cut\n--power-cut\n"


async def test_a_firmware_that_always_crashes_is_started_less_and_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    board = scripted(tmp_path, "echo 'no memory left' >&2", "exit 3")
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(board.run())
        while board.endings[Ending.CRASH] < 3:  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(0.01)
        task.cancel()

    assert caplog.messages[0] == "simulated board port crashed: exit code 3: no memory left"
    assert board.restarts == board.endings[Ending.CRASH]


async def test_a_firmware_that_resets_at_every_start_does_not_keep_the_machine_busy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board = scripted(tmp_path, "echo >> starts", "exit 75")
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(board.run())
        while not caplog.messages:  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(0.01)
        task.cancel()

    (message,) = caplog.messages
    assert message == f"simulated board port keeps resetting: see {tmp_path}/flash/crash.txt"
    assert board.endings[Ending.RESET] == 4


async def test_an_interpreter_that_is_gone_is_a_link_error(tmp_path: Path) -> None:
    gone = Interpreter(str(tmp_path / "gone"), "gone", is_micropython=True)
    board = FirmwareBoard(tmp_path / "port", tmp_path / "flash", Flash(CONFIG), gone)

    with pytest.raises(LinkError, match="No such file or directory"):
        await board.run()

    assert not exists(board.path)


async def test_the_output_of_a_board_that_nobody_reads_is_dropped(tmp_path: Path) -> None:
    board = scripted(tmp_path, "head -c 300000 /dev/zero", "exit 0")

    async with asyncio.timeout(20):
        await board.run()

    status = board.wire.status
    assert status.bytes_sent + status.bytes_dropped == 300_000
    assert status.bytes_dropped > 200_000


async def test_what_a_board_does_not_read_is_dropped(tmp_path: Path) -> None:
    board = scripted(tmp_path, "echo ready", "exec sleep 30")
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(board.run())
        while not board.wire.status.bytes_sent:  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(0.01)
        port = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
        try:
            for _ in range(100):
                await asyncio.to_thread(os.write, port, b"x" * 2000)
        finally:
            os.close(port)
        assert board.input_dropped > 100_000
        task.cancel()


# What runs the firmware.


def fake_micropython(folder: Path, answer: str) -> Path:
    path = folder / "micropython"
    path.write_text(f"#!/bin/sh\necho {answer}\n")
    path.chmod(0o755)
    return path


def test_a_micropython_on_the_path_is_taken(tmp_path: Path) -> None:
    path = fake_micropython(tmp_path, "micropython 1 25 0")

    found = find_interpreter(None, {"PATH": str(tmp_path)})

    assert found == Interpreter(str(path), f"MicroPython 1.25.0 ({path})", is_micropython=True)


def test_one_that_is_too_old_is_passed_over_with_the_reason(tmp_path: Path) -> None:
    fake_micropython(tmp_path, "micropython 1 22 2")

    found = find_interpreter(None, {"PATH": str(tmp_path)})

    assert found.path == sys.executable
    assert "micropython 1.22.2, needed is micropython 1.23 or newer" in found.label


def test_without_any_this_python_runs_the_firmware(tmp_path: Path) -> None:
    found = find_interpreter(None, {"PATH": str(tmp_path)})

    version = ".".join(map(str, sys.version_info[:3]))
    assert found == Interpreter(
        sys.executable, f"CPython {version} with the firmware's stand-ins", is_micropython=False
    )


def test_the_variable_wins_over_the_path_and_the_argument_over_both(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("path", "variable", "argument")]
    paths = []
    for folder in folders:
        folder.mkdir()
        paths.append(str(fake_micropython(folder, "micropython 1 26 1")))
    environment = {"PATH": str(folders[0]), MICROPYTHON_VARIABLE: paths[1]}

    assert find_interpreter(None, environment).path == paths[1]
    assert find_interpreter(paths[2], environment).path == paths[2]
    assert find_interpreter("cpython", environment).path == sys.executable


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("micropython 1 19 1", "is micropython 1.19.1, needed is micropython 1.23 or newer"),
        ("cpython 3 11 7", "is cpython 3.11.7, needed is micropython 1.23 or newer"),
        ("hello world", "is no MicroPython that runs here"),
        ("", "is no MicroPython that runs here"),
    ],
)
def test_a_named_interpreter_that_is_unusable_is_refused(
    tmp_path: Path, answer: str, message: str
) -> None:
    path = fake_micropython(tmp_path, answer)

    with pytest.raises(ConfigError) as refused:
        find_interpreter(str(path))

    assert str(refused.value).startswith(f"{path} {message}")


def test_a_named_interpreter_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="/nowhere/micropython is no MicroPython"):
        find_interpreter("/nowhere/micropython")


def test_the_heap_is_limited_where_it_can_be(tmp_path: Path) -> None:
    run = str(firmware_folder() / "host" / "run.py")
    micropython = Interpreter("mp", "", is_micropython=True)
    cpython = Interpreter("py", "", is_micropython=False)

    assert micropython.command(firmware_folder(), tmp_path, "56K") == [
        *("mp", "-X", "heapsize=56K"),
        *(run, str(tmp_path)),
    ]
    assert cpython.command(firmware_folder(), tmp_path, "56K") == ["py", run, str(tmp_path)]

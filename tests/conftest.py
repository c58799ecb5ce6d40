"""Fixtures for all tests: the real parts, the broker, and the watch over what is left behind."""

import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from tests.parts.catalogue import PartImpossibleError, PartMissingError, locate
from tests.support import figures as figures_of
from tests.support import nursery
from tests.support.broker import Broker
from tests.support.effort import examples
from tests.support.leaks import Holdings, left_behind, tasks_left
from tests.support.slow_callbacks import slow_callbacks

# The same examples in every run, so that a failure can be repeated; `--hypothesis-seed=random`
# looks for others. No deadline for an example: a shared machine may hold up any of them.
settings.register_profile("project", max_examples=examples(100), deadline=None, derandomize=True)
settings.load_profile("project")

REQUIRED = "REQUIRE_REAL_PARTS"
"""Set by `.ci/run`: there no test may be skipped, be it for want of a part or of anything else."""


def real_part(name: str) -> Path:
    """Return a real program; skips or fails the test, with the reason, where there is none."""
    try:
        return locate(name)
    except PartMissingError as exc:
        missing = exc
    if os.environ.get(REQUIRED) and not isinstance(missing, PartImpossibleError):
        pytest.fail(f"{missing} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(str(missing))


def pytest_sessionstart() -> None:
    """Let what tests start hear signals that this run does not.

    In a script `make test &` hands down a deaf SIGINT, and nohup a deaf SIGHUP. What is handled
    here, and be it by nothing, is the default again in a program that is started.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_finish() -> None:
    """Spare the garbage collector five thousand tests and all modules: a look at all takes 0.1 s.

    The firmware asks for one in each of its loops, and it runs in this process, too.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the run when tests were skipped where none may be."""
    if skipped_in_vain(session.config) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was measured, and which tests may not be skipped; -ra has listed their reasons."""
    reports = [each for group in terminalreporter.stats.values() for each in group]
    if measured := figures_of.collected(reports):
        terminalreporter.section("figures")
        for line in figures_of.table(measured):
            terminalreporter.write_line(line)
    count = skipped_in_vain(config)
    if count:
        terminalreporter.write_line(f"{count} skipped, and {REQUIRED} is set: failed", red=True)


def skipped_in_vain(config: pytest.Config) -> int:
    """Return how many tests were skipped though none may be."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get(REQUIRED):
        return 0
    return len(reporter.stats.get("skipped", []))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> figures_of.Figures:
    """Take what was measured: `figures(name, value, bound)`; listed at the end of the run."""
    return figures_of.Figures(request.node)


@pytest.fixture(scope="session")
def soak() -> bool:
    """Tell whether to run long, and with all seeds: `make soak` sets SOAK."""
    return bool(os.environ.get("SOAK"))


@pytest.fixture(scope="session")
def mosquitto_bin() -> Path:
    return real_part("mosquitto")


@pytest.fixture(scope="session")
def mosquitto_pub_bin() -> Path:
    return real_part("mosquitto_pub")


@pytest.fixture(scope="session")
def mosquitto_sub_bin() -> Path:
    return real_part("mosquitto_sub")


@pytest.fixture(scope="session")
def strace_bin() -> Path:
    return real_part("strace")


@pytest.fixture(scope="session")
def systemd_analyze_bin() -> Path:
    return real_part("systemd-analyze")


@pytest.fixture(scope="session")
def dbus_daemon_bin() -> Path:
    return real_part("dbus-daemon")


@pytest.fixture(scope="session")
def systemd_sysusers_bin() -> Path:
    return real_part("systemd-sysusers")


@pytest.fixture(scope="session")
def systemd_tmpfiles_bin() -> Path:
    return real_part("systemd-tmpfiles")


@pytest.fixture(scope="session")
def udevadm_bin() -> Path:
    return real_part("udevadm")


@pytest.fixture(scope="session")
def micropython_bin() -> Path:
    return real_part("micropython")


@pytest.fixture(scope="session")
def micropython_i386_bin() -> Path:
    return real_part("micropython-i386")


@pytest.fixture
def broker(mosquitto_bin: Path, tmp_path: Path) -> Iterator[Broker]:
    """Run a mosquitto of the test's own, without persistence."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    with Broker.running(mosquitto_bin, folder) as running:
        yield running


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give numbered names of folders that nobody else uses, and that need not be made."""
    folder = tmp_path_factory.mktemp("state")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def a_state_folder_of_its_own(states: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no gateway of a test use the outbox of another, or that of the user."""
    monkeypatch.setenv("STATE_DIRECTORY", str(next(states)))


@pytest.fixture(scope="session", autouse=True)
def nurseries_end() -> Iterator[None]:
    """Have no process left at the end that others were forked from."""
    yield
    nursery.close_all()


@pytest.fixture(autouse=True)
def who_is_measured_starts_anew(request: pytest.FixtureRequest) -> None:
    """Fork no process whose time or memory is measured."""
    nursery.start_anew(wanted=request.node.get_closest_marker("alone") is not None)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a descriptor or a child process.

    Set up before the test's other fixtures, the event loop's included, it looks when they are gone.
    """
    before = Holdings.now()
    yield
    left = left_behind(before)
    if left:
        pytest.fail(f"left behind: {left}", pytrace=False)


@pytest.fixture(autouse=True)
def tasks_are_watched(request: pytest.FixtureRequest, nothing_is_left_behind: None) -> None:  # noqa: ARG001 - for the order
    """Fail an asynchronous test that leaves a task; the others need no event loop."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("no_task_is_left")


@pytest.fixture(autouse=True)
def nothing_of_ours_is_slow() -> Iterator[None]:
    """Fail a test in which code of the gateway held up the loop: PYTHONASYNCIODEBUG=1 tells."""
    with slow_callbacks() as found:
        yield
    if found:
        pytest.fail(f"held up the loop: {'; '.join(found)}", pytrace=False)


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Look after the test's other fixtures were torn down, while its loop still runs."""
    yield
    left = await tasks_left()
    if left:
        pytest.fail(f"still running: {'; '.join(left)}", pytrace=False)

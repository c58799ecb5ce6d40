import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.clock import Clock, TimeBase, is_clock_synchronised, machine_boot_id
from gateway.timekeeper import LONGEST_READING_S, READINGS, TimeKeeper
from tests.support.machine import Machine

TRUE_UNIX_S = 1_795_330_800.0
"""2026-11-22T07:00:00Z."""


def true_offset_s(machine: Machine) -> float:
    return machine.true_unix_s - machine.monotonic_s


def test_before_any_synchronisation_the_wall_clock_is_all_there_is() -> None:
    machine = Machine(TRUE_UNIX_S)
    keeper = TimeKeeper(machine.clock())

    at_start = keeper.base()
    machine.set_by_hand(TRUE_UNIX_S)
    by_hand = keeper.base()

    assert at_start == TimeBase(-3.0, "unsynced"), "1970, three seconds after the start"
    assert by_hand == TimeBase(TRUE_UNIX_S - 3.0, "unsynced")
    assert keeper.synced_s is None


def test_synchronising_corrects_all_times_of_this_boot() -> None:
    machine = Machine(TRUE_UNIX_S)
    keeper = TimeKeeper(machine.clock())
    machine.run(40.0)
    keeper.base()

    machine.synchronise()

    assert keeper.base() == TimeBase(TRUE_UNIX_S - 3.0, "synced")
    assert keeper.synced_s == 43.0
    assert keeper.unix_s() == TRUE_UNIX_S + 40.0


def test_a_clock_that_is_stepped_by_its_time_server_is_followed() -> None:
    machine = Machine(TRUE_UNIX_S)
    keeper = TimeKeeper(machine.clock())
    machine.synchronise(error_s=5.0)
    wrong = keeper.base()

    machine.synchronise()

    assert wrong.offset_s == true_offset_s(machine) + 5.0
    assert keeper.base() == TimeBase(true_offset_s(machine), "synced")


@pytest.mark.parametrize("set_to", [0.0, TRUE_UNIX_S - 3600, TRUE_UNIX_S + 3600])
def test_a_clock_set_by_hand_redates_nothing(set_to: float) -> None:
    machine = Machine(TRUE_UNIX_S)
    keeper = TimeKeeper(machine.clock())
    machine.synchronise()
    keeper.base()
    machine.run(1.0)

    machine.set_by_hand(set_to)

    assert keeper.base() == TimeBase(true_offset_s(machine), "unsynced")
    machine.run(3600.0)
    assert keeper.base() == TimeBase(true_offset_s(machine), "unsynced")
    assert keeper.synced_s == 3.0


def test_after_the_loss_of_the_time_server_the_last_offset_is_held_until_it_is_back() -> None:
    machine = Machine(TRUE_UNIX_S)
    keeper = TimeKeeper(machine.clock())
    machine.synchronise()
    keeper.base()

    machine.run(10.0)
    machine.lose_time_server()
    lost = keeper.base()
    machine.run(10.0)
    machine.synchronise()
    back = keeper.base()

    assert [lost.quality, back.quality] == ["unsynced", "synced"]
    assert lost.offset_s == back.offset_s == true_offset_s(machine)
    assert keeper.synced_s == machine.monotonic_s


@pytest.mark.parametrize("step_at", ["before the reading", "after the reading"])
def test_a_step_in_the_midst_of_a_look_is_never_taken_for_synchronised(step_at: str) -> None:
    machine = Machine(TRUE_UNIX_S)
    machine.synchronise()
    asked = 0

    def ask() -> bool:
        nonlocal asked
        asked += 1
        return machine.is_synchronised

    def read() -> float:
        if asked == 2 and step_at == "before the reading":
            machine.set_by_hand(0.0)
        unix_s = machine.wall_unix_s
        if asked == 2 and step_at == "after the reading":
            machine.set_by_hand(0.0)
        return unix_s

    keeper = TimeKeeper(replace(machine.clock(), unix_s=read, is_synchronised=ask))

    first = keeper.base()  # asks twice
    second = keeper.base()

    assert first == TimeBase(true_offset_s(machine), "synced")
    assert second == TimeBase(true_offset_s(machine), "unsynced")


def test_a_clock_that_is_synchronised_in_the_midst_of_a_look_is_not_read_as_it_was() -> None:
    machine = Machine(TRUE_UNIX_S)

    def read() -> float:
        unix_s = machine.wall_unix_s  # 1970
        machine.synchronise()
        return unix_s

    keeper = TimeKeeper(replace(machine.clock(), unix_s=read))

    assert keeper.base().quality == "unsynced"
    assert keeper.base() == TimeBase(true_offset_s(machine), "synced")


def stuttering(pauses_s: list[float]) -> tuple[Clock, Callable[[], int]]:
    """Clocks of which the true offset is 1000 s; the process is stopped before each reading of the
    wall clock for the next of these times."""
    now_s = 0.0
    readings = 0

    def unix_s() -> float:
        nonlocal now_s, readings
        now_s += pauses_s[min(readings, len(pauses_s) - 1)]
        readings += 1
        return now_s + 1000.0

    clock = Clock(monotonic_s=lambda: now_s, unix_s=unix_s, is_synchronised=lambda: True)
    return clock, lambda: readings


def test_a_reading_that_was_interrupted_is_repeated() -> None:
    clock, readings = stuttering([0.5, 0.2, 0.0])

    assert TimeKeeper(clock).base().offset_s == pytest.approx(1000.0, abs=LONGEST_READING_S)
    assert readings() == 3


def test_of_readings_that_were_all_interrupted_the_shortest_counts() -> None:
    clock, readings = stuttering([0.5, 0.2, 0.02, 0.3, 0.4, 0.0])

    assert TimeKeeper(clock).base().offset_s == pytest.approx(1000.0, abs=0.01)
    assert readings() == READINGS


def test_the_machine_s_own_clock_has_a_boot_and_can_be_asked() -> None:
    assert Clock().boot_id == Clock().boot_id == machine_boot_id() != ""
    assert isinstance(is_clock_synchronised(), bool)
    assert abs(TimeKeeper(Clock()).unix_s() - time.time()) < 0.05


def test_seconds_in_which_the_machine_slept_count() -> None:
    # As if it had slept for so long; where containers forbid that, it has not.
    asleep = ["unshare", "--time", "--boottime", "1000000"]
    if subprocess.run([*asleep, "true"], check=False, capture_output=True).returncode:
        asleep = []
    # Source: proc_uptime(5), "the uptime of the system (including time spent in suspend)".
    script = "print(open('/proc/uptime').read()); from gateway.clock import Clock; "
    script += "print(Clock().monotonic_s())"
    told = subprocess.run(
        [*asleep, sys.executable, "-c", script], check=True, capture_output=True, text=True
    )

    uptime_s, _, now_s = map(float, told.stdout.split())
    assert uptime_s - 0.02 <= now_s < uptime_s + 60

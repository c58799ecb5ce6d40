"""The ladder of a radio that fails."""

import pytest

from gateway.links.ble_recovery import (
    LONGEST_PATIENCE_S,
    LONGEST_WAIT_S,
    LOOK_S,
    Failure,
    Ladder,
    Remedy,
    ScanMode,
)

NONE, CYCLE, RESET = Remedy.NONE, Remedy.POWER_CYCLE, Remedy.RESET


def test_the_rungs_are_climbed_in_order_and_the_upper_ones_again() -> None:
    ladder = Ladder("active")

    steps = [ladder.failed(Failure.NOT_STARTED) for _ in range(8)]

    assert [step.remedy for step in steps] == [NONE, CYCLE, RESET, NONE, CYCLE, RESET, NONE, CYCLE]
    assert [step.wait_s for step in steps] == [1.5, 3, 6, 12, 24, 48, 60, 60]
    assert [step.mode for step in steps].index("passive") == 3


def test_waits_never_exceed_a_minute_in_years_of_failures() -> None:
    ladder = Ladder("active")
    ladder.failures = 10**9

    assert ladder.failed(Failure.NOT_STARTED).wait_s == LONGEST_WAIT_S


@pytest.mark.parametrize(("wanted", "other"), [("active", "passive"), ("passive", "active")])
def test_the_fourth_try_is_in_the_other_mode(wanted: ScanMode, other: ScanMode) -> None:
    ladder = Ladder(wanted)

    assert [ladder.failed(Failure.NOT_STARTED).mode for _ in range(5)] == [
        wanted,
        wanted,
        wanted,
        other,
        wanted,
    ]


def test_only_what_is_heard_leads_down_again() -> None:
    ladder = Ladder("active")
    ladder.failed(Failure.NOT_STARTED)
    ladder.failed(Failure.DEAF)

    ladder.heard()

    assert ladder.failed(Failure.NOT_STARTED).remedy is NONE


def test_an_adapter_that_cannot_be_passive_is_active_at_once_and_for_good() -> None:
    ladder = Ladder("passive")

    step = ladder.failed(Failure.NO_PASSIVE)

    assert (step.wait_s, step.remedy, step.mode) == (0, NONE, "active")
    assert ladder.failed(Failure.NOT_STARTED).mode == "active"


def test_without_an_adapter_nothing_is_repaired_and_it_is_looked_for_now_and_then() -> None:
    ladder = Ladder("active")

    steps = [ladder.failed(Failure.NO_ADAPTER) for _ in range(100)]

    assert {step.remedy for step in steps} == {NONE}
    assert {step.wait_s for step in steps[:24]} == {LOOK_S}
    assert {step.wait_s for step in steps[24:]} == {60.0}


def test_an_adapter_that_was_there_is_looked_for_often_again() -> None:
    ladder = Ladder("active")
    for _ in range(100):
        ladder.failed(Failure.NO_ADAPTER)

    ladder.heard()

    assert ladder.failed(Failure.NO_ADAPTER).wait_s == LOOK_S


def test_a_passive_scan_that_never_heard_anything_becomes_active_first() -> None:
    ladder = Ladder("passive")

    step = ladder.failed(Failure.DEAF)

    assert (step.wait_s, step.remedy, step.mode) == (0, NONE, "active")


def test_a_scan_that_fell_silent_is_started_then_power_cycled_then_reset() -> None:
    ladder = Ladder("passive")
    ladder.heard()

    steps = [ladder.failed(Failure.DEAF) for _ in range(4)]

    assert [step.remedy for step in steps] == [NONE, CYCLE, RESET, NONE]
    assert [step.mode for step in steps] == ["passive", "passive", "passive", "active"]
    assert [step.wait_s for step in steps] == [0, 0, 0, 0]


@pytest.mark.parametrize("failure", [Failure.DEAF, Failure.NOT_STARTED])
def test_nothing_is_done_that_would_cut_off_connected_boards(failure: Failure) -> None:
    ladder = Ladder("active")

    assert {ladder.failed(failure, is_in_use=True).remedy for _ in range(10)} == {NONE}


def test_where_there_may_be_nothing_to_hear_patience_grows() -> None:
    ladder = Ladder("active")

    patience = []
    for _ in range(9):
        patience.append(ladder.patience_s(90))
        ladder.failed(Failure.DEAF)

    assert patience[:6] == [90, 90, 90, 90, 180, 360]
    assert patience[-1] == LONGEST_PATIENCE_S
    assert ladder.patience_s(3600) == 3600

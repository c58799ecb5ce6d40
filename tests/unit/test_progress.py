"""Stages and what they promise, on a clock of the test's own."""

from dataclasses import dataclass, field

import pytest

from gateway.progress import Progress, Stage

PERIOD_S = 60.0


@dataclass
class Time:
    """A clock that is set, and counts what was slept."""

    now_s: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.now_s += delay_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def progress(time: Time) -> Progress:
    return Progress(time, PERIOD_S)


def is_late(progress: Progress) -> bool:
    return bool(progress.late())


def late_after_s(progress: Progress, time: Time) -> float:
    """Return how long after now somebody is late, to the second; it is expected within an hour."""
    began_s = time.now_s
    while not progress.late():
        time.now_s += 1.0
        assert time.now_s < began_s + 3600.0
    return time.now_s - began_s


def test_a_stage_that_idles_may_be_silent_for_ever(progress: Progress, time: Time) -> None:
    progress.stage("a").idles()
    time.now_s += 1e9

    assert progress.late() == []


def test_a_stage_that_has_not_begun_is_not_late_but_silent(progress: Progress, time: Time) -> None:
    stage = progress.stage("a")
    time.now_s += 1e9

    assert progress.late() == []
    assert progress.silent() == [stage]


@pytest.mark.parametrize("frozen", ["works", "waits", "beats"])
def test_a_stage_that_is_frozen_is_late_within_a_period(
    frozen: str, progress: Progress, time: Time
) -> None:
    stage = progress.stage("a")
    if frozen == "works":
        stage.works("something")
    elif frozen == "waits":
        stage.waits(PERIOD_S / 10)
    else:
        stage.beat_s()

    assert PERIOD_S / 2 < late_after_s(progress, time) + progress.tick_s < PERIOD_S


def test_a_step_that_somebody_else_saw_counts(progress: Progress, time: Time) -> None:
    stage = progress.stage("a")
    stage.works("sending")
    time.now_s += PERIOD_S / 2
    stage.moved()

    assert late_after_s(progress, time) == pytest.approx(PERIOD_S / 2, abs=1.0)


def test_a_busy_machine_may_be_half_a_period_late(progress: Progress, time: Time) -> None:
    stage = progress.stage("a")
    stage.waits(1.0)
    time.now_s += PERIOD_S / 2

    assert progress.late() == []


def test_what_is_known_to_take_long_may_take_that_long_and_no_longer(
    progress: Progress, time: Time
) -> None:
    stage = progress.stage("a")
    stage.works_long("mending", 900.0)

    assert late_after_s(progress, time) == pytest.approx(901.0, abs=1.0)
    assert [each.doing for each in progress.late()] == ["mending"]


def test_a_long_step_is_never_given_less_time_than_any(progress: Progress, time: Time) -> None:
    stage = progress.stage("a")
    stage.works_long("quick", 1.0)
    time.now_s += PERIOD_S / 2

    assert not is_late(progress)


async def test_a_long_rest_is_slept_in_beats_and_is_never_late(
    progress: Progress, time: Time
) -> None:
    stage = progress.stage("a")
    late: list[list[Stage]] = []

    async def sleep(delay_s: float) -> None:
        await time.sleep(delay_s)
        late.append(progress.late())

    await stage.rest(900.0, sleep)

    assert sum(time.slept) == 900.0
    assert max(time.slept) < PERIOD_S / 2
    assert not any(late)


async def test_who_attends_to_something_beats_until_it_is_over(
    progress: Progress, time: Time
) -> None:
    stage = progress.stage("a")

    await stage.attend(time.sleep, lambda: time.now_s >= 1900.0)

    assert 1900.0 <= time.now_s < 1900.0 + PERIOD_S
    assert not is_late(progress)


def test_who_gives_up_is_late_until_it_speaks_again(progress: Progress) -> None:
    stage = progress.stage("a")
    stage.gives_up("deaf")
    was_late = progress.late()
    stage.idles()

    assert was_late == [stage]
    assert progress.late() == []


def test_only_those_that_stand_still_are_named(progress: Progress, time: Time) -> None:
    frozen, moving = progress.stage("frozen"), progress.stage("moving")
    frozen.works("something")
    time.now_s += PERIOD_S
    moving.works("something else")

    assert progress.late() == [frozen]


def test_who_left_is_asked_no_more(progress: Progress, time: Time) -> None:
    with progress.stage("a") as stage:
        stage.works("something")
    stage.leave()
    time.now_s += 1e9

    assert progress.late() == []
    assert progress.stages == []

"""When a sensor counts as silent, from how often it was heard."""

import random
from collections.abc import Iterable

import pytest

from gateway.drivers.advert_cadence import (
    CEILING_S,
    FLOOR_S,
    INTERVALS,
    KEPT_GAPS,
    SLEEPY_S,
    UNLEARNED_S,
    Cadence,
)


def heard(times_s: Iterable[float]) -> Cadence:
    cadence = Cadence()
    for time_s in times_s:
        cadence.hear(time_s, pauses=0)
    return cadence


def allowed_s(cadence: Cadence, last_s: float) -> float:
    silent_from_s = cadence.silent_from_s(is_sleepy=False)
    assert silent_from_s is not None
    return silent_from_s - last_s


def test_who_was_never_heard_is_not_silent() -> None:
    assert Cadence().silent_from_s(is_sleepy=False) is None


def test_as_long_as_little_is_known_a_sensor_has_a_quarter_of_an_hour() -> None:
    assert allowed_s(heard([0.0]), 0.0) == UNLEARNED_S
    assert allowed_s(heard([0.0, 1.0, 2.0]), 2.0) == UNLEARNED_S


def test_a_sensor_that_is_heard_each_second_has_a_minute() -> None:
    times_s = [float(second) for second in range(100)]

    assert allowed_s(heard(times_s), 99.0) == FLOOR_S


@pytest.mark.parametrize("interval_s", [60.0, 600.0, 3600.0])
def test_a_regular_sensor_may_miss_two_adverts(interval_s: float) -> None:
    times_s = [number * interval_s for number in range(20)]

    assert allowed_s(heard(times_s), times_s[-1]) == INTERVALS * interval_s


def test_a_sensor_of_few_adverts_a_day_has_the_ceiling() -> None:
    times_s = [number * (CEILING_S - 1) for number in range(20)]

    assert allowed_s(heard(times_s), times_s[-1]) == CEILING_S


def test_a_sensor_that_sends_bursts_is_known_by_the_time_between_them() -> None:
    times_s = [burst * 600.0 + number * 0.1 for burst in range(10) for number in range(50)]

    assert allowed_s(heard(times_s), times_s[-1]) == pytest.approx(INTERVALS * 595.1)


def test_the_first_long_gap_of_a_burst_is_borne() -> None:
    times_s = [number * 0.1 for number in range(16)] + [600.0 + n * 0.1 for n in range(50)]
    cadence = heard(times_s)

    assert allowed_s(cadence, times_s[-1]) == pytest.approx(UNLEARNED_S)


def test_one_absence_does_not_count_as_an_interval_for_long() -> None:
    before = [float(second) for second in range(100)]
    after = [10_000.0 + second for second in range(100)]

    cadence = heard([*before, *after])

    assert allowed_s(cadence, after[-1]) == UNLEARNED_S
    cadence.hear(10_000.0 + (KEPT_GAPS + 1) * 10_000.0, pauses=1)
    assert allowed_s(cadence, 10_000.0 + (KEPT_GAPS + 1) * 10_000.0) == FLOOR_S


def test_an_absence_of_a_day_is_no_gap() -> None:
    times_s = [float(second) for second in range(100)]

    cadence = heard([*times_s, 86_500.0])

    assert allowed_s(cadence, 86_500.0) == FLOOR_S


def test_a_sensor_that_becomes_faster_is_known_to_be_after_a_while() -> None:
    slow = [number * 600.0 for number in range(20)]
    fast = [slow[-1] + number * 10.0 for number in range(2 * KEPT_GAPS * 60)]

    assert allowed_s(heard([*slow, *fast]), fast[-1]) == FLOOR_S


def test_gaps_in_which_the_scanner_paused_are_not_learned() -> None:
    cadence = Cadence()
    for number in range(40):
        cadence.hear(number * 100.0, pauses=number)

    assert allowed_s(cadence, 3900.0) == FLOOR_S


def test_a_sensor_that_only_speaks_when_something_happens_has_a_day() -> None:
    cadence = heard([0.0, 1.0, 5.0])

    assert cadence.silent_from_s(is_sleepy=True) == 5.0 + SLEEPY_S


@pytest.mark.parametrize("seed", range(5))
def test_a_sensor_of_which_half_the_adverts_are_lost_stays(seed: int) -> None:
    luck = random.Random(seed)
    cadence, misses, last_s = Cadence(), 0, 0.0
    for number in range(5000):
        now_s = number * 10.0
        silent_from_s = cadence.silent_from_s(is_sleepy=False)
        if silent_from_s is not None and last_s <= silent_from_s < now_s:
            misses += 1
        if luck.random() < 0.5:
            cadence.hear(now_s, pauses=0)
            last_s = now_s

    assert misses <= 10, f"seed {seed}: called silent {misses} times in {5000 * 10 / 3600:.0f} h"

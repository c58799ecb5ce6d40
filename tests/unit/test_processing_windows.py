"""Least, greatest and mean of a window."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.processing.window import WindowState

LENGTH_S = 60.0


def results(
    numbers: Sequence[tuple[float, float]], length_s: float = LENGTH_S
) -> list[tuple[float, float, float, float]]:
    """When there was a result, and its least, mean and greatest, for pairs of time and number."""
    window = WindowState()
    return [
        (taken_s, window.result("min"), window.result("mean"), window.result("max"))
        for taken_s, number in numbers
        if window.take(number, taken_s, length_s)
    ]


def test_the_first_number_is_a_result_and_then_each_window_has_one() -> None:
    numbers = [(1000.0 + 10 * at, at) for at in range(19)]

    assert results(numbers) == [
        (1000.0, 0, 0, 0),
        (1060.0, 1, 3.5, 6),
        (1120.0, 7, 9.5, 12),
        (1180.0, 13, 15.5, 18),
    ]


def test_windows_end_on_time_although_numbers_come_irregularly() -> None:
    times = [0.0, 25.0, 59.9, 80.0, 119.0, 121.0, 170.0, 181.0]

    assert [each[0] for each in results([(taken_s, 1.0) for taken_s in times])] == [
        0.0,
        80.0,  # due since 60
        121.0,
        181.0,
    ]


def test_after_a_long_silence_a_window_begins_anew() -> None:
    before = [(0.0, 1.0), (10.0, 99.0), (20.0, 99.0)]
    after = [(3600.0, 5.0), (3630.0, 6.0), (3660.0, 7.0)]

    assert results(before + after) == [
        (0.0, 1, 1, 1),
        (3600.0, 5, 5, 5),
        (3660.0, 6, 6.5, 7),
    ]


def test_numbers_that_come_more_seldom_than_windows_end_are_results_of_their_own() -> None:
    numbers = [(at * 61.0, at) for at in range(5)]

    assert results(numbers) == [(at * 61.0, at, at, at) for at in range(5)]


def test_a_time_that_jumps_back_begins_anew() -> None:
    numbers = [(1000.0, 1.0), (1010.0, 2.0), (500.0, 3.0), (530.0, 4.0), (560.0, 5.0)]

    assert results(numbers) == [(1000.0, 1, 1, 1), (500.0, 3, 3, 3), (560.0, 4, 4.5, 5)]


@pytest.mark.parametrize(
    ("numbers", "mean"),
    [
        ([1e308, 1.5e308, 1e308], 3.5 / 3 * 1e308),
        ([-1.7e308, 1.7e308], 0.0),
        ([2**62, 2**62 + 2, 2**62 + 4], 2.0**62),
        ([0.1] * 10, 0.1),
        ([5e-324, 5e-324], 5e-324),
    ],
)
def test_a_mean_is_sane_however_large_the_numbers(numbers: list[float], mean: float) -> None:
    times = [0.0, *(10.0 + at for at in range(len(numbers) - 1)), LENGTH_S]

    last = results(list(zip(times, [0.0, *numbers], strict=True)))[-1]

    assert last[2] == pytest.approx(mean, rel=1e-12)


@given(
    st.lists(
        st.tuples(st.floats(0, 40), st.floats(allow_nan=False, allow_infinity=False)), max_size=60
    )
)
def test_each_number_is_in_one_window_and_each_result_is_right(
    steps: list[tuple[float, float]],
) -> None:
    window, numbers, taken_s = WindowState(), [], 0.0
    ends: list[float] = []
    for step_s, number in steps:
        taken_s += step_s
        numbers.append(number)
        if not window.take(number, taken_s, LENGTH_S):
            continue
        ends.append(taken_s)
        assert window.result("min") == min(numbers)
        assert window.result("max") == max(numbers)
        mean = math.fsum(number / len(numbers) for number in numbers)
        slack = 1e-12 * max(map(abs, numbers)) + 1e-300
        assert abs(window.result("mean") - mean) <= slack
        assert min(numbers) <= window.result("mean") <= max(numbers)
        numbers = []

    # No pause here is longer than a window: they end on a grid, each up to one number late.
    assert all(later > earlier for earlier, later in pairwise(ends))
    if ends:
        assert abs(len(ends) - 1 - (ends[-1] - ends[0]) / LENGTH_S) <= 1 + 1e-9
        assert taken_s - ends[-1] <= LENGTH_S

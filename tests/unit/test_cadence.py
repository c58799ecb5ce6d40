"""What is learned of sensors from their values alone: kind, and after what silence they expire."""

import random
from collections.abc import Mapping

import pytest

from gateway.cadence import CALM_LOOKS, MAX_DEVICES, MAX_SENSORS, RUNGS_S, Cadences, Habit
from gateway.model import Value

HOUR_S = 3600.0


class Learner:
    """Feeds one device, and counts what it is told."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.cadences = Cadences(self.changed.append)
        self.now_s = 1000.0

    def every(self, interval_s: float, times: int, values: Mapping[str, Value]) -> Habit:
        """Hear the same values again and again; return what is known of the first of them."""
        for _ in range(times):
            self.cadences.hear("attic", values, self.now_s)
            self.now_s += interval_s
        return self.cadences.habits("attic")[next(iter(values))]


@pytest.fixture
def learner() -> Learner:
    return Learner()


@pytest.mark.parametrize(
    ("interval_s", "silence_s"),
    [(0.01, 60), (1.0, 60), (20.0, 60), (21.0, 120), (60.0, 300), (600.0, 1800), (3600.0, 14_400)],
)
def test_silence_is_three_intervals_rounded_up(
    learner: Learner, interval_s: float, silence_s: int
) -> None:
    habit = learner.every(interval_s, max(5, round(6 / interval_s)), {"temperature": 21.5})

    assert habit == Habit("number", silence_s)


def test_before_four_gaps_nothing_is_said(learner: Learner) -> None:
    habit = learner.every(10.0, 4, {"temperature": 21.5})

    assert habit == Habit("number", None)


def test_each_sensor_has_a_rhythm_of_its_own(learner: Learner) -> None:
    for second in range(1200):
        learner.cadences.hear("attic", {"temperature": 21.5}, 1000.0 + second)
        if second % 100 == 50:
            learner.cadences.hear("attic", {"soil": 40}, 1000.5 + second)

    assert learner.cadences.habits("attic") == {
        "temperature": Habit("number", 60),
        "soil": Habit("number", 300),
    }


@pytest.mark.parametrize(
    ("value", "kind"), [(1, "number"), (0.5, "number"), (True, "flag"), ("press", "text")]
)
def test_kind_is_that_of_the_values(learner: Learner, value: Value, kind: str) -> None:
    assert learner.every(1.0, 1, {"it": value}).kind == kind


def test_what_is_now_a_number_and_now_a_text_is_a_text_for_good(learner: Learner) -> None:
    learner.every(1.0, 6, {"it": 5})
    learner.every(1.0, 1, {"it": "unknown"})

    assert learner.every(1.0, 50, {"it": 5}) == Habit("text", None)


def test_only_numbers_expire(learner: Learner) -> None:
    assert learner.every(10.0, 20, {"door": True}) == Habit("flag", None)


def test_what_comes_when_something_happens_has_no_rhythm(learner: Learner) -> None:
    seed = 5
    rng = random.Random(seed)
    for _ in range(40):
        learner.cadences.hear("attic", {"it": 1}, learner.now_s)
        learner.now_s += rng.choice([2.0, 5.0, 400.0, 3000.0])
        silence_s = learner.cadences.habits("attic")["it"].silence_s
        assert silence_s is None or silence_s >= 3 * 400, f"seed {seed}"


def test_a_slower_rhythm_is_believed_at_the_second_gap(learner: Learner) -> None:
    learner.every(10.0, 10, {"it": 1})
    learner.every(28.0, 2, {"it": 1})
    before = learner.cadences.habits("attic")["it"]
    after = learner.every(28.0, 1, {"it": 1})

    assert (before.silence_s, after.silence_s) == (60, 120)


def test_a_single_long_gap_is_an_accident(learner: Learner) -> None:
    learner.every(10.0, 10, {"it": 1})
    learner.now_s += 300

    assert learner.every(10.0, 10, {"it": 1}).silence_s == 60


def test_a_gap_in_which_the_device_was_away_does_not_count(learner: Learner) -> None:
    for _ in range(12):
        learner.every(10.0, 1, {"it": 1})
        learner.cadences.away("attic")
        learner.now_s += 500

    assert learner.cadences.habits("attic")["it"].silence_s is None


def test_a_shorter_silence_must_have_been_right_for_an_hour(learner: Learner) -> None:
    learner.every(600.0, 6, {"it": 1})
    young = learner.every(10.0, CALM_LOOKS + 10, {"it": 1})
    old = learner.every(10.0, round(HOUR_S / 10), {"it": 1})

    assert (young.silence_s, old.silence_s) == (1800, 60)


def test_changes_are_few(learner: Learner) -> None:
    """A day at 20 s with a second of jitter, where three intervals are on a rung's edge."""
    seed = 7
    rng = random.Random(seed)
    for _ in range(4320):
        learner.cadences.hear("attic", {"it": 1}, learner.now_s)
        learner.now_s += 20 + rng.uniform(-1, 1)

    assert len(learner.changed) <= 3, f"seed {seed}: {learner.changed}"


def test_a_change_is_told_once(learner: Learner) -> None:
    learner.every(10.0, 20, {"a": 1, "b": 2.5})

    assert learner.changed == ["attic", "attic"]  # what they are, and how often they come


def test_what_was_learned_is_taken_up_again(learner: Learner) -> None:
    learner.cadences.restore("attic", {"it": Habit("number", 1800)}, 0.0)
    habit = learner.every(600.0, 8, {"it": 1})

    assert habit == Habit("number", 1800)
    assert learner.changed == []


def test_what_is_known_now_is_better_than_what_was_learned_before(learner: Learner) -> None:
    learner.every(10.0, 6, {"it": 1})
    learner.cadences.restore("attic", {"it": Habit("text", None)}, learner.now_s)

    assert learner.cadences.habits("attic")["it"] == Habit("number", 60)


def test_a_forgotten_device_is_learned_anew(learner: Learner) -> None:
    learner.every(10.0, 6, {"it": 1})
    learner.cadences.forget("attic")

    assert learner.cadences.habits("attic") == {}


def test_memory_is_bounded(learner: Learner) -> None:
    for number in range(MAX_SENSORS + 10):
        learner.cadences.hear("attic", {f"key{number}": 1}, 10.0 * number)
    many = len(learner.cadences.habits("attic"))
    for number in range(MAX_DEVICES):
        learner.cadences.hear(f"device{number}", {"it": 1}, 0.0)

    assert many == MAX_SENSORS
    assert learner.cadences.habits("attic") == {}
    assert learner.cadences.habits("device0") != {}


def test_of_a_flood_as_much_is_looked_at_as_is_needed(learner: Learner) -> None:
    for number in range(10 * 2000):
        learner.cadences.hear("attic", {f"key{number % 20}": 1}, 1000.0 + number / 2000)

    assert len(learner.cadences.habits("attic")) == 20


def test_rungs_rise() -> None:
    assert list(RUNGS_S) == sorted(set(RUNGS_S))

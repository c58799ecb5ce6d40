"""What the configuration makes of a device's values."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Description, Gap, GapCause, Implausible, Readings, Sample, Sensor, Value
from gateway.processing.processor import MAX_TRACKS, Processor
from gateway.processing.rules import EVERY_OTHER, DeviceRule, SensorRule
from gateway.processing.steps import STEPS


def processor(*rules: SensorRule) -> Processor:
    return Processor({"dev": DeviceRule(rules)})


def sample(seq: int, values: Mapping[str, Value], taken_s: float | None = None) -> Sample:
    return Sample("dev", 1, seq, float(seq) if taken_s is None else taken_s, values)


def left(rules: Sequence[SensorRule], *values: Mapping[str, Value]) -> list[dict[str, Value]]:
    """What is left of samples a second apart."""
    samples = tuple(sample(seq, each) for seq, each in enumerate(values))
    return values_of(processor(*rules), *samples)


def values_of(to: Processor, *samples: Sample) -> list[dict[str, Value]]:
    records = to.process(Readings("dev", samples)).readings.records
    return [dict(record.values) for record in records if isinstance(record, Sample)]


def of_temperature(rule: SensorRule, *numbers: float) -> list[Value | None]:
    """What is left of numbers a second apart; None for nothing."""
    return [each.get("t") for each in left([rule], *({"t": number} for number in numbers))]


# Names and units.


def test_a_device_without_a_rule_is_not_touched() -> None:
    readings = Readings("other", (sample(0, {"t": 1.0}),))
    to = processor(SensorRule("t", rename="x"))

    assert to.process(readings).readings is readings
    assert "other" not in to.devices
    assert "dev" in to.devices


def test_a_renamed_sensor_has_its_name_and_the_others_stay() -> None:
    rules = [SensorRule("t", rename="temperature")]

    assert left(rules, {"t": 1.5, "h": 45}) == [{"temperature": 1.5, "h": 45}]


def test_two_sensors_may_change_names() -> None:
    rules = [SensorRule("in", rename="out"), SensorRule("out", rename="in")]

    assert left(rules, {"in": 1, "out": 2}) == [{"out": 1, "in": 2}]


def test_a_sensor_whose_name_was_given_to_another_gets_a_number() -> None:
    rules = [SensorRule("t", rename="temperature")]
    to = processor(*rules)
    description = Description(
        device="dev",
        name="",
        driver="",
        sensors=(Sensor("temperature", "K"), Sensor("t"), Sensor("temperature_2")),
    )

    described = to.describe(description)

    assert [each.key for each in described.sensors] == [
        "temperature_2",
        "temperature",
        "temperature_2_2",
    ]
    assert [each.identity for each in described.sensors] == ["temperature", "t", "temperature_2"]
    assert values_of(to, sample(0, {"t": 1, "temperature": 2, "temperature_2": 3})) == [
        {"temperature": 1, "temperature_2": 2, "temperature_2_2": 3}
    ]


def test_a_description_says_what_is_published() -> None:
    to = processor(
        SensorRule("t", rename="temperature", unit="°F", scale=1.8, offset=32.0),
        SensorRule("p", device_class="atmospheric_pressure", scale=0.01, unit="hPa"),
        SensorRule("wind", beside=("max", "mean"), window_s=60.0),
        SensorRule("h", decimals=0, deadband=1.0, refresh_s=600.0, throttle_s=5.0),
        SensorRule("q", window="mean", window_s=60.0),
    )
    description = Description(
        device="dev",
        name="n",
        driver="board",
        sensors=(
            Sensor("t", "°C", "temperature", -2),
            Sensor("p", "Pa", "pressure", 0),
            wind := Sensor("wind", "m/s", "wind_speed", -1, is_diagnostic=True),
            Sensor("h", "%", "humidity"),
            Sensor("q", exponent=0),
            Sensor("other", "x", exponent=-3),
        ),
    )

    described = to.describe(description)

    assert described.sensors == (
        Sensor("temperature", "°F", "temperature", -2, source_key="t"),
        Sensor("p", "hPa", "atmospheric_pressure", -2),
        wind,
        replace(wind, key="wind_max", source_key="wind__max", quiet_s=60.0),
        replace(wind, key="wind_mean", exponent=-2, source_key="wind__mean", quiet_s=60.0),
        Sensor("h", "%", "humidity", 0, quiet_s=605.0),
        Sensor("q", exponent=-1, quiet_s=60.0),
        Sensor("other", "x", exponent=-3),
    )
    assert (described.name, described.driver) == ("n", "board")


@pytest.mark.parametrize("kind", ["flag", "text", "event"])
def test_what_is_no_number_gets_no_windows_in_a_description(kind: str) -> None:
    to = processor(SensorRule("door", rename="gate", beside=("min",), window_s=9.0, decimals=1))
    description = Description("dev", "", "", sensors=(Sensor("door", kind=kind),))

    (described,) = to.describe(description).sensors

    assert described == Sensor("gate", kind=kind, source_key="door")


# Numbers.


@pytest.mark.parametrize(
    ("rule", "number", "result"),
    [
        (SensorRule("t", offset=0.1), 21.53, 21.63),
        (SensorRule("t", offset=-0.4), 0.4, 0.0),
        (SensorRule("t", scale=1.8, offset=32.0), 21.5, 70.7),
        (SensorRule("t", scale=-1.0), 0, 0.0),
        (SensorRule("t", decimals=1), -0.01, 0.0),
        (SensorRule("t", decimals=1), 21.56, 21.6),
        (SensorRule("t", decimals=0), 21.56, 22),
        (SensorRule("t", decimals=0), 7, 7),
        (SensorRule("t", decimals=1), 7, 7),
        (SensorRule("t", decimals=2), 21.5, 21.5),
        (SensorRule("t", scale=0.001, decimals=1), 101_325, 101.3),
    ],
)
def test_a_number_is_scaled_shifted_and_rounded(
    rule: SensorRule, number: float, result: float
) -> None:
    (value,) = of_temperature(rule, number)

    assert json.dumps(value) == json.dumps(result)


def test_what_is_no_number_stays_as_it_is() -> None:
    rule = SensorRule(
        "t", scale=2.0, low=5.0, high=6.0, throttle_s=9.0, deadband=9.0, decimals=0, rename="x"
    )

    values: list[Value] = [True, True, "open", "open"]
    assert left([rule], *({"t": value} for value in values)) == [{"x": value} for value in values]


def test_a_throttled_number_is_published_once_in_a_while() -> None:
    rule = SensorRule("t", throttle_s=3.0)

    assert of_temperature(rule, 1, 2, 3, 4, 5, 6, 7) == [1, None, None, 4, None, None, 7]


def test_a_clock_that_is_a_little_fast_does_not_halve_the_rate() -> None:
    samples = [sample(seq, {"t": seq}, seq * 9.99) for seq in range(5)]

    assert all(values_of(processor(SensorRule("t", throttle_s=10.0)), *samples))


def test_a_number_within_the_deadband_is_left_out_and_no_slow_change_is_missed() -> None:
    rule = SensorRule("t", deadband=0.1)

    numbers = [21.5, 21.55, 21.59, 21.6, 21.5, 21.45, 21.41, 21.39]
    kept = [21.5, None, None, 21.6, 21.5, None, None, 21.39]
    assert of_temperature(rule, *numbers) == kept


def test_a_deadband_does_not_mind_binary_fractions() -> None:
    assert 0.3 - 0.2 < 0.1

    assert of_temperature(SensorRule("t", deadband=0.1), 0.2, 0.3) == [0.2, 0.3]


def test_a_number_that_does_not_move_is_published_now_and_then() -> None:
    rule = SensorRule("t", deadband=1.0, refresh_s=3.0)

    assert of_temperature(rule, 5, 5, 5, 5, 5, 5, 5) == [5, None, None, 5, None, None, 5]


def test_a_jump_that_was_throttled_is_published_later() -> None:
    rule = SensorRule("t", deadband=1.0, throttle_s=3.0)

    assert of_temperature(rule, 5, 9, 9, 9, 9) == [5, None, None, 9, None]


def test_the_time_of_the_samples_counts_whenever_they_come() -> None:
    rule = SensorRule("t", throttle_s=240.0, deadband=0.5, window="max", window_s=120.0)
    samples = [sample(seq, {"t": seq}, 1e6 + 10.0 * seq) for seq in range(100)]
    at_once, one_by_one = processor(rule), processor(rule)

    backlog = values_of(at_once, *samples)

    assert backlog == [each for one in samples for each in values_of(one_by_one, one)]
    assert [each["t"] for each in backlog if each] == [0, 24, 48, 72, 96]


def test_a_rule_for_all_others_is_applied_to_each_for_itself() -> None:
    rules = [SensorRule(EVERY_OTHER, throttle_s=2.0), SensorRule("t")]

    assert left(rules, {"t": 1, "a": 1}, {"t": 2, "a": 2, "b": 5}, {"t": 3, "a": 3, "b": 6}) == [
        {"t": 1, "a": 1},
        {"t": 2, "b": 5},
        {"t": 3, "a": 3},
    ]


def test_sensors_without_end_cost_no_memory_and_lose_nothing() -> None:
    to = processor(SensorRule(EVERY_OTHER, throttle_s=1e9), SensorRule("t", rename="u"))
    many = {f"s{number}": number for number in range(MAX_TRACKS + 50)}

    first, second = values_of(to, sample(0, many), sample(1, many))

    assert first == many
    assert len(second) == 51  # t has a place of its own


def test_other_rules_let_devices_go_on_whose_rule_is_the_same() -> None:
    throttled = DeviceRule((SensorRule("t", throttle_s=100.0),))
    to = Processor({"dev": throttled, "gone": throttled})
    values_of(to, sample(0, {"t": 1}))

    to.reconfigure({"dev": throttled, "new": throttled})
    assert values_of(to, sample(1, {"t": 2})) == [{}]
    assert "gone" not in to.devices
    assert "new" in to.devices

    to.reconfigure({"dev": DeviceRule((SensorRule("t", throttle_s=99.0),))})
    assert values_of(to, sample(2, {"t": 3})) == [{"t": 3}]


# Implausible values.


def told(to: Processor, *samples: Sample) -> list[Implausible]:
    return list(to.process(Readings("dev", samples)).implausible)


def test_a_value_out_of_range_is_left_out_and_told() -> None:
    to = processor(SensorRule("t", rename="temperature", scale=0.1, low=-40.0, high=85.0))

    processed = to.process(Readings("dev", (sample(3, {"t": 8500, "h": 1}),)))

    (record,) = processed.readings.records
    assert record == sample(3, {"h": 1})
    assert processed.refused == 1
    assert processed.implausible == (
        Implausible(sample(3, {"h": 1}), "temperature", 850.0, -40.0, 85.0, 1),
    )


@pytest.mark.parametrize(
    ("low", "high", "kept"),
    [
        (0.0, None, [0, 5, 9]),
        (None, 5.0, [-1, 0, 5]),
        (0.0, 5.0, [0, 5]),
    ],
)
def test_limits_are_plausible_themselves(
    low: float | None, high: float | None, kept: list[int]
) -> None:
    rule = SensorRule("t", low=low, high=high)

    assert [each for each in of_temperature(rule, -1, 0, 5, 9) if each is not None] == kept


def test_implausible_values_are_told_at_once_then_once_a_minute_with_their_number() -> None:
    to = processor(SensorRule("t", high=5.0), SensorRule("u", high=5.0))

    events = [
        (each.sample.seq, each.sensor, each.count)
        for seq in range(130)
        for each in told(to, sample(seq, {"t": 9, "u": 9 if seq == 30 else 1}))
    ]

    assert events == [(0, "t", 1), (30, "u", 1), (60, "t", 60), (120, "t", 60)]


def test_a_result_that_no_float_holds_is_implausible() -> None:
    to = processor(SensorRule("t", scale=1e12))

    processed = to.process(Readings("dev", (sample(0, {"t": 1e300}),)))

    assert [each.value for each in processed.implausible] == [1e300]
    assert values_of(to, sample(1, {"t": 2.0})) == [{"t": 2e12}]


def test_an_implausible_value_is_in_no_window_and_moves_no_deadband() -> None:
    rule = SensorRule("t", high=5.0, beside=("max",), window_s=2.0, deadband=1.0)

    values = left([rule], {"t": 1}, {"t": 99}, {"t": 2}, {"t": 99}, {"t": 2.5})

    assert values == [{"t": 1, "t_max": 1}, {}, {"t": 2, "t_max": 2}, {}, {"t_max": 2.5}]


# Whatever comes.

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-50, 50),
)
VALUES = st.dictionaries(
    st.sampled_from(["t", "u", "v", "t_min", "x"]),
    st.one_of(NUMBERS, st.booleans(), st.text(max_size=3)),
    max_size=5,
)
LIMITS = st.one_of(st.none(), st.floats(-100, 100))
RULES = st.builds(
    SensorRule,
    source=st.just("t"),
    rename=st.sampled_from(["", "x", "u"]),
    scale=st.sampled_from([1.0, 0.1, -1.8, 1e12]),
    offset=st.sampled_from([0.0, 0.1, -32.0, 1e12]),
    low=LIMITS,
    high=LIMITS,
    window=st.sampled_from([None, "min", "max", "mean"]),
    window_s=st.sampled_from([1.0, 10.0]),
    decimals=st.sampled_from([None, 0, 1, 9]),
    throttle_s=st.sampled_from([0.0, 3.0]),
    deadband=st.sampled_from([0.0, 0.5]),
    refresh_s=st.sampled_from([1.0, 3600.0]),
)
BESIDE = st.lists(st.sampled_from(["min", "max", "mean"]), unique=True).map(tuple)
STEPS_S = st.lists(st.floats(-5, 100), min_size=12, max_size=12)


@given(st.lists(VALUES, max_size=12), STEPS_S, RULES, BESIDE, st.booleans())
def test_numbers_order_and_sense_are_kept_whatever_comes(
    values: list[dict[str, Value]],
    steps_s: list[float],
    rule: SensorRule,
    beside: tuple[str, ...],
    has_other: bool,
) -> None:
    rules = [rule]
    if has_other:
        rules.append(SensorRule(EVERY_OTHER, throttle_s=5.0, deadband=1.0))
    if beside:
        rules.append(SensorRule("v", beside=beside, window_s=5.0))  # type: ignore[arg-type]  # drawn
    taken_s = 0.0
    records: list[Sample | Gap] = []
    for seq, each in enumerate(values):
        taken_s += steps_s[seq]
        records.append(sample(seq, each, taken_s))
        if seq % 4 == 3:
            records.append(Gap("dev", 1, 100 + seq, 100 + seq, GapCause.RING_OVERFLOW, 0.0))
    calls: list[str] = []

    processed = processor(*rules).process(
        Readings("dev", tuple(records), lambda: calls.append("safe"))
    )

    out = processed.readings.records
    assert len(out) == len(records)
    for before, after in zip(records, out, strict=True):
        if isinstance(before, Gap):
            assert after is before
        else:
            assert isinstance(after, Sample)
            assert after[:4] == before[:4]
            assert len(after.values) <= len(before.values) + len(beside)
            json.dumps(dict(after.values), allow_nan=False)
            kept = sum(isinstance(value, bool | str) for value in before.values.values())
            assert kept == sum(isinstance(value, bool | str) for value in after.values.values())
    assert processed.readings.on_safe is not None
    processed.readings.on_safe()
    assert calls == ["safe"]


@given(st.lists(NUMBERS, max_size=30), RULES)
def test_what_is_published_is_in_range(numbers: list[float], rule: SensorRule) -> None:
    to = processor(rule)
    samples = tuple(sample(seq, {"t": number}) for seq, number in enumerate(numbers))

    processed = to.process(Readings("dev", samples))

    digits = 0.5 if rule.decimals == 0 else 0.05  # rounding comes later
    for record in processed.readings.records:
        assert isinstance(record, Sample)
        for value in record.values.values():
            assert isinstance(value, int | float)
            assert math.isfinite(value)
            assert rule.low is None or value >= rule.low - digits
            assert rule.high is None or value <= rule.high + digits
    published = sum(bool(record.values) for record in processed.readings.records)  # type: ignore[union-attr]  # all are samples
    assert published + processed.refused <= len(numbers)
    assert sum(each.count for each in processed.implausible) <= processed.refused


@given(st.lists(st.floats(-50, 50), max_size=40), st.lists(st.floats(0, 20), max_size=40))
def test_throttle_deadband_and_range_change_nothing_of_what_passed_them(
    numbers: list[float], steps_s: list[float]
) -> None:
    rule = SensorRule("t", low=-30.0, high=30.0, throttle_s=7.0, deadband=3.0, refresh_s=50.0)
    taken_s = 0.0
    samples = []
    for seq, (number, step_s) in enumerate(zip(numbers, steps_s, strict=False)):
        taken_s += step_s
        samples.append(sample(seq, {"t": number}, taken_s))

    once = processor(rule).process(Readings("dev", tuple(samples))).readings.records
    passed = [each for each in once if isinstance(each, Sample) and each.values]
    twice = processor(rule).process(Readings("dev", tuple(passed))).readings.records

    assert list(twice) == passed
    for before, after in itertools.pairwise(passed):
        assert after.taken_s - before.taken_s >= 7.0 * 0.95
        moved = abs(float(after.values["t"]) - float(before.values["t"]))
        assert moved >= 3.0 * 0.999 or after.taken_s - before.taken_s >= 50.0


def test_every_step_has_a_rule_that_wants_it_and_none_is_wanted_by_default() -> None:
    rules = {
        "calibrate": SensorRule("t", offset=1.0),
        "range": SensorRule("t", low=1.0),
        "windows beside": SensorRule("t", beside=("min",), window_s=1.0),
        "window": SensorRule("t", window="min", window_s=1.0),
        "round": SensorRule("t", decimals=0),
        "throttle": SensorRule("t", throttle_s=1.0),
        "deadband": SensorRule("t", deadband=1.0),
    }

    assert list(rules) == list(STEPS)
    for name, rule in rules.items():
        assert [each for each, step in STEPS.items() if step.is_wanted(rule)] == [name]
    assert not any(step.is_wanted(SensorRule("t", rename="x")) for step in STEPS.values())

"""Simulated values: the waveforms, the seed, failures on demand."""

from itertools import pairwise
from typing import Any

from tests.firmware.hosts import Host


def readings(host: Host, config: dict[str, object], count: int) -> Any:  # noqa: ANN401 - JSON
    return host.said(f"s = sensor('simulated', {config!r})\nsay([read(s) for _ in range({count})])")


def test_sine_turns_once_a_period(host: Host) -> None:
    config: dict[str, object] = {"low": 18, "high": 26, "period_s": 60, "interval_ms": 15000}

    values = readings(host, config, 5)

    assert values == [[2200], [2600], [2200], [1800], [2200]]


def test_ramp_rises_and_starts_anew(host: Host) -> None:
    config: dict[str, object] = {
        "waveform": "ramp",
        "low": 0,
        "high": 10,
        "period_s": 10,
        "interval_ms": 2500,
        "exponent": -1,
    }

    assert readings(host, config, 5) == [[0], [25], [50], [75], [0]]


def test_counter_and_constant_stand_beside_each_other(host: Host) -> None:
    config: dict[str, object] = {
        "channels": [
            {"key": "n", "waveform": "counter", "exponent": 0},
            {"key": "v", "waveform": "constant", "value": 3.3, "unit": "V"},
        ]
    }
    script = f"""
s = sensor('simulated', {config!r})
say([s.fmt, s.channels, [read(s) for _ in range(3)]])
"""

    fmt, channels, values = host.said(script)

    assert fmt == "ii"
    assert channels == [["n", "", 0, ""], ["v", "V", -2, ""]]
    assert values == [[0, 330], [1, 330], [2, 330]]


def test_random_walk_stays_in_its_range_and_moves_in_steps(host: Host) -> None:
    config: dict[str, object] = {
        "waveform": "random_walk",
        "low": 0,
        "high": 10,
        "step": 2,
        "seed": 42,
    }

    walk = [values[0] for values in readings(host, config, 200)]

    assert all(0 <= value <= 1000 for value in walk)
    steps = [abs(after - before) for before, after in pairwise(walk)]
    assert max(steps) <= 201
    assert len(set(walk)) > 100


def test_noise_stays_within_its_bounds(host: Host) -> None:
    config: dict[str, object] = {"waveform": "constant", "value": 20, "noise": 0.5, "seed": 3}

    values = [row[0] for row in readings(host, config, 100)]

    assert all(1950 <= value <= 2050 for value in values)
    assert min(values) < 1970
    assert max(values) > 2030


def test_same_seed_gives_the_same_values_and_another_gives_others(host: Host) -> None:
    def walk(seed: int) -> list[list[int]]:
        walked: list[list[int]] = readings(host, {"waveform": "random_walk", "seed": seed}, 20)
        return walked

    assert walk(7) == walk(7)
    assert walk(7) != walk(8)


def test_every_nth_reading_fails_and_no_count_is_lost(host: Host) -> None:
    config: dict[str, object] = {"waveform": "counter", "exponent": 0, "fail_every": 3}

    values = readings(host, config, 6)

    assert [row for row in values if isinstance(row, list)] == [[0], [1], [2], [3]]
    failures = [row for row in values if isinstance(row, str)]
    assert len(failures) == 2
    assert failures[0].endswith("simulated: reading 3 fails, as configured")


def test_unknown_waveform_is_refused_by_name(host: Host) -> None:
    script = """
try:
    sensor('simulated', {'waveform': 'square'})
except ValueError as e:
    say(str(e))
"""

    assert host.said(script) == (
        "simulated: waveform square is none of sine, ramp, random_walk, constant, counter"
    )

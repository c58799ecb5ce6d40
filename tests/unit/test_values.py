"""The values at the bottom of the house: slugs, clocks, backoff, histograms."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import Backoff
from gateway.clock import TimeFormat
from gateway.model import MAX_SLUG, RESERVED_DEVICES, device_slug, slug
from gateway.status import MAX_DEVICES, Histogram, Status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Greenhouse", "greenhouse"),
        ("esp32-AABBCC", "esp32-aabbcc"),
        ("living room/+#", "living_room"),
        ("Küche", "kuche"),
        ("Über Früh/stück +#", "uber_fruh_stuck"),
        ("Straße", "strasse"),
        ("Ångström ½", "angstrom_1_2"),
        ("Garage №1", "garage_no1"),
        ("厨房", "unnamed"),
        ("///", "unnamed"),
        ("", "unnamed"),
        ("a" * 200, "a" * MAX_SLUG),
    ],
)
def test_slug_keeps_only_what_a_topic_level_may_hold(text: str, expected: str) -> None:
    assert slug(text) == expected


@given(st.text())
def test_a_slug_never_holds_a_wildcard_and_is_its_own_slug(text: str) -> None:
    result = slug(text)

    assert 1 <= len(result) <= MAX_SLUG
    assert not set(result) & set("+#/ $\x00")
    assert slug(result) == result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Living Room", "living_room"),
        ("Status", "status_device"),
        (" health/", "health_device"),
        ("request", "request_device"),
        ("response", "response_device"),
        ("response_device", "response_device"),
        ("requests", "requests"),
    ],
)
def test_a_device_never_takes_a_topic_of_the_gateway(text: str, expected: str) -> None:
    assert device_slug(text) == expected


@given(st.text() | st.sampled_from(sorted(RESERVED_DEVICES)))
def test_a_device_slug_is_a_slug_and_its_own_device_slug(text: str) -> None:
    result = device_slug(text)

    assert slug(result) == device_slug(result) == result


@given(st.floats(min_value=0, max_value=4e9))
def test_times_are_written_to_the_millisecond(unix_s: float) -> None:
    text = TimeFormat().text(unix_s)

    parsed = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs(parsed.timestamp() - unix_s) <= 0.00051
    assert len(text) == len("2026-11-22T07:00:00.123Z")


def test_time_format_does_not_keep_a_stale_second() -> None:
    time_format = TimeFormat()

    texts = [time_format.text(unix_s) for unix_s in (0.9994, 0.9996, 0.5, 1_795_331_696.123)]

    assert texts == [
        "1970-01-01T00:00:00.999Z",
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:00.500Z",
        "2026-11-22T07:14:56.123Z",
    ]


def test_backoff_grows_to_its_cap_and_starts_over_after_reset() -> None:
    backoff = Backoff(base_s=1.0, cap_s=8.0, rng=random.Random(3))

    delays_s = [backoff.next_delay_s() for _ in range(2000)]
    backoff.reset()

    assert all(d <= min(8.0, 2.0**attempt) for attempt, d in enumerate(delays_s[:9]))
    assert max(delays_s) > 7.9
    assert backoff.next_delay_s() <= 1.0


@given(st.lists(st.floats(min_value=1e-6, max_value=1000), min_size=1, max_size=300))
def test_histogram_quantiles_are_within_a_quarter_above_the_true_value(values: list[float]) -> None:
    histogram = Histogram(0.0001)
    for value in values:
        histogram.record(value)

    for share in (0.5, 0.99, 1.0):
        rank = max(1, -(-len(values) * share // 1))
        true = sorted(values)[int(rank) - 1]
        assert true <= histogram.quantile(share) * 1.000001
        assert histogram.quantile(share) <= max(true * 1.2501, 0.000125)


def test_an_empty_histogram_says_zero() -> None:
    assert Histogram(0.001).quantile(0.99) == 0.0


def test_the_device_table_is_bounded_and_spares_those_online() -> None:
    status = Status()
    status.device("kept").online = True

    for number in range(MAX_DEVICES + 10):
        status.device(f"device{number}")

    assert len(status.devices) == MAX_DEVICES
    assert "kept" in status.devices

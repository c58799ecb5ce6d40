"""The tables of device classes, against what Home Assistant's releases take."""

from typing import Any

import pytest

from gateway.mqtt.homeassistant import classes
from tests.support.homeassistant_rules import RELEASES

BOTH = pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)


@BOTH
def test_every_unit_of_ours_is_taken_with_its_device_class(release: dict[str, Any]) -> None:
    spellings = release["other_spellings"]
    for device_class, units in classes.UNITS.items():
        taken = {"" if unit is None else unit for unit in release["units"]["sensor"][device_class]}
        assert {spellings.get(unit, unit) for unit in units} <= taken, device_class
        assert device_class in release["device_classes"]["number"], device_class


def test_no_unit_that_both_releases_take_is_missing() -> None:
    oldest, newest = (RELEASES[each] for each in sorted(RELEASES))
    rare = {"EB", "EiB", "YB", "YiB", "ZB", "ZiB"}
    for device_class, units in oldest["units"]["sensor"].items():
        later = newest["units"]["sensor"][device_class]
        spellings = newest["other_spellings"]
        both = {"" if u is None else u for u in units if spellings.get(u, u) in later} - rare
        if device_class not in {"energy_distance", "temperature_delta"}:
            assert both <= classes.UNITS[device_class], device_class


@BOTH
def test_every_state_class_of_ours_goes_with_its_device_class(release: dict[str, Any]) -> None:
    for device_class, units in classes.UNITS.items():
        for unit in units:
            state_class = classes.state_class_for("it", device_class, unit)
            assert state_class in release["state_classes_of"][device_class], device_class


@BOTH
def test_every_other_class_of_ours_is_known(release: dict[str, Any]) -> None:
    known = release["device_classes"]

    assert set(known["binary_sensor"]) >= classes.FLAGS
    assert set(known["sensor"]) >= classes.MOMENTS
    assert set(known["switch"]) >= classes.SWITCHES
    assert set(known["button"]) >= classes.BUTTONS


@pytest.mark.parametrize(
    ("key", "device_class", "unit", "state_class"),
    [
        ("energy", "energy", "kWh", "total_increasing"),
        ("water", "water", "L", "total_increasing"),
        ("gas", "gas", "m³", "total_increasing"),
        ("volume", "volume", "L", "total_increasing"),
        ("count", "", "", "total_increasing"),
        ("rain_count", "", "", "total_increasing"),
        ("pulses", "", "", "total_increasing"),
        ("temperature", "temperature", "°C", "measurement"),
        ("power", "power", "W", "measurement"),
        ("wind", "wind_direction", "°", "measurement_angle"),
        ("uv_index", "", "", "measurement"),
        ("count", "", "rpm", "measurement"),
        ("countess", "", "", "measurement"),
    ],
)
def test_statistics_sum_what_counts_up_and_average_the_rest(
    key: str, device_class: str, unit: str, state_class: str
) -> None:
    assert classes.state_class_for(key, device_class, unit) == state_class


@pytest.mark.parametrize(
    ("given", "device_class", "unit"),
    [
        ("μg/m³", "pm25", "µg/m³"),
        ("m3", "water", "m³"),
        ("lux", "illuminance", "lx"),
        ("C", "temperature", "°C"),
        ("C", "", "C"),
        ("F", "voltage", "F"),
        ("l", "volume", "L"),
    ],
)
def test_units_are_spelt_anew_only_where_the_class_says_what_they_mean(
    given: str, device_class: str, unit: str
) -> None:
    assert classes.unit_for(given, device_class) == unit


def test_a_class_is_left_out_where_the_unit_does_not_fit() -> None:
    assert classes.class_for("temperature", "V") == ""
    assert classes.class_for("temperature", "") == ""
    assert classes.class_for("temperature", "°C") == "temperature"
    assert classes.class_for("unheard_of", "V") == ""

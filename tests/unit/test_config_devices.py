"""`[[device]]` and `[[device.sensor]]`: what is taken, and what is said of what is not."""

import tomllib
from pathlib import Path

import pytest

from gateway.cli.check_config import effective_toml
from gateway.config.device_models import DeviceSettings, SensorSettings
from gateway.config.loader import load
from gateway.config.models import Settings
from gateway.errors import ConfigError
from gateway.processing.rules import EVERY_OTHER, DeviceRule, SensorRule
from gateway.wiring import processing_rules


def written(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[str]:
    path = written(folder, text)
    with pytest.raises(ConfigError) as failure:
        load(path)
    return str(failure.value).replace(str(path), "F").split("\n")


def device(folder: Path, text: str) -> DeviceSettings:
    (found,) = load(written(folder, text)).device
    return found


def sensor(folder: Path, text: str) -> SensorSettings:
    (found,) = device(folder, f'[[device]]\nid = "a"\n[[device.sensor]]\n{text}').sensor
    return found


def test_a_device_needs_nothing_but_its_key(tmp_path: Path) -> None:
    found = device(tmp_path, '[[device]]\nid = "esp32-1"\n')

    assert (found.enabled, found.name, found.sensor) == (True, None, ())
    assert found.level == "esp32-1"


def test_a_name_makes_the_level_of_its_topics(tmp_path: Path) -> None:
    found = device(tmp_path, '[[device]]\nid = "esp32-1"\nname = "Living Room"\n')

    assert found.level == "living_room"


def test_a_sensor_is_named_as_the_device_calls_it(tmp_path: Path) -> None:
    found = sensor(tmp_path, 'key = "Temp A"\n')

    assert found.source == "temp_a"
    assert found.published == ("temp_a",)


def test_a_window_in_quotes_is_what_the_sensor_publishes(tmp_path: Path) -> None:
    found = sensor(tmp_path, 'key = "t"\nwindow = "mean"\nwindow_s = 60\n')

    assert (found.window, found.beside, found.published) == ("mean", (), ("t",))


def test_a_list_of_windows_adds_a_sensor_for_each(tmp_path: Path) -> None:
    text = 'key = "t"\nrename = "wind"\nwindow = ["max", "min"]\nwindow_s = 60\n'

    found = sensor(tmp_path, text)

    assert found.beside == ("min", "max")
    assert found.published == ("wind", "wind_min", "wind_max")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('id = "My Board"\n', 'in the key of a device; "my_board" would do, got "My Board"'),
        ('id = "status"\n', 'device[0].id: no device is called so; "status_device" would do'),
        ('id = ""\n', "device[0].id: expected text of 1 to 64 characters"),
        ('nam = "x"\nid = "a"\n', "F:2: device[0].nam: unknown key `nam`: did you mean `name`?"),
        ('name = "x"\n', "F:1: device[0].id: missing. The device, as the first part of the ids"),
        ('id = "a"\nenabled = "no"\n', "F:3: device[0].enabled: expected true or false"),
        (
            'id = "a"\n[[device.sensor]]\nkey = "t"\nwindow = ["foo", "max"]\n',
            'a further sensor for each, got ["foo", "max"]',
        ),
        ('id = "a"\nsensor = 5\n', "F:3: device[0].sensor: expected a list of at most 64"),
    ],
)  # fmt: skip
def test_a_wrong_device_is_told(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"[[device]]\n{text}")

    assert problem in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('key = "t"\nrename = "Temp A"\n', 'rename: only a-z, 0-9, _ and - may be in it; "temp_a"'),
        ('key = "t"\nrename = "time"\n', "rename: id, time, time_quality stand in every sample"),
        ('key = "t"\nlow = 5\nhigh = 5.0\n', "F:6: device[0].sensor[0].high: must be greater than"),
        ('key = "t"\nhigh = inf\n', "high: expected a number -1000000000000..1000000000000"),
        ('key = "t"\nscale = 0\n', "F:5: device[0].sensor[0].scale: it would make every number 0"),
        ('key = "t"\nscale = "2"\n', 'got "2": write it without quotes'),
        ('key = "t"\nwindow_s = 60\n', "window: window_s needs to know what to publish: window"),
        ('key = "t"\nwindow = "max"\n', "F:5: device[0].sensor[0].window: needs its length in sec"),
        ('key = "t"\nwindow_s = 9\nwindow = "avg"\n', 'window: expected "min", "max" or "mean"'),
        ('key = "t"\nwindow_s = 9\nwindow = []\n', 'window: expected "min", "max" or "mean"'),
        ('key = "t"\nwindow_s = 9\nwindow = [["min"]]\n', 'expected "min", "max" or "mean"'),
        ('key = "t"\nwindow_s = 9\nwindow = ["min", "min"]\n', "window: each once"),
        ('key = "t"\ndeadband = -1\n', "deadband: expected a number 0..1000000000000, got -1"),
        ('key = "t"\nthrottle = 5\n', "unknown key `throttle`: did you mean `throttle_s`?"),
        ('key = "*"\nunit = "x"\n', 'unit: "*" is for many sensors, and they differ in this'),
        ('key = "*"\nwindow_s = 9\nwindow = ["min"]\n', 'window: "*" takes one in quotes, no list'),
        ('key = "t"\n[[device.sensor]]\nkey = "T"\n', "device[0].sensor: t is there twice"),
        (
            'key = "t"\nrename = "u"\n[[device.sensor]]\nkey = "u"\n',
            "device[0].sensor: two sensors would be published as u: rename one of them",
        ),
        (
            'key = "t"\nwindow_s = 9\nwindow = ["min"]\n[[device.sensor]]\nkey = "t_min"\n',
            "two sensors would be published as t_min",
        ),
        (
            f'key = "{"t" * 61}"\nwindow_s = 9\nwindow = ["min"]\n',
            "_min is longer than 64 characters: rename the sensor",
        ),
    ],
)
def test_a_wrong_sensor_is_told(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(tmp_path, f'[[device]]\nid = "a"\n[[device.sensor]]\n{text}')

    assert problem in found


def test_two_sensors_may_change_names(tmp_path: Path) -> None:
    text = """
[[device]]
id = "a"
[[device.sensor]]
key = "in"
rename = "out"
[[device.sensor]]
key = "out"
rename = "in"
"""
    assert [each.published for each in device(tmp_path, text).sensor] == [("out",), ("in",)]


def test_what_is_in_force_can_be_read_back(tmp_path: Path) -> None:
    text = """
[[device]]
id = "a"
[[device.sensor]]
key = "t"
low = 1
window = ["min"]
window_s = 9
[[device.sensor]]
key = "*"
throttle_s = 5.0
[[device]]
id = "b"
enabled = false
"""
    settings = load(written(tmp_path, text))

    shown = tomllib.loads("\n".join(effective_toml(settings)))

    assert Settings.model_validate({"device": shown["device"]}).device == settings.device


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ('id = "a"\n', "a is there twice"),
        ('id = "b"\nname = "Hall"\n', 'a and b would both have the topics of "hall"'),
        ('id = "hall"\n', 'hall and a would both have the topics of "hall"'),
        ('id = "hall"\nname = "b"\n', 'hall and a would both have the topics of "hall"'),
    ],
)
def test_devices_must_differ(tmp_path: Path, second: str, problem: str) -> None:
    (found,) = problems(tmp_path, f'\n[[device]]\nid = "a"\nname = "hall"\n[[device]]\n{second}')

    assert found.startswith("F:2: device: ")
    assert problem in found


def test_every_key_of_a_sensor_reaches_its_rule(tmp_path: Path) -> None:
    text = """
[[device]]
id = "a"
[[device.sensor]]
key = "T 1"
rename = "temperature"
unit = "°F"
device_class = "x"
scale = 1.8
offset = 32
low = -40
high = 185
window = ["max", "min"]
window_s = 60
decimals = 1
throttle_s = 5
deadband = 0.5
refresh_s = 600
[[device.sensor]]
key = "*"
window = "mean"
window_s = 10
[[device]]
id = "b"
"""
    rules = processing_rules(load(written(tmp_path, text)))

    assert rules == {
        "a": DeviceRule(
            (
                SensorRule(
                    source="t_1",
                    rename="temperature",
                    unit="°F",
                    device_class="x",
                    scale=1.8,
                    offset=32.0,
                    low=-40.0,
                    high=185.0,
                    beside=("min", "max"),
                    window_s=60.0,
                    decimals=1,
                    throttle_s=5.0,
                    deadband=0.5,
                    refresh_s=600.0,
                ),
                SensorRule(source=EVERY_OTHER, window="mean", window_s=10.0),
            )
        )
    }

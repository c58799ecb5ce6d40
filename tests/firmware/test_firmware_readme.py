"""device_firmware/README.md says what the firmware does."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from tests.firmware.board_process import Bench
from tests.firmware.model_gateway import STREAM
from tests.firmware.under_test import FIRMWARE, load

README = (FIRMWARE / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match[1]


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_example_of_a_configuration_has_no_mistake() -> None:
    problems: list[str] = []

    config = load("board.config").check(json.loads(block("json")), problems)

    assert problems == []
    assert [part["name"] for part in config["sensors"]] == ["climate", "heap"]


def test_every_key_of_the_configuration_is_described() -> None:
    described = re.findall(r"^\| `(\w+)` \|", section("config.json"), re.MULTILINE)

    config = load("board.config").check({"bthome": True}, [])
    extra = config.pop("extra")
    assert sorted(described) == sorted([*config, *extra])


def test_every_command_is_described() -> None:
    for path in (FIRMWARE / "commands").glob("*.py"):
        assert f"`{path.stem}`" in section("Commands"), path.name


def test_every_kind_of_actuator_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+)` \|", section("Actuators"), re.MULTILINE))

    assert described == {path.stem for path in (FIRMWARE / "actuators").glob("*.py")} | {"kind"}


def test_the_files_named_in_the_tables_are_there() -> None:
    for name in re.findall(
        r"`((?:main|board|sensors|actuators|commands|host)[\w/]*(?:\.py|/))`", README
    ):
        if name != "sensors/soil.py":
            assert (FIRMWARE / name).exists(), name


def test_the_example_of_a_sensor_delivers(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    firmware = tmp_path_factory.mktemp("readme") / "device_firmware"
    shutil.copytree(FIRMWARE, firmware, ignore=shutil.ignore_patterns("__pycache__"))
    (firmware / "sensors" / "soil.py").write_text(block("python"), encoding="utf-8")
    (bench.flash / "fakes.json").write_text(json.dumps({"adc": {"34": 1_200_000}}))
    example = replace(bench, firmware=firmware)
    example.configure(sensors=[{"kind": "soil", "pin": 34, "interval_ms": 50}])

    with example.board() as board:
        board.await_records(3)
        errors = board.command("info")["ok"]["errors"]

    assert errors == {}
    (stream,) = (frame.json for frame in board.of_kind(STREAM))
    assert stream["c"] == [["soil_moisture", "%", -1, "moisture"]]

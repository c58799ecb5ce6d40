"""board/config.py: a mistake costs the entry it is in, and is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.under_test import load

config = load("board.config")

DEFAULTS = {
    "name": "",
    "links": [{"kind": "stdio"}],
    "led": None,
    "ring_bytes": 8192,
    "durability": "ram",
    "flash_bytes": 524288,
    "watchdog_s": 30,
    "sensors": [],
    "actuators": [],
    "require_signature": None,
}

KEY = "231d39c1d7cc1ab1aee224cd096db932"


def check(given: Any) -> tuple[dict[str, Any], list[str]]:  # noqa: ANN401 - any JSON
    problems: list[str] = []
    return config.check(given, problems), problems


def test_nothing_given_means_the_defaults() -> None:
    assert check({}) == (DEFAULTS, [])


def test_what_is_given_is_taken() -> None:
    given = {
        "name": "greenhouse",
        "links": ["stdio", {"kind": "uart", "id": 1, "tx": 17, "rx": 16}],
        "led": 2,
        "ring_bytes": 16384,
        "durability": "batch",
        "flash_bytes": 1048576,
        "watchdog_s": 0,
        "sensors": [{"kind": "bme280", "name": "climate", "interval_ms": 500, "address": 118}],
        "actuators": [{"kind": "relay", "name": "pump", "pin": 5}],
        "require_signature": "0123456789abcdef" * 4,
    }

    taken, problems = check(json.loads(json.dumps(given)))

    assert problems == []
    links = [{"kind": "stdio"}, given["links"][1]]  # type: ignore[index]
    assert taken == {**given, "links": links}


def test_what_is_given_of_adverts_and_sleep_is_taken() -> None:
    given = {"bthome": True, "ble_key": KEY, "sleep": {"interval_s": 300, "awake_s": 8}}

    taken, problems = check(json.loads(json.dumps(given)))

    assert problems == []
    assert taken["extra"] == {**given, "ble_key": bytes.fromhex(KEY)}


def test_a_part_is_named_after_its_kind_and_read_every_second() -> None:
    taken, _ = check({"sensors": [{"kind": "heap"}]})

    assert taken["sensors"] == [{"kind": "heap", "name": "heap", "interval_ms": 1000}]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([1], "config is not an object in { }"),
        (None, "config is not an object in { }"),
        ({"nmae": "x"}, "unknown key 'nmae'"),
        ({"name": 5}, "name must be a text of at most 32 bytes"),
        ({"name": "ü" * 17}, "name must be a text of at most 32 bytes"),
        ({"ring_bytes": "big"}, "ring_bytes must be a whole number from 512 to 262144"),
        ({"ring_bytes": 511}, "ring_bytes must be a whole number from 512 to 262144"),
        ({"ring_bytes": True}, "ring_bytes must be a whole number from 512 to 262144"),
        ({"watchdog_s": 2.5}, "watchdog_s must be a whole number from 0 to 3600"),
        ({"sensors": 5}, "sensors must be a list"),
        ({"sensors": [5]}, "sensors[0]: kind must name a module in sensors/"),
        ({"sensors": [{}]}, "sensors[0]: kind must name a module in sensors/"),
        ({"sensors": [{"kind": ""}]}, "sensors[0]: kind must name a module in sensors/"),
        ({"sensors": [{"kind": "../x"}]}, "sensors[0]: kind must name a module in sensors/"),
        ({"sensors": [{"kind": "a.b"}]}, "sensors[0]: kind must name a module in sensors/"),
        ({"actuators": [{"kind": "Relay"}]}, "actuators[0]: kind must name a module in actuators/"),
        (
            {"sensors": [{"kind": "heap", "name": ""}]},
            "sensors[0]: name must be a text of 1 to 32 bytes",
        ),
        (
            {"sensors": [{"kind": "heap"}, {"kind": "heap"}]},
            "sensors[1]: the name heap is taken: give it another",
        ),
        (
            {"sensors": [{"kind": "heap", "interval_ms": 0}]},
            "sensor heap: interval_ms must be a whole number from 1 to 86400000",
        ),
        ({"durability": "each"}, "durability must be ram or batch"),
        ({"durability": None}, "durability must be ram or batch"),
        (
            {"flash_bytes": 4096},
            "flash_bytes must be a whole number from 16384 to 2097152",
        ),
        ({"links": 5}, "no usable link: stdio is used"),
        ({"links": []}, "no usable link: stdio is used"),
        ({"bthome": 1}, "bthome must be true or false"),
        ({"ble_key": KEY[:30]}, "ble_key must have 32 hex digits: no readings in adverts"),
        ({"ble_key": "x" + KEY[1:]}, "ble_key must have 32 hex digits: no readings in adverts"),
        ({"ble_key": 7}, "ble_key must have 32 hex digits: no readings in adverts"),
        ({"sleep": 60}, "sleep must be an object with interval_s and awake_s"),
        (
            {"sleep": {"interval_s": 0}},
            "sleep: interval_s must be a whole number from 1 to 86400",
        ),
        (
            {"require_signature": "x" * 64},
            "require_signature must have 64 hex digits: no firmware is taken",
        ),
        (
            {"require_signature": "0123456789abcdef" * 3},
            "require_signature must have 64 hex digits: no firmware is taken",
        ),
        (
            {"require_signature": "0" * 31 + "zz" + "0" * 31},
            "require_signature must have 64 hex digits: no firmware is taken",
        ),
        ({"links": ["pigeon", "stdio"]}, "a link's kind must be stdio, uart or ble"),
    ],
)
def test_a_mistake_is_named(given: object, problem: str) -> None:
    taken, problems = check(given)

    assert problems == [problem]
    assert taken["links"] == [{"kind": "stdio"}]


def test_a_link_of_which_nobody_knows_whether_it_is_sealed_is() -> None:
    taken, problems = check({"links": [{"kind": "stdio", "sealed": "yes"}]})

    assert taken["links"] == [{"kind": "stdio", "sealed": True}]
    assert problems == ["sealed must be true or false: it is true"]


def test_a_mistake_costs_its_own_entry_only() -> None:
    taken, problems = check(
        {"sensors": [{"kind": "a.b"}, {"kind": "heap"}, 7, {"kind": "adc"}], "ring_bytes": -1}
    )

    assert [part["name"] for part in taken["sensors"]] == ["heap", "adc"]
    assert taken["ring_bytes"] == 8192
    assert len(problems) == 3


@pytest.mark.parametrize(
    "text", ["", "sensors: none", '{"sensors": []', '{"name": "a \\" } {"', "\x00", '{"a":1}}']
)
def test_a_file_that_is_not_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)

    taken, problems = config.load(str(path))

    assert taken == DEFAULTS
    assert problems == [f"{path} is not JSON: no sensors"]


def test_braces_in_a_text_are_text(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"name": "a \\" } { \\\\"}')

    assert config.load(str(path))[1] == []


@pytest.mark.parametrize("key", [KEY[:30], "x" + KEY[1:], 7, None, KEY + "00"])
def test_a_wrong_key_never_means_that_readings_are_told_in_the_open(key: object) -> None:
    taken, problems = check({"ble_key": key})

    assert taken["extra"]["ble_key"] is None
    assert len(problems) == 1


def test_how_a_board_sleeps_need_not_be_said_in_full() -> None:
    assert check({"sleep": {}})[0]["extra"]["sleep"] == {"interval_s": 60, "awake_s": 5}

"""The questions about a new board, and what becomes of the answers."""

from collections.abc import Sequence

import pytest

from gateway.bundle.settings import kinds, problems
from gateway.errors import ConfigError
from gateway.flash.wiring import KINDS, ask_settings, read_number


class Somebody:
    """Answers in order, and what is usual from then on."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.heard: list[str] = []

    def ask(self, question: str, default: str) -> str:
        self.heard.append(question)
        return self.answers.pop(0) if self.answers else default


def test_every_kind_of_sensor_can_be_asked_for() -> None:
    assert set(KINDS) == set(kinds("sensors"))


@pytest.mark.parametrize(("platform", "sda"), [("esp32", 21), ("rp2", 4)])
def test_what_is_usual_depends_on_the_board(platform: str, sda: int) -> None:
    somebody = Somebody(["Gewächshaus", "bme280", "climate", "", "", "", "", "5"])

    config = ask_settings(platform, somebody.ask, somebody.heard.append)

    assert config["name"] == "Gewächshaus"
    (sensor,) = config["sensors"]
    assert sensor["bus"] == {"i2c": 0, "sda": sda, "scl": sda + 1}
    assert (sensor["kind"], sensor["name"], sensor["address"]) == ("bme280", "climate", 0x76)
    assert sensor["interval_ms"] == 5000
    assert problems(config) == []


def test_two_sensors_of_a_kind_get_names_of_their_own() -> None:
    somebody = Somebody(["", "dht22", "", "", "", "dht22", "", "", "", ""])

    config = ask_settings("esp32", somebody.ask, somebody.heard.append)

    assert len({sensor["name"] for sensor in config["sensors"]}) == 2
    assert problems(config) == []


def test_what_is_no_answer_is_asked_again() -> None:
    somebody = Somebody(["", "bme820", "adc", "", "x", "99", "0x20", "10", ""])

    config = ask_settings("esp32", somebody.ask, somebody.heard.append)

    assert "there is no kind 'bme820'" in somebody.heard
    assert "  'x' is no whole number" in somebody.heard
    assert "  99 is not from 0 to 60" in somebody.heard
    assert config["sensors"][0]["pin"] == 0x20
    with pytest.raises(ConfigError, match="not from 0 to 1"):
        read_number("2", 1)

"""What has to be asked about a sensor before a board can read it: its pins, as a rule."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import ConfigError

PICO: Final = "rp2"
"""sys.platform of a board with a chip of Raspberry Pi; all others have an ESP32's usual pins."""

MAX_PIN: Final = 60


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to know."""

    key: str
    """Of the sensor's entry in config.json; `bus.sda` is `sda` in the object `bus`."""
    text: str
    default: int
    pico_default: int
    highest: int = MAX_PIN

    def default_on(self, platform: str) -> int:
        """Return what is usual on that kind of board."""
        return self.pico_default if platform == PICO else self.default


def _pin(number: int, pico: int) -> tuple[Question, ...]:
    return (Question("pin", "data pin", number, pico),)


def _i2c(address: int) -> tuple[Question, ...]:
    return (
        Question("bus.i2c", "I2C bus", 0, 0, 1),
        Question("bus.sda", "SDA pin", 21, 4),
        Question("bus.scl", "SCL pin", 22, 5),
        Question("address", "I2C address", address, address, 0x77),
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of sensor."""

    summary: str
    questions: tuple[Question, ...] = ()


KINDS: Final[Mapping[str, Kind]] = {
    "bme280": Kind("temperature, humidity, pressure (I2C)", _i2c(0x76)),
    "sht3x": Kind("temperature, humidity (I2C)", _i2c(0x44)),
    "ds18x20": Kind("temperature probes on one wire", _pin(4, 4)),
    "dht22": Kind("temperature, humidity on one wire", _pin(15, 15)),
    "adc": Kind("a voltage", (Question("pin", "analogue pin", 34, 26),)),
    "pulse": Kind("pulses: meter, rain gauge", _pin(5, 5)),
    "chip_temperature": Kind("the chip's own temperature"),
    "heap": Kind("free memory and uptime"),
    "simulated": Kind("made-up values, without hardware"),
}
"""By what the firmware calls them. Addresses: the datasheets' defaults."""

Ask = Callable[[str, str], str]
"""Takes a question and what is meant by no answer; returns the answer."""

_INTERVAL_S = 10
_MAX_INTERVAL_S = 86_400


def ask_settings(platform: str, ask: Ask, say: Callable[[str], None]) -> dict[str, Any]:
    """Return a board's config.json as somebody answers the questions."""
    config: dict[str, Any] = {}
    if name := ask("name of the board, as people call it", "").strip():
        config["name"] = name
    say("kinds of sensors:")
    for kind, about in KINDS.items():
        say(f"  {kind:17} {about.summary}")
    sensors: list[dict[str, Any]] = []
    while True:
        more = "another sensor" if sensors else "sensor"
        kind = ask(f"{more} (nothing: no more)", "").strip()
        if not kind:
            break
        if kind not in KINDS:
            say(f"there is no kind {kind!r}")
            continue
        sensors.append(_ask_sensor(kind, [each["name"] for each in sensors], platform, ask, say))
    config["sensors"] = sensors
    return config


def _ask_sensor(
    kind: str, taken: list[str], platform: str, ask: Ask, say: Callable[[str], None]
) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": kind}
    usual = kind
    while usual in taken:
        usual = f"{kind}_{taken.count(kind) + len(taken)}"
    while (name := ask("  its name", usual).strip() or usual) in taken:
        say(f"  {name} is taken")
    entry["name"] = name
    for question in KINDS[kind].questions:
        number = _ask_number(
            question.text, question.default_on(platform), question.highest, ask, say
        )
        *sections, key = question.key.split(".")
        below = entry
        for section in sections:
            below = below.setdefault(section, {})
        below[key] = number
    seconds = _ask_number("seconds between readings", _INTERVAL_S, _MAX_INTERVAL_S, ask, say)
    entry["interval_ms"] = max(seconds, 1) * 1000
    return entry


def _ask_number(text: str, default: int, highest: int, ask: Ask, say: Callable[[str], None]) -> int:
    while True:
        answer = ask(f"  {text}", str(default)).strip() or str(default)
        try:
            return read_number(answer, highest)
        except ConfigError as exc:
            say(f"  {exc}")


def read_number(text: str, highest: int) -> int:
    """Return a whole number from 0 to `highest`, also as 0x76.

    Raises:
        ConfigError: it is none.
    """
    try:
        number = int(text, 0)
    except ValueError as exc:
        raise ConfigError(f"{text!r} is no whole number") from exc
    if not 0 <= number <= highest:
        raise ConfigError(f"{number} is not from 0 to {highest}")
    return number

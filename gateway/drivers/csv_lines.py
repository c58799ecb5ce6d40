"""Boards that print CSV (`21.5,40`) or key=value (`t=21.5 h=40`) lines; configured, never guessed.

Numbers and booleans are taken as they are; a field that is empty, `nan` or `null` is no value.
Words are values of key=value lines only, and not where a number came before: that is damage.
"""

import re
from typing import Literal

from gateway.drivers.text_device import (
    INT_LIMIT,
    MAX_SENSORS,
    TextDevice,
    excerpt,
    printable,
)
from gateway.model import (
    RESERVED_KEYS,
    Event,
    Fault,
    Readings,
    Sample,
    Sensor,
    Value,
    device_slug,
    slug,
)
from gateway.protocol.delivery import DeliveryBook

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(\.[0-9]{0,40})?|(\.[0-9]{1,40}))([eE][+-]?[0-9]{1,3})?")
"""A decimal number; an integer leaves groups 1 to 3 empty. Unlike float(), no `1_0`, no `inf`."""

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.:+-]{0,63}")

_NO_VALUE = frozenset({"", "nan", "null", "none"})
"""What boards print for a quantity they could not measure; compared in lower case."""

_BOOLEANS = {"true": True, "false": False}


class CsvLines:
    """Reads the CSV or key=value lines of one port; never raises on what a board may send.

    The first line after opening may be torn, and half a number is a number: it is never used.
    """

    def __init__(  # noqa: PLR0913  # an identity and a format
        self,
        port_name: str,
        device_name: str | None,
        run: int,
        *,
        columns: tuple[Sensor, ...],
        separator: str = ",",
        kind: Literal["csv", "key_value"] = "csv",
        book: DeliveryBook | None = None,
    ) -> None:
        """Take `columns` in the order of the line; for key=value they add unit and device class.

        A column with a reserved key, such as `time`, is passed over.
        A separator of one blank stands for any run of blanks. `run` becomes the boot number and
        must differ at every opening of the port, because samples are numbered from 0 again.
        If `book` has the device on another port, it is refused until that port lets go of it; None
        where there is no other port.
        """
        self._book = DeliveryBook() if book is None else book
        name = device_name or port_name
        device = device_slug(name)
        self._device = TextDevice(device, printable(name) or device, "csv_lines", port_name, run)
        self._columns = columns
        self._known = {column.key: column for column in columns}
        self._separator = None if separator == " " else separator
        self._is_csv = kind == "csv"
        self._is_first = True
        self._is_announced = False
        self._words: set[str] = set()
        """Keys whose first value was a word; at most MAX_SENSORS."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The device, once it has sent a value."""
        return (self._device.device,) if self._is_announced else ()

    def release(self) -> None:
        """Let other ports have the device; it is claimed again by its next line."""
        self._device.release(self._book)

    def matches(self, line: bytes) -> bool:
        """Whether `line` has the configured format; others are the board's log."""
        try:
            fields = line.decode("ascii").split(self._separator)
        except ValueError:
            return False
        if self._is_csv:
            return len(fields) == len(self._columns) and any(
                _NUMBER.fullmatch(field.strip()) for field in fields
            )
        key, equals, _ = fields[0].partition("=") if fields else ("", "", "")
        return bool(equals) and _KEY.fullmatch(key.strip()) is not None

    def parse(self, line: bytes, now_s: float, out: list[Event]) -> None:
        """Append what `line` (without its newline) says; it should match."""
        if self._is_first:
            self._is_first = False
            return
        try:
            fields = line.decode("ascii").split(self._separator)
        except ValueError:
            out.append(Fault("bad_text", excerpt(line)))
            return
        named = self._columns_of(fields, out) if self._is_csv else self._pairs_of(fields, out)
        if named and (self._device.has_claim or self._device.claim(self._book, out)):
            self._put(named, now_s, out)

    def _columns_of(self, fields: list[str], out: list[Event]) -> dict[str, Value]:
        named: dict[str, Value] = {}
        if len(fields) != len(self._columns):
            out.append(Fault("bad_columns", f"{len(fields)} instead of {len(self._columns)}"))
            return named
        for column, field in zip(self._columns, fields, strict=True):
            if column.key in RESERVED_KEYS:
                continue
            value = _value(field.strip())
            if type(value) is str:
                out.append(Fault("bad_number", f"{column.key}: {value:.40}"))
            elif value is not None:
                named[column.key] = value
        return named

    def _pairs_of(self, fields: list[str], out: list[Event]) -> dict[str, Value]:
        named: dict[str, Value] = {}
        if len(fields) > MAX_SENSORS:
            out.append(Fault("too_many_keys", f"{len(fields)} in a line"))
            return named
        for field in fields:
            raw_key, equals, text = field.partition("=")
            raw_key = raw_key.strip()
            if not equals or not _KEY.fullmatch(raw_key):
                out.append(Fault("bad_pair", excerpt(field.encode())))
                continue
            key = slug(raw_key)
            if key in named:
                out.append(Fault("duplicate_key", key))
                return {}
            if key in RESERVED_KEYS:
                out.append(Fault("reserved_key", key))
                continue
            value = _value(text.strip())
            if type(value) is str and not self._is_word(key, value):
                out.append(Fault("bad_number", f"{key}: {value:.40}"))
            elif value is not None:
                named[key] = value
        return named

    def _put(self, named: dict[str, Value], now_s: float, out: list[Event]) -> None:
        device = self._device
        if not device.sensors.keys() >= named.keys():
            known = len(device.sensors)
            wanted = (column.key for column in self._columns) if self._is_csv else named
            fault = device.admit(
                self._known.get(key) or Sensor(key) for key in wanted if key not in RESERVED_KEYS
            )
            if len(device.sensors) > known:
                self._is_announced = True
                out.append(device.seen(device.boot))
            if fault:
                out.append(fault)
                named = {key: value for key, value in named.items() if key in device.sensors}
                if not named:
                    return
            self._words.update(key for key, value in named.items() if type(value) is str)
        sample = Sample(device.device, device.boot, device.next_seq, now_s, named)
        device.next_seq += 1
        out.append(Readings(device.device, (sample,)))

    def _is_word(self, key: str, text: str) -> bool:
        is_possible = key in self._words or key not in self._device.sensors
        return is_possible and _WORD.fullmatch(text) is not None


def _value(text: str) -> Value | None:
    """Return the value of a field; a str where it is neither number nor boolean, None for none."""
    number = _NUMBER.fullmatch(text)
    if number is None:
        lower = text.lower()
        return None if lower in _NO_VALUE else _BOOLEANS.get(lower, text)
    if number.lastindex is None:
        value = int(text)
        return value if -INT_LIMIT <= value < INT_LIMIT else text
    real = float(text)
    return real if real - real == 0.0 else text  # 1e999 is a number, but not a float

"""What a line of the log is about: marks on its arguments, which journald gets as fields.

`_log.info("%s: gone (%s)", of_device(key), reason)` is a line that `journalctl DEVICE=...` finds. A
mark is text like any other, so a line reads as it did, and nothing is written twice.
"""

import logging
from collections.abc import Mapping
from typing import Final, Self

DEVICE: Final = "DEVICE"
LINK: Final = "LINK"


class Marked(str):
    """A text that knows whose name it is."""

    __slots__ = ("fields",)

    fields: tuple[tuple[str, str], ...]
    """Name of a field and its value."""

    def __new__(cls, text: str, fields: tuple[tuple[str, str], ...]) -> Self:
        """Return `text`, which says the values of `fields`, or what belongs to them."""
        marked = super().__new__(cls, text)
        marked.fields = tuple((name, value) for name, value in fields if value)
        return marked


def of_device(key: str, link: str = "", *, shown: str = "") -> Marked:
    """Return the device's key, or what is `shown` for it; `link` is where it speaks, if known."""
    return Marked(shown or key, ((DEVICE, key), (LINK, link)))


def on_link(name: str, device: str = "") -> Marked:
    """Return the link's name; `device` is who speaks there, if known."""
    return Marked(name, ((LINK, name), (DEVICE, device)))


BLUETOOTH: Final = Marked("bluetooth", ((LINK, "ble"),))
"""The radio, which people call otherwise than topics do."""


def fields_of(record: logging.LogRecord) -> tuple[tuple[str, str], ...]:
    """Return the fields of a record, each value once, in the order of its arguments."""
    args = record.args
    if not args:
        return ()
    values = args.values() if isinstance(args, Mapping) else args
    fields = (field for value in values if isinstance(value, Marked) for field in value.fields)
    return tuple(dict.fromkeys(fields))

"""A session of the firmware with a few streams, on the test's bench."""

from typing import Any

from tests.firmware.under_test import load

Ring: Any = load("board.ring").Ring
Session: Any = load("board.session").Session

EPOCH = 7
INFO = {"id": "esp32-aabbccddeeff", "name": "greenhouse", "fw": "0.1.0", "mp": "1.25.0"}
CLIMATE = ("climate", "h", (("temperature", "°C", -2, "temperature"),))
DOOR = ("door", "B", (("open", "", 0, ""),))


class Pump:
    """An actuator that stands where it was set."""

    def __init__(self) -> None:
        self.state = False

    def describe(self) -> dict[str, Any]:
        return {"k": "pump", "n": "Pump", "t": "switch", "state": self.state}


def board(ring_bytes: int = 4096, **arguments: Any) -> Any:  # noqa: ANN401 - the firmware is untyped
    """Return a session that nobody has welcomed yet."""
    arguments.setdefault("streams", [CLIMATE, DOOR])
    return Session(INFO, Ring(ring_bytes), EPOCH, **arguments)


def record(number: int, size: int = 12) -> bytes:
    """Return a record that tells its number."""
    return bytes((size, 0)) + bytes(4) + number.to_bytes(size - 6, "little")


def push(session: Any, count: int, size: int = 12) -> list[bytes]:  # noqa: ANN401 - the firmware is untyped
    """Put so many new records into the session's ring."""
    first = session.ring.next_seq()
    records = [record(first + k, size) for k in range(count)]
    for each in records:
        session.ring.push(each, size)
    return records

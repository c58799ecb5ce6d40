"""Names of topics: what a device or the gateway publishes on, below the base topic; pure."""

import re

STATUS = "status"
"""Whether the gateway is there; the will publishes on it too."""
HEALTH = "health"
"""What the gateway measured of itself."""
ROLLOUT = "rollout"
"""How the newest rollout of an update stands."""
UPDATE = "update"
"""Below a device: how updates stand on it."""

MAX_BASE = 128
"""Longest base topic in characters; with three levels of 64 a topic stays far below MQTT's limit
of 65,535 bytes, and below the 256 that some brokers' access lists take."""

_LEVEL = r"[a-z0-9_-]{1,64}"
_SUBTOPIC = re.compile(rf"{_LEVEL}(?:/{_LEVEL}){{0,2}}")
"""One to three slugs; `+`, `#`, `/` within a name, blanks and empty names are none."""
_NOT_IN_BASE = re.compile(r"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Wildcards, and what MQTT 5 (1.5.4) says a topic should not or must not contain."""


def state(device: str) -> str:
    """Return the topic of a device's newest sample."""
    return f"{device}/state"


def history(device: str) -> str:
    """Return the topic of a device's older samples, many a message."""
    return f"{device}/history"


def gap(device: str) -> str:
    """Return the topic of a device's lost samples."""
    return f"{device}/gap"


def availability(device: str) -> str:
    """Return the topic that says whether a device is there."""
    return f"{device}/availability"


def log(device: str) -> str:
    """Return the topic of the lines a device logs."""
    return f"{device}/log"


def event(device: str) -> str:
    """Return the topic of what happened to a device's values."""
    return f"{device}/event"


def info(device: str) -> str:
    """Return the topic of what a device says of itself."""
    return f"{device}/info"


def update(device: str) -> str:
    """Return the topic of how updates stand on a device."""
    return f"{device}/{UPDATE}"


def diagnostics(device: str) -> str:
    """Return the topic of what the gateway knows of a device's connection and losses."""
    return f"{device}/diagnostics"


def actuator_state(device: str, actuator: str) -> str:
    """Return the topic of one actuator's reported state."""
    return f"{device}/{actuator}/state"


def set_many(device: str) -> str:
    """Return the topic on which actuators of a device are set, several at once."""
    return f"{device}/set"


def set_one(device: str, actuator: str) -> str:
    """Return the topic on which one actuator is set."""
    return f"{device}/{actuator}/set"


def command(device: str) -> str:
    """Return the topic of commands that name a transaction."""
    return f"{device}/command"


def command_result(device: str) -> str:
    """Return the topic on which is told what became of commands."""
    return f"{device}/command/result"


def request(verb: str) -> str:
    """Return the topic on which the gateway is asked for something."""
    return f"request/{verb}"


def response(verb: str) -> str:
    """Return the topic of the answers to that."""
    return f"response/{verb}"


class Topics:
    """Puts the base topic in front, and lets no bad name pass."""

    def __init__(self, base: str) -> None:
        """`base` is for example `edge/attic`.

        Raises:
            ValueError: it is empty or too long, has an empty level, a wildcard or a control
                character, or begins with `$`, which belongs to the broker.
        """
        if not 0 < len(base) <= MAX_BASE or base.startswith("$") or "" in base.split("/"):
            raise ValueError(f"not a base topic: {base!r}")
        if _NOT_IN_BASE.search(base):
            raise ValueError(f"not a base topic: {base!r}")
        self._prefix = f"{base}/"

    def full(self, subtopic: str) -> str:
        """Return the whole topic of `subtopic`, one to three slugs joined by `/`.

        Raises:
            ValueError: a level is empty, longer than 64 or no slug: it must not reach the broker.
        """
        if _SUBTOPIC.fullmatch(subtopic) is None:
            raise ValueError(f"not a topic: {subtopic[:200]!r}")
        return self._prefix + subtopic

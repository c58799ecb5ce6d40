"""Where results go: the device's own topic, and where their sender wants them; pure."""

import json
from typing import Final

from gateway.commands.letter import ReplyTo
from gateway.mqtt import topics
from gateway.protocol.fields import Json
from gateway.requests.command import Transaction
from gateway.requests.response_topic import refusal_of

MAX_CORRELATION: Final = 256
"""Longest correlation data that is carried along, in bytes."""


def result_topic(base: str, level: str) -> str:
    """Return the whole topic of a device's results."""
    return f"{base}/{topics.command_result(level)}"


def result_payload(transaction: Transaction | None, answer: dict[str, Json]) -> bytes:
    """Return a result, with the transaction of the command if it has one."""
    named: dict[str, Json] = {} if transaction is None else {"transaction": transaction}
    text = json.dumps({**named, **answer}, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")


def reply_to(
    topic: str, correlation: bytes | None, base: str, level: str, kept: tuple[str, ...]
) -> ReplyTo | None:
    """Return where the sender wants the result, if the gateway should publish there.

    Not among the gateway's own topics, but for the device's results and what `refusal_of` allows:
    who may send commands must not have the gateway write what others take for a sensor's.
    """
    if len(correlation or b"") > MAX_CORRELATION:
        return None
    if topic != result_topic(base, level) and refusal_of(topic, base, kept):
        return None
    return ReplyTo(topic, correlation)

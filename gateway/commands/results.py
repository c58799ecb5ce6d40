"""What is told of commands, and whether the broker has it; no I/O."""

import logging
from collections.abc import Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.commands.letter import ReplyTo
from gateway.commands.replies import result_payload, result_topic
from gateway.drivers.log_budget import LogBudget
from gateway.log_fields import of_device
from gateway.model import DeviceLog, LogLevel, slug
from gateway.mqtt import payloads, topics
from gateway.protocol.fields import Json
from gateway.requests.command import Transaction

_log = logging.getLogger(__name__)


class Outlet(Protocol):
    """What takes results to the broker: `mqtt.publisher.Publisher`."""

    def send(
        self,
        topic: str,
        payload: bytes,
        *,
        correlation: bytes | None = None,
        on_done: Callable[[bool], None] = ...,
    ) -> None:
        """Publish on a whole topic; `on_done` is told whether the broker has it."""

    def post(self, subtopic: str, payload: bytes) -> None:
        """Publish a remark below the base."""


class Results:
    """Publishes how commands ended."""

    def __init__(self, base_topic: str, outlet: Outlet, clock: Clock) -> None:
        self._base = base_topic
        self._outlet = outlet
        self._clock = clock
        self._logs = LogBudget()

    def publish(  # noqa: PLR0913, PLR0917  # a result, and where it goes
        self,
        level: str,
        transaction: Transaction | None,
        answer: dict[str, Json],
        wanted_at: ReplyTo | None,
        is_plain: bool,  # noqa: FBT001  # as the letter says
        on_told: Callable[[], None],
    ) -> None:
        """Publish a result where its sender wants it and, unless of a plain set, for everybody.

        `on_told` is called when the broker has all of it, or never will.
        """
        places: dict[str, bytes | None] = {}
        if not is_plain and slug(level) == level:
            places[result_topic(self._base, level)] = None
        if wanted_at is not None:
            places[wanted_at.topic] = wanted_at.correlation
        payload = result_payload(transaction, answer)
        open_places = len(places)

        def on_done(_is_taken: bool) -> None:  # noqa: FBT001  # the outlet's word
            nonlocal open_places
            open_places -= 1
            if not open_places:
                on_told()

        for topic, correlation in places.items():
            self._outlet.send(topic, payload, correlation=correlation, on_done=on_done)

    def remark(self, device: str, level: str, text: str) -> None:
        """Say on the log topic of a device why a command failed that has no result."""
        if self._logs.take(self._clock.monotonic_s()):
            line = DeviceLog(device, LogLevel.WARNING, f"command failed: {text}")
            _log.info("%s: %s", of_device(device, shown=level), line.text)
            self._outlet.post(topics.log(level), payloads.log(line, self._clock.unix_s()))

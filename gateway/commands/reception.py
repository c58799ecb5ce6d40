"""Messages of the broker become letters, or are answered at once; no I/O."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.clock import Clock
from gateway.commands import paper
from gateway.commands.letter import End, Letter, ReplyTo
from gateway.commands.past import Remembered
from gateway.commands.replies import reply_to
from gateway.commands.results import Results
from gateway.drivers.board import DRIVER
from gateway.errors import RequestError
from gateway.model import Actuator, Description
from gateway.mqtt.incoming import Incoming
from gateway.protocol.session_events import Outcome
from gateway.requests.command import (
    MAX_PAYLOAD_BYTES,
    CommandKind,
    CommandRequest,
    CommandTopic,
    Transaction,
    command_topic,
    digest,
    fingerprint,
    read_command,
    transaction_of,
)
from gateway.requests.reading import printable

_log = logging.getLogger(__name__)

MAX_REFUSED = 1_000
REFUSED_S = 600.0
"""So many transactions that were refused are remembered, for so long: who repeats one, because he
had not heard of it yet, is refused again, even if it could be done by now."""

MAX_TOLD = 20
"""Commands for nobody that are logged; further ones are only counted."""


class Addressee(Protocol):
    """A device that commands may be for."""

    @property
    def key(self) -> str:
        """Its identity."""

    @property
    def predecessors(self) -> Sequence[str]:
        """Keys of those in whose place it goes on."""

    @property
    def description(self) -> Description:
        """What it said of itself, now or in an earlier run."""

    @property
    def is_enabled(self) -> bool:
        """Whether its owner wants anything of it."""


class Directory(Protocol):
    """Who knows the devices: `devices.Devices`."""

    def find(self, name: str) -> Addressee | None:
        """Return the device people mean by a level of a topic."""

    def get(self, key: str) -> Addressee | None:
        """Return the device of a key."""

    def heir(self, key: str) -> Addressee | None:
        """Return who goes on in the place of a device that is none any more."""

    def who_is(self, name: str) -> str:
        """Return where to find the one device that calls itself so; empty if there is none."""


class Desk(Protocol):
    """Who takes letters: `office.Office`."""

    def find(self, device: str, transaction: Transaction | None, packet: str) -> Remembered | None:
        """Return a command of the last day."""

    def forget_packet(self, packet_id: int) -> None:
        """Note that the broker uses that number for another message by now."""

    def take_again(
        self, known: Remembered, wanted_at: ReplyTo | None, done: Callable[[], None]
    ) -> None:
        """Answer for a command that came before."""

    def make(self, device: str, request: CommandRequest) -> Letter:
        """Return a new letter; raises RequestError if there is no room for one."""

    def receive(self, letter: Letter, asked_for: str, done: Callable[[], None]) -> None:
        """Put a letter on the disk, and then see to it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One message."""

    topic: CommandTopic
    device: Addressee | None
    transaction: Transaction | None
    reply_to: ReplyTo | None

    @property
    def is_plain(self) -> bool:
        return self.topic.kind is not CommandKind.COMMAND


class Reception:
    """Reads messages; who sent a wrong one is told what is wrong with it."""

    def __init__(  # noqa: PLR0913, PLR0917  # what the office has
        self,
        base_topic: str,
        kept_topics: tuple[str, ...],
        counts: Counter[str],
        directory: Directory,
        desk: Desk,
        results: Results,
        clock: Clock,
    ) -> None:
        """Nothing is answered below `base_topic` and `kept_topics`, whatever a sender wants."""
        self._base = base_topic
        self._kept = kept_topics
        self._counts = counts
        self._directory = directory
        self._desk = desk
        self._results = results
        self._clock = clock
        self._refused: dict[tuple[str, Transaction, bytes], tuple[float, str]] = {}

    def hear(self, message: Incoming) -> None:
        """Take a message; it is confirmed once what it asks for is on the disk, or was refused."""
        topic = command_topic(message.topic.removeprefix(f"{self._base}/"))
        if topic is None:
            message.done()
            return
        self._counts["commands_received"] += 1
        if message.packet_id and not message.is_again:
            self._desk.forget_packet(message.packet_id)
        if message.is_retained:
            self._refuse_retained(message)
            return
        asked = _Asked(
            topic,
            self._directory.find(topic.level),
            transaction_of(topic.kind, message.payload),
            self._reply_to(message, topic),
        )
        if error := self._refusal(asked, message.payload):
            self._refuse(asked, error)
            message.done()
            return
        try:
            self._take(message, asked)
        except RequestError as exc:
            self._remember_refusal(asked, message.payload, str(exc))
            self._refuse(asked, str(exc))
            message.done()

    @staticmethod
    def actuators_of(device: Addressee | None, name: str) -> Sequence[Actuator]:
        """Return what a device has that can be set.

        Raises:
            RequestError: it takes no commands at all.
        """
        if device is None:
            raise RequestError(f"no such device: {printable(name)}")
        if not device.is_enabled:
            raise RequestError(f"{name} is disabled")
        driver = device.description.driver
        if driver != DRIVER:
            raise RequestError(
                f"{name} takes no commands: it is no board with our firmware ({driver})"
            )
        return device.description.actuators

    def _take(self, message: Incoming, asked: _Asked) -> None:
        """Take what a message asks for, or answer it; raises RequestError if it cannot be done."""
        if asked.device is None:
            name = asked.topic.level
            hint = self._directory.who_is(name)
            raise RequestError(f"no such device: {printable(name)}{hint}")
        asked_for = packet = ""
        if asked.transaction is not None:
            asked_for = fingerprint(message.payload)
        if message.packet_id:
            what = digest(message.topic.encode(), message.payload)
            packet = f"{message.packet_id}.{what}"
        key = asked.device.key
        known = next(filter(None, self._known(message, asked, packet)), None)
        if known is not None:
            self._counts["commands_repeated"] += 1
            if asked_for != known.fingerprint:
                raise RequestError(
                    "this transaction was another command within the last 24 hours: give each "
                    "its own"
                )
            self._desk.take_again(known, asked.reply_to, message.done)
            return
        actuators = self.actuators_of(asked.device, asked.topic.level)
        letter = self._desk.make(key, read_command(asked.topic, message.payload, actuators))
        if message.expires_s is not None:
            letter.expires_s = min(letter.expires_s, letter.received_s + message.expires_s)
        letter.level, letter.is_plain = asked.topic.level, asked.is_plain
        letter.reply_to, letter.packet = asked.reply_to, packet
        self._desk.receive(letter, asked_for, message.done)

    def _known(self, message: Incoming, asked: _Asked, packet: str) -> Iterator[Remembered | None]:
        """Yield what came before: what a predecessor did is not done again."""
        if asked.device is not None:
            for key in (asked.device.key, *asked.device.predecessors):
                yield self._desk.find(key, asked.transaction, packet if message.is_again else "")

    def _refusal(self, asked: _Asked, payload: bytes) -> str:
        """Return why the same was refused a while ago; nothing if it was not."""
        if asked.transaction is None:
            return ""
        key = asked.topic.level, asked.transaction, payload
        until_s, error = self._refused.get(key, (0.0, ""))
        return error if self._clock.monotonic_s() < until_s else ""

    def _remember_refusal(self, asked: _Asked, payload: bytes, error: str) -> None:
        if asked.transaction is None or len(payload) > MAX_PAYLOAD_BYTES:
            return
        key = asked.topic.level, asked.transaction, payload
        self._refused.pop(key, None)
        self._refused[key] = self._clock.monotonic_s() + REFUSED_S, error
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _refuse(self, asked: _Asked, error: str) -> None:
        """Answer a message that asks for what cannot be done."""
        self._counts["commands_failed"] += 1
        level = asked.topic.level
        answer = paper.answer_of(End(Outcome.FAILED, error=error))
        wanted_at, is_plain = asked.reply_to, asked.is_plain
        self._results.publish(level, asked.transaction, answer, wanted_at, is_plain, _ignore)
        if asked.device is None:
            self._counts["commands_for_nobody"] += 1
            if self._counts["commands_for_nobody"] <= MAX_TOLD:
                _log.warning("a command cannot be done: %s", error)
        elif is_plain:
            self._results.remark(asked.device.key, level, f"set: {error}")

    def _refuse_retained(self, message: Incoming) -> None:
        if not self._counts["commands_retained"]:
            _log.warning(
                "%.200s is retained, and is not done: it would be again at each start. Remove it "
                "with an empty retained message (further ones are only counted)",
                message.topic,
            )
        self._counts["commands_retained"] += 1
        message.done()

    def _reply_to(self, message: Incoming, topic: CommandTopic) -> ReplyTo | None:
        if not message.response_topic:
            return None
        wanted_at = reply_to(
            message.response_topic, message.correlation, self._base, topic.level, self._kept
        )
        if wanted_at is None:
            if not self._counts["response_topics_refused"]:
                _log.warning(
                    "nothing is answered on the response topic %.200r (further ones are only "
                    "counted)",
                    message.response_topic,
                )
            self._counts["response_topics_refused"] += 1
        return wanted_at


def _ignore() -> None:
    """Do nothing."""

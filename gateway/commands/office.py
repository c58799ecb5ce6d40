"""What becomes of each command, from the broker's message to the result; no I/O, no asyncio."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gateway.clock import Clock
from gateway.commands import paper
from gateway.commands.letter import End, Letter, ReplyTo, Stage
from gateway.commands.mailbox import Mailbox
from gateway.commands.past import Past, Remembered
from gateway.commands.replies import reply_to, result_payload, result_topic
from gateway.drivers.base import OnCommandEnd
from gateway.drivers.board import DRIVER
from gateway.drivers.log_budget import LogBudget
from gateway.errors import RequestError, StoreError
from gateway.model import Actuator, Description, DeviceLog, LogLevel, slug
from gateway.mqtt import payloads, topics
from gateway.mqtt.incoming import Incoming
from gateway.protocol.fields import Json
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandEnded, CommandReturned, Outcome
from gateway.requests.command import (
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
from gateway.status import Status
from gateway.store import journal
from gateway.store.state_changes import Change, Statement

_log = logging.getLogger(__name__)

RECEIPT_S = 10.0
"""A command that is not on the disk by then fails, and is not done."""

SETTLE_S = 5.0
"""A command whose end is not on the disk by then is told all the same: the disk is slow or fails,
and will get it when it can."""

TOLD_PAUSE_S = 10.0
"""That results were told is noted with the next change, or after so long."""

_WORDS = {
    Outcome.UNKNOWN: "it was sent, and nobody knows whether it was done",
    Outcome.EXPIRED: "the device was not there in time",
}


class Journal(Protocol):
    """What keeps commands over a crash: `store.state.StateStore`."""

    def submit(
        self,
        change: Change,
        on_done: Callable[[StoreError | None], None] | None = None,
        patience_s: float | None = None,
    ) -> None:
        """Queue a change; `on_done` is told when it is on the disk, or that it never will be."""


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


class Addressee(Protocol):
    """A device that commands may be for."""

    @property
    def key(self) -> str:
        """Its identity."""

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


Road = Callable[[str, Order, OnCommandEnd], bool]
"""Hands a command to the link of that name; False if nobody is there."""


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


class Office:
    """Takes commands, journals them, hands them to boards and tells what became of them.

    Callbacks only: call `work` soon after `on_work` was called, and once `deadline_s` has passed.
    """

    def __init__(  # noqa: PLR0913  # the composition root has them all
        self,
        *,
        base_topic: str,
        session: str,
        clock: Clock,
        status: Status,
        directory: Directory,
        journal: Journal,
        outlet: Outlet,
        road: Road,
        kept_topics: Sequence[str] = (),
    ) -> None:
        """`session` names this run. No result is sent below `base_topic` and `kept_topics`."""
        self.on_work: Callable[[], None] = _ignore
        self._base = base_topic
        self._session = session
        self._clock = clock
        self._status = status
        self._counts = status.counts
        self._directory = directory
        self._journal = journal
        self._outlet = outlet
        self._road = road
        self._kept = tuple(kept_topics)
        self._mailbox = Mailbox()
        self._past = Past()
        self._number = 0
        self._is_loaded = False
        self._links: dict[str, str] = {}
        self._due: dict[str, None] = {}
        """Devices to be looked at; a dict for its order."""
        self._handing: Letter | None = None
        self._unconfirmed: dict[int, list[Callable[[], None]]] = {}
        self._awaited: dict[int, Callable[[End], None]] = {}
        self._unsettled: deque[tuple[float, Letter]] = deque()
        self._told: list[int] = []
        self._told_due_s: float | None = None
        self._logs = LogBudget()
        self._is_closed = False

    # ---- what comes in ----

    def take(self, entries: Sequence[journal.Entry]) -> None:
        """Take up the commands of earlier runs; until then none is taken."""
        self._is_loaded = True
        now = self._now()
        letters = []
        for entry in entries:
            self._number = max(self._number, entry.number)
            try:
                past = paper.past_of(entry)
                past.letter = None if entry.answer is not None else paper.letter_of(entry, now)
                wanted_at = paper.reply_of(entry)
            except (LookupError, TypeError, ValueError) as exc:
                _log.error("what was kept of command %d makes no sense: %r", entry.number, exc)
                continue
            self._past.add(past)
            if past.letter is not None:
                letters.append(past.letter)
            elif not entry.is_told:
                self._tell(past, wanted_at, is_plain=paper.is_plain(entry))
        self._mailbox.recall(letters)
        self._look_at(*{letter.device for letter in letters})

    def everything(self) -> Change:
        """Return the change that writes all that is known into an empty journal."""
        now = self._now()
        entries = []
        for past in self._past:
            if past.letter is not None and past.letter.end is None:
                entries.append(paper.entry_of(past.letter, past, now))
            elif past.answer is not None:
                entries.append(paper.past_entry_of(past))
        return journal.put(entries)

    def hear(self, message: Incoming) -> None:
        """Take a message; it is confirmed once what it asks for is on the disk, or was refused."""
        if self._is_closed:
            return
        subtopic = message.topic.removeprefix(f"{self._base}/")
        topic = command_topic(subtopic)
        if topic is None:
            message.done()
            return
        self._counts["commands_received"] += 1
        if message.is_retained:
            self._refuse_retained(message)
            return
        device = self._directory.find(topic.level)
        asked = _Asked(
            topic,
            device,
            transaction_of(topic.kind, message.payload),
            self._reply_to(message, topic),
        )
        try:
            self._take_message(message, asked)
        except RequestError as exc:
            self._refuse(asked, str(exc))
            message.done()

    def close(self) -> None:
        """Take no more: what is not confirmed to the broker it gives to the next run."""
        self._is_closed = True

    def begin_session(self) -> None:
        """Note that the broker knows nothing of us: packets are counted anew."""
        if self._past.forget_packets():
            self._submit(journal.forget_packets())

    def ready(self, link: str, device: str, life: str) -> None:
        """Note that a board takes commands on a link."""
        self._links[device] = link
        for letter in self._mailbox.ready(device, life):
            self._ended(letter)
        self._look_at(device)

    def left(self, link: str, device: str) -> None:
        """Note that a board is not there any more."""
        if self._links.get(device) == link:
            del self._links[device]
            self._mailbox.left(device)

    def has_mail(self, device: str) -> bool:
        """Whether commands wait for a device."""
        return self._mailbox.has_mail(device)

    def order(
        self,
        device: str,
        name: str,
        arguments: Json,
        expires_s: float,
        on_end: Callable[[End], None],
    ) -> None:
        """Have a device do something that the gateway itself wants; `on_end` is told the end."""
        try:
            self._actuators_of(self._directory.get(device), device)
            letter = self._make(device, CommandRequest(name, arguments, expires_s))
        except RequestError as exc:
            on_end(End(Outcome.FAILED, error=str(exc)))
            return
        letter.is_plain = True
        self._awaited[letter.number] = on_end
        self._receive(letter, "")

    # ---- what is due ----

    @property
    def deadline_s(self) -> float | None:
        """Monotonic time at which to call `work`; None for never."""
        due = [self._mailbox.deadline_s(), self._told_due_s]
        due.append(self._unsettled[0][0] if self._unsettled else None)
        return min((each for each in due if each is not None), default=None)

    def work(self) -> None:
        """Do what is due: end what expired, hand over what can be."""
        now_s = self._clock.monotonic_s()
        for letter in self._mailbox.expired(now_s):
            self._ended(letter)
        while self._unsettled and self._unsettled[0][0] <= now_s:
            self._settle(self._unsettled.popleft()[1])
        if self._told_due_s is not None and self._told_due_s <= now_s:
            self._submit(())
        while self._due:
            device = next(iter(self._due))
            del self._due[device]
            self._hand_what_can_be(device)

    def _hand_what_can_be(self, device: str) -> None:
        while (letter := self._mailbox.next(device)) is not None:
            if letter.stage is Stage.NOTING:
                change = journal.hand(letter.number, letter.life or "")
                self._submit(change, partial(self._on_noted, letter))
            else:
                self._hand(letter)

    # ---- from the message to the disk ----

    def _take_message(self, message: Incoming, asked: _Asked) -> None:
        """Take what a message asks for, or answer it, or raise why not."""
        if asked.device is None:
            raise RequestError(f"no such device: {asked.topic.level}")
        asked_for = packet = ""
        if asked.transaction is not None:
            asked_for = fingerprint(message.payload)
        elif message.packet_id:
            what = digest(message.topic.encode(), message.payload)
            packet = f"{message.packet_id}.{what}"
        key = asked.device.key
        known = self._past.find(key, asked.transaction, packet if message.is_again else "")
        if known is not None:
            self._take_again(message, asked, known, asked_for)
            return
        actuators = self._actuators_of(asked.device, asked.topic.level)
        letter = self._make(key, read_command(asked.topic, message.payload, actuators))
        if message.expires_s is not None:
            letter.expires_s = min(letter.expires_s, letter.received_s + message.expires_s)
        letter.level, letter.is_plain = asked.topic.level, asked.is_plain
        letter.reply_to, letter.packet = asked.reply_to, packet
        self._unconfirmed[letter.number] = [message.done]
        self._receive(letter, asked_for)

    def _take_again(
        self, message: Incoming, asked: _Asked, known: Remembered, asked_for: str
    ) -> None:
        self._counts["commands_repeated"] += 1
        if asked_for != known.fingerprint:
            raise RequestError(
                "this transaction was another command within the last 24 hours: give each its own"
            )
        if known.letter is not None:
            if asked.reply_to is not None:
                known.letter.reply_to = asked.reply_to
            if known.letter.stage is Stage.RECEIVED:
                self._unconfirmed[known.number].append(message.done)
                return
        elif not asked.is_plain or asked.reply_to is not None:
            self._tell(known, asked.reply_to, is_plain=asked.is_plain)
        message.done()

    @staticmethod
    def _actuators_of(device: Addressee | None, name: str) -> Sequence[Actuator]:
        """Return what a device has that can be set, if it takes commands at all."""
        if device is None:
            raise RequestError(f"no such device: {name}")
        if not device.is_enabled:
            raise RequestError(f"{name} is disabled")
        if device.description.driver != DRIVER:
            raise RequestError(
                f"{name} takes no commands: it is no board with our firmware "
                f"({device.description.driver})"
            )
        return device.description.actuators

    def _make(self, device: str, request: CommandRequest) -> Letter:
        if not self._is_loaded:
            raise RequestError("cannot be journalled: the state database is not open")
        if refusal := self._mailbox.refusal(device):
            raise RequestError(refusal)
        self._number += 1
        now_s = self._clock.monotonic_s()
        return Letter(
            self._number,
            f"{self._session}.{self._number:x}",
            device,
            request.name,
            request.arguments,
            now_s,
            now_s + request.expires_s,
            transaction=request.transaction,
        )

    def _receive(self, letter: Letter, asked_for: str) -> None:
        now = self._now()
        past = Remembered(
            letter.number,
            letter.device,
            letter.level,
            letter.transaction,
            letter.packet,
            asked_for,
            now.unix_s,
            letter,
        )
        self._past.add(past)
        self._mailbox.put(letter)
        change = journal.put([paper.entry_of(letter, past, now)])
        patience_s = min(RECEIPT_S, letter.expires_s - letter.received_s)
        self._submit(change, partial(self._on_received, letter), patience_s)

    def _on_received(self, letter: Letter, error: StoreError | None) -> None:
        if error is not None and self._is_closed:
            return
        for done in self._unconfirmed.pop(letter.number, ()):
            done()
        if error is None:
            self._mailbox.noted(letter)
            self._look_at(letter.device)
        else:
            self._fail_for_the_disk(letter, error)

    def _on_noted(self, letter: Letter, error: StoreError | None) -> None:
        if error is None:
            self._mailbox.noted(letter)
            self._look_at(letter.device)
        elif not self._is_closed:
            self._fail_for_the_disk(letter, error)

    def _fail_for_the_disk(self, letter: Letter, error: StoreError) -> None:
        """End a letter that may not be done: nobody would know of it after a crash."""
        end = End(Outcome.FAILED, error=f"cannot be journalled: {error}")
        if self._mailbox.end(letter, end):
            self._ended(letter)
            self._settle(letter)  # its end may never be on the disk, and it holds a place

    # ---- from the disk to the board ----

    def _hand(self, letter: Letter) -> None:
        order = Order(
            letter.command_id,
            letter.name,
            letter.arguments,
            letter.expires_s,
            letter.device,
            letter.life or "",
            letter.was_sent,
        )
        link = self._links.get(letter.device, "")
        self._handing = letter
        is_taken = self._road(link, order, partial(self._on_outcome, letter))
        self._handing = None
        if not is_taken:
            self._came_back(letter, was_sent=letter.was_sent)

    def _came_back(self, letter: Letter, *, was_sent: bool) -> None:
        """Keep a letter until its board says that it is there."""
        self._mailbox.left(letter.device)
        self._mailbox.returned(letter, was_sent=was_sent)
        self.on_work()  # its time may pass meanwhile

    def _on_outcome(self, letter: Letter, outcome: CommandEnded | CommandReturned) -> None:
        if isinstance(outcome, CommandReturned):
            if self._handing is letter:
                self._came_back(letter, was_sent=outcome.was_sent)
            else:
                self._mailbox.returned(letter, was_sent=outcome.was_sent)
                self._look_at(letter.device)
            return
        latency_s = None
        if outcome.outcome in {Outcome.DONE, Outcome.FAILED}:
            latency_s = self._clock.monotonic_s() - letter.received_s
            self._status.command_latency_s.record(latency_s)
        end = End(outcome.outcome, outcome.result, outcome.error, latency_s)
        if self._mailbox.end(letter, end):
            self._ended(letter)

    # ---- from the end to the result ----

    def _ended(self, letter: Letter) -> None:
        """Put the end of a letter on the disk, and then tell it."""
        end = letter.end
        if end is None:
            return
        if not end.error and end.outcome in _WORDS:
            end = letter.end = end._replace(error=_WORDS[end.outcome])
        self._counts[f"commands_{end.outcome.value}"] += 1
        is_expected = not letter.is_plain or letter.reply_to is not None
        change: list[Statement] = []
        if is_expected or letter.packet:
            answer = paper.answer_of(end)
            change += journal.end(letter.number, answer, is_told=not is_expected)
        else:
            change += journal.drop([letter.number])
        if old := self._past.forget_old(self._clock.unix_s()):
            change += journal.drop(old)
        self._unsettled.append((self._clock.monotonic_s() + SETTLE_S, letter))
        self._submit(change, partial(self._on_end_noted, letter))
        self.on_work()

    def _on_end_noted(self, letter: Letter, _error: StoreError | None) -> None:
        self._settle(letter)

    def _settle(self, letter: Letter) -> None:
        """Tell how a letter ended, once."""
        if letter.stage is Stage.SETTLED or letter.end is None:
            return
        self._mailbox.settled(letter)
        while self._unsettled and self._unsettled[0][1].stage is Stage.SETTLED:
            self._unsettled.popleft()
        past = self._past.get(letter.number)
        past.letter = None
        past.answer = paper.answer_of(letter.end)
        if not letter.is_plain or letter.reply_to is not None:
            self._tell(past, letter.reply_to, is_plain=letter.is_plain)
        if letter.is_plain and letter.level and letter.end.outcome is not Outcome.DONE:
            self._remark(letter.device, letter.level, f"{letter.name}: {letter.end.error}")
        if letter.is_plain and not letter.reply_to and not letter.packet:
            self._past.forget(letter.number)
        if (on_end := self._awaited.pop(letter.number, None)) is not None:
            on_end(letter.end)
        self._look_at(letter.device)

    def _tell(self, past: Remembered, wanted_at: ReplyTo | None, *, is_plain: bool) -> None:
        payload = result_payload(past.transaction, past.answer or {})
        self._publish(past.level, payload, wanted_at, past.number, is_plain=is_plain)

    def _publish(
        self,
        level: str,
        payload: bytes,
        wanted_at: ReplyTo | None,
        number: int | None,
        *,
        is_plain: bool,
    ) -> None:
        own = result_topic(self._base, level)
        places: dict[str, bytes | None] = {} if is_plain else {own: None}
        if wanted_at is not None:
            places[wanted_at.topic] = wanted_at.correlation
        open_places = len(places)

        def on_done(_is_taken: bool) -> None:  # noqa: FBT001  # the outlet's word
            nonlocal open_places
            open_places -= 1
            if not open_places and number is not None:
                self._note_told(number)

        for topic, correlation in places.items():
            self._outlet.send(topic, payload, correlation=correlation, on_done=on_done)

    def _note_told(self, number: int) -> None:
        self._told.append(number)
        if self._told_due_s is None:
            self._told_due_s = self._clock.monotonic_s() + TOLD_PAUSE_S
            self.on_work()

    # ---- what is refused ----

    def _refuse(self, asked: _Asked, error: str) -> None:
        """Answer a message that asks for what cannot be done."""
        self._counts["commands_failed"] += 1
        level = asked.topic.level
        answer = paper.answer_of(End(Outcome.FAILED, error=error))
        payload = result_payload(asked.transaction, answer)
        if slug(level) == level:
            self._publish(level, payload, asked.reply_to, None, is_plain=asked.is_plain)
        if asked.is_plain and asked.device is not None:
            self._remark(asked.device.key, level, f"set: {error}")
        elif asked.device is None and self._logs.take(self._clock.monotonic_s()):
            _log.warning("a command cannot be done: %s", error)

    def _refuse_retained(self, message: Incoming) -> None:
        if not self._counts["commands_retained"]:
            _log.warning(
                "%s is retained, and is not done: it would be again at each start. Remove it with "
                "an empty retained message (further ones are only counted)",
                message.topic,
            )
        self._counts["commands_retained"] += 1
        message.done()

    def _remark(self, device: str, level: str, text: str) -> None:
        """Say on the log topic of a device what became of a command that has no result."""
        now_s = self._clock.monotonic_s()
        if self._logs.take(now_s):
            line = DeviceLog(device, LogLevel.WARNING, f"command failed: {text}")
            self._outlet.post(topics.log(level), payloads.log(line, self._clock.unix_s()))

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

    # ---- helpers ----

    def _submit(
        self,
        change: Change,
        on_done: Callable[[StoreError | None], None] | None = None,
        patience_s: float | None = None,
    ) -> None:
        """Queue a change; one that must come to the disk takes along which results were told."""
        if self._told and patience_s is None:
            change = [*journal.tell(self._told), *change]
            self._told = []
            self._told_due_s = None
        if change:
            self._journal.submit(change, on_done, patience_s)

    def _look_at(self, *devices: str) -> None:
        self._due.update(dict.fromkeys(devices))
        self.on_work()

    def _now(self) -> paper.Moment:
        clock = self._clock
        return paper.Moment(
            clock.monotonic_s(), clock.unix_s(), clock.boot_id, clock.is_synchronised()
        )


def _ignore() -> None:
    """Do nothing."""

"""What becomes of each command, from the broker's message to the result; no I/O, no asyncio."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gateway.clock import Clock
from gateway.commands import paper
from gateway.commands.letter import End, Letter, ReplyTo, Stage
from gateway.commands.mailbox import Mailbox
from gateway.commands.past import Moment, Past, Remembered
from gateway.commands.reception import Directory, Reception
from gateway.commands.results import Outlet, Results
from gateway.drivers.base import OnCommandEnd
from gateway.errors import RequestError, StoreError
from gateway.mqtt.incoming import Incoming
from gateway.protocol.fields import Json
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandEnded, CommandReturned, Outcome
from gateway.requests.command import CommandRequest, Transaction
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


Road = Callable[[str, Order, OnCommandEnd], bool]
"""Hands a command to the link of that name; False if nobody is there."""


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
        self._session = session
        self._clock = clock
        self._status = status
        self._counts = status.counts
        self._directory = directory
        self._journal = journal
        self._results = Results(base_topic, outlet, clock)
        self._reception = Reception(
            base_topic, tuple(kept_topics), status.counts, directory, self, self._results, clock
        )
        self._road = road
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
                self._submit(journal.drop([entry.number]))
                continue
            self._past.add(past)
            if past.letter is not None:
                letters.append(past.letter)
            elif not entry.is_told:
                self._tell(past, wanted_at)
        self._mailbox.recall(letters)
        for device in {letter.device for letter in letters}:
            if (heir := self._directory.heir(device)) is not None:
                self.replaced(device, heir.key)  # a crash came before
            self._look_at(device)

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
        if not self._is_closed:
            self._reception.hear(message)

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

    def replaced(self, device: str, by: str) -> int:
        """End what waits for a board in whose place another goes on; return how many commands.

        The other is not told to do them: it may have other pins, and who wished them saw the old.
        """
        ended = self._mailbox.withdraw(device, f"not done: {device} was replaced by {by}")
        for letter in ended:
            self._ended(letter)
        return len(ended)

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
            self._reception.actuators_of(self._directory.get(device), device)
            letter = self.make(device, CommandRequest(name, arguments, expires_s))
        except RequestError as exc:
            on_end(End(Outcome.FAILED, error=str(exc)))
            return
        letter.is_plain = True
        self._awaited[letter.number] = on_end
        self.receive(letter, "", _ignore)

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

    def find(self, device: str, transaction: Transaction | None, packet: str) -> Remembered | None:
        """Return a command of the last day, by what a repetition of it is known by."""
        return self._past.find(device, transaction, packet)

    def forget_packet(self, packet_id: int) -> None:
        """Note that the broker uses that number for another message by now."""
        self._past.forget_packet(str(packet_id))

    def take_again(
        self, known: Remembered, wanted_at: ReplyTo | None, done: Callable[[], None]
    ) -> None:
        """Answer for a command that came before: now, or when it ends."""
        letter = known.letter
        if letter is None:
            self._tell(known, wanted_at)
        elif wanted_at is not None:
            letter.reply_to = wanted_at
        if letter is not None and letter.stage is Stage.RECEIVED:
            self._unconfirmed[known.number].append(done)
        else:
            done()

    def make(self, device: str, request: CommandRequest) -> Letter:
        """Return a new letter.

        Raises:
            RequestError: there is no room for one.
        """
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

    def receive(self, letter: Letter, asked_for: str, done: Callable[[], None]) -> None:
        """Put a letter on the disk, call `done`, and see to it."""
        self._unconfirmed[letter.number] = [done]
        now = self._now()
        past = Remembered(
            letter.number,
            letter.device,
            letter.level,
            letter.transaction,
            letter.packet,
            asked_for,
            now,
            letter.is_plain,
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
        if old := self._past.forget_old(self._now()):
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
            self._tell(past, letter.reply_to)
        if letter.is_plain and letter.level and letter.end.outcome is not Outcome.DONE:
            self._results.remark(letter.device, letter.level, f"{letter.name}: {letter.end.error}")
        if letter.is_plain and not letter.reply_to and not letter.packet:
            self._past.forget(letter.number)
        if (on_end := self._awaited.pop(letter.number, None)) is not None:
            on_end(letter.end)
        self._look_at(letter.device)

    def _tell(self, past: Remembered, wanted_at: ReplyTo | None) -> None:
        on_told = partial(self._note_told, past.number)
        self._results.publish(
            past.level, past.transaction, past.answer or {}, wanted_at, past.is_plain, on_told
        )

    def _note_told(self, number: int) -> None:
        self._told.append(number)
        if self._told_due_s is None:
            self._told_due_s = self._clock.monotonic_s() + TOLD_PAUSE_S
            self.on_work()

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

    def _now(self) -> Moment:
        clock = self._clock
        return Moment(clock.monotonic_s(), clock.unix_s(), clock.boot_id, clock.is_synchronised())


def _ignore() -> None:
    """Do nothing."""

"""Which command goes to which board, and when; pure."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count

from gateway.commands.letter import End, Letter, Stage
from gateway.protocol.requests import MAX_COMMANDS
from gateway.protocol.session_events import Outcome

MAX_LETTERS = 10_000
"""Commands that have not ended, of all devices; further ones are refused."""

MAX_FOR_DEVICE = 16
"""Commands of one device that have not ended; further ones are refused."""

_MORE_EXPIRIES = 64
"""The heap of expiries is cleared of those that are over when it has twice the letters, and these
more: so it costs little, and most commands are over long before their time."""

_BUSY = frozenset({Stage.NOTING, Stage.HANDED, Stage.ENDED})
"""Stages that take one of the places a board has. A place is free once the end is on the disk: so
after a crash no more commands than places may have been sent."""


class Mailbox:
    """Keeps letters by device, in their order.

    A letter is handed to a board only when the disk says for which life of the board's memory: so
    whoever reads the disk after a crash knows whether the board may be asked again.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[Letter]] = {}
        self._lives: dict[str, str] = {}
        """Boards that take commands now."""
        self._size = 0
        self._expiries: list[tuple[float, int, Letter]] = []
        """A heap of all that wait, and of some that do not any more."""
        self._pushes = count()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Letter]:
        for queue in self._queues.values():
            yield from queue

    def has_mail(self, device: str) -> bool:
        """Whether something waits for that board."""
        return any(letter.end is None for letter in self._queues.get(device, ()))

    def refusal(self, device: str) -> str:
        """Return why no further letter is taken; empty if one is."""
        if len(self._queues.get(device, ())) >= MAX_FOR_DEVICE:
            return f"{MAX_FOR_DEVICE} commands wait for this device already"
        if self._size >= MAX_LETTERS:
            return f"{MAX_LETTERS} commands wait already"
        return ""

    def put(self, letter: Letter) -> None:
        """Take a letter, which is on its way to the disk; behind those of the same device.

        Its `life` is set if it can be handed over as soon as it is on the disk.
        """
        if (life := self._lives.get(letter.device)) is not None:
            queue = self._queues.get(letter.device, ())
            if len(queue) < MAX_COMMANDS and all(other.life == life for other in queue):
                letter.life = life
        self._enqueue(letter)

    def recall(self, letters: Iterable[Letter]) -> None:
        """Take the letters of earlier runs, in their order; before any other is put."""
        for letter in letters:
            letter.was_sent = letter.life is not None
            self._enqueue(letter)
            self._wait(letter)

    def ready(self, device: str, life: str) -> list[Letter]:
        """Note that a board takes commands; return those that ended because it forgot them."""
        self._lives[device] = life
        lost = []
        for letter in self._queues.get(device, ()):
            if letter.stage is Stage.WAITING and letter.was_sent and not _may_ask(letter, life):
                letter.end = End(Outcome.UNKNOWN, error="the board lost its memory of it")
                letter.stage = Stage.ENDED
                lost.append(letter)
        return lost

    def left(self, device: str) -> None:
        """Note that a board takes no commands for now."""
        self._lives.pop(device, None)

    def next(self, device: str) -> Letter | None:
        """Return the letter whose turn it is, if its board is there and has a place for it.

        If the disk says that it is for the present life of the board it is HANDED now. If not,
        it is NOTING: call `noted` when its `life`, the present one, is on the disk.
        """
        life = self._lives.get(device)
        queue = self._queues.get(device)
        if life is None or queue is None:
            return None
        free = MAX_COMMANDS - sum(letter.stage in _BUSY for letter in queue)
        letter = next((each for each in queue if each.stage not in _BUSY), None)
        if free <= 0 or letter is None or letter.stage is not Stage.WAITING:
            return None
        if letter.was_sent and not _may_ask(letter, life):  # `ready` would have ended it
            return None
        letter.stage = Stage.HANDED if letter.life == life else Stage.NOTING
        letter.life = life
        return letter

    def noted(self, letter: Letter) -> None:
        """Note that a letter is on the disk as it is: received, or to be handed over."""
        if letter.stage in {Stage.RECEIVED, Stage.NOTING}:
            self._wait(letter)

    def returned(self, letter: Letter, *, was_sent: bool) -> None:
        """Note that a letter was given back, to be handed over another time."""
        if letter.stage is Stage.HANDED:
            letter.was_sent = was_sent
            self._wait(letter)

    def end(self, letter: Letter, end: End) -> bool:
        """Note what became of a letter; False if it had ended before."""
        if letter.end is not None:
            return False
        letter.end, letter.stage = end, Stage.ENDED
        return True

    def settled(self, letter: Letter) -> None:
        """Let go of a letter, whose end is on the disk."""
        letter.stage = Stage.SETTLED
        queue = self._queues[letter.device]
        queue.remove(letter)
        self._size -= 1
        if not queue:
            del self._queues[letter.device]

    def withdraw(self, device: str, why: str) -> list[Letter]:
        """End what waits for a board; what its session has it ends itself."""
        ended = []
        for letter in self._queues.get(device, ()):
            if letter.stage in _HERE:
                outcome = Outcome.UNKNOWN if letter.was_sent else Outcome.FAILED
                told = f"it was sent before, and nobody knows: {why}" if letter.was_sent else why
                letter.end, letter.stage = End(outcome, error=told), Stage.ENDED
                ended.append(letter)
        return ended

    def deadline_s(self) -> float | None:
        """Return when to call `expired` next; None for never."""
        return self._expiries[0][0] if self._expiries else None

    def expired(self, now_s: float) -> list[Letter]:
        """End the letters whose time has passed; those that a session has it ends itself."""
        late = []
        while self._expiries and self._expiries[0][0] <= now_s:
            letter = heapq.heappop(self._expiries)[2]
            if letter.stage in _EXPIRING:
                outcome = Outcome.UNKNOWN if letter.was_sent else Outcome.EXPIRED
                letter.end = End(outcome)
                letter.stage = Stage.ENDED
                late.append(letter)
        return late

    def _wait(self, letter: Letter) -> None:
        letter.stage = Stage.WAITING
        heapq.heappush(self._expiries, (letter.expires_s, next(self._pushes), letter))
        if len(self._expiries) > 2 * self._size + _MORE_EXPIRIES:
            waiting = {id(each[2]): each for each in self._expiries if each[2].stage in _EXPIRING}
            self._expiries = list(waiting.values())
            heapq.heapify(self._expiries)

    def _enqueue(self, letter: Letter) -> None:
        self._queues.setdefault(letter.device, deque()).append(letter)
        self._size += 1


_EXPIRING = frozenset({Stage.WAITING, Stage.NOTING})

_HERE = frozenset({Stage.RECEIVED, *_EXPIRING})


def _may_ask(letter: Letter, life: str) -> bool:
    """Whether a board in that life knows whether it did what may have been sent to it."""
    return life != "" and letter.life == life

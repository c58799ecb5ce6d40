"""What the gateway has of each board: received, safe, and on which link it speaks."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

MAX_DEVICES = 20_000
"""Devices remembered; beyond it the one unseen for longest is forgotten, unless it is claimed."""

MAX_EPOCHS = 4
"""Epochs remembered of each device; records of older ones are long safe or long lost."""


class Progress(NamedTuple):
    """How far an epoch has come, as it is written down to outlive the process."""

    device: str
    epoch: int
    safe_next: int
    claimed_next: int


class Watermark:
    """How far one epoch of one device has come; seqs below `safe_next` may be forgotten by all."""

    def __init__(
        self,
        epoch: int,
        next_seq: int,
        device: str = "",
        changes: "dict[Watermark, None] | None" = None,
    ) -> None:
        """`changes` is where it enters itself whenever there is something to write down."""
        self.device = device
        self.epoch = epoch
        self.received_next = next_seq
        """All before it has arrived, or was published as lost; never beyond `claimed_next`."""
        self.safe_next = next_seq
        """All before it is safe (D1)."""
        self.claimed_next = next_seq
        """The board is known to have used every seq before it."""
        self.on_advance: Callable[[], None] | None = None
        """Called when `safe_next` moved; set by the session that speaks with the board now."""
        self._changes = {} if changes is None else changes
        self._islands: dict[int, int] = {}

    def claim(self, next_seq: int) -> None:
        """Note that the board has used all seqs before `next_seq`."""
        if next_seq > self.claimed_next:
            self.claimed_next = next_seq
            self._changes[self] = None

    def mark_safe(self, first_seq: int, last_seq: int) -> None:
        """Note that a range is safe; ranges come in any order, each once, and do not overlap."""
        if first_seq > self.safe_next:
            self._islands[first_seq] = last_seq
            return
        self._advance(last_seq + 1)

    def skip_to(self, next_seq: int) -> None:
        """Note that all before `next_seq` was safe already: another run acknowledged it."""
        if next_seq <= self.safe_next:
            return
        for first_seq in sorted(self._islands):
            if first_seq <= next_seq:
                next_seq = max(next_seq, self._islands.pop(first_seq) + 1)
        self.claim(next_seq)
        self.received_next = max(self.received_next, next_seq)
        self._advance(next_seq)

    def progress(self) -> Progress:
        """Return what is to be written down."""
        return Progress(self.device, self.epoch, self.safe_next, self.claimed_next)

    def leave(self) -> None:
        """Enter itself nowhere any more: the book has forgotten it."""
        self._changes = {}

    def _advance(self, next_seq: int) -> None:
        if next_seq <= self.safe_next:
            return
        self.safe_next = next_seq
        while (island_last := self._islands.pop(self.safe_next, None)) is not None:
            self.safe_next = island_last + 1
        self._changes[self] = None
        if self.on_advance is not None:
            self.on_advance()


class PauseRoom:
    """Room for the records that boards have on their way when they are told to wait.

    One for all of them: three batches of each of a thousand boards would be more than any memory
    keeps free for them. What finds no room is refused, and called for later.
    """

    __slots__ = ("records",)

    def __init__(self) -> None:
        self.records = float("inf")
        """How many may still come."""

    def take(self, count: int) -> bool:
        """Take room for so many, if there is as much."""
        if count > self.records:
            return False
        self.records -= count
        return True


class DeliveryBook:
    """Shared by all links of the process, so that a board may change its port at any time."""

    def __init__(self, max_devices: int = MAX_DEVICES, max_epochs: int = MAX_EPOCHS) -> None:
        self.pause_room = PauseRoom()
        """Set anew by whoever pauses the boards."""
        self._max_devices = max_devices
        self._max_epochs = max_epochs
        self._devices: OrderedDict[str, OrderedDict[int, Watermark]] = OrderedDict()
        self._owners: dict[str, Hashable] = {}
        self._claims: dict[Hashable, str] = {}
        self._changes: dict[Watermark, None] = {}
        self._numbers = 0

    def claim(self, device: str, owner: Hashable) -> bool:
        """Return whether `owner` now speaks for the device; it lets go of any other device."""
        if self._owners.setdefault(device, owner) is not owner:
            return False
        if self._claims.get(owner) != device:
            self.release(owner)
            self._owners[device] = owner
            self._claims[owner] = device
        return True

    def release(self, owner: Hashable) -> None:
        """Let go of the device that `owner` speaks for, if there is one."""
        device = self._claims.pop(owner, None)
        if device is not None:
            self._owners.pop(device, None)

    def watermark(self, device: str, epoch: int) -> Watermark | None:
        """Return how far an epoch has come; None when it is not remembered."""
        epochs = self._devices.get(device)
        if epochs is None:
            return None
        self._devices.move_to_end(device)
        if epoch in epochs:
            epochs.move_to_end(epoch)
        return epochs.get(epoch)

    def start(self, device: str, epoch: int, next_seq: int) -> Watermark:
        """Remember an epoch from `next_seq` on, in place of what was known of it."""
        mark = self._put(device, epoch, next_seq)
        self._changes[mark] = None
        return mark

    def restore(self, device: str, epoch: int, safe_next: int, claimed_next: int) -> None:
        """Remember what an earlier run of the gateway wrote down, unless more is known by now.

        A device's epochs are restored in the order they began, as far as that is known.
        """
        if self.watermark(device, epoch) is None:
            mark = self._put(device, epoch, safe_next)
            mark.claimed_next = max(safe_next, claimed_next)

    def end(self, device: str, epoch: int, next_seq: int, acked: int | None) -> None:
        """Note that an epoch is over, used all seqs before `next_seq`, and was told `acked`."""
        mark = self.watermark(device, epoch)
        if mark is None and acked is not None:
            mark = self.start(device, epoch, acked)
        if mark is not None:
            mark.claim(next_seq)

    def give_up(self, device: str, epoch: int) -> list[tuple[Watermark, int, int]]:
        """Return what all epochs but this one still owe, first and last seq; it counts as received.

        The board is in `epoch` now, so nothing more will come of the others.
        """
        lost = []
        for mark in self._devices.get(device, {}).values():
            if mark.epoch != epoch and mark.received_next < mark.claimed_next:
                lost.append((mark, mark.received_next, mark.claimed_next - 1))
                mark.received_next = mark.claimed_next
        return lost

    def changed(self) -> list[Progress]:
        """Return how far each epoch is that moved since the last call; bounded by the book."""
        changes = [mark.progress() for mark in self._changes]
        self._changes.clear()
        return changes

    def next_number(self) -> int:
        """Return a number this process never gave before: for commands, and openings of ports."""
        self._numbers += 1
        return self._numbers

    def _put(self, device: str, epoch: int, next_seq: int) -> Watermark:
        epochs = self._devices.setdefault(device, OrderedDict())
        self._devices.move_to_end(device)
        self._drop(epochs.pop(epoch, None))
        mark = epochs[epoch] = Watermark(epoch, next_seq, device, self._changes)
        if len(epochs) > self._max_epochs:
            self._drop(epochs.popitem(last=False)[1])
        if len(self._devices) > self._max_devices:
            self._forget_one()
        return mark

    def _drop(self, mark: Watermark | None) -> None:
        if mark is not None:
            self._changes.pop(mark, None)
            mark.leave()

    def _forget_one(self) -> None:
        victim = next((device for device in self._devices if device not in self._owners), None)
        for mark in self._devices.pop(victim or next(iter(self._devices))).values():
            self._drop(mark)

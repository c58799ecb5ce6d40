"""What the gateway has of each board: received, safe, and on which link it speaks."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

MAX_DEVICES = 20_000
"""Devices remembered; beyond it the one unseen for longest is forgotten, unless it is claimed."""

MAX_EPOCHS = 4
"""Epochs remembered of each device; records of older ones are long safe or long lost."""


class Watermark:
    """How far one epoch of one device has come; seqs below `safe_next` may be forgotten by all."""

    def __init__(self, epoch: int, next_seq: int) -> None:
        self.epoch = epoch
        self.received_next = next_seq
        """All before it has arrived, or was published as lost."""
        self.safe_next = next_seq
        """All before it is safe (D1)."""
        self.on_advance: Callable[[], None] | None = None
        """Called when `safe_next` moved; set by the session that speaks with the board now."""
        self._islands: dict[int, int] = {}

    def mark_safe(self, first_seq: int, last_seq: int) -> None:
        """Note that a range is safe; ranges come in any order, each once, and do not overlap."""
        if first_seq != self.safe_next:
            self._islands[first_seq] = last_seq
            return
        self.safe_next = last_seq + 1
        while (island_last := self._islands.pop(self.safe_next, None)) is not None:
            self.safe_next = island_last + 1
        if self.on_advance is not None:
            self.on_advance()


class DeliveryBook:
    """Shared by all links of the process, so that a board may change its port at any time."""

    def __init__(self, max_devices: int = MAX_DEVICES, max_epochs: int = MAX_EPOCHS) -> None:
        self._max_devices = max_devices
        self._max_epochs = max_epochs
        self._devices: OrderedDict[str, OrderedDict[int, Watermark]] = OrderedDict()
        self._owners: dict[str, Hashable] = {}
        self._claims: dict[Hashable, str] = {}
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
        return epochs.get(epoch)

    def start(self, device: str, epoch: int, next_seq: int) -> Watermark:
        """Remember an epoch from `next_seq` on, in place of what was known of it."""
        epochs = self._devices.setdefault(device, OrderedDict())
        self._devices.move_to_end(device)
        epochs.pop(epoch, None)
        watermark = epochs[epoch] = Watermark(epoch, next_seq)
        if len(epochs) > self._max_epochs:
            epochs.popitem(last=False)
        if len(self._devices) > self._max_devices:
            self._forget_one()
        return watermark

    def next_number(self) -> int:
        """Return a number this process never gave before: for commands, and openings of ports."""
        self._numbers += 1
        return self._numbers

    def _forget_one(self) -> None:
        victim = next((device for device in self._devices if device not in self._owners), None)
        self._devices.pop(victim or next(iter(self._devices)))

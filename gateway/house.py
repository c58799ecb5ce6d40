"""What ports and radio share with the rest of the gateway."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.model import Event
from gateway.progress import Progress
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.guard import Keys, NoKeys
from gateway.status import Status


@dataclass(frozen=True, slots=True)
class House:
    """What every link needs of the rest of the gateway."""

    book: DeliveryBook
    clock: Clock
    run: int
    """Number of this run of the gateway, u32."""
    session: str
    status: Status
    accept: Callable[[str, list[Event]], None]
    """Takes the name of a link and its events, in order."""
    forget_link: Callable[[str], None]
    on_change: Callable[[], None]
    """Told of each change of the radio's state."""
    has_mail: Callable[[str], bool] = lambda _device: False
    """Whether commands wait for a device; by its key."""
    keys: Keys = field(default_factory=NoKeys)
    """Those of boards."""
    progress: Progress = field(default_factory=Progress)
    """Where ports and radio say that they move."""

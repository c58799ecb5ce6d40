"""What links have in common that boards are asked over: it goes through the conversation."""

from gateway.drivers.base import OnCommandEnd, OnUpdateEvent
from gateway.links.conversation import Conversation
from gateway.protocol.requests import Order
from gateway.protocol.update import Update


class Asked:
    """A link; while it is open there is a conversation."""

    _is_paused: bool = False
    _conversation: Conversation | None = None

    def hold(self, *, paused: bool) -> None:
        """Ask the board to keep its samples for now, or to go on; holds for later openings too."""
        self._is_paused = paused
        if self._conversation is not None:
            self._conversation.hold(paused=paused)

    def command(self, order: Order, on_end: OnCommandEnd) -> bool:
        """Have the board here do something at most once; False if nobody is there.

        `on_end` is called once, maybe before this returns.
        """
        if self._conversation is None:
            return False
        self._conversation.command(order, on_end)
        return True

    def update(self, device: str, update: Update, on_event: OnUpdateEvent) -> bool:
        """Update the board here, if it is that device; False if nobody is there.

        `on_event` is told its end once, maybe before this returns.
        """
        if self._conversation is None:
            return False
        self._conversation.update(device, update, on_event)
        return True

    def abort_update(self, device: str, why: str) -> None:
        """End the update of that device, if one is under way here."""
        if self._conversation is not None:
            self._conversation.abort_update(device, why)

"""What the broker has as our status, and what that tells of the broker; pure."""

from typing import TYPE_CHECKING

from gateway.mqtt.incoming import Incoming
from gateway.mqtt.rivalry import Rivalry

if TYPE_CHECKING:
    from collections.abc import Callable


class OwnStatus:
    """Listens to our own status topic; subscribed to before the birth message is published.

    What comes before the birth message tells only that the broker had a status of ours. If nothing
    does, the broker is a new one, or has lost what was retained there. If something else than the
    will of our last connection does, the broker never published that: it went down itself, and may
    have come up with what it had long before. (Or it had not noticed yet that we were gone: then
    states are published again for nothing.) A birth message that comes again is that of the last
    connection. What comes afterwards and is not ours is the late will of an earlier one, to be
    corrected, or another gateway's.
    """

    def __init__(self, online: bytes, rivalry: Rivalry) -> None:
        """`online` is the birth message of this run."""
        self.is_stale = False
        """Whether something else stands there than what we said; whoever corrects it clears it."""
        self.on_retained_lost: Callable[[], None] | None = None
        """Called on each connection to a broker that had no status of ours, or an old one."""
        self._online = online
        self._rivalry = rivalry
        self._had_one = self._is_born = False
        self._was_down = False
        self._last_will: bytes | None = None

    def connecting(self, last_will: bytes | None = None) -> None:
        """Begin anew: a connection is about to be opened; what was the will of the last one?"""
        self._had_one = self._is_born = self.is_stale = self._was_down = False
        self._last_will = last_will

    def hear(self, message: Incoming) -> None:
        """Take what arrived on the topic."""
        message.done()
        is_ours = message.payload == self._online
        if self._is_born:
            if not is_ours and not self._rivalry.status_seen(message.payload):
                self.is_stale = True
        elif is_ours and not message.is_retained and not message.is_again:
            self._is_born = True
            has_all = self._had_one and not self._was_down
            if not has_all and self.on_retained_lost is not None:
                self.on_retained_lost()
        elif message.is_retained:
            self._had_one = True
            is_last = self._last_will is None or message.payload == self._last_will
            self._was_down = is_ours or not is_last

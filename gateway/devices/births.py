"""Home Assistant's birth: it has started, and is to hear of everything again, but not at once."""

import random
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from gateway.clock import Clock
from gateway.mqtt.incoming import Incoming

BIRTH_DELAY_S: Final = (5.0, 15.0)
"""From Home Assistant's birth to the announcements, at random: it is busy then, and there may be
other gateways."""
STATES_DELAY_S: Final = 5.0
"""From announcements to the states, so that it has subscribed to them."""
RENEWED_AT_A_TIME: Final = 50
"""Topics published again in one turn of the loop."""

Renewal: TypeAlias = tuple[Callable[[Iterable[str]], None], str]
"""Who publishes a topic again, and which."""

_BIRTH = b"online"


class Births:
    """Has announcements published again some seconds after each birth, then how devices are."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        announcements: Callable[[], Iterable[Renewal]],
        states: Callable[[], Iterable[Renewal]],
    ) -> None:
        """`announcements` and `states` return what there is then, in the order of publishing."""
        self._clock = clock
        self._rng = rng
        self._announcements = announcements
        self._states = states
        self._birth_s: float | None = None
        self._states_s: float | None = None
        self._renewals: list[Renewal] = []
        """The next is the last."""

    def hear(self, message: Incoming) -> None:
        """Take what Home Assistant says of itself."""
        message.done()
        # A retained birth is an old one: with each connection everything is published anyway.
        if message.payload.strip() == _BIRTH and not message.is_retained:
            self._birth_s = self._clock.monotonic_s() + self._rng.uniform(*BIRTH_DELAY_S)
            self._states_s = None
            self._renewals.clear()

    def tick(self) -> None:
        """Publish what is due."""
        now_s = self._clock.monotonic_s()
        if self._birth_s is not None and now_s >= self._birth_s:
            self._birth_s, self._states_s = None, now_s + STATES_DELAY_S
            self._renewals = [*self._announcements()][::-1]
        if self._states_s is not None and now_s >= self._states_s and not self._renewals:
            self._states_s = None
            self._renewals = [*self._states()][::-1]
        for _ in range(min(RENEWED_AT_A_TIME, len(self._renewals))):
            publish_again, topic = self._renewals.pop()
            publish_again([topic])

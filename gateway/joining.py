"""Who may join: the radio hears neighbours too; pure."""

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

JoinMode: TypeAlias = Literal["open", "listed", "window"]
"""open: whoever can be read; listed: who is in the configuration; window: those, and who was heard
while a window was open."""

MAX_JOINED: Final = 1000
"""Devices that joined and are remembered: a window left open among strangers fills no disk."""


class JoinPolicy:
    """Knows by its address who is one of ours."""

    def __init__(
        self,
        mode: JoinMode,
        listed: Iterable[str] = (),
        joined: Iterable[str] = (),
        on_joined: Callable[[], None] = lambda: None,
    ) -> None:
        """`joined` is what an earlier run kept; `on_joined` is told when that changes."""
        self._mode = mode
        self._listed = frozenset(listed)
        self._joined = dict.fromkeys(list(joined)[:MAX_JOINED])
        self._on_joined = on_joined
        self._open_until_s = float("-inf")

    @property
    def joined(self) -> tuple[str, ...]:
        """Who joined through a window, in the order of joining: what is to be kept."""
        return tuple(self._joined)

    def recall(self, joined: Iterable[str]) -> None:
        """Take up who joined in an earlier run; who joined since then stays."""
        self._joined = dict.fromkeys([*joined, *self._joined][:MAX_JOINED])

    def is_member(self, address: str) -> bool:
        """Whether its samples are published."""
        return self._mode == "open" or address in self._listed or address in self._joined

    def open_window(self, now_s: float, for_s: float) -> None:
        """Let others join until then; 0 closes the window."""
        self._open_until_s = now_s + for_s

    def is_window_open(self, now_s: float) -> bool:
        """Whether who is no member may become one."""
        return self._mode == "window" and now_s < self._open_until_s

    def join(self, address: str, now_s: float) -> bool:
        """Make it a member, if a window is open; say whether it is one."""
        if self.is_member(address):
            return True
        if not self.is_window_open(now_s) or len(self._joined) >= MAX_JOINED:
            return False
        self._joined[address] = None
        self._on_joined()
        return True

    def remove(self, address: str) -> bool:
        """Let it be a member no longer; say whether it had joined."""
        if address not in self._joined:
            return False
        del self._joined[address]
        self._on_joined()
        return True

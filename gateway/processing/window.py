"""Least, greatest and mean of the numbers of some time."""

from typing import Final

from gateway.processing.rules import Window

_NEVER: Final = float("-inf")


class WindowState:
    """What has gathered since the last result.

    A result covers all numbers since the one before it, and is dated by the last of them. The first
    number is a result of its own, so that nobody waits an hour for the first; and so is the first
    after a silence of more than the window's length. What had gathered before such a silence is
    given up: it would have to be published under the time of a number taken long after it.
    """

    __slots__ = ("_count", "_due_s", "_greatest", "_last_s", "_least", "_mean")

    def __init__(self) -> None:
        self._last_s = _NEVER
        self._due_s = 0.0
        self._count = 0
        self._least: float = 0.0
        self._greatest: float = 0.0
        self._mean = 0.0

    def take(self, number: float, taken_s: float, length_s: float) -> bool:
        """Take a number; return whether there is a result, which the next call forgets."""
        if abs(taken_s - self._last_s) > length_s:
            self._count = 0
            self._due_s = taken_s
        self._last_s = taken_s
        if self._count == 0:
            self._least = self._greatest = number
            self._mean = float(number)
        else:
            self._least = min(self._least, number)
            self._greatest = max(self._greatest, number)
        self._count += 1
        # Not a sum divided at the end: that grows beyond what a float holds, and loses digits.
        self._mean += number / self._count - self._mean / self._count
        if taken_s < self._due_s:
            return False
        self._count = 0
        self._due_s += length_s  # by the clock, not by the number: else windows would grow longer
        return True

    def result(self, window: Window) -> float:
        """Return what there is, after `take` said that there is something."""
        if window == "min":
            return self._least
        if window == "max":
            return self._greatest
        return self._mean

"""What happens to a number, step by step."""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.processing.rules import SensorRule, Window
from gateway.processing.window import WindowState

ON_TIME: Final = 0.95
"""A number that comes after this share of `throttle_s` is not too early: the clocks of devices and
their intervals are not exact, and one that is a millisecond early would halve the rate."""

TELL_S: Final = 60.0
"""Implausible values of one sensor are told at most so often."""

_SAME: Final = 1 - 1e-9
"""21.6 - 21.5 is 0.0999...: it reaches a deadband of 0.1 all the same."""

_EXACT: Final = 2**53
"""Beyond it a float's neighbours are more than one apart."""

_NEVER: Final = float("-inf")


class Track:
    """One sensor of one device: its rule, and what the steps must remember of its past."""

    __slots__ = (
        "beside",
        "beside_keys",
        "key",
        "last",
        "last_s",
        "refused",
        "rule",
        "steps",
        "told_s",
        "untold",
        "window",
    )

    def __init__(self, rule: SensorRule, key: str, beside_keys: tuple[str, ...] = ()) -> None:
        """`key` is what it is published under, `beside_keys` are those of its windows."""
        self.rule = rule
        self.key = key
        self.beside_keys = beside_keys
        self.steps = tuple(step.apply for step in STEPS.values() if step.is_wanted(rule))
        self.window = WindowState()
        self.beside: dict[str, float] = {}
        """Results of windows besides, for the sample that is being processed."""
        self.last: float | None = None
        """The last number that was published, and when it was taken."""
        self.last_s = _NEVER
        self.refused: float | None = None
        """The number that was found implausible, in the sample that is being processed."""
        self.told_s = _NEVER
        self.untold = 0

    def tell(self, taken_s: float) -> int:
        """Count an implausible number; return how many there are to be told, 0 for not now."""
        self.untold += 1
        if abs(taken_s - self.told_s) < TELL_S:
            return 0
        count, self.untold, self.told_s = self.untold, 0, taken_s
        return count


def calibrate(track: Track, number: float, _taken_s: float) -> float | None:
    """Scale and shift; a result that no float holds is implausible."""
    rule = track.rule
    result = number * rule.scale + rule.offset
    if not math.isfinite(result):
        track.refused = number
        return None
    return tidy(result)


def keep_plausible(track: Track, number: float, _taken_s: float) -> float | None:
    """Refuse what is out of range."""
    low, high = track.rule.low, track.rule.high
    if (low is None or number >= low) and (high is None or number <= high):
        return number
    track.refused = number
    return None


def gather_beside(track: Track, number: float, taken_s: float) -> float | None:
    """Gather for the windows that are sensors of their own; the number goes on as it is."""
    rule = track.rule
    if track.window.take(number, taken_s, rule.window_s):
        for window, key in zip(rule.beside, track.beside_keys, strict=True):
            track.beside[key] = _rounded(_result(track, window), rule.decimals)
    return number


def gather(track: Track, number: float, taken_s: float) -> float | None:
    """Gather; what goes on is the result of a window that ends."""
    rule = track.rule
    if rule.window is None or not track.window.take(number, taken_s, rule.window_s):
        return None
    return _result(track, rule.window)


def round_off(track: Track, number: float, _taken_s: float) -> float | None:
    """Keep the digits that are wanted."""
    return _rounded(number, track.rule.decimals)


def throttle(track: Track, number: float, taken_s: float) -> float | None:
    """Leave out what comes too soon after the last one that was published."""
    is_due = abs(taken_s - track.last_s) >= track.rule.throttle_s * ON_TIME
    return number if is_due else None


def keep_changes(track: Track, number: float, taken_s: float) -> float | None:
    """Leave out what is about the same as the last one that was published, for a while."""
    rule, last = track.rule, track.last
    if last is None or abs(taken_s - track.last_s) >= rule.refresh_s:
        return number
    return number if abs(number - last) >= rule.deadband * _SAME else None


class Step(NamedTuple):
    """One thing that may be done to a number."""

    is_wanted: Callable[[SensorRule], bool]
    apply: Callable[[Track, float, float], float | None]
    """Takes the track, the number and when it was taken; returns what is left of it."""


STEPS: Final[dict[str, Step]] = {
    "calibrate": Step(lambda rule: rule.scale != 1 or rule.offset != 0, calibrate),
    "range": Step(lambda rule: rule.low is not None or rule.high is not None, keep_plausible),
    "windows beside": Step(lambda rule: bool(rule.beside), gather_beside),
    "window": Step(lambda rule: rule.window is not None, gather),
    "round": Step(lambda rule: rule.decimals is not None, round_off),
    "throttle": Step(lambda rule: rule.throttle_s > 0, throttle),
    "deadband": Step(lambda rule: rule.deadband > 0, keep_changes),
}
"""All there are, in the order in which they are taken; README.md says why in this one."""


def tidy(number: float) -> float:
    """Return a number without the noise of binary fractions: 21.63, not 21.630000000000003."""
    return float(f"{number:.12g}") + 0.0  # there is a -0.0, and nobody wants it


def _result(track: Track, window: Window) -> float:
    number = track.window.result(window)
    return tidy(number) if window == "mean" else number


def _rounded(number: float, decimals: int | None) -> float:
    if decimals is None or isinstance(number, int):
        return number
    if decimals == 0 and abs(number) < _EXACT:
        return round(number)  # 22, not 22.0
    return round(number, decimals) + 0.0

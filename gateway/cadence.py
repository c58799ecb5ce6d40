"""What only the values of a sensor tell: their kind, and after what silence it is known no more."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from gateway.model import Value

LOOK_S: Final = 1.0
"""From one look at a device to the next; in between its samples are only gathered ..."""
GATHERED: Final = 64
"""... so many of them: a device that floods says the same again and again."""
KEPT_GAPS: Final = 8
ENOUGH_GAPS: Final = 4
"""Gaps after which a rhythm is believed."""
REGULAR: Final = 3.0
"""A sensor has a rhythm if its longest usual gap is at most so many times its middle one."""
MISSED: Final = 3
"""How many times its longest usual gap a sensor may be silent."""
RUNGS_S: Final = (60, 120, 300, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800)
"""What a silence is rounded up to, so that it seldom changes: each change makes Home Assistant set
an entity up anew."""
CALM_LOOKS: Final = 32
"""A shorter silence, or none at all, must have been right so often in a row ..."""
CALM_S: Final = 3600.0
"""... and so long after the last change."""
MAX_DEVICES: Final = 20_000
MAX_SENSORS: Final = 512
"""Sensors of one device, as many as a board can have; further ones are not looked at."""


class Habit(NamedTuple):
    """What was learned of one sensor."""

    kind: str = ""
    """number, flag or text; empty before its first value."""
    silence_s: int | None = None
    """After so long without a value it is known no more; None where there is no rhythm."""


class _Rhythm:
    """One sensor."""

    __slots__ = ("calm_looks", "changed_s", "gaps_s", "habit", "heard_s")

    def __init__(self, habit: Habit, now_s: float) -> None:
        self.habit = habit
        self.heard_s: float | None = None
        self.gaps_s: list[float] = []
        """The newest KEPT_GAPS."""
        self.calm_looks = 0
        self.changed_s = now_s

    def hear(self, value: Value, now_s: float) -> bool:
        """Note a value; tell whether the habit has changed."""
        habit = self.habit
        kind = _kind_of(value)
        if habit.kind != kind:
            kind = "text" if habit.kind else kind  # now a number, now a text: anything is a text
        if self.heard_s is not None:
            self.gaps_s.append(now_s - self.heard_s)
            del self.gaps_s[:-KEPT_GAPS]
        self.heard_s = now_s
        silence_s = self._silence_s(now_s) if kind == "number" else None
        if (kind, silence_s) == habit:
            return False
        self.habit = Habit(kind, silence_s)
        self.changed_s = now_s
        return True

    def _silence_s(self, now_s: float) -> int | None:
        present_s = self.habit.silence_s
        if len(self.gaps_s) < ENOUGH_GAPS:
            return present_s
        wanted_s = _rung_s(sorted(self.gaps_s))
        if wanted_s == present_s:
            self.calm_looks = 0
            return present_s
        if present_s is None or (wanted_s is not None and wanted_s > present_s):
            self.calm_looks = 0
            return wanted_s
        self.calm_looks += 1
        if self.calm_looks < CALM_LOOKS or now_s - self.changed_s < CALM_S:
            return present_s
        self.calm_looks = 0
        return wanted_s


class _Device:
    """One device: what it said since the last look, and what is known of its sensors."""

    __slots__ = ("due_s", "gathered", "said", "sensors")

    def __init__(self) -> None:
        self.due_s = float("-inf")
        self.gathered = 0
        self.said: dict[str, Value] = {}
        self.sensors: dict[str, _Rhythm] = {}


class Cadences:
    """Learns from the samples of all devices as they pass, for 0.2 to 0.5 us each.

    Times are those at which samples arrive, as it is their coming that somebody waits for. A gap in
    which the device was away says nothing. The longest gap may be an accident and does not count.
    """

    def __init__(self, on_change: Callable[[str], None]) -> None:
        """`on_change` gets the device whose habits have changed."""
        self._on_change = on_change
        self._devices: dict[str, _Device] = {}

    def hear(self, device: str, values: Mapping[str, Value], now_s: float) -> None:
        """Note a sample that is about to be published; `now_s` is monotonic."""
        heard = self._devices.get(device)
        if heard is None:
            heard = self._admit(device)
        if heard.gathered < GATHERED:
            heard.gathered += 1
            heard.said.update(values)
        if now_s >= heard.due_s:
            self._look(device, heard, now_s)

    def away(self, device: str) -> None:
        """Note that a device is gone: the gap that follows is none of its rhythm."""
        known = self._devices.get(device)
        if known is not None:
            known.said.clear()
            for rhythm in known.sensors.values():
                rhythm.heard_s = None

    def forget(self, device: str) -> None:
        """Drop what was learned of a device."""
        self._devices.pop(device, None)

    def habits(self, device: str) -> dict[str, Habit]:
        """Return what was learned, by the keys of the sensors."""
        known = self._devices.get(device)
        return {} if known is None else {key: each.habit for key, each in known.sensors.items()}

    def restore(self, device: str, habits: Mapping[str, Habit], now_s: float) -> None:
        """Take up what an earlier run had learned, unless this one knows better."""
        sensors = self._admit(device).sensors if device not in self._devices else {}
        for key, habit in list(habits.items())[:MAX_SENSORS]:
            sensors[key] = _Rhythm(habit, now_s)

    def _admit(self, device: str) -> _Device:
        if len(self._devices) >= MAX_DEVICES:
            del self._devices[next(iter(self._devices))]
        admitted = self._devices[device] = _Device()
        return admitted

    def _look(self, device: str, heard: _Device, now_s: float) -> None:
        heard.due_s = now_s + LOOK_S
        heard.gathered = 0
        sensors, has_changed = heard.sensors, False
        for key, value in heard.said.items():
            rhythm = sensors.get(key)
            if rhythm is None:
                if len(sensors) >= MAX_SENSORS:
                    continue
                rhythm = sensors[key] = _Rhythm(Habit(), now_s)
            has_changed |= rhythm.hear(value, now_s)
        heard.said.clear()
        if has_changed:
            self._on_change(device)


def _kind_of(value: Value) -> str:
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"


def _rung_s(gaps_s: list[float]) -> int | None:
    """Return the silence that fits sorted gaps; None if they have no rhythm."""
    usual_s = gaps_s[-2]
    if usual_s > REGULAR * max(gaps_s[(len(gaps_s) - 1) // 2], LOOK_S):
        return None
    return next((rung_s for rung_s in RUNGS_S if rung_s >= MISSED * usual_s), None)

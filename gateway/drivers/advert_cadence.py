"""How often a sensor is heard, and from when on it counts as silent."""

FLOOR_S = 60.0
"""Nobody counts as silent earlier: some adverts are lost, and scanners look away."""
CEILING_S = 4 * 3600.0
"""Who advertises by the clock counts as silent at the latest then; a longer gap is an absence."""
UNLEARNED_S = 900.0
"""How long a sensor may be silent of which little is known; Home Assistant's choice, too."""
SLEEPY_S = 24 * 3600.0
"""The same for those that advertise when something happens, as buttons do."""

INTERVALS = 3
"""How many times its longest usual gap a sensor may be silent."""
KEPT_GAPS = 16
LEARNED = 16
"""Adverts after which a sensor without a long gap is known to have none."""


class Cadence:
    """The gaps between the adverts of one sensor.

    Only long ones are kept, above a third of FLOOR_S: a sensor that advertises in bursts, many in a
    second and then nothing for minutes, is known by its minutes. The longest may be an accident and
    does not count where there is a second one. A gap is forgotten when sixteen of its length have
    passed, or after sixteen others.
    """

    __slots__ = ("_gaps", "_heard", "_heard_s", "_pauses")

    def __init__(self) -> None:
        self._heard_s: float | None = None
        self._heard = 0
        self._pauses = 0
        self._gaps: list[tuple[float, float]] = []
        """Length, and when it ended; at most KEPT_GAPS. A list, as an empty deque has 0.7 KB."""

    def hear(self, now_s: float, pauses: int) -> None:
        """Note an advert; a gap in which our own scanner paused says nothing."""
        if self._heard_s is not None and pauses == self._pauses:
            gap_s = now_s - self._heard_s
            if FLOOR_S / INTERVALS < gap_s < CEILING_S:
                self._gaps.append((gap_s, now_s))
                del self._gaps[:-KEPT_GAPS]
        self._heard_s = now_s
        self._heard += 1
        self._pauses = pauses

    def silent_from_s(self, *, is_sleepy: bool) -> float | None:
        """Return until when it may be silent; None if it was never heard."""
        if self._heard_s is None:
            return None
        if is_sleepy:
            return self._heard_s + SLEEPY_S
        return self._heard_s + self._allowed_s(self._heard_s)

    def _allowed_s(self, now_s: float) -> float:
        gaps = sorted(
            gap_s for gap_s, ended_s in self._gaps if now_s - ended_s <= gap_s * KEPT_GAPS
        )
        if len(gaps) > 1:
            return min(gaps[-2] * INTERVALS, CEILING_S)
        if self._heard <= LEARNED:
            return UNLEARNED_S
        return min(gaps[0] * INTERVALS, UNLEARNED_S) if gaps else FLOOR_S

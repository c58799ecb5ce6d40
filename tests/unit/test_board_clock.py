"""A board's clock over lines as they are: delays, resends, a gateway that is stopped at times."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.drivers.board_clock import DRIFT, BoardClock


@dataclass
class Line:
    """A line from a board whose crystal is wrong by `drift_ppm`; positive: it counts too fast."""

    drift_ppm: float
    pace_s: float
    """From one frame to the next."""
    rng: random.Random
    transit_s: float = 0.003
    """Of a frame that waits for nothing."""
    jitter_s: float = 0.005
    pause_s: float = 30.0
    """Longest time for which the gateway is stopped, every ten minutes or so."""

    def frames(self, seconds: float) -> Iterator[tuple[float, int, float]]:
        """Yield when each frame arrives, what the board had counted, and when it had."""
        pauses = list(self._pauses(seconds))
        frames = []
        now_s = 0.0
        while now_s < seconds:
            arrival_s = now_s + self._delay_s()
            for begin_s, end_s in pauses:
                if begin_s <= arrival_s < end_s:
                    arrival_s = end_s
            count_ms = int(now_s * 1000 * (1 + self.drift_ppm * 1e-6))
            frames.append((arrival_s, count_ms, now_s))
            now_s += self.pace_s
        yield from sorted(frames)

    def _delay_s(self) -> float:
        delay_s = self.transit_s + self.rng.expovariate(1 / self.jitter_s)
        chance = self.rng.random()
        if chance < 0.02:
            delay_s += self.rng.uniform(0.1, 0.5)  # the line or the machine was busy
        elif chance < 0.05:
            delay_s += self.rng.choice((0.3, 1.0, 2.0))  # lost; it comes again as it was stamped
        return delay_s

    def _pauses(self, seconds: float) -> Iterator[tuple[float, float]]:
        at_s = self.rng.expovariate(1 / 600)
        while at_s < seconds:
            end_s = at_s + self.rng.uniform(1.0, self.pause_s)
            yield at_s, end_s
            at_s = end_s + self.rng.expovariate(1 / 600)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("pace_s", [1.0, 5.0], ids=["a sample a second", "heartbeats alone"])
@pytest.mark.parametrize("drift_ppm", [-500, -50, 0, 50, 500])
def test_times_are_right_within_50_ms_on_a_line_with_delays_resends_and_pauses(
    drift_ppm: float, pace_s: float, seed: int
) -> None:
    line = Line(drift_ppm, pace_s, random.Random(seed))
    clock = BoardClock()

    errors_s = []
    for arrival_s, count_ms, sent_s in line.frames(2 * 3600.0):
        clock.note(count_ms % 2**32, arrival_s)
        errors_s.append(clock.sent_s() - sent_s)

    worst_s = max(errors_s, key=abs)
    assert abs(worst_s) < 0.05, f"seed {seed}"
    usual_s = sorted(map(abs, errors_s))[len(errors_s) // 2]
    assert usual_s < 0.015, f"seed {seed}"


@pytest.mark.parametrize("drift_ppm", [-500, 500])
def test_a_stop_of_ten_minutes_is_borne_however_the_crystal_drifts(drift_ppm: float) -> None:
    clock = BoardClock()

    def note(sent_s: float, arrival_s: float) -> float:
        clock.note(int(sent_s * 1000 * (1 + drift_ppm * 1e-6)), arrival_s)
        return abs(clock.sent_s() - sent_s)

    before_s = max(note(second, second) for second in range(600))
    burst_s = max(note(second, 1200 + second / 1e6) for second in range(600, 1200))
    after_s = max(note(second, second) for second in range(1201, 1800))

    assert before_s < 0.002
    assert burst_s < DRIFT * 600, "dated by what was known before"
    assert after_s < 0.002, "and known again at once"


def test_a_frame_that_is_over_a_minute_late_now_and_then_never_restarts_the_clock() -> None:
    clock = BoardClock()

    for second in range(0, 1000, 5):
        clock.note(second * 1000, second)
        if second >= 100 and second % 100 == 0:
            clock.note((second - 65) * 1000, second)
            assert clock.sent_s() == pytest.approx(second - 65, abs=0.001)

    assert clock.sent_s() == pytest.approx(995, abs=0.001)

"""What the scan tells the watchdog: hours of it in an instant."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.clock import Clock
from gateway.links.ble_recovery import ALL_TRIED, Remedy
from gateway.links.ble_scanner import BleScanner, ScanOptions
from gateway.progress import PERIOD_S, Progress
from gateway.status import RadioStatus
from tests.support.ble_pump import Pump, advert
from tests.support.skipping_loop import run_skipping

ADDRESS = "A4:C1:38:00:00:01"
HOUR_S = 3600.0
LOOK_S = 10.0


class Adapter:
    """An adapter that is there, and cannot be helped."""

    def __init__(self) -> None:
        self.remedies: list[Remedy] = []

    async def lost(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def mend(self, remedy: Remedy) -> None:
        self.remedies.append(remedy)
        await asyncio.sleep(60.0)

    async def forget(self, address: str) -> None:
        raise AssertionError(address)


class Scan:
    """A scan whose stage is looked at."""

    def __init__(
        self, clock: Clock, *, is_missed: bool, is_in_use: Callable[[], bool] = lambda: False
    ) -> None:
        self.pump = Pump()
        self.adapter = Adapter()
        self.progress = Progress(clock.monotonic_s, PERIOD_S)
        self.late_s: list[float] = []
        """When it stood still."""
        self._clock = clock
        self._scanner = BleScanner(
            ScanOptions(),
            lambda _advert, _device: None,
            RadioStatus(),
            clock,
            backend=self.pump,
            adapter=self.adapter,
            is_in_use=is_in_use,
            stage=self.progress.stage("radio"),
            is_missed=lambda: is_missed,
        )

    def hear(self) -> None:
        """Have one advert on the air."""
        self.pump.hear([(ADDRESS, advert(service_data=b"\x40\x02\x00\x00"))])

    async def run(self, for_s: float, act: Callable[[], None] = lambda: None) -> None:
        """Scan for so long, and act now and then."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self._scanner.run())
            await self.pump.has_started.wait()
            await asyncio.sleep(1.0)
            ends_s = self._clock.monotonic_s() + for_s
            while self._clock.monotonic_s() < ends_s:
                act()
                await asyncio.sleep(LOOK_S)
                if self.progress.late():
                    self.late_s.append(self._clock.monotonic_s())
            running.cancel()


def once(act: Callable[[], None]) -> Callable[[], None]:
    """Return what acts the first time it is called, and no more."""
    acts = [act]

    def act_once() -> None:
        if acts:
            acts.pop()()

    return act_once


def test_where_nothing_was_ever_heard_there_may_be_nothing_to_hear() -> None:
    async def main(clock: Clock) -> Scan:
        scan = Scan(clock, is_missed=True)
        await scan.run(4 * HOUR_S)
        return scan

    scan = run_skipping(main)

    assert scan.adapter.remedies.count(Remedy.RESET) > 1  # it tried, and is not to be blamed
    assert scan.late_s == []


def test_where_only_strangers_passed_by_nobody_is_missed() -> None:
    async def main(clock: Clock) -> Scan:
        scan = Scan(clock, is_missed=False)
        await scan.run(4 * HOUR_S, once(scan.hear))
        return scan

    assert run_skipping(main).late_s == []


def test_a_radio_that_hears_is_never_late() -> None:
    async def main(clock: Clock) -> Scan:
        scan = Scan(clock, is_missed=True)
        await scan.run(2 * HOUR_S, scan.hear)
        return scan

    scan = run_skipping(main)

    assert scan.pump.modes == ["passive"]
    assert scan.late_s == []


def test_a_radio_that_went_deaf_for_good_is_given_up_when_all_was_tried_twice() -> None:
    async def main(clock: Clock) -> tuple[Scan, float]:
        scan = Scan(clock, is_missed=True)
        began_s = clock.monotonic_s()
        await scan.run(2 * HOUR_S, once(scan.hear))
        return scan, began_s

    scan, began_s = run_skipping(main)
    before = scan.adapter.remedies[:ALL_TRIED]

    assert before.count(Remedy.RESET) >= 2
    # 4 scans of 90 s, then of 180, 360 and 720 s; each remedy takes a minute here.
    assert 1620.0 < scan.late_s[0] - began_s < 2400.0
    # From then on it is late at each look: nobody feeds the watchdog by trying once more.
    assert len(scan.late_s) == pytest.approx(
        (2 * HOUR_S - scan.late_s[0] + began_s) / LOOK_S, abs=3
    )


def test_a_radio_that_hears_again_is_late_no_more() -> None:
    async def main(clock: Clock) -> tuple[Scan, float]:
        scan = Scan(clock, is_missed=True)
        began_s = clock.monotonic_s()

        def act() -> None:
            if clock.monotonic_s() < began_s + LOOK_S or clock.monotonic_s() > began_s + HOUR_S:
                scan.hear()

        await scan.run(2 * HOUR_S, act)
        return scan, began_s

    scan, began_s = run_skipping(main)

    assert scan.late_s
    assert max(scan.late_s) < began_s + HOUR_S + 2 * PERIOD_S


def test_who_is_connected_to_boards_is_not_given_up_for_hearing_nothing() -> None:
    async def main(clock: Clock) -> Scan:
        scan = Scan(clock, is_missed=True, is_in_use=lambda: True)
        await scan.run(4 * HOUR_S, once(scan.hear))
        return scan

    assert run_skipping(main).late_s == []


def test_nor_is_who_connects_to_a_board_after_it_went_deaf() -> None:
    async def main(clock: Clock) -> tuple[Scan, float]:
        connects_s = clock.monotonic_s() + HOUR_S
        scan = Scan(clock, is_missed=True, is_in_use=lambda: clock.monotonic_s() > connects_s)
        await scan.run(2 * HOUR_S, once(scan.hear))
        return scan, connects_s

    scan, connects_s = run_skipping(main)

    assert scan.late_s
    assert max(scan.late_s) < connects_s + PERIOD_S

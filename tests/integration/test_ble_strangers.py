"""Whoever advertises our service: who is tried how often, and what for; hours of it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import pytest
from bleak.backends.device import BLEDevice

from gateway.ble.acquaintances import MAX_REMEMBERED, Acquaintances
from gateway.ble.boards import MAX_BOARDS, MAX_STRANGERS, MAX_TOLD, STALE_S, Boards
from gateway.ble.service import BleOptions
from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.house import House
from gateway.links.ble_backend import NO_RSSI
from gateway.links.ble_gatt import SERVICE
from gateway.protocol.delivery import DeliveryBook
from gateway.status import Status
from tests.support.ble_pump import Pump
from tests.support.skipping_loop import run_skipping

HOUR_S = 3600
FREE, BUSY, ASLEEP = b"\0\1", b"\0\0", b"\0\3"
"""Nothing waits; it can be connected to, or not, or for a moment only."""


def address(number: int) -> str:
    return f"74:05:D7:00:{number >> 8:02X}:{number & 255:02X}"


class Neighbourhood:
    """Boards that can be heard, of which none can be connected to."""

    def __init__(self, clock: Clock, known: Iterable[str] = ()) -> None:
        self.pump = Pump()
        self.status = Status()
        self.mail: set[str] = set()
        self.known = Acquaintances()
        self.known.recall({each: f"device-{each[-2:].lower()}" for each in known})
        self._clock = clock
        house = House(
            DeliveryBook(),
            clock,
            1,
            "cafe",
            self.status,
            lambda _link, _events: None,
            self._forget_link,
            lambda: None,
            lambda device: device in self.mail,
        )
        self.anew: list[str] = []
        """Who was to be told of anew."""
        self.boards = Boards(
            BleOptions(Path("joined")), house, self.pump, self.known, self._note_anew
        )

    def _note_anew(self, who: str, unless: Callable[[], bool]) -> None:
        assert not unless()
        self.anew.append(who)

    def _forget_link(self, link: str) -> None:
        del self.status.links[link]

    def hear(self, who: str, waiting: bytes | None = None, rssi: int = -60) -> None:
        """Hear one advert."""
        told = {} if waiting is None else {0xFFFF: waiting}
        heard_s = self._clock.monotonic_s()
        advert = Advert(who, "", rssi, told, {}, (SERVICE,), heard_s)
        self.boards.hear(advert, BLEDevice(who, who, {}))

    async def hear_for(self, seconds: int, *who: str, waiting: bytes | None = None) -> None:
        """Hear each of them once a second."""
        for _ in range(seconds):
            for each in who:
                self.hear(each, waiting)
            await asyncio.sleep(1.0)


def tried(known: Iterable[str], life: Callable[[Neighbourhood], object]) -> Neighbourhood:
    """Live in a neighbourhood; return what it was like."""

    async def main(clock: Clock) -> Neighbourhood:
        neighbourhood = Neighbourhood(clock, known)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(neighbourhood.boards.run())
            await asyncio.sleep(0)
            living = life(neighbourhood)
            assert asyncio.iscoroutine(living)
            await living
            running.cancel()
        return neighbourhood

    return run_skipping(main)


def test_a_stranger_is_tried_less_and_less_and_a_known_board_often() -> None:
    known, stranger = address(1), address(2)

    it = tried([known], lambda its: its.hear_for(HOUR_S, known, stranger))

    assert it.pump.tried[known] > 250  # every 15 s or so, two tries each
    assert 10 < it.pump.tried[stranger] < 130  # every 150 s or so


@pytest.mark.parametrize("how_many", [3, 2 * MAX_TOLD])
def test_of_strangers_that_fail_some_are_told_of_once_and_all_are_counted(
    how_many: int, caplog: pytest.LogCaptureFixture
) -> None:
    strangers = [address(number) for number in range(how_many)]
    numbers = count()

    async def life(its: Neighbourhood) -> None:
        its.pump.why = lambda: f"reason {next(numbers)}"
        await its.hear_for(HOUR_S // 4, *strangers)

    it = tried([], life)

    warned = Counter(
        record.getMessage().split(": ")[0]
        for record in caplog.records
        if record.levelno >= logging.WARNING
    )
    assert len(warned) == min(how_many, MAX_TOLD)
    assert set(warned.values()) == {1}
    assert it.status.counts["strangers_failed"] > 3 * len(strangers)


@pytest.mark.parametrize(
    ("is_known", "has_mail", "waiting", "is_tried"),
    [
        (True, True, ASLEEP, True),
        (True, True, FREE, True),
        (True, True, BUSY, False),
        (True, False, ASLEEP, False),
        (False, False, ASLEEP, True),
        (False, False, BUSY, False),
        (True, False, b"\1\3", True),
        (False, False, b"\1\3", True),
    ],
    ids=[
        "mail for one that sleeps",
        "mail for one that advertises its readings",
        "mail for one that cannot be connected to",
        "neither mail nor samples",
        "nobody knows who it is",
        "nobody knows who it is that cannot be connected to",
        "samples",
        "samples of a stranger",
    ],
)
def test_a_board_is_connected_to_for_its_samples_or_for_its_mail(
    *, is_known: bool, has_mail: bool, waiting: bytes, is_tried: bool
) -> None:
    async def life(its: Neighbourhood) -> None:
        if has_mail:
            its.mail.add("device-01")
        await its.hear_for(60, address(1), waiting=waiting)

    it = tried([address(1)] if is_known else [], life)

    assert (it.pump.tried[address(1)] > 0) is is_tried


def test_strangers_take_no_known_boards_place_and_known_ones_take_theirs() -> None:
    known = [address(number) for number in range(MAX_BOARDS)]
    numbers = count(1000)
    counts: list[int] = []

    async def life(its: Neighbourhood) -> None:
        for each in known[2 * MAX_STRANGERS :]:
            its.hear(each)
        await asyncio.sleep(1.0)
        for _ in range(MAX_STRANGERS + 50):
            its.hear(address(next(numbers)))
        counts.append(its.status.counts["boards_refused"])
        await asyncio.sleep(STALE_S + 1.0)
        for each in known[: 2 * MAX_STRANGERS]:
            its.hear(each)
        counts.append(sum(each in its.status.links for each in known))
        await asyncio.sleep(STALE_S + 1.0)
        for _ in range(50):
            its.hear(address(next(numbers)))
        counts.append(sum(each in its.status.links for each in known))

    tried(known, life)

    assert counts == [50, MAX_BOARDS, MAX_BOARDS]


def test_a_board_that_is_missed_is_asked_for_less_and_less() -> None:
    async def life(its: Neighbourhood) -> None:
        its.hear(address(1))
        await asyncio.sleep(HOUR_S)

    it = tried([address(1)], life)

    assert it.pump.tried[address(1)]
    assert 8 <= len(it.anew) <= 14  # after 0, 10, 20, 40, ... 600 s
    assert set(it.anew) == {address(1)}


def test_how_strong_a_board_is_heard_stands_in_the_status() -> None:
    async def life(its: Neighbourhood) -> None:
        its.hear(address(1), rssi=-71)
        its.hear(address(1), rssi=NO_RSSI)  # BlueZ has it connected, and says no more

    assert tried([], life).status.links[address(1)].rssi == -71


def test_boards_are_remembered_within_bounds_the_newest_ones() -> None:
    told: list[str] = []
    known = Acquaintances(lambda: told.append("changed"))

    for number in range(MAX_REMEMBERED + 5):
        known.note(address(number), "attic")
        known.note(address(3), "attic")  # it joins again and again, which is nothing new

    assert len(known.devices) == MAX_REMEMBERED
    assert known.device_at(address(5)) == ""
    assert [known.device_at(address(number)) for number in (3, 6)] == ["attic"] * 2
    assert len(told) == MAX_REMEMBERED + 5


def test_an_id_from_another_address_is_told_of_once_and_robs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = Acquaintances()
    known.note(address(1), "attic")
    known.note(address(2), "cellar")
    assert not caplog.messages

    for number in (3, 4, 5):
        known.note(address(number), "attic")

    (warning,) = caplog.messages
    assert warning.startswith(f"attic: joins from {address(3)}, and was at {address(1)}")
    assert known.device_at(address(1)) == "attic"


def test_what_was_learnt_since_is_worth_more_than_what_was_kept() -> None:
    known = Acquaintances()
    known.note(address(1), "new")

    known.recall({address(1): "old", address(2): "other"})

    assert known.devices == {address(1): "new", address(2): "other"}


def test_who_is_to_be_forgotten_is_a_stranger_again() -> None:
    forgotten: list[bool] = []

    async def life(its: Neighbourhood) -> None:
        await its.hear_for(60, address(1))
        forgotten.extend([its.boards.forget(address(1)), its.boards.forget(address(1))])
        its.pump.tried.clear()
        await its.hear_for(HOUR_S, address(1))

    it = tried([address(1)], life)

    assert forgotten == [True, False]
    assert it.pump.tried[address(1)] < 130

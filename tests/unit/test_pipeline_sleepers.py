"""How long a board that said good-bye is taken to be there; no broker is needed."""

import pytest

from gateway.clock import Clock
from gateway.devices.presence import LEAST_SLEEP_S, MOST_SLEEP_S
from gateway.model import Description, Event, Gone, Readings, Sample, Seen
from gateway.status import Status
from tests.support.pipeline import new_pipeline

SEEN = Seen(Description("attic", "attic", "board"))
READ = Readings("attic", (Sample("attic", 7, 0, 100.0, {"number": 0}),))
WEEK_S = 7 * 86_400.0


class Attic:
    """A gateway that knows one board."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.status = Status()
        clock = Clock(lambda: self.now_s, is_synchronised=lambda: False)
        self.pipeline, self.devices = new_pipeline(self.status, clock)
        self.say(SEEN)

    def say(self, *events: Event) -> None:
        self.pipeline.accept("port", list(events))

    def is_online_after(self, pause_s: float) -> bool:
        self.now_s += pause_s
        self.devices.look_around()
        return self.status.devices["attic"].online


@pytest.mark.parametrize(
    ("back_in_s", "stays_s"),
    [(600.0, 1800.0), (4.0, LEAST_SLEEP_S), (WEEK_S, MOST_SLEEP_S)],
    ids=["three wakes", "at least", "at most"],
)
def test_a_board_that_sleeps_is_there_until_it_missed_three_wakes(
    back_in_s: float, stays_s: float
) -> None:
    attic = Attic()

    attic.say(Gone("attic", "bye", back_in_s))

    assert attic.is_online_after(stays_s - 0.1)
    assert not attic.is_online_after(0.2)


@pytest.mark.parametrize("back", [SEEN, READ], ids=["joined", "read"])
def test_one_that_woke_is_there_until_it_says_good_bye_again(back: Event) -> None:
    attic = Attic()
    attic.say(Gone("attic", "bye", 600.0))

    attic.say(back)

    assert attic.is_online_after(WEEK_S)
    attic.say(Gone("attic", "bye", 600.0))
    assert attic.is_online_after(1799.0)
    assert not attic.is_online_after(2.0)


@pytest.mark.parametrize("back_in_s", [None, 0.0])
def test_one_that_does_not_say_when_it_comes_back_is_gone(back_in_s: float | None) -> None:
    attic = Attic()

    attic.say(Gone("attic", "bye", back_in_s))

    assert not attic.is_online_after(0.0)


def test_one_that_was_gone_already_is_not_there_again_for_its_good_bye() -> None:
    attic = Attic()

    attic.say(Gone("attic", "silent"), Gone("attic", "bye", 600.0))

    assert not attic.is_online_after(0.0)

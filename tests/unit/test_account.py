"""The account that the fault tests stand on finds what is wrong, whatever it is."""

import json
from collections.abc import Iterable

import pytest

from tests.support.account import Account, Ledger
from tests.support.journal_board import Journal, Life
from tests.support.witness import Heard


def reading(seq: int, number: int, boot: int = 1) -> dict[str, object]:
    return {"number": number, "time": "2026-01-01T00:00:00.000Z", "id": f"d/{boot}/{seq}"}


def state(seq: int, number: int, boot: int = 1) -> Heard:
    return Heard("edge/test/d/state", json.dumps(reading(seq, number, boot)).encode(), 0.0)


def history(*pairs: tuple[int, int], boot: int = 1) -> Heard:
    batch = [reading(seq, number, boot) for seq, number in pairs]
    return Heard("edge/test/d/history", json.dumps(batch).encode(), 0.0)


def gap(first: int, last: int, boot: int = 1, cause: str = "ring_overflow") -> Heard:
    body = {"boot": boot, "from": first, "to": last, "cause": cause, "count": last - first + 1}
    return Heard("edge/test/d/gap", json.dumps(body).encode(), 0.0)


def settle(heard: Iterable[Heard], noted: int, *lives: Life, power_cuts: bool = False) -> Account:
    ledger = Ledger()
    ledger.take(list(heard))
    return ledger.settle(Journal("d", noted, lives or (Life(1, 0),)), power_cuts=power_cuts)


ALL = [state(0, 0), history((1, 1), (2, 2)), state(3, 3)]


def test_what_was_produced_and_arrived_is_exact() -> None:
    account = settle(ALL, 4)

    assert account.is_exact
    assert (account.produced, account.delivered, account.repeated) == (4, 4, 0)


def test_repetitions_and_previews_change_nothing() -> None:
    drained = history((0, 0), (1, 1), (2, 2), (3, 3))
    account = settle([state(3, 3), drained, state(3, 3)], 4)

    assert account.is_exact
    assert (account.delivered, account.repeated) == (4, 2)


def test_what_was_on_state_may_come_again_on_history_out_of_order() -> None:
    heard = [state(0, 0), state(1, 1), history((2, 2)), state(3, 3), history((1, 1), (2, 2))]

    assert settle(heard, 4).is_exact


def test_gaps_stand_for_what_is_lost() -> None:
    account = settle([gap(0, 1), state(2, 2), gap(3, 3, cause="power_loss")], 4)

    assert account.is_exact
    assert account.gaps == {"ring_overflow": 2, "power_loss": 1}


def test_a_gap_that_is_told_twice_counts_once() -> None:
    assert settle([gap(0, 1), gap(0, 1), state(2, 2)], 3).is_exact


def test_a_sample_that_was_only_shown_before_it_was_lost_is_there() -> None:
    account = settle([history((0, 0)), state(2, 2), gap(1, 2)], 3)

    assert account.is_exact
    assert (account.delivered, account.gaps.total()) == (2, 1)


def test_the_boards_of_others_do_not_matter() -> None:
    other = Heard("edge/test/e/state", b'{"number":7,"id":"e/1/9"}', 0.0)

    assert settle([*ALL, other], 4).is_exact


def test_the_last_reading_of_a_killed_life_may_have_become_no_sample() -> None:
    account = settle([history((0, 0), (1, 1), (2, 3))], 4, Life(1, 0), Life(1, 3))

    assert account.is_exact
    assert (account.produced, account.unborn) == (3, 1)


def test_that_holds_at_the_end_and_between_boots_as_well() -> None:
    lives = Life(1, 0), Life(2, 3), Life(2, 5)
    account = settle([history((0, 0), (1, 1)), history((0, 3), boot=2)], 5, *lives)

    assert account.is_exact
    assert account.unborn == 2


def test_what_nobody_knew_of_is_lost_with_the_power() -> None:
    heard = [history((0, 0), (1, 1)), history((0, 5), boot=2)]
    lives = Life(1, 0), Life(2, 5)

    assert settle(heard, 6, *lives, power_cuts=True).untold == 3
    assert settle(heard, 6, *lives, power_cuts=True).is_exact
    assert not settle(heard, 6, *lives).is_exact


def test_last_words_of_a_killed_gateway_may_be_called_lost_with_the_power_of_the_board() -> None:
    heard = [history((0, 0), (1, 1)), gap(1, 2, cause="power_loss"), state(0, 3, boot=2)]
    lives = Life(1, 0), Life(2, 3)

    assert settle(heard, 4, *lives, power_cuts=True).is_exact
    assert not settle(heard, 4, *lives).is_exact


@pytest.mark.parametrize(
    ("heard", "noted", "problem"),
    [
        ([state(0, 0), state(2, 2)], 3, "boot 1 misses 1..1"),
        ([state(1, 1)], 2, "boot 1 misses 0..0"),
        ([state(0, 0)], 2, "boot 1 ends with 1 samples untold"),
        ([], 2, "boot 1 ends with 2 samples untold"),
        ([state(0, 0), state(1, 2)], 3, "boot 1 seq 1 has the number 2"),
        ([state(0, 0), state(1, 0)], 2, "number 0 is d/1/0 and d/1/1"),
        ([state(0, 0), state(0, 1)], 1, "two readings with one id"),
        ([state(0, 0), state(1, 1)], 1, "boot 1 ends with -1 samples untold"),
        ([state(0, 0), state(0, 0, boot=9)], 1, "nobody has ever been in boot 9"),
        ([state(0, 0), gap(0, 0, boot=9)], 1, "nobody has ever been in boot 9"),
        ([history((0, 0), (1, 1)), gap(1, 1)], 2, "is delivered, and in a gap"),
        (
            [history((1, 1), (0, 0))],
            2,
            "comes after Id(boot=1, seq=1) on history",
        ),
        ([state(1, 1), state(0, 0)], 2, "comes after Id(boot=1, seq=1) on state"),
        ([gap(0, 5)], 2, "boot 1 ends with -4 samples untold"),
    ],
)
def test_what_is_wrong_is_told(heard: list[Heard], noted: int, problem: str) -> None:
    account = settle(heard, noted)

    assert not account.is_exact
    assert any(problem in each for each in account.problems), account.problems


def test_a_gap_whose_count_is_wrong_is_told() -> None:
    wrong = Heard("edge/test/d/gap", b'{"boot":1,"from":0,"to":3,"cause":"x","count":3}', 0.0)

    assert not settle([wrong], 4).is_exact

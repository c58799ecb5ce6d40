"""Who gets how much of an adapter, with many who want more of it than there is; hours of it."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable

import pytest

from gateway.clock import Clock
from gateway.links.ble_turns import Guest, Turn, Turns
from tests.support.skipping_loop import run_skipping

TURN_S = 30.0
HOUR_S = 3600.0


class Adapter:
    """Its guests, and for how long each had a slot."""

    def __init__(self, clock: Clock, slots: int) -> None:
        self.had_s: dict[str, float] = defaultdict(float)
        self.waited_s: dict[str, list[float]] = defaultdict(list)
        """How long each waited for its slots."""
        self.missed: Counter[str] = Counter()
        """How often each that sleeps did so before it had a slot."""
        self.most_strangers = 0
        """At a time, while boards of ours waited for more than a moment."""
        self.turns = Turns(slots, TURN_S, clock.monotonic_s)
        self._now_s = clock.monotonic_s
        self._strangers = 0
        self._waiting: set[str] = set()

    async def awake(self, name: str) -> None:
        """Have a slot whenever it is to be had, and keep it until others want it."""
        while True:
            since_s = self._now_s()
            self._waiting.add(name)
            async with self.turns.take(Guest.SETTLED) as turn:
                self._waiting.discard(name)
                await self._use(name, turn, since_s, turn.over.wait())

    async def asleep(
        self, name: str, every_s: float, awake_s: float, visit_s: float = HOUR_S
    ) -> None:
        """Wake now and then for a while, and be visited unless the slot comes too late."""
        while True:
            await asyncio.sleep(every_s)
            since_s = self._now_s()
            try:
                async with asyncio.timeout(awake_s) as falling_asleep:
                    async with self.turns.take(Guest.BRIEF) as turn:
                        falling_asleep.reschedule(None)
                        await self._use(name, turn, since_s, _visit(turn, visit_s))
            except TimeoutError:
                self.missed[name] += 1

    async def stranger(self, name: str) -> None:
        """Claim to be a board, and take as long as one may."""
        while True:
            since_s = self._now_s()
            async with self.turns.take(Guest.STRANGER) as turn:
                self._strangers += 1
                await asyncio.sleep(0.1)
                if self._waiting:
                    self.most_strangers = max(self.most_strangers, self._strangers)
                await self._use(name, turn, since_s, turn.over.wait(), for_s=20.0)
                self._strangers -= 1

    async def _use(
        self,
        name: str,
        turn: Turn,
        since_s: float,
        until: Coroutine[None, None, object],
        for_s: float | None = None,
    ) -> None:
        began_s = self._now_s()
        self.waited_s[name].append(began_s - since_s)
        self.turns.begin(turn, for_s)
        await until
        self.had_s[name] += self._now_s() - began_s


async def _visit(turn: Turn, visit_s: float) -> None:
    try:
        async with asyncio.timeout(visit_s):
            await turn.over.wait()
    except TimeoutError:
        return


def after_an_hour(
    slots: int,
    guests: Callable[[Adapter], Iterable[Coroutine[None, None, None]]],
    late: Callable[[Adapter], Iterable[Coroutine[None, None, None]]] = lambda _: (),
) -> Adapter:
    """Have guests come, and some a minute later; return what was seen."""

    async def main(clock: Clock) -> Adapter:
        adapter = Adapter(clock, slots)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(guest) for guest in guests(adapter)]
            await asyncio.sleep(60.0)
            running += [tasks.create_task(guest) for guest in late(adapter)]
            await asyncio.sleep(HOUR_S)
            for task in running:
                task.cancel()
        return adapter

    return run_skipping(main)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_boards_that_sleep_find_a_slot_whoever_takes_turns(slots: int) -> None:
    adapter = after_an_hour(
        slots,
        lambda its: [
            *(its.awake(f"awake-{number}") for number in range(2 * slots)),
            *(its.asleep(f"asleep-{number}", 57.0 + number, 5.0, 2.0) for number in range(2)),
        ],
    )

    for name in ("asleep-0", "asleep-1"):
        assert len(adapter.waited_s[name]) >= 55
        assert adapter.missed[name] <= len(adapter.waited_s[name]) // 10, "both woke at once"


def test_a_single_board_that_sleeps_misses_nothing() -> None:
    adapter = after_an_hour(
        1, lambda its: [its.awake("one"), its.awake("other"), its.asleep("shed", 60.0, 5.0, 2.0)]
    )

    assert adapter.missed["shed"] == 0
    assert max(adapter.waited_s["shed"]) <= 2.0


@pytest.mark.parametrize("slots", [1, 3])
def test_many_that_claim_to_sleep_leave_others_half_of_the_time(slots: int) -> None:
    """They are there again at once, and stay for as long as they may."""
    count = slots + 1
    adapter = after_an_hour(
        slots,
        lambda its: [
            *(its.awake(f"awake-{number}") for number in range(count)),
            *(its.asleep(f"asleep-{number}", 0.5, 5.0) for number in range(20)),
        ],
    )

    shares = [adapter.had_s[f"awake-{number}"] / HOUR_S / slots for number in range(count)]
    assert sum(shares) >= 0.45
    assert min(shares) >= 0.8 / 2 / count


@pytest.mark.parametrize("slots", [1, 2])
def test_strangers_leave_known_boards_most_of_the_time_and_come_in_all_the_same(slots: int) -> None:
    count = slots + 1
    adapter = after_an_hour(
        slots,
        lambda its: [
            *(its.awake(f"awake-{number}") for number in range(count)),
            *(its.stranger(f"stranger-{number}") for number in range(50)),
        ],
    )

    known = sum(adapter.had_s[f"awake-{number}"] for number in range(count)) / HOUR_S / slots
    assert known >= 0.7 if slots == 1 else known >= 0.85
    assert sum(name.startswith("stranger") for name in adapter.had_s) >= 20
    assert max(adapter.waited_s["awake-0"]) <= TURN_S * count + 25.0


def test_strangers_who_have_all_slots_give_all_but_one_to_boards_that_come() -> None:
    adapter = after_an_hour(
        4,
        lambda its: [its.stranger(f"stranger-{number}") for number in range(50)],
        lambda its: [its.awake(f"awake-{number}") for number in range(4)],
    )

    assert sorted(round(adapter.waited_s[f"awake-{number}"][0]) for number in range(4))[:3] == [
        0,
        0,
        0,
    ]
    assert adapter.most_strangers == 1


def test_a_board_that_sleeps_finds_a_slot_among_strangers() -> None:
    adapter = after_an_hour(
        1,
        lambda its: [
            its.asleep("shed", 48.0, 5.0, 2.0),
            *(its.stranger(f"stranger-{number}") for number in range(50)),
        ],
    )

    assert adapter.missed["shed"] == 0


def test_strangers_take_turns_among_themselves() -> None:
    adapter = after_an_hour(
        1, lambda its: [its.stranger(f"stranger-{number}") for number in range(50)]
    )

    assert len(adapter.had_s) == 50


def test_a_visit_is_not_cut_short_by_others_that_sleep() -> None:
    adapter = after_an_hour(
        1, lambda its: [its.asleep(f"asleep-{number}", 20.0, 15.0, 3.0) for number in range(6)]
    )

    for name, waited_s in adapter.waited_s.items():
        assert adapter.had_s[name] == pytest.approx(3.0 * len(waited_s), abs=3.0)


def test_a_new_board_comes_in_where_known_ones_have_all_slots() -> None:
    adapter = after_an_hour(
        2,
        lambda its: [its.awake("one"), its.awake("other")],
        lambda its: [its.stranger("new")],
    )

    assert adapter.waited_s["new"][0] <= TURN_S

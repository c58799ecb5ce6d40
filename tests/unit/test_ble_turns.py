"""Slots shared by more boards than there are."""

import asyncio
import random

import pytest

from gateway.links.ble_turns import LEAST_S, Guest, Turns


class Hours:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def until(claim: object) -> None:
    """Let the loop turn until `claim()` is true."""
    assert callable(claim)
    async with asyncio.timeout(5):
        while not claim():  # noqa: ASYNC110  # what is waited for are turns of the loop
            await asyncio.sleep(0)


async def test_slots_are_handed_out_in_the_order_of_asking() -> None:
    turns = Turns(1, 30, Hours())
    order: list[int] = []

    async def take(number: int) -> None:
        async with turns.take():
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(take(number))

    assert order == [0, 1, 2, 3, 4]
    assert (turns.held, turns.waiting) == (0, 0)


async def test_nobody_is_asked_for_a_slot_that_nobody_waits_for() -> None:
    clock = Hours()
    turns = Turns(2, 0.001, clock)

    async with turns.take() as first, turns.take() as second:
        turns.begin(first)
        turns.begin(second)
        clock.now_s += 1000
        await asyncio.sleep(0.01)

        assert not first.over.is_set()
        assert not second.over.is_set()


async def test_who_had_a_slot_longest_is_asked_when_its_turn_is_over() -> None:
    clock = Hours()
    turns = Turns(2, 0.05, clock)

    async def wait() -> None:
        async with turns.take():
            pass

    async with asyncio.TaskGroup() as tasks, turns.take() as first, turns.take() as second:
        turns.begin(second)  # it was connected first
        clock.now_s += 0.01
        turns.begin(first)
        tasks.create_task(wait())
        await until(lambda: turns.waiting == 1)
        assert not second.over.is_set()

        clock.now_s += 0.04
        async with asyncio.timeout(5):
            await second.over.wait()

        assert not first.over.is_set()


async def test_the_time_of_who_is_not_connected_yet_does_not_run() -> None:
    clock = Hours()
    turns = Turns(1, 0, clock)

    async def wait() -> None:
        async with turns.take():
            pass

    async with asyncio.TaskGroup() as tasks, turns.take() as turn:
        tasks.create_task(wait())
        await until(lambda: turns.waiting == 1)
        clock.now_s += 1000
        assert not turn.over.is_set()

        turns.begin(turn)

        assert turn.over.is_set()


async def test_a_turn_may_begin_with_less_than_its_time_and_again_with_all_of_it() -> None:
    clock = Hours()
    turns = Turns(2, 30, clock)
    told: list[str] = []

    async def wait() -> None:
        async with turns.take():
            pass

    async with asyncio.TaskGroup() as tasks, turns.take() as connecting, turns.take() as connected:
        connecting.on_over = lambda: told.append("connecting")
        connected.on_over = lambda: told.append("connected")
        turns.begin(connecting, 20)
        turns.begin(connected, 20)
        clock.now_s += 10
        turns.begin(connected)
        clock.now_s += 15
        tasks.create_task(wait())
        await until(lambda: turns.waiting == 1)

        assert told == ["connecting"]
        assert connecting.over.is_set()


async def test_a_slot_is_asked_for_early_by_those_who_are_there_for_moments() -> None:
    clock = Hours()
    turns = Turns(2, 30, clock)

    async def wait(guest: Guest) -> None:
        async with turns.take(guest):
            pass

    async with turns.take(Guest.BRIEF):  # while nobody waits: that owes nobody anything
        clock.now_s += 20
    async with asyncio.TaskGroup() as tasks, turns.take() as first, turns.take() as second:
        turns.begin(first)
        turns.begin(second)
        clock.now_s += LEAST_S
        tasks.create_task(wait(Guest.SETTLED))
        await until(lambda: turns.waiting == 1)
        assert not first.over.is_set()

        tasks.create_task(wait(Guest.BRIEF))
        await until(lambda: turns.waiting == 2)

        assert first.over.is_set()
        assert not second.over.is_set()


async def test_one_who_does_not_give_back_costs_one_slot_only() -> None:
    clock = Hours()
    turns = Turns(2, 0, clock)
    done: list[int] = []

    async def take(number: int) -> None:
        async with turns.take():
            done.append(number)
            await asyncio.sleep(0)

    async with turns.take(), asyncio.TaskGroup() as tasks:  # the first keeps it
        for number in range(10):
            tasks.create_task(take(number))

    assert done == list(range(10))


async def test_one_who_leaves_the_queue_is_skipped() -> None:
    turns = Turns(1, 30, Hours())
    served: list[str] = []

    async def take(name: str) -> None:
        async with turns.take():
            served.append(name)

    async with asyncio.TaskGroup() as tasks, turns.take():
        leaving = tasks.create_task(take("leaves"))
        tasks.create_task(take("stays"))
        await until(lambda: turns.waiting == 2)
        leaving.cancel()
        await until(lambda: turns.waiting == 1)

    assert served == ["stays"]
    assert (turns.held, turns.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_or_made_however_they_come_and_go(seed: int) -> None:
    rng = random.Random(seed)
    slots = rng.randint(1, 4)
    turns = Turns(slots, 0, Hours())
    most = 0

    async def visit() -> None:
        nonlocal most
        async with turns.take(rng.choice(list(Guest))) as turn:
            turns.begin(turn)
            most = max(most, turns.held)
            for _ in range(rng.randint(0, 5)):
                if turn.over.is_set():
                    break
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        visitors = [tasks.create_task(visit()) for _ in range(60)]
        for _ in range(30):
            await asyncio.sleep(0)
            rng.choice(visitors).cancel()

    assert most <= slots, f"seed {seed}"
    assert (turns.held, turns.waiting) == (0, 0), f"seed {seed}"
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for _ in range(slots):
            tasks.create_task(_hold_until_all_are_held(turns, slots))


async def _hold_until_all_are_held(turns: Turns, slots: int) -> None:
    async with turns.take():
        await until(lambda: turns.held == slots)
        await asyncio.sleep(0.001)  # for the others to see it

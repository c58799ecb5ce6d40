import asyncio
import random

from gateway.mqtt.window import Window


async def test_messages_are_admitted_until_the_window_is_full() -> None:
    window = Window(2, 1000)

    await window.admit(10)
    await window.admit(10)

    assert window.messages == 2
    async with asyncio.TaskGroup() as tasks:
        third = tasks.create_task(window.admit(10))
        await asyncio.sleep(0)
        assert not third.done()
        window.release(10)
    assert window.messages == 2


async def test_whoever_asks_first_is_admitted_first() -> None:
    window = Window(1, 1000)
    order: list[str] = []

    async def send(name: str) -> None:
        await window.admit(1)
        order.append(name)
        await asyncio.sleep(0)
        window.release(1)

    async with asyncio.TaskGroup() as tasks:
        for name in "abcde":
            tasks.create_task(send(name))

    assert order == list("abcde")


async def test_bytes_are_bounded_but_a_larger_message_goes_alone() -> None:
    window = Window(10, 100)

    await window.admit(500)

    async with asyncio.TaskGroup() as tasks:
        small = tasks.create_task(window.admit(1))
        await asyncio.sleep(0)
        assert not small.done()
        window.release(500)
    assert window.messages == 1


async def test_a_large_message_is_not_overtaken_for_ever_by_small_ones() -> None:
    window = Window(10, 100)
    await window.admit(60)

    async with asyncio.TaskGroup() as tasks:
        large = tasks.create_task(window.admit(100))
        await asyncio.sleep(0)
        small = tasks.create_task(window.admit(10))
        await asyncio.sleep(0)
        assert not small.done()
        window.release(60)
        await large
        assert not small.done()
        window.release(100)
    assert window.messages == 1


async def test_one_who_gives_up_waiting_does_not_keep_the_place() -> None:
    window = Window(1, 1000)
    await window.admit(1)

    async with asyncio.TaskGroup() as tasks:
        quitter = tasks.create_task(window.admit(1))
        patient = tasks.create_task(window.admit(1))
        await asyncio.sleep(0)
        quitter.cancel()
        await asyncio.sleep(0)
        window.release(1)
        await patient
    assert window.messages == 1


async def test_one_who_is_cancelled_while_being_admitted_gives_the_place_back() -> None:
    window = Window(1, 1000)
    await window.admit(1)

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(window.admit(1))
        await asyncio.sleep(0)
        window.release(1)  # admits it ...
        waiting.cancel()  # ... before it could run
    assert window.messages == 0
    await window.admit(1)


async def test_waiting_for_room_takes_none() -> None:
    window = Window(1, 1000)
    await window.wait_room()
    await window.admit(1)

    async with asyncio.TaskGroup() as tasks:
        room = tasks.create_task(window.wait_room())
        await asyncio.sleep(0)
        assert not room.done()
        window.release(1)
    assert window.messages == 0


async def test_empty_is_told_once_everything_is_released() -> None:
    window = Window(5, 1000)
    assert window.wait_empty().done()
    await window.admit(1)
    await window.admit(1)

    empty = window.wait_empty()
    window.release(1)
    assert not empty.done()
    window.release(1)

    assert empty.done()


async def test_the_limits_hold_whatever_the_order_of_events() -> None:
    seed = 20261122
    rng = random.Random(seed)
    window = Window(4, 100)
    under_way: list[int] = []
    passed = 0

    async def send(size_bytes: int) -> None:
        nonlocal passed
        await window.admit(size_bytes)
        under_way.append(size_bytes)
        assert len(under_way) <= 4, f"seed {seed}"
        assert sum(under_way) <= 100 or len(under_way) == 1, f"seed {seed}"
        try:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            passed += 1
        finally:
            under_way.remove(size_bytes)
            window.release(size_bytes)

    async with asyncio.TaskGroup() as tasks:
        for number in range(500):
            task = tasks.create_task(send(rng.choice([1, 10, 60, 150])))
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 5 == 0:
                task.cancel()

    assert window.messages == 0
    assert passed >= 400  # all but the cancelled fifth
    assert window.wait_empty().done()


async def test_one_who_is_cancelled_just_before_room_appears_is_passed_over() -> None:
    window = Window(1, 1000)
    await window.admit(1)

    async with asyncio.TaskGroup() as tasks:
        quitter = tasks.create_task(window.admit(1))
        patient = tasks.create_task(window.admit(1))
        await asyncio.sleep(0)
        quitter.cancel()
        window.release(1)  # before the quitter could run
        await patient
    assert quitter.cancelled()
    assert window.messages == 1

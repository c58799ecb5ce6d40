"""Devices and topics on their way to the state database, one change at a time."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.devices.writer import RegistryWriter
from gateway.errors import StoreError
from gateway.store.registry import Entry
from gateway.store.state_changes import Change


class SlowState:
    """Commits when it is told to."""

    def __init__(self) -> None:
        self.is_failing = False
        self.waiting: list[tuple[Change, Callable[[StoreError | None], None]]] = []
        self.devices: dict[str, str] = {}
        self.topics: set[str] = set()

    def submit(
        self, change: Change, on_done: Callable[[StoreError | None], None] | None = None
    ) -> None:
        assert on_done is not None
        self.waiting.append((change, on_done))

    def commit(self) -> None:
        ((change, on_done),) = self.waiting
        self.waiting.clear()
        for sql, rows in change:
            for row in rows:
                match sql.split():
                    case ["INSERT", "OR", "REPLACE", "INTO", "devices", *_]:
                        self.devices[str(row[0])] = str(row[1])
                    case ["DELETE", "FROM", "devices", *_]:
                        self.devices.pop(str(row[0]), None)
                    case ["INSERT", "OR", "IGNORE", "INTO", "retained", *_]:
                        self.topics.add(str(row[0]))
                    case ["DELETE", "FROM", "retained", *_]:
                        self.topics.discard(str(row[0]))
                    case _:
                        raise AssertionError(sql)
        on_done(None)

    def refuse(self) -> None:
        ((_, on_done),) = self.waiting
        self.waiting.clear()
        on_done(StoreError("too much waits"))


class Bench:
    def __init__(self, patience_s: float = 30.0) -> None:
        self.state = SlowState()
        self.writer = RegistryWriter(self.state, patience_s)
        self.known = {"a": "1"}
        self.writer.entry_of = self._entry_of
        self.noted: list[str] = []
        self.writer.start()

    def _entry_of(self, key: str) -> Entry | None:
        return None if key not in self.known else lambda: {"v": self.known[key]}

    def note(self, topic: str) -> None:
        self.writer.note(topic, lambda: self.noted.append(topic))


async def test_what_is_new_in_one_turn_is_one_change() -> None:
    bench = Bench()

    bench.writer.save("a")
    bench.writer.save("gone")
    bench.note("x/info")
    bench.note("x/state")
    assert not bench.state.waiting
    await asyncio.sleep(0)
    assert bench.noted == []
    bench.state.commit()

    assert bench.state.devices == {"a": '{"v":"1"}'}
    assert bench.state.topics == {"x/info", "x/state"}
    assert bench.noted == ["x/info", "x/state"]
    assert bench.writer.is_idle


async def test_the_last_word_counts_and_comes_last() -> None:
    bench = Bench()
    bench.writer.save("a")
    bench.note("x/info")
    await asyncio.sleep(0)

    bench.writer.forget("x/info")
    bench.writer.forget("y/info")
    bench.note("y/info")
    del bench.known["a"]
    bench.writer.save("a")
    await asyncio.sleep(0)
    assert len(bench.state.waiting) == 1  # the rest waits for it
    bench.state.waiting[0][1](None)
    bench.state.waiting.pop(0)
    bench.state.commit()

    assert bench.state.devices == {}
    assert bench.state.topics == {"y/info"}
    assert bench.noted == ["x/info", "y/info"]


async def test_while_the_disk_fails_topics_pass_and_are_noted_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.state.is_failing = True
    bench.note("x/info")
    await asyncio.sleep(0)
    bench.note("x/state")
    async with asyncio.timeout(10):
        while len(bench.noted) < 2:  # noqa: ASYNC110 - a callback tells, not an event
            await asyncio.sleep(0)

    bench.state.commit()
    bench.state.commit()

    assert bench.state.topics == {"x/info", "x/state"}
    assert bench.noted == ["x/info", "x/state"], "told once"
    assert len(caplog.records) == 1


async def test_a_slow_disk_is_waited_for_but_not_for_long() -> None:
    bench = Bench(patience_s=0.01)
    bench.note("x/info")
    await asyncio.sleep(0)
    assert bench.noted == []

    async with asyncio.timeout(10):
        while not bench.noted:  # noqa: ASYNC110 - a callback tells, not an event
            await asyncio.sleep(0.001)

    with pytest.raises(StoreError, match="not on the disk"):
        await bench.writer.wait_written()
    bench.state.commit()
    await bench.writer.wait_written()


async def test_what_was_given_up_is_tried_again() -> None:
    bench = Bench(patience_s=0.0)
    bench.writer.save("a")
    bench.note("x/info")
    await asyncio.sleep(0)

    bench.state.refuse()
    async with asyncio.timeout(10):
        while not bench.state.waiting:  # noqa: ASYNC110 - a callback tells, not an event
            await asyncio.sleep(0)
    bench.state.commit()

    assert bench.state.devices == {"a": '{"v":"1"}'}
    assert bench.state.topics == {"x/info"}


async def test_nothing_is_written_before_the_database_is_open() -> None:
    state = SlowState()
    writer = RegistryWriter(state)
    writer.note("x/info", lambda: None)
    await asyncio.sleep(0)
    assert not state.waiting

    writer.start()

    state.commit()
    assert state.topics == {"x/info"}

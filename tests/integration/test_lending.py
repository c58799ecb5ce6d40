"""A port that `edge-gateway flash` has from the running gateway: for as long as it lives."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.lending import LEND_S, RENEW_S, Loan, borrowed
from gateway.errors import FlashError, RequestError
from gateway.requests.local import LendPortRequest, ReturnPortRequest
from tests.integration.test_local_door import door, settings_of

LONGEST_S = 30.0


class Gateway:
    """Lends the one port it has, and remembers what it was asked."""

    def __init__(self) -> None:
        self.lent: list[LendPortRequest] = []
        self.returned: list[str] = []
        self.changed = asyncio.Condition()

    async def lend(self, request: LendPortRequest) -> dict[str, Any]:
        async with self.changed:
            self.lent.append(request)
            self.changed.notify_all()
        return {"port": "ttyA" if request.port in {"/dev/ttyA", "ttyA"} else None}

    async def give_back(self, request: ReturnPortRequest) -> dict[str, Any]:
        self.returned.append(request.port)
        return {}

    def verbs(self) -> Mapping[str, Callable[[Any], Any]]:
        return {"lend_port": self.lend, "return_port": self.give_back}

    async def asked(self, count: int) -> None:
        async with asyncio.timeout(LONGEST_S), self.changed:
            await self.changed.wait_for(lambda: len(self.lent) >= count)


async def test_a_port_is_asked_for_again_until_it_is_given_back(tmp_path: Path) -> None:
    """Who is killed asks no more; then the gateway has it back within a minute."""
    gateway, settings = Gateway(), settings_of(tmp_path / "control.sock")
    loop, said = asyncio.get_running_loop(), list[str]()

    def use() -> None:
        with borrowed(settings, "/dev/ttyA", said.append, renew_s=0.01):
            asyncio.run_coroutine_threadsafe(gateway.asked(4), loop).result()
            raise FlashError("unplugged")

    async with door(tmp_path / "control.sock", gateway.verbs()):
        with pytest.raises(FlashError, match="unplugged"):
            await asyncio.to_thread(use)
        asked = len(gateway.lent)

    assert {request.seconds for request in gateway.lent} == {LEND_S}
    assert RENEW_S * 3 < LEND_S <= 60
    assert gateway.lent[1].port == "ttyA"
    assert gateway.returned == ["ttyA"]
    assert len(gateway.lent) == asked
    assert said == ["the running gateway lends ttyA"]


async def test_a_port_nobody_has_is_used_as_it_is(tmp_path: Path) -> None:
    gateway, settings = Gateway(), settings_of(tmp_path / "control.sock")
    said = list[str]()

    def use() -> None:
        with borrowed(settings, "/dev/ttyB", said.append, renew_s=0.01):
            pass

    await asyncio.to_thread(use)  # no gateway runs
    async with door(tmp_path / "control.sock", gateway.verbs()):
        await asyncio.to_thread(use)  # one does, and has no such port

    assert said == []
    assert [request.port for request in gateway.lent] == ["/dev/ttyB"]


async def test_what_ends_before_the_gateway_has_answered_has_nothing_lent_either(
    tmp_path: Path,
) -> None:
    """As Ctrl-C does while the port of a stuck board is being closed."""
    gateway, settings = Gateway(), settings_of(tmp_path / "control.sock")
    is_lending, answers = asyncio.Event(), asyncio.Event()

    async def lend(request: LendPortRequest) -> dict[str, Any]:
        is_lending.set()
        await answers.wait()
        return await gateway.lend(request)

    def use() -> None:
        loan = Loan(settings, "/dev/ttyA", print, 0.0, 60.0)
        loan.start()
        loan.end()

    verbs = {**gateway.verbs(), "lend_port": lend}
    async with door(tmp_path / "control.sock", verbs), asyncio.TaskGroup() as tasks:
        using = tasks.create_task(asyncio.to_thread(use))
        await is_lending.wait()
        answers.set()
        await using

    assert len(gateway.lent) == 1
    assert gateway.returned == ["ttyA"]


async def test_a_gateway_that_refuses_is_heard(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "control.sock", "cellar")

    def use() -> None:
        with borrowed(settings, "/dev/ttyA", print):
            raise AssertionError

    async with door(tmp_path / "control.sock"):
        with pytest.raises(RequestError, match='this is the gateway "attic"'):
            await asyncio.to_thread(use)

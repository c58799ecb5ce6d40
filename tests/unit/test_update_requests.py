"""What is asked about updates: who gets one, who is left out, and what is answered."""

import asyncio
from typing import Any

import pytest

from gateway.admin.update_requests import UpdateRequests
from gateway.devices.device import Device
from gateway.errors import RequestError, StoreError
from gateway.requests.update import UpdateRequest, UpdateStatusRequest
from tests.support.updates import Site, firmware

NEW = firmware("0.2.0")


class Desk:
    """A site whose gateway brings NEW along, and who asks there."""

    def __init__(self, *boards: str) -> None:
        self.site = Site(own=NEW)
        for board in boards:
            self.site.board(board)
        self._requests = UpdateRequests(self._find, self.site.devices, self.site.updates)

    def _find(self, name: str) -> Device:
        found = self.site.devices.get(name)
        assert found is not None
        return found

    def update(self, *devices: str) -> Any:  # noqa: ANN401 - JSON
        """Ask for NEW, for these boards or all."""
        asked = UpdateRequest(devices=devices, all=not devices)
        answer = asyncio.run(self._requests.update(asked))
        self.site.work()
        return answer

    def states(self) -> dict[str, tuple[str, str]]:
        """Return name and state of the boards of the newest rollout, as they are told."""
        told = asyncio.run(self._requests.status(UpdateStatusRequest()))
        return {
            each["device"]: (each["name"], each["state"]) for each in told["rollouts"][0]["devices"]
        }

    def take_back(self, board: str) -> None:
        self.site.tries(board, NEW)
        self.site.says(board, "rolled_back", NEW, "crash: OSError")
        self.site.board(board, "3")
        self.site.work()


def test_who_took_it_back_is_left_out_of_all_and_tries_it_again_if_named() -> None:
    desk = Desk("board_1", "board_2")
    desk.update("board_1")
    desk.take_back("board_1")

    everybody = desk.update()
    desk.site.tries("board_2", NEW)
    desk.site.says("board_2", "confirmed", NEW)
    desk.site.work()
    with pytest.raises(RequestError, match="no board is to be updated: board_1: took it back in"):
        desk.update()
    again = desk.update("board_1")

    assert everybody["devices"] == ["board_2"]
    why = everybody["left_out"]["board_1"]
    assert why == "took it back in rollout 1 (crash: OSError): name it to have it try again"
    assert again["devices"] == ["board_1"]
    assert desk.states() == {"board_1": ("board_1", "sending")}


def test_a_rollout_is_answered_once_the_disk_has_it() -> None:
    desk = Desk("board_1")
    desk.site.disk.is_slow = True
    order: list[str] = []

    async def ask() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait())
            while not desk.site.updates.rollouts:  # noqa: ASYNC110 - the bundle is read in a thread
                await asyncio.sleep(0.001)
            order.append("kept")
            desk.site.disk.settle()

    async def wait() -> None:
        await desk._requests.update(UpdateRequest(all=True))  # noqa: SLF001 - its loop is this one
        order.append("answered")

    asyncio.run(ask())

    assert order == ["kept", "answered"]


def test_a_rollout_that_the_disk_does_not_take_is_refused_in_words() -> None:
    desk = Desk("board_1")
    desk.site.disk.error = StoreError("the disk is full")

    with pytest.raises(RequestError, match="given up, nothing was sent: the disk is full"):
        desk.update()
    desk.site.work()

    assert desk.states() == {"board_1": ("board_1", "aborted")}
    assert desk.site.road.sending == {}

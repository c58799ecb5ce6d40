"""Boards with slots and the daemon as a process, with what is published of their updates."""

import asyncio
import base64
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gateway.bundle.archive import to_archive
from gateway.bundle.bundle import Bundle
from gateway.cli import control
from gateway.config.models import Settings
from gateway.simulate.boards import FirmwareBoard, Json
from gateway.simulate.firmware import find_interpreter
from tests.support.broker import Broker
from tests.support.commands import Done, gateway
from tests.support.daemon import Daemon, running_daemon
from tests.support.slot_boards import slot_boards
from tests.support.subscriber import Received, Subscriber

BASE = "edge/test"
CONFIG: dict[str, Json] = {
    "links": ["stdio"],
    "sensors": [{"kind": "simulated", "name": "demo", "interval_ms": 200}],
}
"""Five samples a second."""
LONGEST_S = 100.0
"""Only a test that hangs takes longer."""
_LEVELS = BASE.count("/") + 2
"""Of a device's own topics; what its actuators say is below them."""


class Installation:
    """Boards, daemon and broker, and who hears what is published."""

    def __init__(
        self,
        folder: Path,
        boards: Sequence[FirmwareBoard],
        heard: Subscriber,
        port: int,
        more: str = "",
    ) -> None:
        """`more` is further configuration of the daemon."""
        self.folder = folder
        self.boards = boards
        self.heard = heard
        self.port = port
        self.more = more
        self.environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
        self.config = folder / "daemon" / "gateway.toml"
        socket = str(folder / "state" / "control.sock")
        self.settings = Settings.model_validate({"gateway": {"control_socket": socket}})

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        """Have a gateway run."""
        async with running_daemon(
            *(self.config.parent, self.port, f"{self.folder}/tty*"),
            more=self.more,
            environment=self.environment,
        ) as daemon:
            yield daemon

    async def all_there(self) -> None:
        """Wait until each board delivers, and could be updated."""
        count = len(self.boards)
        await self.heard.wait_for(
            lambda _: (
                len(self.newest("/state")) == count
                and [each["state"] for each in self.told()] == ["idle"] * count
            ),
            timeout_s=LONGEST_S,
        )

    async def ask(self, verb: str, **fields: object) -> Any:  # noqa: ANN401 - JSON
        return await asyncio.to_thread(control.ask, self.settings, verb, fields)

    async def command(self, *words: str) -> Done:
        run = partial(gateway, "update", *words, "--config", str(self.config))
        return await asyncio.to_thread(run, environment=self.environment)

    def newest(self, suffix: str) -> dict[str, Received]:
        """Return the newest message on each topic of a device, or the gateway, that ends so."""
        return {
            each.topic: each
            for each in self.heard.messages
            if each.topic.endswith(suffix) and each.topic.count("/") <= _LEVELS
        }

    def rollout(self) -> Any:  # noqa: ANN401 - JSON
        found = self.newest("/rollout")
        return found[f"{BASE}/rollout"].json() if found else {"rollout": 0, "state": "none"}

    def told(self) -> list[Any]:
        """Return what is published of each board's updates."""
        return [each.json() for _, each in sorted(self.newest("/update").items())]

    async def until(self, number: int, *states: str) -> None:
        """Wait until the rollout of that number is in one of these states."""

        def is_there(_messages: Sequence[Received]) -> bool:
            rollout = self.rollout()
            return rollout["rollout"] == number and rollout["state"] in states

        await self.heard.wait_for(is_there, timeout_s=LONGEST_S)

    async def until_told(self, key: str, *values: str) -> None:
        """Wait until that is what is published of the boards, in whatever order.

        A topic that waits for the broker keeps its place when there is something newer to say.
        """
        wanted = sorted(values)
        await self.heard.wait_for(
            lambda _: sorted(each[key] for each in self.told()) == wanted, timeout_s=LONGEST_S
        )

    def samples(self) -> dict[tuple[str, str], list[int]]:
        """Return the numbers of samples, by device and boot, as they came; each once."""
        numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
        for message in self.heard.messages:
            is_short = message.topic.count("/") <= _LEVELS
            if is_short and message.topic.endswith(("/state", "/history")) and message.payload:
                body = message.json()
                for sample in body if isinstance(body, list) else [body]:
                    device, boot, number = sample["id"].split("/")
                    numbers[device, boot].append(int(number))
        return {key: sorted(set(each)) for key, each in numbers.items()}

    def assert_nothing_is_lost(self, but_of: str = "") -> None:
        """See that all samples came, but those of the board `but_of`."""
        assert [topic for topic in self.newest("/gap") if topic.split("/")[-2] != but_of] == []
        for key, numbers in self.samples().items():
            assert but_of in key or numbers == [*range(numbers[0], numbers[-1] + 1)], key


@asynccontextmanager
async def installation(
    micropython: Path, broker: Broker, folder: Path, count: int, key: bytes = b""
) -> AsyncIterator[Installation]:
    """Have so many boards on ports, all alike."""
    interpreter = await asyncio.to_thread(find_interpreter, str(micropython))
    boards = await asyncio.to_thread(slot_boards, folder, count, interpreter, CONFIG, key)
    async with installed(boards, broker, folder) as site:
        yield site


@asynccontextmanager
async def installed(
    boards: Sequence[FirmwareBoard], broker: Broker, folder: Path, more: str = ""
) -> AsyncIterator[Installation]:
    """Have these boards switched on."""
    heard = Subscriber(broker.host, broker.port, f"{BASE}/#")
    async with asyncio.timeout(2 * LONGEST_S), heard, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(board.run()) for board in boards]
        try:
            yield Installation(folder, boards, heard, broker.port, more)
        finally:
            for task in running:
                task.cancel()


def packed(bundle: Bundle) -> str:
    """Return a bundle as the socket takes it."""
    return base64.b64encode(to_archive(bundle)).decode()

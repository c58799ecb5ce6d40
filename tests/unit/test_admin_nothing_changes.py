"""Whatever is sent as a request: there is one answer, and an error has changed nothing."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin.backup import BackupParts, Backups
from gateway.admin.board_requests import BoardRequests
from gateway.admin.device_requests import DeviceRequests
from gateway.admin.diagnostics import Diagnostics, Sources
from gateway.admin.intervals import Intervals
from gateway.admin.replace_requests import ReplaceRequests
from gateway.admin.service import Admin
from gateway.admin.update_requests import UpdateRequests
from gateway.admin.verbs import make_verbs
from gateway.clock import Clock
from gateway.commands.letter import End
from gateway.devices.registry import Devices
from gateway.errors import RequestError
from gateway.model import Description
from gateway.mqtt.incoming import Handler, Incoming
from gateway.mqtt.names import Names
from gateway.protocol.fields import Json
from gateway.protocol.session_events import Outcome
from gateway.reload import Reloaded
from gateway.requests.admin import REQUESTS
from gateway.status import Status
from gateway.timekeeper import TimeKeeper
from gateway.updates.service import Updates
from tests.support.shelf import Shelf
from tests.support.updates import Disk, Road, firmware

BASE = "edge/test"


class Gateway:
    """The registry and all verbs of a gateway with some devices, and what was answered."""

    def __init__(self, folder: Path) -> None:
        status, self.shelf = Status(), Shelf()
        timekeeper = TimeKeeper(Clock(lambda: 1000.0, lambda: 2e9, "boot", lambda: True))
        self.devices = Devices(self.shelf, Names(), status, timekeeper)
        for key, driver in (("shed", "board"), ("mast", "json_lines"), ("barn", "board")):
            self.devices.seen("usb", Description(key, key, driver, slot="a"))
        self.done: list[object] = []
        self.answers: list[dict[str, Any]] = []
        self._handlers: list[Handler] = []
        self._is_answered = asyncio.Event()
        about = DeviceRequests(self.devices, status, timekeeper, lambda _address: False)
        sources = Sources(status, settings=dict, health=lambda: b"{}", log_lines=list)
        self.admin = Admin(self, BASE, Counter())
        self.updates = Updates(
            devices=self.devices,
            outlet=self.shelf,
            journal=Disk(),
            road=Road,
            timekeeper=timekeeper,
            others=self,
            own=firmware,
        )
        self.updates.take([])
        intervals = Intervals(self.devices, self, self)
        self.verbs = make_verbs(
            status=status,
            devices=about,
            replacements=ReplaceRequests(about.find, self.devices, self, self.updates, intervals),
            boards=BoardRequests(about.find, self, intervals),
            updates=UpdateRequests(about.find, self.devices, self.updates),
            permit_join=self.permit,
            reload=self.reload,
            backups=Backups(folder, "test", BackupParts),
            diagnostics=Diagnostics(folder, "test", sources),
        )

    def facts(self) -> object:
        """Return all that a request could change."""
        known = {
            device.key: (device.level, device.name, dict(device.options), device.is_enabled)
            for device in self.devices
        }
        rollouts = [each.entry() for each in self.updates.rollouts]
        return known, dict(self.shelf.retained), rollouts, list(self.done)

    async def ask(self, verb: str, payload: bytes, *, is_retained: bool) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.admin.run(self.verbs))
            await asyncio.sleep(0)
            self._handlers[0](
                Incoming(
                    f"{BASE}/request/{verb}",
                    payload,
                    is_retained=is_retained,
                    is_again=False,
                    packet_id=1,
                    done=lambda: None,
                )
            )
            async with asyncio.timeout(20):
                await self._is_answered.wait()
            running.cancel()

    def subscribe(self, _filters: Sequence[str], handler: Handler) -> None:
        self._handlers.append(handler)

    def send(self, _topic: str, payload: bytes, *, correlation: bytes | None = None) -> None:
        assert correlation is None
        self.answers.append(json.loads(payload))
        self._is_answered.set()

    def permit(self, for_s: float | None) -> float:
        if for_s is None:
            raise RequestError("there is no window to open")
        self.done.append(for_s)
        return for_s

    async def reload(self) -> Reloaded:
        return Reloaded([], [])

    async def call(
        self, device: str, name: str, arguments: Json = None, expires_s: float = 0.0
    ) -> End:
        del expires_s
        if name == "interval" and arguments != {"climate": 5000}:
            return End(Outcome.FAILED, error="no such stream")
        self.done.append((device, name, arguments))
        return End(Outcome.DONE)

    def ready(self, link: str, device: str, life: str) -> None:
        raise NotImplementedError

    def left(self, link: str, device: str) -> None:
        raise NotImplementedError

    def replaced(self, device: str, by: str) -> int:
        self.done.append((device, by))
        return 0


LIKELY: dict[str, list[object]] = {
    "device": ["shed", "shed", "mast", "nobody"],
    "by": ["barn", "barn", "shed", "mast", "nobody"],
    "to": ["Green House", "mast", "status", ""],
    "interval_ms": [{"climate": 5000}, {"climate": 5000, "x": 1}, {"x": 1}, {"climate": 0}, {}],
    "seconds": [60, 0, 4000, None],
    "block": [True, False],
    "transaction": ["t", 7, 2.5, "x" * 70],
    "limit": [1, 200, 201],
    "after": ["", "shed"],
    "credentials": [True, False],
    "devices": [["shed"], ["shed"], ["shed", "mast"], ["nobody"], []],
    "all": [False, False, True],
    "canary": [0, 1, -1],
    "parallel": [1, 4, 65],
    "downgrade": [True, False],
    "settings": [None, None, {"name": "shed"}, {"nmae": "shed"}],
    "rollout": [None, 1, 7],
}
"""Values that are right, or nearly."""
ODD: list[object] = [None, True, -1, 1.5, "", "x", [], {}, [[]], {"a": {}}, 2**70]
"""Deeper ones are for the parser's own test."""


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes, bool]:
    """Draw a verb, a payload, and whether it is retained: each of them mostly right."""
    verb = draw(st.sampled_from([verb for verb in REQUESTS if verb != "backup"]))
    fields = {
        key: draw(st.sampled_from(LIKELY[key]))
        for key in REQUESTS[verb].model_fields
        if draw(st.integers(0, 3))
    }
    trouble = draw(st.sampled_from(["none", "none", "none", "key", "value", "bytes", "verb"]))
    if trouble == "key":
        fields[draw(st.sampled_from([*LIKELY, "typo"]))] = 1
    if trouble == "value" and fields:
        fields[draw(st.sampled_from(list(fields)))] = draw(st.sampled_from(ODD))
    payload = json.dumps(fields).encode()
    if trouble == "bytes":
        payload = draw(st.binary(max_size=20)) or payload[:-1]
    if trouble == "verb":
        verb = draw(st.text(max_size=8))
    return verb, payload, draw(st.sampled_from([False, False, False, True]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("admin")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """Run all examples on one loop: as many cost most of the time."""
    with asyncio.Runner() as running:
        yield running


@settings(max_examples=500)
@given(asked=requests())
def test_a_request_has_one_answer_and_an_error_has_changed_nothing(
    folder: Path, runner: asyncio.Runner, asked: tuple[str, bytes, bool]
) -> None:
    verb, payload, is_retained = asked
    gateway = Gateway(folder)
    before = gateway.facts()

    runner.run(gateway.ask(verb, payload, is_retained=is_retained))

    (answer,) = gateway.answers
    if answer["status"] == "error":
        assert answer["error"]
        assert "fault of the gateway" not in answer["error"]
        assert gateway.facts() == before
    else:
        assert verb in REQUESTS
        assert not is_retained

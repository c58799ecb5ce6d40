"""What the topic contract says of requests is what the gateway does."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.backup import BACKUP_S, BackupParts, Backups
from gateway.admin.board_requests import BOARD_S, BoardRequests
from gateway.admin.desk import AT_ONCE, Verb
from gateway.admin.device_requests import DeviceRequests
from gateway.admin.diagnostics import MAX_ANSWER_BYTES, Diagnostics, Sources
from gateway.admin.intervals import Intervals
from gateway.admin.kept_files import KEPT
from gateway.admin.recent_log import MAX_LINES
from gateway.admin.replace_requests import ReplaceRequests
from gateway.admin.update_requests import UpdateRequests
from gateway.admin.verbs import make_verbs
from gateway.checkup import problems_of
from gateway.clock import Clock
from gateway.commands.letter import End
from gateway.devices.registry import Devices
from gateway.model import Description, Sensor
from gateway.mqtt import payloads
from gateway.mqtt.names import Names
from gateway.mqtt.paho_packets import MAX_INCOMING_BYTES
from gateway.protocol.fields import Json
from gateway.protocol.session_events import Outcome
from gateway.reload import Reloaded
from gateway.requests.admin import MAX_LISTED, MAX_PAYLOAD_BYTES, REQUESTS, read_admin
from gateway.status import Status
from gateway.timekeeper import TimeKeeper
from gateway.updates.service import Updates
from tests.support.shelf import Shelf
from tests.support.updates import Disk, Others, Road, firmware

FOLDER = Path(__file__).parents[2] / "gateway"
TEXT = (FOLDER / "mqtt" / "README.md").read_text(encoding="utf-8")
SECTION = TEXT[TEXT.index("## Requests") : TEXT.index("## Updates")]
PROSE = " ".join(SECTION.split())
ROWS = {
    verb: cells
    for verb, *cells in (
        [cell.strip() for cell in row.strip("| ").split(" | ")]
        for row in SECTION.splitlines()
        if row.startswith("| `")
    )
}


def example(cell: str) -> Any:  # noqa: ANN401 - JSON
    """The JSON in a cell."""
    found = re.search(r"`(\{.*\})`", cell)
    return json.loads(found[1]) if found else None


class Boards:
    """Does what it is told."""

    async def call(
        self,
        device: str,
        name: str,
        arguments: Json = None,
        expires_s: float = 0.0,
    ) -> End:
        del device, name, arguments, expires_s
        return End(Outcome.DONE)

    def ready(self, link: str, device: str, life: str) -> None:
        """Take note."""

    def left(self, link: str, device: str) -> None:
        """Take note."""

    def replaced(self, device: str, by: str) -> int:
        """Say that nothing waited."""
        del device, by
        return 0


async def reload() -> Reloaded:
    return Reloaded([], [])


@pytest.fixture
def verbs(tmp_path: Path) -> Mapping[str, Verb]:
    """A gateway with the board of the examples."""
    status, boards = Status(), Boards()
    timekeeper = TimeKeeper(Clock(lambda: 1000.0, lambda: 2e9, "boot", lambda: True))
    devices = Devices(Shelf(), Names(), status, timekeeper)
    air, soil, light = Sensor("temperature"), Sensor("soil"), Sensor("light")
    board = Description("esp32-a1b2", "Greenhouse", "board", firmware="0.1.0", boot=7, slot="a")
    devices.seen("usb", replace(board, sensors=(air, soil)))
    devices.seen("usb2", replace(board, device="esp32-c3d4", slot="", sensors=(air, light)))
    devices.rename("esp32-a1b2", "Greenhouse")
    about_devices = DeviceRequests(devices, status, timekeeper, lambda _address: False)
    sources = Sources(status, settings=dict, health=lambda: b"{}", log_lines=list)
    devices.set_options("esp32-a1b2", {"interval_ms": {"climate": 5000}})
    intervals = Intervals(devices, boards, boards)
    intervals.ready("usb2", "esp32-c3d4", "life")
    updates = updates_of(devices, timekeeper)
    return make_verbs(
        status=status,
        devices=about_devices,
        replacements=ReplaceRequests(about_devices.find, devices, boards, updates, intervals),
        boards=BoardRequests(about_devices.find, boards, intervals),
        updates=UpdateRequests(about_devices.find, devices, updates),
        permit_join=lambda for_s: for_s or 120.0,
        reload=reload,
        backups=Backups(tmp_path, "attic", BackupParts),
        diagnostics=Diagnostics(tmp_path, "attic", sources),
    )


def updates_of(devices: Devices, timekeeper: TimeKeeper) -> Updates:
    """Updates, one of which is under way for a board that is not there."""
    updates = Updates(
        devices=devices,
        outlet=Shelf(),
        journal=Disk(),
        road=Road,
        timekeeper=timekeeper,
        others=Others(),
        own=firmware,
    )
    updates.take([])
    updates.begin(firmware(), ["shed"])
    return updates


def test_every_verb_is_in_the_table_and_is_done(verbs: Mapping[str, Verb]) -> None:
    assert {verb.strip("`") for verb in ROWS} == set(REQUESTS) == set(verbs)


@pytest.mark.parametrize("verb", REQUESTS)
def test_the_example_of_a_request_is_one_and_names_all_its_keys(verb: str) -> None:
    said = example(ROWS[f"`{verb}`"][0])

    read_admin(verb, json.dumps(said).encode())
    assert set(said) | {"transaction"} == set(REQUESTS[verb].model_fields)


@pytest.mark.parametrize("verb", [verb for verb in REQUESTS if verb != "device"])
def test_the_example_of_an_answer_has_the_keys_of_the_answer(
    verbs: Mapping[str, Verb], verb: str
) -> None:
    said = example(ROWS[f"`{verb}`"][0])
    said.pop("after", None)
    said.pop("block", None)

    async def ask() -> Any:  # noqa: ANN401 - JSON
        return await verbs[verb].act(read_admin(verb, json.dumps(said).encode()))

    told, shown = asyncio.run(ask()), example(ROWS[f"`{verb}`"][1])

    assert list(told) == list(shown)
    if verb == "devices":
        assert list(told["devices"][0]) == list(shown["devices"][0])
        assert told["devices"][0]["level"] == shown["devices"][0]["level"]
    if verb in {"update", "update_check"}:
        assert told["devices"] == shown["devices"]
    if verb == "update_status":
        assert told["rollouts"][0]["devices"] == shown["rollouts"][0]["devices"]
    if verb in {"update_abort", "rename", "remove", "replace", "options", "restart"}:
        assert told == shown


def test_all_keys_of_one_device_are_told(verbs: Mapping[str, Verb]) -> None:
    async def ask() -> Any:  # noqa: ANN401 - JSON
        return await verbs["device"].act(read_admin("device", b'{"device":"greenhouse"}'))

    summary = example(ROWS["`devices`"][1])["devices"][0]
    further = set(re.findall(r"`(\w+)`", ROWS["`device`"][1]))
    assert set(asyncio.run(ask())) == set(summary) | further


def test_answers_are_shown_as_they_are_written() -> None:
    shown = re.findall(r'`(\{"transaction":7.*?\})`', PROSE)

    error = 'seconds: expected a number, got "soon"'
    assert [json.loads(each) for each in shown] == [
        json.loads(payloads.answer(7, {})),
        json.loads(payloads.refusal(7, error)),
    ]


def test_the_numbers_of_the_text_are_those_of_the_code() -> None:
    assert f"({MAX_LISTED} at most)" in PROSE
    assert f"While {AT_ONCE} are being done" in PROSE
    assert f"payloads above {MAX_PAYLOAD_BYTES:,} bytes" in PROSE
    assert f"those above {MAX_INCOMING_BYTES >> 10} KiB are dropped" in PROSE
    assert f"up to {BACKUP_S / 60:g} minutes" in PROSE
    assert f"wait up to {BOARD_S:g} s for the board" in PROSE
    assert f"the newest {KEPT} are kept" in PROSE
    assert f"above {MAX_ANSWER_BYTES:,} bytes" in PROSE
    assert f"fit into {MAX_ANSWER_BYTES:,} bytes" in PROSE
    own = (FOLDER / "admin" / "README.md").read_text(encoding="utf-8")
    assert f"{AT_ONCE} at a time" in own
    assert f"the last {MAX_LINES} lines of the log" in own


def test_the_example_of_a_problem_is_one() -> None:
    status = Status()
    status.broker.connected = True
    status.link("ttyUSB0").state = "lost"

    shown = example(ROWS["`health_check`"][1])
    assert shown == {"healthy": False, "problems": problems_of(status)}


def test_the_parts_of_a_reload_are_explained() -> None:
    assert list(asdict(Reloaded([], []))) == list(example(ROWS["`reload`"][1]))
    for key in ("needs_restart", "left_out", "applied", "reason"):
        assert f"`{key}`" in PROSE

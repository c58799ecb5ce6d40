"""Gateway or board is killed at frames of an update: it ends on old or new, and goes on.

In short a row of kills in one update; with SOAK each frame of one, by itself.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from gateway.bundle.bundle import Bundle
from gateway.own_bundle import own_bundle
from gateway.simulate.boards import FirmwareBoard
from gateway.simulate.firmware import Interpreter
from tests.support.figures import Figures
from tests.support.updating import (
    UpdatingGateway,
    board_with_slots,
    newer,
    updating_gateway,
    verified,
    whole_files,
)

SIZES = (700, 4, 177, 400)
"""Of the files that are new."""

Link = Literal["port", "radio"]


@pytest.fixture(autouse=True)
def short_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARD_TRIAL_ALIVE_MS", "200")


@pytest.fixture
def interpreter(micropython_bin: Path) -> Interpreter:
    return Interpreter(str(micropython_bin), "MicroPython", is_micropython=True)


class Scene:
    """A board that runs the old firmware, and a gateway that brings it the new one."""

    def __init__(self, board: FirmwareBoard, gateway: UpdatingGateway, new: Bundle) -> None:
        self.board = board
        self.gateway = gateway
        self.new = new
        self.old_hash = own_bundle().short_hash
        self.had = 0
        """Bytes of files of the new one that stood whole when somebody was killed last."""
        self.kills = 0

    async def note_kill(self) -> None:
        """Look at the board's flash after somebody was killed."""
        self.kills += 1
        running = await asyncio.to_thread(verified, self.board.root)
        assert running == self.old_hash
        self.had = await asyncio.to_thread(whole_files, self.board.root, self.new, "b")

    async def reset_board(self, *, is_power_lost: bool) -> None:
        """Kill the board's process, and see that it is started again."""
        before = self.board.pid
        if is_power_lost:
            self.board.cut_power()
        else:
            self.board.reset()
        while self.board.pid in {0, before}:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.01)

    async def finish(self) -> None:
        """See that the update goes on where it was, is tried, and proves itself."""
        gateway = self.gateway
        outcome = await gateway.until(ended="on_trial")
        total = self.new.size_bytes
        had = outcome["had_bytes"]
        if had < 0:  # the board had all of it, and said at once that it tries it
            had = total
        assert had >= self.had
        assert outcome["sent_bytes"] <= total - had  # a board that lives on keeps half a file, too
        await gateway.until(seen=self.new.short_hash, trial=True)
        await gateway.until(stated="confirmed", mh=self.new.short_hash)
        assert await asyncio.to_thread(verified, self.board.root) == self.new.short_hash
        await gateway.end_life()


@asynccontextmanager
async def scene(
    folder: Path, interpreter: Interpreter, link: Link, *, new: Bundle
) -> AsyncIterator[Scene]:
    """Switch a board on, and have a gateway that has not begun to live."""
    async with _radio(link) as (hci_address, board_address), asyncio.TaskGroup() as tasks:
        board = board_with_slots(
            folder, own_bundle(), interpreter, radio=board_address, interval_ms=100
        )
        running = tasks.create_task(board.run(), name="board")
        try:
            while not board.pid:  # noqa: ASYNC110  # nobody tells of it
                await asyncio.sleep(0.01)
            port = board.path if link == "port" else None
            async with updating_gateway(new, port=port, radio=hci_address) as gateway:
                yield Scene(board, gateway, new)
        finally:
            running.cancel()


@asynccontextmanager
async def _radio(link: Link) -> AsyncIterator[tuple[str, str]]:
    """Have a virtual radio if it is wanted; it takes half a second to import."""
    if link == "port":
        yield "", ""
        return
    from gateway.simulate.radio.server import VirtualRadio  # noqa: PLC0415  # see above

    async with VirtualRadio() as radio:
        yield radio.hci_address, radio.board_address


PIECE_BYTES: dict[Link, int] = {"port": 165, "radio": 273}
"""Of a file in a sealed frame: of one of 189 bytes (a line of 256 characters), or of the 297 that a
board takes over the radio, 24 are others."""


def frames_of(size: int, link: Link) -> int:
    return max(1, -(-size // PIECE_BYTES[link]))


@pytest.mark.parametrize("link", ["port", "radio"])
async def test_a_gateway_that_is_killed_amid_an_update_goes_on_with_it(
    tmp_path: Path, interpreter: Interpreter, link: Link
) -> None:
    new = newer("0.2.0", *SIZES)
    rows: list[tuple[int | str, str]] = [
        (5, "answered"),  # amid the manifest
        ("PIECE 3", "kill"),  # amid the first file
        ("PIECE 4", "answered"),  # amid a later one
        ("OTA_END", "kill"),
        ("OTA_END", "answered"),  # the board makes it what is tried
    ]
    async with scene(tmp_path, interpreter, link, new=new) as there:
        for at, mode in rows:
            await there.gateway.begin_life(at, mode=mode)
            await there.gateway.until(life=-9)
            await there.note_kill()
        assert there.had == new.size_bytes  # all of it stood there before the last two
        await there.gateway.begin_life()
        await there.finish()


@pytest.mark.parametrize("link", ["port", "radio"])
async def test_a_board_that_is_killed_amid_an_update_goes_on_with_it(
    tmp_path: Path, interpreter: Interpreter, link: Link
) -> None:
    new = newer("0.2.0", *SIZES)
    ats = [5, "PIECE 3", "PIECE 6", "OTA_END"] if link == "port" else ["PIECE 3", "OTA_END"]
    async with scene(tmp_path, interpreter, link, new=new) as there:
        await there.gateway.begin_life(*ats, mode="pause")
        for number, _ in enumerate(ats):
            await there.gateway.until(at=...)
            await there.reset_board(is_power_lost=bool(number % 2))
            await there.note_kill()
            await there.gateway.say("go")
        await there.finish()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", ["gateway", "board"])
@pytest.mark.parametrize("link", ["port", "radio"])
async def test_whoever_is_killed_at_whichever_frame_it_ends_on_old_or_new(  # noqa: PLR0913  # fixtures
    tmp_path: Path,
    interpreter: Interpreter,
    figures: Figures,
    link: Link,
    victim: str,
    *,
    soak: bool,
) -> None:
    new = newer("0.2.0", *SIZES)
    pieces = sum(frames_of(size, link) for size in SIZES)
    count = 1 + frames_of(len(new.manifest), link) + 1 + pieces + 1
    at_all = range(1, count + 1)
    spared = 0
    for at in at_all if soak else at_all[len(at_all) // 2 :: count]:
        async with scene(tmp_path / str(at), interpreter, link, new=new) as there:
            if victim == "gateway":
                await there.gateway.begin_life(at, mode=("kill", "answered")[at % 2])
                await there.gateway.until(life=-9)
                await there.note_kill()
                await there.gateway.begin_life()
            else:
                await there.gateway.begin_life(at, mode="pause")
                await there.gateway.until(at=at)
                await there.reset_board(is_power_lost=at % 2 == 0)
                await there.note_kill()
                await there.gateway.say("go")
            await there.finish()
            spared += there.had > own_bundle().size_bytes
        await asyncio.to_thread(shutil.rmtree, tmp_path / str(at))
    if soak:
        figures(f"{victim} killed at each frame of an update, {link}", f"{count}")
        figures("... that went on with files it had", f"{spared}")

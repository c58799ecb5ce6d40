"""A gateway at work, that is killed and started again: `python -m tests.support.cut_daemon FOLDER`.

Its boards, and somebody who edits its configuration, are here, for a record of all that is written
has to have them. It says `begin NOUN N` and `done NOUN N`, as `tests.support.cut_writers` does, and
`acked DEVICE VALUE` for each sample that a board heard to be safe, and so has forgotten.
"""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from tests.support.cut_writers import VECTORS, change, config_path, devices_of
from tests.support.talking_boards import TalkingBoards

OLD_SAMPLES = 6
"""In the outbox that an older version left."""

ACKED = 25
"""Samples of each board between one event and the next."""

INTERVAL_S = 0.02
NOBODY = 1
"""A port where no broker is: what is acknowledged can only be on the disk."""


def prepare(folder: Path) -> None:
    """Make what an older version left, and a configuration."""
    (folder / "etc").mkdir(parents=True)
    (folder / "state").mkdir()
    for name in ("gateway.db", "outbox.db"):
        with closing(sqlite3.connect(folder / "state" / name)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript((VECTORS / f"{name}.version-1.sql").read_text())
    config_path(folder).write_text(config(folder, 0))


def config(folder: Path, number: int) -> str:
    """Return the configuration as it was edited for the N-th time."""
    devices = "".join(
        f'[[device]]\nid = "board-{each}"\nname = "{"Board " * (number + 1)}{each}"\n'
        for each in range(devices_of(number))
    )
    return (
        f'[gateway]\nname = "attic"\n[mqtt]\nhost = "127.0.0.1"\nport = {NOBODY}\n'
        f'[outbox]\ndurability = "always"\n[ble]\nenabled = false\n'
        f'[serial]\npatterns = ["{ports(folder)}/*"]\n[log]\nlevel = "info"\n{devices}'
    )


def ports(folder: Path) -> Path:
    """Where the boards are; not in what is recorded."""
    return folder.parent / "ports"


async def main(folder: Path) -> None:
    boards = TalkingBoards(ports(folder), framed=1, printing=1, interval_s=INTERVAL_S)

    def on_acked(device: str, _boot: int, seq: int) -> None:
        _say(f"acked {device} {boards.number_of(device, seq)}")

    boards.on_acked = on_acked
    async with asyncio.timeout(300), boards.running():
        async with _daemon(folder) as daemon:
            await boards.until_told(ACKED)
            await _configure(folder, 1, daemon)
            await boards.until_told(ACKED)
            with change("kill", 1):
                daemon.kill()
        async with _daemon(folder) as daemon:
            await boards.until_told(ACKED)
            await _configure(folder, 2, daemon)
            await _configure(folder, 3, daemon)
            await boards.until_told(ACKED)
            daemon.send_signal(signal.SIGTERM)
            assert await daemon.wait() == 0
        _say("done end 1")


@asynccontextmanager
async def _daemon(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "run", "--config", str(config_path(folder))),
        env={**os.environ, "STATE_DIRECTORY": str(folder / "state")},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield daemon
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()


async def _configure(folder: Path, number: int, daemon: asyncio.subprocess.Process) -> None:
    """Write as an editor does, without an fsync, and have it read."""
    assert daemon.stderr is not None
    with change("config", number):
        config_path(folder).write_text(config(folder, number))
        daemon.send_signal(signal.SIGHUP)
        while b"reload: " not in await daemon.stderr.readline():
            assert not daemon.stderr.at_eof()


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

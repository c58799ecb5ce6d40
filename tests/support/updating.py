"""Updates of boards with the real firmware: bundles, boards with slots, a gateway to be killed."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.bundle.bundle import Bundle
from gateway.own_bundle import own_bundle
from gateway.simulate.boards import FirmwareBoard, Flash, Json
from gateway.simulate.firmware import Interpreter
from gateway.simulate.slots import lay_out

KEY = bytes(range(32))
PATIENCE_S = 30.0
"""Only for what hangs."""

_MPY = b"M\x06\x00\x1f"
"""How a .mpy file of bytecode begins."""


def ballast(size: int, seed: int) -> bytes:
    """Return a file that no board imports, and that differs from all others."""
    block = sha256(str(seed).encode()).digest()
    return (_MPY + block * (size // len(block) + 1))[:size]


def newer(version: str, *sizes: int) -> Bundle:
    """Return the firmware as it is, and so many files more, of these sizes."""
    more = {
        f"sensors/zz_{number:02}.mpy": ballast(size, number) for number, size in enumerate(sizes)
    }
    return Bundle.firmware(version, {**own_bundle().files, **more})


def verified(root: Path) -> str:
    """Return the manifest hash of what a board would start, every file of which must be whole."""
    state = json.loads((root / "slots.json").read_bytes())
    names = {state["a"], *([state["t"]] if state["t"] in {"a", "b"} else [])}
    hashes = {}
    for slot in names:
        manifest = (root / slot / "manifest").read_bytes()
        for row in manifest.decode().splitlines()[1:]:
            path, size, digest = row.split()
            content = (root / slot / path).read_bytes()
            assert len(content) == int(size), f"{slot}/{path}"
            assert sha256(content).hexdigest() == digest, f"{slot}/{path}"
        hashes[slot] = sha256(manifest).hexdigest()[:16]
    return hashes[state["a"]]


def whole_files(root: Path, bundle: Bundle, slot: str) -> int:
    """Return how many bytes of a bundle's files stand whole in a slot."""
    total = 0
    for path, content in bundle.files.items():
        place = root / slot / path
        if place.exists() and place.read_bytes() == content:
            total += len(content)
    return total


def board_with_slots(  # noqa: PLR0913  # each says something about the board
    folder: Path,
    bundle: Bundle,
    interpreter: Interpreter,
    *,
    radio: str = "",
    key: bytes = KEY,
    interval_ms: int = 50,
    **config: Json,
) -> FirmwareBoard:
    """Return a board as `edge-gateway flash` leaves it, with a sensor; on the radio, or a port."""
    root = folder / "flash"
    lay_out(root, bundle.manifest, bundle.files, key)
    sensor: Json = {"kind": "simulated", "name": "t", "interval_ms": interval_ms}
    settings: dict[str, Json] = {
        "name": "shed",
        "links": ["ble" if radio else "stdio"],
        "sensors": [sensor],
        "watchdog_s": 0,
        **config,
    }
    return FirmwareBoard(
        folder / "port", root, Flash(settings), interpreter, board_id="a4cf12000001", radio=radio
    )


@dataclass
class Told:
    """What the gateway's process said, and waits for what it will say."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, claim: Callable[[dict[str, Any]], object], after: int = 0) -> int:
        """Wait for a line behind `after` of which it is true; return the place behind that."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                at = after
                while True:
                    while at < len(self.lines):
                        at += 1
                        if claim(self.lines[at - 1]):
                            return at
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE_S} s; last {self.lines[-40:]}") from None


class UpdatingGateway:
    """The process of `updating_gateway`, from the outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.told = Told()
        self.at = 0
        """Behind what was looked at last."""
        self._process = process

    @property
    def last(self) -> dict[str, Any]:
        """What was waited for last."""
        return self.told.lines[self.at - 1]

    async def begin_life(self, *at: int | str, mode: str = "kill") -> None:
        """Begin a life that ends, or pauses, at these frames of an update (number or type)."""
        await self.say(json.dumps({"at": at, "mode": mode}))

    async def until(self, **said: object) -> dict[str, Any]:
        """Wait for something that is said with these words (... for any); return all of it."""

        def is_it(line: dict[str, Any]) -> bool:
            return all(
                key in line and value in (..., line[key])  # lists are not hashable
                for key, value in said.items()
            )

        self.at = await self.told.until(is_it, self.at)
        return self.last

    async def say(self, word: str) -> None:
        """Say a line: to the present life `go`, `command` or `end`."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        await self._process.stdin.drain()

    async def end_life(self) -> None:
        """End the present life in peace."""
        await self.say("end")
        await self.until(life=0)

    async def read(self) -> None:
        """Take what the process says."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.told.lines.append(json.loads(line))
            self.told.changed.set()


@asynccontextmanager
async def updating_gateway(
    bundle: Bundle, *, port: Path | None = None, radio: str = "", key: bytes = KEY, **more: object
) -> AsyncIterator[UpdatingGateway]:
    """Run a gateway that gives `bundle` to the board on a port, or on a virtual radio."""
    specification: Mapping[str, object] = {
        "manifest": bundle.manifest.hex(),
        "contents": [content.hex() for content in bundle.files.values()],
        "port": "" if port is None else str(port),
        "radio": radio,
        "kind": 1 if bundle.kind == "settings" else 0,
        "bytecode": bundle.mpy or 0,
        "key": key.hex(),
        **more,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.updating_gateway"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    gateway = UpdatingGateway(process)
    try:
        await gateway.say(json.dumps(specification))
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(gateway.read())
            try:
                yield gateway
            finally:
                reading.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its lives, too
        await process.wait()

"""A gateway that updates one board, and can be killed at any frame of that: a program of its own.

It has imported all it needs, and forks for each life that it is asked for, so that to kill one
costs little. A life is the real links, driver and session; samples are safe as they come.

The first line on stdin is a `Specification` in JSON. Each further one is a life: `{"at": [7],
"mode": "kill"}` ends it without a word instead of its seventh frame of an update; `answered` ends
it when that one's answer has come, unread; `pause` says so and goes on after a line `go`. Instead
of a number there may be a type of frame, for the first of those, or `PIECE 3`, for the third one
that carries a piece of a file other than the manifest. A life also ends with the line
`end`, and gives its board a command at `command`. What happens is told on stdout, an object a line.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.model import Event, Fault, Readings, Seen, TakesCommands, UpdateStated
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.fragments import MAX_FRAGMENTED
from gateway.protocol.frames import MAX_FRAME_ON_256, Frame, open_frame
from gateway.protocol.lines import LineSplitter
from gateway.protocol.message_values import MessageType
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandEnded, CommandReturned
from gateway.protocol.update import (
    Update,
    UpdateEnded,
    UpdateEvent,
    UpdateOutcome,
    UpdatePhase,
    UpdateProgress,
)
from gateway.protocol.update_values import SIGNATURE_FILE, UpdateKind
from gateway.simulate.radio.bleak_backend import virtual_backend
from tests.support.ble_central import Central

_SEALED = 0x80
_QUESTIONS = {MessageType.OTA_BEGIN, MessageType.OTA_DATA, MessageType.OTA_END}
_OTA = range(0x40, 0x47)


@dataclass(frozen=True, slots=True)
class Specification:
    """What is to be done."""

    manifest: str
    """In hex, as the others."""
    contents: list[str]
    port: str = ""
    radio: str = ""
    kind: int = 0
    signature: str = ""
    allows_downgrade: bool = False
    bytecode: int = 0
    key: str = ""

    @property
    def update(self) -> Update:
        return Update(
            UpdateKind(self.kind),
            bytes.fromhex(self.manifest),
            tuple(map(bytes.fromhex, self.contents)),
            bytes.fromhex(self.signature),
            self.allows_downgrade,
            self.bytecode,
        )


@dataclass(frozen=True, slots=True)
class OneKey:
    """Whoever asks has this key."""

    key: bytes

    def find(self, _device: str, _key_id: str) -> bytes | None:
        return self.key or None

    def ids(self, _device: str) -> tuple[str, ...]:
        return ("00000000",) if self.key else ()


def tell(**what: object) -> None:
    """Say what happened; whole lines, also right before the end."""
    os.write(1, json.dumps(what).encode() + b"\n")


def read_word() -> str:
    """Read a line, and nothing behind it: the next one may be for another process."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return ""
        line += byte
    return line.decode().strip()


@dataclass
class Doom:
    """When the present life ends, or pauses."""

    at: list[int | str]
    """Numbers of frames, or types."""
    mode: str
    steps: int = 0
    is_struck: bool = False
    sent: Counter[str] = field(default_factory=Counter)

    def step(self, frame: Frame) -> None:
        """Count a frame that is about to be sent."""
        kind = MessageType(frame.type & ~_SEALED).name
        self.steps += 1
        self.sent[kind] += 1
        names = {self.steps, kind if self.sent[kind] == 1 else ""}
        if kind == "OTA_DATA" and int.from_bytes(frame.payload[:2], "little") < SIGNATURE_FILE:
            self.sent["PIECE"] += 1
            names.add(f"PIECE {self.sent['PIECE']}")
        if names.isdisjoint(self.at):
            return
        tell(at=self.steps, type=kind)
        if self.mode == "kill":
            self.die()
        elif self.mode == "pause":
            assert read_word() == "go"
        else:
            self.is_struck = True

    def answered(self) -> None:
        """Note that an answer has come."""
        if self.is_struck:
            self.die()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class TappedDriver(SerialLineDriver):
    """The driver, with an ear on what it sends of updates."""

    def __init__(self, doom: Doom, **arguments: Any) -> None:  # noqa: ANN401  # those of the driver
        super().__init__(**arguments)
        self._doom = doom
        self._tap = LineSplitter()

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        for line in self._tap.feed(data):
            frame = open_frame(line)
            if isinstance(frame, Frame) and frame.type & ~_SEALED in _OTA:
                self._doom.answered()
        return super().feed(data, now_s)

    def data_to_send(self) -> bytes:
        lines = super().data_to_send()
        for line in lines.splitlines():
            frame = open_frame(line)
            if isinstance(frame, Frame) and frame.type & ~_SEALED in _QUESTIONS:
                self._doom.step(frame)
        return lines


class Life(Central):
    """One life: it updates whatever board it meets."""

    def __init__(self, specification: Specification, doom: Doom) -> None:
        super().__init__(virtual_backend(specification.radio or "127.0.0.1:1"))
        self._specification = specification
        self._doom = doom
        self._books = DeliveryBook()
        self._is_done = False
        self._samples = 0
        self._orders = 0
        self._began_s = 0.0
        self._sending_s = 0.0
        self._had_bytes = -1
        self._links: dict[str, Any] = {}
        """Conversations by the name of their link: where a board takes commands."""

    async def run(self) -> None:
        if self._specification.radio:
            await super().run()
        else:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self.open_port(self._specification.port)
                await asyncio.Event().wait()

    def _make_driver(self, name: str) -> SerialLineDriver:
        driver = self._links[name] = TappedDriver(
            self._doom,
            port_name=name,
            device_name="",
            line_format=LineFormat("board"),
            book=self._books,
            clock=self._clock,
            run=1,
            session_id="0000cafe",
            largest_frame=MAX_FRAGMENTED if self._specification.radio else MAX_FRAME_ON_256,
            keys=OneKey(bytes.fromhex(self._specification.key)),
        )
        return driver

    def _accept(self, link: str, events: list[Event]) -> None:
        for event in events:
            match event:
                case Readings():
                    self._samples += len(event.records)
                    if event.on_safe is not None:
                        event.on_safe()
                case Seen():
                    said = event.description
                    tell(
                        seen=said.manifest_hash,
                        config=said.config_hash,
                        slot=said.slot,
                        trial=said.is_on_trial,
                        rollback=said.rollback,
                        crash=said.crash,
                    )
                case TakesCommands() if not self._is_done:
                    self._update(link, event.device)
                case UpdateStated():
                    tell(stated=event.state, mh=event.manifest_hash, reason=event.reason)
                case Fault():
                    tell(fault=event.kind, detail=event.detail)

    def _update(self, link: str, device: str) -> None:
        self._began_s = self._clock.monotonic_s()
        self._had_bytes = -1
        driver = self._links[link]
        driver.update(device, self._specification.update, self._began_s, self._note)
        driver.on_output()

    def _note(self, event: UpdateEvent) -> None:
        now_s = self._clock.monotonic_s()
        if isinstance(event, UpdateProgress):
            is_known = event.phase in {UpdatePhase.SENDING, UpdatePhase.CHECKING}
            if is_known and self._had_bytes < 0:
                self._had_bytes, self._sending_s = event.done_bytes, now_s
                tell(had=self._had_bytes, of=event.total_bytes)
            return
        assert isinstance(event, UpdateEnded)
        self._is_done = event.outcome is not UpdateOutcome.INTERRUPTED
        tell(
            ended=event.outcome.value,
            detail=event.detail,
            sent_bytes=event.sent_bytes,
            sent_files=event.sent_files,
            had_bytes=self._had_bytes,
            frames=self._doom.sent,
            seconds=now_s - self._began_s,
            sending_s=now_s - self._sending_s,
            samples=self._samples,
        )

    def command(self, name: str) -> None:
        """Give the board a command; its answer is told."""
        self._orders += 1
        for driver in self._links.values():
            board = driver._board  # noqa: SLF001  # which device is there
            order = Order(
                f"test.{os.getpid()}.{self._orders}",
                name,
                None,
                self._clock.monotonic_s() + 10,
                board.device,
                board._told_life or "",  # noqa: SLF001  # and in which life
            )
            driver.command(order, order.expires_s - 10, partial(self._note_answer, name))
            driver.on_output()

    @staticmethod
    def _note_answer(name: str, end: CommandEnded | CommandReturned) -> None:
        tell(command=name, outcome=end.outcome.value if isinstance(end, CommandEnded) else "")


async def live(specification: Specification, doom: Doom) -> None:
    """Be a gateway until told to end."""
    life = Life(specification, doom)
    over = asyncio.Event()

    def take_word() -> None:
        word = read_word()
        if word == "command":
            life.command("info")
        else:
            over.set()

    asyncio.get_running_loop().add_reader(0, take_word)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(life.run())
        await over.wait()
        running.cancel()


def main(specification: Specification) -> None:
    """Fork for each life that is asked for, and tell how it ended."""
    while line := read_word():
        wanted = json.loads(line)
        child = os.fork()
        if not child:
            try:
                asyncio.run(live(specification, Doom(wanted["at"], wanted["mode"])))
            except BaseException as error:
                tell(error=repr(error))
                raise
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        tell(life=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Specification(**json.loads(read_word())))

"""A board in a process of its own, and the gateway's end of its line."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.firmware.model_gateway import (
    CMD,
    READ,
    RSP,
    Batch,
    ModelGateway,
    Said,
    batch,
    json_line,
    said,
)
from tests.firmware.under_test import FIRMWARE
from tests.support import nursery

TIMEOUT_S = 15.0
"""For what takes milliseconds on an idle machine."""


@dataclass
class BoardProcess:
    """Hears what the board says; answers only as far as a test lets it."""

    process: subprocess.Popen[bytes]
    read_fd: int
    write_fd: int
    heard: list[Said] = field(default_factory=list)
    text: list[bytes] = field(default_factory=list)
    gateway: ModelGateway = field(default_factory=ModelGateway)
    answers_acks: bool = True
    lose_every: int = 0
    """Of so many lines, in both directions together, one is lost; 0 for none."""
    _count: int = 0
    _rest: bytes = b""
    _ended: bool = False

    def use(self, read_fd: int, write_fd: int) -> None:
        """Speak over another line from now on; who opened it closes it."""
        self.read_fd, self.write_fd = read_fd, write_fd

    def send(self, *lines: bytes) -> None:
        os.write(self.write_fd, b"".join(lines))

    def _is_lost(self) -> bool:
        self._count += 1
        return self.lose_every > 0 and self._count % self.lose_every == 0

    @property
    def unfinished(self) -> bytes:
        """What has come of the next line."""
        return self._rest

    def step(self, timeout_s: float) -> bool:
        """Read once and answer as a gateway; return whether there was anything."""
        if self.write_fd >= 0 and not self._ended:
            self.send(*self.gateway.tick(time.monotonic_ns() // 1_000_000))
        if self._ended or not select.select([self.read_fd], [], [], timeout_s)[0]:
            return False
        try:
            chunk = os.read(self.read_fd, 65536)
        except OSError:  # a pty whose other end is closed
            chunk = b""
        self._ended = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        now_ms = time.monotonic_ns() // 1_000_000
        for line in lines:
            if b"~" not in line:
                self.text.append(line)
                continue
            if self._is_lost():
                continue
            frame = said(line + b"\n")
            self.heard.append(frame)
            answers = list(self.gateway.hear(line + b"\n", now_ms))
            if self.write_fd >= 0 and (frame.kind != READ or self.answers_acks):
                self.send(*(answer for answer in answers if not self._is_lost()))
        return bool(chunk)

    def until(self, condition: Callable[[], object]) -> None:
        """Speak with the board until the condition holds.

        Raises:
            AssertionError: it does not in time, or the board ended.
        """
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline_s, f"not in time; heard {self.heard[-5:]}"
            assert self.step(0.05) or not self._ended, f"the board ended; heard {self.heard[-5:]}"

    def keep_talking(self, duration_s: float) -> None:
        deadline_s = time.monotonic() + duration_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self.step(left_s)

    def of_kind(self, kind: int) -> list[Said]:
        return [frame for frame in self.heard if frame.kind == kind]

    def batches(self) -> list[Batch]:
        return [batch(frame) for frame in self.of_kind(READ)]

    def await_records(self, count: int) -> None:
        self.until(lambda: len(self.gateway.records) >= count)

    def command(self, name: str, args: object = None, cid: str = "1", ttl_ms: int = 5000) -> Any:  # noqa: ANN401 - any JSON
        """Give a command, again every second as the gateway does, and return its RSP."""
        seen = len(self.of_kind(RSP))
        request = {"c": name, "a": args, "ttl_ms": ttl_ms, "cid": cid}
        line = json_line(CMD, request, mid=len(self.heard) & 255)
        repeat_s = 0.0

        def answered() -> list[Any]:
            nonlocal repeat_s
            if time.monotonic() >= repeat_s:
                repeat_s = time.monotonic() + 1
                self.send(line)
            answers = [frame.json for frame in self.of_kind(RSP)[seen:]]
            return [answer for answer in answers if answer["cid"] == cid]

        self.until(answered)
        return answered()[0]

    def exit_code(self) -> int:
        """Listen until the board ends, and return how."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while self.step(0.05) or not self._ended:
            assert time.monotonic() < deadline_s, "the board does not end"
        return self.process.wait(TIMEOUT_S)

    def kill(self) -> None:
        """Reset it at once: nothing more is done, and what it says is lost from here on."""
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    def power_off(self) -> int:
        """Close the line and return how the board ended."""
        os.close(self.write_fd)
        self.write_fd = -1
        return self.exit_code()


@dataclass(frozen=True, slots=True)
class Bench:
    """What runs a board, and the folder that is its flash."""

    interpreter: tuple[str, ...]
    flash: Path
    firmware: Path = FIRMWARE

    def configure(self, **settings: object) -> None:
        settings.setdefault("watchdog_s", 0)
        (self.flash / "config.json").write_text(json.dumps(settings), encoding="utf-8")

    def command(self) -> list[str]:
        return [*self.interpreter, str(self.firmware / "host" / "run.py"), str(self.flash)]

    @contextmanager
    def board(
        self,
        environment: Mapping[str, str] | None = None,
        line: tuple[int, int] | None = None,
        *,
        power_cut: bool = False,
        gateway: ModelGateway | None = None,
    ) -> Iterator[BoardProcess]:
        """Run a board, and end it; with `power_cut` it was without power since the last run.

        Its line is a pair of pipes, unless `line` has descriptors to read and to write. `gateway`
        may know it from an earlier run.
        """
        to_board, write_fd = os.pipe()
        read_fd, from_board = os.pipe()
        stdin, stdout = line or (to_board, from_board)
        process = nursery.Popen(
            [*self.command(), *(["--power-cut"] if power_cut else [])],
            stdin=stdin,
            stdout=stdout,
            env={**os.environ, **(environment or {})},
            cwd=self.flash,
        )
        os.close(to_board)
        os.close(from_board)
        board = BoardProcess(process, read_fd, write_fd)
        if gateway is not None:
            board.gateway = gateway
        try:
            yield board
        finally:
            if board.write_fd != -1:
                os.close(write_fd)
            os.close(read_fd)
            if board.read_fd != read_fd:  # its line may stay open
                process.terminate()
            try:
                process.wait(TIMEOUT_S)
            finally:
                process.kill()
                process.wait()


CPYTHON = (sys.executable,)

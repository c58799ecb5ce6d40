"""The least gateway that keeps the protocol's rules, written from them and not from our gateway."""

import base64
import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

HELLO, WELCOME, PING, PONG, STREAM, STREAM_REQ, ACTUATOR, HELLO_REQ = range(1, 9)
READ, ACK, CMD, RSP, LOG, BYE = 0x10, 0x11, 0x20, 0x21, 0x30, 0x50
RESENT, OLDEST, MORE = 1, 2, 4


def line_of(kind: int, payload: bytes = b"", mid: int = 0) -> bytes:
    body = bytes((kind, mid)) + payload
    return b"~" + base64.b64encode(body + struct.pack("<I", zlib.crc32(body))) + b"\n"


def json_line(kind: int, payload: object, mid: int = 0) -> bytes:
    return line_of(kind, json.dumps(payload).encode(), mid)


def ack_line(
    safe: int, got: int | None = None, credit: int = 3, *, rewind: bool = False, epoch: int = 7
) -> bytes:
    tail = b"" if got is None else struct.pack("<I", got)
    return line_of(ACK, struct.pack("<HIBB", epoch, safe, credit, rewind) + tail)


UNIX_S = 1_790_000_000


def welcome_line(
    safe: int = 0, credit: int = 3, heartbeat_s: float = 5, epoch: int = 7, utc_ms: int = 0
) -> bytes:
    return json_line(
        WELCOME,
        {
            "p": 1,
            "s": "s",
            "utc": divmod(utc_ms or UNIX_S * 1000, 1000),
            "ep": epoch,
            "nx": safe,
            "cr": credit,
            "hb": heartbeat_s,
        },
    )


@dataclass(frozen=True, slots=True)
class Said:
    """A frame a board sent."""

    kind: int
    mid: int
    payload: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the board says
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True)
class Batch:
    """A READ frame, taken apart."""

    flags: int
    epoch: int
    first_seq: int
    now_ms: int
    lost: int
    records: list[bytes]

    @property
    def next_seq(self) -> int:
        return self.first_seq + len(self.records)


def said(line: bytes | None) -> Said:
    """Open a line that must hold a frame."""
    assert line is not None
    assert line.startswith(b"~")
    assert line.endswith(b"\n")
    raw = base64.b64decode(line[1:-1], validate=True)
    assert struct.unpack("<I", raw[-4:])[0] == zlib.crc32(raw[:-4])
    return Said(raw[0], raw[1], raw[2:-4])


def batch(frame: Said) -> Batch:
    assert frame.kind == READ
    head, flags, epoch, first, now_ms, lost, count, zero = struct.unpack_from(
        "<BBHIIHBB", frame.payload
    )
    assert (head, zero) == (16, 0)
    records = []
    at = head
    for _ in range(count):
        size = frame.payload[at]
        records.append(frame.payload[at : at + size])
        at += size
    assert at == len(frame.payload)
    return Batch(flags, epoch, first, now_ms, lost, records)


def drain(session: Any, now_ms: int) -> list[Said]:  # noqa: ANN401 - the firmware is untyped
    """Take all lines a board's session has to send."""
    return [said(line) for line in iter(lambda: session.next_line(now_ms), None)]


@dataclass
class ModelGateway:
    """Accepts records in order; answers with the lines it would write."""

    credit: int = 3
    safe_delay_ms: int = 0
    """How long the broker takes; the records are received, not safe, that long."""
    heartbeat_s: float = 5
    ahead_s: float | None = None
    """How far its clock is ahead of ours; None: it stands still."""
    is_silent: bool = False
    records: list[bytes] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    epoch: int | None = None
    received: int = 0
    safe: int = 0
    duplicates: int = 0
    logs: list[bytes] = field(default_factory=list)
    answers: dict[str, list[Any]] = field(default_factory=dict)
    _safe_at: list[tuple[int, int]] = field(default_factory=list)
    _rewound: tuple[int, int] = (-1, -1)

    def hear(self, line: bytes, now_ms: int) -> Iterator[bytes]:
        if self.is_silent:
            return
        try:
            frame = said(line)
        except (AssertionError, ValueError, IndexError, struct.error):
            return
        if frame.kind == HELLO:
            yield from self._hello(frame)
        elif frame.kind == PING:
            now = struct.pack("<IH", *divmod(self.utc_ms(), 1000))
            yield line_of(PONG, frame.payload[:4] + now)
        elif frame.kind == READ:
            yield from self._read(batch(frame), now_ms)
        elif frame.kind == LOG:
            self.logs.append(frame.payload)
        elif frame.kind == RSP:
            self.answers.setdefault(frame.json["cid"], []).append(frame.json)

    def utc_ms(self) -> int:
        return UNIX_S * 1000 if self.ahead_s is None else int((time.time() + self.ahead_s) * 1000)

    def _hello(self, frame: Said) -> Iterator[bytes]:
        hello = frame.json
        if hello["ep"] != self.epoch:
            self.epoch = hello["ep"]
            self.received = self.safe = hello.get("ak", 0)
        yield welcome_line(self.safe, self.credit, self.heartbeat_s, hello["ep"], self.utc_ms())

    def _read(self, read: Batch, now_ms: int) -> Iterator[bytes]:
        if read.epoch != self.epoch:
            yield line_of(HELLO_REQ)
            return
        if read.first_seq > self.received:
            if read.flags & OLDEST:
                self.gaps.append((self.received, read.first_seq - 1))
                self.received = read.first_seq
            elif self._rewound[0] != self.received or now_ms - self._rewound[1] >= 50:
                self._rewound = (self.received, now_ms)
                yield self._ack(rewind=True)
                return
            else:
                return
        fresh = read.records[self.received - read.first_seq :]
        self.duplicates += len(read.records) - len(fresh)
        self.records += fresh
        self.received = max(self.received, read.next_seq)
        if self.safe_delay_ms and fresh:
            self._safe_at.append((now_ms + self.safe_delay_ms, self.received))
            if self.safe_delay_ms > 100:
                yield self._ack()
        else:
            if not self._safe_at:
                self.safe = self.received
            yield self._ack()

    def tick(self, now_ms: int) -> Iterator[bytes]:
        due = [entry for entry in self._safe_at if entry[0] <= now_ms]
        if due:
            del self._safe_at[: len(due)]
            self.safe = due[-1][1]
            yield self._ack()

    def _ack(self, *, rewind: bool = False) -> bytes:
        assert self.epoch is not None
        return ack_line(self.safe, self.received, self.credit, rewind=rewind, epoch=self.epoch)

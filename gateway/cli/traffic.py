"""What goes over a serial line, line by line, in words; it listens only."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from gateway.cli.wording import Reading, describe, read_summary, shown, values_text
from gateway.drivers.json_lines import JsonLines
from gateway.model import Event, Fault, Readings, Sample
from gateway.protocol import messages as m
from gateway.protocol.frames import MARK, BadFrame, Frame, open_frame
from gateway.protocol.lines import LineSplitter
from gateway.protocol.records import (
    MONO_FIELD,
    STREAM_FIELD,
    RawRecord,
    RecordLayout,
    Scaling,
    unpack_records,
)
from gateway.protocol.sealed import without_seal

_NOISE_SHARE = 0.3
"""A line with more unprintable characters than this is no text: a wrong baud rate, or binary."""
_UNNAMED = "line"
"""What a text source is called here that does not tell its name."""
_HAS_SEQ = re.compile(rb'"seq"\s*:')


class Origin(Enum):
    """Who sent a line."""

    BOARD = "board"
    GATEWAY = "gateway"


class Kind(Enum):
    """What a line was."""

    FRAME = "frame"
    JSON = "json"
    TEXT = "text"
    NOISE = "noise"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line that went over the wire, or the fault that it is."""

    kind: Kind
    origin: Origin
    name: str
    """Short: the message's type, or what else it is."""
    summary: str
    """One line for people; printable whatever was on the wire."""
    line: bytes = b""
    """As it was on the wire, without its newline."""
    message: m.Message | None = None
    readings: tuple[Reading, ...] = ()


class Traffic:
    """Makes entries of bytes; remembers what streams mean. Nothing on a wire ever raises."""

    def __init__(self) -> None:
        self._splitters = {origin: LineSplitter() for origin in Origin}
        self._json = JsonLines(_UNNAMED, None, run=0)
        self._board = ("", 0)
        self._streams: dict[int, m.Stream] = {}
        self._layouts: dict[int, RecordLayout] = {}
        self._scalings: dict[int, Scaling] = {}

    def feed(self, data: bytes, origin: Origin = Origin.BOARD) -> list[Entry]:
        """Return what `data` completed, in order; empty lines are left out.

        Where both directions come mixed, as from a wiretap, frames tell who sent them.
        """
        splitter = self._splitters[origin]
        too_long = splitter.too_long
        entries = [self._entry(line, origin) for line in splitter.feed(data) if line]
        for _ in range(splitter.too_long - too_long):
            text = "a line of more than 8192 bytes was dropped"
            entries.append(Entry(Kind.FAULT, origin, "too_long", text))
        return entries

    def finish(self) -> list[Entry]:
        """Return the line that has not ended, once nothing more will come."""
        return [entry for origin in Origin for entry in self.feed(b"\n", origin)]

    def _entry(self, line: bytes, origin: Origin) -> Entry:
        match open_frame(line):
            case Frame() as frame:
                return self._frame(line, frame, origin)
            case BadFrame(fault):
                return Entry(Kind.FAULT, origin, fault.value, shown(line), line)
        if line.startswith(b'{"ack":') and line.endswith(b"}"):
            return Entry(Kind.JSON, Origin.GATEWAY, "ack", shown(line), line)
        is_json = line[:1] == b"{" and origin is Origin.BOARD
        return self._json_entry(line) if is_json else _text_entry(line, origin)

    def _frame(self, line: bytes, frame: Frame, origin: Origin) -> Entry:
        frame, counter = without_seal(frame)
        message = m.decode(frame)
        name = _type_name(frame.type)
        if isinstance(message, m.BadMessage):
            return Entry(Kind.FAULT, origin, "bad_message", f"{name}: {message.reason}", line)
        if isinstance(message, m.UnknownMessage):
            text = f"type {message.type:#04x} with {message.size} bytes"
            return Entry(Kind.FAULT, origin, "unknown_type", text, line)
        readings: tuple[Reading, ...] = ()
        if isinstance(message, m.Read):
            readings = tuple(self._readings(message))
            summary = read_summary(message, readings)
        else:
            self._learn(message)
            summary = describe(message)
        if counter is not None:
            summary += f" (sealed, counter {counter})"
        noise = line[: line.rfind(MARK)]
        if noise:
            summary += f' (behind "{shown(noise)}")'
        origin = Origin.GATEWAY if isinstance(message, m.FromGateway) else Origin.BOARD
        return Entry(Kind.FRAME, origin, name, summary, line, message, readings)

    def _learn(self, message: m.Message) -> None:
        if isinstance(message, m.Hello) and self._board != (message.id, message.epoch):
            self._board = (message.id, message.epoch)
            self._streams.clear()
            self._layouts.clear()
        elif isinstance(message, m.Stream):
            keys = [channel.key for channel in message.channels]
            self._streams[message.number] = message
            self._layouts[message.number] = RecordLayout(message)
            self._scalings[message.number] = Scaling(message, keys)

    def _readings(self, read: m.Read) -> Iterator[Reading]:
        for index, record in enumerate(unpack_records(read, self._layouts).records):
            if record is not None:
                yield self._reading(read, read.first_seq + index, record)

    def _reading(self, read: m.Read, seq: int, record: RawRecord) -> Reading:
        number = record[STREAM_FIELD]
        stream = self._streams[number]
        age_ms = (read.now_ms - record[MONO_FIELD]) & m.U32
        return Reading(
            seq,
            stream.name,
            age_ms / 1000,
            self._scalings[number].values(record),
            {channel.key: channel.unit for channel in stream.channels},
        )

    def _json_entry(self, line: bytes) -> Entry:
        events: list[Event] = []
        self._json.parse(line, 0.0, events)
        for event in events:
            if isinstance(event, Fault):
                return Entry(Kind.FAULT, Origin.BOARD, event.kind, shown(line), line)
        for event in events:
            if isinstance(event, Readings) and isinstance(event.records[0], Sample):
                sample = event.records[0]
                reading = Reading(sample.seq, sample.device, 0.0, sample.values, {})
                text = values_text(reading)
                if sample.device != _UNNAMED:
                    text = f"{sample.device}: {text}"
                if _HAS_SEQ.search(line):
                    text = f"seq {sample.seq} {text}"
                return Entry(Kind.JSON, Origin.BOARD, "json", text, line, readings=(reading,))
        return _text_entry(line, Origin.BOARD)


def _text_entry(line: bytes, origin: Origin) -> Entry:
    text = line.decode(errors="replace")
    odd = sum(not char.isprintable() or char == "\ufffd" for char in text) - text.count("\t")
    if odd > _NOISE_SHARE * len(text):
        return Entry(Kind.NOISE, origin, "noise", shown(line), line)
    return Entry(Kind.TEXT, origin, "text", shown(line), line)


def _type_name(number: int) -> str:
    try:
        return m.MessageType(number).name
    except ValueError:
        return f"{number:#04x}"

"""Messages of the board protocol in words."""

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gateway.model import Value
from gateway.protocol import messages as m
from gateway.protocol.update_values import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    DataStatus,
    UpdateFlag,
    UpdateKind,
    Want,
)

MAX_SHOWN = 300
"""Characters of a line that are shown; a READ full of values has some 250."""


class Reading(NamedTuple):
    """The values of one record."""

    seq: int
    stream: str
    age_s: float
    """How long before sending it was taken."""
    values: Mapping[str, Value]
    units: Mapping[str, str]


def shown(line: bytes, longest: int = MAX_SHOWN) -> str:
    """Return a line as text that can do a terminal no harm, at most `longest` characters."""
    text = line[: longest + 1].decode(errors="backslashreplace")
    safe = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return safe if len(safe) <= longest else safe[:longest] + "..."


def titled(level: str, name: str) -> str:
    """Return a board's name in topics, as commands take it, and what people call it."""
    name = shown(name.encode())
    return level if name in {"", level} else f"{level} ({name})"


def describe(message: m.Message) -> str:
    """Return what a message says, in one line."""
    text = _DESCRIBE[type(message)](message)
    return shown(text.encode(errors="replace"))


def values_text(reading: Reading) -> str:
    """Return for example `temperature=21.5 °C humidity=45.2 %`."""
    parts = []
    for key, value in reading.values.items():
        unit = reading.units.get(key, "")
        parts.append(f"{key}={value}{unit and f' {unit}'}")
    return " ".join(parts) or "no values"


def read_summary(read: m.Read, readings: tuple[Reading, ...]) -> str:
    """Return what a READ carries; `readings` is what of it could be understood."""
    seqs = f"seq {read.first_seq}"
    if read.record_count != 1:
        seqs += f"..{read.first_seq + read.record_count - 1}" if read.record_count else ", empty"
    flags = [flag.name.lower() for flag in m.ReadFlag if read.flags & flag and flag.name]
    head = f"epoch {read.epoch} {seqs}"
    if flags:
        head += f" ({', '.join(flags)})"
    if read.lost:
        head += f" lost {read.lost}"
    unread = read.record_count - len(readings)
    if unread:
        why = "unreadable" if readings else "of a stream that is not described yet"
        head += f", {unread} {why}"
    by_stream = itertools.groupby(readings, key=lambda reading: reading.stream)
    groups = [
        f"{stream}: " + " | ".join(values_text(reading) for reading in group)
        for stream, group in by_stream
    ]
    return shown("; ".join([head, *groups]).encode(errors="replace"))


def _hello(hello: m.Hello) -> str:
    parts = [f"{hello.name or 'a board'} ({hello.id})"]
    if hello.firmware:
        parts.append(f"firmware {hello.firmware}")
    is_version = hello.runtime[:1].isdecimal()
    runtime = f"MicroPython {hello.runtime}" if is_version else hello.runtime
    if runtime or hello.platform:
        parts.append(" on ".join(filter(None, (runtime, hello.platform))))
    parts.append(f"epoch {hello.epoch}, next seq {hello.next_seq}, keeps {hello.unacked}")
    parts.append(f"{_count(hello.streams, 'stream')}, {_count(hello.actuators, 'actuator')}")
    if hello.slot:
        parts.append(f"slot {hello.slot}" + (" on trial" if hello.trial else ""))
    if hello.rollback:
        parts.append(f"took an update back: {hello.rollback}")
    if hello.reset_cause:
        parts.append(f"reset by {hello.reset_cause}")
    if hello.crash.strip():
        parts.append(f"crashed before: {hello.crash.strip().splitlines()[-1]}")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _welcome(welcome: m.Welcome) -> str:
    return (
        f"session {welcome.session}, epoch {welcome.epoch}, all before seq {welcome.next_seq} is "
        f"safe, credit {welcome.credit}, heartbeat {welcome.heartbeat_s:g} s"
    )


def _stream(stream: m.Stream) -> str:
    channels = ", ".join(
        f"{channel.key}{channel.unit and f' in {channel.unit}'}" for channel in stream.channels
    )
    return f"stream {stream.number} {stream.name}: {channels}"


def _actuator(report: m.ActuatorReport) -> str:
    limits = ""
    if report.minimum is not None or report.maximum is not None:
        limits = f" {report.minimum}..{report.maximum}"
    elif report.options:
        limits = f" {'/'.join(report.options)}"
    return f"{report.key}: {report.kind}{limits}, is {json.dumps(report.state)}"


def _ack(ack: m.Ack) -> str:
    text = f"epoch {ack.epoch}, all before seq {ack.next_seq} is safe"
    if ack.got_seq not in (None, ack.next_seq):
        text += f", before {ack.got_seq} arrived"
    if ack.flags & m.AckFlag.REWIND:
        text += ", send again from there"
    return text + (f", credit {ack.credit}" if ack.credit else ", pause")


def _command(command: m.Command) -> str:
    return (
        f"{command.name} {json.dumps(command.arguments, ensure_ascii=False)} "
        f"within {command.ttl_ms} ms (id {command.command_id})"
    )


def _response(response: m.Response) -> str:
    outcome = f"failed: {response.error}" if response.error else json.dumps(response.result)
    return f"id {response.command_id}: {outcome}"


def _begin(begin: m.UpdateBegin) -> str:
    text = f"{UpdateKind(begin.kind).name.lower()}, manifest {begin.manifest_hash.hex()[:16]} "
    text += f"of {begin.manifest_size} bytes"
    flags = [flag.name.lower() for flag in UpdateFlag if begin.flags & flag and flag.name]
    return text + (f" ({', '.join(flags)})" if flags else "")


def _need(need: m.UpdateNeed) -> str:
    if need.want is not Want.FILES:
        wants = {Want.MANIFEST: "needs the manifest", Want.SIGNATURE: "needs the signature"}
        return wants.get(need.want, "copies and hashes")
    return f"needs {len(need.files)} of {_count(need.count, 'file')}"


def _file(number: int) -> str:
    names = {MANIFEST_FILE: "manifest", SIGNATURE_FILE: "signature"}
    return names.get(number, f"file {number}")


def _data_ack(ack: m.UpdateDataAck) -> str:
    text = f"{_file(ack.file)}, goes on at {ack.next_offset}"
    return text if ack.status is DataStatus.OK else f"{text}: {ack.status.name.lower()}"


def _update_state(state: m.UpdateState) -> str:
    text = f"{state.state.value} {state.manifest_hash}".strip()
    return f"{text}: {state.reason}" if state.reason else text


_LEVELS = {1: "debug", 2: "info", 3: "warning", 4: "error"}

_DESCRIBE: Mapping[type, Callable[[Any], str]] = {
    m.Hello: _hello,
    m.Welcome: _welcome,
    m.HelloRequest: lambda _: "who are you?",
    m.Ping: lambda ping: f"board's clock {ping.mono_ms} ms",
    m.Pong: lambda pong: f"to {pong.echo_ms} ms, it is {pong.unix_s}.{pong.unix_ms:03d}",
    m.Stream: _stream,
    m.StreamRequest: lambda ask: (
        "describe everything" if ask.stream == m.ALL_STREAMS else f"describe stream {ask.stream}"
    ),
    m.ActuatorReport: _actuator,
    m.Read: lambda read: read_summary(read, ()),
    m.Ack: _ack,
    m.Command: _command,
    m.Response: _response,
    m.Log: lambda log: f"{_LEVELS.get(log.level, str(log.level))}: {log.text}",
    m.Bye: lambda bye: f"back in {bye.wake_in_ms} ms",
    m.UpdateBegin: _begin,
    m.UpdateNeed: _need,
    m.UpdateData: lambda data: f"{_file(data.file)}, {len(data.data)} bytes at {data.offset}",
    m.UpdateDataAck: _data_ack,
    m.UpdateEnd: lambda _: "that was all",
    m.UpdateAbort: lambda abort: abort.reason,
    m.UpdateState: _update_state,
}

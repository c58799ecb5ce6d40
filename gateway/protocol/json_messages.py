"""Payloads in JSON: what is said seldom, and by people's names."""

from collections.abc import Mapping
from struct import Struct

from gateway.protocol import fields
from gateway.protocol.fields import FieldError, Json
from gateway.protocol.frames import MAX_FRAME_ON_256
from gateway.protocol.message_values import (
    ALL_STREAMS,
    U16,
    U32,
    ActuatorReport,
    Channel,
    Command,
    Hello,
    Response,
    Stream,
    Welcome,
)

STREAM_FORMATS = frozenset("bBhHiIqQfd")
"""Letters a stream's format may have; each is one value."""

MAX_RECORD_BODY = 249
"""Most bytes of values in a record: its length byte also counts the 6 bytes before them."""

ACTUATOR_KINDS = frozenset({"switch", "number", "button", "select", "text"})

_NAME = 64
"""Longest name, key or version, in characters."""
_UNIT = 32
_CRASH = 2048
_ERROR = 1024
_STATE = 256
_REASON = 256
_MF_LEAST = 64
_DAY_MS = 86_400_000


def decode_hello(payload: bytes) -> Hello:
    """Undo `encode_hello`; `FieldError` names the field that is wrong."""
    said = fields.load_object(payload)
    next_seq = fields.integer(said, "sq", 0, U32)
    unacked = fields.integer(said, "un", 0, next_seq)
    previous_epoch, previous_next, previous_acked = _previous(said)
    key_id = fields.hexadecimal(said, "ki", 8)
    key_session = fields.hexadecimal(said, "ks", 16)
    if bool(key_id) != bool(key_session):
        raise FieldError("ki, ks: one without the other")
    return Hello(
        protocol=fields.integer(said, "p", 1, 255),
        id=fields.text(said, "id", _NAME),
        epoch=fields.integer(said, "ep", 0, U16),
        next_seq=next_seq,
        unacked=unacked,
        acked=fields.integer(said, "ak", 0, next_seq, 0),
        name=fields.text(said, "name", _NAME, ""),
        firmware=fields.text(said, "fw", _NAME, ""),
        manifest_hash=fields.text(said, "mh", _NAME, ""),
        runtime=fields.text(said, "mp", _NAME, ""),
        platform=fields.text(said, "plat", _NAME, ""),
        largest_frame=fields.integer(said, "mf", _MF_LEAST, U16, MAX_FRAME_ON_256),
        streams=fields.integer(said, "ns", 0, ALL_STREAMS, 0),
        actuators=fields.integer(said, "na", 0, 255, 0),
        reset_cause=fields.text(said, "rst", _NAME, ""),
        crash=fields.text(said, "crash", _CRASH, ""),
        slot=fields.text(said, "slot", _NAME, ""),
        trial=fields.flag(said, "trial"),
        capabilities=fields.texts(said, "caps", 32, _NAME),
        nonce=fields.integer(said, "n", 0, U32, 0),
        is_closed=fields.flag(said, "cl"),
        previous_epoch=previous_epoch,
        previous_next=previous_next,
        previous_acked=previous_acked,
        config_hash=fields.hexadecimal(said, "ch", 8),
        rollback=fields.text(said, "rb", _REASON, ""),
        bytecode=fields.integer(said, "mpy", 0, 255, 0),
        key_id=key_id,
        key_session=key_session,
        key_counter=fields.integer(said, "kc", 0, U32, 0),
        wants_proof=fields.flag(said, "ka"),
    )


def _previous(said: Mapping[str, Json]) -> tuple[int | None, int, int | None]:
    """Return epoch, next seq and acked of the epoch before this one."""
    if said.get("pe") is None:
        return None, 0, None
    next_seq = fields.integer(said, "ps", 0, U32)
    acked = None if said.get("pa") is None else fields.integer(said, "pa", 0, next_seq)
    return fields.integer(said, "pe", 0, U16), next_seq, acked


def encode_hello(hello: Hello) -> bytes:
    """Return what a board says of itself; keys it has nothing for are left out."""
    said: dict[str, Json] = {
        "p": hello.protocol,
        "id": hello.id,
        "name": hello.name or None,
        "fw": hello.firmware or None,
        "mh": hello.manifest_hash or None,
        "mp": hello.runtime or None,
        "plat": hello.platform or None,
        "ep": hello.epoch,
        "sq": hello.next_seq,
        "un": hello.unacked,
        "ak": hello.acked or None,
        "mf": hello.largest_frame,
        "ns": hello.streams,
        "na": hello.actuators,
        "rst": hello.reset_cause or None,
        "crash": hello.crash or None,
        "slot": hello.slot or None,
        "trial": hello.trial or None,
        "caps": list(hello.capabilities) or None,
        "n": hello.nonce,
        "cl": hello.is_closed or None,
        "ch": hello.config_hash or None,
        "rb": hello.rollback or None,
        "mpy": hello.bytecode or None,
        "ki": hello.key_id or None,
        "ks": hello.key_session or None,
        "kc": hello.key_counter or None,
        "ka": hello.wants_proof or None,
    }
    if hello.previous_epoch is not None:
        said |= {"pe": hello.previous_epoch, "ps": hello.previous_next, "pa": hello.previous_acked}
    return fields.dump_known(said)


def decode_welcome(payload: bytes) -> Welcome:
    """Undo `encode_welcome`; `FieldError` names the field that is wrong."""
    said = fields.load_object(payload)
    utc = said.get("utc")
    if not isinstance(utc, list) or len(utc) != 2:  # noqa: PLR2004  # seconds and milliseconds
        raise FieldError("utc: not [s, ms]")
    moment = {"utc": utc[0], "utc ms": utc[1]}
    heartbeat_s = fields.number(said.get("hb"), "hb")
    if not 0 < heartbeat_s <= 3600:  # noqa: PLR2004  # an hour
        raise FieldError("hb: not in 0..3600 s")
    return Welcome(
        protocol=fields.integer(said, "p", 1, 255),
        session=fields.text(said, "s", _NAME),
        unix_s=fields.integer(moment, "utc", 0, U32),
        unix_ms=fields.integer(moment, "utc ms", 0, 999),
        epoch=fields.integer(said, "ep", 0, U16),
        next_seq=fields.integer(said, "nx", 0, U32),
        credit=fields.integer(said, "cr", 0, 255),
        heartbeat_s=heartbeat_s,
    )


def encode_welcome(welcome: Welcome) -> bytes:
    """Return {p, s, utc: [s, ms], ep, nx, cr, hb}."""
    said: dict[str, Json] = {
        "p": welcome.protocol,
        "s": welcome.session,
        "utc": [welcome.unix_s, welcome.unix_ms],
        "ep": welcome.epoch,
        "nx": welcome.next_seq,
        "cr": welcome.credit,
        "hb": welcome.heartbeat_s,
    }
    return fields.dump_object(said)


def decode_stream(payload: bytes) -> Stream:
    """Undo `encode_stream`; `FieldError` names the field that is wrong."""
    said = fields.load_object(payload)
    letters = fields.text(said, "f", MAX_RECORD_BODY)
    if not STREAM_FORMATS.issuperset(letters):
        raise FieldError("f: a letter outside bBhHiIqQfd")
    if Struct("<" + letters).size > MAX_RECORD_BODY:
        raise FieldError("f: records too long")
    rows = said.get("c")
    if not isinstance(rows, list) or len(rows) != len(letters):
        raise FieldError("c: not one channel for each letter of f")
    return Stream(
        number=fields.integer(said, "i", 0, ALL_STREAMS - 1),
        name=fields.text(said, "n", _NAME),
        format=letters,
        channels=tuple(_channel(row) for row in rows),
    )


def _channel(row: Json) -> Channel:
    if not isinstance(row, list) or not row:
        raise FieldError("c: a channel is not a list")
    said = dict(zip(("key", "unit", "exponent", "device class"), row, strict=False))
    exponent = None
    if said.get("exponent") is not None:
        exponent = fields.integer(said, "exponent", -18, 18)
    return Channel(
        key=fields.text(said, "key", _NAME),
        unit=fields.text(said, "unit", _UNIT, ""),
        exponent=exponent,
        device_class=fields.text(said, "device class", _NAME, ""),
    )


def encode_stream(stream: Stream) -> bytes:
    """Return {i, n, f, c: [[key, unit, exponent, device class], ...]}."""
    rows: list[Json] = [
        [row.key, row.unit, row.exponent, row.device_class or None] for row in stream.channels
    ]
    return fields.dump_object({"i": stream.number, "n": stream.name, "f": stream.format, "c": rows})


def decode_actuator(payload: bytes) -> ActuatorReport:
    """Undo `encode_actuator`; `FieldError` names the field that is wrong."""
    said = fields.load_object(payload)
    kind = fields.text(said, "t", _NAME)
    if kind not in ACTUATOR_KINDS:
        raise FieldError("t: not switch, number, button, select or text")
    minimum = maximum = None
    ends = said.get("range")
    if ends is not None:
        if not isinstance(ends, list) or len(ends) != 2:  # noqa: PLR2004  # least and greatest
            raise FieldError("range: not [least, greatest]")
        minimum, maximum = (fields.number(end, "range") for end in ends)
    state = said.get("state")
    if isinstance(state, list | dict) or (isinstance(state, str) and len(state) > _STATE):
        raise FieldError("state: not one value")
    step = None if said.get("step") is None else fields.number(said["step"], "step")
    if step is not None and step <= 0:
        raise FieldError("step: not above 0")
    key = fields.text(said, "k", _NAME)
    return ActuatorReport(
        key=key,
        name=fields.text(said, "n", _NAME, key),
        kind=kind,
        minimum=minimum,
        maximum=maximum,
        options=fields.texts(said, "options", 64, _NAME),
        state=state,
        unit=fields.text(said, "unit", _UNIT, ""),
        step=step,
        device_class=fields.text(said, "dc", _NAME, ""),
        is_light=fields.flag(said, "light"),
    )


def encode_actuator(report: ActuatorReport) -> bytes:
    """Return {k, n, t, range, unit, step, options, dc, light, state}, those that say something."""
    ends: Json = None
    if report.minimum is not None and report.maximum is not None:
        ends = [report.minimum, report.maximum]
    return fields.dump_known(
        {
            "k": report.key,
            "n": report.name,
            "t": report.kind,
            "range": ends,
            "unit": report.unit or None,
            "step": report.step,
            "options": list(report.options) or None,
            "dc": report.device_class or None,
            "light": report.is_light or None,
            "state": report.state,
        }
    )


def decode_command(payload: bytes) -> Command:
    """Undo `encode_command`; `FieldError` names the field that is wrong."""
    said = fields.load_object(payload)
    return Command(
        name=fields.text(said, "c", _NAME),
        arguments=said.get("a"),
        ttl_ms=fields.integer(said, "ttl_ms", 1, _DAY_MS),
        command_id=fields.text(said, "cid", _NAME),
    )


def encode_command(command: Command) -> bytes:
    """Return {c, a, ttl_ms, cid}."""
    return fields.dump_object(
        {
            "c": command.name,
            "a": command.arguments,
            "ttl_ms": command.ttl_ms,
            "cid": command.command_id,
        }
    )


def decode_response(payload: bytes) -> Response:
    """Undo `encode_response`; `FieldError` names the field that is wrong."""
    said = fields.load_object(payload)
    command_id = fields.text(said, "cid", _NAME)
    if "err" in said:
        return Response(command_id, error=fields.text(said, "err", _ERROR))
    if "ok" not in said:
        raise FieldError("ok: missing")
    return Response(command_id, result=said["ok"])


def encode_response(response: Response) -> bytes:
    """Return {cid, ok} or {cid, err}."""
    said: dict[str, Json] = {"cid": response.command_id}
    if response.error is None:
        said["ok"] = response.result
    else:
        said["err"] = response.error
    return fields.dump_object(said)

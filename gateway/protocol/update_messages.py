"""Payloads of updates, little endian, and in JSON where they are words."""

from struct import Struct
from typing import TypeVar

from gateway.protocol import fields
from gateway.protocol.fields import FieldError, Json
from gateway.protocol.update_values import (
    MAX_FILES,
    BoardUpdateState,
    DataStatus,
    UpdateAbort,
    UpdateBegin,
    UpdateData,
    UpdateDataAck,
    UpdateKind,
    UpdateNeed,
    UpdateState,
    Want,
)

_BEGIN = Struct("<BBI32s32s")
_MAC_SIZE = 32
_NEED = Struct("<BH")
_DATA = Struct("<HI")
_ACK = Struct("<HIB")

DATA_HEADER_SIZE = _DATA.size
"""Bytes of an UpdateData before those of the file."""

_NAME = 64
_REASON = 1024

_Word = TypeVar("_Word", UpdateKind, Want, DataStatus)


def decode_begin(payload: bytes) -> UpdateBegin:
    """Undo `encode_begin`; `FieldError` names the field that is wrong."""
    kind, flags, size, digest, mac = _BEGIN.unpack_from(payload)
    if not size:
        raise FieldError("manifest size: 0")
    return UpdateBegin(_word(UpdateKind, kind, "kind"), flags, size, digest, mac)


def encode_begin(begin: UpdateBegin) -> bytes:
    """Return kind u8, flags u8, manifest size u32, its SHA-256, mac (32 bytes)."""
    return _BEGIN.pack(begin.kind, begin.flags, begin.manifest_size, begin.manifest_hash, begin.mac)


def authenticated(begin: UpdateBegin) -> bytes:
    """Return the bytes that `mac` is of."""
    return b"update" + encode_begin(begin)[:-_MAC_SIZE]


def decode_need(payload: bytes) -> UpdateNeed:
    """Undo `encode_need`; `FieldError` names the field that is wrong."""
    number, count = _NEED.unpack_from(payload)
    want = _word(Want, number, "want")
    if count > MAX_FILES:
        raise FieldError(f"count: not in 0..{MAX_FILES}")
    size = (count + 7) // 8
    bitmap = payload[_NEED.size : _NEED.size + size]
    if len(bitmap) < size:
        raise FieldError("bitmap: too short for the count")
    bits = int.from_bytes(bitmap, "little")
    if bits >> count:
        raise FieldError("bitmap: a file beyond the count")
    return UpdateNeed(want, tuple(file for file in range(count) if bits >> file & 1), count)


def encode_need(need: UpdateNeed) -> bytes:
    """Return want u8, count u16, one bit for each file."""
    bits = sum(1 << file for file in need.files)
    return _NEED.pack(need.want, need.count) + bits.to_bytes((need.count + 7) // 8, "little")


def decode_data(payload: bytes) -> UpdateData:
    """Undo `encode_data`."""
    file, offset = _DATA.unpack_from(payload)
    return UpdateData(file, offset, payload[_DATA.size :])


def encode_data(data: UpdateData) -> bytes:
    """Return file u16, offset u32, bytes."""
    return _DATA.pack(data.file, data.offset) + data.data


def decode_data_ack(payload: bytes) -> UpdateDataAck:
    """Undo `encode_data_ack`; `FieldError` names the field that is wrong."""
    file, next_offset, status = _ACK.unpack_from(payload)
    return UpdateDataAck(file, next_offset, _word(DataStatus, status, "status"))


def encode_data_ack(ack: UpdateDataAck) -> bytes:
    """Return file u16, next_offset u32, status u8."""
    return _ACK.pack(ack.file, ack.next_offset, ack.status)


def decode_abort(payload: bytes) -> UpdateAbort:
    """Undo `encode_abort`; `FieldError` names the field that is wrong."""
    return UpdateAbort(fields.text(fields.load_object(payload), "e", _REASON))


def encode_abort(abort: UpdateAbort) -> bytes:
    """Return {e}."""
    return fields.dump_object({"e": abort.reason})


def decode_state(payload: bytes) -> UpdateState:
    """Undo `encode_state`; `FieldError` names the field that is wrong."""
    said = fields.load_object(payload)
    try:
        state = BoardUpdateState(fields.text(said, "s", _NAME))
    except ValueError:  # FieldError is one
        raise FieldError("s: not trial, confirmed or rolled_back") from None
    return UpdateState(
        state, fields.text(said, "mh", _NAME, ""), fields.text(said, "e", _REASON, "")
    )


def encode_state(state: UpdateState) -> bytes:
    """Return {s, mh, e}, those that say something."""
    said: dict[str, Json] = {
        "s": state.state.value,
        "mh": state.manifest_hash or None,
        "e": state.reason or None,
    }
    return fields.dump_known(said)


def _word(kind: type[_Word], number: int, key: str) -> _Word:
    try:
        return kind(number)
    except ValueError:
        raise FieldError(f"{key}: {number} means nothing") from None

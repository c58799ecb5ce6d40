"""Payloads of fixed layout, little endian: what is said often."""

from struct import Struct

from gateway.protocol.fields import FieldError
from gateway.protocol.message_values import U32, Ack, Bye, Log, Ping, Pong, Read, StreamRequest

READ_HEADER_SIZE = 16

_U32 = Struct("<I")
_PONG = Struct("<IIH")
_READ = Struct("<BBHIIHBB")
_ACK = Struct("<HIBB")


def decode_ping(payload: bytes) -> Ping:
    """Undo `encode_ping`."""
    (mono_ms,) = _U32.unpack_from(payload)
    if len(payload) < 2 * _U32.size:
        return Ping(mono_ms)
    return Ping(mono_ms, *_U32.unpack_from(payload, _U32.size))


def encode_ping(ping: Ping) -> bytes:
    """Return mono_ms u32 and, if it is known, next_seq u32."""
    payload = _U32.pack(ping.mono_ms)
    return payload if ping.next_seq is None else payload + _U32.pack(ping.next_seq)


def decode_pong(payload: bytes) -> Pong:
    """Undo `encode_pong`."""
    echo_ms, unix_s, unix_ms = _PONG.unpack_from(payload)
    if unix_ms > 999:  # noqa: PLR2004  # milliseconds of a second
        raise FieldError("ms: not in 0..999")
    return Pong(echo_ms, unix_s, unix_ms)


def encode_pong(pong: Pong) -> bytes:
    """Return echo u32, unix s u32, ms u16."""
    return _PONG.pack(pong.echo_ms, pong.unix_s, pong.unix_ms)


def decode_stream_request(payload: bytes) -> StreamRequest:
    """Undo `encode_stream_request`."""
    return StreamRequest(payload[0])


def encode_stream_request(request: StreamRequest) -> bytes:
    """Return stream u8."""
    return bytes((request.stream,))


def decode_read(payload: bytes) -> Read:
    """Undo `encode_read`."""
    size, flags, epoch, first_seq, now_ms, lost, count, _ = _READ.unpack_from(payload)
    if not READ_HEADER_SIZE <= size <= len(payload):
        raise FieldError("hlen: not 16 to the payload's length")
    if first_seq + count > U32:
        raise FieldError("first_seq: runs past 2**32")
    return Read(flags, epoch, first_seq, now_ms, lost, count, payload[size:])


def encode_read(read: Read) -> bytes:
    """Return the 16-byte header, then the records."""
    header = _READ.pack(
        READ_HEADER_SIZE,
        read.flags,
        read.epoch,
        read.first_seq,
        read.now_ms,
        read.lost,
        read.record_count,
        0,
    )
    return header + read.records


def decode_ack(payload: bytes) -> Ack:
    """Undo `encode_ack`."""
    epoch, next_seq, credit, flags = _ACK.unpack_from(payload)
    got_seq = None
    if len(payload) >= _ACK.size + _U32.size:
        (got_seq,) = _U32.unpack_from(payload, _ACK.size)
        if got_seq < next_seq:
            raise FieldError("got_seq: before next_seq")
    return Ack(epoch, next_seq, credit, flags, got_seq)


def encode_ack(ack: Ack) -> bytes:
    """Return epoch u16, next_seq u32, credit u8, flags u8 and, if it is known, got_seq u32."""
    payload = _ACK.pack(ack.epoch, ack.next_seq, ack.credit, ack.flags)
    return payload if ack.got_seq is None else payload + _U32.pack(ack.got_seq)


def decode_log(payload: bytes) -> Log:
    """Undo `encode_log`; what is no UTF-8 becomes U+FFFD."""
    return Log(payload[0], payload[1:].decode(errors="replace"))


def encode_log(log: Log) -> bytes:
    """Return level u8, text in UTF-8."""
    return bytes((log.level,)) + log.text.encode(errors="replace")


def decode_bye(payload: bytes) -> Bye:
    """Undo `encode_bye`."""
    return Bye(*_U32.unpack_from(payload))


def encode_bye(bye: Bye) -> bytes:
    """Return ms until the next wake, u32."""
    return _U32.pack(bye.wake_in_ms)

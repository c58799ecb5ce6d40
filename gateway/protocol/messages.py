"""Frames to messages and back, for both directions; decoding never raises."""

from collections.abc import Callable, Mapping
from struct import error as StructError  # noqa: N812  # it is an exception, whatever its name
from typing import Any

from gateway.protocol import json_messages, struct_messages, update_messages
from gateway.protocol.fields import FieldError
from gateway.protocol.frames import Frame
from gateway.protocol.message_values import (
    ALL_STREAMS,
    PROTOCOL,
    U16,
    U32,
    Ack,
    AckFlag,
    ActuatorReport,
    BadMessage,
    Bye,
    Channel,
    Command,
    FromBoard,
    FromGateway,
    Hello,
    HelloRequest,
    Log,
    Message,
    MessageType,
    Ping,
    Pong,
    Read,
    ReadFlag,
    Response,
    Stream,
    StreamRequest,
    UnknownMessage,
    Welcome,
)
from gateway.protocol.update_values import (
    UpdateAbort,
    UpdateBegin,
    UpdateData,
    UpdateDataAck,
    UpdateEnd,
    UpdateNeed,
    UpdateState,
)

__all__ = [
    "ALL_STREAMS",
    "PROTOCOL",
    "U16",
    "U32",
    "Ack",
    "AckFlag",
    "ActuatorReport",
    "BadMessage",
    "Bye",
    "Channel",
    "Command",
    "FromBoard",
    "FromGateway",
    "Hello",
    "HelloRequest",
    "Log",
    "Message",
    "MessageType",
    "Ping",
    "Pong",
    "Read",
    "ReadFlag",
    "Response",
    "Stream",
    "StreamRequest",
    "UnknownMessage",
    "UpdateAbort",
    "UpdateBegin",
    "UpdateData",
    "UpdateDataAck",
    "UpdateEnd",
    "UpdateNeed",
    "UpdateState",
    "Welcome",
    "decode",
    "encode",
]


def decode(frame: Frame) -> Message | BadMessage | UnknownMessage:
    """Return what a frame says; bytes after those a type needs are ignored, as are unknown keys."""
    decoder = _DECODERS.get(frame.type)
    if decoder is None:
        return UnknownMessage(frame.type, len(frame.payload))
    try:
        return decoder(frame.payload)
    except FieldError as exc:
        return BadMessage(frame.type, str(exc))
    except (StructError, IndexError):
        return BadMessage(frame.type, "too short")


def encode(message: Message, mid: int = 0) -> Frame:
    """Return the frame that says `message`."""
    kind, encoder = _ENCODERS[type(message)]
    return Frame(kind, mid, encoder(message))


_DECODERS: Mapping[int, Callable[[bytes], Message]] = {
    MessageType.HELLO: json_messages.decode_hello,
    MessageType.WELCOME: json_messages.decode_welcome,
    MessageType.PING: struct_messages.decode_ping,
    MessageType.PONG: struct_messages.decode_pong,
    MessageType.STREAM: json_messages.decode_stream,
    MessageType.STREAM_REQUEST: struct_messages.decode_stream_request,
    MessageType.ACTUATOR: json_messages.decode_actuator,
    MessageType.READ: struct_messages.decode_read,
    MessageType.ACK: struct_messages.decode_ack,
    MessageType.COMMAND: json_messages.decode_command,
    MessageType.RESPONSE: json_messages.decode_response,
    MessageType.LOG: struct_messages.decode_log,
    MessageType.BYE: struct_messages.decode_bye,
    MessageType.HELLO_REQUEST: lambda _payload: HelloRequest(),
    MessageType.OTA_BEGIN: update_messages.decode_begin,
    MessageType.OTA_NEED: update_messages.decode_need,
    MessageType.OTA_DATA: update_messages.decode_data,
    MessageType.OTA_DATA_ACK: update_messages.decode_data_ack,
    MessageType.OTA_END: lambda _payload: UpdateEnd(),
    MessageType.OTA_ABORT: update_messages.decode_abort,
    MessageType.OTA_STATE: update_messages.decode_state,
}

_ENCODERS: Mapping[type, tuple[MessageType, Callable[[Any], bytes]]] = {
    Hello: (MessageType.HELLO, json_messages.encode_hello),
    Welcome: (MessageType.WELCOME, json_messages.encode_welcome),
    Ping: (MessageType.PING, struct_messages.encode_ping),
    Pong: (MessageType.PONG, struct_messages.encode_pong),
    Stream: (MessageType.STREAM, json_messages.encode_stream),
    StreamRequest: (MessageType.STREAM_REQUEST, struct_messages.encode_stream_request),
    ActuatorReport: (MessageType.ACTUATOR, json_messages.encode_actuator),
    Read: (MessageType.READ, struct_messages.encode_read),
    Ack: (MessageType.ACK, struct_messages.encode_ack),
    Command: (MessageType.COMMAND, json_messages.encode_command),
    Response: (MessageType.RESPONSE, json_messages.encode_response),
    Log: (MessageType.LOG, struct_messages.encode_log),
    Bye: (MessageType.BYE, struct_messages.encode_bye),
    HelloRequest: (MessageType.HELLO_REQUEST, lambda _message: b""),
    UpdateBegin: (MessageType.OTA_BEGIN, update_messages.encode_begin),
    UpdateNeed: (MessageType.OTA_NEED, update_messages.encode_need),
    UpdateData: (MessageType.OTA_DATA, update_messages.encode_data),
    UpdateDataAck: (MessageType.OTA_DATA_ACK, update_messages.encode_data_ack),
    UpdateEnd: (MessageType.OTA_END, lambda _message: b""),
    UpdateAbort: (MessageType.OTA_ABORT, update_messages.encode_abort),
    UpdateState: (MessageType.OTA_STATE, update_messages.encode_state),
}

"""Commands to devices: topics and payloads in, what the board is to do out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, Field, model_validator

from gateway.errors import RequestError
from gateway.model import Actuator, Value
from gateway.requests.actuator_values import read_set
from gateway.requests.reading import REQUEST, printable, read_object, read_request, shown

MAX_PAYLOAD_BYTES: Final = 1024
"""Largest payload of a command: the line to a board has 256 characters."""

DEFAULT_EXPIRES_S: Final = 30.0
"""How long a command may wait for its board, unless it says so itself."""
MAX_EXPIRES_S: Final = 86_400.0

MAX_TRANSACTION: Final = 64
"""Longest name of a transaction, in characters; a UUID has 36."""

_U64 = 2**64

Transaction: TypeAlias = str | int
"""What the sender calls a command of its own, and finds in the result."""


class CommandKind(Enum):
    """Which of the three kinds of topics a command came on; the value is its last level."""

    SET = "set"
    """`<level>/set`: a JSON object of actuators and values."""
    SET_ONE = "set one"
    """`<level>/<actuator>/set`: the value as it is."""
    COMMAND = "command"
    """`<level>/command`: a JSON object that may name a transaction."""


FILTERS: Final = ("+/set", "+/+/set", "+/command")
"""What to subscribe to, below the base topic."""


@dataclass(frozen=True, slots=True)
class CommandTopic:
    """What the topic of a command says."""

    kind: CommandKind
    level: str
    """The device, by its name in topics."""
    actuator: str = ""
    """Only of SET_ONE."""


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """What a device is to do."""

    name: str
    """As boards call it: `set`, or what was called."""
    arguments: Any
    """JSON."""
    expires_s: float
    """How long it may wait for the board."""
    transaction: Transaction | None = None


class _Command(BaseModel):
    """The payload of `<level>/command`."""

    model_config = REQUEST

    transaction: (
        Annotated[str, Field(min_length=1, max_length=MAX_TRANSACTION)]
        | Annotated[int, Field(gt=-_U64, lt=_U64)]
        | None
    ) = None
    set: Annotated[dict[str, Any], Field(min_length=1)] | None = None
    call: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")] | None = None
    arguments: Any = None
    expires_s: Annotated[float, Field(gt=0, le=MAX_EXPIRES_S)] = DEFAULT_EXPIRES_S

    @model_validator(mode="after")
    def _says_one_thing(self) -> "_Command":
        if (self.set is None) is (self.call is None):
            raise ValueError('expected either "set" or "call"')
        if self.call == "set":
            raise ValueError('actuators are set with "set": {actuator: value}')
        if self.call == "rekey":
            raise ValueError("a board takes another key with `edge-gateway keys rotate` alone")
        if self.call is None and self.arguments is not None:
            raise ValueError('"arguments" belong to "call"')
        return self


def command_topic(subtopic: str) -> CommandTopic | None:
    """Return what a topic below the base says; None if it is none of a command."""
    match subtopic.split("/"):
        case [level, "set"]:
            return CommandTopic(CommandKind.SET, level)
        case [level, actuator, "set"]:
            return CommandTopic(CommandKind.SET_ONE, level, actuator)
        case [level, "command"]:
            return CommandTopic(CommandKind.COMMAND, level)
    return None


def transaction_of(kind: CommandKind, payload: bytes) -> Transaction | None:
    """Return the transaction that a payload names, however wrong the rest of it is."""
    if kind is not CommandKind.COMMAND:
        return None
    try:
        named = read_object(payload, MAX_PAYLOAD_BYTES).get("transaction")
        return read_request(_Command, {"transaction": named, "call": "x"}).transaction
    except RequestError:
        return None


def fingerprint(payload: bytes) -> str:
    """Return what tells one command from another, whatever its transaction and its time are.

    It is of the payload of `<level>/command`, of which `transaction_of` found the transaction.
    """
    fields = read_object(payload, MAX_PAYLOAD_BYTES)
    asked = {key: fields.get(key) for key in ("set", "call", "arguments")}
    return digest(json.dumps(asked, sort_keys=True).encode())


def digest(*parts: bytes) -> str:
    """Return 16 hex digits that differ for other parts."""
    return blake2b(b"\0".join(parts), digest_size=8).hexdigest()


def read_command(
    topic: CommandTopic, payload: bytes, actuators: Sequence[Actuator] | None
) -> CommandRequest:
    """Return what a message asks for.

    `actuators` are those of the board; None while nobody knows them: then the board judges.

    Raises:
        RequestError: it cannot be done as it stands.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise RequestError(f"expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
    match topic.kind:
        case CommandKind.SET_ONE:
            wanted = {topic.actuator: _plain(payload, topic.actuator, actuators)}
            return _set(wanted, actuators, DEFAULT_EXPIRES_S, None)
        case CommandKind.SET:
            wanted = _scalars(read_object(payload, MAX_PAYLOAD_BYTES))
            return _set(wanted, actuators, DEFAULT_EXPIRES_S, None)
        case CommandKind.COMMAND:
            asked = read_request(_Command, read_object(payload, MAX_PAYLOAD_BYTES))
            if asked.set is not None:
                return _set(_scalars(asked.set), actuators, asked.expires_s, asked.transaction)
            return CommandRequest(
                asked.call or "", asked.arguments, asked.expires_s, asked.transaction
            )


def _set(
    wanted: dict[str, Value],
    actuators: Sequence[Actuator] | None,
    expires_s: float,
    transaction: Transaction | None,
) -> CommandRequest:
    return CommandRequest("set", read_set(wanted, actuators), expires_s, transaction)


def _scalars(fields: dict[str, Any]) -> dict[str, Value]:
    if not fields:
        raise RequestError('expected an object such as {"pump": true}, got an empty one')
    for key, value in fields.items():
        if not isinstance(value, bool | int | float | str):
            raise RequestError(
                f"{printable(key)}: expected a number, a text, true or false, got {shown(value)}"
            )
    return fields


def _plain(payload: bytes, key: str, actuators: Sequence[Actuator] | None) -> Value:
    """Return a payload that is no JSON object; of an unknown actuator a number is a number."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise RequestError(f"{printable(key)}: expected text in UTF-8") from None
    if actuators is None:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return value if isinstance(value, int | float) and abs(value) < _U64 else text
    return text

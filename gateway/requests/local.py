"""Requests that come through the socket on this machine: all that come over MQTT, and more."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from gateway.model import MAX_SLUG
from gateway.requests.admin import REQUESTS, model_of
from gateway.requests.asking import AdminRequest
from gateway.requests.reading import REQUEST, read_object, read_request
from gateway.requests.update import LocalUpdateRequest

MAX_LINE_BYTES: Final = 1 << 20
"""Longest line to the gateway, with its newline: firmware for an update comes in one."""

_Device = Annotated[str, Field(min_length=1, max_length=MAX_SLUG)]


class KeysRequest(AdminRequest):
    """Which boards have a key here, and whether it is the one they use; no key is told."""


class KeepKeyRequest(AdminRequest):
    """Keep the key of a board; one it takes the place of stays until the board was seen with it."""

    device: _Device
    """By its key as a device: the slug of the board's id."""
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """32 bytes, as hexadecimal digits."""


class ExportKeysRequest(AdminRequest):
    """Tell keys, for another gateway."""

    devices: tuple[_Device, ...] = Field(default=(), max_length=1000, strict=False)
    """Empty for all."""


class RotateKeyRequest(AdminRequest):
    """Have a board take a new key, or go on with what was begun."""

    device: _Device


class RemoveKeyRequest(AdminRequest):
    """Forget a board's key."""

    device: _Device
    anyway: bool = False
    """Whether although the board uses it."""


class LendPortRequest(AdminRequest):
    """Leave a serial port to another program of this machine, such as `edge-gateway flash`."""

    port: Annotated[str, Field(min_length=1, max_length=4096)]
    """Any of its paths."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 300
    """The gateway takes it back after this, whatever happens."""


class ReturnPortRequest(AdminRequest):
    """Use a port again that was lent."""

    port: Annotated[str, Field(min_length=1, max_length=4096)]
    """Its name, as lend_port answered."""


LOCAL_REQUESTS: Final[Mapping[str, type[AdminRequest]]] = {
    **REQUESTS,
    "update": LocalUpdateRequest,
    "keys": KeysRequest,
    "keep_key": KeepKeyRequest,
    "export_keys": ExportKeysRequest,
    "rotate_key": RotateKeyRequest,
    "remove_key": RemoveKeyRequest,
    "lend_port": LendPortRequest,
    "return_port": ReturnPortRequest,
}
"""By verb."""


class Envelope(BaseModel):
    """A line to the socket."""

    model_config = REQUEST

    verb: Annotated[str, Field(min_length=1, max_length=64)]
    fields: dict[str, Any] = Field(default_factory=dict)
    """What the verb's request says."""
    gateway: Annotated[str, Field(max_length=MAX_SLUG)] = ""
    """Which gateway is meant; empty for whichever listens there."""


def read_envelope(line: bytes) -> Envelope:
    """Return what a line asks for, and whom.

    Raises:
        RequestError: it says nothing that could be done.
    """
    return read_request(Envelope, read_object(line, MAX_LINE_BYTES))


def read_local(envelope: Envelope) -> AdminRequest:
    """Return what is asked for.

    Raises:
        RequestError: it cannot be done as it stands: what is wrong, where, and what would do.
    """
    return read_request(model_of(envelope.verb, LOCAL_REQUESTS), envelope.fields)

"""Requests to the gateway itself: `request/<verb>` and a payload in, what is wanted out."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, ValidationInfo, field_validator

from gateway.errors import RequestError
from gateway.model import MAX_SLUG
from gateway.requests.asking import AdminRequest, Transaction
from gateway.requests.reading import printable, read_object, read_request
from gateway.requests.update import (
    UpdateAbortRequest,
    UpdateCheckRequest,
    UpdateRequest,
    UpdateStatusRequest,
)

MAX_PAYLOAD_BYTES: Final = 4096
"""Largest payload of a request: intervals of 64 streams have 3 kB."""

MAX_LISTED: Final = 200
"""Most devices in one answer: it stays below 64 KiB, as some brokers want it."""

MAX_STREAMS: Final = 64
"""As many as a board may have."""

MAX_INTERVAL_MS: Final = 86_400_000
"""A day, the longest interval that boards take."""

MAX_WINDOW_S: Final = 3600.0
"""Longest time for which devices may join."""

_Device = Annotated[str, Field(min_length=1, max_length=MAX_SLUG)]
_Interval = Annotated[int, Field(ge=1, le=MAX_INTERVAL_MS)]


class DevicesRequest(AdminRequest):
    """All devices, in the order of their keys."""

    after: Annotated[str, Field(max_length=MAX_SLUG)] = ""
    """Key of the last one that is known already."""
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = MAX_LISTED


class DeviceRequest(AdminRequest):
    """All that is known of one device."""

    device: _Device
    """By its key, or by its name in topics."""


class RenameRequest(AdminRequest):
    """Give a device another name."""

    device: _Device
    to: Annotated[str, Field(min_length=1, max_length=MAX_SLUG)]


class RemoveRequest(AdminRequest):
    """Forget a device, and all that the broker has retained of it."""

    device: _Device
    block: bool = False
    """Whether it stays away when it is heard again."""


class ReplaceRequest(AdminRequest):
    """Have a new board go on in the place of an old one."""

    device: _Device
    """The old one."""
    by: _Device


class PermitJoinRequest(AdminRequest):
    """Let Bluetooth devices join for a while."""

    seconds: Annotated[float, Field(ge=0, le=MAX_WINDOW_S)] | None = None
    """0 ends it; None for the time the configuration says."""


class OptionsRequest(AdminRequest):
    """Set how often a board reads its sensors, for good; with nothing to set, tell what is set."""

    device: _Device
    interval_ms: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=MAX_SLUG)], _Interval | None],
        Field(max_length=MAX_STREAMS),
    ] = Field(default_factory=dict)
    """By stream; None for the board's own, from its next boot on."""

    @field_validator("interval_ms")
    @classmethod
    def _name_printably(
        cls, interval_ms: dict[str, int | None], _others: ValidationInfo
    ) -> dict[str, int | None]:
        if odd := [name for name in interval_ms if not name.isprintable()]:
            raise ValueError(f"no stream is called {printable(odd[0])}")
        return interval_ms


class RestartRequest(AdminRequest):
    """Start a board again."""

    device: _Device


class ReloadRequest(AdminRequest):
    """Read the configuration again."""


class BackupRequest(AdminRequest):
    """Write what a gateway needs to begin anew elsewhere into a file."""

    credentials: bool = False
    """Whether the broker's password and our private key belong into it."""


class DiagnosticsRequest(AdminRequest):
    """Gather what somebody needs who is to find a fault."""


class HealthCheckRequest(AdminRequest):
    """Say whether all is well, and what is not."""


REQUESTS: Final[Mapping[str, type[AdminRequest]]] = {
    "devices": DevicesRequest,
    "device": DeviceRequest,
    "rename": RenameRequest,
    "remove": RemoveRequest,
    "replace": ReplaceRequest,
    "permit_join": PermitJoinRequest,
    "options": OptionsRequest,
    "restart": RestartRequest,
    "update_check": UpdateCheckRequest,
    "update": UpdateRequest,
    "update_abort": UpdateAbortRequest,
    "update_status": UpdateStatusRequest,
    "reload": ReloadRequest,
    "backup": BackupRequest,
    "diagnostics": DiagnosticsRequest,
    "health_check": HealthCheckRequest,
}
"""By verb, the last level of the topic."""


def read_admin(verb: str, payload: bytes) -> AdminRequest:
    """Return what a message asks for; nothing at all stands for an empty object.

    Raises:
        RequestError: it cannot be done as it stands: what is wrong, where, and what would do.
    """
    model = model_of(verb, REQUESTS)
    is_empty = len(payload) <= MAX_PAYLOAD_BYTES and not payload.strip()
    fields = {} if is_empty else read_object(payload, MAX_PAYLOAD_BYTES)
    return read_request(model, fields)


def model_of(verb: str, requests: Mapping[str, type[AdminRequest]]) -> type[AdminRequest]:
    """Return what the request of a verb may say.

    Raises:
        RequestError: there is no such verb.
    """
    model = requests.get(verb)
    if model is None:
        near = difflib.get_close_matches(verb[:MAX_SLUG], requests, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(requests)}"
        raise RequestError(f"unknown request `{printable(verb)}`: {hint}")
    return model


def transaction_of(payload: bytes) -> Transaction | None:
    """Return the transaction that a payload names, however wrong the rest of it is."""
    try:
        named = read_object(payload, MAX_PAYLOAD_BYTES).get("transaction")
        return read_request(AdminRequest, {"transaction": named}).transaction
    except RequestError:
        return None


def text_keys(verb: str) -> frozenset[str]:
    """Return the keys of a request that hold text: what is typed for them is taken as it is."""
    model = REQUESTS.get(verb, AdminRequest)
    return frozenset(
        name for name, field in model.model_fields.items() if field.annotation is str
    ) | {"transaction"}

"""Requests about updates: what boards could have, bring it to them, give up, how it stands."""

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from gateway.model import MAX_SLUG
from gateway.requests.asking import AdminRequest
from gateway.requests.reading import REQUEST

MAX_BOARDS: Final = 1_000
"""Named in one request."""
MAX_PARALLEL: Final = 64
PARALLEL: Final = 4
"""Boards that have an update under way at a time, unless the request says otherwise."""

MAX_BUNDLE_CHARS: Final = 1_000_000
"""Of a bundle in base64: 750,000 bytes, several times what the firmware has."""

_Device = Annotated[str, Field(min_length=1, max_length=MAX_SLUG)]


class UpdateCheckRequest(AdminRequest):
    """Which firmware boards run, and whether there is a newer one; in the order of their keys."""

    after: Annotated[str, Field(max_length=MAX_SLUG)] = ""
    """Key of the last one that is known already."""


class UpdateRequest(AdminRequest):
    """Bring boards other firmware, the gateway's own, or other settings."""

    device: Annotated[str, Field(max_length=MAX_SLUG)] = ""
    """One board, as Home Assistant asks."""
    devices: Annotated[tuple[_Device, ...], Field(max_length=MAX_BOARDS, strict=False)] = ()
    all: bool = False
    """Each board that can be updated."""
    canary: Annotated[int, Field(ge=0, le=MAX_BOARDS)] = 0
    """So many boards have to confirm it before the others get it."""
    parallel: Annotated[int, Field(ge=1, le=MAX_PARALLEL)] = PARALLEL
    downgrade: bool = False
    """Whether older firmware than a board's may replace it."""
    settings: dict[str, Any] | None = None
    """A whole config.json; firmware is left alone then."""


class LocalUpdateRequest(UpdateRequest):
    """The same on this machine, also with firmware of one's own."""

    model_config = ConfigDict(**{**REQUEST, "str_max_length": MAX_BUNDLE_CHARS})

    bundle: Annotated[str, Field(max_length=MAX_BUNDLE_CHARS)] = ""
    """A bundle's file, base64; empty for the gateway's own firmware."""


class UpdateAbortRequest(AdminRequest):
    """Give up rollouts: boards on trial decide by themselves, others stay as they are."""

    rollout: Annotated[int, Field(ge=1)] | None = None
    """Its number; None for all."""
    device: Annotated[str, Field(max_length=MAX_SLUG)] = ""
    """One board only; empty for all."""


class UpdateStatusRequest(AdminRequest):
    """How rollouts stand, the newest first."""

    rollout: Annotated[int, Field(ge=1)] | None = None
    """One, with its boards; None for all, with the boards of the newest."""

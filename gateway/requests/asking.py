"""What every request to the gateway may say."""

from typing import Annotated, TypeAlias

from pydantic import BaseModel, Field

from gateway.requests.command import MAX_TRANSACTION
from gateway.requests.reading import REQUEST

Transaction: TypeAlias = str | int | float
"""What the sender calls a request, and finds in the answer."""

_U64 = 2**64

_Transaction = (
    Annotated[str, Field(min_length=1, max_length=MAX_TRANSACTION)]
    | Annotated[int, Field(gt=-_U64, lt=_U64)]
    | Annotated[float, Field(gt=-_U64, lt=_U64)]
)


class AdminRequest(BaseModel):
    """What every request may say."""

    model_config = REQUEST

    transaction: _Transaction | None = None

    @property
    def about(self) -> tuple[str, ...]:
        """The devices it names, as it names them: `device` and `devices` of any request."""
        named = (getattr(self, "device", ""), *getattr(self, "devices", ()))
        return tuple(name for name in named if name)

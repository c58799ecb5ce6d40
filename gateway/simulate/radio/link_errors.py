"""What a virtual radio, and a link on it, fail with."""

from gateway.errors import LinkError


class AdapterMissingError(LinkError):
    """There is no such radio, or it went away."""


class LinkDownError(LinkError):
    """The link to a peripheral is down."""


class RefusedError(LinkError):
    """The peripheral answered with an error of ATT."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ATT error 0x{code:02X}")
        self.code = code

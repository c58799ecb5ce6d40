"""Ports that are lent to another program of this machine, such as `edge-gateway flash`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.errors import RequestError
from gateway.requests.local import LendPortRequest, ReturnPortRequest


class PortRequests:
    """Lends ports, and takes them back."""

    def __init__(
        self,
        lend: Callable[[str, float], Awaitable[str | None]],
        give_back: Callable[[str], bool],
    ) -> None:
        self._lend = lend
        self._give_back = give_back

    async def lend(self, request: LendPortRequest) -> Mapping[str, Any]:
        """Close a port, and leave it alone."""
        name = await self._lend(request.port, request.seconds)
        return {"port": name, "is_lent": name is not None}

    async def give_back(self, request: ReturnPortRequest) -> Mapping[str, Any]:
        """Open it again."""
        if not self._give_back(request.port):
            raise RequestError(f"{request.port} is not lent")
        return {"port": request.port}

"""What boards are asked for: other intervals, a restart."""

from collections.abc import Callable
from typing import Any, Final

from gateway.admin.intervals import Caller, Intervals, kept, sleeps
from gateway.devices.device import Device
from gateway.drivers.board import DRIVER
from gateway.errors import RequestError
from gateway.protocol.session_events import Outcome
from gateway.requests.admin import OptionsRequest, RestartRequest

BOARD_S: Final = 8.0
"""So long a board has to answer: one on a wire takes 50 ms, one on the radio waits for its turn."""

_WORDS: Final = {
    Outcome.EXPIRED: f"it was not reached within {BOARD_S:g} s",
    Outcome.UNKNOWN: f"it did not answer within {BOARD_S:g} s",
}


class BoardRequests:
    """Answers by what boards say."""

    def __init__(self, find: Callable[[str], Device], caller: Caller, intervals: Intervals) -> None:
        """`find` returns the device that is meant, or raises a RequestError."""
        self._find = find
        self._caller = caller
        self._intervals = intervals

    async def options(self, request: OptionsRequest) -> dict[str, Any]:
        """Set how often a board reads its sensors, or tell what was set."""
        device = self._find(request.device)
        told: dict[str, Any] = {"device": device.key}
        if request.interval_ms:
            end, kept_so = await self._intervals.set(device, request.interval_ms, BOARD_S)
            told["applied"] = end is not None and end.outcome is Outcome.DONE
            told["kept"] = kept_so
            if not told["applied"] and any(each for each in request.interval_ms.values()):
                why = "it is not there now" if end is None else _WORDS[end.outcome]
                told["reason"] = f"{why}; it is told when it comes the next time"
        return {**told, "interval_ms": kept(device)}

    async def restart(self, request: RestartRequest) -> dict[str, Any]:
        """Have a board start again, once it has delivered what it can."""
        device = self._find(request.device)
        if device.description.driver != DRIVER:
            raise RequestError(f"{device.key}: only boards with our firmware can be restarted")
        if sleeps(device):
            raise RequestError(f"{device.key} sleeps, and starts again each time it wakes")
        if not device.is_online:
            raise RequestError(f"{device.key} is not there now")
        end = await self._caller.call(device.key, "reset", None, BOARD_S)
        if end.outcome is not Outcome.DONE:
            raise RequestError(f"{device.key}: {end.error or _WORDS[end.outcome]}")
        return {"device": device.key}

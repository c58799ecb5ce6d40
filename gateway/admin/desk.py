"""Has requests done, whoever brought them: so many at a time, each within its own time."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gateway.errors import GatewayError, RequestError
from gateway.log_fields import DEVICE, Marked
from gateway.progress import Progress, Stage
from gateway.requests.asking import AdminRequest

_log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Requests that are being done at a time; who brings another is told `busy`."""

SOON_S: Final = 0.9
"""By then a request is answered, unless its verb says otherwise: within a second, the way to the
broker and back included."""

LATE_S: Final = 10.0
"""A request that is not over so long after it was given up stands still."""

_TOLD: Final = 3
"""Devices of one request that its line in the log names."""


@dataclass(frozen=True, slots=True)
class Verb:
    """How one kind of request is done."""

    act: Callable[[Any], Awaitable[object]]
    """Takes the request, returns what the answer's `data` is, as JSON knows it.

    It raises a GatewayError for what cannot be done, and blocks nobody.
    """
    changes_something: bool = True
    """Whether the log tells it."""
    longest_s: float = SOON_S
    """It is given up after that."""


class Place(NamedTuple):
    """Where a request is done."""

    verb: str
    act: Verb
    stage: Stage
    """Stands still if the request is not over in its time."""


class Done(NamedTuple):
    """A request was done."""

    data: object


class Undone(NamedTuple):
    """A request was not done."""

    error: str
    level: int = logging.DEBUG
    """Of its line in the log."""


class Desk:
    """Knows how each request is done, and counts those under way."""

    def __init__(self, counts: Counter[str], progress: Progress | None = None) -> None:
        """`requests` and `requests_refused` are counted in `counts`."""
        self._progress = progress or Progress()
        self._verbs: Mapping[str, Verb] | None = None
        self._counts = counts
        self._under_way = 0

    def open(self, verbs: Mapping[str, Verb]) -> None:
        """Do these from now on."""
        self._verbs = verbs

    def close(self) -> None:
        """Take no more."""
        self._verbs = None

    def begin(self, verb: str) -> Place:
        """Take a place for a request, which `do` gives back.

        Raises:
            RequestError: it cannot be done now.
        """
        if self._verbs is None:
            raise RequestError("not yet, or not any more: the gateway is starting or stopping")
        if verb not in self._verbs:
            raise RequestError(f"`{verb}` is not there in this gateway")
        if self._under_way >= AT_ONCE:
            raise RequestError(f"busy: {AT_ONCE} requests are being done; ask again")
        self._under_way += 1
        act, stage = self._verbs[verb], self._progress.stage(f"request {verb}")
        stage.works_long("", act.longest_s + LATE_S)
        return Place(verb, act, stage)

    async def do(self, place: Place, request: AdminRequest) -> Done | Undone:
        """Do what `begin` made room for."""
        verb, act, stage = place
        self._counts["requests"] += 1
        try:
            outcome = await self._try(act, verb, request)
        finally:
            self._under_way -= 1
            stage.leave()
        if isinstance(outcome, Undone):
            self.refuse(verb, outcome, request)
        else:
            level = logging.INFO if act.changes_something else logging.DEBUG
            _log.log(level, "request %s%s: done", verb, _about(request, outcome.data))
        return outcome

    def refuse(self, verb: str, undone: Undone, request: AdminRequest | None = None) -> None:
        """Note that a request is not done; `request` is what it says, if that could be read."""
        self._counts["requests_refused"] += 1
        about = "" if request is None else _about(request)
        _log.log(undone.level, "request %s%s: %s", verb[:64], about, undone.error)

    async def _try(self, act: Verb, verb: str, request: AdminRequest) -> Done | Undone:
        try:
            async with asyncio.timeout(act.longest_s):
                return Done(await act.act(request))
        except TimeoutError:
            return Undone(f"not done within {act.longest_s:g} s", logging.WARNING)
        except RequestError as exc:
            return Undone(str(exc))
        except GatewayError as exc:
            return Undone(str(exc), logging.WARNING)
        except Exception as exc:  # noqa: BLE001 - a request's border: it must not end the gateway
            _log.error("request %s%s: failed", verb, _about(request), exc_info=exc)
            return Undone("failed for a fault of the gateway: see its log")


def _about(request: AdminRequest, answer: object = None) -> str:
    """Return ` (shed)` for the log, or nothing; the answer knows whom a name stood for."""
    names = request.about
    if not names:
        return ""
    key = answer.get("device") if isinstance(answer, Mapping) else None
    keys = (key,) if isinstance(key, str) and len(names) == 1 else names
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    fields = tuple((DEVICE, each) for each in keys[:_TOLD])
    return Marked(f" ({', '.join(names[:_TOLD])}{more})", fields)

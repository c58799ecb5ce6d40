"""Tells systemd that we are ready, how it goes, and that we live, while every stage moves."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from gateway.progress import Progress, Stage
from gateway.status import Status
from gateway.systemd import FAILING, OPENING, STANDS_STILL, Notifier

_log = logging.getLogger(__name__)

BEGIN_LOOK_S: Final = 0.02
LATE_LOOK_S: Final = 1.0
"""A stage that is late is looked at again so soon: maybe the whole machine stood still."""
EARLY_S: Final = 60.0
EARLY_LOOK_S: Final = 2.0
"""For so long after the start it is told so often how things are: who tries a new version looks."""
MAX_NAMED: Final = 10
"""Stages that are named in `STATUS=`: systemd takes no message of more than 4 KB."""
_MAX_REASON: Final = 200
"""Characters of why something fails that are told."""


class Watchdog:
    """Asks all stages; `run` it in the event loop that they live in, so that it, too, is asked."""

    def __init__(self, progress: Progress, notifier: Notifier, status: Callable[[], str]) -> None:
        """`status` is how things are, in a line for people."""
        self._progress = progress
        self._notifier = notifier
        self._status = status
        self._told: set[str] = set()
        """Stages of which the log has that they stand still."""

    async def run(self) -> NoReturn:
        """Say `READY=1` once every stage has begun, and from then on that all is well, if it is."""
        while self._progress.silent():  # noqa: ASYNC110 - stages speak in a hundred places
            await asyncio.sleep(BEGIN_LOOK_S)
        self._notifier.ready(self._status())
        early_until_s = self._progress.now_s() + EARLY_S
        while True:
            late = self._progress.late()
            self._log_changes(late)
            if late:
                more = f" and {len(late) - MAX_NAMED} more" if len(late) > MAX_NAMED else ""
                named = ", ".join(map(_words, late[:MAX_NAMED]))
                self._notifier.status(f"{STANDS_STILL}: {named}{more}")
                await asyncio.sleep(min(LATE_LOOK_S, self._progress.tick_s))
            else:
                self._notifier.alive(self._status())
                is_early = self._progress.now_s() < early_until_s
                look_s = EARLY_LOOK_S if is_early else self._progress.tick_s
                await asyncio.sleep(min(look_s, self._progress.tick_s))

    @contextmanager
    def reload(self) -> Iterator[None]:
        """Tell that a reload goes on, for the length of the block; it must not take for ever."""
        self._notifier.reloading("reading the configuration again")
        try:
            with self._progress.stage("reload") as stage:
                stage.works("reading the configuration again")
                yield
        finally:
            self._notifier.ready(self._status())

    def stopping(self) -> None:
        """Tell that the gateway ends."""
        self._notifier.stopping()

    def _log_changes(self, late: list[Stage]) -> None:
        now_s = self._progress.now_s()
        for stage in late:
            if stage.name not in self._told:
                _log.error(
                    "%s stands still for %.0f s; systemd is not told any more that all is well",
                    _words(stage),
                    now_s - stage.spoke_s,
                )
        names = {stage.name for stage in late}
        for name in sorted(self._told - names):
            _log.warning("%s moves again", name)
        self._told = names


def status_line(status: Status, waiting: int) -> str:
    """Return how a gateway is, for `systemctl status`."""
    online = sum(device.online for device in status.devices.values())
    ports = sum(link.state == "open" for name, link in status.links.items() if name != "ble")
    broker = "connected" if status.broker.connected else "not connected"
    radio = "" if status.radio.state == "off" else f", radio {status.radio.state}"
    delivered = status.counts["samples_delivered"]
    line = (
        f"{online} of {len(status.devices)} devices online, {ports} links open{radio}, "
        f"broker {broker}, {delivered} samples delivered, {waiting} waiting"
    )
    return ", ".join((line, *_troubles(status)))


def _troubles(status: Status) -> Iterator[str]:
    """Yield what is not to be overlooked; an upgrade reads it, and so does the doctor."""
    if status.configuration.state == "last_good":
        yield "last good configuration in force"
    for name, state, error in (
        ("outbox", status.store.state, status.store.error),
        ("state database", status.state.state, status.state.error),
    ):
        if state == "opening":
            yield f"{name} {OPENING}"
        elif state == "failing":
            yield f"{name} {FAILING}: {error[:_MAX_REASON]}"


def _words(stage: Stage) -> str:
    return f"{stage.name} ({stage.doing})" if stage.doing else stage.name

"""What systemd is told: sd_notify(3) in a few lines, as it needs no more than a datagram.

Outside a service, and where WatchdogSec is not set, nothing happens. Sources: sd_notify(3),
sd_watchdog_enabled(3), systemd.service(5).
"""

import os
import re
import socket
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

STANDS_STILL: Final = "stands still"
OPENING: Final = "being opened"
FAILING: Final = "failing"
"""Words of `STATUS=` by which others know how a gateway is."""

_MAX_UNSENT: Final = 16


class Notifier:
    """Tells systemd how the service is; never blocks, and never fails.

    What must not be lost (`READY=1` and the like) goes out with the next message if systemd's queue
    is full; what is said again anyway is dropped.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        self._unsent: deque[str] = deque(maxlen=_MAX_UNSENT)
        self.watchdog_s = _watchdog_s(environment)
        """Within it systemd wants to hear that all is well; None if it does not."""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is over."""
        self._tell(f"READY=1\nSTATUS={_line(status)}", is_precious=True)

    def reloading(self, status: str) -> None:
        """Say that a reload begins; `ready` ends it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        text = f"RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS={_line(status)}"
        self._tell(text, is_precious=True)

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._tell("STOPPING=1\nSTATUS=stopping", is_precious=True)

    def alive(self, status: str) -> None:
        """Say that all is well."""
        self._tell(f"WATCHDOG=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say how it is, without saying that all is well."""
        self._tell(f"STATUS={_line(status)}")

    def close(self) -> None:
        """Say no more."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._address = None, b""

    def _tell(self, text: str, *, is_precious: bool = False) -> None:
        if not self._address:
            return
        if is_precious:
            self._unsent.append(text)
        with suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            while self._unsent:
                self._socket.sendto(self._unsent[0].encode(), self._address)
                self._unsent.popleft()
            if not is_precious:
                self._socket.sendto(text.encode(), self._address)


def failures_in(status: str) -> str:
    """Return what fails, by a status that the gateway gave; empty if nothing does."""
    found = re.search(rf"(?:^|, )([a-z ]+ {FAILING}: .*)", status)
    return found[1] if found else ""


def is_opening(status: str) -> bool:
    """Tell whether a file is still being opened, by a status that the gateway gave."""
    return f" {OPENING}" in status


def _address(name: str) -> bytes:
    """Return where to send; nothing for what is no Unix socket."""
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return os.fsencode(name) if name.startswith("/") else b""


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    pid, period_us = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if (pid and pid != str(os.getpid())) or not period_us.isdecimal() or not int(period_us):
        return None
    return int(period_us) / 1e6


def _line(text: str) -> str:
    return " ".join(text.split())

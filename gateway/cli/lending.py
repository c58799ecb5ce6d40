"""A port that the running gateway lends for as long as this program needs it, and lives."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from gateway.cli import control
from gateway.config.models import Settings
from gateway.errors import GatewayError, LinkError, NotRunningError

LEND_S: Final = 60.0
"""The gateway takes the port back after this, if this program is killed."""

RENEW_S: Final = 10.0
"""So often the gateway is told that the port is still needed."""

_STEP_S: Final = 0.2


@contextmanager
def borrowed(
    settings: Settings,
    port: str,
    say: Callable[[str], None],
    patience_s: float = 0.0,
    renew_s: float = RENEW_S,
) -> Iterator[None]:
    """Have the running gateway, if there is one, leave the port alone for the block.

    Args:
        settings: the gateway's.
        port: any of its paths.
        say: is told what people should know.
        patience_s: the gateway may come to know the port only so much later.
        renew_s: time from one request for the port to the next.
    """
    loan = Loan(settings, port, say, patience_s, renew_s)
    loan.start()
    try:
        loan.wait()
        yield
    finally:
        loan.end()


class Loan:
    """A thread that asks for the port, again and again, and gives it back at the end.

    So Ctrl-C, at whichever moment it comes, leaves no port lent that nobody knows of.
    """

    def __init__(
        self,
        settings: Settings,
        port: str,
        say: Callable[[str], None],
        patience_s: float,
        renew_s: float,
    ) -> None:
        self._settings = settings
        self._port = port
        self._say = say
        self._patience_s = patience_s
        self._renew_s = renew_s
        self._is_answered = threading.Event()
        self._is_over = threading.Event()
        self._error: GatewayError | None = None
        self._thread = threading.Thread(target=self._run, name="lent port", daemon=True)

    def start(self) -> None:
        """Ask for it."""
        self._thread.start()

    def wait(self) -> None:
        """Return once it is lent, or nobody has it.

        Raises:
            GatewayError: whoever has it does not lend it.
        """
        self._is_answered.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Give it back."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        name = None
        try:
            name = self._borrow()
        except GatewayError as exc:
            self._error = exc
        finally:
            self._is_answered.set()
        if name is None:
            return
        while not self._is_over.wait(self._renew_s):
            with suppress(GatewayError):  # it may be starting again
                _lend(self._settings, name)
        with suppress(GatewayError):  # it takes it back by itself
            control.ask(self._settings, "return_port", {"port": name})

    def _borrow(self) -> str | None:
        """Return the port's name at the gateway; None where nobody has it."""
        deadline_s = time.monotonic() + self._patience_s
        while True:
            try:
                name = _lend(self._settings, self._port)
            except NotRunningError:
                return None
            except LinkError as exc:  # another user's; it may not have this port at all
                self._say(str(exc))
                return None
            if name is not None:
                self._say(f"the running gateway lends {name}")
                return name
            if self._is_over.wait(_STEP_S) or time.monotonic() > deadline_s:
                return None  # it looks for new ports once a second


def _lend(settings: Settings, port: str) -> str | None:
    name: str | None = control.ask(settings, "lend_port", {"port": port, "seconds": LEND_S})["port"]
    return name

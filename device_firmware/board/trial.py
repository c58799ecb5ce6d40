# A trial of new firmware or settings: it proves itself by a gateway that takes its readings, for a
# while. Anything else, and the board goes back to what it was.

import asyncio

from board import clock, log
from board.parts import borrow

try:
    from boot_settings import ALIVE_MS, GATEWAY_MS
except ImportError:
    ALIVE_MS = 60000  # it must have run for so long
    GATEWAY_MS = 600000  # and not longer without having proven itself

_LOOK_MS = 200
_TELLS = 3  # nobody acknowledges what is told
_TELL_MS = 2000


class Trial:
    def __init__(self, app):
        self._app = app
        self._first = app.ring.next_seq()  # readings before this one were made by others
        self._began_ms = clock.now_ms()
        self._was_up = False
        self._is_quiet = borrow("slots").load().get("q")  # no sensor worked before either

    async def run(self):
        app = self._app
        while not self._has_proven():
            if clock.since_ms(self._began_ms) > GATEWAY_MS:
                what = "took a reading" if self._was_up else "answered"
                reason = "no gateway %s in %d s" % (what, GATEWAY_MS // 1000)
                borrow("verdict").fail(reason)
                app.ending = "reset"
                return
            await asyncio.sleep_ms(_LOOK_MS)
        manifest = borrow("verdict").confirm(app)
        app.trial = None
        log.write(log.INFO, "the trial is over: this is in force now")
        for _ in range(_TELLS):
            borrow("verdict").tell(app, s="confirmed", mh=manifest)
            await asyncio.sleep_ms(_TELL_MS)

    def _has_proven(self):
        app = self._app
        for port in app.ports:
            self._was_up = self._was_up or port.session.up
        if not self._was_up or clock.since_ms(self._began_ms) < ALIVE_MS:
            return False
        return not app.sensors or self._is_quiet or (app.ring.safe or 0) > self._first

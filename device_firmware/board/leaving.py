# The end of a run on command, or to sleep. Whoever asked gets the answer, and the gateway what was
# measured, if it takes it soon: where nothing outlives a reset, the next ring is empty. Returns
# "reset", or for how many ms to sleep.

import asyncio

from board import clock
from micropython import const

_DRAIN_MS = const(3000)  # longest time to deliver what is in the ring
_FLUSH_MS = const(200)  # for the last lines to leave the buffers of a UART or of USB
_BACK_MS = const(4000)  # until a board that was reset says HELLO
_STEP_MS = const(10)


async def leave(app):
    for sensor in app.sensors:
        app.supervisor.watches.remove(sensor.watch)  # nobody waits for it any more
        sensor.watch.was_overdue = False  # else the sensor would take this for a reading given up
        sensor.watch.task.cancel()
    back_ms = 0
    if app.ending == "sleep":  # it has waited long enough
        back_ms = app.extra.left_ms()
    else:
        await _tick(app, _DRAIN_MS, lambda: app.ring.count == 0)
        if app.ending == "reset":
            back_ms = _BACK_MS
    is_heard = False
    _leave(app, True)
    for port in app.ports:
        is_heard = is_heard or port.session.joined
        port.session.bye(back_ms)
    if is_heard:
        await _tick(app, _FLUSH_MS, lambda: False)
    _leave(app, False)
    app.ring.tick()
    if app.ending == "repl":
        with open("repl", "w"):  # main.py finds it
            pass
    return app.extra.left_ms() if app.ending == "sleep" else "reset"


def _leave(app, kept):
    for port in app.ports:
        if hasattr(port.link, "leave"):
            port.link.leave(kept)


async def _tick(app, limit_ms, is_done):
    start_ms = clock.now_ms()
    while not is_done() and clock.since_ms(start_ms) < limit_ms:
        app.tick()
        await asyncio.sleep_ms(_STEP_MS)

# The end of a run on command. Whoever asked gets the answer, and the gateway what was measured, if
# it takes it soon: the next epoch begins with an empty ring.

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
    await _tick(app, _DRAIN_MS, lambda: app.ring.count == 0)
    for port in app.ports:
        port.session.bye(_BACK_MS if app.ending == "reset" else 0)
    await _tick(app, _FLUSH_MS, lambda: False)
    if app.ending == "repl":
        with open("repl", "w"):  # main.py finds it
            pass


async def _tick(app, limit_ms, is_done):
    start_ms = clock.now_ms()
    while not is_done() and clock.since_ms(start_ms) < limit_ms:
        app.tick()
        await asyncio.sleep_ms(_STEP_MS)

# A board that sleeps between its readings: it wakes, reads each sensor once, tells all who listen,
# is there for a gateway for a moment, and sleeps again. What is not fetched stays in the memory
# that outlives sleep (kept.py), or goes into flash.

from board import clock
from board.broadcast import has_read
from micropython import const

_READ_MS = const(20000)  # longest wait for the sensors
_QUIET_MS = const(700)  # so long a gateway has time for another command
_LONGEST_MS = const(30000)  # of a gateway's visit
_LEAST_MS = const(1000)  # of sleep


class Sleep:
    # broadcast: what it says to all meanwhile, or None
    def __init__(self, app, interval_s, awake_s, broadcast):
        self._broadcast = broadcast
        self._interval_ms = interval_s * 1000
        self._awake_ms = awake_s * 1000
        self._began_ms = clock.now_ms()
        self._ready_ms = None  # since when all is measured
        self._busy_ms = 0  # when there was something to do for a gateway
        self._seen = None
        for sensor in app.sensors:  # each is read at once, and once
            sensor.phase_ms = 1
            sensor.interval_ms = 2 * self._interval_ms + _READ_MS

    # To be called often; ends the run once there is nothing more to do.
    def tick(self, app):
        if self._broadcast:
            self._broadcast.tick(app)
        if app.ending or app.trial or app.update:  # a trial has to show that it lives
            return
        if self._ready_ms is None:
            is_late = clock.since_ms(self._began_ms) > _READ_MS
            if not is_late and not all(has_read(each) or each.failures for each in app.sensors):
                return
            self._ready_ms = clock.now_ms()
        ready_ms = clock.since_ms(self._ready_ms)
        sessions = [port.session for port in app.ports]
        if any(session.joined for session in sessions) and ready_ms < _LONGEST_MS:
            last = app.answers[-1][0] if app.answers else None
            seen = app.ring.count, last, sum(session.frames_sent for session in sessions)
            if app.ring.count or app.past or seen != self._seen:
                self._seen = seen
                self._busy_ms = clock.now_ms()
            if clock.since_ms(self._busy_ms) < _QUIET_MS:
                return
        elif ready_ms < self._awake_ms:
            return
        app.ending = "sleep"

    # How long it sleeps now, to wake in its rhythm.
    def left_ms(self):
        return max(_LEAST_MS, self._interval_ms - clock.since_ms(self._began_ms))

# Watches the tasks and feeds the watchdog: only while every task has reported in time.
# What is stuck ends in a reset.

import gc

from board import clock, log
from micropython import const

_LOW_MEMORY = const(8192)  # bytes: below, garbage is collected before an allocation needs it
_FEED_MS = const(500)


# One task's promise to report within so many ms.
class Watch:
    def __init__(self, name, within_ms, task):
        self.name = name
        self.within_ms = within_ms
        self.was_overdue = False
        self.task = task
        self._since_ms = clock.now_ms()

    def report(self, within_ms):
        self.within_ms = within_ms
        self.was_overdue = False
        self._since_ms = clock.now_ms()

    # True if the watchdog may be fed. A task that is overdue is cancelled once, and has as much
    # time again to catch that and go on.
    def is_well(self):
        if clock.since_ms(self._since_ms) <= self.within_ms:
            return True
        if self.was_overdue:
            return False
        self.was_overdue = True
        self._since_ms = clock.now_ms()
        log.write(log.ERROR, self.name + " is stuck")
        self.task.cancel()
        return True


class Supervisor:
    # watchdog: a machine.WDT, or None
    def __init__(self, watchdog):
        self.watches = []
        self._watchdog = watchdog
        self._fed_ms = self._seen_ms = clock.now_ms()
        self._stall_ms = 0

    def watch(self, name, within_ms, task):
        watch = Watch(name, within_ms, task)
        self.watches.append(watch)
        return watch

    # To be called often, by the loop whose own life is at stake: it alone feeds the watchdog.
    # Returns True now and then, when there is time for what need not be done often.
    def check(self):
        now_ms = clock.now_ms()
        self._stall_ms = (now_ms - self._seen_ms) & 0xFFFFFFFF
        self._seen_ms = now_ms
        if (now_ms - self._fed_ms) & 0xFFFFFFFF < _FEED_MS:
            return False
        self._fed_ms = now_ms
        if gc.mem_free() < _LOW_MEMORY:
            gc.collect()
        well = True
        for watch in self.watches:
            well = watch.is_well() and well
        if well:
            self.feed()
        return True

    # Once for each piece of something that has an end, and may take longer than the watchdog waits.
    def feed(self):
        if self._watchdog:
            self._watchdog.feed()

    # How long a line may have lain unread: while a driver or the host's USB holds up the loop,
    # nothing is read.
    def stalled_ms(self):
        return max(self._stall_ms, clock.since_ms(self._seen_ms))

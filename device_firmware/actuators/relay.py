# A relay: an output that is off when the link is lost, and is not switched too often.
#
# config: as actuators/output.py, but "safe" is false unless given; "min_interval_ms": a command
# that comes sooner after the last change is refused (0). Link loss switches at once all the same.

import time

from actuators import output


class Actuator(output.Actuator):
    def __init__(self, config):
        config = dict(config)
        config.setdefault("safe", False)
        super().__init__(config)
        self._min_interval_ms = config.get("min_interval_ms", 0)
        self._changed_ms = None

    def set(self, value):
        state = output.as_switch(self.key, value)
        if state != self.state and self._changed_ms is not None:
            since_ms = time.ticks_diff(time.ticks_ms(), self._changed_ms)
            # A negative age: ticks have wrapped since.
            if 0 <= since_ms < self._min_interval_ms:
                raise ValueError(
                    "%s was switched %d ms ago, it needs %d ms"
                    % (self.key, since_ms, self._min_interval_ms)
                )
        self._write(state)

    def _write(self, state):
        if state != self.state:
            self._changed_ms = time.ticks_ms()
        super()._write(state)

# A button: its output is on for a moment, and off again. A door opener, a bell, a reset line.
#
# config: {"name": "opener", "pin": 5}; "title" for people; "ms": how long (500); "active_low";
# "device_class": Home Assistant's (restart, identify). Link loss ends a pulse at once; one that
# is asked for while the last one lasts begins it anew.

import asyncio

_LOW_MS = 1
_HIGH_MS = 60000


class Actuator:
    kind = "button"
    state = None  # a button has none

    def __init__(self, config):
        from machine import Pin

        self.key = config["name"]
        self._title = config.get("title", self.key)
        self._class = config.get("device_class", "")
        self._active_low = bool(config.get("active_low", False))
        self._ms = config.get("ms", 500)
        if not isinstance(self._ms, int) or not _LOW_MS <= self._ms <= _HIGH_MS:
            raise ValueError("%s: ms must be from %d to %d" % (self.key, _LOW_MS, _HIGH_MS))
        self._task = None
        self._pin = Pin(config["pin"], Pin.OUT, value=self._active_low)

    def describe(self):
        said = {"k": self.key, "n": self._title, "t": self.kind}
        if self._class:
            said["dc"] = self._class
        return said

    def set(self, value):
        if value is not True and not (isinstance(value, str) and value.lower() == "press"):
            raise ValueError("%s: a button takes true or PRESS" % self.key)
        self.safe()
        self._pin.value(not self._active_low)
        self._task = asyncio.create_task(self._end())

    def safe(self):
        if self._task:
            self._task.cancel()
            self._task = None
        self._pin.value(self._active_low)

    async def _end(self):
        await asyncio.sleep_ms(self._ms)
        self._task = None
        self._pin.value(self._active_low)

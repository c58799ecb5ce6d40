# A digital output: an LED, a valve, a transistor.
#
# config: {"name": "led", "pin": 2}; "title" for people; "active_low"; "start": state at boot (the
# safe one, or off); "safe": state when the link is lost (true, false, or null: as it is);
# "device_class": Home Assistant's (outlet, switch).


def as_switch(name, value):
    if isinstance(value, str):
        value = {"on": True, "true": True, "off": False, "false": False}.get(value.lower(), value)
    if value is not True and value is not False and value not in (0, 1):
        raise ValueError("%s: %r is neither on nor off" % (name, value))
    return bool(value)


class Actuator:
    kind = "switch"

    def __init__(self, config):
        from machine import Pin

        self.key = config["name"]
        self._title = config.get("title", self.key)
        self._class = config.get("device_class")
        self._active_low = bool(config.get("active_low", False))
        self._safe = config.get("safe")
        if self._safe not in (True, False, None):
            raise ValueError("%s: safe must be true, false or null" % self.key)
        self.state = as_switch(self.key, config.get("start", self._safe or False))
        # The level is given with the mode: no pulse at boot.
        self._pin = Pin(config["pin"], Pin.OUT, value=self.state != self._active_low)

    def describe(self):
        said = {"k": self.key, "n": self._title, "t": self.kind, "state": self.state}
        if self._class:
            said["dc"] = self._class
        return said

    def set(self, value):
        self._write(as_switch(self.key, value))

    def safe(self):
        if self._safe is not None:
            self._write(self._safe)

    def _write(self, state):
        self._pin.value(state != self._active_low)
        self.state = state

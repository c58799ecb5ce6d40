# One of several outputs: a fan's speeds, a valve's ways, the lamps of a signal.
#
# config: {"name": "speed", "options": [["off", null], ["low", 4], ["high", 5]]}: a name and the pin
# that is on then, null for none; at least two; "title" for people; "active_low"; "start": at boot
# (the safe one, or the first); "safe": when the link is lost (null: as it is). What was on goes
# off before the next goes on.


class Actuator:
    kind = "select"

    def __init__(self, config):
        from machine import Pin

        self.key = config["name"]
        self._title = config.get("title", self.key)
        self._active_low = bool(config.get("active_low", False))
        self._names = []
        self._pins = []
        options = config["options"]
        if not isinstance(options, list) or len(options) < 2:
            raise ValueError("%s: options must be a list of at least two" % self.key)
        for name, pin in options:
            if not isinstance(name, str) or not name or name in self._names:
                raise ValueError("%s: %r is no name of its own" % (self.key, name))
            self._names.append(name)
            output = None if pin is None else Pin(pin, Pin.OUT, value=self._active_low)
            self._pins.append(output)
        self._safe = config.get("safe")
        if self._safe is not None:
            self._number(self._safe)
        self.state = None
        self.set(config.get("start", self._safe or self._names[0]))

    def describe(self):
        return {
            "k": self.key,
            "n": self._title,
            "t": self.kind,
            "options": self._names,
            "state": self.state,
        }

    def set(self, value):
        chosen = self._number(value)
        for number, pin in enumerate(self._pins):
            if pin and number != chosen:
                pin.value(self._active_low)
        if self._pins[chosen]:
            self._pins[chosen].value(not self._active_low)
        self.state = value

    def safe(self):
        if self._safe is not None:
            self.set(self._safe)

    def _number(self, value):
        if value not in self._names:
            raise ValueError("%s: %r is none of %s" % (self.key, value, ", ".join(self._names)))
        return self._names.index(value)

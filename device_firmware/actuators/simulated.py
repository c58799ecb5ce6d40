# An actuator without hardware, of any kind, for trying out: it remembers what it was set to.
#
# config: {"name": "lamp", "type": "light"}; "type": switch (default), number, light, select, text,
# button; "title" for people; "range" [0, 100], "step", "unit", "device_class" of a number;
# "options" of a select; "start"; "safe" when the link is lost (null: as it is); "fail_every": 5
# refuses each fifth command.

_TYPES = {
    "switch": ("switch", False),
    "number": ("number", 0),
    "light": ("number", 0),
    "select": ("select", None),
    "text": ("text", ""),
    "button": ("button", None),
}


class Actuator:
    def __init__(self, config):
        self.key = config["name"]
        self._type = config.get("type", "switch")
        if self._type not in _TYPES:
            raise ValueError("%s: type %s is none of the known" % (self.key, self._type))
        self.kind, start = _TYPES[self._type]
        self._said = {"k": self.key, "n": config.get("title", self.key), "t": self.kind}
        self._range = None
        if self.kind == "number":
            self._range = config.get("range", [0, 100])
            self._said["range"] = self._range
            start = self._range[0]
            for key, name in (("unit", "unit"), ("step", "step"), ("dc", "device_class")):
                if name in config:
                    self._said[key] = config[name]
            if self._type == "light":
                self._said["unit"] = "%"
                self._said["light"] = True
        if self.kind == "select":
            self._said["options"] = config.get("options", ["off", "on"])
            start = self._said["options"][0]
        self._safe = config.get("safe")
        self._fail_every = config.get("fail_every", 0)
        self._calls = 0
        self.state = None
        if self.kind != "button":
            self.state = self._checked(config.get("start", start))

    def describe(self):
        said = dict(self._said)
        if self.kind != "button":
            said["state"] = self.state
        return said

    def set(self, value):
        self._calls += 1
        if self._fail_every and self._calls % self._fail_every == 0:
            raise ValueError("%s: refused, as configured" % self.key)
        value = self._checked(value)
        if self.kind != "button":
            self.state = value

    def safe(self):
        if self._safe is not None:
            self.state = self._checked(self._safe)

    def _checked(self, value):
        kind = self.kind
        if kind == "number":
            if self._type == "light":
                word = str(value).lower()
                value = {"on": 100, "true": 100, "off": 0, "false": 0}.get(word, value)
            try:
                number = float("nan" if isinstance(value, bool) else value)
            except (TypeError, ValueError):
                number = float("nan")
            low, high = self._range
            if not low <= number <= high:  # NaN is in no range
                raise ValueError("%s: not a number from %s to %s" % (self.key, low, high))
            return int(number) if number == int(number) else number
        if kind == "select" and value not in self._said["options"]:
            raise ValueError("%s: %r is no option" % (self.key, value))
        if kind == "text" and not isinstance(value, str):
            raise ValueError("%s: not a text" % self.key)
        if kind == "switch":
            from actuators.output import as_switch

            value = as_switch(self.key, value)
        return value

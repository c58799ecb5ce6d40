# A dimmed output, 0 to 100 %: lamps, fans, heaters.
#
# config: {"name": "fan", "pin": 4}; "title" for people; "freq": 1000 Hz; "start": at boot (0);
# "safe": percentage when the link is lost (null: as it is); "active_low"; "light": true for a lamp,
# which is then one in Home Assistant, and also takes on (as bright as it last was) and off.


class Actuator:
    kind = "number"

    def __init__(self, config):
        from machine import PWM, Pin

        self.key = config["name"]
        self._title = config.get("title", self.key)
        self._active_low = bool(config.get("active_low", False))
        self._light = bool(config.get("light", False))
        safe = config.get("safe")
        self._safe = None if safe is None else self._percent(safe)
        self.state = self._percent(config.get("start", self._safe or 0))
        self._bright = self.state or 100
        self._pwm = PWM(
            Pin(config["pin"]), freq=config.get("freq", 1000), duty_u16=self._duty(self.state)
        )

    def describe(self):
        said = {
            "k": self.key,
            "n": self._title,
            "t": self.kind,
            "range": [0, 100],
            "unit": "%",
            "state": self.state,
        }
        if self._light:
            said["light"] = True
        return said

    def set(self, value):
        if self._light:
            word = str(value).lower()
            if word in ("on", "true"):
                value = self.state or self._bright
            elif word in ("off", "false"):
                value = 0
        self._write(self._percent(value))

    def safe(self):
        if self._safe is not None:
            self._write(self._safe)

    def _write(self, percent):
        self._pwm.duty_u16(self._duty(percent))
        self.state = percent
        self._bright = percent or self._bright

    def _percent(self, value):
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                value = -1
        # A bool is an int, and NaN is in no range.
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= 100:
            raise ValueError("%s: not a number from 0 to 100" % self.key)
        return int(value) if value == int(value) else value

    def _duty(self, percent):
        duty = int(percent * 65535 / 100 + 0.5)
        return 65535 - duty if self._active_low else duty

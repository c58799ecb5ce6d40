# A text that is sent on a UART as a line: a display, a printer, another controller.
#
# config: {"name": "display", "id": 1, "tx": 17, "rx": 16}, each pin the port's own if it is left
# out; "title" for people; "baudrate": 9600; "longest": 64 characters, at most 200; "start": text at
# boot; "safe": text when the link is lost (null: as it is). A UART that is a link takes no text.


class Actuator:
    kind = "text"

    def __init__(self, config):
        from machine import UART

        self.key = config["name"]
        self._title = config.get("title", self.key)
        self._longest = config.get("longest", 64)
        if not isinstance(self._longest, int) or not 1 <= self._longest <= 200:
            raise ValueError("%s: longest must be from 1 to 200" % self.key)
        self._safe = config.get("safe")
        if self._safe is not None:
            self._checked(self._safe)
        self.state = ""
        start = self._checked(config.get("start", ""))
        pins = {pin: config[pin] for pin in ("tx", "rx") if pin in config}
        self._uart = UART(config["id"], baudrate=config.get("baudrate", 9600), txbuf=1024, **pins)
        if start:
            self.set(start)

    def describe(self):
        return {
            "k": self.key,
            "n": self._title,
            "t": self.kind,
            "range": [0, self._longest],
            "state": self.state,
        }

    def set(self, value):
        line = self._checked(value).encode() + b"\n"
        if self._uart.write(line) != len(line):
            raise ValueError("%s: the line takes nothing more" % self.key)
        self.state = value

    def safe(self):
        if self._safe is not None:
            self.set(self._safe)

    def _checked(self, value):
        if not isinstance(value, str) or len(value) > self._longest:
            raise ValueError("%s: not a text of at most %d characters" % (self.key, self._longest))
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise ValueError("%s: a line has no control characters" % self.key)
        return value

# machine.Counter of the ESP32 from MicroPython 1.26; the RP2 has none.
# Modelled: edges of its pin, and the "pulses" a second of fakes.json. Not modelled: the filter,
# cycles, interrupts. `wrap` and `start` let tests begin near its end.

from fakes import chip, pins, settings

if chip.family() != "rp2":

    class Counter:
        RISING, FALLING = 1, 2
        UP, DOWN = 1, 2
        wrap = 1 << 32
        start = 0

        def __init__(self, id, src=None, *, edge=RISING, direction=UP, filter_ns=0):
            self._line = pins.line(src.number)
            self._rising = edge == Counter.RISING
            self._since_s = settings.elapsed_s()
            self._offset = Counter.start - self._line.edges[self._rising]

        def value(self, value=None):
            self._line.settle()
            rate = settings.told("pulses", self._line.number, default=0)
            pulses = int((settings.elapsed_s() - self._since_s) * rate)
            now = (self._line.edges[self._rising] + self._offset + pulses) % Counter.wrap
            if value is not None:
                self._offset += value - now
            return now

        def deinit(self):
            pass

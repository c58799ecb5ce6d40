# ADC, PWM and the pulse counter.
# Modelled: 12 bits at 3.3 V, the ESP32's whole millivolts of read_uv, duty and frequency of a PWM,
# a counter that counts the edges of its pin and the `pulses` a second of fakes.json.
# Not modelled: noise, the ESP32's non-linear ends, attenuation (any is taken), PWM as pin levels.

from fakes import pins, settings

_REFERENCE_UV = 3300000


class ADC:
    def __init__(self, pin, *, atten=None, sample_ns=None):
        self._number = pin.number if isinstance(pin, pins.Pin) else pin

    def _microvolts(self):
        default = {"sine": [1000000, 1200000]}
        if settings.family() == "rp2" and self._number == 4:
            default = 706000 - (settings.value_of(chip_temperature()) - 27) * 1721
        wave = settings.told("adc", self._number, default=default)
        return min(max(int(settings.value_of(wave)), 0), _REFERENCE_UV)

    def read_u16(self):
        raw = min(self._microvolts() * 4096 // _REFERENCE_UV, 4095)
        return raw << 4 | raw >> 8


class Esp32ADC(ADC):
    ATTN_0DB, ATTN_2_5DB, ATTN_6DB, ATTN_11DB = 0, 1, 2, 3

    def atten(self, atten):
        pass

    def read_uv(self):
        return self._microvolts() // 1000 * 1000


def chip_temperature():
    return settings.told("chip_temperature", default={"sine": [38, 42]})


class PWM:
    def __init__(self, pin, *, freq=1000, duty_u16=0, invert=False):
        self._number = pin.number
        self._freq = freq
        self._duty = -1
        self.duty_u16(duty_u16)

    def freq(self, freq=None):
        if freq is None:
            return self._freq
        self._freq = freq
        return None

    def duty_u16(self, duty=None):
        if duty is None:
            return self._duty
        if not 0 <= duty <= 65535:
            raise ValueError("duty_u16 must be from 0 to 65535")
        if duty != self._duty:
            self._duty = duty
            pins.note(self._number, "duty_u16", duty)
        return None

    def deinit(self):
        self.duty_u16(0)


# machine.Counter of the ESP32 from MicroPython 1.26; `wrap` lets tests start near its end.
class Counter:
    RISING, FALLING = 1, 2
    UP, DOWN = 1, 2
    wrap = 1 << 32
    start = 0

    def __init__(self, id, src=None, *, edge=RISING, direction=UP, filter_ns=0):
        self._line = pins.line(src.number)
        self._rising = edge == Counter.RISING
        self._since_s = settings.elapsed_s()
        self._base = self._line.edges[self._rising]
        self._offset = Counter.start

    def value(self, value=None):
        self._line.settle()
        now = self._line.edges[self._rising] - self._base + self._offset
        rate = settings.told("pulses", self._line.number, default=0)
        now += int((settings.elapsed_s() - self._since_s) * rate)
        now %= Counter.wrap
        if value is not None:
            self._offset += value - now
        return now

    def deinit(self):
        pass

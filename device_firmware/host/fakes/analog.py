# ADC and PWM.
# Modelled: 12 bits at 3.3 V, the ESP32's whole millivolts of read_uv, duty and frequency of a PWM.
# Not modelled: noise, the ESP32's non-linear ends, attenuation (any is taken), PWM as pin levels.

from fakes import chip, pins, settings
from micropython import const

_REFERENCE_UV = const(3300000)


class ADC:
    def __init__(self, pin, *, atten=None, sample_ns=None):
        self._number = pin.number if isinstance(pin, pins.Pin) else pin

    def _microvolts(self):
        default = {"sine": [1000000, 1200000]}
        if chip.family() == "rp2" and self._number == 4:
            default = 706000 - (settings.value_of(chip_temperature()) - 27) * 1721
        wave = settings.told("adc", self._number, default=default)
        return min(max(int(settings.value_of(wave)), 0), _REFERENCE_UV)

    def read_u16(self):
        raw = min(self._microvolts() * 4096 // _REFERENCE_UV, 4095)
        return raw << 4 | raw >> 8

    # The RP2's ADC knows neither.
    if chip.family() != "rp2":
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

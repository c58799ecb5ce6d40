# Made-up values, for demonstrations and tests; the same seed gives the same values on every port.
#
# config: {"seed": 1, "interval_ms": 500, "fail_every": 0, "channels": [{"key": "temperature",
# "unit": "°C", "device_class": "temperature", "exponent": -2, "waveform": "sine", "low": 18,
# "high": 26, "period_s": 60, "noise": 0.1}, ...]}; with one channel, its keys may stand in config.
# Waveforms: "sine" and "ramp" (low, high, period_s), "random_walk" (low, high, step), "constant"
# (value), "counter" (one more at each reading). "fail_every": 5 lets each fifth reading fail.

import math

_WAVEFORMS = ("sine", "ramp", "random_walk", "constant", "counter")


class Sensor:
    def __init__(self, config):
        self._waves = []
        self.channels = []
        for wave in config.get("channels") or (config,):
            get = wave.get
            exponent = get("exponent", -2)
            self._waves.append(_wave(get, 10.0**-exponent))
            channel = get("key", "value"), get("unit", ""), exponent, get("device_class", "")
            self.channels.append(channel)
        self.fmt = "i" * len(self._waves)
        self._interval_ms = config.get("interval_ms", 1000)
        self._fail_every = config.get("fail_every", 0)
        self._calls = self._readings = 0
        self._random = config.get("seed", 1) * 2654435761 + 1 & 0xFFFFFFFF

    async def read(self):
        self._calls += 1
        if self._fail_every and self._calls % self._fail_every == 0:
            raise OSError(5, "simulated: reading %d fails, as configured" % self._calls)
        values = [self._at(wave) for wave in self._waves]
        self._readings += 1
        return values

    def _at(self, wave):
        form, value, high, noise, step, period_ms, walk = wave
        if form == "counter":
            return self._readings & 0x7FFFFFFF
        if form == "random_walk":
            value = wave[-1] = min(max(walk + step * self._uniform(), value), high)
        elif form != "constant":
            part = self._readings * self._interval_ms % period_ms / period_ms
            if form == "sine":
                part = 0.5 + 0.5 * math.sin(2 * math.pi * part)
            value += (high - value) * part
        if noise:
            value += noise * self._uniform()
        return int(round(value))

    # A number from -1 to 1.
    def _uniform(self):
        self._random = (self._random * 1664525 + 1013904223) & 0xFFFFFFFF
        return (self._random >> 16) / 32767.5 - 1


# Form, low, high, noise and step in the channel's units, period in ms, and where a walk is.
def _wave(get, units):
    form = get("waveform", "sine")
    if form not in _WAVEFORMS:
        raise ValueError("simulated: waveform %s is none of %s" % (form, ", ".join(_WAVEFORMS)))
    low = get("low", 0)
    high = get("high", 100)
    step = get("step", (high - low) / 50)
    if form == "constant":
        low = get("value", 0)
    low *= units
    high *= units
    noise = get("noise", 0) * units
    return [form, low, high, noise, step * units, get("period_s", 60) * 1000, (low + high) / 2]

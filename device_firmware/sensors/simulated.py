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
        waves = config.get("channels") or (config,)
        self._waves = [_Wave(wave) for wave in waves]
        self._interval_ms = config.get("interval_ms", 1000)
        self._fail_every = config.get("fail_every", 0)
        self._calls = 0
        self._readings = 0
        self._random = config.get("seed", 1) * 2654435761 + 1 & 0xFFFFFFFF
        self.fmt = "i" * len(waves)
        self.channels = tuple(
            (
                wave.get("key", "value"),
                wave.get("unit", ""),
                wave.get("exponent", -2),
                wave.get("device_class", ""),
            )
            for wave in waves
        )

    async def read(self):
        self._calls += 1
        if self._fail_every and self._calls % self._fail_every == 0:
            raise OSError(5, "simulated: reading %d fails, as configured" % self._calls)
        at_ms = self._readings * self._interval_ms
        values = tuple(wave.at(at_ms, self._readings, self._uniform) for wave in self._waves)
        self._readings += 1
        return values

    # A number from -1 to 1.
    def _uniform(self):
        self._random = (self._random * 1664525 + 1013904223) & 0xFFFFFFFF
        return (self._random >> 16) / 32767.5 - 1


class _Wave:
    def __init__(self, config):
        self._form = config.get("waveform", "sine")
        if self._form not in _WAVEFORMS:
            raise ValueError(
                "simulated: waveform %s is none of %s" % (self._form, ", ".join(_WAVEFORMS))
            )
        units = 10.0 ** -config.get("exponent", -2)  # whole numbers to one of the channel's units
        self._low = config.get("low", 0) * units
        self._high = config.get("high", 100) * units
        self._noise = config.get("noise", 0) * units
        self._step = (
            config.get("step", (config.get("high", 100) - config.get("low", 0)) / 50) * units
        )
        self._period_ms = config.get("period_s", 60) * 1000
        if self._form == "constant":
            self._low = config.get("value", 0) * units
        self._walk = (self._low + self._high) / 2

    def at(self, at_ms, reading, uniform):
        form = self._form
        if form == "counter":
            return reading & 0x7FFFFFFF
        value = self._low
        if form == "random_walk":
            self._walk = min(max(self._walk + self._step * uniform(), self._low), self._high)
            value = self._walk
        elif form != "constant":
            part = at_ms % self._period_ms / self._period_ms
            if form == "sine":
                part = 0.5 + 0.5 * math.sin(2 * math.pi * part)
            value += (self._high - self._low) * part
        if self._noise:
            value += self._noise * uniform()
        return int(round(value))

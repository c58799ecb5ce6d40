# Pulses at a pin: water and energy meters, rain gauges, wind cups, fans.
# Counts in hardware where the port can (machine.Counter: ESP32 from 1.26), else by interrupt, which
# bears about a thousand pulses a second.
#
# config: {"pin": 5}; "edge": "falling" (default) or "rising"; "pull": "up" (default), "down" or
# null; "debounce_ms": for contacts, by interrupt; "per_pulse": 0.2794 with "exponent": -4, "unit":
# "mm", "key" and "device_class" make a quantity of the count, which starts at 0 at every boot. The
# total is counted in whole steps of 10**exponent (default 0), so each pulse must be some of them.

import time

from micropython import const

_MASK = const(0x3FFFFFFF)  # the largest small integer: an interrupt must not allocate
_next_unit = 0


# One pulse in steps of 10**exponent. What is rounded here is wrong in every pulse: ValueError if
# that is more than a thousandth, or all of it.
def _steps(per_pulse, exponent):
    exact = per_pulse * 10.0**-exponent
    steps = int(round(exact))
    if abs(exact - steps) > 0.001 * abs(exact):
        raise ValueError(
            "pulse: per_pulse %s is no whole number of steps of 10**%d: give a smaller exponent"
            % (per_pulse, exponent)
        )
    return steps


class Sensor:
    fmt = "qi"

    def __init__(self, config):
        global _next_unit
        import machine

        exponent = config.get("exponent", 0)
        self._per_pulse = _steps(config.get("per_pulse", 1), exponent)
        Pin = machine.Pin
        pull = config.get("pull", "up")
        pull = Pin.PULL_UP if pull == "up" else Pin.PULL_DOWN if pull == "down" else None
        pin = Pin(config["pin"], Pin.IN, pull)
        edge = config.get("edge", "falling")
        if edge not in ("falling", "rising"):
            raise ValueError("pulse: edge must be falling or rising")
        self._debounce_ms = config.get("debounce_ms", 0)
        self._edges = 0
        self._edge_ms = time.ticks_ms()
        if hasattr(machine, "Counter") and not self._debounce_ms:
            Counter = machine.Counter
            self._counter = Counter(
                _next_unit, pin, edge=Counter.RISING if edge == "rising" else Counter.FALLING
            )
            _next_unit += 1
        else:
            self._counter = None
            pin.irq(self._on_edge, Pin.IRQ_RISING if edge == "rising" else Pin.IRQ_FALLING)
        self.channels = (
            (
                config.get("key", "count"),
                config.get("unit", ""),
                exponent,
                config.get("device_class", ""),
            ),
            (config.get("rate_key", "rate"), "Hz", -3, "frequency"),
        )
        self._total = 0
        self._seen = self._now()
        self._read_ms = time.ticks_ms()

    def _on_edge(self, pin):
        if self._debounce_ms:
            now_ms = time.ticks_ms()
            if time.ticks_diff(now_ms, self._edge_ms) < self._debounce_ms:
                return
            self._edge_ms = now_ms
        self._edges = (self._edges + 1) & _MASK

    # Wraps at some power of two that is at least 2**30.
    def _now(self):
        return self._edges if self._counter is None else self._counter.value()

    async def read(self):
        now, now_ms = self._now(), time.ticks_ms()
        pulses = (now - self._seen) & _MASK
        elapsed_ms = time.ticks_diff(now_ms, self._read_ms)
        self._seen, self._read_ms = now, now_ms
        self._total += pulses
        rate = pulses * 1000000 // elapsed_ms if elapsed_ms > 0 else -2147483648
        return self._total * self._per_pulse, rate

# The DHT22's wire, as five bytes at a time: machine.dht_readinto.
# Modelled: its data format with checksum, and that it measures at most every 2 s: asked sooner it
# repeats the last measurement. Not modelled: pulses.
#
# In fakes.json, "dht": {"15": {"temperature": V, "humidity": V, "faults": [...]}}, or "raw": 10 hex
# digits. Faults: silent; checksum; low (all bits read 0).

import binascii
import time

from fakes import settings
from micropython import const

_ETIMEDOUT = const(110)
_last = {}


def dht_readinto(pin, buf):
    told = settings.told("dht", pin.number, default={})
    measured_ns, count, data = _last.get(pin.number, (0, 0, b""))
    count += 1
    faults = told.get("faults")
    if settings.has_fault(faults, "silent", count):
        _last[pin.number] = measured_ns, count, data
        raise OSError(_ETIMEDOUT, "ETIMEDOUT")
    now_ns = time.time_ns()
    if not data or now_ns - measured_ns >= 2000000000:
        measured_ns, data = now_ns, _measure(told)
    _last[pin.number] = measured_ns, count, data
    buf[:] = data
    if settings.has_fault(faults, "checksum", count):
        buf[1] ^= 0x04
    if settings.has_fault(faults, "low", count):
        buf[:] = bytes(5)


def _measure(told):
    if "raw" in told:
        return binascii.unhexlify(told["raw"])
    t = settings.value_of(told.get("temperature", {"sine": [20, 23], "period_s": 240}))
    h = settings.value_of(told.get("humidity", {"sine": [40, 50], "period_s": 300}))
    humidity, temperature = int(round(h * 10)), int(round(t * 10))
    if temperature < 0:
        temperature = 0x8000 - temperature
    data = bytes((humidity >> 8, humidity & 0xFF, temperature >> 8, temperature & 0xFF))
    return data + bytes((sum(data) & 0xFF,))

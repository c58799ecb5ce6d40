# DHT22 (AM2302): temperature and humidity on one pin.
# Source: Aosong AM2302 datasheet, data format and its examples.
#
# config: {"pin": 15}

import asyncio
import time

from micropython import const

_PERIOD_MS = const(2000)  # the chip measures no faster


# Tenths of a degree and of a percent from the chip's bytes; raises ValueError out of its range.
def tenths(b):
    humidity = b[0] << 8 | b[1]
    raw = b[2] << 8 | b[3]
    temperature = raw if raw < 0x8000 else 0x8000 - raw  # sign and magnitude
    if temperature < -400:
        temperature = raw - 0x10000  # some clones use two's complement
    if humidity > 1000 or not -400 <= temperature <= 1250:
        raise ValueError("dht22: %d/10 %% and %d/10 °C is out of range" % (humidity, temperature))
    return temperature, humidity


class Sensor:
    fmt = "hh"
    channels = (("temperature", "°C", -1, "temperature"), ("humidity", "%", -1, "humidity"))

    def __init__(self, config):
        from dht import DHT22
        from machine import Pin

        self._pin = config["pin"]
        self._chip = DHT22(Pin(self._pin))
        self._asked_ms = None

    async def read(self):
        if self._asked_ms is not None:
            wait_ms = _PERIOD_MS - time.ticks_diff(time.ticks_ms(), self._asked_ms)
            if wait_ms > 0:
                await asyncio.sleep_ms(wait_ms)
        self._asked_ms = time.ticks_ms()
        try:
            self._chip.measure()
        except OSError as e:
            raise OSError(e.errno, "dht22 on pin %d does not answer" % self._pin)
        except Exception as e:  # the driver's checksum error is a bare Exception
            raise ValueError("dht22 on pin %d: %s" % (self._pin, e))
        if self._chip.buf == bytes(5):
            # Its sum is right, and it is what a line held low reads as.
            raise ValueError("dht22 on pin %d: all bits are zero" % self._pin)
        return tenths(self._chip.buf)

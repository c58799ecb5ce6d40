# Bosch BME280: temperature, humidity and pressure over I2C.
# Source: BST-BME280-DS002 1.6: 4.2 compensation, 5.4 registers, 9.1 measurement time.
#
# config: {"bus": {...board.buses.i2c...}, "address": 118, "oversampling": 1}

import asyncio
import struct

from board import buses
from micropython import const

_CHIP_ID = const(0x60)
_SKIPPED_20_BITS = const(0x80000)
_SKIPPED_16_BITS = const(0x8000)
_OVERSAMPLING = (1, 2, 4, 8, 16)


# T1..T3, P1..P9, H1..H6 (table 16) from the 26 bytes at 0x88 and the 7 bytes at 0xE1.
def unpack_calibration(low, high):
    words = struct.unpack("<HhhHhhhhhhhhBB", low)
    h2, h3, e4, e5, e6, h6 = struct.unpack("<hBbBbb", high)
    # H4 and H5 are signed 12-bit numbers that share register 0xE5.
    return words[:12] + (words[13], h2, h3, e4 * 16 + (e5 & 15), e6 * 16 + (e5 >> 4), h6)


# The datasheet's integer code (4.2.3, 64-bit pressure). `>>` floors in C and in Python alike.
# Returns hundredths of a degree, and t_fine for the other two.
def compensate_temperature(cal, adc):
    var1 = (((adc >> 3) - (cal[0] << 1)) * cal[1]) >> 11
    var2 = (adc >> 4) - cal[0]
    var2 = (((var2 * var2) >> 12) * cal[2]) >> 14
    t_fine = var1 + var2
    return (t_fine * 5 + 128) >> 8, t_fine


# Returns Pa * 256.
def compensate_pressure(cal, adc, t_fine):
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = cal[3:12]
    var1 = t_fine - 128000
    var2 = var1 * var1 * p6 + ((var1 * p5) << 17) + (p4 << 35)
    var1 = ((var1 * var1 * p3) >> 8) + ((var1 * p2) << 12)
    var1 = (((1 << 47) + var1) * p1) >> 33
    if var1 <= 0:
        raise ValueError("bme280: calibration makes no sense")
    p = (((1048576 - adc) << 31) - var2) * 3125 // var1
    var1 = (p9 * (p >> 13) * (p >> 13)) >> 25
    var2 = (p8 * p) >> 19
    return ((p + var1 + var2) >> 8) + (p7 << 4)


# Returns %RH * 1024.
def compensate_humidity(cal, adc, t_fine):
    h1, h2, h3, h4, h5, h6 = cal[12:]
    v = t_fine - 76800
    scale = ((((v * h6) >> 10) * (((v * h3) >> 11) + 32768)) >> 10) + 2097152
    v = (((adc << 14) - (h4 << 20) - h5 * v + 16384) >> 15) * ((scale * h2 + 8192) >> 14)
    v -= ((((v >> 15) * (v >> 15)) >> 7) * h1) >> 4
    return min(max(v, 0), 419430400) >> 12


class Sensor:
    fmt = "hhi"
    channels = (
        ("temperature", "°C", -2, "temperature"),
        ("humidity", "%", -2, "humidity"),
        ("pressure", "hPa", -2, "pressure"),
    )

    def __init__(self, config):
        oversampling = config.get("oversampling", 1)
        if oversampling not in _OVERSAMPLING:
            raise ValueError("bme280: oversampling must be 1, 2, 4, 8 or 16")
        self._bus = config.get("bus", {})
        self._address = config.get("address", 0x76)
        self._name = "bme280 at 0x%02x" % self._address
        setting = _OVERSAMPLING.index(oversampling) + 1
        self._ctrl_hum = bytes((setting,))
        self._ctrl_meas = bytes((setting << 5 | setting << 2 | 1,))  # 1: forced mode
        self._wait_ms = (125 + 3 * 230 * oversampling + 2 * 58 + 99) // 100  # 9.1, maximum
        self._calibration = None
        self._buffer = bytearray(8)
        buses.i2c(self._bus)  # a mistake in the configuration shows at once

    async def read(self):
        try:
            return await self._measure(buses.i2c(self._bus))
        except OSError as e:
            self._calibration = None  # it may be another chip when one answers again
            buses.recover_i2c(self._bus, e)
            raise OSError(e.errno, self._name + " does not answer")
        except ValueError:
            self._calibration = None
            raise

    async def _measure(self, i2c):
        if self._calibration is None:
            self._calibration = self._set_up(i2c)
        # Written every time: a chip that lost its supply for a moment has forgotten them.
        i2c.writeto_mem(self._address, 0xF2, self._ctrl_hum)
        i2c.writeto_mem(self._address, 0xF4, self._ctrl_meas)
        await asyncio.sleep_ms(self._wait_ms)
        tries = 10
        while i2c.readfrom_mem(self._address, 0xF3, 1)[0] & 9:  # measuring, or copying calibration
            tries -= 1
            if not tries:
                raise ValueError(self._name + ": the measurement does not end")
            await asyncio.sleep_ms(2)
        # One burst: the chip keeps the bytes of one measurement together (4.1).
        i2c.readfrom_mem_into(self._address, 0xF7, self._buffer)
        return self._values(self._buffer)

    def _set_up(self, i2c):
        chip_id = i2c.readfrom_mem(self._address, 0xD0, 1)[0]
        if chip_id != _CHIP_ID:
            kind = ", a BMP280 without humidity" if 0x56 <= chip_id <= 0x58 else ""
            raise ValueError(
                "%s: chip id is 0x%02x%s, not 0x%02x" % (self._name, chip_id, kind, _CHIP_ID)
            )
        low = i2c.readfrom_mem(self._address, 0x88, 26)
        high = i2c.readfrom_mem(self._address, 0xE1, 7)
        if low == b"\xff" * 26 or low == bytes(26):
            raise ValueError(self._name + ": calibration is blank")
        i2c.writeto_mem(self._address, 0xF5, b"\0")  # no filter, no 3-wire SPI
        return unpack_calibration(low, high)

    def _values(self, b):
        adc_p = b[0] << 12 | b[1] << 4 | b[2] >> 4
        adc_t = b[3] << 12 | b[4] << 4 | b[5] >> 4
        adc_h = b[6] << 8 | b[7]
        if adc_t == _SKIPPED_20_BITS:
            raise ValueError(self._name + ": no temperature was measured")
        cal = self._calibration
        temperature, t_fine = compensate_temperature(cal, adc_t)
        if not -4000 <= temperature <= 8500:
            raise ValueError("%s: %d/100 °C is out of range" % (self._name, temperature))
        humidity, pressure = -32768, -2147483648  # no value
        if adc_h != _SKIPPED_16_BITS:
            humidity = (compensate_humidity(cal, adc_h, t_fine) * 100 + 512) >> 10
        if adc_p != _SKIPPED_20_BITS:
            pressure = (compensate_pressure(cal, adc_p, t_fine) + 128) >> 8
        return temperature, humidity, pressure

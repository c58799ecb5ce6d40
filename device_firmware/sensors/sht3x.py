# Sensirion SHT30, SHT31, SHT35: temperature and humidity over I2C.
# Source: datasheet SHT3x-DIS version 5: 4.3 commands, 4.12 CRC, 4.13 conversion, table 4 durations.
#
# config: {"bus": {...board.buses.i2c...}, "address": 68}

import asyncio

from board import buses
from micropython import const

_MEASURE = b"\x24\x00"  # single shot, high repeatability, no clock stretching
_DURATION_MS = const(17)  # 15.5 at low supply


# CRC-8 of two bytes: polynomial 0x31, start 0xFF, no reflection.
def crc8(high, low):
    crc = 0xFF
    for byte in (high, low):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31) & 0xFF if crc & 0x80 else crc << 1
    return crc


# -45 + 175 * raw / 65535 in hundredths of a degree, rounded.
def centidegrees(raw):
    return (17500 * raw + 32767) // 65535 - 4500


# 100 * raw / 65535 in hundredths of a percent, rounded.
def centipercent(raw):
    return (10000 * raw + 32767) // 65535


class Sensor:
    fmt = "hh"
    channels = (("temperature", "°C", -2, "temperature"), ("humidity", "%", -2, "humidity"))

    def __init__(self, config):
        self._bus = config.get("bus", {})
        self._address = config.get("address", 0x44)
        self._name = "sht3x at 0x%02x" % self._address
        buses.i2c(self._bus)  # a mistake in the configuration shows at once

    async def read(self):
        i2c = buses.i2c(self._bus)
        try:
            i2c.writeto(self._address, _MEASURE)
            await asyncio.sleep_ms(_DURATION_MS)
            b = i2c.readfrom(self._address, 6)  # not acknowledged while it still measures
        except OSError as e:
            buses.recover_i2c(self._bus, e)
            raise OSError(e.errno, self._name + " does not answer")
        if crc8(b[0], b[1]) != b[2] or crc8(b[3], b[4]) != b[5]:
            raise ValueError(self._name + ": wrong CRC")
        return centidegrees(b[0] << 8 | b[1]), centipercent(b[3] << 8 | b[4])

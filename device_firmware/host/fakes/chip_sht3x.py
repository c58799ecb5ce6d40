# A Sensirion SHT3x down to its commands (datasheet SHT3x-DIS version 5, chapter 4).
# Modelled: single shots of the three repeatabilities and their typical durations, with stretching
# (answers at once, as if the clock had waited) and without (not acknowledged until it is done), CRC
# of each word, status register, heater, soft reset. Not modelled: periodic modes, alerts.
#
# In fakes.json: temperature (°C), humidity (%); or "raw": [S_T, S_RH].
# Faults: nack; crc (of the temperature), crc_humidity; busy (it never finishes).

import time

from fakes import i2c, settings

_DURATIONS_US = {
    0x2400: 12500,
    0x240B: 4500,
    0x2416: 2500,
    0x2C06: 0,
    0x2C0D: 0,
    0x2C10: 0,
}


# CRC-8, table-free: x^8 + x^5 + x^4 + 1, start 0xFF.
def crc8(data):
    crc = 0xFF
    for byte in data:
        for bit in range(7, -1, -1):
            top = crc >> 7 ^ byte >> bit & 1
            crc = crc << 1 & 0xFF
            if top:
                crc ^= 0x31
    return crc


def _word(value):
    data = bytes((value >> 8, value & 0xFF))
    return data + bytes((crc8(data),))


class Chip(i2c.Chip):
    kind = "sht3x"

    def __init__(self):
        super().__init__()
        self._status = 0x8010  # alert pending, reset detected: as after power-up
        self._answer = None
        self._ready_ns = 0

    def write(self, data):
        if not data:  # an address alone: a scan
            return
        if len(data) != 2:
            self.refuse()
        command = data[0] << 8 | data[1]
        if command in _DURATIONS_US:
            self._answer = "measurement"
            self._ready_ns = time.time_ns() + _DURATIONS_US[command] * 1000
        elif command == 0xF32D:
            self._answer = "status"
        elif command == 0x3041:
            self._status &= 0x2000
        elif command == 0x306D:
            self._status |= 0x2000
        elif command == 0x3066:
            self._status &= ~0x2000
        elif command == 0x30A2:
            self._status = 0x8010
            self._answer = None
        else:
            self.refuse()

    def read(self, count):
        if self._answer == "status":
            self._answer = None
            return _word(self._status)[:count]
        if self._answer is None or self.has_fault("busy") or time.time_ns() < self._ready_ns:
            self.refuse()
        self._answer = None
        temperature, humidity = self.told.get("raw") or self._raw()
        data = bytearray(_word(temperature) + _word(humidity))
        if self.has_fault("crc"):
            data[2] ^= 0x01
        if self.has_fault("crc_humidity"):
            data[5] ^= 0x80
        return bytes(data[:count])

    def _raw(self):
        t = settings.value_of(self.told.get("temperature", {"sine": [19, 24], "period_s": 120}))
        h = settings.value_of(self.told.get("humidity", {"sine": [35, 55], "period_s": 180}))
        return int(round((t + 45) * 65535 / 175)), int(round(h * 65535 / 100))

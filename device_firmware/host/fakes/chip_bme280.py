# A BME280 down to its registers (BST-BME280-DS002 1.6, chapters 4, 5, 6).
# Modelled: register map, calibration bytes, chip id, reset, ctrl_hum taking effect with ctrl_meas,
# sleep, forced and normal mode, measuring bit and the typical measurement time, results that
# appear together at its end and read 0x80000 / 0x8000 where skipped, writes as pairs of register
# and byte, reads that count up. Not modelled: the filter, standby times, SPI, noise.
#
# In fakes.json: temperature (°C), humidity (%), pressure (hPa); or "raw": [adc_t, adc_p, adc_h]
# instead; "registers": {"0x88": "hex"} lays bytes over the calibration.
# Faults: nack; chip_id (says 0x58, a BMP280); busy (the measurement never ends); skipped (the
# results stay at their reset values); blank (calibration and all else read 0xFF).

import binascii
import struct
import time

from fakes import i2c, settings

_RESET_RESULTS = b"\x80\0\0\x80\0\0\x80\0"
# T1 to T3, P1 to P9 of Bosch's worked example (BMP280 datasheet, 3.12); H1 to H6 of a real chip.
_CALIBRATION_88 = "706b436718fc7d8e43d6d00b270b8c00f9ff8c3cf8c67017004b"
_CALIBRATION_E1 = "650100140b001e"


class Chip(i2c.Chip):
    kind = "bme280"

    def __init__(self):
        super().__init__()
        self._memory = bytearray(256)
        self._memory[0xD0] = 0x60
        self._put(0x88, _CALIBRATION_88)
        self._put(0xE1, _CALIBRATION_E1)
        self._at = 0
        self._reset()

    def _put(self, register, digits):
        data = binascii.unhexlify(digits)
        self._memory[register : register + len(data)] = data

    def begin(self, told):
        super().begin(told)
        for register, digits in told.get("registers", {}).items():
            self._put(int(register, 16), digits)

    def _reset(self):
        memory = self._memory
        memory[0xF2] = memory[0xF3] = memory[0xF4] = memory[0xF5] = 0
        memory[0xF7:0xFF] = _RESET_RESULTS
        self._hum = 0  # ctrl_hum as it is in force
        self._started_ns = None
        self._copied_ns = time.time_ns() + 2000000  # start-up time, table 1

    def write(self, data):
        self._at = data[0]
        for i in range(1, len(data), 2):
            self._set(data[i - 1], data[i])

    def _set(self, register, byte):
        if register == 0xE0:
            if byte == 0xB6:
                self._reset()
        elif register in (0xF2, 0xF4, 0xF5):
            self._memory[register] = byte
            if register == 0xF4:
                self._hum = self._memory[0xF2] & 7
                self._started_ns = time.time_ns() if byte & 3 else None

    def read(self, count):
        self._run()
        if self.has_fault("blank"):
            return b"\xff" * (count - 1) + (b"\x60" if self._at == 0xD0 else b"\xff")
        data = bytes(self._memory[self._at : self._at + count])
        if self._at == 0xD0 and self.has_fault("chip_id"):
            data = b"\x58" + data[1:]
        self._at = self._at + count & 0xFF
        return data

    # Brings the registers up to the present time.
    def _run(self):
        memory = self._memory
        now_ns = time.time_ns()
        memory[0xF3] = 1 if now_ns < self._copied_ns else 0
        if self._started_ns is None:
            return
        control = memory[0xF4]
        temperature, pressure = control >> 5, control >> 2 & 7
        if self.has_fault("busy") or now_ns < self._started_ns + self._duration_ns(control):
            memory[0xF3] |= 8
            return
        results = bytearray(_RESET_RESULTS)
        if temperature and not self.has_fault("skipped"):
            adc_t, adc_p, adc_h = self.told.get("raw") or self._raw()
            results[3:6] = struct.pack(">I", adc_t << 12)[:3]
            if pressure:
                results[0:3] = struct.pack(">I", adc_p << 12)[:3]
            if self._hum:
                results[6:8] = struct.pack(">H", adc_h)
        memory[0xF7:0xFF] = results
        if control & 3 == 3:
            self._started_ns = now_ns
        else:
            self._started_ns = None
            memory[0xF4] = control & 0xFC  # back to sleep

    # Appendix 9.1, typical, in nanoseconds.
    def _duration_ns(self, control):
        us = 1000 + 2000 * _times(control >> 5)
        for setting in (control >> 2 & 7, self._hum):
            if setting:
                us += 2000 * _times(setting) + 500
        return us * 1000

    # The converter's results for the configured values: the datasheet's floating-point formulas
    # (appendix 8.1), turned round by bisection.
    def _raw(self):
        t = settings.value_of(self.told.get("temperature", {"sine": [20.5, 22.5], "period_s": 90}))
        p = settings.value_of(self.told.get("pressure", {"sine": [1009, 1016], "period_s": 600}))
        h = settings.value_of(self.told.get("humidity", {"sine": [42, 48], "period_s": 150}))
        low, high = bytes(self._memory[0x88:0xA2]), bytes(self._memory[0xE1:0xE8])
        words = struct.unpack("<HhhHhhhhhhhhBB", low)
        h2, h3, e4, e5, e6, h6 = struct.unpack("<hBbBbb", high)
        cal_h = (words[13], h2, h3, (e4 << 4) | (e5 & 15), (e6 << 4) | (e5 >> 4), h6)
        adc_t = _first(20, lambda adc: _t_fine(words, adc) / 5120.0 >= t)
        t_fine = _t_fine(words, adc_t)
        adc_p = _first(20, lambda adc: _pascal(words, adc, t_fine) <= p * 100)
        adc_h = _first(16, lambda adc: _percent(cal_h, adc, t_fine) >= h)
        return adc_t, adc_p, adc_h


def _times(setting):
    return (0, 1, 2, 4, 8, 16, 16, 16)[setting]


# The least number of `bits` bits for which `reached` is true.
def _first(bits, reached):
    low, high = 0, (1 << bits) - 1
    while low < high:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _t_fine(words, adc):
    t1, t2, t3 = words[:3]
    part = adc / 131072.0 - t1 / 8192.0
    return (adc / 16384.0 - t1 / 1024.0) * t2 + part * part * t3


def _pascal(words, adc, t_fine):
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = words[3:12]
    var1 = t_fine / 2.0 - 64000.0
    var2 = var1 * var1 * p6 / 32768.0
    var2 = var2 + var1 * p5 * 2.0
    var2 = var2 / 4.0 + p4 * 65536.0
    var1 = (p3 * var1 * var1 / 524288.0 + p2 * var1) / 524288.0
    var1 = (1.0 + var1 / 32768.0) * p1
    p = 1048576.0 - adc
    p = (p - var2 / 4096.0) * 6250.0 / var1
    var1 = p9 * p * p / 2147483648.0
    var2 = p * p8 / 32768.0
    return p + (var1 + var2 + p7) / 16.0


def _percent(cal, adc, t_fine):
    h1, h2, h3, h4, h5, h6 = cal
    v = t_fine - 76800.0
    v = (adc - (h4 * 64.0 + h5 / 16384.0 * v)) * (
        h2 / 65536.0 * (1.0 + h6 / 67108864.0 * v * (1.0 + h3 / 67108864.0 * v))
    )
    return v * (1.0 - h1 * v / 524288.0)

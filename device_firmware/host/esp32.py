# Stands in for MicroPython's module esp32 on a PC; there is none when fakes.json says "rp2".
# Modelled: the newer chips' mcu_temperature (whole degrees), NVS as files nvs_<namespace>.json in
# the board's folder. Not modelled: partitions, wake-up sources, RMT, PCNT (machine.Counter is).

import binascii
import json
import os

from fakes import chip, settings
from micropython import const

if chip.family() == "rp2":
    raise ImportError("no module named 'esp32'")

_NOT_FOUND = const(-0x1102)  # ESP_ERR_NVS_NOT_FOUND, as OSError's number
_MAX_KEY = const(15)


def mcu_temperature():
    from fakes import analog

    return int(round(settings.value_of(analog.chip_temperature())))


class NVS:
    def __init__(self, namespace):
        self._path = "nvs_%s.json" % namespace
        self._values = {}
        try:
            with open(self._path) as f:
                self._values = json.load(f)
        except OSError:
            pass

    def _put(self, key, value):
        if len(key) > _MAX_KEY:
            raise OSError(-0x1109, "ESP_ERR_NVS_KEY_TOO_LONG")
        self._values[key] = value

    def _get(self, key, kind):
        value = self._values.get(key)
        if not isinstance(value, kind):
            raise OSError(_NOT_FOUND, "ESP_ERR_NVS_NOT_FOUND")
        return value

    def set_i32(self, key, value):
        self._put(key, value)

    def get_i32(self, key):
        return self._get(key, int)

    def set_blob(self, key, value):
        self._put(key, binascii.hexlify(value).decode())

    # Fills `buffer` and returns the length.
    def get_blob(self, key, buffer):
        data = binascii.unhexlify(self._get(key, str))
        if len(data) > len(buffer):
            raise OSError(-0x110C, "ESP_ERR_NVS_INVALID_LENGTH")
        buffer[: len(data)] = data
        return len(data)

    def erase_key(self, key):
        if key not in self._values:
            raise OSError(_NOT_FOUND, "ESP_ERR_NVS_NOT_FOUND")
        del self._values[key]

    # Only now is it kept.
    def commit(self):
        with open(self._path + ".new", "w") as f:
            json.dump(self._values, f)
        os.rename(self._path + ".new", self._path)

# DS18B20, DS18S20 and DS1822 probes, all those of one 1-Wire pin.
# Source: Maxim DS18B20 datasheet 19-7487 (table 1 temperatures, figure 9 scratchpad) and DS18S20
# datasheet 19-5474.
#
# config: {"pin": 4} takes the probes found at start, or {"pin": 4, "probes": {"28ff641e8b160371":
# "inlet", ...}} names them. Give the probes a supply: for parasite power a pin is too weak.

import asyncio
import binascii

from board import buses
from micropython import const

_CONVERSION_MS = const(750)
_NO_VALUE = const(-2147483648)
_POWER_ON = const(0x0550)  # 85 °C: what a probe says that has not converted since it got its supply
_MAX_PROBES = const(16)


# Ten-thousandths of a degree from a scratchpad whose CRC matched.
def ten_thousandths(family, pad):
    raw = pad[1] << 8 | pad[0]
    if raw & 0x8000:
        raw -= 0x10000
    if family == 0x10:  # DS18S20: half degrees, finer by the rest of its counter
        return (raw >> 1) * 10000 - 2500 + (pad[7] - pad[6]) * 10000 // pad[7]
    undefined = 3 - (pad[4] >> 5 & 3)  # low bits that a coarser resolution leaves open
    return (raw >> undefined << undefined) * 625


class Sensor:
    def __init__(self, config):
        from ds18x20 import DS18X20

        self._pin = config["pin"]
        self._chip = DS18X20(buses.onewire(self._pin))
        self._good = {}  # ROM -> last value
        named = config.get("probes")
        if named:
            self._roms = [_rom(text) for text in sorted(named)]
            keys = [named[text] for text in sorted(named)]
        else:
            self._roms = sorted(bytes(rom) for rom in self._scan())
            keys = _keys(self._roms)
        if len(keys) > _MAX_PROBES:
            raise ValueError("ds18x20 on pin %d: more than %d probes" % (self._pin, _MAX_PROBES))
        self.fmt = "i" * len(keys)
        self.channels = tuple((key, "°C", -4, "temperature") for key in keys)

    def _scan(self):
        onewire = buses.onewire(self._pin)
        return [rom for rom in self._chip.scan() if not onewire.crc8(rom)]

    # Probes that fail have no value; raises OSError when all do.
    async def read(self):
        async with buses.onewire_lock(self._pin):
            if not self._roms:  # none at start: take the first that was plugged in since
                self._roms = sorted(bytes(rom) for rom in self._scan())[:1]
                if not self._roms:
                    raise OSError(19, "ds18x20 on pin %d: no probe found" % self._pin)
            await self._convert()
            values = [self._value(rom) for rom in self._roms]
            if None in values:  # a power-on value: it may have missed the command
                await self._convert()
                for i in range(len(values)):
                    if values[i] is None:
                        values[i] = self._second_value(self._roms[i])
        if all(isinstance(value, str) for value in values):
            raise OSError(5, "ds18x20 on pin %d: %s" % (self._pin, values[0]))
        return tuple(_NO_VALUE if isinstance(value, str) else value for value in values)

    async def _convert(self):
        try:
            self._chip.convert_temp()
        except Exception:  # the driver's errors are bare Exceptions
            raise OSError(19, "ds18x20 on pin %d: no probe answers" % self._pin)
        await asyncio.sleep_ms(_CONVERSION_MS)

    # The value, None for a power-on value, or what is wrong as text.
    def _value(self, rom):
        pad = self._scratchpad(rom)
        if isinstance(pad, str):
            return pad
        if rom[0] != 0x10 and pad[1] << 8 | pad[0] == _POWER_ON:
            return None
        value = self._good[rom] = ten_thousandths(rom[0], pad)
        return value

    # 85 °C twice: believed when the probe was near it before, or its reserved byte says that it
    # has converted (it is 0x0C at power-on, and 0x10 after a conversion to a whole degree).
    def _second_value(self, rom):
        value = self._value(rom)
        if value is None:
            pad = self._scratchpad(rom)
            if isinstance(pad, str):
                return pad
            if pad[6] == 0x0C and abs(self._good.get(rom, 0) - 850000) > 50000:
                return "power-on value, the probe loses its supply"
            value = self._good[rom] = 850000
        return value

    def _scratchpad(self, rom):
        for _ in range(2):
            try:
                pad = self._chip.read_scratch(rom)
            except Exception as e:  # the driver's errors are bare Exceptions
                wrong = str(e) or "no probe answers"
                continue
            # All zeros has a right CRC, and is what a line shorted to ground reads as.
            if pad[4] & 0x1F == 0x1F and not (rom[0] == 0x10 and pad[7] == 0):
                return pad
            wrong = "line shorted"
        return wrong


def _rom(text):
    rom = binascii.unhexlify(text)
    if len(rom) != 8:
        raise ValueError("ds18x20: %s is no ROM code of 16 hex digits" % text)
    return rom


# One probe is "temperature"; several carry the end of their serial number.
def _keys(roms):
    if len(roms) <= 1:
        return ["temperature"]
    for size in (3, 7):
        keys = ["temperature_" + binascii.hexlify(rom[1:size]).decode() for rom in roms]
        if len(set(keys)) == len(keys):
            break
    return keys

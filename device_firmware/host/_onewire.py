# Stands in for MicroPython's C module _onewire: the 1-Wire bus bit by bit, and the probes on it.
# Modelled: presence, ROM search with collisions, match, skip and read ROM, DS18B20's and DS18S20's
# scratchpad with CRC, its configuration, conversions that take their time, the power-on value,
# wired AND of all that answer. Not modelled: pulse lengths, alarm search, EEPROM, parasite power.
#
# In fakes.json, "onewire": {"4": {"faults": [...], "probes": [{"rom": 16 hex digits,
# "temperature": V or "raw": the two temperature bytes as a number, "faults": [...]}]}}.
# Faults of a bus: short (held low). Of a probe: absent; crc (a bit of its scratchpad flips on the
# way); power_on (it loses its supply before each conversion); deaf (never starts to convert).

import binascii
import time

from fakes import settings

_ROM_COMMANDS = {0xF0: "search", 0x55: "match", 0xCC: "function", 0x33: "function"}
_buses = {}


def crc8(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8C if crc & 1 else crc >> 1
    return crc


# One probe as a machine that is fed bits, and asked for bits; idle until the next reset.
class _Probe:
    def __init__(self, rom):
        self.rom = rom
        self.told = {}
        self._count = 0
        self._scratch = bytearray(9)
        self._power_on()
        self._done_ns = 0
        self._pending = None
        self._state = None
        self._out = ()

    def _power_on(self):
        if self.rom[0] == 0x10:
            self._scratch[:8] = b"\xaa\x00\x4b\x46\xff\xff\x0c\x10"
        else:
            self._scratch[:8] = b"\x50\x05\x4b\x46\x7f\xff\x0c\x10"

    def has_fault(self, name):
        return settings.has_fault(self.told.get("faults"), name, self._count)

    # Begins a transaction; returns whether the probe pulls the presence pulse.
    def reset(self, told):
        self.told = told
        self._count += 1
        self._state = None if self.has_fault("absent") else "rom command"
        self._bits = []
        self._out = ()
        return self._state is not None

    # The bit it lets through: 0 pulls the line down.
    def send(self):
        if self._state == "search":
            bit = _bit(self.rom, self._position)
            if self._complement:
                bit ^= 1
            self._complement = not self._complement
            return bit
        if self._state == "convert":
            return 1 if time.time_ns() >= self._done_ns else 0
        if self._out:
            bit = self._out[0]
            self._out = self._out[1:]
            return bit
        return 1

    def receive(self, bit):
        if self._state in ("search", "match"):
            self._compare(bit)
            return
        if self._state is None:
            return
        self._bits.append(bit)
        if self._state == "write":
            if len(self._bits) == 24:
                self._write_scratch()
        elif len(self._bits) == 8:
            byte = 0
            for i in range(8):
                byte |= self._bits[i] << i
            self._bits = []
            self._command(byte)

    # One bit of a ROM code: those that have another drop out.
    def _compare(self, bit):
        if bit != _bit(self.rom, self._position):
            self._state = None
            return
        self._position += 1
        self._complement = False
        if self._position == 64:
            self._state = "function"

    def _command(self, byte):
        if self._state == "rom command":
            self._state = _ROM_COMMANDS.get(byte)
            self._position = 0
            self._complement = False
            if byte == 0x33:
                self._out = _bits(self.rom)
        elif byte == 0x44:
            self._convert()
        elif byte == 0xBE:
            self._state = "sending"
            self._finish()
            data = bytearray(self._scratch)
            data[8] = crc8(data[:8])
            if self.has_fault("crc"):
                data[0] ^= 0x08
            self._out = _bits(data)
        elif byte == 0x4E:
            self._state = "write"
        elif byte != 0x48:  # copy to EEPROM; 0xB4, read power supply: 1, it has its own
            self._state = None

    def _convert(self):
        self._state = None
        if self.has_fault("power_on"):
            self._power_on()
            self._pending = None
        elif not self.has_fault("deaf"):
            coarser = 0 if self.rom[0] == 0x10 else 3 - (self._scratch[4] >> 5 & 3)
            self._done_ns = time.time_ns() + (600000000 >> coarser)  # typical; at most 750 ms
            self._pending = self._raw(coarser)
            self._state = "convert"

    def _raw(self, coarser):
        if "raw" in self.told:
            return self.told["raw"]
        wave = self.told.get("temperature", {"sine": [18, 21], "period_s": 200})
        degrees = settings.value_of(wave)
        if self.rom[0] == 0x10:
            return int(round(degrees * 2)) & 0xFFFF
        return int(round(degrees * 16)) >> coarser << coarser & 0xFFFF

    # The result lands in the scratchpad when the conversion is over.
    def _finish(self):
        if self._pending is not None and time.time_ns() >= self._done_ns:
            raw, self._pending = self._pending, None
            self._scratch[0], self._scratch[1] = raw & 0xFF, raw >> 8
            self._scratch[6] = 0x0C if self.rom[0] == 0x10 else 0x10 - (raw & 15)

    def _write_scratch(self):
        for i in range(3 if self.rom[0] != 0x10 else 2):
            byte = 0
            for j in range(8):
                byte |= self._bits[8 * i + j] << j
            self._scratch[2 + i] = byte & 0x60 | 0x1F if i == 2 else byte
        self._state = None


def _bit(data, index):
    return data[index >> 3] >> (index & 7) & 1


def _bits(data):
    return [_bit(data, i) for i in range(8 * len(data))]


class _Bus:
    def __init__(self, number):
        self._number = number
        self._probes = {}
        self._count = 0
        self._short = False

    def reset(self):
        self._count += 1
        told = settings.told("onewire", self._number, default={})
        self._short = settings.has_fault(told.get("faults"), "short", self._count)
        probes = told.get("probes")
        if probes is None:
            serial = b"\x28" + bytes((self._number & 0xFF,)) + b"\x1e\x8b\x16\x03\x00"
            probes = [{"rom": binascii.hexlify(serial + bytes((crc8(serial),))).decode()}]
        present = False
        here = {}
        for probe in probes:
            rom = binascii.unhexlify(probe["rom"])
            here[rom] = self._probes.get(rom) or _Probe(rom)
            if here[rom].reset(probe):
                present = True
        self._probes = here
        return present or self._short

    def readbit(self):
        bit = 0 if self._short else 1
        for probe in self._probes.values():
            bit &= probe.send()
        return bit

    def writebit(self, bit):
        for probe in self._probes.values():
            probe.receive(1 if bit else 0)


def _bus(pin):
    if pin.number not in _buses:
        _buses[pin.number] = _Bus(pin.number)
    return _buses[pin.number]


def reset(pin):
    return _bus(pin).reset()


def readbit(pin):
    return _bus(pin).readbit()


def writebit(pin, bit):
    _bus(pin).writebit(bit)


def readbyte(pin):
    bus = _bus(pin)
    byte = 0
    for i in range(8):
        byte |= bus.readbit() << i
    return byte


def writebyte(pin, byte):
    bus = _bus(pin)
    for i in range(8):
        bus.writebit(byte >> i & 1)

# I2C controllers, and the chips on their wires.
# Modelled: addresses, whole transactions, an address or a byte that is not acknowledged (ENODEV, as
# on the ESP32), a bus whose SDA is held low (ETIMEDOUT). Not modelled: clock speed, clock
# stretching, repeated starts to different chips.
# Faults of a bus: "stuck": SDA is low until nine clocks have been given by hand on its SCL pin.

from fakes import pins, settings
from micropython import const

_ENODEV = const(19)
_ETIMEDOUT = const(110)

_buses = {}

_DEFAULT_DEVICES = ({"kind": "bme280", "address": 0x76}, {"kind": "sht3x", "address": 0x44})


# The wires of one controller number: the chips live on when the controller is made anew.
class _Wires:
    def __init__(self, number):
        self.number = number
        self._chips = {}
        self.transactions = 0
        self.clocks = 0  # rising edges of SCL since the wires were stuck
        self.stuck = False

    def watch(self, scl, sda):
        if scl is not None and sda is not None:
            self._sda = sda.number
            pins.watch(scl.number, self._clock)

    def _clock(self, level):
        if level and self.stuck:
            self.clocks += 1
            if self.clocks >= 9:
                self.stuck = False
                pins.drive(self._sda, None)

    def begin(self):
        self.transactions += 1
        told = settings.told("i2c", self.number, "faults")
        if self.clocks < 9 and settings.has_fault(told, "stuck", self.transactions):
            self.stuck = True
            pins.drive(self._sda, 0)
        if not settings.has_fault(told, "stuck", self.transactions):
            self.clocks = 0
            self.stuck = False
        if self.stuck:
            raise OSError(_ETIMEDOUT, "ETIMEDOUT")

    # The chip at an address, made when first spoken to; raises ENODEV where there is none.
    def chip(self, address):
        told = settings.told("i2c", self.number, "devices", default=_DEFAULT_DEVICES)
        for device in told:
            if device["address"] == address:
                chip = self._chips.get(address)
                if chip is None or chip.kind != device["kind"]:
                    module = __import__("fakes.chip_" + device["kind"], None, None, ("Chip",))
                    chip = self._chips[address] = module.Chip()
                chip.begin(device)
                return chip
        raise OSError(_ENODEV, "ENODEV")


# What the fakes of chips share: their part of fakes.json, and its faults.
class Chip:
    def __init__(self):
        self.told = {}
        self._transactions = 0

    def begin(self, told):
        self.told = told
        self._transactions += 1
        if self.has_fault("nack"):
            raise OSError(_ENODEV, "ENODEV")

    def has_fault(self, name):
        return settings.has_fault(self.told.get("faults"), name, self._transactions)

    # The chip does not acknowledge: wrong command, or busy.
    def refuse(self):
        raise OSError(_ENODEV, "ENODEV")


class I2C:
    def __init__(self, id=0, *, scl=None, sda=None, freq=400000, timeout=50000):
        if id not in _buses:
            _buses[id] = _Wires(id)
            _buses[id].watch(scl, sda)
        self._wires = _buses[id]

    def scan(self):
        found = []
        self._wires.begin()
        for address in range(0x08, 0x78):
            try:
                self._wires.chip(address)
            except OSError:
                continue
            found.append(address)
        return found

    def writeto(self, addr, buf, stop=True):
        self._wires.begin()
        self._wires.chip(addr).write(bytes(buf))
        return len(buf)

    def writevto(self, addr, vector, stop=True):
        return self.writeto(addr, b"".join(bytes(part) for part in vector))

    def readfrom(self, addr, nbytes, stop=True):
        self._wires.begin()
        return self._wires.chip(addr).read(nbytes)

    def readfrom_into(self, addr, buf, stop=True):
        buf[:] = self.readfrom(addr, len(buf))

    def writeto_mem(self, addr, memaddr, buf, *, addrsize=8):
        self.writeto(addr, memaddr.to_bytes(addrsize // 8, "big") + bytes(buf))

    def readfrom_mem(self, addr, memaddr, nbytes, *, addrsize=8):
        self._wires.begin()
        chip = self._wires.chip(addr)
        chip.write(memaddr.to_bytes(addrsize // 8, "big"))
        return chip.read(nbytes)

    def readfrom_mem_into(self, addr, memaddr, buf, *, addrsize=8):
        buf[:] = self.readfrom_mem(addr, memaddr, len(buf), addrsize=addrsize)


class SoftI2C(I2C):
    def __init__(self, scl, sda, *, freq=400000, timeout=50000):
        super().__init__("soft", scl=scl, sda=sda)

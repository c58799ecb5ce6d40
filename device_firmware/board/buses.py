# Buses that sensors share: one I2C controller per number, one OneWire per pin.

import asyncio

_ETIMEDOUT = (110, 116)  # lwIP's and newlib's number for it
_i2c = {}
_onewire = {}


# config: {"i2c": 0, "sda": 21, "scl": 22, "freq": 100000}, or "i2c": "soft" for any two pins.
# Pins may be left out where the port has its own for that controller.
# Raises ValueError when one controller is asked for on two pairs of pins.
def i2c(config):
    number = config.get("i2c", 0)
    pins = (config.get("sda"), config.get("scl"))
    key = (number, pins) if number == "soft" else number
    if key in _i2c:
        bus, taken = _i2c[key]
        if taken != pins:
            raise ValueError(
                "i2c %s is on sda=%s scl=%s already, not on sda=%s scl=%s"
                % (number, taken[0], taken[1], pins[0], pins[1])
            )
        return bus
    bus = _open_i2c(number, pins, config.get("freq", 100000))
    _i2c[key] = bus, pins
    return bus


# After an OSError: frees a bus whose SDA some chip holds low, because it was reset in the middle of
# a byte. Up to nine clocks let it end the byte (I2C specification UM10204, 3.1.16).
def recover_i2c(config, error):
    pins = (config.get("sda"), config.get("scl"))
    if error.errno not in _ETIMEDOUT or None in pins:
        return
    import time

    from machine import Pin

    sda = Pin(pins[0], Pin.IN, Pin.PULL_UP)
    scl = Pin(pins[1], Pin.OPEN_DRAIN, value=1)
    for _ in range(9):
        if sda.value():
            break
        scl.value(0)
        time.sleep_us(5)
        scl.value(1)
        time.sleep_us(5)
    number = config.get("i2c", 0)
    key = (number, pins) if number == "soft" else number
    _i2c[key] = _open_i2c(number, pins, config.get("freq", 100000)), pins


def _open_i2c(number, pins, freq):
    from machine import I2C, Pin, SoftI2C

    sda, scl = pins
    if number == "soft":
        return SoftI2C(scl=Pin(scl), sda=Pin(sda), freq=freq)
    if sda is None or scl is None:
        return I2C(number, freq=freq)
    return I2C(number, scl=Pin(scl), sda=Pin(sda), freq=freq)


# The OneWire of a pin. Whoever starts a conversion holds the lock of onewire_lock(pin) until it has
# read the result, because a probe without its own supply bears no traffic while it converts.
def onewire(pin):
    return _open_onewire(pin)[0]


def onewire_lock(pin):
    return _open_onewire(pin)[1]


def _open_onewire(pin):
    if pin not in _onewire:
        from machine import Pin
        from onewire import OneWire

        _onewire[pin] = OneWire(Pin(pin)), asyncio.Lock()
    return _onewire[pin]

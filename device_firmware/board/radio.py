# What a BLE link does seldom: to be set up, to advertise, to end connections.

import bluetooth
from board import clock
from board.frame import clip
from micropython import const

_UUID = const("0e9a000%d-5c1d-4c0e-9c6b-2f6a7b1d0e01")
_WRITABLE = const(0x0C)  # with and without response
_NOTIFY = const(0x10)
_MTU = const(247)  # what one packet holds
_VALUE_BYTES = const(512)  # by default what is written is cut to 20
_ADVERTISE_US = const(250000)
_NAME_BYTES = const(29)  # room in a scan response
_FLAGS = const(b"\2\1\6")  # generally discoverable, no classic Bluetooth


def set_up(link, config):
    link.radio = radio = bluetooth.BLE()
    radio.active(True)
    name = clip(config.get("board", ""), _NAME_BYTES)
    radio.config(mtu=config.get("mtu", _MTU), gap_name=name)
    radio.irq(link.on_event)
    service, tx, rx = [bluetooth.UUID(_UUID % number) for number in (1, 2, 3)]
    services = ((service, ((tx, _NOTIFY), (rx, _WRITABLE))),)
    ((link.handle, rx),) = radio.gatts_register_services(services)
    radio.gatts_set_buffer(rx, _VALUE_BYTES)
    link.service = bytes((17, 7)) + bytes(service)
    link.advert = _FLAGS + link.service
    link.response = bytes((len(name) + 1, 9)) + name


# A central came or went, or there is something else to advertise, or the radio did not do what it
# had to: then the central is given up, if there is one.
def look_after(link, given_up):
    unwanted = link.unwanted
    if unwanted is not None:
        link.unwanted = None
        _end(link, unwanted)
    central = link.central
    if given_up and central is not None and not link.is_new:
        link.hellos = 0
        _end(link, central)
    elif not link.is_leaving and (central is None or link.broadcasts):
        try:
            link.radio.gap_advertise(
                _ADVERTISE_US,
                adv_data=link.advert,
                resp_data=link.response,
                connectable=central is None,
            )
        except OSError:  # busy: again, after a while
            link.refused_ms = clock.now_ms()


# No central is to come, and none is to stay unless it is `kept` for a moment.
def leave(link, kept):
    link.is_leaving = True
    link.radio.gap_advertise(None)
    if not kept and link.central is not None:
        _end(link, link.central)


def _end(link, connection):
    try:
        link.radio.gap_disconnect(connection)
    except OSError:  # it has gone
        pass

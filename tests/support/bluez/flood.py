"""Strangers who change their properties without end: `python -m tests.support.bluez.flood`.

A process of its own, so that what it costs to make the signals is not taken for what it costs to
take them. It paces itself, and sends a number that is given.
"""

import asyncio
import sys
from collections.abc import Sequence

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from tests.support.bluez.objects import PROPERTIES
from tests.support.bluez.remote import DEVICE

A_TURN = 50
"""Signals sent in one go, before the bus is asked whether it has read them: a socket takes some 270
small messages, and dbus-fast gives up a connection whose socket is full."""


async def flood(bus_address: str, signals: int, rate_hz: float, paths: Sequence[str]) -> None:
    """Send so many PropertiesChanged of devices, each in its turn."""
    bus = await MessageBus(bus_address).connect()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for first in range(0, signals, A_TURN):
        for number in range(first, first + A_TURN):
            await bus.send(_signal(paths[number % len(paths)], number))
        await bus.call(ping())
        await asyncio.sleep(began_s + (first + A_TURN) / rate_hz - loop.time())
    bus.disconnect()
    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast's


def ping() -> Message:
    """Return a question to the bus; it answers when it has read all that was sent before."""
    return Message(
        destination="org.freedesktop.DBus",
        path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus.Peer",
        member="Ping",
    )


def _signal(path: str, number: int) -> Message:
    changed = {
        "RSSI": Variant("n", -40 - number % 50),
        "ManufacturerData": Variant("a{qv}", {0x004C: Variant("ay", number.to_bytes(8, "big"))}),
    }
    return Message(
        message_type=MessageType.SIGNAL,
        path=path,
        interface=PROPERTIES,
        member="PropertiesChanged",
        signature="sa{sv}as",
        body=[DEVICE, changed, []],
    )


if __name__ == "__main__":
    _, address, total, rate, *devices = sys.argv
    asyncio.run(flood(address, int(total), float(rate), devices))

"""A look at BlueZ that changes nothing: which adapters it has, and whether they hear anybody."""

import asyncio
from typing import Any

from dbus_fast import Message, MessageType, Variant

from gateway.errors import LinkError
from gateway.links.ble_adapter import (
    ADAPTER,
    BLUEZ,
    BUS_ERRORS,
    CALL_S,
    OBJECTS,
    PROPERTIES,
    call,
    listen,
    system_bus,
)

_DEVICE = "org.bluez.Device1"
_SIGNALS = (
    f"sender='{BLUEZ}',interface='{OBJECTS}',member='InterfacesAdded'",
    f"sender='{BLUEZ}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{_DEVICE}'",
)


async def adapters() -> dict[str, bool]:
    """Return BlueZ's adapters by name, and whether each is switched on.

    Raises:
        LinkError: there is no D-Bus, no bluetoothd, or it does not let us.
    """
    try:
        async with system_bus() as bus:
            try:
                reply = await call(bus, BLUEZ, "/", OBJECTS, "GetManagedObjects")
            except TimeoutError as exc:
                raise LinkError(f"bluetoothd does not answer within {CALL_S:g} s") from exc
    except BUS_ERRORS as exc:
        raise LinkError(f"no D-Bus ({exc})") from exc
    objects: dict[str, dict[str, dict[str, Variant]]] = reply.body[0]
    return {
        path.rpartition("/")[2]: bool(interfaces[ADAPTER]["Powered"].value)
        for path, interfaces in sorted(objects.items())
        if ADAPTER in interfaces
    }


async def heard(adapter: str, for_s: float) -> int:
    """Return how many devices an adapter hears within so long.

    One client of BlueZ's discovery more: others' scans go on, and it ends with our connection.

    Raises:
        LinkError: it cannot scan.
    """
    path = f"/org/bluez/{adapter}"
    devices: set[str] = set()

    def take(message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        body: list[Any] = message.body
        if message.member == "InterfacesAdded" and _DEVICE in body[1]:
            devices.add(body[0])
        elif message.member == "PropertiesChanged" and body[0] == _DEVICE and "RSSI" in body[1]:
            devices.add(message.path or "")

    try:
        async with system_bus() as bus:
            bus.add_message_handler(take)
            for signal in _SIGNALS:
                await listen(bus, signal)
            wanted = {"Transport": Variant("s", "le"), "DuplicateData": Variant("b", True)}
            await call(bus, BLUEZ, path, ADAPTER, "SetDiscoveryFilter", "a{sv}", [wanted])
            await call(bus, BLUEZ, path, ADAPTER, "StartDiscovery")
            await asyncio.sleep(for_s)
            await call(bus, BLUEZ, path, ADAPTER, "StopDiscovery")
    except BUS_ERRORS as exc:
        raise LinkError(f"D-Bus: {exc or 'no answer'}") from exc
    return sum(device.startswith(f"{path}/") for device in devices)

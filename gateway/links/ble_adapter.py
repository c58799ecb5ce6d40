"""The adapter itself, as BlueZ shows it on D-Bus: is it still there, switch it off and on.

bleak tells nobody that the adapter went or that bluetoothd started anew: its scan hears nothing
from then on. So its signals are listened to here, on a bus connection of our own.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio.message_bus import MessageBus
from dbus_fast.errors import DBusFastError

from gateway.errors import LinkError
from gateway.links.ble_recovery import Remedy
from gateway.log_fields import BLUETOOTH

_log = logging.getLogger(__name__)

ADAPTERS: Final = Path("/sys/class/bluetooth")
"""Where the kernel lists its adapters."""

CALL_S: Final = 10.0
"""A bus, or bluetoothd, may stall; no call waits longer."""

RESET_S: Final = 60.0
"""bluetooth-auto-recovery waits for a USB device to come back."""

OFF_S: Final = 2.0
"""How long an adapter stays off. Source: bluetooth-auto-recovery, POWER_OFF_TIME."""

BUS_ERRORS: Final = (DBusFastError, OSError, EOFError, TimeoutError)
"""What a connection to the bus may raise."""

BLUEZ = "org.bluez"
ADAPTER = "org.bluez.Adapter1"
_DEVICE = "org.bluez.Device1"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
_DAEMON = "org.freedesktop.DBus"

_SIGNALS = (
    f"sender='{_DAEMON}',interface='{_DAEMON}',member='NameOwnerChanged',arg0='{BLUEZ}'",
    f"sender='{BLUEZ}',interface='{OBJECTS}',member='InterfacesRemoved'",
    f"sender='{BLUEZ}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{ADAPTER}'",
)
"""What says that a scan has ended: neither adverts nor connections are among it."""

_HCI = re.compile(r"hci(\d+)")


class BluezAdapter:
    """One adapter of BlueZ; or, with an empty name, whichever bleak chose."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def lost(self) -> str:
        """Return, once it is gone or switched off, why; while it is there, wait."""
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def take(message: Message) -> None:
            reason = self._reason(message)
            if reason and not ended.done():
                ended.set_result(reason)

        try:
            async with system_bus() as bus:
                bus.add_message_handler(take)
                for signal in _SIGNALS:
                    await listen(bus, signal)
                found = await self._adapters(bus)  # what happened before, no signal told
                if not any(_is_powered(properties) for _, properties in found):
                    return "the adapter went as the scan began"
                async with asyncio.TaskGroup() as tasks:
                    watching = tasks.create_task(_closed(bus), name="bus")
                    ends: list[asyncio.Future[Any]] = [watching, ended]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    watching.cancel()
        except (LinkError, *BUS_ERRORS) as exc:
            return f"no D-Bus ({exc})"
        return ended.result() if ended.done() else "the D-Bus connection was lost"

    async def mend(self, remedy: Remedy) -> None:
        """Do what may help, and wait until it is done; it tells no more than that it was tried."""
        try:
            if remedy is Remedy.RESET and await self._reset():
                return
            if remedy is not Remedy.NONE:
                await self._power_cycle()
        except (LinkError, *BUS_ERRORS) as exc:
            _log.debug("%s: %s did not help: %s", BLUETOOTH, remedy.value, exc)

    async def forget(self, address: str) -> None:
        """Have BlueZ forget what it heard of a device, unless it is connected or paired."""
        try:
            async with system_bus() as bus:
                path, _ = await self._find(bus)
                device = f"{path}/dev_{address.replace(':', '_')}"
                reply = await call(bus, BLUEZ, device, PROPERTIES, "GetAll", "s", [_DEVICE])
                its: dict[str, Variant] = reply.body[0]
                if not any(name in its and its[name].value for name in ("Connected", "Paired")):
                    await call(bus, BLUEZ, path, ADAPTER, "RemoveDevice", "o", [device])
        except (LinkError, *BUS_ERRORS) as exc:
            _log.debug("%s: %s is not forgotten: %s", BLUETOOTH, address, exc)

    async def _power_cycle(self) -> None:
        async with system_bus() as bus:
            path, properties = await self._find(bus)
            if _is_powered(properties):
                await _set_powered(bus, path, is_on=False)
                await asyncio.sleep(OFF_S)
            await _set_powered(bus, path, is_on=True)

    async def _reset(self) -> bool:
        """Reset it with bluetooth-auto-recovery, if that is there and may; say whether it did."""
        try:
            from bluetooth_auto_recovery import recover_adapter  # noqa: PLC0415  # optional, slow
        except ImportError:
            return False
        async with system_bus() as bus:
            path, properties = await self._find(bus)
        number, address = _HCI.search(path), properties.get("Address")
        if number is None or address is None:
            return False
        try:
            async with asyncio.timeout(RESET_S):
                return await recover_adapter(int(number[1]), address.value, gone_silent=True)
        except Exception as exc:  # noqa: BLE001  # without CAP_NET_ADMIN, say; it raises anything
            _log.debug("%s: no reset of %s: %r", BLUETOOTH, path, exc)
            return False

    async def _find(self, bus: MessageBus) -> tuple[str, dict[str, Variant]]:
        for found in await self._adapters(bus):
            return found
        raise LinkError("there is no adapter")

    async def _adapters(self, bus: MessageBus) -> list[tuple[str, dict[str, Variant]]]:
        """Return those that may be meant, with their properties, by path."""
        reply = await call(bus, BLUEZ, "/", OBJECTS, "GetManagedObjects")
        objects: dict[str, dict[str, dict[str, Variant]]] = reply.body[0]
        return [
            (path, objects[path][ADAPTER])
            for path in sorted(objects)
            if ADAPTER in objects[path] and self._is_it(path)
        ]

    def _is_it(self, path: str) -> bool:
        return not self._name or path == f"/org/bluez/{self._name}"

    def _reason(self, message: Message) -> str:
        """Return what a signal says of the end of the scan; empty when nothing."""
        if message.message_type is not MessageType.SIGNAL:
            return ""
        body: list[Any] = message.body
        match message.member:
            case "NameOwnerChanged" if body[0] == BLUEZ:
                return "bluetoothd ended" if not body[2] else "bluetoothd started anew"
            case "InterfacesRemoved" if ADAPTER in body[1] and self._is_it(body[0]):
                return "the adapter is gone"
            case "PropertiesChanged" if body[0] == ADAPTER and self._is_it(message.path or ""):
                powered = body[1].get("Powered")
                if powered is not None and not powered.value:
                    return "the adapter was switched off"
        return ""


@asynccontextmanager
async def system_bus() -> AsyncIterator[MessageBus]:
    """Connect to the system bus for the length of the block."""
    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        async with asyncio.timeout(CALL_S):
            await bus.connect()
        yield bus
    finally:
        bus.disconnect()  # also where it never connected: it holds a descriptor


def _is_powered(properties: dict[str, Variant]) -> bool:
    powered = properties.get("Powered")
    return powered is not None and bool(powered.value)


async def _closed(bus: MessageBus) -> None:
    try:
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
    except BUS_ERRORS as exc:
        _log.debug("%s: D-Bus: %s", BLUETOOTH, exc)


async def listen(bus: MessageBus, signal: str) -> None:
    """Have the bus send us a kind of signal."""
    rule = [f"type='signal',{signal}"]
    await call(bus, _DAEMON, "/org/freedesktop/DBus", _DAEMON, "AddMatch", "s", rule)


async def _set_powered(bus: MessageBus, path: str, *, is_on: bool) -> None:
    value = Variant("b", is_on)
    await call(bus, BLUEZ, path, PROPERTIES, "Set", "ssv", [ADAPTER, "Powered", value])


async def call(  # noqa: PLR0913, PLR0917  # the parts of a D-Bus call
    bus: MessageBus,
    destination: str,
    path: str,
    interface: str,
    member: str,
    signature: str = "",
    body: list[Any] | None = None,
) -> Message:
    """Return the answer to a call.

    Raises:
        LinkError: it is an error; TimeoutError: there is none.
    """
    message = Message(
        destination=destination,
        path=path,
        interface=interface,
        member=member,
        signature=signature,
        body=body or [],
    )
    async with asyncio.timeout(CALL_S):
        reply = await bus.call(message)
    if reply.message_type is MessageType.ERROR:
        raise LinkError(f"{member}: {reply.error_name}")
    return reply

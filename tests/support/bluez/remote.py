"""org.bluez.Device1 and the GATT objects below it."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dbus_fast import DBusError, Message, Variant

from tests.support.bluez.adverts import Heard
from tests.support.bluez.faults import Faults
from tests.support.bluez.objects import ObjectTree, Properties
from tests.support.bluez.peripheral import Characteristic, Ends, GattError, Peripheral, Service

DEVICE = "org.bluez.Device1"
GATT_SERVICE = "org.bluez.GattService1"
GATT_CHARACTERISTIC = "org.bluez.GattCharacteristic1"
FAILED = "org.bluez.Error.Failed"

ATT_HEADER_BYTES = 3
"""Of a write command or a notification. Core Specification, Vol 3, Part F, 3.4."""


RSSI_THRESHOLD_DB = 8
"""A smaller change is not told. BlueZ, src/device.c, device_set_rssi()."""


class Host(Protocol):
    """What a device needs of bluetoothd."""

    objects: ObjectTree
    faults: Faults
    peripherals: dict[str, Peripheral]

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run something as long as bluetoothd lives."""


def answer(call: Message, signature: str = "", *body: object) -> Message:
    """Return the reply to a call."""
    return Message.new_method_return(call, signature, list(body))


@dataclass
class _Exported:
    """A characteristic on the bus."""

    path: str
    characteristic: Characteristic
    listeners: set[str] = field(default_factory=set)
    """Bus names with a session of StartNotify."""
    notify_end: socket.socket | None = None
    """Of AcquireNotify."""
    write_end: socket.socket | None = None
    """Of AcquireWrite."""
    is_writing: bool = False


def _is_as_before(name: str, known: Variant | None, fresh: Variant) -> bool:
    if name == "RSSI" and known is not None:
        return bool(abs(known.value - fresh.value) < RSSI_THRESHOLD_DB)
    return known == fresh


class RemoteDevice:
    """One device that was heard."""

    def __init__(self, host: Host, adapter_path: str, heard: Heard) -> None:
        """Export it."""
        self.address = heard.address
        self.path = f"{adapter_path}/dev_{heard.address.replace(':', '_')}"
        self._host = host
        self._characteristics: dict[str, _Exported] = {}
        self._is_connected = False
        self._connecting: asyncio.Task[None] | None = None
        fresh: Properties = {
            "Address": Variant("s", heard.address),
            "AddressType": Variant("s", heard.address_type),
            "Alias": Variant("s", heard.address.replace(":", "-")),
            "Adapter": Variant("o", adapter_path),
            "UUIDs": Variant("as", []),
            **{name: Variant("b", False) for name in ("Paired", "Bonded", "Trusted", "Blocked")},
            **{name: Variant("b", False) for name in ("Connected", "ServicesResolved")},
        }
        host.objects.add(self.path, {DEVICE: fresh | heard.properties()})

    def hear(self, heard: Heard, *, each_is_told: bool) -> None:
        """Tell of another advertisement: of what is as it was, only if that is wanted.

        That is DuplicateData, which also has BlueZ forget what was in the advertisement before.
        """
        known = self._host.objects.objects[self.path][DEVICE]
        fresh = heard.properties()
        if not each_is_told:
            # What was heard under another key stays: nobody can tell which of them is new.
            for name in {"ManufacturerData", "ServiceData"} & fresh.keys() & known.keys():
                merged = {**known[name].value, **fresh[name].value}
                fresh[name] = Variant(fresh[name].signature, merged)
        if "UUIDs" in fresh:
            uuids = [*known["UUIDs"].value, *fresh["UUIDs"].value]
            fresh["UUIDs"] = Variant("as", list(dict.fromkeys(uuids)))
        told = {
            name: value
            for name, value in fresh.items()
            if each_is_told or not _is_as_before(name, known.get(name), value)
        }
        self._host.objects.change(self.path, DEVICE, told)

    def be_unheard(self) -> None:
        """Forget how strong it was: the discovery has ended."""
        self._host.objects.change(self.path, DEVICE, {}, ("RSSI", "TxPower"))

    def methods(self) -> dict[str, Callable[[Message], Coroutine[None, None, Message]]]:
        """Return what can be called on the device itself."""
        return {
            "Connect": self._connect,
            "Disconnect": self._disconnect,
            "Pair": self._pair,
        }

    def characteristic_methods(
        self,
    ) -> dict[str, Callable[[Message], Coroutine[None, None, Message]]]:
        """Return what can be called on one of its characteristics."""
        return {
            "WriteValue": self._write_value,
            "StartNotify": self._start_notify,
            "StopNotify": self._stop_notify,
            "AcquireNotify": self._acquire_notify,
            "AcquireWrite": self._acquire_write,
        }

    async def end(self) -> None:
        """End the connection without a signal: bluetoothd or the adapter is gone."""
        for exported in self._characteristics.values():
            _close_ends(exported)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._is_connected:
            self._is_connected = False
            await self._peripheral().disconnect()

    def forget_client(self, name: str) -> None:
        """End the sessions of a client that left the bus; the connection stays, as BlueZ's does."""
        for exported in self._characteristics.values():
            if exported.listeners == {name} and self._is_connected:
                self._host.spawn(self._unsubscribe(exported))
            exported.listeners.discard(name)

    async def hang_up(self) -> None:
        """End the connection from this side; harmless without one."""
        if self._is_connected:
            await self._peripheral().disconnect()
            self._lost()

    # -- org.bluez.Device1

    async def _connect(self, call: Message) -> Message:
        if self._is_connected:
            raise DBusError("org.bluez.Error.AlreadyConnected", "Already Connected")
        if self._connecting is not None:
            raise DBusError("org.bluez.Error.InProgress", "In Progress")
        await self._be_connected()
        return answer(call)

    async def _be_connected(self) -> None:
        """Connect; Disconnect of another caller ends the attempt."""
        self._connecting = asyncio.current_task()
        try:
            services = await self._peripheral().connect(Ends(self._notified, self._lost))
        except (GattError, KeyError):
            # Nobody answers: the kernel tries until it is told to stop.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise DBusError(FAILED, "le-connection-abort-by-local") from None
        except asyncio.CancelledError:
            raise DBusError(FAILED, "le-connection-abort-by-local") from None
        finally:
            self._connecting = None
        self._is_connected = True
        self._change("Connected", Variant("b", True))
        if self._host.faults.unresolved > 0:
            self._host.faults.unresolved -= 1
        else:
            self._host.spawn(self._resolve(services))

    async def _resolve(self, services: Sequence[Service]) -> None:
        """Export the services, after the reply to Connect."""
        if not self._is_connected:
            return
        for service in services:
            path = f"{self.path}/service{service.handle:04x}"
            if path not in self._host.objects.objects:
                self._export(path, service)
        uuids = [service.uuid for service in services]
        known = self._host.objects.objects[self.path][DEVICE]["UUIDs"].value
        self._change("UUIDs", Variant("as", list(dict.fromkeys([*known, *uuids]))))
        self._change("ServicesResolved", Variant("b", True))

    def _export(self, path: str, service: Service) -> None:
        add = self._host.objects.add
        properties: Properties = {
            "UUID": Variant("s", service.uuid),
            "Primary": Variant("b", True),
            "Device": Variant("o", self.path),
            "Includes": Variant("ao", []),
        }
        add(path, {GATT_SERVICE: properties})
        for characteristic in service.characteristics:
            below = f"{path}/char{characteristic.handle:04x}"
            flags = characteristic.flags
            properties = {
                "UUID": Variant("s", characteristic.uuid),
                "Service": Variant("o", path),
                "Value": Variant("ay", b""),
                "Flags": Variant("as", list(flags)),
                "MTU": Variant("q", self._peripheral().mtu),
            }
            if "notify" in flags:
                properties |= {
                    name: Variant("b", False) for name in ("Notifying", "NotifyAcquired")
                }
            if "write-without-response" in flags:
                properties["WriteAcquired"] = Variant("b", False)
            self._characteristics[below] = _Exported(below, characteristic)
            add(below, {GATT_CHARACTERISTIC: properties})

    async def _disconnect(self, call: Message) -> Message:
        if self._connecting is not None:
            self._connecting.cancel()
        await self.hang_up()
        return answer(call)

    async def _pair(self, call: Message) -> Message:
        """Pair as two do that can neither show nor ask anything."""
        if not self._is_connected:
            await self._be_connected()
        try:
            await self._peripheral().pair()
        except GattError:
            raise DBusError(
                "org.bluez.Error.AuthenticationFailed", "Authentication Failed"
            ) from None
        self._change("Bonded", Variant("b", True))
        self._change("Paired", Variant("b", True))
        return answer(call)

    # -- org.bluez.GattCharacteristic1

    async def _write_value(self, call: Message) -> Message:
        exported, peripheral = self._connected(call)
        value, options = call.body
        if exported.write_end is not None:
            raise DBusError("org.bluez.Error.NotPermitted", "Write acquired")
        if exported.is_writing:
            raise DBusError("org.bluez.Error.InProgress", "In Progress")
        response = "type" in options and options["type"].value == "request"
        if len(value) > peripheral.mtu - ATT_HEADER_BYTES:
            raise DBusError(FAILED, "Failed to initiate write")
        exported.is_writing = response
        try:
            await peripheral.write(exported.characteristic.handle, value, response=response)
        except GattError as exc:
            raise DBusError(exc.error, str(exc)) from None
        finally:
            exported.is_writing = False
        return answer(call)

    async def _start_notify(self, call: Message) -> Message:
        exported, peripheral = self._connected(call)
        if "notify" not in exported.characteristic.flags:
            raise DBusError("org.bluez.Error.NotSupported", "Operation is not supported")
        if exported.notify_end is not None:
            raise DBusError("org.bluez.Error.NotPermitted", "Notify acquired")
        is_first = not exported.listeners
        exported.listeners.add(call.sender or "")
        if is_first:
            await self._subscribe(exported, peripheral)
            self._change_of(exported, "Notifying", Variant("b", True))
        return answer(call)

    async def _stop_notify(self, call: Message) -> Message:
        exported, peripheral = self._connected(call)
        if call.sender not in exported.listeners:
            raise DBusError(FAILED, "No notify session started")
        exported.listeners.discard(call.sender)
        if not exported.listeners:
            await peripheral.subscribe(exported.characteristic.handle, wanted=False)
            self._change_of(exported, "Notifying", Variant("b", False))
        return answer(call)

    async def _acquire_notify(self, call: Message) -> Message:
        exported, peripheral = self._connected(call)
        if exported.notify_end is not None or exported.listeners:
            raise DBusError("org.bluez.Error.NotPermitted", "Notify acquired")
        exported.notify_end, given = _pair_of_ends()
        with given:
            await self._subscribe(exported, peripheral)
            self._change_of(exported, "NotifyAcquired", Variant("b", True))
            return _answer_with(call, given, peripheral.mtu)

    async def _acquire_write(self, call: Message) -> Message:
        exported, peripheral = self._connected(call)
        if exported.write_end is not None:
            raise DBusError("org.bluez.Error.NotPermitted", "Write acquired")
        kept, given = _pair_of_ends()
        exported.write_end = kept
        loop = asyncio.get_running_loop()
        loop.add_reader(kept, self._written, exported)
        with given:
            return _answer_with(call, given, peripheral.mtu)

    def _written(self, exported: _Exported) -> None:
        """Pass on what a client wrote into its end of AcquireWrite."""
        assert exported.write_end is not None
        value = exported.write_end.recv(1024)
        if not value:
            _close_ends(exported)
            return
        handle = exported.characteristic.handle
        self._host.spawn(self._peripheral().write(handle, value, response=False))

    async def _subscribe(self, exported: _Exported, peripheral: Peripheral) -> None:
        try:
            await peripheral.subscribe(exported.characteristic.handle, wanted=True)
        except GattError as exc:
            exported.listeners.clear()
            raise DBusError(exc.error, str(exc)) from None

    async def _unsubscribe(self, exported: _Exported) -> None:
        with contextlib.suppress(GattError):  # it has just disconnected
            await self._peripheral().subscribe(exported.characteristic.handle, wanted=False)
        self._change_of(exported, "Notifying", Variant("b", False))

    # -- what comes from the peripheral

    def _notified(self, handle: int, value: bytes) -> None:
        for exported in self._characteristics.values():
            if exported.characteristic.handle != handle:
                continue
            if exported.notify_end is not None:
                with contextlib.suppress(OSError):  # the client closed its end
                    exported.notify_end.send(value)
            elif exported.listeners:
                self._change_of(exported, "Value", Variant("ay", value))

    def _lost(self) -> None:
        """Tell that the connection is gone; the services stay exported, as BlueZ's do."""
        if not self._is_connected:
            return
        self._is_connected = False
        for exported in self._characteristics.values():
            _close_ends(exported)
            exported.listeners.clear()
        self._change("ServicesResolved", Variant("b", False))
        self._change("Connected", Variant("b", False))

    # --

    def _peripheral(self) -> Peripheral:
        return self._host.peripherals[self.address]

    def _connected(self, call: Message) -> tuple[_Exported, Peripheral]:
        if not self._is_connected:
            raise DBusError(FAILED, "Not connected")
        return self._characteristics[call.path or ""], self._peripheral()

    def _change(self, name: str, value: Variant) -> None:
        if self.path in self._host.objects.objects:
            self._host.objects.change(self.path, DEVICE, {name: value})

    def _change_of(self, exported: _Exported, name: str, value: Variant) -> None:
        if exported.path in self._host.objects.objects:
            self._host.objects.change(exported.path, GATT_CHARACTERISTIC, {name: value})


def _pair_of_ends() -> tuple[socket.socket, socket.socket]:
    """Return the daemon's end and the client's: each message is one value."""
    kept, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept.setblocking(False)
    return kept, given


def _answer_with(call: Message, given: socket.socket, mtu: int) -> Message:
    """Return the reply that hands over an end; who sends it closes the descriptor."""
    return Message.new_method_return(call, "hq", [0, mtu], [given.detach()])


def _close_ends(exported: _Exported) -> None:
    if exported.write_end is not None:
        asyncio.get_running_loop().remove_reader(exported.write_end)
        exported.write_end.close()
        exported.write_end = None
    if exported.notify_end is not None:
        exported.notify_end.close()
        exported.notify_end = None

"""The name org.bluez on a bus, and who answers there."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine

from dbus_fast import DBusError, ErrorType, Message, MessageType
from dbus_fast.aio import MessageBus

from tests.support.bluez.adapter import ADAPTER, MONITOR_MANAGER, Adapter, Methods
from tests.support.bluez.adverts import Heard
from tests.support.bluez.faults import Cure, Faults
from tests.support.bluez.objects import OBJECT_MANAGER, PROPERTIES, ObjectTree
from tests.support.bluez.peripheral import Peripheral
from tests.support.bluez.remote import DEVICE, GATT_CHARACTERISTIC, RemoteDevice, answer

NAME = "org.bluez"
ADAPTER_PATH = "/org/bluez/hci77"
"""No machine has such an adapter: what is meant for this one must not reach a real one."""

_BUS = "org.freedesktop.DBus"
_WATCHED = (
    f"type='signal',sender='{_BUS}',interface='{_BUS}',member='NameOwnerChanged'",
    f"type='signal',interface='{OBJECT_MANAGER}',member='InterfacesAdded'",
)


class Bluetoothd:
    """A bluetoothd with one adapter, which can be killed, started and pulled out."""

    def __init__(self, bus_address: str) -> None:
        """Prepare, without starting."""
        self.faults = Faults()
        self.peripherals: dict[str, Peripheral] = {}
        """Who answers to a connection, by address."""
        self.calls: Counter[str] = Counter()
        """How often each method of org.bluez was called."""
        self.adapter: Adapter | None = None
        self.objects = ObjectTree(self._send)
        self._bus_address = bus_address
        self._bus: MessageBus | None = None
        self._tasks: asyncio.TaskGroup
        self._running: set[asyncio.Task[None]] = set()
        self._has_adapter = True
        self._moved = asyncio.Event()
        self._unsent: list[Message] = []
        """What it will say when it goes on."""
        self._goes = asyncio.Event()
        self._goes.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be there for the length of the block, started at its begin."""
        async with asyncio.TaskGroup() as self._tasks:
            await self.start()
            try:
                yield
            finally:
                await self.kill()

    async def start(self) -> None:
        """Take the name, then export what there is, as bluetoothd does."""
        self.faults.cured_by(Cure.NEW_DAEMON)
        self._bus = await MessageBus(self._bus_address, negotiate_unix_fd=True).connect()
        self._bus.add_message_handler(self._on_message)
        for rule in _WATCHED:
            await self._bus.call(
                Message(
                    destination=_BUS,
                    path="/org/freedesktop/DBus",
                    interface=_BUS,
                    member="AddMatch",
                    signature="s",
                    body=[rule],
                )
            )
        await self._bus.request_name(NAME)
        self.objects.add("/org/bluez", {"org.bluez.AgentManager1": {}})
        if self._has_adapter:
            self.plug_in()

    async def kill(self) -> None:
        """Vanish from the bus without a word; harmless if it is not running."""
        bus, self._bus = self._bus, None
        for task in self._running:
            task.cancel()
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            await adapter.end()
        self.objects.objects.clear()
        if bus is not None:
            bus.disconnect()
            with contextlib.suppress(Exception):  # what ended the bus before is no news
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast's
        self._moved.set()

    def hang(self) -> None:
        """Stand still, as a process does that is stopped: nothing is answered, nothing is told."""
        self._goes.clear()

    def go_on(self) -> None:
        """Say and do all that waited meanwhile, also what nobody waits for any more."""
        self._goes.set()
        unsent, self._unsent = self._unsent, []
        for message in unsent:
            self._send(message)

    async def pull_out(self) -> None:
        """Remove the adapter, as when it is unplugged or its firmware crashes."""
        self._has_adapter = False
        adapter, self.adapter = self.adapter, None
        assert adapter is not None
        await adapter.end()
        self.objects.remove(ADAPTER_PATH)
        self._moved.set()

    def plug_in(self) -> None:
        """Put the adapter back."""
        self._has_adapter = True
        self.adapter = Adapter(self, ADAPTER_PATH, self._send)
        self._moved.set()

    @property
    def listens(self) -> bool:
        """Whether a client would hear what is on the air."""
        return self.adapter is not None and self.adapter.listens

    def place(self, address: str, peripheral: Peripheral) -> None:
        """Have somebody there who answers when an address is connected to."""
        self.peripherals[address] = peripheral

    def hear(self, heard: Heard) -> None:
        """Have an advertisement on the air."""
        if self.adapter is not None:
            self.adapter.hear(heard)

    async def until(self, claim: Callable[[], bool]) -> None:
        """Return once a claim about this bluetoothd holds; looked at after each call."""
        while not claim():
            self._moved.clear()
            await self._moved.wait()

    async def flush(self) -> None:
        """Return once the bus has read all signals: so many in one go fill a socket."""
        if self._bus is not None:
            await self._bus.call(
                Message(
                    destination=_BUS,
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus.Peer",
                    member="Ping",
                )
            )

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run something as long as bluetoothd lives."""
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _send(self, message: Message) -> None:
        if not self._goes.is_set():
            self._unsent.append(message)
        elif self._bus is not None and self._bus.connected:
            _ = self._bus.send(message)

    def _on_message(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL:
            self._on_signal(message)
        elif message.message_type is MessageType.METHOD_CALL:
            self.calls[message.member or ""] += 1
            self._moved.set()
            self.spawn(self._serve(message))
            return True
        return False

    def _on_signal(self, message: Message) -> None:
        if self.adapter is None:
            return
        if message.member == "NameOwnerChanged":
            name, _, new_owner = message.body
            if not new_owner:
                self.adapter.forget_client(name)
        elif message.member == "InterfacesAdded":
            self.adapter.client_exported(message)
        self._moved.set()

    async def _serve(self, call: Message) -> None:
        """Answer a call, unless it is one that gets no answer."""
        await self._goes.wait()
        member = call.member or ""
        is_swallowed = self.faults.is_swallowed(member)
        try:
            self.faults.check(member)
            reply = await self._method(call)(call)
        except DBusError as exc:
            reply = Message.new_error(call, exc.type, exc.text)
        if not is_swallowed and self._bus is not None:
            with contextlib.suppress(OSError):  # the bus has ended
                await self._bus.send(reply)
        for descriptor in reply.unix_fds:
            os.close(descriptor)
        self._moved.set()

    def _method(self, call: Message) -> Callable[[Message], Coroutine[None, None, Message]]:
        path, interface, member = call.path or "", call.interface or "", call.member or ""
        if path != "/" and path not in self.objects.objects:
            raise DBusError(ErrorType.UNKNOWN_OBJECT, f"No object at {path}")
        found = self._methods(path, interface).get(member)
        if found is None:
            raise DBusError(ErrorType.UNKNOWN_METHOD, f"{interface} has no {member} at {path}")
        return found

    def _methods(self, path: str, interface: str) -> Methods:
        if interface == OBJECT_MANAGER:
            return {"GetManagedObjects": self._managed_objects}
        if interface == PROPERTIES:
            return {"Get": self._get, "Set": self._set, "GetAll": self._get_all}
        if self.adapter is None or interface not in self.objects.objects[path]:
            return {}
        if interface in {DEVICE, GATT_CHARACTERISTIC}:
            device = self._device_at(self.adapter, path)
            return device.methods() if interface == DEVICE else device.characteristic_methods()
        own = {ADAPTER: self.adapter.methods(), MONITOR_MANAGER: self.adapter.monitor_methods()}
        return own.get(interface, {})

    @staticmethod
    def _device_at(adapter: Adapter, path: str) -> RemoteDevice:
        devices = adapter.devices.values()
        return next(each for each in devices if f"{path}/".startswith(f"{each.path}/"))

    async def _managed_objects(self, call: Message) -> Message:
        return answer(call, "a{oa{sa{sv}}}", self.objects.objects)

    async def _get(self, call: Message) -> Message:
        interface, name = call.body
        try:
            return answer(call, "v", self.objects.objects[call.path or ""][interface][name])
        except KeyError:
            raise DBusError(ErrorType.UNKNOWN_PROPERTY, f"no {interface}.{name}") from None

    async def _get_all(self, call: Message) -> Message:
        return answer(call, "a{sv}", self.objects.objects[call.path or ""].get(call.body[0], {}))

    async def _set(self, call: Message) -> Message:
        interface, name, value = call.body
        if (interface, name) == (ADAPTER, "Powered") and self.adapter is not None:
            await self.adapter.power(on=value.value)
        else:
            self.objects.change(call.path or "", interface, {name: value})
        return answer(call)

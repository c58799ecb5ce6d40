"""org.bluez.Adapter1: discovery sessions, advertisement monitors, power."""

from collections.abc import Callable, Coroutine

from dbus_fast import DBusError, Message, MessageFlag, Variant

from tests.support.bluez.adverts import Heard
from tests.support.bluez.faults import Cure
from tests.support.bluez.remote import FAILED, Host, RemoteDevice, answer

ADAPTER = "org.bluez.Adapter1"
MONITOR_MANAGER = "org.bluez.AdvertisementMonitorManager1"
MONITOR = "org.bluez.AdvertisementMonitor1"

Patterns = list[tuple[int, int, bytes]]
Methods = dict[str, Callable[[Message], Coroutine[None, None, Message]]]


class Adapter:
    """One controller, with the devices it has heard."""

    def __init__(self, host: Host, path: str, tell: Callable[[Message], None]) -> None:
        """Export it, powered; `tell` sends a message to a client."""
        self.path = path
        self.devices: dict[str, RemoteDevice] = {}
        """By address."""
        self.sessions: dict[str, dict[str, Variant]] = {}
        """Who discovers, by bus name, with the filter."""
        self.monitors: dict[tuple[str, str], Patterns | None] = {}
        """By bus name and path; None until the client has exported it."""
        self._filters: dict[str, dict[str, Variant]] = {}
        self._host = host
        self._tell = tell
        adapter = {
            "Address": Variant("s", "00:1A:7D:DA:71:13"),
            "AddressType": Variant("s", "public"),
            "Name": Variant("s", "stand-in"),
            "Alias": Variant("s", "stand-in"),
            "Class": Variant("u", 0),
            "Powered": Variant("b", True),
            "PowerState": Variant("s", "on"),
            "Discovering": Variant("b", False),
            "UUIDs": Variant("as", []),
            "Roles": Variant("as", ["central", "peripheral"]),
        }
        interfaces = {ADAPTER: adapter}
        if host.faults.has_monitors:
            interfaces[MONITOR_MANAGER] = {
                "SupportedMonitorTypes": Variant("as", ["or_patterns"]),
                "SupportedFeatures": Variant("as", []),
            }
        host.objects.add(path, interfaces)

    @property
    def is_powered(self) -> bool:
        """Whether the controller is on."""
        return bool(self._host.objects.value(self.path, ADAPTER, "Powered"))

    @property
    def listens(self) -> bool:
        """Whether anybody wants to hear what is on the air."""
        active = any(patterns is not None for patterns in self.monitors.values())
        return self.is_powered and (bool(self.sessions) or active)

    def hear(self, heard: Heard) -> None:
        """Tell the clients of an advertisement, if any of them listens to it."""
        if self._host.faults.deaf_until is not None or not self.is_powered:
            return
        if not (self.sessions or self._is_monitored(heard)):
            return
        device = self.devices.get(heard.address)
        if device is None:
            self.devices[heard.address] = RemoteDevice(self._host, self.path, heard)
            return
        wanted = [each.get("DuplicateData") for each in self.sessions.values()]
        device.hear(heard, each_is_told=any(each is not None and each.value for each in wanted))

    async def forget(self, address: str) -> None:
        """Remove a device, as BlueZ does with one that is silent for 30 s."""
        device = self.devices.pop(address)
        await device.hang_up()
        await device.end()
        self._host.objects.remove(device.path)

    async def power(self, *, on: bool) -> None:
        """Switch the controller."""
        if on == self.is_powered:
            return
        if on:
            self._host.faults.cured_by(Cure.POWER_CYCLE)
        else:
            self.sessions.clear()
            self._tell_discovering()
            for device in self.devices.values():
                await device.hang_up()
        state = {"Powered": Variant("b", on), "PowerState": Variant("s", "on" if on else "off")}
        self._host.objects.change(self.path, ADAPTER, state)

    def forget_client(self, name: str) -> None:
        """End the sessions of a client that left the bus."""
        self._filters.pop(name, None)
        for key in [key for key in self.monitors if key[0] == name]:
            del self.monitors[key]
        if self.sessions.pop(name, None) is not None:
            self._tell_discovering()
        for device in self.devices.values():
            device.forget_client(name)

    def client_exported(self, signal: Message) -> None:
        """Begin with a monitor that was registered before and is an object now."""
        path, interfaces = signal.body
        key = (signal.sender or "", path)
        if key not in self.monitors or MONITOR not in interfaces:
            return
        self.monitors[key] = [
            (start, kind, bytes(content))
            for start, kind, content in interfaces[MONITOR]["Patterns"].value
        ]
        self._tell(
            Message(
                destination=signal.sender,
                path=path,
                interface=MONITOR,
                member="Activate",
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
        )

    async def end(self) -> None:
        """End all connections, without a signal."""
        for device in self.devices.values():
            await device.end()

    def methods(self) -> Methods:
        """Return what can be called on org.bluez.Adapter1."""
        return {
            "StartDiscovery": self._start_discovery,
            "StopDiscovery": self._stop_discovery,
            "SetDiscoveryFilter": self._set_discovery_filter,
            "RemoveDevice": self._remove_device,
        }

    def monitor_methods(self) -> Methods:
        """Return what can be called on org.bluez.AdvertisementMonitorManager1."""
        return {"RegisterMonitor": self._register, "UnregisterMonitor": self._unregister}

    async def _start_discovery(self, call: Message) -> Message:
        self._must_be_powered()
        sender = call.sender or ""
        if sender in self.sessions:
            raise DBusError("org.bluez.Error.InProgress", "Operation already in progress")
        self.sessions[sender] = self._filters.get(sender, {})
        self._host.faults.cured_by(Cure.NEW_SCAN)
        self._tell_discovering()
        return answer(call)

    async def _stop_discovery(self, call: Message) -> Message:
        self._must_be_powered()
        if self.sessions.pop(call.sender or "", None) is None:
            raise DBusError(FAILED, "No discovery started")
        self._tell_discovering()
        return answer(call)

    async def _set_discovery_filter(self, call: Message) -> Message:
        self._must_be_powered()
        self._filters[call.sender or ""] = call.body[0]
        return answer(call)

    async def _remove_device(self, call: Message) -> Message:
        for address, device in self.devices.items():
            if device.path == call.body[0]:
                await self.forget(address)
                return answer(call)
        raise DBusError("org.bluez.Error.DoesNotExist", "Does Not Exist")

    async def _register(self, call: Message) -> Message:
        key = (call.sender or "", call.body[0])
        if key in self.monitors:
            raise DBusError("org.bluez.Error.AlreadyExists", "Already Exists")
        self.monitors[key] = None
        return answer(call)

    async def _unregister(self, call: Message) -> Message:
        if self.monitors.pop((call.sender or "", call.body[0]), None) is None:
            raise DBusError("org.bluez.Error.DoesNotExist", "Does Not Exist")
        return answer(call)

    def _must_be_powered(self) -> None:
        if not self.is_powered:
            raise DBusError("org.bluez.Error.NotReady", "Resource Not Ready")

    def _is_monitored(self, heard: Heard) -> bool:
        wanted = [patterns for patterns in self.monitors.values() if patterns]
        return any(heard.matches(pattern) for patterns in wanted for pattern in patterns)

    def _tell_discovering(self) -> None:
        discovering = bool(self.sessions)
        if discovering == self._host.objects.value(self.path, ADAPTER, "Discovering"):
            return
        if not discovering:
            for device in self.devices.values():
                device.be_unheard()
        told = {"Discovering": Variant("b", discovering)}
        self._host.objects.change(self.path, ADAPTER, told)

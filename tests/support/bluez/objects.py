"""The objects on the bus: paths, their interfaces and properties, and the signals of changes."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from dbus_fast import Message, MessageType, Variant

OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PROPERTIES = "org.freedesktop.DBus.Properties"

Properties = dict[str, Variant]
Interfaces = dict[str, Properties]


class ObjectTree:
    """What org.freedesktop.DBus.ObjectManager tells of; each change is a signal."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        self.objects: dict[str, Interfaces] = {}
        self._emit = emit

    def add(self, path: str, interfaces: Interfaces) -> None:
        """Export an object."""
        self.objects[path] = interfaces
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, interfaces])

    def remove(self, path: str) -> None:
        """Take an object away, and before it those below it."""
        for each in [*self.below(path), path]:
            names = list(self.objects.pop(each))
            self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [each, names])

    def change(
        self,
        path: str,
        interface: str,
        changed: Mapping[str, Variant],
        invalidated: Iterable[str] = (),
    ) -> None:
        """Change properties of an object that is there; what is invalidated is gone."""
        properties = self.objects[path][interface]
        properties.update(changed)
        gone = [name for name in invalidated if properties.pop(name, None) is not None]
        if changed or gone:
            body = [interface, dict(changed), gone]
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

    def below(self, path: str) -> list[str]:
        """Return the paths below one, the deepest first."""
        return sorted((each for each in self.objects if each.startswith(f"{path}/")), reverse=True)

    def value(self, path: str, interface: str, name: str) -> object:
        """Return a property of an object that is there; None if it has no such property."""
        found = self.objects[path][interface].get(name)
        return None if found is None else found.value

    def _signal(
        self, path: str, interface: str, member: str, signature: str, body: Sequence[object]
    ) -> None:
        self._emit(
            Message(
                message_type=MessageType.SIGNAL,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )
        )

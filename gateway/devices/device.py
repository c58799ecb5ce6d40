"""One device as the registry knows it, and as it is kept; pure."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gateway.log_fields import of_device
from gateway.model import Description, slug
from gateway.store.described import description_of, document_of, lasting

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Declared:
    """What the configuration says of a device."""

    name: str = ""
    """It wins over every other name; empty if it says none."""
    is_enabled: bool = True
    """If not, nothing of the device is published."""


@dataclass(slots=True, eq=False)
class Device:
    """What is known of one device."""

    key: str
    """Its hardware's: what its samples, commands, keys and updates go by."""
    level: str
    """Its name in topics."""
    said: Description
    """What it said of itself last, with sensors that may show up again."""
    description: Description
    """That, as it is published: with the names and units of the configuration."""
    name: str = ""
    """What its owner calls it; empty if nobody gave it a name."""
    own_level: str = ""
    own_name: str = ""
    """Those it has while the configuration does not name it: its key, or as it was renamed to."""
    link: str = ""
    """Where it speaks, or did last."""
    is_enabled: bool = True
    is_online: bool | None = None
    """None if nothing was heard of it since the start, and that is not strange yet."""
    options: dict[str, Any] = field(default_factory=dict)
    """What was set by request, such as its sampling interval."""
    learned: dict[str, Any] = field(default_factory=dict)
    """What the announcer has found out about it; only the announcer knows what that means."""
    is_proven: bool = False
    """Whether there ever was a sample of it, or it has something to be told."""
    added_unix_s: float = 0.0
    quiet_s: float = 0.0
    """For how long it may be silent without being gone: a board that sleeps."""
    heard_s: float = 0.0
    """Monotonic time of its last description."""
    awaited: set[str] = field(default_factory=set)
    """Sensors it had before the start, that may show up again."""
    documents: dict[str, bytes | None] = field(default_factory=dict)
    """What is retained below its level; None for what an earlier run left there."""
    given_identity: str = ""
    """What it is known by, if that is not its key: what the device it has replaced was known by. Or
    its key with a number, if it was itself replaced and came back."""
    predecessors: tuple[str, ...] = ()
    """Keys of those in whose place it goes on, the latest last; none that is a device itself."""
    replaced_unix_s: float = 0.0
    """When it took the latest one's place."""
    is_replaced: bool = False
    """Whether another has its place by now: what is announced of it is that one's."""

    @property
    def identity(self) -> str:
        """What it is known by: in the configuration, and to Home Assistant."""
        return self.given_identity or self.key

    @property
    def title(self) -> str:
        """What to show to people."""
        return self.name or self.description.name or self.identity


class Listener(Protocol):
    """Who makes something of devices: discovery, processing."""

    def device_changed(self, device: Device) -> None:
        """Note a device that is new, or known from before the start, or changed what it is."""

    def device_removed(self, device: Device) -> None:
        """Note that nothing of a device is to be published any more."""


def entry_of(device: Device) -> dict[str, object]:
    """Return what is kept of a device."""
    return {
        "level": device.own_level,
        "last_level": device.level,
        "name": device.own_name,
        "link": device.link,
        "description": document_of(lasting(device.said)),
        "options": device.options,
        "learned": device.learned,
        "is_proven": device.is_proven,
        "added_unix_s": device.added_unix_s,
        "quiet_s": device.quiet_s,
        **({"identity": device.given_identity} if device.given_identity else {}),
        **({"predecessors": list(device.predecessors)} if device.predecessors else {}),
        **({"replaced_unix_s": device.replaced_unix_s} if device.replaced_unix_s else {}),
    }


def device_of(key: str, document: Mapping[str, Any]) -> Device:
    """Return a device as it was kept.

    Raises:
        ValueError: that is nothing of ours.
    """
    options, learned = document.get("options"), document.get("learned")
    identity, predecessors = str(document.get("identity", "")), document.get("predecessors")
    try:
        said = description_of(document["description"])
        return Device(
            key=key,
            level=slug(str(document.get("last_level", document["level"]))),
            said=said,
            description=said,
            own_level=slug(str(document["level"])),
            own_name=str(document.get("name", "")),
            link=str(document.get("link", "")),
            options=dict(options) if isinstance(options, dict) else {},
            learned=dict(learned) if isinstance(learned, dict) else {},
            is_proven=bool(document.get("is_proven")),
            added_unix_s=float(document.get("added_unix_s", 0.0)),
            quiet_s=float(document.get("quiet_s", 0.0)),
            given_identity=slug(identity) if identity else "",
            predecessors=tuple(map(str, predecessors)) if isinstance(predecessors, list) else (),
            replaced_unix_s=float(document.get("replaced_unix_s", 0.0)),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(repr(exc)) from exc


def devices_of(documents: Mapping[str, Mapping[str, Any]]) -> list[Device]:
    """Return the devices that were kept, those first who had what they are called by themselves.

    One that cannot be read costs that device only.
    """
    devices = []
    for key, document in documents.items():
        try:
            devices.append(device_of(key, document))
        except ValueError as exc:
            _log.error("what was kept of the device %.80r cannot be read: %s", of_device(key), exc)
    return sorted(devices, key=lambda each: each.level != each.own_level)


def with_awaited(description: Description, device: Device) -> Description:
    """Return a description with the sensors that are still awaited, in their old places."""
    now = {sensor.key: sensor for sensor in description.sensors}
    device.awaited -= now.keys()
    if not device.awaited:
        return description
    before = {
        sensor.key: sensor
        for sensor in device.said.sensors
        if sensor.key in now or sensor.key in device.awaited
    }
    return replace(description, sensors=tuple({**before, **now}.values()))

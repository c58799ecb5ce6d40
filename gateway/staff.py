"""Who takes orders: requests to the gateway, commands and updates for boards."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.admin.desk import Verb
from gateway.admin.intervals import Intervals
from gateway.admin.key_requests import KeyRequests
from gateway.admin.local import LocalDoor
from gateway.admin.service import Admin
from gateway.all_links import AllLinks
from gateway.commands.office import Office
from gateway.commands.service import Commands
from gateway.devices.registry import Devices
from gateway.mqtt.publisher import Publisher
from gateway.own_bundle import own_bundle
from gateway.progress import Progress
from gateway.requests.command import FILTERS
from gateway.status import Status
from gateway.storage import Storage
from gateway.store import journal, rollouts
from gateway.timekeeper import TimeKeeper
from gateway.updates.service import Updates


@dataclass(frozen=True, slots=True)
class StaffOptions:
    """Where orders come in."""

    gateway: str
    """Our name."""
    base_topic: str
    prefix: str
    """Of Home Assistant's topics, where no orders come from."""
    door_path: Path
    is_door_in_runtime_folder: bool


class Staff:
    """Joins them, in the order in which they hear of things."""

    def __init__(  # noqa: PLR0913 - whom they serve
        self,
        options: StaffOptions,
        *,
        publisher: Publisher,
        devices: Devices,
        storage: Storage,
        status: Status,
        timekeeper: TimeKeeper,
        progress: Progress,
        session: str,
        links: Callable[[], AllLinks],
    ) -> None:
        """`links` is asked each time: they are made later, and know who has mail."""
        own_prefixes = (options.prefix,)
        # Before the commands: it has what both could take.
        self._admin = Admin(
            publisher, options.base_topic, status.counts, own_prefixes, progress=progress
        )
        self._door = LocalDoor(
            options.door_path,
            options.gateway,
            status.counts,
            is_runtime=options.is_door_in_runtime_folder,
            progress=progress,
        )
        office = Office(
            base_topic=options.base_topic,
            session=session,
            clock=timekeeper.clock,
            status=status,
            directory=devices,
            journal=storage.state,
            outlet=publisher,
            road=lambda *order: links().command(*order),
            kept_topics=own_prefixes,
        )
        storage.state.keep(journal.load, office.take, office.everything)
        publisher.on_new_session = office.begin_session
        publisher.subscribe([f"{options.base_topic}/{each}" for each in FILTERS], office.hear)
        self.commands = Commands(office, timekeeper.clock, progress)
        self.intervals = Intervals(devices, self.commands, self.commands, progress)
        self.updates = Updates(
            devices=devices,
            outlet=publisher,
            journal=storage.state,
            road=links,
            timekeeper=timekeeper,
            others=self.intervals,
            own=own_bundle,
            progress=progress,
        )
        devices.add_listener(self.updates)
        storage.state.keep(rollouts.load, self.updates.take, self.updates.everything)
        self.keys = KeyRequests(storage.keys, devices, self.commands, progress)
        devices.add_listener(self.keys)

    def begin(
        self,
        tasks: asyncio.TaskGroup,
        verbs: Mapping[str, Verb],
        local_verbs: Mapping[str, Verb],
    ) -> None:
        """Take orders from now on."""
        tasks.create_task(self._admin.run(verbs), name="admin")
        tasks.create_task(self._door.run(local_verbs), name="door")
        tasks.create_task(self.commands.run(), name="commands")
        tasks.create_task(self.keys.run(), name="keys")
        tasks.create_task(self.intervals.run(), name="intervals")
        tasks.create_task(self.updates.run(), name="updates")

    def has_mail(self, device: str) -> bool:
        """Whether an order waits for a board, by its key."""
        return self.commands.has_mail(device) or self.updates.has_mail(device)

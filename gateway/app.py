"""The composition root: settings in, a running gateway out."""

import asyncio
import gc
import logging
import resource
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from gateway import __version__, wiring
from gateway.admin.intervals import Intervals
from gateway.admin.key_requests import KeyRequests
from gateway.admin.local import LocalDoor
from gateway.admin.service import Admin
from gateway.all_links import AllLinks
from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.commands.office import Office
from gateway.commands.service import Commands
from gateway.config.models import Settings
from gateway.devices.announcer import TICK_S, Announcer
from gateway.devices.diagnostics import LOOK_S as DIAGNOSTICS_LOOK_S
from gateway.devices.diagnostics import DiagnosticsWatch
from gateway.devices.registry import LOOK_S, Devices
from gateway.devices.writer import RegistryWriter
from gateway.errors import StoreError
from gateway.health import HealthReport, call_every, watch_loop_lag
from gateway.house import House
from gateway.links.threads import Call
from gateway.mqtt import topics
from gateway.mqtt.client_lock import ClientLock
from gateway.mqtt.names import Names
from gateway.mqtt.publisher import Publisher
from gateway.operation import Operation, Parts
from gateway.own_bundle import own_bundle
from gateway.pipeline import Pipeline
from gateway.processing.processor import Processor
from gateway.progress import PERIOD_S, Progress
from gateway.protocol.delivery import DeliveryBook
from gateway.reload import Configuration
from gateway.requests.command import FILTERS
from gateway.status import Status
from gateway.store import journal, registry, rollouts
from gateway.store.keeper import Keeper
from gateway.store.keys import KeyStore
from gateway.store.ledger import Entry
from gateway.store.outbox import Outbox
from gateway.store.state import StateStore
from gateway.store.store import Store
from gateway.supervise import keep_running
from gateway.systemd import Notifier
from gateway.timedate import TimeDate
from gateway.timekeeper import TimeKeeper
from gateway.updates.service import Updates
from gateway.watchdog import Watchdog, status_line

_log = logging.getLogger(__name__)

SETTLE_S = 1.0
"""Time a clean stop gives the broker to take what waits, and the boards to hear of it."""
LAST_WORDS_S = 0.05
"""Time for the acknowledgements of what was made safe last to leave through the ports."""
KEYS_S = 5.0
"""Time a slow disk has for the boards' keys; until they are there boards with one are only read."""
CLOCK_INTERVAL_S = 1.0
"""How old the last look at a synchronised clock may be when somebody sets it by hand."""
BROKER_BACKOFF_CAP_S = 30.0


class Chore(NamedTuple):
    """What is done regularly, in the event loop; a stage of its own."""

    name: str
    every_s: float
    do: Callable[[], object]


class App:
    """One gateway: ports, outbox and broker, joined."""

    def __init__(  # noqa: PLR0913 - what is told it from outside
        self,
        settings: Settings,
        password: str | None = None,
        clock: Clock | None = None,
        *,
        configuration: Configuration | None = None,
        notifier: Notifier | None = None,
        progress: Progress | None = None,
        chores: Sequence[Chore] = (),
    ) -> None:
        """`configuration` is where the settings are from; without one there is no reload.

        `notifier` tells systemd how it goes; `progress` is asked whether all moves.
        `chores` are done besides.
        """
        notifier = notifier or Notifier({})
        progress = progress or Progress(period_s=notifier.watchdog_s or PERIOD_S)
        self._progress = progress
        self._timedate = TimeDate(progress=progress)
        self._clock = clock or Clock(is_synchronised=self._timedate.is_synchronised)
        self._timekeeper = TimeKeeper(self._clock)
        self._run = secrets.randbits(32)
        self._session = f"{self._run:08x}"
        self.status = Status()
        self.outbox = Outbox(wiring.outbox_options(settings), self.status.counts, self._clock)
        self.state = StateStore(settings.state_path, self.status.state, progress=progress)
        self._keys = KeyStore(settings.keys_path, wiring.device_keys_credential())
        self._registry = RegistryWriter(self.state)
        names = Names()
        broker = wiring.broker_settings(settings, password)
        self._lock = ClientLock(broker.address, broker.client_id)
        self._publisher = Publisher(
            broker,
            gateway=settings.gateway.name,
            version=__version__,
            session=self._session,
            records=self.outbox,
            clock=self._clock,
            timekeeper=self._timekeeper,
            status=self.status,
            heartbeat_s=settings.gateway.health_interval_s,
            names=names,
            ledger=self._registry,
            lock=self._lock,
            progress=progress,
        )
        self.outbox.tell_waits(self._publisher.sends_records)
        self._processor = Processor(wiring.processing_rules(settings))
        self.devices = Devices(
            self._publisher,
            names,
            self.status,
            self._timekeeper,
            writer=self._registry,
            declared=wiring.declared_devices(settings),
            describe=self._processor.describe,
        )
        self._publisher.leave_out(self.devices.disabled)
        self._announcer = Announcer(
            self._publisher,
            self.devices,
            self.status,
            self._timekeeper,
            wiring.home_assistant_site(settings),
            is_enabled=settings.homeassistant.enabled,
            health_interval_s=settings.gateway.health_interval_s,
        )
        self._diagnostics = DiagnosticsWatch(
            self.devices,
            self.status,
            self._timekeeper,
            on_away=self._announcer.away,
            on_signal=self._announcer.has_signal,
        )
        self.devices.add_listener(self._announcer)
        self.devices.add_listener(self._diagnostics)
        self.state.keep(registry.load, self.devices.restore, self.devices.everything)
        own = (settings.homeassistant.prefix,)
        self._admin = Admin(
            self._publisher, settings.base_topic, self.status.counts, own, progress=progress
        )
        self._door = LocalDoor(
            settings.control_path,
            settings.gateway.name,
            self.status.counts,
            is_runtime=wiring.is_in_runtime_folder(settings.control_path),
            progress=progress,
        )
        self.commands = self._make_commands(settings)
        self._intervals = Intervals(self.devices, self.commands, self.commands, progress)
        self._updates = self._make_updates()
        self._key_requests = KeyRequests(self._keys, self.devices, self.commands, progress)
        self.devices.add_listener(self._key_requests)
        self._pipeline = Pipeline(
            self.outbox,
            self._publisher,
            self.devices,
            self.status,
            self._timekeeper,
            processor=self._processor,
            commands=self._updates,
            update_stated=self._updates.stated,
            heard=self._announcer.heard,
        )
        self._book = DeliveryBook()
        self._keeper = Keeper(
            Store(settings.outbox_path, wiring.store_limits(settings)),
            self.outbox,
            wiring.keeper_options(settings),
            clock=self._clock,
            time_base=self._timekeeper.base,
            status=self.status.store,
            watermarks=self._book.changed,
            recall=self._recall,
            progress=progress,
        )
        self._links = AllLinks(
            self._make_house(), wiring.ports_options(settings), wiring.ble_options(settings)
        )
        self._health = HealthReport(self.status, self.outbox, self._timekeeper)
        self._watchdog = Watchdog(
            progress, notifier, lambda: status_line(self.status, self.outbox.size)
        )
        self.operation = Operation(
            Parts(
                links=self._links,
                devices=self.devices,
                processor=self._processor,
                announcer=self._announcer,
                commands=self.commands,
                intervals=self._intervals,
                updates=self._updates,
                key_requests=self._key_requests,
                keys=self._keys,
                state=self.state,
                status=self.status,
                timekeeper=self._timekeeper,
                health=self._health,
                watchdog=self._watchdog,
                progress=progress,
            ),
            settings,
            password,
            configuration,
        )
        self.outbox.on_crowded = self._hold
        self._chores = (
            Chore("clock", CLOCK_INTERVAL_S, self._timekeeper.base),
            Chore("devices", LOOK_S, self.devices.look_around),
            Chore("announcer", TICK_S, self._announcer.tick),
            Chore("diagnostics", DIAGNOSTICS_LOOK_S, self._diagnostics.look),
            Chore("health", settings.gateway.health_interval_s, self._publish_health),
            *chores,
        )

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """Run until cancelled; then stop cleanly, within a few seconds if the disk does not hang.

        `ready` is called once links and publisher have been started.
        """
        _raise_descriptor_limit()
        _collect_garbage_less_often()
        self.operation.begin()
        try:
            await self._claim_store()
            await self._load_keys()
            self._announcer.start()
            await self.state.open()
            self._registry.start()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keeper.run(), name="store")
                tasks.create_task(self.state.run(), name="state")
                tasks.create_task(self.operation.run(), name="operation")
                tasks.create_task(self._admin.run(self.operation.verbs), name="admin")
                tasks.create_task(self._door.run(self.operation.local_verbs), name="door")
                tasks.create_task(self.commands.run(), name="commands")
                tasks.create_task(self._key_requests.run(), name="keys")
                tasks.create_task(self._intervals.run(), name="intervals")
                tasks.create_task(self._updates.run(), name="updates")
                broker = Backoff(cap_s=BROKER_BACKOFF_CAP_S)
                stage = self._publisher.stage
                serving = keep_running("broker", self._publisher.run, broker, stage=stage)
                tasks.create_task(serving, name="broker")
                tasks.create_task(watch_loop_lag(self.status), name="loop lag")
                tasks.create_task(self._timedate.run(), name="timedate")
                for name, every_s, do in self._chores:
                    doing = call_every(every_s, do, self._progress.stage(name))
                    tasks.create_task(doing, name=name)
                links = tasks.create_task(self._links.run(), name="links")
                tasks.create_task(self._watchdog.run(), name="watchdog")
                if ready is not None:
                    ready()
                try:
                    await asyncio.Event().wait()
                finally:
                    await self._settle(links)
        finally:
            self._lock.release()
            await self._keeper.close()
            await self.state.close()
            self.operation.end()
            if left := sum(len(parcel.records) for parcel in self.outbox.unsaved.values()):
                _log.error(
                    "stopped with %d samples that neither the broker nor the disk has; boards with "
                    "our firmware keep theirs, others are lost",
                    left,
                )
            if self.outbox.on_disk or self.outbox.in_memory > left:
                _log.info("%d samples wait on disk", self.outbox.size - left)

    async def _claim_store(self) -> None:
        """Learn how far each board is, before the first of them speaks, if that is possible."""
        try:
            await self._keeper.open_ledger()
        except StoreError as exc:
            _log.error("%s; going on without it, and trying again", exc)

    async def _load_keys(self) -> None:
        """Learn the boards' keys before the first of them speaks, if the disk is quick enough."""
        with suppress(TimeoutError):  # they are used as soon as they are there
            async with asyncio.timeout(KEYS_S):
                await Call(self._keys.load).result()

    def _recall(self, entries: Sequence[Entry]) -> None:
        """Take up how far each board's samples are known to be safe."""
        for entry in entries:
            # What is stored is safe, too, and known to the moment; watermarks are noted seldom.
            safe_next = max(entry.safe_next, entry.stored_next)
            self._book.restore(entry.device, entry.boot, safe_next, entry.claimed_next)

    async def _settle(self, links: asyncio.Task[None]) -> None:
        """Ask boards to keep their samples, deliver or store what is here, then close the ports.

        The publisher leaves when the ports are closed: what they say last is published, too.
        """
        self._watchdog.stopping()
        self.commands.close()
        self.outbox.on_crowded = lambda _crowded: None  # from here on boards keep what they have
        self._hold(is_crowded=True)
        self._keeper.begin_to_stop()
        if self.status.broker.connected and not self.outbox.on_disk:
            # A group of its own: if it is a failure that stops us, `run`'s takes no tasks any more.
            async with asyncio.TaskGroup() as tasks:
                # Not asyncio.timeout(): on Python 3.11.2 it does not end what is being cancelled.
                emptied = tasks.create_task(self.outbox.wait_empty(), name="outbox")
                await asyncio.wait([emptied], timeout=SETTLE_S)
                emptied.cancel()
        await self._keeper.flush(SETTLE_S)
        await asyncio.sleep(LAST_WORDS_S)
        links.cancel()
        await asyncio.wait([links])

    def _make_commands(self, settings: Settings) -> Commands:
        office = Office(
            base_topic=settings.base_topic,
            session=self._session,
            clock=self._clock,
            status=self.status,
            directory=self.devices,
            journal=self.state,
            outlet=self._publisher,
            road=lambda *given: self._links.command(*given),  # noqa: PLW0108 - made later
            kept_topics=(settings.homeassistant.prefix,),
        )
        self.state.keep(journal.load, office.take, office.everything)
        self._publisher.on_new_session = office.begin_session
        filters = [f"{settings.base_topic}/{each}" for each in FILTERS]
        self._publisher.subscribe(filters, office.hear)
        return Commands(office, self._clock, self._progress)

    def _make_updates(self) -> Updates:
        updates = Updates(
            devices=self.devices,
            outlet=self._publisher,
            journal=self.state,
            road=lambda: self._links,
            timekeeper=self._timekeeper,
            others=self._intervals,
            own=own_bundle,
            progress=self._progress,
        )
        self.devices.add_listener(updates)
        self.state.keep(rollouts.load, updates.take, updates.everything)
        return updates

    def _make_house(self) -> House:
        return House(
            book=self._book,
            clock=self._clock,
            run=self._run,
            session=self._session,
            status=self.status,
            accept=self._pipeline.accept,
            forget_link=self._pipeline.forget_link,
            on_change=self._publish_health,
            has_mail=lambda device: (
                self.commands.has_mail(device) or self._updates.has_mail(device)
            ),
            progress=self._progress,
            keys=self._keys,
        )

    def _hold(self, is_crowded: bool) -> None:  # noqa: FBT001 - the outbox tells its state
        # The other half of the room is for devices that cannot wait.
        self._book.pause_room.records = self.outbox.room // 2
        self._links.hold(paused=is_crowded)

    def _publish_health(self) -> None:
        self._publisher.retain(topics.HEALTH, self._health.document())


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system grants: one a port, and the soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_garbage_less_often() -> None:
    """Spare the collector what lives for ever, and let 20,000 objects gather before it looks.

    Samples are freed by their reference counts; under flood looking for cycles among those that
    wait took 8 % of the time (60,000 lines, medians of three runs in turn).
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)

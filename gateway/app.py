"""The composition root: settings in, a running gateway out."""

import asyncio
import gc
import logging
import resource
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway import __version__, wiring
from gateway.all_links import AllLinks
from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.config.models import Settings
from gateway.devices.announcer import TICK_S, Announcer
from gateway.devices.diagnostics import LOOK_S as DIAGNOSTICS_LOOK_S
from gateway.devices.diagnostics import DiagnosticsWatch
from gateway.devices.registry import LOOK_S, Devices
from gateway.health import HealthReport, call_every, watch_loop_lag
from gateway.house import House
from gateway.mqtt import topics
from gateway.mqtt.client_lock import ClientLock
from gateway.mqtt.names import Names
from gateway.mqtt.publisher import Publisher
from gateway.operation import Operation, Parts
from gateway.pipeline import Pipeline
from gateway.processing.processor import Processor
from gateway.progress import PERIOD_S, Progress
from gateway.reload import Configuration
from gateway.staff import Staff
from gateway.status import Status
from gateway.storage import Storage
from gateway.store import registry
from gateway.supervise import keep_running
from gateway.systemd import Notifier
from gateway.timedate import TimeDate
from gateway.timekeeper import TimeKeeper
from gateway.watchdog import Watchdog, status_line

_log = logging.getLogger(__name__)

SETTLE_S = 1.0
"""Time a clean stop gives the broker to take what waits, and the boards to hear of it."""
LAST_WORDS_S = 0.05
"""Time for the acknowledgements of what was made safe last to leave through the ports."""
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
        self._links: AllLinks
        self._run = secrets.randbits(32)
        self._session = f"{self._run:08x}"
        self.status = Status()
        options = wiring.storage_options(settings)
        self._storage = Storage(options, self.status, self._timekeeper, progress)
        self.outbox = self._storage.outbox
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
            ledger=self._storage.registry,
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
            writer=self._storage.registry,
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
        restored = self.devices.restore, self.devices.everything
        self._storage.state.keep(registry.load, *restored)
        self._staff = Staff(
            wiring.staff_options(settings),
            publisher=self._publisher,
            devices=self.devices,
            storage=self._storage,
            status=self.status,
            timekeeper=self._timekeeper,
            progress=progress,
            session=self._session,
            links=lambda: self._links,
        )
        self._pipeline = Pipeline(
            self.outbox,
            self._publisher,
            self.devices,
            self.status,
            self._timekeeper,
            processor=self._processor,
            commands=self._staff.updates,
            update_stated=self._staff.updates.stated,
            heard=self._announcer.heard,
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
                staff=self._staff,
                storage=self._storage,
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
            await self._storage.claim()
            self._announcer.start()
            await self._storage.open()
            async with asyncio.TaskGroup() as tasks:
                self._storage.begin(tasks)
                tasks.create_task(self.operation.run(), name="operation")
                self._staff.begin(tasks, self.operation.verbs, self.operation.local_verbs)
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
            await self._storage.close()
            self.operation.end()
            self._storage.tell_what_is_left()

    async def _settle(self, links: asyncio.Task[None]) -> None:
        """Ask boards to keep their samples, deliver or store what is here, then close the ports.

        The publisher leaves when the ports are closed: what they say last is published, too.
        """
        self._watchdog.stopping()
        self._staff.commands.close()
        self.outbox.on_crowded = lambda _crowded: None  # from here on boards keep what they have
        self._hold(is_crowded=True)
        self._storage.keeper.begin_to_stop()
        if self.status.broker.connected and not self.outbox.on_disk:
            # A group of its own: if it is a failure that stops us, `run`'s takes no tasks any more.
            async with asyncio.TaskGroup() as tasks:
                # Not asyncio.timeout(): on Python 3.11.2 it does not end what is being cancelled.
                emptied = tasks.create_task(self.outbox.wait_empty(), name="outbox")
                await asyncio.wait([emptied], timeout=SETTLE_S)
                emptied.cancel()
        await self._storage.keeper.flush(SETTLE_S)
        await asyncio.sleep(LAST_WORDS_S)
        links.cancel()
        await asyncio.wait([links])

    def _make_house(self) -> House:
        return House(
            book=self._storage.book,
            clock=self._clock,
            run=self._run,
            session=self._session,
            status=self.status,
            accept=self._pipeline.accept,
            forget_link=self._pipeline.forget_link,
            on_change=self._publish_health,
            has_mail=self._staff.has_mail,
            progress=self._progress,
            keys=self._storage.keys,
        )

    def _hold(self, is_crowded: bool) -> None:  # noqa: FBT001 - the outbox tells its state
        # The other half of the room is for devices that cannot wait.
        self._storage.book.pause_room.records = self.outbox.room // 2
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

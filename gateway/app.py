"""The composition root: settings in, a running gateway out."""

import asyncio
import gc
import logging
import resource
import secrets
from collections.abc import Callable, Sequence

from gateway import __version__, wiring
from gateway.backoff import Backoff
from gateway.ble.service import Ble
from gateway.clock import Clock
from gateway.config.models import Settings
from gateway.errors import StoreError
from gateway.health import call_every, memory_bytes, watch_loop_lag
from gateway.house import House
from gateway.mqtt import payloads, topics
from gateway.mqtt.publisher import Publisher
from gateway.pipeline import SLEEPERS_LOOK_S, Pipeline
from gateway.ports import Ports
from gateway.processing.processor import Processor
from gateway.protocol.delivery import DeliveryBook
from gateway.status import Status
from gateway.store.keeper import Keeper
from gateway.store.ledger import Entry
from gateway.store.outbox import Outbox
from gateway.store.store import Store
from gateway.supervise import keep_running
from gateway.timekeeper import TimeKeeper

_log = logging.getLogger(__name__)

SETTLE_S = 1.0
"""Time a clean stop gives the broker to take what waits, and the boards to hear of it."""
LAST_WORDS_S = 0.05
"""Time for the acknowledgements of what was made safe last to leave through the ports."""
CLOCK_INTERVAL_S = 1.0
"""How old the last look at a synchronised clock may be when somebody sets it by hand."""
BROKER_BACKOFF_CAP_S = 30.0


class App:
    """One gateway: ports, outbox and broker, joined."""

    def __init__(
        self, settings: Settings, password: str | None = None, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock or Clock()
        self._timekeeper = TimeKeeper(self._clock)
        self._run = secrets.randbits(32)
        self._session = f"{self._run:08x}"
        self.status = Status()
        self.outbox = Outbox(wiring.outbox_options(settings), self.status.counts, self._clock)
        self._publisher = Publisher(
            wiring.broker_settings(settings, password),
            gateway=settings.gateway.name,
            version=__version__,
            session=self._session,
            records=self.outbox,
            clock=self._clock,
            timekeeper=self._timekeeper,
            status=self.status,
            heartbeat_s=settings.gateway.health_interval_s,
        )
        self._processor = Processor(wiring.processing_rules(settings))
        self._pipeline = Pipeline(
            self.outbox,
            self._publisher,
            self.status,
            self._timekeeper,
            processor=self._processor,
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
        )
        house = self._make_house()
        self._ports = Ports(wiring.ports_options(settings), house)
        self._ble = Ble(wiring.ble_options(settings), house) if settings.ble.enabled else None
        self.outbox.on_crowded = self._hold

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """Run until cancelled; then stop cleanly, within a few seconds if the disk does not hang.

        `ready` is called once links and publisher have been started.
        """
        _raise_descriptor_limit()
        _collect_garbage_less_often()
        health_interval_s = self._settings.gateway.health_interval_s
        try:
            await self._claim_store()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keeper.run(), name="store")
                broker = Backoff(cap_s=BROKER_BACKOFF_CAP_S)
                serving = keep_running("broker", self._publisher.run, broker)
                tasks.create_task(serving, name="broker")
                tasks.create_task(watch_loop_lag(self.status), name="loop lag")
                tasks.create_task(call_every(CLOCK_INTERVAL_S, self._timekeeper.base), name="clock")
                sleepers = call_every(SLEEPERS_LOOK_S, self._pipeline.look_for_sleepers)
                tasks.create_task(sleepers, name="sleepers")
                health = call_every(health_interval_s, self._publish_health)
                tasks.create_task(health, name="health")
                links = tasks.create_task(self._run_links(), name="links")
                if ready is not None:
                    ready()
                try:
                    await asyncio.Event().wait()
                finally:
                    await self._settle(links)
        finally:
            await self._keeper.close()
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

    def _recall(self, entries: Sequence[Entry]) -> None:
        """Take up how far each board's samples are known to be safe."""
        for entry in entries:
            # What is stored is safe, too, and known to the moment; watermarks are noted seldom.
            safe_next = max(entry.safe_next, entry.stored_next)
            self._book.restore(entry.device, entry.boot, safe_next, entry.claimed_next)

    def open_join_window(self) -> None:
        """Let devices that are heard join for a while, where the configuration has windows."""
        ble = self._settings.ble
        if self._ble is None or ble.join != "window":
            _log.warning('bluetooth: no window to open: ble.join is not "window"')
        elif not self._ble.open_window(ble.window_s):
            _log.warning("bluetooth: no window to open: there is no radio")
        else:
            _log.info("bluetooth: devices that are heard within %g s may join", ble.window_s)

    async def _settle(self, links: asyncio.Task[None]) -> None:
        """Ask boards to keep their samples, deliver or store what is here, then close the ports.

        The publisher leaves when the ports are closed: what they say last is published, too.
        """
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

    async def _run_links(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._settings.serial.enabled:
                tasks.create_task(self._ports.run(), name="ports")
            if self._ble is not None:
                tasks.create_task(self._ble.run(), name="ble")

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
        )

    def _hold(self, is_crowded: bool) -> None:  # noqa: FBT001 - the outbox tells its state
        # The other half of the room is for devices that cannot wait.
        self._book.pause_room.records = self.outbox.room // 2
        self._ports.hold(paused=is_crowded)
        if self._ble is not None:
            self._ble.hold(paused=is_crowded)

    def _publish_health(self) -> None:
        self._publisher.retain(
            topics.HEALTH,
            payloads.health(
                self.status,
                self._timekeeper,
                memory_bytes=memory_bytes(),
                outbox_in_memory=self.outbox.in_memory,
                outbox_on_disk=self.outbox.on_disk,
                outbox_oldest_s=self._oldest_s(),
            ),
        )

    def _oldest_s(self) -> float | None:
        """Return when the oldest waiting record was taken, in memory or on disk."""
        oldest_s = self.outbox.oldest_s()
        stored_unix_s = self.status.store.oldest_unix_s
        if stored_unix_s is None or not self.outbox.on_disk:  # what is delivered goes a while later
            return oldest_s
        stored_s = stored_unix_s - self._timekeeper.base().offset_s
        return stored_s if oldest_s is None else min(oldest_s, stored_s)


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

"""The composition root: settings in, a running gateway out."""

import asyncio
import gc
import logging
import resource
import secrets
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial

from gateway import __version__
from gateway.backoff import Backoff
from gateway.ble.service import Ble, BleOptions, House
from gateway.clock import Clock
from gateway.config.bind_keys import bind_keys
from gateway.config.models import Settings
from gateway.config.serial_models import PortSettings
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.errors import StoreError
from gateway.health import call_every, memory_bytes, watch_loop_lag
from gateway.links.serial_port import SerialLink, SerialOptions
from gateway.links.serial_ports import FoundPort, PortWatch
from gateway.model import Sensor, slug
from gateway.mqtt import payloads, topics
from gateway.mqtt.publisher import BrokerSettings, Publisher
from gateway.pipeline import Pipeline
from gateway.protocol.delivery import DeliveryBook
from gateway.status import Status
from gateway.store.keeper import Keeper, KeeperOptions
from gateway.store.ledger import Entry
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.store.store import Limits, Store
from gateway.supervise import keep_running
from gateway.timekeeper import TimeKeeper

_log = logging.getLogger(__name__)

SETTLE_S = 1.0
"""Time a clean stop gives the broker to take what waits, and the boards to hear of it."""
LAST_WORDS_S = 0.05
"""Time for the acknowledgements of what was made safe last to leave through the ports."""
PORTS_A_TURN = 4
PORTS_PAUSE_S = 0.02
"""When hundreds of ports appear at once, as many are opened between two such pauses: each starts a
thread, and boards that all introduce themselves in one turn of the loop would hold it up."""
CLOCK_INTERVAL_S = 1.0
"""How old the last look at a synchronised clock may be when somebody sets it by hand."""
PORT_BACKOFF_CAP_S = 10.0
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
        self.outbox = Outbox(_outbox_options(settings), self.status.counts, self._clock)
        self._publisher = Publisher(
            _broker_settings(settings, password),
            gateway=settings.gateway.name,
            version=__version__,
            session=self._session,
            records=self.outbox,
            clock=self._clock,
            timekeeper=self._timekeeper,
            status=self.status,
        )
        self._pipeline = Pipeline(self.outbox, self._publisher, self.status, self._timekeeper)
        self._book = DeliveryBook()
        self._keeper = Keeper(
            Store(settings.outbox_path, _store_limits(settings)),
            self.outbox,
            _keeper_options(settings),
            clock=self._clock,
            time_base=self._timekeeper.base,
            status=self.status.store,
            watermarks=self._book.changed,
            recall=self._recall,
        )
        self._ble = self._make_ble() if settings.ble.enabled else None
        self._links: dict[str, SerialLink] = {}
        self._is_crowded = False
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
                tasks.create_task(self._run_ports(), name="ports")
            if self._ble is not None:
                tasks.create_task(self._ble.run(), name="ble")

    async def _run_ports(self) -> None:
        serial = self._settings.serial
        watch = PortWatch(serial.patterns, serial.exclude, serial.rescan_s)
        running: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            async for change in watch.changes():
                for port in change.vanished:
                    await self._close_link(port, running.pop(port.name))
                for number, port in enumerate(change.appeared, 1):
                    running[port.name] = tasks.create_task(self._run_link(port), name=port.name)
                    if number % PORTS_A_TURN == 0:
                        await asyncio.sleep(PORTS_PAUSE_S)

    async def _close_link(self, port: FoundPort, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait([task])
        self._links.pop(port.name, None)
        self._pipeline.forget_link(port.name)

    async def _run_link(self, port: FoundPort) -> None:
        _log.info("%s: found %s", port.name, port.description or port.device)
        override = self._override(port)
        link = SerialLink(
            port.path,
            _serial_options(self._settings, override),
            partial(self._make_driver, port, override),
            self._pipeline.accept,
            self.status.link(port.name),
            self._clock,
        )
        self._links[port.name] = link
        link.hold(paused=self._is_crowded)
        await keep_running(port.name, link.run, Backoff(cap_s=PORT_BACKOFF_CAP_S))

    def _make_driver(self, port: FoundPort, override: PortSettings | None) -> SerialLineDriver:
        line_format = LineFormat()
        name = ""
        if override is not None:
            columns = tuple(
                Sensor(slug(column.key), column.unit, column.device_class)
                for column in override.columns
            )
            line_format = LineFormat(override.format, columns, override.separator)
            name = override.name or ""
        return SerialLineDriver(
            port_name=port.name,
            device_name=name,
            line_format=line_format,
            book=self._book,
            clock=self._clock,
            run=self._run,
            session_id=self._session,
        )

    def _make_ble(self) -> Ble:
        house = House(
            book=self._book,
            clock=self._clock,
            run=self._run,
            session=self._session,
            status=self.status,
            accept=self._pipeline.accept,
            forget_link=self._pipeline.forget_link,
            on_change=self._publish_health,
        )
        return Ble(_ble_options(self._settings), house)

    def _override(self, port: FoundPort) -> PortSettings | None:
        names = (port.path, port.name, port.device)
        for override in self._settings.serial.port:
            if any(fnmatchcase(name, override.match) for name in names):
                return override
        return None

    def _hold(self, is_crowded: bool) -> None:  # noqa: FBT001 - the outbox tells its state
        self._is_crowded = is_crowded
        # The other half of the room is for devices that cannot wait.
        self._book.pause_room.records = self.outbox.room // 2
        for link in self._links.values():
            link.hold(paused=is_crowded)
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


def _outbox_options(settings: Settings) -> OutboxOptions:
    outbox = settings.outbox
    return OutboxOptions(
        max_records=outbox.max_records,
        live_s=outbox.spill_after_s,
        drain_rate=outbox.drain_rate,
        always_stores=outbox.durability == "always",
    )


def _store_limits(settings: Settings) -> Limits:
    outbox = settings.outbox
    return Limits(outbox.max_mb << 20, outbox.max_age_days * 86400.0)


def _keeper_options(settings: Settings) -> KeeperOptions:
    outbox = settings.outbox
    return KeeperOptions(
        outbox.spill_after_s, outbox.durability == "always", _store_limits(settings)
    )


def _broker_settings(settings: Settings, password: str | None) -> BrokerSettings:
    mqtt = settings.mqtt
    return BrokerSettings(
        host=mqtt.host,
        port=mqtt.broker_port,
        version=mqtt.version,
        client_id=settings.client_id,
        username=mqtt.username,
        password=password,
        tls=mqtt.uses_tls,
        ca_file=mqtt.ca_file,
        cert_file=mqtt.cert_file,
        key_file=mqtt.key_file,
        keepalive_s=mqtt.keepalive_s,
        window=mqtt.window,
        batch_max=mqtt.batch_max,
        base_topic=settings.base_topic,
    )


def _serial_options(settings: Settings, override: PortSettings | None) -> SerialOptions:
    serial = settings.serial
    baudrate, silence_s = serial.baudrate, serial.silence_s
    if override is not None:
        baudrate = override.baudrate or baudrate
        silence_s = silence_s if override.silence_s is None else override.silence_s
    return SerialOptions(baudrate=baudrate, settle_s=serial.settle_s, silence_s=silence_s or None)


def _ble_options(settings: Settings) -> BleOptions:
    ble = settings.ble
    return BleOptions(
        joined_path=settings.joined_path,
        adapter=ble.adapter,
        is_passive=ble.mode == "passive",
        join=ble.join,
        names={device.address: device.name or "" for device in ble.device},
        keys=bind_keys(ble),
        max_connections=ble.max_connections,
        turn_s=ble.turn_s,
        deaf_s=ble.deaf_s,
    )


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

"""The publisher: one connection to the broker at a time, and all that goes out on it."""

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn

from gateway.clock import Clock, TimeFormat
from gateway.errors import LinkError
from gateway.mqtt import payloads, topics
from gateway.mqtt.channel import Channel
from gateway.mqtt.client_lock import ClientLock
from gateway.mqtt.connection import FIRST_FAILURE, PACKET_TOO_LARGE, Connection, refusal_text
from gateway.mqtt.documents import Documents, Post
from gateway.mqtt.incoming import Handler, Inbox, Listener
from gateway.mqtt.messages import Composer
from gateway.mqtt.names import Names
from gateway.mqtt.own_status import OwnStatus
from gateway.mqtt.retained import Retained, TopicLedger
from gateway.mqtt.rivalry import Rivalry
from gateway.mqtt.settings import BrokerSettings
from gateway.mqtt.shipments import RecordSource, Shipments
from gateway.mqtt.topics import Topics
from gateway.progress import Progress
from gateway.status import Status
from gateway.timekeeper import TimeKeeper

__all__ = ["BrokerSettings", "Publisher", "RecordSource"]

_log = logging.getLogger(__name__)

LEAVE_TIMEOUT_S = 2.0
"""Time a clean stop gives the broker to acknowledge what is in flight."""

TICK_S = 1.0
"""How often to look whether a ping, a correction or another attempt is due."""

STABLE_S = 10.0
"""A connection that lasted so long resets the backoff even when no record was delivered."""


def _ignore() -> None:
    """Do nothing."""


def _ignore_end(_is_taken: bool) -> None:  # noqa: FBT001 - a callback's one argument
    """Do nothing."""


class Publisher:
    """Publishes records, retained documents and remarks, each acknowledged by the broker (QoS 1).

    `run` is the life of one connection. What the broker had not acknowledged when it ended goes
    back to where it came from, and is published again, under the same ids, on the next one.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        settings: BrokerSettings,
        *,
        gateway: str,
        version: str,
        session: str,
        records: RecordSource,
        clock: Clock,
        timekeeper: TimeKeeper,
        status: Status,
        heartbeat_s: float = 60.0,
        names: Names | None = None,
        ledger: TopicLedger | None = None,
        lock: ClientLock | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Make the publisher of one gateway.

        `session` names this run of it; its health is renewed each `heartbeat_s`; `names` tells what
        devices are called in topics. With a `ledger` nothing is retained on a topic that it has not
        noted, nor are the states of a device that nobody claimed. With a `lock` there is but one
        connection of this name from this machine.
        """
        progress = progress or Progress()
        self.stage = progress.stage("broker")
        """Told of each step from one connection to the next."""
        self.sends_records = progress.stage("records")
        """Told that records move; and by their source that there are none to send."""
        self._sends_documents = progress.stage("documents")
        self._ticks = progress.stage("pings")
        self._rest_stages()  # until there is a connection
        self._settings = settings
        self._lock = lock
        self._client_id = settings.client_id or f"edge-gateway-{gateway}"
        self._session = session
        self._clock = clock
        self._status = status
        status.broker.address = settings.address
        self._topics = Topics(settings.base_topic)
        self._status_topic = self._topics.full(topics.STATUS)
        since = TimeFormat().text(timekeeper.unix_s())
        said = (session, version, since, heartbeat_s)
        self._online = payloads.status("online", *said)
        self._offline = partial(payloads.status, "offline", *said)
        self._connections = 0
        self._will: bytes | None = None
        """Of the present connection, or the last one."""
        self._has_documents = asyncio.Event()
        self._retained = Retained(ledger)
        self._retained.on_noted = self._on_noted
        self._composer = Composer(self._topics, timekeeper, settings.batch_max, names)
        self._shipments = Shipments(records, self._composer, clock, status, self._retained)
        self._documents = Documents(status.counts, self._retained)
        self._documents.retain(self._status_topic, self._online)  # the first one: the birth message
        self.on_retained_lost: Callable[[], None] = _ignore
        """Called on each connection to a broker that had no status of ours; the newest states are
        published again by themselves."""
        self._inbox = Inbox(status.counts)
        self.on_new_session: Callable[[], None] = _ignore
        """Called on a connection of which the broker knew nothing, before its first message is
        taken: packet ids begin anew."""
        self._told_unheard: set[str] = set()
        self._rivalry = Rivalry(self._client_id, settings.base_topic, session)
        self._own_status = OwnStatus(self._online, self._rivalry)
        self._own_status.on_retained_lost = self._on_retained_lost
        self._inbox.add([self._status_topic], self._own_status.hear)

    def leave_out(self, devices: Container[str]) -> None:
        """Publish no records of these devices; what waits of them is settled without a message."""
        self._composer.unwanted = devices

    def retain(self, subtopic: str, payload: bytes | None) -> None:
        """Publish the newest document of a topic below the base, now and on every connection.

        None removes what the broker retains there, documents or not.
        """
        if topic := self._checked(subtopic):
            self.retain_at(topic, payload)

    def retain_at(self, topic: str, payload: bytes | None) -> None:
        """Do as `retain` on a whole topic, which need not be below the base."""
        if payload is None:
            self._shipments.newest.drop(topic)
        if self._documents.retain(topic, payload):
            self._has_documents.set()

    def claim(self, subtopic: str) -> None:
        """Let something be retained on a topic that is no document: states, or an earlier run's."""
        if topic := self._checked(subtopic):
            self.claim_at(topic)

    def claim_at(self, topic: str) -> None:
        """Do as `claim` on a whole topic, which need not be below the base."""
        self._retained.claim(topic)
        self._documents.claimed(topic)

    def renew(self, topics_to_renew: Iterable[str]) -> None:
        """Publish documents of whole topics again, as they are; those that are none are left."""
        for topic in topics_to_renew:
            self._documents.renew(topic)
        self._has_documents.set()

    def renew_states(self, subtopics: Iterable[str]) -> None:
        """Publish the newest states on these topics again, unless newer ones are on their way."""
        for subtopic in subtopics:
            if topic := self._checked(subtopic):
                self._shipments.newest.again(topic)
        self._has_documents.set()

    def move_state(self, subtopic: str, to_subtopic: str) -> None:
        """Have the newest state of a device that was renamed under its new name, then the old gone.

        To be called before either is retained with None.
        """
        topic, to_topic = self._checked(subtopic), self._checked(to_subtopic)
        if topic and to_topic:
            self.claim_at(to_topic)
            self._shipments.newest.move(topic, to_topic)
            self.retain_at(topic, None)

    def noted_topics(self) -> Iterable[str]:
        """Return all topics on which something may be retained."""
        return self._retained.topics()

    def load_retained(self, topics_noted: Iterable[str]) -> None:
        """Take up the ledger: what nobody claims, and is no document, is cleared at the broker.

        To be called when all that is known of devices is retained or claimed.
        """
        self._retained.load(topics_noted)
        for topic in self._retained.strangers(self._documents):
            self.retain_at(topic, None)

    def post(self, subtopic: str, payload: bytes) -> None:
        """Publish once; while the broker is away the last 1,000 wait, older ones are dropped."""
        if topic := self._checked(subtopic):
            self._documents.post(topic, payload)
            self._has_documents.set()

    def subscribe(self, filters: Sequence[str], handler: Handler) -> None:
        """Have `handler` take what arrives on whole topics; before `run`, for all connections.

        Messages are the broker's until the handler called their `done`: unless MQTT is 3.1.1, they
        come again on the next connection, also to the next run, if that begins within a minute.
        """
        self._inbox.add(filters, handler)

    def send(
        self,
        topic: str,
        payload: bytes,
        *,
        correlation: bytes | None = None,
        on_done: Callable[[bool], None] = _ignore_end,
    ) -> None:
        """Answer on a whole topic, on this connection or a later one.

        `on_done` is told whether the broker took it; it will not if it refuses, or if 1,000 answers
        wait already.
        """
        post = Post(topic, payload, retain=False, correlation=correlation, on_done=on_done)
        if self._documents.answer(post):
            self._has_documents.set()
        else:
            self._status.counts["answers_dropped"] += 1
            on_done(False)

    async def run(self, progress: Callable[[], None]) -> NoReturn:
        """Connect, announce the gateway, and publish until the connection ends.

        When cancelled it stops taking records, publishes what it was given to retain or post, waits
        for the broker to acknowledge all that is in flight, says "offline" and disconnects; all
        within 2 s.

        Raises:
            LinkError: the broker cannot be reached, refuses the gateway, or was lost.
        """
        if self._lock is not None:
            try:
                self._lock.take()
            except LinkError as exc:
                self._status.broker.trouble = str(exc)
                raise
        self.stage.works("connecting")
        will = self._offline(connection=self._connections + 1)
        await self._retained.wait_noted(self._status_topic)
        self._own_status.connecting(self._will)
        self._shipments.newest.connecting()
        try:
            connection = await Connection.open(
                self._settings,
                self._client_id,
                (self._status_topic, will),
                Listener(self._inbox.take, self.on_new_session, self._inbox.drop),
            )
        except LinkError as exc:
            raise LinkError(f"{self._settings.address}: {exc}") from exc
        self._connections += 1
        self._will = will
        try:
            reason = await self._use(connection, progress)
        finally:
            connection.close()
            self._rest_stages()
        raise LinkError(f"{self._settings.address}: {reason}")

    async def _use(self, connection: Connection, progress: Callable[[], None]) -> str:
        """Publish on an open connection until it is lost; return why it was."""
        broker = self._status.broker
        window = min(self._settings.window, connection.limits.in_flight)
        channel = Channel(connection, window, self._clock, self._status)
        broker.connected = True
        broker.connects += 1
        _log.info("connected to %s with MQTT %s", self._settings.address, self._settings.version)
        is_announced = asyncio.Event()
        began_s = self._clock.monotonic_s()

        def progress_unless_fought_over() -> None:
            if not self._rivalry.is_over_id:
                progress()

        try:
            reason = await self._serve(channel, is_announced, progress_unless_fought_over)
            may_be_a_message = self._shipments.connection_lost(channel)
            lasted_s = self._clock.monotonic_s() - began_s
            self._rivalry.connection_lost(
                lasted_s, connection.loss, may_be_a_message=may_be_a_message
            )
            broker.trouble = self._rivalry.trouble
        except asyncio.CancelledError:
            await self._leave(channel, is_announced=is_announced.is_set())
            raise
        finally:
            broker.connected = False
            broker.in_flight = 0
            self._shipments.give_back_all()
            for parcel in reversed(channel.in_flight()):
                if isinstance(parcel, Post):
                    self._documents.returned(parcel)
        return reason

    async def _serve(
        self, channel: Channel, is_announced: asyncio.Event, progress: Callable[[], None]
    ) -> str:
        async def send_records() -> None:
            await is_announced.wait()
            await self._shipments.send_all(channel, progress)

        async def send_documents() -> None:
            # First, so that what comes before our own birth message tells what the broker had.
            await self._subscribe(channel.connection)
            await self._send_documents(channel, is_announced)

        self._sends_documents.works("subscribing")
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(send_documents(), name="documents"),
                tasks.create_task(send_records(), name="records"),
                tasks.create_task(self._shipments.send_smaller(channel), name="smaller records"),
                tasks.create_task(self._tick(channel, progress), name="tick"),
            ]
            lost = channel.connection.lost
            await self.stage.attend(
                lambda within_s: asyncio.wait((lost,), timeout=within_s), lost.done
            )
            self.stage.works("ending a connection")
            for task in running:
                task.cancel()
        return channel.connection.lost.result()

    async def _send_documents(self, channel: Channel, is_announced: asyncio.Event) -> NoReturn:
        """Send what changes, beginning with all there is: the birth message first."""
        unannounced = self._documents.start_over()
        while True:
            post = self._documents.next() or self._next_lost()
            if post is None:
                self._has_documents.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._sends_documents.beat_s()):
                        await self._has_documents.wait()
                continue
            try:
                await self._send_post(channel, post)
            except asyncio.CancelledError:
                self._documents.returned(post)
                raise
            unannounced -= post.retain
            if not unannounced and not is_announced.is_set():
                is_announced.set()
                self.sends_records.works("beginning")

    async def _send_post(self, channel: Channel, post: Post) -> None:
        self._sends_documents.works("sending")
        limit_bytes = channel.connection.limits.packet_bytes
        if limit_bytes is not None and post.packet_bytes > limit_bytes:
            self._on_answer(post, PACKET_TOO_LARGE)  # the broker would hang up, again and again
        else:
            await channel.send(post, partial(self._on_answer, post))

    def _next_lost(self) -> Post | None:
        """Return the newest state of a device whose state the broker lost."""
        due = self._shipments.newest.take_due(self._retained.keeps)
        return None if due is None else Post(*due, retain=True)

    def _on_retained_lost(self) -> None:
        self._shipments.newest.all_lost()
        self._has_documents.set()
        self.on_retained_lost()

    def _on_noted(self, topic: str) -> None:
        self._documents.noted(topic)
        self._has_documents.set()

    def _on_answer(self, post: Post, reason_code: int) -> None:
        if post.on_done is not None:
            post.on_done(reason_code < FIRST_FAILURE)
        self._shipments.newest.answered(post.topic)
        if reason_code < FIRST_FAILURE:
            self._documents.acknowledged(post)
            return
        self._documents.refused(post)
        if not self._status.counts["documents_refused"]:
            _log.warning("the broker refuses %s: %s", post.topic, refusal_text(reason_code))
        self._status.counts["documents_refused"] += 1

    async def _leave(self, channel: Channel, *, is_announced: bool) -> None:
        """Finish what was begun, and say goodbye, within a bounded time."""
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(self._say_goodbye(channel, is_announced=is_announced))
            # Not asyncio.timeout(): this task is being cancelled, and there Python 3.11.2 ends it
            # with CancelledError instead of TimeoutError.
            _, late = await asyncio.wait((leaving,), timeout=LEAVE_TIMEOUT_S)
            if late:
                leaving.cancel()
                _log.warning("the broker did not acknowledge the last messages: they are kept")

    async def _say_goodbye(self, channel: Channel, *, is_announced: bool) -> None:
        await self._shipments.finish(channel)
        while is_announced and (post := self._documents.next()) is not None:
            await self._send_post(channel, post)
        if await channel.wait_answered():
            offline = self._offline(connection=self._connections)
            farewell = Post(self._status_topic, offline, retain=True)
            await channel.send(farewell, lambda _reason_code: None)
            if await channel.wait_answered():
                await channel.connection.leave()

    async def _tick(self, channel: Channel, progress: Callable[[], None]) -> NoReturn:
        began_s = self._clock.monotonic_s()
        taken = self._shipments.taken
        while True:
            self._ticks.waits(TICK_S)
            await asyncio.sleep(TICK_S)
            before, taken = taken, self._shipments.taken
            if taken != before or channel.window.is_crowded:  # whose patience is bounded below
                self.sends_records.moved()
            channel.connection.tick()
            self._shipments.tick()
            self._documents.look(self._clock.monotonic_s())
            if channel.waited_s() > self._settings.ack_timeout_s:
                channel.connection.give_up(
                    f"acknowledged nothing for {self._settings.ack_timeout_s:g} s"
                )
            if self._own_status.is_stale:  # corrected at most once a second, whoever writes there
                self._own_status.is_stale = False
                self._documents.renew(self._status_topic)
                self._has_documents.set()
            lasted_s = self._clock.monotonic_s() - began_s
            self._rivalry.connection_lasts(lasted_s)
            self._status.broker.trouble = self._rivalry.trouble
            if lasted_s >= STABLE_S:
                progress()

    def _rest_stages(self) -> None:
        for stage in (self.sends_records, self._sends_documents, self._ticks):
            stage.idles()

    async def _subscribe(self, connection: Connection) -> None:
        for refused in await connection.subscribe(self._inbox.filters):
            if refused not in self._told_unheard:
                self._told_unheard.add(refused)
                _log.warning(
                    "the broker does not let the gateway subscribe to %s: what is sent there has "
                    "no effect; its access list must permit it (edge-gateway mosquitto-acl prints "
                    "one that does)",
                    refused,
                )

    def _checked(self, subtopic: str) -> str | None:
        """Return the whole topic, or None for a name that must not reach the broker."""
        try:
            return self._topics.full(subtopic)
        except ValueError as exc:
            if not self._status.counts["topics_refused"]:
                _log.error("%s (further ones are only counted)", exc)
            self._status.counts["topics_refused"] += 1
            return None

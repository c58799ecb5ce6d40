"""One connection to the broker: the only module that imports aiomqtt and paho.

aiomqtt connects, authenticates, subscribes and disconnects. For the rest the code here reaches for
paho's client inside it: `Client.publish` waits for each PUBACK in a coroutine of its own, which
costs 130-180 us a message against 60-75 us for paho's `publish` with one `on_publish` callback
(CPython 3.11, a PC, QoS 1, window 100), and keeps no window open without a task for each message.
Messages that arrive bypass aiomqtt's queue, which drops what is too much, and are confirmed when
their taker says so, not when they were read. Why `PahoSocket` serves the socket is told there.

Private are `aiomqtt.Client._client`, and paho's `_handle_publish`, `_in_packet` and `_sock_recv`:
paho ends the connection at a text that it cannot read, and gathers packets of up to 256 MB;
tests/integration/test_mqtt_connection.py pins what is expected of them. All callbacks run in the
loop's thread.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias, cast

import aiomqtt
from paho.mqtt.client import (
    MQTT_CLEAN_START_FIRST_ONLY,
    ConnectFlags,
    DisconnectFlags,
    MQTTMessage,
)
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import LinkError
from gateway.mqtt.failures import MESSAGE_REFUSALS, NO_QOS_1, NO_RETAIN, REFUSALS, explain
from gateway.mqtt.incoming import Listener
from gateway.mqtt.paho_packets import (
    HEAD_BYTES,
    MAX_INCOMING_BYTES,
    UNREADABLE,
    connect_properties,
    incoming,
    publish_head,
    publish_properties,
    subscriptions,
)
from gateway.mqtt.paho_socket import PahoSocket
from gateway.mqtt.settings import BrokerSettings
from gateway.mqtt.tls import client_context

if TYPE_CHECKING:
    from paho.mqtt.client import Client as PahoClient

_log = logging.getLogger(__name__)

# What the libraries would log reaches us as LinkError, or is an ERROR for every lost connection.
_library_log = logging.getLogger(f"{__name__}.library")
_library_log.setLevel(logging.CRITICAL)

_PROTOCOLS = {"5": aiomqtt.ProtocolVersion.V5, "3.1.1": aiomqtt.ProtocolVersion.V311}

_KEEP_ALIVE_TIMEOUT = 141
_SESSION_TAKEN_OVER = 142

FIRST_FAILURE = 0x80
"""Reason codes from here on mean that the broker did not take the message. MQTT 5, 2.4."""

PACKET_TOO_LARGE = 0x95

UNFIT = frozenset({PACKET_TOO_LARGE, 0x99})
"""Reason codes that say the message itself will never do: too large, bad payload format."""

Ack: TypeAlias = tuple[int, int]
"""Packet identifier of a PUBLISH, and the reason code of its PUBACK."""


def refusal_text(reason_code: int) -> str:
    """Return what a PUBACK's reason code means."""
    if reason_code == PACKET_TOO_LARGE:  # no PUBACK says so; it is what a DISCONNECT would
        return "larger than the broker takes"
    words = MESSAGE_REFUSALS.get(reason_code)
    return words or str(ReasonCode(PacketTypes.PUBACK, identifier=reason_code)).lower()


class Loss(Enum):
    """Why a connection ended."""

    EXPLAINED = "explained"
    """For a reason that the broker or we gave."""
    UNEXPLAINED = "unexplained"
    """The broker, or the way to it, ended it without a word."""
    TAKEN_OVER = "taken over"
    """Another client connected with our client id."""


class Limits(NamedTuple):
    """What the broker takes, as its CONNACK said."""

    in_flight: int = 65_535
    """Receive Maximum."""
    packet_bytes: int | None = None
    """Maximum Packet Size; None without a limit."""


def _ignore(_acks: Sequence[Ack]) -> None:
    """Do nothing."""


_DEAF = Listener(take=lambda message: message.done())
"""Takes what nobody wants."""


class Connection:
    """One life of the connection, from CONNECT until it is lost or left; not used twice."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        will: tuple[str, bytes] | None,
        tls_context: ssl.SSLContext | None,
        listener: Listener,
    ) -> None:
        """Prepare; use `open`."""
        self._settings = settings
        self._listener = listener
        self.on_acks: Callable[[Sequence[Ack]], None] = _ignore
        """Called with the broker's answers, in their order; set before the first `publish`."""
        self.limits = Limits()
        """As the broker's CONNACK said."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with the reason when the connection has ended by itself, or with the exception that
        `on_acks` raised. Wait for it with asyncio.wait, which does not cancel it."""
        self.loss = Loss.EXPLAINED
        """Once it is lost: why."""
        self._acks: list[Ack] = []
        self._is_up = False
        self._is_leaving = False
        self._failure = ""
        self._client = aiomqtt.Client(
            settings.host,
            settings.port,
            # MQTT 5 allows a password alone; aiomqtt sends it with a user name only.
            username=settings.username or ("" if settings.password else None),
            password=settings.password,
            identifier=client_id,
            protocol=_PROTOCOLS[settings.version],
            will=None if will is None else aiomqtt.Will(*will, qos=1, retain=True),
            keepalive=settings.keepalive_s,
            timeout=settings.connect_timeout_s,
            max_inflight_messages=0,  # our window is the only one; paho's scans all per PUBACK
            # MQTT 3.1.1 knows no session that ends by itself, and so gets none.
            clean_session=None if settings.version == "5" else True,
            clean_start=False if settings.version == "5" else MQTT_CLEAN_START_FIRST_ONLY,
            properties=connect_properties(settings.version),
            tls_context=tls_context,
            socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
            logger=_library_log,
        )
        self._paho: PahoClient = self._client._client  # noqa: SLF001 - see the module's docstring
        self._socket = PahoSocket(self._paho, self._hand_on_acks, self.give_up)
        self._tell_connect = cast("Callable[..., None]", self._paho.on_connect)
        self._tell_disconnect = cast("Callable[..., None]", self._paho.on_disconnect)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_publish = self._on_publish
        self._paho.on_message = self._on_message
        self._read_publish = self._paho._handle_publish  # noqa: SLF001 - as above
        self._paho._handle_publish = self._on_publish_packet  # type: ignore[method-assign]  # noqa: SLF001 - as above
        self._receive = self._paho._sock_recv  # noqa: SLF001 - as above
        self._paho._sock_recv = self._on_receive  # type: ignore[method-assign]  # noqa: SLF001 - as above
        self._paho.manual_ack_set(True)
        self._paho.on_socket_open = self._socket.on_open
        self._paho.on_socket_close = self._socket.on_close
        self._paho.on_socket_register_write = self._socket.on_want_write
        self._paho.on_socket_unregister_write = self._socket.on_wrote_all
        self._paho.disable_logger()  # it would format nothing, yet costs some microseconds

    @classmethod
    async def open(
        cls,
        settings: BrokerSettings,
        client_id: str,
        will: tuple[str, bytes] | None,
        listener: Listener = _DEAF,
    ) -> Self:
        """Connect and wait for the broker's consent; `will` is topic and payload, if there is one.

        What the broker kept for us goes to `listener` perhaps before this returns.

        Raises:
            LinkError: the reason, in words for people.
        """
        with _told_if_no_thread():
            tls_context = (
                await asyncio.to_thread(client_context, settings) if settings.uses_tls else None
            )
        connection = cls(settings, client_id, will, tls_context, listener)
        try:
            await connection._enter()
        except BaseException:
            connection.close()
            raise
        return connection

    async def _enter(self) -> None:
        try:
            with _told_if_no_thread():
                await self._client.__aenter__()
        except aiomqtt.MqttError as exc:
            # aiomqtt keeps the cause's text only; the cause itself is still the context.
            raise LinkError(self._failure or self._explain(exc.__context__ or exc)) from exc
        except ValueError as exc:  # a UnicodeError, for instance
            raise LinkError(self._explain(exc)) from exc
        _heed_cancellation()

    def _explain(self, cause: BaseException) -> str:
        if isinstance(cause, TimeoutError) and self._socket.is_open:
            return f"connected, but no answer: is it an MQTT {self._settings.version} broker?"
        return explain(cause, self._settings.host)

    def publish(
        self, topic: str, payload: bytes, *, retain: bool, correlation: bytes | None = None
    ) -> int:
        """Send with QoS 1 at the end of this turn of the loop; return the packet identifier.

        The answer comes through `on_acks`. On a lost connection nothing is sent.
        """
        properties = publish_properties(correlation) if self._settings.version == "5" else None
        return self._paho.publish(topic, payload, 1, retain, properties).mid

    async def subscribe(self, filters: Sequence[str]) -> list[str]:
        """Subscribe with QoS 1; return the filters the broker does not permit.

        What matches goes to the listener, retained messages first. On a lost connection nothing is
        sent, and the answer is that nothing was refused.
        """
        try:
            codes = await self._client.subscribe(subscriptions(filters, self._settings.version))
        except aiomqtt.MqttError as exc:
            self.give_up(f"cannot subscribe: {exc}")
            return []
        _heed_cancellation()
        return [
            topic_filter
            for topic_filter, code in zip(filters, codes, strict=False)
            if isinstance(code, ReasonCode) and code.is_failure
        ]

    def tick(self) -> None:
        """Do what is due: send a ping, notice a broker that answers none; call once a second."""
        self._paho.loop_misc()

    async def leave(self) -> None:
        """Disconnect in order, so that the broker drops the will; ends when that was sent."""
        self._is_leaving = True
        with suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)

    def close(self) -> None:
        """End it at once, in whatever state it is."""
        self._socket.close()

    def give_up(self, reason: str) -> None:
        """Note that the connection is lost, unless something else ended it before."""
        if not self._is_up:
            # aiomqtt would wait for a CONNACK until its timeout.
            self._failure = self._failure or reason
            no_flags = ConnectFlags(session_present=False)
            nobody = ReasonCode(PacketTypes.CONNACK, "Server unavailable")
            self._tell_connect(self._paho, None, no_flags, nobody, None)
        elif not self.lost.done():
            self.lost.set_result(reason)

    def _hand_on_acks(self) -> None:
        if not self._acks:
            return
        acks, self._acks = self._acks, []
        try:
            self.on_acks(acks)
        except Exception as exc:  # a bug of ours ends run(), and not only this callback
            if self.lost.done():
                raise
            self.lost.set_exception(exc)

    # Callbacks of paho.

    def _on_connect(
        self,
        client: "PahoClient",
        userdata: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._failure = f"refused: {REFUSALS.get(reason.value, str(reason).lower())}"
        elif getattr(properties, "MaximumQoS", 1) < 1:
            self._failure = f"refused: {REFUSALS[NO_QOS_1]}"
        elif not getattr(properties, "RetainAvailable", 1):
            self._failure = f"refused: {REFUSALS[NO_RETAIN]}"
        if self._failure and not reason.is_failure:
            reason = ReasonCode(PacketTypes.CONNACK, "Server unavailable")
        self._is_up = not self._failure
        if self._is_up and not flags.session_present:
            self._listener.begin_session()
        self.limits = Limits(
            getattr(properties, "ReceiveMaximum", Limits().in_flight),
            getattr(properties, "MaximumPacketSize", None),
        )
        self._tell_connect(client, userdata, flags, reason, properties)

    def _on_disconnect(
        self,
        client: "PahoClient",
        userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if self._is_leaving:
            self._tell_disconnect(client, userdata, flags, reason, properties)
        elif not self._is_up:
            self.give_up(f"does not answer as MQTT {self._settings.version} brokers do")
        elif reason.value == _SESSION_TAKEN_OVER:
            self._note_loss(Loss.TAKEN_OVER)
            self.give_up(f"another client took over the client id {self._client.identifier!r}")
        elif flags.is_disconnect_packet_from_server:
            self.give_up(f"ended by the broker: {str(reason).lower()}")
        elif reason.value == _KEEP_ALIVE_TIMEOUT:
            self.give_up("no answer to a ping")
        else:
            self._note_loss(Loss.UNEXPLAINED)
            self.give_up("connection lost")

    def _note_loss(self, loss: Loss) -> None:
        if not self.lost.done():
            self.loss = loss

    def _on_publish(
        self,
        _client: "PahoClient",
        _userdata: object,
        packet_id: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._acks.append((packet_id, reason.value))

    def _on_receive(self, bufsize: int) -> bytes:
        """Receive for paho; of a packet that is too large nothing is gathered but its head.

        To hang up would not do: a retained message comes again on each connection.
        """
        packet = self._paho._in_packet  # noqa: SLF001 - see the module's docstring
        if packet["remaining_length"] > MAX_INCOMING_BYTES:
            del packet["packet"][HEAD_BYTES:]
            bufsize = min(bufsize, MAX_INCOMING_BYTES)
        return self._receive(bufsize)

    def _on_publish_packet(self) -> MQTTErrorCode:
        """Read a PUBLISH; confirm and drop what is too large, or paho cannot read.

        A broker may let through what paho refuses, such as U+FEFF in a user property. Not confirmed
        it would come again on each connection, and end each.
        """
        packet = self._paho._in_packet  # noqa: SLF001 - see the module's docstring
        command, content = packet["command"], bytes(packet["packet"])
        if packet["remaining_length"] > MAX_INCOMING_BYTES:
            return self._drop(command, content, f"{packet['remaining_length']} bytes are too many")
        try:
            return self._read_publish()
        except UNREADABLE as exc:
            return self._drop(command, content, str(exc))

    def _drop(self, command: int, content: bytes, reason: str) -> MQTTErrorCode:
        topic, packet_id = publish_head(command, content)
        self._listener.drop(topic, reason)
        return self._paho.ack(packet_id, 1) if packet_id else MQTTErrorCode.MQTT_ERR_SUCCESS

    def _on_message(self, client: "PahoClient", _userdata: object, message: MQTTMessage) -> None:
        def confirm() -> None:
            if not self.lost.done():
                client.ack(message.mid, message.qos)

        heard = incoming(message, confirm)
        if heard is None:
            confirm()
            return
        try:
            self._listener.take(heard)
        except Exception as exc:  # a bug of ours ends run(): paho would only log it
            if self.lost.done():
                raise
            self.lost.set_exception(exc)


@contextmanager
def _told_if_no_thread() -> Iterator[None]:
    """Tell in words for people that the system has no thread to give.

    What the executor could not begin stays in its queue, and is done with the next call; a late
    connect finds its socket closed by `PahoSocket`, before a byte is sent.
    """
    try:
        yield
    except RuntimeError as exc:
        raise LinkError(f"{exc}: raise the limit (ulimit -u, TasksMax=)") from exc


def _heed_cancellation() -> None:
    """Raise the cancellation that Python 3.11's asyncio.wait_for has swallowed, if there was one.

    aiomqtt waits with it; a cancel that comes in the same turn of the loop as the answer is lost.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

"""A proxy in front of a broker, for what goes wrong on the way to it.

    async with BrokerProxy("127.0.0.1", 1883) as proxy:
        ...                     # the gateway's broker is now 127.0.0.1, port proxy.port
        proxy.drop_pubacks(1)

It passes bytes on as they come; while they are MQTT it knows the packets, too. What it does to them
is told by calls, or by a plan. A broker that is away shows as a connection that ends at once.
"""

import asyncio
import logging
import socket
from types import TracebackType
from typing import Self

from gateway.errors import LinkError
from gateway.simulate.faults.plan import BrokerRates, FaultPlan
from gateway.simulate.faults.relay import Conditions, Direction, OnPacket, ProxiedConnection
from gateway.simulate.faults.schedule import BrokerAction, broker_events, chance
from gateway.simulate.faults.timeline import Timeline

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
"""Where the proxy listens: what it offers is for this machine."""


class BrokerProxy:
    """Stands in front of the broker at `host` and `port` for the length of an `async with`."""

    def __init__(
        self,
        host: str,
        port: int,
        plan: FaultPlan | None = None,
        *,
        listen_port: int = 0,
        on_packet: OnPacket | None = None,
    ) -> None:
        """Prepare, without listening yet.

        Args:
            host: of the broker.
            port: of the broker.
            plan: what goes wrong; its parts for lines and links are not for us.
            listen_port: where to listen; 0 lets the system choose.
            on_packet: sees each MQTT packet just before it is passed on.
        """
        self.host = HOST
        self.port = listen_port
        """Where clients connect to; final once the context is entered."""
        plan = plan or FaultPlan()
        self._conditions = Conditions(plan.broker, chance(f"{plan.seed} broker bytes"), on_packet)
        self.counts = self._conditions.counts
        self._target = (host, port)
        self._timeline = Timeline(broker_events(plan), self._act)
        self._tasks = asyncio.TaskGroup()
        self._connections: set[ProxiedConnection] = set()
        self._reserved: socket.socket | None = None
        self._listener: socket.socket | None = None

    async def __aenter__(self) -> Self:
        """Listen; from here on the plan's failures happen.

        Raises:
            LinkError: the port is taken.
        """
        try:
            self._reserved = _bound(self.port)
            self.port = self._reserved.getsockname()[1]
            self.accept()
        except OSError as exc:
            self._close_sockets()
            raise LinkError(f"broker proxy on port {self.port}: {exc.strerror}") from exc
        await self._tasks.__aenter__()
        self._timeline.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all connections; what the block raised is passed on as it is."""
        self._timeline.stop()
        self._close_sockets()
        for connection in self._connections:
            connection.cut()
        await self._tasks.__aexit__(None, None, None)
        await asyncio.sleep(0)  # the turn in which the sockets are closed

    def cut(self) -> None:
        """Reset all connections, with what is on the way; new ones are welcome."""
        self.counts.cuts += len(self._connections)
        for connection in self._connections:
            connection.cut()

    def stall(self, direction: Direction | None = None) -> None:
        """Pass nothing on in one direction, or both, also not of new connections."""
        self.counts.stalls += 1
        for each in Direction:
            if direction in {None, each}:
                self._conditions.gates[each].clear()

    def resume(self) -> None:
        """End all stalls; what was held back goes on its way."""
        for gate in self._conditions.gates.values():
            gate.set()

    def refuse(self) -> None:
        """Take no new connection, as if nobody listened there; those there are stay."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def accept(self) -> None:
        """Take connections again."""
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen()
            asyncio.get_running_loop().add_reader(self._listener, self._on_client)

    def drop_pubacks(self, count: int) -> None:
        """Let the next `count` PUBACKs of the broker vanish."""
        self._conditions.pubacks_to_drop += count

    def calm(self) -> None:
        """End the plan and all that was asked for: from now on everything passes."""
        self._timeline.stop()
        self._conditions.rates = BrokerRates()
        self._conditions.pubacks_to_drop = 0
        self.resume()
        self.accept()

    def _act(self, action: BrokerAction) -> None:
        match action:
            case BrokerAction.CUT:
                self.refuse()
                self.cut()
            case BrokerAction.ACCEPT:
                self.accept()
            case BrokerAction.STALL:
                self.stall()
            case BrokerAction.RESUME:
                self.resume()

    def _on_client(self) -> None:
        assert self._listener is not None  # noqa: S101 its reader is removed when it is closed
        try:
            client, _ = self._listener.accept()
        except OSError as exc:  # it has hung up meanwhile, or there are no descriptors left
            _log.debug("broker proxy: %s", exc)
            return
        client.setblocking(False)
        self.counts.connections += 1
        connection = ProxiedConnection(self._conditions, client, self.counts.connections)
        self._connections.add(connection)
        task = self._tasks.create_task(
            connection.run(self._target), name=f"broker proxy {connection.number}"
        )
        task.add_done_callback(lambda _: self._connections.discard(connection))
        connection.cancel = task.cancel

    def _close_sockets(self) -> None:
        self.refuse()
        if self._reserved is not None:
            self._reserved.close()


def _bound(port: int) -> socket.socket:
    """Return a socket bound to the port, for whom another of ours may be bound to it too."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind((HOST, port))
    except OSError:
        bound.close()
        raise
    return bound

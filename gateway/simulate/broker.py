"""A small MQTT broker for trying things out; the only module that imports amqtt.

The broker is amqtt in a child process (`python -m gateway.simulate.broker`), so that its work
does not delay the gateway's loop. It listens on loopback only, lets everybody in, and keeps all
in memory: what it retained is gone when it ends.

Its limits, read in amqtt 0.12's source and measured; for more, run mosquitto:
  - MQTT 3.1.1 only: a client that asks for MQTT 5 is refused with return code 1.
  - Some 1,100 QoS 1 messages a second with one subscriber, where mosquitto does 20,000. It
    acknowledges a message before it has passed it on, into a queue without a bound: a publisher
    that is faster for long makes it grow, and what waits there can be lost when it disconnects.
  - A subscriber that stops reading makes it grow as well; one that does not acknowledge a QoS 1
    message within 5 s loses that message.
  - Keep-alives are not enforced: a will is sent when a connection closes, not when it falls silent.
  - A second client with the same client id does not disconnect the first one.
"""

import argparse
import asyncio
import importlib.util
import logging
import os
import signal
import socket
import sys
from types import TracebackType
from typing import NoReturn, Self

from gateway.errors import LinkError
from gateway.simulate.child import ChildProcess

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
"""The broker asks nobody for a password, so nobody but this machine may reach it."""

START_TIMEOUT_S = 30.0
"""Importing amqtt takes half a second on a PC, and several on a Pi Zero."""

_STOP_TIMEOUT_S = 3.0
"""How long the child may take to notice that its stdin was closed, before it is killed."""

_LISTENER = "default"
"""The name of the listener amqtt insists on."""


def available() -> bool:
    """Tell whether amqtt is installed (the extra `demo`)."""
    return importlib.util.find_spec("amqtt") is not None


class EmbeddedBroker:
    """Runs the broker while the context is open: `async with EmbeddedBroker() as broker:`.

    The child exits when its stdin closes, so it does not outlive this process whatever ends it.
    """

    def __init__(self, port: int = 0) -> None:
        """`port` 0 lets the system choose one."""
        self.host = HOST
        self.port = port
        """Where to connect to; final once the context is entered."""
        self.start_s = 0.0
        """How long the start took, in seconds."""
        self._child = ChildProcess("embedded broker", self._on_output)
        self._output = b""
        self._said = asyncio.Event()
        """Set when the child has printed its port, or ended without."""

    async def __aenter__(self) -> Self:
        """Start the child and wait until it listens.

        Raises:
            LinkError: it ended, or did not listen in time.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        await self._child.start(
            [sys.executable, "-m", "gateway.simulate.broker", "--port", str(self.port)]
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._said.wait()
        except TimeoutError:
            raise LinkError(f"the embedded broker did not start in {START_TIMEOUT_S:g} s") from None
        finally:
            if not self._output.endswith(b"\n"):
                await self._child.stop(0)
        if not self._output.endswith(b"\n"):
            raise LinkError(f"the embedded broker did not start: {self._child.last_words()}")
        self.port = int(self._output)
        self.start_s = loop.time() - started_s
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the child."""
        await self._child.stop(_STOP_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """The process id of the child; 0 before it was started."""
        return self._child.pid or 0

    async def run(self) -> NoReturn:
        """Wait until the child ends by itself, which it should not.

        Raises:
            LinkError: it ended.
        """
        await self._child.ended.wait()
        raise LinkError(f"the embedded broker ended: {self._child.last_words()}")

    def _on_output(self, data: bytes) -> None:
        self._output += data
        if not data or self._output.endswith(b"\n"):
            self._said.set()


async def _serve(listener: socket.socket) -> None:
    """Be the broker until stdin closes; print the port once it accepts clients.

    Raises:
        PermissionError: stdin is a file or /dev/null, which nobody holds open.
    """
    from amqtt.adapters import (  # type: ignore[import-untyped]  # noqa: PLC0415 an optional package, needed in the child only
        StreamReaderAdapter,
        StreamWriterAdapter,
    )
    from amqtt.broker import Broker  # type: ignore[import-untyped]  # noqa: PLC0415 as above

    parent_gone = asyncio.Event()

    def on_stdin() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            parent_gone.set()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), on_stdin)
    broker = Broker(
        {
            "listeners": {_LISTENER: {"type": "external"}},  # the socket is ours: port 0, loopback
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}},
        }
    )
    await broker.start()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await broker.external_connected(
            StreamReaderAdapter(reader), StreamWriterAdapter(writer), _LISTENER
        )

    server = await asyncio.start_server(on_client, sock=listener)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 the parent reads it
    await parent_gone.wait()
    # Nothing is worth saving. amqtt's own shutdown waits for clients, and its tasks swallow
    # cancellation; the sockets close with the process.
    os._exit(0)


def main(arguments: list[str] | None = None) -> int:
    """Run the broker in the foreground; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.simulate.broker")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 chooses a free one")
    port: int = parser.parse_args(arguments).port
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, whose end ends this
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        listener = socket.create_server((HOST, port))
    except OSError as exc:
        print(f"cannot listen on {HOST}:{port}: {os.strerror(exc.errno or 0)}", file=sys.stderr)  # noqa: T201 a program's error
        return 1
    try:
        asyncio.run(_serve(listener), debug=False)
    except PermissionError:
        print("stdin must be a pipe or a terminal: its end is the broker's end", file=sys.stderr)  # noqa: T201 as above
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

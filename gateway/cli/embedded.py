"""The embedded broker, as `run` and `demo` use it."""

import asyncio

from gateway.app import App
from gateway.simulate.broker import HOST, EmbeddedBroker

EMBEDDED_PORT = 18_830
"""Where it listens unless somebody does already: a port to remember, and not MQTT's own, which
belongs to a broker that is installed later."""

_PROBE_TIMEOUT_S = 1.0
"""How long a broker on this machine may take to accept a connection."""


async def embedded_broker() -> EmbeddedBroker:
    """Return a broker to be entered."""
    return EmbeddedBroker(0 if await listens(HOST, EMBEDDED_PORT) else EMBEDDED_PORT)


def embedded_settings(broker: EmbeddedBroker) -> dict[str, object]:
    """Return the settings of [mqtt] for the embedded broker, which speaks MQTT 3.1.1 only."""
    return {"host": broker.host, "port": broker.port, "version": "3.1.1"}


async def run_with(app: App, broker: EmbeddedBroker) -> None:
    """Run the gateway as long as its broker lives; ends with a group of LinkError if that ends."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(broker.run(), name="embedded broker")
        await app.run()


async def listens(host: str, port: int) -> bool:
    """Tell whether a connection is accepted there."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
    except OSError:  # TimeoutError is one too
        return False
    return True

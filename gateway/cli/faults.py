"""Faults on the command line: what there is to choose from, and the proxy to a broker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config.broker_url import parse_broker
from gateway.errors import ConfigError
from gateway.simulate.faults import KEYS, BrokerRates, FaultPlan
from gateway.simulate.faults.broker import BrokerProxy

_MQTT_PORT = 1883

_HEADINGS = {
    "lines": "the lines of a wire, each a share from 0 to 1",
    "link": "a board and its port",
    "broker": "the way to the broker (with --broker)",
    "radio": "the virtual radio (with --radio)",
}


def fault_help() -> str:
    """Return what each key means, as lines of help."""
    lines = []
    for section, heading in _HEADINGS.items():
        lines.append(f"  {heading}")
        for key in (key for key in KEYS if key.section == section):
            default = f" (default: {key.default:g})" if key.default else ""
            lines.append(f"    {key.name:21} {key.meaning}{default}")
    return "\n".join(lines)


@asynccontextmanager
async def proxied(broker: str | None, port: int, plan: FaultPlan) -> AsyncIterator[str | None]:
    """Stand in front of `broker`, if one is given; give the URL at which the gateway finds it.

    Raises:
        ConfigError: the broker cannot be understood, or there are faults for one and it is missing.
        LinkError: the port is taken.
    """
    if broker is None:
        if plan.broker != BrokerRates():
            raise ConfigError("--faults: those of the broker need --broker HOST:PORT, where it is")
        yield None
        return
    target = parse_broker(broker)
    if target.get("tls"):
        raise ConfigError("--broker: the proxy is on the way of plain MQTT only, not of mqtts://")
    host, broker_port = str(target["host"]), int(str(target.get("port", _MQTT_PORT)))
    async with BrokerProxy(host, broker_port, plan, listen_port=port) as proxy:
        yield f"mqtt://{proxy.host}:{proxy.port}"

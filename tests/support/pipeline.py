"""A pipeline on its own: no broker is needed to see what it makes of events."""

from gateway.clock import Clock
from gateway.devices.registry import Devices
from gateway.mqtt.names import Names
from gateway.mqtt.publisher import BrokerSettings, Publisher
from gateway.pipeline import Pipeline
from gateway.status import Status
from gateway.store.outbox import Outbox, OutboxOptions
from gateway.timekeeper import TimeKeeper


def new_pipeline(status: Status, clock: Clock | None = None) -> tuple[Pipeline, Devices]:
    """Return one that writes to `status`, and its registry."""
    clock = clock or Clock(is_synchronised=lambda: False)
    timekeeper = TimeKeeper(clock)
    outbox = Outbox(OutboxOptions(), status.counts, clock)
    publisher = Publisher(
        BrokerSettings(host="127.0.0.1", port=1, base_topic="edge/test"),
        gateway="test",
        version="1.2.3",
        session="s",
        records=outbox,
        clock=clock,
        timekeeper=timekeeper,
        status=status,
    )
    devices = Devices(publisher, Names(), status, timekeeper)
    return Pipeline(outbox, publisher, devices, status, timekeeper), devices

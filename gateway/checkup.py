"""Whether all is well with the gateway, in words; pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.status import Status

MAX_NAMED: Final = 10
"""So many links or devices are named; of the others there is but the number."""

SLOW_LOOP_S: Final = 0.25
"""A loop that is later than this once in a hundred times is slow."""


def problems_of(status: Status) -> list[str]:
    """Return what is not as it should be, the gravest first; nothing when all is well."""
    return [
        *_of_broker(status),
        *_of_disk(status),
        *_of_configuration(status),
        *_of_links(status),
        *_of_machine(status),
    ]


def _of_broker(status: Status) -> Iterator[str]:
    broker = status.broker
    if not broker.connected:
        yield f"broker: there is no connection to {broker.address}"
    if broker.trouble:
        yield f"broker: {broker.trouble}"


def _of_disk(status: Status) -> Iterator[str]:
    for name, state, error in (
        ("outbox", status.store.state, status.store.error),
        ("state database", status.state.state, status.state.error),
    ):
        if state == "failing":
            yield f"{name}: {error or 'it cannot be used'}"
        elif state == "opening":
            yield f"{name}: still being opened"


def _of_configuration(status: Status) -> Iterator[str]:
    configuration = status.configuration
    if configuration.state == "last_good":
        yield f"configuration: the last good one is in force: {configuration.error}"
    elif configuration.error:
        yield f"configuration: not reloaded: {configuration.error}"


def _of_links(status: Status) -> Iterator[str]:
    lost = [link.name for link in status.links.values() if link.state == "lost"]
    yield from _named("link", "lost, and tried again", lost)
    # Boards on the radio, of which the signal is known, are connected to only when there is need.
    closed = [
        link.name for link in status.links.values() if link.state == "closed" and link.rssi is None
    ]
    yield from _named("link", "cannot be opened, and is tried again; the log says why", closed)
    for problem in sorted({each.problem for each in status.devices.values() if each.problem}):
        devices = [each.device for each in status.devices.values() if each.problem == problem]
        yield from _named("device", problem.replace("_", " "), devices)


def _of_machine(status: Status) -> Iterator[str]:
    if status.radio.state == "recovering":
        yield f"radio: it does not scan: {status.radio.reason or 'it is being restarted'}"
    late_s = status.loop_lag_s.quantile(0.99)
    if late_s > SLOW_LOOP_S:
        yield f"machine: too slow: the loop is {late_s:.2f} s late once in a hundred times"


def _named(noun: str, trouble: str, names: Iterable[str]) -> Iterator[str]:
    listed = list(names)
    for name in listed[:MAX_NAMED]:
        yield f"{noun} {name}: {trouble}"
    if len(listed) > MAX_NAMED:
        yield f"{len(listed) - MAX_NAMED} more: {noun}s {trouble}"

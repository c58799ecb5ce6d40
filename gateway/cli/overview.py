"""What the demo shows of a running gateway: figures, and the same as plain lines."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.app import App
from gateway.model import Value

_RATE_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device."""

    device: str
    name: str
    """For people, as the board says it; the device where it says none."""
    link: str
    driver: str
    is_online: bool
    values: Mapping[str, Value]
    """The newest of each sensor."""
    per_s: float
    """Samples a second, over the last few seconds."""
    received: int
    delivered: int
    lost: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The gateway as a whole."""

    broker: str
    is_connected: bool
    in_flight: int
    outbox: int
    loop_lag_p99_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    received: int
    delivered: int
    lost: int


@dataclass(slots=True)
class _History:
    counts: deque[tuple[float, int]] = field(default_factory=deque)
    values: dict[str, Value] = field(default_factory=dict)


class Overview:
    """Reads the status board of a gateway, and remembers enough of it to know rates."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._histories: dict[str, _History] = {}

    def rows(self, now_s: float) -> list[DeviceRow]:
        """Return the devices by name; call it about once a second."""
        return [
            DeviceRow(
                device=entry.device,
                name=entry.name or entry.device,
                link=entry.link,
                driver=entry.driver,
                is_online=entry.online,
                values=self._merged(entry.device, entry.values),
                per_s=self._rate(entry.device, entry.received, now_s),
                received=entry.received,
                delivered=entry.delivered,
                lost=entry.lost,
            )
            for _, entry in sorted(self._app.status.devices.items())
        ]

    def totals(self) -> Totals:
        """Return the figures of the whole."""
        status = self._app.status
        devices = status.devices.values()
        return Totals(
            broker=status.broker.address,
            is_connected=status.broker.connected,
            in_flight=status.broker.in_flight,
            outbox=self._app.outbox.size,
            loop_lag_p99_ms=status.loop_lag_s.quantile(0.99) * 1000,
            latency_p50_ms=status.latency_s.quantile(0.5) * 1000,
            latency_p99_ms=status.latency_s.quantile(0.99) * 1000,
            received=sum(entry.received for entry in devices),
            delivered=sum(entry.delivered for entry in devices),
            lost=sum(entry.lost for entry in devices),
        )

    def _history(self, device: str) -> _History:
        return self._histories.setdefault(device, _History())

    def _merged(self, device: str, newest: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return the newest of each sensor: a sample holds those of one stream only."""
        values = self._history(device).values
        values.update(newest)
        return values

    def _rate(self, device: str, received: int, now_s: float) -> float:
        counts = self._history(device).counts
        counts.append((now_s, received))
        while counts[0][0] < now_s - _RATE_WINDOW_S and len(counts) > 1:
            counts.popleft()
        then_s, then = counts[0]
        return (received - then) / (now_s - then_s) if now_s > then_s else 0.0


def values_text(values: Mapping[str, Value]) -> str:
    """Return for example `humidity=45.2 temperature=21.5`."""
    return " ".join(f"{key}={value}" for key, value in sorted(values.items()))


def totals_text(totals: Totals) -> str:
    """Return the figures of the whole in one line."""
    state = "connected" if totals.is_connected else "not connected"
    return (
        f"broker {totals.broker} {state}, {totals.in_flight} messages in flight, "
        f"outbox {totals.outbox}, latency p50 {totals.latency_p50_ms:.1f} ms "
        f"p99 {totals.latency_p99_ms:.1f} ms, loop lag p99 {totals.loop_lag_p99_ms:.1f} ms"
    )


def plain_lines(rows: list[DeviceRow], totals: Totals) -> Iterator[str]:
    """Yield the overview for a pipe or a log: no colours, no cursor."""
    yield totals_text(totals)
    for row in rows:
        state = "online" if row.is_online else "offline"
        yield (
            f"  {row.name} ({row.device}) on {row.link}, {state}: {row.per_s:.1f}/s, "
            f"received {row.received}, delivered {row.delivered}, lost {row.lost}; "
            f"{values_text(row.values)}"
        )

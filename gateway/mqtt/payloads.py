"""Payloads of the topics in README.md: values -> bytes; pure."""

import json
from collections.abc import Iterable
from itertools import islice
from typing import Literal

from gateway.checkup import problems_of
from gateway.clock import TimeBase, TimeFormat
from gateway.model import Actuator, Description, DeviceLog, Gap, Implausible, Sample, Value
from gateway.status import Histogram, LinkStatus, Status
from gateway.timekeeper import TimeKeeper

MAX_HEALTH_LINKS = 100
"""Links listed in the health document, those in trouble first; keeps it below 20 kB."""

_LARGEST_INTEGER = 2**64
"""Drivers let nothing larger pass; beyond 4,300 digits Python itself refuses to print one."""

# One encoder for all: json.dumps with other than its default arguments builds one each time. The
# circular check costs a tenth, and values are flat. allow_nan=False: NaN and Infinity are no JSON.
_encode = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode


class SamplePayloads:
    """Samples -> JSON: the hot path.

    A sample of three values costs 3 us in an array of 100 and 5 us alone (CPython 3.11, a PC):
    the whole array in one call of the C encoder, against 6 us with a json.dumps for each sample.
    """

    def __init__(self) -> None:
        self._times = TimeFormat()

    def state(self, sample: Sample, base: TimeBase) -> bytes:
        """Return one sample as a flat object: its values, `time`, `id` and `time_quality`."""
        return _json(self._objects((sample,), base)[0])

    def history(self, samples: Iterable[Sample], base: TimeBase) -> bytes:
        """Return samples as an array of such objects, in the order given."""
        return _json(self._objects(samples, base))

    def gap(self, gap: Gap) -> bytes:
        """Return which samples of a device's boot are lost; `from` and `to` are inclusive."""
        return _json(
            {
                "device": gap.device,
                "boot": gap.boot,
                "from": gap.first_seq,
                "to": gap.last_seq,
                "cause": gap.cause.value,
                "count": gap.count,
            }
        )

    def _objects(self, samples: Iterable[Sample], base: TimeBase) -> list[dict[str, Value]]:
        offset_s, quality = base
        time_text = self._times.text
        objects = []
        for device, boot, seq, taken_s, values in samples:
            flat = dict(values)
            flat["time"] = time_text(taken_s + offset_s)
            flat["id"] = f"{device}/{boot}/{seq}"
            flat["time_quality"] = quality
            objects.append(flat)
        return objects


def status(  # noqa: PLR0913 - what it says
    state: Literal["online", "offline"],
    session: str,
    version: str,
    since: str,
    heartbeat_s: float = 60.0,
    *,
    connection: int | None = None,
) -> bytes:
    """Return the gateway's state; `since` is when this run of it began, in UTC.

    The health topic is renewed every `heartbeat_s`: a subscriber may worry after two of them. A
    will has the number of its connection.
    """
    return _json(
        {
            "state": state,
            "session": session,
            "version": version,
            "since": since,
            "heartbeat_s": int(heartbeat_s) if heartbeat_s.is_integer() else heartbeat_s,
            **({} if connection is None else {"connection": connection}),
        }
    )


def availability(is_online: bool) -> bytes:  # noqa: FBT001 - one fact in, one word out
    """Return whether a device is there, as plain text."""
    return b"online" if is_online else b"offline"


def actuator_state(state: Value | None) -> bytes | None:
    """Return an actuator's state as plain text: true, 21.5 or a word; None if it is unknown."""
    if state is None or _is_nonsense(state):
        return None
    return _utf8(state) if isinstance(state, str) else _json(state)


def log(line: DeviceLog, unix_s: float) -> bytes:
    """Return a line a device logged."""
    return _json(
        {"level": line.level.name.lower(), "text": line.text, "time": TimeFormat().text(unix_s)}
    )


def implausible(wrong: Implausible, base: TimeBase) -> bytes:
    """Return a value that was left out of its sample; limits that are not set are left out."""
    sample = wrong.sample
    limits = {"low": wrong.low, "high": wrong.high}
    return _json(
        {
            "kind": "implausible",
            "sensor": wrong.sensor,
            "value": wrong.value,
            **{key: limit for key, limit in limits.items() if limit is not None},
            "count": wrong.count,
            "time": TimeFormat().text(sample.taken_s + base.offset_s),
            "id": f"{sample.device}/{sample.boot}/{sample.seq}",
        }
    )


def info(
    description: Description, *, name: str = "", identity: str = "", is_current: bool = True
) -> bytes:
    """Return what a device said of itself; keys it said nothing about are left out.

    `name` is what its owner calls it, `identity` what it is known by if that is not its key. What
    is not current has no boot: that was another one.
    """
    texts = {
        "device": description.device,
        "identity": identity,
        "name": name or description.name,
        "driver": description.driver,
        "model": description.model,
        "firmware": description.firmware,
        "runtime": description.runtime,
        "address": description.address,
        "reset_cause": description.reset_cause,
        "crash": description.crash,
        "problem": description.problem,
    }
    sensors = [
        {
            "key": sensor.key,
            **_given(
                {"unit": sensor.unit, "device_class": sensor.device_class, "kind": sensor.kind}
            ),
            **({"diagnostic": True} if sensor.is_diagnostic else {}),
        }
        for sensor in description.sensors
    ]
    actuators = [_actuator(actuator) for actuator in description.actuators]
    return _json(
        {
            **_given(texts),
            **({"boot": description.boot} if is_current else {}),
            "sensors": sensors,
            "actuators": actuators,
        }
    )


def health(  # noqa: PLR0913 - each keyword is one measurement
    status: Status,
    timekeeper: TimeKeeper,
    *,
    memory_bytes: int,
    outbox_in_memory: int,
    outbox_on_disk: int,
    outbox_oldest_s: float | None,
) -> bytes:
    """Return the gateway's own measurements; counters count from its start.

    `outbox_oldest_s` is the monotonic time of the oldest waiting record.
    """
    base, now_s = timekeeper.base(), timekeeper.clock.monotonic_s()
    troubled_first = sorted(status.links.values(), key=lambda link: link.state == "open")
    return _json(
        {
            "time": TimeFormat().text(now_s + base.offset_s),
            "time_quality": base.quality,
            "problems": problems_of(status),
            "clock": {
                "offset": timekeeper.source,
                "synced_age_s": _age_s(timekeeper.synced_s, now_s),
            },
            "memory_bytes": memory_bytes,
            "loop_lag_s": _quantiles(status.loop_lag_s),
            "latency_s": _quantiles(status.latency_s),
            "command_latency_s": _quantiles(status.command_latency_s),
            "outbox": {
                "records": outbox_in_memory + outbox_on_disk,
                "on_disk": outbox_on_disk,
                "oldest_age_s": _age_s(outbox_oldest_s, now_s),
                "store": {
                    "state": status.store.state,
                    **_given({"error": status.store.error}),
                    "bytes": status.store.bytes,
                    "stored": status.store.stored,
                    "commits": status.store.commits,
                    "failures": status.store.failures,
                },
            },
            "configuration": {
                "state": status.configuration.state,
                **_given({"error": status.configuration.error}),
            },
            "registry": {
                "state": status.state.state,
                **_given({"error": status.state.error}),
                "commits": status.state.commits,
                "failures": status.state.failures,
            },
            "broker": {
                "connects": status.broker.connects,
                "in_flight": status.broker.in_flight,
                **_given({"trouble": status.broker.trouble}),
            },
            "radio": {
                "state": status.radio.state,
                **_given({"reason": status.radio.reason, "mode": status.radio.mode}),
                "adverts": status.radio.adverts,
                "adverts_dropped": status.radio.adverts_dropped,
                "adverts_unknown": status.radio.adverts_unknown,
                "connected": status.radio.connected,
                "recoveries": status.radio.recoveries,
            },
            "devices": {
                "total": len(status.devices),
                "online": sum(device.online for device in status.devices.values()),
            },
            "counts": dict(status.counts),
            "links_total": len(status.links),
            "links": {link.name: _link(link) for link in islice(troubled_first, MAX_HEALTH_LINKS)},
        }
    )


def answer(transaction: Value | None, data: object) -> bytes:
    """Return the answer to a request that was done; `data` is what JSON knows."""
    return _json({**_echo(transaction), "status": "ok", "data": data})


def refusal(transaction: Value | None, error: str) -> bytes:
    """Return the answer to a request that was not done, with the reason in words."""
    return _json({**_echo(transaction), "status": "error", "error": error})


def _echo(transaction: Value | None) -> dict[str, Value]:
    return {} if transaction is None else {"transaction": transaction}


def _age_s(since_s: float | None, now_s: float) -> float | None:
    return None if since_s is None else round(now_s - since_s, 3)


def _link(link: LinkStatus) -> dict[str, object]:
    return {
        "state": link.state,
        "device": link.device,
        "opens": link.opens,
        "bytes_in": link.bytes_in,
        "bytes_out": link.bytes_out,
        "faults": dict(link.faults),
    }


def _actuator(actuator: Actuator) -> dict[str, object]:
    entry: dict[str, object] = {"key": actuator.key, "name": actuator.name, "kind": actuator.kind}
    if actuator.minimum is not None:
        entry["minimum"] = actuator.minimum
    if actuator.maximum is not None:
        entry["maximum"] = actuator.maximum
    if actuator.step is not None:
        entry["step"] = actuator.step
    if actuator.options:
        entry["options"] = actuator.options
    if actuator.is_light:
        entry["light"] = True
    return entry | _given({"unit": actuator.unit, "device_class": actuator.device_class})


def _quantiles(histogram: Histogram) -> dict[str, float | int]:
    return {
        "count": histogram.count,
        "p50": round(histogram.quantile(0.5), 6),
        "p99": round(histogram.quantile(0.99), 6),
        "max": round(histogram.largest, 6),
    }


def _given(texts: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text}


def _json(document: object) -> bytes:
    try:
        text = _encode(document)
    except ValueError:
        # No driver lets such a value pass; should one slip through, it is left out, as a sensor
        # without a reading is, and the rest is published.
        text = _encode(_without_nonsense(document))
    return _utf8(text)


def _utf8(text: str) -> bytes:
    # JSON from a board may hold half a surrogate pair ("\ud800"), which UTF-8 has no form for.
    return text.encode("utf-8", "replace")


def _without_nonsense(document: object) -> object:
    if isinstance(document, dict):
        return {
            key: _without_nonsense(value)
            for key, value in document.items()
            if not _is_nonsense(value)
        }
    if isinstance(document, list):
        return [_without_nonsense(entry) for entry in document]
    return document


def _is_nonsense(value: object) -> bool:
    """Tell whether `value` is NaN, infinite or absurdly large: every comparison fails for NaN."""
    if not isinstance(value, float | int):
        return False
    return not -_LARGEST_INTEGER < value < _LARGEST_INTEGER

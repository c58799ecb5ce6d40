"""One sensor that is known by its adverts."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from gateway.drivers.advert import Advert
from gateway.drivers.advert_cadence import Cadence
from gateway.drivers.advert_covers import Cover
from gateway.drivers.advert_families import content_of
from gateway.drivers.advert_values import RSSI, Decoded, Decoder, Reading
from gateway.drivers.text_device import MAX_SENSORS, printable
from gateway.model import (
    Description,
    DeviceLog,
    Event,
    Fault,
    LogLevel,
    Readings,
    Sample,
    Seen,
    Sensor,
    Value,
)

Problem: TypeAlias = Literal["", "needs_key", "wrong_key"]

REPEAT_S: Final = 30.0
"""An advert without a number that comes again within it is the same packet; after it, the sensor
measured the same once more."""
EVENT_REPEAT_S: Final = 4.0
"""The same for what happened, such as a press of a button, counted from the last repetition: who
presses again later means it. The library for BTHome takes the same time."""
RECENT: Final = 8
"""Packets remembered of each sensor; some send two or three kinds in turn."""
WRONG_KEY_AFTER: Final = 3
"""Adverts in a row that the key does not open; one alone may be somebody else's."""
REDESCRIBE_S: Final = 60.0
"""A name or firmware that changes is told at most so often."""

_PROBLEMS = {
    "needs_key": "its adverts are encrypted: set its bind_key under [[ble.device]]",
    "wrong_key": "its adverts cannot be decrypted: the bind_key under [[ble.device]] is wrong",
}


@dataclass(slots=True)
class _Packet:
    """When a packet was heard."""

    heard_s: float
    taken_s: float
    has_events: bool


class AdvertDevice:
    """What is known of a sensor: its parser, key, counter, sensors, cadence."""

    __slots__ = (
        "_described",
        "_described_s",
        "_failures",
        "_identity",
        "_next_seq",
        "_recent",
        "_sensors",
        "address",
        "boot",
        "cadence",
        "counter",
        "decoder",
        "device",
        "given_name",
        "is_online",
        "is_sleepy",
        "local_name",
        "problem",
    )

    def __init__(
        self, device: str, address: str, given_name: str, decoder: Decoder, boot: int
    ) -> None:
        """`device` is its slug, `given_name` is for people and may be empty."""
        self.device = device
        self.address = address
        self.given_name = given_name
        self.decoder = decoder
        self.boot = boot
        self.cadence = Cadence()
        self.counter: int | None = None
        """Of the newest advert that its key opened."""
        self.problem: Problem = ""
        self.local_name = ""
        self.is_sleepy = False
        self.is_online = False
        """Whether it was announced and has not left since."""
        self._next_seq = 0
        self._failures = 0
        self._sensors: dict[str, Sensor] = {}
        self._recent: dict[Hashable, _Packet] = {}
        self._identity = ("", "", "")
        self._described: Description | None = None
        self._described_s = 0.0

    @property
    def is_announced(self) -> bool:
        """Whether anybody was told of it."""
        return self._described is not None

    def hear(
        self, advert: Advert, radio_s: float, pauses: int, out: list[Event], *, is_alone: bool
    ) -> None:
        """Append what the advert says; `radio_s` stands still in the `pauses` of the scanner.

        Unless this format `is_alone` in the advert, it may be left over from an earlier one, and
        means nothing where it is the same.
        """
        cover = self.decoder.family.cover(advert)
        if advert.name:
            self.local_name = advert.name
        content = content_of(advert, self.decoder.family)
        packet = self._recent.get(content)
        if packet is not None and (not is_alone or _is_repeat(packet, cover, advert.heard_s)):
            packet.heard_s = advert.heard_s
            if cover.kind == "sealed" and self.decoder.key is not None and not self.problem:
                return  # anybody can send it again: it proves nothing
        elif not self._take(advert, content, cover, radio_s, out):
            return
        self.cadence.hear(radio_s, pauses)
        if not self.is_online and self._described is not None:
            self.is_online = True
            out.append(Seen(self._described))

    def _take(
        self, advert: Advert, content: Hashable, cover: Cover, radio_s: float, out: list[Event]
    ) -> bool:
        """Append what a new packet says; return whether it shows that the sensor is there."""
        if self.decoder.key is not None and not self._may_open(cover, radio_s, out):
            return False
        if len(self._recent) >= RECENT and content not in self._recent:
            del self._recent[next(iter(self._recent))]
        heard_s = advert.heard_s
        packet = self._recent[content] = _Packet(heard_s, heard_s, has_events=False)
        decoded = self.decoder.decode(advert, self.local_name)
        self.is_sleepy = decoded.is_sleepy
        self._identity = (decoded.name, decoded.model, decoded.firmware)
        if cover.kind == "sealed" and not self._opened(decoded, cover, heard_s, out):
            return bool(self.problem)
        packet.has_events = decoded.has_events
        if decoded.readings:
            values = self._admit(decoded.readings, advert.rssi, out)
            self._describe_if_changed(heard_s, out)
            sample = Sample(self.device, self.boot, self._next_seq, heard_s, values)
            self._next_seq += 1
            out.append(Readings(self.device, (sample,)))
        return True

    def _may_open(self, cover: Cover, radio_s: float, out: list[Event]) -> bool:
        """Tell whether an advert of a sensor with a key is worth decrypting.

        Refused are those that are not encrypted, and counters that came before. A counter near zero
        begins anew, as after a change of batteries, but only of a sensor that fell silent: else it
        was recorded when the sensor was young.
        """
        if cover.kind != "sealed":
            if cover.kind == "plain":
                out.append(Fault("downgrade", f"{self.device}: not encrypted, although it can be"))
            return False
        if cover.counter is None:
            out.append(Fault("bad_advert", f"{self.device}: too short"))
            return False
        if self.counter is None or cover.counter > self.counter:
            return True
        if cover.counter == self.counter:
            return False
        silent_from_s = self.cadence.silent_from_s(is_sleepy=False)
        if cover.counter < cover.restart and silent_from_s is not None and radio_s > silent_from_s:
            self.decoder.count_anew()
            return True
        out.append(
            Fault("replayed", f"{self.device}: counter {cover.counter} after {self.counter}")
        )
        return False

    def _opened(self, decoded: Decoded, cover: Cover, now_s: float, out: list[Event]) -> bool:
        """Note whether a sealed advert was decrypted, and say so where that changes."""
        if decoded.is_unsealed:
            self.counter = cover.counter
            self._failures = 0
            self._have_problem("", now_s, out)
            return True
        if self.decoder.key is None:
            out.append(Fault("needs_key", f"{self.device}: {_PROBLEMS['needs_key']}"))
            self._have_problem("needs_key", now_s, out)
            return False
        out.append(Fault("not_decrypted", f"{self.device}: the key does not open it"))
        self._failures += 1
        if self._failures >= WRONG_KEY_AFTER:
            self._have_problem("wrong_key", now_s, out)
        return False

    def failed(self, cover: Cover, now_s: float, out: list[Event]) -> None:
        """Note that the parser raised; at sealed adverts that is what wrong keys do, too."""
        if cover.kind == "sealed" and self.decoder.key is not None:
            self._opened(Decoded(), cover, now_s, out)

    def _have_problem(self, problem: Problem, now_s: float, out: list[Event]) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem or self._described is not None:
            self._describe(now_s, out)
        if problem:
            out.append(DeviceLog(self.device, LogLevel.WARNING, _PROBLEMS[problem]))

    def _admit(
        self, readings: tuple[Reading, ...], rssi: int, out: list[Event]
    ) -> dict[str, Value]:
        """Return the values by key; `_2` and so on where a key comes twice."""
        values: dict[str, Value] = {}
        for sensor, value in readings:
            key, number = sensor.key, 2
            while key in values:
                key, number = f"{sensor.key}_{number}", number + 1
            if key not in self._sensors:
                if len(self._sensors) >= MAX_SENSORS - 1:
                    fault = Fault("too_many_sensors", f"{self.device}: more than {MAX_SENSORS}")
                    out.append(fault)
                    break
                self._sensors[key] = replace(sensor, key=key)
            values[key] = value
        values[RSSI.key] = rssi
        return values

    def _describe_if_changed(self, now_s: float, out: list[Event]) -> None:
        described = self._described
        if not self.is_online or described is None or len(described.sensors) <= len(self._sensors):
            self._describe(now_s, out)
            return
        is_due = now_s - self._described_s > REDESCRIBE_S
        if is_due and self._description() != described:
            self._describe(now_s, out)

    def _describe(self, now_s: float, out: list[Event]) -> None:
        self._described = self._description()
        self._described_s = now_s
        self.is_online = True
        out.append(Seen(self._described))

    def _description(self) -> Description:
        name, model, firmware = self._identity
        return Description(
            device=self.device,
            name=self.given_name or name or printable(self.local_name) or self.device,
            driver=self.decoder.family.name,
            model=model,
            firmware=firmware,
            address=self.address,
            sensors=(*self._sensors.values(), RSSI),
            boot=self.boot,
            problem=self.problem,
        )


def _is_repeat(packet: _Packet, cover: Cover, now_s: float) -> bool:
    if cover.is_numbered:
        return True
    if packet.has_events:
        return now_s - packet.heard_s < EVENT_REPEAT_S
    return now_s - packet.taken_s < REPEAT_S

"""Boards that print one JSON object a line: plain (T0), or numbered and acknowledged (T1).

T0  `{"temperature":21.5,"humidity":40}`: stamped and numbered by the gateway.
T1  the same with `"seq"` (int), optionally `"ep"` (boot epoch) and `"id"` (device): answered with
    `{"ack":N}` once the sample is safe. A trailing tab + 8 hex digits is a CRC-32 of what precedes.

One level of nesting is flattened (`{"bme":{"t":1}}` is `bme_t`); `null` means no value. What cannot
be used is a Fault: the key alone is skipped where the rest of the line is sound, else the line.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from gateway.drivers.json_shape import Key, Pairs, Shape, flattened, is_sound, shape_of, usable
from gateway.drivers.resends import MAX_EPOCH, Numbering, ReceivedLine
from gateway.drivers.text_device import TextDevice, excerpt, is_good_text, printable, without_crc
from gateway.model import Event, Fault, Readings, Record, Sample, Sensor, Value, device_slug
from gateway.protocol.delivery import DeliveryBook

MAX_DEVICES: Final = 64
"""Devices on one port; a board that invents ids cannot grow memory beyond it."""

_MAX_SEQ = 2**53
"""Sequence numbers run from 0 to _MAX_SEQ - 1: what every JSON reader keeps exact."""
_OTHER_NUMBERING = 2**31
"""Flips in the boot number of the second numbering, where a device mixes T0 and T1 lines."""
_MAX_SHAPES = 32
"""Tuples of keys remembered for each port; boards send one or two."""
_MAX_ACKS = 1024
"""Acknowledgements waiting to be collected; past it the oldest is dropped: its line comes again."""

_DECODER = json.JSONDecoder(object_pairs_hook=tuple)
"""Objects become tuples of pairs, because a dict would hide that a key came twice."""


class _JsonDevice(TextDevice):
    """A device, the shapes of line it has announced, the board's own numbering if it has one."""

    __slots__ = ("announced", "numbering", "raw_id")

    def __init__(self, raw_id: str | None, device: str, name: str, address: str, run: int) -> None:
        super().__init__(device, name, "json_lines", address, run)
        self.raw_id = raw_id
        self.numbering: Numbering | None = None
        self.announced: set[Shape] = set()

    def own_numbering(self) -> Numbering:
        """Return the board's numbering, begun when it is first needed."""
        if self.numbering is None:
            boot = self.boot
            if self.next_seq:
                boot ^= _OTHER_NUMBERING
            else:
                self.boot ^= _OTHER_NUMBERING
            self.numbering = Numbering(boot)
        return self.numbering

    def announce(
        self,
        shape: Shape,
        named: Mapping[str, Value],
        known: Mapping[str, Sensor],
        out: list[Event],
    ) -> Mapping[str, Value]:
        """Say which sensors are new; return the values of those that found room."""
        count = len(self.sensors)
        fault = self.admit(known.get(key) or Sensor(key) for key in named)
        if len(self.sensors) > count:
            out.append(self.seen(self.numbering.boot if self.numbering else self.boot))
        if fault:
            out.append(fault)
            return {key: value for key, value in named.items() if key in self.sensors}
        if len(named) == len(shape.names):
            if len(self.announced) >= _MAX_SHAPES:
                self.announced.clear()
            self.announced.add(shape)
        return named


class JsonLines:
    """Reads the JSON lines of one port; never raises on what a board may send."""

    def __init__(
        self,
        port_name: str,
        device_name: str | None,
        run: int,
        known: Iterable[Sensor] = (),
        book: DeliveryBook | None = None,
    ) -> None:
        """Name devices by their `id`, else `device_name`, else the port.

        `run` (u32) becomes the boot number of devices without an epoch. It must differ at every
        opening of the port: samples are numbered from 0 again, and their ids must not repeat.
        `known` gives some keys a unit and a device class. A device that `book` has on another port
        is refused until that port lets go of it; None where there is no other port.
        """
        self.on_output: Callable[[], None] | None = None
        """Called when `data_to_send` has something although no line was parsed."""
        self._port_name = port_name
        self._device_name = device_name
        self._run = run
        self._book = DeliveryBook() if book is None else book
        self._known = {sensor.key: sensor for sensor in known}
        self._is_first = True
        self._shapes: dict[tuple[Key, ...], Shape] = {}
        self._by_id: dict[str | None, _JsonDevice] = {}
        self._by_slug: dict[str, _JsonDevice] = {}
        self._acks: deque[int] = deque(maxlen=_MAX_ACKS)
        self._growing: Readings | None = None
        self._growing_records: list[Record] = []

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that sent a value, in order of appearance."""
        return tuple(key for key, device in self._by_slug.items() if device.sensors)

    def parse(self, line: bytes, now_s: float, out: list[Event]) -> None:
        """Append what `line` (without its newline) says; a first line that is torn says nothing."""
        is_first, self._is_first = self._is_first, False
        body = line if line.endswith(b"}") else without_crc(line)
        if body is None:
            if not is_first:
                out.append(Fault("bad_crc", excerpt(line)))
            return
        try:
            text = str(body, "utf-8")
            pairs, end = _DECODER.raw_decode(text)
        except (ValueError, RecursionError):  # bad UTF-8, bad JSON, 5,000 digits; nested too deep
            pairs, end, text = None, -1, ""
        if end != len(text) or type(pairs) is not tuple:
            if not is_first:
                out.append(Fault("bad_json", excerpt(line)))
            return
        if pairs:
            self._take(pairs, body, now_s, out)

    def release(self) -> None:
        """Let other ports have the devices; each is claimed again by its next line."""
        for device in self._by_slug.values():
            device.release(self._book)

    def data_to_send(self) -> bytes:
        """Return the acknowledgements that are due and forget them."""
        if not self._acks:
            return b""
        lines = "".join([f'{{"ack":{seq}}}\n' for seq in self._acks])
        self._acks.clear()
        return lines.encode()

    def _take(self, pairs: Pairs, body: bytes, now_s: float, out: list[Event]) -> None:
        keys, values = zip(*pairs, strict=True)
        are_sound = all(map(is_sound, values))
        if not are_sound and tuple in map(type, values):
            pairs = flattened(pairs)
            keys, values = zip(*pairs, strict=True) if pairs else ((), ())
        shape = self._shapes.get(keys) or self._learn(keys, out)
        device = self._device(shape, values, out) if shape else None
        if shape is None or device is None:
            return
        line = None
        if shape.seq_at is not None:
            line = self._number(device, shape, values, body, out)
            if line is None:
                return
        named: Mapping[str, Value]
        if are_sound and shape.is_bare:
            named = dict(zip(shape.names, values, strict=True))
        else:
            named = usable(shape, values, out)
        if named and shape not in device.announced:
            named = device.announce(shape, named, self._known, out)
        if named and line is None:
            self._append(device, named, now_s, out)
        elif named and line is not None:
            sample = Sample(device.device, line.boot, line.seq, now_s, named)
            on_safe = partial(self._mark_safe, device.own_numbering(), line)
            out.append(Readings(device.device, (sample,), on_safe))
        elif line is not None:
            self._mark_safe(device.own_numbering(), line)  # it holds nothing that could be lost

    def _learn(self, keys: tuple[Key, ...], out: list[Event]) -> Shape | None:
        """Work out what `keys` mean; None where the line is refused."""
        shape = shape_of(keys)
        if isinstance(shape, Fault):
            out.append(shape)
            return None
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        self._shapes[keys] = shape
        return shape

    def _device(
        self, shape: Shape, values: tuple[Any, ...], out: list[Event]
    ) -> _JsonDevice | None:
        """Return the device that sent the line; None where its id cannot be used, or is taken."""
        raw_id = None
        if shape.id_at is not None:
            raw_id = values[shape.id_at]
            if type(raw_id) is int:
                raw_id = str(raw_id)
            if type(raw_id) is not str or not raw_id or not is_good_text(raw_id):
                out.append(Fault("bad_id", f"{raw_id!r:.40}"))
                return None
        device = self._by_id.get(raw_id) or self._meet(raw_id, out)
        if device is None or device.has_claim or device.claim(self._book, out):
            return device
        return None

    def _meet(self, raw_id: str | None, out: list[Event]) -> _JsonDevice | None:
        """Make room for a device that was not heard before; None where there is none."""
        name = raw_id or self._device_name or self._port_name
        key = device_slug(name)
        device = self._by_slug.get(key)
        if device is None:
            if len(self._by_slug) >= MAX_DEVICES:
                out.append(Fault("too_many_devices", f"{key}: more than {MAX_DEVICES} on a port"))
                return None
            device = _JsonDevice(raw_id, key, printable(name) or key, self._port_name, self._run)
            self._by_slug[key] = device
        elif raw_id is not None:
            if device.raw_id is not None:
                out.append(Fault("same_id", f"{raw_id!r:.40} and {device.raw_id!r:.40} are {key}"))
                return None
            device.raw_id = raw_id
        self._by_id[raw_id] = device
        return device

    def _number(
        self,
        device: _JsonDevice,
        shape: Shape,
        values: tuple[Any, ...],
        body: bytes,
        out: list[Event],
    ) -> ReceivedLine | None:
        """Find the line's place in the board's numbering; None if it came before, or has none."""
        seq = values[shape.seq_at or 0]
        epoch = None if shape.epoch_at is None else values[shape.epoch_at]
        if type(seq) is not int or not 0 <= seq < _MAX_SEQ:
            out.append(Fault("bad_seq", f"{device.device}: {seq!r:.40}"))
            return None
        if epoch is not None and (type(epoch) is not int or not 0 <= epoch < MAX_EPOCH):
            out.append(Fault("bad_epoch", f"{device.device}: {epoch!r:.40}"))
            return None
        numbering = device.own_numbering()
        digest = hash(body)
        line = numbering.find(seq, epoch, digest)
        if line is None:
            return numbering.add(seq, digest)
        if line.is_safe:
            self._acks.append(seq)
        return None

    def _append(
        self, device: _JsonDevice, named: Mapping[str, Value], now_s: float, out: list[Event]
    ) -> None:
        """Add a sample to the readings that `out` ends with, or begin new ones.

        Lines that were read at once stay together on their way to the broker: this saves a
        quarter of the time under flood.
        """
        sample = Sample(device.device, device.boot, device.next_seq, now_s, named)
        device.next_seq += 1
        growing = self._growing
        if out and out[-1] is growing and growing.device == device.device:
            self._growing_records.append(sample)
            return
        self._growing_records = [sample]
        self._growing = Readings(device.device, self._growing_records)
        out.append(self._growing)

    def _mark_safe(self, numbering: Numbering, line: ReceivedLine) -> None:
        line.is_safe = True
        if line.boot != numbering.boot:
            return  # the number means another line by now
        self._acks.append(line.seq)
        if self.on_output is not None:
            self.on_output()

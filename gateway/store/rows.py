"""A parcel as a row of the database, and back; pure."""

import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple, cast

from gateway.clock import TimeBase, TimeQuality
from gateway.model import Gap, GapCause, Record, Sample, Value
from gateway.store.parcels import Parcel

if TYPE_CHECKING:
    from collections.abc import Mapping

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_VALUES = re.compile(rb'[0-9],\{"')


class Row(NamedTuple):
    """One row of the table `records`; immutable once written."""

    n: int
    """Arrival number."""
    device: str
    boot: int
    first_seq: int
    last_seq: int
    """Inclusive."""
    size: int
    """How many records: samples and gaps."""
    machine_boot: int
    """Number of the machine's boot in which the times of this row count."""
    taken_s: float
    """Monotonic time of its oldest record, in that boot."""
    body: bytes
    """The records, as JSON: a damaged store can be read with any tool."""

    @property
    def has_values(self) -> bool:
        """Whether a sample in it has any: after its time, as `_record_out` writes it."""
        return _VALUES.search(self.body) is not None


def machine_boot_number(boot_id: str) -> int:
    """Return a boot id of the kernel, or any other text, as a number SQLite can hold."""
    return int.from_bytes(hashlib.sha256(boot_id.encode()).digest()[:7], "big")


class Moment(NamedTuple):
    """When something is written: the machine's boot, and its clocks as they stand."""

    machine_boot: int
    base: TimeBase
    now_s: float
    """Monotonic."""


def row_of(parcel: Parcel, moment: Moment) -> Row:
    """Return the row of a parcel."""
    first = parcel.records[0]
    document = {
        "utc": [round(moment.base.offset_s, 4), moment.base.quality],
        "records": [_record_out(record) for record in parcel.records],
    }
    return Row(
        parcel.n,
        parcel.device,
        parcel.boot,
        parcel.first_seq,
        parcel.last_seq,
        len(parcel.records),
        moment.machine_boot,
        first.seen_s if isinstance(first, Gap) else first.taken_s,
        _encode(document).encode("ascii"),
    )


def parcel_of(row: Row, moment: Moment, bases: dict[int, TimeBase]) -> Parcel:
    """Return a row as a parcel.

    `moment` is now; `bases` has what became known of the offsets of
    earlier ones after their rows were written.

    Raises:
        ValueError: the body is not what `row_of` writes.
    """
    try:
        document = json.loads(row.body)
        records = [_record_in(row.device, row.boot, entry) for entry in document["records"]]
        offset_s, quality = document["utc"]
        base = TimeBase(float(offset_s), cast("TimeQuality", quality))
    except (LookupError, TypeError) as exc:
        raise ValueError(f"row {row.n}: {exc!r}") from exc
    parcel = Parcel(row.n, row.device, records, None, float("-inf"))
    parcel.is_stored = True
    if row.machine_boot != moment.machine_boot:
        parcel.time_base = bases.get(row.machine_boot, base)
    return parcel


def gap_row(gap: Gap, n: int, moment: Moment) -> Row:
    """Return a row that holds nothing but a gap."""
    return row_of(Parcel(n, gap.device, (gap,), None, 0.0), moment)


def _record_out(record: Record) -> object:
    if isinstance(record, Sample):
        return [record.seq, round(record.taken_s, 4), record.values]
    gap: dict[str, object] = {
        "from": record.first_seq,
        "to": record.last_seq,
        "cause": record.cause.value,
        "seen_s": round(record.seen_s, 4),
    }
    if record.missing is not None:
        gap["missing"] = record.missing
    return gap


def _record_in(device: str, boot: int, entry: object) -> Record:
    if isinstance(entry, list):
        seq, taken_s, values = entry
        return Sample(device, boot, seq, taken_s, cast("Mapping[str, Value]", values))
    gap = cast("dict[str, int | float | str]", entry)
    return Gap(
        device,
        boot,
        cast("int", gap["from"]),
        cast("int", gap["to"]),
        GapCause(gap["cause"]),
        cast("float", gap["seen_s"]),
        cast("int | None", gap.get("missing")),
    )

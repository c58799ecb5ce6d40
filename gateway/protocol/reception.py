"""Takes the records of one epoch in order, and decides when to acknowledge what."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from gateway.protocol.delivery import PauseRoom, Watermark
from gateway.protocol.message_values import Ack, AckFlag, Read, ReadFlag
from gateway.protocol.records import RecordLayout, unpack_records
from gateway.protocol.session_events import (
    Missed,
    Received,
    Refused,
    SessionEvent,
    SessionFault,
)

UNSAFE_ACK_S = 0.1
"""Records that are not safe after this are acknowledged as received, before a board's
retransmission timer (400 ms) runs out."""

REWIND_INTERVAL_S = 0.05
"""The same hole is not reported twice within this: what was in flight still arrives."""

_NEVER = float("inf")


@dataclass(slots=True)
class ReceptionCounts:
    """What became of records; only ever grows."""

    records: int = 0
    duplicates: int = 0
    """Records that came again."""
    missed: int = 0
    """Records the board had to drop."""
    forgotten: int = 0
    """Records of earlier epochs that went with the board's memory."""
    unreadable: int = 0
    """Records that came and mean nothing."""
    holes: int = 0
    """Batches that came after one that was lost on the wire."""
    held_off: int = 0
    """Batches refused while the gateway was paused, or did not know the board well enough."""
    acks: int = 0
    rewinds: int = 0


class Reception:
    """One board's records, from a WELCOME until it leaves."""

    def __init__(  # noqa: PLR0913 - what it shares with its session and with all boards
        self,
        watermark: Watermark,
        credit: int,
        counts: ReceptionCounts,
        on_output: Callable[[], None],
        pause_room: PauseRoom,
        *,
        is_paused: bool,
    ) -> None:
        """`on_output` is called when an ACK is due although nothing came in."""
        self.watermark = watermark
        self.ack_due = False
        self.ack_due_s = _NEVER
        """When an ACK is due even if nothing became safe; infinity for never."""
        self._credit = credit
        self._counts = counts
        self._on_output = on_output
        self._pause_room = pause_room
        self._is_paused = is_paused
        self._grace = 0
        self._batches_unacked = 0
        self._owes_rewind = False
        self._rewind_due = False
        self._rewound_seq = -1
        self._rewound_s = -_NEVER
        watermark.on_advance = self._advanced

    @property
    def credit(self) -> int:
        """How many batches the board may have in flight now."""
        return 0 if self._is_paused else self._credit

    def detach(self) -> None:
        """Stop acknowledging: the board has left this link."""
        self.watermark.on_advance = None

    def hold(self, *, paused: bool) -> None:
        """Give no credit for now, or go on from where records were refused."""
        self._is_paused = paused
        self._grace = self._credit  # so many batches may be in flight already
        if not paused:
            self.rewind()
        self.ack_due = True

    def rewind(self) -> None:
        """Call for what was refused, if anything was: it would be accepted now."""
        if self._owes_rewind:
            self._owes_rewind = False
            self._rewind_due = self.ack_due = True

    def expect(self, oldest_seq: int, events: list[SessionEvent]) -> None:
        """Note that the board has nothing before `oldest_seq` any more."""
        mark = self.watermark
        if oldest_seq > mark.received_next:
            events.append(Missed(mark, mark.received_next, oldest_seq - 1))
            self._counts.missed += oldest_seq - mark.received_next
            mark.received_next = oldest_seq

    def refuse(self) -> None:
        """Take nothing of a batch for now; it is called for later."""
        self._counts.held_off += 1
        self._owes_rewind = self.ack_due = True

    def take(
        self,
        read: Read,
        layouts: Mapping[int, RecordLayout],
        unreadable: Container[int],
        now_s: float,
        events: list[SessionEvent],
    ) -> int | None:
        """Accept what is new of a batch; return the unknown stream that ended it, if one did."""
        mark = self.watermark
        mark.claim(read.first_seq + read.record_count)
        if self._is_paused:
            if not (self._grace and self._pause_room.take(read.record_count)):
                self.refuse()
                return None
            self._grace -= 1
        if read.first_seq > mark.received_next:
            if not read.flags & ReadFlag.OLDEST:
                self._call_for_hole(now_s)
                return None
            self.expect(read.first_seq, events)
        first_seq = mark.received_next
        known = first_seq - read.first_seq
        if known >= read.record_count:  # a lost ACK heals
            self._counts.duplicates += read.record_count
            self.ack_due = True
            return None
        records, unknown_stream = unpack_records(read, layouts, unreadable)
        if known:
            self._counts.duplicates += min(known, len(records))
            del records[:known]
        if unknown_stream is not None:
            self.refuse()
        if records:
            mark.received_next = first_seq + len(records)
            self._counts.records += len(records)
            if None in records:
                lost = records.count(None)
                self._counts.unreadable += lost
                detail = f"{lost} of {len(records)} records from seq {first_seq} on"
                events.append(Refused(SessionFault.BAD_RECORD, detail))
            events.append(Received(mark, first_seq, read.now_ms, records))
            self._await_safety(now_s)
        return unknown_stream

    def tick(self, now_s: float) -> None:
        """Acknowledge what arrived and takes long to become safe."""
        if now_s >= self.ack_due_s:
            self.ack_due = True
            self.ack_due_s = _NEVER

    def ack(self) -> Ack:
        """Return the ACK that is due, and note that it is on its way."""
        mark = self.watermark
        flags = AckFlag.REWIND if self._rewind_due else 0
        self._counts.acks += 1
        self._counts.rewinds += self._rewind_due
        self._rewind_due = self.ack_due = False
        self.ack_due_s = _NEVER
        self._batches_unacked = 0
        return Ack(mark.epoch, mark.safe_next, self.credit, flags, mark.received_next)

    def _advanced(self) -> None:
        self.ack_due = True
        self._on_output()

    def _call_for_hole(self, now_s: float) -> None:
        self._counts.holes += 1
        hole_seq = self.watermark.received_next
        if hole_seq == self._rewound_seq and now_s < self._rewound_s + REWIND_INTERVAL_S:
            return
        self._rewound_seq, self._rewound_s = hole_seq, now_s
        self._rewind_due = self.ack_due = True

    def _await_safety(self, now_s: float) -> None:
        self._batches_unacked += 1
        if self._batches_unacked >= self._credit:  # the board may not send more before an ACK
            self.ack_due = True
        elif self.ack_due_s == _NEVER:
            self.ack_due_s = now_s + UNSAFE_ACK_S

"""An update's conversation with one board, from BEGIN to its trial; sans-IO.

Stop and wait: one question, its answer, the next. BEGIN asks what the board needs: at first, again
once manifest and signature are there, and whenever the board has forgotten that there is an update.
So an update that was broken off goes on where it was, with whoever asks next.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from gateway.protocol.frames import Frame
from gateway.protocol.messages import Hello, encode
from gateway.protocol.update import (
    Update,
    UpdateEnded,
    UpdateEvent,
    UpdateOutcome,
    UpdatePhase,
    UpdateProgress,
)
from gateway.protocol.update_messages import DATA_HEADER_SIZE, authenticated
from gateway.protocol.update_values import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    BoardUpdateState,
    DataStatus,
    UpdateAbort,
    UpdateBegin,
    UpdateData,
    UpdateDataAck,
    UpdateEnd,
    UpdateFlag,
    UpdateNeed,
    UpdateState,
    Want,
)

RETRY_S: Final = 1.0
RETRY_CAP_S: Final = 8.0
"""A question without an answer is asked again after this, then after twice as long, and so on."""

MAX_TRIES: Final = 7
"""So often; then the update has failed."""

BUSY_S: Final = 10.0
"""A board that copies and hashes says so each second; it is asked again after so long without."""

STALLED_S: Final = 120.0
"""An update that does not get on for so long has failed."""

MAX_REPEATS: Final = 3
"""A file is begun anew so often."""

_NEVER = float("inf")


FromUpdated: TypeAlias = UpdateNeed | UpdateDataAck | UpdateAbort | UpdateState
_Question: TypeAlias = UpdateBegin | UpdateData | UpdateEnd | UpdateAbort


class Updating:
    """Asks the questions of one update, and takes their answers.

    It is over once it has given its `UpdateEnded` and, where the board is to be told of that, its
    last frame: see `is_over`. However the board answers, it ends: what does not get on stalls, and
    more questions than an update can need are not asked.
    """

    def __init__(  # noqa: PLR0913  # what the session has, handed down once
        self,
        device: str,
        update: Update,
        *,
        room: int,
        mac: Callable[[bytes], bytes],
        next_mid: Callable[[], int],
        now_s: float,
    ) -> None:
        """`room` is what a frame can carry behind its type and mid, `mac` proves the key."""
        self.device = device
        self.update = update
        self.mid = 0
        """Of the question that was sent last."""
        self._room = room
        self._mac = mac
        self._next_mid = next_mid
        self._ended: UpdateEnded | None = None
        self._phase = UpdatePhase.ASKING
        self._needed: list[int] = []
        """Files still to be sent; the first one is under way."""
        self._furthest = (0, 0)
        """Files finished and offset in the next one: what must grow."""
        self._finished = 0
        self._repeats: dict[int, int] = {}
        self._sent_bytes = 0
        self._sent_files: set[int] = set()
        self._stalled_s = now_s + STALLED_S
        self._question: _Question | None = None
        self._question_mid = 0
        self._tries = 0
        self._due_s = _NEVER
        sizes = [len(update.manifest), len(update.signature), *map(len, update.contents)]
        pieces = sum(size // self._piece_size + 1 for size in sizes)
        self._questions_left = 4 * pieces + 50
        self._ask(self._begin(), now_s)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to send or to hear."""
        return self._ended is not None and self._question is None

    @property
    def due_s(self) -> float:
        """When a question is due; infinity for never."""
        return self._due_s

    @property
    def expires_s(self) -> float:
        """When it has failed, unless it gets on; infinity once it is over."""
        if self._ended is not None:
            return _NEVER
        is_last = self._tries >= MAX_TRIES
        return min(self._due_s, self._stalled_s) if is_last else self._stalled_s

    @property
    def progress(self) -> UpdateProgress:
        """How it stands."""
        total = self.update.total_bytes
        done = 0
        if self._phase in {UpdatePhase.SENDING, UpdatePhase.CHECKING}:
            done = total - sum(len(self.update.contents[file]) for file in self._needed)
            if isinstance(self._question, UpdateData) and self._question.file in self._needed:
                done += self._question.offset
        return UpdateProgress(self.device, self._phase, done, total)

    def next_frame(self, now_s: float) -> Frame | None:
        """Return the question that is due, for the first time or again; None while none is."""
        question = self._question
        if question is None or now_s < self._due_s:
            return None
        self.mid = self._question_mid
        if self._ended is not None:
            self._question = None
            self._due_s = _NEVER
        else:
            self._due_s = now_s + min(RETRY_S * 2**self._tries, RETRY_CAP_S)
            self._tries += 1
            self._count(question)
        return encode(question, self.mid)

    def take(self, answer: FromUpdated, mid: int, now_s: float) -> list[UpdateEvent]:
        """Return what an answer changes; one that answers no present question changes nothing."""
        if self._ended is not None:
            return []
        before, ended = self.progress, None
        is_answer = self._tries > 0 and mid == self._question_mid
        match answer:
            case UpdateState(BoardUpdateState.TRIAL, self.update.short_hash):
                ended = self._end(UpdateOutcome.ON_TRIAL)
            case UpdateState(BoardUpdateState.CONFIRMED, self.update.short_hash) if is_answer:
                ended = self._end(UpdateOutcome.UNCHANGED)
            case UpdateAbort(reason) if is_answer or (mid == 0 and self.mid != 0):
                ended = self._end(UpdateOutcome.REFUSED, reason)
            case UpdateNeed() if is_answer:
                ended = self._on_need(answer, now_s)
            case UpdateDataAck() if is_answer:
                ended = self._on_ack(answer, now_s)
        if ended is not None:
            return [ended]
        return [] if self.progress == before else [self.progress]

    def tick(self, now_s: float) -> list[UpdateEvent]:
        """Return its end if it did not get on, or the board did not answer."""
        if self._ended is not None:
            return []
        if now_s >= self._stalled_s:
            return [self._give_up(f"it did not get on for {STALLED_S:.0f} s", now_s)]
        if self._tries >= MAX_TRIES and now_s >= self._due_s:
            return [self._give_up("the board does not answer", now_s)]
        return []

    def rejoined(
        self, hello: Hello, room: int, mac: Callable[[bytes], bytes], now_s: float, *, same: bool
    ) -> list[UpdateEvent]:
        """Return what it changes that the board said HELLO; `same`: it still knows what it did."""
        if self._ended is not None:
            self._question = None  # the board knows nothing of it any more
            return []
        if self.update.is_in_force(hello):
            outcome = UpdateOutcome.ON_TRIAL if hello.trial else UpdateOutcome.UNCHANGED
            return [self._end(outcome)]
        if not same:
            return [self._end(UpdateOutcome.INTERRUPTED, "the board was reset")]
        self._room, self._mac = room, mac
        ended = self._ask(self._begin(), now_s)
        return [] if ended is None else [ended]

    def leave(self, why: str) -> list[UpdateEvent]:
        """Return its end, if it is not over: the board is not there any more."""
        self._question = None
        return [] if self._ended is not None else [self._end(UpdateOutcome.INTERRUPTED, why)]

    def abort(self, why: str, now_s: float) -> list[UpdateEvent]:
        """End it, and tell the board."""
        if self._ended is not None:
            return []
        return [self._part(UpdateOutcome.ABORTED, why, now_s)]

    # ---- answers

    def _on_need(self, need: UpdateNeed, now_s: float) -> UpdateEnded | None:
        if not isinstance(self._question, UpdateBegin | UpdateEnd):
            return None
        if need.want is Want.FILES:
            return self._on_needed_files(need, now_s)
        if need.want is Want.NOTHING_YET:
            if isinstance(self._question, UpdateBegin):
                self._phase = UpdatePhase.PREPARING
            self._tries, self._due_s = 1, now_s + BUSY_S
            return None
        if need.want is Want.SIGNATURE and not self.update.signature:
            return self._part(UpdateOutcome.REFUSED, "the board takes signed updates only", now_s)
        self._phase = UpdatePhase.MANIFEST
        file = MANIFEST_FILE if need.want is Want.MANIFEST else SIGNATURE_FILE
        return self._send(file, 0, now_s)

    def _on_needed_files(self, need: UpdateNeed, now_s: float) -> UpdateEnded | None:
        count = len(self.update.contents)
        if need.count != count:
            text = f"the board speaks of {need.count} files, and the update has {count}"
            return self._give_up(text, now_s)
        self._needed = list(need.files)
        self._get_on(count - len(self._needed), 0, now_s)
        return self._go_on(now_s)

    def _on_ack(self, ack: UpdateDataAck, now_s: float) -> UpdateEnded | None:
        question = self._question
        if ack.status is DataStatus.NOT_BEGUN and isinstance(question, UpdateData | UpdateEnd):
            return self._ask(self._begin(), now_s)
        if not isinstance(question, UpdateData) or question.file != ack.file:
            return None
        if ack.status is DataStatus.OK:
            return self._on_good_piece(ack, now_s)
        return self._repeat(ack, now_s)

    def _on_good_piece(self, ack: UpdateDataAck, now_s: float) -> UpdateEnded | None:
        size = len(self._content(ack.file))
        if ack.next_offset > size:
            text = f"the board wants more of {self._name(ack.file)} than there is"
            return self._give_up(text, now_s)
        if ack.next_offset < size:
            self._get_on(self._finished, ack.next_offset, now_s)
            return self._send(ack.file, ack.next_offset, now_s)
        if ack.file in {MANIFEST_FILE, SIGNATURE_FILE}:
            return self._ask(self._begin(), now_s)
        self._needed.remove(ack.file)
        self._get_on(self._finished + 1, 0, now_s)
        return self._go_on(now_s)

    def _repeat(self, ack: UpdateDataAck, now_s: float) -> UpdateEnded | None:
        self._repeats[ack.file] = self._repeats.get(ack.file, 0) + 1
        if self._repeats[ack.file] <= MAX_REPEATS:
            return self._send(ack.file, 0, now_s)
        name = self._name(ack.file)
        text = f"the board found a wrong hash of {name} again and again"
        if ack.status is DataStatus.NOT_WRITTEN:
            text = f"the board could not write {name} again and again: its flash may be full"
        return self._give_up(text, now_s)

    def _go_on(self, now_s: float) -> UpdateEnded | None:
        if self._needed:
            self._phase = UpdatePhase.SENDING
            return self._send(self._needed[0], 0, now_s)
        self._phase = UpdatePhase.CHECKING
        return self._ask(UpdateEnd(), now_s)

    def _get_on(self, finished: int, offset: int, now_s: float) -> None:
        """Note how far it is; where that is further than ever, it has not stalled."""
        self._finished = finished
        if (finished, offset) > self._furthest:
            self._furthest = (finished, offset)
            self._stalled_s = now_s + STALLED_S

    # ---- questions

    @property
    def _piece_size(self) -> int:
        return max(self._room - DATA_HEADER_SIZE, 1)

    def _begin(self) -> UpdateBegin:
        update = self.update
        flags = UpdateFlag.DOWNGRADE if update.allows_downgrade else UpdateFlag(0)
        if update.signature:
            flags |= UpdateFlag.SIGNED
        size, digest = len(update.manifest), update.manifest_hash
        bare = UpdateBegin(update.kind, flags, size, digest, bytes(32))
        return UpdateBegin(update.kind, flags, size, digest, self._mac(authenticated(bare)))

    def _content(self, file: int) -> bytes:
        if file == MANIFEST_FILE:
            return self.update.manifest
        return self.update.signature if file == SIGNATURE_FILE else self.update.contents[file]

    def _name(self, file: int) -> str:
        names = {MANIFEST_FILE: "the manifest", SIGNATURE_FILE: "the signature"}
        names.update(enumerate(self.update.paths))
        return names.get(file, f"file {file}")

    def _send(self, file: int, offset: int, now_s: float) -> UpdateEnded | None:
        piece = self._content(file)[offset : offset + self._piece_size]
        return self._ask(UpdateData(file, offset, piece), now_s)

    def _ask(self, question: _Question, now_s: float) -> UpdateEnded | None:
        if not self._questions_left:
            return self._give_up("the board asks for more than there is", now_s)
        self._questions_left -= 1
        self._question, self._question_mid = question, self._next_mid()
        self._tries, self._due_s = 0, now_s
        return None

    def _count(self, question: _Question) -> None:
        if self._tries == 1 and isinstance(question, UpdateData) and question.file < SIGNATURE_FILE:
            self._sent_bytes += len(question.data)
            self._sent_files.add(question.file)

    # ---- ends

    def _end(self, outcome: UpdateOutcome, detail: str = "") -> UpdateEnded:
        self._question, self._due_s = None, _NEVER
        self._ended = UpdateEnded(
            self.device, outcome, detail, self._sent_bytes, len(self._sent_files)
        )
        return self._ended

    def _give_up(self, why: str, now_s: float) -> UpdateEnded:
        return self._part(UpdateOutcome.FAILED, why, now_s)

    def _part(self, outcome: UpdateOutcome, why: str, now_s: float) -> UpdateEnded:
        """End it, and tell the board once; should it not hear it, it forgets the update later."""
        ended = self._end(outcome, why)
        self._question, self._question_mid = UpdateAbort(_shortened(why)), self._next_mid()
        self._due_s = now_s
        return ended


def _shortened(why: str) -> str:
    """Return as much of a reason as surely fits the shortest line."""
    return why.encode("ascii", "replace")[:36].decode() or "aborted"

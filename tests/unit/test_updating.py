"""An update's conversation, by the session against hand-made frames and an honest receiver.

The firmware's own end is met in `tests/integration/test_updates.py` and in `tests/faults`.
"""

import random
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.frames import Frame, encode_frame, open_frame
from gateway.protocol.messages import (
    Ack,
    Bye,
    Channel,
    Command,
    Hello,
    Message,
    Ping,
    Pong,
    Read,
    Response,
    Stream,
    decode,
    encode,
)
from gateway.protocol.requests import Order
from gateway.protocol.session import Session
from gateway.protocol.session_events import Received, SessionEvent
from gateway.protocol.update import (
    Update,
    UpdateEnded,
    UpdateOutcome,
    UpdatePhase,
    UpdateProgress,
)
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
    UpdateKind,
    UpdateNeed,
    UpdateState,
    Want,
)
from gateway.protocol.updating import MAX_TRIES, STALLED_S
from tests.support.effort import examples
from tests.support.update_receiver import UpdateReceiver, manifest_of

CONTENTS = [b"a" * 500, b"", b"c" * 177, b"d" * 178]
PATHS = ("board/a.mpy", "board/b.mpy", "board/c.mpy", "board/d.mpy")
UPDATE = Update(
    UpdateKind.FIRMWARE, manifest_of(CONTENTS), tuple(CONTENTS), bytecode=6, paths=PATHS
)
STREAM = Stream(0, "climate", "h", (Channel("temperature", "°C", -2, "temperature"),))
HELLO = Hello(
    protocol=1,
    id="b1",
    epoch=7,
    next_seq=0,
    unacked=0,
    streams=1,
    nonce=99,
    slot="a",
    manifest_hash="0" * 16,
    bytecode=6,
)
FROM_UPDATED = UpdateNeed | UpdateDataAck | UpdateAbort | UpdateState


class Peer:
    """Plays the board of one session, and keeps the time."""

    def __init__(self, hello: Hello = HELLO, **of_session: Any) -> None:  # noqa: ANN401  # any
        self.session = Session(DeliveryBook(), "5e55", **of_session)
        self.now_s = 100.0
        self.told: list[UpdateProgress | UpdateEnded] = []
        self.events: list[SessionEvent] = []
        self.say(hello, STREAM)
        self.lines()

    def say(self, *messages: Message, mid: int = 0) -> list[SessionEvent]:
        """Be the board; return what the session makes of it."""
        events = [
            event
            for message in messages
            for event in self.session.receive(encode(message, mid), self.now_s, 1_790_000_000.0)
        ]
        self.note(events)
        return events

    def update(self, update: Update = UPDATE) -> None:
        self.note(self.session.update("b1", update, self.now_s))

    def abort(self, why: str = "enough") -> None:
        self.note(self.session.abort_update("b1", why, self.now_s))

    def note(self, events: Any) -> None:  # noqa: ANN401  # events of any kind
        self.events += events
        self.told += [event for event in events if isinstance(event, UpdateProgress | UpdateEnded)]

    def lines(self) -> list[bytes]:
        return self.session.data_to_send().splitlines()

    def frames(self) -> list[Frame]:
        frames = [open_frame(line) for line in self.lines()]
        return [frame for frame in frames if isinstance(frame, Frame)]

    def asked(self) -> tuple[Message, int]:
        """Return the one question that is there, and its mid."""
        (frame,) = self.frames()
        message = decode(frame)
        assert isinstance(message, Message)
        return message, frame.mid

    def wait(self, for_s: float) -> list[tuple[float, Message, int]]:
        """Let time pass; return what was said meanwhile: when, what, under which mid."""
        said = []
        start_s, end_s = self.now_s, self.now_s + for_s
        while (deadline_s := self.session.deadline_s) is not None and deadline_s <= end_s:
            self.now_s = max(self.now_s, deadline_s)
            self.note(self.session.tick(self.now_s))
            for frame in self.frames():
                message = decode(frame)
                assert isinstance(message, Message)
                said.append((self.now_s - start_s, message, frame.mid))
        self.now_s = end_s
        return said

    @property
    def ended(self) -> UpdateEnded:
        """How the update ended; it must have, and once."""
        (ended,) = [event for event in self.told if isinstance(event, UpdateEnded)]
        assert ended is self.told[-1]
        return ended

    @property
    def is_under_way(self) -> bool:
        return not any(isinstance(event, UpdateEnded) for event in self.told)


def begun(update: Update = UPDATE, **of_session: Any) -> Peer:  # noqa: ANN401  # any
    """Return a peer that was asked to begin, and has not answered."""
    peer = Peer(**of_session)
    peer.update(update)
    return peer


def sending(*files: int, update: Update = UPDATE) -> Peer:
    """Return a peer that has named the files it needs."""
    peer = begun(update)
    _, mid = peer.asked()
    peer.say(UpdateNeed(Want.FILES, files, len(update.contents)), mid=mid)
    return peer


def serve(peer: Peer, receiver: UpdateReceiver) -> list[Message]:
    """Answer until there is nothing more to answer; return what was asked."""
    first = len(receiver.heard)
    while frames := peer.frames():
        for frame in frames:
            answer = receiver.answer(frame)
            if answer is not None:
                peer.say(answer, mid=frame.mid)
    return receiver.heard[first:]


# ---- from BEGIN to the trial


def test_a_board_is_asked_what_it_needs_gets_it_and_tries_it() -> None:
    peer, receiver = begun(), UpdateReceiver()

    asked = serve(peer, receiver)

    size, digest = len(UPDATE.manifest), sha256(UPDATE.manifest).digest()
    begin = UpdateBegin(UpdateKind.FIRMWARE, 0, size, digest, bytes(32))
    pieces = [each for each in asked if isinstance(each, UpdateData)]
    assert [asked[0], asked[-1]] == [begin, UpdateEnd()]
    assert asked.count(begin) == 2  # once more, when the manifest is there
    assert b"".join(p.data for p in pieces if p.file == MANIFEST_FILE) == UPDATE.manifest
    assert receiver.has == dict(enumerate(CONTENTS))
    assert receiver.is_on_trial
    assert peer.ended == UpdateEnded("b1", UpdateOutcome.ON_TRIAL, "", 855, 4)


def test_pieces_are_as_large_as_the_boards_frames_allow() -> None:
    # 189 bytes are a line of 256 characters; type, mid, CRC, file and offset take 12 of them.
    peer = sending(0)

    offsets = []
    while isinstance(piece := (asked := peer.asked())[0], UpdateData):
        offsets.append((piece.offset, len(piece.data)))
        done = piece.offset + len(piece.data)
        peer.say(UpdateDataAck(0, done, DataStatus.OK), mid=asked[1])

    assert offsets == [(0, 177), (177, 177), (354, 146)]


@pytest.mark.parametrize(
    ("says", "carries", "longest"),
    [(64, 512, 64), (189, 512, 189), (297, 512, 297), (297, 189, 189)],
)
def test_no_frame_is_larger_than_board_and_link_take(says: int, carries: int, longest: int) -> None:
    peer = Peer(replace(HELLO, largest_frame=says), largest_frame=carries)
    receiver = UpdateReceiver()
    peer.update()

    sizes = set()
    while frames := peer.frames():
        for frame in frames:
            sizes.add(len(frame.payload) + 6)
            answer = receiver.answer(frame)
            if answer is not None:
                peer.say(answer, mid=frame.mid)

    assert receiver.is_on_trial
    assert max(sizes) == max(longest, 76)  # BEGIN has 70 bytes of payload


def test_no_line_of_an_update_is_longer_than_256_characters() -> None:
    peer, receiver = begun(), UpdateReceiver()

    lengths = set()
    while lines := peer.lines():
        for line in lines:
            lengths.add(len(line) + 1)  # its newline
            frame = open_frame(line)
            assert isinstance(frame, Frame)
            answer = receiver.answer(frame)
            if answer is not None:
                peer.say(answer, mid=frame.mid)

    assert max(lengths) == 254  # 189 bytes in base64, `~` and newline
    assert receiver.is_on_trial


def test_files_that_the_board_has_are_not_sent() -> None:
    peer, receiver = begun(), UpdateReceiver(has={0: CONTENTS[0], 2: CONTENTS[2]})

    asked = serve(peer, receiver)

    sent = {each.file for each in asked if isinstance(each, UpdateData)} - {MANIFEST_FILE}
    assert sent == {1, 3}
    assert peer.ended == UpdateEnded("b1", UpdateOutcome.ON_TRIAL, "", 178, 2)


def test_progress_counts_what_the_board_had_already() -> None:
    peer, receiver = begun(), UpdateReceiver(has={0: CONTENTS[0]})

    serve(peer, receiver)

    progress = [event for event in peer.told if isinstance(event, UpdateProgress)]
    assert progress[0] == UpdateProgress("b1", UpdatePhase.ASKING, 0, 855)
    assert UpdateProgress("b1", UpdatePhase.SENDING, 500, 855) in progress
    assert progress[-1] == UpdateProgress("b1", UpdatePhase.CHECKING, 855, 855)
    done = [event.done_bytes for event in progress]
    assert done == sorted(done)


def test_what_is_wanted_of_an_update_is_said_with_begin() -> None:
    settings = Update(UpdateKind.SETTINGS, b"m", (b"{}",), b"s" * 64, allows_downgrade=True)

    message, _ = begun(settings).asked()

    digest = sha256(b"m").digest()
    assert message == UpdateBegin(UpdateKind.SETTINGS, 3, 1, digest, bytes(32))


def test_the_signature_is_sent_when_it_is_wanted() -> None:
    peer = begun(replace(UPDATE, signature=bytes(range(64))))
    _, mid = peer.asked()

    peer.say(UpdateNeed(Want.SIGNATURE), mid=mid)
    message, mid = peer.asked()
    peer.say(UpdateDataAck(SIGNATURE_FILE, 64, DataStatus.OK), mid=mid)

    assert message == UpdateData(SIGNATURE_FILE, 0, bytes(range(64)))
    assert isinstance(peer.asked()[0], UpdateBegin)


def test_an_update_without_signature_ends_where_one_is_wanted() -> None:
    peer = begun()
    _, mid = peer.asked()

    peer.say(UpdateNeed(Want.SIGNATURE), mid=mid)

    assert peer.ended.outcome is UpdateOutcome.REFUSED
    assert "signed" in peer.ended.detail
    assert isinstance(peer.asked()[0], UpdateAbort)


# ---- nothing is sent where it cannot be


@pytest.mark.parametrize(
    ("hello", "update", "outcome", "detail"),
    [
        (replace(HELLO, slot=""), UPDATE, UpdateOutcome.REFUSED, "edge-gateway flash"),
        (replace(HELLO, bytecode=5), UPDATE, UpdateOutcome.REFUSED, "reads version 5"),
        (replace(HELLO, manifest_hash=UPDATE.short_hash), UPDATE, UpdateOutcome.UNCHANGED, ""),
        (
            replace(HELLO, manifest_hash=UPDATE.short_hash, trial=True),
            UPDATE,
            UpdateOutcome.ON_TRIAL,
            "",
        ),
        (
            replace(HELLO, config_hash=sha256(b"{}").hexdigest()[:8]),
            Update(UpdateKind.SETTINGS, b"m", (b"{}",)),
            UpdateOutcome.UNCHANGED,
            "",
        ),
        (replace(HELLO, id="other"), UPDATE, UpdateOutcome.INTERRUPTED, "not there"),
    ],
)
def test_an_update_that_cannot_be_or_is_ends_at_once(
    hello: Hello, update: Update, outcome: UpdateOutcome, detail: str
) -> None:
    peer = Peer(hello)

    peer.update(update)

    assert peer.ended.outcome is outcome
    assert detail in peer.ended.detail
    assert peer.frames() == []


def test_settings_do_not_mind_the_version_of_bytecode() -> None:
    peer = Peer(replace(HELLO, bytecode=5))

    peer.update(Update(UpdateKind.SETTINGS, b"m", (b"{}",)))

    assert isinstance(peer.asked()[0], UpdateBegin)


def test_a_board_has_one_update_at_a_time() -> None:
    peer = begun()

    second = peer.session.update("b1", replace(UPDATE, allows_downgrade=True), peer.now_s)

    assert [type(event) for event in second] == [UpdateEnded]
    assert peer.is_under_way


# ---- answers that do not come, or are not wanted


def test_a_question_is_repeated_under_its_mid_at_growing_intervals_and_then_given_up() -> None:
    peer = begun()
    _, mid = peer.asked()
    peer.say(Ping(1))
    peer.frames()

    said = []
    for _ in range(50):  # the board is there: it says PING
        said += peer.wait(1.0)
        peer.say(Ping(1))
        peer.frames()

    begins = [m for _, message, m in said if isinstance(message, UpdateBegin)]
    assert begins == (MAX_TRIES - 1) * [mid]
    assert peer.ended.outcome is UpdateOutcome.FAILED
    assert "does not answer" in peer.ended.detail
    assert sum(isinstance(message, UpdateAbort) for _, message, _ in said) == 1


def test_the_intervals_of_repetition_double_up_to_eight_seconds() -> None:
    peer = Peer(heartbeat_s=100.0)
    peer.update()
    peer.frames()

    times = [at_s for at_s, message, _ in peer.wait(60.0) if isinstance(message, UpdateBegin)]

    assert times == [1, 3, 7, 15, 23, 31]


@pytest.mark.parametrize(
    "answer",
    [
        UpdateDataAck(0, 500, DataStatus.OK),
        UpdateNeed(Want.FILES, (), 4),
        UpdateNeed(Want.MANIFEST),
        UpdateAbort("no"),
    ],
)
def test_what_answers_another_question_changes_nothing(answer: Message) -> None:
    peer = sending(0)
    (piece,) = peer.frames()
    before = peer.told[-1]

    peer.say(answer, mid=piece.mid + 1)

    assert peer.told[-1] is before
    assert peer.frames() == []
    peer.say(UpdateDataAck(0, 177, DataStatus.OK), mid=piece.mid)
    assert peer.asked()[0] == UpdateData(0, 177, b"a" * 177)


def test_an_acknowledgement_of_another_file_changes_nothing() -> None:
    peer = sending(0)
    _, mid = peer.asked()

    peer.say(UpdateDataAck(2, 177, DataStatus.OK), mid=mid)

    assert peer.frames() == []


@pytest.mark.parametrize("offset", [0, 100, 354])
def test_a_file_goes_on_where_the_board_says(offset: int) -> None:
    peer = sending(0)
    _, mid = peer.asked()

    peer.say(UpdateDataAck(0, offset, DataStatus.OK), mid=mid)

    assert peer.asked()[0] == UpdateData(0, offset, (b"a" * 500)[offset:][:177])


def test_a_board_that_wants_more_of_a_file_than_there_is_is_given_up() -> None:
    peer = sending(0)
    _, mid = peer.asked()

    peer.say(UpdateDataAck(0, 501, DataStatus.OK), mid=mid)

    assert peer.ended.outcome is UpdateOutcome.FAILED


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (DataStatus.HASH_WRONG, "a wrong hash of board/c.mpy"),
        (DataStatus.NOT_WRITTEN, "could not write board/c.mpy"),
    ],
)
def test_a_file_that_went_wrong_is_sent_again_three_times(status: DataStatus, words: str) -> None:
    peer = sending(2)

    for _ in range(4):
        message, mid = peer.asked()
        assert message == UpdateData(2, 0, CONTENTS[2])
        peer.say(UpdateDataAck(2, 0, status), mid=mid)

    assert peer.ended.outcome is UpdateOutcome.FAILED
    assert words in peer.ended.detail
    assert isinstance(peer.asked()[0], UpdateAbort)


def test_a_board_that_forgot_the_update_is_asked_anew() -> None:
    peer = sending(0)
    _, mid = peer.asked()

    peer.say(UpdateDataAck(0, 0, DataStatus.NOT_BEGUN), mid=mid)

    assert isinstance(peer.asked()[0], UpdateBegin)


def test_a_board_that_forgot_the_update_at_its_end_is_asked_anew() -> None:
    peer = sending()
    _, mid = peer.asked()

    peer.say(UpdateDataAck(MANIFEST_FILE, 0, DataStatus.NOT_BEGUN), mid=mid)

    assert isinstance(peer.asked()[0], UpdateBegin)


def test_files_that_are_wrong_at_the_end_are_sent_again() -> None:
    peer = sending()
    message, mid = peer.asked()
    assert message == UpdateEnd()

    peer.say(UpdateNeed(Want.FILES, (3,), 4), mid=mid)

    assert peer.asked()[0] == UpdateData(3, 0, b"d" * 177)


def test_a_board_that_counts_other_files_is_given_up() -> None:
    peer = begun()
    _, mid = peer.asked()

    peer.say(UpdateNeed(Want.FILES, (0,), 3), mid=mid)

    assert peer.ended.outcome is UpdateOutcome.FAILED


def test_a_board_that_is_busy_is_left_alone_while_it_says_so() -> None:
    peer = begun()
    _, mid = peer.asked()

    said = []
    for _ in range(30):
        peer.say(UpdateNeed(Want.NOTHING_YET), mid=mid)
        said += peer.wait(1.0)
    peer.say(UpdateNeed(Want.FILES, (0,), 4), mid=mid)

    assert said == []
    assert peer.asked()[0] == UpdateData(0, 0, b"a" * 177)
    assert UpdateProgress("b1", UpdatePhase.PREPARING, 0, 855) in peer.told


def test_a_board_that_is_busy_and_falls_silent_is_asked_again_after_ten_seconds() -> None:
    peer = Peer(heartbeat_s=100.0)
    peer.update()
    _, mid = peer.asked()
    peer.say(UpdateNeed(Want.NOTHING_YET), mid=mid)

    said = peer.wait(11.0)

    assert [(at_s, type(message), m) for at_s, message, m in said] == [(10.0, UpdateBegin, mid)]


def test_a_board_that_is_busy_for_ever_has_stalled() -> None:
    peer = begun()
    _, mid = peer.asked()

    start_s = peer.now_s
    while peer.is_under_way and peer.now_s < start_s + 1000:
        peer.say(UpdateNeed(Want.NOTHING_YET), mid=mid)
        peer.wait(1.0)

    assert peer.ended.outcome is UpdateOutcome.FAILED
    assert peer.now_s - start_s == pytest.approx(STALLED_S, abs=1.5)


# ---- ends


@pytest.mark.parametrize("mid_of", ["the question", "nothing"])
def test_what_the_board_refuses_is_told_in_its_words(mid_of: str) -> None:
    peer = begun()
    _, mid = peer.asked()

    peer.say(UpdateAbort("older than 0.3.0"), mid=mid if mid_of == "the question" else 0)

    assert peer.ended == UpdateEnded("b1", UpdateOutcome.REFUSED, "older than 0.3.0")
    assert peer.frames() == []


def test_whoever_aborts_is_told_at_once_and_the_board_after_its_answer() -> None:
    peer = sending(0)
    _, mid = peer.asked()

    peer.abort("the rollout was halted")

    assert peer.ended == UpdateEnded("b1", UpdateOutcome.ABORTED, "the rollout was halted", 177, 1)
    assert peer.frames() == []  # P3: a question is on its way
    peer.say(UpdateDataAck(0, 177, DataStatus.OK), mid=mid)
    assert peer.asked()[0] == UpdateAbort("the rollout was halted")
    assert peer.wait(10.0) == []


def test_an_update_can_begin_after_one_was_aborted() -> None:
    peer = begun()
    peer.abort()
    peer.wait(2.0)
    peer.told.clear()

    peer.update()

    assert isinstance(peer.asked()[0], UpdateBegin)


def test_a_board_that_has_it_in_force_says_so() -> None:
    peer = begun()
    _, mid = peer.asked()

    peer.say(UpdateState(BoardUpdateState.CONFIRMED, UPDATE.short_hash), mid=mid)

    assert peer.ended.outcome is UpdateOutcome.UNCHANGED


def test_a_board_whose_word_was_lost_is_heard_to_try_it() -> None:
    peer = sending()
    peer.frames()

    peer.say(replace(HELLO, nonce=100, manifest_hash=UPDATE.short_hash, slot="b", trial=True))

    assert peer.ended.outcome is UpdateOutcome.ON_TRIAL


def test_a_board_that_was_reset_amid_an_update_interrupts_it() -> None:
    peer = sending(0)
    peer.frames()

    peer.say(replace(HELLO, nonce=100))

    assert peer.ended.outcome is UpdateOutcome.INTERRUPTED
    assert not [frame for frame in peer.frames() if frame.type == 0x42]


def test_a_board_that_only_says_hello_again_is_asked_what_it_still_needs() -> None:
    peer = sending(0)
    peer.frames()

    peer.say(HELLO)
    peer.wait(2.0)

    assert peer.is_under_way
    peer.say(HELLO)
    assert isinstance(peer.wait(2.0)[-1][1], UpdateBegin)


@pytest.mark.parametrize("how", ["bye", "silence", "close"])
def test_a_board_that_leaves_interrupts_its_update(how: str) -> None:
    peer = sending(0)

    match how:
        case "bye":
            peer.say(Bye(0))
        case "silence":
            peer.wait(20.0)
        case "close":
            peer.note(peer.session.close())

    assert peer.ended.outcome is UpdateOutcome.INTERRUPTED
    assert (peer.ended.sent_bytes, peer.ended.sent_files) == (177, 1)


@pytest.mark.parametrize("state", BoardUpdateState)
def test_what_became_of_an_earlier_update_is_told(state: BoardUpdateState) -> None:
    said = UpdateState(state, "0123456789abcdef", "watchdog")

    assert Peer().say(said) == [said]


# ---- beside all else


def read(first_seq: int) -> Read:
    return Read(0, 7, first_seq, 5000, 0, 1, pack("<BBIh", 8, 0, 1000, 5))


def test_an_update_is_never_in_the_way_of_acknowledgements_and_the_time() -> None:
    peer = sending(0)
    peer.frames()  # the piece is on its way, and nobody answers it

    events = peer.say(read(0), Ping(7))

    (received,) = [event for event in events if isinstance(event, Received)]
    received.watermark.mark_safe(0, 0)
    said = [decode(frame) for frame in peer.frames()]
    assert any(isinstance(message, Ack) and message.next_seq == 1 for message in said)
    assert any(isinstance(message, Pong) for message in said)


def test_a_command_waits_for_one_piece_at_most() -> None:
    peer = sending(0)
    _, mid = peer.asked()
    order = Order("5e55.1", "set", {"n": 1}, peer.now_s + 10, "b1", HELLO.life)

    peer.session.command(order, peer.now_s)
    assert peer.frames() == []
    peer.say(UpdateDataAck(0, 177, DataStatus.OK), mid=mid)
    command, mid = peer.asked()
    assert isinstance(command, Command)
    peer.say(Response("5e55.1", 1), mid=mid)

    assert peer.asked()[0] == UpdateData(0, 177, b"a" * 177)


def test_a_command_that_is_not_answered_holds_an_update_up_for_a_second_at_a_time() -> None:
    peer = sending(0)
    _, mid = peer.asked()
    order = Order("5e55.1", "set", {"n": 1}, peer.now_s + 10, "b1", HELLO.life)
    peer.session.command(order, peer.now_s)
    peer.say(UpdateDataAck(0, 177, DataStatus.OK), mid=mid)
    assert isinstance(peer.asked()[0], Command)

    said = peer.wait(1.0)

    assert [message for _, message, _ in said] == [UpdateData(0, 177, b"a" * 177)]


def test_at_most_one_question_is_on_its_way() -> None:
    """P3, with whatever is asked: no two questions within a second without an answer between."""
    rng = random.Random(5)
    peer, receiver = begun(), UpdateReceiver()
    asked_s: list[float] = []
    for number in range(2000):
        if receiver.is_on_trial:
            break
        order = Order(f"5e55.{number}", "set", None, peer.now_s + 3, "b1", HELLO.life)
        peer.session.command(order, peer.now_s)
        questions = [
            frame for frame in peer.frames() if frame.type in {0x06, 0x20, 0x40, 0x42, 0x44}
        ]
        assert len(questions) <= 1
        for frame in questions:
            asked_s.append(peer.now_s)
            if rng.random() < 0.7:
                message = decode(frame)
                if isinstance(message, Command):
                    peer.say(Response(message.command_id, 1), mid=frame.mid)
                elif (answer := receiver.answer(frame)) is not None:
                    peer.say(answer, mid=frame.mid)
                asked_s.clear()
        peer.now_s += 0.1
        peer.note(peer.session.tick(peer.now_s))
        assert all(later - at_s >= 1.0 - 1e-6 for at_s, later in pairwise(asked_s))
    assert receiver.is_on_trial


# ---- whatever happens on the wire


@pytest.mark.parametrize("seed", range(30))
def test_over_a_bad_wire_each_file_arrives_whole(seed: int) -> None:
    rng = random.Random(seed)
    contents = [rng.randbytes(rng.choice([0, 1, 176, 177, 178, 900])) for _ in range(8)]
    update = Update(UpdateKind.FIRMWARE, manifest_of(contents), tuple(contents))
    loss, doubles = rng.choice([0.0, 0.1, 0.3]), rng.choice([0.0, 0.3])
    peer, receiver = begun(update), UpdateReceiver()
    late: list[tuple[Message, int]] = []
    while not receiver.is_on_trial:
        if not peer.is_under_way:  # a long row of losses: a rollout begins the same one again
            peer.told.clear()
            peer.update(update)
        asked = peer.frames()
        if not asked and not late:
            peer.say(Ping(1))
            asked = [encode(message, mid) for _, message, mid in peer.wait(1.0)]
        for frame in asked:
            for _ in range(2 if rng.random() < doubles else 1):
                answer = None if rng.random() < loss else receiver.answer(frame)
                if answer is not None and rng.random() >= loss:
                    late.append((answer, frame.mid))
                    late += [(answer, frame.mid)] * (rng.random() < doubles)  # and again, later
        if late:
            answer, mid = late.pop(rng.randrange(len(late)))
            peer.say(answer, mid=mid)
    assert receiver.has == dict(enumerate(contents)), f"seed {seed}"


ANSWERS = st.one_of(
    st.builds(
        UpdateNeed,
        st.sampled_from(Want),
        st.sets(st.integers(0, 3)).map(sorted).map(tuple),
        st.sampled_from([4, 4, 4, 9]),
    ),
    st.builds(
        UpdateDataAck,
        st.sampled_from([0, 1, 2, 3, MANIFEST_FILE, SIGNATURE_FILE, 77]),
        st.sampled_from([0, 1, 100, 177, 354, 500, 2**32 - 1]),
        st.sampled_from(DataStatus),
    ),
    st.builds(UpdateAbort, st.just("no")),
    st.builds(
        UpdateState,
        st.sampled_from(BoardUpdateState),
        st.sampled_from([UPDATE.short_hash, "", "0"]),
    ),
    st.sampled_from([HELLO, replace(HELLO, nonce=5), Bye(0), Ping(1)]),
)


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(ANSWERS, st.sampled_from(["right", "zero", "wrong"]), st.floats(0, 3))),
    st.booleans(),
)
def test_any_answers_in_any_order_never_raise_and_end_it_at_most_once(
    answers: list[tuple[Message, str, float]],
    is_signed: bool,
) -> None:
    peer = begun(replace(UPDATE, signature=b"s" * 64) if is_signed else UPDATE)
    mid = 0
    for answer, which, pause_s in answers:
        for frame in peer.frames():
            assert len(encode_frame(frame)) <= 256
            mid = frame.mid
        peer.say(answer, mid={"right": mid, "zero": 0, "wrong": mid % 255 + 1}[which])
        peer.wait(pause_s)

    peer.wait(1000.0)

    assert peer.ended is peer.told[-1]


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(st.lists(ANSWERS, min_size=1, max_size=4))
def test_a_board_that_says_the_same_for_ever_ends_it_within_bounds(answers: list[Message]) -> None:
    peer = begun()
    questions = 0
    start_s = peer.now_s
    while peer.is_under_way:
        mids = [frame.mid for frame in peer.frames() if frame.type in {0x40, 0x42, 0x44}]
        questions += len(mids)
        for answer in answers:
            peer.say(answer, mid=mids[-1] if mids else 0)
        peer.wait(0.05)
        assert questions < 200
        assert peer.now_s < start_s + 2 * STALLED_S

    assert peer.ended is peer.told[-1]

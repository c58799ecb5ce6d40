"""A session with a board that has a key: what it seals, believes and refuses."""

from dataclasses import replace

import pytest

from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.frames import MAX_FRAME_ON_256, Frame, encode_frame, line_size, open_frame
from gateway.protocol.messages import (
    Channel,
    Command,
    Hello,
    HelloRequest,
    MessageType,
    Ping,
    Response,
    Stream,
    StreamRequest,
    Welcome,
    decode,
    encode,
)
from gateway.protocol.requests import Order
from gateway.protocol.sealed import Direction, Opened, key_id, open_sealed, seal
from gateway.protocol.session import Session
from gateway.protocol.session_events import (
    CommandEnded,
    CommandReturned,
    Outcome,
    Refused,
    SessionEvent,
    SessionFault,
)

KEY, NEW_KEY = bytes(range(32)), b"\xb2" * 32
SESSION = bytes(range(1, 9))
HELLO = Hello(
    1, "b1", 7, 0, 0, nonce=99, key_id=key_id(KEY), key_session=SESSION.hex(), largest_frame=189
)
PLAIN_HELLO = replace(HELLO, key_id="", key_session="")


STREAM = Stream(0, "climate", "h", (Channel("temperature", "°C", -2, "temperature"),))


class Ring:
    def __init__(self, *keys: bytes) -> None:
        self.keys = {key_id(key): key for key in keys}

    def find(self, device: str, name: str, /) -> bytes | None:
        return self.keys.get(name) if device == "b1" else None

    def ids(self, device: str, /) -> tuple[str, ...]:
        return tuple(self.keys) if device == "b1" else ()


class Peer:
    """Plays a board that has a key, if it says so."""

    def __init__(self, *keys: bytes, hello: Hello = HELLO, board_key: bytes = KEY) -> None:
        self.ring = Ring(*keys)
        self.session = Session(DeliveryBook(), "5e55", keys=self.ring)
        self.key = board_key
        self.now_s = 100.0
        self.accepted = hello.key_counter
        self.sent = 0
        self._orders = 0
        self.hello = hello
        self.say(encode(hello))
        self.said_by_gateway()

    def say(self, frame: Frame) -> list[SessionEvent]:
        return self.session.receive(frame, self.now_s, 1_790_000_000.0)

    def order(self, **differently: object) -> CommandEnded | CommandReturned | None:
        self._orders += 1
        order = Order(f"5e55.{self._orders}", "reset", None, self.now_s + 10, "b1", HELLO.life)
        return self.session.command(replace(order, **differently), self.now_s)  # type: ignore[arg-type]

    def frames(self) -> list[Frame]:
        frames = [open_frame(line) for line in self.session.data_to_send().splitlines()]
        assert all(isinstance(frame, Frame) for frame in frames)
        return [frame for frame in frames if isinstance(frame, Frame)]

    def said_by_gateway(self) -> list[Frame]:
        """Return what the board takes: sealed frames opened, each counter once."""
        taken = []
        for each in self.frames():
            frame = each
            if frame.type & 0x80:
                opened = open_sealed(frame, self.key, SESSION, Direction.TO_BOARD, self.accepted)
                assert isinstance(opened, Opened), opened
                frame, self.accepted = opened
            elif frame.type == MessageType.COMMAND:
                raise AssertionError("a plain command to a board with a key")
            taken.append(frame)
        return taken

    def command(self) -> tuple[Command, int]:
        (frame,) = self.said_by_gateway()
        message = decode(frame)
        assert isinstance(message, Command)
        return message, frame.mid

    def answer(self, mid: int, command_id: str) -> Frame:
        self.sent += 1
        frame = encode(Response(command_id, "done"), mid)
        return seal(frame, self.key, SESSION, Direction.TO_GATEWAY, self.sent)


def test_a_command_goes_sealed_and_its_sealed_answer_ends_it() -> None:
    peer = Peer(KEY)

    assert peer.order() is None
    command, mid = peer.command()
    events = peer.say(peer.answer(mid, command.command_id))

    assert events == [CommandEnded("5e55.1", Outcome.DONE, "done")]
    assert peer.accepted == 1


def test_a_repeated_command_has_a_new_counter_and_the_same_id() -> None:
    peer = Peer(KEY)
    peer.order()
    first, _ = peer.command()

    peer.now_s += 1.5
    peer.session.tick(peer.now_s)
    second, _ = peer.command()

    assert second.command_id == first.command_id
    assert peer.accepted == 2


def test_only_what_must_be_sealed_is() -> None:
    peer = Peer(KEY, hello=replace(HELLO, streams=1))
    peer.now_s += 1.5
    peer.session.tick(peer.now_s)
    peer.say(encode(Ping(5), 3))

    kinds = {type(decode(frame)) for frame in peer.frames()}

    assert StreamRequest in kinds
    assert len(kinds) == 3  # PONG and ACK, too: none of them is unknown, as a sealed one would be


@pytest.mark.parametrize("how", ["plain", "another key", "another session", "twice", "an echo"])
def test_an_answer_of_another_ends_nothing(how: str) -> None:
    peer = Peer(KEY)
    peer.order()
    command, mid = peer.command()
    plain = encode(Response(command.command_id, "forged"), mid)
    forged = {
        "plain": plain,
        "another key": seal(plain, NEW_KEY, SESSION, Direction.TO_GATEWAY, 9),
        "another session": seal(plain, KEY, bytes(8), Direction.TO_GATEWAY, 9),
        "an echo": seal(encode(command, mid), KEY, SESSION, Direction.TO_BOARD, 9),
    }
    if how == "twice":
        peer.say(peer.answer(mid, "another's"))
        peer.session.data_to_send()
        frame = seal(plain, KEY, SESSION, Direction.TO_GATEWAY, 1)
    else:
        frame = forged[how]

    (refused,) = peer.say(frame)

    assert isinstance(refused, Refused)
    echo = how == "an echo"
    assert refused.fault is (SessionFault.ECHO if echo else SessionFault.UNAUTHENTICATED)
    peer.sent = 1
    done = peer.say(peer.answer(mid, command.command_id))
    assert done == [CommandEnded("5e55.1", Outcome.DONE, "done")]


@pytest.mark.parametrize(
    ("keys", "hello", "word"),
    [
        ((), HELLO, "has none for it"),
        ((NEW_KEY,), HELLO, "another one"),
        ((KEY,), PLAIN_HELLO, "the board has none"),
    ],
    ids=["no key", "wrong key", "a key for a board without"],
)
def test_without_the_right_key_a_command_is_refused_and_nothing_is_sent(
    keys: tuple[bytes, ...], hello: Hello, word: str
) -> None:
    peer = Peer(*keys, hello=hello)

    ended = peer.order()
    again = peer.order(was_sent=True)

    assert isinstance(ended, CommandEnded)
    assert isinstance(again, CommandEnded)
    assert ended.outcome is Outcome.FAILED
    assert again.outcome is Outcome.UNKNOWN
    assert word in ended.error
    assert ended.error == again.error
    assert peer.frames() == []


def test_a_board_is_read_though_its_key_is_unknown() -> None:
    peer = Peer(hello=replace(HELLO, streams=1))

    events = peer.say(encode(STREAM))

    assert [type(event).__name__ for event in events] == ["Described"]


def test_a_key_that_comes_while_the_board_is_there_is_used_at_once() -> None:
    peer = Peer()
    assert isinstance(peer.order(), CommandEnded)

    peer.ring.keys[key_id(KEY)] = KEY

    assert peer.order() is None
    assert peer.command()[0].command_id == "5e55.2"


def test_a_gateway_that_starts_again_goes_on_from_the_board_s_counter() -> None:
    peer = Peer(KEY, hello=replace(HELLO, key_counter=70))

    peer.order()
    peer.command()

    assert peer.accepted == 71


def test_a_command_is_repeated_under_the_key_the_board_has_taken_meanwhile() -> None:
    peer = Peer(KEY, NEW_KEY)
    peer.order()
    first, mid = peer.command()

    peer.key = NEW_KEY
    peer.say(encode(replace(HELLO, key_id=key_id(NEW_KEY), key_counter=peer.accepted)))
    peer.said_by_gateway()
    peer.now_s += 1.5
    peer.session.tick(peer.now_s)
    second, again_mid = peer.command()

    assert (second.command_id, again_mid) == (first.command_id, mid)
    events = peer.say(peer.answer(mid, second.command_id))
    assert events == [CommandEnded("5e55.1", Outcome.DONE, "done")]


def test_commands_end_when_the_board_comes_back_with_a_key_nobody_has() -> None:
    peer = Peer(KEY)
    peer.order()
    peer.order()
    peer.frames()

    events = peer.say(encode(replace(HELLO, key_id="0badf00d")))

    ended = [event for event in events if isinstance(event, CommandEnded)]
    assert [each.outcome for each in ended] == [Outcome.UNKNOWN, Outcome.FAILED]
    assert all("0badf00d" in each.error for each in ended)


def test_no_line_to_a_board_with_a_key_is_longer_than_it_may_be() -> None:
    peer = Peer(KEY)
    sizes = []
    for length in range(60, 200):
        if peer.order(name="set", arguments="x" * length) is None:
            line = peer.session.data_to_send()
            sizes.append(len(line))
            frame = open_frame(line.rstrip(b"\n"))
            assert isinstance(frame, Frame)
            opened = open_sealed(frame, KEY, SESSION, Direction.TO_BOARD, 0)
            assert isinstance(opened, Opened)
            command = decode(opened.frame)
            assert isinstance(command, Command)
            peer.say(peer.answer(frame.mid, command.command_id))

    assert max(sizes) == line_size(MAX_FRAME_ON_256) == 254


def test_a_sealed_frame_of_a_stranger_is_answered_with_a_hello_request() -> None:
    session = Session(DeliveryBook(), "5e55", keys=Ring(KEY))
    frame = seal(encode(Response("x", 1), 1), KEY, SESSION, Direction.TO_GATEWAY, 1)

    assert session.receive(frame, 100.0, 0.0) == []

    assert session.data_to_send() == encode_frame(encode(HelloRequest()))


PROOF = replace(HELLO, streams=1, wants_proof=True)


def test_a_board_that_wants_proof_is_welcomed_and_acknowledged_with_a_seal() -> None:
    peer = Peer(KEY)
    peer.say(encode(PROOF))
    (welcome,) = peer.frames()
    peer.say(encode(Ping(5), 3))
    pong, *_ = peer.frames()

    assert welcome.type == MessageType.WELCOME | 0x80
    assert pong.type == MessageType.PONG | 0x80
    for frame, counter in ((welcome, 1), (pong, 2)):
        opened = open_sealed(frame, KEY, SESSION, Direction.TO_BOARD, counter - 1)
        assert isinstance(opened, Opened)
        assert opened.counter == counter


def test_an_epoch_is_refused_with_a_seal_too() -> None:
    """Else a board whose flash was erased would never take another one."""
    peer = Peer(KEY)
    peer.say(encode(replace(PROOF, next_seq=9, unacked=9)))
    peer.frames()

    peer.say(encode(replace(PROOF, next_seq=2, unacked=2, nonce=98)))
    (refusal,) = peer.said_by_gateway()

    message = decode(refusal)
    assert isinstance(message, Welcome)
    assert message.next_seq == 2**32 - 1
    assert peer.accepted > 0, "it was sealed"


@pytest.mark.parametrize("keys", [(), (NEW_KEY,)], ids=["no key", "another key"])
def test_who_lacks_the_key_of_a_board_that_wants_proof_says_all_plainly_and_reads(
    keys: tuple[bytes, ...],
) -> None:
    peer = Peer(*keys)
    peer.say(encode(PROOF))
    peer.say(encode(Ping(5), 3))
    ended = peer.order()

    assert {frame.type & 0x80 for frame in peer.frames()} == {0}
    assert isinstance(ended, CommandEnded)
    assert "keeps what it measured for a gateway that has the key" in ended.error


def test_a_board_that_wanted_proof_is_welcomed_anew_when_its_key_comes() -> None:
    peer = Peer(hello=PROOF)
    peer.say(encode(PROOF))
    peer.frames()

    peer.ring.keys[key_id(KEY)] = KEY
    assert peer.order() is None
    asked = [type(decode(frame)) for frame in peer.said_by_gateway()]

    assert HelloRequest in asked


@pytest.mark.parametrize("kind", [0x82, 0x84, 0x91])
def test_our_own_sealed_frames_that_come_back_are_an_echo(kind: int) -> None:
    peer = Peer(KEY)

    (refused,) = peer.say(Frame(kind, 0, bytes(24)))

    assert isinstance(refused, Refused)
    assert refused.fault is SessionFault.ECHO

"""How what is said to one board is secured, and which of its answers are believed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.protocol.frames import Frame, encode_frame, open_frame
from gateway.protocol.guard import Guard, NoKeys, guard_of
from gateway.protocol.messages import Hello, MessageType
from gateway.protocol.sealed import Direction, Opened, key_id, open_sealed, seal

_FILE = json.loads(
    (Path(__file__).parents[1] / "vectors" / "sealed.json").read_text(encoding="utf-8")
)
KEY, OTHER_KEY = bytes(range(32)), b"\xb2" * 32
SESSION, NEXT_SESSION = "0102030405060708", "1112131415161718"
COMMAND = Frame(MessageType.COMMAND, 7, b'{"c":"set"}')
ANSWER = Frame(MessageType.RESPONSE, 7, b'{"cid":"1","ok":null}')
HELLO = Hello(1, "shed", 7, 0, 0, key_id=key_id(KEY), key_session=SESSION)
KEYLESS = Hello(1, "shed", 7, 0, 0)
PROOF = replace(HELLO, wants_proof=True)
"""Of a board on a link where anybody may speak."""
USED_UP = 2**32 - 1


class Ring:
    """Knows the keys of one board."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = {key_id(key): key for key in keys}

    def find(self, device: str, name: str, /) -> bytes | None:
        assert device == "shed"
        return self.keys.get(name)

    def ids(self, device: str, /) -> tuple[str, ...]:
        assert device == "shed"
        return tuple(self.keys)


def guard(*keys: bytes, hello: Hello = HELLO, before: Guard | None = None) -> Guard:
    return guard_of(hello, "shed", Ring(*keys) if keys else NoKeys(), before)


def opened_by_board(line: bytes, last: int = 0, key: bytes = KEY, session: str = SESSION) -> Opened:
    frame = open_frame(line.rstrip(b"\n"))
    assert isinstance(frame, Frame)
    opened = open_sealed(frame, key, bytes.fromhex(session), Direction.TO_BOARD, last)
    assert isinstance(opened, Opened), opened
    return opened


def answer(counter: int, key: bytes = KEY, session: str = SESSION) -> Frame:
    return seal(ANSWER, key, bytes.fromhex(session), Direction.TO_GATEWAY, counter)


def test_a_board_without_a_key_is_spoken_with_plainly() -> None:
    plain = guard(hello=KEYLESS)

    assert plain.refusal == ""
    assert plain.overhead == 0
    assert plain.line(COMMAND) == encode_frame(COMMAND)
    assert plain.open(ANSWER) == ANSWER
    assert plain.mac(b"anything") == bytes(32)


def test_commands_are_sealed_from_one_on_and_each_with_a_new_counter() -> None:
    sealed = guard(KEY)

    first, second = sealed.line(COMMAND), sealed.line(COMMAND)

    assert opened_by_board(first) == Opened(COMMAND, 1)
    assert opened_by_board(second, last=1) == Opened(COMMAND, 2)
    assert sealed.overhead == 12


def test_the_counter_goes_on_from_what_the_board_accepted_last() -> None:
    after_a_restart = guard(KEY, hello=replace(HELLO, key_counter=41))

    assert opened_by_board(after_a_restart.line(COMMAND), last=41).counter == 42


@pytest.mark.parametrize(("said", "expected"), [(0, 3), (1, 3), (9, 10)])
def test_a_hello_in_the_same_session_never_takes_the_counter_back(said: int, expected: int) -> None:
    first = guard(KEY)
    first.line(COMMAND)
    first.line(COMMAND)

    again = guard(KEY, hello=replace(HELLO, key_counter=said), before=first)

    assert opened_by_board(again.line(COMMAND)).counter == expected


def test_the_counters_begin_anew_with_the_session() -> None:
    first = guard(KEY)
    first.line(COMMAND)
    assert first.open(answer(5)) == ANSWER

    restarted = guard(KEY, hello=replace(HELLO, key_session=NEXT_SESSION), before=first)

    assert opened_by_board(restarted.line(COMMAND), session=NEXT_SESSION).counter == 1
    assert restarted.open(answer(1, session=NEXT_SESSION)) == ANSWER


def test_the_counters_of_a_session_go_on_though_its_key_was_forgotten_for_a_while() -> None:
    first = guard(KEY)
    first.line(COMMAND)
    assert first.open(answer(5)) == ANSWER

    again = guard(KEY, before=guard(before=first))

    assert opened_by_board(again.line(COMMAND)).counter == 2
    assert again.open(answer(5)) == "type 0xa1: old_counter"


def test_what_needs_no_seal_has_none() -> None:
    sealed = guard(KEY)
    ack = Frame(MessageType.ACK, 0, bytes(12))
    read = Frame(MessageType.READ, 0, bytes(16))

    assert sealed.line(ack) == encode_frame(ack)
    assert sealed.open(read) == read


@pytest.mark.parametrize("kind", [0x02, 0x04, 0x11])
def test_what_has_a_board_drop_records_is_sealed_where_the_board_wants_that_proof(
    kind: int,
) -> None:
    """WELCOME, PONG and ACK, with the counter of commands; without the key there is none."""
    said = Frame(kind, 5, b"whatever")
    proving = guard(KEY, hello=PROOF)
    proving.line(COMMAND)

    assert opened_by_board(proving.line(said), last=1) == Opened(said, 2)
    assert guard(KEY).line(said) == encode_frame(said)
    assert guard(hello=PROOF).line(said) == encode_frame(said)
    assert guard(OTHER_KEY, hello=PROOF).line(said) == encode_frame(said)
    assert guard(hello=KEYLESS).line(said) == encode_frame(said)


@pytest.mark.parametrize("kind", [0x06, 0x08])
def test_questions_are_plain_for_every_board(kind: int) -> None:
    """STREAM_REQ and HELLO_REQ: a board that asks for proof need not be known yet."""
    said = Frame(kind, 0, b"")

    assert guard(KEY, hello=PROOF).line(said) == encode_frame(said)


def test_who_leaves_out_that_it_wants_proof_does_not_take_the_seal_away() -> None:
    """A HELLO is not sealed; within a session of the board the wish stands."""
    ack = Frame(MessageType.ACK, 0, bytes(12))
    made_up = guard(KEY, hello=HELLO, before=guard(KEY, hello=PROOF))
    restarted = guard(KEY, hello=replace(HELLO, key_session=NEXT_SESSION), before=made_up)

    assert opened_by_board(made_up.line(ack)).frame == ack
    assert restarted.line(ack) == encode_frame(ack)


def test_a_counter_that_somebody_drove_to_its_end_comes_back_with_the_boards_word() -> None:
    first = guard(KEY)
    first.line(COMMAND)
    made_up = guard(KEY, hello=replace(HELLO, key_counter=USED_UP), before=first)
    again = guard(KEY, hello=replace(HELLO, key_counter=1), before=made_up)

    assert "used up" in made_up.refusal
    assert opened_by_board(again.line(COMMAND), last=1).counter == 2


def test_an_answer_is_believed_once() -> None:
    sealed = guard(KEY)

    assert sealed.open(answer(1)) == ANSWER
    assert sealed.open(answer(3)) == ANSWER
    assert sealed.open(answer(3)) == "type 0xa1: old_counter"
    assert sealed.open(answer(2)) == "type 0xa1: old_counter"


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (ANSWER, "type 0x21 without its seal"),
        (answer(1, key=OTHER_KEY), "type 0xa1: bad_tag"),
        (answer(1, session=NEXT_SESSION), "type 0xa1: bad_tag"),
        (Frame(0xA1, 7, b"short"), "type 0xa1: too_short"),
    ],
)
def test_what_another_may_have_said_is_not_believed(frame: Frame, reason: str) -> None:
    sealed = guard(KEY)

    assert sealed.open(frame) == reason
    assert sealed.open(answer(1)) == ANSWER  # and costs the board nothing


@pytest.mark.parametrize("kind", [0x21, 0x41, 0x43, 0x45, 0x46])
def test_nothing_a_board_answers_is_believed_without_its_seal(kind: int) -> None:
    """RSP and what is said of updates: the table of README.md."""
    said = Frame(kind, 7, b"{}")
    sealed = seal(said, KEY, bytes.fromhex(SESSION), Direction.TO_GATEWAY, 1)

    assert guard(KEY).open(said) == f"type {kind:#04x} without its seal"
    assert guard(KEY).open(sealed) == said
    assert guard(OTHER_KEY).open(said) == f"type {kind:#04x} without its seal"
    assert guard(hello=KEYLESS).open(said) == said


@pytest.mark.parametrize("kind", [0x20, 0x40, 0x42, 0x44, 0x45])
def test_nothing_a_board_is_to_do_is_said_without_a_seal(kind: int) -> None:
    """CMD and all of an update: the table of README.md."""
    line = guard(KEY).line(Frame(kind, 7, b"{}"))

    assert opened_by_board(line).frame == Frame(kind, 7, b"{}")
    assert guard(OTHER_KEY).line(Frame(kind, 7, b"{}")) == b""


@pytest.mark.parametrize(
    ("keys", "hello", "words"),
    [
        ((), HELLO, ["sealed with its key (630dcd29)", "this gateway has none for it"]),
        (
            (OTHER_KEY,),
            HELLO,
            ["sealed with its key (630dcd29)", f"has another one for it ({key_id(OTHER_KEY)})"],
        ),
        (
            (KEY,),
            KEYLESS,
            ["keeps a key for it (630dcd29)", "the board has none", "keys remove shed"],
        ),
        ((KEY,), replace(HELLO, key_counter=2**32 - 1), ["counter", "used up"]),
    ],
    ids=["no key here", "another key here", "no key there", "counter used up"],
)
def test_who_lacks_the_key_reads_and_commands_nothing(
    keys: tuple[bytes, ...], hello: Hello, words: list[str]
) -> None:
    refusing = guard(*keys, hello=hello)

    assert all(word in refusing.refusal for word in words), refusing.refusal
    assert refusing.line(COMMAND) == b""
    assert refusing.mac(b"anything") == bytes(32)
    assert isinstance(refusing.open(ANSWER), str)
    assert isinstance(refusing.open(answer(1)), str)
    read = Frame(MessageType.READ, 0, bytes(16))
    assert refusing.open(read) == read
    assert refusing.line(Frame(MessageType.ACK, 0, bytes(12))) != b""


def test_a_key_that_came_meanwhile_is_used() -> None:
    ring = Ring()
    refusing = guard_of(HELLO, "shed", ring)
    assert refusing.refusal

    ring.keys[key_id(KEY)] = KEY
    sealed = guard_of(HELLO, "shed", ring, refusing)

    assert sealed.refusal == ""
    assert opened_by_board(sealed.line(COMMAND)).counter == 1


def test_of_two_keys_the_one_the_board_names_is_used() -> None:
    rotating = guard(KEY, OTHER_KEY, hello=replace(HELLO, key_id=key_id(OTHER_KEY)))

    assert opened_by_board(rotating.line(COMMAND), key=OTHER_KEY).counter == 1


def test_the_last_counter_is_the_last() -> None:
    nearly = guard(KEY, hello=replace(HELLO, key_counter=2**32 - 2))

    assert opened_by_board(nearly.line(COMMAND)).counter == 2**32 - 1
    assert nearly.line(COMMAND) == b""


@pytest.mark.parametrize("vector", _FILE["update_begins"], ids=lambda v: v["name"])
def test_the_mac_of_an_update_is_as_the_vector_says(vector: dict[str, Any]) -> None:
    key = bytes.fromhex(vector["key"])
    hello = replace(HELLO, key_id=key_id(key))

    mac = guard(key, hello=hello).mac(b"update" + bytes.fromhex(vector["head"]))

    assert mac.hex() == vector["mac"]

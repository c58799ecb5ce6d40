"""A session on a link where anybody may speak: only who has the key lets the board drop records."""

import hmac
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.firmware.board_process import Bench
from tests.firmware.model_gateway import HELLO, LOG, READ, Said, batch, line_of, said
from tests.firmware.session_bench import EPOCH, board, push
from tests.firmware.under_test import load

sealed: Any = load("board.sealed")

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
KS = bytes(range(1, 9))
WELCOME, PONG, STREAM_REQ, HELLO_REQ, ACK, CMD = 0x02, 0x04, 0x06, 0x08, 0x11, 0x20
HEARTBEAT_MS = 5000


class Keyed:
    """A board with a key, what it was told of the time, and the gateway's counter."""

    def __init__(self, records: int = 20, *, is_open: bool = False) -> None:
        self.session = board()
        self.session.keys = sealed.begin(sealed.Keys(), KEY, KS)
        if not is_open:
            self.session.unseal = sealed.open_body
        self.ring = self.session.ring
        self.states: list[str] = []
        self.times: list[int] = []
        self.session.on_up = lambda: self.states.append("up")
        self.session.on_down = lambda: self.states.append("down")
        self.session.on_epoch = lambda epoch: self.states.append(f"epoch {epoch}")
        self.session.on_time = lambda utc_ms, _now_ms: self.times.append(utc_ms)
        self.now_ms = 1000
        self.counter = 0
        self.recorded = b""
        push(self.session, records)

    def hear(self, kind: int, body: bytes, mid: int = 0) -> None:
        self.session.on_line(line_of(kind, body, mid), self.now_ms)

    def seal(self, kind: int, body: bytes, key: bytes = KEY, session: bytes = KS) -> bytes:
        """Return the payload of the gateway's next sealed frame."""
        self.counter += 1
        counter = struct.pack("<I", self.counter)
        head = session + b"\0" + counter + bytes((kind | 0x80, 0))
        return body + counter + hmac.digest(key, head + body, "sha256")[:8]

    def hear_sealed(self, kind: int, body: bytes) -> None:
        self.hear(kind | 0x80, self.seal(kind, body))

    def say(self) -> list[Said]:
        """Return all it has to say now."""
        lines = iter(lambda: self.session.next_line(self.now_ms), None)
        return [said(line) for line in lines]

    def reads(self) -> list[int]:
        """Return the numbers of the records it sends now."""
        batches = [batch(frame) for frame in self.say() if frame.kind == READ]
        return [each.first_seq + k for each in batches for k in range(len(each.records))]


def welcome(nx: int = 0, epoch: int = EPOCH, hb: float = 5) -> bytes:
    text = f'{{"p":1,"s":"5e55","utc":[1790000000,0],"ep":{epoch},"nx":{nx},"cr":3,"hb":{hb}}}'
    return text.encode()


def ack(safe: int, got: int | None = None, epoch: int = EPOCH, credit: int = 3) -> bytes:
    return struct.pack("<HIBBI", epoch, safe, credit, 0, safe if got is None else got)


@pytest.fixture
def keyed() -> Keyed:
    return Keyed()


def test_who_has_no_key_is_told_all_and_nothing_is_dropped(keyed: Keyed) -> None:
    keyed.say()
    keyed.hear(WELCOME, welcome())
    first = keyed.reads()
    keyed.hear(ACK, ack(20))
    again = keyed.reads()

    assert first == list(range(20))
    assert again == [], "what was received is not sent again"
    assert (keyed.ring.count, keyed.ring.safe or 0) == (20, 0)
    assert keyed.session.unproven_frames == 2
    assert keyed.states == []
    assert keyed.times == []


def test_it_goes_on_telling_who_has_no_key(keyed: Keyed) -> None:
    keyed.hear(WELCOME, welcome())
    keyed.reads()
    keyed.hear(ACK, ack(20))

    told = []
    for _ in range(100):
        push(keyed.session, 10)
        told += keyed.reads()
        keyed.hear(ACK, ack(told[-1] + 1))
        keyed.now_ms += 100

    assert told == list(range(20, 1020))
    assert keyed.ring.lost > 0, "the ring is full, and nobody could let it drop what it has"


def test_the_gateway_comes_back_and_has_what_a_stranger_acknowledged(keyed: Keyed) -> None:
    keyed.hear(WELCOME, welcome(nx=20))
    keyed.reads()
    keyed.hear(ACK, ack(20))
    keyed.hear(HELLO_REQ, b"")
    hello = keyed.say()[0]
    keyed.hear_sealed(WELCOME, welcome())
    delivered = keyed.reads()
    keyed.hear_sealed(ACK, ack(20))

    assert (hello.kind, hello.json["ka"], hello.json["un"]) == (HELLO, 1, 20)
    assert "ak" not in hello.json
    assert delivered == list(range(20))
    assert keyed.ring.count == 0
    assert keyed.states == ["up"]


def test_the_seal_of_the_gateway_counts(keyed: Keyed) -> None:
    keyed.hear_sealed(WELCOME, welcome(nx=3))
    keyed.hear_sealed(ACK, ack(12, 15))

    assert (keyed.ring.first, keyed.ring.count) == (12, 8)
    assert keyed.times == [1790000000000]
    assert keyed.session.unproven_frames == 0


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (ACK | 0x80, lambda keyed: keyed.recorded),
        (ACK | 0x80, lambda keyed: keyed.seal(ACK, ack(20), key=OTHER_KEY)),
        (ACK | 0x80, lambda keyed: keyed.seal(ACK, ack(20), session=bytes(8))),
        (ACK | 0x80, lambda keyed: b"\xff" + keyed.seal(ACK, ack(20))[1:]),
        (ACK | 0x80, lambda keyed: keyed.seal(ACK, ack(20, epoch=EPOCH + 1))),
        (ACK | 0x80, lambda keyed: keyed.seal(ACK, ack(20))[12:]),
        (ACK | 0x80, lambda keyed: keyed.seal(PONG, ack(20))),
        (WELCOME | 0x80, lambda keyed: keyed.seal(WELCOME, welcome(20), key=OTHER_KEY)),
        (WELCOME | 0x80, lambda keyed: keyed.seal(WELCOME, welcome(20, epoch=EPOCH + 1))),
        (ACK, lambda _: ack(20)),
        (ACK, lambda _: ack(5, 20, credit=0)),
        (WELCOME, lambda _: welcome(20)),
        (WELCOME, lambda _: welcome(1 << 31)),
        (PONG, lambda _: struct.pack("<IIH", 1000, 1_500_000_000, 0)),
    ],
    ids=[
        "recorded",
        "another key",
        "another life of the board",
        "changed on its way",
        "another epoch",
        "cut short",
        "another type",
        "a WELCOME by another key",
        "a WELCOME of another epoch",
        "a plain ACK",
        "a plain pause",
        "a plain WELCOME",
        "a plain WELCOME that refuses the epoch",
        "a plain PONG",
    ],
)
def test_while_the_gateway_is_there_nothing_else_moves_anything(
    keyed: Keyed, kind: int, payload: Callable[[Keyed], bytes]
) -> None:
    keyed.hear_sealed(WELCOME, welcome())
    keyed.recorded = keyed.seal(ACK, ack(4))
    keyed.hear(ACK | 0x80, keyed.recorded)
    keyed.reads()
    keyed.hear_sealed(ACK, ack(7))
    before = (keyed.ring.first, keyed.ring.count, keyed.session.epoch, list(keyed.times))

    keyed.hear(kind, payload(keyed))
    push(keyed.session, 1)

    assert (keyed.ring.first, keyed.ring.count - 1, keyed.session.epoch, keyed.times) == before
    assert keyed.session.joined
    assert keyed.reads() == [20], "it was neither paused nor told that it has said that"
    assert keyed.states == ["up"]
    keyed.hear_sealed(ACK, ack(21))
    assert keyed.ring.count == 0


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PONG, struct.pack("<IIH", 1000, 1_500_000_000, 0)),
        (ACK | 0x80, bytes(24)),
        (STREAM_REQ, b"\xff"),
        (CMD, b'{"c":"reset","cid":"x"}'),
        (0x45, b"{}"),
        (0x7F, b""),
    ],
    ids=["PONG", "a made up seal", "STREAM_REQ", "CMD", "OTA_ABORT", "an unknown type"],
)
def test_what_cannot_be_believed_is_no_sign_of_the_gateways_life(
    keyed: Keyed, kind: int, body: bytes
) -> None:
    keyed.hear_sealed(WELCOME, welcome())
    for _ in range(4):
        keyed.now_ms += HEARTBEAT_MS - 1000
        keyed.hear(kind, body)
        keyed.session.tick(keyed.now_ms)

    assert keyed.states == ["up", "down"]


def test_a_stranger_in_the_gateways_place_is_no_gateway(keyed: Keyed) -> None:
    """Actuators become safe; what the log has to tell waits for the gateway."""
    keyed.hear_sealed(WELCOME, welcome())
    keyed.say()
    keyed.session.log(3, "no flux")
    keyed.hear(HELLO_REQ, b"")
    keyed.say()
    keyed.hear(WELCOME, welcome(hb=3600))
    at_once = keyed.say(), list(keyed.states)
    keyed.now_ms += 3 * HEARTBEAT_MS
    keyed.say()
    keyed.hear(WELCOME, welcome(hb=3600))
    to_stranger = keyed.say()
    keyed.hear(HELLO_REQ, b"")
    keyed.say()
    keyed.hear_sealed(WELCOME, welcome())
    to_gateway = keyed.say()

    assert at_once == ([], ["up"]), "as long as the gateway may come back"
    assert READ in {frame.kind for frame in to_stranger}
    assert LOG not in {frame.kind for frame in to_stranger}
    assert LOG in {frame.kind for frame in to_gateway}
    assert keyed.states == ["up", "down", "up"]


def test_a_stranger_that_falls_silent_is_left(keyed: Keyed) -> None:
    keyed.hear(WELCOME, welcome(hb=3600))
    keyed.say()

    keyed.now_ms += 3 * HEARTBEAT_MS
    frames = keyed.say()

    assert frames[0].kind == HELLO
    assert keyed.states == []


def test_a_seal_is_enough_without_a_welcome(keyed: Keyed) -> None:
    """The gateway came to know the key in the middle of a session."""
    keyed.hear(WELCOME, welcome())
    keyed.reads()
    keyed.hear_sealed(ACK, ack(20))

    assert keyed.ring.count == 0


@pytest.mark.parametrize("seals", [False, True])
def test_on_a_line_of_its_own_a_gateway_is_believed_with_and_without_a_seal(*, seals: bool) -> None:
    keyed = Keyed(is_open=True)
    hello = keyed.say()[0]
    hear = keyed.hear_sealed if seals else keyed.hear
    hear(WELCOME, welcome())
    keyed.reads()
    hear(ACK, ack(20))

    assert "ka" not in hello.json
    assert keyed.ring.count == 0
    assert keyed.states == ["up"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_stranger_says_costs_no_record(seed: int) -> None:
    keyed = Keyed(100)
    rng = random.Random(seed)
    bodies: list[tuple[int, Callable[[], bytes]]] = [
        (
            WELCOME,
            lambda: welcome(rng.randrange(140), EPOCH + rng.randrange(2), hb=rng.choice((1, 9))),
        ),
        (ACK, lambda: ack(rng.randrange(140), rng.randrange(140), credit=rng.randrange(4))),
        (ACK | 0x80, lambda: rng.randbytes(rng.randrange(30))),
        (WELCOME | 0x80, lambda: welcome(50) + rng.randbytes(12)),
        (PONG, lambda: rng.randbytes(10)),
        (HELLO_REQ, lambda: b""),
        (STREAM_REQ, lambda: b"\xff"),
        (CMD, lambda: b'{"c":"reset","cid":"x"}'),
    ]

    for _ in range(500):
        kind, body = rng.choice(bodies)
        keyed.hear(kind, body())
        keyed.say()
        keyed.now_ms += rng.randrange(500)

    assert (keyed.ring.first, keyed.ring.count, keyed.session.epoch) == (0, 100, EPOCH), seed
    assert keyed.states == []
    assert keyed.times == []


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_line_that_others_share_can_be_as_wary_as_the_radio(
    bench: Bench, *, is_sealed: bool
) -> None:
    (bench.flash / "device.key").write_bytes(KEY)
    link = {"kind": "stdio", "sealed": True} if is_sealed else "stdio"
    bench.configure(links=[link], sensors=[{"kind": "simulated", "interval_ms": 10}])

    with bench.board() as process:
        process.await_records(20)
        process.keep_talking(0.1)
        process.send(line_of(HELLO_REQ))
        process.until(lambda: len(process.of_kind(HELLO)) > 1)
        hello = process.of_kind(HELLO)[-1].json

    assert hello.get("ka") == (1 if is_sealed else None)
    assert (hello["un"] >= 20) == is_sealed, "what a stranger acknowledged stays"
    assert ("ak" in hello) != is_sealed


def test_a_counter_that_somebody_drove_up_is_left_behind() -> None:
    """A HELLO is not sealed: one that is made up moves the gateway's counter to its end."""
    keyed = Keyed(is_open=True)
    keyed.hear(WELCOME, welcome())
    keyed.say()
    keyed.counter = (1 << 32) - 2
    keyed.hear_sealed(CMD, b'{"c":"nothing","cid":"1"}')
    hello = keyed.say()[0]

    assert hello.kind == HELLO
    assert hello.json["kc"] == 0
    assert hello.json["ks"] != KS.hex()

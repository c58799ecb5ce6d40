"""Updates of whole boards: tried out, kept or taken back, and refused; and what a key protects."""

import hmac
import json
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.simulate.slots import lay_out
from tests.firmware import bundles
from tests.firmware.board_process import Bench, BoardProcess
from tests.firmware.bundles import Made
from tests.firmware.model_gateway import CMD, HELLO, RSP, ModelGateway, Said, json_line, line_of
from tests.firmware.updater import (
    ABORT,
    BEGIN,
    DATA,
    DATA_ACK,
    DOWNGRADE,
    END,
    FILES,
    MANIFEST,
    NEED,
    OK,
    SEALED,
    SIGNATURE_FILE,
    SIGNED,
    STATE,
    Need,
    Seal,
    Updater,
    seal_of,
)

COUNTER = {"kind": "simulated", "name": "count", "waveform": "counter", "interval_ms": 20}
KEY = bytes(range(32))
SOON = {"BOARD_TRIAL_ALIVE_MS": "100", "BOARD_TRIAL_GATEWAY_MS": "60000"}
CRASHING = 'def start():\n    raise OSError(5, "no flux")\n'
HANGING = "def start():\n    while True:\n        pass\n"


@pytest.fixture
def slotted(bench: Bench) -> Bench:
    """Return a board with slots, and without a key."""
    made = bundles.made(bundles.sources())
    lay_out(bench.flash, made.manifest, made.files)
    bench.configure(sensors=[COUNTER])
    return bench


def slots_of(flash: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((flash / "slots.json").read_text())
    return found


def stated(board: BoardProcess) -> list[dict[str, object]]:
    return [frame.json for frame in board.of_kind(STATE)]


def hello_of(board: BoardProcess) -> dict[str, object]:
    board.until(lambda: board.of_kind(HELLO))
    hello: dict[str, object] = board.of_kind(HELLO)[0].json
    return hello


def bring(bench: Bench, made: Made, gateway: ModelGateway, **more: object) -> None:
    """Update a board up to its reset into the trial."""
    with bench.board(SOON, gateway=gateway) as board:
        board.await_records(len(gateway.records) + 3)
        end = Updater(board, made, **more).run()  # type: ignore[arg-type]
        assert end.json == {"s": "trial", "mh": made.mh}
        assert board.exit_code() == 75


def test_new_firmware_proves_itself_and_stays(slotted: Bench) -> None:
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    gateway = ModelGateway()

    with slotted.board(SOON, gateway=gateway) as board:
        board.await_records(3)
        before = hello_of(board)
        updater = Updater(board, new)
        updater.run()
        board.exit_code()
    with slotted.board(SOON, gateway=gateway) as again:
        again.until(lambda: stated(again))
    with slotted.board(SOON, gateway=gateway) as later:
        after = hello_of(later)

    changed = sorted(new.files).index("sensors/heap.py")
    assert updater.sent == [0xFFFF, changed], "all else was copied on the board"
    assert (before["slot"], before["fw"]) == ("a", "0.1.0")
    assert hello_of(again)["trial"] is True
    assert stated(again)[0] == {"s": "confirmed", "mh": new.mh}
    assert (after["slot"], after["fw"], after["mh"]) == ("b", "0.2.0", new.mh)
    assert "trial" not in after
    assert gateway.gaps == []
    assert gateway.duplicates == 0


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [(CRASHING, 75, "crash: OSError: "), (HANGING, 77, "it hung: the watchdog")],
    ids=["crashes", "hangs"],
)
def test_what_does_not_start_is_taken_back_with_the_reason(
    slotted: Bench, program: str, code: int, reason: str
) -> None:
    new = bundles.altered(board__app=program)
    gateway = ModelGateway()
    bring(slotted, new, gateway)

    quick = {**SOON, "BOARD_TRIAL_WATCHDOG_MS": "400"}
    for _ in range(2):
        with slotted.board(quick, gateway=gateway) as trial:
            assert trial.exit_code() == code
            assert trial.heard == []
    with slotted.board(SOON, gateway=gateway) as back:
        back.until(lambda: stated(back))
        hello = hello_of(back)
    with slotted.board(SOON, gateway=gateway) as later:
        told_again = hello_of(later)

    assert (hello["slot"], hello["fw"]) == ("a", "0.1.0")
    assert str(hello["rb"]).startswith(reason)
    (state,) = stated(back)
    assert state == {"s": "rolled_back", "mh": new.mh, "e": hello["rb"]}
    assert "rb" not in told_again


def test_what_never_reaches_the_gateway_is_taken_back(slotted: Bench) -> None:
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    gateway = ModelGateway()
    bring(slotted, new, gateway)

    gateway.is_silent = True
    for _ in range(2):
        with slotted.board({"BOARD_TRIAL_GATEWAY_MS": "200"}, gateway=gateway) as trial:
            assert trial.exit_code() == 75
    with slotted.board(gateway=gateway) as unheard:
        first = hello_of(unheard)
    gateway.is_silent = False
    with slotted.board(gateway=gateway) as back:
        back.until(lambda: stated(back))
        second = hello_of(back)

    assert first["slot"] == second["slot"] == "a"
    assert first["rb"] == second["rb"] == "no gateway answered in 0 s"


def test_only_who_is_acknowledged_and_lives_long_enough_has_proven_itself(slotted: Bench) -> None:
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    gateway = ModelGateway()
    bring(slotted, new, gateway)

    with slotted.board({"BOARD_TRIAL_ALIVE_MS": "3600000"}, gateway=gateway) as young:
        young.await_records(len(gateway.records) + 50)  # a second, in which it looks five times
        early = stated(young)
    unheard = {"BOARD_TRIAL_ALIVE_MS": "0", "BOARD_TRIAL_GATEWAY_MS": "1000"}
    with slotted.board(unheard, gateway=gateway) as trial:
        trial.answers_acks = False
        assert trial.exit_code() == 75
    with slotted.board(SOON, gateway=gateway) as back:
        back.until(lambda: stated(back))

    assert hello_of(young)["trial"] is True
    assert early == stated(trial) == []
    assert hello_of(back)["rb"] == "no gateway took a reading in 1 s"


def test_settings_are_kept_if_they_work_and_taken_back_if_not(slotted: Bench) -> None:
    gateway = ModelGateway()
    named = bundles.settings(sensors=[COUNTER], name="attic", watchdog_s=0)
    mute = bundles.settings(sensors=[], links=[{"kind": "uart", "id": 9}], watchdog_s=0)

    bring(slotted, named, gateway, is_settings=True)
    with slotted.board(SOON, gateway=gateway) as again:
        again.until(lambda: stated(again))
    bring(slotted, mute, gateway, is_settings=True)
    gateway.is_silent = True
    for _ in range(2):
        with slotted.board({"BOARD_TRIAL_GATEWAY_MS": "200"}, gateway=gateway) as trial:
            assert trial.exit_code() == 75
    gateway.is_silent = False
    with slotted.board(SOON, gateway=gateway) as back:
        back.until(lambda: stated(back))

    assert stated(again)[0] == {"s": "confirmed", "mh": named.mh}
    assert hello_of(again)["name"] == hello_of(back)["name"] == "attic"
    assert stated(back)[0]["s"] == "rolled_back"
    assert stated(back)[0]["mh"] == mute.mh


def test_a_try_of_settings_that_cannot_be_counted_is_none(slotted: Bench) -> None:
    """As on a flash that is full: what is proven runs, until it can be counted."""
    gateway = ModelGateway()
    bring(slotted, bundles.settings(sensors=[COUNTER], name="new"), gateway, is_settings=True)
    obstacle = slotted.flash / "slots.json.new"
    obstacle.mkdir()
    with slotted.board(SOON, gateway=gateway) as board:
        uncounted = hello_of(board)
    obstacle.rmdir()
    with slotted.board(SOON, gateway=gateway) as board:
        counted = hello_of(board)
        board.until(lambda: stated(board))

    assert "trial" not in uncounted
    assert uncounted["name"] != "new"
    assert (counted["trial"], counted["name"]) == (True, "new")
    assert stated(board)[0]["s"] == "confirmed"


def test_a_board_whose_sensors_do_not_work_can_be_updated(slotted: Bench) -> None:
    slotted.configure(sensors=[{"kind": "no_such", "name": "broken"}])
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    gateway = ModelGateway()

    with slotted.board(SOON, gateway=gateway) as board:
        hello_of(board)
        assert Updater(board, new).run().json == {"s": "trial", "mh": new.mh}
        board.exit_code()
    with slotted.board(SOON, gateway=gateway) as again:
        again.until(lambda: stated(again))

    assert stated(again)[0] == {"s": "confirmed", "mh": new.mh}


def test_what_is_wrong_is_refused_and_nothing_that_can_be_booted_changes(slotted: Bench) -> None:
    sources = bundles.sources()
    whole = bundles.made(sources, v="0.2.0")
    lines = whole.manifest.splitlines(keepends=True)
    wrong = {
        "0.0.9 is older than 0.1.0": bundles.made(sources, v="0.0.9"),
        "made for mpy 5, ": bundles.made(sources, v="0.2.0", mpy=5),
        "manifest: 3 files of ": Made(b"".join(lines[:4]), sources),
        "manifest: line 2": Made(whole.manifest[: len(lines[0]) + 20], sources),
        "manifest: it is of kind ": bundles.made(sources, v="0.2.0", kind="settings"),
        "manifest: line 3": Made(
            b"".join([*lines[:2], lines[2].replace(b"actuators/", b"../", 1)]), sources
        ),
    }
    before = {each: each.read_bytes() for each in (slotted.flash / "a").rglob("*.py")}

    with slotted.board(SOON) as board:
        board.await_records(3)
        for text, made in wrong.items():
            frame = Updater(board, made).run()
            assert frame.kind == ABORT, text
            assert frame.json["e"].startswith(text)
        older = Updater(board, wrong["0.0.9 is older than 0.1.0"], flags=DOWNGRADE).begin()

    assert older.kind == NEED, "it was asked for"
    assert slots_of(slotted.flash) == {"a": "a", "t": None, "n": 0}
    assert not (slotted.flash / "b" / "manifest").exists()
    assert {each: each.read_bytes() for each in before} == before


def test_an_update_that_broke_off_goes_on_where_it_was(slotted: Bench) -> None:
    """Killed after each of two files; what was whole is not sent again."""
    extra = "# new\n"
    new = bundles.altered(
        sensors__heap=bundles.text_of("sensors/heap.py") + extra,
        sensors__adc=bundles.text_of("sensors/adc.py") + extra,
        board__log=bundles.text_of("board/log.py") + extra,
    )
    gateway = ModelGateway()
    sent = []

    for _ in range(2):
        with slotted.board(SOON, gateway=gateway) as board:
            board.until(lambda board=board: board.gateway.records and board.of_kind(HELLO))  # type: ignore[misc]
            board.await_records(len(gateway.records) + 3)
            updater = Updater(board, new)
            first, *_ = Need.of(updater.begin()).files
            updater.send(first, new.contents[first])
            sent += updater.sent
            board.kill()
    with slotted.board(SOON, gateway=gateway) as board:
        board.await_records(len(gateway.records) + 3)
        updater = Updater(board, new)
        assert updater.run().json["s"] == "trial"

    sent += updater.sent
    assert len([file for file in sent if file < 0xFFFE]) == 3
    assert sent.count(0xFFFF) == 1, "the manifest is kept, too"


# ---- signed


def test_a_board_that_wants_a_signature_takes_the_right_one_only(slotted: Bench) -> None:
    release = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public_key = release.public_key().public_bytes_raw().hex()
    slotted.configure(sensors=[COUNTER], require_signature=public_key)
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    right = release.sign(new.manifest)
    free = bundles.settings(sensors=[COUNTER], watchdog_s=0)
    ends = []

    with slotted.board(SOON) as board:
        board.await_records(3)
        for signature in (b"", right[:63] + bytes((right[63] ^ 1,)), release.sign(b"other"), right):
            records = len(board.gateway.records)
            ends.append(Updater(board, new, signature=signature).begin())
            board.await_records(records + 1)
        Updater(board, new).say(ABORT)
        ends.append(Updater(board, free, is_settings=True).run())
        end = Updater(board, new, signature=right).run()
        board.exit_code()

    assert [frame.kind for frame in ends] == [ABORT, ABORT, ABORT, NEED, ABORT]
    assert ends[0].json == {"e": "not signed, and this board wants a signature"}
    assert ends[1].json == ends[2].json == {"e": "wrong signature"}
    assert ends[4].json == {"e": "require_signature changes: that has to be signed"}
    assert end.json == {"s": "trial", "mh": new.mh}


def test_no_order_of_frames_goes_round_the_signature(slotted: Bench) -> None:
    """Neither flags that change under an update, nor a signature nobody verified."""
    release = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public_key = release.public_key().public_bytes_raw().hex()
    slotted.configure(sensors=[COUNTER], require_signature=public_key)
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    free = bundles.settings(sensors=[COUNTER], watchdog_s=0)

    with slotted.board(SOON) as board:
        board.await_records(3)
        changing = Updater(board, new, flags=SIGNED)
        assert Need.of(changing.ask(BEGIN, changing.begin_body())).want == MANIFEST
        changing.flags = 0
        unsigned = changing.run()
        claiming = Updater(board, free, is_settings=True)
        claiming.begin()
        claiming.ask(DATA, struct.pack("<HI", SIGNATURE_FILE, 0) + bytes(1))
        claiming.send(0, free.contents[0])
        claimed = claiming.ask(END)
        signing = Updater(board, free, is_settings=True, signature=release.sign(free.manifest))
        freed = signing.run()

    assert unsigned.json == {"e": "not signed, and this board wants a signature"}
    assert claimed.json == {"e": "require_signature changes: that has to be signed"}
    assert freed.json == {"s": "trial", "mh": free.mh}, "who holds the release key may"


@pytest.mark.parametrize("text", [b"[]", b"{", b"\xff"], ids=["list", "cut short", "not UTF-8"])
def test_settings_that_cannot_be_read_can_be_mended(slotted: Bench, text: bytes) -> None:
    (slotted.flash / "config.json").write_bytes(text)
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    good = bundles.settings(sensors=[COUNTER], watchdog_s=0)

    with slotted.board(SOON) as board:
        hello_of(board)
        firmware = Updater(board, new).begin()
        Updater(board, new).say(ABORT)
        settings = Updater(board, good, is_settings=True).run()

    assert Need.of(firmware).want == FILES
    assert settings.json == {"s": "trial", "mh": good.mh}


# ---- with a key


@pytest.fixture
def locked(slotted: Bench) -> Bench:
    """Return a board with a key."""
    (slotted.flash / "device.key").write_bytes(KEY)
    return slotted


def answers(board: BoardProcess, kind: int) -> list[Said]:
    return [frame for frame in board.heard if frame.kind & ~SEALED == kind]


def test_a_board_with_a_key_obeys_who_knows_it(locked: Bench) -> None:
    question = {"c": "interval", "a": {"count": 30}, "ttl_ms": 60000}
    with locked.board() as board:
        board.await_records(3)
        seal = seal_of(board, KEY)
        plain = json_line(CMD, {**question, "cid": "p"}, mid=1)
        sealed = seal.line(CMD, json.dumps({**question, "cid": "s"}).encode(), 2)
        strange = seal_of(board, KEY)
        strange.key = bytes(32)
        board.send(
            plain, strange.line(CMD, json.dumps({**question, "cid": "x"}).encode(), 3), sealed
        )
        board.until(lambda: len(answers(board, RSP)) == 2)
        board.send(sealed, sealed, plain)
        board.until(lambda: len(answers(board, RSP)) == 3)

    refused, done, refused_again = answers(board, RSP)
    assert refused.json == refused_again.json == {"cid": "p", "err": "needs the key"}
    assert seal.open(done).json == {"cid": "s", "ok": {"count": 30}}


def test_a_recorded_update_changes_nothing(locked: Bench) -> None:
    """Neither in the session it was recorded in, nor in one after a reset."""
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    recorded: list[bytes] = []
    gateway = ModelGateway()
    with locked.board(SOON, gateway=gateway) as board:
        board.await_records(3)
        updater = Updater(board, new, seal_of(board, KEY))
        send = board.send

        def record(*lines: bytes) -> None:
            recorded.extend(lines)
            send(*lines)

        board.send = record  # type: ignore[method-assign]
        updater.begin()
        updater.say(END)
        updater.answer()
        recorded = [line for line in recorded if line[:2] in (b"~w", b"~x")]
        assert len(recorded) > 3
        heard = len(answers(board, NEED))
        send(*recorded)
        board.await_records(len(gateway.records) + 3)
        assert len(answers(board, NEED)) == heard
    before = slots_of(locked.flash)

    with locked.board(SOON, gateway=gateway) as again:
        again.await_records(len(gateway.records) + 3)
        again.send(*recorded)
        again.send(line_of(BEGIN, updater.begin_body(), 9))
        again.until(lambda: answers(again, ABORT))
        hello = hello_of(again)

    assert [frame.json for frame in answers(again, ABORT)] == [{"e": "needs the key"}]
    assert [*answers(again, NEED), *answers(again, DATA_ACK)] == [], "in another session none opens"
    assert slots_of(locked.flash) == before
    assert hello["kc"] == 0


def test_who_has_no_key_cannot_end_an_update(locked: Bench) -> None:
    new = bundles.altered(sensors__heap=bundles.text_of("sensors/heap.py") + "# new\n")
    with locked.board(SOON) as board:
        board.await_records(3)
        updater = Updater(board, new, seal_of(board, KEY))
        first, *_ = Need.of(updater.begin()).files
        strange = seal_of(board, KEY)
        strange.key = bytes(32)
        strange.said = 1000
        board.send(line_of(ABORT, b'{"e":"stop"}', 1), strange.line(ABORT, b'{"e":"stop"}', 2))
        status = updater.send(first, new.contents[first])

    assert status == OK
    assert answers(board, ABORT) == []


@pytest.mark.parametrize("content", [b"", KEY[:31], KEY + b"\n"])
def test_with_a_file_that_is_no_key_nobody_commands(slotted: Bench, content: bytes) -> None:
    """As when its writing was cut off: such a board is read, until it is flashed anew."""
    (slotted.flash / "device.key").write_bytes(content)
    question = {"c": "interval", "a": {"count": 30}, "ttl_ms": 60000}
    with slotted.board() as board:
        board.await_records(3)
        hello = hello_of(board)
        seal = Seal(KEY, bytes.fromhex(str(hello["ks"])))
        plain = json_line(CMD, {**question, "cid": "p"}, mid=1)
        board.send(seal.line(CMD, json.dumps({**question, "cid": "s"}).encode(), 2), plain)
        board.until(lambda: answers(board, RSP))
        board.await_records(len(board.gateway.records) + 3)
        told = b"".join(frame.payload for frame in board.of_kind(0x30))

    assert [frame.json for frame in answers(board, RSP)] == [{"cid": "p", "err": "needs the key"}]
    assert b"device.key must have 32 bytes: no commands are taken" in told


def test_an_update_with_a_wrong_mac_is_refused(locked: Bench) -> None:
    with locked.board() as board:
        board.await_records(3)
        updater = Updater(board, bundles.made(bundles.sources(), v="0.2.0"), seal_of(board, KEY))
        body = updater.begin_body()
        frame = updater.ask(BEGIN, body[:-1] + bytes((body[-1] ^ 1,)))

    assert frame.json == {"e": "wrong mac"}
    assert not (locked.flash / "b").exists()


def test_a_key_is_changed_under_the_old_one(locked: Bench) -> None:
    salt = bytes(range(100, 116))
    new = hmac.digest(KEY, b"rekey" + salt, "sha256")
    with locked.board() as board:
        board.await_records(3)
        seal = seal_of(board, KEY)
        question = {"c": "rekey", "a": {"salt": salt.hex()}, "cid": "k"}
        board.send(seal.line(CMD, json.dumps(question).encode(), 5))
        board.until(lambda: len(board.of_kind(HELLO)) > 1)
        answer = seal.open(answers(board, RSP)[0])
        fresh = seal_of(board, new)
        board.await_records(len(board.gateway.records) + 3)
        board.send(fresh.line(CMD, json.dumps({"c": "info", "a": None, "cid": "i"}).encode(), 6))
        board.until(lambda: len(answers(board, RSP)) > 1)
        info = fresh.open(answers(board, RSP)[1])

    assert answer.json == {"cid": "k", "ok": None}
    assert fresh.session != seal.session
    assert info.json["cid"] == "i"
    assert (locked.flash / "device.key").read_bytes() == new

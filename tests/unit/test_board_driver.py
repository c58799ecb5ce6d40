from collections.abc import Iterable
from dataclasses import replace
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import Clock
from gateway.drivers.board import BoardDriver
from gateway.drivers.board_clock import DRIFT, LATE_S, BoardClock
from gateway.drivers.board_sensors import sensor_keys
from gateway.model import (
    MAX_SLUG,
    Actuator,
    ActuatorChanged,
    Description,
    DeviceLog,
    Event,
    Fault,
    Gap,
    GapCause,
    Gone,
    LogLevel,
    Readings,
    Sample,
    Seen,
    Sensor,
    TakesCommands,
    UpdateStated,
)
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.frames import Frame, open_frame
from gateway.protocol.messages import (
    Ack,
    ActuatorReport,
    Bye,
    Channel,
    Command,
    Hello,
    Log,
    Message,
    MessageType,
    Ping,
    Read,
    ReadFlag,
    Response,
    Stream,
    decode,
    encode,
)
from gateway.protocol.requests import Order
from gateway.protocol.session_events import CommandEnded, CommandReturned, Outcome
from gateway.protocol.update import Update, UpdateEnded, UpdateEvent
from gateway.protocol.update_values import BoardUpdateState, UpdateAbort, UpdateKind, UpdateState
from tests.support.effort import examples

CLIMATE = Stream(
    0,
    "climate",
    "hHI",
    (
        Channel("temperature", "°C", -2, "temperature"),
        Channel("humidity", "%", -2, "humidity"),
        Channel("pressure", "Pa", 0, "pressure"),
    ),
)
SOIL = Stream(
    1,
    "soil",
    "hB",
    (Channel("temperature", "°C", -1, "temperature"), Channel("Moisture [%]", "%", None, "")),
)
PUMP = ActuatorReport("Pump 1", "Pump", "switch", state=False)
HELLO = Hello(
    1,
    "Greenhouse 7",
    42,
    0,
    0,
    name="Green\x07house",
    firmware="0.1.0",
    runtime="1.25.0",
    platform="esp32",
    streams=2,
    actuators=1,
    reset_cause="watchdog",
    crash="ValueError: x",
    nonce=5,
)


class Rig:
    """A driver, and what it made of frames."""

    def __init__(self) -> None:
        self.book = DeliveryBook()
        clock = Clock(lambda: 0.0, lambda: 1_790_000_000.0)
        self.driver = BoardDriver("port-1", self.book, clock, "5e55")

    def say(self, *messages: Message, now_s: float = 100.0) -> list[Event]:
        out: list[Event] = []
        for message in messages:
            self.driver.receive(encode(message), now_s, out)
        return out

    def frames(self) -> list[Frame]:
        found = [open_frame(line) for line in self.driver.session.data_to_send().splitlines()]
        return [frame for frame in found if isinstance(frame, Frame)]

    def heard(self) -> list[Message]:
        messages = [decode(frame) for frame in self.frames()]
        return [message for message in messages if isinstance(message, Message)]


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.say(HELLO, CLIMATE, SOIL, PUMP)
    rig.heard()
    return rig


def climate(mono_ms: int, temperature: int = 2150) -> bytes:
    return pack("<BBIhHI", 14, 0, mono_ms, temperature, 4567, 101_325)


def read_of(first_seq: int, now_ms: int, *records: bytes, flags: int = 0) -> Read:
    return Read(flags, 42, first_seq, now_ms, 0, len(records), b"".join(records))


def samples(events: Iterable[Event]) -> list[Sample]:
    return [
        record
        for event in events
        if isinstance(event, Readings)
        for record in event.records
        if isinstance(record, Sample)
    ]


def test_a_board_describes_itself_when_all_of_it_is_known() -> None:
    rig = Rig()

    events = rig.say(HELLO, CLIMATE, SOIL, PUMP)

    assert events == [
        Seen(
            Description(
                device="greenhouse_7",
                name="Green house",
                driver="board",
                model="esp32",
                firmware="0.1.0",
                runtime="1.25.0",
                address="port-1",
                sensors=(
                    Sensor("climate_temperature", "°C", "temperature", -2),
                    Sensor("humidity", "%", "humidity", -2),
                    Sensor("pressure", "Pa", "pressure", 0),
                    Sensor("soil_temperature", "°C", "temperature", -1),
                    Sensor("moisture", "%", "", None),
                ),
                actuators=(Actuator("pump_1", "Pump", "switch", state=False),),
                boot=42,
                reset_cause="watchdog",
                crash="ValueError: x",
            )
        ),
        TakesCommands("greenhouse_7", HELLO.life),
    ]


def test_a_board_called_as_a_topic_of_the_gateway_has_another_topic() -> None:
    rig = Rig()

    seen, _ = rig.say(replace(HELLO, id="Status"), CLIMATE, SOIL, PUMP)
    (gone,) = rig.say(Bye(60_000))

    assert isinstance(seen, Seen)
    assert seen.description.device == "status_device"
    assert gone == Gone("status_device", "bye", 60.0)


def test_readings_carry_identity_values_and_time(rig: Rig) -> None:
    soil = pack("<BBIhB", 9, 1, 4_500, -32_768, 33)

    events = rig.say(read_of(0, 5_000, climate(4_000), soil), now_s=200.0)

    assert samples(events) == [
        Sample(
            "greenhouse_7",
            42,
            0,
            199.0,
            {"climate_temperature": 21.5, "humidity": 45.67, "pressure": 101_325},
        ),
        Sample("greenhouse_7", 42, 1, 199.5, {"moisture": 33}),
    ]


def test_readings_that_are_safe_are_acknowledged(rig: Rig) -> None:
    (readings,) = rig.say(read_of(0, 5_000, climate(4_000), climate(4_500)))
    assert isinstance(readings, Readings)
    assert rig.heard() == []

    assert readings.on_safe is not None
    readings.on_safe()

    assert rig.heard() == [Ack(42, 2, 3, 0, 2)]


def test_a_loss_is_published_as_a_gap_before_what_follows_it(rig: Rig) -> None:
    events = rig.say(read_of(7, 5_000, climate(4_000), flags=ReadFlag.OLDEST), now_s=200.0)

    gap, readings = events
    assert isinstance(gap, Readings)
    assert gap.records == (Gap("greenhouse_7", 42, 0, 6, GapCause.RING_OVERFLOW, 200.0),)
    for event in (readings, gap):
        assert isinstance(event, Readings)
        assert event.on_safe is not None
        event.on_safe()
    assert rig.heard() == [Ack(42, 8, 3, 0, 8)]


def test_what_went_with_a_boards_memory_is_a_gap_of_the_epoch_it_was_in(rig: Rig) -> None:
    rig.say(Ping(5000, next_seq=6))

    events = rig.say(replace(HELLO, epoch=43, nonce=6), now_s=200.0)

    (gap,) = [event for event in events if isinstance(event, Readings)]
    assert gap.records == (Gap("greenhouse_7", 42, 0, 5, GapCause.POWER_LOSS, 200.0),)
    assert gap.on_safe is not None
    gap.on_safe()
    mark = rig.book.watermark("greenhouse_7", 42)
    assert mark is not None
    assert mark.safe_next == 6


def test_a_record_nobody_can_read_is_a_gap_in_its_place(rig: Rig) -> None:
    broken = pack("<BBIh", 8, 0, 4_000, 1)

    fault, readings = rig.say(read_of(0, 5_000, climate(4_000), broken, climate(4_200)))

    assert isinstance(fault, Fault)
    assert fault.kind == "bad_record"
    assert isinstance(readings, Readings)
    first, gap, last = readings.records
    assert gap == Gap("greenhouse_7", 42, 1, 1, GapCause.UNREADABLE, 100.0)
    assert isinstance(first, Sample)
    assert isinstance(last, Sample)
    assert (first.seq, last.seq) == (0, 2)


def test_a_logged_line_is_cleaned_and_its_level_kept(rig: Rig) -> None:
    assert rig.say(Log(3, "too\nhot \x1b[0m"), Log(9, "x"), Log(0, "y")) == [
        DeviceLog("greenhouse_7", LogLevel.WARNING, "too hot  [0m"),
        DeviceLog("greenhouse_7", LogLevel.ERROR, "x"),
        DeviceLog("greenhouse_7", LogLevel.DEBUG, "y"),
    ]


def test_an_actuators_state_is_told(rig: Rig) -> None:
    on = ActuatorReport("Pump 1", "Pump", "switch", state=True)

    assert rig.say(on) == [
        ActuatorChanged("greenhouse_7", Actuator("pump_1", "Pump", "switch", state=True))
    ]


def test_a_board_that_sleeps_is_gone_and_seen_again_when_it_wakes(rig: Rig) -> None:
    assert rig.say(Bye(60_000)) == [Gone("greenhouse_7", "bye", 60.0)]
    assert rig.driver.device == ""

    events = rig.say(HELLO, CLIMATE, SOIL, PUMP)

    assert [type(event) for event in events] == [Seen, TakesCommands]


def test_a_welcome_that_is_repeated_is_no_news(rig: Rig) -> None:
    assert rig.say(HELLO, CLIMATE, SOIL, PUMP) == []


def test_faults_have_short_printable_details() -> None:
    events = Rig().say(Hello(2, "x" * 64, 1, 0, 0), Hello(255, "\x1b\n", 1, 0, 0))

    assert [event.kind for event in events if isinstance(event, Fault)] == [
        "unsupported_protocol"
    ] * 2
    for event in events:
        assert isinstance(event, Fault)
        assert len(event.detail) <= 120
        assert event.detail.isprintable()


def test_what_has_proven_itself_is_not_on_trial_any_more() -> None:
    """Though the next HELLO may be long in coming."""
    rig = Rig()
    tried = replace(HELLO, slot="b", manifest_hash="0123456789abcdef", trial=True)
    (seen, *_) = rig.say(tried, CLIMATE, SOIL, PUMP)
    events = rig.say(UpdateState(BoardUpdateState.CONFIRMED, tried.manifest_hash))
    again = rig.say(UpdateState(BoardUpdateState.CONFIRMED, tried.manifest_hash), CLIMATE)

    assert isinstance(seen, Seen)
    assert seen.description.is_on_trial
    proven = Seen(replace(seen.description, is_on_trial=False))
    stated = UpdateStated(seen.description.device, "confirmed", tried.manifest_hash, "")
    assert events == [proven, stated]
    assert again == events[1:]


def test_why_a_board_refuses_an_update_can_do_no_terminal_harm() -> None:
    rig, told = Rig(), list[UpdateEvent]()
    rig.say(replace(HELLO, slot="a"), CLIMATE, SOIL, PUMP)
    update = Update(UpdateKind.SETTINGS, b"m", (b"{}",))
    rig.driver.update(rig.driver.device, update, 100.0, told.append)
    begin = next(frame for frame in rig.frames() if frame.type == MessageType.OTA_BEGIN)
    out: list[Event] = []
    rig.driver.receive(encode(UpdateAbort("no \x1b[2Jroom\n"), begin.mid), 100.1, out)

    *_, ended = told
    assert isinstance(ended, UpdateEnded)
    assert ended.detail == "no  [2Jroom"


def test_a_commands_end_reaches_who_gave_it(rig: Rig) -> None:
    ended: list[CommandEnded | CommandReturned] = []

    order = Order("c.1", "set", {"pump_1": True}, 105.0, "greenhouse_7", HELLO.life)
    rig.driver.command(order, 100.0, ended.append)
    assert rig.heard() == [Command("set", {"Pump 1": True}, 5000, "c.1")]  # the board's own name
    rig.driver.receive(encode(Response("c.1", 1), 1), 100.1, [])
    rig.driver.command(replace(order, arguments="x" * 300), 100.0, ended.append)

    assert [getattr(end, "outcome", None) for end in ended] == [Outcome.DONE, Outcome.FAILED]


def test_a_closing_link_takes_its_board_along(rig: Rig) -> None:
    out: list[Event] = []

    rig.driver.close(100.0, out)

    assert out == [Gone("greenhouse_7", "closed")]


# ---- keys


def stream(number: int, name: str, *keys: str) -> Stream:
    channels = tuple(Channel(key, "", None, "") for key in keys)
    return Stream(number, name, "h" * len(keys), channels)


def test_keys_are_the_boards_own_where_they_are_unique() -> None:
    assert sensor_keys([stream(0, "a", "Temp", "hum"), stream(1, "b", "light")]) == {
        0: ["temp", "hum"],
        1: ["light"],
    }


def test_keys_of_several_streams_carry_the_streams_name() -> None:
    assert sensor_keys([stream(0, "Bed 1", "t", "h"), stream(1, "Bed 2", "T")]) == {
        0: ["bed_1_t", "h"],
        1: ["bed_2_t"],
    }


def test_keys_the_gateway_uses_itself_carry_the_streams_name() -> None:
    assert sensor_keys([stream(0, "clock", "time", "id", "time_quality")]) == {
        0: ["clock_time", "clock_id", "clock_time_quality"]
    }


def test_a_composed_key_is_none_the_gateway_uses_itself() -> None:
    assert sensor_keys([stream(0, "time", "quality"), stream(1, "b", "quality")]) == {
        0: ["time_quality_2"],
        1: ["b_quality"],
    }


def test_keys_that_are_still_alike_are_numbered() -> None:
    assert sensor_keys([stream(0, "a", "x", "x"), stream(1, "a", "x"), stream(2, "b", "a_x")]) == {
        0: ["a_x", "a_x_2"],
        1: ["a_x_3"],
        2: ["a_x_4"],
    }


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "x" * 64, "#"]),
            st.lists(st.sampled_from(["t", "T", "time", "x" * 64, "a_t", "+", "/"]), min_size=1),
        ),
        max_size=6,
    )
)
def test_keys_are_unique_slugs_whatever_a_board_calls_them(said: list[Any]) -> None:
    streams = [stream(number, name, *keys) for number, (name, keys) in enumerate(said)]

    keys = [key for keys in sensor_keys(streams).values() for key in keys]

    assert len(set(keys)) == len(keys) == sum(len(keys) for _, keys in said)
    assert not {"time", "id", "time_quality"} & set(keys)
    assert all(0 < len(key) <= MAX_SLUG for key in keys)


# ---- time


def test_the_least_delay_counts() -> None:
    clock = BoardClock()

    clock.note(1_000, 101.5)  # took half a second
    clock.note(2_000, 102.0)  # took none
    clock.note(3_000, 103.9)

    assert clock.sent_s() == pytest.approx(103.0, abs=DRIFT * 2)


def test_a_slow_crystal_is_followed_and_a_fast_one_at_once() -> None:
    slow, fast = BoardClock(), BoardClock()

    for minute in range(600):
        true_s = 60.0 * minute
        slow.note(int(true_s * 1000 * (1 - 50e-6)), true_s)
        fast.note(int(true_s * 1000 * (1 + 50e-6)), true_s)

    assert slow.sent_s() == pytest.approx(60.0 * 599, abs=0.002)
    assert fast.sent_s() == pytest.approx(60.0 * 599, abs=0.002)


def test_the_counter_may_wrap_again_and_again() -> None:
    clock = BoardClock()

    for day in range(200):
        clock.note(day * 86_400_000 % 2**32, 86_400.0 * day)

    assert clock.sent_s() == pytest.approx(86_400.0 * 199, abs=0.001)


def test_a_batch_that_was_delayed_does_not_move_the_clock() -> None:
    clock = BoardClock()
    clock.note(10_000, 110.0)

    clock.note(9_000, 110.1)  # an older frame, repeated on its way

    assert clock.sent_s() == pytest.approx(109.0, abs=DRIFT)
    clock.note(11_000, 111.0)
    assert clock.sent_s() == pytest.approx(111.0, abs=2 * DRIFT)


@pytest.mark.parametrize("jump_ms", [120_000, 2**31 - 10_000])
def test_a_clock_that_jumped_forward_and_back_is_believed_again(jump_ms: int) -> None:
    clock = BoardClock()
    clock.note(1_000, 101.0)
    clock.note(2_000 + jump_ms, 102.0)

    for second in range(3, 3 + int(LATE_S) + 1):
        clock.note(second * 1_000, 100.0 + second)

    assert clock.sent_s() == pytest.approx(103.0 + LATE_S, abs=0.01)


def test_a_clock_that_goes_back_for_good_is_believed_again() -> None:
    clock = BoardClock()
    clock.note(3_600_000, 100.0)

    for second in range(int(LATE_S) + 1):
        clock.note(second * 1_000, 101.0 + second)

    assert clock.sent_s() == pytest.approx(101.0 + LATE_S, abs=0.01)


@pytest.mark.parametrize("stall_s", [5, 30, 59, 300])
def test_what_waited_while_the_gateway_was_stopped_does_not_move_the_clock(stall_s: int) -> None:
    clock = BoardClock()
    clock.note(0, 100.0)

    for second in range(1, stall_s + 1):
        clock.note(second * 1_000, 100.0 + stall_s + second / 1_000)

        assert clock.sent_s() == pytest.approx(100.0 + second, abs=0.05)


def test_a_queue_of_half_a_minute_does_not_move_the_clock() -> None:
    clock = BoardClock()
    clock.note(0, 100.0)

    for second in range(1, 121):
        clock.note(second * 1_000, 130.0 + second)

    assert clock.sent_s() == pytest.approx(220.0, abs=0.05)


@pytest.mark.parametrize(
    ("record_ms", "now_ms", "age_s"),
    [
        (4_000, 5_000, 1.0),
        (2**32 - 500, 500, 1.0),  # the counter wrapped in between
        (5_000, 5_000, 0.0),
        (5_001, 5_000, 0.0),  # stamped after the batch was begun: now
        (50_000, 5_000, 0.0),
        (5_000, 2**31 + 5_000, 2**31 / 1000),
    ],
)
def test_a_records_age_is_its_distance_to_the_batch(
    rig: Rig, record_ms: int, now_ms: int, age_s: float
) -> None:
    (sample,) = samples(rig.say(read_of(0, now_ms, climate(record_ms)), now_s=200.0))

    assert sample.taken_s == pytest.approx(200.0 - age_s)


def test_a_ping_makes_the_time_better(rig: Rig) -> None:
    rig.say(read_of(0, 5_000, climate(5_000)), now_s=200.8)  # waited for the wire

    rig.say(Ping(6_000), now_s=201.0)

    (sample,) = samples(rig.say(read_of(1, 7_000, climate(7_000)), now_s=202.9))
    assert sample.taken_s == pytest.approx(202.0, abs=0.001)


def test_another_boot_has_another_clock(rig: Rig) -> None:
    rig.say(read_of(0, 5_000, climate(5_000)), now_s=200.0)
    rebooted = Hello(1, "Greenhouse 7", 43, 0, 0, streams=2, actuators=1, nonce=6)
    rig.say(rebooted, CLIMATE, SOIL, PUMP, now_s=210.0)

    batch = Read(0, 43, 0, 1_000, 0, 1, climate(1_000))

    (sample,) = samples(rig.say(batch, now_s=211.0))
    assert sample.taken_s == 211.0
    assert sample.boot == 43


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1e6)), min_size=1))
def test_no_time_is_in_the_future(notes: list[tuple[int, float]]) -> None:
    clock = BoardClock()

    for mono_ms, now_s in sorted(notes, key=lambda note: note[1]):
        clock.note(mono_ms, now_s)
        assert clock.sent_s() <= now_s + 1e-6

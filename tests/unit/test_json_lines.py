import json
import math
import string
import sys
import zlib
from collections import deque
from collections.abc import Iterable

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from gateway.drivers.json_lines import MAX_DEVICES, JsonLines
from gateway.drivers.resends import REPEATABLE, WINDOW
from gateway.drivers.text_device import MAX_SENSORS, MAX_TEXT
from gateway.model import Event, Fault, Readings, Sample, Seen, Sensor, Value
from tests.support.effort import examples

RUN = 1000


class Bench:
    """A parser past its first line, with what it said of each line."""

    def __init__(self, name: str | None = "bench", known: Iterable[Sensor] = ()) -> None:
        self.lines = JsonLines("usb-port", name, RUN, known)
        self.lines.parse(b"{torn", 0.0, [])

    def say(self, line: bytes | str, now_s: float = 1.0) -> list[Event]:
        out: list[Event] = []
        self.lines.parse(line.encode() if isinstance(line, str) else line, now_s, out)
        return out

    def samples(self, line: bytes | str) -> list[Sample]:
        return samples_of(self.say(line))

    def values(self, line: bytes | str) -> dict[str, object]:
        (sample,) = self.samples(line)
        return dict(sample.values)

    def faults(self, line: bytes | str) -> list[str]:
        return [event.kind for event in self.say(line) if isinstance(event, Fault)]


def samples_of(events: Iterable[Event]) -> list[Sample]:
    records = [r for event in events if isinstance(event, Readings) for r in event.records]
    return [record for record in records if isinstance(record, Sample)]


def make_safe(events: Iterable[Event]) -> None:
    for event in events:
        if isinstance(event, Readings) and event.on_safe is not None:
            event.on_safe()


# Plain objects (T0)


def test_values_are_taken_as_they_are_and_stamped_with_the_time_of_reading() -> None:
    bench = Bench()

    events = bench.say('{"temperature":21.53,"count":7,"open":true,"mode":"auto"}', now_s=12.5)

    seen, readings = events
    assert isinstance(seen, Seen)
    assert isinstance(readings, Readings)
    assert readings.on_safe is None
    values: dict[str, Value] = {"temperature": 21.53, "count": 7, "open": True, "mode": "auto"}
    assert list(readings.records) == [Sample("bench", RUN, 0, 12.5, values)]


def test_the_gateway_numbers_the_samples_of_a_source_that_does_not() -> None:
    bench = Bench()

    samples = [bench.samples(f'{{"n":{i}}}')[0] for i in range(3)]

    assert [(s.boot, s.seq, s.values["n"]) for s in samples] == [
        (RUN, 0, 0),
        (RUN, 1, 1),
        (RUN, 2, 2),
    ]


def test_a_device_is_described_before_its_first_readings_and_when_its_sensors_grow() -> None:
    bench = Bench(known=[Sensor("t", "°C", "temperature")])

    first = bench.say('{"t":1}')
    again = bench.say('{"t":2}')
    grown = bench.say('{"h":40,"t":3}')

    assert [type(event) for event in first] == [Seen, Readings]
    assert [type(event) for event in again] == [Readings]
    assert [type(event) for event in grown] == [Seen, Readings]
    assert isinstance(grown[0], Seen)
    assert grown[0].description.sensors == (Sensor("t", "°C", "temperature"), Sensor("h"))
    assert grown[0].description.device == "bench"
    assert grown[0].description.address == "usb-port"
    assert grown[0].description.boot == RUN


@pytest.mark.parametrize(
    ("name", "line", "device"),
    [
        ("Green House", '{"t":1}', "green_house"),
        (None, '{"t":1}', "usb-port"),
        ("", '{"t":1}', "usb-port"),
        ("bench", '{"id":"Kitchen/1","t":1}', "kitchen_1"),
        ("bench", '{"id":17,"t":1}', "17"),
        ("bench", '{"id":"Health","t":1}', "health_device"),
        ("status", '{"t":1}', "status_device"),
    ],
)
def test_a_device_is_named_by_its_id_else_by_configuration_else_by_the_port(
    name: str | None, line: str, device: str
) -> None:
    (sample,) = Bench(name).samples(line)

    assert sample.device == device
    assert sample.values == {"t": 1}


def test_one_level_of_nesting_is_flattened() -> None:
    bench = Bench()

    assert bench.values('{"bme":{"t":1,"h":2},"x":3}') == {"bme_t": 1, "bme_h": 2, "x": 3}
    assert bench.say('{"bme":{}}') == []


def test_null_is_no_value_and_no_fault() -> None:
    bench = Bench()

    events = bench.say('{"t":null,"h":40}')

    assert [sample.values for sample in samples_of(events)] == [{"h": 40}]
    assert not any(isinstance(event, Fault) for event in events)
    assert bench.say('{"t":null}') == []
    assert bench.say("{}") == []


def test_keys_become_slugs_that_no_topic_or_template_can_trip_over() -> None:
    assert Bench().values('{"Air Temp (°C)":1,"a/b#+":2}') == {"air_temp_c": 1, "a_b": 2}


def test_a_torn_first_line_is_no_fault_but_a_later_one_is() -> None:
    lines = JsonLines("usb-port", None, RUN)
    first: list[Event] = []
    later: list[Event] = []

    lines.parse(b'{"t":1},"h":40}', 1.0, first)
    lines.parse(b'{"t":1},"h":40}', 1.0, later)

    assert first == []
    assert [type(event) for event in later] == [Fault]


def test_a_whole_first_line_is_taken() -> None:
    out: list[Event] = []

    JsonLines("usb-port", None, RUN).parse(b'{"t":1}', 1.0, out)

    assert samples_of(out) != []


# Hostile and broken input


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{}}",
        b'{"t":}',
        b'{"t":nan}',
        b'{"t":1}{"t":2}',
        b'{"t":1} noise',
        b'{"t":"\xff\xfe"}',
        b"{'t':1}",
        b'{"t":1,}',
        b'{"t":' + b"9" * 5000 + b"}",
        b'{"t":' + b"[" * 4000 + b"]" * 4000 + b"}",
        b'{"t":' * 1500 + b"1" + b"}" * 1500,
        b'{"t":0x10}',
        b'{"t":"\x01"}',
        b'[{"t":1}]',
    ],
    ids=lambda line: repr(line[:20]),
)
def test_what_is_no_json_object_is_refused(line: bytes) -> None:
    assert Bench().faults(line) == ["bad_json"]
    assert Bench().samples(line) == []


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('{"t":1,"t":2}', "duplicate_key"),
        ('{"t":1,"T":2}', "duplicate_key"),
        ('{"a b":1,"a_b":2}', "duplicate_key"),
        ('{"a":{"b":1},"a_b":2}', "duplicate_key"),
        ('{"seq":1,"seq":2,"t":1}', "duplicate_key"),
        ('{"id":"a","id":"b","t":1}', "duplicate_key"),
        ('{"seq":-1,"t":1}', "bad_seq"),
        ('{"seq":1.0,"t":1}', "bad_seq"),
        ('{"seq":true,"t":1}', "bad_seq"),
        ('{"seq":"1","t":1}', "bad_seq"),
        ('{"seq":9007199254740992,"t":1}', "bad_seq"),
        ('{"seq":1,"ep":-1,"t":1}', "bad_epoch"),
        ('{"seq":1,"ep":4294967296,"t":1}', "bad_epoch"),
        ('{"seq":1,"ep":"1","t":1}', "bad_epoch"),
        ('{"id":"","t":1}', "bad_id"),
        ('{"id":null,"t":1}', "bad_id"),
        ('{"id":["a"],"t":1}', "bad_id"),
        ('{"id":true,"t":1}', "bad_id"),
        ('{"id":"\\ud800","t":1}', "bad_id"),
    ],
)
def test_a_line_that_could_be_misread_is_refused_as_a_whole(line: str, kind: str) -> None:
    bench = Bench()

    assert bench.faults(line) == [kind]
    assert bench.samples(line) == []
    assert bench.lines.data_to_send() == b""


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        ('"x":NaN', "not_finite"),
        ('"x":Infinity', "not_finite"),
        ('"x":1e999', "not_finite"),
        ('"x":9223372036854775808', "out_of_range"),
        ('"x":-9223372036854775809', "out_of_range"),
        ('"x":[1,2]', "list_value"),
        ('"x":{"y":{"z":1}}', "nested_too_deep"),
        (f'"x":"{"a" * (MAX_TEXT + 1)}"', "bad_text"),
        ('"x":"\\ud83d"', "bad_text"),
        ('"time":5', "reserved_key"),
        ('"Time":5', "reserved_key"),
        ('"time_quality":"good"', "reserved_key"),
        ('"time":{"quality":1}', "reserved_key"),
    ],
)
def test_a_value_that_cannot_be_published_is_skipped_and_the_others_are_taken(
    member: str, kind: str
) -> None:
    events = Bench().say(f'{{"t":1,{member},"h":2}}')

    assert [event.kind for event in events if isinstance(event, Fault)] == [kind]
    assert [sample.values for sample in samples_of(events)] == [{"t": 1, "h": 2}]


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_integers_up_to_64_bits_are_exact(value: int) -> None:
    assert Bench().values(f'{{"t":{value}}}') == {"t": value}


def test_a_line_with_too_many_keys_is_refused() -> None:
    fits = json.dumps({f"k{i}": i for i in range(MAX_SENSORS)})
    too_many = json.dumps({f"k{i}": i for i in range(MAX_SENSORS + 1)})

    assert len(Bench().values(fits)) == MAX_SENSORS
    assert Bench().faults(too_many) == ["too_many_keys"]


def test_a_device_that_invents_keys_keeps_its_first_ones_and_grows_no_further() -> None:
    bench = Bench()
    for i in range(MAX_SENSORS):
        bench.say(f'{{"k{i}":{i}}}')

    events = bench.say('{"k0":5,"new":1}')

    assert [event.kind for event in events if isinstance(event, Fault)] == ["too_many_sensors"]
    assert [sample.values for sample in samples_of(events)] == [{"k0": 5}]
    assert not any(isinstance(event, Seen) for event in events)


def test_a_port_that_invents_devices_keeps_its_first_ones() -> None:
    bench = Bench()
    for i in range(MAX_DEVICES):
        bench.say(f'{{"id":"d{i}","t":1}}')

    assert bench.faults('{"id":"one more","t":1}') == ["too_many_devices"]
    assert bench.samples('{"id":"d0","t":1}')[0].device == "d0"
    assert len(bench.lines.devices) == MAX_DEVICES


def test_two_ids_that_would_share_a_topic_are_not_mixed_up() -> None:
    bench = Bench()
    bench.say('{"id":"a b","t":1}')

    assert bench.faults('{"id":"a/b","t":2}') == ["same_id"]
    assert bench.values('{"id":"a b","t":3}') == {"t": 3}


def test_memory_stays_bounded_whatever_keys_and_ids_a_board_invents() -> None:
    bench = Bench()

    sizes = []
    for i in range(9000):
        bench.say(f'{{"id":"d{i % 70}","seq":{i},"k{i}":{i},"{"x" * (i % 50)}y{i % 7}":1}}')
        if i in (5999, 8999):
            sizes.append(deep_size(bench.lines))

    assert sizes[1] <= sizes[0] * 1.05
    assert sizes[1] < 3_000_000


def deep_size(root: object) -> int:
    """Bytes held by `root` and all it refers to within our own modules and the built-in types."""
    seen: set[int] = set()
    stack = [root]
    total = 0
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, type) or callable(item):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset, deque)):
            stack += list(item)
        for cls in type(item).__mro__:
            stack += [getattr(item, name, None) for name in getattr(cls, "__slots__", ())]
        stack.append(getattr(item, "__dict__", None))
    return total


# Numbered lines, acknowledged (T1)


def test_a_numbered_line_is_acknowledged_once_it_is_safe() -> None:
    bench = Bench()
    signals: list[bool] = []
    bench.lines.on_output = lambda: signals.append(True)

    events = bench.say('{"seq":7,"t":21.5}')
    before = bench.lines.data_to_send()
    make_safe(events)

    assert samples_of(events) == [Sample("bench", RUN, 7, 1.0, {"t": 21.5})]
    assert before == b""
    assert signals == [True]
    assert bench.lines.data_to_send() == b'{"ack":7}\n'
    assert bench.lines.data_to_send() == b""


def test_a_resent_line_is_no_second_sample_and_is_acknowledged_again_if_safe() -> None:
    bench = Bench()
    events = bench.say('{"seq":7,"t":21.5}')

    unsafe_resend = bench.say('{"seq":7,"t":21.5}')
    nothing = bench.lines.data_to_send()
    make_safe(events)
    first_ack = bench.lines.data_to_send()
    safe_resend = bench.say('{"seq":7,"t":21.5}')

    assert unsafe_resend == safe_resend == []
    assert nothing == b""
    assert first_ack == bench.lines.data_to_send() == b'{"ack":7}\n'


def test_without_epoch_a_number_that_comes_again_with_other_values_means_a_restart() -> None:
    bench = Bench()
    old = bench.say('{"seq":1,"t":1}') + bench.say('{"seq":2,"t":2}')

    new = bench.say('{"seq":1,"t":9}') + bench.say('{"seq":2,"t":2}')

    assert [(s.boot, s.seq) for s in samples_of(old)] == [(RUN, 1), (RUN, 2)]
    assert [(s.boot, s.seq) for s in samples_of(new)] == [(RUN + 1, 1), (RUN + 1, 2)]


def test_a_line_of_the_boot_before_becoming_safe_does_not_acknowledge_its_namesake() -> None:
    bench = Bench()
    old = bench.say('{"seq":1,"t":1}')
    new = bench.say('{"seq":1,"t":2}')

    make_safe(old)
    after_old = bench.lines.data_to_send()
    make_safe(new)

    assert after_old == b""
    assert bench.lines.data_to_send() == b'{"ack":1}\n'


def test_a_line_lost_on_its_first_way_is_taken_late_and_means_no_restart() -> None:
    bench = Bench()
    bench.say('{"seq":4,"t":4}')
    bench.say('{"seq":6,"t":6}')

    (late,) = bench.samples('{"seq":5,"t":5}')
    (after,) = bench.samples('{"seq":7,"t":7}')

    assert (late.boot, late.seq) == (RUN, 5)
    assert (after.boot, after.seq) == (RUN, 7)


def test_a_number_from_before_the_window_means_a_restart() -> None:
    bench = Bench()
    for seq in range(100, 100 + WINDOW + 10):
        bench.say(f'{{"seq":{seq},"t":{seq}}}')

    (sample,) = bench.samples('{"seq":100,"t":100}')

    assert (sample.boot, sample.seq) == (RUN + 1, 100)


def test_without_epoch_a_safe_line_that_comes_again_late_means_a_restart() -> None:
    bench = Bench()
    for seq in range(20):
        make_safe(bench.say(f'{{"seq":{seq},"t":21}}'))
    bench.lines.data_to_send()

    restarted = [bench.say(f'{{"seq":{seq},"t":21}}') for seq in range(20)]

    assert [(s.boot, s.seq) for events in restarted for s in samples_of(events)] == [
        (RUN + 1, seq) for seq in range(20)
    ]
    assert bench.lines.data_to_send() == b""
    make_safe(restarted[0])
    assert bench.lines.data_to_send() == b'{"ack":0}\n'


def test_without_epoch_only_the_newest_safe_lines_may_be_repeated() -> None:
    for back, boots in (REPEATABLE - 1, []), (REPEATABLE, [RUN + 1]):
        bench = Bench()
        for seq in range(10):
            make_safe(bench.say(f'{{"seq":{seq},"t":21}}'))

        assert [s.boot for s in bench.samples(f'{{"seq":{9 - back},"t":21}}')] == boots, back


def test_without_epoch_a_restart_within_three_equal_lines_is_taken_for_a_repeat() -> None:
    bench = Bench()
    for seq in range(REPEATABLE):
        make_safe(bench.say(f'{{"seq":{seq},"t":21}}'))
    bench.lines.data_to_send()

    restarted = [bench.samples(f'{{"seq":{seq},"t":21}}') for seq in range(REPEATABLE)]
    (after,) = bench.samples(f'{{"seq":{REPEATABLE},"t":21}}')

    assert restarted == [[], [], []]
    assert bench.lines.data_to_send() == b'{"ack":0}\n{"ack":1}\n{"ack":2}\n'
    assert after.boot == RUN, "nor is it noticed later"


@pytest.mark.parametrize("count", [1, 2, 3, 10])
@pytest.mark.parametrize("first", ['"ep":{start},"seq":0', '"seq":0,"start":{start}'])
def test_a_first_line_that_differs_at_each_start_tells_every_restart(
    first: str, count: int
) -> None:
    bench = Bench()
    epoch = first.partition('"seq"')[0]
    taken: list[Sample] = []

    for start in (5, 6, 7):
        heads = [first, *[f'{epoch}"seq":{seq}' for seq in range(1, count)]]
        for head in heads:
            events = bench.say("{" + head.replace("{start}", str(start)) + ',"t":21}')
            make_safe(events)
            taken += samples_of(events)

    assert [sample.seq for sample in taken] == [*range(count)] * 3
    assert len({(sample.boot, sample.seq) for sample in taken}) == 3 * count


def test_without_epoch_a_line_that_is_not_safe_may_be_repeated_however_old() -> None:
    bench = Bench()
    for seq in range(20):
        bench.say(f'{{"seq":{seq},"t":21}}')

    assert bench.say('{"seq":0,"t":21}') == []


def test_with_an_epoch_the_number_alone_tells_a_resend() -> None:
    bench = Bench()
    bench.say('{"ep":3,"seq":1,"t":1,"age":0}')

    assert bench.samples('{"ep":3,"seq":1,"t":1,"age":250}') == []
    assert [(s.boot, s.seq) for s in bench.samples('{"ep":4,"seq":1,"t":1}')] == [(4, 1)]


def test_ep_without_seq_is_a_value_like_any_other() -> None:
    assert Bench().values('{"ep":3,"t":1}') == {"ep": 3, "t": 1}


def test_plain_and_numbered_lines_of_one_device_never_share_an_id() -> None:
    for order in ('{"t":1}', '{"seq":0,"t":1}'), ('{"seq":0,"t":1}', '{"t":1}'):
        bench = Bench()
        samples = [bench.samples(line)[0] for line in order]

        assert len({(s.boot, s.seq) for s in samples}) == 2, order
        assert samples[0].boot == RUN


def test_a_numbered_line_without_a_value_is_acknowledged_at_once() -> None:
    bench = Bench()

    assert bench.say('{"seq":3,"t":null}') == []
    assert bench.lines.data_to_send() == b'{"ack":3}\n'


def test_devices_on_one_line_are_numbered_apart() -> None:
    bench = Bench()

    samples = [
        bench.samples('{"id":"a","seq":1,"t":1}')[0],
        bench.samples('{"id":"b","seq":1,"t":2}')[0],
        bench.samples('{"id":"a","seq":2,"t":3}')[0],
    ]

    assert [(s.device, s.boot, s.seq) for s in samples] == [
        ("a", RUN, 1),
        ("b", RUN, 1),
        ("a", RUN, 2),
    ]


def test_acknowledgements_waiting_to_be_sent_are_bounded() -> None:
    bench = Bench()
    for seq in range(5000):
        make_safe(bench.say(f'{{"seq":{seq},"t":1}}'))

    acks = bench.lines.data_to_send()

    assert acks.count(b"\n") == 1024
    assert acks.endswith(b'{"ack":4999}\n')


# CRC

CHECKED = b'{"seq":1,"t":21.5}\t9c0b9a71'
"""CRC-32 (zlib) of the object, as `gzip -c | tail -c8` gives it."""


def test_the_example_checksum_is_what_zlib_says() -> None:
    body, _, tail = CHECKED.partition(b"\t")

    assert zlib.crc32(body) == int(tail, 16)


@pytest.mark.parametrize(
    "line", [CHECKED, CHECKED.replace(b"9c0b9a71", b"9C0B9A71"), CHECKED + b"\r", CHECKED + b" "]
)
def test_a_checked_line_is_taken(line: bytes) -> None:
    (sample,) = Bench().samples(line)

    assert sample.seq == 1
    assert sample.values == {"t": 21.5}


def test_no_flipped_bit_of_a_checked_line_gives_a_sample() -> None:
    taken = []
    for place in range(len(CHECKED)):
        for bit in range(8):
            broken = bytearray(CHECKED)
            broken[place] ^= 1 << bit
            samples = Bench().samples(bytes(broken))
            if samples:
                taken.append((place, bit, samples))

    case_of_hex_digits = {(place, 5) for place in range(len(CHECKED) - 8, len(CHECKED))}
    assert {(place, bit) for place, bit, _ in taken} <= case_of_hex_digits
    assert all(sample.values == {"t": 21.5} for *_, (sample,) in taken)


def test_a_wrong_checksum_is_named_and_not_acknowledged() -> None:
    bench = Bench()

    assert bench.faults(CHECKED.replace(b"21.5", b"31.5")) == ["bad_crc"]
    assert bench.lines.data_to_send() == b""


# Properties

KEYS = st.text(string.ascii_lowercase, min_size=1, max_size=8).filter(
    lambda key: key not in {"seq", "ep", "id", "time"}
)
GOOD_VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=MAX_TEXT),
)
ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=6), inner, max_size=4),
    ),
    max_leaves=6,
)
ANY_KEY = st.one_of(st.sampled_from(["seq", "ep", "id", "time", "t"]), st.text(max_size=6))


@seed(2)
@settings(max_examples=examples(300), deadline=None)
@given(st.dictionaries(KEYS, GOOD_VALUES, min_size=1, max_size=20))
def test_the_values_of_a_good_line_are_exactly_those_of_json(
    values: dict[str, float | str | bool],
) -> None:
    line = json.dumps(values)

    taken = Bench().values(line)

    expected = json.loads(line)
    assert taken == expected
    assert [type(value) for value in taken.values()] == [type(v) for v in expected.values()]


@seed(2)
@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.binary(max_size=80).map(lambda tail: b"{" + tail), max_size=6))
def test_no_bytes_raise(lines: list[bytes]) -> None:
    bench = Bench()

    for line in lines:
        bench.say(line)
    bench.lines.data_to_send()


@seed(2)
@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.dictionaries(ANY_KEY, ANY_JSON, max_size=4), max_size=5))
def test_any_json_gives_only_values_that_can_be_published(lines: list[dict[str, object]]) -> None:
    bench = Bench()

    for line in lines:
        events = bench.say(json.dumps(line))
        make_safe(events)
        for sample in samples_of(events):
            payload = json.dumps(dict(sample.values), allow_nan=False, ensure_ascii=False)
            assert payload.encode()
            assert sample.values.keys().isdisjoint({"time", "id", "time_quality"})
            for key, value in sample.values.items():
                assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
                assert not isinstance(value, float) or math.isfinite(value)


def test_lines_read_at_once_travel_together_and_apart_where_something_came_between() -> None:
    lines = JsonLines("bench", None, RUN)
    out: list[Event] = []

    for line in (b'{"t":1}', b'{"t":2}', b"{broken", b'{"t":3}', b'{"t":4}'):
        lines.parse(line, 1.0, out)

    grouped = [[r.seq for r in e.records] for e in out if isinstance(e, Readings)]  # type: ignore[union-attr]
    assert grouped == [[0, 1], [2, 3]]
    assert [type(event) for event in out] == [Seen, Readings, Fault, Readings]

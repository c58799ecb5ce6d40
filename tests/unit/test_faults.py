from itertools import islice

import pytest

from gateway.errors import ConfigError
from gateway.simulate.faults import (
    BrokerAction,
    BrokerRates,
    FaultPlan,
    LineFaults,
    LineRates,
    LinkAction,
    LinkRates,
    WireFaults,
    broker_events,
    link_events,
    parse,
)

LINES = [b"line %d\n" % n for n in range(1000)]


def wire(text: str) -> WireFaults:
    return LineFaults(parse(text)).from_board


def through(faults: WireFaults, lines: list[bytes] = LINES) -> list[bytes]:
    return [faults.feed(line, 0.0) for line in lines]


def test_a_plan_is_read_from_text() -> None:
    plan = parse(" drop=0.1, corrupt = 0.05,unplug_every_s=30,unplug_s=2,seed=7")

    assert plan == FaultPlan(
        seed=7,
        lines=LineRates(drop=0.1, corrupt=0.05),
        link=LinkRates(unplug_every_s=30, unplug_s=2),
    )


def test_a_plan_has_a_part_for_the_broker() -> None:
    plan = parse("broker_cut_every_s=20,puback_drop=0.1")

    assert plan == FaultPlan(broker=BrokerRates(broker_cut_every_s=20, puback_drop=0.1))


def test_an_empty_text_is_no_faults() -> None:
    assert parse("") == FaultPlan()
    assert through(wire("")) == LINES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dorp=0.1", "unknown fault 'dorp': did you mean 'drop'?"),
        ("zzz=1", "unknown fault 'zzz': known are seed, drop, corrupt"),
        ("drop", "fault 'drop' needs a number, as in drop=0.1, not ''"),
        ("drop=often", "fault 'drop' needs a number, as in drop=0.1, not 'often'"),
        ("drop=20", "fault 'drop' is a share, from 0 to 1, not 20"),
        ("drop=nan", "fault 'drop' is a share, from 0 to 1, not nan"),
        ("drop=-0.1", "fault 'drop' is a share, from 0 to 1, not -0.1"),
        ("drop=0.1,drop=0.2", "fault 'drop' is given twice"),
        ("seed=1.5", "the seed of faults is a whole number, not 1.5"),
        ("seed=inf", "the seed of faults is a whole number, not inf"),
        ("delay_s=-1", "fault 'delay_s' is a number of seconds, 0 or more, not -1"),
        ("broker_cut_bytes=-1", "fault 'broker_cut_bytes' is a number of bytes, 0 or more, not -1"),
        ("unplug_every_s=inf", "fault 'unplug_every_s' is a number of seconds, 0 or more"),
    ],
)
def test_a_wrong_plan_is_refused_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)

    assert str(refused.value).startswith(message)


def test_the_same_seed_damages_the_same_lines_and_another_one_others() -> None:
    text = "drop=0.1,corrupt=0.1,duplicate=0.1,truncate=0.1,garbage=0.1,seed="

    assert through(wire(text + "7")) == through(wire(text + "7"))
    assert through(wire(text + "7")) != through(wire(text + "8"))


def test_directions_and_wires_are_damaged_independently() -> None:
    plan = parse("drop=0.5")

    outcomes = [
        through(faults)
        for name in ("a", "b")
        for faults in (LineFaults(plan, name).from_board, LineFaults(plan, name).to_board)
    ]

    assert all(outcomes.count(outcome) == 1 for outcome in outcomes)


def test_lines_are_dropped_at_the_given_rate() -> None:
    faults = wire("drop=0.2")

    arrived = through(faults)

    # 1,000 draws at 0.2: a standard deviation is 12.6 lines, so this is five of them
    assert 137 <= arrived.count(b"") <= 263
    assert arrived.count(b"") == faults.counts.dropped
    assert faults.counts.lines == len(LINES)
    assert all(out in {b"", line} for out, line in zip(arrived, LINES, strict=True))


def test_a_corrupted_line_differs_in_one_bit() -> None:
    faults = wire("corrupt=1")

    for out, line in zip(through(faults), LINES, strict=True):
        flipped = int.from_bytes(out) ^ int.from_bytes(line)
        assert len(out) == len(line)
        assert flipped.bit_count() == 1
    assert faults.counts.corrupted == len(LINES)


def test_a_duplicated_line_comes_twice() -> None:
    faults = wire("duplicate=1")

    assert through(faults) == [line + line for line in LINES]
    assert faults.counts.duplicated == len(LINES)


def test_a_truncated_line_loses_its_end_and_its_newline() -> None:
    faults = wire("truncate=1")

    for out, line in zip(through(faults), LINES, strict=True):
        assert line.startswith(out)
        assert not out.endswith(b"\n")
    assert faults.counts.truncated == len(LINES)


def test_garbage_comes_in_front_of_a_line() -> None:
    faults = wire("garbage=1")

    for out, line in zip(through(faults), LINES, strict=True):
        assert out.endswith(line)
        assert len(line) < len(out) <= len(line) + 40
    assert faults.counts.garbage == len(LINES)


def test_a_delayed_line_holds_up_what_follows_and_keeps_the_order() -> None:
    faults = wire("delay=0.3,delay_s=0.5")
    arrived = bytearray()
    now_s = 0.0

    for line in LINES:
        now_s += 0.01
        arrived += faults.feed(line, now_s)
    late = len(LINES) - arrived.count(b"\n")
    deadline_s = faults.deadline_s
    assert deadline_s is not None
    assert faults.take(deadline_s - 0.001) == b""
    arrived += faults.take(deadline_s)
    while faults.deadline_s is not None:
        arrived += faults.take(faults.deadline_s)

    assert late > 0
    assert 200 <= faults.counts.delayed <= 400
    assert bytes(arrived) == b"".join(LINES)


def test_no_line_is_delayed_beyond_the_limit() -> None:
    faults = wire("delay=1,delay_s=0.5")

    for number, line in enumerate(LINES):
        faults.feed(line, number * 0.01)
        deadline_s = faults.deadline_s
        assert deadline_s is None or deadline_s <= number * 0.01 + 0.5


def test_delays_hold_a_bounded_number_of_bytes() -> None:
    faults = wire("delay=1,delay_s=1000")

    for _ in range(100):
        faults.feed(b"x" * 999 + b"\n", 0.0)

    assert faults.counts.overflowed == 100 - 65
    assert len(faults.take(1000.0)) == 65_000


def test_pieces_of_a_line_are_held_until_it_is_complete() -> None:
    faults = wire("duplicate=1")

    assert faults.feed(b"on", 0.0) == b""
    assert faults.feed(b"e", 0.0) == b""
    assert faults.feed(b"\ntw", 0.0) == b"one\none\n"
    assert faults.feed(b"o\n", 0.0) == b"two\ntwo\n"


def test_without_faults_a_piece_of_a_line_passes_at_once() -> None:
    assert wire("").feed(b"prompt> ", 0.0) == b"prompt> "


def test_bytes_without_a_newline_do_not_pile_up() -> None:
    faults = wire("drop=0.000001")

    arrived = b"".join(faults.feed(b"x" * 1000, 0.0) for _ in range(100))

    assert len(arrived) > 100_000 - 9000


def test_the_wire_fails_and_recovers_in_turn() -> None:
    plan = parse("unplug_every_s=10,unplug_s=2")

    events = list(islice(link_events(plan), 20))

    assert [event.action for event in events] == [LinkAction.UNPLUG, LinkAction.PLUG] * 10
    gone_s = [b.at_s - a.at_s for a, b in zip(events[::2], events[1::2], strict=True)]
    there_s = [b.at_s - a.at_s for a, b in zip(events[1::2], events[2::2], strict=False)]
    assert gone_s == pytest.approx([2.0] * 10)
    assert all(5 <= pause_s <= 15 for pause_s in there_s)
    assert len(set(there_s)) == len(there_s)


def test_failures_of_all_kinds_come_in_the_order_of_time() -> None:
    plan = parse("unplug_every_s=7,stall_every_s=5,restart_every_s=3,kill_every_s=4")

    events = list(islice(link_events(plan, "a"), 300))

    assert [e.at_s for e in events] == sorted(e.at_s for e in events)
    assert {event.action for event in events} == set(LinkAction)
    assert events == list(islice(link_events(plan, "a"), 300))
    assert events != list(islice(link_events(plan, "b"), 300))


def test_a_wire_without_link_faults_never_fails() -> None:
    assert list(link_events(parse("drop=0.5"))) == []


def test_the_broker_is_cut_off_and_stalled_in_the_order_of_time() -> None:
    plan = parse("broker_cut_every_s=7,broker_cut_s=2,broker_stall_every_s=5")

    events = list(islice(broker_events(plan), 200))
    cuts = [e for e in events if e.action in {BrokerAction.CUT, BrokerAction.ACCEPT}]

    assert [e.at_s for e in events] == sorted(e.at_s for e in events)
    assert {event.action for event in events} == set(BrokerAction)
    assert [b.at_s - a.at_s for a, b in zip(cuts[::2], cuts[1::2], strict=False)] == pytest.approx(
        [2.0] * (len(cuts) // 2)
    )
    assert events == list(islice(broker_events(plan), 200))


def test_a_broker_without_faults_never_fails() -> None:
    assert list(broker_events(parse("drop=0.5,puback_drop=0.5"))) == []

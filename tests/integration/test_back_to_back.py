"""Both state machines, back to back: each record arrives once and in order, or in a gap."""

from functools import partial

import pytest

from gateway.model import Fault, Gap, Gone, Readings, Sample, Seen
from gateway.protocol.session_events import Outcome
from tests.support.back_to_back import Faults, World, check_all_delivered, check_in_order

WIRES = {
    "clean": (Faults(), Faults()),
    "single bytes": (Faults(chunk=1), Faults(chunk=1)),
    "seven bytes": (Faults(chunk=7), Faults(chunk=7)),
    "loss": (Faults(loss=0.2), Faults(loss=0.2)),
    "flipped bits": (Faults(flips=0.2), Faults(flips=0.2)),
    "doubled lines": (Faults(doubles=0.2), Faults(doubles=0.2)),
    "delays": (Faults(delay_s=(0.0, 0.8)), Faults(delay_s=(0.0, 0.2))),
    "everything": (
        Faults(loss=0.1, flips=0.1, doubles=0.1, delay_s=(0.0, 0.1), chunk=5),
        Faults(loss=0.1, flips=0.1, doubles=0.1, delay_s=(0.0, 0.1), chunk=5),
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("wire", WIRES)
def test_every_record_arrives_once_and_in_order(wire: str, seed: int) -> None:
    up, down = WIRES[wire]
    world = World(seed, up, down, ring_bytes=64_000)

    world.run(1000)

    check_all_delivered(world, 7)
    assert not any(isinstance(record, Gap) for record in world.records)


def test_a_clean_line_needs_no_retransmission() -> None:
    world = World(seed=0)

    world.run(1000)

    assert world.board.session.batches_resent == 0
    assert not world.faults()


def gaps(world: World) -> list[Gap]:
    return [record for record in world.records if isinstance(record, Gap)]


def test_a_flood_is_delivered_at_the_speed_of_the_wire() -> None:
    delay = Faults(delay_s=(0.002, 0.002))
    world = World(0, delay, delay, ring_bytes=64_000, period_s=0.0002, safe_after_s=0.03)

    world.run(5000)

    check_all_delivered(world, 7)
    assert world.now_s < 1000 + 1.5  # taking them alone lasts 1 s
    assert world.board.session.batches_resent == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_board_that_restarts_in_the_middle_of_a_frame_continues_in_a_new_epoch(
    seed: int,
) -> None:
    world = World(seed, Faults(loss=0.1, chunk=7, delay_s=(0.01, 0.03)), Faults(loss=0.1))

    def restart() -> None:
        world.to_gateway.tear()
        world.board.power_cycle()

    world.at(4.0 + seed / 7, restart)
    world.run(500)

    check_in_order(world, 7, world.of(7))  # what was in RAM is gone, and nobody knows of it
    assert world.board.produced[8]
    check_all_delivered(world, 8)


@pytest.mark.parametrize("seed", range(5))
def test_a_soft_reset_that_keeps_the_ring_loses_and_repeats_nothing(seed: int) -> None:
    world = World(seed, Faults(loss=0.1), Faults(loss=0.1), safe_after_s=0.3)

    def reset() -> None:
        world.to_gateway.tear()
        world.board.boot()

    world.at(2.0, reset)
    world.at(5.0, reset)
    world.run(500)

    check_all_delivered(world, 7)


@pytest.mark.parametrize("seed", range(5))
def test_a_port_that_is_reopened_loses_and_repeats_nothing(seed: int) -> None:
    world = World(seed, Faults(loss=0.1), Faults(loss=0.1), safe_after_s=0.3)

    world.at(2.0, world.reopen)
    world.at(5.0, world.reopen)
    world.run(500)

    check_all_delivered(world, 7)
    assert sum(isinstance(event, Gone) for event in world.events) == 2
    assert sum(isinstance(event, Seen) for event in world.events) == 3


@pytest.mark.parametrize("seed", range(5))
def test_a_gateway_that_is_killed_gets_again_what_was_not_safe(seed: int) -> None:
    world = World(seed, Faults(loss=0.1), Faults(loss=0.1), safe_after_s=0.1)
    received_before: list[int] = []
    safe_before: list[int] = []

    def kill() -> None:
        received_before.append(len(world.records))
        safe_before.append(world.board.ring.safe)
        world.restart_gateway()

    world.at(5.0, kill)
    world.run(500)

    first_life, second_life = (
        world.records[: received_before[0]],
        world.records[received_before[0] :],
    )
    assert check_in_order(world, 7, first_life) >= safe_before[0]
    resumed = second_life[0]
    assert isinstance(resumed, Sample)
    assert safe_before[0] <= resumed.seq <= len(first_life)  # no hole, and nothing acknowledged
    check_in_order(world, 7, first_life[: resumed.seq] + second_life)
    assert second_life[-1] == world.records[-1]
    assert isinstance(second_life[-1], Sample)
    assert second_life[-1].seq == 499


def test_a_board_is_joined_again_within_a_round_trip_after_the_gateway_was_killed() -> None:
    world = World(seed=0)

    world.at(5.0, world.restart_gateway)
    world.at(5.1, lambda: events_then.extend(world.events))
    events_then: list[object] = []
    world.run(500)

    assert sum(isinstance(event, Seen) for event in events_then) == 2


@pytest.mark.parametrize("seed", range(5))
def test_gaps_are_exactly_what_the_ring_had_to_drop(seed: int) -> None:
    world = World(seed, Faults(loss=0.1), Faults(loss=0.1), ring_bytes=1200)

    world.at(3.0, lambda: world.cut(is_cut=True))
    world.at(13.0, lambda: world.cut(is_cut=False))
    world.run(1000)

    check_all_delivered(world, 7)
    assert [gap.cause.value for gap in gaps(world)] == ["ring_overflow"] * len(gaps(world))
    missing = sum(gap.count for gap in gaps(world))
    assert missing > 300  # 10 s at 50 a second, and the ring holds 100
    assert missing <= world.board.ring.lost  # it also drops what had arrived and was not safe


def test_what_a_board_dropped_before_anyone_listened_is_a_gap_too() -> None:
    world = World(seed=0, ring_bytes=1200)

    world.cut(is_cut=True)
    world.at(10.0, lambda: world.cut(is_cut=False))
    world.run(1000)

    check_all_delivered(world, 7)
    assert gaps(world)[0].first_seq == 0
    assert sum(gap.count for gap in gaps(world)) == world.board.ring.lost


def test_what_a_board_dropped_while_the_gateway_was_down_is_a_gap() -> None:
    world = World(seed=0, ring_bytes=1200)

    def down() -> None:
        world.cut(is_cut=True)
        world.restart_gateway()

    world.at(3.0, down)
    world.at(13.0, lambda: world.cut(is_cut=False))
    world.run(1000)

    check_all_delivered(world, 7)
    assert len(gaps(world)) == 1
    assert gaps(world)[0].count == world.board.ring.lost


def test_records_that_take_two_seconds_to_become_safe_are_not_sent_again() -> None:
    world = World(seed=0, ring_bytes=8192, safe_after_s=2.0)

    world.run(500)

    check_all_delivered(world, 7)
    assert world.board.session.batches_resent == 0
    assert world.board.ring.lost == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_paused_board_keeps_its_records_and_goes_on_at_once(seed: int) -> None:
    world = World(seed, ring_bytes=16_000, period_s=0.01)
    counted: list[int] = []

    world.at(3.0, lambda: world.driver.hold(paused=True))
    world.at(3.5, lambda: counted.append(len(world.records)))
    world.at(8.0, lambda: counted.append(len(world.records)))
    world.at(8.0, lambda: world.driver.hold(paused=False))
    world.at(8.1, lambda: counted.append(len(world.records)))
    world.run(1000)

    check_all_delivered(world, 7)
    assert not gaps(world)
    assert counted[0] == counted[1]
    assert counted[2] > counted[1] + 400


def test_a_board_held_back_from_the_start_describes_itself_and_waits() -> None:
    world = World(seed=0, ring_bytes=16_000)

    world.driver.hold(paused=True)
    world.at(4.0, lambda: counted.append(len(world.records)))
    world.at(4.0, lambda: world.driver.hold(paused=False))
    counted: list[int] = []
    world.run(500)

    assert counted == [0]
    assert isinstance(world.events[0], Seen)
    check_all_delivered(world, 7)


@pytest.mark.parametrize("seed", range(3))
def test_the_wrap_of_the_boards_clock_is_not_noticed(seed: int) -> None:
    world = World(seed, Faults(loss=0.1), Faults(loss=0.1), mono_ms=2**32 - 1_000_000 - 4_000)

    world.run(500)

    check_all_delivered(world, 7)  # compares times, too
    assert world.board.now_ms(1000.0) > 2**31
    assert world.board.now_ms(world.now_s) < 2**31


def test_the_epoch_after_65535_is_0() -> None:
    world = World(seed=0, epoch=65_535)

    world.at(4.0, world.board.power_cycle)
    world.run(500)

    check_in_order(world, 65_535, world.of(65_535))
    assert world.board.epoch == 0
    check_all_delivered(world, 0)


def test_a_board_whose_flash_was_erased_takes_another_epoch() -> None:
    world = World(seed=0)

    def erase() -> None:
        world.board.produced[77] = world.board.produced.pop(7)  # they came before
        world.board.epoch -= 1
        world.board.power_cycle()

    world.at(4.0, erase)
    world.run(500)

    epoch = world.board.session.epoch
    assert epoch != 7
    assert world.faults() == {"epoch_reused"}
    assert [record.seq for record in world.of(epoch) if isinstance(record, Sample)] == list(
        range(len(world.board.produced[7]))
    )


@pytest.mark.parametrize("seed", range(5))
def test_commands_are_done_at_most_once_and_their_end_is_told_once(seed: int) -> None:
    world = World(seed, Faults(loss=0.2), Faults(loss=0.2))

    for number in range(10):
        world.at(2.0 + number * 0.7, partial(world.command, "set", number, 20.0))
    world.at(9.0, lambda: world.command("fail", "x", 20.0))
    world.run(1500)

    assert world.board.executed == [*range(10), "x"]
    assert [end.outcome for end in world.ended] == [Outcome.DONE] * 10 + [Outcome.FAILED]
    assert [end.result for end in world.ended[:10]] == [{"was": n} for n in range(10)]
    assert world.ended[-1].error == "no such thing"


def test_a_command_that_nobody_takes_expires_and_one_that_nobody_answers_is_unknown() -> None:
    world = World(seed=0)

    world.at(0.0, lambda: world.command("set", 1, 0.5))
    world.cut(is_cut=True)
    world.at(2.0, lambda: world.cut(is_cut=False))
    world.at(4.0, lambda: setattr(world.to_gateway, "is_cut", True))
    world.at(4.0, lambda: world.command("set", 2, 5.0))
    world.at(10.0, lambda: world.cut(is_cut=False))
    world.run(600)

    assert [end.outcome for end in world.ended] == [Outcome.EXPIRED, Outcome.UNKNOWN]
    assert world.board.executed == [2]


def test_a_command_that_was_sent_is_not_repeated_to_a_board_that_forgot() -> None:
    world = World(seed=0)

    world.at(4.0, lambda: setattr(world.to_gateway, "is_cut", True))
    world.at(4.1, lambda: world.command("set", 1, 30.0))
    world.at(4.5, world.board.boot)
    world.at(4.6, lambda: setattr(world.to_gateway, "is_cut", False))
    world.run(500)

    assert [end.outcome for end in world.ended] == [Outcome.UNKNOWN]
    assert world.board.executed == [1]


def test_of_two_boards_with_one_id_the_first_is_heard_until_it_leaves() -> None:
    first = World(seed=0)
    first.run(10)
    second = World(seed=0, epoch=8)
    second.book = first.book
    second.reopen()

    second.go_on(5.0)

    assert [event.kind for event in second.events if isinstance(event, Fault)] == ["duplicate_id"]
    assert not any(isinstance(event, Seen | Readings) for event in second.events)

    first.reopen()
    second.run(10)

    check_all_delivered(second, 8)


def test_a_silent_link_is_given_up_after_three_heartbeats_and_the_board_starts_over() -> None:
    world = World(seed=0)
    world.run(10)
    cut_s = world.now_s
    world.cut(is_cut=True)

    world.go_on(14.9)
    assert not any(isinstance(event, Gone) for event in world.events)
    world.go_on(5.2)

    assert [event for event in world.events if isinstance(event, Gone)] == [Gone("b1", "silent")]
    assert not world.board.session.up
    world.cut(is_cut=False)
    world.go_on(1.5)
    assert world.board.session.up
    assert world.now_s - cut_s < 22

from collections import Counter
from itertools import islice, pairwise
from signal import SIGCONT, SIGKILL, SIGSTOP

from gateway.simulate.faults.process import process_events

NAMES = ["gateway", "broker", "board"]


def test_blows_fall_within_the_times_given_and_on_all_alike() -> None:
    events = list(islice(process_events(NAMES, seed=1), 3000))

    pauses_s = [after.at_s - before.at_s for before, after in pairwise(events)]
    assert all(0.2 <= pause_s <= 2.0 for pause_s in pauses_s)
    assert {event.action.number for event in events} == {SIGKILL}
    shares = Counter(event.action.victim for event in events)
    # 3,000 draws at a third: a standard deviation is 26, so this is five of them
    assert all(870 <= shares[name] <= 1130 for name in NAMES)


def test_the_same_seed_gives_the_same_blows_and_another_one_others() -> None:
    def first(seed: int) -> list[object]:
        return list(islice(process_events(NAMES, seed, stop_share=0.5), 100))

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_who_is_stopped_is_let_go_on_before_the_next_blow() -> None:
    events = list(islice(process_events(NAMES, seed=3, stop_share=1.0, stop_s=0.5), 200))

    for stop, go_on in zip(events[::2], events[1::2], strict=True):
        assert (stop.action.number, go_on.action.number) == (SIGSTOP, SIGCONT)
        assert stop.action.victim == go_on.action.victim
        assert 0 <= go_on.at_s - stop.at_s <= 0.5


def test_some_are_stopped_and_some_are_killed() -> None:
    events = list(islice(process_events(NAMES, seed=3, stop_share=0.3), 1000))

    numbers = Counter(event.action.number for event in events)
    assert numbers[SIGSTOP] == numbers[SIGCONT] > 100
    assert numbers[SIGKILL] > 300

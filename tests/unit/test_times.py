"""From a board's counter to the published time, while the machine's clock does what it likes."""

import random
from itertools import pairwise

import pytest

from gateway.drivers.board import BoardDriver
from gateway.model import Batch, Record
from gateway.mqtt.messages import Composer
from gateway.mqtt.topics import Topics
from gateway.protocol.delivery import DeliveryBook
from gateway.timekeeper import TimeKeeper
from tests.support.dated_board import DatedBoard, Told, told
from tests.support.machine import Machine

TRUE_UNIX_S = 1_795_330_800.0
"""2026-11-22T07:00:00Z."""
TOLERANCE_S = 0.05

pytestmark = pytest.mark.parametrize("seed", [1, 2, 3])


class Gateway:
    """One run of the gateway, without links and outbox: what waits is a list."""

    def __init__(self, machine: Machine, board: DatedBoard) -> None:
        clock = machine.clock()
        self._machine = machine
        self._board = board
        self._timekeeper = TimeKeeper(clock)
        self._driver = BoardDriver("port-1", DeliveryBook(), clock, "5e55")
        self._composer = Composer(Topics("edge/pi"), self._timekeeper)
        self._waiting: list[Record] = []
        board.join(self._driver)

    def receive(self, samples: int) -> None:
        """Let the board take and send samples, one a second."""
        for _ in range(samples):
            self._board.take()
            for readings in self._board.send(self._driver):
                self._waiting += readings.records
            self._timekeeper.base()  # as the app does, once a second
            self._machine.run(1.0)

    def publish(self) -> list[Told]:
        """Publish what waits."""
        waiting, self._waiting = self._waiting, []
        return told(self._composer.compose(Batch("dev", tuple(waiting))))


@pytest.fixture
def machine() -> Machine:
    """Just switched on; its clock says 1970."""
    return Machine(TRUE_UNIX_S)


@pytest.fixture
def board(machine: Machine, seed: int) -> DatedBoard:
    rng = random.Random(seed)
    return DatedBoard(machine, rng, drift_ppm=rng.choice((-50, 0, 50)))


def worst_s(samples: list[Told], board: DatedBoard) -> float:
    """The largest error of a published time."""
    assert samples
    return max(abs(sample.unix_s - board.taken[sample.id]) for sample in samples)


def qualities(samples: list[Told]) -> set[str]:
    return {sample.quality for sample in samples}


def test_what_waits_for_the_clock_is_right_once_it_is_synchronised(
    machine: Machine, board: DatedBoard
) -> None:
    gateway = Gateway(machine, board)
    gateway.receive(10)
    early = gateway.publish()
    gateway.receive(30)

    machine.synchronise()
    late = gateway.publish()

    assert qualities(early) == {"unsynced"}
    assert all(sample.unix_s < 60 for sample in early), "1970: nobody knew better"
    distances = [b.unix_s - a.unix_s for a, b in pairwise(early)]
    assert distances == pytest.approx([1.0] * 9, abs=TOLERANCE_S), "but the distances are right"
    assert qualities(late) == {"synced"}
    assert worst_s(late, board) < TOLERANCE_S


@pytest.mark.parametrize("step_s", [-3600.0, -0.9, 0.9, 3600.0, 86_400.0 * 365, -TRUE_UNIX_S])
def test_a_clock_set_by_hand_dates_nothing_wrong_before_or_after(
    machine: Machine, board: DatedBoard, step_s: float
) -> None:
    gateway = Gateway(machine, board)
    machine.synchronise()
    gateway.receive(20)

    machine.set_by_hand(machine.true_unix_s + step_s)
    waited = gateway.publish()
    gateway.receive(20)
    after = gateway.publish()
    machine.synchronise()
    gateway.receive(20)
    again = gateway.publish()

    assert qualities(waited) == qualities(after) == {"unsynced"}
    assert qualities(again) == {"synced"}
    assert worst_s(waited + after + again, board) < TOLERANCE_S
    assert [sample.id for sample in waited + after + again] == list(board.taken)


@pytest.mark.parametrize("error_s", [-7.0, 7.0])
def test_a_time_server_that_was_wrong_is_followed_when_it_steps(
    machine: Machine, board: DatedBoard, error_s: float
) -> None:
    gateway = Gateway(machine, board)
    machine.synchronise(error_s)
    gateway.receive(5)
    wrong = gateway.publish()
    gateway.receive(5)

    machine.synchronise()
    waited = gateway.publish()
    gateway.receive(5)
    after = gateway.publish()

    assert worst_s(wrong, board) == pytest.approx(7.0, abs=TOLERANCE_S)
    assert worst_s(waited + after, board) < TOLERANCE_S
    assert [sample.id for sample in wrong + waited + after] == list(board.taken)


def test_random_steps_at_random_moments_leave_order_and_times_alone(
    machine: Machine, board: DatedBoard, seed: int
) -> None:
    rng = random.Random(seed)
    gateway = Gateway(machine, board)
    machine.synchronise()
    published: list[Told] = []

    for _ in range(200):
        gateway.receive(rng.randint(0, 5))
        if rng.random() < 0.3:
            machine.set_by_hand(rng.uniform(0.0, 2 * TRUE_UNIX_S))
        elif rng.random() < 0.3:
            machine.synchronise(rng.uniform(-0.02, 0.02))
        if rng.random() < 0.5:
            published += gateway.publish()
    machine.synchronise()
    published += gateway.publish()

    assert [sample.id for sample in published] == list(board.taken)
    assert worst_s(published, board) < TOLERANCE_S
    times = [sample.unix_s for sample in published]
    assert all(b - a > 1.0 - TOLERANCE_S for a, b in pairwise(times))

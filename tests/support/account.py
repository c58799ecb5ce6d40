"""Delivered + published gaps = produced, exactly: the account of a run; pure.

A reading's number is its value, counted over all lives of its board and noted before it becomes a
sample; its id is device, boot and seq. For each boot the seqs that a subscriber has heard of must
be complete, and stand for the numbers that were noted, one by one.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from tests.support.exactly_once import ExactlyOnce
from tests.support.journal_board import Journal
from tests.support.witness import Heard


class Id(NamedTuple):
    """Of a sample, within its device."""

    boot: int
    seq: int


@dataclass(slots=True)
class Account:
    """What one board produced, and what became of it."""

    device: str
    produced: int = 0
    """Readings that became samples."""
    delivered: int = 0
    repeated: int = 0
    """Samples that came once more, under the same id."""
    gaps: Counter[str] = field(default_factory=Counter)
    """Samples that are published as lost, by cause."""
    untold: int = 0
    """Samples of which nobody but the board could know, lost with its power."""
    unborn: int = 0
    """Readings that became no sample, as their board was killed in between."""
    problems: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether nothing is missing and nothing is too much."""
        told = self.delivered + self.gaps.total() + self.untold
        return not self.problems and told == self.produced


class Ledger:
    """Takes in what is heard, message by message, and settles the accounts when asked."""

    def __init__(self) -> None:
        self.once = ExactlyOnce()
        self._taken = 0
        self._repeated: Counter[str] = Counter()
        self._order: dict[tuple[str, str], list[Id]] = defaultdict(list)
        """Ids on each (device, topic), in the order in which they came, known ones dropped."""
        self._in_place: dict[str, set[Id]] = defaultdict(set)
        """Ids of each device that came on `history`, where no previews are."""
        self._conflicts: dict[str, list[str]] = defaultdict(list)

    def take(self, heard: Sequence[Heard]) -> None:
        """Take in what has been added to a list that grows."""
        for message in heard[self._taken :]:
            device, kind = message.topic.split("/")[-2:]
            if kind in {"state", "history", "gap"} and message.payload:  # empty: cleared
                self._take_one(device, kind, message)
        self._taken = len(heard)

    def settle(self, journal: Journal, *, power_cuts: bool = False) -> Account:
        """Compare with what a board has noted; it may have lost its power if `power_cuts`."""
        account = Account(journal.device)
        account.repeated = self._repeated[journal.device]
        account.problems += self._conflicts.get(journal.device, [])
        account.problems += self._disorder(journal.device)
        boots = _boots(journal)
        delivered = self._delivered(journal.device, account)
        gaps = self._gaps(journal.device, delivered, account, power_cuts=power_cuts)
        strangers = (delivered.keys() | gaps.keys()) - boots.keys()
        account.problems += [f"nobody has ever been in boot {epoch}" for epoch in strangers]
        for epoch, boot in boots.items():
            boot.settle(delivered[epoch], gaps[epoch], account, power_cuts=power_cuts)
        account.produced = journal.noted - account.unborn
        return account

    def _take_one(self, device: str, kind: str, message: Heard) -> None:
        document = json.loads(message.payload)
        batch = [] if kind == "gap" else document if kind == "history" else [document]
        fresh = {reading["id"] for reading in self.once.feed(message.topic, message.payload)}
        for reading in batch:
            _, boot, seq = reading["id"].split("/")
            here = Id(int(boot), int(seq))
            if kind == "history":
                self._in_place[device].add(here)
            if reading["id"] in fresh:
                self._order[device, kind].append(here)
                fresh.discard(reading["id"])
                continue
            self._repeated[device] += 1
            first = self.once.readings[reading["id"]]
            if first.get("number") != reading.get("number"):  # sensors have none
                self._conflicts[device].append(f"two readings with one id: {first}, {reading}")

    def _disorder(self, device: str) -> Iterator[str]:
        for (whose, kind), ids in self._order.items():
            if whose == device:
                for before, after in pairwise(ids):
                    if before.boot == after.boot and before.seq > after.seq:
                        yield f"{after} comes after {before} on {kind}"

    def _delivered(self, device: str, account: Account) -> dict[int, dict[int, int]]:
        """Return for each boot the number of each seq that was delivered."""
        delivered: dict[int, dict[int, int]] = defaultdict(dict)
        ids: dict[int, str] = {}
        for reading in self.once.readings.values():
            whose, boot, seq = reading["id"].split("/")
            if whose == device:
                number = reading["number"]
                if (other := ids.setdefault(number, reading["id"])) != reading["id"]:
                    account.problems.append(f"number {number} is {other} and {reading['id']}")
                delivered[int(boot)][int(seq)] = number
        account.delivered = len(ids)
        return delivered

    def _gaps(
        self,
        device: str,
        delivered: Mapping[int, Container[int]],
        account: Account,
        *,
        power_cuts: bool,
    ) -> dict[int, dict[int, str]]:
        """Return for each boot which seqs are gone, and why; what was delivered is not gone.

        A gateway that is killed does not know whether the broker took its last words; if the board
        then loses its power, too, nobody can ask it, and they are called lost.
        """
        in_place = self._in_place.get(device, set())
        gaps: dict[int, dict[int, str]] = defaultdict(dict)
        for (whose, boot, first), gap in self.once.gaps.items():
            if whose != device:
                continue
            if gap["count"] != gap["to"] - first + 1:
                account.problems.append(f"the gap does not know its numbers: {gap}")
            is_guess = power_cuts and gap["cause"] == "power_loss"
            for seq in range(first, gap["to"] + 1):
                if Id(boot, seq) in in_place and not is_guess:
                    account.problems.append(f"{Id(boot, seq)} is delivered, and in a gap: {gap}")
                if seq not in delivered.get(boot, ()):
                    gaps[boot][seq] = gap["cause"]
        for causes in gaps.values():
            account.gaps.update(causes.values())
        return gaps


@dataclass(frozen=True, slots=True)
class _Boot:
    """The lives in which a board went on counting its samples from one to the next."""

    epoch: int
    numbers: range
    """What was noted in them."""
    births: tuple[int, ...]
    """The first numbers of all of them but the first one: the number before each may be unborn."""
    is_last: bool

    def settle(
        self,
        delivered: Mapping[int, int],
        gaps: Mapping[int, str],
        account: Account,
        *,
        power_cuts: bool,
    ) -> None:
        """Look whether all seqs are told, and stand for the numbers that were noted."""
        told = sorted({*delivered, *gaps})
        if told != list(range(len(told))):
            missing = sorted(set(range(told[-1])) - set(told))
            account.problems.append(f"boot {self.epoch} misses {_spans(missing)}")
            return
        unborn = 0
        killed = 0
        for seq, number in sorted(delivered.items()):
            killed = sum(birth <= number for birth in self.births)
            if not unborn <= number - self.numbers.start - seq <= killed:
                account.problems.append(f"boot {self.epoch} seq {seq} has the number {number}")
                return
            unborn = number - self.numbers.start - seq
        silent = len(self.numbers) - unborn - len(told)
        may_be_unborn = len(self.births) + (not self.is_last) - killed
        if power_cuts and not self.is_last:
            account.untold += silent
        elif not 0 <= silent <= may_be_unborn:
            account.problems.append(f"boot {self.epoch} ends with {silent} samples untold")
        else:
            unborn += silent
        account.unborn += unborn


def _boots(journal: Journal) -> dict[int, _Boot]:
    lives: dict[int, list[int]] = defaultdict(list)
    for life in journal.lives:
        lives[life.epoch].append(life.first)
    ends = [*[births[0] for births in lives.values()][1:], journal.noted]
    return {
        epoch: _Boot(
            epoch,
            range(births[0], end),
            tuple(births[1:]),
            is_last=epoch == journal.lives[-1].epoch,
        )
        for (epoch, births), end in zip(lives.items(), ends, strict=True)
    }


def _spans(seqs: Sequence[int]) -> str:
    """Return `3..7, 12..12`, of whole numbers in order."""
    spans: list[list[int]] = []
    for seq in seqs:
        if spans and seq == spans[-1][1] + 1:
            spans[-1][1] = seq
        else:
            spans.append([seq, seq])
    return ", ".join(f"{first}..{last}" for first, last in spans)

"""Rollouts with what they bring, as they are kept on the disk."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

from gateway.bundle.archive import from_archive, to_archive
from gateway.bundle.bundle import Bundle, config_hash
from gateway.bundle.manifest import SETTINGS, SETTINGS_PATH
from gateway.errors import BundleError, RequestError, StoreError
from gateway.protocol.update import Update
from gateway.protocol.update_values import UpdateKind
from gateway.store import rollouts as table
from gateway.store.state_changes import Change
from gateway.updates.rollout import Plan, Rollout

_log = logging.getLogger(__name__)

KEPT: Final = 10
"""Rollouts that are over and still told of."""

MAX_ACTIVE: Final = 20
"""Rollouts under way at a time."""


KEEPING_S: Final = 20.0
"""A rollout that the disk does not take within this is none."""

OnKept: TypeAlias = Callable[[StoreError | None], None]


class Journal(Protocol):
    """The state database."""

    def submit(
        self, change: Change, on_done: OnKept | None = None, patience_s: float | None = None
    ) -> None:
        """Queue a change; `on_done` is called once, with an error if it is given up by then."""


@dataclass(slots=True)
class Case:
    """A rollout with what it brings."""

    rollout: Rollout
    archive: bytes
    """The bundle as a file; empty once the rollout is over."""
    update: Update | None = None
    """None once it is over."""
    version: int = 0
    """Of the rollout, as the disk knows it."""
    is_kept: bool = True
    """Whether the disk has it: before that nobody is sent anything."""


class Cases:
    """All rollouts that are known, by number."""

    def __init__(self, journal: Journal, on_kept: Callable[[], None]) -> None:
        """`on_kept` is told when the disk has a rollout."""
        self.on_kept = on_kept
        self._journal = journal
        self._cases: dict[int, Case] = {}
        self._has_taken = False

    def __iter__(self) -> Iterator[Case]:
        """Go through all, the newest first."""
        return iter([*reversed(self._cases.values())])

    @property
    def newest(self) -> Rollout | None:
        """The rollout that was begun last."""
        return next((case.rollout for case in self), None)

    def active(self, device: str) -> list[Rollout]:
        """Return the rollouts that are under way for a board: one, but for those that halted."""
        return [case.rollout for case in self if case.rollout.is_active(device)]

    def latest(self, device: str) -> Rollout | None:
        """Return the last rollout that has a board."""
        return next((case.rollout for case in self if device in case.rollout.targets), None)

    def add(
        self,
        bundle: Bundle,
        plan: Plan,
        devices: Iterable[str],
        now_unix_s: float,
        on_kept: OnKept | None = None,
    ) -> Rollout:
        """Add a rollout, and keep it; `on_kept` is told what becomes of that.

        Raises:
            RequestError: there are too many, or it is not known yet what an earlier run began.
        """
        if not self._has_taken:
            raise RequestError("the state database is not open yet: see `registry` in health")
        if sum(not case.rollout.is_over for case in self) >= MAX_ACTIVE:
            raise RequestError(f"{MAX_ACTIVE} rollouts are under way already")
        number = max(self._cases, default=0) + 1
        rollout = Rollout.of(number, plan, devices, now_unix_s)
        case = Case(rollout, to_archive(bundle), update_of(bundle, plan), is_kept=False)
        self._cases[number] = case
        change = table.put([table.Entry(number, rollout.entry(), case.archive)])
        self._journal.submit(change, partial(self._on_kept, case, on_kept), KEEPING_S)
        self._forget_old()
        return rollout

    def keep(self, case: Case) -> bool:
        """Keep how a rollout stands; return whether that is news."""
        rollout = case.rollout
        if rollout.version == case.version:
            return False
        case.version = rollout.version
        is_over = rollout.is_over
        self._journal.submit(table.note(rollout.number, rollout.entry(), is_over=is_over))
        if is_over and case.archive:
            case.archive, case.update = b"", None
            counts = {state.value: count for state, count in rollout.counts.items()}
            _log.info("rollout %d: %s %s", rollout.number, rollout.phase.value, counts)
        return True

    def take(self, entries: Iterable[table.Entry], now_s: float) -> None:
        """Take up what was kept; before that none is begun."""
        self._has_taken = True
        for entry in entries:
            try:
                rollout = Rollout.from_entry(entry.number, entry.entry, now_s)
                case = Case(rollout, entry.bundle)
                if not rollout.is_over:
                    bundle = from_archive(entry.bundle, f"the bundle of rollout {entry.number}")
                    case.update = update_of(bundle, rollout.plan)
            except (ValueError, BundleError) as exc:
                _log.error("what was kept of rollout %d cannot be used: %s", entry.number, exc)
                continue
            self._cases[entry.number] = case
            if not rollout.is_over:
                _log.info("rollout %d goes on: %s", entry.number, rollout.plan.title)

    def everything(self) -> Change:
        """Return the change that writes all that is known into an empty table."""
        return table.put(
            [
                table.Entry(number, case.rollout.entry(), case.archive)
                for number, case in self._cases.items()
            ]
        )

    def _on_kept(self, case: Case, on_kept: OnKept | None, error: StoreError | None) -> None:
        if error is not None:
            _log.error("rollout %d is given up: %s", case.rollout.number, error)
            case.rollout.abort(f"it could not be kept: {error}")
        case.is_kept = True
        self.on_kept()
        if on_kept is not None:
            on_kept(error)

    def _forget_old(self) -> None:
        over = [number for number, case in self._cases.items() if case.rollout.is_over]
        if gone := over[:-KEPT]:
            for number in gone:
                del self._cases[number]
            self._journal.submit(table.drop(gone))


def plan_of(
    bundle: Bundle, *, canary: int = 0, parallel: int = 4, allows_downgrade: bool = False
) -> Plan:
    """Return how a bundle is rolled out."""
    return Plan(
        kind=bundle.kind,
        version=bundle.version,
        short_hash=bundle.short_hash,
        config_hash=config_hash(bundle.files[SETTINGS_PATH]) if bundle.kind == SETTINGS else "",
        size_bytes=bundle.size_bytes,
        canary=canary,
        parallel=parallel,
        allows_downgrade=allows_downgrade,
    )


def update_of(bundle: Bundle, plan: Plan) -> Update:
    """Return what a board is to get."""
    return Update(
        UpdateKind.SETTINGS if plan.config_hash else UpdateKind.FIRMWARE,
        bundle.manifest,
        tuple(bundle.files.values()),
        bundle.signature or b"",
        allows_downgrade=plan.allows_downgrade,
        bytecode=bundle.mpy,
        paths=bundle.paths,
    )

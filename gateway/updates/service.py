"""Rolls updates out: to boards as they come, so many at a time, over restarts of the gateway."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn, Protocol

from gateway.bundle.bundle import Bundle
from gateway.devices.device import Device
from gateway.errors import BundleError, RequestError, StoreError
from gateway.links.threads import Call
from gateway.log_fields import of_device, on_link
from gateway.model import UpdateStated
from gateway.pipeline import Addressees
from gateway.progress import Progress
from gateway.protocol.update import (
    Update,
    UpdateEnded,
    UpdateEvent,
    UpdateOutcome,
    UpdateProgress,
)
from gateway.store import rollouts as table
from gateway.timekeeper import TimeKeeper
from gateway.updates.case import Case, Cases, Journal, plan_of
from gateway.updates.news import News, Outlet, Registry, is_updatable
from gateway.updates.rollout import Phase, Rollout, State, Target

_log = logging.getLogger(__name__)

LOOK_S: Final = 300.0
"""In a source tree the firmware is compiled first, on however slow a machine."""

_ABORTED: Final = "aborted by request"


class Road(Protocol):
    """The way to boards: all links."""

    def update(
        self, link: str, device: str, update: Update, on_event: Callable[[UpdateEvent], None]
    ) -> bool:
        """Bring a board an update; False if it is not there."""

    def abort_update(self, link: str, device: str, why: str) -> None:
        """End that, if it is under way: its end is told at once."""


class Updates:
    """Listens to links and registry, and begins updates when it is a board's turn; `run` it.

    It stands between the pipeline and who else wants to know of boards that take commands.
    """

    def __init__(  # noqa: PLR0913 - the parts it joins
        self,
        *,
        devices: Registry,
        outlet: Outlet,
        journal: Journal,
        road: Callable[[], Road],
        timekeeper: TimeKeeper,
        others: Addressees,
        own: Callable[[], Bundle],
        progress: Progress | None = None,
    ) -> None:
        """`own` returns the firmware the gateway brings along; it may block.

        `road` is asked each time: the links are made later, and know who has mail.
        """
        self._stage = (progress or Progress()).stage("updates")
        self._devices = devices
        self._road = road
        self._timekeeper = timekeeper
        self._clock = timekeeper.clock
        self._others = others
        self._load_own = own
        self._own: Bundle | None = None
        self._is_own_wanted = False
        self._has_work = asyncio.Event()
        self._cases = Cases(journal, self._has_work.set)
        self._news = News(devices, outlet, self._cases)
        self._links: dict[str, str] = {}
        """Where each board takes commands."""
        self._lives: dict[str, str] = {}
        """In which life of its memory it is."""
        self._attempts: dict[str, object] = {}
        """What each board is being sent: of earlier attempts nothing is believed."""
        self.everything = self._cases.everything

    # ---- what people want ----

    @property
    def rollouts(self) -> list[Rollout]:
        """All that are known, the newest first."""
        return [case.rollout for case in self._cases]

    async def own_bundle(self) -> Bundle:
        """Return the firmware the gateway brings along.

        Raises:
            BundleError: there is none that could be used.
        """
        if self._own is None:
            self._own = await Call(self._load_own).result()
        return self._own

    def begin(  # noqa: PLR0913 - what people may choose
        self,
        bundle: Bundle,
        devices: Sequence[str],
        *,
        canary: int = 0,
        parallel: int = 4,
        allows_downgrade: bool = False,
        on_kept: Callable[[StoreError | None], None] | None = None,
    ) -> Rollout:
        """Begin a rollout; `on_kept` is told once the disk has it, or that it is given up.

        Raises:
            RequestError: one of the boards has an update under way, or none can be begun now.
        """
        for device in devices:
            for other in self._cases.active(device):
                raise RequestError(
                    f"{device}: rollout {other.number} is under way there: abort it first"
                )
        plan = plan_of(bundle, canary=canary, parallel=parallel, allows_downgrade=allows_downgrade)
        rollout = self._cases.add(bundle, plan, devices, self._timekeeper.unix_s(), on_kept)
        _log.info("rollout %d: %s for %d boards", rollout.number, plan.title, len(devices))
        self._news.rollout()
        self._has_work.set()
        return rollout

    def abort(self, number: int | None = None, device: str | None = None) -> list[int]:
        """Give up one rollout or all, for one board or all; return which were under way.

        A board on trial decides by itself.
        """
        aborted = []
        for rollout in self.rollouts:
            is_meant = number in (None, rollout.number) and not rollout.is_over
            if not is_meant or (device is not None and not rollout.is_active(device)):
                continue
            aborted.append(rollout.number)
            whose = of_device(device, shown=f" for {device}") if device else ""
            _log.info("rollout %d: aborted%s", rollout.number, whose)
            for each in rollout.abort(_ABORTED, device):
                self._end_sending(rollout, each, _ABORTED)
        self._has_work.set()
        return aborted

    def replaced(self, device: str, by: str) -> list[int]:
        """Give up what was for a board in whose place another goes on; return which had it.

        The other is not brought it: it was looked at whether the update is for the old one.
        """
        reason = f"replaced by {by}"
        ended = []
        for rollout in self._cases.active(device):
            ended.append(rollout.number)
            told = of_device(device), reason
            _log.info("rollout %d: %s: %s", rollout.number, *told)
            if rollout.replaced(device, reason):
                self._end_sending(rollout, device, reason)
        self._has_work.set()
        return ended

    def why_taken_back(self, device: str, short_hash: str) -> str:
        """Return why a board took back what is called so, when it had it last; empty if not."""
        for rollout in self.rollouts:
            target = rollout.targets.get(device)
            if target is None or rollout.plan.short_hash != short_hash:
                continue
            if target.state is State.ROLLED_BACK:
                return (
                    f"took it back in rollout {rollout.number} ({target.reason}): name it to have "
                    "it try again"
                )
            if target.state is State.DONE:
                break
        return ""

    def has_mail(self, device: str) -> bool:
        """Whether an update waits for a board: one on the radio is connected to for it."""
        return any(
            rollout.targets[device].state is State.WAITING and rollout.room > 0
            for rollout in self._cases.active(device)
        )

    # ---- what boards say ----

    def ready(self, link: str, device: str, life: str) -> None:
        """Note that a board takes commands."""
        self._others.ready(link, device, life)
        self._links[device], self._lives[device] = link, life
        self._look_at(device)
        self._has_work.set()

    def left(self, link: str, device: str) -> None:
        """Note that a board left."""
        self._others.left(link, device)
        if self._links.get(device) == link:
            del self._links[device]

    def stated(self, said: UpdateStated) -> None:
        """Take what a board says of an update it has all of."""
        for rollout in self._cases.active(said.device):
            if rollout.plan.short_hash != said.manifest_hash:
                continue
            if said.state == "confirmed":
                rollout.confirmed(said.device)
            elif said.state == "rolled_back":
                self._take_back(rollout, said.device, said.reason)
        self._has_work.set()

    def device_changed(self, device: Device) -> None:
        """Note what a board runs."""
        self._news.note([device.key])
        self._is_own_wanted |= is_updatable(device)
        self._has_work.set()

    def device_removed(self, device: Device) -> None:
        """Note that a device is none any more, or that nothing of it is to be published."""
        self._news.forget(device.key)

    # ---- over restarts ----

    def take(self, entries: Iterable[table.Entry]) -> None:
        """Take up what was kept."""
        self._cases.take(entries, self._clock.monotonic_s())
        for device in {each for rollout in self.rollouts for each in rollout.targets}:
            if (heir := self._devices.heir(device)) is not None:
                self.replaced(device, heir.key)  # a crash came before
        self._news.rollout()
        self._has_work.set()

    # ---- at work ----

    async def run(self) -> NoReturn:
        """Begin what is due, and tell what has changed, for ever."""
        while True:
            self._has_work.clear()
            if self._is_own_wanted and self._own is None:
                self._stage.works_long("looking for firmware to offer", LOOK_S)
                await self._look_for_own()
            self.work()
            now_s = self._clock.monotonic_s()
            due = [rollout.deadline_s(now_s) for rollout in self.rollouts]
            due_s = min([*due, self._news.deadline_s()])
            delay_s = max(due_s - now_s, 0.01)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._stage.beat_s(delay_s)):
                    await self._has_work.wait()

    def work(self) -> None:
        """Do what is due."""
        now_s = self._clock.monotonic_s()
        is_news = False
        for case in self._cases:
            rollout = case.rollout
            rollout.passes(now_s)
            if not case.is_kept:
                continue  # after a crash nobody would know of it
            if rollout.phase is Phase.RUNNING:
                for target in rollout.next_to_begin(self._links.__contains__, now_s):
                    self._begin(case, target)
            else:
                for device in rollout.sending():
                    self._end_sending(rollout, device, rollout.reason)
            self._news.note(rollout.take_changed())
            if self._cases.keep(case):
                is_news |= rollout is self._cases.newest
        self._news.publish(now_s)
        if is_news:  # last: whoever hears that it is over finds how each board stands
            self._news.rollout()

    async def _look_for_own(self) -> None:
        self._is_own_wanted = False
        try:
            self._news.offered = (await self.own_bundle()).version
        except BundleError as exc:
            _log.info("no firmware to offer: %s", exc)
        else:
            self._news.note(device.key for device in self._devices)

    def _begin(self, case: Case, target: Target) -> None:
        device, rollout = target.device, case.rollout
        assert case.update is not None  # noqa: S101 - it is there while the rollout is under way
        attempt = self._attempts[device] = object()
        link = self._links[device]
        rollout.begun(device)
        _log.info("rollout %d: %s: begun on %s", rollout.number, of_device(device), on_link(link))
        on_event = partial(self._on_event, rollout, attempt)
        if not self._road().update(link, device, case.update, on_event):
            self._links.pop(device, None)  # it says when it is back
            rollout.interrupted(device, "not there", self._clock.monotonic_s())

    def _on_event(self, rollout: Rollout, attempt: object, event: UpdateEvent) -> None:
        device = event.device
        if self._attempts.get(device) is not attempt:
            return
        if isinstance(event, UpdateProgress):
            if event.total_bytes:
                rollout.progressed(device, event.done_bytes * 100 // event.total_bytes)
            if self._news.awaits(device):
                return  # it is told with what comes before
            self._news.note([device])
        else:
            del self._attempts[device]
            self._on_end(rollout, event)
        self._has_work.set()

    def _on_end(self, rollout: Rollout, ended: UpdateEnded) -> None:
        device, detail, now_s = ended.device, ended.detail, self._clock.monotonic_s()
        level = logging.INFO
        match ended.outcome:
            case UpdateOutcome.ON_TRIAL:
                rollout.on_trial(device, now_s, self._lives.get(device, ""))
            case UpdateOutcome.UNCHANGED:
                rollout.had_it(device)
            case UpdateOutcome.REFUSED:
                rollout.refused(device, detail)
                level = logging.WARNING
            case UpdateOutcome.FAILED:
                rollout.failed(device, detail, now_s)
                level = logging.WARNING
            case UpdateOutcome.INTERRUPTED:
                rollout.interrupted(device, detail, now_s)
            case UpdateOutcome.ABORTED:
                rollout.aborted(device, detail or _ABORTED)
        state = rollout.targets[device].state.value
        told = f"{state}: {detail}" if detail else state
        _log.log(level, "rollout %d: %s: %s", rollout.number, of_device(device), told)

    def _end_sending(self, rollout: Rollout, device: str, why: str) -> None:
        self._road().abort_update(self._links.get(device, ""), device, why)
        if rollout.targets[device].state is State.SENDING:
            self._attempts.pop(device, None)
            rollout.aborted(device, why)

    def _take_back(self, rollout: Rollout, device: str, reason: str) -> None:
        rollout.rolled_back(device, reason)
        target = rollout.targets[device]
        if target.state is State.ROLLED_BACK:
            _log.warning(
                "rollout %d: %s rolled back: %s", rollout.number, of_device(device), target.reason
            )

    def _look_at(self, key: str) -> None:
        """Learn from what a board says it runs what became of its update, if nothing told it."""
        device = self._devices.get(key)
        if device is None:
            return
        said = device.description
        for rollout in self._cases.active(key):
            target, plan = rollout.targets[key], rollout.plan
            if target.state is State.SENDING:
                continue  # the conversation knows
            runs_it = said.manifest_hash == plan.short_hash
            if plan.config_hash:
                runs_it = said.config_hash == plan.config_hash
            if runs_it and said.is_on_trial:
                if target.state is State.WAITING:
                    rollout.on_trial(key, self._clock.monotonic_s(), self._lives[key])
            elif runs_it:
                rollout.confirmed(key)
            elif target.state is State.TRIAL and self._lives[key] != target.life:
                self._take_back(rollout, key, said.rollback)

"""The state database: what is small, precious and rarely written, one thread for all of it."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from gateway.backoff import Backoff
from gateway.errors import StoreDamagedError, StoreError
from gateway.progress import Progress
from gateway.status import StateStatus
from gateway.store.one_thread import LONG_S, OneThread
from gateway.store.state_changes import Change, Select
from gateway.store.state_database import StateDatabase, put_aside

_log = logging.getLogger(__name__)

COMMIT_PAUSE_S = 0.02
"""From one commit to the next: what is submitted meanwhile shares the next one."""
MAX_WAITING = 20_000
"""Changes that wait while the disk fails; who brings another is told that it is dropped."""
OPENING_S = 5.0
"""For so long the start of the gateway waits for the database."""
CLOSE_TIMEOUT_S = 5.0
BACKOFF_CAP_S = 10.0
ANEW_PAUSE_S = 60.0
"""From one new file in the place of a damaged one to the next: it is the disk that is damaged."""

OnDone = Callable[[StoreError | None], None]

_T = TypeVar("_T")


class _Waiting:
    """A change on its way to the disk."""

    __slots__ = ("change", "is_withdrawn", "on_done", "timer")

    def __init__(self, change: Change, on_done: OnDone | None) -> None:
        self.change = change
        self.on_done = on_done
        self.is_withdrawn = False
        self.timer: asyncio.TimerHandle | None = None

    def tell(self, error: StoreError | None) -> None:
        """Say what became of it, once."""
        on_done, self.on_done = self.on_done, None
        if self.timer is not None:
            self.timer.cancel()
        if on_done is not None:
            on_done(error)


class StateStore:
    """Changes are committed in the order they are submitted; all that wait share a transaction.

    How a noun keeps its tables here: a module of its own in `gateway/store` (see `registry.py`) has
    the statements that make them (a version of `state_database.MIGRATIONS`), a function
    `load(select)`, and functions that return a `Change` for each thing that can happen. Whoever
    holds the noun calls `keep` before `open`, then `submit` or `commit`.

    While the disk fails changes wait, and are tried again for ever with growing pauses; a damaged
    file is put aside, and a new one made of what is in memory. Everything here is called in the
    loop's thread.
    """

    def __init__(
        self,
        path: Path,
        status: StateStatus,
        backoff: Backoff | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Nothing is touched before `open`."""
        self._path = path
        self._status = status
        self._backoff = backoff or Backoff(cap_s=BACKOFF_CAP_S)
        self._loaders: list[_Loader] = []
        self._everything: list[Callable[[], Change]] = []
        self._waiting: deque[_Waiting] = deque()
        self._database: StateDatabase | None = None
        self._has_loaded = False
        self._is_anew = False
        """The file was made anew while in use: all that is in memory is to be written first."""
        self._anew_s = float("-inf")
        self._wake = asyncio.Event()
        self._opening: asyncio.Future[_Opened] | None = None
        self._writing: asyncio.Future[None] | None = None
        progress = progress or Progress()
        self._stage = progress.stage("state")
        self._thread = OneThread("state", path, progress)

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt to open the file or to write to it failed."""
        return self._status.state == "failing"

    def keep(
        self,
        load: Callable[[Select], _T],
        take: Callable[[_T], None],
        everything: Callable[[], Change],
    ) -> None:
        """Have tables read once the database is open: in `open`, or later if the disk fails.

        Args:
            load: Reads what is kept; called in the thread, so it touches nothing but `select`.
            take: Gets what `load` returned, in the loop, before any change is committed. If the
                disk failed at the start this comes late: what is in memory by then is newer.
            everything: Returns the change that writes what is in memory into empty tables: a
                damaged file was replaced. Changes that wait come after it, once more.
        """

        def load_and_take(select: Select) -> Callable[[], None]:
            return partial(take, load(select))

        self._loaders.append(load_and_take)
        self._everything.append(everything)

    async def open(self) -> None:
        """Open the database and have what is kept taken up; if it fails `run` tries it again."""
        self._status.state = "opening"
        opening = self._begin_opening()
        await asyncio.wait([opening], timeout=OPENING_S)
        if not opening.done():
            self._failed(StoreError(f"{self._path}: not open within {OPENING_S:g} s"))
            return
        try:
            await self._open()
        except StoreError as exc:
            self._failed(exc)

    def submit(
        self, change: Change, on_done: OnDone | None = None, patience_s: float | None = None
    ) -> None:
        """Queue a change.

        Args:
            change: Is done wholly or not at all, after all that was submitted before.
            on_done: Called once, in the loop: with None when the change is on the disk, with an
                error when nobody tries any more.
            patience_s: A change that is not on the disk by then is withdrawn. (One whose commit
                hangs may be written all the same.) None to wait until it is, or the gateway ends.
        """
        waiting = _Waiting(change, on_done)
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= MAX_WAITING:
            self._waiting = deque(each for each in self._waiting if not each.is_withdrawn)
        if len(self._waiting) >= MAX_WAITING:
            error = StoreError(f"{self._path}: {MAX_WAITING} changes wait for the disk already")
            loop.call_soon(waiting.tell, error)
            return
        self._waiting.append(waiting)
        if patience_s is not None:
            waiting.timer = loop.call_later(patience_s, self._withdraw, waiting, patience_s)
        self._wake.set()

    async def commit(self, change: Change, patience_s: float | None = None) -> None:
        """Queue a change and wait until it is on the disk.

        Raises:
            StoreError: it is not, as `submit` would tell.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.submit(change, partial(_resolve, done), patience_s)
        await done

    async def copy_to(self, path: Path) -> None:
        """Write a copy of the database as it stands to a file that does not exist yet.

        Raises:
            StoreError: that is not possible now.
        """
        await asyncio.shield(self._thread.start_long(self._opened().copy_to, path))

    async def run(self) -> NoReturn:
        """Commit what is submitted, whatever the disk does."""
        while True:
            try:
                if self.is_failing:
                    await self._stage.rest(self._backoff.next_delay_s(), asyncio.sleep)
                if self._database is None:
                    self._stage.works_long("opening", LONG_S)
                    await self._open()
                while not (self._waiting or self._is_anew):
                    self._wake.clear()
                    self._thread.knock()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._stage.beat_s()):
                            await self._wake.wait()
                self._stage.works("committing")
                await self._write()
                await self._stage.rest(COMMIT_PAUSE_S, asyncio.sleep)
            except StoreError as exc:
                self._failed(exc)

    async def close(self) -> None:
        """Commit what waits, if the disk does not hang, and let go of the file; `run` has ended."""
        # Not asyncio.timeout(): on Python 3.11.2 it does not end what is being cancelled.
        busy = [each for each in (self._opening, self._writing) if each is not None]
        if busy:
            await asyncio.wait(busy, timeout=CLOSE_TIMEOUT_S)
        if self._opening is not None and self._opening.done() and not self._opening.exception():
            self._database = self._opening.result()[0]
        if self._database is not None and self._waiting and not self.is_failing:
            await asyncio.wait([self._begin_writing()], timeout=CLOSE_TIMEOUT_S)
        for waiting in self._waiting:
            waiting.tell(StoreError(f"{self._path} is closed"))
        self._waiting.clear()
        if self._database is not None:
            closing = self._thread.start(self._database.close)
            self._database = None
            await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_S)
            if closing.done() and isinstance(error := closing.exception(), StoreError):
                _log.error("%s", error)
        self._thread.end()

    # ---- opening ----

    def _begin_opening(self) -> asyncio.Future["_Opened"]:
        if self._opening is None:
            loaders = () if self._has_loaded else tuple(self._loaders)
            self._opening = self._thread.start_long(_open_and_load, self._path, loaders)
        return self._opening

    async def _open(self) -> None:
        await asyncio.wait([opening := self._begin_opening()])
        self._opening = None
        try:
            self._database, taken = opening.result()
        except StoreDamagedError as exc:
            await self._put_aside(exc)
            await self._open()
            return
        for take in taken:
            take()
        self._is_anew = self._is_anew and self._has_loaded
        self._has_loaded = True
        self._is_sound()

    async def _put_aside(self, exc: StoreDamagedError) -> None:
        """Take a damaged file out of the way.

        Raises:
            StoreError: it was done a moment ago; or the file cannot be renamed.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s < self._anew_s + ANEW_PAUSE_S:
            raise StoreError(f"{exc}, again: the disk may be damaged") from exc
        database, self._database = self._database, None
        aside = await asyncio.shield(self._thread.start(_close_and_put_aside, database, self._path))
        self._anew_s = now_s
        self._is_anew = True
        what = (
            "with what is in memory"
            if self._has_loaded
            else "without the devices it had, which have to be heard again, and the names they got"
        )
        _log.error("%s: begun anew, %s; the damaged file is now %s", exc, what, aside.name)

    # ---- writing ----

    def _begin_writing(self) -> asyncio.Future[None]:
        batch = [each for each in self._waiting if not each.is_withdrawn]
        self._waiting.clear()
        changes = [each.change for each in batch]
        if self._is_anew:
            changes = [*(everything() for everything in self._everything), *changes]
        self._writing = self._thread.start(self._opened().write, changes)
        self._writing.add_done_callback(partial(self._on_written, batch))
        return self._writing

    async def _write(self) -> None:
        await asyncio.wait([writing := self._begin_writing()])
        try:
            writing.result()
        except StoreDamagedError as exc:
            await self._put_aside(exc)

    def _on_written(self, batch: Sequence[_Waiting], writing: asyncio.Future[None]) -> None:
        self._writing = None
        if writing.cancelled() or writing.exception() is not None:  # told by whoever waits for it
            self._waiting.extendleft(each for each in reversed(batch) if not each.is_withdrawn)
            return
        self._is_anew = False
        self._status.commits += 1
        self._is_sound()
        for each in batch:
            each.tell(None)

    def _withdraw(self, waiting: _Waiting, patience_s: float) -> None:
        waiting.is_withdrawn = True
        reason = self._status.error or f"{self._path}: the disk is slow"
        waiting.tell(StoreError(f"not stored within {patience_s:g} s: {reason}"))

    def _is_sound(self) -> None:
        if self.is_failing:
            _log.info("%s can be written again", self._path)
        self._status.state, self._status.error = "ok", ""
        self._backoff.reset()

    def _failed(self, exc: StoreError) -> None:
        self._status.failures += 1
        if not self.is_failing:
            _log.error("%s; until it works again what is new of devices is kept in memory", exc)
        self._status.state, self._status.error = "failing", str(exc)

    # ---- the thread ----

    def _opened(self) -> StateDatabase:
        if self._database is None:
            raise StoreError(f"{self._path} is not open")
        return self._database


_Loader = Callable[[Select], Callable[[], None]]
_Opened = tuple[StateDatabase, Sequence[Callable[[], None]]]


def _open_and_load(path: Path, loaders: Sequence[_Loader]) -> _Opened:
    database = StateDatabase(path)
    try:
        return database, [load(database.select) for load in loaders]
    except BaseException:
        with suppress(StoreError):
            database.close()
        raise


def _close_and_put_aside(database: StateDatabase | None, path: Path) -> Path:
    # Renamed first: closing folds the WAL into the file it has open, and would remove a new one's.
    aside = put_aside(path)
    if database is not None:
        with suppress(StoreError):
            database.close()
    return aside


def _resolve(done: asyncio.Future[None], error: StoreError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)

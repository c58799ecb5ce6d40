"""The daemon, of which one part can be made to stand still: `freezable.py FILE ITS OWN WORDS`.

On SIGUSR2 FILE tells what is frozen, as long as the process lives:

- `task NAME`: the asyncio task of that name gets no more turns, whatever it waits for comes; it
  does not even hear that it is cancelled.
- `coming NAME`: the same for tasks of that name that are yet to be made.
- `thread NAME`: the thread whose name begins so stops where it is, as by a SIGSTOP of its own.
- `loop`: the event loop's thread sleeps.

Several are parted by `; `. None of the daemon's code knows of it. "frozen: " and what on stderr
says that it is done.
"""

import asyncio
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

FOR_EVER_S = 3600.0
PR_SET_PTRACER = 0x59616D61
STOP = signal.SIGRTMIN + 7

_frozen: set[str] = set()


class _Turns(Coroutine[Any, Any, Any]):
    """A task's coroutine, which gets its turns while the task is not frozen."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        self.task: asyncio.Task[Any] | None = None

    def send(self, value: Any) -> Any:  # noqa: ANN401 - as of any coroutine
        return self._standstill() if self._is_frozen() else self._inner.send(value)

    def throw(
        self,
        kind: Any,  # noqa: ANN401 - as of any coroutine
        *more: Any,  # noqa: ANN401 - as of any coroutine
    ) -> Any:  # noqa: ANN401 - as of any coroutine
        return self._standstill() if self._is_frozen() else self._inner.throw(kind, *more)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def _is_frozen(self) -> bool:
        return self.task is not None and self.task.get_name() in _frozen

    @staticmethod
    def _standstill() -> Any:  # noqa: ANN401 - what a task expects of a coroutine that waits
        return next(asyncio.get_running_loop().create_future().__await__())


def _make_task(
    loop: asyncio.AbstractEventLoop,
    work: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
    **more: Any,  # noqa: ANN401 - context, and whatever later versions pass on
) -> asyncio.Task[Any]:
    assert isinstance(work, Coroutine)
    turns = _Turns(work)
    task = asyncio.Task(turns, loop=loop, **more)
    turns.task = task
    return task


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        loop.set_task_factory(_make_task)
        return loop


def _freeze(wishes: str) -> None:
    for wish in wishes.split("; "):
        _freeze_one(*wish.strip().partition(" ")[::2])
    print(f"frozen: {wishes}", file=sys.stderr, flush=True)  # noqa: T201 - whoever asked waits for it
    if wishes == "loop":
        time.sleep(FOR_EVER_S)


def _freeze_one(what: str, name: str) -> None:
    if what == "coming":
        _frozen.add(name)
    elif what == "task":
        names = {task.get_name() for task in asyncio.all_tasks(asyncio.get_event_loop())}
        assert name in names, f"no task {name}, but {names}"
        _frozen.add(name)
    elif what == "thread":
        threads = [each for each in threading.enumerate() if each.name.startswith(name)]
        assert threads, f"no thread {name}, but {threading.enumerate()}"
        for thread in threads:
            assert thread.ident is not None
            signal.pthread_kill(thread.ident, STOP)


def main() -> None:
    """Be the daemon."""
    wish = Path(sys.argv[1])
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)  # where Yama would not let strace
    # A handler in C is called in the thread that is meant, without Python: pause(2) is one.
    libc.signal(STOP, ctypes.cast(libc.pause, ctypes.c_void_p))
    asyncio.set_event_loop_policy(_Policy())
    signal.signal(signal.SIGUSR2, lambda *_: _freeze(wish.read_text()))

    from gateway.cli import main as run  # noqa: PLC0415 - its tasks are made by our policy

    sys.argv = ["edge-gateway", *sys.argv[2:]]
    sys.exit(run())


if __name__ == "__main__":
    main()

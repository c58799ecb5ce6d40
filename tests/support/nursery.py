"""Python processes that need not start from nothing: they are forked from one that has imported.

Most of what a short test with a process costs is what Python imports. Here a process (a nursery) of
the same Python, with the same options, has imported it, and forks for each command that is asked
for; it is the test's own child all the same, with its own descriptors, folder, environment, signals
and exit code. What a nursery cannot do is done in the ordinary way: other programs, an environment
that Python looks at when it starts, a system without subreapers. Tests that measure time or memory
(mark `alone`) always start theirs in the ordinary way.
"""

import asyncio
import contextlib
import ctypes
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
"""Source: prctl(2)."""

MESSAGE_BYTES = 1 << 18
IMPORTS: Mapping[str, Sequence[str]] = {
    "module": (
        *("gateway.cli.run", "gateway.cli.check_config", "gateway.cli.sniff", "gateway.cli.scan"),
        *("gateway.simulate.radio.bleak_backend", "gateway.simulate.radio.server", "rich.live"),
    ),
    "script": ("asyncio", "json", "select", "socket", "struct", "random", "termios", "hashlib"),
}
"""What commands of ours (`-m gateway ...`) and scripts import."""

_EXECUTE = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]  # noqa: SLF001 - where a process is made
_is_in_use = True
_nurseries: dict[tuple[str, ...], "Nursery | None"] = {}
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class Start:
    """What is to be run, by `python *options *target *words`."""

    options: tuple[str, ...]
    target: str
    """`module` or `script`."""
    name: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, command: Sequence[object]) -> "Start | None":
        """Take a command apart; None if it is not one for a nursery."""
        program, *rest = [os.fspath(each) for each in command]  # type: ignore[call-overload]
        if program != sys.executable:
            return None
        options: list[str] = []
        while rest and rest[0] in {"-X", "-W"}:
            options += rest[:2]
            rest = rest[2:]
        if rest[:2] == ["-m", "gateway"]:
            return cls(tuple(options), "module", "gateway", tuple(rest[2:]))
        if rest and rest[0].endswith(".py"):
            return cls(tuple(options), "script", rest[0], tuple(rest[1:]))
        return None


class Nursery:
    """A process that forks."""

    def __init__(self, options: Sequence[str], target: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *options, "-m", "tests.support.nursery"),
                    *(str(theirs.fileno()), *IMPORTS[target]),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self.socket = ours

    def fork(
        self, start: Start, folder: str, environment: Mapping[str, str], fds: Sequence[int]
    ) -> int:
        """Return the pid of a new child of ours, or 0 if the nursery is gone."""
        request = [start.target, start.name, start.words, folder, dict(environment)]
        with _one_at_a_time:  # or another thread ends the adoption before this child is born
            _adopt(orphans=True)
            try:
                socket.send_fds(self.socket, [json.dumps(request).encode()], fds)
                return int(self.socket.recv(64) or b"0")
            except OSError:
                return 0
            finally:
                _adopt(orphans=False)

    def close(self) -> None:
        """Let it end."""
        self.socket.close()
        self.process.wait()


def start_anew(*, wanted: bool) -> None:
    """Make every process in the ordinary way from now on, or no longer."""
    global _is_in_use  # noqa: PLW0603 - for the length of a test
    _is_in_use = not wanted


def close_all() -> None:
    """End what was started here."""
    for nursery in filter(None, _nurseries.values()):
        nursery.close()
    _nurseries.clear()


def ours() -> tuple[set[int], set[int]]:
    """Return the descriptors and the processes that are here to stay."""
    nurseries = [each for each in _nurseries.values() if each is not None]
    return {each.socket.fileno() for each in nurseries}, {each.process.pid for each in nurseries}


class Popen(subprocess.Popen[bytes]):
    """A process that is forked in a nursery where that can be done."""

    def _execute_child(self, *arguments: Any) -> None:  # noqa: ANN401 - as subprocess has them
        named = _EXECUTE.bind(self, *arguments).arguments
        pid = self._fork(named)
        if not pid:
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        self.pid = pid
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(named[name] for name in pipes))  # type: ignore[attr-defined]

    def _fork(self, named: Mapping[str, Any]) -> int:
        start = Start.of(named["args"]) if isinstance(named["args"], list | tuple) else None
        environment = os.environ if named["env"] is None else named["env"]
        special = ("preexec_fn", "pass_fds", "shell", "start_new_session", "executable")
        if start is None or any(named[name] for name in special) or not _is_in_use:
            return 0
        if _seen_at_start(environment) != _seen_at_start(os.environ):
            return 0
        nursery = _nursery(start.options, start.target)
        if nursery is None:
            return 0
        wanted = [named["p2cread"], named["c2pwrite"], named["errwrite"]]
        fds = [fd if fd != -1 else own for own, fd in enumerate(wanted)]
        return nursery.fork(start, os.fspath(named["cwd"] or os.getcwd()), environment, fds)


class Child:
    """A process of an event loop, as asyncio's; it is watched until it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: asyncio.StreamReader) -> None:
        self.stderr = stderr
        self._process = process
        self._ended = asyncio.Event()
        self._watch = os.pidfd_open(process.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._watch, self._reap)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def _reap(self) -> None:
        self._loop.remove_reader(self._watch)
        os.close(self._watch)
        self._process.wait()
        self._ended.set()


async def start_child(command: Sequence[str], environment: Mapping[str, str] | None) -> Child:
    """Start a process without input whose stderr is read."""
    process = Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    stderr = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stderr), process.stderr
    )
    return Child(process, stderr)


def run(
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    folder: os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float,
) -> subprocess.CompletedProcess[bytes]:
    """Run a process to its end and collect what it writes, as subprocess.run does."""
    with Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _seen_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what Python looks at when it starts."""
    looked_at = ("PYTHON", "LC_", "LANG", "LD_", "TZ")
    return {key: value for key, value in environment.items() if key.startswith(looked_at)}


def _nursery(options: tuple[str, ...], target: str) -> Nursery | None:
    key = (target, *options)
    with _one_at_a_time:
        if key not in _nurseries:
            _nurseries[key] = Nursery(options, target) if _can_adopt() else None
        return _nurseries[key]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@cache
def _can_adopt() -> bool:
    """Tell whether a process that lost its parent can become ours."""
    return sys.platform == "linux" and _adopt(orphans=False)


def _adopt(*, orphans: bool) -> bool:
    """Be the parent of descendants that lost theirs, or leave them to init; tell if that can be."""
    return bool(_libc().prctl(PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0) == 0)


@contextlib.contextmanager
def _as_main(path: str) -> Iterator[dict[str, Any]]:
    """Give the namespace of a new module `__main__`."""
    main = type(sys)("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    yield main.__dict__


def _fork_on_demand(control: socket.socket) -> tuple[list[Any], list[int]]:
    """Fork for each request until there are no more; returns where it was forked, with it."""
    while True:
        message, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
        if not message:
            os._exit(0)
        answer, tell = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                return json.loads(message), fds
            os.write(tell, str(pid).encode())
            os._exit(0)  # and the child is adopted
        os.close(tell)
        pid_text = os.read(answer, 64)
        os.close(answer)
        for fd in fds:
            os.close(fd)
        os.waitpid(between, 0)
        control.send(pid_text)


def _become(folder: str, environment: Mapping[str, str], fds: Sequence[int]) -> None:
    """Be as a process that was just started."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    os.closerange(3, 1024)
    os.chdir(folder)
    for key in os.environ.keys() - environment.keys():
        del os.environ[key]
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        was = getattr(sys, name)
        is_raw = mode == "w" and bool(environment.get("PYTHONUNBUFFERED"))
        stream = os.fdopen(number, f"{mode}b", 0 if is_raw else -1, closefd=False)
        text = type(was)(
            *(stream, was.encoding, was.errors),
            line_buffering=name == "stderr" or os.isatty(number),
            write_through=is_raw,
        )
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def _main() -> None:
    import gc  # noqa: PLC0415 - only here
    import importlib  # noqa: PLC0415 - only here
    import runpy  # noqa: PLC0415 - only here

    control_fd, *modules = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(control_fd))
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    (target, name, words, folder, environment), fds = _fork_on_demand(control)
    control.detach()
    _become(folder, environment, fds)
    sys.argv = [name, *words]
    if target == "module":
        sys.path[0] = folder
        runpy.run_module(name, run_name="__main__", alter_sys=True)
        return
    sys.path[0] = os.path.dirname(os.path.join(folder, name))
    with open(name, "rb") as source:
        code = compile(source.read(), name, "exec")
    with _as_main(name) as namespace:
        exec(code, namespace)  # noqa: S102 - a test's own script


if __name__ == "__main__":
    _main()

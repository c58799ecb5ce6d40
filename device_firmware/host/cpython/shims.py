"""Gives CPython's modules what MicroPython's have beyond them; the process runs nothing else."""

import asyncio
import gc
import io
import os
import select
import sys
import time
import traceback

_TICKS_PERIOD = 1 << 30
_PLENTY = 1 << 24  # bytes of heap: CPython's has no end


def install():
    """Change the standard library's modules for this process."""
    _add_ticks()
    _add_heap()
    _unbuffer()
    os.ilistdir = _ilistdir
    sys.print_exception = _print_exception
    select.poll = Poll
    asyncio.sleep_ms = lambda ms: asyncio.sleep(ms / 1000)
    asyncio.wait_for_ms = lambda awaitable, ms: asyncio.wait_for(awaitable, ms / 1000)
    asyncio.StreamReader = StreamReader
    asyncio.readable = _readable
    asyncio.ThreadSafeFlag = ThreadSafeFlag


def _add_ticks():
    time.ticks_ms = lambda: time.monotonic_ns() // 1_000_000 % _TICKS_PERIOD
    time.ticks_us = lambda: time.monotonic_ns() // 1_000 % _TICKS_PERIOD
    time.ticks_add = lambda ticks, delta: (ticks + delta) % _TICKS_PERIOD
    time.ticks_diff = _ticks_diff
    time.sleep_ms = lambda ms: time.sleep(ms / 1000)
    time.sleep_us = lambda us: time.sleep(us / 1_000_000)


def _ticks_diff(end, start):
    half = _TICKS_PERIOD // 2
    return (end - start + half) % _TICKS_PERIOD - half


def _add_heap():
    gc.mem_free = lambda: _PLENTY
    gc.mem_alloc = lambda: 0
    gc.threshold = lambda amount=-1: None


def _ilistdir(path="."):
    """Yield (name, type, inode) of each file."""
    for entry in os.scandir(path):
        yield entry.name, 0x4000 if entry.is_dir() else 0x8000, entry.inode()


def _unbuffer():
    """Let standard input and output be streams that hold nothing back, as a board's are.

    What CPython had read ahead, poll() would not know of.
    """
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)


def _print_exception(error, file=None):
    traceback.print_exception(error, file=file or sys.stdout)


class Poll:
    """MicroPython's poll object: it has ipoll, and takes streams."""

    def __init__(self):
        self._poll = _poll()

    def register(self, stream, events=select.POLLIN | select.POLLOUT):
        self._poll.register(stream, events)

    def unregister(self, stream):
        self._poll.unregister(stream)

    def modify(self, stream, events):
        self._poll.modify(stream, events)

    def poll(self, timeout_ms=-1):
        return self._poll.poll(timeout_ms)

    ipoll = poll


_poll = select.poll


class StreamReader:
    """MicroPython's: around any stream with a descriptor; reads what is there, once some is."""

    def __init__(self, stream):
        self.s = stream

    async def readinto(self, buffer):
        await _readable(self.s)
        return self.s.readinto(buffer)


async def _readable(stream):
    descriptor = stream.fileno()
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(descriptor, _finish, ready)
    except PermissionError:  # a file or /dev/null, which never has to be waited for
        await asyncio.sleep(0)
        return
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _finish(future):
    if not future.done():
        future.set_result(None)


class ThreadSafeFlag:
    """An event that any thread may set; waiting clears it."""

    def __init__(self):
        self._event = asyncio.Event()
        self._loop = None
        self._set = False

    def set(self):
        self._set = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._event.set)

    def clear(self):
        self._set = False
        self._event.clear()

    async def wait(self):
        self._loop = asyncio.get_running_loop()
        if not self._set:
            await self._event.wait()
        self.clear()

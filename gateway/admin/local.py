"""The door for this machine: a socket in the file system that takes requests as lines of JSON.

Who may come in is a matter of the file's rights, so it takes what MQTT must not carry: keys, ports
that are lent. `{"verb": ..., "fields": {...}}` in, `{"gateway": ..., "status": ...}` out.
"""

import asyncio
import json
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from gateway import files
from gateway.admin.desk import Desk, Place, Undone, Verb
from gateway.errors import LinkError, RequestError
from gateway.links.threads import Call
from gateway.links.unix_names import reachable
from gateway.progress import Progress, Stage
from gateway.requests.asking import AdminRequest
from gateway.requests.local import MAX_LINE_BYTES, read_envelope, read_local

_log = logging.getLogger(__name__)

MAX_CLIENTS: Final = 8
"""Connections at a time; another is told so, and closed."""

PATIENCE_S: Final = 30.0
"""A client that says nothing, or does not take its answer, for so long is left."""

AGAIN_S: Final = 30.0
"""Pause after the socket could not be made."""

_BACKLOG = 8


class _Listening(NamedTuple):
    listener: socket.socket
    inode: int


class LocalDoor:
    """Listens for as long as it runs; if it cannot, it says so and tries again now and then.

    Nothing that a client does ends the gateway, or holds it up.
    """

    def __init__(
        self,
        path: Path,
        gateway: str,
        counts: Counter[str],
        *,
        is_runtime: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """`gateway` is our name: who means another one is refused.

        `is_runtime`: systemd made the folder, so that its rights say whether a group may come in.
        """
        self.listening = asyncio.Event()
        """Set once there is somebody to ask."""
        self._path = path
        self._is_runtime = is_runtime
        self._gateway = gateway
        self._progress = progress or Progress()
        self._stage = self._progress.stage("door")
        self._desk = Desk(counts, progress)
        self._tasks: asyncio.TaskGroup | None = None
        self._clients = 0

    async def run(self, verbs: Mapping[str, Verb]) -> NoReturn:
        """Do what is asked for, for ever."""
        self._desk.open(verbs)
        is_told = False
        while True:
            self._stage.works("making the socket")
            try:
                listening = await Call(self._listen, _close).result()
            except (OSError, LinkError) as exc:
                if not is_told:
                    reason = getattr(exc, "strerror", None) or exc
                    _log.warning("%s: no requests from this machine: %s", self._path, reason)
                    is_told = True
                await self._stage.rest(AGAIN_S, asyncio.sleep)
            else:
                await self._serve(listening)

    async def _serve(self, listening: _Listening) -> NoReturn:
        server = None
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                server = await asyncio.start_unix_server(
                    self._welcome, sock=listening.listener, limit=MAX_LINE_BYTES
                )
                self.listening.set()
                await self._stage.rest_for_ever(asyncio.sleep)
        finally:
            self._tasks = None
            self._desk.close()
            if server is not None:
                server.close()
            listening.listener.close()
            with suppress(OSError):  # it is gone, or another's by now
                if self._path.lstat().st_ino == listening.inode:
                    self._path.unlink()

    def _listen(self) -> _Listening:
        """Make the socket; a file that nobody listens to any more makes way.

        Raises:
            OSError: it cannot be made there, or another gateway listens.
        """
        folder = self._path.parent
        files.make_folder(folder)
        with reachable(self._path) as name:
            _remove_stale(self._path, name)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                listener.setblocking(False)
                # Before it has a name: at no moment may others connect. Source: unix(7), Linux
                # makes the file with the mode that the socket has.
                os.fchmod(listener.fileno(), 0o600)
                listener.bind(name)
                mode = folder.stat().st_mode
                if self._is_runtime and mode & stat.S_IXGRP and not mode & stat.S_IXOTH:
                    self._path.chmod(0o660)
                listener.listen(_BACKLOG)
                return _Listening(listener, self._path.lstat().st_ino)
            except BaseException:
                listener.close()
                raise

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._tasks is None or self._clients >= MAX_CLIENTS:
            error = f"busy: {MAX_CLIENTS} others are connected; ask again"
            writer.write(self._line({"status": "error", "error": error}))
            writer.close()
            return
        self._clients += 1
        stage = self._progress.stage("local requests")
        stage.waits(PATIENCE_S)
        self._tasks.create_task(self._attend(reader, writer, stage), name="local requests")

    async def _attend(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stage: Stage
    ) -> None:
        """Do what one client asks for, one request after another, until it leaves."""
        try:
            while True:
                stage.waits(PATIENCE_S)
                async with asyncio.timeout(PATIENCE_S):
                    line = await reader.readuntil(b"\n")
                stage.idles()  # a request that is being done is a stage
                writer.write(await self._answer(line))
                stage.waits(PATIENCE_S)
                async with asyncio.timeout(PATIENCE_S):
                    await writer.drain()
        except asyncio.LimitOverrunError:
            error = f"a line has at most {MAX_LINE_BYTES} bytes"
            writer.write(self._line({"status": "error", "error": error}))
        except TimeoutError:
            writer.transport.abort()  # what it does not take is held no longer
        except (OSError, EOFError):
            pass  # it left
        except Exception as exc:  # noqa: BLE001 - a client's border: it must not end the gateway
            _log.error("a request from this machine failed", exc_info=exc)
        finally:
            self._clients -= 1
            stage.leave()
            writer.close()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request, place = self._read(line)
        except RequestError as exc:
            self._desk.refuse("local", Undone(str(exc)))
            return self._line({"status": "error", "error": str(exc)})
        outcome = await self._desk.do(place, request)
        if isinstance(outcome, Undone):
            return self._line({"status": "error", "error": outcome.error})
        return self._line({"status": "ok", "data": outcome.data})

    def _read(self, line: bytes) -> tuple[AdminRequest, Place]:
        """Return what is asked for, and the place that is taken for it.

        Raises:
            RequestError: it cannot be done as it stands, or not now.
        """
        envelope = read_envelope(line)
        if envelope.gateway not in {"", self._gateway}:
            raise RequestError(f'this is the gateway "{self._gateway}"')
        request = read_local(envelope)
        return request, self._desk.begin(envelope.verb)

    def _line(self, fields: Mapping[str, object]) -> bytes:
        said = json.dumps({"gateway": self._gateway, **fields}, ensure_ascii=False)
        return said.encode(errors="replace") + b"\n"


def _close(listening: _Listening) -> None:
    listening.listener.close()


def _remove_stale(path: Path, name: str) -> None:
    """Remove the socket of a gateway that is not there any more.

    Raises:
        OSError: something else has that name, or a gateway listens there.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError("something that is no socket has that name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # somebody listens, and has much to do
    raise FileExistsError("another gateway listens there")

"""Gateways that are born and killed in milliseconds: each is forked from a process that has it all
imported, and is told over a socket what its devices say.

No device is simulated here: what a driver would make of bytes is given to the pipeline.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

TIMEOUT_S = 30.0
LINK = "port"


class Hatched:
    """One life of a gateway."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT_S)
        self._connection = connection
        self._file = connection.makefile("rw", encoding="utf-8")
        self.pid: int = json.loads(self._file.readline())

    def ask(self, do: str, **given: Any) -> Any:  # noqa: ANN401 - JSON
        """Have something done in the gateway's loop; return the answer.

        Raises:
            AssertionError: it ended, or failed at it.
        """
        self.begin(do, **given)
        line = self._file.readline()
        assert line, f"the gateway ended while asked to {do}"
        answer = json.loads(line)
        assert "failed" not in answer, f"{do}: {answer['failed']}"
        return answer["done"]

    def begin(self, do: str, **given: Any) -> None:  # noqa: ANN401 - JSON
        """Have something done, and do not wait for it."""
        self._file.write(json.dumps({"do": do, **given}) + "\n")
        self._file.flush()

    def kill(self) -> None:
        """End it as a power cut does."""
        with suppress(ProcessLookupError):  # it ended by itself, and the test fails for that
            os.kill(self.pid, signal.SIGKILL)
        self._until_gone()

    def stop(self) -> None:
        """Ask it to end in order."""
        self.ask("stop")
        self._until_gone()

    def _until_gone(self) -> None:
        with self._connection:
            with suppress(ConnectionResetError):
                self._file.read()  # to its end, which comes when the process has gone
            self._file.close()


class Nest:
    """Where gateways hatch; `with Nest.ready(folder) as nest`."""

    def __init__(self, folder: Path, program: subprocess.Popen[bytes]) -> None:
        self._program = program
        self._path = folder / "nest"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._listener.settimeout(TIMEOUT_S)

    @classmethod
    @contextmanager
    def ready(cls, folder: Path) -> Iterator[Self]:
        """Have one for the length of a with block; sockets need a short path."""
        command = [sys.executable, "-m", "tests.support.nest"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as program:
            nest = cls(folder, program)
            try:
                yield nest
            finally:
                nest._listener.close()
                program.kill()

    def hatch(self, settings: dict[str, Any]) -> Hatched:
        """Start a gateway, and return once it runs."""
        assert self._program.stdin is not None
        order = {"settings": settings, "socket": str(self._path)}
        self._program.stdin.write(json.dumps(order).encode() + b"\n")
        self._program.stdin.flush()
        connection, _ = self._listener.accept()
        return Hatched(connection)


def main() -> None:
    """Fork a gateway for each line; the parts they are made of are imported once."""
    from gateway.app import App  # noqa: F401, PLC0415 - imported before the first fork

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who was killed needs no burial
    for line in sys.stdin.buffer:
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        order = json.loads(line)
        asyncio.run(_live(order["settings"], order["socket"]))
        os._exit(0)


async def _live(settings: dict[str, Any], path: str) -> None:
    from gateway.app import App  # noqa: PLC0415 - see main
    from gateway.config.models import Settings  # noqa: PLC0415

    app = App(Settings.model_validate(settings))
    is_ready = asyncio.Event()
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(is_ready.set))
        await is_ready.wait()
        writer.write(f"{os.getpid()}\n".encode())
        try:
            while line := await reader.readline():
                order = json.loads(line)
                do = order.pop("do")
                if do == "stop":
                    break
                writer.write(json.dumps(_answer(Deeds(app), do, order)).encode() + b"\n")
        finally:
            running.cancel()
    writer.write(b'{"done":null}\n')
    await writer.drain()


def _answer(deeds: "Deeds", do: str, given: dict[str, Any]) -> dict[str, Any]:
    act: Callable[..., Any] = getattr(deeds, do)
    try:
        return {"done": act(**given)}
    except Exception as exc:  # noqa: BLE001 - the test is told, and fails
        return {"failed": repr(exc)}


class Deeds:
    """What a gateway can be asked to do."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - imported late
        self._app = app

    def seen(self, key: str, sensors: list[str], actuators: dict[str, bool]) -> None:
        """Let a board say what it is."""
        from gateway.model import Actuator, Description, Seen, Sensor  # noqa: PLC0415 - see main

        description = Description(
            key,
            f"Board {key}",
            "board",
            sensors=tuple(Sensor(each) for each in sensors),
            actuators=tuple(
                Actuator(each, each, "switch", state=state) for each, state in actuators.items()
            ),
            boot=1,
        )
        self._app._pipeline.accept(LINK, [Seen(description)])  # noqa: SLF001 - as its links do

    def sample(self, key: str, boot: int, seq: int, values: dict[str, float]) -> None:
        """Let a board give a reading."""
        from gateway.clock import Clock  # noqa: PLC0415 - see main
        from gateway.model import Readings, Sample  # noqa: PLC0415

        sample = Sample(key, boot, seq, Clock().monotonic_s(), values)
        self._app._pipeline.accept(LINK, [Readings(key, (sample,))])  # noqa: SLF001 - as above

    def left(self, key: str) -> None:
        """Let a board leave."""
        from gateway.model import Gone  # noqa: PLC0415 - see main

        self._app._pipeline.accept(LINK, [Gone(key, "unplugged")])  # noqa: SLF001 - as above

    def rename(self, key: str, name: str) -> str:
        """Rename a device; return why not, if that is refused."""
        from gateway.errors import RequestError  # noqa: PLC0415 - see main

        try:
            self._app.devices.rename(key, name)
        except RequestError as exc:
            return str(exc)
        return ""

    def replace(self, key: str, by: str) -> str:
        """Have a device go on in the place of another; return why not, if that is refused."""
        from gateway.errors import RequestError  # noqa: PLC0415 - see main

        try:
            self._app.devices.replace(key, by)
        except RequestError as exc:
            return str(exc)
        return ""

    def remove(self, key: str) -> None:
        """Remove a device, if it is known."""
        if self._app.devices.get(key) is not None:
            self._app.devices.remove(key)

    def configure(self, devices: dict[str, list[Any]]) -> None:
        """Take up another configuration of devices: name and enabled of each."""
        from gateway.devices.device import Declared  # noqa: PLC0415 - see main

        declared = {key: Declared(*given) for key, given in devices.items()}
        self._app.devices.reconfigure(declared)

    def known(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each device."""
        return {
            device.key: {
                "identity": device.identity,
                "level": device.level,
                "own_name": device.own_name,
                "own_level": device.own_level,
                "sensors": [each.key for each in device.description.sensors],
                "actuators": {each.key: each.state for each in device.description.actuators},
            }
            for device in self._app.devices
        }

    def is_settled(self, connects: int) -> bool:
        """Tell whether all is published, on at least that many connections."""
        app = self._app
        announcer = app._announcer  # noqa: SLF001 - its second of patience is passed over
        for key in announcer._due:  # noqa: SLF001 - as above
            announcer._due[key] = 0.0  # noqa: SLF001 - as above
        announcer.tick()
        publisher = app._publisher  # noqa: SLF001 - nobody else asks
        broker = app.status.broker
        return (
            broker.connected
            and broker.connects >= connects
            and publisher._own_status._is_born  # noqa: SLF001 - as above
            and not len(publisher._documents)  # noqa: SLF001 - as above
            and not publisher._retained._clearing  # noqa: SLF001 - as above
            and not publisher._retained._noting  # noqa: SLF001 - as above
            and not publisher._shipments.newest._due  # noqa: SLF001 - as above
            and not broker.in_flight
            and not app.outbox.size
            and app._storage.registry.is_idle  # noqa: SLF001 - as above
        )

    def connects(self) -> int:
        """Return how often it has connected."""
        count: int = self._app.status.broker.connects
        return count


if __name__ == "__main__":
    main()

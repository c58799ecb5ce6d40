"""Boards with a key: the real firmware, the daemon, and somebody on the wire between them."""

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import control
from gateway.config.models import Settings
from gateway.errors import LinkError, NotRunningError, RequestError
from gateway.protocol.frames import Frame, encode_frame, open_frame
from gateway.protocol.messages import Command, Hello, MessageType, decode, encode
from gateway.protocol.sealed import key_id
from gateway.simulate.boards import FirmwareBoard, Flash, Json
from gateway.simulate.firmware import find_interpreter
from tests.support.broker import Broker
from tests.support.commander import Commander
from tests.support.commands import gateway
from tests.support.daemon import Daemon, running_daemon
from tests.support.figures import Figures
from tests.support.tap import Tap, kind_of

BASE = "edge/test"
KEY, OTHER_KEY = bytes(range(32)), b"\xb2" * 32
SEALED_COMMAND = MessageType.COMMAND | 0x80
SEALED_ANSWER = MessageType.RESPONSE | 0x80
CONFIG: dict[str, Json] = {
    "name": "shed",
    "links": ["stdio"],
    "sensors": [{"kind": "simulated", "name": "demo", "interval_ms": 200, "exponent": 0}],
    "actuators": [{"kind": "relay", "name": "pump", "pin": 5, "min_interval_ms": 0}],
}


class Site:
    """A keyed board, a tap, and a daemon that can be killed and started again."""

    def __init__(self, folder: Path, broker: Broker, board: FirmwareBoard, tap: Tap) -> None:
        self.folder = folder
        self.broker = broker
        self.board = board
        self.tap = tap
        self.device = ""
        self.transactions = 0
        state = folder / "state"
        self.environment = {**os.environ, "STATE_DIRECTORY": str(state)}
        self.keys = state / "keys"
        socket = str(state / "control.sock")
        self.settings = Settings.model_validate({"gateway": {"control_socket": socket}})

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        async with running_daemon(
            *(self.folder / "daemon", self.broker.port, f"{self.folder}/ttyA"),
            environment=self.environment,
        ) as daemon:
            yield daemon
        self.tap.release()

    async def ask(self, verb: str, **fields: object) -> Any:  # noqa: ANN401 - JSON
        return await asyncio.to_thread(control.ask, self.settings, verb, fields)

    async def keys_command(self, *words: str) -> tuple[int, str]:
        config = str(self.folder / "daemon" / "gateway.toml")
        run = partial(gateway, "keys", *words, "--config", config, environment=self.environment)
        done = await asyncio.to_thread(run)
        return done.code, done.out + done.err

    async def only_device(self) -> str:
        """Return the key of the one device there is."""
        (listed,) = (await self.ask("devices"))["devices"]
        return str(listed["device"])

    def key_on_board(self) -> bytes:
        return (self.board.root / "device.key").read_bytes()

    async def pump(self, client: Commander, value: bool) -> dict[str, object]:
        """Set the pump; return the result."""
        self.transactions += 1
        name = f"t{self.transactions}"
        said = {"transaction": name, "set": {"pump": value}, "expires_s": 20.0}
        await client.say(f"{self.device}/command", said)
        return await client.result(name)


@asynccontextmanager
async def keyed_site(micropython: Path, broker: Broker, folder: Path) -> AsyncIterator[Site]:
    interpreter = await asyncio.to_thread(find_interpreter, str(micropython))
    root = folder / "flash"
    root.mkdir()
    (root / "device.key").write_bytes(KEY)
    board = FirmwareBoard(folder / "board", root, Flash(CONFIG), interpreter)
    tap = Tap(folder / "board", folder / "ttyA")
    async with asyncio.timeout(200), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(board.run())
        while not (folder / "board").exists():  # noqa: ASYNC110 - a port appears, and tells nobody
            await asyncio.sleep(0.01)
        tap.open()
        try:
            yield Site(folder, broker, board, tap)
        finally:
            tap.close()
            running.cancel()


async def try_without_the_key(site: Site, client: Commander) -> None:
    """No key, then a wrong one: the board is read, and not commanded."""
    without = await site.pump(client, True)
    _, told_without = await site.keys_command("list")
    await site.ask("keep_key", device=site.device, key=OTHER_KEY.hex())
    wrong = await site.pump(client, True)

    assert without["status"] == wrong["status"] == "failed"
    assert f"sealed with its key ({key_id(KEY)})" in str(without["error"])
    assert "this gateway has none for it" in str(without["error"])
    assert f"another one for it ({key_id(OTHER_KEY)})" in str(wrong["error"])
    assert "which is not here: it is read, not commanded" in told_without
    kinds = {kind_of(line) for line in site.tap.to_board}
    assert not kinds & {MessageType.COMMAND, SEALED_COMMAND}


async def bring_the_key(site: Site, client: Commander) -> None:
    """By the command line; then commands are done."""
    exported = site.folder / "device-keys"
    exported.write_text(f"{site.device} {KEY.hex()}\n")
    brought = await site.keys_command("import", str(exported))
    done = [await site.pump(client, True), await site.pump(client, False)]
    _, listed = await site.keys_command("list")
    _, told = await site.keys_command("export")

    assert brought == (0, f"{site.device}: kept with the running gateway\n")
    assert [each["status"] for each in done] == ["done", "done"], done
    assert "in use" in listed
    assert f"{site.device} (shed)  " in listed, "as topics have it, and as people do"
    assert told == exported.read_text()
    assert stat.S_IMODE((site.keys / site.device).stat().st_mode) == 0o600
    await client.until_heard(f"{site.device}/pump/state", b"false")


async def replay(site: Site, client: Commander) -> list[bytes]:
    """What was recorded, and what is not sealed, changes nothing; return what was recorded."""
    tap, topic = site.tap, f"{BASE}/{site.device}/pump/state"
    recorded = tap.sealed_to_board()
    states, answers = len(client.heard.on(topic)), tap.count(SEALED_ANSWER)
    plain = Command("set", {"pump": True}, 9000, "an attacker's")
    for line in (*recorded, encode_frame(encode(plain, 77)).rstrip(b"\n")):
        tap.say_to_board(line)
    done = await site.pump(client, False)

    assert len(recorded) >= 2
    assert done["status"] == "done"
    assert all(each.payload == b"false" for each in client.heard.on(topic)[states:])
    assert tap.count(SEALED_ANSWER) == answers + 1
    refused = [line for line in tap.to_gateway if kind_of(line) == MessageType.RESPONSE]
    assert [b"needs the key" in payload_of(line) for line in refused] == [True]
    return recorded


async def rotate(site: Site, client: Commander) -> None:
    """By the command line; the old key is gone, and no key is in what is shown."""
    code, told = await site.keys_command("rotate", site.device)
    new_key = site.key_on_board()
    done = await site.pump(client, False)
    report, backup = str(await site.ask("diagnostics")), str(await site.ask("backup"))

    assert (code, told) == (0, f"{site.device}: has a new key, {key_id(new_key)}\n")
    assert new_key != KEY
    assert (site.keys / site.device).read_text() == new_key.hex() + "\n"
    assert done["status"] == "done"
    with pytest.raises(RequestError, match="without it nobody can command"):
        await site.ask("remove_key", device=site.device)
    assert not [key for key in (KEY, OTHER_KEY, new_key) if key.hex() in report]
    assert f"keys/{site.device}" in backup


async def test_a_keyed_board_is_commanded_by_who_has_its_key_and_by_nobody_else(
    micropython_bin: Path, broker: Broker, tmp_path: Path
) -> None:
    async with (
        keyed_site(micropython_bin, broker, tmp_path) as site,
        Commander(broker.host, broker.port, BASE) as client,
    ):
        tap = site.tap
        async with site.daemon() as daemon:
            await client.heard.wait_for(lambda _: client.heard.on(f"{BASE}/+/state"))
            site.device = await site.only_device()
            await try_without_the_key(site, client)
            await bring_the_key(site, client)
            recorded = await replay(site, client)
            os.kill(daemon.pid, signal.SIGKILL)
            await daemon.stop()

        # Another run of the gateway goes on with the counter; another life of the board, anew.
        before = counter_of(tap.sealed_to_board()[-1])
        async with site.daemon():
            again = await site.pump(client, True)
            first = counter_of(tap.sealed_to_board()[-1])
            for line in recorded:
                tap.say_to_board(line)
            hellos = tap.count(MessageType.HELLO)
            site.board.cut_power()
            await tap.until_more(MessageType.HELLO, hellos)
            anew = await site.pump(client, True)
            for line in recorded:
                tap.say_to_board(line)
            last = await site.pump(client, True)

            assert [each["status"] for each in (again, anew, last)] == ["done"] * 3
            assert first == before + 1
            assert [counter_of(line) for line in tap.sealed_to_board()[-2:]] == [1, 2]
            states = client.heard.on(f"{BASE}/{site.device}/pump/state")
            assert states[-1].payload == b"true"
            await rotate(site, client)


CUTS = {
    "the gateway, before it asks": (SEALED_COMMAND, "gateway"),
    "the gateway, before it has the answer": (SEALED_ANSWER, "gateway"),
    "the gateway, before it sees the new key": (MessageType.HELLO, "gateway"),
    "the board, before it hears of it": (SEALED_COMMAND, "board"),
    "the board, before it has answered": (SEALED_ANSWER, "board"),
    "the board, before it shows its new key": (MessageType.HELLO, "board"),
}
"""Whom the frame kills that would have come next, instead of arriving."""
SOON = ("the gateway, before it has the answer", "the board, before it has answered")


async def test_whoever_is_killed_amid_a_rotation_the_gateway_has_the_board_s_key(
    micropython_bin: Path, broker: Broker, tmp_path: Path, figures: Figures, *, soak: bool
) -> None:
    cuts = CUTS if soak else {name: CUTS[name] for name in SOON}
    ends: list[str] = []
    async with (
        keyed_site(micropython_bin, broker, tmp_path) as site,
        Commander(broker.host, broker.port, BASE) as client,
    ):
        for name, (kind, victim) in cuts.items():
            async with site.daemon() as daemon:
                await client.heard.wait_for(lambda _: client.heard.on(f"{BASE}/+/info"))
                if not site.device:
                    site.device = await site.only_device()
                    await site.ask("keep_key", device=site.device, key=KEY.hex())
                assert (await site.pump(client, True))["status"] == "done", name
                before = site.key_on_board()
                cut = Cut(site, daemon, kind, victim, before)
                site.tap.on_frame = cut.passes
                asking = asyncio.to_thread(
                    control.ask, site.settings, "rotate_key", {"device": site.device}
                )
                try:
                    await asking
                except (RequestError, LinkError) as exc:
                    ends.append(f"{name}: {exc}")
                site.tap.on_frame = lambda _frame, _is_to_board: True
                assert cut.has_come, name
                if victim == "gateway":
                    await daemon.stop()

            async with site.daemon():
                assert (await site.pump(client, False))["status"] == "done", name
                await site.ask("rotate_key", device=site.device)
                now = site.key_on_board()
                assert now != before, name
                assert (site.keys / site.device).read_text() == now.hex() + "\n", name
                assert (await site.pump(client, True))["status"] == "done", name

    figures("rotations cut off, and the board commanded after each", str(len(cuts)), str(len(cuts)))
    with pytest.raises(NotRunningError):
        control.ask(site.settings, "keys")


class Cut:
    """Kills once: when the frame comes that it waits for."""

    def __init__(self, site: Site, daemon: Daemon, kind: int, victim: str, old_key: bytes) -> None:
        self.has_come = False
        self._site = site
        self._daemon = daemon
        self._kind = kind
        self._victim = victim
        self._old_key = old_key

    def passes(self, frame: Frame, _is_to_board: bool) -> bool:
        if self.has_come:
            return self._victim == "board"  # of a gateway that is killed nothing passes any more
        if frame.type != self._kind:
            return True
        hello = decode(frame)
        if isinstance(hello, Hello) and hello.key_id == key_id(self._old_key):
            return True
        self.has_come = True
        if self._victim == "gateway":
            os.kill(self._daemon.pid, signal.SIGKILL)
        else:
            self._site.board.cut_power()
        return False


def payload_of(line: bytes) -> bytes:
    frame = open_frame(line)
    assert isinstance(frame, Frame)
    return frame.payload


def counter_of(line: bytes) -> int:
    """Return the counter of a sealed frame, as README.md of gateway/protocol places it."""
    return int.from_bytes(payload_of(line)[-12:-8], "little")

"""The socket for requests from this machine: who may come in, and what nobody can do to it."""

import asyncio
import json
import os
import random
import socket
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.desk import AT_ONCE, Verb
from gateway.admin.local import MAX_CLIENTS, LocalDoor
from gateway.cli import control
from gateway.config.models import Settings
from gateway.errors import LinkError, NotRunningError, RequestError
from gateway.requests.admin import DeviceRequest
from gateway.requests.asking import AdminRequest
from gateway.requests.local import LOCAL_REQUESTS, MAX_LINE_BYTES

SEED = 6
OK = {"gateway": "attic", "status": "ok", "data": {"device": "shed"}}


def settings_of(path: Path, name: str = "attic") -> Settings:
    return Settings.model_validate({"gateway": {"name": name, "control_socket": str(path)}})


async def show(request: DeviceRequest) -> dict[str, Any]:
    return {"device": request.device}


@asynccontextmanager
async def door(
    path: Path,
    verbs: Mapping[str, Callable[[Any], Any]] | None = None,
    *,
    is_runtime: bool = False,
) -> AsyncIterator[LocalDoor]:
    made = {name: Verb(act, longest_s=30.0) for name, act in (verbs or {"device": show}).items()}
    opened = LocalDoor(path, "attic", Counter(), is_runtime=is_runtime)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(opened.run(made))
        await opened.listening.wait()
        yield opened
        running.cancel()


async def until(claim: Callable[[], bool]) -> None:
    """Return once something that tells nobody is so."""
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110 - the log and the list of descriptors set no event
            await asyncio.sleep(0.001)


async def say(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Send lines, and then nothing more; return what was answered until the end."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
    try:
        writer.write(b"".join(lines))
        if writer.can_write_eof():
            writer.write_eof()
        return [json.loads(line) for line in (await reader.read()).splitlines()]
    except ConnectionResetError:
        return []
    finally:
        writer.close()


def line(verb: str, **more: Any) -> bytes:  # noqa: ANN401 - JSON
    return json.dumps({"verb": verb, **more}).encode() + b"\n"


SHED = line("device", fields={"device": "shed"})


async def test_requests_of_one_client_are_answered_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async with door(path):
        answers = await say(path, SHED, line("device"), SHED)

    refusal = {"gateway": "attic", "status": "error", "error": "device: missing"}
    assert answers == [OK, refusal, OK]


async def test_the_client_of_commands_gets_the_answer_or_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    settings = settings_of(path)

    async with door(path):
        told = await asyncio.to_thread(control.ask, settings, "device", {"device": "shed"})
        with pytest.raises(RequestError, match="unknown request `devize`: did you mean `device`"):
            await asyncio.to_thread(control.ask, settings, "devize")
        with pytest.raises(RequestError, match='this is the gateway "attic"'):
            await asyncio.to_thread(control.ask, settings_of(path, "cellar"), "device")
    with pytest.raises(NotRunningError, match=r"control\.sock; start it"):
        control.ask(settings, "device", {"device": "shed"})

    assert told == {"device": "shed"}
    assert not path.exists()


async def test_only_its_owner_may_come_in(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o750)

    async with door(folder / "control.sock"):
        mode = stat.S_IMODE((folder / "control.sock").stat().st_mode)

    assert mode == 0o600


@pytest.mark.parametrize(("folder_mode", "expected"), [(0o750, 0o660), (0o755, 0o600)])
async def test_a_group_may_where_systemd_s_folder_says_so(
    tmp_path: Path, folder_mode: int, expected: int
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(folder_mode)

    async with door(folder / "control.sock", is_runtime=True):
        mode = stat.S_IMODE((folder / "control.sock").stat().st_mode)

    assert mode == expected


async def test_the_socket_a_killed_gateway_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    assert path.exists()

    async with door(path):
        assert await say(path, SHED) == [OK]


async def test_what_is_no_socket_of_ours_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "control.sock"
    path.write_text("somebody's")
    second = LocalDoor(path, "attic", Counter())

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(second.run({}))
        await until(lambda: "no requests from this machine" in caplog.text)
        running.cancel()

    assert path.read_text() == "somebody's"
    assert "something that is no socket has that name" in caplog.text


async def test_a_second_gateway_does_not_take_the_socket_of_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "control.sock"
    second = LocalDoor(path, "cellar", Counter())

    async with door(path), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(second.run({}))
        await until(lambda: "another gateway listens there" in caplog.text)
        running.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait([running])
        assert await say(path, SHED) == [OK]


async def test_a_path_too_long_for_a_socket_is_reached_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 12) / ("long-" * 12)
    folder.mkdir(parents=True)
    path = folder / "control.sock"
    assert len(str(path)) > 107
    opened = LocalDoor(path, "attic", Counter())

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(opened.run({"device": Verb(show)}))
        await opened.listening.wait()
        settings = settings_of(path)
        told = await asyncio.to_thread(control.ask, settings, "device", {"device": "shed"})
        running.cancel()

    assert told == {"device": "shed"}
    assert not path.exists()


async def test_more_clients_than_it_takes_are_told_so_and_cost_the_others_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "control.sock"
    async with door(path):
        inside = [await asyncio.open_unix_connection(path) for _ in range(MAX_CLIENTS)]
        for reader, writer in inside:  # each has its place
            writer.write(SHED)
            assert json.loads(await reader.readline()) == OK

        (refused,) = await say(path)
        still = inside[0]
        still[1].write(SHED)
        answer = json.loads(await still[0].readline())
        for _, writer in inside:
            writer.close()

    assert refused["error"] == f"busy: {MAX_CLIENTS} others are connected; ask again"
    assert answer == OK


async def test_a_verb_that_fails_or_never_ends_costs_only_its_own_answer(tmp_path: Path) -> None:
    async def fail(_request: AdminRequest) -> None:
        raise KeyError("a fault of ours")

    async def odd(_request: AdminRequest) -> object:
        return object()

    async def hang(_request: AdminRequest) -> None:
        await asyncio.Event().wait()

    path = tmp_path / "control.sock"
    verbs = {"device": show, "reload": fail, "keys": odd, "backup": hang}
    async with door(path, verbs):
        hanging = await asyncio.open_unix_connection(path)
        hanging[1].write(line("backup"))
        failed = await say(path, line("reload"))
        unsaid = await say(path, line("keys"))
        well = await say(path, SHED)
        hanging[1].close()

    assert [each["error"] for each in failed] == ["failed for a fault of the gateway: see its log"]
    assert unsaid == []
    assert well == [OK]
    assert AT_ONCE > MAX_CLIENTS


def hostile(chance: random.Random) -> bytes:
    """Return what no client of ours would send."""
    values: list[Any] = [None, True, -1, 1.5, "x", [], {}, [1], {"a": 1}, "x" * 3000, 10**30]
    said = {chance.choice(["verb", "fields", "gateway", "x"]): chance.choice(values)}
    verb = chance.choice([verb for verb in LOCAL_REQUESTS if verb != "device"])
    fields = {chance.choice(["device", "to", "key"]): chance.choice(values)}
    return chance.choice(
        [
            chance.randbytes(chance.randrange(1, 400)),
            chance.randbytes(chance.randrange(1, 400)).replace(b"\n", b"") + b"\n",
            b"[" * chance.randrange(1, 60_000) + b"\n",
            b"x" * (MAX_LINE_BYTES + chance.randrange(3)) + b"\n",
            SHED[: chance.randrange(1, len(SHED))],
            json.dumps(said).encode() + b"\n",
            line(verb, fields=fields),
        ]
    )


async def test_whatever_a_client_sends_the_next_one_is_served(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    path = tmp_path / "control.sock"

    async with door(path):
        for number in range(300):
            answers = await say(path, *(hostile(chance) for _ in range(chance.randrange(1, 4))))
            assert all(answer["status"] == "error" for answer in answers), number
        assert await say(path, SHED) == [OK]


async def test_a_client_that_hangs_up_at_any_moment_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async with door(path):
        before = len(os.listdir("/proc/self/fd"))
        for cut in range(len(SHED) + 1):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(str(path))
                client.sendall(SHED[:cut])
            await asyncio.sleep(0)
        assert await say(path, SHED) == [OK]
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_an_answer_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen(1)
        with pytest.raises(LinkError, match=r"no answer within 0\.05 s"):
            control.ask(settings_of(path), "devices", timeout_s=0.05)

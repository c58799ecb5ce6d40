"""All rooms at once, each within its time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

from gateway.doctor import bluetooth, broker, clock, configuration, disk, limits, ports, service
from gateway.doctor.case import Case
from gateway.doctor.finding import Finding, Tell, error
from gateway.links.threads import Call

Look: TypeAlias = Callable[[Case, Tell], Awaitable[None]]

LIMIT_S = 25.0
"""What a room has not told by then it does not tell: a dead disk must not hold up the rest."""


def _in_a_thread(look: Callable[[Case, Tell], None]) -> Look:
    async def looked(case: Case, tell: Tell) -> None:
        await Call(partial(look, case, tell)).result()

    return looked


ROOMS: Mapping[str, Look] = {
    "configuration": _in_a_thread(configuration.look),
    "service": service.look,
    "ports": ports.look,
    "bluetooth": bluetooth.look,
    "broker": broker.look,
    "clock": _in_a_thread(clock.look),
    "disk": _in_a_thread(disk.look),
    "limits": _in_a_thread(limits.look),
}
"""In the order in which they are shown."""


async def examine(
    case: Case, rooms: Mapping[str, Look] = ROOMS, limit_s: float = LIMIT_S
) -> list[Finding]:
    """Return what was found in all rooms, in their order."""
    told: dict[str, list[Finding]] = {name: [] for name in rooms}
    async with asyncio.TaskGroup() as tasks:
        for name, look in rooms.items():
            tasks.create_task(_visit(name, look, case, told[name].append, limit_s), name=name)
    return [finding for name in rooms for finding in tuple(told[name])]


async def _visit(name: str, look: Look, case: Case, tell: Tell, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await look(case, tell)
    except TimeoutError:
        what = f"no answer within {limit_s:g} s: something that was asked hangs"
        tell(error(name, what, "dmesg --level=err,warn | tail"))
    except Exception as exc:  # noqa: BLE001 - one blind eye must not hide what the others see
        tell(error(name, f"the doctor itself failed here: {exc!r}", "edge-gateway version"))

"""No acknowledgement is written before what allows it: seen in the system calls of the daemon.

From outside an acknowledgement that comes a millisecond too early may look right. Here the order
is the kernel's: of the write to the port, of the sync of the WAL, of the PUBACK that was received.
"""

import asyncio
import json
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

import pytest

from gateway.protocol.frames import Frame, open_frame
from gateway.protocol.messages import Ack, Welcome, decode
from gateway.simulate.faults.broker import BrokerProxy
from gateway.simulate.faults.packets import Packet, PacketKind, PacketSplitter
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.system_calls import Call, parse_trace, strace_command
from tests.support.talking_boards import TalkingBoards

TOLD = 100
"""How many samples each board is told of before the broker does something else."""

INTERVAL_S = 0.02
FRAMED, PRINTING = "framed-0", "printing-0"

_NUMBER = re.compile(rb'"number":(\d+)')
_NEVER = 1 << 62
_END_TIMEOUT_S = 20.0


def may_trace(strace: Path) -> bool:
    """Tell whether processes may be traced here: containers may forbid it."""
    tried = subprocess.run(
        [strace, "-f", "-D", "-o", "/dev/null", "true"], capture_output=True, check=False
    )
    return tried.returncode == 0


def wait_for_end(trace: Path, pid: int) -> None:
    """Return once strace has written of the end of a process; it is nobody's child."""
    deadline_s = time.monotonic() + _END_TIMEOUT_S
    while f"\n{pid:<5} +++ exited" not in trace.read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def told_at(calls: Sequence[Call], boards: TalkingBoards) -> dict[int, int]:
    """Return when the writing of the first acknowledgement of each number began."""
    told: dict[int, int] = {}
    for call in calls:
        if call.path.startswith("/dev/pts/") and call.name in {"write", "writev"}:
            for line in call.content.splitlines():
                for device, seq in _acknowledged(line):
                    told.setdefault(boards.number_of(device, seq), call.began)
    return told


def _acknowledged(line: bytes) -> Iterator[tuple[str, int]]:
    if line.startswith(b"{"):
        yield PRINTING, json.loads(line)["ack"]
    elif isinstance(frame := open_frame(line), Frame):
        message = decode(frame)
        if isinstance(message, Ack | Welcome):
            yield from ((FRAMED, seq) for seq in range(message.next_seq))


def synced_at(calls: Sequence[Call]) -> dict[int, int]:
    """Return when the first sync of the WAL ended that came after each number was written there."""
    synced: dict[int, int] = {}
    written: list[tuple[int, set[int]]] = []
    for call in calls:
        if not call.path.endswith("-wal") or call.result < 0:
            continue
        if call.name in {"fsync", "fdatasync"}:
            for ended, numbers in written:
                if ended < call.began:
                    synced |= dict.fromkeys(numbers - synced.keys(), call.ended)
            written = [each for each in written if each[0] >= call.began]
        else:
            written.append((call.ended, _numbers(call.content)))
    return synced


def confirmed_at(calls: Sequence[Call]) -> dict[int, int]:
    """Return when the PUBACK of the first message with each number had been received."""
    confirmed: dict[int, int] = {}
    splitters: dict[tuple[str, bool], PacketSplitter] = defaultdict(PacketSplitter)
    on_their_way: dict[tuple[str, int | None], set[int]] = {}
    for call in sorted(calls, key=attrgetter("ended")):
        if not call.path.startswith("socket:") or call.result <= 0:
            continue
        is_sent = call.name.startswith("send")
        for part in splitters[call.path, is_sent].feed(call.content[: call.result]):
            if not isinstance(part, Packet):
                continue
            if is_sent and part.kind is PacketKind.PUBLISH:
                on_their_way[call.path, part.packet_id] = _numbers(part.raw)
            elif not is_sent and part.kind is PacketKind.PUBACK:
                for number in on_their_way.pop((call.path, part.packet_id)):
                    confirmed.setdefault(number, call.ended)
    return confirmed


def _numbers(content: bytes) -> set[int]:
    return set(map(int, _NUMBER.findall(content)))


@pytest.mark.parametrize("durability", ["spill", "always"])
async def test_no_acknowledgement_is_written_before_the_sync_or_the_puback_that_allows_it(
    durability: str, broker: Broker, strace_bin: Path, tmp_path: Path
) -> None:
    if not await asyncio.to_thread(may_trace, strace_bin):
        # Nothing is missed: test_acks.py looks at the same from outside.
        print("no process may be traced here")  # noqa: T201 - shown with a failure, and with -s
        return
    boards = TalkingBoards(tmp_path / "ports", interval_s=INTERVAL_S)
    more = f"[outbox]\ndurability = '{durability}'\nspill_after_s = 0.4\n"
    more += f"path = '{tmp_path}/store/outbox.db'"
    trace = tmp_path / "trace"
    async with (
        asyncio.timeout(90),
        BrokerProxy(broker.host, broker.port) as proxy,
        boards.running(),
        running_daemon(
            *(tmp_path / "daemon", proxy.port, f"{tmp_path}/ports/*"),
            more=more,
            wrap=partial(strace_command, strace_bin, trace),
        ) as daemon,
    ):
        await boards.until_told(TOLD)
        proxy.refuse()
        proxy.cut()
        await boards.until_told(TOLD)
        proxy.accept()
        await boards.until_told(TOLD)
        assert await daemon.stop() == 0
        await asyncio.to_thread(wait_for_end, trace, daemon.pid)

    calls = parse_trace((await asyncio.to_thread(trace.read_text)).splitlines())
    told, synced, confirmed = told_at(calls, boards), synced_at(calls), confirmed_at(calls)
    allowed = {
        number: min(synced.get(number, _NEVER), confirmed.get(number, _NEVER)) for number in told
    }
    assert len(told) >= len(boards.devices) * 3 * TOLD
    assert {number: began for number, began in told.items() if began <= allowed[number]} == {}
    by_sync = sum(allowed[number] == synced.get(number) for number in told)
    in_a_phase = len(boards.devices) * TOLD
    assert by_sync >= (2 if durability == "always" else 1) * in_a_phase
    assert durability == "always" or len(told) - by_sync >= in_a_phase

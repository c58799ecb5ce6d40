"""A whole installation whose parts can be killed: boards, gateway, broker, and a witness.

The boards are the firmware in processes of their own, the gateway is the daemon, the broker is
mosquitto. Whoever is killed is started again at once. The gateway reaches the broker through a
proxy, which tests may use; a broker that was killed lets the gateway in after the witness: what it
has acknowledged and keeps for somebody who is away, mosquitto loses when it is killed, and that is
not the gateway's doing.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gateway.simulate.faults import FaultPlan
from gateway.simulate.faults.broker import BrokerProxy
from gateway.simulate.faults.process import Victim
from gateway.simulate.faults.schedule import chance
from gateway.simulate.firmware import Interpreter
from tests.support import nursery
from tests.support.account import Account, Ledger
from tests.support.broker import Broker
from tests.support.daemon import daemon_command
from tests.support.journal_board import JournalBoard, firmware_with_journal
from tests.support.witness import Witness

if TYPE_CHECKING:
    from gateway.simulate.radio.server import VirtualRadio

BASE = "edge/test"
_LOOK_S = 0.2
_STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is at the site."""

    folder: Path
    """Of all that it writes."""
    mosquitto: Path
    interpreters: Sequence[Interpreter]
    """One for each board."""
    readings: int
    """Each board gives so many, and then no more."""
    interval_ms: int = 50
    """From one to the next."""
    on_air: int = 0
    """So many of the boards, the first ones, are on a virtual radio; the others have ports."""
    batch: int = 0
    """So many of the boards, the first ones, have `durability: batch` and a ring of 2 KB."""
    has_valves: bool = False
    """Whether each board has something to be told."""
    outbox: str = ""
    """Further lines of `[outbox]`."""
    ble: str = ""
    """Further lines of `[ble]`, if there is anybody."""
    store: str = "store"
    """The folder of the gateway's files, in `folder`."""
    wrap: Callable[[Sequence[str]], Sequence[str]] = list
    """Changes the command that starts the gateway."""
    faults: FaultPlan = field(default_factory=FaultPlan)
    """What goes wrong on the wires and on the way to the broker."""
    gateway_away_s: float = 0.0
    """The longest time that the gateway is away after it was killed."""
    broker_away_s: float = 0.0
    """The longest time that the broker is away after it was killed."""
    seed: int = 1


@dataclass(slots=True)
class Gateway:
    """The daemon, started again whenever it was killed."""

    command: Sequence[str]
    starts: int = 0
    process: nursery.Child | None = None
    is_wanted: bool = True
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while it is to stay away once it was killed."""
    pause_s: Callable[[], float] = lambda: 0.0
    """Says how long it is away after that."""
    lines: list[str] = field(default_factory=list)
    """What it logged, over all its lives."""
    past_lines: int = 0
    """How many of them are from earlier lives."""

    async def run(self) -> None:
        """Keep it running until it is no longer wanted; leave no process behind."""
        try:
            while self.is_wanted:
                await self.may_start.wait()
                self.process = process = await nursery.start_child(self.command, None)
                self.starts += 1
                self.past_lines = len(self.lines)
                async for line in process.stderr:
                    self.lines.append(line.decode(errors="replace"))
                code = await process.wait()
                if code not in {-signal.SIGKILL, 0}:
                    raise AssertionError(f"the gateway ended with {code}:\n{self.log()[-4000:]}")
                if self.is_wanted and (pause_s := self.pause_s()):
                    await asyncio.sleep(pause_s)  # how long it is away, not a wait for a state
        finally:
            self.send(signal.SIGKILL)
            if self.process is not None:
                await self.process.wait()

    @property
    def pid(self) -> int:
        """The process, which must run."""
        assert self.process is not None
        return self.process.pid

    @property
    def is_connected(self) -> bool:
        """Whether it has reached the broker in its present life."""
        is_running = self.process is not None and self.process.returncode is None
        return is_running and any("connected to" in s for s in self.lines[self.past_lines :])

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    def log(self) -> str:
        """Return what it logged, over all its lives."""
        return "".join(self.lines)


@asynccontextmanager
async def _radio(plan: Plan) -> AsyncIterator["VirtualRadio | None"]:
    """Have a virtual radio if somebody is on it; it takes half a second to import."""
    if not plan.on_air:
        yield None
        return
    from gateway.simulate.radio.server import VirtualRadio  # noqa: PLC0415  # see above

    async with VirtualRadio() as radio:
        yield radio


class Site:
    """See the module; `async with Site.running(plan) as site`."""

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        proxy: BrokerProxy,
        witness: Witness,
        radio: "VirtualRadio | None" = None,
    ) -> None:
        self.broker = broker
        self.proxy = proxy
        self.witness = witness
        self.radio = radio
        ports = plan.folder / "ports"
        ports.mkdir()
        firmware = firmware_with_journal(plan.folder / "firmware")
        self.boards = [
            JournalBoard(
                *(number, ports, plan.folder / "flash", firmware, interpreter),
                faults=plan.faults,
                limit=plan.readings,
                interval_ms=plan.interval_ms,
                is_batch=number < plan.batch,
                radio=radio.board_address if radio and number < plan.on_air else "",
                has_valve=plan.has_valves,
            )
            for number, interpreter in enumerate(plan.interpreters)
        ]
        outbox = plan.folder / plan.store / "outbox.db"
        more = f"rescan_s = 0.2\n[outbox]\npath = '{outbox}'\n{plan.outbox}\n[ble]\n"
        more += (
            f"adapter = 'virtual:{radio.hci_address}'\n{plan.ble}" if radio else "enabled = false"
        )
        home = plan.folder / "gateway"
        self.gateway = Gateway(plan.wrap(daemon_command(home, proxy.port, f"{ports}/*", more)))
        self.broker_deaths = 0
        self._broker_killed = asyncio.Event()
        self._broker_away_s = plan.broker_away_s
        self._chance = chance(f"{plan.seed} site")
        self.gateway.may_start.set()
        if plan.gateway_away_s:
            away = chance(f"{plan.seed} gateway")
            self.gateway.pause_s = lambda: away.uniform(0, plan.gateway_away_s)
        self._ledger = Ledger()
        self._turns = cycle(self.boards)
        self._hit = self.boards[0]

    @classmethod
    @asynccontextmanager
    async def running(cls, plan: Plan) -> AsyncIterator[Self]:
        """Run all of it for the length of the block."""
        folder = plan.folder / "mosquitto"
        folder.mkdir()
        settings = ["autosave_interval 1", "autosave_on_changes true", "max_inflight_messages 0"]
        broker = Broker(plan.mosquitto, folder, persistence=True, settings=settings)
        await asyncio.to_thread(broker.start)
        try:
            async with (
                Witness(broker.host, broker.port, BASE) as witness,
                BrokerProxy(broker.host, broker.port, plan.faults) as proxy,
                _radio(plan) as radio,
                asyncio.TaskGroup() as tasks,
            ):
                site = cls(plan, broker, proxy, witness, radio)
                running = [
                    tasks.create_task(site.gateway.run(), name="gateway"),
                    tasks.create_task(site._run_broker(), name="broker"),
                    *(tasks.create_task(b.board.run(), name=b.name) for b in site.boards),
                ]
                try:
                    yield site
                finally:
                    for task in running:
                        task.cancel()
        finally:
            await asyncio.to_thread(broker.kill)

    def victims(self) -> Mapping[str, Victim]:
        """Return who may be killed; of the boards it is one after the other."""
        victims: dict[str, Victim] = {
            "gateway": self.gateway.send,
            "broker": self._hit_broker,
            "board": self._hit_board,
        }
        return victims if self.radio is None else {**victims, "radio": self._hit_radio}

    async def until_produced(self) -> None:
        """Return once every board has given all its readings."""
        await self._until(lambda: all(board.noted() >= board.limit for board in self.boards))

    async def until_heard(self, count: int) -> None:
        """Return once so many messages have arrived."""
        await self.witness.wait_for(lambda: len(self.witness.heard) >= count)

    async def until_noted(self, count: int) -> None:
        """Return once every board has given so many more readings, or all of them."""
        enough = [min(board.noted() + count, board.limit) for board in self.boards]
        await self._until(
            lambda: all(b.noted() >= n for b, n in zip(self.boards, enough, strict=True))
        )

    async def until_connected(self) -> None:
        """Return once the gateway runs, and has reached the broker since it was started."""
        await self._until(lambda: self.gateway.is_connected)

    async def until_flash_is_empty(self) -> None:
        """Return once no board has samples in files of its flash."""
        await self._until(lambda: not any(board.filed() for board in self.boards))

    async def until_logged(self, text: str, times: int = 1) -> None:
        """Return once the gateway has logged a text so often."""
        await self._until(lambda: self.gateway.log().count(text) >= times)

    async def until_started(self, times: int) -> None:
        """Return once the gateway runs, and was started so often."""
        await self._until(lambda: self.gateway.starts >= times)

    async def until_told(self, timeout_s: float, *, power_cuts: bool = False) -> list[Account]:
        """Wait until all that was produced is delivered or published as lost; return the accounts.

        After `timeout_s` they are returned as they are.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._until(
                    lambda: all(a.is_exact for a in self.accounts(power_cuts=power_cuts))
                )
        return self.accounts(power_cuts=power_cuts)

    def accounts(self, *, power_cuts: bool = False) -> list[Account]:
        """Return the account of each board, as it stands."""
        self._ledger.take(self.witness.heard)
        return [self._ledger.settle(b.journal(), power_cuts=power_cuts) for b in self.boards]

    def take_broker_away(self) -> None:
        """Let the gateway lose the broker, which goes on for others."""
        self.proxy.refuse()
        self.proxy.cut()

    def bring_broker_back(self) -> None:
        """End that."""
        self.proxy.accept()

    def calm(self) -> None:
        """End what goes wrong on the way to the broker, and what has gone wrong there."""
        self.proxy.calm()
        self.proxy.cut()

    async def stop_gateway(self) -> None:
        """Ask the gateway to end, for good.

        Raises:
            AssertionError: it did not end well.
        """
        self.gateway.is_wanted = False
        process = self.gateway.process
        assert process is not None
        self.gateway.send(signal.SIGTERM)
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            code = await process.wait()
        log = self.gateway.log()
        assert code == 0, log[-4000:]
        assert "Traceback" not in log, log[log.index("Traceback") - 1000 :][:8000]

    def _hit_broker(self, number: signal.Signals) -> None:
        if number is signal.SIGKILL:
            self._broker_killed.set()
        elif self.broker.is_running:
            os.kill(self.broker.pid, number)

    def _hit_board(self, number: signal.Signals) -> None:
        if number is not signal.SIGCONT:
            self._hit = next(self._turns)
        if number is signal.SIGKILL:
            self._hit.board.reset()
        elif self._hit.board.pid:
            os.kill(self._hit.board.pid, number)

    def _hit_radio(self, number: signal.Signals) -> None:
        if number is signal.SIGKILL and self.radio is not None:
            self.radio.drop_links()

    async def _run_broker(self) -> None:
        """Kill the broker when somebody wants that, and start it again."""
        while True:
            await self._broker_killed.wait()
            self._broker_killed.clear()
            self.broker_deaths += 1
            connections = self.witness.connections
            self.proxy.refuse()
            await asyncio.to_thread(self.broker.kill)
            await asyncio.sleep(self._chance.uniform(0, self._broker_away_s))
            await asyncio.to_thread(self.broker.start)
            await self.witness.wait_connections(connections + 1)
            self.proxy.accept()

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Files and messages are looked at now and then, for nobody tells of both."""
        while not reached():  # noqa: ASYNC110 - see above
            await asyncio.sleep(_LOOK_S)

"""The gateway's side of a virtual radio, without broker: scan and links, and what they deliver."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager

from gateway.backoff import Backoff
from gateway.ble.boards import Boards, waiting_there
from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.links.ble_backend import Connectable, RadioBackend
from gateway.links.ble_connection import BleLink
from gateway.links.ble_gatt import GattOptions
from gateway.links.ble_scanner import BleScanner, ScanOptions
from gateway.links.ble_turns import Turns
from gateway.links.serial_port import SerialLink, SerialOptions
from gateway.model import Event, Fault, Gap, Gone, Readings, Sample
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.guard import Keys
from gateway.simulate.radio.bleak_backend import virtual_backend
from gateway.status import Status
from gateway.supervise import keep_running

PATIENCE_S = 60.0
"""Only for what hangs."""


class Central:
    """Connects to every board it hears, and declares each sample safe as it comes."""

    def __init__(  # noqa: PLR0913  # what a test may want otherwise
        self,
        backend: RadioBackend,
        *,
        slots: int = 8,
        turn_s: float = 30.0,
        options: GattOptions | None = None,
        known: Container[str] = (),
        keys: Keys | None = None,
    ) -> None:
        """`known`: addresses of boards that joined in an earlier run; `keys`: those of boards."""
        self.status = Status()
        self.links: dict[str, BleLink] = {}
        self.backoffs: dict[str, Backoff] = {}
        self.numbers: dict[str, list[int]] = defaultdict(list)
        """By board, the numbers of its samples as they came."""
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.carried: Counter[str] = Counter()
        """By link, how many samples came over it."""
        self.gone: list[Gone] = []
        self.gaps: list[Gap] = []
        self.most_connected = 0
        self._backend = backend
        self._options = options
        self._known = known
        self._keys = keys
        self._clock = Clock()
        self._book = DeliveryBook()
        self._turns = Turns(slots, turn_s, self._clock.monotonic_s)
        self._has_changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Scan and connect for ever."""
        scanner = BleScanner(
            ScanOptions(),
            self._hear,
            self.status.radio,
            self._clock,
            backend=self._backend,
            is_in_use=lambda: self.status.radio.connected > 0,
        )
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await scanner.run()

    def open_port(self, path: str) -> None:
        """Serve a serial port as well, until this ends."""
        assert self._tasks is not None
        link = SerialLink(
            path,
            SerialOptions(settle_s=0.01),
            lambda: self._make_driver(path),
            self._accept,
            self.status.link(path),
            self._clock,
        )
        backoff = Backoff(base_s=0.1, cap_s=0.2, rng=random.Random(path))
        self._tasks.create_task(keep_running(path, link.run, backoff), name=path)

    async def until(self, claim: Callable[[], object]) -> None:
        """Wait until it is true; it is asked when something was delivered, and now and then."""
        async with asyncio.timeout(PATIENCE_S):
            while not claim():
                self._has_changed.clear()
                try:
                    async with asyncio.timeout(0.02):
                        await self._has_changed.wait()
                except TimeoutError:
                    continue

    async def until_delivered(self, board: str, count: int) -> None:
        """Wait until so many samples of a board have come."""
        await self.until(lambda: len(self.numbers[board]) >= count)

    def faults(self, address: str) -> dict[str, int]:
        """Return the faults of a link by kind."""
        return dict(self.status.link(address).faults)

    def _hear(self, advert: Advert, device: Connectable) -> None:
        if not Boards.is_board(advert) or self._tasks is None:
            return
        link = self.links.get(advert.address)
        if link is None:
            link = self.links[advert.address] = self._make_link(advert.address)
            backoff = Backoff(base_s=0.1, cap_s=0.5, rng=random.Random(advert.address))
            self.backoffs[advert.address] = backoff
            serving = keep_running(advert.address, link.run, backoff)
            self._tasks.create_task(serving, name=advert.address)
        waiting = waiting_there(advert)
        is_brief = None if waiting is None else waiting.is_brief
        link.heard(device, advert.heard_s, is_brief=is_brief)

    def _make_link(self, address: str) -> BleLink:
        return BleLink(
            address,
            lambda: self._make_driver(address),
            self._accept,
            self.status.link(address),
            self._clock,
            turns=self._turns,
            radio=self.status.radio,
            options=self._options,
            backend=self._backend,
            has_joined=address in self._known,
        )

    def _make_driver(self, name: str) -> SerialLineDriver:
        return SerialLineDriver(
            port_name=name,
            device_name="",
            line_format=LineFormat("board"),
            book=self._book,
            clock=self._clock,
            run=1,
            session_id="0000cafe",
            keys=self._keys,
        )

    def _accept(self, link: str, events: list[Event]) -> None:
        self.most_connected = max(self.most_connected, self.status.radio.connected)
        for event in events:
            match event:
                case Gone():
                    self.gone.append(event)
                case Readings():
                    self.carried[link] += len(event.records)
                    self._take(event)
                case Fault():
                    self.status.link(link).faults[event.kind] += 1
        self._has_changed.set()

    def _take(self, readings: Readings) -> None:
        for record in readings.records:
            if isinstance(record, Sample):
                self.samples[readings.device].append(record)
                self.numbers[readings.device].append(int(record.values["number"]))
            else:
                self.gaps.append(record)
        if readings.on_safe is not None:
            readings.on_safe()


@asynccontextmanager
async def central_on(  # noqa: PLR0913  # what a test may want otherwise
    hci_address: str,
    *,
    slots: int = 8,
    turn_s: float = 30.0,
    options: GattOptions | None = None,
    known: Container[str] = (),
    keys: Keys | None = None,
) -> AsyncIterator[Central]:
    """Have a gateway's radio at the address of a virtual one for as long as the context lasts."""
    central = Central(
        virtual_backend(hci_address),
        slots=slots,
        turn_s=turn_s,
        options=options,
        known=known,
        keys=keys,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(central.run(), name="central")
        try:
            yield central
        finally:
            running.cancel()

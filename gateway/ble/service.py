"""The door to the radio: costs nothing until there is one.

bleak, D-Bus and the sensors' parsers take memory and a second of a Raspberry Pi's time, so nothing
of them is imported here, nor by anybody else, before there is an adapter.
"""

import asyncio
import importlib
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from gateway.backoff import Backoff
from gateway.drivers.base import OnCommandEnd
from gateway.errors import LinkError
from gateway.house import House
from gateway.joining import JoinMode
from gateway.links.threads import Call
from gateway.log_fields import BLUETOOTH
from gateway.protocol.requests import Order

if TYPE_CHECKING:
    from gateway.ble.radio import Radio
    from gateway.links.ble_backend import RadioBackend
    from gateway.links.ble_connection import BleLink
    from gateway.progress import Stage

_log = logging.getLogger(__name__)

ADAPTERS: Final = Path("/sys/class/bluetooth")
"""Where the kernel lists its adapters."""

LOOK_S: Final = 5.0
"""How often an adapter is looked for while there is none."""

IMPORT_S: Final = 300.0
"""A slow card takes no longer to give what is to be imported."""

RESTART_S: Final = 1.0
RESTART_CAP_S: Final = 300.0
"""After an error that nobody foresaw: the first pause is at most so long, and the longest."""

VIRTUAL: Final = "virtual:"
"""What the name of a simulated adapter begins with."""


@dataclass(frozen=True, slots=True)
class BleOptions:
    """What the configuration says."""

    joined_path: Path
    """File of the devices that joined."""
    adapter: str = ""
    is_passive: bool = True
    join: JoinMode = "open"
    names: Mapping[str, str] = field(default_factory=dict)
    """By address; the listed devices are its keys. Empty for one that names itself."""
    keys: Mapping[str, bytes] = field(default_factory=dict)
    """Bind keys by address."""
    max_connections: int = 4
    turn_s: float = 30.0
    deaf_s: float = 90.0


class Ble:
    """The radio of one gateway, if it has one, from when it has one."""

    def __init__(
        self, options: BleOptions, house: House, backend: "RadioBackend | None" = None
    ) -> None:
        """`backend` is used instead of the one that the adapter's name asks for."""
        self._options = options
        self._backend = backend
        self._house = house
        self._stage: Stage = house.progress.stage("radio")
        self._radio: Radio | None = None
        self._is_paused = False

    async def run(self) -> NoReturn:
        """Use the radio for ever.

        Most of its code is others' (bleak, D-Bus, parsers), and what it reads comes from strangers:
        an error that nobody foresaw costs a pause of the radio, and the ports nothing.
        """
        pause = Backoff(base_s=RESTART_S, cap_s=RESTART_CAP_S)
        house = self._house
        with self._stage:
            while True:
                await self._until_there_is_one()
                # In a group of its own: else an error of its end would keep it alive.
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._use(house), name="radio")
                self._radio = None
                status = house.status.radio
                status.state, status.reason = "recovering", "an unforeseen error: see the log"
                house.on_change()
                house = replace(house, run=secrets.randbits(32))  # samples are numbered from 0
                await self._stage.rest(pause.next_delay_s(), asyncio.sleep)

    def hold(self, *, paused: bool) -> None:
        """Ask boards to keep their samples for now, or to go on."""
        self._is_paused = paused
        if self._radio is not None:
            self._radio.hold(paused=paused)

    def link(self, name: str) -> "BleLink | None":
        """Return the link to a board, by its address, if there is one."""
        return None if self._radio is None else self._radio.link(name)

    def command(self, address: str, order: Order, on_end: OnCommandEnd) -> bool:
        """Have the board there do something at most once; False if it is not connected.

        `on_end` is called once, maybe before this returns.
        """
        link = self.link(address)
        return link is not None and link.command(order, on_end)

    def forget(self, address: str) -> bool:
        """Let a device be a stranger again; say whether it was none."""
        return self._radio is not None and self._radio.forget(address)

    def open_window(self, for_s: float) -> bool:
        """Let devices join for so long, 0 closes the window; False while there is no radio."""
        if self._radio is None:
            return False
        self._radio.open_window(for_s)
        return True

    async def _until_there_is_one(self) -> None:
        radio = self._house.status.radio
        while self._backend is None and not has_adapter(self._options.adapter):
            if radio.state != "no_adapter":
                radio.state, radio.reason = "no_adapter", "this machine has none"
                _log.info("%s: no adapter; serial lines only, until there is one", BLUETOOTH)
                self._house.on_change()
            await self._stage.rest(LOOK_S, asyncio.sleep)

    async def _use(self, house: House) -> None:
        """Use the radio until it fails."""
        try:
            radio = self._radio = await self._make(house)
            radio.hold(paused=self._is_paused)
            await radio.run()
        except LinkError as exc:
            _log.error("%s: %s", BLUETOOTH, exc)
        except Exception as exc:  # noqa: BLE001  # logged, and told by the status
            _log.error("%s: failed", BLUETOOTH, exc_info=exc)

    async def _make(self, house: House) -> "Radio":
        """Make the radio; its imports take a while, so they are done in a thread.

        Raises:
            LinkError: a package is missing.
        """
        self._stage.works_long("importing", IMPORT_S)
        names = ["gateway.ble.radio"]
        if self._backend is None and self._options.adapter.startswith(VIRTUAL):
            names.append("gateway.simulate.radio.bleak_backend")
        try:
            modules: list[Any] = await Call(
                lambda: [importlib.import_module(name) for name in names]
            ).result()
        except ModuleNotFoundError as exc:
            extra = "edge-gateway[demo]" if len(names) > 1 else "edge-gateway"
            raise LinkError(f"{exc.name} is not installed: pip install '{extra}'") from exc
        made: Radio = modules[0].Radio(self._options, house, self._backend, self._stage)
        return made


def has_adapter(name: str, adapters: Path = ADAPTERS) -> bool:
    """Tell whether there is an adapter; an empty name stands for any.

    A simulated one, and one behind a system bus of its own, are not the kernel's to know.
    """
    if name.startswith(VIRTUAL) or "DBUS_SYSTEM_BUS_ADDRESS" in os.environ:
        return True
    try:
        found = [entry.name for entry in adapters.iterdir() if entry.name.startswith("hci")]
    except OSError:
        return False
    return name in found if name else bool(found)

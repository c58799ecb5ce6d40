"""The configuration, read again while the gateway runs: only what changed is touched."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from gateway.config.models import Settings
from gateway.errors import ConfigError
from gateway.links.threads import Call

T = TypeVar("T")

LOOK_S: Final = 30.0
"""How long reading may take; a disk that hangs must not take along a gateway that runs."""


class Configuration(Protocol):
    """Where the settings come from; its calls block."""

    @property
    def path(self) -> Path | None:
        """The file."""

    @property
    def trouble(self) -> str:
        """What was wrong with it, so that the last good one is in force; empty if nothing was."""

    def reread(self) -> tuple[Settings, str | None]:
        """Read it again: settings, and the broker's password; ConfigError if it is broken."""

    def keep(self) -> None:
        """Keep what was read last: it is in force."""


Act: TypeAlias = Callable[[], Awaitable[list[str]]]
"""Brings a part of the gateway to its new settings; returns the links it began anew."""

Prepare: TypeAlias = Callable[[Settings], Act | None]
"""Looks what other settings mean for a part; None if nothing. Called in a thread, so it only looks.

It raises ConfigError where they cannot be used.
"""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of it."""

    changed: list[str]
    """Keys with another value than the one in force."""
    applied: list[str]
    """Sections that are in force as they stand now."""
    needs_restart: list[str] = field(default_factory=list)
    """Keys that are as they were: they come into force when the gateway is started again."""
    reopened: list[str] = field(default_factory=list)
    """Links that were closed and begun anew."""


class Reloader:
    """Knows which settings are in force, and which parts follow others while they run.

    All is looked at before anything is touched: what cannot be used changes nothing.
    """

    def __init__(
        self,
        settings: Settings,
        password: str | None,
        configuration: Configuration | None,
        parts: Mapping[str, Prepare],
        look_s: float = LOOK_S,
    ) -> None:
        """`parts` follow a section of the settings each; all other sections need a restart."""
        self._look_s = look_s
        self.settings = settings
        """Those in force."""
        self._password = password
        self._configuration = configuration
        self._parts = parts
        self._lock = asyncio.Lock()

    async def reload(self) -> Reloaded:
        """Read the configuration, and bring the gateway to it as far as it goes.

        Raises:
            ConfigError: it cannot be used; everything is as it was.
            GatewayError: a part failed on its way; it and those behind it are to be tried again.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(self._look_s):
                    fresh, password, acts = await Call(self._look).result()
            except TimeoutError as exc:
                raise ConfigError(
                    f"the configuration, or a file it names, could not be read within "
                    f"{self._look_s:g} s: the disk hangs"
                ) from exc
            changed = changed_keys(self.settings, fresh)
            needs_restart = [key for key in changed if key.partition(".")[0] not in self._parts]
            if password != self._password:
                needs_restart.append("mqtt.password_file")
            reopened: list[str] = []
            for section in self._parts:
                if section in acts:
                    reopened += await acts[section]()
                # Only now: should an act fail, the next reload finds the change again.
                self.settings = self.settings.model_copy(update={section: getattr(fresh, section)})
            return Reloaded(changed, list(acts), needs_restart, reopened)

    def _look(self) -> tuple[Settings, str | None, dict[str, Act]]:
        if self._configuration is None or self._configuration.path is None:
            raise ConfigError("the gateway was started without a configuration: nothing to reload")
        fresh, password = self._configuration.reread()
        looked = {section: prepare(fresh) for section, prepare in self._parts.items()}
        return fresh, password, {section: act for section, act in looked.items() if act}


class Turns(Generic[T]):
    """Has one thing done at a time; all who ask while it is under way share the next time.

    So whoever asks has it done once from then on, and asking a thousand times costs no more.
    """

    def __init__(self, tasks: asyncio.TaskGroup, do: Callable[[], Awaitable[T]], name: str) -> None:
        self._tasks = tasks
        self._do = do
        self._name = name
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Task[T] | None = None

    def ask(self) -> None:
        """Have it done once more, by and by."""
        if self._waiting is None:
            self._waiting = self._tasks.create_task(self._take_turn(), name=self._name)

    async def done(self) -> T:
        """Return what came of it; who loses patience does not end it, for half of it is nothing."""
        self.ask()
        assert self._waiting is not None  # noqa: S101 - it has not had a turn yet
        return await asyncio.shield(self._waiting)

    async def _take_turn(self) -> T:
        async with self._turn:
            self._waiting = None
            return await self._do()


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """Return the keys with different values, `section.key`; a list of sections by its name."""
    old, new = before.model_dump(), after.model_dump()
    changed: list[str] = []
    for section, values in new.items():
        if isinstance(values, dict):
            changed += [f"{section}.{key}" for key in values if values[key] != old[section][key]]
        elif values != old[section]:
            changed.append(section)
    return changed

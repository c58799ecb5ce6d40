"""What people can have the gateway do while it runs: requests, reloads, windows to join."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

from gateway import __version__, wiring
from gateway.admin.backup import BackupParts, Backups, DatabasePart
from gateway.admin.board_requests import BoardRequests
from gateway.admin.desk import Verb
from gateway.admin.device_requests import DeviceRequests
from gateway.admin.diagnostics import Diagnostics, Sources
from gateway.admin.local_verbs import make_local_verbs
from gateway.admin.port_requests import PortRequests
from gateway.admin.recent_log import RecentLog
from gateway.admin.replace_requests import ReplaceRequests
from gateway.admin.update_requests import UpdateRequests
from gateway.admin.verbs import make_verbs
from gateway.all_links import AllLinks
from gateway.config.models import Settings
from gateway.devices.announcer import Announcer
from gateway.devices.registry import Devices
from gateway.errors import ConfigError, GatewayError, LinkError, RequestError
from gateway.health import HealthReport
from gateway.links.threads import Call
from gateway.log_fields import BLUETOOTH
from gateway.processing.processor import Processor
from gateway.progress import Progress
from gateway.reload import Act, Configuration, Reloaded, Reloader, Turns
from gateway.staff import Staff
from gateway.status import ConfigurationStatus, Status
from gateway.storage import Storage
from gateway.store import database, versions
from gateway.timekeeper import TimeKeeper
from gateway.watchdog import Watchdog

_log = logging.getLogger(__name__)

MAX_TROUBLE: Final = 300
"""Characters of a broken configuration's first problem that are told in the health document."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a gateway that people can ask something of."""

    links: AllLinks
    devices: Devices
    processor: Processor
    announcer: Announcer
    staff: Staff
    storage: Storage
    status: Status
    timekeeper: TimeKeeper
    health: HealthReport
    watchdog: Watchdog
    progress: Progress


class Operation:
    """Does what is asked for by a request or a signal; `verbs` lists it."""

    def __init__(
        self,
        parts: Parts,
        settings: Settings,
        password: str | None,
        configuration: Configuration | None,
    ) -> None:
        """`configuration` is where the settings are from."""
        self._parts = parts
        self._configuration = configuration
        if configuration is not None and configuration.trouble:
            self._tell_trouble("last_good", configuration.trouble)
        self._stage = parts.progress.stage("operation")
        self._recent_log = RecentLog()
        self._rules = wiring.processing_rules(settings)
        parts.devices.on_succession = self._follow_succession
        self._reloads: Turns[Reloaded | GatewayError] | None = None
        self._reloader = Reloader(
            settings,
            password,
            configuration,
            {
                "serial": self._look_at_ports,
                "ble": self._look_at_radio,
                "device": self._look_at_devices,
                "homeassistant": self._look_at_home_assistant,
                "log": self._look_at_log,
            },
        )
        self.verbs = self._make_verbs(settings, password)
        ports = PortRequests(parts.links.lend_port, parts.links.return_port)
        self.local_verbs = make_local_verbs(self.verbs, parts.staff.keys, ports)
        """What may be asked for on this machine alone, too."""

    def begin(self) -> None:
        """Keep what is logged from now on, for the diagnostics."""
        logging.getLogger().addHandler(self._recent_log)

    def end(self) -> None:
        """Keep nothing more."""
        logging.getLogger().removeHandler(self._recent_log)

    async def run(self) -> NoReturn:
        """Have the tasks that requests begin, for ever."""
        stage = self._stage
        async with asyncio.TaskGroup() as tasks:
            self._reloads = Turns(tasks, self._reload, "reload")
            try:
                stage.works("keeping the configuration")
                await self._keep_configuration()
                await stage.rest(versions.TRUSTED_S, asyncio.sleep)
                stage.works("trusting migrations")
                await self._trust_migrations()
                await stage.rest_for_ever(asyncio.sleep)
            finally:
                self._reloads = None  # a group that ends takes no tasks

    def permit_join(self, for_s: float | None = None) -> float:
        """Let devices that are heard join for so long, and return for how long; 0 ends it.

        None stands for the time the configuration says.

        Raises:
            RequestError: there are no windows in the configuration, or there is no radio.
        """
        ble = self._reloader.settings.ble
        if not ble.enabled or ble.join != "window":
            told = "ble.enabled is false"
            if ble.enabled:
                told = f'ble.join is "{ble.join}", not "window"'
            raise RequestError(f"there is no window to open: {told}")
        if for_s is None:
            for_s = ble.window_s
        if not self._parts.links.open_window(for_s):
            raise RequestError("there is no window to open: there is no radio")
        if for_s:
            _log.info("%s: devices that are heard within %g s may join", BLUETOOTH, for_s)
        else:
            _log.info("%s: no more devices may join", BLUETOOTH)
        return for_s

    def open_join_window(self) -> None:
        """Do as `permit_join`, and log why not."""
        try:
            self.permit_join()
        except RequestError as exc:
            _log.warning("%s: %s", BLUETOOTH, exc)

    async def reload(self) -> Reloaded:
        """Read the configuration again, and bring to it what can be changed while it runs.

        Raises:
            RequestError: there is none.
            ConfigError: it cannot be used; everything is as it was.
            GatewayError: a part could not follow; the next reload tries it again.
        """
        if self._configuration is None or self._configuration.path is None:
            raise RequestError("the gateway was started without a configuration: nothing to reload")
        assert self._reloads is not None  # noqa: S101 - whoever asks runs meanwhile
        done = await self._reloads.done()
        if isinstance(done, GatewayError):
            raise done
        return done

    def request_reload(self) -> None:
        """Do as `reload`, by and by, and log what came of it."""
        if self._reloads is not None:
            self._reloads.ask()

    async def _reload(self) -> Reloaded | GatewayError:
        """Do as `reload`, but return the error: raised in a task it would end the gateway."""
        with self._parts.watchdog.reload():
            return await self._do_reload()

    async def _do_reload(self) -> Reloaded | GatewayError:
        try:
            done = await self._reloader.reload()
        except GatewayError as exc:
            for line in str(exc).split("\n"):
                _log.error("reload: %s", line)
            if isinstance(exc, ConfigError):
                _log.error("reload: nothing was changed")
                if self._configuration is not None:
                    self._tell_trouble("refused", str(exc))
            return exc
        self._parts.status.configuration = ConfigurationStatus()
        await self._keep_configuration()
        _log.info("reload: %s", ", ".join(done.changed) or "nothing has changed")
        if done.needs_restart:
            _log.warning("reload: a restart is needed for %s", ", ".join(done.needs_restart))
        return done

    def _tell_trouble(self, state: str, problems: str) -> None:
        """Have it in the health document that the file is broken: its first problem will do."""
        told = self._parts.status.configuration
        if told.state != "last_good":  # that stays so whatever else is tried
            told.state = state
        told.error = problems.partition("\n")[0][:MAX_TROUBLE]

    async def _keep_configuration(self) -> None:
        """Keep what is in force, for the day the file is broken."""
        if self._configuration is not None:
            try:
                await Call(self._configuration.keep).result()
            except LinkError as exc:
                _log.warning("the configuration is not kept for the day it is broken: %s", exc)

    async def _trust_migrations(self) -> None:
        """Let no older edge-gateway take back what a migration did: this one works."""
        settings = self._reloader.settings
        try:
            await Call(
                partial(versions.trust, [settings.outbox_path, settings.state_path])
            ).result()
        except (LinkError, OSError) as exc:
            _log.warning("the copies of before the update could not be renamed: %s", exc)

    def _look_at_ports(self, settings: Settings) -> Act | None:
        options = wiring.ports_options(settings)
        if options == self._parts.links.ports_options:
            return None
        return partial(self._parts.links.use_ports, options)

    def _look_at_radio(self, settings: Settings) -> Act | None:
        options = wiring.ble_options(settings)
        if options == self._parts.links.ble_options:
            return None
        return partial(self._parts.links.use_radio, options)

    def _look_at_devices(self, settings: Settings) -> Act | None:
        if settings.device == self._reloader.settings.device:
            return None

        async def act() -> list[str]:
            self._rules = wiring.processing_rules(settings)
            self._parts.devices.reconfigure(wiring.declared_devices(settings))
            return []

        return act

    def _follow_succession(self) -> None:
        """Have the rules for a device's values be those of the hardware it has by now."""
        self._parts.processor.reconfigure(self._parts.devices.by_key(self._rules))

    def _look_at_home_assistant(self, settings: Settings) -> Act | None:
        wanted = settings.homeassistant
        if wanted == self._reloader.settings.homeassistant:
            return None

        async def act() -> list[str]:
            self._parts.announcer.reconfigure(wanted.prefix, is_enabled=wanted.enabled)
            return []

        return act

    def _look_at_log(self, settings: Settings) -> Act | None:
        level = settings.log.level.upper()
        if settings.log == self._reloader.settings.log:
            return None

        async def act() -> list[str]:
            logging.getLogger().setLevel(level)
            return []

        return act

    def _make_verbs(self, settings: Settings, password: str | None) -> Mapping[str, Verb]:
        parts, staff = self._parts, self._parts.staff
        folder = settings.outbox_path.parent
        gateway = settings.gateway.name
        sources = Sources(
            self._parts.status,
            settings=lambda: wiring.public_settings(self._reloader.settings),
            health=self._parts.health.document,
            log_lines=lambda: self._recent_log.lines(
                wiring.secrets_of(self._reloader.settings, password, parts.storage.keys.secrets())
            ),
        )
        devices = DeviceRequests(parts.devices, parts.status, parts.timekeeper, parts.links.forget)
        return make_verbs(
            status=parts.status,
            devices=devices,
            replacements=ReplaceRequests(
                devices.find,
                parts.devices,
                staff.commands,
                staff.updates,
                staff.intervals,
            ),
            boards=BoardRequests(devices.find, staff.commands, staff.intervals),
            updates=UpdateRequests(devices.find, parts.devices, staff.updates),
            permit_join=self.permit_join,
            reload=self.reload,
            backups=Backups(folder / "backups", gateway, self._backup_parts),
            diagnostics=Diagnostics(folder / "diagnostics", gateway, sources),
        )

    def _backup_parts(self) -> BackupParts:
        settings = self._reloader.settings
        config = None if self._configuration is None else self._configuration.path
        files, credentials = wiring.backup_files(settings, config, self._parts.storage.keys.filed())
        outbox = settings.outbox_path

        async def copy_outbox(path: Path) -> None:
            await Call(partial(database.copy, outbox, path)).result()

        return BackupParts(
            files=files,
            credentials=credentials,
            databases={
                "outbox.db": DatabasePart(outbox, copy_outbox),
                "gateway.db": DatabasePart(settings.state_path, self._parts.storage.state.copy_to),
            },
            about={
                "version": __version__,
                "gateway": settings.gateway.name,
                "settings": wiring.public_settings(settings),
            },
        )

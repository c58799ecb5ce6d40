"""What `doctor` examines: a gateway, as configuration, service and files describe it."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from gateway import wiring
from gateway.config.bind_keys import read_bind_keys
from gateway.config.last_good import cut_off, last_good_path, read_last_good
from gateway.config.loader import (
    Overrides,
    exposed_secrets,
    load,
    read_file,
    read_password,
    with_credentials,
)
from gateway.config.models import Settings
from gateway.doctor import service
from gateway.doctor.case import Case, Who
from gateway.doctor.processes import gateway_of, rights_of
from gateway.errors import ConfigError
from gateway.links.threads import Call

_STATE_FOLDER = Path("/var/lib")
"""Where systemd makes StateDirectory=. Source: systemd.exec(5)."""
_READING_S = 10.0
"""How long the configuration, what it names and the list of processes may take to be read."""


async def described_in_time(
    case: Case,
    overrides: Overrides,
    services_config: Path | None = None,
    within_s: float = _READING_S,
) -> Case:
    """Do as `describe`; where that hangs, as on a dead disk, nothing of it is known but that."""
    try:
        async with asyncio.timeout(within_s):
            return await Call(partial(describe, case, overrides, services_config)).result()
    except TimeoutError:
        file = case.config or "the default configuration"
        what = f"{file}: no answer within {within_s:g} s: its disk, or that of the state, hangs"
        return replace(case, problems=(what,))


def describe(case: Case, overrides: Overrides, services_config: Path | None = None) -> Case:
    """Return the case with what its configuration tells.

    With the service's configuration it is the service that is examined: its rights, its folder.
    """
    is_services = case.unit is not None and case.config == services_config
    folder = None
    if is_services and case.unit and case.unit.state_folder:
        folder = _STATE_FOLDER / case.unit.state_folder
    kept_at = None if case.config is None else last_good_path(case.config, folder)
    kept = None if kept_at is None else read_last_good(kept_at)
    who = _whose_rights(case, is_services=is_services)
    try:
        settings = _settings(case.config, overrides, kept)
    except ConfigError as exc:
        problems = tuple(_lines(str(exc)))
        if os.geteuid() and all(each.lower().endswith("permission denied") for each in problems):
            return replace(case, is_hidden=True)
        case = replace(case, problems=problems)
        if kept is None:
            return case
        try:  # what a start uses, and maybe is in force
            settings = _checked(load(case.config, overrides, kept))
        except ConfigError:
            return case
        case = replace(case, last_good=kept_at)
    else:
        is_its_own = is_services or who is None
        case = replace(case, reload=_reload(case, kept) if is_its_own else "")
    settings = _in_folder(settings, folder)
    password, trouble = None, ""
    try:
        settings = with_credentials(settings)
        password = read_password(settings.mqtt)
    except ConfigError as exc:
        trouble = str(exc)
    return replace(
        case,
        remarks=tuple(exposed_secrets(settings, case.config)),
        ports=wiring.ports_options(settings),
        broker=wiring.broker_settings(settings, password),
        no_password=trouble,
        is_radio_wanted=settings.ble.enabled,
        adapter=settings.ble.adapter,
        outbox=settings.outbox_path,
        state=settings.state_path,
        own_files=() if _is_given(case, folder, who) else tuple(_own_files(settings, kept_at)),
        max_bytes=wiring.store_limits(settings).max_bytes,
        who=who,
    )


def _settings(config: Path | None, overrides: Overrides, kept: bytes | None) -> Settings:
    """Return the settings, as a gateway would take them from the file.

    Raises:
        ConfigError: it would not.
    """
    settings = _checked(load(config, overrides))
    if config is not None and (why := cut_off(read_file(config), kept)):
        raise ConfigError(f"{config}: {why}: a power cut leaves such a file")
    return settings


def _checked(settings: Settings) -> Settings:
    """Return settings that a gateway would start with, but for systemd's credentials."""
    read_bind_keys(settings.ble.bind_keys_file)
    if settings.mqtt.password_file is not None:
        read_password(settings.mqtt)
    return settings


def _in_folder(settings: Settings, folder: Path | None) -> Settings:
    """Return the settings of a service that has its state in `folder`, if they say nothing else."""
    if folder is None or settings.outbox.path is not None:
        return settings
    outbox = settings.outbox.model_copy(update={"path": str(folder / "outbox.db")})
    return settings.model_copy(update={"outbox": outbox})


def _reload(case: Case, kept: bytes | None) -> str:
    """Return what has a running gateway read the file; empty if it goes by the file as it is.

    What it keeps as the last good configuration is the one it goes by.
    """
    if case.config is None or kept is None:
        return ""
    running = gateway_of(case.machine.proc, case.config)
    if running is None or read_file(case.config) == kept:
        return ""
    if case.unit is not None and service.config_of(case.unit) == case.config:
        return f"sudo systemctl reload {case.unit.name}"
    return f"kill -HUP {running.pid}"


def _is_given(case: Case, folder: Path | None, who: Who | None) -> bool:
    """Tell whether systemd gives all that is in the folder to the service when it starts.

    Source: systemd.exec(5): StateDirectory= does if the folder itself is another's.
    """
    if folder is None or case.unit is None:
        return False
    try:
        owner = folder.stat().st_uid
    except OSError:
        return True  # it makes one, or nobody may look
    return case.unit.is_dynamic or (who is not None and owner != who.user)


def _own_files(settings: Settings, kept_at: Path | None) -> Iterator[Path]:
    """Yield what a gateway writes: somebody else's among them keeps it from that."""
    outbox, state, keys = settings.outbox_path, settings.state_path, settings.keys_path
    yield outbox.parent
    for each in (outbox, state):
        yield from (Path(f"{each}{suffix}") for suffix in ("", "-wal", "-shm"))
    yield from (outbox.with_suffix(".ledger"), Path(f"{outbox}.lock"), settings.joined_path, keys)
    if kept_at is not None:
        yield kept_at
    if keys.is_dir():
        yield from sorted(keys.iterdir())


def _whose_rights(case: Case, *, is_services: bool) -> Who | None:
    """Return whose rights count: the running gateway's, or the service's; None for our own."""
    proc = case.machine.proc
    running = gateway_of(proc, case.config)
    who = rights_of(proc, running) if running else None
    if who is None and is_services:
        who = service.who_of(case.unit)
    return None if who is None or who.user == os.geteuid() else who


def _lines(text: str) -> Iterator[str]:
    """Yield problems; what a TOML parser points at below belongs to the line before."""
    problem = ""
    for line in text.splitlines():
        if line.startswith("  "):
            problem = f"{problem} {line.strip()}" if line.strip() != "^" else problem
            continue
        if problem:
            yield problem
        problem = line
    yield problem

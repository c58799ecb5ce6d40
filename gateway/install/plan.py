"""What has to be done, from what is there and what is wanted. Pure: values in, actions out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from gateway.errors import ConfigError
from gateway.install import layout
from gateway.install.actions import (
    Action,
    Command,
    Environment,
    File,
    Folder,
    Link,
    Remark,
    Removal,
    Tidying,
    systemctl,
)
from gateway.install.source import Source

_FIRST_WITH_NOTIFY_RELOAD = 253
"""systemd of Debian 12 is 252. Source: Type= in systemd.service(5)."""


@dataclass(frozen=True, slots=True)
class ServiceFiles:
    """What a version brings along for systemd, udev and people."""

    unit: str
    reload: bytes
    """How an older systemd has it read its configuration again."""
    rules: bytes
    sysusers: bytes
    tmpfiles: bytes
    config: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there."""

    is_live: bool
    """Whether it is the machine that runs, and not a folder that becomes one."""
    systemd: int = 0
    """Its version; 0 where there is none."""
    current: str = ""
    """Key of the version in use; empty where nothing is installed."""
    previous: str = ""
    versions: frozenset[str] = frozenset()
    contents: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    links: Mapping[PurePosixPath, str] = field(default_factory=dict)
    is_packaged: bool = False
    """Whether the Debian package is installed."""
    in_the_way: frozenset[PurePosixPath] = frozenset()
    """What others made where only ours can be."""
    is_enabled: bool = False
    is_active: bool = False
    is_failing: bool = False
    """Whether it should run, and does not."""
    has_account: bool = False
    has_state: bool = False


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An upgrade that is tried before it is kept."""

    prepare: tuple[Action, ...]
    """Nothing of it touches the version that runs."""
    trial: tuple[Action, ...]
    """The next start is the new version's; the next boot still the old one's. Empty: no trial."""
    keep: tuple[Action, ...]
    back: tuple[Action, ...]


def refuse(seen: Seen) -> None:
    """Raise ConfigError where an installation would be in the way of another."""
    if seen.is_packaged:
        raise ConfigError(
            f"{layout.PACKAGED}: edge-gateway is installed as a Debian package; upgrade it with "
            "apt, or remove it first: sudo apt remove edge-gateway"
        )


def refuse_what_is_in_the_way(seen: Seen) -> None:
    """Raise ConfigError where something of somebody's own would be used instead, or destroyed."""
    if layout.ADMINISTRATORS_UNIT in seen.in_the_way:
        unit = layout.ADMINISTRATORS_UNIT
        raise ConfigError(
            f"{unit}: this unit comes before the one that would be installed. Is it masked: sudo "
            f"systemctl unmask {layout.UNIT}; else: sudo mv {unit} {unit}.old, and what is your "
            f"own in it belongs into: sudo systemctl edit {layout.UNIT}"
        )
    for path in sorted(seen.in_the_way):
        away = layout.HOME if path.is_relative_to(layout.HOME) else path
        raise ConfigError(
            f"{path}: was not made by `install`, which needs the place: sudo mv {away} {away}.old"
        )


def installation(seen: Seen, source: Source, service: ServiceFiles) -> tuple[Action, ...]:
    """Return what makes a running service of `source`; nothing where all is as it should be."""
    refuse(seen)
    refuse_what_is_in_the_way(seen)
    actions = [*_environment(seen, source)]
    if seen.current != source.key:
        actions.append(Link(layout.CURRENT, f"versions/{source.key}"))
    files = [*_service_files(seen, service)]
    if layout.TRIAL_FILE in seen.contents:  # of an upgrade that was broken off
        files.append(Removal(layout.TRIAL_FILE))
    changed = {each.path for each in files if isinstance(each, File | Removal)}
    actions += [*files, *_commands(seen), *_configuration(seen, service.config)]
    actions += _settling(seen, changed)
    if not seen.is_live:
        if not seen.is_enabled:
            actions += [Folder(layout.WANTED.parent), Link(layout.WANTED, str(layout.UNIT_FILE))]
        return tuple(actions)
    if not seen.is_enabled:
        actions.append(systemctl("enable", layout.UNIT))
    if not seen.is_active:
        actions.append(systemctl("start", layout.UNIT))
    elif actions:
        actions.append(systemctl("restart", layout.UNIT))
    return tuple(actions)


def upgrade(seen: Seen, source: Source, service: ServiceFiles) -> Upgrade:
    """Return how `source` comes in the place of the version in use, and how that comes back.

    The version in use stays what it is until the new one has proven itself: the trial's unit is in
    /run, where neither a reboot nor a loss of power leaves it.

    Raises:
        ConfigError: nothing is installed.
    """
    refuse(seen)
    refuse_what_is_in_the_way(seen)
    if not seen.current:
        raise ConfigError("nothing is installed that could be upgraded: edge-gateway install")
    python = layout.version_folder(source.key) / "bin" / "python3"
    check = Command((python, "-m", "gateway", "check-config", layout.CONFIG))
    is_tried = seen.is_live and seen.is_active
    prepare = [*_environment(seen, source), *([check] if _has_config(seen) else [])]
    files = [*_service_files(seen, service)]
    changed = {each.path for each in files if isinstance(each, File | Removal)}
    keep: list[Action] = [
        Link(layout.PREVIOUS, f"versions/{seen.current}"),
        Link(layout.CURRENT, f"versions/{source.key}"),
        *files,
        *_commands(seen),
        *_configuration(seen, service.config),
    ]
    if is_tried:
        keep.append(Removal(layout.TRIAL_FILE))
    keep += _settling(seen, changed, is_reload_due=is_tried)
    stale = sorted(seen.versions - {seen.current, source.key})
    keep += [Removal(layout.version_folder(key)) for key in stale]
    if not is_tried:
        keep.append(Remark("the service does not run, so the new version is not tried"))
        if seen.is_failing:  # nothing to lose
            keep.append(systemctl("restart", "--no-block", layout.UNIT))
        return Upgrade(tuple(prepare), (), tuple(keep), ())
    trial_unit = layout.unit_of_trial(service.unit, source.key)
    trial = (
        Folder(layout.TRIAL_FILE.parent),
        File(layout.TRIAL_FILE, trial_unit.encode()),
        systemctl("daemon-reload"),
    )
    back: list[Action] = [Removal(layout.TRIAL_FILE), systemctl("daemon-reload")]
    if source.key not in seen.versions:
        back.append(Removal(layout.version_folder(source.key)))
    return Upgrade(tuple(prepare), trial, tuple(keep), tuple(back))


def removal(seen: Seen, *, is_purged: bool) -> tuple[Action, ...]:
    """Return what takes the service away; configuration and state stay, unless it is purged."""
    refuse(seen)
    actions: list[Action] = []
    if seen.is_live and (seen.is_enabled or seen.is_active or seen.is_failing):
        actions.append(systemctl("disable", "--now", layout.UNIT, is_needed=False))
    there = [path for path in (*_OURS, layout.TRIAL_FILE) if path in seen.contents]
    links = [path for path in (layout.COMMAND, layout.WANTED) if path in seen.links]
    actions += [Removal(path) for path in (*there, *links)]
    if there:
        actions.append(Tidying(_OUR_FOLDERS))
    if seen.versions or seen.current:
        actions.append(Removal(layout.HOME))
    if seen.is_live and there:
        actions.append(systemctl("daemon-reload", is_needed=False))
        actions.append(systemctl("reset-failed", layout.UNIT, is_needed=False))
        actions.append(Command(("udevadm", "control", "--reload"), is_needed=False))
    if not is_purged:
        kept = [*([layout.CONFIGURATION] if _has_config(seen) else [])]
        kept += [layout.STATE] if seen.has_state else []
        if kept and actions:
            actions.append(Remark(f"kept: {', '.join(map(str, kept))} (--purge removes it)"))
        return tuple(actions)
    if _has_config(seen) or layout.DEFAULT_CONFIG in seen.contents:
        actions.append(Removal(layout.CONFIGURATION))
    if seen.has_state:
        actions.append(Removal(layout.STATE))
    if seen.has_account and seen.is_live:
        actions.append(Command(("userdel", layout.ACCOUNT), is_needed=False))
    return tuple(actions)


_OURS = (
    layout.UNIT_FILE,
    layout.RELOAD_FILE,
    layout.RULES_FILE,
    layout.SYSUSERS_FILE,
    layout.TMPFILES_FILE,
)

_OUR_FOLDERS = tuple(
    path
    for each in (
        layout.RELOAD_FILE,
        layout.RULES_FILE,
        layout.SYSUSERS_FILE,
        layout.TMPFILES_FILE,
    )
    for path in each.parents
    if path.is_relative_to(layout.LOCAL) and path != layout.LOCAL
)
"""Of a file the folders above it, inner ones first."""


def _environment(seen: Seen, source: Source) -> Iterator[Action]:
    if source.key not in seen.versions:
        yield Environment(layout.version_folder(source.key), source)


def _service_files(seen: Seen, service: ServiceFiles) -> Iterator[Action]:
    wanted = {
        layout.UNIT_FILE: service.unit.encode(),
        layout.RULES_FILE: service.rules,
        layout.SYSUSERS_FILE: service.sysusers,
        layout.TMPFILES_FILE: service.tmpfiles,
    }
    if 0 < seen.systemd < _FIRST_WITH_NOTIFY_RELOAD:
        wanted[layout.RELOAD_FILE] = service.reload
    elif layout.RELOAD_FILE in seen.contents:
        yield Removal(layout.RELOAD_FILE)
    for path, content in wanted.items():
        if seen.contents.get(path) != content:
            yield Folder(path.parent)
            yield File(path, content)


def _commands(seen: Seen) -> Iterator[Action]:
    """Yield the links by which the unit and people find the version in use."""
    for path, target in (
        (layout.PROGRAMS, "current/bin"),
        (layout.COMMAND, str(layout.PROGRAMS / "edge-gateway")),
    ):
        if seen.links.get(path) != target:
            yield Folder(path.parent)
            yield Link(path, target)


def _configuration(seen: Seen, default: bytes) -> Iterator[Action]:
    """Yield what there is to do: what people wrote is never touched."""
    if seen.contents.get(layout.DEFAULT_CONFIG) != default:
        yield Folder(layout.CONFIGURATION)
        yield File(layout.DEFAULT_CONFIG, default)
    if not _has_config(seen):
        yield Folder(layout.CONFIGURATION)
        yield File(layout.CONFIG, default)


def _has_config(seen: Seen) -> bool:
    return layout.CONFIG in seen.contents


def _settling(
    seen: Seen, changed: set[PurePosixPath], *, is_reload_due: bool = False
) -> Iterator[Action]:
    """Yield what makes the system take notice of files that were written."""
    if layout.SYSUSERS_FILE in changed or not seen.has_account:
        yield Command(("systemd-sysusers", *_root(seen), layout.SYSUSERS_FILE))
    if layout.TMPFILES_FILE in changed or not (seen.has_account and seen.has_state):
        yield Command(("systemd-tmpfiles", "--create", *_root(seen), layout.TMPFILES_FILE))
    if not seen.is_live:
        return
    if layout.RULES_FILE in changed:
        yield Command(("udevadm", "control", "--reload"), is_needed=False)
        yield Command(("udevadm", "trigger", "--subsystem-match=tty"), is_needed=False)
    units = {layout.UNIT_FILE, layout.RELOAD_FILE, layout.TRIAL_FILE}
    if is_reload_due or changed & units:
        yield systemctl("daemon-reload")


def _root(seen: Seen) -> tuple[PurePosixPath | str, ...]:
    return () if seen.is_live else ("--root", PurePosixPath("/"))

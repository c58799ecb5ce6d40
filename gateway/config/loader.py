"""Reads the configuration file; names everything that is wrong with it at once."""

import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.models import Settings
from gateway.config.mqtt_models import MqttSettings
from gateway.config.problems import Problem, path_text, problems_of
from gateway.config.toml_lines import KeyPath, line_numbers, nearest_line
from gateway.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
"""A larger file is no configuration; keeps a wrong path such as /dev/zero harmless."""
MAX_SECRET_BYTES = 65_535
"""Longest password or user name MQTT can carry."""

_FILES = {
    "mqtt": ("ca_file", "cert_file", "key_file", "password_file"),
    "ble": ("bind_keys_file",),
}
"""Keys of sections that name a file which must be there."""

_MADE_FILES = {"outbox": ("path",), "gateway": ("control_socket",)}
"""Keys of sections that name a file which the gateway makes."""

_SYNTAX_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")

Overrides = Mapping[str, Mapping[str, object]]
"""Section to key to value; a value of the command line that replaces the file's."""

_Look = Callable[[dict[str, Any], Path | None], list[Problem]]
"""Finds problems with the files that are named."""


def load(
    path: Path | None, overrides: Overrides | None = None, content: bytes | None = None
) -> Settings:
    """Return the settings of the file, or the defaults where `path` is None.

    Relative paths of files in it are relative to the folder of the configuration file. `content` is
    taken for the file's, which is not read then.

    Raises:
        ConfigError: with one line for every problem: file, line, key, what is wrong, a hint.
    """
    return _load(path, overrides or {}, _unusable_files, content)


def load_elsewhere(path: Path | None) -> Settings:
    """Do as `load` on a machine that is not the gateway's: the files it names need not be here."""
    return _load(path, {}, lambda _content, _path: [])


def _load(
    path: Path | None, overrides: Overrides, look_at_files: _Look, given: bytes | None = None
) -> Settings:
    text = "" if path is None else _decoded(read_file(path) if given is None else given, path)
    content = _parse(text, path)
    problems: list[Problem] = []
    settings = None
    try:
        settings = Settings.model_validate(_merged(content, overrides, path))
    except ValidationError as exc:
        problems += problems_of(exc, Settings.model_json_schema())
    problems += look_at_files(content, path)
    if settings is None or problems:
        raise ConfigError(_report(problems, text, path, overrides))
    return settings


def read_password(mqtt: MqttSettings) -> str | None:
    """Return the broker's password from its file or systemd credential; None if there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    if mqtt.password_file:
        return _first_line(mqtt.password_file, "mqtt.password_file")
    if mqtt.password_credential:
        path = _credential(mqtt.password_credential, "mqtt.password_credential")
        return _first_line(path, "mqtt.password_credential")
    return None


def with_credentials(settings: Settings) -> Settings:
    """Return the settings with what systemd's credentials hold: the user name, the client's key.

    Raises:
        ConfigError: there are none, or one cannot be read.
    """
    mqtt = settings.mqtt
    told: dict[str, object] = {}
    if mqtt.username_credential:
        path = _credential(mqtt.username_credential, "mqtt.username_credential")
        told["username"] = _first_line(path, "mqtt.username_credential")
    if mqtt.key_credential:
        told["key_file"] = _credential(mqtt.key_credential, "mqtt.key_credential")
    if not told:
        return settings
    return settings.model_copy(update={"mqtt": mqtt.model_copy(update=told)})


def exposed_secrets(settings: Settings, config: Path | None = None) -> Iterator[str]:
    """Yield what is wrong with the rights of files that hold secrets, and what would mend it.

    `config` is the file of the settings, in which keys of adverts may stand.
    """
    mqtt = settings.mqtt
    has_keys = any(device.bind_key for device in settings.ble.device)
    for key, path in (
        ("ble.device.bind_key", config if has_keys else None),
        ("mqtt.key_file", mqtt.key_file),
        ("mqtt.cert_file", None if mqtt.key_file or mqtt.key_credential else mqtt.cert_file),
        ("mqtt.password_file", mqtt.password_file),
        ("ble.bind_keys_file", settings.ble.bind_keys_file),
    ):
        if path is None:
            continue
        with suppress(OSError):  # whoever opens it says so
            mode = path.stat().st_mode
            if mode & stat.S_IROTH:
                yield f"{key}: every user of this machine can read {path}: chmod o= {path}"
            elif mode & stat.S_IWOTH:
                yield f"{key}: every user of this machine can change {path}: chmod o= {path}"


def _credential(name: str, key: str) -> Path:
    """Return the file of a systemd credential. Source: systemd.exec(5), $CREDENTIALS_DIRECTORY."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigError(
            f"{key}: {name}: there are no credentials here; systemd provides them to a service "
            f"that has LoadCredential={name}:FILE"
        )
    return Path(folder, name)


def read_file(path: Path) -> bytes:
    """Return what is in a configuration file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc


def _decoded(content: bytes, path: Path) -> str:
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB; is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8; save the file as UTF-8") from exc


def _parse(text: str, path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as exc:  # a number of thousands of digits is no TOMLDecodeError
        raise ConfigError(_syntax_report(str(exc), text, path)) from exc
    except RecursionError as exc:
        raise ConfigError(f"{path}: nested too deep to be a configuration") from exc


def _syntax_report(message: str, text: str, path: Path | None) -> str:
    """Return the parser's message with its place in front and the line it means below."""
    place = _SYNTAX_PLACE.search(message)
    if place is None or place[1] is None:
        lines = text.count("\n") + 1
        return f"{path}:{lines}: not valid TOML: {_SYNTAX_PLACE.sub('', message)} (end of file)"
    number, column = int(place[1]), int(place[2])
    lines_of_text = text.split("\n")
    line = lines_of_text[number - 1].rstrip("\r")[:200] if number <= len(lines_of_text) else ""
    report = f"{path}:{number}:{column}: not valid TOML: {message[: place.start()]}"
    if message.startswith("Invalid value"):
        report += "; text needs quotes around it"
    elif message.startswith("Cannot overwrite a value"):
        report += "; this key is there twice"
    if line.isprintable() and "password" not in line.lower():
        report += f"\n  {line}\n  {'^':>{column}}"
    return report


def _merged(content: dict[str, Any], overrides: Overrides, path: Path | None) -> dict[str, Any]:
    merged = dict(content)
    for section, keys in (_MADE_FILES | _FILES).items():
        below = content.get(section)
        if path is not None and isinstance(below, dict):
            files = {key: below[key] for key in keys if isinstance(below.get(key), str)}
            merged[section] = below | {key: str(path.parent / name) for key, name in files.items()}
    for section, values in overrides.items():
        below = merged.get(section, {})
        if isinstance(below, dict):
            merged[section] = {**below, **values}
    return merged


def _unusable_files(content: dict[str, Any], path: Path | None) -> list[Problem]:
    if path is None:
        return []
    problems = []
    for section, keys in _FILES.items():
        below = content.get(section)
        if not isinstance(below, dict):
            continue
        for key in keys:
            name = below.get(key)
            if isinstance(name, str) and (trouble := _trouble_with(path.parent / name)):
                problems.append(Problem((section, key), f"{name}: {trouble}"))
    return problems


def _trouble_with(path: Path) -> str:
    """Return why a file cannot be read, or nothing."""
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return "this is a folder"
        with path.open("rb"):
            return ""
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the name
        return (getattr(exc, "strerror", None) or str(exc)).lower()


def _report(problems: list[Problem], text: str, path: Path | None, overrides: Overrides) -> str:
    lines = line_numbers(text)
    told = sorted(
        (nearest_line(lines, problem.path) or 0, index, problem)
        for index, problem in enumerate(problems)
    )
    return "\n".join(
        f"{_place(line, problem.path, path, overrides)}{path_text(problem.path)}: {problem.text}"
        for line, _, problem in told
    )


def _place(line: int, key: KeyPath, path: Path | None, overrides: Overrides) -> str:
    if len(key) > 1 and key[1] in overrides.get(str(key[0]), {}):
        return "command line: "
    return f"{path}:{line}: " if line else ""


def _first_line(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        secret = content.split(b"\n")[0].removesuffix(b"\r").decode()
    except OSError as exc:
        raise ConfigError(f"{where}: {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{where}: {path}: it is not UTF-8") from exc
    if not secret:
        raise ConfigError(f"{where}: {path}: the first line is empty")
    if len(content) > MAX_SECRET_BYTES:
        raise ConfigError(f"{where}: {path}: longer than MQTT can carry")
    return secret

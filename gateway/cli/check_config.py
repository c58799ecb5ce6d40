"""List everything that is wrong with a configuration file; print what it means if nothing is.

What is printed is a complete configuration: each key with the value in force, no secrets.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.cli.commands import OK
from gateway.config.bind_keys import read_bind_keys
from gateway.config.loader import exposed_secrets, load
from gateway.config.models import Settings
from gateway.config.mqtt_models import MqttSettings

EPILOG = """\
examples:
  edge-gateway check-config /etc/edge-gateway/gateway.toml

A problem has the form FILE:LINE: KEY: what is wrong, and what would do. Problems go to stderr.
Exit codes: 0 the file is right, 2 it has problems or cannot be read.
"""

_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the file."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the configuration, TOML")


def execute(arguments: argparse.Namespace) -> int:
    """Check the file."""
    path: Path = arguments.file
    settings = load(path)
    read_bind_keys(settings.ble.bind_keys_file)
    for remark in _remarks(path, settings):
        print(f"edge-gateway: {remark}", file=sys.stderr)
    print(f"# {path} has no problems. In force are:")
    print("\n".join(effective_toml(settings)))
    return OK


def effective_toml(settings: Settings) -> Iterator[str]:
    """Yield the lines of a configuration in which nothing is left to its default."""
    shown = settings.model_dump(mode="json")
    shown["mqtt"] |= {
        "port": settings.mqtt.broker_port,
        "tls": settings.mqtt.uses_tls,
        "client_id": settings.client_id,
        "base_topic": settings.base_topic,
    }
    ports = shown["serial"].pop("port")
    radio_devices = shown["ble"].pop("device")
    devices = shown.pop("device")
    for section, values in shown.items():
        yield from ("", f"[{section}]")
        yield from _lines(values)
    for port in ports:
        yield from ("", "[[serial.port]]")
        yield from _lines(port)
    for device in radio_devices:
        has_key = device.pop("bind_key")
        yield from ("", "[[ble.device]]")
        yield from _lines(device)
        yield f"# bind_key is {'not shown' if has_key else 'not set'}"
    for device in devices:
        sensors = device.pop("sensor")
        yield from ("", "[[device]]")
        yield from _lines(device)
        for sensor in sensors:
            yield from ("", "[[device.sensor]]")
            yield from _lines(sensor)


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:  # noqa: ANN401  # whatever a configuration can hold
    match value:
        case dict():
            filled = {key: part for key, part in value.items() if part != ""}
            return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in filled.items()) + " }"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:  # JSON's texts, numbers and booleans are TOML's too, but for this one character
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _remarks(path: Path, settings: Settings) -> Iterator[str]:
    """Yield what is not wrong, but worth a look."""
    if path.is_file() and not path.stat().st_size:
        yield (
            f"{path} is empty: a gateway that ran with another one takes that for what a power cut "
            "left, and goes on with the other; put a comment into it if it is meant"
        )
    for key in ("key_credential", "username_credential", "password_credential"):
        if getattr(settings.mqtt, key):
            yield (
                f"mqtt.{key} is not checked: systemd gives credentials to a running service only"
            )
    yield from exposed_secrets(settings, path)
    if _sends_password_in_the_clear(settings.mqtt):
        yield "mqtt.tls is off: whoever is on the way to the broker can read the password"
    if not settings.mqtt.is_configured:
        yield "mqtt.host is not set: `run` will look for a broker on this machine"


def _sends_password_in_the_clear(mqtt: MqttSettings) -> bool:
    has_password = mqtt.password_file or mqtt.password_credential
    return bool(has_password) and not mqtt.uses_tls and mqtt.host not in _THIS_MACHINE

"""The picture of the layers in CONTRIBUTING.md, checked."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "gateway"

HEIGHT = {
    "__init__": 0,
    "errors": 0,
    "files": 0,
    "model": 0,
    "clock": 0,
    "timekeeper": 0,
    "backoff": 0,
    "cadence": 0,
    "joining": 0,
    "status": 0,
    "checkup": 0,
    "progress": 0,
    "systemd": 0,
    "journald": 0,
    "log_fields": 0,
    "protocol": 1,
    "firmware_files": 1,
    "bundle": 1,
    "config": 1,
    "requests": 1,
    "drivers": 2,
    "processing": 2,
    "links": 3,
    "store": 3,
    "mqtt": 3,
    "simulate": 3,
    "own_bundle": 3,
    "supervise": 4,
    "house": 4,
    "devices": 4,
    "pipeline": 4,
    "ports": 4,
    "all_links": 4,
    "operation": 4,
    "staff": 4,
    "storage": 4,
    "reload": 4,
    "wiring": 4,
    "health": 4,
    "watchdog": 4,
    "timedate": 4,
    "app": 4,
    "ble": 4,
    "commands": 4,
    "admin": 4,
    "updates": 4,
    "doctor": 4,
    "flash": 4,
    "install": 4,
    "cli": 5,
    "__main__": 5,
}
"""A module imports only its own or lower heights."""

SIBLINGS_APART = 3
"""Packages of this height never import each other; `app` joins them."""

FIRST_HEIGHT_WITH_ASYNCIO = 3

OWNERS = {
    "serial": {"links/serial_port.py", "links/posix_serial.py"},
    "serial_asyncio": {"links/serial_port.py"},
    "aiomqtt": {"mqtt/connection.py"},
    "paho": {"mqtt/connection.py", "mqtt/paho_packets.py"},
    "amqtt": {"simulate/broker.py"},
    "bleak": {
        "links/ble_backend.py",
        "links/ble_connecting.py",
        "links/ble_connection.py",
        "links/ble_failures.py",
        "links/ble_gatt.py",
        "links/ble_scanner.py",
        "simulate/radio/bleak_backend.py",
    },
    "bleak_retry_connector": {"links/ble_connecting.py"},
    "dbus_fast": {"links/ble_adapter.py", "links/ble_look.py"},
    "bumble": {"simulate/radio/*"},
    "sqlite3": {"store/database.py", "store/state_database.py", "store/versions.py"},
    "cryptography": {
        "bundle/signing.py",
        "cli/certificates.py",
        "simulate/radio/advertisers.py",
    },
    "mpremote": {"flash/repl.py"},
    "esptool": set(),
    "pydantic": {"config/*", "requests/*"},
    "pydantic_core": {"config/*", "requests/*"},
    "rich": {"cli/*"},
}
"""Each I/O library has one owner, so that replacing it changes one module."""

SETTINGS_READERS = {"app", "operation", "wiring", "reload", "cli", "config", "__main__"}

MODULES = sorted(ROOT.rglob("*.py"))


@cache
def imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    package = package_of(path)
    for name in imported_names(path):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top != "gateway" or target in {package, "__version__"}:
            continue
        assert HEIGHT[target] <= HEIGHT[package], f"{path} imports {name}, which is higher"
        are_siblings = HEIGHT[target] == HEIGHT[package] == SIBLINGS_APART
        assert not are_siblings, f"{path} imports its sibling {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_is_pure(path: Path) -> None:
    if HEIGHT[package_of(path)] < FIRST_HEIGHT_WITH_ASYNCIO:
        tops = {name.partition(".")[0] for name in imported_names(path)}
        assert not tops & {"asyncio", "select", "threading", "subprocess"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_library_has_one_owner(path: Path) -> None:
    here = path.relative_to(ROOT)
    for name in imported_names(path):
        owners = OWNERS.get(name.partition(".")[0])
        if owners is not None:
            assert any(here.match(owner) for owner in owners), f"{here} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_are_read_at_the_top_only(path: Path) -> None:
    if package_of(path) not in SETTINGS_READERS:
        assert not any(name.startswith("gateway.config") for name in imported_names(path))


def test_every_module_has_a_height() -> None:
    assert {package_of(path) for path in MODULES} <= set(HEIGHT)


def test_nothing_of_the_radio_is_imported_before_there_is_one() -> None:
    radio = "{'bleak', 'bleak_retry_connector', 'dbus_fast', 'bthome_ble', 'cryptography'}"
    script = f"import sys, gateway.cli.run; sys.exit(' '.join({radio} & set(sys.modules)) or 0)"

    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)

    assert (done.returncode, done.stderr) == (0, b"")

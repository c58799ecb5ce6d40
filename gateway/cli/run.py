"""Read every board on every serial port, and publish its samples, until stopped.

Boards may come and go at any time; nothing is configured per board. Without --config and --broker
the broker is looked for on this machine; if there is none, a small one is started (extra `demo`).
"""

import argparse
import asyncio
import logging
import os
import signal
from functools import partial
from pathlib import Path

from gateway.app import App
from gateway.cli import logs
from gateway.cli.commands import OK
from gateway.cli.embedded import embedded_broker, embedded_settings, listens, run_with
from gateway.cli.stopping import run_until_stopped
from gateway.config.broker_url import parse_broker
from gateway.config.loader import Overrides, exposed_secrets, load, read_password, with_credentials
from gateway.config.models import Settings
from gateway.config.mqtt_models import MQTT_PORT
from gateway.errors import ConfigError
from gateway.simulate.broker import available

EPILOG = """\
examples:
  edge-gateway run
  edge-gateway run --broker mqtts://gateway@broker.local
  edge-gateway run --broker broker.local --port-pattern '/dev/ttyS*' --port-pattern '/dev/ttyUSB*'
  edge-gateway run --config /etc/edge-gateway/gateway.toml

Ctrl-C or SIGTERM stops it in order; SIGHUP reads the configuration again (without --config, and in
a terminal, it stops the gateway); SIGUSR1 lets Bluetooth devices join for a while, where the
configuration has `join = "window"`. The password of the broker comes from a file or a systemd
credential named in the configuration, never from the command line.
Exit codes: 0 stopped, 1 failed, 2 wrong usage or configuration.
"""

LOCALHOST = "localhost"

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take a configuration and what replaces parts of it."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration, TOML")
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="mqtt://[user@]host[:port], mqtts:// for TLS, or just host[:port]",
    )
    parser.add_argument(
        "--port-pattern",
        action="append",
        metavar="GLOB",
        help="serial ports to open, such as '/dev/ttyUSB*'; may be given more than once",
    )
    parser.add_argument(
        "--adapter", metavar="NAME", help="the Bluetooth radio, such as hci0 (default: the first)"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="least severity of what is written to stderr (default: info)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Be the gateway."""
    overrides = _overrides(arguments)
    settings, password = _read(arguments.config, overrides)
    logs.configure(settings.log.level)
    for remark in exposed_secrets(settings):
        _log.warning("%s", remark)
    run_until_stopped(_run(settings, password, arguments.config, overrides))
    return OK


def _read(config: Path | None, overrides: Overrides) -> tuple[Settings, str | None]:
    """Return the settings, and the broker's password."""
    settings = with_credentials(load(config, overrides))
    return settings, read_password(settings.mqtt)


def _overrides(arguments: argparse.Namespace) -> dict[str, dict[str, object]]:
    overrides: dict[str, dict[str, object]] = {}
    if arguments.broker is not None:
        overrides["mqtt"] = parse_broker(arguments.broker)
    if arguments.port_pattern:
        overrides["serial"] = {"patterns": arguments.port_pattern}
    if arguments.adapter is not None:
        overrides["ble"] = {"adapter": arguments.adapter}
    if arguments.log_level:
        overrides["log"] = {"level": arguments.log_level}
    return overrides


async def _run(
    settings: Settings, password: str | None, config: Path | None, overrides: Overrides
) -> None:
    if settings.serial.enabled:
        _log.info("looking for boards at %s", ", ".join(settings.serial.patterns))
    if settings.mqtt.is_configured or await listens(LOCALHOST, MQTT_PORT):
        app = App(
            settings,
            password,
            reread=None if config is None else partial(_read, config, overrides),
            config=config,
        )
        _heed_signals(app, config)
        await app.run()
        return
    if not available():
        raise ConfigError(
            f"no broker is configured and none listens on {LOCALHOST}:{MQTT_PORT}; name one with "
            "--broker, or install the embedded one: pip install 'edge-gateway[demo]'"
        )
    async with await embedded_broker() as broker:
        _log.warning(
            "no broker is configured and none listens on %s:%d: started the embedded one on %s:%d",
            LOCALHOST,
            MQTT_PORT,
            broker.host,
            broker.port,
        )
        mqtt = {**overrides.get("mqtt", {}), **embedded_settings(broker)}
        read = partial(_read, config, {**overrides, "mqtt": mqtt})
        app = App(*read(), reread=None if config is None else read, config=config)
        _heed_signals(app, config)
        await run_with(app, broker)


def _heed_signals(app: App, config: Path | None) -> None:
    """Let SIGUSR1 open a window for devices to join, and SIGHUP read the configuration again.

    In a terminal SIGHUP says that it is closed, and ends the gateway as ever.
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, app.operation.open_join_window)
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    if config is not None and not is_ignored and not os.isatty(0):
        loop.add_signal_handler(signal.SIGHUP, app.operation.request_reload)

"""Read every board on every serial port, and publish its samples, until stopped.

Boards may come and go at any time; nothing is configured per board. Without --config and --broker
the broker is looked for on this machine; if there is none, a small one is started (extra `demo`).
With --config the one on this machine is waited for, unless the file names another.
"""

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.app import App, Chore
from gateway.cli import logs
from gateway.cli.commands import OK
from gateway.cli.embedded import embedded_broker, embedded_settings, listens, run_with
from gateway.cli.stopping import run_until_stopped
from gateway.config.broker_url import parse_broker
from gateway.config.loader import exposed_secrets
from gateway.config.models import Settings
from gateway.config.mqtt_models import MQTT_PORT
from gateway.config.source import Source
from gateway.errors import ConfigError
from gateway.simulate.broker import available
from gateway.systemd import Notifier

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
A configuration that is broken at the start, as a power cut may leave it, does not end the gateway:
it goes on with the last good one, which it keeps in its state folder, and says so in its log, in
the health document and to Home Assistant. With --strict, or without a last good one, it ends.
Exit codes: 0 stopped, 1 failed, 2 wrong usage or configuration.
"""

LOCALHOST = "localhost"

LOG_LOOK_S = 1.0
"""How often the log is asked what it left out."""

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take a configuration and what replaces parts of it."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration, TOML")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="end with 2 if the configuration is broken, rather than use the last good one",
    )
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
    source = Source(arguments.config, _overrides(arguments), is_strict=arguments.strict)
    settings, password = source.begin()
    look_at_log = logs.serve(settings.log.level)
    faulthandler.enable()  # the watchdog of systemd ends what hangs with SIGABRT: the log has where
    if source.trouble:
        _tell_trouble(source)
    for remark in exposed_secrets(settings, source.path):
        _log.warning("%s", remark)
    run_until_stopped(_run(settings, password, source, look_at_log))
    return OK


def _tell_trouble(source: Source) -> None:
    """Say loudly that it is not the file that is in force."""
    for line in source.trouble.split("\n"):
        _log.error("%s", line)
    _log.error(
        "%s is broken: until it is mended, and read again, the last good one is in force: %s",
        *(source.path, source.last_good()),
    )


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
    settings: Settings, password: str | None, source: Source, look_at_log: Callable[[], None]
) -> None:
    if settings.serial.enabled:
        _log.info("looking for boards at %s", ", ".join(settings.serial.patterns))
    make_app = partial(
        App,
        configuration=source,
        notifier=Notifier(),
        chores=(Chore("log", LOG_LOOK_S, look_at_log),),
    )
    # Who gives a configuration is a service, and waits for a broker that comes later.
    is_decided = source.path is not None or settings.mqtt.is_configured
    if is_decided or await listens(LOCALHOST, MQTT_PORT):
        _tell_where(settings)
        app = make_app(settings, password)
        _heed_signals(app, source.path)
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
        source.override("mqtt", embedded_settings(broker))
        settings, password = source.begin()
        _tell_where(settings)
        app = make_app(settings, password)
        _heed_signals(app, source.path)
        await run_with(app, broker)


def _tell_where(settings: Settings) -> None:
    """Say what nobody who gave no configuration can know."""
    _log.info(
        "publishing below %s at %s:%d; what the broker does not have waits in %s",
        *(settings.base_topic, settings.mqtt.host, settings.mqtt.broker_port),
        settings.outbox_path,
    )


def _heed_signals(app: App, config: Path | None) -> None:
    """Let SIGUSR1 open a window for devices to join, and SIGHUP read the configuration again.

    In a terminal SIGHUP says that it is closed, and ends the gateway as ever.
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, app.operation.open_join_window)
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    if config is not None and not is_ignored and not os.isatty(0):
        loop.add_signal_handler(signal.SIGHUP, app.operation.request_reload)

"""Finds the command somebody typed, runs it, and turns its errors into exit codes."""

import argparse
import difflib
import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol, cast

from gateway import __version__
from gateway.cli.help_text import HelpFormatter
from gateway.cli.imports import imported
from gateway.errors import ConfigError, GatewayError

PROGRAM = "edge-gateway"

OK = 0
FAILED = 1
USAGE = 2
"""The command line or the configuration cannot be used."""
INTERRUPTED = 130
"""Ctrl-C in a command that would have ended by itself; 128 + SIGINT, as shells count."""

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("gateway.cli.run", "read every board and publish its samples until stopped"),
    "demo": ("gateway.cli.demo", "try it: simulated boards, a broker of its own, a live table"),
    "simulate": ("gateway.cli.simulate", "offer simulated boards on ptys, for a gateway elsewhere"),
    "sniff": ("gateway.cli.sniff", "show what goes over a serial line, in words"),
    "ports": ("gateway.cli.ports", "list what is plugged in, and what speaks"),
    "scan": ("gateway.cli.scan", "list who is heard on the Bluetooth radio, and what they say"),
    "check-config": ("gateway.cli.check_config", "list everything wrong with a configuration"),
    "doctor": ("gateway.cli.doctor", "say what is wrong in words, and what mends it"),
    "install": ("gateway.cli.install", "make this gateway a service of this machine"),
    "upgrade": ("gateway.cli.upgrade", "have the service run this version, if it proves itself"),
    "uninstall": ("gateway.cli.uninstall", "remove the service; configuration and state stay"),
    "config-schema": ("gateway.cli.config_schema", "print the JSON Schema of the configuration"),
    "request": ("gateway.cli.request", "ask a running gateway for something, over MQTT"),
    "replace": ("gateway.cli.replace", "have a new board go on in the place of an old one"),
    "keys": ("gateway.cli.keys", "list, export, rotate or remove the keys of boards"),
    "update": ("gateway.cli.update", "bring boards other firmware or settings, and watch it"),
    "flash": ("gateway.cli.flash", "make a bare board one of ours, whatever is on it now"),
    "bundle": ("gateway.cli.bundle", "show, write, sign or verify what goes onto boards"),
    "certs": ("gateway.cli.certs", "make certificates: an authority, the broker's, the clients'"),
    "mosquitto-acl": (
        "gateway.cli.mosquitto_acl",
        "print access list and configuration of a mosquitto for this gateway",
    ),
    "version": ("gateway.cli.version", "print the versions of the gateway and what it stands on"),
}
"""Name to module and summary; only the module of the command that runs is imported."""

_LIST = "\n".join(f"  {name:14} {summary}" for name, (_, summary) in COMMANDS.items())
_EPILOG = f"""\
commands:
{_LIST}

examples:
  {PROGRAM} demo                         watch it work, with nothing plugged in
  {PROGRAM} run                          read every board, publish to the broker on localhost
  {PROGRAM} run --broker mqtt://broker.local
  {PROGRAM} ports                        what is plugged in?

`{PROGRAM} COMMAND --help` says more. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
"""


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Command(Protocol):
    """What the module of a command offers."""

    EPILOG: str
    """Examples, shown below the help."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what the command takes."""

    def execute(self, arguments: argparse.Namespace) -> int:
        """Do it; return the exit code. Raises GatewayError for the errors it expects."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; usage errors exit at once."""
    words = sys.argv[1:] if words is None else words
    parser, chosen, command = _parser(words)
    arguments, rest = parser.parse_known_args(words)
    if rest and not _takes(arguments, rest):
        chosen.error(f"unrecognized arguments: {' '.join(rest)}")
    if command is None:
        parser.print_help()
        return USAGE
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.default_int_handler)
    return _executed(command, arguments)


def _executed(command: Command, arguments: argparse.Namespace) -> int:
    try:
        code = command.execute(arguments)
        sys.stdout.flush()
    except ConfigError as exc:
        _complain(exc)
        return USAGE
    except GatewayError as exc:
        _complain(exc)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `edge-gateway ... | head` has seen enough
        _let_go_of_output()
        return OK
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        _complain(GatewayError(f"{exc.filename or 'the output'}: {exc.strerror}"))
        _let_go_of_output()
        return FAILED
    return code


def _let_go_of_output() -> None:
    """What is not written yet goes nowhere: Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _takes(arguments: argparse.Namespace, rest: Sequence[str]) -> bool:
    """Whether these are KEY=VALUE behind an option, where argparse takes no more of them."""
    fields = getattr(arguments, "fields", None)
    if fields is None or any(word.startswith("-") or "=" not in word for word in rest):
        return False
    fields += rest
    return True


def _parser(
    words: Sequence[str],
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser, Command | None]:
    """Return the parser, that of the command that is named, whose arguments alone it knows, and it.

    Without such a command the first two are the same.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Sensor boards, on a wire or on Bluetooth, become devices on MQTT.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    choices = parser.add_subparsers(metavar="COMMAND", help="what to do; see below")
    wanted = next((word for word in words if not word.startswith("-")), None)
    if wanted is not None and (near := _near_miss(wanted)):
        parser.error(f"unknown command {wanted!r}: did you mean {near!r}?")
    chosen, command = parser, None
    for name, (module, _) in COMMANDS.items():
        if name == wanted:
            command = cast("Command", imported(module))
            chosen = choices.add_parser(
                name,
                description=command.__doc__,
                epilog=command.EPILOG,
                formatter_class=HelpFormatter,
            )
            command.add_arguments(chosen)
        else:
            choices.add_parser(name)
    return parser, chosen, command


def _near_miss(word: str) -> str | None:
    """Return the command somebody meant who typed none; None when `word` is one, or far off."""
    near = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
    return near[0] if near and word not in COMMANDS else None


def _complain(error: GatewayError) -> None:
    from gateway.cli.logs import goes_to_journal  # noqa: PLC0415 - only where something is wrong

    # sd-daemon(3): why a service ended is found by `journalctl -p err`.
    mark = "<3>" if goes_to_journal(os.environ) else ""
    for line in str(error).split("\n"):
        text = line if line.startswith(" ") else f"{PROGRAM}: {line}"
        print(f"{mark}{text}", file=sys.stderr)

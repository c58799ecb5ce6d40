"""Say in words what is wrong with this gateway, and the command that mends it.

It looks at the configuration, the service, the ports and who holds them, Bluetooth, the way to the
broker and what it permits, the clock, the disk, memory and limits. It harms nothing: a port that
somebody reads is left alone, the gateway's connection and its store are not touched.
"""

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from gateway.cli import logs
from gateway.cli.commands import FAILED, INTERRUPTED, OK
from gateway.cli.examined import described_in_time
from gateway.cli.stopping import run_until_stopped
from gateway.config.broker_url import parse_broker
from gateway.doctor import service
from gateway.doctor.case import Case, Machine
from gateway.doctor.examine import examine
from gateway.doctor.finding import Finding, Severity, worst

EPILOG = """\
examples:
  edge-gateway doctor
  sudo edge-gateway doctor --config /etc/edge-gateway/gateway.toml
  edge-gateway doctor --broker broker.local --json

Without --config it examines with the configuration of the installed service, if there is one, or
with the defaults. As another user than root it says what it could not see. It takes some seconds:
ports and Bluetooth are listened to. --json prints one object:
  {"verdict": "ok" | "warning" | "error", "findings": [{"where", "severity", "what", "expected",
   "got", "mend"}, ...]}          texts; "mend" is a command, empty where nothing must be mended
Exit codes: 0 nothing is wrong (there may be warnings), 1 something is, 2 wrong usage.
"""

_SIGNS = {Severity.OK: "ok", Severity.WARNING: "warning", Severity.ERROR: "ERROR"}
_COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}
_SIGN_WIDTH = 7
_LEAST_WIDTH = 60
_LEAST_ROOM = 20
"""Columns for a text beside what it is about; with fewer the terminal breaks it as it likes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take whose gateway to examine."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration, TOML")
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="mqtt://[user@]host[:port], mqtts:// for TLS, or just host[:port]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(arguments: argparse.Namespace) -> int:
    """Examine and tell."""
    overrides = {} if arguments.broker is None else {"mqtt": parse_broker(arguments.broker)}
    logs.configure("error")
    findings: list[Finding] = []
    if run_until_stopped(_examine(arguments.config, overrides, findings)):
        return INTERRUPTED
    verdict = worst(findings)
    if arguments.json:
        shown = [asdict(each) | {"severity": each.severity.value} for each in findings]
        print(json.dumps({"verdict": verdict.value, "findings": shown}, ensure_ascii=False))
    elif sys.stdout.isatty():
        draw(findings)
    else:
        print("\n".join(plain(findings)))
    return FAILED if verdict is Severity.ERROR else OK


async def _examine(
    config: Path | None, overrides: dict[str, dict[str, object]], findings: list[Finding]
) -> None:
    machine = Machine()
    has_systemd, unit = await service.find(machine)
    its_config = service.config_of(unit)
    case = Case(
        config=config or its_config,
        unit=unit,
        has_systemd=has_systemd,
        machine=machine,
    )
    findings += await examine(await described_in_time(case, overrides, its_config))


def plain(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield lines for a pipe or a file."""
    width = max((len(_safe(each.where)) for each in findings), default=0)
    for each in findings:
        sign = f"{_SIGNS[each.severity]:{_SIGN_WIDTH}}"
        yield f"{sign}  {_safe(each.where):{width}}  {_safe(each.what)}"
        indent = " " * (_SIGN_WIDTH + 2 + width + 2)
        if each.expected or each.got:
            yield f"{indent}{_contrast(each)}"
        if each.mend:
            yield f"{indent}mend: {_safe(each.mend)}"
    yield ""
    yield _summary(findings)


def _contrast(finding: Finding) -> str:
    parts = (("expected", finding.expected), ("got", finding.got))
    return "; ".join(f"{word}: {_safe(text)}" for word, text in parts if text)


def _safe(text: str) -> str:
    """Return a text that does a terminal no harm: boards and processes say what they like."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _summary(findings: Sequence[Finding]) -> str:
    counted = [sum(each.severity is severity for each in findings) for severity in Severity]
    fine, warnings, errors = counted
    if errors:
        return f"{errors} wrong, {warnings} to look at, {fine} ok"
    return f"nothing is wrong; {warnings} to look at, {fine} ok"


def draw(findings: Sequence[Finding]) -> None:
    """Print the same in colours. Commands are not broken into lines, so that they can be copied."""
    from rich.console import Console  # noqa: PLC0415 - only for terminals
    from rich.text import Text  # noqa: PLC0415 - as above

    width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns)
    console = Console(width=width)
    column = _SIGN_WIDTH + 2 + max((len(_safe(each.where)) for each in findings), default=0) + 2
    for each in findings:
        text = Text()
        text.append(f"{_SIGNS[each.severity]:{_SIGN_WIDTH}}", _COLOURS[each.severity])
        head = f"  {_safe(each.where)}"
        text.append(f"{head:{column - _SIGN_WIDTH}}")
        text.append("\n".join(_wrapped(_safe(each.what), column, width)))
        if contrast := _contrast(each):
            text.append("\n" + " " * column)
            text.append("\n".join(_wrapped(contrast, column, width)), "dim")
        if each.mend:
            command = f"mend: {_safe(each.mend)}"
            fits = column + len(command) <= width
            text.append("\n" + " " * (column if fits else _SIGN_WIDTH + 2))
            text.append(command, "cyan")
        console.print(text, soft_wrap=True)
    console.print("\n" + _summary(findings), markup=False, highlight=False)


def _wrapped(text: str, column: int, width: int) -> list[str]:
    """Return lines of which all but the first begin at the column; where it stays narrow, one."""
    room = width - column
    if room < _LEAST_ROOM:
        return [text]
    lines = textwrap.wrap(text, room, break_on_hyphens=False)
    return [line if number == 0 else " " * column + line for number, line in enumerate(lines)]

"""Say in words what is wrong with this gateway, and the command that mends it.

It looks at the configuration, the service, the ports and who holds them, Bluetooth, the way to the
broker and what it permits, the clock, the disk, memory and limits. It harms nothing: a port that
somebody reads is left alone, the gateway's connection and its store are not touched.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from gateway import wiring
from gateway.cli import logs
from gateway.cli.commands import FAILED, INTERRUPTED, OK
from gateway.cli.stopping import run_until_stopped
from gateway.config.bind_keys import read_bind_keys
from gateway.config.broker_url import parse_broker
from gateway.config.last_good import cut_off, last_good_path, read_last_good
from gateway.config.loader import (
    exposed_secrets,
    load,
    read_file,
    read_password,
    with_credentials,
)
from gateway.config.models import Settings
from gateway.doctor import service
from gateway.doctor.case import Case, Machine, Who
from gateway.doctor.examine import examine
from gateway.doctor.finding import Finding, Severity, worst
from gateway.doctor.processes import gateway_of, rights_of
from gateway.errors import ConfigError
from gateway.links.threads import Call

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
_STATE_FOLDER = Path("/var/lib")
"""Where systemd makes StateDirectory=. Source: systemd.exec(5)."""


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
    described = await Call(partial(describe, case, overrides, its_config)).result()
    findings += await examine(described)


def describe(
    case: Case, overrides: dict[str, dict[str, object]], services_config: Path | None = None
) -> Case:
    """Return the case with what its configuration tells.

    With the service's configuration it is the service that is examined: its rights, its folder.
    """
    is_services = case.unit is not None and case.config == services_config
    folder = None
    if is_services and case.unit and case.unit.state_folder:
        folder = _STATE_FOLDER / case.unit.state_folder
    kept_at = None if case.config is None else last_good_path(case.config, folder)
    kept = None if kept_at is None else read_last_good(kept_at)
    try:
        settings = load(case.config, overrides)
        read_bind_keys(settings.ble.bind_keys_file)
        if case.config is not None and (why := cut_off(read_file(case.config), kept)):
            raise ConfigError(f"{case.config}: {why}: a power cut leaves such a file")  # noqa: TRY301 - told as others
    except ConfigError as exc:
        problems = tuple(_lines(str(exc)))
        if os.geteuid() and all(each.lower().endswith("permission denied") for each in problems):
            return replace(case, is_hidden=True)
        last_good = None if kept is None else kept_at
        return replace(case, problems=problems, last_good=last_good)
    outbox, state = settings.outbox_path, settings.state_path
    if folder is not None and settings.outbox.path is None:
        outbox, state = folder / outbox.name, folder / state.name
    password, trouble = None, ""
    try:
        settings = with_credentials(settings)
        password = read_password(settings.mqtt)
    except ConfigError as exc:
        trouble = str(exc)
    return replace(
        case,
        remarks=tuple(exposed_secrets(settings)),
        ports=wiring.ports_options(settings),
        broker=wiring.broker_settings(settings, password),
        no_password=trouble,
        is_radio_wanted=settings.ble.enabled,
        adapter=settings.ble.adapter,
        outbox=outbox,
        state=state,
        max_bytes=_max_bytes(settings),
        who=_whose_rights(case, is_services=is_services),
    )


def _whose_rights(case: Case, *, is_services: bool) -> Who | None:
    """Return whose rights count: the running gateway's, or the service's; None for our own."""
    proc = case.machine.proc
    running = gateway_of(proc, case.config)
    who = rights_of(proc, running) if running else None
    if who is None and is_services:
        who = service.who_of(case.unit)
    return None if who is None or who.user == os.geteuid() else who


def _max_bytes(settings: Settings) -> int:
    return wiring.store_limits(settings).max_bytes


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


def plain(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield lines for a pipe or a file."""
    width = max((len(_safe(each.where)) for each in findings), default=0)
    for each in findings:
        yield f"{_SIGNS[each.severity]:7}  {_safe(each.where):{width}}  {_safe(each.what)}"
        indent = " " * (7 + 2 + width + 2)
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
    """Print a table in colours; what is long goes on in the next line, and is not cut."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - only for terminals
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table("", "where", "what", box=SIMPLE_HEAD, pad_edge=False)
    for each in findings:
        what = Text(_safe(each.what))
        if each.expected or each.got:
            what.append(f"\n{_contrast(each)}", "dim")
        if each.mend:
            what.append("\n$ ", "dim")
            what.append(_safe(each.mend), "cyan")
        table.add_row(
            Text(_SIGNS[each.severity], _COLOURS[each.severity]), Text(_safe(each.where)), what
        )
    console = Console(width=max(60, shutil.get_terminal_size().columns))
    console.print(table)
    console.print(_summary(findings), markup=False, highlight=False)

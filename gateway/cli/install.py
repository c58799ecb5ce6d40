"""Make this gateway a service of this machine, as it runs here: account, programs, unit, start.

What this command runs from is copied to /opt/edge-gateway, with its Python packages; nothing is
fetched. Configuration is in /etc/edge-gateway and never overwritten: a new version's defaults lie
beside it. Where another version is installed this one is tried first, as `upgrade` does.
"""

import argparse

from gateway.cli import upgrade
from gateway.cli.commands import OK
from gateway.cli.installing import add_arguments as add_shared
from gateway.cli.installing import machine_of, tell, what_runs
from gateway.install import layout
from gateway.install.plan import installation
from gateway.install.seen import look, service_files

EPILOG = """\
examples:
  edge-gateway install --dry-run                        what it would do
  sudo ~/eg/bin/edge-gateway install
  sudo ~/eg/bin/edge-gateway install --root /mnt     into the file system of an SD card

A second time it mends what is missing of units, links and account, and does nothing where all is
as it should be; the programs themselves are not compared.
Exit codes: 0 done, 1 failed, 2 it cannot be done here; what to do is said.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where, and whether to do anything."""
    add_shared(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Install, or repair, or upgrade."""
    machine = machine_of(arguments)
    seen = look(machine)
    source = what_runs(machine)
    if seen.current not in {"", source.key}:
        print(f"{seen.current} is installed; to be upgraded to {source.key}")
        return upgrade.execute(arguments)
    actions = installation(seen, source, service_files())
    if arguments.dry_run:
        tell(actions, "nothing is to be done")
        return OK
    machine.do(actions)
    if not actions:
        print(f"{source.key} is installed, and nothing was to be done")
        return OK
    print(f"installed: {source.key}; the configuration is {layout.CONFIG}")
    if seen.is_live:
        print("what it says: journalctl -fu edge-gateway; what is wrong: sudo edge-gateway doctor")
    return OK

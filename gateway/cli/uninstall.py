"""Stop the service and remove it; configuration and state stay, unless --purge is given."""

import argparse

from gateway.cli.commands import OK
from gateway.cli.installing import add_arguments as add_shared
from gateway.cli.installing import machine_of, tell
from gateway.install.plan import removal
from gateway.install.seen import look

EPILOG = """\
examples:
  edge-gateway uninstall --dry-run
  sudo edge-gateway uninstall
  sudo edge-gateway uninstall --purge     also /etc/edge-gateway, /var/lib/edge-gateway, the account

Exit codes: 0 done, 1 failed, 2 it cannot be done here.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where, and how much."""
    add_shared(parser)
    parser.add_argument(
        "--purge",
        action="store_true",
        help="remove configuration, keys of boards and what was not published yet as well",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Remove it."""
    machine = machine_of(arguments)
    actions = removal(look(machine), is_purged=arguments.purge)
    if arguments.dry_run or not actions:
        tell(actions, "nothing is installed")
        return OK
    machine.do(actions)
    print("removed")
    return OK

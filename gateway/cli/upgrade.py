"""Have the installed service run this version, and return to the one before if it does not work.

The new version is put beside the old one and reads the configuration. Then it is started: it has 60
seconds to be ready, and has to stay so for ten, and to be able to use its files. If it does not,
the power fails or ssh is cut off, the old version runs again, with the state it can read.
"""

import argparse
from functools import partial
from pathlib import Path

from gateway.cli.commands import FAILED, OK
from gateway.cli.installing import add_arguments as add_shared
from gateway.cli.installing import machine_of, one_signal_heeded, say, tell, what_runs
from gateway.install import layout, trial
from gateway.install.actions import Remark
from gateway.install.plan import upgrade
from gateway.install.seen import look, service_files
from gateway.store.versions import copies_in, give_back

EPILOG = """\
examples:
  edge-gateway upgrade --dry-run                        what it would do
  ~/eg/bin/pip install --upgrade ./edge-gateway && sudo ~/eg/bin/edge-gateway upgrade

It is the new version's command that is called, as with `install`. The version before stays in
/opt/edge-gateway/versions. A service that is stopped stays so, and its new version is not tried.
Exit codes: 0 done, 1 failed: the old version runs, unless something else is said, 2 it cannot be
done here.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where, and whether to do anything."""
    add_shared(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Upgrade."""
    machine = machine_of(arguments)
    seen = look(machine)
    source = what_runs(machine)
    if seen.current == source.key:
        print(f"{source.key} is installed already")
        return OK
    plan = upgrade(seen, source, service_files())
    if arguments.dry_run:
        headed = [*plan.prepare, *plan.trial]
        if plan.trial:
            headed.append(Remark("restart it, and wait until it is ready; then:"))
        headed += plan.keep
        if plan.back:
            headed += [Remark("if it is not ready, instead of that:"), *plan.back]
        tell(headed, "nothing is to be done")
        return OK
    try:
        state = Path(machine.at(layout.STATE))
        # Copies that an earlier upgrade left belong to the version that would come back.
        back = partial(give_back, state, copies_in(state))
        with one_signal_heeded():
            trial.upgrade(machine, plan, back, say)
    except trial.NotProvenError as exc:
        print(f"edge-gateway: {exc}")
        return FAILED
    print(f"upgraded: {seen.current} -> {source.key}")
    return OK

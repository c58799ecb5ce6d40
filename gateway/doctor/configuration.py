"""Can the configuration be used, and does it keep its secrets?"""

import shlex

from gateway.doctor.case import Case
from gateway.doctor.finding import Tell, error, ok, warning

WHERE = "configuration"


def look(case: Case, tell: Tell) -> None:
    """Tell what `check-config` would, and which secrets everybody can read."""
    if case.is_hidden:
        what = f"{case.config}, or a file it names, may only be read by the gateway's user and root"
        tell(warning(WHERE, what, f"sudo {case.again}"))
        return
    for problem in case.problems:
        tell(
            error(WHERE, problem, f"sudoedit {case.file} && edge-gateway check-config {case.file}")
        )
    if case.last_good is not None:
        kept = shlex.quote(str(case.last_good))
        what = "until that is mended, the last good one is used at a start"
        tell(warning(WHERE, f"{what}: {case.last_good}", f"sudo diff {kept} {case.file}"))
    elif case.reload:
        what = f"the running gateway goes by another one than {case.config} is now"
        tell(warning(WHERE, what, case.reload))
    for remark in case.remarks:
        what, _, mend = remark.rpartition(": ")
        tell(error(WHERE, what, f"sudo {mend}"))
    if case.no_password:
        tell(warning(WHERE, case.no_password, _as_the_service(case)))
    if case.problems or case.remarks or case.reload:
        return
    tell(ok(WHERE, f"{case.config} has no problems" if case.config else "none: all defaults"))


def _as_the_service(case: Case) -> str:
    """Return how to examine with the credentials systemd gives the service."""
    credentials = case.unit.credentials if case.unit else ()
    given = "".join(f"-p LoadCredential={each} " for each in credentials or ("NAME:FILE",))
    return (
        f"sudo systemd-run --pipe --wait {given}$(command -v edge-gateway) doctor "
        f"--config {case.file}"
    )

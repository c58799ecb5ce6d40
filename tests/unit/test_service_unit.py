"""The unit file, judged by systemd itself: is it well formed, and what is left open to the service.

What an older systemd does not know it ignores with a warning; those warnings, and no others, are
allowed where it is that old.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from gateway import progress
from tests.parts.catalogue import TOOLS
from tests.support.figures import Figures
from tests.support.sandbox.unit import read_unit, seconds

FOLDER = Path(__file__).parents[2] / "systemd"
UNIT = FOLDER / "edge-gateway.service"

MOST_EXPOSURE = 1.5
"""Of 10; what issues no warning ends at 2.0."""

IGNORED_BEFORE = {
    253: {"Failed to parse service type, ignoring: notify-reload"},
    254: {
        "Unknown key 'RestartSteps' in section [Service], ignoring.",
        "Unknown key 'RestartMaxDelaySec' in section [Service], ignoring.",
    },
}


def version(systemd_analyze: Path) -> int:
    ran = subprocess.run([systemd_analyze, "--version"], capture_output=True, text=True, check=True)
    return int(ran.stdout.split()[1])


def complaints(stderr: str) -> set[str]:
    """Return what is said, without the places; and without what lies in a fetched systemd."""
    lines = [line for line in stderr.splitlines() if not line.startswith("Suspicious symlink")]
    return {re.sub(r"^\S+?\.(service|conf):(\d+:)? ", "", line) for line in lines}


def unit_path(systemd_analyze: Path) -> dict[str, str]:
    """Return where a fetched systemd has its own units; nothing for the machine's."""
    if not systemd_analyze.is_relative_to(TOOLS):
        return {}
    folders = TOOLS.glob("*/usr/lib/systemd/system")
    return {"SYSTEMD_UNIT_PATH": ":".join(map(str, folders))}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return the unit with a command that is there."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/edge-gateway/bin/edge-gateway", "/bin/true")
    unit.write_text(text)
    return unit


def test_systemd_finds_nothing_wrong_in_the_unit(
    systemd_analyze_bin: Path, installed: Path
) -> None:
    ran = subprocess.run(
        [systemd_analyze_bin, "verify", "--man=no", "--recursive-errors=no", installed],
        env={**os.environ, **unit_path(systemd_analyze_bin)},
        capture_output=True,
        text=True,
        check=False,
    )

    its = version(systemd_analyze_bin)
    allowed = set().union(*(said for since, said in IGNORED_BEFORE.items() if its < since))
    assert complaints(ran.stderr) <= allowed
    assert ran.returncode == 0 or complaints(ran.stderr)


def test_little_is_exposed_to_the_service(
    systemd_analyze_bin: Path, installed: Path, figures: Figures
) -> None:
    ran = subprocess.run(
        [
            *(systemd_analyze_bin, "security", "--offline=true", "--no-pager"),
            *(f"--threshold={MOST_EXPOSURE * 10:.0f}", installed),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)

    assert found is not None, ran.stderr
    figures("unit: exposure of 10, by systemd-analyze security", found[1], f"<= {MOST_EXPOSURE}")
    assert float(found[1]) <= MOST_EXPOSURE
    assert ran.returncode == 0, ran.stdout


def test_an_old_systemd_has_a_type_and_a_way_to_reload() -> None:
    service = read_unit(UNIT.read_text())["Service"]
    for_old_ones = read_unit((FOLDER / "edge-gateway-252.conf").read_text())["Service"]

    assert service["Type"] == ["notify", "notify-reload"]
    assert "ExecReload" not in service
    assert for_old_ones == {"ExecReload": ["/bin/kill -HUP $MAINPID"]}


def test_its_own_restarts_never_reach_the_limit_of_starts() -> None:
    unit = read_unit(UNIT.read_text())
    window_s = seconds(unit["Unit"]["StartLimitIntervalSec"][-1])
    pause_s = seconds(unit["Service"]["RestartSec"][-1])

    assert unit["Service"]["Restart"] == ["always"]
    assert int(unit["Unit"]["StartLimitBurst"][-1]) > window_s / pause_s


def test_the_period_of_the_watchdog_is_what_stages_are_measured_by_without_systemd() -> None:
    service = read_unit(UNIT.read_text())["Service"]

    assert seconds(service["WatchdogSec"][-1]) == progress.PERIOD_S


def test_the_service_waits_for_no_network() -> None:
    unit = read_unit(UNIT.read_text())["Unit"]
    wanted = [name for key in ("Wants", "Requires", "BindsTo") for name in unit.get(key, [])]

    assert not any("network" in name or "time" in name for name in wanted)

"""The service made, upgraded and removed for real, in a folder; only systemd is played."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.installing import one_signal_heeded
from gateway.errors import GatewayError, StoreError
from gateway.install import layout, trial
from gateway.install.actions import Action, Removal
from gateway.install.execute import Machine
from gateway.install.plan import installation, removal, upgrade
from gateway.install.trial import NotProvenError, Patience
from tests.support.service_site import SERVICE, FailingMachine, PowerCutError, Site

ROOT = Path(__file__).parents[2]

PATIENCE = Patience(ready_s=30, steady_s=0.1, look_s=0.02)
SHORT = Patience(ready_s=0.5, steady_s=0.1, look_s=0.02)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setenv("PATH", f"{site.programs}{os.pathsep}{os.environ['PATH']}")
    return site


@pytest.fixture
def at_work(site: Site) -> Site:
    """A machine on which 0.1.0 runs, with a configuration somebody wrote."""
    site.machine.do(installation(site.seen(), site.source("0.1.0"), SERVICE))
    (site.root / "etc/edge-gateway/gateway.toml").write_text('[gateway]\nname = "mine"\n')
    site.forget_calls()
    return site


def upgraded(site: Site, version: str, patience: Patience = PATIENCE) -> None:
    def give_back() -> list[str]:
        with (site.folder / "calls").open("a") as calls:
            calls.write(f"state given back, {site.state}\n")
        return ["state given back"]

    plan = upgrade(site.seen(), site.source(version), SERVICE)
    trial.upgrade(site.machine, plan, give_back, site.said.append, patience)


def test_what_is_installed_once_needs_nothing_more(site: Site) -> None:
    source = site.source("0.1.0")
    site.machine.do(installation(site.seen(), source, SERVICE))
    before = site.tree()

    again = installation(site.seen(), source, SERVICE)

    assert again == ()
    assert site.current() == "0.1.0"
    assert site.state == "active"
    assert before["etc/edge-gateway/gateway.toml"] == b"# defaults\n"
    assert before["usr/local/bin/edge-gateway"] == "/opt/edge-gateway/bin/edge-gateway"


def test_a_new_version_that_is_ready_takes_the_place_of_the_old(at_work: Site) -> None:
    upgraded(at_work, "0.2.0")

    assert at_work.current() == "0.2.0"
    assert at_work.calls == [
        f"python -m gateway check-config {at_work.root}/etc/edge-gateway/gateway.toml",
        "systemctl daemon-reload",
        "systemctl restart edge-gateway.service",
        "systemctl daemon-reload",
    ]
    tree = at_work.tree()
    assert tree["opt/edge-gateway/previous"] == "versions/0.1.0-abcdef01"
    assert tree["etc/edge-gateway/gateway.toml"] == b'[gateway]\nname = "mine"\n'
    assert not [name for name in tree if name.startswith("run/")]


@pytest.mark.parametrize(
    ("mood", "patience", "why"),
    [
        ("hangs", SHORT, "was not ready within 0.5 s"),
        ("ends", PATIENCE, "ended before it was ready"),
        ("dies", PATIENCE, "ended soon after it was ready"),
    ],
)
def test_the_old_version_comes_back_when_the_new_one_is_not_ready(
    at_work: Site, mood: str, patience: Patience, why: str
) -> None:
    before = at_work.tree()
    at_work.mood = mood

    with pytest.raises(NotProvenError, match=why) as told:
        upgraded(at_work, "0.2.0", patience)

    assert at_work.tree() == before
    assert at_work.current() == "0.1.0"
    assert at_work.state == "active"
    assert at_work.calls[2:] == [
        "systemctl restart edge-gateway.service",
        "systemctl stop edge-gateway.service",
        "systemctl daemon-reload",
        "state given back, inactive",
        "systemctl start edge-gateway.service",
    ]
    assert "what it said last" in str(told.value)
    assert "the version before runs again" in str(told.value)


FAILS = "1 of 1 devices online, 3 waiting, outbox failing: outbox.db: version 9, this one knows 8"


def test_a_version_that_cannot_use_what_is_stored_is_taken_back(at_work: Site) -> None:
    before = at_work.tree()
    at_work.says("old", "1 of 1 devices online, 3 waiting")
    at_work.says("new", FAILS)

    with pytest.raises(NotProvenError, match=r"cannot use its files: outbox failing: outbox\.db"):
        upgraded(at_work, "0.2.0")

    assert at_work.tree() == before
    assert at_work.calls[-1] == "systemctl start edge-gateway.service"


def test_a_disk_that_failed_before_is_not_blamed_on_the_new_version(at_work: Site) -> None:
    at_work.says("old", FAILS)
    at_work.says("new", FAILS)

    upgraded(at_work, "0.2.0")

    assert at_work.current() == "0.2.0"


@pytest.mark.parametrize("opening_s", [60.0, 0.0])
def test_a_version_that_brings_its_files_forward_is_waited_for(
    at_work: Site, opening_s: float
) -> None:
    at_work.mood = "opens"
    patience = replace(PATIENCE, steady_s=0.02, opening_s=opening_s)

    if not opening_s:
        with pytest.raises(NotProvenError, match="had not opened its files within 0 s"):
            upgraded(at_work, "0.2.0", patience)
        return
    upgraded(at_work, "0.2.0", patience)

    looks = (at_work.folder / "looks").read_text().splitlines()
    assert len(looks) >= 6
    assert at_work.current() == "0.2.0"


def test_a_step_that_fails_behind_the_trial_is_told_as_what_it_is(at_work: Site) -> None:
    plan = upgrade(at_work.seen(), at_work.source("0.2.0"), SERVICE)
    (at_work.root / "opt/edge-gateway/previous").mkdir()

    with pytest.raises(GatewayError, match="the new version runs; its `install` once more") as told:
        trial.upgrade(at_work.machine, plan, list, at_work.said.append, PATIENCE)

    assert not isinstance(told.value, NotProvenError)
    assert "systemctl stop edge-gateway.service" not in at_work.calls
    (at_work.root / "opt/edge-gateway/previous").rmdir()
    upgraded(at_work, "0.2.0")
    assert at_work.current() == "0.2.0"


def test_a_service_that_is_stopped_is_upgraded_without_a_trial(at_work: Site) -> None:
    at_work.state = "inactive"

    upgraded(at_work, "0.2.0")

    assert at_work.current() == "0.2.0"
    assert not [call for call in at_work.calls if "start" in call]


def test_an_environment_that_cannot_be_written_leaves_nothing(site: Site) -> None:
    source = site.source("0.1.0")
    gone = replace(source.files[0], path=site.folder / "gone")
    huge = replace(source.files[0], size_bytes=1 << 60)

    with pytest.raises(GatewayError, match=r"MB are needed, and \d+ MB are free"):
        site.machine.do(installation(site.seen(), replace(source, files=(huge,)), SERVICE))
    with pytest.raises(GatewayError, match="No such file"):
        site.machine.do(installation(site.seen(), replace(source, files=(gone,)), SERVICE))

    assert os.listdir(site.root / "opt/edge-gateway/versions") == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_breaks_an_upgrade_off_and_what_is_taken_back_goes_on(
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    is_taken_back = False

    with one_signal_heeded():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        for again in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), again)
        is_taken_back = True

    assert is_taken_back
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("wrong", [StoreError("disk I/O error"), PermissionError(13, "denied")])
def test_the_old_version_is_started_even_if_its_state_cannot_be_given_back(
    at_work: Site, wrong: Exception
) -> None:
    def give_back() -> list[str]:
        raise wrong

    plan = upgrade(at_work.seen(), at_work.source("0.2.0"), SERVICE)
    at_work.mood = "ends"

    with pytest.raises(NotProvenError, match=r"runs again\nthe state is not given back: .*d"):
        trial.upgrade(at_work.machine, plan, give_back, at_work.said.append, PATIENCE)

    assert at_work.calls[-1] == "systemctl start edge-gateway.service"
    assert at_work.state == "active"


def test_the_old_version_is_started_even_if_going_back_fails_half_way(at_work: Site) -> None:
    class Worn(Machine):
        def _do(self, action: Action) -> None:
            if isinstance(action, Removal):
                raise OSError(errno.EIO, "worn out")
            super()._do(action)

    plan = upgrade(at_work.seen(), at_work.source("0.2.0"), SERVICE)
    at_work.mood = "ends"

    with pytest.raises(NotProvenError, match="worn out"):
        trial.upgrade(Worn(at_work.root, at_work.said.append), plan, list, print, PATIENCE)

    assert "systemctl daemon-reload" in at_work.calls[3:]
    assert at_work.calls[-1] == "systemctl start edge-gateway.service"


def test_what_was_made_by_hand_in_the_place_of_the_service_is_seen(site: Site) -> None:
    (site.root / "opt/edge-gateway/bin").mkdir(parents=True)
    unit = site.root / "etc/systemd/system/edge-gateway.service"
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/dev/null")  # masked
    command = site.root / "usr/local/bin/edge-gateway"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")

    assert site.seen().in_the_way == {layout.PROGRAMS, layout.ADMINISTRATORS_UNIT, layout.COMMAND}


def test_a_configuration_on_a_disk_that_is_not_there_is_one(site: Site) -> None:
    config = site.root / "etc/edge-gateway/gateway.toml"
    config.parent.mkdir(parents=True)
    config.symlink_to("/media/card/gateway.toml")

    site.machine.do(installation(site.seen(), site.source("0.1.0"), SERVICE))

    assert os.readlink(config) == "/media/card/gateway.toml"


def test_a_version_that_cannot_read_the_configuration_is_not_even_tried(at_work: Site) -> None:
    before = at_work.tree()
    (at_work.folder / "config-is-wrong").touch()

    with pytest.raises(GatewayError, match=r"gateway\.toml:3: no"):
        upgraded(at_work, "0.2.0")

    assert at_work.calls == [
        f"python -m gateway check-config {at_work.root}/etc/edge-gateway/gateway.toml"
    ]
    assert at_work.state == "active"
    assert {name: at_work.tree()[name] for name in before} == before


def test_only_the_version_before_is_kept(at_work: Site) -> None:
    for version in ("0.2.0", "0.3.0"):
        upgraded(at_work, version)

    versions = {each.name for each in (at_work.root / "opt/edge-gateway/versions").iterdir()}
    assert versions == {"0.2.0-abcdef01", "0.3.0-abcdef01"}


def power_fails_while_installing(site: Site, lasts: int) -> bool:
    """Return whether the power lasted to the end."""
    plan = installation(site.seen(), site.source("0.1.0"), SERVICE)
    try:
        FailingMachine(site, lasts).do(plan)
    except PowerCutError:
        return False
    return True


def power_fails_while_upgrading(site: Site, lasts: int) -> bool:
    plan = upgrade(site.seen(), site.source("0.2.0"), SERVICE)
    machine = FailingMachine(site, lasts)
    try:
        machine.do([*plan.prepare, *plan.trial])
        machine.do(plan.keep)
    except PowerCutError:
        return False
    return True


def test_an_installation_that_lost_its_power_is_finished_by_the_next(site: Site) -> None:
    cuts = 0
    while not power_fails_while_installing(site, cuts):
        site.lose_power()
        site.machine.do(installation(site.seen(), site.source("0.1.0"), SERVICE))
        assert site.current() == "0.1.0"
        assert installation(site.seen(), site.source("0.1.0"), SERVICE) == ()
        shutil.rmtree(site.root)
        site.root.mkdir()
        site.state = "inactive"
        cuts += 1

    assert cuts > 20


def test_whenever_the_power_fails_a_whole_version_starts_with_the_configuration(
    at_work: Site,
) -> None:
    shutil.copytree(at_work.root, at_work.folder / "before", symlinks=True)
    starts = []

    for lasts in range(100):
        is_done = power_fails_while_upgrading(at_work, lasts)
        at_work.lose_power()
        starts.append(at_work.current())
        config = at_work.root / "etc/edge-gateway/gateway.toml"
        assert config.read_text() == '[gateway]\nname = "mine"\n'
        if is_done:
            break
        shutil.rmtree(at_work.root)
        shutil.copytree(at_work.folder / "before", at_work.root, symlinks=True)

    assert starts == sorted(starts)
    assert set(starts) == {"0.1.0", "0.2.0"}


def test_somebody_who_loses_patience_gets_the_old_version_back(at_work: Site) -> None:
    before = at_work.tree()
    plan = upgrade(at_work.seen(), at_work.source("0.2.0"), SERVICE)
    said = at_work.said

    def say(line: str) -> None:
        said.append(line)
        if "it is ready" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial.upgrade(at_work.machine, plan, list, say, PATIENCE)

    assert at_work.tree() == before
    assert at_work.calls[-1] == "systemctl start edge-gateway.service"


@pytest.mark.parametrize("is_purged", [False, True])
def test_what_is_removed_is_gone_and_what_is_kept_is_not(at_work: Site, is_purged: bool) -> None:
    upgraded(at_work, "0.2.0")
    (at_work.root / "var/lib/edge-gateway/outbox.db").touch()

    at_work.machine.do(removal(at_work.seen(), is_purged=is_purged))

    left = set(at_work.tree()) - {"etc/passwd", "etc/systemd/system/multi-user.target.wants"}
    kept = {
        "etc/edge-gateway/gateway.toml",
        "etc/edge-gateway/gateway.toml.default",
        "var/lib/edge-gateway/outbox.db",
    }
    assert left == (set() if is_purged else kept)
    assert not (at_work.root / "usr/local/lib/udev").exists()


class Account:
    """Somebody's environment with the gateway in it, as `pip install` would leave it."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "eg/bin/python3"
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
        (wheel,) = folder.glob("*.whl")
        environment: list[Path | str] = [
            sys.executable,
            "-m",
            "venv",
            "--without-pip",
            folder / "eg",
        ]
        subprocess.run(environment, check=True, timeout=100)
        (site_packages,) = (folder / "eg/lib").glob("python*/site-packages")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site_packages)
        # What it needs is not installed a second time.
        (site_packages / "others.pth").write_text(sysconfig.get_path("purelib"))

    def run(self, *words: str | Path, python: Path | None = None) -> str:
        command = [python or self.python, "-I", "-m", "gateway", *words]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}"
        return ran.stdout


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path)


def test_a_service_is_made_in_a_folder_of_what_runs_and_works_by_itself(
    account: Account,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    systemd_sysusers_bin: Path,
    systemd_tmpfiles_bin: Path,
) -> None:
    folders = f"{systemd_sysusers_bin.parent}:{systemd_tmpfiles_bin.parent}"
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{folders}")
    root = tmp_path / "card"
    (root / "etc").mkdir(parents=True)
    (root / "usr/lib/systemd").mkdir(parents=True)
    (root / "usr/lib/systemd/libsystemd-shared-252.so").touch()

    planned = account.run("install", "--root", root, "--dry-run")
    assert not [path for path in root.rglob("*") if "edge-gateway" in path.name]
    done = account.run("install", "--root", root)
    again = account.run("install", "--root", root)

    (environment,) = (root / "opt/edge-gateway/versions").iterdir()
    python = environment / "bin/python3"
    config = root / "etc/edge-gateway/gateway.toml"
    assert set(planned.splitlines()) <= set(done.splitlines())
    assert "nothing was to be done" in again
    assert config.read_bytes() == (ROOT / "systemd/gateway.toml").read_bytes()
    assert "has no problems" in account.run("check-config", config, python=python)
    assert (root / "usr/local/lib/udev/rules.d/61-edge-gateway.rules").is_file()
    assert [*(root / "usr/local/lib/systemd/system").glob("*.d/10-reload.conf")]
    assert "edge-gateway:" in (root / "etc/passwd").read_text()

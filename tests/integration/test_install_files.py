"""What `install` leaves on the disk is what the service, which has no rights, can use."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.install.plan import installation, removal
from tests.support.service_site import SERVICE, Site

LONG_AGO_S = 1_000_000_000


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setenv("PATH", f"{site.programs}{os.pathsep}{os.environ['PATH']}")
    return site


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def install(site: Site) -> None:
    site.machine.do(installation(site.seen(), site.source("0.1.0"), SERVICE))


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def test_whoever_installs_it_with_whatever_umask_the_service_can_read_and_run_it(
    site: Site,
) -> None:
    with umask(0o077):
        install(site)

    found = modes(site.root / "opt") | modes(site.root / "usr")
    folders = {name for name in found if (site.root / "opt" / name).is_dir()}
    folders |= {name for name in found if (site.root / "usr" / name).is_dir()}
    assert {found[name] for name in folders} == {0o755}
    (script,) = (name for name in found if name.endswith("bin/edge-gateway"))
    assert found[script] == 0o755
    assert {found[name] for name in set(found) - folders - {script}} == {0o644}


def test_files_keep_their_time_of_change_for_what_is_compiled_goes_by_it(site: Site) -> None:
    source = site.source("0.1.0")
    for each in source.files:
        os.utime(each.path, (LONG_AGO_S, LONG_AGO_S))

    site.machine.do(installation(site.seen(), source, SERVICE))

    library = site.root / "opt/edge-gateway/current/lib/python3.13/site-packages"
    assert {path.stat().st_mtime for path in library.rglob("*.py")} == {LONG_AGO_S}


def test_what_was_not_compiled_is_for_the_service_may_not_write(site: Site) -> None:
    site.python.write_text(f"#!/bin/sh\necho \"$@\" >> '{site.folder}/python-calls'\n")

    install(site)

    draft = site.root / "opt/edge-gateway/versions/.0.1.0-abcdef01.new"
    (call,) = (site.folder / "python-calls").read_text().splitlines()
    assert call == f"-m compileall -q {draft}/lib/python3.13/site-packages"


def test_without_udev_it_is_installed_all_the_same(site: Site) -> None:
    udevadm = site.programs / "udevadm"
    udevadm.unlink()
    udevadm.write_text("#!/bin/sh\nexit 1\n")
    udevadm.chmod(0o755)

    install(site)

    assert site.state == "active"


def test_uninstalling_leaves_the_files_of_others_beside_ours(site: Site) -> None:
    install(site)
    mine = site.root / "usr/local/lib/udev/rules.d/70-mine.rules"
    mine.write_text("# mine\n")

    site.machine.do(removal(site.seen(), is_purged=True))

    assert [path.name for path in mine.parent.iterdir()] == ["70-mine.rules"]
    assert not (site.root / "usr/local/lib/sysusers.d").exists()


@pytest.mark.parametrize(
    ("state", "is_active", "is_failing"),
    [
        ("active", True, False),
        ("reloading", True, False),
        ("inactive", False, False),
        ("activating", False, True),
        ("failed", False, True),
    ],
)
def test_what_systemd_says_of_the_service_is_understood(
    site: Site, state: str, is_active: bool, is_failing: bool
) -> None:
    site.state = state

    seen = site.seen()

    assert (seen.is_active, seen.is_failing) == (is_active, is_failing)


def test_an_environment_that_was_not_finished_is_no_version(site: Site) -> None:
    install(site)
    (site.root / "opt/edge-gateway/versions/.0.2.0-abcdef01.new").mkdir()

    assert site.seen().versions == {"0.1.0-abcdef01"}

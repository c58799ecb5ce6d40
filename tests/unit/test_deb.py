"""The Debian package, of made-up wheels: `make debtest` does it with the real ones, in a Debian."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import gateway
from deb.build import (
    HERE,
    SITE_PACKAGES,
    BuildError,
    build,
    document,
    lay_out,
    manual,
    newest_release,
    pack,
    unpack,
)
from deb.variants import ENDS_AFTERWARDS, MIGRATES, NEVER_READY, Change, copy_source
from deb.wheels import Wheel, libc_needed, row
from gateway.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
RELEASE = newest_release((HERE / "changelog").read_text(encoding="utf-8"))


def wheel(folder: Path, tag: str, files: dict[str, str]) -> Path:
    path = folder / f"thing-1.0-{tag}.whl"
    info = {"thing-1.0.dist-info/METADATA": "Name: thing\nVersion: 1.0\nLicense: Apache-2.0\n\n"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in ({"thing-1.0.dist-info/RECORD": tag} | info | files).items():
            archive.writestr(name, content)
    return path


def packed(folder: Path, wheels: list[Path], later_s: int) -> Path:
    stage = folder / "stage"
    lay_out(stage, wheels, ROOT / "systemd")
    document(stage, RELEASE)
    build(stage, "amd64", RELEASE, (2, 34))
    for path in stage.rglob("*"):
        os.utime(path, times=(0, RELEASE.unix_s + later_s), follow_symlinks=False)
    return pack(stage, folder / "out", RELEASE)


def told(package: Path, *words: str) -> str:
    command: list[str | Path] = ["dpkg-deb", *words, package]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return ran.stdout


def test_wheels_of_several_pythons_share_what_is_not_compiled(tmp_path: Path) -> None:
    wheels = [
        wheel(tmp_path, tag, {"thing/__init__.py": "same", f"thing/fast.{tag}.so": tag})
        for tag in ("cp311", "cp313")
    ]

    unpack(wheels, tmp_path / "site")

    assert {path.name for path in (tmp_path / "site/thing").iterdir()} == {
        "__init__.py",
        "fast.cp311.so",
        "fast.cp313.so",
    }
    assert not [*(tmp_path / "site").rglob("RECORD")]


def test_wheels_that_disagree_are_refused(tmp_path: Path) -> None:
    wheels = [wheel(tmp_path, tag, {"thing/__init__.py": tag}) for tag in ("cp311", "cp313")]

    with pytest.raises(BuildError, match=r"another thing/__init__\.py is there already"):
        unpack(wheels, tmp_path / "site")


def test_a_file_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    evil = wheel(tmp_path, "any", {"thing/../../../etc/passwd": "root"})

    with pytest.raises(BuildError, match="leaves its folder"):
        unpack([evil], tmp_path / "site")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb: no Debian")
def test_a_package_has_what_dpkg_needs_and_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    packages = []
    for later_s, folder in enumerate((first, second), start=10_000):
        folder.mkdir()
        made = wheel(folder, "any", {"thing/__init__.py": "x"})
        packages.append(packed(folder, [made], later_s))

    package = packages[0]
    content = told(package, "--contents")
    assert package.name == f"edge-gateway_{gateway.__version__}_amd64.deb"
    assert package.read_bytes() == packages[1].read_bytes()
    assert "python3 (>= 3.11~), python3 (<< 3.14~), libc6 (>= 2.34)" in told(package, "--info")
    assert re.search(r"root/root .* \./etc/edge-gateway/gateway\.toml$", content, re.MULTILINE)
    assert "./usr/bin/edge-gateway -> ../lib/edge-gateway/bin/edge-gateway" in content
    assert f"./{SITE_PACKAGES}/thing/__init__.py" in content
    assert "./usr/share/man/man1/edge-gateway.1.gz" in content
    assert "/opt/" not in content


def test_the_manual_page_names_each_command() -> None:
    """Whether it is well-formed says lintian, in `make debtest`."""
    page = list(manual(RELEASE))

    named = {
        line.removeprefix(".B ").replace("\\-", "-") for line in page if line.startswith(".B ")
    }
    assert set(COMMANDS) <= named
    assert page[0] == f'.TH EDGE-GATEWAY 1 "2026-11-23" "{gateway.__version__}"'


def test_the_unit_of_the_package_starts_the_package(tmp_path: Path) -> None:
    lay_out(tmp_path / "stage", [wheel(tmp_path, "any", {})], ROOT / "systemd")

    unit = (tmp_path / "stage/usr/lib/systemd/system/edge-gateway.service").read_text()
    script = (tmp_path / "stage/usr/lib/edge-gateway/bin/edge-gateway").read_text()
    assert "\nExecStart=/usr/lib/edge-gateway/bin/edge-gateway run " in unit
    assert "/opt/" not in unit
    assert script.startswith("#!/usr/lib/edge-gateway/bin/python3\n")


@pytest.mark.parametrize("name", ["preinst", "postinst", "prerm", "postrm", "rtupdate"])
def test_a_script_of_the_package_is_one(name: str) -> None:
    subprocess.run(["sh", "-n", HERE / name], check=True)


def test_the_package_is_of_the_version_of_the_gateway() -> None:
    assert RELEASE.version == gateway.__version__


def test_the_libc_that_is_needed_is_that_of_the_most_demanding_wheel() -> None:
    names = [
        "a-1-py3-none-any.whl",
        "b-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
        "c-1-cp311-abi3-manylinux_2_34_x86_64.whl",
    ]

    assert libc_needed(names[:2]) == (2, 17)
    assert libc_needed(names) == (2, 34)


def test_the_table_names_what_has_no_wheel() -> None:
    wheels = [Wheel("a", "1", "a-1-py3-none-any.whl"), Wheel("b", "2", "b-2-cp311-cp311-x.whl")]

    line = row("3.11", "armv7l", wheels, wheels[1:])

    assert line == "| 3.11 | armv7l | 1 of 2 | 1 | b 2 |"


@pytest.mark.parametrize("change", [NEVER_READY, ENDS_AFTERWARDS, MIGRATES])
def test_the_broken_versions_of_the_boot_test_can_be_made(tmp_path: Path, change: Change) -> None:
    """What they change in the gateway is there, once."""
    folder = copy_source(tmp_path / "source", "7.8.9", change)

    changed = (folder / change.path).read_text()
    compile(changed, change.path, "exec")
    assert change.new in changed
    assert '"7.8.9"' in (folder / "gateway/__init__.py").read_text()

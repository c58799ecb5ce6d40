"""Getting the real parts: what is read and written, and what is said when there is none."""

import json
import os
from pathlib import Path

import pytest

from tests.parts import fetch
from tests.parts.apt_sources import parse_os_release, rewrite_list, rewrite_sources, suite_names
from tests.parts.catalogue import (
    IGNORE_INSTALLED,
    PARTS,
    Part,
    PartMissingError,
    locate,
    on_path,
    version_of,
    wrapper,
)
from tests.parts.dependencies import parse_depends, with_libraries

BOOKWORM_TO_TRIXIE = {"bookworm": "trixie"}

MACHINE_SOURCES = """\
Types: deb deb-src
# a mirror of the site
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib non-free-firmware
Architectures: amd64
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


def test_a_sources_file_keeps_mirror_and_keyring_and_changes_only_the_suite() -> None:
    rewritten = rewrite_sources(MACHINE_SOURCES, BOOKWORM_TO_TRIXIE)

    assert rewritten == (
        "types: deb\n"
        "uris: https://mirror.example/debian\n"
        "suites: trixie\n"
        "components: main\n"
        "targets: Packages\n"
        "signed-by: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_a_key_inside_a_sources_file_keeps_its_lines() -> None:
    text = (
        "Types: deb\nURIs: http://mirror.example\nSuites: bookworm\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBGPL0B\n"
    )

    rewritten = rewrite_sources(text, BOOKWORM_TO_TRIXIE)

    assert rewritten.endswith(
        "signed-by: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBGPL0B\n"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Enabled", "no"),
        ("Types", "deb-src"),
        ("Suites", "nodistro"),
        ("Components", "contrib"),
        ("URIs", "cdrom:[Debian]/"),
    ],
)
def test_a_stanza_that_cannot_have_the_parts_is_left_out(field: str, value: str) -> None:
    fields = {
        "Types": "deb",
        "URIs": "http://mirror.example",
        "Suites": "bookworm",
        "Components": "main",
    }
    text = "".join(f"{name}: {text}\n" for name, text in (fields | {field: value}).items())

    assert rewrite_sources(text, BOOKWORM_TO_TRIXIE) == ""


def test_a_list_file_keeps_mirror_and_keyring_and_changes_only_the_suite() -> None:
    text = """\
# deb http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib # the site's mirror
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
deb [arch=amd64 signed-by=/etc/apt/keyrings/a.gpg] http://other.example/debian bookworm main
deb http://mirror.example/debian bookworm main
deb http://packages.example/tool bookworm stable
deb cdrom:[Debian]/ bookworm main
"""

    rewritten = rewrite_list(text, BOOKWORM_TO_TRIXIE)

    assert rewritten == (
        "deb [target=Packages] http://mirror.example/debian trixie main\n"
        "deb [signed-by=/etc/apt/keyrings/a.gpg target=Packages]"
        " http://other.example/debian trixie main\n"
    )


@pytest.mark.parametrize(
    ("os_release", "suite", "instead"),
    [
        ('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n', "bookworm", "trixie"),
        ('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n', "stable", "trixie"),
        ('ID=raspbian\nVERSION_ID="11"\nVERSION_CODENAME=bullseye\n', "bullseye", "trixie"),
        ('ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n', "trixie", "trixie"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "testing", "testing"),
        ('ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n', "noble", "noble"),
        ("ID=linuxmint\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n", "noble", "noble"),
    ],
)
def test_only_an_older_debian_reads_another_suite(
    os_release: str, suite: str, instead: str
) -> None:
    assert suite_names(parse_os_release(os_release))[suite] == instead


def test_security_and_update_suites_are_never_read() -> None:
    names = suite_names(parse_os_release("ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n"))

    assert not {"bookworm-security", "bookworm-updates", "bookworm-backports"} & names.keys()


DEPENDS = """\
mosquitto
  PreDepends: init-system-helpers
  Depends: adduser
  Depends: libc6
 |Depends: libssl3t64
  Depends: libssl3
  Depends: libwebsockets19t64
adduser
  Depends: libperl5
libc6
  Depends: libgcc-s1
libgcc-s1
  Depends: gcc-14-base
  Depends: libc6
libssl3t64
  Depends: libc6
  Depends: <libvirtual>
    libprovider
libwebsockets19t64
 |Depends: <libvirtual>
  Depends: libcap2
"""


def test_only_libraries_are_followed_and_each_comes_once() -> None:
    graph = parse_depends(DEPENDS)

    assert with_libraries("mosquitto", graph) == [
        "mosquitto",
        "libc6",
        "libssl3t64",
        "libwebsockets19t64",
        "libgcc-s1",
        "libcap2",
    ]


def script(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit 3\n")
    path.chmod(0o755)
    return path


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, programs: dict[str, str]) -> None:
    """Put shell programs before the system's on PATH."""
    for name, body in programs.items():
        script(folder / name, "").write_text(f"#!/bin/sh\n{body}\n")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def part_named(name: str) -> Part:
    return next(part for part in PARTS if part.name == name)


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("mosquitto version 2.0.21", (2, 0)),
        ("1.25", (1, 25)),
        ("no number here", None),
    ],
)
def test_a_version_is_read_from_what_a_program_prints(
    tmp_path: Path, says: str, version: tuple[int, int] | None
) -> None:
    program = script(tmp_path / "program", says)

    assert version_of([program], part_named("mosquitto")) == version


def test_a_version_of_one_number_is_a_version(tmp_path: Path) -> None:
    part = Part("udevadm", "udev", "usr/bin/udevadm", ("--version",), (254, 0))

    assert version_of([script(tmp_path / "udevadm", "257")], part) == (257, 0)


def test_a_program_that_cannot_start_has_no_version(tmp_path: Path) -> None:
    broken = tmp_path / "program"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)

    assert version_of([broken], part_named("mosquitto")) is None


@pytest.mark.parametrize(("says", "is_used"), [("1.24", False), ("1.25", True), ("2.0", True)])
def test_a_program_on_path_is_used_only_if_recent_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, is_used: bool
) -> None:
    program = script(tmp_path / "micropython", says)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv(IGNORE_INSTALLED, raising=False)

    assert on_path(part_named("micropython")) == (program if is_used else None)


def test_a_missing_part_says_why_the_last_fetch_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IGNORE_INSTALLED, "1")
    (tmp_path / "missing.json").write_text(json.dumps({"mosquitto": "the mirror is away"}))

    with pytest.raises(PartMissingError, match="no mosquitto: the mirror is away"):
        locate("mosquitto", tmp_path)
    with pytest.raises(PartMissingError, match="no mosquitto_pub: run `make parts`"):
        locate("mosquitto_pub", tmp_path)


def test_a_fetched_part_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IGNORE_INSTALLED, "1")
    program = script(wrapper(part_named("mosquitto"), tmp_path), "mosquitto version 2.0.21")

    assert locate("mosquitto", tmp_path) == program


def test_a_machine_without_a_source_for_its_release_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path / "bin", monkeypatch, {"apt-get": "", "apt-cache": "", "dpkg": "echo any"})
    (tmp_path / "os-release").write_text("ID=other\nVERSION_CODENAME=its_own\n")

    reasons = fetch.fetch([part_named("mosquitto")], tmp_path, tmp_path)

    assert reasons == {"mosquitto": f"no package source under {tmp_path}/apt is for its_own"}


def test_without_apt_every_part_says_what_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = [part_named("mosquitto"), part_named("micropython")]

    reasons = fetch.fetch(wanted, tmp_path)

    assert reasons.keys() == {"mosquitto", "micropython"}
    assert all("there is no apt-get here" in reason for reason in reasons.values())
    assert os.listdir(tmp_path) == []


LOADER_THAT_SAYS_A_VERSION = """\
#!/bin/sh
case $2 in micropython) echo 1.22 ;; *) echo "$2 version 2.0.21" ;; esac
"""


def test_what_the_sources_have_too_old_is_told_and_the_rest_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = tmp_path / "loader"
    loader.write_text(LOADER_THAT_SAYS_A_VERSION)
    stand_ins = {
        "apt-get": 'case "$*" in *--print-uris*) ;; *download*) touch libc6.deb ;; esac',
        "apt-cache": r"printf 'mosquitto\n  Depends: libc6\nmicropython\n  Depends: libc6\n'",
        "dpkg": 'case $1 in -x) mkdir -p "$3/usr/lib/any" '
        f'&& install -m 755 {loader} "$3/usr/lib/any/ld-linux-any.so.2" ;; *) echo any ;; esac',
    }
    put_on_path(tmp_path / "bin", monkeypatch, stand_ins)
    monkeypatch.setenv(IGNORE_INSTALLED, "1")
    etc = tmp_path / "etc"
    (etc / "apt").mkdir(parents=True)
    (etc / "os-release").write_text("ID=other\nVERSION_CODENAME=its_own\n")
    (etc / "apt/sources.list").write_text("deb http://mirror.example its_own main\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    wanted = [part_named(name) for name in ("mosquitto", "mosquitto_pub", "micropython")]

    reasons = fetch.fetch(wanted, tools, etc)

    assert reasons == {
        "mosquitto_pub": "the package sources have no mosquitto-clients",
        "micropython": "the package sources have 1.22, and 1.25 is needed",
    }
    assert version_of([locate("mosquitto", tools)], part_named("mosquitto")) == (2, 0)
    assert sorted(os.listdir(tools)) == ["any", "bin"]
    assert os.listdir(tools / "bin") == ["mosquitto"]

"""Builds edge-gateway_*.deb: `python -m deb.build`, with pip and dpkg-deb alone.

Nothing is compiled, so that a PC builds the package of a Raspberry Pi: the wheels of each Python
the package may meet are laid into one tree.
"""

import argparse
import email.utils
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deb.wheels import (
    EXTRAS,
    MACHINES,
    PYTHONS,
    ROOT,
    WheelsMissingError,
    libc_needed,
    make_pure,
    pip,
    target_options,
)
from gateway.cli.commands import COMMANDS

HERE = Path(__file__).parent

HOME = "usr/lib/edge-gateway"
"""Where the programs are. /opt, where `edge-gateway install` puts them, is not for packages."""

SITE_PACKAGES = f"{HOME}/lib/python3/site-packages"

_SCRIPT = f"""\
#!/{HOME}/bin/python3
import sys
from gateway.cli import main
sys.exit(main())
"""

_PYVENV = """\
home = /usr/bin
include-system-site-packages = false
"""

_MAINTAINER_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


class BuildError(Exception):
    """The package cannot be built; the text says why."""


@dataclass(frozen=True, slots=True)
class Release:
    """What `deb/changelog` says of the newest package."""

    version: str
    unix_s: int


def newest_release(changelog: str) -> Release:
    """Return the version and the time of the first entry.

    Raises:
        BuildError: it has none.
    """
    version = re.match(r"edge-gateway \(([^)]+)\)", changelog)
    signed = re.search(r"^ -- .*>  (.+)$", changelog, re.MULTILINE)
    if version is None or signed is None:
        raise BuildError("deb/changelog has no entry")
    when = email.utils.parsedate_to_datetime(signed[1])
    return Release(version[1], int(when.timestamp()))


def fetch_wheels(architecture: str, folder: Path) -> dict[str, list[Path]]:
    """Make and fetch all wheels; returns those of each Python.

    What a folder has of an earlier time is not fetched again, but for the gateway's own.

    Raises:
        WheelsMissingError: something has no wheel there.
    """
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    pip("wheel", "-q", "--no-deps", "--wheel-dir", made, ROOT)
    (own,) = made.glob("edge_gateway-*.whl")
    make_pure(made)
    for left in folder.glob("*/edge_gateway-*.whl"):
        if left.parent != made:
            left.unlink()
    found: dict[str, list[Path]] = {}
    constraints = folder / "constraints.txt"
    constraints.write_text("")
    for python in PYTHONS:
        where = folder / python
        options: list[str | Path] = ["--find-links", made, "--find-links", where]
        options += ["--constraint", constraints]
        options += target_options(python, MACHINES[architecture])
        pip("download", "-q", "--dest", where, *options, f"{own}[{','.join(EXTRAS)}]")
        found[python] = sorted(where.glob("*.whl"))
        # The same versions for the next Python: they share all that is not compiled.
        names = {tuple(path.name.split("-")[:2]) for path in found[python]}
        constraints.write_text("".join(f"{n}=={v}\n" for n, v in sorted(names)))
    return found


def unpack(wheels: Iterable[Path], site_packages: Path) -> None:
    """Lay wheels of several Pythons into one folder.

    Compiled modules have the Python in their names; everything else has to be the same.

    Raises:
        BuildError: two wheels have different files of one name, or one of theirs leaves the folder.
    """
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                inside = _place(member.filename)
                if member.is_dir() or inside is None:
                    continue
                target = site_packages / inside
                if ".." in Path(inside).parts:
                    raise BuildError(f"{wheel.name}: {member.filename} leaves its folder")
                content = archive.read(member)
                if target.exists():
                    # How each was built may differ; nothing here reads that.
                    is_told = inside.partition("/")[0].endswith(".dist-info")
                    if not is_told and target.read_bytes() != content:
                        raise BuildError(f"{wheel.name}: another {inside} is there already")
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                is_program = member.external_attr >> 16 & 0o111
                target.chmod(0o755 if is_program and target.suffix != ".py" else 0o644)
    for record in site_packages.glob("*.dist-info/RECORD"):
        record.unlink()  # of one Python's wheel only, and so wrong


def _place(name: str) -> str | None:
    """Return where a file of a wheel belongs in site-packages; None for commands and the like."""
    folder, _, rest = name.partition("/")
    if not folder.endswith(".data"):
        return name
    kind, _, inside = rest.partition("/")
    return inside if kind in {"purelib", "platlib"} else None


def lay_out(stage: Path, wheels: Sequence[Path], systemd: Path) -> None:
    """Write all files of the package but its documentation."""
    unpack(wheels, stage / SITE_PACKAGES)
    home = stage / HOME
    for python in PYTHONS:
        (home / "lib" / f"python{python}").symlink_to("python3")
    (home / "pyvenv.cfg").write_text(_PYVENV)
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to("../../../bin/python3")
    _write(home / "bin/edge-gateway", _SCRIPT.encode(), 0o755)
    (stage / "usr/bin").mkdir()
    (stage / "usr/bin/edge-gateway").symlink_to("../lib/edge-gateway/bin/edge-gateway")
    unit = (systemd / "edge-gateway.service").read_text(encoding="utf-8")
    unit = unit.replace("/opt/edge-gateway/", f"/{HOME}/")
    for path, content in (
        ("usr/lib/systemd/system/edge-gateway.service", unit.encode()),
        ("usr/lib/udev/rules.d/61-edge-gateway.rules", systemd / "61-edge-gateway.rules"),
        ("usr/lib/sysusers.d/edge-gateway.conf", systemd / "edge-gateway.sysusers"),
        ("usr/lib/tmpfiles.d/edge-gateway.conf", systemd / "edge-gateway.tmpfiles"),
        ("usr/share/edge-gateway/edge-gateway-252.conf", systemd / "edge-gateway-252.conf"),
        ("etc/edge-gateway/gateway.toml", systemd / "gateway.toml"),
        ("usr/share/lintian/overrides/edge-gateway", HERE / "lintian-overrides"),
    ):
        _write(stage / path, content.read_bytes() if isinstance(content, Path) else content)
    _write(
        stage / "usr/share/python3/runtime.d/edge-gateway.rtupdate",
        (HERE / "rtupdate").read_bytes(),
        0o755,
    )


def manual(release: Release) -> Iterator[str]:
    """Yield the lines of a manual page; what a command takes it says itself. Source: man(7)."""
    date = datetime.fromtimestamp(release.unix_s, UTC).date().isoformat()
    yield f'.TH EDGE-GATEWAY 1 "{date}" "{release.version}"'
    yield ".SH NAME"
    yield "edge-gateway \\- sensor boards on serial lines and Bluetooth become devices on MQTT"
    yield from (".SH SYNOPSIS", ".B edge-gateway", "COMMAND [OPTION]...", ".SH COMMANDS")
    yield "Each has examples and exit codes in:"
    yield ".B edge-gateway COMMAND \\-\\-help"
    for name, (_, summary) in COMMANDS.items():
        yield from (".TP", f".B {name}".replace("-", "\\-"), summary.replace("-", "\\-"))
    yield from (
        ".SH FILES",
        ".I /etc/edge-gateway/gateway.toml",
        "is the configuration, annotated.",
    )
    yield from (".SH SEE ALSO", ".BR systemctl (1),", ".BR journalctl (1)", "")


def document(stage: Path, release: Release) -> None:
    """Write manual page, changelog and copyright."""
    page = "\n".join(manual(release)).encode()
    place = stage / "usr/share/man/man1/edge-gateway.1.gz"
    _write(place, gzip.compress(page, mtime=release.unix_s))
    folder = stage / "usr/share/doc/edge-gateway"
    changelog = (HERE / "changelog").read_bytes()
    _write(folder / "changelog.gz", gzip.compress(changelog, mtime=release.unix_s))
    text = "\n".join(_copyright(stage / SITE_PACKAGES))
    _write(folder / "copyright", text.encode())


def _copyright(site_packages: Path) -> Iterator[str]:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    yield "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
    yield "Upstream-Name: edge-gateway"
    yield "Comment: The Python packages beside it are their authors'; the full texts of their"
    yield f" licences are in /{SITE_PACKAGES}/*.dist-info."
    yield from ("", "Files: *", "Copyright: 2026 edge-gateway contributors", "License: Expat")
    yield from (f" {line}" if line else " ." for line in licence.splitlines())
    for metadata in sorted(site_packages.glob("*.dist-info/METADATA")):
        told = dict(
            line.partition(": ")[::2]
            for line in metadata.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        )
        if told["Name"] == "edge-gateway":
            continue
        author = told.get("Author") or told.get("Author-email") or told.get("Maintainer-email")
        name = told.get("License-Expression") or told.get("License") or "see-its-dist-info"
        word = re.sub(r"[^\w.+-]+", "-", name.strip())[:60].strip("-")
        folder = metadata.parent.name
        yield from ("", f"Files: {SITE_PACKAGES}/{folder}/*")
        yield f"Copyright: {author or 'its contributors'}"
        yield f"License: {word}-of-{told['Name']}"
        yield f" {told['Name']} {told['Version']}: {name.strip().splitlines()[0]};"
        yield f" the text is in /{SITE_PACKAGES}/{folder}."
        if "apache" in name.lower():
            yield " Debian has it in /usr/share/common-licenses/Apache-2.0, too."
    yield ""


def control(template: str, **values: str) -> str:
    """Return the control file, filled in."""
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], template)


def build(stage: Path, architecture: str, release: Release, libc: tuple[int, int]) -> None:
    """Write what makes a package of the files: DEBIAN/."""
    meta = stage / "DEBIAN"
    meta.mkdir()
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
        f"{path.relative_to(stage)}\n"
        for path in files
        if not path.is_relative_to(stage / "etc")
    ]
    _write(meta / "md5sums", "".join(sums).encode())
    _write(meta / "conffiles", b"/etc/edge-gateway/gateway.toml\n")
    for name in _MAINTAINER_SCRIPTS:
        _write(meta / name, (HERE / name).read_bytes(), 0o755)
    newest = int(PYTHONS[-1].partition(".")[2])
    filled = control(
        (HERE / "control").read_text(encoding="utf-8"),
        version=release.version,
        architecture=architecture,
        installed_size=str(sum(path.stat().st_size // 1024 + 1 for path in files)),
        oldest_python=PYTHONS[0],
        too_new_python=f"3.{newest + 1}",
        libc=".".join(map(str, libc)),
    )
    _write(meta / "control", filled.encode())


def pack(stage: Path, out: Path, release: Release) -> Path:
    """Make the package; the same files become the same bytes."""
    for path in [stage, *stage.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    out.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", stage, out],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(release.unix_s)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BuildError(ran.stderr.strip())
    return max(out.glob("edge-gateway_*.deb"), key=lambda path: path.stat().st_mtime_ns)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def own_architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    ran = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def main() -> int:
    """Build the package of one architecture."""
    parser = argparse.ArgumentParser(prog="make deb")
    parser.add_argument("--architecture", choices=sorted(MACHINES), help="default: this machine's")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument("--wheels", type=Path, help="a folder to keep what is fetched in")
    arguments = parser.parse_args()
    architecture: str = arguments.architecture or own_architecture()
    release = newest_release((HERE / "changelog").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        print(f"deb: the wheels of {architecture} for Python {', '.join(PYTHONS)} ...", flush=True)
        try:
            found = fetch_wheels(architecture, arguments.wheels or Path(folder))
        except WheelsMissingError as exc:
            print(f"deb: {architecture}: {exc}", file=sys.stderr)
            return 1
        stage = Path(folder) / "stage"
        wheels = [wheel for python in PYTHONS for wheel in found[python]]
        lay_out(stage, wheels, ROOT / "systemd")
        document(stage, release)
        build(stage, architecture, release, libc_needed(each.name for each in wheels))
        package = pack(stage, arguments.out, release)
    print(f"deb: {package} ({package.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

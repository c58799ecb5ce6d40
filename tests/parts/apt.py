"""A private apt: the machine's own sources and proxies, but its own lists, cache and state.

Nothing needs root and nothing of the machine's package state is read or changed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.parts.apt_sources import parse_os_release, rewrite_list, rewrite_sources, suite_names
from tests.parts.catalogue import PartMissingError
from tests.parts.dependencies import parse_depends

_HELPER = "/usr/lib/apt/apt-helper"
"""Fetches a file as apt does, by its proxies, and checks its hash."""

_EVERYWHERE = "libc6"
"""A package that each mirror has."""

TIMEOUT_S = 300.0
"""One apt command at most: package lists and packages are some 20 MB each."""

ATTEMPTS = 3
"""A download is tried again twice; apt itself already retries each single file."""

_CONFIGURATION = """\
Dir::State "{folder}/state";
Dir::State::Lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "packages.bin";
Dir::Cache::srcpkgcache "sources.bin";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{folder}/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
#clear APT::Architectures;
APT::Architectures {{ {architectures} }};
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Default-Release "";
APT::Sandbox::User "";
Debug::NoLocking "true";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


class Apt:
    """apt-get and apt-cache over a folder of their own."""

    def __init__(self, folder: Path, etc: Path, architectures: Iterable[str]) -> None:
        """Write the private configuration, and the sources that `etc` has, into `folder`.

        The machine's own architecture comes first.

        Raises:
            PartMissingError: this is no Debian-family machine, or its sources name no mirror.
        """
        for tool in ("apt-get", "apt-cache", "dpkg"):
            if shutil.which(tool) is None:
                raise PartMissingError(
                    f"there is no {tool} here to fetch it with: install it by other means"
                )
        self._folder = folder
        for name in ("state", "lists/partial", "cache/archives/partial", "sources"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        quoted = " ".join(f'"{name}";' for name in dict.fromkeys(architectures))
        configuration = _CONFIGURATION.format(folder=folder, architectures=quoted)
        (folder / "apt.conf").write_text(configuration)
        _write_sources(etc, folder / "sources")

    def update(self) -> str:
        """Fetch the package lists; returns what went wrong, to be told if a package is missing.

        A failure is not final: a source that lacks the suite does not spoil the others.
        """
        said = _complaints(self._run("apt-get", "update").stderr)
        return f" ({said})" if said else ""

    def dependencies(self, packages: Iterable[str]) -> dict[str, list[str]]:
        """Return what the packages need, and what that needs; an unknown package is not in it."""
        ran = self._run(
            "apt-cache",
            "depends",
            "--recurse",
            *(f"--no-{kind}" for kind in ("recommends", "suggests", "enhances")),
            *(f"--no-{kind}" for kind in ("conflicts", "breaks", "replaces")),
            *packages,
        )
        return parse_depends(ran.stdout)

    def download_bytes(self, packages: Sequence[str]) -> int:
        """Return the size of what `download` will fetch."""
        ran = self._run("apt-get", "download", "--print-uris", *packages)
        return sum(int(size) for size in re.findall(r"^'\S+' \S+ (\d+)", ran.stdout, re.MULTILINE))

    def download(self, packages: Sequence[str], folder: Path) -> list[Path]:
        """Fetch the packages, their hashes checked by apt.

        Raises:
            PartMissingError: a package could not be fetched.
        """
        folder.mkdir()
        said = ""
        for _ in range(ATTEMPTS):
            ran = self._run("apt-get", "download", *packages, folder=folder)
            if ran.returncode == 0:
                return sorted(folder.glob("*.deb"))
            said = _complaints(ran.stderr)
        raise PartMissingError(f"downloading failed {ATTEMPTS} times: {said}")

    def knows(self, package: str) -> bool:
        """Whether the lists that were fetched name a package."""
        return bool(self._run("apt-cache", "show", "--no-all-versions", package).stdout)

    def download_pinned(self, pins: Iterable[tuple[str, str]], folder: Path) -> list[Path]:
        """Fetch files by their path at the mirror; each must have its SHA-256.

        Raises:
            PartMissingError: one could not be fetched, or is another.
        """
        folder.mkdir()
        known = self._run("apt-get", "download", "--print-uris", _EVERYWHERE).stdout
        mirror = re.match(r"'(\S+/)pool/", known)
        if mirror is None:
            raise PartMissingError(f"no mirror could be found by the package {_EVERYWHERE}")
        archives = []
        for path, sha256 in pins:
            archive = folder / path.rpartition("/")[2]
            ran = self._run(
                _HELPER, "download-file", mirror[1] + path, str(archive), f"SHA256:{sha256}"
            )
            if ran.returncode != 0:
                raise PartMissingError(f"downloading {path} failed: {_complaints(ran.stderr)}")
            archives.append(archive)
        return archives

    def _run(
        self, tool: str, *arguments: str, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [tool, "-c", str(self._folder / "apt.conf"), "-q", *arguments],
                cwd=folder or self._folder,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PartMissingError(f"{tool} {arguments[0]} took over {TIMEOUT_S:.0f} s") from None


def _write_sources(etc: Path, folder: Path) -> None:
    suites = suite_names(parse_os_release((etc / "os-release").read_text()))
    for path in [etc / "apt/sources.list", *(etc / "apt/sources.list.d").glob("*")]:
        rewrite = {".list": rewrite_list, ".sources": rewrite_sources}.get(path.suffix)
        if rewrite is not None and path.is_file():
            text = rewrite(path.read_text(errors="replace"), suites)
            (folder / path.name).write_text(text)
    if not any(path.stat().st_size for path in folder.iterdir()):
        known = ", ".join(suites) or "this system"
        raise PartMissingError(f"no package source under {etc / 'apt'} is for {known}")


def _complaints(stderr: str) -> str:
    """Return apt's first error, or else its first warning."""
    lines = stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("E:")]
    warnings = [line for line in lines if line.startswith("W:")]
    return "".join((errors or warnings)[:1])

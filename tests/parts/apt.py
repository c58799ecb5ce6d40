"""A private apt: the machine's own sources and proxies, but its own lists, cache and state.

Nothing needs root and nothing of the machine's package state is read or changed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from tests.parts.apt_sources import parse_os_release, rewrite_list, rewrite_sources, suite_names
from tests.parts.catalogue import PartMissingError
from tests.parts.dependencies import parse_depends, with_libraries

APT_FOLDER = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")

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

    def __init__(self, folder: Path, architectures: Iterable[str]) -> None:
        """Write the private configuration and sources; the machine's architecture comes first.

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
        _write_sources(folder / "sources")

    def update(self) -> str:
        """Fetch the package lists; returns what went wrong, for the case that a package is missing.

        A failure is not final: a source that lacks the suite does not spoil the others.
        """
        ran = self._run("apt-get", "update")
        return "" if ran.returncode == 0 else _errors(ran.stderr)

    def packages_for(self, packages: Iterable[str]) -> list[str]:
        """Return the packages and their libraries; raises PartMissingError if one is unknown."""
        wanted = list(packages)
        ran = self._run(
            "apt-cache",
            "depends",
            "--recurse",
            *(f"--no-{kind}" for kind in ("recommends", "suggests", "enhances")),
            *(f"--no-{kind}" for kind in ("conflicts", "breaks", "replaces")),
            *wanted,
        )
        graph = parse_depends(ran.stdout)
        unknown = [package for package in wanted if not graph.get(package)]
        if unknown:
            raise PartMissingError(f"the package mirror has no {', '.join(unknown)}")
        return list(
            dict.fromkeys(name for package in wanted for name in with_libraries(package, graph))
        )

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
            said = _errors(ran.stderr)
        raise PartMissingError(f"downloading failed {ATTEMPTS} times: {said}")

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


def _write_sources(folder: Path) -> None:
    suites = suite_names(parse_os_release(OS_RELEASE.read_text()))
    for path in [APT_FOLDER / "sources.list", *(APT_FOLDER / "sources.list.d").glob("*")]:
        rewrite = {".list": rewrite_list, ".sources": rewrite_sources}.get(path.suffix)
        if rewrite is not None and path.is_file():
            text = rewrite(path.read_text(errors="replace"), suites)
            (folder / path.name).write_text(text)
    if not any(path.stat().st_size for path in folder.iterdir()):
        known = ", ".join(suites) or "this system"
        raise PartMissingError(f"no package source under {APT_FOLDER} is for {known}")


def _errors(stderr: str) -> str:
    """Return apt's errors in one line, or the last thing it said."""
    lines = stderr.strip().splitlines() or ["it did not say why"]
    return unquote("; ".join([line for line in lines if line.startswith("E:")] or lines[-1:]))

"""Provides the real parts: `python3 -m tests.parts.fetch`, with the standard library only.

What is on PATH and recent enough is used. The rest comes from the distribution's packages,
unpacked under `.tools` with every library they need, and runs on the packages' own loader, so that
the host's libc may be older. No root. A second run finds its stamp and does nothing.
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.parts.apt import Apt
from tests.parts.catalogue import (
    PARTS,
    TOOLS,
    Part,
    PartMissingError,
    impossible_because,
    machine_architecture,
    on_path,
    version_of,
    wrapper,
)
from tests.parts.dependencies import with_libraries
from tests.parts.pinned import MICROPYTHON_I386

RECIPE = 2
"""Counted up when what this module leaves behind changes: older tools are then fetched anew."""

_WRAPPER = """\
#!/bin/sh
# {name} on the loader and the libraries it was built for. Written by `make parts`.
root="${{0%/*}}/../{root}"
libraries="$root/{libraries}:$root/{libraries}/systemd"
exec "$root/{loader}" --argv0 {name} --library-path "$libraries" "$root/{program}" "$@"
"""


def main() -> int:
    """Fetch what is missing; returns 0 also when a part cannot be had: its tests say so."""
    started = time.monotonic()
    TOOLS.mkdir(exist_ok=True)
    with _alone(TOOLS / "lock"):
        possible = [part for part in PARTS if impossible_because(part) is None]
        wanted = [part for part in possible if on_path(part) is None]
        if _is_stamped(wanted, TOOLS):
            return 0
        _say(f"to be fetched: {', '.join(part.name for part in wanted)}")
        reasons = fetch(wanted, TOOLS)
        for name, reason in reasons.items():
            _say(f"no {name}: {reason}")
        _write_whole(TOOLS / "missing.json", json.dumps(reasons, indent=2))
        if not reasons:
            _write_whole(TOOLS / "stamp.json", json.dumps(_stamp(wanted)))
        _say(f"{len(wanted) - len(reasons)} ready in {time.monotonic() - started:.1f} s")
    return 0


def fetch(wanted: Sequence[Part], tools: Path, etc: Path = Path("/etc")) -> dict[str, str]:
    """Fetch the parts into `tools`; returns the reason for each that could not be had."""
    work = tools / "work"
    shutil.rmtree(work, ignore_errors=True)  # left by a fetch that was killed
    work.mkdir()
    try:
        return _fetch_all(wanted, tools, etc)
    finally:
        shutil.rmtree(work)


def _fetch_all(wanted: Sequence[Part], tools: Path, etc: Path) -> dict[str, str]:
    own = machine_architecture()
    architectures = sorted({_architecture(part) for part in wanted})
    reasons: dict[str, str] = {}
    try:
        apt = Apt(tools / "work" / "apt", etc, [own, *architectures])
        _say("reading the package lists ...")
        complaint = apt.update()
        is_spoilt = bool(complaint) and not apt.knows("libc6")
        if is_spoilt:
            _say(f"reading them for {own} alone{complaint} ...")
            apt = Apt(tools / "work" / "own-apt", etc, [own])
            complaint = apt.update()
    except PartMissingError as exc:
        return {part.name: str(exc) for part in wanted}
    for architecture in architectures:
        parts = [part for part in wanted if _architecture(part) == architecture]
        try:
            if is_spoilt and architecture == "i386" != own:
                unobtained = _fetch_pinned(apt, parts, tools)
            else:
                unobtained = _fetch_architecture(apt, architecture, parts, tools)
        except PartMissingError as exc:
            unobtained = {part.name: str(exc) for part in parts}
        reasons |= unobtained
    return {name: f"{reason}{complaint}" for name, reason in reasons.items()}


def _fetch_architecture(
    apt: Apt, architecture: str, parts: Sequence[Part], tools: Path
) -> dict[str, str]:
    """Fetch, unpack and try the parts of one architecture; returns why the others are not there."""
    suffix = "" if architecture == machine_architecture() else f":{architecture}"
    graph = apt.dependencies(dict.fromkeys(f"{part.package}{suffix}" for part in parts))
    offered = [part for part in parts if graph.get(f"{part.package}{suffix}")]
    reasons = {
        part.name: f"the package sources have no {part.package}{suffix}"
        for part in parts
        if part not in offered
    }
    needed = [with_libraries(f"{part.package}{suffix}", graph) for part in offered]
    packages = list(dict.fromkeys(itertools.chain.from_iterable(needed)))
    if not packages:
        return reasons
    size_mb = apt.download_bytes(packages) / 1e6
    _say(f"{architecture}: downloading {len(packages)} packages, {size_mb:.1f} MB ...")
    archives = apt.download(packages, tools / "work" / f"{architecture}-packages")
    return reasons | _set_up(archives, tools / "work" / architecture, offered, tools)


def _fetch_pinned(apt: Apt, parts: Sequence[Part], tools: Path) -> dict[str, str]:
    """Fetch the 32-bit parts without a list; returns why some are not there."""
    offered = [part for part in parts if part.package == "micropython"]
    archives = apt.download_pinned(MICROPYTHON_I386, tools / "work" / "pinned-packages")
    others = {part.name: f"nothing pinned has {part.package}" for part in parts}
    for part in offered:
        del others[part.name]
    return others | _set_up(archives, tools / "work" / "i386", offered, tools)


def _set_up(
    archives: Sequence[Path], root: Path, offered: Sequence[Part], tools: Path
) -> dict[str, str]:
    """Unpack and try the parts of one architecture; returns why some do not do."""
    reasons: dict[str, str] = {}
    root.mkdir()
    for archive in archives:
        _unpack(archive, root)
    loader = _loader(root)
    for part in offered:
        options = ("--argv0", part.name, "--library-path", _library_path(loader.parent))
        version = version_of((loader, *options, root / part.program), part)
        if version is None:
            reasons[part.name] = "the fetched program does not run on this machine"
        elif version < part.oldest:
            said, wanted = (".".join(map(str, each)) for each in (version, part.oldest))
            reasons[part.name] = f"the package sources have {said}, and {wanted} is needed"
    working = [part for part in offered if part.name not in reasons]
    _install(root, loader.relative_to(root), working, tools)
    return reasons


def _unpack(archive: Path, root: Path) -> None:
    ran = subprocess.run(["dpkg", "-x", archive, root], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise PartMissingError(f"{archive.name} does not unpack: {ran.stderr.strip()}")


def _install(root: Path, loader: Path, parts: Sequence[Part], tools: Path) -> None:
    """Move a tried root into place; a wrapper exists only while its root is whole."""
    for part in PARTS:
        if _architecture(part) == root.name:
            wrapper(part, tools).unlink(missing_ok=True)
    placed = tools / root.name
    shutil.rmtree(placed, ignore_errors=True)
    root.replace(placed)
    (tools / "bin").mkdir(exist_ok=True)
    for part in parts:
        script = _WRAPPER.format(
            name=part.name,
            root=root.name,
            loader=loader,
            libraries=loader.parent,
            program=part.program,
        )
        _write_whole(wrapper(part, tools), script, mode=0o755)


def _loader(root: Path) -> Path:
    """Return the dynamic loader: it stands among the libraries it loads."""
    loaders = [path for path in root.glob("usr/lib/*/ld-linux*.so.*") if not path.is_symlink()]
    if not loaders:
        raise PartMissingError("the fetched libc has no dynamic loader where it was expected")
    return loaders[0]


def _library_path(libraries: Path) -> str:
    """Return where libraries are looked for; systemd's programs have one of their own."""
    return f"{libraries}:{libraries / 'systemd'}"


def _architecture(part: Part) -> str:
    return part.architecture or machine_architecture()


def _stamp(parts: Sequence[Part]) -> dict[str, object]:
    """Return what decides whether the tools at hand are those that would be fetched now."""
    return {"recipe": RECIPE, "machine": machine_architecture(), "parts": [p.name for p in parts]}


def _is_stamped(wanted: Sequence[Part], tools: Path) -> bool:
    if not wanted:
        return True
    try:
        stamp = json.loads((tools / "stamp.json").read_text())
    except FileNotFoundError:
        return False
    fetched = [part for part in wanted if part.name in stamp["parts"]]
    whole = all(os.access(wrapper(part, tools), os.X_OK) for part in wanted)
    return whole and stamp == _stamp(fetched) | {"parts": stamp["parts"]} and fetched == wanted


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one fetch run at a time; the lock ends with the process, however that ends."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that is never seen half written."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(text)
    unfinished.chmod(mode)
    unfinished.replace(path)


def _say(text: str) -> None:
    print(f"parts: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

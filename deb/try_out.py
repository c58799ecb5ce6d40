"""Tries the package on a Debian of its own: `python -m deb.try_out PACKAGE`, by `make debtest`.

A clean Debian is made in a folder by mmdebstrap, from the machine's own package sources; the
package is installed, used, removed and purged there, and lintian looks at it. Needs root, or user
namespaces. What was made of Debian is kept in `.tools` for the next time.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.parts.apt import Apt
from tests.parts.catalogue import TOOLS, PartMissingError, machine_architecture

SUITE = "trixie"

_NEEDED = ("python3", "init-system-helpers", "passwd", "systemd")
"""What the package depends on, so that it can be installed without a network."""

_RUNTIME = re.compile(
    r"^(?:/var/(?:log|cache|lib/dpkg|lib/systemd/deb-systemd-helper-\w+)|/tmp|/run)(?:/|$)"
)
"""Where Debian itself notes what was installed."""
_BACKUPS = re.compile(r"^/etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-$")

CONFIG = "/etc/edge-gateway/gateway.toml"
ENABLED = "/etc/systemd/system/multi-user.target.wants/edge-gateway.service"


class TrialError(Exception):
    """The package does not do what it should; the text says what."""


def main() -> int:
    """Try a package; returns 1 where something is wrong with it."""
    parser = argparse.ArgumentParser(prog="make debtest")
    parser.add_argument("package", type=Path)
    package: Path = parser.parse_args().package.resolve()
    if os.geteuid():
        command = ["unshare", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork"]
        os.execvp(command[0], [*command, sys.executable, "-m", "deb.try_out", str(package)])  # noqa: S606 - ourselves, as the root of a namespace
    started = time.monotonic()
    try:
        with debian("clean", _NEEDED) as root:
            try_out(root, package)
        with debian("lintian", ("lintian",)) as root:
            lint(root, package)
    except (TrialError, PartMissingError) as exc:
        print(f"debtest: {exc}", file=sys.stderr)
        return 1
    print(f"debtest: all is well, after {time.monotonic() - started:.0f} s")
    return 0


@contextmanager
def debian(name: str, include: Sequence[str]) -> Iterator[Path]:
    """Unpack a Debian into a folder, for as long as it is needed; make it the first time."""
    archive = TOOLS / f"debian-{SUITE}-{name}.tar"
    if not archive.exists():
        _make(archive, include)
    with tempfile.TemporaryDirectory(prefix=f"debian-{name}-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", root, "--numeric-owner"], check=True)
        yield root


def _make(archive: Path, include: Sequence[str]) -> None:
    _say(f"making a Debian {SUITE} with {', '.join(include)} ...")
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


def inside(root: Path, *words: str, expected: Sequence[int] = (0,)) -> str:
    """Run a program in the Debian, with a /proc of its own; returns what it printed.

    Raises:
        TrialError: it ended otherwise than expected.
    """
    script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    ran = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, root, *words],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode not in expected:
        said = f"{ran.stdout}{ran.stderr}"[-3000:]
        raise TrialError(f"`{' '.join(words)}` ended with {ran.returncode}:\n{said}")
    return ran.stdout


def try_out(root: Path, package: Path) -> None:
    """Install, use, remove and purge it."""
    before = paths(root)
    shutil.copyfile(package, root / "tmp/edge-gateway.deb")
    inside(root, "dpkg", "--install", "/tmp/edge-gateway.deb")  # noqa: S108 - in the folder
    _say("installed")
    _use(root)

    config = root / CONFIG.removeprefix("/")
    config.write_text(config.read_text() + '\n[gateway]\nname = "mine"\n')
    (root / "var/lib/edge-gateway/outbox.db").touch()
    inside(root, "dpkg", "--install", "/tmp/edge-gateway.deb")  # noqa: S108 - as above
    _expect("mine" in config.read_text(), "installed again, it overwrote the configuration")

    inside(root, "dpkg", "--remove", "edge-gateway")
    left = paths(root) - before
    kept = {"/etc/edge-gateway", CONFIG, "/var/lib/edge-gateway", "/var/lib/edge-gateway/outbox.db"}
    kept.add(ENABLED)  # as of any of Debian's services: that it is wanted is configuration, too
    _expect(left == kept, f"removed, it left {sorted(left ^ kept)} more or less than it should")
    _say("removed: configuration and state stay")

    inside(root, "dpkg", "--purge", "edge-gateway")
    left = paths(root) - before
    _expect(not left, f"purged, it left {sorted(left)}")
    for name in ("passwd", "group"):
        text = (root / "etc" / name).read_text()
        _expect("edge-gateway" not in text, f"purged, it left its account in /etc/{name}")
    _say("purged: nothing stays")


def _use(root: Path) -> None:
    version = inside(root, "edge-gateway", "--version").strip()
    checked = inside(root, "edge-gateway", "check-config", CONFIG)
    _expect("has no problems" in checked, f"check-config says {checked}")
    # Without a broker, a radio and a running service something is wrong, and it says so.
    told = json.loads(inside(root, "edge-gateway", "doctor", "--json", expected=(0, 1)))
    _expect(bool(told["findings"]), "doctor finds nothing to tell")
    _say(f"{version}; check-config is content; doctor told {len(told['findings'])} findings")
    python = "/usr/lib/edge-gateway/bin/python3"
    compiled = (
        "import bleak, cryptography.x509, dbus_fast.message, pydantic_core, aiohttp, serial, "
        "xiaomi_ble, gateway.own_bundle as own; print(own.own_bundle().version)"
    )
    _say(f"firmware {inside(root, python, '-I', '-c', compiled).strip()} comes with it")
    _expect(not inside(root, "dpkg", "--verify", "edge-gateway"), "dpkg finds changed files")
    account = inside(root, "id", "edge-gateway")
    _expect("(dialout)" in account and "(bluetooth)" in account, f"the account: {account}")
    state = inside(root, "stat", "-c", "%U %G %a", "/var/lib/edge-gateway").strip()
    _expect(state == "edge-gateway edge-gateway 750", f"/var/lib/edge-gateway: {state}")
    inside(root, "systemd-analyze", "verify", "--man=no", "edge-gateway.service")
    enabled = inside(root, "systemctl", "is-enabled", "edge-gateway").strip()
    _expect(enabled == "enabled", f"the service is {enabled}")


def lint(root: Path, package: Path) -> None:
    """Have lintian look at it."""
    shutil.copyfile(package, root / "tmp" / package.name)
    said = inside(
        *(root, "lintian", "--allow-root", "--fail-on", "error", "--tag-display-limit", "0"),
        f"/tmp/{package.name}",  # noqa: S108 - in the folder
    )
    print(said, end="")
    _say("lintian has no errors")


def paths(root: Path) -> set[str]:
    """Return all that is there, but for what Debian notes of any package."""
    found = set()
    for folder, folders, files in os.walk(root):
        place = "/" + os.path.relpath(folder, root).removeprefix(".")
        found |= {f"{place.rstrip('/')}/{name}" for name in (*folders, *files)}
    return {each for each in found if not _RUNTIME.match(each) and not _BACKUPS.match(each)}


def _expect(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - what is expected
    if not is_so:
        raise TrialError(otherwise)


def _say(text: str) -> None:
    print(f"debtest: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

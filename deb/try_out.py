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
from collections.abc import Sequence
from pathlib import Path

from deb.debian import TrialError, as_root, debian, expect
from tests.parts.catalogue import PartMissingError

_NEEDED = ("python3", "init-system-helpers", "passwd", "systemd")
"""What the package depends on, so that it can be installed without a network."""

_RUNTIME = re.compile(
    r"^(?:/var/(?:log|cache|lib/dpkg|lib/systemd/deb-systemd-helper-\w+)|/tmp|/run)(?:/|$)"
)
"""Where Debian itself notes what was installed."""
_BACKUPS = re.compile(r"^/etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-$")

CONFIG = "/etc/edge-gateway/gateway.toml"
MINE = '[gateway]\nname = "mine"\n'
OLD_DEFAULT = "# as it was once\n"
OBSOLETE = "usr/lib/edge-gateway/obsolete"
ENABLED = "/etc/systemd/system/multi-user.target.wants/edge-gateway.service"


def main() -> int:
    """Try a package; returns 1 where something is wrong with it."""
    parser = argparse.ArgumentParser(prog="make debtest")
    parser.add_argument("package", type=Path)
    package: Path = parser.parse_args().package.resolve()
    as_root("deb.try_out", str(package))
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
    """Install it over an older one, use, remove and purge it."""
    before = paths(root)
    shutil.copyfile(package, root / "tmp/new.deb")
    make_older(package, root / "tmp/old.deb")
    config = root / CONFIG[1:]
    _install(root, "old.deb")
    _say("an older version is installed")
    _install(root, "new.deb")
    default = config.read_text()
    expect(OLD_DEFAULT not in default, "the old default stayed, though nobody had changed it")
    expect(not (root / OBSOLETE).exists(), f"/{OBSOLETE}, which only the older version had, stayed")
    _say("upgraded: what nobody changed is the new version's")
    _use(root)

    _install(root, "old.deb")
    config.write_text(MINE)
    (root / "var/lib/edge-gateway/outbox.db").touch()
    _install(root, "new.deb")
    beside = config.with_name("gateway.toml.dpkg-dist")
    expect(config.read_text() == MINE, "upgraded, it overwrote the configuration")
    expect(beside.read_text() == default, "the new default is not beside the configuration")
    beside.unlink()
    _say("taken back, upgraded again: somebody's configuration stays, the new default beside it")

    inside(root, "dpkg", "--remove", "edge-gateway")
    left = paths(root) - before
    kept = {"/etc/edge-gateway", CONFIG, "/var/lib/edge-gateway", "/var/lib/edge-gateway/outbox.db"}
    kept.add(ENABLED)  # as of any of Debian's services: that it is wanted is configuration, too
    expect(left == kept, f"removed, it left {sorted(left ^ kept)} more or less than it should")
    _say("removed: configuration and state stay")

    inside(root, "dpkg", "--purge", "edge-gateway")
    left = paths(root) - before
    expect(not left, f"purged, it left {sorted(left)}")
    for name in ("passwd", "group"):
        text = (root / "etc" / name).read_text()
        expect("edge-gateway" not in text, f"purged, it left its account in /etc/{name}")
    _say("purged: nothing stays")


def make_older(package: Path, older: Path) -> None:
    """Make a package of the same that calls itself older, with another default and a file more."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / "stage"
        subprocess.run(["dpkg-deb", "--raw-extract", package, stage], check=True)
        control = stage / "DEBIAN/control"
        text, count = re.subn(r"(?m)^Version: .*$", "Version: 0.0.9", control.read_text())
        expect(count == 1, "the package has no version")
        control.write_text(text)
        with (stage / CONFIG[1:]).open("a") as config:
            config.write(OLD_DEFAULT)
        (stage / OBSOLETE).write_text("")
        command: list[str | Path] = ["dpkg-deb", "--root-owner-group", "-Znone"]
        command += ["--build", stage, older]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _install(root: Path, name: str) -> None:
    """Install a package, as apt does where nobody can be asked."""
    answers = ("--force-confdef", "--force-confold", "--force-downgrade")
    inside(root, "dpkg", *answers, "--install", f"/tmp/{name}")  # noqa: S108 - in the folder


def _use(root: Path) -> None:
    version = inside(root, "edge-gateway", "--version").strip()
    checked = inside(root, "edge-gateway", "check-config", CONFIG)
    expect("has no problems" in checked, f"check-config says {checked}")
    # Without a broker, a radio and a running service something is wrong, and it says so.
    told = json.loads(inside(root, "edge-gateway", "doctor", "--json", expected=(0, 1)))
    expect(bool(told["findings"]), "doctor finds nothing to tell")
    _say(f"{version}; check-config is content; doctor told {len(told['findings'])} findings")
    python = "/usr/lib/edge-gateway/bin/python3"
    compiled = (
        "import bleak, cryptography.x509, dbus_fast.message, pydantic_core, aiohttp, serial, "
        "xiaomi_ble, gateway.own_bundle as own; print(own.own_bundle().version)"
    )
    _say(f"firmware {inside(root, python, '-I', '-c', compiled).strip()} comes with it")
    expect(not inside(root, "dpkg", "--verify", "edge-gateway"), "dpkg finds changed files")
    account = inside(root, "id", "edge-gateway")
    expect("(dialout)" in account and "(bluetooth)" in account, f"the account: {account}")
    state = inside(root, "stat", "-c", "%U %G %a", "/var/lib/edge-gateway").strip()
    expect(state == "edge-gateway edge-gateway 750", f"/var/lib/edge-gateway: {state}")
    inside(root, "systemd-analyze", "verify", "--man=no", "edge-gateway.service")
    enabled = inside(root, "systemctl", "is-enabled", "edge-gateway").strip()
    expect(enabled == "enabled", f"the service is {enabled}")


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


def _say(text: str) -> None:
    print(f"debtest: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""A machine made in a folder, whose systemctl does what the test says and notes what is called."""

import os
import shutil
from pathlib import Path, PurePosixPath

from gateway.install.actions import Action
from gateway.install.execute import Machine
from gateway.install.plan import Seen, ServiceFiles
from gateway.install.seen import look
from gateway.install.source import Source, SourceFile

SERVICE = ServiceFiles(
    unit=(
        "[Service]\nType=notify\n"
        "ExecStart=/opt/edge-gateway/bin/edge-gateway run --config /etc/edge-gateway/gateway.toml\n"
        "[Install]\nWantedBy=multi-user.target\n"
    ),
    reload=b"[Service]\nExecReload=/bin/kill -HUP $MAINPID\n",
    rules=b"# rules\n",
    sysusers=b"u edge-gateway\n",
    tmpfiles=b"d /var/lib/edge-gateway\n",
    config=b"# defaults\n",
)

_PROGRAMS = (
    "systemctl",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "udevadm",
    "journalctl",
    "userdel",
)

_PROGRAM = """\
#!/bin/sh
name=${0##*/}
site='%(site)s'
trial="$site/root/run/systemd/system/edge-gateway.service"
if [ -e "$trial" ]; then which=new; else which=old; fi
case "$name $1" in
"systemctl is-active") cat "$site/state"; exit ;;
"systemctl --version") echo "systemd 257 (257.9)"; exit ;;
"systemctl show")
    echo looked >> "$site/looks"
    pid=100
    [ "$which-$(cat "$site/mood")" = new-dies ] && [ "$(wc -l < "$site/looks")" -gt 2 ] && pid=101
    status=$(cat "$site/status-$(cat "$site/runs" 2> /dev/null)" 2> /dev/null)
    [ "$which-$(cat "$site/mood")" = new-opens ] && [ "$(wc -l < "$site/looks")" -lt 6 ] &&
        status="0 waiting, outbox being opened"
    printf 'ActiveState=%%s\\nMainPID=%%s\\nStatusText=%%s\\n' "$(cat "$site/state")" $pid "$status"
    exit ;;
"journalctl "*) echo "what it said last"; exit ;;
esac
echo "$name $*" >> "$site/calls"
case "$name $1" in
"systemctl enable")
    mkdir -p "$site/root/etc/systemd/system/multi-user.target.wants"
    ln -sf /usr/local/lib/systemd/system/edge-gateway.service \\
        "$site/root/etc/systemd/system/multi-user.target.wants/edge-gateway.service" ;;
"systemctl start" | "systemctl restart")
    case "$which-$(cat "$site/mood")" in
    new-hangs) echo activating > "$site/state"; exec sleep 100 ;;
    new-ends) echo activating > "$site/state"; exit 1 ;;
    esac
    echo $which > "$site/runs"
    echo active > "$site/state" ;;
"systemctl stop") echo inactive > "$site/state" ;;
"systemd-sysusers "*)
    mkdir -p "$site/root/etc"
    echo "edge-gateway:x:990:985::/:" > "$site/root/etc/passwd" ;;
"systemd-tmpfiles "*) mkdir -p "$site/root/var/lib/edge-gateway" ;;
esac
"""

_PYTHON = """\
#!/bin/sh
[ "$2" = gateway ] || exit 0
echo "python $*" >> '{site}/calls'
[ ! -e '{site}/config-is-wrong' ] || {{ echo 'gateway.toml:3: no' >&2; exit 2; }}
"""


class PowerCutError(Exception):
    """The power failed."""


class Site:
    """The machine, and what is done to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.root.mkdir()
        self.programs = folder / "bin"
        self.programs.mkdir()
        program = folder / "program"
        program.write_text(_PROGRAM % {"site": folder})
        program.chmod(0o755)
        for name in _PROGRAMS:
            (self.programs / name).symlink_to(program)
        self.python = folder / "python3"
        self.python.write_text(_PYTHON.format(site=folder))
        self.python.chmod(0o755)
        self.state = "inactive"
        self.mood = "well"
        self.said: list[str] = []

    @property
    def state(self) -> str:
        return (self.folder / "state").read_text().strip()

    @state.setter
    def state(self, state: str) -> None:
        """What systemctl says of the service."""
        (self.folder / "state").write_text(f"{state}\n")

    @property
    def mood(self) -> str:
        return (self.folder / "mood").read_text().strip()

    @mood.setter
    def mood(self, mood: str) -> None:
        """How a new version does: well, hangs, ends, dies or opens (its files, for a while)."""
        (self.folder / "mood").write_text(f"{mood}\n")

    def says(self, which: str, status: str) -> None:
        """Have a version, old or new, tell systemd how it is."""
        (self.folder / f"status-{which}").write_text(status)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def forget_calls(self) -> None:
        (self.folder / "calls").unlink(missing_ok=True)

    @property
    def machine(self) -> Machine:
        return Machine(self.root, self.said.append)

    def seen(self) -> Seen:
        return look(self.machine, is_live=True)

    def source(self, version: str) -> Source:
        """Make up a version: a package of two files."""
        folder = self.folder / "packages" / version
        files = []
        for name in ("gateway/__init__.py", "gateway/cli.py"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {version}\n")
            files.append(SourceFile(path, PurePosixPath(name), path.stat().st_size))
        return Source(version, f"{version}-abcdef01", self.python, "3.13.5", tuple(files))

    def current(self) -> str:
        """The version that a start would start, read through all the links, and whole."""
        link = self.root / "opt/edge-gateway/current"
        library = link / "lib/python3.13/site-packages/gateway"
        texts = {(library / name).read_text() for name in ("__init__.py", "cli.py")}
        (text,) = texts
        script = (link / "bin/edge-gateway").read_text()
        version = text.removeprefix("# ").strip()
        assert script.startswith(f"#!/opt/edge-gateway/versions/{version}-abcdef01/bin/python3\n")
        return version

    def lose_power(self) -> None:
        """What is in memory only is gone."""
        shutil.rmtree(self.root / "run", ignore_errors=True)
        self.state = "active"

    def tree(self) -> dict[str, bytes | str]:
        """All files and links."""
        found: dict[str, bytes | str] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_file():
                found[name] = path.read_bytes()
        return found


class FailingMachine(Machine):
    """Loses its power before one of the actions, counted over all of them."""

    def __init__(self, site: Site, lasts: int) -> None:
        super().__init__(site.root, site.said.append)
        self._left = lasts

    def _do(self, action: Action) -> None:
        if self._left <= 0:
            raise PowerCutError
        self._left -= 1
        super()._do(action)

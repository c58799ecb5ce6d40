"""Tries the service on a booted Debian: `python -m deb.try_boot [PACKAGE]`, by `make boottest`.

systemd is the first process of a machine in a folder. There the gateway is installed, reloaded,
frozen, killed, upgraded and taken back, loses its power, and is removed; then the package the same
way. Needs root and cgroup2.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deb.booted import Booted, controllers, machine
from deb.debian import TrialError, debian, expect
from deb.variants import (
    ENDS_AFTERWARDS,
    EXTRA,
    MIGRATES,
    NEVER_READY,
    copy_source,
    fetch_needed,
    make_wheel,
)
from tests.parts.catalogue import TOOLS, PartMissingError

PYTHON = "3.13"
"""Of trixie."""

NEEDED = (
    *("python3", "python3-venv", "make", "init-system-helpers", "passwd", "systemd"),
    *("systemd-sysv", "dbus", "udev", "procps", "mosquitto"),
)

UNIT = "edge-gateway.service"
CONFIG = "etc/edge-gateway/gateway.toml"
SOURCE = "/srv/source"
WHEELS = "/srv/wheels"
VERSIONS = "/srv/versions"
EG = "/srv/eg"
"""Somebody's environment, as README has it: versions to come are installed from there."""

WATCHDOG_S = 10
"""In place of two minutes."""

MINE = '[gateway]\nname = "trial"\n[ble]\nenabled = false\n'
"""A configuration that somebody wrote."""

MOST_EXPOSED = 1.5
A_FEW = 3

OFFLINE = ("env", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELS}", "PIP_ROOT_USER_ACTION=ignore")

PROBE = """\
import os
for number, kind in ((1, "mem"), (11, "kmsg"), (3, "null")):
    try:
        os.close(os.open(f"/dev/probe-{kind}", os.O_RDONLY))
        print(kind, "opened")
    except OSError as exc:
        print(kind, exc.strerror)
"""
"""Run by root, with all its rights, in the control group of the service alone."""


def main() -> int:
    """Try it; returns 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="make boottest")
    parser.add_argument("package", type=Path, nargs="?", help="an edge-gateway_*.deb")
    package: Path | None = parser.parse_args().package
    if os.geteuid():
        print("boottest: needs root: a machine is booted in namespaces", file=sys.stderr)
        return 1
    began_s = time.monotonic()
    try:
        with debian("booted", NEEDED) as root:
            _put_there(root, package)
            with machine(root) as booted:
                try_service(booted)
                if package is not None:
                    try_package(booted)
    except (TrialError, PartMissingError) as exc:
        print(f"boottest: {exc}", file=sys.stderr)
        return 1
    print(f"boottest: all is well, after {time.monotonic() - began_s:.0f} s")
    return 0


def _put_there(root: Path, package: Path | None) -> None:
    """Bring in what the machine would fetch: it has no network."""
    wheels = TOOLS / f"wheels-{PYTHON}"
    fetch_needed(wheels, PYTHON)
    shutil.copytree(wheels, root / WHEELS[1:])
    copy_source(root / SOURCE[1:])
    with tempfile.TemporaryDirectory() as scratch:
        for version, changes in (
            ("0.1.1", ()),
            ("0.1.2", (NEVER_READY, MIGRATES)),
            ("0.1.3", (ENDS_AFTERWARDS,)),
        ):
            make_wheel(Path(scratch), root / VERSIONS[1:], version, *changes)
    if package is not None:
        shutil.copyfile(package, root / "srv/edge-gateway.deb")
    # Whether there is a broker is for the trial to say.
    (root / "etc/systemd/system-preset").mkdir(parents=True, exist_ok=True)
    (root / "etc/systemd/system/multi-user.target.wants/mosquitto.service").unlink(missing_ok=True)


def try_service(booted: Booted) -> None:
    """The service that `make install` makes."""
    _say(f"systemd has booted in {booted.boot():.1f} s (controllers: {controllers() or 'none'})")
    _install(booted)
    with _board(booted):
        _reads_a_board(booted)
        _is_in_its_sandbox(booted)
        _is_reloaded(booted)
        _is_started_again(booted)
        _waits_for_its_broker(booted)
        _is_in_the_journal(booted)
        _is_upgraded(booted)
        _is_taken_back(booted, "0.1.2", "was not ready within 60 s")
        _is_taken_back(booted, "0.1.3", "ended soon after it was ready|ended before it was ready")
    _loses_its_power(booted)
    _is_removed(booted)


def _install(booted: Booted) -> None:
    made = booted.run(*OFFLINE, "make", "-C", SOURCE, "install")
    expect(_is_active(booted), f"installed, it does not run:\n{made.out}")
    _say(f"make install: {made.seconds:.0f} s; it runs, without a broker")
    again = booted.run(*OFFLINE, "make", "-C", SOURCE, "install")
    expect("nothing was to be done" in again.out, f"a second time it did something:\n{again.out}")
    ran = booted.run("systemd-analyze", "security", "--no-pager", UNIT).out
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran)
    expect(level is not None and float(level[1]) <= MOST_EXPOSED, f"its exposure: {ran[-200:]}")
    _say(f"exposure {level[1] if level else ''}, by systemd as it runs it")
    config = booted.root / CONFIG
    config.write_text(MINE)
    booted.run("systemctl", "reload", UNIT)
    booted.run("python3", "-m", "venv", EG)
    booted.run(*OFFLINE, f"{EG}/bin/pip", "install", "-q", f"{SOURCE}[{EXTRA}]")


@contextmanager
def _board(booted: Booted) -> Iterator[None]:
    """Plug a board in: a pseudo terminal by the name, and with the rights, of a USB port."""
    words = ("simulate", "--kind", "json", "--name", "shed", "--link-dir", "/run/boards")
    board = booted.start(f"{EG}/bin/edge-gateway", *words)
    link = "/run/boards/shed-0"
    try:
        booted.until("a board", lambda: not booted.run("test", "-e", link, expected=None).code, 60)
        booted.run("chgrp", "dialout", "--dereference", link)
        booted.run("chmod", "660", link)
        booted.run("ln", "-s", booted.run("readlink", "-f", link).out.strip(), "/dev/ttyUSB0")
        yield
    finally:
        board.kill()
        board.wait()


def _reads_a_board(booted: Booted) -> None:
    def waits() -> bool:
        found = re.search(r"(\d+) waiting", _status(booted))
        return bool(found and int(found[1]) >= A_FEW)

    took_s = booted.until("samples of the board wait", waits, 60)
    _say(f"a board at /dev/ttyUSB0 (a pty) is read: {_status(booted)!r} after {took_s:.0f} s")


def _is_in_its_sandbox(booted: Booted) -> None:
    pid = booted.property_of(UNIT, "MainPID")
    told = dict(
        line.split(":", 1)
        for line in booted.run("cat", f"/proc/{pid}/status").out.splitlines()
        if ":" in line
    )
    for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        expect(not int(told[name], 16), f"{name} is {told[name].strip()}")
    expect(told["NoNewPrivs"].strip() == "1", "it may get rights")
    expect(told["Seccomp"].strip() == "2", "no filter of system calls")
    expect(told["Uid"].split()[0] != "0", "it is root")
    mounts = booted.run("cat", f"/proc/{pid}/mountinfo").out.splitlines()
    options = {line.split()[4]: line.split()[5].split(",") for line in mounts}
    for path in ("/", "/usr", "/etc", "/opt", "/var"):
        of = max(
            (each for each in options if f"{path}/".startswith(f"{each.rstrip('/')}/")), key=len
        )
        expect("ro" in options[of], f"{path} may be written to, by the mount at {of}")
    for path in ("/var/lib/edge-gateway", "/run/edge-gateway"):
        expect("rw" in options[path], f"{path} may not be written to")
    hidden = [
        line
        for line in mounts
        if line.split()[4] == "/proc" and "hidepid=invisible" in line.rpartition(" ")[2]
    ]
    expect(bool(hidden), "it sees the processes of others")
    for number, name in ((1, "mem"), (11, "kmsg"), (3, "null")):
        booted.run("mknod", f"/dev/probe-{name}", "c", "1", str(number))
    probed = booted.run("python3", "-c", PROBE, inside_of=UNIT).out
    expect(
        probed.splitlines()
        == ["mem Operation not permitted", "kmsg Operation not permitted", "null opened"],
        f"devices: {probed}",
    )
    _say("no rights, seccomp, read only but its folders, no devices of others: as it runs")


def _is_reloaded(booted: Booted) -> None:
    pid = booted.property_of(UNIT, "MainPID")
    config = booted.root / CONFIG
    config.write_text(f'{MINE}[log]\nlevel = "debug"\n')
    took_s = booted.run("systemctl", "reload", UNIT).seconds
    config.write_text(f"{MINE}[log]\nlevel = 3\n")
    booted.run("systemctl", "reload", UNIT)
    said = booted.run("journalctl", "-u", UNIT, "-n", "200", "--no-pager").out
    expect("log.level" in said, f"it did not say what is wrong with the configuration:\n{said}")
    config.write_text(MINE)
    booted.run("systemctl", "reload", UNIT)
    expect(booted.property_of(UNIT, "MainPID") == pid, "reloading started it anew")
    _say(f"systemctl reload: {took_s:.1f} s, the same process; a broken file changes nothing")


def _is_started_again(booted: Booted) -> None:
    drop_in = booted.root / f"etc/systemd/system/{UNIT}.d/trial.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}s\n")
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "restart", UNIT)
    for how, number in (("frozen", "STOP"), ("killed", "KILL")):
        pid = booted.property_of(UNIT, "MainPID")
        before = int(booted.property_of(UNIT, "NRestarts"))
        booted.run("kill", f"-{number}", pid)

        def is_back(before: int = before, pid: str = pid) -> bool:
            return (
                _is_active(booted)
                and int(booted.property_of(UNIT, "NRestarts")) == before + 1
                and booted.property_of(UNIT, "MainPID") != pid
            )

        took_s = booted.until(f"{how}, it is started again", is_back, 120)
        _say(f"{how}, it runs again after {took_s:.0f} s")
    shutil.rmtree(drop_in.parent)
    booted.run("systemctl", "daemon-reload")


def _waits_for_its_broker(booted: Booted) -> None:
    def is_delivered() -> bool:
        return bool(re.search(r"\b0 waiting", _status(booted)))

    booted.run("systemctl", "start", "mosquitto")
    took_s = booted.until("the broker has all samples", is_delivered, 120)
    _say(f"a broker came: {_status(booted)!r} after {took_s:.0f} s")


def _is_in_the_journal(booted: Booted) -> None:
    """Its lines have their severity, and the port and the device they are about."""
    words = ("journalctl", "-u", UNIT, "--no-pager")
    entries = [json.loads(line) for line in booted.run(*words, "-o", "json").out.splitlines()]
    links = {entry["LINK"] for entry in entries if "LINK" in entry}
    devices = {entry["DEVICE"] for entry in entries if "DEVICE" in entry}
    expect(bool(links) and bool(devices), f"links {links} and devices {devices} in the journal")
    found = booted.run(*words, "-o", "cat", f"LINK={min(links)}").out
    warned = booted.run(*words, "-p", "warning", "-o", "cat").out
    expect(bool(found.strip()), f"nothing is found by LINK={min(links)}")
    expect(0 < len(warned.splitlines()) < len(entries), "severities do not tell lines apart")
    _say(f"the journal is searched by LINK={min(links)}, DEVICE={min(devices)} and -p warning")


def _get(booted: Booted, version: str) -> None:
    wheel = f"{VERSIONS}/edge_gateway-{version}-py3-none-any.whl"
    booted.run(*OFFLINE, f"{EG}/bin/pip", "install", "-q", "--no-deps", wheel)


def _is_upgraded(booted: Booted) -> None:
    config = (booted.root / CONFIG).read_bytes()
    _get(booted, "0.1.1")
    done = booted.run(f"{EG}/bin/edge-gateway", "upgrade")
    expect(_version(booted) == "0.1.1" and _is_active(booted), f"not upgraded:\n{done.out}")
    expect((booted.root / CONFIG).read_bytes() == config, "the configuration was changed")
    fragment = booted.property_of(UNIT, "FragmentPath")
    expect(fragment.startswith("/usr/local/lib/"), f"its unit is {fragment}")
    _say(f"upgraded to 0.1.1 in {done.seconds:.0f} s, ten of them to see that it stays")


def _is_taken_back(booted: Booted, version: str, why: str) -> None:
    before = _devices(booted)
    _get(booted, version)
    done = booted.run(f"{EG}/bin/edge-gateway", "upgrade", expected=(1,))
    expect(bool(re.search(why, done.out)), f"it says:\n{done.out}")
    expect(_is_active(booted) and _version(booted) == "0.1.1", f"not taken back:\n{done.out}")
    expect(not list((booted.root / "run/systemd/system").glob("edge*")), "the trial's unit is left")
    expect(_devices(booted) == before, f"the devices were {before}, and are {_devices(booted)}")
    left = [*(booted.root / "opt/edge-gateway/versions").glob(f"{version}*")]
    expect(not left, f"it left {left}")
    _say(f"{version} was taken back after {done.seconds:.0f} s; devices as before: {before}")


def _loses_its_power(booted: Booted) -> None:
    """Amid the trial of a version that will not be ready."""
    _get(booted, "0.1.2")
    trial = booted.start(f"{EG}/bin/edge-gateway", "upgrade")
    unit = "/run/systemd/system/edge-gateway.service"
    booted.until("a trial", lambda: not booted.run("test", "-e", unit, expected=None).code, 60)
    state = "activating"
    booted.until("0.1.2 starts", lambda: booted.property_of(UNIT, "ActiveState") == state, 60)
    booted.cut_power()
    trial.wait()
    took_s = booted.boot()
    booted.until("it runs", lambda: _is_active(booted), 60)
    expect(_version(booted) == "0.1.1", f"{_version(booted)} runs")
    _say(f"the power failed amid a trial: the version before runs after a boot of {took_s:.1f} s")


def _is_removed(booted: Booted) -> None:
    booted.run("edge-gateway", "uninstall")
    expect(not _is_active(booted), "it still runs")
    expect((booted.root / CONFIG).exists(), "its configuration is gone")
    left = _left(booted)
    expect(left == {"/etc/edge-gateway", "/var/lib/edge-gateway"}, f"removed, it left {left}")
    booted.run(f"{EG}/bin/edge-gateway", "uninstall", "--purge")
    expect(not _left(booted), f"purged, it left {_left(booted)}")
    told = booted.run("systemctl", "is-system-running", expected=None).out.strip()
    _say(f"uninstalled and purged: nothing stays; systemd is {told}")


def try_package(booted: Booted) -> None:
    """The service of the Debian package."""
    _say("the package:")
    done = booted.run("dpkg", "--install", "/srv/edge-gateway.deb")
    expect(_is_active(booted), f"installed, it does not run:\n{done.out}")
    expect("Warning" not in done.out, f"installing it says:\n{done.out}")
    _say(f"installed in {done.seconds:.0f} s; it runs")
    pid = booted.property_of(UNIT, "MainPID")
    config = booted.root / CONFIG
    config.write_text(MINE)
    booted.run("dpkg", "--install", "/srv/edge-gateway.deb")
    expect(_is_active(booted), "installed again, it does not run")
    expect(booted.property_of(UNIT, "MainPID") != pid, "installed again, it was not restarted")
    expect(config.read_text() == MINE, "its configuration was overwritten")
    told = booted.run("edge-gateway", "doctor", "--json", expected=(0, 1)).out
    expect('"findings"' in told, f"doctor says {told}")
    booted.run("dpkg", "--remove", "edge-gateway")
    expect(not _is_active(booted), "removed, it runs")
    booted.run("dpkg", "--purge", "edge-gateway")
    expect(not _left(booted), f"purged, it left {_left(booted)}")
    _say("installed again, removed and purged")


def _left(booted: Booted) -> set[str]:
    found = booted.run(
        *("find", "/etc", "/opt", "/usr", "/var/lib", "/run", "-name", "*edge-gateway*"),
        *("-not", "-path", "/var/lib/dpkg/*", "-not", "-path", "/var/lib/systemd/*", "-prune"),
        *("-print",),
    )
    return set(found.out.split())


def _is_active(booted: Booted) -> bool:
    return booted.property_of(UNIT, "ActiveState") == "active"


def _status(booted: Booted) -> str:
    return booted.property_of(UNIT, "StatusText")


def _version(booted: Booted) -> str:
    return booted.run("edge-gateway", "--version").out.split()[-1]


def _devices(booted: Booted) -> str:
    """Return the devices the gateway remembers, and the form of their database."""
    script = (
        "import sqlite3; c = sqlite3.connect('/var/lib/edge-gateway/gateway.db'); "
        "print(*c.execute('PRAGMA user_version').fetchone(), "
        "*(row[0] for row in c.execute('SELECT key FROM devices ORDER BY key')))"
    )
    return booted.run("python3", "-c", script).out.strip()


def _say(text: str) -> None:
    print(f"boottest: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

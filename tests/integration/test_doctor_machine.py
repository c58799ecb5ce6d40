"""`doctor` on the rest of the machine: clock, disk, memory, limits, service, configuration."""

import asyncio
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.cli.doctor import draw, plain
from gateway.cli.examined import describe, described_in_time
from gateway.clock import Clock
from gateway.config.source import Source
from gateway.doctor import clock, configuration, disk, limits, service
from gateway.doctor.case import Case, Machine, Space, Unit, Who, space_at
from gateway.doctor.examine import ROOMS, examine
from gateway.doctor.finding import Severity, Tell, error, ok, warning, worst
from gateway.doctor.processes import gateways
from gateway.errors import LinkError
from gateway.simulate.faults.small_disk import tmpfs
from tests.support.doctor import as_nobody, findings, found, no_complaint, process, the_only

NOW_S = 1_795_000_000.0
"""2026-11-18."""
ROOM = Space(10 << 30, 100_000, is_read_only=False)
MEMINFO = "MemTotal: 474624 kB\nMemFree: 1000 kB\nMemAvailable: {} kB\nBuffers: 1 kB\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Give a /proc of a machine with memory on which nothing runs."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "meminfo").write_text(MEMINFO.format(300_000))
    (folder / "uptime").write_text("100000.00 200000.00\n")
    return folder


# Clock.


def at(unix_s: float, *, is_synchronised: bool) -> Case:
    given = Clock(unix_s=lambda: unix_s, is_synchronised=lambda: is_synchronised)
    return Case(machine=Machine(clock=given))


def test_a_clock_that_somebody_keeps_is_right() -> None:
    no_complaint(found(clock.look, at(NOW_S, is_synchronised=True)))


def test_a_clock_that_nobody_vouches_for_is_told_with_what_sets_it() -> None:
    accused = the_only(Severity.WARNING, found(clock.look, at(NOW_S, is_synchronised=False)))

    assert "not synchronised" in accused.what
    assert accused.mend.startswith("sudo timedatectl set-ntp true")


@pytest.mark.parametrize("is_synchronised", [False, True])
def test_a_clock_from_before_this_program_is_wrong_whoever_vouches_for_it(
    is_synchronised: bool,
) -> None:
    told = found(clock.look, at(86_400.0, is_synchronised=is_synchronised))

    accused = the_only(Severity.ERROR, told)
    assert accused.got == "1970-01-02 00:00 UTC"
    assert accused.mend.startswith("sudo timedatectl set-ntp true")


# Disk and store.


def stored(folder: Path, proc: Path, space: Space = ROOM, **changed: object) -> Case:
    machine = Machine(proc=proc, sys=folder / "sys", space=lambda _path: space)
    given = Case(outbox=folder / "store" / "outbox.db", max_bytes=256 << 20, machine=machine)
    return replace(given, **changed)  # type: ignore[arg-type]  # of a Case


def test_a_folder_that_is_yet_to_be_made_is_no_fault(tmp_path: Path, proc: Path) -> None:
    told = found(disk.look, stored(tmp_path, proc))

    no_complaint(told)
    assert [each.where for each in told] == ["wear", "disk", "store"]
    assert not (tmp_path / "store").exists()


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """Give a folder of a disk without room: a tmpfs, or where that is forbidden none."""
    try:
        with tmpfs(folder, 1 << 20) as small:
            small.fill(0)
            yield small.inside(0)
    except LinkError:
        yield folder


def test_a_full_disk_is_told_with_what_makes_room(tmp_path: Path, proc: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    with full_disk(folder) as full:
        is_full = full != folder
        machine = Machine(
            proc=proc, space=space_at if is_full else lambda _path: ROOM._replace(free_bytes=0)
        )
        told = found(disk.look, Case(outbox=full / "outbox.db", max_bytes=1 << 20, machine=machine))

    accused = the_only(Severity.ERROR, told)
    assert accused.where == "disk"
    assert accused.what.startswith(f"the disk at {full} is full")
    assert accused.got == "0.0 MB free"
    assert accused.mend.startswith("sudo journalctl --vacuum-size=50M")


def test_less_room_than_the_outbox_may_take_is_worth_a_look(tmp_path: Path, proc: Path) -> None:
    (tmp_path / "store").mkdir()
    with (tmp_path / "store" / "outbox.db").open("wb") as file:
        file.truncate(200 << 20)
    space = ROOM._replace(free_bytes=50 << 20)

    accused = the_only(Severity.WARNING, found(disk.look, stored(tmp_path, proc, space)))
    smaller = found(disk.look, stored(tmp_path, proc, space, max_bytes=220 << 20))

    assert (accused.expected, accused.got) == ("56 MB", "50 MB free")
    assert "max_mb" in accused.mend
    no_complaint(smaller)


def test_no_inode_and_a_disk_mounted_read_only_are_told(tmp_path: Path, proc: Path) -> None:
    no_inode = stored(tmp_path, proc, ROOM._replace(free_files=0))
    read_only = stored(tmp_path, proc, ROOM._replace(is_read_only=True))

    assert "du --inodes" in the_only(Severity.ERROR, found(disk.look, no_inode)).mend
    assert "remount,rw" in the_only(Severity.ERROR, found(disk.look, read_only)).mend


def test_what_is_in_the_way_of_the_store_is_told_in_the_store_s_words(
    tmp_path: Path, proc: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "outbox.db").mkdir()

    told = found(disk.look, stored(tmp_path, proc))

    accused = the_only(Severity.ERROR, told)
    assert (accused.where, accused.mend) == ("store", f"mv {tmp_path}/store/outbox.db ~/")
    assert f"{tmp_path}/store/outbox.db is a folder" in accused.what


@pytest.mark.parametrize(
    ("trouble", "mend"),
    [
        ("{0} may not be written by the user 7", "sudo install -d -o $(id -un) {0}/store"),
        ("{0}/outbox.db may not be read and written by", "sudo chown $(id -un) {0}/outbox.db"),
        ("{0}/store is a file, where the outbox", "mv {0}/store ~/"),
    ],
)
def test_no_obstacle_is_mended_with_more_than_it_needs(
    tmp_path: Path, trouble: str, mend: str
) -> None:
    path = tmp_path / "store" / "outbox.db"

    told = disk.clear_the_way(Case(), path, trouble.format(tmp_path))

    assert told == mend.format(tmp_path)


@pytest.mark.parametrize("name", ["outbox.db", "gateway.db", "outbox.ledger", "keys"])
def test_a_file_that_the_service_may_not_write_is_told_whoever_looks(
    tmp_path: Path, proc: Path, name: str
) -> None:
    """As `sudo edge-gateway run` leaves it; root, who looks, may write everything."""
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(0o777)
    mine = folder / name
    mine.mkdir(0o700) if name == "keys" else mine.touch(0o600)
    case = stored(
        *(tmp_path, proc),
        own_files=(folder, folder / "outbox.db-wal", mine),
        unit=Unit(name="edge-gateway", active="active", user="edge-gateway"),
        who=Who("the service edge-gateway", os.geteuid() + 1, frozenset({os.getegid() + 1})),
    )

    accused = the_only(Severity.ERROR, found(disk.look, case))
    mine.chmod(0o777)

    assert f"{mine} may not be read and written by the service edge-gateway" in accused.what
    assert accused.mend.startswith("sudo chown ")
    assert accused.mend.endswith(f"edge-gateway {mine}")
    no_complaint(found(disk.look, case))


def test_what_was_damaged_once_is_worth_a_look(tmp_path: Path, proc: Path) -> None:
    (tmp_path / "store").mkdir()
    aside = tmp_path / "store" / "outbox.db.damaged-20261118T070000.000000Z"
    aside.write_bytes(b"?")

    accused = the_only(Severity.WARNING, found(disk.look, stored(tmp_path, proc)))

    assert accused.mend.startswith(f"rm {aside} ")


@pytest.mark.parametrize(
    ("written_bytes", "severity"), [(50 << 20, Severity.OK), (60 << 30, Severity.WARNING)]
)
def test_what_a_gateway_writes_a_day_is_told(
    tmp_path: Path, proc: Path, written_bytes: int, severity: Severity
) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    started = (100_000 - 43_200) * ticks
    process(
        *(proc, 7, "edge-gateway", "/opt/bin/edge-gateway", "run"),
        io=f"rchar: 1\nwrite_bytes: {written_bytes}\ncancelled_write_bytes: 0\n",
    )
    stat = " ".join(["S", *("0" for _ in range(18)), str(started), "0", "0"])
    (proc / "7" / "stat").write_text(f"7 (edge) gate) {stat}\n")

    told = found(disk.look, stored(tmp_path, proc))

    (wear,) = [each for each in told if each.where == "wear"]
    a_day = f"{written_bytes * 2 >> 20} MB"
    assert wear.severity is severity
    assert a_day in f"{wear.what} {wear.got}"
    assert bool(wear.mend) == (severity is Severity.WARNING)


def test_what_only_root_may_see_is_told_so(tmp_path: Path, proc: Path) -> None:
    process(proc, 7, "edge-gateway", "/opt/bin/edge-gateway", "run")

    accused = the_only(Severity.WARNING, found(disk.look, stored(tmp_path, proc)))

    assert accused.where == "wear"
    assert accused.mend.startswith("sudo edge-gateway doctor")


def test_a_card_at_the_end_of_its_life_is_told(tmp_path: Path, proc: Path) -> None:
    for name, age in (("mmcblk0", "0x0a 0x02"), ("mmcblk1", "0x01 0x02")):
        folder = tmp_path / "sys" / "block" / name / "device"
        folder.mkdir(parents=True)
        (folder / "life_time").write_text(f"{age}\n")

    accused = the_only(Severity.ERROR, found(disk.look, stored(tmp_path, proc)))

    assert accused.what.startswith("mmcblk0 says")


# Memory and descriptors.


def test_memory_and_descriptors_that_are_enough(proc: Path) -> None:
    no_complaint(found(limits.look, Case(machine=Machine(proc=proc))))


@pytest.mark.parametrize(
    ("available_kb", "severity"), [(40_000, Severity.WARNING), (9_000, Severity.ERROR)]
)
def test_too_little_memory_is_told_with_what_tells_who_takes_it(
    proc: Path, available_kb: int, severity: Severity
) -> None:
    (proc / "meminfo").write_text(MEMINFO.format(available_kb))

    accused = the_only(severity, found(limits.look, Case(machine=Machine(proc=proc))))

    assert accused.where == "memory"
    assert accused.mend.startswith("ps -eo rss,pid,comm")


def test_a_gateway_that_may_open_too_few_files_is_told_with_its_limit(proc: Path) -> None:
    process(
        *(proc, 7, "edge-gateway", "/opt/bin/edge-gateway", "run"),
        limits="Limit   Soft Limit  Hard Limit  Units\nMax open files   32   48   files \n",
    )

    accused = the_only(Severity.ERROR, found(limits.look, Case(machine=Machine(proc=proc))))

    assert accused.where == "descriptors"
    assert accused.got == "48"
    assert "process 7" in accused.what
    assert "LimitNOFILE" in accused.mend


def test_the_rights_that_count_are_those_of_the_gateway_with_this_configuration(
    tmp_path: Path, proc: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("")
    (tmp_path / "link.toml").symlink_to(path)
    given = ((6, "gateway.toml"), (7, "/etc/other.toml"), (8, f"{tmp_path}/link.toml"))
    for pid, config in given:  # where the first one's folder is, only its user may see
        process(proc, pid, "edge-gateway", "/opt/bin/edge-gateway", "run", "--config", config)
        status = f"Name:\tx\nUid:\t1\t{pid}\t1\t1\nGid:\t2\t5{pid}\t2\t2\nGroups:\t20 29 \n"
        (proc / str(pid) / "status").write_text(status)

    who = describe(Case(config=path, machine=Machine(proc=proc)), {}).who

    assert who == Who("the gateway (process 8)", 8, frozenset({20, 29, 58}))
    (proc / "8" / "cmdline").write_bytes(b"/opt/bin/edge-gateway\0run\0--config=gateway.toml\0")
    assert describe(Case(config=path, machine=Machine(proc=proc)), {}).who is None
    (proc / "8" / "cwd").symlink_to(tmp_path)
    assert describe(Case(config=path, machine=Machine(proc=proc)), {}).who == who


def test_only_gateways_count_as_such(proc: Path) -> None:
    process(proc, 7, "edge-gateway", "/usr/bin/python3", "/opt/bin/edge-gateway", "run")
    process(proc, 8, "edge-gateway", "/usr/bin/python3", "/opt/bin/edge-gateway", "doctor")
    process(proc, 9, "python3", "python3", "-m", "gateway", "run", "--broker", "b")
    process(proc, 10, "vi", "vi", "edge-gateway")
    process(proc, 11, "kthreadd")
    process(proc, 12, "timeout", "timeout", "900", "edge-gateway", "run")

    assert sorted(each.pid for each in gateways(proc)) == [7, 9]


# The service.

SHOWN = """\
LoadState={load}
ActiveState={active}
SubState={sub}
UnitFileState={enabled}
Result={result}
ExecMainStatus={status}
NRestarts={restarts}
User=
Group=
SupplementaryGroups=dialout
DynamicUser=yes
StateDirectory=edge-gateway
ExecStart={{ path=/opt/edge-gateway/bin/edge-gateway ; argv[]=/opt/edge-gateway/bin/edge-gateway \
run --config {config} ; ignore_errors=no ; pid=812 ; code=(null) ; status=0/0 }}
LoadCredential=mqtt-password:/etc/edge-gateway/mqtt-password
StatusText={said}
"""
HEALTHY = {
    "load": "loaded",
    "active": "active",
    "sub": "running",
    "enabled": "enabled",
    "result": "success",
    "status": "0",
    "restarts": "0",
    "config": "/etc/edge-gateway/gateway.toml",
    "said": "2 of 2 devices online",
}


def program(path: Path, prints: str, code: int = 0) -> str:
    """Make a program that prints something, and return it."""
    path.with_suffix(".text").write_text(prints)
    path.write_text(f"#!/bin/sh\ncat {path.with_suffix('.text')}\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def without_errors(journal: Path) -> None:
    """Have a journalctl say nothing to who asks for errors alone."""
    silent = '#!/bin/sh\ncase "$*" in *"-p err"*) exit 0 ;; esac\n'
    journal.write_text(journal.read_text().replace("#!/bin/sh\n", silent))


async def served(tmp_path: Path, journal: str = "", **changed: str) -> Case:
    """Return a case as the command makes it, with a systemd that tells of the service."""
    machine = Machine(
        systemctl=program(tmp_path / "systemctl", SHOWN.format(**(HEALTHY | changed))),
        journalctl=program(tmp_path / "journalctl", journal),
    )
    has_systemd, unit = await service.find(machine)
    return Case(unit=unit, has_systemd=has_systemd, machine=machine)


async def test_a_service_that_runs_is_not_accused_and_tells_with_what_it_was_started(
    tmp_path: Path,
) -> None:
    case = await served(tmp_path)

    no_complaint(await findings(service.look, case))
    assert service.config_of(case.unit) == Path("/etc/edge-gateway/gateway.toml")
    assert case.unit is not None
    assert case.unit.credentials == ("mqtt-password:/etc/edge-gateway/mqtt-password",)
    who = service.who_of(case.unit)
    assert who is not None
    assert who.user not in {0, os.geteuid()}


async def test_a_service_that_failed_is_told_with_its_last_words(tmp_path: Path) -> None:
    case = await served(
        tmp_path,
        "gateway.toml:3: mqtt.prot: no such key\n",
        active="failed",
        sub="failed",
        result="exit-code",
        status="2",
    )

    accused = the_only(Severity.ERROR, await findings(service.look, case))

    assert accused.got == "failed (exit-code, exit status 2)"
    assert accused.what.endswith("its last words: gateway.toml:3: mqtt.prot: no such key")
    assert accused.mend.startswith("edge-gateway check-config /etc/edge-gateway/gateway.toml")


async def test_a_service_that_ended_without_an_error_in_the_log_has_last_words(
    tmp_path: Path,
) -> None:
    """The traceback of a bug comes over stderr, and has no priority."""
    case = await served(tmp_path, "ZeroDivisionError\n", active="failed", sub="failed", status="1")
    without_errors(Path(case.machine.journalctl))

    accused = the_only(Severity.ERROR, await findings(service.look, case))

    assert accused.what.endswith("its last words: ZeroDivisionError")


@pytest.mark.parametrize(
    ("changed", "mend"),
    [
        ({"result": "watchdog"}, "journalctl -u edge-gateway -g 'stands still' -n 5"),
        ({"result": "start-limit-hit"}, "sudo systemctl reset-failed edge-gateway && "),
        ({"result": "exit-code", "status": "217"}, "sudo systemd-sysusers && "),
        ({"result": "exit-code", "status": "216"}, "sudo systemd-sysusers && "),
        ({"result": "exit-code", "status": "203"}, "systemctl cat edge-gateway | grep ^ExecStart"),
        ({"result": "exit-code", "status": "243"}, "systemctl cat edge-gateway | grep Credential"),
    ],
)
async def test_what_mends_a_service_depends_on_how_it_failed(
    tmp_path: Path, changed: dict[str, str], mend: str
) -> None:
    case = await served(tmp_path, active="failed", sub="failed", **changed)

    assert the_only(Severity.ERROR, await findings(service.look, case)).mend.startswith(mend)


async def test_a_service_of_which_a_part_stands_still_is_told_with_that_part(
    tmp_path: Path,
) -> None:
    said = "stands still: store thread (commit)"

    accused = the_only(
        Severity.ERROR, await findings(service.look, await served(tmp_path, said=said))
    )

    assert accused.got == said
    assert accused.mend.startswith("journalctl -u edge-gateway -p err")


async def test_a_service_that_runs_and_cannot_use_its_files_is_told(tmp_path: Path) -> None:
    said = "0 of 0 devices online, 0 waiting, outbox failing: outbox.db was written by a newer one"

    accused = the_only(
        Severity.ERROR, await findings(service.look, await served(tmp_path, said=said))
    )

    assert accused.what.endswith(": outbox failing: outbox.db was written by a newer one")


async def test_a_service_that_runs_says_how_it_is(tmp_path: Path) -> None:
    (told,) = await findings(service.look, await served(tmp_path))

    assert told.what == "active (running): 2 of 2 devices online"


def test_a_service_with_an_account_has_its_rights() -> None:
    account = pwd.getpwuid(1)  # daemon, on every Linux
    unit = Unit(name="edge-gateway", active="active", user=account.pw_name)

    who = service.who_of(unit)

    assert who is not None
    assert who.user == account.pw_uid
    assert account.pw_gid in who.groups


@pytest.mark.parametrize(
    ("load", "mend"),
    [
        ("masked", "sudo systemctl unmask edge-gateway && sudo systemctl enable --now edge-gatew"),
        ("bad-setting", "systemd-analyze verify edge-gateway.service"),
        ("error", "systemd-analyze verify edge-gateway.service"),
    ],
)
async def test_a_service_that_systemd_may_not_or_cannot_load_is_told(
    tmp_path: Path, load: str, mend: str
) -> None:
    case = await served(tmp_path, load=load, active="inactive", sub="dead", enabled=load)

    accused = the_only(Severity.ERROR, await findings(service.look, case))

    assert accused.mend.startswith(mend)


@pytest.mark.parametrize("sub", ["auto-restart", "auto-restart-queued", "start"])
async def test_a_service_that_ends_again_and_again_is_told(tmp_path: Path, sub: str) -> None:
    case = await served(
        tmp_path,
        active="activating",
        sub=sub,
        result="oom-kill",
        restarts="17",
    )

    accused = the_only(Severity.ERROR, await findings(service.look, case))

    assert accused.got == "oom-kill, exit status 0, 17 restarts"
    assert accused.mend.startswith("systemctl show -p MemoryMax edge-gateway")


@pytest.mark.parametrize(
    ("changed", "mend"),
    [
        ({"active": "inactive", "sub": "dead"}, "sudo systemctl enable --now edge-gateway"),
        ({"enabled": "disabled"}, "sudo systemctl enable edge-gateway"),
        ({"restarts": "5"}, "journalctl -u edge-gateway --since -1d -p warning"),
    ],
)
async def test_a_service_that_may_be_meant_so_is_worth_a_look(
    tmp_path: Path, changed: dict[str, str], mend: str
) -> None:
    accused = the_only(
        Severity.WARNING, await findings(service.look, await served(tmp_path, **changed))
    )

    assert accused.mend == mend


async def test_neither_a_missing_systemd_nor_a_missing_service_is_a_fault(tmp_path: Path) -> None:
    nobody = Machine(systemctl=str(tmp_path / "nothing"))
    broken = Machine(systemctl=program(tmp_path / "broken", "no bus", code=1))
    assert await service.find(nobody) == await service.find(broken) == (False, None)

    absent = await served(tmp_path, load="not-found", active="inactive")
    assert (absent.has_systemd, absent.unit) == (True, None)
    no_complaint(await findings(service.look, absent))
    no_complaint(await findings(service.look, Case(machine=nobody)))


# Configuration and secrets.


def test_each_problem_of_a_configuration_is_a_finding_and_nobody_else_is_accused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[mqtt]\nprot = 1883\n[serial]\nbaudrate = "fast"\n')

    case = describe(Case(config=path), {})
    told = found(configuration.look, case)

    assert [each.severity for each in told] == [Severity.ERROR] * 2
    assert [each.what.partition(": ")[2].partition(":")[0] for each in told] == [
        "mqtt.prot",
        "serial.baudrate",
    ]
    assert all(each.mend.endswith(f"edge-gateway check-config {path}") for each in told)
    assert (case.ports, case.broker, case.outbox) == (None, None, None)
    assert the_only(Severity.WARNING, found(disk.look, case)).where == "store"


def test_a_configuration_that_we_may_not_read_accuses_nobody() -> None:
    with TemporaryDirectory() as name:  # where nobody may look, unlike in the test's own
        Path(name).chmod(0o755)
        path, secret = Path(name, "gateway.toml"), Path(name, "password")
        path.write_text('[mqtt]\nusername = "g"\npassword_file = "password"\n')
        secret.write_text("hush\n")
        secret.chmod(0)
        with as_nobody():
            hidden = describe(Case(config=path), {})
    assert hidden.is_hidden

    for look in (configuration.look, disk.look):
        told = [each for each in found(look, hidden) if each.where != "wear"]
        accused = the_only(Severity.WARNING, told)
        assert accused.mend == f"sudo edge-gateway doctor --config {path}"


def test_a_configuration_that_is_not_there_is_wrong() -> None:
    with as_nobody():
        missing = describe(Case(config=Path("/nowhere/gateway.toml")), {})

    accused = the_only(Severity.ERROR, found(configuration.look, missing))
    assert accused.what.endswith("No such file or directory")


@pytest.mark.parametrize("left", ["", "[mqtt]\nho", "[mqtt]\nhost = 7\n"])
def test_a_broken_configuration_comes_with_what_a_start_uses_until_it_is_mended(
    tmp_path: Path, left: str
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[mqtt]\nhost = "broker"\n')
    source = Source(path)
    source.begin()
    source.keep()
    path.write_text(left)

    broken, used = found(configuration.look, describe(Case(config=path), {}))

    assert (broken.severity, used.severity) == (Severity.ERROR, Severity.WARNING)
    assert broken.what.startswith(f"{path}:")
    assert used.what.endswith(f"the last good one is used at a start: {source.last_good()}")
    assert used.mend == f"sudo diff {source.last_good()} {path}"


def kept(path: Path, text: str) -> None:
    """Let a gateway have run with a configuration."""
    path.write_text(text)
    source = Source(path)
    source.begin()
    source.keep()


def test_while_the_file_is_broken_the_one_that_is_used_is_examined(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    kept(path, '[mqtt]\nhost = "broker"\n')
    path.write_text("[mqtt]\nho")

    broker = describe(Case(config=path), {}).broker

    assert broker is not None
    assert broker.host == "broker"


def test_a_last_good_one_that_is_of_no_use_either_is_not_promised(tmp_path: Path) -> None:
    """It names the same file for the password, which a power cut emptied."""
    path, secret = tmp_path / "gateway.toml", tmp_path / "password"
    secret.touch(0o600)
    secret.write_text("hush\n")
    kept(path, '[mqtt]\nusername = "g"\npassword_file = "password"\n')
    secret.write_text("")

    accused = the_only(Severity.ERROR, found(configuration.look, describe(Case(config=path), {})))

    assert accused.what.endswith("password: the first line is empty")


@pytest.mark.parametrize(
    ("unit", "mend"),
    [
        (None, "kill -HUP 7"),
        ("/etc/other.toml", "kill -HUP 7"),
        ("{path}", "sudo systemctl reload edge-gateway"),
    ],
)
def test_a_configuration_that_the_running_gateway_has_not_read_is_told(
    tmp_path: Path, proc: Path, unit: str | None, mend: str
) -> None:
    """It may be that the last good one is in force, and the file was mended since."""
    path = tmp_path / "gateway.toml"
    kept(path, '[mqtt]\nhost = "broker"\n')
    served = unit and Unit(
        name="edge-gateway", active="active", command=f"run --config {unit.format(path=path)} ;"
    )
    case = Case(config=path, unit=served or None, machine=Machine(proc=proc))
    process(proc, 7, "python3", "python3", "-m", "gateway", "run", "--config", str(path))

    no_complaint(found(configuration.look, describe(case, {})))
    path.write_text('[mqtt]\nhost = "another"\n')
    accused = the_only(Severity.WARNING, found(configuration.look, describe(case, {})))

    assert accused.what == f"the running gateway goes by another one than {path} is now"
    assert accused.mend == mend
    (proc / "7" / "cmdline").write_bytes(b"")
    no_complaint(found(configuration.look, describe(case, {})))


async def test_a_configuration_on_a_disk_that_hangs_is_told_and_nothing_waits_for_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gateway.toml"
    os.mkfifo(path)  # nobody writes to it, so who opens it to read hangs

    case = await described_in_time(Case(config=path), {}, within_s=0.05)
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # lets the thread go on

    accused = the_only(Severity.ERROR, found(configuration.look, case))
    assert accused.what.startswith(f"{path}: no answer within 0.05 s")
    assert the_only(Severity.WARNING, found(disk.look, case)).where == "store"


def test_a_secret_that_everybody_can_read_is_told_with_the_command_that_hides_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "password").write_text("hush\n")
    (tmp_path / "password").chmod(0o644)
    path = tmp_path / "gateway.toml"
    path.write_text('[mqtt]\nusername = "g"\npassword_file = "password"\n')

    accused = the_only(Severity.ERROR, found(configuration.look, describe(Case(config=path), {})))

    assert accused.mend == f"sudo chmod o= {tmp_path}/password"
    assert "hush" not in repr(accused)
    (tmp_path / "password").chmod(0o600)
    no_complaint(found(configuration.look, describe(Case(config=path), {})))


def test_a_password_that_only_the_service_gets_is_told_with_how_to_have_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[mqtt]\nusername = "g"\npassword_credential = "mqtt-password"\n')
    unit = Unit(name="edge-gateway", active="active", credentials=("mqtt-password:/etc/p",))

    case = describe(Case(config=path, unit=unit), {})

    accused = the_only(Severity.WARNING, found(configuration.look, case))
    assert case.broker is not None
    assert "-p LoadCredential=mqtt-password:/etc/p " in accused.mend
    assert accused.mend.endswith(f"doctor --config {path}")


def test_the_service_s_configuration_is_examined_in_the_service_s_folder(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("")
    unit = Unit(name="edge-gateway", active="active", state_folder="edge-gateway", is_dynamic=True)

    of_the_service = describe(Case(config=path, unit=unit), {}, path)
    of_another = describe(Case(config=path, unit=unit), {}, tmp_path / "other.toml")

    assert of_the_service.outbox == Path("/var/lib/edge-gateway/outbox.db")
    assert of_the_service.who is not None
    assert (of_another.outbox != of_the_service.outbox, of_another.who) == (True, None)


@pytest.mark.parametrize(
    ("runs_as", "is_dynamic", "is_asked"), [(0, False, True), (1, False, False), (0, True, False)]
)
def test_what_systemd_gives_to_the_service_when_it_starts_is_not_asked_for(
    tmp_path: Path, proc: Path, runs_as: int, is_dynamic: bool, is_asked: bool
) -> None:
    """A state folder that is another's it gives to it, with all there is in it."""
    path, state = tmp_path / "gateway.toml", tmp_path / "state"
    path.write_text("")
    state.mkdir()
    user = os.geteuid() + runs_as
    process(proc, 7, "edge-gateway", "/opt/bin/edge-gateway", "run", "--config", str(path))
    status = f"Uid:\t{user}\t{user}\t{user}\t{user}\nGid:\t9\t9\t9\t9\nGroups:\t\n"
    (proc / "7" / "status").write_text(status)
    unit = Unit(
        name="edge-gateway", active="active", state_folder=str(state), is_dynamic=is_dynamic
    )

    case = describe(Case(config=path, unit=unit, machine=Machine(proc=proc)), {}, path)

    assert (state / "outbox.db" in case.own_files) == is_asked


# All together.


async def test_a_room_that_hangs_or_fails_hides_no_other(tmp_path: Path) -> None:
    async def hang(_case: Case, tell: Tell) -> None:
        tell(ok("hanging", "told before"))
        await asyncio.Event().wait()

    async def fail(_case: Case, _tell: Tell) -> None:
        raise KeyError("a bug")

    async def well(_case: Case, tell: Tell) -> None:
        tell(ok("well", "well"))

    told = await examine(
        Case(config=tmp_path), {"hanging": hang, "failing": fail, "well": well}, limit_s=0.05
    )

    assert [(each.where, each.severity) for each in told] == [
        ("hanging", Severity.OK),
        ("hanging", Severity.ERROR),
        ("failing", Severity.ERROR),
        ("well", Severity.OK),
    ]
    assert told[1].what.startswith("no answer within 0.05 s")
    assert "KeyError('a bug')" in told[2].what


def test_every_room_is_named_in_the_readme_in_its_order() -> None:
    readme = Path(disk.__file__).with_name("README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in readme.splitlines() if line.startswith("| ")]

    assert rows[2:] == list(ROOMS)


def test_a_terminal_gets_lines_in_which_no_command_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    mend = "sudo systemctl mask --now " + " ".join(f"unit-{number}.service" for number in range(9))
    told = [error("port [red]x", "held [by] \x1b[2J", mend, got="[0]"), ok("clock", "synchronised")]

    draw(told)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ERROR    port [red]x  held [by] \\x1b[2J"
    assert lines[1] == "                      got: [0]"
    assert lines[2] == f"         mend: {mend}", "a command is in one line: it is to be copied"
    assert lines[-1] == "1 wrong, 0 to look at, 1 ok"


def test_only_errors_make_it_wrong_and_all_is_printed() -> None:
    told = [
        ok("clock", "synchronised"),
        warning("ports", "no port", "lsusb"),
        error("broker b:1", "refused", "start it", expected="a broker", got="nothing"),
    ]

    assert [worst(told), worst(told[:2]), worst(told[:1]), worst([])] == [
        *(Severity.ERROR, Severity.WARNING, Severity.OK, Severity.OK)
    ]
    assert list(plain(told)) == [
        "ok       clock       synchronised",
        "warning  ports       no port",
        "                     mend: lsusb",
        "ERROR    broker b:1  refused",
        "                     expected: a broker; got: nothing",
        "                     mend: start it",
        "",
        "1 wrong, 1 to look at, 1 ok",
    ]
    assert list(plain(told[:1]))[-1] == "nothing is wrong; 0 to look at, 1 ok"
    hostile = ok("port \x1b[1m", "speaks: \x9b5m")
    assert next(plain([hostile])) == "ok       port \\x1b[1m  speaks: \\x9b5m"


def test_what_is_long_goes_on_below_itself_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    draw([warning("clock", "the clock is not synchronised: readings are flagged", "sudo it")])

    assert capsys.readouterr().out.splitlines() == [
        "warning  clock  the clock is not synchronised: readings are",
        "                flagged",
        "                mend: sudo it",
        "",
        "nothing is wrong; 1 to look at, 0 ok",
    ]

"""`doctor` on serial ports: staged situations, on ptys and with a /proc of the test's own."""

import asyncio
import contextlib
import fcntl
import grp
import os
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.doctor.case import Case, Machine, Unit, Who
from gateway.doctor.finding import Severity
from gateway.doctor.ports import look
from gateway.drivers.serial_line import LineFormat
from gateway.links.serial_port import SerialOptions
from gateway.ports import PortRule, PortsOptions, PortUse
from gateway.protocol import messages as m
from gateway.protocol.frames import encode_frame
from gateway.simulate.pty_port import PtyPort
from tests.support.doctor import as_nobody, findings, no_complaint, process, the_only

HELLO = encode_frame(m.encode(m.Hello(1, "a1b2c3", 7, 0, 0, name="greenhouse")))
JSON = b'{"temperature":21.5,"humidity":45.2}\n'
NOISE = b"\x80\xfe\x00\xff\x81\x90\xc0\xc1" * 4
PATIENT_S = 5.0
SHORT_S = 0.5
"""Where nothing ends the listening: a board says something every 20 ms."""
STRANGER = Who("the service edge-gateway", 54_321, frozenset())

HOLDER = """
import fcntl, os, sys, termios
port = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
fcntl.flock(port, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.ioctl(port, termios.TIOCEXCL)
print("held", flush=True)
sys.stdin.read()
"""


def options(folder: Path, *, rules: tuple[PortRule, ...] = ()) -> PortsOptions:
    return PortsOptions(
        (f"{folder}/port*",), (), 1.0, PortUse(SerialOptions(), LineFormat()), rules
    )


def case(  # noqa: PLR0913 - what may be different
    folder: Path,
    proc: Path = Path("/proc"),
    *,
    rules: tuple[PortRule, ...] = (),
    who: Who | None = None,
    unit: Unit | None = None,
    listen_s: float = PATIENT_S,
) -> Case:
    """Return one with the ports of a folder; listening ends once it is clear who speaks."""
    machine = Machine(proc=proc, listen_s=listen_s, try_s=PATIENT_S)
    return Case(ports=options(folder, rules=rules), machine=machine, who=who, unit=unit)


@contextmanager
def plugged(path: Path) -> Iterator[PtyPort]:
    port = PtyPort(path)
    port.plug()
    try:
        yield port
    finally:
        port.unplug()


@asynccontextmanager
async def speaking(port: PtyPort, says: Callable[[], bytes]) -> AsyncIterator[None]:
    """Have a board on the port that says something all the time, to whoever listens."""

    async def speak() -> None:
        while True:
            with contextlib.suppress(BlockingIOError):  # nobody reads
                os.write(port.fileno(), says())
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        board = tasks.create_task(speak())
        try:
            yield
        finally:
            board.cancel()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Give a /proc of a machine on which nothing runs."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "cmdline").write_text("quiet\n")
    return folder


@pytest.mark.parametrize(
    ("says", "speaks"), [(HELLO, "edge-gateway board greenhouse"), (JSON, JSON.decode().strip())]
)
async def test_ports_on_which_all_is_well_are_not_accused(
    tmp_path: Path, says: bytes, speaks: str
) -> None:
    with plugged(tmp_path / "port0") as port:
        async with speaking(port, lambda: says):
            told = await findings(look, case(tmp_path))
        unread = os.read(port.fileno(), 1) if _has_input(port) else b""

    no_complaint(told)
    assert [(each.where, each.what) for each in told] == [
        (f"port {tmp_path}/port0", f"speaks: {speaks}")
    ]
    assert unread == b"", "the doctor sent something"


def _has_input(port: PtyPort) -> bool:
    size = fcntl.ioctl(port.fileno(), termios.FIONREAD, bytes(4))
    return bool(int.from_bytes(size, sys.byteorder))


async def test_a_board_at_another_baud_rate_is_told_with_its_rate_and_the_lines_to_set_it(
    tmp_path: Path,
) -> None:
    def says() -> bytes:
        is_understood = termios.tcgetattr(slow.fileno())[5] == termios.B9600
        return JSON if is_understood else NOISE

    with plugged(tmp_path / "port-fast") as fast, plugged(tmp_path / "port-slow") as slow:
        async with speaking(fast, lambda: HELLO), speaking(slow, says):
            told = await findings(look, case(tmp_path, listen_s=SHORT_S))

    accused = the_only(Severity.ERROR, told)
    assert accused.where == f"port {tmp_path}/port-slow"
    assert accused.what.startswith("wrong baud rate: at 9600 it is understood")
    assert (accused.expected, accused.got[:6]) == ("baudrate = 9600", "115200")
    lines = accused.mend.partition("'")[2].partition("'")[0].replace("\\n", "\n")
    assert lines.split("\n")[1:-1] == ["[[serial.port]]", 'match = "port-slow"', "baudrate = 9600"]


async def test_noise_at_every_rate_is_told_as_what_it_is(tmp_path: Path) -> None:
    with plugged(tmp_path / "port0") as port:
        async with speaking(port, lambda: NOISE):
            examined = case(tmp_path, listen_s=SHORT_S)
            machine = replace(examined.machine, try_s=0.1)
            told = await findings(look, replace(examined, machine=machine))

    accused = the_only(Severity.ERROR, told)
    assert accused.what == "noise at 115200 baud, and at the usual other rates"
    assert accused.mend.startswith(f"edge-gateway sniff {tmp_path}/port0")


async def test_a_silent_port_is_worth_a_look_and_no_more(tmp_path: Path) -> None:
    with plugged(tmp_path / "port0"):
        told = await findings(look, case(tmp_path, listen_s=SHORT_S))

    accused = the_only(Severity.WARNING, told)
    assert accused.what == "silent for 0.5 s"
    assert accused.mend.startswith(f"edge-gateway sniff {tmp_path}/port0")


async def test_who_holds_a_port_is_named_and_not_disturbed(tmp_path: Path) -> None:
    with (
        plugged(tmp_path / "port-held") as held,
        plugged(tmp_path / "port-free") as free,
        subprocess.Popen(  # noqa: ASYNC220 - no task waits meanwhile
            [sys.executable, "-c", HOLDER, held.device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        async with speaking(free, lambda: JSON):
            told = await findings(look, case(tmp_path))
        assert holder.poll() is None
        holder.communicate(b"")

    accused = the_only(Severity.ERROR, told)
    assert accused.where == f"port {tmp_path}/port-held"
    assert f"(process {holder.pid}) has it open" in accused.what
    assert accused.mend.startswith(f"kill {holder.pid} ")
    assert 'exclude = ["port-held"]' in accused.mend


@pytest.mark.parametrize(
    ("program", "culprit", "mend"),
    [
        ("ModemManager", "modem", "mask --now ModemManager"),
        ("brltty", "braille", "mask --now brltty"),
        ("agetty", "login prompt", "serial-getty@full.service"),
        ("gpsd", "GPS", "mask --now gpsd"),
    ],
)
async def test_programs_known_to_take_ports_are_told_with_what_stops_them(
    tmp_path: Path, proc: Path, program: str, culprit: str, mend: str
) -> None:
    (tmp_path / "port0").symlink_to("/dev/full")
    process(proc, 311, program, f"/usr/sbin/{program}", holds="/dev/full")
    process(proc, 312, "bash", "-bash", holds="/dev/zero")

    accused = the_only(Severity.ERROR, await findings(look, case(tmp_path, proc)))

    assert culprit in accused.what
    assert f"{program} (process 311)" in accused.what
    assert mend in accused.mend


@pytest.mark.parametrize(
    "words",
    [
        ("/opt/bin/python", "/opt/bin/edge-gateway", "run", "--config", "x"),
        ("python", "-m", "gateway", "demo"),
    ],
)
async def test_a_port_that_the_gateway_reads_is_as_it_should_be(
    tmp_path: Path, proc: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "port0").symlink_to("/dev/full")
    process(proc, 311, "edge-gateway", *words, holds="/dev/full")

    told = await findings(look, case(tmp_path, proc))

    no_complaint(told)
    assert "the gateway reads it" in told[0].what


async def test_another_command_of_ours_that_holds_a_port_is_no_gateway(
    tmp_path: Path, proc: Path
) -> None:
    (tmp_path / "port0").symlink_to("/dev/full")
    process(proc, 311, "edge-gateway", "edge-gateway", "sniff", "run", holds="/dev/full")

    accused = the_only(Severity.ERROR, await findings(look, case(tmp_path, proc)))

    assert accused.mend.startswith("kill 311 ")


@pytest.mark.parametrize(
    ("program", "what", "mend"),
    [
        (
            "ModemManager",
            "busy, probably as ModemManager takes it for a modem (process 311)",
            "sudo systemctl mask --now ModemManager",
        ),
        ("agetty", "busy: ", "sudo fuser -v /dev/pts/"),  # it is on another port
    ],
)
async def test_a_holder_that_hides_is_guessed_from_who_runs(
    tmp_path: Path, proc: Path, program: str, what: str, mend: str
) -> None:
    process(proc, 311, program, f"/usr/sbin/{program}", "ttyS0")
    with plugged(tmp_path / "port0") as port:
        descriptor = os.open(port.device, os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            told = await findings(look, case(tmp_path, proc))
        finally:
            os.close(descriptor)

    accused = the_only(Severity.ERROR, told)
    assert accused.what.startswith(what)
    assert accused.mend.startswith(mend)


async def test_a_port_that_nobody_may_open_is_told_with_a_group_to_give_it_to(
    tmp_path: Path,
) -> None:
    with plugged(tmp_path / "port0") as port:
        device = port.device
        os.chmod(device, 0)
        told = await findings(look, case(tmp_path, who=STRANGER))

    accused = the_only(Severity.ERROR, told)
    assert accused.what == "permission denied for the service edge-gateway"
    assert accused.got == "c---------"
    assert accused.mend.startswith(f"sudo chgrp dialout {device} && sudo chmod g+rw ")


async def test_what_the_gateway_may_open_and_we_may_not_is_not_listened_to(tmp_path: Path) -> None:
    with plugged(tmp_path / "port0") as port:
        os.chmod(port.device, 0)
        examined = case(tmp_path, who=Who("the gateway", 0, frozenset()))
        assert examined.ports is not None
        there = replace(examined.ports, patterns=(port.device,))  # nobody may see the test's folder
        with as_nobody():
            told = await findings(look, replace(examined, ports=there))

    accused = the_only(Severity.WARNING, told)
    assert accused.what == "not listened to: this user may not open it"
    assert accused.mend.startswith("sudo edge-gateway doctor")


async def test_the_group_that_would_help_is_named_for_a_service_and_for_a_person(
    tmp_path: Path,
) -> None:
    with plugged(tmp_path / "port0") as port:
        os.chmod(port.device, 0o660)
        if os.geteuid() == 0:
            os.chown(port.device, -1, 20)
        number = os.stat(port.device).st_gid
        name = grp.getgrgid(number).gr_name
        unit = Unit(name="edge-gateway", active="active")
        of_a_person = await findings(look, case(tmp_path, who=STRANGER))
        of_a_service = await findings(look, case(tmp_path, who=STRANGER, unit=unit))
        member = STRANGER._replace(groups=frozenset({number}))
        of_a_member = await findings(look, case(tmp_path, who=member, listen_s=SHORT_S))

    person, service = (
        the_only(Severity.ERROR, of_a_person),
        the_only(Severity.ERROR, of_a_service),
    )
    assert person.mend.startswith(f"sudo usermod -aG {name} ")
    assert service.mend.startswith("sudo systemctl edit edge-gateway ")
    assert service.mend.endswith(f"SupplementaryGroups={name}")
    assert the_only(Severity.WARNING, of_a_member).what.startswith("silent")


async def test_a_port_that_the_configuration_names_and_that_is_not_there(tmp_path: Path) -> None:
    rule = PortRule("port-mast", PortUse(SerialOptions(), LineFormat(), "mast"))
    with plugged(tmp_path / "port0") as port:
        async with speaking(port, lambda: JSON):
            told = await findings(look, case(tmp_path, rules=(rule,)))

    accused = the_only(Severity.ERROR, told)
    assert (accused.where, accused.got) == ("port port-mast", "port0")
    assert "edge-gateway ports" in accused.mend


async def test_no_port_at_all_is_worth_a_look(tmp_path: Path) -> None:
    accused = the_only(Severity.WARNING, await findings(look, case(tmp_path)))

    assert (accused.what, accused.expected) == ("there is no serial port", f"{tmp_path}/port*")
    assert accused.mend.startswith("lsusb; dmesg")


async def test_what_is_no_serial_port_is_told_so(tmp_path: Path, proc: Path) -> None:
    (tmp_path / "port0").symlink_to("/dev/full")

    accused = the_only(Severity.ERROR, await findings(look, case(tmp_path, proc)))

    assert accused.what == "it is no serial port"


async def test_a_port_to_which_the_kernel_writes_is_told(tmp_path: Path, proc: Path) -> None:
    with plugged(tmp_path / "port0") as port:
        console = port.device.rpartition("/")[2]
        (proc / "cmdline").write_text(f"quiet console=tty1 console={console},115200 rootwait\n")
        async with speaking(port, lambda: JSON):
            told = await findings(look, case(tmp_path, proc))

    accused = the_only(Severity.WARNING, told)
    assert accused.what.startswith("the kernel writes its messages there")
    assert "do_serial_cons" in accused.mend


async def test_ports_that_are_not_to_be_read_and_those_nobody_knows_are_not_accused(
    tmp_path: Path,
) -> None:
    none = PortsOptions((), (), 1.0, PortUse(SerialOptions(), LineFormat()))
    no_complaint(await findings(look, Case(ports=none)))

    unknown = the_only(Severity.WARNING, await findings(look, Case(config=tmp_path / "x.toml")))
    assert unknown.mend == f"edge-gateway check-config {tmp_path}/x.toml"

"""The unit's sandbox, tried for real where no systemd runs: its restrictions applied one by one.

What cannot be applied without systemd is listed with its reason in `tests/support/sandbox/unit.py`;
each setting of the unit is in one of the two tables there.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gateway.simulate.pty_port import PtyPort
from tests.support import nursery
from tests.support.bluez.adverts import FLAGS, SERVICE_16, Heard, structure
from tests.support.bluez.bluetoothd import Bluetoothd
from tests.support.bluez.bus import PrivateBus
from tests.support.broker import Broker
from tests.support.daemon import Daemon
from tests.support.fake_journal import FakeJournal
from tests.support.figures import Figures
from tests.support.notify_socket import NotifySocket
from tests.support.sandbox.service import PROJECT, Sandbox
from tests.support.sandbox.unit import APPLIED, NOT_APPLIED, seconds, size_bytes
from tests.support.subscriber import Received, Subscriber

ENOUGH_S = 60.0
"""For what takes some seconds."""

AGAIN_S = 0.2
"""So often a board says something, and a sensor advertises."""

TALKER = "edge/test/talker/state"
THERMOMETER = Heard(
    "A4:C1:38:00:00:07",
    -60,
    structure(FLAGS, b"\x06") + structure(SERVICE_16, bytes.fromhex("d2fc4002c409")),
)
"""BTHome v2, 25.00 degrees. Source: https://bthome.io/format, object id 0x02."""

PROBE = """
import ctypes, errno, json, os, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def tried(act):
    try:
        act()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return "allowed"

def call(name, *arguments):
    def act():
        if getattr(libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)
    return tried(act)

def mapped(protection):
    libc.mmap.restype = ctypes.c_void_p
    def act():
        if libc.mmap(None, 4096, protection, 0x22, -1, 0) == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
    return tried(act)

def touched(path):
    return tried(lambda: open(path, "w").close())

status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
json.dump({
    "uid": os.getuid(),
    "capabilities": {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
        == {"0" * 16},
    "no_new_privs": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "umask": status["Umask"].strip(),
    "etc": touched("/etc/edge-gateway/x"), "usr": touched("/usr/x"),
    "project": touched(sys.argv[1]),
    "state": touched("/var/lib/edge-gateway/x"), "run": touched("/run/edge-gateway/x"),
    "tmp": [os.listdir("/tmp"), touched("/tmp/x")],
    "devices": sorted(os.listdir("/dev")),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "bluetooth": tried(lambda: socket.socket(31, socket.SOCK_RAW, 1)),
    "packet": tried(lambda: socket.socket(17, socket.SOCK_RAW)),
    "inet": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()),
    "inet6": tried(lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()),
    "write_execute": mapped(7), "execute": mapped(5), "write": mapped(3),
    "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "unshare": call("unshare", 0x10000000), "ptrace": call("ptrace", 0, 0, 0, 0),
    "adjtimex": call("adjtimex", ctypes.create_string_buffer(512)),
    "hostname": call("sethostname", b"x", 1), "syslog": call("klogctl", 2, None, 0),
    "setuid": tried(lambda: os.setuid(0)), "personality": call("personality", 8),
    "reboot": call("reboot", 0), "set_id": tried(lambda: os.chmod("/run/edge-gateway/x", 0o4700)),
}, sys.stdout)
"""

SPEAKER = """
import logging, os, sys
from gateway.cli import logs
from gateway.log_fields import on_link
stderr = os.fstat(2)
logs.serve("info", {"JOURNAL_STREAM": f"{stderr.st_dev}:{stderr.st_ino}"})
logging.getLogger("gateway.test").info("%s: found", on_link("ttyUSB0"))
"""


def probed(sandbox: Sandbox) -> dict[str, Any]:
    python = sandbox.wrap([])[0]
    ran = subprocess.run(
        sandbox.wrap([python, "-c", PROBE, str(PROJECT / "x")]),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def test_in_its_sandbox_the_service_speaks_to_journald(
    systemd_analyze_bin: Path, tmp_path: Path
) -> None:
    sandbox = Sandbox(tmp_path, systemd_analyze_bin)
    folder = tmp_path / "journal"
    folder.mkdir()
    folder.chmod(0o755)
    sandbox.binds.append((str(folder), "/run/systemd/journal", False))

    with FakeJournal(folder / "socket") as journal:
        journal.path.chmod(0o666)  # as journald's
        python = sandbox.wrap([])[0]
        subprocess.run(sandbox.wrap([python, "-c", SPEAKER]), cwd=PROJECT, check=True)
        (entry,) = journal.waiting()

    assert entry["MESSAGE"] == ["ttyUSB0: found"]
    assert (entry["LINK"], entry["PRIORITY"]) == (["ttyUSB0"], ["6"])


def is_there(topic: str, messages: Sequence[Received]) -> bool:
    return any(message.topic == topic for message in messages)


def test_what_the_service_does_not_need_is_refused(
    systemd_analyze_bin: Path, tmp_path: Path
) -> None:
    sandbox = Sandbox(tmp_path, systemd_analyze_bin)

    assert probed(sandbox) == {
        "uid": sandbox.account,
        "capabilities": True,
        "no_new_privs": "1",
        "seccomp": "2",
        "umask": "0077",
        "etc": "EROFS",
        "usr": "EROFS",
        "project": "EROFS",
        "state": "allowed",
        "run": "allowed",
        "tmp": [[*PROJECT.parts[2:3]] if PROJECT.parts[1] == "tmp" else [], "allowed"],
        "devices": ["full", "null", "random", "tty", "urandom", "zero"],
        "netlink": "EAFNOSUPPORT",
        "bluetooth": "EAFNOSUPPORT",
        "packet": "EAFNOSUPPORT",
        "inet": "allowed",
        "inet6": "allowed",
        "unix": "allowed",
        "write_execute": "EPERM",
        "execute": "allowed",
        "write": "allowed",
        "mount": "EPERM",
        "unshare": "EPERM",
        "ptrace": "EPERM",
        "adjtimex": "EPERM",
        "hostname": "EPERM",
        "syslog": "EPERM",
        "setuid": "EPERM",
        "personality": "EPERM",
        "reboot": "EPERM",
        "set_id": "EPERM",
    }


def test_each_setting_of_the_unit_is_applied_here_or_told_why_not(
    systemd_analyze_bin: Path, tmp_path: Path
) -> None:
    settings = set(Sandbox(tmp_path, systemd_analyze_bin).unit["Service"])

    assert not APPLIED.keys() & NOT_APPLIED.keys()
    assert settings == {*APPLIED, *NOT_APPLIED}


@asynccontextmanager
async def service(sandbox: Sandbox, socket: Path, systemd: NotifySocket) -> AsyncIterator[Daemon]:
    """Run what the unit starts, in its sandbox, with the bus behind a socket."""
    period_s = seconds(sandbox.unit["Service"]["WatchdogSec"][-1])
    environment = systemd.environment(period_s) | {
        "NOTIFY_SOCKET": "/run/notify/socket",
        "STATE_DIRECTORY": "/var/lib/edge-gateway",
        "RUNTIME_DIRECTORY": "/run/edge-gateway",
        "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path=/run/dbus/{socket.name}",
    }
    command = await asyncio.to_thread(sandbox.wrap, sandbox.command)
    daemon = Daemon(await nursery.start_child(command, environment))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.read_log())
        try:
            yield daemon
        finally:
            assert await daemon.stop() == 0
            print(daemon.log())  # noqa: T201 - pytest shows it with a failure


@asynccontextmanager
async def said_again_and_again(port: PtyPort, bluetoothd: Bluetoothd) -> AsyncIterator[None]:
    """Have a board on a port and a sensor on the air."""

    async def say() -> None:
        number = 0
        while True:
            port.write(b'{"id": "talker", "number": %d}\n' % number)
            bluetoothd.hear(THERMOMETER)
            number += 1
            await asyncio.sleep(AGAIN_S)

    async with asyncio.TaskGroup() as tasks:
        saying = tasks.create_task(say())
        yield
        saying.cancel()
    port.unplug()


async def test_in_its_sandbox_the_service_reads_a_port_and_the_radio_and_is_reloaded(  # noqa: PLR0913, PLR0917 - a machine's parts
    bus: PrivateBus,
    bluetoothd: Bluetoothd,
    broker: Broker,
    systemd_analyze_bin: Path,
    tmp_path: Path,
    figures: Figures,
) -> None:
    folder = tmp_path / "sandbox"
    folder.mkdir()
    sandbox = Sandbox(folder, systemd_analyze_bin)
    port = PtyPort(tmp_path / "port")
    port.plug()
    sandbox.own(port.device)
    socket = Path(bus.address.removeprefix("unix:path="))
    socket.parent.chmod(0o755)
    sandbox.binds += [(port.device, "/dev/ttyUSB0", True), (str(socket.parent), "/run/dbus", False)]
    (folder / "timesync" / "synchronized").touch()
    config = f'[gateway]\nname = "test"\n[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
    (folder / "etc" / "gateway.toml").write_text(config)

    with NotifySocket(folder / "notify" / "socket") as systemd:
        sandbox.own(systemd.name)
        async with (
            asyncio.timeout(ENOUGH_S),
            Subscriber(broker.host, broker.port, "edge/#") as subscriber,
            said_again_and_again(port, bluetoothd),
            service(sandbox, socket, systemd) as daemon,
        ):
            await systemd.wait_for("READY")
            for topic in (TALKER, "edge/test/bthome_0007/state"):
                await subscriber.wait_for(partial(is_there, topic))
            os.kill(daemon.pid, signal.SIGHUP)
            reloading = await systemd.wait_for("RELOADING")
            await systemd.wait_for("READY")
            took_mb = daemon.rss_bytes() / 1e6
        systemd.read()

    assert systemd.messages[-1] == {"STOPPING": "1", "STATUS": "stopping"}
    assert reloading["MONOTONIC_USEC"].isdecimal()
    assert subscriber.on(TALKER)[-1].json()["time_quality"] == "synced"
    assert subscriber.on("edge/test/bthome_0007/state")[-1].json()["temperature"] == 25.0
    wrong = [line for line in daemon.log().splitlines() if " WARNING " in line or " ERROR " in line]
    assert not wrong
    assert {each.name for each in (folder / "state").iterdir()} >= {"outbox.db", "gateway.db"}
    limit_mb = size_bytes(sandbox.unit["Service"]["MemoryMax"][-1]) / 1e6
    figures("unit: memory with a port and a radio, of MemoryMax", f"{took_mb:.0f} MB", "< half")
    assert took_mb < limit_mb / 2

"""`scan` on the virtual radio: boards, sensors and strangers on the air."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bumble import hci

from gateway.simulate.radio.air import Transmission
from gateway.simulate.radio.server import VirtualRadio
from tests.support import nursery
from tests.support.commands import Running, gateway, running

ESC = "\x1b"
TIMEOUT_S = 60.0
INTERVAL_S = 0.05
BOARD_SERVICE = bytes.fromhex("0e9a00015c1d4c0e9c6b2f6a7b1d0e01")[::-1]
SHELLY_KEY = "231d39c1d7cc1ab1aee224cd096db932"


def ad(kind: int, content: bytes) -> bytes:
    """One AD structure: length, type, content (Core 5.4, Vol 3 Part C 11)."""
    return bytes([len(content) + 1, kind]) + content


FLAGS = ad(0x01, b"\x06")


def air(address: str, data: bytes, name: str = "", rssi_dbm: int = -60) -> Transmission:
    answer = ad(0x09, name.encode()) if name else b""
    return Transmission(hci.Address(address), FLAGS + data, answer, rssi_dbm)


def service_data(uuid: str, content: str) -> bytes:
    return ad(0x16, bytes.fromhex(uuid)[::-1] + bytes.fromhex(content))


PLAIN = air("A4:C1:38:8D:18:B2", service_data("fcd2", "400009015d025d0903b718"), "ATC_8D18B2")
SEALED = air(
    "54:48:E6:8F:80:A5", service_data("fcd2", "41e445f3c9962b332211006c7c4519"), rssi_dbm=-71
)
RUUVI = air(
    "CB:B8:33:4C:88:4F",
    ad(0xFF, bytes.fromhex("99040512fc5394c37c0004fffc040cac364200cdcbb8334c884f")),
)
BOARD = air("AA:BB:CC:00:00:01", ad(0x07, BOARD_SERVICE), "greenhouse")
SLEEPY = air(
    "AA:BB:CC:00:00:02", ad(0xFF, b"\xff\xff\x07\x02") + service_data("fcd2", "44000102ca09")
)
PHONE = air("5A:00:00:00:00:03", ad(0xFF, bytes.fromhex("4c0010050b1c8a4cd1")))
EVERYBODY = (PHONE, PLAIN, SEALED, RUUVI, BOARD, SLEEPY)


@contextmanager
def on_the_air(transmissions: Iterable[Transmission]) -> Iterator[str]:
    """Advertise again and again, in a thread of its own; give the adapter's name."""
    ready, told = threading.Event(), []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def advertise() -> None:
        async with VirtualRadio() as radio:
            told.append(f"virtual:{radio.hci_address}")
            ready.set()
            while not stop.is_set():
                for transmission in transmissions:
                    radio.air.advertise(transmission)
                await asyncio.sleep(INTERVAL_S)

    thread = threading.Thread(target=loop.run_until_complete, args=(advertise(),))
    thread.start()
    try:
        assert ready.wait(TIMEOUT_S)
        yield told[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT_S)
        loop.close()


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'[[ble.device]]\naddress = "54:48:E6:8F:80:A5"\nname = "Cold Room"\n'
        f'bind_key = "{SHELLY_KEY}"\n'
    )
    return str(path)


def lines_until(scan: Running, *words: str) -> list[str]:
    """Read lines until each of the words was in one."""
    wanted, lines = set(words), []
    while wanted:
        lines.append(scan.out.next(""))
        wanted -= {word for word in wanted if word in lines[-1]}
    return lines


def test_who_is_heard_is_told_line_by_line_with_signal_and_values(keys: str) -> None:
    with (
        on_the_air(EVERYBODY) as adapter,
        running("scan", "--adapter", adapter, "--config", keys) as scan,
    ):
        lines = lines_until(scan, "bthome_", "cold_room", "ruuvitag_", "greenhouse", "sleeps")
        done = scan.stop()

    assert done.code == 0
    text = "".join(line + "\n" for line in lines)
    assert ESC not in text
    assert re.search(
        r"^\d\d:\d\d:\d\d\.\d{3} sensor  bthome_18b2 +-60 dBm  "
        r"battery=93 % temperature=23.97 °C humidity=63.27 %$",
        text,
        re.MULTILINE,
    )
    assert re.search(r"sensor  cold_room +-71 dBm  temperature=25.06 °C humidity=50.55 %", text)
    assert re.search(r"sensor  ruuvitag_884f .*temperature=24.3 °C humidity=53.49 %", text)
    assert re.search(r"board   greenhouse .*edge-gateway board$", text, re.MULTILINE)
    assert re.search(
        r"board   bthome_0002 .*that sleeps; 7 samples wait there; temperature=25.06 °C$",
        text,
        re.MULTILINE,
    )
    assert "5A:00:00:00:00:03" not in text + done.out
    assert done.err == "2 boards, 3 sensors, 1 unknown (--all shows them)\n"


def test_strangers_are_shown_if_that_is_wanted() -> None:
    with on_the_air([PHONE]) as adapter, running("scan", "--adapter", adapter, "--all") as scan:
        line = scan.out.next("5A:00:00:00:00:03")
        done = scan.stop()

    assert re.search(r"unknown 5A:00:00:00:00:03 +-60 dBm  company 004c$", line)
    assert done.err == "0 boards, 0 sensors, 1 unknown\n"


def test_a_sensor_without_its_key_says_what_it_needs() -> None:
    with on_the_air([SEALED]) as adapter, running("scan", "--adapter", adapter) as scan:
        line = scan.out.next("bthome_80a5")
        scan.stop()

    assert line.endswith("needs its bind key: see [[ble.device]]")


def test_json_is_one_object_for_each_piece_of_news(keys: str) -> None:
    with (
        on_the_air([SEALED, BOARD]) as adapter,
        running("scan", "--adapter", adapter, "--config", keys, "--json") as scan,
    ):
        news = [json.loads(line) for line in lines_until(scan, "cold_room", "greenhouse")]
        done = scan.stop()

    by_kind = {each["kind"]: each for each in news}  # the newest of each
    sensor = by_kind["sensor"]
    assert sensor["address"] == "54:48:E6:8F:80:A5"
    assert (sensor["device"], sensor["driver"]) == ("cold_room", "bthome")
    assert sensor["rssi"] == -71
    assert sensor["values"] == {"temperature": 25.06, "humidity": 50.55}
    assert by_kind["board"]["name"] == "greenhouse"
    assert (done.code, done.err) == (0, "")


def test_it_ends_after_the_time_that_was_given() -> None:
    with on_the_air([]) as adapter:
        done = gateway("scan", "--adapter", adapter, "--seconds", "0.2")

    assert (done.code, done.out, done.err) == (0, "", "0 boards, 0 sensors, 0 unknown\n")


def test_a_machine_without_a_radio_is_told_so() -> None:
    done = gateway("scan", "--adapter", "hci99")

    assert (done.code, done.out) == (1, "")
    assert done.err == "edge-gateway: there is no Bluetooth adapter called hci99\n"


def test_a_radio_that_does_not_answer_is_a_failure() -> None:
    with on_the_air([]) as adapter:
        pass  # its port is nobody's by now

    done = gateway("scan", "--adapter", adapter, "--seconds", "30")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("edge-gateway: bluetooth: ")
    assert "Traceback" not in done.err


def test_an_adapter_of_no_kind_is_wrong_usage() -> None:
    done = gateway("scan", "--adapter", "bluetooth!")

    assert (done.code, done.out) == (2, "")
    assert "hci0" in done.err


def test_a_terminal_gets_a_table_that_stays() -> None:
    with on_the_air([PLAIN]) as adapter:
        shown = on_a_terminal("battery=93", "scan", "--adapter", adapter)

    assert ESC in shown
    assert "bthome_18b2" in shown
    assert "-60 dBm" in shown


def on_a_terminal(until: str, *words: str) -> str:
    """Run a command with a terminal as its output until it shows something; return all of it."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with nursery.Popen(
        [sys.executable, "-m", "gateway", *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        os.close(theirs)
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        shown = ""
        while until not in shown and (piece := _read(ours)):
            shown += piece.decode(errors="replace")
        process.send_signal(signal.SIGINT)
        while piece := _read(ours):
            shown += piece.decode(errors="replace")
        code = process.wait(TIMEOUT_S)
        watchdog.cancel()
    os.close(ours)
    assert code == 0, shown
    return shown


def _read(descriptor: int) -> bytes:
    """Read what a terminal shows; nothing once the other end is closed."""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""


def test_without_the_packages_of_the_virtual_radio_it_says_which_to_install() -> None:
    script = (
        "import sys; sys.modules['bumble'] = None; from gateway.cli import main; "
        "sys.exit(main(['scan', '--adapter', 'virtual:127.0.0.1:1']))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == (
        b"edge-gateway: a simulated adapter needs its packages: pip install 'edge-gateway[demo]'\n"
    )

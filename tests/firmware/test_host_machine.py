"""The module machine on a PC: how runs end, pins, buses, UART, and what the fakes are told."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.firmware.hosts import Host
from tests.support.terminals import read_count

PATIENCE_S = 20.0


@pytest.mark.parametrize(
    ("ending", "code", "cause"),
    [
        ("machine.reset()", 75, "HARD_RESET"),
        ("machine.soft_reset()", 75, "SOFT_RESET"),
        ("machine.deepsleep(1500)", 76, "DEEPSLEEP_RESET"),
        ("sys.exit(0)", 0, "PWRON_RESET"),
    ],
)
def test_next_run_knows_how_the_last_one_ended(
    host: Host, ending: str, code: int, cause: str
) -> None:
    ended = host.run(f"import machine\n{ending}")
    first = host.said(f"import machine\nsay(machine.reset_cause() == machine.{cause})")
    second = host.said("import machine\nsay(machine.reset_cause() == machine.PWRON_RESET)")

    assert ended.code == code, ended.errors
    assert first is True
    assert second is True  # said once, and forgotten


def test_reset_ends_the_run_from_within_a_task(host: Host) -> None:
    script = """
import machine
async def sleepy():
    while True:
        await asyncio.sleep_ms(10)
async def fatal():
    await asyncio.sleep_ms(20)
    try:
        machine.reset()
    except Exception as e:
        say("caught")
async def main():
    asyncio.create_task(sleepy())
    await asyncio.create_task(fatal())
asyncio.run(main())
"""

    ended = host.run(script)

    assert ended.code == 75
    assert ended.said == []


def test_deep_sleep_leaves_how_long(host: Host) -> None:
    host.run("import machine\nmachine.deepsleep(1500)")

    assert json.loads((host.folder / "sleep.json").read_text()) == {"ms": 1500}


@pytest.mark.parametrize(
    "spinning",
    [
        "while True:\n    pass",
        "async def main():\n    while True:\n        pass\nasyncio.run(main())",
        "time.sleep(60)",
        "sys.stdin.buffer.read(1)",
    ],
    ids=["loop", "event loop", "sleeping", "reading"],
)
def test_watchdog_bites_whatever_the_program_does(host: Host, spinning: str) -> None:
    script = f"import machine\nmachine.WDT(timeout=300)\nsay('armed')\n{spinning}"
    begin = time.monotonic()
    with subprocess.Popen(
        host.prepare(script),
        cwd=host.folder,
        env=host.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        code = process.wait(PATIENCE_S)
        took_s = time.monotonic() - begin
    after = host.said("import machine\nsay(machine.reset_cause() == machine.WDT_RESET)")

    assert code == 77
    assert 0.3 <= took_s < PATIENCE_S / 2
    assert after is True


def test_watchdog_that_is_fed_does_not_bite(host: Host) -> None:
    script = """
import machine
wdt = machine.WDT(timeout=1500)
async def main():
    for _ in range(20):
        await asyncio.sleep_ms(100)
        wdt.feed()
asyncio.run(main())
say("alive")
"""

    ended = host.run(script)
    after = host.said("import machine\nsay(machine.reset_cause() == machine.PWRON_RESET)")

    assert (ended.code, ended.said) == (0, ["alive"])
    assert after is True


def test_process_that_is_killed_is_no_work_of_the_watchdog(host: Host) -> None:
    script = "import machine\nmachine.WDT(timeout=30000)\nsay('armed')\ntime.sleep(60)"
    with subprocess.Popen(
        host.prepare(script), cwd=host.folder, env=host.environment(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b'"armed"\n'
        process.kill()
        process.wait(PATIENCE_S)

    assert host.said("import machine\nsay(machine.reset_cause() == machine.PWRON_RESET)") is True


def test_pico_s_watchdog_counts_no_further_than_8388_ms(host: Host) -> None:
    host.fakes({"family": "rp2"})
    script = """
import machine
try:
    machine.WDT(timeout=8389)
except ValueError as e:
    say(str(e))
"""

    assert host.said(script) == "timeout exceeds 8388"


def test_rtc_memory_outlives_the_run_and_is_bounded(host: Host) -> None:
    write = """
import machine
machine.RTC().memory(bytes(range(256)) * 8)
try:
    machine.RTC().memory(bytes(2049))
except ValueError as e:
    say(str(e))
machine.reset()
"""
    ended = host.run(write)
    kept = host.said("import machine\nsay(list(machine.RTC().memory()))")
    (host.folder / "rtc_memory.bin").unlink()
    empty = host.said("import machine\nsay(len(machine.RTC().memory()))")

    assert (ended.code, ended.said) == (75, ["buffer too long"])
    assert kept == list(range(256)) * 8
    assert empty == 0  # power was lost


def test_board_keeps_the_identity_it_drew(host: Host) -> None:
    script = "import machine\nsay(list(machine.unique_id()))"

    first, second = host.said(script), host.said(script)
    given = host.said(script, BOARD_ID="a0b1c2d3e4f5")

    assert first == second
    assert len(first) == 6
    assert given == [0xA0, 0xB1, 0xC2, 0xD3, 0xE4, 0xF5]


def test_cause_of_reset_can_be_given(host: Host) -> None:
    script = "import machine\nsay(machine.reset_cause() == machine.WDT_RESET)"

    assert host.said(script, BOARD_RESET_CAUSE="3") is True


def test_port_without_a_part_has_no_such_name(host: Host) -> None:
    script = """
import machine
has = [hasattr(machine, name) for name in ("Counter", "ADC", "UART", "Nonsense")]
try:
    import esp32
    has.append(True)
except ImportError:
    has.append(False)
has.append(hasattr(machine.ADC, "ATTN_11DB"))
say(has)
"""

    assert host.said(script, BOARD_FAMILY="esp32") == [True, True, True, False, True, True]
    assert host.said(script, BOARD_FAMILY="rp2") == [False, True, True, False, False, False]


def test_pins_share_their_wire_and_call_back_on_edges(host: Host) -> None:
    script = """
from machine import Pin
from fakes import pins
edges = []
button = Pin(0, Pin.IN, Pin.PULL_UP)
idle = button.value()
button.irq(lambda pin: edges.append(pin.value()), Pin.IRQ_FALLING)
pins.drive(0, 0)
pins.drive(0, 0)
pins.drive(0, 1)
pins.drive(0, 0)
led = Pin(2, Pin.OUT, value=1)
say([idle, edges, Pin(2).value(), Pin(9, Pin.IN, Pin.PULL_DOWN).value()])
"""

    assert host.said(script) == [1, [0, 0], 1, 0]


def test_open_drain_pulls_down_and_lets_go(host: Host) -> None:
    script = """
from machine import Pin
from fakes import pins
wire = Pin(4, Pin.OPEN_DRAIN, value=1)
levels = [wire.value()]
wire.value(0)
levels.append(wire.value())
wire.value(1)
pins.drive(4, 0)
levels.append(wire.value())
say(levels)
"""

    assert host.said(script) == [1, 0, 0]


def test_input_follows_the_file_while_the_program_runs(host: Host) -> None:
    host.fakes({"pins": {"7": 0}})
    script = """
import os
from machine import Pin
pin = Pin(7, Pin.IN)
levels = [pin.value()]
with open("draft.json", "w") as f:
    f.write('{"pins": {"7": 1}}')
os.rename("draft.json", "fakes.json")
levels.append(pin.value())
os.remove("fakes.json")
levels.append(pin.value())
say(levels)
"""

    assert host.said(script) == [0, 1, 0]


def test_values_over_time_follow_their_course(host: Host) -> None:
    script = """
from fakes import settings
seen = []
for now in (0, 4.9, 5, 9, 20):
    settings.elapsed_s = lambda: now
    seen.append([settings.value_of({"steps": [[0, 1], [5, 2], [10, 3]]}),
                 settings.value_of({"points": [[0, 0], [10, 100]]}),
                 settings.value_of(7)])
say(seen)
"""

    seen = host.said(script)

    assert [row[0] for row in seen] == [1, 1, 2, 2, 3]
    assert [round(row[1], 6) for row in seen] == [0, 49, 50, 90, 100]
    assert {row[2] for row in seen} == {7}


def test_faults_come_by_name_by_time_or_every_so_often(host: Host) -> None:
    script = """
from fakes import settings
has = settings.has_fault
always = [has(["nack"], "nack", n) for n in (1, 2)]
other = has(["nack"], "crc", 1)
third = [has([{"fault": "nack", "every": 3}], "nack", n) for n in (1, 2, 3, 4, 5, 6)]
timed = []
for now in (1.9, 2, 4.9, 5):
    settings.elapsed_s = lambda: now
    timed.append(has([{"fault": "nack", "from_s": 2, "to_s": 5}], "nack", 1))
say([always, other, third, timed, has(None, "nack", 1)])
"""

    assert host.said(script) == [
        [True, True],
        False,
        [False, False, True, False, False, True],
        [False, True, True, False],
        False,
    ]


def test_i2c_scan_finds_what_is_on_the_wires(host: Host) -> None:
    host.fakes({"i2c": {"1": {"devices": [{"kind": "sht3x", "address": 0x45}]}}})
    script = """
from machine import I2C, Pin, SoftI2C
say([I2C(0).scan(), I2C(1, scl=Pin(3), sda=Pin(2)).scan(), SoftI2C(Pin(9), Pin(8)).scan()])
"""

    assert host.said(script) == [[0x44, 0x76], [0x45], [0x44, 0x76]]


def test_bme280_measures_once_in_forced_mode_and_says_so(host: Host) -> None:
    # BST-BME280-DS002 3.3.3 forced mode, 5.4.3 ctrl_hum, 5.4.4 status, 5.4.7 results at reset.
    script = """
from machine import I2C
i2c = I2C(0)
def get(register, count=1):
    return list(i2c.readfrom_mem(0x76, register, count))
for _ in range(20):  # the copying takes 2 ms: a busy machine may look too late
    i2c.writeto_mem(0x76, 0xE0, bytes((0xB6,)))
    copying = get(0xF3)[0] & 1
    if copying:
        break
reset = get(0xF7, 8)
time.sleep_ms(4)
copied = get(0xF3)[0] & 1
i2c.writeto_mem(0x76, 0xF4, bytes((0x25,)))
measuring = get(0xF3)[0] & 8
meanwhile = get(0xF7, 8)
time.sleep_ms(12)
done = get(0xF3)[0] & 8
without_humidity = get(0xF7, 8)
mode = get(0xF4)[0] & 3
i2c.writeto(0x76, bytes((0xF2, 0x01, 0xF4, 0x25)))
time.sleep_ms(15)
say([get(0xD0), reset, copying, copied, measuring, meanwhile, done, mode,
     without_humidity, get(0xF7, 8)])
"""

    (
        chip_id,
        reset,
        copying,
        copied,
        measuring,
        meanwhile,
        done,
        mode,
        without_humidity,
        complete,
    ) = host.said(script)

    nothing = [0x80, 0, 0, 0x80, 0, 0, 0x80, 0]
    assert chip_id == [0x60]
    assert reset == nothing
    assert (copying, copied) == (1, 0)
    assert measuring == 8
    assert meanwhile == nothing  # no half of a measurement
    assert done == 0
    assert mode == 0  # asleep again
    assert without_humidity[6:] == [0x80, 0]
    assert without_humidity[:6] != nothing[:6]
    assert complete[6:] != [0x80, 0]


def test_sht3x_answers_only_what_it_was_asked(host: Host) -> None:
    script = """
from machine import I2C
i2c = I2C(0)
def attempt(action):
    try:
        return action()
    except OSError as e:
        return e.errno
unasked = attempt(lambda: i2c.readfrom(0x44, 6))
nonsense = attempt(lambda: i2c.writeto(0x44, bytes((0x12, 0x34))))
i2c.writeto(0x44, bytes((0x24, 0x00)))
early = attempt(lambda: i2c.readfrom(0x44, 6))
time.sleep_ms(15)
answer = attempt(lambda: len(i2c.readfrom(0x44, 6)))
twice = attempt(lambda: i2c.readfrom(0x44, 6))
i2c.writeto(0x44, bytes((0x30, 0x6D)))
i2c.writeto(0x44, bytes((0xF3, 0x2D)))
status = list(i2c.readfrom(0x44, 3))
say([unasked, nonsense, early, answer, twice, status])
"""

    unasked, nonsense, early, answer, twice, status = host.said(script)

    assert [unasked, nonsense, early, twice] == [19] * 4  # ENODEV: not acknowledged
    assert answer == 6
    assert status[0] << 8 & 0x2000  # the heater is on
    assert len(status) == 3


def test_nvs_keeps_what_was_committed(host: Host) -> None:
    write = """
import esp32
nvs = esp32.NVS("gw")
nvs.set_i32("count", -5)
nvs.set_blob("key", bytes((0, 1, 255)))
nvs.commit()
nvs.set_i32("count", 6)
say(nvs.get_i32("count"))
"""
    read_back = """
import esp32
nvs = esp32.NVS("gw")
room = bytearray(8)
size = nvs.get_blob("key", room)
try:
    nvs.get_i32("nothing")
except OSError as e:
    missing = e.errno
say([nvs.get_i32("count"), list(room[:size]), missing])
"""

    assert host.said(write) == 6
    assert host.said(read_back) == [-5, [0, 1, 255], -0x1102]


@dataclass(slots=True)
class Wire:
    """A pty whose near end is the board's UART 1."""

    far_end: int
    """Descriptor of the gateway's side."""
    path: str

    def read(self, count: int) -> bytes:
        """Return `count` bytes that the board sent."""
        return read_count(self.far_end, count)

    def cut(self) -> None:
        """Close the gateway's side."""
        if self.far_end >= 0:
            os.close(self.far_end)
            self.far_end = -1


@pytest.fixture
def wire() -> Iterator[Wire]:
    far_end, near_end = os.openpty()
    wire = Wire(far_end, os.ttyname(near_end))
    yield wire
    wire.cut()
    os.close(near_end)


@contextmanager
def running(host: Host, script: str, wire: Wire) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script on the wire; it sends `!` when it is ready."""
    with subprocess.Popen(
        host.prepare(script),
        cwd=host.folder,
        env=host.environment(BOARD_UART1=wire.path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a session without a terminal would take the wire for it
    ) as process:
        try:
            assert wire.read(1) == b"!"
            yield process
        finally:
            process.kill()


_ECHO = """
import machine
uart = machine.UART(1, baudrate=115200, rxbuf=2048, txbuf=2048, timeout=0)
uart.write(b"!")
async def main():
    reader = asyncio.StreamReader(uart)
    buffer = bytearray(64)
    while True:
        count = await reader.readinto(buffer)
        if count:
            uart.write(bytes(buffer[:count]))
asyncio.run(main())
"""


def test_uart_carries_every_byte_both_ways_as_it_is(host: Host, wire: Wire) -> None:
    every_byte = bytes(range(256))

    with running(host, _ECHO, wire):
        os.write(wire.far_end, every_byte)
        echoed = wire.read(256)

    assert echoed == every_byte


def test_board_is_switched_off_when_its_uart_hangs_up(host: Host, wire: Wire) -> None:
    with running(host, _ECHO, wire) as process:
        wire.cut()
        code = process.wait(PATIENCE_S)

    assert code == 0


def test_uart_never_blocks(host: Host, wire: Wire) -> None:
    # Nobody reads the far end: the line fills up, and write says so. Nothing comes in either.
    script = """
import machine
uart = machine.UART(1)
quiet = [uart.any(), uart.read(8), uart.readinto(bytearray(8)), uart.readline()]
uart.write(b"!")
room = 0
while True:
    count = uart.write(bytes(500))
    if not count:
        break
    room += count
say([quiet, count, room > 1000])
"""

    with running(host, script, wire) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        code = process.wait(PATIENCE_S)

    assert said == [[0, None, None, None], None, True]
    assert code == 0


def test_uart_can_be_polled_and_read_by_line(host: Host, wire: Wire) -> None:
    script = """
import machine, select
uart = machine.UART(1)
poll = select.poll()
poll.register(uart, select.POLLIN)
before = len(list(poll.poll(0)))
uart.write(b"!")
after = len(list(poll.poll(20000)))
any_before = uart.any()
lines = []
while len(lines) < 2:
    line = uart.readline()
    if line:
        lines.append(line.decode())
say([before, after, any_before, lines])
"""

    with running(host, script, wire) as process:
        os.write(wire.far_end, b"one\ntwo\n")
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())

    assert said == [0, 1, 1, ["one\n", "two\n"]]


def test_uart_without_a_tty_or_with_an_odd_speed_is_refused(host: Host, wire: Wire) -> None:
    script = """
import machine
for number, baudrate in ((2, 115200), (1, 12345)):
    try:
        machine.UART(number, baudrate)
    except ValueError as e:
        say(str(e))
"""

    ended = host.run(script, BOARD_UART1=wire.path)

    assert ended.said == ["BOARD_UART2 names no tty", "no such baudrate: 12345"]


def test_uart_whose_tty_is_not_there_says_which(host: Host) -> None:
    script = """
import machine
try:
    machine.UART(1)
except OSError as e:
    say([e.errno, str(e)])
"""

    number, text = host.said(script, BOARD_UART1="/dev/no-such-tty")

    assert number == 2  # ENOENT
    assert "/dev/no-such-tty" in text

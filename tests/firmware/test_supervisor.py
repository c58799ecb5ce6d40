"""board/supervisor.py, board/sensing.py and board/clock.py, with a clock that a test moves."""

from tests.firmware.hosts import Host

WORLD = """
import sys
from board import clock, log
from board.supervisor import Supervisor

logged = []
log.attach(lambda level, text: logged.append(text))

class Task:
    cancelled = 0
    def cancel(self): self.cancelled += 1

class Dog:
    fed = 0
    def feed(self): self.fed += 1

def guarded():
    return Supervisor(Dog())

now = 0
def later(ms):
    global now
    now += ms
    clock.shift_ms = now
"""


def test_the_watchdog_is_fed_while_every_task_reports(host: Host) -> None:
    script = """
supervisor = guarded()
watches = [supervisor.watch(name, 1000, Task()) for name in ("a", "b")]
for _ in range(10):
    later(600)
    for watch in watches:
        watch.report(1000)
    supervisor.check()
say([supervisor._watchdog.fed, logged])
"""
    assert host.said(WORLD + script) == [10, []]


def test_a_stuck_task_is_cancelled_once_then_the_watchdog_starves(host: Host) -> None:
    script = """
supervisor = guarded()
task = Task()
supervisor.watch("climate", 1000, task)
fed = []
for _ in range(8):
    later(600)
    supervisor.check()
    fed.append(supervisor._watchdog.fed)
say([fed, task.cancelled, logged])
"""
    assert host.said(WORLD + script) == [[1, 2, 3, 3, 3, 3, 3, 3], 1, ["climate is stuck"]]


def test_a_task_that_recovers_is_watched_as_before(host: Host) -> None:
    script = """
supervisor = guarded()
task = Task()
watch = supervisor.watch("climate", 1000, task)
for _ in range(3):
    later(1600)
    supervisor.check()
    watch.report(1000)
say([supervisor._watchdog.fed, task.cancelled])
"""
    assert host.said(WORLD + script) == [3, 3]


def test_a_stall_is_known_to_who_reads_next(host: Host) -> None:
    script = """
supervisor = guarded()
later(100)
supervisor.check()
calm = supervisor.stalled_ms()
later(5000)
unseen = supervisor.stalled_ms()
supervisor.check()
seen = supervisor.stalled_ms()
later(100)
supervisor.check()
say([calm // 100, unseen // 100, seen // 100, supervisor.stalled_ms() // 100])
"""
    assert host.said(WORLD + script) == [1, 50, 50, 1]


SENSORS = """
from board import sensing
from board.ring import Ring

sleep_ms = asyncio.sleep_ms

# The tasks of sensors sleep no real time: the clock moves on instead.
class Asyncio:
    CancelledError = asyncio.CancelledError
    @staticmethod
    async def sleep_ms(ms):
        later(ms)
        await sleep_ms(0)

sensing.asyncio = Asyncio

class App:
    def __init__(self):
        self.ring = Ring(1024)
        self.streams = []
    def add_stream(self, *stream):
        self.streams.append(stream)
        return len(self.streams) - 1
    def add_record(self, record):
        self.ring.push(record, len(record))

class Fake:
    pass

def sensor_task(kind_class, **config):
    fake = Fake()
    fake.Sensor = kind_class
    sys.modules["sensors.fake"] = fake
    sys.modules.setdefault("sensors", fake)
    app = App()
    task = sensing.SensorTask(dict(kind="fake", name="fake", interval_ms=10, **config), app)
    return app, task

class Hanging:
    fmt = "h"
    channels = (("x", "", 0, ""),)
    reads = 0
    def __init__(self, config): pass
    async def read(self):
        Hanging.reads += 1
        if Hanging.reads == 2:
            await asyncio.sleep(1000)
        return (1,)

class Sick:
    fmt = "h"
    channels = (("x", "", 0, ""),)
    tries = []
    def __init__(self, config):
        if len(Sick.tries) < 2:
            Sick.tries.append(now)
            raise OSError(19, "not there")
    async def read(self):
        Sick.tries.append(now)
        if len(Sick.tries) < 4:
            raise ValueError("bad checksum")
        return (1,)
"""


def test_a_reading_that_hangs_is_given_up_and_the_next_one_counts(host: Host) -> None:
    script = """
async def main():
    supervisor = guarded()
    app, sensor = sensor_task(Hanging)
    task = asyncio.create_task(sensor.run())
    sensor.watch = supervisor.watch("fake", 1000, task)
    while Hanging.reads < 2:
        await asyncio.sleep_ms(5)
    before = app.ring.count
    later(15600)
    supervisor.check()
    while len(logged) < 3:
        await asyncio.sleep_ms(1)
    say([before, logged, app.ring.count > before, supervisor._watchdog.fed])
    task.cancel()
asyncio.run(main())
"""
    assert host.said(WORLD + SENSORS + script) == [
        1,
        ["fake is stuck", "fake: no answer within 15 s", "fake: works again (failures: 1)"],
        True,
        1,
    ]


def test_failures_are_told_once_and_tried_ever_more_seldom(host: Host) -> None:
    script = """
async def main():
    supervisor = guarded()
    app, sensor = sensor_task(Sick)
    task = asyncio.create_task(sensor.run())
    sensor.watch = supervisor.watch("fake", 1000, task)
    while not app.ring.count:
        await asyncio.sleep_ms(1)
    waits = [later - earlier for earlier, later in zip(Sick.tries, Sick.tries[1:])]
    say([waits[:3], logged, len(app.streams)])
    task.cancel()
asyncio.run(main())
"""
    waits, logged, streams = host.said(WORLD + SENSORS + script)

    assert [round(wait_ms / 100) for wait_ms in waits] == [10, 20, 40]
    assert streams == 1
    assert len(logged) == 3
    assert "19" in logged[0]
    assert logged[1] == "fake: bad checksum"
    assert logged[2] == "fake: works again (failures: 3)"


def test_the_clock_counts_on_when_ticks_wrap(host: Host) -> None:
    script = """
from board import clock
ticks = 5
period = time.ticks_add(0, -1) + 1
clock.time = type("Time", (), {
    "ticks_ms": staticmethod(lambda: ticks % period),
    "ticks_diff": staticmethod(time.ticks_diff),
})
clock._ticks = 5
seen = []
for _ in range(12):
    ticks += period // 4
    seen.append(clock.now_ms() == (ticks - 5) % 2**32)
say([seen, clock.uptime_s() == (ticks - 5) // 1000])
"""
    assert host.said(script) == [[True] * 12, True]

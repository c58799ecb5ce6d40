"""What is left out of a log that is flooded, and that it is told; on a clock of the test's own."""

import logging
import tracemalloc
from collections.abc import Callable

import pytest

from gateway.cli.log_limit import Limit, LimitOptions
from gateway.log_fields import fields_of, of_device

OPTIONS = LimitOptions(
    kind_burst=3, kind_every_s=60.0, burst=20, each_s=1.0, info_floor=10, warning_floor=5, kinds=8
)


class Flooded:
    """A log behind a limit."""

    def __init__(self, options: LimitOptions = OPTIONS) -> None:
        self.now_s = 1000.0
        self.limit = Limit(lambda: self.now_s, options)
        self.records: list[logging.LogRecord] = []

    def log(
        self, template: str, *args: object, level: int = logging.INFO, name: str = "gateway.a"
    ) -> None:
        record = logging.LogRecord(name, level, __file__, 1, template, args, None)
        self.records += self.limit.pass_on(record)

    def wait(self, for_s: float) -> None:
        """Let time pass, with a look each second."""
        for _ in range(round(for_s)):
            self.now_s += 1.0
            self.records += self.limit.due()

    def end(self) -> None:
        self.records += self.limit.end()

    def take(self) -> list[str]:
        """Return the lines since the last time."""
        lines = [record.getMessage() for record in self.records]
        self.records.clear()
        return lines


@pytest.fixture
def log() -> Flooded:
    return Flooded()


def test_what_comes_now_and_then_is_written(log: Flooded) -> None:
    for number in range(100):
        log.log("line %d", number)
        log.wait(60.0)

    assert log.take() == [f"line {number}" for number in range(100)]


def test_a_flood_of_one_kind_is_cut_off_and_told_when_it_has_ended(log: Flooded) -> None:
    for number in range(10):
        log.log("line %d", number)
    written = log.take()
    log.wait(59.0)
    log.log("another kind")
    quiet = log.take()
    log.wait(1.0)
    told = log.take()
    log.wait(600.0)

    assert written == ["line 0", "line 1", "line 2"]
    assert quiet == ["another kind"]
    assert told == ["7 more like this were suppressed within 60 s: line 9"]
    assert log.take() == []


def test_a_flood_that_goes_on_is_one_line_a_minute(log: Flooded) -> None:
    for _ in range(600):
        log.log("again")
        log.wait(1.0)

    lines = log.take()
    assert lines[:3] == ["again"] * 3
    assert len(lines) <= 3 + 600 / 60 * 2
    suppressed = sum(int(line.split()[0]) for line in lines if "suppressed" in line)
    written = lines.count("again")
    log.end()
    rest = sum(int(line.split()[0]) for line in log.take())
    assert suppressed + written + rest == 600  # nothing is left out untold


def test_the_next_of_a_kind_tells_what_was_left_out_before_it(log: Flooded) -> None:
    for _ in range(5):
        log.log("again")
    log.take()
    log.now_s += 60.0

    log.log("again")

    assert log.take() == ["2 more like this were suppressed within 60 s: again", "again"]


@pytest.mark.parametrize(
    "other",
    [
        lambda log: log.log("other %s", of_device("shed")),
        lambda log: log.log("line %s", of_device("barn")),
        lambda log: log.log("line %s", of_device("shed"), name="gateway.b"),
    ],
    ids=["template", "device", "logger"],
)
def test_another_kind_is_not_cut_off_with_it(other: Callable[[Flooded], None]) -> None:
    log = Flooded()
    for _ in range(10):
        log.log("line %s", of_device("shed"))
    log.take()

    other(log)

    assert len(log.take()) == 1


def test_what_is_told_keeps_level_and_place_and_what_it_is_about(log: Flooded) -> None:
    for _ in range(5):
        log.log("%s: broken", of_device("shed", "ttyUSB0"), level=logging.ERROR)
    log.take()
    log.end()

    (record,) = log.records
    assert (record.name, record.levelname, record.lineno) == ("gateway.a", "ERROR", 1)
    assert fields_of(record) == (("DEVICE", "shed"), ("LINK", "ttyUSB0"))


def test_too_much_of_everything_leaves_room_for_what_is_serious(log: Flooded) -> None:
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        for number in range(30):
            log.log(f"{logging.getLevelName(level)} {number}", level=level)
    written = log.take()
    log.wait(59.0)
    quiet = log.take()
    log.wait(1.0)

    assert written == [
        *(f"INFO {number}" for number in range(10)),
        *(f"WARNING {number}" for number in range(5)),
        *(f"ERROR {number}" for number in range(5)),
    ]
    assert quiet == []
    assert [record.levelname for record in log.records] == ["ERROR"]
    assert log.take() == [
        "too much to log: suppressed 25 ERROR, 25 WARNING, 20 INFO within 60 s, such as: ERROR 29"
    ]


def test_the_room_of_all_grows_again(log: Flooded) -> None:
    for number in range(30):
        log.log(f"first {number}")
    log.wait(5.0)
    log.take()

    for number in range(30):
        log.log(f"second {number}")

    assert log.take() == [f"second {number}" for number in range(5)]


def test_who_invents_names_of_devices_gets_no_memory_and_no_more_lines() -> None:
    log = Flooded()
    for number in range(2_000):  # so that all there is is allocated once
        log.log("%s: hello", of_device(f"{number}" * 50))
    tracemalloc.start()
    for number in range(6_000):
        log.log("%s: hello", of_device(f"{number + 2_000}" * 50))
    grown_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    lines = log.take()
    log.end()
    (told,) = log.take()

    assert len(lines) == OPTIONS.burst - OPTIONS.info_floor
    assert grown_bytes < 100_000
    assert told.startswith(f"too much to log: suppressed {8_000 - len(lines)} INFO within")
    assert len(told) < 500


def test_a_kind_that_makes_way_for_others_is_still_told(log: Flooded) -> None:
    for _ in range(5):
        log.log("first")
    log.wait(30.0)
    for number in range(OPTIONS.kinds):
        log.log(f"other {number}")
    log.take()
    log.end()

    assert log.take() == ["too much to log: suppressed 2 INFO within 0 s, such as: first"]


def test_records_for_debugging_pass(log: Flooded) -> None:
    for _ in range(100):
        log.log("step", level=logging.DEBUG)
    log.log("line")

    assert log.take() == ["step"] * 100 + ["line"]


def test_a_record_that_was_left_out_keeps_nothing_alive(log: Flooded) -> None:
    class Big:
        deleted = False

        def __str__(self) -> str:
            return "big" * 1000

        def __del__(self) -> None:
            Big.deleted = True

    for _ in range(3):
        log.log("%s", "small")
    log.log("%s", Big())

    assert Big.deleted
    log.take()
    log.end()
    (line,) = log.take()
    assert len(line) < 400


def test_the_limits_of_production_let_a_thousand_devices_introduce_themselves() -> None:
    log = Flooded(LimitOptions())
    for number in range(1000):
        for template in ("%s: found", "%s: on a port", "%s: 3 sensors"):
            log.log(template, of_device(f"board-{number}"))

    assert len(log.take()) == 3000

"""journald's native protocol, as its document has it, against a real socket."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import journald
from gateway.cli.logs import JournalHandler
from gateway.log_fields import BLUETOOTH, fields_of, of_device, on_link
from tests.support.fake_journal import FakeJournal


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeJournal]:
    with FakeJournal(tmp_path / "journal") as fake:
        yield fake


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[journald.Journal]:
    journal = journald.Journal(str(tmp_path / "journal"))
    yield journal
    journal.close()


@pytest.fixture
def log(journal: journald.Journal) -> Iterator[logging.Logger]:
    """A logger that writes to the journal alone."""
    logger = logging.getLogger("gateway.test")
    handler = JournalHandler(journal)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.removeHandler(handler)
    handler.close()
    logger.setLevel(logging.NOTSET)


def fill(fake: FakeJournal, journal: journald.Journal) -> int:
    """Write until the socket takes no more; return how many it took."""
    for count in range(100_000):
        if not journal.send(b"MESSAGE=filler\n"):
            journal.lost = 0
            return count
    raise AssertionError(f"{fake.path} is never full")


def look(log: logging.Logger) -> None:
    """Do what the daemon does once a second."""
    (handler,) = log.handlers
    assert isinstance(handler, JournalHandler)
    handler.look()


# ---- the wire: https://systemd.io/JOURNAL_NATIVE_PROTOCOL ----


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", b"MESSAGE=plain\n"),
        ("", b"MESSAGE=\n"),
        ("a=b", b"MESSAGE=a=b\n"),
        ("Küche ☕", b"MESSAGE=K\xc3\xbcche \xe2\x98\x95\n"),
        # A value with a newline: the name alone, 64 bits of length (little endian), the value.
        ("one\ntwo", b"MESSAGE\n\x07\x00\x00\x00\x00\x00\x00\x00one\ntwo\n"),
        ("\n", b"MESSAGE\n\x01\x00\x00\x00\x00\x00\x00\x00\n\n"),
        ("ü\n", b"MESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00\xc3\xbc\n\n"),
        ("no UTF-8: \udcff", b"MESSAGE=no UTF-8: \\udcff\n"),
    ],
)
def test_a_field_is_written_as_the_protocol_says(value: str, expected: bytes) -> None:
    assert journald.entry([("MESSAGE", value)]) == expected


def test_fields_follow_each_other_and_a_name_may_come_twice() -> None:
    written = journald.entry([("MESSAGE", "moved"), ("LINK", "a"), ("LINK", "b")])

    assert written == b"MESSAGE=moved\nLINK=a\nLINK=b\n"


def test_what_is_too_long_loses_its_middle_and_stays_text() -> None:
    message = "BEGIN" + "ü" * journald.MAX_MESSAGE_BYTES + "END"

    written = journald.entry([("MESSAGE", message), ("DEVICE", "d" * 10_000)])

    text, device, _ = written.decode().split("\n")
    assert text.startswith("MESSAGE=BEGINü")
    assert text.endswith("üEND")
    assert " ... " in text
    assert len(text.encode()) <= len("MESSAGE=") + journald.MAX_MESSAGE_BYTES
    assert len(device) <= len("DEVICE=") + journald.MAX_VALUE_BYTES


# ---- records ----


def test_a_record_comes_with_priority_place_and_what_it_is_about(
    fake: FakeJournal, log: logging.Logger
) -> None:
    log.warning("%s: on %s: %d", of_device("shed"), on_link("ttyUSB0"), 7)
    line = sys._getframe().f_lineno - 1  # noqa: SLF001 - the documented way to one's own line

    assert fake.next() == {
        "MESSAGE": ["shed: on ttyUSB0: 7"],
        "PRIORITY": ["4"],
        "SYSLOG_IDENTIFIER": ["edge-gateway"],
        "LOGGER": ["gateway.test"],
        "CODE_FILE": [__file__],
        "CODE_LINE": [str(line)],
        "CODE_FUNC": ["test_a_record_comes_with_priority_place_and_what_it_is_about"],
        "DEVICE": ["shed"],
        "LINK": ["ttyUSB0"],
    }


@pytest.mark.parametrize(
    ("level", "priority"),  # sd-daemon(3)
    [("critical", "2"), ("error", "3"), ("warning", "4"), ("info", "6"), ("debug", "7")],
)
def test_each_level_has_its_priority(
    fake: FakeJournal, log: logging.Logger, level: str, priority: str
) -> None:
    getattr(log, level)("said")

    assert fake.next()["PRIORITY"] == [priority]


def test_a_traceback_keeps_its_lines_and_what_a_device_says_is_one(
    fake: FakeJournal, log: logging.Logger
) -> None:
    said = "PRIORITY=0\nLINK=forged\x1b[31m"
    try:
        int("first\nsecond")
    except ValueError:
        log.exception("%s: %s", of_device("a\nDEVICE=b"), said)

    entry = fake.next()
    (message,) = entry["MESSAGE"]
    lines = message.split("\n")
    assert lines[0] == r"a\x0aDEVICE=b: PRIORITY=0\x0aLINK=forged\x1b[31m"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1].startswith("ValueError: ")
    assert entry["DEVICE"] == ["a\nDEVICE=b"]
    assert entry["PRIORITY"] == ["3"]
    assert "LINK" not in entry


def test_a_huge_message_arrives_cut(fake: FakeJournal, log: logging.Logger) -> None:
    log.error("begin %s end", "x" * 5_000_000)

    (message,) = fake.next()["MESSAGE"]
    assert message.startswith("begin xxx")
    assert message.endswith("xxx end")
    assert len(message) > 40_000


def test_what_a_line_is_about_is_told_once_each_in_its_order() -> None:
    record = logging.makeLogRecord(
        {
            "msg": "%s %s %s %s",
            "args": (
                of_device("shed", "ttyUSB0"),
                on_link("ttyUSB0"),
                on_link("ttyUSB1", ""),
                BLUETOOTH,
            ),
        }
    )

    assert record.getMessage() == "shed ttyUSB0 ttyUSB1 bluetooth"
    assert fields_of(record) == (
        *(("DEVICE", "shed"), ("LINK", "ttyUSB0"), ("LINK", "ttyUSB1"), ("LINK", "ble")),
    )


# ---- a journald that does not take it ----


def test_a_full_journal_blocks_nobody_and_what_is_lost_is_told_later(
    fake: FakeJournal, journal: journald.Journal, log: logging.Logger
) -> None:
    fillers = fill(fake, journal)
    for _ in range(3):
        log.info("lost")
    log.error("kept: %s", on_link("ttyUSB0"))
    taken = fake.waiting()

    log.info("after")
    look(log)  # nobody has to log for it to be told
    told = fake.waiting()

    assert len(taken) == fillers
    assert [entry["MESSAGE"] for entry in told] == [
        ["kept: ttyUSB0"],
        ["after"],
        ["journald did not take 3 lines of the log, which are lost"],
    ]
    assert told[0]["LINK"] == ["ttyUSB0"]
    assert told[2]["PRIORITY"] == ["4"]
    assert journal.lost == 0


def test_errors_that_wait_are_bounded(
    fake: FakeJournal, journal: journald.Journal, log: logging.Logger
) -> None:
    fill(fake, journal)
    for number in range(journald.MAX_WAITING + 5):
        log.error("error %d", number)
    fake.waiting()

    told: list[str] = []
    while journal.lost:
        look(log)  # a socket may hold ten entries
        told += [entry["MESSAGE"][0] for entry in fake.waiting()]

    assert told == [
        *(f"error {number}" for number in range(journald.MAX_WAITING)),
        "journald did not take 5 lines of the log, which are lost",
    ]


def test_a_journald_that_was_gone_is_found_again(
    tmp_path: Path, journal: journald.Journal, log: logging.Logger
) -> None:
    assert not journal.is_there
    log.info("nobody is there")

    with FakeJournal(tmp_path / "journal") as first:
        assert journal.is_there
        log.info("first")
        look(log)
        heard = [entry["MESSAGE"][0] for entry in first.waiting()]
    log.info("gone again")
    (tmp_path / "journal").write_text("no socket")
    log.info("something else has its name")
    (tmp_path / "journal").unlink()
    with FakeJournal(tmp_path / "journal") as second:
        log.info("second")
        look(log)
        heard += [entry["MESSAGE"][0] for entry in second.waiting()]

    assert heard == [
        *("first", "journald did not take 1 lines of the log, which are lost"),
        *("second", "journald did not take 2 lines of the log, which are lost"),
    ]

import random
import sqlite3
import struct
import zlib

import pytest

from gateway.store.row_crc import row_crc

ROW = (7, "shed", 3, 100, 102, 3, 2, 12.5, b"\x01\x02\x03")


def test_row_crc_is_the_crc_of_fixed_width_numbers_then_device_then_body() -> None:
    numbers = b"".join(struct.pack("<q", number) for number in (7, 3, 100, 102, 3, 2))
    encoding = numbers + struct.pack("<d", 12.5) + b"\x04\0\0\0" + b"shed" + b"\x01\x02\x03"

    assert row_crc(*ROW) == zlib.crc32(encoding)


@pytest.mark.parametrize("column", range(9))
def test_every_column_counts(column: int) -> None:
    changed = list(ROW)
    changed[column] = (8, "shoe", 4, 101, 103, 2, 1, 12.75, b"\x01\x02\x04")[column]

    assert row_crc(*changed) != row_crc(*ROW)  # type: ignore[arg-type] # the list mixes types


def test_the_border_of_device_and_body_counts() -> None:
    whole = row_crc(7, "shed", 3, 100, 102, 3, 2, 12.5, b"xyz")

    assert row_crc(7, "shedx", 3, 100, 102, 3, 2, 12.5, b"yz") != whole


@pytest.mark.parametrize("taken_s", [0.0, -0.0, 5.0, -3.0, 1e15, 1.25, 1e-300])
def test_row_crc_is_the_same_for_a_row_read_back(taken_s: float) -> None:
    rng = random.Random(1)
    body = rng.randbytes(20)
    row = (2**62, "a_device", 2**63 - 1, -5, 0, 1, 2**40, taken_s, body)
    database = sqlite3.connect(":memory:")
    try:
        database.execute(
            "CREATE TABLE r(n INTEGER PRIMARY KEY, device TEXT, boot INTEGER, first_seq INTEGER,"
            " last_seq INTEGER, count INTEGER, machine_boot INTEGER, taken_s REAL, body BLOB)"
        )
        database.execute("INSERT INTO r VALUES (?,?,?,?,?,?,?,?,?)", row)

        read_back = database.execute("SELECT * FROM r").fetchone()
    finally:
        database.close()

    assert row_crc(*read_back) == row_crc(*row)

"""The stand-in for MicroPython's bluetooth: what it refuses, by documentation and source."""

import socket
from collections.abc import Iterator

import pytest

from tests.firmware.hosts import Host

EBUSY, ENODEV, EINVAL, ENOTCONN = 16, 19, 22, 128

PRELUDE = """
import bluetooth
from bluetooth import UUID

ble = bluetooth.BLE()

def refusal(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except OSError as error:
        return error.errno
    except ValueError:
        return "ValueError"

SERVICE = (UUID(0x181A), ((UUID(0x2A6E), 0x12), (UUID(0x2A6F), 0x08, ((UUID(0x2901), 0x02),))))
"""


@pytest.fixture
def radio() -> Iterator[str]:
    """A radio that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_board_without_a_radio_has_no_such_module(host: Host) -> None:
    ended = host.run("""
try:
    import bluetooth
except ImportError as error:
    say(str(error))
""")

    assert ended.said == ["no module named 'bluetooth'"]


def test_uuids_are_little_endian_bytes_and_print_as_on_a_board(host: Host, radio: str) -> None:
    ended = host.run(
        PRELUDE
        + """
long = UUID("0e9a0001-5c1d-4c0e-9c6b-2f6a7b1d0e01")
say([repr(UUID(0x181A)), list(bytes(UUID(0x181A))), repr(long), list(bytes(long))[:3]])
say([UUID(0x181A) == UUID(b"\\x1a\\x18"), UUID(0x181A) == UUID(0x181B), len(long)])
say(refusal(UUID, b"123"))
""",
        BOARD_RADIO=radio,
    )

    assert ended.said == [
        ["UUID(0x181a)", [0x1A, 0x18], "UUID('0e9a0001-5c1d-4c0e-9c6b-2f6a7b1d0e01')", [1, 14, 29]],
        [True, False, 16],
        "ValueError",
    ]


def test_nothing_works_before_the_radio_is_active(host: Host, radio: str) -> None:
    ended = host.run(
        PRELUDE
        + """
say([ble.active(), refusal(ble.gap_advertise, 30000), refusal(ble.config, "mac")])
say([refusal(ble.gatts_register_services, (SERVICE,)), refusal(ble.gap_disconnect, 0)])
ble.active(True)
say([ble.active(), ble.config("mac")[0], list(ble.config("mac")[1]), bluetooth.BLE() is ble])
""",
        BOARD_RADIO=radio,
        BOARD_ID="a4cf120000ff",
    )

    assert ended.said == [
        [False, ENODEV, ENODEV],
        [ENODEV, ENODEV],
        [True, 0, [0xA4, 0xCF, 0x12, 0, 0, 0x01], True],
    ]


def test_what_does_not_fit_is_refused(host: Host, radio: str) -> None:
    ended = host.run(
        PRELUDE
        + """
ble.active(True)
say([refusal(ble.gap_advertise, 30000, bytes(32)), refusal(ble.gap_advertise, 19999)])
say([refusal(ble.config, mtu=22), refusal(ble.config, mtu=247), ble.config("mtu")])
say([refusal(ble.config, nonsense=1), refusal(ble.config, "nonsense")])
((value, other, descriptor),) = ble.gatts_register_services((SERVICE,))
say([value < other < descriptor, refusal(ble.gatts_read, 9999), ble.gap_disconnect(3)])
ble.gap_advertise(30000, b"\\x02\\x01\\x06")
say([refusal(ble.gatts_register_services, (SERVICE,)), refusal(ble.gap_advertise, None)])
say(refusal(ble.gatts_notify, 0, value, b"nobody is connected"))
ble.gatts_write(value, b"kept")
say([ble.gatts_read(value).decode(), ble.gatts_read(value).decode()])
""",
        BOARD_RADIO=radio,
    )

    assert ended.said == [
        [EINVAL, EINVAL],
        [EINVAL, None, 247],
        ["ValueError", "ValueError"],
        [True, EINVAL, False],
        [EBUSY, None],
        ENOTCONN,
        ["kept", "kept"],
    ]

"""Reading what strace writes; the lines are those of strace 6.1."""

from tests.support.system_calls import Call, parse_trace

PORT = r"7<\x2f\x64\x65\x76\x2f\x70\x74\x73\x2f\x33>"
WAL = r"9<\x2f\x74\x6d\x70\x2f\x61\x2d\x77\x61\x6c>"


def test_calls_of_two_threads_keep_the_order_of_their_beginnings_and_ends() -> None:
    lines = [
        rf'101   pwrite64({WAL}, "\x61\x22\x0a", 3, 0) = 3',
        f"101   fdatasync({WAL} <unfinished ...>",
        rf'2345  write({PORT}, "\x41", 1) = 1',
        "101   <... fdatasync resumed>)            = 0",
        "2345  +++ exited with 0 +++",
    ]

    assert parse_trace(lines) == [
        Call(0, "pwrite64", "/tmp/a-wal", b'a"\n', 0, 3),  # noqa: S108 - a name in a trace
        Call(1, "fdatasync", "/tmp/a-wal", b"", 3, 0),  # noqa: S108 - as above
        Call(2, "write", "/dev/pts/3", b"A", 2, 1),
    ]


def test_what_was_received_is_known_at_the_end_of_the_call() -> None:
    socket = r"5<\x73\x6f\x63\x6b\x65\x74\x3a\x5b\x31\x5d>"
    lines = [
        f"7     recvfrom({socket},  <unfinished ...>",
        r'7     <... recvfrom resumed>"\x40\x02", 8192, 0, NULL, NULL) = 2',
        f"7     recvfrom({socket}, 0x7f50, 8192, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily)",
    ]

    assert parse_trace(lines) == [
        Call(0, "recvfrom", "socket:[1]", b"@\x02", 1, 2),
        Call(2, "recvfrom", "socket:[1]", b"", 2, -1),
    ]


def test_a_call_that_never_ended_is_left_out() -> None:
    assert parse_trace([f"101   fdatasync({WAL} <unfinished ...>"]) == []

import pytest

from tests.support.slow_callbacks import is_ours, without_complaints


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Executing <Handle A.cb() created at /x/serial_asyncio.py:8> took 0.150 seconds",
            True,
        ),
        (
            "Executing <Task finished coro=<m() done, defined at /x/tests/a.py>> took 0.1 s",
            False,
        ),
        (
            (
                "Executing <Task finished coro=<BaseEventLoop.shutdown_default_executor() done, "
                "defined at /x/asyncio/base_events.py:564> result=None> took 0.192 seconds"
            ),
            False,
        ),
        ("connected to 127.0.0.1:1883 with MQTT 5", False),
    ],
)
def test_a_slow_callback_is_ours_unless_a_test_is_in_it(text: str, *, expected: bool) -> None:
    assert is_ours(text) is expected


SLOW = "Executing <Handle A.cb() created at /x/gateway/a.py:8> took {} seconds\n"


def test_what_debug_mode_adds_to_a_commands_output_is_left_out() -> None:
    logged = f"2026-11-23T01:09:08.213 WARNING asyncio: {SLOW.format('0.150')}"

    killed = (
        "2026-11-23T01:27:22.118 WARNING asyncio: Close running child process: kill "
        "<_UnixSubprocessTransport closed pid=17533 running>\n"
    )

    assert without_complaints(f"a\n{logged}b\n{killed}{SLOW.format('0.999')}") == "a\nb\n"


def test_a_command_that_was_held_up_for_a_second_is_not_excused() -> None:
    with pytest.raises(AssertionError, match=r"took 1\.000 seconds"):
        without_complaints(SLOW.format("1.000"))

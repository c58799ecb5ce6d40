import pytest

from tests.support.slow_callbacks import is_ours


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
        ("connected to 127.0.0.1:1883 with MQTT 5", False),
    ],
)
def test_a_slow_callback_is_ours_unless_a_test_is_in_it(text: str, *, expected: bool) -> None:
    assert is_ours(text) is expected

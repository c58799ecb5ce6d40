"""The adapter's reset, which is left to a library."""

import asyncio
import sys
from types import ModuleType

import pytest

from gateway.links.ble_adapter import BluezAdapter
from gateway.links.ble_recovery import Remedy
from tests.support.bluez.bluetoothd import Bluetoothd

HANG_S = 60.0
"""Only for what hangs."""


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("generator didn't stop after athrow()"),  # its own answer to an OSError
        ValueError("47 is not a valid Events"),  # of newer kernels
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_reset_that_fails_however_it_does_leaves_the_power_cycle(
    bluetoothd: Bluetoothd, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    asked: list[tuple[int, str]] = []

    async def recover_adapter(number: int, address: str, *, gone_silent: bool) -> bool:
        assert gone_silent
        asked.append((number, address))
        raise failure

    library = ModuleType("bluetooth_auto_recovery")
    library.recover_adapter = recover_adapter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bluetooth_auto_recovery", library)

    async with asyncio.timeout(HANG_S):
        await BluezAdapter("").mend(Remedy.RESET)

    assert [number for number, _ in asked] == [77]
    assert bluetoothd.adapter is not None
    assert bluetoothd.adapter.is_powered

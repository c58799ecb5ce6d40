"""What bleak raises, in words; and how what it began is ended."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)

from gateway.links.ble_adapter import BUS_ERRORS
from gateway.links.ble_recovery import Failure, ScanMode

FAILURES: Final = (
    BleakError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    *BUS_ERRORS,
)
"""What bleak raises when D-Bus, BlueZ or a board do not do as it expects; it parses texts."""

END_S: Final = 2.0
"""What is cancelled has so long to clean up, each time."""
ENDINGS: Final = 3
"""How often it is cancelled."""

_DBUS_WORDS: Final = {
    "org.freedesktop.DBus.Error.ServiceUnknown": "bluetoothd is not running; is bluez installed?",
    "org.freedesktop.DBus.Error.NameHasNoOwner": "bluetoothd is not running; is bluez installed?",
    "org.freedesktop.DBus.Error.AccessDenied": "D-Bus denies it: add the user to group bluetooth",
}
"""Errors that no try mends, only somebody at the machine."""


def words_of(error: BaseException) -> str:
    """Return what an exception says; bleak makes some of their texts by parsing others."""
    try:
        return str(error) or type(error).__name__
    except (LookupError, TypeError, ValueError):
        return type(error).__name__


def first_words_of(error: BaseException) -> str:
    """Return what was wrong first: bleak-retry-connector adds paragraphs of advice to it."""
    cause = error.__cause__ or error
    if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
        return "no answer"
    return words_of(cause)


def classed(error: BaseException, mode: ScanMode) -> tuple[Failure, str]:
    """Return what kind of failure of a scan it is, and in which words people should hear of it."""
    reason = words_of(error)
    match error:
        case BleakBluetoothNotAvailableError():
            is_off = error.reason is BleakBluetoothNotAvailableReason.POWERED_OFF
            failure = Failure.NOT_STARTED if is_off else Failure.NO_ADAPTER
            return failure, str(error.args[0])
        case BleakDBusError() if error.dbus_error in _DBUS_WORDS:
            return Failure.NO_ADAPTER, _DBUS_WORDS[error.dbus_error]
        case BleakDBusError():
            return Failure.NOT_STARTED, reason
        case BleakError():  # bare: it cannot be passive, or there is no such adapter
            is_there = mode == "passive" and "not found" not in reason
            return Failure.NO_PASSIVE if is_there else Failure.NO_ADAPTER, reason
        case FileNotFoundError() | ConnectionRefusedError():
            return Failure.NO_ADAPTER, f"D-Bus is not running: {reason}"
    return Failure.NOT_STARTED, reason


async def finish(work: Coroutine[Any, Any, None], name: str, within_s: float) -> None:
    """Let `work` end what it ends; leave it behind if that takes too long."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work, name=name)
        try:
            await asyncio.wait([task], timeout=within_s)
        finally:
            await end(task)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it ends: what it waits for while it cleans up may hang, as D-Bus does."""
    for _ in range(ENDINGS):
        if task.done():
            return
        task.cancel()
        # Not asyncio.timeout(): on Python 3.11.2 it does not end what is being cancelled.
        await asyncio.wait([task], timeout=END_S)

"""What bleak keeps for the life of an event loop, let go at the end of a test."""

import asyncio
import contextlib

from bleak.backends.bluezdbus import manager


def pass_over_unsent(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Take no notice of messages that dbus-fast could not send: `call` raises for them as well."""
    if isinstance(context.get("exception"), OSError) and "future" in context:
        return
    loop.default_exception_handler(context)


async def let_go_of_the_bus() -> None:
    """Close the connection to the bus that bleak's manager holds for this loop."""
    held = manager._global_instances.pop(asyncio.get_running_loop(), None)  # noqa: SLF001 - bleak has no way to end it
    if held is None or held._bus is None:  # noqa: SLF001 - the same
        return
    held._bus.disconnect()  # noqa: SLF001 - the same
    with contextlib.suppress(Exception):  # what ended the bus before is no news
        await held._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # noqa: SLF001 - the same
    watcher = held._bus_watcher_task  # noqa: SLF001 - the same
    if watcher is not None:
        await asyncio.wait({watcher})

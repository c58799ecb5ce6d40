"""Other programs, asked with patience that ends."""

import asyncio
import os
from collections.abc import Sequence

PATIENCE_S = 5.0
MAX_BYTES = 1 << 20
"""More of what a program says is not read."""


async def answer(command: Sequence[str], patience_s: float = PATIENCE_S) -> str | None:
    """Return what a program prints; None if there is none, it fails or does not end in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_BYTES,
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
        )
    except OSError:
        return None
    assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
    text = b""
    try:
        async with asyncio.timeout(patience_s):
            while len(text) < MAX_BYTES and (chunk := await process.stdout.read(MAX_BYTES)):
                text += chunk
            if len(text) >= MAX_BYTES:
                process.kill()
            code = await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return text.decode(errors="replace") if code == 0 else None

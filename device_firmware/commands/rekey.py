# Gives the board another key, made of the present one and {"salt": 32 hex digits}. The answer is
# still sealed with the old key; then the board says who it is again, and takes the new one.

import asyncio
import os
from binascii import unhexlify

from board.parts import borrow

_STEP_MS = 20
_PATIENCE_MS = 3000  # for the answer to leave


def run(app, args):
    keys = app.ports[0].session.keys
    if not keys:
        raise ValueError("the board has no key")
    if not isinstance(args, dict) or len(args.get("salt", "")) != 32:
        raise ValueError('the arguments must be {"salt": 32 hex digits}')
    key = borrow("sealed").rotate(keys, unhexlify(args["salt"]))
    asyncio.create_task(_switch(app, keys, key))


async def _switch(app, keys, key):
    sessions = [port.session for port in app.ports]
    for _ in range(_PATIENCE_MS // _STEP_MS):
        await asyncio.sleep_ms(_STEP_MS)
        if not any(session.joined and session.queue for session in sessions):
            break
    borrow("sealed").begin(keys, key, os.urandom(8))
    for session in sessions:
        session.joined = False
        session.hello_now = True

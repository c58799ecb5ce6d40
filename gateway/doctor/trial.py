"""May our status be written and read, and does the broker retain it? Without harm to anybody."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum

from gateway.mqtt.connection import FIRST_FAILURE, Ack, Connection, refusal_text
from gateway.mqtt.incoming import Incoming

_ANSWER_S = 5.0
_ECHO_S = 2.0
"""How long what the broker sends us after its answer is waited for: it comes at once, or never."""
_OFFLINE = b'{"state":"offline"}'


class Post:
    """What comes from the broker."""

    def __init__(self) -> None:
        self.retained: bytes | None = None
        """The newest message of our topic that was there before."""
        self.echoes: list[bytes] = []
        """Those that were published meanwhile."""
        self._codes: dict[int, int] = {}
        self._moved = asyncio.Event()

    def take(self, message: Incoming) -> None:
        """Take a message of the status topic."""
        message.done()
        if message.is_retained:
            self.retained = message.payload
        else:
            self.echoes.append(message.payload)
        self._moved.set()

    def acked(self, acks: Sequence[Ack]) -> None:
        """Take answers."""
        self._codes.update(acks)
        self._moved.set()

    def wake(self) -> None:
        """Have whoever waits look again."""
        self._moved.set()

    async def answer(self, connection: Connection, packet_id: int) -> int | None:
        """Return the reason code of a PUBACK; None if there is none in time."""
        await self.until(lambda: packet_id in self._codes or connection.lost.done(), _ANSWER_S)
        return self._codes.get(packet_id)

    async def until(self, claim: Callable[[], bool], for_s: float) -> bool:
        """Wait until a claim holds; tell whether it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                while not claim():
                    self._moved.clear()
                    await self._moved.wait()
        return claim()


class Mend(Enum):
    """What mends it, where the broker lets us in."""

    NOTHING = ""
    PERMIT = (
        "edge-gateway mosquitto-acl {file} --part acl    # on the broker: append it to its access "
        "list, then sudo systemctl reload mosquitto"
    )
    RETAIN = "ssh {host} grep -rn retain_available /etc/mosquitto    # true, or no such line"
    LOG = "ssh {host} journalctl -u mosquitto -n 50"


class Trial:
    """Reads our status, writes it, and sees it come back."""

    def __init__(self, connection: Connection, post: Post, topic: str, retained_s: float) -> None:
        self._retained_s = retained_s
        self._connection = connection
        self._post = post
        self._topic = topic

    async def trouble(self, *, is_held: bool) -> tuple[str, Mend]:
        """Return what is wrong, and what mends it; `is_held`: the gateway runs here."""
        if await self._connection.subscribe([self._topic]):
            return "the broker's access list forbids to subscribe to it", Mend.PERMIT
        await self._post.until(lambda: self._post.retained is not None, self._retained_s)
        before = self._post.retained
        if before is None and is_held:  # to write that it is offline would be a lie
            what = (
                "the gateway runs here, and its status is not to be read: forbidden, or not there"
            )
            return what, Mend.PERMIT
        reason, mend = await self._write(before or _OFFLINE)
        # What is retained comes before what is written: nothing there is overwritten.
        if not reason and self._post.retained is None and not await self._retains():
            return "the broker does not retain what it is asked to", Mend.RETAIN
        return reason, mend

    async def _write(self, payload: bytes) -> tuple[str, Mend]:
        """Return what is wrong with writing, and with reading what was written."""
        code = await self._publish(payload, retain=False)
        if code is None:
            return "the broker does not answer to what is written", Mend.LOG
        if code >= FIRST_FAILURE:
            return f"may not be written: {refusal_text(code)}", Mend.PERMIT
        if not await self._post.until(lambda: bool(self._post.echoes), _ECHO_S):
            what = "what is written does not come back: the access list forbids to write or to read"
            return what, Mend.PERMIT
        return "", Mend.NOTHING

    async def _retains(self) -> bool:
        """Tell whether what is to be retained comes again with another subscription."""
        try:
            await self._publish(_OFFLINE, retain=True)
            await self._connection.subscribe([self._topic])
            return await self._post.until(lambda: self._post.retained is not None, _ECHO_S)
        finally:
            await self._publish(b"", retain=True)

    async def _publish(self, payload: bytes, *, retain: bool) -> int | None:
        """Return the broker's answer; None if there is none."""
        if self._connection.lost.done():
            return None
        packet_id = self._connection.publish(self._topic, payload, retain=retain)
        return await self._post.answer(self._connection, packet_id)

"""The gateway's side of a virtual radio: an adapter at the other end of a TCP connection.

The connection is opened when something is wanted of the radio, and closed when nothing is any more.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from gateway.errors import LinkError
from gateway.simulate.radio.gatt_link import GattLink
from gateway.simulate.radio.open_radio import CLOSE_TIMEOUT_S, Ear, OpenRadio


class Adapter:
    """A radio, shared by whoever scans and connects in this process."""

    def __init__(self, address: str) -> None:
        """`address` is `VirtualRadio.hci_address`."""
        self._address = address
        self._session: OpenRadio | None = None
        self._users = 0
        self._ears: dict[Ear, bool] = {}
        """Who scans, and whether actively."""
        self._opening = asyncio.Lock()
        self._tuning = asyncio.Lock()
        self._initiating = asyncio.Lock()

    async def scan(self, ear: Ear, *, is_active: bool) -> None:
        """Report adverts to `ear` until `stop`; silence is all that tells of a radio that is lost.

        Raises:
            AdapterMissingError: there is no radio.
        """
        session = await self._use()
        self._ears[ear] = is_active
        session.ears.add(ear)
        try:
            await self._tune(session)
        except BaseException:
            await self.stop(ear)
            raise

    async def stop(self, ear: Ear) -> None:
        """End a scan; nothing if it is not scanning."""
        if self._ears.pop(ear, None) is None:
            return
        session = self._session
        if session is not None:
            session.ears.discard(ear)
            await self._calmly(self._tune(session))
        self._release()

    async def connect(self, address: str) -> GattLink:
        """Wait until a peripheral is heard, and connect to it; the caller limits the time.

        One that is not heard delays no other: the radio is asked to connect only to one that is.

        Raises:
            AdapterMissingError: there is no radio, or it is lost.
        """
        session = await self._use()
        link: GattLink | None = None
        advertised = session.expect(address)
        try:
            await self._tune(session)
            while link is None:
                advertised.clear()
                session.check()
                await advertised.wait()
                session.check()
                async with self._initiating:
                    connection = await session.initiate(address)
                if connection is not None:
                    link = GattLink(connection, self._release)
            session.expect_no_more(address, advertised)
            await self._calmly(self._tune(session))
        except BaseException:  # given up, perhaps just when the link was made
            session.expect_no_more(address, advertised)
            if link is not None:
                await link.disconnect()
            await self._calmly(self._tune(session))
            if link is None:
                self._release()
            raise
        return link

    async def _use(self) -> "OpenRadio":
        """Return the radio, opened; `_release` it once for each use."""
        async with self._opening:
            if self._session is not None and self._session.is_lost:
                self._session.close()
                self._session = None
            if self._session is None:
                self._session = await OpenRadio.open(self._address)
            self._users += 1
            return self._session

    def _release(self) -> None:
        self._users -= 1
        if self._users == 0 and self._session is not None:
            self._session.close()
            self._session = None

    async def _tune(self, session: "OpenRadio") -> None:
        """Scan as is wanted by now."""
        async with self._tuning:
            wanted: bool | None = None
            if session.ears or session.awaited:
                wanted = any(self._ears.get(ear, False) for ear in session.ears)
            await session.tune(wanted)

    async def _calmly(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Tidy up; a radio that is lost needs it no more."""
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await coroutine

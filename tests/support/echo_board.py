"""A program for boards that sends back what it is written, in a process of its own on the air."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.simulate.child import ChildProcess
from gateway.simulate.firmware import firmware_folder

SERVICE = "0e9a0001-5c1d-4c0e-9c6b-2f6a7b1d0e01"
TX = "0e9a0002-5c1d-4c0e-9c6b-2f6a7b1d0e01"
RX = "0e9a0003-5c1d-4c0e-9c6b-2f6a7b1d0e01"
SMALL = "0e9a0004-5c1d-4c0e-9c6b-2f6a7b1d0e01"
"""Has the room for writes that a characteristic has by default."""

TIMEOUT_S = 30.0
"""Only for what hangs."""

_PROGRAM = """\
import sys
sys.path[0:0] = [{host!r}]
if sys.implementation.name == "cpython":
    sys.path.insert(0, {host!r} + "/cpython")
    import shims
    shims.install()

import asyncio
import bluetooth
from struct import pack_into, unpack_from

SERVICE, TX, RX, SMALL = [
    bluetooth.UUID("0e9a000%d-5c1d-4c0e-9c6b-2f6a7b1d0e01" % number) for number in (1, 2, 3, 4)
]
ADVERT = b"\\x02\\x01\\x06\\x11\\x07" + bytes(SERVICE)
ble = bluetooth.BLE()
connections = []
written = []
flag = asyncio.ThreadSafeFlag()

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")

def switch_on():
    global tx, rx, small
    ble.active(True)
    ble.config(mtu={mtu})
    ble.irq(on_event)
    services = ((SERVICE, ((TX, 0x12), (RX, 0x0C), (SMALL, 0x0A))),)
    ((tx, rx, small),) = ble.gatts_register_services(services)
    ble.gatts_set_buffer(rx, 512)
    ble.gatts_write(tx, b"read me")
    ble.gap_advertise(30000, adv_data=ADVERT, resp_data=b"\\x05\\x09echo")

def on_event(event, data):
    if event == 1:
        connections.append(data[0])
        say("connected", len(connections))
        ble.gap_advertise(30000)
    elif event == 2:
        connections.remove(data[0])
        say("disconnected", len(connections))
        if ble.active():
            ble.gap_advertise(30000)
    elif event == 3:
        value = ble.gatts_read(data[1])
        if data[1] == small:
            say("small", len(value))
        else:
            written.append((data[0], value))
            flag.set()

async def notify(connection, data):
    while connection in connections:
        try:
            ble.gatts_notify(connection, tx, data)
            return
        except OSError as error:
            if error.errno != 12:
                return
            await asyncio.sleep_ms(1)

async def flood(connection, order):
    count, size = unpack_from("<HH", order, 1)
    buffer = bytearray(size)
    for number in range(count):
        pack_into("<H", buffer, 0, number)
        if order[:1] == b"?":
            await notify(connection, buffer)
            continue
        try:
            ble.gatts_notify(connection, tx, buffer)
        except OSError as error:
            say("refused", error.errno, "after", number)
            return

async def main():
    switch_on()
    say("ready")
    while True:
        while not written:
            await flag.wait()
        connection, order = written.pop(0)
        if order[:1] in (b"?", b"!"):
            await flood(connection, order)
        elif order == b".":
            say("ended", ble.gap_disconnect(connection))
        elif order == b":":
            ble.active(False)
            switch_on()
            say("ready")
        else:
            await notify(connection, order)

asyncio.run(main())
"""
"""What is written to it: "?" N u16, SIZE u16: N notifications of SIZE bytes, numbered; with "!" it
does not wait for buffers; "." it disconnects, ":" it switches its radio off and on."""


class EchoBoard:
    """The program on the air."""

    def __init__(self, folder: Path, radio: str, interpreter: Path, *, mtu: int = 247) -> None:
        """`radio` is where the virtual radio waits for boards."""
        self._radio = radio
        self._interpreter = interpreter
        self._script = folder / "echo.py"
        host = str(firmware_folder() / "host")
        self._script.write_text(_PROGRAM.format(host=host, mtu=mtu))
        self._said: asyncio.Queue[str] = asyncio.Queue()
        self._rest = b""
        self._child = ChildProcess("echo", self._on_output)

    @asynccontextmanager
    async def running(self, board_id: str = "a4cf12000001") -> AsyncIterator["EchoBoard"]:
        """Run while the context is open; its address is its id plus 2."""
        environment = {**os.environ, "BOARD_RADIO": self._radio, "BOARD_ID": board_id}
        child = self._child = ChildProcess("echo", self._on_output)
        try:
            await child.start([str(self._interpreter), str(self._script)], environment)
            await self.says("ready")
            yield self
        finally:
            child.kill()
            await child.stop(TIMEOUT_S)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._child.kill()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._child.pid or 0

    async def exit_code(self) -> int | None:
        """Wait for its end."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._child.ended.wait()
        return self._child.exit_code

    async def says(self, beginning: str) -> str:
        """Wait for a line that begins so; what it said before is gone."""
        async with asyncio.timeout(TIMEOUT_S):
            while not (line := await self._said.get()).startswith(beginning):
                pass
        return line

    def _on_output(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._said.put_nowait(line.decode())

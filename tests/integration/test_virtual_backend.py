"""Bleak on the virtual radio, with a peripheral of bumble's at the other end."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator

import pytest
from bleak import BleakClient, BleakScanner
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakError,
    BleakGATTProtocolError,
)
from bleak_retry_connector import establish_connection
from bumble import hci

from gateway.simulate.radio.air import Lost, Transmission
from gateway.simulate.radio.bleak_backend import MOST_DEVICES, VirtualBackend, virtual_backend
from gateway.simulate.radio.server import VirtualRadio
from tests.support.echo_board import RX, SERVICE, TX
from tests.support.echo_central import Ear, EchoLink, find, scanning
from tests.support.echo_peripheral import READ_NOT_PERMITTED, REFUSED, EchoPeripheral

ADDRESS = "A0:B0:C0:D0:E0:01"
OTHER = "A0:B0:C0:D0:E0:02"
TIMEOUT_S = 30.0
"""Only for what hangs."""


@pytest.fixture
async def radio() -> AsyncIterator[VirtualRadio]:
    """Run a radio, in which nothing may end up with the event loop's handler of last resort."""
    unhandled: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: unhandled.append(told))
    async with VirtualRadio() as radio:
        yield radio
    assert unhandled == []


@pytest.fixture
def backend(radio: VirtualRadio) -> VirtualBackend:
    return virtual_backend(radio.hci_address)


@pytest.fixture
async def echo(radio: VirtualRadio) -> EchoPeripheral:
    echo = EchoPeripheral(radio.air, ADDRESS)
    await echo.start()
    return echo


def random_address(number: int) -> hci.Address:
    return hci.Address(number.to_bytes(6, "little"), hci.Address.RANDOM_DEVICE_ADDRESS)


@pytest.mark.usefixtures("echo")
async def test_an_active_scan_hears_adverts_again_and_again_with_their_scan_response(
    backend: VirtualBackend,
) -> None:
    async with scanning(backend) as ear:
        heard = [await ear.next() for _ in range(10)]

    assert {device.address for device, _ in heard} == {ADDRESS}
    assert {told.rssi for _, told in heard} == {-60}
    assert all(told.service_uuids == [SERVICE] for _, told in heard)
    assert [told.local_name for _, told in heard] == [None] + ["echo"] * 9


@pytest.mark.usefixtures("echo")
async def test_a_passive_scan_hears_no_scan_response(backend: VirtualBackend) -> None:
    async with scanning(backend, is_active=False) as ear:
        heard = [await ear.next() for _ in range(3)]

    assert [told.local_name for _, told in heard] == [None] * 3


async def test_a_scanner_remembers_those_it_heard_last(
    radio: VirtualRadio, backend: VirtualBackend
) -> None:
    ear = Ear()
    async with BleakScanner(ear, backend=backend.scanner) as scanner:
        for number in range(1, 4201):
            radio.air.advertise(Transmission(random_address(number), b"\x02\x01\x06"))
            if number % 100 == 0:
                await ear.next(str(random_address(number)))

        known = {device.address for device in scanner.discovered_devices}
    expected = {str(random_address(number)) for number in range(4201 - MOST_DEVICES, 4201)}
    assert known == expected


@pytest.mark.usefixtures("echo")
async def test_a_client_reads_writes_and_is_notified(backend: VirtualBackend) -> None:
    async with EchoLink(backend, await find(backend)) as link:
        assert link.client.mtu_size == 517
        assert await link.client.read_gatt_char(TX) == b"read me"
        await link.write(b"asked" * 40, with_response=True)
        assert await link.notification() == b"asked" * 40
        await link.write(b"told")
        assert await link.notification() == b"told"
        characteristic = link.client.services.get_characteristic(RX)
        assert characteristic is not None
        assert set(characteristic.properties) == {"write", "write-without-response"}
        assert characteristic.max_write_without_response_size == 514
        await link.client.stop_notify(TX)


@pytest.mark.usefixtures("echo")
async def test_a_command_that_fits_into_no_packet_is_refused(backend: VirtualBackend) -> None:
    async with EchoLink(backend, await find(backend)) as link:
        with pytest.raises(BleakError, match="515 bytes do not fit"):
            await link.write(b"x" * 515)


@pytest.mark.usefixtures("echo")
async def test_what_the_peripheral_refuses_is_an_error_of_the_protocol(
    backend: VirtualBackend,
) -> None:
    async with EchoLink(backend, await find(backend)) as link:
        with pytest.raises(BleakGATTProtocolError) as refusal:
            await link.client.read_gatt_char(REFUSED)

    assert refusal.value.code == READ_NOT_PERMITTED


@pytest.mark.usefixtures("echo")
async def test_a_link_that_drops_is_told_once(radio: VirtualRadio, backend: VirtualBackend) -> None:
    device = await find(backend)
    async with EchoLink(backend, device) as link:
        assert radio.drop_links(ADDRESS) == 1
        await link.goes_down()

        assert not link.client.is_connected
        with pytest.raises(BleakError):
            await link.write(b"lost")
        await link.client.disconnect()
        assert link.times_down == 1
    async with EchoLink(backend, device) as link:
        await link.write(b"again")
        assert await link.notification() == b"again"


async def test_a_link_that_drops_before_it_is_of_use_is_an_error(
    backend: VirtualBackend, echo: EchoPeripheral
) -> None:
    device = await find(backend)
    echo.hangs_up = True

    with pytest.raises(BleakError):
        await EchoLink(backend, device).client.connect()

    echo.hangs_up = False
    async with EchoLink(backend, device) as link:
        await link.write(b"better")
        assert await link.notification() == b"better"


@pytest.mark.usefixtures("echo")
async def test_who_is_not_there_delays_nobody(backend: VirtualBackend) -> None:
    absent = BleakClient(OTHER, backend=backend.client, timeout=TIMEOUT_S)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(absent.connect())
        async with EchoLink(backend, ADDRESS) as link:
            await link.write(b"here")
            assert await link.notification() == b"here"
        assert not waiting.done()
        waiting.cancel()

    assert not absent.is_connected


async def test_a_wait_for_a_peripheral_that_does_not_come_ends(backend: VirtualBackend) -> None:
    with pytest.raises(TimeoutError):
        await BleakClient(OTHER, backend=backend.client, timeout=0.1).connect()


async def test_a_peripheral_that_vanishes_amid_the_connecting_blocks_no_other(
    radio: VirtualRadio, backend: VirtualBackend, echo: EchoPeripheral
) -> None:
    there = EchoPeripheral(radio.air, OTHER)
    radio.air.loses_advert = lambda advert: (
        advert.address == echo.chip.public_address
        and bool([chip for chip in radio.air.chips if chip.pending_le_connection is not None])
    )
    async with asyncio.TaskGroup() as tasks:
        gone = tasks.create_task(EchoLink(backend, ADDRESS).client.connect())
        async with asyncio.timeout(TIMEOUT_S):
            while not radio.air.lost[Lost.ADVERT_FAULT]:  # noqa: ASYNC110 a counter has no event
                await asyncio.sleep(0.01)
        gone.cancel()
        await there.start()

        async with EchoLink(backend, OTHER) as link:
            await link.write(b"mine")
            assert await link.notification() == b"mine"


@pytest.mark.parametrize("seed", range(3))
async def test_connecting_may_be_given_up_at_any_moment(
    radio: VirtualRadio, backend: VirtualBackend, echo: EchoPeripheral, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(30):
        client = BleakClient(ADDRESS, backend=backend.client)
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(client.connect())
            await asyncio.sleep(chance.uniform(0, 0.1))
            was_done = connecting.done()
            connecting.cancel()
            await asyncio.wait([connecting])
        assert connecting.cancelled() is not was_done, f"seed {seed}"
        await client.disconnect()

    async with EchoLink(backend, ADDRESS) as link:
        await link.write(b"after all")
        assert await link.notification() == b"after all", f"seed {seed}"
        assert len(echo.chip.le_connections) == 1, f"seed {seed}"
    async with asyncio.timeout(TIMEOUT_S):
        while radio.addresses != {ADDRESS}:  # noqa: ASYNC110 the adapter goes when nobody wants it
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("echo")
async def test_the_retrying_connector_works_on_it(backend: VirtualBackend) -> None:
    device = await find(backend)

    client = await establish_connection(BleakClient, device, "echo", backend=backend.client)

    assert await client.read_gatt_char(TX) == b"read me"
    await client.disconnect()


async def test_without_a_radio_there_is_no_bluetooth() -> None:
    async with VirtualRadio() as radio:
        address = radio.hci_address
    backend = virtual_backend(address)

    with pytest.raises(BleakBluetoothNotAvailableError):
        await BleakScanner(backend=backend.scanner).start()
    with pytest.raises(BleakBluetoothNotAvailableError):
        await BleakClient(ADDRESS, backend=backend.client).connect()


async def test_a_radio_that_goes_away_ends_links_and_may_come_back() -> None:
    async with contextlib.AsyncExitStack() as stack:
        radio = await stack.enter_async_context(VirtualRadio())
        port = int(radio.hci_address.rpartition(":")[2])
        backend = virtual_backend(radio.hci_address)
        echo = EchoPeripheral(radio.air, ADDRESS)
        await echo.start()
        scanner = BleakScanner(backend=backend.scanner)
        await scanner.start()
        waiting = BleakClient(OTHER, backend=backend.client)
        async with EchoLink(backend, ADDRESS) as link, asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(raised_by(waiting))
            await asyncio.sleep(0)
            await stack.aclose()
            await link.goes_down()
            assert isinstance(await connecting, BleakBluetoothNotAvailableError)
        await scanner.stop()

    async with VirtualRadio(hci_port=port) as radio:
        echo = EchoPeripheral(radio.air, ADDRESS)
        await echo.start()
        async with scanning(backend) as ear:
            assert (await ear.next())[0].address == ADDRESS
        async with EchoLink(backend, ADDRESS) as link:
            await link.write(b"back")
            assert await link.notification() == b"back"


async def raised_by(client: BleakClient) -> BleakError | None:
    try:
        await client.connect()
    except BleakError as exc:
        return exc
    return None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.usefixtures("echo")
async def test_a_host_that_sends_nonsense_harms_nobody(
    radio: VirtualRadio, backend: VirtualBackend, seed: int
) -> None:
    chance = random.Random(seed)
    async with EchoLink(backend, ADDRESS) as link:
        for _ in range(20):
            await talk(radio.hci_address, hci_nonsense(chance))

        await link.write(b"unharmed")
        assert await link.notification() == b"unharmed", f"seed {seed}"


def hci_nonsense(chance: random.Random) -> bytes:
    """Return commands and data, well framed for the most part, with anything in them."""
    packets = [b"\x01\x03\x0c\x00"]
    for _ in range(chance.randrange(200)):
        body = chance.randbytes(chance.randrange(60))
        group, command = chance.choice([(3, 0x0C), (8, 0x20), (1, 0x04), (4, 0x10)]), chance
        opcode = bytes([command.randrange(0x80), group[1]])
        packets.append(b"\x01" + opcode + bytes([len(body)]) + body)
        body = chance.randbytes(chance.randrange(300))
        handle = chance.choice([0x0001, 0x1001, 0x2001, chance.randrange(0x10000)])
        packets.append(
            b"\x02" + handle.to_bytes(2, "little") + len(body).to_bytes(2, "little") + body
        )
    return b"".join(packets) + chance.randbytes(chance.randrange(20))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.usefixtures("echo")
async def test_firmware_that_sends_nonsense_harms_nobody(
    radio: VirtualRadio, backend: VirtualBackend, seed: int
) -> None:
    chance = random.Random(seed)
    async with EchoLink(backend, ADDRESS) as link:
        for _ in range(20):
            await talk(radio.board_address, board_nonsense(chance))

        await link.write(b"unharmed")
        assert await link.notification() == b"unharmed", f"seed {seed}"
        assert radio.air.lost[Lost.NONSENSE] > 0


def board_nonsense(chance: random.Random) -> bytes:
    """Return orders of a board, with anything in their place."""
    anything: list[object] = [
        None,
        -1,
        0,
        10**30,
        1e308,
        "",
        "zz",
        "00" * 3,
        [],
        {},
        [[]] * 9,
        True,
        "a4cf12000003",
    ]
    names = ["op", "us", "adv", "resp", "connectable", "services", "handle", "data", "conn", "mtu"]
    operations = ["config", "services", "advertise", "value", "notify", "disconnect", "no such"]
    lines = [json.dumps({"op": "on", "address": f"{chance.randrange(256):02x}" * 6}).encode()]
    for _ in range(chance.randrange(50)):
        order = {name: chance.choice(anything) for name in names if chance.random() < 0.9}
        order["op"] = chance.choice(operations)
        lines.append(json.dumps(order).encode())
        lines.append(chance.randbytes(chance.randrange(40)))
    lines.append(b"[" * chance.randrange(100_000))
    return b"\n".join(lines)


@pytest.mark.parametrize("seed", range(5))
async def test_a_central_that_sends_nonsense_over_a_link_harms_nobody(
    radio: VirtualRadio, backend: VirtualBackend, echo: EchoPeripheral, seed: int
) -> None:
    chance = random.Random(seed)
    create_connection = b"\x01\x0d\x20\x19" + b"".join(
        (
            *(b"\x60\x00\x30\x00", b"\x00", b"\x00", bytes(echo.chip.public_address), b"\x00"),
            *(b"\x18\x00\x28\x00", b"\x00\x00", b"\x2a\x00", b"\x00\x00\x00\x00"),
        )
    )
    async with EchoLink(backend, ADDRESS) as link:
        for _ in range(5):
            await echo.advertise()
            reader, writer = await open_host(radio)
            writer.write(b"\x01\x03\x0c\x00" + create_connection)
            async with asyncio.timeout(TIMEOUT_S):
                while b"\x04\x3e\x13\x01\x00" not in await reader.read(4096):
                    pass  # LE Connection Complete, success
            for _ in range(20):
                writer.write(acl_nonsense(chance, handle=1))
                await asyncio.sleep(0)
            writer.write(b"\x01\x03\x0c\x00")
            await writer.drain()
            writer.close()
            await link.write(b"unharmed")
            assert await link.notification() == b"unharmed", f"seed {seed}"


@pytest.mark.parametrize("seed", range(5))
async def test_a_peripheral_that_sends_nonsense_over_a_link_harms_its_own_link_only(
    radio: VirtualRadio, backend: VirtualBackend, echo: EchoPeripheral, seed: int
) -> None:
    chance = random.Random(seed)
    other = EchoPeripheral(radio.air, OTHER)
    await other.start()
    async with EchoLink(backend, OTHER) as link:
        for _ in range(5):
            with contextlib.suppress(BleakError, TimeoutError):
                async with asyncio.timeout(1), EchoLink(backend, ADDRESS) as sick:
                    for _ in range(20):
                        echo.chip.on_packet(acl_nonsense(chance, handle=1))
                        await sick.write(b"?")
            await link.write(b"unharmed")
            assert await link.notification() == b"unharmed", f"seed {seed}"


def acl_nonsense(chance: random.Random, handle: int) -> bytes:
    """Return a packet of data: L2CAP to ATT, SMP, signalling or nobody, with anything in it."""
    body = bytes((chance.choice((1, 2, 3, 6, 8, 10, 16, 18, 22, 24, 27, 29, 82, 255)),))
    body += chance.randbytes(chance.randrange(60))
    channel = chance.choice((4, 5, 6, 0x40, chance.randrange(0x10000)))
    length = len(body) if chance.random() < 0.9 else chance.randrange(0x10000)
    pdu = length.to_bytes(2, "little") + channel.to_bytes(2, "little") + body
    flags = chance.choice((0x0000, 0x0000, 0x1000, 0x2000))
    head = (handle | flags).to_bytes(2, "little") + len(pdu).to_bytes(2, "little")
    return b"\x02" + head + pdu


async def open_host(radio: VirtualRadio) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = radio.hci_address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def talk(address: str, data: bytes) -> None:
    """Send this, and read until the other end has had enough or has nothing more to say."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    with contextlib.suppress(OSError):
        writer.write_eof()
        async with asyncio.timeout(TIMEOUT_S):
            while await reader.read(65536):
                pass
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.mark.usefixtures("echo")
async def test_a_host_that_does_not_read_costs_no_memory(
    radio: VirtualRadio, backend: VirtualBackend
) -> None:
    begin_to_scan = b"\x01\x03\x0c\x00" + b"\x01\x0c\x20\x02\x01\x00"
    ask_for_commands = b"\x01\x02\x10\x00"
    host, _, port = radio.hci_address.rpartition(":")
    async with EchoLink(backend, ADDRESS) as link:
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.setblocking(False)
        await asyncio.get_running_loop().sock_connect(lazy, (host, int(port)))
        _, writer = await asyncio.open_connection(sock=lazy, limit=1024)
        writer.write(begin_to_scan)
        most = 0
        while not radio.air.lost[Lost.ADVERT_NO_ROOM]:
            for number in range(500):
                address = hci.Address(number.to_bytes(6, "little"))
                radio.air.advertise(Transmission(address, bytes(31)))
            writer.write(ask_for_commands * 500)
            await link.write(b"unharmed")
            assert await link.notification() == b"unharmed"
            most = max(most, radio.waiting_bytes)
        writer.transport.abort()

    assert most < 500_000

"""What goes wrong on the virtual radio does so when it should, and is over afterwards."""

import asyncio
import time

import pytest
from bleak import BleakScanner
from bleak.exc import BleakError

from gateway.simulate.faults import FaultPlan, RadioAction, parse, radio_events
from gateway.simulate.radio.advertisers import Advertiser, Captured
from gateway.simulate.radio.air import Lost
from gateway.simulate.radio.bleak_backend import virtual_backend
from gateway.simulate.radio.server import VirtualRadio
from tests.support.echo_central import EchoLink, scanning
from tests.support.echo_peripheral import EchoPeripheral

ADDRESS = "A0:B0:C0:D0:E0:01"
OTHER = "A0:B0:C0:D0:E0:02"
TIMEOUT_S = 30.0
"""Only for what hangs."""

ADVERTS = 200


def test_the_same_seed_does_the_same_at_the_same_moments() -> None:
    text = "radio_drop_every_s=5,radio_mute_every_s=9,radio_unplug_every_s=7,radio_unplug_s=2,seed="

    def first_hour(seed: int) -> list[tuple[float, RadioAction]]:
        events = radio_events(parse(f"{text}{seed}"))
        return [next(events) for _ in range(1000)]

    assert first_hour(7) == first_hour(7) != first_hour(8)
    assert {action for _, action in first_hour(7)} == {
        *(RadioAction.DROP, RadioAction.MUTE, RadioAction.UNMUTE),
        *(RadioAction.UNPLUG, RadioAction.PLUG),
    }
    moments = [at_s for at_s, _ in first_hour(7)]
    assert moments == sorted(moments)
    assert not list(radio_events(FaultPlan()))


async def test_a_share_of_the_adverts_is_lost() -> None:
    async with VirtualRadio(parse("advert_drop=0.25,seed=3")) as radio:
        sensor = Advertiser(OTHER, Captured(b"\x02\x01\x06"), interval_s=0.0)
        async with scanning(virtual_backend(radio.hci_address)):
            radio.advertise(sensor)
            async with asyncio.timeout(TIMEOUT_S):
                while sensor.sent < ADVERTS:  # noqa: ASYNC110 a counter has no event
                    await asyncio.sleep(0.01)
            sensor.stop()  # while somebody still scans: what nobody hears is lost to no fault

        assert sensor.heard + radio.air.lost[Lost.ADVERT_FAULT] == sensor.sent
        assert 0.65 < sensor.heard / sensor.sent < 0.85, "seed 3"


async def test_in_a_silence_nothing_is_heard_and_links_stay() -> None:
    async with VirtualRadio() as radio:
        await EchoPeripheral(radio.air, ADDRESS).start()
        sensor = radio.advertise(Advertiser(OTHER, Captured(b"\x02\x01\x06"), interval_s=0.02))
        backend = virtual_backend(radio.hci_address)
        async with EchoLink(backend, ADDRESS) as link, scanning(backend) as ear:
            await ear.next(OTHER)
            radio.faults.silence()
            await link.write(b"what was heard is through")
            await link.notification()
            ear.empty()
            heard, sent = sensor.heard, sensor.sent
            async with asyncio.timeout(TIMEOUT_S):
                while sensor.sent < sent + 5:  # noqa: ASYNC110 a counter has no event
                    await asyncio.sleep(0.01)

            assert sensor.heard == heard
            await link.write(b"still there")
            assert await link.notification() == b"still there"
            radio.faults.end_silence()
            await ear.next(OTHER)


async def test_a_mute_board_takes_what_it_is_sent_and_says_nothing() -> None:
    async with VirtualRadio() as radio:
        for address in (ADDRESS, OTHER):
            await EchoPeripheral(radio.air, address).start()
        backend = virtual_backend(radio.hci_address)
        async with EchoLink(backend, ADDRESS) as mute, EchoLink(backend, OTHER) as other:
            radio.faults.mute(ADDRESS)
            for number in range(100):
                await mute.write(b"anyone")
                await other.write(bytes([number]))
                assert await other.notification() == bytes([number])

            assert mute.client.is_connected
            assert radio.air.lost[Lost.MUTED] == 100
            radio.faults.unmute()
            await mute.write(b"at last")
            assert await mute.notification() == b"at last"


async def test_a_link_is_slow_if_it_is_told_to_be() -> None:
    async with VirtualRadio(parse("radio_slow_s=0.01")) as radio:
        await EchoPeripheral(radio.air, ADDRESS).start()
        async with EchoLink(virtual_backend(radio.hci_address), ADDRESS) as link:
            start_s = time.monotonic()
            for _ in range(20):
                await link.write(b"there and back")
                await link.notification()
            assert time.monotonic() - start_s >= 20 * 2 * 0.01

            radio.faults.calm()
            await link.write(b"fast")
            assert await link.notification() == b"fast"


async def test_an_adapter_that_is_unplugged_is_missing_until_it_is_back() -> None:
    async with VirtualRadio() as radio:
        await EchoPeripheral(radio.air, ADDRESS).start()
        backend = virtual_backend(radio.hci_address)
        async with EchoLink(backend, ADDRESS) as link:
            radio.faults.unplug()
            await link.goes_down()
        with pytest.raises(BleakError):
            await BleakScanner(backend=backend.scanner).start()

        radio.faults.plug()
        async with EchoLink(backend, ADDRESS) as link:
            await link.write(b"back")
            assert await link.notification() == b"back"


async def test_a_plan_drops_links_one_after_the_other() -> None:
    async with VirtualRadio(parse("radio_drop_every_s=0.4,seed=5")) as radio:
        for address in (ADDRESS, OTHER):
            await EchoPeripheral(radio.air, address).start()
        backend = virtual_backend(radio.hci_address)
        lost = 0
        async with asyncio.timeout(TIMEOUT_S):
            while lost < 5:
                try:
                    async with EchoLink(backend, ADDRESS) as link:
                        await link.goes_down()
                    lost += 1
                except BleakError:
                    continue  # lost while it was being made

        assert radio.faults.counts[RadioAction.DROP] >= 5

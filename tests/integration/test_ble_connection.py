"""Boards on a virtual radio, connected to with bleak's own front end."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import Clock
from gateway.drivers.serial_line import LineFormat, SerialLineDriver
from gateway.links.ble_gatt import GattOptions
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.fragments import Joiner
from gateway.simulate.radio.server import VirtualRadio
from tests.support.ble_board import Illness, RadioBoard, boards_on_air
from tests.support.ble_central import PATIENCE_S, central_on
from tests.support.effort import examples


def address(number: int) -> str:
    return f"74:05:D7:00:00:{number:02X}"


@pytest.fixture
async def radio() -> AsyncIterator[VirtualRadio]:
    async with VirtualRadio() as virtual:
        yield virtual


@pytest.mark.parametrize("mtu", [23, 247])
async def test_every_sample_arrives_once_and_in_order_at_each_mtu(
    radio: VirtualRadio, mtu: int
) -> None:
    board = RadioBoard(radio.air, "attic", address(1), mtu=mtu)

    async with boards_on_air(board), central_on(radio.hci_address) as central:
        board.produce(300)
        await central.until(lambda: board.produced and not board.waiting)

    assert central.numbers["attic"] == list(range(300))
    assert board.mtu == mtu
    assert central.faults(address(1)) == {}
    assert central.gaps == []


async def test_connections_that_break_again_and_again_lose_and_repeat_nothing(
    radio: VirtualRadio,
) -> None:
    board = RadioBoard(radio.air, "attic", address(1))

    async with boards_on_air(board), central_on(radio.hci_address) as central:
        for wanted in range(60, 241, 60):
            board.produce(60)
            await central.until_delivered("attic", wanted - 30)
            radio.drop_links()
        await central.until(lambda: not board.waiting)

    assert central.numbers["attic"] == list(range(240))
    assert board.connections >= 4


async def test_a_board_that_joins_and_drops_over_and_over_makes_no_progress(
    radio: VirtualRadio,
) -> None:
    board = RadioBoard(radio.air, "attic", address(1))

    async with boards_on_air(board), central_on(radio.hci_address) as central:
        for times in range(1, 4):
            await central.until(lambda: board.is_joined and central.status.radio.connected)
            radio.drop_links()
            await central.until(lambda: not central.status.radio.connected)
            assert board.connections >= times
        await central.until(lambda: central.backoffs[address(1)].attempt >= 3)

        board.produce(1)
        await central.until(lambda: not central.backoffs[address(1)].attempt)


async def test_a_connection_that_lasts_is_progress_also_without_samples(
    radio: VirtualRadio,
) -> None:
    board = RadioBoard(radio.air, "attic", address(1))
    options = GattOptions(lasting_s=1.0)

    async with (
        boards_on_air(board),
        central_on(radio.hci_address, options=options) as central,
    ):
        while not (backoff := central.backoffs.get(address(1))) or not backoff.attempt:
            await central.until(lambda: board.is_joined and central.status.radio.connected)
            radio.drop_links()
            await central.until(lambda: not central.status.radio.connected)

        await central.until(lambda: not backoff.attempt)


async def test_a_board_that_loses_its_power_is_gone_and_comes_back(radio: VirtualRadio) -> None:
    board = RadioBoard(radio.air, "attic", address(1))

    async with boards_on_air(board), central_on(radio.hci_address) as central:
        await central.until(lambda: board.is_joined)
        board.switch_off()
        await central.until(lambda: [gone.device for gone in central.gone] == ["attic"])
        await board.switch_on()
        board.produce(10)
        await central.until(lambda: not board.waiting)

    assert central.numbers["attic"] == list(range(10))


async def test_a_board_that_says_nothing_is_connected_anew(radio: VirtualRadio) -> None:
    board = RadioBoard(radio.air, "attic", address(1), illness=Illness(is_mute=True))
    options = GattOptions(silence_s=0.3)

    async with (
        boards_on_air(board),
        central_on(radio.hci_address, options=options) as central,
    ):
        await central.until(lambda: board.connections >= 2)
        board.illness.is_mute = False
        board.produce(10)
        await central.until(lambda: board.produced and not board.waiting)

    assert central.numbers["attic"] == list(range(10))


async def test_a_sick_board_does_not_delay_a_healthy_one(radio: VirtualRadio) -> None:
    """One takes connections and answers nothing: only the timeout ends each try."""
    sick = RadioBoard(radio.air, "sick", address(1))
    healthy = RadioBoard(radio.air, "healthy", address(2))
    radio.air.holds = lambda sender, receiver: (
        float("inf") if address(1) in f"{sender} {receiver}" else 0.0
    )

    async with (
        boards_on_air(sick, healthy),
        central_on(radio.hci_address, slots=2) as central,
    ):
        await central.until(lambda: sick.connections == 1)
        for wanted in range(50, 201, 50):
            healthy.produce(50)
            await central.until_delivered("healthy", wanted)

        assert central.status.link(address(1)).state == "opening"
        assert sick.connections == 1

    assert central.numbers["healthy"] == list(range(200))


async def test_a_sick_board_gives_its_slot_to_others_after_each_try(radio: VirtualRadio) -> None:
    sick = RadioBoard(radio.air, "sick", address(1), illness=Illness(lacks_service=True))
    healthy = RadioBoard(radio.air, "healthy", address(2))

    async with (
        boards_on_air(sick, healthy),
        central_on(radio.hci_address, slots=1, turn_s=0.2) as central,
    ):
        healthy.produce(50)
        await central.until_delivered("healthy", 50)
        await central.until(lambda: sick.connections)
        healthy.produce(50)
        await central.until_delivered("healthy", 100)

        assert central.status.link(address(1)).state in {"lost", "opening", "open", "closed"}

    assert central.numbers["healthy"] == list(range(100))


async def test_who_does_not_connect_holds_the_last_slot_for_a_while_only(
    radio: VirtualRadio,
) -> None:
    sick = RadioBoard(radio.air, "sick", address(1))
    healthy = RadioBoard(radio.air, "healthy", address(2))
    radio.air.holds = lambda sender, receiver: (
        float("inf") if address(1) in f"{sender} {receiver}" else 0.0
    )
    options = GattOptions(connect_s=PATIENCE_S, crowded_connect_s=0.5)

    async with (
        boards_on_air(sick, healthy),
        central_on(radio.hci_address, slots=1, turn_s=0.1, options=options) as central,
    ):
        healthy.produce(50)
        await central.until_delivered("healthy", 50)
        await central.until(lambda: sick.connections)
        healthy.produce(50)
        await central.until_delivered("healthy", 100)

    assert central.numbers["healthy"] == list(range(100))


async def test_who_says_nothing_while_others_wait_has_failed(radio: VirtualRadio) -> None:
    mute = RadioBoard(radio.air, "mute", address(1), illness=Illness(is_mute=True))
    healthy = RadioBoard(radio.air, "healthy", address(2))
    options = GattOptions(say_s=0.2, silence_s=PATIENCE_S)

    async with (
        boards_on_air(mute, healthy),
        central_on(
            radio.hci_address,
            slots=1,
            turn_s=0.1,
            options=options,
            known={mute.address, healthy.address},
        ) as central,
    ):
        await central.until(
            lambda: address(1) in central.backoffs and central.backoffs[address(1)].attempt
        )
        healthy.produce(50)
        await central.until_delivered("healthy", 50)

    assert central.numbers["healthy"] == list(range(50))


async def test_more_boards_than_slots_take_turns_and_none_is_gone(radio: VirtualRadio) -> None:
    boards = [RadioBoard(radio.air, f"board-{number}", address(number)) for number in range(4)]

    async with (
        boards_on_air(*boards),
        central_on(radio.hci_address, slots=2, turn_s=0.1) as central,
    ):
        for _ in range(2):
            for board in boards:
                board.produce(20)
            await central.until(lambda: not any(board.waiting for board in boards))
        await central.until(lambda: all(board.connections >= 2 for board in boards))
        assert central.gone == []

    assert {name: central.numbers[name] for name in central.numbers} == {
        board.name: list(range(40)) for board in boards
    }
    assert central.most_connected <= 2


async def test_a_board_that_rested_and_does_not_come_back_is_gone(radio: VirtualRadio) -> None:
    boards = [RadioBoard(radio.air, f"board-{number}", address(number)) for number in range(2)]
    options = GattOptions(rest_s=0.5, fresh_s=0.1)

    async with (
        boards_on_air(*boards),
        central_on(radio.hci_address, slots=1, turn_s=0.5, options=options) as central,
    ):
        await central.until(lambda: all(board.connections for board in boards))
        resting = central.status.link(boards[0].address)
        await central.until(lambda: resting.state == "closed")
        boards[0].switch_off()

        await central.until(lambda: "board-0" in {gone.device for gone in central.gone})


async def test_a_board_that_wants_to_be_paired_with_is(radio: VirtualRadio) -> None:
    board = RadioBoard(radio.air, "attic", address(1), illness=Illness(wants_pairing=True))

    async with boards_on_air(board), central_on(radio.hci_address) as central:
        board.produce(20)
        await central.until(lambda: board.produced and not board.waiting)

    assert board.paired == 1
    assert central.numbers["attic"] == list(range(20))


async def test_a_board_that_is_asked_to_keep_its_samples_does(radio: VirtualRadio) -> None:
    board = RadioBoard(radio.air, "attic", address(1))

    async with boards_on_air(board), central_on(radio.hci_address) as central:
        board.produce(10)
        await central.until_delivered("attic", 10)
        await central.until(lambda: not board.waiting)
        heard = asyncio.Event()
        board.on_heard = heard.set
        central.links[address(1)].hold(paused=True)
        async with asyncio.timeout(PATIENCE_S):
            await heard.wait()  # of the pause

        board.produce(100)
        await asyncio.sleep(0.5)  # in which all of them would have been delivered
        assert board.waiting == 100
        assert len(central.numbers["attic"]) == 10

        central.links[address(1)].hold(paused=False)
        await central.until(lambda: not board.waiting)

    assert central.numbers["attic"] == list(range(110))


async def test_garbage_of_any_length_costs_faults_and_nothing_else(radio: VirtualRadio) -> None:
    rng = random.Random(4)
    board = RadioBoard(radio.air, "attic", address(1))

    async with boards_on_air(board), central_on(radio.hci_address) as central:
        await central.until(lambda: board.is_joined)
        board.send_garbage([rng.randbytes(rng.randint(0, 244)) for _ in range(500)])
        board.produce(50)
        await central.until(lambda: board.produced and not board.waiting)

        assert board.connections == 1

    assert central.numbers["attic"] == list(range(50))
    assert sum(central.faults(address(1)).values()) > 0


@settings(max_examples=examples(200))
@given(st.lists(st.binary(max_size=512), max_size=30))
def test_whatever_a_board_notifies_is_events(values: list[bytes]) -> None:
    joiner = Joiner()
    driver = SerialLineDriver(
        port_name="attic",
        device_name="",
        line_format=LineFormat("board"),
        book=DeliveryBook(),
        clock=Clock(),
        run=1,
        session_id="0000cafe",
    )

    for value in values:
        line = joiner.feed(value)
        if line is not None:
            assert isinstance(driver.feed(line, 0.0), list)
        assert joiner.held <= 512


async def test_a_board_that_said_good_bye_is_left_alone_although_it_advertises(
    radio: VirtualRadio,
) -> None:
    board = RadioBoard(radio.air, "attic", address(1))
    options = GattOptions(bye_s=PATIENCE_S)

    async with boards_on_air(board), central_on(radio.hci_address, options=options) as central:
        board.produce(10)
        await central.until_delivered("attic", 10)
        board.say_bye()
        await central.until(lambda: central.gone)
        link = central.links[address(1)]
        await central.until(lambda: not link.is_busy)
        left_s = link.heard_s
        await central.until(lambda: link.heard_s > left_s + 0.5)  # it advertises 30 times a second

    assert [gone.reason for gone in central.gone] == ["bye"]
    assert board.connections == 1

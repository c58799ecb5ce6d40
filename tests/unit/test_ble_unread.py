"""What sensors say while the library that reads them is imported is read afterwards, all of it."""

from gateway.ble.unread import MAX_PACKETS, MAX_SENSORS, Unread
from tests.support.adverts import ADDRESS, bthome


def test_packets_wait_in_their_order_and_a_repetition_waits_once() -> None:
    unread = Unread()
    first, again = bthome("400261", heard_s=1.0), bthome("400261", heard_s=1.1, rssi=-70)
    second, third = bthome("400262", heard_s=2.0), bthome("400261", heard_s=3.0)

    for advert in (first, again, second, third):
        unread.add(advert)

    assert unread.addresses == (ADDRESS,)
    assert unread.pop(ADDRESS) == (first, second, third)
    assert not unread.pop(ADDRESS)
    assert not unread.addresses


def test_of_each_sensor_so_many_wait_and_of_so_many_sensors() -> None:
    unread = Unread()
    packets = [bthome(f"4002{number:02x}", heard_s=number) for number in range(MAX_PACKETS + 1)]
    others = [f"A4:C1:38:00:{number >> 8:02X}:{number & 0xFF:02X}" for number in range(MAX_SENSORS)]

    for packet in packets:
        unread.add(packet)
    for other in others:
        unread.add(bthome("400261", address=other))

    assert unread.pop(ADDRESS) == tuple(packets[1:])
    assert unread.addresses == tuple(others[:-1])

"""What simulated sensors advertise."""

import pytest

from gateway.simulate.radio.advertisers import (
    FLAGS,
    Advertiser,
    Bthome,
    Captured,
    Quantity,
    manufacturer_data,
    service_data,
    weather,
)

ADDRESS = "54:48:E6:8F:80:A5"
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")


def test_an_encrypted_packet_is_that_of_the_specification() -> None:
    """https://bthome.io/encryption/, the example: 25.06 °C, 50.55 %, counter 0x33221100."""
    readings = {Quantity.TEMPERATURE: 25.06, Quantity.HUMIDITY: 50.55}
    sensor = Bthome(ADDRESS, lambda _: readings, key=KEY, first=0x33221100)

    packet = sensor.at(0.0)

    assert packet.number == 0x33221100
    assert packet.structures == FLAGS + bytes.fromhex("1216d2fc41a47266c95f730011223378237214")


def test_a_plain_packet_has_its_objects_in_the_order_of_their_ids() -> None:
    """https://bthome.io/format/: battery 97 %, 25.06 °C, 50.55 %, 1008.83 hPa, 3.074 V."""
    readings = {
        Quantity.VOLTAGE: 3.074,
        Quantity.PRESSURE: 1008.83,
        Quantity.HUMIDITY: 50.55,
        Quantity.TEMPERATURE: 25.06,
        Quantity.BATTERY: 97,
    }

    packet = Bthome(ADDRESS, lambda _: readings, first=9).at(0.0)

    objects = "0009016102ca0903bf1304138a010c020c"
    assert packet.structures == FLAGS + bytes.fromhex("1516d2fc40" + objects)


def test_a_temperature_below_zero_is_a_negative_number() -> None:
    packet = Bthome(ADDRESS, lambda _: {Quantity.TEMPERATURE: -20.0}).at(0.0)

    assert packet.structures.endswith(b"\x02" + (-2000).to_bytes(2, "little", signed=True))


def test_a_sensor_repeats_its_packet_until_it_measures_again() -> None:
    sensor = Bthome(ADDRESS, lambda now_s: {Quantity.TEMPERATURE: now_s}, period_s=5.0, first=255)

    packets = [sensor.at(now_s) for now_s in (0.0, 1.0, 4.9, 5.0, 9.0, 10.0)]

    assert [packet.number for packet in packets] == [255, 255, 255, 256, 256, 257]
    assert [packet.structures[9] for packet in packets] == [255, 255, 255, 0, 0, 1]
    assert packets[0] == packets[2]


def test_what_was_captured_is_advertised_as_it_was() -> None:
    captured = FLAGS + service_data(0xFE95, b"\x01\x02") + manufacturer_data(0x0499, b"\x05")

    assert captured == bytes.fromhex("020106051695fe010204ff990405")
    assert Captured(captured).at(0.0) == Captured(captured).at(99.0) == (0, captured)


def test_each_weather_fits_into_an_advert_at_any_time() -> None:
    for seed in range(50):
        for now_s in (0.0, 77.0, 1e6):
            plain = Bthome(ADDRESS, weather(seed)).at(now_s).structures
            sealed = Bthome(ADDRESS, weather(seed), key=KEY).at(now_s).structures

            assert max(len(plain), len(sealed)) <= 31, f"seed {seed}"


def test_a_name_that_fits_into_no_scan_response_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Advertiser(ADDRESS, Captured(b""), name="n" * 30)

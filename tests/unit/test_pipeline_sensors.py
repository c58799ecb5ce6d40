"""What the pipeline makes of a sensor that is read from its adverts; no broker is needed."""

import logging

import pytest

from gateway.status import Status
from tests.support.adverts import bthome, new_driver
from tests.support.pipeline import new_pipeline

SHELLY = "54:48:E6:8F:80:A5"
SEALED = "41e445f3c9962b332211006c7c4519"
"""25.06 °C, 50.55 %: https://bthome.io/encryption."""
LATER = "41a47266c95f730011223378237214"
"""The same under a higher counter: the test suite of bthome-ble."""
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")


def test_a_missing_key_stands_in_the_status_of_the_device_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    status, driver = Status(), new_driver()
    pipeline, _ = new_pipeline(status)

    for number, payload in enumerate([SEALED, LATER] * 5):
        advert = bthome(payload, address=SHELLY, heard_s=1.0 + number)
        pipeline.accept("ble", driver.feed(advert, advert.heard_s))

    device = status.devices["bthome_80a5"]
    assert (device.problem, device.online, device.received) == ("needs_key", True, 0)
    assert (device.driver, device.link) == ("bthome", "ble")
    assert status.links["ble"].faults == {"needs_key": 2}
    assert sum("set its bind_key" in line for line in caplog.messages) == 2  # device, and fault


def test_values_and_no_problem_stand_in_the_status_of_a_sensor_that_is_read() -> None:
    status, driver = Status(), new_driver({SHELLY: KEY})
    pipeline, _ = new_pipeline(status)

    advert = bthome(SEALED, address=SHELLY, rssi=-71)
    pipeline.accept("ble", driver.feed(advert, 1.0))

    device = status.devices["bthome_80a5"]
    assert (device.problem, device.online, device.received) == ("", True, 1)
    assert device.values == {"temperature": 25.06, "humidity": 50.55, "rssi": -71}

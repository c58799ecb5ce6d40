"""Serial ports, boards on GATT and sensors that advertise, concurrently in one gateway."""

import asyncio
import contextlib
import json
from collections import defaultdict
from pathlib import Path

import pytest

from gateway.simulate.firmware import find_interpreter
from gateway.simulate.radio.advertisers import Advertiser, Bthome, Quantity
from tests.support.figures import Figures
from tests.support.site import BASE, Plan, Site
from tests.support.witness import Witness

ON_PORTS = 10
ON_AIR = 5
SENSORS = 50
INTERVAL_MS = 200
"""From one reading of a board to the next; it has no clock for more than that."""
PERIOD_S = 1.0
"""From one packet of a sensor to the next; it is advertised ten times."""
TOLERANCE = 0.05
"""How far the rate of a device may be from what it sent."""
LAST_ADVERTS_S = 5.0
"""What was heard at the very end needs no longer than this to be published."""


class Temperature:
    """One that tells packets from each other."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _now_s: float) -> dict[Quantity, float]:
        self.count += 1
        return {Quantity.TEMPERATURE: self.count / 100}


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_ports_and_radio_are_read_concurrently_each_at_its_rate(
    mosquitto_bin: Path, micropython_bin: Path, tmp_path: Path, figures: Figures, *, soak: bool
) -> None:
    seconds = 60 if soak else 10
    micropython = await asyncio.to_thread(find_interpreter, str(micropython_bin))
    plan = Plan(
        *(tmp_path, mosquitto_bin, [micropython] * (ON_AIR + ON_PORTS)),
        readings=seconds * 1000 // INTERVAL_MS,
        interval_ms=INTERVAL_MS,
        on_air=ON_AIR,
        ble=f"max_connections = {ON_AIR}",
    )
    addresses = [f"A4:C1:38:00:{number:02X}:02" for number in range(SENSORS)]
    async with Site.running(plan) as site:
        assert site.radio is not None
        sensors = [
            site.radio.advertise(
                Advertiser(
                    address,
                    Bthome(address, Temperature(), period_s=PERIOD_S),
                    interval_s=PERIOD_S / 10,
                )
            )
            for address in addresses
        ]
        await site.until_produced()
        for sensor in sensors:
            sensor.stop()
        accounts = await site.until_told(timeout_s=30)
        with contextlib.suppress(TimeoutError):  # the last adverts are on their way for a moment
            await site.witness.wait_for(
                lambda: _shares(site.witness, sensors)[0] == 1, timeout_s=LAST_ADVERTS_S
            )
        await site.stop_gateway()
        await site.witness.wait_for(lambda: _has_left(site.witness))  # its last word

    print(*accounts, sep="\n")  # noqa: T201 - shown with a failure
    assert all(account.is_exact and not account.gaps for account in accounts)
    shares = _shares(site.witness, sensors)
    assert all(sensor.packets_heard > seconds / 2 for sensor in sensors)
    figures(
        f"{ON_PORTS} boards on ports, {ON_AIR} on GATT: delivered of {plan.readings} each",
        f"{min(account.delivered for account in accounts)} and more",
        "all",
    )
    figures(
        f"{SENSORS} sensors: least and largest share of the packets on the air",
        f"{shares[0]:.3f}, {shares[-1]:.3f}",
        f"within {TOLERANCE:.0%}",
    )
    assert 1 - TOLERANCE <= shares[0] <= shares[-1] <= 1 + TOLERANCE


def _has_left(witness: Witness) -> bool:
    return any(
        heard.topic == f"{BASE}/status" and json.loads(heard.payload)["state"] == "offline"
        for heard in witness.heard
    )


def _shares(witness: Witness, sensors: list[Advertiser]) -> list[float]:
    """Return what share of the packets on the air was published of each sensor, least first."""
    temperatures: dict[str, set[float]] = defaultdict(set)
    for message in witness.heard:
        device, _, kind = message.topic.removeprefix(f"{BASE}/").rpartition("/")
        if kind in {"state", "history"} and device.startswith("bthome_"):
            told = json.loads(message.payload)
            for reading in told if isinstance(told, list) else [told]:
                temperatures[device].add(reading["temperature"])
    return sorted(
        len(temperatures[f"bthome_{sensor.address[-5:-3]}{sensor.address[-2:]}".lower()])
        / sensor.packets_heard
        for sensor in sensors
    )

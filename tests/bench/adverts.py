"""What an advert costs, and each family's library: `python -m tests.bench.adverts`.

The tables stand in gateway/drivers/README.md.
"""

import dataclasses
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from gateway.drivers.advert import Advert
from gateway.drivers.advert_families import FAMILIES, Family
from gateway.drivers.adverts import AdvertDriver
from tests.support.adverts import ADDRESS, AdvertVector, full_uuid, new_driver, vectors

ROUNDS = 5
CALLS = 2000

STRANGERS = (
    Advert(ADDRESS, "", -60, {0x004C: bytes.fromhex("10050b1c8a4cd1")}, {}, (), 1.0),
    Advert(ADDRESS, "tile", -60, {}, {full_uuid("feed"): b"\2\0"}, (full_uuid("feed"),), 1.0),
)
"""A telephone, and a tag for keys."""

IMPORT = """\
import resource, sys, time
import gateway.links.ble_scanner, gateway.ble.boards
from gateway.drivers.advert_families import FAMILIES, load
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
for name in sys.argv[1:]:
    before, began = resident(), time.process_time()
    load(next(family for family in FAMILIES if family.name == name))
    print(time.process_time() - began, resident() - before)
"""


def microseconds(calls: Sequence[Callable[[], object]]) -> float:
    """Return what one of these calls takes of the CPU: the best of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        for call in calls:
            call()
        rounds.append((time.process_time() - began_s) / len(calls))
    return min(rounds) * 1e6


def fresh(vector: AdvertVector) -> float:
    """Return what a packet costs that the parser sees: the same one, each time long after."""
    driver = new_driver()
    times = itertools.count(1)

    def call() -> None:
        advert = dataclasses.replace(vector.advert, heard_s=next(times) * 100.0)
        _forget(driver)
        driver.feed(advert, advert.heard_s)

    copying = microseconds([lambda: dataclasses.replace(vector.advert, heard_s=1.0)] * CALLS)
    return microseconds([call] * CALLS) - copying


def _forget(driver: AdvertDriver) -> None:
    """Make the driver take a packet for new that came before, numbered or not."""
    for device in driver._devices.values():  # noqa: SLF001  # nobody else may do this
        device._recent.clear()  # noqa: SLF001  # the same


def repeated(vector: AdvertVector) -> float:
    """Return what an advert costs that came before."""
    driver = new_driver()
    driver.feed(vector.advert, 1.0)
    return microseconds([lambda: driver.feed(vector.advert, 1.0)] * CALLS)


def unknown() -> float:
    """Return what an advert costs that no family claims."""
    driver = new_driver()
    calls = [lambda advert=advert: driver.feed(advert, 1.0) for advert in STRANGERS]
    return statistics.mean(microseconds([call] * CALLS) for call in calls)


def imports(*names: str) -> tuple[float, float]:
    """Return seconds and MB that the last of these libraries takes on top of the others."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *names],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    seconds, size = done.stdout.splitlines()[-1].split()
    return float(seconds), int(size) / 1e6


def main() -> None:
    """Print the table."""
    first: dict[str, AdvertVector] = {}
    for vector in vectors():
        if vector.key is None and vector.values:
            first.setdefault(vector.family, vector)
    print("| family | new packet, µs | repeated, µs | import, s | import, MB |")
    print("| --- | --- | --- | --- | --- |")
    for family in FAMILIES:
        print(_row(family, first[family.name]))
    print(f"\nunknown: {unknown():.2f} µs")


def _row(family: Family, vector: AdvertVector) -> str:
    before = [] if family.name == "bthome" else ["bthome"]
    seconds, size = imports(*before, family.name)
    return (
        f"| {family.name} | {fresh(vector):.0f} | {repeated(vector):.1f} "
        f"| {seconds:.2f} | {size:.1f} |"
    )


if __name__ == "__main__":
    main()

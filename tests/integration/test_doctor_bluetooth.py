"""`doctor` on Bluetooth: a stand-in for bluetoothd on a real bus, and a /sys of the test's own."""

import asyncio
from pathlib import Path

import pytest
from dbus_fast import Variant

from gateway.doctor.bluetooth import look
from gateway.doctor.case import Case, Machine
from gateway.doctor.finding import Severity
from tests.support.bluez.adapter import ADAPTER
from tests.support.bluez.adverts import FLAGS, Heard, structure
from tests.support.bluez.bluetoothd import ADAPTER_PATH, Bluetoothd
from tests.support.bluez.bus import ADDRESS_VARIABLE, PrivateBus
from tests.support.doctor import findings, no_complaint, the_only

NAME = ADAPTER_PATH.rpartition("/")[2]
SHORT_S = 0.3
"""Where nobody is heard."""


@pytest.fixture
def sys_folder(tmp_path: Path) -> Path:
    """Give a /sys of a machine with one adapter, and a switch for it that is on."""
    folder = tmp_path / "sys"
    (folder / "class" / "bluetooth" / NAME).mkdir(parents=True)
    switch(folder, 0, "wlan", soft=1)
    switch(folder, 1, "bluetooth")
    return folder


def switch(folder: Path, number: int, kind: str, soft: int = 0, hard: int = 0) -> None:
    entry = folder / "class" / "rfkill" / f"rfkill{number}"
    entry.mkdir(parents=True, exist_ok=True)
    for name, value in (("type", kind), ("soft", soft), ("hard", hard)):
        (entry / name).write_text(f"{value}\n")


def case(folder: Path, adapter: str = "", scan_s: float = SHORT_S) -> Case:
    return Case(adapter=adapter, machine=Machine(sys=folder, scan_s=scan_s))


async def test_an_adapter_that_hears_somebody_is_as_it_should_be(
    bluetoothd: Bluetoothd, sys_folder: Path
) -> None:
    async def advertise() -> None:
        await bluetoothd.until(lambda: bluetoothd.listens)
        for number in range(3):
            bluetoothd.hear(Heard(f"A4:C1:38:00:00:0{number}", -60, structure(FLAGS, b"\x06")))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(advertise())
        told = await findings(look, case(sys_folder, scan_s=1.5))

    no_complaint(told)
    assert told[0].what == f"{NAME} hears 3 devices within 1.5 s"
    assert not bluetoothd.listens
    assert bluetoothd.calls["StopDiscovery"] == 1


async def test_another_s_scan_goes_on(bluetoothd: Bluetoothd, sys_folder: Path) -> None:
    assert bluetoothd.adapter is not None
    bluetoothd.adapter.sessions["another"] = {}

    await findings(look, case(sys_folder))

    assert list(bluetoothd.adapter.sessions) == ["another"]


async def test_a_radio_that_hears_nobody_is_worth_a_look(
    bluetoothd: Bluetoothd, sys_folder: Path
) -> None:
    accused = the_only(Severity.WARNING, await findings(look, case(sys_folder)))

    assert accused.what == f"{NAME} scans, and hears nobody within 0.3 s"
    assert accused.mend.startswith("edge-gateway scan --all")
    assert bluetoothd.calls["StartDiscovery"] == 1


async def test_an_adapter_that_is_switched_off_is_told(
    bluetoothd: Bluetoothd, sys_folder: Path
) -> None:
    bluetoothd.objects.change(ADAPTER_PATH, ADAPTER, {"Powered": Variant("b", False)})

    accused = the_only(Severity.ERROR, await findings(look, case(sys_folder)))

    assert (accused.what, accused.mend) == ("the adapter is switched off", "bluetoothctl power on")
    assert not bluetoothd.calls["StartDiscovery"]


async def test_a_scan_that_bluez_refuses_is_told(bluetoothd: Bluetoothd, sys_folder: Path) -> None:
    bluetoothd.faults.refuse("StartDiscovery", "InProgress")

    accused = the_only(Severity.ERROR, await findings(look, case(sys_folder)))

    assert accused.what == f"{NAME} does not scan: StartDiscovery: org.bluez.Error.InProgress"
    assert accused.mend.startswith("sudo systemctl restart bluetooth")


async def test_an_adapter_that_bluetoothd_does_not_have_is_told(
    bluetoothd: Bluetoothd, sys_folder: Path
) -> None:
    await bluetoothd.pull_out()

    accused = the_only(Severity.ERROR, await findings(look, case(sys_folder)))

    assert accused.what == "the kernel has the adapter, and bluetoothd has not"
    assert accused.mend.startswith("sudo systemctl restart bluetooth")


@pytest.mark.usefixtures("bus")
async def test_without_bluetoothd_it_is_told_how_to_start_it(sys_folder: Path) -> None:
    accused = the_only(Severity.ERROR, await findings(look, case(sys_folder)))

    assert accused.what == "bluetoothd is not running"
    assert accused.mend.startswith("sudo systemctl enable --now bluetooth")


async def test_without_a_bus_it_is_told_what_is_missing(
    tmp_path: Path, sys_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, f"unix:path={tmp_path}/nobody")

    accused = the_only(Severity.ERROR, await findings(look, case(sys_folder)))

    assert accused.what.startswith("no D-Bus (")
    assert accused.mend.startswith("sudo systemctl start dbus")


async def test_a_blocked_radio_is_told_with_who_can_unblock_it(
    bus: PrivateBus, sys_folder: Path
) -> None:
    del bus
    switch(sys_folder, 1, "bluetooth", soft=1)
    by_software = the_only(Severity.ERROR, await findings(look, case(sys_folder)))
    switch(sys_folder, 1, "bluetooth", soft=1, hard=1)
    by_a_switch = the_only(Severity.ERROR, await findings(look, case(sys_folder)))

    assert by_software.mend.startswith("sudo rfkill unblock bluetooth")
    assert by_a_switch.mend.startswith("rfkill list")


async def test_a_missing_adapter_is_wrong_only_where_one_is_asked_for(sys_folder: Path) -> None:
    asked_for = the_only(Severity.ERROR, await findings(look, case(sys_folder, "hci5")))
    (sys_folder / "class" / "bluetooth" / NAME).rmdir()
    any_would_do = the_only(Severity.WARNING, await findings(look, case(sys_folder)))

    assert asked_for.what == "there is no adapter hci5"
    assert (asked_for.expected, asked_for.got) == ('adapter = "hci5"', NAME)
    assert "enabled = false in [ble]" in any_would_do.mend


async def test_a_radio_that_is_not_wanted_is_not_looked_at(tmp_path: Path) -> None:
    unwanted = Case(is_radio_wanted=False, machine=Machine(sys=tmp_path))

    no_complaint(await findings(look, unwanted))
    no_complaint(await findings(look, case(tmp_path, "virtual:127.0.0.1:1")))

"""The rules for udev, the account and the folder: well formed, and doing what they say."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.udev_rules import Device, follow

FOLDER = Path(__file__).parents[2] / "systemd"
RULES = FOLDER / "61-edge-gateway.rules"

SOCKET = "platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.2:1.0"
"""ID_PATH of a socket of a Raspberry Pi 4, as 60-serial.rules finds it."""


def usb_device(vendor: str, product: str) -> Device:
    return Device(
        "usb",
        attributes={"idVendor": vendor, "idProduct": product},
        properties={"DEVTYPE": "usb_device"},
    )


def port(kernel: str = "ttyUSB0", **properties: str) -> Device:
    return Device("tty", kernel, parents=("usb-serial", "usb"), properties=properties)


def ruled(device: Device) -> Device:
    follow(RULES.read_text(), device)
    return device


def test_the_rules_are_verified_by_udev(udevadm_bin: Path) -> None:
    command: list[Path | str] = [udevadm_bin, "verify", RULES]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    ("vendor", "product"),
    [
        ("10c4", "ea60"),  # CP2102 of most ESP32 boards
        ("1a86", "7523"),  # CH340
        ("0403", "6001"),  # FT232
        ("067b", "2303"),  # PL2303
        ("303a", "1001"),  # ESP32-S3's own USB
        ("2e8a", "0005"),  # Raspberry Pi Pico with MicroPython
        ("2341", "0043"),  # Arduino Uno
    ],
)
def test_modem_manager_leaves_boards_alone(vendor: str, product: str) -> None:
    assert ruled(usb_device(vendor, product)).properties["ID_MM_DEVICE_IGNORE"] == "1"


@pytest.mark.parametrize(
    ("vendor", "product"),
    [
        ("1e0e", "9001"),  # SIM7600
        ("2c7c", "0125"),  # Quectel EC25
        ("10c4", "8293"),  # a vendor of bridges, but no bridge
    ],
)
def test_modems_stay_modems(vendor: str, product: str) -> None:
    assert "ID_MM_DEVICE_IGNORE" not in ruled(usb_device(vendor, product)).properties


def test_a_port_belongs_to_dialout_and_systemd_knows_it() -> None:
    found = ruled(port(ID_SERIAL_SHORT="A1", ID_PATH=SOCKET))

    assert (found.group, found.mode, found.tags) == ("dialout", "0660", ["systemd"])


@pytest.mark.parametrize("number", ["", "0001", "0", "00000000"])
def test_an_adapter_without_a_number_of_its_own_is_named_after_its_socket(number: str) -> None:
    given = {"ID_SERIAL_SHORT": number} if number else {}
    first = ruled(port("ttyUSB0", ID_PATH=SOCKET, **{".ID_PORT": "0"}, **given))
    second = ruled(port("ttyUSB1", ID_PATH=SOCKET.replace("1.2", "1.3"), **given))

    assert first.links == [f"edge-gateway/{SOCKET}-port0"]
    assert second.links == [f"edge-gateway/{SOCKET.replace('1.2', '1.3')}"]


def test_an_adapter_with_a_number_keeps_the_name_it_has_everywhere() -> None:
    assert ruled(port(ID_SERIAL_SHORT="24:0A:C4:12:34:56", ID_PATH=SOCKET)).links == []


@pytest.mark.parametrize(
    "other",
    [
        Device("tty", "ttyAMA0", parents=("platform",)),
        Device("tty", "ttyUSB0", action="remove", parents=("usb",)),
        Device("usb", properties={"DEVTYPE": "usb_interface"}),
        Device("block", "sda", parents=("usb",)),
    ],
    ids=["a console", "a port that goes", "an interface", "a disk"],
)
def test_everything_else_is_left_alone(other: Device) -> None:
    before = dict(other.properties)

    ruled(other)

    assert (other.links, other.tags, other.group, other.properties) == ([], [], "", before)


def test_the_account_is_made_in_the_groups_of_ports_and_radio(
    systemd_sysusers_bin: Path, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("root:x:0:\ndialout:x:20:pi\n")

    command: list[Path | str] = [
        systemd_sysusers_bin,
        f"--root={tmp_path}",
        FOLDER / "edge-gateway.sysusers",
    ]
    for _ in range(2):  # the second time nothing is new
        subprocess.run(command, capture_output=True, check=True)

    accounts = (tmp_path / "etc/passwd").read_text().splitlines()
    groups = dict(line.split(":", 1) for line in (tmp_path / "etc/group").read_text().splitlines())
    (account,) = (line for line in accounts if line.startswith("edge-gateway:"))
    assert account.endswith(":Edge gateway:/var/lib/edge-gateway:/usr/sbin/nologin")
    assert set(groups["dialout"].rpartition(":")[2].split(",")) == {"pi", "edge-gateway"}
    assert groups["bluetooth"].rpartition(":")[2] == "edge-gateway"


def test_the_state_is_for_the_account_alone(systemd_tmpfiles_bin: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    user, group = os.geteuid() or 990, os.getegid() or 985  # only root may give it away
    (tmp_path / "etc/passwd").write_text(f"edge-gateway:x:{user}:{group}::/:\n")
    (tmp_path / "etc/group").write_text(f"edge-gateway:x:{group}:\n")

    command: list[Path | str] = [systemd_tmpfiles_bin, "--create", f"--root={tmp_path}"]
    ran = subprocess.run([*command, FOLDER / "edge-gateway.tmpfiles"], check=False)

    made = (tmp_path / "var/lib/edge-gateway").stat()
    assert (ran.returncode, made.st_mode & 0o777) == (0, 0o750)
    assert (made.st_uid, made.st_gid) == (user, group)

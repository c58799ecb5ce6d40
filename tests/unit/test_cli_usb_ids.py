from pathlib import Path

from gateway.cli.usb_ids import usb_id


def test_the_usb_id_is_found_above_the_tty(tmp_path: Path) -> None:
    usb = tmp_path / "devices" / "usb1" / "1-2"
    tty = usb / "1-2:1.0" / "ttyUSB0"
    tty.mkdir(parents=True)
    (usb / "idVendor").write_text("1a86\n")
    (usb / "idProduct").write_text("7523\n")
    (tmp_path / "class" / "ttyUSB0").mkdir(parents=True)
    (tmp_path / "class" / "ttyUSB0" / "device").symlink_to(tty)

    assert usb_id("/dev/ttyUSB0", tmp_path / "class") == "1a86:7523"


def test_a_port_that_is_not_on_usb_has_none(tmp_path: Path) -> None:
    (tmp_path / "class" / "ttyS0" / "device").mkdir(parents=True)

    assert usb_id("/dev/ttyS0", tmp_path / "class") == ""
    assert usb_id("/dev/pts/3", tmp_path / "class") == ""

"""Images of MicroPython: what is taken, and what is refused before anything is written."""

import struct
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.errors import FlashError
from gateway.flash.chips import CHIPS
from gateway.flash.esp_image import check_chip, read_esp_image
from gateway.flash.uf2 import read_uf2
from gateway.flash.volume import check_pico, copy_image, find_volumes, volume_at
from tests.support.esp_images import micropython_image, uf2_block, uf2_image


@pytest.mark.parametrize(("chip", "offset"), [("ESP32", 0x1000), ("ESP32-C3", 0), ("ESP32-S3", 0)])
def test_an_image_says_for_which_chip_it_is(chip: str, offset: int) -> None:
    data = micropython_image(chip)

    image = read_esp_image(data, "x.bin")

    assert (image.chip.name, image.chip.offset, image.version) == (chip, offset, "1.25.0")
    assert [partition.label for partition in image.partitions] == ["nvs", "factory", "vfs"]
    assert image.sha256 == sha256(data).hexdigest()
    check_chip(image, chip, "x.bin")


def test_an_image_for_another_chip_is_refused() -> None:
    image = read_esp_image(micropython_image("ESP32-C3"), "c3.bin")

    with pytest.raises(FlashError, match=r"c3\.bin: .* for ESP32-C3, .* has an ESP32: nothing was"):
        check_chip(image, "ESP32", "c3.bin")


GOOD = micropython_image()


def changed(at: int, to: bytes) -> bytes:
    return GOOD[:at] + to + GOOD[at + len(to) :]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "its beginning is missing: 0 bytes are all"),
        (b"PK\x03\x04" + bytes(100), "magic byte 0x50, and 0xe9 is expected"),
        (changed(12, struct.pack("<H", 99)), r"for chip 99; expected one of ESP32 \(0\)"),
        (changed(12, struct.pack("<H", 9)), r"no partition table \(AA 50\) at 0x8000"),
        (changed(0x7000, b"\xff\xff"), "the .bin of the download page"),
        (GOOD[:0x6000], "no partition table"),
        (GOOD[:0xF000], "the program at 0xf000 is missing"),
        (changed(0xF000, b"\xff"), "the program at 0xf000 has the magic byte 0xff"),
        (changed(0xF000 + 32, bytes(4)), "does not describe itself"),
        (changed(0xF000 + 12, struct.pack("<H", 5)), "its boot loader is for ESP32, its program"),
        (micropython_image(banner=b"ESP-AT v3"), "there is no MicroPython in it"),
        (
            micropython_image(banner=b"; MicroPython v1.22.2 on 2024-02-22\0"),
            "MicroPython 1.22.2, and 1.23 or newer is needed",
        ),
        (GOOD + bytes(0x200000), "its partition factory has 2031616"),
    ],
)
def test_what_would_not_run_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(FlashError, match=said):
        read_esp_image(data, "x.bin")


def test_every_chip_has_its_page_and_its_advice() -> None:
    for chip in CHIPS.values():
        assert f"https://micropython.org/download/{chip.board}/" in chip.advice
        assert chip.name in chip.advice


@pytest.mark.parametrize(
    ("family", "name"),
    [(0xE48BFF56, "RP2040"), (0xE48BFF59, "RP2350"), (0xE48BFF5A, "RP2350")],
)
def test_a_uf2_image_says_for_which_chip_it_is(family: int, name: str) -> None:
    image = read_uf2(uf2_image(family), "x.uf2")

    assert (image.pico.name, image.blocks) == (name, 4)


def test_the_absolute_block_of_an_rp2350s_image_belongs_to_it() -> None:
    data = uf2_block(0, 2, 0xE48BFF57) + uf2_image(0xE48BFF59)

    assert read_uf2(data, "x.uf2").pico.name == "RP2350"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (uf2_image()[:-1], "blocks of 512"),
        (uf2_image()[:-512], "3 blocks of 4"),
        (uf2_image()[512:] + uf2_image()[:512], "not in their order"),
        (uf2_image(0x12345678), "for the family 0x12345678; expected one of RP2040"),
        (uf2_image() + uf2_image(0xE48BFF59), "for one chip, found 2"),
        (b"\0" * 512 + uf2_image(), "no UF2 block at 0"),
        (uf2_image()[:-4] + bytes(4), "no UF2 block at 1536"),
    ],
)
def test_what_is_no_uf2_for_a_pico_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(FlashError, match=said):
        read_uf2(data, "x.uf2")


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A Pico's drive, as its boot loader shows it; RP2040 datasheet, 2.8.4."""
    folder = tmp_path / "RPI RP2"
    folder.mkdir()
    (folder / "INFO_UF2.TXT").write_text(
        "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"
    )
    return folder


def test_the_drive_of_a_pico_is_found_among_the_mounts(drive: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    mounts = tmp_path / "mounts"
    escaped = str(drive).replace(" ", "\\040")
    mounts.write_text(
        f"/dev/sda1 {stick} vfat rw 0 0\n/dev/sdb1 {escaped} vfat rw,sync 0 0\nproc /proc proc rw\n"
    )

    (found,) = find_volumes(mounts)

    assert (found.path, found.pico.name) == (drive, "RP2040")


def test_an_image_for_another_pico_is_refused(drive: Path) -> None:
    volume = volume_at(drive)
    assert volume is not None

    with pytest.raises(FlashError, match=r"for an RP2350, and .* is an RP2040 .* nothing was"):
        check_pico(read_uf2(uf2_image(0xE48BFF59), "x.uf2"), volume, "x.uf2")


def test_a_drive_that_takes_nothing_more_is_told(drive: Path) -> None:
    """A write to /dev/full says that there is no room, as a drive that was pulled says its own."""
    (drive / "MICROPY.UF2").symlink_to("/dev/full")
    volume = volume_at(drive)
    assert volume is not None

    with pytest.raises(FlashError, match=r"after 0 of 2048 bytes: hold BOOTSEL"):
        copy_image(uf2_image(), volume, "MICROPY.UF2")

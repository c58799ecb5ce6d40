"""The chips that MicroPython has images for: which file, and where it goes.

Source of ids and offsets: Espressif's image format (esp_chip_id_t) and the second-stage boot
loader's address of each chip; of the boards' names, micropython.org.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DOWNLOAD: Final = "https://micropython.org/download"

OLDEST: Final = (1, 23)
"""Older MicroPython reads other .mpy files, or lacks what the firmware needs."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One kind of chip of the ESP32 family."""

    name: str
    """As esptool says it."""
    image_id: int
    """Bytes 12 and 13 of its images."""
    offset: int
    """Where in the flash its image begins."""
    board: str
    """MicroPython's general board for it."""

    @property
    def page(self) -> str:
        """Where its image is to be had."""
        return f"{DOWNLOAD}/{self.board}/"

    @property
    def advice(self) -> str:
        """Which file to get, from where, and what to do with it."""
        return (
            f"for an {self.name} get the newest release of {self.board} from {self.page} (the .bin "
            f'under "Firmware", such as {self.board}-20250415-v1.25.0.bin), then: '
            "edge-gateway flash --image FILE"
        )


_CHIPS: Final = (
    Chip("ESP32", 0, 0x1000, "ESP32_GENERIC"),
    Chip("ESP32-S2", 2, 0x1000, "ESP32_GENERIC_S2"),
    Chip("ESP32-S3", 9, 0, "ESP32_GENERIC_S3"),
    Chip("ESP32-C2", 12, 0, "ESP32_GENERIC_C2"),
    Chip("ESP32-C3", 5, 0, "ESP32_GENERIC_C3"),
    Chip("ESP32-C5", 23, 0x2000, "ESP32_GENERIC_C5"),
    Chip("ESP32-C6", 13, 0, "ESP32_GENERIC_C6"),
    Chip("ESP32-P4", 18, 0x2000, "ESP32_GENERIC_P4"),
)

CHIPS: Final[Mapping[str, Chip]] = {chip.name: chip for chip in _CHIPS}
CHIPS_BY_IMAGE: Final[Mapping[int, Chip]] = {chip.image_id: chip for chip in _CHIPS}


@dataclass(frozen=True, slots=True)
class Pico:
    """One kind of chip of Raspberry Pi, which is written by copying onto its drive."""

    name: str
    families: frozenset[int]
    """UF2 families of its images. Source: github.com/microsoft/uf2, utils/uf2families.json."""
    board: str

    @property
    def advice(self) -> str:
        """Which file to get, and from where."""
        return (
            f"for an {self.name} get the newest release of {self.board} from "
            f"{DOWNLOAD}/{self.board}/ (with Wi-Fi and Bluetooth: {self.board}_W resp. the page of "
            "your board; the .uf2), then: edge-gateway flash --image FILE"
        )


PICOS: Final[Mapping[str, Pico]] = {
    "RPI-RP2": Pico("RP2040", frozenset({0xE48BFF56}), "RPI_PICO"),
    "RP2350": Pico("RP2350", frozenset({0xE48BFF59, 0xE48BFF5A}), "RPI_PICO2"),
}
"""By the Board-ID in the INFO_UF2.TXT of the drive, of which this is the beginning."""

"""What USB device is behind a serial port, as sysfs tells."""

from pathlib import Path

_LEVELS = 6
"""From a tty up to its USB device there are at most four folders."""


def usb_id(device: str, sys_class_tty: Path = Path("/sys/class/tty")) -> str:
    """Return `vendor:product` in hex, such as `1a86:7523`; empty for ports that are not on USB."""
    folder = sys_class_tty / Path(device).name / "device"
    try:
        folder = folder.resolve(strict=True)
        for _ in range(_LEVELS):
            if (folder / "idVendor").is_file():
                return f"{_read(folder / 'idVendor')}:{_read(folder / 'idProduct')}"
            folder = folder.parent
    except OSError:
        pass
    return ""


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()

"""Bind keys: those of the configuration, and of a file for who keeps secrets out of it."""

from pathlib import Path

from gateway.config.ble_models import BleSettings, is_address, is_bind_key
from gateway.errors import ConfigError

MAX_BYTES = 1 << 20
"""A larger file holds no keys."""


def bind_keys(settings: BleSettings) -> dict[str, bytes]:
    """Return key by address; those under [[ble.device]] come before those in the file.

    Raises:
        ConfigError: the file cannot be read, or a line of it is wrong.
    """
    return read_bind_keys(settings.bind_keys_file) | {
        device.address: bytes.fromhex(device.bind_key)
        for device in settings.device
        if device.bind_key
    }


def read_bind_keys(path: Path | None) -> dict[str, bytes]:
    """Return key by address, of lines `A4:C1:38:12:34:56 231d39...`; `#` begins a comment.

    Raises:
        ConfigError: it cannot be read, or a line is wrong; the message has no key in it.
    """
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as exc:
        raise ConfigError(f"ble.bind_keys_file: {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"ble.bind_keys_file: {path}: this is not UTF-8") from exc
    if len(content) > MAX_BYTES:
        raise ConfigError(f"ble.bind_keys_file: {path}: larger than any list of keys")
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        address = words[0].upper().replace("-", ":")
        if len(words) != 2 or not is_address(address) or not is_bind_key(words[1]):  # noqa: PLR2004  # an address and a key
            raise ConfigError(
                f"{path}:{number}: expected an address and a key of 32 hexadecimal digits, or 24"
            )
        keys[address] = bytes.fromhex(words[1])
    return keys

"""Section [ble] of the configuration."""

from pathlib import Path

import pytest

from gateway.config.loader import load
from gateway.config.models import Settings
from gateway.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def test_addresses_may_be_written_as_people_do(tmp_path: Path) -> None:
    text = '[[ble.device]]\naddress = "a4-c1-38-12-34-56"\nbind_key = "' + "AB" * 16 + '"\n'

    (device,) = load(written(tmp_path, text)).ble.device

    assert (device.address, device.bind_key) == ("A4:C1:38:12:34:56", "ab" * 16)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('[ble]\nmode = "pasive"', 'did you mean "passive"?'),
        ('[ble]\nadapter = "hci"', 'an adapter is "hci0", "hci1" ..., or "virtual:HOST:PORT"'),
        ("[ble]\nmax_connections = 0", "expected a whole number 1..64, got 0"),
        ('[[ble.device]]\naddress = "A4:C1:38:12:34:5G"', "an address is six bytes"),
        ('[[ble.device]]\nname = "x"', "ble.device[0].address: missing. Its address, such as"),
    ],
)
def test_a_problem_says_what_would_do(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as failure:
        load(written(tmp_path, f"{line}\n"))

    assert problem in str(failure.value)


def test_a_bind_key_is_not_shown(tmp_path: Path) -> None:
    text = '[[ble.device]]\naddress = "A4:C1:38:12:34:56"\nbind_key = "231d39c1d7cc1ab1"\n'

    with pytest.raises(ConfigError) as failure:
        load(written(tmp_path, text))

    assert "a bind key has 32 hexadecimal digits" in str(failure.value)
    assert "231d39c1d7cc1ab1" not in str(failure.value)


@pytest.mark.parametrize("key", ["address", "name"])
def test_a_device_is_listed_once(tmp_path: Path, key: str) -> None:
    addresses = (
        ["A4:C1:38:12:34:56"] * 2
        if key == "address"
        else ["A4:C1:38:12:34:56", "A4:C1:38:12:34:57"]
    )
    names = ["bath", "kitchen"] if key == "address" else ["Bath", "bath"]
    text = "".join(
        f'[[ble.device]]\naddress = "{address}"\nname = "{name}"\n'
        for address, name in zip(addresses, names, strict=True)
    )

    with pytest.raises(ConfigError, match="is there twice"):
        load(written(tmp_path, text))


def test_the_list_of_joined_devices_lies_beside_the_outbox(tmp_path: Path) -> None:
    settings = Settings.model_validate({"outbox": {"path": str(tmp_path / "outbox.db")}})

    assert settings.joined_path == tmp_path / "outbox.db.joined"

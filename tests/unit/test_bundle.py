"""What goes onto boards: manifests, bundles and their files, and what is refused."""

import json
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.bundle.archive import from_archive, read_bundle, to_archive
from gateway.bundle.bundle import Bundle, config_hash
from gateway.bundle.manifest import Manifest, manifest_of, read_manifest
from gateway.bundle.settings import problems, settings_bundle
from gateway.bundle.signing import check_signature, load_public_key, public_hex, signed
from gateway.errors import BundleError, ConfigError

CODE = b"M\x06\x00\x1f" + b"code"
"""docs/reference/mpyfiles.rst: M, version 6, no native code, small integers of 31 bits."""

FILES = {"sensors/bme280.mpy": CODE + b"2", "board/app.mpy": CODE}

TEXT = (
    b'{"kind":"firmware","v":"0.2.0","mpy":6,"n":2}\n'
    b"board/app.mpy 8 " + sha256(CODE).hexdigest().encode() + b"\n"
    b"sensors/bme280.mpy 9 " + sha256(CODE + b"2").hexdigest().encode() + b"\n"
)


@pytest.fixture
def bundle() -> Bundle:
    return Bundle.firmware("0.2.0", FILES)


def test_a_manifest_is_the_text_that_boards_read(bundle: Bundle) -> None:
    assert bundle.manifest == TEXT
    assert bundle.manifest_hash == sha256(TEXT).digest()
    assert bundle.short_hash == sha256(TEXT).hexdigest()[:16]
    assert (bundle.kind, bundle.version, bundle.mpy) == ("firmware", "0.2.0", 6)
    assert bundle.paths == ("board/app.mpy", "sensors/bme280.mpy")
    assert bundle.size_bytes == 17


def test_the_same_files_make_the_same_bundle_in_any_order(bundle: Bundle) -> None:
    again = Bundle.firmware("0.2.0", dict(reversed(FILES.items())))

    assert to_archive(again) == to_archive(bundle)


def test_a_bundle_comes_back_from_its_file(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "fw.egb"
    path.write_bytes(to_archive(bundle))

    again = read_bundle(path)

    assert (again.manifest, again.files, again.signature) == (TEXT, FILES, None)


def test_a_manifest_cut_short_anywhere_is_refused() -> None:
    for size in range(len(TEXT)):
        with pytest.raises(BundleError):
            read_manifest(TEXT[:size])


def test_no_changed_byte_of_a_bundle_goes_unseen(bundle: Bundle) -> None:
    data = to_archive(bundle)
    taken = []
    for index in range(len(data)):
        changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        try:
            found = from_archive(changed, "x")
        except BundleError:
            continue
        taken.append((found.manifest, dict(found.files)))

    assert all(parts == (TEXT, FILES) for parts in taken)
    assert len(taken) < len(data) / 2  # a zip has times, modes and offsets that nobody reads


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("board/../main.py", "no place for firmware"),
        ("main.py", "no place for firmware"),
        ("/board/app.mpy", "no place for firmware"),
        ("boot_sel.mpy", "no place for firmware"),
        ("board/app.py", "no place for firmware"),
        ("board/App.mpy", "no place for firmware"),
        ("config.json", "no place for firmware"),
    ],
)
def test_firmware_names_only_what_an_update_may_replace(line: str, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        Bundle.firmware("0.2.0", {line: CODE})


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b'"n":2', b'"n":3', "promises 3 files and 2 whole lines follow"),
        (b'"n":2', b'"n":2,"x":1', "expected the keys kind, v, mpy, n"),
        (b'"n":2', b'"n":true', "n is no int"),
        (b'"v":"0.2.0"', b'"v":""', "is no version"),
        (b"firmware", b"software", "expected firmware or settings"),
        (b"firmware", b"settings", "settings have neither"),
        (b'{"kind"', b'{ "kind"', "not written as a manifest is"),
        (b"app.mpy 8 ", b"app.mpy 08 ", "expected `path size sha256`"),
        (b"sensors/bme280", b"board/app", "comes twice"),
        (b"sensors/bme280", b"board/aaa", "not in its place"),
        (b"app.mpy 8 ", b"app.mpy 9999999 ", "has more than"),
        (b"board/app", b"board/\xff", "expected UTF-8"),
    ],
)
def test_a_manifest_that_is_not_right_is_refused_in_words(
    before: bytes, after: bytes, said: str
) -> None:
    assert before in TEXT

    with pytest.raises(BundleError, match=said):
        read_manifest(TEXT.replace(before, after))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected a module compiled by mpy-cross"),
        (b"import machine\n", "expected a module compiled by mpy-cross"),
        (b"M\x05\x00\x1f", "bytecode version 5, and boards run version 6"),
        (b"M\x06\x2a\x1f", "native code"),  # xtensawin, 10 << 2 | 2
    ],
)
def test_what_a_board_cannot_run_is_no_firmware(data: bytes, said: str) -> None:
    with pytest.raises(BundleError, match=f"board/app.mpy: .*{said}"):
        Bundle.firmware("0.2.0", {"board/app.mpy": data})


def test_a_bundle_of_another_bytecode_is_refused() -> None:
    manifest = Manifest("firmware", "0.2.0", 5, manifest_of("firmware", "", 5, FILES).entries)

    with pytest.raises(BundleError, match="compiled to bytecode version 5, and boards run"):
        Bundle.checked(manifest.to_bytes(), FILES)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"board/app.mpy": CODE}, "bme280.mpy is in the manifest, and not in the bundle"),
        ({**FILES, "board/more.mpy": CODE}, "more.mpy is in the bundle, and not in the manifest"),
        ({**FILES, "board/app.mpy": CODE + b"!"}, "has 9 bytes, and the manifest says 8"),
        ({**FILES, "board/app.mpy": CODE[:-1] + b"E"}, "damaged or changed"),
    ],
)
def test_files_that_are_not_the_manifests_are_refused(files: dict[str, bytes], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        Bundle.checked(TEXT, files)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.egb"

    with pytest.raises(BundleError, match=r"x\.egb: No such file"):
        read_bundle(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(BundleError, match="expected a bundle"):
        read_bundle(path)


def test_a_packed_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """What it becomes may be of any size."""
    path = tmp_path / "x.egb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest", TEXT)
        archive.writestr("board/app.mpy", bytes(1000))

    with pytest.raises(BundleError, match="'manifest': packed or too large for a bundle"):
        read_bundle(path)


def test_a_signature_is_good_for_one_key_and_one_bundle(bundle: Bundle) -> None:
    key, other = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    release = from_archive(to_archive(signed(bundle, key)), "release.egb")
    forged = Bundle(Bundle.firmware("0.3.0", FILES).manifest, FILES, release.signature)

    check_signature(release, key.public_key(), "release.egb")

    for wrong, whose in ((release, other), (forged, key)):
        with pytest.raises(BundleError, match=r"signature is not of the key .* do not use it"):
            check_signature(wrong, whose.public_key(), "x")
    with pytest.raises(BundleError, match="expected a signature"):
        check_signature(bundle, key.public_key(), "x")
    assert load_public_key(public_hex(key.public_key())) == key.public_key()
    with pytest.raises(ConfigError, match="64 hex digits"):
        load_public_key("12")


def test_settings_are_a_bundle_of_config_json() -> None:
    config = {"name": "Gewächshaus", "sensors": [{"kind": "heap"}]}

    bundle = settings_bundle(config)

    assert bundle.paths == ("config.json",)
    assert json.loads(bundle.files["config.json"]) == config
    assert bundle.manifest.startswith(b'{"kind":"settings","v":"","mpy":0,"n":1}\nconfig.json ')
    digest = sha256(bundle.files["config.json"]).hexdigest()
    assert config_hash(bundle.files["config.json"]) == digest[:8]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"sensor": []}, "unknown key 'sensor'"),
        ({"name": "x" * 33}, "at most 32 bytes"),
        ({"watchdog_s": -1}, "watchdog_s must be a whole number from 0 to 3600"),
        ({"sensors": [{"kind": "bme820"}]}, "no kind 'bme820'; there are .*bme280"),
        ({"actuators": [{"kind": "relais"}]}, "no kind 'relais'; there are .*relay"),
        ({"sensors": [{"kind": "heap"}, {"kind": "heap"}]}, "the name heap is taken"),
        ({"ble_key": "12"}, "ble_key must have 32 hex digits"),
        ({"name": "\ud800"}, r"half of a character, '\\ud800'"),
        ({"name": "x", "sensors": [{"kind": "heap", "x": "y" * 9000}]}, "reads at most 8192"),
    ],
)
def test_settings_that_the_firmware_would_complain_of_are_refused(
    config: dict[str, object], said: str
) -> None:
    with pytest.raises(BundleError, match=f"board.json: .*{said}"):
        settings_bundle(config, "board.json")


def test_the_firmwares_example_is_taken() -> None:
    example = Path(__file__).parents[2] / "device_firmware" / "config.example.json"

    assert problems(json.loads(example.read_bytes())) == []

"""`edge-gateway flash` on boards that are bare, on boards that run something, and on ours.

The board is a real MicroPython with its own raw REPL on a pty, and where it has none yet a ROM
loader on the same pty that the real esptool talks to (`tests/support/bare_board`, `esp_rom`).
"""

import json
import os
import secrets
import sys
from binascii import b2a_base64
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.bundle.settings import settings_bundle
from gateway.cli import main
from gateway.flash.line import await_hello
from gateway.own_bundle import own_bundle
from gateway.protocol.sealed import key_id
from gateway.simulate.pty_port import PtyPort
from gateway.simulate.slots import lay_out
from gateway.store.keys import KeyStore
from tests.support import nursery
from tests.support.bare_board import BareBoard
from tests.support.esp_images import micropython_image, uf2_image
from tests.support.esp_rom import ERASE_FLASH, FLASH_MD5, EspRom
from tests.support.pico_drive import PicoDrive
from tests.support.terminals import read_to_the_end

DEVICE = "linux-a1b2c3d4e5f6"

GREENHOUSE = {"name": "greenhouse", "sensors": [{"kind": "heap", "interval_ms": 1000}]}


class Bench:
    """A board, a gateway's configuration, and the command."""

    def __init__(self, folder: Path, micropython: Path) -> None:
        self.folder = folder
        self.flash = folder / "flash"
        self.flash.mkdir()
        self.port = folder / "port"
        self.micropython = micropython
        self.config = folder / "board.json"
        self.config.write_text(json.dumps(GREENHOUSE))
        self.gateway = folder / "gateway.toml"
        self.gateway.write_text(
            f'[gateway]\ncontrol_socket = "{folder}/control.sock"\n'
            f'[outbox]\npath = "{folder}/outbox.db"\n'
            f'[serial]\npatterns = ["{folder}/port*"]\n'
        )

    def board(self, rom: EspRom | None = None) -> BareBoard:
        return BareBoard(self.flash, PtyPort(self.port), [str(self.micropython)], rom)

    def command(self, *words: str) -> int:
        return main(["flash", "--gateway-config", str(self.gateway), *words])

    def kept_key(self) -> str:
        return (self.folder / "keys" / DEVICE).read_text().split()[0]


@pytest.fixture
def bench(tmp_path: Path, micropython_bin: Path) -> Bench:
    return Bench(tmp_path, micropython_bin)


def files_of(flash: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(flash)): path.read_bytes()
        for path in sorted(flash.rglob("*"))
        if path.is_file()
    }


def test_a_board_with_micropython_becomes_one_of_ours_and_again(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    for stale in ("board/app.py", "sensors/bme280.py", "a/board/old.mpy", "b/manifest"):
        (bench.flash / stale).parent.mkdir(parents=True, exist_ok=True)
        (bench.flash / stale).write_text("old")
    (bench.flash / "boot.json").write_text('{"epoch": 7}')
    bundle = own_bundle()

    with bench.board():
        assert bench.command(str(bench.port), "--config", str(bench.config)) == 0
        first_said = capsys.readouterr().out
        first, key = files_of(bench.flash), bench.kept_key()
        assert bench.command("--keep-config") == 0

    assert f"greenhouse runs firmware {bundle.version} ({bundle.short_hash})" in first_said
    assert {path: first[f"a/{path}"] for path in bundle.paths} == bundle.files
    assert first["a/manifest"] == bundle.manifest
    assert json.loads(first["config.json"]) == GREENHOUSE
    assert first["device.key"].hex() == key
    assert not [path for path in first if path.startswith(("board/", "sensors/", "b/"))]
    assert "a/board/old.mpy" not in first
    assert json.loads(first["boot.json"])["epoch"] == 8  # numbering goes on
    again = files_of(bench.flash)
    said = capsys.readouterr().out
    assert "greenhouse runs our firmware: asking it to leave" in said
    assert "sealed" not in said  # it took the command
    assert again["device.key"].hex() == bench.kept_key() != key
    assert json.loads(again["config.json"]) == GREENHOUSE


def test_a_bare_esp32_gets_micropython_by_esptool_and_then_ours(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    image = bench.folder / "ESP32_GENERIC.bin"
    image.write_bytes(micropython_image())
    rom = EspRom()

    with bench.board(rom):
        words = (str(bench.port), "--image", str(image), "--config", str(bench.config))
        assert bench.command(*words, "--sha256", sha256(image.read_bytes()).hexdigest()) == 0

    said = capsys.readouterr().out
    assert "MicroPython 1.25.0 for ESP32" in said
    assert "erase the flash" in said
    assert "greenhouse runs firmware" in said
    written = image.read_bytes()
    assert rom.flash[0x1000 : 0x1000 + len(written)] == written
    assert rom.flash.count(0xFF) >= len(rom.flash) - len(written)
    assert {ERASE_FLASH, FLASH_MD5} <= set(rom.commands)


def test_a_bare_chip_is_told_which_image_it_needs_and_a_wrong_one_is_not_written(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    image = bench.folder / "x.bin"
    rom = EspRom()
    words = (str(bench.port), "--config", str(bench.config), "--image", str(image))

    with bench.board(rom):
        image.write_bytes(micropython_image("ESP32-C3"))
        assert bench.command(*words) == 1
        assert "for ESP32-C3, and the board has an ESP32: nothing was" in capsys.readouterr().err
        image.write_bytes(micropython_image()[:-4] + b"evil")
        assert bench.command(*words, "--sha256", "00" * 32) == 1
        assert "expected the SHA-256 0000" in capsys.readouterr().err
        assert (rom.writes, rom.can_boot) == (0, False)

        assert bench.command(*words[:3]) == 1

    said = capsys.readouterr().err
    assert "no MicroPython answers there" in said
    assert "it is an ESP32: for an ESP32 get the newest release of ESP32_GENERIC from" in said
    assert "https://micropython.org/download/ESP32_GENERIC/" in said
    assert rom.writes == 0


def test_a_flash_that_keeps_something_else_is_told(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    image = bench.folder / "x.bin"
    image.write_bytes(micropython_image())
    rom = EspRom()
    rom.spoils_at = 0x9000

    with bench.board(rom):
        code = bench.command("--config", str(bench.config), "--image", str(image))

    assert code == 1
    assert "the flash does not keep what is written to it" in capsys.readouterr().err
    assert files_of(bench.flash) == {}


def test_a_pico_gets_micropython_by_its_drive_and_then_ours_by_the_port_that_comes(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    image = bench.folder / "RPI_PICO_W.uf2"
    image.write_bytes(uf2_image(count=300))
    words = ("--image", str(image), "--config", str(bench.config))

    with PicoDrive(bench.folder / "RPI-RP2", image.stat().st_size, bench.board) as drive:
        assert bench.command(str(drive.folder), *words) == 0

    said = capsys.readouterr().out
    assert drive.written == image.read_bytes()
    assert "greenhouse runs firmware" in said
    assert json.loads((bench.flash / "config.json").read_bytes()) == GREENHOUSE
    assert (bench.flash / "device.key").read_bytes().hex() == bench.kept_key()


def test_a_pico_is_not_given_the_image_of_another_chip(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    image = bench.folder / "RPI_PICO2.uf2"
    image.write_bytes(uf2_image(0xE48BFF59))
    words = ("--image", str(image), "--config", str(bench.config))

    with PicoDrive(bench.folder / "RPI-RP2", image.stat().st_size, bench.board) as drive:
        assert bench.command(str(drive.folder), *words) == 1

    assert "for an RP2350, and" in capsys.readouterr().err
    assert (drive.written, drive.is_gone) == (b"", False)


def test_what_cannot_be_right_is_refused_before_the_port_is_opened(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no board at all here: whoever looked for one would say so."""
    bad = bench.folder / "bad.json"
    bad.write_text('{"sensors": [{"kind": "bme820"}]}')
    bundle = bench.folder / "x.egb"
    bundle.write_bytes(b"PK\x05\x06" + bytes(18))
    text = bench.folder / "x.bin"
    text.write_bytes(secrets.token_bytes(8))
    nowhere = bench.folder / "nowhere.toml"  # where folders should be there is a file
    nowhere.write_text(
        bench.gateway.read_text().replace(f"{bench.folder}/outbox", f"{text}/outbox")
    )
    keyless = ("--gateway-config", str(nowhere))

    for words, code, said in (
        ((), 2, "say with --config what is wired"),
        (("--config", str(bad)), 2, "there is no kind 'bme820'; there are"),
        (("--config", str(bench.config), "--bundle", str(bundle)), 1, "without a manifest"),
        (("--config", str(bench.config), "--image", str(text)), 1, "not an image for an ESP32"),
        (("--config", str(bench.config), "--keep-config"), 2, "goes with neither"),
        (("--config", str(bench.config)), 1, "no board: none of"),
        ((*keyless, "--config", str(bench.config)), 1, "no key of a board can be kept there"),
        ((*keyless, "--no-key", "--config", str(bench.config)), 1, "no board: none of"),
        (("--config", str(bench.config), str(bench.port)), 1, "there is no such port"),
    ):
        assert bench.command(*words) == code
        assert said in capsys.readouterr().err


def test_the_key_of_a_board_without_one_is_kept_nowhere(bench: Bench) -> None:
    with bench.board():
        assert bench.command("--config", str(bench.config), "--no-key", "--name", "shed") == 0

    assert not (bench.flash / "device.key").exists()
    assert json.loads((bench.flash / "config.json").read_text())["name"] == "shed"
    store = KeyStore(bench.folder / "keys")
    store.load()
    assert store.ids(DEVICE) == ()


def test_a_file_that_arrives_otherwise_is_found_and_nothing_runs(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = settings_bundle(GREENHOUSE).files["config.json"]
    with bench.board() as board:
        board.corrupts = b2a_base64(sent)[:8]
        code = bench.command(str(bench.port), "--config", str(bench.config))

    assert code == 1
    assert "config.json: the board reads other bytes than were written" in capsys.readouterr().err
    assert (bench.flash / "config.json").read_bytes() != sent
    assert not (bench.flash / "main.py").exists()


KEY = bytes(range(32))
LOOKS = b"print(H("
"""How it asks for the hashes of files, before it changes any."""


@pytest.fixture
def ours(bench: Bench) -> Bench:
    """Return a board that was flashed before, and has a key."""
    bundle = own_bundle()
    lay_out(bench.flash, bundle.manifest, bundle.files, KEY)
    (bench.flash / "config.json").write_text(json.dumps(GREENHOUSE))
    store_of(bench).put(DEVICE, KEY)
    return bench


def store_of(bench: Bench) -> KeyStore:
    store = KeyStore(bench.folder / "keys")
    store.load()
    return store


def test_a_board_that_is_pulled_out_before_it_has_its_new_key_can_still_be_commanded(
    ours: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with ours.board() as board:
            board.unplugs_at = LOOKS
            assert ours.command(str(ours.port), "--keep-config") == 1
        # It was asked to leave, which takes the key it has.
        assert "its key is kept" in (said := capsys.readouterr()).out
        assert "sealed" not in said.out
        assert "cannot read its files" in said.err

    assert (ours.flash / "device.key").read_bytes() == KEY
    assert (ours.flash / "main.py").exists()
    store = store_of(ours)
    assert store.find(DEVICE, key_id(KEY)) == KEY
    assert len(store.ids(DEVICE)) == 3, "nobody knows how far either attempt came"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (json.dumps({**GREENHOUSE, "note": "x" * 9000}), "more than 8192 bytes"),
        ("[]", "are no JSON object"),
        ('{"name": "gr', "are no JSON object"),
    ],
)
def test_settings_that_cannot_be_kept_are_not_and_nothing_is_written(
    ours: Bench, capsys: pytest.CaptureFixture[str], settings: str, said: str
) -> None:
    (ours.flash / "main.py").unlink()  # an attempt that broke off: at the prompt
    (ours.flash / "config.json").write_text(settings)
    before = files_of(ours.flash)
    with ours.board():
        assert ours.command(str(ours.port), "--keep-config") == 1

    told = capsys.readouterr().err
    assert said in told
    assert "nothing was written" in told
    assert files_of(ours.flash).items() >= before.items()
    assert store_of(ours).ids(DEVICE) == (key_id(KEY),)


def test_a_board_that_is_not_flashed_after_all_runs_what_it_had(ours: Bench) -> None:
    """It was at its prompt already, where it says nothing."""
    (ours.flash / "config.json").write_text("[]")
    with ours.board():
        assert ours.command(str(ours.port), "--keep-config") == 1
        hello = await_hello(str(ours.port), 20.0)

    assert (hello.slot, hello.key_id) == ("a", key_id(KEY))


def test_a_question_that_nobody_answers_ends_it_in_words(bench: Bench) -> None:
    ports = [PtyPort(bench.folder / "port1"), PtyPort(bench.folder / "port2")]
    for port in ports:
        port.plug()
    terminal, inner = os.openpty()
    command = [sys.executable, "-m", "gateway", "flash", "--gateway-config", str(bench.gateway)]
    process = nursery.Popen(command, stdin=inner, stdout=inner, stderr=inner)
    try:
        os.close(inner)
        said = b""
        while b"which port?" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, b"port3\n\x04")
        said += read_to_the_end(terminal)
        assert process.wait(20) == 1
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
        for port in ports:
            port.unplug()

    assert said.count(b"which port?") == 2
    assert b"no answer to a question" in said
    assert b"Traceback" not in said

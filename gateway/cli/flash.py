"""Make a bare board one of ours: MicroPython, the firmware, its settings, and a key of its own.

A board with MicroPython needs nothing but its port. On one without, --image FILE is written first,
which erases it; without the file this says which one to get. It works while the gateway runs: that
lends the port, and has the board on MQTT as soon as it is back.
"""

import argparse
import json
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.bundle.archive import read_bundle
from gateway.bundle.bundle import Bundle
from gateway.bundle.manifest import FIRMWARE
from gateway.bundle.settings import MAX_BYTES, read_settings, settings_bundle
from gateway.cli.commands import OK
from gateway.cli.flash_output import Report
from gateway.cli.keeping import check_keeping, keep_key, offline
from gateway.cli.lending import borrowed
from gateway.config.loader import load
from gateway.config.models import Settings
from gateway.errors import BundleError, ConfigError, FlashError, GatewayError
from gateway.firmware_files import firmware_folder
from gateway.flash import esptool, volume
from gateway.flash.chips import CHIPS
from gateway.flash.esp_image import EspImage, check_chip, read_esp_image
from gateway.flash.layout import KEY_BYTES, SETTINGS, Layout, layout_of
from gateway.flash.provision import (
    NoMicroPythonError,
    Step,
    check_facts,
    install,
    open_board,
    restart,
)
from gateway.flash.repl import Facts, Repl, check_installed
from gateway.flash.uf2 import Uf2Image, read_uf2
from gateway.flash.wiring import ask_settings
from gateway.links.serial_ports import FoundPort, find_ports
from gateway.model import device_slug
from gateway.own_bundle import own_bundle
from gateway.protocol.guard import Keys, NoKeys
from gateway.protocol.message_values import Hello

EPILOG = """\
examples:
  edge-gateway flash                                    the only board there is; asks the rest
  edge-gateway flash /dev/ttyUSB0 --config board.json
  edge-gateway flash --image ESP32_GENERIC-20250415-v1.25.0.bin --config board.json
  edge-gateway flash --image RPI_PICO_W-20250415-v1.25.0.uf2     its BOOTSEL button was held
  edge-gateway flash --keep-config                      the firmware anew, settings as they are

board.json is the board's config.json, as device_firmware/README.md describes it. Images are those
of https://micropython.org/download: only their form is checked, as the gateway knows no list of
their hashes; give the one you trust with --sha256.
Exit codes: 0 the board runs and has said so, 1 it does not, 2 wrong usage or configuration.
"""

NEW_PORT_S: Final = 30.0
"""A board whose image was just written starts within seconds; its file system is made first."""

NEW_PORT_KNOWN_S: Final = 3.0
"""The gateway looks for new ports once a second."""

_STEP_S: Final = 0.2
_UF2_MAGIC: Final = b"UF2\n"
_MAX_IMAGE_BYTES: Final = 64 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the board, and what to make of it."""
    parser.add_argument(
        "port",
        nargs="?",
        metavar="PORT",
        help="where the board is (default: the only one); for a UF2 image also the Pico's drive",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the board's settings, JSON")
    parser.add_argument(
        "--keep-config", action="store_true", help="leave the settings that are on the board"
    )
    parser.add_argument("--name", help="what to call the board, in place of what its settings say")
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="write this MicroPython first; erases the board"
    )
    parser.add_argument("--sha256", metavar="HEX", help="what the image's SHA-256 has to be")
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help="another firmware than this gateway's"
    )
    parser.add_argument(
        "--no-key", action="store_true", help="a board that anybody on its line may command"
    )
    parser.add_argument(
        "--gateway-config", type=Path, metavar="FILE", help="the gateway's configuration, TOML"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Do it; all that can be checked is checked before anything is written."""
    settings = load(arguments.gateway_config)
    bundle = _bundle(arguments.bundle)
    check_installed()
    given = None if arguments.config is None else _given_settings(arguments)
    if arguments.keep_config and (given is not None or arguments.image or arguments.name):
        raise ConfigError("--keep-config goes with neither --config nor --name nor --image")
    if given is None and not arguments.keep_config and not sys.stdin.isatty():
        raise ConfigError("say with --config what is wired to the board: there is nobody to ask")
    image = None if arguments.image is None else _image(arguments.image, arguments.sha256)
    if not arguments.no_key:
        check_keeping(settings)
    with _ended_by_signals(), Report() as report:
        if isinstance(image, Uf2Image):
            port = _write_uf2(arguments, image, settings, report)
        else:
            port = _choose(arguments.port, settings, report)
        patience_s = NEW_PORT_KNOWN_S if isinstance(image, Uf2Image) else 0.0
        with borrowed(settings, port, report.say, patience_s):
            if isinstance(image, EspImage):
                _write_esp(port, image, arguments.image, report)
            repl = _reach(port, settings, report)
            try:
                hello = _set_up(port, repl, arguments, given, bundle, settings, report)
            except BaseException:
                repl.restart()  # as long as it has its main.py it goes on with what it was
                raise
    print(f"{hello.name or hello.id} runs firmware {hello.firmware} ({hello.manifest_hash})")
    return OK


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as Ctrl-C does: with esptool, and the port is back."""
    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # not what `nohup` or a caller has set
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bundle(path: Path | None) -> Bundle:
    if path is None:
        return own_bundle()
    bundle = read_bundle(path)
    if bundle.kind != FIRMWARE:
        raise ConfigError(f"{path}: expected firmware, found {bundle.kind}; see --config")
    return bundle


def _given_settings(arguments: argparse.Namespace) -> bytes:
    try:
        config = dict(read_settings(arguments.config))
        if arguments.name:
            config["name"] = arguments.name
        return settings_bundle(config, str(arguments.config)).files[SETTINGS]
    except BundleError as exc:
        raise ConfigError(str(exc)) from exc


def _image(path: Path, expected: str | None) -> EspImage | Uf2Image:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_IMAGE_BYTES)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    found = sha256(data).hexdigest()
    if expected is not None and found != expected.lower():
        raise FlashError(
            f"{path}: expected the SHA-256 {expected.lower()}, found {found}: get it anew; nothing "
            "was written"
        )
    if data.startswith(_UF2_MAGIC):
        return read_uf2(data, str(path))
    return read_esp_image(data, str(path))


def _choose(wanted: str | None, settings: Settings, report: Report) -> str:
    if wanted is not None:
        return wanted
    found = find_ports(settings.serial.patterns, settings.serial.exclude)
    if len(found) == 1:
        return found[0].path
    if not found:
        raise FlashError(
            "no board: none of "
            f"{', '.join(settings.serial.patterns)} is there; plug one in, or see with `dmesg` why "
            "it is not seen (a cable for charging only has no data lines)"
        )
    listed = "\n".join(f"  {_described(port)}" for port in found)
    if not sys.stdin.isatty():
        raise ConfigError(f"there are several ports; say which:\n{listed}")
    with report.paused():
        print(listed)
        while True:
            answer = _ask("which port?", "").strip()
            for port in found:
                if answer and answer in {port.path, port.name, port.device}:
                    return port.path


def _described(port: FoundPort) -> str:
    return f"{port.path}  {port.description}".rstrip()


def _write_esp(port: str, image: EspImage, path: Path, report: Report) -> None:
    report.step(Step("look which chip it is"))
    found = esptool.known_chip(port, esptool.find_chip(port))
    check_chip(image, found.name, str(path))
    report.say(f"{image.label}, {image.size_bytes} bytes, to {hex(found.offset)}")
    esptool.write_image(
        port, found, path, lambda name, percent: report.step(Step(name, percent, 100))
    )


def _write_uf2(
    arguments: argparse.Namespace, image: Uf2Image, settings: Settings, report: Report
) -> str:
    """Copy the image onto the Pico's drive, and return the port that comes then."""
    before = find_ports(settings.serial.patterns, settings.serial.exclude)
    drive = None if arguments.port is None else volume.volume_at(Path(arguments.port))
    drives = [drive] if drive is not None else volume.find_volumes()
    if not drives:
        raise FlashError(volume.no_volume([port.path for port in before]))
    if len(drives) > 1:
        listed = ", ".join(str(each.path) for each in drives)
        raise ConfigError(f"there are several drives; say which: {listed}")
    volume.check_pico(image, drives[0], str(arguments.image))
    report.step(Step("write MicroPython"))
    volume.copy_image(arguments.image.read_bytes(), drives[0], "MICROPY.UF2")
    report.step(Step("wait for its port"))
    return _new_port(before, settings).path


def _new_port(before: Sequence[FoundPort], settings: Settings) -> FoundPort:
    deadline_s = time.monotonic() + NEW_PORT_S
    while time.monotonic() < deadline_s:
        now = find_ports(settings.serial.patterns, settings.serial.exclude)
        fresh = [port for port in now if port.path not in {each.path for each in before}]
        if fresh:
            return fresh[0]
        time.sleep(_STEP_S)
    raise FlashError(
        f"no port came within {NEW_PORT_S:.0f} s after the image was written: plug the board in "
        "again, and flash without --image"
    )


def _reach(port: str, settings: Settings, report: Report) -> Repl:
    keys: Keys = NoKeys()
    with suppress(GatewayError, OSError):  # not ours to read: then a reset gets us in
        keys = offline(settings)
    try:
        return open_board(port, keys, report.step)
    except NoMicroPythonError as exc:
        if exc.is_ours:
            raise FlashError(
                f"{port}: our firmware runs there and does not let go ({exc}): run this as the "
                "gateway's user, or press the board's reset button as this starts"
            ) from exc
        raise FlashError(f"{exc}\n{_which_image(port)}") from exc


def _which_image(port: str) -> str:
    """Return which image the board needs, as far as that can be known."""
    try:
        name = esptool.find_chip(port)
    except FlashError as exc:
        return (
            f"  nor does a boot loader: {exc}\n"
            "  a Pico: hold BOOTSEL, plug it in, and write its .uf2 with --image"
        )
    chip = CHIPS.get(name)
    return f"  it is an {name}" + ("" if chip is None else f": {chip.advice}")


def _set_up(  # noqa: PLR0913, PLR0917 all that was found out so far
    port: str,
    repl: Repl,
    arguments: argparse.Namespace,
    given: bytes | None,
    bundle: Bundle,
    settings: Settings,
    report: Report,
) -> Hello:
    facts = repl.facts()
    check_facts(port, facts)
    version = ".".join(map(str, facts.version))
    report.say(f"{facts.board_id}: MicroPython {version}, {facts.machine}")
    if given is None and arguments.keep_config:
        given = _kept_settings(port, repl)
    if given is None:
        given = _asked_settings(facts, arguments.name, report)
    key = None if arguments.no_key else secrets.token_bytes(KEY_BYTES)
    layout = layout_of(bundle, given, key, firmware_folder())
    if key is not None:
        report.say(f"its key is kept {keep_key(settings, device_slug(facts.board_id), key)}")
    return _put(port, repl, layout, report)


def _put(port: str, repl: Repl, layout: Layout, report: Report) -> Hello:
    install(port, repl, layout, report.step)
    return restart(port, repl, layout, report.step)


def _kept_settings(port: str, repl: Repl) -> bytes:
    found = repl.read(SETTINGS, MAX_BYTES + 1)
    if found is None:
        raise FlashError(f"{port}: there are no settings on the board: say them with --config")
    if len(found) > MAX_BYTES:
        raise FlashError(
            f"{port}: the settings on the board have more than {MAX_BYTES} bytes: say shorter ones "
            "with --config; nothing was written"
        )
    try:
        is_object = isinstance(json.loads(found), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise FlashError(
            f"{port}: the settings on the board are no JSON object, and it measures nothing by "
            "them: say others with --config; nothing was written"
        )
    return found


def _asked_settings(facts: Facts, name: str | None, report: Report) -> bytes:
    with report.paused():
        while True:
            config = ask_settings(facts.platform, _ask, print)
            if name:
                config["name"] = name
            try:
                return settings_bundle(config).files[SETTINGS]
            except GatewayError as exc:
                print(f"{exc}\nonce more:")


def _ask(question: str, default: str) -> str:
    shown = f"{question} [{default}]: " if default else f"{question}: "
    try:
        return input(shown) or default
    except EOFError as exc:
        raise FlashError(
            "no answer to a question: say with PORT and --config what is meant"
        ) from exc

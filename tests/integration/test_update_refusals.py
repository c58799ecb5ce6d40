"""What may not be, or cannot be, through the whole chain: refused or taken back, and told on MQTT.

The daemon, mosquitto, and the real firmware under MicroPython, on ports.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.bundle.bundle import Bundle
from gateway.bundle.manifest import FIRMWARE, manifest_of
from gateway.errors import RequestError
from gateway.own_bundle import own_bundle
from gateway.protocol.frames import Frame, encode_frame
from gateway.protocol.messages import MessageType
from gateway.protocol.update_values import SIGNATURE_FILE, DataStatus
from gateway.simulate.boards import FirmwareBoard, Flash, Json
from gateway.simulate.firmware import find_interpreter
from gateway.simulate.slots import lay_out
from tests.support.broker import Broker
from tests.support.slot_boards import newer_firmware
from tests.support.slot_site import CONFIG, LONGEST_S, Installation, installed, packed
from tests.support.tap import Tap
from tests.support.updates import firmware

KEY = bytes(range(32))
RELEASE = Ed25519PrivateKey.from_private_bytes(KEY)
PUBLIC_KEY = RELEASE.public_key().public_bytes_raw().hex()


TAPPED, SIGNED, LONELY = "0000000000a1", "0000000000b2", "0000000000c3"


class Line:
    """The tapped port of a board: what is said of updates there, and one piece that is spoiled."""

    def __init__(self, folder: Path) -> None:
        self.tap = Tap(folder / "board0", folder / "tty0")
        self.tap.on_frame = self._on_frame
        self.begins = 0
        self.wrong = 0
        """Files of which the board said that their hash is wrong."""
        self.is_to_spoil = False

    def _on_frame(self, frame: Frame, is_to_board: bool) -> bool:
        self.begins += frame.type == MessageType.OTA_BEGIN
        if frame.type == MessageType.OTA_DATA_ACK:
            self.wrong += frame.payload[6] == DataStatus.HASH_WRONG
        is_piece = frame.type == MessageType.OTA_DATA and is_to_board
        file = int.from_bytes(frame.payload[:2], "little")
        if not (self.is_to_spoil and is_piece and file < SIGNATURE_FILE):
            return True
        self.is_to_spoil = False
        spoiled = frame.payload[:-1] + bytes([frame.payload[-1] ^ 1])
        line = encode_frame(frame._replace(payload=spoiled))
        self.tap.say_to_board(line.rstrip(b"\n"))
        return False


class Chain:
    """A gateway, and three boards: a tapped one, one that wants signatures, and one for settings.

    The last gives a trial of settings that reach no gateway up after a second.
    """

    def __init__(self, site: Installation, line: Line) -> None:
        self.site = site
        self.line = line
        self.tapped, self.signed, self.lonely = (
            f"linux-{board_id}" for board_id in (TAPPED, SIGNED, LONELY)
        )

    def told(self, device: str) -> Any:  # noqa: ANN401 - JSON
        """Return what is published of a board's updates."""
        (found,) = (
            each.json() for topic, each in self.site.newest("/update").items() if device in topic
        )
        return found

    async def until(self, device: str, state: str, reason: str = "") -> None:
        """Wait until a board's update is told to be so, for that reason."""

        def is_so(_messages: object) -> bool:
            told = self.told(device)
            return told["state"] == state and reason in told.get("reason", "")

        await self.site.heard.wait_for(is_so, timeout_s=LONGEST_S)

    async def is_delivering(self, device: str) -> None:
        """See that a board goes on measuring."""
        before = self._count(device)
        await self.site.heard.wait_for(lambda _: self._count(device) > before, timeout_s=LONGEST_S)

    def _count(self, device: str) -> int:
        return sum(len(each) for key, each in self.site.samples().items() if device in key)


def spoiled(bundle: Bundle) -> dict[str, Bundle]:
    """Return bundles in which something is wrong, by what is said of them."""
    path, *_ = bundle.files
    damaged = {**bundle.files, path: bundle.files[path][:-1] + b"?"}
    other = manifest_of(FIRMWARE, bundle.version, 5, bundle.files).to_bytes()
    return {
        f"{path} has the SHA-256": Bundle(bundle.manifest, damaged),
        "manifest": Bundle(bundle.manifest[:-40], bundle.files),
        "bytecode version 5": Bundle(other, bundle.files),
        "which is newer than 0.0.1": firmware("0.0.1"),
    }


async def try_what_is_wrong(chain: Chain, new: Bundle) -> None:
    """It is refused before a word of it is said to the board."""
    for words, bundle in spoiled(new).items():
        with pytest.raises(RequestError, match=words):
            await chain.site.ask("update", devices=[chain.tapped], bundle=packed(bundle))
    assert chain.line.begins == 0
    assert chain.site.rollout()["rollout"] == 0


async def try_signatures(chain: Chain, new: Bundle) -> None:
    """What the board refuses is told in its words; nothing of it can be booted."""
    signature = RELEASE.sign(new.manifest)
    wrong = RELEASE.sign(b"another manifest")
    for bundle, words in [
        (new, "not signed, and this board wants a signature"),
        (Bundle(new.manifest, new.files, wrong), "wrong signature"),
    ]:
        await chain.site.ask("update", devices=[chain.signed], bundle=packed(bundle))
        await chain.until(chain.signed, "refused", words)
        root = chain.site.boards[1].root
        assert json.loads((root / "slots.json").read_text())["t"] is None
        assert not (root / "b" / "manifest").exists()
    good = packed(Bundle(new.manifest, new.files, signature))
    await chain.site.ask("update", devices=[chain.signed], bundle=good)
    await chain.until(chain.signed, "done")


async def try_a_full_flash(chain: Chain, new: Bundle) -> None:
    """It is told, the board goes on, and later it works; a piece that is spoiled is sent again."""
    obstacle = chain.site.boards[0].root / "b" / "part"
    obstacle.mkdir(parents=True)  # nothing can be written there
    await chain.site.ask("update", devices=[chain.tapped], bundle=packed(new))
    await chain.until(chain.tapped, "waiting", "could not write the manifest again and again")
    await chain.is_delivering(chain.tapped)
    await chain.site.ask("update_abort", device=chain.tapped)
    await chain.until(chain.tapped, "aborted")

    obstacle.rmdir()
    chain.line.is_to_spoil = True
    await chain.site.ask("update", devices=[chain.tapped], bundle=packed(new))
    await chain.until(chain.tapped, "done")
    assert chain.line.wrong == 1


async def try_settings(chain: Chain, folder: Path) -> None:
    """Those that work are kept."""
    file = folder / "settings.json"
    file.write_text(json.dumps({**CONFIG, "name": "attic", "watchdog_s": 0}))
    done = await chain.site.command(chain.tapped, "--settings", str(file))
    assert done.code == 0, done
    assert "settings" in done.out
    kept = json.loads((chain.site.boards[0].root / "config.json").read_text())
    assert kept["name"] == "attic"


async def try_settings_that_lead_astray(chain: Chain, folder: Path) -> None:
    """Those that never reach the gateway are taken back."""
    in_force = chain.site.boards[2].root / "config.json"
    before = in_force.read_bytes()
    file = folder / "astray.json"
    astray: dict[str, Json] = {**CONFIG, "links": [{"kind": "uart", "id": 1}], "name": "lost"}
    file.write_text(json.dumps(astray))
    taken_back = await chain.site.command(chain.lonely, "--settings", str(file))
    assert taken_back.code == 1, taken_back
    assert "no gateway answered" in taken_back.out
    assert "to go on without" in taken_back.err
    await chain.until(chain.lonely, "rolled_back", "no gateway answered in 1 s")
    assert in_force.read_bytes() == before
    await chain.is_delivering(chain.lonely)


def boards(
    folder: Path, micropython: Path, monkeypatch: pytest.MonkeyPatch, uart: str
) -> list[FirmwareBoard]:
    """Return the three boards of `Chain`."""
    interpreter, own = find_interpreter(str(micropython)), own_bundle()
    monkeypatch.setenv("BOARD_TRIAL_ALIVE_MS", "500")
    monkeypatch.setenv("BOARD_UART1", uart)

    def make(board_id: str, port: str, key: bytes = b"", **more: Json) -> FirmwareBoard:
        root = folder / f"flash-{board_id}"
        lay_out(root, own.manifest, own.files, key)
        flash = Flash({**CONFIG, **more, "watchdog_s": 0})
        return FirmwareBoard(folder / port, root, flash, interpreter, board_id=board_id)

    tapped = make(TAPPED, "board0")
    signed = make(SIGNED, "tty1", KEY, require_signature=PUBLIC_KEY)
    monkeypatch.setenv("BOARD_TRIAL_GATEWAY_MS", "1500")
    return [tapped, signed, make(LONELY, "tty2")]


def test_what_is_wrong_is_refused_or_taken_back_and_the_reason_is_told(
    micropython_bin: Path, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = newer_firmware(tmp_path / "new")
    nobody, uart = os.openpty()
    three = boards(tmp_path, micropython_bin, monkeypatch, os.ttyname(uart))

    async def run() -> None:
        line = Line(tmp_path)
        async with installed(three, broker, tmp_path) as site:
            while not (tmp_path / "board0").exists():  # noqa: ASYNC110 - a port tells nobody
                await asyncio.sleep(0.01)
            line.tap.open()
            try:
                async with site.daemon():
                    await site.all_there()
                    chain = Chain(site, line)
                    await site.ask("keep_key", device=chain.signed, key=KEY.hex())
                    await try_what_is_wrong(chain, new)
                    async with asyncio.TaskGroup() as tasks:  # each with a board of its own
                        tasks.create_task(try_signatures(chain, new))
                        tasks.create_task(try_settings_that_lead_astray(chain, tmp_path))
                        await try_settings(chain, tmp_path)
                        await try_a_full_flash(chain, new)
                    site.assert_nothing_is_lost(but_of=chain.lonely)
            finally:
                line.tap.close()

    try:
        asyncio.run(run())
    finally:
        os.close(nobody)
        os.close(uart)

"""Which MicroPython is taken, what is laid out, and which HELLO counts."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.bundle.bundle import Bundle
from gateway.errors import FlashError
from gateway.flash.layout import Layout, layout_of
from gateway.flash.line import BoardLine, await_hello
from gateway.flash.provision import check_facts, install, restart
from gateway.flash.repl import Facts, Repl
from gateway.protocol.frames import Frame, encode_frame, open_frame
from gateway.protocol.guard import NoKeys
from gateway.protocol.message_values import Command, Hello, Response, Welcome
from gateway.protocol.messages import decode, encode
from gateway.simulate.pty_port import PtyPort
from tests.support.terminals import gather

FACTS = Facts("micropython", (1, 23, 0), 0x0B06, "ESP32", "esp32", b"\xa1\xb2\xc3", 1 << 20)

HELLO = Hello(1, "esp32-a1b2c3", 7, 0, 0, manifest_hash="00112233aabbccdd")


def test_the_oldest_micropython_that_will_do_does() -> None:
    check_facts("ttyA", FACTS)

    assert FACTS.board_id == "esp32-a1b2c3"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FACTS, version=(1, 22, 2)), "expected MicroPython 1.23 or newer, found 1.22.2"),
        (
            replace(FACTS, implementation="circuitpython", version=(9, 1, 0)),
            "expected .*, found circ",
        ),
        (replace(FACTS, mpy=0x0105), "expected bytecode version 6, and .* runs 5"),
    ],
)
def test_what_the_firmware_does_not_run_on_is_refused(facts: Facts, said: str) -> None:
    with pytest.raises(FlashError, match=f"ttyA: {said}"):
        check_facts("ttyA", facts)


def test_main_py_is_written_last_and_the_slot_is_what_the_hello_will_say(tmp_path: Path) -> None:
    for name in ("main.py", "boot_sel.py"):
        (tmp_path / name).write_text(name)
    bundle = Bundle.firmware("0.2.0", {"board/app.mpy": b"M\x06\x00\x1f"})
    key = bytes(range(32))

    layout = layout_of(bundle, b"{}", key, tmp_path)

    assert list(layout.files) == [
        *("a/board/app.mpy", "a/manifest", "config.json", "device.key", "slots.json"),
        *("boot_sel.py", "main.py"),
    ]
    assert json.loads(layout.files["slots.json"]) == {"a": "a", "t": None, "n": 0}
    assert layout.manifest_hash == sha256(layout.files["a/manifest"]).hexdigest()[:16]
    assert layout.key_id == sha256(key).hexdigest()[:8]
    without = layout_of(bundle, b"{}", None, tmp_path)
    assert ("device.key" in without.files, without.key_id) == (False, "")


def test_what_a_board_has_measured_is_left_to_the_gateway(tmp_path: Path) -> None:
    """It is welcomed without credit, and nothing it has counts as delivered."""
    port = PtyPort(tmp_path / "port")
    port.plug()
    hello = replace(HELLO, epoch=7, next_seq=100, unacked=40)

    with BoardLine(str(port.link_path)) as line:
        port.write(encode_frame(encode(Response("flash", None))))  # it is quick
        line.leave_for_repl(hello, NoKeys())
        sent = b""
        while sent.count(b"\n") < 4:  # each line has one before it, too
            sent += gather(port.read, port.fileno(), 1)
    port.unplug()

    frames = [open_frame(each) for each in sent.splitlines() if each]
    welcome, command = (decode(each) for each in frames if isinstance(each, Frame))
    assert isinstance(welcome, Welcome)
    assert (welcome.epoch, welcome.next_seq, welcome.credit) == (7, 60, 0)
    assert isinstance(command, Command)
    assert command.name == "repl"


class Full(Repl):
    """A board whose file system has so much room, and none of the files."""

    def __init__(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self.written: list[str] = []

    def facts(self) -> Facts:
        return replace(FACTS, free_bytes=self._free_bytes, block_bytes=4096)

    def wrong_files(
        self, files: Mapping[str, bytes], progress: Callable[[int], None]
    ) -> dict[str, bytes]:
        progress(len(files))
        return {} if self.written else dict(files)

    def remove(self, path: str) -> None:
        pass

    def list_files(self, _path: str) -> list[str]:
        return []

    def make_folders(self, names: Iterable[str]) -> None:
        pass

    def write(self, name: str, data: bytes, progress: Callable[[int], None]) -> None:
        progress(len(data))
        self.written.append(name)


def test_files_need_room_in_blocks_and_nothing_is_written_without_it() -> None:
    """Four small ones and one of 4,096 bytes take six blocks; 16 KB stay free."""
    files = {"a": b"", "b": b"x" * 100, "c": b"x" * 4095, "d": b"x" * 4096, "main.py": b"x"}
    layout = Layout(files, "", "")
    needed = 6 * 4096 + 16 * 1024
    full, roomy = Full(needed - 1), Full(needed)

    with pytest.raises(FlashError, match="ttyA: its file system has 39 KB free, and 40 KB are nee"):
        install("ttyA", full, layout, lambda _step: None)
    install("ttyA", roomy, layout, lambda _step: None)

    assert full.written == []
    assert roomy.written == [*files]


def test_only_the_right_hello_counts(tmp_path: Path) -> None:
    port = PtyPort(tmp_path / "port")
    port.plug()
    port.write(b"Traceback (most recent call last):\n" + encode_frame(encode(HELLO)))

    with pytest.raises(FlashError, match="the board says it runs 00112233aabbccdd"):
        await_hello(str(port.link_path), 0.2, lambda hello: hello.manifest_hash == "ff" * 8)

    port.write(encode_frame(encode(HELLO)))
    assert await_hello(str(port.link_path), 5.0).id == "esp32-a1b2c3"
    port.unplug()


class Resets:
    """A board that says HELLO when it is restarted."""

    def __init__(self, port: PtyPort, hello: Hello) -> None:
        self._port, self._hello = port, hello

    def reset(self) -> None:
        self._port.write(encode_frame(encode(self._hello)))


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        (HELLO, "says it runs 00112233aabbccdd"),
        (replace(HELLO, manifest_hash="ab" * 8), "says its key is none, and 01020304 was written"),
    ],
)
def test_a_board_that_runs_something_else_is_not_done(
    hello: Hello, said: str, tmp_path: Path
) -> None:
    port = PtyPort(tmp_path / "port")
    port.plug()
    layout = Layout({}, "ab" * 8, "01020304")

    with pytest.raises(FlashError, match=said):
        restart(str(port.link_path), Resets(port, hello), layout, lambda _step: None, 0.3)
    port.unplug()


def test_what_came_instead_of_a_hello_is_told(tmp_path: Path) -> None:
    port = PtyPort(tmp_path / "port")
    port.plug()
    port.write(b"MemoryError: memory allocation failed\n")

    with pytest.raises(FlashError, match="what came instead:\n  MemoryError: memory allocation"):
        await_hello(str(port.link_path), 0.2)
    port.unplug()
    with pytest.raises(FlashError, match="there is no such port"):
        await_hello(str(port.link_path), 0.2)

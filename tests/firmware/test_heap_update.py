"""What heap an update needs, as `test_heap_budget` measures it; a chip's grows by itself."""

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.firmware.bundles import Made, made
from tests.firmware.test_heap_budget import CONFIG, HEAP, FlashBench, lay_out
from tests.firmware.updater import BEGIN, Updater, seal_of

pytestmark = pytest.mark.alone

KEY = bytes(range(32))
RELEASE = Ed25519PrivateKey.from_private_bytes(KEY)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flash = tmp_path_factory.mktemp("flash")
    lay_out(flash, tmp_path_factory.mktemp("stand_ins"))
    return flash


def bench_of(heap: str, micropython: Path, compiled: Path, flash: Path) -> FlashBench:
    shutil.copytree(compiled, flash)
    return FlashBench((str(micropython), "-X", f"heapsize={heap}"), flash)


def changed(flash: Path) -> Made:
    """Return the firmware of that board with one file changed."""
    slot = flash / "a"
    files = {str(path.relative_to(slot)): path.read_bytes() for path in slot.rglob("*.mpy")}
    files["sensors/heap.mpy"] += b"x"
    return made(files, v="0.2.0", mpy=6)


@pytest.mark.parametrize(
    ("heap", "is_signed"), [("96K", False), ("112K", True)], ids=["sealed", "sealed and signed"]
)
def test_an_update_fits_into_the_heap_the_readme_names(
    micropython_i386_bin: Path, compiled: Path, tmp_path: Path, heap: str, *, is_signed: bool
) -> None:
    bench = bench_of(heap, micropython_i386_bin, compiled, tmp_path / "flash")
    new = changed(bench.flash)
    config = dict(CONFIG)
    if is_signed:
        config["require_signature"] = RELEASE.public_key().public_bytes_raw().hex()
    (bench.flash / "device.key").write_bytes(KEY)
    (bench.flash / "config.json").write_text(json.dumps(config))

    with bench.board() as board:
        board.await_records(60)
        signature = RELEASE.sign(new.manifest) if is_signed else b""
        frame = Updater(board, new, seal_of(board, KEY), signature=signature).run()

    assert frame.json == {"s": "trial", "mh": new.mh}
    assert board.gateway.gaps == []


def test_where_the_heap_is_too_small_for_an_update_the_board_goes_on(
    micropython_i386_bin: Path, compiled: Path, tmp_path: Path
) -> None:
    bench = bench_of(HEAP, micropython_i386_bin, compiled, tmp_path / "flash")

    with bench.board() as board:
        board.await_records(60)
        updater = Updater(board, changed(bench.flash))
        for _ in range(3):
            updater.say(BEGIN, updater.begin_body())
            board.await_records(len(board.gateway.records) + 30)
        code = board.power_off()

    assert board.gateway.gaps == []
    assert code == 0

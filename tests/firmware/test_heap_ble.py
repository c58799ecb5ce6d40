"""What a board with BLE beside its serial line needs of heap, as `test_heap_budget` measures it.

The stand-in for `bluetooth`, which on a chip is written in C, takes 1 KB of heap. A central is
connected from the first advert on and takes notifications, so that both sessions are at work.
"""

import json
import shutil
from pathlib import Path

import pytest

from tests.firmware.model_gateway import CMD, LOG, json_line
from tests.firmware.test_heap_budget import CONFIG, FlashBench, lay_out

pytestmark = pytest.mark.alone

BLUETOOTH = """\
class UUID:
    def __init__(self, text): pass
    def __iter__(self): return iter(bytes(16))
    def __len__(self): return 16
class BLE:
    def active(self, on): pass
    def config(self, *query, mtu=0, gap_name=""): return (0, b"budget")
    def irq(self, handler): self.handler = handler
    def gatts_register_services(self, services): return ((1, 2),)
    def gatts_set_buffer(self, handle, size): pass
    def gatts_read(self, handle): return b""
    def gatts_notify(self, connection, handle, data): pass
    def gap_disconnect(self, connection): self.handler(2, (0,))
    def gap_advertise(self, us, adv_data=None, resp_data=None, connectable=True):
        if connectable:
            self.handler(1, (0,))
            self.handler(21, (0, 247))
"""

BLE = {**CONFIG, "links": ["stdio", "ble"]}
KEY = "231d39c1d7cc1ab1aee224cd096db932"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flash, stand_ins = tmp_path_factory.mktemp("flash"), tmp_path_factory.mktemp("stand_ins")
    (stand_ins / "bluetooth.py").write_text(BLUETOOTH)
    lay_out(flash, stand_ins)
    return flash


@pytest.mark.parametrize(
    ("heap", "config"),
    [
        ("64K", BLE),
        ("80K", {**BLE, "bthome": True, "ble_key": KEY, "durability": "batch"}),
    ],
    ids=["serial and BLE", "and encrypted adverts and flash"],
)
def test_serial_and_ble_fit_into_the_heap_the_readme_names(
    micropython_i386_bin: Path, compiled: Path, tmp_path: Path, heap: str, config: dict[str, object]
) -> None:
    flash = shutil.copytree(compiled, tmp_path / "flash")
    (flash / "config.json").write_text(json.dumps(config))
    bench = FlashBench((str(micropython_i386_bin), "-X", f"heapsize={heap}"), flash)

    with bench.board() as board:
        board.await_records(250)
        info = board.command("info", cid="1")["ok"]
        board.await_records(500)
        again = board.command("info", cid="2")["ok"]
        code = board.power_off()

    assert board.gateway.gaps == []
    assert board.of_kind(LOG) == []
    assert info["errors"] == again["errors"] == {}
    assert [link["link"] for link in info["links"]] == ["stdio", "ble"]
    assert info["links"][1]["sent"] > 0
    assert min(info["heap_free"], again["heap_free"]) > 4096, (info, again)
    assert code == 0


def test_where_the_heap_is_too_small_for_an_answer_the_board_goes_on(
    micropython_i386_bin: Path, compiled: Path, tmp_path: Path
) -> None:
    """What cannot be sent must not stand in the way of readings."""
    flash = shutil.copytree(compiled, tmp_path / "flash")
    (flash / "config.json").write_text(json.dumps(BLE))
    bench = FlashBench((str(micropython_i386_bin), "-X", "heapsize=62K"), flash)

    with bench.board() as board:
        board.await_records(60)
        for number in range(5):
            board.send(json_line(CMD, {"c": "info", "cid": str(number)}, mid=number))
            board.await_records(len(board.gateway.records) + 60)
        code = board.power_off()

    assert board.gateway.gaps == []
    assert code == 0

"""The boards' keys on the disk: who may read them, and what is never lost."""

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.protocol.sealed import key_id, rotated
from gateway.store.keys import MAX_BEFORE, BoardKey, KeyStore, parse_keys

KEY, OTHER_KEY = bytes(range(32)), b"\xb2" * 32


def loaded(folder: Path, credential: Path | None = None) -> KeyStore:
    store = KeyStore(folder, credential)
    store.load()
    return store


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_there_for_the_next_run_and_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "keys"
    store = loaded(folder)

    store.put("shed", KEY)

    for each in (store, loaded(folder)):
        assert each.get("shed") == BoardKey(KEY)
        assert each.ids("shed") == (key_id(KEY),)
        assert each.find("shed", key_id(KEY)) == KEY
        assert each.find("mast", key_id(KEY)) is None
        assert each.devices() == ["shed"]
    assert (folder / "shed").read_text() == KEY.hex() + "\n"
    assert (mode_of(folder), mode_of(folder / "shed")) == (0o700, 0o600)
    assert os.listdir(folder) == ["shed"]


def test_without_a_folder_there_are_no_keys(tmp_path: Path) -> None:
    assert loaded(tmp_path / "keys").devices() == []


def test_what_others_could_read_they_cannot_any_more_and_its_owner_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "shed").write_text(KEY.hex())
    (folder / "shed").chmod(0o640)

    store = loaded(folder)

    assert store.find("shed", key_id(KEY)) == KEY
    assert (mode_of(folder), mode_of(folder / "shed")) == (0o700, 0o600)
    assert "key of shed: others could read the file" in caplog.text
    assert "keys rotate shed" in caplog.text
    caplog.clear()
    loaded(folder)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\xff\xfe" * 40, KEY.hex()[:-2].encode(), b"g" * 64, b"00 " * 21, b"0" * 1000],
    ids=["empty", "newline", "noise", "too short", "no hex", "blanks", "too long"],
)
def test_a_file_without_a_key_is_told_without_what_is_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    loaded(tmp_path / "keys").put("mast", OTHER_KEY)
    (tmp_path / "keys" / "shed").write_bytes(content)
    (tmp_path / "keys" / "shed").chmod(0o600)

    store = loaded(tmp_path / "keys")

    assert store.devices() == ["mast"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "shed holds none" in caplog.text
    assert len(content) < 10 or content.decode("ascii", "replace").strip() not in caplog.text


def test_a_name_that_is_none_of_ours_is_not_looked_at_or_written(tmp_path: Path) -> None:
    store = loaded(tmp_path / "keys")
    store.put("shed", KEY)
    (tmp_path / "keys" / ".mast.1-0.draft").write_text(KEY.hex())

    for name in ("../shed", "", "Shed", "a" * 80, "shed\n"):
        with pytest.raises(StoreError, match="is no device"):
            store.put(name, KEY)
        with pytest.raises(StoreError, match="is no device"):
            store.remove(name)
    assert loaded(tmp_path / "keys").devices() == ["shed"]


def test_a_key_that_is_replaced_stays_until_the_board_was_seen_with_the_new_one(
    tmp_path: Path,
) -> None:
    """`flash` keeps a key before the board has it, and may break off there."""
    store = loaded(tmp_path / "keys")
    store.put("shed", KEY)

    store.put("shed", OTHER_KEY)

    for each in (store, loaded(tmp_path / "keys")):
        assert each.ids("shed") == (key_id(OTHER_KEY), key_id(KEY))
        assert each.find("shed", key_id(KEY)) == KEY
        assert KEY.hex() in each.secrets()
    assert not store.settle("shed", key_id(KEY)), "it has the old one still"
    assert store.ids("shed") == (key_id(OTHER_KEY), key_id(KEY))
    assert store.settle("shed", key_id(OTHER_KEY))
    assert store.get("shed") == loaded(tmp_path / "keys").get("shed") == BoardKey(OTHER_KEY)


def test_the_oldest_key_survives_any_number_of_attempts(tmp_path: Path) -> None:
    """That is the one the board was seen with; the newest may have reached it."""
    store = loaded(tmp_path / "keys")
    drawn = [bytes([number]) * 32 for number in range(8)]
    for key in drawn:
        store.put("shed", key)

    kept = loaded(tmp_path / "keys").get("shed")

    assert kept == BoardKey(drawn[-1], before=(drawn[0], *drawn[4:7]))
    assert len(kept.before) == MAX_BEFORE


def test_an_old_key_that_is_put_back_costs_the_present_one_nothing(tmp_path: Path) -> None:
    store = loaded(tmp_path / "keys")
    store.put("shed", KEY)
    new_key = rotated(KEY, store.begin_rotation("shed", KEY))

    store.put("shed", KEY)
    assert store.ids("shed") == (key_id(KEY), key_id(new_key)), "its change goes on"
    store.settle("shed", key_id(new_key))
    store.put("shed", KEY)

    assert store.get("shed") == BoardKey(KEY, before=(new_key,))
    again = rotated(new_key, store.begin_rotation("shed", new_key))  # as the board says
    assert store.ids("shed") == (key_id(new_key), key_id(again), key_id(KEY))
    assert not store.settle("shed", key_id(new_key))
    assert store.settle("shed", key_id(again))
    assert store.get("shed") == BoardKey(again)


@pytest.mark.parametrize("line", ["before", "before zz", "before " + "00" * 31, "later"])
def test_a_line_that_is_none_costs_the_key_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "shed").write_text(f"{KEY.hex()}\n{line}\nbefore {OTHER_KEY.hex()}\n")

    assert loaded(tmp_path).get("shed") == BoardKey(KEY, before=(OTHER_KEY,))


def test_a_removed_key_is_gone_for_good(tmp_path: Path) -> None:
    store = loaded(tmp_path / "keys")
    store.put("shed", KEY)

    assert store.remove("shed")
    assert not store.remove("shed")

    assert store.ids("shed") == loaded(tmp_path / "keys").ids("shed") == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_whose_the_state_is(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 4711, 4712)

    loaded(state / "keys").put("shed", KEY)

    for path in (state / "keys", state / "keys" / "shed"):
        assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_no_folder_away_that_a_link_stands_for(tmp_path: Path) -> None:
    """The account whose the state is could have put it there."""
    state, other = tmp_path / "state", tmp_path / "other"
    state.mkdir()
    other.mkdir(0o700)
    os.chown(state, 4711, 4712)
    (state / "keys").symlink_to(other)

    with pytest.raises(StoreError, match="shed"):
        loaded(state / "keys").put("shed", KEY)

    assert other.stat().st_uid == 0
    assert os.listdir(other) == []


def test_keys_that_systemd_gives_are_known_and_never_written(tmp_path: Path) -> None:
    credential = tmp_path / "device-keys"
    credential.write_text(f"# ours\nMast {OTHER_KEY.hex()}\nshed {OTHER_KEY.hex()} # spare\n")
    store = loaded(tmp_path / "keys", credential)
    store.put("shed", KEY)

    assert store.devices() == ["mast", "shed"]
    assert store.ids("shed") == (key_id(KEY), key_id(OTHER_KEY))
    assert store.find("mast", key_id(OTHER_KEY)) == OTHER_KEY
    assert not store.remove("mast")
    assert store.ids("mast") == (key_id(OTHER_KEY),)
    assert sorted(store.secrets()) == sorted([KEY.hex(), OTHER_KEY.hex(), OTHER_KEY.hex()])


@pytest.mark.parametrize("content", ["shed\n", f"shed {KEY.hex()} more", "shed 00", "\udcff"])
def test_a_credential_that_cannot_be_understood_is_told_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    credential = tmp_path / "device-keys"
    credential.write_text(content, errors="surrogateescape")

    assert loaded(tmp_path / "keys", credential).devices() == []
    assert "keys of the credential device-keys: none is used" in caplog.text
    assert KEY.hex() not in caplog.text


def test_lines_of_keys_are_read_as_they_are_exported() -> None:
    assert parse_keys(f"\n b1\t{KEY.hex()}\nb1 {OTHER_KEY.hex()}\n") == {"b1": (KEY, OTHER_KEY)}


def test_a_rotation_begun_again_asks_for_the_same_key(tmp_path: Path) -> None:
    store = loaded(tmp_path / "keys")
    store.put("shed", KEY)

    salt = store.begin_rotation("shed", KEY)

    assert store.begin_rotation("shed", KEY) == salt
    assert loaded(tmp_path / "keys").begin_rotation("shed", KEY) == salt
    assert store.ids("shed") == (key_id(KEY), key_id(rotated(KEY, salt)))


def test_no_rotation_takes_the_place_of_a_key_the_board_may_have(tmp_path: Path) -> None:
    store = loaded(tmp_path / "keys")
    store.put("shed", KEY)
    store.begin_rotation("shed", KEY)
    ids = store.ids("shed")

    with pytest.raises(StoreError, match="another key is kept"):
        store.begin_rotation("shed", OTHER_KEY)  # a HELLO that anybody could have said

    assert loaded(tmp_path / "keys").ids("shed") == ids


def test_a_rotation_ends_when_the_board_uses_the_new_key(tmp_path: Path) -> None:
    store = loaded(tmp_path / "keys")
    store.put("shed", KEY)
    new_key = rotated(KEY, store.begin_rotation("shed", KEY))

    assert not store.settle("shed", key_id(KEY))
    assert not store.settle("mast", key_id(new_key))
    assert store.settle("shed", key_id(new_key))
    assert not store.settle("shed", key_id(new_key))

    assert store.get("shed") == loaded(tmp_path / "keys").get("shed") == BoardKey(new_key)
    assert store.ids("shed") == (key_id(new_key),)


def test_a_key_that_systemd_gave_is_rotated_into_a_file(tmp_path: Path) -> None:
    credential = tmp_path / "device-keys"
    credential.write_text(f"shed {KEY.hex()}\n")
    store = loaded(tmp_path / "keys", credential)

    new_key = rotated(KEY, store.begin_rotation("shed", KEY))
    store.settle("shed", key_id(new_key))

    assert loaded(tmp_path / "keys", credential).ids("shed") == (key_id(new_key), key_id(KEY))


class Rotation:
    """One rotation, cut off after any of its steps; the board is as the protocol has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = loaded(folder)
        self.board_key = KEY
        self._salt = b""

    def steps(self) -> list[Callable[[], object]]:
        return [self._begin, self._rekey, self._hello]

    def restart_gateway(self) -> None:
        self.store = loaded(self.folder)

    def _begin(self) -> None:
        current = self.store.find("shed", key_id(self.board_key))
        assert current == self.board_key
        self._salt = self.store.begin_rotation("shed", current)

    def _rekey(self) -> None:
        self.board_key = rotated(self.board_key, self._salt)  # written by rename

    def _hello(self) -> None:
        self.store.settle("shed", key_id(self.board_key))


@pytest.mark.parametrize("first_cut", range(4))
@pytest.mark.parametrize("second_cut", range(4))
def test_wherever_rotations_are_cut_off_somebody_has_the_board_s_key(
    tmp_path: Path, first_cut: int, second_cut: int
) -> None:
    loaded(tmp_path / "keys").put("shed", KEY)
    rotation = Rotation(tmp_path / "keys")

    for cut in (first_cut, second_cut, 3):
        for step in rotation.steps()[:cut]:
            step()
            after_a_kill = loaded(tmp_path / "keys")
            assert after_a_kill.find("shed", key_id(rotation.board_key)) == rotation.board_key
        rotation.restart_gateway()
        rotation.store.settle("shed", key_id(rotation.board_key))  # its next HELLO

    assert rotation.board_key != KEY
    assert rotation.store.get("shed") == BoardKey(rotation.board_key)


def test_a_disk_that_takes_nothing_leaves_what_was_kept(tmp_path: Path) -> None:
    store = loaded(tmp_path / "keys")
    store.put("shed", KEY)
    (tmp_path / "keys" / "shed").unlink()
    (tmp_path / "keys" / "shed" / "in the way").mkdir(parents=True)

    with pytest.raises(StoreError, match="shed"):
        store.put("shed", OTHER_KEY)
    with pytest.raises(StoreError, match="shed"):
        store.begin_rotation("shed", KEY)
    with pytest.raises(StoreError, match="shed"):
        store.remove("shed")

    assert store.get("shed") == BoardKey(KEY)
    assert store.ids("shed") == (key_id(KEY),)

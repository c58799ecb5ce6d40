from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulate.faults.disk import cut, cuts, flip_bits, flipped


def differing_bits(one: bytes, other: bytes) -> int:
    assert len(one) == len(other)
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


@given(st.binary(max_size=300), st.integers(0, 5), st.integers(0, 50))
def test_so_many_bits_are_flipped_and_the_length_stays(
    content: bytes, seed: int, count: int
) -> None:
    damaged = flipped(content, seed, count)

    assert differing_bits(content, damaged) == min(count, 8 * len(content))
    assert damaged == flipped(content, seed, count)


def test_another_seed_flips_other_bits() -> None:
    assert flipped(bytes(1000), 1, 10) != flipped(bytes(1000), 2, 10)


def test_the_bits_of_a_file_are_flipped_in_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))

    flip_bits(path, seed=4, count=3)

    assert path.read_bytes() == flipped(bytes(range(256)), 4, 3)


@pytest.mark.parametrize(("offset", "left"), [(0, 0), (1, 1), (699, 699), (700, 700), (900, 700)])
def test_a_cut_file_ends_there_and_never_grows(tmp_path: Path, offset: int, left: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(700))

    cut(path, offset)

    assert path.stat().st_size == left


def test_a_file_cannot_end_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ValueError, match="-1"):
        cut(tmp_path / "file", -1)


def test_a_file_is_cut_at_every_step_in_fresh_copies_with_its_neighbours(tmp_path: Path) -> None:
    folder, into = tmp_path / "store", tmp_path / "copy"
    folder.mkdir()
    content = bytes(range(256)) * 5
    (folder / "store.db").write_bytes(content)
    (folder / "store.db-wal").write_bytes(b"log")
    offsets = []

    for offset, path in cuts(folder / "store.db", into):
        offsets.append(offset)
        assert path.read_bytes() == content[:offset]
        assert (into / "store.db-wal").read_bytes() == b"log"
        (into / "store.db-wal").write_bytes(b"spoiled")
        (into / "left behind").touch()
        assert sorted(entry.name for entry in folder.iterdir()) == ["store.db", "store.db-wal"]

    assert offsets == [0, 512, 1024]
    assert (folder / "store.db").read_bytes() == content


def test_an_empty_file_cannot_be_cut(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()

    assert list(cuts(tmp_path / "a" / "file", tmp_path / "b")) == []

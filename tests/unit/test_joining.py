"""Who may join, and that it is remembered."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.joining import MAX_JOINED, JoinPolicy
from gateway.store.joined import Joined, JoinedFile
from tests.support.file_size import no_file_may_grow_beyond

BATH, ATTIC, STRANGER = "A4:C1:38:00:00:01", "A4:C1:38:00:00:02", "66:55:44:33:22:11"


def test_open_takes_everybody() -> None:
    assert JoinPolicy("open").join(STRANGER, 0.0)


@pytest.mark.parametrize("mode", ["listed", "window"])
def test_who_is_listed_or_joined_earlier_is_a_member_and_nobody_else(mode: str) -> None:
    assert mode in ("listed", "window")
    policy = JoinPolicy("listed" if mode == "listed" else "window", [BATH], [ATTIC])

    assert [policy.join(address, 0.0) for address in (BATH, ATTIC, STRANGER)] == [True, True, False]


def test_a_window_lets_in_who_is_heard_while_it_is_open() -> None:
    told: list[str] = []
    policy = JoinPolicy("window", on_joined=lambda: told.append("joined"))
    policy.open_window(100.0, 60.0)

    assert policy.join(BATH, 159.9)
    assert policy.join(BATH, 1000.0), "it stays a member"
    assert not policy.join(STRANGER, 160.0)
    assert policy.joined == (BATH,)
    assert told == ["joined"]


def test_a_window_is_of_no_use_where_only_listed_ones_may_join() -> None:
    policy = JoinPolicy("listed")
    policy.open_window(0.0, 60.0)

    assert not policy.join(STRANGER, 1.0)


def test_a_window_can_be_closed_early() -> None:
    policy = JoinPolicy("window")
    policy.open_window(0.0, 60.0)
    policy.open_window(1.0, 0.0)

    assert not policy.join(STRANGER, 1.0)


def test_who_was_removed_has_to_join_again() -> None:
    policy = JoinPolicy("window", joined=[BATH])

    assert policy.remove(BATH)
    assert not policy.remove(BATH)
    assert not policy.join(BATH, 0.0)


def test_strangers_without_end_do_not_fill_the_list() -> None:
    policy = JoinPolicy("window")
    policy.open_window(0.0, 60.0)

    for number in range(MAX_JOINED + 10):
        policy.join(f"00:00:00:00:{number >> 8:02X}:{number & 255:02X}", 1.0)

    assert len(policy.joined) == MAX_JOINED


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state" / "joined"

    assert JoinedFile(path).load() == Joined()
    JoinedFile(path).save(Joined([BATH, ATTIC]))
    JoinedFile(path).save(Joined([ATTIC, BATH], {BATH: "bath"}))

    assert JoinedFile(path).load() == Joined([ATTIC, BATH], {BATH: "bath"})
    assert [entry.name for entry in path.parent.iterdir()] == ["joined"]


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "joined"
    JoinedFile(path).save(Joined([BATH]))

    with no_file_may_grow_beyond(10), pytest.raises(OSError, match="too large"):
        JoinedFile(path).save(Joined([ATTIC]))

    assert JoinedFile(path).load() == Joined([BATH], {})


def test_a_file_of_before_boards_were_remembered_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "joined"
    path.write_text(json.dumps({"joined": [BATH]}))

    assert JoinedFile(path).load() == Joined([BATH], {})


def test_what_is_wrong_of_the_boards_is_left_out_and_costs_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "joined"
    boards = {BATH: "bath", ATTIC: "a/b", "attic": "attic", STRANGER: 7}
    path.write_text(json.dumps({"joined": [ATTIC], "boards": boards}))

    assert JoinedFile(path).load() == Joined([ATTIC], {BATH: "bath"})


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["joined", "boards"]), inner, max_size=2)
            ),
            max_leaves=5,
        ).map(lambda document: json.dumps(document).encode()),
    )
)
def test_any_file_gives_a_list_or_is_put_aside(tmp_path_factory: object, content: bytes) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    path = tmp_path_factory.mktemp("joined") / "joined"
    path.write_bytes(content)

    joined = JoinedFile(path).load()

    assert isinstance(joined, Joined)
    assert path.exists() or path.with_name("joined.damaged").read_bytes() == content

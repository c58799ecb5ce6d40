"""Levels: each device has its own, and none that could be taken for another device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import MAX_SLUG, RESERVED_DEVICES
from gateway.mqtt.names import Names


def test_a_device_is_called_by_its_key_until_somebody_renames_it() -> None:
    names = Names()
    names.put("board_1", "board_1")
    assert (names.level("board_1"), names.device_of("board_1")) == ("board_1", "board_1")

    names.put("board_1", "attic")

    assert (names.level("board_1"), names.device_of("attic")) == ("attic", "board_1")
    assert names.device_of("board_1") is None
    assert (names.find("board_1"), names.find("attic")) == ("board_1", "board_1")


def test_a_device_nobody_added_has_its_key_unless_another_is_called_so() -> None:
    names = Names()
    names.put("board_1", "attic")

    assert names.level("cellar") == "cellar"
    assert names.level("attic") == "attic_2"
    assert "attic" not in names


@pytest.mark.parametrize("level", ["board_1", "cellar", "status"])
def test_a_level_that_is_anothers_key_or_level_or_our_own_is_refused(level: str) -> None:
    names = Names()
    names.put("board_1", "attic")
    names.put("board_2", "cellar")
    names.put("board_3", "board_3")

    with pytest.raises(ValueError, match=level):
        names.put("board_3", level)

    assert names.level("board_3") == "board_3"


def test_a_device_may_have_its_own_key_again() -> None:
    names = Names()
    names.put("board_1", "attic")

    names.put("board_1", "board_1")

    assert names.device_of("attic") is None
    assert names.is_free("attic", "board_2")


def test_people_mean_the_level_where_it_is_a_key_too() -> None:
    names = Names()
    names.put("board_1", "attic")
    names.put("attic", names.free_level("attic"))

    assert names.level("attic") == "attic_2"
    assert (names.find("attic"), names.find("attic_2")) == ("board_1", "attic")
    assert names.find("nobody") is None


def test_what_is_a_devices_own_may_be_the_key_of_another_but_not_its_level() -> None:
    names = Names()
    names.put("attic", "attic_2")
    names.put("board_2", "cellar")

    assert names.keep("board_1", "attic")
    assert not names.keep("board_1", "cellar")
    assert not names.keep("board_1", "health")

    assert (names.level("board_1"), names.device_of("attic")) == ("attic", "board_1")


def test_a_number_is_added_within_the_longest_level() -> None:
    names = Names()
    longest = "x" * MAX_SLUG
    names.put("board_1", longest)

    level = names.free_level(longest)

    assert level == "x" * (MAX_SLUG - 2) + "_2"


slugs = st.sampled_from(["a", "a_2", "a_3", "b", "b_2", "status"])


@given(st.lists(st.tuples(st.sampled_from(["put", "want", "drop"]), slugs, slugs), max_size=30))
def test_whatever_happens_names_stay_apart(steps: list[tuple[str, str, str]]) -> None:
    names = Names()
    model: dict[str, str] = {}
    for verb, device, level in steps:
        if device in RESERVED_DEVICES:
            continue  # no driver calls a device so
        if verb == "drop":
            names.drop(device)
            model.pop(device, None)
            continue
        if device not in model:  # a new one takes what is free
            model[device] = names.free_level(device)
            names.put(device, model[device])
        elif verb == "put" and names.is_free(level, device):
            names.put(device, level)
            model[device] = level
        elif verb == "want":
            model[device] = names.free_level(device, level)
            names.put(device, model[device])

    assert {device: names.level(device) for device in model} == model
    assert len(set(model.values())) == len(model)
    assert {names.device_of(level) for level in model.values()} == set(model)
    assert not RESERVED_DEVICES & set(model.values())

"""What boards say to all who listen of what waits there."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.waiting import Waiting, decode_waiting

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "waiting.json").read_text()
)


@pytest.mark.parametrize(
    "vector", VECTORS["vectors"] + VECTORS["unknown"], ids=lambda each: str(each["name"])
)
def test_an_advert_says_what_the_vector_says(vector: dict[str, Any]) -> None:
    assert decode_waiting(bytes.fromhex(vector["data"])) == Waiting(
        vector["samples"], vector["is_connectable"], vector["is_brief"]
    )


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda each: str(each["name"]))
def test_what_others_say_under_that_company_is_nothing(vector: dict[str, Any]) -> None:
    assert decode_waiting(bytes.fromhex(vector["data"])) is None


@given(st.binary(max_size=30))
def test_any_bytes_are_taken(data: bytes) -> None:
    assert (decode_waiting(data) is None) == (len(data) != 2)

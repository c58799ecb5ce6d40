"""board/sealed.py keeps to the vectors that gateway and board share."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.firmware.model_gateway import said
from tests.firmware.under_test import load

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sealed.json").read_text())
FOR_BOARDS = [vector for vector in VECTORS["bad"] if not vector["direction"]]
sealed: Any = load("board.sealed")
saying: Any = load("board.saying")


def keys_of(vector: dict[str, Any]) -> Any:  # noqa: ANN401 - the firmware is untyped
    key, session = bytes.fromhex(vector["key"]), bytes.fromhex(vector["session"])
    return sealed.begin(sealed.Keys(), key, session)


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_what_is_sealed_is_as_the_vectors_say(vector: dict[str, Any]) -> None:
    keys = keys_of(vector)
    body, payload = bytes.fromhex(vector["body"]), bytes.fromhex(vector["payload"])
    keys.said = keys.heard = vector["counter"] - 1
    kind = vector["type"] | 0x80

    if vector["direction"]:
        assert sealed.seal(keys, vector["type"], vector["mid"], body) == (kind, payload)
    else:
        assert sealed.open_body(keys, kind, vector["mid"], payload) == body
        assert keys.heard == vector["counter"]


@pytest.mark.parametrize("vector", FOR_BOARDS, ids=lambda vector: vector["name"])
def test_what_is_not_to_be_believed_is_not(vector: dict[str, Any]) -> None:
    keys = keys_of(vector)
    keys.heard = vector["last_counter"]
    frame = said(vector["line"].encode() + b"\n")

    with pytest.raises(ValueError, match=r"^(wrong key or session|came before|sealed)$"):
        sealed.open_body(keys, frame.kind, frame.mid, frame.payload)
    assert keys.heard == vector["last_counter"]


@pytest.mark.parametrize("vector", VECTORS["rotations"], ids=lambda vector: vector["name"])
def test_a_key_is_changed_as_the_vectors_say(vector: dict[str, Any]) -> None:
    made = sealed.mac(bytes.fromhex(vector["key"]), b"rekey", bytes.fromhex(vector["salt"]))

    assert made.hex() == vector["new_key"]


@pytest.mark.parametrize("vector", VECTORS["update_begins"], ids=lambda vector: vector["name"])
def test_the_mac_of_an_update_is_as_the_vectors_say(vector: dict[str, Any]) -> None:
    made = sealed.mac(bytes.fromhex(vector["key"]), b"update", bytes.fromhex(vector["head"]))

    assert made.hex() == vector["mac"]


@pytest.mark.parametrize(("kind", "body"), [(0x20, b'{"cid":"x"}'), (0x40, bytes(70))])
def test_who_has_no_key_gets_few_answers_and_fills_no_memory(kind: int, body: bytes) -> None:
    session = SimpleNamespace(keys=keys_of(VECTORS["vectors"][0]), queue=[])

    for _ in range(100):  # faster than the line takes the answers
        with pytest.raises(ValueError, match="not sealed"):
            saying.open_body(session, kind, 1, body)

    assert 0 < len(session.queue) <= 8

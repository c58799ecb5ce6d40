import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.lines import MAX_LINE, LineSplitter
from tests.support.effort import examples

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "lines.json").read_text(encoding="utf-8")
)["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_splitter_gives_the_lines_of_the_vectors(vector: dict[str, Any]) -> None:
    splitter = LineSplitter(vector.get("limit", MAX_LINE))

    lines = [line for chunk in vector["chunks"] for line in splitter.feed(chunk.encode("latin-1"))]

    assert [line.decode("latin-1") for line in lines] == vector["lines"]
    assert splitter.too_long == vector["too_long"]


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"~QUJD", b"x" * 9, b"yy", b"\x00"])),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_lines_do_not_depend_on_the_chunking(parts: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(parts)
    whole, torn, single = (LineSplitter(limit=12) for _ in range(3))
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]

    expected = whole.feed(wire)
    in_chunks = [line for a, b in pairwise(edges) for line in torn.feed(wire[a:b])]
    in_bytes = [line for i in range(len(wire)) for line in single.feed(wire[i : i + 1])]

    assert in_chunks == expected
    assert in_bytes == expected
    assert torn.too_long == single.too_long == whole.too_long


def test_splitter_holds_at_most_its_limit_of_noise_without_a_newline() -> None:
    splitter = LineSplitter()
    noise = random.Random(1)

    for _ in range(2000):
        chunk = noise.randbytes(1024).replace(b"\n", b"")
        assert splitter.feed(chunk) == []
        assert splitter.held <= MAX_LINE

    assert splitter.too_long == 1
    assert splitter.feed(b"\nok\n") == [b"ok"]


def test_a_dropped_line_holds_nothing() -> None:
    splitter = LineSplitter(limit=4)

    splitter.feed(b"12345")

    assert splitter.held == 0

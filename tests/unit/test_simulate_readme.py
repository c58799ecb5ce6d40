"""The README of `gateway.simulate` names the faults there are."""

import re
from pathlib import Path

from gateway.simulate.faults import KEYS, FaultPlan, parse

README = Path(__file__).parents[2] / "gateway" / "simulate" / "README.md"


def test_the_table_has_each_fault_with_its_meaning_and_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (\S+) \|$", README.read_text(), re.MULTILINE)

    assert rows == [(key.name, key.meaning, f"{key.default:g}") for key in KEYS]


def test_the_example_is_a_plan() -> None:
    (example,) = re.findall(r"--faults (\S+)", README.read_text())

    assert parse(example) != FaultPlan()

"""Every rule of the protocol names the tests that hold it, and those exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "gateway" / "protocol" / "README.md").read_text(encoding="utf-8")
RULES = [line for line in TEXT.splitlines() if line.startswith("- **P")]
NAMED = sorted(set(re.findall(r"`(tests/[^`]+?)::([^`]+)`", TEXT)))


def number_of(rule: str) -> str:
    match = re.match(r"- \*\*(P\d+)\*\* ", rule)
    assert match is not None, rule[:40]
    return match[1]


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_there_are_rules_and_no_number_is_given_twice() -> None:
    numbers = [number_of(rule) for rule in RULES]

    assert len(numbers) >= 20
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("rule", RULES, ids=number_of)
def test_a_rule_says_must_and_names_its_tests(rule: str) -> None:
    text, _, tests = rule.partition(" Tests: ")

    assert "MUST" in text
    assert re.fullmatch(r"`tests/\S+::test_\w+`(, `tests/\S+::test_\w+`)*\.", tests)


def test_nothing_outside_a_rule_says_must() -> None:
    assert not [line for line in TEXT.splitlines() if "MUST" in line and line not in RULES]


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_a_named_test_exists(path: str, name: str) -> None:
    assert name in functions_of(ROOT / path)


def test_every_type_of_frame_is_in_the_table() -> None:
    listed = {int(match, 16) for match in re.findall(r"^\| ([0-9a-f]{2}) \|", TEXT, re.MULTILINE)}
    source = (ROOT / "gateway" / "protocol" / "message_values.py").read_text(encoding="utf-8")
    known = {
        int(match, 16)
        for match in re.findall(r"^    [A-Z_]+ = (0x[0-9a-f]{2})$", source, re.MULTILINE)
    }

    assert listed == known

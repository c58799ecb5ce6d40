"""What the READMEs name exists: files, commands, make targets, topics."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "gateway/**/*.md", "device_firmware/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]

    missing = [target for target in local if not (path.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))

    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:\w+=\S+ )*make ([a-z]+)", text))
    named |= set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))
    assert named <= targets


def test_the_test_that_contributing_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(r"pytest -k (\w+) (tests/\w+)", text)
    assert found

    files = (ROOT / found[2]).glob("test_*.py")
    names = [name for path in files for name in re.findall(r"def (test_\w+)", path.read_text())]
    assert [name for name in names if found[1] in name]


def test_every_command_is_in_the_readme_and_no_other() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "gateway", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = set(re.findall(r"^ {2,4}([a-z]+(?:-[a-z]+)*) {2,}\S", help_text, re.MULTILINE))

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("## Commands") : readme.index("## What it promises")]
    named = set(re.findall(r"^\| `edge-gateway ([a-z-]+)", table, re.MULTILINE))

    assert named | {"version"} == commands


def test_the_example_configuration_of_a_board_names_sensors_there_are() -> None:
    folder = ROOT / "device_firmware"
    config = json.loads((folder / "config.example.json").read_bytes())

    kinds = {sensor["kind"] for sensor in config["sensors"]}
    assert kinds <= {path.stem for path in (folder / "sensors").glob("*.py")}


def test_the_topics_of_the_readme_are_those_of_the_contract() -> None:
    def topics(path: str) -> set[str]:
        text = (ROOT / path).read_text(encoding="utf-8")
        text = text[text.index("| topic |") :].partition("\n\n")[0]
        return set(re.findall(r"^\| `((?:<\w+>/)*[a-z]+)` \|", text, re.MULTILINE))

    assert topics("README.md") == topics("gateway/mqtt/README.md")
    assert len(topics("README.md")) >= 9

"""What is copied of what runs: the gateway and what it needs, and no more."""

import json
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.install.source import (
    Source,
    base_python,
    closure,
    collect,
    refuse_a_hidden_python,
)

PYTHON = Path("/usr/bin/python3.13")


class Site:
    """A folder of installed packages, as pip would leave it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        name: str,
        requires: Iterable[str] = (),
        files: Iterable[str] = (),
        *,
        version: str = "1.0",
        editable: bool = False,
    ) -> None:
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n{needs}")
        if editable:
            (info / "direct_url.json").write_text(json.dumps({"dir_info": {"editable": True}}))
        for each in files:
            path = self.folder / each
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {each}\n")
        records = [f"{each},,\n" for each in (*files, f"{info.name}/METADATA")]
        (info / "RECORD").write_text("".join(records))

    def find(self, name: str) -> Distribution:
        for info in self.folder.glob("*.dist-info"):
            if info.name.lower().startswith(f"{name.replace('-', '_')}-"):
                return PathDistribution(info)
        raise PackageNotFoundError(name)

    def source(self) -> Source:
        return collect(PYTHON, "3.13.5", self.find)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def inside(found: Source) -> set[str]:
    return {str(each.inside) for each in found.files if ".dist-info/" not in str(each.inside)}


def test_what_is_needed_comes_along_and_what_else_lies_about_does_not(site: Site) -> None:
    site.add("edge-gateway", ["paho-mqtt (>=2)", "rich<16,>=13"], ["gateway/__init__.py"])
    site.add("paho-mqtt", [], ["paho/__init__.py"])
    site.add("rich", ["pygments"], ["rich/__init__.py"])
    site.add("Pygments", [], ["pygments/__init__.py"])
    site.add("pip", [], ["pip/__init__.py"])

    assert inside(site.source()) == {
        "gateway/__init__.py",
        "paho/__init__.py",
        "rich/__init__.py",
        "pygments/__init__.py",
    }


def test_extras_that_are_installed_come_along_but_not_tools_of_development(site: Site) -> None:
    site.add(
        "edge-gateway",
        [
            "ruuvitag-ble; extra == 'ble-devices'",
            'amqtt<0.13,>=0.11; extra == "demo"',
            "pytest; extra == 'dev'",
        ],
        ["gateway/__init__.py"],
    )
    site.add("ruuvitag-ble", [], ["ruuvitag_ble/__init__.py"])
    site.add("pytest", [], ["pytest/__init__.py"])

    assert inside(site.source()) == {"gateway/__init__.py", "ruuvitag_ble/__init__.py"}


def test_of_other_packages_only_the_extras_that_are_asked_for_come_along(site: Site) -> None:
    site.add("edge-gateway", ["bumble[serial]>=1"])
    site.add("bumble", ["pyserial; extra == 'serial'", "grpcio; extra == 'rpc'", "click"])
    for name in ("pyserial", "grpcio", "click"):
        site.add(name)

    assert set(closure(site.find)) == {"edge-gateway", "bumble", "pyserial", "click"}


def test_packages_that_need_each_other_end(site: Site) -> None:
    site.add("edge-gateway", ["a"])
    site.add("a", ["b"])
    site.add("b", ["a", "edge-gateway"])

    assert set(closure(site.find)) == {"edge-gateway", "a", "b"}


def test_commands_and_links_to_elsewhere_stay_behind(site: Site) -> None:
    site.add("edge-gateway", [], ["gateway/__init__.py", "../../../bin/edge-gateway", "x.pth"])

    assert inside(site.source()) == {"gateway/__init__.py"}


def change_a_version(site: Site) -> None:
    next(site.folder.glob("rich-*")).rename(site.folder / "rich-1.1.dist-info")
    (site.folder / "rich-1.1.dist-info" / "RECORD").write_text("rich/__init__.py,sha256=x,5\n")


def change_a_file(site: Site) -> None:
    record = next(site.folder.glob("rich-*")) / "RECORD"
    record.write_text(record.read_text() + "rich/text.py,sha256=y,5\n")


def change_nothing(site: Site) -> None:
    (site.folder / "notes.txt").write_text("mine")


def install_it_from_elsewhere(site: Site) -> None:
    """As pip does it in another environment: its commands name that, and its order may differ."""
    for record in site.folder.glob("*/RECORD"):
        lines = [*record.read_text().splitlines(), "../../../bin/rich,sha256=z,200"]
        lines.append(f"{record.parent.name}/direct_url.json,sha256=z,90")
        record.write_text("\n".join(reversed(lines)))


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        (change_a_version, False),
        (change_a_file, False),
        (change_nothing, True),
        (install_it_from_elsewhere, True),
    ],
)
def test_the_key_is_that_of_the_files(
    site: Site, change: Callable[[Site], None], is_same: bool
) -> None:
    site.add("edge-gateway", ["rich"], version="0.3.0")
    site.add("rich", [], ["rich/__init__.py"])
    before = site.source().key

    change(site)

    assert (site.source().key == before) is is_same
    assert before.startswith("0.3.0-")


def test_another_python_is_another_version(site: Site) -> None:
    site.add("edge-gateway")

    assert collect(PYTHON, "3.12.9", site.find).key != site.source().key
    assert site.source().library == "lib/python3.13/site-packages"


def test_a_python_that_was_mended_is_the_same(site: Site) -> None:
    site.add("edge-gateway")

    assert collect(PYTHON, "3.13.6", site.find).key == site.source().key


def test_a_link_to_source_is_refused_with_what_to_do(site: Site) -> None:
    site.add("edge-gateway", editable=True)

    with pytest.raises(ConfigError, match="sudo make install"):
        site.source()


@pytest.mark.parametrize(
    ("python", "is_seen"),
    [
        ("/usr/bin/python3.13", True),
        ("/opt/python/bin/python3.13", True),
        ("/home/pi/.pyenv/versions/3.13.5/bin/python3.13", False),
        ("/root/.local/bin/python3.13", False),
    ],
)
def test_a_python_that_the_service_does_not_see_is_refused(python: str, is_seen: bool) -> None:
    source = Source("0.1.0", "0.1.0-x", Path(python), "3.13.5", ())

    if is_seen:
        refuse_a_hidden_python(source)
    else:
        with pytest.raises(ConfigError, match=r"/usr/bin/python3 -m venv"):
            refuse_a_hidden_python(source)


def test_the_python_of_an_environment_is_named_with_its_version(tmp_path: Path) -> None:
    """/usr/bin/python3 becomes another one with Debian's next release."""
    named = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (tmp_path / named).touch()

    assert base_python(tmp_path / "python3") == tmp_path / named
    assert base_python(tmp_path / "elsewhere/python3") == tmp_path / "elsewhere/python3"

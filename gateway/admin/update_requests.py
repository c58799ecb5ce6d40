"""What is asked about updates: what boards could have, bring it to them, give up, how it stands."""

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from gateway.bundle.archive import from_archive
from gateway.bundle.bundle import Bundle
from gateway.bundle.settings import settings_bundle
from gateway.devices.device import Device
from gateway.errors import BundleError, RequestError, StoreError
from gateway.links.threads import Call
from gateway.requests.admin import MAX_LISTED
from gateway.requests.update import (
    LocalUpdateRequest,
    UpdateAbortRequest,
    UpdateCheckRequest,
    UpdateRequest,
    UpdateStatusRequest,
)
from gateway.updates import documents
from gateway.updates.news import is_updatable
from gateway.updates.service import Updates

COMPILE_S: Final = 30.0
"""From a source tree the firmware is compiled first."""

_NO_SLOTS: Final = "cannot be updated: flash it once with `edge-gateway flash`"
_TOLD: Final = 3
"""So many boards are named in a sentence."""


class UpdateRequests:
    """Answers by what the rollouts are at."""

    def __init__(
        self, find: Callable[[str], Device], devices: Iterable[Device], updates: Updates
    ) -> None:
        """`find` returns the device that is meant, or raises a RequestError."""
        self._find = find
        self._devices = devices
        self._updates = updates
        self._checking = asyncio.Lock()
        """The firmware's own rules are imported for that, by one thread at a time."""

    async def check(self, request: UpdateCheckRequest) -> dict[str, Any]:
        """Tell which boards run what, and whether there is something newer."""
        bundle = await self._updates.own_bundle()
        boards = sorted(filter(is_updatable, self._devices), key=lambda each: each.key)
        listed = [each for each in boards if each.key > request.after]
        return {
            "latest": bundle.version,
            "hash": bundle.short_hash,
            "bytes": bundle.size_bytes,
            "devices": [
                {
                    "device": each.key,
                    "name": each.title,
                    "installed": each.description.firmware,
                    "available": self._why_not(each, bundle, is_downgrade_wanted=False) == "",
                }
                for each in listed[:MAX_LISTED]
            ],
            "more": len(listed) > MAX_LISTED,
        }

    async def update(self, request: UpdateRequest) -> dict[str, Any]:
        """Begin to bring boards other firmware or settings."""
        bundle = await self._bundle(request)
        named = [*request.devices, *([request.device] if request.device else [])]
        if bool(named) == request.all:
            raise RequestError("name devices, or all of them with `all`, and not both")
        boards, left_out = self._boards(request, named, bundle)
        kept: asyncio.Future[StoreError | None] = asyncio.get_running_loop().create_future()
        rollout = self._updates.begin(
            bundle,
            boards,
            canary=request.canary,
            parallel=request.parallel,
            allows_downgrade=request.downgrade,
            on_kept=partial(_resolve, kept),
        )
        if (error := await kept) is not None:
            raise RequestError(f"rollout {rollout.number} is given up, nothing was sent: {error}")
        return {**documents.summary(rollout), "devices": boards[:MAX_LISTED], "left_out": left_out}

    async def abort(self, request: UpdateAbortRequest) -> dict[str, Any]:
        """Give up."""
        device = self._find(request.device).key if request.device else None
        aborted = self._updates.abort(request.rollout, device)
        if not aborted:
            raise RequestError("there is no such rollout under way")
        return {"aborted": aborted}

    async def status(self, request: UpdateStatusRequest) -> dict[str, Any]:
        """Tell how rollouts stand."""
        wanted = request.rollout
        rollouts = [each for each in self._updates.rollouts if wanted in (None, each.number)]
        if wanted is not None and not rollouts:
            raise RequestError(f"there is no rollout {wanted}")
        told = [documents.summary(each) for each in rollouts]
        if rollouts:
            titles = {each.key: each.title for each in self._devices}
            told[0]["devices"] = documents.boards(rollouts[0], MAX_LISTED, titles)
        return {"rollouts": told}

    async def _bundle(self, request: UpdateRequest) -> Bundle:
        """Return what is to be rolled out.

        Raises:
            BundleError: it is no bundle, or no board would take it.
            RequestError: it is two things at once.
        """
        packed = request.bundle if isinstance(request, LocalUpdateRequest) else ""
        if packed and request.settings is not None:
            raise RequestError("firmware and settings are two updates: one after the other")
        if request.settings is not None:
            async with self._checking:
                return await Call(partial(settings_bundle, request.settings)).result()
        if not packed:
            return await self._updates.own_bundle()
        try:
            data = base64.b64decode(packed, validate=True)
        except binascii.Error as exc:
            raise BundleError(f"bundle: expected base64: {exc}") from exc
        return await Call(partial(from_archive, data, "the bundle")).result()

    def _boards(
        self, request: UpdateRequest, named: list[str], bundle: Bundle
    ) -> tuple[list[str], Mapping[str, str]]:
        """Return who is to get a bundle, those first that are there, and why others are not.

        Raises:
            RequestError: one that is named cannot have it, or nobody is left.
        """
        if request.all:
            found = sorted(filter(is_updatable, self._devices), key=lambda each: each.key)
        else:
            found = [*{each.key: each for each in map(self._find, named)}.values()]
        boards, left_out = [], {}
        for device in found:
            why_not = self._why_not(device, bundle, is_downgrade_wanted=request.downgrade)
            if not why_not and request.all:
                why_not = self._updates.why_taken_back(device.key, bundle.short_hash)
            if not why_not:
                boards.append(device)
            elif request.all:
                left_out[device.key] = why_not
            else:
                raise RequestError(f"{device.key}: {why_not}")
        if not boards:
            told = [f"{key}: {why}" for key, why in [*left_out.items()][:_TOLD]]
            told += [f"and {len(left_out) - _TOLD} more"] if len(left_out) > _TOLD else []
            why = "; ".join(told) or "none has slots: `edge-gateway flash` sets one up"
            raise RequestError(f"no board is to be updated: {why}")
        boards.sort(key=lambda each: not each.is_online)
        return [each.key for each in boards], dict([*left_out.items()][:MAX_LISTED])

    @staticmethod
    def _why_not(device: Device, bundle: Bundle, *, is_downgrade_wanted: bool) -> str:
        """Return why a board is not to have a bundle; empty if it is."""
        said = device.description
        if not is_updatable(device):
            return _NO_SLOTS
        if not bundle.version:
            return ""
        if said.manifest_hash == bundle.short_hash:  # maybe on trial: it decides by itself
            return f"runs {bundle.version} already"
        if _order(said.firmware) > _order(bundle.version) and not is_downgrade_wanted:
            return (
                f"runs {said.firmware}, which is newer than {bundle.version}: "
                "`downgrade` brings it back"
            )
        return ""


def _resolve(kept: asyncio.Future[StoreError | None], error: StoreError | None) -> None:
    if not kept.done():  # whoever asked may not wait any more
        kept.set_result(error)


def _order(version: str) -> list[int]:
    """Return what versions are compared by, as boards do: 0.10.0 is newer than 0.9."""
    numbers = (re.match(r"[0-9]*", part) for part in version.split("."))
    return [int(number[0] or 0) for number in numbers if number]

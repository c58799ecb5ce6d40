"""What is asked about the boards' keys; only on this machine, never over MQTT."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

from gateway.admin.intervals import Caller
from gateway.devices.device import Device
from gateway.devices.registry import Devices
from gateway.errors import RequestError, StoreError
from gateway.links.threads import Call
from gateway.log_fields import of_device
from gateway.model import device_slug
from gateway.progress import Progress, Stage
from gateway.protocol.sealed import key_id
from gateway.protocol.session_events import Outcome
from gateway.requests.local import (
    ExportKeysRequest,
    KeepKeyRequest,
    KeysRequest,
    RemoveKeyRequest,
    RotateKeyRequest,
)
from gateway.store.keys import KeyStore

_log = logging.getLogger(__name__)

REKEY_S: Final = 8.0
"""So long a board has to answer that it took another key."""

SEEN_S: Final = 5.0
"""So long it then has to say HELLO with it; it does so at once."""

T = TypeVar("T")


class KeyRequests:
    """Keeps keys, and has boards take others; `run` it meanwhile.

    It listens to what boards say of their keys, so that a change ends when the board was seen to
    use the new one, whoever began it and in whichever run.
    """

    def __init__(
        self,
        store: KeyStore,
        devices: Devices,
        caller: Caller,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress or Progress()
        self._stage = self._progress.stage("keys")
        self._store = store
        self._devices = devices
        self._caller = caller
        self._turn = asyncio.Lock()
        """Who changes files; one after the other."""
        self._settled: dict[str, asyncio.Event] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> NoReturn:
        """End changes of keys as boards are seen to have made them, for ever."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for device in self._devices:
                self.device_changed(device)
            try:
                await self._stage.rest_for_ever(asyncio.sleep)
            finally:
                self._tasks = None  # a group that is ending takes no tasks any more

    def device_changed(self, device: Device) -> None:
        """Look at which key a board says it has."""
        kept = self._store.get(device.key)
        if kept is None or self._tasks is None:
            return
        if kept.ends_with(device.said.key_id):
            stage = self._progress.stage(f"key of {device.key}")
            stage.works("writing it")
            settling = self._settle_in(stage, device.key, device.said.key_id)
            self._tasks.create_task(settling, name=stage.name)

    def device_removed(self, device: Device) -> None:
        """Do nothing: it may come back, and nobody else has its key."""

    async def list_all(self, _request: KeysRequest) -> dict[str, Any]:
        """Return whose keys are kept, and who has one that is not; no key itself."""
        strangers = {each.key for each in self._devices if each.said.key_id}
        names = sorted({*self._store.devices(), *strangers})
        return {"keys": [self._about(name) for name in names]}

    async def keep(self, request: KeepKeyRequest) -> dict[str, Any]:
        """Keep the key of a board."""
        device = device_slug(request.device)
        key = bytes.fromhex(request.key)
        await self._change(partial(self._store.put, device, key))
        if (known := self._devices.get(device)) is not None and known.is_online:
            self.device_changed(known)
        return {"device": device, "key": key_id(key)}

    async def export(self, request: ExportKeysRequest) -> dict[str, Any]:
        """Return keys as lines that another gateway takes; two for a board that is to change its.

        Raises:
            RequestError: there is none for a device that is named.
        """
        lines: list[str] = []
        for name in [self._named(each) for each in request.devices] or self._store.devices():
            keys = [self._store.find(name, each) for each in self._store.ids(name)]
            lines += [f"{name} {key.hex()}" for key in keys if key is not None]
        return {"lines": lines}

    async def remove(self, request: RemoveKeyRequest) -> dict[str, Any]:
        """Forget a key.

        Raises:
            RequestError: there is none, or the board has it still, and nobody could command it.
        """
        device = self._named(request.device)
        if self._devices.heir(request.device) is not None and self._store.ids(request.device):
            device = request.device  # it may be its heir's name in topics: a good key is in use
        known = self._devices.get(device)
        used = "" if known is None else known.said.key_id
        if used in self._store.ids(device) and not request.anyway:
            raise RequestError(
                f"{device} has that key ({used}): without it nobody can command or update it, but "
                "by flashing it anew; export it first, then remove it with --anyway"
            )
        if not await self._change(partial(self._store.remove, device)):
            raise RequestError(
                f"the key of {device} is in the credential device-keys: remove it there"
            )
        return {"device": device}

    async def rotate(self, request: RotateKeyRequest) -> dict[str, Any]:
        """Have a board take another key, or see to the end of what was begun.

        Raises:
            RequestError: it is not there, or its key is not known; or it did not answer, and both
                keys are kept until it was seen to use one.
        """
        device = self._named(request.device)
        known = self._devices.get(device)
        if known is None or not known.is_online:
            raise RequestError(f"{device} is not there now")
        used = known.said.key_id
        kept = self._store.get(device)
        if kept is not None and kept.next_key is not None and kept.ends_with(used):
            await self._settle(device, used)
            return {"device": device, "key": used}
        key = self._store.find(device, used)
        if key is None:
            raise RequestError(
                f"{device} has the key {used or '(none)'}, and this gateway knows "
                f"{' and '.join(self._store.ids(device))}: it cannot be commanded"
            )
        salt = await self._change(partial(self._store.begin_rotation, device, key))
        seen = self._settled[device] = asyncio.Event()
        end = await self._caller.call(device, "rekey", {"salt": salt.hex()}, REKEY_S)
        if end.outcome in {Outcome.FAILED, Outcome.EXPIRED}:
            raise RequestError(f"{device}: {end.error}; both keys are kept until it shows its own")
        try:
            async with asyncio.timeout(SEEN_S):
                await seen.wait()
        except TimeoutError:
            raise RequestError(
                f"{device} was not seen to use its new key yet: both are kept until it is; "
                "`edge-gateway keys list` tells"
            ) from None
        ids = self._store.ids(device)
        return {"device": device, "key": ids[0]}

    async def _settle_in(self, stage: Stage, device: str, name: str) -> None:
        with stage:
            await self._settle(device, name)

    async def _settle(self, device: str, name: str) -> None:
        try:
            is_over = await self._change(partial(self._store.settle, device, name))
        except RequestError as exc:
            _log.error("key of %s: %s; both are known still", of_device(device), exc)
            return
        if is_over:
            _log.info("%s: has another key now, %s", of_device(device), name)
        if (seen := self._settled.pop(device, None)) is not None:
            seen.set()

    async def _change(self, change: Callable[[], T]) -> T:
        async with self._turn:
            try:
                return await Call(change).result()
            except StoreError as exc:
                raise RequestError(str(exc)) from exc

    def _named(self, name: str) -> str:
        """Return the key of the device that is meant; it need not be in the registry.

        Raises:
            RequestError: no key is kept of it.
        """
        found = self._devices.find(name)
        device = found.key if found is not None else device_slug(name)
        if not self._store.ids(device):
            raise RequestError(f"no key is kept of {device}; `edge-gateway keys list` tells whose")
        return device

    def _about(self, name: str) -> dict[str, Any]:
        ids = self._store.ids(name)
        known = self._devices.get(name)
        kept = self._store.get(name)
        heir = self._devices.heir(name)
        return {
            "device": name,
            "level": name if known is None else known.level,
            "name": "" if known is None else known.title,
            "keys": list(ids),
            "from": "file" if kept is not None else "credential" if ids else None,
            "rotating": kept is not None and len(kept.all) > 1,
            "board": None if known is None else known.said.key_id or "none",
            **({} if heir is None else {"replaced_by": heir.key}),
            "commanded": known is not None and _is_commanded(known.said.key_id, ids),
        }


def _is_commanded(used: str, ids: tuple[str, ...]) -> bool:
    """Say whether a board with that key takes our commands; one without any takes everybody's."""
    return used in ids if used else not ids

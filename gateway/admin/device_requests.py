"""What is asked about devices: which there are, what they are called, that one is to go."""

import json
from collections.abc import Callable
from itertools import islice
from typing import Any

from gateway.admin.diagnostics import MAX_ANSWER_BYTES
from gateway.clock import TimeFormat
from gateway.devices.device import Device
from gateway.devices.registry import Devices
from gateway.errors import RequestError, StoreError
from gateway.model import Actuator, Sensor
from gateway.requests.admin import DeviceRequest, DevicesRequest, RemoveRequest, RenameRequest
from gateway.requests.reading import printable
from gateway.status import DeviceStatus, Status
from gateway.timekeeper import TimeKeeper


class DeviceRequests:
    """Answers by the registry and the status board."""

    def __init__(
        self,
        devices: Devices,
        status: Status,
        timekeeper: TimeKeeper,
        forget_radio: Callable[[str], bool],
    ) -> None:
        """`forget_radio` lets the device of an address join anew before it is read again."""
        self._devices = devices
        self._status = status
        self._timekeeper = timekeeper
        self._forget_radio = forget_radio
        self._times = TimeFormat()

    async def list_all(self, request: DevicesRequest) -> dict[str, Any]:
        """Return the devices after the one that is named, as many as fit into an answer."""
        keys = sorted(device.key for device in self._devices if device.key > request.after)
        listed: list[dict[str, Any]] = []
        left_bytes = MAX_ANSWER_BYTES
        for key in islice(keys, request.limit):
            summary = self._summary(self._known(key))
            left_bytes -= len(json.dumps(summary, ensure_ascii=False).encode("utf-8", "replace"))
            if left_bytes < 0:
                break
            listed.append(summary)
        return {
            "devices": listed,
            "total": len(self._devices),
            "more": len(keys) > len(listed),
        }

    async def show(self, request: DeviceRequest) -> dict[str, Any]:
        """Return all that is known of one device, but for what it measures."""
        device = self.find(request.device)
        said = device.description
        told = {
            "model": said.model,
            "firmware": said.firmware,
            "runtime": said.runtime,
            "address": said.address,
            "reset_cause": said.reset_cause,
            "crash": said.crash,
        }
        return {
            **self._summary(device),
            **{key: text for key, text in told.items() if text},
            "boot": said.boot,
            "known_since": self._times.text(device.added_unix_s),
            "sensors": [_sensor(sensor) for sensor in said.sensors],
            "actuators": [_actuator(actuator) for actuator in said.actuators],
            "options": dict(device.options),
        }

    async def rename(self, request: RenameRequest) -> dict[str, Any]:
        """Give a device another name, and with it other topics."""
        device = self._devices.rename(self.find(request.device).key, request.to)
        told = {"device": device.key, "level": device.level, "name": device.title}
        return {**told, "kept": await is_kept(self._devices)}

    async def remove(self, request: RemoveRequest) -> dict[str, Any]:
        """Forget a device, with all that is retained of it."""
        device = self.find(request.device)
        if request.block:
            raise RequestError(
                f'{device.key} is kept out by the configuration: [[device]], id = "{device.key}", '
                "enabled = false"
            )
        self._devices.remove(device.key)
        self._forget_radio(device.description.address)
        told = {"device": device.key, "level": device.level}
        return {**told, "kept": await is_kept(self._devices)}

    def find(self, name: str) -> Device:
        """Return the device that is meant by its name in topics, or by its key.

        Raises:
            RequestError: there is none.
        """
        device = self._devices.find(name)
        if device is None:
            hint = self._devices.who_is(name) or "; `devices` lists them"
            raise RequestError(f'there is no device "{printable(name)}"{hint}')
        return device

    def _known(self, key: str) -> Device:
        device = self._devices.get(key)
        assert device is not None  # noqa: S101 - it was listed in the same turn of the loop
        return device

    def _summary(self, device: Device) -> dict[str, Any]:
        entry = self._status.devices.get(device.key) or DeviceStatus(device.key)
        problem = device.description.problem
        return {
            "device": device.key,
            **({"identity": device.identity} if device.given_identity else {}),
            "level": device.level,
            "name": device.title,
            "driver": device.description.driver,
            "link": device.link,
            "online": device.is_online,
            "enabled": device.is_enabled,
            "last_sample": self._time_text(entry.last_s),
            "received": entry.received,
            "delivered": entry.delivered,
            "lost": entry.lost,
            **({"problem": problem} if problem else {}),
        }

    def _time_text(self, monotonic_s: float) -> str | None:
        if not monotonic_s:
            return None
        return self._times.text(monotonic_s + self._timekeeper.base().offset_s)


async def is_kept(devices: Devices) -> bool:
    """Wait until what was changed is on the disk; say whether it is."""
    try:
        await devices.wait_kept()
    except StoreError:
        return False
    return True


def _sensor(sensor: Sensor) -> dict[str, Any]:
    return {
        "key": sensor.key,
        **({"unit": sensor.unit} if sensor.unit else {}),
        **({"called_by_device": sensor.source_key} if sensor.source_key else {}),
    }


def _actuator(actuator: Actuator) -> dict[str, Any]:
    return {"key": actuator.key, "name": actuator.name, "kind": actuator.kind}

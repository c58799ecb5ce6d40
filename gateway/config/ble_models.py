"""Section `[ble]`."""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from gateway.config.fields import SECTION, Seconds, Switch, Text, Whole
from gateway.model import slug

_ADDRESS = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")
_BIND_KEY = re.compile(r"[0-9a-f]{24}|[0-9a-f]{32}")
"""16 bytes; 12 for old Xiaomi sensors."""
_ADAPTER = re.compile(r"(?:hci\d{1,3}|virtual:[^\s:]+:\d{1,5})?")


def is_address(text: str) -> bool:
    """Tell whether it is an address as the radio shows it."""
    return _ADDRESS.fullmatch(text) is not None


def is_bind_key(text: str) -> bool:
    """Tell whether it is a key in hexadecimal digits."""
    return _BIND_KEY.fullmatch(text.lower()) is not None


class BleDeviceSettings(BaseModel):
    """`[[ble.device]]`: what is known of one sensor or board on the radio."""

    model_config = SECTION

    address: str = Field(
        min_length=17,
        max_length=17,
        description="Its address, such as A4:C1:38:12:34:56, as `edge-gateway scan` shows it.",
    )
    name: Text | None = Field(
        default=None,
        description="Name of a sensor; boards with our firmware say theirs. Default: what it says.",
    )
    bind_key: str = Field(
        default="",
        max_length=32,
        description=(
            "Key that decrypts its adverts: 32 hexadecimal digits (24 for old Xiaomi sensors). "
            "Default: that in bind_keys_file."
        ),
    )

    @field_validator("address", mode="after")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        address = address.upper().replace("-", ":")
        if not is_address(address):
            raise ValueError("an address is six bytes, such as A4:C1:38:12:34:56")
        return address

    @field_validator("bind_key", mode="after")
    @classmethod
    def _is_a_key(cls, key: str) -> str:
        key = key.lower()
        if key and not is_bind_key(key):
            raise ValueError("a bind key has 32 hexadecimal digits, or 24")
        return key


class BleSettings(BaseModel):
    """`[ble]`: the radio."""

    model_config = SECTION

    enabled: Switch = Field(
        default=True,
        description="Whether the radio is used at all, if there is one, now or later.",
    )
    adapter: str = Field(
        default="",
        max_length=64,
        description=(
            "Adapter to use, such as hci0; virtual:HOST:PORT for a simulated one. Default: the "
            "first that is switched on."
        ),
    )
    mode: Literal["passive", "active"] = Field(
        default="passive",
        description=(
            "passive listens only and spares the batteries of sensors; active asks for names and "
            "more. Where BlueZ cannot listen passively, active is used."
        ),
    )
    join: Literal["open", "listed", "window"] = Field(
        default="open",
        description=(
            "Whose samples are published. open: every sensor the gateway can read and every board "
            "with our firmware; listed: those under [[ble.device]] or in bind_keys_file; window: "
            "those, and what was heard while a window was open."
        ),
    )
    window_s: Seconds = Field(
        default=120.0,
        ge=1,
        le=3600,
        description=(
            "Seconds for which a window stays open; `edge-gateway request permit_join`, or SIGUSR1 "
            "to the gateway, opens it."
        ),
    )
    device: tuple[BleDeviceSettings, ...] = Field(
        default=(), max_length=1000, description="Sensors and boards that are known."
    )
    bind_keys_file: Path | None = Field(
        default=None,
        description=(
            "File of keys that decrypt adverts: an address and a key on each line. Default: there "
            "is none."
        ),
    )
    max_connections: Whole = Field(
        default=4,
        ge=1,
        le=64,
        description=(
            "Most boards connected at a time; others take turns. Adapters bear 3 to 10 connections."
        ),
    )
    turn_s: Seconds = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="Seconds a board stays connected while others wait for their turn.",
    )
    deaf_s: Seconds = Field(
        default=90.0,
        ge=5,
        le=3600,
        description="Seconds without any advert after which the scan is started anew.",
    )

    @field_validator("adapter")
    @classmethod
    def _is_an_adapter(cls, adapter: str) -> str:
        if not _ADAPTER.fullmatch(adapter):
            raise ValueError('an adapter is "hci0", "hci1" ..., or "virtual:HOST:PORT"')
        return adapter

    @field_validator("device")
    @classmethod
    def _name_each_once(
        cls, devices: tuple[BleDeviceSettings, ...]
    ) -> tuple[BleDeviceSettings, ...]:
        addresses = [device.address for device in devices]
        names = [slug(device.name) for device in devices if device.name is not None]
        for words in (addresses, names):
            if twice := sorted({word for word in words if words.count(word) > 1}):
                raise ValueError(f"{', '.join(twice)} is there twice")
        return devices

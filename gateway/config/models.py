"""The settings: every key of the configuration file with its meaning, unit, bounds and default."""

import os
import socket
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, Field, field_validator

from gateway.config.ble_models import BleSettings
from gateway.config.device_models import DeviceSettings, check_devices
from gateway.config.fields import SECTION, FileName, Seconds, Whole
from gateway.config.homeassistant_models import HomeAssistantSettings
from gateway.config.mqtt_models import MqttSettings
from gateway.config.serial_models import SerialSettings
from gateway.model import MAX_SLUG, slug

CONTROL_NAME: Final = "control.sock"
"""The socket for requests from this machine, in its folder."""


class GatewaySettings(BaseModel):
    """`[gateway]`: who this gateway is."""

    model_config = SECTION

    name: str = Field(
        default_factory=lambda: slug(socket.gethostname()),
        min_length=1,
        max_length=MAX_SLUG,
        description=(
            "Name of this gateway in topics: lower case letters, digits, `_` and `-`, at most "
            f"{MAX_SLUG} characters. Default: the machine's host name."
        ),
    )

    health_interval_s: Seconds = Field(
        default=60.0, ge=1, le=3600, description="Seconds between two health documents."
    )

    control_socket: FileName | None = Field(
        default=None,
        description=(
            "Socket on which `edge-gateway keys`, `flash`, `update` and `replace` reach the "
            "running gateway. Default: `control.sock` in the runtime folder systemd gives, "
            "otherwise beside the outbox."
        ),
    )

    @field_validator("name")
    @classmethod
    def _is_a_topic_level(cls, name: str) -> str:
        if name != slug(name):
            raise ValueError(f'only a-z, 0-9, _ and - may be in it; "{slug(name)}" would do')
        return name


class OutboxSettings(BaseModel):
    """`[outbox]`: samples that wait for the broker."""

    model_config = SECTION

    path: FileName | None = Field(
        default=None,
        description=(
            "File for samples the broker does not have yet; others belonging to it get longer "
            "names. Default: `outbox.db` in the state folder systemd gives, otherwise in "
            "`~/.local/state/edge-gateway/<gateway name>`."
        ),
    )
    durability: Literal["spill", "always"] = Field(
        default="spill",
        description=(
            "`spill`: only what the broker has not acknowledged within `spill_after_s` is written "
            "to disk, so that a healthy broker spares the SD card. `always`: every sample is "
            "written before it is published, unless the disk fails or the file takes over 30 s to "
            "open; only `state` may show it earlier, while older ones wait."
        ),
    )
    spill_after_s: Seconds = Field(
        default=2.0,
        ge=0.1,
        le=60,
        description="Seconds after which a sample without acknowledgement goes to disk.",
    )
    drain_rate: Whole = Field(
        default=2000,
        ge=10,
        le=1_000_000,
        description=(
            "Samples a second that are published of a backlog, besides as many as come in; live "
            "ones go first."
        ),
    )
    max_mb: Whole = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description=(
            "Most megabytes on disk, about 10,000 samples each; then the oldest are dropped, and "
            "the loss is published."
        ),
    )
    max_age_days: Seconds = Field(
        default=30.0,
        ge=0.01,
        le=3650,
        description="Days after which a stored sample is dropped, and the loss published.",
    )

    max_records: Whole = Field(
        default=100_000,
        ge=100,
        le=10_000_000,
        description=(
            "Most samples in memory, about 0.5 KB each: as many gather only while the disk fails. "
            "Boards with our firmware are asked to keep theirs before it is full; from others the "
            "oldest are dropped, and the loss is published."
        ),
    )


class LogSettings(BaseModel):
    """`[log]`: what the gateway writes about itself to stderr."""

    model_config = SECTION

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity of the lines written."
    )


class Settings(BaseModel):
    """Configuration of edge-gateway."""

    model_config = SECTION

    gateway: GatewaySettings = Field(
        default_factory=GatewaySettings, description="Who this gateway is."
    )
    mqtt: MqttSettings = Field(
        default_factory=MqttSettings, description="The broker, and how to speak with it."
    )
    serial: SerialSettings = Field(default_factory=SerialSettings, description="The ports to read.")
    ble: BleSettings = Field(
        default_factory=BleSettings, description="The Bluetooth radio, where there is one."
    )
    outbox: OutboxSettings = Field(
        default_factory=OutboxSettings, description="Samples that wait for the broker."
    )
    homeassistant: HomeAssistantSettings = Field(
        default_factory=HomeAssistantSettings,
        description="Whether devices appear in Home Assistant by themselves.",
    )
    device: tuple[DeviceSettings, ...] = Field(
        default=(), max_length=1000, description="What is different for some devices."
    )
    log: LogSettings = Field(
        default_factory=LogSettings, description="What the gateway writes about itself."
    )

    @field_validator("device")
    @classmethod
    def _tell_devices_apart(cls, devices: tuple[DeviceSettings, ...]) -> tuple[DeviceSettings, ...]:
        return check_devices(devices)

    @property
    def base_topic(self) -> str:
        """What every topic starts with, after the default rule."""
        return self.mqtt.base_topic or f"edge/{self.gateway.name}"

    @property
    def outbox_path(self) -> Path:
        """The outbox's file, after the default rule.

        Source: systemd.exec(5), $STATE_DIRECTORY; the XDG Base Directory Specification.
        """
        if self.outbox.path is not None:
            return Path(self.outbox.path)
        if folder := os.environ.get("STATE_DIRECTORY"):
            return Path(folder.partition(":")[0]) / "outbox.db"
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(state).expanduser() / "edge-gateway" / self.gateway.name / "outbox.db"

    @property
    def joined_path(self) -> Path:
        """The file of the BLE devices that joined, beside the outbox."""
        return self.outbox_path.with_name(f"{self.outbox_path.name}.joined")

    @property
    def state_path(self) -> Path:
        """The state database, beside the outbox; two outboxes of one folder have one each."""
        stem = self.outbox_path.stem
        name = "gateway.db" if stem == "outbox" else f"{stem}.gateway.db"
        return self.outbox_path.with_name(name)

    @property
    def keys_path(self) -> Path:
        """The folder of the boards' keys, beside the outbox; two outboxes have one each."""
        stem = self.outbox_path.stem
        return self.outbox_path.with_name("keys" if stem == "outbox" else f"{stem}.keys")

    @property
    def control_path(self) -> Path:
        """The socket for requests from this machine, after the default rule.

        Source: systemd.exec(5), $RUNTIME_DIRECTORY.
        """
        if self.gateway.control_socket is not None:
            return Path(self.gateway.control_socket)
        if folder := os.environ.get("RUNTIME_DIRECTORY"):
            return Path(folder.partition(":")[0]) / CONTROL_NAME
        return self.control_path_beside_outbox

    @property
    def control_path_beside_outbox(self) -> Path:
        """The socket of a gateway that systemd gave no runtime folder."""
        stem = self.outbox_path.stem
        name = CONTROL_NAME if stem == "outbox" else f"{stem}.{CONTROL_NAME}"
        return self.outbox_path.with_name(name)

    @property
    def client_id(self) -> str:
        """The MQTT client id, after the default rule."""
        return self.mqtt.client_id or f"edge-gateway-{self.gateway.name}"

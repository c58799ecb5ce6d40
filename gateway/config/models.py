"""The settings: every key of the configuration file with its meaning, unit, bounds and default."""

import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from gateway.model import MAX_SLUG, slug

MQTT_PORT = 1883
"""Port of MQTT without TLS; registered with IANA."""
MQTT_TLS_PORT = 8883
"""Port of MQTT with TLS; registered with IANA."""
MAX_BATCH = 100
"""Most records in one message; the topic contract promises it to subscribers."""

_SECTION = ConfigDict(extra="forbid", frozen=True, str_max_length=1024)
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")
_NO_TOPIC_LEVEL = re.compile(r"[+#\x00-\x1f\x7f]")

Switch = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=256)]


class GatewaySettings(BaseModel):
    """`[gateway]`: who this gateway is."""

    model_config = _SECTION

    name: str = Field(
        default_factory=lambda: slug(socket.gethostname()),
        min_length=1,
        max_length=MAX_SLUG,
        description=(
            "Name of this gateway in topics: lower case letters, digits, `_` and `-`, at most "
            f"{MAX_SLUG} characters. Default: the machine's host name."
        ),
    )

    @field_validator("name")
    @classmethod
    def _is_a_topic_level(cls, name: str) -> str:
        if name != slug(name):
            raise ValueError(f'only a-z, 0-9, _ and - may be in it; "{slug(name)}" would do')
        return name


class MqttSettings(BaseModel):
    """`[mqtt]`: the broker, and how to speak with it."""

    model_config = _SECTION

    host: Text = Field(
        default="localhost", description="Name or address of the broker, without scheme or port."
    )
    port: Whole | None = Field(
        default=None,
        ge=1,
        le=65535,
        description=f"TCP port of the broker. Default: {MQTT_PORT}, or {MQTT_TLS_PORT} with TLS.",
    )
    tls: Switch | None = Field(
        default=None,
        description=(
            "Whether to encrypt. Default: yes if one of ca_file and cert_file is given or the "
            f"port is {MQTT_TLS_PORT}, else no."
        ),
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities to trust. Default: those of the system.",
    )
    cert_file: Path | None = Field(
        default=None, description="PEM file of the client certificate. Default: none is shown."
    )
    key_file: Path | None = Field(
        default=None, description="PEM file of the client's key. Default: it is in cert_file."
    )
    version: Literal["5", "3.1.1"] = Field(
        default="5", description="Version of MQTT to speak; 3.1.1 for brokers that know no other."
    )
    client_id: Text | None = Field(
        default=None,
        description="Client id; must be unique on the broker. Default: edge-gateway-<gateway>.",
    )
    username: Text | None = Field(default=None, description="User name. Default: none is sent.")
    password_file: Path | None = Field(
        default=None,
        description="File whose first line is the password. Default: no password is sent.",
    )
    password_credential: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.@-]+$",
        max_length=128,
        description=(
            "Name of the systemd credential (LoadCredential= of the service) that holds the "
            "password; instead of password_file."
        ),
    )
    base_topic: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="What every topic starts with. Default: edge/<gateway>.",
    )
    keepalive_s: Whole = Field(
        default=60,
        ge=5,
        le=3600,
        description="Seconds; the broker calls the gateway offline after 1.5 of them in silence.",
    )
    window: Whole = Field(
        default=100,
        ge=1,
        le=1000,
        description="Messages on their way at once, not yet acknowledged by the broker.",
    )
    batch_max: Whole = Field(
        default=MAX_BATCH,
        ge=1,
        le=MAX_BATCH,
        description=(
            "Samples of one device that may share a message while more wait than the broker "
            "takes; 1 gives each its own."
        ),
    )

    @property
    def is_configured(self) -> bool:
        """Whether somebody named a broker; if not, localhost is but a guess."""
        return not self.model_fields_set.isdisjoint({"host", "port"})

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted, after the default rule."""
        if self.tls is not None:
            return self.tls
        return bool(self.ca_file or self.cert_file or self.port == MQTT_TLS_PORT)

    @property
    def broker_port(self) -> int:
        """The TCP port, after the default rule."""
        return self.port or (MQTT_TLS_PORT if self.uses_tls else MQTT_PORT)

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if "://" in host:
            raise ValueError("only the name goes here; port and tls are keys of their own")
        if not _HOST.fullmatch(host):
            raise ValueError("this is neither a host name nor an address")
        return host

    @field_validator("base_topic")
    @classmethod
    def _is_a_topic(cls, topic: str | None) -> str | None:
        if topic is not None:
            if _NO_TOPIC_LEVEL.search(topic):
                raise ValueError("+, # and control characters may not be in a topic")
            if topic.startswith("$"):
                raise ValueError("topics that start with $ belong to the broker")
            if "" in topic.split("/"):
                raise ValueError("an empty level: no / at either end, and no two in a row")
        return topic

    @field_validator("ca_file", "cert_file")
    @classmethod
    def _is_not_without_tls(cls, path: Path | None, others: ValidationInfo) -> Path | None:
        if path and others.data.get("tls") is False:
            raise ValueError("tls = false: without encryption there is nobody to show it to")
        return path

    @field_validator("key_file")
    @classmethod
    def _has_a_certificate(cls, path: Path | None, others: ValidationInfo) -> Path | None:
        if path and others.data.get("cert_file", path) is None:
            raise ValueError("a key proves nothing alone; cert_file is missing")
        return path

    @field_validator("password_file", "password_credential")
    @classmethod
    def _has_a_username(
        cls, source: Path | str | None, others: ValidationInfo
    ) -> Path | str | None:
        named = others.data.get("username", source)
        if source and not named and others.data.get("version") == "3.1.1":
            raise ValueError("MQTT 3.1.1 takes no password without a username")
        return source

    @field_validator("password_credential")
    @classmethod
    def _is_the_only_password(cls, name: str | None, others: ValidationInfo) -> str | None:
        if name and others.data.get("password_file"):
            raise ValueError("password_file is given too; keep one of them")
        return name


class ColumnSettings(BaseModel):
    """One value of a text line; its key alone may stand for it."""

    model_config = _SECTION

    key: Text = Field(description="Name of the value; becomes the sensor's key.")
    unit: str = Field(default="", max_length=32, description="Unit, such as °C. Default: none.")
    device_class: str = Field(
        default="", max_length=64, description="Home Assistant's device class. Default: none."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_a_bare_key(cls, value: object) -> object:
        return {"key": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> JsonSchemaValue:  # noqa: ANN401  # pydantic's hook; its types are not public
        schema: JsonSchemaValue = handler(core_schema)
        target = handler.resolve_ref_schema(schema)
        section = dict(target)
        target.clear()
        target.update(
            title=section.pop("title"),
            description=section.pop("description"),
            anyOf=[{"type": "string", "minLength": 1, "maxLength": 256}, section],
        )
        return schema


class PortSettings(BaseModel):
    """`[[serial.port]]`: what is different for some ports; the first one that matches counts."""

    model_config = _SECTION

    match: Text = Field(
        description=(
            "Glob over the port's path (/dev/ttyUSB0) or its stable name "
            "(usb-1a86_USB_Serial-if00-port0, as `edge-gateway ports` shows it)."
        )
    )
    name: Text | None = Field(
        default=None,
        description="Name of the device there if it does not tell. Default: the port's name.",
    )
    baudrate: Whole | None = Field(
        default=None,
        ge=50,
        le=4_000_000,
        description="Bits a second. Default: the baudrate of [serial].",
    )
    format: Literal["auto", "board", "json", "csv", "key_value"] = Field(
        default="auto",
        description=(
            "What the lines are. auto: frames of our firmware and JSON lines; board: frames only; "
            "csv: values in the order of columns; key_value: `key=value` pairs."
        ),
    )
    columns: tuple[ColumnSettings, ...] = Field(
        default=(),
        max_length=64,
        validate_default=True,
        description=(
            "csv: the values of a line in their order; other formats: units of the keys named. "
            'Each is "key" or {key, unit, device_class}.'
        ),
    )
    separator: str = Field(
        default=",", min_length=1, max_length=1, description="Character between the values."
    )
    silence_s: Seconds | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description="Seconds, as silence_s of [serial]. Default: that one.",
    )

    @field_validator("columns")
    @classmethod
    def _name_the_values(
        cls, columns: tuple[ColumnSettings, ...], others: ValidationInfo
    ) -> tuple[ColumnSettings, ...]:
        if not columns and others.data.get("format") == "csv":
            raise ValueError('format "csv" needs the names of its values: columns = ["key", ...]')
        keys = [slug(column.key) for column in columns]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"{', '.join(twice)} is there twice")
        return columns


class SerialSettings(BaseModel):
    """`[serial]`: the ports to read."""

    model_config = _SECTION

    enabled: Switch = Field(default=True, description="Whether serial ports are read at all.")
    patterns: tuple[Text, ...] = Field(
        default=("/dev/serial/by-id/*", "/dev/ttyACM*", "/dev/ttyUSB*"),
        max_length=64,
        description="Globs of the ports to open, now and when they appear.",
    )
    exclude: tuple[Text, ...] = Field(
        default=(),
        max_length=64,
        description="Globs over path or stable name of ports to leave alone, such as a modem's.",
    )
    baudrate: Whole = Field(
        default=115_200, ge=50, le=4_000_000, description="Bits a second; USB boards ignore it."
    )
    rescan_s: Seconds = Field(
        default=1.0, ge=0.1, le=60, description="Seconds between looks for new ports."
    )
    settle_s: Seconds = Field(
        default=0.2,
        ge=0,
        le=10,
        description="Seconds after opening in which what arrives is boot noise, not yet answered.",
    )
    silence_s: Seconds = Field(
        default=0.0,
        ge=0,
        le=86_400,
        description=(
            "Seconds without a byte after which a port of a text source is opened anew; 0 for "
            "never. Boards with our firmware have a heartbeat and do not need it."
        ),
    )
    port: tuple[PortSettings, ...] = Field(
        default=(), max_length=1000, description="What is different for some ports, in order."
    )


class OutboxSettings(BaseModel):
    """`[outbox]`: samples that wait for the broker."""

    model_config = _SECTION

    max_records: Whole = Field(
        default=100_000,
        ge=100,
        le=10_000_000,
        description=(
            "Most samples that wait, about 0.5 KB of memory each. Boards with our firmware are "
            "asked to keep theirs before it is full; from others the oldest are dropped, and the "
            "loss is published."
        ),
    )


class LogSettings(BaseModel):
    """`[log]`: what the gateway writes about itself to stderr."""

    model_config = _SECTION

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity of the lines written."
    )


class Settings(BaseModel):
    """Configuration of edge-gateway."""

    model_config = _SECTION

    gateway: GatewaySettings = Field(
        default_factory=GatewaySettings, description="Who this gateway is."
    )
    mqtt: MqttSettings = Field(
        default_factory=MqttSettings, description="The broker, and how to speak with it."
    )
    serial: SerialSettings = Field(default_factory=SerialSettings, description="The ports to read.")
    outbox: OutboxSettings = Field(
        default_factory=OutboxSettings, description="Samples that wait for the broker."
    )
    log: LogSettings = Field(
        default_factory=LogSettings, description="What the gateway writes about itself."
    )

    @property
    def base_topic(self) -> str:
        """What every topic starts with, after the default rule."""
        return self.mqtt.base_topic or f"edge/{self.gateway.name}"

    @property
    def client_id(self) -> str:
        """The MQTT client id, after the default rule."""
        return self.mqtt.client_id or f"edge-gateway-{self.gateway.name}"

"""Section `[serial]`."""

from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue

from gateway.config.fields import SECTION, FileName, Seconds, Switch, Text, Whole
from gateway.model import slug

_WILDCARDS = frozenset("*?[")
"""What makes a glob match several ports."""


class ColumnSettings(BaseModel):
    """One value of a text line; its key alone may stand for it."""

    model_config = SECTION

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

    model_config = SECTION

    match: Text = Field(
        description=(
            "Glob over the port's path (/dev/ttyUSB0) or its stable name "
            "(usb-1a86_USB_Serial-if00-port0, as `edge-gateway ports` shows it)."
        )
    )
    name: Text | None = Field(
        default=None,
        description=(
            "Name of the device there if it does not tell. It is for one port: match then has no "
            "*, ? or [. Default: the port's name."
        ),
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

    @field_validator("name")
    @classmethod
    def _name_one_port(cls, name: str | None, others: ValidationInfo) -> str | None:
        match = others.data.get("match", "")
        if name is not None and _WILDCARDS.intersection(match):
            raise ValueError(
                f'a name is for one port, and "{match}" may match several: let match be the whole '
                "name of one, as `edge-gateway ports` shows it"
            )
        return name

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

    model_config = SECTION

    enabled: Switch = Field(default=True, description="Whether serial ports are read at all.")
    patterns: tuple[FileName, ...] = Field(
        default=("/dev/edge-gateway/*", "/dev/serial/by-id/*", "/dev/ttyACM*", "/dev/ttyUSB*"),
        max_length=64,
        description=(
            "Globs of the ports to open, now and when they appear. A port is opened once, however "
            "many of its names match, and is called by the first stable one."
        ),
    )
    exclude: tuple[FileName, ...] = Field(
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

"""Section `[homeassistant]`."""

from pydantic import BaseModel, Field, field_validator

from gateway.config.fields import SECTION, Switch, Text


class HomeAssistantSettings(BaseModel):
    """`[homeassistant]`: whether devices appear in Home Assistant by themselves."""

    model_config = SECTION

    enabled: Switch = Field(
        default=True,
        description=(
            "Whether devices, and the gateway itself, are announced to Home Assistant. Without one "
            "it costs a retained message a device."
        ),
    )
    prefix: Text = Field(
        default="homeassistant",
        max_length=128,
        description=(
            "What its discovery topics begin with, and where it says that it has started: "
            "`<prefix>/status`. As in Home Assistant's settings of MQTT."
        ),
    )

    @field_validator("prefix")
    @classmethod
    def _is_a_topic(cls, prefix: str) -> str:
        is_whole = prefix.isprintable() and "" not in prefix.split("/")
        if not is_whole or prefix.startswith("$") or set(prefix) & set("+#"):
            raise ValueError("no topic: one has no empty level, no + or #, and no $ in front")
        return prefix

"""Section `[mqtt]`."""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from gateway.config.fields import SECTION, Switch, Text, Whole

MQTT_PORT = 1883
"""Port of MQTT without TLS; registered with IANA."""
MQTT_TLS_PORT = 8883
"""Port of MQTT with TLS; registered with IANA."""
MAX_BATCH = 100
"""Most records in one message; the topic contract promises it to subscribers."""

_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")
_NO_TOPIC_LEVEL = re.compile(r"[+#\x00-\x1f\x7f]")


class MqttSettings(BaseModel):
    """`[mqtt]`: the broker, and how to speak with it."""

    model_config = SECTION

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
    key_credential: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.@-]+$",
        max_length=128,
        description=(
            "Name of the systemd credential (LoadCredential= of the service) that is the client's "
            "key; instead of key_file."
        ),
    )
    tls_server_name: Text | None = Field(
        default=None,
        description=(
            "Name the broker's certificate must have, and that it is asked for (SNI), where "
            "`host` is an address or another name. Default: host."
        ),
    )
    tls_alpn: Text | None = Field(
        default=None,
        max_length=255,
        description=(
            "Protocol to ask for (ALPN) where MQTT shares a port such as 443 with others: `mqtt`, "
            "or `x-amzn-mqtt-ca`. Default: none is asked for."
        ),
    )
    version: Literal["5", "3.1.1"] = Field(
        default="5", description="Version of MQTT to speak; 3.1.1 for brokers that know no other."
    )
    client_id: Text | None = Field(
        default=None,
        description="Client id; must be unique on the broker. Default: edge-gateway-<gateway>.",
    )
    username: Text | None = Field(default=None, description="User name. Default: none is sent.")
    username_credential: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.@-]+$",
        max_length=128,
        description=(
            "Name of the systemd credential (LoadCredential= of the service) whose first line is "
            "the user name; instead of username."
        ),
    )
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

    @field_validator("tls_server_name")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name and not _HOST.fullmatch(name):
            raise ValueError("this is neither a host name nor an address")
        return name

    @field_validator("tls_server_name", "tls_alpn")
    @classmethod
    def _is_said_in_tls(cls, name: str | None, others: ValidationInfo) -> str | None:
        told = others.data
        is_encrypted = told.get("tls")
        if is_encrypted is None:  # the default rule of `uses_tls`, on what is known so far
            files = told.get("ca_file"), told.get("cert_file")
            is_encrypted = any(files) or told.get("port") == MQTT_TLS_PORT
        if name and not is_encrypted:
            raise ValueError("it is said only in TLS, which is off; set tls = true")
        return name

    @field_validator("key_file", "key_credential")
    @classmethod
    def _has_a_certificate(
        cls, source: Path | str | None, others: ValidationInfo
    ) -> Path | str | None:
        if source and others.data.get("cert_file", source) is None:
            raise ValueError("a key proves nothing alone; cert_file is missing")
        return source

    @field_validator("key_credential")
    @classmethod
    def _is_the_only_key(cls, name: str | None, others: ValidationInfo) -> str | None:
        if name and others.data.get("key_file"):
            raise ValueError("key_file is given too; keep one of them")
        return name

    @field_validator("password_file", "password_credential")
    @classmethod
    def _has_a_username(
        cls, source: Path | str | None, others: ValidationInfo
    ) -> Path | str | None:
        named = others.data.get("username", source) or others.data.get("username_credential")
        if source and not named and others.data.get("version") == "3.1.1":
            raise ValueError("MQTT 3.1.1 takes no password without a username")
        return source

    @field_validator("username_credential")
    @classmethod
    def _is_the_only_username(cls, name: str | None, others: ValidationInfo) -> str | None:
        if name and others.data.get("username"):
            raise ValueError("username is given too; keep one of them")
        return name

    @field_validator("password_credential")
    @classmethod
    def _is_the_only_password(cls, name: str | None, others: ValidationInfo) -> str | None:
        if name and others.data.get("password_file"):
            raise ValueError("password_file is given too; keep one of them")
        return name

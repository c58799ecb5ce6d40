import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.models import Settings
from gateway.model import slug


def sections(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, definition in {"Settings": schema, **schema["$defs"]}.items():
        kinds = [definition, *definition.get("anyOf", [])]
        yield name, next(kind for kind in kinds if "properties" in kind)


def fields() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{section}.{key}", field)
        for section, definition in sections(Settings.model_json_schema())
        for key, field in definition["properties"].items()
    ]


def kinds_of(field: dict[str, Any]) -> list[dict[str, Any]]:
    return [field, *field.get("anyOf", [])]


@pytest.mark.parametrize(("name", "field"), fields(), ids=lambda part: str(part)[:40])
def test_every_key_is_described(name: str, field: dict[str, Any]) -> None:
    assert len(field["description"]) >= 15, name
    assert field["description"].endswith("."), name


@pytest.mark.parametrize(("name", "field"), fields(), ids=lambda part: str(part)[:40])
def test_every_number_has_bounds_and_every_list_a_length(name: str, field: dict[str, Any]) -> None:
    for kind in kinds_of(field):
        if kind.get("type") in {"integer", "number"}:
            assert "minimum" in kind, name
            assert "maximum" in kind, name
        if kind.get("type") == "array":
            assert "maxItems" in kind, name


@pytest.mark.parametrize(
    ("name", "field"), [f for f in fields() if f[0].endswith("_s")], ids=lambda part: str(part)[:40]
)
def test_a_duration_says_that_it_is_in_seconds(name: str, field: dict[str, Any]) -> None:
    assert "Seconds" in field["description"], name


def test_no_section_takes_unknown_keys() -> None:
    for name, section in sections(Settings.model_json_schema()):
        assert section["additionalProperties"] is False, name


def test_the_schema_is_plain_json_and_lets_a_column_be_a_bare_key() -> None:
    schema = json.loads(json.dumps(Settings.model_json_schema()))

    kinds = [kind["type"] for kind in schema["$defs"]["ColumnSettings"]["anyOf"]]

    assert kinds == ["string", "object"]


def test_settings_cannot_be_changed_later() -> None:
    settings = Settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.mqtt.port = 1


def test_the_gateway_is_named_like_the_machine() -> None:
    settings = Settings()

    assert settings.gateway.name == slug(socket.gethostname())
    assert settings.base_topic == f"edge/{settings.gateway.name}"
    assert settings.client_id == f"edge-gateway-{settings.gateway.name}"


def test_topic_and_client_id_follow_the_name_unless_given() -> None:
    named = Settings.model_validate({"gateway": {"name": "attic"}})
    given = Settings.model_validate({"mqtt": {"base_topic": "home/attic", "client_id": "me"}})

    assert (named.base_topic, named.client_id) == ("edge/attic", "edge-gateway-attic")
    assert (given.base_topic, given.client_id) == ("home/attic", "me")


@pytest.mark.parametrize(
    ("mqtt", "uses_tls", "port"),
    [
        ({}, False, 1883),
        ({"port": 1884}, False, 1884),
        ({"port": 8883}, True, 8883),
        ({"port": 8883, "tls": False}, False, 8883),
        ({"tls": True}, True, 8883),
        ({"tls": True, "port": 1883}, True, 1883),
        ({"ca_file": "ca.pem"}, True, 8883),
        ({"cert_file": "me.pem"}, True, 8883),
    ],
)
def test_tls_and_port_follow_from_each_other(
    mqtt: dict[str, object],
    uses_tls: bool,
    port: int,
) -> None:
    settings = Settings.model_validate({"mqtt": mqtt}).mqtt

    assert (settings.uses_tls, settings.broker_port) == (uses_tls, port)


@pytest.mark.parametrize(
    ("outbox", "state"),
    [("/a/outbox.db", "/a/gateway.db"), ("/a/cellar.db", "/a/cellar.gateway.db")],
)
def test_the_state_database_is_beside_the_outbox(outbox: str, state: str) -> None:
    settings = Settings.model_validate({"outbox": {"path": outbox}})

    assert str(settings.state_path) == state


@pytest.mark.parametrize(
    ("mqtt", "is_configured"),
    [({}, False), ({"window": 5}, False), ({"host": "localhost"}, True), ({"port": 1883}, True)],
)
def test_a_broker_is_configured_once_somebody_named_it(
    mqtt: dict[str, object],
    is_configured: bool,
) -> None:
    assert Settings.model_validate({"mqtt": mqtt}).mqtt.is_configured is is_configured


def test_a_column_may_be_a_bare_key() -> None:
    port = {"match": "*", "format": "csv", "columns": ["a", {"key": "b", "unit": "°C"}]}

    columns = Settings.model_validate({"serial": {"port": [port]}}).serial.port[0].columns

    assert [(column.key, column.unit) for column in columns] == [("a", ""), ("b", "°C")]

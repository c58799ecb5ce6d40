import pytest

from gateway.config.broker_url import parse_broker
from gateway.config.loader import load
from gateway.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "broker"),
    [
        ("broker", {"host": "broker"}),
        ("broker:1884", {"host": "broker", "port": 1884}),
        ("192.168.1.2:1884", {"host": "192.168.1.2", "port": 1884}),
        ("[::1]:1884", {"host": "::1", "port": 1884}),
        ("bob@broker", {"host": "broker", "username": "bob"}),
        ("mqtt://broker", {"host": "broker", "tls": False}),
        ("mqtt://broker/", {"host": "broker", "tls": False}),
        ("mqtts://broker", {"host": "broker", "tls": True}),
        (
            "mqtts://bob%40home@broker:8884",
            {"host": "broker", "port": 8884, "tls": True, "username": "bob@home"},
        ),
    ],
)
def test_a_broker_in_one_word_becomes_keys_of_the_mqtt_section(
    text: str, broker: dict[str, object]
) -> None:
    assert parse_broker(text) == broker
    assert load(None, {"mqtt": parse_broker(text)}).mqtt.is_configured


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the host is missing"),
        ("mqtt://", "the host is missing"),
        (":1883", "the host is missing"),
        ("http://broker", "unknown scheme http://"),
        ("broker:abc", "broker:abc: expected a port of 1 to 65535 behind the last colon"),
        ("broker:70000", "expected a port of 1 to 65535"),
        ("::1", r"stands in brackets, such as \[::1\]:1883"),
        ("mqtt://broker/topic", "nothing may follow host and port"),
        ("mqtt://broker?x=1", "nothing may follow host and port"),
        ("mqtt://[::1", "Invalid IPv6"),
    ],
)
def test_anything_else_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_broker(text)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="password_file") as failure:
        parse_broker("mqtt://bob:hunter2@broker")

    assert "hunter2" not in str(failure.value)

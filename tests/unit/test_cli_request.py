"""What is typed for a request, and what is sent."""

import argparse
import json
from functools import partial
from pathlib import Path

import pytest

from gateway.cli import request
from gateway.cli.commands import USAGE, main
from gateway.cli.request import Question, payload_of, show
from gateway.errors import ConfigError, RequestError
from gateway.mqtt.incoming import Incoming
from gateway.mqtt.settings import BrokerSettings


@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        ("reload", [], {}),
        ("rename", ["device=a", "to=Green House"], {"device": "a", "to": "Green House"}),
        ("rename", ["device=12", "to=a=b"], {"device": "12", "to": "a=b"}),
        ("remove", ["device=a", "block=true"], {"device": "a", "block": True}),
        ("permit_join", ["seconds=2.5"], {"seconds": 2.5}),
        (
            "options",
            ["device=a", "interval_ms.climate=5000", "interval_ms.battery=null"],
            {"device": "a", "interval_ms": {"climate": 5000, "battery": None}},
        ),
        (
            "options",
            ["device=a", 'interval_ms={"climate":1}'],
            {"device": "a", "interval_ms": {"climate": 1}},
        ),
    ],
)
def test_what_is_typed_is_what_is_sent(verb: str, words: list[str], said: object) -> None:
    sent = json.loads(payload_of(verb, words, "t-1"))

    assert sent.pop("transaction") == "t-1"
    assert sent == said


@pytest.mark.parametrize(
    ("verb", "words", "complaint"),
    [
        ("renme", [], "unknown request `renme`: did you mean `rename`?"),
        ("rename", ["device"], "'device': expected KEY=VALUE"),
        ("rename", ["device=a", "two=b"], 'unknown key "two": did you mean "to"?'),
        ("permit_join", ["seconds=soon"], 'seconds: expected a number, got "soon"'),
        ("options", ["device=a", "device.x=1"], "device is a value already"),
    ],
)
def test_what_no_gateway_would_take_is_not_sent(
    verb: str, words: list[str], complaint: str
) -> None:
    with pytest.raises(ConfigError) as told:
        payload_of(verb, words, "t-1")

    assert complaint in str(told.value)


def overrides(*words: str) -> dict[str, dict[str, object]]:
    parser = argparse.ArgumentParser()
    request.add_arguments(parser)
    return request.overrides_of(parser.parse_args(["reload", *words]))


def test_who_says_who_he_is_is_nothing_of_what_the_gateway_is() -> None:
    nobody = dict.fromkeys(
        [
            "username",
            "username_credential",
            "password_file",
            "password_credential",
            "cert_file",
            "key_file",
            "key_credential",
        ]
    )

    bob = overrides("--broker", "mqtts://bob@b", "--password-file", "p")
    carol = overrides("--cert-file", "c.pem", "--key-file", "k.pem")

    assert bob == {
        "mqtt": {
            **nobody,
            "host": "b",
            "tls": True,
            "username": "bob",
            "password_file": "p",
        }
    }
    assert carol == {"mqtt": {**nobody, "cert_file": "c.pem", "key_file": "k.pem"}}


def test_who_only_says_where_is_who_the_configuration_says() -> None:
    assert overrides() == {}
    assert overrides("--broker", "b:1884", "--gateway", "attic", "--base-topic", "x") == {
        "mqtt": {"host": "b", "port": 1884, "base_topic": "x"},
        "gateway": {"name": "attic"},
    }


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"device": "grün"}, 0),
        ({"healthy": True, "problems": []}, 0),
        ({"healthy": False, "problems": ["broker: no"]}, 1),
        (None, 0),
    ],
)
def test_what_is_answered_is_printed(
    capsys: pytest.CaptureFixture[str], found: object, code: int
) -> None:
    assert show({"status": "ok", "data": found}) == code
    assert json.loads(capsys.readouterr().out) == found


def test_what_was_not_done_is_an_error() -> None:
    with pytest.raises(RequestError, match="there is no device"):
        show({"status": "error", "error": "there is no device"})
    with pytest.raises(RequestError, match="says nothing"):
        show({})


def test_key_and_value_may_stand_behind_options(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["request", "rename", "--timeout", "1", "device=a", "two=b"]

    assert main(words) == USAGE

    assert 'unknown key "two": did you mean "to"?' in capsys.readouterr().err


@pytest.mark.parametrize("surplus", ["--nonsense", "nonsense"])
def test_what_is_no_key_and_value_is_not_understood(
    surplus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["request", "devices", "--timeout", "1", surplus])

    assert ended.value.code == USAGE
    assert f"unrecognized arguments: {surplus}" in capsys.readouterr().err


def test_whom_to_trust_can_be_said_without_a_configuration() -> None:
    assert overrides("--ca-file", "ca.pem") == {"mqtt": {"ca_file": "ca.pem"}}


def test_what_was_said_with_an_option_is_told_as_that_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").touch()
    config = tmp_path / "gateway.toml"
    config.write_text('[mqtt]\nhost = "127.0.0.1"\nca_file = "ca.pem"\n')

    main(["request", "devices", "--broker", "127.0.0.1:1", "--ca-file", str(tmp_path / "ca.pem")])
    by_option = capsys.readouterr().err
    main(["request", "devices", "--config", str(config)])
    by_config = capsys.readouterr().err

    assert "ca.pem (--ca-file) holds no certificate" in by_option
    assert "ca.pem (mqtt.ca_file) holds no certificate" in by_config


async def test_the_question_heard_as_the_gateway_itself_is_no_answer() -> None:
    question = Question(BrokerSettings("broker", 1883), "devices", "t-1")
    confirmed: list[str] = []

    def hear(topic: str, payload: bytes) -> bool:
        question.take(Incoming(topic, payload, False, False, 1, partial(confirmed.append, topic)))
        return question.answer.done()

    assert not hear("request/devices", payload_of("devices", [], "t-1"))
    assert not hear("response/devices", b'{"transaction":"t-2","status":"ok"}')
    assert not hear("response/devices", b"[" * 9000)
    assert hear("response/devices", b'{"transaction":"t-1","status":"ok","data":1}')
    assert question.answer.result()["data"] == 1
    assert len(confirmed) == 4

"""Commands as they come over MQTT: what they mean, and what is said of wrong ones."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.model import Actuator
from gateway.requests.command import (
    CommandKind,
    CommandRequest,
    CommandTopic,
    command_topic,
    read_command,
    transaction_of,
)
from tests.support.effort import examples

PUMP = Actuator("pump", "Pump", "switch")
FAN = Actuator("fan", "Fan", "number", minimum=0, maximum=100)
LAMP = Actuator("lamp", "Lamp", "number", minimum=0, maximum=100, is_light=True)
BELL = Actuator("bell", "Bell", "button")
MODE = Actuator("mode", "Mode", "select", options=("eco", "boost"))
LINE = Actuator("line", "Line", "text", maximum=8)
ALL = (PUMP, FAN, LAMP, BELL, MODE, LINE)

SET = CommandTopic(CommandKind.SET, "shed")
COMMAND = CommandTopic(CommandKind.COMMAND, "shed")


def one(actuator: str) -> CommandTopic:
    return CommandTopic(CommandKind.SET_ONE, "shed", actuator)


def error_of(topic: CommandTopic, payload: bytes, *, is_known: bool = True) -> str:
    with pytest.raises(RequestError) as told:
        read_command(topic, payload, ALL if is_known else None)
    return str(told.value)


@pytest.mark.parametrize(
    ("subtopic", "topic"),
    [
        ("shed/set", SET),
        ("shed/pump/set", one("pump")),
        ("shed/command", COMMAND),
        ("shed/command/set", one("command")),
        ("shed/command/result", None),
        ("shed/pump/state", None),
        ("set", None),
        ("a/b/c/set", None),
    ],
)
def test_a_topic_says_which_device_and_which_actuator(
    subtopic: str, topic: CommandTopic | None
) -> None:
    assert command_topic(subtopic) == topic


@pytest.mark.parametrize(
    ("actuator", "payload", "value"),
    [
        ("pump", b"ON", True),
        ("pump", b"off", False),
        ("pump", b"true", True),
        ("pump", b"0", False),
        ("fan", b"40", 40),
        ("fan", b"40.0", 40),
        ("fan", b"12.5", 12.5),
        ("lamp", b"ON", True),
        ("lamp", b"OFF", False),
        ("lamp", b"1", 1),
        ("bell", b"PRESS", "PRESS"),
        ("mode", b"boost", "boost"),
        ("line", "grün".encode(), "grün"),
        ("line", b"12", "12"),
    ],
)
def test_home_assistants_words_are_understood(actuator: str, payload: bytes, value: object) -> None:
    request = read_command(one(actuator), payload, ALL)

    assert request == CommandRequest("set", {actuator: value}, 30.0)
    assert type(request.arguments[actuator]) is type(value)


@pytest.mark.parametrize(
    ("actuator", "payload", "error"),
    [
        ("pump", b"maybe", 'pump: expected ON or OFF, got "maybe"'),
        ("pump", b"", 'pump: expected ON or OFF, got ""'),
        ("fan", b"101", 'fan: expected a number from 0 to 100, got "101"'),
        ("fan", b"nan", 'fan: expected a number from 0 to 100, got "nan"'),
        ("fan", b"fast", 'fan: expected a number from 0 to 100, got "fast"'),
        ("lamp", b"-1", 'lamp: expected a number from 0 to 100, ON or OFF, got "-1"'),
        ("bell", b"ring", 'bell: expected PRESS, got "ring"'),
        ("mode", b"turbo", 'mode: expected one of "eco", "boost", got "turbo"'),
        ("line", b"123456789", 'line: expected a text of 0 to 8 characters, got "123456789"'),
        ("horn", b"ON", 'no actuator "horn"; there are: pump, fan, lamp, bell, mode, line'),
        ("pump", b"\xff", "pump: expected text in UTF-8"),
    ],
)
def test_a_value_that_an_actuator_does_not_take_is_told(
    actuator: str, payload: bytes, error: str
) -> None:
    assert error_of(one(actuator), payload) == error


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"ON", True),
        (b"off", False),
        (b"1", 1),
        (b"2.5", 2.5),
        (b"true", True),
        (b"eco", "eco"),
        (b"NaN", "NaN"),
        (b"1e999", "1e999"),
        (b'{"a":1}', '{"a":1}'),
    ],
)
def test_of_an_actuator_nobody_has_described_the_board_judges(
    payload: bytes, value: object
) -> None:
    assert read_command(one("any"), payload, None).arguments == {"any": value}


def test_several_actuators_are_set_with_one_object() -> None:
    payload = b'{"pump": "ON", "fan": 30}'

    assert read_command(SET, payload, ALL) == CommandRequest("set", {"pump": True, "fan": 30}, 30.0)


def test_a_command_names_its_transaction_and_its_time() -> None:
    set_pump = {"transaction": "5f-1", "set": {"pump": True}, "expires_s": 600}
    call = {"transaction": 7, "call": "interval", "arguments": {"climate": 5000}}

    assert read_command(COMMAND, json.dumps(set_pump).encode(), ALL) == CommandRequest(
        "set", {"pump": True}, 600.0, "5f-1"
    )
    assert read_command(COMMAND, json.dumps(call).encode(), ALL) == CommandRequest(
        "interval", {"climate": 5000}, 30.0, 7
    )


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({}, 'expected either "set" or "call"'),
        ({"set": {"pump": True}, "call": "reset"}, 'expected either "set" or "call"'),
        ({"set": {}}, "set: expected to have at least 1 item"),
        ({"set": {"pump": [1]}}, "pump: expected a number, a text, true or false, got a list of 1"),
        ({"set": {"fan": 200}}, "fan: expected a number from 0 to 100, got 200"),
        ({"call": "set", "arguments": {}}, 'actuators are set with "set"'),
        ({"call": "Reset!"}, "call: expected to match pattern"),
        ({"set": {"pump": True}, "arguments": 1}, '"arguments" belong to "call"'),
        ({"call": "reset", "expires_s": 0}, "expires_s: expected to be greater than 0, got 0"),
        ({"call": "reset", "expires_s": "5"}, "expires_s: expected a number, got"),
        ({"call": "reset", "expires_s": 86_401}, "expires_s: expected to be less than or equal"),
        ({"call": "reset", "transaction": ""}, "transaction: expected"),
        ({"call": "reset", "transaction": "x" * 65}, "transaction: expected"),
        ({"call": "reset", "transaction": 1.5}, "transaction: expected"),
        (
            {"call": "reset", "qos": 1},
            'unknown key "qos"; known: transaction, set, call, arguments, expires_s',
        ),
    ],
)
def test_what_is_wrong_with_a_command_is_told(said: dict[str, Any], error: str) -> None:
    assert error_of(COMMAND, json.dumps(said).encode()).startswith(error)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"", "expected a JSON object, got nothing"),
        (b"ON", 'expected a JSON object, got "ON"'),
        (b"[1]", "expected a JSON object, got a list of 1"),
        (b'{"pump": true, "pump": false}', 'the key "pump" is there twice'),
        (b'{"pump": NaN}', "NaN is not JSON"),
        (b'{"pump": 1e999}', "a number is too large"),
        (b'{"pump": "\\ud800"}', "expected JSON in UTF-8"),
        (b"\xff{}", "expected JSON in UTF-8"),
        (b'{"pump":' + b"[" * 500 + b"]" * 500 + b"}", "nested too deeply"),
        (b'{"pump": ' + b"[" * 9 + b"]" * 9 + b"}", "nested too deeply"),
        (b'{"pump": null}', "pump: expected a number, a text, true or false, got null"),
        (b"{}", "expected an object such as"),
        (b'{"pump": "' + b"x" * 1024 + b'"}', "expected at most 1024 bytes, got 1036"),
    ],
)
def test_what_is_no_object_of_values_is_told(payload: bytes, error: str) -> None:
    assert error_of(SET, payload).startswith(error)


def test_the_transaction_of_a_wrong_command_is_known_all_the_same() -> None:
    assert transaction_of(CommandKind.COMMAND, b'{"transaction":"a","set":5,"x":1}') == "a"
    assert transaction_of(CommandKind.COMMAND, b'{"transaction":7}') == 7
    assert transaction_of(CommandKind.COMMAND, b'{"transaction":[7]}') is None
    assert transaction_of(CommandKind.COMMAND, b"{") is None
    assert transaction_of(CommandKind.SET, b'{"transaction":"a"}') is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_COMMANDS = st.fixed_dictionaries(
    {},
    optional={
        "transaction": _JSON,
        "set": _JSON,
        "call": _JSON,
        "arguments": _JSON,
        "expires_s": _JSON,
        "pump": _JSON,
    },
)


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(
    st.sampled_from([SET, COMMAND, one("pump"), one("fan"), one("mode"), one("x")]),
    st.binary(max_size=40)
    | _JSON.map(lambda v: json.dumps(v).encode())
    | _COMMANDS.map(lambda v: json.dumps(v).encode()),
    st.booleans(),
)
def test_any_payload_is_a_command_that_json_can_carry_or_an_error_in_words(
    topic: CommandTopic,
    payload: bytes,
    is_known: bool,
) -> None:
    transaction_of(topic.kind, payload)
    request, error = None, ""
    try:
        request = read_command(topic, payload, ALL if is_known else None)
    except RequestError as exc:
        error = str(exc)

    if request is None:
        assert 0 < len(error) < 400
        assert error.isprintable()
    else:
        assert json.dumps(request.arguments, allow_nan=False)
        assert 0 < request.expires_s <= 86_400

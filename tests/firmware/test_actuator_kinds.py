"""Actuators beside switches: lamps, buttons, selections, texts, and those without hardware."""

import os
from collections.abc import Iterator

import pytest

from tests.firmware.hosts import Host
from tests.support.terminals import read_count

_PRELUDE = """
from fakes import pins
def actuator(kind, config):
    return __import__("actuators." + kind, None, None, ("Actuator",)).Actuator(config)
def refusal(made, value):
    try:
        made.set(value)
    except ValueError as e:
        return str(e)
def mistake(kind, config):
    try:
        actuator(kind, config)
    except ValueError as e:
        return str(e)
def levels(*numbers):
    return [pins.line(number).level() for number in numbers]
"""


def test_a_lamp_says_that_it_is_one(host: Host) -> None:
    said = host.said(
        _PRELUDE + "say(actuator('pwm', {'name': 'l', 'pin': 4, 'light': True}).describe())"
    )

    assert said == {
        "k": "l",
        "n": "l",
        "t": "number",
        "range": [0, 100],
        "unit": "%",
        "light": True,
        "state": 0,
    }


def test_a_lamp_goes_on_as_bright_as_it_was(host: Host) -> None:
    script = """
a = actuator('pwm', {'name': 'lamp', 'pin': 4, 'light': True})
steps = []
for value in ('ON', 'OFF', 40, 'on', False, True, '0', True, 'OFF'):
    a.set(value)
    steps.append(a.state)
say(steps)
"""

    assert host.said(_PRELUDE + script) == [100, 0, 40, 40, 0, 40, 0, 40, 0]


def test_what_is_no_lamp_takes_no_words(host: Host) -> None:
    script = """
a = actuator('pwm', {'name': 'fan', 'pin': 4})
say([refusal(a, 'on'), refusal(a, True), a.state])
"""

    assert host.said(_PRELUDE + script) == ["fan: not a number from 0 to 100"] * 2 + [0]


def test_a_button_pulses_its_output(host: Host) -> None:
    script = """
a = actuator('pulse_output', {'name': 'bell', 'pin': 5, 'ms': 40, 'device_class': 'restart'})
async def press():
    seen = levels(5)
    a.set('PRESS')
    seen += levels(5)
    await asyncio.sleep_ms(200)
    return seen + levels(5)
say([asyncio.run(press()), a.describe(), a.state])
"""

    seen, description, state = host.said(_PRELUDE + script)

    assert seen == [0, 1, 0]
    assert description == {"k": "bell", "n": "bell", "t": "button", "dc": "restart"}
    assert state is None


def test_a_button_that_is_pressed_again_begins_anew(host: Host) -> None:
    script = """
edges = []
a = actuator('pulse_output', {'name': 'bell', 'pin': 5, 'ms': 60000, 'active_low': True})
pins.watch(5, edges.append)
async def press():
    a.set(True)
    a.set(True)
    before = levels(5)
    a.safe()
    await asyncio.sleep_ms(0)
    return before + levels(5)
say([asyncio.run(press()), edges])
"""

    seen, edges = host.said(_PRELUDE + script)

    assert seen == [0, 1]
    assert edges == [0, 1, 0, 1]


def test_a_button_refuses_what_is_no_press(host: Host) -> None:
    script = """
a = actuator('pulse_output', {'name': 'bell', 'pin': 5})
say([[refusal(a, value) for value in (False, 0, 1, None, 'release', [])], levels(5)])
say([mistake('pulse_output', {'name': 'bell', 'pin': 5, 'ms': ms}) for ms in (0, 60001, 'long')])
"""

    refusals, mistakes = host.run(_PRELUDE + script).said

    assert refusals == [["bell: a button takes true or PRESS"] * 6, [0]]
    assert mistakes == ["bell: ms must be from 1 to 60000"] * 3


SPEEDS = "{'name': 'fan', 'options': [['off', None], ['low', 4], ['high', 5]]}"


def test_a_selection_has_one_output_on(host: Host) -> None:
    script = f"""
a = actuator('selector', {SPEEDS})
steps = [[a.state] + levels(4, 5)]
for value in ('low', 'high', 'off'):
    a.set(value)
    steps.append([a.state] + levels(4, 5))
say([steps, a.describe()])
"""

    steps, description = host.said(_PRELUDE + script)

    assert steps == [["off", 0, 0], ["low", 1, 0], ["high", 0, 1], ["off", 0, 0]]
    assert description == {
        "k": "fan",
        "n": "fan",
        "t": "select",
        "options": ["off", "low", "high"],
        "state": "off",
    }


def test_in_a_selection_no_two_outputs_are_on_at_once(host: Host) -> None:
    script = f"""
a = actuator('selector', {SPEEDS})
a.set('low')
both = []
for number in (4, 5):
    pins.watch(number, lambda level: both.append(sum(levels(4, 5))))
for value in ('high', 'low', 'high', 'off'):
    a.set(value)
say(max(both))
"""

    assert host.said(_PRELUDE + script) == 1


def test_a_selection_takes_its_safe_state_and_refuses_other_names(host: Host) -> None:
    script = f"""
config = {SPEEDS}
config['safe'] = 'low'
a = actuator('selector', config)
first = a.state
a.set('high')
refused = [refusal(a, value) for value in ('fast', None, 1, True)]
a.safe()
say([first, refused, a.state, levels(4, 5)])
for wrong in ({{'options': [['off', None]]}}, {{'safe': 'fast'}}, {{'start': 'fast'}},
              {{'options': [['a', 4], ['a', 5]]}}, {{'options': [['', 4], ['a', 5]]}}):
    config = {SPEEDS}
    config.update(wrong)
    say(mistake('selector', config))
"""

    (first, refused, state, levels), *mistakes = host.run(_PRELUDE + script).said

    assert (first, state, levels) == ("low", "low", [1, 0])
    assert all(text.startswith("fan: ") for text in [*refused, *mistakes])
    assert len(mistakes) == 5


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """The far end of UART 1, and the path of the near one."""
    far_end, near_end = os.openpty()
    os.set_blocking(far_end, False)
    yield far_end, os.ttyname(near_end)
    os.close(far_end)
    os.close(near_end)


def test_a_text_goes_out_as_a_line(host: Host, line: tuple[int, str]) -> None:
    far_end, path = line
    script = """
a = actuator('uart_text', {'name': 'display', 'id': 1, 'tx': 17, 'rx': 16, 'longest': 20,
                           'start': 'hello', 'safe': 'no gateway'})
a.set('21.5 °C')
refused = [refusal(a, value) for value in ('x' * 21, 'two\\nlines', 5, None)]
say([a.describe(), refused])
a.safe()
say(a.state)
"""

    (description, refused), safe = host.run(_PRELUDE + script, BOARD_UART1=path).said

    assert description == {
        "k": "display",
        "n": "display",
        "t": "text",
        "range": [0, 20],
        "state": "21.5 °C",
    }
    assert all(text.startswith("display: ") for text in refused)
    assert safe == "no gateway"
    lines = "hello\n21.5 °C\nno gateway\n".encode()
    assert read_count(far_end, len(lines)) == lines


@pytest.mark.parametrize(
    ("config", "taken", "refused", "state"),
    [
        ({}, ["on", False, 1], ["perhaps", 2], True),
        ({"type": "number", "range": [5, 30], "step": 0.5}, [21.5, "7"], [4, 31, True, "x"], 7),
        ({"type": "light"}, [40, "0", True, False, "ON", 12.5], [101, -1, None, "dim"], 12.5),
        ({"type": "select", "options": ["eco", "boost"]}, ["boost"], ["turbo", None], "boost"),
        ({"type": "text"}, ["", "hello"], [5, None], "hello"),
        ({"type": "button"}, [True, "PRESS"], [], None),
    ],
    ids=["switch", "number", "light", "select", "text", "button"],
)
def test_an_actuator_without_hardware_takes_what_its_kind_does(
    host: Host, config: dict[str, object], taken: list[object], refused: list[object], state: object
) -> None:
    script = f"""
config = {config!r}
config['name'] = 'it'
a = actuator('simulated', config)
for value in {taken!r}:
    a.set(value)
say([a.state, [refusal(a, value) for value in {refused!r}], a.describe()])
"""

    stands, refusals, description = host.said(_PRELUDE + script)

    assert stands == state
    assert len(refusals) == len(refused)
    assert all(text.startswith("it: ") for text in refusals)
    assert description.get("state") == state
    assert ("state" in description) is (config.get("type") != "button")


def test_an_actuator_without_hardware_can_be_told_to_refuse_and_to_be_safe(host: Host) -> None:
    script = """
a = actuator('simulated', {'name': 'it', 'fail_every': 3, 'safe': True})
answers = [refusal(a, False) for _ in range(6)]
a.safe()
say([answers, a.state, mistake('simulated', {'name': 'it', 'type': 'valve'})])
"""

    answers, state, mistake = host.said(_PRELUDE + script)

    assert answers == [None, None, "it: refused, as configured"] * 2
    assert state is True
    assert mistake.startswith("it: ")

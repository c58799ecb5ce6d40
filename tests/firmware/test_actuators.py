"""Actuators: what they describe, take and refuse, and where they stand when the link is lost."""

from tests.firmware.hosts import Host

_PRELUDE = """
from fakes import pins
def actuator(kind, config):
    return __import__("actuators." + kind, None, None, ("Actuator",)).Actuator(config)
def refusal(made, value):
    try:
        made.set(value)
    except ValueError as e:
        return str(e)
"""


def test_output_switches_its_pin(host: Host) -> None:
    script = """
a = actuator('output', {'name': 'led', 'pin': 2})
steps = []
for value in (True, False, 'on', 'OFF', 1, 0):
    a.set(value)
    steps.append([a.state, pins.line(2).level()])
say([a.key, a.kind, a.describe(), steps])
"""

    key, kind, description, steps = host.said(_PRELUDE + script)

    assert (key, kind) == ("led", "switch")
    assert description == {"k": "led", "n": "led", "t": "switch", "state": False}
    assert steps == [[True, 1], [False, 0], [True, 1], [False, 0], [True, 1], [False, 0]]


def test_output_says_its_class_if_it_has_one(host: Host) -> None:
    script = "say(actuator('output', {'name': 'a', 'pin': 2, 'device_class': 'outlet'}).describe())"

    assert host.said(_PRELUDE + script)["dc"] == "outlet"


def test_active_low_output_starts_without_a_pulse(host: Host) -> None:
    script = """
levels = []
pins.watch(2, levels.append)
a = actuator('output', {'name': 'valve', 'pin': 2, 'active_low': True, 'title': 'Main valve'})
a.set(True)
a.set(False)
say([levels, a.describe()['n']])
"""

    levels, title = host.said(_PRELUDE + script)

    assert levels == [1, 0, 1]
    assert title == "Main valve"


def test_switch_refuses_what_is_neither_on_nor_off(host: Host) -> None:
    script = """
a = actuator('output', {'name': 'led', 'pin': 2})
say([[refusal(a, value), a.state] for value in (2, 'maybe', None, [], 0.5)])
"""

    answers = host.said(_PRELUDE + script)

    assert len(answers) == 5
    for text, state in answers:
        assert text.startswith("led: ")
        assert text.endswith(" is neither on nor off")
        assert state is False


def test_safe_state_is_taken_when_the_link_is_lost(host: Host) -> None:
    wanted: dict[str, list[tuple[dict[str, object], int, bool]]] = {
        "output": [({}, 1, True), ({"safe": False}, 0, False)],
        "relay": [
            ({}, 0, False),
            ({"safe": True}, 1, True),
            ({"safe": None}, 1, True),
            ({"active_low": True}, 1, False),
        ],
    }
    cases = [(kind, *case) for kind, rows in wanted.items() for case in rows]
    script = f"""
stands = []
for kind, config, _, _ in {cases!r}:
    config = dict(config)
    config.update({{'name': 'pump', 'pin': len(stands)}})
    a = actuator(kind, config)
    a.set(True)
    a.safe()
    stands.append([pins.line(config['pin']).level(), a.state])
say(stands)
"""

    stands = host.said(_PRELUDE + script)

    assert stands == [[level, state] for _, _, level, state in cases]


def test_relay_starts_in_its_safe_state(host: Host) -> None:
    script = """
say([actuator('relay', {'name': 'a', 'pin': 5}).state,
     actuator('relay', {'name': 'b', 'pin': 6, 'safe': True}).state,
     pins.line(5).level(), pins.line(6).level()])
"""

    assert host.said(_PRELUDE + script) == [False, True, 0, 1]


def test_relay_refuses_to_be_switched_too_often_but_not_to_be_safe(host: Host) -> None:
    script = """
a = actuator('relay', {'name': 'pump', 'pin': 5, 'min_interval_ms': 300})
a.set(True)
early = refusal(a, False)
same = refusal(a, True)
a.safe()
safe = a.state
soon = refusal(a, True)
time.sleep_ms(320)
late = refusal(a, True)
say([early, same, safe, soon, late, a.state])
"""

    early, same, safe, soon, late, state = host.said(_PRELUDE + script)

    assert early.startswith("pump was switched ")
    assert early.endswith(" ms ago, it needs 300 ms")
    assert same is None
    assert safe is False
    assert soon.endswith(" ms ago, it needs 300 ms")
    assert late is None
    assert state is True


def test_pwm_takes_percent(host: Host) -> None:
    script = """
a = actuator('pwm', {'name': 'fan', 'pin': 4, 'freq': 25000, 'safe': 30})
first = [a.state, a._pwm.duty_u16(), a._pwm.freq()]
steps = []
for value in (0, 100, 50, 12.5, '75'):
    a.set(value)
    steps.append([a.state, a._pwm.duty_u16()])
a.safe()
say([a.kind, a.describe(), first, steps])
"""

    kind, description, first, steps = host.said(_PRELUDE + script)

    assert kind == "number"
    assert description == {
        "k": "fan",
        "n": "fan",
        "t": "number",
        "range": [0, 100],
        "unit": "%",
        "state": 30,
    }
    assert first == [30, 19661, 25000]
    assert steps == [[0, 0], [100, 65535], [50, 32768], [12.5, 8192], [75, 49151]]


def test_pwm_active_low_is_turned_round(host: Host) -> None:
    script = """
a = actuator('pwm', {'name': 'fan', 'pin': 4, 'active_low': True})
off = a._pwm.duty_u16()
a.set(100)
say([off, a._pwm.duty_u16()])
"""

    assert host.said(_PRELUDE + script) == [65535, 0]


def test_pwm_refuses_what_is_no_percentage(host: Host) -> None:
    script = """
a = actuator('pwm', {'name': 'fan', 'pin': 4})
nonsense = (-1, 100.1, True, None, 'much', float('nan'), float('inf'), 'nan', [], {})
say([[refusal(a, value), a.state] for value in nonsense])
"""

    assert host.said(_PRELUDE + script) == [["fan: not a number from 0 to 100", 0]] * 10


def test_configuration_that_makes_no_sense_is_refused(host: Host) -> None:
    script = """
for kind, config in (
    ("output", {"safe": "off"}),
    ("relay", {"safe": 2}),
    ("pwm", {"safe": 120}),
    ("pwm", {"start": -5}),
    ("output", {"start": "sometimes"}),
):
    config.update({'name': 'thing', 'pin': 5})
    try:
        actuator(kind, config)
    except ValueError as e:
        say(str(e))
"""

    said = host.run(_PRELUDE + script).said

    assert len(said) == 5
    assert all(text.startswith("thing: ") for text in said)


def test_each_change_of_an_output_is_written_down_for_tests_outside(host: Host) -> None:
    host.fakes({"log_pins": True})
    script = """
a = actuator('relay', {'name': 'pump', 'pin': 5})
b = actuator('pwm', {'name': 'fan', 'pin': 4})
a.set(True)
a.set(True)
b.set(100)
a.safe()
with open("pins.log") as f:
    lines = [json.loads(line) for line in f]
for line in lines:
    del line["ms"]
say(lines)
"""

    assert host.said(_PRELUDE + script) == [
        {"pin": 4, "duty_u16": 0},
        {"pin": 5, "value": 1},
        {"pin": 4, "duty_u16": 65535},
        {"pin": 5, "value": 0},
    ]

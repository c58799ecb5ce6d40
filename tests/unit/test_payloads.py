import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import Clock, TimeBase
from gateway.model import (
    Actuator,
    Description,
    DeviceLog,
    Gap,
    GapCause,
    LogLevel,
    Sample,
    Sensor,
    Value,
)
from gateway.mqtt import payloads
from gateway.mqtt.payloads import MAX_HEALTH_LINKS, SamplePayloads
from gateway.status import Status
from gateway.timekeeper import TimeKeeper
from tests.support.machine import Machine

# 2026-11-22T07:00:00.123Z, the moment in the topic contract's example (`date -d ... +%s`).
EXAMPLE_UNIX_S = 1795330800.123
BASE = TimeBase(EXAMPLE_UNIX_S - 50.0, "synced")
"""The gateway's monotonic clock stood at 50 s at that moment."""

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES: st.SearchStrategy[Value] = st.one_of(
    FINITE, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(max_size=40)
)


def sample(values: dict[str, Value], seq: int = 42, taken_s: float = 50.0) -> Sample:
    return Sample("greenhouse", 7, seq, taken_s, values)


def strict(text: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Parse as a strict reader would: no NaN, no duplicate key, valid UTF-8."""

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(text.decode("utf-8"), parse_constant=refuse, object_pairs_hook=unique)


def test_a_state_is_the_flat_object_of_the_contract() -> None:
    payload = SamplePayloads().state(sample({"temperature": 21.53, "humidity": 45.2}), BASE)

    assert payload == (
        b'{"temperature":21.53,"humidity":45.2,"time":"2026-11-22T07:00:00.123Z",'
        b'"id":"greenhouse/7/42","time_quality":"synced"}'
    )


def test_a_history_is_an_array_of_such_objects_in_order() -> None:
    samples = [sample({"n": seq}, seq, 50.0 + seq / 10) for seq in range(3)]

    payload = SamplePayloads().history(samples, TimeBase(BASE.offset_s, "unsynced"))

    assert payload == (
        b'[{"n":0,"time":"2026-11-22T07:00:00.123Z",'
        b'"id":"greenhouse/7/0","time_quality":"unsynced"},'
        b'{"n":1,"time":"2026-11-22T07:00:00.223Z",'
        b'"id":"greenhouse/7/1","time_quality":"unsynced"},'
        b'{"n":2,"time":"2026-11-22T07:00:00.323Z",'
        b'"id":"greenhouse/7/2","time_quality":"unsynced"}]'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (21.53, "21.53"),
        (0.1, "0.1"),
        (-0.05, "-0.05"),
        (101325, "101325"),
        (2**63 - 1, "9223372036854775807"),
        (True, "true"),
        ("on", '"on"'),
        ('a "b"\n', r'"a \"b\"\n"'),
        ("°C", '"°C"'),
    ],
)
def test_a_value_is_written_as_the_board_gave_it(value: Value, text: str) -> None:
    payload = SamplePayloads().state(sample({"v": value}), BASE)

    assert payload.startswith(b'{"v":' + text.encode() + b',"time":')


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), VALUES), min_size=1, max_size=5))
def test_every_value_can_be_read_back(readings: list[dict[str, Value]]) -> None:
    samples = [sample(values, seq) for seq, values in enumerate(readings)]

    history = strict(SamplePayloads().history(samples, BASE))
    states = [strict(SamplePayloads().state(each, BASE)) for each in samples]

    assert history == states
    for document, values in zip(history, readings, strict=True):
        assert {key: document[key] for key in values} == values
        assert set(document) == set(values) | {"time", "id", "time_quality"}


def test_a_reserved_key_is_never_a_sensor_s() -> None:
    document = strict(SamplePayloads().state(sample({"id": 1, "time": 2, "time_quality": 3}), BASE))

    assert document == {
        "id": "greenhouse/7/42",
        "time": "2026-11-22T07:00:00.123Z",
        "time_quality": "synced",
    }


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**5000], ids=["nan", "inf", "-inf", "huge"]
)
def test_a_value_that_is_no_json_is_left_out_and_the_rest_is_published(value: float) -> None:
    bad = sample({"bad": value, "good": 1})

    state = strict(SamplePayloads().state(bad, BASE))
    history = strict(SamplePayloads().history([bad, sample({"good": 2})], BASE))

    assert "bad" not in state
    assert state["good"] == 1
    assert [document["good"] for document in history] == [1, 2]
    assert payloads.actuator_state(value) is None


def test_half_a_surrogate_pair_does_not_stop_a_message() -> None:
    hostile = json.loads(r'{"v": "a\ud800b"}')

    assert strict(SamplePayloads().state(sample(hostile), BASE))["v"] == "a?b"
    assert payloads.actuator_state(hostile["v"]) == b"a?b"


def test_a_gap_names_its_first_and_its_last_number() -> None:
    gap = Gap("greenhouse", 7, 10, 14, GapCause.RING_OVERFLOW, 50.0)

    assert SamplePayloads().gap(gap) == (
        b'{"device":"greenhouse","boot":7,"from":10,"to":14,"cause":"ring_overflow","count":5}'
    )


def test_status_is_the_object_of_the_contract() -> None:
    assert payloads.status("online", "5f3a", "1.2.3", "2026-11-22T07:00:00.123Z") == (
        b'{"state":"online","session":"5f3a","version":"1.2.3",'
        b'"since":"2026-11-22T07:00:00.123Z","heartbeat_s":60}'
    )


@pytest.mark.parametrize(("heartbeat_s", "said"), [(300.0, 300), (2.5, 2.5)])
def test_the_heartbeat_is_that_of_the_configuration(heartbeat_s: float, said: float) -> None:
    status = payloads.status("online", "5f3a", "1.2.3", "", heartbeat_s)

    assert json.loads(status)["heartbeat_s"] == said


def test_availability_is_plain_text() -> None:
    assert payloads.availability(True) == b"online"
    assert payloads.availability(False) == b"offline"


@pytest.mark.parametrize(
    ("state", "payload"),
    [
        (True, b"true"),
        (False, b"false"),
        (21.5, b"21.5"),
        (7, b"7"),
        ("heat", b"heat"),
        (None, None),
    ],
)
def test_an_actuator_state_is_plain_text(state: Value | None, payload: bytes | None) -> None:
    assert payloads.actuator_state(state) == payload


def test_a_log_line_has_level_text_and_time() -> None:
    line = DeviceLog("greenhouse", LogLevel.WARNING, "bme280: no answer")

    assert payloads.log(line, EXAMPLE_UNIX_S) == (
        b'{"level":"warning","text":"bme280: no answer","time":"2026-11-22T07:00:00.123Z"}'
    )


def test_info_tells_a_problem_and_what_is_a_diagnostic() -> None:
    sealed = Description(
        device="bthome_80a5",
        name="BTHome sensor 80A5",
        driver="bthome",
        address="54:48:E6:8F:80:A5",
        sensors=(Sensor("rssi", "dBm", "signal_strength", is_diagnostic=True),),
        boot=7,
        problem="needs_key",
    )

    info = strict(payloads.info(sealed))

    assert info["problem"] == "needs_key"
    assert info["sensors"] == [
        {"key": "rssi", "unit": "dBm", "device_class": "signal_strength", "diagnostic": True}
    ]


def test_info_of_a_device_not_heard_since_the_start_has_its_owners_name_and_no_boot() -> None:
    said = Description(device="board_1", name="Greenhouse", driver="board", boot=7)

    info = strict(payloads.info(said, name="Attic", is_current=False))

    assert (info["device"], info["name"]) == ("board_1", "Attic")
    assert "boot" not in info


def test_info_is_what_the_board_said_and_no_more() -> None:
    full = Description(
        device="greenhouse",
        name="Greenhouse",
        driver="board",
        model="ESP32",
        firmware="1.0.0",
        address="/dev/ttyUSB0",
        sensors=(Sensor("temperature", "°C", "temperature", -2), Sensor("count")),
        actuators=(
            Actuator("pump", "Pump", "switch", state=True),
            Actuator("fan", "Fan", "number", 0.0, 100.0),
            Actuator("mode", "Mode", "select", options=("eco", "on")),
        ),
        boot=7,
    )

    assert strict(payloads.info(full)) == {
        "device": "greenhouse",
        "name": "Greenhouse",
        "driver": "board",
        "model": "ESP32",
        "firmware": "1.0.0",
        "address": "/dev/ttyUSB0",
        "boot": 7,
        "sensors": [
            {"key": "temperature", "unit": "°C", "device_class": "temperature"},
            {"key": "count"},
        ],
        "actuators": [
            {"key": "pump", "name": "Pump", "kind": "switch"},
            {"key": "fan", "name": "Fan", "kind": "number", "minimum": 0.0, "maximum": 100.0},
            {"key": "mode", "name": "Mode", "kind": "select", "options": ["eco", "on"]},
        ],
    }


def test_health_counts_what_the_status_board_knows() -> None:
    status = Status()
    status.counts["samples_received"] = 12
    status.device("a").online = True
    status.device("b")
    status.link("usb-1").state = "open"
    status.link("usb-1").bytes_in = 100
    status.link("usb-1").faults["bad_crc"] = 2
    status.latency_s.record(0.001)
    clock = Clock(lambda: 70.0, lambda: EXAMPLE_UNIX_S, is_synchronised=lambda: True)

    document = strict(
        payloads.health(
            status,
            TimeKeeper(clock),
            memory_bytes=30_000_000,
            outbox_in_memory=3,
            outbox_on_disk=30,
            outbox_oldest_s=69.5,
        )
    )

    assert document["time"] == "2026-11-22T07:00:00.123Z"
    assert document["time_quality"] == "synced"
    assert document["clock"] == {"offset": "synced", "synced_age_s": 0.0}
    assert document["memory_bytes"] == 30_000_000
    assert document["outbox"] == {
        "records": 33,
        "on_disk": 30,
        "oldest_age_s": 0.5,
        "store": {"state": "off", "bytes": 0, "stored": 0, "commits": 0, "failures": 0},
    }
    assert document["registry"] == {"state": "off", "commits": 0, "failures": 0}
    assert document["devices"] == {"total": 2, "online": 1}
    assert document["counts"] == {"samples_received": 12}
    assert document["latency_s"]["count"] == 1
    assert document["links"]["usb-1"] == {
        "state": "open",
        "device": "",
        "opens": 0,
        "bytes_in": 100,
        "bytes_out": 0,
        "faults": {"bad_crc": 2},
    }


def test_health_tells_how_old_the_offset_is_that_it_holds() -> None:
    machine = Machine(EXAMPLE_UNIX_S)

    def document() -> Any:  # noqa: ANN401 - whatever JSON holds
        return strict(
            payloads.health(
                Status(),
                keeper,
                memory_bytes=0,
                outbox_in_memory=0,
                outbox_on_disk=30,
                outbox_oldest_s=None,
            )
        )

    keeper = TimeKeeper(machine.clock())
    at_start = document()
    machine.synchronise()
    keeper.base()
    machine.run(30.0)
    machine.set_by_hand(0.0)
    held = document()

    assert at_start["time"] == "1970-01-01T00:00:00.000Z"
    assert at_start["clock"] == {"offset": "wall", "synced_age_s": None}
    assert held["time"] == "2026-11-22T07:00:30.123Z"
    assert held["time_quality"] == "unsynced"
    assert held["clock"] == {"offset": "held", "synced_age_s": 30.0}


def test_health_lists_links_in_trouble_first_and_stays_short() -> None:
    status = Status()
    for number in range(500):
        status.link(f"usb-{number}").state = "open"
    status.link("usb-499").state = "lost"

    payload = payloads.health(
        status,
        TimeKeeper(Clock()),
        memory_bytes=0,
        outbox_in_memory=0,
        outbox_on_disk=30,
        outbox_oldest_s=None,
    )

    document = strict(payload)
    assert document["links_total"] == 500
    assert len(document["links"]) == MAX_HEALTH_LINKS
    assert document["links"]["usb-499"]["state"] == "lost"
    assert "link usb-499: lost, and tried again" in document["problems"]
    assert document["outbox"]["oldest_age_s"] is None
    assert len(payload) < 20_000

"""The topic contract says what the code does."""

import json
import re
from pathlib import Path
from typing import Any, get_args

from gateway.cadence import MISSED, RUNGS_S
from gateway.clock import SLEWED_S, Clock, TimeBase, TimeQuality
from gateway.commands.letter import End
from gateway.commands.mailbox import MAX_FOR_DEVICE, MAX_LETTERS
from gateway.commands.office import RECEIPT_S, SETTLE_S
from gateway.commands.paper import answer_of
from gateway.commands.past import MAX_REMEMBERED, REMEMBERED_S
from gateway.commands.reception import REFUSED_S
from gateway.commands.replies import MAX_CORRELATION, result_payload
from gateway.devices.announcer import MAX_REMOVED
from gateway.devices.births import BIRTH_DELAY_S, STATES_DELAY_S
from gateway.devices.newcomers import NEW_AT_ONCE, NEW_PAUSE_S
from gateway.devices.writer import PATIENCE_S
from gateway.drivers.advert_families import FAMILIES
from gateway.model import (
    RESERVED_DEVICES,
    Actuator,
    Batch,
    Description,
    DeviceLog,
    Gap,
    GapCause,
    Implausible,
    LogLevel,
    Sample,
    Sensor,
    device_slug,
)
from gateway.mqtt import payloads, topics
from gateway.mqtt.diagnostics import Diagnostics, LastGap
from gateway.mqtt.documents import MAX_DOCUMENTS_BYTES, MAX_POSTS
from gateway.mqtt.homeassistant.naming import Site
from gateway.mqtt.messages import MAX_HISTORY, Composer
from gateway.mqtt.payloads import MAX_HEALTH_LINKS, SamplePayloads
from gateway.mqtt.settings import BrokerSettings
from gateway.mqtt.shipments import FIRST_REST_S, LONGEST_REST_S
from gateway.mqtt.suspicion import SMALLEST_LIMIT_BYTES
from gateway.mqtt.topics import Topics
from gateway.protocol.session_events import Outcome
from gateway.requests.command import (
    DEFAULT_EXPIRES_S,
    MAX_EXPIRES_S,
    MAX_PAYLOAD_BYTES,
    MAX_TRANSACTION,
    CommandKind,
    CommandTopic,
    read_command,
)
from gateway.requests.response_topic import MAX_TOPIC
from gateway.status import MAX_DEVICES, Status
from gateway.timekeeper import OffsetSource, TimeKeeper
from gateway.updates import documents
from gateway.updates.news import PROGRESS_S
from gateway.updates.rollout import MAX_TRIES, TRIAL_S, Phase, Plan, Rollout, State
from tests.support import exactly_once

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "gateway" / "mqtt" / "README.md").read_text(encoding="utf-8")
PROSE = " ".join(TEXT.split())

SAMPLE = Sample("greenhouse", 7, 42, 0.0, {"temperature": 21.53, "humidity": 45.2})
BASE = TimeBase(1_795_330_800.123, "synced")  # 2026-11-22T07:00:00.123Z
SINCE = "2026-11-22T07:00:00.123Z"


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table whose first column has this heading: first cell -> the others."""
    block = re.search(
        rf"^\| {re.escape(heading)} \|.*\n\|[- |]*\n((?:\|.*\n)+)", TEXT, re.MULTILINE
    )
    assert block, f"no table {heading}"
    rows = [
        [cell.strip() for cell in row.strip("| ").split(" | ")] for row in block[1].splitlines()
    ]
    return {first: rest for first, *rest in rows}


def example(topic: str) -> Any:  # noqa: ANN401 - whatever the JSON holds
    """The JSON in the row of a topic."""
    found = re.search(r"`(\{.*\})`", table("topic")[f"`{topic}`"][1])
    assert found, f"no example for {topic}"
    return json.loads(found[1])


def test_the_names_no_device_may_have_are_told() -> None:
    for name in RESERVED_DEVICES:
        assert device_slug(name) == f"{name}_device"
        assert f"`{name}`" in PROSE
    assert "`status_device` and so on" in PROSE


def test_the_table_has_the_topics_of_the_code_and_no_others() -> None:
    device, actuator = "<device>", "<actuator>"
    made = {
        topics.STATUS,
        topics.HEALTH,
        topics.state(device),
        topics.history(device),
        topics.gap(device),
        topics.availability(device),
        topics.info(device),
        topics.log(device),
        topics.event(device),
        topics.diagnostics(device),
        topics.update(device),
        topics.ROLLOUT,
        topics.actuator_state(device, actuator),
        topics.set_many(device),
        topics.set_one(device, actuator),
        topics.command(device),
        topics.command_result(device),
        topics.request("<verb>"),
        topics.response("<verb>"),
    }

    assert {f"`{topic}`" for topic in made} == set(table("topic"))
    public = {
        name
        for name, value in vars(topics).items()
        if (callable(value) and not name.startswith("_")) or name in {"STATUS", "HEALTH", "ROLLOUT"}
    } - {"Topics"}
    assert len(public) == len(made), "a topic of topics.py is missing here"


def test_retained_is_what_the_table_calls_retained() -> None:
    composer = Composer(Topics("edge/x"), TimeKeeper(Clock()))
    gap = Gap("greenhouse", 7, 40, 41, GapCause.RING_OVERFLOW, 0.0)

    messages = composer.compose(Batch("greenhouse", (SAMPLE, gap, SAMPLE._replace(seq=43))))

    said = {name.strip("`").split("/")[-1]: cells[0] for name, cells in table("topic").items()}
    for message in messages:
        assert message.retain is said[message.topic.split("/")[-1]].startswith("yes")
    assert len(messages) == 3


def test_the_examples_are_what_the_code_writes() -> None:
    writer = SamplePayloads()
    gap = Gap("greenhouse", 7, 10, 14, GapCause.RING_OVERFLOW, 0.0)
    line = DeviceLog("greenhouse", LogLevel.WARNING, "bme280: no answer")

    assert example("<device>/state") == json.loads(writer.state(SAMPLE, BASE))
    assert example("<device>/gap") == json.loads(writer.gap(gap))
    assert example("<device>/log") == json.loads(payloads.log(line, BASE.offset_s))
    wrong = Implausible(SAMPLE, "temperature", 850.0, -40.0, 85.0, 1)
    assert example("<device>/event") == json.loads(payloads.implausible(wrong, BASE))
    last_gap = LastGap(BASE.offset_s, gap.cause, gap.count)
    diagnostics = Diagnostics(BASE.offset_s, 5, last_gap, -67)
    assert example("<device>/diagnostics") == json.loads(diagnostics.payload())
    status = payloads.status("online", "5f3a9c10", "1.2.3", SINCE)
    assert example("status") == json.loads(status)


def test_every_key_of_a_document_is_explained() -> None:
    description = Description(
        device="d",
        name="n",
        driver="board",
        model="m",
        firmware="f",
        runtime="r",
        address="a",
        sensors=(Sensor("k", "u", "c", is_diagnostic=True),),
        actuators=(Actuator("k", "n", "number", 0.0, 1.0, ("o",)),),
        reset_cause="r",
        crash="c",
        problem="needs_key",
    )
    status = Status()
    status.link("x")
    info = payloads.info(description)
    health = payloads.health(
        status,
        TimeKeeper(Clock()),
        memory_bytes=0,
        outbox_in_memory=0,
        outbox_on_disk=0,
        outbox_oldest_s=None,
    )

    def keys(document: object) -> set[str]:
        if isinstance(document, dict):
            named = {key for key in document if key != "x"}
            return named.union(*map(keys, document.values()))
        return set().union(*map(keys, document)) if isinstance(document, list) else set()

    for key in keys(json.loads(info)) | keys(json.loads(health)):
        assert f"`{key}`" in TEXT, key


def test_every_driver_of_a_device_is_named() -> None:
    info = PROSE[PROSE.index("`info`: ") : PROSE.index("`health`: ")]

    assert all(f"`{family.name}`" in info for family in FAMILIES)


def test_every_source_of_an_offset_is_explained() -> None:
    health = PROSE[PROSE.index("`health`: ") :]

    assert all(f"`{source}`" in health for source in get_args(OffsetSource))


def test_what_is_said_of_updates_is_so() -> None:
    plan = Plan("firmware", "0.2.0", "0f3c1a9be2d45678", "", 20480, 1, 4)
    boards = [f"board_{number}" for number in range(20)]
    rollout = Rollout.of(3, plan, boards, BASE.offset_s)
    for number, state in enumerate([State.DONE] * 3 + [State.SENDING] * 4):
        rollout.targets[boards[number]].state = state
    target = rollout.targets["board_4"]
    target.percent = 42

    told = documents.board("0.1.0", "0.2.0", rollout, target)

    assert example("<device>/update") == json.loads(told)
    assert example("rollout") == json.loads(documents.rollout(rollout))
    states = {f"`{state.value}`" for state in State} | {"`idle`"}
    assert set(table("`state` on `<device>/update`")) == states
    assert f"not heard of for {TRIAL_S / 60:g} minutes" in PROSE
    assert MAX_TRIES == 3
    assert "published once a second" in PROSE
    assert PROGRESS_S == 1.0
    for phase in Phase:
        assert f"`{phase.value}`" in PROSE[PROSE.index("(the topic) is") :]


def test_every_cause_of_a_gap_is_explained() -> None:
    assert set(table("cause")) == {f"`{cause.value}`" for cause in GapCause}


def test_every_counter_is_explained() -> None:
    sources = [
        *(ROOT / "gateway" / "mqtt").glob("*.py"),
        *(ROOT / "gateway" / "commands").glob("*.py"),
        ROOT / "gateway" / "store" / "outbox.py",
        ROOT / "gateway" / "pipeline.py",
        ROOT / "gateway" / "admin" / "desk.py",
        ROOT / "gateway" / "devices" / "registry.py",
        ROOT / "gateway" / "ble" / "boards.py",
    ]
    counted = {
        name
        for source in sources
        for name in re.findall(r'counts\["(\w+)"\] \+=', source.read_text(encoding="utf-8"))
    }

    counted |= {f"commands_{outcome.value}" for outcome in Outcome}  # by the office
    explained = set(re.findall(r"`(\w+)`", " ".join(table("in `counts`"))))
    assert counted == explained


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    settings = BrokerSettings("h", 1)

    assert f"at most {MAX_HISTORY} |" in TEXT
    assert f"the last {MAX_POSTS:,} are kept" in PROSE
    new = f"{NEW_AT_ONCE:,} new ones at once and one more every {NEW_PAUSE_S:g} s"
    assert f"{MAX_DEVICES:,} devices; {new}" in PROSE
    assert f"retained without it after {PATIENCE_S:g} s" in PROSE
    assert f"beyond {MAX_DOCUMENTS_BYTES >> 20} MiB" in PROSE
    assert f"at most {MAX_HEALTH_LINKS} of them" in PROSE
    assert f"acknowledges nothing for {settings.ack_timeout_s:g} s" in PROSE
    assert f"rest for {FIRST_REST_S:g} s, then {FIRST_REST_S * 2:g} s, up to a minute" in PROSE
    assert LONGEST_REST_S == 60.0
    assert SMALLEST_LIMIT_BYTES == 1024, "more than 1 KiB"
    assert "MQTT 5 is the default" in PROSE
    assert settings.version == "5"


def test_the_subscriber_of_the_example_is_the_file_the_tests_use() -> None:
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)

    assert code
    assert code[1] == Path(exactly_once.__file__).read_text(encoding="utf-8")


def test_what_is_said_of_commands_is_so() -> None:
    pump, fan = Actuator("pump", "Pump", "switch"), Actuator("fan", "Fan", "number")
    several = json.dumps(example("<device>/set")).encode()
    command = json.dumps(example("<device>/command")).encode()
    end = End(Outcome.DONE, {"pump": True}, latency_s=0.042)

    read_command(CommandTopic(CommandKind.SET, "greenhouse"), several, (pump, fan))
    asked = read_command(CommandTopic(CommandKind.COMMAND, "greenhouse"), command, (pump,))
    assert asked.transaction == "5f3a-1"
    result = result_payload(asked.transaction, answer_of(end))
    assert example("<device>/command/result") == json.loads(result)
    (called,) = re.findall(r"`(\{[^`]*\"call\"[^`]*\})`", TEXT)
    read_command(CommandTopic(CommandKind.COMMAND, "greenhouse"), called.encode(), ())
    assert set(table("`status`")) == {f"`{outcome.value}`" for outcome in Outcome}
    assert f"text of up to {MAX_TRANSACTION} characters" in PROSE
    assert f"({DEFAULT_EXPIRES_S:g}; up to a day)" in PROSE
    assert MAX_EXPIRES_S == REMEMBERED_S == 86_400
    assert f"at most {MAX_PAYLOAD_BYTES:,} bytes" in PROSE
    assert f"{MAX_FOR_DEVICE} a device and {MAX_LETTERS:,} in all" in PROSE
    assert f"{MAX_REMEMBERED:,} commands in all" in PROSE
    assert f"refused for {REFUSED_S / 60:g} minutes" in PROSE
    assert f"noted within {RECEIPT_S:g} s" in PROSE
    assert f"noted within {SETTLE_S:g} s" in PROSE
    assert f"more than {MAX_TOPIC} characters" in PROSE
    assert f"more than {MAX_CORRELATION} bytes" in PROSE


def test_every_quality_of_a_time_is_explained() -> None:
    assert set(table("`time_quality`")) == {f"`{quality}`" for quality in get_args(TimeQuality)}
    assert f"less than {SLEWED_S * 1000:g} ms are left" in PROSE


def test_what_is_said_of_home_assistant_is_so() -> None:
    site = Site("<gateway>", "edge/<gateway>", "<prefix>", "1.2.3")
    least_s, most_s = BIRTH_DELAY_S
    minutes = [str(each // 60) for each in RUNGS_S if each < 3600]
    hours = [str(each // 3600) for each in RUNGS_S if 3600 <= each < 86_400]

    for topic in (site.discovery_topic("<key>"), site.discovery_topic(), site.birth_topic):
        assert f"| `{topic}` |" in TEXT
    assert f"{least_s:g} to {most_s:g} s after `online`" in PROSE
    assert f"again, {STATES_DELAY_S:g} s later" in PROSE
    assert f"up to {', '.join(minutes)} minutes, {', '.join(hours)} hours, a day or two" in PROSE
    assert [each // 86_400 for each in RUNGS_S if each >= 86_400] == [1, 2]
    assert MISSED == 3  # "three times the longest usual interval"
    assert f"The last {MAX_REMOVED} of a device" in PROSE
    assert f"`{site.device_id('<key>')}.<sensor>`" in PROSE


def test_which_names_of_gateways_do_not_go_together_is_told() -> None:
    pi, other = (Site(name, "edge/x", "ha", "1.2.3") for name in ("pi", "pi_kitchen"))

    assert pi.discovery_topic("kitchen") == other.discovery_topic()
    assert pi.device_id("kitchen") != other.own_id
    assert "gateway `pi` with a device `kitchen`, and a gateway `pi_kitchen`, would" in PROSE

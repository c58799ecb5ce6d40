import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import RESERVED_DEVICES, slug
from gateway.mqtt import topics
from gateway.mqtt.topics import MAX_BASE, Topics


def test_every_topic_of_the_contract_lies_below_the_base_topic() -> None:
    full = Topics("edge/attic").full

    assert full(topics.STATUS) == "edge/attic/status"
    assert full(topics.HEALTH) == "edge/attic/health"
    assert full(topics.state("gh-1")) == "edge/attic/gh-1/state"
    assert full(topics.history("gh-1")) == "edge/attic/gh-1/history"
    assert full(topics.gap("gh-1")) == "edge/attic/gh-1/gap"
    assert full(topics.availability("gh-1")) == "edge/attic/gh-1/availability"
    assert full(topics.log("gh-1")) == "edge/attic/gh-1/log"
    assert full(topics.info("gh-1")) == "edge/attic/gh-1/info"
    assert full(topics.actuator_state("gh-1", "pump")) == "edge/attic/gh-1/pump/state"


def test_no_device_is_called_as_a_topic_of_the_gateway() -> None:
    assert {topics.STATUS, topics.HEALTH} < RESERVED_DEVICES


@pytest.mark.parametrize(
    "device",
    [
        "",
        "+",
        "#",
        "a+b",
        "a#",
        "a/b/c",
        "a/../b",
        "A",
        "a b",
        "a\x00",
        "a\n",
        "å",
        "$SYS",
        "x" * 65,
        "\ud800",
    ],
)
def test_a_bad_name_never_reaches_a_topic(device: str) -> None:
    with pytest.raises(ValueError, match="not a topic"):
        Topics("edge").full(topics.actuator_state(device, "pump"))
    with pytest.raises(ValueError, match="not a topic"):
        Topics("edge").full(topics.actuator_state("dev", device))


def test_a_trailing_newline_is_not_overlooked() -> None:
    # `$` of a regular expression matches before a final newline; fullmatch does not.
    with pytest.raises(ValueError, match="not a topic"):
        Topics("edge").full("status\n")


@pytest.mark.parametrize(
    "base",
    [
        "",
        "/",
        "/edge",
        "edge/",
        "edge//attic",
        "edge/+",
        "#",
        "$SYS/x",
        "edge/\x00",
        "edge/\x7f",
        "edge/\ud800",
        "x" * (MAX_BASE + 1),
    ],
)
def test_a_bad_base_topic_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match="not a base topic"):
        Topics(base)


def test_a_base_topic_may_use_any_script() -> None:
    assert Topics("Häuser/Dach boden").full("status") == "Häuser/Dach boden/status"


@given(st.text(), st.text())
def test_whatever_the_names_a_slugged_topic_has_its_levels_and_no_wildcard(
    device: str, actuator: str
) -> None:
    topic = Topics("edge").full(topics.actuator_state(slug(device), slug(actuator)))

    assert topic.count("/") == 3
    assert not set(topic) & set("+#\x00 ")
    assert len(topic) < 256

import pytest

from gateway.mqtt.connection import Loss
from gateway.mqtt.rivalry import CALM_S, QUICK_LOSSES, QUICK_S, Rivalry


@pytest.fixture
def rivalry() -> Rivalry:
    return Rivalry("edge-gateway-attic", "edge/attic", "ours")


def test_a_broker_that_says_so_is_believed_at_once_and_it_is_told_once(
    rivalry: Rivalry, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        rivalry.connection_lost(60.0, Loss.TAKEN_OVER, may_be_a_message=False)

    assert rivalry.trouble.startswith("another client uses our client id, 'edge-gateway-attic'")
    assert rivalry.is_over_id
    assert len(caplog.records) == 1


def test_quick_losses_without_a_reason_raise_the_suspicion_if_nothing_comes_between(
    rivalry: Rivalry,
) -> None:
    for loss, lasted_s in [(Loss.UNEXPLAINED, QUICK_S), (Loss.EXPLAINED, 0.0)]:
        for _ in range(QUICK_LOSSES - 1):
            rivalry.connection_lost(0.1, Loss.UNEXPLAINED, may_be_a_message=False)
        rivalry.connection_lost(
            0.1, Loss.UNEXPLAINED, may_be_a_message=True
        )  # a message's fault: no evidence
        assert rivalry.trouble == ""
        rivalry.connection_lost(lasted_s, loss, may_be_a_message=False)
        assert rivalry.trouble == ""

    for _ in range(QUICK_LOSSES):
        rivalry.connection_lost(0.1, Loss.UNEXPLAINED, may_be_a_message=False)

    assert "perhaps another client uses our client id" in rivalry.trouble


def test_a_connection_that_lasts_ends_the_suspicion(rivalry: Rivalry) -> None:
    rivalry.connection_lost(1.0, Loss.TAKEN_OVER, may_be_a_message=False)

    rivalry.connection_lasts(CALM_S - 1)
    assert rivalry.trouble
    rivalry.connection_lasts(CALM_S)

    assert rivalry.trouble == ""
    assert not rivalry.is_over_id


def test_another_gateway_on_the_base_topic_is_trouble_while_it_is_online(rivalry: Rivalry) -> None:
    assert rivalry.status_seen(b'{"state":"online","session":"theirs"}')
    assert rivalry.trouble.startswith("another gateway uses the base topic 'edge/attic' too")
    assert not rivalry.is_over_id

    assert not rivalry.status_seen(b'{"state":"offline","session":"old"}')
    assert rivalry.trouble
    assert not rivalry.status_seen(b'{"state":"offline","session":"theirs"}')

    assert rivalry.trouble == ""


@pytest.mark.parametrize(
    "payload",
    [
        b'{"state":"online","session":"ours"}',
        b'{"state":"offline","session":"theirs"}',
        b"",
        b"null",
        b"\xff\xfe",
        b"[" * 4000,
        b'{"state":"online","session":"' + b"x" * 5000 + b'"}',
    ],
)
def test_what_is_no_other_gateway_online_is_none(rivalry: Rivalry, payload: bytes) -> None:
    assert not rivalry.status_seen(payload)
    assert rivalry.trouble == ""

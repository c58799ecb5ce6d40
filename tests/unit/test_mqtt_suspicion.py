from gateway.model import Gap, GapCause, Sample
from gateway.mqtt.messages import Message
from gateway.mqtt.suspicion import CALM_AFTER, SMALLEST_LIMIT_BYTES, STRIKES, Suspicion


def message(seq: int, size_bytes: int, samples: int = 1, device: str = "dev") -> Message:
    records = tuple(Sample(device, 1, seq + offset, 0.0, {}) for offset in range(samples))
    empty = Message(f"e/{device}/x", b"", retain=False, records=records)
    return empty._replace(payload=b"x" * (size_bytes - empty.packet_bytes))


def test_a_lost_connection_raises_no_suspicion() -> None:
    suspicion = Suspicion()

    for seq in range(20):  # each time something else was in flight
        suspicion.connection_lost([message(seq, 5000)])

    assert not suspicion.is_cautious
    assert suspicion.limit_bytes is None


def test_a_message_in_flight_at_two_losses_is_watched_alone() -> None:
    suspicion = Suspicion()

    suspicion.connection_lost([message(1, 5000), message(2, 100)])
    suspicion.connection_lost([message(2, 100), message(3, 100)])

    assert suspicion.is_cautious
    assert suspicion.limit_bytes is None


def test_a_sample_that_ends_the_connection_again_and_again_is_above_the_limit() -> None:
    suspicion = Suspicion()
    guilty = message(1, 5000)

    suspicion.connection_lost([guilty, message(2, 100)])
    suspicion.connection_lost([guilty, message(2, 100)])
    for _ in range(STRIKES):
        assert suspicion.limit_bytes is None
        suspicion.connection_lost([guilty])

    assert suspicion.limit_bytes == 4999


def test_a_guilty_history_is_halved_down_to_a_floor() -> None:
    suspicion = Suspicion()
    limits = []

    for size_bytes in (15_000, 7_400, 3_600, 1_700):
        for _ in range(STRIKES + 2):
            suspicion.connection_lost([message(1, size_bytes, samples=10)])
        limits.append(suspicion.limit_bytes)

    assert limits == [7500, 3700, 1800, SMALLEST_LIMIT_BYTES]


def test_an_ordinary_message_is_never_too_large_but_its_device_shall_rest() -> None:
    suspicion = Suspicion()

    verdicts = [suspicion.connection_lost([message(1, 150, device="cellar")]) for _ in range(5)]

    assert verdicts == [None, None, None, None, "cellar"]
    assert suspicion.limit_bytes is None
    assert not suspicion.is_cautious, "the others go on at full speed"


def test_an_acknowledged_suspect_is_cleared() -> None:
    suspicion = Suspicion()
    first, second = message(1, 5000), message(2, 5000)
    suspicion.connection_lost([first, second])
    suspicion.connection_lost([first, second])

    suspicion.acknowledged(first)
    assert suspicion.is_cautious
    suspicion.acknowledged(second)

    assert not suspicion.is_cautious
    assert suspicion.limit_bytes is None


def test_two_guilty_messages_that_take_turns_are_both_found() -> None:
    suspicion = Suspicion()
    one, two = message(1, 5000, device="one"), message(1, 4000, device="two")

    for _ in range(2):
        suspicion.connection_lost([one, two])
    for _ in range(STRIKES):
        suspicion.connection_lost([one])
        suspicion.connection_lost([two])

    assert suspicion.limit_bytes == 3999


def test_an_acknowledgement_wipes_a_message_s_strikes() -> None:
    suspicion = Suspicion()
    for _ in range(STRIKES + 1):
        suspicion.connection_lost([message(1, 5000)])

    suspicion.acknowledged(message(1, 5000))
    for _ in range(STRIKES + 1):
        suspicion.connection_lost([message(1, 5000)])

    assert suspicion.limit_bytes is None


def test_a_suspect_that_never_comes_back_is_forgotten_in_the_end() -> None:
    suspicion = Suspicion()
    suspicion.connection_lost([message(1, 5000)])
    suspicion.connection_lost([message(1, 5000)])

    for seq in range(CALM_AFTER):
        assert suspicion.is_cautious
        suspicion.acknowledged(message(2 + seq, 150))

    assert not suspicion.is_cautious


def test_a_message_is_known_by_its_oldest_record_whoever_joined_it() -> None:
    suspicion = Suspicion()
    gap = Message("e/dev/gap", b"", retain=False, records=(_gap(7, 9),))

    suspicion.connection_lost([message(1, 5000, samples=3), gap])
    suspicion.connection_lost([message(1, 9000, samples=30)])

    assert suspicion.is_cautious


def _gap(first_seq: int, last_seq: int) -> Gap:
    return Gap("dev", 1, first_seq, last_seq, GapCause.RING_OVERFLOW, 0.0)

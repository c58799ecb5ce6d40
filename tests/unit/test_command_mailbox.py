"""Which command goes to which board, and when."""

import gc

import pytest

from gateway.commands.letter import End, Letter, Stage
from gateway.commands.mailbox import MAX_LETTERS, Mailbox
from gateway.protocol.session_events import Outcome


def letter(number: int, device: str = "shed", expires_s: float = 100.0) -> Letter:
    return Letter(number, f"s.{number}", device, "set", {"pump": True}, 0.0, expires_s)


@pytest.fixture
def three() -> tuple[Mailbox, list[Letter]]:
    """A mailbox with three letters on the disk, for a board that is there."""
    mailbox = Mailbox()
    letters = [letter(number) for number in range(3)]
    mailbox.ready("shed", "1.a")
    for each in letters:
        mailbox.put(each)
    for each in letters:
        mailbox.noted(each)
    return mailbox, letters


def test_the_first_two_are_noted_for_the_board_with_their_receipt(
    three: tuple[Mailbox, list[Letter]],
) -> None:
    mailbox, letters = three

    assert [each.life for each in letters] == ["1.a", "1.a", None]
    assert [mailbox.next("shed"), mailbox.next("shed"), mailbox.next("shed")] == [
        *letters[:2],
        None,
    ]
    assert [each.stage for each in letters] == [Stage.HANDED, Stage.HANDED, Stage.WAITING]


def test_a_place_is_free_once_an_end_is_on_the_disk(three: tuple[Mailbox, list[Letter]]) -> None:
    mailbox, letters = three
    mailbox.next("shed")
    mailbox.next("shed")

    mailbox.end(letters[0], End(Outcome.DONE))
    before = mailbox.next("shed")
    mailbox.settled(letters[0])

    assert before is None
    stages = []
    for _ in range(2):
        assert mailbox.next("shed") is letters[2]
        stages.append(letters[2].stage)
        assert mailbox.next("shed") is None
        mailbox.noted(letters[2])
    assert stages == [Stage.NOTING, Stage.HANDED]


def test_the_order_of_a_board_is_kept_when_the_first_comes_back(
    three: tuple[Mailbox, list[Letter]],
) -> None:
    mailbox, letters = three
    for _ in range(2):
        mailbox.next("shed")
    mailbox.left("shed")
    for each in letters[:2]:
        mailbox.returned(each, was_sent=each is letters[0])

    away = mailbox.next("shed")
    lost = mailbox.ready("shed", "1.a")

    assert (away, lost) == (None, [])
    assert [mailbox.next("shed"), mailbox.next("shed")] == letters[:2]


def test_nothing_passes_a_letter_that_is_not_on_the_disk() -> None:
    mailbox = Mailbox()
    first, second = letter(1), letter(2)
    mailbox.put(first)
    mailbox.put(second)
    mailbox.noted(second)

    mailbox.ready("shed", "1.a")

    assert mailbox.next("shed") is None


def test_a_letter_that_was_sent_is_never_noted_for_another_life() -> None:
    mailbox = Mailbox()
    sent = letter(1)
    sent.life = "1.a"
    mailbox.recall([sent])

    assert mailbox.ready("shed", "1.b") == [sent]
    assert sent.end is not None
    assert sent.end.outcome is Outcome.UNKNOWN
    assert mailbox.next("shed") is None
    assert sent.life == "1.a"


def test_what_a_session_has_expires_there_and_what_comes_back_too_late_at_once() -> None:
    mailbox = Mailbox()
    mailbox.ready("shed", "1.a")
    handed = letter(1, expires_s=10.0)
    mailbox.put(handed)
    mailbox.noted(handed)
    mailbox.next("shed")

    at_its_time = mailbox.expired(10.0)
    mailbox.returned(handed, was_sent=True)

    assert at_its_time == []
    assert mailbox.deadline_s() == 10.0
    assert mailbox.expired(11.0) == [handed]
    assert handed.end == End(Outcome.UNKNOWN)


def test_an_end_comes_once(three: tuple[Mailbox, list[Letter]]) -> None:
    mailbox, letters = three

    assert mailbox.end(letters[0], End(Outcome.DONE))
    assert not mailbox.end(letters[0], End(Outcome.EXPIRED))
    assert letters[0].end == End(Outcome.DONE)


def test_all_mailboxes_together_are_bounded() -> None:
    mailbox = Mailbox()
    for number in range(MAX_LETTERS):
        mailbox.put(letter(number, f"b{number}"))

    assert mailbox.refusal("another") == f"{MAX_LETTERS} commands wait already"
    assert len(mailbox) == MAX_LETTERS


def test_commands_that_are_over_take_no_memory_until_their_time() -> None:
    mailbox = Mailbox()
    mailbox.ready("shed", "1.a")
    waiting = letter(0, "barn", expires_s=50_000.0)
    mailbox.put(waiting)
    mailbox.noted(waiting)

    for number in range(1, 1000):
        each = letter(number, expires_s=86_400.0)
        mailbox.put(each)
        mailbox.noted(each)
        mailbox.next("shed")
        mailbox.end(each, End(Outcome.DONE))
        mailbox.settled(each)

    assert sum(isinstance(each, Letter) for each in gc.get_objects()) < 100
    assert mailbox.deadline_s() == 50_000.0

"""Letters as the journal keeps them: values to JSON and back; pure."""

from collections.abc import Mapping
from typing import Any

from gateway.commands.letter import End, Letter, ReplyTo
from gateway.commands.past import Moment, Remembered
from gateway.protocol.fields import Json
from gateway.requests.command import Transaction
from gateway.store.journal import Entry


def answer_of(end: End) -> dict[str, Json]:
    """Return how a command ended, without its transaction; what does not apply is left out."""
    answer: dict[str, Json] = {"status": end.outcome.value}
    if end.error:
        answer["error"] = end.error
    if end.result is not None:
        answer["result"] = end.result
    if end.latency_s is not None:
        answer["latency_ms"] = round(end.latency_s * 1000)
    return answer


def entry_of(letter: Letter, past: Remembered, now: Moment) -> Entry:
    """Return what the journal keeps of a command that has not ended."""
    fields: dict[str, object] = {
        **_past_fields(past),
        "id": letter.command_id,
        "name": letter.name,
        "arguments": letter.arguments,
        "expires_s": letter.expires_s,
        "expires_unix_s": now.unix_s + letter.expires_s - now.monotonic_s,
        "reply_to": _reply_fields(letter.reply_to),
    }
    return Entry(letter.number, fields, letter.life, letter.packet)


def past_entry_of(past: Remembered) -> Entry:
    """Return what the journal keeps of a command that has ended and was told."""
    answer = past.answer
    return Entry(past.number, _past_fields(past), None, past.packet, answer, is_told=True)


def past_of(entry: Entry) -> Remembered:
    """Return what is remembered of a command.

    Raises:
        LookupError, TypeError, ValueError: the journal does not say what it must.
    """
    fields = entry.letter
    return Remembered(
        entry.number,
        device=str(fields["device"]),
        level=str(fields["level"]),
        transaction=_transaction(fields["transaction"]),
        packet=entry.packet,
        fingerprint=str(fields["fingerprint"]),
        received=_received(fields),
        is_plain=bool(fields["is_plain"]),
        answer=None if entry.answer is None else dict(entry.answer),
    )


def reply_of(entry: Entry) -> ReplyTo | None:
    """Return where else the result is wanted. Raises as `past_of`."""
    told = entry.letter.get("reply_to")
    if told is None:
        return None
    topic, correlation = told
    return ReplyTo(str(topic), None if correlation is None else bytes.fromhex(correlation))


def letter_of(entry: Entry, now: Moment) -> Letter:
    """Return a letter of an earlier run, with what is left of its time. Raises as `past_of`."""
    fields = entry.letter
    received = _received(fields)
    received_s, expires_s = received.monotonic_s, float(fields["expires_s"])
    if received.boot_id != now.boot_id:
        left_s = _left_s(fields, expires_s - received_s, now)
        received_s, expires_s = now.monotonic_s, now.monotonic_s + left_s
    return Letter(
        entry.number,
        str(fields["id"]),
        str(fields["device"]),
        str(fields["name"]),
        fields["arguments"],
        received_s,
        expires_s,
        level=str(fields["level"]),
        transaction=_transaction(fields["transaction"]),
        reply_to=reply_of(entry),
        is_plain=bool(fields["is_plain"]),
        packet=entry.packet,
        life=entry.life,
    )


def _left_s(fields: Mapping[str, Any], ttl_s: float, now: Moment) -> float:
    """Return what is left of a command from before this boot of the machine.

    While nobody vouches for the clock it is nothing: better a command too few than one too late.
    """
    if not now.is_synchronised:
        return 0.0
    return min(max(0.0, float(fields["expires_unix_s"]) - now.unix_s), ttl_s)


def _received(fields: Mapping[str, Any]) -> Moment:
    return Moment(
        float(fields["received_s"]),
        float(fields["received_unix_s"]),
        str(fields["boot"]),
        bool(fields["is_synchronised"]),
    )


def _past_fields(past: Remembered) -> dict[str, object]:
    return {
        "device": past.device,
        "level": past.level,
        "transaction": past.transaction,
        "fingerprint": past.fingerprint,
        "received_s": past.received.monotonic_s,
        "received_unix_s": past.received.unix_s,
        "boot": past.received.boot_id,
        "is_synchronised": past.received.is_synchronised,
        "is_plain": past.is_plain,
    }


def _reply_fields(reply_to: ReplyTo | None) -> list[str | None] | None:
    if reply_to is None:
        return None
    correlation = reply_to.correlation
    return [reply_to.topic, None if correlation is None else correlation.hex()]


def _transaction(value: object) -> Transaction | None:
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError("a transaction is a text or an integer")

"""Takes requests to the gateway, has them done, and answers each."""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, Protocol

from gateway.admin.desk import Desk, Place, Undone, Verb
from gateway.commands.replies import MAX_CORRELATION
from gateway.errors import RequestError
from gateway.mqtt import payloads, topics
from gateway.mqtt.incoming import Handler, Incoming
from gateway.progress import Progress
from gateway.requests.admin import REQUESTS, read_admin, transaction_of
from gateway.requests.asking import AdminRequest, Transaction
from gateway.requests.response_topic import refusal_of

_REMEMBERED: Final = 32
"""Requests that are known again when the broker delivers them a second time."""

_UNKNOWN: Final = "unknown"
"""Last level of the answer to a verb there is not; `response/set` would be a device's command."""


class Mail(Protocol):
    """What brings requests and takes answers: the publisher."""

    def subscribe(self, filters: Sequence[str], handler: Handler) -> None:
        """Have `handler` take what arrives."""

    def send(self, topic: str, payload: bytes, *, correlation: bytes | None = None) -> None:
        """Answer on a whole topic."""


class Admin:
    """Subscribed to all requests; each that arrives gets one answer.

    A request is confirmed to the broker when it arrives: one that is cut short by a crash is not
    done a second time by itself. Whoever gets no answer asks again.
    """

    def __init__(
        self,
        mail: Mail,
        base_topic: str,
        counts: Counter[str],
        own_prefixes: tuple[str, ...] = (),
        *,
        progress: Progress | None = None,
    ) -> None:
        """`requests` and `requests_refused` are counted in `counts`.

        `own_prefixes` are topics besides the base that requesters may not have written. Made before
        commands subscribe, it has what both could take, such as `request/set`.
        """
        self._mail = mail
        self._base = base_topic
        self._stage = (progress or Progress()).stage("admin")
        self._desk = Desk(counts, progress)
        self._own_prefixes = own_prefixes
        self._arrived: deque[tuple[int, str, bytes]] = deque(maxlen=_REMEMBERED)
        self._tasks: asyncio.TaskGroup | None = None
        mail.subscribe([f"{base_topic}/{topics.request('+')}"], self._take)

    async def run(self, verbs: Mapping[str, Verb]) -> NoReturn:
        """Do what is asked for, for ever."""
        self._desk.open(verbs)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self._stage.rest_for_ever(asyncio.sleep)
            finally:
                self._desk.close()
                self._tasks = None  # a group that is ending takes no tasks any more

    def _take(self, message: Incoming) -> None:
        message.done()
        arrival = (message.packet_id, message.topic, message.payload)
        if message.is_again and arrival in self._arrived:
            return  # the broker did not hear that it is done; its answer is under way
        self._arrived.append(arrival)
        verb = message.topic.removeprefix(f"{self._base}/{topics.request('')}")
        try:
            request, place = self._read(message, verb)
        except RequestError as exc:
            self._refuse(message, verb, str(exc))
            return
        assert self._tasks is not None  # noqa: S101 - the desk is open only while there are some
        self._tasks.create_task(self._do(message, place, request), name=f"request {verb}")

    def _read(self, message: Incoming, verb: str) -> tuple[AdminRequest, Place]:
        """Return what is asked for, and the place that is taken for it.

        Raises:
            RequestError: it cannot be done as it stands, or not now.
        """
        if message.is_retained:
            raise RequestError(
                "a request must not be retained: it would be done again on each connection; "
                "remove it with an empty retained message"
            )
        request = read_admin(verb, message.payload)
        if reason := self._refusal_of(message):
            raise RequestError(reason)
        return request, self._desk.begin(verb)

    async def _do(self, message: Incoming, place: Place, request: AdminRequest) -> None:
        outcome = await self._desk.do(place, request)
        transaction = request.transaction
        if isinstance(outcome, Undone):
            payload = payloads.refusal(transaction, outcome.error)
        else:
            payload = payloads.answer(transaction, outcome.data)
        self._answer(message, place.verb, payload)

    def _refuse(self, message: Incoming, verb: str, error: str) -> None:
        self._desk.refuse(verb, Undone(error))
        transaction: Transaction | None = transaction_of(message.payload)
        self._answer(message, verb, payloads.refusal(transaction, error))

    def _answer(self, message: Incoming, verb: str, payload: bytes) -> None:
        """Answer where everybody can see it, and where the sender wants it."""
        topic = f"{self._base}/{topics.response(verb if verb in REQUESTS else _UNKNOWN)}"
        wanted = message.response_topic
        if wanted != topic:
            self._mail.send(topic, payload)
        if wanted and not self._refusal_of(message):
            self._mail.send(wanted, payload, correlation=message.correlation)

    def _refusal_of(self, message: Incoming) -> str:
        """Return why the sender cannot have the answer where it wants it; nothing if it can."""
        if not message.response_topic:
            return ""
        if len(message.correlation or b"") > MAX_CORRELATION:
            return f"correlation data of more than {MAX_CORRELATION} bytes"
        return refusal_of(message.response_topic, self._base, self._own_prefixes)

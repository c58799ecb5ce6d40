"""The newest state of each device, for a broker that lost what was retained there; pure."""

from collections.abc import Callable


class NewestStates:
    """Remembers one payload a topic; bounded, because who asks for it bounds the topics.

    What is to be published again never comes behind a newer one: a topic on which something was
    sent on this connection needs no repetition.
    """

    def __init__(self) -> None:
        self._payloads: dict[str, bytes] = {}
        self._sent: dict[str, int] = {}
        """Topics something was sent on, on this connection: how much of it is not confirmed."""
        self._due: dict[str, None] = {}
        self._in_flight: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._payloads)

    def connecting(self) -> None:
        """Begin a connection: what was not confirmed on the last one is due again."""
        self._sent.clear()
        self._due = {**self._in_flight, **self._due}
        self._in_flight = {}

    def sent(self, topic: str) -> None:
        """Note that a newer payload is on its way."""
        self._sent[topic] = self._sent.get(topic, 0) + 1
        self._due.pop(topic, None)

    def confirmed(self, topic: str, payload: bytes) -> None:
        """Note what the broker has."""
        self._payloads[topic] = payload
        self._in_flight.pop(topic, None)
        if under_way := self._sent.get(topic):
            self._sent[topic] = under_way - 1

    def again(self, topic: str) -> None:
        """Have the newest published again, unless one is on its way anyway."""
        if topic in self._payloads and not self._sent.get(topic):
            self._sent.pop(topic, None)
            self._due[topic] = None

    def all_lost(self) -> None:
        """Have all published again."""
        self._due.update(dict.fromkeys(self._payloads))

    def move(self, topic: str, to_topic: str) -> None:
        """Have what is known of a topic published on another."""
        payload = self._payloads.get(topic)
        self.drop(topic)
        self.drop(to_topic)  # what was sent there was of somebody else, or of another time
        if payload is not None:
            self._payloads[to_topic] = payload
            self._due[to_topic] = None

    def drop(self, topic: str) -> None:
        """Forget a topic."""
        self._payloads.pop(topic, None)
        for known in (self._sent, self._due, self._in_flight):
            known.pop(topic, None)

    def answered(self, topic: str) -> None:
        """Note that the broker has what was published again, or will not take it."""
        self._in_flight.pop(topic, None)

    def take_due(self, is_ready: Callable[[str], bool]) -> tuple[str, bytes] | None:
        """Return topic and payload of one that is to be published again, on a topic that is ready.

        None if there is none now.
        """
        found = None
        needless = []
        for topic in self._due:
            payload = self._payloads.get(topic)
            if payload is None or topic in self._sent:
                needless.append(topic)
            elif is_ready(topic):
                found = topic, payload
                break
        for topic in needless:
            del self._due[topic]
        if found is not None:
            del self._due[found[0]]
            self._in_flight[found[0]] = None
        return found

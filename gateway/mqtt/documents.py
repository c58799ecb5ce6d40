"""What is published besides records: retained documents and passing remarks; no I/O."""

import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from gateway.mqtt.messages import PUBLISH_OVERHEAD
from gateway.mqtt.retained import Retained

_log = logging.getLogger(__name__)

MAX_POSTS = 1000
"""Remarks (log lines) that wait for the broker; then the oldest is dropped and counted."""

MAX_DOCUMENTS_BYTES = 32 << 20
"""All retained documents together, topics included; a new topic beyond that is refused and counted.

Enough for 20,000 devices of which each has an info of 1 kB; those 500 boards have take 1 MB."""

_ENTRY_BYTES = 200
"""About what CPython spends on one entry besides its bytes."""


MAX_ANSWERS = 1000
"""Answers that wait for the broker; then a further one is refused."""

EMPTIED_S = 7200.0
"""So long a topic is published empty again on each connection, after the broker had taken that: one
that loses its power has again what it had half an hour ago. (mosquitto writes its database each
`autosave_interval`, 1,800 s by default.)"""


class Post(NamedTuple):
    """One message that is no record."""

    topic: str
    payload: bytes
    retain: bool
    correlation: bytes | None = None
    """What an answer carries along, MQTT 5."""
    on_done: Callable[[bool], None] | None = None
    """Told of an answer whether the broker has it; False: it never will."""

    @property
    def packet_bytes(self) -> int:
        """Size of the packet, at most."""
        size_bytes = len(self.topic.encode()) + len(self.payload) + PUBLISH_OVERHEAD
        return size_bytes + (0 if self.correlation is None else 3 + len(self.correlation))


class Documents:
    """Keeps the newest document of each retained topic, and remarks and answers not yet published.

    A document is published when it changes, and again on every new connection: the broker may
    have lost it. It is held back until its topic is noted. A remark is published once, an answer
    until the broker has it.
    """

    def __init__(self, counts: Counter[str], retained: Retained | None = None) -> None:
        """`documents_dropped` and `posts_dropped` are counted in `counts`."""
        self._counts = counts
        self._retained = Retained() if retained is None else retained
        self._documents: dict[str, bytes] = {}
        self._size_bytes = 0
        self._changed: dict[str, None] = {}
        self._emptied: dict[str, float | None] = {}
        """Topics the broker knows to be empty, and since when; None until the next look."""
        self._posts: deque[Post] = deque()
        self._answers: deque[Post] = deque()
        self._is_post_next = False

    def __len__(self) -> int:
        return len(self._changed) + len(self._posts) + len(self._answers)

    def __contains__(self, topic: object) -> bool:
        """Tell whether there is a document, or one that is being removed."""
        return topic in self._documents

    def retain(self, topic: str, payload: bytes | None) -> bool:
        """Note the document of a topic, None to remove it; tell whether it has changed."""
        known = self._documents.get(topic)
        document = payload or b""  # an empty retained message removes the topic
        if known == document and (document or not self._retained.is_claimed(topic)):
            return False
        size_bytes = len(document) - len(known or b"")
        if known is None:
            size_bytes += len(topic) + _ENTRY_BYTES
            # What is removed is small, and would be a ghost.
            if document and self._size_bytes + size_bytes > MAX_DOCUMENTS_BYTES:
                if not self._counts["documents_dropped"]:
                    _log.error(
                        "too many retained documents; %s and further ones are left out", topic
                    )
                self._counts["documents_dropped"] += 1
                return False
        self._size_bytes += size_bytes
        self._documents[topic] = document
        self._emptied.pop(topic, None)
        if document:
            self._retained.not_cleared(topic)
            self._retained.note(topic)
        else:
            self._retained.clear(topic)
        if self._is_due(topic):
            self._changed[topic] = None
        return True

    def noted(self, topic: str) -> None:
        """Publish what was held back; what is removed was not."""
        if self._documents.get(topic):
            self._changed[topic] = None

    def post(self, topic: str, payload: bytes) -> None:
        """Note a remark; the oldest makes room for it."""
        if len(self._posts) >= MAX_POSTS:
            self._posts.popleft()
            self._counts["posts_dropped"] += 1
        self._posts.append(Post(topic, payload, retain=False))

    def answer(self, post: Post) -> bool:
        """Note an answer; False if too many wait."""
        if len(self._answers) >= MAX_ANSWERS:
            return False
        self._answers.append(post)
        return True

    def start_over(self) -> int:
        """Mark all documents to be published again; return how many there are."""
        for topic in [*self._emptied]:
            if self._retained.is_claimed(topic):
                self._drop(topic)
            else:
                self._retained.clear(topic)
        self._changed = {topic: None for topic in self._documents if self._is_due(topic)}
        return len(self._changed)

    def renew(self, topic: str) -> None:
        """Publish a document again: somebody else wrote to its topic."""
        if topic in self._documents and self._is_due(topic):
            self._changed[topic] = None

    def next(self) -> Post | None:
        """Return what is to be published next: answers, then documents and remarks in turn."""
        if self._answers:
            return self._answers.popleft()
        if self._posts and (self._is_post_next or not self._changed):
            self._is_post_next = False
            return self._posts.popleft()
        if self._changed:
            self._is_post_next = True
            topic = next(iter(self._changed))
            del self._changed[topic]
            return Post(topic, self._documents[topic], retain=True)
        return None

    def acknowledged(self, post: Post) -> None:
        """Note that the broker has something.

        A removed document is forgotten by and by; at once if something else is to be there.
        """
        if post.retain and not post.payload and self._documents.get(post.topic) == b"":
            self._changed.pop(post.topic, None)
            self._emptied.setdefault(post.topic, None)
            if self._retained.is_claimed(post.topic):
                self._drop(post.topic)
            self._retained.cleared(post.topic)

    def claimed(self, topic: str) -> None:
        """Note that something that is no document is to be retained on a topic."""
        if topic in self._emptied and not self._retained.is_clearing(topic):
            self._drop(topic)

    def look(self, now_s: float) -> None:
        """Forget what was removed long ago; call it now and then."""
        for topic, since_s in [*self._emptied.items()]:
            if since_s is None:
                self._emptied[topic] = now_s
            elif now_s >= since_s + EMPTIED_S:
                self._drop(topic)
                self._retained.forget(topic)

    def _drop(self, topic: str) -> None:
        """Forget a removed document."""
        del self._documents[topic]
        del self._emptied[topic]
        self._changed.pop(topic, None)
        self._size_bytes -= len(topic) + _ENTRY_BYTES

    def refused(self, post: Post) -> None:
        """Note that the broker does not take a document; it is tried on the next connection."""
        if post.retain and not post.payload:
            self._retained.cleared(post.topic)

    def returned(self, post: Post) -> None:
        """Put a remark or an answer back in front; return several newest first."""
        if post.retain:
            return  # documents start over with the connection
        if post.on_done is not None:
            self._answers.appendleft(post)
        elif len(self._posts) >= MAX_POSTS:
            self._counts["posts_dropped"] += 1
        else:
            self._posts.appendleft(post)

    def _is_due(self, topic: str) -> bool:
        return not self._documents[topic] or self._retained.is_noted(topic)

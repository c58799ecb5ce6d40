"""A place for what devices retain, without a broker."""

from collections.abc import Iterable


class Shelf:
    """Takes what is retained; an empty payload is what was removed."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}

    def retain(self, subtopic: str, payload: bytes | None) -> None:
        """Note the newest document."""
        self.retained[subtopic] = payload or b""

    def claim(self, subtopic: str) -> None:
        """Note that something may be there."""
        self.retained.setdefault(subtopic, b"?")

    def move_state(self, subtopic: str, to_subtopic: str) -> None:
        """Note that a state moved."""
        self.claim(to_subtopic)
        self.retain(subtopic, None)

    def load_retained(self, topics_noted: Iterable[str]) -> None:
        """Nothing was noted: there is no earlier run."""
        assert not list(topics_noted)

    def noted_topics(self) -> list[str]:
        """Return all topics."""
        return list(self.retained)

"""What a board has said it has, until all of it is known."""

from dataclasses import replace

from gateway.protocol.message_values import ActuatorReport, Hello, Stream
from gateway.protocol.records import RecordLayout
from gateway.protocol.session_events import ActuatorStated, Described

MAX_ACTUATORS = 255
"""As many as HELLO can count; reports of more are ignored."""

MAX_CHANNELS = 512
"""Channels of all streams together; a stream that goes beyond is ignored, and its records lost."""


class BoardDescription:
    """Collects STREAM and ACTUATOR frames; complete once as many came as HELLO counted."""

    def __init__(self, hello: Hello) -> None:
        self.layouts: dict[int, RecordLayout] = {}
        """How to unpack each stream described so far."""
        self._streams_wanted = hello.streams
        self._actuators_wanted = hello.actuators
        self._streams: dict[int, Stream] = {}
        self._actuators: dict[str, ActuatorReport] = {}
        self._taken_as_it_is = False

    @property
    def is_complete(self) -> bool:
        """Whether all that HELLO counted is here, or nobody waits for it any more."""
        return self._taken_as_it_is or (
            len(self._streams) >= self._streams_wanted
            and len(self._actuators) >= self._actuators_wanted
        )

    def take_as_it_is(self) -> None:
        """Wait for nothing more."""
        self._taken_as_it_is = True

    def add_stream(self, stream: Stream) -> bool:
        """Return whether this changes what is known."""
        if self._streams.get(stream.number) == stream:
            return False
        others = sum(len(s.channels) for s in self._streams.values() if s.number != stream.number)
        if others + len(stream.channels) > MAX_CHANNELS:
            return False
        self._streams[stream.number] = stream
        self.layouts[stream.number] = RecordLayout(stream)
        return True

    def add_actuator(self, report: ActuatorReport) -> ActuatorStated | bool:
        """Return whether this changes what is known; an ActuatorStated if only the state does."""
        known = self._actuators.get(report.key)
        if known == report or (known is None and len(self._actuators) >= MAX_ACTUATORS):
            return False
        self._actuators[report.key] = report
        if known is not None and replace(known, state=report.state) == report:
            return ActuatorStated(report)
        return True

    def described(self) -> Described:
        """Return what is known now."""
        return Described(
            tuple(stream for _, stream in sorted(self._streams.items())),
            tuple(self._actuators.values()),
        )

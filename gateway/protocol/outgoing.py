"""What is due to a board: one place for each kind bounds it, whatever comes in."""

from gateway.protocol.frames import Frame, encode_frame
from gateway.protocol.joined_board import JoinedBoard
from gateway.protocol.messages import HelloRequest, Welcome, encode


class Outgoing:
    """Keeps what is to be said until the link takes it."""

    def __init__(self) -> None:
        self.hello_request_is_due = False
        self.welcome: Welcome | None = None
        self._question: Frame | None = None

    @property
    def has_question(self) -> bool:
        """Whether a question waits for the link."""
        return self._question is not None

    def ask(self, question: Frame | None) -> None:
        """Put a question, if there is one; it takes the place of one that still waits."""
        self._question = question or self._question

    def clear(self) -> None:
        """Forget what was meant for a board that left."""
        self.welcome = self._question = None

    def take(self, board: JoinedBoard | None) -> bytes:
        """Return the lines that are due, those of `board` among them, and forget them."""
        frames: list[Frame] = []
        if self.hello_request_is_due:
            self.hello_request_is_due = False
            frames.append(encode(HelloRequest()))
        if self.welcome is not None:
            frames.append(encode(self.welcome))
            self.welcome = None
        if board is not None:
            if board.pong is not None:
                frames.append(encode(*board.pong))
                board.pong = None
            if board.reception.ack_due:
                frames.append(encode(board.reception.ack()))
        lines = b"".join(map(encode_frame, frames))
        question, self._question = self._question, None
        if question is not None and board is not None:
            lines += board.guard.line(question)
        return lines

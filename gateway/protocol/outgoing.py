"""What is due to a board: one place for each kind bounds it, whatever comes in."""

from gateway.protocol.frames import Frame, encode_frame
from gateway.protocol.guard import Guard
from gateway.protocol.joined_board import JoinedBoard
from gateway.protocol.messages import HelloRequest, Welcome, encode


class Outgoing:
    """Keeps what is to be said until the link takes it."""

    def __init__(self) -> None:
        self.hello_request_is_due = False
        self._welcome: tuple[Welcome, Guard] | None = None
        self._question: Frame | None = None

    @property
    def has_question(self) -> bool:
        """Whether a question waits for the link."""
        return self._question is not None

    def ask(self, question: Frame | None) -> None:
        """Put a question, if there is one; it takes the place of one that still waits."""
        self._question = question or self._question

    def greet(self, welcome: Welcome, guard: Guard) -> None:
        """Answer a HELLO; `guard` is of the board that said it, which need not have joined."""
        self._welcome = welcome, guard

    def clear(self) -> None:
        """Forget what was meant for a board that left."""
        self._welcome = self._question = None

    def take(self, board: JoinedBoard | None) -> bytes:
        """Return the lines that are due, those of `board` among them, and forget them."""
        lines = b""
        if self.hello_request_is_due:
            self.hello_request_is_due = False
            lines = encode_frame(encode(HelloRequest()))
        if self._welcome is not None:
            welcome, guard = self._welcome
            lines += guard.line(encode(welcome))
            self._welcome = None
        question, self._question = self._question, None
        if board is None:
            return lines
        if board.pong is not None:
            lines += board.guard.line(encode(*board.pong))
            board.pong = None
        if board.reception.ack_due:
            lines += board.guard.line(encode(board.reception.ack()))
        if question is not None:
            lines += board.guard.line(question)
        return lines

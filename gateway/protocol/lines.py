"""Cut a stream of bytes into lines; the one splitter for our boards and everybody else's."""

MAX_LINE = 8192
"""Longest line accepted, in bytes before the newline; a board's own frames stay below 400."""


class LineSplitter:
    r"""Gives whole lines, without `\n` or `\r\n`; holds at most `limit` bytes of an unfinished one.

    A longer line is dropped up to its newline and counted in `too_long` once, as soon as it is
    known to be too long.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.too_long = 0
        """Lines dropped so far because they were longer than the limit."""
        self._limit = limit
        self._unfinished = bytearray()
        self._dropping = False

    @property
    def held(self) -> int:
        """How many bytes of an unfinished line are held."""
        return len(self._unfinished)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completed, in order; empty lines are lines too."""
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and (self._unfinished or self._dropping):
            self._finish_first(lines)
        if len(chunk) > self._limit:
            lines = self._without_too_long(lines)
        self._hold(rest)
        if b"\r" in chunk or any(line[-1:] == b"\r" for line in lines[:1]):
            return [line.removesuffix(b"\r") for line in lines]
        return lines

    def _finish_first(self, lines: list[bytes]) -> None:
        if self._dropping:
            self._dropping = False
            del lines[0]
        elif len(self._unfinished) + len(lines[0]) > self._limit:
            self.too_long += 1
            del lines[0]
        else:
            lines[0] = bytes(self._unfinished + lines[0])
        self._unfinished.clear()

    def _without_too_long(self, lines: list[bytes]) -> list[bytes]:
        kept = [line for line in lines if len(line) <= self._limit]
        self.too_long += len(lines) - len(kept)
        return kept

    def _hold(self, rest: bytes) -> None:
        if self._dropping or not rest:
            return
        if len(self._unfinished) + len(rest) > self._limit:
            self.too_long += 1
            self._dropping = True
            self._unfinished.clear()
        else:
            self._unfinished += rest

"""A board's end of an update, written from the protocol's README: honest, and in memory.

It is for tests of the gateway's end that lose and repeat what goes over the wire; what a real
board makes of an update is tested with the firmware.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from gateway.protocol.frames import Frame
from gateway.protocol.messages import BadMessage, Message, UnknownMessage, decode
from gateway.protocol.update_values import (
    MANIFEST_FILE,
    BoardUpdateState,
    DataStatus,
    UpdateAbort,
    UpdateBegin,
    UpdateData,
    UpdateDataAck,
    UpdateEnd,
    UpdateNeed,
    UpdateState,
    Want,
)


def manifest_of(contents: list[bytes]) -> bytes:
    """Return a manifest of files that are called f00, f01, ..."""
    head = f'{{"kind":"firmware","v":"0.2.0","mpy":6,"n":{len(contents)}}}'
    rows = [f"board/f{n:02}.mpy {len(c)} {sha256(c).hexdigest()}" for n, c in enumerate(contents)]
    return "\n".join([head, *rows, ""]).encode()


@dataclass
class UpdateReceiver:
    """Answers frames; what is whole outlives `reset`."""

    has: dict[int, bytes] = field(default_factory=dict)
    """Whole files by number, as of the slot that does not run."""
    manifest: bytes = b""
    is_on_trial: bool = False
    heard: list[Message] = field(default_factory=list)
    """All that was taken for a question."""
    _begun: UpdateBegin | None = None
    _part: bytes = b""
    _file: int | None = None

    @property
    def rows(self) -> list[tuple[int, str]]:
        """Size and hash of each file of the manifest."""
        lines = self.manifest.decode().splitlines()[1:]
        return [(int(size), digest) for _, size, digest in (line.split() for line in lines)]

    def reset(self) -> None:
        """Lose what is only in RAM."""
        self._begun, self._file, self._part = None, None, b""

    def answer(self, frame: Frame) -> Message | None:
        """Return what it says to a frame; None where it says nothing."""
        message = decode(frame)
        assert not isinstance(message, BadMessage | UnknownMessage)
        self.heard.append(message)
        if isinstance(message, UpdateBegin):
            return self._begin(message)
        if isinstance(message, UpdateAbort):
            self.reset()
        elif isinstance(message, UpdateData):
            return self._take(message)
        elif isinstance(message, UpdateEnd):
            return self._end()
        return None

    def _begin(self, begin: UpdateBegin) -> UpdateNeed:
        if self._begun is None or self._begun.manifest_hash != begin.manifest_hash:
            self.reset()
        self._begun = begin
        if sha256(self.manifest).digest() != begin.manifest_hash:
            self.manifest = b""
        return self._need()

    def _end(self) -> Message:
        if self._begun is None:
            return UpdateDataAck(MANIFEST_FILE, 0, DataStatus.NOT_BEGUN)
        if self._missing():
            return self._need()
        self.is_on_trial = True
        return UpdateState(BoardUpdateState.TRIAL, sha256(self.manifest).hexdigest()[:16])

    def _need(self) -> UpdateNeed:
        if not self.manifest:
            return UpdateNeed(Want.MANIFEST)
        return UpdateNeed(Want.FILES, tuple(self._missing()), len(self.rows))

    def _missing(self) -> list[int]:
        return [number for number in range(len(self.rows)) if number not in self.has]

    def _take(self, piece: UpdateData) -> UpdateDataAck:
        if self._begun is None or (piece.file != MANIFEST_FILE and not self.manifest):
            return UpdateDataAck(piece.file, 0, DataStatus.NOT_BEGUN)
        if piece.file == MANIFEST_FILE:
            size, digest = self._begun.manifest_size, self._begun.manifest_hash.hex()
            is_whole = bool(self.manifest)
        else:
            size, digest = self.rows[piece.file]
            is_whole = piece.file in self.has
        if piece.file != self._file:
            self._file, self._part = piece.file, b""
        if not is_whole and piece.offset == len(self._part):
            self._part += piece.data
            is_whole = len(self._part) == size
            if is_whole and not self._keep(digest):
                return UpdateDataAck(piece.file, 0, DataStatus.HASH_WRONG)
        return UpdateDataAck(piece.file, size if is_whole else len(self._part), DataStatus.OK)

    def _keep(self, digest: str) -> bool:
        whole, file, self._file = self._part, self._file, None
        if file is None or sha256(whole).hexdigest() != digest:
            return False
        if file == MANIFEST_FILE:
            self.manifest = whole
        else:
            self.has[file] = whole
        return True

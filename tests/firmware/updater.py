"""The gateway's end of an update and of sealed frames, written from the protocol."""

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from tests.firmware.board_process import BoardProcess
from tests.firmware.bundles import Made
from tests.firmware.model_gateway import HELLO, Said, line_of

BEGIN, NEED, DATA, DATA_ACK, END, ABORT, STATE = range(0x40, 0x47)
SEALED = 0x80
FILES, MANIFEST, SIGNATURE, BUSY = range(4)
OK, NOT_WRITTEN, WRONG, NOT_BEGUN = range(4)
DOWNGRADE, SIGNED = 1, 2
MANIFEST_FILE, SIGNATURE_FILE = 0xFFFF, 0xFFFE
CHUNK = 160


@dataclass
class Seal:
    """What who knows a board's key can do."""

    key: bytes
    session: bytes
    said: int = 0
    heard: int = 0

    def _tag(self, direction: int, counter: bytes, kind: int, mid: int, body: bytes) -> bytes:
        head = self.session + bytes((direction,)) + counter + bytes((kind, mid))
        return hmac.digest(self.key, head + body, "sha256")[:8]

    def line(self, kind: int, body: bytes, mid: int) -> bytes:
        self.said += 1
        counter = struct.pack("<I", self.said)
        tag = self._tag(0, counter, kind | SEALED, mid, body)
        return line_of(kind | SEALED, body + counter + tag, mid)

    def open(self, frame: Said) -> Said:
        """Return what a board said with its key; it must be new."""
        body, counter, tag = frame.payload[:-12], frame.payload[-12:-8], frame.payload[-8:]
        assert frame.kind & SEALED
        assert tag == self._tag(1, counter, frame.kind, frame.mid, body), "not the board's"
        number = struct.unpack("<I", counter)[0]
        assert number > self.heard, "came before"
        self.heard = number
        return Said(frame.kind & ~SEALED, frame.mid, body)


def seal_of(board: BoardProcess, key: bytes) -> Seal:
    """Return the seal for what a board said of itself last."""
    hello = board.of_kind(HELLO)[-1].json
    assert hello["ki"] == hashlib.sha256(key).hexdigest()[:8]
    return Seal(key, bytes.fromhex(hello["ks"]), said=hello["kc"])


@dataclass(frozen=True, slots=True)
class Need:
    """A NEED, taken apart."""

    want: int
    files: list[int]

    @classmethod
    def of(cls, frame: Said) -> "Need":
        want, count = struct.unpack_from("<BH", frame.payload)
        bitmap = frame.payload[3:]
        files = [index for index in range(count) if bitmap[index // 8] >> index % 8 & 1]
        return cls(want, files)


@dataclass
class Updater:
    """Brings one update to a board."""

    board: BoardProcess
    made: Made
    seal: Seal | None = None
    is_settings: bool = False
    flags: int = 0
    signature: bytes = b""
    sent: list[int] = field(default_factory=list)
    """The files that were sent whole."""
    _mid: int = 0
    _seen: int = 0

    def begin_body(self) -> bytes:
        flags = self.flags | (SIGNED if self.signature else 0)
        size = len(self.made.manifest)
        head = struct.pack("<BBI", self.is_settings, flags, size) + self.made.digest
        mac = hmac.digest(self.seal.key, b"update" + head, "sha256") if self.seal else bytes(32)
        return head + mac

    def say(self, kind: int, body: bytes = b"") -> None:
        self._mid = (self._mid + 1) & 255
        self._seen = len(self.board.heard)
        if self.seal:
            self.board.send(self.seal.line(kind, body, self._mid))
        else:
            self.board.send(line_of(kind, body, self._mid))

    def answer(self) -> Said:
        """Return the next answer to the last question."""
        found: list[Said] = []

        def answered() -> bool:
            while self._seen < len(self.board.heard) and not found:
                frame = self.board.heard[self._seen]
                self._seen += 1
                plain = frame.kind & ~SEALED
                if NEED <= plain <= STATE and frame.mid == self._mid:
                    if self.seal and frame.kind & SEALED:
                        frame = self.seal.open(frame)
                    found.append(frame)
            return bool(found)

        self.board.until(answered)
        return found[0]

    def ask(self, kind: int, body: bytes = b"") -> Said:
        """Ask, and return the first answer that is not `busy`."""
        self.say(kind, body)
        while (frame := self.answer()).kind == NEED and Need.of(frame).want == BUSY:
            pass
        return frame

    def send(self, file: int, content: bytes, chunk: int = CHUNK) -> int:
        """Send a file; return the last status."""
        offset, status = 0, OK
        while offset < len(content):
            piece = content[offset : offset + chunk]
            frame = self.ask(DATA, struct.pack("<HI", file, offset) + piece)
            assert frame.kind == DATA_ACK, frame
            number, offset, status = map(int, struct.unpack("<HIB", frame.payload))
            assert number == file
            if status != OK:
                return status
        self.sent.append(file)
        return status

    def begin(self) -> Said:
        """Ask until the board wants files, or says something else than NEED."""
        while (frame := self.ask(BEGIN, self.begin_body())).kind == NEED:
            need = Need.of(frame)
            if need.want == MANIFEST:
                self.send(MANIFEST_FILE, self.made.manifest)
            elif need.want == SIGNATURE:
                self.send(SIGNATURE_FILE, self.signature)
            else:
                break
        return frame

    def run(self) -> Said:
        """Do all of it; return how it ended."""
        frame = self.begin()
        while frame.kind == NEED:
            for file in Need.of(frame).files:
                self.send(file, self.made.contents[file])
            frame = self.ask(END)
        return frame

"""Whatever is on a serial port: our boards, boards that print JSON, CSV or key=value, and logs.

Every line is looked at for itself (P4), so nothing has to be configured for our boards or for JSON.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gateway.clock import Clock
from gateway.drivers.base import OnCommandEnd, OnUpdateEvent
from gateway.drivers.board import BoardDriver, clean
from gateway.drivers.csv_lines import CsvLines
from gateway.drivers.json_lines import JsonLines
from gateway.drivers.log_budget import LogBudget
from gateway.drivers.text_device import excerpt
from gateway.model import DeviceLog, Event, Fault, Gone, LogLevel, Sensor
from gateway.protocol.delivery import DeliveryBook
from gateway.protocol.frames import MARK, MAX_FRAME_ON_256, BadFrame, Frame, open_frame
from gateway.protocol.guard import Keys
from gateway.protocol.lines import MAX_LINE, LineSplitter
from gateway.protocol.requests import Order
from gateway.protocol.session import HEARTBEAT_S
from gateway.protocol.update import Update

if TYPE_CHECKING:
    from gateway.drivers.base import OutputSignal

_MAX_LOG = 512
"""Longest log line published, in characters."""

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_SHORTEST_FRAME = 8
"""Characters of base64 in the shortest frame."""
_SHORTEST_TORN = 24
"""Shorter words without a blank are words."""
_TEXT = bytes(range(32, 127)) + b"\t\r\x1b"
"""Characters of a log line; \\x1b starts a colour."""


@dataclass(frozen=True, slots=True)
class LineFormat:
    """What is expected on a port."""

    kind: Literal["auto", "board", "json", "csv", "key_value"] = "auto"
    """auto takes frames and JSON; board takes frames alone."""
    columns: tuple[Sensor, ...] = ()
    """Names of CSV columns in order; for JSON and key=value they add unit and device class."""
    separator: str = ","


class SerialLineDriver:
    """The StreamDriver of every serial port; one for each opening of the port."""

    def __init__(  # noqa: PLR0913  # a port, its format, and what all ports share
        self,
        port_name: str,
        device_name: str,
        line_format: LineFormat,
        *,
        book: DeliveryBook,
        clock: Clock,
        run: int,
        session_id: str,
        heartbeat_s: float = HEARTBEAT_S,
        largest_frame: int = MAX_FRAME_ON_256,
        keys: Keys | None = None,
    ) -> None:
        """`device_name` names a text source that gives no id; empty to name it after the port.

        `run` and `session_id` differ at every start of the gateway. `largest_frame` is what the
        link carries to a board, in bytes. `keys` knows boards' keys.
        """
        self.on_output: OutputSignal | None = None
        self._kind = line_format.kind
        self._splitter = LineSplitter()
        self._logs = LogBudget()
        self._board = BoardDriver(
            *(port_name, book, clock, session_id, heartbeat_s),
            logs=self._logs,
            largest_frame=largest_frame,
            keys=keys,
        )
        self._board.session.on_output = self._signal
        opening = (run + book.next_number()) & 0xFFFFFFFF  # samples are numbered from 0 again
        self._json = JsonLines(port_name, device_name, opening, line_format.columns, book)
        self._json.on_output = self._signal
        self._csv: CsvLines | None = None
        if line_format.kind in ("csv", "key_value"):
            self._csv = CsvLines(
                port_name,
                device_name,
                opening,
                columns=line_format.columns,
                separator=line_format.separator,
                kind=line_format.kind,
                book=book,
            )
        self._is_first = True

    @property
    def deadline_s(self) -> float | None:
        """Monotonic time at which `tick` wants to be called; None for never."""
        return self._board.session.deadline_s

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        """Return what `data` completed, in wire order; never raise on bad bytes."""
        out: list[Event] = []
        splitter = self._splitter
        too_long = splitter.too_long
        for line in splitter.feed(data):
            if line:
                self._take(line, now_s, out)
        if splitter.too_long != too_long:
            fault = Fault("line_too_long", f"more than {MAX_LINE} bytes without a newline")
            out += [fault] * (splitter.too_long - too_long)
        return out

    def tick(self, now_s: float) -> list[Event]:
        """Do what time makes due: repeat a request, notice silence."""
        out: list[Event] = []
        self._board.tick(now_s, out)
        return out

    def data_to_send(self) -> bytes:
        """Return bytes due to the device (acks, requests) and forget them."""
        return self._board.session.data_to_send() + self._json.data_to_send()

    def hold(self, *, paused: bool) -> None:
        """Tell a board to keep its samples for now, or to go on."""
        self._board.session.hold(paused=paused)

    def command(self, order: Order, now_s: float, on_end: OnCommandEnd) -> None:
        """Have the board on this port do something at most once; `on_end` is called once."""
        self._board.command(order, now_s, on_end)

    def update(self, device: str, update: Update, now_s: float, on_event: OnUpdateEvent) -> None:
        """Update the board on this port, if it is that device; its end is told once."""
        self._board.update(device, update, now_s, on_event)

    def abort_update(self, device: str, why: str, now_s: float) -> None:
        """End the update of that device, if one is under way here."""
        self._board.abort_update(device, why, now_s)

    def close(self, now_s: float) -> list[Event]:
        """Say which devices went with the link; the driver is not used afterwards."""
        out: list[Event] = []
        self._board.close(now_s, out)
        self._json.release()
        if self._csv is not None:
            self._csv.release()
        return out + [Gone(device, "closed") for device in self._text_devices()]

    def _take(self, line: bytes, now_s: float, out: list[Event]) -> None:
        is_first, self._is_first = self._is_first, False
        if MARK in line and self._kind in ("auto", "board"):
            frame = open_frame(line)
            if isinstance(frame, Frame):
                if not self._board.has_joined:
                    self._json.release()  # the board may have printed JSON under its own id
                self._board.receive(frame, now_s, out)
                return
            if isinstance(frame, BadFrame) and _was_frame(line):
                if not is_first:  # it may have begun before the port was opened
                    out.append(Fault("bad_frame", f"{frame.fault.value}: {excerpt(line)}"))
                return
        if self._csv is not None:
            if self._csv.matches(line):
                self._csv.parse(line, now_s, out)
                return
        elif line[:1] == b"{" and self._takes_json():
            self._json.parse(line, now_s, out)
            return
        if not is_first:
            self._log(line, now_s, out)

    def _takes_json(self) -> bool:
        """Whether a JSON object is a sample; once a board has joined, it is what that prints."""
        return self._kind == "json" or (self._kind == "auto" and not self._board.has_joined)

    def _log(self, line: bytes, now_s: float, out: list[Event]) -> None:
        if b"\0" in line or 4 * len(line.translate(None, _TEXT)) > len(line):
            if not _is_utf8_text(line):
                out.append(Fault("noise", excerpt(line)))
                return
        elif self._board.has_joined and len(line) >= _SHORTEST_TORN and _is_base64(line):
            out.append(Fault("torn_frame", excerpt(line)))
            return
        if not self._logs.take(now_s):
            out.append(Fault("log_flood", excerpt(line)))
            return
        text = clean(line.decode(errors="replace"), _MAX_LOG)
        if text:
            out.append(DeviceLog(self._logger(), LogLevel.INFO, text))

    def _logger(self) -> str:
        """Return the device whose log a text line is; empty when that is not known."""
        devices = self._text_devices()
        return self._board.device or (devices[0] if len(devices) == 1 else "")

    def _text_devices(self) -> tuple[str, ...]:
        return self._json.devices if self._csv is None else self._csv.devices

    def _signal(self) -> None:
        if self.on_output is not None:
            self.on_output()


def _was_frame(line: bytes) -> bool:
    """Whether a line with a `~` was a frame before it was damaged."""
    tail = line[line.rfind(MARK) + 1 :]
    return len(tail) >= _SHORTEST_FRAME and _is_base64(tail)


def _is_base64(text: bytes) -> bool:
    """Whether nearly all of it (noise may have changed some) is base64."""
    return 10 * len(text.translate(None, _BASE64)) <= len(text)


def _is_utf8_text(line: bytes) -> bool:
    try:
        return line.decode().isprintable()
    except UnicodeDecodeError:
        return False

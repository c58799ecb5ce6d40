"""board/port.py: a link that takes lines slowly, in parts, or not at all."""

import pytest

from tests.firmware.hosts import Host

WORLD = """
from board.port import Port

class Session:
    frames_sent = batches_resent = bad_lines = bad_frames = logs_lost = 0
    rtt_ms = None
    def __init__(self, lines):
        self.lines = lines
        self.ticks = 0
    def next_line(self, now_ms):
        return self.lines.pop(0) if self.lines else None
    def due_ms(self, now_ms):
        return 70
    def tick(self, now_ms):
        self.ticks += 1

class Link:
    def __init__(self, takes):
        self.takes = takes
        self.written = []
    def has_room(self):
        return bool(self.takes)
    def write(self, line):
        count = min(self.takes.pop(0), len(line))
        self.written.append(line[:count].decode())
        return count

def port(takes):
    made = Port(Link(takes), Session([b"abcdef\\n", b"gh\\n"]), None)
    return made, made.link, made.session
"""


@pytest.mark.parametrize(
    ("takes", "written", "due_ms", "ticks"),
    [
        ([99, 99, 99], ["abcdef\n", "gh\n"], 70, 0),
        ([4, 99, 99, 99], ["abcd", "ef\n", "gh\n"], 70, 0),
        ([4], ["abcd"], 0, 1),
        ([], [], 0, 1),
        ([0, 99], [""], 0, 1),
    ],
    ids=["whole", "in parts", "full in the middle", "full", "nobody there"],
)
def test_what_a_link_takes_is_written(
    host: Host, takes: list[int], written: list[str], due_ms: int, ticks: int
) -> None:
    script = f"""
made, link, session = port({takes})
due_ms = made.pump()
say([link.written, due_ms, session.ticks])
"""
    assert host.said(WORLD + script) == [written, due_ms, ticks]


def test_the_rest_of_a_line_is_written_when_there_is_room(host: Host) -> None:
    script = """
made, link, session = port([4])
made.pump()
link.takes = [99, 99]
made.pump()
say(link.written)
"""
    assert host.said(WORLD + script) == ["abcd", "ef\n", "gh\n"]


def test_a_line_nobody_took_is_not_kept(host: Host) -> None:
    script = """
made, link, session = port([0])
made.pump()
link.takes = [99]
made.pump()
say(link.written)
"""
    assert host.said(WORLD + script) == ["", "gh\n"]

"""board/link_ble.py on a radio that does what a test says, under each interpreter.

The radio stands in for MicroPython's module `bluetooth`, which is hardware: it keeps what it is
told, and its events are fired by the script, as an interrupt is, between any two calls.
"""

from textwrap import indent

from tests.firmware.hosts import Host

SERVICE = "0e9a0001-5c1d-4c0e-9c6b-2f6a7b1d0e01"
SERVICE_LE = bytes.fromhex(SERVICE.replace("-", ""))[::-1].hex()

HELLO_REQ = "~CAD3mACJ"
ACK = "~EQAHABQAAAADABQAAADm3u43"  # any frame: only its length matters here

RADIO = """
import sys
from binascii import b2a_base64, hexlify, unhexlify

CONNECT, DISCONNECT, WRITE, MTU = 1, 2, 3, 21

class UUID:
    def __init__(self, text):
        self.text = text
    def __iter__(self):
        return iter(reversed(unhexlify(self.text.replace("-", ""))))
    def __len__(self):
        return 16

class BLE:
    def __init__(self):
        self.did = []  # [name, arguments ...] of each call
        self.refuses = []  # errors of the next notifications, the next first
        self.busy = 0  # so many calls of gap_advertise fail
        self.value = b""  # None: there is no memory to read it into
        self.notified = []
    def active(self, on):
        self.did.append(["active", on])
    def config(self, mtu, gap_name):
        self.did.append(["config", mtu, bytes(gap_name).decode()])
    def irq(self, handler):
        self.handler = handler
    def gatts_register_services(self, services):
        for service, characteristics in services:
            told = [[uuid.text, flags] for uuid, flags in characteristics]
            self.did.append(["register", service.text, told])
        return ((21, 24),)
    def gatts_set_buffer(self, handle, size):
        self.did.append(["buffer", handle, size])
    def gatts_read(self, handle):
        if self.value is None:
            raise MemoryError
        return self.value
    def gatts_notify(self, connection, handle, fragment):
        if self.refuses:
            raise OSError(self.refuses.pop(0))
        self.notified.append(hexlify(bytes(fragment)).decode())
    def gap_advertise(self, interval_us, adv_data=None, resp_data=None, connectable=True):
        if interval_us is None:
            self.did.append(["advertise", None])
            return
        if self.busy:
            self.busy -= 1
            raise OSError(16)
        data = [hexlify(adv_data).decode(), hexlify(resp_data).decode()]
        self.did.append(["advertise"] + data + [connectable])
    def gap_disconnect(self, connection):
        self.did.append(["disconnect", connection])
        return True
    # ---- what happens on the air
    def fire(self, event, *arguments):
        self.handler(event, arguments)
    def connect(self, connection=0, mtu=None):
        self.fire(CONNECT, connection, 0, b"123456")
        if mtu:
            self.fire(MTU, connection, mtu)
    def disconnect(self, connection=0):
        self.fire(DISCONNECT, connection, 0, b"123456")
    def write(self, fragment, connection=0):
        self.value = fragment
        self.fire(WRITE, connection, 24)

class Module:
    UUID = UUID
    radio = BLE()
    def BLE(self=None):
        return Module.radio

sys.modules["bluetooth"] = Module
radio = Module.radio

from board import clock
from board.link_ble import Link

link = Link({"board": "greenhouse"})

def calls(name):
    return [call[1:] for call in radio.did if call[0] == name]

# The lines that are there to be read.
async def lines():
    found = []
    while True:
        try:
            line = await asyncio.wait_for(link.read_line(), 0.02)
        except asyncio.TimeoutError:
            return found
        found.append(line.decode().rstrip())

# All that the link can say of this line now.
def say_line(line):
    assert link.has_room()
    taken = link.write(line)
    found, radio.notified = radio.notified, []
    return [taken, found]

# As time passes for the board.
def pass_ms(ms):
    clock.shift_ms += ms
"""


def live(script: str) -> str:
    """Return a script that does this as a task on the board."""
    return f"{RADIO}\nasync def main():\n{indent(script, '    ')}\nasyncio.run(main())\n"


def test_the_service_is_registered_and_advertised_with_the_boards_name(host: Host) -> None:
    script = "link.has_room()\nsay(radio.did)"

    active, config, register, buffer, advertise = host.said(live(script))

    assert active == ["active", True]
    assert config == ["config", 247, "greenhouse"]
    tx, rx = (SERVICE.replace("0e9a0001", f"0e9a000{number}") for number in (2, 3))
    assert register == ["register", SERVICE, [[tx, 0x10], [rx, 0x08 | 0x04]]]
    assert buffer == ["buffer", 24, 512]
    name = b"greenhouse".hex()
    assert advertise == ["advertise", "020106" + "1107" + SERVICE_LE, "0b09" + name, True]


def test_a_connection_begins_as_if_the_gateway_had_asked_who_the_board_is(host: Host) -> None:
    script = """
before = [link.has_room(), await lines()]
radio.connect()
room_before = link.has_room()
first = await lines()
radio.write(unhexlify("c00800f7980089"))
say([before, room_before, first, link.has_room(), await lines()])
"""
    before, room_before, first, room, second = host.said(live(script))

    assert before == [False, []]
    assert (room_before, room) == (False, True)
    assert first == [HELLO_REQ]
    assert second == [HELLO_REQ]  # the one that was written


def test_a_line_is_cut_by_the_mtu_of_the_connection(host: Host) -> None:
    script = """
line = b"~" + b2a_base64(bytes(range(60)))
radio.connect()
await lines()
small = say_line(line)
radio.fire(MTU, 0, 30)
large = say_line(line)
radio.disconnect()
radio.connect()
await lines()
say([small, large, say_line(line)])
"""
    said = host.said(live(script))

    assert [taken for taken, _ in said] == [82, 82, 82]
    sizes = [[len(fragment) // 2 for fragment in fragments] for _, fragments in said]
    assert sizes == [[20, 20, 20, 4], [27, 27, 9], [20, 20, 20, 4]]


def test_a_notification_that_is_not_taken_is_tried_again(host: Host) -> None:
    script = """
line = b"~" + b2a_base64(bytes(range(60)))
radio.connect()
await lines()
whole = say_line(line)[1]
radio.refuses = [12, -128, 12]
rooms = [link.has_room(), link.write(line)]
begun = len(radio.notified)
rooms += [link.has_room(), link.has_room(), link.has_room()]
say([whole, rooms, begun, radio.notified, calls("disconnect")])
"""
    whole, rooms, begun, notified, ended = host.said(live(script))

    assert rooms == [True, 82, False, False, True]
    assert begun == 0
    assert [each[2:] for each in notified] == [each[2:] for each in whole]
    assert [int(each[:2], 16) & 0x3F for each in whole + notified] == list(range(8))
    assert ended == []


def test_a_central_that_takes_nothing_for_long_has_to_go(host: Host) -> None:
    script = f"""
radio.connect(5)
await lines()
radio.refuses = [12] * 100
link.has_room()
link.write({ACK.encode()!r})
pass_ms(4900)
link.has_room()
early = calls("disconnect")
pass_ms(200)
link.has_room()
late = calls("disconnect")
radio.refuses = []
radio.disconnect(5)
link.has_room()
radio.connect(6)
await lines()
say([early, late, link.has_room(), radio.notified])
"""
    early, late, room, notified = host.said(live(script))

    assert (early, late) == ([], [[5]])
    assert room
    assert notified == []  # what the last central did not take is not for the next


def test_a_central_that_never_answers_has_to_go(host: Host) -> None:
    script = """
hello = b"~AQAAAAAAAA=="
other = b"~EAAAAAAAAA=="
radio.connect(3)
await lines()
for number in range(60):
    say_line(hello)
    say_line(other)
silent = calls("disconnect")
radio.write(unhexlify("c00800f7980089"), 3)
await lines()
for number in range(60):
    say_line(hello)
    link.has_room()
answered = calls("disconnect")
link.has_room()
say_line(hello)
link.has_room()
say([silent, answered, calls("disconnect")])
"""
    silent, answered, never = host.said(live(script))

    assert (silent, answered, never) == ([], [], [[3]])


def test_a_board_advertises_again_when_the_central_has_gone(host: Host) -> None:
    script = """
rooms = [link.has_room()]
once = len(calls("advertise"))
for _ in range(3):
    link.has_room()
radio.connect()
await lines()
link.has_room()
connected = len(calls("advertise"))
radio.disconnect()
rooms.append(link.has_room())
say([rooms, once, connected, len(calls("advertise"))])
"""
    assert host.said(live(script)) == [[False, False], 1, 1, 2]


def test_a_radio_that_is_too_busy_to_advertise_is_asked_again(host: Host) -> None:
    script = """
radio.busy = 2
link.has_room()
link.has_room()
pass_ms(5100)
link.has_room()
pass_ms(5100)
link.has_room()
say([radio.busy, len(calls("advertise"))])
"""
    assert host.said(live(script)) == [0, 1]


def test_a_second_central_is_refused_and_the_first_goes_on(host: Host) -> None:
    script = f"""
radio.connect(0)
await lines()
radio.connect(1, mtu=30)
radio.write(unhexlify("c00800f7980089"), 1)
link.has_room()
refused = calls("disconnect")
radio.disconnect(1)
radio.write(unhexlify("c00800f7980089"), 0)
say([refused, await lines(), say_line({ACK.encode()!r})[1], calls("disconnect")])
"""
    refused, heard, said, ended = host.said(live(script))

    assert refused == ended == [[1]]
    assert heard == [HELLO_REQ]
    assert len(said) == 1


def test_what_is_said_to_all_is_said_also_while_a_central_is_there(host: Host) -> None:
    script = """
link.has_room()
link.advertise(b"readings", b"name")
link.has_room()
radio.connect()
await lines()
link.has_room()
link.advertise(b"others", b"name")
link.has_room()
radio.disconnect()
link.has_room()
say([[bytes(unhexlify(advert)).decode(), free] for advert, _, free in calls("advertise")[1:]])
"""
    assert host.said(live(script)) == [
        ["readings", True],
        ["readings", False],
        ["others", False],
        ["others", True],
    ]


def test_when_the_board_leaves_nobody_comes_and_at_last_nobody_stays(host: Host) -> None:
    script = f"""
line = {ACK.encode()!r}
link.has_room()
radio.connect(4)
await lines()
link.leave(True)
kept = [say_line(line)[1], calls("disconnect")]
link.leave(False)
radio.disconnect(4)
link.has_room()
say([kept, calls("disconnect"), calls("advertise")[1:]])
"""
    (said, early), late, advertised = host.said(live(script))

    assert len(said) == 1
    assert (early, late) == ([], [[4]])
    assert advertised == [[None], [None]]  # stopped, and not begun again


def test_what_a_central_floods_is_bounded_and_counted(host: Host) -> None:
    script = """
radio.connect(0, mtu=247)
await lines()
for number in range(1000):
    radio.write(bytes([number & 63]) + bytes(243))
held = sum(len(slot) for slot in link._slots if slot)
lost = link.too_long
await lines()
radio.write(unhexlify("c00800f7980089"))
say([held, lost, await lines(), [slot for slot in link._slots if slot]])
"""
    held, lost, heard, left = host.said(live(script))

    assert held <= 1024 + 244
    assert lost == 1000 - held // 244
    assert heard == [HELLO_REQ]
    assert left == []


def test_a_fragment_there_is_no_memory_for_is_lost_and_counted(host: Host) -> None:
    script = """
radio.connect()
await lines()
radio.write(None)
lost = link.too_long
radio.write(unhexlify("c00800f7980089"))
say([lost, await lines(), link.too_long])
"""
    assert host.said(live(script)) == [1, [HELLO_REQ], 1]


def test_whatever_happens_on_the_air_never_raises(host: Host) -> None:
    script = """
import random
random.seed(20261123)

async def listen():
    while True:
        await link.read_line()

task = asyncio.create_task(listen())
line = b"~" + b"QUJD" * 60
for _ in range(1000):
    event = random.getrandbits(3)
    connection = random.getrandbits(1)
    if event == 0:
        radio.connect(connection, mtu=(23, 247)[random.getrandbits(1)])
    elif event == 1:
        radio.disconnect(connection)
    elif event == 2:
        radio.fire(99, connection, b"", 7)
    elif event == 3:
        radio.refuses = [(12, -128, 128)[random.getrandbits(1)]] * random.getrandbits(2)
    elif event == 4:
        await asyncio.sleep(0)
    elif event == 5:
        if link.has_room():
            link.write(line)
    else:
        size = random.getrandbits(4)
        radio.write(bytes([random.getrandbits(8) for _ in range(size)]), connection)
task.cancel()
say([sum(len(slot) for slot in link._slots if slot), len(link._fragments.joined)])
"""
    waiting, joined = host.said(live(script))

    assert waiting <= 1024 + 16
    assert joined <= 512

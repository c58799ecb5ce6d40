# Bluetooth Low Energy: one central, the gateway, writes fragments of frames, and is notified of
# ours. MicroPython's own module does for that; aioble would take five times the memory.

import asyncio

from board import clock
from board.fragments import Fragments
from board.parts import borrow
from micropython import const

_CONNECT = const(1)
_DISCONNECT = const(2)
_WRITE = const(3)
_MTU_EXCHANGED = const(21)

_LEAST_MTU = const(23)
_SLOTS = const(16)  # fragments that wait to be joined
_WAITING_BYTES = const(1024)  # no more is taken beyond these
_HELLOS = const(60)  # a central that leaves so many in a row unanswered has to go
_STUCK_MS = const(5000)  # and one that takes no notification for so long
_HELLO = const(b"~AQ")
_HELLO_REQ = const(b"~CAD3mACJ")


class Link:
    name = "ble"
    max_line = 400  # characters that a frame would have on a serial line

    # config: "board", the name to show; "mtu", bytes of a packet at most
    def __init__(self, config):
        self.central = None  # the connection
        self.unwanted = None  # another one
        self.changed = True  # radio.py has something to do
        self.hellos = 0  # unanswered ones, in a row
        self.refused_ms = None  # since when the radio has taken nothing
        self.broadcasts = False  # it advertises also while a central is there
        self.is_leaving = False  # nobody is to connect any more
        self.full_ms = 0  # how long it may be left alone while it has no room
        self._mtu = _LEAST_MTU
        self.is_new = False  # nothing is said on this connection yet
        self._fragments = Fragments()
        self._event = asyncio.ThreadSafeFlag()
        # The interrupt fills the slots, at _head, and a task empties them, at _tail. Neither
        # writes what is the other's, so that each may come at any moment.
        self._slots = [None] * _SLOTS
        self._head = self._tail = 0
        self._taken = self._given = 0  # bytes
        self._lost = 0  # fragments that found no room
        borrow("radio").set_up(self, config)

    # Fragments and frames that were dropped.
    @property
    def too_long(self):
        return self._lost + self._fragments.dropped + self._fragments.strays

    # Comes between any two instructions, on an ESP32 from another thread. What a central writes is
    # copied at once, as the next write takes its place; all else is left to the tasks.
    def on_event(self, event, arguments):
        connection = arguments[0]
        if event == _CONNECT:
            if self.central is None:
                self._mtu = _LEAST_MTU
                self.is_new = True
                self.central = connection
            else:
                self.unwanted = connection
            self.changed = True
        elif connection != self.central:
            return
        elif event == _WRITE:
            head = (self._head + 1) % _SLOTS
            if head == self._tail or self._taken - self._given > _WAITING_BYTES:
                self._lost += 1
                return
            try:
                fragment = self._slots[self._head] = self.radio.gatts_read(arguments[1])
            except MemoryError:
                self._lost += 1
                return
            self._taken += len(fragment)
            self._head = head
        elif event == _MTU_EXCHANGED:
            self._mtu = arguments[1]
        elif event == _DISCONNECT:
            self.central = None
            self.changed = True
        self._event.set()

    # Returns the next frame as a line. A new connection begins as if the gateway had asked who we
    # are: it knows nothing yet.
    async def read_line(self):
        while True:
            if self.is_new:
                self.is_new = False
                self._fragments.stop()
                self.hellos = 0
                self.refused_ms = None
                return _HELLO_REQ
            tail = self._tail
            if tail == self._head:
                await self._event.wait()
                continue
            fragment = self._slots[tail]
            self._slots[tail] = None
            self._given += len(fragment)
            self._tail = (tail + 1) % _SLOTS
            line = self._fragments.feed(fragment)
            if line:
                self.hellos = 0
                return line

    # True if a central is there, and all of the last line on its way to it. Called at least ten
    # times a second.
    def has_room(self):
        refused_ms = self.refused_ms
        given_up = self.hellos > _HELLOS
        if refused_ms is not None and clock.since_ms(refused_ms) > _STUCK_MS:
            given_up = True
        if self.changed or given_up:
            self.changed = False
            self.refused_ms = refused_ms = None
            borrow("radio").look_after(self, given_up)
        central = self.central
        self.full_ms = 100 if central is None else 0
        if central is None or self.is_new:
            return False
        while True:
            fragment = self._fragments.fragment(self._mtu - 4)
            if not fragment:
                return True
            try:
                self.radio.gatts_notify(central, self.handle, fragment)
            except OSError:  # its buffers are full, or the central has just gone
                if refused_ms is None:
                    self.refused_ms = clock.now_ms()
                return False
            self.refused_ms = refused_ms = None
            self._fragments.advance()

    # Returns how many bytes were taken: all, once has_room.
    def write(self, line):
        if line.startswith(_HELLO):
            self.hellos += 1
        self._fragments.start(line)
        self.has_room()
        return len(line)

    # What all who listen shall hear from now on.
    def advertise(self, advert, response):
        self.advert = advert
        self.response = response
        self.broadcasts = self.changed = True

    # The board will be away: first nobody is to come, then nobody is to stay.
    def leave(self, kept):
        borrow("radio").leave(self, kept)

# Stands in for MicroPython's module bluetooth on a PC: a chip on a virtual radio, found under
# BOARD_RADIO=HOST:PORT (gateway/simulate/radio); without that variable there is no such module, as
# on a board without a radio. The chip's public address is unique_id() + 2, as on an ESP32.
#
# Modelled, after docs/library/bluetooth.rst of MicroPython 1.25 ("docs") and extmod/nimble/
# modbluetooth_nimble.c ("source"), for peripherals and broadcasters:
# - one BLE object; all but active() and config() need it active (docs), else OSError ENODEV
#   (source: ERRNO_BLUETOOTH_NOT_ACTIVE)
# - the event's addr is a memoryview that is overwritten after the handler has returned (docs)
# - what a central writes is cut to the value's size, 20 bytes by default; a local write makes room
#   for more; with append=True it is added as far as there is room, and reading empties it (docs);
#   the rest is lost without a word (source: characteristic_access_cb)
# - a later write overwrites one that was not read (source); so copy it in the handler
# - gatts_notify sends whether or not the central has subscribed (docs), cuts to what a packet
#   holds, and raises OSError ENOMEM while the buffers are full (source: ble_hs_mbuf_from_flat),
#   ENOTCONN without a connection
# - advertising ends with a connection (Bluetooth Core), goes on with what was last given where
#   adv_data or resp_data is None, and must be off while services are registered (docs)
# - at most 31 bytes of adv_data or resp_data, at least 20 ms between adverts, four connections
# - an exception in the handler is told and goes no further (source: "Unhandled exception in IRQ
#   callback handler")
# Events come between tasks; on an ESP32 they come between any two instructions, from NimBLE's task.
# Not modelled: scanning, the central's role, the GATT client, L2CAP, rxbuf (an ESP32 has no such
# buffer: MICROPY_PY_BLUETOOTH_USE_SYNC_EVENTS), indications, send_update, pairing.
#
# When the radio goes away the board is switched off: SystemExit(0), as at the end of stdin.

import asyncio
import json
import os
import socket
import sys
from binascii import hexlify, unhexlify

from micropython import const

if not os.getenv("BOARD_RADIO"):
    raise ImportError("no module named 'bluetooth'")

FLAG_READ = 0x02
FLAG_WRITE_NO_RESPONSE = 0x04
FLAG_WRITE = 0x08
FLAG_NOTIFY = 0x10
FLAG_INDICATE = 0x20

_IRQ_CENTRAL_CONNECT = const(1)
_IRQ_CENTRAL_DISCONNECT = const(2)
_IRQ_GATTS_WRITE = const(3)
_IRQ_MTU_EXCHANGED = const(21)
_IRQ_CONNECTION_UPDATE = const(27)

_ENOMEM = const(12)
_EBUSY = const(16)
_ENODEV = const(19)
_EINVAL = const(22)
_ENOTCONN = const(128)  # as ESP-IDF's libc numbers it

_DEFAULT_BYTES = const(20)  # of a value, MP_BLUETOOTH_DEFAULT_ATTR_LEN
_ADVERT_BYTES = const(31)
_LEAST_US = const(20000)
_CONNECTIONS = const(4)  # CONFIG_BT_NIMBLE_MAX_CONNECTIONS
_BUFFERS = const(12)  # notifications that wait in NimBLE and the controller
_FIRST_HANDLE = const(16)
_READ_BYTES = const(1024)

_MICROPYTHON = sys.implementation.name == "micropython"
_ble = None


class UUID:
    def __init__(self, value):
        if isinstance(value, int):
            self._bytes = bytes((value & 255, value >> 8))
        elif isinstance(value, str):
            self._bytes = bytes(reversed(list(unhexlify(value.replace("-", "")))))
        else:
            self._bytes = bytes(value)
        if len(self._bytes) not in (2, 4, 16):
            raise ValueError("invalid UUID")

    # Little endian, as on the air; bytes() and memoryview() have it so on a board.
    def __iter__(self):
        return iter(self._bytes)

    def __len__(self):
        return len(self._bytes)

    def __eq__(self, other):
        return isinstance(other, UUID) and self._bytes == other._bytes

    def __hash__(self):
        return hash(self._bytes)

    def __repr__(self):
        digits = self.digits()
        if len(digits) < 32:
            return "UUID(0x%s)" % digits
        parts = digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]
        return "UUID('%s')" % "-".join(parts)

    def digits(self):
        return _hex(bytes(reversed(list(self._bytes))))


# What a central may write, or read.
class _Value:
    def __init__(self, flags):
        self.flags = flags
        self.data = b""
        self.room = _DEFAULT_BYTES
        self.append = False


class BLE:
    def __new__(cls):
        global _ble
        if _ble is None:
            _ble = object.__new__(cls)
            _ble._set_up()
        return _ble

    def _set_up(self):
        self._socket = None
        self._task = None
        self._handler = None
        self._values = {}
        self._connections = {}  # their peers: (address type, address)
        self._advertises = False
        self._adv = self._resp = b""
        self._buffers = _BUFFERS
        self._config = {"mtu": 256, "rxbuf": 128, "gap_name": "MPY ESP32"}
        self._config.update({"bond": False, "mitm": False, "le_secure": False, "io": 3})
        self._addr = bytearray(6)

    def active(self, active=None):
        if active is None or bool(active) == (self._socket is not None):
            return self._socket is not None
        if active:
            self._connect()
            self._send(op="on", address=_hex(_address()))
            self._tell_config()
        else:
            self._close()
            self._advertises = False
            self._values = {}
            for connection in list(self._connections):
                self._forget(connection)
        return bool(active)

    def config(self, *query, **settings):
        if query:
            if query[0] == "mac":
                self._check()
                return 0, _address()
            if query[0] not in self._config:
                raise ValueError("unknown config param")
            value = self._config[query[0]]
            return value.encode() if query[0] == "gap_name" else value
        for name, value in settings.items():
            if name not in self._config and name != "addr_mode":
                raise ValueError("unknown config param")
            if name == "mtu" and not 23 <= value <= 527:
                raise _error(_EINVAL)
            self._config[name] = value if isinstance(value, (int, str)) else bytes(value).decode()
        if self._socket is not None:
            self._tell_config()
        return None

    def irq(self, handler):
        self._handler = handler

    def gap_advertise(self, interval_us, adv_data=None, *, resp_data=None, connectable=True):
        self._check()
        if interval_us is None:
            self._advertises = False
            self._send(op="advertise", us=None)
            return
        adv = self._adv if adv_data is None else _bytes(adv_data)
        resp = self._resp if resp_data is None else _bytes(resp_data)
        if max(len(adv), len(resp)) > _ADVERT_BYTES or interval_us < _LEAST_US:
            raise _error(_EINVAL)
        if connectable and len(self._connections) >= _CONNECTIONS:
            raise _error(_ENOMEM)
        self._adv, self._resp = adv, resp
        self._advertises = True
        self._send(
            op="advertise",
            us=interval_us // 625 * 625,
            adv=_hex(adv),
            resp=_hex(resp),
            connectable=bool(connectable),
        )

    def gap_disconnect(self, conn_handle):
        self._check()
        if conn_handle not in self._connections:
            return False
        self._send(op="disconnect", conn=conn_handle)
        return True

    # Returns a tuple of handles for each service: its characteristics, each with its descriptors.
    def gatts_register_services(self, services_definition):
        self._check()
        if self._advertises:
            raise _error(_EBUSY)
        self._values = {}
        handle = _FIRST_HANDLE
        tuples, services = [], []
        for uuid, characteristics in services_definition:
            handles, told = [], []
            for characteristic in characteristics:
                handle += 2  # the declaration is before the value
                flags = characteristic[1]
                self._values[handle] = _Value(flags)
                handles.append(handle)
                entry = [characteristic[0].digits(), flags, handle, []]
                if flags & (FLAG_NOTIFY | FLAG_INDICATE):
                    handle += 1  # who has subscribed
                for descriptor_uuid, descriptor_flags in characteristic[2:] and characteristic[2]:
                    handle += 1
                    self._values[handle] = _Value(descriptor_flags)
                    handles.append(handle)
                    entry[3].append([descriptor_uuid.digits(), descriptor_flags, handle])
                told.append(entry)
            handle += 1
            tuples.append(tuple(handles))
            services.append([uuid.digits(), told])
        self._send(op="services", services=services)
        return tuple(tuples)

    def gatts_set_buffer(self, value_handle, len, append=False):
        value = self._value(value_handle)
        value.room = len
        value.data = b""
        value.append = bool(append)

    def gatts_read(self, value_handle):
        value = self._value(value_handle)
        data = value.data
        if value.append:
            value.data = b""
        return data

    def gatts_write(self, value_handle, data, send_update=False):
        if send_update:
            raise NotImplementedError
        value = self._value(value_handle)
        value.data = _bytes(data)
        value.room = max(value.room, len(value.data))
        self._send(op="value", handle=value_handle, data=_hex(value.data))

    def gatts_notify(self, conn_handle, value_handle, data=None):
        value = self._value(value_handle)
        if self._buffers <= 0:
            raise _error(_ENOMEM)
        if conn_handle not in self._connections:
            raise _error(_ENOTCONN)
        self._buffers -= 1
        data = value.data if data is None else data
        self._send(op="notify", conn=conn_handle, handle=value_handle, data=_hex(data))

    def _check(self):
        if self._socket is None:
            raise _error(_ENODEV)

    def _value(self, handle):
        self._check()
        value = self._values.get(handle)
        if value is None:
            raise _error(_EINVAL)
        return value

    def _tell_config(self):
        self._send(op="config", mtu=self._config["mtu"], name=self._config["gap_name"])

    def _connect(self):
        host, port = os.getenv("BOARD_RADIO").rsplit(":", 1)
        self._socket = socket.socket()
        try:
            self._socket.connect(socket.getaddrinfo(host, int(port))[0][-1])
        except OSError:
            self._close()
            raise
        self._buffers = _BUFFERS

    # MicroPython's task ends when it finds its socket closed; CPython's loop would mistake another
    # socket with the same number for it.
    def _close(self):
        if not _MICROPYTHON and self._task is not None:
            self._task.cancel()
        self._socket.close()
        self._socket = self._task = None

    def _send(self, **message):
        line = json.dumps(message).encode() + b"\n"
        try:
            if _MICROPYTHON:
                self._socket.write(line)
            else:
                self._socket.sendall(line)
        except OSError:
            raise SystemExit(0)
        self._listen()

    # Events are told once a loop runs.
    def _listen(self):
        if self._task is None and self._socket is not None and _has_loop():
            self._task = asyncio.create_task(self._receive(self._socket))

    async def _receive(self, its_socket):
        rest = b""
        while True:
            await _readable(its_socket)
            if its_socket is not self._socket:
                return
            try:
                piece = its_socket.recv(_READ_BYTES)
            except OSError:
                piece = b""
            if not piece:
                raise SystemExit(0)
            rest += piece
            while b"\n" in rest:
                line, rest = rest.split(b"\n", 1)
                self._on_event(json.loads(line))
                if its_socket is not self._socket:
                    return

    def _on_event(self, event):
        kind = event["event"]
        connection = event.get("conn")
        if kind == "sent":
            self._buffers = min(self._buffers + event["count"], _BUFFERS)
        elif kind == "connect":
            self._advertises = False
            self._connections[connection] = event["type"], unhexlify(event["address"])
            self._tell_peer(_IRQ_CENTRAL_CONNECT, connection)
        elif connection not in self._connections:
            pass  # it ended while this was on its way
        elif kind == "disconnect":
            self._forget(connection)
        elif kind == "mtu":
            self._call(_IRQ_MTU_EXCHANGED, (connection, event["mtu"]))
        elif kind == "write":
            self._on_write(connection, event["handle"], unhexlify(event["data"]))
        elif kind == "update":
            self._call(_IRQ_CONNECTION_UPDATE, tuple([connection] + event["parameters"]))

    def _on_write(self, connection, handle, data):
        value = self._values.get(handle)
        if value is None:
            return
        value.data = ((value.data if value.append else b"") + data)[: value.room]
        if value.flags & FLAG_READ:
            self._send(op="value", handle=handle, data=_hex(value.data))
        self._call(_IRQ_GATTS_WRITE, (connection, handle))

    def _forget(self, connection):
        self._tell_peer(_IRQ_CENTRAL_DISCONNECT, connection, forget=True)

    def _tell_peer(self, event, connection, forget=False):
        kind, address = self._connections[connection]
        if forget:
            del self._connections[connection]
        self._addr[:] = address
        self._call(event, (connection, kind, memoryview(self._addr)))
        self._addr[:] = bytes(6)

    def _call(self, event, arguments):
        if self._handler is None:
            return
        try:
            self._handler(event, arguments)
        except Exception as error:
            sys.stderr.write("Unhandled exception in IRQ callback handler\n")
            sys.print_exception(error, sys.stderr)


if _MICROPYTHON:
    # A stream would wait for as many bytes as there is room for.
    def _readable(stream):
        yield asyncio.core._io_queue.queue_read(stream)

    def _has_loop():
        return True

else:
    _readable = asyncio.readable
    _run = asyncio.run

    # Where a task needs a loop that runs already.
    def _has_loop():
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    def _run_listening(main):
        async def run():
            if _ble is not None:
                _ble._listen()
            return await main

        return _run(run())

    asyncio.run = _run_listening


# With two arguments it has its errno on CPython too.
def _error(number):
    return OSError(number, "bluetooth")


def _hex(data):
    return hexlify(data).decode()


def _bytes(data):
    return data.encode() if isinstance(data, str) else bytes(data)


# The base address of an ESP32 is that of its Wi-Fi; Bluetooth has the one two after it.
def _address():
    from fakes import chip

    base = (bytes(6) + chip.unique_id())[-6:]
    return base[:5] + bytes(((base[5] + 2) & 255,))

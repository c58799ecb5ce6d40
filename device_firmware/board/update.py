# An update over the wire: new firmware into the slot that does not run, or new settings. The
# gateway asks with BEGIN, brings what NEED names as DATA, and says END; then all is verified once
# more, and is put on trial. Nothing that can be booted changes before that.
#
# It is in memory only while an update is under way. A part of it outlives a reset: files that are
# whole are not brought again.

import asyncio
import json
import os
import sys
from binascii import hexlify
from struct import pack, unpack_from

from board import clock, log, placing
from board.frame import to_json
from board.manifest import Refused, check, entry
from board.part import Part
from board.parts import borrow, forget, kept, load
from board.saying import answer
from micropython import const

_BEGIN = const(0x40)
_NEED = const(0x41)
_DATA = const(0x42)
_DATA_ACK = const(0x43)
_END = const(0x44)
_ABORT = const(0x45)
_STATE = const(0x46)

_FILES = const(0)  # what NEED wants
_MANIFEST = const(1)
_SIGNATURE = const(2)
_BUSY = const(3)

_OK = const(0)  # status of DATA_ACK
_NOT_BEGUN = const(3)

_MANIFEST_FILE = const(0xFFFF)
_SIGNATURE_FILE = const(0xFFFE)
_SIGNATURE_BYTES = const(64)
_DOWNGRADE = const(1)  # flags of BEGIN
_SIGNED = const(2)
_MANIFEST_BYTES = const(65536)
_QUEUE_MAX = const(8)
_BUSY_MS = const(1000)
_IDLE_MS = const(20)
_PATIENCE_MS = const(60000)  # without a word of the gateway
_ENOSPC = const(28)

_MODULES = (
    "update",
    "manifest",
    "part",
    "placing",
    "saying",
    "sealed",
)  # in memory as long as an update is


# A frame of the gateway.
def receive(app, session, kind, mid, body):
    update = app.update
    try:
        if kind == _BEGIN:
            _begin(app, session, mid, body)
        elif kind == _ABORT:
            stop(app)
        elif not update or (update.need is None and kind == _END):
            file = _MANIFEST_FILE if kind == _END else unpack_from("<H", body)[0]
            answer(session, _DATA_ACK, mid, pack("<HIB", file, 0, _NOT_BEGUN))
        else:
            update.hear(session, mid)
            if kind == _DATA:
                file, offset = unpack_from("<HI", body)
                taken, status = update.data(file, offset, memoryview(body)[6:])
                answer(session, _DATA_ACK, mid, pack("<HIB", file, taken, status))
            else:
                update.end()
    except Refused as error:
        answer(session, _ABORT, mid, to_json({"e": str(error)}))
        stop(app)
    if not app.update:
        _unload()


def stop(app):
    if app.update:
        app.update.close()
    app.update = None


# What is borrowed for each frame otherwise.
def _load(session):
    kept["saying"] = load("board", "saying")
    if session.keys:
        kept["sealed"] = load("board", "sealed")


def _unload():
    for kind in _MODULES:
        kept.pop(kind, None)
        if "board." + kind in sys.modules:
            forget("board", kind)


def _begin(app, session, mid, body):
    is_settings, flags, size = unpack_from("<BBI", body)
    digest = hexlify(body[6:38]).decode()
    if len(body) < 70 or is_settings > 1:
        raise Refused("an update of a kind this board does not know")
    if session.keys:
        sealed = borrow("sealed")
        if not sealed.is_same(sealed.mac(session.keys.key, b"update", body[:38]), body[38:70]):
            raise Refused("wrong mac")
    update = app.update
    is_same = update and update.digest == digest and update.is_settings == is_settings
    if not is_same or update.flags != flags:
        stop(app)
        active = _check(is_settings, flags, size, digest)
        if active is None:
            answer(session, _STATE, mid, to_json({"s": "confirmed", "mh": digest[:16]}))
            return
        _load(session)
        update = app.update = Update(app, is_settings, flags, size, digest, active)
        app.start(update.run())
    update.hear(session, mid)
    update.answer_begin()


# Returns the slot that runs ("" without slots), or None if nothing is to be done.
def _check(is_settings, flags, size, digest):
    slots = borrow("slots")
    active = slots.running()
    if not active and not is_settings:
        raise Refused("the board has no slots: flash it")
    if slots.load().get("t"):
        raise Refused("on trial: what runs has to prove itself first")
    if not 0 < size <= _MANIFEST_BYTES:
        raise Refused("manifest: too long")
    if not is_settings:
        if slots.digest(active + "/manifest") == digest:
            return None
        if _public_key() is not None and not flags & _SIGNED:
            raise Refused("not signed, and this board wants a signature")
    return active or ""


# require_signature of the settings in force; None: no signature is wanted. Settings that cannot be
# read want none: they have to be mended.
def _public_key(path="config.json"):
    try:
        with open(path) as file:
            return json.load(file).get("require_signature")
    except (OSError, ValueError, AttributeError):
        return None


class Update:
    # active: the slot that runs, or ""
    def __init__(self, app, is_settings, flags, size, digest, active):
        self.app = app
        self.is_settings = is_settings
        self.digest = digest
        self.size = size  # of the manifest
        self.active = active
        self.flags = flags
        self.need = None  # bitmap of the files to be brought, once that is known
        self._count = 0
        self._signature = bytearray()
        self._is_signed = False  # rightly
        self._is_checked = False  # the manifest is
        self._is_on_trial = False
        self._session = None
        self._mid = 0
        self._heard_ms = self._said_ms = clock.now_ms()
        self._work = None  # a generator
        self._part = None  # what is being written
        self._index = -1
        if is_settings:
            self._manifest = "config.manifest"
            self._draft = "config.part"
        else:
            self._slot = "b" if active == "a" else "a"
            self._manifest = self._slot + "/manifest.new"
            self._draft = self._slot + "/part"
            try:
                os.mkdir(self._slot)
            except OSError:  # it is there
                pass
            if borrow("slots").digest(self._slot + "/manifest") == digest:  # it was taken back
                os.rename(self._slot + "/manifest", self._manifest)
        self._has_manifest = borrow("slots").digest(self._manifest) == digest

    def hear(self, session, mid):
        self._session = session
        self._mid = mid
        self._heard_ms = clock.now_ms()

    # ---- what it says

    # The answer to BEGIN.
    def answer_begin(self):
        if self._is_on_trial:
            self._say_trial()
        elif not self._has_manifest:
            self._say_need(_MANIFEST)
        elif self._work:
            self._say_need(_BUSY)
        elif self.flags & _SIGNED and len(self._signature) < _SIGNATURE_BYTES:
            self._say_need(_SIGNATURE)
        elif self.need is None:
            self._work = self._prepare()
            self._say_need(_BUSY)
        else:
            self._say_need(_FILES)

    def _say_need(self, want):
        bitmap = b""
        if want == _FILES:
            bitmap = self.need
        self._said_ms = clock.now_ms()
        if len(self._session.queue) < _QUEUE_MAX:
            body = pack("<BH", want, self._count if bitmap else 0) + bitmap
            answer(self._session, _NEED, self._mid, body)

    def _say_trial(self):
        body = to_json({"s": "trial", "mh": self.digest[:16]})
        answer(self._session, _STATE, self._mid, body)

    # ---- files

    # Returns the offset that comes next in this file, and a status.
    def data(self, index, offset, piece):
        if index == _SIGNATURE_FILE:
            if offset == len(self._signature) and offset + len(piece) <= _SIGNATURE_BYTES:
                self._signature.extend(piece)
            return len(self._signature), _OK
        if index == _MANIFEST_FILE:
            if self._has_manifest:
                return self.size, _OK
        elif self.need is None:
            return 0, _NOT_BEGUN
        elif not self.need[index >> 3] & 1 << (index & 7):
            return entry(self._manifest, index)[1], _OK
        if index != self._index:
            self._open(index)
        part = self._part
        status = part.write(offset, piece)
        if part.is_whole:
            if index == _MANIFEST_FILE:
                self._has_manifest = True
            else:
                self.need[index >> 3] &= ~(1 << (index & 7))
        return part.at, status

    def _open(self, index):
        self.close()
        if index == _MANIFEST_FILE:
            self._part = Part(self._draft, self._manifest, self.size, self.digest)
        else:
            path, size, digest = entry(self._manifest, index)
            self._part = Part(self._draft, self._place(path), size, digest)
        self._index = index

    def close(self):
        if self._part:
            self._part.close()
        self._part = None
        self._index = -1

    # Where a file of the manifest goes.
    def _place(self, path):
        return "config.next" if self.is_settings else self._slot + "/" + path

    # ---- what takes long

    async def run(self):
        app = self.app
        while app.update is self:
            if self._work:
                await asyncio.sleep_ms(0)
                self._go_on()
            elif clock.since_ms(self._heard_ms) > _PATIENCE_MS:
                stop(app)
            else:
                await asyncio.sleep_ms(_IDLE_MS)
        if not app.update:
            _unload()

    def _go_on(self):
        reason = ""
        try:
            next(self._work)
            if clock.since_ms(self._said_ms) >= _BUSY_MS:
                self._say_need(_BUSY)
            return
        except StopIteration:
            self._work = None
            return
        except Refused as error:
            reason = str(error)
        except MemoryError:
            reason = "no memory for an update"
        except OSError as error:
            reason = "no room on the flash" if error.errno == _ENOSPC else repr(error)
        except Exception as error:
            reason = repr(error)
        log.write(log.ERROR, "update refused: " + reason)
        answer(self._session, _ABORT, self._mid, to_json({"e": reason}))
        stop(self.app)

    def _prepare(self):
        if not self._is_checked:
            yield from self._check()
        if self.is_settings:
            wanted = entry(self._manifest, 0)[2]
            if borrow("slots").digest("config.json") == wanted:  # in force already
                body = to_json({"s": "confirmed", "mh": self.digest[:16]})
                answer(self._session, _STATE, self._mid, body)
                stop(self.app)
                return
            need = yield from placing.verify(self._manifest, self._place, 1)
        else:
            try:
                os.remove(self._slot + "/manifest")  # from here on nobody boots it
            except OSError:
                pass
            need = yield from placing.prepare(self._manifest, self._slot, self.active, self._count)
        self.need = need
        self._work = None
        self._say_need(_FILES)

    def _check(self):
        kind = "settings" if self.is_settings else "firmware"
        running = json.loads(self._session.info)["fw"]
        self._count, older = yield from check(self._manifest, kind, running)
        if older and not self.flags & _DOWNGRADE:
            raise Refused("%s is older than %s" % (older, running))
        if self.is_settings and self._count != 1:
            raise Refused("manifest: settings are one file")
        public_key = _public_key()
        if self.flags & _SIGNED and public_key is not None:
            with open(self._manifest, "rb") as file:
                signature = bytes(self._signature)
                self._is_signed = yield from borrow("ed25519").verify(public_key, signature, file)
            if not self._is_signed:
                raise Refused("wrong signature")
        self._is_checked = True

    # END: all is looked at once more.
    def end(self):
        if self._is_on_trial:
            self._say_trial()
        elif any(self.need):
            self._say_need(_FILES)
        else:
            if not self._work:
                self._work = self._finish()
            self._say_need(_BUSY)

    def _finish(self):
        self.close()
        self.need = yield from placing.verify(self._manifest, self._place, self._count)
        if any(self.need):
            self._say_need(_FILES)
            return
        if self.is_settings:
            self._check_settings()
        if self.is_settings:
            os.rename("config.next", "config.try")
            trial = "config"
        else:
            os.rename(self._manifest, self._slot + "/manifest")
            trial = self._slot
        quiet = self._is_quiet()
        borrow("verdict").save(
            {"a": self.active or None, "t": trial, "n": 0, "m": self.digest[:16], "q": quiet}
        )
        self._is_on_trial = True
        self._say_trial()
        self.app.ending = "reset"

    # Whether there are sensors, and none of them works: after the update none can be asked to.
    def _is_quiet(self):
        sensors = self.app.sensors
        return bool(sensors) and all(each.failures for each in sensors)

    def _check_settings(self):
        try:
            with open("config.next", "rb") as file:
                given = borrow("config")._parse(file.read())
        except ValueError:
            raise Refused("config.json is not JSON")
        if not isinstance(given, dict):
            raise Refused("config.json is not an object in { }")
        public_key = _public_key()
        is_other = public_key not in (None, given.get("require_signature"))
        if is_other and not self._is_signed:
            raise Refused("require_signature changes: that has to be signed")

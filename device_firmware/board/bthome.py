# Adverts in the format BTHome v2 (https://bthome.io/format, https://bthome.io/encryption).

from struct import pack, unpack

from board.parts import borrow

_UUID = b"\xd2\xfc"
_VERSION = 0x40  # of the format: 2
_ENCRYPTED = 1
_IRREGULAR = 4  # adverts do not come at a regular interval

_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "T": 3, "i": 4, "I": 4}


# The objects of a stream: for each channel None, or its place in a record's values and a list of
# (id, form, shift): object's integer = channel's * 10**shift.
def prepare(form, channels):
    find = borrow("bthome_objects").find
    prepared = []
    for place, (key, unit, exponent, device_class) in enumerate(channels):
        own = 0 if form[place] in "fd" else exponent
        objects = [(id, kind, own - its) for id, kind, its in find(key, unit, device_class)]
        if objects:
            prepared.append((place, form[place], objects))
    return prepared


# A value as an object: the first that loses no digit, or else the first that holds it. None if
# there is no value, or it is out of the range of all.
def encode(value, letter, objects):
    if letter in "fd":
        if value - value != 0:  # infinite, or not a number
            return None
    elif letter in "bhiq" and value == -1 << 8 * {"b": 1, "h": 2, "i": 4, "q": 8}[letter] - 1:
        return None
    rough = None
    for id, kind, shift in objects:
        if shift >= 0 or letter in "fd":
            number = int(round(value * 10**shift)) if letter in "fd" else value * 10**shift
            exact = True
        else:
            divisor = 10**-shift
            number = (value + divisor // 2) // divisor
            exact = number * divisor == value
        found = _pack(id, kind, number)
        if found and exact:
            return found
        rough = rough or found
    return rough


def _pack(id, kind, number):
    size = _SIZES[kind]
    low = 0
    if kind in "bhi":
        low = -1 << 8 * size - 1
    if not low <= number < low + (1 << 8 * size):
        return None
    return bytes((id,)) + pack("<I", number & 0xFFFFFFFF)[:size]


# The objects of some records, in ascending order of their ids, and in the order of the records
# where an id is there several times; as many as `room` bytes hold.
# records: [(form, prepared, values as bytes), ...]
def collect(records, room):
    pieces = []
    for form, prepared, raw in records:
        values = unpack("<" + form, raw)
        for place, letter, objects in prepared:
            piece = encode(values[place], letter, objects)
            if piece and len(piece) <= room:
                room -= len(piece)
                at = len(pieces)
                while at and pieces[at - 1][0] > piece[0]:
                    at -= 1
                pieces.insert(at, piece)
    return b"".join(pieces)


# The element of an advert; packet_id tells receivers that it is another one.
def plain(objects, packet_id, irregular):
    info = _VERSION | (_IRREGULAR if irregular else 0)
    return _element(bytes((info, 0, packet_id)) + objects)


# The same for those who have the key. No counter may ever be used again with a key.
# address: as people write it.
def encrypted(objects, counter, key, address, irregular):
    info = bytes((_VERSION | _ENCRYPTED | (_IRREGULAR if irregular else 0),))
    count = pack("<I", counter)
    nonce = address + _UUID + info + count
    sealed, check = borrow("ccm").encrypt(key, nonce, objects)
    return _element(info + sealed + count + check)


def _element(service_data):
    return bytes((len(service_data) + 3, 0x16)) + _UUID + service_data


PLAIN_BYTES = 7  # that plain() adds to the objects
ENCRYPTED_BYTES = 13

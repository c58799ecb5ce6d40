# The counter of encrypted adverts. With one key no number may ever be used twice, whatever happens
# to the board: so it is the number of the newest record, which grows with each that is measured and
# outlives a reset together with the ring, plus a base. The file says how far numbers may have been
# used; an epoch whose numbers do not go on begins behind that. A board without the file draws where
# it begins.

import json
import os

from board.parts import borrow
from micropython import const

PATH = "ble.json"
_STEP = const(4096)  # numbers that may be used until the file is written again
_END = 1 << 32


# Returns (base, end): base + seq may be used as long as it is below end. They are written down
# before. base: the one in use, None if none is yet; goes_on: whether seqs of this epoch were used
# before this run. Raises OSError if it cannot be written, ValueError if no number is left.
def reserve(base, seq, epoch, goes_on):
    end = 0
    try:
        with open(PATH) as file:
            kept = json.load(file)
        end = kept["end"]
        if base is None and goes_on and kept["epoch"] == epoch:
            base = kept["base"]
    except (OSError, ValueError, KeyError, TypeError):
        end = end or borrow("identity").random_u32() >> 2
    if base is None:
        base = end - seq
    if base + seq >= end:
        end = base + seq + _STEP
        if end > _END:
            raise ValueError("adverts have used up ble_key: give the board another one")
        with open(PATH + ".new", "w") as file:
            json.dump({"epoch": epoch, "base": base, "end": end}, file)
        os.rename(PATH + ".new", PATH)
    return base, end

# What became of a trial: written down, and told the gateways.

import json
import os

from board.frame import to_json
from board.parts import borrow
from micropython import const

_OTA_STATE = const(0x46)


# Whole or not at all, whenever the power goes.
def save(found):
    with open("slots.json.new", "w") as file:
        json.dump(found, file)
    os.rename("slots.json.new", "slots.json")


# Tells the gateways that are there what became of a trial.
def tell(app, **message):
    for port in app.ports:
        if port.session.joined:
            borrow("saying").answer(port.session, _OTA_STATE, 0, to_json(message))


# A gateway has read in HELLO why the last trial was taken back.
def tell_rollback(app):
    found = borrow("slots").load()
    tell(app, s="rolled_back", mh=found.get("m"), e=found.pop("rb", ""))
    app.rolled_back = False
    _forget(app, "rb")
    try:
        save(found)
    except OSError:  # it is told again at the next start
        pass


# Of what HELLO says this is over.
def _forget(app, key):
    for port in app.ports:
        info = json.loads(port.session.info)
        info.pop(key, None)
        port.session.info = to_json(info)


# What is on trial has proven itself; returns its manifest's hash. The power may go at any moment:
# of settings the name changes first, and boot_sel.py takes a trial without its file as over.
def confirm(app):
    found = borrow("slots").load()
    if found["t"] == "config":
        os.rename("config.try", "config.json")
    else:
        found["a"] = found["t"]
    save({"a": found["a"], "t": None, "n": 0, "m": found["m"]})
    _forget(app, "trial")
    return found["m"]


# What is on trial has failed, for this reason.
def fail(reason):
    found = borrow("slots").load()
    found["why"] = reason
    save(found)

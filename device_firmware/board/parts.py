# Modules that are named by configuration or command, or needed for a moment only.

import gc
import sys

kept = {}  # modules of board that borrow need not load


# The module of a kind, such as sensors/bme280.
def load(package, kind):
    name = package + "." + kind
    __import__(name)
    return sys.modules[name]


# Lets its code leave the memory; whoever needs it again loads it again.
def forget(package, kind):
    del sys.modules[package + "." + kind]
    delattr(sys.modules[package], kind)
    gc.collect()


# A module of board for a moment: its code leaves the memory with the last reference to it.
def borrow(kind):
    module = kept.get(kind)
    if not module:
        gc.collect()  # so that it lies beside what stays, and not in the midst of what is free
        module = load("board", kind)
        forget("board", kind)
    return module


if sys.implementation.name != "micropython":
    # On a PC memory is plenty, and sessions may run where these could not be found later.
    from board import answers, asked, hello, making, saying, sealed, welcome

    kept.update(answers=answers, asked=asked, hello=hello, making=making, welcome=welcome)
    kept.update(saying=saying, sealed=sealed)

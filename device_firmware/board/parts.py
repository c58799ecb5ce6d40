# Modules that are named by configuration or command, or needed for a moment only.

import gc
import sys


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


def describe_error(error):
    if isinstance(error, ImportError):
        return "there is no such kind of part (%s)" % error
    if isinstance(error, KeyError):
        return "%s is missing in the configuration" % error
    if isinstance(error, ValueError):
        return str(error)
    return repr(error)

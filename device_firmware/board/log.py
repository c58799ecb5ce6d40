# What the board has to say to people. It travels as LOG frames on every link; a print() would only
# reach those that read the line as text.

DEBUG = 1
INFO = 2
WARNING = 3
ERROR = 4

_sinks = []


# sink(level, text) is called for every line from now on.
def attach(sink):
    _sinks.append(sink)


def write(level, text):
    for sink in _sinks:
        sink(level, text)

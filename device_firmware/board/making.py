# Makes sensors as the configuration says, and tells when one fails. Needed only then.

from struct import calcsize

from board import log
from board.parts import load

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_RECORD_HEAD = const(6)  # len, stream, mono_ms


# The first try; if it fails, the task tries again. A kind whose channels do not depend on the
# configuration is described all the same, as the keys of the other sensors depend on it.
def start(task):
    kind = None
    try:
        kind = _kind(task)
        _make(task, kind)
    except Exception as error:  # whatever a driver raises concerns this sensor only
        fail(task, error)
        if hasattr(kind, "fmt") and hasattr(kind, "channels"):
            task.app.add_stream(task.number, task.name, kind.fmt, kind.channels)


# Tries again; raises whatever its driver does.
def make(task):
    _make(task, _kind(task))


def _kind(task):
    return load("sensors", task.config["kind"]).Sensor


def _make(task, kind):
    sensor = kind(task.config)
    task.form = "<" + sensor.fmt
    size = _RECORD_HEAD + calcsize(task.form)
    if size > 255:
        raise ValueError("a record of %d bytes is too long" % size)
    task.record = bytearray(size)
    task.record[0] = size
    task.record[1] = task.number
    task.app.add_stream(task.number, task.name, sensor.fmt, sensor.channels)
    task.sensor = sensor
    task.config = None  # not needed any more


# A failure is told once.
def fail(task, error):
    text = describe_error(error)
    task.failures += 1
    if text != task.error:
        task.error = text
        log.write(log.WARNING, "%s: %s" % (task.name, text))


def work_again(task):
    log.write(log.INFO, "%s: works again (failures: %d)" % (task.name, task.failures))
    task.failures = 0
    task.error = None


# In words that people understand.
def describe_error(error):
    if isinstance(error, ImportError):
        return "there is no such kind of part (%s)" % error
    if isinstance(error, KeyError):
        return "%s is missing in the configuration" % error
    if isinstance(error, ValueError):
        return str(error)
    return repr(error)

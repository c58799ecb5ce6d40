"""MicroPython's module `micropython`, as far as the firmware and its sensors use it."""


def const(value):
    return value


def native(function):
    return function


viper = native


def kbd_intr(char):
    pass  # standard input is no terminal that would turn a byte into a signal


def schedule(function, argument):
    function(argument)


def alloc_emergency_exception_buf(size):
    pass

# Sleep, clock frequency and interrupts, as far as they mean anything on a PC.

import time


def lightsleep(time_ms=0):
    time.sleep(time_ms / 1000)


def idle():
    time.sleep(0.001)


def freq(hz=None):
    return 160000000 if hz is None else None


def disable_irq():
    return 0


def enable_irq(state):
    pass

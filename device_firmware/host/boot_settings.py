# What main.py and board/trial.py find on a PC: no time for people to interrupt, unless they ask for
# it, and times of a trial that tests can shorten. run.py describes the variables.

import os
import sys


def _ms(name, default):
    return int(os.getenv("BOARD_" + name) or default)


WINDOW_MS = _ms("WINDOW_MS", 0)
CRASH_PAUSE_MS = _ms("CRASH_PAUSE_MS", 0)
WATCHDOG_MS = _ms("TRIAL_WATCHDOG_MS", 30000)
ALIVE_MS = _ms("TRIAL_ALIVE_MS", 60000)
GATEWAY_MS = _ms("TRIAL_GATEWAY_MS", 600000)


def _log_to_stderr(level, text):
    sys.stderr.write("%s: %s\n" % ((None, "debug", "info", "warning", "error")[level], text))


# Once the program can be imported, and before it starts.
def prepare():
    from board import clock, log

    clock.shift_ms = _ms("CLOCK_MS", 0)
    clock.wall_shift_ms = _ms("WALL_MS", 0)
    if os.getenv("BOARD_LOG"):
        log.attach(_log_to_stderr)

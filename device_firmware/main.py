# The first program of the board, and the last line of defence: it stays small, and is not updated
# over the air. It gives people a moment to interrupt, starts the board's program, and if that dies,
# writes down why and starts the board again.

import os
import sys
import time

import machine

try:
    from boot_settings import CRASH_PAUSE_MS, WINDOW_MS
except ImportError:
    WINDOW_MS = 1500  # Ctrl-C works for this long, then no more
    CRASH_PAUSE_MS = 5000  # a board that crashes at every start does not wear out its flash


def main():
    try:
        os.remove("repl")  # the command `repl` leaves this flag
        return
    except OSError:
        pass
    if WINDOW_MS and machine.reset_cause() != getattr(machine, "DEEPSLEEP_RESET", None):
        print("starting in %d ms; Ctrl-C for the REPL" % WINDOW_MS)
        time.sleep_ms(WINDOW_MS)
    try:
        from board import app

        ending = app.start()
    except Exception as error:
        with open("crash.txt", "w") as file:
            sys.print_exception(error, file)
        time.sleep_ms(CRASH_PAUSE_MS)
        ending = "reset"
    if ending == "reset":
        machine.reset()
    if isinstance(ending, int):
        machine.deepsleep(ending)


try:
    main()
except KeyboardInterrupt:
    print("interrupted")

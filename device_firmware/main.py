# The first program of the board, and the last line of defence: it stays small, and is not updated
# over the air. It starts the board's program, and if that dies, writes down why and starts the
# board again. What is needed only before (boot_sel.py) does not stay in the memory.

import sys
import time

import machine

try:
    from boot_settings import CRASH_PAUSE_MS
except ImportError:
    CRASH_PAUSE_MS = 5000  # a board that crashes at every start does not wear out its flash


def main():
    try:
        import boot_sel

        if not boot_sel.choose():
            return
        del boot_sel, sys.modules["boot_sel"]
        from board import app

        ending = app.start()
    except Exception as error:
        ending = "reset"
        try:
            import boot_sel

            boot_sel.note_crash(error, not boot_sel.exists("crash.txt"))
        except Exception as other:
            print("crash not counted: %r" % other)
        try:
            with open("crash.txt", "w") as file:
                sys.print_exception(error, file)
        except OSError:  # the flash is full
            pass
        time.sleep_ms(CRASH_PAUSE_MS)
    if ending == "reset":
        machine.reset()
    if isinstance(ending, int):
        machine.deepsleep(ending)


try:
    main()
except KeyboardInterrupt:
    print("interrupted")

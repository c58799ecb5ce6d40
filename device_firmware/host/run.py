# Runs the firmware on a PC, in MicroPython or in CPython: run.py ROOT [--power-cut]
#
# ROOT is a folder, the board's flash: config.json, boot.json, crash.txt. If it has a boot_sel.py,
# the program is there, too, laid out with slots as on a board (gateway/simulate/slots.py does
# that); otherwise it is this source tree. Beside them lies what a chip remembers as long as it has
# power, so to kill this process is to reset the board; --power-cut forgets that first. Standard
# input and output are the line of the board's REPL: pipes or a pty. Standard error is for people.
# It ends with 0 when the line was closed or Ctrl-C pressed, 75 after a reset, 76 for a deep sleep
# (see machine.py), 77 when the watchdog bit: who started it starts it again.
#
# Variables of the environment:
#   BOARD_WINDOW_MS        time for Ctrl-C before the program starts (0)
#   BOARD_CRASH_PAUSE_MS   wait after a crash (0)
#   BOARD_CLOCK_MS         what the board's clock shows when an epoch begins (0)
#   BOARD_WALL_MS          how far its real-time clock is ahead of the PC's (0)
#   BOARD_LOG              when set, what the board logs is written to standard error too
#   BOARD_TRIAL_ALIVE_MS   how long what is on trial must have run (60000)
#   BOARD_TRIAL_GATEWAY_MS how long a try may go on without having proven itself (600000)
#   BOARD_TRIAL_WATCHDOG_MS  watchdog of a try, until the program has its own (30000)
# machine.py, bluetooth.py and fakes/settings.py have those of the hardware.

import os
import sys

_HERE = sys.argv[0].rpartition("/")[0] or "."
_ICRNL_IXON = 0o2400
_OPOST = 1
_ICANON_ECHO = 0o12

# Where the stand-ins keep what a chip forgets without power.
_POWERED = (
    "rtc_memory.bin",
    "scratch.bin",
    "reset_cause",
    "watchdog.armed",
    "watchdog.quiet",
    "sleep.json",
)


def _absolute(path):
    return path if path.startswith("/") else os.getcwd() + "/" + path


def _exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


# A terminal would wait for whole lines, echo them and change line ends. Ctrl-C stays as it is.
# Returns what undoes it.
def _make_raw():
    import termios

    try:
        before = termios.tcgetattr(0)
    except Exception:  # a pipe; CPython has an exception of its own for that
        return None
    if before[3] & _ICANON_ECHO:
        modes = list(before)
        modes[0] &= ~_ICRNL_IXON
        modes[1] &= ~_OPOST
        modes[3] &= ~_ICANON_ECHO
        termios.tcsetattr(0, termios.TCSANOW, modes)

    def restore():
        try:
            termios.tcsetattr(0, termios.TCSANOW, before)
        except Exception:  # the terminal is gone
            pass

    return restore


# main.py has left the board to its REPL: nobody speaks the protocol here. Ctrl-D starts it again.
def _repl():
    sys.stdout.write(">>> ")
    while True:
        byte = sys.stdin.buffer.read(1)
        if not byte:
            return
        if byte == b"\x04":
            import machine

            machine.soft_reset()


def _run():
    from fakes import chip

    wants_repl = chip.exists("repl")
    __import__("main")  # it runs when it is imported, as on a board

    if wants_repl:
        _repl()


def _lose_power():
    for path in _POWERED:
        try:
            os.remove(path)
        except OSError:
            pass


def _main(root, power_cut=None):
    here = _absolute(_HERE)
    root = _absolute(root)
    sys.path[:0] = [here, root if _exists(root + "/boot_sel.py") else here + "/.."]
    if sys.implementation.name == "cpython":
        sys.path.insert(0, here + "/cpython")
        import shims

        shims.install()
    os.chdir(root)
    if power_cut:
        _lose_power()
    restore = _make_raw()
    try:
        _run()
    finally:
        if restore:
            restore()


if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["--power-cut"]):
    sys.stderr.write("usage: run.py ROOT [--power-cut]\n")
    sys.exit(2)
_main(*sys.argv[1:])

# Stands in for MicroPython's module machine on a PC: found before the built-in one, because the
# folder of this file is first on sys.path. The current folder is the board's flash.
#
# fakes/ holds the parts, loaded when they are first used, as a board's heap is small.
# fakes/settings.py says how they are configured, and each part what it models and what it does not.
#
# How a run ends, as SystemExit: 75 after reset() and soft_reset(), 76 after deepsleep(), with the
# milliseconds in sleep.json; 77 when the watchdog bit. Whoever started it starts it again, and
# reset_cause() is then right, or what BOARD_RESET_CAUSE says (1 to 5).
# RTC().memory() is the file rtc_memory.bin, an RP2's scratch registers (mem32) are scratch.bin;
# run.py --power-cut forgets them.
# unique_id() is BOARD_ID (hex), else made at random once and kept in the file board_id.
# BOARD_UART1, BOARD_UART2 ... name the ttys of the UARTs, BOARD_FAKES another file than fakes.json,
# BOARD_FAMILY (esp32 or rp2) the port whose quirks are shown.

from fakes.chip import deepsleep, reset, reset_cause, soft_reset, unique_id

__all__ = ["deepsleep", "reset", "reset_cause", "soft_reset", "unique_id"]

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5

_PARTS = (
    "pins Pin",
    "analog ADC PWM",
    "counter Counter",
    "i2c I2C SoftI2C",
    "uart UART",
    "watchdog WDT",
    "rtc RTC",
    "registers mem32",
    "dht_line dht_readinto",
    "power lightsleep idle freq disable_irq enable_irq",
)


def __getattr__(name):
    for part in _PARTS:
        names = part.split()
        if name in names[1:]:
            module = __import__("fakes." + names[0], None, None, (name,))
            value = globals()[name] = getattr(module, name)
            return value
    raise AttributeError(name)

# Blinks the LED that config.json names, for five seconds.

import asyncio

from board import log


def run(app, _args):
    if app.led is None:
        raise ValueError("config.json names no led")
    if app.blinking:
        app.blinking.cancel()
    app.blinking = asyncio.create_task(_blink(app.led))
    log.write(log.INFO, "here I am")


async def _blink(pin):
    from machine import Pin

    led = Pin(pin, Pin.OUT)
    for half in range(20):
        led.value(1 - half % 2)
        await asyncio.sleep_ms(250)

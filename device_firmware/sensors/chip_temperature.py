# The microcontroller's own temperature: good for seeing a hot enclosure, not the air.
# Source: ESP32 MicroPython module esp32; RP2040 datasheet 4.9.5.

try:
    import esp32
except ImportError:
    esp32 = None


# RP2040: 27 °C at 0.706 V, falling 1.721 mV a degree, from a 12-bit reading at a 3.3 V reference.
def centidegrees(raw12):
    microvolts = raw12 * 3300000 >> 12
    return 2700 - (microvolts - 706000) * 100 // 1721


class Sensor:
    fmt = "h"
    channels = (("chip_temperature", "°C", -2, "temperature"),)

    def __init__(self, config):
        self._adc = None
        if esp32 is None:
            from machine import ADC

            self._adc = ADC(getattr(ADC, "CORE_TEMP", 4))

    async def read(self):
        if self._adc is not None:
            return (centidegrees(self._adc.read_u16() >> 4),)
        if hasattr(esp32, "mcu_temperature"):  # S2, S3, C3, C6: whole degrees
            return (esp32.mcu_temperature() * 100,)
        return ((esp32.raw_temperature() - 32) * 500 // 9,)  # the first ESP32: Fahrenheit

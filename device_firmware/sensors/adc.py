# A voltage at an analogue pin, or what it stands for.
#
# config: {"pin": 34} in volts. "divider": [100000, 22000] upper and lower resistor in ohms;
# "scale" and "offset": value = offset + scale * volts, with "key", "unit", "device_class" and
# "exponent" (default -3); "samples": how many are averaged (16); "reference_mv": full scale where
# the chip knows no microvolts (3300).


class Sensor:
    fmt = "i"

    def __init__(self, config):
        from machine import ADC, Pin

        pin = config["pin"]
        self._adc = ADC(Pin(pin))
        if hasattr(ADC, "ATTN_11DB"):  # the ESP32's widest range, 0.15 to 2.45 V calibrated
            self._adc.atten(ADC.ATTN_11DB)
        self._in_microvolts = hasattr(self._adc, "read_uv")
        self._reference_mv = config.get("reference_mv", 3300)
        self._samples = config.get("samples", 16)
        self._upper, self._lower = config.get("divider", (0, 1))
        if self._samples < 1 or self._lower <= 0 or self._upper < 0:
            raise ValueError("adc on pin %d: samples and divider must be positive" % pin)
        scaled = "scale" in config or "offset" in config
        exponent = config.get("exponent", -3)
        # value * 10**-exponent = _offset + _slope * microvolts; None: volts, in whole numbers
        self._slope = self._offset = None
        if scaled or exponent != -3:
            self._slope = config.get("scale", 1) * 10.0 ** (-exponent - 6)
            self._offset = config.get("offset", 0) * 10.0**-exponent
        self.channels = (
            (
                config.get("key", "value" if scaled else "voltage"),
                config.get("unit", "" if scaled else "V"),
                exponent,
                config.get("device_class", "" if scaled else "voltage"),
            ),
        )

    def _microvolts(self):
        total = 0
        if self._in_microvolts:
            for _ in range(self._samples):
                total += self._adc.read_uv()
            total //= self._samples
        else:
            for _ in range(self._samples):
                total += self._adc.read_u16()
            total = total * self._reference_mv * 1000 // (65535 * self._samples)
        return total * (self._upper + self._lower) // self._lower

    async def read(self):
        microvolts = self._microvolts()
        if self._slope is None:
            return ((microvolts + 500) // 1000,)
        return (int(round(self._offset + self._slope * microvolts)),)

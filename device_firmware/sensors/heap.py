# The board's free memory, after a collection, and the seconds since its program started.

import gc
import time


class Sensor:
    fmt = "ii"
    channels = (("free_heap", "B", 0, "data_size"), ("uptime", "s", 0, "duration"))

    def __init__(self, config):
        self._seen_ms = time.ticks_ms()
        self._uptime_ms = 0

    async def read(self):
        now_ms = time.ticks_ms()
        self._uptime_ms += time.ticks_diff(now_ms, self._seen_ms)  # ticks wrap after 12 days
        self._seen_ms = now_ms
        gc.collect()
        free = gc.mem_free() if hasattr(gc, "mem_free") else -2147483648
        return free, self._uptime_ms // 1000

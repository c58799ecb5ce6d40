"""From a bare board to one that says HELLO: MicroPython, the firmware, its settings and its key."""

# What main.py finds on a PC: no time for people to interrupt, unless they ask for it.

import os

WINDOW_MS = int(os.getenv("BOARD_WINDOW_MS") or 0)
CRASH_PAUSE_MS = int(os.getenv("BOARD_CRASH_PAUSE_MS") or 0)

"""Drivers: what the bytes of one kind of device mean; pure, no I/O."""

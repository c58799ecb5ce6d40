"""Links: the only code that touches a port or a radio."""

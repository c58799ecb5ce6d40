"""A unit's sandbox where no systemd runs: `unit` reads it, `enter` applies it."""

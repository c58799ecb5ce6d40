"""The registry: what is known of each device over restarts, and what is retained of it."""

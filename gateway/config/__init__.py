"""Configuration: what a user may set, checked at the door."""

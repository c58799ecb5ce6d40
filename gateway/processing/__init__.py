"""What the configuration makes of the values of a device, before they reach the outbox; pure."""

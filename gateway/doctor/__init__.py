"""Says in words what is wrong with a gateway and what it stands on, and what would mend it."""

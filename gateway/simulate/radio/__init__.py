"""A virtual radio: simulated boards and sensors on the air, and an adapter for the gateway."""

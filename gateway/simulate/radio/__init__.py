"""A virtual radio: simulated boards and sensors on the air, and an adapter for the gateway."""

from importlib.util import find_spec


def available() -> bool:
    """Tell whether the packages it needs are installed: the extra `demo`."""
    return find_spec("bumble") is not None

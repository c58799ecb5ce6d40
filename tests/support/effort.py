"""How much tests try: `make soak` sets SOAK and has all, `make test` has a part."""

import os

SOAK = bool(os.environ.get("SOAK"))
SHARE = 3


def examples(full: int) -> int:
    """Return how many examples Hypothesis tries: a third without SOAK, the same ones each time."""
    return full if SOAK else full // SHARE

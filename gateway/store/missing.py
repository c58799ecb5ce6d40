"""Which stored samples are neither delivered nor found: what is gone; pure."""

from collections.abc import Iterable

from gateway.store.ledger import Entry


def missing(entry: Entry, found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what of [settled_next, stored_next) no found row covers.

    Args:
        entry: What the ledger says of one boot of one device.
        found: First and last number of each of its rows, inclusive, in any order; they may overlap
            and may reach beyond what the entry speaks of.

    Returns:
        Inclusive ranges, sorted, with at least one covered number between any two.
    """
    gaps: list[tuple[int, int]] = []
    wanted = entry.settled_next
    for first, last in sorted(found):
        if wanted >= entry.stored_next:
            break
        if first > wanted and last >= first:
            gaps.append((wanted, min(first, entry.stored_next) - 1))
        if last >= first:
            wanted = max(wanted, last + 1)
    if wanted < entry.stored_next:
        gaps.append((wanted, entry.stored_next - 1))
    return gaps

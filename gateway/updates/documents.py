"""What is published of updates: values -> JSON; pure."""

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.clock import TimeFormat
from gateway.updates.rollout import ACTIVE, Rollout, State, Target

MAX_REASON: Final = 500

_PERCENT: Final = frozenset({State.SENDING})
"""States in which it is known how far it is."""

# The words of Home Assistant's update entity: what is published is for it, too.
_INSTALLED, _LATEST = "installed_version", "latest_version"
_IN_PROGRESS, _PERCENTAGE = "in_progress", "update_percentage"


def board(installed: str, latest: str, rollout: Rollout | None, target: Target | None) -> bytes:
    """Return how updates stand on one board; what is not known is left out.

    Args:
        installed: Version of the firmware it runs.
        latest: The one it could have.
        rollout: The last one that has the board.
        target: The board in it.
    """
    document: dict[str, Any] = {}
    if installed:
        document[_INSTALLED] = installed
    if latest:
        document[_LATEST] = latest
    is_active = target is not None and target.state in ACTIVE
    document[_IN_PROGRESS] = is_active
    document[_PERCENTAGE] = None
    document["state"] = "idle"
    if rollout is not None and target is not None:
        if target.state in _PERCENT:
            document[_PERCENTAGE] = target.percent
        document |= {
            "state": target.state.value,
            "rollout": rollout.number,
            "kind": rollout.plan.kind,
            "hash": rollout.plan.short_hash,
        }
        if target.reason:
            document["reason"] = target.reason[:MAX_REASON]
    return _encode(document)


def rollout(one: Rollout) -> bytes:
    """Return how a rollout stands."""
    return _encode(summary(one))


def summary(one: Rollout) -> dict[str, Any]:
    """Return how a rollout stands, without its boards."""
    plan = one.plan
    document: dict[str, Any] = {
        "rollout": one.number,
        "state": one.phase.value,
        "kind": plan.kind,
        **({"version": plan.version} if plan.version else {}),
        "hash": plan.short_hash,
        "bytes": plan.size_bytes,
        "canary": plan.canary,
        "parallel": plan.parallel,
        "began": TimeFormat().text(one.began_unix_s),
        "boards": len(one.targets),
        "counts": {state.value: count for state, count in one.counts.items()},
    }
    if one.reason:
        document["reason"] = one.reason[:MAX_REASON]
    return document


def boards(one: Rollout, most: int, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return how its boards stand, at most so many, those that are not done first.

    `titles` is what people call them.
    """
    targets = sorted(one.targets.values(), key=lambda each: each.state is State.DONE)
    return [
        {
            "device": each.device,
            "name": titles.get(each.device, ""),
            "state": each.state.value,
            "percent": each.percent,
            **({"reason": each.reason[:MAX_REASON]} if each.reason else {}),
        }
        for each in targets[:most]
    ]


def _encode(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")

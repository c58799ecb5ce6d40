"""What the announcer has found out about a device, as it is kept; pure."""

from collections.abc import Mapping
from typing import Any

from gateway.cadence import Habit

_ENTITIES = "entities"
_HABITS = "habits"


def entities_of(learned: Mapping[str, Any]) -> dict[str, str]:
    """Return id and platform of all entities a device was ever announced with, the latest last."""
    entities = learned.get(_ENTITIES)
    if not isinstance(entities, dict):
        return {}
    return {str(each): str(platform) for each, platform in entities.items()}


def habits_of(learned: Mapping[str, Any]) -> dict[str, Habit]:
    """Return how often the sensors of a device tell something, by their keys."""
    habits = learned.get(_HABITS)
    if not isinstance(habits, dict):
        return {}
    return {
        str(key): Habit(*habit)
        for key, habit in habits.items()
        if isinstance(habit, list) and _is_habit(habit)
    }


def document_of(entities: Mapping[str, str], habits: Mapping[str, Habit]) -> dict[str, Any]:
    """Return what is kept."""
    return {
        _HABITS: {key: list(habit) for key, habit in habits.items()},
        _ENTITIES: dict(entities),
    }


def inherited(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a device that goes on in the place of another.

    Entities the old one had are among it: they are Home Assistant's still. Habits are the new
    one's, where it has shown some.
    """
    return document_of(
        {**entities_of(old), **entities_of(new)}, {**habits_of(old), **habits_of(new)}
    )


def _is_habit(habit: list[Any]) -> bool:
    match habit:
        case [str(), None | int()]:
            return True
    return False

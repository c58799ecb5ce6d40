"""A plan as users write it: `drop=0.1,corrupt=0.05,seed=7`."""

from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite

from gateway.errors import ConfigError
from gateway.simulate.faults.plan import (
    SECTIONS,
    SEED,
    BrokerRates,
    FaultPlan,
    LineRates,
    LinkRates,
    Measure,
    RadioRates,
)


@dataclass(frozen=True, slots=True)
class FaultKey:
    """One key of a plan, for who reads or documents it."""

    name: str
    section: str
    """lines, link, broker or radio: what fails."""
    meaning: str
    measure: Measure
    default: float


KEYS: tuple[FaultKey, ...] = tuple(
    FaultKey(
        f.name, section, f.metadata["meaning"], f.metadata["measure"], getattr(rates(), f.name)
    )
    for section, rates in SECTIONS.items()
    for f in fields(rates)
)
"""All keys but `seed`, in the order in which they are listed."""

_BY_NAME = {key.name: key for key in KEYS}
_NAMES = ("seed", *_BY_NAME)


def parse(text: str) -> FaultPlan:
    """Return the plan in `text`; an empty text is no faults.

    Raises:
        ConfigError: a key is unknown or given twice, or its value is no number or out of range.
    """
    given: dict[str, float] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name in given:
            raise ConfigError(f"fault {name!r} is given twice")
        given[name] = _number(name, value)
    return FaultPlan(
        seed=int(given.get("seed", SEED)),
        lines=LineRates(**_of("lines", given)),
        link=LinkRates(**_of("link", given)),
        broker=BrokerRates(**_of("broker", given)),
        radio=RadioRates(**_of("radio", given)),
    )


def _of(section: str, given: dict[str, float]) -> dict[str, float]:
    return {
        key.name: given[key.name] for key in KEYS if key.section == section if key.name in given
    }


def _number(name: str, value: str) -> float:
    if name not in _NAMES:
        near = get_close_matches(name, _NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_NAMES)}"
        raise ConfigError(f"unknown fault {name!r}: {hint}")
    try:
        number = float(value)
    except ValueError:
        example = f"{name}=0.1"
        raise ConfigError(
            f"fault {name!r} needs a number, as in {example}, not {value!r}"
        ) from None
    if name == "seed":
        if not number.is_integer():
            raise ConfigError(f"the seed of faults is a whole number, not {value}")
        return number
    measure = _BY_NAME[name].measure
    if measure is Measure.SHARE:
        if not 0 <= number <= 1:
            raise ConfigError(f"fault {name!r} is a share, from 0 to 1, not {value}")
    elif not isfinite(number) or number < 0:
        raise ConfigError(f"fault {name!r} is a number of {measure.value}, 0 or more, not {value}")
    return number

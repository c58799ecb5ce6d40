"""Home Assistant's words for quantities, and what it takes together with each of them.

It refuses an entity whose device class, unit and state class do not go together, so each is left
out where they do not. These are those both releases in tests/vectors/homeassistant.json take.
"""

from collections.abc import Mapping
from typing import Final

NO_UNIT: Final = ""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MICROGRAMS = frozenset({"µg/m³"})
_PRESSURES = _words("Pa hPa kPa mbar cbar bar mmHg inHg psi")
_ENERGIES = _words("J kJ MJ GJ mWh Wh kWh MWh GWh TWh cal kcal Mcal Gcal")
_TEMPERATURES = frozenset({"°C", "°F", "K"})
_VOLUMES = frozenset({"mL", "L", "m³", "ft³", "CCF", "fl. oz.", "gal"})
_SPEEDS = frozenset({"m/s", "km/h", "mm/s", "in/s", "ft/s", "mph", "kn", "Beaufort"})
_PERCENT = frozenset({"%"})
_PPM = frozenset({"ppm"})
_UNITLESS = frozenset({NO_UNIT})

UNITS: Final[Mapping[str, frozenset[str]]] = {
    "apparent_power": frozenset({"VA"}),
    "aqi": _UNITLESS,
    "area": _words("mm² cm² m² km² in² ft² yd² mi² ac ha"),
    "atmospheric_pressure": _PRESSURES,
    "battery": _PERCENT,
    "blood_glucose_concentration": frozenset({"mg/dL", "mmol/L"}),
    "carbon_dioxide": _PPM,
    "carbon_monoxide": _PPM,
    "conductivity": frozenset({"µS/cm", "mS/cm", "S/cm"}),
    "current": frozenset({"A", "mA"}),
    "data_rate": _words("bit/s kbit/s Mbit/s Gbit/s B/s kB/s MB/s GB/s KiB/s MiB/s GiB/s"),
    "data_size": _words("bit kbit Mbit Gbit B kB MB GB TB PB KiB MiB GiB TiB PiB"),
    "distance": _words("mm cm m km in ft yd mi nmi"),
    "duration": frozenset({"\u03bcs", "ms", "s", "min", "h", "d"}),
    "energy": _ENERGIES,
    "energy_storage": _ENERGIES,
    "frequency": frozenset({"Hz", "kHz", "MHz", "GHz"}),
    "gas": frozenset({"m³", "ft³", "CCF"}),
    "humidity": _PERCENT,
    "illuminance": frozenset({"lx"}),
    "irradiance": frozenset({"W/m²", "BTU/(h⋅ft²)"}),
    "moisture": _PERCENT,
    "nitrogen_dioxide": _MICROGRAMS,
    "nitrogen_monoxide": _MICROGRAMS,
    "nitrous_oxide": _MICROGRAMS,
    "ozone": _MICROGRAMS,
    "ph": _UNITLESS,
    "pm1": _MICROGRAMS,
    "pm10": _MICROGRAMS,
    "pm25": _MICROGRAMS,
    "power": frozenset({"mW", "W", "kW", "MW", "GW", "TW"}),
    "power_factor": frozenset({"%", NO_UNIT}),
    "precipitation": frozenset({"mm", "cm", "in"}),
    "precipitation_intensity": frozenset({"mm/h", "mm/d", "in/h", "in/d"}),
    "pressure": _PRESSURES,
    "reactive_power": frozenset({"var"}),
    "signal_strength": frozenset({"dB", "dBm"}),
    "sound_pressure": frozenset({"dB", "dBA"}),
    "speed": _SPEEDS | {"mm/h", "mm/d", "in/h", "in/d"},
    "sulphur_dioxide": _MICROGRAMS,
    "temperature": _TEMPERATURES,
    "volatile_organic_compounds": _MICROGRAMS,
    "volatile_organic_compounds_parts": frozenset({"ppm", "ppb"}),
    "voltage": frozenset({"µV", "mV", "V", "kV", "MV"}),
    "volume": _VOLUMES,
    "volume_flow_rate": frozenset({"m³/h", "L/min", "mL/s", "ft³/min", "gal/min"}),
    "volume_storage": _VOLUMES,
    "water": frozenset({"L", "m³", "ft³", "CCF", "gal"}),
    "weight": _words("µg mg g kg oz lb st"),
    "wind_direction": frozenset({"°"}),
    "wind_speed": _SPEEDS,
}
"""Units that go with each device class of a number; those of money are currencies, and left out."""

MOMENTS: Final = frozenset({"date", "timestamp"})
"""Device classes of sensors whose values are no numbers."""

FLAGS: Final = _words(
    "battery battery_charging carbon_monoxide cold connectivity door garage_door gas heat light "
    "lock moisture motion moving occupancy opening plug power presence problem running safety "
    "smoke sound tamper update vibration window"
)
"""Device classes of what is true or false."""

SWITCHES: Final = frozenset({"outlet", "switch"})
BUTTONS: Final = frozenset({"identify", "restart", "update"})

MEASUREMENT: Final = "measurement"
COUNTER: Final = "total_increasing"

_COUNTERS = frozenset({"energy", "gas", "water", "volume"})
"""What meters count up; a step down is a meter that began anew."""
_COUNTER_KEYS = frozenset({"count", "counter", "pulses", "total"})
"""What quantities without unit and class are called that count up."""

_SPELLINGS: Final[Mapping[str, str]] = {
    "μg/m³": "µg/m³",
    "μg": "µg",
    "μS/cm": "µS/cm",
    "μV": "µV",
    "uS/cm": "µS/cm",
    "ug/m3": "µg/m³",
    "ug/m³": "µg/m³",
    "µg/m3": "µg/m³",
    "m3": "m³",
    "m3/h": "m³/h",
    "l": "L",
    "ml": "mL",
    "lux": "lx",
    "C": "°C",
    "F": "°F",
    "degC": "°C",
    "degF": "°F",
    "VAr": "var",
}
"""Other spellings that boards use. Of the two characters for micro, the sign (U+00B5) is taken by
every release; newer ones turn it into the letter (U+03BC) themselves."""


def unit_for(unit: str, device_class: str) -> str:
    """Return a unit as Home Assistant spells it, where the device class says what it must mean."""
    spelt = _SPELLINGS.get(unit, unit)
    return spelt if spelt in UNITS.get(device_class, ()) else unit


def class_for(device_class: str, unit: str) -> str:
    """Return the device class of a number, or nothing if it does not go with the unit."""
    return device_class if unit in UNITS.get(device_class, ()) else ""


def state_class_for(
    key: str, device_class: str, unit: str, *, is_gauge_counted: bool = False
) -> str:
    """Return how long-term statistics treat a number; `device_class` is one that goes with it.

    Whether rain is what fell since the start or since the last reading, only its source knows:
    `is_gauge_counted` says that it counts up.
    """
    if device_class == "wind_direction":
        return "measurement_angle"
    if device_class in _COUNTERS or (is_gauge_counted and device_class == "precipitation"):
        return COUNTER
    if not unit and not device_class and key.rpartition("_")[2] in _COUNTER_KEYS:
        return COUNTER
    return MEASUREMENT

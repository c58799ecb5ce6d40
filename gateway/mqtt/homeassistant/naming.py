"""What devices and entities are called: for people, and for ever."""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

Component: TypeAlias = dict[str, object]
"""One entity of a discovery payload."""

_WRITTEN: Final = {
    "rssi": "RSSI",
    "co2": "CO2",
    "co": "CO",
    "tvoc": "TVOC",
    "voc": "VOC",
    "uv": "UV",
    "ph": "pH",
    "pm1": "PM1",
    "pm25": "PM2.5",
    "pm4": "PM4",
    "pm10": "PM10",
    "id": "ID",
    "pwm": "PWM",
    "led": "LED",
    "cpu": "CPU",
}
_SEPARATORS = re.compile(r"[_\-]+")


@dataclass(frozen=True, slots=True)
class Site:
    """Whose devices are announced, and where."""

    gateway: str
    """Name of the gateway, a slug."""
    base_topic: str
    prefix: str
    """What Home Assistant's discovery topics begin with."""
    version: str
    """Of the gateway's software."""

    @property
    def own_id(self) -> str:
        """The gateway's identifier in Home Assistant's registry of devices."""
        return f"edge.{self.gateway}"

    def device_id(self, device: str) -> str:
        """Return the identifier of what a device is known by, which no new name changes.

        The parts have no dot in them: no two devices, sensors or gateways make one id.
        """
        return f"edge.{self.gateway}.{device}"

    def topic(self, subtopic: str) -> str:
        """Return the whole topic of what is below the base topic."""
        return f"{self.base_topic}/{subtopic}"

    def discovery_topic(self, device: str = "") -> str:
        """Return where what a device is known by is announced; the gateway itself without one.

        Other than the ids these topics are not unique if one gateway's name begins with another's
        and `_`: README.md says so, and the form is one that access lists and people rely on.
        """
        name = f"edge_{self.gateway}_{device}" if device else f"edge_{self.gateway}"
        return f"{self.prefix}/device/{name}/config"

    @property
    def birth_topic(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self.prefix}/status"


def entity_name(key: str) -> str:
    """Return a sensor's key as people write it: `soil_temperature` is `Soil temperature`."""
    words = [word for word in _SEPARATORS.split(key) if word]
    written = [_WRITTEN.get(word, word) for word in words]
    if not written:
        return key
    first = written[0]
    return " ".join([first[:1].upper() + first[1:] if first == words[0] else first, *written[1:]])

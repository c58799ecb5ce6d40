"""The sensors that can be read from their adverts, by family: what they look like, who parses them.

Each family has a library of its own (https://github.com/Bluetooth-Devices), which is imported when
the first advert of the family is heard: a gateway pays for those that are around.
"""

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gateway.drivers import advert_covers as covers
from gateway.drivers.advert import Advert
from gateway.drivers.advert_covers import Cover

if TYPE_CHECKING:
    from sensor_state_data import SensorUpdate

EXTRA = "edge-gateway[ble-devices]"
"""What to install for families other than BTHome."""


class Parser(Protocol):
    """What the libraries have in common: bluetooth_sensor_state_data.BluetoothData."""

    def update(self, data: object, /) -> "SensorUpdate":
        """Take an advert in, and return all that is known of the sensor by now."""


class Library(NamedTuple):
    """A family's library, once it is loaded."""

    new_parser: Callable[[], Parser]
    new_parser_with_key: Callable[[bytes | None], Parser]
    new_advert: Callable[..., object]
    """Makes the form of an advert that all parsers take."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Sensors that one library reads; compared by identity, which is fast."""

    name: str
    """Also the driver's name on the device's info document."""
    module: str
    parser: str
    cover: Callable[[Advert], Cover] = covers.plain
    takes_key: bool = False
    numbers_repeated: bool = False
    """Whether the library numbers quantities that come several times: `temperature_1` ..."""
    names_by_address: bool = False
    """Whether the library wants the address as the name of sensors that have none."""
    hides_company: bool = False
    """Whether its sensors have values where others have the number of their company."""


BTHOME = Family(
    "bthome",
    "bthome_ble",
    "BTHomeBluetoothDeviceData",
    covers.bthome,
    takes_key=True,
    numbers_repeated=True,
    names_by_address=True,
)
XIAOMI = Family("xiaomi", "xiaomi_ble", "XiaomiBluetoothDeviceData", covers.xiaomi, takes_key=True)
RUUVITAG = Family("ruuvitag", "ruuvitag_ble", "RuuvitagBluetoothDeviceData")
GOVEE = Family("govee", "govee_ble", "GoveeBluetoothDeviceData")
INKBIRD = Family("inkbird", "inkbird_ble", "INKBIRDBluetoothDeviceData", hides_company=True)
THERMOBEACON = Family("thermobeacon", "thermobeacon_ble", "ThermoBeaconBluetoothDeviceData")
SENSORPUSH = Family(
    "sensorpush", "sensorpush_ble", "SensorPushBluetoothDeviceData", hides_company=True
)
QINGPING = Family("qingping", "qingping_ble", "QingpingBluetoothDeviceData")
THERMOPRO = Family("thermopro", "thermopro_ble", "ThermoProBluetoothDeviceData", hides_company=True)
MOAT = Family("moat", "moat_ble", "MoatBluetoothDeviceData")
MOPEKA = Family("mopeka", "mopeka_iot_ble", "MopekaIOTBluetoothDeviceData")

FAMILIES: Final = (
    BTHOME,
    XIAOMI,
    RUUVITAG,
    GOVEE,
    INKBIRD,
    THERMOBEACON,
    SENSORPUSH,
    QINGPING,
    THERMOPRO,
    MOAT,
    MOPEKA,
)


def _uuid(short: str) -> str:
    """Return the full form of a UUID of 16 bits."""
    return f"0000{short}-0000-1000-8000-00805f9b34fb"


_BY_SERVICE_DATA: Mapping[str, Family] = {
    covers.BTHOME_V2: BTHOME,
    covers.BTHOME_V1: BTHOME,
    covers.BTHOME_V1_SEALED: BTHOME,
    covers.MIBEACON: XIAOMI,
    _uuid("fd50"): XIAOMI,
    _uuid("181d"): XIAOMI,
    _uuid("181b"): XIAOMI,
    _uuid("fdcd"): QINGPING,
    _uuid("1000"): MOAT,
}
_BY_COMPANY: Mapping[int, Family] = {
    0x0499: RUUVITAG,
    0xEC88: GOVEE,
    0x8801: GOVEE,
    0x8803: GOVEE,
    0x8843: GOVEE,
    12628: INKBIRD,
    12884: INKBIRD,
}
"""Company ids that say enough. Many of these makers use ids that are not theirs."""
_BY_COMPANY_AND_SERVICE: Mapping[tuple[int, str], Family] = {
    (0x0059, _uuid("fee5")): MOPEKA,
    (9289, _uuid("fff0")): INKBIRD,
    (0x0001, _uuid("ec88")): GOVEE,
    **{(kind, _uuid("fff0")): THERMOBEACON for kind in (16, 17, 20, 21, 24, 27, 48)},
}
_PAIRED_COMPANIES = frozenset(company for company, _ in _BY_COMPANY_AND_SERVICE)
_BY_SERVICE: Mapping[str, Family] = {
    "ef090000-11d6-42ba-93b8-9dd7ec090aa9": SENSORPUSH,
    "ef090000-11d6-42ba-93b8-9dd7ec090ab0": SENSORPUSH,
    **{
        _uuid(model): GOVEE
        for model in ("8151", "8251", "8351", "8451", "8551", "9151", "9851", "5550")
    },
}
_BY_NAME: Mapping[str, Family] = dict.fromkeys(
    ("sps", "tps", "ibs-p02b", "ith-11-b", "ith-13-b", "ith-21-b"), INKBIRD
)
_BY_NAME_PREFIX: Mapping[str, Family] = {
    "govee": GOVEE,
    "gvh5": GOVEE,
    "gv5": GOVEE,
    "b5178": GOVEE,
    "ink@": INKBIRD,
    "ibbq": INKBIRD,
    "xbbq": INKBIRD,
    "sensorpush": SENSORPUSH,
    "ht.w": SENSORPUSH,
    "htp.xw": SENSORPUSH,
    "tc.x": SENSORPUSH,
    "tp35": THERMOPRO,
    "tp39": THERMOPRO,
    "tp96": THERMOPRO,
    "tp97": THERMOPRO,
}
"""In lower case."""
_NAME_STARTS = tuple(_BY_NAME_PREFIX)


_NOBODY: tuple[Family, ...] = ()
_READERS = {family: (family,) for family in FAMILIES}
_SERVICE_FAMILIES = frozenset(_BY_SERVICE_DATA.values())


def families_of(advert: Advert) -> tuple[Family, ...]:
    """Return who may be able to read it; empty for most of what is in the air.

    Several where a sensor speaks several formats: BlueZ hands out the newest of each together.
    """
    readers = _NOBODY
    for uuid in advert.service_data:
        family = _BY_SERVICE_DATA.get(uuid)
        if family is not None and family not in readers:
            readers = (*readers, family) if readers else _READERS[family]
    if readers or not advert.manufacturer_data:
        return readers
    family = _by_manufacturer_data(advert)
    return _NOBODY if family is None else _READERS[family]


def content_of(advert: Advert, family: Family) -> Hashable:
    """Return the part of an advert that its family reads: what makes two adverts equal."""
    if family not in _SERVICE_FAMILIES:
        return tuple(advert.manufacturer_data.items())
    if len(advert.service_data) == 1:
        return tuple(advert.service_data.items())
    return tuple(
        (uuid, content)
        for uuid, content in advert.service_data.items()
        if _BY_SERVICE_DATA.get(uuid) is family
    )


def load(family: Family) -> Library:
    """Import the family's library; takes up to half a second, and no lock: any thread may.

    Raises:
        ImportError: it is not installed.
    """
    module = import_module(family.module)
    parser = getattr(module, family.parser)
    # They log each advert they cannot read, some as an error; the driver counts those.
    logging.getLogger(family.module).setLevel(logging.CRITICAL)
    new_advert = import_module("habluetooth").BluetoothServiceInfoBleak
    return Library(parser, parser, new_advert)


def _by_manufacturer_data(advert: Advert) -> Family | None:
    for company in advert.manufacturer_data:
        if family := _BY_COMPANY.get(company):
            return family
        if company in _PAIRED_COMPANIES:
            for uuid in advert.service_uuids:
                if family := _BY_COMPANY_AND_SERVICE.get((company, uuid)):
                    return family
    for uuid in advert.service_uuids:
        if family := _BY_SERVICE.get(uuid):
            return family
    return _by_name(advert.name.lower()) if advert.name else None


def _by_name(name: str) -> Family | None:
    if family := _BY_NAME.get(name):
        return family
    if not name.startswith(_NAME_STARTS):
        return None
    return next(family for start, family in _BY_NAME_PREFIX.items() if name.startswith(start))

"""Commercial sensors that are read from their Bluetooth LE adverts, without a connection."""

import logging
from collections.abc import Mapping
from typing import Final

from gateway.clock import Clock
from gateway.drivers.advert import Advert
from gateway.drivers.advert_device import AdvertDevice
from gateway.drivers.advert_families import BTHOME, EXTRA, Family, Library, families_of, load
from gateway.drivers.advert_values import Decoder
from gateway.model import Event, Fault, Gone, device_slug
from gateway.protocol.delivery import DeliveryBook

MAX_DEVICES: Final = 512
"""Sensors known at once, of 9 KB each; a radio hears some dozens."""
NEWCOMERS: Final = 256
NEWCOMERS_A_SECOND: Final = 1.0
"""Sensors met: so many at once, then so many a second. Who invents addresses, which costs nothing,
thereby fills neither the memory nor the broker; those that are configured are always met."""
MAX_FIELDS: Final = 512
"""Manufacturer data of one advert; BlueZ adds up what sensors send under changing company ids."""
SWEEP_S: Final = 5.0
"""How often silent sensors are looked for."""

_log = logging.getLogger(__name__)

_Key = tuple[str, str]
"""Family and address: some sensors speak two formats in turn."""


class AdvertDriver:
    """Reads the adverts of all sensors that one radio hears; pure, so it is fed the time as well.

    Samples are numbered by the gateway and need no acknowledgement: a sensor does not know who
    hears it. The caller decides whose adverts are fed (`knows` helps), and calls `tick` once
    `deadline_s` has passed.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        clock: Clock,
        run: int,
        *,
        names: Mapping[str, str] | None = None,
        book: DeliveryBook | None = None,
    ) -> None:
        """`keys` and `names` are by address, as the radio shows it in upper case; a name may be "".

        `run` (u32) differs at every start of the gateway. A device that `book` has on another link
        is refused; None where there is no other link.
        """
        self.unknown = 0
        """Adverts that no family claims."""
        self._keys = keys
        self._names = names or {}
        self._book = DeliveryBook() if book is None else book
        self._run = run
        self._evictions = 0
        self._devices: dict[_Key, AdvertDevice] = {}
        self._slugs: dict[str, AdvertDevice] = {}
        self._libraries: dict[str, Library | Fault] = {}
        self._tracebacks: set[tuple[str, type]] = set()
        self._tokens = float(NEWCOMERS)
        self._filled_s = clock.monotonic_s()
        self._paused_s: float | None = None
        self._pauses = 0
        self._pauses_s = 0.0
        self._sweep_s: float | None = None

    @property
    def deadline_s(self) -> float | None:
        """Monotonic time at which `tick` wants to be called; None for never."""
        return None if self._paused_s is not None else self._sweep_s

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that was announced and has not left."""
        return tuple(each.device for each in self._devices.values() if each.is_online)

    def knows(self, advert: Advert) -> bool:
        """Tell whether a family claims it, without decoding it."""
        return bool(families_of(advert))

    def is_muddled(self, advert: Advert) -> bool:
        """Tell whether it holds earlier values beside the present ones.

        Then only BlueZ's order says which are which, and one that comes back is not told of at all.
        """
        return len(advert.manufacturer_data) > 1 and any(
            family.hides_company for family in families_of(advert)
        )

    def needs(self, advert: Advert) -> Family | None:
        """Return the family whose library `feed` would have to import; None for none.

        An import takes up to half a second on a PC, and the caller may `load` it in a thread
        instead: nothing else here may be called from one.
        """
        for family in families_of(advert):
            if family.name not in self._libraries:
                return family
        return None

    def load(self, family: Family) -> None:
        """Import the library of a family, unless that was done."""
        if family.name not in self._libraries:
            self._libraries[family.name] = _loaded(family)

    def feed(self, advert: Advert, now_s: float) -> list[Event]:
        """Return what the advert says; empty for what nobody knows, and for repetitions."""
        families = families_of(advert)
        out: list[Event] = []
        if not families:
            self.unknown += 1
        for family in families:
            self._read(family, advert, now_s, out, is_alone=len(families) == 1)
        return out

    def _read(
        self, family: Family, advert: Advert, now_s: float, out: list[Event], *, is_alone: bool
    ) -> None:
        device = self._devices.get((family.name, advert.address))
        if device is None:
            device = self._meet(family, advert, now_s, out)
            if device is None:
                return
        if len(advert.manufacturer_data) > MAX_FIELDS:
            out.append(Fault("bad_advert", f"{device.device}: more than {MAX_FIELDS} fields"))
            return
        try:
            device.hear(advert, self._radio_s(now_s), self._pauses, out, is_alone=is_alone)
        except Exception as exc:  # noqa: BLE001  # the libraries raise anything at garbage
            self._note_failure(family, exc)
            out.append(Fault(f"{family.name}_parser", f"{device.device}: {exc!r:.100}"))
            device.failed(family.cover(advert), advert.heard_s, out)

    def tick(self, now_s: float) -> list[Event]:
        """Return which sensors fell silent, by how often each is usually heard."""
        if self._paused_s is not None:
            return []
        self._sweep_s = now_s + SWEEP_S
        radio_s = self._radio_s(now_s)
        out: list[Event] = []
        for device in self._devices.values():
            if device.is_online:
                silent_s = device.cadence.silent_from_s(is_sleepy=device.is_sleepy)
                if silent_s is not None and radio_s > silent_s:
                    device.is_online = False
                    out.append(Gone(device.device, "silent"))
        return out

    def paused(self, now_s: float) -> None:
        """Note that the scanner looks away: until `resumed`, nobody's silence counts."""
        if self._paused_s is None:
            self._paused_s = now_s
            self._pauses += 1

    def resumed(self, now_s: float) -> None:
        """Note that the scanner listens again."""
        if self._paused_s is not None:
            self._pauses_s += now_s - self._paused_s
            self._paused_s = None

    def close(self, _now_s: float) -> list[Event]:
        """Say which devices went with the radio; the driver is not used afterwards."""
        gone: list[Event] = [Gone(device, "closed") for device in self.devices]
        for device in self._devices.values():
            self._book.release(device)
        self._devices.clear()
        return gone

    def _radio_s(self, now_s: float) -> float:
        """Return the time on a clock that stands still while the scanner pauses."""
        if self._paused_s is not None:
            now_s = self._paused_s
        return now_s - self._pauses_s

    def _meet(
        self, family: Family, advert: Advert, now_s: float, out: list[Event]
    ) -> AdvertDevice | None:
        """Make room for a sensor that was not heard before; None where it is refused."""
        address = advert.address
        key = self._keys.get(address) or None
        name = self._names.get(address, "")
        if key is not None and not family.takes_key:
            out.append(Fault("downgrade", f"{address}: has a key, and sends as {family.name}"))
            return None
        self.load(family)
        library = self._libraries[family.name]
        if isinstance(library, Fault):
            out.append(library)
            return None
        is_listed = key is not None or address in self._names
        if not is_listed and not self._take_token(now_s):
            out.append(Fault("too_many_devices", f"{address}: too many new ones at once"))
            return None
        if len(self._devices) >= MAX_DEVICES and not self._forget_one():
            out.append(Fault("too_many_devices", f"{address}: more than {MAX_DEVICES}"))
            return None
        decoder = Decoder(family, library, key)
        boot = (self._run + self._evictions) & 0xFFFFFFFF  # an id that was used must not come again
        slug = self._slug(family, address, name)
        device = AdvertDevice(slug, address, name, decoder, boot)
        if not self._book.claim(slug, device):
            out.append(Fault("duplicate_id", f"{slug} speaks on another link"))
            return None
        self._devices[family.name, address] = device
        self._slugs[slug] = device
        if self._sweep_s is None:
            self._sweep_s = now_s + SWEEP_S
        return device

    def _slug(self, family: Family, address: str, name: str) -> str:
        """Return the device's name in topics: the same each time, whatever it says of itself.

        A local name comes with some adverts only; a scanner that listens passively never hears it.
        Only where two addresses of a family end alike it matters who is heard first.
        """
        digits = address.replace(":", "").lower()
        wanted = device_slug(name) if name else f"{family.name}_{digits[-4:]}"
        return f"{family.name}_{digits}" if wanted in self._slugs else wanted

    def _take_token(self, now_s: float) -> bool:
        refill = max(now_s - self._filled_s, 0.0) * NEWCOMERS_A_SECOND
        self._tokens = min(float(NEWCOMERS), self._tokens + refill)
        self._filled_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _forget_one(self) -> bool:
        """Forget who never said anything, or else who has been silent for longest."""
        victim = min(
            (
                (device.is_announced, device.cadence.silent_from_s(is_sleepy=False) or 0.0, key)
                for key, device in self._devices.items()
                if not device.is_online and device.decoder.key is None
            ),
            default=None,
        )
        if victim is None:
            return False
        device = self._devices.pop(victim[2])
        del self._slugs[device.device]
        self._book.release(device)
        self._evictions += 1
        return True

    def _note_failure(self, family: Family, exc: Exception) -> None:
        """Log the traceback, once for each kind of error of a family."""
        if (family.name, type(exc)) not in self._tracebacks:
            self._tracebacks.add((family.name, type(exc)))
            _log.warning("the parser of %s failed at an advert", family.name, exc_info=exc)


def _loaded(family: Family) -> Library | Fault:
    try:
        return load(family)
    except ImportError as exc:
        hint = "" if family is BTHOME else f"; install {EXTRA}"
        return Fault("library_missing", f"{family.name} sensors are heard: {exc}{hint}")
    except Exception as exc:  # noqa: BLE001  # one that does not fit is as good as none
        _log.warning("the library of %s cannot be used", family.name, exc_info=exc)
        return Fault("library_unusable", f"{family.name} sensors are heard: {exc!r:.200}")

"""Put a board's key where the gateway finds it: through the one that runs, or into its folder."""

import os
from pathlib import Path
from typing import Final

from gateway.cli import control
from gateway.config.models import Settings
from gateway.errors import NotRunningError, StoreError
from gateway.store.keys import KeyStore

SERVICE_STATE: Final = Path("/var/lib/edge-gateway")
"""What StateDirectory= of the unit makes; known here because $STATE_DIRECTORY is the service's."""


def keep_key(settings: Settings, device: str, key: bytes) -> str:
    """Keep a key; return where it is, in words.

    Raises:
        GatewayError: it is kept nowhere.
    """
    try:
        control.ask(settings, "keep_key", {"device": device, "key": key.hex()})
    except NotRunningError:
        store = offline(settings)
        store.put(device, key)
        return f"in {store.folder}, for the gateway when it starts"
    return "with the running gateway"


def check_keeping(settings: Settings) -> None:
    """See that a key could be kept, before a board is changed that is to get one.

    Raises:
        GatewayError: it could not; says where, and what to do.
    """
    try:
        control.ask(settings, "keys")
    except NotRunningError:
        folder = keys_folder(settings)
        above = next(each for each in (folder, *folder.parents) if each.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise StoreError(
                f"{folder}: no key of a board can be kept there: run this as the gateway's user, "
                "or with sudo"
            ) from None


def offline(settings: Settings) -> KeyStore:
    """Return the keys as they lie on the disk, of a gateway that does not run."""
    store = KeyStore(keys_folder(settings))
    store.load()
    return store


def keys_folder(settings: Settings, service_state: Path = SERVICE_STATE) -> Path:
    """Return where the gateway of these settings keeps keys: the service, if there is one here."""
    folder = settings.keys_path
    if settings.outbox.path is None and not folder.parent.is_dir() and service_state.is_dir():
        return service_state / folder.name
    return folder

"""What the gateway does when it is asked to on its own machine: each verb, listed."""

from collections.abc import Mapping
from typing import Final

from gateway.admin.desk import Verb
from gateway.admin.key_requests import REKEY_S, SEEN_S, KeyRequests
from gateway.admin.port_requests import PortRequests

CLOSE_S: Final = 15.0
"""A port whose board is stuck takes so long to close."""

DISK_S: Final = 10.0
"""A key is answered for once it is on the disk."""

_MARGIN_S: Final = 15.0
"""The journal of commands may take so long on a slow disk."""


def make_local_verbs(
    verbs: Mapping[str, Verb], keys: KeyRequests, ports: PortRequests
) -> Mapping[str, Verb]:
    """Return how each request is done, by its verb; `verbs` may be asked for over MQTT, too."""
    return {
        **verbs,
        "keys": Verb(keys.list_all, changes_something=False),
        "keep_key": Verb(keys.keep, longest_s=DISK_S),
        "export_keys": Verb(keys.export),
        "rotate_key": Verb(keys.rotate, longest_s=REKEY_S + SEEN_S + _MARGIN_S),
        "remove_key": Verb(keys.remove, longest_s=DISK_S),
        "lend_port": Verb(ports.lend, longest_s=CLOSE_S),
        "return_port": Verb(ports.give_back),
    }

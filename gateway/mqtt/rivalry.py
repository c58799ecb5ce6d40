"""Notices that somebody else is on the broker in our name, and says so once; pure.

Two gateways of one name take the client id from each other: each connects, is expelled by the
other, and connects again, for ever. Each of them would only see lost connections.
"""

import json
import logging

from gateway.mqtt.connection import Loss

_log = logging.getLogger(__name__)

QUICK_S = 10.0
"""A connection that ended sooner, without a reason, may have been taken by another client."""

QUICK_LOSSES = 5
"""So many of them in a row are not chance: MQTT 3.1.1, and old brokers, never say why."""

CALM_S = 300.0
"""A connection that lasted so long shows that nobody fights for it any more."""

MAX_STATUS_BYTES = 4096
"""A status is some 130 bytes; nothing longer is looked at."""


class Rivalry:
    """What speaks for another client with our client id, or another gateway on our base topic."""

    def __init__(self, client_id: str, base_topic: str, session: str) -> None:
        self._client_id = client_id
        self._base_topic = base_topic
        self._session = session
        self._quick_losses = 0
        self._over_id = self._over_topic = ""
        self._rival_session: object = None

    @property
    def trouble(self) -> str:
        """What is wrong and how to mend it; empty when nothing is."""
        return self._over_id or self._over_topic

    @property
    def is_over_id(self) -> bool:
        """Whether to connect less often: each connection expels the other client."""
        return bool(self._over_id)

    def connection_lost(self, lasted_s: float, loss: Loss, *, may_be_a_message: bool) -> None:
        """Draw conclusions from the end of a connection."""
        self.connection_lasts(lasted_s)
        if loss is not Loss.UNEXPLAINED or lasted_s >= QUICK_S:
            self._quick_losses = 0
        elif not may_be_a_message:
            self._quick_losses += 1
        if loss is Loss.TAKEN_OVER:
            self._tell_of_id("another client uses our client id")
        elif self._quick_losses >= QUICK_LOSSES:
            self._tell_of_id(
                f"the broker ended {QUICK_LOSSES} connections in a row, each within "
                f"{QUICK_S:g} s: perhaps another client uses our client id"
            )

    def connection_lasts(self, for_s: float) -> None:
        """Note for how long the connection has been up."""
        if for_s >= CALM_S:
            self._over_id = ""

    def status_seen(self, payload: bytes) -> bool:
        """Tell whether another gateway says on our status topic that it is online."""
        state, session = _said(payload)
        if state == "offline" and session == self._rival_session:
            self._over_topic = ""
        if state != "online" or session == self._session:
            return False
        self._over_topic = (
            f"another gateway uses the base topic {self._base_topic!r} too: give one of the two "
            "another name in [gateway], or another base_topic in [mqtt]"
        )
        if self._rival_session is None:
            _log.warning("%s", self._over_topic)
        self._rival_session = session or "?"
        return True

    def _tell_of_id(self, what: str) -> None:
        if not self._over_id:
            self._over_id = (
                f"{what}, {self._client_id!r}: if there are two gateways of one name, give one of "
                "them another name in [gateway], or another client_id in [mqtt]"
            )
            _log.warning("%s", self._over_id)


def _said(payload: bytes) -> tuple[object, object]:
    """Return state and session of a status, as far as it is one."""
    if len(payload) > MAX_STATUS_BYTES:
        return None, None
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(said, dict):
        return None, None
    return said.get("state"), said.get("session")

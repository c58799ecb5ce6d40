"""Where an MQTT 5 requester may have its answer: nobody writes others' topics through us; pure."""

import re
from typing import Final

MAX_TOPIC: Final = 512
"""Longest response topic, in characters."""

MAX_LEVELS: Final = 100
"""mosquitto ends a connection on which somebody publishes to a topic of more than 200."""

_NONCHARACTERS = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
_FORBIDDEN = re.compile(rf"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufeff{_NONCHARACTERS}]")
"""Wildcards, and what MQTT 5 (1.5.4) says a topic should not or must not contain: a broker may end
the connection of who publishes there. Of U+FEFF its clients make different things."""


def refusal_of(topic: str, base: str, own: tuple[str, ...] = ()) -> str:
    """Return why nothing is answered on `topic`; nothing if it may be.

    What the gateway may write its requesters may not have it write: below `base` only the branch
    `response` is for answers, and the prefixes `own` (of discovery, for example) are not.
    """
    is_too_much = len(topic) > MAX_TOPIC or topic.count("/") >= MAX_LEVELS
    if not topic or is_too_much or _FORBIDDEN.search(topic) or topic.startswith("$"):
        return "the response topic is none to publish on"
    taken = (base, *own)
    if topic.startswith(f"{base}/response/"):
        return ""
    if any(topic == each or topic.startswith(f"{each}/") for each in taken):
        return f"the response topic must not be one of the gateway's own; {base}/response/... may"
    return ""

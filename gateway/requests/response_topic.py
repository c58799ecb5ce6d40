"""Where an MQTT 5 requester may have its answer: nobody writes others' topics through us; pure."""

import re
from typing import Final

MAX_TOPIC: Final = 512
"""Longest response topic, in characters."""

_FORBIDDEN = re.compile(r"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Wildcards, and what MQTT 5 (1.5.4) says a topic should not or must not contain."""


def refusal_of(topic: str, base: str, own: tuple[str, ...] = ()) -> str:
    """Return why nothing is answered on `topic`; nothing if it may be.

    What the gateway may write its requesters may not have it write: below `base` only the branch
    `response` is for answers, and the prefixes `own` (of discovery, for example) are not.
    """
    if not topic or len(topic) > MAX_TOPIC or _FORBIDDEN.search(topic) or topic.startswith("$"):
        return "the response topic is none to publish on"
    taken = (base, *own)
    if topic.startswith(f"{base}/response/"):
        return ""
    if any(topic == each or topic.startswith(f"{each}/") for each in taken):
        return f"the response topic must not be one of the gateway's own; {base}/response/... may"
    return ""

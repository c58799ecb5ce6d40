"""Why no connection could be made, in words for people; pure."""

import socket
import ssl

REFUSALS = {
    132: "the broker does not speak this version of MQTT; choose the other one",
    133: "the client id is not accepted",
    134: "bad user name or password",
    135: "not authorised; check user name, password and the broker's access list",
    154: "the broker keeps no retained messages, which the gateway needs",
    155: "the broker takes no QoS 1, so it would never confirm a sample",
}
"""Reason codes of CONNACK in words that help; others keep the specification's. MQTT 5, 3.2.2.2."""

NO_RETAIN = 154
NO_QOS_1 = 155

_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "cannot resolve {host!r}"),
    (UnicodeError, "cannot resolve {host!r}: no host can have that name"),
    (ConnectionRefusedError, "connection refused: nothing listens there"),
    (TimeoutError, "no answer in time"),
)
"""Looked through in order; a kind stands before what it is derived from."""


def explain(cause: BaseException, host: str) -> str:
    """Return why the broker at `host` could not be reached."""
    for kind, words in _WORDS:
        if isinstance(cause, kind):
            return words.format(host=host)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause)

"""Why no connection could be made, or a message was not taken, in words for people; pure."""

import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

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

MESSAGE_REFUSALS = {
    135: (
        "not authorised; the broker's access list must let the gateway write there "
        "(edge-gateway mosquitto-acl prints one that does)"
    ),
    144: "the broker does not allow topics of that name",
    151: "a quota of the broker is used up",
}
"""Reason codes of PUBACK in words that help; others keep the specification's. MQTT 5, 3.4.2.1."""

WARNED_BEFORE_S = 30 * 86400.0
"""How long before the broker's certificate expires that is said."""

MAX_NAMES = 5
"""Names of a certificate that are repeated in words; there may be hundreds."""
MAX_NAME = 100
"""Characters of each that are."""

_EXPIRED = 10
_NOT_YET_VALID = 9
_UNKNOWN_AUTHORITY = frozenset({2, 7, 18, 19, 20, 21, 30})
_OTHER_NAME = frozenset({62, 64})
"""Codes of OpenSSL, X509_V_ERR_*: openssl/x509_vfy.h."""

_NO_TLS_THERE = "the broker does not speak TLS on this port; 8883 is usual, and 1883 without TLS"
_HUNG_UP = (
    "the broker hung up instead of answering in TLS: does it speak TLS on this port? 8883 is "
    "usual, and 1883 without TLS"
)
_OLD_TLS = "the broker's TLS is older than 1.2, the oldest that is safe: update the broker"
_NO_CERTIFICATE = "the broker wants a client certificate: set mqtt.cert_file and mqtt.key_file"
_REFUSED = "the broker refuses {certificate}: "

_TLS_WORDS = {
    "WRONG_VERSION_NUMBER": _NO_TLS_THERE,
    "UNEXPECTED_EOF_WHILE_READING": _HUNG_UP,
    "UNSUPPORTED_PROTOCOL": _OLD_TLS,
    "ALERT_PROTOCOL_VERSION": _OLD_TLS,
    "ALERT_CERTIFICATE_REQUIRED": _NO_CERTIFICATE,
    "ALERT_UNKNOWN_CA": f"{_REFUSED}none of its authorities signed it",
    "ALERT_CERTIFICATE_EXPIRED": f"{_REFUSED}it has expired, by the broker's clock; renew it",
    "ALERT_CERTIFICATE_REVOKED": f"{_REFUSED}it was revoked",
    "ALERT_BAD_CERTIFICATE": f"{_REFUSED}it is damaged, or not what the broker asks for",
    "ALERT_UNSUPPORTED_CERTIFICATE": f"{_REFUSED}it is of a kind the broker does not take",
    "ALERT_CERTIFICATE_UNKNOWN": f"{_REFUSED}it does not say why; its log may",
    "ALERT_ACCESS_DENIED": f"{_REFUSED}whoever has it may not connect",
    "ALERT_UNRECOGNIZED_NAME": (
        "the broker has no certificate for {host!r}: set mqtt.tls_server_name to the name it has"
    ),
    "ALERT_NO_APPLICATION_PROTOCOL": (
        "the broker does not know the protocol {alpn!r}: look at mqtt.tls_alpn"
    ),
}
"""By OpenSSL's mnemonics; alerts without the version that stands in front. RFC 8446, 6.2."""

_VAGUE = "ALERT_HANDSHAKE_FAILURE"
"""What brokers that speak TLS 1.2 say if they want a certificate; for other reasons as well."""


class Shown(NamedTuple):
    """A certificate the broker has shown; a stranger's words, until it is trusted."""

    names: tuple[str, ...]
    """Hosts and addresses it is for; else whom it names."""
    issuer: str
    not_before_s: float
    not_after_s: float
    """Unix times between which it is valid."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Take what Python's ssl reads from a certificate."""
        alternatives = tuple(
            str(name)[:MAX_NAME]
            for kind, name in fields.get("subjectAltName", ())
            if kind in {"DNS", "IP Address"}
        )
        return cls(
            alternatives or (_whom(fields.get("subject", ())),),
            _whom(fields.get("issuer", ())),
            ssl.cert_time_to_seconds(fields["notBefore"]),
            ssl.cert_time_to_seconds(fields["notAfter"]),
        )


class TlsAttempt(NamedTuple):
    """What was tried."""

    host: str
    """The name the broker's certificate must have."""
    ca_file: Path | None
    cert_file: Path | None
    alpn: str | None
    shown: Sequence[Shown]
    """What the broker has shown, its own certificate first; empty if that is not known."""
    now_s: float
    """Unix time, by this machine."""


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
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause)


def tls_failure(error: ssl.SSLError | ConnectionError, attempt: TlsAttempt) -> str:
    """Return why TLS failed, what was expected, and what to do."""
    if not isinstance(error, ssl.SSLError):
        return _HUNG_UP
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {_distrust(error, attempt)}"
    reason = error.reason or ""
    if "_ALERT_" in reason:  # SSLV3_ALERT_..., TLSV1_ALERT_..., TLSV13_ALERT_...
        reason = f"ALERT_{reason.partition('_ALERT_')[2]}"
    if reason == _VAGUE and attempt.cert_file is None:
        return f"{_NO_CERTIFICATE} (or it offers no cipher that is safe)"
    certificate = f"our certificate {attempt.cert_file}" if attempt.cert_file else "the gateway"
    words = _TLS_WORDS.get(reason, "TLS failed: {error}")
    return words.format(
        certificate=certificate, host=attempt.host, alpn=attempt.alpn, error=reason or error
    )


def expiry_remark(ends_s: float, now_s: float) -> str:
    """Return that the broker's certificate soon expires, if it does; Unix times."""
    if ends_s - now_s > WARNED_BEFORE_S:
        return ""
    return f"the broker's certificate expires on {_day(ends_s)}: renew it, and those made with it"


def _distrust(error: ssl.SSLCertVerificationError, attempt: TlsAttempt) -> str:
    own = attempt.shown[0] if attempt.shown else None
    code = error.verify_code
    if code in _OTHER_NAME:
        names = ", ".join(own.names[:MAX_NAMES]) if own else "another name"
        return (
            f"it is for {names}, not for {attempt.host}: connect to a name it has, or set "
            "mqtt.tls_server_name to one"
        )
    if code in _UNKNOWN_AUTHORITY:
        who = attempt.ca_file or "the authorities of this system"
        signer = f", but {own.issuer!r}" if own else ""
        return f"{who} did not sign it{signer}: set mqtt.ca_file to the authority that did"
    if code == _EXPIRED:
        ended = [each.not_after_s for each in attempt.shown if each.not_after_s < attempt.now_s]
        when = f"it expired on {_day(min(ended))}" if ended else "an authority of it has expired"
        return f"{when}, and this machine's clock says {_day(attempt.now_s)}: renew it"
    if code == _NOT_YET_VALID:
        begin = [each.not_before_s for each in attempt.shown if each.not_before_s > attempt.now_s]
        when = f"it begins on {_day(max(begin))}" if begin else "it is not yet valid"
        return f"{when}, and this machine's clock says {_day(attempt.now_s)}: is the clock right?"
    return f"{error.verify_message} (OpenSSL's code {code})"


def _day(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M} UTC"


def _whom(name: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Return the most telling part of a distinguished name."""
    parts = {key: value for group in name for key, value in group}
    text = parts.get("commonName") or parts.get("organizationName") or "somebody without a name"
    return text[:MAX_NAME]

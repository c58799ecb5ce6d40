"""The broker as one word on a command line."""

from urllib.parse import unquote, urlsplit

from gateway.errors import ConfigError

_TLS_BY_SCHEME = {"mqtt": False, "mqtts": True}


def parse_broker(text: str) -> dict[str, object]:
    """Return what `mqtt://[user@]host[:port]`, `mqtts://...` or `host[:port]` says of [mqtt].

    Raises:
        ConfigError: it is none of them, or holds a password, which everybody on the machine
            could read in the list of processes.
    """
    url = text if "://" in text else f"mqtt://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"broker: {text}: {_what(str(exc))}") from exc
    if parts.scheme not in _TLS_BY_SCHEME:
        raise ConfigError(f"broker: unknown scheme {parts.scheme}://; use mqtt:// or mqtts://")
    if parts.password is not None:
        raise ConfigError(
            "broker: a password on the command line is visible to everybody; "
            "put it into a file and name that as mqtt.password_file in the configuration"
        )
    if not parts.hostname:
        raise ConfigError("broker: the host is missing; write mqtt://host, or host:port")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError("broker: nothing may follow host and port")
    broker: dict[str, object] = {"host": parts.hostname}
    if port is not None:
        broker["port"] = port
    if "://" in text:
        broker["tls"] = _TLS_BY_SCHEME[parts.scheme]
    if parts.username:
        broker["username"] = unquote(parts.username)
    return broker


def _what(error: str) -> str:
    """Return what the URL's parser means."""
    if error.startswith("Port "):
        return (
            "expected a port of 1 to 65535 behind the last colon; "
            "an address with colons stands in brackets, such as [::1]:1883"
        )
    return error

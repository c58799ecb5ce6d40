"""TLS towards the broker: whom to trust, and whom to be."""

import ssl
from pathlib import Path

from gateway.errors import LinkError
from gateway.mqtt.settings import BrokerSettings


class _TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def client_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Read the certificates; blocks, so call it in a thread.

    The broker must show a certificate for its host name, signed by `ca_file` or, without one, by
    an authority the system trusts.

    Raises:
        LinkError: a file cannot be read or used.
    """
    cert_file = settings.cert_file
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as exc:
        raise LinkError(_reason(settings.ca_file, exc)) from exc
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, settings.key_file, password=_no_password)
        except OSError as exc:
            raise LinkError(_reason(_unreadable(cert_file, settings.key_file), exc)) from exc
    context.sslsocket_class = _TidySocket
    return context


def _no_password() -> bytes:
    """Answer for OpenSSL, which would ask at the terminal and wait."""
    return b""


def _unreadable(cert_file: Path, key_file: Path | None) -> Path:
    """Return which of the two is missing, as OpenSSL does not say; the key, if neither is."""
    return cert_file if key_file is None or not cert_file.is_file() else key_file


def _reason(path: Path | None, cause: OSError) -> str:
    if isinstance(cause, ssl.SSLError):
        return f"{path} is of no use: {cause.reason or cause}"
    return f"cannot read {path}: {cause.strerror}"

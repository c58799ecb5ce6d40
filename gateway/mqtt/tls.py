"""TLS towards the broker: whom to trust, whom to be, and in words why it fails.

A failed handshake is raised as a ConnectionError, as those who connect expect it. A broker that
speaks TLS 1.3 refuses a client's certificate only later, where a socket is read or written; paho
takes each OSError there for a lost connection, so that is raised as a LinkError.
"""

import logging
import re
import ssl
import time
from pathlib import Path
from typing import Any, cast

from gateway.errors import LinkError
from gateway.mqtt.failures import Shown, TlsAttempt, expiry_remark, tls_failure
from gateway.mqtt.settings import BrokerSettings

_log = logging.getLogger(__name__)

MAX_PEM_BYTES = 1 << 20
"""The authorities of a whole system have 0.3 MB."""

_PEM_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_KEY_OF_ANOTHER = "KEY_VALUES_MISMATCH"
"""OpenSSL's mnemonic: X509_R_KEY_VALUES_MISMATCH."""


class _EncryptedKeyError(Exception):
    """OpenSSL has asked for a passphrase."""


class BrokerContext(ssl.SSLContext):
    """How to speak TLS with one broker; made anew for each connection."""

    settings: BrokerSettings

    def wrap_socket(  # noqa: PLR0913, PLR0917 - ssl's signature
        self,
        sock: Any,  # noqa: ANN401 - as in ssl
        server_side: bool = False,  # noqa: FBT001, FBT002 - as in ssl
        do_handshake_on_connect: bool = True,  # noqa: FBT001, FBT002 - as in ssl
        suppress_ragged_eofs: bool = True,  # noqa: FBT001, FBT002 - as in ssl
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """Ask for the name that is configured, instead of the one that is connected to."""
        return super().wrap_socket(
            sock,
            server_side,
            do_handshake_on_connect,
            suppress_ragged_eofs,
            self.settings.tls_server_name or server_hostname,
            session,
        )


class _TellingSocket(ssl.SSLSocket):
    """Says in words why TLS failed, and closes itself then; paho leaves that to the collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        try:
            super().do_handshake(block)
        except (ssl.SSLError, ConnectionError) as exc:
            words = self._words(exc)
            self.close()
            raise ConnectionError(words) from exc
        except BaseException:
            self.close()
            raise
        shown: Any = self.getpeercert()
        if remark := expiry_remark(ssl.cert_time_to_seconds(shown["notAfter"]), time.time()):
            _log.warning("%s", remark)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as exc:
            self._tell_if_refused(exc)
            raise

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401 - whatever ssl takes
        try:
            return super().send(data, flags)
        except (ConnectionError, ssl.SSLEOFError):
            self._read_last_words()
            raise
        except ssl.SSLError as exc:
            self._tell_if_refused(exc)
            raise

    def _tell_if_refused(self, error: ssl.SSLError) -> None:
        # Its subclasses are states of a healthy or a lost connection.
        if type(error) is ssl.SSLError:
            raise LinkError(self._words(error)) from error

    def _read_last_words(self) -> None:
        """Raise the broker's alert, if it sent one before it hung up."""
        try:
            super().recv(1)
        except ssl.SSLError as exc:
            self._tell_if_refused(exc)
        except OSError:
            return

    def _words(self, error: ssl.SSLError | ConnectionError) -> str:
        settings = cast("BrokerContext", self.context).settings
        attempt = TlsAttempt(
            host=str(self.server_hostname),
            ca_file=settings.ca_file,
            cert_file=settings.cert_file,
            alpn=settings.tls_alpn,
            shown=_chain(self),
            now_s=time.time(),
        )
        return tls_failure(error, attempt)


def client_context(settings: BrokerSettings) -> BrokerContext:
    """Read the certificates; blocks, so call it in a thread.

    The broker must show a certificate for its host name, or for the one that is configured, signed
    by `ca_file` or, without one, by an authority the system trusts. TLS 1.2 or newer.

    Raises:
        LinkError: a file cannot be read or used.
    """
    context = BrokerContext(ssl.PROTOCOL_TLS_CLIENT)  # it checks certificate and name
    context.settings = settings
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The same on all versions of Python: newer ones let an intermediate authority be trusted alone.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.sslsocket_class = _TellingSocket
    if settings.ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _trust(context, settings.ca_file)
    if settings.cert_file is not None:
        _be(context, settings.cert_file, settings.key_file)
    if settings.tls_alpn is not None:
        context.set_alpn_protocols([settings.tls_alpn])
    return context


def _trust(context: ssl.SSLContext, ca_file: Path) -> None:
    if b"CERTIFICATE" not in _labels(ca_file):
        raise LinkError(f"{ca_file} (mqtt.ca_file) holds no certificate: it must be PEM")
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError as exc:
        raise LinkError(f"{ca_file} (mqtt.ca_file) is of no use: {exc.reason}") from exc


def _be(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    if b"CERTIFICATE" not in _labels(cert_file):
        raise LinkError(f"{cert_file} (mqtt.cert_file) holds no certificate: it must be PEM")
    holder = key_file or cert_file
    if not any(label.endswith(b"PRIVATE KEY") for label in _labels(holder)):
        which = "mqtt.key_file" if key_file else "mqtt.cert_file, and mqtt.key_file is not set"
        raise LinkError(f"{holder} ({which}) holds no private key: it must be PEM")
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except _EncryptedKeyError as exc:
        raise LinkError(
            f"the key in {holder} is encrypted, and nobody is there to type its passphrase: "
            f"decrypt it (openssl pkey -in {holder} -out NEW), and let only the gateway read it"
        ) from exc
    except ssl.SSLError as exc:
        if exc.reason == _KEY_OF_ANOTHER:
            reason = f"the key in {holder} is not the one of the certificate in {cert_file}"
        else:
            reason = f"{holder} is of no use: {exc.reason}"
        raise LinkError(reason) from exc


def _labels(path: Path) -> set[bytes]:
    """Return the kinds of PEM blocks in a file."""
    try:
        with path.open("rb") as file:
            return set(_PEM_LABEL.findall(file.read(MAX_PEM_BYTES)))
    except OSError as exc:
        raise LinkError(f"cannot read {path}: {exc.strerror}") from exc


def _no_password() -> bytes:
    """Answer for OpenSSL, which would ask at the terminal and wait."""
    raise _EncryptedKeyError


def _chain(sock: ssl.SSLSocket) -> tuple[Shown, ...]:
    """Return the certificates the broker has shown, its own first, whatever they are worth.

    `getpeercert()` has none before they are trusted, so this takes what CPython has below (since
    3.10); where it has not, nothing is known of them, and the words of a failure are fewer.
    """
    get_chain = getattr(getattr(sock, "_sslobj", None), "get_unverified_chain", None)
    chain = get_chain() if get_chain is not None else None
    return tuple(Shown.of(each.get_info()) for each in chain or ())

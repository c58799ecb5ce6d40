"""An authority of one's own, and what it signs: X.509 in the profile that TLS libraries agree on.

Keys are on the curve P-256: every TLS library knows it, and a handshake is cheap on a small
machine. (Ed25519 would do for OpenSSL, but not for mbedTLS, which many a client stands on.)
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import ConfigError

AUTHORITY_DAYS = 3650
LEAF_DAYS = 825
"""What Apple's systems accept at most, also of private authorities."""

BACKDATED = timedelta(hours=1)
"""For clocks that are late."""

MAX_NAME = 64
"""Characters of a common name. RFC 5280, ub-common-name."""

_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?")

_NO_USAGE = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


class Issued(NamedTuple):
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes
    ends: datetime
    """When it expires, UTC."""


class Authority:
    """Signs certificates."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def made(cls, name: str, now: datetime, days: int = AUTHORITY_DAYS) -> Self:
        """Make a new one; `name` should be unlike that of any other."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        usage = x509.KeyUsage(**{**_NO_USAGE, "key_cert_sign": True, "crl_sign": True})
        own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            _begun(subject, subject, key.public_key(), now, timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(own_id, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id),
                critical=False,
            )
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def loaded(cls, certificate: bytes, key: bytes) -> Self:
        """Take one that was made before.

        Raises:
            ConfigError: the two are not an authority and its key.
        """
        try:
            loaded = x509.load_pem_x509_certificate(certificate)
            loaded_key = serialization.load_pem_private_key(key, password=None)
            constraints = loaded.extensions.get_extension_for_class(x509.BasicConstraints)
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as exc:
            raise ConfigError(f"the authority cannot be read: {exc}") from exc
        if not isinstance(loaded_key, ec.EllipticCurvePrivateKey):
            raise ConfigError("the authority's key is not on an elliptic curve")
        if not constraints.value.ca:
            raise ConfigError("the authority's certificate is not that of an authority")
        if loaded_key.public_key() != loaded.public_key():
            raise ConfigError("the authority's key is not that of its certificate")
        return cls(loaded, loaded_key)

    @property
    def issued(self) -> Issued:
        """The authority itself."""
        return _issued(self._certificate, self._key)

    def server(self, hosts: Sequence[str], now: datetime, days: int = LEAF_DAYS) -> Issued:
        """Sign for a broker that is reached by these names and addresses.

        Raises:
            ConfigError: one of them is neither, or the authority has expired.
        """
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._sign(hosts[0], now, days, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self, name: str, now: datetime, days: int = LEAF_DAYS) -> Issued:
        """Sign for a client; a broker takes its name for that of a user.

        Raises:
            ConfigError: it cannot be a name of a user, or the authority has expired.
        """
        if not _CLIENT_NAME.fullmatch(name):
            raise ConfigError(
                f"client {name!r}: letters, digits, `.`, `_`, `@` and `-`, at most {MAX_NAME}"
            )
        return self._sign(name, now, days, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _sign(
        self,
        name: str,
        now: datetime,
        days: int,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
    ) -> Issued:
        left = self._certificate.not_valid_after_utc - (now - BACKDATED)
        if left <= BACKDATED:
            raise ConfigError("the authority has expired; make a new one in another folder")
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(**{**_NO_USAGE, "digital_signature": True})
        lasts = min(timedelta(days=days), left)
        builder = (
            _begun(_name(name), self._certificate.subject, key.public_key(), now, lasts)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(self._own_id(), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return _issued(builder.sign(self._key, hashes.SHA256()), key)

    def _own_id(self) -> x509.AuthorityKeyIdentifier:
        """Return by what certificates name the authority; one of somebody else's may have no id."""
        extensions = self._certificate.extensions
        try:
            own_id = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            own_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lasts: timedelta,
) -> x509.CertificateBuilder:
    begins = now - BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + lasts)
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.not_valid_after_utc,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:MAX_NAME])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not _HOST_NAME.fullmatch(name):
        raise ConfigError(f"host {host!r}: neither a host name nor an address")
    return x509.DNSName(name.removesuffix("."))

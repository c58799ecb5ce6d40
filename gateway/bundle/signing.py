"""A release key's signature over a bundle: Ed25519 over the manifest."""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.bundle.bundle import Bundle
from gateway.errors import BundleError, ConfigError


def signed(bundle: Bundle, key: Ed25519PrivateKey) -> Bundle:
    """Return `bundle` with the signature of `key`."""
    return Bundle(bundle.manifest, bundle.files, key.sign(bundle.manifest))


def check_signature(bundle: Bundle, key: Ed25519PublicKey, where: str) -> None:
    """See that whoever has the release key signed this very bundle.

    Raises:
        BundleError: nobody did, or with another key, or the manifest was changed since.
    """
    if bundle.signature is None:
        raise BundleError(f"{where}: expected a signature, and it has none: ask for a signed one")
    try:
        key.verify(bundle.signature, bundle.manifest)
    except InvalidSignature as exc:
        raise BundleError(
            f"{where}: its signature is not of the key {public_hex(key)[:16]}..., or it was "
            "changed after it was signed; do not use it"
        ) from exc


def public_hex(key: Ed25519PublicKey) -> str:
    """Return a public key as 64 hex digits, as a board's config.json takes it."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def new_key_pem() -> bytes:
    """Return a new release key, PEM; it is not encrypted."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(path: Path) -> Ed25519PrivateKey:
    """Return the release key in a PEM file.

    Raises:
        ConfigError: there is none that can be used.
    """
    key: object = None
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except (ValueError, TypeError) as exc:
        raise ConfigError(f"{path}: expected an Ed25519 key, PEM, not encrypted: {exc}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 key, found another kind")
    return key


def load_public_key(text: str) -> Ed25519PublicKey:
    """Return the public key that `text` is (64 hex digits), or that is in the file it names (PEM).

    A file with the private key does as well.

    Raises:
        ConfigError: there is none that can be used.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        path = Path(text)
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{text}: expected 64 hex digits, or a PEM file: {exc.strerror}") from exc
    if b"PRIVATE KEY" in data:
        return load_key(path).public_key()
    try:
        key = load_pem_public_key(data)
    except ValueError as exc:
        raise ConfigError(f"{path}: expected an Ed25519 key, PEM: {exc}") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: expected an Ed25519 key, found another kind")
    return key

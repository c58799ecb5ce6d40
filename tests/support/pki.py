"""Certificates as a test wants them: made as `edge-gateway certs` does, for any time."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from gateway.cli.certificates import Authority, Issued

HOSTS = ("localhost", "127.0.0.1")


class Pki:
    """An authority, and what it signs, as files in a folder."""

    def __init__(self, folder: Path, name: str = "authority of a test") -> None:
        self._folder = folder
        self._authority = Authority.made(name, datetime.now(UTC))
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._authority.issued.certificate)

    def server(self, stem: str = "server", *, shifted: timedelta = timedelta()) -> tuple[str, str]:
        """Return the lines of mosquitto.conf for a broker; `shifted` moves its 825 days."""
        cert, key = self._write(stem, self._authority.server(HOSTS, datetime.now(UTC) + shifted))
        return f"certfile {cert}", f"keyfile {key}"

    def client(self, name: str, *, shifted: timedelta = timedelta()) -> tuple[Path, Path]:
        """Return certificate and key of a client; `shifted` moves its 825 days."""
        return self._write(name, self._authority.client(name, datetime.now(UTC) + shifted))

    def _write(self, stem: str, issued: Issued) -> tuple[Path, Path]:
        cert, key = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        cert.write_bytes(issued.certificate)
        key.write_bytes(issued.key)
        os.chmod(key, 0o600)
        return cert, key


def encrypted(key: bytes, passphrase: bytes) -> bytes:
    """Return a private key, PEM, as it is kept by people who type a passphrase."""
    return serialization.load_pem_private_key(key, password=None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )

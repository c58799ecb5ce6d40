"""Where the broker is, and how the publisher speaks with it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """One broker; every value has been checked by whoever read it from people."""

    host: str
    port: int
    version: Literal["5", "3.1.1"] = "5"
    client_id: str = ""
    """Empty for `edge-gateway-<gateway>`; two clients with one id would expel each other."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    """Implied by each of the three files."""
    ca_file: Path | None = None
    """Authorities to trust, PEM; None for the system's."""
    cert_file: Path | None = None
    key_file: Path | None = None
    """None when the key is in `cert_file`."""
    tls_server_name: str | None = None
    """The name the broker's certificate must have; None for `host`."""
    tls_alpn: str | None = None
    """Name of the protocol to ask for, where others share the port; None for none."""
    keepalive_s: int = 60
    window: int = 100
    """Messages in flight. Measured with QoS 1: 11,700/s with 10, 15,000 to 17,000/s from 50 on."""
    batch_max: int = 100
    """Samples that may share a message."""
    base_topic: str = "edge/gateway"
    connect_timeout_s: float = 10.0
    """For CONNACK and SUBACK. paho gives up the TCP connection and the TLS handshake after 5 s."""
    ack_timeout_s: float = 30.0
    """A broker that confirms nothing for so long while messages are in flight is given up."""

    @property
    def address(self) -> str:
        """For people."""
        return f"{self.host}:{self.port}"

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls or any((self.ca_file, self.cert_file, self.key_file))

"""The access list and the configuration of a mosquitto for one gateway; pure.

Sources: mosquitto.conf(5) of 2.0 and of 2.1, which deprecates `per_listener_settings`. Without it
`allow_anonymous false` and the access list hold for each listener, one that is added later as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SETTABLE = ("+/set", "+/+/set", "+/command")
"""Below the base topic: what commanders say to devices."""
REQUESTS = "request/+"
"""Below the base topic: what commanders say to the gateway."""

FOLDER = "/etc/mosquitto"
CERTIFICATES = {"cafile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
"""What the broker shows and trusts, in its folder's `certs`."""
ACCESS_LIST = "edge-gateway.acl"
PASSWORDS = "passwords"
PORT = 8883
MAX_PACKET_BYTES = 1 << 20
"""Far above what the gateway sends; it keeps to what the broker says, and splits its histories."""
MAX_IN_FLIGHT = 100
"""mosquitto's default of 20 halves what the gateway can send a second."""


@dataclass(frozen=True, slots=True)
class Parties:
    """Who uses the broker, by the names the broker knows them by."""

    gateway: str
    base_topic: str
    prefix: str | None = None
    """What Home Assistant's discovery topics begin with; None if nothing is announced there."""
    discovery: Sequence[str] = ()
    """Discovery topics the gateway may write; empty for those of all devices of all gateways."""
    subscribers: Sequence[str] = ()
    """Read samples and states, command nothing."""
    commanders: Sequence[str] = ()
    """Read all of the gateway, command devices, and administer it."""
    home_assistant: str | None = None
    """A commander that owns the prefix as well."""


def access_list(parties: Parties) -> Iterator[str]:
    """Yield the lines of the file that says who may read and write what."""
    base = parties.base_topic
    yield f"# mosquitto's access list for the gateway at {base}, by `edge-gateway mosquitto-acl`."
    yield "# Who is not named here may do nothing. A level that varies is a + of its own."
    yield ""
    yield "# The gateway: writes all of its own, hears commands, requests and its own status."
    yield f"user {parties.gateway}"
    yield f"topic write {base}/#"
    for heard in ("status", *SETTABLE, REQUESTS):
        yield f"topic read {base}/{heard}"
    if parties.prefix is not None:
        yield from _announcing(parties.prefix, parties.discovery)
    if parties.subscribers:
        yield ""
        yield "# Subscribers: read everything but the administration, write nothing."
    for name in parties.subscribers:
        yield f"user {name}"
        yield f"topic read {base}/#"
        # A denial goes before what is permitted, wherever it stands.
        yield f"topic deny {base}/request/#"
        yield f"topic deny {base}/response/#"
    commanders = [*parties.commanders]
    if parties.home_assistant is not None:
        commanders.append(parties.home_assistant)
    if commanders:
        yield ""
        yield "# Commanders: read everything, set actuators, command devices and the gateway."
    for name in commanders:
        yield f"user {name}"
        yield f"topic read {base}/#"
        for said in (*SETTABLE, REQUESTS):
            yield f"topic write {base}/{said}"
        if name == parties.home_assistant and parties.prefix is not None:
            yield f"topic readwrite {parties.prefix}/#"


def _announcing(prefix: str, discovery: Sequence[str]) -> Iterator[str]:
    """Yield the lines that let the gateway announce its devices."""
    yield f"topic read {prefix}/status"
    if discovery:
        yield from (f"topic write {topic}" for topic in discovery)
    else:
        yield "# The discovery of every device, other gateways' too: mosquitto has no pattern such"
        yield "# as edge_<gateway>_+. `--device NAME`, for each device, lists only the gateway's."
        yield f"topic write {prefix}/device/+/config"


def configuration(folder: str, *, uses_certificates: bool) -> Iterator[str]:
    """Yield the lines of a mosquitto.conf that lets in who is known, and bounds what they can do.

    Its files are in `folder`. Clients show a certificate, or else a password; both over TLS.
    """
    yield f"# {folder}/mosquitto.conf, whole: put it in the place of the one that is there."
    yield "# For mosquitto 2.0 and newer. Without include_dir: another file might open the broker."
    yield ""
    yield "# Nobody comes in without a name, on no listener."
    yield "allow_anonymous false"
    yield f"acl_file {folder}/{ACCESS_LIST}"
    if not uses_certificates:
        yield f"# A new user, or password: mosquitto_passwd {folder}/{PASSWORDS} NAME"
        yield f"password_file {folder}/{PASSWORDS}"
    yield ""
    yield from listener(folder, uses_certificates=uses_certificates)
    yield "# A client's id is its user's name: nobody takes over the session of another. So each"
    yield "# program needs a user of its own."
    yield "use_username_as_clientid true"
    yield "max_connections 200"
    yield ""
    yield "# What a client can make the broker keep or carry."
    yield f"max_packet_size {MAX_PACKET_BYTES}"
    yield f"max_inflight_messages {MAX_IN_FLIGHT}"
    yield "# Not 0, for no limit: mosquitto 2.0 then hangs up at each message that it may not take."
    yield "max_queued_messages 10000"
    yield f"max_queued_bytes {64 << 20}"
    yield "max_keepalive 3600"
    yield "persistent_client_expiration 14d"
    yield ""
    yield "# Retained messages and sessions outlive a restart."
    yield "persistence true"
    yield "persistence_location /var/lib/mosquitto/"
    yield "# A power cut costs what came since it was last written, acknowledged or not."
    yield "autosave_interval 300"
    yield ""
    yield "log_dest file /var/log/mosquitto/mosquitto.log"
    yield from (f"log_type {kind}" for kind in ("error", "warning", "notice", "information"))
    yield "log_timestamp_format %Y-%m-%dT%H:%M:%S"


def listener(folder: str, *, uses_certificates: bool) -> Iterator[str]:
    """Yield the lines that offer TLS, and take a client's name from its certificate."""
    yield f"listener {PORT}"
    for key, name in CERTIFICATES.items():
        if uses_certificates or key != "cafile":
            yield f"{key} {folder}/certs/{name}"
    yield "tls_version tlsv1.2"
    if uses_certificates:
        yield "require_certificate true"
        yield "use_identity_as_username true"

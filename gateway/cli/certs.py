"""Make certificates for TLS: an authority, the broker's, and one for each client.

The first time it makes the authority (ca.pem, ca.key), a certificate for the broker (server.pem,
server.key) and one for each --client. Later, in the same folder, it adds what is asked for. What is
there is never overwritten without --force, and the authority not even then.
"""

import argparse
import secrets
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from gateway import files
from gateway.cli.certificates import LEAF_DAYS, Authority, Issued
from gateway.cli.commands import OK
from gateway.errors import ConfigError, GatewayError
from gateway.model import slug
from gateway.mqtt.mosquitto import FOLDER, listener

EPILOG = f"""\
examples:
  edge-gateway certs --dir certs --host broker.local --host 192.168.1.5
  edge-gateway certs --dir certs --client homeassistant --client grafana
  edge-gateway certs --dir certs --host broker.local --force     renews the broker's

Each client gets ca.pem and its own two files, the broker ca.pem, server.pem and server.key; ca.key
belongs on neither: whoever has it can be anybody. Keys are readable by their owner only.
Certificates last {LEAF_DAYS} days, the authority ten years.
Exit codes: 0 made, 1 cannot write, 2 wrong usage, or something is there already.
"""

CA, SERVER = "ca", "server"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_DAYS = 3650
GATEWAYS = "edge-gateway-"
"""What the names of gateways begin with, unless somebody has given them other ones."""
HOST_UNKNOWN = "NAME-OF-THE-BROKER"
MAX_PEM_BYTES = 1 << 16


class Pair(NamedTuple):
    """A certificate in its folder, with its key."""

    stem: str
    issued: Issued
    remark: str
    """Whom it is for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the folder, and whom to make certificates for."""
    parser.add_argument(
        "--dir", type=Path, default=Path("certs"), help="where to put them (default: certs)"
    )
    parser.add_argument(
        "--host",
        action="append",
        metavar="NAME",
        help="name or address by which clients reach the broker; may be given more than once "
        "(default: this machine's name, alone and with .local); localhost always works",
    )
    parser.add_argument(
        "--client",
        action="append",
        metavar="NAME",
        help="name of a client, which the broker takes for its user; may be given more than once "
        f"(default, the first time: {default_client()})",
    )
    parser.add_argument(
        "--days",
        type=_days,
        default=LEAF_DAYS,
        metavar="N",
        help=f"how long they last, the authority apart (default: {LEAF_DAYS})",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace certificates of these names, and their keys"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Make what is missing, and say what to do with it."""
    folder: Path = arguments.dir
    is_new = not (folder / f"{CA}.pem").exists() and not (folder / f"{CA}.key").exists()
    hosts = [*arguments.host, *LOOPBACK] if arguments.host else default_hosts() if is_new else []
    hosts = list(dict.fromkeys(hosts))
    clients: list[str] = arguments.client or ([default_client()] if is_new else [])
    if not hosts and not clients:
        raise ConfigError(
            f"{folder}: there is an authority already; name what to add with --host or --client"
        )
    if reserved := {CA, SERVER} & set(clients):
        raise ConfigError(f"client {reserved.pop()!r}: that is the name of another file here")
    stems = [*([CA] if is_new else []), *([SERVER] if hosts else []), *clients]
    _refuse_to_overwrite(folder, stems, is_forced=arguments.force)
    now = datetime.now(UTC)
    authority = _made_authority(now) if is_new else _loaded_authority(folder)
    pairs = list(_pairs(authority, hosts, clients, now, arguments.days))
    if is_new:
        pairs.insert(0, Pair(CA, authority.issued, "the authority"))
    _write(folder, pairs, is_forced=arguments.force)
    print("\n".join(_report(folder, pairs, hosts, clients)))
    return OK


def default_hosts() -> list[str]:
    """Return by what this machine is reached, as far as it knows."""
    name = socket.gethostname().partition(".")[0].lower() or "localhost"
    return [name, f"{name}.local", *LOOPBACK]


def default_client() -> str:
    """Return what the gateway of this machine calls itself on the broker, by default."""
    return f"{GATEWAYS}{slug(socket.gethostname())}"


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_DAYS):
        raise argparse.ArgumentTypeError(f"from 1 to {MAX_DAYS} days, not {text!r}")
    return int(text)


def _made_authority(now: datetime) -> Authority:
    # The number keeps it apart from one made before under the same name.
    return Authority.made(f"edge-gateway authority {secrets.token_hex(4)}", now)


def _loaded_authority(folder: Path) -> Authority:
    parts = []
    for path in (folder / f"{CA}.pem", folder / f"{CA}.key"):
        try:
            with path.open("rb") as file:
                parts.append(file.read(MAX_PEM_BYTES))
        except OSError as exc:
            raise ConfigError(f"{path}: {exc.strerror}; both halves are needed") from exc
    return Authority.loaded(*parts)


def _pairs(
    authority: Authority, hosts: Sequence[str], clients: Sequence[str], now: datetime, days: int
) -> Iterator[Pair]:
    if hosts:
        yield Pair(SERVER, authority.server(hosts, now, days), f"the broker at {', '.join(hosts)}")
    for client in dict.fromkeys(clients):
        yield Pair(client, authority.client(client, now, days), f"client {client!r}")


def _refuse_to_overwrite(folder: Path, stems: Sequence[str], *, is_forced: bool) -> None:
    paths = [folder / f"{stem}.{suffix}" for stem in stems for suffix in ("pem", "key")]
    there = [str(path) for path in paths if path.exists()]
    if there and not is_forced:
        raise ConfigError(f"{', '.join(there)}: there already; --force replaces it")


def _write(folder: Path, pairs: Sequence[Pair], *, is_forced: bool) -> None:
    try:
        files.make_folder(folder)
        for pair in pairs:
            # The key first: a certificate without one would look finished.
            key, pem = folder / f"{pair.stem}.key", folder / f"{pair.stem}.pem"
            files.write_atomically(key, pair.issued.key, is_new=not is_forced)
            files.write_atomically(pem, pair.issued.certificate, 0o644, is_new=not is_forced)
    except FileExistsError as exc:
        raise ConfigError(f"{exc.filename2 or exc.filename}: there already") from exc
    except OSError as exc:
        raise GatewayError(f"{exc.filename or folder}: {exc.strerror}") from exc


def _report(
    folder: Path, pairs: Sequence[Pair], hosts: Sequence[str], clients: Sequence[str]
) -> Iterator[str]:
    where = folder.resolve()
    yield f"made in {where}:"
    for pair in pairs:
        names = f"{pair.stem}.pem, {pair.stem}.key"
        yield f"  {names:32}  {pair.remark}, until {pair.issued.ends:%Y-%m-%d}"
    if any(pair.stem == CA for pair in pairs):
        yield f"Keep {where / 'ca.key'} where nobody else gets at it, and a copy: it makes further"
        yield "certificates, and whoever has it can be anybody."
    if hosts:
        yield ""
        yield "For the broker, as root (`edge-gateway mosquitto-acl` prints all of mosquitto.conf):"
        yield f"  install -D -m 640 -g mosquitto -t {FOLDER}/certs \\"
        yield f"    {where / 'ca.pem'} {where / 'server.pem'} {where / 'server.key'}"
        yield from (f"  {line}" for line in listener(FOLDER, uses_certificates=True))
    if clients:
        # One is enough as an example: most others are no gateways.
        client = next((each for each in clients if each.startswith(GATEWAYS)), clients[0])
        yield ""
        yield f"For {client!r}, if it is a gateway, in gateway.toml (others get the like):"
        yield "  [mqtt]"
        yield f'  host = "{hosts[0] if hosts else HOST_UNKNOWN}"'
        yield f'  ca_file = "{where / "ca.pem"}"'
        yield f'  cert_file = "{where / f"{client}.pem"}"'
        yield f'  key_file = "{where / f"{client}.key"}"'

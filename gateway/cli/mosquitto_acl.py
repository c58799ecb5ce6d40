"""Print the access list and the configuration of a mosquitto for this gateway.

With them only the gateway writes its topics, subscribers read them, and none but commanders and
Home Assistant set actuators, send commands and administer the gateway. Clients show certificates
(`edge-gateway certs` makes them) or passwords, over TLS; the broker lets in nobody else.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gateway import __version__
from gateway.cli.commands import OK
from gateway.config.loader import load_elsewhere
from gateway.config.models import Settings
from gateway.errors import ConfigError
from gateway.model import slug
from gateway.mqtt.homeassistant.naming import Site
from gateway.mqtt.mosquitto import ACCESS_LIST, FOLDER, Parties, access_list, configuration

EPILOG = """\
examples:
  edge-gateway mosquitto-acl gateway.toml --homeassistant homeassistant --subscriber grafana
  edge-gateway mosquitto-acl gateway.toml --part acl > /etc/mosquitto/edge-gateway.acl
  edge-gateway mosquitto-acl gateway.toml --part conf > /etc/mosquitto/mosquitto.conf

The two files go to the broker's machine; its user alone should read the access list (chown
mosquitto, chmod 600). Several gateways share a broker: append the access list of each.
After a change of base_topic or prefix keep the gateway's old lines for two hours: it clears what it
left there.
Exit codes: 0 printed, 2 wrong usage or configuration.
"""

_NO_USER = re.compile(r"[\x00-\x1f\x7f+#/]|^\s|\s$")
"""What the broker does not take in a user's name, or would read otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the configuration, and who else uses the broker."""
    parser.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG", help="the gateway's configuration, TOML"
    )
    parser.add_argument(
        "--subscriber",
        action="append",
        default=[],
        metavar="NAME",
        help="a user who may read everything but the administration; may be given more than once",
    )
    parser.add_argument(
        "--commander",
        action="append",
        default=[],
        metavar="NAME",
        help="a user who may command devices and the gateway too; may be given more than once",
    )
    parser.add_argument(
        "--homeassistant", metavar="NAME", help="Home Assistant's user: a commander, with discovery"
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="the gateway's own user (default: mqtt.username, or its client id)",
    )
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        metavar="NAME",
        help="permit the gateway the discovery of this device only; may be given more than once",
    )
    parser.add_argument(
        "--login",
        choices=("certificate", "password"),
        help="what clients show (default: password, if the configuration has one and no "
        "certificate)",
    )
    parser.add_argument(
        "--part", choices=("acl", "conf"), help="print only one of the files (default: both)"
    )
    parser.add_argument(
        "--folder",
        default=FOLDER,
        metavar="DIR",
        help=f"where the broker's files are, certificates in certs below it (default: {FOLDER})",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print them."""
    settings = load_elsewhere(arguments.config)
    access = list(access_list(_parties(settings, arguments)))
    uses_certificates = _uses_certificates(settings, arguments)
    conf = list(configuration(arguments.folder, uses_certificates=uses_certificates))
    where = f"{arguments.folder}/{ACCESS_LIST}"
    both = [*access, "", f"# {'=' * 20} above {where}, below mosquitto.conf {'=' * 20}", *conf]
    parts = {"acl": access, "conf": conf, None: both}
    print("\n".join(parts[arguments.part]))
    return OK


def _parties(settings: Settings, arguments: argparse.Namespace) -> Parties:
    home = settings.homeassistant
    site = Site(settings.gateway.name, settings.base_topic, home.prefix, __version__)
    devices = ["", *map(slug, arguments.device)] if arguments.device else []
    parties = Parties(
        gateway=arguments.user or settings.mqtt.username or settings.client_id,
        base_topic=settings.base_topic,
        prefix=home.prefix if home.enabled else None,
        discovery=[site.discovery_topic(device) for device in devices],
        subscribers=arguments.subscriber,
        commanders=arguments.commander,
        home_assistant=arguments.homeassistant,
    )
    users = list(_users(parties))
    for name in users:
        if not name or _NO_USER.search(name):
            raise ConfigError(f"{name!r} cannot be the name of a user: no +, # or /")
    name, times = Counter(users).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"{name!r} is named twice; each program needs a user of its own")
    return parties


def _users(parties: Parties) -> Iterator[str]:
    yield parties.gateway
    yield from parties.subscribers
    yield from parties.commanders
    if parties.home_assistant is not None:
        yield parties.home_assistant


def _uses_certificates(settings: Settings, arguments: argparse.Namespace) -> bool:
    if arguments.login is not None:
        return bool(arguments.login == "certificate")
    mqtt = settings.mqtt
    return bool(mqtt.cert_file) or not (mqtt.password_file or mqtt.password_credential)

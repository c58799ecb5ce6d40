"""Can the broker be found, reached and trusted, does it let us in, and write what must be written?

Nothing is harmed. The client id is one of our own; where a broker might take the user's name for
it, and the gateway is connected, there is no second login, for it would expel the gateway. Written
is only what stands on the gateway's status topic already, or, where nothing does, that it is
offline, which is true then and is taken away again.
"""

import asyncio
import logging
import re
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from gateway.doctor.case import Case
from gateway.doctor.connected import is_connected
from gateway.doctor.finding import Tell, error, ok, warning
from gateway.doctor.processes import gateway_of, rights_of
from gateway.doctor.trial import Mend, Post, Trial
from gateway.errors import LinkError
from gateway.links.threads import Call
from gateway.mqtt import tls, topics
from gateway.mqtt.client_lock import ClientLock
from gateway.mqtt.connection import Connection
from gateway.mqtt.failures import NO_QOS_1, NO_RETAIN, REFUSALS, explain
from gateway.mqtt.incoming import Listener
from gateway.mqtt.settings import BrokerSettings

WHERE = "broker"

_RESOLVE_S = 6.0
_CONNECT_S = 5.0
_LEAVE_S = 5.0
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_PERSISTENCE = re.compile(r"^\s*persistence\s+(true|false)\s*$", re.MULTILINE)


async def look(case: Case, tell: Tell) -> None:
    """Go the way to the broker step by step; the first that fails ends it."""
    settings = case.broker
    if settings is None:
        tell(warning(WHERE, "not looked at: the configuration cannot be read", case.first))
        return
    where = f"{WHERE} {settings.address}"
    addresses = await _resolve(case, settings, where, tell)
    if not addresses or not await _reach(settings, where, tell):
        return
    if case.no_password:
        tell(
            warning(where, "it answers; not logged in, for want of a secret", f"sudo {case.again}")
        )
        return
    is_held, is_connected_here = await Call(partial(_gateway, case, settings, addresses)).result()
    if is_connected_here and _has_a_name(settings):
        tell(
            ok(
                where,
                "the gateway is connected; there was no second login, for a broker may take the "
                f"user's name for the client id (stop the gateway, then {case.again}, for more)",
            )
        )
        return
    if await _visit(case, settings, where, tell, is_held=is_held):
        await Call(partial(_look_at_persistence, case, settings, where, tell)).result()


async def _resolve(case: Case, settings: BrokerSettings, where: str, tell: Tell) -> Sequence[str]:
    ask = partial(socket.getaddrinfo, settings.host, settings.port, type=socket.SOCK_STREAM)
    mend = f"getent hosts {settings.host}    # else set host in [mqtt] of {case.file} to an address"
    if settings.host.endswith(".local"):
        mend = f"sudo apt install libnss-mdns    # {settings.host} is told by mDNS; or an address"
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await Call(ask).result()
    except (OSError, UnicodeError) as exc:
        tell(error(where, explain(exc, settings.host), mend, got=str(exc)))
        return []
    except TimeoutError:
        tell(error(where, "no name server answers", "resolvectl status; ip route"))
        return []
    return sorted({str(each[4][0]) for each in found})


async def _reach(settings: BrokerSettings, where: str, tell: Tell) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(settings.host, settings.port)
    except ConnectionRefusedError as exc:
        here = settings.host in _THIS_MACHINE
        mend = (
            "sudo systemctl enable --now mosquitto    # or: sudo apt install mosquitto"
            if here
            else f"ssh {settings.host} sudo systemctl status mosquitto    # it also needs a line "
            f"`listener {settings.port}`: without, mosquitto 2 listens to its own machine only"
        )
        tell(error(where, explain(exc, settings.host), mend))
        return False
    except (OSError, TimeoutError) as exc:
        what = f"cannot be reached: {explain(exc, settings.host)}"
        mend = f"ping -c 3 {settings.host}; ip route    # a firewall, or the wrong host?"
        tell(error(where, what, mend))
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _gateway(case: Case, settings: BrokerSettings, addresses: Sequence[str]) -> tuple[bool, bool]:
    """Return whether a gateway of this client id runs on this machine, and is connected."""
    proc = case.machine.proc
    lock = ClientLock(settings.address, settings.client_id)
    if not lock.is_held(proc / "net" / "unix"):
        return False, False
    gateway = gateway_of(proc, case.config) if case.config else None
    rights = rights_of(proc, gateway) if gateway else None
    users = {rights.user} if rights else set()  # else whoever is connected may be the gateway
    return True, is_connected(addresses, settings.port, users, proc)


def _has_a_name(settings: BrokerSettings) -> bool:
    """Tell whether a broker could take another thing than our client id for our name.

    mosquitto's `use_username_as_clientid`, which `mosquitto-acl` sets, makes of two clients with
    the credentials of one user one client, of which the second expels the first.
    """
    return any((settings.username, settings.password, settings.cert_file))


async def _visit(
    case: Case, settings: BrokerSettings, where: str, tell: Tell, *, is_held: bool
) -> bool:
    """Log in, try, and leave; tell whether we got in."""
    ours = replace(
        settings,
        client_id=f"{settings.client_id}-doctor-{secrets.token_hex(3)}",
        connect_timeout_s=_CONNECT_S,
    )
    post = Post()
    try:
        with _overheard() as remarks:
            connection = await Connection.open(ours, ours.client_id, None, Listener(post.take))
    except LinkError as exc:
        reason = str(exc)
        tell(error(where, reason, _mend(case, settings, reason)))
        return False
    connection.on_acks = post.acked
    connection.lost.add_done_callback(lambda _lost: post.wake())
    try:
        how = "with TLS" if settings.uses_tls else "without TLS"
        whom = f"as {settings.username!r}" if settings.username else "without a user name"
        tell(ok(where, f"lets us in {whom}, {how}"))
        for remark in remarks:
            mend = f"edge-gateway certs --force --host {settings.host}    # where ca.key is"
            tell(warning(where, remark, mend))
        topic = f"{settings.base_topic}/{topics.STATUS}"
        reason, how_to = await Trial(connection, post, topic, case.machine.retained_s).trouble(
            is_held=is_held
        )
        if reason and connection.lost.done():
            reason, how_to = f"the broker ended it: {connection.lost.result()}", Mend.LOG
        if reason:
            tell(error(f"{WHERE} {topic}", reason, _command(case, settings, how_to)))
        else:
            tell(ok(f"{WHERE} {topic}", "may be written and read, and is retained"))
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await connection.leave()
        connection.close()
    return True


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Give what is remarked of the broker's certificate, and is no reason not to connect."""
    remarks: list[str] = []

    class _Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            remarks.append(record.getMessage())

    log, keep = logging.getLogger(tls.__name__), _Keep()
    level, propagates = log.level, log.propagate
    log.setLevel(logging.WARNING)
    log.propagate = False
    log.addHandler(keep)
    try:
        yield remarks
    finally:
        log.removeHandler(keep)
        log.setLevel(level)
        log.propagate = propagates


def _command(case: Case, settings: BrokerSettings, mend: Mend) -> str:
    return mend.value.format(file=case.file, host=settings.host)


def _mend(case: Case, settings: BrokerSettings, reason: str) -> str:
    """Return what mends why a broker that can be reached does not let us in."""
    at = f"{settings.host}:{settings.port}"
    certificate = f"openssl s_client -connect {at} -showcerts </dev/null"
    table = (
        ("clock right", "sudo timedatectl set-ntp true"),
        (
            "expired on",
            f"edge-gateway certs --force --host {settings.host}    # where ca.key is",
        ),
        ("mqtt.ca_file to", f"{certificate}    # who signed it; then ca_file in {case.file}"),
        ("connect to a name", f"{certificate} | openssl x509 -noout -ext subjectAltName"),
        (
            "client certificate",
            f"edge-gateway certs --client {settings.client_id}    # where ca.key is",
        ),
        ("does not speak TLS", f"sudoedit {case.file}    # port, and tls, in [mqtt]"),
        ("speak TLS on this port", f"sudoedit {case.file}    # port, and tls, in [mqtt]"),
        (REFUSALS[134], _password(case, settings)),
        (REFUSALS[135], _password(case, settings)),
        (REFUSALS[132], f'sudoedit {case.file}    # version in [mqtt]: "5" or "3.1.1"'),
        (REFUSALS[133], f"sudoedit {case.file}    # client_id in [mqtt]"),
        (REFUSALS[NO_RETAIN], "sudoedit /etc/mosquitto/mosquitto.conf    # retain_available true"),
        (REFUSALS[NO_QOS_1], "sudoedit /etc/mosquitto/mosquitto.conf    # max_qos 2"),
        ("is it an MQTT", f"sudoedit {case.file}    # port in [mqtt]: 1883, or 8883 with TLS"),
        ("connection lost", f"sudoedit {case.file}    # port, and tls, in [mqtt]: 8883 speaks TLS"),
        ("does not answer as MQTT", f"sudoedit {case.file}    # port, tls and version in [mqtt]"),
        (".pem", f"ls -l {settings.ca_file or ''} {settings.cert_file or ''}"),
    )
    return next(
        (mend for words, mend in table if words in reason),
        f"ssh {settings.host} journalctl -u mosquitto -n 50",
    )


def _password(case: Case, settings: BrokerSettings) -> str:
    if settings.username is None and settings.cert_file is None:
        return f"sudoedit {case.file}    # username and password_file in [mqtt]"
    name = settings.username or settings.client_id
    return (
        f"sudo mosquitto_passwd /etc/mosquitto/passwords {name}    # on the broker; the same in "
        "mqtt.password_file here"
    )


def _look_at_persistence(case: Case, settings: BrokerSettings, where: str, tell: Tell) -> None:
    """Look whether a mosquitto of this machine remembers over a restart; others do not tell."""
    folder = case.machine.etc / "mosquitto"
    if settings.host not in _THIS_MACHINE:
        return
    said = ""
    for path in (folder / "mosquitto.conf", *sorted(folder.glob("conf.d/*.conf"))):
        with suppress(OSError):
            said = next(reversed(_PERSISTENCE.findall(_text(path))), said)
    if said != "true" and (folder / "mosquitto.conf").exists():
        tell(
            warning(
                where,
                "it forgets what is retained, and what waits for others, when it is restarted",
                "echo 'persistence true' | sudo tee /etc/mosquitto/conf.d/persistence.conf && sudo "
                "systemctl restart mosquitto",
                expected="persistence true",
                got=f"persistence {said or 'not set'}",
            )
        )


def _text(path: Path) -> str:
    return path.read_text(errors="replace")

"""`doctor` on the way to the broker: a real mosquitto, which refuses in one way after the other."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.certificates import LEAF_DAYS
from gateway.doctor.broker import look
from gateway.doctor.case import Case, Machine
from gateway.doctor.finding import Finding, Severity
from gateway.mqtt.client_lock import ClientLock
from gateway.mqtt.connection import Connection
from gateway.mqtt.incoming import Incoming
from gateway.mqtt.mosquitto import Parties, access_list
from gateway.mqtt.settings import BrokerSettings
from tests.support.broker import HOST, Broker, free_port
from tests.support.doctor import findings, no_complaint, the_only
from tests.support.pki import Pki

USER, PASSWORD = "edge-gateway-test", "correct horse battery staple"
BASE = "edge/test"
STATUS = f"{BASE}/status"
CONFIG = Path("/nowhere/gateway.toml")
"""Of a gateway that does not run: on this machine one may, with the usual file."""
ONLINE = json.dumps({"state": "online", "session": "1f", "version": "9"}).encode()
WAIT_S = 15.0
SHORT_S = 0.3
"""Where nothing is retained; what is late then is noticed by what is written."""


def case(port: int, host: str = HOST, **changed: Any) -> Case:  # noqa: ANN401 - of the settings
    settings = BrokerSettings(host, port, client_id=USER, base_topic=BASE)
    machine = Machine(etc=Path("/nowhere"), retained_s=SHORT_S)
    return Case(broker=replace(settings, **changed), config=CONFIG, machine=machine)


def patient(examined: Case) -> Case:
    """Return a case in which something is retained, which may take its time."""
    return replace(examined, machine=replace(examined.machine, retained_s=WAIT_S))


async def test_what_is_retained_and_comes_late_is_not_overwritten(broker: Broker) -> None:
    await retain(broker, STATUS, ONLINE)
    examined = case(broker.port)

    hasty = replace(examined, machine=replace(examined.machine, retained_s=0.0))
    no_complaint(await findings(look, hasty))

    async with visitor(broker) as connection:
        assert await newest(connection, STATUS) == ONLINE


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@asynccontextmanager
async def visitor(
    broker: Broker, name: str = "visitor", username: str | None = None, password: str | None = None
) -> AsyncIterator[Connection]:
    """Have another client connected, which reads nothing."""
    settings = BrokerSettings(HOST, broker.port, username=username, password=password)
    async with asyncio.timeout(WAIT_S):
        connection = await Connection.open(settings, name, None)
    try:
        yield connection
    finally:
        await connection.leave()
        connection.close()


async def retain(broker: Broker, topic: str, payload: bytes) -> None:
    async with visitor(broker) as connection:
        answered = asyncio.Event()
        connection.on_acks = lambda _acks: answered.set()
        connection.publish(topic, payload, retain=True)
        async with asyncio.timeout(WAIT_S):
            await answered.wait()


# The way there.


async def test_a_name_that_nobody_knows_is_told() -> None:
    accused = the_only(
        Severity.ERROR, await findings(look, case(1883, host="no-such-host.invalid"))
    )

    assert accused.what == "cannot resolve 'no-such-host.invalid'"
    assert accused.mend.startswith("getent hosts no-such-host.invalid")


async def test_a_broker_that_is_not_there_is_told() -> None:
    port = free_port()

    accused = the_only(Severity.ERROR, await findings(look, case(port, host="localhost")))

    assert accused.where == f"broker localhost:{port}"
    assert accused.what == "connection refused: nothing listens there"
    assert accused.mend.startswith("sudo systemctl enable --now mosquitto")


async def test_what_listens_and_is_no_broker_is_told() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        accused = the_only(Severity.ERROR, await findings(look, case(port)))

    assert accused.mend.startswith(f"sudoedit {CONFIG}    # port")


# All is well.


async def test_a_broker_on_which_all_is_well_is_not_accused_and_left_as_it_was(
    broker: Broker,
) -> None:
    told = await findings(look, case(broker.port))
    after = await findings(look, case(broker.port))

    no_complaint(told)
    no_complaint(after)
    assert [each.where for each in told] == [f"broker {HOST}:{broker.port}", f"broker {STATUS}"]
    assert told[1].what == "may be written and read, and is retained"
    async with visitor(broker) as connection:
        assert await newest(connection, STATUS) is None


async def newest(connection: Connection, topic: str) -> bytes | None:
    """Return what is retained on a topic; a message of our own tells when all has come."""
    seen: list[tuple[bytes, bool]] = []
    arrived = asyncio.Event()

    def take(message: Incoming) -> None:
        seen.append((message.payload, message.is_retained))
        message.done()
        arrived.set()

    connection._listener = connection._listener._replace(take=take)  # noqa: SLF001 - heard late
    await connection.subscribe([topic])
    connection.publish(topic, b"marker", retain=False)
    async with asyncio.timeout(WAIT_S):
        while (b"marker", False) not in seen:
            arrived.clear()
            await arrived.wait()
    return next((payload for payload, is_retained in seen if is_retained), None)


async def test_what_stands_there_is_what_stands_there_afterwards(broker: Broker) -> None:
    await retain(broker, STATUS, ONLINE)

    no_complaint(await findings(look, patient(case(broker.port))))

    async with visitor(broker) as connection:
        assert await newest(connection, STATUS) == ONLINE
    written = [line for line in broker.log().splitlines() if "Received PUBLISH" in line]
    doctors = [line for line in written if f"{USER}-doctor-" in line]
    assert len(doctors) == 1
    assert "q1, r0" in doctors[0]
    assert f"({len(ONLINE)} bytes)" in doctors[0]


# It does not let us in.


def protected(
    program: Path, folder: Path, acl: list[str], *lines: str, users: tuple[str, ...] = (USER,)
) -> Broker:
    """Return a broker with passwords and an access list, which is not running yet."""
    folder.mkdir()
    (folder / "passwords").write_text("".join(f"{_password_line(user)}\n" for user in users))
    (folder / "acl").write_text("\n".join([*acl, ""]))
    for name in ("passwords", "acl"):
        (folder / name).chmod(0o600)
    settings = [
        "allow_anonymous false",
        f"password_file {folder}/passwords",
        f"acl_file {folder}/acl",
        *lines,
    ]
    return Broker(program, folder, settings=settings)


def _password_line(user: str) -> str:
    """Return a line of mosquitto's password file. Source: mosquitto_passwd.c, hash type 7."""
    salt, rounds = b"twelve bytes", 101
    digest = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), salt, rounds)
    return (
        f"{user}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
    )


@pytest.fixture
def hardened(mosquitto_bin: Path, tmp_path: Path) -> Iterator[Broker]:
    """Run a broker as `mosquitto-acl` makes it: a user's name is the client id."""
    acl = list(access_list(Parties(USER, BASE)))
    broker = protected(mosquitto_bin, tmp_path / "m", acl, "use_username_as_clientid true")
    broker.start()
    yield broker
    broker.stop()


async def test_a_wrong_password_is_told_and_not_shown(hardened: Broker) -> None:
    settings = case(hardened.port, username=USER, password="guessed wrong")  # noqa: S106 - it is

    accused = the_only(Severity.ERROR, await findings(look, settings))

    assert "bad user name or password" in accused.what or "not authorised" in accused.what
    assert accused.mend.startswith(f"sudo mosquitto_passwd /etc/mosquitto/passwords {USER} ")
    assert "guessed wrong" not in repr(accused)


async def test_no_password_at_all_is_told_with_the_keys_to_set(hardened: Broker) -> None:
    accused = the_only(Severity.ERROR, await findings(look, case(hardened.port)))

    assert accused.mend == f"sudoedit {CONFIG}    # username and password_file in [mqtt]"


async def test_the_access_list_that_mosquitto_acl_prints_is_enough(hardened: Broker) -> None:
    told = await findings(look, case(hardened.port, username=USER, password=PASSWORD))

    no_complaint(told)
    assert told[0].what == f"lets us in as {USER!r}, without TLS"


@pytest.mark.parametrize(
    ("acl", "words"),
    [
        ([f"user {USER}", f"topic read {BASE}/status"], "may not be written: not authorised"),
        ([f"user {USER}", f"topic write {BASE}/#"], "does not come back"),
    ],
)
async def test_an_access_list_that_forbids_is_told_with_one_that_does_not(
    mosquitto_bin: Path, tmp_path: Path, acl: list[str], words: str
) -> None:
    broker = protected(mosquitto_bin, tmp_path / "m", acl)
    broker.start()
    try:
        told = await findings(look, case(broker.port, username=USER, password=PASSWORD))
    finally:
        broker.stop()

    accused = the_only(Severity.ERROR, told)
    assert accused.where == f"broker {STATUS}"
    assert words in accused.what
    assert accused.mend.startswith(f"edge-gateway mosquitto-acl {CONFIG} --part acl")


async def test_a_status_that_may_not_be_read_is_not_overwritten(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    acl = [f"user {USER}", f"topic write {BASE}/#", "user reader", f"topic readwrite {BASE}/#"]
    broker = protected(mosquitto_bin, tmp_path / "m", acl, users=(USER, "reader"))
    broker.start()
    try:
        async with visitor(broker, "reader", username="reader", password=PASSWORD) as reader:
            reader.publish(STATUS, ONLINE, retain=True)
            assert await newest(reader, STATUS) == ONLINE
            await findings(look, case(broker.port, username=USER, password=PASSWORD))
            assert await newest(reader, STATUS) == ONLINE
    finally:
        broker.stop()


async def test_a_broker_that_retains_nothing_is_told(mosquitto_bin: Path, tmp_path: Path) -> None:
    with Broker.running(mosquitto_bin, tmp_path, settings=["retain_available false"]) as broker:
        accused = the_only(Severity.ERROR, await findings(look, case(broker.port)))

    assert "keeps no retained messages" in accused.what
    assert "retain_available true" in accused.mend


# TLS.


async def test_an_authority_that_did_not_sign_is_told(
    mosquitto_bin: Path, tmp_path: Path, pki: Pki
) -> None:
    other = Pki(tmp_path / "other", "another authority")
    with Broker.running(mosquitto_bin, tmp_path, settings=pki.server()) as broker:
        right = await findings(look, case(broker.port, ca_file=pki.ca_file))
        wrong = await findings(look, case(broker.port, ca_file=other.ca_file))
        clear = await findings(look, case(broker.port))

    no_complaint(right)
    accused = the_only(Severity.ERROR, wrong)
    assert f"{other.ca_file} did not sign it" in accused.what
    assert accused.mend.startswith(f"openssl s_client -connect {HOST}:{broker.port} -showcerts")
    assert "tls" in the_only(Severity.ERROR, clear).mend


@pytest.mark.parametrize(
    ("shifted", "words", "mend"),
    [
        (timedelta(days=-1095), "it expired on", f"edge-gateway certs --force --host {HOST}"),
        (timedelta(days=1095), "is the clock right?", "sudo timedatectl set-ntp true"),
    ],
)
async def test_a_certificate_out_of_its_time_is_told(  # noqa: PLR0913, PLR0917 - two parts, three facts
    mosquitto_bin: Path, tmp_path: Path, pki: Pki, shifted: timedelta, words: str, mend: str
) -> None:
    lines = pki.server("old", shifted=shifted)
    with Broker.running(mosquitto_bin, tmp_path, settings=lines) as broker:
        told = await findings(look, case(broker.port, ca_file=pki.ca_file))

    accused = the_only(Severity.ERROR, told)
    assert words in accused.what
    assert accused.mend.startswith(mend)


async def test_a_certificate_that_soon_expires_is_worth_a_look(
    mosquitto_bin: Path, tmp_path: Path, pki: Pki
) -> None:
    lines = pki.server("aging", shifted=timedelta(days=20 - LEAF_DAYS, hours=12))
    with Broker.running(mosquitto_bin, tmp_path, settings=lines) as broker:
        told = await findings(look, case(broker.port, ca_file=pki.ca_file))

    accused = the_only(Severity.WARNING, told)
    assert accused.what.startswith("the broker's certificate expires on ")
    assert accused.mend.startswith(f"edge-gateway certs --force --host {HOST}")


# Beside a running gateway.


async def test_a_gateway_that_is_connected_is_not_expelled(hardened: Broker) -> None:
    examined = case(hardened.port, username=USER, password=PASSWORD)
    assert examined.broker is not None
    lock = ClientLock(examined.broker.address, USER)
    with lock:
        async with visitor(hardened, USER, username=USER, password=PASSWORD) as gateway:
            told = await findings(look, examined)
            assert not gateway.lost.done()
        disconnected = await findings(look, examined)
    without_lock = await findings(look, examined)

    no_complaint(told)
    assert "the gateway is connected; there was no second login" in told[0].what
    assert "Sending CONNACK" in hardened.log()
    assert _logins(told) == 0
    assert _logins(disconnected) == _logins(without_lock) == 1
    no_complaint(without_lock)
    # The gateway runs and has no status: that is worth a word, and nothing is written.
    assert "the gateway runs here" in the_only(Severity.ERROR, disconnected).what


def _logins(told: list[Finding]) -> int:
    return sum("lets us in" in each.what for each in told)


async def test_without_credentials_our_own_client_id_is_enough(broker: Broker) -> None:
    await retain(broker, STATUS, ONLINE)
    examined = patient(case(broker.port))
    assert examined.broker is not None
    with ClientLock(examined.broker.address, USER):
        async with visitor(broker, USER) as gateway:
            no_complaint(await findings(look, examined))
            assert not gateway.lost.done()


async def test_a_secret_that_only_the_service_gets_is_no_reason_to_accuse_the_broker(
    broker: Broker,
) -> None:
    examined = replace(case(broker.port), no_password="mqtt.password_credential: not here")  # noqa: S106 - words

    accused = the_only(Severity.WARNING, await findings(look, examined))

    assert accused.what == "it answers; not logged in, for want of a secret"
    assert f"{USER}-doctor" not in broker.log()


# A mosquitto of this machine.


@pytest.mark.parametrize(
    ("lines", "is_accused"),
    [("persistence true\n", False), ("persistence false\n", True), ("", True)],
)
async def test_a_local_mosquitto_that_forgets_is_worth_a_word(
    broker: Broker, tmp_path: Path, lines: str, is_accused: bool
) -> None:
    (tmp_path / "etc" / "mosquitto").mkdir(parents=True)
    (tmp_path / "etc" / "mosquitto" / "mosquitto.conf").write_text(lines)
    examined = replace(case(broker.port), machine=Machine(etc=tmp_path / "etc", retained_s=SHORT_S))

    told = await findings(look, examined)

    if is_accused:
        assert "persistence true" in the_only(Severity.WARNING, told).mend
    else:
        no_complaint(told)

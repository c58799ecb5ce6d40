"""TLS with a real mosquitto: what goes wrong is told with what was expected, and what would do."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.cli.certificates import LEAF_DAYS
from gateway.errors import LinkError
from gateway.mqtt.connection import Connection
from gateway.mqtt.settings import BrokerSettings
from tests.support.broker import Broker
from tests.support.pki import Pki, encrypted

WAIT_S = 15.0
YEARS = timedelta(days=3 * 365)
"""More than certificates last."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def other_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("other"), "another authority")


@contextlib.asynccontextmanager
async def opened(settings: BrokerSettings) -> AsyncIterator[Connection]:
    async with asyncio.timeout(WAIT_S):
        connection = await Connection.open(settings, "test", ("e/status", b"offline"))
        try:
            yield connection
        finally:
            connection.close()


async def failure(settings: BrokerSettings) -> str:
    """Return why no connection could be opened."""
    with pytest.raises(LinkError) as error:
        async with opened(settings):
            pass
    return str(error.value)


def settings_for(port: int, pki: Pki, client: str = "", host: str = "127.0.0.1") -> BrokerSettings:
    cert_file, key_file = pki.client(client) if client else (None, None)
    return BrokerSettings(
        host, port, ca_file=pki.ca_file, cert_file=cert_file, key_file=key_file, tls=True
    )


# The broker's certificate.


async def test_an_authority_that_did_not_sign_the_broker_s_is_told_with_the_one_that_did(
    mosquitto_bin: Path, tmp_path: Path, pki: Pki, other_pki: Pki
) -> None:
    with Broker.running(mosquitto_bin, tmp_path, settings=pki.server()) as broker:
        of_a_file = await failure(settings_for(broker.port, other_pki))
        of_the_system = await failure(BrokerSettings("127.0.0.1", broker.port, tls=True))

    why = "the broker's certificate is not trusted: {} did not sign it, but 'authority of a test'"
    assert of_a_file.startswith(why.format(other_pki.ca_file))
    assert of_the_system.startswith(why.format("the authorities of this system"))
    assert of_a_file.endswith("set mqtt.ca_file to the authority that did")


async def test_an_authority_of_the_same_name_is_not_the_same(
    mosquitto_bin: Path, tmp_path: Path, pki: Pki
) -> None:
    namesake = Pki(tmp_path / "namesake")
    with Broker.running(mosquitto_bin, tmp_path, settings=pki.server()) as broker:
        reason = await failure(settings_for(broker.port, namesake))

    assert f"not trusted: {namesake.ca_file} did not sign it" in reason


@pytest.mark.parametrize(
    ("shifted", "words"),
    [
        (-YEARS, ("not trusted: it expired on 20", "this machine's clock says 20", "renew it")),
        (YEARS, ("not trusted: it begins on 20", "this machine's clock says 20", "clock right?")),
    ],
)
async def test_a_certificate_out_of_its_time_is_told_with_the_machine_s_clock(
    mosquitto_bin: Path, tmp_path: Path, pki: Pki, shifted: timedelta, words: tuple[str, ...]
) -> None:
    lines = pki.server("old", shifted=shifted)
    with Broker.running(mosquitto_bin, tmp_path, settings=lines) as broker:
        reason = await failure(settings_for(broker.port, pki))

    assert all(word in reason for word in words), reason


async def test_a_certificate_that_soon_expires_is_told_in_time(
    mosquitto_bin: Path, tmp_path: Path, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    for days_left in (31, 29):
        lines = pki.server("aging", shifted=timedelta(days=days_left - LEAF_DAYS, hours=12))
        with Broker.running(mosquitto_bin, tmp_path, settings=lines) as broker:
            async with opened(settings_for(broker.port, pki)):
                told.append([line for line in caplog.messages if "certificate expires on" in line])

    assert [len(lines) for lines in told] == [0, 1]


async def test_a_name_that_is_not_the_broker_s_is_told_and_mended_by_the_server_name(
    mosquitto_bin: Path, tmp_path: Path, pki: Pki
) -> None:
    with Broker.running(mosquitto_bin, tmp_path, settings=pki.server()) as broker:
        settings = settings_for(broker.port, pki, host="127.1")  # which is 127.0.0.1
        reason = await failure(settings)
        async with opened(replace(settings, tls_server_name="localhost")):
            pass
        wrong = await failure(replace(settings, host="127.0.0.1", tls_server_name="broker.lan"))

    assert "not trusted: it is for localhost, 127.0.0.1, not for 127.1" in reason
    assert "mqtt.tls_server_name" in reason
    assert "it is for localhost, 127.0.0.1, not for broker.lan" in wrong


async def test_a_port_without_tls_is_told(broker: Broker, pki: Pki) -> None:
    reason = await failure(settings_for(broker.port, pki))

    assert "does it speak TLS on this port? 8883 is usual" in reason


# Ours.


async def test_what_the_broker_says_of_our_certificate_is_told(
    mosquitto_bin: Path, tmp_path: Path, pki: Pki, other_pki: Pki
) -> None:
    lines = [*pki.server(), f"cafile {pki.ca_file}", "require_certificate true"]
    reasons = {}
    with Broker.running(mosquitto_bin, tmp_path, settings=lines) as broker:
        mine = settings_for(broker.port, pki, "good")
        expired, expired_key = pki.client("expired", shifted=-YEARS)
        strange, strange_key = other_pki.client("strange")
        async with opened(mine):
            pass
        for _ in range(5):  # the alert may come before or after CONNECT is sent
            reasons["none"] = await failure(settings_for(broker.port, pki))
            reasons["expired"] = await failure(
                replace(mine, cert_file=expired, key_file=expired_key)
            )
            reasons["strange"] = await failure(
                replace(mine, cert_file=strange, key_file=strange_key)
            )

            assert reasons == {
                "none": (
                    "the broker wants a client certificate: set mqtt.cert_file and mqtt.key_file"
                ),
                "expired": (
                    f"the broker refuses our certificate {expired}: it has expired, by the "
                    "broker's clock; renew it"
                ),
                "strange": (
                    f"the broker refuses our certificate {strange}: none of its authorities "
                    "signed it"
                ),
            }


async def test_an_encrypted_key_is_told_and_nobody_is_asked(tmp_path: Path, pki: Pki) -> None:
    cert, key = pki.client("locked")
    locked = tmp_path / "locked.key"
    locked.write_bytes(encrypted(key.read_bytes(), b"hunter2"))
    settings = BrokerSettings("127.0.0.1", 1, cert_file=cert, key_file=locked)

    reason = await failure(settings)
    assert reason.startswith(f"the key in {locked} is encrypted, and nobody is there to type")
    assert f"openssl pkey -in {locked}" in reason


async def test_a_certificate_without_a_key_is_told(pki: Pki) -> None:
    cert, _ = pki.client("keyless")

    alone = await failure(BrokerSettings("127.0.0.1", 1, cert_file=cert))
    twice = await failure(BrokerSettings("127.0.0.1", 1, cert_file=cert, key_file=cert))

    assert alone.startswith(f"{cert} (mqtt.cert_file, and mqtt.key_file is not set) holds no")
    assert twice.startswith(f"{cert} (mqtt.key_file) holds no private key")


# Other servers than mosquitto.


@contextlib.contextmanager
def server(context: ssl.SSLContext, protocols: list[str | None] | None = None) -> Iterator[int]:
    """Shake hands on a port with one client, and hang up; add to `protocols` what was agreed on.

    In a thread: asyncio's servers hang up without the alert that says why.
    """

    def serve() -> None:
        with contextlib.suppress(OSError):
            plain, _ = listener.accept()
            with plain, context.wrap_socket(plain, server_side=True) as secure:
                if protocols is not None:
                    protocols.append(secure.selected_alpn_protocol())
                secure.recv(100)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


def server_context(pki: Pki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*(line.split(" ")[1] for line in pki.server()))
    return context


async def test_the_server_name_and_the_protocol_are_asked_for(pki: Pki) -> None:
    asked: list[str | None] = []
    protocols: list[str | None] = []
    context = server_context(pki)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    context.set_alpn_protocols(["mqtt"])
    with server(context, protocols) as port:
        settings = settings_for(port, pki)
        reason = await failure(replace(settings, tls_server_name="localhost", tls_alpn="mqtt"))

    assert (asked, protocols) == (["localhost"], ["mqtt"])
    assert "does not answer as MQTT 5 brokers do" in reason, "TLS was right"


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_is_missed_in_each_version_of_tls(
    pki: Pki, newest: ssl.TLSVersion
) -> None:
    context = server_context(pki)
    context.maximum_version = newest
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pki.ca_file)
    with server(context) as port:
        reason = await failure(settings_for(port, pki))

    assert reason.startswith("the broker wants a client certificate: set mqtt.cert_file")


async def test_a_broker_whose_tls_is_too_old_is_told(pki: Pki) -> None:
    context = server_context(pki)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with server(context) as port:
        reason = await failure(settings_for(port, pki))

    assert reason.startswith("the broker's TLS is older than 1.2")

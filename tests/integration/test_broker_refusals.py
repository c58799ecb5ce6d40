"""A daemon whose broker refuses it in one way after the other: told in words, and no secret."""

import asyncio
import base64
import hashlib
import traceback
from datetime import timedelta
from pathlib import Path

import aiomqtt
import pytest

from gateway.errors import LinkError
from gateway.mqtt.connection import Connection
from gateway.mqtt.mosquitto import Parties, access_list, configuration
from gateway.mqtt.settings import BrokerSettings
from gateway.mqtt.tls import client_context
from gateway.simulate.pty_port import PtyPort
from tests.support.broker import Broker
from tests.support.daemon import running_daemon
from tests.support.pki import Pki

USER, PASSWORD = "edge-gateway-test", "correct horse battery staple"
READER, READERS_PASSWORD = "reader", "Tr0ub4dor&3"
YEARS = timedelta(days=3 * 365)


def password_line(user: str, password: str) -> str:
    """Return a line of mosquitto's password file. Source: mosquitto_passwd.c, hash type 7."""
    salt, rounds = b"twelve bytes", 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return (
        f"{user}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
    )


class Site:
    """Brokers of one port, each with its own idea of who may come in, by password."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.pki = Pki(folder / "pki")
        self._program = program
        self._folder = folder
        self.port = 0

    def broker(
        self, name: str, password: str, base_topic: str, server: tuple[str, str] | None = None
    ) -> Broker:
        """Return one that is not running yet."""
        folder = self._folder / name
        folder.mkdir()
        users = [password_line(USER, password), password_line(READER, READERS_PASSWORD)]
        parties = Parties(USER, base_topic, "homeassistant", subscribers=[READER])
        for file, lines in (("passwords", users), ("edge-gateway.acl", access_list(parties))):
            (folder / file).write_text("\n".join([*lines, ""]))
            (folder / file).chmod(0o600)
        told = [
            line
            for line in configuration(str(folder), uses_certificates=False)
            if line and not line.startswith(("#", "listener", "persist", "log_dest", "cert", "key"))
        ]
        broker = Broker(self._program, folder, settings=[*(server or self.pki.server()), *told])
        broker.port = self.port
        return broker


def secrets_of(key_file: Path) -> list[str]:
    """Return what must stand nowhere: the password, also in base64, and the lines of the key."""
    body = [line for line in key_file.read_text().splitlines() if "-----" not in line]
    return [PASSWORD, base64.b64encode(PASSWORD.encode()).decode().rstrip("="), *body]


async def test_each_refusal_is_told_and_none_of_them_lets_a_secret_out(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    site = Site(mosquitto_bin, tmp_path)
    cert_file, key_file = site.pki.client(USER)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "password").chmod(0o644)
    mqtt = (
        f'ca_file = "{site.pki.ca_file}"\ncert_file = "{cert_file}"\nkey_file = "{key_file}"\n'
        f'username = "{USER}"\npassword_file = "{tmp_path}/password"\n'
    )
    expired = site.broker("expired", PASSWORD, "edge/test", site.pki.server("old", shifted=-YEARS))
    expired.start()
    site.port = expired.port
    strange = site.broker("strange", "another password", "edge/test")
    narrow = site.broker("narrow", PASSWORD, "edge/other")
    good = site.broker("good", PASSWORD, "edge/test")
    brokers = [expired, strange, narrow, good]
    port = PtyPort(tmp_path / "ttyA")
    port.plug()
    try:
        async with (
            asyncio.timeout(100),
            running_daemon(
                tmp_path / "daemon",
                site.port,
                f"{tmp_path}/tty*",
                mqtt=mqtt,
                wrap=lambda command: [*command, "--log-level", "debug"],
            ) as daemon,
        ):
            await daemon.wait_for_log("WARNING gateway.cli.run: mqtt.password_file: every user of")
            await daemon.wait_for_log("the broker's certificate is not trusted: it expired on 20")
            await asyncio.to_thread(expired.stop)
            await asyncio.to_thread(strange.start)
            await daemon.wait_for_log("refused: not authorised; check user name, password")
            await asyncio.to_thread(strange.stop)
            await asyncio.to_thread(narrow.start)
            await daemon.wait_for_log("the broker refuses edge/test/status: not authorised")
            await asyncio.to_thread(narrow.stop)
            await asyncio.to_thread(good.start)
            reading = aiomqtt.Client(
                "127.0.0.1",
                good.port,
                username=READER,
                password=READERS_PASSWORD,
                tls_context=client_context(
                    BrokerSettings("127.0.0.1", good.port, ca_file=site.pki.ca_file)
                ),
            )
            async with reading as reader:
                await reader.subscribe("edge/test/#", qos=1)
                async for message in reader.messages:
                    if message.topic.value == "edge/test/ttya/state":
                        break
                    port.write(b'\n{"temperature":21.5}\n{"temperature":21.5}\n')
    finally:
        port.unplug()
        for broker in brokers:
            broker.stop()

    assert " DEBUG " in daemon.log()
    assert "Traceback" not in daemon.log()
    assert [secret for secret in secrets_of(key_file) if secret in daemon.log()] == []


async def test_no_traceback_and_no_repr_lets_the_password_out(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    site = Site(mosquitto_bin, tmp_path)
    strange = site.broker("strange", "another password", "edge/test")
    strange.start()
    try:
        settings = BrokerSettings(
            "127.0.0.1",
            strange.port,
            ca_file=site.pki.ca_file,
            username=USER,
            password=PASSWORD,
        )
        with pytest.raises(LinkError, match="refused: not authorised") as failure:
            await Connection.open(settings, "test", ("edge/test/status", b"offline"))
    finally:
        strange.stop()

    chain = "".join(traceback.format_exception(failure.value))
    assert "Traceback" in chain
    assert PASSWORD not in chain + repr(settings) + repr(failure.value)

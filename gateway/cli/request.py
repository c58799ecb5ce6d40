"""Ask a running gateway for something over MQTT, and print its answer.

The request goes to `<base>/request/VERB`, below the base topic of the gateway that is meant: as
the configuration says, or `edge/<gateway>`.
"""

import argparse
import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway import wiring
from gateway.admin.backup import BACKUP_S
from gateway.admin.verbs import RELOAD_S
from gateway.cli.commands import FAILED, INTERRUPTED, OK
from gateway.cli.stopping import run_until_stopped
from gateway.config.broker_url import parse_broker
from gateway.config.loader import load, read_password, with_credentials
from gateway.errors import ConfigError, LinkError, RequestError
from gateway.mqtt import topics
from gateway.mqtt.connection import FIRST_FAILURE, Ack, Connection, refusal_text
from gateway.mqtt.incoming import Incoming, Listener
from gateway.mqtt.settings import BrokerSettings
from gateway.requests.admin import REQUESTS, read_admin, text_keys

_VERBS = "\n".join(
    f"  {verb:14} {(model.__doc__ or '').splitlines()[0]}" for verb, model in REQUESTS.items()
)

EPILOG = f"""\
verbs:
{_VERBS}

examples:
  edge-gateway request devices
  edge-gateway request rename device=esp32-a1b2c3 to='Green House'
  edge-gateway request options device=greenhouse interval_ms.climate=5000
  edge-gateway request permit_join seconds=60 --config /etc/edge-gateway/gateway.toml
  edge-gateway request health_check --broker mqtts://admin@broker.local --gateway attic

A value is JSON (5000, true, null) where it can be, else text. The keys of each request are told in
gateway/mqtt/README.md. Where the broker knows its users, ask as a user of your own (a --commander
of mosquitto-acl), not as the gateway: as such you would expel it for a moment.
Exit codes: 0 done, 1 not done (or health_check found something), 2 wrong usage or configuration.
"""

ANSWER_S = 10.0
"""A gateway answers within a second; the rest is for the way there."""

_WHO = (
    "username",
    "username_credential",
    "password_file",
    "password_credential",
    "cert_file",
    "key_file",
    "key_credential",
)
"""Keys of [mqtt] that say who somebody is."""
_FILES = ("password_file", "ca_file", "cert_file", "key_file")
"""Keys of [mqtt] that are options here."""

_NOBODY_LISTENS = 0x10
"""MQTT 5, 3.4.2.1: PUBACK, no matching subscribers."""
_NOT_AUTHORISED = 135


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to ask for, and whom."""
    parser.add_argument("verb", metavar="VERB", help="what is wanted; see below")
    parser.add_argument("fields", nargs="*", metavar="KEY=VALUE", help="what more there is to say")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the gateway's configuration")
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="mqtt://[user@]host[:port], mqtts:// for TLS, or just host[:port]",
    )
    parser.add_argument("--password-file", metavar="FILE", help="its first line is the password")
    parser.add_argument("--ca-file", metavar="FILE", help="authorities to trust, PEM")
    parser.add_argument("--cert-file", metavar="FILE", help="certificate to show the broker, PEM")
    parser.add_argument("--key-file", metavar="FILE", help="its key, if that is not in the same")
    parser.add_argument(
        "--gateway", metavar="NAME", help="of the gateway (default: as configured, or this host's)"
    )
    parser.add_argument("--base-topic", metavar="TOPIC", help="default: edge/<gateway>")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds to wait for the answer")


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer."""
    verb: str = arguments.verb
    transaction = f"cli-{secrets.token_hex(8)}"
    payload = payload_of(verb, arguments.fields, transaction)
    settings = with_credentials(load(arguments.config, overrides_of(arguments)))
    broker = wiring.broker_settings(settings, read_password(settings.mqtt))
    timeout_s = arguments.timeout or {"backup": BACKUP_S, "reload": RELOAD_S}.get(verb, ANSWER_S)
    answers: list[Mapping[str, Any]] = []

    async def ask() -> None:
        try:
            answers.append(await _ask(broker, verb, payload, transaction, timeout_s))
        except LinkError as exc:
            reason = str(exc) if arguments.config else _as_options(str(exc))
            raise LinkError(f"{broker.address}: {reason}") from exc

    if run_until_stopped(ask()) and not answers:
        return INTERRUPTED
    return show(answers[0])


def _as_options(reason: str) -> str:
    """Return what is wrong in the words of the command line, where no configuration is."""
    for key in _FILES:
        reason = reason.replace(f"mqtt.{key}", f"--{key.replace('_', '-')}")
    return reason


def show(answer: Mapping[str, Any]) -> int:
    """Print what was answered, and return the exit code.

    Raises:
        RequestError: it was not done.
    """
    if answer.get("status") != "ok":
        raise RequestError(str(answer.get("error", "the answer says nothing")))
    found = answer.get("data")
    print(json.dumps(found, indent=2, ensure_ascii=False))
    is_ill = isinstance(found, dict) and found.get("healthy") is False
    return FAILED if is_ill else OK


def payload_of(verb: str, words: Sequence[str], transaction: str) -> bytes:
    """Return the payload that says what was typed.

    Raises:
        ConfigError: no gateway would take it.
    """
    fields: dict[str, Any] = {}
    text = text_keys(verb)
    for word in words:
        path, is_there, value = word.partition("=")
        if not is_there:
            raise ConfigError(f"{word!r}: expected KEY=VALUE")
        below = fields
        *sections, key = path.split(".")
        for section in sections:
            below = below.setdefault(section, {})
            if not isinstance(below, dict):
                raise ConfigError(f"{word!r}: {section} is a value already")
        below[key] = value if path in text else _value(value)
    payload = json.dumps({"transaction": transaction, **fields}).encode()
    try:
        read_admin(verb, payload)
    except RequestError as exc:
        raise ConfigError(str(exc)) from exc
    return payload


def _value(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def overrides_of(arguments: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Return what was typed; who says who he is is nothing of what the gateway is."""
    mqtt: dict[str, object] = dict(parse_broker(arguments.broker)) if arguments.broker else {}
    for key in (*_FILES, "base_topic"):
        if (given := getattr(arguments, key)) is not None:
            mqtt[key] = given
    if not mqtt.keys().isdisjoint(_WHO):
        mqtt = {**dict.fromkeys(_WHO), **mqtt}
    overrides = {"mqtt": mqtt} if mqtt else {}
    if arguments.gateway:
        overrides["gateway"] = {"name": arguments.gateway}
    return overrides


_WHOM = "is the gateway running, and called so? --gateway NAME asks another"


class Question:
    """One request on its way, until it is answered or cannot be."""

    def __init__(self, broker: BrokerSettings, verb: str, transaction: str) -> None:
        self.topic = f"{broker.base_topic}/{topics.request(verb)}"
        self.answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._transaction = transaction

    def take(self, message: Incoming) -> None:
        """Take what is answered to somebody, perhaps to us."""
        message.done()
        answer = _answer_of(message.payload)
        # Who asks as the gateway itself, with its session, hears the question, too.
        is_answer = answer.get("transaction") == self._transaction and "status" in answer
        if is_answer and not self.answer.done():
            self.answer.set_result(answer)

    def hear(self, acks: Sequence[Ack]) -> None:
        """Take what the broker says of the request."""
        for _, code in acks:
            if code == _NOBODY_LISTENS:
                self._fail(f"nobody listens on {self.topic}: {_WHOM}")
            elif code >= FIRST_FAILURE:
                self._fail(f"the broker refuses {self.topic}: {_refusal_text(code)}")

    def _fail(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(LinkError(reason))


def _refusal_text(code: int) -> str:
    if code == _NOT_AUTHORISED:
        return "not authorised; its access list must let who asks write there (--commander)"
    return refusal_text(code)


async def _ask(
    broker: BrokerSettings, verb: str, payload: bytes, transaction: str, timeout_s: float
) -> Mapping[str, Any]:
    """Send a request, and return what is answered to it.

    Raises:
        LinkError: the broker or the gateway is not there, or does not let us.
    """
    question = Question(broker, verb, transaction)
    client_id = f"edge-gateway-request-{secrets.token_hex(6)}"
    connection = await Connection.open(broker, client_id, None, Listener(take=question.take))
    try:
        connection.on_acks = question.hear
        if await connection.subscribe([f"{broker.base_topic}/{topics.response(verb)}"]):
            raise LinkError("the broker does not let this user read answers")
        connection.publish(question.topic, payload, retain=False)
        ends = (question.answer, connection.lost)
        await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if question.answer.done():
            return question.answer.result()
        if connection.lost.done():
            raise LinkError(connection.lost.result())
        raise LinkError(f"no answer to {question.topic} within {timeout_s:g} s: {_WHOM}")
    finally:
        if not connection.lost.done():
            await connection.leave()
        connection.close()


def _answer_of(payload: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}

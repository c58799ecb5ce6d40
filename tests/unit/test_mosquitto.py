"""The access list fits the topic contract: what the gateway writes and hears, and nobody else."""

import contextlib
import io
import re
from pathlib import Path

import aiomqtt
import pytest

from gateway.app import App
from gateway.cli.commands import main
from gateway.config.models import Settings

README = Path(__file__).parents[2] / "gateway" / "mqtt" / "README.md"


def printed(tmp_path: Path, config: str, *words: str) -> tuple[int, str, str]:
    """Run mosquitto-acl; return its exit code, and what went to stdout and stderr."""
    path = tmp_path / "gateway.toml"
    path.write_text(config)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["mosquitto-acl", str(path), *words])
    return code, out.getvalue(), err.getvalue()


def permits(access_list: str, user: str, access: str, topic: str) -> bool:
    """Tell whether mosquitto would permit it. Source: mosquitto.conf(5), acl_file."""
    mine, permitted, denied = False, False, False
    for line in access_list.splitlines():
        word, _, rest = line.partition(" ")
        if word == "user":
            mine = rest == user
        elif word == "topic" and mine:
            kind, _, topic_filter = rest.partition(" ")
            if aiomqtt.Topic(topic).matches(topic_filter):
                permitted |= kind in {access, "readwrite"}
                denied |= kind == "deny"
    return permitted and not denied


def topics_of_the_contract() -> dict[str, str]:
    """Return each topic of the README's table, and whether it is what others say to the gateway."""
    table = README.read_text(encoding="utf-8").partition("| topic |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.*?) \| (\S+)", table, re.MULTILINE)
    return {
        re.sub(r"<\w+>", "x", topic): retained
        for names, retained in rows
        for topic in re.findall(r"`([^`]+)`", names)
    }


def test_the_gateway_may_write_and_others_may_read_each_topic_of_the_contract(
    tmp_path: Path,
) -> None:
    _, access_list, _ = printed(tmp_path, '[gateway]\nname = "attic"\n', "--subscriber", "me")

    topics = topics_of_the_contract()
    assert len(topics) >= 9
    for topic in topics:
        assert permits(access_list, "edge-gateway-attic", "write", f"edge/attic/{topic}"), topic
        is_administration = topic.startswith(("request/", "response/"))
        may_read = permits(access_list, "me", "read", f"edge/attic/{topic}")
        assert may_read is not is_administration, topic
        assert not permits(access_list, "me", "write", f"edge/attic/{topic}"), topic


@pytest.mark.parametrize("prefix", ["homeassistant", "ha/discovery"])
def test_whatever_the_gateway_subscribes_to_it_may_read_and_commanders_may_write(
    tmp_path: Path, prefix: str
) -> None:
    config = f'[gateway]\nname = "attic"\n[homeassistant]\nprefix = "{prefix}"\n'
    _, access_list, _ = printed(tmp_path, config, "--homeassistant", "ha", "--commander", "op")
    settings = Settings.model_validate(
        {"gateway": {"name": "attic"}, "homeassistant": {"prefix": prefix}}
    )

    inbox = App(settings)._publisher._inbox  # noqa: SLF001 - the one who knows all filters

    assert len(inbox.filters) >= 2
    for topic_filter in inbox.filters:
        assert f"topic read {topic_filter}\n" in access_list, topic_filter
        topic = topic_filter.replace("+", "x")
        if topic != "edge/attic/status":
            assert permits(access_list, "ha", "write", topic), topic
        if topic.startswith("edge/") and topic != "edge/attic/status":
            assert permits(access_list, "op", "write", topic), topic


def test_with_its_devices_named_the_gateway_announces_no_others(tmp_path: Path) -> None:
    config = '[gateway]\nname = "attic"\n[mqtt]\nusername = "gw"\n'
    _, access_list, _ = printed(tmp_path, config, "--device", "hut", "--device", "My Mast")

    def may_announce(name: str) -> bool:
        return permits(access_list, "gw", "write", f"homeassistant/device/{name}/config")

    assert all(map(may_announce, ("edge_attic", "edge_attic_hut", "edge_attic_my_mast")))
    assert not any(map(may_announce, ("edge_attic_other", "edge_cellar_hut", "edge_cellar")))


def test_a_refused_message_does_not_end_the_connection(tmp_path: Path) -> None:
    """mosquitto 2.0 hangs up at each ("Quota exceeded") where there is no limit of what waits."""
    _, conf, _ = printed(tmp_path, "", "--part", "conf")

    assert re.search(r"^max_queued_messages [1-9]\d*$", conf, re.MULTILINE)


def test_the_files_of_the_gateway_need_not_be_on_the_broker_s_machine(tmp_path: Path) -> None:
    code, out, err = printed(tmp_path, '[mqtt]\nca_file = "no/ca.pem"\ncert_file = "no/me.pem"\n')

    assert (code, err) == (0, "")
    assert "require_certificate true" in out


def test_nothing_is_announced_where_home_assistant_is_off(tmp_path: Path) -> None:
    _, access_list, _ = printed(tmp_path, "[homeassistant]\nenabled = false\n", "--part", "acl")

    assert "topic" in access_list
    assert "homeassistant" not in access_list


@pytest.mark.parametrize(
    ("mqtt", "words", "uses_passwords"),
    [
        ("", (), False),
        ('username = "a"\npassword_credential = "p"', (), True),
        ('cert_file = "gateway.toml"\nusername = "a"\npassword_credential = "p"', (), False),
        ("", ("--login", "password"), True),
        ('username = "a"\npassword_credential = "p"', ("--login", "certificate"), False),
    ],
)
def test_clients_show_what_the_gateway_has(
    tmp_path: Path, mqtt: str, words: tuple[str, ...], uses_passwords: bool
) -> None:
    _, conf, _ = printed(tmp_path, f"[mqtt]\n{mqtt}\n", "--part", "conf", *words)

    lines = conf.splitlines()
    assert ("password_file /etc/mosquitto/passwords" in lines) is uses_passwords
    assert ("require_certificate true" in lines) is not uses_passwords
    assert {"allow_anonymous false", "tls_version tlsv1.2", "use_username_as_clientid true"} <= set(
        lines
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--subscriber", "a", "--commander", "a"), "'a' is named twice"),
        (("--homeassistant", "edge-gateway-attic"), "'edge-gateway-attic' is named twice"),
        (("--subscriber", "a\ntopic write #"), "cannot be the name of a user"),
        (("--subscriber", "#"), "cannot be the name of a user"),
    ],
)
def test_a_name_that_would_be_read_otherwise_is_refused(
    tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    code, out, err = printed(tmp_path, '[gateway]\nname = "attic"\n', *words)

    assert complaint in err
    assert (code, out) == (2, "")

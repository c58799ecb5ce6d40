"""`edge-gateway certs`: what it makes, what it leaves alone, and that TLS takes it."""

import contextlib
import io
import os
import re
import shlex
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.cli.certificates import Authority
from gateway.cli.commands import main
from gateway.config.loader import load
from gateway.errors import ConfigError
from tests.support.file_size import no_file_may_grow_beyond
from tests.support.pki import encrypted

GUIDE = Path(__file__).parents[2] / "gateway" / "mqtt" / "SECURE.md"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def certs(folder: Path, *words: str) -> tuple[int, str]:
    """Run the command; return its exit code, and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["certs", "--dir", str(folder), *words])
    return code, said.getvalue()


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def shaken_hands(folder: Path, client: str, host: str) -> str:
    """Let server and client meet, both as strict as can be; return what they agree on."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.verify_mode = ssl.CERT_REQUIRED
    visitor = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    visitor.load_cert_chain(folder / f"{client}.pem", folder / f"{client}.key")
    for context in (server, visitor):
        context.load_verify_locations(folder / "ca.pem")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_visitor = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        visitor.wrap_bio(to_visitor, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_visitor, server_side=True),
    ]
    for _ in range(3):  # flights of a handshake
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    seen: Any = ends[1].getpeercert()
    return f"{ends[1].version()} {dict(pair[0] for pair in seen['subject'])}"


def test_the_first_time_it_makes_an_authority_a_broker_s_and_a_client_s(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "certs"

    code, said = certs(folder, "--host", "broker.local", "--host", "192.168.1.5", "--client", "me")

    assert code == 0
    assert sorted(os.listdir(folder)) == [
        "ca.key", "ca.pem", "me.key", "me.pem", "server.key", "server.pem"
    ]  # fmt: skip
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert {name: mode for name, mode in modes.items() if name.endswith("key")} == {
        "ca.key": 0o600,
        "me.key": 0o600,
        "server.key": 0o600,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert f'ca_file = "{folder}/ca.pem"' in said
    assert "require_certificate true" in said
    for host in ("broker.local", "192.168.1.5", "localhost", "127.0.0.1"):
        assert shaken_hands(folder, "me", host) == "TLSv1.3 {'commonName': 'me'}"


def test_a_further_client_is_added_to_what_is_there(tmp_path: Path) -> None:
    certs(tmp_path, "--client", "first")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    code, _ = certs(tmp_path, "--client", "second", "--days", "30")

    assert code == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in before} == (
        before
    )
    assert set(os.listdir(tmp_path)) - set(before) == {"second.pem", "second.key"}
    assert shaken_hands(tmp_path, "second", "localhost") == "TLSv1.3 {'commonName': 'second'}"
    second = read(tmp_path / "second.pem")
    assert second.not_valid_after_utc - second.not_valid_before_utc == timedelta(days=30)


@pytest.mark.parametrize(
    ("words", "stem"),
    [
        (["--client", "me"], "me"),
        (["--host", "a"], "server"),
        (["--client", "b", "--host", "a"], "server"),
    ],
)
def test_nothing_is_overwritten_unless_it_is_forced_and_the_authority_never(
    tmp_path: Path, words: list[str], stem: str
) -> None:
    certs(tmp_path, "--client", "me")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    refused, said = certs(tmp_path, *words)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    forced, _ = certs(tmp_path, *words, "--force")
    at_last = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert refused == 2
    assert ".key: there already; --force replaces it" in said
    assert after == before
    assert forced == 0
    changed = {name for name in before if at_last[name] != before[name]}
    assert changed == {f"{stem}.key", f"{stem}.pem"}
    assert shaken_hands(tmp_path, "me", "localhost")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "there is an authority already; name what to add with --host or --client"),
        (["--client", "ca"], "client 'ca': that is the name of another file here"),
        (["--client", "../up"], "client '../up': letters, digits"),
        (["--client", "a+b"], "client 'a+b': letters, digits"),
        (["--client", "x" * 65], "letters, digits"),
        (["--host", "a b"], "host 'a b': neither a host name nor an address"),
        (["--host", "mqtt://a"], "neither a host name nor an address"),
        (["--host", "1.2.3.4.5:1"], "neither a host name nor an address"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(
    tmp_path: Path, words: list[str], complaint: str
) -> None:
    certs(tmp_path, "--client", "me")
    before = sorted(os.listdir(tmp_path))

    code, said = certs(tmp_path, *words, "--force")

    assert code == 2
    assert complaint in said
    assert sorted(os.listdir(tmp_path)) == before


def test_half_an_authority_or_a_strange_key_is_refused(tmp_path: Path) -> None:
    certs(tmp_path, "--client", "me")
    good = (tmp_path / "ca.key").read_bytes()

    (tmp_path / "ca.key").write_bytes((tmp_path / "me.key").read_bytes())
    strange = certs(tmp_path, "--client", "b")
    (tmp_path / "ca.key").write_bytes(encrypted(good, b"hunter2"))
    locked = certs(tmp_path, "--client", "b")
    (tmp_path / "ca.key").unlink()
    missing = certs(tmp_path, "--client", "b")

    assert [code for code, _ in (strange, locked, missing)] == [2, 2, 2]
    assert "the authority's key is not that of its certificate" in strange[1]
    assert "the authority cannot be read: " in locked[1]
    assert "ca.key: No such file or directory; both halves are needed" in missing[1]
    assert not (tmp_path / "b.pem").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    code, said = certs(tmp_path / "file" / "certs")

    assert code == 1
    assert said.startswith(f"edge-gateway: {tmp_path}/file/certs: Not a directory")


def test_the_profile_is_what_libraries_agree_on() -> None:
    authority = Authority.made("an authority", NOW)
    ca = x509.load_pem_x509_certificate(authority.issued.certificate)
    server = x509.load_pem_x509_certificate(authority.server(["b.local", "::1"], NOW).certificate)
    client = x509.load_pem_x509_certificate(authority.client("me", NOW).certificate)

    for each in (ca, server, client):
        key = each.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert each.not_valid_before_utc == NOW - timedelta(hours=1)
    assert len({each.serial_number for each in (ca, server, client)}) == 3
    assert ca.not_valid_after_utc - ca.not_valid_before_utc == timedelta(days=3650)
    assert server.not_valid_after_utc - server.not_valid_before_utc == timedelta(days=825)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["b.local"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["::1"]
    uses = [
        list(each.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        for each in (server, client)
    ]
    assert uses == [[ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.CLIENT_AUTH]]
    assert client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "me"


def test_an_authority_of_one_s_own_need_not_say_how_it_is_named(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "my own")])
    now = datetime.now(UTC)
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    no_password = serialization.NoEncryption()
    (tmp_path / "ca.pem").write_bytes(own.public_bytes(pem))
    (tmp_path / "ca.key").write_bytes(key.private_bytes(pem, pkcs8, no_password))

    code, said = certs(tmp_path, "--host", "localhost", "--client", "grafana")

    assert code == 0, said
    for name_of_file in ("server.pem", "grafana.pem"):
        read(tmp_path / name_of_file).verify_directly_issued_by(own)


def test_nothing_outlives_its_authority() -> None:
    authority = Authority.made("an authority", NOW)
    late = NOW + timedelta(days=3600)

    issued = authority.client("me", late)

    assert issued.ends == authority.issued.ends
    with pytest.raises(ConfigError, match="the authority has expired; make a new one"):
        authority.client("me", NOW + timedelta(days=3651))


def test_the_commands_of_the_guide_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = GUIDE.read_text(encoding="utf-8")
    ours = re.findall(r"^edge-gateway (.*)$", section, re.MULTILINE)
    taken = re.findall(r"certs/[\w.-]+", section.partition("```toml")[0])
    config = re.findall(r'^(\w+ = "[\w.-]+")$', section, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").write_text('[gateway]\nname = "attic"\n')

    for words in ours:
        command, _, target = words.partition(" > ")
        assert main(shlex.split(command)) == 0
        (tmp_path / (target or "said")).write_text(capsys.readouterr().out)

    assert len(ours) == 3
    assert "user edge-gateway-attic\n" in (tmp_path / "edge-gateway.acl").read_text()
    assert "require_certificate true\n" in (tmp_path / "mosquitto.conf").read_text()
    assert [name for name in taken if not (tmp_path / name).exists()] == []
    (tmp_path / "certs" / "gateway.toml").write_text("\n".join(["[mqtt]", *config]))
    assert load(tmp_path / "certs" / "gateway.toml").mqtt.uses_tls


def test_on_a_full_disk_the_folder_is_named(tmp_path: Path) -> None:
    with no_file_may_grow_beyond(10):
        code, said = certs(tmp_path, "--host", "a", "--client", "b")

    assert (code, said) == (1, f"edge-gateway: {tmp_path}: File too large\n")


@pytest.mark.parametrize("days", ["x", "0", "-1", "3651", "²", "9" * 5000])
def test_days_that_cannot_be_are_told(
    tmp_path: Path, days: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["certs", "--dir", str(tmp_path), f"--days={days}"])

    assert f"from 1 to 3650 days, not {days!r}" in capsys.readouterr().err


def test_one_gateway_is_the_example_for_all_clients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["certs", "--dir", str(tmp_path), "--client", "grafana", "--client", "edge-gateway-attic"])

    said = capsys.readouterr().out
    assert said.count("[mqtt]") == 1
    assert f'key_file = "{tmp_path}/edge-gateway-attic.key"' in said

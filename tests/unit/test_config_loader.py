import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.ble_models import BleDeviceSettings
from gateway.config.device_models import DeviceSettings, SensorSettings
from gateway.config.loader import (
    Overrides,
    exposed_secrets,
    load,
    read_password,
    with_credentials,
)
from gateway.config.models import Settings
from gateway.config.serial_models import PortSettings
from gateway.errors import ConfigError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "gateway.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(folder: Path, text: str | bytes) -> list[str]:
    path = written(folder, text)
    with pytest.raises(ConfigError) as failure:
        load(path)
    return str(failure.value).replace(str(path), "F").split("\n")


def test_no_file_means_the_defaults() -> None:
    assert load(None) == Settings()


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == Settings()


def test_a_file_may_start_with_a_byte_order_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    settings = load(written(tmp_path, b'\xef\xbb\xbf[gateway]\r\nname = "attic"\r\n'))

    assert settings.gateway.name == "attic"


def test_every_problem_is_named_with_its_line_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
[mqtt]
port = "abc"
baudrate = 9600

[serial]
baud = 9600
settle_s = 11

[[serial.port]]
match = "*"
format = "cvs"
"""

    assert problems(tmp_path, text) == [
        'F:2: mqtt.port: expected a whole number 1..65535, got "abc"',
        "F:3: mqtt.baudrate: unknown key `baudrate`: it belongs in [serial]",
        "F:6: serial.baud: unknown key `baud`: did you mean `baudrate`?",
        "F:7: serial.settle_s: expected a number 0..10, got 11",
        (
            'F:11: serial.port[0].format: expected one of "auto", "board", "json", "csv", '
            '"key_value", got "cvs": did you mean "csv"?'
        ),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mqqt]\n", "F:1: mqqt: unknown section `mqqt`: did you mean `mqtt`?"),
        ("[zzz]\n", "F:1: zzz: unknown section `zzz`; there are gateway, mqtt, serial, ble,"),
        ("mqtt = 5\n", "F:1: mqtt: expected a section, got 5"),
        ("[mqtt]\nwindow = true\n", "F:2: mqtt.window: expected a whole number 1..1000, got true"),
        ("[mqtt]\nwindow = 1.5\n", "F:2: mqtt.window: expected a whole number 1..1000, got 1.5"),
        ("[mqtt]\nwindow = 0\n", "F:2: mqtt.window: expected a whole number 1..1000, got 0"),
        ('[mqtt]\nport = "1883"\n', 'got "1883": write it without quotes'),
        ('[mqtt]\ntls = "yes"\n', 'F:2: mqtt.tls: expected true or false, got "yes"'),
        ('[mqtt]\ntls = "True"\n', 'got "True": write it without quotes'),
        ("[mqtt]\nversion = 5\n", 'expected one of "5", "3.1.1", got 5: write it in quotes'),
        ('[mqtt]\nhost = "mqtt://a"\n', "mqtt.host: only the name goes here; port and tls are"),
        ('[mqtt]\nhost = "a b"\n', "mqtt.host: this is neither a host name nor an address"),
        ('[mqtt]\nbase_topic = "a/+"\n', "mqtt.base_topic: +, # and control characters may not"),
        ('[mqtt]\nbase_topic = "a//b"\n', "mqtt.base_topic: an empty level"),
        ('[mqtt]\nbase_topic = "$SYS"\n', "mqtt.base_topic: topics that start with $"),
        ('[gateway]\nname = "My Pi"\n', '"my_pi" would do, got "My Pi"'),
        ('[gateway]\nname = "a/#"\n', "gateway.name: only a-z, 0-9, _ and - may be in it"),
        ("[serial]\nsettle_s = nan\n", "serial.settle_s: expected a number 0..10, got nan"),
        ("[serial]\nrescan_s = inf\n", "serial.rescan_s: expected a number 0.1..60, got inf"),
        ('[serial]\npatterns = "/dev/x"\n', 'got "/dev/x": write it in brackets, [...]'),
        ("[serial]\nexclude = [5]\n", "F:2: serial.exclude[0]: expected text of 1 to 256"),
        ('[serial.port]\nmatch = "*"\n', "got a section: write its header in double brackets"),
        ("[[serial.port]]\n", "F:1: serial.port[0].match: missing. Glob over the port's path"),
        (
            '[[serial.port]]\nmatch="*"\nformat="csv"\n',
            'F:1: serial.port[0].columns: format "csv" needs the names of its values',
        ),
        *(
            (
                f'[[serial.port]]\nmatch = "{glob}"\nname = "Mast"\n',
                f'F:3: serial.port[0].name: a name is for one port, and "{glob}" may match several',
            )
            for glob in ("/dev/ttyUSB*", "ttyACM?", "ttyUSB[01]")
        ),
        (
            '[[serial.port]]\nmatch="*"\ncolumns=["Temp A", "temp_a"]\n',
            "F:3: serial.port[0].columns: temp_a is there twice",
        ),
        (
            '[[serial.port]]\nmatch="*"\ncolumns=[\n{key="a", unt="x"}]\n',
            "F:3: serial.port[0].columns[0].unt: unknown key `unt`: did you mean `unit`?",
        ),
        (
            '[[serial.port]]\nmatch="*"\ncolumns=[5]\n',
            "columns[0]: expected a name in quotes, or {key, unit, device_class}, got 5",
        ),
        ('[[serial.port]]\nmatch="*"\nseparator=";;"\n', "separator: expected one character"),
        ("[log]\nlevel = 2020-01-01\n", "log.level: expected one of"),
    ],
)
def test_a_problem_says_where_it_is_and_what_would_do(
    tmp_path: Path, text: str, problem: str
) -> None:
    found = problems(tmp_path, text)

    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mqtt]\nport = 1\nport = 2\n", "F:3:"),
        (
            "[mqtt]\nhost = broker.local\n",
            "F:2:8: not valid TOML: Invalid value; text needs quotes",
        ),
        ("[mqtt\n", "F:1:6: not valid TOML:"),
        (
            '[mqtt]\nhost = "a"\nhost = "b"\n',
            "F:3:11: not valid TOML: Cannot overwrite a value; this key is there twice",
        ),
        ('[mqtt]\nhost = "broker\n', "F:2:15: not valid TOML:"),
        ("[mqtt]\nx = '''\n\n", "not valid TOML: "),
        ("x = " + "[" * 5000, "nested too deep"),
    ],
)
def test_a_syntax_error_says_where_it_is(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in problems(tmp_path, text)[0]


def test_a_number_of_thousands_of_digits_is_a_problem_as_well(tmp_path: Path) -> None:
    """Python refuses to read it, and not with the parser's own error."""
    (problem,) = problems(tmp_path, f"[mqtt]\nport = {'9' * 5000}\n")

    assert "not valid TOML: Exceeds the limit" in problem


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[outbox]\npath = "a\\u0000b"\n', "outbox.path"),
        ('[gateway]\ncontrol_socket = "a\\u0000b"\n', "gateway.control_socket"),
        ('[serial]\npatterns = ["/dev/tty*", "\\u0000"]\n', "serial.patterns[1]"),
        ('[serial]\nexclude = ["\\u0000"]\n', "serial.exclude[0]"),
    ],
)
def test_what_no_file_can_be_called_is_a_problem(tmp_path: Path, text: str, key: str) -> None:
    (problem,) = problems(tmp_path, text)

    assert f": {key}: " in problem
    assert "no name of a file has a NUL in it" in problem


def test_a_syntax_error_shows_the_line_it_means(tmp_path: Path) -> None:
    assert problems(tmp_path, "[mqtt]\nhost = broker.local\n")[1:] == [
        "  host = broker.local",
        "         ^",
    ]


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    assert problems(tmp_path, "[gateway]\n# Küche\n".encode("latin-1")) == [
        "F:2: this is not UTF-8; save the file as UTF-8"
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file or directory"):
        load(tmp_path / "nowhere.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: larger than 1 MiB"):
        load(Path("/dev/zero"))


def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    text = """\
[mqtt]
password = "hunter2"
host = "mqtt://bob:hunter3@broker"
"""

    found = "\n".join(problems(tmp_path, text))

    assert "F:2: mqtt.password: unknown key `password`: secrets do not belong in this" in found
    assert "`password_file`" in found
    assert "hunter" not in found


@pytest.mark.parametrize(
    ("mqtt", "problem"),
    [
        ('version = "3.1.1"\npassword_credential = "x"', "takes no password without a username"),
        ('password_file = "F"\npassword_credential = "x"', "password_file is given too"),
        ('key_file = "F"', "mqtt.key_file: a key proves nothing alone; cert_file is missing"),
        ('tls = false\nca_file = "F"', "mqtt.ca_file: tls = false: without encryption"),
        ('key_credential = "x"', "mqtt.key_credential: a key proves nothing alone"),
        ('cert_file = "F"\nkey_file = "F"\nkey_credential = "x"', "key_file is given too"),
        ('username = "a"\nusername_credential = "x"', "username is given too"),
        ('tls_server_name = "a"', "mqtt.tls_server_name: it is said only in TLS, which is off"),
        ('tls = false\nport = 8883\ntls_alpn = "mqtt"', "mqtt.tls_alpn: it is said only in TLS"),
        ('tls = true\ntls_server_name = "a b"', "this is neither a host name nor an address"),
    ],
)
def test_keys_that_do_not_go_together_are_named(tmp_path: Path, mqtt: str, problem: str) -> None:
    (tmp_path / "F").write_text("secret")

    (found,) = problems(tmp_path, f"[mqtt]\nwindow = 7\n{mqtt}\n")

    assert problem in found


def test_a_wrong_key_does_not_hide_that_others_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("")

    found = problems(tmp_path, '[mqtt]\nkey_file = "key.pem"\nwindow = 0\nhosst = "x"\n')

    assert [line.split(" ")[1] for line in found] == [
        "mqtt.key_file:",
        "mqtt.window:",
        "mqtt.hosst:",
    ]


def test_files_that_cannot_be_read_are_problems_too(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    text = '[mqtt]\nca_file = "ca.pem"\ncert_file = "folder"\n'

    assert problems(tmp_path, text) == [
        "F:2: mqtt.ca_file: ca.pem: no such file or directory",
        "F:3: mqtt.cert_file: folder: this is a folder",
    ]


def test_names_of_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")

    settings = load(written(tmp_path, '[mqtt]\nca_file = "ca.pem"\n'))

    assert settings.mqtt.ca_file == tmp_path / "ca.pem"


def test_the_command_line_replaces_what_the_file_says(tmp_path: Path) -> None:
    path = written(tmp_path, '[mqtt]\nhost = "a"\nwindow = 7\n')

    settings = load(path, {"mqtt": {"host": "b"}, "log": {"level": "debug"}})

    assert (settings.mqtt.host, settings.mqtt.window, settings.log.level) == ("b", 7, "debug")


def test_a_problem_of_the_command_line_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[mqtt]\nhost = "a"\n')

    with pytest.raises(ConfigError) as failure:
        load(path, {"mqtt": {"host": "a b"}})

    assert str(failure.value).startswith("command line: mqtt.host: this is neither")


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pässword \r\nand a remark\n")

    settings = load(written(tmp_path, '[mqtt]\npassword_file = "secret"\n'))

    assert read_password(settings.mqtt) == "pässword "


def test_the_password_may_be_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mqtt").write_text("hunter2")
    settings = load(written(tmp_path, '[mqtt]\npassword_credential = "mqtt"\n'))

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    password = read_password(settings.mqtt)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")

    assert password == "hunter2"  # noqa: S105  # it is this test's own
    with pytest.raises(ConfigError, match="there are no credentials here; systemd provides them"):
        read_password(settings.mqtt)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "the first line is empty"), (b"\xff", "is not UTF-8"), (b"x" * 65_536, "longer than")],
)
def test_a_password_that_cannot_be_one_is_refused(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "secret").write_bytes(content)
    settings = load(written(tmp_path, '[mqtt]\npassword_file = "secret"\n'))

    with pytest.raises(ConfigError, match=problem):
        read_password(settings.mqtt)


def test_the_user_name_may_be_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "who").write_text("attic\n")
    settings = load(written(tmp_path, '[mqtt]\nusername_credential = "who"\nversion = "3.1.1"\n'))

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    told = with_credentials(settings)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")

    assert told.mqtt.username == "attic"
    with pytest.raises(ConfigError, match=r"^mqtt\.username_credential: who: there are no"):
        with_credentials(settings)


def test_the_key_may_be_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cert").touch()
    settings = load(written(tmp_path, '[mqtt]\ncert_file = "cert"\nkey_credential = "key"\n'))

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert list(exposed_secrets(settings)) == []
    assert with_credentials(settings).mqtt.key_file == tmp_path / "key"


def test_a_user_name_that_is_configured_stays() -> None:
    settings = Settings.model_validate({"mqtt": {"username": "attic"}})

    assert with_credentials(settings) is settings


@pytest.mark.parametrize(
    ("mode", "remark"),
    [
        (0o600, ""),
        (0o640, ""),
        (0o604, "every user of this machine can read"),
        (0o602, "every user of this machine can change"),
    ],
)
@pytest.mark.parametrize("key", ["key_file", "password_file"])
def test_a_secret_that_everybody_gets_at_is_remarked_upon(
    tmp_path: Path, key: str, mode: int, remark: str
) -> None:
    (tmp_path / "cert").touch(0o644)
    (tmp_path / "secret").touch()
    (tmp_path / "secret").chmod(mode)
    settings = load(written(tmp_path, f'[mqtt]\ncert_file = "cert"\n{key} = "secret"\n'))

    remarks = [each for each in exposed_secrets(settings) if each.startswith(f"mqtt.{key}:")]

    assert len(remarks) == bool(remark)
    assert all(remark in each for each in remarks)


@pytest.mark.parametrize(
    ("key", "mode", "count"),
    [
        ('bind_key = "231d39c1d7cc1ab1aee224cd096db932"', 0o644, 1),
        ('bind_key = "231d39c1d7cc1ab1aee224cd096db932"', 0o640, 0),
        ("", 0o644, 0),
    ],
)
def test_a_configuration_with_keys_of_adverts_is_a_secret(
    tmp_path: Path, key: str, mode: int, count: int
) -> None:
    path = written(tmp_path, f'[[ble.device]]\naddress = "A4:C1:38:12:34:56"\n{key}\n')
    path.chmod(mode)

    remarks = list(exposed_secrets(load(path), path))

    assert len(remarks) == count
    assert all(each.endswith(f"can read {path}: chmod o= {path}") for each in remarks)


def test_a_certificate_is_a_secret_only_where_its_key_is_in_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "cert").touch()
    (tmp_path / "cert").chmod(0o644)
    (tmp_path / "key").touch(0o600)

    alone = load(written(tmp_path, '[mqtt]\ncert_file = "cert"\n'))
    beside = load(written(tmp_path, '[mqtt]\ncert_file = "cert"\nkey_file = "key"\n'))

    assert len(list(exposed_secrets(alone))) == 1
    assert list(exposed_secrets(beside)) == []


def test_no_password_is_no_error() -> None:
    assert read_password(Settings().mqtt) is None


_KEYS = st.sampled_from(
    ["gateway", "mqtt", "serial", "port", "host", "columns", "name", "a", "window", "exclude"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=20,
)


def settings_or_problem(path: Path | None, overrides: Overrides | None = None) -> Settings | str:
    try:
        return load(path, overrides)
    except ConfigError as exc:
        return str(exc)


@given(content=st.dictionaries(_KEYS, st.dictionaries(_KEYS, _VALUES, max_size=4), max_size=4))
def test_values_of_any_shape_are_settings_or_problems(
    content: dict[str, dict[str, object]],
) -> None:
    assert settings_or_problem(None, content)


@given(text=st.text(alphabet=string.printable, max_size=200) | st.text(max_size=50))
def test_text_of_any_kind_is_a_configuration_or_a_problem(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode(errors="surrogatepass"))

    outcome = settings_or_problem(path)

    assert isinstance(outcome, Settings) or str(path) in outcome


def test_the_example_configuration_is_valid_and_shows_every_key() -> None:
    path = Path(__file__).parents[2] / "systemd" / "gateway.toml"
    shown = path.read_text()
    examples = "\n".join(
        line.removeprefix("#") for line in shown.split("\n") if not line.startswith("# ")
    )

    assert load(path) == Settings.model_validate(tomllib.loads(shown))
    with_examples = tomllib.loads(examples)
    for section, field in Settings.model_fields.items():
        keys = getattr(field.annotation, "model_fields", None)
        assert section in with_examples
        assert keys is None or set(with_examples[section]) == set(keys), section
    assert set(with_examples["serial"]["port"][0]) == set(PortSettings.model_fields)
    assert set(with_examples["ble"]["device"][0]) == set(BleDeviceSettings.model_fields)
    (device,) = with_examples["device"]
    assert set(device) == set(DeviceSettings.model_fields)
    assert set(device["sensor"][0]) == set(SensorSettings.model_fields)
    assert Settings.model_validate({"device": [device]}).device

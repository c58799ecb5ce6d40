"""The command line through real processes: what a person or a script sees."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli.commands import COMMANDS
from gateway.config.loader import load
from gateway.config.models import Settings
from tests.support.commands import gateway
from tests.support.terminals import read_to_the_end

ESC = "\x1b"
EXAMPLE = Path(__file__).parents[2] / "systemd" / "gateway.toml"


def test_no_command_prints_the_help_and_is_wrong_usage() -> None:
    done = gateway()

    assert done.code == 2
    assert all(f"  {name} " in done.out for name in COMMANDS)


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_explains_each_command_without_colour(name: str | None) -> None:
    words = [name] if name else []

    done = gateway(*words, "--help")

    assert done.code == 0
    assert done.out.startswith(f"usage: {' '.join(['edge-gateway', *words])} ")
    assert len(done.out.split("\n")) >= 5
    assert ESC not in done.out + done.err
    assert done.err == ""


@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "version"])
def test_help_has_examples(name: str) -> None:
    assert f"examples:\n  edge-gateway {name}" in gateway(name, "--help").out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["sniffle"], "unknown command 'sniffle': did you mean 'sniff'?"),
        (["zzz"], "invalid choice: 'zzz'"),
        (["version", "extra"], "unrecognized arguments: extra"),
        (["check-config"], "the following arguments are required: FILE"),
        (
            ["run", "--broker", "http://x"],
            "broker: unknown scheme http://; use mqtt:// or mqtts://",
        ),
        (["run", "--broker", "mqtt://a:b@c"], "put it into a file"),
        (["run", "--config", "/nowhere.toml"], "/nowhere.toml: No such file or directory"),
        (["run", "--log-level", "loud"], "invalid choice: 'loud'"),
        (["run", "--port-pattern", ""], "command line: serial.patterns[0]: expected text of 1 to"),
    ],
)
def test_wrong_usage_is_explained_on_stderr(words: Sequence[str], complaint: str) -> None:
    done = gateway(*words)

    assert (done.code, done.out) == (2, "")
    assert complaint in done.err
    assert "Traceback" not in done.err


def test_version_is_one_line_or_many() -> None:
    short, long = gateway("--version"), gateway("version")

    assert (short.code, short.out) == (0, f"edge-gateway {__version__}\n")
    assert long.code == 0
    lines = dict(line.split(" ", 1) for line in long.out.splitlines())
    assert lines["edge-gateway"] == __version__
    assert lines["Python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert {"aiomqtt", "pydantic", "pyserial-asyncio", "rich", "amqtt"} <= set(lines)


def test_config_schema_is_the_schema_of_the_settings() -> None:
    done = gateway("config-schema")

    assert done.code == 0
    schema = json.loads(done.out)
    assert schema.pop("$schema") == "https://json-schema.org/draft/2020-12/schema"
    assert schema == Settings.model_json_schema()


def test_check_config_lists_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[mqtt]\nport = "abc"\n[serial]\nbaud = 9600\n[log]\nlevel = "loud"\n')

    done = gateway("check-config", str(path))

    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f'edge-gateway: {path}:2: mqtt.port: expected a whole number 1..65535, got "abc"\n'
        f"edge-gateway: {path}:4: serial.baud: unknown key `baud`: did you mean `baudrate`?\n"
        f'edge-gateway: {path}:6: log.level: expected one of "debug", "info", "warning", '
        '"error", got "loud"\n'
    )


def test_check_config_prints_what_is_in_force_as_a_configuration(tmp_path: Path) -> None:
    path, again = tmp_path / "gateway.toml", tmp_path / "again.toml"
    (tmp_path / "ca.pem").write_text("")
    path.write_text(
        '[gateway]\nname = "attic"\n[mqtt]\nca_file = "ca.pem"\n[[serial.port]]\nmatch = "a\\"b*"\n'
        'format = "csv"\ncolumns = ["wind", {key = "t", unit = "°C"}]\nseparator = "\\t"\n'
    )

    done = gateway("check-config", str(path))

    assert done.code == 0
    in_force = tomllib.loads(done.out)
    assert in_force["mqtt"]["base_topic"] == "edge/attic"
    assert in_force["mqtt"]["client_id"] == "edge-gateway-attic"
    assert (in_force["mqtt"]["port"], in_force["mqtt"]["tls"]) == (8883, True)
    again.write_text(done.out)
    assert load(again).serial == load(path).serial
    assert gateway("check-config", str(again)).out.split("\n")[1:] == done.out.split("\n")[1:]


def test_check_config_shows_no_secret_and_warns_if_everybody_can_read_it(tmp_path: Path) -> None:
    path, secret = tmp_path / "gateway.toml", tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o644)
    path.write_text('[mqtt]\nhost = "localhost"\npassword_file = "secret"\n')

    open_to_all = gateway("check-config", str(path))
    secret.chmod(0o600)
    closed = gateway("check-config", str(path))

    assert open_to_all.code == closed.code == 0
    assert f"every user of this machine can read {secret}" in open_to_all.err
    assert closed.err == ""
    assert "hunter2" not in open_to_all.out + open_to_all.err


def test_check_config_says_what_a_gateway_takes_an_empty_file_for(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").touch()

    done = gateway("check-config", str(tmp_path / "gateway.toml"))

    assert done.code == 0
    assert "is empty: a gateway that ran with another one takes that for" in done.err


def test_check_config_says_that_a_password_goes_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    (tmp_path / "secret").touch(0o600)
    path.write_text('[mqtt]\nhost = "broker"\npassword_file = "secret"\n')

    in_the_clear = gateway("check-config", str(path))
    path.write_text('[mqtt]\nhost = "broker"\npassword_file = "secret"\ntls = true\n')
    encrypted = gateway("check-config", str(path))

    assert "mqtt.tls is off: whoever is on the way to the broker" in in_the_clear.err
    assert encrypted.err == ""


def test_check_config_reads_from_a_pipe() -> None:
    done = gateway("check-config", "/dev/stdin", stdin=b"[mqtt]\nprot = 1\n")

    assert done.code == 2
    assert "/dev/stdin:2: mqtt.prot: unknown key `prot`: did you mean `port`?" in done.err


def test_the_example_configuration_has_no_problems() -> None:
    assert gateway("check-config", str(EXAMPLE)).code == 0


def test_a_reader_that_stops_reading_is_no_error() -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "gateway", "config-schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()
        complaint = writer.stderr.read()

    assert (writer.returncode, complaint) == (0, b"")


def test_output_that_does_not_fit_on_the_disk_is_told_in_a_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "config-schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert (done.returncode, done.stderr) == (
        1,
        b"edge-gateway: the output: No space left on device\n",
    )


def test_ctrl_c_while_a_command_is_imported_ends_it_without_a_traceback() -> None:
    script = """\
import os, signal, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "gateway.cli.ports":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
from gateway.cli import main
main(["ports"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_a_command_that_has_begun_is_interrupted_as_ever() -> None:
    script = """\
import os, signal
from gateway.cli import check_config, main

check_config.execute = lambda arguments: os.kill(os.getpid(), signal.SIGINT)
raise SystemExit(main(["check-config", "/dev/null"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (130, b"")


def test_a_word_too_many_is_told_with_the_usage_of_the_command() -> None:
    assert gateway("run", "now").err.startswith("usage: edge-gateway run ")


def test_help_is_no_wider_than_the_terminal() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
    environment = {name: text for name, text in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "gateway", "keys", "--help"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environment):
        os.close(theirs)
        lines = read_to_the_end(ours).decode().replace("\r", "").split("\n")
    os.close(ours)

    assert max(map(len, lines)) <= 60
    assert "  edge-gateway keys rotate shed" in lines
    assert len(max(lines, key=len)) > 50

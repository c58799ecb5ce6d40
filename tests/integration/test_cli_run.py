"""`run` as a user and as systemd start and stop it."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.simulate.pty_port import PtyPort
from tests.support import nursery
from tests.support.broker import Broker
from tests.support.commands import gateway, running
from tests.support.fake_journal import FakeJournal

SAMPLE_WITHIN_S = "30"


def one_sample(mosquitto_sub: Path, port: int) -> tuple[str, dict[str, object]]:
    """Return the topic and the payload of the first state that is published.

    Retained messages are left out: the embedded broker may send one of another topic.
    """
    done = subprocess.run(
        [
            *(str(mosquitto_sub), "-p", str(port), "-t", "edge/+/+/state", "-R"),
            *("-C", "1", "-W", SAMPLE_WITHIN_S, "-F", "%t %p"),
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )
    topic, payload = done.stdout.decode().split(" ", 1)
    return topic, json.loads(payload)


def needs_no_broker_on_localhost() -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 1883)) == 0:
            pytest.skip("a broker of this machine listens on port 1883, so `run` takes that one")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_samples_of_a_board_are_published_until_a_signal_stops_it(
    tmp_path: Path, broker: Broker, mosquitto_sub_bin: Path, number: signal.Signals
) -> None:
    ports = tmp_path / "ports"

    with (
        running(*("simulate", "--kind", "json", "--name", "shed", "--link-dir", str(ports))),
        running(
            *("run", "--broker", f"127.0.0.1:{broker.port}", "--port-pattern", f"{ports}/*"),
        ) as daemon,
    ):
        topic, sample = one_sample(mosquitto_sub_bin, broker.port)
        done = daemon.stop(number)

    assert topic.endswith("/shed-0/state")
    assert {"temperature", "humidity", "time", "id"} <= set(sample)
    assert (done.code, done.out) == (0, "")
    assert "Traceback" not in done.err


def test_without_any_broker_it_starts_the_embedded_one_and_says_so_in_one_line(
    tmp_path: Path, mosquitto_sub_bin: Path
) -> None:
    needs_no_broker_on_localhost()
    ports = tmp_path / "ports"

    with (
        running(*("simulate", "--kind", "json", "--name", "shed", "--link-dir", str(ports))),
        running("run", "--port-pattern", f"{ports}/*") as daemon,
    ):
        said = daemon.err.next("started the embedded one on 127.0.0.1:")
        topic, _ = one_sample(mosquitto_sub_bin, int(said.rpartition(":")[2]))
        done = daemon.stop()

    assert topic.endswith("/shed-0/state")
    assert done.code == 0
    assert done.err.count("embedded one") == 1


def test_it_fails_when_the_embedded_broker_ends(tmp_path: Path) -> None:
    needs_no_broker_on_localhost()

    with running("run", "--port-pattern", f"{tmp_path}/*") as daemon:
        daemon.err.next("started the embedded one")
        (child,) = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        done = daemon.wait()

    assert done.code == 1
    assert "edge-gateway: the embedded broker ended" in done.err
    assert "Traceback" not in done.err


def test_without_any_broker_and_without_the_extra_it_says_what_to_do() -> None:
    needs_no_broker_on_localhost()
    script = "import sys; sys.modules['amqtt'] = None; from gateway.cli import main; main(['run'])"

    done = subprocess.run(
        [sys.executable, "-c", script.replace("main(['run'])", "sys.exit(main(['run']))")],
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert b"name one with --broker, or install the embedded one: pip install" in done.stderr


def test_with_a_configuration_it_waits_for_the_broker_of_this_machine(tmp_path: Path) -> None:
    """A service that ends where a broker comes later is silently dead: 2 is not started again."""
    needs_no_broker_on_localhost()
    config = tmp_path / "gateway.toml"
    config.write_text(f'[serial]\npatterns = ["{tmp_path}/*"]\n[ble]\nenabled = false\n')

    environment = {"STATE_DIRECTORY": str(tmp_path)}
    with running("run", "--config", str(config), environment=environment) as daemon:
        daemon.err.next("at localhost:1883; what the broker does not have waits in")
        daemon.err.next("retry in")
        done = daemon.stop(signal.SIGTERM)

    assert done.code == 0
    assert "embedded" not in done.err


def test_a_password_that_cannot_be_had_stops_it_before_it_begins(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[mqtt]\nhost = "broker"\npassword_credential = "mqtt"\n')

    done = gateway("run", "--config", str(config), environment={"CREDENTIALS_DIRECTORY": ""})

    assert (done.code, done.out) == (2, "")
    assert "mqtt.password_credential: mqtt: there are no credentials here" in done.err


def test_the_broker_may_be_absent_at_the_start(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with running(
            *("run", "--broker", f"127.0.0.1:{port}", "--port-pattern", f"{tmp_path}/*"),
        ) as daemon:
            daemon.err.next("retry in")
            done = daemon.stop(signal.SIGTERM)

    assert done.code == 0
    assert f"looking for boards at {tmp_path}/*\n" in done.err
    assert "Traceback" not in done.err


def journal_environment(stderr: int, socket: Path) -> dict[str, str]:
    """Return what a service is told whose stderr goes to journald."""
    status = os.fstat(stderr)
    stream = f"{status.st_dev}:{status.st_ino}"
    return {**os.environ, "JOURNAL_STREAM": stream, "EDGE_GATEWAY_JOURNAL": str(socket)}


def test_what_ends_a_service_is_an_error_for_journald(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("[mqtt]\nprot = 1\n[serial]\nbaud = 1\n")
    reader, writer = os.pipe()
    environment = journal_environment(writer, tmp_path / "nobody")
    command = [sys.executable, "-m", "gateway", "run", "--config", str(config)]
    with nursery.Popen(command, stderr=writer, env=environment) as daemon:
        os.close(writer)
        with os.fdopen(reader) as lines:
            told = lines.read().splitlines()

    assert daemon.returncode == 2
    assert len(told) == 2
    assert all(line.startswith("<3>edge-gateway: ") for line in told)


def test_where_journald_has_no_socket_lines_have_a_priority_and_no_time(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    environment = journal_environment(writer, tmp_path / "nobody")
    with nursery.Popen(
        [
            *(sys.executable, "-m", "gateway", "run", "--broker", "127.0.0.1:1"),
            *("--port-pattern", f"{tmp_path}/*"),
        ],
        stderr=writer,
        env=environment,
    ) as daemon:
        os.close(writer)
        with os.fdopen(reader) as lines:
            told = [lines.readline()]
            while not told[-1].startswith("<4>"):
                told.append(lines.readline())
            daemon.terminate()
            lines.read()

    assert all(line.startswith("<6>INFO gateway.") for line in told[:-1])
    assert told[-1].startswith("<4>WARNING gateway.")
    assert len(told) > 1
    assert daemon.returncode == 0


def test_journald_gets_what_each_line_is_about(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[mqtt]\nhost = "127.0.0.1"\nport = 1\n[serial]\npatterns = ["{tmp_path}/tty*"]\n'
    )
    port = PtyPort(tmp_path / "ttyTEST")
    port.plug()
    reader, writer = os.pipe()
    with (
        FakeJournal(tmp_path / "journal") as journal,
        nursery.Popen(
            [sys.executable, "-m", "gateway", "run", "--config", str(config)],
            stderr=writer,
            env=journal_environment(writer, journal.path),
        ) as daemon,
    ):
        os.close(writer)
        found = journal.until(lambda entry: entry.get("LINK") == ["ttyTEST"])
        known = journal.until(
            lambda entry: "DEVICE" in entry,
            lambda: port.write(b'{"id": "shed", "temperature": 21.5}\n'),
        )
        daemon.send_signal(signal.SIGHUP)
        reload = journal.until(lambda entry: "reload" in entry["MESSAGE"][0])
        daemon.terminate()
        with os.fdopen(reader) as lines:
            on_stderr = lines.read()
    port.unplug()

    assert found["MESSAGE"][0].startswith("ttyTEST: found ")
    assert (found["PRIORITY"], found["LOGGER"]) == (["6"], ["gateway.ports"])
    assert (known["DEVICE"], known["LINK"]) == (["shed"], ["ttyTEST"])
    assert known["LOGGER"] == ["gateway.devices.registry"]
    assert reload["MESSAGE"] == ["reload: nothing has changed"]
    assert not {"DEVICE", "LINK"} & reload.keys()
    assert on_stderr == ""


def test_without_the_packages_of_a_virtual_radio_it_says_which_in_a_line(tmp_path: Path) -> None:
    words = ["run", "--broker", "127.0.0.1:1", "--port-pattern", f"{tmp_path}/*"]
    words += ["--adapter", "virtual:127.0.0.1:1"]
    script = (
        f"import sys; sys.modules['bumble'] = None; from gateway.cli import main; main({words})"
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, env=environment
    ) as daemon:
        assert daemon.stderr is not None
        said = next(line for line in daemon.stderr if b" bluetooth: " in line)
        daemon.terminate()
        rest = daemon.stderr.read()

    assert b"bumble is not installed: pip install 'edge-gateway[demo]'" in said
    assert b"Traceback" not in said + rest

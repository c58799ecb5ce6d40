"""`simulate`: boards on ptys, for whoever opens them."""

import asyncio
import json
import os
import select
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from gateway.cli.sim_flashed import older
from gateway.model import device_slug
from gateway.own_bundle import own_bundle
from gateway.protocol import messages as m
from gateway.protocol.frames import Frame, open_frame
from gateway.protocol.sealed import key_id
from gateway.simulate.radio.bleak_backend import virtual_backend
from gateway.store.keys import parse_keys
from tests.support.broker import Broker, free_port
from tests.support.commands import gateway, running
from tests.support.echo_central import find, scanning
from tests.support.updating import verified

HEARD_WITHIN_S = 20.0
"""MicroPython says HELLO within a second; CPython takes more on a busy machine."""


def first_line_from(path: str, containing: bytes) -> bytes:
    """Read the port until a whole line with the text came."""
    port = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    heard = b""
    deadline_s = time.monotonic() + HEARD_WITHIN_S
    try:
        while time.monotonic() < deadline_s:
            select.select([port], [], [], deadline_s - time.monotonic())
            heard += os.read(port, 4096)
            *lines, _ = heard.split(b"\n")
            for line in lines:
                if containing in line:
                    return line
    finally:
        os.close(port)
    raise AssertionError(f"no {containing!r} in {heard!r}")


def hello_of(path: str) -> m.Hello:
    frame = open_frame(first_line_from(path, b"~"))
    assert isinstance(frame, Frame)
    message = m.decode(frame)
    assert isinstance(message, m.Hello)
    return message


def test_boards_with_the_firmware_say_hello_on_ports_in_a_folder(tmp_path: Path) -> None:
    ports = tmp_path / "ports"

    with running(
        *("simulate", "--boards", "2", "--name", "shed", "--sensors", "bme280,heap"),
        *("--link-dir", str(ports), "--json"),
    ) as boards:
        told = [json.loads(boards.out.next()) for _ in range(2)]
        hellos = [hello_of(board["path"]) for board in told]
        done = boards.stop()

    assert done.code == 0
    assert told == [{"name": f"shed-{n}", "path": str(ports / f"shed-{n}")} for n in range(2)]
    assert [hello.name for hello in hellos] == ["shed-0", "shed-1"]
    assert [hello.actuators for hello in hellos] == [2, 2]  # a switch and a lamp
    assert len({hello.id for hello in hellos}) == 2
    assert [path.name for path in ports.iterdir()] == [".flash"]


def test_flashed_boards_have_an_older_firmware_and_a_key_and_stay_as_they_are(
    micropython_bin: Path, tmp_path: Path
) -> None:
    ports = tmp_path / "ports"
    wanted = ("simulate", "--flashed", "--link-dir", str(ports))
    met, told = [], []

    for interval in ("500", "700"):
        with running(
            *(*wanted, "--interval-ms", interval, "--interpreter", str(micropython_bin))
        ) as boards:
            met.append(hello_of(boards.out.next()))
            told.append(boards.stop())
        config = json.loads((ports / ".flash" / "sim-0" / "config.json").read_bytes())
        assert config["sensors"][0]["interval_ms"] == 500

    keys_file = ports / ".flash" / "keys"
    keys = parse_keys(keys_file.read_text(encoding="utf-8"))
    assert [each.code for each in told] == [0, 0]
    assert all(f"keys import {keys_file}" in each.err for each in told)
    assert keys_file.stat().st_mode & 0o777 == 0o600
    assert [hello.firmware for hello in met] == ["0.0.0", "0.0.0"]
    assert list(keys) == [device_slug(met[0].id)]
    assert [hello.key_id for hello in met] == [key_id(keys[device_slug(met[0].id)][0])] * 2
    assert verified(ports / ".flash" / "sim-0") == older(own_bundle()).short_hash


def test_plain_output_is_one_path_a_line_and_leaves_nothing_behind() -> None:
    with running("simulate", "--kind", "json", "--boards", "2") as boards:
        paths = [boards.out.next() for _ in range(2)]
        kinds = [stat.S_ISCHR(os.stat(path).st_mode) for path in paths]
        done = boards.stop(signal.SIGTERM)

    assert kinds == [True, True]
    assert done.code == 0
    assert done.out.splitlines() == paths
    assert not Path(paths[0]).parent.exists()


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("json", {"temperature", "humidity"}),
        ("json-acked", {"seq", "temperature", "humidity"}),
    ],
)
def test_boards_that_print_json(kind: str, keys: set[str]) -> None:
    with running("simulate", "--kind", kind, "--interval-ms", "100") as boards:
        line = first_line_from(boards.out.next(), b"{")
        boards.stop()

    assert set(json.loads(line.split(b"\t")[0])) == keys


def test_light_boards_share_a_process() -> None:
    with running("simulate", "--light", "--boards", "20", "--name", "many") as boards:
        paths = [boards.out.next() for _ in range(20)]
        hello = hello_of(paths[19])
        children = Path(f"/proc/{boards.pid}/task/{boards.pid}/children").read_text()
        done = boards.stop()

    assert hello.id == "many-0019"
    assert children == ""
    assert done.code == 0


async def test_boards_and_sensors_are_on_a_radio_at_the_address_that_is_printed() -> None:
    with running(
        *("simulate", "--radio", "--boards", "1", "--bthome", "1", "--name", "barn"),
        *("--sensors", "heap", "--json"),
    ) as boards:
        lines = [await asyncio.to_thread(boards.out.next) for _ in range(3)]
        adapter, sensor, board = map(json.loads, lines)
        backend = virtual_backend(adapter["adapter"].removeprefix("virtual:"))
        await find(backend, board["address"])
        async with scanning(backend) as ear:
            _, told = await ear.next(sensor["address"])
        done = await asyncio.to_thread(boards.stop)

    assert done.code == 0
    assert (sensor["name"], board["name"]) == ("barn-bthome-0", "barn-0")
    assert list(told.service_data) == ["0000fcd2-0000-1000-8000-00805f9b34fb"]


def test_a_stand_in_for_the_broker_drops_what_the_plan_says(
    broker: Broker, mosquitto_pub_bin: Path
) -> None:
    with running(
        *("simulate", "--boards", "0", "--broker", f"localhost:{broker.port}", "--json"),
        *("--faults", "puback_drop=1"),
    ) as boards:
        url = json.loads(boards.out.next())["broker"]
        publish = [str(mosquitto_pub_bin), "-L", f"{url}/t", "-m", "x", "-q"]
        doubtful = subprocess.Popen([*publish, "1"])
        while "Sending PUBACK" not in broker.log() and doubtful.poll() is None:
            time.sleep(0.02)
        harmless = subprocess.run([*publish, "0"], check=False, timeout=30)
        is_waiting = doubtful.poll() is None
        doubtful.kill()
        doubtful.wait()
        done = boards.stop()

    assert url.startswith("mqtt://127.0.0.1:")
    assert harmless.returncode == 0
    assert is_waiting
    assert done.code == 0


def test_boards_and_a_stand_in_for_the_broker_are_offered_together(broker: Broker) -> None:
    port = free_port()
    with running(
        *("simulate", "--kind", "json", "--broker", f"localhost:{broker.port}"),
        *("--proxy-port", str(port)),
    ) as boards:
        url, path = boards.out.next(), boards.out.next()
        is_port = stat.S_ISCHR(os.stat(path).st_mode)
        boards.stop()

    assert url == f"mqtt://127.0.0.1:{port}"
    assert is_port


def test_a_port_that_is_taken_is_an_error(broker: Broker) -> None:
    done = gateway("simulate", "--broker", "localhost", "--proxy-port", str(broker.port))

    assert done.code == 1
    assert f"broker proxy on port {broker.port}: Address already in use" in done.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--sensors", "bmx"], "unknown sensor 'bmx'; there are bme280, sht3x"),
        (["--faults", "dorp=0.1"], "unknown fault 'dorp': did you mean 'drop'?"),
        (["--boards", "0"], "--boards: from 1 to 2000, not 0"),
        (["--boards", "-1", "--broker", "h"], "--boards: from 0 to 2000, not -1"),
        (["--faults", "kill_every_s=1", "--light"], "kill_every_s is for boards with the firmware"),
        (["--faults", "puback_drop=1"], "those of the broker need --broker HOST:PORT"),
        (["--broker", "mqtts://h"], "plain MQTT only, not of mqtts://"),
        (["--broker", "h:x"], "expected a port of 1 to 65535 behind the last colon"),
        (["--broker", "h", "--proxy-port", "65536"], "--proxy-port: from 0 to 65535, not 65536"),
        (["--boards", "many"], "invalid int value: 'many'"),
        (["--interval-ms", "0"], "--interval-ms: 1 or more, not 0"),
        (["--name", "a b/c"], "--name: a part of a file's name, so without /, not 'a b/c'"),
        (["--kind", "csv", "--light"], "not allowed with argument"),
        (["--bthome", "1"], "--bthome: sensors need the radio, --radio"),
        (["--radio", "--bthome", "1001"], "--bthome: from 0 to 1000, not 1001"),
        (["--radio", "--light"], "--radio: only boards with the firmware have one"),
        (["--radio", "--boards", "101"], "--radio: room for 100 boards, not 101"),
        (["--radio", "--radio-port", "-1"], "--radio-port: from 0 to 65535, not -1"),
        (["--radio", "--sensors", "bmx"], "unknown sensor 'bmx'; there are bme280, sht3x"),
        (["--actuators", "bell"], "unknown actuator 'bell'; there are switch, light"),
        (["--faults", "radio_slow_s=1"], "those of the radio need --radio"),
        (["--interpreter", "/nowhere"], "/nowhere is no MicroPython that runs here"),
        (
            ["--flashed", "--interpreter", "cpython"],
            "--flashed: boards with compiled firmware need",
        ),
        (["--flashed", "--kind", "csv"], "--flashed: only boards with the firmware"),
        (["--link-dir", "/dev/null/x"], "--link-dir: /dev/null/x: Not a directory"),
    ],
)
def test_wrong_usage_is_explained(words: list[str], complaint: str) -> None:
    done = gateway("simulate", *words)

    assert (done.code, done.out) == (2, "")
    assert complaint in done.err
    assert "Traceback" not in done.err

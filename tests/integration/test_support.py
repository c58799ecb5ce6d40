"""The tests' own instruments, tried: a broker that restarts, a subscriber, the watch over leaks."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiomqtt
import pytest

from gateway.clock import Clock
from tests.support import nursery
from tests.support.broker import HOST, Broker, BrokerError, free_port
from tests.support.fast_loop import run_at
from tests.support.leaks import Holdings, tasks_left
from tests.support.remarks import remarks
from tests.support.subscriber import Subscriber


def publisher(broker: Broker) -> aiomqtt.Client:
    return aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5)


def test_a_broker_restarts_on_its_port(broker: Broker) -> None:
    port, pid = broker.port, broker.pid

    broker.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, port), 1.0)
    broker.start()

    assert broker.port == port
    assert broker.pid != pid
    socket.create_connection((broker.host, port), 1.0).close()


def test_a_broker_that_cannot_start_shows_its_log(mosquitto_bin: Path, tmp_path: Path) -> None:
    broken = Broker(mosquitto_bin, tmp_path, settings=["no_such_setting 1"])

    with pytest.raises(BrokerError, match="no_such_setting"):
        broken.start()

    assert not broken.is_running


def test_a_setting_takes_the_place_of_the_usual_one(mosquitto_bin: Path, tmp_path: Path) -> None:
    with Broker.running(mosquitto_bin, tmp_path) as usual:
        told = usual.log()
    quiet_folder = tmp_path / "quiet"
    quiet_folder.mkdir()
    with Broker.running(mosquitto_bin, quiet_folder, settings=["log_type error"]) as quiet:
        silence = quiet.log()

    assert "running" in told
    assert "running" not in silence


DEAF_AT_FIRST = """#!{python}
import signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
port = int(open(sys.argv[2]).readline().split()[1])
listener = socket.create_server(("127.0.0.1", port))
time.sleep(0.5)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
while True:
    client, _ = listener.accept()
    client.recv(1)
    client.close()
"""
"""What mosquitto 2.0 does in a few microseconds: it listens before SIGTERM can end it."""


def test_a_broker_is_started_when_it_can_also_be_stopped(tmp_path: Path) -> None:
    program = tmp_path / "deaf"
    program.write_text(DEAF_AT_FIRST.format(python=sys.executable))
    program.chmod(0o755)
    broker = Broker(program, tmp_path)

    broker.start()
    broker.stop()

    assert not broker.is_running


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, free_port()))


async def test_a_subscriber_keeps_messages_in_order_with_their_properties(broker: Broker) -> None:
    async with Subscriber(broker.host, broker.port, "edge/#") as subscriber:
        async with publisher(broker) as client:
            await client.publish("edge/a/state", '{"temperature":21.5}', qos=1, retain=True)
            await client.publish("other", b"not for us", qos=1)
            await client.publish("edge/b/log", b"\xff\x00", qos=0)
        await subscriber.wait_for(lambda messages: len(messages) == 2)

    first, second = subscriber.messages
    assert (first.topic, first.json(), first.qos, first.retain) == (
        "edge/a/state",
        {"temperature": 21.5},
        1,
        True,
    )
    assert (second.topic, second.payload, second.qos, second.retain) == (
        "edge/b/log",
        b"\xff\x00",
        0,
        False,
    )
    assert subscriber.on("edge/+/state") == [first]


async def test_a_subscriber_counts_what_came_when_it_waited_in_vain(broker: Broker) -> None:
    async with Subscriber(broker.host, broker.port) as subscriber, publisher(broker) as client:
        await client.publish("edge/a", b"1", qos=1)
        await subscriber.wait_for(lambda messages: len(messages) == 1)

        with pytest.raises(AssertionError, match=r"received 1 messages\n +1 x edge/a"):
            await subscriber.wait_for(lambda messages: len(messages) == 2, timeout_s=0.05)


async def test_a_subscriber_loses_nothing_when_a_persistent_broker_restarts(
    mosquitto_bin: Path, tmp_path: Path
) -> None:
    with Broker.running(mosquitto_bin, tmp_path, persistence=True) as broker:
        async with Subscriber(broker.host, broker.port, "edge/#") as subscriber:
            async with publisher(broker) as client:
                await client.publish("edge/a", b"before", qos=1, retain=True)
            await subscriber.wait_for(lambda messages: len(messages) == 1)

            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)
            async with publisher(broker) as client:
                await client.publish("edge/a", b"after", qos=1, retain=True)
            await subscriber.wait_for(lambda messages: messages[-1].payload == b"after")
            await subscriber.wait_connections(2)

            # Twice if the broker stopped before it had the acknowledgement: that is QoS 1.
            payloads = [message.payload for message in subscriber.messages]
            assert list(dict.fromkeys(payloads)) == [b"before", b"after"]


def test_a_descriptor_left_open_is_seen_though_its_number_was_used_before() -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = Holdings.now()
    os.close(null)
    reading, writing = os.pipe()

    left = Holdings.now().left_since(before)
    os.close(reading)
    os.close(writing)

    assert f"descriptor {reading} -> pipe:" in left
    assert Holdings.now().left_since(before) == ""


def test_a_child_left_running_is_seen() -> None:
    before = Holdings.now()
    with subprocess.Popen(["sleep", "60"]) as child:
        left = Holdings.now().left_since(before)
        child.kill()

    assert left == f"child process {child.pid}"


async def test_a_task_left_running_is_seen() -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(asyncio.Event().wait(), name="waits for ever")

        left = await tasks_left()
        waiting.cancel()

    assert len(left) == 1
    assert "waits for ever" in left[0]
    assert await tasks_left() == []


def test_of_a_gateway_s_log_what_explains_a_failure_remains() -> None:
    at = "2026-11-23T03:00:00.000"
    told = [
        f"{at} INFO gateway.cli.run: looking for boards at /dev/serial/by-id/*",
        f"{at} ERROR gateway.store.store: outbox.db was damaged: 3 rows are kept",
        f"{at} INFO gateway.store.keeper: 7 records of 2 devices wait on disk",
        "Traceback (most recent call last):",
        "ZeroDivisionError: division by zero",
    ]
    noise = [f"{at} INFO gateway.pipeline: attic: Attic on ttyUSB0", "  at some line"]

    assert remarks("\n".join([*noise, *told, *noise])) == "\n".join(told)
    assert remarks("\n".join(told * 100)).splitlines()[0] == "(300 earlier lines left out)"


def test_the_fast_loop_counts_its_waits_and_not_those_for_the_processor() -> None:
    async def main(clock: Clock) -> tuple[float, float]:
        began_s = clock.monotonic_s()
        time.sleep(0.2)  # noqa: ASYNC251 - as long as others have the processor
        held_up_s = clock.monotonic_s() - began_s
        await asyncio.sleep(4.0)
        return held_up_s, clock.monotonic_s() - began_s - held_up_s

    held_up_s, slept_s = run_at(40.0, main)

    assert held_up_s < 4.0, "0.2 s on the wall would be 8 s"
    assert 3.99 < slept_s < 8.0


SAY_ALL = """
import json, os, sys
seen = os.environ.get("SAID"), "OTHER" in os.environ, sys.stdin.read()
print(json.dumps([sys.argv, __name__, os.getcwd(), *seen]))
print("éß", file=sys.stderr)
sys.exit(7)
"""


def test_a_process_of_a_nursery_is_as_one_that_starts_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text(SAY_ALL)
    monkeypatch.setenv("OTHER", "1")
    environment = {key: value for key, value in os.environ.items() if key != "OTHER"}
    command = [sys.executable, "script.py", "a", "b c"]

    done = []
    for anew in (False, True):
        nursery.start_anew(wanted=anew)
        done.append(
            nursery.run(
                command,
                stdin=b"in",
                folder=tmp_path,
                environment=environment | {"SAID": "ü"},
                timeout_s=60,
            )
        )

    assert json.loads(done[0].stdout) == [
        ["script.py", "a", "b c"],
        *("__main__", str(tmp_path), "ü", False, "in"),
    ]
    assert done[0].stderr.decode() == "éß\n"
    assert done[0].returncode == 7
    assert vars(done[0]) == vars(done[1])


def test_a_process_of_a_nursery_is_a_child_that_can_be_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import time\nprint(1, flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "script.py"]

    with nursery.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        held = Path(f"/proc/{process.pid}/fd")
        assert sorted(os.listdir(held)) == ["0", "1", "2"]
        process.send_signal(signal.SIGINT)

    assert process.returncode == -signal.SIGINT


def test_what_python_looks_at_when_it_starts_starts_it_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys; print(sys.flags.utf8_mode)")
    command = [sys.executable, "script.py"]

    done = nursery.run(
        command, folder=tmp_path, environment={**os.environ, "PYTHONUTF8": "1"}, timeout_s=60
    )

    assert done.stdout == b"1\n"

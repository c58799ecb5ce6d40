"""`edge-gateway doctor` as a person, or a script, sees it."""

import json
import os
from pathlib import Path

from tests.support.broker import Broker
from tests.support.commands import gateway

TEXTS = {"where", "severity", "what", "expected", "got", "mend"}


def configured(folder: Path, port: int) -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'
        f'[serial]\npatterns = ["{folder}/port*"]\n[ble]\nenabled = false\n'
        f'[outbox]\npath = "{folder}/outbox.db"\n'
    )
    return path


def test_where_nothing_is_wrong_it_says_so_as_json_and_leaves_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    path = configured(tmp_path, broker.port)
    before = sorted(os.listdir(tmp_path))

    done = gateway("doctor", "--config", str(path), "--json")

    told = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert told["verdict"] in {"ok", "warning"}
    assert all(set(each) == TEXTS for each in told["findings"])
    assert all(isinstance(text, str) for each in told["findings"] for text in each.values())
    wheres = [each["where"] for each in told["findings"] if each["severity"] == "ok"]
    assert f"broker 127.0.0.1:{broker.port}" in wheres
    assert {"configuration", "bluetooth", "store"} <= set(wheres)
    assert sorted(os.listdir(tmp_path)) == before


def test_what_is_wrong_is_printed_plainly_with_what_mends_it(
    broker: Broker, tmp_path: Path
) -> None:
    path = configured(tmp_path, broker.port)
    port = broker.port
    broker.stop()

    done = gateway("doctor", "--config", str(path))

    assert (done.code, done.err) == (1, "")
    lines = done.out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("ERROR")]
    assert lines[at].split()[1:3] == ["broker", f"127.0.0.1:{port}"]
    assert lines[at].endswith("connection refused: nothing listens there")
    assert lines[at + 1].strip().startswith("mend: sudo systemctl enable --now mosquitto")
    assert lines[-1].startswith("1 wrong, ")
    assert "\x1b" not in done.out


def test_a_broken_configuration_is_wrong_and_bad_usage_is_another_matter(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[mqtt\n")

    broken = gateway("doctor", "--config", str(path), "--json")
    unusable = gateway("doctor", "--broker", "ftp://x")

    accused = [each for each in json.loads(broken.out)["findings"] if each["severity"] == "error"]
    assert broken.code == 1
    assert [each["where"] for each in accused] == ["configuration"]
    assert f"edge-gateway check-config {path}" in accused[0]["mend"]
    assert (unusable.code, unusable.out) == (2, "")

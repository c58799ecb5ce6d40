"""The configuration read again: what follows it, what does not, and what changes nothing."""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.config.loader import load
from gateway.config.models import Settings
from gateway.errors import ConfigError, LinkError
from gateway.reload import Act, Reloader, Turns, changed_keys
from gateway.wiring import backup_files, ble_options, ports_options, public_settings, secrets_of


def settings_of(**sections: Any) -> Settings:  # noqa: ANN401 - what a file could hold
    return Settings.model_validate({"gateway": {"name": "attic"}, **sections})


class Part:
    """Follows one section, and notes what it was brought to."""

    def __init__(self, *begun_anew: str) -> None:
        self.followed: list[Settings] = []
        self.begun_anew = list(begun_anew)
        self.fails_with: Exception | None = None
        self.act_fails_with: Exception | None = None

    def look(self, settings: Settings) -> Act | None:
        if self.fails_with is not None:
            raise self.fails_with
        if settings.serial == (self.followed or [settings_of()])[-1].serial:
            return None

        async def act() -> list[str]:
            if self.act_fails_with is not None:
                raise self.act_fails_with
            self.followed.append(settings)
            return self.begun_anew

        return act


class Site:
    """A configuration somebody edits, and the gateway's way to it."""

    def __init__(self, look_s: float = 60.0) -> None:
        self.file: Settings | ConfigError = settings_of()
        self.password: str | None = None
        self.serial = Part("ttyUSB0")
        self.log = Part()
        parts = {"serial": self.serial.look, "log": self.log.look}
        self.path = Path("gateway.toml")
        self.trouble = ""
        self.disk = threading.Event()
        """Whether it answers."""
        self.disk.set()
        self.reloader = Reloader(settings_of(), None, self, parts, look_s)

    def keep(self) -> None:
        """Keep nothing."""

    def reread(self) -> tuple[Settings, str | None]:
        assert self.disk.wait(60)
        if isinstance(self.file, ConfigError):
            raise self.file
        return self.file, self.password


@pytest.fixture
def site() -> Site:
    return Site()


async def test_what_is_the_same_is_left_alone(site: Site) -> None:
    done = await site.reloader.reload()

    assert (done.changed, done.applied, done.needs_restart, done.reopened) == ([], [], [], [])
    assert site.serial.followed == []


async def test_a_part_follows_its_section_and_says_what_it_began_anew(site: Site) -> None:
    site.file = settings_of(serial={"baudrate": 9600})

    done = await site.reloader.reload()

    assert done.changed == ["serial.baudrate"]
    assert "serial" in done.applied
    assert done.reopened[0] == "ttyUSB0"
    assert done.needs_restart == []
    assert site.serial.followed == [site.file]
    assert site.reloader.settings.serial.baudrate == 9600


async def test_what_no_part_follows_needs_a_restart_and_stays_as_it_is(site: Site) -> None:
    site.file = settings_of(mqtt={"host": "elsewhere"}, serial={"rescan_s": 5.0})
    site.password = "other"  # noqa: S105 - a test's

    for _ in range(2):  # it is told again until it was restarted
        done = await site.reloader.reload()
        assert "mqtt.host" in done.changed
        assert done.needs_restart == ["mqtt.host", "mqtt.password_file"]

    assert site.reloader.settings.mqtt.host == "localhost"
    assert site.reloader.settings.serial.rescan_s == 5.0


async def test_a_part_that_fails_on_its_way_is_tried_again_by_the_next_reload(site: Site) -> None:
    site.file = settings_of(serial={"baudrate": 9600}, log={"level": "debug"})
    site.serial.act_fails_with = LinkError("can't start new thread")
    with pytest.raises(LinkError, match="thread"):
        await site.reloader.reload()
    assert site.reloader.settings == settings_of()

    site.serial.act_fails_with = None
    done = await site.reloader.reload()

    assert done.changed == ["serial.baudrate", "log.level"]
    assert site.serial.followed[-1] == site.file
    assert site.reloader.settings.serial.baudrate == 9600


@pytest.mark.parametrize("where", ["file", "part"])
async def test_what_cannot_be_used_changes_nothing_and_says_why(site: Site, where: str) -> None:
    trouble = ConfigError("gateway.toml:3: serial.baudrate: expected a whole number")
    if where == "file":
        site.file = trouble
    else:  # such as a file of bind keys that is named and cannot be read
        site.file, site.log.fails_with = settings_of(serial={"baudrate": 9600}), trouble

    with pytest.raises(ConfigError, match="expected a whole number"):
        await site.reloader.reload()

    assert site.serial.followed == []
    assert site.reloader.settings == settings_of()


async def test_a_disk_that_hangs_changes_nothing_and_holds_up_no_later_reload() -> None:
    site = Site(look_s=0.5)
    site.file = settings_of(serial={"baudrate": 9600})
    site.disk.clear()
    with pytest.raises(ConfigError, match=r"could not be read within 0\.5 s: the disk hangs"):
        await site.reloader.reload()
    assert site.serial.followed == []

    site.disk.set()
    done = None
    while done is None:
        with suppress(ConfigError):  # a busy machine may take that long, too
            done = await site.reloader.reload()
    assert done.changed == ["serial.baudrate"]


async def test_without_a_configuration_there_is_nothing_to_read() -> None:
    with pytest.raises(ConfigError, match="started without a configuration"):
        await Reloader(settings_of(), None, None, {}).reload()


async def test_two_reloads_come_one_after_the_other(site: Site) -> None:
    site.file = settings_of(serial={"baudrate": 9600})

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(site.reloader.reload())
        second = tasks.create_task(site.reloader.reload())

    assert first.result().changed == ["serial.baudrate"]
    assert second.result().changed == []


class Work:
    """Something that takes until it is let go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.at_a_time = 0
        self.may_end = asyncio.Event()

    async def do(self) -> int:
        self.begun += 1
        self.at_a_time += 1
        assert self.at_a_time == 1
        number = self.begun
        await self.may_end.wait()
        self.at_a_time -= 1
        return number


async def turns_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asks_while_it_is_under_way_shares_the_next_time_and_no_more_is_done() -> None:
    work = Work()
    async with asyncio.TaskGroup() as tasks:
        turns = Turns(tasks, work.do, "reload")
        first = [tasks.create_task(turns.done()) for _ in range(3)]
        await turns_of_the_loop()
        for _ in range(1000):
            turns.ask()
        later = [tasks.create_task(turns.done()) for _ in range(3)]
        await turns_of_the_loop()
        begun = work.begun
        work.may_end.set()

    assert begun == 1
    assert [each.result() for each in first] == [1, 1, 1]
    assert [each.result() for each in later] == [2, 2, 2]
    assert work.begun == 2


async def test_who_loses_patience_does_not_end_it_for_others() -> None:
    work = Work()
    async with asyncio.TaskGroup() as tasks:
        turns = Turns(tasks, work.do, "reload")
        impatient = tasks.create_task(turns.done())
        patient = tasks.create_task(turns.done())
        await turns_of_the_loop()
        impatient.cancel()
        await turns_of_the_loop()
        work.may_end.set()

    assert patient.result() == 1


def test_changes_are_told_by_key_and_lists_by_their_section() -> None:
    before = settings_of()
    after = settings_of(
        mqtt={"host": "b", "window": 5},
        serial={"port": [{"match": "ttyX", "baudrate": 9600}]},
        device=[{"id": "shed", "name": "Garden"}],
    )

    assert changed_keys(before, before) == []
    assert changed_keys(before, after) == ["mqtt.host", "mqtt.window", "serial.port", "device"]


def test_a_section_that_is_switched_off_means_no_ports_and_no_radio() -> None:
    off = settings_of(serial={"enabled": False}, ble={"enabled": False})

    assert ports_options(off).patterns == ()
    assert ble_options(off) is None
    assert ports_options(settings_of()).patterns
    assert ble_options(settings_of()) is not None


KEY = "231d39c1d7cc1ab1aee224cd096db932"


def test_settings_for_strangers_hold_no_secret(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[mqtt]\nhost = "b"\nusername = "bob"\npassword_file = "password"\n'
        f'[[ble.device]]\naddress = "A4:C1:38:12:34:56"\nbind_key = "{KEY}"\n'
        '[[ble.device]]\naddress = "A4:C1:38:12:34:57"\n'
    )
    settings = load(config)

    shown = public_settings(settings)

    assert KEY not in str(shown)
    assert "bob" not in str(shown)
    assert shown["mqtt"]["host"] == "b"
    assert [each["bind_key"] for each in shown["ble"]["device"]] == ["(not shown)", ""]
    assert secrets_of(settings, "hunter2") == [KEY, "hunter2"]


def test_a_backup_has_the_files_the_configuration_names(tmp_path: Path) -> None:
    names = ("ca", "cert", "key", "password", "keys")
    for name in names:
        (tmp_path / name).write_text("")
    config = tmp_path / "gateway.toml"
    tls = 'ca_file = "ca"\ncert_file = "cert"\n'
    more = '[ble]\njoin = "window"\nbind_keys_file = "keys"\n'

    config.write_text(f'[mqtt]\n{tls}key_file = "key"\npassword_file = "password"\n{more}')
    settings = load(config)
    assert backup_files(settings, config) == (
        {
            "gateway.toml": config,
            "joined.json": settings.joined_path,
            "bind-keys": tmp_path / "keys",
            "mqtt-ca.pem": tmp_path / "ca",
            "mqtt-cert.pem": tmp_path / "cert",
        },
        {"mqtt-key.pem": tmp_path / "key", "mqtt-password": tmp_path / "password"},
    )

    config.write_text(f"[mqtt]\n{tls}")  # the key is in the certificate's file
    files, credentials = backup_files(load(config), config)
    assert set(files) == {"gateway.toml", "mqtt-ca.pem"}
    assert credentials == {"mqtt-cert.pem": tmp_path / "cert"}

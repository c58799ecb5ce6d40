"""A backup: what is in it, what is not, and that it can be used."""

import asyncio
import hashlib
import json
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.backup import MANIFEST, BackupParts, Backups, DatabasePart
from gateway.admin.kept_files import KEPT, Kept
from gateway.clock import TimeBase
from gateway.errors import RequestError, StoreError
from gateway.links.threads import Call
from gateway.requests.admin import BackupRequest
from gateway.store import database, registry
from gateway.store.database import Database
from gateway.store.jobs import Limits
from gateway.store.rows import Moment, Row
from gateway.store.state_database import StateDatabase
from gateway.store.store import Store

ASKED = BackupRequest()


def row(n: int) -> Row:
    return Row(n, "shed", 7, n, n, 1, 99, float(n), b"body")


class Site:
    """A gateway's files, and what would back them up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "backups"
        self.config, self.password = folder / "gateway.toml", folder / "password"
        self.config.write_text("# as it is\n")
        self.password.write_text("hunter2\n")
        self.outbox, self.state = folder / "outbox.db", folder / "gateway.db"
        self.parts = BackupParts(
            files={"gateway.toml": self.config, "joined.json": folder / "none"},
            credentials={"mqtt-password": self.password},
            databases={
                "outbox.db": DatabasePart(self.outbox, partial(in_thread, self.outbox)),
            },
            about={"version": "1.2.3"},
        )

    def backups(self) -> Backups:
        return Backups(self.target, "attic", lambda: self.parts)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.target.iterdir())


async def in_thread(path: Path, to: Path) -> None:
    await Call(partial(database.copy, path, to)).result()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def unpack(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Unpack a backup, check its digests, and return its manifest."""
    folder.mkdir()
    with tarfile.open(made["path"]) as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None
            assert entry.mode == 0o600
            (folder / entry.name).write_bytes(content.read())
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    for name, told in manifest["files"].items():
        found = (folder / name).read_bytes()
        digest = hashlib.sha256(found).hexdigest()
        assert (len(found), digest) == (told["bytes"], told["sha256"])
    return manifest


async def test_a_backup_has_what_a_gateway_needs_and_tells_what_it_has_not(
    site: Site, tmp_path: Path
) -> None:
    with Database(site.outbox) as outbox:
        outbox.write([row(1), row(2)], (), {})  # still in the WAL, and the file in use
        made: dict[str, Any] = await site.backups().make(ASKED)

    manifest = unpack(made, tmp_path / "new")
    (path,) = site.target.iterdir()
    assert made["path"] == str(path)
    assert path.name.startswith("edge-gateway-attic-")
    assert mode_of(path) == 0o600
    content = path.read_bytes()
    assert (made["bytes"], made["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert made["files"] == list(manifest["files"]) == ["gateway.toml", "outbox.db"]
    assert made["left_out"] == {
        "joined.json": "there is none",
        "mqtt-password": "a credential, which was not asked for",
    }
    assert manifest["left_out"] == made["left_out"]
    assert (manifest["version"], manifest["files"]["gateway.toml"]["path"]) == (
        "1.2.3",
        str(site.config),
    )
    assert b"hunter2" not in b"".join(each.read_bytes() for each in (tmp_path / "new").iterdir())
    assert site.left() == [path.name]
    with Database(tmp_path / "new" / "outbox.db") as restored:
        assert restored.check()
        assert list(restored.rows()) == [row(1), row(2)]


async def test_credentials_are_in_it_if_they_are_asked_for(site: Site, tmp_path: Path) -> None:
    made: dict[str, Any] = await site.backups().make(BackupRequest(credentials=True))

    unpack(made, tmp_path / "new")
    assert (tmp_path / "new" / "mqtt-password").read_text() == "hunter2\n"


async def test_the_state_database_can_be_used_where_it_is_unpacked(
    site: Site, tmp_path: Path
) -> None:
    state = StateDatabase(site.state)
    state.write([registry.put_devices({"shed": lambda: {"level": "garden"}})])

    async def copy(to: Path) -> None:
        await Call(partial(state.copy_to, to)).result()

    site.parts = BackupParts(databases={"gateway.db": DatabasePart(site.state, copy)})
    made: dict[str, Any] = await site.backups().make(ASKED)
    state.close()
    unpack(made, tmp_path / "new")

    restored = StateDatabase(tmp_path / "new" / "gateway.db")
    assert registry.load(restored.select).devices == {"shed": {"level": "garden"}}
    restored.close()


async def test_no_commit_waits_for_the_copy_and_the_copy_is_of_one_moment(
    site: Site, tmp_path: Path
) -> None:
    with Database(site.outbox) as outbox:
        outbox.write([row(n) for n in range(1, 5001)], (), {})
        copying = Call(partial(database.copy, site.outbox, tmp_path / "copy.db"))
        written = 5000
        while not copying.outcome.done():
            written += 1
            outbox.write([row(written)], [written - 5000], {})
            await asyncio.sleep(0)
        await copying.result()

    with Database(tmp_path / "copy.db") as copied:
        numbers = [each.n for each in copied.rows()]
    assert numbers == list(range(numbers[0], numbers[0] + 5000))
    assert written > 5000


async def test_a_database_that_cannot_be_copied_is_told_and_the_rest_is_there(
    site: Site, tmp_path: Path
) -> None:
    async def broken(_to: Path) -> None:
        raise StoreError("gateway.db is not open")

    databases = {**site.parts.databases, "gateway.db": DatabasePart(site.state, broken)}
    site.parts = BackupParts(files=site.parts.files, databases=databases)
    made: dict[str, Any] = await site.backups().make(ASKED)

    assert list(unpack(made, tmp_path / "new")["files"]) == ["gateway.toml"]
    assert made["left_out"]["gateway.db"] == "gateway.db is not open"
    assert "No such file" in made["left_out"]["outbox.db"]


async def test_the_newest_five_are_kept_and_nothing_unfinished(site: Site) -> None:
    backups = site.backups()
    (site.target / ".unfinished-1").mkdir(parents=True)
    (site.target / ".unfinished-1" / "draft").write_bytes(b"half")
    (site.target / "mine.tar.gz").write_bytes(b"")

    names = [Path(str((await backups.make(ASKED))["path"])).name for _ in range(KEPT + 2)]

    assert site.left() == sorted([*names[2:], "mine.tar.gz"])


async def test_two_at_a_time_are_one_too_many(site: Site) -> None:
    backups = site.backups()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(backups.make(ASKED))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="busy"):
            await backups.make(ASKED)
    assert first.result()["files"] == ["gateway.toml"]

    assert (await backups.make(ASKED))["files"] == ["gateway.toml"]


async def test_a_folder_that_cannot_be_used_is_told(site: Site) -> None:
    site.target.write_bytes(b"a file")

    with pytest.raises(RequestError, match="backups: File exists"):
        await site.backups().make(ASKED)


async def test_a_disk_that_is_nearly_full_is_left_to_the_gateway(site: Site) -> None:
    backups = Backups(site.target, "attic", lambda: site.parts, reserve_bytes=1 << 60)

    with pytest.raises(RequestError, match="MB are free, and a backup may take"):
        await backups.make(ASKED)

    assert site.left() == []


async def test_a_gateway_begins_anew_with_what_is_in_the_outbox_of_a_backup(
    site: Site, tmp_path: Path
) -> None:
    with Database(site.outbox) as outbox:
        outbox.write([row(1), row(2)], (), {})
        made: dict[str, Any] = await site.backups().make(ASKED)
    unpack(made, tmp_path / "new")

    store = Store(tmp_path / "new" / "outbox.db", Limits())
    assert store.open_ledger() == []
    opened = store.open(Moment(99, TimeBase(0.0, "synced"), 10.0))
    store.close()

    assert [(stock.device, stock.records) for stock in opened.stock] == [("shed", 2)]


def test_the_place_of_a_file_is_told_to_those_elsewhere() -> None:
    told = Kept(Path("backups/one.tar.gz"), 1, "").document()

    assert told["path"] == str(Path.cwd() / "backups" / "one.tar.gz")

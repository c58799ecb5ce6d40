"""Files are whole or not there, and who writes any does it this one way."""

import ast
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import files
from tests.support.file_size import no_file_may_grow_beyond

GATEWAY = Path(__file__).parents[2] / "gateway"

OTHERWISE = {
    "files.py": "this is the one way",
    "install/execute.py": "an environment is on the disk as a whole before it has its name",
    "admin/backup.py": "an archive, into a file of the one way",
    "cli/commands.py": "opens /dev/null",
    "cli/sniff.py": "a capture that is cut off is worth as much as it has",
    "flash/volume.py": "a drive that is a board's boot loader: it flashes each block as it comes",
    "links/posix_serial.py": "opens ports",
    "simulate/*": "stands for boards, wires and broken disks, never for the gateway",
    "simulate/*/*": "the same",
    "store/ledger.py": "written in place; why a cut does it no harm is in the store's README",
    "store/recovery.py": "renames databases in steps that a start completes, and syncs each",
    "store/state_database.py": "renames a damaged database with its WAL, and syncs the folder",
    "store/versions.py": "a second name, so that there is a database at every moment",
    "store/store.py": "the lock, which holds nothing",
}
"""Who may open files to write, or rename them, and why."""

METHODS = {"write_text", "write_bytes", "touch", "symlink_to", "hardlink_to"}
FUNCTIONS = {
    *("fdopen", "mkstemp", "NamedTemporaryFile", "rename", "replace", "renames", "link"),
    *("symlink", "truncate", "ftruncate", "pwrite", "copy", "copy2", "copyfile", "copytree"),
    *("move",),
}
"""Of `os`, `shutil` and `tempfile`."""
FOR_WRITING = set("wax+")
FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT"}


def writes(source: str) -> Iterator[int]:
    """Yield the lines in which a file is opened to write, or renamed."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in FLAGS:
            yield node.lineno
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        modes = [
            each.value
            for each in (*node.args, *(word.value for word in node.keywords))
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        opens = any(set(mode) & FOR_WRITING and set(mode) <= set("rwaxbt+") for mode in modes)
        if (
            name in METHODS
            or (name in FUNCTIONS and module_of(node) in {"os", "shutil", "tempfile"})
            or (name == "open" and opens)
            or (name in {"replace", "rename"} and is_of_a_path(node))
        ):
            yield node.lineno


def module_of(node: ast.Call) -> str:
    """Return whose function it is, if that is a name."""
    return str(getattr(getattr(node.func, "value", None), "id", ""))


def is_of_a_path(node: ast.Call) -> bool:
    """`path.replace(to)`, not that of texts, times or dataclasses, nor what we rename ourselves."""
    return isinstance(node.func, ast.Attribute) and len(node.args) == 1 and not node.keywords


def test_who_writes_files_does_it_in_the_one_way() -> None:
    found = {
        str(path.relative_to(GATEWAY)): lines
        for path in sorted(GATEWAY.rglob("*.py"))
        if (lines := list(writes(path.read_text(encoding="utf-8"))))
    }

    otherwise = {
        path: lines
        for path, lines in found.items()
        if not any(Path(path).match(each) for each in OTHERWISE)
    }

    assert otherwise == {}, "use gateway.files, or say in OTHERWISE why not"
    assert {"files.py", "store/ledger.py", "cli/sniff.py"} <= set(found), "the search finds nothing"


def test_a_file_is_replaced_with_the_rights_that_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    umask = os.umask(0o077)
    try:
        files.write_atomically(path, b"old")
        private = stat.S_IMODE(path.stat().st_mode)
        files.write_atomically(path, b"new", 0o644)
    finally:
        os.umask(umask)

    assert private == 0o600
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"old")

    with no_file_may_grow_beyond(100), pytest.raises(OSError, match="too large"):
        files.write_atomically(path, bytes(101))

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def stumble_over(path: Path) -> None:
    with files.drafted(path) as file:
        file.write(b"half of it")
        raise ZeroDivisionError


def test_a_writer_that_stumbles_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"old")

    with pytest.raises(ZeroDivisionError):
        stumble_over(path)

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"first", is_new=True)

    with pytest.raises(FileExistsError):
        files.write_atomically(path, b"second", is_new=True)

    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_goes_and_that_of_a_running_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    (tmp_path / f".file.{gone.pid}-01020304.draft").write_bytes(b"left")
    (tmp_path / ".file.1-01020304.draft").write_bytes(b"being written")
    (tmp_path / f".another.{gone.pid}-01020304.draft").write_bytes(b"not ours")

    files.write_atomically(path, b"new")

    left = {f".another.{gone.pid}-01020304.draft", ".file.1-01020304.draft", "file"}
    assert set(os.listdir(tmp_path)) == left


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / "file").symlink_to("elsewhere")

    files.write_atomically(tmp_path / "file", b"new")

    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("before", "after"), [(0o644, 0o600), (0o666, 0o600), (0o640, 0o640), (0o600, 0o600)]
)
def test_strangers_are_kept_from_a_file_that_is_written_in_place(
    tmp_path: Path, before: int, after: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(before)

    files.make_private(path)

    assert stat.S_IMODE(path.stat().st_mode) == after
    assert path.read_bytes() == b"content"


def test_a_private_file_is_made_where_there_is_none(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        files.make_private(tmp_path / "file")
        files.make_private(tmp_path / "none", is_made=False)
    finally:
        os.umask(umask)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")

    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_a_file_system_that_cannot_sync_is_no_error() -> None:
    """squashfs, with a configuration on it, is as /proc here; source: fsync(2), EINVAL."""
    path = Path("/proc/version")
    with path.open("rb") as file, pytest.raises(OSError, match="Invalid argument"):
        os.fsync(file.fileno())

    files.sync_file(path)


def test_a_renamed_file_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")

    files.rename(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "b").read_bytes() == b"a"
    assert os.listdir(tmp_path) == ["b"]

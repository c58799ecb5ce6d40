"""A doctor at work on a staged situation."""

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.doctor.case import Case
from gateway.doctor.finding import Finding, Severity, Tell


async def findings(look: Callable[[Case, Tell], Awaitable[None]], case: Case) -> list[Finding]:
    """Return what one room tells of a case."""
    told: list[Finding] = []
    await look(case, told.append)
    return told


def found(look: Callable[[Case, Tell], None], case: Case) -> list[Finding]:
    """Return what a room that only reads files tells of a case."""
    told: list[Finding] = []
    look(case, told.append)
    return told


def the_only(severity: Severity, told: Iterable[Finding]) -> Finding:
    """Return the one finding that is not ok, which must have this severity."""
    all_told = list(told)
    accused = [each for each in all_told if each.severity is not Severity.OK]
    assert [each.severity for each in accused] == [severity], all_told
    return accused[0]


def no_complaint(told: Iterable[Finding]) -> None:
    """Make sure that nothing is accused, and something said."""
    all_told = list(told)
    assert all_told
    assert all(each.severity is Severity.OK for each in all_told), all_told
    assert not any(each.mend for each in all_told), all_told


def process(  # noqa: PLR0913 - what /proc has of a process
    proc: Path,
    pid: int,
    program: str,
    *words: str,
    holds: str = "",
    io: str = "",
    limits: str = "",
) -> None:
    """Have a process in a /proc of a test; `holds` is a device that it has open."""
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{program}\n")
    (folder / "cmdline").write_bytes(b"".join(f"{word}\0".encode() for word in words))
    if holds:
        (folder / "fd" / "3").symlink_to(holds)
    if io:
        (folder / "io").write_text(io)
    if limits:
        (folder / "limits").write_text(limits)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's right to open everything, where the tests have it."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)

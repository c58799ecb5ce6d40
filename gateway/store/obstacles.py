"""What is in the way of the outbox's files, in words for people: SQLite says "disk I/O error"."""

import os
from pathlib import Path

_MEND = "move it away, or set another path in [outbox]"
_PERMIT = "give it to that user, or set another path in [outbox]"


def obstacle(path: Path, ledger: Path) -> str:
    """Return why there can be no outbox at `path`, as far as that shows; empty if nothing does."""
    for folder in path.parents:
        if folder.exists():
            if not folder.is_dir():
                return (
                    f"{folder} is a file, where the outbox needs a folder for {path.name}: {_MEND}"
                )
            if not os.access(folder, os.W_OK | os.X_OK):
                return f"{folder} may not be written by {_us()}, and the outbox must: {_PERMIT}"
            break
    files = [path, ledger, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", ".lock"))]
    for file in files:
        if file.is_dir():
            return f"{file} is a folder, where the outbox needs a file: {_MEND}"
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            return f"{file} may not be read and written by {_us()}: {_PERMIT}"
    return ""


def _us() -> str:
    return f"the user {os.geteuid()} the gateway runs as"

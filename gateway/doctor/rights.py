"""What somebody may do with a file, whoever asks."""

import os
from pathlib import Path

from gateway.doctor.case import Who


def may(path: Path | str, who: Who | None, mode: int) -> bool:
    """Tell whether `who` has the rights of `mode` (os.R_OK and so on); None: whether we have.

    Raises:
        OSError: the file is not there, or we may not look.
    """
    if who is None:
        return os.access(path, mode, effective_ids=True)
    found = Path(path).stat()
    if who.user == 0:
        return True
    shift = 6 if who.user == found.st_uid else 3 if found.st_gid in who.groups else 0
    return found.st_mode >> shift & mode == mode

"""One run a folder: a lock that names its owner and dies with it."""

import fcntl
import os
import socket
from pathlib import Path
from typing import TextIO

from latticebench.errors import BadInput


def hold(path: str | Path, what: str) -> TextIO:
    """Takes the lock file `path` for as long as the returned file stays open (at most the process's life).

    The kernel drops the lock when its process ends, however it ends, so there is no stale lock to
    remove. Raises BadInput naming the owner when another process holds it; `what` names the folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+")  # noqa: SIM115 (the caller keeps it open: that is the lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise BadInput(
            f"{what} is in use by {owner} (lock {path}); wait for it, stop it, or use another `name:`"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file

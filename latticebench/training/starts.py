"""How often a training was started: a line each, written beside its running checkpoints and kept after its end."""

import os
from datetime import UTC, datetime
from pathlib import Path

from latticebench import locks


def note(path: Path, processes: int) -> None:
    """Adds a line to `path`: when, which process on which machine, how many in all, in which cluster job."""
    job = os.environ.get("SLURM_JOB_ID")
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {locks.me()}, of {processes}{f', SLURM job {job}' if job else ''}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(line)


def read(path: Path) -> list[str]:
    """The lines so far, oldest first."""
    return path.read_text().splitlines() if path.is_file() else []

"""What a run is going to make: written by the workflow when it starts, read by `latticebench status`."""

import dataclasses
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from latticebench.errors import BadInput, Missing
from latticebench.files import UNREADABLE, write_json

FILE = "jobs.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """output: the file that says that it is done. log: None for a job without one. Both below the results folder."""

    rule: str
    name: str
    output: str
    log: str | None


@dataclasses.dataclass(frozen=True)
class JobList:
    """began: when the run was started, in seconds since the epoch. jobs: all of them, done or not."""

    began: float
    jobs: list[Job]


def write(root: Path, jobs: Iterable[Job]) -> None:
    """Writes the list of a run that starts now. Paths are taken relative to the results folder `root`."""
    entries = [
        {
            "rule": job.rule,
            "name": job.name,
            "output": os.path.relpath(job.output, root),
            "log": None if job.log is None else os.path.relpath(job.log, root),
        }
        for job in jobs
    ]
    write_json(root / FILE, {"began": time.time(), "jobs": entries})


def read(root: Path) -> JobList:
    """The list of the newest run. Raises Missing where none was started, BadInput on a damaged list."""
    try:
        values = json.loads((root / FILE).read_text())
        return JobList(float(values["began"]), [Job(**job) for job in values["jobs"]])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Missing(
            f"{root} holds no {FILE}: no workflow was started there; `make run CONFIG=…` does, on a cluster see"
            " docs/clusters.md"
        ) from error
    except UNREADABLE as error:
        raise BadInput(f"{root / FILE} is damaged ({error}); the next `make run` writes it again") from error

"""Prepared images on a disk of the node: one copy a node, read by all trainings there instead of the shared disk."""

import fcntl
import logging
import os
import shutil
from pathlib import Path

from latticebench.errors import BadInput

log = logging.getLogger(__name__)

_WAIT = 2.0


def local(folder: Path, scratch: str | None) -> Path:
    """The folder to read prepared data from: `folder`, or its copy below `scratch` (environment variables filled in).

    The first process on a node copies and the others wait for it. A copy is used again while its sizes and times are
    the original's. Raises BadInput where `scratch` names a variable that is not set, or no room is left.
    """
    if scratch is None:
        return folder
    path = os.path.expandvars(scratch)
    if "$" in path:
        raise BadInput(f"jobs.scratch: {scratch} holds a variable that is not set where this job runs")
    copy = Path(path) / "latticebench" / folder.parent.parent.name / folder.name
    copy.mkdir(parents=True, exist_ok=True)
    with open(copy / ".lock", "w") as lock:  # a disk of this machine: the kernel's lock is all it takes
        fcntl.flock(lock, fcntl.LOCK_EX)
        for source in sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")):
            _copy(source, copy / source.name)
    return copy


def _copy(source: Path, target: Path) -> None:
    there, here = source.stat(), target.stat() if target.is_file() else None
    if here is not None and (here.st_size, int(here.st_mtime)) == (there.st_size, int(there.st_mtime)):
        return
    free = shutil.disk_usage(target.parent).free
    if free < there.st_size:
        raise BadInput(f"jobs.scratch: {target.parent} has {free >> 20} MB left, {source} needs {there.st_size >> 20}")
    log.info("copying %s to %s", source, target.parent)
    part = target.with_name(f".{target.name}.part")
    shutil.copy2(source, part)
    part.replace(target)

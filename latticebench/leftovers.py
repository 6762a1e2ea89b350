"""Half-written files that killed jobs left behind."""

import re
import shutil
import time
from pathlib import Path

SECONDS = 86400.0
"""Since the last write. A job that still lives, perhaps on another machine, is not this slow."""

# What tempfile makes of the prefix and suffix that latticebench/files.py and the report give it.
_NAME = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}(?P<suffix>\.[^.]+)?")


def remove(root: Path, seconds: float = SECONDS) -> tuple[int, int]:
    """Removes temporary files and folders below `root` last written over `seconds` ago; returns how many, their bytes.

    Folders are removed whole and counted once. For the owner of the folder's lock.
    """
    before = time.time() - seconds
    number = size = 0
    for path in [path for path in root.rglob(".*") if _is_temporary(path.name)]:
        try:
            folder = path.is_dir() and not path.is_symlink()
            inside = [path, *path.rglob("*")] if folder else [path]
            stats = [each.lstat() for each in inside]
            if max(stat.st_mtime for stat in stats) > before:
                continue
            if folder:
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:  # inside a folder that is gone by now
            continue
        number += 1
        size += sum(stat.st_size for stat in stats)
    return number, size


def _is_temporary(name: str) -> bool:
    """Whether `name` is .NAME.xxxxxxxx with NAME's own suffix at the end."""
    found = _NAME.fullmatch(name)
    return found is not None and Path(found["name"]).suffix == (found["suffix"] or "")

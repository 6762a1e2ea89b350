"""Files of the registry that are on this machine, checked: networks that losses and metrics are made of."""

import dataclasses
import functools
from pathlib import Path

from latticebench.errors import BadInput, Missing
from latticebench.files import sha256
from latticebench.weights import registry


@dataclasses.dataclass(frozen=True)
class File:
    """A file that was found and whose checksum is right. path: where. sha256: of its content."""

    path: Path
    sha256: str


def find(name: str, given: str | Path | None = None) -> File:
    """The file of a registry entry: `given` where that is said, else the one in checkpoints/.

    Raises Missing with the command that would fetch it, and BadInput where the checksum is wrong: a loss or a
    metric from other weights is another one.
    """
    known = _registry(registry.default_folder())
    entry = known.entry(name)
    path = Path(given) if given else known.folder / entry.basename
    if not path.is_file():
        raise Missing(f"{shown(path)} is missing; fetch it: latticebench fetch {entry.name}")
    found = _hashed(path, path.stat().st_mtime_ns, path.stat().st_size)
    pin = known.pin(entry.name)
    expected = pin["sha256"] if pin else entry.sha256_prefix
    if expected and not found.startswith(expected):
        raise BadInput(
            f"{path}: sha256 begins with {found[: len(expected)]}, that of {entry.name} with {expected}; "
            f"delete the file and fetch it: latticebench fetch {entry.name}"
        )
    return File(path, found)


def shown(path: Path) -> str:
    """A path as a record may say it: relative to the working folder or the project, else the name alone."""
    for base in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if path.resolve().is_relative_to(base):
            return path.resolve().relative_to(base).as_posix()
    return path.name


@functools.lru_cache
def _registry(folder: Path) -> registry.Registry:
    """The registry, validated once a process and not for every chunk of images."""
    return registry.load(folder)


@functools.lru_cache
def _hashed(path: Path, modified: int, size: int) -> str:
    """The hash of a file of this time and size: hashing half a gigabyte for every chunk of images takes longer."""
    return sha256(path)

"""The judge's networks and reference sets that are not committed: where their files are, and how they are checked.

What a file is called, where it is published and what its checksum is stands in checkpoints/registry.yaml.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

from latticebench.errors import BadInput, Missing
from latticebench.files import sha256
from latticebench.weights import registry

ENTRIES = {
    "inception": "inception-torch-fidelity",
    "lpips-alex": "lpips-alex-trunk",
    "lpips-vgg": "lpips-vgg-trunk",
    "dinov2": "dinov2-vitl14",
    "adm-reference": "adm-imagenet256-reference",
}
"""What the judge calls a file -> its entry in the registry."""


@dataclasses.dataclass(frozen=True)
class File:
    """A file that was found and whose checksum is right. path: where. sha256: of its content."""

    path: Path
    sha256: str


def find(name: str, paths: Mapping[str, str | None] | None = None) -> File:
    """The file `name` of ENTRIES: at `paths[name]` where that is given, else in checkpoints/.

    Raises Missing with the command that would fetch it, and BadInput where the checksum is wrong: a metric
    from other weights is another metric.
    """
    known = _registry(registry.default_folder())
    entry = known.entry(ENTRIES[name])
    given = (paths or {}).get(name)
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


def available(name: str, paths: Mapping[str, str | None] | None = None) -> bool:
    """Whether `find` would find the file."""
    try:
        find(name, paths)
    except Missing:
        return False
    return True


def shown(path: Path) -> str:
    """A path as a record may say it: relative to the working folder or the project, else the name alone."""
    for base in (Path.cwd(), Path(__file__).resolve().parents[1]):
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

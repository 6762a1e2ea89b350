"""The judge's networks that are not committed: where their weights are looked for, and how they are checked."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from latticebench.errors import BadInput, Missing
from latticebench.files import sha256

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"


@dataclasses.dataclass(frozen=True)
class Source:
    """A weights file: its published name, the first hex digits of its sha256, and where it is published."""

    file: str
    sha256: str
    url: str


SOURCES: dict[str, Source] = {
    "inception": Source(
        "weights-inception-2015-12-05-6726825d.pth",
        "6726825d",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ),
    "lpips-alex": Source(
        "alexnet-owt-7be5be79.pth", "7be5be79", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    ),
    "lpips-vgg": Source("vgg16-397923af.pth", "397923af", "https://download.pytorch.org/models/vgg16-397923af.pth"),
}


@dataclasses.dataclass(frozen=True)
class File:
    """A weights file that was found and whose checksum is right."""

    path: Path
    sha256: str


def find(name: str, paths: Mapping[str, str | None] | None = None) -> File:
    """The weights `name` of SOURCES: at `paths[name]` where that is given, else in checkpoints/.

    Raises Missing with the command that would fetch them, and BadInput where the checksum is wrong: a metric
    from other weights is another metric.
    """
    source = SOURCES[name]
    given = (paths or {}).get(name)
    path = Path(given) if given else CHECKPOINTS / source.file
    shown = given or f"checkpoints/{source.file}"
    if not path.is_file():
        raise Missing(f"{shown} is missing; fetch it: curl -L --create-dirs -o {shown} {source.url}")
    found = sha256(path)
    if not found.startswith(source.sha256):
        raise BadInput(f"{shown}: sha256 begins with {found[:8]}, the published {name} weights' with {source.sha256}")
    return File(path, found)

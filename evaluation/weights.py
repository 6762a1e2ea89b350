"""The judge's networks and reference sets that are not committed: where their files are, and how they are checked.

What a file is called, where it is published and what its checksum is stands in checkpoints/registry.yaml.
"""

from collections.abc import Mapping

from latticebench.errors import Missing
from latticebench.weights import local
from latticebench.weights.local import File

ENTRIES = {
    "inception": "inception-torch-fidelity",
    "lpips-alex": "lpips-alex-trunk",
    "lpips-vgg": "lpips-vgg-trunk",
    "dinov2": "dinov2-vitl14",
    "adm-reference": "adm-imagenet256-reference",
}
"""What the judge calls a file -> its entry in the registry."""


def find(name: str, paths: Mapping[str, str | None] | None = None) -> File:
    """The file `name` of ENTRIES: at `paths[name]` where that is given, else in checkpoints/.

    Raises Missing with the command that would fetch it, and BadInput where the checksum is wrong.
    """
    return local.find(ENTRIES[name], (paths or {}).get(name))


def available(name: str, paths: Mapping[str, str | None] | None = None) -> bool:
    """Whether `find` would find the file."""
    try:
        find(name, paths)
    except Missing:
        return False
    return True

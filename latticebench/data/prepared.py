"""Reads prepared data."""

import dataclasses
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from latticebench.data.decoded import Decoded
from latticebench.errors import BadInput, Missing
from latticebench.files import UNREADABLE, sealed, sha256, unpacked_bytes

FORMAT = 1
_ITEMS_BYTES, _BYTES_PER_ITEM = 2**20, 2**14
"""Most that labels, groups, names and hashes of images may unpack to."""
VERIFIED_BYTES = 2**30
"""Arrays up to this size are compared with their hash whenever they are opened; larger ones when a run starts."""


@dataclasses.dataclass(frozen=True)
class Split:
    """One split, in its stored order.

    images: (N, H, W, 3) uint8, memory-mapped, or decoded from their files when asked for. labels: (N,) int64, or None.
    groups: (N,) int64 scene ids, the image's own index where scenes are unknown. sha256 covers pixels (or files),
    order, names, labels and preparation.
    """

    name: str
    images: np.ndarray | Decoded
    labels: np.ndarray | None
    groups: np.ndarray
    sha256: str
    items_path: Path

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def names(self) -> list[str]:
        """The images' names: relative paths, `file:row`, or scene and place."""
        with np.load(self.items_path, allow_pickle=False) as items:
            return items["names"].tolist()

    def verify(self, content: dict[str, Any]) -> None:
        """Reads all pixels and compares their hash with the manifest's. Raises BadInput on a difference."""
        if isinstance(self.images, Decoded):
            for index in range(len(self)):
                self.images.decode(index)
            return
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(image.tobytes())
        if digest.hexdigest() != content["pixels"]:
            raise BadInput(
                f"{self.items_path.parent}: the pixels of {self.name} differ from the manifest; prepare again"
            )


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Both splits and the manifest."""

    path: Path
    train: Split
    eval: Split
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The source's name."""
        return self.manifest["name"]


def load(path: str | Path) -> Prepared:
    """Opens a prepared folder. Raises Missing where it is unfinished and BadInput where files and manifest disagree."""
    path = Path(path)
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
    except FileNotFoundError as error:
        raise Missing(
            f"{path} holds no manifest.json; make it with `python -m latticebench.data.prepare --config C --out {path}`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path / 'manifest.json'} is damaged; delete the folder and prepare again") from error
    stated = manifest.get("format") if isinstance(manifest, dict) else None
    if stated != FORMAT:
        raise BadInput(f"{path}: manifest of format {stated}, this version reads {FORMAT}; prepare again")
    if not sealed(manifest):
        raise BadInput(
            f"{path / 'manifest.json'} has changed since it was written; delete the folder and prepare again"
        )
    try:
        return Prepared(path, _split(path, "train", manifest), _split(path, "eval", manifest), manifest)
    except FileNotFoundError as error:
        raise Missing(f"{error.filename} is missing; delete {path} and prepare again") from error
    except MemoryError as error:
        raise BadInput(
            f"{path} cannot be read: out of memory ({error}); free some and run again, or, where there is plenty, "
            "delete the folder and prepare again"
        ) from error
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read ({error}); delete the folder and prepare again") from error


def _split(path: Path, name: str, manifest: dict[str, Any]) -> Split:
    part = manifest["splits"][name]
    file, items_path = path / f"{name}.npy", path / f"{name}.items.npz"
    files = part.get("storage") == "manifest"
    _verify(path, part["files"])
    if unpacked_bytes(items_path) > _ITEMS_BYTES + _BYTES_PER_ITEM * part["images"]:
        raise BadInput(f"{items_path} would unpack to more than {part['images']} images need; prepare again")
    with np.load(items_path, allow_pickle=False) as items:
        labels, groups = items["labels"], items["groups"]
        images = (
            Decoded(Path(part["root"]), items["names"].tolist(), items["digests"], part["content"]["preparation"])
            if files
            else np.load(file, mmap_mode="r" if part["images"] else None, allow_pickle=False)
        )
    if list(images.shape) != part["content"]["shape"] or len(groups) != len(images):
        raise BadInput(f"{file}: shape {images.shape} differs from the manifest; delete the folder and prepare again")
    return Split(name, images, labels if manifest["classes"] else None, groups, part["sha256"], items_path)


def _verify(path: Path, files: dict[str, str]) -> None:
    """Raises BadInput where a file is not the one that was prepared, FileNotFoundError where it is gone."""
    for name, digest in files.items():
        changed = (path / name).stat().st_size <= VERIFIED_BYTES and sha256(path / name) != digest
        if changed:
            raise BadInput(
                f"{path / name} has changed since it was prepared; run again, or delete the folder and prepare again"
            )
